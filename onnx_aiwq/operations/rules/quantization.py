"""Quantisation and dequantisation of tensors. Conventions: see `operations.quantizing`."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.quantizing import (
    dequantising,
    dynamic_quantising,
    is_scaling,
    is_shifting,
    quantising,
    rounding,
)
from onnx_aiwq.operations.registry import rule, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator


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
    divided = Counts.of(dtype, div=size if is_scaling(scale) else 0)
    return divided + rounding(dtype, size, zero_point, saturated=saturated)


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
    return dequantising(dtype, size_of(op.input(0), "the input"), op.input(1), op.input(2))


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
    return dynamic_quantising(dtype_of(op.input(0)), size_of(op.input(0), "the input"))


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
    shifts = dtype_of(op.input(0)) is DType.UINT8 if points is None else is_shifting(points)
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
        return quantising(dtype, size, scale, None)
    return dequantising(dtype, size, scale, None)
