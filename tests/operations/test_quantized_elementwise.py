"""Rules of quantised sums, means and activations against their formulas in self-tallying numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.vocabulary import Counts, DType, Tensor
from oracle import Number
from quantised import (
    F32,
    I8,
    I32,
    MS,
    U8,
    UNKNOWN,
    Tallies,
    centred,
    counted,
    dequantise,
    known,
    quantise,
    round_shift_saturate,
    tensor,
)


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
