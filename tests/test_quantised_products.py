"""Products behind DequantizeLinear: a runtime multiplies the integers, so they are counted at the integers' types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq as aiwq
from onnx_aiwq.vocabulary import BasicOp, DType


def _model(middle: list[onnx.NodeProto], weight: np.ndarray, *, dequantise_data: bool = True) -> onnx.ModelProto:
    """X[2, 3] -> (QuantizeLinear -> DequantizeLinear ->) MatMul with W, the weight stored as integers."""
    scalars = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.uint8(128), "x_zero"),
        numpy_helper.from_array(weight.dtype.type(0), "w_zero"),
        numpy_helper.from_array(weight, "W"),
    ]
    data = [
        helper.make_node("QuantizeLinear", ["X", "scale", "x_zero"], ["Xq"]),
        helper.make_node("DequantizeLinear", ["Xq", "scale", "x_zero"], ["Xd"]),
    ]
    nodes = [
        *(data if dequantise_data else [helper.make_node("Identity", ["X"], ["Xd"])]),
        helper.make_node("DequantizeLinear", ["W", "scale", "w_zero"], ["Wd"]),
        *middle,
        helper.make_node("MatMul", ["Xd", "Wm"], ["Y"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [2, 4])],
        scalars,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def _product(model: onnx.ModelProto) -> dict[tuple[DType, BasicOp], int]:
    report = aiwq.analyze(model, hardware="reference-cpu")
    (counts,) = (cost.counts for cost in report.costs if cost.operator.name == "product")
    assert counts is not None
    assert counts.macs == 24
    return dict(counts.operations)


# 2 x 4 results of 3 products: 24 mul and 2 x 8 = 16 add.
@pytest.mark.parametrize(("integer", "products"), [(np.int8, DType.INT8), (np.uint8, DType.UINT8)])
def test_both_operands_dequantised(integer: type, products: DType) -> None:
    model = _model([helper.make_node("Identity", ["Wd"], ["Wm"])], np.ones((3, 4), integer))
    assert _product(model) == {(products, BasicOp.MUL): 24, (DType.INT32, BasicOp.ADD): 16}


def test_what_only_rearranges_stands_in_no_way() -> None:
    middle = [
        helper.make_node("Transpose", ["Wd"], ["Wt"], perm=[1, 0]),
        helper.make_node("Transpose", ["Wt"], ["Wm"], perm=[1, 0]),
    ]
    assert (DType.INT8, BasicOp.MUL) in _product(_model(middle, np.ones((3, 4), np.int8)))


def test_arithmetic_in_between_makes_it_a_product_of_floats() -> None:
    model = _model([helper.make_node("Relu", ["Wd"], ["Wm"])], np.ones((3, 4), np.int8))
    assert _product(model) == {(DType.FLOAT, BasicOp.MUL): 24, (DType.FLOAT, BasicOp.ADD): 16}


def test_one_operand_alone_makes_no_quantised_product() -> None:
    """Weight-only quantisation: the activations are floats, and so are the products."""
    model = _model([helper.make_node("Identity", ["Wd"], ["Wm"])], np.ones((3, 4), np.int8), dequantise_data=False)
    assert _product(model) == {(DType.FLOAT, BasicOp.MUL): 24, (DType.FLOAT, BasicOp.ADD): 16}


def test_the_convolutions_of_the_quantised_export_are_counted_in_int8() -> None:
    """Every MAC of the QDQ MobileNet is one int8 multiplication; its float sibling has as many in float32."""
    folder = Path(__file__).parents[1] / "models"
    quantised = aiwq.count(aiwq.load(folder / "mobilenet-v2.qdq-int8.onnx"))
    exported = aiwq.count(aiwq.load(folder / "mobilenet-v2.dynamo.onnx", bind={"batch": 1}))
    assert quantised.macs == exported.macs
    assert quantised.operations[DType.INT8, BasicOp.MUL] == quantised.macs
    assert exported.operations[DType.FLOAT, BasicOp.MUL] == exported.macs
