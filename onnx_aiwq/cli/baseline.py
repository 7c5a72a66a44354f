"""`aiwq baseline update`."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_aiwq.cli import inputs
from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import shown_progress, table_width, write


def baseline(
    action: Annotated[str, typer.Argument(metavar="update", help="Write the reports that the gate compares with.")],
    models: inputs.Models = None,
    place: inputs.Baseline = None,
    policy: inputs.Policy = None,
    bind: opt.Bind = None,
    shape: opt.Shape = None,
    hardware: opt.Hardware = None,
    region: opt.Region = None,
    carbon_intensity: opt.Intensity = None,
    pue: opt.Pue = None,
    inferences: inputs.Inferences = None,
    convention: inputs.ConventionOption = None,
    level: inputs.Level = None,
    lifecycle: inputs.Lifecycle = None,
    form: inputs.Format = "table",
    output: opt.Output = None,
) -> None:
    """Write baselines: one report per model, which `aiwq gate --baseline` compares with."""
    from onnx_aiwq.gating.baselines import update
    from onnx_aiwq.gating.policy import Flags, plans
    from onnx_aiwq.render.listing import write_rows
    from onnx_aiwq.settings import configurations

    opt.choose("action", action, ("update",))
    opt.choose("--format", form, inputs.FORMATS)
    options = inputs.run_options(
        bind, shape, hardware, region, carbon_intensity, pue, inferences, convention, level, lifecycle
    )
    planned = plans(models or (), Flags(options, baseline=place), configurations(policy))
    with shown_progress() as progress:
        written = update(planned, progress)
    rows = [(str(each.model), str(each.path), each.state) for each in written]
    write(write_rows(("model", "baseline", "state"), rows, form, table_width()), output)
