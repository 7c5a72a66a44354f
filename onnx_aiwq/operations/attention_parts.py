"""Parts of scaled dot product attention that rules share. Masked scores are computed like any other (dense count)."""

from __future__ import annotations

import msgspec

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, softmax_line, tanh
from onnx_aiwq.operations.quantizing import dequantising, quantising
from onnx_aiwq.operations.registry import shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


class AttentionSizes(msgspec.Struct, frozen=True):
    """The sizes of one attention: Q[batch, heads, queries, width], K[..., keys, width], V[..., keys, value_width]."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    value_width: int

    @property
    def lines(self) -> int:
        return self.batch * self.heads * self.queries

    @property
    def scores(self) -> int:
        return self.lines * self.keys


def softcapping(dtype: DType, scores: int, softcap: float) -> Counts:
    """softcap * tanh(score / softcap); 0 means none."""
    if not softcap:
        return Counts()
    factors = 0 if softcap == 1.0 else scores
    return tanh(dtype) * scores + Counts.of(dtype, div=factors, mul=factors)


def weighted_values(dtype: DType, sizes: AttentionSizes, precision: DType, value_dtype: DType) -> Counts:
    """Q K^T, softmax over the keys and the product with V, without scaling, softcap and masks."""
    products = dot_products((dtype, dtype), sizes.scores, sizes.width)
    softmax = softmax_line(precision, sizes.keys) * sizes.lines
    return products + softmax + dot_products((value_dtype, value_dtype), sizes.lines * sizes.value_width, sizes.keys)


def is_scaled(op: Operator, width: int) -> bool:
    """Whether the scale differs from one; without an attribute it is 1 / sqrt(width). The contrib default 0 is none."""
    scale = op.attributes.get("scale") or None
    return width != 1 if scale is None else scale != 1.0


def split_heads(shape: tuple[int, ...], heads: int, role: str) -> tuple[int, int, int, int]:
    """(batch, heads, length, width) of a tensor of rank 4, or of rank 3 with the heads side by side."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) != 3 or not heads:
        raise ShapeError(f"{role} of shape {shape} needs rank 4, or rank 3 and a number of heads")
    return shape[0], heads, shape[1], shape[2] // heads


def cached_length(tensor: Tensor | None) -> int:
    """The sequence length of a past key [batch, heads, length, width], 0 where there is none."""
    return 0 if tensor is None else shape_of(tensor, "the past key")[2]


def shares_buffer(op: Operator) -> bool:
    """Whether the past is as long as the buffer that it shares with the present, of which it fills a part."""
    return bool(op.attributes.get("past_present_share_buffer"))


def rotation(dtype: DType, elements: int) -> Counts:
    """Rotation of pairs (x1, x2): cos x1 - sin x2 and sin x1 + cos x2."""
    pairs = elements // 2
    return Counts.of(dtype, add=pairs, sub=pairs, mul=4 * pairs)


def attend(op: Operator, dtype: DType, sizes: AttentionSizes, *, sums: int) -> Counts:
    """Attention as the contrib operators define it: the scale is applied to the scores, `sums` biases are added."""
    scaled = sizes.scores if is_scaled(op, sizes.width) else 0
    softcapped = softcapping(dtype, sizes.scores, op.attributes.get("softcap") or 0.0)
    around = Counts.of(dtype, add=sums * sizes.scores, mul=scaled) + softcapped
    return around + weighted_values(dtype, sizes, dtype, dtype)


def projected_attention(op: Operator, sums: int, past: Tensor | None, dtype: DType) -> Counts:
    """The attention that follows the joint projection of Attention and QAttention to Q, K and V."""
    batch, length, _ = shape_of(op.input(0), "the input")
    hidden = shape_of(op.input(1), "the weight")[1]
    _, key_size, value_size = op.attributes.get("qkv_hidden_sizes") or (hidden // 3,) * 3
    heads = int(op.attributes["num_heads"])
    before = 0 if past is None else shape_of(past, "the past")[3]
    if shares_buffer(op):
        before = max(before - length, 0)
    sizes = AttentionSizes(batch, heads, length, before + length, int(key_size) // heads, int(value_size) // heads)
    total = attend(op, dtype, sizes, sums=sums)
    if op.attributes.get("do_rotary"):
        rotated = int(op.attributes.get("rotary_embedding_dim") or sizes.width)
        total += rotation(dtype, 2 * sizes.lines * rotated)  # of Q and of the new K
    return total


def head_norms(dtype: DType, lines: int, width: int) -> Counts:
    """x / sqrt(mean(x^2) + epsilon) * weight for `lines` heads."""
    line = Counts.of(dtype, add=max(width - 1, 0) + 1, mul=2 * width, div=1 + width, root=1)
    return line * lines


def cache_rounding(
    op: Operator, dtype: DType, *, made: int, read: tuple[int, int], scales: tuple[Tensor | None, Tensor | None]
) -> Counts:
    """A symmetrically quantised cache: new keys and values are rounded, those that are attended to are restored.

    Args:
        op: its `k_quant_type` and `v_quant_type` say which of the two caches are quantised.
        dtype: in which both are computed.
        made: new elements of each cache.
        read: elements of keys and of values that are attended to, each once for all heads and queries that share it.
        scales: of keys and of values.
    """
    total = Counts()
    for side, elements, scale in zip(("k_quant_type", "v_quant_type"), read, scales, strict=True):
        if op.attributes.get(side) not in (None, "", "NONE"):
            total += quantising(dtype, made, scale, None) + dequantising(dtype, elements, scale, None)
    return total


def grouped_extras(
    op: Operator,
    dtype: DType,
    sizes: AttentionSizes,
    vectors: int,
    *,
    cosines: Tensor | None,
    norm: Tensor | None,
    sink: Tensor | None,
) -> Counts:
    """Rotation and norms of `vectors` head vectors of Q and K, and a sink in every line of the softmax."""
    total = Counts()
    if op.attributes.get("do_rotary"):
        total += rotation(dtype, vectors * 2 * shape_of(cosines, "the cosine cache")[1])
    if norm is not None:
        total += head_norms(dtype, vectors, sizes.width)
    if sink is not None or op.attributes.get("smooth_softmax") == 1:
        total += Counts.of(dtype, add=1, sub=1, root=1, compare=1) * sizes.lines
    return total


def windowed_attention(dtype: DType, sequences: int, length: int, window: int, width: int) -> Counts:
    """Attention of each token to the 2 W + 1 of its window and to W global tokens, and of W global tokens to all.

    Args:
        dtype: of everything.
        sequences: batch size times heads.
        length: of a sequence.
        window: W, one side of the window, and the most global tokens that onnxruntime allows.
        width: of a head.
    """
    types, total = (dtype, dtype), Counts()
    for lines, keys in ((sequences * length, 3 * window + 1), (sequences * window, length)):
        scores = lines * keys
        total += dot_products(types, scores, width) + dot_products(types, lines * width, keys)
        total += softmax_line(dtype, keys) * lines + Counts.of(dtype, add=scores, mul=scores if width != 1 else 0)
    return total
