"""Turn an ONNX model into a weightless skeleton: the whole graph, none of the payload.

Large tensors become external-data declarations (location, offset, length) whose data file is never written, so a
440 MB model is a file of some 100 kB that `onnx.checker` still accepts once `weights.materialize` has filled it in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

EXTERNAL_ABOVE_BYTES = 1024
"""Tensors with a larger payload lose it."""

INTEGERS_EXTERNAL_ABOVE_BYTES = 4096
"""The same for int64, int32 and bool, which are often shapes, axes or indices that an analysis has to read."""

PAGE_BYTES = 4096
"""Offsets in the data file are multiples of this, so that a reader could map it into memory."""

_HALF_BYTE = frozenset({onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1})
_SHAPE_LIKE = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL})


def strip_weights(model: onnx.ModelProto, location: str) -> onnx.ModelProto:
    """Drop the large payloads of `model` in place, its comments and stack traces too, and return it.

    `location` is the file name that the external-data declarations give.
    """
    _strip_comments(model)
    offset_bytes = 0
    for graph in graphs_of(model):
        _strip_comments(graph)
        _constants_to_initializers(graph)
        for tensor in graph.initializer:
            if _is_large(tensor):
                offset_bytes = _make_external(tensor, location, offset_bytes)
    for function in model.functions:
        _strip_comments(function)
        for node in function.node:
            _strip_comments(node)
    return model


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the main graph and every graph nested in it (branches and loop bodies), outermost first."""
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def payload_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's dense payload in the file, sub-byte types packed; computed from dtype and shape."""
    elements = math.prod(tensor.dims)
    if tensor.data_type in _HALF_BYTE:
        return (elements + 1) // 2
    return elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _is_large(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type == onnx.TensorProto.STRING:
        return False
    limit_bytes = INTEGERS_EXTERNAL_ABOVE_BYTES if tensor.data_type in _SHAPE_LIKE else EXTERNAL_ABOVE_BYTES
    return payload_bytes(tensor) > limit_bytes


def _make_external(tensor: onnx.TensorProto, location: str, offset_bytes: int) -> int:
    """Replace the payload by a declaration at `offset_bytes`; return the next free, page-aligned offset."""
    length_bytes = payload_bytes(tensor)
    skeleton = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    skeleton.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset_bytes), ("length", length_bytes)):
        skeleton.external_data.add(key=key, value=str(value))
    tensor.CopyFrom(skeleton)
    return -(-(offset_bytes + length_bytes) // PAGE_BYTES) * PAGE_BYTES


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Replace every Constant node with a large tensor by an initializer of the same name."""
    kept = []
    for node in graph.node:
        tensor = _constant_tensor(node)
        if tensor is None or not _is_large(tensor):
            kept.append(node)
            continue
        initializer = graph.initializer.add()
        initializer.CopyFrom(tensor)
        initializer.name = node.output[0]
    if len(kept) != len(graph.node):
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        for attribute in node.attribute:
            if attribute.name == "value":
                return attribute.t
    return None


def _strip_comments(owner: onnx.ModelProto | onnx.GraphProto | onnx.FunctionProto | onnx.NodeProto) -> None:
    """Drop doc strings and metadata of a model, graph, function or node, and of all that a graph lists."""
    owner.doc_string = ""
    del owner.metadata_props[:]
    if isinstance(owner, onnx.GraphProto):
        for group in (owner.node, owner.initializer, owner.input, owner.output, owner.value_info):
            for item in group:
                item.doc_string = ""
                del item.metadata_props[:]
