"""Blocks of transformers and recurrent networks, [batch, steps, width] to the same, with sizes drawn at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnx_aiwq.calibration.composites.builder import Builder, Value
from onnx_aiwq.calibration.composites.images import conv

Block = Callable[[Builder, Value], Value]
_MASKED = -3.4e38  # what exporters add to masked scores


def layer_norm(b: Builder, x: Value) -> Value:
    """Layer normalisation as one operator."""
    width = x.shape[-1]
    weights = [b.weight(width, offset=1.0, scale=0.1), b.weight(width, scale=0.1)]
    return b.node("LayerNormalization", [x.name, *weights], x.shape, axis=-1, epsilon=1e-5)


def layer_norm_in_parts(b: Builder, x: Value) -> Value:
    """Layer normalisation as the elementwise operators that older exporters write."""
    reduced = (*x.shape[:-1], 1)
    centred = b.node("Sub", [x.name, _mean(b, x).name], x.shape)
    square = b.node("Pow", [centred.name, b.scalar(2.0)], x.shape)
    spread = b.node("Add", [_mean(b, square).name, b.scalar(1e-5)], reduced)
    normal = b.node("Div", [centred.name, b.unary("Sqrt", spread).name], x.shape)
    scaled = b.node("Mul", [normal.name, b.weight(x.shape[-1], offset=1.0, scale=0.1)], x.shape)
    return b.node("Add", [scaled.name, b.weight(x.shape[-1], scale=0.1)], x.shape)


def _mean(b: Builder, x: Value) -> Value:
    return b.node("ReduceMean", [x.name, b.integers([-1])], (*x.shape[:-1], 1), keepdims=1)


def rms_norm(b: Builder, x: Value) -> Value:
    """Root mean square normalisation in parts."""
    square = b.node("Pow", [x.name, b.scalar(2.0)], x.shape)
    spread = b.node("Add", [_mean(b, square).name, b.scalar(1e-6)], (*x.shape[:-1], 1))
    root = b.unary("Sqrt", spread)
    divide = b.chance(0.5)
    normal = b.node("Div", [x.name, root.name], x.shape) if divide else b.mul(x, b.unary("Reciprocal", root))
    return b.node("Mul", [b.weight(x.shape[-1], offset=1.0, scale=0.1), normal.name], x.shape)


def normalise(b: Builder, x: Value) -> Value:
    """One of the normalisations."""
    return b.pick(layer_norm, layer_norm_in_parts, rms_norm, weights=(4, 2, 2))(b, x)  # type: ignore[no-any-return]


def rotary(b: Builder, x: Value) -> Value:
    """Rotary position embedding of [batch, heads, steps, size]."""
    half = x.shape[-1] // 2
    turned = b.concat([b.unary("Neg", b.slice(x, 3, half, 2 * half)), b.slice(x, 3, 0, half)], 3)
    table = (1, 1, *x.shape[2:])
    cosine, sine = (b.node("Mul", [v.name, b.weight(*table)], x.shape) for v in (x, turned))
    return b.add(cosine, sine)


def heads_of(b: Builder, x: Value, heads: int, order: tuple[int, ...] = (0, 2, 1, 3)) -> Value:
    """[batch, steps, width] to [batch, heads, steps, size], or another order of these axes."""
    n, steps, width = x.shape
    return b.transpose(b.reshape(x, (n, steps, heads, width // heads)), *order)


def attention_core(b: Builder, q: Value, k: Value, v: Value, mask: str) -> Value:
    """Softmax of scaled scores times values; k comes as [batch, heads, size, steps]."""
    n, heads, steps, size = q.shape
    scores = b.node("MatMul", [q.name, k.name], (n, heads, steps, k.shape[-1]))
    how = b.pick("Div", "Mul")
    root = math.sqrt(size)
    scores = b.node(how, [scores.name, b.scalar(root if how == "Div" else 1 / root)], scores.shape)
    if mask == "causal":
        allowed = np.where(np.tri(steps, k.shape[-1], dtype=bool), 0, _MASKED).astype(np.float32)[None, None]
        scores = b.node("Add", [scores.name, b.constant(allowed)], scores.shape)
    elif mask == "padding":
        allowed = np.zeros((n, 1, 1, k.shape[-1]), np.float32)
        scores = b.node("Add", [scores.name, b.constant(allowed)], scores.shape)
    shares = b.unary("Softmax", scores, axis=-1)
    return b.node("MatMul", [shares.name, v.name], (n, heads, steps, size))


def attention(b: Builder, x: Value) -> Value:
    """Self-attention with its projections."""
    n, steps, width = x.shape
    size = b.pick(32, 64, 64, 80, 128)
    heads = max(1, width // size)
    inner = heads * size
    if b.chance(0.3):
        q, k, v = (b.reshape(part, (n, steps, inner)) for part in b.split(b.matmul(x, 3 * inner), 3, 2))
    else:
        q, k, v = (b.matmul(x, inner, bias=b.chance(0.7)) for _ in range(3))
    turn = b.chance(0.25)
    query = heads_of(b, q, heads)
    if turn:
        query, key = rotary(b, query), b.transpose(rotary(b, heads_of(b, k, heads)), 0, 1, 3, 2)
    else:
        key = heads_of(b, k, heads, (0, 2, 3, 1))
    mask = b.pick("none", "causal", "padding", weights=(3, 3, 2))
    mixed = attention_core(b, query, key, heads_of(b, v, heads), mask)
    joined = b.reshape(b.transpose(mixed, 0, 2, 1, 3), (n, steps, inner))
    return b.matmul(joined, width)


def feed_forward(b: Builder, x: Value) -> Value:
    """Two products with an activation between, gated at times."""
    width = x.shape[-1]
    inner = b.log_int(width, 4 * width, 8)
    act = b.pick("GeluErf", "GeluTanh", "Relu", "Silu", weights=(4, 2, 2, 1))
    if b.chance(0.25):
        gate = b.activation(b.matmul(x, inner, bias=False), "Silu")
        return b.matmul(b.mul(gate, b.matmul(x, inner, bias=False)), width, bias=False)
    return b.matmul(b.activation(b.matmul(x, inner), act), width)


def transformer(b: Builder, x: Value) -> Value:
    """Attention and feed-forward, each with a normalisation and a shortcut."""
    if b.chance(0.5):
        x = b.add(x, attention(b, normalise(b, x)))
        return b.add(x, feed_forward(b, normalise(b, x)))
    x = normalise(b, b.add(attention(b, x), x))
    return normalise(b, b.add(feed_forward(b, x), x))


def linear(b: Builder, x: Value) -> Value:
    """A product with a weight and an activation."""
    y = b.matmul(x, b.width(32, 3072), bias=b.chance(0.8))
    return b.activation(y, b.pick("Relu", "Tanh", "GeluErf", "Sigmoid", "none"))


def mixer(b: Builder, x: Value) -> Value:
    """Products over the steps, between transpositions."""
    y = b.transpose(layer_norm(b, x), 0, 2, 1)
    y = b.matmul(b.activation(b.matmul(y, b.width(32, 1024)), "GeluErf"), x.shape[1])
    return b.add(x, b.transpose(y, 0, 2, 1))


def conv_over_steps(b: Builder, x: Value) -> Value:
    """Convolutions along the steps: plain, dilated and causal, or gated with a depthwise one."""
    y = b.transpose(x, 0, 2, 1)
    n, width, steps = y.shape
    kind = b.pick("plain", "causal", "gated")
    if kind == "plain":
        y = conv(b, y, b.width(32, 768), (b.pick(3, 5, 7),), stride=b.pick(1, 2), act=b.pick("Relu", "GeluErf"))
    elif kind == "causal":
        kernel, dilation = b.pick(2, 3), b.pick(1, 2, 4, 8)
        lead = (kernel - 1) * dilation
        padded = b.node("Pad", [y.name, b.integers([0, 0, lead, 0, 0, 0])], (n, width, steps + lead))
        weight = b.weight(width, width, kernel, fan_in=width * kernel)
        y = b.node("Conv", [padded.name, weight], (n, width, steps), dilations=[dilation], kernel_shape=[kernel])
        y = b.activation(y, "Relu")
    else:
        left, right = b.split(conv(b, y, 2 * width, (1,)), 2, 1)
        y = b.mul(left, b.unary("Sigmoid", right))
        y = b.activation(conv(b, y, width, (b.pick(7, 15, 31),), groups=width), "Silu")
        y = conv(b, y, width, (1,))
    return b.transpose(y, 0, 2, 1)


def recurrent(b: Builder, x: Value) -> Value:
    """LSTM, GRU or plain recurrence, in one or both directions."""
    kind, gates = b.pick(("LSTM", 4), ("GRU", 3), ("RNN", 1), weights=(4, 3, 1))
    directions, hidden = b.pick(1, 2), b.log_int(32, 640, 8)
    steps = min(x.shape[1], 64)
    y = b.transpose(b.slice(x, 1, 0, steps) if steps < x.shape[1] else x, 1, 0, 2)
    n, width = y.shape[1:]
    weights = [
        b.weight(directions, gates * hidden, width, fan_in=width),
        b.weight(directions, gates * hidden, hidden, fan_in=hidden),
        b.weight(directions, 2 * gates * hidden, scale=0.1),
    ]
    attributes: dict[str, object] = {"direction": "bidirectional" if directions == 2 else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    y = b.node(kind, [y.name, *weights], (steps, directions, n, hidden), hidden_size=hidden, **attributes)
    y = b.transpose(y, 2, 0, 1, 3)
    return b.reshape(y, (n, steps, directions * hidden))


def windows(b: Builder, x: Value) -> Value:
    """Tokens of an image in windows that are shifted, attended to and put back."""
    n, _, width = x.shape
    size, across = b.pick(7, 8), b.pick(1, 2, 4)
    side = size * across
    width = max(32, width // 32 * 32)
    image = b.reshape(b.matmul(b.input((n, side * side, x.shape[2])), width), (n, side, side, width))
    if b.chance(0.5):
        shift = size // 2
        for axis in (1, 2):
            image = b.concat([b.slice(image, axis, shift, side), b.slice(image, axis, 0, shift)], axis)
    apart = b.transpose(b.reshape(image, (n, across, size, across, size, width)), 0, 1, 3, 2, 4, 5)
    tokens = b.reshape(apart, (n * across * across, size * size, width))
    tokens = attention(b, tokens)
    apart = b.reshape(tokens, (n, across, across, size, size, width))
    together = b.transpose(apart, 0, 1, 3, 2, 4, 5)
    b.output(b.reshape(together, (n, side, side, width)))
    return x


def embedding(b: Builder, x: Value) -> Value:
    """Rows of a table, looked up by ids, added to what is there."""
    n, steps, width = x.shape
    ids = b.constant(b.random.integers(0, 5000, (n, steps)))
    # Ids that are constants would be folded; an addition of a run-time zero keeps the lookup.
    zero = b.node("Cast", [b.node("Mul", [b.input((1,)).name, b.scalar(0.0)], (1,)).name], (1,), to=7)
    wanted = b.node("Add", [ids, zero.name], (n, steps))
    return b.add(x, b.node("Gather", [b.weight(5000, width), wanted.name], (n, steps, width), axis=0))


BLOCKS: tuple[tuple[Block, float], ...] = (
    (transformer, 5),
    (attention, 2),
    (feed_forward, 1.5),
    (linear, 2),
    (mixer, 0.7),
    (conv_over_steps, 2),
    (recurrent, 3.5),
    (windows, 1),
    (embedding, 0.7),
)
"""What a network of sequences is drawn from, with how often."""
