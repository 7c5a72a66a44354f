"""The life cycle as numbers: every stage of eCAL, in total, per bit and per inference (its eq. 3, 4 and 30)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from msgspec.structs import replace

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.lifecycle.computing import FLOP_ON_PROFILE, Machine, Spent, free_of_hardware, machine_of
from onnx_aiwq.lifecycle.document import LifeCycle, Rate
from onnx_aiwq.lifecycle.links import Coding, Link, Protocol, collection_joules, stack_of, storage_joules
from onnx_aiwq.lifecycle.networks import Network, sample_size
from onnx_aiwq.lifecycle.stages import evaluation_passes, preprocessing_flops, training_passes
from onnx_aiwq.metrics.carbon import ONE_INFERENCE, Carbon, FunctionalUnit, Grid, footprint
from onnx_aiwq.metrics.ecal import DEVELOPMENT_STAGES, MAX_INFERENCES, STORAGE, Ecal, aggregate, check_inferences

_COMPUTED = ("preprocessing", "training", "evaluation", "inference")


@dataclass(frozen=True)
class Inferences:
    """What some inferences spend; None for a part that is unknown or, for `links`, not covered."""

    links: Spent | None
    preprocessing: Spent | None
    model: Spent | None


@dataclass(frozen=True)
class Costs:
    """A life cycle, priced.

    Attributes:
        life: the file.
        network: what runs.
        links: hops that samples travel.
        coding: the authors' choices.
        machines: by stage.
        values_per_sample: IS.
        bits_per_value: f.
    """

    life: LifeCycle
    network: Network
    links: tuple[Link, ...]
    coding: Coding
    machines: Mapping[str, Machine]
    values_per_sample: int
    bits_per_value: int

    @property
    def bits_per_sample(self) -> int:
        """f IS."""
        return self.values_per_sample * self.bits_per_value

    @property
    def data_bits(self) -> int:
        """Bits of the development data, f IS N_S."""
        return self.bits_per_sample * self.life.data.samples

    def inference_bits(self, inferences: int) -> int:
        """Bits of the data of some inferences, f IS gamma N_I,P."""
        return self.bits_per_sample * inferences * self.life.inference.samples_per_inference

    @functools.cached_property
    def development(self) -> Mapping[str, Spent | None]:
        """What each covered development stage spends; None where it is unknown."""
        life, samples = self.life, self.life.data.samples
        spent: dict[str, Spent | None] = {}
        if self.links:
            spent["collection"] = free_of_hardware(collection_joules(self.data_bits, self.links, self.coding))
        if life.storage is not None:
            stored = storage_joules(self.data_bits, life.storage.medium, life.storage.raid, life.storage.disks)
            spent[STORAGE] = free_of_hardware(stored)
        if life.preprocessing is not None:
            spent["preprocessing"] = self._preprocessing(samples)
        if life.training is not None:
            split, folds = life.training.split, life.training.folds
            passes = training_passes(samples, life.training.epochs, split=split, folds=folds)
            spent["training"] = self.machines["training"].forward(self.network, passes, life.training.flops_factor)
            passes = evaluation_passes(samples, split=split, folds=folds)
            spent["evaluation"] = self.machines["evaluation"].forward(self.network, passes)
        return MappingProxyType(spent)

    def _preprocessing(self, samples: int) -> Spent | None:
        if self.life.preprocessing is None:
            return None
        flops = preprocessing_flops(self.life.preprocessing.method, samples, self.values_per_sample)
        return self.machines["preprocessing"].flops(flops)

    def inference(self, inferences: int) -> Inferences:
        """What some inferences spend: their data travel, are prepared, and run."""
        samples = inferences * self.life.inference.samples_per_inference
        links = self.links if self.life.conventions.inference_hops == "all" else self.links[-1:]
        sent = None
        if links:
            sent = free_of_hardware(collection_joules(self.inference_bits(inferences), links, self.coding))
        return Inferences(
            sent, self._preprocessing(samples), self.machines["inference"].forward(self.network, float(samples))
        )

    def inference_joules(self, inferences: int) -> float | None:
        """J of some inferences, overhead not included; None where it is unknown."""
        spent = _total(self.inference(inferences))
        return None if spent is None else spent.joules

    def break_even(self) -> float | None:
        """Inferences that spend what development spends, between whole numbers; None where either is unknown."""
        stages = [stage for stage in self.development.values() if stage is not None]
        if not stages or len(stages) < len(self.development) or self.inference_joules(1) is None:
            return None
        target = math.fsum(stage.joules for stage in stages)
        return _crossing(lambda count: self.inference_joules(count) or 0.0, target) if target > 0 else None


def _total(spent: Inferences) -> Spent | None:
    """All parts of the inferences; None where the model's is unknown."""
    total = spent.model
    for part in (spent.links, spent.preprocessing):
        if total is not None and part is not None:
            total = total + part
    return total


