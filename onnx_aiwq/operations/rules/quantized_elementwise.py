"""Sums, products, means and activations of quantised tensors. Conventions: see `operations.quantizing`."""

from __future__ import annotations

import math

import numpy as np

from onnx_aiwq.operations.arithmetic import dtype_of, lines_along, lines_from, product_types, sigmoid, softmax_line
from onnx_aiwq.operations.quantizing import centring, dequantising, quantising, requantising
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator, Tensor


@rule("QLinearAdd", family="quantize", domain="com.microsoft")
def qlinear_add(op: Operator) -> Counts:
    """Sum of two quantised tensors.

    Equation:
        C = saturate(round((a_scale * (A - a_zp) + b_scale * (B - b_zp)) / c_scale) + c_zp)
    Basic operations:
        Per element of A and of B before broadcasting 1 sub and 1 mul; per output element 1 add, 1 div, 1 compare to
        round, 1 add for c_zp, 2 compare to saturate, all in the type of the scales. Zero points absent or known to be
        zero and scales known to be one cost nothing.
    Not counted:
        Casts and broadcasting.
    Example:
        A[2, 3], B[3], all zero points unknown: sub = mul = 9, add = 12, div = 6, compare = 18.
    Reference:
        Contrib operators: QLinearAdd.
    """
    dtype = dtype_of(op.input(1), "the first scale")
    results = size_of(op.output(0), "the output")
    left = dequantising(dtype, size_of(op.input(0), "the first operand"), op.input(1), op.input(2))
    right = dequantising(dtype, size_of(op.input(3), "the second operand"), op.input(4), op.input(5))
    return left + right + Counts.of(dtype, add=results) + quantising(dtype, results, op.input(6), op.input(7))


@rule("QLinearMul", family="quantize", domain="com.microsoft")
def qlinear_mul(op: Operator) -> Counts:
    """Product, element by element, of two quantised tensors.

    Equation:
        C = saturate(round((A - a_zp) * (B - b_zp) * (a_scale * b_scale / c_scale)) + c_zp)
    Basic operations:
        Per element of A and of B before broadcasting 1 int32 sub; per output element 1 mul at the operand width, then
        in the type of the scales 1 mul by the fused scale, 1 compare to round, 1 add for c_zp, 2 compare to saturate.
        Zero points absent or known to be zero cost nothing, nor does the scale where all three are known to be one. No
        MACs.
    Not counted:
        The fused scale, a constant of the model; broadcasting.
    Example:
        A[2, 3], B[3] uint8, all zero points unknown: int32 sub = 9, uint8 mul = 6, float32 mul = 6, add = 6, compare =
        18.
    Reference:
        Contrib operators: QLinearMul.
    """
    left, right = op.input(0), op.input(3)
    results = size_of(op.output(0), "the output")
    products, _ = product_types(dtype_of(left), dtype_of(right, "the second operand"))
    scales = (op.input(1), op.input(4), op.input(6))
    requantised = requantising(dtype_of(op.input(1), "the first scale"), results, scales, op.input(7))
    centred = centring(left, op.input(2)) + centring(right, op.input(5))
    return centred + Counts.of(products, mul=results) + requantised


def _between(op: Operator, computed: Counts) -> Counts:
    """Dequantise input 0, compute, quantise output 0: X, x_scale, x_zero_point, y_scale, y_zero_point."""
    dtype = dtype_of(op.input(1), "the input scale")
    before = dequantising(dtype, size_of(op.input(0), "the input"), op.input(1), op.input(2))
    return before + computed + quantising(dtype, size_of(op.output(0), "the output"), op.input(3), op.input(4))


@rule("QLinearSigmoid", "QLinearLeakyRelu", family="quantize", domain="com.microsoft")
def qlinear_activation(op: Operator) -> Counts:
    """An activation of a quantised tensor.

    Equation:
        Y = quantise(f(dequantise(X))), f = Sigmoid or LeakyRelu
    Basic operations:
        Per element 1 sub and 1 mul to dequantise; Sigmoid sub + root + add + div, LeakyRelu 1 compare + 1 mul; 1 div, 1
        compare to round, 1 add for y_zp, 2 compare to saturate. Zero points absent or known to be zero and scales known
        to be one cost nothing.
    Not counted:
        Casts. Runtimes may look all 256 results up; the definition is counted.
    Example:
        QLinearSigmoid, X[6], both zero points unknown: sub = 6 + 6, mul = 6, add = 6 + 6, div = 6 + 6, root = 6,
        compare = 18.
    Reference:
        Contrib operators: QLinearSigmoid, QLinearLeakyRelu. TO paper, Eq. 4.
    """
    dtype = dtype_of(op.input(1), "the input scale")
    once = sigmoid(dtype) if op.op_type == "QLinearSigmoid" else Counts.of(dtype, mul=1, compare=1)
    return _between(op, once * size_of(op.input(0), "the input"))


