"""Elementwise arithmetic, comparison and logic, scans along an axis, determinants, and transcendental functions.

A result of a broadcast is computed once per element of the output.
"""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of, known_scalar, lines_along, power
from onnx_aiwq.operations.registry import movement, rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

LOWEST_FLOAT32 = -3.4028234663852886e38


def _per_output(op: Operator, one: Counts) -> Counts:
    return one * size_of(op.output(0), "the output")


@rule("Add", "Sub", "Mul", "Div", family="elementwise")
def arithmetic(op: Operator) -> Counts:
    """One operation of its own kind per output element.

    Equation:
        Y[i] = A[i] op B[i], op one of + - * /, A and B broadcast to the shape of Y
    Basic operations:
        size(Y) add, sub, mul or div: the one that the operator is named after
    Not counted:
        broadcasting
    Example:
        A (2, 3, 4) + B (4): 24 add
    Reference:
        ONNX operators: Add, Sub, Mul, Div
    """
    kind = op.op_type.lower()
    return _per_output(op, Counts.of(dtype_of(op.input(0)), **{kind: 1}))


@rule("Mod", family="elementwise")
def mod(op: Operator) -> Counts:
    """Remainder of a division, by the definition.

    Equation:
        Y[i] = A[i] - trunc_or_floor(A[i] / B[i]) * B[i]
    Basic operations:
        per output element: 1 div, 1 mul, 1 sub
    Not counted:
        the truncation (integer division truncates by itself); `fmod` changes nothing
    Example:
        A (3, 4) mod B (4): 12 div, 12 mul, 12 sub
    Reference:
        ONNX operators: Mod
    """
    return _per_output(op, Counts.of(dtype_of(op.input(0)), sub=1, mul=1, div=1))


@rule("Pow", family="elementwise")
def pow_(op: Operator) -> Counts:
    """A power; cheap for the small constant exponents that models use.

    Equation:
        Y[i] = X[i] ^ E[i]
    Basic operations:
        per output element, E a known scalar: integer 0..64 by square-and-multiply (2: 1 mul, 3: 2 mul, 5: 3 mul),
        0.5: 1 root, a negative exponent one div more; every other or unknown exponent exp(E log X): 2 root, 1 mul
    Not counted:
        an exponent of one or zero
    Example:
        X (2, 5) ^ 3: x * x * x, 20 mul; X (2, 5) ^ unknown: 20 root, 10 mul
    Reference:
        ONNX operators: Pow; TO paper Eq. 2 (root is every iterated function)
    """
    return _per_output(op, power(dtype_of(op.input(0)), known_scalar(op.input(1))))


@rule("Neg", family="elementwise")
def negation(op: Operator) -> Counts:
    """A negation is a subtraction from zero.

    Equation:
        Y[i] = 0 - X[i]
    Basic operations:
        size(X) sub
    Not counted:
        nothing
    Example:
        X (2, 3): 6 sub
    Reference:
        ONNX operators: Neg; TO paper Eq. 4 (the sub of the sigmoid)
    """
    return Counts.of(dtype_of(op.input(0)), sub=1) * size_of(op.input(0), "the input")


@rule("Abs", "Floor", "Ceil", "Round", "IsNaN", "IsInf", family="elementwise")
def one_compare(op: Operator) -> Counts:
    """Decided by looking at the number once: one comparison per element.

    Equation:
        Y[i] = |X[i]|, floor(X[i]), ceil(X[i]), round(X[i]), X[i] != X[i], |X[i]| == inf
    Basic operations:
        size(X) compare, at the type of the input
    Not counted:
        changing the sign bit, masking mantissa bits
    Example:
        X (2, 3): 6 compare
    Reference:
        ONNX operators: Abs, Floor, Ceil, Round, IsNaN, IsInf
    """
    return Counts.of(dtype_of(op.input(0)), compare=1) * size_of(op.input(0), "the input")


@rule("Sign", family="elementwise")
def sign(op: Operator) -> Counts:
    """The sign of a number: above zero, below zero, or neither.

    Equation:
        Y[i] = (X[i] > 0) - (X[i] < 0)
    Basic operations:
        2 size(X) compare
    Not counted:
        choosing the constant -1, 0 or 1
    Example:
        X (2, 3): 12 compare
    Reference:
        ONNX operators: Sign
    """
    return Counts.of(dtype_of(op.input(0)), compare=2) * size_of(op.input(0), "the input")


