"""A recorded meter trace, replayed: the same joules every time, on any machine.

The trace is a CSV file with a header. `seconds` is the time of each row on any clock; either `joules` (a counter) or
`watts` (power at that time) is the reading; `window` is optional and numbers the windows that `start` and `stop`
enclosed, in the order in which they are replayed. Lines before the header that begin with ``# scope:`` say what the
joules cover. Nothing is interpolated from another machine's time: a window's seconds are those of its rows.
"""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnx_aiwq.calibration.meters.protocol import Reading, no_window, open_window
from onnx_aiwq.errors import MeterError
from onnx_aiwq.hardware_profile import Source

GAP_FACTOR = 3.0
"""A step of this many median steps is a gap."""
MAX_TRACE_BYTES = 100_000_000
_FORM = "expected a CSV with the columns seconds and joules (a counter) or watts, and optionally window"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    seconds: float
    value: float
    window: str


class ReplayMeter:
    """The windows of a recorded trace, one after another; replayed.

    Args:
        path: CSV file; see the module's documentation.

    Raises:
        MeterError: if the file cannot be read or is no trace: names the line, and what was expected.
    """

    name = "replay"
    label: Source = "replayed"
    minimum_window_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        lines, self.scope = _read(path)
        self._quantity, rows = _parse(path, lines)
        self._windows = _windows(path, self._quantity, rows)
        self._next = 0
        self._open = False
        self.notes: tuple[str, ...] = (f"replay: {len(self._windows)} windows of {path.name}",)

    def start(self) -> None:
        """Begin the next window of the trace; see `Meter.start`.

        Raises:
            MeterError: if the trace has no further window.
        """
        if self._open:
            raise open_window(self.name)
        if self._next == len(self._windows):
            raise MeterError(
                f"{self._path}: the trace holds {len(self._windows)} windows and all were replayed; record a longer "
                "one, or measure less"
            )
        self._open = True

    def stop(self) -> Reading:
        """The window's energy as it was recorded; see `Meter.stop`."""
        if not self._open:
            raise no_window(self.name)
        rows = self._windows[self._next]
        self._next += 1
        self._open = False
        joules, low, high, notes = _energy(self._quantity, rows)
        return Reading(
            joules=joules,
            joules_low=low,
            joules_high=high,
            seconds=rows[-1].seconds - rows[0].seconds,
            label=self.label,
            scope=self.scope,
            by_domain={"trace": joules},
            notes=notes,
        )

    def close(self) -> None:
        """Nothing is held."""
        self._open = False


Quantity = Literal["joules", "watts"]


def _read(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbered lines without comments and blank lines, and the scope that a comment names."""
    try:
        size = path.stat().st_size
        if size > MAX_TRACE_BYTES:
            raise MeterError(f"{path}: {size} bytes are no meter trace (limit {MAX_TRACE_BYTES}); {_FORM}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MeterError(f"{path}: cannot read the meter trace: {reason}; give another file with --trace") from None
    except UnicodeDecodeError:
        raise MeterError(f"{path}: the meter trace is no UTF-8 text; {_FORM}") from None
    scope = "as recorded; the trace does not say what it covers"
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            if key.strip().casefold() == "scope" and value.strip():
                scope = value.strip()
        elif line.strip():
            lines.append((number, line))
    return lines, scope


def _parse(path: Path, lines: list[tuple[int, str]]) -> tuple[Quantity, list[_Row]]:
    if not lines:
        raise MeterError(f"{path}: the meter trace is empty; {_FORM}")
    header = [name.strip().casefold() for name in next(csv.reader([lines[0][1]]))]
    quantities = [name for name in ("joules", "watts") if name in header]
    if "seconds" not in header or len(quantities) != 1:
        raise MeterError(f"{path}: line {lines[0][0]}: {_FORM}, found {', '.join(header)[:200]}")
    quantity: Quantity = "joules" if quantities[0] == "joules" else "watts"
    return quantity, list(_rows(path, header, quantity, lines[1:]))


def _rows(path: Path, header: list[str], quantity: str, lines: Iterable[tuple[int, str]]) -> Iterator[_Row]:
    for number, line in lines:
        cells = next(csv.reader([line]))
        if len(cells) != len(header):
            raise MeterError(f"{path}: line {number}: expected {len(header)} values, found {len(cells)}")
        row = dict(zip(header, cells, strict=True))
        values = []
        for column in ("seconds", quantity):
            try:
                value = float(row[column])
            except ValueError:
                value = math.nan
            if not math.isfinite(value) or (value < 0 and column != "seconds"):
                raise MeterError(
                    f"{path}: line {number}: {column} is {row[column][:40]!r}, expected a number from 0 up"
                )
            values.append(value)
        yield _Row(number, values[0], values[1], row.get("window", "").strip())


def _windows(path: Path, quantity: Quantity, rows: list[_Row]) -> list[list[_Row]]:
    windows: list[list[_Row]] = []
    seen: set[str] = set()
    for row in rows:
        if not windows or windows[-1][0].window != row.window:
            if row.window in seen:
                raise MeterError(
                    f"{path}: line {row.line}: window {row.window!r} begins a second time; number them anew"
                )
            seen.add(row.window)
            windows.append([])
        elif row.seconds <= windows[-1][-1].seconds:
            raise MeterError(
                f"{path}: line {row.line}: time goes from {windows[-1][-1].seconds:g} to {row.seconds:g} s; rows must "
                "be in order of time"
            )
        elif quantity == "joules" and row.value < windows[-1][-1].value:
            raise MeterError(
                f"{path}: line {row.line}: the counter goes backwards, from {windows[-1][-1].value:g} to "
                f"{row.value:g} J; record counters with their wraps undone"
            )
        windows[-1].append(row)
    for window in windows:
        if len(window) < 2:
            raise MeterError(f"{path}: line {window[0].line}: a window needs two rows or more, found one")
    if not windows:
        raise MeterError(f"{path}: the meter trace holds no row; {_FORM}")
    return windows


def _energy(quantity: Quantity, rows: list[_Row]) -> tuple[float, float, float, tuple[str, ...]]:
    """Joules with low and high, and notes on gaps.

    A counter loses nothing in a gap. Power does: the gap is bridged by the trapezoidal rule, and anything between the
    lowest and the highest power of the window may have flowed in it.
    """
    steps = [(before, after, after.seconds - before.seconds) for before, after in itertools.pairwise(rows)]
    usual_s = statistics.median(step_s for _, _, step_s in steps)
    gaps = [step for step in steps if step[2] > GAP_FACTOR * usual_s]
    gap_s = sum(step_s for _, _, step_s in gaps)
    notes: tuple[str, ...] = ()
    if gaps:
        first = gaps[0]
        notes = (
            f"replay: {len(gaps)} gaps of {gap_s:.3g} s together, the first after line {first[0].line} (rows are "
            f"{usual_s:.3g} s apart otherwise)",
        )
    if quantity == "joules":
        joules = rows[-1].value - rows[0].value
        return joules, joules, joules, notes
    joules = sum(step_s * (before.value + after.value) / 2 for before, after, step_s in steps)
    bridged = sum(step_s * (before.value + after.value) / 2 for before, after, step_s in gaps)
    watts = [row.value for row in rows]
    return joules, joules - bridged + gap_s * min(watts), joules - bridged + gap_s * max(watts), notes
