"""Deployed times: seconds go to exported operators and add up, and everything that prices works with such a profile."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq as aiwq
from calibrated import (
    CALL_S,
    DYNAMIC_W,
    PER_INPUT_BYTE_S,
    PER_OUTPUT_BYTE_S,
    PER_TO_S,
    RUN_S,
    STATIC_W,
    calibrated_profile,
    time_model,
)
from onnx_aiwq.advise import advise
from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.calibration.deployed_graph import deployed_graph
from onnx_aiwq.deployed import deployed_times
from onnx_aiwq.energy import EnergyEstimate, estimate
from onnx_aiwq.graph import load
from onnx_aiwq.operations.counting import count_graph
from onnx_aiwq.profiles import HardwareProfile, read_profile
from onnx_aiwq.report import TrainingStep
from onnx_aiwq.transistors import transistor_operations

PROFILE = calibrated_profile()
MODELS = Path(__file__).parents[1] / "models"
ADD, MUL, COMPARE = 236, 12_736, 316  # transistors of float32, from the TO table


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], outputs: list[str], **weights: np.ndarray
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def priced(source: onnx.ModelProto, profile: HardwareProfile = PROFILE, **options: float) -> EnergyEstimate:
    graph = load(source)
    return estimate(count_graph(graph), profile, graph=graph, **options)


def tanh_and_relu() -> onnx.ModelProto:
    """Two kernels that nothing fuses: 1,000 Tanh, and 1,000 Relu."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"], "tanh"), helper.make_node("Relu", ["t"], ["y"], "relu")]
    return model(nodes, {"x": [1000]}, ["y"])


def test_seconds_and_joules_by_hand() -> None:
    found = priced(tanh_and_relu())
    transistors = {
        each.operator.name: transistor_operations(each.counts)
        for each in count_graph(load(tanh_and_relu()))
        if each.counts
    }
    assert transistors["relu"] == 1000 * COMPARE
    data_s = 4000 * (PER_INPUT_BYTE_S + PER_OUTPUT_BYTE_S)
    expected = {name: CALL_S + number * PER_TO_S + data_s for name, number in transistors.items()}
    assert {node.name: node.seconds for node in found.nodes} == pytest.approx(expected)
    assert found.seconds == pytest.approx(sum(expected.values()) + RUN_S)
    assert found.joules == pytest.approx((sum(expected.values()) + RUN_S) * (DYNAMIC_W + STATIC_W))
    relu = next(node for node in found.nodes if node.name == "relu")
    assert relu.compute_j == pytest.approx(DYNAMIC_W * 1000 * COMPARE * PER_TO_S)
    assert relu.data_j == pytest.approx(DYNAMIC_W * data_s)
    assert relu.joules == pytest.approx(expected["relu"] * (DYNAMIC_W + STATIC_W))
    # One class of kernels whose log error is 0.1: 1.645 deviations either way; the watts are off by 2 at most.
    assert found.seconds_high is not None and found.seconds is not None
    assert found.seconds_high / found.seconds == pytest.approx(math.exp(1.644854 * 0.1))
    assert found.joules_high is not None and found.joules is not None
    assert found.joules_high / found.joules == pytest.approx(math.exp(math.hypot(1.644854 * 0.1, math.log(2))))


def test_the_static_power_of_idle_time_is_paid_by_the_runs() -> None:
    whole, half = priced(tanh_and_relu()), priced(tanh_and_relu(), utilization=0.5)
    assert half.seconds == whole.seconds and whole.seconds is not None
    assert half.joules == pytest.approx(whole.seconds * (DYNAMIC_W + STATIC_W / 0.5))


