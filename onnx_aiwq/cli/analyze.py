"""`aiwq analyze`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.streams import shown_progress, table_width, use_colour, warn, write
from onnx_aiwq.errors import PolicyError, ShapeError

if TYPE_CHECKING:
    from onnx_aiwq.report import Report

_MAX_SWEEP = 1000  # points


def analyze(
    model: opt.Model,
    bind: opt.Bind = None,
    shape: opt.Shape = None,
    hardware: opt.Hardware = None,
    region: opt.Region = None,
    carbon_intensity: opt.Intensity = None,
    pue: opt.Pue = None,
    inferences: opt.Inferences = 1,
    convention: opt.ConventionOption = "default",
    measured_seconds: Annotated[
        float | None, typer.Option("--measured-seconds", metavar="S", help="Seconds of a real run, for AW_act.")
    ] = None,
    human_hours: Annotated[
        float | None, typer.Option("--human-hours", metavar="H", help="Hours of the same task done by people.")
    ] = None,
    human_cost: Annotated[
        float | None, typer.Option("--human-cost-per-hour", metavar="X", help="Cost of an hour of human work.")
    ] = None,
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
    from onnx_aiwq.metrics.workload import HumanTask
    from onnx_aiwq.render import render

    opt.choose("--format", form, opt.FORMATS)
    opt.choose("--convention", convention, opt.CONVENTIONS)
    if human_cost is not None and human_hours is None:
        raise PolicyError("--human-cost-per-hour needs --human-hours: the cost is per hour of that work")
    swept = None if sweep is None else _sweep_values(sweep)
    if swept is not None and strict:
        raise PolicyError(
            "--sweep varies a dimension that is left unbound, which --strict forbids; leave one of them out"
        )
    with shown_progress() as progress:
        report = reports.analyze(
            model,
            bind=opt.parse_bindings(bind),
            shapes=opt.parse_shapes(shape),
            hardware=hardware,
            region=region,
            carbon_intensity_g_per_kwh=carbon_intensity,
            pue=pue,
            inferences=inferences,
            convention="paper" if convention == "paper" else "default",
            measured_seconds=measured_seconds,
            human=None if human_hours is None else HumanTask(human_hours, cost_per_hour=human_cost),
            strict=strict,
            progress=progress,
        )
        progress("writing the report")
        if swept is not None:
            text = _render_sweep(report, *swept, form)
        else:
            text = render(report.to_dict(), form, width=table_width(), colour=output is None and use_colour())
    write(text, output)
    warn(report.warnings)


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
