"""Which operators no cost rule can tell apart: what a graph repeats is counted once.

A rule is a pure function of types, shapes, attributes and small known elements. Operators that agree in all of them,
and in which of their tensors are one tensor, cost the same; names alone differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from onnx_aiwq.vocabulary import Operator, Tensor

Likeness: TypeAlias = tuple[object, ...]
_MOST_BYTES = 4096  # of the elements of one tensor or attribute; operators with more are compared with no other


_SCALARS = (int, float, str, bytes)


class _IncomparableError(Exception):
    """Elements that are too many, or of a kind that is not compared."""


def likeness(operator: Operator) -> Likeness | None:
    """A value that is equal for operators of equal cost; None for an operator that is compared with no other.

    Dimensions have to be numbers: formulas may be equal only where some assumption holds.
    """
    tensors = (*operator.inputs, *operator.outputs)
    names = [tensor.name for tensor in tensors if tensor is not None]
    places = None if len(set(names)) == len(names) else _places(names)
    try:
        return (
            operator.op_type,
            operator.domain,
            operator.version,
            operator.repeats,
            operator.constant,
            operator.bound,
            len(operator.inputs),
            tuple([None if tensor is None else _kind(tensor) for tensor in tensors]),
            places,
            _settings(operator.attributes) if operator.attributes else (),
        )
    except _IncomparableError:
        return None


def _places(names: Sequence[str]) -> tuple[int, ...]:
    """For each tensor the place where it is met first."""
    first: dict[str, int] = {}
    return tuple([first.setdefault(name, place) for place, name in enumerate(names)])


def _kind(tensor: Tensor) -> Likeness:
    value = None if tensor.value is None else _elements(tensor.value)
    return tensor.dtype, tensor.shape, tensor.constant, tensor.quantized, value


def _settings(attributes: Mapping[str, Any]) -> Likeness:
    return tuple(
        [
            (name, type(value), _elements(value) if isinstance(value, np.ndarray) else _typed(value))
            for name, value in attributes.items()
        ]
    )


def _typed(value: object) -> object:
    """A value together with the types of its items: 1, 1.0 and True are equal, and not the same to a rule."""
    if isinstance(value, tuple):
        return value, tuple(map(type, value))
    if value is None or isinstance(value, _SCALARS):
        return value
    raise _IncomparableError


def _elements(value: np.ndarray[Any, Any]) -> Likeness:
    if value.dtype == object or value.nbytes > _MOST_BYTES:
        raise _IncomparableError
    return value.dtype.str, value.shape, value.tobytes()
