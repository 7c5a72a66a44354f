"""Lists of rules, regions and hardware profiles, and single entries of them."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from onnx_aiwq.render.summary import plain
from onnx_aiwq.render.text import markdown_row, spreadsheet_cell
from onnx_aiwq.units import format_si

if TYPE_CHECKING:
    from onnx_aiwq.hardware_profile import HardwareProfile
    from onnx_aiwq.metrics.regions import Region
    from onnx_aiwq.operations.registry import Rule
    from onnx_aiwq.profiles import ProfileSummary

Row = tuple[str, ...]
_WHOLE_CELL, _WHOLE_NAME = 14, 32  # characters that are never folded, of a cell and of the first
_FOLDED_CELL = 16  # characters that a folded text has at least
_NO_BREAK = "\N{NO-BREAK SPACE}"


def rule_rows(rules: Iterable[Rule]) -> list[Row]:
    """Operator, domain, first version, family, and the first line of the rule's own documentation."""
    return [
        (rule.op_type, rule.domain or "ai.onnx", str(rule.since), rule.family, rule.documentation.split("\n")[0])
        for rule in rules
    ]


def region_rows(regions: Iterable[Region]) -> list[Row]:
    """Code, name, intensity, year, vintage and PUE."""
    return [
        (
            region.code,
            region.name,
            f"{region.intensity_g_per_kwh:g}",
            str(region.year),
            region.vintage,
            "" if region.pue is None else f"{region.pue:g}",
        )
        for region in regions
    ]


def profile_rows(profiles: Iterable[ProfileSummary]) -> list[Row]:
    """Id, name, kind, source of its joules, provider and origin."""
    return [(each.id, each.name, each.kind, each.source, each.provider or "", each.origin) for each in profiles]


def write_rows(columns: Sequence[str], rows: Sequence[Row], form: str, width: int | None) -> str:
    """Write rows as a table, JSON (a list of objects), Markdown or CSV.

    Args:
        columns: their names.
        rows: of text.
        form: table, json, markdown or csv.
        width: of a terminal, which a table folds long texts for; one line per row, however long, if None.
    """
    if form == "json":
        return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2) + "\n"
    if form == "markdown":
        return "\n".join(markdown_row(row) for row in (columns, ["---"] * len(columns), *rows)) + "\n"
    if form == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([columns, *(map(spreadsheet_cell, row) for row in rows)])
        return stream.getvalue()
    if width is not None and _natural_width([tuple(columns), *rows]) > width:
        return _folded(columns, rows, width)
    return _aligned([tuple(columns), *rows])


def _natural_width(rows: Sequence[Row]) -> int:
    widths = (max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0])))
    return sum(widths) - 2


