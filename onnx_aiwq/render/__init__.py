"""The report in the forms that people and programs read.

Every renderer takes the JSON report, so that saved ones render too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMATS = ("table", "json", "markdown", "csv")


def render(
    report: Mapping[str, Any],
    form: str,
    *,
    width: int | None = None,
    colour: bool = False,
    by: str | None = None,
    top: int | None = None,
    terminal: bool = False,
) -> str:
    """Write a report in one of `FORMATS`.

    Args:
        report: a JSON report (`Report.to_dict()`).
        form: table, json, markdown or csv.
        width: columns of the table; the terminal's unless given.
        colour: whether the table may hold ANSI colours.
        by: what a row is: one of `onnx_aiwq.render.views.GROUPS`; the operator, in CSV the node, if None.
        top: the costliest rows alone, the rest as one.
        terminal: whether the table may hold drawings that only a terminal is sure to show.
    """
    if form == "table":
        from onnx_aiwq.render.table import render_table

        return render_table(report, width=width, colour=colour, by=by or "operator", top=top, terminal=terminal)
    from onnx_aiwq.render import text

    if form == "markdown":
        return text.render_markdown(report, by or "operator", top)
    return text.render_csv(report, by, top) if form == "csv" else text.render_json(report)
