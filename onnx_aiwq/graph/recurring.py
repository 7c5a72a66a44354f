"""What recurs is inferred once: one operator with the same attributes, on tensors of the same types and shapes.

A deep network is a few layers many times over, and asking the libraries is most of the time of a walk. Only calls
whose outputs follow from types, shapes and attributes alone are kept: floating-point tensors of concrete shapes, none
of whose elements matter, with outputs that no symbol and no declaration of the file has a say in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

if TYPE_CHECKING:
    import onnx

    from onnx_aiwq.graph.entries import Entry

Key: TypeAlias = "tuple[object, ...]"
_Kept: TypeAlias = "tuple[tuple[ir.TypeProtocol, ir.Shape], ...]"
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


class Recurring:
    """Types and shapes of outputs, by what they follow from."""

    def __init__(self) -> None:
        self._kept: dict[Key, _Kept] = {}

    def key(
        self,
        node: onnx.NodeProto,
        version: int,
        inputs: Sequence[Entry | None],
        declared: Sequence[onnx.TypeProto | None],
    ) -> Key | None:
        """What the outputs of a node follow from; None where that may be more than types, shapes and attributes."""
        by_type = not node.domain and node.op_type in _ELEMENTS_DO_NOT_MATTER
        running = False  # whether an input has elements that nobody knows: else the node is computed, not inferred
        parts: list[object] = []
        for entry in inputs:
            if entry is None:
                parts.append(None)
                continue
            dims = _concrete(entry.value)
            if dims is None or entry.value.dtype not in _FLOATING or not (by_type or entry.data is None):
                return None
            running = running or entry.data is None
            parts.append((entry.value.dtype, dims))
        if not running:
            return None
        texts = []
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                return None
            texts.append(attribute.SerializeToString())
        texts += [b"" if each is None else each.SerializeToString() for each in declared]
        if sum(map(len, texts)) > _MOST_BYTES:
            return None
        named = tuple(map(bool, node.output))
        return (node.domain, node.op_type, version, named, tuple(parts), tuple(texts))

    def recall(self, key: Key | None, names: Sequence[str]) -> list[ir.Value] | None:
        """Values of these names with the types and shapes that were kept; None where there are none."""
        found = None if key is None else self._kept.get(key)
        if found is None:
            return None
        return [ir.Value(name=name, type=type_, shape=shape) for name, (type_, shape) in zip(names, found, strict=True)]

    def keep(self, key: Key, values: Sequence[ir.Value]) -> None:
        """Note what was inferred; all types and shapes are known."""
        if len(self._kept) < _MOST_KEPT:
            known = [(value.type, value.shape) for value in values]
            self._kept[key] = tuple((type_, shape) for type_, shape in known if type_ is not None and shape is not None)


def is_settled(values: Sequence[ir.Value]) -> bool:
    """Whether the libraries left nothing open that a declaration or a symbol would have to settle."""
    return all(_concrete(value) is not None for value in values)


def _concrete(value: ir.Value) -> tuple[int, ...] | None:
    """The dimensions of a tensor, where all of them are numbers."""
    if type(value.type) is not ir.TensorType or value.shape is None:
        return None
    dims = value.shape.dims
    return dims if all(type(dim) is int for dim in dims) else None
