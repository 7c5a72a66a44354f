"""`aiwq fleet` as a process: kills and resumption, slips, the extra that may be absent."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from fleets import PROCESS_TIMEOUT_S, matmul, rows
from onnx_aiwq.fleet.store import FleetWriter
from processes import aiwq


def command(*arguments: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    code = "from onnx_aiwq.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "fleet", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=PROCESS_TIMEOUT_S,
        **options,
    )


@pytest.mark.slow
def test_the_command_writes_rows_and_resumes_after_kills(tmp_path: Path) -> None:
    for index in range(480):
        matmul(tmp_path / f"models/m{index:03d}.onnx", 2, 3, index + 1)
    (tmp_path / "models/bad.onnx").write_bytes(b"no model")
    calm = command("models", "--output", "calm", "--workers", "2", folder=tmp_path)
    assert calm.returncode == 0, calm.stderr
    assert "481 models, 480 analysed, 0 unchanged, 1 failed" in calm.stdout
    assert len(rows(tmp_path / "calm")) == 480
    randomly = random.Random(3)
    code = "import onnx_aiwq.fleet.driver as d; d.PART_MODELS = 16; from onnx_aiwq.cli import main; main()"
    line = [sys.executable, "-c", code, "fleet", "models", "--output", "killed", "--workers", "2"]
    for name in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        parts = len(list((tmp_path / "killed").rglob("*.parquet")))
        until = time.monotonic() + PROCESS_TIMEOUT_S
        while process.poll() is None and len(list((tmp_path / "killed").rglob("*.parquet"))) < parts + 3:
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(randomly.random() / 5)
        # A terminal sends Ctrl-C to the whole group of processes, a kill goes to one.
        os.killpg(process.pid, name) if name is signal.SIGINT else process.send_signal(name)
        _, told = process.communicate(timeout=PROCESS_TIMEOUT_S)
        assert b"Traceback" not in told
        if name is signal.SIGINT and process.returncode != 0:  # 0 where it was just about to end
            assert process.returncode == 2
            assert b"interrupted: " in told.splitlines()[-1]
        for file in (tmp_path / "killed").rglob("*.parquet"):
            pyarrow.parquet.read_table(file, partitioning=None)
    assert 0 < len(rows(tmp_path / "killed")) <= 480
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=PROCESS_TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    for dataset in ("results", "errors"):
        assert rows(tmp_path / "killed", dataset) == rows(tmp_path / "calm", dataset)
    assert not [file for file in (tmp_path / "killed").rglob(".*") if file.name != ".lock"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.onnx", "--output", "out"), "none.onnx: no such file"),
        (("empty", "--output", "out"), "empty: holds no .onnx file"),
        (("*.onnx", "--output", "out"), "no file matches"),
        (("m", "--output", "m"), "holds files that are no fleet"),
        (("m", "--output", "m/a.onnx"), "cannot be written"),
        (("m", "--output", "out", "--workers", "0"), "--workers 0"),
        (("m", "--output", "out", "--workers", "1", "--scheduler", "x"), "give one"),
        (("m", "--output", "out", "--max-memory", "3"), "unit"),
        (("m", "--output", "out", "--max-memory", "3 MB"), "at least"),
        (("m", "--output", "out", "--timeout", "0"), "--timeout 0"),
        (("m", "--output", "out", "--hardware", "no-such"), "no-such"),
        (("m", "--output", "out", "--region", "no-such"), "no-such"),
        (("m",), "--output"),
        ((), "SOURCE"),
        (("report", "m"), "holds no fleet"),
        (("report",), "DIR"),
    ],
)
def test_slips_are_one_line_and_exit_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    matmul(tmp_path / "m/a.onnx", 2, 3, 4)
    (tmp_path / "empty").mkdir()
    done = aiwq(tmp_path, {}, "fleet", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.strip().splitlines()[-1]
    assert message in last
    assert "Traceback" not in done.stderr


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    matmul(tmp_path / "m/a.onnx", 2, 3, 4)
    for module in ("pyarrow", "distributed"):
        code = (
            f"import sys; sys.modules[{module!r}] = None; sys.modules['pyarrow.dataset'] = None\n"
            "from onnx_aiwq.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "fleet", "m", "--output", "out"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=PROCESS_TIMEOUT_S,
        )
        assert done.returncode == 2
        assert "pip install 'onnx-aiwq[fleet]'" in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_command_does_not_import_the_extra() -> None:
    heavy = ("dask", "distributed", "pyarrow", "fsspec")
    code = f"import sys, onnx_aiwq.cli; print([module for module in {heavy} if module in sys.modules])"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=PROCESS_TIMEOUT_S)
    assert done.stdout.strip() == "[]"


def test_commands_of_the_docs_parse() -> None:
    from typer.main import get_command

    from onnx_aiwq import cli

    group: Any = get_command(cli.app).commands["fleet"]  # type: ignore[attr-defined]
    text = (Path(__file__).parents[1] / "docs/fleet.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("aiwq fleet ")]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line, comments=True)[2:]
        name, rest = (words[0], words[1:]) if words[0] in group.commands else ("run", words)
        with group.commands[name].make_context(name, rest):
            pass


def test_the_report_of_the_command_is_json(tmp_path: Path) -> None:
    FleetWriter(tmp_path / "out").close()
    done = aiwq(tmp_path, {}, "fleet", "report", "out", "--format", "json")
    assert done.returncode == 2
    assert "holds no run yet" in done.stderr
    assert json.loads((tmp_path / "out/fleet.json").read_text())["format"] == "onnx_aiwq.fleet-store/1"
