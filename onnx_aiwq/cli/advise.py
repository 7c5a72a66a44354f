"""`aiwq advise`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from onnx_aiwq.cli import completion
from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import line_width, shown_progress, warn, write


@dataclass(frozen=True)
class Moves:
    """Where the model could go."""

    try_hardware: Annotated[
        list[str] | None,
        typer.Option(
            "--try-hardware",
            metavar="NAME|FILE",
            help="Profile to move to; repeatable.",
            autocompletion=completion.hardware,
        ),
    ] = None
    try_region: Annotated[
        list[str] | None,
        typer.Option(
            "--try-region", metavar="CODE", help="Region to move to; repeatable.", autocompletion=completion.regions
        ),
    ] = None


def advise(
    model: opt.Model,
    counting: opt.Counting,
    grid: opt.Grid,
    deployment: opt.Deployment,
    moves: Moves,
    hardware: opt.Hardware = None,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """Compute what would lower a model's energy and CO2: precision, pruning, batch, hardware, place and time."""
    from onnx_aiwq import advise as advice
    from onnx_aiwq.render.advice import render_advice
    from onnx_aiwq.runs import fitted
    from onnx_aiwq.settings import configurations, merged

    opt.choose("--format", form, opt.FORMATS)
    options, _ = merged(opt.run_options(counting, grid, deployment, hardware=hardware), configurations())
    options = replace(fitted(model, options), level=None)
    with shown_progress() as progress:
        document = advice.advise(
            model,
            try_hardware=moves.try_hardware or (),
            try_regions=moves.try_region or (),
            bind=options.bind,
            shapes=options.shapes,
            hardware=options.hardware,
            strict=strict,
            progress=progress,
            **options.arguments(),
        ).to_dict()
    write(render_advice(document, form, line_width()), output)
    warn(document["warnings"])
