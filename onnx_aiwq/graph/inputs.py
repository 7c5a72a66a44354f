"""Run-time inputs: their types and shapes, with symbols bound by `--bind` and `--shape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

from onnx_aiwq.errors import ShapeError, suggestion
from onnx_aiwq.graph.entries import ONNX_NUMBERS, Entry, known_entry, typed_entry
from onnx_aiwq.graph.sequences import typed_value
from onnx_aiwq.graph.symbols import OversizeError, Symbols, one_line, require_size

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def input_entries(
    graph: onnx.GraphProto,
    symbols: Symbols,
    shapes: Mapping[str, Sequence[int]],
    values: Mapping[str, ArrayLike],
) -> dict[str, Entry]:
    """Entries of the run-time inputs.

    An input with a default (an initializer of its name) is constant, unless the caller gives it a shape or a value.

    Args:
        graph: the main graph.
        symbols: gets the bindings that follow from shapes.
        shapes: as given by the user; of a sequence or an optional, the shape of the tensors in it.
        values: as given by the user.
    """
    declared = {value.name: value for value in graph.input}
    defaults = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    inputs = {name: value for name, value in declared.items() if name not in defaults or name in {*shapes, *values}}
    for option, given in (("--shape", shapes), ("values", values)):
        for name in given:
            if name not in inputs:
                listed = one_line(", ".join(inputs)) or "none"
                raise ShapeError(
                    f"{option} {name}: the model has no input of this name (its inputs: {listed});"
                    f"{suggestion(name, inputs) or ' name one of these'}"
                )
    for name, shape in shapes.items():
        _bind_by_shape("--shape", inputs[name], shape, symbols)
    arrays = {name: _array(inputs[name], value) for name, value in values.items()}
    for name, array in arrays.items():
        _bind_by_shape("values", inputs[name], array.shape, symbols)
    return {name: _input_entry(info, symbols, shapes.get(name), arrays.get(name)) for name, info in inputs.items()}


def _array(info: onnx.ValueInfoProto, value: ArrayLike) -> NDArray[Any]:
    number = info.type.tensor_type.elem_type
    try:
        dtype = ir.DataType(number).numpy() if number in ONNX_NUMBERS and number else None
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        reason = one_line(str(error))
        raise ShapeError(
            f"values {info.name}: not the elements of a tensor of this type ({reason}); "
            f"give a rectangular array of numbers, for example {info.name}=[1, 3]"
        ) from error


def _tensor_type(kind: onnx.TypeProto) -> onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor:
    """The type of the tensors in a sequence or an optional; that of a tensor itself, sparse or not."""
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.sparse_tensor_type if kind.HasField("sparse_tensor_type") else kind.tensor_type


def _bind_by_shape(option: str, info: onnx.ValueInfoProto, shape: Sequence[int], symbols: Symbols) -> None:
    if any(isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 0 for dim in shape):
        raise ShapeError(
            f"{option} {info.name}: dimensions are non-negative integers, for example {info.name}=1,3,224,224"
        )
    tensor_type = _tensor_type(info.type)
    if not tensor_type.HasField("shape"):
        return
    dims = tensor_type.shape.dim
    given = "[" + ", ".join(map(str, shape)) + "]"
    named = ", ".join(str(dim.dim_value) if _is_fixed(dim) else dim.dim_param or "?" for dim in dims)
    declared = f"[{one_line(named)}]"
    if len(dims) != len(shape):
        raise ShapeError(
            f"{option} {info.name}={given}: the input has {len(dims)} dimensions {declared}, not {len(shape)}; "
            f"give {len(dims)} numbers"
        )
    for dim, size in zip(dims, shape, strict=True):
        if _is_fixed(dim) and dim.dim_value != size:
            raise ShapeError(
                f"{option} {info.name}={given}: the file fixes the shape to {declared}; "
                "give these values, or export the model with dynamic dimensions"
            )
        if not _is_fixed(dim) and dim.dim_param:
            bound = symbols.bound.setdefault(dim.dim_param, int(size))
            if bound != size:
                raise ShapeError(
                    f"{option} {info.name}={given}: dimension {dim.dim_param!r} is already bound to {bound}; "
                    "make the bindings agree"
                )


def _is_fixed(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def _input_entry(
    info: onnx.ValueInfoProto, symbols: Symbols, given: Sequence[int] | None, value: NDArray[Any] | None
) -> Entry:
    tensor_type = _tensor_type(info.type)
    if given is None and value is not None:
        given = value.shape
    dims: list[int] | None = None
    dynamic = True
    if tensor_type.HasField("shape"):
        dynamic = not all(_is_fixed(dim) for dim in tensor_type.shape.dim)
        dims = [
            # A dimension without a name gets one, so that it can be bound.
            dim.dim_value
            if _is_fixed(dim)
            else _resolve(symbols, dim.dim_param or f"{info.name}_dim{axis}", given, axis)
            for axis, dim in enumerate(tensor_type.shape.dim)
        ]
    elif given is not None:
        dims = [int(size) for size in given]
    _require_size(info.name, dims or ())
    if info.type.WhichOneof("value") not in ("tensor_type", "sparse_tensor_type"):
        return typed_value(info.name, info.type, dims)
    entry = typed_entry(info.name, tensor_type.elem_type, dims)
    if value is not None:
        entry = known_entry(info.name, tensor_type.elem_type, value)
        entry.constant, entry.origins = False, frozenset()
    entry.dynamic = dynamic
    return entry


def _require_size(name: str, dims: Sequence[int]) -> None:
    try:
        require_size(dims)
    except OversizeError as error:
        raise ShapeError(f"input {name!r} {error}; check its shape, and what --bind and --shape give it") from error


def _resolve(symbols: Symbols, name: str, given: Sequence[int] | None, axis: int) -> int:
    if given is not None:
        symbols.bound.setdefault(name, int(given[axis]))
    return symbols.resolve(name)
