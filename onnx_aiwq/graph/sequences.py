"""Sequences and optionals: what is known of their elements, and the tensors that are taken out of them.

The shape libraries know the type of the elements alone. Here every element is followed as long as positions are known;
after that, what all elements have in common, and how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx_ir as ir

from onnx_aiwq.graph.entries import Entry, Items, typed_entry
from onnx_aiwq.graph.symbols import Symbols, library_shape
from onnx_aiwq.symbolic import Dim

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE_BY_ONE = 1024  # longer sequences are known by what their elements have in common

Inputs = Sequence[Entry | None]
Attributes = Mapping[str, Any]


class Found(msgspec.Struct, frozen=True):
    """What a rule finds out about the output of an operator on sequences or optionals.

    Attributes:
        items: of the output, where it is a sequence.
        present: whether the output, an optional, holds a value.
        element: the tensor that the output is, where it comes out of a sequence.
        data: elements of the output, where it is a number or a truth value.
    """

    items: Items | None = None
    present: bool | None = None
    element: Entry | None = None
    data: Any = None


def infer(op_type: str, attributes: Attributes, inputs: Inputs, output: ir.Value, symbols: Symbols) -> Found | None:
    """What is known of the first output of an operator of ai.onnx; None for operators that handle no containers.

    Args:
        op_type: of the node.
        attributes: of the node, as Python values.
        inputs: of the node.
        output: gets the type and shape that are found.
        symbols: of the model.
    """
    rule = _RULES.get(op_type)
    if rule is None or not (op_type in _WITHOUT_INPUTS or any(entry is not None for entry in inputs)):
        return None
    found = rule(attributes, list(inputs), output.name or op_type, symbols)
    if found is None:
        return None
    if found.element is not None:
        output.type, output.shape = found.element.value.type, found.element.value.shape
    elif found.items is not None and (output.type is None or output.dtype is None):
        output.type = sequence_type(found.items)
    return found


def sequence_type(items: Items) -> ir.SequenceType | None:
    """The type of a sequence; None where no element was seen."""
    first = items.known[0] if items.known else items.element
    return None if first is None or first.value.type is None else ir.SequenceType(first.value.type)


def length_of(items: Items, symbols: Symbols) -> int:
    """How many elements a sequence has: a number, or the symbol `NAME_length`."""
    if items.length is not None:
        return items.length  # type: ignore[return-value]  # a formula stands for an int
    return symbols.resolve(f"{items.name}_length")


def sequence_of(name: str, known: Sequence[Entry], symbols: Symbols) -> Items:
    """A sequence of which every element is known."""
    if len(known) <= _ONE_BY_ONE:
        return Items(name, None, len(known), tuple(known))
    return Items(name, common(f"{name}_element", known, symbols), len(known))


def element_of(items: Items, symbols: Symbols) -> Entry | None:
    """What all elements of a sequence have in common; None where no element was seen."""
    if items.known:
        return common(f"{items.name}_element", items.known, symbols)
    return items.element


def common(name: str, alternatives: Sequence[Entry], symbols: Symbols) -> Entry:
    """A tensor that is one of several: what they have in common."""
    first = alternatives[0]
    if all(entry.shape == first.shape for entry in alternatives):
        dims = first.shape
    else:
        merged = symbols.merged(name, [entry.shape for entry in alternatives])
        dims = None if merged is None else tuple(merged)
    entry = typed_entry(name, int(first.value.dtype or 0), dims)
    return replace(entry, dynamic=any(each.dynamic for each in alternatives), items=first.items)


def merged_items(name: str, alternatives: Sequence[Items | None], symbols: Symbols) -> Items | None:
    """A sequence that is one of several; an empty one says nothing about elements."""
    present = [items for items in alternatives if items is not None]
    if not present:
        return None
    each = [element_of(items, symbols) for items in present]
    elements = [element for element in each if element is not None]
    lengths = {items.length for items in present}
    growths = {items.growth for items in present}
    return Items(
        name,
        common(f"{name}_element", elements, symbols) if elements else None,
        lengths.pop() if len(lengths) == 1 and len(present) == len(alternatives) else None,
        growth=growths.pop() if len(growths) == 1 else 0,
    )


def _sequence(inputs: list[Entry | None], name: str) -> Items:
    first = inputs[0]
    return (first.items if first is not None else None) or Items(name)


def _construct(_: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found:
    return Found(items=sequence_of(name, [entry for entry in inputs if entry is not None], symbols))


def _empty(attributes: Attributes, _: list[Entry | None], name: str, __: Symbols) -> Found:
    return Found(items=Items(name, None, 0, ()))


def _position(inputs: list[Entry | None], index: int, length: int, default: int | None) -> int | None:
    """A position in a sequence of known length, None where run-time data decides it."""
    if len(inputs) <= index:
        return default
    entry = inputs[index]
    if entry is None:
        return default
    if entry.data is None or entry.data.dtype == object or entry.data.size != 1:
        return None
    position = int(entry.data.reshape(-1)[0])
    return position + length if position < 0 else position


def _insert(_: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found | None:
    items, tensor = _sequence(inputs, name), inputs[1]
    if tensor is None:
        return None
    if items.known is not None:
        position = _position(inputs, 2, len(items.known), len(items.known))
        if position is not None and len(items.known) < _ONE_BY_ONE:
            known = [*items.known]
            known.insert(position, tensor)
            return Found(items=sequence_of(name, known, symbols))
    element = element_of(items, symbols)
    elements = [tensor] if element is None else [element, tensor]
    length = None if items.length is None else items.length + 1
    return Found(items=Items(name, common(f"{name}_element", elements, symbols), length, growth=items.growth + 1))


def _erase(_: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found:
    items = _sequence(inputs, name)
    if items.known:
        position = _position(inputs, 1, len(items.known), len(items.known) - 1)
        if position is not None and 0 <= position < len(items.known):
            known = [*items.known[:position], *items.known[position + 1 :]]
            return Found(items=sequence_of(name, known, symbols))
    length = None if items.length is None else items.length - 1
    return Found(items=Items(name, element_of(items, symbols), length, growth=items.growth - 1))


def _at(_: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found:
    items = _sequence(inputs, name)
    if items.known:
        position = _position(inputs, 1, len(items.known), None)
        if position is not None and 0 <= position < len(items.known):
            return Found(element=items.known[position])
    return Found(element=element_of(items, symbols))


def _length(_: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found:
    length = length_of(_sequence(inputs, name), symbols)
    if isinstance(length, int):
        return Found(data=np.asarray(length, np.int64))
    data: NDArray[Any] = np.empty((), dtype=object)
    data[()] = length
    return Found(data=data)


def _split(attributes: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found | None:
    tensor = inputs[0]
    if tensor is None or tensor.shape is None:
        return None
    shape, axis = list(tensor.shape), attributes.get("axis", 0) % max(len(tensor.shape), 1)
    given = inputs[1] if len(inputs) > 1 else None
    number = int(tensor.value.dtype or 0)

    def part(size: int | None) -> Entry:
        dims = [*shape[:axis], *([] if size is None else [size]), *shape[axis + 1 :]]
        return replace(typed_entry(f"{name}_element", number, dims), dynamic=tensor.dynamic)

    if given is None:
        element = part(1 if attributes.get("keepdims", 1) else None)
        return Found(items=_repeated(name, element, shape[axis]))
    if given.data is None or given.data.dtype == object or not isinstance(shape[axis], int):
        return Found(items=Items(name, part(symbols.resolve(f"{name}_element_dim{axis}", shape[axis]))))
    sizes = [int(size) for size in given.data.reshape(-1)]
    if given.data.ndim == 0:
        whole, rest = divmod(shape[axis], max(sizes[0], 1))
        if whole > _ONE_BY_ONE:
            size = symbols.resolve(f"{name}_element_dim{axis}", sizes[0]) if rest else sizes[0]
            return Found(items=_repeated(name, part(size), whole + (rest > 0)))
        sizes = [sizes[0]] * whole + [rest] * (rest > 0)
    return Found(items=sequence_of(name, [part(size) for size in sizes], symbols))


def _repeated(name: str, element: Entry, length: Dim) -> Items:
    known = (element,) * length if isinstance(length, int) and length <= _ONE_BY_ONE else None
    return Items(name, element, length, known)


def _concat(attributes: Attributes, inputs: list[Entry | None], name: str, symbols: Symbols) -> Found | None:
    items, new_axis = _sequence(inputs, name), bool(attributes.get("new_axis", 0))
    first = items.known[0] if items.known else items.element
    if first is None or first.shape is None:
        return None
    shape = list(first.shape)
    axis = int(attributes["axis"]) % max(len(shape) + new_axis, 1)
    if new_axis:
        shape.insert(axis, length_of(items, symbols))
    elif items.known is not None:
        # Along the other axes all elements agree.
        shape[axis] = sum(entry.shape[axis] for entry in items.known if entry.shape is not None)
    else:
        shape[axis] = shape[axis] * length_of(items, symbols)
    return Found(element=typed_entry(name, int(first.value.dtype or 0), shape))


def _passed_on(_: Attributes, inputs: list[Entry | None], name: str, __: Symbols) -> Found | None:
    """Identity of a container, and the value of an optional: the same elements under another name."""
    first = inputs[0]
    if first is None or (first.items is None and first.present is None):
        return None
    return Found(items=first.items, present=first.present)


def _optional(attributes: Attributes, inputs: list[Entry | None], name: str, _: Symbols) -> Found:
    first = inputs[0] if inputs else None
    return Found(present=first is not None, items=None if first is None else first.items)


def _taken(_: Attributes, inputs: list[Entry | None], name: str, __: Symbols) -> Found | None:
    first = inputs[0]
    if first is None:
        return None
    if first.items is not None:
        return Found(items=first.items)
    kind = first.value.type
    if not isinstance(kind, ir.OptionalType):
        return Found(element=first)
    if isinstance(kind.elem_type, ir.TensorType):
        return Found(element=typed_entry(name, int(kind.elem_type.dtype), first.shape))
    return None


def _has_element(_: Attributes, inputs: list[Entry | None], name: str, __: Symbols) -> Found | None:
    first = inputs[0] if inputs else None
    present = first is not None
    if first is not None and isinstance(first.value.type, ir.OptionalType):
        if first.present is None:
            return None
        present = first.present
    return Found(data=np.asarray(present))


_WITHOUT_INPUTS = frozenset({"SequenceEmpty", "Optional", "OptionalHasElement"})
_RULES: dict[str, Callable[[Attributes, list[Entry | None], str, Symbols], Found | None]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "Identity": _passed_on,
    "Optional": _optional,
    "OptionalGetElement": _taken,
    "OptionalHasElement": _has_element,
}


def typed_value(name: str, proto: Any, shape: Sequence[int] | None) -> Entry:
    """The entry of an input whose type is a sequence or an optional.

    Args:
        name: of the input.
        proto: its type.
        shape: of the tensors in it, where they are known.
    """
    value = ir.Value(name=name)
    entry = Entry(value, dynamic=True)
    try:
        value.type = ir.serde.deserialize_type_proto_for_type(proto)
    except (ir.serde.SerdeError, ValueError):
        return entry  # a type that the library does not know, or an incomplete one
    inner, is_sequence = proto, False
    while not inner.HasField("tensor_type"):
        kind = inner.WhichOneof("value")
        if kind not in ("sequence_type", "optional_type"):
            return entry  # a map or a sparse tensor: nothing is known but its type
        is_sequence = is_sequence or kind == "sequence_type"
        inner = getattr(inner, kind).elem_type
    if is_sequence:
        element = typed_entry(f"{name}_element", inner.tensor_type.elem_type, shape)
        entry.items = Items(name, replace(element, dynamic=True))
    elif shape is not None:
        value.shape = library_shape(shape)
    return entry
