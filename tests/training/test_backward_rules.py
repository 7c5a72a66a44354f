"""Every backward rule against its gradient executed on self-tallying numbers, and that against differences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnx_aiwq.training.registry import all_backward_rules
from training.autodiff import Case, Run, by_differences, counted, executed, total, unbroadcast

RANDOM = np.random.default_rng(3)


def values(*shape: int, low: float = 0.4, high: float = 0.9) -> Any:
    return RANDOM.uniform(low, high, shape)


def signed(*shape: int) -> Any:
    """Values of both signs, away from the kinks at 0 and 1."""
    return values(*shape) * RANDOM.choice([-1.0, 1.0], shape)


def integers(*numbers: Any) -> Any:
    return np.array(numbers, dtype=np.int64)


# ---- elementwise


def add(r: Run) -> Any:
    return {k: unbroadcast(r.g, value.shape) for k, value in enumerate(r.floats)}


def sub(r: Run) -> Any:
    return {0: unbroadcast(r.g, r.floats[0].shape), 1: -unbroadcast(r.g, r.floats[1].shape)}


def mul(r: Run) -> Any:
    a, b = r.x
    return {0: unbroadcast(r.g * b, a.shape), 1: unbroadcast(r.g * a, b.shape)}


def div(r: Run) -> Any:
    a, b = r.x
    q = r.g / b
    return {0: unbroadcast(q, a.shape), 1: -unbroadcast(q * r.y, b.shape)}


def powered(r: Run) -> Any:
    x, e = r.x[0], float(r.floats[1])
    if e == 0.5:
        return {0: r.g * 0.5 / r.y}
    factor = {1.0: None, 2.0: x, 3.0: x * x if e == 3 else None, -1.0: 1 / (x * x) if e == -1 else None}[e]
    return {0: r.g if e == 1 else r.g * (factor * e)}


def powered_by_tensor(r: Run) -> Any:
    x, e = r.x
    h = r.g * r.y
    return {0: unbroadcast(h * e / x, x.shape), 1: unbroadcast(h * np.log(x), e.shape)}


def largest(r: Run) -> Any:
    return split(r, r.floats[0] > r.floats[1])


def smallest(r: Run) -> Any:
    return split(r, r.floats[0] < r.floats[1])


def split(r: Run, first: Any) -> Any:
    return {
        0: unbroadcast(r.choose(first, r.g), r.floats[0].shape),
        1: unbroadcast(r.choose(~first, r.g), r.floats[1].shape),
    }


def where(r: Run) -> Any:
    condition = r.floats[0]
    return {
        1: unbroadcast(r.choose(condition, r.g), r.floats[1].shape),
        2: unbroadcast(r.choose(~condition, r.g), r.floats[2].shape),
    }


def mean(r: Run) -> Any:
    g = r.g * (1 / len(r.floats))
    return {k: unbroadcast(g, value.shape) for k, value in enumerate(r.floats)}


def absolute(r: Run) -> Any:
    signs = np.where(r.floats[0] > 0, r.g, r.save(-r.incoming))
    return {0: signs}


def clip(r: Run) -> Any:
    return {0: r.choose((r.floats[0] > r.floats[1]) & (r.floats[0] < r.floats[2]), r.g)}


def cumulative(r: Run) -> Any:
    return {0: np.add.accumulate(r.g[:, ::-1], axis=1)[:, ::-1]}


def root_of(function: Any) -> Any:
    return np.frompyfunc(lambda number: number.root(function), 1, 1)


def e_of(x: Any) -> Any:
    return root_of(math.exp)(x)


ELEMENTARY: dict[str, Any] = {
    "Sqrt": lambda r, x: r.g * 0.5 / r.y,
    "Exp": lambda r, x: r.g * r.y,
    "Log": lambda r, x: r.g / x,
    "Reciprocal": lambda r, x: -(r.g * r.y * r.y),
    "Erf": lambda r, x: r.g * e_of(-(x * x)) * (2 / math.sqrt(math.pi)),
    "Sin": lambda r, x: r.g * root_of(math.cos)(x),
    "Cos": lambda r, x: -(r.g * root_of(math.sin)(x)),
    "Tan": lambda r, x: r.g * (r.y * r.y + 1),
    "Asin": lambda r, x: r.g / root_of(math.sqrt)(1 - x * x),
    "Acos": lambda r, x: -(r.g / root_of(math.sqrt)(1 - x * x)),
    "Atan": lambda r, x: r.g / (x * x + 1),
    "Asinh": lambda r, x: r.g / root_of(math.sqrt)(x * x + 1),
    "Acosh": lambda r, x: r.g / root_of(math.sqrt)(x * x - 1),
    "Atanh": lambda r, x: r.g / (1 - x * x),
    "Sinh": lambda r, x: r.g * half_sum(x, 1),
    "Cosh": lambda r, x: r.g * half_sum(x, -1),
}


def half_sum(x: Any, sign: int) -> Any:
    e = e_of(x)
    inverse = 1 / e
    return (e + inverse if sign > 0 else e - inverse) / 2


def elementary(op_type: str) -> Case:
    x = values(2, 3) + (1.0 if op_type == "Acosh" else 0.0)
    # The reference implementation of Erf rounds to float32.
    exact = np.vectorize(math.erf) if op_type == "Erf" else None
    return Case(op_type, (x,), lambda r: {0: ELEMENTARY[op_type](r, r.x[0])}, forward=exact)


def softmax(r: Run) -> Any:
    rows = []
    for g, y in zip(r.g.reshape(-1, r.g.shape[-1]), r.y.reshape(-1, r.y.shape[-1]), strict=True):
        rows.append(y * (g - total(g * y)))
    return {0: np.array(rows, dtype=object).reshape(r.y.shape)}


def log_softmax(r: Run) -> Any:
    rows = []
    for g, y in zip(r.g, r.y, strict=True):
        rows.append(g - e_of(y) * total(g))
    return {0: np.array(rows, dtype=object)}


ELEMENTWISE = [
    Case("Add", (values(2, 3), values(3)), add),
    Case("Add", (values(1, 3), values(4, 1, 1)), add),
    Case("Sum", (values(2, 3), values(3), values(2, 1)), add),
    Case("Sub", (values(2, 3), values(3)), sub),
    Case("Mul", (values(2, 3), values(2, 1)), mul),
    Case("Div", (values(2, 3), values(3)), div),
    *(Case("Pow", (values(2, 5), np.array(e)), powered) for e in (1.0, 2.0, 3.0, 0.5, -1.0)),
    Case("Pow", (values(2, 5), values(5)), powered_by_tensor),
    Case("Max", (values(2, 3), values(3)), largest),
    Case("Min", (values(2, 3), values(3)), smallest),
    Case("Where", (np.array([[True, False, True]]), values(2, 3), values(1)), where),
    Case("Mean", (values(2, 3), values(3)), mean),
    Case("Abs", (signed(2, 3),), absolute),
    Case("Clip", (values(2, 3), np.array(0.5), np.array(0.7)), clip),
    Case("Neg", (values(2, 3),), lambda r: {0: -r.g}),
    Case("CumSum", (values(2, 5), np.array(1, dtype=np.int64)), cumulative),
    *(elementary(op_type) for op_type in ELEMENTARY),
    Case("Softmax", (values(2, 5),), softmax, {"axis": 1}),
    Case("Softmax", (values(1, 2, 3),), softmax),
    Case("LogSoftmax", (values(2, 5),), log_softmax, {"axis": -1}),
]


# ---- activations


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def gated(alpha: float) -> Any:
    """g * (s + alpha * x * (s * (1 - s))), x and s saved."""

    def backward(r: Run) -> Any:
        x, s = r.x[0], r.save(sigmoid(alpha * r.floats[0]))
        inner = s * (1 - s) * x
        return {0: r.g * (s + (inner if alpha == 1 else inner * alpha))}

    return backward


def masked(r: Run) -> Any:
    return {0: r.choose(r.result != 0, r.g)}


def leaky(slope: float) -> Any:
    return lambda r: {0: np.where(r.floats[0] > 0, r.save(r.incoming), r.g * slope)}


def prelu(r: Run) -> Any:
    negative = r.floats[0] < 0
    x, slope = r.x
    return {
        0: np.where(negative, r.g * slope, r.save(r.incoming)),
        1: unbroadcast(r.choose(negative, r.g * x), slope.shape),
    }


def exponential_linear(offset: float, alpha: float = 1.0) -> Any:
    return lambda r: {0: r.g * ((r.y if alpha == 1 else r.y / alpha) + offset)}


def hard_swish(r: Run) -> Any:
    return {0: r.g * (r.x[0] * (1 / 3) + 0.5)}


def softplus(r: Run) -> Any:
    e = np.exp(r.floats[0])
    return {0: r.g * (r.save(e) / r.save(1 + e))}


def softsign(r: Run) -> Any:
    d = r.save(1 + np.abs(r.floats[0]))
    return {0: r.g / (d * d)}


def mish(r: Run) -> Any:
    e = np.exp(r.floats[0])
    t, d = r.save(np.tanh(np.log(1 + e))), r.save(1 + e)
    return {0: r.g * (t + r.x[0] * (1 - t * t) * (r.save(e) / d))}


GAMMA, ALPHA = 1.0507009873554805, 1.6732632423543772
ACTIVATIONS = [
    Case("Relu", (signed(2, 3),), masked),
    Case("ThresholdedRelu", (signed(2, 3),), masked, {"alpha": 0.2}),
    Case("Shrink", (values(2, 3),), masked, {"lambd": 0.6}),
    Case("LeakyRelu", (signed(2, 3),), leaky(0.1), {"alpha": 0.1}),
    Case("PRelu", (signed(2, 3), values(3)), prelu),
    Case("Elu", (-values(2, 3),), exponential_linear(2.0), {"alpha": 2.0}),
    Case("Celu", (-values(2, 3),), exponential_linear(1.0), {"alpha": 1.0}),
    Case("Celu", (-values(2, 3),), exponential_linear(1.0, 2.0), {"alpha": 2.0}),
    Case("Selu", (-values(2, 3),), exponential_linear(GAMMA * ALPHA), {"alpha": ALPHA, "gamma": GAMMA}),
    Case("Sigmoid", (signed(2, 3),), lambda r: {0: r.g * r.y * (1 - r.y)}),
    Case("Tanh", (signed(2, 3),), lambda r: {0: r.g * (1 - r.y * r.y)}),
    Case("HardSigmoid", (signed(2, 3),), lambda r: {0: r.g * 0.2}, {"alpha": 0.2}),
    Case("HardSigmoid", (values(2, 3) / 2,), lambda r: {0: r.g}, {"alpha": 1.0, "beta": 0.0}),
    Case("HardSwish", (signed(2, 3),), hard_swish),
    Case("Softplus", (signed(2, 3),), softplus),
    Case("Softsign", (signed(2, 3),), softsign),
    Case("Mish", (signed(2, 3),), mish),
    Case("Swish", (signed(2, 3),), gated(1.0), {"alpha": 1.0}, 24, forward=lambda x: x * sigmoid(x)),
    Case("Swish", (signed(2, 3),), gated(0.5), {"alpha": 0.5}, 24, forward=lambda x: x * sigmoid(0.5 * x)),
    Case("Gelu", (signed(2, 3),), gated(1.702), forward=lambda x: x * sigmoid(1.702 * x)),
    Case("Dropout", (signed(2, 3),), lambda r: {0: r.g}),
]

# ---- normalisation


def standardized(r: Run, lines: Any, scale: Any, eps: float) -> Any:
    """dX, and g * x^ and g per line, from the saved x^ and standard deviation."""
    x, g = r.floats[0], r.incoming
    dx, products, gradients = np.empty(x.shape, object), np.empty(x.shape, object), np.empty(x.shape, object)
    for where in lines:
        mu, sd = x[where].mean(), math.sqrt(x[where].var() + eps)
        hat, n = r.save((x[where] - mu) / sd).reshape(-1), x[where].size
        gl = r.save(g[where]).reshape(-1)
        h = gl if scale is None else gl * r.save(np.broadcast_to(scale, x.shape)[where]).reshape(-1)
        line = (h - total(h) / n - hat * (total(h * hat) / n)) / r.save(sd)[()]
        dx[where] = line.reshape(x[where].shape)
        if scale is not None:
            products[where] = (gl * hat).reshape(x[where].shape)
            gradients[where] = gl.reshape(x[where].shape)
    return dx, products, gradients


def layer_norm(r: Run) -> Any:
    lines = [(i,) for i in range(r.floats[0].shape[0])]
    dx, products, g = standardized(r, lines, r.floats[1], 1e-5)
    return {0: dx, 1: unbroadcast(products, r.floats[1].shape), 2: unbroadcast(g, r.floats[1].shape)}


def per_channel(array: Any) -> Any:
    """Sum everything but axis 1."""
    return np.array([total(array[:, c].reshape(-1)) for c in range(array.shape[1])], dtype=object)


def channel_scaled(groups: int) -> Any:
    def backward(r: Run) -> Any:
        n, c = r.floats[0].shape[:2]
        width = c // groups
        lines = [(i, slice(k * width, (k + 1) * width)) for i in range(n) for k in range(groups)]
        dx, products, g = standardized(r, lines, r.floats[1].reshape(1, -1, 1), 1e-5)
        return {0: dx, 1: per_channel(products), 2: per_channel(g)}

    return backward


def group_norm_forward(x: Any, scale: Any, bias: Any) -> Any:
    """Two groups; the reference implementation adds a float32 epsilon, which it refuses for float64."""
    grouped = x.reshape(x.shape[0], 2, -1)
    mu, var = grouped.mean(axis=-1, keepdims=True), grouped.var(axis=-1, keepdims=True)
    hat = ((grouped - mu) / np.sqrt(var + 1e-5)).reshape(x.shape)
    return hat * scale.reshape(1, -1, 1) + bias.reshape(1, -1, 1)


def mean_variance_forward(x: Any) -> Any:
    mu, var = (getattr(x, name)(axis=(0, 2, 3), keepdims=True) for name in ("mean", "var"))
    return (x - mu) / np.sqrt(var)


def mean_variance(r: Run) -> Any:
    lines = [(slice(None), c) for c in range(r.floats[0].shape[1])]
    return {0: standardized(r, lines, None, 0.0)[0]}


def rms_norm(r: Run) -> Any:
    x = r.floats[0]
    dx, products = np.empty(x.shape, object), np.empty(x.shape, object)
    for i, line in enumerate(x):
        rms = math.sqrt((line * line).mean() + 1e-5)
        hat, g = r.save(line / rms), r.save(r.incoming[i])
        h = g * r.save(r.floats[1])
        dx[i] = (h - hat * (total(h * hat) / line.size)) / r.save(rms)[()]
        products[i] = g * hat
    return {0: dx, 1: unbroadcast(products, r.floats[1].shape)}


def rms_forward(x: Any, scale: Any) -> Any:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * scale


def frozen_batch_norm(r: Run) -> Any:
    x, scale, _, mu, var = r.floats
    sd = np.sqrt(var + 1e-5)
    dx, dscale, dbias = np.empty(x.shape, object), [], []
    for c in range(x.shape[1]):
        g, data = r.save(r.incoming[:, c]), r.save(x[:, c])
        dx[:, c] = g * r.save(scale[c] / sd[c])[()]
        summed = total(g.reshape(-1))
        dbias.append(summed)
        products = total((g * data).reshape(-1))
        dscale.append((products - r.save(mu[c])[()] * summed) / r.save(sd[c])[()])
    return {0: dx, 1: np.array(dscale, dtype=object), 2: np.array(dbias, dtype=object)}


def training_batch_norm(r: Run) -> Any:
    x, scale = r.floats[:2]
    dx, dscale, dbias = np.empty(x.shape, object), [], []
    for c in range(x.shape[1]):
        mu, var = x[:, c].mean(), x[:, c].var() + 1e-5
        g, d = r.save(r.incoming[:, c]), r.save(x[:, c] - mu)
        m, summed, products = g.size, total(g.reshape(-1)), total((g * d).reshape(-1))
        k = products / m / r.save(var)[()]
        dx[:, c] = (g - summed / m - d * k) * r.save(scale[c] / math.sqrt(var))[()]
        dscale.append(products / r.save(math.sqrt(var))[()])
        dbias.append(summed)
    return {0: dx, 1: np.array(dscale, dtype=object), 2: np.array(dbias, dtype=object)}


def batch_norm_forward(x: Any, scale: Any, bias: Any, *_: Any) -> Any:
    mu, var = (getattr(x, name)(axis=(0, 2), keepdims=True) for name in ("mean", "var"))
    return (x - mu) / np.sqrt(var + 1e-5) * scale.reshape(1, -1, 1) + bias.reshape(1, -1, 1)


def lp_norm(order: int) -> Any:
    def backward(r: Run) -> Any:
        rows = []
        for i, line in enumerate(r.floats[0]):
            g, y, norm = r.save(r.incoming[i]), r.save(r.result[i]), r.save(np.linalg.norm(line, order))[()]
            dot = total(g * y)
            rows.append((g - (y * dot if order == 2 else dot)) / norm)
        return {0: np.array(rows, dtype=object)}

    return backward


def energy(x: Any) -> Any:
    """1 + 0.3 / 3 * the sum of squares over the channel and its two neighbours."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    return 1.0 + 0.3 / 3 * sum(padded[:, k : k + x.shape[1]] ** 2 for k in range(3))


