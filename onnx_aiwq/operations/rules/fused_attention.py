"""Attention of whole or padded sequences as onnxruntime fuses it. Masked scores count like any other."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, known_scalar, unknown_input
from onnx_aiwq.operations.attention_parts import (
    AttentionSizes,
    attend,
    cache_rounding,
    cached_length,
    grouped_extras,
    projected_attention,
    shares_buffer,
    split_heads,
)
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, Operator, Tensor

_CONTRIB = "com.microsoft"


@rule("Attention", "DecoderMaskedSelfAttention", family="attention", domain=_CONTRIB, bound=shares_buffer)
def contrib_attention(op: Operator) -> Counts:
    """Multi-head self attention with the projection of its input to Q, K and V.

    Equation:
        [Q, K, V] = X W + B; Y = softmax(scale * Q K^T + mask + attention_bias) V, with the past in front of K and V
    Basic operations:
        Per element of Q, K and V as many mul as X has channels, one add less, 1 add more with a bias. Per score of q
        queries and k keys d mul and d - 1 add, 1 mul by the scale (none where it is 1), 1 add for mask_index, 1 add for
        attention_bias; softmax per line k - 1 compare, k sub, k root, k - 1 add, k div; per output element k mul and k
        - 1 add. do_rotary: per pair of rotated elements of Q and of the new K 4 mul, 1 sub, 1 add. MACs = mul of the
        three products. Scores masked by `unidirectional` are computed like any other.
    Not counted:
        Making a mask of mask_index and of `unidirectional`; copies of the past; the table of angles, which depends on
        positions alone. With a shared buffer, all of it counts (upper bound).
    Example:
        X[1, 2, 4], W[4, 12], B, 2 heads: MACs = 24 * 4 + 8 * 2 + 8 * 2 = 128; mul = 128 + 8 = 136, add = 24 * 4 + 8 + 4
        + 8 = 116, sub = root = div = 8, compare = 4.
    Reference:
        Contrib operators: Attention, DecoderMaskedSelfAttention. TO paper, Eq. 3.
    """
    dtype = dtype_of(op.input(0))
    batch, length, channels = shape_of(op.input(0), "the input")
    results = batch * length * shape_of(op.input(1), "the weight")[1]
    projection = dot_products((dtype, dtype), results, channels)
    biased = Counts.of(dtype, add=0 if op.input(2) is None else results)
    sums = (op.input(3) is not None) + (op.input(5) is not None)
    return projection + biased + projected_attention(op, sums, op.input(4), dtype)


def _head_shape(tensor: Tensor | None, heads: int, role: str) -> tuple[int, int]:
    """(length, width) of [b, l, h d], [b, l, h, packed, d] or, as a cached key, [b, h, l, d]."""
    shape = shape_of(tensor, role)
    if len(shape) == 5:
        return shape[1], shape[4]
    _, _, length, width = split_heads(shape, heads, role)
    return length, width


@rule("MultiHeadAttention", family="attention", domain=_CONTRIB, bound=unknown_input(8))
def multi_head_attention(op: Operator) -> Counts:
    """Multi-head attention of given queries, keys and values.

    Equation:
        [Q, K, V] += bias; Y = softmax(scale * Q K^T + key padding mask + attention_bias) V, past in front of K and V
    Basic operations:
        1 add per new element of Q, K and V with a bias. Per score d mul and d - 1 add, 1 mul by the scale (none where
        it is 1), 1 add for key_padding_mask, 1 add for attention_bias; softmax per line of k scores k - 1 compare, k
        sub, k root, k - 1 add, k div; per output element k mul and k - 1 add. MACs = mul of both products.
        Q, K and V may be packed in one tensor. Scores masked by `unidirectional` are computed like any other.
    Not counted:
        Making a mask of lengths and of `unidirectional`; copies of the past. With a shared buffer, all of it counts
        unless past_sequence_length is known (upper bound).
    Example:
        Q[1, 2, 4], K = V[1, 3, 4], 2 heads, no bias: 12 scores in 4 lines; MACs = 12 * 2 + 8 * 3 = 48, mul = 60, add =
        12 + 8 + 16 = 36, sub = root = div = 12, compare = 8.
    Reference:
        Contrib operators: MultiHeadAttention.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    batch = shape_of(op.input(0), "the query")[0]
    queries, width = _head_shape(op.input(0), heads, "the query")
    key = op.input(1) or op.input(0)
    value = op.input(2) or key
    new, value_width = _head_shape(value, heads, "the value")
    cached = len(shape_of(key, "the key")) == 4
    past = op.input(6)
    known_past = known_scalar(op.input(8))
    keys = new + cached_length(past)
    if past is not None and op.input(8) is not None:
        keys = new + int(known_past) if known_past is not None else cached_length(past)
    projected = queries * width + (0 if cached else new * (width + value_width))
    biased = 0 if op.input(3) is None else batch * heads * projected
    sums = (op.input(4) is not None) + (op.input(5) is not None)
    sizes = AttentionSizes(batch, heads, queries, keys, width, value_width)
    return Counts.of(dtype, add=biased) + attend(op, dtype, sizes, sums=sums)


