"""What pictures show, from the JSON report alone, so that a saved one draws too: curves, groups and places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

Report = Mapping[str, Any]
GROUPS = ("operator", "node", "dtype", "scope")
MAX_CURVE_INFERENCES = 10**12
_POINTS_PER_DECADE = 4
_SHOWN_REGIONS = (
    "OWID_WRL OWID_EU27 NOR SWE CHE FRA FIN BRA CAN GBR ESP IRL NLD ITA DEU USA JPN KOR SGP CHN AUS POL IND ZAF"
)
"""Grids that a chart has room for: large ones, and where data centres stand."""


@dataclass(frozen=True, slots=True)
class Group:
    """Some nodes together; a figure is None where it is known of none of them.

    Attributes:
        name: of what they share.
        nodes: how many.
        basic_operations: of all kinds.
        transistor_operations: TOs.
        macs: multiply-accumulate pairs.
        bytes_moved: read and written.
        joules: J.
        not_counted: how many nodes of them the figures leave out.
    """

    name: str
    nodes: int
    basic_operations: int | None
    transistor_operations: int | None
    macs: int | None
    bytes_moved: int | None
    joules: float | None
    not_counted: int = 0


def upper_bounds(report: Report) -> int:
    """How many nodes have counts or bytes that are upper bounds; reports of early versions do not say."""
    return sum(entry.get("bound", 0) for entry in report["by_operator"].values())


def groups(report: Report, by: str) -> list[Group]:
    """The nodes of a report by operator, node, data type or scope, the costliest first.

    Args:
        report: the JSON report.
        by: one of `GROUPS`.
    """
    if by == "operator":
        found = [_operator_group(name, entry) for name, entry in report["by_operator"].items()]
    elif by == "node":
        found = [_group(node["name"], [node]) for node in report["nodes"]]
    else:
        name_of: Callable[[Mapping[str, Any]], str] = scope_of if by == "scope" else _dtype_of
        members: dict[str, list[Mapping[str, Any]]] = {}
        for node in report["nodes"]:
            members.setdefault(name_of(node), []).append(node)
        found = [_group(name, nodes) for name, nodes in members.items()]
    return sorted(found, key=lambda group: (-(group.joules or 0.0), -(group.transistor_operations or 0), -group.nodes))


def _operator_group(name: str, entry: Mapping[str, Any]) -> Group:
    """A gap that is whole has counts of 0 in reports of early versions, and of None since."""
    known = entry["unsupported"] < entry["nodes"]
    operations = entry["basic_operations"]
    return Group(
        name,
        entry["nodes"],
        _total(operations.values()) if known and operations is not None else None,
        entry["transistor_operations"] if known else None,
        entry["macs"] if known else None,
        _total([entry["bytes_read"], entry["bytes_written"]]),
        entry["joules"],
        entry["unsupported"],
    )


def _group(name: str, nodes: list[Mapping[str, Any]]) -> Group:
    operations = [_total(node["basic_operations"].values()) for node in nodes if node["basic_operations"] is not None]
    moved = [_total([node["bytes_read"], node["bytes_written"]]) for node in nodes]
    joules = [node["energy_j"] for node in nodes if node["energy_j"] is not None]
    return Group(
        name,
        len(nodes),
        _total(operations),
        _total(node["transistor_operations"] for node in nodes),
        _total(node["macs"] for node in nodes),
        _total(moved),
        math.fsum(joules) if joules else None,
        sum(node["transistor_operations"] is None for node in nodes),
    )


def _total(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def together(members: Sequence[Group]) -> Group:
    """Several groups as one."""
    joules = [group.joules for group in members if group.joules is not None]
    return Group(
        "",
        sum(group.nodes for group in members),
        _total(group.basic_operations for group in members),
        _total(group.transistor_operations for group in members),
        _total(group.macs for group in members),
        _total(group.bytes_moved for group in members),
        math.fsum(joules) if joules else None,
        sum(group.not_counted for group in members),
    )


def label_of(node: Mapping[str, Any]) -> str:
    """The operator of a node, with its domain where it is not ONNX itself."""
    return f"{node['domain']}.{node['op_type']}" if node["domain"] else str(node["op_type"])


def scope_of(node: Mapping[str, Any]) -> str:
    """Where a node stands: its function or subgraph, then the folders that its exporter put in its name."""
    folders = [part for part in str(node["name"]).split("/")[:-1] if part]
    return "/".join([*(part for part in str(node["scope"]).split("/") if part), *folders])


def _dtype_of(node: Mapping[str, Any]) -> str:
    return str(node["dtype"] or "none")


# --- memory ------------------------------------------------------------------------------------------------------


def live_bytes(report: Report) -> list[int | None]:
    """Bytes of live activations while each node runs; None where that is not known, or the report is an older one."""
    return [node.get("live_activation_bytes") for node in report["nodes"]]


# --- compute against traffic -------------------------------------------------------------------------------------


def balance_to_per_byte(report: Report) -> float | None:
    """TO per byte at which arithmetic and traffic cost the same joules, by the mean coefficients of this report."""
    energy, totals = report["energy"], report["totals"]
    moved = totals["bytes_read"] + totals["bytes_written"]
    operations = totals["transistor_operations"]
    if not energy["compute_j"] or not energy["data_j"] or not moved or not operations:
        return None
    return float((energy["data_j"] / moved) / (energy["compute_j"] / operations))


# --- eCAL against inferences -------------------------------------------------------------------------------------


class EcalCurve(msgspec.Struct, frozen=True):
    """eCAL as a function of the number of inferences.

    Attributes:
        points: (inferences, J/bit).
        inferences: that the report is for.
        joules_per_bit: there.
        break_even: inferences that spend what development spent; None where there was none.
    """

    points: tuple[tuple[float, float], ...]
    inferences: int
    joules_per_bit: float
    break_even: float | None


def ecal_curve(report: Report) -> EcalCurve | None:
    """eCAL over some decades of inferences; None where the report does not know it.

    Development stays, the energy and the bits of inferences grow with their number, and virtualization is a share of
    both: the parts of the ``ecal`` object say all of it, up to the whole packets that links send.
    """
    ecal = report["ecal"]
    here, count = ecal["joules_per_bit"], ecal["inferences"]
    if not here or not ecal["inference_j"]:
        return None
    development_j = ecal["development_j"] or 0.0
    per_bit = ecal["details"].get("development_j_per_bit")
    development_bits = development_j / per_bit if per_bit else 0.0
    overhead = ecal["joules"] / (development_j + ecal["inference_j"])
    inference_j, inference_bits = ecal["inference_j"] / count, (ecal["bits"] - development_bits) / count
    even = ecal["break_even_inferences"]
    points = tuple(
        (number, overhead * (development_j + number * inference_j) / (development_bits + number * inference_bits))
        for number in _numbers(count, even)
    )
    return EcalCurve(points, count, here, even)


def _numbers(count: int, even: float | None) -> Iterator[float]:
    last = max(count, even or 1.0, 1e6)
    decades = min(math.ceil(math.log10(last)) + 1, round(math.log10(MAX_CURVE_INFERENCES)))
    found = {float(round(10 ** (step / _POINTS_PER_DECADE))) for step in range(decades * _POINTS_PER_DECADE + 1)}
    yield from sorted({*found, float(count)})


# --- regions -----------------------------------------------------------------------------------------------------


class RegionGrams(msgspec.Struct, frozen=True):
    """Operational gCO2e in one grid region.

    Attributes:
        code: of the region.
        name: of the region.
        intensity_g_per_kwh: gCO2e/kWh.
        year: of the intensity; None where it was given by hand.
        grams: gCO2e.
        shown: whether a chart of some regions has it.
    """

    code: str
    name: str
    intensity_g_per_kwh: float
    year: int | None
    grams: float
    shown: bool


def region_grams(report: Report) -> list[RegionGrams]:
    """The same energy at the same PUE in every country and aggregate, the cleanest first; none where it is unknown.

    The report's own place is among them with the intensity that the report has, be it of a cloud region, of another
    year or given by hand.
    """
    from onnx_aiwq.metrics.regions import list_regions

    carbon = report["carbon"]
    grams, intensity, here = carbon["operational_g"], carbon["intensity_g_per_kwh"], carbon["region"] or "given"
    if grams is None or not intensity:
        return []
    regions = [each for each in list_regions() if ":" not in each.code]
    names = {each.code: each.name for each in regions}
    found = [
        RegionGrams(
            each.code,
            each.name,
            each.intensity_g_per_kwh,
            each.year,
            grams * each.intensity_g_per_kwh / intensity,
            each.code in _SHOWN_REGIONS.split(),
        )
        for each in regions
        if each.code != here
    ]
    found.append(RegionGrams(here, names.get(here, here), intensity, carbon["year"], grams, True))
    return sorted(found, key=lambda each: (each.grams, each.code))