def local_response_forward(x: Any) -> Any:
    """The reference implementation loops over the batch where it means the channels."""
    return x / energy(x) ** 0.75


def local_response(r: Run) -> Any:
    x, size, alpha, beta = r.floats[0], 3, 0.3, 0.75
    d = energy(x)
    ratios = r.g * r.y / r.save(d)
    spread = np.concatenate([r.save(x[:, :1] * 0), ratios, r.save(x[:, :1] * 0)], axis=1)
    window = spread[:, : x.shape[1]] + spread[:, 1 : 1 + x.shape[1]] + spread[:, 2 : 2 + x.shape[1]]
    return {0: r.g / r.save(d**beta) - r.x[0] * window * (2 * alpha * beta / size)}


NORMALIZATION = [
    Case("LayerNormalization", (values(2, 8), values(8), values(8)), layer_norm, {"axis": -1}),
    Case("LayerNormalization", (values(3, 2, 2), values(2, 2), values(2, 2)), layer_norm, {"axis": 1}),
    Case(
        "GroupNormalization",
        (values(2, 4, 3), values(4), values(4)),
        channel_scaled(2),
        {"num_groups": 2},
        version=21,
        forward=group_norm_forward,
    ),
    Case("InstanceNormalization", (values(2, 3, 4), values(3), values(3)), channel_scaled(3)),
    Case(
        "MeanVarianceNormalization",
        (values(2, 3, 2, 2),),
        mean_variance,
        {"axes": [0, 2, 3]},
        forward=mean_variance_forward,
    ),
    Case("RMSNormalization", (values(2, 8), values(8)), rms_norm, {"axis": -1}, 23, forward=rms_forward),
    Case("BatchNormalization", (values(2, 3, 4), *(values(3) for _ in range(4))), frozen_batch_norm),
    Case(
        "BatchNormalization",
        (values(2, 3, 4), *(values(3) for _ in range(4))),
        training_batch_norm,
        {"training_mode": 1},
        forward=batch_norm_forward,
    ),
    Case("LpNormalization", (values(2, 5),), lp_norm(2), {"p": 2, "axis": 1}),
    Case("LpNormalization", (values(2, 5),), lp_norm(1), {"p": 1, "axis": 1}),
    Case(
        "LRN",
        (values(2, 4, 1, 1),),
        local_response,
        {"size": 3, "alpha": 0.3, "beta": 0.75, "bias": 1.0},
        forward=local_response_forward,
    ),
]

