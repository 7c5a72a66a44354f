"""A sweep along one dimension, as a table or as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from onnx_aiwq.render.listing import write_rows
from onnx_aiwq.render.summary import heading, plain
from onnx_aiwq.symbolic_cost import SweepPoint
from onnx_aiwq.units import format_bytes, format_si

_COLUMNS = ("BOs", "TOs", "MACs", "bytes", "energy", "time", "growth")


def render_sweep(
    report: Mapping[str, Any], name: str, points: Sequence[SweepPoint], form: str, width: int | None
) -> str:
    """Write a sweep; `growth` is the exponent of transistor operations in the swept dimension since the last point.

    Args:
        report: the JSON report of the model; in JSON the sweep is added to it as ``sweep``.
        name: of the swept dimension.
        points: in order.
        form: table, json, markdown or csv.
        width: columns of the table.
    """
    if form == "json":
        return (
            json.dumps({**report, "sweep": {"dimension": name, "points": list(map(_entry, points))}}, indent=2) + "\n"
        )
    if form == "csv":
        entries = [_entry(point) for point in points]
        columns = tuple(entries[0])
        rows = [tuple("" if entry[key] is None else str(entry[key]) for key in columns) for entry in entries]
        return write_rows(columns, rows, "csv", width)
    body = write_rows((plain(name), *_COLUMNS), [_row(point) for point in points], form, width)
    return body if form == "markdown" else f"{heading(report)}\n\n{body}"


def _row(point: SweepPoint) -> tuple[str, ...]:
    return (
        str(point.value),
        format_si(sum(point.counts.basic_operations().values()), digits=4),
        format_si(point.transistor_operations, digits=4),
        format_si(point.counts.macs, digits=4),
        format_bytes(point.bytes_moved),
        format_si(point.energy.joules, "J"),
        format_si(point.energy.seconds, "s"),
        "" if point.growth is None else f"{point.growth:.3f}",
    )


def _entry(point: SweepPoint) -> dict[str, Any]:
    energy = point.energy
    return {
        "value": point.value,
        "basic_operations": sum(point.counts.basic_operations().values()),
        "transistor_operations": point.transistor_operations,
        "macs": point.counts.macs,
        "bytes_moved": point.bytes_moved,
        "joules": energy.joules,
        "joules_low": energy.joules_low,
        "joules_high": energy.joules_high,
        "seconds": energy.seconds,
        "growth": point.growth,
    }
