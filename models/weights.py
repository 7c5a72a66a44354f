"""Fill weightless skeletons with seeded random weights and make inputs for them; numpy and onnx only.

model = materialize("models/resnet50.dynamo.onnx")
session = onnxruntime.InferenceSession(model.SerializeToString())
session.run(None, example_inputs(model, {"batch": 1}))
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from enum import Enum, auto

import numpy as np
import onnx

WEIGHT_DEVIATION = 0.02
"""Standard deviation of ordinary float weights: the initialisation of BERT and GPT-2, finite through any depth."""

TOKEN_IDS = 100
"""Integer inputs are drawn from 0 up to, not including, this number, below every vocabulary in use."""


class Role(Enum):
    """What a tensor is for, as far as it limits the values that make sense."""

    WEIGHT = auto()
    VARIANCE = auto()
    SCALE = auto()
    ZERO_POINT = auto()


ROLES: dict[tuple[str, int], Role] = {
    ("BatchNormalization", 4): Role.VARIANCE,
    ("QuantizeLinear", 1): Role.SCALE,
    ("QuantizeLinear", 2): Role.ZERO_POINT,
    ("DequantizeLinear", 1): Role.SCALE,
    ("DequantizeLinear", 2): Role.ZERO_POINT,
    ("MatMulInteger", 2): Role.ZERO_POINT,
    ("MatMulInteger", 3): Role.ZERO_POINT,
    ("ConvInteger", 2): Role.ZERO_POINT,
    ("ConvInteger", 3): Role.ZERO_POINT,
    **{(op, i): Role.SCALE for op in ("QLinearConv", "QLinearMatMul") for i in (1, 4, 6)},
    **{(op, i): Role.ZERO_POINT for op in ("QLinearConv", "QLinearMatMul") for i in (2, 5, 7)},
}
"""(operator, input position) -> role; every other tensor is a weight."""


def materialize(skeleton_path: str | os.PathLike[str], seed: int = 0) -> onnx.ModelProto:
    """Return the model at `skeleton_path` with random weights, inline, in place of every absent external tensor.

    Values depend on the tensor's name, its role and `seed` only. Floats are normal with deviation 0.02, variances and
    quantisation scales small and positive, zero points 0, 8-bit integers within -64..64 (signed) or 0..128, other
    integers 0..7, bools True. The model takes as many bytes of memory as its weights.

    Raises FileNotFoundError when the skeleton is absent, `google.protobuf.message.DecodeError` when it is not ONNX.
    """
    model = onnx.load(skeleton_path, load_external_data=False)
    roles = _roles(model.graph)
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                values = _random_values(tensor, roles.get(tensor.name, Role.WEIGHT), seed)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def example_inputs(model: onnx.ModelProto, bindings: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Return a random array for every input of `model`, in the dtype and shape that it declares.

    `bindings` gives each symbolic dimension its size, such as {"batch": 1, "sequence": 16}. Floats are standard
    normal, integers 0..99 or less where they index a smaller table, bools True; an input with "mask" in its name is
    all ones.

    Raises ValueError when a dimension has neither a size nor a binding; the message names the input.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    tables = _table_rows(model.graph)
    return {
        value.name: _random_input(value, bindings, min(TOKEN_IDS, tables.get(value.name, TOKEN_IDS)), seed)
        for value in model.graph.input
        if value.name not in initializers
    }


def _random_values(tensor: onnx.TensorProto, role: Role, seed: int) -> np.ndarray:
    generator = _generator(tensor.name, seed)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    if role is Role.ZERO_POINT:
        return np.zeros(shape, dtype)
    if dtype == np.bool_:
        return np.ones(shape, dtype)
    if _is_integer(tensor.data_type):
        return _random_integers(generator, shape, dtype)
    if role is Role.VARIANCE:
        return generator.uniform(0.5, 1.5, shape).astype(dtype)
    if role is Role.SCALE:
        return generator.uniform(0.0005, 0.002, shape).astype(dtype)
    values = generator.standard_normal(shape, dtype=np.float32)
    values *= np.float32(WEIGHT_DEVIATION)
    return values.astype(dtype, copy=False)


def _random_integers(generator: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype == np.int8:
        return generator.integers(-64, 64, shape, dtype=np.int8, endpoint=True)
    if dtype == np.uint8:
        return generator.integers(0, 128, shape, dtype=np.uint8, endpoint=True)
    return generator.integers(0, 8, shape).astype(dtype)


def _random_input(value: onnx.ValueInfoProto, bindings: Mapping[str, int], below: int, seed: int) -> np.ndarray:
    declared = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
    shape = tuple(_size(value.name, axis, dim, bindings) for axis, dim in enumerate(declared.shape.dim))
    generator = _generator(value.name, seed)
    if dtype == np.bool_ or "mask" in value.name.lower():
        return np.ones(shape, dtype)
    if _is_integer(declared.elem_type):
        return generator.integers(0, below, shape).astype(dtype)
    return generator.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)


def _size(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension, bindings: Mapping[str, int]) -> int:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if dim.dim_param in bindings:
        return bindings[dim.dim_param]
    raise ValueError(
        f"input {name!r}, axis {axis}: no size for dimension {dim.dim_param or 'without a name'!r}; "
        f"bindings give {sorted(bindings) or 'nothing'}"
    )


def _table_rows(graph: onnx.GraphProto) -> dict[str, int]:
    """Rows of the smallest initializer that each tensor indexes directly through Gather."""
    dims = {tensor.name: tensor.dims for tensor in graph.initializer}
    rows: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in dims:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            table, indices = node.input
            rows[indices] = min(rows.get(indices, TOKEN_IDS), dims[table][axis])
    return rows


def _roles(main: onnx.GraphProto) -> dict[str, Role]:
    """Role of every tensor that has one other than weight, from the operators that read it."""
    return {
        name: ROLES[node.op_type, position]
        for graph in _graphs(main)
        for node in graph.node
        for position, name in enumerate(node.input)
        if name and (node.op_type, position) in ROLES
    }


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """Return the graph and all graphs nested in its nodes."""
    nested = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [graph, *(inner for child in nested for inner in _graphs(child))]


def _generator(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _is_integer(data_type: int) -> bool:
    name: str = onnx.TensorProto.DataType.Name(data_type)
    return name.startswith(("INT", "UINT"))
