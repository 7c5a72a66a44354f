"""Costs as formulas in the dimensions that nobody bound, and their values for any binding, without analysing again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from types import MappingProxyType
from typing import TypeAlias

from onnx_aiwq.energy import EnergyEstimate, estimate
from onnx_aiwq.errors import AiwqError, ShapeError, suggestion
from onnx_aiwq.graph import Graph
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.symbolic import Dim, Formula, evaluated
from onnx_aiwq.transistors import transistor_operations
from onnx_aiwq.vocabulary import Counts

# Rules and shapes are written for ints; one that needs the very value of a dimension fails in its own way.
_NEEDS_A_VALUE = (AiwqError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_PROBE = 7  # odd and no power of two, so that strides and divisions show


@dataclass(frozen=True)
class SymbolicCost:
    """The cost of every node as a formula.

    Attributes:
        costs: one per node; counts and bytes are formulas where they depend on a symbol.
        names: alias that the formulas use -> name of the dimension.
        assumed: value that a dimension has where none is given, by name; 1 where none is here.
    """

    costs: tuple[NodeCost, ...]
    names: Mapping[str, str]
    assumed: Mapping[str, int] = field(default_factory=dict)

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
        """The costs for given dimensions; a dimension that is not given has its assumed value.

        Raises:
            ShapeError: for a dimension that the model does not have, a value below 1, or one that is too small for the
                model.
        """
        for name, value in bindings.items():
            if name not in self.dimensions:
                known = ", ".join(self.dimensions)
                near = suggestion(name, self.dimensions)
                raise ShapeError(f"dimension {name!r}: the formulas are in {known};{near or ' give one of these'}")
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ShapeError(
                    f"dimension {name}={value}: the formulas hold for whole numbers of at least 1; give one of these"
                )
        given = {**self.assumed, **bindings}
        # Plain ints, because those of numpy overflow.
        values = {alias: int(given.get(name, 1)) for alias, name in self.names.items()}
        try:
            return tuple(_evaluated(cost, values) for cost in self.costs)
        except (ArithmeticError, ValueError) as error:
            listed = ", ".join(f"{name}={given.get(name, 1)}" for name in self.dimensions)
            raise ShapeError(f"dimensions {listed}: the model does not run with these; {error}; give others") from error


def _sum(costs: Sequence[NodeCost]) -> Counts:
    total = Counts()
    for cost in costs:
        if cost.counts is not None:
            total = total + cost.counts
    return total


def _evaluated(cost: NodeCost, values: Mapping[str, int]) -> NodeCost:
    def number(value: Dim) -> int:
        result = evaluated(value, values)
        if result < 0:
            raise ValueError(f"node {cost.operator.name!r} would have a tensor of a negative size")
        return result

    counts = cost.counts
    if counts is not None:
        operations = {key: number(each) for key, each in counts.operations.items()}
        operations = {key: each for key, each in operations.items() if each}
        counts = Counts(MappingProxyType(operations), number(counts.macs))
    return replace(
        cost,
        operator=replace(cost.operator, repeats=number(cost.operator.repeats)),
        counts=counts,
        bytes_read=None if cost.bytes_read is None else number(cost.bytes_read),
        bytes_written=None if cost.bytes_written is None else number(cost.bytes_written),
    )


Counter: TypeAlias = "Callable[[Graph], tuple[NodeCost, ...]]"


def symbolic_cost(graph: Graph, costs: Sequence[NodeCost], count: Counter) -> SymbolicCost | str:
    """Count a graph with its unbound dimensions as symbols.

    Args:
        graph: with `assumed_bindings`.
        costs: of the same graph with these dimensions as assumed; the formulas must agree with them exactly.
        count: how the costs were counted.

    Returns:
        The formulas, or why there are none: a rule or a shape decides by the value of a dimension.
    """
    names: Mapping[str, str] = {}
    try:
        symbolic = graph.symbolic()
        names = symbolic.symbol_names
        formulas = count(symbolic)
    except _NEEDS_A_VALUE as error:
        kind = "" if isinstance(error, AiwqError) else f"{type(error).__name__}: "
        return _readable(f"no formula: {kind}{error}", names)
    unknown = sorted(set(symbolic.assumed_bindings) - set(graph.assumed_bindings))
    if unknown:
        return f"no formula: the size {unknown[0]!r} depends on the other dimensions in a way that no formula tells"
    lost = sorted(set(graph.assumed_bindings) - set(symbolic.assumed_bindings))
    if lost:
        return f"no formula: with the assumed dimensions the size {lost[0]!r} is not positive; bind larger ones"
    found = SymbolicCost(formulas, names, dict(graph.assumed_bindings))
    reason = _disagreement(found, costs, {})
    # A dimension of 1 is special (it broadcasts), so each is also tried as something else while others are 1.
    for point in _points(tuple(graph.assumed_bindings)):
        reason = reason or _disagreement(found, _costs_at(graph, point, count), point)
    return found if reason is None else _readable(f"no formula: {reason}", names)


def _readable(text: str, names: Mapping[str, str]) -> str:
    """A reason with the names of dimensions in place of the aliases that formulas use."""
    if not names:
        return text
    aliases = sorted(names, key=len, reverse=True)  # the longest first: one may begin with another
    return re.sub("|".join(map(re.escape, aliases)), lambda found: names[found[0]], text)


def _points(names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Bindings in which every dimension is once something else than 1 while any given other one is 1."""
    for bit in range(max((len(names) - 1).bit_length(), 1)):
        for one in (0, 1):
            point = {name: 1 if index >> bit & 1 == one else _PROBE for index, name in enumerate(names)}
            if _PROBE in point.values():
                yield point


def _costs_at(graph: Graph, point: Mapping[str, int], count: Counter) -> Sequence[NodeCost] | None:
    """The costs with every dimension bound; None where the model does not run with these dimensions."""
    if graph.request is None:
        return None
    request = replace(graph.request, bind={**graph.request.bind, **point})
    try:
        bound = replace(graph, request=request).symbolic()
        return None if bound.assumed_bindings else count(bound)
    except _NEEDS_A_VALUE:
        return None


def _disagreement(found: SymbolicCost, costs: Sequence[NodeCost] | None, point: Mapping[str, int]) -> str | None:
    """Where the formulas differ from costs that were counted at a point."""
    if costs is None:
        return None
    where = "its dimension is 1"
    if point:
        where = ", ".join(f"{name} is {value}" for name, value in point.items())
    if [cost.operator.name for cost in costs] != [cost.operator.name for cost in found.costs]:
        return "the graph itself depends on the value of a dimension"
    try:
        general = found.at(point)
    except ShapeError as error:
        return str(error)
    for exact, other, formula in zip(costs, general, found.costs, strict=True):
        if formula.counts is None and exact.counts is not None:
            return f"node {exact.operator.name!r}: {formula.reason}"
        if exact.status is not Status.CONSTANT and _differs(exact, other):
            return f"node {exact.operator.name!r} costs something else where {where}"
    return None


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
