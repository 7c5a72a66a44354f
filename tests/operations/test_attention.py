"""Rules of attention against matrix products and softmax lines of self-tallying numbers, in the defined order."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

F32, F16, I8, U8, I32, I64 = DType.FLOAT, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT32, DType.INT64
MS = "com.microsoft"


def tensor(shape: Any, dtype: DType = F32, value: Any = None, constant: bool = False) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape, None if value is None else np.asarray(value), constant)


def counted(op_type: str, inputs: list[Any], domain: str = "", outputs: tuple[Any, ...] = (None,), **a: Any) -> Counts:
    rule = find_rule(op_type, domain, 24 if not domain else 1)
    assert rule is not None and rule.function is not None
    tensors = tuple(i if isinstance(i, Tensor) else tensor(i) for i in inputs)
    return rule.function(Operator("n", op_type, domain, 24, tensors, outputs, a))


def check(counts: Counts, tally: Counter[str], macs: int) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs


def softmax(line: Any, sink: Any = None) -> Any:
    top = line[0]
    for value in line[1:]:
        top = value if value > top else top
    if sink is not None:
        top = top if top > sink else sink
    powers = [(value - top).exp() for value in line]
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    if sink is not None:
        total = total + (sink - top).exp()
    return [power / total for power in powers]


def tanh(x: Any) -> Any:
    e = (x * 2).exp()
    return (e - 1) / (e + 1)


def attend(q: Any, k: Any, v: Any, scale: Any, biases: list[Any], softcap: float = 0.0, sink: Any = None) -> int:
    """softmax(softcap(q k^T) + biases) v of one head; `scale` multiplies the scores if given. Returns the MACs."""
    tally = q.flat[0].tally
    before = tally["mul"]
    scores = np.matmul(q, k.T)
    macs = tally["mul"] - before
    if scale is not None:
        scores = scores * scale
    if softcap:
        scores = scores / softcap if softcap != 1.0 else scores
        scores = np.frompyfunc(tanh, 1, 1)(scores)
        scores = scores * softcap if softcap != 1.0 else scores
    for bias in biases:
        scores = scores + bias
    weights = np.array([softmax(line, sink) for line in scores], dtype=object)
    before = tally["mul"]
    np.matmul(weights, v)
    return macs + tally["mul"] - before


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


def rotate(x: Any) -> None:
    """Rotate the last axis of x in two halves."""
    tally = x.flat[0].tally
    one, two = np.split(x, 2, axis=-1)
    cos, sin = numbers(one.shape, tally), numbers(one.shape, tally)
    (cos * one) - (sin * two)
    (sin * one) + (cos * two)


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


def test_undefined_rotation_is_refused() -> None:
    with pytest.raises(ShapeError, match="do_rotary"):
        counted("Attention", [(1, 2, 4), (4, 12)], MS, num_heads=2, do_rotary=1)


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


def head_norm(x: Any) -> None:
    for line in x:
        mean = np.add.reduce(line * line) / len(line)
        line / (mean + 1e-6).sqrt() * numbers(line.shape, line[0].tally)


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


def test_a_quantised_cache_is_refused() -> None:
    inputs = [(1, 1, 8), (1, 1, 4), (1, 1, 4), None, None, tensor((1,), I32), tensor((), I32, 3)]
    with pytest.raises(ShapeError, match="quantised cache"):
        counted("GroupQueryAttention", inputs, MS, num_heads=2, kv_num_heads=1, k_quant_type="PER_TENSOR")


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
@pytest.mark.parametrize("bound", [None, 5])
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
    inputs += [None, None, tensor((2,), I32, [tokens, bound]) if bound else None]
    attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int(extras), "softcap": 30.0 * extras}
    check(counted("PagedAttention", inputs, MS, **attributes), tally, macs)


def test_paged_attention_by_hand_and_what_is_refused() -> None:
    inputs = [(1, 8), (1, 4), (1, 4), (1, 3, 1, 4), (1, 3, 1, 4), tensor((2,), I32), tensor((1,), I32)]
    inputs += [tensor((1, 1), I32)]
    counts = counted("PagedAttention", inputs, MS, num_heads=2, kv_num_heads=1)
    assert counts == Counts.of(F32, add=38, sub=6, mul=54, div=6, root=6, compare=4, macs=48)
    with pytest.raises(ShapeError, match="LATENT"):
        counted("PagedAttention", inputs, MS, num_heads=2, kv_num_heads=1, kv_cache_layout="LATENT")
    with pytest.raises(ShapeError, match="quantised cache"):
        counted("PagedAttention", inputs, MS, num_heads=2, kv_num_heads=1, v_quant_type="PER_TENSOR")
