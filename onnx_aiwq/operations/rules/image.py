"""Images: interpolation, sampling grids and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import axis_index, dtype_of
from onnx_aiwq.operations.registry import movement, rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

# Taps of a kernel along one dimension; bilinear and bicubic are the names of older versions.
_TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}

movement("CenterCropPad", why="Crops or pads around the centre: copies elements, or fills places with zero.")


def _shape_of_rank(tensor: Tensor | None, role: str, least: int) -> tuple[int, ...]:
    shape = shape_of(tensor, role)
    if len(shape) < least:
        raise ShapeError(f"{role} has shape {list(shape)}; expected at least {least} dimensions")
    return shape


def _taps_per_dimension(mode: str, op: Operator) -> int:
    if mode not in _TAPS:
        raise ShapeError(f"{op.op_type} has no interpolation mode {mode!r}; known are {', '.join(_TAPS)}")
    return _TAPS[mode]


def _known_numbers(tensor: Tensor | None) -> list[Fraction]:
    """The elements of a small constant, exactly; empty where it is absent, empty, not known or not finite."""
    if tensor is None or tensor.value is None:
        return []
    return _fractions(tensor.value.reshape(-1).tolist())


def _fractions(values: Sequence[float]) -> list[Fraction]:
    return [Fraction(value) for value in values] if all(map(math.isfinite, values)) else []


def _axes(op: Operator, rank: int) -> list[int]:
    return [axis_index(axis, rank) for axis in op.attributes.get("axes") or range(rank)]


def _along_axes(op: Operator, numbers: list[Fraction], rank: int) -> dict[int, Fraction]:
    """Numbers that belong to the dimensions of the attribute `axes` (all dimensions without it)."""
    return dict(zip(_axes(op, rank), numbers, strict=False))


def _scale_factors(
    op: Operator, scales: Tensor | None, sizes: Tensor | None, before: tuple[int, ...], after: tuple[int, ...]
) -> list[Fraction]:
    """The scale of each dimension: as it is given, else common to all axes that keep their ratio, else after/before."""
    rank = len(before)
    given = _along_axes(op, _known_numbers(scales) or _fractions(op.attributes.get("scales", ())), rank)
    wanted = _along_axes(op, _known_numbers(sizes), rank)
    policy = op.attributes.get("keep_aspect_ratio_policy", "stretch")
    if not given and wanted and policy != "stretch" and all(before[axis] for axis in wanted):
        pick = min if policy == "not_larger" else max
        common = pick(size / before[axis] for axis, size in wanted.items())
        given = dict.fromkeys(wanted, common)
    # A scale that is given needs no ratio of sizes, which a formula could not be part of.
    return [given[axis] if axis in given else _ratio(before[axis], after[axis]) for axis in range(rank)]


def _ratio(old: int, new: int) -> Fraction:
    if old == new:  # also where both are the same formula
        return Fraction(1)
    return Fraction(new, old) if old else Fraction(1)


def _cropped_axes(op: Operator, roi: Tensor | None, rank: int) -> set[int]:
    """Dimensions that a region of interest resamples although their size may stay the same."""
    if op.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return set()
    axes = _axes(op, rank)
    bounds = _known_numbers(roi)
    if len(bounds) != 2 * len(axes):
        return set(axes)
    starts, ends = bounds[: len(axes)], bounds[len(axes) :]
    return {axis for axis, start, end in zip(axes, starts, ends, strict=True) if start != 0 or end != 1}


def _weighted_means(dtype: DType, elements: int, taps: int) -> Counts:
    """Means of `taps` neighbours with real weights; one tap is a copy. A complex number has two real parts."""
    if taps == 1:
        return Counts()
    real = {DType.COMPLEX64: DType.FLOAT, DType.COMPLEX128: DType.DOUBLE}.get(dtype, dtype)
    parts = elements * (2 if dtype.is_complex else 1)
    return Counts.of(real, mul=parts * taps, add=parts * (taps - 1))


def _resize(op: Operator, roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None) -> Counts:
    """A weighted mean of prod(taps) neighbours per output element, over the dimensions that are resampled."""
    before, after = shape_of(op.input(0), "X"), shape_of(op.output(0), "Y")
    if len(before) != len(after):
        raise ShapeError(f"{op.op_type} keeps the number of dimensions; found {list(before)} and {list(after)}")
    support = _taps_per_dimension(op.attributes.get("mode", "nearest"), op)
    factors = _scale_factors(op, scales, sizes, before, after)
    cropped = _cropped_axes(op, roi, len(before))
    taps = 1
    for axis, factor in enumerate(factors):
        if support == 1 or (factor == 1 and before[axis] == after[axis] and axis not in cropped):
            continue
        stretched = op.attributes.get("antialias", 0) and 0 < factor < 1
        taps *= 2 * math.ceil(Fraction(support, 2) / factor) if stretched else support
    return _weighted_means(dtype_of(op.input(0)), math.prod(after), taps)


@rule("Resize", family="image", since=11)
def resize(op: Operator) -> Counts:
    """Resample a tensor by a separable interpolation kernel.

    Equation:
        Y[o] = sum_{t in taps(o)} w[o, t] * X[t], with prod over the resampled dimensions of T taps per output
        element: T = 1 (nearest), 2 (linear) or 4 (cubic); antialias with a scale s < 1 stretches the kernel to
        T = 2 * ceil(1 / s) (linear) or 2 * ceil(2 / s) (cubic).
    Basic operations:
        nearest: nothing. Else, with d resampled dimensions, T^d mul and T^d - 1 add per output element. A dimension
        is resampled where its size changes, where its known scale is not 1, or where a region of interest
        (tf_crop_and_resize) is not known to be the whole of it.
    Not counted:
        Source coordinates and the weights w, which depend on sizes alone: tables made once. Taps outside the image
        are multiplied like any other; extrapolated elements (tf_crop_and_resize) are counted as interpolated ones.
    Example:
        X [1, 1, 2, 2] to Y [1, 1, 4, 4], linear: 16 elements of 4 taps: 64 mul, 48 add. Cubic: 256 mul, 240 add.
    Reference:
        ONNX operators: Resize (since 11; antialias and axes since 18).
    """
    return _resize(op, roi=op.input(1), scales=op.input(2), sizes=op.input(3))


@rule("Resize", family="image", since=10)
@rule("Upsample", family="image")
@rule("Upsample", family="image", domain="com.microsoft.nchwc")
def upsample(op: Operator) -> Counts:
    """Resample a tensor by nearest neighbours or N-linear interpolation.

    Equation:
        Y[o] = sum_{t in taps(o)} w[o, t] * X[t], with 1 tap (nearest) or 2^d taps (linear, d resampled dimensions).
    Basic operations:
        nearest: nothing. linear: 2^d mul and 2^d - 1 add per output element; a dimension is resampled where its size
        changes or its known scale is not 1.
    Not counted:
        Source coordinates and the weights w, which depend on sizes alone: tables made once.
    Example:
        X [1, 1, 2, 2] to Y [1, 1, 4, 6], linear: 24 elements of 4 taps: 96 mul, 72 add. nearest: 0.
    Reference:
        ONNX operators: Upsample, Resize (version 10).
    """
    return _resize(op, roi=None, scales=op.input(1), sizes=None)


def _kernel_weights(taps: int, dimensions: int) -> dict[str, int]:
    """Operations for the taps^dimensions weights of one point: per coordinate its own, then their outer product."""
    per_coordinate = {
        1: {"compare": 1},
        2: {"compare": 1, "sub": 2},
        4: {"compare": 1, "sub": 9, "add": 5, "mul": 12},
    }[taps]
    counts = {name: number * dimensions for name, number in per_coordinate.items()}
    outer = sum(taps**order for order in range(2, dimensions + 1)) if taps > 1 else 0
    counts["mul"] = counts.get("mul", 0) + outer
    return counts


@rule("GridSample", family="image")
@rule("GridSample", family="image", domain="com.microsoft")
def grid_sample(op: Operator) -> Counts:
    """Sample an image at the points of a grid.

    Equation:
        x = (g + 1) * (L / 2) - 1/2, or with align_corners x = (g + 1) * ((L - 1) / 2), for each of d coordinates g of
        a grid point, L the size of that dimension; Y[n, c, p] = sum_{t in T^d taps around x} w[p, t] * X[n, c, t],
        T = 1 (nearest), 2 (linear, bilinear) or 4 (cubic, bicubic).
    Basic operations:
        Per coordinate 1 add, 1 mul, and 1 sub unless align_corners; 1 compare (round or floor). Weights per coordinate:
        linear f = x - floor x, 1 - f: 2 sub; cubic f and Keys' four polynomials in Horner form: 9 sub, 5 add, 12 mul.
        Weights per point: their outer product, T^2 + ... + T^d mul. All of this in the type of the grid, and once for
        all channels. Per output element T^d mul and T^d - 1 add in the type of X (nearest: nothing).
    Not counted:
        Padding (zeros, border, reflection) of taps outside the image, which is addressing; L / 2.
    Example:
        X [1, 3, 4, 4], grid [1, 2, 2, 2], bilinear: 4 points of 2 coordinates: 8 add, 8 mul, 8 sub, 8 compare; weights
        16 sub and 4 * 4 = 16 mul; 12 elements of 4 taps: 48 mul, 36 add. In all 44 add, 24 sub, 72 mul, 8 compare.
    Reference:
        ONNX operators: GridSample. Keys, IEEE Trans. ASSP 29 (1981), for the cubic kernel.
    """
    image, (*places, dimensions) = _shape_of_rank(op.input(0), "X", 3), _shape_of_rank(op.input(1), "grid", 3)
    if dimensions != len(image) - 2:
        raise ShapeError(f"grid has points of {dimensions} coordinates; X {list(image)} takes {len(image) - 2}")
    dtype = dtype_of(op.input(1))
    points = math.prod(places)
    taps = _taps_per_dimension(op.attributes.get("mode", "linear"), op)
    denormalise = dimensions * points
    shift = 0 if op.attributes.get("align_corners", 0) else denormalise
    counts = Counts.of(dtype, add=denormalise, mul=denormalise, sub=shift)
    counts += Counts.of(dtype, **_kernel_weights(taps, dimensions)) * points
    return counts + _weighted_means(dtype_of(op.input(0)), points * image[1], taps**dimensions)


@rule("AffineGrid", family="image")
def affine_grid(op: Operator) -> Counts:
    """The sampling points of an affine map.

    Equation:
        grid[n, p, i] = sum_{j < d} theta[n, i, j] * base[p, j] + theta[n, i, d], for d = 2 or 3 coordinates.
    Basic operations:
        Per output element d mul and d add: the homogeneous coordinate is one, so that theta[n, i, d] is only added.
    Not counted:
        The base grid, which depends on the size alone: a table made once.
    Example:
        theta [1, 2, 3], size [1, 1, 2, 3]: grid [1, 2, 3, 2] has 12 elements: 24 mul, 24 add.
    Reference:
        ONNX operators: AffineGrid.
    """
    dimensions = _shape_of_rank(op.input(0), "theta", 3)[1]
    products = size_of(op.output(0), "grid") * dimensions
    return Counts.of(dtype_of(op.input(0)), mul=products, add=products)


# Per sample of a block of 8 x 8: the quantiser, two dot products of 8, the level shift, a clamp at both ends.
_DECODED_SAMPLE = {"mul": 17, "add": 15, "compare": 2}
# Per pixel: Y + 1.402 (Cr - 128), Y - 0.344 (Cb - 128) - 0.714 (Cr - 128), Y + 1.772 (Cb - 128), each clamped.
_CONVERTED_PIXEL = {"mul": 4, "add": 2, "sub": 4, "compare": 6}


@rule("ImageDecoder", family="image", bound=True)
def image_decoder(op: Operator) -> Counts:
    """An image from its file: the transform of JPEG, the costliest format, without its entropy code (upper bound).

    Equation:
        sample = clamp(128 + IDCT(quantised * quantiser)), the inverse cosine transform of 8 x 8 by rows, then columns
        RGB = the matrix of JFIF on (Y, Cb, Cr), of which none is subsampled
    Basic operations:
        Per sample 17 mul, 15 add, 2 compare; per pixel in colour 4 mul, 2 add, 4 sub and 6 compare more. The costliest
        filter of PNG takes 2 add, 4 sub, 6 compare per sample, the lifting of JPEG 2000 under 8 mul and 11 add.
    Not counted:
        Decoding the entropy code and filters of WebP: table look-ups, shifts and decisions that depend on every bit of
        the file. A file in a simpler format costs less; one of copied pixels (BMP, PNM) next to nothing.
    Example:
        480 x 640 pixels in RGB, 3 samples each: 307,200 x (55 mul, 47 add, 4 sub, 12 compare).
    Reference:
        ONNX operators: ImageDecoder. ITU-T T.81 (1992), A.3.3 and A.3.4; ITU-T T.871 (2011), section 7; PNG 9.4.
    """
    shape = _shape_of_rank(op.output(0), "the image", 3)
    dtype = dtype_of(op.output(0), "the image")
    counts = Counts.of(dtype, **_DECODED_SAMPLE) * size_of(op.output(0), "the image")
    if op.attributes.get("pixel_format", "RGB") == "Grayscale":
        return counts
    return counts + Counts.of(dtype, **_CONVERTED_PIXEL) * (shape[0] * shape[1])


_MOST_LANDINGS = 4_000_000  # block elements that are followed, a second's work


def _landings(size: int, kernel: int, dilation: int, stride: int, pad: int, blocks: int) -> tuple[int, int]:
    """How many block elements land inside one dimension, and on how many different places."""
    places = [
        block * stride + tap * dilation - pad
        for block in range(blocks)
        for tap in range(kernel)
        if 0 <= block * stride + tap * dilation - pad < size
    ]
    return len(places), len(set(places))


@rule("Col2Im", family="image")
def col2im(op: Operator) -> Counts:
    """Put the columns of sliding blocks back into an image, adding where they overlap.

    Equation:
        Y[n, c, p] = sum of X[n, (c, k), l] over all block elements k and blocks l with
        l * strides + k * dilations - pads = p (per dimension).
    Basic operations:
        1 add per block element that lands on a place where another one has landed before: the first is assigned.
    Not counted:
        Block elements that fall into the padding, which are dropped; places that no block covers, which are zero.
    Example:
        image [4], block [2], stride 1: 3 blocks of 2 elements land on 4 places: 6 - 4 = 2 add per channel.
    Reference:
        ONNX operators: Col2Im.
    """
    batch, channels, *image = _shape_of_rank(op.output(0), "output", 3)
    block_shape = op.input(2)
    if block_shape is None or block_shape.value is None or block_shape.value.size != len(image):
        raise ShapeError("Col2Im needs a block_shape that is known before the run")
    rank = len(image)
    dilations = op.attributes.get("dilations") or (1,) * rank
    strides = op.attributes.get("strides") or (1,) * rank
    pads = op.attributes.get("pads") or (0,) * (2 * rank)
    landed = covered = batch * channels
    for axis, (size, block) in enumerate(zip(image, block_shape.value.reshape(-1), strict=True)):
        kernel, padded = int(block), size + pads[axis] + pads[rank + axis]
        blocks = max((padded - dilations[axis] * (kernel - 1) - 1) // strides[axis] + 1, 0)
        if blocks * kernel > _MOST_LANDINGS // rank:
            raise ShapeError(f"Col2Im with {blocks} blocks of {kernel} along one axis: too many to follow one by one")
        inside, places = _landings(size, kernel, dilations[axis], strides[axis], pads[axis], blocks)
        landed, covered = landed * inside, covered * places
    return Counts.of(dtype_of(op.input(0)), add=landed - covered)


@rule("CropAndResize", family="image", domain="com.microsoft")
def crop_and_resize(op: Operator) -> Counts:
    """Crops of an image at given boxes, resampled to one size.

    Equation:
        y(i) = y1 (H - 1) + i (y2 - y1) (H - 1) / (rows - 1), x(j) likewise; Y[r, c, i, j] = X at (y(i), x(j)): the
        nearest element, or linear between left and right, then between top and bottom: a + (b - a) f
    Basic operations:
        Per box and dimension of more than one place: 1 sub and 1 mul for the step, 1 mul for the start; of one place: 1
        add and 1 mul for the middle, 1 mul by H - 1. Per row and column of a box with a step 1 mul, 1 add; 2 compare
        (inside the image), then nearest 1 compare to round, bilinear 2 compare (floor, ceil) and 1 sub (the fraction).
        Per output element bilinear 3 sub, 3 mul, 3 add.
    Not counted:
        (H - 1) / (rows - 1), which depends on sizes alone. Elements outside the image are counted as inside.
    Example:
        X[1, 1, 4, 4], 1 box, 2 x 2, bilinear: sub = 2 + 4 + 12 = 18, mul = 4 + 4 + 12 = 20, add = 4 + 12 = 16,
        compare = 4 * 4 = 16.
    Reference:
        Contrib operators: CropAndResize.
    """
    boxes, channels, *crop = _shape_of_rank(op.output(0), "output", 4)
    dtype, nearest = dtype_of(op.input(0)), op.attributes.get("mode", "bilinear") == "nearest"
    place = Counts.of(dtype, compare=3) if nearest else Counts.of(dtype, sub=1, compare=4)
    box = Counts()
    for places in crop:
        if places == 1:
            box += Counts.of(dtype, add=1, mul=2) + place
        else:
            box += Counts.of(dtype, sub=1, mul=2) + (place + Counts.of(dtype, add=1, mul=1)) * places
    mixed = 0 if nearest else channels * math.prod(crop)
    return (box + Counts.of(dtype, add=3, sub=3, mul=3) * mixed) * boxes
