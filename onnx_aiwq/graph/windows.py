"""How many windows a convolution or a pooling makes along each spatial axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx_aiwq.symbolic import Dim, at_most


def windows(sizes: Sequence[Dim], kernel: Sequence[int], attributes: Mapping[str, Any]) -> list[int]:
    """Output sizes from input sizes.

    Args:
        sizes: spatial dimensions of the input, numbers or formulas.
        kernel: size of the window along each.
        attributes: strides, dilations, pads, auto_pad and ceil_mode, as ONNX defines them.
    """
    rank = len(kernel)
    strides = attributes.get("strides") or (1,) * rank
    dilations = attributes.get("dilations") or (1,) * rank
    pads = attributes.get("pads") or (0,) * 2 * rank
    kind = attributes.get("auto_pad") or "NOTSET"
    result: list[Dim] = []
    for axis, size in enumerate(sizes):
        stride, reach = strides[axis], dilations[axis] * (kernel[axis] - 1) + 1
        before, after = (pads[axis], pads[rank + axis]) if kind == "NOTSET" else (0, 0)
        if kind.startswith("SAME"):
            result.append(-(-size // stride))
        elif attributes.get("ceil_mode"):
            # The last window must start within the tensor or the padding before it.
            number = -(-(size + before + after - reach) // stride) + 1
            result.append(at_most(number, -(-(size + before) // stride)))
        else:
            result.append((size + before + after - reach) // stride + 1)
    return result  # type: ignore[return-value]  # formulas stand for ints in shapes


def transposed_windows(
    sizes: Sequence[Dim], kernel: Sequence[int], attributes: Mapping[str, Any], pads: Sequence[int] | None = None
) -> list[int]:
    """Output sizes of a transposed convolution.

    Args:
        sizes: spatial dimensions of the input, numbers or formulas.
        kernel: size of the kernel along each.
        attributes: strides, dilations, pads, output_padding, output_shape and auto_pad, as ONNX defines them.
        pads: instead of those of the attributes.
    """
    rank = len(kernel)
    strides = attributes.get("strides") or (1,) * rank
    dilations = attributes.get("dilations") or (1,) * rank
    extra = attributes.get("output_padding") or (0,) * rank
    kind = attributes.get("auto_pad") or "NOTSET"
    if attributes.get("output_shape"):
        return list(attributes["output_shape"])[-rank:]
    if kind.startswith("SAME"):
        return [size * stride for size, stride in zip(sizes, strides, strict=True)]
    cropped = (pads or attributes.get("pads") or (0,) * 2 * rank) if kind == "NOTSET" else (0,) * 2 * rank
    result: list[Dim] = [
        strides[axis] * (size - 1)
        + extra[axis]
        + dilations[axis] * (kernel[axis] - 1)
        + 1
        - cropped[axis]
        - cropped[rank + axis]
        for axis, size in enumerate(sizes)
    ]
    return result  # type: ignore[return-value]  # formulas stand for ints in shapes
