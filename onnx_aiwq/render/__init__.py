"""The report in the forms that people and programs read.

Every renderer takes the JSON report, so that saved ones render too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

FORMATS = ("table", "json", "markdown", "csv")


def render(report: Mapping[str, Any], form: str, *, width: int | None = None, colour: bool = False) -> str:
    """Write a report in one of `FORMATS`.

    Args:
        report: a JSON report (`Report.to_dict()`).
        form: table, json, markdown or csv.
        width: columns of the table; the terminal's unless given.
        colour: whether the table may hold ANSI colours.
    """
    if form == "table":
        from onnx_aiwq.render.table import render_table

        return render_table(report, width=width, colour=colour)
    from onnx_aiwq.render import text

    writers: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "json": text.render_json,
        "markdown": text.render_markdown,
        "csv": text.render_csv,
    }
    return writers[form](report)
