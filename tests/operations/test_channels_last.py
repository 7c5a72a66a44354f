"""Operators on channels-last images: the counts of their channels-first twins on transposed shapes, and by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from operators import count, operator
from oracle import as_basic_operations, numbers

LAST = "com.ms.internal.nhwc"
F32, U8, I8, I32 = DType.FLOAT, DType.UINT8, DType.INT8, DType.INT32
FIRST_IMAGE, LAST_IMAGE = (2, 3, 8, 6), (2, 8, 6, 3)
SCALE, ZERO = Tensor("s", F32, ()), Tensor("z", U8, ())
POOL = {"kernel_shape": (2, 3), "strides": (2, 1)}


def twins(op_type: str, weights: list[Any], first: tuple[int, ...], **attributes: Any) -> tuple[Operator, Operator]:
    """The operator on [n, c, ...] and on [n, ..., c]; weights are the same for both."""
    batch, channels, *spatial = first
    domain = "com.microsoft" if op_type == "QLinearAveragePool" else ""
    plain = operator(op_type, [FIRST_IMAGE, *weights], [first], domain=domain, **attributes)
    moved = operator(
        op_type, [LAST_IMAGE, *weights], [(batch, *spatial, channels)], domain=LAST, version=20, **attributes
    )
    return plain, moved


TWINS = [
    ("AveragePool", [], (2, 3, 4, 4), POOL),
    ("BatchNormalization", [(3,)] * 4, FIRST_IMAGE, {}),
    ("Conv", [(4, 3, 3, 3), (4,)], (2, 4, 6, 4), {}),
    ("ConvTranspose", [(3, 4, 3, 3), (4,)], (2, 4, 17, 13), {"strides": (2, 2)}),
    ("ConvTranspose", [(3, 4, 1, 3)], (2, 4, 15, 9), {"strides": (2, 1), "dilations": (1, 2)}),
    ("GlobalAveragePool", [], (2, 3, 1, 1), {}),
    ("GlobalLpPool", [], (2, 3, 1, 1), {"p": 3}),
    ("GlobalMaxPool", [], (2, 3, 1, 1), {}),
    ("GridSample", [(2, 4, 5, 2)], (2, 3, 4, 5), {"mode": "cubic"}),
    ("InstanceNormalization", [(3,), (3,)], FIRST_IMAGE, {}),
    ("LRN", [], FIRST_IMAGE, {"size": 3, "alpha": 0.0001, "beta": 0.75, "bias": 1.0}),
    ("LpPool", [], (2, 3, 4, 4), {**POOL, "p": 3}),
    ("MaxPool", [], (2, 3, 4, 4), POOL),
    ("QLinearAveragePool", [SCALE, ZERO, SCALE, ZERO], (2, 3, 4, 4), POOL),
    ("Resize", [None, None, np.array([2, 3, 16, 6])], (2, 3, 16, 6), {"mode": "linear"}),
]


@pytest.mark.parametrize(("op_type", "weights", "output", "attributes"), TWINS)
def test_the_place_of_the_channels_changes_no_count(
    op_type: str, weights: list[Any], output: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    if op_type == "Resize":  # its sizes are in the order of the stored dimensions
        first, _ = twins(op_type, weights, output, **attributes)
        _, last = twins(op_type, [None, None, np.array([2, 16, 6, 3])], output, **attributes)
    else:
        first, last = twins(op_type, weights, output, **attributes)
    assert count(first) == count(last) != Counts()


@pytest.mark.parametrize("op_type", ["MaxUnpool", "DepthToSpace", "SpaceToDepth"])
def test_movement_stays_movement(op_type: str) -> None:
    found = [find_rule(op_type, domain, 20) for domain in ("", LAST)]
    assert [rule is not None and rule.function is None for rule in found] == [True, True]


@pytest.mark.parametrize(("activation", "each"), [("Relu", 1), ("Clip", 2), ("", 0)])
def test_an_activation_is_counted_per_output_element(activation: str, each: int) -> None:
    shapes: list[Any] = [(1, 5, 5, 3), (4, 3, 3, 3), (4,)]
    counts = count(operator("Conv", shapes, [(1, 5, 5, 4)], domain=LAST, pads=(1, 1, 1, 1), activation=activation))
    assert counts == Counts.of(F32, add=2700, mul=2700, macs=2700, compare=100 * each)


def test_an_activation_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="'Wave' of MaxPool"):
        count(operator("MaxPool", [(1, 4, 4, 3)], [(1, 3, 3, 3)], domain=LAST, kernel_shape=(2, 2), activation="Wave"))


def test_global_pools_and_resize_by_hand() -> None:
    mean = count(operator("GlobalAveragePool", [(1, 4, 4, 2)], [(1, 1, 1, 2)], domain=LAST))
    assert mean == Counts.of(F32, add=30, div=2)
    linear = count(operator("Resize", [(1, 2, 2, 1)], [(1, 4, 4, 1)], domain=LAST, mode="linear"))
    assert linear == Counts.of(F32, add=48, mul=64)


def quantised(data: Any, weight: Any, output: tuple[int, ...], **attributes: Any) -> Counts:
    """QLinearConvTranspose with a bias, x_zp = 128, w_zp = 0, y_zp = 5, and scales that are not known."""
    points = [Tensor("z", U8, (), np.array(point, np.uint8)) for point in (128, 0, 5)]
    inputs = [Tensor("x", U8, data), SCALE, points[0], Tensor("w", I8, weight), SCALE, points[1], SCALE, points[2]]
    bias = Tensor("b", I32, (weight[1],))
    op = operator("QLinearConvTranspose", [*inputs, bias], [output], domain=LAST, **attributes)
    return count(replace(op, outputs=(Tensor("y", U8, output),)))


def test_quantised_transposed_convolution_by_hand() -> None:
    expected = Counts.of(I8, mul=9, macs=9) + Counts.of(I32, add=2 + 7, sub=3)
    expected += Counts.of(F32, add=7, mul=7, compare=21)
    assert quantised((1, 3, 1), (1, 1, 3), (1, 7, 1), strides=(2,)) == expected


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (3, 3)])
def test_quantised_transposed_convolution_equals_its_scatter(strides: tuple[int, int]) -> None:
    rows, columns, channels, filters = 3, 2, 2, 3
    products: Counter[str] = Counter()
    real: Counter[str] = Counter()
    x = numbers((rows, columns, channels), products) - 128
    weight, cells = numbers((channels, filters, 2, 2), products), {}
    for i, j, c, f, k, m in np.ndindex(rows, columns, channels, filters, 2, 2):
        cell, term = (i * strides[0] + k, j * strides[1] + m, f), x[i, j, c] * weight[c, f, k, m]
        cells[cell] = cells[cell] + term if cell in cells else term
    height, width = (rows - 1) * strides[0] + 2, (columns - 1) * strides[1] + 2
    output = numbers((height, width, filters), real)
    numbers((height, width, filters), products) + 1  # the bias, of every output element
    for value in (output * 0.5).flat:
        assert value < 9  # rounding is a comparison
        assert 0 <= value + 5 < 9
    counts = quantised((1, rows, columns, channels), weight.shape, (1, height, width, filters), strides=strides)
    tally = counts.of_dtype(I8).basic_operations()["mul"], counts.of_dtype(I32).basic_operations()
    assert tally[0] == counts.macs == products.pop("mul")
    assert tally[1] == as_basic_operations(products)
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(real)
