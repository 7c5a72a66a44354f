"""Physical constants, unit conversions and the one way that numbers are written for people."""

from __future__ import annotations

import math

BOLTZMANN_J_PER_K = 1.380649e-23  # exact since the SI revision of 2019 (BIPM, SI Brochure 9)
JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0
BITS_PER_BYTE = 8

_PREFIXES = dict(
    zip(range(-21, 19, 3), ("z", "a", "f", "p", "n", "u", "m", "", "k", "M", "G", "T", "P", "E"), strict=True)
)


def format_si(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Write a number with an SI prefix, for example ``format_si(0.0123, "J") == "12.3 mJ"``; None is ``unknown``."""
    if value is None:
        return "unknown"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    exponent = min(max(math.floor(math.log10(abs(value)) / 3) * 3, -21), 18)
    text = f"{value / 10.0**exponent:.{digits}g}"
    if float(text) >= 1000 and exponent < 18:
        exponent += 3
        text = f"{value / 10.0**exponent:.{digits}g}"
    return f"{text} {_PREFIXES[exponent]}{unit}".rstrip()


def format_count(value: int | None) -> str:
    """Write an exact count with thousands separators; None is ``unknown``."""
    return "unknown" if value is None else f"{value:,}"


def format_bytes(value: int | None) -> str:
    """Write a number of bytes with a decimal SI prefix, for example ``format_bytes(102_000_000) == "102 MB"``."""
    if value is not None and abs(value) < 1000:
        return f"{value} B"
    return format_si(value, "B")
