"""Rules of attention on integers, against their products and the attention that follows them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F16, F32, I8, I32, MS, U8, attend, counted, softmax, tensor
from onnx_aiwq.vocabulary import Counts, DType
from oracle import Number, as_basic_operations, numbers


@pytest.mark.parametrize(("data", "weight", "products"), [(U8, I8, I8), (U8, U8, U8), (I8, I8, I8)])
@pytest.mark.parametrize("points", [(None, None), (128, 0), ("unknown", "unknown")])
def test_qattention_equals_its_parts(data: DType, weight: DType, products: DType, points: Any) -> None:
    operands, sums, real = Counter[str](), Counter[str](), Counter[str]()
    x, w = numbers((1, 2, 4), operands), numbers((4, 12), operands)
    for operand, point in zip((x, w), points, strict=True):
        if point not in (None, 0):
            for value in operand.flat:
                Number(value.value, sums) - 3
    for row, column in np.ndindex(2, 12):
        terms = [Number((a * b).value, sums) for a, b in zip(x[0, row], w[:, column], strict=True)]
        np.add.reduce(terms)
    projected = numbers((2, 12), real) * 0.5 + numbers((12,), real)
    macs = operands["mul"]
    for h in range(2):
        macs += attend(*(projected[:, k * 4 + h * 2 : k * 4 + h * 2 + 2] for k in range(3)), 0.7, [numbers((2,), real)])
    scale = tensor(())
    inputs = [tensor((1, 2, 4), data), tensor((4, 12), weight), (12,), scale, scale, tensor((1,), I32)]
    for point, kind in zip(points, (data, weight), strict=True):
        inputs.append(None if point is None else tensor((), kind, None if point == "unknown" else point))
    counts = counted("QAttention", inputs, MS, num_heads=2)
    assert counts.of_dtype(products).basic_operations() == as_basic_operations(operands)
    assert counts.of_dtype(I32).basic_operations() == as_basic_operations(sums)
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(real)
    assert counts.macs == macs


def test_qattention_by_hand() -> None:
    scale = tensor(())
    inputs = [tensor((1, 2, 4), U8), tensor((4, 12), I8), (12,), scale, scale]
    expected = Counts.of(I8, mul=96, macs=128) + Counts.of(I32, add=72)
    expected += Counts.of(F32, mul=64, add=44, sub=8, root=8, div=8, compare=4)
    assert counted("QAttention", inputs, MS, num_heads=2) == expected
    one = tensor((), F32, 1.0)
    inputs[3:] = [one, one]
    assert counted("QAttention", inputs, MS, num_heads=2).of_dtype(F32).basic_operations()["mul"] == 64 - 24


def qordered(batch: int, length: int, channels: int, width: int, **optional: Any) -> list[Any]:
    """Inputs of QOrderedAttention: int8 operands, scales that are not known unless given."""
    scale, mask = tensor(()), optional.get("mask")
    inputs = [tensor((batch, length, channels), I8), *[optional.get("scale", scale)] * 4]
    inputs += [*[tensor((channels, width), I8)] * 3, *[optional.get("scale", scale)] * 3, *[tensor((width,))] * 3]
    return [*inputs, *[optional.get("scale", scale)] * 3, None if mask is None else tensor(mask, I32)]


@pytest.mark.parametrize("mask", [None, (2, 3)])
@pytest.mark.parametrize(("batch", "length", "channels", "heads", "width"), [(2, 3, 5, 2, 2), (1, 1, 4, 3, 1)])
def test_qordered_attention_equals_its_parts(
    batch: int, length: int, channels: int, heads: int, width: int, mask: Any
) -> None:
    products: Counter[str] = Counter()
    real: Counter[str] = Counter()

    def requantised(shape: tuple[int, ...], bias: bool = False) -> None:
        for value in numbers(shape, real).flat:
            scaled = value * 0.5
            scaled = scaled + 1 if bias else scaled
            assert scaled < 9
            assert 0 < scaled < 9

    hidden = heads * width
    for _ in range(3):
        np.matmul(numbers((batch, length, channels), products), numbers((channels, hidden), products))
        requantised((batch, length, hidden), bias=True)
    for _ in np.ndindex(batch, heads):
        np.matmul(numbers((length, width), products), numbers((width, length), products))
        requantised((length, length))
        scores = numbers((length, length), real) * 0.5  # to real numbers, by 1 / sqrt(d) too
        scores = scores if mask is None else scores + numbers((length,), real)
        for line in scores:
            for probability in softmax(line):
                quantised = probability / 0.5
                assert quantised < 9
                assert 0 < quantised < 9
        np.matmul(numbers((length, length), products), numbers((length, width), products))
        requantised((length, width))
    counts = counted("QOrderedAttention", qordered(batch, length, channels, hidden, mask=mask), MS, num_heads=heads)
    assert counts.of_dtype(I8).basic_operations()["mul"] == counts.macs == products["mul"]
    assert counts.of_dtype(I32).basic_operations()["add"] == products["add"]
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(real)


def test_qordered_attention_by_hand() -> None:
    counts = counted("QOrderedAttention", qordered(1, 2, 4, 4), MS, num_heads=2)
    expected = Counts.of(I8, mul=128, macs=128) + Counts.of(I32, add=88)
    assert counts == expected + Counts.of(F32, add=28, sub=8, mul=48, div=16, root=8, compare=148)
    known = counted("QOrderedAttention", qordered(1, 2, 4, 4, scale=tensor((), F32, 1.0)), MS, num_heads=2)
    # The division by sqrt(2) alone is left of what scales.
    assert known == expected + Counts.of(F32, add=28, sub=8, mul=8, div=8, root=8, compare=148)


LONGFORMER: list[Any] = [
    *(tensor((1, 4, 2), I8), tensor(()), tensor((2, 6), I8), tensor(()), tensor((6,)), tensor(()), tensor(())),
    *(tensor((1, 4), F16), tensor((2, 6), I8), tensor(()), tensor((6,)), tensor(()), tensor((1, 4), I32), tensor(())),
]


def test_qordered_longformer_attention_by_hand() -> None:
    counts = counted("QOrderedLongformerAttention", LONGFORMER, MS, num_heads=1, window=1)
    assert counts.of_dtype(I8) == Counts.of(I8, mul=84)
    assert counts.of_dtype(I32) == Counts.of(I32, add=42)
    assert counts.of_dtype(F32) == Counts.of(F32, add=42, mul=42, div=8, compare=150)
    assert counts.of_dtype(F16).basic_operations()["mul"] == 42 + 20 + 80
    assert counts.macs == 164


def test_qordered_longformer_attention_attends_like_its_real_twin() -> None:
    """Beside projections and quantisation, the counts are those of LongformerAttention; so are the MACs."""
    inputs = [(1, 4, 2), (2, 6), None, (1, 4), (2, 6), None, (1, 4)]
    real = counted("LongformerAttention", inputs, MS, num_heads=1, window=1)
    quantised = counted("QOrderedLongformerAttention", LONGFORMER, MS, num_heads=1, window=1)
    attended = quantised.of_dtype(F16).basic_operations()
    attended["mul"] -= 42  # dequantised projections
    projected = {"mul": 84, "add": 42}
    expected = {op: number - projected.get(op, 0) for op, number in real.basic_operations().items()}
    assert attended == expected
    assert quantised.macs == real.macs
