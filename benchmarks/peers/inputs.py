"""What every runner needs: its command line, a model with its symbolic dimensions bound, arrays for its inputs."""

from __future__ import annotations

import argparse
import json

import numpy as np
import onnx


def arguments(parser: argparse.ArgumentParser | None = None) -> tuple[str, dict[str, int], argparse.Namespace]:
    """Return the model's path, the bindings, and whatever else `parser` knows of the command line."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--bind", action="append", default=[], metavar="NAME=INT")
    given = parser.parse_args()
    return given.model, {name: int(size) for name, _, size in (text.rpartition("=") for text in given.bind)}, given


def load_bound(path: str, bindings: dict[str, int]) -> onnx.ModelProto:
    """Load a model without external data and give the symbolic dimensions of its inputs their sizes."""
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bindings:
                dim.dim_value = bindings[dim.dim_param]
    return model


def ones(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """An array of ones for every input that is no initializer."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: np.ones(
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
        if value.name not in initializers
    }


def answer(macs: int | None, unknown: int | None) -> None:
    """Print the runner's JSON.

    Args:
        macs: multiply-accumulate pairs of dense products; None where the tool counts none.
        unknown: node outputs without a known shape; None where the tool does not say.
    """
    print(json.dumps({"macs": macs, "unknown": unknown}))
