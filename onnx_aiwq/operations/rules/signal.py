"""Signal processing: discrete Fourier transforms by their definition, windows, the mel matrix."""

from __future__ import annotations

import math

import numpy as np

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import axis_index, dtype_of, known_scalar
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


def _transform(dtype: DType, results: int, length: int, parts: tuple[int, int]) -> Counts:
    """`results` sums over `length` samples times constants, with 1 (real) or 2 (complex) parts in and out."""
    inner, outer = parts
    terms = results * length
    crossed = terms if inner == 2 else 0
    sums = outer * results * max(length - 1, 0)
    return Counts.of(dtype, add=sums + (crossed if outer == 2 else 0), sub=crossed, mul=inner * outer * terms)


def _known_integer(tensor: Tensor, role: str) -> int:
    value = known_scalar(tensor)
    if value is None:
        raise ShapeError(f"{role} {tensor.name!r} is not known before the run")
    return int(value)


@rule("DFT", family="signal")
def dft(op: Operator) -> Counts:
    """Discrete Fourier transform, counted by its definition.

    Equation:
        y[k] = sum over n < N of x[n] * e^(-2 pi i k n / N); inverse: x[n] = 1/N * sum over k < N of y[k] * e^(2 pi i k
        n / N)
    Basic operations:
        The definition, as a dense product with N constants, not a fast transform: which one a runtime takes, and for
        which N, is its own affair. Per output bin N terms; a term of a complex sample and a complex result is 4 mul, 1
        sub, 1 add, of a real sample 2 mul, of a complex sample and a real result (onesided inverse) 2 mul, 1 sub; the
        sums of N terms N - 1 add for the real and for the imaginary part. The inverse multiplies each part by 1/N (none
        for N = 1). Padding up to dft_length is multiplied like any other sample; factors that happen to be 1 too. No
        MACs.
    Not counted:
        The constants e^(2 pi i k n / N).
    Example:
        x[1, 4, 1] real, onesided: 3 bins; mul = 3 * 4 * 2 = 24, add = 3 * 3 * 2 = 18. Complex, twosided: 4 bins; mul =
        64, sub = 16, add = 16 + 24 = 40.
    Reference:
        ONNX operators: DFT.
    """
    shape, result = shape_of(op.input(0), "the input"), shape_of(op.output(0), "the output")
    given = op.input(2)
    if op.version < 20:
        axis = int(op.attributes.get("axis", 1))
    else:
        axis = -2 if given is None else _known_integer(given, "the axis")
    index = axis_index(axis, len(shape))
    inverse, onesided = bool(op.attributes.get("inverse")), bool(op.attributes.get("onesided"))
    stated = op.input(1)
    if inverse or not onesided:
        length = result[index]
    else:
        length = shape[index] if stated is None else _known_integer(stated, "the DFT length")
    results = math.prod(result[:-1])
    dtype = dtype_of(op.input(0))
    scaled = math.prod(result) if inverse and length != 1 else 0
    return _transform(dtype, results, length, (shape[-1], result[-1])) + Counts.of(dtype, mul=scaled)


@rule("STFT", family="signal")
def stft(op: Operator) -> Counts:
    """Short-time Fourier transform: a window and a discrete Fourier transform for each frame.

    Equation:
        Y[b, f, k] = sum over n < L of window[n] * x[b, f * frame_step + n] * e^(-2 pi i k n / L)
    Basic operations:
        Per frame and sample 1 mul by the window for each of the real and imaginary part (none without a window, or
        where it is known to be one); then per bin L terms as in DFT, by the definition.
    Not counted:
        The constants e^(2 pi i k n / L); cutting of the frames.
    Example:
        x[1, 8, 1], frame_length 4, frame_step 2, window[4], onesided: 3 frames of 3 bins; mul = 3 * 4 + 9 * 4 * 2 = 84,
        add = 9 * 3 * 2 = 54.
    Reference:
        ONNX operators: STFT.
    """
    signal, result = shape_of(op.input(0), "the signal"), shape_of(op.output(0), "the output")
    window, stated = op.input(2), op.input(3)
    if stated is not None:
        length = _known_integer(stated, "the frame length")
    else:
        length = signal[1] if window is None else shape_of(window, "the window")[0]
    frames = result[0] * result[1]
    windowed = window is not None and (window.value is None or bool(np.any(window.value != 1)))
    dtype = dtype_of(op.input(0))
    factors = Counts.of(dtype, mul=frames * length * signal[-1] if windowed else 0)
    return factors + _transform(dtype, frames * result[2], length, (signal[-1], result[-1]))


