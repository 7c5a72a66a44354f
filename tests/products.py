"""Dense products by loops of self-tallying numbers, and operators to compare them with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import as_basic_operations

OPSET = 22


MICROSOFT = "com.microsoft"


def tensor(shape: tuple[int, ...] | None, dtype: DType = DType.FLOAT, value: Any = None) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape, None if value is None else np.asarray(value))


def inferred(op_type: str, shapes: list[Any], attributes: dict[str, Any]) -> tuple[int, ...]:
    """The output shape that onnx infers for one ai.onnx node."""
    names = ["" if shape is None else f"i{k}" for k, shape in enumerate(shapes)]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(names, shapes, strict=True)
        if name
    ]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return tuple(dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim)


def counted(op_type: str, shapes: list[Any], output: tuple[int, ...], domain: str = "", **attributes: Any) -> Counts:
    rule = find_rule(op_type, domain, OPSET if not domain else 1)
    assert rule is not None and rule.function is not None
    inputs = tuple(tensor(shape) for shape in shapes)
    return rule.function(Operator("n", op_type, domain, OPSET, inputs, (tensor(output),), attributes))


def check(counts: Counts, tally: Counter[str], macs: int) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs
    assert set(counts.dtypes) <= {DType.FLOAT}


def activate(value: Any, name: str) -> Any:
    """One element of a fused activation, written out."""
    if name == "Relu":
        return value if value >= 0 else 0
    if name == "Sigmoid":
        return 1 / (1 + (-value).exp())
    if name == "Tanh":
        e = (value * 2).exp()
        return (e - 1) / (e + 1)
    if name == "LeakyRelu":
        slope = value * 0.1
        return value if value >= 0 else slope
    if name == "HardSigmoid":
        value = value * 0.2 + 0.5
    if name == "HardSwish":
        gate = value * (1 / 6) + 0.5
        low, high = gate < 0, gate > 1
        return value * (0 if low else 1 if high else gate)
    if name in ("Clip", "HardSigmoid"):
        low, high = value < 0, value > 1
        return 0 if low else 1 if high else value
    return value


def gelu(x: Any) -> Any:
    return x * (1 / (1 + (-(x * 1.702)).exp()))
