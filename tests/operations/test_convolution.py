"""Rules of convolutions against loops of self-tallying numbers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts, DType
from oracle import Number, numbers
from products import activate, check, counted, inferred


def conv_by_loops(x: Any, w: Any, bias: Any, shape: tuple[int, ...], **a: Any) -> int:
    """Gather loop over the padded input; returns the number of multiplied pairs."""
    rank, group = x.ndim - 2, a.get("group", 1)
    pads, strides = a.get("pads", (0,) * 2 * rank), a.get("strides", (1,) * rank)
    dilations = a.get("dilations", (1,) * rank)
    padded = np.empty(
        x.shape[:2] + tuple(n + pads[k] + pads[k + rank] for k, n in enumerate(x.shape[2:])), dtype=object
    )
    tally = w.flat[0].tally
    for index in np.ndindex(padded.shape):
        padded[index] = Number(0, tally)
    padded[(..., *(slice(pads[k], pads[k] + n) for k, n in enumerate(x.shape[2:])))] = x
    pairs = 0
    for n, f, *out in np.ndindex(shape):
        total = None
        for c, *tap in np.ndindex(w.shape[1:]):
            where = [o * s + t * d for o, s, t, d in zip(out, strides, tap, dilations, strict=True)]
            channel = f // (w.shape[0] // group) * w.shape[1] + c
            product = padded[(n, channel, *where)] * w[(f, c, *tap)]
            pairs += 1
            total = product if total is None else total + product
        if bias is not None:
            total = total + bias[f]
    return pairs


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 3, 3), (1, 1, 3, 3), {}),
    ((2, 3, 5, 4), (4, 3, 3, 2), {"pads": (1, 0, 1, 1)}),
    ((1, 4, 6, 6), (4, 2, 3, 3), {"group": 2, "strides": (2, 1), "pads": (1, 1, 1, 1)}),
    ((1, 3, 7, 7), (3, 1, 3, 3), {"group": 3, "dilations": (2, 2), "strides": (1, 2)}),
    ((2, 2, 9), (3, 2, 4), {"strides": (3,), "pads": (2, 1)}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), {"dilations": (1, 2, 1)}),
    ((1, 2, 4, 4), (5, 2, 1, 1), {}),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("data", "weight", "attributes"), CONVOLUTIONS)
def test_conv_equals_its_loops(data: tuple[int, ...], weight: tuple[int, ...], attributes: Any, bias: bool) -> None:
    tally: Counter[str] = Counter()
    b = numbers(weight[:1], tally) if bias else None
    shapes = [data, weight, weight[:1] if bias else None]
    output = inferred("Conv", shapes, attributes)
    pairs = conv_by_loops(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    check(counted("Conv", shapes, output, **attributes), tally, pairs)


def test_conv_by_hand() -> None:
    counts = counted("Conv", [(1, 3, 5, 5), (4, 3, 3, 3), (4,)], (1, 4, 5, 5), pads=(1, 1, 1, 1))
    assert counts == Counts.of(DType.FLOAT, mul=2700, add=2700, macs=2700)
    nhwc = counted("NhwcConv", [(1, 5, 5, 3), (4, 3, 3, 3), (4,)], (1, 5, 5, 4), "com.microsoft", pads=(1, 1, 1, 1))
    assert nhwc == counts


def test_conv_of_an_empty_batch_costs_nothing() -> None:
    assert counted("Conv", [(0, 3, 5, 5), (4, 3, 3, 3)], (0, 4, 3, 3)) == Counts()


def test_conv_needs_the_weight_shape() -> None:
    with pytest.raises(ShapeError):
        counted("Conv", [(1, 3, 5, 5), None], (1, 4, 3, 3))


@pytest.mark.parametrize("activation", ["", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish"])
@pytest.mark.parametrize("summed", [False, True])
def test_fused_conv_equals_conv_sum_and_activation(activation: str, summed: bool) -> None:
    tally: Counter[str] = Counter()
    data, weight, attributes = (1, 2, 4, 4), (3, 2, 3, 3), {"pads": (1, 0, 0, 1)}
    output = inferred("Conv", [data, weight], attributes)
    b = numbers((3,), tally)
    pairs = conv_by_loops(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    values = numbers(output, tally)
    if summed:
        values = values + numbers(output, tally)
    for value in values.flat:
        activate(value, activation)
    shapes = [data, weight, (3,), output if summed else None]
    check(counted("FusedConv", shapes, output, "com.microsoft", activation=activation, **attributes), tally, pairs)


def test_fused_conv_by_hand() -> None:
    shapes = [(1, 2, 3, 3), (1, 2, 3, 3), (1,), (1, 1, 1, 1)]
    counts = counted("FusedConv", shapes, (1, 1, 1, 1), "com.microsoft", activation="Relu")
    assert counts == Counts.of(DType.FLOAT, mul=18, add=19, compare=1, macs=18)


def conv_transpose_by_scatter(x: Any, w: Any, bias: Any, output: tuple[int, ...], **a: Any) -> int:
    """Scatter every product into the uncropped output; a cell's first product is assigned."""
    rank, group = x.ndim - 2, a.get("group", 1)
    strides, dilations = a.get("strides", (1,) * rank), a.get("dilations", (1,) * rank)
    cells: dict[tuple[int, ...], Any] = {}
    pairs = 0
    for n, c, *place in np.ndindex(x.shape):
        for f, *tap in np.ndindex(w.shape[1:]):
            target = [p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True)]
            key = (n, c // (x.shape[1] // group) * w.shape[1] + f, *target)
            product = x[(n, c, *place)] * w[(c, f, *tap)]
            pairs += 1
            cells[key] = cells[key] + product if key in cells else product
    if bias is not None:
        for _, f, *_rest in np.ndindex(output):
            bias[f] + 0
    return pairs


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 3), (1, 1, 3), {"strides": (2,)}),
    ((1, 1, 3), (1, 1, 3), {"strides": (2,), "pads": (1, 1)}),
    ((2, 3, 3, 4), (3, 2, 3, 3), {"strides": (2, 1), "pads": (1, 1, 0, 1), "output_padding": (1, 0)}),
    ((1, 4, 3, 3), (4, 2, 2, 3), {"group": 2, "strides": (3, 2), "dilations": (1, 2)}),
    ((1, 2, 5), (2, 1, 4), {"strides": (2,), "dilations": (4,)}),
    ((1, 2, 5), (2, 1, 4), {"strides": (4,), "dilations": (6,)}),
    ((1, 1, 7), (1, 1, 6), {"strides": (3,), "dilations": (2,)}),
    ((1, 1, 2, 2, 2), (1, 2, 2, 3, 2), {"strides": (1, 2, 3)}),
    ((1, 3, 4, 4), (3, 1, 1, 1), {"group": 3, "strides": (2, 2)}),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("data", "weight", "attributes"), TRANSPOSED)
