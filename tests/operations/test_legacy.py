"""Rules of operators that ONNX dropped with opset 10, against plain loops over self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType
from operators import count, operator
from oracle import as_basic_operations, numbers

F32 = DType.FLOAT


def counted(op_type: str, shape: tuple[int, ...], **attributes: Any) -> Counts:
    return count(operator(op_type, [shape], [shape], version=9, **attributes))


def tanh(x: Any) -> Any:
    e = (x * 2).exp()
    return (e - 1) / (e + 1)


def softplus(x: Any) -> Any:
    return (x.exp() + 1).log()


FORMS: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
    ("Affine", {"alpha": 2.0, "beta": 1.0}, lambda x: x * 2 + 1),
    ("Affine", {"alpha": 1.0, "beta": 1.0}, lambda x: x + 1),
    ("Affine", {"alpha": 2.0, "beta": 0.0}, lambda x: x * 2),
    ("Affine", {}, lambda x: x),
    ("Scale", {"scale": 0.5}, lambda x: x * 0.5),
    ("Scale", {"scale": 1.0}, lambda x: x),
    ("ImageScaler", {"scale": 2.0, "bias": (1.0, 0.0, 3.0)}, lambda x: x * 2 + 1),
    ("ImageScaler", {"bias": (1.0, 0.0, 3.0)}, lambda x: x + 1),
    ("ImageScaler", {"scale": 2.0, "bias": (0.0, 0.0, 0.0)}, lambda x: x * 2),
    ("ParametricSoftplus", {"alpha": 2.0, "beta": 3.0}, lambda x: softplus(x * 3) * 2),
    ("ParametricSoftplus", {"alpha": 1.0, "beta": 3.0}, lambda x: softplus(x * 3)),
    ("ScaledTanh", {"alpha": 2.0, "beta": 3.0}, lambda x: tanh(x * 3) * 2),
    ("ScaledTanh", {"alpha": 2.0, "beta": 1.0}, lambda x: tanh(x) * 2),
]


@pytest.mark.parametrize("shape", [(1, 3, 2, 5), (2, 3, 1, 1)])
@pytest.mark.parametrize(("op_type", "attributes", "formula"), FORMS)
def test_rules_equal_their_formulas(
    op_type: str, attributes: dict[str, Any], formula: Callable[[Any], Any], shape: tuple[int, ...]
) -> None:
    tally: Counter[str] = Counter()
    for x in numbers(shape, tally).reshape(-1):
        formula(x)
    assert counted(op_type, shape, **attributes).basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (counted("Affine", (2, 3), alpha=2.0, beta=1.0), Counts.of(F32, mul=6, add=6)),
        (counted("Scale", (2, 3), scale=0.5), Counts.of(F32, mul=6)),
        (counted("ImageScaler", (1, 2, 3, 3), scale=2.0, bias=(1.0, 0.0)), Counts.of(F32, mul=18, add=18)),
        (counted("ParametricSoftplus", (2, 3), alpha=2.0, beta=3.0), Counts.of(F32, root=12, add=6, mul=12)),
        (counted("ScaledTanh", (2, 3), alpha=2.0, beta=1.0), Counts.of(F32, mul=12, root=6, sub=6, add=6, div=6)),
    ],
)
def test_worked_examples(counts: Counts, expected: Counts) -> None:
    assert counts == expected


@pytest.mark.parametrize(("op_type", "domain"), [("Crop", ""), ("DynamicSlice", ""), ("SampleOp", "com.microsoft")])
def test_what_only_moves(op_type: str, domain: str) -> None:
    rule = find_rule(op_type, domain, 1)
    assert rule is not None and rule.function is None
