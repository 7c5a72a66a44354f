"""Attention whose products are those of integers."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.attention_parts import projected_attention
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"


@rule("QAttention", family="attention", domain=_CONTRIB)
def qattention(op: Operator) -> Counts:
    """Multi-head self attention whose projection to Q, K and V is quantised.

    Equation:
        [Q, K, V] = ((X - x_zp) (W - w_zp)) * (x_scale * w_scale) + B; Y = softmax(scale * Q K^T + mask) V
    Basic operations:
        The projection multiplies at the operand width (signed if either is) and adds in int32; one int32 sub per
        element of X and W whose zero point is present and not known to be zero; per element of Q, K and V 1 mul by the
        scales (none where both are known to be one) and 1 add of the bias. The rest as in the contrib operator
        Attention. MACs = mul of the three products.
    Not counted:
        The product of the two scales; making a mask of mask_index and of `unidirectional`; copies of the past.
    Example:
        X[1, 2, 4] uint8, W[4, 12] int8, no zero points, 2 heads: int8 mul = 96, int32 add = 72; float32 mul = 24 + 32 +
        8 = 64, add = 24 + 8 + 4 + 8 = 44, sub = root = div = 8, compare = 4; MACs = 128.
    Reference:
        Contrib operators: QAttention. TO paper, Eq. 3.
    """
    data, weight = op.input(0), op.input(1)
    dtype = dtype_of(op.input(3), "the input scale")
    batch, length, channels = shape_of(data, "the input")
    results = batch * length * shape_of(weight, "the weight")[1]
    signed = DType.INT8 in (dtype_of(data), dtype_of(weight, "the weight"))
    pairs = results * channels
    products = Counts.of(DType.INT8 if signed else DType.UINT8, mul=pairs, macs=pairs)
    shifted = 0
    for operand, zero_point in ((data, op.input(6)), (weight, op.input(7))):
        if zero_point is not None and (zero_point.value is None or zero_point.value.any()):
            shifted += size_of(operand, "an operand")
    sums = Counts.of(DType.INT32, add=results * max(channels - 1, 0), sub=shifted)
    known = [tensor is not None and tensor.value is not None and (tensor.value == 1).all() for tensor in op.inputs[3:5]]
    real = Counts.of(dtype, add=0 if op.input(2) is None else results, mul=0 if all(known) else results)
    return products + sums + real + projected_attention(op, int(op.input(5) is not None), op.input(8), dtype)
