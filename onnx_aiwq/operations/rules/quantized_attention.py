"""Attention whose products are those of integers."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, softmax_line
from onnx_aiwq.operations.attention_parts import AttentionSizes, projected_attention, shares_buffer, windowed_attention
from onnx_aiwq.operations.quantizing import dequantising, integer_products, is_scaling, quantising, requantising
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"


@rule("QAttention", family="attention", domain=_CONTRIB, bound=shares_buffer)
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
        With a shared buffer, all of it counts (upper bound).
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


@rule("QOrderedAttention", family="attention", domain=_CONTRIB)
def qordered_attention(op: Operator) -> Counts:
    """Multi-head self attention of symmetrically quantised tensors: every product is one of int8.

    Equation:
        Q = quantise(X Wq + bq), K and V likewise; S = quantise(Q K^T); P = quantise(softmax(dequantise(S) / sqrt(d) +
        mask + attention_bias)); Y = quantise(P V)
    Basic operations:
        Each product of length K is K int8 mul and K - 1 int32 add per result, and in the type of the scales 1 mul by
        the combined scales (none where all are known to be one), 1 compare to round, 2 compare to saturate; Q, K and V
        1 add more for the bias, divided by the scale. Per score 1 mul to dequantise and scale (none where the scale is
        known to be one and d = 1), 1 add for mask_index, 1 add for attention_bias; softmax per line of k scores k - 1
        compare, k sub, k root, k - 1 add, k div; per probability 1 div (none where the scale is known to be one), 1
        compare to round, 2 compare to saturate. MACs = mul of all products.
    Not counted:
        Fused scales and scaled biases, constants of the model; making a mask; layouts. Runtimes may look exponentials
        up; the definition is counted. Scores masked by `unidirectional` are computed like any other.
    Example:
        X[1, 2, 4], W[4, 4] each, 2 heads, no mask: 24 elements, 8 scores in 4 lines, 8 results; int8 mul = MACs = 96 +
        16 + 16 = 128, int32 add = 72 + 8 + 8 = 88; float32 mul = 24 + 8 + 8 + 8 = 48, add = 24 + 4 = 28, sub = root =
        8, div = 8 + 8 = 16, compare = 72 + 24 + 4 + 24 + 24 = 148.
    Reference:
        Contrib operators: QOrderedAttention. TO paper, Eq. 3.
    """
    data, dtype = op.input(0), dtype_of(op.input(1), "the input scale")
    batch, length, channels = shape_of(data, "the input")
    heads, total, widths = int(op.attributes["num_heads"]), Counts(), []
    for position in range(3):
        weight = op.input(5 + position)
        widths.append(shape_of(weight, "a weight")[1])
        results = batch * length * widths[-1]
        scales = (op.input(1), op.input(8 + position), op.input(2 + position))
        total += integer_products(results, channels, data, weight) + requantising(dtype, results, scales, None)
        total += Counts.of(dtype, add=results)
    keys = length + (0 if op.input(18) is None else shape_of(op.input(18), "the past")[3])
    sizes = AttentionSizes(batch, heads, length, keys, widths[0] // heads, widths[2] // heads)
    types, scored, probable = (DType.INT8, DType.INT32), op.input(14), op.input(15)
    total += dot_products(types, sizes.scores, sizes.width)
    total += requantising(dtype, sizes.scores, (op.input(2), op.input(3), scored), None)
    scaled = sizes.scores if is_scaling(scored) or sizes.width != 1 else 0
    sums = (op.input(17) is not None) + (op.input(19) is not None)
    total += Counts.of(dtype, add=sums * sizes.scores, mul=scaled) + softmax_line(dtype, keys) * sizes.lines
    total += quantising(dtype, sizes.scores, probable, None)
    results = sizes.lines * sizes.value_width
    total += dot_products(types, results, keys)
    return total + requantising(dtype, results, (probable, op.input(4), op.input(16)), None)


@rule("QOrderedLongformerAttention", family="attention", domain=_CONTRIB, bound=True)
def qordered_longformer_attention(op: Operator) -> Counts:
    """LongformerAttention with projections of int8 and a quantised result (upper bound).

    Equation:
        [Q, K, V] = dequantise(quantise(X W + b)), [Q', K', V'] = dequantise(quantise(X W' + b')); Y =
        quantise(LongformerAttention of them)
    Basic operations:
        As LongformerAttention, with as many global tokens as the window is wide. The projections multiply in int8 and
        add in int32; per projected element in the type of the scales 1 mul by the combined scales, 1 add of the bias, 1
        compare to round, 2 compare to saturate, then 1 mul to dequantise in the type of the mask, in which the
        attention is computed. Per output element 1 div, 1 compare to round, 2 compare to saturate in the type of the
        scales. Scales that are known to be one cost nothing. MACs = mul of all products.
    Not counted:
        Finding the global tokens; masks; fused scales and scaled biases, constants of the model; layouts, casts.
    Example:
        X[1, 4, 2], 1 head, W = 1, mask float16: 42 projected elements; int8 mul = 84, int32 add = 42, float32 mul = add
        = 42, compare = 126 + 24 = 150, div = 8; float16 mul = 42 + 20 + 80 = 142, MACs = 84 + 80 = 164.
    Reference:
        Contrib operators: QOrderedLongformerAttention, LongformerAttention. Beltagy and others, arXiv 2004.05150.
    """
    data, dtype = op.input(0), dtype_of(op.input(1), "the input scale")
    batch, length, hidden = shape_of(data, "the input")
    heads, window = int(op.attributes["num_heads"]), int(op.attributes["window"])
    computed, total = dtype_of(op.input(7), "the mask"), Counts()
    for tokens, first in ((3 * length, 2), (2 * length + window, 8)):
        results, out = batch * tokens * hidden, op.input(6 if first == 2 else 11)
        scales = (op.input(1), op.input(first + 1), out)
        total += integer_products(results, hidden, data, op.input(first)) + requantising(dtype, results, scales, None)
        total += Counts.of(dtype, add=results) + dequantising(computed, results, out, None)
    total += windowed_attention(computed, batch * heads, length, window, hidden // heads)
    return total + quantising(dtype, batch * length * hidden, op.input(13), None)
