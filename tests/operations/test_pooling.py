"""Rules of pooling against window loops over self-tallying numbers; padding is made of zeros and compared or added."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers
from products import OPSET, counted, inferred

F32 = DType.FLOAT


def windows(x: Any, output: tuple[int, ...], **a: Any) -> list[list[Any]]:
    """The taps of every output element, padding (and what ceil_mode looks at beyond it) filled with zeros."""
    kernel = a["kernel_shape"]
    rank = len(kernel)
    pads, strides = a.get("pads", (0,) * 2 * rank), a.get("strides", (1,) * rank)
    dilations = a.get("dilations", (1,) * rank)
    taken = []
    for n, c, *out in np.ndindex(output):
        taps = []
        for tap in np.ndindex(*kernel):
            where = [o * s - p + t * d for o, s, p, t, d in zip(out, strides, pads, tap, dilations, strict=False)]
            inside = all(0 <= w < size for w, size in zip(where, x.shape[2:], strict=True))
            taps.append(x[(n, c, *where)] if inside else Number(0, x.flat[0].tally))
        taken.append(taps)
    return taken


def largest(taps: list[Any]) -> Any:
    best = taps[0]
    for tap in taps[1:]:
        best = tap if tap > best else best
    return best


def p_norm(taps: list[Any], p: int) -> Any:
    powers = []
    for tap in taps:
        if p % 2:
            tap = tap if tap >= 0 else Number(-tap.value, tap.tally)
        value = tap
        for bit in bin(p)[3:]:
            value = value * value
            value = value * tap if bit == "1" else value
        powers.append(value)
    total = np.add.reduce(powers)
    if p == 1:
        return total
    return total.sqrt() if p == 2 else (total.log() * (1 / p)).exp()


POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 2, 4, 4), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ((2, 3, 5, 4), {"kernel_shape": (3, 2), "pads": (1, 1, 1, 0)}),
    ((1, 2, 7, 7), {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1, "pads": (0, 1, 0, 1)}),
    ((1, 1, 6, 6), {"kernel_shape": (2, 3), "dilations": (2, 2)}),
    ((2, 2, 9), {"kernel_shape": (4,), "strides": (3,), "pads": (2, 1)}),
    ((1, 2, 3, 4, 3), {"kernel_shape": (2, 2, 2)}),
    ((1, 3, 4, 4), {"kernel_shape": (1, 1)}),
]


@pytest.mark.parametrize(("shape", "attributes"), POOLS)
def test_max_pool_equals_its_windows(shape: tuple[int, ...], attributes: Any) -> None:
    tally: Counter[str] = Counter()
    output = inferred("MaxPool", [shape], attributes)
    for taps in windows(numbers(shape, tally), output, **attributes):
        largest(taps)
    assert counted("MaxPool", [shape], output, **attributes).basic_operations() == as_basic_operations(tally)
    assert counted("NhwcMaxPool", [shape], output, "com.microsoft", **attributes).macs == 0


@pytest.mark.parametrize("count_include_pad", [0, 1])
@pytest.mark.parametrize(("shape", "attributes"), POOLS)
def test_average_pool_equals_its_windows(shape: tuple[int, ...], attributes: Any, count_include_pad: int) -> None:
    tally: Counter[str] = Counter()
    output = inferred("AveragePool", [shape], attributes)
    for taps in windows(numbers(shape, tally), output, **attributes):
        total = np.add.reduce(taps)
        if len(taps) > 1:
            total = total / len(taps)
    counts = counted("AveragePool", [shape], output, count_include_pad=count_include_pad, **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("shape", "attributes"), POOLS)
def test_lp_pool_equals_its_windows(shape: tuple[int, ...], attributes: Any, p: int) -> None:
    tally: Counter[str] = Counter()
    output = inferred("LpPool", [shape], attributes)
    for taps in windows(numbers(shape, tally), output, **attributes):
        p_norm(taps, p)
    counts = counted("LpPool", [shape], output, p=p, **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (3, 1, 5), (2, 2, 2, 3, 2), (2, 3, 1, 1)])
def test_global_pools_equal_their_channels(shape: tuple[int, ...]) -> None:
    output = shape[:2] + (1,) * (len(shape) - 2)
    for op_type, p in [("GlobalMaxPool", 0), ("GlobalAveragePool", 0), *(("GlobalLpPool", p) for p in (1, 2, 3))]:
        tally: Counter[str] = Counter()
        for channel in numbers(shape, tally).reshape(shape[0] * shape[1], -1):
            if op_type == "GlobalMaxPool":
                largest(list(channel))
            elif op_type == "GlobalLpPool":
                p_norm(list(channel), p)
            elif channel.size > 1:
                np.add.reduce(channel) / channel.size
            else:
                np.add.reduce(channel)
        assert inferred(op_type, [shape], {}) == output
        assert counted(op_type, [shape], output, p=p).basic_operations() == as_basic_operations(tally)


def test_max_pool_by_hand() -> None:
    attributes = {"kernel_shape": (2, 2), "strides": (2, 2)}
    assert counted("MaxPool", [(1, 2, 4, 4)], (1, 2, 2, 2), **attributes) == Counts.of(F32, compare=24)
    nhwc = counted("NhwcMaxPool", [(1, 4, 4, 2)], (1, 2, 2, 2), "com.microsoft", **attributes)
    assert nhwc == Counts.of(F32, compare=24)


def test_average_pool_by_hand() -> None:
    counts = counted("AveragePool", [(1, 2, 4, 4)], (1, 2, 2, 2), kernel_shape=(2, 2), strides=(2, 2))
    assert counts == Counts.of(F32, add=24, div=8)


def test_global_pools_by_hand() -> None:
    assert counted("GlobalMaxPool", [(1, 2, 4, 4)], (1, 2, 1, 1)) == Counts.of(F32, compare=30)
    assert counted("GlobalAveragePool", [(1, 2, 4, 4)], (1, 2, 1, 1)) == Counts.of(F32, add=30, div=2)
    counts = counted("GlobalLpPool", [(1, 2, 2, 2)], (1, 2, 1, 1), p=3)
    assert counts == Counts.of(F32, compare=8, mul=18, add=6, root=4)


def test_lp_pool_by_hand() -> None:
    counts = counted("LpPool", [(1, 2, 4, 4)], (1, 2, 2, 2), kernel_shape=(2, 2), strides=(2, 2), p=2)
    assert counts == Counts.of(F32, mul=32, add=24, root=8)


def test_empty_tensors_cost_nothing() -> None:
    assert counted("GlobalMaxPool", [(2, 3, 0, 4)], (2, 3, 1, 1)) == Counts()
    assert counted("AveragePool", [(0, 3, 4, 4)], (0, 3, 2, 2), kernel_shape=(2, 2)) == Counts()


def test_max_unpool_is_movement() -> None:
    rule = find_rule("MaxUnpool", "", OPSET)
    assert rule is not None and rule.function is None and rule.family == "movement"


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize(
    ("shape", "bins"), [((1, 3, 8, 8), (2, 2)), ((2, 1, 5, 7), (2, 3)), ((1, 2, 3, 3), (3, 3)), ((1, 1, 4, 1), (1, 1))]
)
def test_max_roi_pool_equals_bins_that_part_the_image(shape: Any, bins: Any, scale: float) -> None:
    tally: Counter[str] = Counter()
    x = numbers(shape, tally)
    for region in numbers((2, 4), tally):
        corners = [corner * scale if scale != 1.0 else corner for corner in region]
        assert all(corner >= math.floor(corner.value) for corner in corners)
        for low, high, number in [(corners[0], corners[2], bins[1]), (corners[1], corners[3], bins[0])]:
            size = high - low + 1
            size = size if size > 1 else Number(1, tally)
            assert (size / number).value > 0
        for channel in x[0]:
            rows = [k * shape[2] // bins[0] for k in range(bins[0] + 1)]
            columns = [k * shape[3] // bins[1] for k in range(bins[1] + 1)]
            for i, j in np.ndindex(*bins):
                largest(list(channel[rows[i] : rows[i + 1], columns[j] : columns[j + 1]].flat))
    counts = counted("MaxRoiPool", [shape, (2, 5)], (2, shape[1], *bins), pooled_shape=bins, spatial_scale=scale)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_max_roi_pool_by_hand() -> None:
    attributes = {"pooled_shape": (2, 2), "spatial_scale": 0.5}
    counts = counted("MaxRoiPool", [(1, 3, 8, 8), (2, 5)], (2, 3, 2, 2), **attributes)
    assert counts == Counts.of(F32, add=4, sub=4, mul=8, div=4, compare=372)


def roi_align_by_loops(x: Any, regions: int, bins: tuple[int, int], grid: tuple[int, int], **a: Any) -> None:
    """The reference algorithm for one image, on numbers that count; weights are shared by the channels."""
    tally = x.flat[0].tally
    half, scale = a["coordinate_transformation_mode"] == "half_pixel", a["spatial_scale"]
    for _ in range(regions):
        low, high = numbers((2,), tally), numbers((2,), tally, seed=1)
        if scale != 1.0:
            low, high = low * scale, high * scale
        if half:
            low, high = low - 0.5, high - 0.5
        sizes = high - low
        if not half:
            sizes = np.array([size if size > 1 else Number(1, tally) for size in sizes], dtype=object)
        steps = sizes / np.array(bins, dtype=object)
        for i, j in np.ndindex(*bins):
            corners = []
            for point in np.ndindex(*grid):
                fractions = []
                for axis, index in enumerate((i, j)):
                    position = low[axis] + steps[axis] * (index + (point[axis] + 0.5) / grid[axis])
                    position = position if position > 0 else Number(0, tally)
                    position = position if position < 1000 else Number(1000, tally)
                    assert position >= math.floor(position.value)
                    fraction = position - math.floor(position.value)
                    fractions.append((1 - fraction, fraction))
                corners += [one * other for one in fractions[0] for other in fractions[1]]
            for channel in x[0]:
                products = [corner * channel[0, 0] for corner in corners]
                if a["mode"] == "max":
                    largest(products)
                elif len(corners) > 4:
                    np.add.reduce(products) / (len(corners) // 4)
                else:
                    np.add.reduce(products)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize(("ratio", "grid"), [(1, (1, 1)), (2, (2, 2)), (0, (4, 3))])
def test_roi_align_equals_its_reference_loops(
    mode: str, transformation: str, scale: float, ratio: int, grid: tuple[int, int]
) -> None:
    tally: Counter[str] = Counter()
    attributes = {"mode": mode, "coordinate_transformation_mode": transformation, "spatial_scale": scale}
    shape, bins, regions = (1, 2, 8, 7), (2, 3), 2
    roi_align_by_loops(numbers(shape, tally), regions, bins, grid, **attributes)
    shapes = [shape, (regions, 4), (regions,)]
    counts = counted("RoiAlign", shapes, (regions, 2, *bins), sampling_ratio=ratio, **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_roi_align_by_hand() -> None:
    attributes = {"mode": "avg", "coordinate_transformation_mode": "half_pixel", "spatial_scale": 1.0}
    counts = counted("RoiAlign", [(1, 2, 8, 8), (1, 4), (1,)], (1, 2, 2, 2), sampling_ratio=1, **attributes)
    assert counts == Counts.of(F32, mul=56, add=32, sub=22, div=2, compare=24)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_blocked_pooling_counts_whole_blocks(op_type: str) -> None:
    attributes = {"kernel_shape": (2, 2), "strides": (2, 2)}
    plain = counted(op_type, [(1, 8, 4, 4)], (1, 8, 2, 2), **attributes)
    assert counted(op_type, [(1, 8, 4, 4)], (1, 8, 2, 2), "com.microsoft.nchwc", **attributes) == plain
    assert plain.basic_operations()["compare" if op_type == "MaxPool" else "add"] == 96


@pytest.mark.parametrize("op_type", ["GlobalMaxPool", "GlobalAveragePool"])
def test_blocked_global_pooling_counts_whole_blocks(op_type: str) -> None:
    plain = counted(op_type, [(1, 8, 4, 4)], (1, 8, 1, 1))
    assert counted(op_type, [(1, 8, 4, 4)], (1, 8, 1, 1), "com.microsoft.nchwc") == plain
    assert plain.basic_operations()["compare" if op_type == "GlobalMaxPool" else "add"] == 120


@pytest.mark.parametrize("kernel", [(2, 2), (1, 3), (1, 1)])
def test_max_pool_with_mask_equals_its_loop(kernel: tuple[int, int]) -> None:
    data: Counter[str] = Counter()
    mask: Counter[str] = Counter()
    output = (1, 2, 5 - kernel[0], 5 - kernel[1])
    for _ in np.ndindex(output):
        best = None
        for _ in np.ndindex(kernel):
            assert Number(1, mask) > 0  # not masked
            tap = Number(1, data)
            best = tap if best is None or tap > best else best
    inputs = (Tensor("x", F32, (1, 2, 4, 4)), Tensor("m", DType.INT32, (1, 2, 4, 4)))
    rule = find_rule("MaxpoolWithMask", "com.microsoft", 1)
    assert rule is not None and rule.function is not None
    attributes = {"kernel_shape": kernel}
    counts = rule.function(
        Operator("n", "MaxpoolWithMask", "com.microsoft", 1, inputs, (Tensor("y", F32, output),), attributes)
    )
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(data)
    assert counts.of_dtype(DType.INT32).basic_operations() == as_basic_operations(mask)


def test_max_pool_with_mask_by_hand() -> None:
    counts = counted(
        "MaxpoolWithMask", [(1, 2, 4, 4), (1, 2, 4, 4)], (1, 2, 2, 2), "com.microsoft", kernel_shape=(2, 2)
    )
    assert counts == Counts.of(F32, compare=32 + 24)
