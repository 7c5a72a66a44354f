"""Pooling: windows are dense, padding taps are compared and added like any other; blocked layouts hold whole blocks."""

from __future__ import annotations

import math

from onnx_aiwq.operations.arithmetic import dtype_of, power
from onnx_aiwq.operations.registry import movement, rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator

movement("MaxUnpool", why="Scatters the elements of X to the positions that the indices name, zeros elsewhere.")


def _window(op: Operator) -> int:
    return math.prod(int(size) for size in op.attributes["kernel_shape"])


def _global_windows(op: Operator) -> tuple[int, int]:
    """How many windows of how many elements global pooling has: one per instance and channel."""
    shape = shape_of(op.input(0), "the input")
    return math.prod(shape[:2]), math.prod(shape[2:])


@rule("MaxPool", family="pooling")
@rule("NhwcMaxPool", family="pooling", domain="com.microsoft")
@rule("MaxPool", family="pooling", domain="com.microsoft.nchwc")
def max_pool(op: Operator) -> Counts:
    """Maximum over sliding windows.

    Equation:
        Y[n, c, o] = max over the k = prod(kernel_shape) taps of the window at o
    Basic operations:
        Per output element k - 1 compare; the output Indices costs nothing more. Padding taps are compared like any
        other (dense count), so pads, dilations and ceil_mode act only through the output's shape.
    Not counted:
        Index arithmetic.
    Example:
        X[1, 2, 4, 4], kernel 2x2, stride 2: 8 outputs, compare = 8 * 3 = 24.
    Reference:
        ONNX operators: MaxPool. Contrib operators: NhwcMaxPool.
    """
    results = size_of(op.output(0), "the output")
    return Counts.of(dtype_of(op.input(0)), compare=results * max(_window(op) - 1, 0))


@rule("AveragePool", family="pooling")
@rule("AveragePool", family="pooling", domain="com.microsoft.nchwc")
def average_pool(op: Operator) -> Counts:
    """Mean over sliding windows.

    Equation:
        Y[n, c, o] = (sum over the k = prod(kernel_shape) taps of the window at o) / k
    Basic operations:
        Per output element k - 1 add and 1 div. Padding taps are added like any other (dense count), whether or not
        count_include_pad puts them into the divisor. With k = 1, the divisor is one and costs nothing.
    Not counted:
        Index arithmetic, counting the elements of a window.
    Example:
        X[1, 2, 4, 4], kernel 2x2, stride 2: 8 outputs, add = 8 * 3 = 24, div = 8.
    Reference:
        ONNX operators: AveragePool.
    """
    results, taps = size_of(op.output(0), "the output"), _window(op)
    return Counts.of(dtype_of(op.input(0)), add=results * max(taps - 1, 0), div=results if taps != 1 else 0)


@rule("GlobalMaxPool", family="pooling")
@rule("GlobalMaxPool", family="pooling", domain="com.microsoft.nchwc")
def global_max_pool(op: Operator) -> Counts:
    """Maximum over all positions of a channel.

    Equation:
        Y[n, c] = max over the k positions of X[n, c, ...]
    Basic operations:
        Per instance and channel k - 1 compare.
    Not counted:
        Nothing.
    Example:
        X[1, 2, 4, 4]: compare = 2 * 15 = 30.
    Reference:
        ONNX operators: GlobalMaxPool.
    """
    windows, taps = _global_windows(op)
    return Counts.of(dtype_of(op.input(0)), compare=windows * max(taps - 1, 0))


@rule("GlobalAveragePool", family="pooling")
@rule("GlobalAveragePool", family="pooling", domain="com.microsoft.nchwc")
def global_average_pool(op: Operator) -> Counts:
    """Mean over all positions of a channel.

    Equation:
        Y[n, c] = (sum over the k positions of X[n, c, ...]) / k
    Basic operations:
        Per instance and channel k - 1 add and 1 div; with k = 1 nothing.
    Not counted:
        Nothing.
    Example:
        X[1, 2, 4, 4]: add = 2 * 15 = 30, div = 2.
    Reference:
        ONNX operators: GlobalAveragePool.
    """
    windows, taps = _global_windows(op)
    return Counts.of(dtype_of(op.input(0)), add=windows * max(taps - 1, 0), div=windows if taps != 1 else 0)


