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
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

OPSET = 22
MICROSOFT = "com.microsoft"


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
    if name == "HardSwish":
        gate = value * (1 / 6) + 0.5
        low, high = gate < 0, gate > 1
        return value * (0 if low else 1 if high else gate)
    if name in ("Clip", "HardSigmoid"):
        low, high = value < 0, value > 1
        return 0 if low else 1 if high else value
    return value


@pytest.mark.parametrize("activation", ["", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish"])
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


@pytest.mark.parametrize("extras", [(False, False, ""), (True, True, "Relu"), (True, False, "Sigmoid")])
@pytest.mark.parametrize(("op_type", "domain"), [("NhwcFusedConv", "com.microsoft"), ("Conv", "com.microsoft.nchwc")])
def test_convolutions_of_other_layouts_equal_fused_conv(op_type: str, domain: str, extras: Any) -> None:
    tally: Counter[str] = Counter()
    bias, summand, activation = extras
    pairs = 0
    for _ in np.ndindex(2, 8, 3, 3):  # 5 filters in a block of 8: the padding is multiplied like any other
        taps = numbers((2 * 3 * 3,), tally)
        y = np.add.reduce(taps * numbers((2 * 3 * 3,), tally))
        pairs += len(taps)
        y = y + 0.5 if bias else y
        y = y + 0.25 if summand else y
        if activation == "Relu":
            assert y > -1e9
        elif activation:
            1 / (1 + (-y).exp())
    output = (2, 8, 3, 3) if domain.endswith("nchwc") else (2, 3, 3, 8)
    shapes = [(2, 2, 3, 3), (8, 2, 3, 3), (8,) if bias else None, output if summand else None]
    counts = counted(op_type, shapes, output, domain, pads=(1, 1, 1, 1), activation=activation)
    check(counts, tally, pairs)


def test_blocked_convolution_by_hand() -> None:
    counts = counted("Conv", [(1, 2, 3, 3), (8, 2, 3, 3)], (1, 8, 1, 1), "com.microsoft.nchwc")
    assert counts == Counts.of(DType.FLOAT, add=8 * 17, mul=144, macs=144)


def test_conv_transpose_takes_its_pads_as_an_input() -> None:
    plain = counted("ConvTranspose", [(1, 1, 3), (1, 1, 3), (1,)], (1, 1, 5), strides=(2,), pads=(1, 1))
    pads = [(1, 1, 3), (1, 1, 3), (2,), (1,)]
    dynamic = counted("ConvTransposeWithDynamicPads", pads, (1, 1, 5), "com.microsoft", strides=(2,))
    assert dynamic == plain == Counts.of(DType.FLOAT, add=7, mul=9, macs=9)
    without = counted("ConvTransposeWithDynamicPads", pads[:3], (1, 1, 5), "com.microsoft", strides=(2,))
    assert without == Counts.of(DType.FLOAT, add=2, mul=9, macs=9)


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


def gelu(x: Any) -> Any:
    return x * (1 / (1 + (-(x * 1.702)).exp()))


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


def gemm_float8(inputs: list[Any], output: tuple[int, ...], **attributes: Any) -> Counts:
    rule = find_rule("GemmFloat8", MICROSOFT, 1)
    assert rule is not None and rule.function is not None
    operands = tuple(tensor(shape, DType.FLOAT8E4M3FN) for shape in inputs[:2])
    rest = tuple(item if isinstance(item, Tensor) else tensor(item) for item in inputs[2:])
    return rule.function(Operator("n", "GemmFloat8", MICROSOFT, 1, (*operands, *rest), (tensor(output),), attributes))


@pytest.mark.parametrize("activation", ["NONE", "RELU", "GELU"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1.0, 0.5])
def test_gemm_float8_equals_numpy(activation: str, scaled: bool, beta: float) -> None:
    narrow: Counter[str] = Counter()
    wide: Counter[str] = Counter()
    np.matmul(numbers((2, 3), narrow), numbers((3, 4), narrow))
    result = numbers((2, 4), wide)
    result = result * 0.5 if scaled else result
    if beta:
        summand = numbers((4,), wide)
        result = result + (summand * beta if beta != 1.0 else summand)
    for value in result.flat:
        if activation == "RELU":
            assert value > -1e9
        value = gelu(value) if activation == "GELU" else value
        if scaled:
            value * 2
    scale = (1,) if scaled else None
    attributes = {"transB": 1, "activation": activation, "beta": beta}
    counts = gemm_float8([(2, 3), (4, 3), (4,), scale, scale, scale], (2, 4), **attributes)
    assert counts.of_dtype(DType.FLOAT8E4M3FN).basic_operations() == as_basic_operations(narrow)
    assert counts.of_dtype(DType.FLOAT).basic_operations() == as_basic_operations(wide)
    assert counts.macs == 24


def test_gemm_float8_by_hand_and_known_scales() -> None:
    product = Counts.of(DType.FLOAT8E4M3FN, add=16, mul=24, macs=24)
    assert gemm_float8([(2, 3), (3, 4), None, (1,), (1,)], (2, 4)) == product + Counts.of(DType.FLOAT, mul=8)
    one = tensor((1,), value=[1.0])
    assert gemm_float8([(2, 3), (3, 4), None, one, one, one], (2, 4)) == product
    with pytest.raises(ShapeError, match="'TANH'"):
        gemm_float8([(2, 3), (3, 4)], (2, 4), activation="tanh")


def unpacked(tally: Counter[str], length: int, columns: int, *, centred: bool) -> Any:
    weight = numbers((length, columns), tally)
    return (weight - 8 if centred else weight) * 0.5


@pytest.mark.parametrize("op_type", ["MatMulBnb4", "MatMulFpQ4"])
def test_matmul_four_bits_equals_dequantised_numpy(op_type: str) -> None:
    tally: Counter[str] = Counter()
    np.matmul(numbers((2, 3, 6), tally), unpacked(tally, 6, 4, centred=op_type == "MatMulFpQ4"))
    counts = counted(op_type, [(2, 3, 6), (12,), (2,)], (2, 3, 4), MICROSOFT, K=6, N=4, block_size=16)
    check(counts, tally, 6 * 6 * 4)


def test_matmul_four_bits_by_hand() -> None:
    expected = Counts.of(DType.FLOAT, mul=288, add=186, macs=192)
    assert counted("MatMulBnb4", [(2, 32), (48,), (6,)], (2, 3), MICROSOFT, K=32, N=3) == expected
    integers = counted("MatMulFpQ4", [(2, 32), (60,), (2,)], (2, 3), MICROSOFT)
    assert integers == expected + Counts.of(DType.FLOAT, sub=96)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["fp8", "fp8, quantised input", "fp4"])
def test_matmul_block_floats_equals_dequantised_numpy(form: str, bias: bool) -> None:
    tally: Counter[str] = Counter()
    a = numbers((2, 6), tally)
    a = a / 2 * 2 if form.endswith("input") else a
    if form == "fp4":
        numbers((4, 3), tally) * 2  # both scales
    result = np.matmul(a, unpacked(tally, 6, 4, centred=False))
    result + numbers((4,), tally) if bias else result
    last = (4,) if bias else None
    if form == "fp4":
        counts = counted(
            "MatMulBlockQuantizedFp4Weight", [(2, 6), (4, 3), (4, 3), (), None, last], (2, 4), MICROSOFT, block_size=2
        )
    else:
        scale = () if form.endswith("input") else None
        shapes = [(2, 6), (4, 6), (4, 1), scale, last]
        counts = counted("MatMulBlockQuantizedFp8Weight", shapes, (2, 4), MICROSOFT)
    check(counts, tally, 48)


def test_matmul_block_floats_by_hand() -> None:
    counts = counted("MatMulBlockQuantizedFp8Weight", [(2, 32), (3, 32), (3, 1)], (2, 3), MICROSOFT)
    assert counts == Counts.of(DType.FLOAT, mul=288, add=186, macs=192)


@pytest.mark.parametrize("norm", ["", "norm", "skip"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["relu", "silu", "gelu", "qkv"])
def test_fused_matmul_nbits_equals_its_parts(form: str, bias: bool, norm: str) -> None:
    tally: Counter[str] = Counter()
    x = numbers((2, 6), tally)
    if norm:
        x = x + numbers((2, 6), tally) if norm == "skip" else x
        for line in x:
            line / (np.add.reduce(line * line) / 6 + 1e-5).sqrt() * numbers((6,), tally)
    widths = (4, 2, 2) if form == "qkv" else (3, 3)
    products = [np.matmul(x, unpacked(tally, 6, width, centred=True)) for width in widths]
    if bias:
        products = [product + numbers((product.shape[1],), tally) for product in products]
    if form != "qkv":
        for gate, up in zip(products[0].flat, products[1].flat, strict=True):
            if form == "relu":
                assert gate > -1e9
            else:
                gate = gelu(gate) if form == "gelu" else gate * (1 / (1 + (-gate).exp()))
            gate * up
    shapes: list[Any] = [(2, 6), (2, 6) if norm == "skip" else None, (6,) if norm else None]
    for width in widths:
        shapes += [(width, 1, 3), (width, 1), (width,) if bias else None]
    if form == "qkv":
        counts = counted("MatMulNBitsQkv", shapes, (2, 4), MICROSOFT, K=6, Nq=4, Nkv=2, block_size=32)
    else:
        counts = counted("MatMulNBitsMlp", shapes, (2, 3), MICROSOFT, K=6, N=3, activation=form, block_size=32)
    check(counts, tally, 2 * 6 * sum(widths))


def test_fused_matmul_nbits_by_hand() -> None:
    shapes = [(1, 32), None, None, (2, 1, 16), (2, 1), None, (1, 1, 16), (1, 1), None, (1, 1, 16), (1, 1), None]
    counts = counted("MatMulNBitsQkv", shapes, (1, 2), MICROSOFT, K=32, Nq=2, Nkv=1, block_size=32)
    assert counts == Counts.of(DType.FLOAT, add=124, sub=128, mul=256, macs=128)
    with pytest.raises(ShapeError, match="'tanh'"):
        counted("MatMulNBitsMlp", [(1, 32)], (1, 2), MICROSOFT, K=32, N=2, activation="tanh")


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