# ---- reductions


def spread(per_result: Any, r: Run) -> Any:
    return np.broadcast_to(per_result, r.floats[0].shape)


REDUCED = {"axes": [1], "keepdims": 1}
REDUCTIONS = [
    Case("ReduceSum", (values(2, 5), integers(1)), lambda r: {0: spread(r.g, r)}),
    Case("ReduceMean", (values(2, 5), integers(1)), lambda r: {0: spread(r.g * (1 / 5), r)}),
    Case("ReduceMean", (values(2, 1), integers(1)), lambda r: {0: r.g}),
    Case("GlobalAveragePool", (values(2, 3, 2, 2),), lambda r: {0: spread(r.g * (1 / 4), r)}),
    Case("ReduceProd", (values(2, 5), integers(1)), lambda r: {0: spread(r.g * r.y, r) / r.x[0]}),
    Case("ReduceSumSquare", (values(2, 5), integers(1)), lambda r: {0: spread(r.g * 2, r) * r.x[0]}),
    Case("ReduceL1", (values(2, 5), integers(1)), lambda r: {0: spread(r.g, r)}),
    Case("ReduceL2", (values(2, 5), integers(1)), lambda r: {0: spread(r.g / r.y, r) * r.x[0]}),
    Case("ReduceLogSum", (values(2, 5), integers(1)), lambda r: {0: spread(r.g / r.save(np.exp(r.result)), r)}),
    Case(
        "ReduceLogSumExp",
        (values(2, 5), integers(1)),
        lambda r: {0: spread(r.g / r.save(np.exp(r.result)), r) * r.save(np.exp(r.floats[0]))},
    ),
    *(
        Case(op_type, (values(2, 5), integers(1)), lambda r: {0: r.choose(r.floats[0] == r.result, spread(r.g, r))})
        for op_type in ("ReduceMax", "ReduceMin")
    ),
    Case("GlobalMaxPool", (values(1, 2, 2, 2),), lambda r: {0: r.choose(r.floats[0] == r.result, spread(r.g, r))}),
]

