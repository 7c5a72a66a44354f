"""The graph that onnxruntime's optimiser writes, and what two graphs have in common."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq.calibration import weights
from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering import Level
from onnx_aiwq.vocabulary import Operator
from runtime import write_optimised

MODELS = Path(__file__).parents[1] / "models"
# Attributes that decide work and layout; others (epsilon, allowzero, stash_type) do not.
_MAIN = (
    "activation",
    "alpha",
    "axes",
    "axis",
    "channels",
    "channels_last",
    "dilations",
    "group",
    "keepdims",
    "kernel_shape",
    "pads",
    "perm",
    "scales",
    "strides",
    "to",
    "transA",
    "transB",
    "transBatchA",
    "transBatchB",
)
_WITH_ALPHA = frozenset({"FusedMatMul", "QuickGelu"})
Signature = tuple[Any, ...]


def optimised(model: onnx.ModelProto | bytes, level: Level, folder: Path, bind: Mapping[str, int]) -> bytes:
    """The model that onnxruntime runs at a level, as a file without its large weights."""
    target = folder / f"{level}.onnx"
    data = model if isinstance(model, bytes) else model.SerializeToString()
    write_optimised(data, target, level, bind)
    written = onnx.load(target)
    target.unlink()
    return bytes(_skeleton_module().strip_weights(written, "absent").SerializeToString())


def materialised(path: Path) -> onnx.ModelProto:
    """A skeleton with weights; quantised biases have the scale that they have in every real model."""
    model = weights.materialize(path)
    _give_biases_their_scale(model)
    return model


def _give_biases_their_scale(model: onnx.ModelProto) -> None:
    """The scale of a quantised bias is that of the input times that of the weights; onnxruntime fuses no other."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
            continue
        made = [makers.get(name) for name in node.input]
        if any(each is None or each.op_type != "DequantizeLinear" or each.input[1] not in tensors for each in made):
            continue
        source, weight, bias = (each.input[1] for each in made if each is not None)
        scale = numpy_helper.to_array(tensors[source]) * numpy_helper.to_array(tensors[weight])
        shaped = scale.astype(np.float32).reshape(numpy_helper.to_array(tensors[bias]).shape)
        tensors[bias].CopyFrom(numpy_helper.from_array(shaped, bias))


def _skeleton_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_skeleton", MODELS / "skeleton.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signature(operator: Operator) -> Signature:
    """What an operator is for a cost model: type, shapes of what flows, attributes that decide work and layout."""
    inputs = tuple(tensor.shape for tensor in operator.inputs if tensor is not None and not tensor.constant)
    outputs = tuple((tensor.shape, tensor.dtype) for tensor in operator.outputs if tensor is not None)
    return (operator.domain, operator.op_type, inputs, outputs, tuple(_main_attributes(operator)))


def _main_attributes(operator: Operator) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in _MAIN:
        value = operator.attributes.get(name)
        if operator.op_type == "ReduceMean" or (name == "alpha" and operator.op_type not in _WITH_ALPHA):
            continue  # an opset gives the axes of a reduction as attribute or as input
        plain = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else value
        ones = plain == (1,) * len(plain) if isinstance(plain, tuple) and name in ("dilations", "strides") else False
        if plain is None or plain == () or plain == 0 or ones or (name == "group" and plain == 1):
            continue
        if name == "pads" and isinstance(plain, tuple) and not any(plain):
            continue
        found.append((name, round(plain, 5) if isinstance(plain, float) else plain))
    return found


def signatures(graph: Graph) -> Counter[Signature]:
    """The operators that run, each with how often it occurs."""
    return Counter(signature(operator) for operator in graph.operators if not operator.constant)


def small_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    constants: Mapping[str, NDArray[Any]],
    opset: int = 17,
) -> onnx.ModelProto:
    """A float32 model from its parts."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
