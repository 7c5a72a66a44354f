"""What would lower the energy and CO2 of a model: each lever computed by recounting and pricing, none recited.

A lever changes one thing of a deployment or of its costs, and both are priced by the same code as the report. Before
and after are always of the same work: the inferences of the deployment, with the life cycle where there is one. What a
lever takes for granted and what it cannot know (accuracy, always) stands with it; one that cannot be computed is listed
with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_aiwq.advise.dimensions import dimension_levers
from onnx_aiwq.advise.levers import Advice, Case, Figures, Lever
from onnx_aiwq.advise.precision import precision_levers
from onnx_aiwq.advise.pruning import pruning_levers
from onnx_aiwq.advise.settings import hardware_levers, region_levers, setting_levers
from onnx_aiwq.metrics.hourly import read_hourly
from onnx_aiwq.metrics.regions import find_region
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.report import Report, analyze

if TYPE_CHECKING:
    import onnx

__all__ = ["Advice", "Figures", "Lever", "advise"]


def advise(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    try_hardware: Sequence[str] = (),
    try_regions: Sequence[str] = (),
    **options: Any,
) -> Advice:
    """Compute every lever on a model in a deployment.

    Args:
        source: path, bytes or ModelProto.
        try_hardware: profiles to move to; the cheapest datasheet profiles of the same kind if none.
        try_regions: regions to move to; those with the least carbon if none.
        options: of `onnx_aiwq.analyze`, all but `level`: every lever is on inference.

    Raises:
        AiwqError: if the model or an option is not usable.
    """
    profiles = [load_profile(name) for name in try_hardware]
    regions = [find_region(code) for code in try_regions]
    options = {"formulas": False, **options}
    report = analyze(source, **options)
    hourly = options.get("carbon_profile")
    case = Case(report, None if hourly is None else read_hourly(Path(hourly)))

    def recount(name: str, value: int) -> Report:
        bind = {**(options.get("bind") or {}), name: value}
        quiet = {**options, "bind": bind, "progress": lambda stage: None}
        return analyze(source, **quiet)

    levers = [
        *precision_levers(case),
        *pruning_levers(case),
        *dimension_levers(case, recount),
        *hardware_levers(case, profiles),
        *region_levers(case, regions),
        *setting_levers(case),
    ]
    return Advice(report, case.before, tuple(sorted(levers, key=_rank)))


def _rank(lever: Lever) -> tuple[int, float]:
    if lever.saved_grams is not None:
        return 0, -lever.saved_grams
    return (1, -lever.saved_joules) if lever.saved_joules is not None else (2, 0.0)
