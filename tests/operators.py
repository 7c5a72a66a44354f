"""Operators for tests: built from one ONNX node and its arrays, or from shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

# Arrays up to this size count as known before a run.
SMALL = 64
OPSET = defs.onnx_opset_version()


def _plain(value: Any) -> Any:
    """An attribute value without protobuf: text, tuples and arrays."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)) or type(value).__name__.startswith("Repeated"):
        return tuple(_plain(item) for item in value)
    return value


def schema_defaults(op_type: str, domain: str, version: int) -> dict[str, Any]:
    """Attribute values that the schema gives where a node says nothing; empty without a schema."""
    if not defs.has(op_type, domain):
        return {}
    schema = defs.get_schema(op_type, version, domain)
    defaults = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    known = {name: value for name, value in defaults.items() if value.type != onnx.AttributeProto.UNDEFINED}
    return {name: _plain(helper.get_attribute_value(value)) for name, value in known.items()}


def tensor_of(name: str, array: Any, *, known: bool = True) -> Tensor:
    """A tensor with the type and shape of an array; sequences have no shape, an absent optional has no type."""
    if array is None:
        return Tensor(name, DType.UNDEFINED, None)
    if isinstance(array, (list, tuple)):
        first = tensor_of(name, array[0]) if array else None
        return Tensor(name, first.dtype if first else DType.UNDEFINED, None)
    array = np.asarray(array)
    number = onnx.TensorProto.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)
    value = array if known and array.size <= SMALL else None
    return Tensor(name, DType.from_onnx(number), tuple(int(size) for size in array.shape), value)


def operator_from_node(
    node: onnx.NodeProto,
    inputs: Sequence[np.ndarray | None],
    outputs: Sequence[np.ndarray | None],
    version: int,
    *,
    known: bool = True,
) -> Operator:
    """The operator of a node whose inputs and outputs are arrays; `known` makes small ones known before the run."""
    attributes = schema_defaults(node.op_type, node.domain, version)
    for attribute in node.attribute:
        if attribute.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            attributes[attribute.name] = _plain(helper.get_attribute_value(attribute))

    def tensors(names: Sequence[str], arrays: Sequence[Any], known: bool) -> tuple[Tensor | None, ...]:
        pairs = zip(names, arrays, strict=True)
        return tuple(tensor_of(name, array, known=known) if name else None for name, array in pairs)

    return Operator(
        node.name or node.op_type,
        node.op_type,
        node.domain,
        version,
        tensors(node.input, inputs, known),
        tensors(node.output, outputs, known=False),
        attributes,
    )


def operator(
    op_type: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    domain: str = "",
    version: int | None = None,
    dtype: DType = DType.FLOAT,
    **attributes: Any,
) -> Operator:
    """An operator from shapes (of `dtype`, not known), arrays (known), tensors, or None for what is absent."""
    newest = {"": OPSET, "ai.onnx.ml": 3}
    version = version or newest.get(domain, 1)

    def tensors(prefix: str, items: Sequence[Any]) -> tuple[Tensor | None, ...]:
        made: list[Tensor | None] = []
        for index, item in enumerate(items):
            if item is None or isinstance(item, Tensor):
                made.append(item)
            elif isinstance(item, tuple):
                made.append(Tensor(f"{prefix}{index}", dtype, item))
            else:
                made.append(tensor_of(f"{prefix}{index}", item))
        return tuple(made)

    filled = {**schema_defaults(op_type, domain, version), **attributes}
    return Operator(op_type, op_type, domain, version, tensors("in", inputs), tensors("out", outputs), filled)


def count(op: Operator) -> Counts:
    """The counts by the rule that applies; movement counts nothing."""
    rule = find_rule(op.op_type, op.domain, op.version)
    assert rule is not None, f"no rule for {op.op_type}"
    return rule.function(op) if rule.function else Counts()
