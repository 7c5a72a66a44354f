"""Rules of dense products against scatter and gather loops over self-tallying numbers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

OPSET = 22


def tensor(shape: tuple[int, ...] | None, dtype: DType = DType.FLOAT, value: Any = None) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape, None if value is None else np.asarray(value))


def inferred(op_type: str, shapes: list[Any], attributes: dict[str, Any]) -> tuple[int, ...]:
    """The output shape that onnx infers for one ai.onnx node."""
    names = ["" if shape is None else f"i{k}" for k, shape in enumerate(shapes)]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(names, shapes, strict=True)
        if name
    ]
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return tuple(dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim)


def counted(op_type: str, shapes: list[Any], output: tuple[int, ...], domain: str = "", **attributes: Any) -> Counts:
    rule = find_rule(op_type, domain, OPSET if not domain else 1)
    assert rule is not None and rule.function is not None
    inputs = tuple(tensor(shape) for shape in shapes)
    return rule.function(Operator("n", op_type, domain, OPSET, inputs, (tensor(output),), attributes))


def check(counts: Counts, tally: Counter[str], macs: int) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs
    assert set(counts.dtypes) <= {DType.FLOAT}


def conv_by_loops(x: Any, w: Any, bias: Any, shape: tuple[int, ...], **a: Any) -> int:
    """Gather loop over the padded input; returns the number of multiplied pairs."""
    rank, group = x.ndim - 2, a.get("group", 1)
    pads, strides = a.get("pads", (0,) * 2 * rank), a.get("strides", (1,) * rank)
    dilations = a.get("dilations", (1,) * rank)
    padded = np.empty(
        x.shape[:2] + tuple(n + pads[k] + pads[k + rank] for k, n in enumerate(x.shape[2:])), dtype=object
    )
    tally = w.flat[0].tally
    for index in np.ndindex(padded.shape):
        padded[index] = Number(0, tally)
    padded[(..., *(slice(pads[k], pads[k] + n) for k, n in enumerate(x.shape[2:])))] = x
    pairs = 0
    for n, f, *out in np.ndindex(shape):
        total = None
        for c, *tap in np.ndindex(w.shape[1:]):
            where = [o * s + t * d for o, s, t, d in zip(out, strides, tap, dilations, strict=True)]
            channel = f // (w.shape[0] // group) * w.shape[1] + c
            product = padded[(n, channel, *where)] * w[(f, c, *tap)]
            pairs += 1
            total = product if total is None else total + product
        if bias is not None:
            total = total + bias[f]
    return pairs


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 3, 3), (1, 1, 3, 3), {}),
    ((2, 3, 5, 4), (4, 3, 3, 2), {"pads": (1, 0, 1, 1)}),
    ((1, 4, 6, 6), (4, 2, 3, 3), {"group": 2, "strides": (2, 1), "pads": (1, 1, 1, 1)}),
    ((1, 3, 7, 7), (3, 1, 3, 3), {"group": 3, "dilations": (2, 2), "strides": (1, 2)}),
    ((2, 2, 9), (3, 2, 4), {"strides": (3,), "pads": (2, 1)}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), {"dilations": (1, 2, 1)}),
    ((1, 2, 4, 4), (5, 2, 1, 1), {}),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("data", "weight", "attributes"), CONVOLUTIONS)
def test_conv_equals_its_loops(data: tuple[int, ...], weight: tuple[int, ...], attributes: Any, bias: bool) -> None:
    tally: Counter[str] = Counter()
    b = numbers(weight[:1], tally) if bias else None
    shapes = [data, weight, weight[:1] if bias else None]
    output = inferred("Conv", shapes, attributes)
    pairs = conv_by_loops(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    check(counted("Conv", shapes, output, **attributes), tally, pairs)


def test_conv_by_hand() -> None:
    counts = counted("Conv", [(1, 3, 5, 5), (4, 3, 3, 3), (4,)], (1, 4, 5, 5), pads=(1, 1, 1, 1))
    assert counts == Counts.of(DType.FLOAT, mul=2700, add=2700, macs=2700)
    nhwc = counted("NhwcConv", [(1, 5, 5, 3), (4, 3, 3, 3), (4,)], (1, 5, 5, 4), "com.microsoft", pads=(1, 1, 1, 1))
    assert nhwc == counts


def test_conv_of_an_empty_batch_costs_nothing() -> None:
    assert counted("Conv", [(0, 3, 5, 5), (4, 3, 3, 3)], (0, 4, 3, 3)) == Counts()


def test_conv_needs_the_weight_shape() -> None:
    with pytest.raises(ShapeError):
        counted("Conv", [(1, 3, 5, 5), None], (1, 4, 3, 3))


def test_half_precision_multiplies_and_adds_in_its_own_type() -> None:
    rule = find_rule("Conv", "", OPSET)
    assert rule is not None and rule.function is not None
    half = tuple(tensor(shape, DType.FLOAT16) for shape in [(1, 1, 2, 2), (1, 1, 2, 2)])
    operator = Operator("n", "Conv", "", OPSET, half, (tensor((1, 1, 1, 1), DType.FLOAT16),), {})
    assert rule.function(operator) == Counts.of(DType.FLOAT16, mul=4, add=3, macs=4)


def activate(value: Any, name: str) -> Any:
    """One element of a fused activation, written out."""
    if name == "Relu":
        return value if value >= 0 else 0
    if name == "Sigmoid":
        return 1 / (1 + (-value).exp())
    if name == "Tanh":
        e = (value * 2).exp()
        return (e - 1) / (e + 1)
    if name == "LeakyRelu":
        slope = value * 0.1
        return value if value >= 0 else slope
    if name == "HardSigmoid":
        value = value * 0.2 + 0.5
    if name in ("Clip", "HardSigmoid"):
        low, high = value < 0, value > 1
        return 0 if low else 1 if high else value
    return value


@pytest.mark.parametrize("activation", ["", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid"])
@pytest.mark.parametrize("summed", [False, True])
def test_fused_conv_equals_conv_sum_and_activation(activation: str, summed: bool) -> None:
    tally: Counter[str] = Counter()
    data, weight, attributes = (1, 2, 4, 4), (3, 2, 3, 3), {"pads": (1, 0, 0, 1)}
    output = inferred("Conv", [data, weight], attributes)
    b = numbers((3,), tally)
    pairs = conv_by_loops(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    values = numbers(output, tally)
    if summed:
        values = values + numbers(output, tally)
    for value in values.flat:
        activate(value, activation)
    shapes = [data, weight, (3,), output if summed else None]
    check(counted("FusedConv", shapes, output, "com.microsoft", activation=activation, **attributes), tally, pairs)


def test_fused_conv_by_hand() -> None:
    shapes = [(1, 2, 3, 3), (1, 2, 3, 3), (1,), (1, 1, 1, 1)]
    counts = counted("FusedConv", shapes, (1, 1, 1, 1), "com.microsoft", activation="Relu")
    assert counts == Counts.of(DType.FLOAT, mul=18, add=19, compare=1, macs=18)


def test_an_unknown_fused_activation_is_refused() -> None:
    with pytest.raises(ShapeError, match="Snake"):
        counted("FusedConv", [(1, 2, 3, 3), (1, 2, 3, 3)], (1, 1, 1, 1), "com.microsoft", activation="Snake")


def conv_transpose_by_scatter(x: Any, w: Any, bias: Any, output: tuple[int, ...], **a: Any) -> int:
    """Scatter every product into the uncropped output; a cell's first product is assigned."""
    rank, group = x.ndim - 2, a.get("group", 1)
    strides, dilations = a.get("strides", (1,) * rank), a.get("dilations", (1,) * rank)
    cells: dict[tuple[int, ...], Any] = {}
    pairs = 0
    for n, c, *place in np.ndindex(x.shape):
        for f, *tap in np.ndindex(w.shape[1:]):
            target = [p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True)]
            key = (n, c // (x.shape[1] // group) * w.shape[1] + f, *target)
            product = x[(n, c, *place)] * w[(c, f, *tap)]
            pairs += 1
            cells[key] = cells[key] + product if key in cells else product
    if bias is not None:
        for _, f, *_rest in np.ndindex(output):
            bias[f] + 0
    return pairs


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 3), (1, 1, 3), {"strides": (2,)}),
    ((1, 1, 3), (1, 1, 3), {"strides": (2,), "pads": (1, 1)}),
    ((2, 3, 3, 4), (3, 2, 3, 3), {"strides": (2, 1), "pads": (1, 1, 0, 1), "output_padding": (1, 0)}),
    ((1, 4, 3, 3), (4, 2, 2, 3), {"group": 2, "strides": (3, 2), "dilations": (1, 2)}),
    ((1, 2, 5), (2, 1, 4), {"strides": (2,), "dilations": (4,)}),
    ((1, 2, 5), (2, 1, 4), {"strides": (4,), "dilations": (6,)}),
    ((1, 1, 7), (1, 1, 6), {"strides": (3,), "dilations": (2,)}),
    ((1, 1, 2, 2, 2), (1, 2, 2, 3, 2), {"strides": (1, 2, 3)}),
    ((1, 3, 4, 4), (3, 1, 1, 1), {"group": 3, "strides": (2, 2)}),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("data", "weight", "attributes"), TRANSPOSED)
