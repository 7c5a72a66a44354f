"""Dense products of real tensors: convolutions, matrix products and Einsum. Quantised ones: see `quantization`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from onnx_aiwq.bounds import MAX_EQUATION_CHARACTERS
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import (
    dot_products,
    dtype_of,
    known_scalar,
    operand_types,
    scaled_sigmoid_product,
    sigmoid,
    softplus,
    tanh,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

_SPATIAL = 2  # position of the first spatial dimension in N, C, D1, D2, ...

_GELU_SLOPE = 1.702  # GELU as the TO paper counts it, x * sigmoid(1.702 x)

# FusedConv, FusedGemm and FusedMatMulActivation: one element of their `activation`.
_ACTIVATIONS: Mapping[str, Callable[[DType], Counts]] = {
    "": Counts.of,
    "Relu": functools.partial(Counts.of, compare=1),
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "LeakyRelu": functools.partial(Counts.of, mul=1, compare=1),
    "Clip": functools.partial(Counts.of, compare=2),
    "HardSigmoid": functools.partial(Counts.of, add=1, mul=1, compare=2),
    "HardSwish": functools.partial(Counts.of, add=1, mul=2, compare=2),
    "Elu": functools.partial(Counts.of, sub=1, mul=1, root=1, compare=1),
    "Softplus": softplus,
    "Softsign": functools.partial(Counts.of, add=1, div=1, compare=1),
    "ThresholdedRelu": functools.partial(Counts.of, compare=1),
}


def _convolution(op: Operator) -> Counts:
    results = size_of(op.output(0), "the output")
    taps = math.prod(shape_of(op.input(1), "the weight")[1:])
    return dot_products(operand_types(op.input(0), op.input(1)), results, taps, op.input(2))


def _activation(op: Operator, results: int) -> Counts:
    name = str(op.attributes.get("activation") or "")
    if name not in _ACTIVATIONS:
        raise ShapeError(f"activation {name!r} of {op.op_type} {op.name!r} is none of {sorted(_ACTIVATIONS)}")
    return _ACTIVATIONS[name](dtype_of(op.input(0))) * results


@rule("Conv", family="dense")
@rule("NhwcConv", family="dense", domain="com.microsoft")
@rule("Conv", family="dense", domain="com.ms.internal.nhwc")
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
    return _convolution(op) + Counts.of(dtype_of(op.input(0)), add=sums) + _activation(op, results)


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


@rule("MatMul", family="dense")
def matmul(op: Operator) -> Counts:
    """Matrix product with numpy's broadcasting of the leading dimensions.

    Equation:
        Y[..., m, n] = sum over k of A[..., m, k] * B[..., k, n]; a vector counts as one row (A) or one column (B)
    Basic operations:
        Per output element K mul and K - 1 add; MACs = mul. Where both matrices come from DequantizeLinear, the
        products are counted in the wider of the two integer types and the sums in int32.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3, 4] @ B[4, 5]: Y[2, 3, 5] has 30 elements, mul = MACs = 120, add = 90.
    Reference:
        ONNX operators: MatMul. TO paper, Eq. 3.
    """
    length = shape_of(op.input(0), "the first matrix")[-1]
    return dot_products(operand_types(op.input(0), op.input(1)), size_of(op.output(0), "the output"), length)


@rule("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", family="dense", domain="com.microsoft")
def fused_matmul(op: Operator) -> Counts:
    """Matrix product with optional transpositions and a factor.

    Equation:
        Y[..., m, n] = f(alpha * sum over k of A'[..., m, k] * B'[..., k, n]), f the activation of FusedMatMulActivation
    Basic operations:
        Per output element K mul and K - 1 add; 1 mul more where alpha is not 1; MACs = K per output element. The
        activation as in FusedConv; Elu 1 compare + 1 root + 1 sub + 1 mul, Softplus root + add + root, Softsign 1
        compare + 1 add + 1 div, ThresholdedRelu 1 compare.
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[4, 3], transA = 1, B[4, 5], alpha = 0.5: 15 elements, K = 4; mul = 60 + 15 = 75, add = 45, MACs = 60.
    Reference:
        Contrib operators: FusedMatMul, TransposeMatMul, FusedMatMulActivation.
    """
    left = shape_of(op.input(0), "the first matrix")
    transposed = bool(op.attributes.get("transA")) and len(left) > 1
    axis = (0 if op.attributes.get("transBatchA") else -2) if transposed else -1
    results = size_of(op.output(0), "the output")
    scaled = results if op.attributes.get("alpha", 1.0) != 1.0 else 0
    products = dot_products(operand_types(op.input(0), op.input(1)), results, left[axis])
    return products + Counts.of(dtype_of(op.input(0)), mul=scaled) + _activation(op, results)


@rule("SparseToDenseMatMul", family="dense", domain="com.microsoft")
def sparse_matmul(op: Operator) -> Counts:
    """Product of a sparse and a dense matrix, counted as if the first were dense (upper bound).

    Equation:
        Y[m, n] = alpha * sum over k of A'[m, k] * B'[k, n], A sparse
    Basic operations:
        Only the data knows how many elements of A are there: all count. Per output element K mul and K - 1 add; 1 mul
        more where alpha is not 1; MACs = K per output element.
    Not counted:
        Transpositions and indices.
    Example:
        A[2, 3] sparse, B[3, 4]: mul = MACs = 24, add = 16; with alpha 0.5 mul = 32.
    Reference:
        Contrib operators: SparseToDenseMatMul.
    """
    left, right = shape_of(op.input(0), "the sparse matrix"), shape_of(op.input(1), "the dense matrix")
    rows, length = left[::-1] if op.attributes.get("transA") else left
    results = rows * right[-2 if op.attributes.get("transB") else -1]
    dtype = dtype_of(op.input(1))
    scaled = results if op.attributes.get("alpha", 1.0) != 1.0 else 0
    return dot_products((dtype, dtype), results, length) + Counts.of(dtype, mul=scaled)


def _gemm(op: Operator) -> Counts:
    left = shape_of(op.input(0), "the first matrix")
    results = size_of(op.output(0), "the output")
    length = left[0] if op.attributes.get("transA") else left[1]
    alpha, beta = op.attributes.get("alpha", 1.0), op.attributes.get("beta", 1.0)
    bias = op.input(2) if beta != 0.0 else None
    factors = results if alpha != 1.0 else 0
    if bias is not None and beta != 1.0:
        factors += size_of(bias, "the bias")
    products = dot_products(operand_types(op.input(0), op.input(1)), results, length, bias)
    return products + Counts.of(dtype_of(op.input(0)), mul=factors)


@rule("Gemm", family="dense")
def gemm(op: Operator) -> Counts:
    """General matrix product.

    Equation:
        Y[m, n] = alpha * (sum over k of A'[m, k] * B'[k, n]) + (beta * C)[m, n]
    Basic operations:
        Per output element K mul and K - 1 add, 1 add more where C is present; alpha costs 1 mul per output element
        and beta 1 mul per element of C before it is broadcast, each only where it is not 1; MACs = M * N * K. With
        beta = 0, C is not looked at.
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[2, 3], B[3, 4], C[4], alpha = 0.5, beta = 2: mul = 24 + 8 + 4 = 36, add = 16 + 8 = 24, MACs = 24.
    Reference:
        ONNX operators: Gemm. TO paper, Eq. 3 and 4.
    """
    return _gemm(op)


@rule("FusedGemm", family="dense", domain="com.microsoft")
def fused_gemm(op: Operator) -> Counts:
    """General matrix product with an activation.

    Equation:
        Y = activation(alpha * A' B' + beta * C)
    Basic operations:
        Those of Gemm, and per output element the activation as in FusedConv (Relu 1 compare, LeakyRelu 1 compare +
        1 mul, Sigmoid sub + root + add + div, Tanh mul + root + sub + add + div, ...).
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[1, 2], B[2, 3], C[3], Relu: mul = MACs = 6, add = 3 + 3 = 6, compare = 3.
    Reference:
        Contrib operators: FusedGemm. TO paper, Eq. 3 and 4.
    """
    return _gemm(op) + _activation(op, size_of(op.output(0), "the output"))


@rule("GemmFastGelu", family="dense", domain="com.microsoft")
def gemm_fast_gelu(op: Operator) -> Counts:
    """Matrix product with bias and GELU.

    Equation:
        Y = gelu(X W + bias)
    Basic operations:
        Per output element K mul and K - 1 add, 1 add more with a bias; GELU by Eq. 5: 1 sub, 1 root, 1 add, 1 div,
        2 mul; MACs = K per output element.
    Not counted:
        Broadcasting.
    Example:
        X[1, 2], W[2, 3], bias[3]: MACs = 6, mul = 6 + 6 = 12, add = 3 + 3 + 3 = 9, sub = root = div = 3.
    Reference:
        Contrib operators: GemmFastGelu. TO paper, Eq. 3 and 5.
    """
    results = size_of(op.output(0), "the output")
    products = dot_products(
        operand_types(op.input(0), op.input(1)), results, shape_of(op.input(0), "the first matrix")[-1], op.input(2)
    )
    return products + scaled_sigmoid_product(dtype_of(op.input(0)), _GELU_SLOPE) * results


def _is_factor(scale: Tensor | None) -> bool:
    """Whether an optional scale is present and not known to be one."""
    return scale is not None and known_scalar(scale) != 1.0


@rule("GemmFloat8", family="dense", domain="com.microsoft")
def gemm_float8(op: Operator) -> Counts:
    """General matrix product of 8-bit floats with scales and an activation.

    Equation:
        Y = scaleY * activation(alpha * scaleA * scaleB * A' B' + beta * C)
    Basic operations:
        Per output element K mul and K - 1 add in the type of A; in the type of Y 1 mul by the combined alpha, scaleA
        and scaleB (none where all are absent or known to be one), 1 add of C, the activation (RELU 1 compare, GELU sub
        + root + add + div + 2 mul), 1 mul by scaleY; 1 mul by beta per element of C where beta is not 1. MACs = K per
        output element. With beta = 0, C is not looked at.
    Not counted:
        Transpositions; the product of the scales; casts.
    Example:
        A[2, 3], B[3, 4] float8e4m3fn, scaleA, scaleB, Y float32: float8 mul = MACs = 24, float8 add = 16, float32 mul =
        8.
    Reference:
        Contrib operators: GemmFloat8. TO paper, Eq. 3.
    """
    left, dtype = op.input(0), dtype_of(op.output(0), "the output")
    results, beta = size_of(op.output(0), "the output"), op.attributes.get("beta", 0.0)
    length = shape_of(left, "the first matrix")[0 if op.attributes.get("transA") else 1]
    summand = op.input(2) if beta != 0.0 else None
    activations = {"NONE": Counts(), "RELU": Counts.of(dtype, compare=1)}
    activations["GELU"] = scaled_sigmoid_product(dtype, _GELU_SLOPE)
    name = str(op.attributes.get("activation") or "NONE").upper()
    if name not in activations:
        raise ShapeError(f"activation {name!r} of GemmFloat8 {op.name!r} is none of {sorted(activations)}")
    inner = op.attributes.get("alpha", 1.0) != 1.0 or _is_factor(op.input(3)) or _is_factor(op.input(4))
    factors = results * (inner + _is_factor(op.input(5)))
    if summand is not None and beta != 1.0:
        factors += size_of(summand, "C")
    added = 0 if summand is None else results
    products = dot_products(operand_types(left, op.input(1)), results, length)
    return products + Counts.of(dtype, add=added, mul=factors) + activations[name] * results


def _labels(term: str, rank: int) -> tuple[str, ...]:
    """The labels of one Einsum term; the dimensions of an ellipsis are named "0", "1", ... from the right."""
    head, dots, tail = term.partition("...")
    hidden = rank - len(head) - len(tail) if dots else 0
    return (*head, *(str(number) for number in reversed(range(hidden))), *tail)


def _equation(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], frozenset[str]]:
    """The labels of every operand and those of the output of an Einsum equation."""
    if len(equation) > MAX_EQUATION_CHARACTERS:
        raise ShapeError(f"an equation of {len(equation)} characters, more than {MAX_EQUATION_CHARACTERS}")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"equation {equation!r} has {len(terms)} terms for {len(ranks)} operands")
    operands = [_labels(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    hidden = {label for operand in operands for label in operand if label.isdigit()}
    if arrow:
        return operands, frozenset(right.replace(".", "")) | (hidden if "..." in right else set())
    letters = left.replace(",", "").replace(".", "")
    return operands, frozenset(label for label in letters if letters.count(label) == 1) | hidden


def _summed(dims: Mapping[str, int], kept: Collection[str]) -> tuple[dict[str, int], int]:
    """Sum all dimensions that are not kept: what remains, and the number of additions."""
    remaining = {label: size for label, size in dims.items() if label in kept}
    before, after = math.prod(dims.values()), math.prod(remaining.values())
    return remaining, max(before - after, 0)


@rule("Einsum", family="dense")
def einsum(op: Operator) -> Counts:
    """Einstein sum of any number of operands, evaluated pairwise from left to right.

    Equation:
        Y[output labels] = sum over all other labels of A[...] * B[...] * C[...] ...
    Basic operations:
        A label is summed as soon as it occurs in no later operand and not in the output: labels of one operand alone
        before its product, the others with it. A product of two operands costs one mul for each combination of
        their labels; a sum of n terms costs n - 1 add. MACs = mul of every product that sums a label; an
        elementwise or outer product has none.
    Not counted:
        Diagonals (a label twice in one operand), transpositions and broadcasting.
    Example:
        "ij,jk,kl->il" with i = 2, j = 3, k = 4, l = 5: first ik (mul 24, add 16), then il (mul 40, add 30):
        mul = MACs = 64, add = 46.
    Reference:
        ONNX operators: Einsum.
    """
    shapes = [shape_of(tensor, "an operand") for tensor in op.inputs]
    terms, output = _equation(str(op.attributes["equation"]), [len(shape) for shape in shapes])
    operands = [dict(zip(term, shape, strict=True)) for term, shape in zip(terms, shapes, strict=True)]
    kept = [output.union(*operands[position + 1 :]) for position in range(len(operands))]
    result, add = _summed(operands[0], kept[0])
    mul = macs = 0
    for operand, needed in zip(operands[1:], kept[1:], strict=True):
        factor, additions = _summed(operand, needed | set(result))
        add += additions
        # A dimension of one element is broadcast to its partner's size.
        joined = result | {label: size for label, size in factor.items() if size != 1 or label not in result}
        result, additions = _summed(joined, needed)
        pairs = math.prod(joined.values())
        mul, add = mul + pairs, add + additions
        macs += pairs if len(result) < len(joined) else 0
    return Counts.of(dtype_of(op.input(0)), add=add, mul=mul, macs=macs)


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


def _unpacked_product(op: Operator, columns: int, bias: Tensor | None, *, centred: bool = True) -> Counts:
    """The input times a weight[columns, K] of which every element is shifted (`centred`) and scaled first."""
    *rows, length = shape_of(op.input(0), "the first matrix")
    dtype, weights = dtype_of(op.input(0)), length * columns
    unpacked = Counts.of(dtype, sub=weights if centred else 0, mul=weights)
    return unpacked + dot_products((dtype, dtype), math.prod(rows) * columns, length, bias)


@rule("MatMulNBits", family="dense", domain="com.microsoft")
def matmul_nbits(op: Operator) -> Counts:
    """Product of a real matrix with a weight that is stored in few bits and dequantised on the way.

    Equation:
        Y[..., n] = sum over k of A[..., k] * (B[n, k] - zero_point[n, k / block]) * scale[n, k / block] + bias[n]
    Basic operations:
        Per weight 1 sub and 1 mul in the type of A; per output element K mul and K - 1 add, 1 add more with a bias;
        MACs = K per output element. Without zero points the schema's default 2^(bits - 1) is subtracted.
    Not counted:
        Unpacking of the bits; padding of the last block. The deprecated g_idx only picks scales.
    Example:
        A[2, 32], K = 32, N = 3, no bias: 96 weights and 6 outputs; sub = 96, mul = 96 + 192 = 288, add = 186,
        MACs = 192.
    Reference:
        Contrib operators: MatMulNBits.
    """
    points = op.input(3)
    known_zero = points is not None and points.value is not None and not points.value.any()
    return _unpacked_product(op, int(op.attributes["N"]), op.input(5), centred=not known_zero)


@rule("MatMulBnb4", "MatMulFpQ4", family="dense", domain="com.microsoft")
def matmul_four_bits(op: Operator) -> Counts:
    """Product of a real matrix with a weight in 4 bits: FP4 or NF4 (MatMulBnb4), or blocks of integers (MatMulFpQ4).

    Equation:
        MatMulBnb4: Y[..., n] = sum over k of A[..., k] * table[B[n, k]] * absmax[block]; MatMulFpQ4: Y[..., n] = sum
        over k of A[..., k] * (B[k, n] - offset[block]) * scale[block]
    Basic operations:
        Per weight 1 mul by the scale, and for MatMulFpQ4 1 sub of the offset (8 where the format stores none), in the
        type of A; per output element K mul and K - 1 add; MACs = K per output element.
    Not counted:
        Unpacking of the bits, the look-up in the table.
    Example:
        MatMulBnb4, A[2, 32], Y[2, 3]: 96 weights and 6 outputs; mul = 96 + 192 = 288, add = 186, MACs = 192. MatMulFpQ4
        of the same sizes: sub = 96 more.
    Reference:
        Contrib operators: MatMulBnb4, MatMulFpQ4.
    """
    columns = shape_of(op.output(0), "the output")[-1]
    return _unpacked_product(op, columns, None, centred=op.op_type == "MatMulFpQ4")


@rule("MatMulBlockQuantizedFp8Weight", "MatMulBlockQuantizedFp4Weight", family="dense", domain="com.microsoft")
def matmul_block_floats(op: Operator) -> Counts:
    """Product of a real matrix with a weight in 8-bit or 4-bit floats that is scaled on the way.

    Equation:
        Y[..., n] = sum over k of A[..., k] * B[n, k] * scale[n, k / block] + bias[n]; for Fp4, scale is the product of
        a scale per block and a global one; with a_scale (Fp8), A = float8(A / a_scale) * a_scale
    Basic operations:
        Per weight 1 mul by its scale, in the type of A; Fp4 1 mul per block for the product of both scales; per element
        of A with a_scale 1 div and 1 mul; per output element K mul and K - 1 add, 1 add more with a bias; MACs = K per
        output element.
    Not counted:
        Unpacking and casts.
    Example:
        Fp8, A[2, 32], B[3, 32], no a_scale, no bias: mul = 96 + 192 = 288, add = 186, MACs = 192.
    Reference:
        Contrib operators: MatMulBlockQuantizedFp8Weight, MatMulBlockQuantizedFp4Weight.
    """
    dtype, columns = dtype_of(op.input(0)), shape_of(op.input(1), "the weight")[0]
    if op.op_type == "MatMulBlockQuantizedFp4Weight":
        prepared = Counts.of(dtype, mul=size_of(op.input(2), "the block scales"))
    else:
        scaled = 0 if op.input(3) is None else size_of(op.input(0), "the first matrix")
        prepared = Counts.of(dtype, mul=scaled, div=scaled)
    bias = op.input(5 if op.op_type == "MatMulBlockQuantizedFp4Weight" else 4)
    return prepared + _unpacked_product(op, columns, bias, centred=False)


def _normalised(op: Operator, skip: Tensor | None, scale: Tensor | None) -> Counts:
    """(Skip)SimplifiedLayerNormalization in front of the products: nothing without a scale."""
    if scale is None:
        return Counts()
    *rows, n = shape_of(op.input(0), "the input")
    line = Counts.of(dtype_of(op.input(0)), add=n + (0 if skip is None else n), mul=2 * n, div=n + 1, root=1)
    return line * math.prod(rows)


@rule("MatMulNBitsMlp", "MatMulNBitsQkv", family="dense", domain="com.microsoft")
def matmul_nbits_fused(op: Operator) -> Counts:
    """Several products of one input with weights in few bits, with an optional normalisation in front of them.

    Equation:
        Z = RMSNorm(A + skip) * norm_scale, or A; Mlp: Y = activation(Z Wg + bg) * (Z Wu + bu); Qkv: Q = Z Wq + bq,
        K = Z Wk + bk, V = Z Wv + bv
    Basic operations:
        With norm_scale per line of K: 1 add per element for skip, then K mul, K add, K + 1 div, 1 root, and K mul by
        the scale. Each product as MatMulNBits without zero points. Mlp: per output element the activation (silu sub +
        root + add + div + mul, gelu one mul more, relu 1 compare) and 1 mul. MACs = mul of the dot products.
    Not counted:
        Unpacking of the bits.
    Example:
        Qkv, A[1, 32], Nq = 2, Nkv = 1, no norm_scale, no biases: 4 columns; sub = 128, mul = 128 + 128 = 256, add =
        124, MACs = 128.
    Reference:
        Contrib operators: MatMulNBitsMlp, MatMulNBitsQkv.
    """
    dtype, normalised = dtype_of(op.input(0)), _normalised(op, op.input(1), op.input(2))
    if op.op_type == "MatMulNBitsQkv":
        query, key = int(op.attributes["Nq"]), int(op.attributes["Nkv"])
        products = [(query, op.input(5)), (key, op.input(8)), (key, op.input(11))]
        gated = Counts()
    else:
        width, name = int(op.attributes["N"]), str(op.attributes["activation"]).lower()
        products = [(width, op.input(5)), (width, op.input(8))]
        elements = {"silu": 1.0, "swish": 1.0, "gelu": _GELU_SLOPE}
        if name not in (*elements, "relu"):
            raise ShapeError(f"activation {name!r} of MatMulNBitsMlp {op.name!r} is not known")
        once = Counts.of(dtype, compare=1) if name == "relu" else scaled_sigmoid_product(dtype, elements[name])
        gated = (once + Counts.of(dtype, mul=1)) * size_of(op.output(0), "the output")
    for width, bias in products:
        normalised += _unpacked_product(op, width, bias)
    return normalised + gated
