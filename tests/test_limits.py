"""`--timeout` and `--max-memory`: what hangs, crashes or fills the memory in a child is one line in the parent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hostile_models import chain, initializers
from onnx_aiwq.cli import isolation
from onnx_aiwq.cli.isolation import Limits, run_isolated
from onnx_aiwq.errors import ModelError, PolicyError
from processes import aiwq as forked
from processes import run

LIGHT = Path(__import__("onnx").__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are those of POSIX")


def aiwq(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from onnx_aiwq.cli import main; main()", *arguments]
    return run(command)


def test_within_the_limits_the_answer_is_the_same() -> None:
    plain = aiwq("analyze", str(LIGHT), "--format", "json")
    bounded = aiwq("analyze", str(LIGHT), "--format", "json", "--timeout", "300", "--max-memory", "4GiB")
    assert bounded.returncode == plain.returncode == 0
    assert json.loads(bounded.stdout) == json.loads(plain.stdout)
    assert [line for line in bounded.stderr.splitlines() if not line.endswith("...")] == [
        line for line in plain.stderr.splitlines() if not line.endswith("...")
    ]


def test_every_command_that_reads_models_takes_them(tmp_path: Path) -> None:
    cycle = tmp_path / "life.toml"
    example = aiwq("lifecycle", "--example").stdout
    cycle.write_text(example)
    for command in (["advise", str(LIGHT)], ["lifecycle", str(cycle)]):
        plain = aiwq(*command, "--format", "json")
        bounded = aiwq(*command, "--format", "json", "--timeout", "300", "--max-memory", "4GiB")
        assert (plain.returncode, bounded.stdout) == (0, plain.stdout)
        late = aiwq(*command, "--timeout", "0.01")
        assert (late.returncode, late.stdout) == (2, "")
        assert command[1] in late.stderr and "--timeout 0.01 s" in late.stderr


def test_no_allocation_passes_the_limit() -> None:
    program = (
        "from onnx_aiwq.process_limits import limit_memory\n"
        "assert limit_memory(300_000_000)\n"
        "held = bytearray(100_000_000)\n"
        "try: bytearray(400_000_000)\n"
        "except MemoryError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "refused\n", done.stderr


def test_exit_codes_pass_through(tmp_path: Path) -> None:
    assert aiwq("gate", str(LIGHT), "--budget", "macs=1", "--timeout", "300").returncode == 1
    absent = aiwq("analyze", str(tmp_path / "absent.onnx"), "--timeout", "300")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert absent.stderr.count("\n") == 1 and "no such file" in absent.stderr


def test_time_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "long.onnx"
    path.write_bytes(chain(30_000))
    started = time.monotonic()
    done = aiwq("analyze", str(path), "--timeout", "1", "--output", str(tmp_path / "report.json"))
    assert time.monotonic() - started < 60
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert str(path) in last and "--timeout 1 s" in last and "more time" in last
    assert [each.name for each in tmp_path.iterdir()] == ["long.onnx"]


@pytest.mark.slow
def test_memory_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(initializers(600_000))
    done = aiwq("analyze", str(path), "--max-memory", "512MiB")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert str(path) in last and "--max-memory 512MiB" in last and "Traceback" not in done.stderr


DEATHS = {
    "import os; os.kill(os.getpid(), 11)": "SIGSEGV",
    "import os; os.abort()": "SIGABRT",
    "import os; os.kill(os.getpid(), 9)": "SIGKILL",
    "import os; os._exit(139)": "code 139",
}


@pytest.mark.parametrize("starter", DEATHS)
def test_a_crash_is_one_error(monkeypatch: pytest.MonkeyPatch, starter: str) -> None:
    monkeypatch.setattr(isolation, "_STARTER", starter)
    with pytest.raises(ModelError) as caught:
        run_isolated([], Limits(60.0, 2 << 30, "2GiB"), "m.onnx")
    text = str(caught.value)
    assert text.startswith("m.onnx: ") and DEATHS[starter] in text and "--max-memory 2GiB" in text


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits what a process allocates")
def test_a_child_that_turns_around_at_its_limit_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPython does where it cannot even make the integer that it enters an exception handler with."""
    turning = (
        "import sys; from onnx_aiwq.process_limits import limit_memory; limit_memory(int(sys.argv[2])); held = []\n"
        "for size in (1 << 20, 1 << 14, 1 << 8):\n"
        "    try:\n"
        "        while True: held.append(bytearray(size))\n"
        "    except MemoryError: pass\n"
        "while True: pass\n"
    )
    monkeypatch.setattr(isolation, "_STARTER", turning)
    monkeypatch.setattr(isolation, "_AT_LIMIT_S", 1.0)
    with pytest.raises(ModelError, match=r"m\.onnx: needs more than --max-memory 300MB"):
        run_isolated([], Limits(60.0, 300_000_000, "300MB"), "m.onnx")


def test_a_hang_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_STARTER", "import time; time.sleep(600)")
    with pytest.raises(ModelError, match=r"m\.onnx: no answer within --timeout 0\.5 s"):
        run_isolated([], Limits(0.5), "m.onnx")


def test_what_a_dying_library_prints_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = r"import sys, os; sys.stderr.write('\x1b[2J\x07bad\u202e\n' * 100); sys.stderr.flush(); os.abort()"
    monkeypatch.setattr(isolation, "_STARTER", noise)
    with pytest.raises(ModelError):
        run_isolated([], Limits(60.0), "m.onnx")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 20 and all(line.isprintable() and "bad" in line for line in lines)


@pytest.mark.parametrize(
    "option",
    [
        "--timeout=0",
        "--timeout=-1",
        "--timeout=nan",
        "--timeout=inf",
        "--max-memory=5",
        "--max-memory=1GB2",
        "--max-memory=1kB",
        "--max-memory=-2GiB",
        "--max-memory=",
    ],
)
def test_limits_that_are_none(option: str, tmp_path: Path) -> None:
    done = forked(tmp_path, {}, "analyze", str(LIGHT), option)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and option.partition("=")[0] in done.stderr


def test_a_limit_of_memory_needs_a_system_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(PolicyError, match="--max-memory"):
        run_isolated([], Limits(1.0, 2 << 30, "2GiB"), "m.onnx")
