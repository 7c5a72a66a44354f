"""The report: one model on one piece of hardware, every number with what it rests on."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from onnx_aiwq import __version__
from onnx_aiwq.costs import node_costs
from onnx_aiwq.deployment import Deployment, DeploymentOptions, Metrics, describe_deployment, metrics_of
from onnx_aiwq.energy import EnergyEstimate
from onnx_aiwq.errors import PolicyError, ShapeError, UnsupportedOperatorError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.graph.liveness import live_activation_bytes
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.metrics.carbon import Carbon
from onnx_aiwq.metrics.ecal import Ecal
from onnx_aiwq.metrics.workload import Workload
from onnx_aiwq.operations.counting import CONVENTION_NAME, Convention, NodeCost, Status
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.report_entries import (
    by_operator,
    coverage_entry,
    dtype_entry,
    formulas_entry,
    model_entry,
    node_entries,
    operator_label,
    sum_counts,
    totals_entry,
)
from onnx_aiwq.vocabulary import Counts, Operator

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike
    from typing_extensions import Unpack

    from onnx_aiwq.symbolic_cost import SweepPoint, SymbolicCost

SCHEMA = "onnx_aiwq.report/1"
Level = Literal["inference", "validation", "training"]
_CONTAINERS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_LISTED = 5


def count(graph: Graph, *, convention: Convention = "default") -> Counts:
    """Exact basic operations and MACs of one inference, over all operators that can be counted."""
    return sum_counts(cost.counts for cost in node_costs(graph, convention=convention))


@dataclass(frozen=True)
class Report:
    """Everything that is known of one model on one piece of hardware before it runs.

    Attributes:
        graph: the analysed graph.
        costs: one per node, in execution order; without the branches of an If that are not counted.
        counts: their sum.
        convention: `default` or `paper`.
        level: what is counted; `inference` is one forward pass.
        assumptions: what the level takes for granted, one line each.
        deployment: where and how it runs.
        metrics: energy, workload, eCAL and carbon.
        live_activation_bytes: while each node runs, by its name; None where a size is unknown.
        count: how a graph was counted, for the formulas.
        with_formulas: whether the report is to have formulas.
    """

    graph: Graph
    costs: tuple[NodeCost, ...]
    counts: Counts
    convention: Convention
    level: Level
    assumptions: tuple[str, ...]
    deployment: Deployment
    metrics: Metrics
    live_activation_bytes: Mapping[str, int] | None
    count: Callable[[Graph], tuple[NodeCost, ...]] = field(repr=False, compare=False)
    with_formulas: bool = True

    @property
    def profile(self) -> HardwareProfile:
        """The hardware."""
        return self.deployment.profile

    @property
    def peak_activation_bytes(self) -> int | None:
        """The most that is alive at once; None where a size is unknown."""
        return None if self.live_activation_bytes is None else max(self.live_activation_bytes.values())

    @property
    def energy(self) -> EnergyEstimate:
        """Joules and seconds with intervals, and per node."""
        return self.metrics.energy

    @property
    def workload(self) -> Workload:
        """AIWQ."""
        return self.metrics.workload

    @property
    def ecal(self) -> Ecal:
        """Energy of the life cycle per bit."""
        return self.metrics.ecal

    @property
    def carbon(self) -> Carbon:
        """Grams."""
        return self.metrics.carbon

    @functools.cached_property
    def symbolic(self) -> SymbolicCost | None:
        """The costs as formulas in the dimensions that nobody bound; None where all are bound or there are none."""
        return None if isinstance(self._symbolic, str) else self._symbolic

    @functools.cached_property
    def _symbolic(self) -> SymbolicCost | str:
        if not self.graph.assumed_bindings or not self.with_formulas:
            return ""
        from onnx_aiwq.symbolic_cost import symbolic_cost

        return symbolic_cost(self.graph, self.costs, self.count)

    def at(self, /, **dimensions: int) -> dict[str, Any]:
        """Totals, joules and seconds for other values of the unbound dimensions, from the formulas alone.

        Args:
            dimensions: value by name; one that is not given keeps the value that the report assumes for it. Names that
                are no identifiers are given as ``report.at(**{"batch size": 8})``.

        Raises:
            ShapeError: for a name that the model does not have or has bound, or where there are no formulas.
        """
        costs = self._formulas().at(dimensions)
        energy = self.deployment.price(costs, self.graph)
        return {
            **totals_entry(costs),
            **{key: value for key, value in energy.to_dict().items() if key.startswith(("joules", "seconds"))},
        }

    def sweep(self, name: str, values: Sequence[int]) -> Iterator[SweepPoint]:
        """Totals, joules and growth along one unbound dimension, from the formulas; the others stay as assumed.

        Raises:
            ShapeError: as `at`.
        """
        return self._priced(self._formulas(), name, values)

    def _priced(self, formulas: SymbolicCost, name: str, values: Sequence[int]) -> Iterator[SweepPoint]:
        from onnx_aiwq.symbolic_cost import sweep

        for point in sweep(formulas, self.profile, name, values, {}):
            yield replace(point, energy=self.deployment.price(formulas.at({name: point.value}), self.graph))

    def _formulas(self) -> SymbolicCost:
        if self.symbolic is None:
            reason = self._symbolic or "every dimension is bound: leave the ones to vary unbound"
            if not self.with_formulas:
                reason = "the model was analysed without formulas: leave out formulas=False"
            raise ShapeError(f"{reason}; or analyze the model once for each binding")
        return self.symbolic

    @property
    def unsupported(self) -> tuple[NodeCost, ...]:
        """Nodes that no total includes."""
        return tuple(cost for cost in self.costs if cost.status is Status.UNSUPPORTED)

    @property
    def partial(self) -> bool:
        """Whether the totals lack something: an operator that cannot be counted, or bytes of unknown shapes."""
        return bool(self.unsupported) or any(cost.bytes_read is None for cost in self.costs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Assumptions and gaps, one line each."""
        lines = []
        if self.graph.assumed_bindings:
            first = next(iter(self.graph.assumed_bindings))
            names = ", ".join(f"{name}={value}" for name, value in self.graph.assumed_bindings.items())
            lines.append(f"dimensions that nobody bound are assumed: {names}; bind them with --bind {first}=N")
        if self.unsupported:
            lines.append(f"the totals are partial: {_describe(self.unsupported)}; they hold no cost of these")
        bound = {operator_label(cost.operator): None for cost in self.costs if cost.bound}
        if bound:
            lines.append(f"run-time data decides what these cost, the most is counted (bound): {_listed(list(bound))}")
        if self.energy.joules is None:
            lines.append("no node that runs has a price: energy, eCAL and CO2 are unknown")
        if self._symbolic and self.symbolic is None:
            lines.append(str(self._symbolic))
        lines += [
            *self.assumptions,
            *self.graph.warnings,
            *self.energy.notes,
            *self.metrics.warnings,
            *self.carbon.warnings,
            *self.workload.notes,
        ]
        return tuple(lines)

    def to_dict(self, *, nodes: bool = True) -> dict[str, Any]:
        """The JSON report, schema ``onnx_aiwq.report/1``: integers are exact, numbers are SI, unknown is None.

        Args:
            nodes: whether every node is written out. Without them ``nodes`` is an empty list, which is enough for a
                table of operators, and saves a good part of the time and the memory of a huge graph.
        """
        return {
            "schema": SCHEMA,
            "tool": {"name": "onnx_aiwq", "version": __version__},
            "convention": CONVENTION_NAME if self.convention == "default" else "paper",
            "level": self.level,
            "model": model_entry(self.graph),
            "graph": {
                "nodes": len(self.graph.operators),
                "edges": self.graph.links,
                "depth": self.graph.depth,
                "subgraphs": self.graph.model.subgraphs,
                "functions": self.graph.model.functions,
            },
            "totals": {
                **totals_entry(self.costs),
                "peak_activation_bytes": self.peak_activation_bytes,
                "partial": self.partial,
                "bound": any(cost.bound for cost in self.costs),
                "formulas": None if self.symbolic is None else formulas_entry(self.symbolic),
            },
            "by_dtype": {dtype.label: dtype_entry(self.counts.of_dtype(dtype)) for dtype in self.counts.dtypes},
            "by_operator": by_operator(self.costs, self.energy.nodes),
            "coverage": coverage_entry(self.costs),
            "nodes": self._node_entries() if nodes else [],
            "energy": {**self.energy.to_dict(), "hardware_name": self.profile.name, "scope": self.carbon.scope},
            "workload": self.workload.to_dict(),
            "ecal": self.ecal.to_dict(),
            "carbon": self.carbon.to_dict(),
            "warnings": list(self.warnings),
        }

    def _node_entries(self) -> list[dict[str, Any]]:
        live = self.live_activation_bytes or {}
        entries = []
        for cost, entry in zip(self.costs, node_entries(self.costs, self.energy.nodes), strict=True):
            entry["live_activation_bytes"] = live.get(cost.operator.name)
            entries.append(entry)
        return entries


