"""Transistor operations: the published table, the formulas recomputed, and one layer by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_aiwq.errors import UnsupportedOperatorError
from onnx_aiwq.transistors import (
    by_dtype,
    transistor_operations,
    transistor_table,
    transistors_per_mac,
    transistors_per_operation,
)
from onnx_aiwq.vocabulary import BasicOp, Counts, DType

# (significand bits, exponent bits, storage bits) of every float, from the format definitions; 0 exponent bits: integer.
FORMATS = {
    DType.DOUBLE: (53, 11, 64),
    DType.FLOAT: (24, 8, 32),
    DType.FLOAT16: (11, 5, 16),
    DType.BFLOAT16: (8, 8, 16),
    DType.FLOAT8E4M3FN: (4, 4, 8),
    DType.FLOAT8E4M3FNUZ: (4, 4, 8),
    DType.FLOAT8E5M2: (3, 5, 8),
    DType.FLOAT8E5M2FNUZ: (3, 5, 8),
    DType.FLOAT8E8M0: (1, 8, 8),
    DType.FLOAT6E2M3: (4, 2, 6),
    DType.FLOAT6E3M2: (3, 3, 6),
    DType.FLOAT4E2M1: (2, 2, 4),
    **dict.fromkeys((DType.INT64, DType.UINT64), (64, 0, 64)),
    **dict.fromkeys((DType.INT32, DType.UINT32), (32, 0, 32)),
    **dict.fromkeys((DType.INT16, DType.UINT16), (16, 0, 16)),
    **dict.fromkeys((DType.INT8, DType.UINT8), (8, 0, 8)),
    **dict.fromkeys((DType.INT4, DType.UINT4), (4, 0, 4)),
    **dict.fromkeys((DType.INT2, DType.UINT2), (2, 0, 2)),
}

# add, sub, mul, div, root, compare: the constants derived from the TO paper. TF32 is no ONNX type and is left out.
GOLDEN = {
    DType.DOUBLE: (526, 526, 61831, 75547, 991400, 636),
    DType.FLOAT: (236, 236, 12736, 15549, 153540, 316),
    DType.BFLOAT16: (76, 76, 1486, 1799, 6020, 156),
    DType.FLOAT16: (106, 106, 2709, 3300, 21884, 156),
    DType.FLOAT8E4M3FN: (36, 36, 392, 470, 1604, 76),
    DType.FLOAT8E5M2: (26, 26, 248, 292, 1018, 76),
    DType.INT64: (636, 636, 90000, 110000, 1442544, 636),
    DType.INT32: (316, 316, 22500, 27500, 270948, 316),
    DType.INT16: (156, 156, 5625, 6875, 45312, 156),
    DType.INT8: (76, 76, 1406, 1719, 5700, 76),
    DType.INT4: (36, 36, 352, 430, 1444, 36),
    DType.BOOL: (10, 10, 4, 0, 0, 4),
}


TF32_GOLDEN = (106, 106, 2739, 3330, 22124, 186)  # no ONNX type; it checks the formulas below


def full_adders(bits: int) -> int:
    return 10 * (bits - 1) + 6 if bits else 0


def newton_steps(significand: int) -> int:
    steps = 1
    while 4 * 2**steps < significand:  # a seed of 4 bits; each step doubles them
        steps += 1
    return steps


def by_formula(significand: int, exponent: int, storage: int) -> tuple[int, ...]:
    of_exponent = full_adders(exponent) + 4 if exponent else 0
    add = full_adders(significand)
    mul = round(90_000 * significand**2 / 4096) + of_exponent
    div = round(110_000 * significand**2 / 4096) + of_exponent
    return add, add, mul, div, newton_steps(significand) * (4 * mul + add), full_adders(storage)


def row_of(dtype: DType) -> tuple[int, ...]:
    return tuple(transistors_per_operation(dtype, op) for op in BasicOp)


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: dtype.label)
def test_every_row_follows_the_formulas(dtype: DType) -> None:
    significand, exponent, storage = FORMATS[dtype]
    assert row_of(dtype) == by_formula(significand, exponent, storage)
    row = transistor_table()[dtype]
    assert (row.significand_bits, row.exponent_bits, row.width_bits) == FORMATS[dtype]
    assert row.newton_steps == newton_steps(significand)


def test_the_formulas_of_this_test_give_the_constant_that_has_no_onnx_type() -> None:
    assert by_formula(11, 8, 19) == TF32_GOLDEN


@pytest.mark.parametrize("dtype", GOLDEN, ids=lambda dtype: dtype.label)
def test_golden_rows(dtype: DType) -> None:
    assert row_of(dtype) == GOLDEN[dtype]


def test_every_type_that_arithmetic_can_have_has_a_row_with_a_source() -> None:
    without = {DType.UNDEFINED, DType.STRING, DType.COMPLEX64, DType.COMPLEX128}
    assert set(transistor_table()) == set(DType) - without
    for cost in transistor_table().values():
        assert "10.1109/TAI.2022.3229280" in cost.source
        assert "[D]" in cost.source


@pytest.mark.parametrize("dtype", [DType.STRING, DType.UNDEFINED, DType.COMPLEX64])
def test_type_without_a_row_is_an_error_that_names_it(dtype: DType) -> None:
    with pytest.raises(UnsupportedOperatorError, match=dtype.label):
        transistors_per_operation(dtype, BasicOp.ADD)
    with pytest.raises(UnsupportedOperatorError, match=dtype.label):
        transistor_operations(Counts.of(dtype, add=1))


def test_mac_of_float32_and_of_int8_with_int32_accumulators() -> None:
    assert transistors_per_mac(DType.FLOAT) == 12_972
    assert transistors_per_mac(DType.INT8) == 1_482
    assert transistors_per_mac(DType.INT8, DType.INT32) == 1_722


def test_fully_connected_layer_with_sigmoid_4_in_3_out_in_float32() -> None:
    # Eq. 4: [(I + 1) O, O, I O, O, O] = [15, 3, 12, 3, 3] of add, sub, mul, div, root.
    counts = Counts.of(DType.FLOAT, add=15, sub=3, mul=12, div=3, root=3)
    # 15 x 236 = 3,540; 3 x 236 = 708; 12 x 12,736 = 152,832; 3 x 15,549 = 46,647; 3 x 153,540 = 460,620.
    assert transistor_operations(counts) == 664_347


def test_by_dtype_splits_a_mixed_count() -> None:
    counts = Counts.of(DType.INT8, mul=10) + Counts.of(DType.INT32, add=9) + Counts.of(DType.FLOAT, compare=2)
    assert by_dtype(counts) == {DType.FLOAT: 632, DType.INT8: 14_060, DType.INT32: 2_844}
    assert transistor_operations(counts) == 632 + 14_060 + 2_844
    assert transistor_operations(Counts()) == 0


numbers = st.integers(min_value=0, max_value=10**18)


@given(add=numbers, mul=numbers, root=numbers, factor=st.integers(min_value=0, max_value=10**6))
def test_totals_are_exact_integers_and_scale(add: int, mul: int, root: int, factor: int) -> None:
    counts = Counts.of(DType.FLOAT, add=add, root=root) + Counts.of(DType.INT8, mul=mul)
    total = transistor_operations(counts)
    assert isinstance(total, int)
    assert transistor_operations(counts * factor) == total * factor
    assert sum(by_dtype(counts).values()) == total


def test_wider_types_of_a_kind_never_cost_less() -> None:
    for kinds in (
        (DType.INT2, DType.INT4, DType.INT8, DType.INT16, DType.INT32, DType.INT64),
        (DType.FLOAT16, DType.FLOAT, DType.DOUBLE),
    ):
        for op in BasicOp:
            prices = [transistors_per_operation(dtype, op) for dtype in kinds]
            assert prices == sorted(prices)
    assert math.isclose(transistors_per_mac(DType.DOUBLE) / transistors_per_mac(DType.FLOAT), 4.807, abs_tol=5e-4)
