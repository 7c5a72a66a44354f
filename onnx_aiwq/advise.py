"""What would lower the energy and CO2 of a model: each lever computed by recounting and pricing, none recited.

A lever changes one thing of a deployment or of its costs, and both are priced by the same code as the report. Before
and after are always of the same work: the inferences of the deployment, with the life cycle where there is one. What a
lever takes for granted and what it cannot know (accuracy, always) stands with it; one that cannot be computed is listed
with its reason.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from onnx_aiwq.deployment import Deployment, Metrics, metrics_of
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.metrics.hourly import HourlyIntensity, read_hourly
from onnx_aiwq.metrics.regions import Region, find_region, list_regions
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.profiles import ANY, DENSE_FAMILIES, HardwareProfile, list_profiles, load_profile
from onnx_aiwq.report import Report, analyze
from onnx_aiwq.report_entries import sum_counts
from onnx_aiwq.transistors import transistor_operations
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

if TYPE_CHECKING:
    import onnx

SCHEMA = "onnx_aiwq.advice/1"
UNSTRUCTURED_PERCENT = (50, 75, 90)
STRUCTURED_PERCENT = (25, 50)
FLOAT_TARGETS = (DType.FLOAT16, DType.BFLOAT16)
INTEGER_TARGETS = (DType.INT8, DType.INT4)
TRIED_PROFILES = 3
TRIED_UTILIZATIONS = (0.5, 1.0)
ACCURACY = "accuracy after the change: it needs the data and a run"
_SAMPLE_NAMES = frozenset({"n", "b", "bs"})
_REAL = frozenset({DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE})
_OPERANDS = 2  # the first two inputs of a dense product


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
        stored_bytes: of the weights, where the lever changes them or keeps them; None where unknown.
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
            "warnings": list(report.warnings),
        }


def advise(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    try_hardware: Sequence[str] = (),
    try_regions: Sequence[str] = (),
    **options: Any,
) -> Advice:
    """Compute every lever on a model in a deployment.

    Args:
        source: path, bytes or ModelProto.
        try_hardware: profiles to move to; the cheapest datasheet profiles of the same kind if none.
        try_regions: regions to move to; those with the least carbon if none.
        options: of `onnx_aiwq.analyze`, all but `level`: every lever is on inference.

    Raises:
        AiwqError: if the model or an option is not usable.
    """
    profiles = [load_profile(name) for name in try_hardware]
    regions = [find_region(code) for code in try_regions]
    report = analyze(source, **options)
    hourly = options.get("carbon_profile")
    case = _Case(report, None if hourly is None else read_hourly(Path(hourly)))

    def recount(name: str, value: int) -> Report:
        bind = {**(options.get("bind") or {}), name: value}
        quiet = {**options, "bind": bind, "progress": lambda stage: None}
        return analyze(source, **quiet)

    levers = [
        *_precision(case),
        *_pruning(case),
        *_dimensions(case, recount),
        *_hardware(case, profiles),
        *_regions(case, regions),
        *_deployment(case),
    ]
    return Advice(report, case.before, tuple(sorted(levers, key=_rank)))


def _rank(lever: Lever) -> tuple[int, float]:
    if lever.saved_grams is not None:
        return 0, -lever.saved_grams
    return (1, -lever.saved_joules) if lever.saved_joules is not None else (2, 0.0)


class _Case:
    """The deployment as it is, and how a changed one is priced."""

    def __init__(self, report: Report, hourly: HourlyIntensity | None) -> None:
        self.report = report
        self.hourly = hourly
        self.stored = sum(tensor.size_bytes or 0 for tensor in report.graph.parameters)
        self.before = _figures(report.metrics, report.costs, self.stored)

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
        return _figures(metrics, costs, self.stored if stored is None else stored)

    def lever(self, name: str, change: str, after: Callable[[], Figures], **words: Any) -> Lever:
        """A lever; an error of ours becomes its reason."""
        try:
            return Lever(name, change, self.before, after(), **words)
        except AiwqError as error:
            return self.impossible(name, change, str(error))

    def impossible(self, name: str, change: str, reason: str) -> Lever:
        """A lever that cannot be computed."""
        return Lever(name, change, self.before, None, reason=reason)

    @property
    def life_cycle_note(self) -> tuple[str, ...]:
        if self.deployment.lifecycle is None:
            return ()
        return ("stages of the life cycle with a rate or hardware of their own keep it; a rate per FLOP sees no type",)


def _figures(metrics: Metrics, costs: Sequence[NodeCost], stored: int | None) -> Figures:
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


# --- precision ---------------------------------------------------------------------------------------------------


def _precision(case: _Case) -> Iterator[Lever]:
    present = {dtype for cost in case.report.costs for dtype in (cost.counts or Counts()).dtypes}
    for target in (*FLOAT_TARGETS, *INTEGER_TARGETS):
        change = f"float32 to {target.label}"
        if DType.FLOAT not in present:
            yield case.impossible("precision", change, "the model computes nothing in float32")
            continue
        yield _to_float(case, target, change) if target.is_float else _to_integer(case, target, change)


def _to_float(case: _Case, target: DType, change: str) -> Lever:
    """Every float32 tensor in the target type, and the rules asked again."""

    def changed(tensor: Tensor | None) -> Tensor | None:
        return replace(tensor, dtype=target) if tensor is not None and tensor.dtype is DType.FLOAT else tensor

    graph = case.report.graph
    operators = tuple(
        replace(op, inputs=tuple(map(changed, op.inputs)), outputs=tuple(map(changed, op.outputs)))
        for op in graph.operators
    )
    stored = sum(tensor.size_bytes or 0 for each in graph.parameters if (tensor := changed(each)) is not None)

    def after() -> Figures:
        costs = case.report.count(replace(graph, operators=operators))
        _require_same_coverage(case.report.costs, costs)
        return case.price(costs=costs, stored=stored)

    return case.lever(
        "precision",
        change,
        after,
        assumes=(
            "every float32 tensor, weights and activations, is of the new type; no casts are added",
            "eCAL stays per bit of the inputs as they are now",
            _coefficient_note(case.deployment.profile, target),
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY,),
    )


def _require_same_coverage(before: Sequence[NodeCost], after: Sequence[NodeCost]) -> None:
    lost = sum(cost.status is Status.UNSUPPORTED for cost in after)
    if lost > sum(cost.status is Status.UNSUPPORTED for cost in before):
        reasons = next(cost.reason for cost in after if cost.status is Status.UNSUPPORTED)
        raise AiwqError(f"operators that were counted have no count in that type: {reasons}")


def _coefficient_note(profile: HardwareProfile, target: DType) -> str:
    used = profile.coefficient(DENSE_FAMILIES[0], target)
    note = f"dense products are priced by the profile's coefficient for family {used.family}, data type {used.dtype}"
    if used.dtype == ANY:
        note += f": it has none for {target.label}, so the saving is that of the transistor count"
    return note


def _to_integer(case: _Case, target: DType, change: str) -> Lever:
    """Operands of dense products at the integer width with int32 sums, by the rules for quantised products."""
    graph, before = case.report.graph, case.report.costs
    dense = {cost.operator.name for cost in before if _is_dense(cost)}
    operators = tuple(_quantised(op, target) if op.name in dense else op for op in graph.operators)
    recounted = case.report.count(replace(graph, operators=operators))
    costs, weights, kept = [], {}, []
    for old, new in zip(before, recounted, strict=True):
        if target in (new.counts or Counts()).dtypes and old.counts != new.counts:
            saved = {each.name: _narrowed(each, target) for each in _real_operands(old.operator)}
            weights |= {each.name: saved[each.name] for each in _weights(old.operator) if each.name in saved}
            read = None if new.bytes_read is None else new.bytes_read - sum(saved.values()) * old.operator.repeats
            costs.append(replace(new, bytes_read=read))
        else:
            costs.append(old)
            kept += [old.operator.op_type] if _is_dense(old) else []
    if len(kept) == len(dense):
        return case.impossible("precision", change, "no dense product in a real type that has a quantised form")
    assumes = [
        f"dense products multiply {target.label} operands and sum in int32; all other operators stay as they are",
        "quantising activations and scaling results is fused and not charged; results are written in the old type",
        _coefficient_note(case.deployment.profile, target),
        *case.life_cycle_note,
    ]
    if kept:
        assumes.append(f"{len(kept)} dense nodes stay as they are: {', '.join(sorted(set(kept)))}")
    stored = case.stored - sum(weights.values())
    return case.lever(
        "precision",
        change,
        lambda: case.price(costs=costs, stored=stored),
        assumes=tuple(assumes),
        unknown=(ACCURACY, f"whether the runtime has kernels for {target.label}"),
    )


def _is_dense(cost: NodeCost) -> bool:
    return cost.family in DENSE_FAMILIES and cost.status is Status.COUNTED and bool(cost.counts and cost.counts.macs)


def _real_operands(op: Operator) -> list[Tensor]:
    operands = {each.name: each for each in op.inputs[:_OPERANDS] if each is not None and each.dtype in _REAL}
    return list(operands.values())


def _quantised(op: Operator, target: DType) -> Operator:
    """The operator with its real operands marked as dequantised from the target type; quantised ones stay."""
    operands = {each.name for each in _real_operands(op)}
    if all(each.quantized is not None for each in _real_operands(op)):
        return op
    marked = (
        replace(each, quantized=target) if each is not None and each.name in operands else each for each in op.inputs
    )
    return replace(op, inputs=tuple(marked))


def _narrowed(tensor: Tensor, target: DType) -> int:
    """Bytes that a tensor gets smaller by."""
    return (tensor.size_bytes or 0) - ((tensor.size or 0) * target.bits + BITS_PER_BYTE - 1) // BITS_PER_BYTE


def _weights(op: Operator) -> list[Tensor]:
    """Constant tensors of at least two dimensions that a node reads, each once."""
    found = {each.name: each for each in op.inputs if each is not None and each.constant and (each.rank or 0) > 1}
    return list(found.values())


# --- pruning -----------------------------------------------------------------------------------------------------


def _pruning(case: _Case) -> Iterator[Lever]:
    weights = {t.name: t.size_bytes or 0 for c in case.report.costs if _is_dense(c) for t in _weights(c.operator)}
    total = sum(weights.values())
    for percent in UNSTRUCTURED_PERCENT:
        change = f"{percent} % of weights pruned, unstructured"
        if not total:
            for runtime in ("sparse", "dense"):
                yield case.impossible("pruning", f"{change}, {runtime} runtime", "no dense product reads a weight")
            continue
        yield from _unstructured(case, percent, change, case.stored - total * percent // 100)
    for percent in STRUCTURED_PERCENT:
        change = f"{percent} % of channels pruned"
        if not total:
            yield case.impossible("pruning", change, "no dense product reads a weight")
            continue
        yield _structured(case, percent, change, total)


def _unstructured(case: _Case, percent: int, change: str, stored: int) -> Iterator[Lever]:
    kept = Fraction(100 - percent, 100)
    index = "the positions of the weights that are left take no bytes here; a real format stores them"
    yield case.lever(
        "pruning",
        f"{change}, sparse runtime",
        lambda: case.price(costs=[_thinned(cost, kept) for cost in case.report.costs], stored=stored),
        assumes=(
            "the runtime skips every pruned weight at the efficiency of dense products; few do",
            "the arithmetic of dense products with weights, and the bytes of these weights, fall by the pruned share",
            index,
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY, "the overhead of sparse kernels"),
    )
    yield case.lever(
        "pruning",
        f"{change}, dense runtime",
        lambda: replace(case.before, stored_bytes=stored),
        assumes=("the runtime multiplies zeros like any number: only the stored bytes shrink", index),
        unknown=(ACCURACY,),
    )


def _scaled(counts: Counts | None, kept: Fraction) -> Counts | None:
    """Counts times a share, rounded up."""
    if counts is None:
        return None
    scaled = {key: _up(number, kept) for key, number in counts.operations.items()}
    return Counts(MappingProxyType(scaled), _up(counts.macs, kept))


def _up(number: int, share: Fraction) -> int:
    return -(-number * share.numerator // share.denominator)


def _weight_bytes(cost: NodeCost) -> int:
    moved = sum(tensor.size_bytes or 0 for tensor in _weights(cost.operator)) * cost.operator.repeats
    return min(moved, cost.bytes_read or 0)


def _thinned(cost: NodeCost, kept: Fraction) -> NodeCost:
    """A dense product with weights of which a share is left; any other node as it is."""
    if not _is_dense(cost) or not _weights(cost.operator):
        return cost
    weight_bytes = _weight_bytes(cost)
    read = None if cost.bytes_read is None else cost.bytes_read - weight_bytes + _up(weight_bytes, kept)
    return replace(cost, counts=_scaled(cost.counts, kept), bytes_read=read)


def _structured(case: _Case, percent: int, change: str, weight_bytes: int) -> Lever:
    kept = Fraction(100 - percent, 100)
    stored = _up(case.stored - weight_bytes, kept) + _up(weight_bytes, kept * kept)
    return case.lever(
        "pruning",
        change,
        lambda: case.price(costs=[_narrower(cost, kept) for cost in case.report.costs], stored=stored),
        assumes=(
            "an estimate: every layer loses the same share of its channels, in and out, the first and last one too",
            "dense products with weights fall with the square of the kept share, grouped ones (depthwise) and all "
            "other work and bytes linearly",
            *case.life_cycle_note,
        ),
        unknown=(ACCURACY, "which channels can go: the real network keeps its inputs and outputs"),
    )


def _narrower(cost: NodeCost, kept: Fraction) -> NodeCost:
    """A node of a network of which every layer keeps that share of its channels."""
    dense = _is_dense(cost) and bool(_weights(cost.operator)) and (cost.operator.attributes.get("group") or 1) == 1
    arithmetic = kept * kept if dense else kept
    weight_bytes = _weight_bytes(cost) if dense else 0
    read = None
    if cost.bytes_read is not None:
        read = _up(cost.bytes_read - weight_bytes, kept) + _up(weight_bytes, arithmetic)
    written = None if cost.bytes_written is None else _up(cost.bytes_written, kept)
    return replace(cost, counts=_scaled(cost.counts, arithmetic), bytes_read=read, bytes_written=written)


# --- batch and sequence ------------------------------------------------------------------------------------------


def _dimensions(case: _Case, recount: Callable[[str, int], Report]) -> Iterator[Lever]:
    dimensions = {**case.report.graph.bindings, **case.report.graph.assumed_bindings}
    if not dimensions:
        yield case.impossible("dimension", "half of a dimension", "the file fixes every dimension: export it with one")
    for name, value in dimensions.items():
        samples = is_samples(name)
        change = f"{name} {value} to {value // 2}"
        if value < 2:
            reason = f"{name} is {value}: nothing to halve; bind it with --bind {name}=N"
            yield case.impossible("dimension", f"half of {name}", reason)
        elif samples and case.deployment.lifecycle is not None:
            reason = "a life cycle takes one run as its sample, so its data would change too; leave --lifecycle out"
            yield case.impossible("dimension", change, reason)
        else:
            yield _half(case, recount, name, value)


def is_samples(name: str) -> bool:
    """Whether a dimension, by its name, counts samples that could be run apart (a batch)."""
    return "batch" in name.casefold() or name.casefold() in _SAMPLE_NAMES


def _half(case: _Case, recount: Callable[[str, int], Report], name: str, value: int) -> Lever:
    half, change = value // 2, f"{name} {value} to {value // 2}"
    try:
        other = recount(name, half)
    except AiwqError as error:
        return case.impossible("dimension", change, str(error))
    runs = value / half if is_samples(name) else 1.0
    one = _figures(other.metrics, other.costs, case.stored)
    before_j, after_j = case.report.energy.joules, other.energy.joules
    details = {
        "dimension": name,
        "before": value,
        "after": half,
        "runs_for_same_work": runs,
        "joules_per_inference_before": before_j,
        "joules_per_inference_after": after_j,
        "joules_per_element_before": None if before_j is None else before_j / value,
        "joules_per_element_after": None if after_j is None else after_j / half,
    }
    work = (
        f"by its name {name} counts samples: after is {runs:g} runs, which do the work of one before"
        if is_samples(name)
        else f"an inference with half of {name} does what is needed: after is one run of less work"
    )
    unknown = ("what a shorter input loses", ACCURACY) if not is_samples(name) else ()
    unknown += ("how efficiency changes with size: the profile's coefficients are those of any size",)
    assumes = (work, "all other dimensions stay", *case.life_cycle_note)
    return Lever("dimension", change, case.before, _times(one, runs), assumes, unknown, details=details)


def _times(figures: Figures, runs: float) -> Figures:
    """Figures of a number of runs; those of one run and the energy per bit stay."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * runs

    keys = ("joules", "joules_low", "joules_high", "seconds", "grams", "total_g")
    return replace(figures, **{key: scaled(getattr(figures, key)) for key in keys})