def test_fused_and_folded_operators_take_no_time_of_their_own() -> None:
    """A constant sum is folded, and the Relu runs inside the convolution: its seconds go to the convolution."""
    weight = np.ones((16, 16, 3, 3), np.float32)
    nodes = [
        helper.make_node("Add", ["w", "w"], ["w2"], "folded"),
        helper.make_node("Conv", ["x", "w2"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    found = {node.name: node.seconds for node in priced(model(nodes, {"x": [1, 16, 8, 8]}, ["y"], w=weight)).nodes}
    assert found["folded"] == 0
    assert found["relu"] == 0
    # The product alone: 16 x 36 results of 144 multiplications and 143 additions.
    assert found["conv"] is not None and found["conv"] > 576 * (144 * MUL + 143 * ADD) * PER_TO_S


def test_what_cannot_be_counted_has_no_seconds_and_is_named() -> None:
    nodes = [
        helper.make_node("Mystery", ["x"], ["m"], "mystery", domain="example"),
        helper.make_node("Relu", ["x"], ["y"], "relu"),
    ]
    source = model(nodes, {"x": [1000]}, ["y", "m"])
    source.opset_import.append(helper.make_opsetid("example", 1))
    found = priced(source)
    assert found.unpriced == ("mystery",)
    by_name = {node.name: node for node in found.nodes}
    assert by_name["mystery"].seconds is None and by_name["mystery"].joules is None
    assert by_name["relu"].seconds is not None
    assert found.seconds == pytest.approx(by_name["relu"].seconds + RUN_S)


def loop(trips: int) -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Tanh", ["h"], ["g"], "tanh")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1000]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("g", TensorProto.FLOAT, [1000]),
        ],
    )
    nodes = [helper.make_node("Loop", ["trips", "go", "x"], ["y"], "loop", body=body)]
    return model(nodes, {"x": [1000]}, ["y"], trips=np.asarray(trips, np.int64), go=np.asarray(True))


def test_what_runs_over_and_over_takes_as_often_as_long() -> None:
    def tanh_s(trips: int) -> float:
        (seconds,) = [node.seconds for node in priced(loop(trips)).nodes if node.name.endswith("tanh")]
        assert seconds is not None
        return seconds

    once = tanh_s(1)
    assert once > CALL_S
    assert tanh_s(7) == pytest.approx(7 * once)


@pytest.mark.parametrize("seed", [0, 1, 2, 7, 13])
def test_nodes_add_up_to_the_whole(seed: int) -> None:
    graph = load(composite(seed))
    found = estimate(count_graph(graph), PROFILE, graph=graph)
    assert found.unpriced == ()
    total = math.fsum(node.seconds for node in found.nodes if node.seconds is not None)
    times = deployed_times(graph, PROFILE.kernels)  # type: ignore[arg-type]
    assert found.seconds == pytest.approx(total + RUN_S)
    assert total == pytest.approx(math.fsum(node.seconds for node in times.nodes.values()))
    assert found.joules == pytest.approx(found.seconds * (DYNAMIC_W + STATIC_W))
    assert found.joules == pytest.approx(found.compute_j + found.data_j + found.system_j)
    assert times.inexact_share == pytest.approx(1)  # this profile knows no kind by its name, and says so
    assert "wider classes stand in" in found.notes[0]


def test_a_level_without_optimisation_leaves_the_graph_as_it_is() -> None:
    graph = load(composite(1))  # of sequences: no reorders, no channels that fill blocks up
    plain = calibrated_profile(kernels=time_model(level="disabled"))
    seconds = [estimate(count_graph(graph), each, graph=graph).seconds for each in (plain, PROFILE)]
    assert seconds[0] is not None and seconds[1] is not None and seconds[0] > seconds[1]  # nothing is fused


def test_a_graph_as_deployed_is_priced_as_it_is(tmp_path: Path) -> None:
    """What `--as-deployed` asks for is not optimised once more: at `disabled` a Relu after a Gemm is a kernel."""
    nodes = [helper.make_node("Gemm", ["x", "w"], ["m"], "gemm"), helper.make_node("Relu", ["m"], ["y"], "relu")]
    onnx.save(model(nodes, {"x": [8, 64]}, ["y"], w=np.ones((64, 64), np.float32)), tmp_path / "model.onnx")
    found = {}
    for level in ("disabled", "all"):
        graph, origin = deployed_graph(tmp_path / "model.onnx", level=level)  # type: ignore[arg-type]
        assert "as onnxruntime's optimiser writes it" in origin
        found[level] = estimate(count_graph(graph), PROFILE, graph=graph)
    assert [len(each.nodes) for each in found.values()] == [2, 1]
    assert all(node.seconds for each in found.values() for node in each.nodes)
    exported = priced(onnx.load(tmp_path / "model.onnx"))
    assert found["all"].seconds == exported.seconds != found["disabled"].seconds


def test_a_graph_for_a_provider_that_is_not_here_is_modelled(tmp_path: Path) -> None:
    """Of CUDA's nodes onnxruntime fuses no Relu with a Conv, and lays nothing out in blocks; a GELU it fuses."""
    halved = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Div", ["r", "root"], ["d"], "div"),
        helper.make_node("Erf", ["d"], ["e"], "erf"),
        helper.make_node("Add", ["e", "one"], ["a"], "add"),
        helper.make_node("Mul", ["r", "a"], ["m"], "mul"),
        helper.make_node("Mul", ["m", "half"], ["y"], "halve"),
    ]
    numbers = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    weights = {"w": np.ones((16, 16, 1, 1), np.float32), **{key: np.asarray(each) for key, each in numbers.items()}}
    onnx.save(model(halved, {"x": [1, 16, 8, 8]}, ["y"], **weights), tmp_path / "model.onnx")
    graph, origin = deployed_graph(tmp_path / "model.onnx", provider="CUDAExecutionProvider")
    assert [each.op_type for each in graph.operators] == ["Conv", "Relu", "Gelu"]
    assert "modelled without a runtime (level all): onnxruntime" in origin
    assert "does not offer CUDAExecutionProvider" in origin
    on_device = calibrated_profile(kernels=time_model(provider="CUDAExecutionProvider"))
    exported = load(tmp_path / "model.onnx")
    found = [deployed_times(exported, each.kernels).kernels for each in (on_device, PROFILE)]  # type: ignore[arg-type]
    assert found == [3, 4]  # the processor: ReorderInput, Conv with its Relu, ReorderOutput, Gelu