def test_conv_transpose_equals_its_scatter(
    data: tuple[int, ...], weight: tuple[int, ...], attributes: Any, bias: bool
) -> None:
    tally: Counter[str] = Counter()
    filters = (weight[1] * attributes.get("group", 1),)
    shapes = [data, weight, filters if bias else None]
    output = inferred("ConvTranspose", shapes, attributes)
    b = numbers(filters, tally) if bias else None
    pairs = conv_transpose_by_scatter(numbers(data, tally), numbers(weight, tally), b, output, **attributes)
    check(counted("ConvTranspose", shapes, output, **attributes), tally, pairs)


@pytest.mark.parametrize(("size", "kernel"), [*itertools.product((1, 2, 5), (1, 3, 4))])
def test_conv_transpose_reaches_as_many_cells_as_there_are_sums(size: int, kernel: int) -> None:
    for stride, dilation in itertools.product(range(1, 7), range(1, 7)):
        cells = {stride * i + dilation * k for i in range(size) for k in range(kernel)}
        counts = counted(
            "ConvTranspose", [(1, 1, size), (1, 1, kernel)], (1, 1, 99), strides=(stride,), dilations=(dilation,)
        )
        assert counts.basic_operations()["add"] == size * kernel - len(cells)


def test_conv_transpose_by_hand() -> None:
    plain = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3)], (1, 1, 7), strides=(2,))
    assert plain == Counts.of(DType.FLOAT, mul=9, add=2, macs=9)
    cropped = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3), (1,)], (1, 1, 5), strides=(2,), pads=(1, 1))
    assert cropped == Counts.of(DType.FLOAT, mul=9, add=7, macs=9)


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


