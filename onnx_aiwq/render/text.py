"""The report as JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from onnx_aiwq.render.summary import COLUMNS, cost_rows, facts, heading, plain, total_row
from onnx_aiwq.render.views import Group, groups, together

_NODES_HERE = "nodes"
# With the full-width forms, which some spreadsheets read as the same.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NODE_COLUMNS = ("name", "op_type", "domain", "scope", "repeats", "status", "dtype")
_NODE_NUMBERS = ("transistor_operations", "macs", "bytes_read", "bytes_written", "energy_j", "seconds")


def render_json(report: Mapping[str, Any]) -> str:
    """The JSON report itself, one node per line.

    An indented list of nodes would be written by the slow encoder of the standard library, and be four times as long.
    """
    lines = ",\n    ".join(json.dumps(node, allow_nan=False) for node in report["nodes"])
    text = json.dumps({**report, "nodes": [_NODES_HERE]}, indent=2, allow_nan=False)
    # The line breaks around the mark are none that a name could hold unescaped, so it is met once.
    mark = f'"nodes": [\n    {json.dumps(_NODES_HERE)}\n  ]'
    return text.replace(mark, f'"nodes": [\n    {lines}\n  ]', 1) + "\n"


def render_markdown(report: Mapping[str, Any], by: str = "operator", top: int | None = None) -> str:
    """Two Markdown tables: operators (or what `by` says), then every figure with its provenance."""
    lines = [f"### {_cell(heading(report))}", "", markdown_row((by, *COLUMNS)), markdown_row(["---"] + ["---:"] * 6)]
    lines += [markdown_row(row) for row in cost_rows(report, by, top)]
    lines.append("| " + " | ".join(f"**{_cell(cell)}**" for cell in total_row(report)) + " |")
    lines += ["", markdown_row(["figure", "value", "provenance"]), markdown_row(["---"] * 3)]
    lines += [markdown_row(row) for row in facts(report)]
    return "\n".join(lines) + "\n"


def markdown_row(cells: Iterable[str]) -> str:
    """One line of a Markdown table; cells cannot break out of it."""
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return re.sub(r"([\\`*_\[\]!|~])", r"\\\1", plain(text)).replace("&", "&amp;").replace("<", "&lt;")


def render_csv(report: Mapping[str, Any], by: str | None = None, top: int | None = None) -> str:
    """One row per node, or per group of `by`; cells that a spreadsheet would take as a formula are neutralised."""
    if by is not None or top is not None:
        return _grouped_csv(report, by or "node", top)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    operations = list(report["totals"]["basic_operations"])
    writer.writerow([*_NODE_COLUMNS, *operations, *_NODE_NUMBERS])
    for node in report["nodes"]:
        counts = node["basic_operations"] or {}
        numbers = [*(counts.get(op) for op in operations), *(node[column] for column in _NODE_NUMBERS)]
        writer.writerow([*(spreadsheet_cell(node[column]) for column in _NODE_COLUMNS), *numbers])
    return stream.getvalue()


def _grouped_csv(report: Mapping[str, Any], by: str, top: int | None) -> str:
    """The costliest first, with exact numbers; empty where unknown."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    found = groups(report, by)
    columns = [field.name for field in fields(Group)][1:]
    writer.writerow([by, *columns])
    rest = [replace(together(found[top:]), name=f"{len(found) - top} more")] if top and found[top:] else []
    for group in (*found[:top], *rest):
        writer.writerow([spreadsheet_cell(group.name), *(getattr(group, column) for column in columns)])
    return stream.getvalue()


def spreadsheet_cell(value: object) -> str:
    """Text that no spreadsheet takes as a formula."""
    text = plain(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA_STARTS) else text
