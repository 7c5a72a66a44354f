"""Normalisation layers that onnxruntime fuses with what stands around them."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import asked_for, dtype_of, lines_along, lines_from, scaled_sigmoid_product
from onnx_aiwq.operations.quantizing import dequantising
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.operations.standardizing import (
    root_mean_square_scaled,
    scale_and_shift,
    standardized,
    standardized_groups,
)
from onnx_aiwq.vocabulary import Counts, DType, Operator


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
    return standardized_groups(op, op.attributes["groups"]) + activation + Counts.of(dtype, add=sums * size)


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
    return standardized(dtype, lines, n) + scale_and_shift(op, 2, 3) + extra


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
    return root_mean_square_scaled(dtype, lines, n) + scale_and_shift(op, 2, None) + extra


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
    counts = standardized(dtype, tokens, hidden) + Counts.of(dtype, add=(sums + 1) * size, mul=size)
    mask = op.input(7)
    if mask is None:
        return counts
    lines, length = lines_along(shape_of(mask, "the mask"), -1)
    return counts + Counts.of(mask.dtype, add=lines * max(length - 1, 0))


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
    return root_mean_square_scaled(DType.FLOAT, size // max(n, 1), n) + gate * size


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
    return root_mean_square_scaled(DType.FLOAT, lines, n) + Counts.of(DType.FLOAT, mul=scaled)


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
        total += dequantising(dtype, elements, op.input(8 + index), op.input(13 + index))
    total += standardized(dtype, tokens, hidden) + Counts.of(dtype, add=(2 + segments) * size, mul=size)
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
    before = dequantising(dtype, size, op.input(1), None)
    affine = Counts.of(dtype, add=0 if op.input(3) is None else size, mul=size)
    divided = size if dequantising(dtype, 1, op.input(4), None).operations else 0
    return before + standardized(dtype, lines, n) + affine + Counts.of(dtype, div=divided, compare=3 * size)
