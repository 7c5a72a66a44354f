"""What recurs is inferred once: one operator with the same attributes, on tensors of the same types and shapes.

A deep network is a few layers many times over, and asking the libraries is most of the time of a walk. Only calls
whose outputs follow from types, shapes and attributes alone are kept: floating-point tensors of concrete shapes, none
of whose elements matter, with outputs that no symbol and no declaration of the file has a say in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import onnx_ir as ir

from onnx_aiwq.vocabulary import DType

if TYPE_CHECKING:
    import onnx

    from onnx_aiwq.graph.entries import Entry

Key: TypeAlias = "tuple[object, ...]"
_MOST_KEPT = 10_000
_MOST_BYTES = 4096  # of the attributes and declarations in a key
# Operators whose shapes do not depend on the elements of floating-point inputs: small weights are known by element.
_ELEMENTS_DO_NOT_MATTER = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu", "Clip"),
        *("Conv", "ConvTranspose", "Gemm", "MatMul"),
        *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"),
        "RMSNormalization",
    }
)
_FLOATING = frozenset(dtype for dtype in ir.DataType if dtype.is_floating_point())


class Kept(msgspec.Struct, frozen=True):
    """What is kept of one output.

    Attributes:
        type: in the form that the libraries take.
        shape: likewise; of numbers alone.
        kind: of its entry.
        dtype: element type.
        dims: the dimensions.
    """

    type: ir.TypeProtocol
    shape: ir.Shape
    kind: tuple[ir.Shape, int | None]
    dtype: DType
    dims: tuple[int, ...]


class Recurring:
    """Types and shapes of outputs, by what they follow from."""

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[Kept, ...]] = {}
        self._kinds: dict[tuple[int, tuple[int, ...]], int] = {}

    def key(
        self,
        node: onnx.NodeProto,
        version: int,
        inputs: Sequence[Entry | None],
        declared: Sequence[onnx.TypeProto | None],
    ) -> Key | None:
        """What the outputs of a node follow from; None where that may be more than types, shapes and attributes."""
        domain, op_type = node.domain, node.op_type
        by_type = not domain and op_type in _ELEMENTS_DO_NOT_MATTER
        running = False  # whether an input has elements that nobody knows: else the node is computed, not inferred
        parts: list[int | None] = []
        for entry in inputs:
            if entry is None:
                parts.append(None)
                continue
            unknown = entry.data is None
            kind = self._kind(entry) if unknown or by_type else None
            if kind is None:
                return None
            running = running or unknown
            parts.append(kind)
        texts = _texts(node, declared) if running else None
        if texts is None:
            return None
        return (domain, op_type, version, tuple(map(bool, node.output)), tuple(parts), texts)

    def recall(self, key: Key | None) -> tuple[Kept, ...] | None:
        """What was kept of the outputs; None where nothing was."""
        return None if key is None else self._kept.get(key)

    def keep(self, key: Key, values: Sequence[ir.Value]) -> None:
        """Note what was inferred; all types and shapes are known."""
        if len(self._kept) >= _MOST_KEPT:
            return
        kept = []
        for value in values:
            dims = _concrete(value)
            if dims is None or value.type is None or value.shape is None:
                return
            dtype = DType.from_onnx(int(value.dtype or 0))
            kept.append(Kept(value.type, value.shape, (value.shape, self._number(value)), dtype, dims))
        self._kept[key] = tuple(kept)

    def _kind(self, entry: Entry) -> int | None:
        """A number for the type and the shape of an entry; None for one that is kept by no key."""
        shape = entry.value.shape
        if shape is None:
            return None
        if entry.kind is None or entry.kind[0] is not shape:
            entry.kind = (shape, self._number(entry.value))
        return entry.kind[1]

    def _number(self, value: ir.Value) -> int | None:
        dims = _concrete(value)
        if dims is None or value.dtype not in _FLOATING:
            return None
        return self._kinds.setdefault((int(value.dtype), dims), len(self._kinds))


def _texts(node: onnx.NodeProto, declared: Sequence[onnx.TypeProto | None]) -> tuple[bytes, ...] | None:
    """The attributes and the declarations of a node; None where a subgraph is among them, or they are long."""
    texts = []
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            return None
        texts.append(attribute.SerializeToString())
    texts += [b"" if each is None else each.SerializeToString() for each in declared]
    return tuple(texts) if sum(map(len, texts)) <= _MOST_BYTES else None


def is_settled(values: Sequence[ir.Value]) -> bool:
    """Whether the libraries left nothing open that a declaration or a symbol would have to settle."""
    return all(_concrete(value) is not None for value in values)


def _concrete(value: ir.Value) -> tuple[int, ...] | None:
    """The dimensions of a tensor, where all of them are numbers."""
    if type(value.type) is not ir.TensorType or value.shape is None:
        return None
    dims = value.shape.dims
    return dims if all(type(dim) is int for dim in dims) else None
