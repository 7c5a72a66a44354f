"""The worked example of every backward rule, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.training.registry import (
    BackwardRule,
    all_backward_rules,
    backward,
    find_backward_rule,
    gradient_stops,
)
from onnx_aiwq.vocabulary import Counts, DType, Operator
from operators import operator

X, ROW = (2, 3), (2, 5)
MICROSOFT = "com.microsoft"
TRUE = np.array(True)

# operator, inputs, outputs, attributes, wanted, counts (macs included)
EXAMPLES: list[tuple[str, list[Any], list[Any], dict[str, Any], set[int], dict[str, int]]] = [
    ("Add", [X, (3,)], [X], {}, {0, 1}, {"add": 3}),
    ("Sub", [X, (3,)], [X], {}, {0, 1}, {"add": 3, "sub": 3}),
    ("Mul", [X, (3,)], [X], {}, {0, 1}, {"add": 3, "mul": 12}),
    ("Div", [X, (3,)], [X], {}, {0, 1}, {"add": 3, "mul": 6, "sub": 3, "div": 6}),
    ("Div", [X, (3,)], [X], {}, {0}, {"div": 6}),
    ("Pow", [ROW, np.array(3.0)], [ROW], {}, {0}, {"mul": 30}),
    ("Pow", [ROW, np.array(2.0)], [ROW], {}, {0}, {"mul": 20}),
    ("Where", [np.array([True] * 3), X, (1,)], [X], {}, {1, 2}, {"add": 5}),
    ("Clip", [X, np.array(0.0)], [X], {}, {0}, {}),
    ("Neg", [X], [X], {}, {0}, {"sub": 6}),
    ("CumSum", [ROW, np.array(1)], [ROW], {}, {0}, {"add": 8}),
    ("Erf", [X], [X], {}, {0}, {"mul": 18, "sub": 6, "root": 6}),
    ("Softmax", [ROW], [ROW], {"axis": 1}, {0}, {"mul": 20, "add": 8, "sub": 10}),
    ("Relu", [(1, 64, 56, 56)], [(1, 64, 56, 56)], {}, {0}, {}),
    ("LeakyRelu", [X], [X], {}, {0}, {"mul": 6}),
    ("PRelu", [X, (3,)], [X], {}, {0, 1}, {"mul": 12, "add": 3}),
    ("Elu", [X], [X], {}, {0}, {"mul": 6, "add": 6}),
    ("Sigmoid", [X], [X], {}, {0}, {"sub": 6, "mul": 12}),
    ("HardSigmoid", [X], [X], {}, {0}, {"mul": 6}),
    ("HardSwish", [X], [X], {}, {0}, {"mul": 12, "add": 6}),
    ("Softplus", [X], [X], {}, {0}, {"mul": 6, "div": 6}),
    ("Mish", [X], [X], {}, {0}, {"mul": 24, "sub": 6, "div": 6, "add": 6}),
    ("Swish", [X], [X], {"alpha": 1.0}, {0}, {"mul": 18, "sub": 6, "add": 6}),
    ("Gelu", [X], [X], {}, {0}, {"mul": 24, "sub": 6, "add": 6}),
    ("Dropout", [X, np.array(0.5), TRUE], [X], {}, {0}, {"mul": 6}),
    ("Dropout", [X, np.array(0.0), TRUE], [X], {}, {0}, {}),
    ("Dropout", [X], [X], {}, {0}, {}),
    ("Expand", [(2, 1), np.array([2, 5])], [ROW], {}, {0}, {"add": 8}),
    ("Pad", [X, np.array([0, 1, 0, 1])], [ROW], {"mode": "reflect"}, {0}, {"add": 4}),
    ("Pad", [X, np.array([0, 1, 0, 1])], [ROW], {}, {0}, {}),
    ("Gather", [(100, 8), np.array([1, 2, 3, 4, 4])], [(5, 8)], {}, {0}, {"add": 40}),
    ("ScatterND", [(4, 4), np.array([[0], [1]]), (2, 4)], [(4, 4)], {}, {0, 2}, {}),
    ("Resize", [(1, 1, 2, 2)], [(1, 1, 4, 4)], {"mode": "linear"}, {0}, {"mul": 64, "add": 64}),
    ("Resize", [(1, 1, 2, 2)], [(1, 1, 4, 4)], {"mode": "nearest"}, {0}, {"add": 12}),
    ("MaxPool", [(1, 2, 5, 5)], [(1, 2, 2, 2)], {"kernel_shape": (3, 3), "strides": (2, 2)}, {0}, {"add": 8}),
    ("MaxPool", [(1, 2, 4, 4)], [(1, 2, 2, 2)], {"kernel_shape": (2, 2), "strides": (2, 2)}, {0}, {}),
    ("AveragePool", [(1, 2, 4, 4)], [(1, 2, 2, 2)], {"kernel_shape": (2, 2), "strides": (2, 2)}, {0}, {"mul": 8}),
    ("AveragePool", [(1, 2, 3, 3)], [(1, 2, 2, 2)], {"kernel_shape": (2, 2)}, {0}, {"mul": 8, "add": 32}),
    ("ReduceMean", [ROW, np.array([1])], [(2, 1)], {}, {0}, {"mul": 2}),
    ("ReduceProd", [ROW, np.array([1])], [(2, 1)], {}, {0}, {"mul": 2, "div": 10}),
    ("ReduceSumSquare", [ROW, np.array([1])], [(2, 1)], {}, {0}, {"mul": 12}),
    ("ReduceL2", [ROW, np.array([1])], [(2, 1)], {}, {0}, {"mul": 10, "div": 2}),
    ("ReduceLogSumExp", [ROW, np.array([1])], [(2, 1)], {}, {0}, {"mul": 10, "div": 2}),
    (
        "Conv",
        [(1, 3, 5, 5), (4, 3, 3, 3), (4,)],
        [(1, 4, 5, 5)],
        {"pads": (1, 1, 1, 1)},
        {0, 1, 2},
        {"mul": 5400, "add": 5388, "macs": 5400},
    ),
    (
        "ConvTranspose",
        [(1, 1, 3), (1, 1, 3)],
        [(1, 1, 7)],
        {"strides": (2,)},
        {0, 1},
        {"mul": 18, "add": 12, "macs": 18},
    ),
    ("MatMul", [(2, 3, 4), (4, 5)], [(2, 3, 5)], {}, {0, 1}, {"mul": 240, "add": 196, "macs": 240}),
    ("Gemm", [(1, 4), (4, 3), (3,)], [(1, 3)], {}, {0, 1, 2}, {"mul": 24, "add": 8, "macs": 24}),
    (
        "Einsum",
        [(2, 3), (3, 4)],
        [(2, 4)],
        {"equation": "ij,jk->ik"},
        {0, 1},
        {"mul": 48, "add": 30, "macs": 48},
    ),
    (
        "LayerNormalization",
        [(2, 8), (8,), (8,)],
        [(2, 8)],
        {},
        {0, 1, 2},
        {"mul": 64, "add": 44, "div": 20, "sub": 32},
    ),
    ("RMSNormalization", [(2, 8), (8,)], [(2, 8)], {}, {0, 1}, {"mul": 64, "add": 22, "div": 18, "sub": 16}),
    (
        "MeanVarianceNormalization",
        [(1, 2, 2, 2)],
        [(1, 2, 2, 2)],
        {},
        {0},
        {"mul": 16, "add": 12, "div": 12, "sub": 16},
    ),
    (
        "BatchNormalization",
        [(1, 2, 4), (2,), (2,), (2,), (2,)],
        [(1, 2, 4)],
        {},
        {0, 1, 2},
        {"mul": 18, "add": 12, "sub": 2, "div": 2},
    ),
    ("LpNormalization", [ROW], [ROW], {"axis": 1}, {0}, {"mul": 20, "add": 8, "sub": 10, "div": 10}),
    ("LRN", [(1, 4, 1, 1)], [(1, 4, 1, 1)], {"size": 3}, {0}, {"mul": 12, "div": 8, "add": 8, "sub": 4}),
]


def gradient(op: Operator, wanted: set[int]) -> Counts:
    rule = find_backward_rule(op.op_type, op.domain)
    assert rule is not None and not rule.stops
    return rule.function(op, frozenset(wanted)) if rule.function else Counts()


@pytest.mark.parametrize(("op_type", "inputs", "outputs", "attributes", "wanted", "expected"), EXAMPLES)
def test_example(
    op_type: str,
    inputs: list[Any],
    outputs: list[Any],
    attributes: dict[str, Any],
    wanted: set[int],
    expected: dict[str, int],
) -> None:
    op = operator(op_type, inputs, outputs, **attributes)
    assert gradient(op, wanted) == Counts.of(DType.FLOAT, **expected)


def test_contrib_operators_follow_their_standard_kin() -> None:
    gelu = gradient(operator("BiasGelu", [X, (3,)], [X], domain=MICROSOFT), {0, 1})
    assert gelu == Counts.of(DType.FLOAT, mul=24, sub=6, add=9)
    quick = gradient(operator("QuickGelu", [X], [X], domain=MICROSOFT, alpha=1.0), {0})
    assert quick == Counts.of(DType.FLOAT, mul=18, sub=6, add=6)


def test_half_precision_gradients_are_counted_in_half_precision() -> None:
    op = operator("MatMul", [(2, 4), (4, 5)], [(2, 5)], dtype=DType.FLOAT16)
    assert gradient(op, {1}).dtypes == (DType.FLOAT16,)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("ScatterND", [(4, 4), np.array([[0]]), (1, 4)], {"reduction": "mul"}),
        ("Einsum", [(3, 3)], {"equation": "ii->i"}),
    ],
)
def test_what_is_not_counted_is_an_error(op_type: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match="not counted"):
        gradient(operator(op_type, inputs, [(3,)], **attributes), {0})


def test_einsum_without_an_arrow_and_with_an_ellipsis() -> None:
    implicit = gradient(operator("Einsum", [(2, 3), (3, 4)], [(2, 4)], equation="ij,jk"), {0, 1})
    assert implicit == Counts.of(DType.FLOAT, mul=48, add=30, macs=48)
    dots = gradient(operator("Einsum", [(5, 2, 3), (5, 3, 4)], [(5, 2, 4)], equation="...ij,...jk->...ik"), {0})
    assert dots == Counts.of(DType.FLOAT, mul=120, add=120 - 30, macs=120)


def test_every_rule_is_documented() -> None:
    sections = ("Equation:", "Basic operations:", "Not counted:", "Example:", "Reference:")
    for rule in all_backward_rules():
        if rule.function is None:
            assert rule.documentation.endswith("."), rule.op_type
        else:
            positions = [rule.documentation.find(section) for section in sections]
            assert -1 not in positions and positions == sorted(positions), rule.op_type


def test_two_rules_for_one_operator_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"ai\.onnx\.Relu.*activations:relu.*test_backward_examples"):

        @backward("Relu")
        def again(op: Operator, wanted: frozenset[int]) -> Counts:
            return Counts()

    with pytest.raises(ValueError, match="a rule that stops the gradient"):
        gradient_stops("Relu", why="It does not.")
    assert find_backward_rule("NoSuchOperator", "") is None


def test_owner_names_the_place() -> None:
    rule = find_backward_rule("Relu", "")
    assert isinstance(rule, BackwardRule)
    assert rule.owner == "onnx_aiwq.training.rules.activations:relu"
