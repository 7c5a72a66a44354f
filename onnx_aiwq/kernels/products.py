"""Kernels of dense products: convolutions, products of matrices, recurrent networks, attention."""

from __future__ import annotations

import math

from onnx_aiwq.kernels.shapes import Description, attribute_int, attribute_ints, channels_first, log2, shape_of
from onnx_aiwq.vocabulary import Operator, Tensor

BLOCKED = "com.microsoft.nchwc"
_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "QLinearConv": 3, "ConvInteger": 1, "ConvTranspose": 1}
_PRODUCTS = {
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "FusedMatMul": (0, 1),
    "FusedGemm": (0, 1),
    "FusedMatMulActivation": (0, 1),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (0, 1),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
    "TransposeMatMul": (0, 1),
}
_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention"})


def describe_product(operator: Operator) -> Description | None:
    """The kernel of a dense product, or None."""
    op_type = operator.op_type
    if op_type in _CONVOLUTIONS:
        return _convolution(operator, shape_of(operator.input(_CONVOLUTIONS[op_type])))
    if op_type in _PRODUCTS:
        left, right = _PRODUCTS[op_type]
        return _product(operator, operator.input(left), operator.input(right))
    if op_type == "MatMulNBits":
        return _few_bits(operator)
    if op_type in _RECURRENT:
        return _recurrent(operator)
    if op_type in _ATTENTION:
        return _attention(operator)
    return None


def _convolution(operator: Operator, weight: tuple[int, ...]) -> Description | None:
    x, y = channels_first(operator, operator.input(0)), channels_first(operator, operator.output(0))
    if len(x) < 3 or len(weight) < 3 or len(y) < 3:
        return None
    groups = attribute_int(operator, "group", 1)
    transposed = operator.op_type == "ConvTranspose"
    per_group = weight[0] // groups if transposed else weight[1]
    channels = weight[1] if transposed else weight[0] // groups
    kernel = weight[2:]
    strides, dilations = attribute_ints(operator, "strides", (1,)), attribute_ints(operator, "dilations", (1,))
    layout = _layout(operator)
    if groups > 1 and per_group == 1:
        form = "depthwise"
    elif groups > 1:
        form = "grouped"
    elif layout == "blocked" and x[1] < 8:
        form = "first"
    elif math.prod(kernel) == 1:
        form = "1x1"
    else:
        form = "kxk"
    features = (
        log2(per_group),
        log2(channels),
        log2(groups),
        log2(x[0] * math.prod(y[2:])),
        log2(y[-1]),
        log2(math.prod(kernel)),
        log2(kernel[-1]),
        log2(max(strides)),
        float(max(dilations, default=1) > 1),
        _partial(channels, 16),
        _partial(y[-1], 6 if layout == "blocked" else 16),
        float(_adds_input(operator)),
        _activation_weight(operator),
    )
    return Description(f"{layout}-{form}", "convolution", features)


def _layout(operator: Operator) -> str:
    if operator.domain == BLOCKED:
        return "blocked"
    return {"QLinearConv": "qconv", "ConvInteger": "convinteger", "ConvTranspose": "convtranspose"}.get(
        operator.op_type, "conv"
    )


def _adds_input(operator: Operator) -> bool:
    return operator.op_type in ("Conv", "FusedConv") and len(operator.inputs) > 3 and operator.inputs[3] is not None


_COSTLY = {
    "Sigmoid": 1.0,
    "Tanh": 1.0,
    "HardSigmoid": 0.3,
    "HardSwish": 0.3,
    "Relu": 0.1,
    "LeakyRelu": 0.2,
    "Clip": 0.1,
}


def _activation_weight(operator: Operator) -> float:
    return _COSTLY.get(str(operator.attributes.get("activation", "")), 0.0)


def _partial(size: int, block: int) -> float:
    """Share of the last block's work that is wasted when a size is cut into blocks."""
    blocks = -(-size // block)
    return 1 - size / (blocks * block) if blocks else 0.0


def _product(operator: Operator, left: Tensor | None, right: Tensor | None) -> Description | None:
    a, b, y = shape_of(left), shape_of(right), shape_of(operator.output(0))
    if not a or not b or left is None or right is None:
        return None
    transposed = bool(attribute_int(operator, "transA"))
    inner = a[-2] if transposed and len(a) > 1 else a[-1]
    columns = y[-1] if y and len(b) > 1 else 1
    rows = math.prod(y) // max(1, columns)
    batch = 1
    if len(b) > 2:
        batch = max(1, math.prod(y[:-2]))
        rows = y[-2] if len(y) > 1 else 1
    constant = right.constant
    form = ("gemm" if rows > 1 else "gemv") if constant else ("bmm" if rows > 1 else "bmv")
    if operator.op_type in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "TransposeMatMul", "FusedMatMulActivation"):
        kind = form
    else:
        kind = f"{operator.op_type.lower()}-{form}"
    features = (
        log2(rows),
        log2(inner),
        log2(columns),
        log2(batch),
        _partial(rows, 12),
        _partial(columns, 16),
        float(attribute_int(operator, "transB") and not constant),
        float(transposed),
        float(len(operator.inputs) > 2 and operator.inputs[2] is not None),
        _activation_weight(operator),
    )
    return Description(kind, "product", features)


def _few_bits(operator: Operator) -> Description | None:
    x, y = shape_of(operator.input(0)), shape_of(operator.output(0))
    if not x or not y:
        return None
    rows = math.prod(y[:-1])
    features = (
        log2(rows),
        log2(x[-1]),
        log2(y[-1]),
        float(attribute_int(operator, "bits", 4)),
        log2(attribute_int(operator, "block_size", 32)),
        float(attribute_int(operator, "accuracy_level")),
    )
    return Description("matmulnbits" if rows > 1 else "matmulnbits-row", "product", features)


def _recurrent(operator: Operator) -> Description | None:
    x, r = shape_of(operator.input(0)), shape_of(operator.input(2))
    if len(x) != 3 or len(r) != 3:
        return None
    gates = _RECURRENT[operator.op_type]
    directions, hidden = r[0], attribute_int(operator, "hidden_size", r[2])
    steps, batch, width = x
    features = (
        log2(steps),
        log2(batch),
        log2(width),
        log2(hidden),
        float(directions),
        log2(directions * gates * hidden * (hidden + width)),
    )
    return Description(operator.op_type.lower(), "recurrent", features)


def _attention(operator: Operator) -> Description | None:
    x, y = shape_of(operator.input(0)), shape_of(operator.output(0))
    if len(x) != 3 or len(y) != 3:
        return None
    heads = attribute_int(operator, "num_heads", 1)
    key = shape_of(operator.input(1)) if operator.op_type != "Attention" else x
    features = (
        log2(x[0]),
        log2(x[1]),
        log2(key[1] if len(key) == 3 else x[1]),
        log2(heads),
        log2(y[-1] // max(1, heads)),
    )
    return Description(operator.op_type.lower(), "attention", features)
