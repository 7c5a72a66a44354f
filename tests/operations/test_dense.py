"""Rules of matrix products and Einsum against loops of self-tallying numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator
from operators import count, operator
from oracle import Number, as_basic_operations, numbers
from products import MICROSOFT, OPSET, activate, check, counted, gelu, inferred, tensor


def test_half_precision_multiplies_and_adds_in_its_own_type() -> None:
    rule = find_rule("Conv", "", OPSET)
    assert rule is not None and rule.function is not None
    half = tuple(tensor(shape, DType.FLOAT16) for shape in [(1, 1, 2, 2), (1, 1, 2, 2)])
    operator = Operator("n", "Conv", "", OPSET, half, (tensor((1, 1, 1, 1), DType.FLOAT16),), {})
    assert rule.function(operator) == Counts.of(DType.FLOAT16, mul=4, add=3, macs=4)


def test_an_unknown_fused_activation_is_refused() -> None:
    with pytest.raises(ShapeError, match="Snake"):
        counted("FusedConv", [(1, 2, 3, 3), (1, 2, 3, 3)], (1, 1, 1, 1), "com.microsoft", activation="Snake")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 2)),
        ((4,), (4, 3)),
        ((2, 3, 4), (4,)),
        ((4,), (4,)),
        ((3, 1), (1, 3)),
        ((3, 0), (0, 2)),
        ((0, 4), (4, 2)),
    ],
)
def test_matmul_equals_numpy(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    output = np.shape(np.matmul(np.zeros(left), np.zeros(right)))
    assert output == inferred("MatMul", [left, right], {})
    a, b = numbers(left, tally), numbers(right, tally)
    dot_by_loops(np.broadcast_to(a, a.shape), b)
    check(counted("MatMul", [left, right], output), tally, tally["mul"])


def dot_by_loops(a: Any, b: Any) -> Any:
    """A matrix product in which the first product of a sum is assigned."""
    a = a[None, :] if a.ndim == 1 else a
    b = b[:, None] if b.ndim == 1 else b
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, lead + a.shape[-2:])
    b = np.broadcast_to(b, lead + b.shape[-2:])
    result = np.empty((*lead, a.shape[-2], b.shape[-1]), dtype=object)
    for *batch, m, n in np.ndindex(result.shape):
        total = None
        for k in range(a.shape[-1]):
            product = a[(*batch, m, k)] * b[(*batch, k, n)]
            total = product if total is None else total + product
        result[(*batch, m, n)] = total
    return result


def test_the_loops_do_what_numpy_matmul_does() -> None:
    loops: Counter[str] = Counter()
    own: Counter[str] = Counter()
    dot_by_loops(numbers((2, 3, 4), loops), numbers((4, 5), loops))
    np.matmul(numbers((2, 3, 4), own), numbers((4, 5), own))
    assert loops == own


def test_matmul_by_hand() -> None:
    assert counted("MatMul", [(2, 3, 4), (4, 5)], (2, 3, 5)) == Counts.of(DType.FLOAT, mul=120, add=90, macs=120)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize(
    ("left", "right", "flags"),
    [
        ((2, 3, 4), (4, 5), {}),
        ((2, 4, 3), (4, 5), {"transA": 1}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((4, 2, 3), (2, 4, 5), {"transBatchA": 1, "transA": 1}),
        ((4,), (4, 5), {"transA": 1}),
    ],
)
def test_fused_matmul_equals_transposed_numpy(left: Any, right: Any, flags: dict[str, int], alpha: float) -> None:
    tally: Counter[str] = Counter()
    a, b = numbers(left, tally), numbers(right, tally)
    if flags.get("transBatchA"):
        a = np.moveaxis(a, 0, -2)
    if flags.get("transA") and a.ndim > 1:
        a = a.swapaxes(-1, -2)
    if flags.get("transB"):
        b = b.swapaxes(-1, -2)
    result = dot_by_loops(a, b)
    macs = tally["mul"]
    if alpha != 1.0:
        result = result * alpha
    check(counted("FusedMatMul", [left, right], result.shape, "com.microsoft", alpha=alpha, **flags), tally, macs)


def test_fused_matmul_by_hand() -> None:
    counts = counted("FusedMatMul", [(4, 3), (4, 5)], (3, 5), "com.microsoft", transA=1, alpha=0.5)
    assert counts == Counts.of(DType.FLOAT, mul=75, add=45, macs=60)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (3, 1), (3, 5)])
@pytest.mark.parametrize("flags", [{}, {"transA": 1}, {"transB": 1, "transA": 1}])
def test_gemm_equals_its_reference(alpha: float, beta: float, bias: Any, flags: dict[str, int]) -> None:
    tally: Counter[str] = Counter()
    left = (4, 3) if flags.get("transA") else (3, 4)
    right = (5, 4) if flags.get("transB") else (4, 5)
    a, b = numbers(left, tally), numbers(right, tally)
    result = dot_by_loops(a.T if flags.get("transA") else a, b.T if flags.get("transB") else b)
    macs = tally["mul"]
    result = result * alpha if alpha != 1.0 else result
    if bias is not None and beta != 0.0:
        c = numbers(bias, tally)
        result = result + (c * beta if beta != 1.0 else c)
    shapes = [left, right, bias]
    output = inferred("Gemm", shapes, flags)
    check(counted("Gemm", shapes, output, alpha=alpha, beta=beta, **flags), tally, macs)
    for value in result.flat:
        activate(value, "Sigmoid")
    fused = counted("FusedGemm", shapes, output, "com.microsoft", alpha=alpha, beta=beta, activation="Sigmoid", **flags)
    check(fused, tally, macs)


def test_gemm_by_hand() -> None:
    counts = counted("Gemm", [(2, 3), (3, 4), (4,)], (2, 4), alpha=0.5, beta=2.0)
    assert counts == Counts.of(DType.FLOAT, mul=36, add=24, macs=24)


def test_fused_gemm_by_hand() -> None:
    shapes = [(1, 2), (2, 3), (3,)]
    counts = counted("FusedGemm", shapes, (1, 3), "com.microsoft", alpha=1.0, beta=1.0, activation="Relu")
    assert counts == Counts.of(DType.FLOAT, mul=6, add=6, compare=3, macs=6)


def einsum_by_loops(operands: list[Any], terms: list[str], output: str) -> int:
    """Multiply and sum pairwise, one entry of a dictionary at a time; returns the pairs of contracting products.

    Terms are plain letters (no ellipsis); a cell's first term is assigned.
    """

    def collect(entries: Any, kept: str) -> dict[frozenset[Any], Any]:
        cells: dict[frozenset[Any], Any] = {}
        for where, value in entries:
            key = frozenset((label, index) for label, index in where.items() if label in kept)
            cells[key] = cells[key] + value if key in cells else value
        return cells

    def diagonal(array: Any, term: str, kept: str) -> dict[frozenset[Any], Any]:
        entries = []
        for index in np.ndindex(array.shape):
            where: dict[str, int] = {}
            if all(where.setdefault(label, i) == i for label, i in zip(term, index, strict=True)):
                entries.append((where, array[index]))
        return collect(entries, kept)

    macs = 0
    later = ["".join(terms[k + 1 :]) + output for k in range(len(terms))]
    result = diagonal(operands[0], terms[0], later[0])
    seen = terms[0]
    for array, term, kept in zip(operands[1:], terms[1:], later[1:], strict=True):
        factor = diagonal(array, term, kept + seen)
        entries = []
        for (one, a), (two, b) in itertools.product(result.items(), factor.items()):
            first, second = dict(one), dict(two)
            if all(second.get(label, index) == index for label, index in first.items()):
                entries.append((first | second, a * b))
        result = collect(entries, kept)
        seen += term
        if entries and any(label not in kept for label in entries[0][0]):
            macs += len(entries)
    return macs


EINSUMS = [
    ("ij,jk->ik", [(2, 3), (3, 4)], None),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], None),
    ("ij,jk", [(2, 3), (3, 4)], "ij,jk->ik"),
    ("bij, bjk -> bik", [(2, 2, 3), (2, 3, 2)], None),
    ("i,j->ij", [(3,), (4,)], None),
    ("ij,ij->ij", [(3, 2), (3, 2)], None),
    ("ij->", [(3, 4)], None),
    ("ij->ji", [(3, 4)], None),
    ("ii->i", [(3, 3)], None),
    ("ii", [(4, 4)], "ii->"),
    ("iij,jk->ik", [(3, 3, 2), (2, 4)], None),
    ("ij,k->i", [(3, 4), (5,)], None),
    ("i,jk->i", [(3,), (4, 2)], None),
    ("...ij,...jk->...ik", [(2, 5, 2, 3), (2, 5, 3, 2)], "abij,abjk->abik"),
    ("...ij,jk", [(2, 2, 3), (3, 2)], "aij,jk->aik"),
    ("i...,i...->...", [(3, 2, 2), (3, 2, 2)], "iab,iab->ab"),
    ("bhid,bhjd,bhje->bhie", [(1, 2, 2, 3), (1, 2, 3, 3), (1, 2, 3, 2)], None),
    ("ab,bc,ca->", [(2, 3), (3, 4), (4, 2)], None),
    ("a,ab,abc->c", [(2,), (2, 3), (2, 3, 2)], None),
]


@pytest.mark.parametrize(("equation", "shapes", "letters"), EINSUMS)
def test_einsum_equals_pairwise_loops(equation: str, shapes: list[tuple[int, ...]], letters: str | None) -> None:
    tally: Counter[str] = Counter()
    terms, output = (letters or equation.replace(" ", "")).split("->")
    operands = [numbers(shape, tally) for shape in shapes]
    macs = einsum_by_loops(operands, terms.split(","), output)
    result = np.shape(np.einsum(equation, *(np.zeros(shape) for shape in shapes)))
    check(counted("Einsum", list(shapes), result, equation=equation), tally, macs)


def test_einsum_broadcasts_an_ellipsis_of_one() -> None:
    wide = counted("Einsum", [(2, 2, 3), (2, 3, 4)], (2, 2, 4), equation="...ij,...jk->...ik")
    assert counted("Einsum", [(1, 2, 3), (2, 3, 4)], (2, 2, 4), equation="...ij,...jk->...ik") == wide
    assert counted("Einsum", [(2, 2, 3), (3, 4)], (2, 2, 4), equation="...ij,...jk->...ik") == wide
    assert counted("Einsum", [(2, 2, 3), (1, 3, 4)], (2, 2, 4), equation="...ij,...jk->...ik") == wide


def test_einsum_by_hand() -> None:
    counts = counted("Einsum", [(2, 3), (3, 4), (4, 5)], (2, 5), equation="ij,jk,kl->il")
    assert counts == Counts.of(DType.FLOAT, mul=64, add=46, macs=64)


def test_einsum_over_an_empty_dimension_adds_nothing() -> None:
    assert counted("Einsum", [(2, 0), (0, 4)], (2, 4), equation="ij,jk->ik") == Counts()


def test_einsum_refuses_a_wrong_number_of_terms() -> None:
    with pytest.raises(ShapeError, match="2 terms for 1"):
        counted("Einsum", [(2, 3)], (2,), equation="ij,jk->ik")


MORE_ACTIVATIONS: dict[str, Any] = {
    "Elu": lambda x: (x.exp() - 1) * 0.5 if x > -1e9 else x,
    "Softplus": lambda x: (x.exp() + 1).log(),
    "Softsign": lambda x: x / (max(x, Number(-1e9, x.tally)) + 1),
    "ThresholdedRelu": lambda x: x if x > 1 else 0,
}


@pytest.mark.parametrize("activation", ["", *MORE_ACTIVATIONS])
def test_matmul_with_an_activation_equals_numpy(activation: str) -> None:
    tally: Counter[str] = Counter()
    result = np.matmul(numbers((2, 3, 4), tally), numbers((4, 5), tally)) * 0.5
    for value in result.flat:
        if activation:
            MORE_ACTIVATIONS[activation](value)
    shapes = [(2, 3, 4), (5, 4)]
    attributes = {"transB": 1, "alpha": 0.5}
    counts = counted("FusedMatMulActivation", shapes, (2, 3, 5), MICROSOFT, activation=activation, **attributes)
    check(counts, tally, 120)
    if not activation:
        assert counted("TransposeMatMul", shapes, (2, 3, 5), MICROSOFT, **attributes) == counts


def test_an_unknown_activation_of_a_matmul_is_refused() -> None:
    with pytest.raises(ShapeError, match="'Softmax'"):
        counted("FusedMatMulActivation", [(2, 3), (3, 4)], (2, 4), MICROSOFT, activation="Softmax")


@pytest.mark.parametrize("bias", [False, True])
def test_gemm_fast_gelu_equals_numpy(bias: bool) -> None:
    tally: Counter[str] = Counter()
    result = np.matmul(numbers((2, 3), tally), numbers((3, 4), tally))
    for value in (result + numbers((4,), tally) if bias else result).flat:
        gelu(value)
    shapes = [(2, 3), (3, 4), (4,) if bias else None]
    check(counted("GemmFastGelu", shapes, (2, 4), MICROSOFT), tally, 24)


def test_gemm_fast_gelu_by_hand() -> None:
    counts = counted("GemmFastGelu", [(1, 2), (2, 3), (3,)], (1, 3), MICROSOFT)
    assert counts == Counts.of(DType.FLOAT, add=9, sub=3, mul=12, div=3, root=3, macs=6)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize(("left", "right", "flags"), [
    ((2, 3), (3, 4), {}), ((3, 2), (3, 4), {"transA": 1}), ((2, 3), (4, 3), {"transB": 1}),
])  # fmt: skip
def test_sparse_product_is_at_most_the_dense_one(
    left: tuple[int, int], right: tuple[int, int], flags: dict[str, int], alpha: float
) -> None:
    tally: Counter[str] = Counter()
    product = np.matmul(numbers((2, 3), tally), numbers((3, 4), tally))
    if alpha != 1.0:
        product * alpha
    op = operator("SparseToDenseMatMul", [left, right], [(2, 4)], domain="com.microsoft", alpha=alpha, **flags)
    counts = count(op)
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 24
