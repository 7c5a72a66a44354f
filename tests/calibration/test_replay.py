"""Replayed traces: joules worked by hand, windows in turn, gaps, and files that are no traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_aiwq.calibration.meters.replay import ReplayMeter
from onnx_aiwq.errors import MeterError


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_counter(tmp_path: Path) -> None:
    meter = ReplayMeter(trace(tmp_path, "# scope: CPU package + DRAM\nseconds,joules\n0,100\n1,110\n2,125\n"))
    meter.start()
    reading = meter.stop()
    assert (reading.joules, reading.joules_low, reading.joules_high, reading.seconds) == (25, 25, 25, 2)
    assert (reading.label, reading.scope, reading.notes) == ("replayed", "CPU package + DRAM", ())
    assert reading.by_domain == {"trace": 25}


def test_power_is_integrated(tmp_path: Path) -> None:
    meter = ReplayMeter(trace(tmp_path, "watts,seconds\n10,0\n20,1\n20,2\n40,3\n"))
    meter.start()
    reading = meter.stop()
    assert reading.joules == pytest.approx(15 + 20 + 30)
    assert (reading.joules_low, reading.joules_high) == (pytest.approx(65), pytest.approx(65))
    assert "does not say" in reading.scope


def test_windows_follow_one_another_and_end(tmp_path: Path) -> None:
    path = trace(tmp_path, "window,seconds,joules\na,0,0\na,1,5\nb,10,50\nb,12,57\n")
    for _ in range(2):  # the same every time
        meter = ReplayMeter(path)
        found = []
        for _ in range(2):
            meter.start()
            reading = meter.stop()
            found.append((reading.joules, reading.seconds))
        assert found == [(5, 1), (7, 2)]
        with pytest.raises(MeterError, match="holds 2 windows and all were replayed"):
            meter.start()
        meter.close()


def test_a_gap_in_power_widens_the_interval(tmp_path: Path) -> None:
    meter = ReplayMeter(trace(tmp_path, "seconds,watts\n0,10\n1,30\n2,20\n12,20\n13,20\n"))
    meter.start()
    reading = meter.stop()
    # 20 + 25 + 200 (bridged at 20 W for 10 s) + 20; in the gap anything from 10 to 30 W may have flowed.
    assert reading.joules == pytest.approx(265)
    assert (reading.joules_low, reading.joules_high) == (pytest.approx(165), pytest.approx(365))
    assert reading.notes == ("replay: 1 gaps of 10 s together, the first after line 4 (rows are 1 s apart otherwise)",)


def test_a_gap_in_a_counter_loses_nothing(tmp_path: Path) -> None:
    meter = ReplayMeter(trace(tmp_path, "seconds,joules\n0,0\n1,10\n2,20\n3,30\n60,500\n"))
    meter.start()
    reading = meter.stop()
    assert (reading.joules, reading.joules_low, reading.joules_high) == (500, 500, 500)
    assert "1 gaps of 57 s" in reading.notes[0]


def test_windows_are_opened_and_closed_in_turn(tmp_path: Path) -> None:
    meter = ReplayMeter(trace(tmp_path, "seconds,joules\n0,0\n1,10\n"))
    with pytest.raises(MeterError, match="stop without a window"):
        meter.stop()
    meter.start()
    with pytest.raises(MeterError, match="a window is open"):
        meter.start()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the meter trace is empty"),
        ("# only: a comment\n", "the meter trace is empty"),
        ("seconds,joules\n", "holds no row"),
        ("seconds,joules\n0,1\n", "line 2: a window needs two rows or more"),
        ("seconds,volts\n0,1\n", "line 1: expected a CSV with the columns .* found seconds, volts"),
        ("joules\n0\n", "line 1: expected a CSV"),
        ("seconds,joules,watts\n0,1,1\n", "line 1: expected a CSV"),
        ("seconds,joules\n0,1\n1,x\n", "line 3: joules is 'x'"),
        ("seconds,joules\n0,1\n1,nan\n", "line 3: joules is 'nan'"),
        ("seconds,joules\n0,1\n1,inf\n", "line 3: joules is 'inf'"),
        ("seconds,watts\n0,1\n1,-4\n", "line 3: watts is '-4'"),
        ("seconds,joules\n0,1\n1\n", "line 3: expected 2 values, found 1"),
        ("seconds,joules\n0,1\n0,2\n", "line 3: time goes from 0 to 0 s"),
        ("seconds,joules\n# noted\n0,9\n1,8\n", "line 4: the counter goes backwards, from 9 to 8 J"),
        ("window,seconds,joules\na,0,1\na,1,2\nb,0,1\nb,1,2\na,2,3\n", "line 6: window 'a' begins a second time"),
    ],
)
def test_files_that_are_no_traces(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MeterError, match=said):
        ReplayMeter(trace(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match=r"absent\.csv: cannot read the meter trace: No such file"):
        ReplayMeter(tmp_path / "absent.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MeterError, match="no UTF-8 text"):
        ReplayMeter(tmp_path / "binary")