def deform_conv_by_loops(x: Any, w: Any, offset: Any, bias: Any, mask: Any, output: tuple[int, ...]) -> int:
    """Interpolate each tap at its shifted position (corners outside are zeros), then multiply and sum."""
    rank, kernel = x.ndim - 2, w.shape[2:]
    tally = x.flat[0].tally
    taps = math.prod(kernel)
    groups = offset.shape[1] // (taps * rank)
    weights = {}
    for n, g, t, *out in np.ndindex((x.shape[0], groups, taps, *output[2:])):
        fractions = []
        for d in range(rank):
            position = offset[(n, (g * taps + t) * rank + d, *out)] + out[d]
            assert position >= math.floor(position.value)
            fraction = position - math.floor(position.value)
            fractions.append((1 - fraction, fraction))
        for corner in itertools.product((0, 1), repeat=rank):
            factors = [fractions[d][corner[d]] for d in range(rank)]
            weight = factors[0]
            for factor in factors[1:]:
                weight = weight * factor
            weights[(n, g, t, *out, *corner)] = weight
    samples = {}
    for n, c, t, *out in np.ndindex((x.shape[0], x.shape[1], taps, *output[2:])):
        g = c // (x.shape[1] // groups)
        total = None
        for corner in itertools.product((0, 1), repeat=rank):
            product = Number(1, tally) * weights[(n, g, t, *out, *corner)]
            total = product if total is None else total + product
        if mask is not None:
            total = total * mask[(n, g * taps + t, *out)]
        samples[(n, c, t, *out)] = total
    pairs = 0
    for n, f, *out in np.ndindex(output):
        total = None
        for c in range(w.shape[1]):
            channel = f // (w.shape[0] // (x.shape[1] // w.shape[1])) * w.shape[1] + c
            for t, tap in enumerate(np.ndindex(kernel)):
                product = samples[(n, channel, t, *out)] * w[(f, c, *tap)]
                pairs += 1
                total = product if total is None else total + product
        if bias is not None:
            total = total + bias[f]
    return pairs


