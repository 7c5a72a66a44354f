"""Structure-aware damage to models: what a byte flip rarely reaches, because the file still has to parse.

One mutation picks a message of the model and a field of its schema, and sets, drops, doubles or swaps it with values
on which parsers and shape rules break. Hypothesis and the fuzzer share it; both give the source of randomness.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

INTEGERS = (
    0,
    1,
    2,
    3,
    7,
    64,
    255,
    4096,
    4097,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**62,
    2**63 - 1,
    -1,
    -2,
    -7,
    -(2**31),
    -(2**62),
    -(2**63),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "ai.onnx",
    "com.microsoft",
    "local",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe",
    "a\nb",
    "a\tb\r",
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "@SUM(A1)",
    "| a | b |",
    "../../etc/passwd",
    "$(id)`id`;id",
    "%s%n{0}",
    "/",
    "a/b",
    "\x00",
    "\ufeff",
    "n" * 300,
    "...",
    "->",
    "i,j->",
    "ij,jk->ik",
    "...i,i...->...",
    "i->iiiiiiiiiiii",
    "SAME_UPPER",
    "NOTSET",
    "VALID",
    "linear",
    "location",
    "offset",
    "length",
    "data.bin",
)
_CPP = FieldDescriptor
_SIGNED = {_CPP.CPPTYPE_INT32: 2**31, _CPP.CPPTYPE_INT64: 2**63}
_UNSIGNED = {_CPP.CPPTYPE_UINT32: 2**32, _CPP.CPPTYPE_UINT64: 2**64}
_LARGEST = 200  # repetitions of one field


def mutate(model: onnx.ModelProto, source: random.Random, times: int = 1) -> onnx.ModelProto:
    """A damaged copy of a model.

    Args:
        model: is left as it is.
        source: of all choices.
        times: how many mutations.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(times):
        messages = _messages(copy)
        nodes = [message for message in messages if isinstance(message, onnx.NodeProto)]
        if nodes and source.random() < 0.3:
            _change_node(source.choice(nodes), nodes, source)
        else:
            _change_field(source.choice(messages), messages, source)
    return copy


def _messages(message: Message) -> list[Message]:
    """A message and all messages within it."""
    found, waiting = [], [message]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for field, value in each.ListFields():
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else [value])
    return found


@functools.cache
def operators() -> tuple[tuple[str, str], ...]:
    """Domain and name of every operator that onnx defines."""
    return tuple(sorted({(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}))


def _change_node(node: onnx.NodeProto, nodes: list[onnx.NodeProto], source: random.Random) -> None:
    other = source.choice(nodes)
    match source.randrange(6):
        case 0:
            node.domain, node.op_type = source.choice(operators())
        case 1:
            node.op_type, node.domain = other.op_type, other.domain
        case 2:
            node.input.append(source.choice([*other.input, *other.output, ""]))
        case 3 if node.input:
            del node.input[source.randrange(len(node.input))]
        case 4 if node.input and (other.input or other.output):
            node.input[source.randrange(len(node.input))] = source.choice([*other.input, *other.output])
        case _:
            node.attribute.extend([_detached(each) for each in other.attribute])  # it may be the node itself


def _change_field(message: Message, messages: list[Message], source: random.Random) -> None:
    field = source.choice(message.DESCRIPTOR.fields)
    if field.is_repeated:
        _change_repeated(getattr(message, field.name), field, messages, source)
    elif source.random() < 0.15:
        message.ClearField(field.name)
    elif field.message_type is not None:
        like = [each for each in messages if each.DESCRIPTOR is field.message_type]
        if like:
            getattr(message, field.name).CopyFrom(_detached(source.choice(like)))
    else:
        setattr(message, field.name, _scalar(field, source))


def _change_repeated(values: Any, field: FieldDescriptor, messages: list[Message], source: random.Random) -> None:
    choice = source.random()
    if values and choice < 0.25:
        del values[source.randrange(len(values))]
    elif values and choice < 0.35 and len(values) < _LARGEST:
        values.extend([_detached(value) for value in values])
    elif field.message_type is not None:
        like = [each for each in messages if each.DESCRIPTOR is field.message_type]
        if like and len(values) < _LARGEST:
            values.append(_detached(source.choice(like)))
    elif values and choice < 0.8:
        values[source.randrange(len(values))] = _scalar(field, source)
    else:
        values.append(_scalar(field, source))


def _detached(value: Any) -> Any:
    """A copy, because a message may be put within itself."""
    if not isinstance(value, Message):
        return value
    copy = type(value)()
    copy.CopyFrom(value)
    return copy


def _scalar(field: FieldDescriptor, source: random.Random) -> Any:
    kind = field.cpp_type
    if kind in _SIGNED or kind in _UNSIGNED:
        value = source.choice(INTEGERS) + source.choice((0, 0, 0, 1, -1))
        if kind in _UNSIGNED:
            return value % _UNSIGNED[kind]
        bound = _SIGNED[kind]
        return (value + bound) % (2 * bound) - bound
    if kind == _CPP.CPPTYPE_ENUM:
        return source.choice(field.enum_type.values).number
    if kind in (_CPP.CPPTYPE_FLOAT, _CPP.CPPTYPE_DOUBLE):
        return source.choice(FLOATS)
    if kind == _CPP.CPPTYPE_BOOL:
        return source.random() < 0.5
    text = source.choice(TEXTS)
    return text.encode() if field.type == _CPP.TYPE_BYTES else text
