"""Indexers of sparse attention: they score compressed keys against queries and select the best."""

from __future__ import annotations

import msgspec

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, insertions, known_scalar, softmax_line
from onnx_aiwq.operations.attention_parts import head_norms, is_scaled, rotation
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"
_REAL = DType.FLOAT  # the schema has everything computed in float32, whatever the tensors are


class _Indexing(msgspec.Struct, frozen=True):
    """What one call does: `windows` keys are made; each of `queries` tokens scores `entries` keys and takes `kept`."""

    queries: int
    windows: int
    entries: int
    heads: int
    width: int
    kept: int


def _policy(op: Operator) -> str:
    policy = str(op.attributes["policy_mode"])
    if policy not in ("qsa", "csa"):
        raise ShapeError(f"policy_mode {policy!r} of {op.op_type} {op.name!r}: expected 'qsa' or 'csa'")
    return policy


def _kept(op: Operator, policy: str) -> int:
    """How many keys a query takes: tokens are selected in whole blocks."""
    if policy == "csa":
        return int(op.attributes["index_topk"])
    return int(op.attributes["token_budget"]) // int(op.attributes["compress_ratio"])


def _heads(op: Operator, policy: str) -> tuple[int, int]:
    """Heads of the query and their width; the key may be packed with the query as one head more."""
    width = size_of(op.input(2), "the norm of the queries")
    heads = shape_of(op.input(0), "the query")[-1] // width
    return heads - (policy == "qsa" and op.input(1) is None), width


def _pooled(policy: str, ratio: int, width: int) -> Counts:
    """One compressed key: the mean of `ratio` keys, or a sum of 2 `ratio` keys that gates weight."""
    if policy == "qsa":
        return Counts.of(_REAL, add=ratio - 1, div=int(ratio != 1)) * width
    slots = 2 * ratio
    return (softmax_line(_REAL, slots) + Counts.of(_REAL, add=slots + slots - 1, mul=slots)) * width


def _indexed(op: Operator, policy: str, sizes: _Indexing) -> Counts:
    ratio, cosines = int(op.attributes["compress_ratio"]), shape_of(op.input(4), "the cosine cache")[-1]
    prepared = sizes.windows + sizes.queries * sizes.heads
    rotated = cosines if policy == "qsa" else 2 * cosines
    total = _pooled(policy, ratio, sizes.width) * sizes.windows
    total += head_norms(_REAL, prepared, sizes.width) + rotation(_REAL, prepared * rotated)
    scores = sizes.queries * sizes.entries
    factors = scores * sizes.heads * (is_scaled(op, sizes.width) + (policy == "csa"))
    if policy == "csa":
        scale = op.attributes.get("head_weight_scale")
        factors += sizes.queries * sizes.heads * (sizes.heads != 1 if scale is None else scale != 1.0)
    total += dot_products((_REAL, _REAL), scores * sizes.heads, sizes.width)
    total += Counts.of(_REAL, add=scores * max(sizes.heads - 1, 0), mul=factors, compare=scores * sizes.heads)
    return total + Counts.of(_REAL, compare=insertions(sizes.entries, sizes.kept)) * sizes.queries


