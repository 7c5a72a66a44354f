"""The networks that calibration measures: random composites, none of which is a network that anybody uses.

Four kinds: chains of blocks of convolutional networks, chains of blocks of transformers and recurrent networks,
collections of single operators, and collections of products of matrices, down to one row and one step. What is timed is
every operator between neighbours that it has in practice; operators fed from graph inputs and writing graph outputs
would be timed cold and copied.
"""

from __future__ import annotations

from typing import Literal

import onnx

from onnx_aiwq.calibration.composites import images, sequences, tensors
from onnx_aiwq.calibration.composites.builder import Builder, Value
from onnx_aiwq.calibration.composites.quantised import Form, quantised

Kind = Literal["images", "sequences", "tensors", "products"]
Plan = tuple[Kind, Form | None]
PLANS: tuple[Plan, ...] = (
    ("images", None),
    ("sequences", None),
    ("tensors", None),
    ("images", "qdq"),
    ("products", "dynamic"),
    ("images", None),
    ("sequences", "dynamic"),
    ("images", "qoperator"),
    ("sequences", None),
    ("products", "qoperator"),
    ("images", None),
    ("tensors", None),
    ("images", "qdq-signed"),
    ("sequences", "qdq"),
    ("images", None),
    ("products", None),
    ("images", "qdq"),
    ("sequences", None),
    ("sequences", "four-bits"),
    ("images", "dynamic"),
)
"""In this order, over and over: what networks spend their time in comes more often."""
_MOST_ELEMENTS = 1_600_000
_BLOCKS = {"images": 14, "sequences": 7, "tensors": 48, "products": 16}
_QUANTISED_BLOCKS = {"images": 8, "sequences": 5, "tensors": 20, "products": 8}


def plan_of(seed: int) -> Plan:
    """What the composite of a seed is made of, and the quantised form that it takes, if any."""
    return PLANS[seed % len(PLANS)]


def composite(seed: int) -> onnx.ModelProto:
    """The composite of a seed; the same for the same seed."""
    kind, form = plan_of(seed)
    b = Builder(seed)
    blocks = (_BLOCKS if form is None else _QUANTISED_BLOCKS)[kind]
    {"images": _images, "sequences": _sequences, "tensors": _tensors, "products": _products}[kind](b, blocks)
    return b.model() if form is None else quantised(b.model(), form)


def _images(b: Builder, count: int) -> None:
    side = b.pick(224, 192, 160, 128, 112, 96, 64, 56, 48, 32, 28, 20, 14, 7)
    if side >= 96 and b.chance(0.7):
        x = images.conv(
            b, b.input((1, 3, side, side)), b.width(16, 96), b.pick(3, 4, 7, 11), stride=b.pick(1, 2, 2, 4), act="Relu"
        )
    else:
        channels = b.width(16, max(32, min(1024, 400_000 // side**2)))
        x = images.conv(b, b.input((1, channels, side, side)), channels, 1, act="Relu")
    blocks, shares = zip(*images.BLOCKS, strict=True)
    for _ in range(count):
        x = _smaller(b, b.pick(*blocks, weights=shares)(b, x))
    b.output(x)


def _smaller(b: Builder, x: Value) -> Value:
    """Keep a chain within what networks do: fewer channels where an image is large, a new image where it is small."""
    c, h, w = x.shape[1:]
    if c * h * w > _MOST_ELEMENTS // 2 or c > 1600:
        x = images.conv(
            b, x, max(16, min(c // 4, 512) // 8 * 8), b.pick(1, 3), stride=2 if min(h, w) > 14 else 1, act="Relu"
        )
    if min(x.shape[2:]) < 5:
        side = b.pick(7, 14, 28, 56)
        channels = b.width(32, max(48, min(768, 300_000 // side**2)))
        b.output(x)
        x = images.conv(b, b.input((1, channels, side, side)), channels, 1, act="Relu")
    return x


def _sequences(b: Builder, count: int) -> None:
    steps = b.pick(16, 32, 49, 64, 128, 197, 256, 384, 512, 1500, weights=(2, 2, 2, 3, 4, 3, 2, 1, 1, 0.4))
    width = b.pick(64, 96, 128, 192, 256, 384, 512, 768, 1024)
    while steps * width > 400_000:
        width //= 2
    x = b.matmul(b.input((1, steps, width)), width)
    blocks, shares = zip(*sequences.BLOCKS, strict=True)
    for _ in range(count):
        y = b.pick(*blocks, weights=shares)(b, x)
        steps, width = y.shape[1:]
        if width > 1024 or width < 32 or steps < 8:
            b.output(y)
            y = x
        x = y
    b.output(x)


def _tensors(b: Builder, count: int) -> None:
    blocks, shares = zip(*tensors.BLOCKS, strict=True)
    for _ in range(count):
        b.pick(*blocks, weights=shares)(b)


def _products(b: Builder, count: int) -> None:
    blocks, shares = zip(*tensors.PRODUCTS, strict=True)
    for _ in range(count):
        b.pick(*blocks, weights=shares)(b)
    steps, width = b.log_int(8, 64), b.log_int(32, 512, 8)
    b.output(sequences.recurrent(b, tensors.produced(b, (1, steps, width))))
