"""Rules of products in 8-bit floats and of weights in few bits against products of self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import as_basic_operations, numbers
from products import MICROSOFT, check, counted, gelu, tensor


@pytest.mark.parametrize("bias", [False, True])
def test_matmul_nbits_equals_dequantised_numpy(bias: bool) -> None:
    tally: Counter[str] = Counter()
    rows, length, columns, block = (2, 3), 32, 4, 16
    a, b = numbers((*rows, length), tally), numbers((length, columns), tally)
    scale, point = numbers((length // block, columns), tally), numbers((length // block, columns), tally)
    b = (b - point.repeat(block, axis=0)) * scale.repeat(block, axis=0)
    result = np.matmul(a, b)
    if bias:
        result = result + numbers((columns,), tally)
    packed = (columns, length // block, block // 2)
    shapes = [(*rows, length), packed, (columns, 2), (columns, 1), None, (columns,) if bias else None]
    counts = counted("MatMulNBits", shapes, (*rows, columns), "com.microsoft", K=length, N=columns, block_size=block)
    check(counts, tally, 6 * 32 * 4)


def test_matmul_nbits_by_hand() -> None:
    shapes = [(2, 32), (3, 2, 8), (3, 2)]
    counts = counted("MatMulNBits", shapes, (2, 3), "com.microsoft", K=32, N=3, block_size=16, bits=4)
    assert counts == Counts.of(DType.FLOAT, sub=96, mul=288, add=186, macs=192)


def gemm_float8(inputs: list[Any], output: tuple[int, ...], **attributes: Any) -> Counts:
    rule = find_rule("GemmFloat8", MICROSOFT, 1)
    assert rule is not None and rule.function is not None
    operands = tuple(tensor(shape, DType.FLOAT8E4M3FN) for shape in inputs[:2])
    rest = tuple(item if isinstance(item, Tensor) else tensor(item) for item in inputs[2:])
    return rule.function(Operator("n", "GemmFloat8", MICROSOFT, 1, (*operands, *rest), (tensor(output),), attributes))


@pytest.mark.parametrize("activation", ["NONE", "RELU", "GELU"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1.0, 0.5])
def test_gemm_float8_equals_numpy(activation: str, scaled: bool, beta: float) -> None:
    narrow: Counter[str] = Counter()
    wide: Counter[str] = Counter()
    np.matmul(numbers((2, 3), narrow), numbers((3, 4), narrow))
    result = numbers((2, 4), wide)
    result = result * 0.5 if scaled else result
    if beta:
        summand = numbers((4,), wide)
        result = result + (summand * beta if beta != 1.0 else summand)
    for value in result.flat:
        if activation == "RELU":
            assert value > -1e9
        value = gelu(value) if activation == "GELU" else value
        if scaled:
            value * 2
    scale = (1,) if scaled else None
    attributes = {"transB": 1, "activation": activation, "beta": beta}
    counts = gemm_float8([(2, 3), (4, 3), (4,), scale, scale, scale], (2, 4), **attributes)
    assert counts.of_dtype(DType.FLOAT8E4M3FN).basic_operations() == as_basic_operations(narrow)
    assert counts.of_dtype(DType.FLOAT).basic_operations() == as_basic_operations(wide)
    assert counts.macs == 24


def test_gemm_float8_by_hand_and_known_scales() -> None:
    product = Counts.of(DType.FLOAT8E4M3FN, add=16, mul=24, macs=24)
    assert gemm_float8([(2, 3), (3, 4), None, (1,), (1,)], (2, 4)) == product + Counts.of(DType.FLOAT, mul=8)
    one = tensor((1,), value=[1.0])
    assert gemm_float8([(2, 3), (3, 4), None, one, one, one], (2, 4)) == product
    with pytest.raises(ShapeError, match="'TANH'"):
        gemm_float8([(2, 3), (3, 4)], (2, 4), activation="tanh")


def unpacked(tally: Counter[str], length: int, columns: int, *, centred: bool) -> Any:
    weight = numbers((length, columns), tally)
    return (weight - 8 if centred else weight) * 0.5


@pytest.mark.parametrize("op_type", ["MatMulBnb4", "MatMulFpQ4"])
def test_matmul_four_bits_equals_dequantised_numpy(op_type: str) -> None:
    tally: Counter[str] = Counter()
    np.matmul(numbers((2, 3, 6), tally), unpacked(tally, 6, 4, centred=op_type == "MatMulFpQ4"))
    counts = counted(op_type, [(2, 3, 6), (12,), (2,)], (2, 3, 4), MICROSOFT, K=6, N=4, block_size=16)
    check(counts, tally, 6 * 6 * 4)


def test_matmul_four_bits_by_hand() -> None:
    expected = Counts.of(DType.FLOAT, mul=288, add=186, macs=192)
    assert counted("MatMulBnb4", [(2, 32), (48,), (6,)], (2, 3), MICROSOFT, K=32, N=3) == expected
    integers = counted("MatMulFpQ4", [(2, 32), (60,), (2,)], (2, 3), MICROSOFT)
    assert integers == expected + Counts.of(DType.FLOAT, sub=96)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["fp8", "fp8, quantised input", "fp4"])
def test_matmul_block_floats_equals_dequantised_numpy(form: str, bias: bool) -> None:
    tally: Counter[str] = Counter()
    a = numbers((2, 6), tally)
    a = a / 2 * 2 if form.endswith("input") else a
    if form == "fp4":
        numbers((4, 3), tally) * 2  # both scales
    result = np.matmul(a, unpacked(tally, 6, 4, centred=False))
    result + numbers((4,), tally) if bias else result
    last = (4,) if bias else None
    if form == "fp4":
        counts = counted(
            "MatMulBlockQuantizedFp4Weight", [(2, 6), (4, 3), (4, 3), (), None, last], (2, 4), MICROSOFT, block_size=2
        )
    else:
        scale = () if form.endswith("input") else None
        shapes = [(2, 6), (4, 6), (4, 1), scale, last]
        counts = counted("MatMulBlockQuantizedFp8Weight", shapes, (2, 4), MICROSOFT)
    check(counts, tally, 48)


def test_matmul_block_floats_by_hand() -> None:
    counts = counted("MatMulBlockQuantizedFp8Weight", [(2, 32), (3, 32), (3, 1)], (2, 3), MICROSOFT)
    assert counts == Counts.of(DType.FLOAT, mul=288, add=186, macs=192)


@pytest.mark.parametrize("norm", ["", "norm", "skip"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["relu", "silu", "gelu", "qkv"])
def test_fused_matmul_nbits_equals_its_parts(form: str, bias: bool, norm: str) -> None:
    tally: Counter[str] = Counter()
    x = numbers((2, 6), tally)
    if norm:
        x = x + numbers((2, 6), tally) if norm == "skip" else x
        for line in x:
            line / (np.add.reduce(line * line) / 6 + 1e-5).sqrt() * numbers((6,), tally)
    widths = (4, 2, 2) if form == "qkv" else (3, 3)
    products = [np.matmul(x, unpacked(tally, 6, width, centred=True)) for width in widths]
    if bias:
        products = [product + numbers((product.shape[1],), tally) for product in products]
    if form != "qkv":
        for gate, up in zip(products[0].flat, products[1].flat, strict=True):
            if form == "relu":
                assert gate > -1e9
            else:
                gate = gelu(gate) if form == "gelu" else gate * (1 / (1 + (-gate).exp()))
            gate * up
    shapes: list[Any] = [(2, 6), (2, 6) if norm == "skip" else None, (6,) if norm else None]
    for width in widths:
        shapes += [(width, 1, 3), (width, 1), (width,) if bias else None]
    if form == "qkv":
        counts = counted("MatMulNBitsQkv", shapes, (2, 4), MICROSOFT, K=6, Nq=4, Nkv=2, block_size=32)
    else:
        counts = counted("MatMulNBitsMlp", shapes, (2, 3), MICROSOFT, K=6, N=3, activation=form, block_size=32)
    check(counts, tally, 2 * 6 * sum(widths))


def test_fused_matmul_nbits_by_hand() -> None:
    shapes = [(1, 32), None, None, (2, 1, 16), (2, 1), None, (1, 1, 16), (1, 1), None, (1, 1, 16), (1, 1), None]
    counts = counted("MatMulNBitsQkv", shapes, (1, 2), MICROSOFT, K=32, Nq=2, Nkv=1, block_size=32)
    assert counts == Counts.of(DType.FLOAT, add=124, sub=128, mul=256, macs=128)
    with pytest.raises(ShapeError, match="'tanh'"):
        counted("MatMulNBitsMlp", [(1, 32)], (1, 2), MICROSOFT, K=32, N=2, activation="tanh")