# ---- movement, pooling, resampling


def back_to(places: Any) -> Any:
    """Scatter the gradient by the flat positions that the operator copied from, adding only where one is met again."""

    def backward(r: Run) -> Any:
        source = positions_of(r, places)
        out = r.zeros(0).reshape(-1)
        seen: set[int] = set()
        for g, place in zip(r.g.reshape(-1), source.reshape(-1), strict=True):
            if place < 0:
                continue
            out[place] = out[place] + g if place in seen else g
            seen.add(place)
        return {0: out.reshape(r.floats[0].shape)}

    return backward


def positions_of(r: Run, places: Any) -> Any:
    return np.asarray(places(np.arange(r.floats[0].size).reshape(r.floats[0].shape)))


def scattered(places: Any) -> Any:
    """Scatter-add into zeros: every element of the gradient is added."""

    def backward(r: Run) -> Any:
        out = r.zeros(0).reshape(-1)
        for g, place in zip(r.g.reshape(-1), positions_of(r, places).reshape(-1), strict=True):
            out[place] = out[place] + g
        return {0: out.reshape(r.floats[0].shape)}

    return backward


def overwritten(r: Run) -> Any:
    index = r.floats[1]
    dx = r.g
    np.put_along_axis(dx, index, r.save(np.zeros(index.shape)), axis=0)
    return {0: dx, 2: np.take_along_axis(r.g, index, axis=0)}


