"""Threads of sessions: each on a processor of its own, as onnxruntime has them where it chooses their number."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from onnx import helper

from deployed import small_model
from onnx_aiwq.calibration.running import Runtime, Timing, middle_mean, open_session, thread_affinities, time_runs
from onnx_aiwq.calibration.sampling import agreed

TASKS = Path("/proc/self/task")


@pytest.mark.parametrize(("threads", "expected"), [(1, ""), (2, "6"), (3, "6;8"), (4, "")])
def test_processors_of_threads(threads: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors 4, 5 and 7 are usable: the calling thread has the first; the option counts from one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 4, 5}, raising=False)
    assert thread_affinities(threads) == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say where threads may run")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_calling_thread_has_the_first_processor_while_it_is_timed(threads: int) -> None:
    usable = os.sched_getaffinity(0)
    expected = {min(usable)} if threads == 2 and len(usable) > 1 else usable
    seen: list[set[int]] = []
    session = SimpleNamespace(
        get_session_options=lambda: SimpleNamespace(intra_op_num_threads=threads),
        run=lambda *_: seen.append(os.sched_getaffinity(0)),
    )
    reference = SimpleNamespace(seconds=lambda: 1e-3)
    timing = time_runs(session, {}, reference, least=5, most=5)  # type: ignore[arg-type]
    assert timing.runs >= 5
    assert all(processors == expected for processors in seen)
    assert os.sched_getaffinity(0) == usable


def test_a_system_that_does_not_say_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert thread_affinities(2) == ""


def _processors(task: Path) -> str:
    lines = (task / "status").read_text(encoding="ascii").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("Cpus_allowed_list"))


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are listed in /proc alone")
def test_the_second_thread_of_a_session_stays_on_its_processor() -> None:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("one processor: no second thread to place")
    model = small_model([helper.make_node("Relu", ["x"], ["y"])], {"x": (4,)}, ["y"], {}).SerializeToString()
    before = set(TASKS.iterdir())
    session = open_session(model, Runtime(threads=2))
    deadline, found = time.monotonic() + 5, set()
    while str(processors[1]) not in found and time.monotonic() < deadline:  # a thread moves itself when it begins
        found = {_processors(task) for task in set(TASKS.iterdir()) - before}
    assert str(processors[1]) in found
    assert session.get_session_options().intra_op_num_threads == 2


@pytest.mark.parametrize(
    ("times", "expected"),
    [([3.0], 3.0), ([2.0, 4.0], 3.0), ([1, 2, 2, 90], 2.0), ([2, 3, 2, 3, 2, 50, 2, 1], 2.25)],
)
def test_the_middle_half_counts(times: list[float], expected: float) -> None:
    assert middle_mean(times) == pytest.approx(expected)


def test_what_two_sessions_agree_on() -> None:
    """The second ran while the reference kernel took twice as long; its numbers are halved."""
    first, second = (Timing(1.0, reference_s, 0.0, 8, ()) for reference_s in (1e-3, 2e-3))
    times, timing = agreed(
        [({"near": 10e-6, "far": 90e-6, "tiny": 1e-6}, first), ({"near": 22e-6, "far": 40e-6, "tiny": 4e-6}, second)]
    )
    assert times == pytest.approx({"near": 10.5e-6, "far": 20e-6, "tiny": 1.5e-6})
    assert timing is first
