"""Matrix products of real tensors, and Einsum. Quantised ones: see `quantized_products`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from onnx_aiwq.bounds import MAX_EQUATION_CHARACTERS
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import (
    GELU_SLOPE,
    dot_products,
    dtype_of,
    fused_activation,
    operand_types,
    scaled_sigmoid_product,
)
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator


@rule("MatMul", family="dense")
def matmul(op: Operator) -> Counts:
    """Matrix product with numpy's broadcasting of the leading dimensions.

    Equation:
        Y[..., m, n] = sum over k of A[..., m, k] * B[..., k, n]; a vector counts as one row (A) or one column (B)
    Basic operations:
        Per output element K mul and K - 1 add; MACs = mul. Where both matrices come from DequantizeLinear, the
        products are counted in the wider of the two integer types and the sums in int32.
    Not counted:
        Broadcasting.
    Example:
        A[2, 3, 4] @ B[4, 5]: Y[2, 3, 5] has 30 elements, mul = MACs = 120, add = 90.
    Reference:
        ONNX operators: MatMul. TO paper, Eq. 3.
    """
    length = shape_of(op.input(0), "the first matrix")[-1]
    return dot_products(operand_types(op.input(0), op.input(1)), size_of(op.output(0), "the output"), length)


@rule("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", family="dense", domain="com.microsoft")
def fused_matmul(op: Operator) -> Counts:
    """Matrix product with optional transpositions and a factor.

    Equation:
        Y[..., m, n] = f(alpha * sum over k of A'[..., m, k] * B'[..., k, n]), f the activation of FusedMatMulActivation
    Basic operations:
        Per output element K mul and K - 1 add; 1 mul more where alpha is not 1; MACs = K per output element. The
        activation as in FusedConv; Elu 1 compare + 1 root + 1 sub + 1 mul, Softplus root + add + root, Softsign 1
        compare + 1 add + 1 div, ThresholdedRelu 1 compare.
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[4, 3], transA = 1, B[4, 5], alpha = 0.5: 15 elements, K = 4; mul = 60 + 15 = 75, add = 45, MACs = 60.
    Reference:
        Contrib operators: FusedMatMul, TransposeMatMul, FusedMatMulActivation.
    """
    left = shape_of(op.input(0), "the first matrix")
    transposed = bool(op.attributes.get("transA")) and len(left) > 1
    axis = (0 if op.attributes.get("transBatchA") else -2) if transposed else -1
    results = size_of(op.output(0), "the output")
    scaled = results if op.attributes.get("alpha", 1.0) != 1.0 else 0
    products = dot_products(operand_types(op.input(0), op.input(1)), results, left[axis])
    return products + Counts.of(dtype_of(op.input(0)), mul=scaled) + fused_activation(op, results)


@rule("SparseToDenseMatMul", family="dense", domain="com.microsoft", bound=True)
def sparse_matmul(op: Operator) -> Counts:
    """Product of a sparse and a dense matrix, counted as if the first were dense (upper bound).

    Equation:
        Y[m, n] = alpha * sum over k of A'[m, k] * B'[k, n], A sparse
    Basic operations:
        Only the data knows how many elements of A are there: all count. Per output element K mul and K - 1 add; 1 mul
        more where alpha is not 1; MACs = K per output element.
    Not counted:
        Transpositions and indices.
    Example:
        A[2, 3] sparse, B[3, 4]: mul = MACs = 24, add = 16; with alpha 0.5 mul = 32.
    Reference:
        Contrib operators: SparseToDenseMatMul.
    """
    left, right = shape_of(op.input(0), "the sparse matrix"), shape_of(op.input(1), "the dense matrix")
    rows, length = left[::-1] if op.attributes.get("transA") else left
    results = rows * right[-2 if op.attributes.get("transB") else -1]
    dtype = dtype_of(op.input(1))
    scaled = results if op.attributes.get("alpha", 1.0) != 1.0 else 0
    return dot_products((dtype, dtype), results, length) + Counts.of(dtype, mul=scaled)


def _gemm(op: Operator) -> Counts:
    left = shape_of(op.input(0), "the first matrix")
    results = size_of(op.output(0), "the output")
    length = left[0] if op.attributes.get("transA") else left[1]
    alpha, beta = op.attributes.get("alpha", 1.0), op.attributes.get("beta", 1.0)
    bias = op.input(2) if beta != 0.0 else None
    factors = results if alpha != 1.0 else 0
    if bias is not None and beta != 1.0:
        factors += size_of(bias, "the bias")
    products = dot_products(operand_types(op.input(0), op.input(1)), results, length, bias)
    return products + Counts.of(dtype_of(op.input(0)), mul=factors)


@rule("Gemm", family="dense")
def gemm(op: Operator) -> Counts:
    """General matrix product.

    Equation:
        Y[m, n] = alpha * (sum over k of A'[m, k] * B'[k, n]) + (beta * C)[m, n]
    Basic operations:
        Per output element K mul and K - 1 add, 1 add more where C is present; alpha costs 1 mul per output element
        and beta 1 mul per element of C before it is broadcast, each only where it is not 1; MACs = M * N * K. With
        beta = 0, C is not looked at.
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[2, 3], B[3, 4], C[4], alpha = 0.5, beta = 2: mul = 24 + 8 + 4 = 36, add = 16 + 8 = 24, MACs = 24.
    Reference:
        ONNX operators: Gemm. TO paper, Eq. 3 and 4.
    """
    return _gemm(op)


@rule("FusedGemm", family="dense", domain="com.microsoft")
def fused_gemm(op: Operator) -> Counts:
    """General matrix product with an activation.

    Equation:
        Y = activation(alpha * A' B' + beta * C)
    Basic operations:
        Those of Gemm, and per output element the activation as in FusedConv (Relu 1 compare, LeakyRelu 1 compare +
        1 mul, Sigmoid sub + root + add + div, Tanh mul + root + sub + add + div, ...).
    Not counted:
        Transpositions and broadcasting.
    Example:
        A[1, 2], B[2, 3], C[3], Relu: mul = MACs = 6, add = 3 + 3 = 6, compare = 3.
    Reference:
        Contrib operators: FusedGemm. TO paper, Eq. 3 and 4.
    """
    return _gemm(op) + fused_activation(op, size_of(op.output(0), "the output"))


@rule("GemmFastGelu", family="dense", domain="com.microsoft")
def gemm_fast_gelu(op: Operator) -> Counts:
    """Matrix product with bias and GELU.

    Equation:
        Y = gelu(X W + bias)
    Basic operations:
        Per output element K mul and K - 1 add, 1 add more with a bias; GELU by Eq. 5: 1 sub, 1 root, 1 add, 1 div,
        2 mul; MACs = K per output element.
    Not counted:
        Broadcasting.
    Example:
        X[1, 2], W[2, 3], bias[3]: MACs = 6, mul = 6 + 6 = 12, add = 3 + 3 + 3 = 9, sub = root = div = 3.
    Reference:
        Contrib operators: GemmFastGelu. TO paper, Eq. 3 and 5.
    """
    results = size_of(op.output(0), "the output")
    products = dot_products(
        operand_types(op.input(0), op.input(1)), results, shape_of(op.input(0), "the first matrix")[-1], op.input(2)
    )
    return products + scaled_sigmoid_product(dtype_of(op.input(0)), GELU_SLOPE) * results


def _labels(term: str, rank: int) -> tuple[str, ...]:
    """The labels of one Einsum term; the dimensions of an ellipsis are named "0", "1", ... from the right."""
    head, dots, tail = term.partition("...")
    hidden = rank - len(head) - len(tail) if dots else 0
    return (*head, *(str(number) for number in reversed(range(hidden))), *tail)


def _equation(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], frozenset[str]]:
    """The labels of every operand and those of the output of an Einsum equation."""
    if len(equation) > MAX_EQUATION_CHARACTERS:
        raise ShapeError(f"an equation of {len(equation)} characters, more than {MAX_EQUATION_CHARACTERS}")
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"equation {equation!r} has {len(terms)} terms for {len(ranks)} operands")
    operands = [_labels(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    hidden = {label for operand in operands for label in operand if label.isdigit()}
    if arrow:
        return operands, frozenset(right.replace(".", "")) | (hidden if "..." in right else set())
    letters = left.replace(",", "").replace(".", "")
    return operands, frozenset(label for label in letters if letters.count(label) == 1) | hidden


def _summed(dims: Mapping[str, int], kept: Collection[str]) -> tuple[dict[str, int], int]:
    """Sum all dimensions that are not kept: what remains, and the number of additions."""
    remaining = {label: size for label, size in dims.items() if label in kept}
    before, after = math.prod(dims.values()), math.prod(remaining.values())
    return remaining, max(before - after, 0)


@rule("Einsum", family="dense")
def einsum(op: Operator) -> Counts:
    """Einstein sum of any number of operands, evaluated pairwise from left to right.

    Equation:
        Y[output labels] = sum over all other labels of A[...] * B[...] * C[...] ...
    Basic operations:
        A label is summed as soon as it occurs in no later operand and not in the output: labels of one operand alone
        before its product, the others with it. A product of two operands costs one mul for each combination of
        their labels; a sum of n terms costs n - 1 add. MACs = mul of every product that sums a label; an
        elementwise or outer product has none.
    Not counted:
        Diagonals (a label twice in one operand), transpositions and broadcasting.
    Example:
        "ij,jk,kl->il" with i = 2, j = 3, k = 4, l = 5: first ik (mul 24, add 16), then il (mul 40, add 30):
        mul = MACs = 64, add = 46.
    Reference:
        ONNX operators: Einsum.
    """
    shapes = [shape_of(tensor, "an operand") for tensor in op.inputs]
    terms, output = _equation(str(op.attributes["equation"]), [len(shape) for shape in shapes])
    operands = [dict(zip(term, shape, strict=True)) for term, shape in zip(terms, shapes, strict=True)]
    kept = [output.union(*operands[position + 1 :]) for position in range(len(operands))]
    result, add = _summed(operands[0], kept[0])
    mul = macs = 0
    for operand, needed in zip(operands[1:], kept[1:], strict=True):
        factor, additions = _summed(operand, needed | set(result))
        add += additions
        # A dimension of one element is broadcast to its partner's size.
        joined = result | {label: size for label, size in factor.items() if size != 1 or label not in result}
        result, additions = _summed(joined, needed)
        pairs = math.prod(joined.values())
        mul, add = mul + pairs, add + additions
        macs += pairs if len(result) < len(joined) else 0
    return Counts.of(dtype_of(op.input(0)), add=add, mul=mul, macs=macs)
