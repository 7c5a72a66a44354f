"""Scaled dot product attention and rotary embeddings. Masked scores are computed like any other (dense count)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, known_scalar, softmax_line, tanh
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

_CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class _Sizes:
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


def _softcapped(dtype: DType, scores: int, softcap: float) -> Counts:
    """softcap * tanh(score / softcap); 0 means none."""
    if not softcap:
        return Counts()
    factors = 0 if softcap == 1.0 else scores
    return tanh(dtype) * scores + Counts.of(dtype, div=factors, mul=factors)


def _weighted(dtype: DType, sizes: _Sizes, precision: DType, value_dtype: DType) -> Counts:
    """Q K^T, softmax over the keys and the product with V, without scaling, softcap and masks."""
    products = dot_products((dtype, dtype), sizes.scores, sizes.width)
    softmax = softmax_line(precision, sizes.keys) * sizes.lines
    return products + softmax + dot_products((value_dtype, value_dtype), sizes.lines * sizes.value_width, sizes.keys)


def _is_scaled(op: Operator, width: int) -> bool:
    """Whether the scale differs from one; without an attribute it is 1 / sqrt(width). The contrib default 0 is none."""
    scale = op.attributes.get("scale") or None
    return width != 1 if scale is None else scale != 1.0


def _split_heads(shape: tuple[int, ...], heads: int, role: str) -> tuple[int, int, int, int]:
    """(batch, heads, length, width) of a tensor of rank 4, or of rank 3 with the heads side by side."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) != 3 or not heads:
        raise ShapeError(f"{role} of shape {shape} needs rank 4, or rank 3 and a number of heads")
    return shape[0], heads, shape[1], shape[2] // heads


def _length(tensor: Tensor | None) -> int:
    """The sequence length of a past key [batch, heads, length, width], 0 where there is none."""
    return 0 if tensor is None else shape_of(tensor, "the past key")[2]


def _mask_sums(op: Operator, sizes: _Sizes) -> Counts:
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
    batch, heads, queries, width = _split_heads(
        shape_of(op.input(0), "the query"), int(op.attributes.get("q_num_heads") or 0), "the query"
    )
    kv_heads = int(op.attributes.get("kv_num_heads") or 0)
    _, _, new, _ = _split_heads(shape_of(op.input(1), "the key"), kv_heads, "the key")
    value_width = _split_heads(shape_of(op.input(2), "the value"), kv_heads, "the value")[3]
    sizes = _Sizes(batch, heads, queries, new + _length(op.input(4)), width, value_width)
    scaled = batch * heads * (queries + sizes.keys) * width if _is_scaled(op, width) else 0
    precision = DType.from_onnx(int(op.attributes.get("softmax_precision") or 0))
    total = Counts.of(dtype, mul=scaled) + _softcapped(dtype, sizes.scores, op.attributes.get("softcap") or 0.0)
    precision = dtype if precision is DType.UNDEFINED else precision
    return total + _mask_sums(op, sizes) + _weighted(dtype, sizes, precision, dtype_of(op.input(2), "the value"))


def _rotated(dtype: DType, elements: int) -> Counts:
    """Rotation of pairs (x1, x2): cos x1 - sin x2 and sin x1 + cos x2."""
    pairs = elements // 2
    return Counts.of(dtype, add=pairs, sub=pairs, mul=4 * pairs)


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
        batch, heads, length, _ = _split_heads(shape, int(op.attributes.get("num_heads") or 0), "the input")
        elements = batch * heads * length * rotary
    return _rotated(dtype_of(op.input(0)), elements)


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


def _contrib(op: Operator, dtype: DType, sizes: _Sizes, *, sums: int) -> Counts:
    """Attention as the contrib operators define it: the scale is applied to the scores, `sums` biases are added."""
    scaled = sizes.scores if _is_scaled(op, sizes.width) else 0
    softcapped = _softcapped(dtype, sizes.scores, op.attributes.get("softcap") or 0.0)
    around = Counts.of(dtype, add=sums * sizes.scores, mul=scaled) + softcapped
    return around + _weighted(dtype, sizes, dtype, dtype)


