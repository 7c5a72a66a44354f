"""Activations that a convolution or a matrix product applies to its own result."""

from __future__ import annotations

from typing import Any

from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

CONTRIB = "com.microsoft"
_NEAR = 1e-6  # how far a number may be from that of HardSwish, which no float32 is exactly
_GEMM_ACTIVATIONS = frozenset(
    {
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)


def activation_of(work: WorkingGraph, node: Node) -> dict[str, Any] | None:
    """The attributes that say to a convolution which activation it applies, None where it can apply none."""
    if node.is_a("Relu", "Sigmoid", "Tanh"):
        return {"activation": node.op_type}
    if node.is_a("LeakyRelu"):
        return {"activation": "LeakyRelu", "activation_params": (float(node.attributes.get("alpha", 0.01)),)}
    if node.is_a("HardSigmoid"):
        parameters = (float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5)))
        return {"activation": "HardSigmoid", "activation_params": parameters}
    if node.is_a("Clip"):
        bounds = clip_bounds(work, node)
        return None if bounds is None else {"activation": "Clip", "activation_params": bounds}
    return None


def is_gate_of_hard_swish(node: Node) -> bool:
    """Whether x times this HardSigmoid of x is HardSwish: its slope a sixth and its offset a half."""
    slope, offset = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    return abs(slope - 1 / 6) < _NEAR and abs(offset - 0.5) < _NEAR


def clip_bounds(work: WorkingGraph, node: Node) -> tuple[float, float] | None:
    """The constant bounds of a Clip."""
    if len(node.inputs) == 1 and ("min" in node.attributes or "max" in node.attributes):
        return float(node.attributes.get("min", -3.4e38)), float(node.attributes.get("max", 3.4e38))
    bounds = []
    for index, default in ((1, -3.4028234663852886e38), (2, 3.4028234663852886e38)):
        value = work.scalar(node.input(index)) if node.input(index) else default
        if value is None:
            return None
        bounds.append(value)
    return bounds[0], bounds[1]


def convolution_activation(work: WorkingGraph) -> None:
    """Conv and the activation that alone reads it become FusedConv."""
    for node in work.of_type("Conv"):
        following = work.only_reader(node)
        if following is None or following.inputs[0] != node.output or work.dtype(node.output) is not DType.FLOAT:
            continue
        added = activation_of(work, following)
        if added is not None:
            attributes = {**node.attributes, **added}
            work.fuse(node, [following], "FusedConv", CONTRIB, node.inputs, following.outputs, attributes)


def product_activation(work: WorkingGraph) -> None:
    """Gemm and the activation that alone reads it become FusedGemm."""
    for node in work.of_type("Gemm"):
        following = work.only_reader(node)
        if following is None or following.op_type not in _GEMM_ACTIVATIONS or following.domain:
            continue
        if work.dtype(node.output) is not DType.FLOAT:
            continue
        parameters = {f"activation_{name}": value for name, value in following.attributes.items()}
        attributes = {**node.attributes, "activation": following.op_type, **parameters}
        work.fuse(node, [following], "FusedGemm", CONTRIB, node.inputs, following.outputs, attributes)
