"""What every node of a graph costs: rules, backward passes and the weight of a branch, brought together."""

from __future__ import annotations

from collections.abc import Iterable

from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import Convention, NodeCost, count_graph
from onnx_aiwq.transistors import transistor_operations


def node_costs(
    graph: Graph, *, convention: Convention = "default", known: Iterable[NodeCost] = ()
) -> tuple[NodeCost, ...]:
    """Count every operator of a graph, in execution order; of an If whose condition is unknown the costlier branch.

    Args:
        graph: from `onnx_aiwq.load`.
        convention: `paper` leaves comparisons out, as the TO paper does.
        known: costs of operators that were counted before by the same convention; those that the graph still has keep
            them, except a Gradient, which is counted by what it differentiates.

    Raises:
        PolicyError: if the convention is neither `default` nor `paper`.
    """
    counted = [cost for cost in known if cost.operator.op_type != "Gradient"]
    costs = count_graph(graph, convention=convention, weigh=transistor_operations, known=counted)
    if all(cost.operator.op_type != "Gradient" for cost in costs):
        return costs
    from onnx_aiwq.training.differentiation import with_gradients

    return with_gradients(graph, costs, convention)
