"""Transposes that move towards one another and cancel, and the channels-last form of quantised convolutions.

A Transpose before an operator is taken behind it where that costs less: every transposed input saves one, every input
that is not transposed needs one, and the result needs one unless it meets another Transpose further on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnx_aiwq.lowering.gelu import CONTRIB
from onnx_aiwq.lowering.matching import WorkingGraph, traversal
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

_UNARY = frozenset(
    {"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu"}
    | {"Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Neg"}
    | {"Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus"}
    | {"Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu"}
)
_BROADCAST = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod"}
    | {"Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)
_ALONG_AXIS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
_AXIS_SINCE = 13  # before, Softmax flattens at its axis
_QUANTISED_UNARY = frozenset({"QLinearLeakyRelu", "QLinearSigmoid"})
_QUANTISED_BINARY = frozenset({"QLinearAdd", "QLinearMul"})
_QUANTISED_POOL = frozenset({"QLinearAveragePool", "QLinearGlobalAveragePool"})
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last(work: WorkingGraph) -> None:
    """Quantised convolutions run with the channels last; the Transposes around them move and cancel."""
    if not any(work.of_type("QLinearConv")):
        return
    found = [node for node in traversal(work) if node.is_a("QLinearConv") and len(work.shape(node.output) or ()) == 4]
    for node in found:
        if work.dtype(node.inputs[0]) not in (DType.UINT8, DType.INT8):
            continue
        attributes = {**node.attributes, "channels_last": 1}
        source = _transposed(work, node.inputs[0], _TO_LAST, node, before=True)
        result = work.make_tensor(
            f"{node.output}/last", work.dtype(node.output), _permuted(work.shape(node.output), _TO_LAST)
        )
        made = work.fuse(node, [], "QLinearConv", CONTRIB, [source, *node.inputs[1:]], [result], attributes)
        _add_transpose(work, result, node.outputs[0], _TO_FIRST, made, shift=0.1)
    if found:
        move_transposes(work)
        _complete_units(work)
        work.drop_unread(list(work.of_type("Transpose")))


def _permuted(shape: Sequence[int] | None, perm: Sequence[int]) -> tuple[int, ...] | None:
    return None if shape is None else tuple(shape[axis] for axis in perm)


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(perm.index(axis) for axis in range(len(perm)))


def _add_transpose(
    work: WorkingGraph, source: str, result: str, perm: Sequence[int], anchor: Node, *, shift: float
) -> Node:
    return work.add(
        "Transpose",
        "",
        [source],
        [result],
        {"perm": tuple(perm)},
        anchor=anchor,
        stands_for=anchor.stands_for[:1],
        shift=shift,
        name=f"{anchor.name}/Transpose",
    )


def _perm_of(work: WorkingGraph, name: str) -> tuple[Node, tuple[int, ...]] | None:
    maker = work.producer(name)
    if maker is None or not maker.is_a("Transpose"):
        return None
    perm = maker.attributes.get("perm")
    rank = len(work.shape(name) or ())
    return maker, tuple(perm) if perm else tuple(reversed(range(rank)))


def _transposed(work: WorkingGraph, name: str, perm: Sequence[int], anchor: Node, *, before: bool) -> str:
    """The tensor with its axes permuted: through a Transpose that is there, or a new one."""
    made = _perm_of(work, name)
    if made is not None:
        joint = tuple(made[1][axis] for axis in perm)
        if joint == tuple(range(len(joint))):
            return made[0].inputs[0]
    for reader in work.read_by(name):
        if reader.is_a("Transpose") and tuple(reader.attributes.get("perm") or ()) == tuple(perm):
            return reader.output
    shape = _permuted(work.shape(name), perm)
    if work.is_constant(name):
        tensor = work.tensors[name]
        value = None if tensor.value is None else np.transpose(tensor.value, perm)
        return work.make_tensor(f"{name}/transposed", tensor.dtype, shape, constant=True, value=value)
    result = work.make_tensor(f"{name}/transposed", work.dtype(name), shape)
    _add_transpose(work, name, result, perm, anchor, shift=-0.1 if before else 0.1)
    return result


def move_transposes(work: WorkingGraph) -> None:
    """Take Transposes behind the operators that they feed, where that removes one, and cancel pairs."""
    if not work.has("Transpose"):
        return
    ahead = _leading_to_transpose(work)
    for node in work.ordered():
        if work.nodes.get(node.name) is not node:
            continue
        if node.is_a("Transpose"):
            _join(work, node)
            continue
        movable = _movable_inputs(work, node)
        for index in movable:
            found = _perm_of(work, node.inputs[index])
            if found is not None and _pays(work, node, movable, found[1], ahead) and _fits(work, node, found[1]):
                _push(work, node, movable, found[1])
                break


def _leading_to_transpose(work: WorkingGraph) -> set[str]:
    """Tensors that a Transpose reads, directly or after operators that one can pass."""
    found: set[str] = set()
    for node in reversed(work.ordered()):
        if node.is_a("Transpose") or (node.output in found and _movable_inputs(work, node)):
            found.update(name for name in node.inputs if name)
    return found


def _movable_inputs(work: WorkingGraph, node: Node) -> list[int]:
    """The inputs that can be transposed together with the output; none where the operator knows its axes."""
    if node.domain == CONTRIB:
        if node.op_type in _QUANTISED_UNARY | _QUANTISED_POOL:
            return [0]
        if node.op_type in _QUANTISED_BINARY:
            return [0, 3]
        return list(range(2, len(node.inputs), 3)) if node.op_type == "QLinearConcat" else []
    if node.domain:
        return []
    if node.op_type in _UNARY or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return [0]
    if node.op_type in _ALONG_AXIS and node.version >= _AXIS_SINCE:
        return [0]
    if node.op_type in _REDUCTIONS:
        return [0] if _reduced_axes(work, node) is not None else []
    if node.op_type == "MaxPool" and work.dtype(node.inputs[0]) in (DType.UINT8, DType.INT8):
        return [0] if not any(node.outputs[1:]) else []
    if node.op_type in _BROADCAST or node.op_type == "Concat":
        return [index for index, name in enumerate(node.inputs) if name]
    return []


def _reduced_axes(work: WorkingGraph, node: Node) -> list[int] | None:
    """Which axes a reduction takes; None where the file does not say."""
    if node.input(1):
        return work.integers(node.input(1)) if work.is_constant(node.input(1)) else None
    axes = node.attributes.get("axes")
    return None if axes is None else [int(axis) for axis in axes]


def _pays(work: WorkingGraph, node: Node, movable: Sequence[int], perm: tuple[int, ...], ahead: set[str]) -> bool:
    cost = 0
    for index in movable:
        name = node.inputs[index]
        found = _perm_of(work, name)
        if work.is_constant(name):
            continue
        if found is None:
            cost += _weight(work, name)
        elif found[1] == perm:
            cost -= _weight(work, name)
    if cost < 0 and not any(name in ahead for name in node.outputs):
        cost += _weight(work, node.output)
    return cost < 0


def _weight(work: WorkingGraph, name: str) -> int:
    """What a Transpose of a tensor costs: its dimensions other than one."""
    return sum(size != 1 for size in work.shape(name) or ())


def _fits(work: WorkingGraph, node: Node, perm: tuple[int, ...]) -> bool:
    """Whether ranks and layouts allow it."""
    if work.shape(node.output) is None or len(work.shape(node.output) or ()) != len(_of_result(work, node, perm)):
        return False
    if node.op_type in _QUANTISED_POOL or node.op_type == "MaxPool":
        return perm == _TO_FIRST and not node.attributes.get("channels_last", 0)
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        shape = work.shape(node.inputs[1])
        return shape is not None and math.prod(shape) == 1
    return all(work.shape(name) is not None for name in node.inputs if name)


def _push(work: WorkingGraph, node: Node, movable: Sequence[int], perm: tuple[int, ...]) -> None:
    before = _inverse(perm)
    old = []
    for index in movable:
        name = node.inputs[index]
        made = work.producer(name)
        old.append(made)
        shape = work.shape(name) or ()
        if len(shape) == len(perm):
            work.set_input(node, index, _transposed(work, name, before, node, before=True))
        elif shape and math.prod(shape) > 1:
            _widen(work, node, index, before)
    plain, after = node.output, _of_result(work, node, perm)
    if after != tuple(range(len(after))):
        dims = _permuted(work.shape(plain), _inverse(after))
        result = work.make_tensor(f"{plain}/before", work.dtype(plain), dims)
        work.set_output(node, 0, result)
        _add_transpose(work, result, plain, after, node, shift=0.1)
    _renamed_axes(work, node, perm)
    work.drop_unread(made for made in old if made is not None and made.is_a("Transpose"))


def _of_result(work: WorkingGraph, node: Node, perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation behind a node that had this one before it: a reduction may drop axes."""
    if node.op_type not in _REDUCTIONS or node.attributes.get("keepdims", 1):
        return perm
    gone = {axis % len(perm) for axis in _reduced_axes(work, node) or ()}
    left = [source for axis, source in enumerate(perm) if axis not in gone]
    return tuple(sorted(left).index(source) for source in left)


