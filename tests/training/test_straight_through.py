"""Fake quantisation in training: gradients pass QuantizeLinear and DequantizeLinear as if nothing were rounded."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq as aiwq
from onnx_aiwq.vocabulary import BasicOp


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
