"""Workers of one machine: threads with a child each, batches, what is left of a batch that a model ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleets import LIMITS, PROCESS_TIMEOUT_S, custom, matmul, poison, rows, settings
from onnx_aiwq.fleet import work
from onnx_aiwq.fleet.cluster import LARGEST_BATCH_MODELS, Cluster, _Window
from onnx_aiwq.fleet.driver import run_fleet
from onnx_aiwq.fleet.isolation import Child
from onnx_aiwq.fleet.progress import FleetProgress
from onnx_aiwq.fleet.settings import Limits


@pytest.fixture(autouse=True)
def poisonous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes know the poisonous rules, and none is left."""
    (tmp_path / "rules").mkdir()
    poison(tmp_path / "rules", monkeypatch)
    monkeypatch.chdir(tmp_path)
    yield
    work.close_children()


def _job(path: Path) -> work.Job:
    return work.Job(model=path.name, location=str(path.resolve()), version=None, done={}, failed=[])


def test_a_model_that_takes_its_process_down_costs_a_batch_nothing_else() -> None:
    for index in range(4):
        matmul(Path(f"m{index}.onnx"), 2, 3, index + 1)
    custom(Path("crash.onnx"), "Crash", "poison")
    names = ("m0", "m1", "crash", "m2", "m3")
    jobs = [_job(Path(f"{name}.onnx")) for name in names]
    child = Child(settings().message(), LIMITS)
    found = child.analyse(jobs, 60.0)  # type: ignore[arg-type]
    child.close()
    assert [each["state"] for each in found] == ["analysed", "analysed", "failed"]
    assert (found[2]["reason"], len(found[2]["content_sha256"])) == ("crash", 64)
    outcomes: list[dict[str, Any]] = []
    left = jobs
    while left:  # a loaded machine may take longer than a batch has
        answer = work.analyse_batch(left, settings().message(), LIMITS)
        outcomes, left = outcomes + answer.outcomes, answer.left
    assert [Path(outcome["model"]).stem for outcome in outcomes] == list(names)
    assert [outcome.get("reason") for outcome in outcomes] == [None, None, "crash", None, None]
    assert [row["macs"] for outcome in outcomes for row in outcome.get("rows", ())] == [6, 12, 18, 24]


def test_no_further_model_is_begun_when_the_time_of_a_batch_is_over() -> None:
    matmul(Path("m.onnx"), 2, 3, 4)
    child = Child(settings().message(), LIMITS)
    jobs = [_job(Path("m.onnx"))] * 3
    assert len(child.analyse(jobs, 0.0)) == 1  # type: ignore[arg-type]
    assert len(child.analyse(jobs, 60.0)) == 3  # type: ignore[arg-type]
    child.close()


def test_a_batch_at_work_comes_back_when_it_is_stopped() -> None:
    custom(Path("hang.onnx"), "Hang", "poison")
    matmul(Path("m.onnx"), 2, 3, 4)
    jobs = [_job(Path("hang.onnx")), _job(Path("m.onnx"))]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work.analyse_batch, jobs, settings().message(), Limits(timeout_s=3600.0))
        until = time.monotonic() + PROCESS_TIMEOUT_S
        while not work._at_work and time.monotonic() < until:
            time.sleep(0.05)
        work.stop_children()
        answer = future.result(PROCESS_TIMEOUT_S)
    assert [job["model"] for job in answer.left] == ["m.onnx"]
    work.close_children()
    again = work.analyse_batch(jobs[1:], settings().message(), LIMITS)
    assert [outcome["state"] for outcome in again.outcomes] == ["analysed"]


def test_a_child_at_work_ends_after_its_model_when_its_parent_is_killed() -> None:
    matmul(Path("m.onnx"), 2, 3, 4)
    code = (
        "import os, sys, threading, time\n"
        "from onnx_aiwq.fleet.isolation import Child\n"
        "from onnx_aiwq.fleet.settings import Limits\n"
        "child = Child(sys.argv[1], Limits())\n"
        "job = dict(location=sys.argv[2], done={}, failed=[])\n"
        "threading.Thread(target=child.analyse, args=([job] * 1_000_000, 3600.0), daemon=True).start()\n"
        "while os.fstat(child._answers.fileno()).st_size == 0: time.sleep(0.01)\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    line = [sys.executable, "-c", code, settings().message(), str(Path("m.onnx").resolve())]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PROCESS_TIMEOUT_S)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until = time.monotonic() + PROCESS_TIMEOUT_S / 2
    while _is_running(int(done.stdout)):
        assert time.monotonic() < until, "it goes on with its batch"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_fleet_on_this_machine_leaves_no_process_and_no_thread() -> None:
    for index in range(60):
        matmul(Path(f"models/m{index:02d}.onnx"), 2, 3, index + 1)
    custom(Path("models/hang.onnx"), "Hang", "poison")
    custom(Path("models/crash.onnx"), "Crash", "poison")
    done = run_fleet(
        ["models"],
        Path("out"),
        settings(),
        cluster=Cluster(2),
        limits=LIMITS,
        progress=FleetProgress(lambda line: None, terminal=False),
    )
    assert (done.analysed, done.failed) == (60, 2)
    assert sorted(int(row["macs"]) for row in rows(Path("out"))) == [6 * (index + 1) for index in range(60)]
    assert {row["reason"] for row in rows(Path("out"), "errors")} == {"timeout", "crash"}
    children = [" ".join(child.cmdline()) for child in psutil.Process().children() if child.is_running()]
    assert not [line for line in children if "onnx_aiwq.fleet.child" in line]
    assert not [thread.name for thread in threading.enumerate() if "Dask-Default" in thread.name]


class _TwoThreads:
    def nthreads(self) -> dict[str, int]:
        return {"a": 1, "b": 1}


def test_batches_grow_with_the_speed_and_shrink_towards_the_end() -> None:
    waiting = 10_000
    window = _Window(_TwoThreads(), lambda: waiting)
    assert window.batches() == 6
    first = window.models()
    window.took(work.Answer([{}] * 10, [], 0.04))  # 4 ms each
    assert first < window.models() == 100
    waiting = 70
    assert window.models() == 12  # not one each: what a batch costs is more than waiting for a few models
    slow = _Window(_TwoThreads(), lambda: 10_000)
    slow.took(work.Answer([{}], [], 30.0))
    assert slow.models() == 1
    fast = _Window(_TwoThreads(), lambda: 1_000_000)
    fast.took(work.Answer([{}] * 1000, [], 0.001))
    assert fast.models() == LARGEST_BATCH_MODELS