def _widen(work: WorkingGraph, node: Node, index: int, before: Sequence[int]) -> None:
    """An operand of lower rank gets leading ones before its axes are permuted."""
    name = node.inputs[index]
    tensor = work.tensors[name]
    shape = (*(1,) * (len(before) - len(tensor.shape or ())), *(tensor.shape or ()))
    value = None if tensor.value is None else np.transpose(tensor.value.reshape(shape), before)
    constant = work.is_constant(name)
    widened = work.make_tensor(
        f"{name}/widened", tensor.dtype, _permuted(shape, before), constant=constant, value=value
    )
    if not constant:
        target = work.make_tensor(f"{name}/axes", DType.INT64, (len(shape),), constant=True)
        work.add(
            "Unsqueeze",
            "",
            [name, target],
            [widened],
            {},
            anchor=node,
            stands_for=node.stands_for[:1],
            shift=-0.2,
            name=f"{node.name}/Unsqueeze",
        )
    work.set_input(node, index, widened)


def _renamed_axes(work: WorkingGraph, node: Node, perm: tuple[int, ...]) -> None:
    changes: dict[str, Any] = {}
    if node.op_type in ("Concat", "QLinearConcat") or node.op_type in _ALONG_AXIS:
        axis = int(node.attributes.get("axis", -1))
        changes["axis"] = perm[axis % len(perm)]
    if node.op_type in _QUANTISED_POOL:
        changes["channels_last"] = 1
    if node.op_type in _REDUCTIONS:
        axes = tuple(sorted(perm[axis % len(perm)] for axis in _reduced_axes(work, node) or ()))
        if node.input(1):
            value = np.asarray(axes, np.int64)
            name = work.make_tensor(f"{node.input(1)}/moved", DType.INT64, value.shape, constant=True, value=value)
            work.set_input(node, 1, name)
        else:
            changes["axes"] = axes
    if changes:
        work.set_attributes(node, **changes)
    if node.is_a("MaxPool"):
        node.op_type, node.domain, node.version = "NhwcMaxPool", CONTRIB, 1


