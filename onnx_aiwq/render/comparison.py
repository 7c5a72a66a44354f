"""A comparison as table, JSON, Markdown and CSV. Every renderer takes the JSON comparison."""

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

Comparison = Mapping[str, Any]
Section = tuple[str, Sequence[str], list[tuple[str, ...]]]
SHOWN = {
    "energy": "energy",
    "seconds": "time",
    "co2e": "CO2e",
    "ecal": "eCAL",
    "transistor_operations": "TOs",
    "peak_memory": "memory",
}
TITLES = {**SHOWN, "macs": "MACs", "peak_memory": "peak memory", "parameters": "parameters"}
_CHANGED = {"nodes": None, "transistor_operations": "", "macs": "", "bytes": "B", "joules": "J"}
_LISTED_CHANGES = 50


def render_comparison(comparison: Comparison, form: str, *, width: int | None = None, colour: bool = False) -> str:
    """Write a comparison as table, json, markdown or csv.

    Args:
        comparison: the JSON comparison.
        form: of the result.
        width: columns of the table; the terminal's unless given.
        colour: whether the table may hold ANSI colours.
    """
    if form == "json":
        return json.dumps(comparison, indent=2, allow_nan=False) + "\n"
    if form == "csv":
        return _csv(comparison)
    if form == "markdown":
        return _markdown(comparison)
    return _table(comparison, width, colour)


def _sections(comparison: Comparison) -> Iterator[Section]:
    """Title, columns and rows of every table."""
    rows = comparison["rows"]
    yield "rows", ("#", "model", "hardware", *SHOWN.values()), [_row(index, row) for index, row in enumerate(rows, 1)]
    compared = [entry for entry in comparison["differences"] if entry["metric"] in SHOWN]
    if compared:
        columns = ("#", "against", *SHOWN.values())
        yield "differences", columns, list(_difference_rows(compared))
    if comparison["changes"] is not None:
        by = comparison["changes"]["by"]
        title = f"by {by}: #1 -> #2"
        yield title, (by, "change", "nodes", "TOs", "MACs", "bytes", "energy"), _change_rows(comparison["changes"])


def _row(number: int, row: Mapping[str, Any]) -> tuple[str, ...]:
    marks = " (partial)" if row["totals"]["partial"] else ""
    return (
        str(number),
        plain(row["model"]) + marks,
        f"{plain(row['hardware'])} ({row['energy']['source']})",
        *(metric_text(name, row["metrics"][name]) for name in SHOWN),
    )


def metric_text(name: str, entry: Mapping[str, Any] | None) -> str:
    """A value of a row with its interval."""
    if entry is None:
        return "unknown"
    metric = METRICS[name]
    interval = metric.interval_text(Quantity(entry["value"], entry["low"], entry["high"]))
    return metric.text(entry["value"]) + (f" ({interval})" if interval else "")


