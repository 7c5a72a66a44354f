"""Scaled dot product attention of ONNX, and rotary embeddings. Masked scores count like any other (dense count)."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.attention_parts import (
    AttentionSizes,
    cached_length,
    is_scaled,
    rotation,
    softcapping,
    split_heads,
    weighted_values,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"


def _mask_sums(op: Operator, sizes: AttentionSizes) -> Counts:
    """Biases from attn_mask, is_causal, windows and nonpad_kv_seqlen: their sum, and its addition to the scores."""
    dtype = dtype_of(op.input(0))
    mask, unpadded = op.input(3), op.input(6)
    windows = (op.attributes.get("left_window_size"), op.attributes.get("right_window_size"))
    causal = bool(op.attributes.get("is_causal")) or any(size not in (None, -1) for size in windows)
    if mask is None and unpadded is None and not causal:
        return Counts()
    add = sizes.scores
    shape = (1, 1, 1, 1) if mask is None else (1, 1, 1, *shape_of(mask, "the mask"))[-4:]
    rows = math.prod(shape[:2]) * (sizes.queries if causal else shape[2])
    if mask is not None and causal and not mask.constant:
        add += rows * sizes.keys
    if unpadded is None:
        return Counts.of(dtype, add=add)
    if mask is not None or causal:
        add += rows * (sizes.batch if shape[0] == 1 else 1) * sizes.keys
    return Counts.of(dtype, add=add) + Counts.of(DType.INT64, compare=sizes.batch * sizes.keys)


@rule("Attention", family="attention", since=23)
def attention(op: Operator) -> Counts:
    """Scaled dot product attention with grouped heads, a cache, masks and softcap.

    Equation:
        S = (sqrt(scale) Q) @ (sqrt(scale) K)^T; S = softcap * tanh(S / softcap); Y = softmax(S + bias) @ V
        Q[b, hq, q, d], K[b, hkv, k, d], V[b, hkv, k, dv], with the past in front of K and V: k keys in all; K and V are
        repeated to hq heads
    Basic operations:
        In the order of the ONNX function body: 1 mul per element of Q and of K repeated to hq heads (none where the
        scale is 1); per score d mul, d - 1 add; with softcap 1 div, a Tanh, 1 mul (no div and mul where softcap is 1);
        1 add of the bias where there is a mask, is_causal, a window or nonpad_kv_seqlen; softmax per line of k scores
        k - 1 compare, k sub, k root, k - 1 add, k div, in the type of softmax_precision; per output element k mul, k -
        1 add. Where attn_mask is joined with is_causal or a window, 1 add per element of the joined bias (none where
        the mask is constant); nonpad_kv_seqlen costs b * k int64 compare, and 1 add per element of the bias that it
        joins. MACs = mul of both matrix products. Masked scores are computed like any other (dense count).
    Not counted:
        Masks that follow from the shapes alone (the causal one also where nonpad_kv_seqlen shifts it), adding a bias of
        zeros where there is no mask, the choice of rows of which every key is masked; repeating heads, concatenation
        with the past, the square root of the scale.
    Example:
        Q[1, 2, 3, 4], K = V[1, 1, 5, 4], no mask: 30 scores in 6 lines; MACs = 30 * 4 + 24 * 5 = 240; mul = 24 + 40 +
        240 = 304, add = 30 * 3 + 6 * 4 + 24 * 4 = 210, sub = root = div = 30, compare = 24.
    Reference:
        ONNX operators: Attention.
    """
    dtype = dtype_of(op.input(0))
    batch, heads, queries, width = split_heads(
        shape_of(op.input(0), "the query"), int(op.attributes.get("q_num_heads") or 0), "the query"
    )
    kv_heads = int(op.attributes.get("kv_num_heads") or 0)
    _, _, new, _ = split_heads(shape_of(op.input(1), "the key"), kv_heads, "the key")
    value_width = split_heads(shape_of(op.input(2), "the value"), kv_heads, "the value")[3]
    sizes = AttentionSizes(batch, heads, queries, new + cached_length(op.input(4)), width, value_width)
    scaled = batch * heads * (queries + sizes.keys) * width if is_scaled(op, width) else 0
    precision = DType.from_onnx(int(op.attributes.get("softmax_precision") or 0))
    total = Counts.of(dtype, mul=scaled) + softcapping(dtype, sizes.scores, op.attributes.get("softcap") or 0.0)
    precision = dtype if precision is DType.UNDEFINED else precision
    return total + _mask_sums(op, sizes) + weighted_values(dtype, sizes, precision, dtype_of(op.input(2), "the value"))


@rule("RotaryEmbedding", family="attention", since=23)
@rule("RotaryEmbedding", "MRotaryEmbedding", family="attention", domain=_CONTRIB)
def rotary_embedding(op: Operator) -> Counts:
    """Rotation of pairs of elements by an angle that depends on the position.

    Equation:
        real = cos * x1 - sin * x2; imag = sin * x1 + cos * x2 for each pair of the first rotary_embedding_dim elements
        of a head; the rest is copied
    Basic operations:
        Per pair 4 mul, 1 sub, 1 add. A rotary_embedding_dim of 0 rotates whole heads. No MACs.
    Not counted:
        Look-up of cos and sin by position_ids (MRotaryEmbedding: by three of them); splitting and joining.
    Example:
        X[1, 2, 3, 8], rotary_embedding_dim 4: 2 * 3 * 2 = 12 pairs; mul = 48, sub = 12, add = 12.
    Reference:
        ONNX operators: RotaryEmbedding. Contrib operators: RotaryEmbedding, MRotaryEmbedding.
    """
    shape = shape_of(op.input(0), "the input")
    rotary = int(op.attributes.get("rotary_embedding_dim") or 0)
    elements = math.prod(shape)
    if rotary:
        batch, heads, length, _ = split_heads(shape, int(op.attributes.get("num_heads") or 0), "the input")
        elements = batch * heads * length * rotary
    return rotation(dtype_of(op.input(0)), elements)


@rule("GemmaRotaryEmbedding", family="attention", domain=_CONTRIB)
def gemma_rotary_embedding(op: Operator) -> Counts:
    """Rotation of queries and keys by angles that are given, with their rotated halves given too.

    Equation:
        Yq = q * cos(emb) + q_rot * sin(emb), Yk likewise; emb[b, s, d] is the same for all heads
    Basic operations:
        2 root per element of emb, in its type; per element of q and of k 2 mul and 1 add. No MACs.
    Not counted:
        Casts and broadcasting.
    Example:
        emb[1, 2, 4], q = k[1, 3, 2, 4]: root = 16; mul = 2 * 48 = 96, add = 48.
    Reference:
        Contrib operators: GemmaRotaryEmbedding.
    """
    angles, query, key = op.input(0), op.input(1), op.input(3)
    elements = size_of(query, "the query") + size_of(key, "the key")
    roots = Counts.of(dtype_of(angles), root=2 * size_of(angles, "the angles"))
    return roots + Counts.of(dtype_of(query, "the query"), add=elements, mul=2 * elements)
