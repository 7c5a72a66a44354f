"""Attention over the keys that an indexer has selected: run-time data decides how many, the most is counted."""

from __future__ import annotations

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of, known_scalar
from onnx_aiwq.operations.attention_parts import (
    AttentionSizes,
    attend,
    cache_rounding,
    cached_length,
    grouped_extras,
    head_norms,
)
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

_CONTRIB = "com.microsoft"
_MODES = ("selected_only", "local_plus_selected")


def _candidates(op: Operator, selected: int, visible: int) -> int:
    """Keys of one query: those that are selected, and in one mode those of the local window, all where it is -1."""
    mode = op.attributes.get("attention_mode") or _MODES[0]
    if mode not in _MODES:
        raise ShapeError(f"attention_mode {mode!r} of {op.op_type} {op.name!r} is none of {', '.join(_MODES)}")
    if mode == _MODES[0]:
        return selected
    window = int(op.attributes.get("local_window_size", -1))
    return selected + (visible if window < 0 else min(window, visible))


def _around(
    op: Operator,
    dtype: DType,
    sizes: AttentionSizes,
    *,
    cosines: Tensor | None,
    norms: tuple[Tensor | None, Tensor | None],
    sink: Tensor | None,
) -> Counts:
    """Norms and rotation of Q and of the new K, and the sink."""
    tokens = sizes.batch * sizes.queries
    heads, kv_heads = tokens * sizes.heads, tokens * int(op.attributes["kv_num_heads"])
    normed = (0 if norms[0] is None else heads) + (0 if norms[1] is None else kv_heads)
    extras = grouped_extras(op, dtype, sizes, heads + kv_heads, cosines=cosines, norm=None, sink=sink)
    return extras + head_norms(dtype, normed, sizes.width)


@rule("DynamicSparseAttention", family="attention", domain=_CONTRIB, bound=True)
def dynamic_sparse_attention(op: Operator) -> Counts:
    """Grouped attention of every query over the keys that were selected for it (upper bound).

    Equation:
        Q, K = rotary(norm(Q)), rotary(norm(K)); Y = softmax(scale * Q K^T) V over the selected keys, and with
        attention_mode local_plus_selected over the last local_window_size keys of the cache too; with head_sink or
        smooth_softmax, e^sink joins the denominator
    Basic operations:
        As GroupQueryAttention. Every query has k keys: as many as selected_indices has columns, and those of the
        window, at most total_sequence_length where that is known, else the length of the cache: only the data knows how
        many are selected and visible. MACs = mul of both products.
    Not counted:
        Gathering the keys, repeating heads, copies of the cache, masks.
    Example:
        Q[1, 1, 8], K = V[1, 1, 4], 2 heads, 1 kv head, selected_indices [1, 3]: 6 scores in 2 lines, d = 4; MACs = 24 +
        8 * 3 = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: DynamicSparseAttention.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    batch, queries, hidden = shape_of(op.input(0), "the query")
    width = hidden // (heads if op.input(1) is not None else heads + 2 * int(op.attributes["kv_num_heads"]))
    known = known_scalar(op.input(10))
    cached = cached_length(op.input(3)) or queries
    keys = _candidates(op, shape_of(op.input(7), "the selected indices")[1], cached if known is None else int(known))
    sizes = AttentionSizes(batch, heads, queries, keys, width, width)
    norms = (op.input(14), op.input(15))
    return attend(op, dtype, sizes, sums=0) + _around(
        op, dtype, sizes, cosines=op.input(11), norms=norms, sink=op.input(16)
    )


@rule("SparsePagedAttention", family="attention", domain=_CONTRIB, bound=True)
def sparse_paged_attention(op: Operator) -> Counts:
    """Grouped attention of packed tokens over the keys that were selected, in a cache of blocks (upper bound).

    Equation:
        As DynamicSparseAttention, with softcap * tanh(score / softcap) in front of the softmax
    Basic operations:
        As PagedAttention, for k keys per token: as many as selected_indices has columns, and with local_plus_selected
        those of the window, at most what the block table can hold; the bounds that attention_metadata states, where it
        is known, are taken if they are lower: only the data knows the lengths. A quantised cache as in PagedAttention,
        for the keys of the main cache that the tokens read, at most all that the block table can hold. MACs = mul of
        both products.
    Not counted:
        Gathering the keys, repeating heads, writing to the cache, masks, unpacking of 4 bits.
    Example:
        Q[1, 8], K = V[1, 4], 2 heads, 1 kv head, selected_indices [1, 3]: 6 scores in 2 lines, d = 4; MACs = 24 + 8 * 3
        = 48, mul = 48 + 6 = 54, add = 18 + 4 + 16 = 38, sub = root = div = 6, compare = 4.
    Reference:
        Contrib operators: SparsePagedAttention.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    tokens, hidden = shape_of(op.input(0), "the query")
    width = hidden // (heads if op.input(1) is not None else heads + 2 * int(op.attributes["kv_num_heads"]))
    sequences, blocks = shape_of(op.input(7), "the block table")
    visible = capacity = blocks * shape_of(op.input(3), "the key cache")[1]
    selected, metadata = shape_of(op.input(9), "the selected indices")[1], op.input(21)
    # Longest query, local keys, selected keys, auxiliary keys, both together; 0 says nothing.
    stated = [0] * 5 if metadata is None or metadata.value is None else metadata.value.reshape(-1).tolist()
    selected, visible = min(selected, stated[2] or selected), min(visible, stated[1] or visible)
    keys = _candidates(op, selected, visible)
    keys = min(keys, stated[4] or keys)
    sizes = AttentionSizes(1, heads, tokens, keys, width, width)
    norms, kv_heads = (op.input(17), op.input(18)), int(op.attributes["kv_num_heads"])
    cached = _candidates(op, 0, visible) if op.attributes.get("selected_kv_source") == "auxiliary" else keys
    read = min(tokens * cached, sequences * capacity) * kv_heads * width
    rounded = cache_rounding(
        op, dtype, made=tokens * kv_heads * width, read=(read, read), scales=(op.input(19), op.input(20))
    )
    around = _around(op, dtype, sizes, cosines=op.input(14), norms=norms, sink=op.input(16))
    return attend(op, dtype, sizes, sums=0) + around + rounded
