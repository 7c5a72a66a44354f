"""The parts of the benchmarks that lean on the repository: what they compare, and the files that they make of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx

from processes import run

ROOT = Path(__file__).parents[1]
REFERENCE = str(ROOT / "benchmarks/peers/reference.py")


def test_the_models_of_the_comparison_are_there_and_have_a_truth() -> None:
    done = run([sys.executable, REFERENCE, "list"])
    assert done.returncode == 0, done.stderr
    models = json.loads(done.stdout)
    truth = json.loads((ROOT / "benchmarks/truth.json").read_text(encoding="utf-8"))
    assert {model["name"] for model in models} == set(truth) and len(models) == 25
    assert all(Path(model["path"]).is_file() for model in models)


def test_a_skeleton_is_filled_for_tools_that_cannot_do_without_weights(tmp_path: Path) -> None:
    done = run(
        [sys.executable, REFERENCE, "fill", str(ROOT / "models/lstm.torchscript.onnx"), str(tmp_path / "m.onnx")]
    )
    assert done.returncode == 0, done.stderr
    weights = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert weights and all(len(tensor.external_data) == 0 for tensor in weights)


def test_the_truth_of_the_comparison_is_a_run() -> None:
    model = ROOT / "models/lstm.torchscript.onnx"
    done = run([sys.executable, REFERENCE, "macs", str(model), "--bind", "batch=1", "--bind", "sequence=128"])
    assert done.returncode == 0, done.stderr
    truth = json.loads((ROOT / "benchmarks/truth.json").read_text(encoding="utf-8"))
    assert int(done.stdout) == truth[model.stem]["macs"]
