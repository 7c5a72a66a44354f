"""Quantisation-aware training: what a file holds as rounded weights is trained as the floats that they stand for.

A weight that reaches a DequantizeLinear as integers, directly or through operators that only move elements, is taken
for a float weight that every step rounds and restores (fake quantisation), and the products of dequantised tensors are
computed in floats: integers are multiplied at inference only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import Convention, NodeCost, count_operator
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.training.registry import find_backward_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

# Beyond 16 bits ONNX has no QuantizeLinear: biases are held in int32, the type of the sums that they are added to.
_WIDEST_ROUNDED_BITS = 16


@dataclass(frozen=True)
class FakeQuantised:
    """A graph as quantisation-aware training runs it.

    Attributes:
        graph: with floats in place of the integers of its weights.
        costs: forward costs of its operators, in the order of those that were given.
        rounding: name of a DequantizeLinear -> what rounding its weight costs in one run, beside restoring it.
    """

    graph: Graph
    costs: tuple[NodeCost, ...]
    rounding: Mapping[str, Counts]


def fake_quantised(graph: Graph, costs: Sequence[NodeCost], convention: Convention) -> FakeQuantised:
    """The graph and its forward costs with fake quantisation instead of integers; others are as they were.

    Args:
        graph: as the file has it.
        costs: its forward costs, of the operators that run.
        convention: of the costs.
    """
    restored = _restored(graph.operators, {tensor.name for tensor in graph.parameters})
    operators = {operator.name: _in_floats(operator, restored) for operator in graph.operators}
    changed = tuple(
        cost
        if operators.get(cost.operator.name, cost.operator) == cost.operator
        else count_operator(operators[cost.operator.name], graph, convention=convention)
        for cost in costs
    )
    rounding = {
        operator.name: _rounding(operator, operators[operator.name])
        for operator in graph.operators
        if operator.op_type == "DequantizeLinear" and _data(operator) in restored
    }
    made = replace(
        graph,
        operators=tuple(operators.values()),
        parameters=tuple(_typed(tensor, restored) for tensor in graph.parameters),
    )
    return FakeQuantised(made, changed, rounding)


def holds_rounded_weights(graph: Graph) -> bool:
    """Whether weights of the graph are held as integers that a DequantizeLinear restores."""
    return bool(_restored(graph.operators, {tensor.name for tensor in graph.parameters}))


def _data(operator: Operator) -> str:
    tensor = operator.input(0)
    return "" if tensor is None else tensor.name


def _restored(operators: Sequence[Operator], parameters: Collection[str]) -> dict[str, DType]:
    """Integer tensors between a weight and the DequantizeLinear that restores it -> the type that it restores."""
    producers = {tensor.name: operator for operator in operators for tensor in operator.outputs if tensor is not None}
    found: dict[str, DType] = {}
    for operator in operators:
        output = operator.output(0)
        if operator.op_type != "DequantizeLinear" or output is None:
            continue
        chain = [_data(operator)]
        while chain[-1] not in parameters and _moves(producers.get(chain[-1])):
            chain.append(_data(producers[chain[-1]]))
        if chain[-1] in parameters:
            found.update(dict.fromkeys(chain, output.dtype))
    return found


def _moves(operator: Operator | None) -> bool:
    """Whether an operator moves the elements of its first input, and their gradients back to it."""
    if operator is None:
        return False
    forward = find_rule(operator.op_type, operator.domain, operator.version)
    rule = find_backward_rule(operator.op_type, operator.domain)
    if forward is None or forward.function is not None or rule is None or rule.stops:
        return False
    return rule.inputs is None or 0 in rule.inputs


def _typed(tensor: Tensor, restored: Mapping[str, DType]) -> Tensor:
    if tensor.name in restored:
        return replace(tensor, dtype=restored[tensor.name], value=None)
    return tensor if tensor.quantized is None else replace(tensor, quantized=None)


def _in_floats(operator: Operator, restored: Mapping[str, DType]) -> Operator:
    inputs, outputs = (
        tuple(None if tensor is None else _typed(tensor, restored) for tensor in tensors)
        for tensors in (operator.inputs, operator.outputs)
    )
    return replace(operator, inputs=inputs, outputs=outputs)


def _rounding(operator: Operator, floats: Operator) -> Counts:
    """QuantizeLinear with the scale and the zero point of a DequantizeLinear, for all its calls."""
    held = operator.input(0)
    rule = find_rule("QuantizeLinear", operator.domain, operator.version)
    if held is None or held.dtype.bits > _WIDEST_ROUNDED_BITS or rule is None or rule.function is None:
        return Counts()
    try:
        counts = rule.function(replace(floats, op_type="QuantizeLinear", outputs=(held,)))
    except ShapeError:
        return Counts()  # then the DequantizeLinear itself is unsupported, with the reason
    return counts * operator.repeats
