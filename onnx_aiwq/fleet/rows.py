"""One row per model and hardware, flat; and one per model that could not be analysed.

A count may be any integer that 38 decimal digits hold, which is why counts are decimals and not 64-bit integers: the
transistor operations of one training step of a large model exceed these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from onnx_aiwq import __version__
from onnx_aiwq.errors import AiwqError

if TYPE_CHECKING:
    from onnx_aiwq.report import Report

Kind = Literal["text", "count", "integer", "number", "flag", "texts"]
Row = dict[str, Any]
COUNT_DIGITS = 38  # of a decimal128

_COUNTS = (
    *("add", "sub", "mul", "div", "root", "compare", "transistor_operations", "macs", "bytes_read", "bytes_written"),
    *("peak_activation_bytes", "parameters", "parameter_bytes"),
)
_NUMBERS = (
    *("joules", "joules_low", "joules_high", "seconds", "seconds_low", "seconds_high", "interval"),
    *("compute_j", "data_j", "system_j", "ecal_j_per_bit", "aw_base"),
    *("intensity_g_per_kwh", "pue", "operational_g", "embodied_g", "co2e_g"),
)
RESULT_COLUMNS: dict[str, Kind] = {
    "model": "text",
    "content_sha256": "text",
    "settings": "text",
    "tool_version": "text",
    "convention": "text",
    "level": "text",
    "hardware_key": "text",
    "hardware_name": "text",
    "joules_source": "text",
    "provider": "text",
    "region": "text",
    "size_bytes": "integer",
    "ir_version": "integer",
    "opsets": "text",
    "producer": "text",
    "bindings": "text",
    "assumed_bindings": "text",
    **dict.fromkeys(("nodes", "counted", "decomposed", "movement", "constant", "unsupported"), "integer"),
    "unsupported_operators": "texts",
    "partial": "flag",
    **dict.fromkeys(_COUNTS, "count"),
    **dict.fromkeys(_NUMBERS, "number"),
}
ERROR_COLUMNS: dict[str, Kind] = {
    "model": "text",
    "content_sha256": "text",
    "settings": "text",
    "tool_version": "text",
    "convention": "text",
    "level": "text",
    "reason": "text",
    "message": "text",
    "size_bytes": "integer",
    "timeout_s": "number",
    "max_memory_bytes": "integer",
}
INVENTORY_COLUMNS: dict[str, Kind] = {
    "model": "text",
    "content_sha256": "text",
    "size_bytes": "integer",
    "version": "text",
    "failed": "flag",
}


class CountRangeError(AiwqError):
    """A count that no column holds."""


def result_row(report: Report, hardware_key: str) -> Row:
    """The figures of a report that a fleet is compared by; the model's name and digest are added where they are known.

    Raises:
        CountRangeError: if a count has more than `COUNT_DIGITS` digits.
    """
    from onnx_aiwq.operations.counting import CONVENTION_NAME
    from onnx_aiwq.report_entries import coverage_entry, model_entry, totals_entry

    model, totals, energy = model_entry(report.graph), totals_entry(report.costs), report.energy.to_dict()
    carbon, operational_g = report.carbon.to_dict(), report.carbon.operational_g
    figures: Mapping[str, Any] = {
        **model,
        **totals["basic_operations"],
        **totals,
        **energy,
        **coverage_entry(report.costs),
        **carbon,
        "tool_version": __version__,
        "convention": CONVENTION_NAME if report.convention == "default" else "paper",
        "level": report.level,
        "hardware_key": hardware_key,
        "hardware_name": report.profile.name,
        "joules_source": energy["source"],
        "opsets": _json(model["opsets"]),
        "bindings": _json(model["bindings"]),
        "assumed_bindings": _json(model["assumed_bindings"]),
        "partial": report.partial,
        "co2e_g": None if operational_g is None else operational_g + (report.carbon.embodied_g or 0.0),
        "peak_activation_bytes": report.peak_activation_bytes,
        "ecal_j_per_bit": report.ecal.joules_per_bit,
        "aw_base": report.workload.aw_base,
    }
    row = {name: figures.get(name) for name in RESULT_COLUMNS}
    for name in _COUNTS:
        count = row[name]
        if count is not None and abs(count) >= 10**COUNT_DIGITS:
            raise CountRangeError(f"{name} has more than {COUNT_DIGITS} digits; check the model's dimensions")
    return {**row, "hardware": report.profile.id}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
