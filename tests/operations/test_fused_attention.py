"""Rules of attention as onnxruntime fuses it, against heads of self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F32, I32, MS, attend, check, counted, head_norm, rotate, tensor
from onnx_aiwq.vocabulary import Counts, DType
from oracle import Number, numbers


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masks", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize(("hidden", "scale"), [((4, 4, 4), None), ((4, 4, 6), 1.0), ((2, 2, 2), None)])
def test_contrib_attention_equals_projection_and_heads(
    bias: bool, masks: Any, past: int, hidden: Any, scale: Any
) -> None:
    tally: Counter[str] = Counter()
    batch, length, channels, heads = 2, 3, 5, 2
    projected = np.matmul(numbers((batch, length, channels), tally), numbers((channels, sum(hidden)), tally))
    macs = tally["mul"]
    if bias:
        projected = projected + numbers((sum(hidden),), tally)
    q, k, v = np.split(projected, np.cumsum(hidden)[:-1], axis=-1)
    factor = None if (scale or 1 / math.sqrt(hidden[0] // heads)) == 1.0 else 0.5
    for b, h in np.ndindex(batch, heads):
        own = [x[b].reshape(length, heads, -1)[:, h] for x in (q, k, v)]
        before = [numbers((past, x.shape[1]), tally) for x in own[1:]]
        keys, values = (np.concatenate(pair) for pair in zip(before, own[1:], strict=True))
        macs += attend(own[0], keys, values, factor, [numbers((length, past + length), tally) for one in masks if one])
    inputs = [(batch, length, channels), (channels, sum(hidden)), (sum(hidden),) if bias else None]
    inputs.append((batch, past + length) if masks[0] else None)
    inputs.append((2, batch, heads, past, hidden[0] // heads) if past else None)
    inputs.append((1, 1, length, past + length) if masks[1] else None)
    sizes = {"qkv_hidden_sizes": hidden} if len(set(hidden)) > 1 else {}
    check(counted("Attention", inputs, MS, num_heads=heads, scale=scale, **sizes), tally, macs)


def test_contrib_attention_by_hand() -> None:
    counts = counted("Attention", [(1, 2, 4), (4, 12), (12,)], MS, num_heads=2)
    assert counts == Counts.of(F32, add=116, sub=8, mul=136, div=8, root=8, compare=4, macs=128)


def test_a_shared_buffer_holds_the_new_keys() -> None:
    shared = [(1, 2, 4), (4, 12), None, None, (2, 1, 2, 7, 2)]
    grown = [(1, 2, 4), (4, 12), None, None, (2, 1, 2, 5, 2)]
    counts = counted("Attention", shared, MS, num_heads=2, past_present_share_buffer=1)
    assert counts == counted("Attention", grown, MS, num_heads=2)


@pytest.mark.parametrize(("given", "rotated"), [({}, 4), ({"rotary_embedding_dim": 2}, 2)])
def test_rotation_of_queries_and_keys(given: dict[str, int], rotated: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(2 * 2):  # Q and K of 2 heads
        rotate(numbers((3, rotated), tally))
    plain = counted("Attention", [(1, 3, 5), (5, 24)], MS, num_heads=2)
    counts = counted("Attention", [(1, 3, 5), (5, 24)], MS, num_heads=2, do_rotary=1, **given)
    check(counts, tally + Counter(plain.basic_operations()), plain.macs)


def packed_shapes(form: str, batch: int, heads: int, queries: int, new: int, width: int, value: int) -> list[Any]:
    if form == "qkv":
        return [(batch, queries, heads, 3, width), None, None]
    if form == "kv":
        return [(batch, queries, heads * width), (batch, new, heads, 2, width), None]
    if form == "cached":
        return [(batch, queries, heads * width), (batch, heads, new, width), (batch, heads, new, value)]
    return [(batch, queries, heads * width), (batch, new, heads * width), (batch, new, heads * value)]


@pytest.mark.parametrize("form", ["separate", "kv", "qkv", "cached"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("masks", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("past", [0, 2])
def test_multi_head_attention_equals_its_heads(form: str, bias: bool, masks: Any, past: int) -> None:
    tally: Counter[str] = Counter()
    batch, heads, width = 2, 2, 3
    queries, new = (3, 3) if form == "qkv" else (2, 3)
    value = width if form in ("qkv", "kv") else 4
    macs = 0
    for _ in np.ndindex(batch, heads):
        q, k, v = (numbers(shape, tally) for shape in ((queries, width), (new, width), (new, value)))
        if bias:
            q = q + numbers((width,), tally)
            if form != "cached":
                k, v = k + numbers((width,), tally), v + numbers((value,), tally)
        k, v = (np.concatenate([numbers((past, x.shape[1]), tally), x]) for x in (k, v))
        macs += attend(q, k, v, 0.5, [numbers((queries, past + new), tally) for one in masks if one])
    inputs = packed_shapes(form, batch, heads, queries, new, width, value)
    inputs.append((heads * (2 * width + value),) if bias else None)
    inputs += [(batch, past + new) if masks[0] else None, (1, 1, queries, past + new) if masks[1] else None]
    inputs += [(batch, heads, past, width), (batch, heads, past, value)] if past else []
    check(counted("MultiHeadAttention", inputs, MS, num_heads=heads), tally, macs)


def test_multi_head_attention_with_a_shared_buffer() -> None:
    grown = [(1, 1, 4), (1, 1, 4), (1, 1, 4), None, None, None, (1, 2, 6, 2), (1, 2, 6, 2)]
    shared = [*grown[:6], (1, 2, 9, 2), (1, 2, 9, 2)]
    known = counted("MultiHeadAttention", [*shared, tensor((1,), I32, [6])], MS, num_heads=2)
    assert known == counted("MultiHeadAttention", grown, MS, num_heads=2)
    whole = [*grown[:6], (1, 2, 8, 2), (1, 2, 8, 2)]
    unknown = counted("MultiHeadAttention", [*shared, tensor((1,), I32)], MS, num_heads=2)
    assert unknown == counted("MultiHeadAttention", whole, MS, num_heads=2)


def test_multi_head_attention_by_hand() -> None:
    counts = counted("MultiHeadAttention", [(1, 2, 4), (1, 3, 4), (1, 3, 4)], MS, num_heads=2)
    assert counts == Counts.of(F32, add=36, sub=12, mul=60, div=12, root=12, compare=8, macs=48)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extras", [set(), {"rotary"}, {"norm"}, {"bias", "softcap"}, {"sink"}, {"smooth", "rotary"}])
@pytest.mark.parametrize("known", ["total", "present", "past"])
def test_group_query_attention_equals_its_heads(packed: bool, extras: set[str], known: str) -> None:
    tally: Counter[str] = Counter()
    batch, heads, kv_heads, queries, past, width = 2, 4, 2, 2, 3, 4
    new = queries
    sink = {"sink", "smooth"} & extras
    macs = 0
    for _ in np.ndindex(batch, heads):
        q = numbers((queries, width), tally)
        biases = [numbers((queries, past + new), tally)] if "bias" in extras else []
        k, v = numbers((past + new, width), tally), numbers((past + new, width), tally)
        softcap = 30.0 if "softcap" in extras else 0.0
        macs += attend(q, k, v, 0.5, biases, softcap, Number(0.1, tally) if sink else None)
    for length, count in ((queries, heads), (new, kv_heads)):
        for _ in np.ndindex(batch, count):
            if "norm" in extras:
                head_norm(numbers((length, width), tally))
            if "rotary" in extras:
                rotate(numbers((length, width), tally))
    kv = (batch, new, kv_heads * width)
    inputs: list[Any] = [(batch, queries, heads * width), kv, kv]
    if packed:
        inputs = [(batch, queries, (heads + 2 * kv_heads) * width), None, None]
    inputs += [(batch, kv_heads, past, width)] * 2 if known == "past" else [(batch, kv_heads, 99, width)] * 2
    inputs += [tensor((batch,), I32), tensor((), I32, past + new if known == "total" else None)]
    inputs += [(99, width // 2), (99, width // 2)] if "rotary" in extras else [None, None]
    inputs += [None, (1, 1, queries, past + new) if "bias" in extras else None]
    inputs += [(heads,) if "sink" in extras else None, None, None, *([(width,)] * 2 if "norm" in extras else [])]
    present = tensor((batch, kv_heads, past + new, width)) if known == "present" else None
    attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int("rotary" in extras)}
    attributes.update(softcap=30.0 if "softcap" in extras else 0.0, smooth_softmax=1 if "smooth" in extras else -1)
    check(counted("GroupQueryAttention", inputs, MS, (None, present), k_quant_type="NONE", **attributes), tally, macs)


def test_group_query_attention_by_hand() -> None:
    inputs = [(1, 1, 8), (1, 1, 4), (1, 1, 4), None, None, tensor((1,), I32), tensor((), I32, 3)]
    counts = counted("GroupQueryAttention", inputs, MS, num_heads=2, kv_num_heads=1)
    assert counts == Counts.of(F32, add=38, sub=6, mul=54, div=6, root=6, compare=4, macs=48)


@pytest.mark.parametrize("sides", [("k",), ("v",), ("k", "v")])
@pytest.mark.parametrize(("scale", "scaled"), [(None, 1), (1.0, 0)])
def test_a_quantised_cache_rounds_what_is_new_and_restores_what_is_read(
    sides: tuple[str, ...], scale: float | None, scaled: int
) -> None:
    """4 new elements of each cache; 3 keys of 4 elements are read once for both heads."""
    inputs = [(1, 1, 8), (1, 1, 4), (1, 1, 4), None, None, tensor((1,), I32), tensor((), I32, 3), *[None] * 5]
    given = {f"{side}_quant_type": "PER_TENSOR" for side in sides}
    plain = counted("GroupQueryAttention", inputs, MS, num_heads=2, kv_num_heads=1)
    scales = [tensor((1,), F32, scale)] * 2
    counts = counted("GroupQueryAttention", [*inputs, *scales], MS, num_heads=2, kv_num_heads=1, **given)
    assert counts == plain + Counts.of(F32, div=4 * scaled, mul=12 * scaled, compare=12) * len(sides)


def test_decoder_masked_self_attention_is_attention_of_one_token() -> None:
    inputs = [(2, 1, 4), (4, 12), (12,), (2, 4), (2, 2, 2, 3, 2), None, tensor((), I32, 3)]
    expected = counted("Attention", inputs[:6], MS, num_heads=2)
    assert counted("DecoderMaskedSelfAttention", inputs, MS, num_heads=2) == expected
    assert expected.macs == 2 * 12 * 4 + 2 * (2 * 4 * 2 * 2)


@pytest.mark.parametrize("form", ["self", "packed", "cross", "shared", "shared, known"])
@pytest.mark.parametrize("extras", [False, True])
def test_decoder_masked_attention_equals_its_heads(form: str, extras: bool) -> None:
    tally: Counter[str] = Counter()
    batch, heads, width, value, past, buffer = 2, 2, 3, 2, 4, 9
    keys = {"cross": past, "shared": buffer}.get(form, past + 1)
    macs = 0
    for _ in np.ndindex(batch, heads):
        q, k, v = (numbers(s, tally) for s in ((1, width), (keys, width), (keys, value)))
        if extras:
            q + numbers((width,), tally)
            if form != "cross":
                k[:1] + numbers((width,), tally)
                v[:1] + numbers((value,), tally)
        macs += attend(q, k, v, 0.5, [numbers((1, keys), tally) for _ in range(2 * extras)])
    new: list[Any] = [(batch, 1, heads * width), (batch, 1, heads * width), (batch, 1, heads * value)]
    if form == "packed":
        new = [(batch, 1, heads * (2 * width + value)), None, None]
    if form == "cross":
        new[1:] = [(batch, heads, past, width), (batch, heads, past, value)]
    inputs = [*new, (batch, keys) if extras else None, (1, 1, 1, keys) if extras else None]
    length = buffer if form.startswith("shared") else past
    inputs += [None] * 2 if form == "cross" else [(batch, heads, length, width), (batch, heads, length, value)]
    inputs += [tensor((), I32, past if form == "shared, known" else None), None, None]
    inputs += [(heads * (2 * width + value),) if extras else None]
    output = tensor((batch, 1, heads * value))
    shared = int(form.startswith("shared"))
    counts = counted(
        "DecoderMaskedMultiHeadAttention", inputs, MS, (output,), num_heads=heads, past_present_share_buffer=shared
    )
    check(counts, tally, macs)


def test_decoder_masked_attention_by_hand() -> None:
    inputs = [(1, 1, 4), (1, 1, 4), (1, 1, 4), None, None, (1, 2, 2, 2), (1, 2, 2, 2)]
    counts = counted("DecoderMaskedMultiHeadAttention", inputs, MS, (tensor((1, 1, 4)),), num_heads=2)
    assert counts == Counts.of(F32, add=18, sub=6, mul=30, div=6, root=6, compare=4, macs=24)


@pytest.mark.parametrize(("static", "cached"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("mask", [False, True])
def test_decoder_attention_equals_its_heads(static: int, cached: int, mask: bool) -> None:
    tally: Counter[str] = Counter()
    queries, given, past, batch, heads, width = 2, 3, 4, 2, 2, 2
    hidden = heads * width
    new = (0 if cached else given) if static else queries
    keys = new + (past if cached else 0)
    macs = 0
    for rows, columns in ((queries * batch, hidden), (new * batch, 2 * hidden)):
        np.matmul(numbers((rows, hidden), tally), numbers((hidden, columns), tally)) + numbers((columns,), tally)
        macs += rows * hidden * columns
    for _ in np.ndindex(batch, heads):
        q, k, v = (numbers((length, width), tally) for length in (queries, keys, keys))
        macs += attend(q, k, v, 0.5, [numbers((queries, keys), tally)] if mask else [])
    inputs: list[Any] = [(queries, batch, hidden), (given, batch, hidden), (hidden, hidden), (hidden, 2 * hidden)]
    inputs += [(3 * hidden,), (batch, keys) if mask else None, *[(batch, heads, past, width)] * 2]
    flags = [tensor((), DType.BOOL, bool(flag)) for flag in (static, cached)]
    counts = counted("DecoderAttention", [*inputs, *flags], MS, num_heads=heads)
    check(counts, tally, macs)
    unknown = counted("DecoderAttention", [*inputs, *[tensor((), DType.BOOL)] * 2], MS, num_heads=heads)
    assert all(unknown.basic_operations()[op] >= number for op, number in counts.basic_operations().items())


def test_decoder_attention_by_hand() -> None:
    flags = [tensor((), DType.BOOL, flag) for flag in (True, False)]
    inputs = [(2, 1, 4), (2, 1, 4), (4, 4), (4, 8), (12,), None, None, None, *flags]
    counts = counted("DecoderAttention", inputs, MS, num_heads=2)
    assert counts == Counts.of(F32, add=116, sub=8, mul=136, div=8, root=8, compare=4, macs=128)
