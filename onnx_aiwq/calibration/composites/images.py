"""Blocks of convolutional networks, [batch, channels, height, width] to the same, with sizes drawn at random.

Each is a pattern that published networks are made of, never one of those networks: what is learnt from them is how
an operator runs between the neighbours that it has in practice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnx_aiwq.calibration.composites.builder import Builder, Value

Block = Callable[[Builder, Value], Value]
ACTIVATIONS = ("Relu", "Clip6", "Silu", "HardSwish", "LeakyRelu", "Sigmoid", "GeluErf", "Tanh", "PRelu", "none")
_ACTIVATION_SHARES = (9.0, 3.0, 3.0, 2.0, 1.0, 0.7, 1.0, 0.5, 0.4, 2.0)
_MOST_CHANNELS = 2048


def activation(b: Builder) -> str:
    """The kind of an activation, common ones more often."""
    return str(b.pick(*ACTIVATIONS, weights=_ACTIVATION_SHARES))


def conv(
    b: Builder,
    x: Value,
    channels: int,
    kernel: int | tuple[int, ...] = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    act: str = "none",
    bias: bool = True,
) -> Value:
    """A convolution with padding that keeps the size (but for the stride), and its activation."""
    n, c, *image = x.shape
    kernels = (kernel,) * len(image) if isinstance(kernel, int) else kernel
    pads = [dilation * (k - 1) // 2 for k in kernels]
    fan_in = c // groups * math.prod(kernels)
    inputs = [x.name, b.weight(channels, c // groups, *kernels, fan_in=fan_in, scale=1.2)]
    if bias:
        inputs.append(b.weight(channels, scale=0.1))
    sizes = [
        (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        for size, pad, k in zip(image, pads, kernels, strict=True)
    ]
    attributes = {"strides": [stride] * len(image), "pads": pads * 2, "group": groups, "kernel_shape": list(kernels)}
    result = b.node("Conv", inputs, (n, channels, *sizes), dilations=[dilation] * len(image), **attributes)
    return b.activation(result, act)


def batch_norm(b: Builder, x: Value) -> Value:
    """Batch normalisation."""
    c = x.shape[1]
    weights = [b.weight(c, offset=1.0, scale=0.1), b.weight(c, scale=0.1), b.weight(c, scale=0.1)]
    variance = b.weight(c, offset=1.0, scale=0.05)
    return b.node("BatchNormalization", [x.name, *weights, variance], x.shape)


def _stride(b: Builder, x: Value) -> int:
    return 2 if min(x.shape[2:]) >= 8 and b.chance(0.3) else 1


def _channels_near(b: Builder, x: Value, low: float = 0.4, high: float = 2.5) -> int:
    c = x.shape[1]
    return min(_MOST_CHANNELS, b.width(max(8, int(c * low)), max(16, int(c * high))))


def plain(b: Builder, x: Value) -> Value:
    """Convolution, batch normalisation at times, activation."""
    kernel = b.pick(1, 3, 5, 7, (1, 3), (3, 1), (1, 7), weights=(4, 6, 1, 0.5, 0.4, 0.4, 0.3))
    dilation = b.pick(1, 2, 4, weights=(12, 1, 0.5)) if kernel == 3 else 1
    y = conv(b, x, _channels_near(b, x), kernel, stride=_stride(b, x), dilation=dilation, bias=b.chance(0.8))
    return b.activation(batch_norm(b, y) if b.chance(0.3) else y, activation(b))


def grouped(b: Builder, x: Value) -> Value:
    """A convolution in groups, followed by a shuffle of channels at times."""
    groups = b.pick(2, 3, 4, 8, 16, 32)
    per_group = b.log_int(4, max(5, min(64, _MOST_CHANNELS // groups)))
    x = conv(b, x, per_group * groups, 1, act="Relu") if x.shape[1] % groups else x
    channels = groups * b.log_int(4, 64)
    y = conv(b, x, channels, b.pick(1, 3), stride=_stride(b, x), groups=groups, act=b.pick("Relu", "none"))
    return shuffle(b, y, groups) if b.chance(0.5) else y


def shuffle(b: Builder, x: Value, groups: int) -> Value:
    """Interleave the channels of groups."""
    n, c, h, w = x.shape
    apart = b.reshape(x, (n, groups, c // groups, h, w))
    return b.reshape(b.transpose(apart, 0, 2, 1, 3, 4), (n, c, h, w))


def depthwise(b: Builder, x: Value) -> Value:
    """A convolution of every channel by itself, and a 1x1 convolution."""
    kernel = b.pick(3, 5, 7, weights=(5, 3, 1))
    y = conv(b, x, x.shape[1], kernel, stride=_stride(b, x), groups=x.shape[1], act=activation(b))
    return conv(b, y, _channels_near(b, x), 1, act=activation(b))


def squeeze_excite(b: Builder, x: Value, ratio: int) -> Value:
    """Scale channels by what a small network makes of their means."""
    n, c, _, _ = x.shape
    small = max(4, c // ratio)
    if b.chance(0.3):
        pooled = b.node("ReduceMean", [x.name, b.integers([2, 3])], (n, c, 1, 1), keepdims=1)
    else:
        pooled = b.node("GlobalAveragePool", [x.name], (n, c, 1, 1))
    inner = conv(b, pooled, small, 1, act=b.pick("Relu", "Silu"))
    return b.mul(x, conv(b, inner, c, 1, act=b.pick("Sigmoid", "HardSigmoid")))


def inverted_residual(b: Builder, x: Value) -> Value:
    """Expand, depthwise, squeeze and excite at times, project, add."""
    c = x.shape[1]
    act, stride = activation(b), _stride(b, x)
    wide = min(_MOST_CHANNELS, c * b.pick(2, 3, 4, 6))
    y = conv(b, x, wide, 1, act=act)
    y = conv(b, y, wide, b.pick(3, 5), stride=stride, groups=wide, act=act)
    if b.chance(0.4):
        y = squeeze_excite(b, y, b.pick(4, 8, 16, 24))
    y = conv(b, y, c if stride == 1 else _channels_near(b, x), 1)
    return b.add(y, x) if stride == 1 else y


def residual(b: Builder, x: Value) -> Value:
    """A basic or bottleneck block with a shortcut; in groups, or with squeeze and excitation, at times."""
    stride, act = _stride(b, x), b.pick("Relu", "Silu", "LeakyRelu", weights=(5, 1, 1))
    channels = x.shape[1] if stride == 1 and b.chance(0.7) else _channels_near(b, x)
    if b.chance(0.5):
        inner = max(8, channels // b.pick(2, 4))
        groups = b.pick(1, 8, 32, weights=(4, 1, 1))
        groups = groups if inner % groups == 0 else 1
        y = conv(b, x, inner, 1, act=act)
        y = conv(b, y, inner, 3, stride=stride, groups=groups, act=act)
        y = conv(b, y, channels, 1)
    else:
        y = conv(b, conv(b, x, channels, 3, stride=stride, act=act), channels, 3)
    if b.chance(0.15):
        y = squeeze_excite(b, y, 16)
    shortcut = x if y.shape == x.shape else conv(b, x, channels, 1, stride=stride)
    return b.activation(b.add(y, shortcut), act)


def dense(b: Builder, x: Value) -> Value:
    """Layers that each see all before them, with the normalisation in front of the convolution."""
    growth = b.log_int(12, 48, 4)
    for _ in range(b.pick(1, 2, 3)):
        y = b.activation(batch_norm(b, x), "Relu")
        y = conv(b, y, growth * 4, 1, bias=False)
        y = conv(b, b.activation(batch_norm(b, y), "Relu"), growth, 3, bias=False)
        x = b.concat([x, y], 1)
    return x


def branches(b: Builder, x: Value) -> Value:
    """Parallel convolutions of several sizes and a pool, joined."""
    parts = [conv(b, x, b.width(16, 192), 1, act="Relu")]
    for kernel in (3, 5):
        inner = conv(b, x, b.width(16, 128), 1, act="Relu")
        parts.append(conv(b, inner, b.width(16, 192), kernel, act="Relu"))
    kind = b.pick("MaxPool", "AveragePool")
    parts.append(conv(b, _pool(b, x, kind, 3, 1), b.width(16, 128), 1, act="Relu"))
    return b.concat(parts, 1)


def _pool(b: Builder, x: Value, kind: str, kernel: int, stride: int) -> Value:
    pad = kernel // 2 if kernel % 2 else 0
    n, c, *image = x.shape
    sizes = [(size + 2 * pad - kernel) // stride + 1 for size in image]
    attributes = {
        "kernel_shape": [kernel] * len(image),
        "strides": [stride] * len(image),
        "pads": [pad] * 2 * len(image),
    }
    return b.node(kind, [x.name], (n, c, *sizes), **attributes)


def pool(b: Builder, x: Value) -> Value:
    """A maximum or an average over windows."""
    kernel, stride = b.pick((3, 2), (2, 2), (3, 1), (5, 1), weights=(3, 3, 1, 1))
    if min(x.shape[2:]) < 2 * kernel:
        stride = 1
        kernel = 3
    return _pool(b, x, b.pick("MaxPool", "AveragePool"), kernel, stride)


def pyramid(b: Builder, x: Value) -> Value:
    """Pools behind one another, all joined: spatial pyramid pooling."""
    x = conv(b, x, max(8, x.shape[1] // 2), 1, act="Silu")
    levels = [x]
    for _ in range(3):
        levels.append(_pool(b, levels[-1], "MaxPool", 5, 1))
    return b.concat(levels, 1)


def partial(b: Builder, x: Value) -> Value:
    """Half of the channels pass by a few convolutions: a cross-stage partial block."""
    half = max(8, x.shape[1] // 2)
    act = b.pick("Silu", "LeakyRelu", "Relu")
    if b.chance(0.5):
        left, right = conv(b, x, half, 1, act=act), conv(b, x, half, 1, act=act)
    else:
        left, right = b.split(conv(b, x, 2 * half, 1, act=act), 2, 1)
    for _ in range(b.pick(1, 2)):
        right = b.add(right, conv(b, conv(b, right, half, 1, act=act), half, 3, act=act))
    return conv(b, b.concat([left, right], 1), 2 * half, 1, act=act)


def local_response(b: Builder, x: Value) -> Value:
    """Local response normalisation over channels."""
    return b.unary("LRN", x, size=5, alpha=1e-4, beta=0.75)


def group_norm(b: Builder, x: Value, groups: int) -> Value:
    """Group normalisation as exporters write it: an instance normalisation over reshaped channels."""
    n, c, h, w = x.shape
    apart = b.reshape(x, (n, groups, c // groups * h * w))
    ones, zeros = b.weight(groups, offset=1.0, scale=0.0), b.weight(groups, scale=0.0)
    normal = b.reshape(b.node("InstanceNormalization", [apart.name, ones, zeros], apart.shape), x.shape)
    scaled = b.node("Mul", [normal.name, b.weight(c, 1, 1, offset=1.0, scale=0.1)], x.shape)
    return b.node("Add", [scaled.name, b.weight(c, 1, 1, scale=0.1)], x.shape)


def normalised_residual(b: Builder, x: Value) -> Value:
    """Group normalisation, SiLU, convolution, twice, and the input: a block of a diffusion network."""
    groups = 32 if x.shape[1] % 32 == 0 else 1
    channels = x.shape[1]
    y = conv(b, b.activation(group_norm(b, x, groups), "Silu"), channels, 3)
    step = b.gemm(b.input((1, 256)), channels)
    y = b.node("Add", [y.name, b.reshape(step, (1, channels, 1, 1)).name], y.shape)
    return b.add(conv(b, b.activation(group_norm(b, y, groups), "Silu"), channels, 3), x)


def upsample(b: Builder, x: Value) -> Value:
    """Twice the size by interpolation or by a transposed convolution."""
    n, c, h, w = x.shape
    if h * w * c > 250_000:
        return plain(b, x)
    if b.chance(0.4):
        channels = max(8, c // 2)
        kernel, pad = b.pick((2, 0), (4, 1), (3, 1))
        extra = 1 if kernel == 3 else 0
        weight = b.weight(c, channels, kernel, kernel, fan_in=c * kernel)
        attributes = {"strides": [2, 2], "pads": [pad] * 4, "output_padding": [extra] * 2}
        inputs = [x.name, weight, b.weight(channels, scale=0.1)]
        return b.node("ConvTranspose", inputs, (n, channels, 2 * h, 2 * w), kernel_shape=[kernel] * 2, **attributes)
    mode = b.pick("nearest", "linear")
    place = "asymmetric" if mode == "nearest" else b.pick("half_pixel", "align_corners")
    factors = b.constant(np.asarray([1, 1, 2, 2], np.float32))
    how = {"mode": mode, "coordinate_transformation_mode": place, "nearest_mode": "floor"}
    y = b.node("Resize", [x.name, "", factors], (n, c, 2 * h, 2 * w), **how)
    return conv(b, b.concat([y, y], 1), max(8, c // 2), 3, act=activation(b)) if b.chance(0.4) else y


def channels_last(b: Builder, x: Value) -> Value:
    """Depthwise convolution, then layer normalisation and two products over channels that stand last."""
    c = x.shape[1]
    y = b.transpose(conv(b, x, c, 7, groups=c), 0, 2, 3, 1)
    y = b.node(
        "LayerNormalization", [y.name, b.weight(c, offset=1.0, scale=0.1), b.weight(c, scale=0.1)], y.shape, axis=-1
    )
    y = b.matmul(b.activation(b.matmul(y, 4 * c), "GeluErf"), c)
    y = b.node("Mul", [b.weight(c, scale=0.5), y.name], y.shape)
    return b.add(b.transpose(y, 0, 3, 1, 2), x)


def classifier(b: Builder, x: Value) -> Value:
    """A branch to class scores: a global pool or all elements, and fully connected layers; it ends in an output."""
    n, c, h, w = x.shape
    if c * h * w <= 25_088 and b.chance(0.4):
        y = b.node("Flatten", [x.name], (n, c * h * w), axis=1)
    else:
        pooled = b.node(b.pick("GlobalAveragePool", "GlobalMaxPool", weights=(5, 1)), [x.name], (n, c, 1, 1))
        y = b.node("Flatten", [pooled.name], (n, c), axis=1)
    for _ in range(b.pick(0, 1)):
        y = b.activation(b.gemm(y, b.log_int(64, 4096)), "Relu")
    y = b.gemm(y, b.log_int(10, 2048))
    b.output(b.unary("Softmax", y, axis=-1) if b.chance(0.5) else y)
    return x


BLOCKS: tuple[tuple[Block, float], ...] = (
    (plain, 5),
    (grouped, 2),
    (depthwise, 3.5),
    (inverted_residual, 4),
    (residual, 3),
    (dense, 1.5),
    (branches, 1.5),
    (pool, 1.5),
    (pyramid, 0.7),
    (partial, 1),
    (local_response, 0.6),
    (normalised_residual, 1),
    (upsample, 1),
    (channels_last, 1.2),
    (classifier, 1.5),
)
"""What a network of images is drawn from, with how often."""
