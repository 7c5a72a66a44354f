"""The metrics that a report answers for: their values with intervals, their units, and how two values compare.

Everything here reads the JSON report, so that a saved report is as good as a fresh one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.units import format_bytes, format_si

Report = Mapping[str, Any]
Number = int | float

_SI = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_NUMBER = re.compile(r"\d(?:_?\d){0,29}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?")
_ROUNDING = 1e-9
"""Relative difference below which two modelled numbers are the same: the order of a sum may differ."""


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a value whose error is one common factor, somewhere from `low_factor` to `high_factor`."""

    value: float
    low_factor: float
    high_factor: float


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in SI units with its interval.

    Attributes:
        value: point estimate; an int is exact.
        low: low end.
        high: high end.
        parts: shares of the value by what their error comes from; empty where the value is exact.
    """

    value: Number
    low: Number
    high: Number
    parts: Mapping[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much a second value is above a first.

    Attributes:
        value: second - first.
        low: low end of the difference.
        high: high end.
        paired: both values rest on the same coefficients, whose errors cancel.
        told_apart: the sign is certain, or the values are exactly equal.
    """

    value: Number
    low: Number
    high: Number
    paired: bool
    told_apart: bool

    @property
    def verdict(self) -> str:
        """`lower`, `higher`, `equal` or `no measurable difference`, of the second against the first."""
        if not self.told_apart:
            return "no measurable difference"
        return "equal" if self.value == 0 else "higher" if self.value > 0 else "lower"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as budgets and tolerances name it.
        unit: SI unit of its values; empty for counts.
        units: units that a user may write, with their size in `unit`.
        exact: an integer that is counted, not modelled.
        read: its value in a report; None where the report does not know it.
        example: of a budget.
        node_key: key of a node's own share in the report; None where nodes have none.
    """

    name: str
    unit: str
    units: Mapping[str, Fraction]
    exact: bool
    read: Callable[[Report], Quantity | None]
    example: str
    node_key: str | None = None

    def text(self, value: Number | None) -> str:
        """The value for people, with its unit."""
        if value is None:
            return "unknown"
        if self.unit == "B":
            return format_bytes(int(value)) if value >= 1 else f"{value:g} B"
        if self.unit:
            return format_si(value, self.unit)
        return f"{value:,}" if abs(value) < 100_000 else format_si(value, digits=4)

    def interval_text(self, quantity: Quantity) -> str:
        """`low to high`; empty where the value is exact."""
        return "" if self.exact else f"{self.text(quantity.low)} to {self.text(quantity.high)}"


def _prefixed(unit: str, prefixes: str = "fpnuµμm kMGT") -> dict[str, Fraction]:
    return {f"{prefix.strip()}{unit}": Fraction(10) ** _SI[prefix.strip()] for prefix in prefixes}


_JOULES = {
    **_prefixed("J"),
    **{name: size * 3600 for name, size in _prefixed("Wh", "uµμm kMGT").items()},
}
_SECONDS = {**_prefixed("s", "pnuµμm "), "min": Fraction(60), "h": Fraction(3600)}
_GRAMS = {**_prefixed("g", "pnuµμm k"), "t": Fraction(10**6)}
_JOULES_PER_BIT = _prefixed("J/bit")
_COUNTS = _prefixed("", " kMGTP")
_BYTES = {
    **_prefixed("B", " kMGT"),
    **{f"{prefix}iB": Fraction(1024) ** power for power, prefix in enumerate("KMGT", start=1)},
}


def _factors(values: Mapping[str, Any], key: str) -> tuple[float, float]:
    value = values[key]
    if not value:
        return 1.0, 1.0
    return values[f"{key}_low"] / value, values[f"{key}_high"] / value


def _of_parts(value: float, parts: Mapping[str, Part]) -> Quantity:
    low = sum(part.value * part.low_factor for part in parts.values())
    high = sum(part.value * part.high_factor for part in parts.values())
    return Quantity(value, min(low, value), max(high, value), parts)


def _energy(report: Report) -> Quantity | None:
    energy = report["energy"]
    if energy["joules"] is None:
        return None
    low, high = _factors(energy, "joules")
    parts = {name: Part(energy[f"{name}_j"] or 0.0, low, high) for name in ("compute", "data", "system")}
    return Quantity(energy["joules"], energy["joules_low"], energy["joules_high"], parts)


def _seconds(report: Report) -> Quantity | None:
    energy = report["energy"]
    if energy["seconds"] is None:
        return None
    low, high = _factors(energy, "seconds")
    priced = [node for node in report["nodes"] if node["seconds"]]
    computing = sum(node["seconds"] for node in priced if node["transistor_operations"])
    moving = sum(node["seconds"] for node in priced if not node["transistor_operations"])
    rest = max(energy["seconds"] - computing - moving, 0.0)
    if rest < energy["seconds"] * _ROUNDING:
        rest = 0.0  # of the sums, not of the run
    shares = {"computing nodes": computing, "moving nodes": moving, "run": rest}
    parts = {name: Part(share, low, high) for name, share in shares.items()}
    return Quantity(energy["seconds"], energy["seconds_low"], energy["seconds_high"], parts)


def _scaled(parts: Mapping[str, Part], to: float, prefix: str = "") -> dict[str, Part]:
    """The same shares with the same errors, of another total."""
    total = sum(part.value for part in parts.values())
    scale = to / total if total else 0.0
    return {
        f"{prefix}{name}": Part(part.value * scale, part.low_factor, part.high_factor) for name, part in parts.items()
    }


def _ecal(report: Report) -> Quantity | None:
    ecal, energy = report["ecal"], _energy(report)
    value = ecal["joules_per_bit"]
    if value is None:
        return None
    if "joules_low" in ecal or energy is None:
        return _of_parts(value, _life_cycle(ecal, value))
    return _of_parts(value, _scaled(energy.parts, value))


def _life_cycle(ecal: Mapping[str, Any], value: float) -> dict[str, Part]:
    """A life cycle knows which of its stages come with an interval; without any its energy is given, not predicted."""
    known = bool(ecal["joules"]) and ecal.get("joules_low") is not None
    return {"life cycle": Part(value, *(_factors(ecal, "joules") if known else (1.0, 1.0)))}


def _co2e(report: Report) -> Quantity | None:
    carbon, energy, seconds = report["carbon"], _energy(report), _seconds(report)
    operational, embodied = carbon["operational_g"], carbon["embodied_g"]
    if operational is None or energy is None or seconds is None:
        return None
    inference_only = carbon.get("covers", "inference") == "inference"
    parts = _scaled(energy.parts, operational) if inference_only else _life_cycle(report["ecal"], operational)
    if embodied is not None:
        parts |= _scaled(seconds.parts, embodied, "embodied ")
    return _of_parts(operational + (embodied or 0.0), parts)


def _exactly(value: int | None) -> Quantity | None:
    return None if value is None else Quantity(value, value, value)


def _peak_memory(report: Report) -> Quantity | None:
    activations = report["totals"]["peak_activation_bytes"]
    return None if activations is None else _exactly(activations + report["model"]["parameter_bytes"])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("energy", "J", _JOULES, False, _energy, "3 J", "energy_j"),
        Metric("seconds", "s", _SECONDS, False, _seconds, "20 ms", "seconds"),
        Metric("co2e", "g", _GRAMS, False, _co2e, "1 mg", "energy_j"),
        Metric("ecal", "J/bit", _JOULES_PER_BIT, False, _ecal, "300 nJ/bit", "energy_j"),
        Metric(
            "transistor_operations",
            "",
            _COUNTS,
            True,
            lambda report: _exactly(report["totals"]["transistor_operations"]),
            "50 T",
            "transistor_operations",
        ),
        Metric("macs", "", _COUNTS, True, lambda report: _exactly(report["totals"]["macs"]), "4 G", "macs"),
        Metric("peak_memory", "B", _BYTES, True, _peak_memory, "200 MB"),
        Metric("parameters", "", _COUNTS, True, lambda report: _exactly(report["model"]["parameters"]), "25 M"),
    )
}


def find_metric(name: str, place: str) -> Metric:
    """The metric of a name.

    Args:
        name: of the metric.
        place: what the user wrote, to begin the message with.

    Raises:
        PolicyError: if there is none; the message suggests one.
    """
    if name in METRICS:
        return METRICS[name]
    raise PolicyError(
        f"{place}: {name!r} is no metric;{suggestion(name, METRICS)} expected one of {', '.join(METRICS)}"
    )


def parse_value(metric: Metric, text: str, place: str) -> Number:
    """A value with its unit, in SI units; an int for counts and bytes.

    Args:
        metric: that the value is of.
        text: for example ``3 kJ``; counts may go without a unit.
        place: what the user wrote, to begin the message with.

    Raises:
        PolicyError: if the number or the unit does not fit.
    """
    text = text.strip()
    match = _NUMBER.match(text)
    expected = f"expected a number and a unit, for example {metric.name}={metric.example}"
    if match is None:
        raise PolicyError(f"{place}: {text!r} does not begin with a number; {expected}")
    unit = text[match.end() :].strip()
    if unit not in metric.units:
        listed = ", ".join(name for name in metric.units if name and name[0] not in "µμ")
        if not unit:
            raise PolicyError(f"{place}: a bare number has no unit; {expected} (units: {listed})")
        near = suggestion(unit, metric.units)
        raise PolicyError(f"{place}: {unit!r} is no unit of {metric.name};{near} expected one of {listed}")
    value = Fraction(match.group().replace("_", "")) * metric.units[unit]
    if not metric.exact:
        return float(value)
    if value.denominator != 1:
        raise PolicyError(f"{place}: {text} is no whole number of {metric.unit or metric.name}")
    return int(value)


def parse_share(text: str, place: str) -> Fraction:
    """A tolerance: ``5%`` is 1/20.

    Raises:
        PolicyError: if it is not a number with a percent sign.
    """
    text = text.strip()
    match = _NUMBER.match(text)
    if match is None or text[match.end() :].strip() != "%":
        raise PolicyError(f"{place}: expected a percentage that is not negative, for example 5%, found {text!r}")
    return Fraction(match.group().replace("_", "")) / 100


def share_coefficients(first: Report, second: Report) -> bool:
    """Whether both reports priced the same coefficients, so that the errors of these cancel in a difference."""
    one, other = first["energy"], second["energy"]
    if any(one[key] != other[key] for key in ("hardware", "source", "provider", "interval")):
        return False
    return all(
        abs(left - right) <= _ROUNDING * max(left, right)
        for key in ("joules", "seconds")
        for left, right in zip(_known_factors(one, key), _known_factors(other, key), strict=False)
    )


def _known_factors(energy: Mapping[str, Any], key: str) -> tuple[float, ...]:
    return _factors(energy, key) if energy[key] else ()


def difference(first: Quantity, second: Quantity, *, paired: bool) -> Difference:
    """How much the second value is above the first, with an interval.

    Paired values share coefficients. Each part of a value (arithmetic, bytes moved, static power; for seconds the nodes
    that compute, those that move) has one unknown factor, the same in both values: the interval of the difference is
    what remains over all factors. Values that are not paired are told apart only if their intervals do not meet.
    """
    value = second.value - first.value
    if not first.parts and not second.parts:
        return Difference(value, value, value, paired, True)
    if not paired:
        low, high = second.low - first.high, second.high - first.low
        return Difference(value, low, high, False, low > 0 or high < 0)
    nothing = Part(0.0, 1.0, 1.0)
    lows, highs = [], []
    for name in first.parts.keys() | second.parts.keys():
        one, other = first.parts.get(name, nothing), second.parts.get(name, nothing)
        above = other.value - one.value
        if abs(above) <= _ROUNDING * max(one.value, other.value):
            continue
        source = one if one.value else other
        ends = sorted((above * source.low_factor, above * source.high_factor))
        lows.append(ends[0])
        highs.append(ends[1])
    if not lows:
        return Difference(0.0, 0.0, 0.0, True, True)
    low, high = sum(lows), sum(highs)
    return Difference(value, low, high, True, low > 0 or high < 0)


def pareto_front(points: Iterable[tuple[Number, Number, int]]) -> tuple[int, ...]:
    """Indices of the points that no other beats in both coordinates, by the first.

    Args:
        points: (first coordinate, second, index); less is better.
    """
    found = list(points)
    front = [
        (x, y, index) for x, y, index in found if not any(a <= x and b <= y and (a < x or b < y) for a, b, _ in found)
    ]
    return tuple(index for _, _, index in sorted(front))


def exceeds(value: Number, limit: Number) -> bool:
    """Whether a value is above a limit, beyond the rounding of a sum for modelled values."""
    if isinstance(value, int) and isinstance(limit, int):
        return value > limit
    return value > limit * (1 + _ROUNDING)
