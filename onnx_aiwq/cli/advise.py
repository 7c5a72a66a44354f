"""`aiwq advise`."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import shown_progress, table_width, warn, write


def advise(
    model: opt.Model,
    bind: opt.Bind = None,
    shape: opt.Shape = None,
    hardware: opt.Hardware = None,
    region: opt.Region = None,
    carbon_intensity: opt.Intensity = None,
    carbon_profile: opt.CarbonProfile = None,
    hour: opt.Hour = None,
    pue: opt.Pue = None,
    utilization: opt.Utilization = 1.0,
    embodied_kg: opt.EmbodiedKg = None,
    lifetime_years: opt.LifetimeYears = None,
    inferences: opt.Inferences = None,
    lifecycle: opt.LifeCycleFile = None,
    convention: opt.ConventionOption = "default",
    try_hardware: Annotated[
        list[str] | None, typer.Option("--try-hardware", metavar="NAME|FILE", help="Profile to move to; repeatable.")
    ] = None,
    try_region: Annotated[
        list[str] | None, typer.Option("--try-region", metavar="CODE", help="Region to move to; repeatable.")
    ] = None,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """Compute what would lower a model's energy and CO2: precision, pruning, batch, hardware, place and time."""
    from onnx_aiwq import advise as advice
    from onnx_aiwq.render.advice import render_advice

    opt.choose("--format", form, opt.FORMATS)
    opt.choose("--convention", convention, opt.CONVENTIONS)
    with shown_progress() as progress:
        document = advice.advise(
            model,
            try_hardware=try_hardware or (),
            try_regions=try_region or (),
            bind=opt.parse_bindings(bind),
            shapes=opt.parse_shapes(shape),
            convention="paper" if convention == "paper" else "default",
            strict=strict,
            progress=progress,
            hardware=hardware,
            region=region,
            carbon_intensity_g_per_kwh=carbon_intensity,
            carbon_profile=carbon_profile,
            hour=hour,
            pue=pue,
            utilization=utilization,
            embodied_kg=embodied_kg,
            lifetime_years=lifetime_years,
            inferences=inferences,
            lifecycle=lifecycle,
        ).to_dict()
    write(render_advice(document, form, table_width()), output)
    warn(document["warnings"])
