"""Gradients of activation functions, per element; every element is counted on the costlier side of a distinction."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, known_scalar
from onnx_aiwq.operations.registry import size_of
from onnx_aiwq.training.registry import backward, broadcast_sums, gradient_stops
from onnx_aiwq.vocabulary import Counts, Operator

gradient_stops("Hardmax", why="Constant between its jumps: the gradient is zero wherever it exists.")


def _per_element(op: Operator, **numbers: int) -> Counts:
    return Counts.of(dtype_of(op.input(0)), **numbers) * size_of(op.input(0), "the input")


@backward("Relu", "ThresholdedRelu", "Shrink")
def relu(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient where the element passed.

    Equation:
        dX = g where the forward pass let X through, else 0
    Basic operations:
        nothing
    Not counted:
        the mask, which the forward pass saved
    Example:
        X (1, 64, 56, 56): 0
    Reference:
        ONNX operators: Relu, ThresholdedRelu, Shrink; TO convention, table 1.2
    """
    return Counts()


@backward("LeakyRelu")
def leaky_relu(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient times the slope.

    Equation:
        dX = g where X >= 0, else g * slope
    Basic operations:
        size(X) mul
    Not counted:
        the mask
    Example:
        X (2, 3): 6 mul
    Reference:
        ONNX operators: LeakyRelu
    """
    return _per_element(op, mul=1)


@backward("PRelu")
def prelu(op: Operator, wanted: frozenset[int]) -> Counts:
    """As LeakyRelu, with a gradient of the slope.

    Equation:
        dX = g where X >= 0, else g * slope; dslope = sum of g * X where X < 0
    Basic operations:
        size(X) mul for each of the two; dslope: size(X) - size(slope) add
    Not counted:
        the mask
    Example:
        X (2, 3), slope (3), both wanted: 12 mul, 3 add
    Reference:
        ONNX operators: PRelu
    """
    return _per_element(op, mul=len(wanted)) + broadcast_sums(op, wanted)


@backward("Elu", "Celu", "Selu")
def elu(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of exponential linear units from their saved result y.

    Equation:
        Elu: dX = g * (y + alpha); Selu: dX = g * (y + gamma alpha); Celu: dX = g * (y / alpha + 1)
    Basic operations:
        per element 1 add, 1 mul; Celu 1 div more unless alpha is one
    Not counted:
        gamma alpha; which elements are negative is not known, so all are counted as such
    Example:
        Elu of X (2, 3): 6 add, 6 mul
    Reference:
        ONNX operators: Elu, Celu, Selu
    """
    divided = int(op.op_type == "Celu" and op.attributes.get("alpha", 1.0) != 1)
    return _per_element(op, add=1, mul=1, div=divided)


@backward("Sigmoid", "Tanh")
def saturating(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient from the saved result y.

    Equation:
        Sigmoid: dX = g * y * (1 - y); Tanh: dX = g * (1 - y * y)
    Basic operations:
        per element 1 sub, 2 mul
    Not counted:
        nothing
    Example:
        X (2, 3): 6 sub, 12 mul
    Reference:
        ONNX operators: Sigmoid, Tanh; TO convention, table 1.2
    """
    return _per_element(op, sub=1, mul=2)


@backward("HardSigmoid")
def hard_sigmoid(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient times the slope where the element is between the ends.

    Equation:
        dX = g * alpha where 0 < y < 1, else 0
    Basic operations:
        size(X) mul (none if alpha is one)
    Not counted:
        the mask
    Example:
        X (2, 3): 6 mul
    Reference:
        ONNX operators: HardSigmoid
    """
    return _per_element(op, mul=int(op.attributes.get("alpha", 0.2) != 1))


@backward("HardSwish")
def hard_swish(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of x * (x / 6 + 1 / 2) between the ends.

    Equation:
        dX = g * (x * (1/3) + 1/2) where -3 < x < 3, else g or 0
    Basic operations:
        per element 2 mul, 1 add
    Not counted:
        the mask
    Example:
        X (2, 3): 12 mul, 6 add
    Reference:
        ONNX operators: HardSwish
    """
    return _per_element(op, add=1, mul=2)


@backward("Softplus", "Softsign")
def soft(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient from what the forward pass saved.

    Equation:
        Softplus: dX = g * (e / d), e = exp(x) and d = 1 + e saved; Softsign: dX = g / (d * d), d = 1 + |x| saved
    Basic operations:
        per element 1 mul, 1 div
    Not counted:
        nothing
    Example:
        X (2, 3): 6 mul, 6 div
    Reference:
        ONNX operators: Softplus, Softsign
    """
    return _per_element(op, mul=1, div=1)


@backward("Mish")
def mish(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of x * t, t = tanh(softplus(x)).

    Equation:
        dX = g * (t + x * (1 - t * t) * (e / d)), t, e = exp(x) and d = 1 + e saved
    Basic operations:
        per element 4 mul, 1 sub, 1 div, 1 add
    Not counted:
        nothing
    Example:
        X (2, 3): 24 mul, 6 sub, 6 div, 6 add
    Reference:
        ONNX operators: Mish
    """
    return _per_element(op, add=1, sub=1, mul=4, div=1)


def _scaled_sigmoid_product(op: Operator, alpha: float) -> Counts:
    return _per_element(op, add=1, sub=1, mul=3 + int(alpha != 1))


@backward("Swish")
@backward("QuickGelu", domain="com.microsoft")
def swish(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of x * s, s = sigmoid(alpha x), of which x and s are saved.

    Equation:
        dX = g * (s + alpha * x * (s * (1 - s)))
    Basic operations:
        per element 1 sub, 1 add, 3 mul, and 1 mul unless alpha is one
    Not counted:
        an alpha of one
    Example:
        SiLU of X (2, 3): 6 sub, 6 add, 18 mul
    Reference:
        ONNX operators: Swish; onnxruntime contrib operators: QuickGelu; TO convention, table 1.2 (SiLU bwd)
    """
    default = 1.0 if op.op_type == "Swish" else 1.702
    return _scaled_sigmoid_product(op, op.attributes.get("alpha", default))


@backward("Gelu")
@backward("Gelu", "FastGelu", "BiasGelu", domain="com.microsoft")
def gelu(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of the form that the TO paper counts, x * sigmoid(1.702 x); x and the sigmoid s are saved.

    Equation:
        dX = g * (s + 1.702 * x * (s * (1 - s))); the gradient of a bias is that of X, summed
    Basic operations:
        per element 1 sub, 1 add, 4 mul; a wanted bias size(X) - size(bias) add
    Not counted:
        the difference between the erf and the tanh form: both are counted by Eq. 5
    Example:
        X (2, 3): 6 sub, 6 add, 24 mul
    Reference:
        ONNX operators: Gelu; onnxruntime contrib operators: Gelu, FastGelu, BiasGelu; TO convention, table 1.2
    """
    return _scaled_sigmoid_product(op, 1.702) + broadcast_sums(op, wanted - {0})


@backward("Dropout", inputs=[0])
def dropout(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient through the mask of a dropout that is in training mode, else the gradient itself.

    Equation:
        inference: dX = g; training: dX = mask * g * (1 / (1 - ratio))
    Basic operations:
        inference: nothing; `training_mode` not known to be false: size(X) mul, unless the ratio is known to be 0
    Not counted:
        the mask
    Example:
        X [2, 3], training_mode true: 6 mul
    Reference:
        ONNX operators: Dropout
    """
    mode, ratio = op.input(2), op.input(1)
    inactive = mode is None or (mode.value is not None and not mode.value.any())
    if inactive or (ratio is not None and known_scalar(ratio) == 0.0):
        return Counts()
    return _per_element(op, mul=1)
