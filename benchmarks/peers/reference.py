"""Where the models are, their symbolic dimensions, their weights, and their MACs as a real run shows them.

Runs in the environment of `aiwq`, which has onnx and onnxruntime; of the package it takes random weights alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import onnx
from inputs import load_bound

REPOSITORY = Path(__file__).resolve().parents[2]
SKELETONS = ("resnet50", "bert-base", "gpt2", "vit-base", "mobilenet-v2", "lstm", "unet", "whisper-tiny")
EXPORTERS = ("torchscript", "dynamo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("list", "macs", "fill"))
    parser.add_argument("model", nargs="?")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--bind", action="append", default=[], metavar="NAME=INT")
    given = parser.parse_args()
    bindings = {name: int(size) for name, _, size in (text.rpartition("=") for text in given.bind)}
    if given.task == "list":
        print(json.dumps(_models()))
    elif given.task == "macs":
        print(_macs(given.model, bindings))
    else:
        from onnx_aiwq.calibration import weights

        onnx.save(weights.materialize(given.model), given.output)


def _models() -> list[dict[str, object]]:
    """Every model: name, path, whether its weights are absent, and the names of its symbolic dimensions."""
    light = sorted(Path(str(files("onnx") / "backend/test/data/light")).glob("*.onnx"))
    skeletons = [REPOSITORY / "models" / f"{name}.{exporter}.onnx" for name in SKELETONS for exporter in EXPORTERS]
    return [
        {
            "name": path.stem,
            "path": str(path),
            "skeleton": path in skeletons,
            "symbols": sorted(_symbols(load_bound(str(path), {}))),
        }
        for path in (*light, *skeletons)
    ]


def _symbols(model: onnx.ModelProto) -> set[str]:
    return {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param}


def _macs(path: str, bindings: dict[str, int]) -> int:
    from onnx_aiwq.calibration import weights

    runtime = _module("tests/runtime.py")
    model = weights.materialize(path)
    macs: int = runtime.macs_from_run(model, runtime.run_all_tensors(model, weights.example_inputs(model, bindings)))
    return macs


def _module(path: str) -> ModuleType:
    """Import a file of the repository that belongs to no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
