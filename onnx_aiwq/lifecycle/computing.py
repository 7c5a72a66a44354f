"""What computation costs in a stage: a constant, peak power over peak rate, or a hardware profile."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING

from onnx_aiwq.datasheets import peak_figures, processor_names
from onnx_aiwq.energy import estimate
from onnx_aiwq.errors import PolicyError, ProfileError, suggestion
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.metrics.carbon import COMPONENT, embodied_share_g, profile_scope
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.transistors import transistors_per_mac
from onnx_aiwq.vocabulary import DType

if TYPE_CHECKING:
    from onnx_aiwq.lifecycle.document import Rate
    from onnx_aiwq.lifecycle.networks import Network

FLOP_ON_PROFILE = (
    "a FLOP is half a float32 multiply-accumulate of a matrix product (elementwise for preprocessing), no bytes moved"
)


_CONSTANT_RATE = 1e10
"""A constant c J/FLOP is c 1e10 W at 1e10 FLOP/s: in this order of arithmetic all 24 published values come out bit for
bit."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Energy and time of some computation; low and high are the ends of its interval, equal to joules without one.

    Attributes:
        joules: J.
        joules_low: J.
        joules_high: J.
        seconds: s; None where only energy is known.
        embodied_g: share of making the hardware, gCO2e; None where unknown.
    """

    joules: float
    joules_low: float
    joules_high: float
    seconds: float | None = None
    embodied_g: float | None = None

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.joules + other.joules,
            self.joules_low + other.joules_low,
            self.joules_high + other.joules_high,
            _both(self.seconds, other.seconds),
            _both(self.embodied_g, other.embodied_g),
        )


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def free_of_hardware(joules: float) -> Spent:
    """Energy of links and storage: exact as the tables are, with no machine whose making would be shared."""
    return Spent(joules, joules, joules, 0.0, 0.0)


@dataclass(frozen=True)
class Machine:
    """How the computation of a stage is priced.

    Attributes:
        label: in words, with how its joules were obtained.
        flops_per_s: for plain FLOPs; joules are number / flops_per_s x watts, in the authors' order of arithmetic.
        watts: likewise.
        timed: whether number / flops_per_s is a time; it is not for a constant.
        profile: for an ONNX model; None without one.
        utilization: share of its powered time that it works.
    """

    label: str
    flops_per_s: float
    watts: float
    timed: bool = True
    profile: HardwareProfile | None = None
    utilization: float = 1.0

    @property
    def scope(self) -> str:
        """What the joules are of; nameplate figures are of the processor."""
        return COMPONENT if self.profile is None else profile_scope(self.profile)

    def flops(self, number: float) -> Spent:
        """Plain FLOPs."""
        seconds = number / self.flops_per_s
        return self._spent(seconds * self.watts, seconds if self.timed else None)

    def forward(self, network: Network, samples: float, factor: float = 1.0) -> Spent | None:
        """Forward passes of some samples, times a factor; None where the network has no price on this profile."""
        if self.profile is None or network.costs is None:
            return self.flops(factor * network.flops_per_sample * samples)
        one = estimate(network.costs, self.profile, utilization=self.utilization, graph=network.graph)
        if one.joules is None or one.seconds is None:
            return None
        runs = factor * samples / network.samples_per_run
        low, high = ((one.joules if end is None else end) * runs for end in (one.joules_low, one.joules_high))
        return replace(self._spent(one.joules * runs, one.seconds * runs), joules_low=low, joules_high=high)

    def _spent(self, joules: float, seconds: float | None) -> Spent:
        if self.profile is None:
            return Spent(joules, joules, joules, seconds, None)
        factors, embodied = self.profile.interval.joules, self.profile.embodied
        share = None if embodied is None or seconds is None else embodied_share_g(embodied, seconds / self.utilization)
        return Spent(joules, joules * factors.low_factor, joules * factors.high_factor, seconds, share)


def machine_of(rate: Rate, *, family: str, default: HardwareProfile | None, utilization: float = 1.0) -> Machine:
    """The machine of a ``[compute]`` table.

    Args:
        rate: how computation costs.
        family: of operators, for plain FLOPs on a profile.
        default: profile where the table says nothing; this machine's, else the reference, if None.
        utilization: share of its powered time that a profile's hardware works.

    Raises:
        AiwqError: if the hardware is not known.
    """
    if rate.joules_per_flop is not None:
        watts = rate.joules_per_flop * _CONSTANT_RATE
        return Machine(f"constant {rate.joules_per_flop:g} J/FLOP", _CONSTANT_RATE, watts, timed=False)
    if rate.watts is not None and rate.flops_per_s is not None:
        return _peak("given", rate.flops_per_s, rate.watts, rate.peak_share)
    if rate.processor is not None:
        name, flops_per_s, watts = _processor(rate.processor)
        return _peak(name, flops_per_s, watts, rate.peak_share)
    profile = load_profile(rate.hardware) if rate.hardware is not None else default or load_profile()
    coefficient = profile.coefficient(family, DType.FLOAT)
    transistors = transistors_per_mac(DType.FLOAT) / 2
    seconds = transistors * coefficient.seconds_per_to
    if seconds <= 0:
        raise ProfileError(
            f"profile {profile.id!r} gives no time to a floating-point operation (seconds_per_to is 0), so that FLOPs "
            "have no power; give an ONNX model instead of a FLOP count, or another profile"
        )
    joules = transistors * coefficient.joules_per_to + profile.static_watts * seconds / utilization
    label = f"{profile.source}: {profile.name}"
    return Machine(label, 1 / seconds, joules / seconds, profile=profile, utilization=utilization)


def _peak(name: str, flops_per_s: float, watts: float, share: float) -> Machine:
    reached = "" if share == 1 else f", {share:g} of it reached"
    label = f"nameplate: {name}, {watts:g} W over {flops_per_s:g} FLOP/s{reached}"
    return Machine(label, flops_per_s * share, watts)


@functools.cache
def _package_processors() -> dict[str, tuple[float, float]]:
    text = (resources.files("onnx_aiwq") / "data" / "ecal_processors.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["name"]: (float(row["flops_per_s"]), float(row["watts"])) for row in rows}


def _processor(name: str) -> tuple[str, float, float]:
    """Full name, peak FLOP/s and watts of a processor of the eCAL package or of the hardware list."""
    own = _package_processors()
    if name in own:
        return f"{name} of the eCAL package", *own[name]
    found = peak_figures(name)
    if found is not None:
        return found
    near = suggestion(name, [*own, *processor_names()])
    raise PolicyError(
        f"[compute] processor {name!r}: no peak rate and TDP known;{near} expected one of {', '.join(own)}, or a "
        "processor of `aiwq hardware`; watts and flops_per_s give them directly"
    )