def windows(shape: Any, kernel: Any, strides: Any) -> Any:
    outs = [(n - k) // s + 1 for n, k, s in zip(shape[2:], kernel, strides, strict=True)]
    for n, c, *out in np.ndindex(*shape[:2], *outs):
        taps = [(n, c, *(o * s + t for o, s, t in zip(out, strides, tap, strict=True))) for tap in np.ndindex(*kernel)]
        yield (n, c, *out), taps


def pooled(mean: bool, kernel: Any, strides: Any, overlapping: bool) -> Any:
    def backward(r: Run) -> Any:
        dx, g = r.zeros(0), r.g
        if mean:
            g = g * (1 / math.prod(kernel))
        for out, taps in windows(r.floats[0].shape, kernel, strides):
            targets = taps if mean else [max(taps, key=lambda tap: r.floats[0][tap])]
            for tap in targets:
                dx[tap] = dx[tap] + g[out] if overlapping else g[out]
        return {0: dx}

    return backward


def linear_resize(r: Run) -> Any:
    """Twice the width, half_pixel, with its two taps per dimension clamped at the border."""
    dx, size = r.zeros(0), r.floats[0].shape[-1]
    for o in range(r.result.shape[-1]):
        at = (o + 0.5) / 2 - 0.5
        low = math.floor(at)
        for tap, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
            place = min(max(tap, 0), size - 1)
            dx[0, 0, place] = dx[0, 0, place] + r.g[0, 0, o] * weight
    return {0: dx}


SCALES = np.array([1, 1, 2], dtype=np.float32)
MOVEMENT = [
    Case("Reshape", (values(2, 3), integers(3, 2)), back_to(lambda p: p)),
    Case("Transpose", (values(2, 3),), back_to(lambda p: p.T), {"perm": [1, 0]}),
    Case("Slice", (values(4, 3), integers(1), integers(3)), back_to(lambda p: p[1:3])),
    Case("Trilu", (values(3, 3),), back_to(lambda p: np.where(np.tri(3).T > 0, p, -1))),
    Case("Expand", (values(2, 1), integers(2, 5)), back_to(lambda p: np.broadcast_to(p, (2, 5)))),
    Case("Tile", (values(2, 3), integers(2, 2)), back_to(lambda p: np.tile(p, (2, 2)))),
    Case(
        "Pad", (values(2, 3), integers(0, 1, 0, 1)), back_to(lambda p: np.pad(p, ((0, 0), (1, 1)), constant_values=-1))
    ),
    Case(
        "Pad",
        (values(2, 3), integers(0, 1, 0, 1)),
        back_to(lambda p: np.pad(p, ((0, 0), (1, 1)), mode="reflect")),
        {"mode": "reflect"},
    ),
    Case("Gather", (values(5, 3), integers(1, 4, 1)), scattered(lambda p: p[[1, 4, 1]])),
    Case("GatherElements", (values(3, 2), integers([0, 2])), scattered(lambda p: p[[0, 2], [0, 1]])),
    Case("GatherND", (values(3, 2), integers([2], [2])), scattered(lambda p: p[[2, 2]])),
    Case("ScatterElements", (values(3, 2), integers([1, 2]), values(1, 2)), overwritten),
    Case(
        "MaxPool",
        (values(1, 2, 4, 4),),
        pooled(False, (2, 2), (2, 2), False),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    Case(
        "MaxPool",
        (values(1, 1, 5, 5),),
        pooled(False, (3, 3), (2, 2), True),
        {"kernel_shape": [3, 3], "strides": [2, 2]},
    ),
    Case(
        "AveragePool",
        (values(1, 2, 4, 4),),
        pooled(True, (2, 2), (2, 2), False),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    Case("AveragePool", (values(1, 1, 4, 3),), pooled(True, (2, 2), (1, 1), True), {"kernel_shape": [2, 2]}),
    Case("Resize", (values(1, 1, 3), None, SCALES), linear_resize, {"mode": "linear"}),
    Case(
        "Resize",
        (values(1, 1, 3), None, SCALES),
        back_to(lambda p: np.repeat(p, 2, axis=2)),
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
]

# ---- dense


def matmul(r: Run) -> Any:
    a, b = r.x
    da = np.matmul(r.g, np.swapaxes(b, -1, -2))
    db = np.matmul(np.swapaxes(a, -1, -2), r.g)
    return {0: unbroadcast(da, a.shape), 1: unbroadcast(db, b.shape)}


def gemm(alpha: float, beta: float, trans_a: int, trans_b: int) -> Any:
    def backward(r: Run) -> Any:
        a, b, _ = r.x
        h = r.g if alpha == 1 else r.g * alpha
        left, right = (a.T if trans_a else a), (b.T if trans_b else b)
        da, db = np.matmul(h, right.T), np.matmul(left.T, h)
        dc = unbroadcast(r.g, r.floats[2].shape)
        return {0: da.T if trans_a else da, 1: db.T if trans_b else db, 2: dc if beta == 1 else dc * beta}

    return backward


def summed(products: list[tuple[Any, Any]], zeros: Any, *, assign: bool) -> Any:
    """Add products to their places; with `assign` the first one of a place is assigned."""
    seen: set[Any] = set()
    for place, product in products:
        zeros[place] = product if assign and place not in seen else zeros[place] + product
        seen.add(place)
    return zeros


def convolution(strides: Any, pads: Any, group: int) -> Any:
    def backward(r: Run) -> Any:
        x, w, _ = r.floats
        before, after = pads[: x.ndim - 2], pads[x.ndim - 2 :]
        padded = r.save(np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)]))
        taps, g = r.save(w), r.g
        dx_terms, dw_terms = [], []
        for n, f, *out in np.ndindex(g.shape):
            for c, *tap in np.ndindex(w.shape[1:]):
                where = tuple(o * s + t for o, s, t in zip(out, strides, tap, strict=True))
                channel = f // (w.shape[0] // group) * w.shape[1] + c
                here = (n, channel, *where)
                dx_terms.append((here, g[(n, f, *out)] * taps[(f, c, *tap)]))
                dw_terms.append(((f, c, *tap), g[(n, f, *out)] * padded[here]))
        dx = summed(dx_terms, r.save(np.zeros(padded.shape)), assign=False)
        inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape[2:], strict=True))
        dw = summed(dw_terms, r.zeros(1), assign=True)
        return {0: dx[(slice(None), slice(None), *inside)], 1: dw, 2: per_channel(g)}

    return backward


