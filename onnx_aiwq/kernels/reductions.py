"""Kernels that reduce: pools, means and sums, softmax, normalisations."""

from __future__ import annotations

import math

import numpy as np

from onnx_aiwq.kernels.products import BLOCKED
from onnx_aiwq.kernels.shapes import Description, attribute_int, attribute_ints, channels_first, log2, shape_of
from onnx_aiwq.vocabulary import Operator

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool"})
_GLOBAL_POOLS = frozenset({"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool", "QLinearGlobalAveragePool"})
_ALONG_AXIS = frozenset(
    {
        "Softmax",
        "LogSoftmax",
        "QLinearSoftmax",
        "LayerNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "RMSNormalization",
        "EmbedLayerNormalization",
        "LpNormalization",
        "CumSum",
        "TopK",
        "BiasSoftmax",
    }
)
_OVER_IMAGES = frozenset({"InstanceNormalization", "BatchNormalization", "GroupNormalization", "GroupNorm", "LRN"})


def describe_reduction(operator: Operator) -> Description | None:
    """The kernel of a reduction, or None."""
    op_type = operator.op_type
    x = shape_of(operator.input(0))
    if op_type in _POOLS | _GLOBAL_POOLS:
        ends = (channels_first(operator, tensor) for tensor in (operator.input(0), operator.output(0)))
        return _pool(operator, *ends)
    if op_type.startswith("Reduce") or op_type in ("ArgMax", "ArgMin"):
        return _reduce(operator, x)
    if op_type in _ALONG_AXIS:
        return _along_axis(operator, x)
    if op_type in _OVER_IMAGES and len(x) > 1:
        features = (log2(x[0]), log2(x[1]), log2(math.prod(x[2:])), float(attribute_int(operator, "size")))
        return Description(op_type.lower(), "normalisation", features)
    return None


def _pool(operator: Operator, x: tuple[int, ...], y: tuple[int, ...]) -> Description | None:
    if len(x) < 3 or len(y) < 3:
        return None
    layout = "blocked-" if operator.domain == BLOCKED else ""
    window = attribute_ints(operator, "kernel_shape") if operator.op_type in _POOLS else x[2:]
    strides = attribute_ints(operator, "strides", (1,)) or (1,)
    features = (
        log2(x[0] * x[1]),
        log2(math.prod(y[2:])),
        log2(math.prod(window)),
        log2(y[-1]),
        log2(max(strides)),
        float(any(attribute_ints(operator, "pads"))),
    )
    return Description(f"{layout}{operator.op_type.lower()}", "pool", features)


def _reduce(operator: Operator, x: tuple[int, ...]) -> Description:
    rank = len(x)
    if operator.op_type in ("ArgMax", "ArgMin"):
        axes: tuple[int, ...] = (attribute_int(operator, "axis"),)
    else:
        axes = _axes(operator, rank)
    reduced = {axis % rank for axis in axes} if rank else set()
    inner = 1
    for axis in range(rank - 1, -1, -1):
        if axis in reduced:
            break
        inner *= x[axis]
    count = math.prod(x[axis] for axis in reduced)
    kept = math.prod(x) // max(1, count)
    kind = operator.op_type.lower()
    like = f"{kind}-{'last' if inner == 1 else 'inner'}"
    form = f"{kind}-slow" if inner > 1 and _leads_with_one(x, reduced) else like
    return Description(form, "reduction", (log2(count), log2(kept), log2(inner)), like)


def _leads_with_one(x: tuple[int, ...], reduced: set[int]) -> bool:
    """Whether the axes up to the first that is treated otherwise, kept or reduced, are all one.

    onnxruntime has quick loops for a matrix, and for many matrices; for one matrix behind axes of one it has not.
    """
    first = next((axis for axis in range(len(x)) if (axis in reduced) is not (0 in reduced)), len(x))
    return math.prod(x[:first]) == 1


def _axes(operator: Operator, rank: int) -> tuple[int, ...]:
    given = attribute_ints(operator, "axes")
    second = operator.input(1)
    if not given and second is not None and second.value is not None:
        given = tuple(int(axis) for axis in np.ravel(second.value))
    return given or tuple(range(rank))


def _along_axis(operator: Operator, x: tuple[int, ...]) -> Description:
    rank = max(1, len(x))
    axis = attribute_int(operator, "axis", -1) % rank if operator.op_type != "TopK" else rank - 1
    outer, inner = math.prod(x[:axis]), math.prod(x[axis:])
    width = x[axis] if x else 1
    # A softmax over another axis than the last is computed over a transposed copy.
    moved = operator.op_type in ("Softmax", "LogSoftmax", "BiasSoftmax") and axis != rank - 1
    masked = operator.op_type == "Softmax"
    features = (
        log2(outer),
        log2(width),
        log2(inner // max(1, width)),
        log2(outer * inner),
        float(moved),
        float(masked),
    )
    return Description(operator.op_type.lower(), "normalisation", features)