def _norms(op: Operator, windows: int, taps: int) -> Counts:
    """`windows` p-norms of `taps` elements."""
    dtype, order = dtype_of(op.input(0)), int(op.attributes.get("p", 2))
    # An even power needs no absolute value.
    magnitude = Counts.of(dtype, compare=order % 2)
    element = magnitude + power(dtype, order)
    window = Counts.of(dtype, add=max(taps - 1, 0)) + power(dtype, 1.0 / order)
    return (element * taps + window) * windows


@rule("LpPool", family="pooling")
def lp_pool(op: Operator) -> Counts:
    """p-norm over sliding windows.

    Equation:
        Y[n, c, o] = (sum over the k = prod(kernel_shape) taps of |x|^p) ^ (1/p)
    Basic operations:
        Per tap 1 compare for the absolute value (none for even p) and the power p by squaring and multiplying (2: 1
        mul, 3: 2 mul); per output element k - 1 add and the p-th root: nothing for p = 1, 1 root for p = 2, else
        exp(log(s) / p) = 2 root + 1 mul. Padding taps count like any other (dense count).
    Not counted:
        Index arithmetic.
    Example:
        X[1, 2, 4, 4], p = 2, kernel 2x2, stride 2: 8 outputs, mul = 32, add = 24, root = 8.
    Reference:
        ONNX operators: LpPool.
    """
    return _norms(op, size_of(op.output(0), "the output"), _window(op))


@rule("GlobalLpPool", family="pooling")
def global_lp_pool(op: Operator) -> Counts:
    """p-norm over all positions of a channel.

    Equation:
        Y[n, c] = (sum over the k positions of |X[n, c, ...]|^p) ^ (1/p)
    Basic operations:
        Per element 1 compare for the absolute value (none for even p) and the power p as in LpPool; per instance and
        channel k - 1 add and the p-th root as in LpPool.
    Not counted:
        Nothing.
    Example:
        X[1, 2, 2, 2], p = 3: compare = 8, mul = 8 * 2 + 2 = 18, add = 6, root = 4.
    Reference:
        ONNX operators: GlobalLpPool.
    """
    return _norms(op, *_global_windows(op))


@rule("MaxRoiPool", family="pooling", bound=True)
def max_roi_pool(op: Operator) -> Counts:
    """Maximum over a grid of bins in each region of interest (upper bound).

    Equation:
        Y[r, c, i, j] = max of X[batch(r), c] over bin (i, j) of region r; corners are round(roi * spatial_scale)
    Basic operations:
        The size of a region is known at run time only, so the largest is counted, the whole image of H x W: its bins
        share H * W elements, so that a region and channel takes H * W - pooled_h * pooled_w compare (none where there
        are more bins than elements). Per region 4 mul by spatial_scale (none where it is 1) and 4 compare to round the
        corners; 2 sub, 2 add and 2 compare for its size max(end - start + 1, 1); 2 div for the size of a bin.
    Not counted:
        Elements that neighbouring bins share by rounding; index arithmetic.
    Example:
        X[1, 3, 8, 8], 2 regions, pooled_shape (2, 2), spatial_scale 0.5: compare = 2 * 3 * 60 + 12 = 372, mul = 8,
        add = sub = div = 4.
    Reference:
        ONNX operators: MaxRoiPool.
    """
    _, channels, height, width = shape_of(op.input(0), "the input")
    regions = shape_of(op.input(1), "the regions")[0]
    bins = math.prod(int(size) for size in op.attributes["pooled_shape"])
    scaled = 4 if op.attributes.get("spatial_scale", 1.0) != 1.0 else 0
    region = Counts.of(dtype_of(op.input(0)), add=2, sub=2, mul=scaled, div=2, compare=6)
    return (region + Counts.of(dtype_of(op.input(0)), compare=channels * max(height * width - bins, 0))) * regions


def _adapts(op: Operator) -> bool:
    """Whether the number of sampling points depends on the size of the region."""
    return int(op.attributes.get("sampling_ratio", 0)) <= 0


