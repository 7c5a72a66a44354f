"""Tensors out of nothing: constants, ranges and random numbers."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import movement, rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator

movement("Constant", traffic="view", why="Part of the model: it lies in memory before a run.")
movement("ConstantOfShape", why="Writes one value to every place of its output.")


@rule("Range", family="generator")
@rule("Range", family="generator", domain="com.microsoft")
def range_(op: Operator) -> Counts:
    """A sequence of numbers with a constant step.

    Equation:
        Y[0] = start, Y[i] = Y[i - 1] + delta, for n = max(ceil((limit - start) / delta), 0) elements.
    Basic operations:
        n - 1 add: the first element is copied, every further one is one step on (equal to start + i * delta without
        its multiplication).
    Not counted:
        The number of elements, which is shape arithmetic.
    Example:
        start 3, limit 10, delta 2: 3, 5, 7, 9 is 4 elements, 3 add.
    Reference:
        ONNX operators: Range.
    """
    return Counts.of(dtype_of(op.output(0), "output"), add=max(size_of(op.output(0), "output") - 1, 0))


@rule("RandomUniform", "RandomUniformLike", family="generator", traffic="generated")
def random_uniform(op: Operator) -> Counts:
    """Uniform random numbers between two bounds.

    Equation:
        Y[i] = low + u[i] * (high - low), u uniform in [0, 1).
    Basic operations:
        Per element 1 mul (nothing if high - low is 1) and 1 add (nothing if low is 0).
    Not counted:
        The random generator itself, which works on bits and differs from runtime to runtime.
    Example:
        shape [2, 3], low -1, high 1: 6 mul and 6 add. With the defaults (0 and 1): 0.
    Reference:
        ONNX operators: RandomUniform, RandomUniformLike.
    """
    size = size_of(op.output(0), "output")
    low, high = op.attributes.get("low", 0.0), op.attributes.get("high", 1.0)
    return Counts.of(
        dtype_of(op.output(0), "output"), mul=size if high - low != 1.0 else 0, add=size if low != 0.0 else 0
    )


@rule("RandomNormal", "RandomNormalLike", family="generator", traffic="generated")
def random_normal(op: Operator) -> Counts:
    """Normal random numbers by the Box-Muller transform.

    Equation:
        r = sqrt(-2 * ln u1), t = 2 pi * u2, z1 = r * cos t, z2 = r * sin t; Y[i] = mean + scale * z[i].
    Basic operations:
        Per pair of elements 4 root (ln, sqrt, cos, sin) and 4 mul; a last odd element costs 3 root and 3 mul. Per
        element 1 mul (nothing if scale is 1) and 1 add (nothing if mean is 0).
    Not counted:
        The generator of the uniform numbers u1 and u2, which works on bits and differs from runtime to runtime.
    Example:
        shape [5], mean 1, scale 2: 2 pairs and 1 odd element are 11 root and 11 mul, then 5 mul and 5 add:
        11 root, 16 mul, 5 add.
    Reference:
        ONNX operators: RandomNormal, RandomNormalLike. Box and Muller, Ann. Math. Statist. 29 (1958).
    """
    size = size_of(op.output(0), "output")
    transform = 4 * (size // 2) + 3 * (size % 2)
    scaling = size if op.attributes.get("scale", 1.0) != 1.0 else 0
    shift = size if op.attributes.get("mean", 0.0) != 0.0 else 0
    return Counts.of(dtype_of(op.output(0), "output"), root=transform, mul=transform + scaling, add=shift)


@rule("Bernoulli", family="generator")
def bernoulli(op: Operator) -> Counts:
    """One biased coin per element.

    Equation:
        Y[i] = (u[i] < X[i]), u uniform in [0, 1).
    Basic operations:
        1 compare per element, in the type of the probabilities.
    Not counted:
        The random generator itself; writing the result as another type (movement).
    Example:
        X [2, 3]: 6 compare.
    Reference:
        ONNX operators: Bernoulli.
    """
    return Counts.of(dtype_of(op.input(0), "input"), compare=size_of(op.input(0), "input"))


@rule("Multinomial", family="generator")
def multinomial(op: Operator) -> Counts:
    """Samples of class numbers, by inversion of the cumulative distribution.

    Equation:
        m[b] = max_c X[b, c], P[b, c] = sum_{k <= c} exp(X[b, k] - m[b]); Y[b, s] is the first c with
        P[b, c] > u[b, s] * P[b, C - 1], u uniform in [0, 1).
    Basic operations:
        Per row of C classes C - 1 compare, C sub, C root, C - 1 add. Per sample 1 mul and ceil(log2 C) compare (the
        most that a binary search takes).
    Not counted:
        The random generator itself.
    Example:
        X [2, 4], sample_size 3: 2 * (3 compare, 4 sub, 4 root, 3 add) and 6 * (1 mul, 2 compare):
        18 compare, 8 sub, 8 root, 6 add, 6 mul.
    Reference:
        ONNX operators: Multinomial.
    """
    shape = shape_of(op.input(0), "input")
    if len(shape) != 2:
        raise ShapeError(f"Multinomial needs an input of shape [batch, class], not {list(shape)}")
    rows, classes = shape
    samples = math.prod(shape_of(op.output(0), "output")) if classes else 0
    steps = rows * max(classes - 1, 0)
    return Counts.of(
        dtype_of(op.input(0), "input"),
        compare=steps + samples * max(classes - 1, 0).bit_length(),
        sub=rows * classes,
        root=rows * classes,
        add=steps,
        mul=samples,
    )