def _crossing(joules: Callable[[int], float], target: float) -> float | None:
    """Where a function that does not fall reaches a target, between whole numbers; None beyond `MAX_INFERENCES`."""
    if joules(MAX_INFERENCES) < target:
        return None
    low, high = 0, MAX_INFERENCES  # joules(low) <= target <= joules(high), with joules(0) = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if joules(middle) <= target else (low, middle)
    below = joules(low) if low else 0.0
    above = joules(high)
    return low + (target - below) / (above - below) if above > below else float(high)


@dataclass(frozen=True)
class LifeCycleResult:
    """A life cycle at one number of inferences.

    Attributes:
        ecal: the metric.
        costs: what it was computed from, for other numbers of inferences.
        warnings: what was assumed, to be shown with the numbers.
    """

    ecal: Ecal
    costs: Costs
    warnings: tuple[str, ...]


def evaluate(
    life: LifeCycle,
    network: Network,
    *,
    inferences: int | None = None,
    default_profile: HardwareProfile | None = None,
    utilization: float = 1.0,
) -> LifeCycleResult:
    """Compute a life cycle.

    Args:
        life: the file.
        network: what runs.
        inferences: instead of the file's.
        default_profile: hardware of stages for which the file says nothing.
        utilization: share of its powered time that a profile's hardware works.

    Raises:
        AiwqError: if hardware or a protocol is not known, the size of a sample is not given, or scopes are mixed.
    """
    values, bits = sample_size(life.data.values_per_sample, life.data.bits_per_value, network)
    own = [Protocol(**protocol.model_dump()) for protocol in life.protocols]
    conventions = life.conventions
    costs = Costs(
        life=life,
        network=network,
        links=tuple(Link(stack_of(hop.stack, own), hop.failure_rate) for hop in life.hops),
        coding=Coding(conventions.layer_terms, conventions.hop_payload, conventions.whole_bits),
        machines=_machines(life, default_profile, utilization),
        values_per_sample=values,
        bits_per_value=bits,
    )
    count = life.inference.count if inferences is None else inferences
    return LifeCycleResult(ecal_at(costs, count), costs, (*network.warnings, *_assumptions(costs)))


def _machines(life: LifeCycle, default: HardwareProfile | None, utilization: float) -> dict[str, Machine]:
    compute = life.compute
    general: Rate = compute
    own: dict[str, Rate | None] = {
        "preprocessing": compute.preprocessing,
        "training": compute.training,
        "evaluation": compute.evaluation or compute.training,
        "inference": compute.inference,
    }
    machines = {
        stage: machine_of(
            rate or general,
            family="elementwise" if stage == "preprocessing" else "dense",
            default=default,
            utilization=utilization,
        )
        for stage, rate in own.items()
    }
    used = {stage: machine for stage, machine in machines.items() if _covers(life, stage)}
    scopes = {machine.scope for machine in used.values()}
    if len(scopes) > 1:
        listed = ", ".join(f"{stage} {machine.scope}" for stage, machine in used.items())
        raise PolicyError(f"[compute]: energy of two scopes cannot be added: {listed}; use profiles of one scope")
    return machines


def _covers(life: LifeCycle, stage: str) -> bool:
    if stage == "preprocessing":
        return life.preprocessing is not None
    return stage == "inference" or life.training is not None


def ecal_at(costs: Costs, inferences: int) -> Ecal:
    """The metric at a number of inferences.

    Raises:
        PolicyError: if it is not from 1 to `MAX_INFERENCES`.
    """
    check_inferences(inferences)
    ecal, limit = _aggregated(costs, inferences), _aggregated(costs, MAX_INFERENCES)
    return replace(
        ecal,
        break_even_inferences=costs.break_even(),
        details=MappingProxyType(_details(costs, ecal, limit)),
    )


def _aggregated(costs: Costs, inferences: int) -> Ecal:
    spent: dict[str, Spent | None] = {**costs.development, "inference": _total(costs.inference(inferences))}
    known = {stage: each for stage, each in spent.items() if each is not None}
    spread = None
    if any(costs.machines[stage].profile is not None for stage in known if stage in costs.machines):
        spread = math.fsum(s.joules_low for s in known.values()), math.fsum(s.joules_high for s in known.values())
    return aggregate(
        {stage: each.joules for stage, each in known.items()},
        bits=costs.data_bits + costs.inference_bits(inferences),
        inferences=inferences,
        scope=_scope(costs, inferences),
        overhead_share=costs.life.overhead.virtualization,
        unknown=tuple(stage for stage, each in spent.items() if each is None),
        spread_j=spread,
        basis=_basis(costs),
    )


def _details(costs: Costs, ecal: Ecal, limit: Ecal) -> dict[str, float | None]:
    """Per bit, without overhead as the paper quotes it; parts of the inference; the limit with ever more of them."""
    parts = costs.inference(ecal.inferences)
    bits = costs.inference_bits(ecal.inferences)

    def joules(part: Spent | None) -> float | None:
        return None if part is None else part.joules

    return {
        "development_j_per_bit": None if ecal.development_j is None else ecal.development_j / costs.data_bits,
        "inference_j_per_bit": None if ecal.inference_j is None else ecal.inference_j / bits,
        "limit_j_per_bit": limit.joules_per_bit,
        "inference_transmission_j": joules(parts.links),
        "inference_preprocessing_j": joules(parts.preprocessing),
        "inference_model_j": joules(parts.model),
        "virtualization_share": costs.life.overhead.virtualization,
        "forward_flops": costs.network.flops_per_sample,
        "bits_per_sample": costs.bits_per_sample,
    }


