"""Shapes of operators on images whose channels stand last: [n, ..., c].

Those of the domain com.ms.internal.nhwc are onnxruntime's own, written within a session. Weights, statistics and grids
are stored as for the operator of the same name of ai.onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from onnx_aiwq.graph.own_shapes import Facts, OutputShape, Typed, max_unpool
from onnx_aiwq.graph.windows import transposed_windows, windows

_LAST = "com.ms.internal.nhwc"


def channels_last_conv(facts: Facts) -> Sequence[OutputShape]:
    """Of a convolution: X[n, ..., c], W[f, c / group, ...]."""
    return _convolution(facts, weight=1)


def channels_last_pool(facts: Facts) -> Sequence[OutputShape]:
    """Of a pooling; a second output holds positions."""
    shape = facts.shape(0)
    if shape is None:
        return []
    dims = (shape[0], *windows(shape[1:-1], facts.attributes["kernel_shape"], facts.attributes), shape[-1])
    return [Typed(facts.number(0), dims), Typed(onnx.TensorProto.INT64, dims)]


def _convolution(facts: Facts, weight: int) -> Sequence[OutputShape]:
    shape, weights = facts.shape(0), facts.shape(weight)
    if shape is None or weights is None:
        return []
    kernel = facts.attributes.get("kernel_shape") or weights[2:]
    return [Typed(facts.number(0), (shape[0], *windows(shape[1:-1], kernel, facts.attributes), weights[0]))]


def _quantized_convolution(facts: Facts) -> Sequence[OutputShape]:
    return [Typed(facts.number(7), shape.dims) for shape in _convolution(facts, 3) if isinstance(shape, Typed)]


def _transposed_convolution(weight: int, like: int) -> Callable[[Facts], Sequence[OutputShape]]:
    def rule(facts: Facts) -> Sequence[OutputShape]:
        shape, weights, given = facts.shape(0), facts.shape(weight), facts.attributes
        if shape is None or weights is None:
            return []
        spatial = transposed_windows(shape[1:-1], given.get("kernel_shape") or weights[2:], given)
        return [Typed(facts.number(like), (shape[0], *spatial, weights[1] * given.get("group", 1)))]

    return rule


def _global_pool(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    return [] if shape is None else [Typed(facts.number(0), (shape[0], *(1 for _ in shape[1:-1]), shape[-1]))]


def _like_first(facts: Facts) -> Sequence[OutputShape]:
    return facts.inputs[:1]


def _batch_normalization(facts: Facts) -> Sequence[OutputShape]:
    return [facts.inputs[0], *facts.inputs[3:5]]


def _grid_sample(facts: Facts) -> Sequence[OutputShape]:
    shape, grid = facts.shape(0), facts.shape(1)
    return [] if shape is None or grid is None else [Typed(facts.number(0), (shape[0], *grid[1:-1], shape[-1]))]


def _max_unpool(facts: Facts) -> Sequence[OutputShape]:
    """The given output shape, as every shape that is an input, is that of ai.onnx: [n, c, ...]."""
    shape = facts.shape(0)
    if shape is None:
        return []
    found = max_unpool(facts, (shape[0], shape[-1], *shape[1:-1]))
    return [Typed(facts.number(0), (found[0], *found[2:], found[1]))]


def _depth_to_space(sign: int) -> Callable[[Facts], Sequence[OutputShape]]:
    def rule(facts: Facts) -> Sequence[OutputShape]:
        shape, block = facts.shape(0), facts.attributes["blocksize"]
        if shape is None:
            return []
        batch, height, width, channels = shape
        if sign > 0:
            return [Typed(facts.number(0), (batch, height * block, width * block, channels // block**2))]
        return [Typed(facts.number(0), (batch, height // block, width // block, channels * block**2))]

    return rule


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    (_LAST, "AveragePool"): channels_last_pool,
    (_LAST, "BatchNormalization"): _batch_normalization,
    (_LAST, "Conv"): channels_last_conv,
    (_LAST, "ConvTranspose"): _transposed_convolution(1, like=0),
    (_LAST, "DepthToSpace"): _depth_to_space(1),
    (_LAST, "GlobalAveragePool"): _global_pool,
    (_LAST, "GlobalLpPool"): _global_pool,
    (_LAST, "GlobalMaxPool"): _global_pool,
    (_LAST, "GridSample"): _grid_sample,
    (_LAST, "InstanceNormalization"): _like_first,
    (_LAST, "LRN"): _like_first,
    (_LAST, "LpPool"): channels_last_pool,
    (_LAST, "MaxPool"): channels_last_pool,
    (_LAST, "MaxUnpool"): _max_unpool,
    (_LAST, "QLinearAveragePool"): channels_last_pool,
    (_LAST, "QLinearConv"): _quantized_convolution,
    (_LAST, "QLinearConvTranspose"): _transposed_convolution(3, like=7),
    (_LAST, "SpaceToDepth"): _depth_to_space(-1),
}
