"""Generators against loops over self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.vocabulary import Counts, DType
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

SHAPES = [(5,), (2, 3), (1,), (0,), (4, 2)]


@pytest.mark.parametrize(("start", "limit", "delta"), [(3, 10, 2), (10, 4, -2), (0, 1, 1), (5, 5, 1), (0, 7, 3)])
def test_range(start: int, limit: int, delta: int) -> None:
    node = helper.make_node("Range", ["s", "l", "d"], ["y"])
    info = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, []) for name in "sld"]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [None])
    model = helper.make_model(
        helper.make_graph([node], "g", info, [result]), opset_imports=[helper.make_opsetid("", 11)]
    )
    values = {"s": np.int64(start), "l": np.int64(limit), "d": np.int64(delta)}
    (expected,) = ReferenceEvaluator(model).run(None, {name: np.array(value) for name, value in values.items()})
    tally: Counter[str] = Counter()
    produced: list[Number] = []
    while len(produced) < expected.size:
        produced.append(produced[-1] + delta if produced else Number(start, tally))
    assert [number.value for number in produced] == expected.tolist()
    counts = count(operator("Range", [np.array(start), np.array(limit), np.array(delta)], [expected]))
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.dtypes == ((DType.INT64,) if tally else ())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 3.0), (0.0, 5.0)])
def test_random_uniform(shape: tuple[int, ...], low: float, high: float) -> None:
    tally: Counter[str] = Counter()
    for draw in numbers(shape, tally).flat:
        stretched = draw if high - low == 1.0 else draw * (high - low)
        _ = stretched if low == 0.0 else stretched + low
    counts = count(operator("RandomUniform", [], [shape], low=low, high=high))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.0, 2.0), (0.0, 0.02)])
def test_random_normal(shape: tuple[int, ...], mean: float, scale: float) -> None:
    tally: Counter[str] = Counter()
    wanted = math.prod(shape)
    normal: list[Number] = []
    while len(normal) < wanted:
        first, second = numbers((2,), tally, seed=len(normal))
        radius = (first.log() * -2.0).sqrt()
        angle = second * (2 * math.pi)
        normal.append(radius * angle.root(math.cos))
        if len(normal) < wanted:
            normal.append(radius * angle.root(math.sin))
    for number in normal:
        scaled = number if scale == 1.0 else number * scale
        _ = scaled if mean == 0.0 else scaled + mean
    counts = count(operator("RandomNormalLike", [shape], [shape], mean=mean, scale=scale))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("shape", SHAPES)
def test_bernoulli(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    _ = [draw < 0.3 for draw in numbers(shape, tally).flat]
    assert count(operator("Bernoulli", [shape], [shape])).basic_operations() == as_basic_operations(tally)


def first_above(cumulative: list[Number], threshold: Number) -> int:
    """Binary search for the first element above a threshold, of which the last one always is."""
    low, high = 0, len(cumulative) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > threshold:
            high = middle
        else:
            low = middle + 1
    return low


def sampled(classes: int, target: int, samples: int) -> Counter[str]:
    """One row of Multinomial whose samples all fall into one class."""
    tally: Counter[str] = Counter()
    row = list(numbers((classes,), tally))
    highest = row[0]
    for value in row[1:]:
        highest = max(highest, value)
    cumulative = [(row[0] - highest).exp()]
    for value in row[1:]:
        cumulative.append(cumulative[-1] + (value - highest).exp())
    below = cumulative[target - 1].value if target else 0.0
    share = (below + cumulative[target].value) / 2 / cumulative[-1].value
    for _ in range(samples):
        assert first_above(cumulative, Number(share, tally) * cumulative[-1]) == target
    return tally


@pytest.mark.parametrize(("classes", "samples"), [(1, 2), (2, 1), (4, 3), (5, 2), (9, 1)])
@pytest.mark.parametrize("rows", [1, 2, 0])
def test_multinomial(rows: int, classes: int, samples: int) -> None:
    tallies = [as_basic_operations(sampled(classes, target, samples)) for target in range(classes)]
    worst = {name: rows * max(tally[name] for tally in tallies) for name in tallies[0]}
    counts = count(operator("Multinomial", [(rows, classes)], [(rows, samples)], sample_size=samples))
    assert counts.basic_operations() == worst


def test_multinomial_without_classes_has_nothing_to_sample() -> None:
    assert count(operator("Multinomial", [(2, 0)], [(2, 3)], sample_size=3)) == Counts()


def test_generators_by_hand() -> None:
    assert count(operator("Range", [(), (), ()], [(4,)])) == Counts.of(DType.FLOAT, add=3)
    assert count(operator("RandomUniform", [], [(2, 3)], low=-1.0)) == Counts.of(DType.FLOAT, mul=6, add=6)
    assert count(operator("RandomUniform", [], [(2, 3)])) == Counts()
    normal = operator("RandomNormal", [], [(5,)], mean=1.0, scale=2.0)
    assert count(normal) == Counts.of(DType.FLOAT, root=11, mul=16, add=5)
    assert count(operator("Bernoulli", [(2, 3)], [(2, 3)], dtype=DType.DOUBLE)) == Counts.of(DType.DOUBLE, compare=6)
    multinomial = operator("Multinomial", [(2, 4)], [(2, 3)], sample_size=3)
    assert count(multinomial) == Counts.of(DType.FLOAT, compare=18, sub=8, root=8, add=6, mul=6)
