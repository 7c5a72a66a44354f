"""Rules of sparse attention's indexers, against the loops of their definition in self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F16, F32, I32, I64, MS, check, counted, head_norm, rotate, softmax, tensor
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts
from oracle import Number, numbers


def prepared(tally: Counter[str], vectors: int, width: int, rotated: int) -> None:
    for _ in range(vectors):
        head_norm(numbers((1, width), tally))
        rotate(numbers((1, rotated), tally))


def selected(tally: Counter[str], scores: list[Number], kept: int) -> None:
    """The worst order: every score is placed among the best so far by binary search."""
    best: list[float] = []
    for index in range(len(scores)):
        places = min(len(best), kept)
        tally["compare"] += int(np.ceil(np.log2(places + 1)))
        best = [*best, index][-kept:]


def scored(tally: Counter[str], sizes: tuple[int, int, int, int, int], weights: bool) -> int:
    """Every query against every key, in all heads; returns the MACs."""
    queries, entries, heads, width, kept = sizes
    macs = 0
    for _ in range(queries):
        gates = [Number(1, tally) * 0.5 if heads > 1 else Number(1, tally) for _ in range(heads if weights else 0)]
        scores = []
        for _ in range(entries):
            total = None
            for head in range(heads):
                before = tally["mul"]
                score = np.matmul(numbers((1, width), tally), numbers((width, 1), tally))[0, 0]
                macs += tally["mul"] - before
                assert score > 0  # ReLU
                score = score * 0.5 if width > 1 else score
                score = score * gates[head] if weights else score
                total = score if total is None else total + score
            scores.append(total)
        selected(tally, scores, kept)
    return macs


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("ratio", "budget"), [(2, 4), (1, 2), (3, 6)])
@pytest.mark.parametrize("cache", ["grows", "known", "unknown"])
def test_token_indexer_equals_its_loops(packed: bool, ratio: int, budget: int, cache: str) -> None:
    tally: Counter[str] = Counter()
    batch, tokens, heads, width, past = 2, 3, 2, 4, 6
    total = {"grows": past + tokens, "known": 2 + tokens, "unknown": past}[cache]
    blocks = total // ratio
    for _ in np.ndindex(batch, blocks, width):
        mean = np.add.reduce(numbers((ratio,), tally))
        mean = mean / ratio if ratio > 1 else mean
    prepared(tally, batch * (blocks + tokens * heads), width, 2)
    macs = scored(tally, (batch * tokens, blocks, heads, width, budget // ratio), weights=False)
    inputs: list[Any] = [(batch, tokens, heads * width), (batch, tokens, width)]
    if packed:
        inputs = [(batch, tokens, (heads + 1) * width), None]
    inputs += [(width,), (width,), (50, 2), (50, 2), None, (batch, past, width)]
    if cache != "grows":
        inputs += [None] * 4 + [tensor((1,), I32, 2 if cache == "known" else None)]
    counts = counted("SparseAttentionIndexer", inputs, MS, policy_mode="qsa", compress_ratio=ratio, token_budget=budget)
    check(counts, tally, macs)


@pytest.mark.parametrize("buffered", [0, 1, 2, 3])
@pytest.mark.parametrize(("heads", "width"), [(2, 4), (1, 2)])
def test_block_indexer_equals_its_loops(buffered: int, heads: int, width: int) -> None:
    tally: Counter[str] = Counter()
    batch, tokens, past, ratio, topk = 2, 3, 5, 2, 3
    # A buffered window of 2 tokens has been compressed before; what follows it is open.
    windows = {0: 1, 1: 2, 2: 1, 3: 2}[buffered]
    for _ in np.ndindex(batch, windows, width):
        gates = softmax(numbers((2 * ratio,), tally) + numbers((2 * ratio,), tally))
        np.add.reduce(numbers((2 * ratio,), tally) * np.array(gates, dtype=object))
    prepared(tally, batch * (windows + tokens * heads), width, 2)
    macs = scored(tally, (batch * tokens, past + windows, heads, width, topk), weights=True)
    inputs: list[Any] = [(batch, tokens, heads * width), (batch, tokens, 2 * width), (width,), (width,), (50, 1)]
    inputs += [(50, 1), None, (batch, past, width), (batch, tokens, 2 * width), (ratio, 2 * width)]
    inputs += [(batch, tokens, heads), tensor((batch, tokens), I64), None, (2, batch, buffered, 2 * width)]
    counts = counted("SparseAttentionIndexer", inputs, MS, policy_mode="csa", compress_ratio=ratio, index_topk=topk)
    check(counts, tally, macs)


QSA = {"policy_mode": "qsa", "compress_ratio": 2, "token_budget": 2}


def test_token_indexer_by_hand() -> None:
    inputs = [(1, 1, 8), (1, 1, 4), (4,), (4,), (9, 2), (9, 2), None, (1, 3, 4)]
    expected = Counts.of(F32, add=42, sub=4, mul=68, div=28, root=4, compare=5, macs=16)
    assert counted("SparseAttentionIndexer", inputs, MS, **QSA) == expected
    half = [None if shape is None else tensor(shape, F16) for shape in inputs]
    assert counted("SparseAttentionIndexer", half, MS, **QSA) == expected  # computed in float32 all the same


def test_packed_indexer_by_hand() -> None:
    inputs = [(1, 8), (1, 4), (4,), (4,), (9, 2), (9, 2), *[None] * 6, (1, 2, 4), (1, 3, 4)]
    expected = Counts.of(F32, add=33, sub=3, mul=56, div=19, root=3, compare=5, macs=16)
    assert counted("PackedSparseAttentionIndexer", inputs, MS, **QSA) == expected


def test_packed_requests_finish_no_more_blocks_than_they_have_tokens() -> None:
    """Blocks of 4: 3 requests that lack one token each finish 3 with 3 tokens; one request finishes 1 with 3."""

    def divisions(batch: int) -> int:
        inputs = [(3, 8), (3, 4), (4,), (4,), (9, 2), (9, 2), *[None] * 6, (batch, 2, 4), (batch, 7, 4)]
        given = {"policy_mode": "qsa", "compress_ratio": 4, "token_budget": 4}
        return counted("PackedSparseAttentionIndexer", inputs, MS, **given).basic_operations()["div"]

    norms = 4 + 1
    assert divisions(3) == 3 * 4 + (3 + 3 * 2) * norms
    assert divisions(1) == 1 * 4 + (1 + 3 * 2) * norms


def test_an_unknown_policy_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="policy_mode 'best'"):
        counted("SparseAttentionIndexer", [(1, 1, 8), (1, 1, 4), (4,)], MS, policy_mode="best", compress_ratio=2)