def analyze(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | Graph,
    *,
    bind: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
    convention: Convention = "default",
    level: Level = "inference",
    step: TrainingStep | None = None,
    strict: bool = False,
    formulas: bool = True,
    progress: Callable[[str], None] = lambda stage: None,
    **deployment: Unpack[DeploymentOptions],
) -> Report:
    """Count a model and estimate its energy, workload, eCAL and CO2.

    Args:
        source: path, bytes, ModelProto, or a graph that `load` made.
        bind: values of symbolic dimensions by name.
        shapes: shapes of inputs by name.
        values: elements of small integer inputs that decide shapes, by input name.
        convention: `paper` leaves comparisons out, as the TO paper does.
        level: `inference` (the forward pass), `validation` (with the loss) or `training` (with the loss, the backward
            pass and the optimiser step); the last two are of one step over a mini-batch.
        step: loss, optimiser and mini-batch of validation and training.
        strict: raise where a dimension is unbound or an operator unsupported, instead of naming it in the report.
        formulas: whether the report has formulas in the unbound dimensions, which takes as long as all the rest.
        progress: is told the name of each stage as it begins.
        deployment: where and how it runs: `hardware`, `region`, `lifecycle`, `inferences`, `pue`, ...; each is
            explained by `onnx_aiwq.deployment.describe_deployment`.

    Raises:
        AiwqError: if the model, an option or the hardware is not usable; the message names the next step.
    """
    progress("reading the graph")
    described = describe_deployment(**deployment)  # options are checked before a large model is read
    if described.lifecycle is not None and level != "inference":
        raise PolicyError(
            f"a life cycle is built on the forward pass, not on level {level!r}: leave it out; [training] of the "
            "life cycle file says how often the model is trained"
        )
    graph = source if isinstance(source, Graph) else load(source, bind=bind, shapes=shapes, values=values)
    if strict:
        _require_bound(graph)
    progress(f"counting {len(graph.operators):,} nodes")
    counting = functools.partial(_count_level, convention=convention, level=level, step=step or TrainingStep())
    costs = counting(graph)
    if strict:
        _require_supported(costs)
    progress("estimating energy")
    return Report(
        graph=graph,
        costs=costs,
        counts=sum_counts(cost.counts for cost in costs),
        convention=convention,
        level=level,
        assumptions=_level_assumptions(graph, level, step or TrainingStep()),
        deployment=described,
        metrics=metrics_of(graph, costs, described, forward_pass=level == "inference" and convention == "default"),
        live_activation_bytes=live_activation_bytes(graph, _shares_memory),
        count=counting,
        with_formulas=formulas,
    )


