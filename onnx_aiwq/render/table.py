"""The report as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from onnx_aiwq.render.console import printed
from onnx_aiwq.render.summary import COLUMNS, cost_rows, facts, heading, sparkline, total_row
from onnx_aiwq.render.views import live_bytes


def render_table(
    report: Mapping[str, Any],
    *,
    width: int | None = None,
    colour: bool = False,
    by: str = "operator",
    top: int | None = None,
    terminal: bool = False,
) -> str:
    """Write costs, totals and every figure with its provenance; names from the file are never taken as markup."""
    return printed(
        [Text(heading(report), style="bold"), _costs(report, by, top), _facts(report, terminal)], width, colour
    )


def _costs(report: Mapping[str, Any], by: str, top: int | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    for column, footer in zip((by, *COLUMNS), total_row(report), strict=True):
        # A number that is cut off is another number: names alone give way.
        name = column == by
        table.add_column(
            column,
            justify="left" if name else "right",
            footer=Text(footer),
            no_wrap=not name and column != "nodes",  # a gap among them takes words
            overflow="fold",
            min_width=None if name else max(len(footer), len(column)),
        )
    for row in cost_rows(report, by, top):
        table.add_row(*map(Text, row))
    return table


def _facts(report: Mapping[str, Any], terminal: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, value, provenance in facts(report):
        line = Text(value)
        drawn = sparkline(live_bytes(report)) if terminal and name == "activations" else ""
        if drawn:
            line.append(f"  {drawn}")
        line.append(f"\n{provenance}", style="dim")
        table.add_row(Text(name, style="bold"), line)
    return table
