"""Gradients of reductions: every result hands its gradient to the n elements that it was made of."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import size_of
from onnx_aiwq.training.registry import backward, gradient_moves
from onnx_aiwq.vocabulary import Counts, Operator

gradient_moves("ReduceSum", inputs=[0], why="The gradient is copied to every term.")
gradient_moves(
    "ReduceL1", inputs=[0], saves="all", why="The gradient is copied to every term, with the term's sign bit."
)


def _counts(op: Operator, per_result: dict[str, int], per_element: dict[str, int]) -> Counts:
    dtype = dtype_of(op.input(0))
    results, elements = size_of(op.output(0), "the output"), size_of(op.input(0), "the input")
    return Counts.of(dtype, **per_result) * results + Counts.of(dtype, **per_element) * elements


@backward("ReduceMean", "GlobalAveragePool", inputs=[0], saves="nothing")
def reduce_mean(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient divided by the number of elements, copied to all of them.

    Equation:
        dX = g * (1/n)
    Basic operations:
        per result 1 mul (n > 1)
    Not counted:
        1/n; copies
    Example:
        X (2, 5) over axis 1: 2 mul
    Reference:
        ONNX operators: ReduceMean, GlobalAveragePool; TO convention, table 1.2 (MSE backward: factor precomputed)
    """
    reduced = size_of(op.input(0), "the input") > size_of(op.output(0), "the output")
    return _counts(op, {"mul": int(reduced)}, {})


@backward("ReduceProd", inputs=[0])
def reduce_product(op: Operator, wanted: frozenset[int]) -> Counts:
    """The product of the others, as quotient.

    Equation:
        dX = (g * y) / x
    Basic operations:
        per result 1 mul, per element 1 div
    Not counted:
        elements that are zero
    Example:
        X (2, 5) over axis 1: 2 mul, 10 div
    Reference:
        ONNX operators: ReduceProd
    """
    return _counts(op, {"mul": 1}, {"div": 1})


@backward("ReduceSumSquare", inputs=[0])
def reduce_sum_square(op: Operator, wanted: frozenset[int]) -> Counts:
    """Twice the gradient times the element.

    Equation:
        dX = (2 * g) * x
    Basic operations:
        per result 1 mul, per element 1 mul
    Not counted:
        nothing
    Example:
        X (2, 5) over axis 1: 2 + 10 = 12 mul
    Reference:
        ONNX operators: ReduceSumSquare
    """
    return _counts(op, {"mul": 1}, {"mul": 1})


@backward("ReduceL2", inputs=[0])
def reduce_norm(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient over the norm, times the element.

    Equation:
        dX = (g / y) * x
    Basic operations:
        per result 1 div, per element 1 mul
    Not counted:
        nothing
    Example:
        X (2, 5) over axis 1: 2 div, 10 mul
    Reference:
        ONNX operators: ReduceL2
    """
    return _counts(op, {"div": 1}, {"mul": 1})


@backward("ReduceLogSum", "ReduceLogSumExp", inputs=[0])
def reduce_log_sum(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient over the sum s, for ReduceLogSumExp times the exponential e; both are saved.

    Equation:
        ReduceLogSum: dX = g / s; ReduceLogSumExp: dX = (g / s) * e
    Basic operations:
        per result 1 div; ReduceLogSumExp per element 1 mul
    Not counted:
        copies
    Example:
        ReduceLogSumExp of X (2, 5) over axis 1: 2 div, 10 mul
    Reference:
        ONNX operators: ReduceLogSum, ReduceLogSumExp
    """
    return _counts(op, {"div": 1}, {"mul": int(op.op_type == "ReduceLogSumExp")})