# --- where and when it runs --------------------------------------------------------------------------------------


def _hardware(case: _Case, given: Sequence[HardwareProfile]) -> Iterator[Lever]:
    profiles = list(given) or _cheapest(case)
    if not profiles:
        kind = case.deployment.profile.kind
        reason = f"no other datasheet profile of kind {kind}; name one with --try-hardware"
        yield case.impossible("hardware", f"another profile of kind {kind}", reason)
    chosen = "given with --try-hardware" if given else "the datasheet profiles of the same kind with the least joules"
    for profile in profiles:
        moved = replace(case.deployment, profile=profile, embodied=profile.embodied, comp_res=profile.comp_res)
        yield case.lever(
            "hardware",
            f"{case.deployment.profile.id} to {profile.id}",
            lambda moved=moved: case.price(deployment=moved),  # type: ignore[misc]
            assumes=(
                f"{chosen}; joules by {profile.source}, before by {case.deployment.profile.source}",
                "embodied CO2 is that of the new profile; the utilization, the grid and the PUE stay",
                *case.life_cycle_note,
            ),
            unknown=("whether the model fits its memory and meets its latency", "the making of hardware left unused"),
        )


def _cheapest(case: _Case) -> list[HardwareProfile]:
    own = case.deployment.profile
    ids = [each.id for each in list_profiles() if each.origin == "datasheet" and each.kind == own.kind]
    others = [profile for profile in map(load_profile, ids) if profile.coefficients != own.coefficients]
    priced = [(replace(case.deployment, profile=each).price(case.report.costs).joules, each) for each in others]
    known = [(joules, each) for joules, each in priced if joules is not None]
    return [each for _, each in sorted(known, key=lambda pair: (pair[0], pair[1].id))[:TRIED_PROFILES]]


