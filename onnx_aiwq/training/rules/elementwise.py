"""Gradients of elementwise arithmetic and of transcendental functions.

A gradient is formed at the size of the output and summed over the dimensions in which its input was broadcast.
"""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, known_scalar, power, softmax_lines
from onnx_aiwq.operations.registry import find_rule, size_of
from onnx_aiwq.training.registry import backward, broadcast_sums, gradient_stops
from onnx_aiwq.vocabulary import Counts, Operator

gradient_stops(
    *("Floor", "Ceil", "Round", "Sign", "IsNaN", "IsInf", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    *("And", "Or", "Xor", "Not", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift"),
    why="Constant between its jumps: the gradient is zero wherever it exists.",
)


def _per_output(op: Operator, wanted: frozenset[int], one: Counts) -> Counts:
    return one * (size_of(op.output(0), "the output") * len(wanted)) + broadcast_sums(op, wanted)


def _per_element(op: Operator, **numbers: int) -> Counts:
    return Counts.of(dtype_of(op.input(0)), **numbers) * size_of(op.input(0), "the input")


@backward("Add", "Sum", saves="nothing")
def add(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient goes to every summand.

    Equation:
        dA = g, dB = g, each summed over the dimensions that were broadcast
    Basic operations:
        per wanted input: size(Y) - size(input) add
    Not counted:
        copies of g
    Example:
        A (2, 3) + B (3), both wanted: 6 - 3 = 3 add
    Reference:
        ONNX operators: Add, Sum; TO convention, table 1.2 (FC db)
    """
    return broadcast_sums(op, wanted)


@backward("Sub", saves="nothing")
def subtract(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient goes to the minuend, its negation to the subtrahend.

    Equation:
        dA = g, dB = -g, each summed over the dimensions that were broadcast
    Basic operations:
        per wanted input: size(Y) - size(input) add; dB: size(B) sub (the negation, after the sum)
    Not counted:
        copies of g
    Example:
        A (2, 3) - B (3), both wanted: 3 add, 3 sub
    Reference:
        ONNX operators: Sub
    """
    negated = size_of(op.input(1), "the subtrahend") if 1 in wanted else 0
    return broadcast_sums(op, wanted) + Counts.of(dtype_of(op.input(0)), sub=negated)


@backward("Mul", saves="factors")
def multiply(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient times the other factor.

    Equation:
        dA = g * B, dB = g * A, each summed over the dimensions that were broadcast
    Basic operations:
        per wanted input: size(Y) mul, size(Y) - size(input) add
    Not counted:
        broadcasting
    Example:
        A (2, 3) * B (3), both wanted: 12 mul, 3 add
    Reference:
        ONNX operators: Mul
    """
    return _per_output(op, wanted, Counts.of(dtype_of(op.input(0)), mul=1))


@backward("Div")
def divide(op: Operator, wanted: frozenset[int]) -> Counts:
    """The quotient of the gradient and the divisor, for the divisor times the result.

    Equation:
        q = g / B; dA = q, dB = -(q * Y), each summed over the dimensions that were broadcast; Y is saved
    Basic operations:
        size(Y) div once; dB: size(Y) mul, size(B) sub (the negation, after the sum); per wanted input
        size(Y) - size(input) add
    Not counted:
        broadcasting
    Example:
        A (2, 3) / B (3), both wanted: 6 div, 6 mul, 3 sub, 3 add
    Reference:
        ONNX operators: Div
    """
    size = size_of(op.output(0), "the output")
    divisor = 1 in wanted
    negated = size_of(op.input(1), "the divisor") if divisor else 0
    counts = Counts.of(dtype_of(op.input(0)), div=size, mul=size if divisor else 0, sub=negated)
    return counts + broadcast_sums(op, wanted)


@backward("Pow")
def pow_(op: Operator, wanted: frozenset[int]) -> Counts:
    """Derivative of a power.

    Equation:
        E a known number e: dX = g * (e * X^(e-1)); e = 1/2: dX = g * (1/2) / Y. Else h = g * Y, dX = h * E / X,
        dE = h * log X, each summed over the dimensions that were broadcast; Y is saved
    Basic operations:
        e known: per output element X^(e-1) as Pow counts it, and 2 mul; e = 1/2: 1 mul, 1 div; e = 1 or 0: nothing.
        Else per output element 1 mul once, 1 mul + 1 div for dX, 1 mul + 1 root for dE. Sums as in Mul
    Not counted:
        broadcasting
    Example:
        X (2, 5) ^ 3: x * x, times 3, times g: 30 mul; X (2, 5) ^ 2: 20 mul
    Reference:
        ONNX operators: Pow
    """
    dtype = dtype_of(op.input(0))
    size = size_of(op.output(0), "the output")
    exponent = None if 1 in wanted else known_scalar(op.input(1))
    if exponent is None:
        one = Counts.of(dtype, mul=1)
        one += Counts.of(dtype, mul=1, div=1) if 0 in wanted else Counts()
        one += Counts.of(dtype, mul=1, root=1) if 1 in wanted else Counts()
    elif exponent in (0.0, 1.0):
        one = Counts()
    elif exponent == 0.5:
        one = Counts.of(dtype, mul=1, div=1)
    else:
        one = power(dtype, exponent - 1) + Counts.of(dtype, mul=2)
    return one * size + broadcast_sums(op, wanted)


@backward("Max", "Min", "Where", "Mean")
def select(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient goes where the element came from; for Mean to every term, divided by their number.

    Equation:
        Max, Min, Where: dX_k = g where X_k was chosen, else 0; Mean of n: dX_k = g * (1/n); each summed over the
        dimensions that were broadcast
    Basic operations:
        Mean with n > 1: size(Y) mul once; per wanted input: size(Y) - size(input) add
    Not counted:
        the mask of the choice, which is movement; 1/n
    Example:
        Where(c, X (2, 3), Y (1)), both wanted: 6 - 1 = 5 add
    Reference:
        ONNX operators: Max, Min, Where, Mean
    """
    scaled = op.op_type == "Mean" and len(op.inputs) > 1
    scaling = Counts.of(dtype_of(op.output(0)), mul=size_of(op.output(0), "the output") if scaled else 0)
    return scaling + broadcast_sums(op, wanted)


@backward("Abs", "Clip", inputs=[0])
def masked(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient, its sign changed or masked.

    Equation:
        Abs: dX = g if X >= 0, else -g (a sign bit); Clip: dX = g if min <= X <= max, else 0
    Basic operations:
        nothing
    Not counted:
        the mask, which the forward pass saved; the sign bit
    Example:
        Clip of X (2, 3): 0
    Reference:
        ONNX operators: Abs, Clip; TO convention, table 1.2 (ReLU bwd)
    """
    return Counts()


@backward("Neg", saves="nothing")
def negate(op: Operator, wanted: frozenset[int]) -> Counts:
    """The negated gradient.

    Equation:
        dX = -g
    Basic operations:
        size(X) sub
    Not counted:
        nothing
    Example:
        X (2, 3): 6 sub
    Reference:
        ONNX operators: Neg
    """
    return _per_element(op, sub=1)


@backward("CumSum", inputs=[0], saves="nothing")
def cumulative_sum(op: Operator, wanted: frozenset[int]) -> Counts:
    """The cumulative sum of the gradient from the other end.

    Equation:
        dX[i] = g[i] + g[i+1] + ...
    Basic operations:
        as CumSum
    Not counted:
        the direction
    Example:
        X (2, 5) along axis 1: 8 add
    Reference:
        ONNX operators: CumSum
    """
    rule = find_rule("CumSum", "", op.version)
    return rule.function(op) if rule is not None and rule.function is not None else Counts()


# Per element, with the result y of the forward pass at hand: {operator: counts}.
_DERIVATIVES: dict[str, dict[str, int]] = {
    "Sqrt": {"mul": 1, "div": 1},  # g * 1/2 / y
    "Exp": {"mul": 1},  # g * y
    "Log": {"div": 1},  # g / x
    "Reciprocal": {"mul": 2, "sub": 1},  # -(g * y * y)
    "Erf": {"mul": 3, "sub": 1, "root": 1},  # g * c * exp(-(x * x)), c = 2 / sqrt(pi)
    "Sin": {"mul": 1, "root": 1},  # g * cos x
    "Cos": {"mul": 1, "sub": 1, "root": 1},  # -(g * sin x)
    "Tan": {"mul": 2, "add": 1},  # g * (1 + y * y)
    "Asin": {"mul": 1, "sub": 1, "root": 1, "div": 1},  # g / sqrt(1 - x * x)
    "Acos": {"mul": 1, "sub": 2, "root": 1, "div": 1},  # -(g / sqrt(1 - x * x))
    "Atan": {"mul": 1, "add": 1, "div": 1},  # g / (1 + x * x)
    "Asinh": {"mul": 1, "add": 1, "root": 1, "div": 1},  # g / sqrt(x * x + 1)
    "Acosh": {"mul": 1, "sub": 1, "root": 1, "div": 1},  # g / sqrt(x * x - 1)
    "Atanh": {"mul": 1, "sub": 1, "div": 1},  # g / (1 - x * x)
    "Sinh": {"mul": 1, "add": 1, "root": 1, "div": 2},  # g * (e + 1 / e) / 2, e = exp x
    "Cosh": {"mul": 1, "sub": 1, "root": 1, "div": 2},  # g * (e - 1 / e) / 2, e = exp x
}


@backward(*_DERIVATIVES)
def elementary_function(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient times the derivative; the result y of the forward pass is saved.

    Equation:
        Sqrt g (1/2) / y, Exp g y, Log g / x, Reciprocal -(g y y), Erf g c exp(-(x x)), Sin g cos x, Cos -(g sin x),
        Tan g (1 + y y), Asin g / sqrt(1 - x x), Acos -(g / sqrt(1 - x x)), Atan g / (1 + x x),
        Asinh g / sqrt(x x + 1), Acosh g / sqrt(x x - 1), Atanh g / (1 - x x), Sinh g cosh x, Cosh g sinh x
    Basic operations:
        per element what the equation writes: a negation is 1 sub, sqrt, exp, sin and cos are 1 root each, cosh and
        sinh are composed as their forward rules compose them (1 root, 2 div, 1 add or sub)
    Not counted:
        the constant c = 2 / sqrt(pi)
    Example:
        Erf of X (2, 3): 18 mul, 6 sub, 6 root
    Reference:
        ONNX operators: Sqrt, Exp, Log, Reciprocal, Erf, Sin, ...; TO paper Eq. 2
    """
    return _per_element(op, **_DERIVATIVES[op.op_type])


@backward("Softmax", "LogSoftmax")
def softmax(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradient of the normalised exponentials of every line of n; y is saved.

    Equation:
        Softmax: dX = y * (g - sum(g * y)); LogSoftmax: dX = g - exp(y) * sum(g)
    Basic operations:
        per line: Softmax 2n mul, n - 1 add, n sub; LogSoftmax n root, n mul, n - 1 add, n sub
    Not counted:
        nothing
    Example:
        Softmax of X (2, 5), axis 1: 20 mul, 8 add, 10 sub
    Reference:
        ONNX operators: Softmax, LogSoftmax
    """
    lines, n = softmax_lines(op)
    log = op.op_type == "LogSoftmax"
    one = Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), sub=n, mul=n if log else 2 * n, root=n if log else 0)
    return one * lines
