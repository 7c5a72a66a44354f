"""Softmax and its relatives."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, lines_from, log_softmax_line, softmax_line, softmax_lines
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, Operator


@rule("Softmax", family="softmax")
def softmax(op: Operator) -> Counts:
    """Normalised exponentials of every line, the maximum subtracted first.

    Equation:
        Y[l, i] = exp(X[l, i] - max(X[l, :])) / sum_k exp(X[l, k] - max(X[l, :]))
    Basic operations:
        per line of n: n - 1 compare, n sub, n root, n - 1 add, n div; a line runs along `axis`, before opset 13 over
        all axes from `axis` on
    Not counted:
        nothing
    Example:
        X (2, 5), axis 1: 8 compare, 10 sub, 10 root, 8 add, 10 div
    Reference:
        ONNX operators: Softmax
    """
    lines, n = softmax_lines(op)
    return softmax_line(dtype_of(op.input(0)), n) * lines


@rule("BiasSoftmax", family="softmax", domain="com.microsoft")
def bias_softmax(op: Operator) -> Counts:
    """Softmax of scores with an additive mask.

    Equation:
        Y = softmax(X + bias) over all axes from `axis` on
    Basic operations:
        1 add per element; per line of n: n - 1 compare, n sub, n root, n - 1 add, n div
    Not counted:
        broadcasting of the bias
    Example:
        X (2, 5), axis 1: 10 + 8 add, 8 compare, 10 sub, 10 root, 10 div
    Reference:
        onnxruntime contrib operators: BiasSoftmax
    """
    dtype = dtype_of(op.input(0))
    lines, n = lines_from(shape_of(op.input(0), "the input"), op.attributes.get("axis", 1))
    return softmax_line(dtype, n) * lines + Counts.of(dtype, add=lines * n)


@rule("LogSoftmax", family="softmax")
def log_softmax(op: Operator) -> Counts:
    """Logarithm of the softmax, without dividing.

    Equation:
        Y[l, i] = Z[l, i] - log(sum_k exp(Z[l, k])), Z[l, i] = X[l, i] - max(X[l, :])
    Basic operations:
        per line of n: n - 1 compare, n sub, n root, n - 1 add, 1 root, n sub; lines as in Softmax
    Not counted:
        nothing
    Example:
        X (2, 5), axis 1: 8 compare, 20 sub, 12 root, 8 add
    Reference:
        ONNX operators: LogSoftmax
    """
    lines, n = softmax_lines(op)
    return log_softmax_line(dtype_of(op.input(0)), n) * lines


@rule("Hardmax", family="softmax")
def hardmax(op: Operator) -> Counts:
    """A one at the first maximum of every line.

    Equation:
        Y[l, i] = 1 if i is the first position of max(X[l, :]), else 0
    Basic operations:
        per line of n: n - 1 compare; lines as in Softmax
    Not counted:
        writing the ones and zeros
    Example:
        X (2, 5), axis 1: 8 compare
    Reference:
        ONNX operators: Hardmax
    """
    lines, n = softmax_lines(op)
    return Counts.of(dtype_of(op.input(0)), compare=max(n - 1, 0)) * lines