def _regions(case: _Case, given: Sequence[Region]) -> Iterator[Lever]:
    grid = case.deployment.grid
    provider = (grid.region or "").partition(":")[0] if ":" in (grid.region or "") else ""
    chosen = "given with --try-region"
    if not given:
        which = f"region of {provider}" if provider else "region of each cloud provider"
        chosen = f"the {which} with the least gCO2e/kWh"
    for region in list(given) or _cleanest(provider):
        change = f"{grid.region or 'the given intensity'} to {region.code}"
        if not given and region.code == grid.region:
            reason = f"{region.code} already has the least gCO2e/kWh of {provider}; try others with --try-region"
            yield case.impossible("region", f"another region of {provider}", reason)
            continue
        place = replace(
            grid,
            region=region.code,
            intensity_g_per_kwh=region.intensity_g_per_kwh,
            year=region.year,
            vintage=region.vintage,
            source=region.source,
            hour=None,
            assumption=None,
        )
        yield case.lever(
            "region",
            change,
            lambda place=place: case.price(deployment=replace(case.deployment, grid=place)),  # type: ignore[misc]
            assumes=(
                f"{chosen}: {region.intensity_g_per_kwh:g}, before {grid.intensity_g_per_kwh:g}; {region.year} average",
                "the energy and the PUE stay; grids are yearly averages of generation, not marginal",
            ),
            unknown=("latency, law and the network to the new place",),
        )


