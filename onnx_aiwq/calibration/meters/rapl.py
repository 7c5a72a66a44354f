"""RAPL by Linux powercap: the energy counters of the processor package and, where there is one, of DRAM.

The counters are those of /sys/class/powercap/intel-rapl:N and their children; AMD processors since Zen appear under the
same name. Domains nest: psys covers packages, a package covers core and uncore, but not DRAM, although DRAM is listed
below it. So packages and DRAM are added, and nothing else. A counter wraps at its own range, in minutes on a busy
server: a thread reads it often enough that it wraps at most once between two readings.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnx_aiwq.calibration.machine import is_virtual, read_processor
from onnx_aiwq.calibration.meters.polling import Poller
from onnx_aiwq.calibration.meters.protocol import (
    MeterUnavailableError,
    Reading,
    counted_reading,
    no_window,
    open_window,
)
from onnx_aiwq.errors import MeterError
from onnx_aiwq.hardware_profile import Source

POWERCAP = Path("/sys/class/powercap")
HIGHEST_POWER_W = 2000.0
"""No domain draws more (the largest TDP of a CPU in the hardware list is 390 W): a step that would need more power is
no wrap of the counter, and between readings further apart than range / HIGHEST_POWER_W wraps cannot be counted."""
UPDATE_S = 0.001
"""The counters are updated about once per millisecond (Intel SDM vol. 3B): each end of a window is off by as
much."""
_LONGEST_POLL_S = 10.0
_ZONE = re.compile(r"(intel-rapl(?:-mmio)?):(\d+)(?::(\d+))?")

_NO_POWERCAP = (
    "on bare metal load the driver (`sudo modprobe intel_rapl_msr`, or rapl on older kernels) and see that the kernel "
    "has CONFIG_POWERCAP; a virtual machine or container may not be given the counters: measure on the host, or give "
    "--watts"
)
_PERMISSION = (
    "since 2020 the counters are readable by root alone (CVE-2020-8694: they leak what other processes do). Where that "
    "is acceptable, allow reading until the next boot with `sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj`, "
    'or for good with a udev rule: SUBSYSTEM=="powercap", ACTION=="add", KERNEL=="intel-rapl*:*", '
    'RUN+="/bin/chmod a+r /sys%p/energy_uj"'
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One energy counter.

    Attributes:
        folder: its folder below the powercap root.
        id: ``intel-rapl:0`` or ``intel-rapl:0:1``.
        name: what its `name` file says: package-0, dram, core, uncore, psys.
    """

    folder: Path
    id: str
    name: str

    @property
    def parent(self) -> str:
        """Id of the zone that it is listed below; empty at the top."""
        return self.id.rpartition(":")[0] if self.id.count(":") == 2 else ""


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii")


