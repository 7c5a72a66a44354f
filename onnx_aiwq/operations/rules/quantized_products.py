"""Dense products of quantised tensors, multiplied at operand width. Conventions: see `operations.quantizing`."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.quantizing import (
    centring,
    dynamic_quantising,
    integer_products,
    is_scaling,
    requantising,
    rounding,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


def _taps(weight: Tensor | None) -> int:
    return math.prod(shape_of(weight, "the weight")[1:])


@rule("ConvInteger", family="dense")
def conv_integer(op: Operator) -> Counts:
    """Convolution of integers with an int32 result.

    Equation:
        Y = Conv(x - x_zero_point, w - w_zero_point)
    Basic operations:
        Per output element K = C/G * prod(kernel) mul at the operand width (signed if either is) and K - 1 add in int32;
        one int32 sub per element of x and of w whose zero point is present and not known to be zero; MACs = mul.
        Padding taps are multiplied like any other.
    Not counted:
        Index arithmetic and the padding itself.
    Example:
        x[1, 1, 3, 3] uint8 with an unknown zero point, w[1, 1, 2, 2] int8 without: 4 outputs; int8 mul = MACs = 16,
        int32 add = 12, int32 sub = 9.
    Reference:
        ONNX operators: ConvInteger. TO paper, Eq. 5.
    """
    data, weight = op.input(0), op.input(1)
    product = integer_products(size_of(op.output(0), "the output"), _taps(weight), data, weight)
    return product + centring(data, op.input(2)) + centring(weight, op.input(3))


@rule("MatMulInteger", family="dense")
@rule("MatMulInteger16", family="dense", domain="com.microsoft")
def matmul_integer(op: Operator) -> Counts:
    """Matrix product of integers with an int32 result.

    Equation:
        Y = (A - a_zero_point) @ (B - b_zero_point)
    Basic operations:
        Per output element K mul at the operand width (signed if either is) and K - 1 add in int32; one int32 sub per
        element of A and of B whose zero point is present and not known to be zero; MACs = mul.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3] uint8 with an unknown zero point, B[3, 4] uint8 without: uint8 mul = MACs = 24, int32 add = 16,
        int32 sub = 6.
    Reference:
        ONNX operators: MatMulInteger. Contrib operators: MatMulInteger16. TO paper, Eq. 3.
    """
    left, right = op.input(0), op.input(1)
    product = integer_products(size_of(op.output(0), "the output"), shape_of(left, "the first matrix")[-1], left, right)
    return product + centring(left, op.input(2)) + centring(right, op.input(3))


@rule("QLinearConv", family="dense")
@rule("QLinearConv", family="dense", domain="com.microsoft")
def qlinear_conv(op: Operator) -> Counts:
    """Convolution of quantised tensors with a quantised result.

    Equation:
        y = saturate(round((Conv(x - x_zp, w - w_zp) + B) * (x_scale * w_scale / y_scale)) + y_zp)
    Basic operations:
        Per output element K = C/G * prod(kernel) mul at the operand width (signed if either is), K - 1 add in int32, 1
        add more with a bias; one int32 sub per element of x and of w whose zero point is not known to be zero.
        Requantisation per output element in the type of the scale: 1 mul (none where all three scales are known to be
        one), 1 compare to round, 1 add unless y_zp is known to be zero, 2 compare to saturate. MACs = K per output
        element.
    Not counted:
        The fused scale, a constant of the model; index arithmetic and the padding itself.
    Example:
        x[1, 1, 3, 3] uint8, w[1, 1, 2, 2] int8, x_zp = 128, w_zp = 0, y_zp = 5, bias: 4 outputs; int8 mul = MACs = 16,
        int32 add = 12 + 4, int32 sub = 9, float32 mul = 4, add = 4, compare = 12.
    Reference:
        ONNX operators: QLinearConv. Contrib operators: QLinearConv. TO paper, Eq. 5.
    """
    data, weight = op.input(0), op.input(3)
    results = size_of(op.output(0), "the output")
    product = integer_products(results, _taps(weight), data, weight, op.input(8))
    scales = (op.input(1), op.input(4), op.input(6))
    requantised = requantising(dtype_of(op.input(6), "the output scale"), results, scales, op.input(7))
    return product + centring(data, op.input(2)) + centring(weight, op.input(5)) + requantised


@rule("QLinearMatMul", family="dense")
def qlinear_matmul(op: Operator) -> Counts:
    """Matrix product of quantised tensors with a quantised result.

    Equation:
        y = saturate(round(((a - a_zp) @ (b - b_zp)) * (a_scale * b_scale / y_scale)) + y_zp)
    Basic operations:
        Per output element K mul at the operand width (signed if either is) and K - 1 add in int32; one int32 sub per
        element of a and of b whose zero point is not known to be zero. Requantisation per output element in the type of
        the scale: 1 mul (none where all three scales are known to be one), 1 compare to round, 1 add unless y_zp is
        known to be zero, 2 compare to saturate. MACs = K per output element. float8 operands multiply and add in their
        own type.
    Not counted:
        The fused scale, a constant of the model; broadcasting.
    Example:
        a[2, 3] uint8, b[3, 4] uint8, all zero points unknown: uint8 mul = MACs = 24, int32 add = 16, int32 sub = 6 +
        12, float32 mul = 8, add = 8, compare = 24.
    Reference:
        ONNX operators: QLinearMatMul. TO paper, Eq. 3.
    """
    left, right = op.input(0), op.input(3)
    results = size_of(op.output(0), "the output")
    product = integer_products(results, shape_of(left, "the first matrix")[-1], left, right)
    scales = (op.input(1), op.input(4), op.input(6))
    requantised = requantising(dtype_of(op.input(6), "the output scale"), results, scales, op.input(7))
    return product + centring(left, op.input(2)) + centring(right, op.input(5)) + requantised


@rule("QGemm", family="dense", domain="com.microsoft")
def qgemm(op: Operator) -> Counts:
    """General matrix product of quantised tensors.

    Equation:
        acc = (A' - a_zp) @ (B' - b_zp) + C; Y = saturate(round(acc * (alpha * a_scale * b_scale / y_scale)) + y_zp), or
        Y = acc * (alpha * a_scale * b_scale) where y_scale is absent
    Basic operations:
        As QLinearMatMul; C adds one int32 add per output element. Without y_scale, 1 mul per output element alone
        follows. alpha is part of the fused scale.
    Not counted:
        The fused scale, a constant of the model; transpositions and broadcasting.
    Example:
        A[2, 3] uint8, B[3, 4] uint8, zero points known to be 0, C[4], no y_scale: uint8 mul = MACs = 24, int32 add = 16
        + 8, float32 mul = 8.
    Reference:
        Contrib operators: QGemm. TO paper, Eq. 3.
    """
    left, right, out_scale = op.input(0), op.input(3), op.input(7)
    results = size_of(op.output(0), "the output")
    length = shape_of(left, "the first matrix")[0 if op.attributes.get("transA") else 1]
    product = integer_products(results, length, left, right, op.input(6))
    product += centring(left, op.input(2)) + centring(right, op.input(5))
    dtype = dtype_of(op.input(1), "the first scale")
    inner = any(is_scaling(scale) for scale in (op.input(1), op.input(4))) or op.attributes.get("alpha", 1.0) != 1.0
    if out_scale is None:
        return product + Counts.of(dtype, mul=results if inner else 0)
    scaled = results if inner or is_scaling(out_scale) else 0
    return product + Counts.of(dtype, mul=scaled) + rounding(dtype, results, op.input(8))


@rule("MatMulIntegerToFloat", family="dense", domain="com.microsoft")
def matmul_integer_to_float(op: Operator) -> Counts:
    """Matrix product of integers with a real result.

    Equation:
        Y = ((A - a_zp) @ (B - b_zp)) * (a_scale * b_scale) + bias
    Basic operations:
        As MatMulInteger; per output element 1 mul by the combined scale (none where both are known to be one) and 1 add
        with a bias, in the type of Y; the combined scale 1 mul per element of b_scale unless both scales are constant.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3] uint8, B[3, 4] int8, no zero points, run-time a_scale[1], constant b_scale[4], bias[4]: int8 mul = MACs
        = 24, int32 add = 16, float32 mul = 8 + 4, float32 add = 8.
    Reference:
        Contrib operators: MatMulIntegerToFloat.
    """
    left, right, left_scale, right_scale = op.input(0), op.input(1), op.input(2), op.input(3)
    results = size_of(op.output(0), "the output")
    product = integer_products(results, shape_of(left, "the first matrix")[-1], left, right)
    product += centring(left, op.input(4)) + centring(right, op.input(5))
    scaled = results if is_scaling(left_scale) or is_scaling(right_scale) else 0
    if is_scaling(left_scale) and is_scaling(right_scale) and not _constant(left_scale, right_scale):
        scaled += max(size_of(left_scale, "the first scale"), size_of(right_scale, "the second scale"))
    biased = 0 if op.input(6) is None else results
    return product + Counts.of(dtype_of(left_scale, "the first scale"), add=biased, mul=scaled)


def _constant(*tensors: Tensor | None) -> bool:
    return all(tensor is not None and (tensor.constant or tensor.value is not None) for tensor in tensors)


@rule("DynamicQuantizeMatMul", family="dense", domain="com.microsoft")
def dynamic_quantize_matmul(op: Operator) -> Counts:
    """Matrix product with a left operand that is quantised on the way.

    Equation:
        a, a_scale, a_zp = DynamicQuantizeLinear(A); Y = ((a - a_zp) @ (B - b_zp)) * (a_scale * b_scale) + bias
    Basic operations:
        Those of DynamicQuantizeLinear on A; per output element K mul at the operand width of uint8 and B (signed if B
        is) and K - 1 add in int32; one int32 sub per element of A, and of B where b_zp is present and not known to be
        zero; the combined scale 1 mul per element of b_scale (none where that is known to be one), 1 mul per output
        element, 1 add with a bias.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3], B[3, 4] int8, b_scale[1], no b_zp, no bias: 6 elements are quantised (add 6, sub 2, div 8, compare 33);
        int8 mul = MACs = 24, int32 add = 16, int32 sub = 6, float32 mul = 1 + 8.
    Reference:
        Contrib operators: DynamicQuantizeMatMul.
    """
    left, right, right_scale = op.input(0), op.input(1), op.input(2)
    size, dtype = size_of(left, "the first matrix"), dtype_of(left)
    results = size_of(op.output(0), "the output")
    quantised = Tensor("", DType.UINT8, shape_of(left, "the first matrix"))
    product = integer_products(results, shape_of(left, "the first matrix")[-1], quantised, right)
    product += Counts.of(DType.INT32, sub=size) + centring(right, op.input(3))
    combined = size_of(right_scale, "the scale") if is_scaling(right_scale) else 0
    biased = 0 if op.input(4) is None else results
    return dynamic_quantising(dtype, size) + product + Counts.of(dtype, add=biased, mul=results + combined)


@rule("QOrderedMatMul", family="dense", domain="com.microsoft")
def qordered_matmul(op: Operator) -> Counts:
    """Matrix product of symmetrically quantised tensors with a quantised result.

    Equation:
        Y = saturate(round(A B * (a_scale * b_scale / y_scale) + bias / y_scale + C * (c_scale / y_scale)))
    Basic operations:
        Per output element K int8 mul and K - 1 int32 add; in the type of the scales 1 mul by the fused scale, with a
        bias 1 add, with C 1 mul and 1 add; 1 compare to round, 2 compare to saturate. MACs = K per output element.
    Not counted:
        Fused scales and the scaled bias, constants of the model; layouts.
    Example:
        A[1, 2, 3], B[3, 4], bias[4]: int8 mul = MACs = 24, int32 add = 16, float32 mul = 8, add = 8, compare = 24.
    Reference:
        Contrib operators: QOrderedMatMul. TO paper, Eq. 3.
    """
    left, right = op.input(0), op.input(2)
    results = size_of(op.output(0), "the output")
    dtype = dtype_of(op.input(1), "the first scale")
    product = integer_products(results, shape_of(left, "the first matrix")[-1], left, right)
    summand = 0 if op.input(6) is None else results
    added = summand + (0 if op.input(5) is None else results)
    scales = (op.input(1), op.input(3), op.input(4))
    return product + requantising(dtype, results, scales, None) + Counts.of(dtype, add=added, mul=summand)