def _difference_rows(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    pairs: dict[tuple[int, int], dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        pairs.setdefault((entry["row"], entry["reference"]), {})[entry["metric"]] = entry
    for (row, reference), found in pairs.items():
        cells = [difference_text(found[name]) if name in found else "unknown" for name in SHOWN]
        yield (str(row + 1), f"#{reference + 1}", *cells)


def difference_text(entry: Mapping[str, Any]) -> str:
    """A difference in words, as a share or as a factor."""
    if entry["verdict"] in ("equal", "no measurable difference"):
        return str(entry["verdict"])
    ratio = entry["ratio"]
    if ratio is None:
        return f"{METRICS[entry['metric']].text(entry['difference'])} more"
    return f"x {ratio:.3g}" if not 0.1 <= ratio <= 2 else f"{ratio - 1:+.1%}"


def _change_rows(changes: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            plain(entry["name"]),
            entry["change"],
            *(_arrow(entry, key, unit) for key, unit in _CHANGED.items()),
        )
        for entry in changes["entries"][:_LISTED_CHANGES]
    ]


def _arrow(entry: Mapping[str, Any], key: str, unit: str | None) -> str:
    one, other = (
        "none" if side is None else format_count(side[key]) if unit is None else format_si(side[key], unit)
        for side in (entry["before"], entry["after"])
    )
    return one if one == other else f"{one} -> {other}"


def conclusions(comparison: Comparison) -> Iterator[str]:
    """What follows from the rows, one line each."""
    first, second = comparison["pareto_metrics"]
    front = ", ".join(f"#{entry['row'] + 1}" for entry in comparison["pareto"]) or "no complete row"
    yield f"Pareto front of {first} and {second} (point estimates): {front}"
    if comparison["where"] is not None:
        meets = ", ".join(f"#{index}" for index, row in enumerate(comparison["rows"], 1) if row["meets"])
        yield f"{comparison['where']}: {'met by ' + meets if meets else 'met by no row'}"
    best, minimise = comparison["best"], comparison["minimise"]
    if best is not None:
        yield _best_line(best, minimise)
    grids = {_grid(row["carbon"]) for row in comparison["rows"]}
    yield f"CO2e: {'; '.join(sorted(grids))}"
    changes = comparison["changes"]
    if changes is not None and not changes["entries"]:
        yield f"by {changes['by']}: nothing differs"
    if changes is not None and len(changes["entries"]) > _LISTED_CHANGES:
        yield f"by {changes['by']}: {len(changes['entries']) - _LISTED_CHANGES} more differ; --format json has all"


def _best_line(best: Mapping[str, Any], minimise: str) -> str:
    value = METRICS[minimise].text(best["value"])
    line = f"least {minimise}: #{best['row'] + 1}, {plain(best['model'])} on {plain(best['hardware'])}, {value}"
    if best["indistinguishable"]:
        others = ", ".join(f"#{index + 1}" for index in best["indistinguishable"])
        line += f"; no measurable difference to {others}"
    return line if best["certain"] else f"{line}; within its interval it may miss the condition"


def _grid(carbon: Mapping[str, Any]) -> str:
    year = f" of {carbon['year']}" if carbon.get("year") else ""
    return f"{plain(carbon['region'] or 'given intensity')} {carbon['intensity_g_per_kwh']:g} g/kWh{year}"


def _table(comparison: Comparison, width: int | None, colour: bool) -> str:
    from rich.text import Text

    from onnx_aiwq.render.console import columns_of, printed

    columns = width or columns_of()
    parts: list[Any] = []
    for section in _sections(comparison):
        if section[0] != "rows":
            parts.append(Text(section[0], style="bold"))
        shown = None
        for needed, shown in map(_rich, _layouts(section)):  # noqa: B007 - the narrowest where none fits: rich folds it
            if needed <= columns:
                break
        parts.append(shown)
    return printed([*parts, *map(Text, conclusions(comparison))], width, colour)


def _layouts(section: Section) -> Iterator[tuple[list[str], Section]]:
    """Ways to lay a section out, the widest first: lines above a table, and the table."""
    title, columns, rows = section
    if title == "rows":
        yield [], (title, columns, [(*row[:3], *(cell.replace(" (", "\n(") for cell in row[3:])) for row in rows])
        stacked = [(row[0], f"{row[1]}\n{row[2]}", *(cell.replace(" (", "\n(") for cell in row[3:])) for row in rows]
        yield [], (title, (columns[0], "model, hardware", *columns[3:]), stacked)
        narrow = [(row[0], *map(_in_lines, row[3:])) for row in rows]
        yield [f"#{row[0]}  {row[1]}, {row[2]}" for row in rows], (title, (columns[0], *columns[3:]), narrow)
        return
    yield [], section
    yield [], (title, columns, [tuple(cell.replace(" -> ", "\n-> ") for cell in row) for row in rows])


def _in_lines(cell: str) -> str:
    return cell.replace(" (", "\n").replace(" to ", " to\n").rstrip(")")


def _rich(layout: tuple[list[str], Section]) -> tuple[int, Any]:
    """The columns that a layout needs at least with its names whole, and what is printed."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines, (title, columns, rows) = layout
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    left = ("model", "hardware", "model, hardware", "against", "change", columns[0] if title.startswith("by ") else "")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    cells = [[column, *(row[index] for row in rows)] for index, column in enumerate(columns)]
    needed = sum(max(len(line) for cell in each for line in cell.split("\n")) + 1 for each in cells) + 1
    return needed, Group(*map(Text, lines), table)


def _markdown(comparison: Comparison) -> str:
    lines = []
    for title, columns, rows in _sections(comparison):
        lines += [f"### {markdown_row([title])[2:-2]}", "", markdown_row(columns), markdown_row(["---"] * len(columns))]
        lines += [*map(markdown_row, rows), ""]
    lines += [f"- {markdown_row([line])[2:-2]}" for line in conclusions(comparison)]
    return "\n".join(lines) + "\n"


def _csv(comparison: Comparison) -> str:
    """One row per row of the comparison; cells that a spreadsheet would take as a formula are neutralised."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    front = {entry["row"] for entry in comparison["pareto"]}
    ends = [f"{name}{suffix}" for name in METRICS for suffix in ("", "_low", "_high")]
    writer.writerow(["model", "hardware", "source", "convention", "level", "partial", *ends, "pareto", "meets"])
    for index, row in enumerate(comparison["rows"]):
        texts = [row["model"], row["hardware"], row["energy"]["source"], row["convention"], row["level"]]
        numbers = [
            None if entry is None else entry[key]
            for entry in (row["metrics"][name] for name in METRICS)
            for key in ("value", "low", "high")
        ]
        writer.writerow(
            [*map(spreadsheet_cell, texts), row["totals"]["partial"], *numbers, index in front, row["meets"]]
        )
    return stream.getvalue()
