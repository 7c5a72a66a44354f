"""The parts of the JSON report that come from the graph and its costs, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from onnx_aiwq.energy import NodeEnergy
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.transistors import by_dtype, transistor_operations
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor

if TYPE_CHECKING:
    from onnx_aiwq.symbolic_cost import SymbolicCost

_Number = TypeVar("_Number", int, float)


def sum_counts(counts: Iterable[Counts | None]) -> Counts:
    """The counts of several nodes together; None is left out."""
    # Nodes of equal cost share their counts: what is met again is told by identity, and multiplied.
    found: dict[int, Counts] = {}
    times: dict[int, int] = {}
    for each in counts:
        if each is not None:
            number = id(each)
            times[number] = times.get(number, 0) + 1
            found[number] = each
    operations: dict[tuple[DType, BasicOp], int] = {}
    macs = 0
    for number, each in found.items():
        for key, count in each.operations.items():
            operations[key] = operations.get(key, 0) + count * times[number]
        macs += each.macs * times[number]
    return Counts(MappingProxyType(operations), macs)


def operator_label(operator: Operator) -> str:
    """The type of an operator, with its domain where it is not ONNX itself."""
    return f"{operator.domain}.{operator.op_type}" if operator.domain else operator.op_type


def totals_entry(costs: Sequence[NodeCost]) -> dict[str, Any]:
    """Counts and bytes of all costs together."""
    return {
        **counts_entry(sum_counts(cost.counts for cost in costs)),
        "bytes_read": sum(cost.bytes_read or 0 for cost in costs),
        "bytes_written": sum(cost.bytes_written or 0 for cost in costs),
    }


def formulas_entry(symbolic: SymbolicCost) -> dict[str, Any]:
    """The totals as formulas, in text."""
    formulas = {name: str(formula) for name, formula in symbolic.totals().items()}
    operations = {op.value: formulas.pop(op.value) for op in BasicOp}
    return {"basic_operations": operations, **formulas}


def counts_entry(counts: Counts) -> dict[str, Any]:
    """Counts with transistor operations and MACs."""
    return {**dtype_entry(counts), "macs": counts.macs}


def dtype_entry(counts: Counts) -> dict[str, Any]:
    """Counts of one data type with transistor operations."""
    return {
        "basic_operations": counts.basic_operations(),
        "transistor_operations": sum(by_dtype(counts).values()),
    }


def tensor_entry(tensor: Tensor) -> dict[str, Any]:
    """Name, type and shape of a tensor."""
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.label,
        "shape": None if tensor.shape is None else list(tensor.shape),
    }


def model_entry(graph: Graph) -> dict[str, Any]:
    """The ``model`` object: the file, its dimensions, inputs, outputs and parameters."""
    model = graph.model
    return {
        "path": None if model.path is None else str(model.path),
        "size_bytes": model.size_bytes,
        "graph_sha256": model.graph_sha256,
        "ir_version": model.ir_version,
        "opsets": dict(model.opsets),
        "producer": model.producer,
        "bindings": dict(graph.bindings),
        "assumed_bindings": dict(graph.assumed_bindings),
        "inputs": [tensor_entry(tensor) for tensor in graph.inputs],
        "outputs": [tensor_entry(tensor) for tensor in graph.outputs],
        "parameters": sum(tensor.size or 0 for tensor in graph.parameters),
        "parameter_bytes": sum(tensor.size_bytes or 0 for tensor in graph.parameters),
    }


def node_entries(costs: Sequence[NodeCost], spent: Sequence[NodeEnergy]) -> Iterator[dict[str, Any]]:
    """The ``nodes``, without their live activations; numbers are None where they are not known."""
    computed: dict[int, _Computed] = {}
    for cost, energy in zip(costs, spent, strict=True):
        first = cost.like or cost
        shared = computed.get(id(first))
        if shared is None:
            shared = computed[id(first)] = _computed(cost)
        yield _node_entry(cost, energy, shared)


class _Computed(NamedTuple):
    """What nodes of equal cost have in common."""

    dtype: str | None
    basic_operations: dict[str, int] | None
    transistor_operations: int | None


def _computed(cost: NodeCost) -> _Computed:
    if cost.counts is None:
        return _Computed(compute_dtype(cost), None, None)
    return _Computed(compute_dtype(cost), cost.counts.basic_operations(), transistor_operations(cost.counts))


def _node_entry(cost: NodeCost, spent: NodeEnergy, computed: _Computed) -> dict[str, Any]:
    operator = cost.operator
    operations = computed.basic_operations
    return {
        "name": operator.name,
        "op_type": operator.op_type,
        "domain": operator.domain,
        "scope": operator.scope,
        "repeats": operator.repeats,
        "status": cost.status.value,
        "dtype": computed.dtype,
        "inputs": [tensor_entry(tensor) for tensor in operator.inputs if tensor is not None],
        "outputs": [tensor_entry(tensor) for tensor in operator.outputs if tensor is not None],
        "basic_operations": None if operations is None else dict(operations),
        "transistor_operations": computed.transistor_operations,
        "macs": None if cost.counts is None else cost.counts.macs,
        "bytes_read": cost.bytes_read,
        "bytes_written": cost.bytes_written,
        "energy_j": spent.joules,
        "seconds": spent.seconds,
        "bound": cost.bound,
        **({"reason": cost.reason} if cost.reason else {}),
    }


def compute_dtype(cost: NodeCost) -> str | None:
    """The type in which the node spends most transistor operations; without any, that of its first output."""
    if cost.counts is not None and cost.counts.operations:
        spent = by_dtype(cost.counts)
        return max(spent, key=lambda dtype: spent[dtype]).label
    # A counted node whose operations the convention leaves out computes in the type of what it reads.
    tensors = cost.operator.inputs if cost.status is Status.COUNTED else cost.operator.outputs
    first = next((tensor for tensor in tensors if tensor is not None), None)
    return None if first is None else first.dtype.label


def by_operator(costs: Sequence[NodeCost], spent: Sequence[NodeEnergy]) -> dict[str, dict[str, Any]]:
    """The ``by_operator`` object: sums over the nodes of each operator."""
    groups: dict[str, list[tuple[NodeCost, NodeEnergy]]] = {}
    for cost, energy in zip(costs, spent, strict=True):
        groups.setdefault(operator_label(cost.operator), []).append((cost, energy))
    return {label: _operator_entry(members) for label, members in groups.items()}


def _operator_entry(members: Sequence[tuple[NodeCost, NodeEnergy]]) -> dict[str, Any]:
    """Sums over the nodes whose figure is known; None where it is known of no node, because unknown is never zero."""
    known = [cost.counts for cost, _ in members if cost.counts is not None]
    counts = counts_entry(sum_counts(known))
    return {
        "nodes": len(members),
        "unsupported": sum(cost.status is Status.UNSUPPORTED for cost, _ in members),
        "bound": sum(cost.bound for cost, _ in members),
        **(counts if known else dict.fromkeys(counts)),
        "bytes_read": _known_sum(cost.bytes_read for cost, _ in members),
        "bytes_written": _known_sum(cost.bytes_written for cost, _ in members),
        "joules": _known_sum(energy.joules for _, energy in members),
    }


def _known_sum(numbers: Iterable[_Number | None]) -> _Number | None:
    known = [number for number in numbers if number is not None]
    return sum(known[1:], start=known[0]) if known else None


def coverage_entry(costs: Sequence[NodeCost]) -> dict[str, Any]:
    """The ``coverage`` object: nodes by status, and what is unsupported."""
    by_status = {status.value: sum(cost.status is status for cost in costs) for status in Status}
    names = {operator_label(cost.operator) for cost in costs if cost.status is Status.UNSUPPORTED}
    return {"nodes": len(costs), **by_status, "unsupported_operators": sorted(names)}
