"""The check of datasheet profiles: architectures against their papers, factors by hand, and that it runs."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import onnx_aiwq
from onnx_aiwq.datasheets import DATASHEET_INTERVAL

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def module(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def rows() -> list[dict[str, str]]:
    with (BENCHMARKS / "measured_energy.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [  # as their papers or the model zoos print them, in millions
        ("MobileNet", 569, 4.2),
        ("MobileNetV2", 300, 3.5),
        ("mobilenet-v2-1.4-224-non-quantized", 582, 6.1),
        ("mobilenet-v1-0.25-128-non-quantized", 14, 0.47),
        ("MobileNetV3Large", 219, 5.4),
        ("MobileNetV3Small", 56, 2.5),
        ("EfficientNetB0", 390, 5.3),
        ("efficientnet-lite0-non-quantized", 407, 4.7),
        ("ResNet50", 4090, 25.5),
        ("ResNet152", 11500, 60.2),
        ("ResNext50", 4230, 25.0),
        ("VGG16", 15470, 138.4),
    ],
)
def test_architectures_are_those_of_their_papers(name: str, macs: float, parameters: float) -> None:
    report = onnx_aiwq.analyze(module("architectures").build(name, 1), strict=True).to_dict()
    assert report["totals"]["macs"] / 1e6 == pytest.approx(macs, rel=0.06)
    assert report["model"]["parameters"] / 1e6 == pytest.approx(parameters, rel=0.03)


def test_batch_and_type_change_what_they_should() -> None:
    build = module("architectures").build
    one, four = (onnx_aiwq.analyze(build("ResNet50", batch), strict=True).to_dict() for batch in (1, 4))
    assert four["totals"]["macs"] == 4 * one["totals"]["macs"]
    assert four["model"]["parameters"] == one["model"]["parameters"]
    plain = onnx_aiwq.analyze(build("mobilenet-v2-0.35-96-non-quantized", 1)).to_dict()
    small = onnx_aiwq.analyze(build("mobilenet-v2-0.35-96-quantized", 1, quantised=True), strict=True).to_dict()
    assert small["totals"]["macs"] == plain["totals"]["macs"]
    assert "int8" in small["by_dtype"]
    assert build("DenseNet121", 1) is None


def test_three_rows_by_hand() -> None:
    check = module("datasheet_check")
    chosen = {row["id"]: row for row in rows() if row["id"] in ("m0050", "m2970", "m3093")}
    pi, xeon = next(check.compare_row(chosen["m0050"])), next(check.compare_row(chosen["m2970"]))
    assert list(check.compare_row(chosen["m3093"])) == []  # a diffusion model on a H100
    assert (pi.scope, pi.batch, pi.measured_j) == ("wall", 1, 1.86084)
    assert pi.measured_s == pytest.approx(1.86084 / 5.8145)
    # ResNet-50, 4.09e9 MACs, at a quarter of 57.6 GFLOP/s: 0.568 s, and 7.2 W at most; what moves data adds little.
    assert pi.predicted_s == pytest.approx(4.09e9 * 2 / (57.6e9 / 4), rel=0.1)
    assert 0.75 * 7.2 * pi.predicted_s < pi.predicted_j < 7.2 * pi.predicted_s
    assert (xeon.scope, xeon.batch, xeon.device) == ("chip", 32, "Intel Xeon W-2155")
    assert xeon.measured_j == 1.33024


def test_board_energy_is_told_apart_from_the_host() -> None:
    check = module("datasheet_check")
    row = next(row for row in rows() if row["hardware"] == "RTX 5000" and row["model"] == "ResNet50")
    both = {each.scope: each for each in check.compare_row(row)}
    assert set(both) == {"board", "board + CPU"}
    assert both["board"].measured_j < both["board + CPU"].measured_j == float(row["J_per_inference"])
    assert both["board"].predicted_j == both["board + CPU"].predicted_j
    assert [name for name in check.groups_of(both.values()) if name.startswith("all")] == [
        "all board",
        "all, CPU and GPU",
    ]


def test_factors_are_measured_over_predicted() -> None:
    check = module("datasheet_check")
    base = check.Comparison("m1", "X", "wall", "net", "fp32", "", 1, 1.0, 1.0, None, 1.0)
    rows = [replace(base, measured_j=factor) for factor in (0.1, 0.5, 1.0, 2.0, 20.0)]
    found = check.summary(rows, "j")
    assert (found["count"], found["median"], found["least"], found["most"]) == (5, 1.0, 0.1, 20.0)
    assert found["either_way_median"] == 2.0
    assert found["either_way_p90"] == pytest.approx(np.quantile([1, 2, 2, 10, 20], 0.9))
    assert found["inside"] == pytest.approx(3 / 5)
    assert check.summary(rows, "s") == {"count": 0}
    assert 0.1 < DATASHEET_INTERVAL.joules.low_factor < DATASHEET_INTERVAL.joules.high_factor < 20


def test_the_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    few = [row for row in rows() if row["id"] in ("m0050", "m2970", "m3093")]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(few[0]))
        writer.writeheader()
        writer.writerows(few)
    command = [sys.executable, str(BENCHMARKS / "datasheet_check.py"), "--rows", str(path), "--format", "markdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Intel Xeon W-2155: chip, fp32 | 1 | joules |" in done.stdout
    assert "all, CPU and GPU | 2 | seconds |" in done.stdout
