"""Rules of attention of packed tokens and over blocks of keys, against dense heads of self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F32, I32, MS, attend, check, counted, head_norm, rotate, tensor
from onnx_aiwq.vocabulary import Counts
from oracle import Number, numbers


def packed_tokens(tally: Counter[str], tokens: int, longest: int, heads: int, sizes: Any, biases: int) -> int:
    """Every token attends to as many keys as the longest sequence may have."""
    width, value_width = sizes
    macs = 0
    for _ in np.ndindex(tokens, heads):
        q, k, v = (numbers(s, tally) for s in ((1, width), (longest, width), (longest, value_width)))
        macs += attend(q, k, v, 0.5, [numbers((1, longest), tally) for _ in range(biases)])
    return macs


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("tokens", "longest", "heads", "width", "value"), [(3, 2, 2, 2, 2), (5, 4, 1, 3, 2)])
def test_packed_attention_equals_its_tokens(
    tokens: int, longest: int, heads: int, width: int, value: int, biased: bool
) -> None:
    tally: Counter[str] = Counter()
    hidden = heads * (2 * width + value)
    np.matmul(numbers((tokens, 4), tally), numbers((4, hidden), tally)) + numbers((hidden,), tally)
    macs = tokens * 4 * hidden + packed_tokens(tally, tokens, longest, heads, (width, value), int(biased))
    bias = (1, 1, longest, longest) if biased else None
    inputs = [(tokens, 4), (4, hidden), (hidden,), tensor((2, longest), I32), tensor((3,), I32), bias]
    sizes = (heads * width, heads * width, heads * value)
    check(counted("PackedAttention", inputs, MS, num_heads=heads, qkv_hidden_sizes=sizes), tally, macs)


def test_packed_attention_by_hand() -> None:
    inputs = [(3, 4), (4, 12), (12,), tensor((2, 2), I32), tensor((3,), I32)]
    counts = counted("PackedAttention", inputs, MS, num_heads=2)
    assert counts == Counts.of(F32, add=174, sub=12, mul=204, div=12, root=12, compare=6, macs=192)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["packed", "separate"])
def test_packed_multi_head_attention_equals_its_tokens(form: str, bias: bool) -> None:
    tally: Counter[str] = Counter()
    tokens, longest, heads, width = 3, 2, 2, 3
    value = width if form == "packed" else 4
    macs = packed_tokens(tally, tokens, longest, heads, (width, value), 1)
    if bias:
        numbers((tokens, heads * (2 * width + value)), tally) + 1
    separate = [(tokens, heads * width), (tokens, heads * width), (tokens, heads * value)]
    inputs: list[Any] = [(tokens, heads, 3, width), None, None] if form == "packed" else separate
    inputs += [(heads * (2 * width + value),) if bias else None, tensor((2, longest), I32), tensor((3,), I32)]
    inputs += [(1, 1, longest, longest)]
    check(counted("PackedMultiHeadAttention", inputs, MS, num_heads=heads), tally, macs)


def test_packed_multi_head_attention_by_hand() -> None:
    inputs = [(3, 4), (3, 4), (3, 4), None, tensor((2, 2), I32), tensor((3,), I32)]
    counts = counted("PackedMultiHeadAttention", inputs, MS, num_heads=2)
    assert counts == Counts.of(F32, add=30, sub=12, mul=60, div=12, root=12, compare=6, macs=48)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("known", [None, 4])
@pytest.mark.parametrize("rotary", [0, 1])
def test_sparse_attention_equals_its_dense_heads(packed: bool, known: int | None, rotary: int) -> None:
    tally: Counter[str] = Counter()
    batch, heads, kv_heads, queries, width, cache = 2, 4, 2, 3, 4, 6
    keys = known or cache
    macs = 0
    for _ in np.ndindex(batch, heads):
        macs += attend(*(numbers((length, width), tally) for length in (queries, keys, keys)), 0.5, [])
    if rotary:
        for _ in np.ndindex(batch, heads + kv_heads):
            rotate(numbers((queries, width), tally))
    kv = (batch, queries, kv_heads * width)
    inputs: list[Any] = [(batch, queries, heads * width), kv, kv]
    if packed:
        inputs = [(batch, queries, (heads + 2 * kv_heads) * width), None, None]
    inputs += [(batch, kv_heads, cache, width)] * 2 + [tensor((1, 2), I32)] * 2
    inputs += [tensor((), I32, known), tensor((batch,), I32), *[(9, width // 2)] * 2]
    attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": rotary, "sparse_block_size": 16}
    check(counted("SparseAttention", inputs, MS, **attributes), tally, macs)


def test_sparse_attention_by_hand() -> None:
    inputs = [(1, 1, 8), (1, 1, 4), (1, 1, 4), (1, 1, 9, 4), (1, 1, 9, 4), None, None, tensor((), I32, 3)]
    counts = counted("SparseAttention", inputs, MS, num_heads=2, kv_num_heads=1)
    assert counts == Counts.of(F32, add=38, sub=6, mul=54, div=6, root=6, compare=4, macs=48)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bound", [None, 5, 0])  # 0 says nothing
@pytest.mark.parametrize("extras", [False, True])
def test_paged_attention_equals_its_tokens(packed: bool, bound: int | None, extras: bool) -> None:
    tally: Counter[str] = Counter()
    tokens, heads, kv_heads, width, blocks, block = 3, 4, 2, 4, 2, 3
    keys = bound or blocks * block
    macs = 0
    for _ in np.ndindex(tokens, heads):
        q, k, v = (numbers((length, width), tally) for length in (1, keys, keys))
        macs += attend(q, k, v, 0.5, [], 30.0 if extras else 0.0, Number(0.1, tally) if extras else None)
    if extras:
        for _ in np.ndindex(tokens, heads + kv_heads):
            head_norm(numbers((1, width), tally))
            rotate(numbers((1, width), tally))
    inputs: list[Any] = [(tokens, heads * width), (tokens, kv_heads * width), (tokens, kv_heads * width)]
    if packed:
        inputs = [(tokens, (heads + 2 * kv_heads) * width), None, None]
    inputs += [(7, block, kv_heads, width)] * 2 + [tensor((3,), I32), tensor((2,), I32), tensor((2, blocks), I32)]
    inputs += [(9, width // 2), (9, width // 2), None, (heads,), (width,), (width,)] if extras else [None] * 6
    inputs += [None, None, tensor((2,), I32, [tokens, bound]) if bound is not None else None]
    attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int(extras), "softcap": 30.0 * extras}
    check(counted("PagedAttention", inputs, MS, **attributes), tally, macs)


PAGED = [(1, 8), (1, 4), (1, 4), *[(1, 3, 1, 4)] * 2, tensor((2,), I32), tensor((1,), I32), tensor((1, 1), I32)]


def test_paged_attention_by_hand() -> None:
    counts = counted("PagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1)
    assert counts == Counts.of(F32, add=38, sub=6, mul=54, div=6, root=6, compare=4, macs=48)


def test_a_quantised_cache_of_pages() -> None:
    """4 new elements of each cache; 3 keys and values of 4 elements that the block table gives the sequence."""
    plain = counted("PagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1)
    quantised = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_TENSOR"}
    counts = counted("PagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1, **quantised)
    assert counts == plain + Counts.of(F32, div=8, mul=24, compare=24)


def test_latent_values_are_the_head_of_the_keys() -> None:
    """Keys of 6 elements, of which 4 are the value: 2 tokens and 2 heads make 12 scores and 16 results."""
    inputs = [(2, 12), (2, 6), None, (1, 3, 1, 6), None, tensor((2,), I32), tensor((1,), I32), tensor((1, 1), I32)]
    given = {"num_heads": 2, "kv_num_heads": 1, "kv_cache_layout": "LATENT", "v_head_size": 4, "scale": 0.5}
    tally: Counter[str] = Counter()
    macs = sum(attend(*(numbers(s, tally) for s in ((1, 6), (3, 6), (3, 4))), 0.5, []) for _ in range(4))
    assert macs == 12 * 6 + 16 * 3
    check(counted("PagedAttention", inputs, MS, **given), tally, macs)