def test_without_a_graph_the_plain_coefficients_are_used() -> None:
    graph = load(tanh_and_relu())
    found = estimate(count_graph(graph), PROFILE)
    relu = next(node for node in found.nodes if node.name == "relu")
    assert relu.seconds == pytest.approx(1e-6 + max(1000 * COMPARE * 2e-15, 8000 * 1e-11))
    assert found.notes == ()


# --- everything that prices --------------------------------------------------------------------------------------


def free_batch() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "mm"), helper.make_node("Relu", ["m"], ["y"], "relu")]
    return model(nodes, {"x": ["batch", 64]}, ["y"], w=np.ones((64, 64), np.float32))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and the profile as a file."""
    onnx.save(free_batch(), tmp_path / "model.onnx")
    (tmp_path / "profile.json").write_text(PROFILE.to_json(), encoding="utf-8")
    assert read_profile(tmp_path / "profile.json") == PROFILE
    return tmp_path / "model.onnx", tmp_path / "profile.json"


def test_a_training_step_costs_more_than_inference() -> None:
    found = {
        level: aiwq.analyze(free_batch(), hardware=PROFILE, bind={"batch": 8}, level=level, **step)
        for level, step in (("inference", {}), ("training", {"step": TrainingStep(loss="mse")}))
    }
    inference, training = (found[level].to_dict()["energy"] for level in ("inference", "training"))
    assert training["seconds"] > inference["seconds"]
    assert training["joules"] > inference["joules"]
    assert found["training"].unsupported == ()


def test_formulas_price_other_dimensions() -> None:
    report = aiwq.analyze(free_batch(), hardware=PROFILE)
    energy = report.to_dict()["energy"]
    assert report.at(batch=1)["seconds"] == pytest.approx(energy["seconds"])
    points = list(report.sweep("batch", [1, 8, 64]))
    seconds = [point.energy.seconds for point in points]
    assert seconds[0] == pytest.approx(energy["seconds"])
    assert seconds == sorted(seconds) and seconds[2] > seconds[0]
    assert report.at(batch=64)["seconds"] == pytest.approx(seconds[2])


def test_compare_and_advise_and_life_cycles_take_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    path, profile = files
    rows = aiwq.compare(path, hardware=[str(profile), "reference-cpu"], bind={"batch": 8}).to_dict()["rows"]
    alone = aiwq.analyze(path, hardware=str(profile), bind={"batch": 8})
    assert rows[0]["energy"]["seconds"] == pytest.approx(alone.to_dict()["energy"]["seconds"])
    assert rows[0]["energy"]["hardware"] == "by-hand"

    document = advise(path, hardware=str(profile), bind={"batch": 8}).to_dict()
    assert document["baseline"]["joules"] == pytest.approx(alone.to_dict()["energy"]["joules"])
    assert document["levers"]

    lifecycle = tmp_path / "lifecycle.toml"
    lifecycle.write_text(
        "[data]\nsamples = 10\nvalues_per_sample = 512\nbits_per_value = 32\n[inference]\ncount = 100\n",
        encoding="utf-8",
    )
    whole = aiwq.analyze(path, hardware=str(profile), bind={"batch": 8}, lifecycle=lifecycle).to_dict()["ecal"]
    energy = alone.to_dict()["energy"]
    assert whole["inference_j"] >= 100 * energy["joules"] * (1 - 1e-9)
