"""The two network families of the TO paper (Table IV) as ONNX models, and the slope of TO regressed on FLOP.

Feed-forward: 4-w-w-w-1, w = 4..18, an activation behind every layer. Convolutional: 256 x 256 x 3 images, 2 to 10
layers of 32 channels with GELU; kernels 3 (layers 1 to 6), then 4, 5, 6, 7. The paper leaves padding, pooling and the
head open: windows are kept, layer 1 is followed by a 2 x 2 pooling (256 to 128), and the mean of each channel feeds one
linear output. None of that depends on the width or the depth, so that it does not touch the slope.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
from onnx import helper, numpy_helper

FEED_FORWARD_WIDTHS = range(4, 19)
CONVOLUTIONAL_DEPTHS = range(2, 11)
_CHANNELS = 32
_KERNELS = (3, 3, 3, 3, 3, 3, 4, 5, 6, 7)


class _Builder:
    """A chain of nodes; weights are initializers of zeros."""

    def __init__(self, shape: list[int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape
        self.last = "x"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: object) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *inputs], [output], **attributes))
        self.last = output

    def model(self) -> onnx.ModelProto:
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "paper",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def feed_forward(width: int, activation: str = "Sigmoid") -> onnx.ModelProto:
    """4-w-w-w-1 with the activation behind each of its four layers."""
    builder = _Builder([1, 4])
    sizes = (4, width, width, width, 1)
    for inputs, outputs in pairwise(sizes):
        builder.add("Gemm", builder.weight(inputs, outputs), builder.weight(outputs))
        builder.add(activation)
    return builder.model()


def convolutional(depth: int) -> onnx.ModelProto:
    """`depth` convolutions with GELU."""
    builder = _Builder([1, 3, 256, 256])
    channels = 3
    for layer, kernel in enumerate(_KERNELS[:depth]):
        weights = builder.weight(_CHANNELS, channels, kernel, kernel), builder.weight(_CHANNELS)
        before, after = (kernel - 1) // 2, kernel // 2
        builder.add("Conv", *weights, pads=[before, before, after, after])
        builder.add("Gelu")
        if layer == 0:
            builder.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
        channels = _CHANNELS
    builder.add("GlobalAveragePool")
    builder.add("Flatten")
    builder.add("Gemm", builder.weight(_CHANNELS, 1), builder.weight(1))
    return builder.model()


def slope(models: list[onnx.ModelProto], measure: Callable[[onnx.ModelProto], tuple[float, float]]) -> float:
    """The slope of y on x by least squares, (x, y) measured on every model."""
    x, y = np.array([measure(model) for model in models]).T
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
