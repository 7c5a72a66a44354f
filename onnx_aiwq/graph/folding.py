"""Elements of small tensors: shape arithmetic by numpy, with formulas too; the reference evaluator folds the rest."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_aiwq.symbolic import UndecidableError, at_least, at_most, simplified

Array = NDArray[Any]
_FAR = 2**63
# Operators whose elements are computed: arithmetic and rearrangement, at a cost and a size that their inputs bound.
# Products, windows, recurrences and whatever makes a tensor from numbers could take hours over a few small constants.
_FOLDED = """
    Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Compress Concat Constant
    ConstantOfShape CumSum DequantizeLinear Div DynamicQuantizeLinear Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg
    NonZero Not OneHot Or Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND
    Scatter Shape Sigmoid Sign Size Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unique
    Unsqueeze Where Xor
    """
FOLDED = frozenset(_FOLDED.split())


def evaluate(node: onnx.NodeProto, version: int, arrays: Sequence[Array | None]) -> list[Array]:
    """The outputs of one node of ai.onnx for known inputs; an empty list where they cannot be computed.

    Args:
        node: with its own attributes; names do not matter.
        version: opset version.
        arrays: one per input, None where an optional input is absent; object arrays hold formulas.
    """
    if any(array is not None and array.dtype.kind not in "biufcVO" for array in arrays):
        return []  # texts: a few nodes can double them beyond all memory
    if {"axis", "broadcast"} <= {attribute.name for attribute in node.attribute}:
        return []  # before opset 7 operands could meet at another axis than the last, which nobody here follows
    if any(array is not None and array.dtype == object for array in arrays):
        return _evaluate_formulas(node, arrays)
    return _evaluate_numbers(node, version, arrays)


def _evaluate_numbers(node: onnx.NodeProto, version: int, arrays: Sequence[Array | None]) -> list[Array]:
    try:
        with np.errstate(all="ignore"):  # a model may divide by zero as it likes
            results = _run_numpy(node, arrays) or _run_reference(node, version, arrays)
    except Exception as error:
        # Folding is an aid: an operator that the evaluator cannot run stays unfolded, with its inferred shape.
        logging.getLogger(__name__).debug("folding %s: %s", node.op_type, error)
        return []
    arrays_out = [np.asarray(result) for result in results]
    return [] if any(array.dtype.kind in "OSTU" for array in arrays_out) else arrays_out


def _run_numpy(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> list[Array]:
    """The output of the operators that shape arithmetic is made of; an empty list for what is not among them.

    Importing the reference evaluator takes longer than all else that most models need.
    """
    function = _BY_NUMPY.get(node.op_type)
    if function is None or any(array is not None and array.dtype not in _PLAIN for array in arrays):
        return []
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    try:
        return [np.asarray(function(attributes, *arrays))]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return []  # the reference evaluator says whether it is one


def _run_reference(node: onnx.NodeProto, version: int, arrays: Sequence[Array | None]) -> list[Any]:
    from onnx.reference import ReferenceEvaluator

    names = ["" if array is None else f"i{index}" for index, array in enumerate(arrays)]
    outputs = [f"o{index}" for index in range(len(node.output))]
    alone = onnx.NodeProto(op_type=node.op_type, input=names, output=outputs, attribute=node.attribute)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    graph = onnx.GraphProto(
        node=[alone],
        input=[onnx.ValueInfoProto(name=name) for name in feeds],
        output=[onnx.ValueInfoProto(name=name) for name in outputs],
    )
    model = onnx.ModelProto(graph=graph, ir_version=8, opset_import=[onnx.helper.make_opsetid("", version)])
    results: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    return results


def _evaluate_formulas(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> list[Array]:
    function = _BY_FORMULA.get(node.op_type)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if function is None or arrays[0] is None:
        return []
    try:
        result = function(attributes, *arrays)
        results = result if isinstance(result, list) else [result]
        return [_narrowed(np.asarray(each)) for each in results]
    except (UndecidableError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Needs the value of a formula, or does not fit its operator: it stays unfolded, with its inferred shape.
        logging.getLogger(__name__).debug("folding %s: %s", node.op_type, error)
        return []


def _narrowed(array: Array) -> Array:
    """An int64 array where no formula is left among the elements."""
    if array.dtype != object:
        return array
    flat = [simplified(element) for element in array.reshape(-1)]
    if any(isinstance(element, int) and not -_FAR <= element < _FAR for element in flat):
        raise OverflowError("more than 63 bits, which a runtime cuts off")
    if all(isinstance(element, int | np.integer | np.bool_) for element in flat):
        is_truth = bool(flat) and all(isinstance(element, bool | np.bool_) for element in flat)
        return np.asarray(flat, dtype=bool if is_truth else np.int64).reshape(array.shape)
    narrowed = np.empty(len(flat), dtype=object)
    narrowed[:] = flat
    return narrowed.reshape(array.shape)


# Of these the elements decide how large the result is: without a known shape they are not computed.
SIZED_BY_NUMBERS = frozenset({"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Tile"})

Attributes = Mapping[str, Any]


def _elementwise(function: Callable[..., Any]) -> Callable[..., Array]:
    """Apply a function of numbers element by element, with numpy's broadcasting."""

    def apply(_: Attributes, *operands: Array) -> Array:
        several = np.broadcast_arrays(*operands)
        flat = [function(*elements) for elements in zip(*(each.reshape(-1) for each in several), strict=True)]
        result = np.empty(len(flat), dtype=object)
        result[:] = flat
        return result.reshape(several[0].shape)

    return apply