class RaplMeter:
    """Package and DRAM energy from powercap; measured.

    Args:
        root: powercap folder, for recorded trees.
        read: reads one file; for recorded counters.
        clock: seconds of a monotonic clock.
        system: root of /proc and /sys, to tell a virtual machine and an AMD processor.

    Raises:
        MeterUnavailableError: if there is no counter, or it may not be read; says what to do.
    """

    name = "rapl"
    label: Source = "measured"
    minimum_window_s = 1.0

    def __init__(
        self,
        root: Path = POWERCAP,
        *,
        read: Callable[[Path], str] = _read,
        clock: Callable[[], float] = time.monotonic,
        system: Path = Path("/"),
    ) -> None:
        self._read = read
        self._clock = clock
        amd = read_processor(system).vendor in ("AuthenticAMD", "HygonGenuine")
        zones, notes = select_zones(find_zones(root, read, system), amd)
        self._counters = [_Counter(label, zone, self._value, self._range_uj(zone)) for label, zone in zones.items()]
        for counter in self._counters:
            self._value(counter.zone)
        self.scope = _scope(zones)
        self.notes = notes
        poll_s = min([_LONGEST_POLL_S, *(counter.safe_s / 4 for counter in self._counters)])
        self._poller = Poller("aiwq-rapl", self.poll, poll_s)
        self._lock = threading.Lock()
        self._started_s: float | None = None

    def start(self) -> None:
        """Begin a window; see `Meter.start`."""
        if self._started_s is not None:
            raise open_window(self.name)
        for counter in self._counters:
            counter.begin(self._clock())
        self._started_s = self._clock()
        self._poller.begin()

    def poll(self) -> None:
        """Read every counter once, so that none can wrap twice unseen; the meter's own thread does it in time.

        Raises:
            MeterError: if a counter cannot be read, went backwards, or was read too late to count its wraps.
        """
        with self._lock:
            for counter in self._counters:
                counter.advance(self._clock())

    def stop(self) -> Reading:
        """End the window; see `Meter.stop`."""
        started_s = self._started_s
        if started_s is None:
            raise no_window(self.name)
        try:
            self._poller.end()
            self.poll()
        finally:
            self._started_s = None
        seconds = self._clock() - started_s
        by_domain = {counter.label: counter.joules for counter in self._counters}
        notes = self._check_moving(by_domain, seconds)
        return counted_reading(self, by_domain, seconds, UPDATE_S, notes)

    def close(self) -> None:
        """End the thread that reads the counters."""
        self._poller.close()
        self._started_s = None

    def _check_moving(self, by_domain: dict[str, float], seconds: float) -> tuple[str, ...]:
        """A counter that stands still for a second is no measurement of zero joules."""
        if seconds < self.minimum_window_s:
            return ()
        still = [label for label, joules in by_domain.items() if joules == 0]
        if len(still) == len(by_domain) or any(not label.startswith("dram") for label in still):
            raise MeterError(
                f"rapl: {', '.join(still)} did not move in {seconds:.3g} s, so the counter does not count here (some "
                "hypervisors show a dead one); measure on the host, or give --watts"
            )
        return (f"rapl: {', '.join(still)} did not move; DRAM is not covered",) if still else ()

    def _value(self, zone: Zone) -> int:
        return _number(zone.folder / "energy_uj", self._read)

    def _range_uj(self, zone: Zone) -> int:
        path = zone.folder / "max_energy_range_uj"
        value = _number(path, self._read)
        if value <= 0:
            raise MeterUnavailableError(f"rapl: {path} says {value}, expected a positive range", _NO_POWERCAP)
        return value


class _Counter:
    """Energy of one zone since `begin`, over any number of wraps."""

    def __init__(self, label: str, zone: Zone, value: Callable[[Zone], int], range_uj: int) -> None:
        self.label = label
        self.zone = zone
        self.safe_s = range_uj / 1e6 / HIGHEST_POWER_W
        self._value = value
        self._range_uj = range_uj
        self._total_uj = 0
        self._last_uj = 0
        self._last_s = 0.0

    @property
    def joules(self) -> float:
        return self._total_uj / 1e6

    def begin(self, now_s: float) -> None:
        self._total_uj = 0
        self._last_uj = self._value(self.zone)
        self._last_s = now_s

    def advance(self, now_s: float) -> None:
        value = self._value(self.zone)
        elapsed_s = now_s - self._last_s
        if elapsed_s > self.safe_s:
            raise MeterError(
                f"rapl: {self.zone.id} ({self.zone.name}) was not read for {elapsed_s:.0f} s, in which its counter may "
                f"have wrapped more than once (range {self._range_uj / 1e6:.0f} J); the machine was suspended or "
                "overloaded: measure again"
            )
        step_uj = value - self._last_uj
        if step_uj < 0:
            step_uj += self._range_uj
            if step_uj < 0 or step_uj / 1e6 > HIGHEST_POWER_W * max(elapsed_s, UPDATE_S):
                raise MeterError(
                    f"rapl: {self.zone.id} ({self.zone.name}) went backwards from {self._last_uj} to {value} uJ in "
                    f"{elapsed_s:.3g} s, which is no wrap at its range of {self._range_uj} uJ; the driver was reloaded "
                    "or the counter is faulty: measure again"
                )
        self._total_uj += step_uj
        self._last_uj = value
        self._last_s = now_s


