"""Datasheet profiles against published measurements: how far a prediction without a run is off, per device and scope.

    python benchmarks/datasheet_check.py [--format table|json|markdown] [--output FILE] [--rows FILE]

Every CNN of `measured_energy.csv` that `architectures.py` can write is analysed with the datasheet profile of the
processor that ran it. The factor is measured / predicted: 2 means that it took twice what was predicted.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from architectures import build

from onnx_aiwq import analyze
from onnx_aiwq.datasheets import DATASHEET_INTERVAL, Datasheet, derive_from_datasheet
from onnx_aiwq.hardware_profile import CompResFigures, HardwareProfile
from onnx_aiwq.profiles import load_profile

MEASURED = Path(__file__).with_name("measured_energy.csv")
ACCELERATED = {"NVIDIA GeForce RTX 4090": "NVIDIA GeForce RTX 4090", "NVIDIA Quadro RTX 5000": "NVIDIA Quadro RTX 5000"}
PROCESSORS = {
    "Intel i9-13900K": "Intel Core i9-13900K",
    "Intel Xeon W-2155": "Intel Xeon W-2155",
    "BCM2711 4x Cortex-A72 1.8 GHz": "Raspberry Pi 4 Model B (4x Cortex-A72 1.8 GHz)",
}
XAVIER = "NVIDIA Jetson AGX Xavier (CPU)"
CARMEL_FLOP_PER_CLOCK = 16
"""Two 128-bit multiply-add units per core: an assumption. No source was found, so that no such profile is shipped and
these rows stay out of the total. With 8, the measured ResNet-50 would have run above the peak (149 of 145 GFLOP/s)."""
_GPU_BOARD = re.compile(r"split GPU ([\d.]+) J")


@dataclass(frozen=True)
class Comparison:
    """One measurement beside its prediction; joules and seconds of one inference.

    Attributes:
        row: id in `measured_energy.csv`.
        device: processor whose profile predicts.
        scope: chip (CPU package), board (GPU board) or wall (whole system).
        model, precision, runtime: what ran.
        batch: instances per call.
        measured_j, predicted_j: per inference.
        measured_s: measured joules over mean power, both of the same window; None where the scope's power is not given.
        predicted_s: per inference.
    """

    row: str
    device: str
    scope: str
    model: str
    precision: str
    runtime: str
    batch: int
    measured_j: float
    predicted_j: float
    measured_s: float | None
    predicted_s: float


@functools.cache
def xavier_cpu() -> HardwareProfile:
    """The eight Carmel cores of the Jetson AGX Xavier; see `CARMEL_FLOP_PER_CLOCK`."""
    sheet = Datasheet(
        name=XAVIER,
        kind="edge",
        tdp_w=30.0,
        fp32_tflops=8 * 2.265e9 * CARMEL_FLOP_PER_CLOCK / 1e12,
        bandwidth_gb_s=136.5,
        cores=8,
        comp_res=CompResFigures(),
        sources=("TDP of the module and bandwidth: hardware.csv; 16 FLOP per clock and core is assumed",),
    )
    return derive_from_datasheet(sheet)


def profile_of(row: Mapping[str, str]) -> HardwareProfile | None:
    """The profile of the processor that did the work of a row; None where none is known."""
    if row["hardware"] == XAVIER:
        return xavier_cpu()
    name = ACCELERATED.get(row["accelerator"]) if row["accelerator"] else PROCESSORS.get(row["host_cpu"])
    return None if name is None else load_profile(name)


def compare_row(row: Mapping[str, str]) -> Iterator[Comparison]:
    """The prediction for a row, under each scope that it was measured in; nothing where it cannot be predicted."""
    profile = profile_of(row)
    if profile is None or row["precision"] not in ("fp32", "int8") or not row["batch"].isdecimal():
        return
    batch, quantised = int(row["batch"]), row["precision"] == "int8"
    predicted = _predicted(row["model"], batch, quantised, profile)
    if predicted is None:
        return
    joules, seconds = float(row["J_per_inference"]), float(row["J_per_inference"]) / float(row["avg_power_w"])
    scope = "chip" if row["scope"].startswith("CPU package") else "wall" if "wall" in row["scope"] else "board + CPU"
    found = [(scope, joules, seconds)]
    if board := _GPU_BOARD.search(row["method"]):
        found.append(("board", float(board[1]), None))
    for where, measured_j, measured_s in found:
        yield Comparison(
            row["id"], profile.name, where, row["model"], row["precision"], row["runtime"], batch,
            measured_j, predicted[0], measured_s, predicted[1],
        )  # fmt: skip


@functools.cache
def _predicted_by_id(model: str, batch: int, quantised: bool, profile_id: str) -> tuple[float, float] | None:
    network = build(model, batch, quantised=quantised)
    if network is None:
        return None
    profile = xavier_cpu() if profile_id == xavier_cpu().id else profile_id
    energy = analyze(network, hardware=profile, strict=True).to_dict()["energy"]
    return energy["joules"] / batch, energy["seconds"] / batch


def _predicted(model: str, batch: int, quantised: bool, profile: HardwareProfile) -> tuple[float, float] | None:
    """Joules and seconds per inference of a network on a processor."""
    return _predicted_by_id(model, batch, quantised, profile.id)


def summary(rows: Sequence[Comparison], quantity: str) -> dict[str, Any]:
    """Median and spread of measured / predicted joules or seconds, and the share inside the stated interval.

    ``typical`` is the factor either way, max(f, 1/f): its median and 90th percentile say how far off one has to expect.
    """
    pairs = [(getattr(row, f"measured_{quantity}"), getattr(row, f"predicted_{quantity}")) for row in rows]
    factors = np.asarray([measured / predicted for measured, predicted in pairs if measured is not None])
    if not factors.size:
        return {"count": 0}
    either = np.maximum(factors, 1 / factors)
    stated = DATASHEET_INTERVAL.joules if quantity == "j" else DATASHEET_INTERVAL.seconds
    low, high = np.quantile(factors, [0.05, 0.95])
    return {
        "count": len(factors),
        "median": float(np.median(factors)),
        "p5": float(low),
        "p95": float(high),
        "least": float(factors.min()),
        "most": float(factors.max()),
        "either_way_median": float(np.median(either)),
        "either_way_p90": float(np.quantile(either, 0.9)),
        "inside": float(((factors >= stated.low_factor) & (factors <= stated.high_factor)).mean()),
    }


def groups_of(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Comparisons by device, scope and precision, by scope, and all whose peak rate is published."""
    groups: dict[str, list[Comparison]] = {}
    for each in comparisons:
        groups.setdefault(f"{each.device}: {each.scope}, {each.precision}", []).append(each)
    # Board energy is part of "board + CPU" of the same run, so that only one of them enters the totals.
    published = [each for each in comparisons if each.device != XAVIER and each.scope != "board + CPU"]
    for scope in ("chip", "board", "wall"):
        groups[f"all {scope}"] = [each for each in published if each.scope == scope]
    groups["all, CPU and GPU"] = published
    return {name: rows for name, rows in groups.items() if rows}