@rule("HannWindow", "HammingWindow", "BlackmanWindow", family="signal")
def window_function(op: Operator) -> Counts:
    """Cosine windows.

    Equation:
        w[n] = a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N), N = size, or size - 1 where periodic = 0; a2 is 0 but for
        Blackman
    Basic operations:
        As the ONNX function body, in float32: 1 div for 2 pi / N, 1 sub for N where periodic = 0; per element 1 mul for
        the angle, 1 root (cos), 1 mul by a1, 1 sub; Blackman per element 1 mul (twice the angle), 1 root, 1 mul by a2,
        1 add more.
    Not counted:
        The range 0 .. size - 1, casts, terms with a2 = 0.
    Example:
        HannWindow of size 8, periodic: mul = 16, root = 8, sub = 8, div = 1. BlackmanWindow of size 8, symmetric: mul =
        32, root = 16, sub = 9, add = 8, div = 1.
    Reference:
        ONNX operators: HannWindow, HammingWindow, BlackmanWindow.
    """
    size = size_of(op.output(0), "the output")
    symmetric = 0 if op.attributes.get("periodic", 1) else 1
    second = size if op.op_type == "BlackmanWindow" else 0
    first = Counts.of(DType.FLOAT, sub=size + symmetric, mul=2 * size, div=1, root=size)
    return first + Counts.of(DType.FLOAT, add=second, mul=2 * second, root=second)


@rule("MelWeightMatrix", family="signal")
def mel_weight_matrix(op: Operator) -> Counts:
    """Triangular filters on the mel scale.

    Equation:
        mel(f) = 2595 log10(1 + f / 700); B + 2 points p at equal distances from mel(lower) to mel(upper);
        c = floor((dft_length + 1) * 700 (10^(p / 2595) - 1) / sample_rate);
        Y[j, b] = max(0, min((j - c[b]) / (c[b + 1] - c[b]), (c[b + 2] - j) / (c[b + 2] - c[b + 1])))
    Basic operations:
        In float32. For 2 edges 1 div, 1 add, 1 root, 1 mul each; 1 sub and 1 div for the distance, 1 add for dft_length
        + 1. Per point 1 mul and 1 add for p, 1 div, 1 root, 1 sub, 1 mul for its frequency, 1 mul, 1 div, 1 compare for
        c. Per filter 2 sub. Per element of Y 2 sub, 2 div, 2 compare: where the triangles lie is not known, all are
        computed.
    Not counted:
        Casts. With constant inputs, as usual, the node is folded.
    Example:
        B = 2 filters of 3 bins, hence 4 points and 6 elements: add = 2 + 1 + 4 = 7, sub = 1 + 4 + 4 + 12 = 21,
        mul = 2 + 12 = 14, div = 2 + 1 + 8 + 12 = 23, root = 2 + 4 = 6, compare = 4 + 12 = 16.
    Reference:
        ONNX operators: MelWeightMatrix.
    """
    bins, filters = shape_of(op.output(0), "the output")
    edges = Counts.of(DType.FLOAT, add=1, mul=1, div=1, root=1) * 2
    distance = Counts.of(DType.FLOAT, add=1, sub=1, div=1)
    points = Counts.of(DType.FLOAT, add=1, sub=1, mul=3, div=2, root=1, compare=1) * (filters + 2)
    widths = Counts.of(DType.FLOAT, sub=2) * filters
    return edges + distance + points + widths + Counts.of(DType.FLOAT, sub=2, div=2, compare=2) * (bins * filters)


@rule("Rfft", "Irfft", family="signal", domain="com.microsoft")
def real_fourier_transform(op: Operator) -> Counts:
    """Fourier transform of a real signal of 1 to 3 dimensions, or its inverse, counted by its definition.

    Equation:
        Rfft: y[k] = sum over n < N of x[n] * e^(-2 pi i k n / N) along the last dimension, N/2 + 1 bins, then along the
        other signal dimensions; Irfft: the other dimensions first, x[n] = 1/N * sum over all N bins of y[k] e^(2 pi i k
        n / N), bins above N/2 being conjugates
    Basic operations:
        As DFT, the definition and not a fast transform, one dimension after the other. A term of a real sample is 2
        mul, of a complex one with a complex result 4 mul, 1 sub, 1 add, with a real result 2 mul, 1 sub; N - 1 add for
        each real and imaginary part. Irfft multiplies every result by 1 / (product of all N), 1 mul. No MACs.
    Not counted:
        The constants e^(2 pi i k n / N).
    Example:
        Rfft of X[1, 4]: 3 bins; mul = 24, add = 18. Irfft of X[1, 3, 2] to Y[1, 4]: mul = 32 + 4 = 36, sub = 16, add =
        12.
    Reference:
        Contrib operators: Rfft, Irfft.
    """
    inverse = op.op_type == "Irfft"
    real = shape_of(op.output(0) if inverse else op.input(0), "the real signal")
    bins = shape_of(op.input(0) if inverse else op.output(0), "the spectrum")
    rank, dtype = int(op.attributes.get("signal_ndim") or 1), dtype_of(op.input(0))
    total = Counts()
    for length in bins[-1 - rank : -2]:  # all signal dimensions but the last, on half a spectrum
        total += _transform(dtype, math.prod(bins[:-1]), length, (2, 2))
    if inverse:
        results = math.prod(real)
        scale = results if math.prod(real[len(real) - rank :]) != 1 else 0
        return total + _transform(dtype, results, real[-1], (2, 1)) + Counts.of(dtype, mul=scale)
    return total + _transform(dtype, math.prod(bins[:-1]), real[-1], (1, 2))
