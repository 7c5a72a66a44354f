"""Rules of quantisation and dequantisation against their formulas in self-tallying numbers."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_aiwq.vocabulary import Counts, DType
from quantised import (
    F16,
    F32,
    I8,
    MS,
    U8,
    UNKNOWN,
    Tallies,
    counted,
    dequantise,
    dynamically_quantise,
    known,
    quantise,
    tensor,
)

POINTS: list[Any] = [None, 0, 128, UNKNOWN, [0, 0], [0, 1]]


@pytest.mark.parametrize("scale", [1.0, 0.5, UNKNOWN])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("domain", ["", MS])
def test_quantize_and_dequantize_equal_their_formulas(scale: Any, point: Any, domain: str) -> None:
    shape = (3, 2)
    tallies = Tallies()
    quantise(tallies.of(F32, shape), scale, point)
    inputs = [tensor(shape, F32), known(scale, F32), known(point, U8)]
    tallies.check(counted("QuantizeLinear", inputs, tensor(shape, U8), domain))
    tallies = Tallies()
    dequantise(tallies.of(F32, shape), scale, point)
    inputs = [tensor(shape, U8), known(scale, F32), known(point, U8)]
    tallies.check(counted("DequantizeLinear", inputs, tensor(shape, F32), domain))


@pytest.mark.parametrize("saturate", [0, 1])
def test_float8_may_skip_saturation(saturate: int) -> None:
    tallies = Tallies()
    quantise(tallies.of(F32, (4,)), UNKNOWN, None, bool(saturate))
    inputs = [tensor((4,), F32), known(UNKNOWN, F32), None]
    tallies.check(counted("QuantizeLinear", inputs, tensor((4,), DType.FLOAT8E4M3FN), saturate=saturate))


def test_quantisation_is_priced_in_the_stated_precision() -> None:
    inputs = [tensor((2,), F32), known(UNKNOWN, F16), None]
    assert counted("QuantizeLinear", inputs, tensor((2,), I8)).dtypes == (F16,)
    assert counted("QuantizeLinear", inputs, tensor((2,), I8), precision=1).dtypes == (F32,)
    half = [tensor((2,), I8), known(UNKNOWN, F16), None]
    assert counted("DequantizeLinear", half, tensor((2,), F16)) == Counts.of(F16, mul=2)


def test_quantize_by_hand() -> None:
    inputs = [tensor((2, 3), F32), known(UNKNOWN, F32), known(0, I8)]
    assert counted("QuantizeLinear", inputs, tensor((2, 3), I8)) == Counts.of(F32, div=6, compare=18)
    inputs[2] = known(3, I8)
    assert counted("QuantizeLinear", inputs, tensor((2, 3), I8)) == Counts.of(F32, div=6, compare=18, add=6)


def test_dequantize_by_hand() -> None:
    inputs = [tensor((2, 3), U8), known(0.1, F32), known(128, U8)]
    assert counted("DequantizeLinear", inputs, tensor((2, 3), F32)) == Counts.of(F32, sub=6, mul=6)


@pytest.mark.parametrize("shape", [(1,), (10,), (2, 3, 4), ()])
def test_dynamic_quantization_equals_its_function_body(shape: tuple[int, ...]) -> None:
    tallies = Tallies()
    dynamically_quantise(tallies.of(F32, shape))
    tallies.check(counted("DynamicQuantizeLinear", [tensor(shape, F32)], tensor(shape, U8)))


def test_dynamic_quantization_by_hand() -> None:
    counts = counted("DynamicQuantizeLinear", [tensor((10,), F32)], tensor((10,), U8))
    assert counts == Counts.of(F32, add=10, sub=2, div=12, compare=53)


@pytest.mark.parametrize(
    ("dtype", "points", "centre"),
    [
        (U8, None, True),
        (DType.UINT4, None, False),
        (DType.UINT4, UNKNOWN, True),
        (U8, 0, False),
        (DType.FLOAT8E4M3FN, None, False),
    ],
)
def test_gather_block_quantized_equals_its_formula(dtype: DType, points: Any, centre: bool) -> None:
    tallies = Tallies()
    rows = tallies.of(F32, (2, 32))
    (rows - 8 if centre else rows) * 0.5
    inputs = [tensor((8, 16), dtype), tensor((2,), DType.INT64), tensor((8, 1), F32), known(points, dtype)]
    tallies.check(counted("GatherBlockQuantized", inputs, tensor((2, 32), F32), MS, block_size=32))


def test_gather_block_quantized_by_hand() -> None:
    inputs = [tensor((8, 16), U8), tensor((2,), DType.INT64), tensor((8, 1), F32)]
    counts = counted("GatherBlockQuantized", inputs, tensor((2, 32), F32), MS, bits=4, block_size=32)
    assert counts == Counts.of(F32, sub=64, mul=64)


@pytest.mark.parametrize("scale", [UNKNOWN, 0.5, 1.0])
def test_quantisation_with_order_equals_its_formulas(scale: Any) -> None:
    tallies = Tallies()
    quantise(tallies.of(F32, (2, 3)), scale, None)
    inputs = [tensor((2, 3), F32), known(scale, F32)]
    tallies.check(counted("QuantizeWithOrder", inputs, tensor((2, 3), I8), MS))
    tallies = Tallies()
    dequantise(tallies.of(F32, (2, 3)), scale, None)
    inputs = [tensor((2, 3), I8), known(scale, F32)]
    tallies.check(counted("DequantizeWithOrder", inputs, tensor((2, 3), F32), MS))


def test_quantisation_with_order_by_hand() -> None:
    scale = known(UNKNOWN, F32)
    there = counted("QuantizeWithOrder", [tensor((2, 3), F32), scale], tensor((2, 3), I8), MS)
    back = counted("DequantizeWithOrder", [tensor((2, 3), I8), scale], tensor((2, 3), F32), MS)
    assert (there, back) == (Counts.of(F32, div=6, compare=18), Counts.of(F32, mul=6))
