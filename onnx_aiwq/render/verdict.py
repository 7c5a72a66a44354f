"""The verdict of the gate as table, JSON, Markdown and CSV, and as the summary of a CI job.

Every renderer takes the JSON verdict. What comes from a model file is never taken as markup.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_aiwq.quantities import METRICS, Quantity
from onnx_aiwq.render.summary import plain
from onnx_aiwq.render.text import markdown_row, spreadsheet_cell
from onnx_aiwq.units import format_count, format_si

Verdict = Mapping[str, Any]
COLUMNS = ("model", "check", "value", "interval", "limit", "verdict")
WORDS = {"passed": "pass", "undecided": "pass (?)", "failed": "FAIL"}
_STYLES = {"passed": "green", "undecided": "yellow", "failed": "bold red"}
_CSV_COLUMNS = (
    "model", "hardware", "name", "metric", "kind", "unit", "limit", "value", "low", "high", "passed", "status",
    "baseline", "tolerance", "origin", "reason",
)  # fmt: skip
_LISTED_CHECKS = 500
_LISTED_CHANGES = 20


def render_verdict(verdict: Verdict, form: str, *, width: int | None = None, colour: bool = False) -> str:
    """Write a verdict as table, json, markdown or csv.

    Args:
        verdict: the JSON verdict.
        form: of the result.
        width: columns of the table; the terminal's unless given.
        colour: whether the table may hold ANSI colours.
    """
    if form == "json":
        return json.dumps(verdict, indent=2, allow_nan=False) + "\n"
    if form == "markdown":
        return render_summary(verdict)
    if form == "csv":
        return _csv(verdict)
    return _table(verdict, width, colour)


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    checks = verdict["checks"]
    failed = sum(check["status"] == "failed" for check in checks)
    undecided = sum(check["status"] == "undecided" for check in checks)
    parts = [f"{failed} of {_checks(len(checks))} fail" if failed else f"all {_checks(len(checks))} pass"]
    if undecided:
        parts.append(f"{undecided} could not be told apart from the limit")
    return f"aiwq gate: {'passed' if verdict['passed'] else 'FAILED'} ({', '.join(parts)})"


def _checks(number: int) -> str:
    return f"{number} check{'' if number == 1 else 's'}"


def check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    """One check, in the order of `COLUMNS`."""
    metric = METRICS[check["metric"]]
    quantity = Quantity(check["value"], check["low"], check["high"])
    return (
        plain(check["model"]),
        check["name"],
        metric.text(check["value"]),
        metric.interval_text(quantity) or "exact",
        metric.text(check["limit"]),
        WORDS[check["status"]],
    )


def _table(verdict: Verdict, width: int | None, colour: bool) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    console.print(Text(headline(verdict), style="bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(
            column, justify="left" if column in ("model", "check", "verdict") else "right", overflow="fold"
        )
    for check in verdict["checks"]:
        *cells, word = check_row(check)
        table.add_row(*map(Text, cells), Text(word, style=_STYLES[check["status"]]))
    console.print(table)
    for check in verdict["checks"]:
        if check["status"] != "passed":
            console.print(Text(f"{plain(check['model'])}: {check['name']}: {check['reason']}"))
            for line in _contributors(check):
                console.print(Text(f"  {line}"))
    for line in _provenance(verdict):
        console.print(Text(line, style="dim"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _contributors(check: Mapping[str, Any]) -> Iterator[str]:
    for each in check["contributors"]:
        value = format_si(each["value"], each["unit"] or "")
        yield f"{each['share']:4.0%}  {value:>9}  {plain(each['op_type'])}  {plain(each['node'])}"


def _provenance(verdict: Verdict) -> Iterator[str]:
    """How the joules and grams were obtained, once for all models that share it."""
    lines = set()
    for model in verdict["models"]:
        year = f" of {model['intensity_year']}" if model["intensity_year"] else ""
        lines.add(
            f"hardware {plain(model['hardware'])} ({model['source']}, {model['interval']:.0%} intervals); "
            f"{model['convention']}, {model['level']}; {plain(model['region'] or 'given intensity')}: "
            f"{model['intensity_g_per_kwh']:g} gCO2e/kWh{year}"
        )
    yield from sorted(lines)


def _csv(verdict: Verdict) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for check in verdict["checks"]:
        cells = [check[column] for column in _CSV_COLUMNS]
        writer.writerow(
            ["" if cell is None else spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        )
    return stream.getvalue()


def render_summary(verdict: Verdict) -> str:
    """Markdown for the summary of a CI job: checks, what they come from, and what changed since the baseline."""
    lines = [f"### {headline(verdict)}", "", *_markdown_table(COLUMNS, map(check_row, _worst_first(verdict)))]
    hidden = len(verdict["checks"]) - _LISTED_CHECKS
    if hidden > 0:
        lines += ["", f"{hidden} more checks pass."]
    for check in _worst_first(verdict):
        if check["status"] == "passed":
            break
        lines += ["", *_markdown_reason(check)]
    for model in verdict["models"]:
        lines += _markdown_changes(model)
    lines += ["", *(f"{_inline(line)}  " for line in (*_provenance(verdict), *verdict["warnings"]))]
    return "\n".join(lines).rstrip() + "\n\n"


def _worst_first(verdict: Verdict) -> list[Mapping[str, Any]]:
    order = ("failed", "undecided", "passed")
    return sorted(verdict["checks"], key=lambda check: order.index(check["status"]))[:_LISTED_CHECKS]


def _markdown_table(columns: Sequence[str], rows: Any) -> list[str]:
    return [markdown_row(columns), markdown_row(["---"] * len(columns)), *map(markdown_row, rows)]


def _inline(text: object) -> str:
    """Text outside a table, without markup."""
    return markdown_row([plain(text)])[2:-2]


def _markdown_reason(check: Mapping[str, Any]) -> list[str]:
    lines = [f"**{_inline(check['model'])}, {_inline(check['name'])}**: {_inline(check['reason'])}."]
    if check["contributors"]:
        what = "The growth comes from" if check["kind"] == "regression" else "It comes from"
        rows = [
            (each["op_type"], each["node"], format_si(each["value"], each["unit"] or ""), f"{each['share']:.0%}")
            for each in check["contributors"]
        ]
        lines += [f"{what}:", "", *_markdown_table(("operator", "node", "value", "share"), rows)]
    return lines


def _markdown_changes(model: Mapping[str, Any]) -> list[str]:
    top = [
        (each["operator"], str(each["nodes"]), format_si(each["joules"], "J"), _share(each["share"]))
        for each in model["top"]
    ]
    lines = ["", f"**{_inline(model['path'])}**: where its energy goes", ""]
    lines += _markdown_table(("operator", "nodes", "energy", "share"), top)
    changes = model["changes"]
    if changes is None:
        return lines
    if not changes:
        return [*lines, "", "No operator has changed since the baseline."]
    rows = [(each["name"], each["change"], *_before_after(each)) for each in changes[:_LISTED_CHANGES]]
    lines += ["", f"Since the baseline {_inline(model['baseline'])}:", ""]
    lines += _markdown_table(("operator", "change", "nodes", "TOs", "bytes", "energy"), rows)
    if len(changes) > _LISTED_CHANGES:
        lines += ["", f"{len(changes) - _LISTED_CHANGES} more operators changed."]
    return lines


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _before_after(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """`before -> after` of each figure of a change."""
    before, after = entry["before"] or {}, entry["after"] or {}

    def pair(key: str, unit: str = "") -> str:
        one, other = (
            "none" if not side else format_count(side[key]) if key == "nodes" else format_si(side[key], unit)
            for side in (before, after)
        )
        return one if one == other else f"{one} -> {other}"

    return pair("nodes"), pair("transistor_operations"), pair("bytes", "B"), pair("joules", "J")
