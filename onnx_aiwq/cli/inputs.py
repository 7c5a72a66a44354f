"""Options of the commands that take several models: compare, gate and baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_aiwq.cli import options as opt

if TYPE_CHECKING:
    from onnx_aiwq.runs import RunOptions

FORMATS = ("table", "json", "markdown", "csv")
LEVELS = ("inference", "validation", "training")

# Without a default on the command line, None stands for what the project's configuration says.
Models = Annotated[
    list[str] | None, typer.Argument(metavar="MODEL...", help="ONNX files and globs ('models/**/*.onnx').")
]
Inferences = Annotated[
    int | None, typer.Option("--inferences", metavar="N", help="Inferences that eCAL and CO2 are for.")
]
ConventionOption = Annotated[
    str | None, typer.Option("--convention", metavar="|".join(opt.CONVENTIONS), help="`paper` counts no comparisons.")
]
Level = Annotated[str | None, typer.Option("--level", metavar="|".join(LEVELS), help="What is counted.")]
Lifecycle = Annotated[
    Path | None, typer.Option("--lifecycle", metavar="FILE", help="TOML file of the life cycle around the model.")
]
Format = Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="Form of the result.")]
Policy = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="TOML file with budgets, tolerances and overrides.")
]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="REPORT|FOLDER", help="Saved report, or a folder of them.")
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Show every setting and where it comes from; analyse nothing.")
]


def run_options(
    bind: list[str] | None,
    shape: list[str] | None,
    hardware: str | None,
    region: str | None,
    carbon_intensity: float | None,
    pue: float | None,
    inferences: int | None,
    convention: str | None,
    level: str | None,
    lifecycle: Path | None,
) -> RunOptions:
    """What the command line says of the analysis.

    Raises:
        AiwqError: if a value does not read.
    """
    from onnx_aiwq.runs import RunOptions

    if convention is not None:
        opt.choose("--convention", convention, opt.CONVENTIONS)
    if level is not None:
        opt.choose("--level", level, LEVELS)
    return RunOptions(
        bind=opt.parse_bindings(bind),
        shapes=opt.parse_shapes(shape),
        hardware=hardware,
        region=region,
        carbon_intensity=carbon_intensity,
        pue=pue,
        inferences=inferences,
        convention=convention,
        level=level,
        lifecycle=None if lifecycle is None else str(lifecycle),
    )
