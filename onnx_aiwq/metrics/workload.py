"""AI work quantization (AIWQ): a workload score of model, hardware and task, and the human side.

Sharma, Bidollahkhani, Kunkel, "AI Work Quantization Model", eq. 12 to 40; natural logarithms throughout (the ratios
make the base irrelevant). Equations 21 to 29 of the paper repeat 11 to 20.

    C_AI = E_comp + E_data + C_sys                                                             (eq. 16, 26)
    C_sys = static power x runtime / utilization + (PUE - 1) x (E_comp + E_data + static part)  (eq. 15, 25)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from onnx_aiwq.energy import EnergyEstimate
    from onnx_aiwq.hardware_profile import CompResFigures

COMP_RES_SCALE = 1e18
COMP_RES_FIGURES = ("cpu_gips", "ram_gt_per_s", "gpu_gips", "storage_gb_per_s")
DEFAULT_DATA_SCALE_BITS = 1e12
HUMAN_BRAIN_WATTS = 21.5

COMP_RES_NOTE = (
    "CompRes adds GIPS, GT/s and GB/s and divides by the logarithm of a FLOP/s figure (AIWQ eq. 30): "
    "a relative score only"
)
DATA_SCALE_NOTE = "S_data of AIWQ eq. 31 is 'chosen' and not given in the paper; the default is 1e12 bits"
AW_REL_NOTE = (
    "AW_rel is the ratio of AIWQ eq. 33 and 34 as written: time stands in the denominator, so a slower run gives less "
    "than 1, although the paper's text calls a value above 1 underperformance"
)
IMPACT_NOTE = (
    "AI impact divides the AI workload of AIWQ eq. 39 by human hours, as eq. 40 and the paper's examples do; eq. 35 "
    "divides AW_act instead"
)
UNIT_CLAIM_NOTE = (
    "the paper states that 1 AI workload unit is 12 to 14 human hours; that cannot be derived from its own figures and "
    "is not computed here"
)


class CompRes(msgspec.Struct, frozen=True):
    """The score of computational resources.

    Attributes:
        value: between 0 and 1; None where no figure is known.
        missing: names of the figures that no source gives; the value is computed over the others.
    """

    value: float | None
    missing: tuple[str, ...]


class ResourceCost(msgspec.Struct, frozen=True):
    """The resource cost C_AI of one inference at the scope of the facility: component energy and what surrounds it.

    Attributes:
        compute_j: E_comp (eq. 12), J.
        data_j: E_data (eq. 14), J.
        static_j: static power during the run, scaled by the utilization, J; the first part of C_sys (eq. 15).
        pue_j: (PUE - 1) x the three above, J; the second part of C_sys.
        system_j: C_sys, J.
        joules: C_AI (eq. 16), J.
        pue: power usage effectiveness.
        utilization: share of its powered time that the hardware works.

    All joules are None where the energy is unknown.
    """

    compute_j: float | None
    data_j: float | None
    static_j: float | None
    pue_j: float | None
    system_j: float | None
    joules: float | None
    pue: float
    utilization: float

    def to_dict(self) -> dict[str, object]:
        """The ``workload.resource_cost`` object of the JSON report."""
        keys = "compute_j data_j static_j pue_j system_j joules pue utilization"
        return {key: getattr(self, key) for key in keys.split()}


def resource_cost(energy: EnergyEstimate, pue: float = 1.0) -> ResourceCost:
    """C_AI of one inference (AIWQ eq. 12 to 16); times kappa, the carbon intensity, it is the CO2 of eq. 1 and 17."""
    compute_j, data_j, static_j = energy.compute_j, energy.data_j, energy.system_j
    if compute_j is None or data_j is None or static_j is None:
        return ResourceCost(None, None, None, None, None, None, pue, energy.utilization)
    inside_j = compute_j + data_j + static_j
    pue_j = (pue - 1) * inside_j
    return ResourceCost(compute_j, data_j, static_j, pue_j, static_j + pue_j, inside_j + pue_j, pue, energy.utilization)


class HumanTask(msgspec.Struct, frozen=True):
    """The same task done by people.

    Attributes:
        hours: of human labour without AI, H_baseline.
        residual_hours: of human labour that remains with AI, H_AI.
        cost_per_hour: of human labour, in any currency; None where money is not asked for.
    """

    hours: float
    residual_hours: float = 0.0
    cost_per_hour: float | None = None

    def __post_init__(self) -> None:
        numbers = {"human hours": self.hours, "residual human hours": self.residual_hours}
        if self.cost_per_hour is not None:
            numbers["cost per human hour"] = self.cost_per_hour
        for what, number in numbers.items():
            if not (math.isfinite(number) and number >= 0):
                raise PolicyError(f"{what}: expected a number that is not negative, found {number}")
        if self.hours == 0:
            raise PolicyError("human hours: expected more than 0, found 0; leave them out if there is no human task")


class Human(msgspec.Struct, frozen=True):
    """The human side of a workload; each value None where it was not asked for.

    Attributes:
        hours: of the task without AI.
        energy_j: of the human brain during these hours, 21.5 W (eq. 36), J.
        saving: hours saved x cost per hour, in the currency of the cost (eq. 18, 19).
        impact: saving per joule of the AI, currency per J (eq. 20).
    """

    hours: float | None = None
    energy_j: float | None = None
    saving: float | None = None
    impact: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The ``workload.human`` object of the JSON report."""
        return {"hours": self.hours, "energy_j": self.energy_j, "saving": self.saving, "impact": self.impact}