def transposed_convolution(stride: int) -> Any:
    def backward(r: Run) -> Any:
        x, w, _ = r.floats
        g, data, taps = r.g, r.x[0], r.x[1]
        dx_terms, dw_terms = [], []
        for n, c, i in np.ndindex(x.shape):
            for f, k in np.ndindex(w.shape[1:]):
                gradient = g[n, f, i * stride + k]
                dx_terms.append(((n, c, i), gradient * taps[c, f, k]))
                dw_terms.append(((c, f, k), gradient * data[n, c, i]))
        dx, dw = summed(dx_terms, r.zeros(0), assign=True), summed(dw_terms, r.zeros(1), assign=True)
        return {0: dx, 1: dw, 2: per_channel(g)}

    return backward


def einsum(equation: str) -> Any:
    """Every gradient by a loop over all labels of the equation, in pairs from left to right."""
    left, right = equation.split("->")
    terms = left.split(",")

    def backward(r: Run) -> Any:
        sizes = {
            label: n for term, x in zip(terms, r.floats, strict=True) for label, n in zip(term, x.shape, strict=True)
        }
        return {
            k: contracted([right, *terms[:k], *terms[k + 1 :]], [r.g, *r.x[:k], *r.x[k + 1 :]], terms[k], sizes, r)
            for k in range(len(terms))
        }

    return backward


