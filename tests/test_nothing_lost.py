"""Whatever happens while a file is written, readers find the old file or the new one; nothing piles up beside it."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnx_aiwq import files
from onnx_aiwq.cli.streams import write
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.files import write_whole

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MODELS = [str(LIGHT / f"light_{name}.onnx") for name in ("squeezenet", "shufflenet", "resnet50")]
_LETTERS, _SIZE = "abcdefgh", 3_000_000
# A shell that starts the tests in the background has them, and all that they start, ignore SIGINT.
_LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
_WRITER = f"""{_LISTEN}
import sys, itertools, pathlib
from onnx_aiwq.files import write_whole
path = pathlib.Path(sys.argv[1])
for letter in itertools.cycle({_LETTERS!r}):
    write_whole(path, letter * {_SIZE})
    print(letter, flush=True)
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")


@posix
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_it_writes(tmp_path: Path, how: signal.Signals) -> None:
    path, source = tmp_path / "out.json", random.Random(1)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(source.random() * 0.05)
        process.send_signal(how)
        process.wait(300)
        process.stdout.close()
        text = path.read_text()
        assert len(text) == _SIZE and text[0] in _LETTERS and text == text[0] * _SIZE
        assert sum(1 for _ in tmp_path.iterdir()) <= 2  # at most the unfinished one of this process
    write_whole(path, "end")
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]
    assert path.read_text() == "end"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_commands_that_are_killed_leave_whole_files(tmp_path: Path, how: signal.Signals) -> None:
    """Killed within milliseconds of the first change that they make to the folder, while they still write there."""
    kept, source = tmp_path / "kept", random.Random(2)
    kept.mkdir()
    start = [sys.executable, "-c", f"{_LISTEN}from onnx_aiwq.cli import main; main()"]
    commands = [
        [*start, "baseline", "update", *MODELS, "--baseline", str(kept)],
        [*start, "analyze", MODELS[0], "--format", "json", "--output", str(kept / "report.json")],
    ]
    # In a folder of its own, from which the models are elsewhere: a baseline lies as its model does below the project.
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "home")}
    here: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL}
    for command in commands:
        subprocess.run(command, **here, stderr=subprocess.PIPE, check=True, timeout=300)
    whole = {path.name: path.read_text() for path in kept.iterdir()}
    baselines = [f"{Path(model).name}.json" for model in MODELS]
    assert set(whole) == {*baselines, "report.json"} and all(json.loads(text) for text in whole.values())
    killed = 0
    for round_ in range(len(baselines)):
        for name in baselines[: 1 + round_]:
            (kept / name).unlink(missing_ok=True)
        for command in commands:
            before = set(kept.iterdir())
            process = subprocess.Popen(command, **here, stderr=subprocess.DEVNULL)
            while process.poll() is None and set(kept.iterdir()) == before:
                time.sleep(0.0005)
            time.sleep(source.random() * 0.02)
            process.send_signal(how)
            killed += process.wait(300) != 0
        for path in kept.glob("*.json"):
            assert path.read_text() == whole[path.name]
    assert killed > 0
    for command in commands:
        subprocess.run(command, **here, stderr=subprocess.PIPE, check=True, timeout=300)
    assert {path.name: path.read_text() for path in kept.iterdir()} == whole


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    prefix = files._prefix(path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    dead, living = (tmp_path / f"{prefix}{number}-abc.aiwq-part" for number in (ended.pid, os.getpid()))
    other = tmp_path / f".another-{ended.pid}-abc.aiwq-part"
    for each in (dead, living, other):
        each.write_text("half")
    write_whole(path, "whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(each.name for each in (path, living, other))


@pytest.mark.parametrize("step", ["fsync", "replace", "write"])
def test_a_full_disk_leaves_the_old_file_and_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (os, "fdopen")}[step]
    monkeypatch.setattr(*place, full)
    with pytest.raises(PolicyError) as caught:
        write("after", path)
    monkeypatch.undo()
    assert str(path) in str(caught.value) and "No space left on device" in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"] and path.read_text() == "before"


@posix
def test_a_file_that_may_not_grow_leaves_the_old_one(tmp_path: Path) -> None:
    """The system itself refuses the write, in the middle of the file."""
    path = tmp_path / "report.json"
    path.write_text("before")
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); from onnx_aiwq.cli import main; main()"
    )
    command = [sys.executable, "-B", "-c", program, "analyze", MODELS[0], "--format", "json", "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert str(path) in last and "File too large" in last and "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"] and path.read_text() == "before"


@posix
@pytest.mark.parametrize(
    ("place", "reason"), [("/dev/full", "No space left"), ("/proc/aiwq.json", ""), ("/sys/aiwq.json", "")]
)
def test_places_that_take_no_file(place: str, reason: str) -> None:
    if not Path(place).parent.is_dir():
        pytest.skip(f"{place} is a place of Linux")
    with pytest.raises(PolicyError) as caught:
        write("text", Path(place))
    assert place in str(caught.value) and reason in str(caught.value)


def test_the_longest_name_that_a_file_can_have(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_whole(path, "text")
    assert path.read_text() == "text"
