"""NVML against a stand-in for nvidia-ml-py: energy counter, integrated power, devices, and what is refused."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from onnx_aiwq.calibration.meters.nvml import NvmlMeter, board_name
from onnx_aiwq.calibration.meters.protocol import MeterUnavailableError
from onnx_aiwq.errors import MeterError
from recorded_machines import Board


@pytest.fixture(autouse=True)
def no_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_energy_counter() -> None:
    board = Board()
    meter = NvmlMeter(nvml=board, clock=board.clock)
    meter.start()
    board.now_s += 10
    board.energy_mj += 3_000_000
    reading = meter.stop()
    assert reading.joules == pytest.approx(3000)
    assert (reading.seconds, reading.watts) == (pytest.approx(10), pytest.approx(300))
    assert (reading.label, reading.scope) == ("measured", "GPU board (NVIDIA H100)")
    # Either end may be off by one update of 100 ms: 1 % of 10 s.
    assert (reading.joules_low, reading.joules_high) == (pytest.approx(2970), pytest.approx(3030))
    assert reading.notes == () == meter.notes
    assert meter.minimum_window_s == 5
    meter.close()
    meter.close()
    assert board.open_sessions == 0


def test_the_name_of_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    assert board_name(board) == "NVIDIA H100"
    assert board.open_sessions == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert board_name() is None


def test_a_short_window_says_so() -> None:
    board = Board()
    meter = NvmlMeter(nvml=board, clock=board.clock)
    meter.start()
    board.now_s += 0.05
    reading = meter.stop()
    assert (reading.joules, reading.joules_low, reading.joules_high) == (0, 0, 0)
    assert any("shorter than the 5 s" in note for note in reading.notes)


def test_power_is_integrated_by_the_trapezoidal_rule() -> None:
    """The thread sleeps; what `stop` integrates is the first and the last sample."""
    board = Board(counter=False)
    meter = NvmlMeter(nvml=board, clock=board.clock, sample_every_s=3600)
    meter.start()
    board.now_s += 20
    board.power_mw = 300_000
    reading = meter.stop()
    assert reading.joules == pytest.approx(20 * (100 + 300) / 2)
    assert reading.joules_low == pytest.approx(4000 * 0.95)  # one second of averaging in 20 s
    assert any("20 s passed between two power samples" in note for note in reading.notes)
    assert any("no energy counter" in note for note in meter.notes)
    assert meter.minimum_window_s == 10


def test_power_is_sampled_while_the_window_is_open() -> None:
    """Power that is high only in the middle is seen: 0.2 s at 1 kW in 0.6 s of 100 W."""
    board = Board(counter=False)
    meter = NvmlMeter(nvml=board, sample_every_s=0.005)
    meter.start()
    time.sleep(0.2)
    board.power_mw = 1_000_000
    began_s = time.monotonic()
    time.sleep(0.2)
    high_s = time.monotonic() - began_s
    board.power_mw = 100_000
    time.sleep(0.2)
    reading = meter.stop()
    meter.close()
    assert reading.joules == pytest.approx(100 * reading.seconds + 900 * high_s, rel=0.15)


def test_a_failing_sample_is_told_at_the_end() -> None:
    board = Board(counter=False)
    meter = NvmlMeter(nvml=board, sample_every_s=0.005)
    meter.start()
    board.has_power = False
    deadline_s = time.monotonic() + 10
    while meter._sampler._failure is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    with pytest.raises(MeterError, match="neither energy nor power: Not Supported"):
        meter.stop()
    meter.close()


def test_a_counter_that_goes_backwards_is_refused() -> None:
    board = Board()
    meter = NvmlMeter(nvml=board, clock=board.clock)
    meter.start()
    board.now_s += 10
    board.energy_mj = 17
    with pytest.raises(MeterError, match=r"went backwards from 5000 to 0\.017 J"):
        meter.stop()


def test_a_counter_that_stands_still_is_no_zero() -> None:
    board = Board()
    meter = NvmlMeter(nvml=board, clock=board.clock)
    meter.start()
    board.now_s += 10
    with pytest.raises(MeterError, match="did not move in 10 s"):
        meter.stop()


def test_windows_are_opened_and_closed_in_turn() -> None:
    board = Board()
    meter = NvmlMeter(nvml=board, clock=board.clock)
    with pytest.raises(MeterError, match="stop without a window"):
        meter.stop()
    meter.start()
    with pytest.raises(MeterError, match="a window is open"):
        meter.start()


@pytest.mark.parametrize(
    ("visible", "count", "device", "chosen", "said"),
    [
        (None, 1, None, 0, None),
        ("2,1", 4, None, 2, "device 2 of 4"),
        ("GPU-abc,GPU-def", 4, None, "GPU-abc", "first of CUDA_VISIBLE_DEVICES"),
        ("1", 4, 3, 3, None),  # the caller's word goes first
        (None, 2, None, 0, "device 0 of 2"),
    ],
)
def test_which_device(
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    count: int,
    device: int | None,
    chosen: object,
    said: str | None,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    board = Board(count)
    meter = NvmlMeter(device, nvml=board)
    assert board.chosen == chosen
    assert [said in note for note in meter.notes] == ([] if said is None else [True])


def test_a_split_board_says_that_it_is_covered_whole() -> None:
    board = Board()
    board.mig = True
    assert "MIG is on" in NvmlMeter(nvml=board).notes[0]


@pytest.mark.parametrize(
    ("board", "device", "reason", "step"),
    [
        (Board(driver=False), None, "driver does not answer: NVML Shared Library Not Found", "nvidia-smi"),
        (Board(counter=False, power=False), None, "neither energy nor power", "--watts"),
        (Board(2), 7, "no device 7: Invalid Argument", "nvidia-smi -L"),
    ],
)
def test_boards_that_cannot_be_read(board: Board, device: int | None, reason: str, step: str) -> None:
    with pytest.raises(MeterUnavailableError) as caught:
        NvmlMeter(device, nvml=board)
    assert reason in caught.value.reason
    assert step in caught.value.next_step
    assert board.open_sessions == 0  # what was opened was given back


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # Python's way of saying that an import fails
    with pytest.raises(MeterUnavailableError, match=r"nvidia-ml-py is not installed; .*pip install nvidia-ml-py"):
        NvmlMeter()


def test_the_package_is_imported_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    names = [name for name in dir(board) if name.startswith(("nvml", "NVML"))]
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(**{name: getattr(board, name) for name in names}))
    assert NvmlMeter().scope == "GPU board (NVIDIA H100)"