class Network(msgspec.Struct, frozen=True):
    """Network conditions of a distributed run and their weights (eq. 32); both weights default to 0.

    Attributes:
        latency_s: L, s.
        bandwidth_bits_per_s: B, bit/s.
        latency_weight_per_s: gamma_L, 1/s.
        bandwidth_weight_s_per_bit: gamma_B, s/bit.
    """

    latency_s: float = 0.0
    bandwidth_bits_per_s: float = 0.0
    latency_weight_per_s: float = 0.0
    bandwidth_weight_s_per_bit: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            number = getattr(self, name)
            if not (math.isfinite(number) and number >= 0):
                what = name.replace("_", " ")
                raise PolicyError(f"network {what}: expected a number that is not negative, found {number}")


_NO_NETWORK = Network()


class Workload(msgspec.Struct, frozen=True):
    """The workload of one inference; each value None where it is not known or not asked for.

    Attributes:
        comp_res: score of the hardware (eq. 30).
        data_io: score of the data (eq. 31).
        ext_factor: of the network (eq. 32).
        aw_base: (data_io + comp_res + ext_factor) / predicted seconds (eq. 33), 1/s.
        aw_act: the same over measured seconds, 1/s.
        aw_rel: aw_act / aw_base (eq. 34); see `AW_REL_NOTE`.
        ai_workload: comp_res / seconds, measured where given, else predicted (eq. 39), 1/s.
        ai_impact: ai_workload / human hours (eq. 40), 1/(s h).
        human: the human side.
        cost: the resource cost C_AI (eq. 16); None where it was not asked for.
        missing: figures of the hardware that comp_res is computed without.
        notes: what the paper leaves open, to be shown with the numbers.
    """

    comp_res: float | None
    data_io: float | None
    ext_factor: float
    aw_base: float | None
    aw_act: float | None
    aw_rel: float | None
    ai_workload: float | None
    ai_impact: float | None
    human: Human
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    cost: ResourceCost | None = None

    def to_dict(self) -> dict[str, object]:
        """The ``workload`` object of the JSON report."""
        keys = ("comp_res", "data_io", "ext_factor", "aw_base", "aw_act", "aw_rel", "ai_impact")
        return {
            **{key: getattr(self, key) for key in keys},
            "human": self.human.to_dict(),
            "ai_workload": self.ai_workload,
            "resource_cost": None if self.cost is None else self.cost.to_dict(),
            "comp_res_missing": list(self.missing),
            "notes": list(self.notes),
        }


def comp_res(figures: CompResFigures) -> CompRes:
    """Score of computational resources (AIWQ eq. 30, 38), log(1 + sum) / log(1 + 1e18), over the known figures."""
    by_name = {name: getattr(figures, name) for name in COMP_RES_FIGURES}
    missing = tuple(name for name, value in by_name.items() if value is None)
    known = [value for value in by_name.values() if value is not None]
    if not known:
        return CompRes(None, missing)
    return CompRes(math.log1p(math.fsum(known)) / math.log1p(COMP_RES_SCALE), missing)


def comp_res_figures(published: CompResFigures, given: Mapping[str, float] | None = None) -> CompResFigures:
    """The figures of a profile with those that the user gives in their place.

    Raises:
        PolicyError: if a name is none of `COMP_RES_FIGURES` or a number is negative or not finite.
    """
    for name, number in (given or {}).items():
        if name not in COMP_RES_FIGURES:
            near = suggestion(name, COMP_RES_FIGURES)
            raise PolicyError(f"--comp-res {name}: expected some of {', '.join(COMP_RES_FIGURES)};{near}".rstrip(";"))
        if not (math.isfinite(number) and number >= 0):
            raise PolicyError(f"--comp-res {name}={number}: expected a number that is not negative")
    return replace(published, **given) if given else published


def data_io(input_bits: int, output_bits: int, scale_bits: float = DEFAULT_DATA_SCALE_BITS) -> float:
    """Score of the data (AIWQ eq. 31), log(1 + input + output bits) / log(1 + S_data).

    Raises:
        PolicyError: if a number of bits is negative or the scale is not positive.
    """
    if input_bits < 0 or output_bits < 0:
        raise PolicyError(f"bits of input and output: expected no negative number, found {input_bits}, {output_bits}")
    check_data_scale(scale_bits)
    return math.log(1 + input_bits + output_bits) / math.log1p(scale_bits)


