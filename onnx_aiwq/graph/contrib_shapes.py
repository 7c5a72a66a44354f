"""Shapes of operators that onnxruntime knows alone and that are no variant of a standard one.

Positions, spectra, texts, decoding, and what ONNX dropped with opset 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from onnx_aiwq.graph.own_shapes import Facts, Open, OutputShape, Typed

_MS = "com.microsoft"
_TYPES = onnx.TensorProto


def _attention_lstm(facts: Facts) -> Sequence[OutputShape]:
    shape, recurrence = facts.shape(0), facts.shape(2)
    if shape is None or recurrence is None:
        return []
    steps, batch, _ = shape
    directions, _, hidden = recurrence
    state = Typed(facts.number(0), (directions, batch, hidden))
    return [Typed(facts.number(0), (steps, directions, batch, hidden)), state, state]


def _bifurcation(facts: Facts) -> Sequence[OutputShape]:
    source, current = facts.shape(0), facts.shape(1)
    most = None if source is None or current is None else current[0] + source[0] + 1
    return [Typed(_TYPES.INT64, (Open(most if isinstance(most, int) else None),)), Typed(_TYPES.INT64, ())]


def _crop(facts: Facts) -> Sequence[OutputShape]:
    """An image without its borders (left, top, right, bottom); a scale gives height and width instead."""
    shape, scale = facts.shape(0), facts.attributes.get("scale")
    if shape is None:
        return []
    left, top, right, bottom = facts.attributes.get("border") or (0, 0, 0, 0)
    height, width = scale or (shape[2] - top - bottom, shape[3] - left - right)
    return [Typed(facts.number(0), (*shape[:2], height, width))]


def _crop_and_resize(facts: Facts) -> Sequence[OutputShape]:
    shape, boxes, size = facts.shape(0), facts.shape(1), facts.integers(3)
    if shape is None or boxes is None:
        return []
    return [Typed(facts.number(0), (boxes[0], shape[1], *(size or (Open(), Open()))))]


def _decoder_attention(facts: Facts) -> Sequence[OutputShape]:
    query = facts.shape(0)
    if query is None:
        return []
    heads = facts.attributes["num_heads"]
    cache = (query[1], heads, Open(), query[2] // heads)
    return [facts.inputs[0], Typed(facts.number(0), cache), Typed(facts.number(0), cache)]


def _decoder_self_attention(facts: Facts) -> Sequence[OutputShape]:
    shape, weights = facts.shape(0), facts.shape(1)
    if shape is None or weights is None:
        return []
    return [Typed(facts.number(0), (*shape[:-1], weights[1] // 3)), facts.inputs[4] if len(facts.inputs) > 4 else None]


def _dequantize_with_order(facts: Facts) -> Sequence[OutputShape]:
    return [Typed(facts.attributes["to"], facts.shape(0))]


def _quantized_lstm(facts: Facts) -> Sequence[OutputShape]:
    shape, weights, hidden = facts.shape(0), facts.shape(1), facts.attributes.get("hidden_size")
    if shape is None or weights is None or hidden is None:
        return []
    steps, batch, directions = shape[0], shape[1], weights[0]
    state = Typed(_TYPES.FLOAT, (directions, batch, hidden))
    return [Typed(_TYPES.FLOAT, (steps, directions, batch, hidden)), state, state]


def _time_warping(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    most = shape[-1] + shape[-2] - 1 if shape is not None else None
    return [Typed(_TYPES.INT32, (2, Open(most if isinstance(most, int) else None)))]


def _expand_dims(facts: Facts) -> Sequence[OutputShape]:
    shape, axis = facts.shape(0), facts.integers(1)
    if shape is None or not axis:
        return []
    position = axis[0] if axis[0] >= 0 else axis[0] + len(shape) + 1
    return [Typed(facts.number(0), (*shape[:position], 1, *shape[position:]))]


def _gather_quantized(facts: Facts) -> Sequence[OutputShape]:
    data, indices, given = facts.shape(0), facts.shape(1), facts.attributes
    if data is None or indices is None:
        return []
    unpacked = list(data)
    if facts.number(0) == _TYPES.UINT8:
        unpacked[-1] = data[-1] * (8 // given.get("bits", 4))
    axis = given.get("gather_axis", 0) % len(data)
    return [Typed(facts.number(2), (*unpacked[:axis], *indices, *unpacked[axis + 1 :]))]


def _gemma_rotary(facts: Facts) -> Sequence[OutputShape]:
    return [facts.inputs[1], facts.inputs[3]]


def _all_finite(facts: Facts) -> Sequence[OutputShape]:
    return [Typed(_TYPES.BOOL, ())]


def _spectrum(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    return [] if shape is None else [Typed(facts.number(0), (*shape[:-1], shape[-1] // 2 + 1, 2))]


def _signal(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    return [] if shape is None else [Typed(facts.number(0), (*shape[:-2], 2 * (shape[-2] - 1)))]


def _like_first(facts: Facts) -> Sequence[OutputShape]:
    return facts.inputs[:1]


def _hash(facts: Facts) -> Sequence[OutputShape]:
    return [Typed(_TYPES.UINT32 if facts.attributes.get("positive", 1) else _TYPES.INT32, facts.shape(0))]


def _quantized_embedding(facts: Facts) -> Sequence[OutputShape]:
    ids, words = facts.shape(0), facts.shape(2)
    if ids is None or words is None:
        return []
    return [Typed(_TYPES.FLOAT, (*ids, words[1])), Typed(_TYPES.INT32, ids[:1])]


def _range(facts: Facts) -> Sequence[OutputShape]:
    bounds = [facts.elements(index) for index in range(2 + facts.has(2))]
    if not all(bounds):
        return [Typed(facts.number(0), (Open(),))]
    start, limit, *step = (float(bound[0]) for bound in bounds if bound)
    return [Typed(facts.number(0), (max(int(-(-(limit - start) // (step[0] if step else 1))), 0),))]


def _position_bias(facts: Facts) -> Sequence[OutputShape]:
    table, query, key = facts.shape(0), facts.integers(1), facts.integers(2)
    if table is None:
        return []
    return [Typed(facts.number(0), (1, table[1], query[0] if query else Open(), key[0] if key else Open()))]


def _sparse_product(facts: Facts) -> Sequence[OutputShape]:
    left, right, given = facts.shape(0), facts.shape(1), facts.attributes
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return []
    rows, columns = left[1 if given.get("transA") else 0], right[0 if given.get("transB") else 1]
    return [Typed(facts.number(1), (rows, columns))]


def _tokens(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    return [] if shape is None else [Typed(_TYPES.STRING, (*shape, Open()))]


def _embedding(facts: Facts) -> Sequence[OutputShape]:
    table, indices = facts.shape(0), facts.shape(1)
    return [] if table is None or indices is None else [Typed(facts.number(0), (*indices, *table[1:]))]


def _unfold(facts: Facts) -> Sequence[OutputShape]:
    shape, given = facts.shape(0), facts.attributes
    if shape is None:
        return []
    size, step = given["size"], given.get("step", 1)
    axis = given.get("dim", -1) % len(shape)
    slices = (shape[axis] - size) // step + 1
    return [Typed(facts.number(0), (*shape[:axis], slices, *shape[axis + 1 :], size))]


def _unique(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None:
        return []
    number = Open(shape[0] if isinstance(shape[0], int) else None)
    return [Typed(facts.number(0), (number,)), Typed(_TYPES.INT64, shape), Typed(_TYPES.INT64, (number,))]


def _word_embedding(facts: Facts) -> Sequence[OutputShape]:
    words, filters = facts.shape(0), facts.shape(1)
    return [] if words is None or filters is None else [Typed(facts.number(1), (*words[:-1], filters[0]))]


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    ("", "Affine"): _like_first,
    ("", "Crop"): _crop,
    ("", "ImageScaler"): _like_first,
    ("", "ParametricSoftplus"): _like_first,
    ("", "Scale"): _like_first,
    ("", "ScaledTanh"): _like_first,
    (_MS, "AttnLSTM"): _attention_lstm,
    (_MS, "BifurcationDetector"): _bifurcation,
    (_MS, "CropAndResize"): _crop_and_resize,
    (_MS, "DecoderAttention"): _decoder_attention,
    (_MS, "DecoderMaskedSelfAttention"): _decoder_self_attention,
    (_MS, "DequantizeWithOrder"): _dequantize_with_order,
    (_MS, "DynamicQuantizeLSTM"): _quantized_lstm,
    (_MS, "DynamicTimeWarping"): _time_warping,
    (_MS, "ExpandDims"): _expand_dims,
    (_MS, "GatherBlockQuantized"): _gather_quantized,
    (_MS, "GemmaRotaryEmbedding"): _gemma_rotary,
    (_MS, "Irfft"): _signal,
    (_MS, "IsAllFinite"): _all_finite,
    (_MS, "MurmurHash3"): _hash,
    (_MS, "QEmbedLayerNormalization"): _quantized_embedding,
    (_MS, "Range"): _range,
    (_MS, "RelativePositionBias"): _position_bias,
    (_MS, "Rfft"): _spectrum,
    (_MS, "SampleOp"): _like_first,
    (_MS, "SparseToDenseMatMul"): _sparse_product,
    (_MS, "Tokenizer"): _tokens,
    (_MS, "TorchEmbedding"): _embedding,
    (_MS, "UnfoldTensor"): _unfold,
    (_MS, "Unique"): _unique,
    (_MS, "WordConvEmbedding"): _word_embedding,
}