def _aligned(rows: Sequence[Row]) -> str:
    """Columns padded to their widest cell; plain text, so that a long list streams into any pager."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(plain(cell).ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines) + "\n"


def _folded(columns: Sequence[str], rows: Sequence[Row], width: int) -> str:
    """Long texts over several lines, where short ones, which numbers are, leave room for them; else one entry a row."""
    from rich.table import Table
    from rich.text import Text

    from onnx_aiwq.render.console import printed

    widest = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    whole = [size <= (_WHOLE_CELL if index else _WHOLE_NAME) for index, size in enumerate(widest)]
    room = width - sum(size + 2 for size, kept in zip(widest, whole, strict=True) if kept)
    if room < (_FOLDED_CELL + 2) * whole.count(False):
        return "".join(_entry_lines(columns, row, width) for row in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column, kept in zip(columns, whole, strict=True):
        table.add_column(column, overflow="fold", no_wrap=kept)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return printed([table], width, colour=False)


def _entry_lines(columns: Sequence[str], row: Row, width: int) -> str:
    """The first two cells as a heading, then what each of the others is; a number is not parted from its unit."""
    heading = textwrap.wrap(": ".join(plain(cell) for cell in row[:2] if cell), width, subsequent_indent="  ")
    parts = [f"{column} {plain(cell)}" for column, cell in zip(columns[2:], row[2:], strict=True) if cell]
    tied = ", ".join(part if len(part) > width - 4 else part.replace(" ", _NO_BREAK) for part in parts)
    indent = "    "
    body = textwrap.wrap(tied, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join([*heading, *(line.replace(_NO_BREAK, " ") for line in body)]) + "\n"


def rule_text(rules: Sequence[Rule], form: str, width: int | None) -> str:
    """Explain the rules of one operator from their own documentation."""
    if form in ("json", "csv"):
        columns = ("operator", "domain", "since", "family", "traffic", "documentation")
        rows = [
            (rule.op_type, rule.domain or "ai.onnx", str(rule.since), rule.family, rule.traffic, rule.documentation)
            for rule in rules
        ]
        return write_rows(columns, rows, form, width)
    parts = [
        f"{'## ' if form == 'markdown' else ''}{rule.op_type}  ({rule.domain or 'ai.onnx'}, since opset {rule.since}; "
        f"family {rule.family}; bytes: {rule.traffic})\n\n{rule.documentation}\n"
        for rule in rules
    ]
    return "\n".join(parts)


def region_text(region: Region, form: str, width: int | None) -> str:
    """One region with everything that an auditor asks for."""
    rows = [
        ("code", region.code),
        ("name", region.name),
        ("country", region.iso3),
        ("intensity", f"{region.intensity_g_per_kwh:g} gCO2e/kWh"),
        ("year", str(region.year)),
        ("vintage", region.vintage),
        *(
            (f"{figure.year} electricity", f"{figure.intensity_g_per_kwh:g} gCO2e/kWh in the {figure.vintage} vintage")
            for figure in region.figures[1:]
        ),
        ("basis", region.basis),
        ("PUE", "not given" if region.pue is None else f"{region.pue:g} (provider average)"),
        ("source", region.source),
        ("licence", region.licence),
    ]
    return _entry(rows, form, width)


def profile_text(profile: HardwareProfile, form: str, width: int | None) -> str:
    """One profile with coefficients, interval, provenance and held-out error."""
    unknown = "unknown, not charged"
    rows = [
        ("id", profile.id),
        ("name", profile.name),
        ("kind", profile.kind),
        ("joules", profile.source),
        ("provider", profile.provider or "none: no run was made"),
        ("memory", f"{format_si(profile.seconds_per_byte, 's')}/byte, {format_si(profile.joules_per_bit, 'J')}/bit"),
        ("static power", format_si(profile.static_watts, "W")),
        ("per node", unknown if profile.seconds_per_node is None else format_si(profile.seconds_per_node, "s")),
        ("per run", unknown if profile.seconds_per_run is None else format_si(profile.seconds_per_run, "s")),
    ]
    rows += [
        (
            f"{each.family} {each.dtype}",
            f"{format_si(each.seconds_per_to, 's')}/TO, {format_si(each.joules_per_to, 'J')}/TO",
        )
        for each in profile.coefficients
    ]
    for what, factors in (("seconds", profile.interval.seconds), ("joules", profile.interval.joules)):
        spread = f"x {factors.low_factor:g} to x {factors.high_factor:g} at {profile.interval.level:.0%}"
        rows.append((f"interval of {what}", f"{spread}: {factors.basis}"))
    embodied = profile.embodied
    rows.append(("embodied", "unknown" if embodied is None else f"{embodied.kgco2e:g} kgCO2e; {embodied.source}"))
    rows += _kernel_rows(profile)
    rows += _held_out_rows(profile.validation or {"none": "no network was run on it"})
    rows += list(profile.provenance.items())
    rows += [("source", source) for source in profile.sources]
    return _entry(rows, form, width)


def _kernel_rows(profile: HardwareProfile) -> list[tuple[str, str]]:
    """What a calibrated profile knows beyond its coefficients, which stand in for the rest (a training step)."""
    kernels = profile.kernels
    if kernels is None:
        return []
    shaped = sum(entry.efficiency is not None for entry in kernels.kernels)
    met = sum(entry.samples for entry in kernels.kernels if entry.kind == "*")
    watts = profile.watts_interval
    power = f"{format_si(profile.dynamic_watts, 'W')} above the static while kernels run"
    if watts is not None:
        power += f", x {watts.low_factor:.3g} to x {watts.high_factor:.3g} in all: {watts.basis}"
    return [
        ("dynamic power", power),
        (
            "kernels",
            f"{len(kernels.kernels)} classes by kind and data type, {shaped} of them with a rate that varies with "
            f"shape; from {met} operators, optimisation level {kernels.level}, reference kernel "
            f"{format_si(kernels.reference_s, 's')}",
        ),
    ]


_HELD_OUT = {
    "median_error": "median",
    "mean_error": "mean",
    "worst_error": "worst",
    "within_10_percent": "within 10 %",
    "interval_coverage": "inside the interval",
}


def _held_out_rows(validation: Mapping[str, object]) -> list[tuple[str, str]]:
    """Held-out errors: keys ``[WHAT: ]FIGURE``, a row for each WHAT, shares as percentages."""
    found: dict[str, list[str]] = {}
    for key, value in validation.items():
        what, _, figure = key.rpartition(": ")
        shown = f"{value:.1%}" if figure in _HELD_OUT and isinstance(value, float) else str(value)
        found.setdefault(what, []).append(f"{_HELD_OUT.get(figure, figure)} {shown}")
    return [(f"held-out error{f', {what}' if what else ''}", "; ".join(parts)) for what, parts in found.items()]


def _entry(rows: Sequence[tuple[str, str]], form: str, width: int | None) -> str:
    if form == "json":
        return json.dumps(dict(rows), indent=2) + "\n"
    return write_rows(("figure", "value"), rows, form, None) if form != "table" else _aligned(rows)
