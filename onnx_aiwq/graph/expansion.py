"""The ONNX function body that defines an operator, walked for one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from onnx_aiwq.bounds import one_message
from onnx_aiwq.errors import ModelError
from onnx_aiwq.graph.entries import Entry, known_entry, typed_entry
from onnx_aiwq.graph.shapes import ShapeEngine, onnx_type, schema_of
from onnx_aiwq.graph.symbols import Symbols
from onnx_aiwq.graph.walk import Place, Walk
from onnx_aiwq.loading import Skeleton
from onnx_aiwq.vocabulary import Operator, Tensor


def expand(operator: Operator) -> tuple[Operator, ...] | None:
    """The operators of the function body for one call, times the repeats of the operator; None without a body.

    Raises:
        ModelError: if the node is none that the operator allows, so that it has no body.
    """
    schema = schema_of(operator.domain, operator.op_type, operator.version)
    if schema is None or not (schema.has_function or schema.has_context_dependent_function):
        return None
    entries = [None if tensor is None else _entry_of(tensor) for tensor in operator.inputs]
    try:
        node = _node_of(operator, schema)
        function = _body_of(schema, node, operator, entries)
    except Exception as error:
        # The library raises whatever it likes, AssertionError too, for attributes that are not of the schema's kinds.
        reason = one_message(f"{type(error).__name__}: {error}".rstrip(": "))
        raise ModelError(f"does not fit the function body of its operator: {reason}") from error
    if function is None:
        return None
    skeleton = Skeleton(onnx.ModelProto(), None, 0, "")
    walk = Walk(skeleton, ShapeEngine({operator.domain: operator.version}, Symbols({})))
    place = Place({operator.domain: operator.version}, scope=operator.name, depth=1)
    walk.run_function(function, node, entries, [], place)
    return tuple(replace(inner, repeats=inner.repeats * operator.repeats) for inner in walk.operators)


def _entry_of(tensor: Tensor) -> Entry:
    if tensor.value is not None:
        entry = known_entry(tensor.name, tensor.dtype.onnx_number, tensor.value)
    else:
        entry = typed_entry(tensor.name, tensor.dtype.onnx_number, tensor.shape)
    return replace(entry, constant=tensor.constant, quantized=tensor.quantized)


def _node_of(operator: Operator, schema: onnx.defs.OpSchema) -> onnx.NodeProto:
    """The node with its attributes, each of the kind that the schema states: an empty list tells none."""
    node = onnx.helper.make_node(
        operator.op_type,
        [f"i{index}" if tensor else "" for index, tensor in enumerate(operator.inputs)],
        [f"o{index}" if tensor else "" for index, tensor in enumerate(operator.outputs)],
        domain=operator.domain,
    )
    for name, value in operator.attributes.items():
        if value is not None and name in schema.attributes:
            plain = onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            kind = schema.attributes[name].type.value
            node.attribute.append(onnx.helper.make_attribute(name, plain, attr_type=kind))
    return node


def _body_of(
    schema: onnx.defs.OpSchema, node: onnx.NodeProto, operator: Operator, entries: Sequence[Entry | None]
) -> onnx.FunctionProto | None:
    """The function body at the operator's opset version; bodies that depend on types and attributes are built."""
    version = operator.version
    if schema.has_context_dependent_function:
        types = [onnx_type(entry).SerializeToString() if entry is not None else b"" for entry in entries]
        usable = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        if usable:
            built = schema.get_context_dependent_function_with_opset_version(
                max(usable), node.SerializeToString(), types
            )
            return onnx.FunctionProto.FromString(built) if built else None
    usable = [v for v in schema.function_opset_versions if v <= version]
    if not usable:
        return None
    return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(max(usable)))