@pytest.mark.parametrize("extras", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("data", "weight", "groups", "output"),
    [
        ((1, 1, 3, 3), (1, 1, 2, 2), 1, (1, 1, 2, 2)),
        ((2, 4, 4, 3), (2, 2, 2, 1), 2, (2, 2, 3, 3)),
        ((1, 2, 5), (3, 2, 3), 1, (1, 3, 3)),
    ],
)
def test_deform_conv_equals_its_loops(data: Any, weight: Any, groups: int, output: Any, extras: Any) -> None:
    tally: Counter[str] = Counter()
    taps = math.prod(weight[2:])
    offset = (data[0], groups * taps * (len(data) - 2), *output[2:])
    bias = weight[:1] if extras[0] else None
    mask = (data[0], groups * taps, *output[2:]) if extras[1] else None
    arrays = [None if shape is None else numbers(shape, tally) for shape in (data, weight, offset, bias, mask)]
    pairs = deform_conv_by_loops(*arrays, output)
    counts = counted("DeformConv", [data, weight, offset, bias, mask], output, offset_group=groups)
    check(counts, tally, pairs)


def test_deform_conv_by_hand() -> None:
    counts = counted("DeformConv", [(1, 1, 3, 3), (1, 1, 2, 2), (1, 8, 2, 2)], (1, 1, 2, 2))
    assert counts == Counts.of(DType.FLOAT, add=92, sub=64, mul=144, compare=32, macs=16)


@pytest.mark.parametrize("bias", [False, True])
def test_matmul_nbits_equals_dequantised_numpy(bias: bool) -> None:
    tally: Counter[str] = Counter()
    rows, length, columns, block = (2, 3), 32, 4, 16
    a, b = numbers((*rows, length), tally), numbers((length, columns), tally)
    scale, point = numbers((length // block, columns), tally), numbers((length // block, columns), tally)
    b = (b - point.repeat(block, axis=0)) * scale.repeat(block, axis=0)
    result = np.matmul(a, b)
    if bias:
        result = result + numbers((columns,), tally)
    packed = (columns, length // block, block // 2)
    shapes = [(*rows, length), packed, (columns, 2), (columns, 1), None, (columns,) if bias else None]
    counts = counted("MatMulNBits", shapes, (*rows, columns), "com.microsoft", K=length, N=columns, block_size=block)
    check(counts, tally, 6 * 32 * 4)


def test_matmul_nbits_by_hand() -> None:
    shapes = [(2, 32), (3, 2, 8), (3, 2)]
    counts = counted("MatMulNBits", shapes, (2, 3), "com.microsoft", K=32, N=3, block_size=16, bits=4)
    assert counts == Counts.of(DType.FLOAT, sub=96, mul=288, add=186, macs=192)
