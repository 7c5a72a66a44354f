"""A small writer of ONNX graphs with random weights, for the networks that calibration measures.

A block takes a `Value` and returns one; the builder keeps track of shapes, so that a block can be put behind any other.
Weights are scaled so that activations stay near one: denormals and infinities would be timed instead of arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
_POOL = 1 << 22  # random numbers that weights are cut from; drawing each anew would take longer than measuring


@dataclass(frozen=True)
class Value:
    """A float32 tensor of the graph that is being written."""

    name: str
    shape: tuple[int, ...]


class Builder:
    """One graph in the making, with its source of randomness."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._pool = self.random.standard_normal(_POOL, dtype=np.float32)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    # --- randomness ----------------------------------------------------------------------------------------------

    def pick(self, *choices: Any, weights: tuple[float, ...] | None = None) -> Any:
        """One of the choices, all alike unless weights are given."""
        shares = None if weights is None else np.asarray(weights) / sum(weights)
        return choices[int(self.random.choice(len(choices), p=shares))]

    def log_int(self, low: int, high: int, multiple: int = 1) -> int:
        """A whole number, log-uniform from low to high, rounded to a multiple."""
        drawn = math.exp(self.random.uniform(math.log(low), math.log(high)))
        return max(multiple, round(drawn / multiple) * multiple)

    def width(self, low: int, high: int) -> int:
        """A number of channels or features: mostly a multiple of 8, at times any number."""
        return self.log_int(low, high, self.pick(1, 8, 16, 32, weights=(1, 3, 3, 3)) if low >= 16 else 1)

    def chance(self, share: float) -> bool:
        """True in this share of all draws."""
        return bool(self.random.random() < share)

    # --- the graph -----------------------------------------------------------------------------------------------

    def name(self, stem: str) -> str:
        """A name that nothing else in the graph has."""
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, shape: tuple[int, ...], dtype: int = TensorProto.FLOAT) -> Value:
        """A run-time input."""
        name = self.name("input")
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return Value(name, shape)

    def output(self, value: Value) -> None:
        """Make a value a graph output; one element of it, so that the copy out costs next to nothing."""
        flat = self.node("Reshape", [value.name, self.integers([-1])], (math.prod(value.shape),))
        first = self.node("Slice", [flat.name, self.integers([0]), self.integers([1])], (1,))
        self._outputs.append(helper.make_tensor_value_info(first.name, TensorProto.FLOAT, (1,)))

    def constant(self, array: NDArray[Any]) -> str:
        """An initializer with these elements."""
        name = self.name("constant")
        self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, numbers: list[int] | tuple[int, ...]) -> str:
        """An int64 vector."""
        return self.constant(np.asarray(numbers, np.int64))

    def scalar(self, number: float) -> str:
        """A float32 scalar."""
        return self.constant(np.asarray(number, np.float32))

    def weight(self, *shape: int, fan_in: int | None = None, offset: float = 0.0, scale: float = 1.0) -> str:
        """Random float32 numbers with deviation scale / sqrt(fan_in), around an offset."""
        size = math.prod(shape)
        start = int(self.random.integers(0, _POOL))
        numbers = np.resize(np.roll(self._pool, -start) if size > _POOL - start else self._pool[start:], size)
        deviation = scale / math.sqrt(fan_in or 1)
        return self.constant((numbers * np.float32(deviation) + np.float32(offset)).reshape(shape))

    def node(self, op_type: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> Value:
        """Append a node with one output of this shape."""
        return self.nodes(op_type, inputs, [shape], **attributes)[0]

    def nodes(
        self, op_type: str, inputs: list[str], shapes: list[tuple[int, ...]], *, domain: str = "", **attributes: Any
    ) -> list[Value]:
        """Append a node with an output for each shape."""
        outputs = [Value(self.name(op_type.lower()), tuple(shape)) for shape in shapes]
        made = helper.make_node(
            op_type, inputs, [value.name for value in outputs], name=self.name(op_type), domain=domain, **attributes
        )
        self._nodes.append(made)
        return outputs

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self._nodes, "composite", self._inputs, self._outputs, self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    # --- what many blocks need -----------------------------------------------------------------------------------

    def unary(self, op_type: str, value: Value, **attributes: Any) -> Value:
        """An operator that keeps the shape."""
        return self.node(op_type, [value.name], value.shape, **attributes)

    def add(self, left: Value, right: Value) -> Value:
        """Elementwise sum of two values of one shape."""
        return self.node("Add", [left.name, right.name], left.shape)

    def mul(self, left: Value, right: Value) -> Value:
        """Elementwise product; the second may be broadcast to the first."""
        return self.node("Mul", [left.name, right.name], left.shape)

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The same elements in another shape."""
        return self.node("Reshape", [value.name, self.integers(shape)], shape)

    def transpose(self, value: Value, *axes: int) -> Value:
        """The axes in another order."""
        return self.node("Transpose", [value.name], tuple(value.shape[axis] for axis in axes), perm=list(axes))

    def concat(self, values: list[Value], axis: int) -> Value:
        """Values joined along an axis."""
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self.node("Concat", [value.name for value in values], tuple(shape), axis=axis)

    def slice(self, value: Value, axis: int, start: int, stop: int) -> Value:
        """Elements from start up to stop along an axis."""
        shape = list(value.shape)
        shape[axis] = stop - start
        bounds = [self.integers([number]) for number in (start, stop, axis)]
        return self.node("Slice", [value.name, *bounds], tuple(shape))

    def split(self, value: Value, parts: int, axis: int) -> list[Value]:
        """Equal parts along an axis."""
        shape = list(value.shape)
        shape[axis] //= parts
        return self.nodes("Split", [value.name], [tuple(shape)] * parts, axis=axis, num_outputs=parts)

    def activation(self, value: Value, kind: str) -> Value:
        """An activation function as exporters write it."""
        if kind == "none":
            return value
        if kind == "Clip6":
            return self.node("Clip", [value.name, self.scalar(0.0), self.scalar(6.0)], value.shape)
        if kind == "Silu":
            return self.mul(value, self.unary("Sigmoid", value))
        if kind == "GeluErf":
            half = self.node("Div", [value.name, self.scalar(math.sqrt(2))], value.shape)
            raised = self.node("Add", [self.unary("Erf", half).name, self.scalar(1.0)], value.shape)
            return self.node("Mul", [self.mul(value, raised).name, self.scalar(0.5)], value.shape)
        if kind == "GeluTanh":
            return self._gelu_tanh(value)
        if kind == "PRelu":
            channels = (value.shape[1], *(1 for _ in value.shape[2:]))
            return self.node("PRelu", [value.name, self.weight(*channels, offset=0.25, scale=0.1)], value.shape)
        return self.unary(kind, value)

    def _gelu_tanh(self, value: Value) -> Value:
        cube = self.node("Pow", [value.name, self.scalar(3.0)], value.shape)
        scaled = self.node("Mul", [cube.name, self.scalar(0.044715)], value.shape)
        inner = self.node("Mul", [self.add(value, scaled).name, self.scalar(math.sqrt(2 / math.pi))], value.shape)
        raised = self.node("Add", [self.unary("Tanh", inner).name, self.scalar(1.0)], value.shape)
        half = self.node("Mul", [value.name, self.scalar(0.5)], value.shape)
        return self.mul(half, raised)

    def matmul(self, value: Value, columns: int, *, bias: bool = True) -> Value:
        """A product with a weight, as MatMul and Add."""
        inner = value.shape[-1]
        shape = (*value.shape[:-1], columns)
        product = self.node("MatMul", [value.name, self.weight(inner, columns, fan_in=inner)], shape)
        if not bias:
            return product
        return self.node("Add", [self.weight(columns, scale=0.1), product.name], shape)

    def gemm(self, value: Value, columns: int, *, transposed: bool = True) -> Value:
        """A product with a weight, as Gemm."""
        inner = value.shape[-1]
        weight = self.weight(*((columns, inner) if transposed else (inner, columns)), fan_in=inner)
        inputs = [value.name, weight, self.weight(columns, scale=0.1)]
        return self.node("Gemm", inputs, (value.shape[0], columns), transB=int(transposed))
