"""The networks that calibration measures: random composites, none of which is a network that anybody uses.

Three kinds: chains of blocks of convolutional networks, chains of blocks of transformers and recurrent networks, and
collections of single operators. What is timed is every operator between neighbours that it has in practice; operators
fed from graph inputs and writing graph outputs would be timed cold and copied.
"""

from __future__ import annotations

from typing import Literal

import onnx

from onnx_aiwq.calibration.composites import images, sequences, tensors
from onnx_aiwq.calibration.composites.builder import Builder, Value

Kind = Literal["images", "sequences", "tensors"]
KINDS: tuple[Kind, ...] = ("images", "sequences", "tensors", "images", "sequences", "images")
"""In this order, over and over: what networks spend their time in comes more often."""
_MOST_ELEMENTS = 1_600_000
_BLOCKS = 14
_BRANCHES = 22


def composite(seed: int) -> tuple[Kind, onnx.ModelProto]:
    """The composite of a seed, and its kind; the same for the same seed, on every machine."""
    kind = KINDS[seed % len(KINDS)]
    b = Builder(seed)
    {"images": _images, "sequences": _sequences, "tensors": _tensors}[kind](b)
    return kind, b.model()


def _images(b: Builder) -> None:
    side = b.pick(224, 192, 160, 128, 112, 96, 64, 56, 48, 32, 28, 20, 14, 7)
    if side >= 96 and b.chance(0.7):
        x = images.conv(b, b.input((1, 3, side, side)), b.width(16, 96), b.pick(3, 4, 7, 11), stride=b.pick(1, 2, 2, 4), act="Relu")
    else:
        channels = b.width(16, max(32, min(1024, 400_000 // side**2)))
        x = images.conv(b, b.input((1, channels, side, side)), channels, 1, act="Relu")
    blocks, shares = zip(*images.BLOCKS, strict=True)
    for _ in range(_BLOCKS):
        x = _smaller(b, b.pick(*blocks, weights=shares)(b, x))
    b.output(x)


def _smaller(b: Builder, x: Value) -> Value:
    """Keep a chain of blocks within what networks do: fewer channels where an image is large, a larger one at the end."""
    n, c, h, w = x.shape
    if c * h * w > _MOST_ELEMENTS // 2 or c > 1600:
        x = images.conv(b, x, max(16, min(c // 4, 512) // 8 * 8), b.pick(1, 3), stride=2 if min(h, w) > 14 else 1, act="Relu")
    if min(x.shape[2:]) < 5:
        side = b.pick(7, 14, 28, 56)
        channels = b.width(32, max(48, min(768, 300_000 // side**2)))
        b.output(x)
        x = images.conv(b, b.input((1, channels, side, side)), channels, 1, act="Relu")
    return x


def _sequences(b: Builder) -> None:
    steps = b.pick(16, 32, 49, 64, 128, 197, 256, 384, 512, 1500, weights=(2, 2, 2, 3, 4, 3, 2, 1, 1, 0.4))
    width = b.pick(64, 96, 128, 192, 256, 384, 512, 768, 1024)
    while steps * width > 400_000:
        width //= 2
    x = b.matmul(b.input((1, steps, width)), width)
    blocks, shares = zip(*sequences.BLOCKS, strict=True)
    for _ in range(_BLOCKS // 2):
        y = b.pick(*blocks, weights=shares)(b, x)
        n, steps, width = y.shape
        if width > 1024 or width < 32 or steps < 8:
            b.output(y)
            y = x
        x = y
    b.output(x)


def _tensors(b: Builder) -> None:
    blocks, shares = zip(*tensors.BLOCKS, strict=True)
    for _ in range(_BRANCHES):
        b.pick(*blocks, weights=shares)(b)