def _grouped_sizes(op: Operator) -> tuple[AttentionSizes, int]:
    """Sizes of GroupQueryAttention, and how many new keys there are per head."""
    heads, kv_heads = int(op.attributes["num_heads"]), int(op.attributes["kv_num_heads"])
    batch, queries, hidden = shape_of(op.input(0), "the query")
    packed = op.input(1) is None
    width = hidden // (heads + 2 * kv_heads if packed else heads)
    new = queries if packed else shape_of(op.input(1), "the key")[1]
    known, present = known_scalar(op.input(6)), op.output(1)
    if known is not None:
        keys = int(known)
    elif present is not None:
        keys = shape_of(present, "the present key")[2]
    else:
        keys = new + cached_length(op.input(3))
    return AttentionSizes(batch, heads, queries, keys, width, width), new


def _holds_more(op: Operator) -> bool:
    """Whether the cache, whose length is taken for the number of keys, has room for more than the past and the new."""
    sizes, new = _grouped_sizes(op)
    return known_scalar(op.input(6)) is None and sizes.keys != new + cached_length(op.input(3))


@rule("GroupQueryAttention", family="attention", domain=_CONTRIB, bound=_holds_more)
def group_query_attention(op: Operator) -> Counts:
    """Attention with fewer heads of keys than of queries, a cache, and optionally rotary embedding of Q and K.

    Equation:
        Q, K = rotary(norm(Q)), rotary(norm(K)); S = softcap * tanh(scale * Q K^T / softcap) + attention_bias;
        Y = softmax(S) V over all keys of the cache; with head_sink or smooth_softmax, e^sink joins the denominator
    Basic operations:
        q_norm_weight: per head vector of d elements of Q and new K 2 d mul, d add, d + 1 div, 1 root. do_rotary: per
        pair of rotated elements 4 mul, 1 sub, 1 add. Per score d mul and d - 1 add, 1 mul by the scale (none where it
        is 1), with softcap 1 div, a Tanh and 1 mul, 1 add for attention_bias; softmax per line of k scores k - 1
        compare, k sub, k root, k - 1 add, k div, one compare, sub, root and add more with a sink; per output element k
        mul and k - 1 add. k is total_sequence_length where known, else the length of present_key (upper bound), else
        past and new keys. With k_quant_type or v_quant_type, per new element of that cache 1 div, 1 compare to round, 2
        compare to saturate, and per element of all k keys or values of a head of the cache 1 mul (div and mul none
        where the scale is known to be one). MACs = mul of both products. Scores outside the causal or local window are
        computed like any other (dense count).
    Not counted:
        Masks, repeating heads, copies of the cache, unpacking of 4 bits.
    Example:
        Q[1, 1, 8], K = V[1, 1, 4], 2 heads, 1 kv head, total_sequence_length 3: 6 scores in 2 lines, d = 4; MACs = 24 +
        8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: GroupQueryAttention.
    """
    dtype = dtype_of(op.input(0))
    sizes, new = _grouped_sizes(op)
    kv_heads = int(op.attributes["kv_num_heads"])
    vectors = sizes.batch * (sizes.heads * sizes.queries + kv_heads * new)
    made, read = (sizes.batch * kv_heads * length * sizes.width for length in (new, sizes.keys))
    rounded = cache_rounding(op, dtype, made=made, read=(read, read), scales=(op.input(12), op.input(13)))
    extras = grouped_extras(op, dtype, sizes, vectors, cosines=op.input(7), norm=op.input(14), sink=op.input(11))
    return attend(op, dtype, sizes, sums=int(op.input(10) is not None)) + extras + rounded