def test_conv_transpose_equals_its_scatter(
    data: tuple[int, ...], weight: tuple[int, ...], attributes: Any, bias: bool
) -> None:
    tally: Counter[str] = Counter()
    filters = (weight[1] * attributes.get("group", 1),)
    shapes = [data, weight, filters if bias else None]
    output = inferred("ConvTranspose", shapes, attributes)
    b = numbers(filters, tally) if bias else None
    pairs = conv_transpose_by_scatter(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    check(counted("ConvTranspose", shapes, output, **attributes), tally, pairs)


@pytest.mark.parametrize(("size", "kernel"), [*itertools.product((1, 2, 5), (1, 3, 4))])
def test_conv_transpose_reaches_as_many_cells_as_there_are_sums(size: int, kernel: int) -> None:
    for stride, dilation in itertools.product(range(1, 7), range(1, 7)):
        cells = {stride * i + dilation * k for i in range(size) for k in range(kernel)}
        counts = counted(
            "ConvTranspose", [(1, 1, size), (1, 1, kernel)], (1, 1, 99), strides=(stride,), dilations=(dilation,)
        )
        assert counts.basic_operations()["add"] == size * kernel - len(cells)


def test_conv_transpose_by_hand() -> None:
    plain = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3)], (1, 1, 7), strides=(2,))
    assert plain == Counts.of(DType.FLOAT, mul=9, add=2, macs=9)
    cropped = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3), (1,)], (1, 1, 5), strides=(2,), pads=(1, 1))
    assert cropped == Counts.of(DType.FLOAT, mul=9, add=7, macs=9)


def deform_conv_by_loops(x: Any, w: Any, offset: Any, bias: Any, mask: Any, output: tuple[int, ...]) -> int:
    """Interpolate each tap at its shifted position (corners outside are zeros), then multiply and sum."""
    rank, kernel = x.ndim - 2, w.shape[2:]
    tally = x.flat[0].tally
    taps = math.prod(kernel)
    groups = offset.shape[1] // (taps * rank)
    weights = {}
    for n, g, t, *out in np.ndindex((x.shape[0], groups, taps, *output[2:])):
        fractions = []
        for d in range(rank):
            position = offset[(n, (g * taps + t) * rank + d, *out)] + out[d]
            assert position >= math.floor(position.value)
            fraction = position - math.floor(position.value)
            fractions.append((1 - fraction, fraction))
        for corner in itertools.product((0, 1), repeat=rank):
            factors = [fractions[d][corner[d]] for d in range(rank)]
            weight = factors[0]
            for factor in factors[1:]:
                weight = weight * factor
            weights[(n, g, t, *out, *corner)] = weight
    samples = {}
    for n, c, t, *out in np.ndindex((x.shape[0], x.shape[1], taps, *output[2:])):
        g = c // (x.shape[1] // groups)
        total = None
        for corner in itertools.product((0, 1), repeat=rank):
            product = Number(1, tally) * weights[(n, g, t, *out, *corner)]
            total = product if total is None else total + product
        if mask is not None:
            total = total * mask[(n, g * taps + t, *out)]
        samples[(n, c, t, *out)] = total
    pairs = 0
    for n, f, *out in np.ndindex(output):
        total = None
        for c in range(w.shape[1]):
            channel = f // (w.shape[0] // (x.shape[1] // w.shape[1])) * w.shape[1] + c
            for t, tap in enumerate(np.ndindex(kernel)):
                product = samples[(n, channel, t, *out)] * w[(f, c, *tap)]
                pairs += 1
                total = product if total is None else total + product
        if bias is not None:
            total = total + bias[f]
    return pairs


