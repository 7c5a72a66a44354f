"""Options that commands share, in groups; see `groups` for how a command takes one.

None stands for what was not given: then the project's configuration decides, then the default of the analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import completion
from onnx_aiwq.cli.parsing import UNITS, parse_bindings, parse_shapes, per_unit
from onnx_aiwq.cli.parsing import choose as choose
from onnx_aiwq.cli.parsing import parse_comp_res as parse_comp_res
from onnx_aiwq.cli.parsing import parse_range as parse_range

if TYPE_CHECKING:
    from onnx_aiwq.metrics.workload import Network
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
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        help="Form of the result.",
        autocompletion=completion.among(FORMATS),
    ),
]
PageFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="|".join((*PAGE_FORMATS, *PICTURE_FORMATS)),
        help="Form of the result; svg and png are of one --plot.",
        autocompletion=completion.among((*PAGE_FORMATS, *PICTURE_FORMATS)),
    ),
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
        typer.Option(
            "--convention",
            metavar="|".join(CONVENTIONS),
            help="`paper` counts no comparisons.",
            autocompletion=completion.among(CONVENTIONS),
        ),
    ] = None


@dataclass(frozen=True)
class Training:
    """Levels beyond inference."""

    level: Annotated[
        str | None,
        typer.Option(
            "--level",
            metavar="|".join(LEVELS),
            help="What is counted, inference unless given; training is one step.",
            autocompletion=completion.among(LEVELS),
        ),
    ] = None
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="|".join(LOSSES),
            help="Of validation and training.",
            autocompletion=completion.among(LOSSES),
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="|".join(OPTIMIZERS),
            help="Of training; sgd unless given.",
            autocompletion=completion.among(OPTIMIZERS),
        ),
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


@dataclass(frozen=True)
class Unit:
    """The functional unit of the SCI."""

    per: Annotated[
        str,
        typer.Option(
            "--per",
            metavar="|".join(UNITS),
            help="R of the SCI: what CO2 is divided by.",
            autocompletion=completion.among(UNITS),
        ),
    ] = "inference"
    inferences_per_request: Annotated[
        int | None, typer.Option("--inferences-per-request", metavar="N", help="For --per request.")
    ] = None
    inferences_per_user: Annotated[
        int | None, typer.Option("--inferences-per-user", metavar="N", help="For --per user.")
    ] = None

    @property
    def inferences(self) -> int | None:
        """Inferences of one unit; None where the unit says it itself."""
        return per_unit(self.per, self.inferences_per_request, self.inferences_per_user)


@dataclass(frozen=True)
class Workload:
    """What AIWQ asks for beyond the model."""

    comp_res: CompRes = None
    data_scale_bits: Annotated[
        float,
        typer.Option("--data-scale-bits", metavar="BITS", help="S_data of AIWQ eq. 31, which the paper leaves open."),
    ] = 1e12
    latency: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--latency", metavar="S WEIGHT", help="Network latency L and its weight gamma_L in 1/s (AIWQ eq. 32)."
        ),
    ] = None
    bandwidth: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--bandwidth", metavar="BPS WEIGHT", help="Bandwidth B in bit/s and its weight gamma_B in s/bit (eq. 32)."
        ),
    ] = None
    measured_seconds: Annotated[
        float | None,
        typer.Option("--measured-seconds", metavar="S", help="Seconds of a real run, for AW_act (AIWQ eq. 34)."),
    ] = None
    human_hours: Annotated[
        float | None, typer.Option("--human-hours", metavar="H", help="Hours of the same task done by people.")
    ] = None
    residual_human_hours: Annotated[
        float | None,
        typer.Option("--residual-human-hours", metavar="H", help="Hours of people that remain with the AI."),
    ] = None
    human_cost: Annotated[
        float | None, typer.Option("--human-cost-per-hour", metavar="X", help="Cost of an hour of human work.")
    ] = None
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="K", help="Kelvin of the Landauer bound (AIWQ eq. 2).")
    ] = 300.0
    negative_share: Annotated[
        float,
        typer.Option("--negative-share", metavar="F", help="Share of negative Relu inputs, for the Landauer bound."),
    ] = 0.5

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `onnx_aiwq.analyze`.

        Raises:
            PolicyError: if a value does not read, or lacks another that it belongs to.
        """
        from onnx_aiwq.deployment import human_task

        return {
            "comp_res": parse_comp_res(self.comp_res),
            "data_scale_bits": self.data_scale_bits,
            "network": self._network(),
            "measured_seconds": self.measured_seconds,
            "human": human_task(self.human_hours, self.residual_human_hours, self.human_cost),
            "temperature_k": self.temperature,
            "negative_share": self.negative_share,
        }

    def _network(self) -> Network:
        from onnx_aiwq.metrics.workload import Network

        seconds, seconds_weight = self.latency or (0.0, 0.0)
        rate, rate_weight = self.bandwidth or (0.0, 0.0)
        return Network(seconds, rate, seconds_weight, rate_weight)


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
