"""`aiwq analyze`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.metric_options import Unit, Workload
from onnx_aiwq.cli.streams import is_terminal, line_width, shown_progress, table_width, use_colour, warn, write
from onnx_aiwq.errors import PolicyError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx_aiwq.graph import Graph
    from onnx_aiwq.report import Report
    from onnx_aiwq.runs import RunOptions

_MAX_SWEEP = 1000  # points
_BY = ("operator", "node", "dtype", "scope")
_PLOTS = ("operators", "nodes", "memory", "scatter", "ecal", "regions")


@dataclass(frozen=True)
class View:
    """What of the report is shown."""

    by: Annotated[
        str | None,
        opt.one_of("--by", _BY, "What a row of the table, Markdown or CSV is."),
    ] = None
    top: Annotated[int | None, typer.Option("--top", metavar="N", help="The N costliest rows; the rest as one.")] = None
    plot: Annotated[
        str | None,
        opt.one_of("--plot", _PLOTS, "What --format svg or png draws."),
    ] = None
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="NAME=FROM:TO:xF", help="Vary an unbound dimension, by factor xF or step +S."),
    ] = None


def analyze(
    model: opt.Model,
    counting: opt.Counting,
    training: opt.Training,
    grid: opt.Grid,
    deployment: opt.Deployment,
    unit: Unit,
    workload: Workload,
    view: View,
    hardware: opt.Hardware = None,
    as_deployed: Annotated[
        str | None,
        opt.one_of(
            "--as-deployed",
            opt.OPTIMISATION_LEVELS,
            "The graph that onnxruntime's optimiser makes at this level, instead of the exported one.",
        ),
    ] = None,
    strict: opt.Strict = False,
    show_config: opt.ShowConfig = False,
    form: opt.PageFormat = "table",
    output: opt.Output = None,
) -> None:
    """Count one model and estimate its energy, eCAL, workload and CO2."""
    from onnx_aiwq import report as reports
    from onnx_aiwq.runs import fitted
    from onnx_aiwq.settings import configurations, merged

    _check_view(view, form, output, strict)
    swept = None if view.sweep is None else _sweep_values(view.sweep)
    given = opt.run_options(counting, grid, deployment, training, hardware)
    options, origins = merged(given, configurations())
    if show_config:
        show_origins(origins, form, output)
        return
    options = fitted(model, options)
    with shown_progress() as progress:
        deployed, note = (None, "") if as_deployed is None else _deployed(model, as_deployed, options, progress)
        report = reports.analyze(
            deployed or model,
            bind=None if deployed else options.bind,
            shapes=None if deployed else options.shapes,
            hardware=options.hardware,
            strict=strict,
            formulas=form == "json" or view.sweep is not None,
            progress=progress,
            per=unit.per,
            inferences_per_unit=unit.inferences,
            **workload.arguments(),
            **options.arguments(),
        )
        progress("writing the report")
        text = _rendered(report, swept, view, form, output)
    write(text, output)
    warn([note] if note else [])
    warn(report.warnings)


def _deployed(model: str, level: str, options: RunOptions, progress: Callable[[str], None]) -> tuple[Graph, str]:
    """The graph as deployed, and where it comes from."""
    from onnx_aiwq.calibration.deployed_graph import deployed_graph
    from onnx_aiwq.profiles import profile_of

    opt.choose("--as-deployed", level, opt.OPTIMISATION_LEVELS)
    progress("optimising the graph")
    graph, origin = deployed_graph(
        Path(model),
        bind=options.bind,
        shapes=options.shapes,
        level=level,  # type: ignore[arg-type]
        provider=profile_of(options.hardware).provider or "CPUExecutionProvider",
    )
    return graph, f"the graph is that of the deployment, {origin}"


def _check_view(view: View, form: str, output: Path | None, strict: bool) -> None:
    """Refuse options that belong to another form than the one asked for."""
    opt.choose("--format", form, (*opt.PAGE_FORMATS, *opt.PICTURE_FORMATS))
    if view.by is not None:
        opt.choose("--by", view.by, _BY)
    for option, value in (("--by", view.by), ("--top", view.top)):
        if value is not None and (form not in ("table", "markdown", "csv") or view.sweep is not None):
            other = "--sweep" if view.sweep is not None else f"--format {form}, which holds everything"
            raise PolicyError(f"{option} {value}: orders a table, Markdown or CSV; leave it out with {other}")
    if view.top is not None and view.top < 1:
        raise PolicyError(f"--top {view.top}: expected a number of rows, at least 1")
    check_plot(view.plot, form, output, _PLOTS)
    if view.sweep is not None and strict:
        raise PolicyError(
            "--sweep varies a dimension that is left unbound, which --strict forbids; leave one of them out"
        )
    if view.sweep is not None and form not in opt.FORMATS:
        raise PolicyError(f"--sweep: has no --format {form}; expected one of {', '.join(opt.FORMATS)}")


def check_plot(plot: str | None, form: str, output: Path | None, plots: tuple[str, ...]) -> None:
    """Refuse a plot without a picture format, a picture without a plot, and one that would fill a terminal.

    Raises:
        PolicyError: naming the option and what it needs.
    """
    if plot is not None:
        opt.choose("--plot", plot, plots)
        if form not in opt.PICTURE_FORMATS:
            raise PolicyError(f"--plot {plot}: needs --format svg or --format png; --format html has every plot")
    elif form in opt.PICTURE_FORMATS:
        raise PolicyError(f"--format {form}: needs --plot, one of {', '.join(plots)}")
    if form == "png" and output is None and is_terminal():
        raise PolicyError("--format png: is no text for a terminal; name a file with --output")


def _rendered(
    report: Report, swept: tuple[str, list[int]] | None, view: View, form: str, output: Path | None
) -> str | bytes:
    grouped = form in ("table", "markdown") and view.by in (None, "operator") and view.plot is None
    # A terminal also gets a curve over all nodes.
    document = report.to_dict(nodes=not grouped or (output is None and is_terminal()))
    if swept is not None:
        return _render_sweep(report, *swept, form)
    if form == "html":
        from onnx_aiwq.render.html import render_report_html

        return render_report_html(document)
    if view.plot is not None:
        from onnx_aiwq.render.plots import plot_report

        return plot_report(document, view.plot, form)
    from onnx_aiwq.render import render

    return render(
        document,
        form,
        width=table_width(),
        colour=output is None and use_colour(),
        by=view.by,
        top=view.top,
        terminal=output is None and is_terminal(),
    )


def show_origins(origins: dict[str, tuple[str, str]], form: str, output: Path | None) -> None:
    """Write every setting with where it comes from."""
    from onnx_aiwq.render.listing import write_rows

    opt.choose("--format", form, opt.FORMATS)
    rows = [(setting, value, origin) for setting, (value, origin) in sorted(origins.items())]
    write(write_rows(("setting", "value", "from"), rows, form, line_width()), output)


def _sweep_values(text: str) -> tuple[str, list[int]]:
    """The dimension and its values, from NAME=FROM:TO:xFACTOR or NAME=FROM:TO:+STEP (doubling where left out)."""
    name, separator, given = text.rpartition("=")
    parts = given.split(":")
    step = parts[2] if len(parts) == 3 else "x2"
    numbers = [*parts[:2], step[1:]]
    well_formed = separator and name and len(parts) in (2, 3) and step[:1] in ("x", "+")
    if not well_formed or not all(number.isdecimal() for number in numbers):
        raise ShapeError(
            f"--sweep {text!r}: expected NAME=FROM:TO:xFACTOR or NAME=FROM:TO:+STEP, for example seq=128:4096:x2"
        )
    start, stop, by = map(int, numbers)
    if start < 1 or stop < start or by < (2 if step[0] == "x" else 1):
        raise ShapeError(f"--sweep {text!r}: expected 1 <= FROM <= TO, a factor of at least 2 or a step of at least 1")
    values = [start]
    while (following := values[-1] * by if step[0] == "x" else values[-1] + by) <= stop:
        values.append(following)
        if len(values) > _MAX_SWEEP:
            raise ShapeError(f"--sweep {text!r}: more than {_MAX_SWEEP} points; take a larger step")
    return name, values


def _render_sweep(report: Report, name: str, values: list[int], form: str) -> str:
    from onnx_aiwq.render.sweep import render_sweep

    return render_sweep(report.to_dict(), name, list(report.sweep(name, values)), form, line_width())
