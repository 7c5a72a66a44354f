"""Rules of quantisation against scalar loops; each element type has a tally of its own."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

UNKNOWN = "unknown"
F32, F16, I32, I8, U8 = DType.FLOAT, DType.FLOAT16, DType.INT32, DType.INT8, DType.UINT8
MS = "com.microsoft"


def tensor(shape: Any, dtype: DType) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape)


def known(value: Any, dtype: DType, constant: bool = True) -> Tensor | None:
    """A scale or zero point: None absent, UNKNOWN unknown, else a known number or list."""
    if value is None:
        return None
    if isinstance(value, str):
        return Tensor("q", dtype, (), constant=constant)
    array = np.asarray(value)
    return Tensor("q", dtype, array.shape, array, constant=True)


def counted(op_type: str, inputs: list[Tensor | None], output: Tensor | None, domain: str = "", **a: Any) -> Counts:
    rule = find_rule(op_type, domain, 21 if not domain else 1)
    assert rule is not None and rule.function is not None
    return rule.function(Operator("n", op_type, domain, 21, tuple(inputs), (output,), a))


class Tallies(defaultdict[DType, Counter[str]]):
    def __init__(self) -> None:
        super().__init__(Counter)

    def of(self, dtype: DType, shape: tuple[int, ...]) -> Any:
        return numbers(shape, self[dtype])

    def cast(self, array: Any, dtype: DType) -> Any:
        return np.frompyfunc(lambda x: Number(x.value, self[dtype]), 1, 1)(array)

    def check(self, counts: Counts, macs: int = 0) -> None:
        for dtype in set(self) | set(counts.dtypes):
            assert counts.of_dtype(dtype).basic_operations() == as_basic_operations(self[dtype]), dtype
        assert counts.macs == macs


def shifted(value: Any) -> bool:
    return value is not None and (isinstance(value, str) or bool(np.any(np.asarray(value))))


def round_shift_saturate(x: Any, point: Any, saturate: bool = True) -> None:
    for value in np.asarray(x, dtype=object).flat:
        assert value >= math.floor(value.value)
        whole = value + 3 if shifted(point) else value
        if saturate:
            assert whole >= -1000
            assert whole <= 1000


def quantise(x: Any, scale: Any, point: Any, saturate: bool = True) -> None:
    round_shift_saturate(x / 2 if scale != 1.0 else x, point, saturate)


def dequantise(x: Any, scale: Any, point: Any) -> Any:
    x = x - 3 if shifted(point) else x
    return x * 2 if scale != 1.0 else x


def centred(tallies: Tallies, x: Any, dtype: DType, point: Any) -> Any:
    if shifted(point):
        x = tallies.cast(x, I32) - 3
    return tallies.cast(x, dtype)


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


POINTS: list[Any] = [None, 0, 128, UNKNOWN, [0, 0], [0, 1]]
PAIRS = [(U8, U8, U8), (U8, I8, I8), (I8, U8, I8), (I8, I8, I8)]


@pytest.mark.parametrize("scale", [1.0, 0.5, UNKNOWN])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("domain", ["", MS])
def test_quantize_and_dequantize_equal_their_formulas(scale: Any, point: Any, domain: str) -> None:
    shape = (3, 2)
    tallies = Tallies()
    quantise(tallies.of(F32, shape), scale, point)
    inputs = [tensor(shape, F32), known(scale, F32), known(point, U8)]
    tallies.check(counted("QuantizeLinear", inputs, tensor(shape, U8), domain))
    tallies = Tallies()
    dequantise(tallies.of(F32, shape), scale, point)
    inputs = [tensor(shape, U8), known(scale, F32), known(point, U8)]
    tallies.check(counted("DequantizeLinear", inputs, tensor(shape, F32), domain))


@pytest.mark.parametrize("saturate", [0, 1])
def test_float8_may_skip_saturation(saturate: int) -> None:
    tallies = Tallies()
    quantise(tallies.of(F32, (4,)), UNKNOWN, None, bool(saturate))
    inputs = [tensor((4,), F32), known(UNKNOWN, F32), None]
    tallies.check(counted("QuantizeLinear", inputs, tensor((4,), DType.FLOAT8E4M3FN), saturate=saturate))


def test_quantisation_is_priced_in_the_stated_precision() -> None:
    inputs = [tensor((2,), F32), known(UNKNOWN, F16), None]
    assert counted("QuantizeLinear", inputs, tensor((2,), I8)).dtypes == (F16,)
    assert counted("QuantizeLinear", inputs, tensor((2,), I8), precision=1).dtypes == (F32,)
    half = [tensor((2,), I8), known(UNKNOWN, F16), None]
    assert counted("DequantizeLinear", half, tensor((2,), F16)) == Counts.of(F16, mul=2)


def test_quantize_by_hand() -> None:
    inputs = [tensor((2, 3), F32), known(UNKNOWN, F32), known(0, I8)]
    assert counted("QuantizeLinear", inputs, tensor((2, 3), I8)) == Counts.of(F32, div=6, compare=18)
    inputs[2] = known(3, I8)
    assert counted("QuantizeLinear", inputs, tensor((2, 3), I8)) == Counts.of(F32, div=6, compare=18, add=6)


def test_dequantize_by_hand() -> None:
    inputs = [tensor((2, 3), U8), known(0.1, F32), known(128, U8)]
    assert counted("DequantizeLinear", inputs, tensor((2, 3), F32)) == Counts.of(F32, sub=6, mul=6)


def dynamically_quantise(x: Any) -> None:
    """The function body of DynamicQuantizeLinear, statement by statement."""
    values = list(x.flat)
    low, high = values[0], values[0]
    for value in values[1:]:
        low = value if value < low else low
    for value in values[1:]:
        high = value if value > high else high
    low = low if low < 0 else Number(0, low.tally)
    high = high if high > 0 else Number(0, high.tally)
    scale = (high - low) / 255
    point = 0 - low / scale
    assert point >= 0
    assert point <= 255
    assert point >= math.floor(point.value)
    for value in values:
        whole = value / scale
        assert whole >= math.floor(whole.value)
        whole = whole + point
        assert whole >= 0
        assert whole <= 1000


@pytest.mark.parametrize("shape", [(1,), (10,), (2, 3, 4), ()])
def test_dynamic_quantization_equals_its_function_body(shape: tuple[int, ...]) -> None:
    tallies = Tallies()
    dynamically_quantise(tallies.of(F32, shape))
    tallies.check(counted("DynamicQuantizeLinear", [tensor(shape, F32)], tensor(shape, U8)))


def test_dynamic_quantization_by_hand() -> None:
    counts = counted("DynamicQuantizeLinear", [tensor((10,), F32)], tensor((10,), U8))
    assert counts == Counts.of(F32, add=10, sub=2, div=12, compare=53)


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


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (3,)), ((2, 3), (2, 3)), ((2, 1), (1, 4)), ((), (3,)), ((0,), (1,))]
)
@pytest.mark.parametrize("points", [(None, 0, 5), (UNKNOWN, 128, UNKNOWN), (7, None, 0)])
@pytest.mark.parametrize("scales", [(UNKNOWN, 0.5, UNKNOWN), (1.0, 1.0, 1.0), (1.0, UNKNOWN, 1.0)])
def test_quantised_sums_and_products_equal_their_formulas(left: Any, right: Any, points: Any, scales: Any) -> None:
    shape = np.broadcast_shapes(left, right)
    inputs = [tensor(left, U8), known(scales[0], F32), known(points[0], U8)]
    inputs += [tensor(right, I8), known(scales[1], F32), known(points[1], I8), known(scales[2], F32)]
    inputs.append(known(points[2], U8))
    tallies = Tallies()
    a = dequantise(tallies.of(F32, left), scales[0], points[0])
    b = dequantise(tallies.of(F32, right), scales[1], points[1])
    quantise(np.add(a, b), scales[2], points[2])
    tallies.check(counted("QLinearAdd", inputs, tensor(shape, U8), MS))
    tallies = Tallies()
    a = centred(tallies, tallies.of(U8, left), I8, points[0])
    b = centred(tallies, tallies.of(I8, right), I8, points[1])
    product = tallies.cast(np.multiply(a, b), F32)
    round_shift_saturate(product if scales == (1.0, 1.0, 1.0) else product * 2, points[2])
    tallies.check(counted("QLinearMul", inputs, tensor(shape, U8), MS))


def test_qlinear_add_by_hand() -> None:
    scale, point = known(UNKNOWN, F32), known(UNKNOWN, U8)
    inputs = [tensor((2, 3), U8), scale, point, tensor((3,), U8), scale, point, scale, point]
    counts = counted("QLinearAdd", inputs, tensor((2, 3), U8), MS)
    assert counts == Counts.of(F32, sub=9, mul=9, add=12, div=6, compare=18)


def test_qlinear_mul_by_hand() -> None:
    scale, point = known(UNKNOWN, F32), known(UNKNOWN, U8)
    inputs = [tensor((2, 3), U8), scale, point, tensor((3,), U8), scale, point, scale, point]
    counts = counted("QLinearMul", inputs, tensor((2, 3), U8), MS)
    assert counts == Counts.of(I32, sub=9) + Counts.of(U8, mul=6) + Counts.of(F32, mul=6, add=6, compare=18)


def parameters(x_point: Any, y_point: Any) -> list[Tensor | None]:
    return [known(UNKNOWN, F32), known(x_point, U8), known(0.5, F32), known(y_point, U8)]


@pytest.mark.parametrize(("x_point", "y_point"), [(None, 0), (UNKNOWN, 5), (0, UNKNOWN)])
def test_quantised_activations_equal_their_formulas(x_point: Any, y_point: Any) -> None:
    inputs = [tensor((2, 3), U8), *parameters(x_point, y_point)]
    tallies = Tallies()
    x = dequantise(tallies.of(F32, (2, 3)), UNKNOWN, x_point)
    quantise(1 / (1 + np.exp(-x)), 0.5, y_point)
    tallies.check(counted("QLinearSigmoid", inputs, tensor((2, 3), U8), MS))
    tallies = Tallies()
    x = dequantise(tallies.of(F32, (2, 3)), UNKNOWN, x_point)
    slope = x * 0.01
    x = np.where(x >= 0, x, slope)
    quantise(x, 0.5, y_point)
    tallies.check(counted("QLinearLeakyRelu", inputs, tensor((2, 3), U8), MS, alpha=0.01))


def test_qlinear_sigmoid_by_hand() -> None:
    counts = counted("QLinearSigmoid", [tensor((6,), U8), *parameters(UNKNOWN, UNKNOWN)], tensor((6,), U8), MS)
    assert counts == Counts.of(F32, sub=12, mul=6, add=12, div=12, root=6, compare=18)


def test_qlinear_leaky_relu_by_hand() -> None:
    counts = counted("QLinearLeakyRelu", [tensor((6,), U8), *parameters(0, 0)], tensor((6,), U8), MS, alpha=0.1)
    assert counts == Counts.of(F32, mul=12, div=6, compare=24)


def test_quantised_means_equal_numpy_means() -> None:
    shape = (2, 3, 4, 2)
    for op_type, axes, output in [
        ("QLinearGlobalAveragePool", (2, 3), (2, 3, 1, 1)),
        ("QLinearReduceMean", (1,), (2, 1, 4, 2)),
        ("QLinearReduceMean", (0, 1, 2, 3), (1, 1, 1, 1)),
    ]:
        tallies = Tallies()
        x = dequantise(tallies.of(F32, shape), UNKNOWN, UNKNOWN)
        total = np.add.reduce(np.moveaxis(x, axes, range(len(axes))).reshape(math.prod(shape[k] for k in axes), -1))
        quantise(total / 7, 0.5, 3)
        inputs = [tensor(shape, U8), *parameters(UNKNOWN, 3)]
        tallies.check(counted(op_type, inputs, tensor(output, U8), MS, axes=axes, keepdims=1))


def test_quantised_average_pool_adds_padding_taps() -> None:
    tallies = Tallies()
    x = dequantise(tallies.of(F32, (1, 2, 3, 3)), UNKNOWN, UNKNOWN)
    padded = np.empty((1, 2, 5, 5), dtype=object)
    for index in np.ndindex(padded.shape):
        padded[index] = Number(0, tallies[F32])
    padded[:, :, 1:4, 1:4] = x
    result = np.empty((1, 2, 2, 2), dtype=object)
    for n, c, i, j in np.ndindex(result.shape):
        window = padded[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        result[n, c, i, j] = np.add.reduce(list(window.flat)) / 9
    quantise(result, 0.5, UNKNOWN)
    inputs = [tensor((1, 2, 3, 3), U8), *parameters(UNKNOWN, UNKNOWN)]
    attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    tallies.check(counted("QLinearAveragePool", inputs, tensor((1, 2, 2, 2), U8), MS, **attributes))


def test_quantised_means_by_hand() -> None:
    inputs = [tensor((1, 2, 2, 2), U8), *parameters(UNKNOWN, UNKNOWN)]
    expected = Counts.of(F32, sub=8, mul=8, add=8, div=4, compare=6)
    assert counted("QLinearGlobalAveragePool", inputs, tensor((1, 2, 1, 1), U8), MS) == expected
    assert counted("QLinearReduceMean", inputs, tensor((1, 2, 1, 1), U8), MS, axes=(2, 3)) == expected
    pooled = counted("QLinearAveragePool", inputs, tensor((1, 2, 1, 1), U8), MS, kernel_shape=(2, 2))
    assert pooled == expected


@pytest.mark.parametrize(
    ("shape", "attributes", "lines"),
    [
        ((2, 3), {"opset": 13}, (2, 3)),
        ((2, 3, 4), {"opset": 13, "axis": 1}, (8, 3)),
        ((2, 3, 4), {"opset": 12, "axis": 1}, (2, 12)),
        ((2, 3, 4), {"opset": 11}, (2, 12)),
    ],
)
def test_quantised_softmax_equals_its_lines(shape: Any, attributes: Any, lines: tuple[int, int]) -> None:
    tallies = Tallies()
    for line in dequantise(tallies.of(F32, lines), UNKNOWN, 3):
        top = line[0]
        for value in line[1:]:
            top = value if value > top else top
        powers = np.exp(line - top)
        quantise(powers / np.add.reduce(powers), 0.5, 3)
    inputs = [tensor(shape, U8), *parameters(3, 3)]
    tallies.check(counted("QLinearSoftmax", inputs, tensor(shape, U8), MS, **attributes))


def test_qlinear_softmax_by_hand() -> None:
    inputs = [tensor((2, 3), U8), *parameters(UNKNOWN, UNKNOWN)]
    counts = counted("QLinearSoftmax", inputs, tensor((2, 3), U8), MS, opset=13, axis=-1)
    assert counts == Counts.of(F32, sub=12, mul=6, root=6, add=10, div=12, compare=22)


@pytest.mark.parametrize("point", [0, 5])
def test_qlinear_concat_copies_what_has_the_scale_of_the_output(point: int) -> None:
    scale, zero = known(0.5, F32), known(point, U8)
    inputs = [scale, zero, tensor((2, 3), U8), known(0.25, F32), zero, tensor((2, 4), U8), scale, zero]
    inputs += [tensor((2, 1), U8), scale, known(9, U8)]
    tallies = Tallies()
    quantise(dequantise(tallies.of(F32, (2, 3)), 0.25, point), 0.5, point)
    quantise(dequantise(tallies.of(F32, (2, 1)), 0.5, 9), 0.5, point)
    tallies.check(counted("QLinearConcat", inputs, tensor((2, 8), U8), MS, axis=1))


def test_qlinear_concat_by_hand() -> None:
    scale, zero = known(0.5, F32), known(5, U8)
    unknown = [known(UNKNOWN, F32), known(UNKNOWN, U8)]
    inputs = [scale, zero, tensor((3,), U8), *unknown, tensor((3,), U8), scale, zero]
    counts = counted("QLinearConcat", inputs, tensor((6,), U8), MS, axis=0)
    assert counts == Counts.of(F32, sub=3, mul=3, div=3, add=3, compare=9)


@pytest.mark.parametrize("points", [(UNKNOWN, 128, UNKNOWN), (None, 0, 5)])
@pytest.mark.parametrize("scales", [(UNKNOWN, 0.5, UNKNOWN), (1.0, UNKNOWN, 1.0)])
def test_qlinear_where_requantises_both_sides(points: Any, scales: Any) -> None:
    tallies = Tallies()
    inputs: list[Any] = [tensor((2, 3), DType.BOOL)]
    for shape, scale, point in (((2, 3), scales[0], points[0]), ((3,), scales[1], points[1])):
        quantise(dequantise(tallies.of(F32, shape), scale, point), scales[2], points[2])
        inputs += [tensor(shape, U8), known(scale, F32), known(point, U8)]
    inputs += [known(scales[2], F32), known(points[2], U8)]
    tallies.check(counted("QLinearWhere", inputs, tensor((2, 3), U8), MS))


def test_qlinear_where_by_hand() -> None:
    scale, zero = known(0.5, F32), known(5, U8)
    inputs = [tensor((2, 3), DType.BOOL), tensor((2, 3), U8), scale, zero, tensor((3,), U8)]
    inputs += [known(UNKNOWN, F32), known(UNKNOWN, U8), scale, zero]
    counts = counted("QLinearWhere", inputs, tensor((2, 3), U8), MS)
    assert counts == Counts.of(F32, sub=3, mul=3, div=3, add=3, compare=9)


@pytest.mark.parametrize("points", [(None, None), (0, 5), (UNKNOWN, UNKNOWN)])
@pytest.mark.parametrize(("left", "right"), [((2, 3), (3,)), ((2, 1), (1, 4)), ((), (2,))])
def test_mul_integer_equals_its_formula(points: Any, left: Any, right: Any) -> None:
    tallies = Tallies()
    a = centred(tallies, tallies.of(U8, left), I8, points[0])
    b = centred(tallies, tallies.of(I8, right), I8, points[1])
    np.multiply(a, b)
    inputs = [tensor(left, U8), known(points[0], U8), tensor(right, I8), known(points[1], I8)]
    tallies.check(counted("MulInteger", inputs, tensor(np.broadcast_shapes(left, right), I32), MS))


def test_mul_integer_by_hand() -> None:
    inputs = [tensor((2, 3), U8), known(UNKNOWN, U8), tensor((3,), U8)]
    expected = Counts.of(U8, mul=6) + Counts.of(I32, sub=6)
    assert counted("MulInteger", inputs, tensor((2, 3), I32), MS) == expected


@pytest.mark.parametrize(("shape", "output"), [((2, 5), (2, 1)), ((2, 3, 4), (3,)), ((3, 1), (3,)), ((0, 3), (1, 3))])
def test_reduce_sum_integer_equals_numpy(shape: Any, output: Any) -> None:
    tallies = Tallies()
    for _ in np.ndindex(output):
        terms = tallies.of(I32, (math.prod(shape) // math.prod(output),))
        if len(terms):
            np.add.reduce(terms)
    tallies.check(counted("ReduceSumInteger", [tensor(shape, U8)], tensor(output, I32), MS, axes=(1,)))


def test_reduce_sum_integer_by_hand() -> None:
    counts = counted("ReduceSumInteger", [tensor((2, 5), U8)], tensor((2, 1), I32), MS, axes=(1,))
    assert counts == Counts.of(I32, add=8)


@pytest.mark.parametrize(
    ("dtype", "points", "centre"),
    [
        (U8, None, True),
        (DType.UINT4, None, False),
        (DType.UINT4, UNKNOWN, True),
        (U8, 0, False),
        (DType.FLOAT8E4M3FN, None, False),
    ],
)
def test_gather_block_quantized_equals_its_formula(dtype: DType, points: Any, centre: bool) -> None:
    tallies = Tallies()
    rows = tallies.of(F32, (2, 32))
    (rows - 8 if centre else rows) * 0.5
    inputs = [tensor((8, 16), dtype), tensor((2,), DType.INT64), tensor((8, 1), F32), known(points, dtype)]
    tallies.check(counted("GatherBlockQuantized", inputs, tensor((2, 32), F32), MS, block_size=32))


def test_gather_block_quantized_by_hand() -> None:
    inputs = [tensor((8, 16), U8), tensor((2,), DType.INT64), tensor((8, 1), F32)]
    counts = counted("GatherBlockQuantized", inputs, tensor((2, 32), F32), MS, bits=4, block_size=32)
    assert counts == Counts.of(F32, sub=64, mul=64)


@pytest.mark.parametrize("scale", [UNKNOWN, 0.5, 1.0])
def test_quantisation_with_order_equals_its_formulas(scale: Any) -> None:
    tallies = Tallies()
    quantise(tallies.of(F32, (2, 3)), scale, None)
    inputs = [tensor((2, 3), F32), known(scale, F32)]
    tallies.check(counted("QuantizeWithOrder", inputs, tensor((2, 3), I8), MS))
    tallies = Tallies()
    dequantise(tallies.of(F32, (2, 3)), scale, None)
    inputs = [tensor((2, 3), I8), known(scale, F32)]
    tallies.check(counted("DequantizeWithOrder", inputs, tensor((2, 3), F32), MS))


def test_quantisation_with_order_by_hand() -> None:
    scale = known(UNKNOWN, F32)
    there = counted("QuantizeWithOrder", [tensor((2, 3), F32), scale], tensor((2, 3), I8), MS)
    back = counted("DequantizeWithOrder", [tensor((2, 3), I8), scale], tensor((2, 3), F32), MS)
    assert (there, back) == (Counts.of(F32, div=6, compare=18), Counts.of(F32, mul=6))


@pytest.mark.parametrize("scales", [(UNKNOWN, UNKNOWN), (1.0, 0.5), (0.5, 1.0)])
def test_qordered_gelu_equals_its_formula(scales: Any) -> None:
    tallies = Tallies()
    x = dequantise(tallies.of(F32, (6,)), scales[0], None)
    gelu = np.frompyfunc(lambda v: v * (1 / (1 + (-(v * 1.702)).exp())), 1, 1)(x)
    quantise(gelu, scales[1], None)
    inputs = [tensor((6,), I8), *(known(scale, F32) for scale in scales)]
    tallies.check(counted("QOrderedGelu", inputs, tensor((6,), I8), MS))


def test_qordered_gelu_by_hand() -> None:
    inputs = [tensor((6,), I8), known(UNKNOWN, F32), known(UNKNOWN, F32)]
    counts = counted("QOrderedGelu", inputs, tensor((6,), I8), MS)
    assert counts == Counts.of(F32, add=6, sub=6, mul=18, div=12, root=6, compare=18)


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
