"""Rules of products of integers against their loops in self-tallying numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_aiwq.vocabulary import Counts, DType, Tensor
from oracle import Number
from quantised import (
    F16,
    F32,
    I8,
    I32,
    MS,
    U8,
    UNKNOWN,
    Tallies,
    centred,
    counted,
    dynamically_quantise,
    known,
    round_shift_saturate,
    tensor,
)


def dot(tallies: Tallies, left: Any, right: Any, dtype: DType, sums: DType = I32) -> Any:
    """One dot product: products in one type, sums in another, the first product assigned."""
    total = None
    for a, b in zip(left, right, strict=True):
        product = Number((Number(a.value, tallies[dtype]) * b).value, tallies[sums])
        total = product if total is None else total + product
    return total


def matmul(tallies: Tallies, a: Any, b: Any, dtype: DType, sums: DType = I32) -> Any:
    result = np.empty(np.shape(np.matmul(np.zeros(a.shape), np.zeros(b.shape))), dtype=object)
    b = np.broadcast_to(b, result.shape[:-2] + b.shape[-2:])
    a = np.broadcast_to(a, result.shape[:-2] + a.shape[-2:])
    for *batch, m, n in np.ndindex(result.shape):
        result[(*batch, m, n)] = dot(tallies, a[(*batch, m)], b[(*batch, slice(None), n)], dtype, sums)
    return result


def conv(tallies: Tallies, x: Any, w: Any, dtype: DType, pad: int, group: int) -> Any:
    """A square two-dimensional convolution with stride 1 and equal pads, gathered output by output."""
    padded = np.empty((*x.shape[:2], x.shape[2] + 2 * pad, x.shape[3] + 2 * pad), dtype=object)
    for index in np.ndindex(padded.shape):
        padded[index] = Number(0, tallies[dtype])
    padded[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]] = x
    k = w.shape[2]
    result = np.empty((x.shape[0], w.shape[0], padded.shape[2] - k + 1, padded.shape[3] - k + 1), dtype=object)
    for n, f, i, j in np.ndindex(result.shape):
        first = f // (w.shape[0] // group) * w.shape[1]
        window = padded[n, first : first + w.shape[1], i : i + k, j : j + k]
        result[n, f, i, j] = dot(tallies, window.flat, w[f].flat, dtype)
    return result


PAIRS = [(U8, U8, U8), (U8, I8, I8), (I8, U8, I8), (I8, I8, I8)]


@pytest.mark.parametrize(("left", "right", "products"), PAIRS)
@pytest.mark.parametrize(("x_point", "w_point"), [(None, None), (0, 128), (UNKNOWN, 0), (UNKNOWN, UNKNOWN)])
@pytest.mark.parametrize(("pad", "group", "filters"), [(0, 1, 3), (1, 2, 4)])
def test_integer_convolutions_equal_their_loops(
    left: DType, right: DType, products: DType, x_point: Any, w_point: Any, pad: int, group: int, filters: int
) -> None:
    x_shape, w_shape = (2, 2, 3, 4), (filters, 2 // group, 2, 2)

    def accumulate(tallies: Tallies) -> Any:
        x = centred(tallies, tallies.of(left, x_shape), products, x_point)
        w = centred(tallies, tallies.of(right, w_shape), products, w_point)
        return conv(tallies, x, w, products, pad, group)

    tallies = Tallies()
    result = accumulate(tallies)
    macs = tallies[products]["mul"]
    x, w = tensor(x_shape, left), tensor(w_shape, right)
    points = [known(x_point, left), known(w_point, right)]
    attributes = {"pads": (pad,) * 4, "group": group}
    tallies.check(counted("ConvInteger", [x, w, *points], tensor(result.shape, I32), **attributes), macs)

    for bias, y_point, scale in [(False, 0, 0.5), (True, UNKNOWN, UNKNOWN), (True, 5, 1.0)]:
        tallies = Tallies()
        result = accumulate(tallies)
        if bias:
            result = result + tallies.of(I32, (1, filters, 1, 1))
        result = tallies.cast(result, F32)
        round_shift_saturate(result * 2 if scale != 1.0 else result, y_point)
        inputs = [x, known(1.0, F32), points[0], w, known(scale, F32), points[1], known(1.0, F32), known(y_point, U8)]
        inputs.append(tensor((filters,), I32) if bias else None)
        for domain in ("", MS):
            tallies.check(counted("QLinearConv", inputs, tensor(result.shape, U8), domain, **attributes), macs)


def test_conv_integer_by_hand() -> None:
    inputs = [tensor((1, 1, 3, 3), U8), tensor((1, 1, 2, 2), I8), known(UNKNOWN, U8)]
    counts = counted("ConvInteger", inputs, tensor((1, 1, 2, 2), I32))
    assert counts == Counts.of(I8, mul=16, macs=16) + Counts.of(I32, add=12, sub=9)


def test_qlinear_conv_by_hand() -> None:
    scale = known(UNKNOWN, F32)
    inputs = [tensor((1, 1, 3, 3), U8), scale, known(128, U8), tensor((1, 1, 2, 2), I8), scale, known(0, I8), scale]
    inputs += [known(5, U8), tensor((1,), I32)]
    counts = counted("QLinearConv", inputs, tensor((1, 1, 2, 2), U8))
    expected = Counts.of(I8, mul=16, macs=16) + Counts.of(I32, add=16, sub=9)
    assert counts == expected + Counts.of(F32, mul=4, add=4, compare=12)


@pytest.mark.parametrize(("left", "right", "products"), PAIRS)
@pytest.mark.parametrize(("a_point", "b_point"), [(None, None), (0, 128), (UNKNOWN, 0), (UNKNOWN, UNKNOWN)])
@pytest.mark.parametrize(("a_shape", "b_shape"), [((2, 3), (3, 4)), ((2, 1, 2, 3), (2, 3, 2)), ((2, 3), (2, 3, 1))])
def test_integer_matrix_products_equal_their_loops(
    left: DType, right: DType, products: DType, a_point: Any, b_point: Any, a_shape: Any, b_shape: Any
) -> None:
    def accumulate(tallies: Tallies) -> Any:
        a = centred(tallies, tallies.of(left, a_shape), products, a_point)
        b = centred(tallies, tallies.of(right, b_shape), products, b_point)
        return matmul(tallies, a, b, products)

    tallies = Tallies()
    shape = accumulate(tallies).shape
    macs = tallies[products]["mul"]
    a, b, points = tensor(a_shape, left), tensor(b_shape, right), [known(a_point, left), known(b_point, right)]
    tallies.check(counted("MatMulInteger", [a, b, *points], tensor(shape, I32)), macs)

    tallies = Tallies()
    round_shift_saturate(tallies.cast(accumulate(tallies), F32) * 2, 7)
    scale = known(UNKNOWN, F32)
    inputs = [a, scale, points[0], b, scale, points[1], scale, known(7, U8)]
    tallies.check(counted("QLinearMatMul", inputs, tensor(shape, U8)), macs)

    for bias, scales in [(False, (UNKNOWN, UNKNOWN)), (True, (1.0, UNKNOWN)), (True, (1.0, 1.0))]:
        tallies = Tallies()
        result = tallies.cast(accumulate(tallies), F32)
        result = result * 2 if scales != (1.0, 1.0) else result
        if bias:
            result + tallies.of(F32, shape[-1:])
        inputs = [a, b, known(scales[0], F32), known(scales[1], F32), *points]
        inputs.append(tensor(shape[-1:], F32) if bias else None)
        tallies.check(counted("MatMulIntegerToFloat", inputs, tensor(shape, F32), MS), macs)


def test_matmul_integer_by_hand() -> None:
    inputs = [tensor((2, 3), U8), tensor((3, 4), U8), known(UNKNOWN, U8)]
    counts = counted("MatMulInteger", inputs, tensor((2, 4), I32))
    assert counts == Counts.of(U8, mul=24, macs=24) + Counts.of(I32, add=16, sub=6)


def test_qlinear_matmul_by_hand() -> None:
    scale, point = known(UNKNOWN, F32), known(UNKNOWN, U8)
    inputs = [tensor((2, 3), U8), scale, point, tensor((3, 4), U8), scale, point, scale, point]
    counts = counted("QLinearMatMul", inputs, tensor((2, 4), U8))
    expected = Counts.of(U8, mul=24, macs=24) + Counts.of(I32, add=16, sub=18)
    assert counts == expected + Counts.of(F32, mul=8, add=8, compare=24)


def test_narrow_operands_multiply_at_the_wider_width() -> None:
    inputs = [tensor((2, 3), U8), tensor((3, 4), DType.INT4)]
    assert counted("MatMulInteger", inputs, tensor((2, 4), I32)).dtypes == (I8, I32)


def test_float8_products_keep_their_type() -> None:
    eight, scale = DType.FLOAT8E4M3FN, known(UNKNOWN, F16)
    point = known(UNKNOWN, eight)
    inputs = [tensor((2, 3), eight), scale, point, tensor((3, 4), eight), scale, point, scale, point]
    counts = counted("QLinearMatMul", inputs, tensor((2, 4), eight))
    assert counts == Counts.of(eight, mul=24, add=16, sub=18, macs=24) + Counts.of(F16, mul=8, add=8, compare=24)


def test_matmul_integer_to_float_by_hand() -> None:
    scales = [Tensor("a", F32, (1,)), Tensor("b", F32, (4,), constant=True)]
    inputs = [tensor((2, 3), U8), tensor((3, 4), I8), *scales, None, None, tensor((4,), F32)]
    counts = counted("MatMulIntegerToFloat", inputs, tensor((2, 4), F32), MS)
    expected = Counts.of(I8, mul=24, macs=24) + Counts.of(I32, add=16)
    assert counts == expected + Counts.of(F32, mul=12, add=8)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scales", [(UNKNOWN, UNKNOWN, UNKNOWN), (1.0, 1.0, UNKNOWN), (1.0, 1.0, 1.0)])
def test_qgemm_equals_its_loops(trans_a: int, trans_b: int, real: bool, bias: bool, scales: Any) -> None:
    tallies = Tallies()
    a_shape, b_shape = (3, 2) if trans_a else (2, 3), (4, 3) if trans_b else (3, 4)
    a = centred(tallies, tallies.of(U8, a_shape), I8, 128)
    b = centred(tallies, tallies.of(I8, b_shape), I8, 0)
    result = matmul(tallies, a.T if trans_a else a, b.T if trans_b else b, I8)
    if bias:
        result = result + tallies.of(I32, (4,))
    result = tallies.cast(result, F32)
    fused = scales[:2] if real else scales
    result = result * 2 if any(scale != 1.0 for scale in fused) else result
    inputs = [tensor(a_shape, U8), known(scales[0], F32), known(128, U8)]
    inputs += [tensor(b_shape, I8), known(scales[1], F32), known(0, I8), tensor((4,), I32) if bias else None]
    if not real:
        round_shift_saturate(result, 9)
        inputs += [known(scales[2], F32), known(9, U8)]
    counts = counted(
        "QGemm", inputs, tensor((2, 4), F32 if real else U8), MS, transA=trans_a, transB=trans_b, alpha=1.0
    )
    tallies.check(counts, 24)


def test_qgemm_by_hand() -> None:
    scale = known(UNKNOWN, F32)
    inputs = [tensor((2, 3), U8), scale, known(0, U8), tensor((3, 4), U8), scale, known(0, U8), tensor((4,), I32)]
    counts = counted("QGemm", inputs, tensor((2, 4), F32), MS)
    assert counts == Counts.of(U8, mul=24, macs=24) + Counts.of(I32, add=24) + Counts.of(F32, mul=8)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "products"), [(U8, U8), (I8, I8)])
@pytest.mark.parametrize("point", [None, 0, 5, UNKNOWN])
@pytest.mark.parametrize("columns", [1, 4])
def test_dynamic_quantize_matmul_equals_its_parts(
    bias: bool, dtype: DType, products: DType, point: Any, columns: int
) -> None:
    tallies = Tallies()
    x = tallies.of(F32, (2, 3))
    dynamically_quantise(x)
    a = centred(tallies, x, products, UNKNOWN)
    b = centred(tallies, tallies.of(dtype, (3, 4)), products, point)
    scale = tallies.of(F32, (columns,)) * 2
    result = tallies.cast(matmul(tallies, a, b, products), F32) * scale
    if bias:
        result + tallies.of(F32, (4,))
    inputs = [tensor((2, 3), F32), tensor((3, 4), dtype), tensor((columns,), F32), known(point, dtype)]
    inputs.append(tensor((4,), F32) if bias else None)
    tallies.check(counted("DynamicQuantizeMatMul", inputs, tensor((2, 4), F32), MS), 24)


def test_dynamic_quantize_matmul_by_hand() -> None:
    inputs = [tensor((2, 3), F32), tensor((3, 4), I8), tensor((1,), F32)]
    counts = counted("DynamicQuantizeMatMul", inputs, tensor((2, 4), F32), MS)
    expected = Counts.of(F32, add=6, sub=2, div=8, compare=33, mul=9)
    assert counts == expected + Counts.of(I8, mul=24, macs=24) + Counts.of(I32, add=16, sub=6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("summand", [False, True])
def test_qordered_matmul_equals_its_formula(bias: bool, summand: bool) -> None:
    tallies = Tallies()
    product = matmul(tallies, tallies.of(I8, (1, 2, 3)), tallies.of(I8, (3, 4)), I8)
    result = tallies.cast(product, F32) * 0.5
    result = result + tallies.of(F32, (4,)) if bias else result
    result = result + tallies.of(F32, (1, 2, 4)) * 0.5 if summand else result
    round_shift_saturate(result, None)
    scale = known(UNKNOWN, F32)
    inputs = [tensor((1, 2, 3), I8), scale, tensor((3, 4), I8), scale, scale, tensor((4,), F32) if bias else None]
    inputs += [tensor((1, 2, 4), I8), scale] if summand else []
    tallies.check(counted("QOrderedMatMul", inputs, tensor((1, 2, 4), I8), MS), 24)


def test_qordered_matmul_by_hand() -> None:
    scale = known(UNKNOWN, F32)
    inputs = [tensor((1, 2, 3), I8), scale, tensor((3, 4), I8), scale, scale, tensor((4,), F32)]
    counts = counted("QOrderedMatMul", inputs, tensor((1, 2, 4), I8), MS)
    expected = Counts.of(I8, mul=24, macs=24) + Counts.of(I32, add=16)
    assert counts == expected + Counts.of(F32, add=8, mul=8, compare=24)


def test_matmul_integer_16_multiplies_at_16_bits() -> None:
    inputs = [tensor((2, 3), DType.INT16), tensor((3, 4), DType.INT16)]
    counts = counted("MatMulInteger16", inputs, tensor((2, 4), I32), MS)
    assert counts == Counts.of(DType.INT16, mul=24, macs=24) + Counts.of(I32, add=16)