class TrainingStep(msgspec.Struct, frozen=True):
    """What validation and training add to the forward pass; see `onnx_aiwq.training.training_costs`.

    Attributes:
        loss: mse, cross-entropy or bce; by the model's output if None.
        optimizer: sgd or adam.
        bp: whether each instance of a mini-batch is propagated back (`instance`) or one of them (`batch`).
        batch: runs of the model per mini-batch; 1 if None.
    """

    loss: str | None = None
    optimizer: str = "sgd"
    bp: Literal["instance", "batch"] = "instance"
    batch: int | None = None


def _count_level(graph: Graph, *, convention: Convention, level: Level, step: TrainingStep) -> tuple[NodeCost, ...]:
    costs = node_costs(graph, convention=convention)
    if level == "inference":
        return costs
    from onnx_aiwq.training import training_costs

    return training_costs(
        graph,
        costs,
        level=level,
        loss=step.loss,
        optimizer=step.optimizer,
        bp=step.bp,
        batch=step.batch,
        convention=convention,
    )


def _level_assumptions(graph: Graph, level: Level, step: TrainingStep) -> tuple[str, ...]:
    if level == "inference":
        return ()
    from onnx_aiwq.training import training_assumptions

    return training_assumptions(
        graph, level=level, loss=step.loss, optimizer=step.optimizer, bp=step.bp, batch=step.batch
    )


def _shares_memory(operator: Operator) -> bool:
    rule = find_rule(operator.op_type, operator.domain, operator.version)
    return rule is not None and rule.traffic == "view" and operator.op_type not in _CONTAINERS


def _require_bound(graph: Graph) -> None:
    if graph.assumed_bindings:
        names = ", ".join(repr(name) for name in graph.assumed_bindings)
        options = " ".join(f"--bind {name}=N" for name in graph.assumed_bindings)
        raise ShapeError(f"dimensions without a value: {names}; give each one with {options}")


def _require_supported(costs: Sequence[NodeCost]) -> None:
    unsupported = [cost for cost in costs if cost.status is Status.UNSUPPORTED]
    if unsupported:
        raise UnsupportedOperatorError(
            f"operators that cannot be counted: {_describe(unsupported)}; "
            "register a rule with onnx_aiwq.rule, or leave --strict out for a partial count"
        )


def _describe(unsupported: Sequence[NodeCost]) -> str:
    """Operators by name with the first reason of each."""
    reasons: dict[str, str] = {}
    for cost in unsupported:
        reasons.setdefault(operator_label(cost.operator), cost.reason)
    return _listed([f"{label} ({reason})" for label, reason in reasons.items()])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
