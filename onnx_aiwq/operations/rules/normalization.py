"""Normalisation layers and softmax.

Statistics are taken as the definitions write them: mean, deviations, mean of their squares. Epsilon is always added.
"""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import (
    asked_for,
    axis_index,
    dtype_of,
    lines_along,
    lines_from,
    log_softmax_line,
    power,
    scaled_sigmoid_product,
    softmax_line,
    softmax_lines,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


def _standardized(dtype: DType, lines: int, n: int) -> Counts:
    """(x - mean) / sqrt(variance + epsilon) of every line of n (TO convention, LayerNorm of table 1.2)."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=2 * n - 1, sub=n, mul=n, div=n + 2, root=1) * lines


def _root_mean_square_scaled(dtype: DType, lines: int, n: int) -> Counts:
    """x / sqrt(mean(x^2) + epsilon) of every line of n: n squares, n-1 + 1 add, a mean, a root, n quotients."""
    if n == 0:
        return Counts()
    return Counts.of(dtype, add=n, mul=n, div=n + 1, root=1) * lines


def _affine(op: Operator, scale: int, shift: int | None) -> Counts:
    """One mul and one add per element for the scale and the shift that are present, at the type of the input."""
    size = size_of(op.input(0), "the input")
    scaled = size if op.input(scale) is not None else 0
    shifted = size if shift is not None and op.input(shift) is not None else 0
    return Counts.of(dtype_of(op.input(0)), add=shifted, mul=scaled)


def _stash_dtype(op: Operator) -> DType:
    """The type that the statistics are computed in: `stash_type` where the operator has one."""
    number = op.attributes.get("stash_type")
    return dtype_of(op.input(0)) if number is None else DType.from_onnx(number)


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
    dtype = _stash_dtype(op)
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    inverse = Counts.of(dtype, div=lines if asked_for(op, 2) else 0)
    return _standardized(dtype, lines, n) + _affine(op, 1, 2) + inverse


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
    return _root_mean_square_scaled(dtype, lines, n) + _affine(op, 1, None) + inverse


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
    return _standardized(dtype_of(op.input(0)), math.prod(shape[:2]), math.prod(shape[2:])) + _affine(op, 1, 2)


def _grouped(op: Operator, groups: int) -> Counts:
    """Standardised groups of channels with scale and shift; the layout (NCHW or NHWC) does not matter."""
    shape = shape_of(op.input(0), "the input")
    lines = shape[0] * groups
    n = math.prod(shape) // lines if lines else 0
    return _standardized(_stash_dtype(op), lines, n) + _affine(op, 1, 2)


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
    return _grouped(op, op.attributes["num_groups"])


@rule("GroupNorm", "SkipGroupNorm", family="normalization", domain="com.microsoft")
def fused_group_norm(op: Operator) -> Counts:
    """Group normalisation with an optional SiLU behind it and, for SkipGroupNorm, sums before it.

    Equation:
        Y = act(GroupNorm(S) * gamma + beta), S = X (GroupNorm) or X + skip + bias (SkipGroupNorm), act SiLU or nothing
    Basic operations:
        as GroupNormalization; `activation` 1: 1 sub, 1 root, 1 add, 1 div, 1 mul per element; SkipGroupNorm 1 add per
        element for skip and 1 for the bias, if present
    Not counted:
        the layout (`channels_last`)
    Example:
        GroupNorm, X (1, 3, 1, 4), 2 groups, no activation: 22 + 12 add, 12 sub, 12 + 12 mul, 16 div, 2 root
    Reference:
        onnxruntime contrib operators: GroupNorm, SkipGroupNorm; TO convention, table 1.2
    """
    dtype, size = dtype_of(op.input(0)), size_of(op.input(0), "the input")
    sums = sum(op.input(index) is not None for index in (3, 4)) if op.op_type == "SkipGroupNorm" else 0
    activation = scaled_sigmoid_product(dtype, 1) * (size if op.attributes.get("activation", 0) else 0)
    return _grouped(op, op.attributes["groups"]) + activation + Counts.of(dtype, add=sums * size)


@rule("SkipLayerNormalization", family="normalization", domain="com.microsoft")
def skip_layer_normalization(op: Operator) -> Counts:
    """Residual and bias, then layer normalisation of the last axis.

    Equation:
        S = input + skip + bias; Y[l, i] = (S[l, i] - mean[l]) / sqrt(var[l] + epsilon) * gamma[i] + beta[i]
    Basic operations:
        1 add per element for skip, 1 for the bias if present; per line of n: 2n - 1 add, n sub, n mul, n + 2 div,
        1 root; n mul (gamma), n add (beta, if present); 1 div per line if inv_std_var is asked for
    Not counted:
        writing the sum out
    Example:
        input (1, 2, 8), beta, no bias: 16 + 30 + 16 add, 16 sub, 16 + 16 mul, 20 div, 2 root
    Reference:
        onnxruntime contrib operators: SkipLayerNormalization; TO convention, table 1.2
    """
    dtype = dtype_of(op.input(0))
    lines, n = lines_along(shape_of(op.input(0), "the input"), -1)
    sums = 1 + int(op.input(4) is not None)
    extra = Counts.of(dtype, add=sums * lines * n, div=lines if asked_for(op, 2) else 0)
    return _standardized(dtype, lines, n) + _affine(op, 2, 3) + extra


@rule("SkipSimplifiedLayerNormalization", family="normalization", domain="com.microsoft")
def skip_rms_normalization(op: Operator) -> Counts:
    """Residual and bias, then root mean square normalisation of the last axis.

    Equation:
        S = input + skip + bias; Y[l, i] = S[l, i] / sqrt(mean(S[l, :]^2) + epsilon) * gamma[i]
    Basic operations:
        1 add per element for skip, 1 for the bias if present; per line of n: n mul, n add, n + 1 div, 1 root; n mul
        (gamma); 1 div per line if inv_std_var is asked for
    Not counted:
        writing the sum out
    Example:
        input (1, 2, 8), no bias: 16 + 16 add, 16 + 16 mul, 18 div, 2 root
    Reference:
        onnxruntime contrib operators: SkipSimplifiedLayerNormalization
    """
    dtype = dtype_of(op.input(0))
    lines, n = lines_along(shape_of(op.input(0), "the input"), -1)
    sums = 1 + int(op.input(3) is not None)
    extra = Counts.of(dtype, add=sums * lines * n, div=lines if asked_for(op, 2) else 0)
    return _root_mean_square_scaled(dtype, lines, n) + _affine(op, 2, None) + extra


@rule("EmbedLayerNormalization", family="normalization", domain="com.microsoft")
def embed_layer_normalization(op: Operator) -> Counts:
    """Sum of word, position and segment embeddings, then layer normalisation.

    Equation:
        E[b, s, :] = word[id] + position[p] + segment[q]; Y = LayerNorm(E) * gamma + beta; mask_index[b] = sum_s mask
    Basic operations:
        per element of Y (B x S x H): 1 add for the position, 1 for the segment if present; per token: 2H - 1 add,
        H sub, H mul, H + 2 div, 1 root, then H mul, H add; with a mask B (S - 1) add at the type of the mask
    Not counted:
        the look-ups
    Example:
        ids (1, 2), H 4, no segment, no mask: 8 + 14 + 8 add, 8 sub, 8 + 8 mul, 12 div, 2 root
    Reference:
        onnxruntime contrib operators: EmbedLayerNormalization; TO convention, table 1.2
    """
    dtype = dtype_of(op.input(2), "the word embedding")
    tokens = size_of(op.input(0), "the ids")
    hidden = shape_of(op.input(2), "the word embedding")[-1]
    size = tokens * hidden
    sums = 1 + int(op.input(4) is not None)
    counts = _standardized(dtype, tokens, hidden) + Counts.of(dtype, add=(sums + 1) * size, mul=size)
    mask = op.input(7)
    if mask is None:
        return counts
    lines, length = lines_along(shape_of(mask, "the mask"), -1)
    return counts + Counts.of(mask.dtype, add=lines * max(length - 1, 0))


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
    return _standardized(dtype_of(op.input(0)), lines, n)


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


@rule("Softmax", family="softmax")
def softmax(op: Operator) -> Counts:
    """Normalised exponentials of every line, the maximum subtracted first.

    Equation:
        Y[l, i] = exp(X[l, i] - max(X[l, :])) / sum_k exp(X[l, k] - max(X[l, :]))
    Basic operations:
        per line of n: n - 1 compare, n sub, n root, n - 1 add, n div; a line runs along `axis`, before opset 13 over
        all axes from `axis` on
    Not counted:
        nothing
    Example:
        X (2, 5), axis 1: 8 compare, 10 sub, 10 root, 8 add, 10 div
    Reference:
        ONNX operators: Softmax
    """
    lines, n = softmax_lines(op)
    return softmax_line(dtype_of(op.input(0)), n) * lines


@rule("BiasSoftmax", family="softmax", domain="com.microsoft")
def bias_softmax(op: Operator) -> Counts:
    """Softmax of scores with an additive mask.

    Equation:
        Y = softmax(X + bias) over all axes from `axis` on
    Basic operations:
        1 add per element; per line of n: n - 1 compare, n sub, n root, n - 1 add, n div
    Not counted:
        broadcasting of the bias
    Example:
        X (2, 5), axis 1: 10 + 8 add, 8 compare, 10 sub, 10 root, 10 div
    Reference:
        onnxruntime contrib operators: BiasSoftmax
    """
    dtype = dtype_of(op.input(0))
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", 1))
    return softmax_line(dtype, n) * lines + Counts.of(dtype, add=lines * n)


@rule("LogSoftmax", family="softmax")
def log_softmax(op: Operator) -> Counts:
    """Logarithm of the softmax, without dividing.

    Equation:
        Y[l, i] = Z[l, i] - log(sum_k exp(Z[l, k])), Z[l, i] = X[l, i] - max(X[l, :])
    Basic operations:
        per line of n: n - 1 compare, n sub, n root, n - 1 add, 1 root, n sub; lines as in Softmax
    Not counted:
        nothing
    Example:
        X (2, 5), axis 1: 8 compare, 20 sub, 12 root, 8 add
    Reference:
        ONNX operators: LogSoftmax
    """
    lines, n = softmax_lines(op)
    return log_softmax_line(dtype_of(op.input(0)), n) * lines


@rule("Hardmax", family="softmax")
def hardmax(op: Operator) -> Counts:
    """A one at the first maximum of every line.

    Equation:
        Y[l, i] = 1 if i is the first position of max(X[l, :]), else 0
    Basic operations:
        per line of n: n - 1 compare; lines as in Softmax
    Not counted:
        writing the ones and zeros
    Example:
        X (2, 5), axis 1: 8 compare
    Reference:
        ONNX operators: Hardmax
    """
    lines, n = softmax_lines(op)
    return Counts.of(dtype_of(op.input(0)), compare=max(n - 1, 0)) * lines


@rule("GatedRMSNorm", family="normalization", domain="com.microsoft")
def gated_rms_norm(op: Operator) -> Counts:
    """Root mean square normalisation of groups of the last axis, times an activated gate.

    Equation:
        Y = X / sqrt(mean(X^2) + epsilon) * scale * act(gate), over groups of as many elements as `scale` has; act(z) =
        z * sigmoid(z) (silu, swish) or sigmoid(z)
    Basic operations:
        in float32 per group of n: n mul, n add, n + 1 div, 1 root; n mul (scale); per element of the gate 1 sub,
        1 root, 1 add, 1 div, and 1 mul for silu; n mul by the gate
    Not counted:
        casts
    Example:
        X (2, 8), scale (4), sigmoid: 4 groups; 16 + 16 + 16 mul, 16 + 16 add, 20 + 16 div, 4 + 16 root, 16 sub
    Reference:
        onnxruntime contrib operators: GatedRMSNorm
    """
    size = size_of(op.input(0), "the input")
    n = size_of(op.input(1), "the scale")
    silu = str(op.attributes.get("activation") or "silu") in ("silu", "swish")
    gate = Counts.of(DType.FLOAT, add=1, sub=1, mul=2 + silu, div=1, root=1)
    return _root_mean_square_scaled(DType.FLOAT, size // max(n, 1), n) + gate * size


@rule("BranchwiseRMSNorm", family="normalization", domain="com.microsoft")
def branchwise_rms_norm(op: Operator) -> Counts:
    """Root mean square normalisation of every branch.

    Equation:
        Y[..., c, h] = X[..., c, h] / sqrt(mean(X[..., c, :]^2) + epsilon) * scale[c, h]
    Basic operations:
        in float32 per branch of n: n mul, n add, n + 1 div, 1 root; n mul with a scale
    Not counted:
        casts
    Example:
        X (2, 8), num_branches 2, scale: 4 branches; 16 + 16 mul, 16 add, 20 div, 4 root
    Reference:
        onnxruntime contrib operators: BranchwiseRMSNorm
    """
    shape = shape_of(op.input(0), "the input")
    n = shape[-1] // (int(op.attributes.get("num_branches") or 0) or 1)
    scaled = 0 if op.input(1) is None else math.prod(shape)
    lines = math.prod(shape) // max(n, 1)
    return _root_mean_square_scaled(DType.FLOAT, lines, n) + Counts.of(DType.FLOAT, mul=scaled)


def _unquantised(dtype: DType, size: int, scale: Tensor | None, zero_point: Tensor | None) -> Counts:
    """(x - zero_point) * scale; a zero point known to be zero and a scale known to be one cost nothing."""
    shifted = zero_point is not None and (zero_point.value is None or bool((zero_point.value != 0).any()))
    scaled = scale is None or scale.value is None or bool((scale.value != 1).any())
    return Counts.of(dtype, sub=size if shifted else 0, mul=size if scaled else 0)


@rule("QEmbedLayerNormalization", family="normalization", domain="com.microsoft")
def quantized_embed_layer_normalization(op: Operator) -> Counts:
    """Sum of quantised word, position and segment embeddings, then layer normalisation.

    Equation:
        E[b, s, :] = dequantise(word[id]) + dequantise(position[p]) + dequantise(segment[q]); Y = LayerNorm(E) *
        dequantise(gamma) + dequantise(beta); mask_index[b] = sum_s mask
    Basic operations:
        per element of each embedding 1 sub and 1 mul to dequantise, likewise per element of gamma and of beta; then as
        EmbedLayerNormalization, in the type of the scales
    Not counted:
        the look-ups, zero points known to be zero, scales known to be one
    Example:
        ids (1, 2), H 4, no segment, no mask, all unknown: 2 * 8 + 2 * 4 = 24 sub and mul; 8 + 14 + 8 add, 24 + 8 sub,
        24 + 8 + 8 mul, 12 div, 2 root
    Reference:
        onnxruntime contrib operators: QEmbedLayerNormalization; TO convention, table 1.2
    """
    dtype = dtype_of(op.input(8), "the scale of the word embedding")
    tokens, hidden = size_of(op.input(0), "the ids"), shape_of(op.input(2), "the word embedding")[-1]
    size, segments = tokens * hidden, op.input(4) is not None
    rows = (size, size, size if segments else 0, hidden, hidden)
    total = Counts()
    for index, elements in enumerate(rows):
        total += _unquantised(dtype, elements, op.input(8 + index), op.input(13 + index))
    total += _standardized(dtype, tokens, hidden) + Counts.of(dtype, add=(2 + segments) * size, mul=size)
    mask = op.input(7)
    if mask is None:
        return total
    lines, length = lines_along(shape_of(mask, "the mask"), -1)
    return total + Counts.of(mask.dtype, add=lines * max(length - 1, 0))


@rule("QOrderedLayerNormalization", family="normalization", domain="com.microsoft")
def qordered_layer_normalization(op: Operator) -> Counts:
    """Layer normalisation of a symmetrically quantised tensor.

    Equation:
        Y = saturate(round((LayerNorm(X * x_scale) * scale + B) / y_scale))
    Basic operations:
        per element 1 mul to dequantise; per line of n: 2n - 1 add, n sub, n mul, n + 2 div, 1 root; n mul (scale), n
        add (B, if present); per element 1 div, 1 compare to round, 2 compare to saturate; in the type of x_scale
    Not counted:
        casts, scales known to be one
    Example:
        X (2, 8), no B: 16 + 16 + 16 mul, 30 add, 16 sub, 20 + 16 div, 2 root, 48 compare
    Reference:
        onnxruntime contrib operators: QOrderedLayerNormalization; TO convention, table 1.2
    """
    dtype = dtype_of(op.input(1), "the input scale")
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", -1))
    size = lines * n
    before = _unquantised(dtype, size, op.input(1), None)
    affine = Counts.of(dtype, add=0 if op.input(3) is None else size, mul=size)
    divided = size if _unquantised(dtype, 1, op.input(4), None).operations else 0
    return before + _standardized(dtype, lines, n) + affine + Counts.of(dtype, div=divided, compare=3 * size)
