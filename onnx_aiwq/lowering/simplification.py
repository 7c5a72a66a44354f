"""What computes nothing at run time: constants, no-operations, duplicates, chains of reshapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node, attribute_key
from onnx_aiwq.vocabulary import DType

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_NEVER_FOLDED = _RANDOM | {"DequantizeLinear", "QuantizeLinear", "If", "Loop", "Scan"}
_LARGE = 2**31 - 1
_SHARED_ELEMENTS = 8  # larger constants are told apart by name


def fold_constants(work: WorkingGraph) -> None:
    """Compute what depends on constants and on shapes alone."""
    for node in work.ordered():
        if work.nodes.get(node.name) is not node:
            continue
        if node.op_type in _NEVER_FOLDED or not node.outputs or node.domain:
            continue
        if _are_known(work, node.outputs) or (node.inputs and _are_known(work, node.inputs)):
            makers = [work.producer(name) for name in node.inputs if name]
            work.remove(node)
            work.drop_unread(makers)  # what only its shape was asked of
            for name in node.outputs:
                if name:
                    work.set_tensor(replace(work.tensors[name], constant=True))


def _are_known(work: WorkingGraph, names: Iterable[str]) -> bool:
    for name in names:
        if name:
            tensor = work.tensors[name]
            if not tensor.constant and tensor.value is None:
                return False
    return True


def remove_no_operations(work: WorkingGraph) -> None:
    """Identity, Dropout at inference, Cast to the same type, Slice of everything, Expand to the same shape, x + 0."""
    for node in work.of_type(*_NO_OPERATIONS):
        index = _NO_OPERATIONS[node.op_type](work, node)
        if index is not None:
            work.bypass(node, index)


def _identity(work: WorkingGraph, node: Node) -> int | None:
    return 0


def _dropout(work: WorkingGraph, node: Node) -> int | None:
    mask = node.outputs[1] if len(node.outputs) > 1 else ""
    training = work.scalar(node.input(2)) if node.input(2) else 0.0
    return 0 if training == 0.0 and not (mask and work.uses(mask)) else None


def _cast(work: WorkingGraph, node: Node) -> int | None:
    source = work.dtype(node.input(0))
    return 0 if source is not DType.UNDEFINED and source.onnx_number == node.attributes.get("to") else None


def _slice(work: WorkingGraph, node: Node) -> int | None:
    starts, ends = (
        work.integers(node.input(index)) if len(node.inputs) > 1 else list(node.attributes.get(name) or ())
        for index, name in ((1, "starts"), (2, "ends"))
    )
    same = work.shape(node.input(0)) is not None and work.shape(node.input(0)) == work.shape(node.output)
    if not same or starts is None or ends is None or any(starts) or any(end < _LARGE for end in ends):
        return None
    steps = work.integers(node.input(4)) if node.input(4) else [1]
    return 0 if steps is not None and all(step == 1 for step in steps) else None


def _expand(work: WorkingGraph, node: Node) -> int | None:
    shape = work.shape(node.input(0))
    return 0 if shape is not None and shape == work.shape(node.output) and work.is_constant(node.input(1)) else None


def _neutral(value: float, both: bool) -> Any:
    def index_of_other(work: WorkingGraph, node: Node) -> int | None:
        for index in (1, 0) if both else (1,):
            other = 1 - index
            if work.scalar(node.input(index)) == value and work.shape(node.input(other)) == work.shape(node.output):
                return other
        return None

    return index_of_other


_NO_OPERATIONS = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Slice": _slice,
    "Expand": _expand,
    "Add": _neutral(0.0, both=True),
    "Sub": _neutral(0.0, both=False),
    "Mul": _neutral(1.0, both=True),
    "Div": _neutral(1.0, both=False),
}


def share_constants(work: WorkingGraph) -> None:
    """Small constants of equal elements are one; the optimiser does this once, before it folds anything."""
    for name, tensor in work.tensors.items():
        value = tensor.value if tensor.constant and name not in work.producers else None
        if value is not None and value.size <= _SHARED_ELEMENTS and value.dtype != object:
            work.note_generated(name, (tensor.dtype, tensor.shape, value.tobytes()))


def share_common(work: WorkingGraph) -> None:
    """Two operators of one type on the same inputs with the same attributes are one."""
    seen: dict[Any, Node] = {}
    for node in work.ordered():
        if node.op_type in _RANDOM or not work.kept.isdisjoint(node.outputs):
            continue
        inputs = tuple(map(work.generated.get, node.inputs, node.inputs))  # how a constant is made, else its name
        used = tuple(map(bool, node.outputs))
        key = (node.domain, node.op_type, node.place, inputs, attribute_key(node.attributes), used)
        twin = seen.setdefault(key, node)
        if twin is node or node.op_type == "DequantizeLinear":
            continue
        work.remove(node)
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            if old and new:
                work.replace_uses(old, new)


def join_reshapes(work: WorkingGraph) -> None:
    """Reshapes that follow one another are one Reshape."""
    looked_at: set[str] = set()  # from their first: what begins in their middle ends as they do
    for node in work.of_type("Reshape"):
        if node.name in looked_at:
            continue
        chain = [node]
        while not chain[-1].attributes.get("allowzero", 0):
            following = work.only_reader(chain[-1])
            if following is None or not following.is_a("Reshape") or following.attributes.get("allowzero", 0):
                break
            chain.append(following)
        looked_at.update(each.name for each in chain)
        last = chain[-1]
        shape = work.shape(last.output)
        if len(chain) < 2 or shape is None:
            continue
        target = work.make_tensor(
            f"{last.output}/shape", DType.INT64, (len(shape),), constant=True, value=np.asarray(shape, np.int64)
        )
        work.fuse(last, chain[:-1], "Reshape", "", [node.input(0), target], last.outputs, {"allowzero": 0})


def relu_clip(work: WorkingGraph) -> None:
    """Relu before a Clip is part of the Clip."""
    for node in work.of_type("Relu"):
        clip = work.only_reader(node)
        if clip is None or not clip.is_a("Clip") or clip.inputs[0] != node.output:
            continue
        if any(name and not work.is_constant(name) for name in clip.inputs[1:]):
            continue
        work.bypass(node)
        clip.stands_for = (*clip.stands_for, *node.stands_for)


SIMPLIFICATION_PASSES = (remove_no_operations, relu_clip)
SHARING_PASSES = (share_common, fold_constants)
