"""A calibrated profile whose seconds can be worked out by hand: one line for every kernel, no efficiency."""

from __future__ import annotations

from typing import Any

from onnx_aiwq.hardware_profile import Coefficient, Factors, HardwareProfile, Interval
from onnx_aiwq.kernels.model import KernelModel, Line, TimeModel

CALL_S, PER_TO_S, PER_INPUT_BYTE_S, PER_CONSTANT_BYTE_S, PER_OUTPUT_BYTE_S = 1e-6, 1e-15, 2e-11, 3e-11, 4e-11
RUN_S, DYNAMIC_W, STATIC_W = 5e-5, 6.0, 4.0
_FACTORS = Factors(low_factor=0.5, high_factor=2.0, basis="made up")


def time_model(**changes: Any) -> TimeModel:
    """A model of every kernel by one line."""
    line = Line(
        call_s=CALL_S,
        per_to_s=PER_TO_S,
        per_input_byte_s=PER_INPUT_BYTE_S,
        per_constant_byte_s=PER_CONSTANT_BYTE_S,
        per_output_byte_s=PER_OUTPUT_BYTE_S,
    )
    anything = KernelModel(kind="*", dtype="*", samples=100, line=line, log_error=0.1)
    given = {"level": "all", "reference_s": 1e-3, "seconds_per_run": RUN_S, "common_log_error": 0.0}
    return TimeModel(**{**given, "kernels": (anything,), **changes})


def calibrated_profile(**changes: Any) -> HardwareProfile:
    """A profile with `time_model`, 6 W at work above 4 W static."""
    given: dict[str, Any] = {
        "schema": "onnx_aiwq.profile/1",
        "id": "by-hand",
        "name": "A processor by hand",
        "kind": "cpu",
        "provider": "CPUExecutionProvider",
        "source": "modelled",
        "threads": 1,
        "coefficients": (Coefficient(family="*", dtype="*", seconds_per_to=2e-15, joules_per_to=1.2e-14),),
        "seconds_per_byte": 1e-11,
        "joules_per_bit": 1e-12,
        "static_watts": STATIC_W,
        "dynamic_watts": DYNAMIC_W,
        "watts_interval": _FACTORS,
        "seconds_per_node": 1e-6,
        "seconds_per_run": RUN_S,
        "kernels": time_model(),
        "interval": Interval(seconds=_FACTORS, joules=_FACTORS),
    }
    return HardwareProfile(**{**given, **changes})
