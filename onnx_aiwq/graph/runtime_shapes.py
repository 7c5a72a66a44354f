"""Shapes of onnxruntime's own operators that the libraries do not know, or get wrong.

Many are another operator with something added; those are inferred as that operator (`STANDARD`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx

from onnx_aiwq.graph.channels_last_shapes import channels_last_conv, channels_last_pool
from onnx_aiwq.graph.own_shapes import Facts, Open, OutputShape, Typed
from onnx_aiwq.graph.windows import transposed_windows, windows

_MS, _BLOCKED = "com.microsoft", "com.microsoft.nchwc"
_TYPES = onnx.TensorProto

# Operator -> domain, name and version of the operator that gives it its shape, and how many inputs that reads.
STANDARD: dict[tuple[str, str], tuple[str, str, int, int]] = {
    ("", "DynamicSlice"): ("", "Slice", 10, 4),
    (_MS, "BiasSoftmax"): ("", "Softmax", 13, 1),
    (_MS, "ComplexMul"): ("", "Add", 14, 2),
    (_MS, "ComplexMulConj"): ("", "Add", 14, 2),
    (_MS, "DequantizeLinear"): ("", "DequantizeLinear", 21, 3),
    (_MS, "DynamicQuantizeMatMul"): ("", "MatMul", 13, 2),
    (_MS, "FusedConv"): ("", "Conv", 11, 3),
    (_MS, "FusedGemm"): ("", "Gemm", 13, 3),
    (_MS, "FusedMatMulActivation"): (_MS, "FusedMatMul", 1, 2),
    (_MS, "GatherND"): ("", "GatherND", 13, 2),
    (_MS, "GridSample"): ("", "GridSample", 16, 2),
    (_MS, "MatMulInteger16"): ("", "MatMulInteger", 10, 2),
    (_MS, "MaxpoolWithMask"): ("", "MaxPool", 12, 1),
    (_MS, "Pad"): ("", "Pad", 13, 3),
    (_MS, "QuantizeLinear"): ("", "QuantizeLinear", 21, 3),
    (_MS, "Trilu"): ("", "Trilu", 14, 2),
    ("com.ms.internal.nhwc", "Resize"): ("", "Resize", 19, 4),
    (_BLOCKED, "AveragePool"): ("", "AveragePool", 11, 1),
    (_BLOCKED, "GlobalAveragePool"): ("", "GlobalAveragePool", 1, 1),
    (_BLOCKED, "GlobalMaxPool"): ("", "GlobalMaxPool", 1, 1),
    (_BLOCKED, "MaxPool"): ("", "MaxPool", 12, 1),
}


def _like(index: int) -> Callable[[Facts], Sequence[OutputShape]]:
    return lambda facts: [facts.inputs[index]]


def _typed_like(number: int) -> Callable[[Facts], Sequence[OutputShape]]:
    return lambda facts: [Typed(number, facts.shape(0))]


def _replaced_last(width: str) -> Callable[[Facts], Sequence[OutputShape]]:
    def rule(facts: Facts) -> Sequence[OutputShape]:
        shape = facts.shape(0)
        return [] if shape is None else [Typed(facts.number(0), (*shape[:-1], facts.attributes[width]))]

    return rule


def _dropout(facts: Facts) -> Sequence[OutputShape]:
    return [facts.inputs[0], Typed(_TYPES.BOOL, facts.shape(0))]


def _bitmask_dropout(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    words = None if shape is None else (-(-math.prod(shape) // 32),)
    return [facts.inputs[0], Typed(_TYPES.UINT32, words)]


def _product(number_from: int | None, right: int = 1) -> Callable[[Facts], Sequence[OutputShape]]:
    """A matrix product whose type is that of an input, or int32."""

    def rule(facts: Facts) -> Sequence[OutputShape]:
        left, other = facts.shape(0), facts.shape(right)
        number = _TYPES.INT32 if number_from is None else facts.number(number_from)
        if left is None or other is None or len(left) < 2 or len(other) != 2:
            return []
        return [Typed(number, (*left[:-1], other[-1]))]

    return rule


def _four_bit_product(facts: Facts) -> Sequence[OutputShape]:
    shape, given = facts.shape(0), facts.integers(2)
    return [] if shape is None else [Typed(facts.number(0), (*shape[:-1], given[-1] if given else Open()))]


def _projections(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None:
        return []
    widths = [facts.attributes[name] for name in ("Nq", "Nkv", "Nkv")]
    return [*(Typed(facts.number(0), (*shape[:-1], width)) for width in widths), facts.inputs[0]]


def _multiply_integers(facts: Facts) -> Sequence[OutputShape]:
    shapes = (facts.shape(0), facts.shape(2))
    if shapes[0] is None or shapes[1] is None:
        return []
    rank = max(map(len, shapes))  # type: ignore[arg-type]
    left, right = ((1,) * (rank - len(shape)) + shape for shape in shapes if shape is not None)
    return [Typed(_TYPES.INT32, [b if a == 1 else a for a, b in zip(left, right, strict=True)])]


def _cdist(facts: Facts) -> Sequence[OutputShape]:
    left, right = facts.shape(0), facts.shape(1)
    return [] if left is None or right is None else [Typed(facts.number(0), (left[0], right[0]))]


def _conv_transpose(facts: Facts) -> Sequence[OutputShape]:
    shape, weights, given = facts.shape(0), facts.shape(1), facts.attributes
    if shape is None or weights is None:
        return []
    channels = weights[1] * given.get("group", 1)
    if facts.has(2) and facts.integers(2) is None:
        return [Typed(facts.number(0), (shape[0], channels, *(Open() for _ in shape[2:])))]
    spatial = transposed_windows(shape[2:], weights[2:], given, facts.integers(2) if facts.has(2) else None)
    return [Typed(facts.number(0), (shape[0], channels, *spatial))]


def _blocked_conv(facts: Facts) -> Sequence[OutputShape]:
    shape, weights = facts.shape(0), facts.shape(1)
    if shape is None or weights is None:
        return []
    kernel = facts.attributes.get("kernel_shape") or weights[2:]
    return [Typed(facts.number(0), (shape[0], weights[0], *windows(shape[2:], kernel, facts.attributes)))]


def _reorder_input(facts: Facts) -> Sequence[OutputShape]:
    """Channels are filled up to whole blocks; a block has 8 or 16 of them, as the machine that wrote the file has."""
    shape = facts.shape(0)
    if shape is None:
        return []
    last = bool(facts.attributes.get("channels_last", 0))
    channels = shape[-1] if last else shape[1]
    spatial = shape[1:-1] if last else shape[2:]
    small, large = (-(-channels // block) * block for block in (8, 16))
    return [Typed(facts.number(0), (shape[0], small if small == large else Open(large), *spatial))]


def _reorder_output(facts: Facts) -> Sequence[OutputShape]:
    shape, channels = facts.shape(0), facts.attributes["channels"]
    if shape is None:
        return []
    last = bool(facts.attributes.get("channels_last", 0))
    dims = (shape[0], *shape[2:], channels) if last else (shape[0], channels, *shape[2:])
    return [Typed(facts.number(0), dims)]


def _blocked_upsample(facts: Facts) -> Sequence[OutputShape]:
    shape, scales = facts.shape(0), facts.attributes.get("scales")
    if shape is None or not scales:
        return []
    return [Typed(facts.number(0), [size * scale for size, scale in zip(shape, scales, strict=True)])]


def _quantized_pool(facts: Facts) -> Sequence[OutputShape]:
    if facts.attributes.get("channels_last"):
        return channels_last_pool(facts)
    shape = facts.shape(0)
    if shape is None:
        return []
    spatial = windows(shape[2:], facts.attributes["kernel_shape"], facts.attributes)
    return [Typed(facts.number(0), (*shape[:2], *spatial))]


def _quantized_global_pool(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None:
        return []
    ones = (1,) * (len(shape) - 2)
    last = facts.attributes.get("channels_last")
    return [Typed(facts.number(0), (shape[0], *ones, shape[-1]) if last else (*shape[:2], *ones))]


def _quantized_gemm(facts: Facts) -> Sequence[OutputShape]:
    left, right, given = facts.shape(0), facts.shape(3), facts.attributes
    if left is None or right is None:
        return []
    rows, columns = left[1 if given.get("transA") else 0], right[0 if given.get("transB") else 1]
    return [Typed(facts.number(8) or _TYPES.FLOAT, (rows, columns))]


def _reduced(number: int | None) -> Callable[[Facts], Sequence[OutputShape]]:
    def rule(facts: Facts) -> Sequence[OutputShape]:
        shape = facts.shape(0)
        if shape is None:
            return []
        axes = {axis % len(shape) for axis in facts.attributes.get("axes") or range(len(shape))}
        keep = facts.attributes.get("keepdims", 1)
        dims = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
        return [Typed(facts.number(0) if number is None else number, dims)]

    return rule


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    ("", "MemcpyFromHost"): _like(0),
    ("", "MemcpyToHost"): _like(0),
    (_MS, "BiasDropout"): _dropout,
    (_MS, "BitmaskBiasDropout"): _bitmask_dropout,
    (_MS, "BitmaskDropout"): _bitmask_dropout,
    (_MS, "CDist"): _cdist,
    (_MS, "ConvTransposeWithDynamicPads"): _conv_transpose,
    (_MS, "Inverse"): _like(0),
    (_MS, "MatMulBnb4"): _replaced_last("N"),
    (_MS, "MatMulFpQ4"): _four_bit_product,
    (_MS, "MatMulIntegerToFloat"): _product(2),
    (_MS, "MatMulNBitsMlp"): _replaced_last("N"),
    (_MS, "MatMulNBitsQkv"): _projections,
    (_MS, "MulInteger"): _multiply_integers,
    (_MS, "NGramRepeatBlock"): _like(1),
    (_MS, "NhwcConv"): channels_last_conv,
    (_MS, "NhwcFusedConv"): channels_last_conv,
    (_MS, "NhwcMaxPool"): channels_last_pool,
    (_MS, "QGemm"): _quantized_gemm,
    (_MS, "QLinearAveragePool"): _quantized_pool,
    (_MS, "QLinearGlobalAveragePool"): _quantized_global_pool,
    (_MS, "QLinearReduceMean"): _reduced(None),
    (_MS, "QuantizeWithOrder"): _typed_like(_TYPES.INT8),
    (_MS, "ReduceSumInteger"): _reduced(_TYPES.INT32),
    (_BLOCKED, "Conv"): _blocked_conv,
    (_BLOCKED, "ReorderInput"): _reorder_input,
    (_BLOCKED, "ReorderOutput"): _reorder_output,
    (_BLOCKED, "Upsample"): _blocked_upsample,
}
