"""`aiwq validate`: predicted against measured on networks that took no part in the fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.metering import Metering
from onnx_aiwq.cli.parsing import parse_bindings
from onnx_aiwq.cli.streams import say, shown_progress, table_width, use_colour, warn, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.calibration.meters import Meter
    from onnx_aiwq.hardware_profile import HardwareProfile

FORMATS = ("table", "json", "markdown")

Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL...", help="ONNX files and globs; nine networks of the onnx package without."),
]
Hardware = Annotated[
    str | None,
    typer.Option("--hardware", metavar="NAME|FILE", help="Calibrated profile; the one of this machine unless given."),
]
Bind = Annotated[
    list[str] | None,
    typer.Option("--bind", metavar="NAME=INT", help="Value of a symbolic dimension, where a model has it; repeatable."),
]
PerNode = Annotated[
    bool, typer.Option("--per-node", help="Name the kernels that are off, beside onnxruntime's own profiler.")
]
ProfileOutput = Annotated[
    Path | None,
    typer.Option("--profile-output", metavar="FILE", help="Write a copy of the profile that keeps what was found."),
]
Format = Annotated[str, opt.one_of("--format", FORMATS, "Form of the result.")]


def validate(
    metering: Metering,
    models: Models = None,
    hardware: Hardware = None,
    bind: Bind = None,
    per_node: PerNode = False,
    form: Format = "table",
    output: opt.Output = None,
    profile_output: ProfileOutput = None,
) -> None:
    """Run networks and set what they took beside what a calibrated profile predicts."""
    opt.choose("--format", form, FORMATS)
    metering.check()
    bindings = parse_bindings(bind)
    _check_free(profile_output)
    profile = _profile(hardware)

    from onnx_aiwq.calibration.candidates import candidates_of, light_models
    from onnx_aiwq.calibration.validation import check_profile, validated
    from onnx_aiwq.calibration.validation import validate as run
    from onnx_aiwq.calibration.validation_document import validation_document
    from onnx_aiwq.render.validation import render_validation
    from onnx_aiwq.runs import expand

    warnings = list(check_profile(profile))
    paths = expand(models) if models else [candidate.path for candidate in light_models()]
    with shown_progress() as progress:
        progress("reading the models")
        candidates, assumed = candidates_of(paths, bindings)
        warnings += assumed
        opened = _meter(metering, profile)
        for line in warnings:
            say(line)  # before minutes of runs, not after them
        result = run(
            candidates, profile, meter=opened, per_node=per_node, progress=lambda name: progress(f"running {name}")
        )
    if opened is not None:
        opened.close()
    document = validation_document(result, profile, opened, warnings)
    text = render_validation(document, form, width=table_width(), colour=output is None and use_colour())
    if profile_output is not None:
        _check_free(profile_output)
        write(validated(profile, result).to_json(), profile_output)
    write(text, output)
    warn(document["warnings"][len(warnings) :])


def _profile(hardware: str | None) -> HardwareProfile:
    from onnx_aiwq.errors import ProfileError
    from onnx_aiwq.profiles import calibrated_profile_of_this_machine, load_profile

    if hardware is not None:
        return load_profile(hardware)
    profile = calibrated_profile_of_this_machine()
    if profile is None:
        raise ProfileError(
            "no profile was calibrated on this machine; run `aiwq calibrate` first (about five minutes), or name one "
            "with --hardware"
        )
    return profile


def _check_free(profile_output: Path | None) -> None:
    """Before minutes of runs and again after them: a profile is never overwritten."""
    if profile_output is not None and profile_output.exists():
        raise PolicyError(f"--profile-output {profile_output}: exists and is never overwritten; give another file")


def _meter(metering: Metering, profile: HardwareProfile) -> Meter | None:
    """The meter that joules are compared with; watts that are a model's only where they were asked for."""
    from onnx_aiwq.calibration.meters import MeterUnavailableError
    from onnx_aiwq.calibration.meters.power_model import PowerModelMeter

    provider = profile.provider or "CPUExecutionProvider"
    unasked = metering.meter == "auto" and metering.watts is None
    try:
        opened = metering.open(provider=provider, threads=profile.threads)
    except MeterUnavailableError as error:
        if metering.meter != "auto":
            raise
        say(f"{error}; joules are not compared")
        return None
    if unasked and isinstance(opened, PowerModelMeter):
        say("nothing here measures joules (`aiwq doctor` says why), so they are not compared; --watts W models them")
        return None
    for note in opened.notes:
        say(note)
    return opened
