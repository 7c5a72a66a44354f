"""The words that every stage shares: data types, basic operations, counts, tensors and operators.

All are frozen values. Counts are exact Python integers; they add and scale, and nothing else.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class BasicOp(str, enum.Enum):
    """Basic operations (BO) of the TO paper, Eq. 2, and `compare`, which is this project's extension."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    ROOT = "root"
    COMPARE = "compare"

    # Every count of every node is found by it; Enum's own is computed in Python each time.
    __hash__ = str.__hash__


class DType(enum.Enum):
    """Tensor element types: ONNX name, storage bits, and the ONNX `TensorProto.DataType` number."""

    UNDEFINED = ("undefined", 0, 0)
    FLOAT = ("float32", 32, 1)
    UINT8 = ("uint8", 8, 2)
    INT8 = ("int8", 8, 3)
    UINT16 = ("uint16", 16, 4)
    INT16 = ("int16", 16, 5)
    INT32 = ("int32", 32, 6)
    INT64 = ("int64", 64, 7)
    STRING = ("string", 0, 8)
    BOOL = ("bool", 8, 9)
    FLOAT16 = ("float16", 16, 10)
    DOUBLE = ("float64", 64, 11)
    UINT32 = ("uint32", 32, 12)
    UINT64 = ("uint64", 64, 13)
    COMPLEX64 = ("complex64", 64, 14)
    COMPLEX128 = ("complex128", 128, 15)
    BFLOAT16 = ("bfloat16", 16, 16)
    FLOAT8E4M3FN = ("float8e4m3fn", 8, 17)
    FLOAT8E4M3FNUZ = ("float8e4m3fnuz", 8, 18)
    FLOAT8E5M2 = ("float8e5m2", 8, 19)
    FLOAT8E5M2FNUZ = ("float8e5m2fnuz", 8, 20)
    UINT4 = ("uint4", 4, 21)
    INT4 = ("int4", 4, 22)
    FLOAT4E2M1 = ("float4e2m1", 4, 23)
    FLOAT8E8M0 = ("float8e8m0", 8, 24)
    UINT2 = ("uint2", 2, 25)
    INT2 = ("int2", 2, 26)
    FLOAT6E2M3 = ("float6e2m3", 6, 27)
    FLOAT6E3M2 = ("float6e3m2", 6, 28)

    def __init__(self, label: str, bits: int, onnx_number: int) -> None:
        self.label = label
        self.bits = bits
        self.onnx_number = onnx_number

    __hash__ = object.__hash__  # as that of `BasicOp`

    @classmethod
    def from_onnx(cls, number: int) -> DType:
        """Return the type of an ONNX `TensorProto.DataType` number; unknown numbers are `UNDEFINED`."""
        return _BY_ONNX_NUMBER.get(number, cls.UNDEFINED)

    @property
    def is_float(self) -> bool:
        return "float" in self.label

    @property
    def is_complex(self) -> bool:
        return self in (DType.COMPLEX64, DType.COMPLEX128)

    @property
    def is_integer(self) -> bool:
        """Whether the type is an integer; bool is not."""
        return "int" in self.label


_BY_ONNX_NUMBER = {dtype.onnx_number: dtype for dtype in DType}
_ORDER = {dtype: place for place, dtype in enumerate(DType)}
_OPERATION_NAMES = {op: op.value for op in BasicOp}


