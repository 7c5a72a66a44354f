"""Operators that search: they compare elements to find positions."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import axis_index, dtype_of, known_scalar
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator


def _sorting(length: int) -> int:
    """Comparisons that sorting by merging takes at most: n ceil(log2 n) - 2^ceil(log2 n) + 1."""
    if length < 2:
        return 0
    levels = (length - 1).bit_length()
    return length * levels - (1 << levels) + 1


@rule("NonZero", family="indexing")
def non_zero(op: Operator) -> Counts:
    """The positions of the elements that are not zero.

    Equation:
        Y[:, j] is the index of the j-th element with X[i] != 0.
    Basic operations:
        1 compare per element of X. Complex elements have two parts: 2 compare.
    Not counted:
        Counting the finds and writing their indices, which is indexing.
    Example:
        X [2, 3]: 6 compare.
    Reference:
        ONNX operators: NonZero.
    """
    dtype, size = dtype_of(op.input(0), "X"), size_of(op.input(0), "X")
    real = {DType.COMPLEX64: DType.FLOAT, DType.COMPLEX128: DType.DOUBLE}.get(dtype, dtype)
    return Counts.of(real, compare=size * (2 if dtype.is_complex else 1))


@rule("Unique", family="indexing", bound=True)
@rule("Unique", family="indexing", domain="com.microsoft", bound=True)
def unique(op: Operator) -> Counts:
    """The distinct elements, or the distinct slices along an axis (upper bound).

    Equation:
        Y is X without repetitions: sort n elements (or n slices of k elements), keep those that differ from the one
        before.
    Basic operations:
        At most n L - 2^L + 1 comparisons to sort by merging, L = ceil(log2 n), and n - 1 of neighbours; each is k
        compare for slices of k elements (k = 1 without an axis). The same bound whether or not `sorted`.
    Not counted:
        Writing indices, inverse indices and counts, which is indexing.
    Example:
        X [5], no axis: L = 3, 5 * 3 - 8 + 1 = 8 to sort and 4 of neighbours: 12 compare.
    Reference:
        ONNX operators: Unique. Knuth, The Art of Computer Programming 3, 5.2.4, for the bound.
    """
    shape = shape_of(op.input(0), "X")
    axis = op.attributes.get("axis")
    length = math.prod(shape) if axis is None else shape[axis_index(axis, len(shape))]
    width = 1 if axis is None else math.prod(shape) // length if length else 0
    return Counts.of(dtype_of(op.input(0), "X"), compare=width * (_sorting(length) + max(length - 1, 0)))


def _pairs(boxes: int, limit: int | None) -> int:
    """Pairs of a candidate and a box selected before it, while fewer than `limit` boxes are selected."""
    selected = boxes - 1 if limit is None else min(boxes, limit) - 1
    if selected < 0:
        return 0
    return selected * (selected + 1) // 2 + (boxes - 1 - selected) * selected


@rule("NonMaxSuppression", family="indexing", bound=True)
def non_max_suppression(op: Operator) -> Counts:
    """Keep the boxes with the highest scores that do not overlap one another (upper bound).

    Equation:
        Per batch and class: sort the S boxes by score, keep a box if IoU(box, kept) <= iou_threshold for all boxes
        kept before it; IoU = I / (A1 + A2 - I), I = max(min(x2) - max(x1), 0) * max(min(y2) - max(y1), 0).
    Basic operations:
        Per box, once per batch, corner form: order both coordinates (2 compare), area (2 sub, 1 mul); centre form:
        corners (2 div, 2 sub, 2 add), area (1 mul). Per batch and class: 1 compare per box if there is a score
        threshold; S L - 2^L + 1 compare to sort, L = ceil(log2 S). Per pair of boxes I (6 compare, 2 sub, 1 mul), the
        union (1 add, 1 sub), 1 div, and 1 compare with the threshold. Upper bound of the pairs: all S (S - 1) / 2; with
        a known limit of m < S boxes per class no box meets more than m - 1 others. A limit of 0 selects nothing and
        costs nothing, as does an absent one.
    Not counted:
        Writing the selected indices.
    Example:
        boxes [1, 3, 4] in corner form, scores [1, 1, 3], limit 3, no score threshold: boxes 6 compare, 6 sub, 3 mul;
        sort 3 * 2 - 4 + 1 = 3 compare; 3 pairs 21 compare, 9 sub, 3 mul, 3 add, 3 div. In all 30 compare, 15 sub,
        6 mul, 3 add, 3 div.
    Reference:
        ONNX operators: NonMaxSuppression.
    """
    scores = shape_of(op.input(1), "scores")
    if len(scores) != 3:
        raise ShapeError(f"NonMaxSuppression needs scores of shape [batch, class, box], not {list(scores)}")
    batches, classes, boxes = scores
    known = known_scalar(op.input(2))
    limit = None if known is None else max(int(known), 0)
    if op.input(2) is None or limit == 0:
        return Counts()
    dtype = dtype_of(op.input(0), "boxes")
    if op.attributes.get("center_point_box", 0):
        prepare = Counts.of(dtype, div=2, sub=2, add=2, mul=1)
    else:
        prepare = Counts.of(dtype, compare=2, sub=2, mul=1)
    overlap = Counts.of(dtype, compare=7, sub=3, mul=1, add=1, div=1)
    threshold = 0 if op.input(4) is None else boxes
    per_class = Counts.of(dtype, compare=threshold + _sorting(boxes)) + overlap * _pairs(boxes, limit)
    return prepare * (batches * boxes) + per_class * (batches * classes)
