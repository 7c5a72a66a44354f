"""Shapes of operators that no CPU build of onnxruntime runs, against those that its own schemas infer.

The schema is asked through a session with strict inference: a declared shape that does not agree is refused as such;
with one that agrees, the session fails later, for want of a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_aiwq.graph import load

LAST, MS = "com.ms.internal.nhwc", "com.microsoft"
F32, F16, U8, I8, I32, I64 = (
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32),
    TensorProto.INT64,
)
Kind = tuple[int, tuple[int, ...]]
DIFFERS = "ShapeInferenceError"


@dataclass(frozen=True)
class Case:
    """One node; the ONNX numbers and shapes of its inputs and outputs; `version` of its domain."""

    op_type: str
    domain: str
    inputs: Sequence[Kind | None]
    outputs: Sequence[Kind | None]
    version: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self.attributes.items() if name in ("auto_pad", "policy_mode")]
        return "-".join([self.op_type, *named, str(len([kind for kind in self.inputs if kind]))])

    def model(self, outputs: Sequence[Kind | None] | None = None) -> onnx.ModelProto:
        """With declared outputs, or with none."""
        names = [
            [f"{side}{index}" if kind else "" for index, kind in enumerate(kinds)]
            for side, kinds in (("x", self.inputs), ("y", self.outputs))
        ]
        node = helper.make_node(self.op_type, *names, domain=self.domain, **self.attributes)
        given = [helper.make_tensor_value_info(f"x{i}", *kind) for i, kind in enumerate(self.inputs) if kind]
        made = [
            onnx.ValueInfoProto(name=name)
            if outputs is None
            else helper.make_tensor_value_info(name, *(outputs[i] or (0, ())))
            for i, name in enumerate(names[1])
            if name
        ]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(self.domain, self.version)]
        return helper.make_model(helper.make_graph([node], "g", given, made), opset_imports=opsets, ir_version=9)


def last(op_type: str, inputs: Any, *outputs: Kind, version: int = 1, **attributes: Any) -> Case:
    return Case(op_type, LAST, inputs, outputs, version, attributes)


def contrib(op_type: str, inputs: Any, *outputs: Kind | None, **attributes: Any) -> Case:
    return Case(op_type, MS, inputs, outputs, 1, attributes)


X, W = (F32, (1, 8, 9, 4)), (F32, (4, 5, 3, 2))
SMALL, KERNEL = (U8, (1, 8, 9, 4)), (U8, (4, 5, 3, 2))
SCALE, ZERO, VECTOR = (F32, ()), (U8, ()), (F32, (4,))
QUANTISED = [SMALL, SCALE, ZERO, KERNEL, SCALE, ZERO, SCALE, ZERO]
CHANNELS_LAST = [
    last("AveragePool", [X], (F32, (1, 4, 8, 4)), version=11, kernel_shape=[3, 2], strides=[2, 1], pads=[0, 0, 1, 0]),
    last("BatchNormalization", [X, *[VECTOR] * 4], X, version=15),
    last("BatchNormalization", [X, *[VECTOR] * 4], X, VECTOR, VECTOR, version=15, training_mode=1),
    last("Conv", [X, (F32, (6, 4, 3, 3))], (F32, (1, 8, 9, 6)), version=11, pads=[1, 1, 1, 1]),
    last("ConvTranspose", [X, W], (F32, (1, 17, 17, 5)), version=11, strides=[2, 2], pads=[0, 1, 0, 0]),
    last("ConvTranspose", [X, W], (F32, (1, 17, 10, 10)), version=11, strides=[2, 1], group=2),
    last("ConvTranspose", [X, W], (F32, (1, 16, 18, 5)), version=11, strides=[2, 2], auto_pad="SAME_UPPER"),
    last("ConvTranspose", [X, W], (F32, (1, 20, 21, 5)), version=11, strides=[2, 2], output_shape=[20, 21]),
    last("ConvTranspose", [X, W], (F32, (1, 20, 19, 5)), version=11, strides=[2, 2], dilations=[2, 1],
         output_padding=[1, 1]),
    last("DepthToSpace", [X], (F32, (1, 16, 18, 1)), version=13, blocksize=2),
    last("GlobalAveragePool", [X], (F32, (1, 1, 1, 4))),
    last("GlobalAveragePool", [(F32, (2, 7, 3))], (F32, (2, 1, 3))),
    last("GlobalLpPool", [X], (F32, (1, 1, 1, 4)), version=2),
    last("GlobalMaxPool", [X], (F32, (1, 1, 1, 4))),
    last("GridSample", [X, (F32, (1, 3, 5, 2))], (F32, (1, 3, 5, 4)), version=16),
    last("InstanceNormalization", [X, VECTOR, VECTOR], X, version=6),
    last("LRN", [X], X, version=13, size=3),
    last("LpPool", [X], (F32, (1, 7, 8, 4)), version=18, kernel_shape=[2, 2]),
    last("MaxPool", [X], (F32, (1, 4, 4, 4)), (I64, (1, 4, 4, 4)), version=12, kernel_shape=[2, 2], strides=[2, 2]),
    last("MaxUnpool", [X, (I64, (1, 4, 8, 9))], (F32, (1, 16, 18, 4)), version=11, kernel_shape=[2, 2], strides=[2, 2]),
    last("QLinearAveragePool", [SMALL, SCALE, ZERO, SCALE, ZERO], (U8, (1, 7, 8, 4)), kernel_shape=[2, 2]),
    last("QLinearConv", [*QUANTISED[:3], (U8, (6, 4, 3, 2)), *QUANTISED[4:]], (U8, (1, 6, 8, 6)), version=10),
    last("QLinearConvTranspose", QUANTISED, (U8, (1, 17, 18, 5)), strides=[2, 2]),
    last("SpaceToDepth", [(F32, (1, 8, 6, 4))], (F32, (1, 4, 3, 16)), version=13, blocksize=2),
]  # fmt: skip

HEADS = {"num_heads": 4, "kv_num_heads": 2}
SELECTED = [(I32, (6, 5)), (I32, (6,)), (I32, (2,)), (I32, (1,))]
CACHE = (F16, (2, 2, 7, 16))
NEW, PACKED = [(F16, (2, 3, 64)), *[(F16, (2, 3, 32))] * 2], [(F16, (2, 3, 128)), None, None]
PAGES, STATE = (F16, (10, 4, 2, 16)), (F32, (2, 9, 16))
PAGED = [PAGES, PAGES, (I32, (3,)), (I32, (2,)), (I32, (2, 5)), None, (I32, (6, 7)), (I32, (6,))]
NORMS = [(F32, (16,)), (F32, (16,)), (F32, (50, 8)), (F32, (50, 8))]
GATES = [(F32, (2, 5, 32)), (F32, (2, 32)), (F32, (2, 5, 2)), (I64, (2, 5)), None]
QSA = {"policy_mode": "qsa", "compress_ratio": 2, "token_budget": 4}
CSA = {"policy_mode": "csa", "compress_ratio": 2, "index_topk": 4}
CSA_INPUTS = [(F32, (2, 5, 32)), (F32, (2, 5, 32)), *NORMS, None, (F32, (2, 6, 16)), *GATES]
REQUESTS = [(I32, (3,)), (I32, (2,))]
ORDERS = {"order_input": 1, "order_weight": 0, "order_output": 1, "num_heads": 2}
ATTENTION = [
    contrib("DynamicSparseAttention", [*NEW, *[None] * 4, *SELECTED], (F16, (2, 3, 64)), **HEADS),
    contrib("DynamicSparseAttention", [*PACKED, CACHE, CACHE, None, None, *SELECTED], (F16, (2, 3, 64)), CACHE, CACHE,
            **HEADS),
    contrib("SparsePagedAttention", [(F16, (6, 64)), *[(F16, (6, 32))] * 2, *PAGED], (F16, (6, 64)), PAGES, PAGES,
            **HEADS),
    contrib("SparsePagedAttention", [(F16, (6, 128)), None, None, *PAGED], (F16, (6, 64)), **HEADS),
    contrib("SparseAttentionIndexer", [(F32, (2, 3, 32)), (F32, (2, 3, 16)), *NORMS, None, (F32, (2, 5, 16))],
            (I32, (2, 3, 5)), (F32, (2, 8, 16)), **QSA),
    contrib("SparseAttentionIndexer", [(F32, (2, 3, 48)), None, *NORMS, None, STATE, *[None] * 4, (I32, (1,))],
            (I32, (2, 3, 5)), STATE, **QSA),
    # Buffers of 1, 2 and 3 tokens: 1 open; a window that is done; a window that is done and 1 open.
    *(contrib("SparseAttentionIndexer", [*CSA_INPUTS, (F32, (2, 2, buffered, 32))], (I32, (2, 5, 4)),
              (F32, (2, keys, 16)), (F32, (2, 2, kept, 32)), **CSA)
      for buffered, keys, kept in ((1, 9, 2), (2, 8, 3), (3, 9, 2))),
    contrib("PackedSparseAttentionIndexer",
            [(F32, (7, 32)), (F32, (7, 16)), *NORMS, *REQUESTS, *[None] * 4, STATE, (F32, (2, 3, 16)), None,
             (I32, (2, 2)), (I32, (2,))],
            (I32, (7, 5)), (I32, (7,)), STATE, (F32, (2, 3, 16)), None, (I32, (2, 2)), (F32, (2, 3, 16)),
            state_capacity=9, state_update_capacity=3, **QSA),
    contrib("QOrderedAttention",
            [(I8, (2, 16, 64)), *[SCALE] * 4, *[(I8, (64, 64))] * 3, *[SCALE] * 3, *[(F32, (64,))] * 3, *[SCALE] * 3,
             (I32, (2, 16))], (I8, (2, 16, 64)), qkv_hidden_sizes=[64, 64, 64], **ORDERS),
    contrib("QOrderedLongformerAttention",
            [(I8, (2, 16, 64)), SCALE, (I8, (64, 192)), SCALE, (F32, (192,)), SCALE, SCALE, (F16, (2, 16)),
             (I8, (64, 192)), SCALE, (F32, (192,)), SCALE, (I32, (2, 16)), SCALE],
            (I8, (2, 16, 64)), order_global_weight=0, window=4, **ORDERS),
]  # fmt: skip
# Its schema takes the scale of x for the weight, and infers nothing.
UNINFERRED = {"QLinearConvTranspose"}
KNOWN = {
    schema.name
    for schema in onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    if schema.domain in (LAST, MS)
}


def refusal(model: onnx.ModelProto) -> str:
    """Why onnxruntime makes no session of the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.strict_shape_type_inference", "1")
    with pytest.raises(Exception) as caught:  # its classes are not public; the text tells them apart
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return str(caught.value)


