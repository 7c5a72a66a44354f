"""Forward FLOPs of four architectures in closed form: as the eCAL package 0.1.0 has them (`compat`), and in general.

The package collapses all widths of a network to that of its input, counts L - 1 layers of L, and never grows the
channels of its CNN. These functions reproduce that, so that its outputs can be reproduced; `mlp_flops` and `kan_flops`
take a list of widths where a network has its own. The FLOPs of a real network are better counted from its ONNX file.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def mlp_flops(widths: Sequence[int]) -> int:
    """Sum over layers of 2 m n + 2 n, m to n neurons; the package takes n = m = d_in for each of its L - 1 layers."""
    return sum(2 * m * n + 2 * n for m, n in itertools.pairwise(widths))


def kan_flops(widths: Sequence[int], grid: int, order: int = 3, activation_flops: int = 2) -> float:
    """Sum over layers of M_NLF m + m n M_B, with M_B = 9 K (G + 1.5 K) + 2 G - 2.5 K + 3 (arXiv 2411.14904 sec. 3)."""
    basis = 9 * order * (grid + 1.5 * order) + 2 * grid - 2.5 * order + 3
    return sum(activation_flops * m + m * n * basis for m, n in itertools.pairwise(widths))


def transformer_flops(*, context: int, embedding: int, heads: int, decoders: int, feed_forward: int) -> int:
    """Decoders times attention and feed-forward; no embedding and no output layer."""
    c, n = context, embedding
    attention = 2 * (c * n * 3 * n + c**2 * n + heads * c**2 * (n // heads) + c * n**2)
    return decoders * (attention + 2 * 2 * c * n * feed_forward)


def compat_mlp_flops(layers: int = 3, width: int = 10) -> int:
    """What the package computes for an MLP of L layers; its default is 440."""
    return mlp_flops([width] * layers)


def compat_kan_flops(layers: int = 3, width: int = 10, grid: int = 10) -> float:
    """What the package computes for a KAN of L layers; its default is 81,440."""
    return kan_flops([width] * layers, grid)


def compat_cnn_flops(convolutions: int = 3, pools: int = 3, rows: int = 10, columns: int = 1) -> int:
    """What the package computes for its CNN (kernel 3 x 1, 3 filters, 1 channel); its default is 1,348.

    It runs one convolution fewer than it is told, and sets the input to rows 2^c after convolution c.
    """
    kernel_rows, kernel_columns, filters, channels = 3, 1, 3, 1
    total, in_rows, in_columns = 0, rows, columns

    def out(size_rows: int, size_columns: int) -> tuple[int, int]:
        return size_rows - kernel_rows + 2 * (
            kernel_rows - 1
        ) + 1, size_columns - kernel_columns + 2 * kernel_columns + 1

    for index in range(convolutions - 1):
        out_rows, out_columns = out(in_rows, in_columns)
        total += out_rows * out_columns * (channels * kernel_rows * kernel_columns + 1) * filters
        in_rows, in_columns = rows * 2**index, columns * 2**index
    out_rows, out_columns = out(in_rows, in_columns)
    total += pools * out_rows * out_columns * channels
    return total + 2 * out_rows * out_columns + 2 * out_rows
