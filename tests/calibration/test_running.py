"""How runs become one number, and how several threads wait for their processors."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from onnx_aiwq.calibration import running
from onnx_aiwq.calibration.running import Reference, Timing, sessions_until_agreed
from onnx_aiwq.calibration.sampling import agreed


def test_what_two_sessions_agree_on() -> None:
    """The second ran while the reference kernel took twice as long; its numbers are halved."""
    first, second = (Timing(1.0, reference_s, 0.0, 8, ()) for reference_s in (1e-3, 2e-3))
    times, timing = agreed(
        [({"near": 10e-6, "far": 90e-6, "tiny": 1e-6}, first), ({"near": 22e-6, "far": 40e-6, "tiny": 4e-6}, second)]
    )
    assert times == pytest.approx({"near": 10.5e-6, "far": 20e-6, "tiny": 1.5e-6})
    assert timing is first


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([5.0, 3.0, 3.1], [3.0, 3.1, 5.0]),  # three, of which two agree
        ([2.0, 3.0, 4.0, 2.05, 1.0], [2.0, 2.05, 3.0, 4.0]),  # a fourth agrees with the fastest
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),  # eight at most
    ],
)
def test_sessions_of_several_threads_go_on_until_two_agree(taken: list[float], expected: list[float]) -> None:
    """Times go with the median of all sessions' references, 1, 2, 3, ..., not with that of the fastest."""
    left = iter([Timing(seconds, index + 1.0, 0.0, 8, ()) for index, seconds in enumerate(taken)])
    sessions, fastest = sessions_until_agreed(lambda: next(left), lambda timing: timing)
    assert [timing.seconds for timing in sessions] == expected
    assert (fastest.seconds, fastest.reference_s) == (expected[0], (len(expected) + 1) / 2)


def test_of_several_threads_the_lower_quartile_of_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1, 2, ..., 8 s the quartiles are 2.25, 4.5 and 6.75; a clock that a run moves on tells them exactly."""
    seconds = {}
    for threads in (1, 2):
        clock = [0.0]
        monkeypatch.setattr(running.time, "perf_counter", lambda clock=clock: clock[0])
        timed = iter([0.0, 0.0, *range(1, 9)] if threads == 1 else [0.0, 0.0, 0.0, 1, 2, 3, 4, 0.0, 5, 6, 7, 8])

        def run(clock: list[float] = clock, timed: Iterator[float] = timed) -> None:
            clock[0] += next(timed)

        monkeypatch.setattr(running, "inference", lambda *_, run=run: run)
        reference = SimpleNamespace(wait_until_quiet=lambda: 1.0, seconds=lambda: 1.0)
        options = SimpleNamespace(intra_op_num_threads=threads)
        session = SimpleNamespace(get_session_options=lambda options=options: options)
        timing = running.time_runs(session, {}, reference, least=8, most=8, budget_s=0.0)  # type: ignore[arg-type]
        seconds[threads] = timing.seconds
        assert sorted(timing.samples) == pytest.approx(range(1, 9))
    assert seconds == pytest.approx({1: 4.5, 2: 2.25})


def test_sessions_wait_until_processors_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs are one try, of which the fastest counts: 1, then 1.4 twice, then 1.1, where the quartile is 1.075."""
    reference = Reference(threads=2)
    slept: list[float] = []
    monkeypatch.setattr(running.time, "sleep", slept.append)
    monkeypatch.setattr(reference, "_copied_s", lambda: 1.0)
    runs = iter([2.0, 1.0, 3.0] + [1.5, 1.4, 1.6] * 2 + [1.1, 1.3, 1.2])
    monkeypatch.setattr(reference, "_together_s", lambda: next(runs))
    assert reference.wait_until_quiet() == 1.0
    assert not slept
    assert reference.wait_until_quiet() == pytest.approx(1.1 / 1.075)
    assert len(slept) == 2


def test_they_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference(threads=2)
    monkeypatch.setattr(reference, "_together_history", [1e-9] * 9)
    assert reference.wait_until_quiet(most_s=0.0) > 1000


def test_one_thread_waits_for_memory_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference()
    slept: list[float] = []
    monkeypatch.setattr(running.time, "sleep", slept.append)
    monkeypatch.setattr(reference, "_together_s", lambda: 1.0)
    copies = iter([4.0] * 3 + [6.0] * 6 + [4.0] * 3)
    monkeypatch.setattr(reference, "_copied_s", lambda: next(copies))
    assert reference.wait_until_quiet() == 1.0
    assert reference.wait_until_quiet() == 1.0
    assert len(slept) == 2