def _samples_per_bin(op: Operator, height: int, width: int, rows: int, columns: int) -> int:
    """Sampling points of one bin of RoiAlign; sampling_ratio 0 adapts to the region, at most the whole image."""
    if not _adapts(op):
        return int(op.attributes["sampling_ratio"]) ** 2
    return -(-height // max(rows, 1)) * -(-width // max(columns, 1))


@rule("RoiAlign", family="pooling", bound=_adapts)
def roi_align(op: Operator) -> Counts:
    """Bilinear samples on a grid of bins in each region of interest, reduced by mean or maximum.

    Equation:
        Y[r, c, i, j] = mean (or max) over the s points of bin (i, j) of w1 X[y0, x0] + w2 X[y0, x1] + w3 X[y1, x0] +
        w4 X[y1, x1], where w are the bilinear weights
    Basic operations:
        Per region 4 mul by spatial_scale (none where it is 1); 2 sub for its size and 4 sub of 0.5 with half_pixel, or
        2 compare (a size of at least 1) without; 2 div for the size of a bin.
        Per sampling point, shared by all channels, for each of 2 coordinates: 1 mul and 1 add (start + position * bin
        size), 2 compare (clamp), 1 compare (floor), 2 sub (the fraction and its complement); 4 mul for the weights.
        Per point and channel 4 mul. Per output element 4 s - 1 add and 1 div for the mean (no div for s = 1), or, as
        ONNX takes the maximum over the weighted corners themselves, 4 s - 1 compare.
        s = sampling_ratio^2. With sampling_ratio 0, s depends on the region at run time, and the largest is counted
        (upper bound), the whole image: s = ceil(H / output_height) * ceil(W / output_width).
    Not counted:
        Index arithmetic, the fixed positions of points within a bin, the test for points outside the image.
    Example:
        X[1, 2, 8, 8], 1 region, 2 x 2 bins, sampling_ratio 1, mean, half_pixel, spatial_scale 1: 4 points, 8 outputs;
        mul = 4 * (2 + 4) + 8 * 4 = 56, add = 4 * 2 + 8 * 3 = 32, sub = 4 + 2 + 4 * 4 = 22, div = 2, compare = 4 * 6 =
        24.
    Reference:
        ONNX operators: RoiAlign.
    """
    _, _, height, width = shape_of(op.input(0), "the input")
    regions, channels, rows, columns = shape_of(op.output(0), "the output")
    dtype = dtype_of(op.input(0))
    half_pixel = op.attributes.get("coordinate_transformation_mode", "output_half_pixel") == "half_pixel"
    scaled = 4 if op.attributes.get("spatial_scale", 1.0) != 1.0 else 0
    region = Counts.of(dtype, sub=6 if half_pixel else 2, mul=scaled, div=2, compare=0 if half_pixel else 2)
    point = Counts.of(dtype, add=2, sub=4, mul=2 + 4, compare=6)
    samples = _samples_per_bin(op, height, width, rows, columns)
    if op.attributes.get("mode", "avg") == "max":
        output = Counts.of(dtype, mul=4 * samples, compare=max(4 * samples - 1, 0))
    else:
        output = Counts.of(dtype, add=max(4 * samples - 1, 0), mul=4 * samples, div=1 if samples != 1 else 0)
    bins = rows * columns
    return (region + point * (bins * samples) + output * (bins * channels)) * regions


@rule("MaxpoolWithMask", family="pooling", domain="com.microsoft", bound=True)
def max_pool_with_mask(op: Operator) -> Counts:
    """Maximum over the elements of sliding windows that a mask lets through (upper bound).

    Equation:
        Y[n, c, o] = max over the taps t of the window at o with M[t] != 0
    Basic operations:
        Per output element and tap 1 compare of the mask with zero, in its type, and k - 1 compare for the maximum:
        which taps are masked only the data knows, all are counted.
    Not counted:
        Index arithmetic.
    Example:
        X[1, 2, 4, 4], M int32, kernel 2x2, stride 2: 8 outputs, int32 compare = 32, float32 compare = 24.
    Reference:
        Contrib operators: MaxpoolWithMask.
    """
    results, taps = size_of(op.output(0), "the output"), _window(op)
    maxima = Counts.of(dtype_of(op.input(0)), compare=results * max(taps - 1, 0))
    return maxima + Counts.of(dtype_of(op.input(1), "the mask"), compare=results * taps)
