"""A deployment: where and how a model runs, and the metrics that follow from it and the model's costs.

Everything that can be chosen is here, checked once before a model is read; `metrics_of` prices costs with it. The same
deployment prices any model, and a changed one (`dataclasses.replace`) the same model again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import msgspec
from msgspec.structs import replace

from onnx_aiwq.energy import (
    DEFAULT_NEGATIVE_SHARE,
    DEFAULT_TEMPERATURE_K,
    EnergyEstimate,
    check_shares,
    estimate,
    landauer_joules_per_bit,
)
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.hardware_profile import CompResFigures, Embodied, HardwareProfile
from onnx_aiwq.metrics.carbon import (
    ONE_INFERENCE,
    Carbon,
    FunctionalUnit,
    Grid,
    embodied_given,
    embodied_share_g,
    footprint,
    functional_unit,
    profile_scope,
    resolve_grid,
)
from onnx_aiwq.metrics.ecal import Ecal, check_inferences, inference_only
from onnx_aiwq.metrics.hourly import read_hourly
from onnx_aiwq.metrics.regions import find_region
from onnx_aiwq.metrics.workload import (
    DEFAULT_DATA_SCALE_BITS,
    HumanTask,
    Network,
    Workload,
    check_data_scale,
    check_measured_seconds,
    comp_res_figures,
    estimate_workload,
    resource_cost,
)
from onnx_aiwq.operations.counting import NodeCost
from onnx_aiwq.profiles import profile_of
from onnx_aiwq.units import BITS_PER_BYTE
from onnx_aiwq.vocabulary import Tensor

if TYPE_CHECKING:
    import os

    from onnx_aiwq.graph import Graph
    from onnx_aiwq.lifecycle import LifeCycle, LifeCycleResult


class DeploymentOptions(TypedDict, total=False):
    """The keyword arguments of `describe_deployment`, which explains each."""

    hardware: str | HardwareProfile | None
    region: str | None
    carbon_intensity_g_per_kwh: float | None
    carbon_profile: str | os.PathLike[str] | None
    hour: int | None
    pue: float | None
    embodied_kg: float | None
    lifetime_years: float | None
    per: str
    inferences_per_unit: int | None
    inferences: int | None
    utilization: float
    temperature_k: float
    negative_share: float
    comp_res: Mapping[str, float] | None
    data_scale_bits: float
    network: Network
    measured_seconds: float | None
    human: HumanTask | None
    lifecycle: str | os.PathLike[str] | LifeCycle | None


@dataclass(frozen=True)
class Deployment:
    """Where and how a model runs; see `describe_deployment` for what each is made from.

    Raises:
        AiwqError: if a number is out of its range; the message names its option.
    """

    profile: HardwareProfile
    grid: Grid
    embodied: Embodied | None
    unit: FunctionalUnit = ONE_INFERENCE
    inferences: int | None = None
    utilization: float = 1.0
    temperature_k: float = DEFAULT_TEMPERATURE_K
    negative_share: float = DEFAULT_NEGATIVE_SHARE
    comp_res: CompResFigures = CompResFigures()  # noqa: RUF009 - a frozen model
    data_scale_bits: float = DEFAULT_DATA_SCALE_BITS
    network: Network = Network()  # noqa: RUF009 - frozen
    measured_seconds: float | None = None
    human: HumanTask | None = None
    lifecycle: LifeCycle | None = None

    def __post_init__(self) -> None:
        """Check the numbers, each of which the metrics would take from anybody."""
        if self.inferences is not None:
            check_inferences(self.inferences)
        check_shares(self.utilization, self.negative_share)
        landauer_joules_per_bit(self.temperature_k)
        check_data_scale(self.data_scale_bits)
        check_measured_seconds(self.measured_seconds)

    def price(self, costs: Sequence[NodeCost], graph: Graph | None, *, forward_pass: bool = False) -> EnergyEstimate:
        """Joules and seconds of one inference with these costs of a graph; see `onnx_aiwq.energy.estimate`."""
        return estimate(
            costs,
            self.profile,
            temperature_k=self.temperature_k,
            utilization=self.utilization,
            negative_share=self.negative_share,
            graph=graph,
            forward_pass=forward_pass,
        )


def describe_deployment(
    *,
    hardware: str | HardwareProfile | None = None,
    region: str | None = None,
    carbon_intensity_g_per_kwh: float | None = None,
    carbon_profile: str | os.PathLike[str] | None = None,
    hour: int | None = None,
    pue: float | None = None,
    embodied_kg: float | None = None,
    lifetime_years: float | None = None,
    per: str = "inference",
    inferences_per_unit: int | None = None,
    inferences: int | None = None,
    utilization: float = 1.0,
    temperature_k: float = DEFAULT_TEMPERATURE_K,
    negative_share: float = DEFAULT_NEGATIVE_SHARE,
    comp_res: Mapping[str, float] | None = None,
    data_scale_bits: float = DEFAULT_DATA_SCALE_BITS,
    network: Network = Network(),  # noqa: B008 - frozen
    measured_seconds: float | None = None,
    human: HumanTask | None = None,
    lifecycle: str | os.PathLike[str] | LifeCycle | None = None,
) -> Deployment:
    """Check the choices of a deployment.

    Args:
        hardware: name or file of a profile, or a profile; this machine's calibrated one, else the reference, if None.
        region: grid or cloud region; the world average where neither it nor an intensity is given.
        carbon_intensity_g_per_kwh: gCO2e/kWh, instead of the region's.
        carbon_profile: CSV file of hour and g_per_kwh, instead of the region's intensity.
        hour: of the day, for `carbon_profile`; the mean of the day if None.
        pue: power usage effectiveness of the data centre.
        embodied_kg: kgCO2e of making the hardware, instead of the profile's.
        lifetime_years: years of use that it is spread over, instead of the profile's.
        per: R of the SCI: inference, 1000, user or request.
        inferences_per_unit: that one user or request makes.
        inferences: that eCAL and CO2 are for; those of the life cycle, else 1, if None.
        utilization: share of its powered time that the hardware does this work.
        temperature_k: of the Landauer bound, K.
        negative_share: of the inputs of a Relu, for the Landauer bound.
        comp_res: figures of AIWQ eq. 30 by name, instead of the profile's.
        data_scale_bits: S_data of AIWQ eq. 31.
        network: conditions of a distributed run, AIWQ eq. 32.
        measured_seconds: seconds of a real inference, for the actual workload.
        human: the same task done by people, for the AI impact.
        lifecycle: file or document of a life cycle, for eCAL and the CO2 of all of it.

    Raises:
        AiwqError: if a choice is not usable; the message names its option.
    """
    profile = profile_of(hardware)
    grid = describe_grid(region, carbon_intensity_g_per_kwh, carbon_profile, hour, pue)
    return Deployment(
        profile=profile,
        grid=grid,
        embodied=embodied_given(profile.embodied, embodied_kg, lifetime_years),
        unit=functional_unit(per, inferences_per_unit),
        inferences=inferences,
        utilization=utilization,
        temperature_k=temperature_k,
        negative_share=negative_share,
        comp_res=comp_res_figures(profile.comp_res, comp_res),
        data_scale_bits=data_scale_bits,
        network=network,
        measured_seconds=measured_seconds,
        human=human,
        lifecycle=_lifecycle(lifecycle),
    )


def describe_grid(
    region: str | None,
    carbon_intensity_g_per_kwh: float | None,
    carbon_profile: str | os.PathLike[str] | None,
    hour: int | None,
    pue: float | None,
) -> Grid:
    """The electricity of a deployment; see `describe_deployment`.

    Raises:
        AiwqError: if a choice is not usable; the message names its option.
    """
    return resolve_grid(
        region=None if region is None else find_region(region),
        intensity_g_per_kwh=carbon_intensity_g_per_kwh,
        hourly=None if carbon_profile is None else read_hourly(Path(carbon_profile)),
        hour=hour,
        pue=pue,
    )


def _lifecycle(given: str | os.PathLike[str] | LifeCycle | None) -> LifeCycle | None:
    if given is None:
        return None
    from onnx_aiwq.lifecycle import LifeCycle, read_lifecycle

    return given if isinstance(given, LifeCycle) else read_lifecycle(Path(given))


class Metrics(msgspec.Struct, frozen=True):
    """What a deployment makes of a model.

    Attributes:
        energy: joules and seconds with intervals, and per node.
        workload: AIWQ.
        ecal: energy of the life cycle per bit.
        carbon: grams.
        warnings: assumptions of the life cycle, to be shown with the numbers.
        lifecycle: the priced life cycle; None without one.
    """

    energy: EnergyEstimate
    workload: Workload
    ecal: Ecal
    carbon: Carbon
    warnings: tuple[str, ...] = ()
    lifecycle: LifeCycleResult | None = None


def metrics_of(
    graph: Graph, costs: Sequence[NodeCost], deployment: Deployment, *, forward_pass: bool = False
) -> Metrics:
    """Price the costs of one inference, and derive the workload, eCAL and CO2."""
    energy = deployment.price(costs, graph, forward_pass=forward_pass)
    input_bits, output_bits = bits_of(graph.inputs), bits_of(graph.outputs)
    workload = estimate_workload(
        deployment.comp_res,
        input_bits=input_bits,
        output_bits=output_bits,
        seconds=energy.seconds,
        measured_seconds=deployment.measured_seconds,
        human=deployment.human,
        network=deployment.network,
        data_scale_bits=deployment.data_scale_bits,
        cost=resource_cost(energy, deployment.grid.pue),
    )
    if deployment.lifecycle is not None:
        result, notes = _life_cycle(graph, costs, deployment, deployment.lifecycle)
        from onnx_aiwq.lifecycle import life_cycle_carbon

        carbon = life_cycle_carbon(result, deployment.grid, unit=deployment.unit)
        return Metrics(energy, workload, result.ecal, carbon, (*notes, *result.warnings), result)
    count = deployment.inferences or 1
    known = energy.joules_low is not None and energy.joules_high is not None
    ecal = inference_only(
        energy.joules,
        input_bits,
        count,
        spread_j=(energy.joules_low or 0.0, energy.joules_high or 0.0) if known else None,
        basis=f"{energy.source}: {deployment.profile.name}",
    )
    return Metrics(energy, workload, ecal, _carbon(energy, deployment, count))


def _carbon(energy: EnergyEstimate, deployment: Deployment, inferences: int) -> Carbon:
    embodied = deployment.embodied
    embodied_g = None
    if embodied is not None and energy.seconds is not None:
        embodied_g = embodied_share_g(embodied, energy.seconds * inferences / deployment.utilization)
    return footprint(
        None if energy.joules is None else energy.joules * inferences,
        embodied_g,
        grid=deployment.grid,
        inferences=inferences,
        embodied_source=None if embodied is None else embodied.source,
        unit=deployment.unit,
        scope=profile_scope(deployment.profile),
    )


def _life_cycle(
    graph: Graph, costs: Sequence[NodeCost], deployment: Deployment, life: LifeCycle
) -> tuple[LifeCycleResult, list[str]]:
    """The life cycle around the analysed model, which takes the place of the file's own."""
    from onnx_aiwq.lifecycle import counted_network, evaluate

    notes: list[str] = []
    if life.model is None:
        network = counted_network(graph, costs)
    else:
        notes.append("the analysed model takes the place of [model] in the life cycle file")
        model = life.model
        network = counted_network(graph, costs, flops=model.flops, samples_per_run=model.samples_per_run)
    result = evaluate(
        life,
        network,
        inferences=deployment.inferences,
        default_profile=replace(deployment.profile, embodied=deployment.embodied),
        utilization=deployment.utilization,
    )
    return result, notes


def bits_of(tensors: Sequence[Tensor]) -> int | None:
    """Bits of some tensors together; None where a size is unknown."""
    total = 0
    for tensor in tensors:
        if tensor.size_bytes is None:
            return None
        total += tensor.size_bytes * BITS_PER_BYTE
    return total


def human_task(hours: float | None, residual: float | None, cost: float | None) -> HumanTask | None:
    """The human side from three optional numbers.

    Raises:
        PolicyError: if a number is out of its range, or given without the hours that it belongs to.
    """
    if hours is None:
        given = [
            name
            for name, value in (("--human-cost-per-hour", cost), ("--residual-human-hours", residual))
            if value is not None
        ]
        if given:
            raise PolicyError(f"{given[0]} needs --human-hours: it belongs to the same work done by people")
        return None
    return HumanTask(hours, residual or 0.0, cost)