@pytest.mark.parametrize("case", [*CHANNELS_LAST, *ATTENTION], ids=str)
def test_types_and_shapes_are_those_that_the_schema_infers(case: Case) -> None:
    if case.op_type not in KNOWN:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no {case.op_type}")
    graph = load(case.model())
    found = [(tensor.dtype.onnx_number, tensor.shape) for tensor in graph.outputs]
    assert found == [kind for kind in case.outputs if kind]
    assert dict(graph.assumed_bindings) == {}
    assert DIFFERS not in refusal(case.model(case.outputs))


def test_the_schema_refuses_other_shapes() -> None:
    """What the test above rests on: every dimension of the first output, enlarged by one, is refused."""
    for case in (*CHANNELS_LAST, *ATTENTION):
        if case.op_type in UNINFERRED or case.op_type not in KNOWN:
            continue
        number, shape = case.outputs[0] or (0, ())
        for axis in range(len(shape)):
            other = (number, (*shape[:axis], shape[axis] + 1, *shape[axis + 1 :]))
            assert DIFFERS in refusal(case.model([other, *case.outputs[1:]])), (str(case), axis)


@pytest.mark.parametrize(
    ("inputs", "number", "values"),
    [(["x", "", "v"], F32, [1, 2, 3, 1]), (["x", "", "", "v"], I64, [1, 4, 9, 5])],
    ids=["scales", "sizes"],
)
def test_resize_takes_scales_and_sizes_in_the_order_of_the_stored_dimensions(
    inputs: list[str], number: int, values: list[int]
) -> None:
    node = helper.make_node("Resize", inputs, ["y"], domain=LAST, mode="linear")
    held = helper.make_tensor("v", number, [4], values)
    image = helper.make_tensor_value_info("x", F32, (1, 2, 3, 5))

    def model(output: onnx.ValueInfoProto) -> onnx.ModelProto:
        graph = helper.make_graph([node], "g", [image], [output], [held])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(LAST, 19)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    assert load(model(onnx.ValueInfoProto(name="y"))).outputs[0].shape == (1, 4, 9, 5)
    assert DIFFERS not in refusal(model(helper.make_tensor_value_info("y", F32, (1, 4, 9, 5))))
    assert DIFFERS in refusal(model(helper.make_tensor_value_info("y", F32, (1, 4, 9, 6))))
