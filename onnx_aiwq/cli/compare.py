"""`aiwq compare`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import completion
from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.analyze import check_plot, show_origins
from onnx_aiwq.cli.streams import shown_progress, table_width, use_colour, warn, write

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_aiwq.comparison import Comparison
    from onnx_aiwq.hardware_profile import HardwareProfile

_BY = ("operator", "node")
_PLOTS = ("pareto",)


@dataclass(frozen=True)
class Ranking:
    """What of the rows is shown."""

    where: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", help="As 'seconds < 20 ms and peak_memory < 200 MB'."),
    ] = None
    minimise: Annotated[
        str | None,
        typer.Option(
            "--minimise",
            "--minimize",
            metavar="METRIC",
            help="Name the best row that meets --where.",
            autocompletion=completion.metrics,
        ),
    ] = None
    pareto: Annotated[
        str, typer.Option("--pareto", metavar="METRIC,METRIC", help="Mark the rows that no other beats in both.")
    ] = "energy,seconds"
    by: Annotated[str | None, opt.one_of("--by", _BY, "What differs between two rows.")] = None
    plot: Annotated[str | None, opt.one_of("--plot", _PLOTS, "What --format svg or png draws.")] = None


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="ONNX files, globs, and saved JSON reports (*.json).")
    ],
    counting: opt.Counting,
    training: opt.Training,
    grid: opt.Grid,
    deployment: opt.Deployment,
    ranking: Ranking,
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            "--hardware",
            metavar="NAME|FILE",
            help="Hardware profile; repeatable: one row for each.",
            autocompletion=completion.hardware,
        ),
    ] = None,
    strict: opt.Strict = False,
    show_config: opt.ShowConfig = False,
    form: opt.PageFormat = "table",
    output: opt.Output = None,
) -> None:
    """Put models and hardware side by side, with differences and their uncertainty."""
    from onnx_aiwq import comparison
    from onnx_aiwq.settings import configurations, merged

    opt.choose("--format", form, (*opt.PAGE_FORMATS, *opt.PICTURE_FORMATS))
    check_plot(ranking.plot, form, output, _PLOTS)
    options, origins = merged(opt.run_options(counting, grid, deployment, training), configurations())
    chosen: list[str | HardwareProfile | None] = [*hardware] if hardware else [options.hardware]
    if show_config:
        if hardware:
            origins["hardware"] = (", ".join(hardware), "command line")
        show_origins(origins, form, output)
        return
    with shown_progress() as progress:
        found = comparison.compare(
            models,
            hardware=chosen,
            pareto=ranking.pareto.split(","),
            where=ranking.where,
            minimise=ranking.minimise,
            by=ranking.by,
            strict=strict,
            progress=progress,
            **options.keywords(),
        )
        progress("writing the comparison")
        text = _rendered(found, ranking.plot, form, output)
    write(text, output)
    warn(found.warnings)


def _rendered(found: Comparison, plot: str | None, form: str, output: Path | None) -> str | bytes:
    document = found.to_dict()
    if form == "html":
        from onnx_aiwq.render.html import render_comparison_html

        return render_comparison_html(document)
    if plot is not None:
        from onnx_aiwq.render.plots import plot_comparison

        return plot_comparison(document, plot, form)
    from onnx_aiwq.render.comparison import render_comparison

    return render_comparison(document, form, width=table_width(), colour=output is None and use_colour())
