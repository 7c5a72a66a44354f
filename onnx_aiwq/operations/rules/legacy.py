"""Elementwise operators that ONNX dropped with opset 10 and that onnxruntime still runs in models of older opsets."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, softplus, tanh
from onnx_aiwq.operations.registry import movement, rule, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

movement(
    *("Crop", "DynamicSlice"),
    traffic="selected",
    why="Copies selected elements; computing their addresses is indexing, not arithmetic on data.",
)
movement(
    "SampleOp",
    domain="com.microsoft",
    why="Copies its input: an example of how an operator is added to onnxruntime.",
)


def _factor(op: Operator, name: str) -> int:
    """1 where multiplying by an attribute costs a mul; a factor of one, which is also the default, costs nothing."""
    return int(op.attributes.get(name, 1.0) != 1.0)


def _per_element(op: Operator, one: Counts) -> Counts:
    return one * size_of(op.input(0), "the input")


@rule("Affine", "Scale", family="elementwise")
def affine(op: Operator) -> Counts:
    """A factor and, in Affine, a summand for every element.

    Equation:
        Affine: Y[i] = alpha * X[i] + beta; Scale: Y[i] = scale * X[i]
    Basic operations:
        per element 1 mul; Affine 1 add more; a factor of one and a beta of zero cost nothing
    Not counted:
        nothing
    Example:
        Affine, X (2, 3), alpha 2, beta 1: 6 mul, 6 add. Scale, scale 0.5: 6 mul
    Reference:
        ONNX operators of opset 1 to 9 (experimental): Affine, Scale
    """
    dtype = dtype_of(op.input(0))
    if op.op_type == "Scale":
        return _per_element(op, Counts.of(dtype, mul=_factor(op, "scale")))
    shifted = int(op.attributes.get("beta", 0.0) != 0.0)
    return _per_element(op, Counts.of(dtype, mul=_factor(op, "alpha"), add=shifted))


@rule("ImageScaler", family="elementwise")
def image_scaler(op: Operator) -> Counts:
    """One factor for an image and one summand for each of its channels.

    Equation:
        Y[n, c, h, w] = scale * X[n, c, h, w] + bias[c]
    Basic operations:
        per element 1 mul (none for a scale of one) and 1 add (none without a bias that differs from zero)
    Not counted:
        nothing
    Example:
        X (1, 2, 3, 3), scale 2, bias (1, 0): 18 mul, 18 add
    Reference:
        ONNX operators of opset 1 to 9 (experimental): ImageScaler
    """
    shifted = int(any(op.attributes.get("bias") or ()))
    return _per_element(op, Counts.of(dtype_of(op.input(0)), mul=_factor(op, "scale"), add=shifted))


def _scaled(op: Operator, dtype: DType, one: Counts) -> Counts:
    """alpha * f(beta * x) for every element."""
    return _per_element(op, one + Counts.of(dtype, mul=_factor(op, "alpha") + _factor(op, "beta")))


@rule("ParametricSoftplus", family="activation")
def parametric_softplus(op: Operator) -> Counts:
    """Softplus with a factor inside and outside.

    Equation:
        Y[i] = alpha * log(1 + exp(beta * X[i]))
    Basic operations:
        per element 2 root, 1 add, 2 mul; a factor of one costs nothing
    Not counted:
        nothing
    Example:
        X (2, 3), alpha 2, beta 3: 12 root, 6 add, 12 mul
    Reference:
        ONNX operators of opset 1 to 9 (experimental): ParametricSoftplus
    """
    dtype = dtype_of(op.input(0))
    return _scaled(op, dtype, softplus(dtype))


@rule("ScaledTanh", family="activation")
def scaled_tanh(op: Operator) -> Counts:
    """Hyperbolic tangent with a factor inside and outside.

    Equation:
        Y[i] = alpha * tanh(beta * X[i]), tanh(x) = (e^2x - 1) / (e^2x + 1)
    Basic operations:
        per element 1 mul, 1 root, 1 sub, 1 add, 1 div, and 1 mul for each factor that is not one
    Not counted:
        nothing
    Example:
        X (2, 3), alpha 2, beta 1: 12 mul, 6 root, 6 sub, 6 add, 6 div
    Reference:
        ONNX operators of opset 1 to 9 (experimental): ScaledTanh
    """
    dtype = dtype_of(op.input(0))
    return _scaled(op, dtype, tanh(dtype))
