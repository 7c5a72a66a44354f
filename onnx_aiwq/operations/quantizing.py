"""Quantising and dequantising as basic operations, and products of integers, which several rule families share.

A zero point that is absent or known to be zero, and a scale that is known to be one, cost nothing. Scales that are
combined (a_scale * b_scale / y_scale) are taken as one constant. Rounding is 1 compare, saturation is 2 compare.
"""

from __future__ import annotations

import numpy as np

from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, product_types
from onnx_aiwq.operations.registry import size_of
from onnx_aiwq.vocabulary import Counts, DType, Tensor


def is_shifting(zero_point: Tensor | None) -> bool:
    """Whether a zero point is present and not known to be zero."""
    return zero_point is not None and (zero_point.value is None or bool(np.any(zero_point.value)))


def is_scaling(scale: Tensor | None) -> bool:
    """Whether a scale is not known to be one."""
    return scale is None or scale.value is None or bool(np.any(scale.value != 1))


def rounding(dtype: DType, size: int, zero_point: Tensor | None, *, saturated: bool = True) -> Counts:
    """The end of every quantisation: round, add the zero point, saturate."""
    return Counts.of(dtype, add=size if is_shifting(zero_point) else 0, compare=(3 if saturated else 1) * size)


def quantising(dtype: DType, size: int, scale: Tensor | None, zero_point: Tensor | None) -> Counts:
    """saturate(round(x / scale) + zero_point)."""
    return Counts.of(dtype, div=size if is_scaling(scale) else 0) + rounding(dtype, size, zero_point)


def dequantising(dtype: DType, size: int, scale: Tensor | None, zero_point: Tensor | None) -> Counts:
    """(x - zero_point) * scale."""
    return Counts.of(dtype, sub=size if is_shifting(zero_point) else 0, mul=size if is_scaling(scale) else 0)


def requantising(dtype: DType, size: int, scales: tuple[Tensor | None, ...], zero_point: Tensor | None) -> Counts:
    """saturate(round(x * fused scale) + zero_point)."""
    scaled = any(is_scaling(scale) for scale in scales)
    return Counts.of(dtype, mul=size if scaled else 0) + rounding(dtype, size, zero_point)


def centring(operand: Tensor | None, zero_point: Tensor | None) -> Counts:
    """Subtraction of a zero point from every element of an operand, in the accumulator's type."""
    size = size_of(operand, "an operand") if is_shifting(zero_point) else 0
    kind = dtype_of(operand, "an operand")
    return Counts.of(DType.INT32 if kind.is_integer else kind, sub=size)


def integer_products(
    results: int, length: int, left: Tensor | None, right: Tensor | None, bias: Tensor | None = None
) -> Counts:
    """Dot products of integers, in the types of `product_types`."""
    types = product_types(dtype_of(left, "the first operand"), dtype_of(right, "the second operand"))
    return dot_products(types, results, length, bias)


def dynamic_quantising(dtype: DType, size: int) -> Counts:
    """The function body of DynamicQuantizeLinear for `size` elements."""
    scale = Counts.of(dtype, sub=1, div=1, compare=2 * max(size - 1, 0) + 2)
    zero_point = Counts.of(dtype, sub=1, div=1, compare=3)
    return scale + zero_point + Counts.of(dtype, add=size, div=size, compare=3 * size)
