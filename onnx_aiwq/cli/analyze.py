"""`aiwq analyze`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import shown_progress, table_width, use_colour, warn, write
from onnx_aiwq.errors import PolicyError, ShapeError

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_aiwq.metrics.workload import Network
    from onnx_aiwq.report import Report

_MAX_SWEEP = 1000  # points


def analyze(
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
    per: opt.Per = "inference",
    inferences_per_request: opt.InferencesPerRequest = None,
    inferences_per_user: opt.InferencesPerUser = None,
    inferences: opt.Inferences = None,
    lifecycle: opt.LifeCycleFile = None,
    convention: opt.ConventionOption = "default",
    level: opt.LevelOption = "inference",
    loss: opt.Loss = None,
    optimizer: opt.Optimizer = "sgd",
    bp: opt.Bp = "instance",
    mini_batch: opt.MiniBatch = None,
    comp_res: opt.CompRes = None,
    data_scale_bits: opt.DataScale = 1e12,
    latency: opt.Latency = None,
    bandwidth: opt.Bandwidth = None,
    measured_seconds: opt.MeasuredSeconds = None,
    human_hours: opt.HumanHours = None,
    residual_human_hours: opt.ResidualHumanHours = None,
    human_cost: opt.HumanCost = None,
    temperature: opt.Temperature = 300.0,
    negative_share: opt.NegativeShare = 0.5,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="NAME=FROM:TO:xF", help="Vary an unbound dimension, by factor xF or step +S."),
    ] = None,
    strict: opt.Strict = False,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """Count one model and estimate its energy, eCAL, workload and CO2."""
    from onnx_aiwq import report as reports
    from onnx_aiwq.deployment import human_task

    opt.choose("--format", form, opt.FORMATS)
    opt.choose("--convention", convention, opt.CONVENTIONS)
    opt.choose("--bp", bp, opt.GRANULARITIES)
    swept = _checked_sweep(sweep, strict)
    with shown_progress() as progress:
        report = reports.analyze(
            model,
            bind=opt.parse_bindings(bind),
            shapes=opt.parse_shapes(shape),
            convention="paper" if convention == "paper" else "default",
            level=opt.parse_level(level),
            step=reports.TrainingStep(loss, optimizer, "batch" if bp == "batch" else "instance", mini_batch),
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
            per=per,
            inferences_per_unit=opt.per_unit(per, inferences_per_request, inferences_per_user),
            inferences=inferences,
            lifecycle=lifecycle,
            comp_res=opt.parse_comp_res(comp_res),
            data_scale_bits=data_scale_bits,
            network=_network(latency, bandwidth),
            measured_seconds=measured_seconds,
            human=human_task(human_hours, residual_human_hours, human_cost),
            temperature_k=temperature,
            negative_share=negative_share,
        )
        progress("writing the report")
        text = _rendered(report, swept, form, output)
    write(text, output)
    warn(report.warnings)


def _checked_sweep(sweep: str | None, strict: bool) -> tuple[str, list[int]] | None:
    swept = None if sweep is None else _sweep_values(sweep)
    if swept is not None and strict:
        raise PolicyError(
            "--sweep varies a dimension that is left unbound, which --strict forbids; leave one of them out"
        )
    return swept


def _network(latency: tuple[float, float] | None, bandwidth: tuple[float, float] | None) -> Network:
    from onnx_aiwq.metrics.workload import Network

    seconds, seconds_weight = latency or (0.0, 0.0)
    rate, rate_weight = bandwidth or (0.0, 0.0)
    return Network(seconds, rate, seconds_weight, rate_weight)


def _rendered(report: Report, swept: tuple[str, list[int]] | None, form: str, output: Path | None) -> str:
    from onnx_aiwq.render import render

    if swept is not None:
        return _render_sweep(report, *swept, form)
    return render(report.to_dict(), form, width=table_width(), colour=output is None and use_colour())


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

    return render_sweep(report.to_dict(), name, list(report.sweep(name, values)), form, table_width())
