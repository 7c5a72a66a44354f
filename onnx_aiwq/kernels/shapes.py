"""What the descriptions of kernels share: sizes, logarithms, patterns of shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from onnx_aiwq.vocabulary import DType, Operator, Tensor


class Description(NamedTuple):
    """Kind, group, features, wider kind and later features of a `onnx_aiwq.kernels.Kernel`."""

    kind: str
    group: str
    features: tuple[float, ...]
    like: str = ""
    later: tuple[float, ...] = ()


def log2(number: float) -> float:
    """log2 of one more than a count, so that nothing is still a number."""
    return math.log2(1 + number)


def aliasing(stride: int) -> float:
    """log2 of how far a stride in elements is a power of two: what lies 4096 bytes apart shares a set of the cache."""
    return math.log2(math.gcd(stride, 1024)) if stride else 0.0


def shape_of(tensor: Tensor | None) -> tuple[int, ...]:
    """The shape of a tensor, () where it is absent or unknown."""
    return () if tensor is None or tensor.shape is None else tensor.shape


def channels_first(operator: Operator, tensor: Tensor | None) -> tuple[int, ...]:
    """The shape of an image, its channels second, whatever layout the operator has it in."""
    shape = shape_of(tensor)
    last = attribute_int(operator, "channels_last") or operator.op_type.startswith("Nhwc")
    return (shape[0], shape[-1], *shape[1:-1]) if last and len(shape) > 2 else shape


def total_size(tensors: Iterable[Tensor | None]) -> int:
    """Elements of all tensors together."""
    return sum(math.prod(shape_of(tensor)) for tensor in tensors if tensor is not None)


def dtype_label(operator: Operator) -> str:
    """The type that decides which kernel runs: of the first input that is no index, else of the first output."""
    for tensor in (*operator.inputs, *operator.outputs):
        if tensor is not None and tensor.dtype is not DType.UNDEFINED:
            return tensor.dtype.label
    return DType.UNDEFINED.label


def attribute_ints(operator: Operator, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """A list of integers among the attributes."""
    value = operator.attributes.get(name)
    return tuple(int(item) for item in value) if isinstance(value, (tuple, list)) else tuple(default)


def attribute_int(operator: Operator, name: str, default: int = 0) -> int:
    """An integer among the attributes."""
    value = operator.attributes.get(name)
    return int(value) if isinstance(value, (int, float)) else default