def _scope(costs: Costs, inferences: int) -> str:
    life = costs.life
    covered = [stage for stage in (*DEVELOPMENT_STAGES, STORAGE) if stage in costs.development]
    missing = [stage for stage in DEVELOPMENT_STAGES if stage not in costs.development]
    numbers = f"{life.data.samples:,} samples, {inferences:,} inferences"
    text = f"{', '.join([*covered, 'inference'])}; {numbers}; {costs.network.name}"
    return text + (f"; not covered: {', '.join(missing)}" if missing else "")


def _basis(costs: Costs) -> dict[str, str]:
    """How the joules of each covered stage were obtained."""
    life = costs.life
    found: dict[str, str] = {}
    hops = "; ".join(_described(link) for link in costs.links)
    if costs.links:
        found["collection"] = f"{hops}; terms: {costs.coding.layer_terms}, payload of hops: {costs.coding.hop_payload}"
    if life.storage is not None:
        found[STORAGE] = f"{life.storage.medium}, {life.storage.raid}: v1 of the paper"
    for stage in _COMPUTED:
        if _covers(life, stage):
            found[stage] = costs.machines[stage].label
    if life.training is not None:
        found["training"] += f"; {life.training.flops_factor:g} forward passes per step, {life.training.epochs} epochs"
    found["inference"] += (
        f"; {costs.network.name}: {costs.network.flops_per_sample:g} FLOPs, {costs.network.definition}"
    )
    if costs.links:
        which = "all hops" if life.conventions.inference_hops == "all" else "the last hop"
        found["inference"] += f"; its data travel {which}"
    return found


def _described(link: Link) -> str:
    names = [protocol.name for protocol in link.stack]
    stack = "generic stack" if all(name.startswith("generic_") for name in names) else "/".join(names)
    return stack + (f", {link.failure_rate:g} fail" if link.failure_rate else "")


def _assumptions(costs: Costs) -> tuple[str, ...]:
    life, lines = costs.life, []
    profiled = [stage for stage in _COMPUTED if _covers(life, stage) and costs.machines[stage].profile is not None]
    plain = profiled if costs.network.costs is None else [stage for stage in profiled if stage == "preprocessing"]
    if plain:
        lines.append(f"{', '.join(plain)} on a hardware profile: {FLOP_ON_PROFILE}")
    if "training" in profiled and costs.network.costs is not None and life.training is not None:
        factor = life.training.flops_factor
        lines.append(f"training is {factor:g} forward passes per step, as eCAL assumes; no backward pass was counted")
    values, bits = costs.network.values_per_sample, costs.network.bits_per_value
    if values and bits and (values, bits) != (costs.values_per_sample, costs.bits_per_value):
        given = f"[data] says {costs.values_per_sample:,} values of {costs.bits_per_value} bit per sample"
        lines.append(f"{given}; the inputs of {costs.network.name} have {values:,} of {bits} bit")
    if not life.compute.ways and not all((life.compute.preprocessing, life.compute.training, life.compute.inference)):
        lines.append("[compute] is not given for every stage: the hardware profile of the analysis is assumed there")
    return tuple(lines)


def life_cycle_carbon(result: LifeCycleResult, grid: Grid, *, unit: FunctionalUnit = ONE_INFERENCE) -> Carbon:
    """Grams of a life cycle: PUE on what is computed or stored, not on links; embodied where all hardware has it."""
    costs, ecal = result.costs, result.ecal
    inferred = costs.inference(ecal.inferences)
    collected = costs.development.get("collection")
    outside = [part.joules for part in (collected, inferred.links) if part is not None]
    spent = [*costs.development.values(), _total(inferred)]
    shares = [None if each is None else each.embodied_g for each in spent]
    known = [share for share in shares if share is not None]
    embodied_g = math.fsum(known) if len(known) == len(shares) else None
    covered = [stage for stage, joules in ecal.by_stage.items() if joules is not None]
    used = [costs.machines[stage] for stage in _COMPUTED if _covers(costs.life, stage)]
    sources = {m.profile.embodied.source for m in used if m.profile is not None and m.profile.embodied is not None}
    return footprint(
        ecal.joules,
        embodied_g,
        grid=grid,
        inferences=ecal.inferences,
        embodied_source="; ".join(sorted(sources)) or None,
        joules_outside=math.fsum(outside) * (1 + costs.life.overhead.virtualization),
        unit=unit,
        scope=costs.machines["inference"].scope,
        covers="life cycle: " + ", ".join(covered),
    )


def sweep(costs: Costs, counts: Sequence[int]) -> list[Ecal]:
    """The metric at several numbers of inferences."""
    return [ecal_at(costs, count) for count in counts]
