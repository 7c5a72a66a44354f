"""The energy model: hand-computed nodes, additivity, intervals, and the Landauer floor."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.energy import bits_lost, estimate, landauer_joules, landauer_joules_per_bit
from onnx_aiwq.errors import ModelError, PolicyError, ProfileError, UnsupportedOperatorError
from onnx_aiwq.hardware_profile import Coefficient, Factors, HardwareProfile, Interval
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.vocabulary import Counts, DType, Operator

FLOAT32_ADD_TO = 236
INT8_MUL_TO = 1_406
INT32_ADD_TO = 316


def profile(**changes: object) -> HardwareProfile:
    fields: dict[str, object] = {
        "schema": "onnx_aiwq.profile/1",
        "id": "toy",
        "name": "Toy",
        "kind": "cpu",
        "source": "measured",
        "provider": "CPUExecutionProvider",
        "coefficients": (
            Coefficient(family="*", dtype="*", seconds_per_to=1e-12, joules_per_to=2e-12),
            Coefficient(family="dense", dtype="int8", seconds_per_to=3e-12, joules_per_to=5e-12),
        ),
        "seconds_per_byte": 1e-9,
        "joules_per_bit": 1e-10,
        "static_watts": 10.0,
        "interval": Interval(
            level=0.9,
            seconds=Factors(low_factor=0.5, high_factor=3.0, basis="toy"),
            joules=Factors(low_factor=0.8, high_factor=2.0, basis="toy"),
        ),
    }
    return HardwareProfile(**{**fields, **changes})


def node(
    counts: Counts | None = None,
    read: int | None = 0,
    written: int | None = 0,
    *,
    name: str = "n",
    family: str = "elementwise",
    status: Status = Status.COUNTED,
    repeats: int = 1,
) -> NodeCost:
    operator = Operator(name, "Add", "", 13, (), (), {}, repeats=repeats)
    return NodeCost(operator, status, family, counts, read, written)


def test_compute_bound_node_by_hand() -> None:
    result = estimate([node(Counts.of(DType.FLOAT, add=1_000_000), 600, 400)], profile())
    compute_j = 1_000_000 * FLOAT32_ADD_TO * 2e-12
    seconds = 1_000_000 * FLOAT32_ADD_TO * 1e-12  # 236 us against 1 us for the bytes
    assert result.compute_j == pytest.approx(compute_j)
    assert result.data_j == pytest.approx(8_000 * 1e-10)
    assert result.seconds == pytest.approx(seconds)
    assert result.system_j == pytest.approx(10.0 * seconds)
    assert result.joules == pytest.approx(compute_j + 8e-7 + 10.0 * seconds)


def test_memory_bound_node_takes_the_time_of_its_bytes() -> None:
    result = estimate([node(Counts.of(DType.FLOAT, add=10), 10**6, 10**6)], profile())
    assert result.seconds == pytest.approx(2e-3)


def test_mixed_types_use_their_own_coefficients() -> None:
    counts = Counts.of(DType.INT8, mul=100, macs=100) + Counts.of(DType.INT32, add=100)
    result = estimate([node(counts, family="dense")], profile())
    assert result.compute_j == pytest.approx(100 * INT8_MUL_TO * 5e-12 + 100 * INT32_ADD_TO * 2e-12)
    assert result.seconds == pytest.approx(100 * INT8_MUL_TO * 3e-12 + 100 * INT32_ADD_TO * 1e-12)


def test_overheads_are_charged_per_repeat_and_per_run() -> None:
    slow = profile(seconds_per_node=1e-5, seconds_per_run=1e-3)
    result = estimate([node(Counts(), repeats=7), node(Counts(), status=Status.MOVEMENT)], slow)
    assert result.nodes[0].seconds == pytest.approx(7e-5)
    assert result.nodes[1].seconds == pytest.approx(1e-5)
    assert result.seconds == pytest.approx(8e-5 + 1e-3)
    assert result.joules == pytest.approx(10.0 * (8e-5 + 1e-3))


def test_constant_nodes_cost_nothing_and_unsupported_ones_have_no_price() -> None:
    counts = Counts.of(DType.FLOAT, add=1000)
    costs = [
        node(counts, 8, 8, name="folded", status=Status.CONSTANT),
        node(None, None, None, name="unknown", status=Status.UNSUPPORTED),
        node(counts, None, 8, name="shapeless"),
    ]
    result = estimate(costs, profile(seconds_per_node=1.0))
    assert (result.nodes[0].joules, result.nodes[0].seconds) == (0.0, 0.0)
    for unpriced in result.nodes[1:]:
        assert (unpriced.joules, unpriced.seconds, unpriced.compute_j) == (None, None, None)
    assert result.unpriced == ("unknown", "shapeless")
    # Two nodes run and none has a price: the whole is unknown, not zero.
    numbers = "joules joules_low joules_high seconds seconds_low seconds_high compute_j data_j system_j landauer_j"
    assert {getattr(result, name) for name in [*numbers.split(), "eta_comp"]} == {None}
    folded = estimate(costs[:1], profile(seconds_per_node=1.0))
    assert folded.joules == folded.seconds == folded.landauer_j == 0.0  # nothing runs: that is known
    partly = estimate([*costs, node(counts, 8, 8)], profile())
    assert partly.joules == estimate([node(counts, 8, 8)], profile()).joules


def test_no_node_at_all_leaves_the_overhead_of_the_run() -> None:
    assert estimate([], profile(seconds_per_run=2.0)).joules == pytest.approx(20.0)
    assert estimate([], profile()).joules == 0.0


def test_report_object_has_the_keys_of_the_contract() -> None:
    report = estimate([node(Counts.of(DType.FLOAT, add=5), 8, 8)], profile()).to_dict()
    assert list(report) == [
        "hardware",
        "provider",
        "source",
        "joules",
        "joules_low",
        "joules_high",
        "seconds",
        "seconds_low",
        "seconds_high",
        "interval",
        "compute_j",
        "data_j",
        "system_j",
        "landauer_j",
        "eta_comp",
        "temperature_k",
        "utilization",
        "held_out_error",
    ]
    assert (report["hardware"], report["provider"], report["source"]) == ("toy", "CPUExecutionProvider", "measured")
    assert report["interval"] == 0.9
    assert report["joules_high"] == pytest.approx(2.0 * report["joules"])  # type: ignore[operator]
    assert report["seconds_low"] == pytest.approx(0.5 * report["seconds"])  # type: ignore[operator]


def test_family_and_type_without_a_coefficient_are_named() -> None:
    narrow = profile(coefficients=(Coefficient(family="dense", dtype="*", seconds_per_to=1.0, joules_per_to=1.0),))
    with pytest.raises(ProfileError, match=r"'softmax'.*'float16'"):
        estimate([node(Counts.of(DType.FLOAT16, add=1), family="softmax")], narrow)


def test_absurd_counts_are_an_error_that_names_the_node() -> None:
    for cost in (node(Counts.of(DType.FLOAT, add=10**400), name="huge"), node(Counts(), 10**400, 0, name="huge")):
        with pytest.raises(ModelError, match="'huge'"):
            estimate([cost], profile())


def test_arithmetic_on_strings_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="string"):
        estimate([node(Counts.of(DType.STRING, compare=1))], profile())


def test_landauer_bound_at_300_kelvin() -> None:
    # k T ln 2 = 1.380649e-23 x 300 x 0.693147 = 2.8710e-21 J.
    assert landauer_joules_per_bit(300.0) == pytest.approx(2.8710e-21, rel=1e-4)
    assert landauer_joules(Counts.of(DType.FLOAT, add=1), 300.0) == pytest.approx(32 * 2.8710e-21, rel=1e-4)


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        (Counts.of(DType.FLOAT, add=1, sub=1, mul=1, div=1), 4 * 32),
        (Counts.of(DType.FLOAT, compare=10), 10 * 63),
        (Counts.of(DType.FLOAT, root=1), 3 * 5 * 32),  # 3 Newton steps of 4 mul and 1 sub
        (Counts.of(DType.BFLOAT16, root=2), 2 * 1 * 5 * 16),
        (Counts.of(DType.INT64, root=1), 4 * 5 * 64),
        (Counts.of(DType.BOOL, compare=3, mul=2), 3 * 1 + 2 * 1),
        (Counts(), 0),
    ],
)
def test_bits_lost(counts: Counts, bits: int) -> None:
    assert bits_lost(counts) == bits


def test_eta_is_compute_over_the_bound() -> None:
    result = estimate([node(Counts.of(DType.FLOAT, add=1000), 0, 0)], profile())
    bound = 1000 * 32 * 1.380649e-23 * 300 * math.log(2)
    assert result.landauer_j == pytest.approx(bound)
    assert result.eta_comp == pytest.approx(1000 * FLOAT32_ADD_TO * 2e-12 / bound)
    half = estimate([node(Counts.of(DType.FLOAT, add=1000), 0, 0)], profile(), temperature_k=150.0)
    assert result.eta_comp is not None
    assert half.eta_comp == pytest.approx(2 * result.eta_comp)


def test_a_relu_loses_the_bits_of_its_negative_inputs() -> None:
    counts = Counts.of(DType.FLOAT, compare=100)
    relu = NodeCost(Operator("r", "Relu", "", 14, (), (), {}), Status.COUNTED, "elementwise", counts, 0, 0)
    per_bit = landauer_joules_per_bit()
    # f n i_r: half of 100 inputs, 32 bits each; another operator's compare loses 2 n - 1.
    assert estimate([relu], profile()).landauer_j == pytest.approx(50 * 32 * per_bit)
    assert estimate([relu], profile(), negative_share=0.25).landauer_j == pytest.approx(25 * 32 * per_bit)
    assert estimate([node(counts)], profile()).landauer_j == pytest.approx(100 * 63 * per_bit)


def test_utilization_scales_the_static_part_alone() -> None:
    costs = [node(Counts.of(DType.FLOAT, add=1_000_000), 600, 400)]
    full, fifth = estimate(costs, profile()), estimate(costs, profile(), utilization=0.2)
    assert full.system_j is not None
    assert fifth.system_j == pytest.approx(5 * full.system_j)
    assert (fifth.compute_j, fifth.data_j, fifth.seconds) == (full.compute_j, full.data_j, full.seconds)
    assert fifth.nodes[0].system_j == pytest.approx(fifth.system_j)


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_utilization_out_of_range(wrong: float) -> None:
    with pytest.raises(PolicyError, match="utilization"):
        estimate([], profile(), utilization=wrong)


@pytest.mark.parametrize("wrong", [-0.1, 1.01, math.nan])
def test_negative_share_out_of_range(wrong: float) -> None:
    with pytest.raises(PolicyError, match="negative share"):
        estimate([], profile(), negative_share=wrong)


@pytest.mark.parametrize("temperature_k", [0.0, -1.0, math.nan, math.inf])
def test_temperature_out_of_range(temperature_k: float) -> None:
    with pytest.raises(PolicyError, match="temperature"):
        landauer_joules(Counts(), temperature_k)
    with pytest.raises(PolicyError, match="temperature"):
        estimate([node(Counts.of(DType.FLOAT, add=1))], profile(), temperature_k=temperature_k)


nodes = st.lists(
    st.builds(
        lambda add, mul, compare, read, written, repeats: node(
            Counts.of(DType.FLOAT, add=add, compare=compare) + Counts.of(DType.INT8, mul=mul),
            read,
            written,
            repeats=repeats,
            family="dense",
        ),
        st.integers(0, 10**12),
        st.integers(0, 10**12),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.integers(1, 100),
    ),
    max_size=8,
)


@given(nodes)
def test_the_interval_contains_the_point_and_the_parts_add_up(costs: list[NodeCost]) -> None:
    for hardware in (profile(seconds_per_node=1e-6), load_profile("reference-cpu")):
        result = estimate(costs, hardware)
        assert result.joules_low <= result.joules <= result.joules_high
        assert result.seconds_low <= result.seconds <= result.seconds_high
        assert result.compute_j + result.data_j + result.system_j == pytest.approx(result.joules, rel=1e-12)
        for part in result.nodes:
            assert None not in (part.joules, part.compute_j, part.data_j, part.system_j)
            assert part.compute_j + part.data_j + part.system_j == pytest.approx(part.joules)  # type: ignore[operator]


@given(nodes, nodes)
def test_joules_and_seconds_are_additive_over_nodes(first: list[NodeCost], second: list[NodeCost]) -> None:
    hardware = profile(seconds_per_node=1e-6)
    both = estimate(first + second, hardware)
    apart = estimate(first, hardware), estimate(second, hardware)
    assert both.joules == pytest.approx(sum(part.joules for part in apart), rel=1e-9)
    assert both.seconds == pytest.approx(sum(part.seconds for part in apart), rel=1e-9)
    assert both.joules == pytest.approx(math.fsum(part.joules or 0.0 for part in both.nodes), rel=1e-9)
