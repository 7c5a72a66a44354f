"""Attributes of nodes: references to function attributes resolved, schema defaults filled in, plain Python values."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import onnx

from onnx_aiwq.graph.shapes import GRAPH_KINDS, schema_of
from onnx_aiwq.loading import has_payload
from onnx_aiwq.wireformat import PAYLOAD_LIMIT_BYTES

_KINDS = onnx.AttributeProto.AttributeType
# The enumeration looks every name up anew, once per attribute of a model.
_INT, _FLOAT, _STRING, _TENSOR = _KINDS.INT, _KINDS.FLOAT, _KINDS.STRING, _KINDS.TENSOR
_INTS, _FLOATS, _STRINGS = _KINDS.INTS, _KINDS.FLOATS, _KINDS.STRINGS


def domain_of(name: str) -> str:
    """ONNX allows two spellings of its default domain; this project uses the empty one."""
    return "" if name == "ai.onnx" else name


def version_of(domain: str, opsets: Mapping[str, int]) -> int:
    """The opset version in force; for a domain that the model forgot to import, the newest that onnx knows."""
    domain = domain_of(domain)
    if domain in opsets:
        return opsets[domain]
    return _newest_versions().get(domain, 1)


@functools.cache
def _newest_versions() -> dict[str, int]:
    versions: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas():
        versions[schema.domain] = max(versions.get(schema.domain, 1), schema.since_version)
    return versions


def with_resolved_attributes(node: onnx.NodeProto, bound: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """The node with attribute references of a function body replaced by the values of the call.

    A reference to an attribute that the call does not give is dropped, so that the schema default applies.
    """
    if not node.attribute or not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    resolved = onnx.NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            resolved.attribute.append(attribute)
        elif attribute.ref_attr_name in bound:
            copy = resolved.attribute.add()
            copy.CopyFrom(bound[attribute.ref_attr_name])
            copy.name = attribute.name
    return resolved


def without_inputs(node: onnx.NodeProto, absent: set[str]) -> onnx.NodeProto:
    """The node with the inputs left out that the caller of its function did not give."""
    if not any(name in absent for name in node.input):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in absent else name for name in node.input]
    return copy


def attribute_values(node: onnx.NodeProto, opsets: Mapping[str, int]) -> Mapping[str, Any]:
    """Attributes as Python values, defaults of the schema included; subgraphs are left out."""
    domain = domain_of(node.domain)
    defaults = schema_defaults(domain, node.op_type, version_of(domain, opsets))
    if not node.attribute:
        return defaults
    values = dict(defaults)
    for attribute in node.attribute:
        if attribute.type not in GRAPH_KINDS:
            values[attribute.name] = attribute_value(attribute)
    return MappingProxyType(values)


@functools.lru_cache(maxsize=4096)  # names come from files
def schema_defaults(domain: str, op_type: str, version: int) -> Mapping[str, Any]:
    """Default values that the ONNX schema gives to attributes; empty for operators that onnx does not define."""
    schema = schema_of(domain, op_type, version)
    if schema is None:
        return MappingProxyType({})
    return MappingProxyType(
        {
            name: attribute_value(attribute.default_value)
            for name, attribute in schema.attributes.items()
            if attribute.default_value.name
        }
    )


def attribute_value(attribute: onnx.AttributeProto) -> Any:
    """One attribute as int, float, str, tuple or numpy array; a tensor whose elements are absent is None."""
    kind = attribute.type
    if kind == _INT:
        return attribute.i
    if kind == _FLOAT:
        return attribute.f
    if kind == _STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == _INTS:
        return tuple(attribute.ints)
    if kind == _FLOATS:
        return tuple(attribute.floats)
    if kind == _STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in attribute.strings)
    if kind == _TENSOR and has_payload(attribute.t) and attribute.t.ByteSize() <= 2 * PAYLOAD_LIMIT_BYTES:
        try:
            return onnx.numpy_helper.to_array(attribute.t)
        except (ValueError, TypeError, KeyError):
            return None
    return None
