"""One plot as SVG or PNG, for a paper: text stays text, axes carry units, the caption says source and interval.

Needs matplotlib, which the extra `plots` brings.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.quantities import METRICS
from onnx_aiwq.render import views
from onnx_aiwq.render.summary import file_name, micro, plain
from onnx_aiwq.units import format_bytes, format_si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = 20
_COLOURS = ("#0b6e5f", "#c4581a", "#2f62c4", "#98317f", "#8a6d0b", "#437a1f", "#b3303a")
_OTHER = "#8b96a3"
_CAPTION_CHARACTERS = 110
_NAME_CHARACTERS = 48
_STYLE: Any = {
    "svg.fonttype": "none",  # text, that an editor of papers can change and search
    "svg.hashsalt": "onnx_aiwq",  # the same report gives the same file
    "text.parse_math": False,  # a name is no formula
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Report = Mapping[str, Any]


def plot_report(report: Report, plot: str, form: str) -> bytes:
    """One plot of a JSON report.

    Args:
        report: the JSON report.
        plot: operators, nodes, memory, scatter, ecal or regions.
        form: svg or png.

    Raises:
        PolicyError: if matplotlib is missing, or the report does not know what the plot shows.
    """
    drawn: dict[str, tuple[Callable[[Axes, Report], None], str]] = {
        "operators": (_operators, "Energy by operator"),
        "nodes": (_nodes, "Energy of the costliest nodes"),
        "memory": (_memory, "Live activations in execution order"),
        "scatter": (_scatter, "Transistor operations against bytes moved, one point per node"),
        "ecal": (_ecal, "eCAL against the number of inferences"),
        "regions": (_regions, "Operational CO2e by region"),
    }
    draw, title = drawn[plot]
    return _picture(lambda axes: draw(axes, report), f"{title}. {micro(_caption(report))}", form)


def plot_comparison(comparison: Mapping[str, Any], plot: str, form: str) -> bytes:
    """One plot of a JSON comparison: `pareto`.

    Raises:
        PolicyError: if matplotlib is missing, or no row knows both metrics.
    """
    rows = comparison["rows"]
    energies = [row["energy"] for row in rows]
    sources = sorted({f"{energy['source']}: {plain(energy['hardware_name'])}" for energy in energies})
    levels = " and ".join(sorted({f"{energy['interval']:.0%}" for energy in energies}))
    named = [f"#{index} {file_name(row['model'])} on {plain(row['hardware'])}" for index, row in enumerate(rows, 1)]
    caption = f"Pareto front by point estimates; whiskers are {levels} intervals. {'; '.join([*named, *sources])}."
    return _picture(lambda axes: _pareto(axes, comparison), caption, form)


def _picture(draw: Callable[[Axes], None], caption: str, form: str) -> bytes:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"--format {form}: needs matplotlib, which is not installed; run: pip install 'onnx-aiwq[plots]'"
        ) from error
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        figure.supxlabel(
            "\n".join(textwrap.wrap(caption, _CAPTION_CHARACTERS)), fontsize=6.5, color="#444444", ha="center"
        )
        return _written(figure, form)


def _written(figure: Figure, form: str) -> bytes:
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(stream, format=form, dpi=200, metadata=metadata)
    return stream.getvalue()


def _caption(report: Report) -> str:
    energy, carbon = report["energy"], report["carbon"]
    interval = ""
    if energy["joules"] is not None and energy["joules_low"] is not None:
        ends = f"{format_si(energy['joules_low'], 'J')} to {format_si(energy['joules_high'], 'J')}"
        interval = f" ({energy['interval']:.0%} interval {ends})"
    run = report["level"] if report["level"] == "inference" else f"{report['level']} step"
    partial = " Partial: some operators are in no total." if report["totals"]["partial"] else ""
    name = file_name(report["model"]["path"] or "model in memory")
    place = f"{plain(carbon['region'] or 'given intensity')}, {carbon['intensity_g_per_kwh']:g} gCO2e/kWh"
    total = f"{format_si(energy['joules'], 'J')} per {run}{interval}"
    return f"{name}: {total}; {energy['source']}: {plain(energy['hardware_name'])}; {place}.{partial}"


def _cut(name: str) -> str:
    """The end of a long name, which tells nodes apart."""
    return name if len(name) <= _NAME_CHARACTERS else f"…{name[1 - _NAME_CHARACTERS :]}"


def _unknown(plot: str, reason: str) -> PolicyError:
    return PolicyError(f"--plot {plot}: {reason}; --format json says what is known")


def _prefixed(unit: str) -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit=unit, sep=" " if unit else "")


def _logarithmic(axes: Axes) -> None:
    """Both axes, with SI prefixes; the powers of ten of matplotlib would be formulas."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(_prefixed(""))
        axis.set_minor_formatter(NullFormatter())


# --- of a report -------------------------------------------------------------------------------------------------


