"""Quantisation, and what computes on quantised tensors: products at operand width, the rest in real numbers.

Shared conventions. A zero point that is absent or known to be zero, and a scale that is known to be one, cost nothing.
Scales that are combined (a_scale * b_scale / y_scale) are taken as one constant. Rounding is 1 compare, saturation is
2 compare.
"""

from __future__ import annotations

import math

import numpy as np

from onnx_aiwq.operations.arithmetic import (
    dot_products,
    dtype_of,
    lines_along,
    lines_from,
    product_types,
    sigmoid,
    softmax_line,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


def _shifts(zero_point: Tensor | None) -> bool:
    """Whether a zero point is present and not known to be zero."""
    return zero_point is not None and (zero_point.value is None or bool(np.any(zero_point.value)))


def _scales(scale: Tensor | None) -> bool:
    """Whether a scale is not known to be one."""
    return scale is None or scale.value is None or bool(np.any(scale.value != 1))


def _rounded(dtype: DType, size: int, zero_point: Tensor | None, *, saturated: bool = True) -> Counts:
    """The end of every quantisation: round, add the zero point, saturate."""
    return Counts.of(dtype, add=size if _shifts(zero_point) else 0, compare=(3 if saturated else 1) * size)


def _quantised(dtype: DType, size: int, scale: Tensor | None, zero_point: Tensor | None) -> Counts:
    """saturate(round(x / scale) + zero_point)."""
    return Counts.of(dtype, div=size if _scales(scale) else 0) + _rounded(dtype, size, zero_point)


def _dequantised(dtype: DType, size: int, scale: Tensor | None, zero_point: Tensor | None) -> Counts:
    """(x - zero_point) * scale."""
    return Counts.of(dtype, sub=size if _shifts(zero_point) else 0, mul=size if _scales(scale) else 0)


def _requantised(dtype: DType, size: int, scales: tuple[Tensor | None, ...], zero_point: Tensor | None) -> Counts:
    """saturate(round(x * fused scale) + zero_point)."""
    scaled = any(_scales(scale) for scale in scales)
    return Counts.of(dtype, mul=size if scaled else 0) + _rounded(dtype, size, zero_point)


def _centred(operand: Tensor | None, zero_point: Tensor | None) -> Counts:
    """Subtraction of a zero point from every element of an operand, in the accumulator's type."""
    size = size_of(operand, "an operand") if _shifts(zero_point) else 0
    kind = dtype_of(operand, "an operand")
    return Counts.of(DType.INT32 if kind.is_integer else kind, sub=size)


def _products(
    results: int, length: int, left: Tensor | None, right: Tensor | None, bias: Tensor | None = None
) -> Counts:
    """Dot products of integers, in the types of `product_types`."""
    types = product_types(dtype_of(left, "the first operand"), dtype_of(right, "the second operand"))
    return dot_products(types, results, length, bias)


def _taps(weight: Tensor | None) -> int:
    return math.prod(shape_of(weight, "the weight")[1:])


@rule("QuantizeLinear", family="quantize")
@rule("QuantizeLinear", family="quantize", domain="com.microsoft")
def quantize_linear(op: Operator) -> Counts:
    """Quantisation of a real tensor.

    Equation:
        y = saturate(round(x / y_scale) + y_zero_point), per tensor, per axis or per block
    Basic operations:
        Per element 1 div (none where the scale is known to be one), 1 compare to round, 1 add for a zero point that is
        present and not known to be zero, 2 compare to saturate (none for float8 with saturate = 0). Priced in the type
        of the attribute `precision` where given, else of the scale.
    Not counted:
        The cast; broadcasting of scales.
    Example:
        x[2, 3] to int8 with zero point 0: div = 6, compare = 18. With zero point 3: add = 6 more.
    Reference:
        ONNX operators: QuantizeLinear. Contrib operators: QuantizeLinear.
    """
    data, scale, zero_point = op.input(0), op.input(1), op.input(2)
    size = size_of(data, "the input")
    precision = DType.from_onnx(int(op.attributes.get("precision") or 0))
    dtype = dtype_of(scale, "the scale") if precision is DType.UNDEFINED else precision
    target = dtype_of(op.output(0), "the output")
    saturated = not target.label.startswith("float8") or bool(op.attributes.get("saturate", 1))
    divided = Counts.of(dtype, div=size if _scales(scale) else 0)
    return divided + _rounded(dtype, size, zero_point, saturated=saturated)


@rule("DequantizeLinear", family="quantize")
@rule("DequantizeLinear", family="quantize", domain="com.microsoft")
def dequantize_linear(op: Operator) -> Counts:
    """Reconstruction of a real tensor from a quantised one.

    Equation:
        y = (x - x_zero_point) * x_scale, per tensor, per axis or per block
    Basic operations:
        Per element 1 sub (none where the zero point is absent or known to be zero) and 1 mul (none where the scale is
        known to be one), both in the type of y.
    Not counted:
        The cast; broadcasting of scales.
    Example:
        x[2, 3] with zero point 128: sub = 6, mul = 6.
    Reference:
        ONNX operators: DequantizeLinear. Contrib operators: DequantizeLinear.
    """
    dtype = dtype_of(op.output(0), "the output")
    return _dequantised(dtype, size_of(op.input(0), "the input"), op.input(1), op.input(2))


def _dynamically_quantised(dtype: DType, size: int) -> Counts:
    """The function body of DynamicQuantizeLinear for `size` elements."""
    scale = Counts.of(dtype, sub=1, div=1, compare=2 * max(size - 1, 0) + 2)
    zero_point = Counts.of(dtype, sub=1, div=1, compare=3)
    return scale + zero_point + Counts.of(dtype, add=size, div=size, compare=3 * size)


@rule("DynamicQuantizeLinear", family="quantize")
def dynamic_quantize_linear(op: Operator) -> Counts:
    """Quantisation to uint8 with a scale and a zero point from the data.

    Equation:
        scale = (max(x, 0) - min(x, 0)) / 255; zero_point = round(clip(0 - min(x, 0) / scale, 0, 255));
        y = saturate(round(x / scale) + zero_point)
    Basic operations:
        For n elements, as its function body: 2 (n - 1) compare for the extrema and 2 for their comparison with zero, 1
        sub and 1 div for the scale, 1 div, 1 sub and 3 compare (clip, round) for the zero point; then per element 1
        div, 1 compare to round, 1 add, 2 compare to saturate.
    Not counted:
        Casts.
    Example:
        n = 10: add = 10, sub = 2, div = 12, compare = 18 + 2 + 3 + 30 = 53.
    Reference:
        ONNX operators: DynamicQuantizeLinear.
    """
    return _dynamically_quantised(dtype_of(op.input(0)), size_of(op.input(0), "the input"))


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
    product = _products(size_of(op.output(0), "the output"), _taps(weight), data, weight)
    return product + _centred(data, op.input(2)) + _centred(weight, op.input(3))


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
    product = _products(size_of(op.output(0), "the output"), shape_of(left, "the first matrix")[-1], left, right)
    return product + _centred(left, op.input(2)) + _centred(right, op.input(3))


@rule("QLinearConv", family="dense")
@rule("QLinearConv", family="dense", domain="com.microsoft")
@rule("QLinearConv", family="dense", domain="com.ms.internal.nhwc")
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
    product = _products(results, _taps(weight), data, weight, op.input(8))
    scales = (op.input(1), op.input(4), op.input(6))
    requantised = _requantised(dtype_of(op.input(6), "the output scale"), results, scales, op.input(7))
    return product + _centred(data, op.input(2)) + _centred(weight, op.input(5)) + requantised


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
    product = _products(results, shape_of(left, "the first matrix")[-1], left, right)
    scales = (op.input(1), op.input(4), op.input(6))
    requantised = _requantised(dtype_of(op.input(6), "the output scale"), results, scales, op.input(7))
    return product + _centred(left, op.input(2)) + _centred(right, op.input(5)) + requantised


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
    product = _products(results, length, left, right, op.input(6))
    product += _centred(left, op.input(2)) + _centred(right, op.input(5))
    dtype = dtype_of(op.input(1), "the first scale")
    inner = any(_scales(scale) for scale in (op.input(1), op.input(4))) or op.attributes.get("alpha", 1.0) != 1.0
    if out_scale is None:
        return product + Counts.of(dtype, mul=results if inner else 0)
    scaled = results if inner or _scales(out_scale) else 0
    return product + Counts.of(dtype, mul=scaled) + _rounded(dtype, results, op.input(8))


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
    product = _products(results, shape_of(left, "the first matrix")[-1], left, right)
    product += _centred(left, op.input(4)) + _centred(right, op.input(5))
    scaled = results if _scales(left_scale) or _scales(right_scale) else 0
    if _scales(left_scale) and _scales(right_scale) and not _constant(left_scale, right_scale):
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
    product = _products(results, shape_of(left, "the first matrix")[-1], quantised, right)
    product += Counts.of(DType.INT32, sub=size) + _centred(right, op.input(3))
    combined = size_of(right_scale, "the scale") if _scales(right_scale) else 0
    biased = 0 if op.input(4) is None else results
    return _dynamically_quantised(dtype, size) + product + Counts.of(dtype, add=biased, mul=results + combined)


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
    left = _dequantised(dtype, size_of(op.input(0), "the first operand"), op.input(1), op.input(2))
    right = _dequantised(dtype, size_of(op.input(3), "the second operand"), op.input(4), op.input(5))
    return left + right + Counts.of(dtype, add=results) + _quantised(dtype, results, op.input(6), op.input(7))


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
    requantised = _requantised(dtype_of(op.input(1), "the first scale"), results, scales, op.input(7))
    centred = _centred(left, op.input(2)) + _centred(right, op.input(5))
    return centred + Counts.of(products, mul=results) + requantised


def _between(op: Operator, computed: Counts) -> Counts:
    """Dequantise input 0, compute, quantise output 0: X, x_scale, x_zero_point, y_scale, y_zero_point."""
    dtype = dtype_of(op.input(1), "the input scale")
    before = _dequantised(dtype, size_of(op.input(0), "the input"), op.input(1), op.input(2))
    return before + computed + _quantised(dtype, size_of(op.output(0), "the output"), op.input(3), op.input(4))


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
        total += _dequantised(dtype, size, scale, point) + _quantised(dtype, size, out_scale, out_point)
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
        total += _dequantised(dtype, size, scale, point) + _quantised(dtype, size, out_scale, out_point)
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
    centred = _centred(left, op.input(1)) + _centred(right, op.input(3))
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


@rule("GatherBlockQuantized", family="quantize", domain="com.microsoft", traffic="selected")
def gather_block_quantized(op: Operator) -> Counts:
    """Selected rows of a table in few bits, dequantised.

    Equation:
        Y = (data[indices] - zero_point[block]) * scale[block]
    Basic operations:
        Per output element 1 mul, and 1 sub unless the zero point is known to be zero; without zero points, uint8 data
        shifts by the default 2^(bits - 1), other types by nothing. In the type of the output.
    Not counted:
        The look-up, unpacking of the bits. The bytes read from the table are taken as those of the output: too many.
    Example:
        data[8, 16] uint8 (4 bits, 32 values per row), indices[2]: 64 elements, sub = mul = 64.
    Reference:
        Contrib operators: GatherBlockQuantized.
    """
    size, points = size_of(op.output(0), "the output"), op.input(3)
    shifts = dtype_of(op.input(0)) is DType.UINT8 if points is None else _shifts(points)
    return Counts.of(dtype_of(op.output(0), "the output"), sub=size if shifts else 0, mul=size)


@rule("QuantizeWithOrder", "DequantizeWithOrder", family="quantize", domain="com.microsoft")
def quantize_with_order(op: Operator) -> Counts:
    """Symmetric quantisation to int8, or back, with a change of the matrix layout.

    Equation:
        y = saturate(round(x / scale)), or y = x * scale
    Basic operations:
        QuantizeWithOrder per element 1 div, 1 compare to round, 2 compare to saturate; DequantizeWithOrder per element
        1 mul. A scale that is known to be one costs nothing.
    Not counted:
        The change of layout, casts.
    Example:
        QuantizeWithOrder, x[2, 3], unknown scale: div = 6, compare = 18. DequantizeWithOrder: mul = 6.
    Reference:
        Contrib operators: QuantizeWithOrder, DequantizeWithOrder.
    """
    size, scale = size_of(op.input(0), "the input"), op.input(1)
    dtype = dtype_of(scale, "the scale")
    if op.op_type == "QuantizeWithOrder":
        return _quantised(dtype, size, scale, None)
    return _dequantised(dtype, size, scale, None)


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
    before = _dequantised(dtype, size, op.input(1), None)
    return before + once * size + _quantised(dtype, size, op.input(2), None)


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
    product = _products(results, shape_of(left, "the first matrix")[-1], left, right)
    summand = 0 if op.input(6) is None else results
    added = summand + (0 if op.input(5) is None else results)
    scales = (op.input(1), op.input(3), op.input(4))
    return product + _requantised(dtype, results, scales, None) + Counts.of(dtype, add=added, mul=summand)
