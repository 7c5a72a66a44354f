"""The report as a table for a terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnx_aiwq.render.summary import OPERATOR_COLUMNS, facts, heading, operator_rows, total_row


def render_table(report: Mapping[str, Any], *, width: int | None = None, colour: bool = False) -> str:
    """Write operators, totals and every figure with its provenance; names from the file are never taken as markup."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    console.print(Text(heading(report), style="bold"))
    console.print(_operators(report))
    console.print(_facts(report))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _operators(report: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    for column, footer in zip(OPERATOR_COLUMNS, total_row(report), strict=True):
        table.add_column(column, justify="left" if column == "operator" else "right", footer=Text(footer))
    for row in operator_rows(report):
        table.add_row(*map(Text, row))
    return table


def _facts(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, value, provenance in facts(report):
        line = Text(value)
        line.append(f"\n{provenance}", style="dim")
        table.add_row(Text(name, style="bold"), line)
    return table
