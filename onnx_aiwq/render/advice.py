"""Advice as a table, JSON, Markdown or CSV: every lever with what it saves, assumes and does not know."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from onnx_aiwq.render.listing import write_rows
from onnx_aiwq.render.summary import plain
from onnx_aiwq.render.text import spreadsheet_cell
from onnx_aiwq.units import format_count, format_si

_COLUMNS = ("lever", "change", "joules", "interval", "CO2e", "saving", "eCAL", "time", "weights")
_EXACT = ("joules", "joules_low", "joules_high", "seconds", "grams", "total_g", "ecal_joules_per_bit", "stored_bytes")


def render_advice(document: Mapping[str, Any], form: str, width: int | None) -> str:
    """Write advice.

    Args:
        document: of schema ``onnx_aiwq.advice/1``.
        form: table, json, markdown or csv.
        width: of a terminal, which long texts are folded for; whole lines if None.
    """
    if form == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    if form == "csv":
        return _csv(document)
    rows = [_row("as it is", "", document["baseline"], ""), *map(_lever_row, document["levers"])]
    notes = [*_notes(document)]
    levers = write_rows(_COLUMNS, rows, form, width)
    return f"{levers}\n{write_rows(('change', 'what', 'note'), notes, form, width)}"


def _row(name: str, change: str, figures: Mapping[str, Any], saving: str) -> tuple[str, ...]:
    low, high = figures["joules_low"], figures["joules_high"]
    interval = "unknown" if low is None or high is None else f"{format_si(low, 'J')} to {format_si(high, 'J')}"
    return (
        name,
        plain(change),
        format_si(figures["joules"], "J"),
        interval,
        format_si(figures["grams"], "g"),
        saving,
        format_si(figures["ecal_joules_per_bit"], "J/bit"),
        format_si(figures["seconds"], "s"),
        format_si(figures["stored_bytes"], "B"),
    )


def _lever_row(lever: Mapping[str, Any]) -> tuple[str, ...]:
    if lever["after"] is None:
        return (lever["name"], plain(lever["change"]), "not computed", *[""] * 6)
    saving = lever["saving"]
    share = saving["joules_share"] if saving["grams_share"] is None else saving["grams_share"]
    shown = "unknown" if share is None else f"{100 * share:.3g} %"
    return _row(lever["name"], lever["change"], lever["after"], shown)


def _notes(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    base = document["baseline"]
    inferences = f"{format_count(base['inferences'])} inference(s), {base['covers']}; {base['scope']} energy"
    yield "as it is", "covers", f"{inferences}, {base['interval']:.0%} interval, {base['source']}: {base['hardware']}"
    place = f"{plain(base['region'] or 'given intensity')}: {base['intensity_g_per_kwh']:g} g/kWh, PUE {base['pue']:g}"
    yield "all", "CO2e", f"operational; {place}"
    if base["partial"]:
        yield "all", "partial", "operators without a count are in no number here"
    for lever in document["levers"]:
        change = plain(lever["change"])
        if lever["reason"]:
            yield change, "not computed", plain(lever["reason"])
        for what, key in (("assumes", "assumes"), ("unknown", "unknown")):
            if lever[key]:
                yield change, what, plain("; ".join(lever[key]))
        if "joules_per_element_before" in lever["details"]:
            yield change, "per element", _per_element(lever["details"])


def _per_element(details: Mapping[str, Any]) -> str:
    pairs = (
        f"{format_si(details[f'joules_per_{of}_before'], 'J')} to {format_si(details[f'joules_per_{of}_after'], 'J')}"
        f" per {of}"
        for of in ("inference", "element")
    )
    return f"{', '.join(pairs)} of {plain(details['dimension'])}"


def _csv(document: Mapping[str, Any]) -> str:
    """One row per lever with exact numbers; empty where unknown."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = ["name", "change", *(f"{key}_{when}" for key in _EXACT for when in ("before", "after"))]
    writer.writerow([*columns, "joules_saved", "grams_saved", "assumes", "unknown", "reason"])
    for lever in document["levers"]:
        after = lever["after"] or {}
        numbers = [figures.get(key) for key in _EXACT for figures in (lever["before"], after)]
        saved = [lever["saving"][key] for key in ("joules", "grams")]
        words = ["; ".join(lever["assumes"]), "; ".join(lever["unknown"]), lever["reason"] or ""]
        texts = map(spreadsheet_cell, (lever["name"], lever["change"]))
        writer.writerow([*texts, *numbers, *saved, *map(spreadsheet_cell, words)])
    return stream.getvalue()