def contracted(terms: list[str], operands: list[Any], output: str, sizes: dict[str, int], r: Run) -> Any:
    labels, values = terms[0], operands[0]
    for position, (term, operand) in enumerate(zip(terms[1:], operands[1:], strict=True), start=2):
        needed = set(output).union(*terms[position:])
        kept = "".join(label for label in dict.fromkeys(labels + term) if label in needed)
        everything = "".join(dict.fromkeys(labels + term))
        products = []
        for index in itertools.product(*(range(sizes[label]) for label in everything)):
            at = dict(zip(everything, index, strict=True))
            product = values[tuple(at[x] for x in labels)] * operand[tuple(at[x] for x in term)]
            products.append((tuple(at[x] for x in kept), product))
        values = summed(products, r.save(np.zeros([sizes[x] for x in kept])), assign=True)
        labels = kept
    return np.transpose(values, [labels.index(label) for label in output])


DENSE = [
    Case("MatMul", (values(2, 3, 4), values(4, 5)), matmul),
    Case("MatMul", (values(2, 1, 3, 2), values(3, 2, 4)), matmul),
    Case("Gemm", (values(1, 4), values(4, 3), values(3)), gemm(1, 1, 0, 0)),
    Case(
        "Gemm",
        (values(3, 2), values(4, 3), values(2, 1)),
        gemm(0.5, 2.0, 1, 1),
        {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1},
    ),
    Case(
        "Conv",
        (values(1, 3, 4, 4), values(2, 3, 3, 3), values(2)),
        convolution((1, 1), (1, 1, 1, 1), 1),
        {"pads": [1] * 4},
    ),
    Case(
        "Conv",
        (values(2, 4, 5), values(4, 2, 3), values(4)),
        convolution((2,), (0, 1), 2),
        {"pads": [0, 1], "strides": [2], "group": 2},
    ),
    Case("ConvTranspose", (values(1, 2, 3), values(2, 2, 3), values(2)), transposed_convolution(2), {"strides": [2]}),
    Case("Einsum", (values(2, 3), values(3, 4)), einsum("ij,jk->ik"), {"equation": "ij,jk->ik"}),
    Case("Einsum", (values(2, 2, 3), values(2, 4, 3)), einsum("bid,bjd->bij"), {"equation": "bid,bjd->bij"}),
    Case(
        "Einsum",
        (values(2, 3), values(3, 4), values(4, 2)),
        einsum("ij,jk,kl->il"),
        {"equation": "ij,jk,kl->il"},
    ),
]

