"""Convolutions of real tensors. Quantised ones: see `quantized_products`."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, fused_activation, operand_types
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator

_SPATIAL = 2  # position of the first spatial dimension in N, C, D1, D2, ...


def _convolution(op: Operator) -> Counts:
    results = size_of(op.output(0), "the output")
    taps = math.prod(shape_of(op.input(1), "the weight")[1:])
    return dot_products(operand_types(op.input(0), op.input(1)), results, taps, op.input(2))


@rule("Conv", family="dense")
@rule("NhwcConv", family="dense", domain="com.microsoft")
def conv(op: Operator) -> Counts:
    """Convolution: one dot product over input channels and taps for each output element.

    Equation:
        Y[n, f, oh, ow] = sum over c, i, j of X[n, g C/G + c, oh s + i d - p, ow s + j d - p] * W[f, c, i, j] + B[f]
        for any number of spatial dimensions; g is the group of filter f. NhwcConv stores Y as [n, oh, ow, f].
    Basic operations:
        K = C/G * kh * kw; per output element K mul and K - 1 add, one add more with a bias; MACs = mul.
        Padding taps are multiplied like any other tap (dense count). Where data and weight both come from
        DequantizeLinear, the products are counted in the wider of the two integer types and the sums in int32.
    Not counted:
        Index arithmetic and the padding itself.
    Example:
        X[1, 3, 5, 5], W[4, 3, 3, 3], pads 1, bias: Y[1, 4, 5, 5] has 100 elements and K = 27, so mul = MACs = 2700,
        add = 100 * 26 + 100 = 2700.
    Reference:
        ONNX operators: Conv. Contrib operators: NhwcConv. TO paper, Eq. 5.
    """
    return _convolution(op)


@rule("FusedConv", "NhwcFusedConv", family="dense", domain="com.microsoft")
@rule("Conv", family="dense", domain="com.microsoft.nchwc")
def fused_conv(op: Operator) -> Counts:
    """Convolution with an optional sum with a second tensor and an activation.

    Equation:
        Y = activation(Conv(X, W) + B + Z); NhwcFusedConv stores X, Y and Z with the channels last, nchwc.Conv in blocks
    Basic operations:
        Those of Conv; Z adds one per output element; the activation per output element: Relu 1 compare, Sigmoid
        sub + root + add + div, Tanh mul + root + sub + add + div, LeakyRelu 1 compare + 1 mul, Clip 2 compare,
        HardSigmoid 1 mul + 1 add + 2 compare,
        HardSwish 2 mul + 1 add + 2 compare. The blocked nchwc.Conv computes whole blocks of channels: where
        onnxruntime filled the last block of W with zeros, they are multiplied like any other (dense count).
    Not counted:
        Index arithmetic and the padding itself.
    Example:
        X[1, 2, 3, 3], W[1, 2, 3, 3], bias, Z, Relu: one output, mul = MACs = 18, add = 17 + 1 + 1 = 19, compare = 1.
        nchwc.Conv of the same X with W[8, 2, 3, 3], 7 of its filters padding, no bias: 8 outputs, mul = MACs = 144.
    Reference:
        Contrib operators: FusedConv, NhwcFusedConv. TO paper, Eq. 5.
    """
    results = size_of(op.output(0), "the output")
    sums = 0 if op.input(3) is None else results
    return _convolution(op) + Counts.of(dtype_of(op.input(0)), add=sums) + fused_activation(op, results)


def _covered(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many different values stride * i + dilation * k takes for 0 <= i < size, 0 <= k < kernel.

    Two pairs fall on the same cell exactly when they differ by a multiple of (d, -s) with s, d = stride, dilation
    over their greatest common divisor; the pairs of one cell form a chain, and cells = pairs - links of all chains.
    """
    divisor = math.gcd(stride, dilation)
    links = max(size - dilation // divisor, 0) * max(kernel - stride // divisor, 0)
    return size * kernel - links


@rule("ConvTranspose", family="dense")
@rule("ConvTransposeWithDynamicPads", family="dense", domain="com.microsoft")
def conv_transpose(op: Operator) -> Counts:
    """Transposed convolution: every input element is multiplied with every tap and scattered into the output.

    Equation:
        full[n, f, s i + d k] += X[n, c, i] * W[c, f, k] for every c of the group of f; Y = crop(full) + B[f]
    Basic operations:
        mul = MACs = size(X) * Cout/G * prod(kernel). The first product of a cell of `full` is assigned, so
        add = MACs - cells of `full` that any product reaches, and one add per output element with a bias. Products that
        the pads crop are computed and dropped: they count like the padding taps of Conv (dense count), hence pads,
        output_padding and output_shape change nothing but the bias. ConvTransposeWithDynamicPads takes its pads as an
        input, which changes nothing either.
    Not counted:
        Filling cells that no product reaches (stride greater than the kernel) with zero; the crop.
    Example:
        X[1, 1, 3], W[1, 1, 3], stride 2: 9 products on the cells 0..6; mul = MACs = 9, add = 9 - 7 = 2.
        With a bias and pads (1, 1), 5 of 7 cells remain: add = 2 + 5 = 7.
    Reference:
        ONNX operators: ConvTranspose. Contrib operators: ConvTransposeWithDynamicPads.
    """
    data = shape_of(op.input(0), "the input")
    weight = shape_of(op.input(1), "the weight")
    rank = len(data) - _SPATIAL
    strides = op.attributes.get("strides") or (1,) * rank
    dilations = op.attributes.get("dilations") or (1,) * rank
    group = int(op.attributes.get("group") or 1)
    cells = data[0] * weight[1] * group
    for size, kernel, stride, dilation in zip(data[2:], weight[2:], strides, dilations, strict=True):
        cells *= _covered(size, kernel, int(stride), int(dilation))
    pairs = math.prod(data) * math.prod(weight[1:])
    position = 3 if op.op_type == "ConvTransposeWithDynamicPads" else 2
    bias = 0 if op.input(position) is None else size_of(op.output(0), "the output")
    products, sums = operand_types(op.input(0), op.input(1))
    added = Counts.of(sums, add=max(pairs - cells, 0) + bias)
    return Counts.of(products, mul=pairs, macs=pairs) + added


@rule("DeformConv", family="dense")
def deform_conv(op: Operator) -> Counts:
    """Deformable convolution: taps are interpolated at shifted positions, then convolved.

    Equation:
        V[n, c, k, o] = sum over the 2^D corners q of weight(q) * X[n, c, q], times mask[n, k, o] where present,
        around the position base(k, o) + offset[n, :, k, o];
        Y[n, f, o] = sum over c, k of V[n, c, k, o] * W[f, c, k] + B[f]
    Basic operations:
        Per offset (one per spatial dimension and sampling point): 1 add, 1 compare (floor), 2 sub (the fraction and its
        complement). With D spatial dimensions, per sampling point 2^D * (D - 1) mul for the corner weights. Per
        sample of a channel 2^D mul and 2^D - 1 add, 1 mul more with a mask. Then the dot products of Conv, which alone
        are MACs. Corners and taps outside the image are weighted like any other (dense count).
    Not counted:
        Index arithmetic: base positions and bounds.
    Example:
        X[1, 1, 3, 3], W[1, 1, 2, 2], offset[1, 8, 2, 2], no bias, no mask: 32 offsets, 16 points, 16 samples,
        4 outputs; add = 32 + 16 * 3 + 4 * 3 = 92, sub = 64, mul = 16 * 4 + 16 * 4 + 16 = 144, compare = 32, MACs = 16.
    Reference:
        ONNX operators: DeformConv.
    """
    data = shape_of(op.input(0), "the input")
    weight = shape_of(op.input(1), "the weight")
    results = shape_of(op.output(0), "the output")
    offsets = size_of(op.input(2), "the offset")
    rank = len(data) - _SPATIAL
    samples = data[0] * data[1] * math.prod(weight[2:]) * math.prod(results[2:])
    masked = 0 if op.input(4) is None else samples
    points = offsets // rank
    corners = 2**rank
    sampling = Counts.of(
        dtype_of(op.input(0)),
        add=offsets + samples * (corners - 1),
        sub=2 * offsets,
        mul=points * corners * (rank - 1) + samples * corners + masked,
        compare=offsets,
    )
    types = operand_types(op.input(0), op.input(1))
    return sampling + dot_products(types, math.prod(results), math.prod(weight[1:]), op.input(3))
