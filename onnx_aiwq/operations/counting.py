"""Count every operator of a graph: pick its rule, apply it, and say in which state the node is."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from onnx_aiwq.errors import ModelError, PolicyError, ShapeError
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.alike import Likeness, likeness
from onnx_aiwq.operations.registry import Rule, all_uncountable, find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, Operator, Tensor

Convention = Literal["default", "paper"]
CONVENTION_NAME = "onnx_aiwq.convention/1"
DECOMPOSED_FAMILY = "composite"
_MAX_EXPANSIONS = 20  # function bodies within function bodies
# A rule may take a well-formed node for granted; one that is not must not end the whole report.
MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Status(str, enum.Enum):
    """What became of a node; unknown is a visible state, never zero."""

    COUNTED = "counted"
    DECOMPOSED = "decomposed"
    MOVEMENT = "movement"
    CONSTANT = "constant"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class NodeCost:
    """The cost of one node for one inference, its repeats included.

    Attributes:
        operator: the node.
        status: how the count came about.
        family: class of operators that shares one efficiency on hardware ("dense", "elementwise", "movement", ...).
        counts: basic operations by data type, and MACs; None where the node is unsupported.
        bytes_read: bytes; None where a shape is unknown.
        bytes_written: bytes; None where a shape is unknown.
        reason: why the node is unsupported, else "".
        bound: whether the counts or bytes are the most that run-time data can make of them.
        like: the first of the nodes of equal cost that were counted together, None for that one itself. A cost that is
            made from this one is like no other.
    """

    operator: Operator
    status: Status
    family: str
    counts: Counts | None
    bytes_read: int | None
    bytes_written: int | None
    reason: str = ""
    bound: bool = False
    like: NodeCost | None = field(default=None, init=False, repr=False, compare=False)


def count_graph(
    graph: Graph,
    *,
    convention: Convention = "default",
    weigh: Callable[[Counts], int] | None = None,
    known: Iterable[NodeCost] = (),
) -> tuple[NodeCost, ...]:
    """Count every operator of a graph, in execution order.

    Args:
        graph: from `onnx_aiwq.load`.
        convention: `paper` leaves comparisons out, as the TO paper does.
        weigh: what makes one branch of an If costlier than the other; basic operations unless given.
        known: costs of operators that were counted before by the same convention; those that the graph still has keep
            them.

    Raises:
        PolicyError: if the convention is neither `default` nor `paper`.
    """
    if convention not in ("default", "paper"):
        raise PolicyError(f"convention {convention!r}: expected 'default' or 'paper'")
    counted = {id(cost.operator): cost for cost in known}
    equal: dict[Likeness, NodeCost] = {}
    costs = [
        counted.get(id(operator)) or _count_like(operator, graph, convention, equal) for operator in graph.operators
    ]
    return tuple(_without_cheaper_branches(costs, weigh or _basic_operations))


def _count_like(operator: Operator, graph: Graph, convention: Convention, equal: dict[Likeness, NodeCost]) -> NodeCost:
    """Count one operator, or take the cost of an equal one; `equal` grows."""
    key = None if graph.symbol_names else likeness(operator)
    first = None if key is None else equal.get(key)
    if first is None:
        cost = count_operator(operator, graph, convention=convention)
        if key is not None and not cost.reason:  # a reason names the node
            equal[key] = cost
        return cost
    counts, read, written = first.counts, first.bytes_read, first.bytes_written
    cost = NodeCost(operator, first.status, first.family, counts, read, written, bound=first.bound)
    object.__setattr__(cost, "like", first)
    return cost


def count_operator(operator: Operator, graph: Graph, *, convention: Convention = "default") -> NodeCost:
    """Count one operator, its repeats included."""
    rule = find_rule(operator.op_type, operator.domain, operator.version)
    read, written = _traffic(operator, rule)
    if operator.constant:
        family = rule.family if rule else DECOMPOSED_FAMILY
        return NodeCost(operator, Status.CONSTANT, family, Counts(), 0, 0)
    status, family, counts, reason, bound = _by_body(operator, graph, 0) if rule is None else _by_rule(operator, rule)
    if counts is None:
        return NodeCost(operator, status, family, None, read, written, reason)
    if convention == "paper":
        counts = counts.without(BasicOp.COMPARE)
    bound = bound or operator.bound
    return NodeCost(operator, status, family, counts * operator.repeats, read, written, bound=bound)


def misfit(error: Exception) -> str:
    """Why a node that its rule cannot read has no count."""
    return f"does not fit its rule: {type(error).__name__}: {error}"


class _Call(NamedTuple):
    """What one call of a node costs; the fields are those of `NodeCost`."""

    status: Status
    family: str
    counts: Counts | None
    reason: str = ""
    bound: bool = False


def _by_rule(operator: Operator, rule: Rule) -> _Call:
    if rule.function is None:
        return _Call(Status.MOVEMENT, rule.family, Counts())
    try:
        counts, bound = rule.function(operator), rule.is_bound(operator)
    except (ShapeError, ModelError) as error:
        return _Call(Status.UNSUPPORTED, rule.family, None, str(error))
    except MISFITS as error:
        return _Call(Status.UNSUPPORTED, rule.family, None, misfit(error))
    unpriced = [dtype.label for dtype in counts.dtypes if dtype.bits == 0 or dtype.is_complex]
    if unpriced:
        return _Call(Status.UNSUPPORTED, rule.family, None, f"computes in {unpriced[0]}, which has no price")
    return _Call(Status.COUNTED, rule.family, counts, bound=bound)


def _by_body(operator: Operator, graph: Graph, depth: int) -> _Call:
    """Count the parts of the ONNX function body that defines the operator."""
    try:
        parts = graph.expand(operator) if depth < _MAX_EXPANSIONS else None
    except ModelError as error:
        return _Call(Status.UNSUPPORTED, DECOMPOSED_FAMILY, None, str(error))
    if parts is None:
        return _Call(Status.UNSUPPORTED, DECOMPOSED_FAMILY, None, _reason_without_rule(operator))
    total, bound = Counts(), False
    for part in parts:
        if part.constant:
            continue
        rule = find_rule(part.op_type, part.domain, part.version)
        call = _by_body(part, graph, depth + 1) if rule is None else _by_rule(part, rule)
        if call.counts is None:
            reason = f"{part.op_type} in its function body {call.reason}"
            return _Call(Status.UNSUPPORTED, DECOMPOSED_FAMILY, None, reason)
        total += call.counts * (part.repeats // max(operator.repeats, 1))
        bound = bound or call.bound or part.bound
    return _Call(Status.DECOMPOSED, DECOMPOSED_FAMILY, total, bound=bound)


def _reason_without_rule(operator: Operator) -> str:
    why = all_uncountable().get((operator.domain, operator.op_type))
    return f"cannot be counted: {why}" if why else "has no cost rule and no ONNX function body"


def _traffic(operator: Operator, rule: Rule | None) -> tuple[int | None, int | None]:
    """Bytes that all calls of the node read and write; a tensor that is read twice by one call counts once."""
    if rule is not None and rule.traffic == "view":
        return 0, 0
    written = _size_bytes(operator.outputs)
    if rule is not None and rule.traffic == "generated":
        return 0, None if written is None else written * operator.repeats
    inputs = {tensor.name: tensor for tensor in operator.inputs if tensor is not None}
    if rule is not None and rule.traffic == "selected" and operator.input(0) is not None:
        source = operator.inputs[0]
        others = _size_bytes(tensor for name, tensor in inputs.items() if source is None or name != source.name)
        read = None if others is None or written is None else others + written
    else:
        read = _size_bytes(inputs.values())
    repeats = operator.repeats
    return None if read is None else read * repeats, None if written is None else written * repeats


def _size_bytes(tensors: Iterable[Tensor | None]) -> int | None:
    total = 0
    for tensor in tensors:
        if tensor is not None:
            if tensor.size_bytes is None:
                return None
            total += tensor.size_bytes
    return total


def _basic_operations(counts: Counts) -> int:
    return sum(counts.operations.values())


def _without_cheaper_branches(costs: Sequence[NodeCost], weigh: Callable[[Counts], int]) -> list[NodeCost]:
    """Drop the nodes of the cheaper branch of every If whose condition only run-time data knows, innermost first."""
    kept = list(costs)
    depth = max((len(cost.operator.branches) for cost in kept), default=0)
    for level in range(depth, 0, -1):
        # Unknown is costlier than anything known: a branch that cannot be counted is never hidden by one that can.
        weights: dict[tuple[tuple[str, str], ...], tuple[int, int]] = {}
        for cost in kept:
            path = cost.operator.branches[:level]
            if len(path) == level:
                unknown, known = weights.get(path, (0, 0))
                known += weigh(cost.counts) if cost.counts is not None else 0
                weights[path] = (unknown + (cost.status is Status.UNSUPPORTED), known)
        costliest: dict[str, tuple[tuple[str, str], ...]] = {}
        for path, weight in weights.items():
            best = costliest.get(path[-1][0])
            if best is None or weight > weights[best]:
                costliest[path[-1][0]] = path
        taken = set(costliest.values())
        kept = [c for c in kept if len(c.operator.branches) < level or c.operator.branches[:level] in taken]
    return kept