def _divided(left: Any, right: Any) -> Any:
    """Integer division as ONNX defines it, truncated towards zero, where the signs are known."""
    if isinstance(left, float | np.floating) or isinstance(right, float | np.floating):
        raise TypeError("a quotient of real numbers is no formula")
    if right < 0:
        left, right = -left, -right
    try:
        down = left >= 0
    except UndecidableError:
        down = not left <= 0  # zero or less is known as well
    return left // right if down else -(-left // right)


def _modulo(attributes: Attributes, left: Array, right: Array) -> Array:
    """The remainder with the sign of the divisor, as in Python; that of fmod has the sign of the dividend."""
    if attributes.get("fmod", 0):
        return _elementwise(lambda a, b: a - _divided(a, b) * b)(attributes, left, right)
    return _elementwise(lambda a, b: a % b)(attributes, left, right)


def _folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """A function of any number of values from one of two."""
    return lambda first, *others: functools.reduce(function, others, first)


def _gather(attributes: Attributes, data: Array, indices: Array) -> Array:
    return np.take(data, indices.astype(np.int64), axis=attributes.get("axis", 0))


def _concat(attributes: Attributes, *parts: Array) -> Array:
    return np.concatenate([part.astype(object) for part in parts], axis=attributes["axis"])


def _axes(attributes: Attributes, axes: Array | None) -> list[int]:
    given = attributes.get("axes") if axes is None else axes.reshape(-1)
    return [] if given is None else [int(axis) for axis in given]


def _unsqueeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    if axes is None and "axes" not in attributes:
        raise TypeError("no axes")
    return np.expand_dims(data, tuple(_axes(attributes, axes)))


def _squeeze(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
    return np.squeeze(data, tuple(_axes(attributes, axes)) or None)


def _slice(attributes: Attributes, data: Array, *bounds: Array | None) -> Array:
    given: list[Any] = list(bounds) or [attributes["starts"], attributes["ends"], attributes.get("axes")]
    starts, ends = ([int(value) for value in np.asarray(each).reshape(-1)] for each in given[:2])
    axes = range(len(starts)) if len(given) < 3 or given[2] is None else [int(a) for a in np.asarray(given[2])]
    steps = [1] * len(starts) if len(given) < 4 or given[3] is None else [int(s) for s in np.asarray(given[3])]
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # A reversed slice that ends before the first element is written with the most negative integer.
        index[axis] = slice(start, None if step < 0 and end <= -data.shape[axis] - 1 else end, step)
    return data[tuple(index)]


def _split(attributes: Attributes, data: Array, sizes: Array | None = None) -> list[Array]:
    if sizes is None:
        raise ValueError("split into parts of unknown sizes")
    return np.split(data, np.cumsum(sizes.astype(np.int64))[:-1], axis=attributes.get("axis", 0))


def _reshape(attributes: Attributes, data: Array, shape: Array) -> Array:
    sizes = [int(size) for size in shape]
    if not attributes.get("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


def _reduced(function: Callable[[list[Any]], Any]) -> Callable[..., Array]:
    def reduce(attributes: Attributes, data: Array, axes: Array | None = None) -> Array:
        if data.ndim != 1:
            raise ValueError("only vectors are reduced by formula")
        if not _axes(attributes, axes) and attributes.get("noop_with_empty_axes", 0):
            return data
        keep = attributes.get("keepdims", 1)
        result = np.empty((1,) if keep else (), dtype=object)
        result[...] = function(list(data))
        return result

    return reduce


def _expand(_: Attributes, data: Array, shape: Array) -> Array:
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(int(size) for size in shape)))


