"""The two network families of the TO paper (Table IV) as ONNX models.

Feed-forward: 4-w-w-w-1, w = 4..18, an activation behind every layer. Convolutional: 256 x 256 x 3 images, 2 to 10
layers of 32 channels with GELU; kernels 3 (layers 1 to 6), then 4, 5, 6, 7. The paper leaves padding, pooling and the
head open: windows are kept, layer 1 is followed by a 2 x 2 pooling (256 to 128), and the mean of each channel feeds one
linear output. None of that depends on the width or the depth, so that it does not touch a slope over the family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

Family = Literal["DNN", "CNN"]
FEED_FORWARD_WIDTHS = range(4, 19)
CONVOLUTIONAL_DEPTHS = range(2, 11)
ACTIVATIONS = {"Sigmoid": "Sigmoid", "Tanh": "Tanh", "GELU": "Gelu"}
"""The paper's names of its activations, and their ONNX operators."""
FEED_FORWARD_BATCH = 64
"""Instances per call, the paper's mini-batch; its batches of images would take gigabytes of activations, so those run
one by one."""
_CHANNELS = 32
_KERNELS = (3, 3, 3, 3, 3, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Network:
    """One network of the experiment.

    Attributes:
        family: "DNN" (the paper's name for its feed-forward networks) or "CNN".
        activation: as the paper names it: Sigmoid, Tanh or GELU.
        size: width of a DNN, layers of a CNN.
        batch: instances per call.
    """

    family: Family
    activation: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        """For example ``DNN-Sigmoid-4``."""
        return f"{self.family}-{self.activation}-{self.size}"

    def model(self, batch: int | None = None) -> onnx.ModelProto:
        """The network for calls of that many instances; its own batch unless given."""
        instances = self.batch if batch is None else batch
        if self.family == "CNN":
            return convolutional(self.size, batch=instances)
        return feed_forward(self.size, ACTIVATIONS[self.activation], batch=instances)


def paper_networks() -> Iterator[Network]:
    """The 45 feed-forward and 9 convolutional networks."""
    for activation in ACTIVATIONS:
        for width in FEED_FORWARD_WIDTHS:
            yield Network("DNN", activation, width, FEED_FORWARD_BATCH)
    for depth in CONVOLUTIONAL_DEPTHS:
        yield Network("CNN", "GELU", depth, 1)


class _Chain:
    """Nodes in a row; weights are random, of deviation 1 / sqrt(fan-in), so that no denormals are timed."""

    def __init__(self, shape: list[int]) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape = shape
        self.last = "x"

    def weight(self, *shape: int, fan_in: int) -> str:
        name = f"w{len(self.weights)}"
        numbers = self.random.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(fan_in))
        self.weights.append(numpy_helper.from_array(numbers, name))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: object) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *inputs], [output], output, **attributes))
        self.last = output

    def model(self) -> onnx.ModelProto:
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "paper",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [self.shape[0], 1])],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def feed_forward(width: int, activation: str = "Sigmoid", *, batch: int = 1) -> onnx.ModelProto:
    """4-w-w-w-1 with the activation, an ONNX operator, behind each of its four layers; x[batch, 4] -> y[batch, 1]."""
    chain = _Chain([batch, 4])
    for inputs, outputs in pairwise((4, width, width, width, 1)):
        chain.add("Gemm", chain.weight(inputs, outputs, fan_in=inputs), chain.weight(outputs, fan_in=inputs))
        chain.add(activation)
    return chain.model()


def convolutional(depth: int, *, batch: int = 1) -> onnx.ModelProto:
    """`depth` convolutions with GELU; x[batch, 3, 256, 256] -> y[batch, 1]."""
    chain = _Chain([batch, 3, 256, 256])
    channels = 3
    for layer, kernel in enumerate(_KERNELS[:depth]):
        fan_in = channels * kernel * kernel
        weights = (
            chain.weight(_CHANNELS, channels, kernel, kernel, fan_in=fan_in),
            chain.weight(_CHANNELS, fan_in=fan_in),
        )
        before, after = (kernel - 1) // 2, kernel // 2
        chain.add("Conv", *weights, pads=[before, before, after, after])
        chain.add("Gelu")
        if layer == 0:
            chain.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
        channels = _CHANNELS
    chain.add("GlobalAveragePool")
    chain.add("Flatten")
    chain.add("Gemm", chain.weight(_CHANNELS, 1, fan_in=_CHANNELS), chain.weight(1, fan_in=_CHANNELS))
    return chain.model()