def join_over_reshape(work: WorkingGraph) -> None:
    """A Reshape between two Transposes that changes no dimension goes, and they become one."""
    for node in work.of_type("Transpose"):
        reshape = work.maker(node, 0)
        if reshape is None or not reshape.is_a("Reshape") or work.only_reader(reshape) is not node:
            continue
        same = work.shape(reshape.inputs[0]) == work.shape(reshape.output) is not None
        if same and _perm_of(work, reshape.inputs[0]) is not None and work.bypass(reshape):
            _join(work, node)


def _join(work: WorkingGraph, node: Node) -> None:
    """A Transpose after a Transpose is one Transpose, or none."""
    first = _perm_of(work, node.inputs[0])
    own = node.attributes.get("perm")
    if first is None or not own or first[0].place != node.place:
        return
    made, perm = first
    joint = tuple(perm[axis] for axis in own)
    if joint == tuple(range(len(joint))):
        work.set_input(node, 0, made.inputs[0])
        if not work.bypass(node):
            work.set_input(node, 0, made.output)
            return
    else:
        work.set_input(node, 0, made.inputs[0])
        work.set_attributes(node, perm=joint)
    work.drop_unread([made])


def _complete_units(work: WorkingGraph) -> None:
    """A Transpose between a DequantizeLinear and its operator gets a QuantizeLinear and DequantizeLinear of its own."""
    for node in work.of_type("Transpose"):
        made = work.maker(node, 0)
        if made is None or not made.is_a("DequantizeLinear") or node.output in work.kept:
            continue
        following = work.only_reader(node)
        if following is not None and following.is_a("QuantizeLinear"):
            continue
        shape, plain = work.shape(node.output), node.output
        middle = work.make_tensor(f"{plain}/transposed", work.dtype(plain), shape)
        elements = work.make_tensor(f"{plain}/quantized", work.dtype(made.inputs[0]), shape)
        work.set_output(node, 0, middle)
        for op_type, source, result, shift in (
            ("QuantizeLinear", middle, elements, 0.1),
            ("DequantizeLinear", elements, plain, 0.2),
        ):
            work.add(
                op_type,
                "",
                [source, *made.inputs[1:]],
                [result],
                made.attributes,
                anchor=node,
                stands_for=node.stands_for[:1],
                shift=shift,
                name=f"{node.name}/{op_type}",
            )
