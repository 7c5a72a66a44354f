"""Interpolation against loops over the taps of every output element, on self-tallying numbers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import count, operator
from oracle import Number, as_basic_operations, numbers


def run(op_type: str, inputs: list[np.ndarray | None], version: int, **attributes: Any) -> np.ndarray:
    """The result of one node by the reference implementation of onnx."""
    names = [f"i{index}" if array is not None else "" for index, array in enumerate(inputs)]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    given = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    info = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", info, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    output: np.ndarray = ReferenceEvaluator(model).run(None, given)[0]
    return output


def interpolated(source: np.ndarray, target: tuple[int, ...], reach: list[int], tally: Counter[str]) -> None:
    """A weighted sum of `reach` neighbours per dimension for every target element; a reach of 1 copies."""
    for place in np.ndindex(*target):
        starts = [
            at * size // new - taps // 2 for at, size, new, taps in zip(place, source.shape, target, reach, strict=True)
        ]
        terms = []
        for offsets in itertools.product(*(range(taps) for taps in reach)):
            at = tuple(
                min(max(start + offset, 0), size - 1)
                for start, offset, size in zip(starts, offsets, source.shape, strict=True)
            )
            terms.append(source[at])
        if len(terms) == 1:
            continue
        total = terms[0] * 0.25
        for term in terms[1:]:
            total = total + term * 0.25


def kernel_reach(mode: str, scale: float, antialias: bool) -> int:
    """Integers i at which a kernel of that support, stretched by 1 / scale and centred in (0, 1), is laid out."""
    half = {"linear": 1, "cubic": 2}[mode]
    stretch = min(scale, 1.0) if antialias else 1.0
    left = 0
    while (left - 1) * stretch > -half:
        left -= 1
    return 2 * (1 - left)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((1, 2, 2, 3), (1.0, 1.0, 2.0, 2.0)),
        ((1, 1, 4, 6), (1.0, 1.0, 0.5, 1.0)),
        ((1, 1, 5, 4), (1.0, 1.0, 0.625, 1.5)),
        ((2, 1, 6), (1.0, 1.0, 0.34)),
        ((1, 2, 3, 2, 2), (1.0, 1.0, 2.0, 1.0, 0.5)),
        ((1, 1, 3, 2), (1.0, 1.0, 1.25, 1.0)),
        ((2, 2), (1.0, 1.0)),
    ],
)
def test_resize_by_scales(mode: str, antialias: int, shape: tuple[int, ...], scales: tuple[float, ...]) -> None:
    tally: Counter[str] = Counter()
    data = np.ones(shape, np.float32)
    factors = np.array(scales, np.float32)
    attributes = {"mode": mode, "antialias": antialias if mode != "nearest" else 0}
    result = run("Resize", [data, None, factors], 18, **attributes)
    reach = [1 if mode == "nearest" or s == 1 else kernel_reach(mode, float(s), bool(antialias)) for s in factors]
    interpolated(numbers(shape, tally), result.shape, reach, tally)
    counts = count(operator("Resize", [shape, None, factors], [result.shape], version=18, **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("shape", "sizes", "axes", "policy"),
    [
        ((1, 1, 2, 4), (3, 3), (2, 3), "stretch"),
        ((1, 1, 6, 4), (3, 3), (2, 3), "not_larger"),
        ((1, 1, 6, 4), (3, 3), (3, 2), "not_smaller"),
        ((1, 2, 4, 4), (1, 2, 8, 4), None, "stretch"),
    ],
)
def test_resize_by_sizes(shape: tuple[int, ...], sizes: tuple[int, ...], axes: Any, policy: str, known: bool) -> None:
    tally: Counter[str] = Counter()
    attributes: dict[str, Any] = {"mode": "linear", "keep_aspect_ratio_policy": policy}
    if axes is not None:
        attributes["axes"] = axes
    wanted = np.array(sizes, np.int64)
    result = run("Resize", [np.ones(shape, np.float32), None, None, wanted], 19, **attributes)
    reach = [1 if old == new else 2 for old, new in zip(shape, result.shape, strict=True)]
    interpolated(numbers(shape, tally), result.shape, reach, tally)
    inputs: list[Any] = [shape, None, None, wanted if known else Tensor("sizes", DType.INT64, wanted.shape)]
    counts = count(operator("Resize", inputs, [result.shape], version=19, **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("roi", "resampled"),
    [
        (np.array([0, 0, 0.4, 0, 1, 1, 0.6, 1], np.float32), 1),
        (np.array([0, 0, 0.4, 0.6, 1, 1, 0.6, 0.8], np.float32), 2),
        (np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), 0),
        (Tensor("roi", DType.FLOAT, (8,)), 4),
    ],
)
def test_resize_of_a_region_resamples_what_it_crops(roi: Any, resampled: int) -> None:
    shape, sizes = (1, 1, 4, 4), np.array([1, 1, 4, 4], np.int64)
    mode = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    counts = count(operator("Resize", [shape, roi, None, sizes], [shape], version=19, **mode))
    tally: Counter[str] = Counter()
    interpolated(numbers(shape, tally), shape, [2] * resampled + [1] * (4 - resampled), tally)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("op_type", "version", "inputs", "attributes"),
    [
        ("Upsample", 1, [], {"height_scale": 2.0, "width_scale": 3.0, "mode": "bilinear"}),
        ("Upsample", 7, [], {"scales": (1.0, 1.0, 2.0, 3.0), "mode": "linear"}),
        ("Upsample", 9, [np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}),
        ("Resize", 10, [np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}),
        ("Resize", 11, [None, np.array([1, 1, 2, 3], np.float32)], {"mode": "linear"}),
    ],
)
def test_every_version_of_upsample_by_hand(op_type: str, version: int, inputs: list[Any], attributes: Any) -> None:
    # [1, 1, 2, 2] to [1, 1, 4, 6]: 24 elements, each 4 products and 3 sums.
    op = operator(op_type, [(1, 1, 2, 2), *inputs], [(1, 1, 4, 6)], version=version, **attributes)
    assert count(op) == Counts.of(DType.FLOAT, mul=96, add=72)
    nearest = {**attributes, "mode": "nearest"}
    op = operator(op_type, [(1, 1, 2, 2), *inputs], [(1, 1, 4, 6)], version=version, **nearest)
    assert count(op) == Counts()


def test_resize_by_hand() -> None:
    for mode, mul, add in (("linear", 64, 48), ("cubic", 256, 240), ("nearest", 0, 0)):
        counts = count(operator("Resize", [(1, 1, 2, 2)], [(1, 1, 4, 4)], mode=mode, dtype=DType.FLOAT16))
        assert counts == Counts.of(DType.FLOAT16, mul=mul, add=add)
    complex_counts = count(operator("Resize", [(2,)], [(4,)], mode="linear", dtype=DType.COMPLEX64))
    assert complex_counts == Counts.of(DType.FLOAT, mul=16, add=8)


def test_resize_of_an_empty_image_costs_nothing() -> None:
    assert count(operator("Resize", [(0, 1, 2, 2)], [(0, 1, 4, 4)], mode="linear")) == Counts()


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ShapeError, match="lanczos"):
        count(operator("Resize", [(1, 1, 2, 2)], [(1, 1, 4, 4)], mode="lanczos"))


def floor_of(x: Number) -> int:
    x.tally["compare"] += 1
    return math.floor(x.value)


def keys_weights(f: Number) -> list[Number]:
    """The four weights of cubic convolution (Keys, 1981), a = -0.75, in Horner form."""
    a = -0.75

    def far(t: Number) -> Number:
        return ((t * a - 5 * a) * t + 8 * a) * t - 4 * a

    def near(t: Number) -> Number:
        return (t * (a + 2) - (a + 3)) * t * t + 1.0

    return [far(f + 1.0), near(f), near(1.0 - f), far(2.0 - f)]


def sampled(image: np.ndarray, grid: np.ndarray, mode: str, align: bool) -> np.ndarray:
    """GridSample with zero padding."""
    (_, channels, *sizes), dimensions = image.shape, grid.shape[-1]
    output = np.empty((grid.shape[0], channels, *grid.shape[1:-1]), dtype=object)
    for point in np.ndindex(*grid.shape[:-1]):
        near: list[list[tuple[int, Any]]] = []
        # The last coordinate of the grid is that of the first dimension.
        for g, length in zip(grid[point][::-1], sizes, strict=True):
            x = (g + 1.0) * ((length - 1) / 2) if align else (g + 1.0) * (length / 2) - 0.5
            if mode == "nearest":
                near.append([(floor_of(Number(round(x.value), x.tally)), None)])
                continue
            base = floor_of(x)
            f = x - base
            if mode == "linear":
                near.append([(base, 1.0 - f), (base + 1, f)])
            else:
                near.append([(base + k - 1, weight) for k, weight in enumerate(keys_weights(f))])
        weights = {(): None}
        for pairs in near:
            weights = {
                (*key, place): weight if old is None else old * weight
                for (key, old), (place, weight) in itertools.product(weights.items(), pairs)
            }
        for channel in range(channels):
            terms = []
            for place, weight in weights.items():
                inside = all(0 <= at < size for at, size in zip(place, sizes, strict=True))
                pixel = image[(point[0], channel, *place)] if inside else 0.0
                terms.append(pixel if weight is None else weight * pixel)
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            output[(point[0], channel, *point[1:])] = total
    assert dimensions == len(sizes)
    return output


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    ("image", "grid"),
    [
        ((1, 3, 4, 4), (1, 2, 2, 2)),
        ((2, 1, 3, 5), (2, 3, 1, 2)),
        ((1, 2, 3, 2, 4), (1, 2, 1, 2, 3)),
        ((1, 2, 4), (1, 3, 1)),
    ],
)
def test_grid_sample(mode: str, align: int, image: tuple[int, ...], grid: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    pixels, points = numbers(image, tally), numbers(grid, tally, seed=3)
    for point in points.flat:
        point.value = 0.83 * (point.value * 2 - 2)
    result = sampled(pixels, points, mode, bool(align))
    value = np.vectorize(lambda number: getattr(number, "value", number), otypes=[np.float64])
    expected = run("GridSample", [value(pixels), value(points)], 20, mode=mode, align_corners=align)
    np.testing.assert_allclose(value(result), expected, rtol=1e-5, atol=1e-5)
    attributes = {"mode": mode, "align_corners": align}
    counts = count(operator("GridSample", [image, grid], [expected.shape], **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_grid_sample_by_hand() -> None:
    for version, mode, domain in ((16, "bilinear", ""), (22, "linear", ""), (1, "bilinear", "com.microsoft")):
        shapes: list[Any] = [(1, 3, 4, 4), (1, 2, 2, 2)]
        op = operator("GridSample", shapes, [(1, 3, 2, 2)], version=version, mode=mode, domain=domain)
        assert count(op) == Counts.of(DType.FLOAT, add=44, sub=24, mul=72, compare=8)


def test_grid_sample_prices_coordinates_in_the_type_of_the_grid() -> None:
    inputs = [Tensor("x", DType.UINT8, (1, 3, 4, 4)), Tensor("grid", DType.FLOAT, (1, 2, 2, 2))]
    counts = count(operator("GridSample", inputs, [(1, 3, 2, 2)], mode="linear"))
    assert counts.of_dtype(DType.UINT8).basic_operations() == as_basic_operations(Counter(mul=48, add=36))


@pytest.mark.parametrize("size", [(1, 1, 2, 3), (2, 3, 4, 1), (2, 1, 2, 3, 2), (0, 1, 2, 2)])
def test_affine_grid(size: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    batch, _, *places = size
    rank = len(places)
    theta = numbers((batch, rank, rank + 1), tally)
    for n, point, row in itertools.product(range(batch), np.ndindex(*places), range(rank)):
        total = theta[n, row, 0] * float(point[0])
        for column in range(1, rank):
            total = total + theta[n, row, column] * float(point[column])
        total = total + theta[n, row, rank]
    grid = (batch, *places, rank)
    if batch:
        plain = np.ones(theta.shape, np.float32)
        assert run("AffineGrid", [plain, np.array(size, np.int64)], 20).shape == grid
    counts = count(operator("AffineGrid", [theta.shape, np.array(size)], [grid]))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_affine_grid_by_hand() -> None:
    counts = count(operator("AffineGrid", [(1, 2, 3), np.array([1, 1, 2, 3])], [(1, 2, 3, 2)]))
    assert counts == Counts.of(DType.FLOAT, mul=24, add=24)


@pytest.mark.parametrize(
    ("image", "block", "attributes"),
    [
        ((5, 5), (1, 5), {}),
        ((5, 5), (3, 3), {}),
        ((5, 4), (2, 3), {"strides": (2, 1)}),
        ((6, 6), (2, 2), {"dilations": (1, 5)}),
        ((5, 5), (3, 2), {"pads": (1, 0, 1, 2)}),
        ((4, 5, 3), (1, 2, 2), {"pads": (0, 1, 0, 0, 1, 1), "strides": (1, 2, 1)}),
    ],
)
@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (2, 3)])
def test_col2im(image: tuple[int, ...], block: tuple[int, ...], attributes: Any, batch: int, channels: int) -> None:
    tally: Counter[str] = Counter()
    rank = len(image)
    strides = attributes.get("strides", (1,) * rank)
    dilations = attributes.get("dilations", (1,) * rank)
    pads = attributes.get("pads", (0,) * 2 * rank)
    windows: list[range] = []
    for axis in range(rank):
        end = image[axis] + pads[rank + axis] - dilations[axis] * (block[axis] - 1)
        windows.append(range(-pads[axis], end, strides[axis]))
    corners = list(itertools.product(*windows))
    columns = numbers((batch, channels * math.prod(block), len(corners)), tally)
    output: dict[Any, Number] = {}
    for n, c, (tap, offset), (at, corner) in itertools.product(
        range(batch), range(channels), enumerate(np.ndindex(*block)), enumerate(corners)
    ):
        place = tuple(corner[axis] + offset[axis] * dilations[axis] for axis in range(rank))
        if all(0 <= place[axis] < image[axis] for axis in range(rank)):
            element = columns[n, c * math.prod(block) + tap, at]
            key = (n, c, *place)
            output[key] = output[key] + element if key in output else element
    plain = np.vectorize(lambda number: number.value, otypes=[np.float32])(columns)
    shapes = [np.array(image, np.int64), np.array(block, np.int64)]
    expected = run("Col2Im", [plain, *shapes], 18, **attributes)
    for key, number in output.items():
        assert expected[key] == pytest.approx(number.value, rel=1e-5)
    counts = count(operator("Col2Im", [columns.shape, *shapes], [expected.shape], **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_col2im_by_hand() -> None:
    op = operator("Col2Im", [(1, 2, 3), np.array([4]), np.array([2])], [(1, 1, 4)])
    assert count(op) == Counts.of(DType.FLOAT, add=2)


def test_col2im_needs_its_block() -> None:
    with pytest.raises(ShapeError, match="block_shape"):
        count(operator("Col2Im", [(1, 2, 3), np.array([4]), Tensor("b", DType.INT64, (1,))], [(1, 1, 4)]))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("boxes", "channels", "crop"), [(1, 1, (2, 2)), (3, 2, (1, 4)), (2, 3, (3, 1)), (0, 2, (2, 2))]
)
def test_crop_and_resize_equals_its_loop(boxes: int, channels: int, crop: tuple[int, int], mode: str) -> None:
    tally: Counter[str] = Counter()
    for _ in range(boxes):
        for places in crop:
            low, high = numbers((2,), tally)
            if places == 1:
                starts = [(low + high) * 0.5 * 3]
            else:
                step = (high - low) * 1.5
                start = low * 3
                starts = [start + step * i for i in range(places)]
            for position in starts:
                assert not position < -1e9  # inside the image
                assert not position > 1e9
                if mode == "nearest":
                    assert position >= math.floor(position.value)  # rounded
                else:
                    assert position >= math.floor(position.value)
                    assert position <= math.ceil(position.value)
                    position - math.floor(position.value)
        if mode == "bilinear":
            for _ in np.ndindex(channels, *crop):
                for _ in range(3):  # top, bottom, between
                    a, b = numbers((2,), tally)
                    a + (b - a) * 0.5
    image = (2, channels, 4, 4)
    inputs = [image, (boxes, 4), Tensor("n", DType.INT32, (boxes,)), np.array(crop, np.int32)]
    op = operator("CropAndResize", inputs, [(boxes, channels, *crop)], domain="com.microsoft", mode=mode)
    assert count(op).basic_operations() == as_basic_operations(tally)


def test_crop_and_resize_by_hand() -> None:
    inputs = [(1, 1, 4, 4), (1, 4), Tensor("n", DType.INT32, (1,)), np.array([2, 2], np.int32)]
    op = operator("CropAndResize", inputs, [(1, 1, 2, 2)], domain="com.microsoft")
    assert count(op) == Counts.of(DType.FLOAT, add=16, sub=18, mul=20, compare=16)


def cosine_basis() -> np.ndarray:
    """C[x, u] of ITU-T T.81, A.3.3: sample x of frequency u."""
    places, frequencies = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    scale = np.where(frequencies == 0, math.sqrt(1 / 2), 1.0) / 2
    basis: np.ndarray = scale * np.cos((2 * places + 1) * frequencies * math.pi / 16)
    return basis


def clamped(value: Number) -> Number:
    if value < 0:
        return Number(0, value.tally)
    return Number(255, value.tally) if value > 255 else value


def decoded_block(coefficients: np.ndarray, quantiser: np.ndarray, tally: Counter[str]) -> list[list[Number]]:
    """The samples of one block of JPEG: dequantised, transformed by rows and columns, shifted and clamped."""

    def dot(left: Any, right: Any) -> Number:
        total = left[0] * right[0]
        for a, b in zip(left[1:], right[1:], strict=True):
            total = total + a * b
        return total

    basis = cosine_basis()
    rows = [
        [Number(value, tally) * factor for value, factor in zip(line, factors, strict=True)]
        for line, factors in zip(coefficients.tolist(), quantiser.tolist(), strict=True)
    ]
    rows = [[dot(row, basis[x].tolist()) for x in range(8)] for row in rows]
    columns = [[dot([rows[v][x] for v in range(8)], basis[y].tolist()) for x in range(8)] for y in range(8)]
    return [[clamped(value + 128) for value in row] for row in columns]


def in_rgb(luma: Number, blue: Number, red: Number) -> list[Number]:
    """One pixel by ITU-T T.871, section 7."""
    blue, red = blue - 128, red - 128
    colours = [luma + red * 1.402, luma - blue * 0.344136 - red * 0.714136, luma + blue * 1.772]
    return [clamped(colour) for colour in colours]


@pytest.mark.parametrize("pixel_format", ["RGB", "BGR", "Grayscale"])
def test_decoding_counts_the_transform_of_jpeg(pixel_format: str) -> None:
    tally: Counter[str] = Counter()
    source = np.random.default_rng(5)
    samples = source.integers(100, 156, (8, 8)).astype(float)  # in no channel out of range: compared with both ends
    basis = cosine_basis()
    coefficients = basis.T @ (samples - 128) @ basis
    # A quantiser of ones that does not round gives the samples back, so that this is the transform of JPEG.
    channels = 1 if pixel_format == "Grayscale" else 3
    blocks = [decoded_block(coefficients, np.ones((8, 8)), tally) for _ in range(channels)]
    assert np.allclose([[number.value for number in row] for row in blocks[0]], samples)
    if channels == 3:
        for y, x in np.ndindex(8, 8):
            in_rgb(*(block[y][x] for block in blocks))
    file = Tensor("file", DType.UINT8, (1000,))
    image = Tensor("image", DType.UINT8, (8, 8, channels))
    counted = count(operator("ImageDecoder", [file], [image], pixel_format=pixel_format))
    assert counted.basic_operations() == as_basic_operations(tally)


def test_the_documented_image() -> None:
    image = Tensor("image", DType.UINT8, (480, 640, 3))
    counted = count(operator("ImageDecoder", [Tensor("file", DType.UINT8, (99,))], [image]))
    per_pixel = {"mul": 55, "add": 47, "sub": 4, "compare": 12, "div": 0, "root": 0}
    assert counted.basic_operations() == {name: 307_200 * number for name, number in per_pixel.items()}
