"""Baselines: the reports that a project keeps in git, where they lie, and what compares with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.gating.policy import Plan
from onnx_aiwq.runs import analysed, place_below, quiet, require_used, require_whole
from onnx_aiwq.saved import read_report, require_comparable

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A baseline that was written: of which model, where, and whether it is new, changed or the same as before."""

    model: Path
    path: Path
    state: str


def baseline_path(plan: Plan) -> Path:
    """Where the baseline of a model lies: the file that was named, or a file in the folder that was named.

    In a folder, ``models/a.onnx`` has ``models/a.onnx.json``; a model outside the project has its bare name.

    Raises:
        PolicyError: if no baseline was named.
    """
    if plan.baseline is None:
        raise PolicyError("no baseline: name a report or a folder with --baseline, or set gate.baseline in aiwq.toml")
    if plan.baseline.suffix.casefold() == ".json":
        return plan.baseline
    relative = place_below(plan.model, plan.baseline_root) or plan.model.name
    return plan.baseline / f"{relative}.json"


def require_one_each(plans: Sequence[Plan]) -> None:
    """Refuse two models that share one baseline file.

    Raises:
        PolicyError: naming the file and the models.
    """
    owners: dict[Path, Path] = {}
    for plan in plans:
        if plan.baseline is not None:
            path = baseline_path(plan)
            owner = owners.setdefault(path, plan.model)
            if owner != plan.model:
                raise PolicyError(
                    f"--baseline {path}: is for {owner} and {plan.model}; name a folder instead of a file"
                )


def read_baseline(plan: Plan, report: Report) -> tuple[Path, Report]:
    """The baseline of a model, where it compares with a fresh report.

    Raises:
        PolicyError: if it is absent, not readable, incomplete, or was made with other options.
    """
    path = baseline_path(plan)
    if not path.exists():
        raise PolicyError(
            f"{path}: no baseline for {plan.model}; write it with `aiwq baseline update {plan.model} --baseline "
            f"{plan.baseline}`"
        )
    before = read_report(path)
    require_whole([(str(path), before)])
    require_comparable(report, before, str(path))
    return path, before


def not_comparable(metric: str, report: Report, before: Report) -> str:
    """Why a metric of two comparable reports does not compare; empty if it does.

    Grams depend on the grid and eCAL on the life cycle, which is no change of the model.
    """
    pairs = {
        "co2e": [("carbon", key) for key in ("intensity_g_per_kwh", "pue", "inferences", "covers")],
        "ecal": [("ecal", "inferences"), ("ecal", "scope")],
    }
    differs = [
        f"{key} was {before[table][key]}, now {report[table][key]}"
        for table, key in pairs.get(metric, ())
        if before[table].get(key) != report[table].get(key)
    ]
    return "; ".join(differs)


def update(plans: Sequence[Plan], progress: Callable[[str], None] = quiet) -> list[Written]:
    """Analyse models and write their reports as baselines; every file appears whole or not at all.

    Args:
        plans: one per model.
        progress: is told the name of each stage as it begins.

    Raises:
        AiwqError: if a model cannot be analysed completely, or a file cannot be written. No file is written before
            every model is analysed.
    """
    require_one_each(plans)
    paths = [baseline_path(plan) for plan in plans]
    reports = [next(analysed(plan.model, plan.options, [plan.options.hardware], progress)) for plan in plans]
    require_whole((str(plan.model), report) for plan, report in zip(plans, reports, strict=True))
    if len(plans) > 1:
        require_used(plans[0].options, sorted(plans[0].required), reports)
    return [
        Written(plan.model, path, _write(path, report))
        for plan, path, report in zip(plans, paths, reports, strict=True)
    ]


def _write(path: Path, report: Report) -> str:
    from onnx_aiwq.files import write_whole

    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        if before == text:
            return "unchanged"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError(f"--baseline {path}: cannot be written: {reason}; choose another place") from error
    return "new" if before is None else "changed"
