"""`aiwq compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import inputs
from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import shown_progress, table_width, use_colour, warn, write

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_aiwq.profiles import HardwareProfile


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="ONNX files, globs, and saved JSON reports (*.json).")
    ],
    hardware: Annotated[
        list[str] | None,
        typer.Option("--hardware", metavar="NAME|FILE", help="Hardware profile; repeatable: one row for each."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="CONDITION", help="As 'seconds < 20 ms and peak_memory < 200 MB'."),
    ] = None,
    minimise: Annotated[
        str | None,
        typer.Option("--minimise", "--minimize", metavar="METRIC", help="Name the best row that meets --where."),
    ] = None,
    pareto: Annotated[
        str, typer.Option("--pareto", metavar="METRIC,METRIC", help="Mark the rows that no other beats in both.")
    ] = "energy,seconds",
    by: Annotated[
        str | None, typer.Option("--by", metavar="operator|node", help="What differs between two rows.")
    ] = None,
    bind: opt.Bind = None,
    shape: opt.Shape = None,
    region: opt.Region = None,
    carbon_intensity: opt.Intensity = None,
    pue: opt.Pue = None,
    inferences: inputs.Inferences = None,
    convention: inputs.ConventionOption = None,
    level: inputs.Level = None,
    lifecycle: inputs.Lifecycle = None,
    strict: opt.Strict = False,
    show_config: inputs.ShowConfig = False,
    form: inputs.Format = "table",
    output: opt.Output = None,
) -> None:
    """Put models and hardware side by side, with differences and their uncertainty."""
    from onnx_aiwq import comparison
    from onnx_aiwq.render.comparison import render_comparison
    from onnx_aiwq.settings import configurations, merged

    opt.choose("--format", form, inputs.FORMATS)
    given = inputs.run_options(
        bind, shape, None, region, carbon_intensity, pue, inferences, convention, level, lifecycle
    )
    options, origins = merged(given, configurations())
    chosen: list[str | HardwareProfile | None] = [*hardware] if hardware else [options.hardware]
    if show_config:
        if hardware:
            origins["hardware"] = (", ".join(hardware), "command line")
        _show(origins, form, output)
        return
    with shown_progress() as progress:
        found = comparison.compare(
            models,
            hardware=chosen,
            pareto=pareto.split(","),
            where=where,
            minimise=minimise,
            by=by,
            strict=strict,
            progress=progress,
            **options.keywords(),
        )
        progress("writing the comparison")
        text = render_comparison(found.to_dict(), form, width=table_width(), colour=output is None and use_colour())
    write(text, output)
    warn(found.warnings)


def _show(origins: dict[str, tuple[str, str]], form: str, output: Path | None) -> None:
    from onnx_aiwq.render.listing import write_rows

    rows = [(setting, value, origin) for setting, (value, origin) in sorted(origins.items())]
    write(write_rows(("setting", "value", "from"), rows, form, table_width()), output)
