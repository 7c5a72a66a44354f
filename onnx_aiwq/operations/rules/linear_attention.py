"""Linear attention and its companions: matrix states that every token updates, gates and short causal convolutions.

Every token updates and reads its states one after the other; a chunked algorithm does the same in another order.
"""

from __future__ import annotations

import math

import msgspec

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, scaled_sigmoid_product, sigmoid, softplus
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_RULES = ("linear", "gated", "delta", "gated_delta")


class _States(msgspec.Struct, frozen=True):
    """`updates` updates of and `reads` reads from states of width x value_width; `decays` factors that are exp(g)."""

    updates: int
    reads: int
    width: int
    value_width: int
    decays: int


def _recurrence(op: Operator, states: _States) -> Counts:
    """S = exp(g) S; r = S^T k; S = S + k (b (v - r))^T; o = scale * S^T q, with the steps that `update_rule` has."""
    dtype, update_rule = dtype_of(op.input(0)), str(op.attributes.get("update_rule") or "gated_delta")
    if update_rule not in _RULES:
        raise ShapeError(f"update_rule {update_rule!r} of {op.op_type} {op.name!r} is none of {_RULES}")
    types, elements = (dtype, dtype), states.width * states.value_width
    scale = op.attributes.get("scale") or None
    scaled = states.width != 1 if scale is None else scale != 1.0
    total = Counts.of(dtype, add=states.updates * elements, mul=states.updates * elements)
    total += Counts(macs=states.updates * elements)
    if update_rule.startswith("gated"):
        total += Counts.of(dtype, mul=states.updates * elements, root=states.decays)
    if update_rule.endswith("delta"):
        total += dot_products(types, states.updates * states.value_width, states.width)
        total += Counts.of(dtype, sub=states.updates * states.value_width, mul=states.updates * states.value_width)
    outputs = states.reads * states.value_width
    return total + dot_products(types, outputs, states.width) + Counts.of(dtype, mul=outputs if scaled else 0)