def find_zones(root: Path, read: Callable[[Path], str] = _read, system: Path = Path("/")) -> list[Zone]:
    """Every energy counter below a powercap folder, once, whether it is listed flat or nested.

    Raises:
        MeterUnavailableError: if there is none.
    """
    if not root.is_dir():
        where = "this is a virtual machine" if is_virtual(system) else "no powercap driver is loaded"
        raise MeterUnavailableError(f"rapl: {root} does not exist: {where}", _NO_POWERCAP)
    folders: dict[str, Path] = {}
    # /sys lists a child beside its parent and below it; both lead to the same counter.
    for pattern in ("intel-rapl*:*", "intel-rapl*/intel-rapl*:*", "intel-rapl*/intel-rapl*:*/intel-rapl*:*"):
        for folder in sorted(root.glob(pattern)):
            if _ZONE.fullmatch(folder.name):
                folders.setdefault(folder.name, folder)
    zones = []
    for identity, folder in folders.items():
        try:
            zones.append(Zone(folder, identity, read(folder / "name").strip()))
        except OSError:
            continue  # a control type without a name is no counter
    if not zones:
        raise MeterUnavailableError(f"rapl: {root} holds no intel-rapl zone", _NO_POWERCAP)
    return sorted(zones, key=_order)


def _order(zone: Zone) -> tuple[str, list[int]]:
    prefix, *numbers = zone.id.split(":")
    return prefix, [int(number) for number in numbers]


def select_zones(zones: list[Zone], amd: bool = False) -> tuple[dict[str, Zone], tuple[str, ...]]:
    """The counters that together cover packages and DRAM once, by label, and what was left out for a reason.

    Raises:
        MeterUnavailableError: if neither a package nor psys is among them.
    """
    notes: list[str] = []
    through_msr = [zone for zone in zones if not zone.id.startswith("intel-rapl-mmio")]
    if through_msr:
        zones = through_msr  # the MMIO interface shows the same package a second time
    else:
        notes.append("rapl: read through the MMIO interface, the only one here")
    tops = _once([zone for zone in zones if zone.name.startswith("package")], amd, notes)
    if not tops:
        platform = [zone for zone in zones if zone.name == "psys"]
        if not platform:
            names = ", ".join(f"{zone.id} ({zone.name})" for zone in zones)
            raise MeterUnavailableError(f"rapl: no package counter among {names}", _NO_POWERCAP)
        notes.append("rapl: there is no package counter; psys covers the whole platform")
        return {"psys": platform[0]}, tuple(notes)
    chosen = {top.name: top for top in tops}
    kept = {top.id for top in tops}
    for zone in zones:
        if zone.name == "dram" and (not zone.parent or zone.parent in kept):
            owner = next((top.name for top in tops if top.id == zone.parent), zone.id)
            chosen[f"dram of {owner}"] = zone
    if len(chosen) == len(tops):
        notes.append("rapl: no DRAM counter (AMD processors and many desktops have none); memory is not covered")
    return chosen, tuple(notes)


def _once(packages: list[Zone], amd: bool, notes: list[str]) -> list[Zone]:
    """Packages without those that show another one's counter again."""
    kept: dict[str, Zone] = {}
    for zone in packages:
        # First-generation multi-die AMD parts show the counter of the whole socket once per die.
        socket = re.sub(r"-die-\d+$", "", zone.name) if amd else zone.name
        if socket in kept:
            notes.append(f"rapl: {zone.id} ({zone.name}) repeats {kept[socket].id}; not added")
        else:
            kept[socket] = zone
    return list(kept.values())


def _scope(zones: dict[str, Zone]) -> str:
    if "psys" in zones:
        return "platform (psys)"
    return "CPU package + DRAM" if any(label.startswith("dram") for label in zones) else "CPU package"


def _number(path: Path, read: Callable[[Path], str]) -> int:
    try:
        text = read(path).strip()
    except PermissionError:
        raise MeterUnavailableError(f"rapl: {path} may not be read by this user", _PERMISSION) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MeterUnavailableError(f"rapl: {path} cannot be read: {reason}", _NO_POWERCAP) from None
    if not text.isdecimal():
        raise MeterUnavailableError(f"rapl: {path} says {text[:40]!r}, expected microjoules", _NO_POWERCAP)
    return int(text)
