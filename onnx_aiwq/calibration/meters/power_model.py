"""The power model: seconds that are measured times watts that are not; for machines without a meter."""

from __future__ import annotations

import time
from collections.abc import Callable

from onnx_aiwq.calibration.meters.protocol import Reading, no_window, open_window
from onnx_aiwq.calibration.meters.watts import PowerEstimate
from onnx_aiwq.hardware_profile import Source


class PowerModelMeter:
    """Watts x seconds; modelled, never measured.

    Args:
        power: watts with their interval, from `onnx_aiwq.calibration.meters.watts`.
        clock: seconds of a monotonic clock.
    """

    name = "power-model"
    label: Source = "modelled"
    minimum_window_s = 0.0

    def __init__(self, power: PowerEstimate, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.power = power
        self.scope = power.scope
        self.notes: tuple[str, ...] = (
            f"power-model: {power.watts:.3g} W ({power.low:.3g} to {power.high:.3g} W), not measured; {power.basis}",
        )
        self._clock = clock
        self._started_s: float | None = None

    def start(self) -> None:
        """Begin a window; see `Meter.start`."""
        if self._started_s is not None:
            raise open_window(self.name)
        self._started_s = self._clock()

    def stop(self) -> Reading:
        """End the window; see `Meter.stop`. The interval is that of the watts: the seconds are taken as exact."""
        if self._started_s is None:
            raise no_window(self.name)
        seconds = self._clock() - self._started_s
        self._started_s = None
        joules = self.power.watts * seconds
        static_j = (self.power.static_watts or 0.0) * seconds
        known = self.power.static_watts is not None
        return Reading(
            joules=joules,
            joules_low=self.power.low * seconds,
            joules_high=self.power.high * seconds,
            seconds=seconds,
            label=self.label,
            scope=self.scope,
            by_domain={"static": static_j, "dynamic": joules - static_j} if known else {"total": joules},
            notes=(self.power.basis,),
        )

    def close(self) -> None:
        """Nothing is held."""
        self._started_s = None
