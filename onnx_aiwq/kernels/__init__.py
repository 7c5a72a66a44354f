"""Which kernel of a runtime an operator runs, and what of its shape that kernel's speed depends on.

A kind is a set of operators that one kernel, with one efficiency, computes: products of matrices, of a matrix and a
row, blocked convolutions of 1x1, and so on. The same description serves the fit of a profile and every prediction from
it. It looks at types, shapes and attributes alone, and knows no times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from onnx_aiwq.kernels.elementwise import describe_elementwise
from onnx_aiwq.kernels.movement import describe_movement
from onnx_aiwq.kernels.products import describe_product
from onnx_aiwq.kernels.reductions import describe_reduction
from onnx_aiwq.kernels.shapes import Description, dtype_label, log2, total_size
from onnx_aiwq.vocabulary import Operator

_DESCRIBERS: tuple[Callable[[Operator], Description | None], ...] = (
    describe_product,
    describe_reduction,
    describe_movement,
    describe_elementwise,
)


class Kernel(msgspec.Struct, frozen=True):
    """What runs, for one call of an operator.

    Attributes:
        kind: which kernel, for example ``gemm`` or ``conv-blocked-1x1``.
        group: the wider class that a kind falls back on where a profile has not met it.
        dtype: label of the type that decides the speed: of the first input that has one.
        features: what the efficiency varies with, mostly log2 of sizes; always as many for one kind.
        later: more of them, which profiles made before do not know: in the order in which they were thought of.
        like: the kind, of the same features, that it was a part of in profiles that are older than the distinction.
    """

    kind: str
    group: str
    dtype: str
    features: tuple[float, ...]
    like: str = ""
    later: tuple[float, ...] = ()


def describe(operator: Operator) -> Kernel:
    """The kernel of an operator; its sizes must be known."""
    for describer in _DESCRIBERS:
        described = describer(operator)
        if described is not None:
            kind, group, features, like, later = described
            return Kernel(kind, group, dtype_label(operator), features, like, later)
    inputs = total_size(operator.inputs)
    outputs = total_size(operator.outputs)
    kind = f"{operator.domain}.{operator.op_type}".lstrip(".")
    return Kernel(kind, "other", dtype_label(operator), (log2(inputs), log2(outputs)))


def bytes_moved(operator: Operator) -> tuple[int, int, int]:
    """Bytes of run-time inputs, of constants, and of outputs, each tensor once, for one call."""
    seen: set[str] = set()
    moved = [0, 0, 0]
    for index, tensor in (
        *((1 if tensor is not None and tensor.constant else 0, tensor) for tensor in operator.inputs),
        *((2, tensor) for tensor in operator.outputs),
    ):
        if tensor is not None and tensor.name not in seen:
            seen.add(tensor.name)
            moved[index] += tensor.size_bytes or 0
    return moved[0], moved[1], moved[2]


def bytes_since(operators: Sequence[Operator], moved: Sequence[int] | None = None) -> list[int]:
    """Bytes moved since the largest run-time input of each operator was made: whether it is still in the cache.

    Args:
        operators: of a network, in execution order. What none of them makes was there a whole run ago.
        moved: bytes that each moves, where they are known already.
    """
    moved = [sum(bytes_moved(operator)) for operator in operators] if moved is None else moved
    run, before = sum(moved), 0
    made: dict[str, int] = {}
    since: list[int] = []
    for operator, own in zip(operators, moved, strict=True):
        read = [tensor for tensor in operator.inputs if tensor is not None and not tensor.constant]
        largest = max(read, key=lambda tensor: tensor.size_bytes or 0, default=None)
        since.append(0 if largest is None else before - made.get(largest.name, before - run))
        before += own
        made.update((tensor.name, before) for tensor in operator.outputs if tensor is not None)
    return since


def is_known(operator: Operator) -> bool:
    """Whether all shapes that a description needs are there."""
    return all(
        tensor is None or (tensor.shape is not None and math.prod(tensor.shape) >= 0)
        for tensor in (*operator.inputs, *operator.outputs)
    )
