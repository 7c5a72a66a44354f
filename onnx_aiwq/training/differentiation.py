"""The operator Gradient: the partial derivatives of one tensor of a graph, priced like a backward pass of that part.

The attributes `xs` and `zs` name the tensors that cut the part out of the graph, `y` the one that is differentiated.
Where the inputs are those very tensors, the backward pass finds what the forward pass saved; where other tensors are
fed in their place, the part runs once more on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import (
    DECOMPOSED_FAMILY,
    MISFITS,
    Convention,
    NodeCost,
    Status,
    count_operator,
    misfit,
)
from onnx_aiwq.training.gradients import NodeGradient, gradients_between
from onnx_aiwq.vocabulary import BasicOp, Counts, Operator

_DOMAIN = "ai.onnx.preview.training"


def is_gradient(operator: Operator) -> bool:
    """Whether an operator is ai.onnx.preview.training.Gradient."""
    return operator.op_type == "Gradient" and operator.domain == _DOMAIN


def with_gradients(graph: Graph, costs: Sequence[NodeCost], convention: Convention) -> tuple[NodeCost, ...]:
    """The costs of a graph, those of its Gradient operators filled in.

    Args:
        graph: that was counted.
        costs: of its operators, in execution order.
        convention: they were counted by.
    """
    return tuple(
        _gradient_or_reason(graph, cost, convention)
        if is_gradient(cost.operator) and cost.status is Status.UNSUPPORTED
        else cost
        for cost in costs
    )


def _gradient_or_reason(graph: Graph, cost: NodeCost, convention: Convention) -> NodeCost:
    try:
        return _gradient_cost(graph, cost, convention)
    except MISFITS as error:
        return replace(cost, reason=misfit(error))


def _gradient_cost(graph: Graph, cost: NodeCost, convention: Convention) -> NodeCost:
    operator = cost.operator
    attributes = operator.attributes
    differentiated, others = list(attributes.get("xs", ())), list(attributes.get("zs", ()))
    target = str(attributes.get("y", ""))
    # For one call of the operator, which may stand in the body of a loop together with the part.
    part = [
        replace(inner, repeats=max(inner.repeats // operator.repeats, 1))
        for inner in _between(graph.operators, {*differentiated, *others}, target)
    ]
    nodes = gradients_between(graph, part, differentiated, target)
    given = [tensor.name if tensor is not None else "" for tensor in operator.inputs]
    again = (
        []
        if given == [*differentiated, *others]
        else [count_operator(inner, graph, convention=convention) for inner in part]
    )
    try:
        counts, read, written = _sum([*nodes.values(), *again])
    except ShapeError as error:
        return replace(cost, reason=f"cannot be counted: {error}")
    if not nodes:
        return replace(cost, reason=f"cannot be counted: its y {target!r} depends on none of its xs {differentiated}")
    if convention == "paper":
        counts = counts.without(BasicOp.COMPARE)
    repeats = operator.repeats
    return NodeCost(
        operator,
        Status.DECOMPOSED,
        DECOMPOSED_FAMILY,
        counts * repeats,
        None if read is None else read * repeats,
        None if written is None else written * repeats,
        bound=operator.bound or any(each.bound for each in again),
    )


def _between(operators: Sequence[Operator], cut: set[str], target: str) -> list[Operator]:
    """The operators that compute a tensor from those of the cut, in execution order."""
    wanted, part = {target}, []
    for operator in reversed(operators):
        if any(tensor is not None and tensor.name in wanted for tensor in operator.outputs):
            part.append(operator)
            wanted.update(tensor.name for tensor in operator.inputs if tensor is not None and tensor.name not in cut)
    return part[::-1]


def _sum(parts: Iterable[NodeGradient | NodeCost]) -> tuple[Counts, int | None, int | None]:
    """Totals of nodes.

    Raises:
        ShapeError: if one of them is unknown; the message is its reason.
    """
    counts = Counts()
    read: int | None = 0
    written: int | None = 0
    for part in parts:
        if part.counts is None:
            raise ShapeError(part.reason)
        counts += part.counts
        read = None if read is None or part.bytes_read is None else read + part.bytes_read
        written = None if written is None or part.bytes_written is None else written + part.bytes_written
    return counts, read, written
