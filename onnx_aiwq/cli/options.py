"""Options that commands share, in groups; see `groups` for how a command takes one.

None stands for what was not given: then the project's configuration decides, then the default of the analysis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import completion
from onnx_aiwq.cli.parsing import choose as choose
from onnx_aiwq.cli.parsing import parse_bindings, parse_shapes
from onnx_aiwq.cli.parsing import parse_comp_res as parse_comp_res
from onnx_aiwq.cli.parsing import parse_range as parse_range

if TYPE_CHECKING:
    from onnx_aiwq.runs import RunOptions

FORMATS = ("table", "json", "markdown", "csv")
PAGE_FORMATS = (*FORMATS, "html")
PICTURE_FORMATS = ("svg", "png")
CONVENTIONS = ("default", "paper")
LEVELS = ("inference", "validation", "training")
GRANULARITIES = ("instance", "batch")
LOSSES = ("mse", "cross-entropy", "bce")
OPTIMIZERS = ("sgd", "adam")
OPTIMISATION_LEVELS = ("disabled", "basic", "extended", "all")


def one_of(name: str, words: Sequence[str], text: str) -> Any:
    """An option that is one of some words, which the help lists and the shell completes; `choose` checks it."""
    return typer.Option(name, metavar="|".join(words), help=text, autocompletion=completion.among(words))


Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="ONNX file (or its URL); weights may be absent.", show_default=False),
]
Models = Annotated[
    list[str] | None, typer.Argument(metavar="MODEL...", help="ONNX files and globs ('models/**/*.onnx').")
]
Hardware = Annotated[
    str | None,
    typer.Option(
        "--hardware",
        metavar="NAME|FILE",
        help="Hardware profile; `aiwq hardware` lists them.",
        autocompletion=completion.hardware,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on unbound dimensions and unsupported operators instead of naming them.")
]
Policy = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="TOML file with budgets, tolerances and overrides.")
]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="REPORT|FOLDER", help="Saved report, or a folder of them.")
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Show every setting and where it comes from; analyse nothing.")
]
CompRes = Annotated[
    str | None,
    typer.Option(
        "--comp-res",
        metavar="NAME=X,...",
        help="cpu_gips, ram_gt_per_s, gpu_gips, storage_gb_per_s of AIWQ eq. 30, instead of the profile's.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the result to a file instead of stdout.")
]
Format = Annotated[
    str,
    one_of("--format", FORMATS, "Form of the result."),
]
PageFormat = Annotated[
    str,
    one_of("--format", (*PAGE_FORMATS, *PICTURE_FORMATS), "Form of the result; svg and png are of one --plot."),
]


@dataclass(frozen=True)
class Counting:
    """What is counted."""

    bind: Annotated[
        list[str] | None, typer.Option("--bind", metavar="NAME=INT", help="Value of a symbolic dimension; repeatable.")
    ] = None
    shape: Annotated[
        list[str] | None, typer.Option("--shape", metavar="INPUT=1,3,224,224", help="Shape of an input; repeatable.")
    ] = None
    convention: Annotated[
        str | None,
        one_of("--convention", CONVENTIONS, "`paper` counts no comparisons."),
    ] = None


@dataclass(frozen=True)
class Training:
    """Levels beyond inference."""

    level: Annotated[
        str | None,
        one_of("--level", LEVELS, "What is counted, inference unless given; training is one step."),
    ] = None
    loss: Annotated[
        str | None,
        one_of("--loss", LOSSES, "Of validation and training."),
    ] = None
    optimizer: Annotated[
        str | None,
        one_of("--optimizer", OPTIMIZERS, "Of training; sgd unless given."),
    ] = None
    bp: Annotated[
        str | None,
        typer.Option("--bp", metavar="|".join(GRANULARITIES), help="Back-propagate each instance, or one per batch."),
    ] = None
    mini_batch: Annotated[
        int | None,
        typer.Option("--mini-batch", metavar="N", help="Runs of the model per training step; 1 unless given."),
    ] = None


@dataclass(frozen=True)
class Grid:
    """The electricity."""

    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="CODE",
            help="Grid or cloud region; `aiwq regions` lists them.",
            autocompletion=completion.regions,
        ),
    ] = None
    carbon_intensity: Annotated[
        float | None,
        typer.Option("--carbon-intensity", metavar="G_PER_KWH", help="gCO2e/kWh instead of a region."),
    ] = None
    carbon_profile: Annotated[
        Path | None,
        typer.Option(
            "--carbon-profile", metavar="FILE.csv", help="gCO2e/kWh by hour of day (columns hour, g_per_kwh)."
        ),
    ] = None
    hour: Annotated[
        int | None,
        typer.Option("--hour", metavar="H", help="Hour of --carbon-profile, 0 to 23; the mean of the day without."),
    ] = None
    pue: Annotated[float | None, typer.Option("--pue", metavar="X", help="Power usage effectiveness, at least 1.")] = (
        None
    )


@dataclass(frozen=True)
class Deployment:
    """How the hardware is used, and for how much."""

    utilization: Annotated[
        float | None,
        typer.Option(
            "--utilization",
            metavar="U",
            help="Share of its powered time that the hardware does this work, 0 to 1; 1 unless given.",
        ),
    ] = None
    embodied_kg: Annotated[
        float | None,
        typer.Option("--embodied-kg", metavar="KG", help="kgCO2e of making the hardware, instead of its profile's."),
    ] = None
    lifetime_years: Annotated[
        float | None,
        typer.Option("--lifetime-years", metavar="Y", help="Years of use that embodied CO2 is spread over."),
    ] = None
    inferences: Annotated[
        int | None,
        typer.Option(
            "--inferences", metavar="N", help="Inferences that eCAL and CO2 are for; those of --lifecycle, else 1."
        ),
    ] = None
    lifecycle: Annotated[
        Path | None,
        typer.Option(
            "--lifecycle", metavar="FILE", help="TOML file of the life cycle; `aiwq lifecycle --example` prints one."
        ),
    ] = None


def run_options(
    counting: Counting,
    grid: Grid,
    deployment: Deployment,
    training: Training = Training(),
    hardware: str | None = None,
) -> RunOptions:
    """What the command line says of the analysis.

    Raises:
        AiwqError: if a value does not read.
    """
    from onnx_aiwq.runs import RunOptions

    for option, value, allowed in (
        ("--convention", counting.convention, CONVENTIONS),
        ("--level", training.level, LEVELS),
        ("--bp", training.bp, GRANULARITIES),
    ):
        if value is not None:
            choose(option, value, allowed)
    return RunOptions(
        bind=parse_bindings(counting.bind),
        shapes=parse_shapes(counting.shape),
        convention=counting.convention,
        level=training.level,
        loss=training.loss,
        optimizer=training.optimizer,
        bp=training.bp,
        mini_batch=training.mini_batch,
        hardware=hardware,
        region=grid.region,
        carbon_intensity=grid.carbon_intensity,
        carbon_profile=None if grid.carbon_profile is None else str(grid.carbon_profile),
        hour=grid.hour,
        pue=grid.pue,
        utilization=deployment.utilization,
        embodied_kg=deployment.embodied_kg,
        lifetime_years=deployment.lifetime_years,
        inferences=deployment.inferences,
        lifecycle=None if deployment.lifecycle is None else str(deployment.lifecycle),
    )