def _fills_buffer(op: Operator) -> bool:
    key = op.input(1)
    cross = key is not None and len(shape_of(key, "the key")) == 4
    return shares_buffer(op) and not cross and known_scalar(op.input(7)) is None


@rule("DecoderMaskedMultiHeadAttention", family="attention", domain=_CONTRIB, bound=_fills_buffer)
def decoder_masked_attention(op: Operator) -> Counts:
    """One decoding step of multi-head attention, over a cache of earlier keys or over the keys of an encoder.

    Equation:
        Y = softmax(scale * Q K^T + mask + attention_bias) V, with the past in front of K and V
    Basic operations:
        As MultiHeadAttention with one query per sequence: 1 add for mask_index, 1 for attention_bias per score; 1 add
        per element of Q, K and V (Q alone where K is that of an encoder) with a bias. The keys are past_sequence_length
        and 1 where that is known, else all that the cache of a shared buffer holds (upper bound). MACs = mul of both
        products.
    Not counted:
        Copies of the past; the choice of beams.
    Example:
        Q = K = V[1, 1, 4], 2 heads, past_key[1, 2, 2, 2]: 6 scores in 2 lines; MACs = 6 * 2 + 4 * 3 = 24, mul = 30, add
        = 6 + 4 + 8 = 18, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: DecoderMaskedMultiHeadAttention.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    batch, length, hidden = shape_of(op.input(0), "the query")
    value_width = shape_of(op.output(0), "the output")[2] // heads
    key = op.input(1)
    width = (hidden // heads - value_width) // 2 if key is None else hidden // heads
    cross = key is not None and len(shape_of(key, "the key")) == 4
    known, past = known_scalar(op.input(7)), cached_length(op.input(5))
    if cross:
        keys = cached_length(key)
    elif known is not None:
        keys = int(known) + length
    else:
        keys = past if shares_buffer(op) else past + length
    projected = width if cross else 2 * width + value_width
    biased = 0 if op.input(10) is None else batch * length * heads * projected
    sums = (op.input(3) is not None) + (op.input(4) is not None)
    sizes = AttentionSizes(batch, heads, length, keys, width, value_width)
    return Counts.of(dtype, add=biased) + attend(op, dtype, sizes, sums=sums)


def _flags_unknown(op: Operator) -> bool:
    return known_scalar(op.input(8)) is None or known_scalar(op.input(9)) is None


@rule("DecoderAttention", family="attention", domain=_CONTRIB, bound=_flags_unknown)
def decoder_attention(op: Operator) -> Counts:
    """Self or cross attention of a decoder with projections; run-time flags choose (upper bound where unknown).

    Equation:
        Q = X Wq + bq; [K, V] = Z Wkv + bkv, Z = X (self attention) or the given key (static_kv); with use_past the
        cache stands in front of K and V (self attention) or in their place (static_kv)
    Basic operations:
        Projections as a matrix product with bias; attention as in MultiHeadAttention, 1 add per score for
        key_padding_mask. Flags that are known decide; an unknown static_kv counts the longer of X and key, an unknown
        use_past counts the cache and the new keys. MACs = mul of all products.
    Not counted:
        Making the mask, copies of the cache.
    Example:
        X = key[2, 1, 4], 2 heads, static_kv, use_past known to be false: MACs = 8 * 4 + 16 * 4 + 8 * 2 + 8 * 2 = 128;
        mul = 128 + 8 = 136, add = 8 * 4 + 16 * 4 + 8 + 4 + 8 = 116, sub = root = div = 8, compare = 4.
    Reference:
        Contrib operators: DecoderAttention. TO paper, Eq. 3.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    queries, batch, hidden = shape_of(op.input(0), "the query")
    static, cached = known_scalar(op.input(8)), known_scalar(op.input(9))
    given = shape_of(op.input(1), "the key")[0]
    new = max(given, queries) if static is None else (given if static else queries)
    past = 0 if cached == 0 else cached_length(op.input(6))
    if static and cached:  # the cache holds all keys of the encoder
        new = 0
    types = (dtype, dtype)
    projections = dot_products(types, batch * queries * hidden, hidden, op.input(4))
    projections += dot_products(types, batch * new * 2 * hidden, hidden, op.input(4))
    sizes = AttentionSizes(batch, heads, queries, past + new, hidden // heads, hidden // heads)
    return projections + attend(op, dtype, sizes, sums=int(op.input(5) is not None))
