"""What is known of a tensor while the graph is walked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnx_aiwq.graph.symbols import library_shape, plain_shape
from onnx_aiwq.vocabulary import DType, Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from onnx_aiwq.symbolic import Dim

FOLDING_LIMIT_ELEMENTS = 4096  # larger constants are known to be constant, but their elements are not computed
ONNX_NUMBERS = frozenset(int(dtype) for dtype in ir.DataType)


@dataclass(frozen=True, slots=True)
class Items:
    """What is known of the elements of a sequence.

    Attributes:
        name: of the sequence; its length, where nothing tells it, is the symbol `NAME_length`.
        element: type and shape that all elements share; None where no element was seen.
        length: number of elements, where it is known.
        known: every element, where they are known one by one.
        growth: elements that one iteration adds to a sequence that a loop carries.
    """

    name: str
    element: Entry | None = None
    length: Dim | None = None
    known: tuple[Entry, ...] | None = None
    growth: int = 0


@dataclass(slots=True)
class Entry:
    """What is known of one tensor while the graph is walked.

    Attributes:
        value: name, type and shape in the form that the libraries take.
        data: the elements where they are known and few; an object array where formulas are among them.
        constant: whether no run-time input decides the tensor.
        dynamic: whether a symbolic dimension or run-time data decides its shape.
        quantized: the integer type that it was dequantised from.
        origins: names of the constants (weights) that a constant tensor is made of.
        items: what is known of the elements, for a sequence and for an optional sequence.
        present: whether an optional holds a value, where that is known.
        kind: a shape that the value had, and a number for that shape and its type; see `onnx_aiwq.graph.recurring`.
    """

    value: ir.Value
    data: NDArray[np.generic] | None = None
    constant: bool = False
    dynamic: bool = False
    quantized: DType | None = None
    origins: frozenset[str] = frozenset()
    items: Items | None = None
    present: bool | None = None
    kind: tuple[ir.Shape, int | None] | None = field(default=None, repr=False, compare=False)
    _tensor: Tensor | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.value.name or ""

    @property
    def dtype(self) -> DType:
        dtype = self.value.dtype
        return DType.UNDEFINED if dtype is None else DType.from_onnx(int(dtype))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Dimensions; formulas stand for ints in symbolic mode. None where one is unknown."""
        return plain_shape(self.value.shape)

    def tensor(self) -> Tensor:
        """The frozen view that rules and reports see."""
        if self._tensor is None:
            self._tensor = Tensor(self.name, self.dtype, self.shape, self.data, self.constant, self.quantized)
        return self._tensor

    def set_data(self, data: NDArray[np.generic]) -> None:
        """Note the elements, where they are few."""
        if data.size > FOLDING_LIMIT_ELEMENTS:
            return
        self.data = data
        if data.dtype != object and self.value.const_value is None and self.value.dtype is not None:
            # What `ir.tensor` makes of an array, after it asked at length what else it could be.
            self.value.const_value = ir.Tensor(data, dtype=self.value.dtype, name=self.value.name)


def typed_entry(name: str, dtype: int, shape: Sequence[Dim] | None, *, constant: bool = False) -> Entry:
    """A tensor of which type and shape are known, and nothing else."""
    value = ir.Value(
        name=name,
        shape=None if shape is None else library_shape(shape),
        type=ir.TensorType(ir.DataType(dtype)) if dtype in ONNX_NUMBERS else None,
    )
    return Entry(value, constant=constant, origins=frozenset({name}) if constant else frozenset())


def known_entry(name: str, dtype: int, data: NDArray[np.generic]) -> Entry:
    """A constant whose elements are at hand."""
    entry = typed_entry(name, dtype, data.shape, constant=True)
    entry.set_data(data)
    return entry
