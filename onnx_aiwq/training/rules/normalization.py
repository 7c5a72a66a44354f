"""Gradients of normalisation layers. Saved by the forward pass: the standardised x^ and the divisor of every line."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import axis_index, dtype_of, lines_along, lines_from
from onnx_aiwq.operations.registry import shape_of, size_of
from onnx_aiwq.training.registry import backward
from onnx_aiwq.vocabulary import Counts, DType, Operator


def _standardized(dtype: DType, lines: int, n: int) -> Counts:
    """(h - mean(h) - x^ * mean(h * x^)) / sd of every line of n."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=2 * (n - 1), sub=2 * n, mul=2 * n, div=n + 2) * lines


def _root_mean_square(dtype: DType, lines: int, n: int) -> Counts:
    """(h - x^ * mean(h * x^)) / rms of every line of n."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=n - 1, sub=n, mul=2 * n, div=n + 1) * lines


def _affine(op: Operator, wanted: frozenset[int]) -> Counts:
    """h = g * scale (dX), dScale = sum of g * x^, dB = sum of g."""
    dtype, size = dtype_of(op.input(0)), size_of(op.input(0), "the input")
    total = Counts()
    if 0 in wanted:
        total += Counts.of(dtype, mul=size)
    if 1 in wanted:
        total += Counts.of(dtype, mul=size, add=max(size - size_of(op.input(1), "the scale"), 0))
    if 2 in wanted:
        total += Counts.of(dtype, add=max(size - size_of(op.input(2), "the bias"), 0))
    return total


def _stash_dtype(op: Operator) -> DType:
    number = op.attributes.get("stash_type")
    return dtype_of(op.input(0)) if number is None else DType.from_onnx(number)


@backward("LayerNormalization", "GroupNormalization", "InstanceNormalization")
def standardizing(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of layers that standardise lines of n, then scale and shift.

    Equation:
        h = g * scale; dX = (h - mean(h) - x^ * mean(h * x^)) / sd; dScale = sum of g * x^; dB = sum of g
    Basic operations:
        dX: 1 mul per element for h; per line 2n mul, 2(n - 1) add, n + 2 div, 2n sub at `stash_type`; dScale: size(X)
        mul, size(X) - size(Scale) add; dB: size(X) - size(B) add
    Not counted:
        casts to and from `stash_type`
    Example:
        LayerNormalization of X (2, 8), all wanted: mul = 16 + 32 + 16 = 64, add = 28 + 8 + 8 = 44, div = 20, sub = 32
    Reference:
        ONNX operators: LayerNormalization, GroupNormalization, InstanceNormalization
    """
    shape = shape_of(op.input(0), "the input")
    if op.op_type == "LayerNormalization":
        lines, n = lines_from(shape, op.attributes.get("axis", -1))
    else:
        lines = shape[0] * (op.attributes["num_groups"] if op.op_type == "GroupNormalization" else shape[1])
        n = math.prod(shape) // lines if lines else 0
    total = _affine(op, wanted)
    return total + (_standardized(_stash_dtype(op), lines, n) if 0 in wanted else Counts())


