"""`aiwq lifecycle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnx_aiwq.cli import options as opt
from onnx_aiwq.cli.metric_options import Unit
from onnx_aiwq.cli.streams import line_width, shown_progress, warn, write
from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.lifecycle import LifeCycleResult
    from onnx_aiwq.metrics.carbon import FunctionalUnit, Grid


def lifecycle(
    grid: opt.Grid,
    unit: Unit,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="TOML file of the life cycle.")] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a commented life cycle file and exit.")] = False,
    utilization: Annotated[
        float, typer.Option("--utilization", metavar="U", help="Share of its powered time that the hardware does this.")
    ] = 1.0,
    inferences: Annotated[
        int | None, typer.Option("--inferences", metavar="N", help="Inferences, instead of the file's.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep-inferences", metavar="FROM:TO:xF", help="Vary the inferences, by factor xF or step +S."),
    ] = None,
    form: opt.Format = "table",
    output: opt.Output = None,
) -> None:
    """Energy of a whole deployment (eCAL): collection, training and inference, as a TOML file describes it."""
    from onnx_aiwq import lifecycle as cycles
    from onnx_aiwq.metrics.carbon import functional_unit
    from onnx_aiwq.render.lifecycle import render_life_cycle

    opt.choose("--format", form, opt.FORMATS)
    if example:
        write(cycles.example_text(), output)
        return
    if file is None:
        raise PolicyError("lifecycle needs a FILE; `aiwq lifecycle --example` prints one to start from")
    counts = None if sweep is None else opt.parse_range("--sweep-inferences", sweep)
    functional = functional_unit(unit.per, unit.inferences)
    electricity = _grid(grid)
    life = cycles.read_lifecycle(file)
    if life.model is None:
        raise PolicyError(
            f"{file}: [model]: missing; give forward_flops or file, or run `aiwq analyze MODEL --lifecycle {file}`"
        )
    with shown_progress() as progress:
        progress("counting the model")
        network = cycles.network_of(life.model, file.parent)
        result = cycles.evaluate(life, network, inferences=inferences, utilization=utilization)
        document = _document(result, electricity, functional, counts)
    write(render_life_cycle(document, form, line_width()), output)
    warn(document["warnings"])


def _grid(given: opt.Grid) -> Grid | None:
    """The electricity; None where nothing of it was asked for, and then there are no grams."""
    from onnx_aiwq.deployment import describe_grid

    if given == opt.Grid():
        return None
    return describe_grid(given.region, given.carbon_intensity, given.carbon_profile, given.hour, given.pue)


def _document(
    result: LifeCycleResult, grid: Grid | None, unit: FunctionalUnit, counts: list[int] | None
) -> dict[str, Any]:
    from onnx_aiwq.lifecycle import life_cycle_carbon

    carbon = None if grid is None else life_cycle_carbon(result, grid, unit=unit)
    document: dict[str, Any] = {
        "ecal": result.ecal.to_dict(),
        "carbon": None if carbon is None else carbon.to_dict(),
        "warnings": [*result.warnings, *(() if carbon is None else carbon.warnings)],
    }
    if counts is not None:
        document["sweep"] = [_point(result, count, grid, unit) for count in counts]
    return document


def _point(result: LifeCycleResult, count: int, grid: Grid | None, unit: FunctionalUnit) -> dict[str, Any]:
    from dataclasses import replace

    from onnx_aiwq.lifecycle import ecal_at, life_cycle_carbon

    ecal = ecal_at(result.costs, count)
    carbon = None if grid is None else life_cycle_carbon(replace(result, ecal=ecal), grid, unit=unit)
    limit = ecal.details["limit_j_per_bit"]
    return {
        "inferences": count,
        "joules": ecal.joules,
        "bits": ecal.bits,
        "joules_per_bit": ecal.joules_per_bit,
        "over_limit": ecal.joules_per_bit / limit if ecal.joules_per_bit is not None and limit else None,
        "development_j": ecal.development_j,
        "inference_j": ecal.inference_j,
        "operational_g": None if carbon is None else carbon.operational_g,
    }
