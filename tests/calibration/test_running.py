"""How runs become one number, and how several threads wait for their processors."""

from __future__ import annotations

import pytest

from onnx_aiwq.calibration import running
from onnx_aiwq.calibration.running import Reference, Timing
from onnx_aiwq.calibration.sampling import agreed


def test_what_two_sessions_agree_on() -> None:
    """The second ran while the reference kernel took twice as long; its numbers are halved."""
    first, second = (Timing(1.0, reference_s, 0.0, 8, ()) for reference_s in (1e-3, 2e-3))
    times, timing = agreed(
        [({"near": 10e-6, "far": 90e-6, "tiny": 1e-6}, first), ({"near": 22e-6, "far": 40e-6, "tiny": 4e-6}, second)]
    )
    assert times == pytest.approx({"near": 10.5e-6, "far": 20e-6, "tiny": 1.5e-6})
    assert timing is first


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
