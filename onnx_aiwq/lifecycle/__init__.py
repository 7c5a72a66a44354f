"""Life cycles of a deployment (eCAL): a TOML file of data, links, training and inference, as joules per bit.

life = read_lifecycle(Path("deployment.toml"))
result = evaluate(life, network_of(life.model))
result.ecal.joules_per_bit
"""

from __future__ import annotations

from onnx_aiwq.lifecycle.calculation import (
    Costs,
    LifeCycleResult,
    ecal_at,
    evaluate,
    life_cycle_carbon,
    sweep,
)
from onnx_aiwq.lifecycle.document import LifeCycle, Model
from onnx_aiwq.lifecycle.networks import Network, counted_network, network_of
from onnx_aiwq.lifecycle.reading import example_text, parse_lifecycle, read_lifecycle

__all__ = [
    "Costs",
    "LifeCycle",
    "LifeCycleResult",
    "Model",
    "Network",
    "counted_network",
    "ecal_at",
    "evaluate",
    "example_text",
    "life_cycle_carbon",
    "network_of",
    "parse_lifecycle",
    "read_lifecycle",
    "sweep",
]
