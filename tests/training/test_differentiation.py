"""The operator Gradient, against derivatives by hand and the backward pass of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_aiwq as aiwq
from onnx_aiwq.costs import node_costs
from onnx_aiwq.operations.counting import NodeCost, Status

DOMAIN = "ai.onnx.preview.training"
NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)


def model(nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: list[str], **weights: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)])


def gradient(inputs: list[str], outputs: list[str], y: str, xs: list[str], zs: list[str] | None = None) -> Any:
    more = {"zs": zs} if zs else {}
    return helper.make_node("Gradient", inputs, outputs, domain=DOMAIN, y=y, xs=xs, **more)


def cost_of(given: onnx.ModelProto, **options: Any) -> NodeCost:
    (cost,) = [cost for cost in node_costs(aiwq.load(given), **options) if cost.operator.op_type == "Gradient"]
    return cost


def operations(cost: NodeCost) -> dict[str, int]:
    assert cost.counts is not None, cost.reason
    return cost.counts.basic_operations()


def test_a_product_of_a_sum() -> None:
    """d = (a + b) a: dd/db = a, dd/da = (a + b) + a: two products with the incoming gradient, and their sum."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Mul", ["c", "a"], ["d"]),
        gradient(["a", "b"], ["da", "db"], "d", ["a", "b"]),
    ]
    cost = cost_of(model(nodes, {"a": [5], "b": [5]}, ["d", "da", "db"]))
    assert cost.status is Status.DECOMPOSED
    assert operations(cost) == NOTHING | {"mul": 10, "add": 5}


LAYER = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
SHAPES = {"x": [3, 4], "other": [3, 4]}


def layer(*more: onnx.NodeProto) -> onnx.ModelProto:
    return model([*LAYER, *more], SHAPES, ["y", "dw"], w=(4, 2))


def test_only_what_is_asked_for_is_differentiated() -> None:
    """y = relu(x w): dw = x^T g takes as many products as the layer; x, a constant of the part, gets no gradient."""
    cost = cost_of(layer(gradient(["w", "x"], ["dw"], "y", ["w"], ["x"])))
    assert cost.counts is not None
    assert cost.counts.macs == 3 * 4 * 2
    both = cost_of(layer(gradient(["w", "x"], ["dw", "dx"], "y", ["w", "x"])))
    assert both.counts is not None
    assert both.counts.macs == 2 * 3 * 4 * 2


def test_other_tensors_run_the_part_once_more() -> None:
    same = cost_of(layer(gradient(["w", "x"], ["dw"], "y", ["w"], ["x"])))
    fed = layer(gradient(["w", "other"], ["dw"], "y", ["w"], ["x"]))
    costs = {cost.operator.op_type: cost for cost in node_costs(aiwq.load(fed))}
    again, product, relu = costs["Gradient"].counts, costs["MatMul"].counts, costs["Relu"].counts
    assert again is not None and product is not None and relu is not None and same.counts is not None
    assert again.operations == (same.counts + product + relu).operations
    assert (again.macs, product.macs) == (48, 24)


def test_an_intermediate_tensor_cuts_the_part() -> None:
    """dy/dh needs the mask of the Relu alone, no product."""
    cost = cost_of(layer(gradient(["h"], ["dw"], "y", ["h"])))
    assert cost.counts is not None
    assert cost.counts.macs == 0
    assert operations(cost)["compare"] == 0 == operations(cost)["div"]


def test_the_paper_convention_leaves_comparisons_out() -> None:
    fed = layer(gradient(["w", "other"], ["dw"], "y", ["w"], ["x"]))
    default, paper = operations(cost_of(fed)), operations(cost_of(fed, convention="paper"))
    assert default["compare"] > 0
    assert paper == {**default, "compare": 0}


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (gradient(["other"], ["dw"], "y", ["other"]), "depends on none of its xs"),
        (gradient(["w", "x"], ["dw"], "absent", ["w"], ["x"]), "'absent' depends on none"),
    ],
)
def test_what_it_does_not_depend_on(node: onnx.NodeProto, reason: str) -> None:
    cost = cost_of(layer(node))
    assert cost.status is Status.UNSUPPORTED
    assert reason in cost.reason


def test_a_part_without_derivative_is_named() -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"]), gradient(["x"], ["dx"], "y", ["x"])]
    cost = cost_of(model(nodes, {"x": [4, 4]}, ["y", "dx"]))
    assert cost.status is Status.UNSUPPORTED
    assert "no backward rule" in cost.reason


def test_the_report_prices_it() -> None:
    report = aiwq.analyze(layer(gradient(["w", "x"], ["dw"], "y", ["w"], ["x"])), hardware="reference-cpu").to_dict()
    node = next(node for node in report["nodes"] if node["op_type"] == "Gradient")
    assert node["status"] == "decomposed"
    assert node["macs"] == 24
    assert report["totals"]["macs"] == 48
    assert not report["totals"]["partial"]
