"""Published CNN architectures as ONNX models without weights: by width, depth, resolution, batch and data type.

Batch normalisation is folded into the convolutions, as every runtime does before it infers; an activation that a
quantised convolution saturates to (ReLU, ReLU6) is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor [batch, channels, height, width] or [batch, features]."""

    name: str
    shape: Shape


class Writer:
    """One network in the making, in float32 or int8 (QLinearConv and its kin, uint8 activations, int8 weights)."""

    def __init__(self, batch: int, resolution: int, *, quantised: bool = False) -> None:
        self.quantised = quantised
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.input = Value("x", (batch, 3, resolution, resolution))
        if quantised:
            scalars = {"scale": np.float32(0.02), "zero": np.uint8(128), "even": np.int8(0)}
            self.weights += [numpy_helper.from_array(np.asarray(value), name) for name, value in scalars.items()]

    def _weight(self, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        name = f"w{len(self.weights)}"
        tensor = TensorProto(name=name, dims=shape, data_type=dtype, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="absent.weights")
        self.weights.append(tensor)
        return name

    def node(self, op_type: str, inputs: list[str], shape: Shape, *, domain: str = "", **attributes: object) -> Value:
        """Append a node with one output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name, domain=domain, **attributes))
        return Value(name, shape)

    def conv(
        self, value: Value, channels: int, kernel: int, stride: int = 1, *, groups: int = 1, act: str | None = "Relu"
    ) -> Value:
        """Convolution with "same" padding and a bias, then the activation."""
        batch, inputs, height, width = value.shape
        shape = (batch, channels, math.ceil(height / stride), math.ceil(width / stride))
        attributes: dict[str, object] = {"strides": [stride, stride], "group": groups, "auto_pad": "SAME_UPPER"}
        weights = (channels, inputs // groups, kernel, kernel)
        if self.quantised:
            names = [value.name, "scale", "zero", self._weight(*weights, dtype=TensorProto.INT8), "scale", "even"]
            names += ["scale", "zero", self._weight(channels, dtype=TensorProto.INT32)]
            return self.node("QLinearConv", names, shape, **attributes)
        made = self.node("Conv", [value.name, self._weight(*weights), self._weight(channels)], shape, **attributes)
        return self.activation(made, act)

    def activation(self, value: Value, kind: str | None) -> Value:
        """Relu, Relu6, HardSwish, Silu, HardSigmoid, Sigmoid or none."""
        if kind is None:
            return value
        if kind == "Silu":
            gate = self.node("Sigmoid", [value.name], value.shape)
            return self.node("Mul", [value.name, gate.name], value.shape)
        return self.node("Relu" if kind == "Relu6" else kind, [value.name], value.shape)

    def add(self, left: Value, right: Value, act: str | None = None) -> Value:
        """The end of a residual block."""
        if self.quantised:
            names = [left.name, "scale", "zero", right.name, "scale", "zero", "scale", "zero"]
            return self.node("QLinearAdd", names, left.shape, domain="com.microsoft")
        return self.activation(self.node("Add", [left.name, right.name], left.shape), act)

    def squeeze(self, value: Value, reduced: int, inner: str, gate: str) -> Value:
        """Squeeze and excitation; float32 only."""
        batch, channels, _, _ = value.shape
        pooled = self.node("GlobalAveragePool", [value.name], (batch, channels, 1, 1))
        scores = self.conv(self.conv(pooled, reduced, 1, act=inner), channels, 1, act=gate)
        return self.node("Mul", [value.name, scores.name], value.shape)

    def max_pool(self, value: Value, kernel: int, stride: int) -> Value:
        batch, channels, height, width = value.shape
        shape = (batch, channels, math.ceil(height / stride), math.ceil(width / stride))
        attributes = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "auto_pad": "SAME_UPPER"}
        return self.node("MaxPool", [value.name], shape, **attributes)

    def mean(self, value: Value) -> Value:
        """Global average pooling, flattened."""
        shape = (*value.shape[:2], 1, 1)
        if self.quantised:
            names = [value.name, "scale", "zero", "scale", "zero"]
            pooled = self.node("QLinearGlobalAveragePool", names, shape, domain="com.microsoft")
        else:
            pooled = self.node("GlobalAveragePool", [value.name], shape)
        return self.node("Flatten", [pooled.name], value.shape[:2])

    def dense(self, value: Value, features: int, act: str | None = None) -> Value:
        batch, inputs = value.shape
        if self.quantised:
            names = [value.name, "scale", "zero", self._weight(inputs, features, dtype=TensorProto.INT8), "scale"]
            return self.node("QLinearMatMul", [*names, "even", "scale", "zero"], (batch, features))
        names = [value.name, self._weight(inputs, features), self._weight(features)]
        return self.activation(self.node("Gemm", names, (batch, features)), act)

    def model(self, output: Value) -> onnx.ModelProto:
        kind = TensorProto.UINT8 if self.quantised else TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "architecture",
            [helper.make_tensor_value_info("x", kind, self.input.shape)],
            [helper.make_tensor_value_info(output.name, kind, output.shape)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _round_to_8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenet_v1(net: Writer, width: float) -> Value:
    """Howard et al. 2017; 569 million MACs at width 1 and 224 x 224."""
    value = net.conv(net.input, int(32 * width), 3, 2, act="Relu6")
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in layers:
        value = net.conv(value, value.shape[1], 3, stride, groups=value.shape[1], act="Relu6")
        value = net.conv(value, int(channels * width), 1, act="Relu6")
    return net.dense(net.mean(value), 1000)


def mobilenet_v2(net: Writer, width: float) -> Value:
    """Sandler et al. 2018; 300 million MACs at width 1 and 224 x 224."""
    value = net.conv(net.input, _round_to_8(32 * width), 3, 2, act="Relu6")
    blocks = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, repeats, stride in blocks:
        for repeat in range(repeats):
            hidden = value.shape[1] * expansion
            value = _inverted(
                net, value, hidden, _round_to_8(channels * width), 3, stride if not repeat else 1, "Relu6"
            )
    value = net.conv(value, _round_to_8(1280 * max(1.0, width)), 1, act="Relu6")
    return net.dense(net.mean(value), 1000)


def _inverted(
    net: Writer,
    value: Value,
    hidden: int,
    channels: int,
    kernel: int,
    stride: int,
    act: str,
    squeeze: Callable[[Value], Value] | None = None,
) -> Value:
    """Inverted residual: expand, depthwise, maybe squeeze and excitation, project."""
    inside = net.conv(value, hidden, 1, act=act) if hidden != value.shape[1] else value
    inside = net.conv(inside, hidden, kernel, stride, groups=hidden, act=act)
    inside = inside if squeeze is None else squeeze(inside)
    made = net.conv(inside, channels, 1, act=None)
    return net.add(made, value) if stride == 1 and channels == value.shape[1] else made


_V3_LARGE = (
    (3, 16, 16, 0, "Relu", 1), (3, 64, 24, 0, "Relu", 2), (3, 72, 24, 0, "Relu", 1), (5, 72, 40, 1, "Relu", 2),
    (5, 120, 40, 1, "Relu", 1), (5, 120, 40, 1, "Relu", 1), (3, 240, 80, 0, "HardSwish", 2),
    (3, 200, 80, 0, "HardSwish", 1), (3, 184, 80, 0, "HardSwish", 1), (3, 184, 80, 0, "HardSwish", 1),
    (3, 480, 112, 1, "HardSwish", 1), (3, 672, 112, 1, "HardSwish", 1), (5, 672, 160, 1, "HardSwish", 2),
    (5, 960, 160, 1, "HardSwish", 1), (5, 960, 160, 1, "HardSwish", 1),
)  # fmt: skip
_V3_SMALL = (
    (3, 16, 16, 1, "Relu", 2), (3, 72, 24, 0, "Relu", 2), (3, 88, 24, 0, "Relu", 1), (5, 96, 40, 1, "HardSwish", 2),
    (5, 240, 40, 1, "HardSwish", 1), (5, 240, 40, 1, "HardSwish", 1), (5, 120, 48, 1, "HardSwish", 1),
    (5, 144, 48, 1, "HardSwish", 1), (5, 288, 96, 1, "HardSwish", 2), (5, 576, 96, 1, "HardSwish", 1),
    (5, 576, 96, 1, "HardSwish", 1),
)  # fmt: skip


def mobilenet_v3(net: Writer, size: str) -> Value:
    """Howard et al. 2019, width 1; 219 (large) and 56 (small) million MACs at 224 x 224."""
    rows, last, features = (_V3_LARGE, 960, 1280) if size == "large" else (_V3_SMALL, 576, 1024)
    value = net.conv(net.input, 16, 3, 2, act="HardSwish")
    for kernel, hidden, channels, squeezed, act, stride in rows:
        reduced = _round_to_8(hidden / 4)

        def excite(inside: Value, reduced: int = reduced) -> Value:
            return net.squeeze(inside, reduced, "Relu", "HardSigmoid")

        value = _inverted(net, value, hidden, channels, kernel, stride, act, excite if squeezed else None)
    value = net.conv(value, last, 1, act="HardSwish")
    return net.dense(net.dense(net.mean(value), features, "HardSwish"), 1000)


_EFFICIENT = (
    (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2),
              (6, 3, 320, 1, 1))  # fmt: skip


def efficientnet(net: Writer, width: float, depth: float, *, lite: bool = False) -> Value:
    """Tan and Le 2019; 0.39 thousand million MACs for B0. Lite: ReLU6, no squeeze, stem, head and ends not scaled."""
    act = "Relu6" if lite else "Silu"
    value = net.conv(net.input, 32 if lite else _round_to_8(32 * width), 3, 2, act=act)
    for stage, (expansion, kernel, channels, repeats, stride) in enumerate(_EFFICIENT):
        fixed = lite and stage in (0, len(_EFFICIENT) - 1)
        for repeat in range(repeats if fixed else math.ceil(repeats * depth)):
            reduced = max(1, value.shape[1] // 4)

            def excite(inside: Value, reduced: int = reduced) -> Value:
                return net.squeeze(inside, reduced, "Silu", "Sigmoid")

            out, hidden = _round_to_8(channels * width), value.shape[1] * expansion
            step = stride if not repeat else 1
            value = _inverted(net, value, hidden, out, kernel, step, act, None if lite else excite)
    value = net.conv(value, 1280 if lite else _round_to_8(1280 * width), 1, act=act)
    return net.dense(net.mean(value), 1000)


def resnet(net: Writer, blocks: tuple[int, ...], *, groups: int = 1, group_width: int = 64) -> Value:
    """He et al. 2016 with the stride in the 3 x 3 convolution (v1.5), and ResNeXt; 4.1e9 MACs for ResNet-50."""
    value = net.max_pool(net.conv(net.input, 64, 7, 2), 3, 2)
    for stage, repeats in enumerate(blocks):
        for repeat in range(repeats):
            stride = 2 if stage and not repeat else 1
            inner, channels = groups * group_width << stage, 256 << stage
            shortcut = value if repeat else net.conv(value, channels, 1, stride, act=None)
            made = net.conv(net.conv(value, inner, 1), inner, 3, stride, groups=groups)
            value = net.add(net.conv(made, channels, 1, act=None), shortcut, "Relu")
    return net.dense(net.mean(value), 1000)


def vgg(net: Writer, convolutions: tuple[int, ...]) -> Value:
    """Simonyan and Zisserman 2015; 15.5e9 MACs for VGG-16."""
    value = net.input
    for channels, repeats in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(repeats):
            value = net.conv(value, channels, 3)
        value = net.max_pool(value, 2, 2)
    value = net.node("Flatten", [value.name], (value.shape[0], math.prod(value.shape[1:])))
    return net.dense(net.dense(net.dense(value, 4096, "Relu"), 4096, "Relu"), 1000)


_SCALES = {"0": (1.0, 1.0, 224), "1": (1.0, 1.1, 240), "2": (1.1, 1.2, 260), "3": (1.2, 1.4, 300), "4": (1.4, 1.8, 380),
           "5": (1.6, 2.2, 456), "6": (1.8, 2.6, 528), "7": (2.0, 3.1, 600)}  # fmt: skip
_LITE_RESOLUTIONS = {"0": 224, "1": 240, "2": 260, "3": 280, "4": 300}
_RESNETS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_VGGS = {"16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}


def build(name: str, batch: int, *, quantised: bool = False) -> onnx.ModelProto | None:
    """The network of a name in ``measured_energy.csv``; None where it is no architecture of this module."""
    plain = name.casefold().removesuffix("-quantized").removesuffix("-non").replace("_", "-")
    plain = {"mobilenet": "mobilenet-v1-1.0-224", "mobilenetv2": "mobilenet-v2-1.0-224"}.get(plain, plain)
    parts = plain.split("-")
    if plain.startswith(("mobilenet-v1-", "mobilenet-v2-")):
        net = Writer(batch, int(parts[3]), quantised=quantised)
        return net.model({"v1": mobilenet_v1, "v2": mobilenet_v2}[parts[1]](net, float(parts[2])))
    if plain.startswith("efficientnet-lite"):
        width, depth, _ = _SCALES[plain[-1]]
        net = Writer(batch, _LITE_RESOLUTIONS[plain[-1]], quantised=quantised)
        return net.model(efficientnet(net, width, depth, lite=True))
    if quantised:
        return None
    net = Writer(batch, 224)
    for size in ("large", "small"):
        if plain in (f"mobilenetv3{size}", f"mobilenet-v3-{size}-224-1.0-float"):
            return net.model(mobilenet_v3(net, size))
    if plain.startswith("efficientnetb"):
        width, depth, resolution = _SCALES[plain[-1]]
        net = Writer(batch, resolution)
        return net.model(efficientnet(net, width, depth))
    if plain.removeprefix("resnet") in _RESNETS:
        return net.model(resnet(net, _RESNETS[plain.removeprefix("resnet")]))
    if plain in ("resnext50", "resnext101"):
        group_width = 4 if plain == "resnext50" else 8
        return net.model(resnet(net, _RESNETS[plain.removeprefix("resnext")], groups=32, group_width=group_width))
    if plain.removeprefix("vgg") in _VGGS:
        return net.model(vgg(net, _VGGS[plain.removeprefix("vgg")]))
    return None
