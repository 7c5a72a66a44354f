"""Searches against sorts, greedy selections and scans of self-tallying numbers; n-gram counting too."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import count, operator
from oracle import Number, as_basic_operations, numbers


def merge_sorted(items: list[Any], before: Callable[[Any, Any], bool]) -> list[Any]:
    """Merge sort, top down."""
    if len(items) < 2:
        return items
    middle = len(items) // 2
    left, right = merge_sorted(items[:middle], before), merge_sorted(items[middle:], before)
    merged = []
    while left and right:
        merged.append((right if before(right[0], left[0]) else left).pop(0))
    return merged + left + right


@pytest.mark.parametrize("shape", [(2, 3), (7,), (0, 2), ()])
def test_non_zero(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    _ = [place for place in np.ndindex(*shape) if numbers(shape, tally)[place] != 0]
    assert count(operator("NonZero", [shape], [(len(shape), 1)])).basic_operations() == as_basic_operations(tally)


def unique_of(order: tuple[int, ...], width: int) -> int:
    """Comparisons of elements to find the distinct ones among slices that differ in their last element only."""
    tally: Counter[str] = Counter()
    slices = [[Number(0.0, tally) for _ in range(width - 1)] + [Number(last, tally)] for last in order]

    def three_way(a: list[Number], b: list[Number]) -> int:
        for first, second in zip(a, b, strict=True):
            tally["compare"] += 1
            if first.value != second.value:
                return -1 if first.value < second.value else 1
        return 0

    ordered = merge_sorted(slices, lambda a, b: three_way(a, b) < 0)
    _ = [three_way(a, b) for a, b in itertools.pairwise(ordered)]
    return tally["compare"]


@pytest.mark.parametrize("length", range(7))
@pytest.mark.parametrize("width", [1, 3])
def test_unique_bound_is_the_worst_order(length: int, width: int) -> None:
    worst = max(unique_of(order, width) for order in itertools.permutations(range(length)))
    if width == 1:
        op = operator("Unique", [(length,)], [(length,)])
    else:
        op = operator("Unique", [(width, length)], [(width, length)], axis=-1)
    assert count(op).basic_operations() == as_basic_operations(Counter(compare=worst))


def corners(box: list[Number], centred: bool) -> tuple[Number, Number, Number, Number, Number]:
    """(low y, low x, high y, high x, area) of a box in either form."""
    if not centred:
        y1, x1, y2, x2 = box
        low_y, high_y = (y1, y2) if y1 <= y2 else (y2, y1)
        low_x, high_x = (x1, x2) if x1 <= x2 else (x2, x1)
        return low_y, low_x, high_y, high_x, (high_y - low_y) * (high_x - low_x)
    x, y, width, height = box
    half_width, half_height = width / 2, height / 2
    return y - half_height, x - half_width, y + half_height, x + half_width, width * height


def overlap(a: tuple[Number, ...], b: tuple[Number, ...]) -> Number:
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    shared = height * width if isinstance(height, Number) else width * height
    if not isinstance(shared, Number):
        # Both sides were clamped to a plain zero; the product still takes one multiplication.
        shared = Number(0.0, a[0].tally) * 0.0
    return shared / (a[4] + b[4] - shared)


def greedy(layout: list[float], order: tuple[int, ...], classes: int, limit: int, centred: bool, scored: bool) -> Any:
    """Non-maximum suppression of unit boxes at the given places, tallied; returns the tally and the numbers kept."""
    tally: Counter[str] = Counter()

    def unit_box(place: float) -> list[Number]:
        values = (place + 0.5, 0.5, 1.0, 1.0) if centred else (0.0, place, 1.0, place + 1.0)
        return [Number(value, tally) for value in values]

    boxes = [corners(unit_box(place), centred) for place in layout]
    kept: list[int] = []
    for _ in range(classes):
        scores = [(Number(order[index], tally), index) for index in range(len(layout))]
        candidates = [pair for pair in scores if not scored or pair[0] > -1.0]
        selected: list[int] = []
        # The higher score stands first; equal ones do not occur.
        for _score, index in merge_sorted(candidates, lambda a, b: a[0] > b[0]):
            if len(selected) >= limit:
                break
            if not any(overlap(boxes[index], boxes[other]) > 0.5 for other in selected):
                selected.append(index)
        kept.append(len(selected))
    return tally, kept


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize(("boxes", "limit"), [(1, 5), (2, 2), (3, 3), (4, 100), (5, 3), (5, 1)])
def test_non_max_suppression_bound(boxes: int, limit: int, centred: bool, scored: bool) -> None:
    classes, worst = 2, Counter[str]()
    # The boxes of highest score are disjoint. Where the limit binds, those from rank limit - 2 on lie on one another:
    # one of them is kept, the others meet all that are kept, and the limit is never reached.
    last = boxes - 1 if limit >= boxes else max(limit - 2, 0)
    for order in itertools.permutations(range(boxes)):
        layout = [10.0 * min(boxes - 1 - score, last) for score in order]
        tally, kept = greedy(layout, order, classes, limit, centred, scored)
        assert kept == [last + 1] * classes
        worst |= tally
    inputs = [(1, boxes, 4), (1, classes, boxes), np.int64(limit), (), () if scored else None]
    counts = count(operator("NonMaxSuppression", inputs, [(0, 3)], center_point_box=int(centred)))
    assert counts.basic_operations() == as_basic_operations(worst)


def test_non_max_suppression_without_a_known_limit_takes_all_pairs() -> None:
    inputs: list[Any] = [(2, 6, 4), (2, 3, 6), Tensor("limit", DType.INT64, ()), None, None]
    unknown = count(operator("NonMaxSuppression", inputs, [(0, 3)]))
    known = count(operator("NonMaxSuppression", [*inputs[:2], np.int64(6)], [(0, 3)]))
    # 6 batch-class pairs of 15 pairs of boxes, one division each.
    assert unknown == known and unknown.basic_operations()["div"] == 2 * 3 * 15


@pytest.mark.parametrize("limit", [None, np.int64(0)])
def test_non_max_suppression_that_selects_nothing(limit: Any) -> None:
    assert count(operator("NonMaxSuppression", [(1, 6, 4), (1, 1, 6), limit], [(0, 3)])) == Counts()


def test_non_max_suppression_of_no_boxes_costs_nothing() -> None:
    assert count(operator("NonMaxSuppression", [(1, 0, 4), (1, 2, 0), np.int64(5), (), ()], [(0, 3)])) == Counts()


def test_indexing_by_hand() -> None:
    assert count(operator("NonZero", [(2, 3)], [(2, 6)])) == Counts.of(DType.FLOAT, compare=6)
    assert count(operator("Unique", [(5,)], [(5,)])) == Counts.of(DType.FLOAT, compare=12)
    op = operator("NonMaxSuppression", [(1, 3, 4), (1, 1, 3), np.int64(3)], [(3, 3)])
    assert count(op) == Counts.of(DType.FLOAT, compare=30, sub=15, mul=6, add=3, div=3)


VOCABULARY = {
    "ngram_counts": [0, 4],
    "ngram_indexes": [0, 1, 2, 3, 4, 5, 6],
    "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
}


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(("shape", "lengths", "skips"), [((12,), (2, 2), 0), ((2, 6), (1, 2), 3), ((1, 1), (1, 2), 5)])
def test_tfidf_vectorizer_bound(mode: str, shape: tuple[int, ...], lengths: tuple[int, int], skips: int) -> None:
    attributes = {
        **VOCABULARY,
        "mode": mode,
        "min_gram_length": lengths[0],
        "max_gram_length": lengths[1],
        "max_skip_count": skips,
        "weights": [0.5] * 7,
    }
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], **attributes)
    info = [helper.make_tensor_value_info("x", onnx.TensorProto.INT64, shape)]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "g", info, [result]), opset_imports=[helper.make_opsetid("", 9)]
    )
    (expected,) = ReferenceEvaluator(model).run(None, {"x": np.full(shape, 5, dtype=np.int64)})
    tally: Counter[str] = Counter()
    one = Number(1.0, tally)
    for _row in range(shape[0] if len(shape) == 2 else 1):
        tokens = list(range(shape[-1]))
        grams = {
            (start, *(start + step * (skip + 1) for step in range(1, length)))
            for length in range(lengths[0], lengths[1] + 1)
            for skip in range(skips + 1)
            for start in tokens
            if start + (length - 1) * (skip + 1) < len(tokens)
        }
        _ = [one + 1.0 for _ in grams]
        if mode != "TF":
            _ = [one * 0.5 for _ in range(expected.shape[-1])]
        if mode == "IDF":
            _ = [one > 1.0 for _ in range(expected.shape[-1])]
    counts = count(operator("TfIdfVectorizer", [shape], [expected], **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_tfidf_vectorizer_by_hand() -> None:
    lengths = {"min_gram_length": 2, "max_gram_length": 2, "max_skip_count": 0}
    plain = operator("TfIdfVectorizer", [(12,)], [(7,)], mode="TF", **lengths)
    assert count(plain) == Counts.of(DType.FLOAT, add=11)
    weighted = operator("TfIdfVectorizer", [(12,)], [(7,)], mode="TFIDF", weights=(0.5,) * 7, **lengths)
    assert count(weighted) == Counts.of(DType.FLOAT, add=11, mul=7)
