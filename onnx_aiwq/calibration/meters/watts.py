"""How many watts a processor draws at a load, from published figures; the basis of the power model.

Three kinds of published figures are asked, and where they differ, the interval says by how much:

- TDP: the datasheet's TDP times a curve over load (Boavizta's ratios, and its curve of the processor's range).
- SPECpower: lowest and highest watts per vCPU of the microarchitecture, linear in load (Cloud Carbon Footprint).
- runner: the curve of one well-known virtual machine (Eco-CI).

A virtual machine is charged its share of the host: its vCPUs times the watts per hardware thread. A physical machine is
charged its packages. A processor that no source knows is refused; there is no default.
"""

from __future__ import annotations

import csv
import functools
import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from onnx_aiwq.calibration.machine import ProcessorIdentity
from onnx_aiwq.calibration.meters.protocol import MeterUnavailableError
from onnx_aiwq.errors import suggestion

FULL_LOAD_SHARE_OF_TDP = 1.02
"""Boavizta's ratio at full load; its curves of processor ranges, given in watts of one part, are scaled to meet it."""
GIVEN_WATTS_LOW = 0.80
GIVEN_WATTS_HIGH = 1.23
GIVEN_WATTS_BASIS = (
    "power as given by --watts, x 0.80 to x 1.23: 5th to 95th percentile of the power of one board under one network, "
    "over its median under 95 or 96 networks (Raspberry Pi 4 and Jetson AGX Xavier, two runtimes each, n=380, MLPerf "
    "Power submissions of Krai, round 2.0)"
)


@dataclass(frozen=True, slots=True)
class PowerEstimate:
    """Watts while a number of threads is busy.

    Attributes:
        watts: point estimate, W, what flows when idle included.
        low: low end, W.
        high: high end, W.
        static_watts: what flows when nothing runs, W; None where it is unknown.
        scope: what the watts cover.
        basis: what the estimate and its interval rest on.
        sources: where the figures come from.
    """

    watts: float
    low: float
    high: float
    static_watts: float | None
    scope: str
    basis: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """What the watts are estimated for.

    Attributes:
        vcpus: hardware threads that the system has.
        virtual: whether they are a virtual machine's, a share of a larger host.
        packages: processor packages, on a physical machine.
    """

    vcpus: int
    virtual: bool
    packages: int = 1


@dataclass(frozen=True, slots=True)
class _Estimate:
    """Watts of the whole host by one figure: idle and at the load that is asked for."""

    group: str
    idle: float
    busy: float
    source: str


def given_watts(watts: float) -> PowerEstimate:
    """The estimate where the user gives the watts; how networks differ on one board is its interval.

    Raises:
        MeterUnavailableError: if the watts are not a positive number.
    """
    if not (math.isfinite(watts) and watts > 0):
        raise MeterUnavailableError(f"power-model: {watts:g} W is no power", "give --watts as a positive number")
    return PowerEstimate(
        watts=watts,
        low=watts * GIVEN_WATTS_LOW,
        high=watts * GIVEN_WATTS_HIGH,
        static_watts=None,
        scope="whatever the given watts cover",
        basis=GIVEN_WATTS_BASIS,
        sources=("--watts",),
    )


