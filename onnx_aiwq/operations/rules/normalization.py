"""Normalisation layers of ONNX. Conventions: see `operations.standardizing`."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import asked_for, axis_index, dtype_of, lines_along, lines_from, power
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.operations.standardizing import (
    root_mean_square_scaled,
    scale_and_shift,
    standardized,
    standardized_groups,
    stash_dtype,
)
from onnx_aiwq.vocabulary import Counts, DType, Operator


@rule("BatchNormalization", family="normalization")
def batch_normalization(op: Operator) -> Counts:
    """One factor and one offset per channel; the statistics are counted where they are not constant.

    Equation:
        Y[n, c, ...] = X[n, c, ...] * f[c] + (B[c] - mean[c] * f[c]), f[c] = scale[c] / sqrt(var[c] + epsilon)
    Basic operations:
        inference: size(X) mul + size(X) add; unless scale, B, mean and var are all constant (then f and the offset are
        folded) per channel: 1 add, 1 root, 1 div, 1 mul, 1 sub. Training (`training_mode`, before opset 14 more than
        one output), per channel of m elements: mean m-1 add, 1 div; deviations m sub; variance m mul, m-1 add, 1 div;
        f 1 add, 1 root, 1 div; m mul + m add; each running statistic that is asked for 2 mul, 1 add
    Not counted:
        folded constants; 1 - momentum
    Example:
        inference, X (1, 64, 56, 56), constant statistics: 200704 mul, 200704 add
    Reference:
        ONNX operators: BatchNormalization; TO convention, table 1.2
    """
    dtype, size = dtype_of(op.input(0)), size_of(op.input(0), "the input")
    channels = size_of(op.input(1), "the scale")
    applied = Counts.of(dtype, add=size, mul=size)
    statistics = [tensor for tensor in op.outputs[1:] if tensor is not None]
    if not op.attributes.get("training_mode", 0) and not statistics:
        if all(tensor is not None and tensor.constant for tensor in op.inputs[1:5]):
            return applied
        return applied + Counts.of(dtype, add=1, sub=1, mul=1, div=1, root=1) * channels
    if size == 0:
        return Counts()
    m = size // channels
    running = min(len(statistics), 2)
    one = Counts.of(dtype, add=2 * m - 1 + running, sub=m, mul=m + 2 * running, div=3, root=1)
    return applied + one * channels


@rule("LayerNormalization", family="normalization")
def layer_normalization(op: Operator) -> Counts:
    """Standardise the trailing axes, then scale and shift.

    Equation:
        Y[l, i] = (X[l, i] - mean[l]) / sqrt(var[l] + epsilon) * Scale[i] + B[i], i over the axes from `axis` on
    Basic operations:
        per line of n: 2n - 1 add, n sub, n mul, n + 2 div, 1 root at `stash_type`; then n mul (Scale) and n add (B, if
        present) at the type of X; 1 div per line if InvStdDev is asked for
    Not counted:
        casts to and from `stash_type`
    Example:
        X (2, 8), axis -1, with B: 30 + 16 add, 16 sub, 16 + 16 mul, 20 div, 2 root
    Reference:
        ONNX operators: LayerNormalization; TO convention, table 1.2
    """
    dtype = stash_dtype(op)
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    inverse = Counts.of(dtype, div=lines if asked_for(op, 2) else 0)
    return standardized(dtype, lines, n) + scale_and_shift(op, 1, 2) + inverse


@rule("RMSNormalization", "SimplifiedLayerNormalization", family="normalization")
@rule("SimplifiedLayerNormalization", family="normalization", domain="com.microsoft")
def rms_normalization(op: Operator) -> Counts:
    """Divide the trailing axes by their root mean square, then scale.

    Equation:
        Y[l, i] = X[l, i] / sqrt(mean(X[l, :]^2) + epsilon) * scale[i], i over the axes from `axis` on
    Basic operations:
        per line of n: n mul, n add, n + 1 div, 1 root at `stash_type`; then n mul at the type of X; 1 div per line if
        the inverse is asked for (second output of SimplifiedLayerNormalization)
    Not counted:
        casts to and from `stash_type`
    Example:
        X (2, 8), axis -1: 16 + 16 mul, 16 add, 18 div, 2 root
    Reference:
        ONNX operators: RMSNormalization; onnxruntime contrib operators: SimplifiedLayerNormalization
    """
    dtype = DType.from_onnx(op.attributes.get("stash_type", 1))
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    inverse = Counts.of(dtype, div=lines if asked_for(op, 1) else 0)
    return root_mean_square_scaled(dtype, lines, n) + scale_and_shift(op, 1, None) + inverse


@rule("InstanceNormalization", family="normalization")
def instance_normalization(op: Operator) -> Counts:
    """Standardise every channel of every instance, then scale and shift.

    Equation:
        Y[n, c, i] = (X[n, c, i] - mean[n, c]) / sqrt(var[n, c] + epsilon) * scale[c] + B[c]
    Basic operations:
        per instance and channel of n elements: 2n - 1 add, n sub, n mul, n + 2 div, 1 root; then n mul, n add
    Not counted:
        nothing
    Example:
        X (1, 2, 4): 14 + 8 add, 8 sub, 8 + 8 mul, 12 div, 2 root
    Reference:
        ONNX operators: InstanceNormalization; TO convention, table 1.2
    """
    shape = shape_of(op.input(0), "the input")
    return standardized(dtype_of(op.input(0)), math.prod(shape[:2]), math.prod(shape[2:])) + scale_and_shift(op, 1, 2)


@rule("GroupNormalization", family="normalization")
def group_normalization(op: Operator) -> Counts:
    """Standardise groups of channels of every instance, then scale and shift.

    Equation:
        Y[n, c, i] = (X[n, c, i] - mean[n, g]) / sqrt(var[n, g] + epsilon) * scale[c] + bias[c], g the group of c
    Basic operations:
        per instance and group of n elements: 2n - 1 add, n sub, n mul, n + 2 div, 1 root at `stash_type` (opset 21
        on, before at the type of X); then 1 mul, 1 add per element, be the scale per group (18) or per channel (21)
    Not counted:
        casts to and from `stash_type`
    Example:
        X (1, 4, 3), 2 groups: 22 + 12 add, 12 sub, 12 + 12 mul, 16 div, 2 root
    Reference:
        ONNX operators: GroupNormalization; TO convention, table 1.2
    """
    return standardized_groups(op, op.attributes["num_groups"])


@rule("LpNormalization", family="normalization")
def lp_normalization(op: Operator) -> Counts:
    """Divide every line by its norm.

    Equation:
        Y[l, i] = X[l, i] / norm(X[l, :]); p = 1: sum |x|, p = 2: sqrt(sum x^2)
    Basic operations:
        per line of n: n - 1 add, n div, and n compare (p = 1, magnitudes) or n mul + 1 root (p = 2)
    Not counted:
        the guard for a norm of zero
    Example:
        X (2, 5), axis 1, p 2: 8 add, 10 mul, 2 root, 10 div
    Reference:
        ONNX operators: LpNormalization
    """
    lines, n = lines_along(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    if n == 0:
        return Counts()
    is_l1 = op.attributes.get("p", 2) == 1
    squares, magnitudes, roots = (0, n, 0) if is_l1 else (n, 0, 1)
    return Counts.of(dtype_of(op.input(0)), add=n - 1, mul=squares, div=n, root=roots, compare=magnitudes) * lines


@rule("MeanVarianceNormalization", family="normalization")
def mean_variance_normalization(op: Operator) -> Counts:
    """Standardise over the given axes.

    Equation:
        Y[l, i] = (X[l, i] - mean[l]) / (sqrt(var[l]) + 1e-9), i over `axes`
    Basic operations:
        per line of n: 2n - 1 add, n sub, n mul, n + 2 div, 1 root, as LayerNormalization without Scale and B
    Not counted:
        nothing
    Example:
        X (1, 2, 2, 2), axes 0, 2, 3 (n = 4, 2 lines): 14 add, 8 sub, 8 mul, 12 div, 2 root
    Reference:
        ONNX operators: MeanVarianceNormalization; TO convention, table 1.2
    """
    shape = shape_of(op.input(0), "the input")
    axes = {axis_index(axis, len(shape)) for axis in op.attributes.get("axes", (0, 2, 3))}
    n = math.prod(shape[axis] for axis in axes)
    lines = math.prod(extent for axis, extent in enumerate(shape) if axis not in axes)
    return standardized(dtype_of(op.input(0)), lines, n)


@rule("LRN", family="normalization")
def local_response_normalization(op: Operator) -> Counts:
    """Divide by a power of the local energy across channels.

    Equation:
        Y[n, c, i] = X[n, c, i] / (bias + alpha / size * sum over `size` channels around c of X[n, k, i]^2) ^ beta
    Basic operations:
        per element: 1 mul (its square, used by every window), size - 1 add (the window, dense: counted in full at the
        borders), 1 mul (alpha / size), 1 add (bias), the power (0.75 and other fractions 2 root + 1 mul), 1 div
    Not counted:
        alpha / size itself; a bias of zero
    Example:
        X (1, 4, 1, 1), size 3, beta 0.75: 4 x (3 mul, 3 add, 2 root, 1 div) = 12 mul, 12 add, 8 root, 4 div
    Reference:
        ONNX operators: LRN
    """
    dtype = dtype_of(op.input(0))
    window: int = op.attributes["size"]
    biased = int(op.attributes.get("bias", 1.0) != 0)
    scaled = int(op.attributes.get("alpha", 0.0001) != window)
    one = Counts.of(dtype, add=window - 1 + biased, mul=1 + scaled, div=1)
    return (one + power(dtype, op.attributes.get("beta", 0.75))) * size_of(op.input(0), "the input")
