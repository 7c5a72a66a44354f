"""Costs as formulas in the dimensions that nobody bound, and their values for any binding, without analysing again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from onnx_aiwq.energy import EnergyEstimate, estimate
from onnx_aiwq.errors import AiwqError, ShapeError, suggestion
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.profiles import HardwareProfile
from onnx_aiwq.symbolic import Dim, Formula, evaluated
from onnx_aiwq.transistors import transistor_operations
from onnx_aiwq.vocabulary import Counts


@dataclass(frozen=True)
class SymbolicCost:
    """The cost of every node as a formula.

    Attributes:
        costs: one per node; counts and bytes are formulas where they depend on a symbol.
        names: alias that the formulas use -> name of the dimension.
    """

    costs: tuple[NodeCost, ...]
    names: Mapping[str, str]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions, in the order in which the model uses them."""
        return tuple(self.names.values())

    def totals(self) -> dict[str, Dim]:
        """Formulas of the totals: each basic operation, transistor operations, MACs, bytes read and written."""
        counts = _sum(self.costs)
        totals: dict[str, Dim] = dict(counts.basic_operations())
        totals["transistor_operations"] = transistor_operations(counts)
        totals["macs"] = counts.macs
        totals["bytes_read"] = sum(cost.bytes_read or 0 for cost in self.costs)
        totals["bytes_written"] = sum(cost.bytes_written or 0 for cost in self.costs)
        return {
            key: value.renamed(self.names) if isinstance(value, Formula) else value for key, value in totals.items()
        }

    def at(self, bindings: Mapping[str, int]) -> tuple[NodeCost, ...]:
        """The costs for given dimensions; a dimension that is not given is 1.

        Raises:
            ShapeError: for a dimension that the model does not have, or a value below 1.
        """
        for name, value in bindings.items():
            if name not in self.dimensions:
                known = ", ".join(self.dimensions)
                near = suggestion(name, self.dimensions)
                raise ShapeError(f"dimension {name!r}: the formulas are in {known};{near or ' give one of these'}")
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ShapeError(f"dimension {name}={value}: the formulas hold for whole numbers of at least 1")
        values = {alias: bindings.get(name, 1) for alias, name in self.names.items()}
        return tuple(_evaluated(cost, values) for cost in self.costs)


def _sum(costs: Sequence[NodeCost]) -> Counts:
    total = Counts()
    for cost in costs:
        if cost.counts is not None:
            total = total + cost.counts
    return total


def _evaluated(cost: NodeCost, values: Mapping[str, int]) -> NodeCost:
    counts = cost.counts
    if counts is not None:
        operations = {key: evaluated(number, values) for key, number in counts.operations.items()}
        operations = {key: number for key, number in operations.items() if number}
        counts = Counts(MappingProxyType(operations), evaluated(counts.macs, values))
    return replace(
        cost,
        operator=replace(cost.operator, repeats=evaluated(cost.operator.repeats, values)),
        counts=counts,
        bytes_read=None if cost.bytes_read is None else evaluated(cost.bytes_read, values),
        bytes_written=None if cost.bytes_written is None else evaluated(cost.bytes_written, values),
    )


def symbolic_cost(
    graph: Graph, costs: Sequence[NodeCost], count: Callable[[Graph], tuple[NodeCost, ...]]
) -> SymbolicCost | str:
    """Count a graph with its unbound dimensions as symbols.

    Args:
        graph: with `assumed_bindings`.
        costs: of the same graph with these dimensions taken as 1; the formulas must agree with them exactly.
        count: how the costs were counted.

    Returns:
        The formulas, or why there are none: a rule or a shape decides by the value of a dimension.
    """
    try:
        symbolic = graph.symbolic()
        formulas = count(symbolic)
    except (AiwqError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # Rules and shapes are written for ints; one that needs the very value of a dimension fails in its own way.
        return f"no formula: {type(error).__name__}: {error}"
    found = SymbolicCost(formulas, symbolic.symbol_names)
    ones = found.at({})
    if len(ones) != len(costs):
        return "no formula: the graph itself depends on the value of a dimension"
    for exact, general in zip(costs, ones, strict=True):
        if exact.status is not Status.CONSTANT and _differs(exact, general):
            return f"no formula: node {exact.operator.name!r} costs something else where its dimension is 1"
    return found


def _differs(exact: NodeCost, general: NodeCost) -> bool:
    if (exact.bytes_read, exact.bytes_written) != (general.bytes_read, general.bytes_written):
        return True
    if (exact.counts is None) != (general.counts is None):
        return True
    if exact.counts is not None and general.counts is not None:
        same = dict(exact.counts.operations) == dict(general.counts.operations)
        return not same or exact.counts.macs != general.counts.macs
    return False


@dataclass(frozen=True)
class SweepPoint:
    """One binding of a sweep.

    Attributes:
        value: of the swept dimension.
        counts: basic operations and MACs.
        transistor_operations: TOs.
        bytes_moved: read and written.
        energy: joules and seconds.
        growth: exponent of transistor operations in the swept dimension since the last point; None at the first.
    """

    value: int
    counts: Counts
    transistor_operations: int
    bytes_moved: int
    energy: EnergyEstimate
    growth: float | None


def sweep(
    cost: SymbolicCost, profile: HardwareProfile, name: str, values: Sequence[int], others: Mapping[str, int]
) -> Iterator[SweepPoint]:
    """Evaluate the formulas along one dimension.

    Args:
        cost: from `symbolic_cost`.
        profile: the hardware that energy is for.
        name: of the swept dimension.
        values: that it takes, each at least 1.
        others: values of the other dimensions; 1 where not given.
    """
    last: SweepPoint | None = None
    for value in values:
        costs = cost.at({**others, name: value})
        counts = _sum(costs)
        total = transistor_operations(counts)
        growth = None
        if last is not None and last.value != value and total and last.transistor_operations:
            growth = math.log(total / last.transistor_operations) / math.log(value / last.value)
        moved = sum((each.bytes_read or 0) + (each.bytes_written or 0) for each in costs)
        last = SweepPoint(value, counts, total, moved, estimate(costs, profile), growth)
        yield last