def check_data_scale(scale_bits: float) -> None:
    """Raise `PolicyError` unless S_data is a positive number of bits."""
    if not (math.isfinite(scale_bits) and scale_bits > 0):
        raise PolicyError(f"S_data (--data-scale-bits): expected a positive number of bits, found {scale_bits}")


def check_measured_seconds(seconds: float | None) -> None:
    """Raise `PolicyError` for measured seconds that are no positive number."""
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise PolicyError(f"measured seconds: expected a positive number, found {seconds}")


def external_factor(network: Network) -> float:
    """gamma_L x latency + gamma_B x bandwidth (AIWQ eq. 32)."""
    return (
        network.latency_weight_per_s * network.latency_s
        + network.bandwidth_weight_s_per_bit * network.bandwidth_bits_per_s
    )


def ai_workload(comp_res_value: float, seconds: float) -> float:
    """CompRes per second of run time (AIWQ eq. 39), 1/s."""
    return comp_res_value / seconds


def human_energy_j(hours: float) -> float:
    """Energy of a human brain over some hours, 21.5 W x hours (AIWQ eq. 36), J."""
    return HUMAN_BRAIN_WATTS * hours * SECONDS_PER_HOUR


def human_side(task: HumanTask | None, joules: float | None) -> Human:
    """The human side of a task (AIWQ eq. 18 to 20 and 36); `joules` is the resource cost C_AI of the AI, J."""
    if task is None:
        return Human()
    saving = None if task.cost_per_hour is None else (task.hours - task.residual_hours) * task.cost_per_hour
    impact = saving / joules if saving is not None and joules is not None and joules > 0 else None
    return Human(task.hours, human_energy_j(task.hours), saving, impact)


def estimate_workload(
    figures: CompResFigures,
    *,
    input_bits: int | None,
    output_bits: int | None,
    seconds: float | None,
    joules: float | None = None,
    measured_seconds: float | None = None,
    human: HumanTask | None = None,
    network: Network = _NO_NETWORK,
    data_scale_bits: float = DEFAULT_DATA_SCALE_BITS,
    cost: ResourceCost | None = None,
) -> Workload:
    """The workload of one inference (AIWQ eq. 27 to 40).

    Args:
        figures: of the hardware.
        input_bits: of all inputs; None where a shape is unknown.
        output_bits: of all outputs; None where a shape is unknown.
        seconds: predicted, s; nothing per second is given where it is unknown or 0.
        joules: resource cost C_AI of the AI on the task that `human` describes, J; that of `cost` unless given.
        measured_seconds: of a real run, s.
        human: the same task done by people.
        network: conditions of a distributed run.
        data_scale_bits: S_data.
        cost: the resource cost of one inference.

    Raises:
        PolicyError: if an option is negative, not a number or zero where that has no meaning.
    """
    check_measured_seconds(measured_seconds)
    score = comp_res(figures)
    data = None if input_bits is None or output_bits is None else data_io(input_bits, output_bits, data_scale_bits)
    ext_factor = external_factor(network)
    total = None if data is None or score.value is None else data + score.value + ext_factor
    aw_base = total / seconds if total is not None and seconds else None
    aw_act = total / measured_seconds if total is not None and measured_seconds is not None else None
    runtime_s = measured_seconds if measured_seconds is not None else seconds
    workload = ai_workload(score.value, runtime_s) if score.value is not None and runtime_s else None
    return Workload(
        comp_res=score.value,
        data_io=data,
        ext_factor=ext_factor,
        aw_base=aw_base,
        aw_act=aw_act,
        aw_rel=aw_act / aw_base if aw_act is not None and aw_base else None,
        ai_workload=workload,
        ai_impact=workload / human.hours if workload is not None and human is not None else None,
        human=human_side(human, cost.joules if joules is None and cost is not None else joules),
        missing=score.missing,
        notes=_notes(score, measured_seconds, human),
        cost=cost,
    )


def _notes(score: CompRes, measured_seconds: float | None, human: HumanTask | None) -> tuple[str, ...]:
    notes = [COMP_RES_NOTE, DATA_SCALE_NOTE]
    if score.value is None:
        notes.append("CompRes is unknown: the hardware profile gives none of its figures; --comp-res gives them")
    elif score.missing:
        notes.append(
            f"CompRes is computed without {', '.join(score.missing)}, which the hardware profile does not give; "
            "--comp-res does"
        )
    if measured_seconds is not None:
        notes.append(AW_REL_NOTE)
    if human is not None:
        notes += [IMPACT_NOTE, UNIT_CLAIM_NOTE]
    return tuple(notes)
