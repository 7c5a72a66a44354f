"""What a lever is, and how a changed deployment or changed costs are priced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx_aiwq.deployment import Deployment, Metrics, metrics_of
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.metrics.hourly import HourlyIntensity
from onnx_aiwq.operations.counting import NodeCost
from onnx_aiwq.report import Report
from onnx_aiwq.report_entries import sum_counts
from onnx_aiwq.transistors import transistor_operations

SCHEMA = "onnx_aiwq.advice/1"
ACCURACY = "accuracy after the change: it needs the data and a run"
_SEEN_BY_PROFILES = frozenset({"precision", "hardware", "utilization"})
_UNSEEN = (
    "every stage of the life cycle that runs the model has a rate or hardware of its own, which does not tell; leave "
    "them out of its [compute] tables, or leave --lifecycle out"
)


@dataclass(frozen=True)
class Figures:
    """What one state costs, for the inferences of the deployment and with its life cycle where there is one.

    Attributes:
        joules: J, with the ends of the interval; None where unknown.
        seconds: of the inferences, s.
        grams: operational gCO2e.
        total_g: with the share of making the hardware; None where that is unknown.
        ecal_joules_per_bit: J/bit.
        transistor_operations: of one run of the model.
        bytes_moved: by one run of the model, read and written.
        stored_bytes: of the weights; None where unknown.
    """

    joules: float | None
    joules_low: float | None
    joules_high: float | None
    seconds: float | None
    grams: float | None
    total_g: float | None
    ecal_joules_per_bit: float | None
    transistor_operations: int
    bytes_moved: int
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Lever:
    """One change, before and after.

    Attributes:
        name: of the kind of lever: precision, pruning, dimension, hardware, region, hour, utilization, training.
        change: in words.
        before: the deployment as it is.
        after: with the change, for the same work; None where it cannot be computed.
        assumes: what the numbers take for granted.
        unknown: what they do not tell.
        reason: why it cannot be computed, else "".
        details: figures of this kind of lever alone.
    """

    name: str
    change: str
    before: Figures
    after: Figures | None
    assumes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def saved_joules(self) -> float | None:
        """Before - after, J; negative where the change costs more, None where either is unknown."""
        return None if self.after is None else _difference(self.before.joules, self.after.joules)

    @property
    def saved_grams(self) -> float | None:
        """Before - after, operational gCO2e; None where either is unknown."""
        return None if self.after is None else _difference(self.before.grams, self.after.grams)

    def to_dict(self) -> dict[str, Any]:
        """An element of ``levers``."""
        return {
            "name": self.name,
            "change": self.change,
            "before": dataclasses.asdict(self.before),
            "after": None if self.after is None else dataclasses.asdict(self.after),
            "saving": {
                "joules": self.saved_joules,
                "joules_share": _share(self.saved_joules, self.before.joules),
                "grams": self.saved_grams,
                "grams_share": _share(self.saved_grams, self.before.grams),
            },
            "assumes": list(self.assumes),
            "unknown": list(self.unknown),
            "reason": self.reason or None,
            "details": dict(self.details),
        }


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _share(saved: float | None, before: float | None) -> float | None:
    return None if saved is None or not before else saved / before


@dataclass(frozen=True)
class Advice:
    """The levers of one model in one deployment, the greatest saving first.

    Attributes:
        report: of the deployment as it is.
        baseline: its figures.
        levers: by grams saved, else joules; those that cannot be computed last.
    """

    report: Report
    baseline: Figures
    levers: tuple[Lever, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of schema ``onnx_aiwq.advice/1``."""
        report, grid = self.report, self.report.deployment.grid
        path = report.graph.model.path
        return {
            "schema": SCHEMA,
            "model": {"path": None if path is None else str(path), "graph_sha256": report.graph.model.graph_sha256},
            "baseline": {
                **dataclasses.asdict(self.baseline),
                "hardware": report.profile.id,
                "source": report.energy.source,
                "interval": report.energy.interval,
                "inferences": report.ecal.inferences,
                "covers": report.carbon.covers,
                "region": grid.region,
                "intensity_g_per_kwh": grid.intensity_g_per_kwh,
                "pue": grid.pue,
                "scope": report.carbon.scope,
                "partial": bool(report.unsupported),
            },
            "levers": [lever.to_dict() for lever in self.levers],
            "warnings": [line for line in report.warnings if line not in report.workload.notes],
        }


class Case:
    """The deployment as it is, and how a changed one is priced."""

    def __init__(self, report: Report, hourly: HourlyIntensity | None) -> None:
        self.report = report
        self.hourly = hourly
        self.stored = sum(tensor.size_bytes or 0 for tensor in report.graph.parameters)
        self.before = figures_of(report.metrics, report.costs, self.stored)

    @property
    def deployment(self) -> Deployment:
        return self.report.deployment

    def price(
        self,
        *,
        costs: Sequence[NodeCost] | None = None,
        deployment: Deployment | None = None,
        stored: int | None = None,
    ) -> Figures:
        """Figures with other costs, or in another deployment."""
        costs = self.report.costs if costs is None else costs
        metrics = metrics_of(self.report.graph, costs, deployment or self.deployment)
        return figures_of(metrics, costs, self.stored if stored is None else stored)

    def lever(self, name: str, change: str, after: Callable[[], Figures], **words: Any) -> Lever:
        """A lever; an error of ours becomes its reason."""
        try:
            figures = after()
        except AiwqError as error:
            return self.impossible(name, change, str(error))
        unseen = self.deployment.lifecycle is not None and figures.joules == self.before.joules
        if unseen and name in _SEEN_BY_PROFILES:
            return self.impossible(name, change, _UNSEEN)
        return Lever(name, change, self.before, figures, **words)

    def impossible(self, name: str, change: str, reason: str) -> Lever:
        """A lever that cannot be computed."""
        return Lever(name, change, self.before, None, reason=reason)

    @property
    def life_cycle_note(self) -> tuple[str, ...]:
        if self.deployment.lifecycle is None:
            return ()
        return (
            "every stage of the life cycle that runs the model is changed, training included; one with a rate or "
            "hardware of its own keeps that, and a rate per FLOP sees no data type",
        )


def figures_of(metrics: Metrics, costs: Sequence[NodeCost], stored: int | None) -> Figures:
    ecal, seconds = metrics.ecal, metrics.energy.seconds
    known = ecal.joules is not None  # an interval without a point would be one of nothing
    return Figures(
        joules=ecal.joules,
        joules_low=ecal.joules_low if known else None,
        joules_high=ecal.joules_high if known else None,
        seconds=None if seconds is None else seconds * ecal.inferences,
        grams=metrics.carbon.operational_g,
        total_g=metrics.carbon.total_g,
        ecal_joules_per_bit=ecal.joules_per_bit,
        transistor_operations=transistor_operations(sum_counts(cost.counts for cost in costs)),
        bytes_moved=sum((cost.bytes_read or 0) + (cost.bytes_written or 0) for cost in costs),
        stored_bytes=stored,
    )