@pytest.mark.parametrize("extras", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("data", "weight", "groups", "output"),
    [
        ((1, 1, 3, 3), (1, 1, 2, 2), 1, (1, 1, 2, 2)),
        ((2, 4, 4, 3), (2, 2, 2, 1), 2, (2, 2, 3, 3)),
        ((1, 2, 5), (3, 2, 3), 1, (1, 3, 3)),
    ],
)
def test_deform_conv_equals_its_loops(data: Any, weight: Any, groups: int, output: Any, extras: Any) -> None:
    tally: Counter[str] = Counter()
    taps = math.prod(weight[2:])
    offset = (data[0], groups * taps * (len(data) - 2), *output[2:])
    bias = weight[:1] if extras[0] else None
    mask = (data[0], groups * taps, *output[2:]) if extras[1] else None
    arrays = [None if shape is None else numbers(shape, tally) for shape in (data, weight, offset, bias, mask)]
    pairs = deform_conv_by_loops(*arrays, output)
    counts = counted("DeformConv", [data, weight, offset, bias, mask], output, offset_group=groups)
    check(counts, tally, pairs)


def test_deform_conv_by_hand() -> None:
    counts = counted("DeformConv", [(1, 1, 3, 3), (1, 1, 2, 2), (1, 8, 2, 2)], (1, 1, 2, 2))
    assert counts == Counts.of(DType.FLOAT, add=92, sub=64, mul=144, compare=32, macs=16)


@pytest.mark.parametrize("extras", [(False, False, ""), (True, True, "Relu"), (True, False, "Sigmoid")])
@pytest.mark.parametrize(("op_type", "domain"), [("NhwcFusedConv", "com.microsoft"), ("Conv", "com.microsoft.nchwc")])
def test_convolutions_of_other_layouts_equal_fused_conv(op_type: str, domain: str, extras: Any) -> None:
    tally: Counter[str] = Counter()
    bias, summand, activation = extras
    pairs = 0
    for _ in np.ndindex(2, 8, 3, 3):  # 5 filters in a block of 8: the padding is multiplied like any other
        taps = numbers((2 * 3 * 3,), tally)
        y = np.add.reduce(taps * numbers((2 * 3 * 3,), tally))
        pairs += len(taps)
        y = y + 0.5 if bias else y
        y = y + 0.25 if summand else y
        if activation == "Relu":
            assert y > -1e9
        elif activation:
            1 / (1 + (-y).exp())
    output = (2, 8, 3, 3) if domain.endswith("nchwc") else (2, 3, 3, 8)
    shapes = [(2, 2, 3, 3), (8, 2, 3, 3), (8,) if bias else None, output if summand else None]
    counts = counted(op_type, shapes, output, domain, pads=(1, 1, 1, 1), activation=activation)
    check(counts, tally, pairs)


def test_blocked_convolution_by_hand() -> None:
    counts = counted("Conv", [(1, 2, 3, 3), (8, 2, 3, 3)], (1, 8, 1, 1), "com.microsoft.nchwc")
    assert counts == Counts.of(DType.FLOAT, add=8 * 17, mul=144, macs=144)


def test_conv_transpose_takes_its_pads_as_an_input() -> None:
    plain = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3), (1,)], (1, 1, 5), strides=(2,), pads=(1, 1))
    pads = [(1, 1, 3), (1, 1, 3), (2,), (1,)]
    dynamic = counted("ConvTransposeWithDynamicPads", pads, (1, 1, 5), "com.microsoft", strides=(2,))
    assert dynamic == plain == Counts.of(DType.FLOAT, add=7, mul=9, macs=9)
    without = counted("ConvTransposeWithDynamicPads", pads[:3], (1, 1, 5), "com.microsoft", strides=(2,))
    assert without == Counts.of(DType.FLOAT, add=2, mul=9, macs=9)
