"""The backward pass of a graph: which tensors get a gradient, and what the gradients of every operator cost.

Forward, every tensor that depends on a parameter through operators that can be differentiated is marked. Backward, from
the loss, every marked input of an operator whose output has a gradient wants one. Sums of a rule assign their first
term; where a gradient meets one that is already there, and in the buffer of a parameter, every element is added once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_aiwq.errors import ModelError, ShapeError
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import MISFITS, misfit
from onnx_aiwq.operations.registry import find_rule, size_of
from onnx_aiwq.training.registry import BackwardRule, find_backward_rule
from onnx_aiwq.vocabulary import Counts, Operator, Tensor

_LOOPS = frozenset({"Loop", "Scan"})
_MAX_EXPANSIONS = 20  # function bodies within function bodies
NO_RULE = "has no backward rule and no ONNX function body that can be differentiated"
# A gradient passes them although what they return are integers: they stand for the floats that were rounded.
_STRAIGHT_THROUGH = frozenset({"QuantizeLinear"})
# Words in the names of operators that compute on integers.
_ON_INTEGERS = ("Integer", "QLinear", "DynamicQuantize", "QOrdered", "QGemm", "QAttention")
INTEGER_REASON = (
    "computes on integers, which has no derivative; train the model from before its quantisation, or one that rounds "
    "with QuantizeLinear and DequantizeLinear around float operators"
)
_LOOP_REASON = "is a loop: back-propagation through its iterations is not counted, nor is that of its body"


@dataclass(frozen=True, slots=True)
class NodeGradient:
    """The backward pass of one operator for one run of the graph, its repeats included.

    Attributes:
        wanted: positions of the inputs that get a gradient.
        counts: basic operations, accumulation included; None where they are unknown.
        bytes_read: None where a shape is unknown.
        bytes_written: likewise.
        reason: why the counts are unknown, else "".
    """

    wanted: frozenset[int]
    counts: Counts | None
    bytes_read: int | None
    bytes_written: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BackwardPass:
    """The backward pass of a graph.

    Attributes:
        nodes: by operator name; operators off the gradient's path are absent.
        trained: parameters that get a gradient, in the order of the graph.
        unfolded: constants that depend on a trained parameter, by name: each step computes them again.
    """

    nodes: Mapping[str, NodeGradient]
    trained: tuple[Tensor, ...]
    unfolded: frozenset[str]


def trainable(graph: Graph) -> tuple[Tensor, ...]:
    """The parameters that training may change: float tensors of the graph's parameters.

    ONNX does not tell weights from buffers, so that buffers are taken for weights; left out is what is certainly none:
    scalars and integers (which `Graph.parameters` leaves out), and one-element results of nodes (literals).
    """
    literals = {
        tensor.name
        for operator in graph.operators
        for tensor in operator.outputs
        if tensor is not None and tensor.size == 1
    }
    return tuple(tensor for tensor in graph.parameters if tensor.dtype.is_float and tensor.name not in literals)


def backward_pass(
    graph: Graph, operators: Sequence[Operator], loss_on: Tensor, *, fused: Collection[str] = ()
) -> BackwardPass:
    """The gradients of everything that a loss on one tensor depends on.

    Args:
        graph: where the operators come from.
        operators: those that run, in execution order.
        loss_on: the output that the loss compares.
        fused: names of operators whose input gets its gradient from the loss itself (Softmax under cross-entropy).
    """
    parameters = trainable(graph)
    sweep = _Sweep(graph, operators, {tensor.name for tensor in parameters}, fused)
    nodes = sweep.run([loss_on.name])
    trained = tuple(tensor for tensor in parameters if tensor.name in sweep.with_gradient)
    again = _depending(operators, {tensor.name for tensor in trained})
    return BackwardPass(nodes, trained, again)


def gradients_between(
    graph: Graph, operators: Sequence[Operator], inputs: Collection[str], result: str
) -> dict[str, NodeGradient]:
    """The gradients of one tensor with respect to others, by operator name.

    Args:
        graph: where the operators come from.
        operators: that compute the tensor, in execution order.
        inputs: names of the tensors that get a gradient, which is stored and not added to a buffer.
        result: name of the tensor that is differentiated.

    Returns:
        Nothing where the tensor does not depend on the inputs.
    """
    sweep = _Sweep(graph, operators, inputs, (), buffers=False)
    return sweep.run([result]) if result in sweep.marked else {}


def _depending(operators: Iterable[Operator], names: set[str]) -> frozenset[str]:
    """The names, and the constants that constant operators make of them."""
    found = set(names)
    for operator in operators:
        if operator.constant and any(tensor is not None and tensor.name in found for tensor in operator.inputs):
            found.update(tensor.name for tensor in operator.outputs if tensor is not None)
    return frozenset(found)


class _Sweep:
    """One forward marking and one backward sweep over a list of operators."""

    def __init__(
        self,
        graph: Graph,
        operators: Sequence[Operator],
        leaves: Collection[str],
        fused: Collection[str],
        depth: int = 0,
        *,
        buffers: bool = True,
    ) -> None:
        self.graph = graph
        self.operators = operators
        self.leaves = set(leaves)
        self.fused = set(fused)
        self.depth = depth
        self.buffers = buffers  # whether leaves are parameters, whose gradients are added to what a buffer holds
        self.with_gradient: set[str] = set()
        self.results_of_branches = self._results_of_branches() if depth == 0 else {}
        self.marked = self._mark()

    def _results_of_branches(self) -> dict[str, list[str]]:
        """If operator -> tensors that its branches end in; they have other names inside and outside."""
        conditionals = {operator.name: operator for operator in self.operators if operator.op_type == "If"}
        ends: dict[str, list[str]] = {}
        for _, consumer, name in self.graph.edges:
            operator = conditionals.get(consumer)
            if operator is not None and all(t is None or t.name != name for t in operator.inputs):
                ends.setdefault(consumer, []).append(name)
        return ends

    def _mark(self) -> set[str]:
        marked = set(self.leaves)
        for operator in self.operators:
            rule = find_backward_rule(operator.op_type, operator.domain)
            ends = self.results_of_branches.get(operator.name, ())
            depends = operator.op_type in _LOOPS or any(name in marked for name in ends)
            if depends or self._differentiable(operator, rule, marked):
                # What an operator without a rule makes of a gradient is unknown, so that no type ends it.
                outputs = [tensor for tensor in operator.outputs if tensor is not None]
                carries = rule is None or operator.op_type in _STRAIGHT_THROUGH
                marked.update(tensor.name for tensor in outputs if tensor.dtype.is_float or carries)
        return marked

    def _differentiable(self, operator: Operator, rule: BackwardRule | None, marked: Collection[str]) -> frozenset[int]:
        allowed = None if rule is None else rule.inputs
        return frozenset(
            position
            for position, tensor in enumerate(operator.inputs)
            if tensor is not None and tensor.name in marked and (allowed is None or position in allowed)
        )

    def run(self, seeds: Iterable[str]) -> dict[str, NodeGradient]:
        """Sweep backward from tensors that have a gradient."""
        self.with_gradient.update(seeds)
        nodes: dict[str, NodeGradient] = {}
        for operator in reversed(self.operators):
            received = [t for t in operator.outputs if t is not None and t.name in self.with_gradient]
            if not received:
                continue
            if operator.op_type == "If":
                ends = self.results_of_branches.get(operator.name, ())
                self.with_gradient.update(name for name in ends if name in self.marked)
                continue
            rule = find_backward_rule(operator.op_type, operator.domain)
            wanted = self._differentiable(operator, rule, self.marked)
            if wanted or operator.op_type in _LOOPS:
                nodes[operator.name] = self._node(operator, rule, wanted, received)
        return dict(reversed(nodes.items()))

    def _node(
        self, operator: Operator, rule: BackwardRule | None, wanted: frozenset[int], received: Sequence[Tensor]
    ) -> NodeGradient:
        meeting = self._meet(operator, wanted, once=rule is None)
        if operator.name in self.fused:
            return NodeGradient(wanted, Counts(), 0, 0)
        counts, reason = self._counts(operator, rule, wanted)
        if counts is None:
            return NodeGradient(wanted, None, None, None, reason)
        read, written = _traffic(operator, rule, wanted, received)
        try:
            for position in meeting:
                added, moved = _accumulated(operator, rule, position)
                counts += added * operator.repeats
                read = None if read is None else read + moved * operator.repeats
        except ShapeError as error:
            return NodeGradient(wanted, None, None, None, str(error))
        return NodeGradient(wanted, counts, read, written)

    def _meet(self, operator: Operator, wanted: frozenset[int], *, once: bool) -> list[int]:
        """Give the wanted inputs their gradients; those that meet one (or a parameter's buffer) are returned.

        With `once`, a tensor that is several inputs counts as one: its gradients have met in the function body.
        """
        meeting = []
        given: set[str] = set()
        for position in sorted(wanted):
            name = _named(operator, position)
            if once and name in given:
                continue
            given.add(name)
            if name in self.with_gradient or (name in self.leaves and self.buffers):
                meeting.append(position)
            self.with_gradient.add(name)
        return meeting

    def _counts(
        self, operator: Operator, rule: BackwardRule | None, wanted: frozenset[int]
    ) -> tuple[Counts | None, str]:
        """The backward counts of all calls, before accumulation; None and a reason where they are unknown."""
        if operator.op_type in _LOOPS and not operator.domain:
            return None, _LOOP_REASON
        if rule is None and any(word in operator.op_type for word in _ON_INTEGERS):
            return None, INTEGER_REASON
        if rule is None:
            return self._by_body(operator, wanted)
        if rule.function is None:
            return Counts(), ""
        try:
            counts = rule.function(operator, wanted)
        except ShapeError as error:
            return None, str(error)
        except MISFITS as error:
            return None, misfit(error)
        return counts * operator.repeats, ""

    def _by_body(self, operator: Operator, wanted: frozenset[int]) -> tuple[Counts | None, str]:
        """Differentiate the ONNX function body that defines an operator of one output."""
        outputs = [tensor for tensor in operator.outputs if tensor is not None]
        try:
            parts = self.graph.expand(operator) if self.depth < _MAX_EXPANSIONS and len(outputs) == 1 else None
        except ModelError as error:
            return None, str(error)
        result = _result_of(parts or (), outputs)
        if parts is None or result is None:
            return None, NO_RULE
        leaves = {_named(operator, position) for position in wanted}
        inner = _Sweep(self.graph, parts, leaves, (), self.depth + 1, buffers=False)
        total = Counts()
        for name, node in inner.run([result.name]).items():
            if node.counts is None:
                part = next(part for part in parts if part.name == name)
                return None, f"{part.op_type} in its function body {node.reason}"
            total += node.counts
        return total, ""


def _named(operator: Operator, position: int) -> str:
    tensor = operator.input(position)
    return "" if tensor is None else tensor.name


def _result_of(parts: Sequence[Operator], outputs: Sequence[Tensor]) -> Tensor | None:
    """The tensor of a function body that is the operator's output: the last that nothing consumes, of its shape."""
    consumed = {tensor.name for part in parts for tensor in part.inputs if tensor is not None}
    for part in reversed(parts):
        for tensor in part.outputs:
            if tensor is not None and tensor.name not in consumed and tensor.shape == outputs[0].shape:
                return tensor
    return None


def _accumulated(operator: Operator, rule: BackwardRule | None, position: int) -> tuple[Counts, int]:
    """The additions where the gradient of an input meets another, and the bytes of that other, for one call."""
    tensor = operator.input(position)
    kind = "whole" if rule is None else rule.accumulation
    if tensor is None or kind == "itself":
        return Counts(), 0
    elements = size_of(tensor, "an input")
    if kind == "selected":
        elements = sum(size_of(output, "an output") for output in operator.outputs if output is not None)
    return Counts.of(tensor.dtype, add=elements), (elements * tensor.dtype.bits + 7) // 8


def _traffic(
    operator: Operator, rule: BackwardRule | None, wanted: frozenset[int], received: Sequence[Tensor]
) -> tuple[int | None, int | None]:
    """Bytes that the gradients of all wanted inputs read and write; see docs/training.md."""
    forward = find_rule(operator.op_type, operator.domain, operator.version)
    if rule is not None and rule.function is None and forward is not None and forward.traffic == "view":
        return 0, 0
    incoming = _bytes(received)
    read: int | None = 0
    written: int | None = 0
    for position in wanted:
        saved = _bytes(_saved(operator, rule, position))
        selected = rule is not None and rule.accumulation != "whole"
        result = incoming if selected else _bytes([operator.input(position)])
        read = None if read is None or incoming is None or saved is None else read + incoming + saved
        written = None if written is None or result is None else written + result
    repeats = operator.repeats
    return None if read is None else read * repeats, None if written is None else written * repeats


def _saved(operator: Operator, rule: BackwardRule | None, position: int) -> list[Tensor | None]:
    saves = "all" if rule is None else rule.saves
    if saves == "nothing" or (saves == "factors" and position > 1):
        return []
    if saves == "factors":
        return [operator.input(1 - position)]
    return list({tensor.name: tensor for tensor in operator.inputs if tensor is not None}.values())


def _bytes(tensors: Iterable[Tensor | None]) -> int | None:
    total = 0
    for tensor in tensors:
        if tensor is not None:
            if tensor.size_bytes is None:
                return None
            total += tensor.size_bytes
    return total


def unfolded_operator(operator: Operator, unfolded: Collection[str]) -> Operator | None:
    """The operator as training runs it where one of its constants is trained, else None."""
    trained = [tensor is not None and tensor.constant and tensor.name in unfolded for tensor in operator.inputs]
    if not any(trained):
        return None
    inputs = tuple(
        replace(tensor, constant=False) if tensor is not None and unfold else tensor
        for tensor, unfold in zip(operator.inputs, trained, strict=True)
    )
    return replace(operator, inputs=inputs, constant=False)
