"""Vectors that claim to be long: a library that makes a symbol for each element would take all time and memory."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import onnx_ir as ir

from onnx_aiwq.bounds import MAX_RANK
from onnx_aiwq.graph.entries import FOLDING_LIMIT_ELEMENTS, Entry
from onnx_aiwq.graph.symbols import OversizeError

# Where the elements of one input are the dimensions of the output.
_DIMENSIONS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}


def require_rank(domain: str, op_type: str, inputs: Sequence[Entry | None]) -> None:
    """Refuse a node whose output would have more dimensions than any runtime takes.

    Raises:
        OversizeError: if there are more than `MAX_RANK`.
    """
    index = _DIMENSIONS.get(op_type) if not domain else None
    length = _length(inputs[index]) if index is not None and index < len(inputs) else None
    if length is not None and length > MAX_RANK:
        raise OversizeError(f"makes a tensor of {length} dimensions, more than {MAX_RANK}")


def joined(domain: str, op_type: str, axis: object, inputs: Sequence[Entry | None]) -> ir.Shape | None:
    """The shape of vectors one behind the other, where one is long; None of any other node.

    `onnx-shape-inference` makes a symbol for each element of a Concat of vectors, in case it is a shape.
    """
    if domain or op_type != "Concat" or axis not in (0, -1):
        return None
    if not any((_length(entry) or 0) > FOLDING_LIMIT_ELEMENTS for entry in inputs):
        return None
    lengths = []
    for entry in inputs:
        if entry is None or entry.value.shape is None or len(entry.value.shape.dims) != 1:
            return None
        lengths.append(entry.value.shape.dims[0])
    return ir.Shape([functools.reduce(operator.add, lengths)])


def _length(entry: Entry | None) -> int | None:
    """The elements of a tensor of one dimension, where they are a number."""
    if entry is None or entry.value.shape is None or len(entry.value.shape.dims) != 1:
        return None
    (length,) = entry.value.shape.dims
    return length if isinstance(length, int) else None
