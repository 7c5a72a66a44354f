"""Fill weightless skeletons with seeded random weights and make inputs for them; numpy and onnx only.

model = materialize("models/resnet50.dynamo.onnx")
session = onnxruntime.InferenceSession(model.SerializeToString())
session.run(None, example_inputs(model, {"batch": 1}))
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np
import onnx

WEIGHT_DEVIATION = 0.02
"""Standard deviation of float weights that enter no product and index no table, such as biases."""

TABLE_DEVIATION = 1.0
"""Standard deviation of tables that Gather reads, unless a product reads them too."""

TOKEN_IDS = 100
"""Integer inputs are drawn from 0 up to, not including, this number, below every vocabulary in use."""


class Role(Enum):
    """What a tensor is for, as far as it limits the values that make sense."""

    WEIGHT = auto()
    GAIN = auto()
    VARIANCE = auto()
    SCALE = auto()
    ZERO_POINT = auto()


ROLES: dict[tuple[str, int], Role] = {
    ("Mul", 0): Role.GAIN,
    ("Mul", 1): Role.GAIN,
    ("BatchNormalization", 1): Role.GAIN,
    ("GroupNormalization", 1): Role.GAIN,
    ("InstanceNormalization", 1): Role.GAIN,
    ("LayerNormalization", 1): Role.GAIN,
    ("RMSNormalization", 1): Role.GAIN,
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

_PLAIN = frozenset({onnx.AttributeProto.INT, onnx.AttributeProto.INTS})

KEEPS_LAST_AXES = frozenset({"Cast", "Concat", "Identity", "Slice", "Split", "Squeeze", "Unsqueeze"})
"""Operators between a weight and its product that leave the axes that are summed over where they are."""

Variance = Callable[[Sequence[int], Mapping[str, Any]], float]

VARIANCES: dict[tuple[str, int], Variance] = {
    ("Conv", 1): lambda dims, _: 2 / math.prod(dims[1:]),
    ("ConvTranspose", 1): lambda dims, attributes: (
        2 * math.prod(attributes.get("strides", [1])) / (dims[0] * math.prod(dims[2:]))
    ),
    ("Gemm", 0): lambda dims, attributes: 1 / dims[0 if attributes.get("transA") else 1],
    ("Gemm", 1): lambda dims, attributes: 1 / dims[1 if attributes.get("transB") else 0],
    ("MatMul", 0): lambda dims, _: 1 / dims[-1],
    ("MatMul", 1): lambda dims, _: 1 / dims[-2 if len(dims) > 1 else -1],
    **{(op, i): lambda dims, _: 1 / dims[-1] for op in ("GRU", "LSTM", "RNN") for i in (1, 2)},
}
"""(product, input position) -> variance of that weight from its dims and the attributes of the node.

One over the terms of each sum keeps activations of order 1 through any depth (LeCun et al. 1998); convolutions, which
mostly precede a rectifier, get twice that (He et al. 2015).
"""


def materialize(skeleton_path: str | os.PathLike[str], seed: int = 0) -> onnx.ModelProto:
    """Return the model at `skeleton_path` with random weights, inline, in place of every absent external tensor.

    Values depend on the tensor's name, shape, role and `seed` only. Floats are normal: the weights of products with the
    variance of `VARIANCES`, tables with deviation 1, all others 0.02. Factors and variances are 0.5..1.5, quantisation
    scales small and positive, zero points 0, 8-bit integers within -64..64 (signed) or 0..128, other integers 0..7,
    bools True. The model takes as many bytes of memory as its weights.

    Raises FileNotFoundError when the skeleton is absent, `google.protobuf.message.DecodeError` when it is not ONNX.
    """
    model = onnx.load(skeleton_path, load_external_data=False)
    roles, deviations = _roles(model.graph), _deviations(model.graph)
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                deviation = deviations.get(tensor.name, WEIGHT_DEVIATION)
                values = _random_values(tensor, roles.get(tensor.name, Role.WEIGHT), deviation, seed)
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


def _random_values(tensor: onnx.TensorProto, role: Role, deviation: float, seed: int) -> np.ndarray:
    generator = _generator(tensor.name, seed)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    if role is Role.ZERO_POINT:
        return np.zeros(shape, dtype)
    if dtype == np.bool_:
        return np.ones(shape, dtype)
    if _is_integer(tensor.data_type):
        return _random_integers(generator, shape, dtype)
    if role in (Role.GAIN, Role.VARIANCE):
        return generator.uniform(0.5, 1.5, shape).astype(dtype)
    if role is Role.SCALE:
        return generator.uniform(0.0005, 0.002, shape).astype(dtype)
    values = generator.standard_normal(shape, dtype=np.float32)
    values *= np.float32(deviation)
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


def _deviations(main: onnx.GraphProto) -> dict[str, float]:
    """Standard deviation of every weight of a product, also through a transposition, and of every table."""
    dims_of = {tensor.name: tuple(tensor.dims) for graph in _graphs(main) for tensor in graph.initializer}
    # Any tensor that is a weight but for its layout -> that weight, and the dims as the product sees them.
    origins = {name: (name, dims) for name, dims in dims_of.items()}
    tables: dict[str, float] = {}
    products: dict[str, float] = {}
    for node in (node for graph in _graphs(main) for node in graph.node):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.type in _PLAIN}
        if node.op_type == "Gather" and node.input[0] in origins:
            tables[origins[node.input[0]][0]] = TABLE_DEVIATION
        elif node.op_type == "Transpose" and node.input[0] in origins:
            name, dims = origins[node.input[0]]
            permutation = attributes.get("perm", range(len(dims))[::-1])
            origins[node.output[0]] = (name, tuple(dims[axis] for axis in permutation))
        elif node.op_type in KEEPS_LAST_AXES and node.input[0] in origins:
            origins.update((output, origins[node.input[0]]) for output in node.output)
        for position, name in enumerate(node.input):
            if name in origins and (node.op_type, position) in VARIANCES:
                weight, dims = origins[name]
                products[weight] = math.sqrt(VARIANCES[node.op_type, position](dims, attributes))
    return tables | products


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