def _unchanged(_: Attributes, data: Array, *__: Array) -> Array:
    return data


def _filled(attributes: Attributes, shape: Array) -> Array:
    """The output of ConstantOfShape: its one value, a float zero unless given, in the shape that the input holds."""
    value = attributes.get("value")
    fill: Array = np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)
    return np.full(tuple(shape.tolist()), fill.item(), fill.dtype)


def _cast(attributes: Attributes, data: Array) -> Array:
    if attributes["to"] not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        raise TypeError("a formula is cast to integers only")
    return data


def _alike(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """A function of numpy for operands of one type, which ONNX asks for and numpy does not."""

    def apply(_: Attributes, *operands: Array) -> Array:
        if len({operand.dtype for operand in operands}) != 1:
            raise TypeError("operands of several types")
        return functools.reduce(function, operands)

    return apply


def _where(_: Attributes, condition: Array, left: Array, right: Array) -> Array:
    if left.dtype != right.dtype:
        raise TypeError("operands of several types")
    return np.where(condition, left, right)


def _whole_cast(attributes: Attributes, data: Array) -> Array:
    if data.dtype.kind == "f":
        raise TypeError("real numbers may not fit")
    return data.astype(_PLAIN_BY_NUMBER[attributes["to"]])


def _range(_: Attributes, start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start.item(), limit.item(), delta.item()).astype(start.dtype)


_PLAIN_BY_NUMBER = {
    onnx.TensorProto.BOOL: np.dtype(np.bool_),
    onnx.TensorProto.INT32: np.dtype(np.int32),
    onnx.TensorProto.INT64: np.dtype(np.int64),
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
}
_PLAIN = frozenset(_PLAIN_BY_NUMBER.values())
_BY_NUMPY: dict[str, Callable[..., Any]] = {
    "Add": _alike(np.add),
    "Sub": _alike(np.subtract),
    "Mul": _alike(np.multiply),
    "Max": _alike(np.maximum),
    "Min": _alike(np.minimum),
    "And": _alike(np.logical_and),
    "Or": _alike(np.logical_or),
    "Equal": _alike(np.equal),
    "Less": _alike(np.less),
    "Greater": _alike(np.greater),
    "LessOrEqual": _alike(np.less_equal),
    "GreaterOrEqual": _alike(np.greater_equal),
    "Where": _where,
    "Cast": _whole_cast,
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _unchanged,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": lambda _, data, repeats: np.tile(data, repeats),
    "Transpose": lambda attributes, data: np.transpose(data, attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
}
_BY_FORMULA: dict[str, Callable[..., Any]] = {
    "Add": _elementwise(lambda left, right: left + right),
    "Sub": _elementwise(lambda left, right: left - right),
    "Mul": _elementwise(lambda left, right: left * right),
    "Div": _elementwise(_divided),
    "Mod": _modulo,
    "Neg": _elementwise(lambda value: -value),
    "Max": _elementwise(_folded(at_least)),
    "Min": _elementwise(_folded(at_most)),
    "Equal": _elementwise(lambda left, right: left == right or (left - right != 0 and not bool(left - right))),
    "Less": _elementwise(lambda left, right: left < right),
    "Greater": _elementwise(lambda left, right: left > right),
    "LessOrEqual": _elementwise(lambda left, right: left <= right),
    "GreaterOrEqual": _elementwise(lambda left, right: left >= right),
    "Where": _elementwise(lambda condition, left, right: left if condition else right),
    "Cast": _cast,
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _unchanged,
    "ReduceMax": _reduced(lambda values: functools.reduce(at_least, values)),
    "ReduceMin": _reduced(lambda values: functools.reduce(at_most, values)),
    "ReduceProd": _reduced(lambda values: math.prod(values)),
    "ReduceSum": _reduced(lambda values: sum(values)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
