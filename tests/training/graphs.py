"""Small graphs for the tests of the levels, written in ONNX's text format, and their costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import onnx_aiwq.graph as graphs
from onnx_aiwq.operations.counting import NodeCost, count_graph
from onnx_aiwq.training import training_costs
from onnx_aiwq.vocabulary import Counts

HEADER = '<ir_version: 9, opset_import: ["" : 20]>\n'


def load(text: str, *, header: str = HEADER) -> graphs.Graph:
    """Read a model; what it declares without a value and no node makes is a weight (of zeros)."""
    model = onnx.parser.parse_model(header + text)
    made = {name for node in model.graph.node for name in node.output}
    for value in [value for value in model.graph.value_info if value.name not in made]:
        kind = value.type.tensor_type
        zeros = np.zeros(
            [dim.dim_value for dim in kind.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        )
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, value.name))
        model.graph.value_info.remove(value)
    return graphs.load(model)


def costs_of(graph: graphs.Graph, level: Any = "training", **options: Any) -> tuple[NodeCost, ...]:
    forward = count_graph(graph, convention=options.get("convention", "default"))
    return training_costs(graph, forward, level=level, **options)


def backward_of(graph: graphs.Graph, **options: Any) -> dict[str, Counts]:
    """Backward counts by operator type: training less validation; several nodes of a type are added."""
    found: dict[str, Counts] = {}
    trained, validated = costs_of(graph, **options), costs_of(graph, level="validation", **options)
    for full, forward in zip(trained, validated, strict=False):
        if full.counts is not None and forward.counts is not None:
            known = found.get(full.operator.op_type, Counts())
            found[full.operator.op_type] = known + difference(full.counts, forward.counts)
    return found


def difference(more: Counts, less: Counts) -> Counts:
    result = Counts(macs=more.macs - less.macs)
    for (dtype, kind), number in more.operations.items():
        result += Counts.of(dtype, **{kind.value: number - less.operations.get((dtype, kind), 0)})
    return result


def total(costs: tuple[NodeCost, ...]) -> Counts:
    result = Counts()
    for cost in costs:
        assert cost.counts is not None, cost.reason
        result += cost.counts
    return result
