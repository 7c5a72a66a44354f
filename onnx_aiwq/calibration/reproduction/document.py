"""The result of the experiment as the JSON object of the schema ``onnx_aiwq.reproduction/1``."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from onnx_aiwq.calibration.reproduction.evaluation import (
    BASES,
    DEFAULT_SPLITS,
    DEGREES,
    TRAIN_SHARE,
    collinearity,
    dropped_runs,
    fit_entry,
    groups_of,
    table,
    trimmed,
)
from onnx_aiwq.calibration.reproduction.measuring import Campaign
from onnx_aiwq.calibration.reproduction.samples import Sample
from onnx_aiwq.errors import ProfileError

SCHEMA = "onnx_aiwq.reproduction/1"
EXPERIMENT = "transistor-operations"
REPRODUCED = (
    "the networks of Table IV: feed-forward 4-w-w-w-1 with w = 4 to 18 and three activations, convolutional with 2 to "
    "10 layers",
    "the inference level on one CPU thread: forward passes only, TOs and FLOPs of the same forward passes",
    "the protocol: runs per network, a tenth dropped at each end, random 60/40 splits, polynomials of n = 1 to 3, "
    "adjusted R2, RMSE and precision = 100 (1 - |E - E^|/E)",
)
NOT_REPRODUCED = (
    "the training and validation levels, which are what the paper measured (2000 and 5000 epochs of training): "
    "onnxruntime infers; `aiwq analyze --level training` counts them, but nothing here measures them",
    "the paper's machines and meters (Power Gadget, OpenHardwareMonitor, GPU-Z), its GPU rows and its data sets",
    "the pauses in which the paper let its hardware cool between runs",
    "the order n that Table V uses, which the paper does not state",
)


def reproduction(
    samples: Sequence[Sample],
    *,
    campaign: Campaign | None = None,
    machine: dict[str, str] | None = None,
    splits: int = DEFAULT_SPLITS,
    seed: int = 0,
) -> dict[str, Any]:
    """Judge samples by the paper's protocol.

    Args:
        samples: one per run.
        campaign: how they were taken; None for samples from a file, of which only their label is known.
        machine: what `describe_machine` says; None for samples from a file.
        splits: random splits per way to split.
        seed: of the splits.

    Raises:
        ProfileError: if the samples are too few, of several labels, or cannot be fitted.
    """
    from onnx_aiwq import __version__

    labels = sorted({sample.label for sample in samples})
    if len(labels) != 1:
        raise ProfileError(f"samples labelled {' and '.join(labels) or 'nothing'}: one table takes one kind of joules")
    kept = trimmed(samples)
    groups = groups_of(kept)
    runs = max(sum(sample.network == kept[0].network for sample in samples), 1)
    return {
        "schema": SCHEMA,
        "tool": {"name": "onnx_aiwq", "version": __version__},
        "experiment": EXPERIMENT,
        "level": "inference",
        "reproduced": list(REPRODUCED),
        "not_reproduced": list(NOT_REPRODUCED),
        "machine": machine,
        "label": labels[0],
        "meter": None if campaign is None else campaign.meter,
        "protocol": _protocol(runs, campaign, splits, seed),
        "networks": _networks(kept),
        "table": list(table(groups, splits=splits, seed=seed)),
        "fits": [fit_entry(group, basis, degree) for group in groups for basis in BASES for degree in DEGREES],
        "collinearity": [
            {"family": group.family, "activation": group.activation, "r2_tos_flops": collinearity(group)}
            for group in groups
        ],
        "published": {
            "table_v": published("paper_table_v.csv"),
            "equations": published("paper_equations_7_8.csv"),
            "constant_on_equations": constant_on_equations(kept),
        },
        "warnings": _warnings(campaign),
    }


def _protocol(runs: int, campaign: Campaign | None, splits: int, seed: int) -> dict[str, Any]:
    return {
        "runs": runs,
        "dropped_each_end": dropped_runs(runs),
        "train_share": TRAIN_SHARE,
        "splits": splits,
        "seed": seed,
        "threads": None if campaign is None else 1,
        "window_s": None if campaign is None else campaign.window_s,
        "calls_per_run": None if campaign is None else campaign.calls,
        "drift": None if campaign is None else campaign.drift,
    }


def published(name: str) -> list[dict[str, Any]]:
    """Rows of the paper, from ``data``; cells that read as numbers are numbers."""
    text = (resources.files("onnx_aiwq") / "data" / name).read_text(encoding="utf-8")
    return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]


def constant_on_equations(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """How a constant scores on the paper's own lines: Eq. 7 and 8 at the TOs of our networks, against their mean.

    The lines are those in TOs; the workload is theirs (epochs x instances of the data set), forward passes alone.
    """
    per_instance = {
        (sample.family, sample.activation, sample.size): sample.transistor_operations / sample.instances
        for sample in samples
    }
    entries = []
    for row in published("paper_equations_7_8.csv"):
        found = [tos for (family, activation, _), tos in per_instance.items() if (family, activation) == _place(row)]
        if row["x"] != "TOs" or not found:
            continue
        instances = row["epochs"] * row["dataset_length"]
        energies = [row["intercept_J"] + row["slope_J_per_unit"] * tos * instances for tos in found]
        mean = statistics.fmean(energies)
        precision = statistics.fmean(100 * (1 - abs(mean - energy) / energy) for energy in energies)
        entries.append({**row, "constant_precision_avg_pct": precision})
    return entries


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["network"], row["activation"]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _networks(kept: Sequence[Sample]) -> list[dict[str, Any]]:
    by_network: dict[str, list[Sample]] = defaultdict(list)
    for sample in kept:
        by_network[sample.network].append(sample)
    entries = []
    for name, rows in by_network.items():
        joules, first = [row.joules for row in rows], rows[0]
        entries.append(
            {
                "name": name,
                "family": first.family,
                "activation": first.activation,
                "size": first.size,
                "runs_kept": len(rows),
                "instances_per_run": first.instances,
                "transistor_operations_per_run": first.transistor_operations,
                "flops_per_run": first.flops,
                "mean_joules": statistics.fmean(joules),
                "relative_spread": statistics.stdev(joules) / statistics.fmean(joules) if len(joules) > 1 else None,
                "mean_seconds": statistics.fmean(row.seconds for row in rows),
            }
        )
    return sorted(entries, key=lambda entry: (entry["family"] == "CNN", entry["activation"], entry["size"]))


def _warnings(campaign: Campaign | None) -> list[str]:
    if campaign is None:
        return ["samples from a file: the machine, the meter and its notes are not known here"]
    warnings = list(campaign.meter["notes"])
    if campaign.meter["label"] == "modelled":
        warnings.append("joules are seconds x constant watts: every figure here is about time, scaled")
    if campaign.drift > 1.1:
        warnings.append(
            f"the machine was unsteady: the reference kernel's running median drifted by a factor "
            f"{campaign.drift:.2f}; measure again when nothing else runs"
        )
    return warnings
