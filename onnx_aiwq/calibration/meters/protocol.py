"""What every energy meter offers, and how one says that it cannot be used here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from onnx_aiwq.errors import MeterError
from onnx_aiwq.hardware_profile import Source


class MeterUnavailableError(MeterError):
    """A meter that this machine does not offer.

    Attributes:
        reason: why it cannot be used.
        next_step: what would make it usable.
    """

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(f"{reason}; {next_step}")
        self.reason = reason
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Reading:
    """Energy of one window.

    Attributes:
        joules: energy of the window, J, over everything that the meter's scope covers.
        joules_low: low end of what the meter can tell, J; see `notes` for what the interval covers.
        joules_high: high end, J.
        seconds: length of the window, s.
        label: how the joules were obtained.
        scope: what they cover.
        by_domain: joules by part of the scope, J; they add up to `joules`.
        notes: what a reader of the figure has to know.
    """

    joules: float
    joules_low: float
    joules_high: float
    seconds: float
    label: Source
    scope: str
    by_domain: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def watts(self) -> float:
        """Mean power of the window, W; zero for a window without length."""
        return self.joules / self.seconds if self.seconds else 0.0


class Meter(Protocol):
    """An energy meter: `start`, run what is to be measured, `stop`; as often as needed, then `close`.

    Attributes:
        name: "rapl", "nvml", "replay" or "power-model".
        label: how its joules are obtained; travels with every number.
        scope: what its joules cover.
        minimum_window_s: a shorter window is not to be trusted, s; its reading says so.
        notes: what a caller prints when it opens the meter, a fallback and its reason among it.
    """

    name: str
    label: Source
    scope: str
    minimum_window_s: float
    notes: tuple[str, ...]

    def start(self) -> None:
        """Begin a window.

        Raises:
            MeterError: if the meter cannot be read, or a window is open already.
        """

    def stop(self) -> Reading:
        """End the window that `start` began.

        Raises:
            MeterError: if no window is open, or what the meter gave makes no sense (a counter that goes backwards).
        """

    def close(self) -> None:
        """Give back what the meter holds: threads, libraries. May be called more than once."""


@dataclass(frozen=True, slots=True)
class MeterStatus:
    """Whether a meter can be used on this machine.

    Attributes:
        name: name of the meter.
        usable: whether it can be opened and read now.
        label: how its joules would be obtained.
        scope: what they would cover; empty where it is not usable.
        reason: why it is usable or not.
        next_step: what to do; empty where nothing is to be done.
    """

    name: str
    usable: bool
    label: Source
    scope: str
    reason: str
    next_step: str = ""


def counted_reading(
    meter: Meter, by_domain: Mapping[str, float], seconds: float, update_s: float, notes: tuple[str, ...] = ()
) -> Reading:
    """The reading of a meter whose counter is updated every `update_s`: each end of the window is off by up to that."""
    joules = sum(by_domain.values())
    blur = min(1.0, update_s / seconds) if seconds > 0 else 1.0
    return Reading(
        joules=joules,
        joules_low=joules * (1 - blur),
        joules_high=joules * (1 + blur),
        seconds=seconds,
        label=meter.label,
        scope=meter.scope,
        by_domain=by_domain,
        notes=(*notes, *short_window(meter.name, seconds, meter.minimum_window_s)),
    )


def no_window(name: str) -> MeterError:
    """The error of `stop` without `start`."""
    return MeterError(f"{name}: stop without a window; call start first")


def open_window(name: str) -> MeterError:
    """The error of `start` within a window."""
    return MeterError(f"{name}: a window is open; call stop before the next start")


def short_window(name: str, seconds: float, minimum_window_s: float) -> tuple[str, ...]:
    """The note on a window that is shorter than the meter can resolve; nothing for one that is long enough."""
    if seconds >= minimum_window_s:
        return ()
    return (
        f"{name}: a window of {seconds:.3g} s is shorter than the {minimum_window_s:g} s that this meter needs; "
        "repeat the work for longer",
    )
