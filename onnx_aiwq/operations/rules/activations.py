"""Activation functions: elementwise, composed of elementary functions.

Every element is counted as if it took the costlier side of a case distinction, whatever its value.
"""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import (
    dtype_of,
    known_scalar,
    scaled_sigmoid_product,
    sigmoid,
    softplus,
    tanh,
    unknown_input,
)
from onnx_aiwq.operations.registry import rule, size_of
from onnx_aiwq.vocabulary import Counts, Operator

GELU_SLOPE = 1.702
"""GELU is counted as x * sigmoid(1.702 x), which is what Eq. 5 of the TO paper counts."""


def _per_element(op: Operator, one: Counts) -> Counts:
    return one * size_of(op.input(0), "the input")


@rule("Relu", "ThresholdedRelu", family="activation")
def relu(op: Operator) -> Counts:
    """One comparison per element.

    Equation:
        Y[i] = max(X[i], 0); ThresholdedRelu: X[i] if X[i] > alpha, else 0
    Basic operations:
        size(X) compare
    Not counted:
        nothing
    Example:
        X (1, 64, 56, 56): 200704 compare
    Reference:
        ONNX operators: Relu, ThresholdedRelu
    """
    return _per_element(op, Counts.of(dtype_of(op.input(0)), compare=1))


@rule("LeakyRelu", "PRelu", family="activation")
def leaky_relu(op: Operator) -> Counts:
    """A comparison and a multiplication with the slope.

    Equation:
        Y[i] = X[i] if X[i] >= 0, else slope * X[i]
    Basic operations:
        size(X) compare, size(X) mul
    Not counted:
        broadcasting of the slope; which elements are negative is not known before a run, so all are multiplied
    Example:
        X (2, 3): 6 compare, 6 mul
    Reference:
        ONNX operators: LeakyRelu, PRelu
    """
    return _per_element(op, Counts.of(dtype_of(op.input(0)), mul=1, compare=1))


@rule("Elu", "Celu", family="activation")
def elu(op: Operator) -> Counts:
    """Exponential linear unit.

    Equation:
        Elu: Y[i] = X[i] if X[i] >= 0, else alpha * (exp(X[i]) - 1); Celu: exp(X[i] / alpha) instead
    Basic operations:
        per element: 1 compare, 1 root, 1 sub, 1 mul; Celu 1 div more; an alpha of one costs neither mul nor div
    Not counted:
        which elements are negative is not known before a run, so all are counted as such
    Example:
        Elu, alpha 2, X (2, 3): 6 compare, 6 root, 6 sub, 6 mul
    Reference:
        ONNX operators: Elu, Celu
    """
    scaled = int(op.attributes.get("alpha", 1.0) != 1)
    divided = scaled if op.op_type == "Celu" else 0
    return _per_element(op, Counts.of(dtype_of(op.input(0)), sub=1, mul=scaled, div=divided, root=1, compare=1))


@rule("Selu", family="activation")
def selu(op: Operator) -> Counts:
    """Scaled exponential linear unit.

    Equation:
        Y[i] = gamma * (X[i] if X[i] > 0, else alpha * exp(X[i]) - alpha)
    Basic operations:
        per element: 1 compare, 1 root, 1 sub, 2 mul; an alpha or a gamma of one saves its mul
    Not counted:
        which elements are negative is not known before a run, so all are counted as such
    Example:
        X (2, 3): 6 compare, 6 root, 6 sub, 12 mul
    Reference:
        ONNX operators: Selu
    """
    factors = sum(op.attributes.get(name) != 1 for name in ("alpha", "gamma"))
    return _per_element(op, Counts.of(dtype_of(op.input(0)), sub=1, mul=factors, root=1, compare=1))


