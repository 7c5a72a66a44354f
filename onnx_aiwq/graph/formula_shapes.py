"""Shape rules for dimensions that are formulas, where the libraries take for granted what only a number can tell.

They hold for every value of the symbols: a slice may end behind the tensor, broadcasting may stretch either operand,
and a pooling window that starts in the padding is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx_aiwq.graph.own_shapes import TO_THE_END, Facts, Open, OutputShape, Typed
from onnx_aiwq.graph.windows import transposed_windows, windows
from onnx_aiwq.symbolic import Dim, Formula, at_least, at_most

_FAR = 2**31 - 1  # exporters write the largest integer for "to the end"


def infer(op_type: str, facts: Facts) -> Sequence[OutputShape]:
    """Shapes of the outputs of an operator of ai.onnx; nothing where all dimensions are numbers, or no rule is."""
    rule = _RULES.get(op_type)
    if rule is None or not any(
        isinstance(dim, Formula) for index in range(len(facts.inputs)) for dim in facts.shape(index) or ()
    ):
        return ()
    return rule(facts)


def _dim(value: Dim) -> int:
    return value  # type: ignore[return-value]  # formulas stand for ints in shapes


def _broadcast(facts: Facts) -> Sequence[OutputShape]:
    shapes = [facts.shape(index) for index in range(len(facts.inputs))]
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or facts.attributes.get("broadcast") or facts.version < 7:
        return ()
    rank = max(map(len, known))
    padded = [(1,) * (rank - len(shape)) + shape for shape in known]
    return [[_broadcast_dim(dims) for dims in zip(*padded, strict=True)]]


def _broadcast_dim(dims: Sequence[int]) -> int:
    numbers = {dim for dim in dims if isinstance(dim, int)} - {1}
    if numbers:
        return max(numbers)  # the others are the same or one
    result: Dim = 1
    for dim in dict.fromkeys(dims):
        result = dim if result == 1 else result if dim == 1 else at_least(result, dim)
    return _dim(result)


def _slice(facts: Facts) -> Sequence[OutputShape]:
    shape, count = facts.shape(0), facts.shape(1)
    if shape is None or (count and count[0] > len(shape)):
        return ()
    starts, ends = facts.integers(1), facts.integers(2)
    steps = facts.integers(4) if facts.has(4) else [1] * (count[0] if count else 0)
    axes = facts.integers(3) if facts.has(3) else list(range(count[0] if count else 0))
    if facts.version < 10 or starts is None or ends is None or axes is None or steps is None:
        return ()
    dims: list[int | Open] = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dims[axis] = _slice_length(shape[axis], start, end, step)
    return [dims]


def _slice_length(size: Dim, start: int, end: int, step: int) -> int | Open:
    if step > 0:
        length = at_least(_clamped(size, end) - _clamped(size, start), 0)
    elif (start == -1 or start >= _FAR) and (end <= -_FAR or end in TO_THE_END):
        length = size  # the whole axis, reversed
    else:
        return Open(_dim(size))
    return _dim(-(-length // abs(step)))


def _clamped(size: Dim, bound: int) -> Dim:
    if bound >= _FAR:
        return size
    if bound <= -_FAR:
        return 0
    return at_least(size + bound, 0) if bound < 0 else at_most(size, bound)


def _split(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    parts = facts.attributes.get("num_outputs")
    if shape is None or facts.has(1) or facts.attributes.get("split"):
        return ()
    axis = facts.attributes.get("axis", 0)
    if parts is None:
        return [_replaced(shape, axis, _dim(shape[axis] // facts.outputs)) for _ in range(facts.outputs)]
    each = -(-shape[axis] // parts)
    rest = shape[axis] - each * (parts - 1)
    return [_replaced(shape, axis, each if index < parts - 1 else rest) for index in range(parts)]


def _squeeze(facts: Facts) -> Sequence[OutputShape]:
    if facts.has(1) or facts.attributes.get("axes"):
        return ()
    return [Typed(facts.number(0), None)]  # which axes are left out depends on which symbols are one


def _replaced(shape: Sequence[int], axis: int, size: int) -> list[int]:
    dims = list(shape)
    dims[axis] = size
    return dims


def _pool(facts: Facts) -> Sequence[OutputShape]:
    shape, kernel = facts.shape(0), facts.attributes.get("kernel_shape")
    if shape is None or not facts.attributes.get("ceil_mode") or not kernel:
        return ()
    result = [*shape[:2], *windows(shape[2:], kernel, facts.attributes)]
    return [result, result]


def _conv_transpose(facts: Facts) -> Sequence[OutputShape]:
    shape, weights, given = facts.shape(0), facts.shape(1), facts.attributes
    if shape is None or weights is None or given.get("output_shape"):
        return ()
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return ()
    kernel = given.get("kernel_shape") or weights[2:]
    return [[shape[0], weights[1] * given.get("group", 1), *transposed_windows(shape[2:], kernel, given)]]


def _resize(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None or facts.attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch":
        return ()
    axes = {axis % len(shape) for axis in facts.attributes.get("axes") or range(len(shape))}
    return [[Open() if axis in axes else size for axis, size in enumerate(shape)]]


_BROADCASTING = (
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"),
    *("Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
)
_RULES: dict[str, Callable[[Facts], Sequence[OutputShape]]] = {
    **dict.fromkeys(_BROADCASTING, _broadcast),
    "AveragePool": _pool,
    "ConvTranspose": _conv_transpose,
    "LpPool": _pool,
    "MaxPool": _pool,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
}
