"""Shape rules of our own, where the libraries are silent, say less than is known, or are wrong.

Each rule states the shapes of an operator's outputs from those of its inputs and from what is known of their elements.
A dimension that run-time data decides is `Open`, with the most that it can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from onnx_aiwq.graph.entries import Entry
from onnx_aiwq.symbolic import Formula

# As the end of a slice these mean "to the end", and for onnxruntime also "to the start" where it goes backwards.
TO_THE_END = frozenset({2**31 - 1, 2**63 - 1})


class Open(msgspec.Struct, frozen=True, eq=False):
    """A dimension that run-time data decides; one object in several outputs is one dimension.

    Attributes:
        upper: the most that it can be, where that is known.
    """

    upper: int | None = None


class Typed(msgspec.Struct, frozen=True):
    """A shape together with the element type, by its ONNX number; dims is None where only the type is known."""

    number: int
    dims: Sequence[int | Open] | None


# Dimensions, with the type or without; or a tensor that the output is like; None where no rule states anything.
OutputShape: TypeAlias = "Sequence[int | Open] | Typed | Entry | None"


class Facts(msgspec.Struct, frozen=True):
    """What a rule may look at.

    Attributes:
        attributes: of the node, as Python values.
        inputs: of the node.
        version: of the operator set.
        outputs: how many the node has.
    """

    attributes: Mapping[str, Any]
    inputs: Sequence[Entry | None]
    version: int
    outputs: int

    def shape(self, index: int) -> tuple[int, ...] | None:
        """The shape of an input; None where it is absent or unknown."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        return None if entry is None else entry.shape

    def number(self, index: int) -> int:
        """The element type of an input by its ONNX number; 0 where it is absent or unknown."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        return 0 if entry is None else int(entry.value.dtype or 0)

    def has(self, index: int) -> bool:
        """Whether an optional input is given; an empty tensor stands for none in old models."""
        return index < len(self.inputs) and self.inputs[index] is not None and self.shape(index) != (0,)

    def elements(self, index: int) -> list[Any] | None:
        """The elements of an input; None where it is absent or they are unknown."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        return None if entry is None or entry.data is None else list(entry.data.reshape(-1))

    def integers(self, index: int) -> list[int] | None:
        """The elements of an input as plain integers; None where it is absent, or one is unknown or a formula."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        if entry is None or entry.data is None or entry.data.dtype == object:
            return None
        return [int(element) for element in entry.data.reshape(-1)]


def _largest(*sizes: int | None) -> int | None:
    """The smallest of several upper bounds, as far as they are numbers."""
    return min((size for size in sizes if isinstance(size, int)), default=None)


def _non_zero(facts: Facts) -> Sequence[OutputShape]:
    shape, elements = facts.shape(0), facts.elements(0)
    if shape is None or elements is not None:
        return ()
    return [(len(shape), Open(math.prod(shape)))]


def _compress(facts: Facts) -> Sequence[OutputShape]:
    shape, condition = facts.shape(0), facts.shape(1)
    chosen = facts.elements(1)
    if shape is None:
        return ()
    axis = facts.attributes.get("axis")
    dims: list[int | Open] = list(shape) if axis is not None else [math.prod(shape)]
    position = 0 if axis is None else int(axis)
    most = dims[position]
    if chosen is not None:
        dims[position] = sum(bool(each) for each in chosen)
    else:
        dims[position] = Open(_largest(most if isinstance(most, int) else None, condition[0] if condition else None))
    return [dims]


def _unique(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None:
        return ()
    axis = facts.attributes.get("axis")
    whole = math.prod(shape) if axis is None else shape[axis]
    number: int | Open = Open(whole if isinstance(whole, int) else None)
    entry = facts.inputs[0]
    if entry is not None and entry.data is not None and entry.data.dtype != object:
        number = int(np.unique(entry.data, axis=axis).shape[axis or 0])
    values: list[int | Open] = [number] if axis is None else list(shape)
    if axis is not None:
        values[axis] = number
    return [values, [number], [whole], [number]]


def _non_max_suppression(facts: Facts) -> Sequence[OutputShape]:
    boxes, scores, limit = facts.shape(0), facts.shape(1), facts.integers(2)
    if not facts.has(2) or (limit and limit[0] <= 0):
        return [(0, 3)]  # the default is not to select any box
    if boxes is None or scores is None:
        return ()
    each = _largest(boxes[1], limit[0] if limit else None)
    most = None if each is None else scores[0] * scores[1] * each
    return [(Open(most if isinstance(most, int) else None), 3)]


def _string_normalizer(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if not shape or not facts.attributes.get("stopwords"):
        return ()
    return [(*shape[:-1], Open(shape[-1]))]


def _image_decoder(facts: Facts) -> Sequence[OutputShape]:
    channels = 1 if facts.attributes.get("pixel_format", "RGB") == "Grayscale" else 3
    return [(Open(), Open(), channels)]


def _top_k(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    if shape is None or len(facts.inputs) < 2 or facts.elements(1) is not None:
        return ()
    dims: list[int | Open] = list(shape)
    axis = facts.attributes.get("axis", -1)
    dims[axis] = Open(shape[axis])
    return [dims, dims]


def _slice(facts: Facts) -> Sequence[OutputShape]:
    shape, count = facts.shape(0), facts.shape(1)
    if shape is None or not count or facts.version < 10 or count[0] > len(shape):
        return ()
    starts, ends, steps = facts.integers(1), facts.integers(2), facts.integers(4) if facts.has(4) else [1] * count[0]
    axes = facts.integers(3) if facts.has(3) else list(range(count[0]))
    if axes is None:
        return [[Open(size) for size in shape]]
    if starts is None or ends is None or steps is None:
        if facts.elements(1) is not None and facts.elements(2) is not None:
            return ()  # formulas: the library slices by them
        cut = {axis % len(shape) for axis in axes}
        return [[Open(size) if axis in cut else size for axis, size in enumerate(shape)]]
    if not all(isinstance(shape[axis], int) for axis in axes):
        return ()
    dims = list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dims[axis] = _slice_length(shape[axis], start, end, step)
    return [dims]


def _slice_length(size: int, start: int, end: int, step: int) -> int:
    """Elements from start to end; both count from the back where negative, and are clamped to the tensor."""
    if step < 0 and end in TO_THE_END:
        end = -size - 1
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = (min(max(bound + size if bound < 0 else bound, low), high) for bound in (start, end))
    return len(range(first, last, step))


def _one_hot(facts: Facts) -> Sequence[OutputShape]:
    shape, depth = facts.shape(0), facts.elements(1)
    if shape is None:
        return ()
    axis = facts.attributes.get("axis", -1)
    dims: list[int | Open] = list(shape)
    dims.insert(axis if axis >= 0 else len(shape) + 1 + axis, int(depth[0]) if depth else Open())
    return [dims]


def _range(facts: Facts) -> Sequence[OutputShape]:
    bounds = [facts.elements(index) for index in range(3)]
    numbers = [bound[0] for bound in bounds if bound]
    if len(numbers) < 3 or any(isinstance(number, int | np.integer | Formula) for number in numbers):
        return ()  # of whole numbers, and formulas among them, the library makes a dimension
    start, limit, step = map(float, numbers)
    return [[max(math.ceil((limit - start) / step), 0)]] if step else ()


def _mel_weight_matrix(facts: Facts) -> Sequence[OutputShape]:
    bands, length = facts.integers(0), facts.integers(1)
    return [(length[0] // 2 + 1 if length else Open(), bands[0] if bands else Open())]


def _max_unpool(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    return () if shape is None else [max_unpool(facts, shape)]


def max_unpool(facts: Facts, shape: Sequence[int]) -> Sequence[int | Open]:
    """The output of MaxUnpool for an input of a shape [n, c, ...]; its third input, where given, states it."""
    if facts.has(2):
        given = facts.integers(2)
        return given if given else [*shape[:2], *(Open() for _ in shape[2:])]
    kernel = facts.attributes["kernel_shape"]
    rank = len(kernel)
    strides = facts.attributes.get("strides") or (1,) * rank
    pads = facts.attributes.get("pads") or (0,) * 2 * rank
    return [
        *shape[:2],
        *((shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank)),
    ]


def _resize(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    scales_at, sizes_at = (1, 9) if facts.version == 10 else (2, 3)
    sizes, scales = facts.integers(sizes_at), facts.elements(scales_at)
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return ()
    axes = [axis % len(shape) for axis in facts.attributes.get("axes") or range(len(shape))]
    dims: list[int | Open] = list(shape)
    if facts.has(sizes_at):
        for axis, size in zip(axes, _fitted(facts, shape, axes, sizes), strict=True):
            dims[axis] = size
    elif facts.has(scales_at):
        for index, axis in enumerate(axes):
            dims[axis] = _scaled(shape[axis], scales[index]) if scales else Open()
    return [dims]


def _fitted(
    facts: Facts, shape: Sequence[int], axes: Sequence[int], sizes: Sequence[int] | None
) -> Sequence[int | Open]:
    """The sizes asked for, or those that keep the aspect ratio."""
    policy = facts.attributes.get("keep_aspect_ratio_policy", "stretch")
    if sizes is None:
        return [Open() for _ in axes]
    if policy == "stretch":
        return sizes
    ratios = [np.float32(size) / np.float32(shape[axis]) for size, axis in zip(sizes, axes, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    # Rounded half up.
    return [math.floor(np.float32(ratio) * np.float32(shape[axis]) + np.float32(0.5)) for axis in axes]


def _scaled(size: int, scale: Any) -> int:
    """floor(size * scale) in single precision, as runtimes compute it: 10 * 0.7 is 7, which doubles make 6."""
    with np.errstate(over="ignore"):  # infinity has no floor, which ends the rule
        return math.floor(np.float32(size) * np.float32(scale))


def _gradient(facts: Facts) -> Sequence[OutputShape]:
    names = facts.attributes.get("xs", ())
    return facts.inputs[: len(names)]


def _upsample(facts: Facts) -> Sequence[OutputShape]:
    shape = facts.shape(0)
    scales = facts.elements(1) if facts.version >= 9 else facts.attributes.get("scales")
    if shape is None or not all(isinstance(dim, int) for dim in shape) or facts.version < 7:
        return ()
    if not scales:
        return [[Open() for _ in shape]]
    return [[_scaled(dim, scale) for dim, scale in zip(shape, scales, strict=True)]]


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    ("", "Compress"): _compress,
    ("", "ImageDecoder"): _image_decoder,
    ("", "MaxUnpool"): _max_unpool,
    ("", "MelWeightMatrix"): _mel_weight_matrix,
    ("", "NonMaxSuppression"): _non_max_suppression,
    ("", "NonZero"): _non_zero,
    ("", "OneHot"): _one_hot,
    ("", "Range"): _range,
    ("", "Resize"): _resize,
    ("", "Slice"): _slice,
    ("", "StringNormalizer"): _string_normalizer,
    ("", "TopK"): _top_k,
    ("", "Unique"): _unique,
    ("", "Upsample"): _upsample,
    ("ai.onnx.preview.training", "Gradient"): _gradient,
}
