"""Reductions over axes, arg-extrema and top-k.

How many elements go into one result is read off the shapes: n = size(X) / size(Y). That holds for axes as attribute,
as input, absent, negative, and with `noop_with_empty_axes` (n = 1). A reduction over an empty set costs nothing.
"""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import axis_index, dtype_of, insertions
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator


def _lines(op: Operator) -> tuple[int, int]:
    """How many results there are, and of how many elements each; (0, 0) where nothing is reduced."""
    size, results = size_of(op.input(0), "the input"), size_of(op.output(0), "the output")
    return (results, size // results) if size and results else (0, 0)


@rule("ReduceSum", "ReduceMean", family="reduction")
def reduce_sum(op: Operator) -> Counts:
    """Sum or mean over axes; the first term is assigned.

    Equation:
        Y[o] = X[o, 1] + ... + X[o, n], for ReduceMean divided by n
    Basic operations:
        per result of n elements: n - 1 add; ReduceMean with n > 1: 1 div
    Not counted:
        a division by one
    Example:
        ReduceMean of X (2, 5) over axis 1: 8 add, 2 div
    Reference:
        ONNX operators: ReduceSum, ReduceMean
    """
    results, n = _lines(op)
    mean = op.op_type == "ReduceMean" and n > 1
    return Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), div=int(mean)) * results


@rule("ReduceMax", "ReduceMin", "ArgMax", "ArgMin", family="reduction")
def reduce_extremum(op: Operator) -> Counts:
    """Largest or smallest element over axes, or where it stands.

    Equation:
        Y[o] = max(X[o, 1], ..., X[o, n]) or the position of it
    Basic operations:
        per result of n elements: n - 1 compare
    Not counted:
        keeping the position
    Example:
        ReduceMax of X (2, 5) over axis 1: 8 compare
    Reference:
        ONNX operators: ReduceMax, ReduceMin, ArgMax, ArgMin
    """
    results, n = _lines(op)
    return Counts.of(dtype_of(op.input(0)), compare=max(n - 1, 0)) * results


@rule("ReduceProd", family="reduction")
def reduce_product(op: Operator) -> Counts:
    """Product over axes; the first factor is assigned.

    Equation:
        Y[o] = X[o, 1] * ... * X[o, n]
    Basic operations:
        per result of n elements: n - 1 mul
    Not counted:
        nothing
    Example:
        X (2, 5) over axis 1: 8 mul
    Reference:
        ONNX operators: ReduceProd
    """
    results, n = _lines(op)
    return Counts.of(dtype_of(op.input(0)), mul=max(n - 1, 0)) * results


@rule("ReduceL1", family="reduction")
def reduce_l1(op: Operator) -> Counts:
    """Sum of magnitudes over axes.

    Equation:
        Y[o] = |X[o, 1]| + ... + |X[o, n]|
    Basic operations:
        per result of n elements: n compare (a magnitude is one compare), n - 1 add
    Not counted:
        nothing
    Example:
        X (2, 5) over axis 1: 10 compare, 8 add
    Reference:
        ONNX operators: ReduceL1
    """
    results, n = _lines(op)
    return Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), compare=n) * results


@rule("ReduceSumSquare", "ReduceL2", family="reduction")
def reduce_squares(op: Operator) -> Counts:
    """Sum of squares over axes, or its square root.

    Equation:
        Y[o] = X[o, 1]^2 + ... + X[o, n]^2, for ReduceL2 the square root of it
    Basic operations:
        per result of n elements: n mul, n - 1 add; ReduceL2 1 root more
    Not counted:
        nothing
    Example:
        ReduceL2 of X (2, 5) over axis 1: 10 mul, 8 add, 2 root
    Reference:
        ONNX operators: ReduceSumSquare, ReduceL2
    """
    results, n = _lines(op)
    norm = int(op.op_type == "ReduceL2")
    return Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), mul=n, root=norm) * results


@rule("ReduceLogSum", "ReduceLogSumExp", family="reduction")
def reduce_log_sum(op: Operator) -> Counts:
    """Logarithm of a sum over axes, or of a sum of exponentials.

    Equation:
        Y[o] = log(X[o, 1] + ... + X[o, n]), for ReduceLogSumExp of exp(X[o, k])
    Basic operations:
        per result of n elements: n - 1 add, 1 root; ReduceLogSumExp n root more
    Not counted:
        subtracting the maximum first, which the definition of ReduceLogSumExp does not do; casts
    Example:
        ReduceLogSumExp of X (2, 5) over axis 1: 8 add, 12 root
    Reference:
        ONNX operators: ReduceLogSum, ReduceLogSumExp
    """
    results, n = _lines(op)
    exponentials = n if op.op_type == "ReduceLogSumExp" else 0
    return Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), root=exponentials + 1) * results


@rule("TopK", family="reduction", bound=True)
def top_k(op: Operator) -> Counts:
    """The k largest of every line, by binary insertion into the sorted list of the k best so far (upper bound).

    Equation:
        Y[o, 1..k] = the k largest of X[o, 1..n], sorted
    Basic operations:
        per line of n: element i is placed among min(i, k) by ceil(log2(min(i, k) + 1)) compare, summed over i = 0..n-1;
        an upper bound, reached by the worst order; k = 1 gives the n - 1 of ArgMax, k = n a sort by insertion
    Not counted:
        moving the list and its indices; `sorted` = 0 changes nothing; k = 0 costs nothing
    Example:
        n 6, k 2: 0 + 1 + 2 + 2 + 2 + 2 = 9 compare per line
    Reference:
        ONNX operators: TopK; Knuth, The Art of Computer Programming 3, 5.2.1 (binary insertion)
    """
    shape = shape_of(op.input(0), "the input")
    results = shape_of(op.output(0), "the output")
    axis = axis_index(op.attributes.get("axis", -1), len(shape))
    n, k = shape[axis], results[axis]
    lines = size_of(op.input(0), "the input") // n if n else 0
    return Counts.of(dtype_of(op.input(0)), compare=insertions(n, k)) * lines