@rule("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearReduceMean", family="quantize", domain="com.microsoft")
def qlinear_mean(op: Operator) -> Counts:
    """Means of a quantised tensor.

    Equation:
        Y = quantise(mean of k elements of dequantise(X)); k = prod(kernel_shape), or all elements that are reduced
    Basic operations:
        Per input element 1 sub and 1 mul to dequantise; per output element k - 1 add and 1 div (none for k = 1), then 1
        div, 1 compare to round, 1 add for y_zp, 2 compare to saturate. Zero points absent or known to be zero and
        scales known to be one cost nothing. Padding taps are added like any other (dense count).
    Not counted:
        Casts, index arithmetic.
    Example:
        QLinearGlobalAveragePool, X[1, 2, 2, 2], both zero points unknown: sub = mul = 8, add = 6 + 2, div = 2 + 2,
        compare = 6.
    Reference:
        Contrib operators: QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean.
    """
    results = size_of(op.output(0), "the output")
    if op.op_type == "QLinearAveragePool":
        length = math.prod(int(size) for size in op.attributes["kernel_shape"])
    else:
        length = size_of(op.input(0), "the input") // max(results, 1)
    dtype = dtype_of(op.input(1), "the input scale")
    return _between(op, Counts.of(dtype, add=results * max(length - 1, 0), div=results if length != 1 else 0))


@rule("QLinearSoftmax", family="quantize", domain="com.microsoft")
def qlinear_softmax(op: Operator) -> Counts:
    """Softmax of a quantised tensor.

    Equation:
        Y = quantise(softmax(dequantise(X))) along `axis`; for `opset` below 13 over all axes from `axis` on
    Basic operations:
        Per element 1 sub and 1 mul to dequantise; per line of n elements n - 1 compare, n sub, n root, n - 1 add, n
        div; per element 1 div, 1 compare to round, 1 add for y_zp, 2 compare to saturate. Zero points absent or known
        to be zero and scales known to be one cost nothing.
    Not counted:
        Casts. Runtimes may look exponentials up; the definition is counted.
    Example:
        X[2, 3], both zero points unknown: sub = 6 + 6, mul = 6, root = 6, add = 4 + 6, div = 6 + 6, compare = 4 + 18.
    Reference:
        Contrib operators: QLinearSoftmax.
    """
    shape = shape_of(op.input(0), "the input")
    axis = op.attributes.get("axis")
    if int(op.attributes.get("opset", 13)) >= 13:
        lines, length = lines_along(shape, -1 if axis is None else int(axis))
    else:
        lines, length = lines_from(shape, 1 if axis is None else int(axis))
    return _between(op, softmax_line(dtype_of(op.input(1), "the input scale"), length) * lines)