def estimate_watts(processor: ProcessorIdentity, host: Host, threads: int) -> PowerEstimate:
    """Watts of a host of which so many hardware threads are busy.

    The point is the median over the kinds of figures (each the median of its own). The interval spans every single
    figure, and is at least as wide as `spread_between_sources` around the point: agreement of few figures is no proof.

    Args:
        processor: the processor, by its name and, where the name tells too little, by its CPUID.
        host: hardware threads, and whether they are a share of a larger machine.
        threads: busy hardware threads, 1 to ``host.vcpus``.

    Raises:
        MeterUnavailableError: if no source knows the processor, or the number of threads is impossible.
    """
    if not 1 <= threads <= host.vcpus:
        raise MeterUnavailableError(
            f"power-model: {threads} busy threads on {host.vcpus} hardware threads", "give --threads within that range"
        )
    part, architecture = _recognise(processor)
    load = 100 * threads / host.vcpus
    figures = _figures(part, architecture, host, load)
    if not figures:
        raise _unknown(processor, part, architecture, host)
    watts, static_watts = _centre(figures, lambda each: each.busy), _centre(figures, lambda each: each.idle)
    spread, pairs = spread_between_sources()
    low = min(watts / spread, *(each.busy for each in figures))
    high = max(watts * spread, *(each.busy for each in figures))
    groups = sorted({each.group for each in figures})
    known_as = part or f"{architecture} (the exact part is hidden or unknown)"
    where = f"{host.vcpus} vCPUs of a virtual machine" if host.virtual else f"{host.packages} package(s)"
    return PowerEstimate(
        watts=watts,
        low=low,
        high=high,
        static_watts=min(static_watts, watts),
        scope=f"{where}, idle share included; sources differ between processor package and whole server",
        basis=(
            f"{known_as}: {threads} of {host.vcpus} hardware threads busy; {len(figures)} figures of "
            f"{len(groups)} kind(s) ({', '.join(groups)}); interval: all of them, and at least a factor {spread:.2f} "
            f"either way, the 90th percentile by which TDP and SPECpower differ on {pairs} server processors; it is a "
            "spread of sources, not an error against a meter"
        ),
        sources=tuple(dict.fromkeys(each.source for each in figures)),
    )


@functools.cache
def spread_between_sources() -> tuple[float, int]:
    """By what factor two kinds of figures differ at full load on one processor: 90th percentile, and how many pairs."""
    host = Host(vcpus=2, virtual=True)
    factors = []
    for row in _table("processor_architectures.csv"):
        for part in _split(row["processors"]):
            by_group: dict[str, list[float]] = {}
            for each in _figures(part, row["architecture"], host, 100.0):
                by_group.setdefault(each.group, []).append(each.busy)
            if "TDP" in by_group and "SPECpower" in by_group:
                ratio = statistics.median(by_group["TDP"]) / statistics.median(by_group["SPECpower"])
                factors.append(max(ratio, 1 / ratio))
    return statistics.quantiles(factors, n=10, method="inclusive")[-1], len(factors)


def _centre(figures: list[_Estimate], value: Callable[[_Estimate], float]) -> float:
    groups = {each.group for each in figures}
    return statistics.median(
        statistics.median(value(each) for each in figures if each.group == group) for group in groups
    )


# --- recognition -------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A processor's name as the hardware list has it, in lower case: no marks, clock, core count or generation."""
    text = re.sub(r"\((?:R|TM)\)|®|™", " ", name, flags=re.IGNORECASE)
    text = re.sub(r"@.*$|\bwith Radeon.*$", " ", text)
    text = re.sub(r"\b(?:CPU|Processor|\d+-Core|\d+(?:th|st|nd|rd) Gen(?= Intel))", " ", text, flags=re.IGNORECASE)
    return " ".join(text.casefold().split())


def _recognise(processor: ProcessorIdentity) -> tuple[str, str]:
    """Name in the hardware list, and microarchitecture; each empty where unknown."""
    wanted = plain_name(processor.name)
    part = next((name for name in _hardware() if plain_name(name) == wanted), "")
    for row in _table("processor_architectures.csv"):
        if part:
            found = part in _split(row["processors"])
        else:
            aliases = [row["architecture"], *_split(row["cloud_names"])]
            found = wanted in (alias.casefold() for alias in aliases) or _has_cpuid(processor, row)
        if found:
            return part, row["architecture"]
    return part, ""


def _has_cpuid(processor: ProcessorIdentity, row: Mapping[str, str]) -> bool:
    # Desktop parts share CPUIDs with servers: their figures are others, so the brand has to be the server's too.
    return (
        bool(row["vendor"])
        and processor.vendor == row["vendor"]
        and processor.family == int(row["family"])
        and _within(processor.model, row["models"])
        and (not row["steppings"] or _within(processor.stepping, row["steppings"]))
        and row["name_contains"].casefold() in processor.name.casefold()
    )


def _within(value: int, span: str) -> bool:
    first, _, last = span.partition("-")
    return int(first) <= value <= int(last or first)


