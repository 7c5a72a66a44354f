"""AIWQ: the paper's table, the human side, and what happens where figures are missing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.energy import EnergyEstimate, estimate
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.hardware_profile import CompResFigures
from onnx_aiwq.metrics.workload import (
    HumanTask,
    Network,
    ai_workload,
    comp_res,
    comp_res_figures,
    data_io,
    estimate_workload,
    human_energy_j,
    resource_cost,
)
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.vocabulary import Counts, DType, Operator

MNIST_HOURS = 67 / 3600
SISD = CompResFigures(cpu_gips=40, ram_gt_per_s=5, gpu_gips=0, storage_gb_per_s=0.5)
SIMD = CompResFigures(cpu_gips=100, ram_gt_per_s=15, gpu_gips=60, storage_gb_per_s=1.5)
MIMD = CompResFigures(cpu_gips=280, ram_gt_per_s=40, gpu_gips=80, storage_gb_per_s=3.5)


@pytest.mark.parametrize(
    ("figures", "seconds", "score", "workload", "impact"),
    [
        (SISD, 600, 0.0926, 0.000154, 0.00828),
        (SIMD, 400, 0.1250, 0.000312, 0.01676),
        (MIMD, 250, 0.1448, 0.000579, 0.03111),
    ],
)
def test_table_of_the_paper(
    figures: CompResFigures, seconds: float, score: float, workload: float, impact: float
) -> None:
    value = comp_res(figures).value
    assert value is not None
    assert value == pytest.approx(score, abs=5e-5)
    assert ai_workload(value, seconds) == pytest.approx(workload, abs=6e-7)
    result = estimate_workload(
        figures, input_bits=0, output_bits=0, seconds=seconds, human=HumanTask(hours=MNIST_HOURS)
    )
    assert result.ai_workload == pytest.approx(workload, abs=6e-7)
    # The paper rounds the workload to 3 digits before it divides.
    assert result.ai_impact == pytest.approx(impact, rel=4e-3)


def test_human_hours_and_energy_of_the_mnist_task() -> None:
    assert pytest.approx(0.01861, abs=5e-6) == MNIST_HOURS
    assert human_energy_j(MNIST_HOURS) == pytest.approx(1440.5, abs=0.05)


def test_saving_and_impact_of_the_human_side() -> None:
    task = HumanTask(hours=10, residual_hours=2, cost_per_hour=30)
    human = estimate_workload(SISD, input_bits=1, output_bits=1, seconds=1, joules=48_000, human=task).human
    assert human.saving == pytest.approx(240)
    assert human.impact == pytest.approx(0.005)
    assert human.energy_j == pytest.approx(774_000)
    no_money = estimate_workload(SISD, input_bits=1, output_bits=1, seconds=1, human=HumanTask(hours=1)).human
    assert (no_money.saving, no_money.impact) == (None, None)


def test_base_actual_and_relative_workload() -> None:
    network = Network(
        latency_s=0.02, bandwidth_bits_per_s=1e9, latency_weight_per_s=5, bandwidth_weight_s_per_bit=1e-10
    )
    result = estimate_workload(
        MIMD, input_bits=4_000, output_bits=96, seconds=0.5, measured_seconds=2.0, network=network, data_scale_bits=1e6
    )
    io = math.log(4_097) / math.log(1_000_001)
    score = math.log(404.5) / math.log(1e18)
    assert result.data_io == pytest.approx(io)
    assert result.ext_factor == pytest.approx(0.2)
    assert result.aw_base == pytest.approx((io + score + 0.2) / 0.5)
    assert result.aw_act == pytest.approx((io + score + 0.2) / 2.0)
    assert result.aw_rel == pytest.approx(0.25)
    assert result.ai_workload == pytest.approx(score / 2.0)
    assert any("eq. 33 and 34" in note for note in result.notes)


def test_missing_figures_are_named_and_not_zero_in_disguise() -> None:
    some = comp_res(CompResFigures(cpu_gips=40, ram_gt_per_s=5))
    assert some.value == pytest.approx(math.log(46) / math.log(1e18))
    assert some.missing == ("gpu_gips", "storage_gb_per_s")
    none = estimate_workload(CompResFigures(), input_bits=8, output_bits=8, seconds=1)
    assert (none.comp_res, none.aw_base, none.ai_workload) == (None, None, None)
    assert none.data_io is not None
    assert any("unknown" in note for note in none.notes)


def test_unknown_bits_and_no_time_give_none() -> None:
    blind = estimate_workload(SISD, input_bits=None, output_bits=8, seconds=1)
    assert (blind.data_io, blind.aw_base) == (None, None)
    still = estimate_workload(SISD, input_bits=8, output_bits=8, seconds=0.0)
    assert (still.aw_base, still.ai_workload) == (None, None)
    assert still.aw_act is None
    assert still.aw_rel is None


def test_report_object_has_the_keys_of_the_contract() -> None:
    report = estimate_workload(SISD, input_bits=8, output_bits=8, seconds=1).to_dict()
    keys = ["comp_res", "data_io", "ext_factor", "aw_base", "aw_act", "aw_rel", "ai_impact", "human"]
    assert list(report)[: len(keys)] == keys
    assert report["notes"]
    assert report["human"] == {"hours": None, "energy_j": None, "saving": None, "impact": None}


def test_the_claim_that_cannot_be_derived_is_marked_as_a_claim() -> None:
    notes = estimate_workload(SISD, input_bits=8, output_bits=8, seconds=1, human=HumanTask(hours=1)).notes
    assert any("cannot be derived" in note and "12 to 14" in note for note in notes)


@pytest.mark.parametrize(
    "bad",
    [
        {"hours": 0},
        {"hours": -1},
        {"hours": math.nan},
        {"hours": 1, "cost_per_hour": -1},
        {"hours": 1, "residual_hours": -2},
    ],
)
def test_bad_human_task(bad: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match="human"):
        HumanTask(**bad)


def test_bad_options() -> None:
    with pytest.raises(PolicyError, match="measured seconds"):
        estimate_workload(SISD, input_bits=1, output_bits=1, seconds=1, measured_seconds=0)
    with pytest.raises(PolicyError, match="S_data"):
        data_io(1, 1, 0)
    with pytest.raises(PolicyError, match="bits"):
        data_io(-1, 1)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_data_io_grows_and_is_1_at_the_scale(first: int, second: int) -> None:
    assert data_io(first, second) == data_io(second, first)
    assert data_io(first + 1, second) >= data_io(first, second)
    assert data_io(10**12, 0) == pytest.approx(1.0)
    assert data_io(0, 0) == 0.0


# --- the energy side ---------------------------------------------------------------------------------------------


def spent(utilization: float = 1.0) -> EnergyEstimate:
    operator = Operator("n", "MatMul", "", 13, (), (), {})
    counts = Counts.of(DType.FLOAT, mul=10**9, add=10**9, macs=10**9)
    cost = NodeCost(operator, Status.COUNTED, "dense", counts, 10**7, 10**6)
    return estimate([cost], load_profile("reference-cpu"), utilization=utilization)


def test_human_energy_is_the_papers_watt_hours() -> None:
    # Eq. 36 and 37: 21.5 W x 67 s = 1440.5 J = 0.40 Wh.
    assert human_energy_j(MNIST_HOURS) / 3600 == pytest.approx(0.40, abs=5e-4)


def test_resource_cost_is_the_sum_of_its_parts() -> None:
    energy = spent()
    assert None not in (energy.compute_j, energy.data_j, energy.system_j, energy.joules)
    plain = resource_cost(energy)
    assert plain.joules == pytest.approx(energy.joules)
    assert plain.pue_j == 0.0
    facility = resource_cost(energy, 1.5)
    assert facility.pue_j == pytest.approx(0.5 * (energy.joules or 0.0))
    assert facility.system_j == pytest.approx((energy.system_j or 0.0) + (facility.pue_j or 0.0))
    assert facility.joules == pytest.approx(
        (facility.compute_j or 0.0) + (facility.data_j or 0.0) + (facility.system_j or 0.0)
    )
    assert resource_cost(spent(0.25), 1.5).static_j == pytest.approx(4 * (energy.system_j or 0.0))


def test_the_human_impact_divides_by_the_resource_cost_of_the_facility() -> None:
    cost = resource_cost(spent(), 2.0)
    task = HumanTask(hours=2, cost_per_hour=10)
    human = estimate_workload(SISD, input_bits=1, output_bits=1, seconds=1, human=task, cost=cost).human
    assert human.impact == pytest.approx(20 / (cost.joules or 0.0))


def test_unknown_energy_is_an_unknown_resource_cost() -> None:
    nobody = NodeCost(Operator("n", "Foo", "acme", 1, (), (), {}), Status.UNSUPPORTED, "?", None, None, None)
    cost = resource_cost(estimate([nobody], load_profile("reference-cpu")), 1.5)
    assert (cost.joules, cost.system_j, cost.pue_j) == (None, None, None)
    blind = estimate_workload(SISD, input_bits=8, output_bits=8, seconds=None, cost=cost, human=HumanTask(1.0, 0, 5.0))
    assert (blind.aw_base, blind.ai_workload, blind.ai_impact, blind.human.impact) == (None, None, None, None)


# --- given figures -----------------------------------------------------------------------------------------------


def test_figures_given_take_the_place_of_the_profiles() -> None:
    assert comp_res_figures(SISD) == SISD
    figures = comp_res_figures(SISD, {"gpu_gips": 60.0, "cpu_gips": 100.0})
    assert (figures.cpu_gips, figures.ram_gt_per_s, figures.gpu_gips) == (100.0, 5, 60.0)
    with pytest.raises(PolicyError, match=r"'gpu_gips'"):
        comp_res_figures(SISD, {"gpu_gip": 1.0})
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(PolicyError, match="--comp-res"):
            comp_res_figures(SISD, {"gpu_gips": wrong})


@pytest.mark.parametrize(
    "field", ["latency_s", "bandwidth_bits_per_s", "latency_weight_per_s", "bandwidth_weight_s_per_bit"]
)
@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_bad_network(field: str, wrong: float) -> None:
    with pytest.raises(PolicyError, match="network"):
        Network(**{field: wrong})
