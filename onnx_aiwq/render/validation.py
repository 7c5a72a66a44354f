"""Predicted against measured, for people."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnx_aiwq.render.summary import plain
from onnx_aiwq.render.text import markdown_row
from onnx_aiwq.units import format_si

_OFF_SHARE = 0.01  # of a network's time: a kind of kernel that is further off is shown
_VIEWS = (("exported", "exported file"), ("deployed", "deployed graph"), ("joules", "joules, exported file"))
_SUMMARY_COLUMNS = ("time predicted from", "median", "mean", "worst", "within 10 %", "rank corr.", "networks")
_KERNEL_COLUMNS = ("network", "kernel", "count", "measured", "predicted", "error", "of network")

Rows = list[tuple[str, ...]]
Section = tuple[str, Sequence[str], Rows]


def render_validation(document: Mapping[str, Any], form: str, *, width: int | None = None, colour: bool = False) -> str:
    """Write the object of the schema ``onnx_aiwq.validation/1``.

    Args:
        document: the object.
        form: table, json or markdown.
        width: columns of the table; the terminal's unless given.
        colour: whether the table may hold ANSI colours.
    """
    if form == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    sections = [_networks(document), _summary(document)]
    if any(network["kernels"] for network in document["networks"]):
        sections.append(_kernels(document))
    lines = [*_heading(document), *_coverage(document)]
    return _markdown(sections, lines) if form == "markdown" else _table(sections, lines, width, colour)


def _heading(document: Mapping[str, Any]) -> list[str]:
    hardware, meter = document["hardware"], document["meter"]
    threads = f"{hardware['threads']} thread(s)" if hardware["threads"] else "threads unknown"
    lines = [
        f"hardware: {hardware['id']} ({hardware['name']}); {hardware['provider']}, {threads}, optimisation "
        f"{hardware['optimization']}",
        f"joules: predicted {hardware['source']}; "
        + ("none measured here" if meter is None else f"{meter['label']} here by {meter['name']} ({meter['scope']})"),
    ]
    return [plain(line) for line in lines]


def _coverage(document: Mapping[str, Any]) -> list[str]:
    networks = document["networks"]
    inside = sum(network["covered"] for network in networks)
    return [f"{inside} of {len(networks)} networks inside the {document['interval']:.0%} interval"]


def _networks(document: Mapping[str, Any]) -> Section:
    columns = ["network", "measured", "spread", "predicted", f"{document['interval']:.0%} interval", "inside", "error"]
    columns += ["deployed", "error"]
    metered = document["meter"] is not None
    if metered:
        columns += ["joules", "predicted", "error"]
    rows = []
    for network in document["networks"]:
        row = [
            plain(network["name"]),
            format_si(network["measured_s"], "s"),
            f"{network['spread'] - 1:.1%}",
            format_si(network["predicted_s"], "s"),
            f"{format_si(network['predicted_low_s'], 's')} to {format_si(network['predicted_high_s'], 's')}",
            "yes" if network["covered"] else "no",
            f"{network['error']:+.1%}",
            format_si(network["deployed_s"], "s"),
            f"{network['deployed_error']:+.1%}",
        ]
        if metered:
            off = network["energy_error"]
            row += [format_si(network["measured_j"], "J"), format_si(network["predicted_j"], "J")]
            row.append("unknown" if off is None else f"{off:+.1%}")
        rows.append(tuple(row))
    return "predicted against measured, per inference", columns, rows


def _summary(document: Mapping[str, Any]) -> Section:
    summary = document["summary"]
    rows = [_errors(name, summary[key]) for key, name in _VIEWS if summary[key] is not None]
    rows += [_errors(f"baseline: {name}", errors) for name, errors in summary["baselines"].items()]
    title = "absolute errors; baselines are fitted to the other networks, all but the one that they predict"
    return title, _SUMMARY_COLUMNS, rows


def _errors(name: str, errors: Mapping[str, Any]) -> tuple[str, ...]:
    correlation = errors["rank_correlation"]
    return (
        plain(name),
        *(f"{errors[key]:.1%}" for key in ("median", "mean", "worst")),
        f"{errors['within_10_percent']:.0%}",
        "unknown" if correlation is None else f"{correlation:.3f}",
        str(errors["networks"]),
    )


def _kernels(document: Mapping[str, Any]) -> Section:
    """Kinds of kernels that are off by more than `_OFF_SHARE` of their network's time, the furthest off first."""
    rows: Rows = []
    for network in document["networks"]:
        total = sum(kernel["measured_s"] for kernel in network["kernels"])
        for kernel in network["kernels"]:
            off_s = kernel["predicted_s"] - kernel["measured_s"]
            if total and abs(off_s) > _OFF_SHARE * total:
                rows.append(
                    (
                        plain(network["name"]),
                        plain(kernel["kind"]),
                        str(kernel["count"]),
                        format_si(kernel["measured_s"], "s"),
                        format_si(kernel["predicted_s"], "s"),
                        f"{off_s / kernel['measured_s']:+.0%}" if kernel["measured_s"] else "unknown",
                        f"{off_s / total:+.1%}",
                    )
                )
    title = (
        f"kernels of the deployed graph that are off by more than {_OFF_SHARE:.0%} of their network's time, by "
        "onnxruntime's profiler less what it adds"
    )
    return title, _KERNEL_COLUMNS, rows


def _table(sections: Sequence[Section], lines: Sequence[str], width: int | None, colour: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    for line in lines:
        console.print(Text(line))
    for title, columns, rows in sections:
        console.print(Text(f"\n{title}", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(columns):
            left = index == 0 or column == "kernel"
            table.add_column(column, justify="left" if left else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table if rows else Text("none"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _markdown(sections: Sequence[Section], lines: Sequence[str]) -> str:
    parts = ["\n".join(f"- {line.replace('|', '/')}" for line in lines)]
    for title, columns, rows in sections:
        header = [markdown_row(columns), markdown_row(["---", *["---:"] * (len(columns) - 1)])]
        table = [*header, *map(markdown_row, rows)] if rows else ["none"]
        parts.append("\n".join([f"### {title[0].upper()}{title[1:]}", "", *table]))
    return "\n\n".join(parts) + "\n"