def render(comparisons: Sequence[Comparison], form: str) -> str:
    """The summaries as an aligned or Markdown table, or everything as JSON."""
    results = {
        name: {"joules": summary(rows, "j"), "seconds": summary(rows, "s")}
        for name, rows in groups_of(comparisons).items()
    }
    if form == "json":
        document = {"groups": results, "comparisons": [asdict(each) for each in comparisons]}
        return json.dumps(document, indent=2) + "\n"
    head = ("rows", "n", "quantity", "measured / predicted", "5 to 95 %", "all", "either way: median", "90 %", "inside")
    lines = [head]
    for name, quantities in results.items():
        for quantity, found in quantities.items():
            if found["count"]:
                lines.append(
                    (
                        name, str(found["count"]), quantity, f"{found['median']:.2f}",
                        f"{found['p5']:.2f} to {found['p95']:.2f}", f"{found['least']:.2f} to {found['most']:.2f}",
                        f"{found['either_way_median']:.2f}", f"{found['either_way_p90']:.2f}", f"{found['inside']:.0%}",
                    )
                )  # fmt: skip
    if form == "markdown":
        lines.insert(1, tuple("---" for _ in head))
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=("table", "json", "markdown"), default="table")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rows", type=Path, default=MEASURED, help="published measurements")
    options = parser.parse_args()
    with options.rows.open(encoding="utf-8", newline="") as stream:
        comparisons = [each for row in csv.DictReader(stream) for each in compare_row(row)]
    text = render(comparisons, options.format)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
