"""Rules of signal processing against their definitions, term by term on self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

F32 = DType.FLOAT


def counted(
    op_type: str, inputs: list[Any], output: tuple[int, ...], version: int = 20, dtype: DType = F32, **a: Any
) -> Counts:
    """Inputs: None, a shape of `dtype`, or an int64 scalar that is known."""
    rule = find_rule(op_type, "", version)
    assert rule is not None and rule.function is not None
    tensors: list[Any] = []
    for item in inputs:
        if isinstance(item, int):
            tensors.append(Tensor("s", DType.INT64, (), np.asarray(item)))
        else:
            tensors.append(Tensor("t", dtype, item) if isinstance(item, tuple) else item)
    return rule.function(Operator("n", op_type, "", version, tuple(tensors), (Tensor("y", dtype, output),), a))


def reference_shape(op_type: str, inputs: list[Any], version: int, **attributes: Any) -> tuple[int, ...]:
    """The output shape that the ONNX reference implementation gives; inputs as in `counted`."""
    feeds = {
        f"i{k}": np.asarray(item) if isinstance(item, int) else np.ones(item, dtype=np.float32)
        for k, item in enumerate(inputs)
        if item is not None
    }
    names = [f"i{k}" if item is not None else "" for k, item in enumerate(inputs)]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(n, TensorProto.INT64 if v.dtype == np.int64 else TensorProto.FLOAT, v.shape)
        for n, v in feeds.items()
    ]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    return tuple(int(size) for size in ReferenceEvaluator(model).run(None, feeds)[0].shape)


def fourier(samples: list[list[Any]], bins: int, real_result: bool, scaled: bool) -> None:
    """Every bin of one transform: samples are [re] or [re, im]; products with constants, then sums."""
    for k in range(bins):
        parts: list[list[Any]] = [[], []]
        for n, sample in enumerate(samples):
            cos, sin = math.cos(k * n + 0.1), math.sin(k * n + 0.1)
            if len(sample) == 1:
                parts[0].append(sample[0] * cos)
                parts[1].append(sample[0] * sin)
            else:
                parts[0].append(sample[0] * cos - sample[1] * sin)
                if not real_result:
                    parts[1].append(sample[0] * sin + sample[1] * cos)
        for part in parts[: 1 if real_result else 2]:
            total = part[0]
            for term in part[1:]:
                total = total + term
            if scaled:
                total = total * 0.25


def transform(shape: tuple[int, ...], output: tuple[int, ...], axis: int, length: int, inverse: bool) -> Counter[str]:
    tally: Counter[str] = Counter()
    x = np.moveaxis(numbers(shape, tally), axis, -2)
    for line in x.reshape(-1, x.shape[-2], x.shape[-1]):
        samples = [list(sample) for sample in line][:length]
        samples += [[Number(0, tally) for _ in range(shape[-1])] for _ in range(length - len(samples))]
        fourier(samples, output[axis], output[-1] == 1, inverse and length > 1)
    return tally


@pytest.mark.parametrize("stated", [None, 3, 6])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), [((2, 4, 2), 1), ((2, 5, 1), 1), ((1, 3, 4, 2), 1), ((1, 3, 4, 1), 2)])
def test_twosided_transforms_equal_their_definition(shape: Any, axis: int, inverse: int, stated: Any) -> None:
    inputs = [shape, stated, axis]
    output = reference_shape("DFT", inputs, 20, inverse=inverse, onesided=0)
    length = shape[axis] if stated is None else stated
    tally = transform(shape, output, axis, length, bool(inverse))
    counts = counted("DFT", inputs, output, inverse=inverse, onesided=0)
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 0
    old = counted("DFT", [shape, stated], output, 17, inverse=inverse, onesided=0, axis=axis)
    assert old == counts


@pytest.mark.parametrize("stated", [None, 3, 6])
def test_onesided_transforms_equal_their_definition(stated: Any) -> None:
    shape = (2, 5, 1)
    output = reference_shape("DFT", [shape, stated], 20, inverse=0, onesided=1)
    tally = transform(shape, output, 1, stated or 5, False)
    counts = counted("DFT", [shape, stated], output, inverse=0, onesided=1)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("stated", [None, 5])
def test_onesided_inverse_transforms_give_real_signals(stated: Any) -> None:
    shape = (2, 4, 2)
    output = reference_shape("DFT", [shape, stated], 20, inverse=1, onesided=1)
    assert output[-1] == 1
    tally = transform(shape, output, 1, stated or 6, True)
    counts = counted("DFT", [shape, stated], output, inverse=1, onesided=1)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_dft_by_hand() -> None:
    assert counted("DFT", [(1, 4, 1)], (1, 3, 2), onesided=1) == Counts.of(F32, mul=24, add=18)
    double = counted("DFT", [(1, 4, 2)], (1, 4, 2), dtype=DType.DOUBLE)
    assert double == Counts.of(DType.DOUBLE, mul=64, sub=16, add=40)
    assert counted("DFT", [(3, 1, 1)], (3, 1, 2), inverse=1) == Counts.of(F32, mul=6)


def test_an_unknown_length_or_axis_is_refused() -> None:
    unknown = Tensor("length", DType.INT64, ())
    with pytest.raises(ShapeError, match="DFT length 'length' is not known"):
        counted("DFT", [(1, 4, 1), unknown], (1, 3, 2), onesided=1)
    with pytest.raises(ShapeError, match="axis"):
        counted("DFT", [(1, 4, 1), None, unknown], (1, 4, 2))


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("window", "length"), [((4,), 4), ((5,), None), (None, 6), (None, 3)])
def test_short_time_transforms_equal_their_frames(window: Any, length: Any, parts: int, onesided: int) -> None:
    if parts == 2:
        onesided = 0
    signal, step = (2, 9, parts), 2
    inputs = [signal, step, window, length]
    output = reference_shape("STFT", inputs, 17, onesided=onesided)
    tally: Counter[str] = Counter()
    x, size = numbers(signal, tally), length or window[0]
    for batch in range(2):
        for frame in range((9 - size) // step + 1):
            samples = x[batch, frame * step : frame * step + size]
            if window is not None:
                samples = samples * numbers((size, 1), tally)
            fourier([list(sample) for sample in samples], output[2], False, False)
    counts = counted("STFT", inputs, output, 17, onesided=onesided)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_a_window_of_ones_costs_nothing() -> None:
    ones = Tensor("w", F32, (4,), np.ones(4, np.float32))
    plain = counted("STFT", [(1, 8, 1), 2, None, 4], (1, 3, 3, 2), 17, onesided=1)
    assert counted("STFT", [(1, 8, 1), 2, ones, 4], (1, 3, 3, 2), 17, onesided=1) == plain


def test_one_frame_is_the_whole_signal_without_window_and_length() -> None:
    counts = counted("STFT", [(1, 8, 1), 2], (1, 1, 5, 2), 17, onesided=1)
    assert counts == Counts.of(F32, mul=80, add=70)


def test_stft_by_hand() -> None:
    counts = counted("STFT", [(1, 8, 1), 2, (4,), 4], (1, 3, 3, 2), 17, onesided=1)
    assert counts == Counts.of(F32, mul=84, add=54)


@pytest.mark.parametrize("size", [1, 8, 13])
@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize(
    ("op_type", "factors"),
    [("HannWindow", (0.5, 0.5, 0)), ("HammingWindow", (0.54, 0.46, 0)), ("BlackmanWindow", (0.42, 0.5, 0.08))],
)
def test_windows_equal_their_function_body(op_type: str, factors: Any, periodic: int, size: int) -> None:
    tally: Counter[str] = Counter()
    width = Number(size, tally)
    if not periodic:
        width = width - 1
    increment = 2 * math.pi / width
    for n in range(size):
        angle = increment * n
        value = factors[0] - angle.root(math.cos) * factors[1]
        if factors[2]:
            value = value + (angle * 2).root(math.cos) * factors[2]
    counts = counted(op_type, [size], (size,), 17, periodic=periodic, output_datatype=1)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_windows_by_hand() -> None:
    hann = Counts.of(F32, mul=16, root=8, sub=8, div=1)
    assert counted("HannWindow", [8], (8,), 17, periodic=1) == hann
    assert counted("HammingWindow", [8], (8,), 17, periodic=1) == hann
    blackman = Counts.of(F32, mul=32, root=16, sub=9, add=8, div=1)
    assert counted("BlackmanWindow", [8], (8,), 17, periodic=0) == blackman


@pytest.mark.parametrize(("filters", "length"), [(2, 4), (5, 16), (1, 2)])
def test_mel_matrix_equals_its_definition(filters: int, length: int) -> None:
    tally: Counter[str] = Counter()
    lower, upper = Number(10, tally), Number(4000, tally)
    low, high = ((edge / 700 + 1).root(math.log10) * 2595 for edge in (lower, upper))
    step = (high - low) / (filters + 2)
    scale = Number(length, tally) + 1
    centres = []
    for point in range(filters + 2):
        mel = step * point + low
        frequency = ((mel / 2595).root(lambda m: 10**m) - 1) * 700
        position = frequency * scale / 8000
        assert position >= math.floor(position.value)
        centres.append(position)
    for one, two, three in zip(centres, centres[1:], centres[2:], strict=False):
        rise, fall = two - one, three - two
        for bin_ in range(length // 2 + 1):
            left, right = (bin_ - one) / rise, (three - bin_) / fall
            smaller = left if left < right else right
            assert smaller > 0 or smaller.value <= 0
    counts = counted("MelWeightMatrix", [filters, length, 8000], (length // 2 + 1, filters), 17)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_mel_matrix_by_hand() -> None:
    counts = counted("MelWeightMatrix", [2, 4, 8000], (3, 2), 17)
    assert counts == Counts.of(F32, add=7, sub=21, mul=14, div=23, root=6, compare=16)


def real_transform(shape: tuple[int, ...], rank: int, inverse: bool) -> tuple[Counter[str], tuple[int, ...]]:
    """One dimension after the other by the definition; returns the tally and the shape of the spectrum."""
    tally: Counter[str] = Counter()
    half = shape[-1] // 2 + 1
    spectrum = (*shape[:-1], half, 2)
    lines = math.prod(shape[:-1])
    total = math.prod(shape[-rank:])
    for length in shape[-rank:-1]:
        for _ in range(math.prod(spectrum[:-1]) // length):
            fourier([list(numbers((2,), tally)) for _ in range(length)], length, False, False)
    for _ in range(lines):
        if inverse:
            fourier([list(numbers((2,), tally)) for _ in range(shape[-1])], shape[-1], True, total > 1)
        else:
            fourier([[number] for number in numbers((shape[-1],), tally)], half, False, False)
    return tally, spectrum


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("shape", "rank"), [((1, 4), 1), ((3, 2, 6), 1), ((2, 3, 4), 2), ((2, 3, 2), 3)])
def test_real_transforms_equal_their_definition(shape: tuple[int, ...], rank: int, inverse: bool) -> None:
    tally, spectrum = real_transform(shape, rank, inverse)
    counts = contrib_transform("Irfft" if inverse else "Rfft", shape, spectrum, rank)
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 0


def contrib_transform(op_type: str, signal: tuple[int, ...], spectrum: tuple[int, ...], rank: int) -> Counts:
    rule = find_rule(op_type, "com.microsoft", 1)
    assert rule is not None and rule.function is not None
    ends = [Tensor("signal", F32, signal), Tensor("spectrum", F32, spectrum)]
    first, last = reversed(ends) if op_type == "Irfft" else ends
    attributes = {"signal_ndim": rank, "onesided": 1, "normalized": 0}
    return rule.function(Operator("n", op_type, "com.microsoft", 1, (first,), (last,), attributes))


def test_real_transforms_by_hand() -> None:
    assert contrib_transform("Rfft", (1, 4), (1, 3, 2), 1) == Counts.of(F32, add=18, mul=24)
    assert contrib_transform("Irfft", (1, 4), (1, 3, 2), 1) == Counts.of(F32, add=12, sub=16, mul=36)
