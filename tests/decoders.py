"""Search operators of onnxruntime with tiny decoders, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, WIDTH, VOCABULARY, LAYER = 2, 4, 11, 8  # LAYER = HEADS * WIDTH
END, PAD = 0, 0


def value(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def array(name: str, values: Any, kind: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def decoder() -> onnx.GraphProto:
    """Logits = tanh(E[ids]) W, never the end token; the cache keeps every embedding, split into heads."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(LAYER, VOCABULARY))
    bias = np.where(np.arange(VOCABULARY) == END, -1e6, 0.0)
    nodes = [
        helper.make_node("Gather", ["E", "input_ids"], ["e"]),
        helper.make_node("Tanh", ["e"], ["t"]),
        helper.make_node("MatMul", ["t", "W"], ["product"], name="head"),
        helper.make_node("Add", ["product", "B"], ["logits"]),
        helper.make_node("Reshape", ["e", "split"], ["r"]),
        helper.make_node("Transpose", ["r"], ["h"], perm=[0, 2, 1, 3]),
        helper.make_node("Unsqueeze", ["h", "zero"], ["u"]),
        helper.make_node("Concat", ["u", "u"], ["kv"], axis=0),
        helper.make_node("Concat", ["past_0", "kv"], ["present_0"], axis=3),
    ]
    inputs = [
        value("input_ids", TensorProto.INT32, "batch", "tokens"),
        value("position_ids", TensorProto.INT32, "batch", "tokens"),
        value("attention_mask", TensorProto.INT32, "batch", "all"),
        value("past_0", TensorProto.FLOAT, 2, "batch", HEADS, "past", WIDTH),
    ]
    outputs = [
        value("logits", TensorProto.FLOAT, "batch", "tokens", VOCABULARY),
        value("present_0", TensorProto.FLOAT, 2, "batch", HEADS, "all", WIDTH),
    ]
    held = [
        array("E", random.normal(size=(VOCABULARY, LAYER))),
        array("W", weight),
        array("B", bias),
        array("split", [0, 0, HEADS, WIDTH], np.int64),
        array("zero", [0], np.int64),
    ]
    return helper.make_graph(nodes, "decoder", inputs, outputs, held)


def search(op_type: str, *, max_length: int | None, batch: Any = 2, prompt: Any = 3, beams: int = 2) -> onnx.ModelProto:
    """One search operator over the decoder; without `max_length` it is an input of the model."""
    beamed = op_type == "BeamSearch"
    names = ["ids", "max_length", "min_length"]
    names += ["beams", "returned", "length_penalty", "repetition_penalty"] if beamed else ["repetition_penalty"]
    shape = ["b", 1, "l"] if beamed else ["b", "l"]
    node = helper.make_node(
        op_type,
        names,
        ["sequences"],
        domain="com.microsoft",
        name="search",
        decoder=decoder(),
        eos_token_id=END,
        pad_token_id=PAD,
        model_type=0,
    )
    inputs = [value("ids", TensorProto.INT32, batch, prompt)]
    held = [array(name, [number], np.int32) for name, number in (("min_length", 1), ("beams", beams), ("returned", 1))]
    held += [array(name, [1.0]) for name in ("length_penalty", "repetition_penalty")]
    held = [tensor for tensor in held if tensor.name in names]
    if max_length is None:
        inputs.append(value("max_length", TensorProto.INT32, 1))
    else:
        held.append(array("max_length", [max_length], np.int32))
    graph = helper.make_graph([node], "g", inputs, [value("sequences", TensorProto.INT32, *shape)], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