@rule("Reciprocal", family="elementwise")
def reciprocal(op: Operator) -> Counts:
    """One division per element.

    Equation:
        Y[i] = 1 / X[i]
    Basic operations:
        size(X) div
    Not counted:
        nothing
    Example:
        X (2, 3): 6 div
    Reference:
        ONNX operators: Reciprocal
    """
    return Counts.of(dtype_of(op.input(0)), div=1) * size_of(op.input(0), "the input")


@rule("Sum", "Mean", family="elementwise")
def sum_of_inputs(op: Operator) -> Counts:
    """Sum or mean of n tensors; the first is assigned.

    Equation:
        Y[i] = X1[i] + ... + Xn[i], for Mean divided by n
    Basic operations:
        (n - 1) size(Y) add; Mean with n > 1: size(Y) div more
    Not counted:
        broadcasting (every partial sum is taken at the shape of the output)
    Example:
        Sum of 3 tensors (2, 4): 16 add; Mean of them: 16 add, 8 div
    Reference:
        ONNX operators: Sum, Mean
    """
    terms = len(op.inputs)
    mean = op.op_type == "Mean" and terms > 1
    return _per_output(op, Counts.of(dtype_of(op.input(0)), add=terms - 1, div=int(mean)))


@rule("Max", "Min", family="elementwise")
def extremum_of_inputs(op: Operator) -> Counts:
    """Largest or smallest of n tensors.

    Equation:
        Y[i] = max(X1[i], ..., Xn[i])
    Basic operations:
        (n - 1) size(Y) compare
    Not counted:
        broadcasting
    Example:
        Max of 3 tensors (2, 4): 16 compare
    Reference:
        ONNX operators: Max, Min
    """
    return _per_output(op, Counts.of(dtype_of(op.input(0)), compare=len(op.inputs) - 1))


@rule("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", family="elementwise")
def comparison(op: Operator) -> Counts:
    """One comparison per output element, at the type of the operands (the output is bool).

    Equation:
        Y[i] = A[i] op B[i], op one of == > >= < <=
    Basic operations:
        size(Y) compare
    Not counted:
        broadcasting; texts: walking along their letters is lookup, as for every operator of texts
    Example:
        A (2, 3) < B (3), float32: 6 float32 compare
    Reference:
        ONNX operators: Equal, Greater, GreaterOrEqual, Less, LessOrEqual
    """
    dtype = dtype_of(op.input(0))
    if dtype is DType.STRING:
        return Counts()
    return _per_output(op, Counts.of(dtype, compare=1))