def _unknown(processor: ProcessorIdentity, part: str, architecture: str, host: Host) -> MeterUnavailableError:
    next_step = "give the watts that it draws with --watts W (a plug meter, the vendor's figure)"
    if not part and not architecture:
        near = suggestion(plain_name(processor.name), _hardware())
        return MeterUnavailableError(f"power-model: no source knows the processor {processor.name!r};{near}", next_step)
    kind = "a virtual machine's share of it" if host.virtual else "it"
    return MeterUnavailableError(
        f"power-model: {part or architecture} is known, but no source gives watts for {kind} (it needs TDP and cores)",
        next_step,
    )


# --- figures -----------------------------------------------------------------------------------------------------


def _figures(part: str, architecture: str, host: Host, load: float) -> list[_Estimate]:
    rows = {row["architecture"]: row for row in _table("processor_architectures.csv")}
    row = rows.get(architecture)
    # A hidden part may be any of its architecture.
    parts = [part] if part else (_split(row["processors"]) if row else [])
    found = [each for name in parts for each in _from_tdp(name, row, host, load)]
    if row:
        found += _from_cloud(_split(row["cloud_names"]), host, load)
    if part:
        found += _from_runner(part, host, load)
    return found


def _from_tdp(part: str, row: Mapping[str, str] | None, host: Host, load: float) -> list[_Estimate]:
    sheet = _hardware()[part]
    if not sheet["tdp_w"]:
        return []
    tdp_w = float(sheet["tdp_w"])
    if host.virtual:
        if row is None or not sheet["cores"]:
            return []
        tdp_w *= host.vcpus / (float(sheet["cores"]) * int(row["threads_per_core"]))
    else:
        tdp_w *= host.packages
    return [
        _Estimate("TDP", tdp_w * _share(curve, 0), tdp_w * _share(curve, load), f"{sheet['source']}; {curve['source']}")
        for curve in _table("utilisation_curves.csv")
        if curve["unit"] != "W per vCPU" and _applies(curve, part)
    ]


def _from_cloud(names: list[str], host: Host, load: float) -> list[_Estimate]:
    return [
        _Estimate("SPECpower", host.vcpus * low, host.vcpus * (low + (high - low) * load / 100), row["source"])
        for row in _table("cloud_cpu_watts.csv")
        if row["architecture"] in names
        for low, high in [(float(row["min_watts_per_vcpu"]), float(row["max_watts_per_vcpu"]))]
    ]


def _from_runner(part: str, host: Host, load: float) -> list[_Estimate]:
    return [
        _Estimate("runner", host.vcpus * _power(curve, 0), host.vcpus * _power(curve, load), curve["source"])
        for curve in _table("utilisation_curves.csv")
        if curve["unit"] == "W per vCPU" and host.virtual and _applies(curve, part)
    ]


def _applies(curve: Mapping[str, str], part: str) -> bool:
    return curve["applies_to"] == "*" or part.startswith(curve["applies_to"])


def _share(curve: Mapping[str, str], load: float) -> float:
    """Share of TDP at a load; a curve in watts keeps its shape and is scaled to meet the TDP ratio at full load."""
    if curve["unit"] == "share of TDP":
        return _power(curve, load)
    return FULL_LOAD_SHARE_OF_TDP * _power(curve, load) / _power(curve, 100)


def _power(curve: Mapping[str, str], load: float) -> float:
    """The curve at a load in percent, in its own unit."""
    if curve["form"] == "log":
        a, b, c, d = (float(curve[name]) for name in "abcd")
        return a * math.log(b * (load + c)) + d
    points = [tuple(map(float, point.split(":"))) for point in _split(curve["points"])]
    for (left, low), (right, high) in itertools.pairwise(points):
        if load <= right:
            return low + (high - low) * (load - left) / (right - left)
    return points[-1][1]


def _split(cell: str) -> list[str]:
    return [each for each in cell.split(";") if each]


@functools.cache
def _hardware() -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in _table("hardware.csv") if row["kind"] == "cpu"}


@functools.cache
def _table(name: str) -> tuple[dict[str, str], ...]:
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
