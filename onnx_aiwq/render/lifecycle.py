"""A life cycle as a table, JSON, Markdown or CSV: every stage with its joules, share and basis; and a sweep of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_aiwq.render.listing import write_rows
from onnx_aiwq.render.summary import carbon_facts, plain
from onnx_aiwq.units import format_count, format_si

_STAGE_COLUMNS = ("stage", "energy", "share", "basis")
_SWEEP_COLUMNS = ("inferences", "energy", "bits", "eCAL", "of the limit", "operational CO2e")


def render_life_cycle(document: Mapping[str, Any], form: str, width: int | None) -> str:
    """Write a life cycle.

    Args:
        document: ``ecal``, ``carbon`` (or None) and ``warnings``, with ``sweep`` for a sweep.
        form: table, json, markdown or csv.
        width: columns of the table.
    """
    if form == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    if "sweep" in document:
        return _sweep(document, form, width)
    rows = [*_stages(document["ecal"])]
    if form == "csv":
        return write_rows(("stage", "joules", "basis"), _exact(document["ecal"]), form, width)
    stages = write_rows(_STAGE_COLUMNS, rows, form, None)
    facts = [*_facts(document)]
    return f"{stages}\n{write_rows(('figure', 'value', 'what it is'), facts, form, None)}"


def _stages(ecal: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for stage, joules in ecal["by_stage"].items():
        share = f"{100 * joules / ecal['joules']:.1f} %" if joules is not None and ecal["joules"] else ""
        basis = ecal["basis"].get(stage, "overhead on all others" if stage == "virtualization" else "")
        unknown = "unknown" if basis else "not covered"
        yield stage, unknown if joules is None else format_si(joules, "J", 4), share, plain(basis)
    yield "total", format_si(ecal["joules"], "J", 4), "100 %" if ecal["joules"] else "", plain(ecal["scope"])


def _exact(ecal: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = [
        (stage, "" if joules is None else repr(joules), ecal["basis"].get(stage, ""))
        for stage, joules in ecal["by_stage"].items()
    ]
    total = "" if ecal["joules"] is None else repr(ecal["joules"])
    return [*rows, ("total", total, ecal["scope"])]


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    ecal, details = document["ecal"], document["ecal"]["details"]
    exact = "unknown" if ecal["joules_per_bit"] is None else f"{ecal['joules_per_bit']:.8g} J/bit"
    bits = format_count(ecal["bits"])
    yield "eCAL", exact, f"{format_count(ecal['inferences'])} inferences, {bits} bit; eCAL eq. 30 over all bits"
    if ecal["joules_low"] is not None:
        spread = f"{format_si(ecal['joules_low'], 'J')} to {format_si(ecal['joules_high'], 'J')}"
        yield "interval", spread, "of the total; the ends of the profiles' intervals, links and constants as they are"
    yield "limit", format_si(details["limit_j_per_bit"], "J/bit", 4), "eCAL with ever more inferences"
    per_bit = format_si(details["development_j_per_bit"], "J/bit", 4)
    yield (
        "development",
        per_bit,
        f"{format_si(ecal['development_j'], 'J', 4)}; without virtualization, as the paper quotes it",
    )
    per_bit = format_si(details["inference_j_per_bit"], "J/bit", 4)
    parts = ", ".join(
        f"{name} {format_si(details[f'inference_{name}_j'], 'J')}"
        for name in ("transmission", "preprocessing", "model")
        if details[f"inference_{name}_j"] is not None
    )
    yield "inference", per_bit, f"{format_si(ecal['inference_j'], 'J', 4)}: {parts}; without virtualization"
    even = ecal["break_even_inferences"]
    yield "break-even", "unknown" if even is None else f"{even:,.0f} inferences", "cost as much as development"
    if document["carbon"] is not None:
        yield from carbon_facts(document["carbon"])


def _sweep(document: Mapping[str, Any], form: str, width: int | None) -> str:
    points: Sequence[Mapping[str, Any]] = document["sweep"]
    if form == "csv":
        columns = tuple(points[0])
        rows = [tuple("" if point[key] is None else str(point[key]) for key in columns) for point in points]
        return write_rows(columns, rows, form, width)
    return write_rows(_SWEEP_COLUMNS, [_point(point) for point in points], form, width)


def _point(point: Mapping[str, Any]) -> tuple[str, ...]:
    over = point["over_limit"]
    per_bit = point["joules_per_bit"]
    return (
        format_count(point["inferences"]),
        format_si(point["joules"], "J", 4),
        format_si(point["bits"], "bit"),
        "unknown" if per_bit is None else f"{per_bit:.6g} J/bit",
        "" if over is None else f"x {over:.4g}",
        "" if point["operational_g"] is None else format_si(point["operational_g"], "g"),
    )
