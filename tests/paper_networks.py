"""The slope of TO regressed on FLOP over a family of the TO paper's networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from onnx_aiwq.calibration.reproduction.networks import (
    CONVOLUTIONAL_DEPTHS,
    FEED_FORWARD_WIDTHS,
    convolutional,
    feed_forward,
)

__all__ = ["CONVOLUTIONAL_DEPTHS", "FEED_FORWARD_WIDTHS", "convolutional", "feed_forward", "slope"]


def slope(models: list[onnx.ModelProto], measure: Callable[[onnx.ModelProto], tuple[float, float]]) -> float:
    """The slope of y on x by least squares, (x, y) measured on every model."""
    x, y = np.array([measure(model) for model in models]).T
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