CASES = [*ELEMENTWISE, *ACTIVATIONS, *NORMALIZATION, *REDUCTIONS, *MOVEMENT, *DENSE]


def label(case: Case) -> str:
    shapes = "x".join(str(list(np.shape(value))) for value in case.inputs)
    return f"{case.op_type}-{shapes}-{case.attributes}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_rule_counts_what_the_gradient_does(case: Case) -> None:
    tally, gradients, run = executed(case)
    for position, gradient in gradients.items():
        assert gradient.shape == case.inputs[position].shape
        assert_allclose(gradient, by_differences(case, position, run.incoming), rtol=2e-4, atol=1e-5)
    assert counted(case, frozenset(gradients), run.result).basic_operations() == tally


@pytest.mark.parametrize("case", [*DENSE], ids=label)
def test_macs_of_a_gradient_are_those_of_the_product(case: Case) -> None:
    _, gradients, run = executed(case)
    counts = {k: counted(case, frozenset({k}), run.result) for k in gradients}
    together = counted(case, frozenset(gradients), run.result)
    assert together.macs == sum(each.macs for each in counts.values())
    assert all(counts[k].macs > 0 for k in counts if k < 2)


RECURRENT = {"LSTM", "GRU", "RNN"}
BY_NAME = {case.op_type for case in CASES} | RECURRENT
# Moves without a case of their own are of the same kind as one that has: a permutation, a view, a choice of elements.
SAME_KIND = {
    *("Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "CastLike", "SpaceToDepth", "DepthToSpace", "Concat"),
    *("ReverseSequence", "Compress", "Col2Im", "MaxUnpool", "TopK", "Split", "CenterCropPad", "Scatter", "ScatterND"),
    *("Upsample", "SimplifiedLayerNormalization"),
}


# No derivative that differences could confirm: see `test_straight_through`.
ESTIMATED = {"QuantizeLinear", "DequantizeLinear"}


def test_every_backward_rule_is_tested() -> None:
    computing = {rule.op_type for rule in all_backward_rules() if not rule.stops and not rule.domain}
    assert computing - BY_NAME - SAME_KIND - ESTIMATED == set()
