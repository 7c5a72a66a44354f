"""The report of a fleet as a table for a terminal, as JSON, and as one HTML page that needs nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.reading import COLUMNS
from onnx_aiwq.quantities import METRICS
from onnx_aiwq.render.summary import plain
from onnx_aiwq.units import format_si

FleetReport = Mapping[str, Any]
_SHOWN = ("energy", "seconds", "co2e", "transistor_operations", "macs", "parameters", "peak_memory")
_HEADINGS = {"seconds": "time", "co2e": "CO2e", "transistor_operations": "TOs", "macs": "MACs", "peak_memory": "memory"}
_LISTS = {
    "added": "added",
    "removed": "removed",
    "content_changed": "other content",
    "newly_failing": "newly failing",
    "recovered": "recovered",
    "figures_changed": "other figures",
}


@dataclass(frozen=True)
class Section:
    """A table with its title, and what has to be said below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    texts: int = 1  # leading columns that hold text; numbers follow


def render_fleet(report: FleetReport, form: str, *, width: int | None = None, colour: bool = False) -> str:
    """Write the report of a fleet as table, json or html."""
    if form == "json":
        return json.dumps(report, indent=2, allow_nan=False) + "\n"
    return _html(report) if form == "html" else _table(report, width, colour)


def heading(report: FleetReport) -> str:
    """The fleet and its run in one line."""
    run, models = report["run"], report["models"]
    state = "" if run["complete"] else " (not finished)"
    return (
        f"{plain(report['fleet'])}: run {run['number']}{state}, {models['listed']:,} models, "
        f"{models['analysed']:,} analysed, {models['failed']:,} failed; convention {run['options']['convention']}, "
        f"level {run['options']['level']}"
    )


def sections(report: FleetReport) -> Iterator[Section]:
    """Every table of the report."""
    yield _totals(report)
    yield _top(report)
    yield _pareto(report)
    if report["errors"]:
        rows = [
            (
                entry["reason"],
                plain(example["model"]),
                plain(example["message"]),
                f"{entry['models']:,}" if not index else "",
            )
            for entry in report["errors"]
            for index, example in enumerate(entry["examples"])
        ]
        yield Section("Errors by reason", ("reason", "example", "message", "models"), rows, "up to 3 examples each", 3)
    if report["changes"] is not None:
        yield from _changes(report["changes"])


def _totals(report: FleetReport) -> Section:
    rows = []
    for entry in report["totals"]:
        interval = f" ({format_si(entry['joules_low'], 'J')} to {format_si(entry['joules_high'], 'J')})"
        rows.append(
            (
                f"{plain(entry['hardware'])} ({entry['source']})",
                f"{entry['models']:,}",
                f"{entry['inferences']:,}",
                format_si(entry["joules"], "J") + (interval if entry["joules"] is not None else ""),
                format_si(entry["seconds"], "s"),
                format_si(entry["co2e_g"], "g"),
                format_si(entry["transistor_operations"]),
                format_si(entry["macs"]),
            )
        )
    given = report["inferences"]
    note = (
        f"{given['each']:,} inference(s) of each model" if given["file"] is None else f"inferences of {given['file']}"
    )
    if given["models_without"]:
        note += f", which does not name {given['models_without']:,} models: they count as never run"
    columns = ("hardware", "models", "inferences", "energy", "time", "CO2e", "TOs", "MACs")
    return Section("Totals", columns, rows, note)


def _top(report: FleetReport) -> Section:
    top = report["top"]
    rows = [
        (
            plain(entry["model"]) + (" (partial)" if entry["partial"] else ""),
            plain(entry["hardware"]),
            f"{entry['inferences']:,}",
            "" if entry["share"] is None else f"{entry['share']:.1%}",
            *(METRICS[metric].text(entry["metrics"][metric]) for metric in _SHOWN),
        )
        for entry in top["rows"]
    ]
    columns = ("model", "hardware", "inferences", "share", *(_HEADINGS.get(metric, metric) for metric in _SHOWN))
    return Section(f"Largest by {top['by']}", columns, rows, "share: of the total on the same hardware", 2)


def _pareto(report: FleetReport) -> Section:
    front = report["pareto"]
    rows = [
        (
            plain(entry["model"]),
            plain(entry["hardware"]),
            *(METRICS[metric].text(entry[metric]) for metric in front["metrics"]),
        )
        for entry in front["rows"]
    ]
    title = f"Pareto front of {' and '.join(front['metrics'])}"
    note = f"{front['size']:,} complete rows that no other beats in both, per inference, by point estimates"
    return Section(title, ("model", "hardware", *front["metrics"]), rows, note, 2)


def _changes(changes: Mapping[str, Any]) -> Iterator[Section]:
    rows = [
        (title, ", ".join(map(plain, changes.get(name, ()))), f"{changes['counts'][name]:,}")
        for name, title in _LISTS.items()
    ]
    terms = "; ".join(plain(term) for term in changes["terms"])
    note = f"made differently: {terms}" if terms else "both runs were made with the same settings"
    yield Section(f"Changes since run {changes['previous_run']}", ("what", "first of them", "models"), rows, note, 2)
    if changes["figures"]:
        moved = [
            (
                plain(row["model"]),
                plain(row["hardware"]),
                *(
                    f"{METRICS[metric].text(row['before'][column])} -> {METRICS[metric].text(row['after'][column])}"
                    for metric, column in COLUMNS.items()
                    if column in row["before"] and metric != "seconds"
                ),
            )
            for row in changes["figures"]
        ]
        names = [metric for metric, column in COLUMNS.items() if column in changes["figures"][0]["before"]]
        columns = [_HEADINGS.get(metric, metric) for metric in names if metric != "seconds"]
        yield Section("Figures that changed", ("model", "hardware", *columns), moved, "by difference in energy", 2)


def _table(report: FleetReport, width: int | None, colour: bool) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    console.print(Text(heading(report), style="bold"))
    for section in sections(report):
        console.print(Text(f"\n{section.title}", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for index, column in enumerate(section.columns):
            table.add_column(column, justify="left" if index < section.texts else "right", overflow="fold")
        for row in section.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        if section.note:
            console.print(Text(section.note, style="dim"))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _html(report: FleetReport) -> str:
    jinja2 = need("jinja2")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = (resources.files("onnx_aiwq.fleet") / "report.html.jinja").read_text(encoding="utf-8")
    run = report["run"]
    facts = {
        "tool": f"{report['tool']['name']} {report['tool']['version']}",
        "sources": ", ".join(map(plain, run["sources"])),
        "hardware": ", ".join(map(plain, run["hardware"])),
        "options": ", ".join(f"{name} {value}" for name, value in run["options"].items() if value),
    }
    page: str = environment.from_string(template).render(
        heading=heading(report),
        sections=list(sections(report)),
        warnings=[plain(line) for line in report["warnings"]],
        facts=facts,
    )
    return page + "\n"
