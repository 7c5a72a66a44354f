"""Levers of pruning: single weights, or whole channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

from onnx_aiwq.advise.levers import ACCURACY, Case, Lever
from onnx_aiwq.advise.precision import is_dense, weights_of
from onnx_aiwq.operations.counting import NodeCost
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import Counts, Tensor

UNSTRUCTURED_PERCENT = (50, 75, 90)
STRUCTURED_PERCENT = (25, 50)


def pruning_levers(case: Case) -> Iterator[Lever]:
    """Single weights and whole channels left out, by percent."""
    weights = {t.name: _in_file(t) for c in case.report.costs if is_dense(c) for t in weights_of(c.operator)}
    total = min(sum(weights.values()), case.stored)  # a constant may be larger than what it is made from
    for percent in UNSTRUCTURED_PERCENT:
        change = f"{percent} % of weights pruned, unstructured"
        if not total:
            for runtime in ("sparse", "dense"):
                yield case.impossible("pruning", f"{change}, {runtime} runtime", "no dense product reads a weight")
            continue
        yield from _unstructured(case, percent, change, case.stored - total * percent // 100)
    for percent in STRUCTURED_PERCENT:
        change = f"{percent} % of channels pruned"
        if not total:
            yield case.impossible("pruning", change, "no dense product reads a weight")
            continue
        yield _structured(case, percent, change, total)


def _unstructured(case: Case, percent: int, change: str, stored: int) -> Iterator[Lever]:
    kept = Fraction(100 - percent, 100)
    index = "the positions of the weights that are left take no bytes here; a real format stores them"
    yield case.lever(
        "pruning",
        f"{change}, sparse runtime",
        lambda: case.price(costs=[_thinned(cost, kept) for cost in case.report.costs], stored=stored),
        assumes=(
            "the runtime skips every pruned weight at the efficiency of dense products; few do",
            "the arithmetic of dense products with weights, and the bytes of these weights, fall by the pruned share",
            index,
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY, "the overhead of sparse kernels"),
    )
    yield case.lever(
        "pruning",
        f"{change}, dense runtime",
        lambda: replace(case.before, stored_bytes=stored),
        assumes=("the runtime multiplies zeros like any number: only the stored bytes shrink", index),
        unknown=(ACCURACY,),
    )


def _scaled(counts: Counts | None, kept: Fraction) -> Counts | None:
    """Counts times a share, rounded up."""
    if counts is None:
        return None
    scaled = {key: _up(number, kept) for key, number in counts.operations.items()}
    return Counts(MappingProxyType(scaled), _up(counts.macs, kept))


def _up(number: int, share: Fraction) -> int:
    return -(-number * share.numerator // share.denominator)


def _in_file(weight: Tensor) -> int:
    """Bytes that a weight is stored in, which is in integers where it is dequantised."""
    bits = (weight.quantized or weight.dtype).bits
    return ((weight.size or 0) * bits + BITS_PER_BYTE - 1) // BITS_PER_BYTE


def _weight_bytes(cost: NodeCost) -> int:
    moved = sum(tensor.size_bytes or 0 for tensor in weights_of(cost.operator)) * cost.operator.repeats
    return min(moved, cost.bytes_read or 0)


def _thinned(cost: NodeCost, kept: Fraction) -> NodeCost:
    """A dense product with weights of which a share is left; any other node as it is."""
    if not is_dense(cost) or not weights_of(cost.operator):
        return cost
    weight_bytes = _weight_bytes(cost)
    read = None if cost.bytes_read is None else cost.bytes_read - weight_bytes + _up(weight_bytes, kept)
    return replace(cost, counts=_scaled(cost.counts, kept), bytes_read=read)


def _structured(case: Case, percent: int, change: str, weight_bytes: int) -> Lever:
    kept = Fraction(100 - percent, 100)
    stored = _up(case.stored - weight_bytes, kept) + _up(weight_bytes, kept * kept)
    return case.lever(
        "pruning",
        change,
        lambda: case.price(costs=[_narrower(cost, kept) for cost in case.report.costs], stored=stored),
        assumes=(
            "an estimate: every layer loses the same share of its channels, in and out, the first and last one too",
            "dense products with weights fall with the square of the kept share, grouped ones (depthwise) and all "
            "other work and bytes linearly",
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY, "which channels can go: the real network keeps its inputs and outputs"),
    )


def _narrower(cost: NodeCost, kept: Fraction) -> NodeCost:
    """A node of a network of which every layer keeps that share of its channels."""
    dense = is_dense(cost) and bool(weights_of(cost.operator)) and (cost.operator.attributes.get("group") or 1) == 1
    arithmetic = kept * kept if dense else kept
    weight_bytes = _weight_bytes(cost) if dense else 0
    read = None
    if cost.bytes_read is not None:
        read = _up(cost.bytes_read - weight_bytes, kept) + _up(weight_bytes, arithmetic)
    written = None if cost.bytes_written is None else _up(cost.bytes_written, kept)
    return replace(cost, counts=_scaled(cost.counts, arithmetic), bytes_read=read, bytes_written=written)
