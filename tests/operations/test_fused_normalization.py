"""Rules of fused normalisation against its parts in self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Tensor
from oracle import as_basic_operations, numbers
from statistics_oracle import (
    FLOAT,
    HALF,
    MICROSOFT,
    basic,
    counted,
    root_mean_square,
    standardize,
    tensor,
)


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 1), (0, 4)])
def test_skip_layer_normalization(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    gamma, beta, bias = (numbers(shape[-1:], tally, seed) for seed in (1, 2, 3))
    x = numbers(shape, tally) + numbers(shape, tally, 4) + bias
    for line in x.reshape(-1, shape[-1]):
        standardize(line) * gamma + beta
        1 / line[0]
    inputs = (tensor(*shape), tensor(*shape), *(tensor(shape[-1]),) * 3)
    got = basic("SkipLayerNormalization", *inputs, domain=MICROSOFT, version=1, outputs="y-i")
    assert got == as_basic_operations(tally)


def test_skip_layer_normalization_by_hand() -> None:
    x, vector = tensor(1, 2, 8), tensor(8)
    got = basic("SkipLayerNormalization", x, x, vector, vector, domain=MICROSOFT, version=1)
    assert got == {"add": 16 + 30 + 16, "sub": 16, "mul": 32, "div": 20, "root": 2, "compare": 0}
    got = basic("SkipSimplifiedLayerNormalization", x, x, vector, domain=MICROSOFT, version=1)
    assert got == {"add": 32, "sub": 0, "mul": 32, "div": 18, "root": 2, "compare": 0}


def test_skip_rms_normalization() -> None:
    tally: Counter[str] = Counter()
    gamma, bias = (numbers((4,), tally, seed) for seed in (1, 2))
    for line in (numbers((2, 3, 4), tally) + numbers((2, 3, 4), tally) + bias).reshape(-1, 4):
        root_mean_square(line) * gamma
        1 / line[0]
    inputs = (tensor(2, 3, 4), tensor(2, 3, 4), tensor(4), tensor(4))
    got = basic("SkipSimplifiedLayerNormalization", *inputs, domain=MICROSOFT, version=1, outputs="y-is")
    assert got == as_basic_operations(tally)


def embed(segment: bool, mask: bool) -> Counts:
    ids, table, vector = tensor(3, 2, dtype=DType.INT32), tensor(100, 4), tensor(4)
    inputs = [ids, ids if segment else None, table, table, table if segment else None, vector, vector]
    return counted("EmbedLayerNormalization", *inputs, ids if mask else None, domain=MICROSOFT, version=1)


@pytest.mark.parametrize("segment", [False, True])
def test_embed_layer_normalization(segment: bool) -> None:
    tally: Counter[str] = Counter()
    word, position, kind = (numbers((3, 2, 4), tally, seed) for seed in range(3))
    gamma, beta = numbers((4,), tally), numbers((4,), tally)
    for line in ((word + position) + kind if segment else word + position).reshape(-1, 4):
        standardize(line) * gamma + beta
    assert embed(segment, mask=False).basic_operations() == as_basic_operations(tally)
    total_of_mask = embed(segment, mask=True).of_dtype(DType.INT32)
    assert total_of_mask.operations == {(DType.INT32, BasicOp.ADD): 3}


def test_embed_layer_normalization_by_hand() -> None:
    ids, table, vector = tensor(1, 2, dtype=DType.INT64), tensor(100, 4), tensor(4)
    inputs = (ids, None, table, table, None, vector, vector)
    got = basic("EmbedLayerNormalization", *inputs, domain=MICROSOFT, version=1)
    assert got == {"add": 8 + 14 + 8, "sub": 8, "mul": 16, "div": 12, "root": 2, "compare": 0}


@pytest.mark.parametrize("activation", ["silu", "sigmoid", "swish"])
@pytest.mark.parametrize(("shape", "n"), [((2, 8), 4), ((1, 3, 5), 5), ((0, 4), 2)])
def test_gated_rms_norm(shape: tuple[int, ...], n: int, activation: str) -> None:
    tally: Counter[str] = Counter()
    for _ in range(math.prod(shape) // n):
        y = root_mean_square(numbers((n,), tally)) * numbers((n,), tally)
        for value, gate in zip(y, numbers((n,), tally), strict=True):
            opened = 1 / (1 + (-gate).exp())
            value * (gate * opened if activation != "sigmoid" else opened)
    counts = counted(
        "GatedRMSNorm", *(tensor(*s) for s in (shape, (n,), shape)), domain=MICROSOFT, activation=activation
    )
    assert counts.basic_operations() == as_basic_operations(tally)


def test_gated_rms_norm_by_hand() -> None:
    inputs = (tensor(2, 8, dtype=HALF), tensor(4, dtype=HALF), tensor(2, 8, dtype=HALF))
    counts = counted("GatedRMSNorm", *inputs, domain=MICROSOFT, activation="sigmoid")
    assert counts == Counts.of(FLOAT, add=32, sub=16, mul=48, div=36, root=20)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("shape", "branches"), [((2, 8), 2), ((2, 3, 4), 0), ((1, 6), 6)])
def test_branchwise_rms_norm(shape: tuple[int, ...], branches: int, scaled: bool) -> None:
    tally: Counter[str] = Counter()
    n = shape[-1] // (branches or 1)
    for _ in range(math.prod(shape) // n):
        y = root_mean_square(numbers((n,), tally))
        if scaled:
            y * numbers((n,), tally)
    inputs = (tensor(*shape), tensor(n) if scaled else None)
    counts = counted("BranchwiseRMSNorm", *inputs, domain=MICROSOFT, num_branches=branches)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_branchwise_rms_norm_by_hand() -> None:
    counts = counted("BranchwiseRMSNorm", tensor(2, 8), tensor(8), domain=MICROSOFT, num_branches=2)
    assert counts == Counts.of(FLOAT, add=16, mul=32, div=20, root=4)


def quantised_embed(segment: bool, mask: bool, point: int | None) -> Counts:
    """Ids (2, 3) and hidden size 4; zero points are unknown, or `point` where that is given."""
    ids, table, vector = tensor(2, 3, dtype=DType.INT32), tensor(9, 4, dtype=DType.UINT8), tensor(4, dtype=DType.UINT8)
    value = None if point is None else np.asarray(point)
    zero = Tensor("z", DType.UINT8, (), value)
    data = [ids, ids if segment else None, table, table, table if segment else None, vector, vector]
    scales = [tensor(), tensor(), tensor() if segment else None, tensor(), tensor()]
    points = [zero, zero, zero if segment else None, zero, zero]
    return counted(
        "QEmbedLayerNormalization", *data, ids if mask else None, *scales, *points, domain=MICROSOFT, outputs="yy"
    )


@pytest.mark.parametrize("point", [None, 0, 7])
@pytest.mark.parametrize("segment", [False, True])
def test_quantized_embed_layer_normalization(segment: bool, point: int | None) -> None:
    tally: Counter[str] = Counter()

    def unquantised(size: int) -> Any:
        x = numbers((size,), tally)
        return (x if point == 0 else x - 3) * 2

    gamma, beta = unquantised(4), unquantised(4)
    for _ in range(6):
        row = unquantised(4) + unquantised(4)
        row = row + unquantised(4) if segment else row
        standardize(row) * gamma + beta
    assert quantised_embed(segment, False, point).basic_operations() == as_basic_operations(tally)
    masked = quantised_embed(segment, True, point)
    assert masked == quantised_embed(segment, False, point) + Counts.of(DType.INT32, add=4)


def test_quantized_embed_layer_normalization_by_hand() -> None:
    ids, table, vector = tensor(1, 2, dtype=DType.INT32), tensor(9, 4, dtype=DType.INT8), tensor(4, dtype=DType.INT8)
    scale, zero = tensor(), Tensor("z", DType.INT8, ())
    data = [ids, None, table, table, None, vector, vector, None]
    inputs = [*data, scale, scale, None, scale, scale, zero, zero, None, zero, zero]
    counts = counted("QEmbedLayerNormalization", *inputs, domain=MICROSOFT, outputs="yy")
    assert counts == Counts.of(FLOAT, add=30, sub=32, mul=40, div=12, root=2)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_qordered_layer_normalization(shift: bool, scale: float | None) -> None:
    tally: Counter[str] = Counter()
    for _ in range(2):
        x = numbers((8,), tally)
        y = standardize(x * 2 if scale is None else x) * numbers((8,), tally)
        y = y + numbers((8,), tally) if shift else y
        for value in y / 2 if scale is None else y:
            assert value > -1e9  # rounded and saturated
            assert value > -1e9
            assert value < 1e9
    known = Tensor("s", FLOAT, (), None if scale is None else np.asarray(scale))
    inputs = [tensor(2, 8, dtype=DType.INT8), known, tensor(8), tensor(8) if shift else None, known]
    counts = counted("QOrderedLayerNormalization", *inputs, domain=MICROSOFT)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_qordered_layer_normalization_by_hand() -> None:
    inputs = [tensor(2, 8, dtype=DType.INT8), tensor(), tensor(8), None, tensor()]
    counts = counted("QOrderedLayerNormalization", *inputs, domain=MICROSOFT)
    assert counts == Counts.of(FLOAT, add=30, sub=16, mul=48, div=36, root=2, compare=48)
