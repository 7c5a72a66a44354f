"""Models built from nothing, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    """A node by its operator, inputs and outputs."""
    return helper.make_node(op_type, inputs, outputs, **attributes)


def value(name: str, dims: Sequence[Any] | None = (2, 3), kind: int = FLOAT) -> onnx.ValueInfoProto:
    """What a file declares of a tensor; a shape of None is left open."""
    return helper.make_tensor_value_info(name, kind, dims)


def constant(name: str, elements: Any) -> TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(elements), name)


def body(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> onnx.GraphProto:
    """A subgraph whose inputs and outputs have no declared type."""
    untyped = [[onnx.ValueInfoProto(name=name) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *untyped)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    output: str = "y",
    opset: int = 21,
) -> onnx.ModelProto:
    """A model with the input x[2, 3] unless others are given, and one output of undeclared type."""
    graph = helper.make_graph(
        nodes, "g", [value("x")] if inputs is None else inputs, [onnx.ValueInfoProto(name=output)], constants
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=functions)
