"""Operators that move elements: their gradients move back, and add up where one element went to several places."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import find_rule, size_of
from onnx_aiwq.training.registry import backward, gradient_moves, gradient_stops
from onnx_aiwq.vocabulary import BasicOp, Counts, Operator

gradient_moves(
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "CastLike", "SpaceToDepth", "DepthToSpace"),
    *("ReverseSequence", "Trilu", "Compress", "Col2Im", "MaxUnpool", "TopK"),
    inputs=[0],
    why="Every element went to one place at most: its gradient comes back from there, or is zero.",
)
gradient_moves(
    *("QuantizeLinear", "DequantizeLinear"),
    inputs=[0],
    why="Straight-through estimator: the gradient passes a pair of them as if nothing were rounded, and is zero where "
    "the forward pass saturated, which it saved. Scales and zero points are not trained.",
)
gradient_moves("Identity", "Concat", why="Every element went to one place: its gradient comes back from there.")
gradient_moves(
    *("Split", "Slice", "CenterCropPad"),
    inputs=[0],
    accumulation="selected",
    why="Every element went to one place at most; the gradient of what was not selected is zero.",
)
gradient_stops(
    *("Shape", "Size", "ConstantOfShape", "Range", "EyeLike", "OneHot", "NonZero", "ArgMax", "ArgMin", "Unique"),
    *("NonMaxSuppression", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"),
    *("Multinomial", "Constant"),
    why="The result does not depend on the values of the input, or only through positions.",
)


@backward("Expand", "Tile", inputs=[0], saves="nothing")
def repeat(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradients of all copies of an element are added.

    Equation:
        dX[i] = sum of g over all places that X[i] was copied to
    Basic operations:
        size(Y) - size(X) add
    Not counted:
        nothing
    Example:
        X (2, 1) to Y (2, 5): 8 add
    Reference:
        ONNX operators: Expand, Tile
    """
    copies = size_of(op.output(0), "the output") - size_of(op.input(0), "the input")
    return Counts.of(dtype_of(op.input(0)), add=max(copies, 0))


@backward("Pad", inputs=[0], saves="nothing")
def pad(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient without the padding; padding that repeats elements adds its gradients to theirs.

    Equation:
        constant: dX = g, cropped; edge, reflect, wrap: the gradient of each padding element is added to its source
    Basic operations:
        constant: nothing; else size(Y) - size(X) add
    Not counted:
        the crop
    Example:
        X (2, 3) padded to (2, 5), reflect: 4 add; constant: 0
    Reference:
        ONNX operators: Pad
    """
    if op.attributes.get("mode", "constant") == "constant":
        return Counts()
    copies = size_of(op.output(0), "the output") - size_of(op.input(0), "the input")
    return Counts.of(dtype_of(op.input(0)), add=max(copies, 0))


@backward("Gather", "GatherElements", "GatherND", inputs=[0], saves="nothing", accumulation="itself")
def gather(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient of every gathered element is added at its place (scatter-add).

    Equation:
        dX = 0; dX[indices[i]] += g[i]
    Basic operations:
        size(Y) add, whether or not indices repeat (they are not known before a run)
    Not counted:
        filling with zero; addressing
    Example:
        table (100, 8), 5 indices: 40 add
    Reference:
        ONNX operators: Gather, GatherElements, GatherND
    """
    return Counts.of(dtype_of(op.input(0)), add=size_of(op.output(0), "the output"))


@backward("Scatter", "ScatterElements", "ScatterND", inputs=[0, 2], saves="nothing")
def scatter(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient of what was overwritten is zero, that of the updates is gathered.

    Equation:
        dX = g, zero at the indices (reduction add: g); dupdates[i] = g[indices[i]]
    Basic operations:
        nothing; the reductions mul, max and min are not counted and reported
    Not counted:
        gathering
    Example:
        X [4, 4], updates [2, 4], reduction none: 0
    Reference:
        ONNX operators: ScatterElements, ScatterND
    """
    reduction = op.attributes.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise ShapeError(f"the gradient of {op.op_type} with reduction {reduction!r} is not counted")
    return Counts()


@backward("Resize", "Upsample", inputs=[0], saves="nothing")
def resize(op: Operator, wanted: frozenset[int]) -> Counts:
    """Every weighted neighbour of an output element gets its share of the gradient.

    Equation:
        dX = 0; dX[t] += w[o, t] * g[o] for the T taps t of every output element o; nearest: dX[t] = sum of its g
    Basic operations:
        linear, cubic: T size(Y) mul, T size(Y) add; nearest: size(Y) - size(X) add where Y is larger
    Not counted:
        the weights w, which depend on sizes alone
    Example:
        X [1, 1, 2, 2] to Y [1, 1, 4, 4], linear: 64 mul, 64 add; nearest: 12 add
    Reference:
        ONNX operators: Resize, Upsample
    """
    rule = find_rule(op.op_type, op.domain, op.version)
    forward = rule.function(op) if rule is not None and rule.function is not None else Counts()
    products = forward.total(BasicOp.MUL)
    sums = products or max(size_of(op.output(0), "the output") - size_of(op.input(0), "the input"), 0)
    return Counts.of(dtype_of(op.input(0)), add=sums, mul=products)


def _overlaps(op: Operator) -> bool:
    """Whether an input element may lie in several windows."""
    kernel = op.attributes["kernel_shape"]
    strides = op.attributes.get("strides") or (1,) * len(kernel)
    return any(size > stride for size, stride in zip(kernel, strides, strict=True))


@backward("MaxPool", inputs=[0], saves="nothing")
def max_pool(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient goes to where the maximum was; windows that overlap add.

    Equation:
        dX = 0; dX[argmax(o)] += g[o]
    Basic operations:
        size(Y) add where the kernel is larger than the stride in any dimension, else nothing
    Not counted:
        the positions, which the forward pass saved; filling with zero
    Example:
        Y[1, 2, 2, 2], kernel 3, stride 2: 8 add; kernel 2, stride 2: 0
    Reference:
        ONNX operators: MaxPool
    """
    return Counts.of(dtype_of(op.input(0)), add=size_of(op.output(0), "the output") if _overlaps(op) else 0)


@backward("AveragePool", inputs=[0], saves="nothing")
def average_pool(op: Operator, wanted: frozenset[int]) -> Counts:
    """Every element of a window gets its share of the gradient; windows that overlap add.

    Equation:
        dX = 0; dX[t] += g[o] * (1/k) for the k taps t of window o
    Basic operations:
        size(Y) mul (k > 1); k size(Y) add where the kernel is larger than the stride in any dimension
    Not counted:
        1/k; filling with zero
    Example:
        Y[1, 2, 2, 2], kernel 2x2, stride 2: 8 mul; stride 1: 8 mul, 32 add
    Reference:
        ONNX operators: AveragePool
    """
    results, taps = size_of(op.output(0), "the output"), math.prod(op.attributes["kernel_shape"])
    adds = results * taps if _overlaps(op) else 0
    return Counts.of(dtype_of(op.input(0)), add=adds, mul=results if taps > 1 else 0)


gradient_moves(
    "GlobalMaxPool", "ReduceMax", "ReduceMin", inputs=[0], why="The gradient goes to where the extremum was."
)
