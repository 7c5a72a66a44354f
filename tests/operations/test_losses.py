"""Loss rules against loops over self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)


def counted(op_type: str, scores: tuple[int, ...], *, weighted: bool = False, **attributes: Any) -> Counts:
    labels = Tensor("labels", DType.INT64, scores[:1] + scores[2:])
    inputs: tuple[Tensor, ...] = (Tensor("scores", DType.FLOAT, scores), labels)
    if weighted:
        inputs += (Tensor("weights", DType.FLOAT, scores[1:2]),)
    rule = find_rule(op_type, "", 13)
    assert rule is not None and rule.function is not None and rule.family == "loss"
    return rule.function(Operator("n", op_type, "", 13, inputs, (), {"reduction": "mean"} | attributes))


def _reduce(losses: list[Any], kept: list[Any] | None, reduction: str) -> Any:
    """`kept` are the weights of the labels, where the divisor depends on them."""
    if reduction == "none" or not losses:
        return losses
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    if reduction == "sum":
        return total
    if kept is None:
        return total / len(losses) if len(losses) > 1 else total
    divisor = kept[0]
    for weight in kept[1:]:
        divisor = divisor + weight
    return total / divisor


def nll_by_loops(rows: Any, labels: Any, weights: Any, ignore: int | None, reduction: str, tally: Counter[str]) -> Any:
    """Rows of log-probabilities, one label each; ignored ones are selected away after they were computed."""
    losses, kept = [], []
    for row, label in zip(rows, labels, strict=True):
        loss = -row[label]
        weight = Number(1, tally)
        if weights is not None:
            weight = weights[label]
            loss = loss * weight
        if ignore is not None and Number(label, tally) == ignore:
            loss, weight = Number(0, tally), Number(0, tally)
        losses.append(loss)
        kept.append(weight)
    return _reduce(losses, None if weights is None and ignore is None else kept, reduction)


def log_softmax(row: Any) -> Any:
    shifted = row - np.maximum.reduce(row)
    return shifted - np.log(np.add.reduce(np.exp(shifted)))


SHAPES = [(3, 5), (2, 3, 4), (1, 4), (2, 2, 2, 3), (0, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("op_type", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_against_oracle(
    op_type: str, ignore: int | None, weighted: bool, reduction: str, shape: tuple[int, ...]
) -> None:
    tally: Counter[str] = Counter()
    rows = np.moveaxis(numbers(shape, tally), 1, -1).reshape(-1, shape[1])
    labels = np.random.default_rng(3).integers(0, shape[1], len(rows)).tolist()
    if op_type == "SoftmaxCrossEntropyLoss":
        rows = [log_softmax(row) for row in rows]
    nll_by_loops(rows, labels, numbers(shape[1:2], tally) if weighted else None, ignore, reduction, tally)
    attributes = {} if ignore is None else {"ignore_index": ignore}
    got = counted(op_type, shape, weighted=weighted, reduction=reduction, **attributes)
    assert got.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_loops_compute_the_operator(weighted: bool, ignore: int | None, reduction: str) -> None:
    """The oracle's loops give the values of onnx's own reference implementation."""
    tally: Counter[str] = Counter()
    rows, weights = numbers((4, 3), tally, 1), numbers((3,), tally, 2) if weighted else None
    labels = [0, 2, 1, 2]
    got = nll_by_loops([log_softmax(row) for row in rows], labels, weights, ignore, reduction, tally)
    plain = np.vectorize(lambda number: number.value, otypes=[np.float32])
    feeds = {"scores": plain(rows), "labels": np.array(labels)} | ({} if weights is None else {"w": plain(weights)})
    attributes = {} if ignore is None else {"ignore_index": ignore}
    node = helper.make_node("SoftmaxCrossEntropyLoss", [*feeds], ["y"], reduction=reduction, **attributes)
    (expected,) = ReferenceEvaluator(node).run(None, feeds)
    np.testing.assert_allclose(plain(got), expected, rtol=1e-5)


def test_negative_log_likelihood_by_hand() -> None:
    assert counted("NegativeLogLikelihoodLoss", (3, 5)).basic_operations() == NOTHING | {"sub": 3, "add": 2, "div": 1}
    weighted = counted("NegativeLogLikelihoodLoss", (3, 5), weighted=True, ignore_index=0)
    assert weighted.basic_operations() == NOTHING | {"sub": 3, "mul": 3, "add": 4, "div": 1, "compare": 3}
    assert weighted.operations[DType.INT64, BasicOp.COMPARE] == 3


def test_cross_entropy_by_hand() -> None:
    """3 lines of 5: 12 compare, 30 sub, 18 root, 12 add; then 3 sub, 2 add, 1 div."""
    assert counted("SoftmaxCrossEntropyLoss", (3, 5)).basic_operations() == NOTHING | {
        "compare": 12,
        "sub": 33,
        "root": 18,
        "add": 14,
        "div": 1,
    }