def _projected(op: Operator, sums: int, past: Tensor | None, dtype: DType) -> Counts:
    """The attention that follows the joint projection of Attention and QAttention to Q, K and V."""
    if op.attributes.get("do_rotary"):
        raise ShapeError(f"{op.op_type} {op.name!r} with do_rotary is not counted: its angles are not defined")
    batch, length, _ = shape_of(op.input(0), "the input")
    hidden = shape_of(op.input(1), "the weight")[1]
    _, key_size, value_size = op.attributes.get("qkv_hidden_sizes") or (hidden // 3,) * 3
    heads = int(op.attributes["num_heads"])
    before = 0 if past is None else shape_of(past, "the past")[3]
    if op.attributes.get("past_present_share_buffer"):
        before = max(before - length, 0)
    sizes = _Sizes(batch, heads, length, before + length, int(key_size) // heads, int(value_size) // heads)
    return _contrib(op, dtype, sizes, sums=sums)


@rule("Attention", "DecoderMaskedSelfAttention", family="attention", domain=_CONTRIB)
def contrib_attention(op: Operator) -> Counts:
    """Multi-head self attention with the projection of its input to Q, K and V.

    Equation:
        [Q, K, V] = X W + B; Y = softmax(scale * Q K^T + mask + attention_bias) V, with the past in front of K and V
    Basic operations:
        Per element of Q, K and V as many mul as X has channels, one add less, 1 add more with a bias. Per score of q
        queries and k keys d mul and d - 1 add, 1 mul by the scale (none where it is 1), 1 add for mask_index, 1 add for
        attention_bias; softmax per line k - 1 compare, k sub, k root, k - 1 add, k div; per output element k mul and k
        - 1 add. MACs = mul of the three products. Scores masked by `unidirectional` are computed like any other.
    Not counted:
        Making a mask of mask_index and of `unidirectional`; copies of the past. With a shared buffer, all of it counts.
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
    return projection + biased + _projected(op, sums, op.input(4), dtype)


@rule("QAttention", family="attention", domain=_CONTRIB)
def qattention(op: Operator) -> Counts:
    """Multi-head self attention whose projection to Q, K and V is quantised.

    Equation:
        [Q, K, V] = ((X - x_zp) (W - w_zp)) * (x_scale * w_scale) + B; Y = softmax(scale * Q K^T + mask) V
    Basic operations:
        The projection multiplies at the operand width (signed if either is) and adds in int32; one int32 sub per
        element of X and W whose zero point is present and not known to be zero; per element of Q, K and V 1 mul by the
        scales (none where both are known to be one) and 1 add of the bias. The rest as in the contrib operator
        Attention. MACs = mul of the three products.
    Not counted:
        The product of the two scales; making a mask of mask_index and of `unidirectional`; copies of the past.
    Example:
        X[1, 2, 4] uint8, W[4, 12] int8, no zero points, 2 heads: int8 mul = 96, int32 add = 72; float32 mul = 24 + 32 +
        8 = 64, add = 24 + 8 + 4 + 8 = 44, sub = root = div = 8, compare = 4; MACs = 128.
    Reference:
        Contrib operators: QAttention. TO paper, Eq. 3.
    """
    data, weight = op.input(0), op.input(1)
    dtype = dtype_of(op.input(3), "the input scale")
    batch, length, channels = shape_of(data, "the input")
    results = batch * length * shape_of(weight, "the weight")[1]
    signed = DType.INT8 in (dtype_of(data), dtype_of(weight, "the weight"))
    pairs = results * channels
    products = Counts.of(DType.INT8 if signed else DType.UINT8, mul=pairs, macs=pairs)
    shifted = 0
    for operand, zero_point in ((data, op.input(6)), (weight, op.input(7))):
        if zero_point is not None and (zero_point.value is None or zero_point.value.any()):
            shifted += size_of(operand, "an operand")
    sums = Counts.of(DType.INT32, add=results * max(channels - 1, 0), sub=shifted)
    known = [tensor is not None and tensor.value is not None and (tensor.value == 1).all() for tensor in op.inputs[3:5]]
    real = Counts.of(dtype, add=0 if op.input(2) is None else results, mul=0 if all(known) else results)
    return products + sums + real + _projected(op, int(op.input(5) is not None), op.input(8), dtype)


def _head_shape(tensor: Tensor | None, heads: int, role: str) -> tuple[int, int]:
    """(length, width) of [b, l, h d], [b, l, h, packed, d] or, as a cached key, [b, h, l, d]."""
    shape = shape_of(tensor, role)
    if len(shape) == 5:
        return shape[1], shape[4]
    _, _, length, width = _split_heads(shape, heads, role)
    return length, width


@rule("MultiHeadAttention", family="attention", domain=_CONTRIB)
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
        unless past_sequence_length is known.
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
    keys = new + _length(past)
    if past is not None and op.input(8) is not None:
        keys = new + int(known_past) if known_past is not None else _length(past)
    projected = queries * width + (0 if cached else new * (width + value_width))
    biased = 0 if op.input(3) is None else batch * heads * projected
    sums = (op.input(4) is not None) + (op.input(5) is not None)
    sizes = _Sizes(batch, heads, queries, keys, width, value_width)
    return Counts.of(dtype, add=biased) + _contrib(op, dtype, sizes, sums=sums)


def _grouped_sizes(op: Operator) -> tuple[_Sizes, int]:
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
        keys = new + _length(op.input(3))
    return _Sizes(batch, heads, queries, keys, width, width), new


def _head_norms(dtype: DType, lines: int, width: int) -> Counts:
    """x / sqrt(mean(x^2) + epsilon) * weight for `lines` heads."""
    line = Counts.of(dtype, add=max(width - 1, 0) + 1, mul=2 * width, div=1 + width, root=1)
    return line * lines


def _refuse_quantised_cache(op: Operator) -> None:
    for side in ("k_quant_type", "v_quant_type"):
        if op.attributes.get(side) not in (None, "", "NONE"):
            raise ShapeError(f"{op.op_type} {op.name!r} with a quantised cache ({side}) is not counted")


def _grouped_extras(
    op: Operator,
    dtype: DType,
    sizes: _Sizes,
    vectors: int,
    *,
    cosines: Tensor | None,
    norm: Tensor | None,
    sink: Tensor | None,
) -> Counts:
    """Rotation and norms of `vectors` head vectors of Q and K, and a sink in every line of the softmax."""
    total = Counts()
    if op.attributes.get("do_rotary"):
        total += _rotated(dtype, vectors * 2 * shape_of(cosines, "the cosine cache")[1])
    if norm is not None:
        total += _head_norms(dtype, vectors, sizes.width)
    if sink is not None or op.attributes.get("smooth_softmax") == 1:
        total += Counts.of(dtype, add=1, sub=1, root=1, compare=1) * sizes.lines
    return total


@rule("GroupQueryAttention", family="attention", domain=_CONTRIB)
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
        mul and k - 1 add. k is total_sequence_length where known, else the length of present_key, else past and new
        keys. MACs = mul of both products. Scores outside the causal or local window are computed like any other (dense
        count).
    Not counted:
        Masks, repeating heads, copies of the cache. A quantised cache is refused.
    Example:
        Q[1, 1, 8], K = V[1, 1, 4], 2 heads, 1 kv head, total_sequence_length 3: 6 scores in 2 lines, d = 4; MACs = 24 +
        8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: GroupQueryAttention.
    """
    _refuse_quantised_cache(op)
    dtype = dtype_of(op.input(0))
    sizes, new = _grouped_sizes(op)
    kv_heads = int(op.attributes["kv_num_heads"])
    vectors = sizes.batch * (sizes.heads * sizes.queries + kv_heads * new)
    return _contrib(op, dtype, sizes, sums=int(op.input(10) is not None)) + _grouped_extras(
        op, dtype, sizes, vectors, cosines=op.input(7), norm=op.input(14), sink=op.input(11)
    )


@rule("PackedAttention", family="attention", domain=_CONTRIB)
def packed_attention(op: Operator) -> Counts:
    """Self attention, with projection, of sequences that are packed without padding (upper bound).

    Equation:
        [Q, K, V] = X W + B for T tokens; each token attends to those of its own sequence
    Basic operations:
        As the contrib operator Attention, with as many keys for every token as the longest sequence may have, S of
        token_offset[B, S]: only the data knows the lengths. 1 add per score for attention_bias. MACs = mul of the three
        products.
    Not counted:
        Packing; offsets.
    Example:
        X[3, 4], W[4, 12], token_offset[2, 2], 2 heads: MACs = 36 * 4 + 12 * 2 + 12 * 2 = 192; mul = 192 + 12 = 204, add
        = 36 * 4 + 12 + 6 + 12 = 174, sub = root = div = 12, compare = 6.
    Reference:
        Contrib operators: PackedAttention. TO paper, Eq. 3.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    tokens, channels = shape_of(op.input(0), "the input")
    hidden = shape_of(op.input(1), "the weight")[1]
    _, key_size, value_size = op.attributes.get("qkv_hidden_sizes") or (hidden // 3,) * 3
    longest = shape_of(op.input(3), "the token offsets")[1]
    sizes = _Sizes(1, heads, tokens, longest, int(key_size) // heads, int(value_size) // heads)
    projection = dot_products((dtype, dtype), tokens * hidden, channels, op.input(2))
    return projection + _contrib(op, dtype, sizes, sums=int(op.input(5) is not None))


@rule("PackedMultiHeadAttention", family="attention", domain=_CONTRIB)
def packed_multi_head_attention(op: Operator) -> Counts:
    """Attention of given queries, keys and values of sequences that are packed without padding (upper bound).

    Equation:
        Y = softmax(scale * (Q + bq) (K + bk)^T + attention_bias) (V + bv) within each sequence
    Basic operations:
        As MultiHeadAttention, for T tokens with as many keys as the longest sequence may have, S of token_offset[B, S]:
        only the data knows the lengths. MACs = mul of both products.
    Not counted:
        Packing; offsets.
    Example:
        Q = K = V[3, 4], token_offset[2, 2], 2 heads, no bias: 12 scores in 6 lines; MACs = 12 * 2 + 12 * 2 = 48, mul =
        60, add = 12 + 6 + 12 = 30, sub = root = div = 12, compare = 6.
    Reference:
        Contrib operators: PackedMultiHeadAttention.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    query = shape_of(op.input(0), "the query")
    if len(query) == 4:  # tokens, heads, 3, width
        width = value_width = query[3]
    else:
        width, value_width = query[1] // heads, shape_of(op.input(2), "the value")[1] // heads
    longest = shape_of(op.input(4), "the token offsets")[1]
    biased = 0 if op.input(3) is None else query[0] * heads * (2 * width + value_width)
    sizes = _Sizes(1, heads, query[0], longest, width, value_width)
    return Counts.of(dtype, add=biased) + _contrib(op, dtype, sizes, sums=int(op.input(6) is not None))


@rule("DecoderMaskedMultiHeadAttention", family="attention", domain=_CONTRIB)
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
    known, past = known_scalar(op.input(7)), _length(op.input(5))
    if cross:
        keys = _length(key)
    elif known is not None:
        keys = int(known) + length
    else:
        keys = past if op.attributes.get("past_present_share_buffer") else past + length
    projected = width if cross else 2 * width + value_width
    biased = 0 if op.input(10) is None else batch * length * heads * projected
    sums = (op.input(3) is not None) + (op.input(4) is not None)
    sizes = _Sizes(batch, heads, length, keys, width, value_width)
    return Counts.of(dtype, add=biased) + _contrib(op, dtype, sizes, sums=sums)


@rule("DecoderAttention", family="attention", domain=_CONTRIB)
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
    past = 0 if cached == 0 else _length(op.input(6))
    if static and cached:  # the cache holds all keys of the encoder
        new = 0
    types = (dtype, dtype)
    projections = dot_products(types, batch * queries * hidden, hidden, op.input(4))
    projections += dot_products(types, batch * new * 2 * hidden, hidden, op.input(4))
    sizes = _Sizes(batch, heads, queries, past + new, hidden // heads, hidden // heads)
    return projections + _contrib(op, dtype, sizes, sums=int(op.input(5) is not None))


@rule("SparseAttention", family="attention", domain=_CONTRIB)
def sparse_attention(op: Operator) -> Counts:
    """Grouped attention under a mask of blocks, counted as if no block were masked (upper bound).

    Equation:
        Q, K = rotary(Q), rotary(K); Y = softmax(scale * Q K^T + block mask) V over all keys of the cache
    Basic operations:
        As GroupQueryAttention without its extras: do_rotary per pair of rotated elements 4 mul, 1 sub, 1 add; per score
        d mul, d - 1 add, 1 mul by the scale (none where it is 1); softmax; per output element k mul and k - 1 add. k is
        total_sequence_length where known, else the length of the cache. Masked scores are computed like any other
        (dense count). MACs = mul of both products.
    Not counted:
        The mask, repeating heads, copies of the cache.
    Example:
        Q[1, 1, 8], K = V[1, 1, 4], 2 heads, 1 kv head, total_sequence_length 3: 6 scores in 2 lines, d = 4; MACs = 24 +
        8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: SparseAttention.
    """
    dtype = dtype_of(op.input(0))
    heads, kv_heads = int(op.attributes["num_heads"]), int(op.attributes["kv_num_heads"])
    batch, queries, hidden = shape_of(op.input(0), "the query")
    width = hidden // (heads + 2 * kv_heads if op.input(1) is None else heads)
    known = known_scalar(op.input(7))
    keys = _length(op.input(3)) if known is None else int(known)
    total = _contrib(op, dtype, _Sizes(batch, heads, queries, keys, width, width), sums=0)
    if op.attributes.get("do_rotary"):
        rotated = 2 * shape_of(op.input(9), "the cosine cache")[1]
        total += _rotated(dtype, batch * queries * (heads + kv_heads) * rotated)
    return total


@rule("PagedAttention", family="attention", domain=_CONTRIB)
def paged_attention(op: Operator) -> Counts:
    """Grouped attention of packed tokens over a cache in blocks (upper bound).

    Equation:
        As GroupQueryAttention, each of T tokens over the keys that the block table gives its sequence
    Basic operations:
        Per token as in GroupQueryAttention: norm of the heads of Q and K (q_norm_weight), rotation (do_rotary), scores,
        softcap, softmax with an optional sink, the product with V. Every token has as many keys as the second element
        of attention_metadata where that is known, else as the block table can hold, max_blocks * block_size: only the
        data knows the lengths. MACs = mul of both products.
    Not counted:
        Masks, repeating heads, writing to the cache. A quantised cache and kv_cache_layout LATENT are refused.
    Example:
        Q[1, 8], K = V[1, 4], 2 heads, 1 kv head, block table [1, 1] of blocks of 3 keys: 6 scores in 2 lines, d = 4;
        MACs = 24 + 8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: PagedAttention.
    """
    _refuse_quantised_cache(op)
    if op.attributes.get("kv_cache_layout") == "LATENT":
        raise ShapeError(f"PagedAttention {op.name!r} with kv_cache_layout LATENT is not counted")
    dtype = dtype_of(op.input(0))
    heads, kv_heads = int(op.attributes["num_heads"]), int(op.attributes["kv_num_heads"])
    tokens, hidden = shape_of(op.input(0), "the query")
    width = hidden // (heads + 2 * kv_heads if op.input(1) is None else heads)
    metadata = op.input(16)
    if metadata is not None and metadata.value is not None:
        keys = int(metadata.value.reshape(-1)[1])
    else:
        keys = shape_of(op.input(7), "the block table")[1] * shape_of(op.input(3), "the key cache")[1]
    sizes = _Sizes(1, heads, tokens, keys, width, width)
    return _contrib(op, dtype, sizes, sums=0) + _grouped_extras(
        op, dtype, sizes, tokens * (heads + kv_heads), cosines=op.input(8), norm=op.input(12), sink=op.input(11)
    )
