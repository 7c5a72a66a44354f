"""Watts of the work that a calibration samples: from a meter's windows, or from the power model."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from onnx_aiwq.calibration.building import Power
from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.calibration.meters import Meter
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.running import Runtime, feeds_for, inference, open_session
from onnx_aiwq.errors import MeterError

if TYPE_CHECKING:
    from onnx_aiwq.calibration.stored import State


def idle_window(meter: Meter) -> tuple[float, float]:
    """Joules and seconds while nothing is asked of the machine."""
    meter.start()
    time.sleep(max(1.0, meter.minimum_window_s))
    reading = meter.stop()
    return reading.joules, reading.seconds


def energy_window(seed: int, runtime: Runtime, meter: Meter) -> tuple[float, float]:
    """Joules and seconds of a composite that runs over and over for as long as the meter needs."""
    session = open_session(composite(seed).SerializeToString(), runtime)
    run = inference(session, feeds_for(session))
    run()
    meter.start()
    begun = time.perf_counter()
    while time.perf_counter() - begun < max(1.0, meter.minimum_window_s):
        run()
    reading = meter.stop()
    return reading.joules, reading.seconds


def power_of(meter: Meter, state: State) -> Power:
    """Watts from the meter's windows, or from the power model.

    Raises:
        MeterError: if a measuring meter has no windows, or the machine draws no more than when idle.
    """
    if isinstance(meter, PowerModelMeter):
        power = meter.power
        static = power.static_watts or 0.0
        return Power(
            source=meter.label,
            static_watts=static,
            dynamic_watts=power.watts - static,
            low_factor=min(1.0, power.low / power.watts),
            high_factor=max(1.0, power.high / power.watts),
            basis=power.basis,
            scope=meter.scope,
        )
    if not state.windows or not state.idle:
        raise MeterError(f"the {meter.name} meter has measured no window; calibrate without --fit-only")
    watts = [joules / seconds for joules, seconds in state.windows]
    static = statistics.fmean(joules / seconds for joules, seconds in state.idle)
    total = sum(joules for joules, _ in state.windows) / sum(seconds for _, seconds in state.windows)
    if total <= static:
        raise MeterError(
            f"the {meter.name} meter shows {total:.3g} W at work and {static:.3g} W idle: it does not see this work; "
            "use another --meter"
        )
    return Power(
        source=meter.label,
        static_watts=static,
        dynamic_watts=total - static,
        low_factor=min(1.0, min(watts) / total),
        high_factor=max(1.0, max(watts) / total),
        basis=f"{meter.name}: {len(watts)} composites at work, {min(watts):.3g} to {max(watts):.3g} W",
        scope=meter.scope,
    )