def _same(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None or left.value is None or right.value is None:
        return False
    return bool(np.array_equal(left.value.reshape(-1), right.value.reshape(-1)))


@rule("QLinearConcat", family="quantize", domain="com.microsoft")
def qlinear_concat(op: Operator) -> Counts:
    """Concatenation of quantised tensors with different scales.

    Equation:
        Y = concat over i of quantise(dequantise(X_i)); a tensor whose scale and zero point are those of Y is copied
    Basic operations:
        Per element of a tensor that is not copied 1 sub and 1 mul to dequantise, 1 div, 1 compare to round, 1 add for
        y_zp, 2 compare to saturate. Zero points known to be zero and scales known to be one cost nothing.
    Not counted:
        Copies and casts.
    Example:
        Two tensors of 3 elements, the second with the scale and zero point of Y, others unknown: sub = mul = div = add
        = 3, compare = 9.
    Reference:
        Contrib operators: QLinearConcat.
    """
    out_scale, out_point = op.input(0), op.input(1)
    dtype = dtype_of(out_scale, "the output scale")
    total = Counts()
    for position in range(2, len(op.inputs), 3):
        size = size_of(op.input(position), "a tensor")
        scale, point = op.input(position + 1), op.input(position + 2)
        if _same(scale, out_scale) and _same(point, out_point):
            continue
        total += dequantising(dtype, size, scale, point) + quantising(dtype, size, out_scale, out_point)
    return total


@rule("QLinearWhere", family="quantize", domain="com.microsoft")
def qlinear_where(op: Operator) -> Counts:
    """A choice between two quantised tensors with scales of their own.

    Equation:
        Z = condition ? quantise(dequantise(X)) : quantise(dequantise(Y)); a tensor whose scale and zero point are those
        of Z is copied
    Basic operations:
        Per element of X and of Y before broadcasting, unless it is copied, 1 sub and 1 mul to dequantise, 1 div, 1
        compare to round, 1 add for z_zp, 2 compare to saturate. Zero points known to be zero and scales known to be one
        cost nothing.
    Not counted:
        The choice, copies, casts and broadcasting. Runtimes may look the results up; the definition is counted.
    Example:
        X[2, 3] with the scale and zero point of Z, Y[3] with unknown ones: sub = mul = div = add = 3, compare = 9.
    Reference:
        Contrib operators: QLinearWhere.
    """
    out_scale, out_point = op.input(7), op.input(8)
    dtype = dtype_of(out_scale, "the output scale")
    total = Counts()
    for position in (1, 4):
        scale, point = op.input(position + 1), op.input(position + 2)
        if _same(scale, out_scale) and _same(point, out_point):
            continue
        size = size_of(op.input(position), "a tensor")
        total += dequantising(dtype, size, scale, point) + quantising(dtype, size, out_scale, out_point)
    return total


@rule("MulInteger", family="quantize", domain="com.microsoft")
def mul_integer(op: Operator) -> Counts:
    """Product, element by element, of integers with an int32 result.

    Equation:
        C = (A - a_zero_point) * (B - b_zero_point)
    Basic operations:
        Per element of A and of B before broadcasting 1 int32 sub where the zero point is present and not known to be
        zero; per output element 1 mul at the operand width (signed if either is). No MACs.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3] uint8 with an unknown zero point, B[3] uint8 without: int32 sub = 6, uint8 mul = 6.
    Reference:
        Contrib operators: MulInteger.
    """
    left, right = op.input(0), op.input(2)
    products, _ = product_types(dtype_of(left), dtype_of(right, "the second operand"))
    centred = centring(left, op.input(1)) + centring(right, op.input(3))
    return centred + Counts.of(products, mul=size_of(op.output(0), "the output"))


@rule("ReduceSumInteger", family="quantize", domain="com.microsoft")
def reduce_sum_integer(op: Operator) -> Counts:
    """Sums of integers over axes in an int32 accumulator.

    Equation:
        Y[o] = X[o, 1] + ... + X[o, n]
    Basic operations:
        Per result of n elements n - 1 add in the type of the result.
    Not counted:
        Casts.
    Example:
        X[2, 5] uint8 over axis 1: int32 add = 8.
    Reference:
        Contrib operators: ReduceSumInteger.
    """
    results = size_of(op.output(0), "the output")
    n = size_of(op.input(0), "the input") // max(results, 1)
    return Counts.of(dtype_of(op.output(0), "the output"), add=results * max(n - 1, 0))


@rule("QOrderedGelu", family="quantize", domain="com.microsoft")
def qordered_gelu(op: Operator) -> Counts:
    """GELU of a symmetrically quantised tensor.

    Equation:
        Y = quantise(gelu(X * x_scale)), gelu(x) = x * sigmoid(1.702 x)
    Basic operations:
        Per element 1 mul to dequantise, 1 sub, 1 root, 1 add, 1 div, 2 mul for GELU, 1 div, 1 compare to round, 2
        compare to saturate. Scales known to be one cost nothing.
    Not counted:
        Casts.
    Example:
        X[6], unknown scales: mul = 18, sub = root = add = 6, div = 12, compare = 18.
    Reference:
        Contrib operators: QOrderedGelu. TO paper, Eq. 5.
    """
    size, dtype = size_of(op.input(0), "the input"), dtype_of(op.input(1), "the input scale")
    once = sigmoid(dtype) + Counts.of(dtype, mul=2)
    before = dequantising(dtype, size, op.input(1), None)
    return before + once * size + quantising(dtype, size, op.input(2), None)