def _bars(axes: Axes, report: Report, by: str, plot: str) -> None:
    found = [group for group in views.groups(report, by) if group.joules]
    if not found:
        raise _unknown(plot, "no node has a known energy")
    shown, rest = found[:_BARS], views.together(found[_BARS:])
    names = [_cut(plain(group.name)) for group in shown]
    values = [group.joules or 0.0 for group in shown]
    bars = axes.barh(range(len(values)), values, color=_COLOURS[0])
    axes.bar_label(bars, [micro(format_si(value, "J")) for value in values], padding=3, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(_prefixed("J"))
    axes.set_xlabel("energy (J)")
    others = f"; {rest.nodes} more nodes: {micro(format_si(rest.joules, 'J'))}" if rest.joules else ""
    axes.set_ylabel(f"{by}{others}")


def _operators(axes: Axes, report: Report) -> None:
    _bars(axes, report, "operator", "operators")


def _nodes(axes: Axes, report: Report) -> None:
    _bars(axes, report, "node", "nodes")


def _memory(axes: Axes, report: Report) -> None:
    points = [(step, value) for step, value in enumerate(views.live_bytes(report), 1) if value is not None]
    if not points:
        raise _unknown("memory", "the size of an activation is not known, or the report was saved without it")
    steps, values = zip(*points, strict=True)
    axes.fill_between(steps, values, step="mid", color=_COLOURS[0], alpha=0.2, linewidth=0)
    axes.step(steps, values, where="mid", color=_COLOURS[0], linewidth=1)
    peak = max(points, key=lambda point: point[1])
    axes.annotate(f"peak {format_bytes(peak[1])}", peak, xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.yaxis.set_major_formatter(_prefixed("B"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("node in execution order")
    axes.set_ylabel("live activations (bytes)")


def _scatter(axes: Axes, report: Report) -> None:
    nodes = [
        (views.label_of(node), (node["bytes_read"] or 0) + (node["bytes_written"] or 0), node["transistor_operations"])
        for node in report["nodes"]
    ]
    drawn = [node for node in nodes if node[1] and node[2]]
    if not drawn:
        raise _unknown("scatter", "no node both computes and moves bytes")
    ranked = [group.name for group in views.groups(report, "operator") if any(node[0] == group.name for node in drawn)]
    kinds = [*ranked[: len(_COLOURS)], ""]
    for index, kind in enumerate(kinds):
        points = [node[1:] for node in drawn if node[0] == kind or (not kind and node[0] not in kinds)]
        if points:
            colour = _COLOURS[index] if kind else _OTHER
            moved, operations = zip(*points, strict=True)
            name = plain(kind) or "other operators"
            axes.scatter(moved, operations, s=14, color=colour, alpha=0.75, label=name)
    _logarithmic(axes)
    balance = views.balance_to_per_byte(report)
    if balance is not None:
        low, high = axes.get_xlim()
        limits = axes.get_ylim()
        label = f"compute = data energy ({format_si(balance)} TO/byte)"
        axes.plot([low, high], [low * balance, high * balance], "--", color="#444444", linewidth=1, label=label)
        axes.set_ylim(limits)
        axes.set_xlim(low, high)
    axes.set_xlabel("bytes moved per node (bytes)")
    axes.set_ylabel("transistor operations per node")
    axes.legend(fontsize=7, frameon=False)


def _ecal(axes: Axes, report: Report) -> None:
    curve = views.ecal_curve(report)
    if curve is None:
        raise _unknown("ecal", "eCAL is not known")
    axes.plot(*zip(*curve.points, strict=True), color=_COLOURS[0])
    axes.plot([curve.inferences], [curve.joules_per_bit], "o", color=_COLOURS[0], markersize=5)
    _logarithmic(axes)
    if curve.break_even:
        axes.axvline(curve.break_even, linestyle="--", color="#444444", linewidth=1)
        at = (curve.break_even, axes.get_ylim()[1])
        label = f"break-even {format_si(curve.break_even)}"
        axes.annotate(label, at, xytext=(4, -8), textcoords="offset points", fontsize=8)
    axes.set_xlabel("inferences")
    axes.set_ylabel("eCAL (J/bit)")


def _regions(axes: Axes, report: Report) -> None:
    found = [each for each in views.region_grams(report) if each.shown]
    if not found:
        raise _unknown("regions", "the operational CO2e is not known, or its intensity is 0")
    here = report["carbon"]["region"] or "given"
    bars = axes.barh(
        range(len(found)),
        [each.grams for each in found],
        color=[_COLOURS[0] if each.code == here else _OTHER for each in found],
    )
    axes.bar_label(bars, [micro(format_si(each.grams, "g")) for each in found], padding=3, fontsize=7)
    axes.set_yticks(range(len(found)), [plain(each.name) for each in found], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.xaxis.set_major_formatter(_prefixed("g"))
    axes.set_xlabel("operational CO2e (g)")


# --- of a comparison ---------------------------------------------------------------------------------------------


def _pareto(axes: Axes, comparison: Mapping[str, Any]) -> None:
    names = comparison["pareto_metrics"]
    front = [entry["row"] for entry in comparison["pareto"]]
    known = [
        (index, *(row["metrics"][name] for name in names))
        for index, row in enumerate(comparison["rows"])
        if all(row["metrics"][name] is not None for name in names)
    ]
    if not known:
        raise _unknown("pareto", f"no row knows both {names[0]} and {names[1]}")
    for index, x, y in known:
        colour = _COLOURS[0] if index in front else _OTHER
        across, up = ([[end["value"] - end["low"]], [end["high"] - end["value"]]] for end in (x, y))
        axes.errorbar(x["value"], y["value"], xerr=across, yerr=up, fmt="o", color=colour, elinewidth=0.8, capsize=2)
        axes.annotate(f"#{index + 1}", (x["value"], y["value"]), xytext=(5, 4), textcoords="offset points", fontsize=8)
    values = {index: (x["value"], y["value"]) for index, x, y in known}
    if len(front) > 1:
        axes.step(
            *zip(*(values[index] for index in front), strict=True), where="post", linestyle="--", color=_COLOURS[0]
        )
    if all(x["low"] > 0 and y["low"] > 0 for _, x, y in known):
        _logarithmic(axes)
    axes.set_xlabel(_axis(names[0]))
    axes.set_ylabel(_axis(names[1]))


def _axis(metric: str) -> str:
    unit = METRICS[metric].unit
    return f"{metric.replace('_', ' ')}{f' ({unit})' if unit else ''}"
