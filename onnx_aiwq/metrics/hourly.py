"""Carbon intensity by hour of day, from a file: columns ``hour`` (0 to 23) and ``g_per_kwh``, each hour once."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping
from pathlib import Path

import msgspec

from onnx_aiwq.errors import PolicyError, suggestion

HOURS = 24
# What lies beyond is a slip of units, not a grid.
HIGHEST_INTENSITY_G_PER_KWH = 1e5
_COLUMNS = ("hour", "g_per_kwh")
_LARGEST_FILE_BYTES = 1_000_000


class HourlyIntensity(msgspec.Struct, frozen=True):
    """The carbon intensity of a day.

    Attributes:
        g_per_kwh: gCO2e/kWh of the hours 0 to 23.
        source: where it comes from.
    """

    g_per_kwh: tuple[float, ...]
    source: str

    def at(self, hour: int | None) -> float:
        """The intensity of an hour, gCO2e/kWh; the mean of the day for None.

        Raises:
            PolicyError: if the hour is not from 0 to 23.
        """
        if hour is None:
            return statistics.fmean(self.g_per_kwh)
        if not 0 <= hour < HOURS:
            raise PolicyError(f"--hour {hour}: expected a whole hour from 0 to {HOURS - 1}")
        return self.g_per_kwh[hour]

    @property
    def cleanest_hour(self) -> int:
        """The hour with the lowest intensity; the first of several."""
        return min(range(HOURS), key=lambda hour: self.g_per_kwh[hour])


def read_hourly(path: Path) -> HourlyIntensity:
    """Read an hourly profile.

    Raises:
        PolicyError: if the file cannot be read, or an hour is missing, given twice, outside 0 to 23, or its intensity
            is no number from 0 to `HIGHEST_INTENSITY_G_PER_KWH`; the message names the line.
    """
    rows = csv.DictReader(_text(path).splitlines())
    names = [name.strip() for name in rows.fieldnames or ()]
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        near = suggestion(missing[0], names)
        raise PolicyError(
            f"--carbon-profile {path}: line 1: no column {missing[0]!r};{near} expected the header hour,g_per_kwh"
        )
    found: dict[int, float] = {}
    try:
        for row in rows:
            if any(value for value in row.values()):
                hour, intensity = _entry(row)
                if hour in found:
                    raise ValueError(f"hour {hour} is given twice")
                found[hour] = intensity
    except (ValueError, csv.Error) as error:
        raise PolicyError(f"--carbon-profile {path}: line {rows.line_num}: {error}") from None
    absent = [str(hour) for hour in range(HOURS) if hour not in found]
    if absent:
        raise PolicyError(
            f"--carbon-profile {path}: no value for hour {', '.join(absent)}; expected each of 0 to 23 once"
        )
    return HourlyIntensity(tuple(found[hour] for hour in range(HOURS)), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise PolicyError(f"--carbon-profile {path}: cannot be read: {reason}; expected a CSV file") from None
    if len(data) > _LARGEST_FILE_BYTES:
        raise PolicyError(
            f"--carbon-profile {path}: too large for an hourly profile (limit {_LARGEST_FILE_BYTES} bytes)"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyError(f"--carbon-profile {path}: line {line}: not UTF-8 text; expected a CSV file") from None


def _entry(row: Mapping[str | None, object]) -> tuple[int, float]:
    values = {str(name).strip(): str(value or "").strip() for name, value in row.items() if name is not None}
    hour, intensity = values["hour"], values["g_per_kwh"]
    if not (hour.isdecimal() and hour.isascii()) or int(hour) >= HOURS:
        raise ValueError(f"hour {hour!r}: expected a whole hour from 0 to {HOURS - 1}")
    try:
        number = float(intensity)
    except ValueError:
        number = math.nan
    if not 0 <= number <= HIGHEST_INTENSITY_G_PER_KWH:
        raise ValueError(f"g_per_kwh {intensity!r}: expected gCO2e/kWh from 0 to {HIGHEST_INTENSITY_G_PER_KWH:g}")
    return int(hour), number