@rule("SparseAttentionIndexer", family="attention", domain=_CONTRIB, bound=True)
def sparse_attention_indexer(op: Operator) -> Counts:
    """The candidates that sparse attention may read: compressed keys are scored, the best are taken (upper bound).

    Equation:
        qsa: k[j] = rotary(norm(mean of the r keys of block j)); score[t, j] = sum over h of scale * relu(q[t, h] .
        k[j]); csa: k[j] = rotary(norm(sum over 2 r slots of softmax(gate + bias) * key)); score[t, j] = sum over h of
        w[t, h] * head_weight_scale * scale * relu(q[t, h] . k[j]); q = rotary(norm(query)); the highest are selected
    Basic operations:
        In float32, with r = compress_ratio and heads of d elements. Per new key: qsa d (r - 1) add and d div (none for
        r = 1); csa 2 r d add, d softmax lines of 2 r (n - 1 compare, n sub, n root, n - 1 add, n div), 2 r d mul and (2
        r - 1) d add. Per new key and per head of a query: norm 2 d mul, d add, d + 1 div, 1 root; per pair of rotated
        elements 4 mul, 1 sub, 1 add (qsa as many elements as cos_cache is wide, csa twice as many). Per query, key and
        head d mul and d - 1 add, 1 compare, 1 mul by scale (none where it is 1), csa 1 mul by the weight; per query and
        key heads - 1 add; csa per query and head 1 mul by head_weight_scale (none where it is 1). The selection as TopK
        (an upper bound). qsa makes all complete blocks of the keys of the past and the new ones, csa the windows that
        the buffer and the new tokens fill. Where past_sequence_length is not known, the whole cache counts. Keys that a
        query may not attend to are scored like any other (dense count). MACs = mul of the dot products.
    Not counted:
        Masks and positions, the tokens of an incomplete block, copies of the state.
    Example:
        qsa, query[1, 1, 8], key[1, 1, 4], r = 2, token_budget 2, past_key[1, 3, 4], cos_cache[9, 2]: 2 heads, 2 blocks;
        pooling add = div = 8; 4 norms mul = 32, add = 16, div = 20, root = 4; 4 pairs mul = 16, add = sub = 4; 4 scores
        MACs = mul = 16, add = 12, compare = mul = 4; add = 2; selection 1 compare. In all mul = 68, add = 42, div = 28,
        sub = root = 4, compare = 5.
    Reference:
        Contrib operators: SparseAttentionIndexer. ONNX operators: TopK.
    """
    policy, ratio = _policy(op), int(op.attributes["compress_ratio"])
    heads, width = _heads(op, policy)
    batch, tokens, _ = shape_of(op.input(0), "the query")
    held, shared, known = shape_of(op.input(7), "the past keys")[1], op.input(12), known_scalar(op.input(12))
    if policy == "csa":
        buffered = 0 if op.input(13) is None else shape_of(op.input(13), "the buffer")[2]
        windows = (buffered % ratio + tokens) // ratio
        grown = windows
    else:
        grown = tokens
    entries = held + grown if shared is None else (held if known is None else min(int(known) + grown, held))
    if policy == "qsa":
        windows = entries = entries // ratio
    sizes = _Indexing(batch * tokens, batch * windows, entries, heads, width, _kept(op, policy))
    return _indexed(op, policy, sizes)


@rule("PackedSparseAttentionIndexer", family="attention", domain=_CONTRIB, bound=True)
def packed_sparse_attention_indexer(op: Operator) -> Counts:
    """SparseAttentionIndexer for packed tokens of several requests, with a state of fixed size (upper bound).

    Equation:
        As SparseAttentionIndexer, for each request on its own; qsa too keeps its finished keys in the state
    Basic operations:
        As SparseAttentionIndexer. Only the data knows the lengths: each of T tokens scores all state_capacity keys, and
        with r = compress_ratio, B requests make at most (T + B (r - 1)) / r new keys, and no more than T. MACs = mul of
        the dot products.
    Not counted:
        Positions, the tokens of an incomplete block, copies of the state, capturing its changes.
    Example:
        qsa, query[1, 8], key[1, 4], r = 2, token_budget 2, past_key_state[1, 2, 4], cos_cache[9, 2]: 2 heads, 1 new
        key, 2 keys; pooling add = div = 4; 3 norms mul = 24, add = 12, div = 15, root = 3; 3 pairs mul = 12, add = sub
        = 3; 4 scores MACs = mul = 16, add = 12, compare = mul = 4; add = 2; selection 1 compare. In all mul = 56, add =
        33, div = 19, sub = root = 3, compare = 5.
    Reference:
        Contrib operators: PackedSparseAttentionIndexer, SparseAttentionIndexer. ONNX operators: TopK.
    """
    policy, ratio = _policy(op), int(op.attributes["compress_ratio"])
    heads, width = _heads(op, policy)
    tokens = shape_of(op.input(0), "the query")[0]
    batch, entries, _ = shape_of(op.input(12), "the state")
    windows = min(tokens, (tokens + batch * (ratio - 1)) // ratio)
    return _indexed(op, policy, _Indexing(tokens, windows, entries, heads, width, _kept(op, policy)))
