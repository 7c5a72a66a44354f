"""eCAL life cycles: every number that the authors published, formulas by hand, and what must hold of any life cycle.

The golden values are those of Fig. 13 of the JSAC paper as the project page gives them at full precision, of the stored
notebook outputs, and of the unmodified package ecal-energy 0.1.0 (github.com/sensorlab/eCAL).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed
from onnx import helper, numpy_helper

import onnx_aiwq as aiwq
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.lifecycle import (
    Network,
    counted_network,
    ecal_at,
    evaluate,
    example_text,
    life_cycle_carbon,
    network_of,
    parse_lifecycle,
)
from onnx_aiwq.lifecycle import architectures as closed
from onnx_aiwq.lifecycle.calculation import LifeCycleResult
from onnx_aiwq.lifecycle.document import LifeCycle, Model
from onnx_aiwq.lifecycle.links import Coding, Link, collection_joules, stack_of, storage_joules, transmitted
from onnx_aiwq.lifecycle.stages import evaluation_passes, preprocessing_flops, training_passes
from onnx_aiwq.metrics.carbon import resolve_grid

GOLDEN = {
    "MLP": (
        670,
        {
            1e2: 2.1064449058549858e-06,
            1e3: 1.116227225069666e-06,
            1e4: 7.725083353875172e-07,
            1e5: 7.294474535299011e-07,
            1e7: 7.245896197502581e-07,
            1e8: 7.245453446726396e-07,
        },
    ),
    "CNN": (
        38_880,
        {
            1e2: 8.183635932298983e-05,
            1e3: 2.437365942650279e-05,
            1e4: 4.4275578644436795e-06,
            1e5: 1.9287244964998974e-06,
            1e7: 1.646823326239372e-06,
            1e8: 1.6442540342855943e-06,
        },
    ),
    "KAN": (
        81_440,
        {
            1e2: 0.0001706430894353494,
            1e3: 5.027882337554738e-05,
            1e4: 8.49871483792262e-06,
            1e5: 3.2645326867329016e-06,
            1e7: 2.6740483078718427e-06,
            1e8: 2.6686665396487805e-06,
        },
    ),
    "Transformer": (
        142_080,
        {
            1e2: 0.0002971759868510798,
            1e3: 8.718881261121617e-05,
            1e4: 1.4299348270059904e-05,
            1e5: 5.16780826604985e-06,
            1e7: 4.13765081929555e-06,
            1e8: 4.128261801049711e-06,
        },
    ),
}
FORWARD_FLOPS = {name: flops for name, (flops, _) in GOLDEN.items()}
CASES = [(name, int(count), value) for name, (_, values) in GOLDEN.items() for count, value in values.items()]


def life(text: str | None = None, **changes: Any) -> LifeCycle:
    """The example, or another text, with whole sections replaced."""
    document = parse_lifecycle(example_text() if text is None else text).model_dump(exclude_unset=True)
    for section, content in changes.items():
        document[section] = content
        if content is None:
            del document[section]
    return LifeCycle.model_validate(document)


def result_of(cycle: LifeCycle, inferences: int | None = None) -> LifeCycleResult:
    assert cycle.model is not None
    return evaluate(cycle, network_of(cycle.model), inferences=inferences)


def case_study(name: str) -> LifeCycle:
    return life(model={"forward_flops": float(FORWARD_FLOPS[name])})


# --- the case study of the paper ---------------------------------------------------------------------------------


def test_there_are_24_golden_values() -> None:
    assert len(CASES) == 24


@pytest.mark.parametrize(("name", "inferences", "value"), CASES)
def test_ecal_of_figure_13(name: str, inferences: int, value: float) -> None:
    assert result_of(case_study(name), inferences).ecal.joules_per_bit == pytest.approx(value, rel=1e-12)


def test_the_example_file_is_the_case_study_to_the_last_bit() -> None:
    assert result_of(life()).ecal.joules_per_bit == 2.1064449058549858e-06


def test_headline_ratios() -> None:
    def ecal(name: str, inferences: int) -> float:
        value = result_of(case_study(name), inferences).ecal.joules_per_bit
        assert value is not None
        return value

    assert ecal("Transformer", 100) / ecal("MLP", 100) == pytest.approx(141.08, abs=5e-3)
    assert ecal("Transformer", 10_000) / ecal("MLP", 10_000) == pytest.approx(18.51, abs=5e-3)
    assert ecal("MLP", 100) / ecal("MLP", 10_000) == pytest.approx(2.72676, abs=5e-6)
    # The abstract says 2.73 for 100 against 1000; its own data say otherwise.
    assert ecal("MLP", 100) / ecal("MLP", 1000) == pytest.approx(1.88711, abs=5e-6)


def test_energy_per_bit_of_development_and_of_a_single_inference() -> None:
    development = {"MLP": 2.405687e-6, "CNN": 1.0287e-4, "KAN": 2.1478e-4, "Transformer": 3.7423e-4}
    inference = {"MLP": 6.5867e-7, "CNN": 1.4945e-6, "KAN": 2.4255e-6, "Transformer": 3.7520e-6}
    for name in GOLDEN:
        details = result_of(case_study(name)).ecal.details
        assert details["development_j_per_bit"] == pytest.approx(development[name], rel=5e-5)
        limit = details["limit_j_per_bit"]
        assert limit is not None
        assert limit / 1.1 == pytest.approx(inference[name], rel=5e-5)
    single = result_of(case_study("MLP"), 1).ecal
    assert single.details["inference_j_per_bit"] == pytest.approx(6.5655e-7, rel=5e-6)
    per_bit = {key: single.details[f"inference_{key}_j"] for key in ("transmission", "preprocessing", "model")}
    assert [value / 640 for value in per_bit.values() if value is not None] == pytest.approx(
        [6.40561e-7, 1.3344e-9, 1.46563e-8], rel=1e-5
    )


def test_stages_of_the_case_study() -> None:
    ecal = result_of(case_study("MLP")).ecal
    expected = {"collection": 0.105298863, "preprocessing": 2.15054e-4, "training": 0.2881536, "evaluation": 4.80256e-4}
    for stage, joules in expected.items():
        assert ecal.by_stage[stage] == pytest.approx(joules, rel=1e-8)
    for name, joules in {"MLP": 0.394147773, "CNN": 16.854894, "KAN": 35.189605, "Transformer": 61.313123}.items():
        assert result_of(case_study(name)).ecal.development_j == pytest.approx(joules, rel=1e-6)
    totals = {100: 0.479932, 1000: 0.897268, 10_000: 5.070621}
    for inferences, joules in totals.items():
        assert result_of(case_study("MLP"), inferences).ecal.joules == pytest.approx(joules, rel=2e-6)


@pytest.mark.parametrize(
    ("name", "published"), [("MLP", 935), ("CNN", 17_621), ("KAN", 22_669), ("Transformer", 25_533)]
)
def test_break_even(name: str, published: int) -> None:
    # The published integers are of figures rounded to five digits; the crossing itself is at 935.0, 17,621.6, 22,668.9
    # and 25,533.4.
    result = result_of(case_study(name))
    even = result.ecal.break_even_inferences
    assert even is not None
    assert even == pytest.approx(published, abs=1)
    below, above = (result.costs.inference_joules(count) for count in (math.floor(even), math.ceil(even)))
    assert below is not None
    assert above is not None
    assert below <= (result.ecal.development_j or 0.0) <= above


def test_an_onnx_model_of_the_case_study_gives_the_same() -> None:
    # SimpleMLP(10, 10, 2, 3) of the authors: three layers of 10, one of 2, each with bias, ReLU after the first three.
    widths = [10, 10, 10, 10, 2]
    nodes, weights, last = [], [], "X"
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        weights.append(numpy_helper.from_array(np.zeros((width_in, width_out), np.float64), f"W{index}"))
        weights.append(numpy_helper.from_array(np.zeros(width_out, np.float64), f"B{index}"))
        nodes.append(helper.make_node("Gemm", [last, f"W{index}", f"B{index}"], [f"H{index}"]))
        last = f"H{index}"
        if width_out == 10:
            nodes.append(helper.make_node("Relu", [last], [f"A{index}"]))
            last = f"A{index}"
    values = [helper.make_tensor_value_info(*each) for each in (("X", 11, ["batch", 10]), (last, 11, ["batch", 2]))]
    graph = helper.make_graph(nodes, "mlp", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    report = aiwq.analyze(model, hardware="reference-cpu", lifecycle=life(model=None))
    assert report.ecal.details["forward_flops"] == 670
    assert report.ecal.joules_per_bit == pytest.approx(2.1064449058549858e-06, rel=1e-12)
    # The size of a sample is that of the inputs where the file does not say: 10 values of 64 bit.
    again = aiwq.analyze(model, hardware="reference-cpu", lifecycle=life(model=None, data={"samples": 256}))
    assert again.ecal.joules_per_bit == report.ecal.joules_per_bit
    macs = life(model={"file": "unused", "flops": "macs"})
    assert aiwq.analyze(model, hardware="reference-cpu", lifecycle=macs).ecal.details["forward_flops"] == 640
    batch = aiwq.analyze(
        model, bind={"batch": 8}, hardware="reference-cpu", lifecycle=life(model={"file": "x", "samples_per_run": 8})
    )
    assert batch.ecal.details["forward_flops"] == 670


# --- other published outputs -------------------------------------------------------------------------------------


def test_closed_forms_of_the_package() -> None:
    assert closed.compat_mlp_flops() == 440
    assert closed.compat_cnn_flops() == 1348
    assert closed.compat_kan_flops() == 81_440
    assert closed.transformer_flops(context=10, embedding=16, heads=2, decoders=3, feed_forward=32) == 142_080


@pytest.mark.parametrize(
    ("flops", "joules", "per_bit"),
    [
        (440, 4.533926669, 6.440236745e-07),
        (1348, 4.539474549, 6.448117256e-07),
        (81_440, 5.028836669, 7.143233904e-07),
        (142_080, 5.399347069, 7.669527086e-07),
    ],
    ids=GOLDEN,
)
def test_defaults_of_the_package(flops: int, joules: float, per_bit: float) -> None:
    cycle = life(
        data={"samples": 1000, "values_per_sample": 10, "bits_per_value": 64},
        training={"epochs": 50, "folds": 5},
        inference={"count": 10_000},
        overhead={"virtualization": 0.0},
        compute={"watts": 100.0, "flops_per_s": 1e13, "preprocessing": {"watts": 100.0, "flops_per_s": 1e10}},
        model={"forward_flops": float(flops)},
    )
    ecal = result_of(cycle).ecal
    assert ecal.joules == pytest.approx(joules, abs=5.1e-10)
    assert ecal.joules_per_bit == pytest.approx(per_bit, rel=5e-10)
    if flops == 440:
        parts = (0.411330479, 6.0001e-4, 2.64e-3, 4.4e-6, 4.11935178)
        stages = ("collection", "preprocessing", "training", "evaluation", "inference")
        assert [ecal.by_stage[stage] for stage in stages] == pytest.approx(parts, rel=1e-8)
        assert ecal.bits == 640_000 + 6_400_000


@pytest.mark.parametrize(
    ("processor", "flops", "joules", "per_bit"),
    [
        ("apple_m2", 440, 4.526285192956667, 6.429382376358902e-07),
        ("nvidia_h100_sxm", 142_080, 5.431624487, 7.715375692e-07),
    ],
)
def test_processors_of_the_package(processor: str, flops: int, joules: float, per_bit: float) -> None:
    cycle = life(
        data={"samples": 1000, "values_per_sample": 10, "bits_per_value": 64},
        training={"epochs": 50, "folds": 5},
        inference={"count": 10_000},
        overhead={},
        compute={"processor": processor},
        model={"forward_flops": float(flops)},
    )
    ecal = result_of(cycle).ecal
    assert ecal.joules == pytest.approx(joules, rel=2e-10)
    assert ecal.joules_per_bit == pytest.approx(per_bit, rel=2e-10)


TRAINING_ENERGY = {
    "MLP": [0.006758, 0.010138, 0.013517, 0.016896, 0.020275],
    "KAN": [1.250918, 1.876378, 2.501837, 3.127296, 3.752755],
    "Transformer": [1.732608, 2.310144, 2.887680, 3.465216, 4.042752],
}


@pytest.mark.parametrize("name", TRAINING_ENERGY)
def test_training_energy_of_the_notebook(name: str) -> None:
    """256 samples, 50 epochs, 1e12 FLOP/s, 100 W, 3 to 7 layers: all 15 values, with the five folds that they were
    computed with (the cell says train-test split)."""

    def flops(layers: int) -> float:
        if name == "Transformer":
            return closed.transformer_flops(context=10, embedding=10, heads=2, decoders=layers, feed_forward=64)
        return closed.compat_mlp_flops(layers) if name == "MLP" else closed.compat_kan_flops(layers)

    found = []
    for layers in range(3, 8):
        cycle = life(
            training={"epochs": 50, "folds": 5},
            compute={"watts": 100.0, "flops_per_s": 1e12},
            model={"forward_flops": float(flops(layers))},
        )
        found.append(result_of(cycle).ecal.by_stage["training"])
    assert found == pytest.approx(TRAINING_ENERGY[name], abs=5.1e-7)


# --- links -------------------------------------------------------------------------------------------------------

NAMED = ["HTTP", "TLS", "RPC", "TCP", "IPv4", "WIFI_MAC", "WIFI_PHY"]
EXACT = Coding(whole_bits=False)


def test_generic_stack_by_hand() -> None:
    joules, bits = transmitted(640, Link(stack_of("generic")))
    assert joules / 640 == pytest.approx(6.4056094e-7, rel=1e-7)
    assert bits / 640 == pytest.approx(2.646875)
    joules, bits = transmitted(1, Link(stack_of("generic")), EXACT)
    assert joules == pytest.approx(6.4270436e-7, rel=1e-7)
    assert bits == pytest.approx(1.15**7)


def test_named_stack_by_hand() -> None:
    joules, bits = transmitted(1, Link(stack_of(NAMED)), EXACT)
    assert joules == pytest.approx(1.1826867e-6, rel=1e-7)
    assert bits == pytest.approx(2.349582, rel=1e-6)
    assert stack_of(list(reversed(NAMED))) == stack_of([name.lower() for name in NAMED])


def test_equation_3_charges_the_link_at_the_physical_layer_alone() -> None:
    equation = Coding(layer_terms="equation_3", whole_bits=False)
    joules, _ = transmitted(1, Link(stack_of("generic")), equation)
    expected = 1.15**7 * 2.05e-8 + sum(1.15**layer for layer in range(1, 7)) * 3e-8
    assert joules == pytest.approx(expected)
    assert joules < transmitted(1, Link(stack_of("generic")), EXACT)[0]


@given(st.floats(0, 0.99))
def test_retransmission_divides_by_what_gets_through(failure_rate: float) -> None:
    once, lossy = Link(stack_of("generic")), Link(stack_of("generic"), failure_rate)
    assert transmitted(10_000, lossy)[0] == pytest.approx(transmitted(10_000, once)[0] / (1 - failure_rate))


def test_hops_add_up_and_inference_takes_the_last() -> None:
    hops = [{"stack": NAMED}, {"stack": "generic"}]
    cycle = life(hops=hops)
    one = result_of(life()).ecal
    two = result_of(cycle).ecal
    named = collection_joules(256 * 640, [Link(stack_of(NAMED))])
    assert two.by_stage["collection"] == pytest.approx((one.by_stage["collection"] or 0.0) + named)
    assert two.by_stage["inference"] == one.by_stage["inference"]
    everywhere = result_of(life(hops=hops, conventions={"inference_hops": "all"})).ecal
    extra = collection_joules(100 * 640, [Link(stack_of(NAMED))])
    assert everywhere.by_stage["inference"] == pytest.approx((one.by_stage["inference"] or 0.0) + extra)
    chained = result_of(life(hops=hops, conventions={"hop_payload": "chained"})).ecal
    delivered = int(transmitted(256 * 640, Link(stack_of(NAMED)))[1])
    again = transmitted(delivered, Link(stack_of("generic")))[0]
    assert chained.by_stage["collection"] == pytest.approx(named + again)


def test_local_data_are_not_covered_and_not_zero() -> None:
    ecal = result_of(life(hops=[])).ecal
    assert ecal.by_stage["collection"] is None
    assert ecal.details["inference_transmission_j"] is None
    assert "not covered: collection" in ecal.scope


def test_own_protocols() -> None:
    own = {
        "name": "LORA",
        "layer": "physical",
        "data_overhead": 0.5,
        "control_overhead": 0.0,
        "send_j_per_bit": 1e-6,
        "receive_j_per_bit": 1e-7,
    }
    ecal = result_of(life(protocols=[own], hops=[{"stack": ["lora"]}])).ecal
    assert ecal.by_stage["collection"] == pytest.approx(256 * 640 * 1.5 * 1.1e-6)
    assert "LORA" in ecal.basis["collection"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["HTPP"], "did you mean 'HTTP'"),
        (["HTTP", "FTP"], "both of the application layer"),
        ([], "without protocols"),
        ("WiFi", "WIFI"),
    ],
)
def test_stacks_that_do_not_exist(names: list[str] | str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        stack_of(names)


# --- other stages ------------------------------------------------------------------------------------------------


def test_preprocessing_by_hand() -> None:
    assert preprocessing_flops("zscore", 256, 10) == 6 * 2560 + 1
    assert preprocessing_flops("minmax", 256, 10) == 2 * 2560 + 1
    assert preprocessing_flops("gadf", 256, 10) == 2 * 2560 + 1 + (50 + 100) * 256
    assert preprocessing_flops("none", 256, 10) == 0


def test_training_and_evaluation_by_hand() -> None:
    assert training_passes(1000, 50, split=0.8, folds=None) == pytest.approx(40_000)
    assert training_passes(1000, 50, split=None, folds=5) == pytest.approx(200_000)
    assert evaluation_passes(1000, split=0.8, folds=None) == pytest.approx(200)
    assert evaluation_passes(1000, split=None, folds=5) == 1000


@pytest.mark.parametrize(
    ("raid", "disks", "redundancy"),
    [
        ("none", None, 1),
        ("raid0", 4, 1),
        ("raid1", None, 2),
        ("raid5", 3, 1.5),
        ("raid5", 5, 1.25),
        ("raid6", 4, 2),
        ("raid6", 6, 1.5),
        ("raid10", 4, 2),
    ],
)
def test_storage_by_hand(raid: str, disks: int | None, redundancy: float) -> None:
    assert storage_joules(10**9, "ssd", raid, disks) == pytest.approx(0.54 * redundancy)
    assert storage_joules(10**9, "hdd", raid, disks) == pytest.approx(0.292 * redundancy)


def test_storage_is_off_unless_asked_for() -> None:
    assert "storage" not in result_of(life()).ecal.by_stage
    stored = result_of(life(storage={"medium": "ssd", "raid": "raid5", "disks": 5})).ecal
    assert stored.by_stage["storage"] == pytest.approx(256 * 640 * 5.4e-10 * 1.25)
    with pytest.raises(PolicyError, match="raid5 needs at least 3"):
        storage_joules(1, "ssd", "raid5", 2)


def test_a_stage_that_the_file_leaves_out_is_not_covered() -> None:
    ecal = result_of(life(preprocessing=None, training=None)).ecal
    assert [ecal.by_stage[stage] for stage in ("preprocessing", "training", "evaluation")] == [None] * 3
    assert ecal.details["inference_preprocessing_j"] is None
    assert "not covered: preprocessing, training, evaluation" in ecal.scope


def test_samples_per_inference_scale_data_and_computation() -> None:
    one, four = (result_of(life(inference={"count": 400 // n, "samples_per_inference": n})).ecal for n in (1, 4))
    assert four.joules == pytest.approx(one.joules)
    assert four.bits == one.bits


# --- hardware per stage ------------------------------------------------------------------------------------------


def test_every_way_to_price_computation() -> None:
    peak = result_of(life(compute={"watts": 140.0, "flops_per_s": 1e10})).ecal
    assert peak.joules_per_bit == pytest.approx(2.1064449058549858e-06, rel=1e-12)
    half = result_of(life(compute={"watts": 140.0, "flops_per_s": 1e10, "peak_share": 0.5})).ecal
    assert half.by_stage["training"] == pytest.approx(2 * (peak.by_stage["training"] or 0.0))
    listed = result_of(life(compute={"processor": "nvidia-l4"})).ecal
    assert "72 W over 3.029e+13 FLOP/s" in listed.basis["training"]
    with pytest.raises(PolicyError, match="did you mean 'apple_m2'"):
        result_of(life(compute={"processor": "apple_m22"}))


def test_a_stage_on_a_profile_carries_its_label_and_interval() -> None:
    compute = {"joules_per_flop": 1.4e-8, "training": {"hardware": "nvidia-l4"}}
    result = result_of(life(compute=compute))
    ecal = result.ecal
    assert ecal.basis["training"].startswith("datasheet: NVIDIA L4")
    assert ecal.basis["evaluation"].startswith("datasheet: NVIDIA L4")  # as training unless given
    assert ecal.basis["inference"].startswith("constant 1.4e-08 J/FLOP")
    assert None not in (ecal.joules_low, ecal.joules_high, ecal.joules)
    assert ecal.joules_low < ecal.joules < ecal.joules_high  # type: ignore[operator]
    assert any("half a float32 multiply-accumulate" in line for line in result.warnings)
    assert result_of(life()).ecal.joules_low is None  # constants come without an interval


def test_collected_at_the_edge_trained_on_a_gpu_served_on_a_cpu() -> None:
    report = aiwq.analyze(_small(), hardware="reference-cpu", bind={"batch": 1}, lifecycle=life(model=None))
    stages = {"preprocessing": "nvidia-l4", "training": "nvidia-h100-sxm5-80gb", "inference": "reference-cpu"}
    compute = {stage: {"hardware": name} for stage, name in stages.items()}
    mixed = aiwq.analyze(
        _small(), hardware="nvidia-l4", bind={"batch": 1}, lifecycle=life(model=None, compute=compute)
    ).ecal
    assert mixed.details["inference_model_j"] == pytest.approx(100 * (report.energy.joules or 0.0))
    on_gpu = aiwq.analyze(_small(), hardware="nvidia-h100-sxm5-80gb", bind={"batch": 1}).energy
    assert mixed.by_stage["training"] == pytest.approx(3 * 0.8 * 256 * 50 * (on_gpu.joules or 0.0))
    assert "H100" in mixed.basis["training"]


def test_without_a_compute_section_the_hardware_of_the_analysis_is_named() -> None:
    result = evaluate(
        life(compute={}), Network("n", 670.0, "number"), default_profile=aiwq.load_profile("reference-cpu")
    )
    assert "datasheet reference" in result.ecal.basis["training"]
    assert any("[compute] is not given" in line for line in result.warnings)


def test_scopes_are_never_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = changed(aiwq.load_profile("nvidia-l4"), provenance={"scope": "wall"})
    compute = {"training": {"hardware": "nvidia-l4"}, "inference": {"hardware": "nvidia-l4"}}
    with pytest.raises(PolicyError, match=r"two scopes.*preprocessing wall, training component"):
        evaluate(life(compute=compute), Network("n", 670.0, "number"), default_profile=wall)


def test_a_model_without_any_price_is_unknown_and_not_zero() -> None:
    node = helper.make_node("Foo", ["X"], ["Y"], domain="acme.ops")
    values = [helper.make_tensor_value_info(name, 1, [4]) for name in ("X", "Y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("acme.ops", 1)])
    report = aiwq.analyze(model, hardware="reference-cpu", region="DEU", lifecycle=life(model=None, compute={}))
    assert report.energy.joules is None
    assert (report.ecal.joules, report.ecal.joules_per_bit, report.ecal.inference_j) == (None, None, None)
    assert (report.ecal.development_j, report.ecal.break_even_inferences) == (None, None)
    assert report.carbon.operational_g is None
    assert report.workload.aw_base is None
    plain = aiwq.analyze(model, hardware="reference-cpu")
    assert (plain.ecal.joules, plain.carbon.operational_g, plain.carbon.embodied_g) == (None, None, None)
    assert any("energy, eCAL and CO2 are unknown" in line for line in plain.warnings)


def _small() -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["X", "W"], ["Y"])
    weight = numpy_helper.from_array(np.zeros((10, 4), np.float64), "W")
    values = [helper.make_tensor_value_info(name, 11, ["batch", size]) for name, size in (("X", 10), ("Y", 4))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_a_life_cycle_is_built_on_the_forward_pass() -> None:
    with pytest.raises(PolicyError, match=r"forward pass.*\[training\]"):
        aiwq.analyze(_small(), hardware="reference-cpu", level="training", lifecycle=life(model=None))


# --- carbon of a life cycle --------------------------------------------------------------------------------------


def test_carbon_of_the_case_study() -> None:
    result = result_of(life())
    for code, grams in {"DEU@2023/2025": 371.31064, "FIN@2023/2025": 81.43962}.items():
        from onnx_aiwq.metrics.regions import find_region

        carbon = life_cycle_carbon(result, resolve_grid(region=find_region(code)))
        assert carbon.operational_g == pytest.approx(0.4799324 / 3.6e6 * grams, rel=1e-6)


def test_pue_is_for_what_is_computed_and_not_for_links() -> None:
    result = result_of(life())
    one, two = (life_cycle_carbon(result, resolve_grid(intensity_g_per_kwh=3.6e4, pue=pue)) for pue in (1.0, 2.0))
    links = 1.1 * (0.105298863 + 0.0411324015)
    assert one.operational_g == pytest.approx(0.4799324e-2, rel=1e-6)
    assert two.operational_g == pytest.approx((2 * 0.4799324 - links) * 1e-2, rel=1e-6)
    assert (one.embodied_g, one.total_g) == (None, None)
    assert one.covers.startswith("life cycle: collection")


def test_embodied_of_a_life_cycle_needs_a_figure_for_all_its_hardware() -> None:
    known = result_of(life(compute={"hardware": "reference-cpu"}))
    carbon = life_cycle_carbon(known, resolve_grid(intensity_g_per_kwh=100.0))
    assert carbon.embodied_g is not None
    assert carbon.embodied_g > 0
    assert carbon.total_g == pytest.approx((carbon.operational_g or 0.0) + carbon.embodied_g)
    half = result_of(life(compute={"hardware": "reference-cpu", "training": {"joules_per_flop": 1e-9}}))
    assert life_cycle_carbon(half, resolve_grid(intensity_g_per_kwh=100.0)).embodied_g is None


# --- what holds of any life cycle --------------------------------------------------------------------------------

cycles = st.builds(
    lambda samples, values, bits, rate, method, epochs, split, gamma_v, flops, constant, failure: life(
        data={"samples": samples, "values_per_sample": values, "bits_per_value": bits},
        preprocessing={"method": method},
        training={"epochs": epochs, "split": split},
        overhead={"virtualization": gamma_v},
        compute={"joules_per_flop": constant},
        model={"forward_flops": flops},
        hops=[{"stack": "generic", "failure_rate": failure}] * rate,
    ),
    st.integers(1, 10**6),
    st.integers(1, 1000),
    st.sampled_from([8, 16, 32, 64]),
    st.integers(0, 3),
    st.sampled_from(["zscore", "minmax", "gadf", "none"]),
    st.integers(1, 200),
    st.floats(0.01, 0.99),
    st.floats(0, 1),
    st.floats(1, 1e12),
    st.floats(1e-15, 1e-6),
    st.floats(0, 0.9),
)


@settings(deadline=None, max_examples=60)
@given(cycles, st.integers(1, 10**9))
def test_the_total_is_the_sum_of_its_stages(cycle: LifeCycle, inferences: int) -> None:
    ecal = result_of(cycle, inferences).ecal
    covered = [joules for joules in ecal.by_stage.values() if joules is not None]
    assert math.fsum(covered) == pytest.approx(ecal.joules, rel=1e-12)
    assert all(joules >= 0 for joules in covered)
    share = 1 + cycle.overhead.virtualization
    assert share * ((ecal.development_j or 0.0) + (ecal.inference_j or 0.0)) == pytest.approx(ecal.joules)
    assert ecal.bits is not None
    assert ecal.joules_per_bit == pytest.approx((ecal.joules or 0.0) / ecal.bits)


@settings(deadline=None, max_examples=60)
@given(cycles, st.integers(1, 10**6))
def test_ecal_falls_with_inferences_towards_its_limit(cycle: LifeCycle, inferences: int) -> None:
    exact = cycle.model_copy(update={"conventions": cycle.conventions.model_copy(update={"whole_bits": False})})
    costs = result_of(exact).costs
    points = [ecal_at(costs, count).joules_per_bit or 0.0 for count in (inferences, 10 * inferences, 10**16)]
    details = ecal_at(costs, inferences).details
    limit = details["limit_j_per_bit"]
    development = details["development_j_per_bit"]
    assert limit is not None
    assert development is not None
    # The z-score's "+ 1" FLOP is paid once per batch of inferences: a hair above the limit at first.
    assume(development * (1 + exact.overhead.virtualization) > limit * (1 + 1e-6))
    assert points[0] >= points[1] * (1 - 1e-9)
    assert points[1] >= limit * (1 - 1e-9)
    assert points[2] == pytest.approx(limit, rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(cycles)
def test_at_the_break_even_inference_costs_what_development_costs(cycle: LifeCycle) -> None:
    result = result_of(cycle)
    even = result.ecal.break_even_inferences
    assume(even is not None and 1 <= even < 1e15)
    assert even is not None
    low, high = (result.costs.inference_joules(count) for count in (math.floor(even), math.ceil(even)))
    assert low is not None
    assert high is not None
    development = result.ecal.development_j or 0.0
    assert low <= development * (1 + 1e-12)
    assert development <= high * (1 + 1e-12)


@settings(deadline=None, max_examples=30)
@given(cycles, st.floats(0.1, 1000), st.floats(1, 3))
def test_doubling_the_intensity_doubles_the_grams(cycle: LifeCycle, intensity: float, pue: float) -> None:
    result = result_of(cycle)
    once, twice = (
        life_cycle_carbon(result, resolve_grid(intensity_g_per_kwh=factor * intensity, pue=pue)) for factor in (1, 2)
    )
    assert twice.operational_g == pytest.approx(2 * (once.operational_g or 0.0))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["reference-cpu", "nvidia-l4"]), st.integers(1, 10**6))
def test_an_interval_never_excludes_its_point(hardware: str, inferences: int) -> None:
    ecal = result_of(life(compute={"hardware": hardware}), inferences).ecal
    assert (ecal.joules_low or math.inf) <= (ecal.joules or 0.0) <= (ecal.joules_high or 0.0)


def test_inferences_out_of_range() -> None:
    for wrong in (0, -1, 10**19):
        with pytest.raises(PolicyError, match="--inferences"):
            result_of(life(), wrong)


def test_a_counted_network_tells_the_size_of_its_samples() -> None:
    report = aiwq.analyze(_small(), bind={"batch": 4}, hardware="reference-cpu")
    network = counted_network(report.graph, report.costs, samples_per_run=4)
    assert (network.values_per_sample, network.bits_per_value) == (10, 64)
    assert network.flops_per_sample == 4 * 19
    with pytest.raises(PolicyError, match="values_per_sample"):
        evaluate(life(data={"samples": 1}), network_of(Model(forward_flops=1.0)))