@backward("RMSNormalization", "SimplifiedLayerNormalization", inputs=[0, 1])
@backward("SimplifiedLayerNormalization", domain="com.microsoft", inputs=[0, 1])
def rms_normalization(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of a division by the root mean square of lines of n, then a scale.

    Equation:
        h = g * scale; dX = (h - x^ * mean(h * x^)) / rms; dScale = sum of g * x^
    Basic operations:
        dX: 1 mul per element for h; per line 2n mul, n - 1 add, n + 1 div, n sub at `stash_type`; dScale: size(X) mul,
        size(X) - size(scale) add
    Not counted:
        casts to and from `stash_type`
    Example:
        X (2, 8), both wanted: mul = 16 + 32 + 16 = 64, add = 14 + 8 = 22, div = 18, sub = 16
    Reference:
        ONNX operators: RMSNormalization
    """
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    total = _affine(op, wanted)
    return total + (_root_mean_square(_stash_dtype(op), lines, n) if 0 in wanted else Counts())


@backward("MeanVarianceNormalization")
def mean_variance_normalization(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of standardising over axes.

    Equation:
        dX = (g - mean(g) - x^ * mean(g * x^)) / sd
    Basic operations:
        per line of n: 2n mul, 2(n - 1) add, n + 2 div, 2n sub
    Not counted:
        nothing
    Example:
        X (1, 2, 2, 2), axes 0, 2, 3: 2 lines of 4: 16 mul, 12 add, 12 div, 16 sub
    Reference:
        ONNX operators: MeanVarianceNormalization
    """
    shape = shape_of(op.input(0), "the input")
    axes = {axis_index(axis, len(shape)) for axis in op.attributes.get("axes", (0, 2, 3))}
    n = math.prod(shape[axis] for axis in axes)
    lines = math.prod(extent for axis, extent in enumerate(shape) if axis not in axes)
    return _standardized(dtype_of(op.input(0)), lines, n)


@backward("BatchNormalization", inputs=[0, 1, 2])
def batch_normalization(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of one factor f and one offset per channel of m elements; mean and variance are no parameters.

    Equation:
        f = scale / sd and sd are saved. Inference (frozen statistics): dX = g * f; dB = sum(g);
        dScale = (sum(g * x) - mean * sum(g)) / sd. Training, with the deviations d = x - mean saved:
        dX = f * (g - mean(g) - d * (mean(g * d) / var)); dB = sum(g); dScale = sum(g * d) / sd
    Basic operations:
        inference: dX size(X) mul; dB or dScale m - 1 add per channel for sum(g); dScale size(X) mul and per channel
        m - 1 add, 1 mul, 1 sub, 1 div. Training, per channel: dX or dScale m mul, m - 1 add; m - 1 add for sum(g); dX
        2m mul, 2m sub, 3 div; dScale 1 div
    Not counted:
        nothing
    Example:
        inference, X (1, 2, 4), all wanted: mul = 8 + 8 + 2 = 18, add = 6 + 6 = 12, sub = 2, div = 2
    Reference:
        ONNX operators: BatchNormalization
    """
    size, channels = size_of(op.input(0), "the input"), size_of(op.input(1), "the scale")
    m = size // channels if channels else 0
    if m == 0:
        return Counts()
    data, scale = int(0 in wanted), int(1 in wanted)
    trains = op.attributes.get("training_mode", 0) or any(tensor is not None for tensor in op.outputs[1:])
    if not trains:
        sums = (m - 1) * (int(bool(wanted & {1, 2})) + scale)
        one = {"add": sums, "sub": scale, "mul": m * (data + scale) + scale, "div": scale}
    else:
        products = int(bool(wanted & {0, 1}))
        sums = (m - 1) * (int(bool(wanted & {0, 2})) + products)
        one = {"add": sums, "sub": 2 * m * data, "mul": m * (products + 2 * data), "div": 3 * data + scale}
    return Counts.of(dtype_of(op.input(0)), **one) * channels


@backward("LpNormalization")
def lp_normalization(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of a division by the norm of every line of n; the norm and the result y are saved.

    Equation:
        p = 2: dX = (g - y * sum(g * y)) / norm; p = 1: dX = (g - sign(x) * sum(g * y)) / norm
    Basic operations:
        per line n mul, n - 1 add, n sub, n div; p = 2 n mul more
    Not counted:
        the sign bit
    Example:
        X (2, 5), axis 1, p 2: 20 mul, 8 add, 10 sub, 10 div
    Reference:
        ONNX operators: LpNormalization
    """
    lines, n = lines_along(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    products = n if op.attributes.get("p", 2) == 1 else 2 * n
    return Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), sub=n, mul=products, div=n) * lines


@backward("LRN")
def local_response_normalization(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of y = x / d^beta, d = bias + alpha / size * sum of x^2 over `size` channels; d and d^beta are saved.

    Equation:
        dX[c] = g[c] / d[c]^beta - k * x[c] * sum over `size` channels j around c of (g[j] * y[j]) / d[j],
        k = 2 alpha beta / size
    Basic operations:
        per element 3 mul, 2 div, size - 1 add (dense window), 1 sub
    Not counted:
        k
    Example:
        X (1, 4, 1, 1), size 3: 12 mul, 8 div, 8 add, 4 sub
    Reference:
        ONNX operators: LRN
    """
    one = Counts.of(dtype_of(op.input(0)), add=op.attributes["size"] - 1, sub=1, mul=3, div=2)
    return one * size_of(op.input(0), "the input")