def _cleanest(provider: str) -> list[Region]:
    """The region with the least intensity of one provider, or of each."""
    best: dict[str, Region] = {}
    for region in list_regions():
        owner, separator, _ = region.code.partition(":")
        if separator and provider in ("", owner):
            known = best.get(owner)
            if known is None or region.intensity_g_per_kwh < known.intensity_g_per_kwh:
                best[owner] = region
    return list(best.values())


def _deployment(case: _Case) -> Iterator[Lever]:
    yield _hour(case)
    for value in TRIED_UTILIZATIONS:
        if value != case.deployment.utilization:
            yield case.lever(
                "utilization",
                f"utilization {case.deployment.utilization:g} to {value:g}",
                lambda value=value: case.price(  # type: ignore[misc]
                    deployment=replace(case.deployment, utilization=value)
                ),
                assumes=("static power and making are spread over the share of powered time that does this work",),
                unknown=("whether there is enough other work, or load, to reach it",),
            )
    yield _training(case)


def _hour(case: _Case) -> Lever:
    grid, hourly = case.deployment.grid, case.hourly
    if hourly is None:
        reason = "no intensity by hour is known: give it with --carbon-profile FILE.csv"
        return case.impossible("hour", "the cleanest hour of the day", reason)
    hour = hourly.cleanest_hour
    moved = replace(grid, hour=hour, intensity_g_per_kwh=hourly.at(hour), source=f"{hourly.source} (at hour {hour})")
    was = "the mean of the day" if grid.hour is None else f"hour {grid.hour}"
    return case.lever(
        "hour",
        f"{was} to hour {hour}",
        lambda: case.price(deployment=replace(case.deployment, grid=moved)),
        assumes=(f"all of it runs in hour {hour}: {hourly.at(hour):g} gCO2e/kWh, before {grid.intensity_g_per_kwh:g}",),
        unknown=("whether the work can wait; the intensity of other days",),
    )


def _training(case: _Case) -> Lever:
    life = case.deployment.lifecycle
    if life is None or life.training is None:
        what = "no life cycle is given: --lifecycle FILE" if life is None else "the life cycle has no [training]"
        return case.impossible("training", "half of the epochs", what)
    epochs = life.training.epochs
    if epochs < 2:
        return case.impossible("training", "half of the epochs", "the life cycle trains one epoch")
    fewer = life.model_copy(update={"training": life.training.model_copy(update={"epochs": epochs // 2})})
    return case.lever(
        "training",
        f"{epochs} to {epochs // 2} epochs",
        lambda: case.price(deployment=replace(case.deployment, lifecycle=fewer)),
        assumes=("training is proportional to its epochs; half as many retrainings of the same length save the same",),
        unknown=(ACCURACY,),
    )
