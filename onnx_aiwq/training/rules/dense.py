"""Gradients of dense products: every product of the forward pass appears once in the gradient of each factor."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import find_rule, shape_of, size_of
from onnx_aiwq.training.registry import backward, broadcast_sums
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


def _gathered(dtype: DType, pairs: int, gradients: int) -> Counts:
    """`pairs` products summed to `gradients` elements; the first term of each is assigned."""
    return Counts.of(dtype, add=max(pairs - gradients, 0), mul=pairs, macs=pairs)


def _bias(op: Operator) -> Counts:
    """The gradient of the output summed to one element per channel."""
    bias = op.input(2)
    sums = size_of(op.output(0), "the output") - size_of(bias, "the bias")
    return Counts.of(dtype_of(bias), add=max(sums, 0))


@backward("Conv", saves="factors")
def conv(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of a convolution: n is the number of its multiply-accumulate pairs.

    Equation:
        dW[f, c, k] = sum over n, o of g[n, f, o] * X[n, c, o s + k d - p]; dX[n, c, o s + k d - p] += g[n, f, o] *
        W[f, c, k]; dB[f] = sum of g[:, f]
    Basic operations:
        dW: n mul, n - size(W) add; dX: n mul, n add (scattered into zeros); dB: size(Y) - channels add; MACs = mul.
        With the accumulation into the parameter's buffer, dW takes n add and dB size(Y) add. Padding is dense
    Not counted:
        Filling with zero, index arithmetic, cropping the padding of dX.
    Example:
        X[1, 3, 5, 5], W[4, 3, 3, 3], pads 1, bias, all wanted: n = 2700; mul = MACs = 5400, add = 2700 - 108 + 2700 +
        100 - 4 = 5388.
    Reference:
        ONNX operators: Conv; TO convention, table 1.2.
    """
    dtype = dtype_of(op.input(0))
    weight = shape_of(op.input(1), "the weight")
    pairs = size_of(op.output(0), "the output") * math.prod(weight[1:])
    total = Counts()
    if 0 in wanted:
        total += Counts.of(dtype, add=pairs, mul=pairs, macs=pairs)
    if 1 in wanted:
        total += _gathered(dtype, pairs, math.prod(weight))
    return total + (_bias(op) if 2 in wanted else Counts())


