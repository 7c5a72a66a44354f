"""Rules of softmax and its relatives against lines of self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from oracle import as_basic_operations, numbers
from statistics_oracle import (
    MICROSOFT,
    NOTHING,
    basic,
    tensor,
    total,
)


def softmax_of(line: Any) -> Any:
    e = np.exp(line - np.maximum.reduce(line))
    return e / total(e)


def log_softmax_of(line: Any) -> Any:
    z = line - np.maximum.reduce(line)
    return z - total(np.exp(z)).log()


def hardmax_of(line: Any) -> None:
    np.maximum.reduce(line)


LINES = {"Softmax": softmax_of, "LogSoftmax": log_softmax_of, "Hardmax": hardmax_of}


@pytest.mark.parametrize("op_type", LINES)
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 5), 1), ((2, 3, 4), 1), ((2, 3, 4), -1), ((2, 3, 4), 0), ((7,), 0), ((3, 1), 1)]
)
def test_softmax_family(op_type: str, shape: tuple[int, ...], axis: int) -> None:
    tally: Counter[str] = Counter()
    x = numbers(shape, tally)
    for line in np.moveaxis(x, axis, -1).reshape(-1, shape[axis]):
        LINES[op_type](line)
    assert basic(op_type, tensor(*shape), version=13, axis=axis) == as_basic_operations(tally)
    tally.clear()
    for line in x.reshape(math.prod(shape[: axis % len(shape)]), -1):
        LINES[op_type](line)
    for version in (1, 11) if axis >= 0 else (11,):
        assert basic(op_type, tensor(*shape), version=version, axis=axis) == as_basic_operations(tally)


@pytest.mark.parametrize("op_type", LINES)
def test_softmax_family_at_its_limits(op_type: str) -> None:
    assert basic(op_type, tensor(0, 4)) == NOTHING
    assert basic(op_type, tensor(4, 0)) == NOTHING
    for axis in (1, -2):
        with pytest.raises(ShapeError, match="does not exist"):
            basic(op_type, tensor(4), axis=axis)


def test_softmax_family_by_hand() -> None:
    x = tensor(2, 5)
    softmax = NOTHING | {"compare": 8, "sub": 10, "root": 10, "add": 8, "div": 10}
    assert basic("Softmax", x) == softmax
    assert basic("LogSoftmax", x) == NOTHING | {"compare": 8, "sub": 20, "root": 12, "add": 8}
    assert basic("Hardmax", x) == NOTHING | {"compare": 8}
    fused = {"domain": MICROSOFT, "version": 1, "axis": 1, "is_inner_broadcast": 0}
    assert basic("BiasSoftmax", x, tensor(1, 5), **fused) == softmax | {"add": 18}
    # before opset 13 the default axis is 1 and everything behind it is one line
    assert basic("Softmax", tensor(2, 3, 4), version=11)["compare"] == 2 * 11
    assert basic("Softmax", tensor(2, 3, 4), version=13)["compare"] == 6 * 3


def test_bias_softmax_against_oracle() -> None:
    tally: Counter[str] = Counter()
    for line in (numbers((2, 3, 4), tally) + numbers((3, 4), tally)).reshape(2, 12):
        softmax_of(line)
    options = {"domain": MICROSOFT, "version": 1, "axis": 1, "is_inner_broadcast": 0}
    assert basic("BiasSoftmax", tensor(2, 3, 4), tensor(3, 4), **options) == as_basic_operations(tally)