@dataclass(frozen=True)
class Counts:
    """How many basic operations of which data type, and how many multiply-accumulate pairs.

    Attributes:
        operations: (data type, basic operation) -> exact count; zero entries are never stored.
        macs: multiply-accumulate pairs of dense products (Conv, MatMul, Gemm, Einsum, RNN, attention), nothing else.
    """

    operations: Mapping[tuple[DType, BasicOp], int] = field(default_factory=lambda: MappingProxyType({}))
    macs: int = 0

    @classmethod
    def of(
        cls,
        dtype: DType,
        *,
        add: int = 0,
        sub: int = 0,
        mul: int = 0,
        div: int = 0,
        root: int = 0,
        compare: int = 0,
        macs: int = 0,
    ) -> Counts:
        """Counts of one data type; every number is per call of the operator.

        Raises:
            ValueError: if a count is negative.
        """
        numbers = (add, sub, mul, div, root, compare)
        if macs < 0 or any(number < 0 for number in numbers):
            raise ValueError(f"negative count: {dict(zip(BasicOp, numbers, strict=True))}, macs {macs}")
        stored = {(dtype, op): number for op, number in zip(_OPERATION_NAMES, numbers, strict=True) if number != 0}
        return cls(MappingProxyType(stored), macs)

    def __add__(self, other: Counts) -> Counts:
        if not other.operations and not other.macs:
            return self
        merged = dict(self.operations)
        for key, number in other.operations.items():
            merged[key] = merged.get(key, 0) + number
        return Counts(MappingProxyType(merged), self.macs + other.macs)

    def __mul__(self, factor: int) -> Counts:
        """Scale by a non-negative number of repetitions."""
        if factor < 0:
            raise ValueError(f"counts cannot be repeated {factor} times")
        if factor == 1:
            return self
        scaled = {key: number * factor for key, number in self.operations.items() if factor != 0}
        return Counts(MappingProxyType(scaled), self.macs * factor)

    __rmul__ = __mul__

    def without(self, op: BasicOp) -> Counts:
        """The same counts with one basic operation left out."""
        kept = {key: number for key, number in self.operations.items() if key[1] is not op}
        return Counts(MappingProxyType(kept), self.macs)

    def total(self, op: BasicOp) -> int:
        """The count of one basic operation over all data types."""
        return sum(number for (_, kind), number in self.operations.items() if kind is op)

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """Data types that occur, in the order of `DType`."""
        present = {dtype for dtype, _ in self.operations}
        return tuple(present) if len(present) < 2 else tuple(sorted(present, key=_ORDER.__getitem__))

    def of_dtype(self, dtype: DType) -> Counts:
        """The basic operations of one data type; MACs are not divided by type and are left at 0."""
        return Counts(MappingProxyType({key: n for key, n in self.operations.items() if key[0] is dtype}))

    def basic_operations(self) -> dict[str, int]:
        """All six basic operations by name, summed over data types."""
        numbers = dict.fromkeys(_OPERATION_NAMES.values(), 0)
        for (_, op), number in self.operations.items():
            numbers[_OPERATION_NAMES[op]] += number
        return numbers


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as far as it is known before a run.

    Attributes:
        name: unique within the graph (inner scopes carry a prefix).
        dtype: element type; for a sequence or an optional, that of its elements.
        shape: dimensions, or None where no shape is known (sequences, optionals, unknown operators).
        value: the elements, where they are known before a run and small (shapes, axes, scalars), else None. No part of
            a comparison, because an array has no single truth value.
        constant: True when the tensor does not depend on any run-time input.
        quantized: the integer type that a DequantizeLinear made the tensor from, else None. A dense product whose
            operands both have one is a quantised product: runtimes compute it on the integers.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...] | None
    value: NDArray[np.generic] | None = field(default=None, compare=False)
    constant: bool = False
    quantized: DType | None = None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def size(self) -> int | None:
        """Number of elements."""
        return None if self.shape is None else math.prod(self.shape)

    @property
    def size_bytes(self) -> int | None:
        """Storage size in bytes, sub-byte types packed; None where shape or element size is unknown (strings)."""
        if self.shape is None or self.dtype.bits == 0:
            return None
        return (math.prod(self.shape) * self.dtype.bits + 7) // 8


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of the graph with everything that a cost rule may look at: no protobuf, no I/O.

    Attributes:
        name: unique within the graph.
        op_type: ONNX operator name.
        domain: operator domain, "" for ai.onnx.
        version: opset version of that domain that the model imports.
        inputs: tensors in the order of the schema; None where an optional input is absent.
        outputs: likewise; None where an optional output is not asked for.
        attributes: Python values (int, float, str, tuples of them, arrays), schema defaults filled in.
        scope: path of enclosing functions and subgraphs, "" at the top.
        repeats: how often the node runs per inference (product of enclosing trip counts).
        constant: True when its result does not depend on run-time inputs, so that a runtime folds it.
        branches: enclosing If branches as (if node name, branch attribute) pairs, outermost first.
        bound: whether run-time data decides how often it runs, or how large its outputs are, and the most is taken.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any]
    scope: str = ""
    repeats: int = 1
    constant: bool = False
    branches: tuple[tuple[str, str], ...] = ()
    bound: bool = False

    def input(self, index: int) -> Tensor | None:
        """The input at a position, None when it is absent or left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def output(self, index: int) -> Tensor | None:
        """The output at a position, None when it is absent or not asked for."""
        return self.outputs[index] if index < len(self.outputs) else None
