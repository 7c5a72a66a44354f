"""Products of 8-bit floats, and of weights that are stored in few bits."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import (
    GELU_SLOPE,
    dot_products,
    dtype_of,
    known_scalar,
    operand_types,
    scaled_sigmoid_product,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator, Tensor


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
    activations["GELU"] = scaled_sigmoid_product(dtype, GELU_SLOPE)
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
        elements = {"silu": 1.0, "swish": 1.0, "gelu": GELU_SLOPE}
        if name not in (*elements, "relu"):
            raise ShapeError(f"activation {name!r} of MatMulNBitsMlp {op.name!r} is not known")
        once = Counts.of(dtype, compare=1) if name == "relu" else scaled_sigmoid_product(dtype, elements[name])
        gated = (once + Counts.of(dtype, mul=1)) * size_of(op.output(0), "the output")
    for width, bias in products:
        normalised += _unpacked_product(op, width, bias)
    return normalised + gated