@backward("ConvTranspose", saves="factors")
def conv_transpose(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of a transposed convolution: n is the number of its multiply-accumulate pairs.

    Equation:
        dX[n, c, i] = sum over f, k of g[n, f, s i + d k] * W[c, f, k]; dW[c, f, k] = sum over n, i of X[n, c, i] *
        g[n, f, s i + d k]; dB[f] = sum of g[:, f]; g is zero in what was cropped
    Basic operations:
        dX: n mul, n - size(X) add; dW: n mul, n - size(W) add; dB: size(Y) - channels add; MACs = mul
    Not counted:
        Padding g.
    Example:
        X[1, 1, 3], W[1, 1, 3], stride 2, both wanted: n = 9; mul = MACs = 18, add = 6 + 6 = 12.
    Reference:
        ONNX operators: ConvTranspose; TO convention, table 1.2.
    """
    dtype = dtype_of(op.input(0))
    data, weight = shape_of(op.input(0), "the input"), shape_of(op.input(1), "the weight")
    pairs = math.prod(data) * math.prod(weight[1:])
    total = Counts()
    if 0 in wanted:
        total += _gathered(dtype, pairs, math.prod(data))
    if 1 in wanted:
        total += _gathered(dtype, pairs, math.prod(weight))
    return total + (_bias(op) if 2 in wanted else Counts())


def _product(op: Operator, wanted: frozenset[int], length: int) -> Counts:
    pairs = size_of(op.output(0), "the output") * length
    total = Counts()
    for position in wanted & {0, 1}:
        total += _gathered(dtype_of(op.input(0)), pairs, size_of(op.input(position), "a matrix"))
    return total


@backward("MatMul", saves="factors")
def matmul(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of a matrix product: n is the number of its multiply-accumulate pairs.

    Equation:
        dA = g @ B^T, dB = A^T @ g, each summed over the dimensions that were broadcast
    Basic operations:
        per wanted matrix n mul, n - size(matrix) add; MACs = mul
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[2, 3, 4] @ B[4, 5], both wanted: n = 120; mul = MACs = 240, add = 96 + 100 = 196.
    Reference:
        ONNX operators: MatMul; TO convention, table 1.2 (FC bwd).
    """
    return _product(op, wanted, shape_of(op.input(0), "the first matrix")[-1])


@backward("Gemm", saves="factors")
def gemm(op: Operator, wanted: frozenset[int]) -> Counts:
    """Gradients of the general matrix product: n = M N K.

    Equation:
        h = alpha * g; dA' = h @ B'^T, dB' = A'^T @ h; dC = beta * (g summed over the dimensions that were broadcast)
    Basic operations:
        dA and dB: n mul, n - size(matrix) add each; alpha, unless one: M N mul once; dC: M N - size(C) add, and
        size(C) mul unless beta is one; nothing if beta is zero; MACs = mul of the products
    Not counted:
        Transpositions.
    Example:
        A[1, 4], B[4, 3], C[3], all wanted: mul = MACs = 12 + 12 = 24, add = (12 - 4) + (12 - 12) + 0 = 8. With the
        accumulation of dB and dC into their buffers 12 + 3 add more: FC of I = 4, O = 3.
    Reference:
        ONNX operators: Gemm; TO convention, table 1.2 (FC bwd).
    """
    left = shape_of(op.input(0), "the first matrix")
    dtype, results = dtype_of(op.input(0)), size_of(op.output(0), "the output")
    alpha, beta = op.attributes.get("alpha", 1.0), op.attributes.get("beta", 1.0)
    total = _product(op, wanted, left[0] if op.attributes.get("transA") else left[1])
    if alpha != 1.0 and wanted & {0, 1}:
        total += Counts.of(dtype, mul=results)
    if 2 in wanted and beta != 0.0:
        scaled = size_of(op.input(2), "the bias") if beta != 1.0 else 0
        total += broadcast_sums(op, [2]) + Counts.of(dtype, mul=scaled)
    return total


def _output_term(terms: list[str]) -> str:
    """The output of an Einsum equation without an arrow: letters that occur once, in alphabetical order."""
    letters = "".join(terms).replace(".", "")
    dots = "..." if any("..." in term for term in terms) else ""
    return dots + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))


def _partner_equation(terms: list[str], output: str, position: int) -> str:
    """The equation of one operand's gradient; labels that no partner has are copied along, not computed."""
    others = [term for index, term in enumerate(terms) if index != position]
    present = set(output).union(*others)
    kept = "".join(label for label in terms[position] if label in present)
    return f"{','.join([output, *others])}->{kept}"


@backward("Einsum")
def einsum(op: Operator, wanted: frozenset[int]) -> Counts:
    """The gradient of every operand is an Einstein sum of the output's gradient with the other operands.

    Equation:
        "ij,jk->ik": dA = einsum("ik,jk->ij", g, B), dB = einsum("ik,ij->jk", g, A)
    Basic operations:
        those of Einsum, for each wanted operand
    Not counted:
        Copies along labels that only the operand itself has. A label twice in one operand (diagonal) is reported.
    Example:
        "ij,jk->ik" with i = 2, j = 3, k = 4, both wanted: mul = MACs = 48, add = (24 - 6) + (24 - 12) = 30.
    Reference:
        ONNX operators: Einsum.
    """
    left, arrow, right = str(op.attributes["equation"]).replace(" ", "").partition("->")
    terms = left.split(",")
    output = right if arrow else _output_term(terms)
    if any(len(set(term.replace(".", ""))) < len(term.replace(".", "")) for term in terms):
        raise ShapeError("the gradient of a diagonal is not counted")
    rule = find_rule("Einsum", "", op.version)
    total = Counts()
    for position in wanted:
        others: list[Tensor | None] = [tensor for index, tensor in enumerate(op.inputs) if index != position]
        equation = _partner_equation(terms, output, position)
        inner = Operator(
            op.name, "Einsum", "", op.version, (op.output(0), *others), (op.input(position),), {"equation": equation}
        )
        if rule is not None and rule.function is not None:
            total += rule.function(inner)
    return total