@rule("Sigmoid", family="activation")
def sigmoid_(op: Operator) -> Counts:
    """The logistic function.

    Equation:
        Y[i] = 1 / (1 + exp(-X[i]))
    Basic operations:
        per element: 1 sub (the negation), 1 root, 1 add, 1 div
    Not counted:
        nothing
    Example:
        X (2, 3): 6 sub, 6 root, 6 add, 6 div
    Reference:
        ONNX operators: Sigmoid; TO paper Eq. 4
    """
    return _per_element(op, sigmoid(dtype_of(op.input(0))))


def _hard_sigmoid(op: Operator, alpha: float, beta: float) -> Counts:
    return Counts.of(dtype_of(op.input(0)), add=int(beta != 0), mul=int(alpha != 1), compare=2)


@rule("HardSigmoid", family="activation")
def hard_sigmoid(op: Operator) -> Counts:
    """A straight line between zero and one.

    Equation:
        Y[i] = max(0, min(1, alpha * X[i] + beta))
    Basic operations:
        per element: 1 mul (none if alpha is one), 1 add (none if beta is zero), 2 compare
    Not counted:
        nothing
    Example:
        X (2, 3): 6 mul, 6 add, 12 compare
    Reference:
        ONNX operators: HardSigmoid
    """
    return _per_element(op, _hard_sigmoid(op, op.attributes.get("alpha", 0.2), op.attributes.get("beta", 0.5)))


@rule("HardSwish", family="activation")
def hard_swish(op: Operator) -> Counts:
    """HardSigmoid with alpha 1/6 and beta 1/2, times the input.

    Equation:
        Y[i] = X[i] * max(0, min(1, X[i] / 6 + 0.5))
    Basic operations:
        per element: 2 mul, 1 add, 2 compare
    Not counted:
        nothing
    Example:
        X (2, 3): 12 mul, 6 add, 12 compare
    Reference:
        ONNX operators: HardSwish
    """
    return _per_element(op, _hard_sigmoid(op, 1 / 6, 0.5) + Counts.of(dtype_of(op.input(0)), mul=1))


@rule("Tanh", family="activation")
def tanh_(op: Operator) -> Counts:
    """The hyperbolic tangent, composed of one exponential.

    Equation:
        Y[i] = (e - 1) / (e + 1), e = exp(2 * X[i])
    Basic operations:
        per element: 1 mul, 1 root, 1 sub, 1 add, 1 div
    Not counted:
        nothing
    Example:
        X (2, 3): 6 mul, 6 root, 6 sub, 6 add, 6 div
    Reference:
        ONNX operators: Tanh; counted as the TO paper counts the sigmoid, Eq. 4
    """
    return _per_element(op, tanh(dtype_of(op.input(0))))


@rule("Softplus", family="activation")
def softplus_(op: Operator) -> Counts:
    """A smooth ReLU.

    Equation:
        Y[i] = log(1 + exp(X[i]))
    Basic operations:
        per element: 2 root, 1 add
    Not counted:
        nothing
    Example:
        X (2, 3): 12 root, 6 add
    Reference:
        ONNX operators: Softplus
    """
    return _per_element(op, softplus(dtype_of(op.input(0))))


@rule("Softsign", family="activation")
def softsign(op: Operator) -> Counts:
    """A rational sigmoid.

    Equation:
        Y[i] = X[i] / (1 + |X[i]|)
    Basic operations:
        per element: 1 compare (the magnitude), 1 add, 1 div
    Not counted:
        nothing
    Example:
        X (2, 3): 6 compare, 6 add, 6 div
    Reference:
        ONNX operators: Softsign
    """
    return _per_element(op, Counts.of(dtype_of(op.input(0)), add=1, div=1, compare=1))


