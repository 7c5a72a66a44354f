"""Attention of packed sequences, over caches in blocks or over selected keys: run-time data decides the lengths."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, known_scalar
from onnx_aiwq.operations.attention_parts import (
    AttentionSizes,
    attend,
    cache_rounding,
    cached_length,
    grouped_extras,
    rotation,
)
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, Operator

_CONTRIB = "com.microsoft"


@rule("PackedAttention", family="attention", domain=_CONTRIB, bound=True)
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
    sizes = AttentionSizes(1, heads, tokens, longest, int(key_size) // heads, int(value_size) // heads)
    projection = dot_products((dtype, dtype), tokens * hidden, channels, op.input(2))
    return projection + attend(op, dtype, sizes, sums=int(op.input(5) is not None))


@rule("PackedMultiHeadAttention", family="attention", domain=_CONTRIB, bound=True)
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
    sizes = AttentionSizes(1, heads, query[0], longest, width, value_width)
    return Counts.of(dtype, add=biased) + attend(op, dtype, sizes, sums=int(op.input(6) is not None))


@rule("SparseAttention", family="attention", domain=_CONTRIB, bound=True)
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
    keys = cached_length(op.input(3)) if known is None else int(known)
    total = attend(op, dtype, AttentionSizes(batch, heads, queries, keys, width, width), sums=0)
    if op.attributes.get("do_rotary"):
        rotated = 2 * shape_of(op.input(9), "the cosine cache")[1]
        total += rotation(dtype, batch * queries * (heads + kv_heads) * rotated)
    return total


@rule("PagedAttention", family="attention", domain=_CONTRIB, bound=True)
def paged_attention(op: Operator) -> Counts:
    """Grouped attention of packed tokens over a cache in blocks (upper bound).

    Equation:
        As GroupQueryAttention, each of T tokens over the keys that the block table gives its sequence
    Basic operations:
        Per token as in GroupQueryAttention: norm of the heads of Q and K (q_norm_weight), rotation (do_rotary), scores,
        softcap, softmax with an optional sink, the product with V. Every token has as many keys as the second element
        of attention_metadata where that is known and not 0, else as the block table can hold, max_blocks * block_size:
        only the data knows the lengths. With k_quant_type or v_quant_type, per new element of that cache 1 div, 1
        compare to round, 2 compare to saturate, and per element that the block table gives a sequence, up to the same
        number of keys, 1 mul (div and mul none where the scale is known to be one). With kv_cache_layout LATENT, the
        values are the first v_head_size elements of the keys. MACs = mul of both products.
    Not counted:
        Masks, repeating heads, writing to the cache, unpacking of 4 bits.
    Example:
        Q[1, 8], K = V[1, 4], 2 heads, 1 kv head, block table [1, 1] of blocks of 3 keys: 6 scores in 2 lines, d = 4;
        MACs = 24 + 8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: PagedAttention.
    """
    dtype, latent = dtype_of(op.input(0)), op.attributes.get("kv_cache_layout") == "LATENT"
    heads, kv_heads = int(op.attributes["num_heads"]), int(op.attributes["kv_num_heads"])
    tokens, hidden = shape_of(op.input(0), "the query")
    width = hidden // (heads + 2 * kv_heads if op.input(1) is None else heads)
    narrow = int(op.attributes.get("v_head_size") or width) if latent else width
    metadata, (sequences, blocks) = op.input(16), shape_of(op.input(7), "the block table")
    keys = 0 if metadata is None or metadata.value is None else int(metadata.value.reshape(-1)[1])
    if not keys:  # 0 says nothing
        keys = blocks * shape_of(op.input(3), "the key cache")[1]
    sizes = AttentionSizes(1, heads, tokens, keys, width, narrow)
    read = sequences * kv_heads * keys * width
    rounded = cache_rounding(
        op, dtype, made=tokens * kv_heads * width, read=(read, read), scales=(op.input(14), op.input(15))
    )
    extras = grouped_extras(
        op, dtype, sizes, tokens * (heads + kv_heads), cosines=op.input(8), norm=op.input(12), sink=op.input(11)
    )
    return attend(op, dtype, sizes, sums=0) + extras + rounded
