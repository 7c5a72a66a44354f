"""Standardising as basic operations, which several normalisation rules share.

Statistics are taken as the definitions write them: mean, deviations, mean of their squares. Epsilon is always added.
"""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator


def standardized(dtype: DType, lines: int, n: int) -> Counts:
    """(x - mean) / sqrt(variance + epsilon) of every line of n (TO convention, LayerNorm of table 1.2)."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=2 * n - 1, sub=n, mul=n, div=n + 2, root=1) * lines


def root_mean_square_scaled(dtype: DType, lines: int, n: int) -> Counts:
    """x / sqrt(mean(x^2) + epsilon) of every line of n: n squares, n-1 + 1 add, a mean, a root, n quotients."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=n, mul=n, div=n + 1, root=1) * lines


def scale_and_shift(op: Operator, scale: int, shift: int | None) -> Counts:
    """One mul and one add per element for the scale and the shift that are present, at the type of the input."""
    size = size_of(op.input(0), "the input")
    scaled = size if op.input(scale) is not None else 0
    shifted = size if shift is not None and op.input(shift) is not None else 0
    return Counts.of(dtype_of(op.input(0)), add=shifted, mul=scaled)


def stash_dtype(op: Operator) -> DType:
    """The type that the statistics are computed in: `stash_type` where the operator has one."""
    number = op.attributes.get("stash_type")
    return dtype_of(op.input(0)) if number is None else DType.from_onnx(number)


def standardized_groups(op: Operator, groups: int) -> Counts:
    """Standardised groups of channels with scale and shift; the layout (NCHW or NHWC) does not matter."""
    shape = shape_of(op.input(0), "the input")
    lines = shape[0] * groups
    n = math.prod(shape) // lines if lines else 0
    return standardized(stash_dtype(op), lines, n) + scale_and_shift(op, 1, 2)
