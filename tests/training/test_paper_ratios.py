"""The ratios TO/FLOP that the TO paper's Eq. 7 and 8 imply, from its two families of networks.

E = a + b_T TO and E = a' + b_F FLOP are fitted to the same runs, so that b_F / b_T is the slope of TO regressed on FLOP
over the family. FLOP is one MAC of everything that is counted (forward, and backward where it is counted).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import onnx
import pytest

import onnx_aiwq.graph as graphs
from onnx_aiwq.operations.counting import count_graph
from onnx_aiwq.training import training_costs
from onnx_aiwq.transistors import transistor_operations
from paper_networks import CONVOLUTIONAL_DEPTHS, FEED_FORWARD_WIDTHS, convolutional, feed_forward, slope
from training.graphs import total

BATCH = 64


def per_instance(model: onnx.ModelProto, bp: Any) -> tuple[float, float]:
    """FLOP and TO of one instance in a step of 64; forward only without `bp`."""
    graph = graphs.load(model)
    forward = count_graph(graph, convention="paper")
    if bp is None:
        counts = total(forward)
        return counts.macs, transistor_operations(counts)
    step = training_costs(graph, forward, level="training", loss="mse", bp=bp, batch=BATCH, convention="paper")
    counts = total(step)
    return counts.macs / BATCH, transistor_operations(counts) / BATCH


def feed_forward_ratio(bp: Any, activation: str = "Sigmoid") -> float:
    return slope([feed_forward(w, activation) for w in FEED_FORWARD_WIDTHS], lambda model: per_instance(model, bp))


def convolutional_ratio(bp: Any) -> float:
    return slope([convolutional(depth) for depth in CONVOLUTIONAL_DEPTHS], lambda model: per_instance(model, bp))


@pytest.mark.parametrize("published", [8.42e-8 / 3.65e-12, 5.71e-8 / 2.47e-12])
def test_feed_forward_ratio_of_equation_7(published: float) -> None:
    assert published == pytest.approx({True: 23_068, False: 23_117}[published < 23_100], abs=1)
    assert feed_forward_ratio("batch") == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("published", [3.49e-11 / 2.61e-15, 5.73e-10 / 4.29e-14])
def test_convolutional_ratio_of_equation_8(published: float) -> None:
    assert published == pytest.approx({True: 13_357, False: 13_372}[published < 13_365], abs=1)
    assert convolutional_ratio("batch") == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("bp", "expected"), [("batch", 23_041), ("instance", 17_039)])
def test_feed_forward_ratio_of_the_model(bp: str, expected: int) -> None:
    assert feed_forward_ratio(bp) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("bp", "expected"), [("batch", 13_257), ("instance", 13_095)])
def test_convolutional_ratio_of_the_model(bp: str, expected: int) -> None:
    assert convolutional_ratio(bp) == pytest.approx(expected, abs=1)


def test_forward_only_and_the_size_of_the_families() -> None:
    """The forward pass alone cannot be told apart from `bp=batch`; mean FLOPs are those that the paper implies."""
    assert feed_forward_ratio(None) == pytest.approx(23_092 * 1.0005, rel=1e-4)
    macs = [per_instance(feed_forward(width), None)[0] for width in FEED_FORWARD_WIDTHS]
    assert sum(macs) / len(macs) == pytest.approx(334.33, abs=0.01)
    with_backward = [per_instance(feed_forward(width), "batch")[0] for width in FEED_FORWARD_WIDTHS]
    assert sum(with_backward) / len(with_backward) == pytest.approx(344, abs=1)


def test_the_activation_moves_the_ratio() -> None:
    """Tanh costs one mul more than Sigmoid per element and GELU two: their ratios follow in that order."""
    ratios = [feed_forward_ratio("batch", activation) for activation in ("Sigmoid", "Tanh", "Gelu")]
    assert ratios == pytest.approx([23_041, 23_780, 24_542], abs=1)


def test_feed_forward_ratio_from_the_dossier_formulas() -> None:
    """The same number from a closed form that shares no code with the package."""
    add, mul, div, root = 236, 12_736, 15_549, 153_540
    x, y = [], []
    for w in FEED_FORWARD_WIDTHS:
        sizes = (4, w, w, w, 1)
        layers = list(pairwise(sizes))
        macs, neurons = sum(i * o for i, o in layers), sum(sizes[1:])
        forward = macs * (mul + add) + neurons * (add + add + div + root)
        weights = macs * (mul + add) + neurons * add
        inputs = sum(i * o * mul + (o - 1) * i * add for i, o in layers[1:])
        backward = weights + inputs + neurons * (add + 2 * mul)
        step = (macs + neurons) * (mul + add)
        loss = 2 * add + mul
        x.append(macs + (macs + sum(i * o for i, o in layers[1:])) / BATCH)
        y.append(forward + loss + (backward + mul + div + step) / BATCH)
    n, mean_x, mean_y = len(x), sum(x) / len(x), sum(y) / len(y)
    ratio = sum((x[k] - mean_x) * (y[k] - mean_y) for k in range(n)) / sum((x[k] - mean_x) ** 2 for k in range(n))
    assert feed_forward_ratio("batch") == pytest.approx(ratio, rel=1e-12)
