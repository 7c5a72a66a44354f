"""eCAL: inference alone, and the aggregation against the paper's case study."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.metrics.ecal import aggregate, inference_only


def test_inference_alone() -> None:
    result = inference_only(0.5, 4_816_896, inferences=1000)
    assert result.joules == pytest.approx(500.0)
    assert result.bits == 4_816_896_000
    assert result.joules_per_bit == pytest.approx(0.5 / 4_816_896)
    assert result.inference_j == pytest.approx(500.0)
    assert result.development_j is None
    assert result.break_even_inferences is None
    assert dict(result.by_stage) == {
        "collection": None,
        "preprocessing": None,
        "training": None,
        "evaluation": None,
        "inference": pytest.approx(500.0),
    }
    assert "inference alone" in result.scope


def test_report_object_has_the_keys_of_the_contract() -> None:
    report = inference_only(1.0, 8).to_dict()
    assert list(report)[:7] == (
        ["joules", "bits", "joules_per_bit", "development_j", "inference_j", "by_stage", "break_even_inferences"]
    )
    assert isinstance(report["by_stage"], dict)


def test_unknown_bits_give_no_joules_per_bit() -> None:
    for bits in (None, 0):
        assert inference_only(1.0, bits).joules_per_bit is None


def test_case_study_of_the_paper_aggregates_to_its_ecal() -> None:
    # The MLP of JSAC Fig. 13 at 100 inferences: 256 + 100 samples of 640 bit, 10 % virtualization.
    stages = {"collection": 0.105298863, "preprocessing": 2.15054e-4, "training": 0.2881536, "evaluation": 4.80256e-4}
    inference_j = 0.4799324 / 1.1 - sum(stages.values())
    result = aggregate(
        stages | {"inference": inference_j}, bits=640 * 356, inferences=100, overhead_share=0.1, scope="case study"
    )
    assert result.joules_per_bit == pytest.approx(2.1064449058549858e-6, rel=1e-6)
    assert result.development_j == pytest.approx(0.394147773)
    # The project's own break-even for this model: 935 inferences (from asymptotic energies; 1 % apart at 100).
    assert result.break_even_inferences == pytest.approx(935, rel=0.01)


@pytest.mark.parametrize("inferences", [0, -1, 10**400], ids=["none", "negative", "absurd"])
def test_inferences_out_of_range(inferences: int) -> None:
    with pytest.raises(PolicyError, match="--inferences"):
        inference_only(1.0, 8, inferences)


def test_unknown_stage_and_bad_overhead() -> None:
    with pytest.raises(PolicyError, match="deployment"):
        aggregate({"deployment": 1.0}, bits=1, inferences=1, scope="")
    with pytest.raises(PolicyError, match="overhead"):
        aggregate({}, bits=1, inferences=1, scope="", overhead_share=-0.1)


@given(
    st.floats(1e-9, 1e6),
    st.floats(1e-9, 1e6),
    st.integers(1, 10**9),
    st.floats(0, 1),
)
def test_the_total_is_that_of_its_parts(training: float, inference: float, count: int, overhead: float) -> None:
    result = aggregate(
        {"training": training, "inference": inference}, bits=64, inferences=count, overhead_share=overhead, scope=""
    )
    assert result.joules == pytest.approx((1 + overhead) * (training + inference))
    assert result.break_even_inferences is not None
    # At the break-even, that many inferences cost what development cost.
    assert inference / count * result.break_even_inferences == pytest.approx(training)


def test_storage_and_virtualization_are_stages_where_there_are_any() -> None:
    bare = aggregate({"training": 2.0, "inference": 1.0}, bits=8, inferences=1, scope="")
    assert list(bare.by_stage) == ["collection", "preprocessing", "training", "evaluation", "inference"]
    full = aggregate(
        {"training": 2.0, "storage": 1.0, "inference": 1.0}, bits=8, inferences=1, scope="", overhead_share=0.5
    )
    assert full.by_stage["storage"] == 1.0
    assert full.by_stage["virtualization"] == pytest.approx(2.0)
    assert full.development_j == pytest.approx(3.0)
    assert full.joules == pytest.approx(sum(joules for joules in full.by_stage.values() if joules is not None))


def test_an_unknown_stage_leaves_no_total_and_nothing_covered_is_no_zero() -> None:
    unknown = inference_only(None, 8)
    assert (unknown.joules, unknown.joules_per_bit, unknown.inference_j, unknown.joules_low) == (None,) * 4
    half = aggregate({"collection": 1.0}, bits=8, inferences=1, scope="", unknown=("training", "inference"))
    assert (half.joules, half.development_j) == (None, None)
    assert aggregate({}, bits=8, inferences=1, scope="").joules is None


def test_an_interval_scales_with_the_inferences_and_holds_the_total() -> None:
    result = inference_only(2.0, 8, 10, spread_j=(1.0, 5.0), basis="datasheet: X")
    assert (result.joules_low, result.joules, result.joules_high) == (10.0, 20.0, 50.0)
    assert result.basis == {"inference": "datasheet: X"}
