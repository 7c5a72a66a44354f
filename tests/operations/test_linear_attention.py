"""Rules of linear attention against the recurrence, token by token on self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import count, operator
from oracle import as_basic_operations, numbers

F32 = DType.FLOAT
MS = "com.microsoft"
RULES = ("linear", "gated", "delta", "gated_delta")


def counted(op_type: str, inputs: list[Any], outputs: list[Any], **attributes: Any) -> Counts:
    return count(operator(op_type, inputs, outputs, domain=MS, **attributes))


def check(counts: Counts, tally: Counter[str], macs: int) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.frompyfunc(lambda y: (-y).exp(), 1, 1)(x))


def softplus(x: Any) -> Any:
    return np.frompyfunc(lambda y: (y.exp() + 1).log(), 1, 1)(x)


def token(tally: Counter[str], rule: str, width: int, value_width: int, reads: int, decays: int, scaled: bool) -> int:
    """One token on one state, which `reads` queries read; returns the multiplications of its products."""
    state, k, v = numbers((width, value_width), tally), numbers((width,), tally), numbers((value_width,), tally)
    macs = 0
    if rule.startswith("gated"):
        factors = np.frompyfunc(lambda g: g.exp(), 1, 1)(numbers((decays, 1), tally))
        state = np.broadcast_to(factors, (width, 1)) * state
    if rule.endswith("delta"):
        v = (v - np.matmul(k, state)) * numbers((1,), tally)
        macs += width * value_width
    state = state + np.multiply.outer(k, v)
    macs += width * value_width
    for _ in range(reads):
        out = np.matmul(numbers((width,), tally), state)
        macs += width * value_width
        if scaled:
            out * 0.5
    return macs


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (2, 4)])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_linear_attention_equals_its_recurrence(
    rule: str, per_key: bool, heads: int, kv_heads: int, scale: float
) -> None:
    tally: Counter[str] = Counter()
    batch, tokens, width, value_width = 2, 3, 3, 2
    decays = width if per_key else 1
    macs = 0
    for _ in np.ndindex(batch, tokens, kv_heads):
        macs += token(tally, rule, width, value_width, max(heads // kv_heads, 1), decays, scale != 1.0)
    shape = (batch, tokens)
    inputs: list[Any] = [(*shape, heads * width), (*shape, kv_heads * width), (*shape, kv_heads * value_width), None]
    inputs += [(*shape, kv_heads * decays) if rule.startswith("gated") else None]
    inputs += [(*shape, kv_heads) if rule.endswith("delta") else None]
    output = (*shape, max(heads, kv_heads) * value_width)
    attributes = {"q_num_heads": heads, "kv_num_heads": kv_heads, "update_rule": rule, "scale": scale}
    check(counted("LinearAttention", inputs, [output], **attributes), tally, macs)


def test_linear_attention_by_hand() -> None:
    attributes = {"q_num_heads": 1, "kv_num_heads": 1, "update_rule": "linear"}
    counts = counted("LinearAttention", [(1, 3, 2)] * 3, [(1, 3, 2)], **attributes)
    assert counts == Counts.of(F32, add=18, mul=30, macs=24)
    with pytest.raises(ShapeError, match="'mamba'"):
        counted("LinearAttention", [(1, 3, 2)] * 3, [(1, 3, 2)], **{**attributes, "update_rule": "mamba"})


@pytest.mark.parametrize("beta", [False, True])
def test_linear_attention_gate_equals_its_formula(beta: bool) -> None:
    tally: Counter[str] = Counter()
    softplus(numbers((2, 3, 4), tally) + numbers((4,), tally)) * numbers((4,), tally)
    if beta:
        sigmoid(numbers((2, 3, 4), tally))
    inputs: list[Any] = [Tensor("a", DType.FLOAT16, (2, 3, 4)), (4,), (4,), *([(2, 3, 4)] if beta else [])]
    counts = counted("LinearAttentionGate", inputs, [(2, 3, 4)])
    check(counts, tally, 0)
    assert counts.dtypes == (F32,)


def test_linear_attention_gate_by_hand() -> None:
    counts = counted("LinearAttentionGate", [(1, 2, 3), (3,), (3,), (1, 2, 3)], [(1, 2, 3), (1, 2, 3)])
    assert counts == Counts.of(F32, add=18, sub=6, mul=6, div=6, root=18)


@pytest.mark.parametrize("layout", ["ragged", "batched", "packed"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("extras", [False, True])
def test_gated_delta_net_equals_its_recurrence(layout: str, rule: str, extras: bool) -> None:
    tally: Counter[str] = Counter()
    tokens, heads, value_heads, width, value_width = 6, 2, 4, 3, 2
    macs = 0
    gated, delta = rule.startswith("gated"), rule.endswith("delta")
    for _ in np.ndindex(tokens, value_heads):
        macs += token(tally, rule, width, value_width, 1, 1, True)
        if extras and gated:
            softplus(numbers((1,), tally) + 1) * 2
        if extras and delta:
            sigmoid(numbers((1,), tally))
    if extras:
        for _ in range(2 * tokens * heads):
            vector = numbers((width,), tally)
            vector / (np.add.reduce(vector * vector) + 1e-6).sqrt()
        if gated:
            for value in numbers((value_heads,), tally):
                -value.exp()
    rows = (2, 3) if layout == "batched" else (6,)
    state = (2, value_heads, value_width, width)
    if layout == "packed":
        inputs: list[Any] = [(*rows, 2 * heads * width + value_heads * value_width), None, None]
    else:
        inputs = [(*rows, heads, width), (*rows, heads, width), (*rows, value_heads, value_width)]
    inputs += [None, (*rows, value_heads) if gated else None, (*rows, value_heads) if delta else None, state]
    attributes: dict[str, Any] = {"update_rule": rule}
    if extras:
        attributes.update(qk_l2_norm=1, beta_activation="sigmoid", gate_activation="qwen" if gated else "none")
    check(counted("GatedDeltaNet", inputs, [(*rows, value_heads, value_width)], **attributes), tally, macs)


def test_gated_delta_net_by_hand() -> None:
    plain = counted("GatedDeltaNet", [(3, 1, 2)] * 3, [(3, 1, 2)], update_rule="linear")
    assert plain == Counts.of(F32, add=18, mul=30, macs=24)
    normed = counted("GatedDeltaNet", [(3, 1, 2)] * 3, [(3, 1, 2)], update_rule="linear", qk_l2_norm=1)
    assert normed == plain + Counts.of(F32, add=12, mul=12, div=12, root=6)


@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("op_type", "shape", "kernel"),
    [
        ("CausalConvWithState", (1, 2, 5), (4,)),
        ("CausalConvWithState", (2, 3, 2, 4), (2, 3)),
        ("VarlenCausalConvWithState", (6, 3), (3,)),
    ],
)
def test_causal_convolution_equals_its_taps(
    op_type: str, shape: tuple[int, ...], kernel: tuple[int, ...], bias: bool, activation: str
) -> None:
    tally: Counter[str] = Counter()
    taps = math.prod(kernel)
    for _ in np.ndindex(shape):
        y = np.add.reduce(numbers((taps,), tally) * numbers((taps,), tally))
        y = y + 0.5 if bias else y
        if activation != "none":
            y * sigmoid(y)
    channels = shape[1]
    inputs: list[Any] = [shape, (channels, 1, *kernel)]
    inputs += [Tensor("c", DType.INT32, (3,))] if op_type.startswith("Varlen") else []
    inputs += [(channels,) if bias else None]
    check(counted(op_type, inputs, [shape], activation=activation), tally, math.prod(shape) * taps)


def test_causal_convolution_by_hand() -> None:
    counts = counted("CausalConvWithState", [(1, 2, 5), (2, 1, 4), (2,)], [(1, 2, 5)], activation="silu")
    assert counts == Counts.of(F32, add=50, sub=10, mul=50, div=10, root=10, macs=40)
