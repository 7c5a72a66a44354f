"""`aiwq calibrate` as a process that is killed at random moments and goes on, beside one that is left alone."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
COMPOSITES, SEED = 3, 7
# So few composites are sampled and then refused by the fit, which is what ends a run that nobody killed.
SAMPLED = f"holds {COMPOSITES} composites; a fit needs 12"

Row = tuple[str, ...]


def started(folder: Path) -> subprocess.Popen[str]:
    """The calibration of a folder, begun or gone on with; what it tells is appended to a file beside the folder."""
    arguments = ["calibrate", "--composites", str(COMPOSITES), "--seed", str(SEED), "--watts", "10", "--resume"]
    with told(folder).open("a", encoding="utf-8") as stderr:
        return subprocess.Popen(
            [AIWQ, *arguments, "--output", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            env={**os.environ, "XDG_DATA_HOME": str(folder.parent)},
        )


def told(folder: Path) -> Path:
    return folder.with_suffix(".txt")


def finished_rows(path: Path) -> list[Row]:
    """Rows of the composites of a samples file that are there to their last row."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    rows = [tuple(row) for row in csv.reader(whole[1:])]
    ends = [index for index, row in enumerate(rows) if len(row) == 5 and row[1] == ""]
    return rows[: ends[-1] + 1] if ends else []


def names(rows: list[Row]) -> list[str]:
    """The composites, each once, in the order of their rows."""
    return list(dict.fromkeys(row[0] for row in rows))


def identity(rows: list[Row]) -> list[Row]:
    """What ran, without how long it took."""
    return [(composite, node, operator) for composite, node, _, _, operator in rows]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of POSIX")
def test_a_calibration_that_is_killed_again_and_again_is_the_one_that_was_not(tmp_path: Path) -> None:
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    source, kept = random.Random(SEED), []
    for composites in range(COMPOSITES):
        process = started(killed)
        deadline = time.monotonic() + 120
        while process.poll() is None and len(names(finished_rows(killed / "samples.csv"))) < composites:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(source.random())  # while it starts, times the next network, or writes what it took
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL, told(killed).read_text(encoding="utf-8")
        found = finished_rows(killed / "samples.csv")
        assert found[: len(kept)] == kept  # to the letter, timings included
        assert len(names(found)) >= composites
        kept = found

    for folder in (killed, alone):
        assert started(folder).wait(300) == 2
        assert SAMPLED in told(folder).read_text(encoding="utf-8").splitlines()[-1]
    final, undisturbed = (finished_rows(folder / "samples.csv") for folder in (killed, alone))
    assert final[: len(kept)] == kept
    assert names(final) == [f"composite-{SEED + index}" for index in range(COMPOSITES)]
    assert identity(final) == identity(undisturbed)
    # Nothing half-written is left in between: every line of the file is a row of a finished composite.
    assert len((killed / "samples.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(final)
    assert json.loads((killed / "calibration.json").read_text(encoding="utf-8"))["settings"]["seed"] == SEED
