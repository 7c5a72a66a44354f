"""Movement, sequences, scattering and dropout."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import OPSET, count, operator
from oracle import Number, as_basic_operations, numbers

VIEWS = (
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "BitCast", "Shape", "Size", "If", "Loop", "Scan"),
    *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceConstruct", "SequenceEmpty", "SequenceErase"),
    *("SequenceInsert", "SequenceLength", "Constant"),
)
COPIES = (
    *("Transpose", "Concat", "Split", "Expand", "Tile", "Pad", "Cast", "CastLike", "SpaceToDepth", "DepthToSpace"),
    *("ReverseSequence", "Trilu", "OneHot", "ConcatFromSequence", "SplitToSequence", "TensorScatter"),
    *("Scatter", "CenterCropPad", "ConstantOfShape", "StringConcat", "StringNormalizer", "StringSplit"),
    "RegexFullMatch",
)
SELECTIONS = ("Gather", "GatherElements", "GatherND", "Slice", "Compress", "SequenceAt")


@pytest.mark.parametrize(
    ("op_type", "traffic"),
    [
        *((name, "view") for name in VIEWS),
        *((name, "whole") for name in COPIES),
        *((name, "selected") for name in SELECTIONS),
        ("EyeLike", "generated"),
    ],
)
def test_movement_costs_bytes_only(op_type: str, traffic: str) -> None:
    rule = find_rule(op_type, "", OPSET)
    assert rule is not None and rule.function is None
    assert (rule.family, rule.traffic) == ("movement", traffic)


@pytest.mark.parametrize(
    ("op_type", "domain", "traffic"),
    [
        ("MemcpyFromHost", "", "whole"),
        ("MemcpyToHost", "", "whole"),
        ("ExpandDims", "com.microsoft", "view"),
        ("UnfoldTensor", "com.microsoft", "whole"),
        ("GatherND", "com.microsoft", "selected"),
        ("ReorderInput", "com.microsoft.nchwc", "whole"),
        ("ReorderOutput", "com.microsoft.nchwc", "whole"),
        ("ArrayFeatureExtractor", "ai.onnx.ml", "selected"),
        ("LabelEncoder", "ai.onnx.ml", "whole"),
        ("ZipMap", "ai.onnx.ml", "whole"),
    ],
)
def test_movement_of_other_domains(op_type: str, domain: str, traffic: str) -> None:
    rule = find_rule(op_type, domain, 1)
    assert rule is not None and rule.function is None and rule.traffic == traffic


def reduce_into(target: np.ndarray, place: Any, update: Number, reduction: str) -> None:
    """One update as the definition has it, on self-tallying numbers."""
    old = target[place]
    operations = {
        "none": lambda: update,
        "add": lambda: old + update,
        "mul": lambda: old * update,
        "max": lambda: max(old, update),
        "min": lambda: min(old, update),
    }
    target[place] = operations[reduction]()


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize(("shape", "updates", "axis"), [((3, 3), (2, 3), 0), ((4, 5), (4, 2), 1), ((2, 3), (0, 3), 0)])
def test_scatter_elements(reduction: str, shape: tuple[int, int], updates: tuple[int, int], axis: int) -> None:
    tally: Counter[str] = Counter()
    data, new = numbers(shape, tally), numbers(updates, tally, seed=1)
    indices = np.random.default_rng(2).integers(0, shape[axis], updates)
    for place in np.ndindex(*updates):
        at = list(place)
        at[axis] = indices[place]
        reduce_into(data, tuple(at), new[place], reduction)
    counts = count(operator("ScatterElements", [shape, indices, updates], [shape], axis=axis, reduction=reduction))
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 0


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize(
    ("shape", "indices"), [((4, 4, 4), [[0], [0]]), ((5, 3), [[1, 2], [0, 1], [4, 0]]), ((6,), [[1], [1], [5], [2]])]
)
def test_scatter_nd(reduction: str, shape: tuple[int, ...], indices: list[list[int]]) -> None:
    tally: Counter[str] = Counter()
    data = numbers(shape, tally)
    updates = (len(indices), *shape[len(indices[0]) :])
    new = numbers(updates, tally, seed=1)
    for row, index in enumerate(indices):
        for rest in np.ndindex(*updates[1:]):
            reduce_into(data, (*index, *rest), new[(row, *rest)], reduction)
    counts = count(operator("ScatterND", [shape, np.array(indices), updates], [shape], reduction=reduction))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("reduction", ["add", "mul"])
def test_scatter_of_complex_numbers_is_priced_by_their_parts(reduction: str) -> None:
    tally: Counter[str] = Counter()
    for (a, b), (c, d) in zip(numbers((5, 2), tally), numbers((5, 2), tally, seed=1), strict=True):
        _ = (a + c, b + d) if reduction == "add" else (a * c - b * d, a * d + b * c)
    complex_data = Tensor("x", DType.COMPLEX128, (5,))
    op = operator("ScatterElements", [complex_data, np.arange(5), complex_data], [complex_data], reduction=reduction)
    counts = count(op)
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.dtypes == (DType.DOUBLE,)


def test_scatter_by_hand() -> None:
    assert count(operator("ScatterElements", [(3, 3), (2, 3), (2, 3)], [(3, 3)], reduction="add")) == Counts.of(
        DType.FLOAT, add=6
    )
    nd = operator("ScatterND", [(4, 4, 4), (2, 1), (2, 4, 4)], [(4, 4, 4)], reduction="mul", dtype=DType.FLOAT16)
    assert count(nd) == Counts.of(DType.FLOAT16, mul=32)


def dropped(shape: tuple[int, ...], ratio: float, tally: Counter[str]) -> None:
    """Training: compare a draw with the ratio, scale the element, keep or drop it."""
    for draw, element in zip(numbers(shape, tally).flat, numbers(shape, tally, seed=1).flat, strict=True):
        scaled = element * (1.0 / (1.0 - ratio))
        _ = scaled if draw >= ratio else 0.0


@pytest.mark.parametrize("shape", [(2, 3), (1,), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("version", [6, 12, 22])
def test_dropout_in_training(shape: tuple[int, ...], version: int) -> None:
    tally: Counter[str] = Counter()
    dropped(shape, 0.25, tally)
    if version < 7:
        op = operator("Dropout", [shape], [shape], version=version, ratio=0.25)
    else:
        op = operator("Dropout", [shape, np.float32(0.25), np.bool_(True)], [shape], version=version)
    assert count(op).basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(
    "op",
    [
        operator("Dropout", [(2, 3)], [(2, 3)], version=6, is_test=1),
        operator("Dropout", [(2, 3)], [(2, 3)], version=6, ratio=0.0),
        operator("Dropout", [(2, 3)], [(2, 3)], version=7),
        operator("Dropout", [(2, 3)], [(2, 3)], version=10),
        operator("Dropout", [(2, 3)], [(2, 3)]),
        operator("Dropout", [(2, 3), np.float32(0.5)], [(2, 3)]),
        operator("Dropout", [(2, 3), np.float32(0.5), np.bool_(False)], [(2, 3)]),
        operator("Dropout", [(2, 3), np.float32(0.0), np.bool_(True)], [(2, 3)]),
    ],
)
def test_dropout_that_passes_its_input_on(op: Any) -> None:
    assert count(op) == Counts()


def test_dropout_by_hand() -> None:
    expected = Counts.of(DType.FLOAT, mul=6, compare=6)
    unknown = Tensor("training_mode", DType.BOOL, ())
    for ratio, training in itertools.product(
        [None, np.float32(0.5), Tensor("r", DType.FLOAT, ())], [np.True_, unknown]
    ):
        assert count(operator("Dropout", [(2, 3), ratio, training], [(2, 3)])) == expected
