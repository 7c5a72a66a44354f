"""Fake quantisation in training: gradients pass QuantizeLinear and DequantizeLinear as if nothing were rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq as aiwq
from onnx_aiwq.report import TrainingStep
from onnx_aiwq.vocabulary import BasicOp, Counts, DType

MODELS = Path(__file__).parents[2] / "models"


def product(*, quantised: bool) -> onnx.ModelProto:
    """Y = X W1 W2 with float weights; `quantised` rounds the intermediate result and W1 to 8 bits on the way."""
    held = [
        numpy_helper.from_array(np.ones((4, 5), np.float32), "W1"),
        numpy_helper.from_array(np.ones((5, 2), np.float32), "W2"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]

    def rounded(name: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_r"]),
        ]

    nodes = [
        *(rounded("W1") if quantised else []),
        helper.make_node("MatMul", ["X", "W1_r" if quantised else "W1"], ["H"]),
        *(rounded("H") if quantised else []),
        helper.make_node("MatMul", ["H_r" if quantised else "H", "W2"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [3, 2])],
        held if quantised else held[:2],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def macs(model: onnx.ModelProto, level: str) -> int:
    report = aiwq.analyze(model, hardware="reference-cpu", level=level)
    assert report.unsupported == ()
    return report.counts.macs


def test_gradients_pass_to_the_weights_before_the_rounding() -> None:
    """Per weight one product for dW, and one for dH: 3*4*5 + 3*5*2 + 3*5*2 beside the forward pass."""
    assert macs(product(quantised=False), "training") == 2 * 3 * 4 * 5 + 3 * 3 * 5 * 2
    assert macs(product(quantised=True), "training") == macs(product(quantised=False), "training")


def test_both_weights_get_an_optimiser_step_of_the_same_size() -> None:
    plain, rounded = (
        aiwq.analyze(product(quantised=each), hardware="reference-cpu", level="training").costs[-1]
        for each in (False, True)
    )
    assert plain.counts == rounded.counts
    assert plain.counts is not None and plain.counts.total(BasicOp.MUL) == 4 * 5 + 5 * 2


SCALE, ZERO = np.float32(0.1), np.int8(0)
MSE = TrainingStep(loss="mse")


def held(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def made(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], x: list[int], y: list[int]) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (("X", x), ("Y", y))
    )
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def stored_as_integers(*, moved: bool = False) -> onnx.ModelProto:
    """Y = X W + B, with X rounded on the way, W held in int8 (transposed on the way if `moved`) and B in int32."""
    weights = [held("W", np.ones((2, 4) if moved else (4, 2), np.int8)), held("B", np.ones(2, np.int32))]
    weights += [held("scale", SCALE), held("zero", ZERO)]
    nodes = [
        helper.make_node("QuantizeLinear", ["X", "scale", "zero"], ["X_q"]),
        helper.make_node("DequantizeLinear", ["X_q", "scale", "zero"], ["X_r"]),
        *([helper.make_node("Transpose", ["W"], ["W_t"])] if moved else []),
        helper.make_node("DequantizeLinear", ["W_t" if moved else "W", "scale", "zero"], ["W_r"]),
        helper.make_node("DequantizeLinear", ["B", "scale"], ["B_r"]),
        helper.make_node("Gemm", ["X_r", "W_r", "B_r"], ["Y"]),
    ]
    return made(nodes, weights, [3, 4], [3, 2])


def costs_by_output(model: onnx.ModelProto, level: str) -> dict[str, Counts]:
    report = aiwq.analyze(model, hardware="reference-cpu", level=level, step=MSE)
    assert report.unsupported == ()
    return {cost.operator.outputs[0].name: cost.counts for cost in report.costs if cost.operator.outputs[0]}


F32, I8, I32 = DType.FLOAT, DType.INT8, DType.INT32


@pytest.mark.parametrize("moved", [False, True])
def test_weights_that_a_file_holds_as_integers_are_trained_as_the_floats_that_they_stand_for(moved: bool) -> None:
    """Every step rounds and restores the 8 floats of W and restores the 2 of B; their gradients go to the floats."""
    inference, training = (
        costs_by_output(stored_as_integers(moved=moved), level) for level in ("inference", "training")
    )
    # At inference the integers are multiplied, and what is constant is folded.
    assert inference["Y"] == Counts.of(I8, mul=24, macs=24) + Counts.of(I32, add=18 + 6)
    assert inference["W_r"] == inference["B_r"] == Counts()
    # Forward K mul, K - 1 add and the bias of 6 results; dW 24 mul and 24 - 8 add, dB 6 - 2 add; X needs no gradient.
    assert training["Y"] == Counts.of(F32, mul=24 + 24, add=18 + 6 + 16 + 4, macs=48)
    # W: 1 div, 1 compare to round, 2 to saturate; 1 mul to restore. Both gradients are added to their buffers.
    assert training["W_r"] == Counts.of(F32, div=8, compare=24, mul=8, add=0 if moved else 8)
    assert training["B_r"] == Counts.of(F32, mul=2, add=2)
    if moved:
        assert training["W_t"] == Counts.of(F32, add=8)


def test_the_optimiser_steps_the_floats_behind_the_integers() -> None:
    report = aiwq.analyze(stored_as_integers(), hardware="reference-cpu", level="training", step=MSE)
    assert report.costs[-1].counts == Counts.of(F32, sub=8 + 2, mul=8 + 2)
    assert report.costs[-1].bytes_written == 4 * (8 + 2)


def test_a_step_costs_what_that_of_the_file_with_float_weights_costs() -> None:
    """The same network with W and B as floats, W rounded by a QuantizeLinear of the file."""
    weights = [held("W", np.ones((4, 2), np.float32)), held("B", np.ones(2, np.float32))]
    weights += [held("scale", SCALE), held("zero", ZERO)]
    nodes = []
    for name in ("X", "W"):
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_r"]))
    nodes.append(helper.make_node("Gemm", ["X_r", "W_r", "B"], ["Y"]))
    floats = costs_by_output(made(nodes, weights, [3, 4], [3, 2]), "training")
    integers = costs_by_output(stored_as_integers(), "training")
    restored_bias = Counts.of(F32, mul=2)  # B is held in int32 and restored in every step
    total = {kind: sum(counts, Counts()) for kind, counts in (("f", floats.values()), ("i", integers.values()))}
    assert total["i"] == total["f"] + restored_bias


def test_a_table_that_is_gathered_before_it_is_restored_is_trained_too() -> None:
    """5 of 10 rows of 4: what is read is rounded and restored, and its gradient added at its place."""
    nodes = [
        helper.make_node("Gather", ["table", "rows"], ["taken"]),
        helper.make_node("DequantizeLinear", ["taken", "scale", "zero"], ["T"]),
        helper.make_node("Add", ["T", "X"], ["Y"]),
    ]
    weights = [held("table", np.ones((10, 4), np.int8)), held("rows", np.arange(5)), held("scale", SCALE)]
    costs = costs_by_output(made(nodes, [*weights, held("zero", ZERO)], [5, 4], [5, 4]), "training")
    assert costs["T"] == Counts.of(F32, div=20, compare=60, mul=20)
    assert costs["taken"] == Counts.of(F32, add=20)


def test_validation_runs_the_integers() -> None:
    counts = costs_by_output(stored_as_integers(), "validation")["Y"]
    assert counts == Counts.of(I8, mul=24, macs=24) + Counts.of(I32, add=24)


def test_products_of_integers_are_named_with_what_to_train_instead() -> None:
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["H"]),
        helper.make_node("DynamicQuantizeLinear", ["H"], ["H_q", "H_s", "H_z"]),
        helper.make_node("MatMulInteger", ["H_q", "V", "H_z"], ["M"]),
        helper.make_node("Cast", ["M"], ["Y"], to=TensorProto.FLOAT),
    ]
    weights = [held("W", np.ones((4, 5), np.float32)), held("V", np.ones((5, 2), np.int8))]
    report = aiwq.analyze(made(nodes, weights, [3, 4], [3, 2]), hardware="reference-cpu", level="training", step=MSE)
    reasons = {cost.operator.op_type: cost.reason for cost in report.costs if cost.counts is None}
    assert set(reasons) == {"DynamicQuantizeLinear", "MatMulInteger"}
    assert all("no derivative; train the model from before its quantisation" in reason for reason in reasons.values())


@pytest.mark.slow
def test_an_int8_network_takes_the_macs_of_its_float_twin() -> None:
    """MobileNetV2 as QDQ in int8 and in float32: three products per weight and use, but dX of the first layer."""
    macs = [
        aiwq.analyze(MODELS / f"mobilenet-v2.{form}.onnx", hardware="reference-cpu", level="training").counts.macs
        for form in ("qdq-int8", "torchscript")
    ]
    assert macs[0] == macs[1] == 891_484_800


def test_the_report_says_what_stands_for_what() -> None:
    said = [
        any("quantisation-aware training" in warning for warning in report.warnings)
        for report in (
            aiwq.analyze(model, hardware="reference-cpu", level="training", step=MSE)
            for model in (stored_as_integers(), product(quantised=True), product(quantised=False))
        )
    ]
    assert said == [True, False, False]