@rule("Mish", family="activation")
def mish(op: Operator) -> Counts:
    """Softplus, hyperbolic tangent and a product.

    Equation:
        Y[i] = X[i] * tanh(log(1 + exp(X[i])))
    Basic operations:
        per element: softplus (2 root, 1 add) + tanh (1 mul, 1 root, 1 sub, 1 add, 1 div) + 1 mul
    Not counted:
        nothing
    Example:
        X (2, 3): 18 root, 12 add, 12 mul, 6 sub, 6 div
    Reference:
        ONNX operators: Mish
    """
    dtype = dtype_of(op.input(0))
    return _per_element(op, softplus(dtype) + tanh(dtype) + Counts.of(dtype, mul=1))


@rule("Swish", family="activation")
@rule("SwiGLU", family="activation")
def swish(op: Operator) -> Counts:
    """The input times its sigmoid, also as a gate.

    Equation:
        Swish: Y[i] = X[i] * sigmoid(alpha * X[i]); SwiGLU: Y[i] = A[i] * sigmoid(alpha * A[i]) * B[i]
    Basic operations:
        per element: sigmoid (1 sub, 1 root, 1 add, 1 div) + 1 mul (+ 1 mul unless alpha is one) (+ 1 mul for the gate)
    Not counted:
        an alpha of one
    Example:
        SiLU of X (2, 3), alpha 1: 6 sub, 6 root, 6 add, 6 div, 6 mul
    Reference:
        ONNX operators: Swish, SwiGLU; TO paper Eq. 4
    """
    dtype = dtype_of(op.input(0))
    gate = Counts.of(dtype, mul=int(op.op_type == "SwiGLU"))
    return _per_element(op, scaled_sigmoid_product(dtype, op.attributes.get("alpha", 1.0)) + gate)


@rule("Shrink", family="activation")
def shrink(op: Operator) -> Counts:
    """Pull a number towards zero, small ones to zero.

    Equation:
        Y[i] = X[i] + bias if X[i] < -lambd, X[i] - bias if X[i] > lambd, else 0
    Basic operations:
        per element: 2 compare, and 1 sub (none if bias is zero); an element takes at most one of the two sides
    Not counted:
        which elements are small is not known before a run, so all are counted as large
    Example:
        bias 1.5, X (2, 3): 12 compare, 6 sub
    Reference:
        ONNX operators: Shrink
    """
    shifted = int(op.attributes.get("bias", 0.0) != 0)
    return _per_element(op, Counts.of(dtype_of(op.input(0)), sub=shifted, compare=2))


@rule("Gelu", family="activation")
@rule("Gelu", "FastGelu", "BiasGelu", family="activation", domain="com.microsoft")
def gelu(op: Operator) -> Counts:
    """Gaussian error linear unit, as the TO paper counts it.

    Equation:
        Y[i] = X[i] * sigmoid(1.702 * X[i]), X[i] + bias[i] instead of X[i] where there is a bias
    Basic operations:
        per element: 1 sub, 1 root, 1 add, 1 div, 2 mul; a bias (second input) 1 add more
    Not counted:
        the difference between the erf and the tanh form (`approximate`): both are counted by Eq. 5
    Example:
        X (2, 3): 6 sub, 6 root, 6 add, 6 div, 12 mul
    Reference:
        ONNX operators: Gelu; onnxruntime contrib operators: Gelu, FastGelu, BiasGelu; TO paper Eq. 5
    """
    dtype = dtype_of(op.input(0))
    bias = Counts.of(dtype, add=int(op.input(1) is not None))
    return _per_element(op, scaled_sigmoid_product(dtype, GELU_SLOPE) + bias)


@rule("QuickGelu", family="activation", domain="com.microsoft")
def quick_gelu(op: Operator) -> Counts:
    """Sigmoid approximation of GELU.

    Equation:
        Y[i] = X[i] * sigmoid(alpha * X[i])
    Basic operations:
        per element: 1 sub, 1 root, 1 add, 1 div, 2 mul (1 mul if alpha is one)
    Not counted:
        an alpha of one
    Example:
        alpha 1.702, X (2, 3): 6 sub, 6 root, 6 add, 6 div, 12 mul
    Reference:
        onnxruntime contrib operators: QuickGelu; TO paper Eq. 5
    """
    return _per_element(op, scaled_sigmoid_product(dtype_of(op.input(0)), op.attributes.get("alpha", GELU_SLOPE)))


