"""Shapes of onnxruntime's attention over selected keys, of the indexers that select them, and of quantised attention.

They are those that the schemas of onnxruntime state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from onnx_aiwq.graph.own_shapes import Facts, Open, OutputShape, Typed

_MS = "com.microsoft"
_INT32 = onnx.TensorProto.INT32


def _quantized_attention(facts: Facts) -> Sequence[OutputShape]:
    shape, weight = facts.shape(0), facts.shape(7)
    return [] if shape is None or weight is None else [Typed(facts.number(0), (*shape[:2], weight[1]))]


def _like_first(facts: Facts) -> Sequence[OutputShape]:
    return facts.inputs[:1]


def _head_size(facts: Facts, hidden: int) -> int:
    """Of a query that is packed with key and value where they are absent."""
    heads = int(facts.attributes["num_heads"])
    return hidden // (heads if facts.has(1) else heads + 2 * int(facts.attributes["kv_num_heads"]))


def _selected_attention(facts: Facts) -> Sequence[OutputShape]:
    """The cache keeps the size of the one that is given; without one it holds what is new, or the known total."""
    shape = facts.shape(0)
    if shape is None:
        return []
    width = _head_size(facts, shape[2])
    output = Typed(facts.number(0), (*shape[:2], facts.attributes["num_heads"] * width))
    if facts.has(3):
        return [output, facts.inputs[3], facts.inputs[4]]
    total = facts.integers(10)
    cache = Typed(facts.number(0), (shape[0], facts.attributes["kv_num_heads"], total[0] if total else shape[1], width))
    return [output, cache, cache]


def _selected_paged_attention(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None:
        return []
    width = facts.attributes["num_heads"] * _head_size(facts, shape[1])
    return [Typed(facts.number(0), (shape[0], width)), facts.inputs[3], facts.inputs[4]]


def _capacity(facts: Facts) -> int:
    """How many places a query has for what is selected."""
    given = facts.attributes
    if given["policy_mode"] == "csa":
        return int(given["index_topk"])
    return int(given["token_budget"]) + int(given["compress_ratio"]) - 1


def _indexer(facts: Facts) -> Sequence[OutputShape]:
    query, past = facts.shape(0), facts.shape(7)
    if query is None or past is None:
        return []
    batch, tokens, _ = query
    selected = Typed(_INT32, (batch, tokens, _capacity(facts)))
    if facts.attributes["policy_mode"] == "qsa":
        keys = past if facts.has(12) else (past[0], past[1] + tokens, past[2])
        return [selected, Typed(facts.number(0), keys)]
    buffer = facts.inputs[13].shape if len(facts.inputs) > 13 and facts.inputs[13] is not None else None
    if buffer is None:
        return [selected, Typed(facts.number(0), past if facts.has(12) else (past[0], Open(), past[2]))]
    ratio = int(facts.attributes["compress_ratio"])
    pending = buffer[2] % ratio  # a whole window that is buffered has been compressed before
    windows = (pending + tokens) // ratio
    kept = (pending + tokens) % ratio + (ratio if windows or buffer[2] >= ratio else 0)
    keys = past if facts.has(12) else (past[0], past[1] + windows, past[2])
    return [
        selected,
        Typed(facts.number(0), keys),
        Typed(facts.number(0), (*buffer[:2], kept, buffer[3])),
    ]


def _packed_indexer(facts: Facts) -> Sequence[OutputShape]:
    query, buffer = facts.shape(0), facts.shape(13)
    if query is None or buffer is None:
        return []
    captured = int(facts.attributes.get("state_update_capacity") or 0)
    return [
        Typed(_INT32, (query[0], _capacity(facts))),
        Typed(_INT32, (query[0],)),
        *(facts.inputs[index] if index < len(facts.inputs) else None for index in (12, 13, 14, 15)),
        Typed(facts.number(0), (buffer[0], captured, buffer[2])),
    ]


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    (_MS, "DynamicSparseAttention"): _selected_attention,
    (_MS, "PackedSparseAttentionIndexer"): _packed_indexer,
    (_MS, "QOrderedAttention"): _quantized_attention,
    (_MS, "QOrderedLongformerAttention"): _like_first,
    (_MS, "SparseAttentionIndexer"): _indexer,
    (_MS, "SparsePagedAttention"): _selected_paged_attention,
}
