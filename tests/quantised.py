"""Quantisation and products of integers in self-tallying numbers, and operators to compare them with."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

UNKNOWN = "unknown"


F32, F16, I32, I8, U8 = DType.FLOAT, DType.FLOAT16, DType.INT32, DType.INT8, DType.UINT8


MS = "com.microsoft"


def tensor(shape: Any, dtype: DType) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape)


def known(value: Any, dtype: DType, constant: bool = True) -> Tensor | None:
    """A scale or zero point: None absent, UNKNOWN unknown, else a known number or list."""
    if value is None:
        return None
    if isinstance(value, str):
        return Tensor("q", dtype, (), constant=constant)
    array = np.asarray(value)
    return Tensor("q", dtype, array.shape, array, constant=True)


def counted(op_type: str, inputs: list[Tensor | None], output: Tensor | None, domain: str = "", **a: Any) -> Counts:
    rule = find_rule(op_type, domain, 21 if not domain else 1)
    assert rule is not None and rule.function is not None
    return rule.function(Operator("n", op_type, domain, 21, tuple(inputs), (output,), a))


class Tallies(defaultdict[DType, Counter[str]]):
    def __init__(self) -> None:
        super().__init__(Counter)

    def of(self, dtype: DType, shape: tuple[int, ...]) -> Any:
        return numbers(shape, self[dtype])

    def cast(self, array: Any, dtype: DType) -> Any:
        return np.frompyfunc(lambda x: Number(x.value, self[dtype]), 1, 1)(array)

    def check(self, counts: Counts, macs: int = 0) -> None:
        for dtype in set(self) | set(counts.dtypes):
            assert counts.of_dtype(dtype).basic_operations() == as_basic_operations(self[dtype]), dtype
        assert counts.macs == macs


def shifted(value: Any) -> bool:
    return value is not None and (isinstance(value, str) or bool(np.any(np.asarray(value))))


def round_shift_saturate(x: Any, point: Any, saturate: bool = True) -> None:
    for value in np.asarray(x, dtype=object).flat:
        assert value >= math.floor(value.value)
        whole = value + 3 if shifted(point) else value
        if saturate:
            assert whole >= -1000
            assert whole <= 1000


def quantise(x: Any, scale: Any, point: Any, saturate: bool = True) -> None:
    round_shift_saturate(x / 2 if scale != 1.0 else x, point, saturate)


def dequantise(x: Any, scale: Any, point: Any) -> Any:
    x = x - 3 if shifted(point) else x
    return x * 2 if scale != 1.0 else x


def centred(tallies: Tallies, x: Any, dtype: DType, point: Any) -> Any:
    if shifted(point):
        x = tallies.cast(x, I32) - 3
    return tallies.cast(x, dtype)


def dynamically_quantise(x: Any) -> None:
    """The function body of DynamicQuantizeLinear, statement by statement."""
    values = list(x.flat)
    low, high = values[0], values[0]
    for value in values[1:]:
        low = value if value < low else low
    for value in values[1:]:
        high = value if value > high else high
    low = low if low < 0 else Number(0, low.tally)
    high = high if high > 0 else Number(0, high.tally)
    scale = (high - low) / 255
    point = 0 - low / scale
    assert point >= 0
    assert point <= 255
    assert point >= math.floor(point.value)
    for value in values:
        whole = value / scale
        assert whole >= math.floor(whole.value)
        whole = whole + point
        assert whole >= 0
        assert whole <= 1000