@rule("BiasSplitGelu", family="activation", domain="com.microsoft")
def bias_split_gelu(op: Operator) -> Counts:
    """A biased tensor, its left half gated by the GELU of its right half.

    Equation:
        Y[n, s, d] = (X + b)[n, s, d] * gelu((X + b)[n, s, D/2 + d]), d < D/2
    Basic operations:
        size(X) add for the bias; per output element GELU (1 sub, 1 root, 1 add, 1 div, 2 mul) and 1 mul
    Not counted:
        the split
    Example:
        X (1, 2, 8): 16 add + 8 outputs with 8 sub, 8 root, 8 add, 8 div, 24 mul; 24 add in total
    Reference:
        onnxruntime contrib operators: BiasSplitGelu; TO paper Eq. 5
    """
    dtype = dtype_of(op.input(0))
    size = size_of(op.input(0), "the input")
    one = scaled_sigmoid_product(dtype, GELU_SLOPE) + Counts.of(dtype, mul=1)
    return Counts.of(dtype, add=size) + one * (size // 2)


@rule("BiasAdd", family="activation", domain="com.microsoft")
def bias_add(op: Operator) -> Counts:
    """Bias and residual of a transformer block.

    Equation:
        Y[n, s, c] = X[n, s, c] + bias[c] + skip[n, s, c]
    Basic operations:
        2 size(X) add
    Not counted:
        nothing
    Example:
        X (1, 2, 4): 16 add
    Reference:
        onnxruntime contrib operators: BiasAdd
    """
    return _per_element(op, Counts.of(dtype_of(op.input(0)), add=2))


@rule("BiasDropout", "BitmaskBiasDropout", family="activation", domain="com.microsoft", bound=unknown_input(4))
def bias_dropout(op: Operator) -> Counts:
    """Bias, dropout and residual; the dropout works only in training.

    Equation:
        Y[i] = Dropout(X[i] + bias[i]) + residual[i]; in training Dropout(z) = z / (1 - ratio) if r[i] >= ratio, else 0
    Basic operations:
        per element: 1 add, 1 add more with a residual; 1 compare and 1 mul more with a `training_mode` that is true or,
        as an upper bound, not known before the run
    Not counted:
        drawing the random numbers r; 1 / (1 - ratio), one value per call
    Example:
        X (1, 2, 4) with residual, inference: 16 add
    Reference:
        onnxruntime contrib operators: BiasDropout, BitmaskBiasDropout
    """
    training = int(op.input(4) is not None and known_scalar(op.input(4)) != 0)
    adds = 1 + int(op.input(2) is not None)
    return _per_element(op, Counts.of(dtype_of(op.input(0)), add=adds, mul=training, compare=training))


@rule("ScaledSiLU", family="activation", domain="com.microsoft")
def scaled_silu(op: Operator) -> Counts:
    """SiLU of a scaled number.

    Equation:
        Z[i] = s * X[i]; Y[i] = Z[i] * sigmoid(Z[i]), s the input `scale` or else `alpha`
    Basic operations:
        per element: 1 mul by s (none if it is known to be one), 1 sub, 1 root, 1 add, 1 div, 1 mul
    Not counted:
        casts
    Example:
        alpha 2, X (2, 3): 12 mul, 6 sub, 6 root, 6 add, 6 div
    Reference:
        onnxruntime contrib operators: ScaledSiLU; TO paper Eq. 4
    """
    scale = op.attributes.get("alpha", 1.0) if op.input(1) is None else known_scalar(op.input(1))
    dtype = dtype_of(op.input(0))
    return _per_element(op, scaled_sigmoid_product(dtype, 1) + Counts.of(dtype, mul=int(scale != 1)))
