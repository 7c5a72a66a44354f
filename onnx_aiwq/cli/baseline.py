"""`aiwq baseline update`."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import line_width, shown_progress, write


def baseline(
    action: Annotated[str, typer.Argument(metavar="update", help="Write the reports that the gate compares with.")],
    counting: opt.Counting,
    training: opt.Training,
    grid: opt.Grid,
    deployment: opt.Deployment,
    models: opt.Models = None,
    place: opt.Baseline = None,
    policy: opt.Policy = None,
    hardware: opt.Hardware = None,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """Write baselines: one report per model, which `aiwq gate --baseline` compares with."""
    from onnx_aiwq.gating.baselines import update
    from onnx_aiwq.gating.policy import Flags, plans
    from onnx_aiwq.render.listing import write_rows
    from onnx_aiwq.settings import configurations

    opt.choose("action", action, ("update",))
    opt.choose("--format", form, opt.FORMATS)
    options = opt.run_options(counting, grid, deployment, training, hardware)
    planned = plans(models or (), Flags(options, baseline=place), configurations(policy))
    with shown_progress() as progress:
        written = update(planned, progress)
    rows = [(str(each.model), str(each.path), each.state) for each in written]
    write(write_rows(("model", "baseline", "state"), rows, form, line_width()), output)
