"""What an inference takes as a runtime deploys it: the graph lowered, every kernel timed, seconds back at their nodes.

A profile that was calibrated on a runtime knows that runtime's kernels, not the operators of an exported file. The
graph is lowered as its optimiser would (`onnx_aiwq.lowering`), each kernel gets its seconds
(`onnx_aiwq.kernels.model`), and these go to the exported operator that does its main work. An operator that is folded,
fused into another, or no copy at all takes no time of its own, and its zero is a true one.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from onnx_aiwq.costs import node_costs
from onnx_aiwq.errors import ModelError
from onnx_aiwq.kernels import bytes_moved, bytes_since
from onnx_aiwq.kernels.model import KernelTime, TimeModel, Work, predict
from onnx_aiwq.lowering import Lowering, lower
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.transistors import transistor_operations

if TYPE_CHECKING:
    from onnx_aiwq.graph import Graph

_KEPT = 2  # graphs whose times are remembered: one analysis prices the same graph many times


class NodeTime(msgspec.Struct):
    """Seconds of one exported operator, its repeats included, and what they are made of.

    Attributes:
        seconds: of all kernels that it stands for.
        compute_s: that transistor operations make up.
        data_s: that bytes make up; the rest is calls.
    """

    seconds: float = 0.0
    compute_s: float = 0.0
    data_s: float = 0.0


@dataclass(frozen=True)
class DeployedTimes:
    """Seconds of an inference, by exported operator.

    Attributes:
        nodes: by name; an operator that is not here takes no time of its own.
        unpriced: names of exported operators whose kernels have no price.
        log_error: standard deviation of the log of the sum.
        inexact_share: share of the seconds that come from kernels that the profile has not met in this type.
        exported: the graph whose forward pass these seconds are for.
        kernels: kernels that run.
        note: why the graph could not be lowered, else "".
    """

    nodes: Mapping[str, NodeTime]
    unpriced: frozenset[str]
    log_error: float
    inexact_share: float
    exported: Graph = field(repr=False)
    kernels: int = 0
    note: str = ""

    @functools.cached_property
    def forward(self) -> Mapping[str, NodeCost]:
        """Cost of each exported operator in one forward pass; counted when other costs are to be compared with it."""
        return {cost.operator.name: cost for cost in node_costs(self.exported)}


def deployed_times(graph: Graph, model: TimeModel, costs: Sequence[NodeCost] = ()) -> DeployedTimes:
    """Lower a graph as exported and time its kernels; what was asked last is remembered.

    Args:
        graph: as exported.
        model: the kernels of a machine.
        costs: of its forward pass, where they are known: operators that stay as they are need not be counted again.
    """
    key = (id(graph), id(model))
    if key not in _REMEMBERED:
        lowered, note = _lowered(graph, model)
        _REMEMBERED[key] = (graph, model, replace(times_of(lowered, model, graph, costs), note=note))
        while len(_REMEMBERED) > _KEPT:
            _REMEMBERED.popitem(last=False)
    return _REMEMBERED[key][2]


def _lowered(graph: Graph, model: TimeModel) -> tuple[Lowering, str]:
    """The lowered graph; where a node is none that its operator allows, the exported one, and a word on it."""
    if graph.deployed:
        return Lowering(graph, {}), ""
    try:
        return lower(graph, level=model.level, block=model.block, provider=model.provider), ""
    except (ModelError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        note = (
            f"the graph does not fit its operators ({type(error).__name__}): it is priced as exported, not as deployed"
        )
        return Lowering(graph, {}), note


def times_of(lowered: Lowering, model: TimeModel, exported: Graph, known: Sequence[NodeCost] = ()) -> DeployedTimes:
    """Time the kernels of a graph that is lowered already; its seconds go to the operators of the exported one.

    `known` are costs of the exported graph's forward pass, as in `deployed_times`.
    """
    costs = [cost for cost in node_costs(lowered.graph, known=known) if _runs(cost)]
    times = _kernel_times(costs, model)
    nodes: dict[str, NodeTime] = defaultdict(NodeTime)
    unpriced: set[str] = set()
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    inexact_s, profiler_s = 0.0, 0.0
    for cost, time in zip(costs, times, strict=True):
        anchor = lowered.origins.get(cost.operator.name, (cost.operator.name,))[0]
        if time is None or cost.counts is None:
            unpriced.add(anchor)
            continue
        seconds = time.seconds * cost.operator.repeats
        node = nodes[anchor]
        node.seconds += seconds
        node.compute_s += seconds * time.compute_share
        node.data_s += seconds * time.data_share
        sums[time.key][0] += seconds
        sums[time.key][1] = time.log_error
        inexact_s += 0.0 if time.exact else seconds
        profiler_s += time.profiler_s * cost.operator.repeats
    total_s = sum(seconds for seconds, _ in sums.values())
    return DeployedTimes(
        nodes=dict(nodes),
        unpriced=frozenset(unpriced),
        log_error=model.widening * math.hypot(model.common_log_error, _spread(sums), profiler_s / (total_s or 1.0)),
        inexact_share=inexact_s / (total_s or 1.0),
        exported=exported,
        kernels=len(costs),
    )


def _kernel_times(costs: Sequence[NodeCost], model: TimeModel) -> list[KernelTime | None]:
    """The time of one call of each node; nodes of equal cost whose inputs are as old are one kernel."""
    moved: dict[int, tuple[int, int, int]] = {}
    for cost in costs:
        first = cost.like or cost
        if id(first) not in moved:
            moved[id(first)] = bytes_moved(first.operator)
    each = [moved[id(cost.like or cost)] for cost in costs]
    constants = sum(of_constants for _, of_constants, _ in each)
    places: dict[tuple[int, int], int] = {}
    works: list[Work] = []
    which = []
    ages = bytes_since([cost.operator for cost in costs], [sum(parts) for parts in each])
    for cost, since_bytes in zip(costs, ages, strict=True):
        first = cost.like or cost
        place = places.setdefault((id(first), since_bytes), len(works))
        if place == len(works):
            works.append(_work(first, constants, since_bytes))
        which.append(place)
    times = predict(model, works)
    return [times[place] for place in which]


# The graph and the model are kept with their times, so that an id is never met again for another one.
_REMEMBERED: OrderedDict[tuple[int, int], tuple[Graph, TimeModel, DeployedTimes]] = OrderedDict()


def _runs(cost: NodeCost) -> bool:
    return cost.status is not Status.CONSTANT


def _work(cost: NodeCost, network_bytes: int, since_bytes: int) -> Work:
    repeats = max(1, cost.operator.repeats)
    transistors = 0 if cost.counts is None else transistor_operations(cost.counts) // repeats
    return Work(cost.operator, transistors, network_bytes, since_bytes)


def _spread(sums: Mapping[tuple[str, str], Sequence[float]]) -> float:
    """Errors of one kind are taken as common to all its kernels, those of different kinds as independent."""
    total = sum(seconds for seconds, _ in sums.values()) or 1.0
    return math.sqrt(sum((seconds / total * log_error) ** 2 for seconds, log_error in sums.values()))