@rule("LinearAttention", family="attention", domain="com.microsoft")
def linear_attention(op: Operator) -> Counts:
    """Linear attention: every token updates one matrix state per head and reads from it.

    Equation:
        S = exp(g) S (gated); S = S + k v^T, or with delta S = S + k (b (v - S^T k))^T; o = scale * S^T q; S[dk, dv]
    Basic operations:
        Per token and head of keys: gated dk dv mul, and 1 root per decay (dk of them, or one per head); delta dv (dk
        mul, dk - 1 add), dv sub, dv mul by b; the update dk dv mul and dk dv add. Per token and head of outputs dv (dk
        mul, dk - 1 add), 1 mul by the scale (none where it is 1). MACs: the products with S and the update, K^T V of
        all tokens. A state of zeros is computed with like any other (dense count).
    Not counted:
        Copies of states.
    Example:
        Q = K = V[1, 3, 2], 1 head, linear, dk = dv = 2: MACs = 3 * 4 + 3 * 4 = 24; mul = 24 + 6 = 30, add = 12 + 6 =
        18.
    Reference:
        Contrib operators: LinearAttention.
    """
    batch, tokens, hidden = shape_of(op.input(0), "the query")
    heads, kv_heads = int(op.attributes["q_num_heads"]), int(op.attributes["kv_num_heads"])
    decays = 0 if op.input(4) is None else size_of(op.input(4), "the decay")
    lines = batch * tokens
    value_width = shape_of(op.input(2), "the value")[2] // kv_heads
    return _recurrence(
        op, _States(lines * kv_heads, lines * max(heads, kv_heads), hidden // heads, value_width, decays)
    )


@rule("LinearAttentionGate", family="attention", domain="com.microsoft")
def linear_attention_gate(op: Operator) -> Counts:
    """The gates of linear attention.

    Equation:
        decay = decay_scale * softplus(a + dt_bias); beta = sigmoid(b)
    Basic operations:
        In float32 per element of a 1 add, softplus (root + add + root), 1 mul; per element of b sub + root + add + div.
    Not counted:
        Casts.
    Example:
        a = b[1, 2, 3]: add = 12 + 6 = 18, root = 12 + 6 = 18, mul = sub = div = 6.
    Reference:
        Contrib operators: LinearAttentionGate. TO paper, Eq. 4.
    """
    decay = (softplus(DType.FLOAT) + Counts.of(DType.FLOAT, add=1, mul=1)) * size_of(op.input(0), "a")
    return decay if op.input(3) is None else decay + sigmoid(DType.FLOAT) * size_of(op.input(3), "b")


def _packed_heads(op: Operator) -> tuple[int, int, int, int, int]:
    """(tokens, heads of q and k, heads of v, width, value width) of GatedDeltaNet."""
    query = shape_of(op.input(0), "the query")
    if op.input(1) is not None:
        value = shape_of(op.input(2), "the value")
        return math.prod(query[:-2]), query[-2], value[-2], query[-1], value[-1]
    _, value_heads, value_width, width = shape_of(op.input(6), "the initial state")
    heads = (query[-1] - value_heads * value_width) // (2 * width)
    return math.prod(query[:-1]), heads, value_heads, width, value_width


@rule("GatedDeltaNet", family="attention", domain="com.microsoft")
def gated_delta_net(op: Operator) -> Counts:
    """Linear attention of packed tokens, with optional norms of Q and K and activations of its gates.

    Equation:
        As LinearAttention, with a state per head of values; qk_l2_norm: q / sqrt(sum q^2 + epsilon), k likewise;
        gate_activation qwen: g = -exp(a_log) * softplus(g + dt_bias); beta_activation sigmoid: b = sigmoid(b)
    Basic operations:
        Those of LinearAttention; qk_l2_norm per head vector of q and of k d mul, d add, d div, 1 root; qwen in float32
        per decay 1 add, root + add + root, 1 mul, per head 1 root and 1 sub; sigmoid per beta sub + root + add + div.
        MACs as in LinearAttention.
    Not counted:
        Copies of states and of compact state updates.
    Example:
        Q = K = V[3, 1, 2], linear, no norm: MACs = 24, mul = 30, add = 18. With qk_l2_norm 6 vectors: mul = add = div =
        12 and root = 6 more.
    Reference:
        Contrib operators: GatedDeltaNet.
    """
    tokens, heads, value_heads, width, value_width = _packed_heads(op)
    dtype = dtype_of(op.input(0))
    decays = 0 if op.input(4) is None else size_of(op.input(4), "the decay")
    total = _recurrence(op, _States(tokens * value_heads, tokens * max(heads, value_heads), width, value_width, decays))
    if op.attributes.get("qk_l2_norm"):
        total += Counts.of(dtype, add=width, mul=width, div=width, root=1) * (2 * tokens * heads)
    if op.attributes.get("gate_activation") == "qwen":
        total += (softplus(DType.FLOAT) + Counts.of(DType.FLOAT, add=1, mul=1)) * decays
        total += Counts.of(DType.FLOAT, sub=value_heads, root=value_heads)
    if op.attributes.get("beta_activation") == "sigmoid" and op.input(5) is not None:
        total += sigmoid(dtype) * size_of(op.input(5), "beta")
    return total


@rule("CausalConvWithState", "VarlenCausalConvWithState", family="dense", domain="com.microsoft")
def causal_convolution(op: Operator) -> Counts:
    """Depthwise convolution over earlier positions, with a state that carries them from call to call.

    Equation:
        Y[n, c, t] = activation(sum over taps j of X'[n, c, t - (k - 1 - j) d] * W[c, 0, j] + bias[c]), X' the input
        behind its state
    Basic operations:
        Per output element k mul and k - 1 add, k = prod of the kernel; 1 add with a bias; silu (swish) sub + root + add
        + div + mul. MACs = mul of the taps.
    Not counted:
        Copies of states.
    Example:
        X[1, 2, 5], W[2, 1, 4], bias, silu: 10 elements; MACs = 40, mul = 40 + 10 = 50, add = 30 + 10 + 10 = 50, sub =
        root = div = 10.
    Reference:
        Contrib operators: CausalConvWithState, VarlenCausalConvWithState.
    """
    dtype, results = dtype_of(op.input(0)), size_of(op.input(0), "the input")
    taps = math.prod(shape_of(op.input(1), "the weight")[2:])
    bias = op.input(2 if op.op_type == "CausalConvWithState" else 3)
    activated = str(op.attributes.get("activation") or "none") in ("silu", "swish")
    once = scaled_sigmoid_product(dtype, 1) if activated else Counts()
    return dot_products((dtype, dtype), results, taps, bias) + once * results
