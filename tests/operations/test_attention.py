"""Rules of attention of ONNX and of rotary embeddings, against self-tallying numbers in the defined order."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F16, F32, I64, MS, attend, check, counted, rotate, tensor
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts
from oracle import as_basic_operations, numbers


def onnx_attention(
    tally: Counter[str],
    sizes: tuple[int, int, int, int, int, int, int],
    past: int,
    scale: float | None,
    mask: tuple[int, ...] | None,
    causal: int,
    softcap: float,
) -> int:
    """The ONNX function body: Q and the repeated K are scaled, a bias is made of masks and added."""
    batch, heads, kv_heads, queries, new, width, value_width = sizes
    keys = past + new
    q = numbers((batch, heads, queries, width), tally)
    k = numbers((batch, kv_heads, keys, width), tally).repeat(heads // kv_heads, axis=1)
    v = numbers((batch, kv_heads, keys, value_width), tally).repeat(heads // kv_heads, axis=1)
    if (scale if scale is not None else 1 / math.sqrt(width)) != 1.0:
        q, k = q * 0.5, k * 0.5
    bias: Any = None
    if mask is not None:
        bias = numbers(mask, tally)
        if causal:
            bias = bias + np.zeros((queries, keys))
    elif causal:
        bias = np.zeros((queries, keys))
    macs = 0
    for b, h in np.ndindex(batch, heads):
        biases = [] if bias is None else [np.broadcast_to(bias, (batch, heads, queries, keys))[b, h]]
        macs += attend(q[b, h], k[b, h], v[b, h], None, biases, softcap)
    return macs


ONNX_SIZES = [(1, 2, 1, 3, 5, 4, 4), (2, 4, 2, 1, 3, 2, 3), (1, 1, 1, 2, 2, 1, 5)]


@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("scale", [None, 1.0, 0.25])
@pytest.mark.parametrize("sizes", ONNX_SIZES)
@pytest.mark.parametrize("rank", [3, 4])
def test_attention_equals_its_body(sizes: Any, past: int, scale: float | None, rank: int) -> None:
    batch, heads, kv_heads, queries, new, width, value_width = sizes
    tally: Counter[str] = Counter()
    macs = onnx_attention(tally, sizes, past, scale, None, 0, 0.0)
    inputs: list[Any] = [
        (batch, heads, queries, width),
        (batch, kv_heads, new, width),
        (batch, kv_heads, new, value_width),
    ]
    attributes: dict[str, Any] = {"scale": scale}
    if rank == 3:
        inputs = [(b, length, h * w) for b, h, length, w in inputs]
        attributes.update(q_num_heads=heads, kv_num_heads=kv_heads)
    if past:
        inputs += [None, (batch, kv_heads, past, width), (batch, kv_heads, past, value_width)]
    check(counted("Attention", inputs, **attributes), tally, macs)


@pytest.mark.parametrize("softcap", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [None, (3, 5), (1, 5), (2, 4, 3, 5), (2, 1, 1, 5), (4, 3, 5)])
def test_attention_masks_are_joined_and_added(mask: Any, causal: int, softcap: float) -> None:
    sizes = (2, 4, 2, 3, 5, 4, 2)
    tally: Counter[str] = Counter()
    macs = onnx_attention(tally, sizes, 0, None, mask, causal, softcap)
    inputs = [(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 2), mask]
    check(counted("Attention", inputs, is_causal=causal, softcap=softcap), tally, macs)


def test_a_constant_mask_is_joined_before_the_run() -> None:
    inputs = [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), tensor((3, 5), F32, constant=True)]
    plain = counted("Attention", inputs)
    assert counted("Attention", inputs, is_causal=1) == plain
    assert counted("Attention", [*inputs[:3], None], is_causal=1) == plain
    inputs[3] = tensor((3, 5))
    assert counted("Attention", inputs, is_causal=1) == plain + Counts.of(F32, add=15)


@pytest.mark.parametrize(
    ("mask", "causal", "joined"),
    [
        (None, 0, 0),
        (None, 1, 2 * 3 * 5),
        ((3, 5), 0, 2 * 3 * 5),
        ((2, 4, 3, 5), 0, 2 * 4 * 3 * 5),
        ((1, 1, 1, 5), 0, 2 * 5),
    ],
)
def test_padding_lengths_are_compared_and_joined(mask: Any, causal: int, joined: int) -> None:
    shapes = [(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 2), mask, None, None]
    plain = counted("Attention", shapes, is_causal=causal)
    added = joined + (2 * 4 * 3 * 5 if mask is None and not causal else 0)
    expected = plain + Counts.of(F32, add=added) + Counts.of(I64, compare=2 * 5)
    assert counted("Attention", [*shapes, tensor((2,), I64)], is_causal=causal) == expected


def test_a_window_is_a_mask_like_the_causal_one() -> None:
    inputs = [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (1, 5)]
    for shapes in (inputs, inputs[:3]):
        causal = counted("Attention", shapes, is_causal=1)
        assert counted("Attention", shapes, left_window_size=2, right_window_size=-1) == causal
        assert counted("Attention", shapes, left_window_size=-1, right_window_size=0, is_causal=1) == causal
        unbounded = counted("Attention", shapes, left_window_size=-1, right_window_size=-1)
        assert unbounded == counted("Attention", shapes)


def test_attention_by_hand() -> None:
    counts = counted("Attention", [(1, 2, 3, 4), (1, 1, 5, 4), (1, 1, 5, 4)])
    assert counts == Counts.of(F32, add=210, sub=30, mul=304, div=30, root=30, compare=24, macs=240)


def test_softmax_may_be_more_precise() -> None:
    inputs = [tensor(shape, F16) for shape in [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)]]
    half = counted("Attention", inputs)
    assert half.dtypes == (F16,)
    mixed = counted("Attention", inputs, softmax_precision=1)
    assert mixed.of_dtype(F32) == Counts.of(F32, add=24, sub=30, div=30, root=30, compare=24)
    assert mixed.basic_operations() == half.basic_operations()


def test_heads_side_by_side_need_their_number() -> None:
    with pytest.raises(ShapeError, match="number of heads"):
        counted("Attention", [(1, 3, 8), (1, 5, 8), (1, 5, 8)])


@pytest.mark.parametrize("rotary", [0, 4])
@pytest.mark.parametrize("domain", ["", MS])
@pytest.mark.parametrize("shape", [(2, 4, 3, 8), (2, 3, 32)])
def test_rotary_embedding_equals_its_rotation(shape: Any, domain: str, rotary: int) -> None:
    tally: Counter[str] = Counter()
    rotate(numbers((2, 3, 4, rotary or 8), tally))
    counts = counted("RotaryEmbedding", [shape], domain, rotary_embedding_dim=rotary, num_heads=4)
    check(counts, tally, 0)


def test_rotary_embedding_by_hand() -> None:
    counts = counted("RotaryEmbedding", [(1, 2, 3, 8)], rotary_embedding_dim=4)
    assert counts == Counts.of(F32, mul=48, sub=12, add=12)


def test_mrope_rotates_like_rope() -> None:
    shapes = [(1, 2, 3, 8), (3, 1, 3), (9, 4), (9, 4)]
    expected = counted("RotaryEmbedding", [shapes[0], (1, 3), *shapes[2:]], MS)
    assert counted("MRotaryEmbedding", shapes, MS, mrope_section=(2, 1, 1)) == expected
    assert expected == Counts.of(F32, add=24, sub=24, mul=96)


def test_gemma_rotary_embedding_equals_its_formula() -> None:
    angles: Counter[str] = Counter()
    tally: Counter[str] = Counter()
    for value in numbers((2, 3, 4), angles).flat:
        value.root(math.sin)
        value.root(math.cos)
    for heads in (2, 1):
        shape = (2, heads, 3, 4)
        numbers(shape, tally) * numbers((2, 1, 3, 4), tally) + numbers(shape, tally) * numbers((2, 1, 3, 4), tally)
    q, k = tensor((2, 2, 3, 4), F16), tensor((2, 1, 3, 4), F16)
    counts = counted("GemmaRotaryEmbedding", [(2, 3, 4), q, q, k, k], MS)
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(angles)
    assert counts.of_dtype(F16).basic_operations() == as_basic_operations(tally)
    by_hand = counted("GemmaRotaryEmbedding", [(1, 2, 4), *[(1, 3, 2, 4)] * 4], MS)
    assert by_hand == Counts.of(F32, add=48, mul=96, root=16)