@rule(
    *("And", "Or", "Xor", "Not", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift"),
    family="elementwise",
)
def logic(op: Operator) -> Counts:
    """One gate-level operation per output element, counted as one compare at the type of the operands.

    Equation:
        Y[i] = A[i] op B[i], op one of and, or, xor, shift; Y[i] = not A[i]
    Basic operations:
        size(Y) compare
    Not counted:
        broadcasting
    Example:
        A (2, 3) and B (3): 6 bool compare
    Reference:
        ONNX operators: And, Or, Xor, Not, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift
    """
    return _per_output(op, Counts.of(dtype_of(op.input(0)), compare=1))


movement("Where", traffic="whole", why="Selects elements by a mask that is already known; nothing is computed.")


def _bounds(op: Operator) -> int:
    """How many bounds a Clip has: inputs from opset 11 on, attributes before (whose defaults bound nothing)."""
    if op.version >= 11:
        return sum(op.input(index) is not None for index in (1, 2))
    lowest = op.attributes.get("min")
    highest = op.attributes.get("max")
    return int(lowest is not None and lowest > LOWEST_FLOAT32) + int(highest is not None and highest < -LOWEST_FLOAT32)


@rule("Clip", family="elementwise")
def clip(op: Operator) -> Counts:
    """One comparison per element and bound that is given.

    Equation:
        Y[i] = min(max(X[i], min), max)
    Basic operations:
        size(X) compare for each of `min` and `max` that is present
    Not counted:
        absent bounds; before opset 11 also the defaults, which are the limits of float32
    Example:
        ReLU6 of X (2, 3), both bounds: 12 compare
    Reference:
        ONNX operators: Clip
    """
    return Counts.of(dtype_of(op.input(0)), compare=_bounds(op)) * size_of(op.input(0), "the input")


def _scan_steps(op: Operator) -> int:
    """Steps of a cumulative sum or product: n-1 per line of n, one less when it is exclusive."""
    shape = shape_of(op.input(0), "the input")
    axis = known_scalar(op.input(1))
    if axis is None and len(shape) > 1:
        raise ShapeError(f"the axis of {op.op_type} is unknown")
    lines, length = lines_along(shape, int(axis or 0))
    return lines * max(length - 1 - int(bool(op.attributes.get("exclusive", 0))), 0)


@rule("CumSum", family="elementwise")
def cumulative_sum(op: Operator) -> Counts:
    """Running sum along an axis; the first term is assigned.

    Equation:
        Y[i] = X[0] + ... + X[i]; exclusive: Y[0] = 0, Y[i] = X[0] + ... + X[i-1]
    Basic operations:
        per line of n: n - 1 add; exclusive: n - 2 add (Y[0] is zero and Y[1] is assigned)
    Not counted:
        the direction (`reverse`)
    Example:
        X (2, 5) along axis 1: 8 add; exclusive: 6 add
    Reference:
        ONNX operators: CumSum
    """
    return Counts.of(dtype_of(op.input(0)), add=_scan_steps(op))


@rule("CumProd", family="elementwise")
def cumulative_product(op: Operator) -> Counts:
    """Running product along an axis; the first factor is assigned.

    Equation:
        Y[i] = X[0] * ... * X[i]; exclusive: Y[0] = 1, Y[i] = X[0] * ... * X[i-1]
    Basic operations:
        per line of n: n - 1 mul; exclusive: n - 2 mul
    Not counted:
        the direction (`reverse`)
    Example:
        X (2, 5) along axis 1: 8 mul; exclusive: 6 mul
    Reference:
        ONNX operators: CumProd
    """
    return Counts.of(dtype_of(op.input(0)), mul=_scan_steps(op))


@rule("Det", family="elementwise")
def determinant(op: Operator) -> Counts:
    """Determinant by LU factorisation with partial pivoting.

    Equation:
        for k < M: L[i, k] = A[i, k] / A[k, k]; A[i, j] -= L[i, k] * A[k, j] for i, j > k; det = prod A[k, k]
    Basic operations:
        per M x M matrix: M(M-1)/2 div, (M-1)M(2M-1)/6 sub, (M-1)M(2M-1)/6 + (M-1) mul (the product of the diagonal),
        M(M-1)/2 compare (the pivot search, on magnitudes)
    Not counted:
        row exchanges and the sign that they flip
    Example:
        one 3 x 3 matrix: 3 div, 5 sub, 5 + 2 = 7 mul, 3 compare
    Reference:
        ONNX operators: Det
    """
    *batch, _, size = shape_of(op.input(0), "the matrix")
    if size == 0:
        return Counts()
    pairs = size * (size - 1) // 2
    updates = (size - 1) * size * (2 * size - 1) // 6
    one = Counts.of(dtype_of(op.input(0)), sub=updates, mul=updates + size - 1, div=pairs, compare=pairs)
    return one * math.prod(batch)


@rule("Sqrt", "Exp", "Log", "Erf", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", family="transcendental")
def elementary_function(op: Operator) -> Counts:
    """An iterated function is one root per element.

    Equation:
        Y[i] = f(X[i]), f one of sqrt, exp, log, erf, sin, cos, tan, asin, acos, atan
    Basic operations:
        size(X) root
    Not counted:
        the steps of the iteration, which `root` stands for
    Example:
        exp of X (2, 3): 6 root
    Reference:
        ONNX operators: Sqrt, Exp, Log, Erf, Sin, Cos, Tan, Asin, Acos, Atan; TO paper Eq. 2 and Eq. 4 (e^x is one root)
    """
    return Counts.of(dtype_of(op.input(0)), root=1) * size_of(op.input(0), "the input")


@rule("Sinh", "Cosh", family="transcendental")
def hyperbolic(op: Operator) -> Counts:
    """Hyperbolic sine and cosine, composed of one exponential.

    Equation:
        Sinh: Y[i] = (e - 1 / e) / 2; Cosh: Y[i] = (e + 1 / e) / 2; e = exp(X[i])
    Basic operations:
        per element: 1 root, 2 div, and 1 sub (Sinh) or 1 add (Cosh)
    Not counted:
        nothing
    Example:
        Sinh of X (2, 3): 6 root, 12 div, 6 sub
    Reference:
        ONNX operators: Sinh, Cosh; composed as Tanh is, TO paper Eq. 4
    """
    is_sinh = op.op_type == "Sinh"
    one = Counts.of(dtype_of(op.input(0)), add=int(not is_sinh), sub=int(is_sinh), div=2, root=1)
    return one * size_of(op.input(0), "the input")


@rule("Asinh", "Acosh", family="transcendental")
def inverse_hyperbolic(op: Operator) -> Counts:
    """Inverse hyperbolic sine and cosine, composed of a square root and a logarithm.

    Equation:
        Asinh: Y[i] = log(X[i] + sqrt(X[i] * X[i] + 1)); Acosh: the same with - 1
    Basic operations:
        per element: 1 mul, 2 root, and 2 add (Asinh) or 1 add and 1 sub (Acosh)
    Not counted:
        nothing
    Example:
        Asinh of X (2, 3): 6 mul, 12 root, 12 add
    Reference:
        ONNX operators: Asinh, Acosh
    """
    is_acosh = op.op_type == "Acosh"
    one = Counts.of(dtype_of(op.input(0)), add=2 - int(is_acosh), sub=int(is_acosh), mul=1, root=2)
    return one * size_of(op.input(0), "the input")


@rule("Atanh", family="transcendental")
def inverse_tangent(op: Operator) -> Counts:
    """Inverse hyperbolic tangent, composed of one logarithm.

    Equation:
        Y[i] = 0.5 * log((1 + X[i]) / (1 - X[i]))
    Basic operations:
        per element: 1 add, 1 sub, 1 div, 1 root, 1 mul
    Not counted:
        nothing
    Example:
        X (2, 3): 6 add, 6 sub, 6 div, 6 root, 6 mul
    Reference:
        ONNX operators: Atanh
    """
    one = Counts.of(dtype_of(op.input(0)), add=1, sub=1, mul=1, div=1, root=1)
    return one * size_of(op.input(0), "the input")


@rule("GatedAdd", family="elementwise", domain="com.microsoft")
def gated_add(op: Operator) -> Counts:
    """A sum with a second tensor that a gate per row scales.

    Equation:
        Z[..., c] = X[..., c] + Y[..., c] * gate[...]
    Basic operations:
        per element: 1 mul, 1 add
    Not counted:
        broadcasting, rounding of the product
    Example:
        X (2, 3): 6 mul, 6 add
    Reference:
        onnxruntime contrib operators: GatedAdd
    """
    return _per_output(op, Counts.of(dtype_of(op.input(0)), add=1, mul=1))


@rule("ComplexMul", "ComplexMulConj", family="elementwise", domain="com.microsoft")
def complex_multiplication(op: Operator) -> Counts:
    """Products of complex numbers whose two parts stand along the last axis; ComplexMulConj conjugates the second.

    Equation:
        C = A * B: (a + bi)(c + di) = (ac - bd) + (ad + bc)i; with the conjugate (ac + bd) + (bc - ad)i
    Basic operations:
        per pair of output elements: 4 mul, 1 add, 1 sub
    Not counted:
        broadcasting
    Example:
        A, B (3, 2): 12 mul, 3 add, 3 sub
    Reference:
        onnxruntime contrib operators: ComplexMul, ComplexMulConj
    """
    pairs = size_of(op.output(0), "the output") // 2
    return Counts.of(dtype_of(op.input(0)), add=pairs, sub=pairs, mul=4 * pairs)


@rule("IsAllFinite", family="elementwise", domain="com.microsoft")
def is_all_finite(op: Operator) -> Counts:
    """Whether no element of any input is infinite or not a number.

    Equation:
        y = all of finite(X_k[i]) over all inputs k and elements i
    Basic operations:
        1 compare per element of every input, in its type
    Not counted:
        joining the results; that a runtime may stop at the first
    Example:
        X1 (2, 3), X2 (4): 10 compare
    Reference:
        onnxruntime contrib operators: IsAllFinite
    """
    total = Counts()
    for tensor in op.inputs:
        total += Counts.of(dtype_of(tensor), compare=size_of(tensor, "an input"))
    return total
