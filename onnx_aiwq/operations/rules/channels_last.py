"""Operators that onnxruntime writes for channels-last kernels: each costs what its channels-first twin costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of, fused_activation
from onnx_aiwq.operations.quantizing import centring, requantising
from onnx_aiwq.operations.registry import find_rule, movement, rule, size_of
from onnx_aiwq.vocabulary import Counts, Operator, Tensor

_LAST = "com.ms.internal.nhwc"
_FIRST_OPSET = 11  # the domain has the versions of ai.onnx, from this one on
_TWIN_DOMAINS = {"QLinearAveragePool": "com.microsoft"}

movement(
    *("DepthToSpace", "SpaceToDepth"),
    domain=_LAST,
    why="Copies elements to other places in the channels-last layout.",
)
movement(
    "MaxUnpool",
    domain=_LAST,
    why="Scatters the elements of X to the positions that the indices name, zeros elsewhere, channels last.",
)


def _channels_first(tensor: Tensor | None) -> Tensor | None:
    """An image [n, ..., c] as [n, c, ...]."""
    if tensor is None or tensor.shape is None or len(tensor.shape) < 2:
        return tensor
    batch, *spatial, channels = tensor.shape
    value = None if tensor.value is None else np.moveaxis(tensor.value, -1, 1)
    return replace(tensor, shape=(batch, channels, *spatial), value=value)


def _transposed(op: Operator) -> Operator:
    """The operator on channels-first images; the first input and the outputs are images, other inputs are shared."""
    inputs = (_channels_first(op.input(0)), *op.inputs[1:])
    return replace(op, inputs=inputs, outputs=tuple(map(_channels_first, op.outputs)))


def _twin(op: Operator) -> Counts:
    """What the operator of the same name costs that has the channels in front."""
    version = max(op.version, _FIRST_OPSET)
    found = find_rule(op.op_type, _TWIN_DOMAINS.get(op.op_type, ""), version)
    if found is None or found.function is None:
        raise ShapeError(f"{op.op_type} {op.name!r} has no channels-first twin of version {version}")
    return found.function(replace(op, version=version))


@rule("Conv", "ConvTranspose", "QLinearConv", family="dense", domain=_LAST)
@rule(
    "AveragePool",
    "MaxPool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    family="pooling",
    domain=_LAST,
)
@rule("BatchNormalization", "InstanceNormalization", family="normalization", domain=_LAST)
@rule("GridSample", family="image", domain=_LAST)
def channels_last(op: Operator) -> Counts:
    """An operator of ai.onnx on an image whose channels stand last, with an optional activation.

    Equation:
        Y = activation(f(X)), f the operator of the same name of ai.onnx with X and Y stored as [n, ..., c]; weights,
        statistics and grids are stored as in ai.onnx
    Basic operations:
        Those of the operator of the same name on the transposed tensors, and per output element the activation as in
        FusedConv (Relu 1 compare, Clip 2 compare, ...). MACs likewise.
    Not counted:
        What the operator of ai.onnx does not count; the layout.
    Example:
        Conv, X[1, 5, 5, 3], W[4, 3, 3, 3], pads 1, bias, Relu: Y[1, 5, 5, 4]; mul = MACs = 2700, add = 2700, compare =
        100. GlobalAveragePool, X[1, 4, 4, 2]: add = 30, div = 2.
    Reference:
        ONNX operators: the one of the same name. onnxruntime registers its schema for the domain com.ms.internal.nhwc.
    """
    activated = (
        fused_activation(op, size_of(op.output(0), "the output")) if op.attributes.get("activation") else Counts()
    )
    return _twin(_transposed(op)) + activated


@rule("LRN", family="normalization", domain=_LAST)
@rule("Resize", family="image", domain=_LAST)
@rule("QLinearAveragePool", family="quantize", domain=_LAST)
def channels_last_elements(op: Operator) -> Counts:
    """An operator whose cost does not depend on which dimension holds the channels.

    Equation:
        Y = f(X), f the operator of the same name (QLinearAveragePool: of com.microsoft) with X and Y stored as [n, ...,
        c]; scales, sizes and roi of Resize are in the order of the dimensions of X as it is stored
    Basic operations:
        Those of the operator of the same name.
    Not counted:
        What that operator does not count; the layout.
    Example:
        Resize, X[1, 2, 2, 1] to Y[1, 4, 4, 1], linear: 16 elements of 4 taps: 64 mul, 48 add.
    Reference:
        ONNX operators: LRN, Resize. Contrib operators: QLinearAveragePool.
    """
    return _twin(op)


@rule("QLinearConvTranspose", family="dense", domain=_LAST)
def qlinear_conv_transpose(op: Operator) -> Counts:
    """Transposed convolution of quantised tensors, channels last, with a quantised result.

    Equation:
        y = saturate(round((ConvTranspose(x - x_zp, w - w_zp) + B) * (x_scale * w_scale / y_scale)) + y_zp)
    Basic operations:
        The products and sums of ConvTranspose, products at the operand width (signed if either is), sums in int32; one
        int32 sub per element of x and of w whose zero point is not known to be zero. Requantisation per output element
        in the type of the scale: 1 mul (none where all three scales are known to be one), 1 compare to round, 1 add
        unless y_zp is known to be zero, 2 compare to saturate. MACs = mul of the products.
    Not counted:
        The fused scale, a constant of the model; the crop, index arithmetic.
    Example:
        x[1, 1, 3, 1] uint8, w[1, 1, 1, 3] int8, stride 2, x_zp = 128, w_zp = 0, y_zp = 5, bias: 9 products on 7 cells;
        int8 mul = MACs = 9, int32 add = 2 + 7, int32 sub = 3, float32 mul = 7, add = 7, compare = 21.
    Reference:
        Contrib operators: QLinearConvTranspose. ONNX operators: ConvTranspose, QLinearConv.
    """
    data, weight = (
        None if tensor is None else replace(tensor, quantized=tensor.dtype) for tensor in (op.input(0), op.input(3))
    )
    plain = replace(op, op_type="ConvTranspose", inputs=(data, weight, op.input(8)))
    scales = (op.input(1), op.input(4), op.input(6))
    results = size_of(op.output(0), "the output")
    requantised = requantising(dtype_of(op.input(6), "the output scale"), results, scales, op.input(7))
    centred = centring(op.input(0), op.input(2)) + centring(op.input(3), op.input(5))
    return _twin(_transposed(plain)) + centred + requantised
