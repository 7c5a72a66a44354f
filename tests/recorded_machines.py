"""Recorded machines: powercap trees, /proc and /sys files, counters that tick as a test says, a stand-in for a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RANGE_UJ = 262_143_328_850  # of an Intel server, about 262 kJ

# A laptop: two packages would be servers; here one package with its parts, psys beside it, and the MMIO duplicate.
LAPTOP = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "uncore",
    "intel-rapl:0:2": "dram",
    "intel-rapl:1": "psys",
    "intel-rapl-mmio:0": "package-0",
    "intel-rapl-mmio:0:0": "dram",
}
SERVER = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
}
AMD_SERVER = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}
THREADRIPPER_1950X = {"intel-rapl:0": "package-0-die-0", "intel-rapl:1": "package-0-die-1"}
CASCADE_LAKE_AP = THREADRIPPER_1950X  # the same names, and two counters that count different dies


def powercap(folder: Path, zones: Mapping[str, str], *, nested: bool = False, range_uj: int = RANGE_UJ) -> Path:
    """Write a powercap tree: every zone at the top, as /sys/class shows it, or a child below its parent."""
    root = folder / "powercap"
    (root / "intel-rapl").mkdir(parents=True)
    (root / "intel-rapl" / "enabled").write_text("1\n")
    for zone, name in zones.items():
        parent = zone.rpartition(":")[0]
        place = root / "intel-rapl" / (parent if zone.count(":") == 2 else "") / zone if nested else root / zone
        place.mkdir(parents=True)
        (place / "name").write_text(f"{name}\n")
        (place / "energy_uj").write_text("0\n")
        (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return root


class Counters:
    """Reads a tree, but takes energies from here: set `uj[zone]`, in microjoules, and `now_s`."""

    def __init__(self, zones: Iterable[str]) -> None:
        self.uj = dict.fromkeys(zones, 0)
        self.now_s = 100.0

    def read(self, path: Path) -> str:
        if path.name == "energy_uj":
            return f"{self.uj[path.parent.name]}\n"
        return path.read_text(encoding="ascii")

    def clock(self) -> float:
        return self.now_s

    def flow(self, seconds: float, joules: Mapping[str, float], range_uj: int = RANGE_UJ) -> None:
        """Let time pass and counters advance by so many joules, around their range."""
        self.now_s += seconds
        for zone, amount in joules.items():
            self.uj[zone] = (self.uj[zone] + round(amount * 1e6)) % range_uj


CPUINFO = """\
processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: {name}
stepping\t: {stepping}
physical id\t: 0
flags\t\t: fpu sse2 avx2{flags}

"""


def machine(
    folder: Path,
    name: str = "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz",
    *,
    vendor: str = "GenuineIntel",
    cpuid: tuple[int, int, int] = (6, 85, 4),
    virtual: bool = False,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write /proc/cpuinfo and other files below a root of its own."""
    root = folder / "root"
    flags = " hypervisor" if virtual else ""
    family, model, stepping = cpuid
    cpuinfo = CPUINFO.format(vendor=vendor, family=family, model=model, stepping=stepping, name=name, flags=flags)
    for path, text in {"proc/cpuinfo": cpuinfo, **(files or {})}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


class NVMLError(Exception):
    pass


class Board:
    """One or more GPUs as nvidia-ml-py shows them: millijoules and milliwatts."""

    NVMLError = NVMLError

    def __init__(self, count: int = 1, *, counter: bool = True, power: bool = True, driver: bool = True) -> None:
        self.count, self.has_counter, self.has_power, self.driver = count, counter, power, driver
        self.now_s = 10.0
        self.energy_mj = 5_000_000
        self.power_mw = 100_000
        self.mig = False
        self.open_sessions = 0
        self.chosen: Any = None

    def clock(self) -> float:
        return self.now_s

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open_sessions -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        if index >= self.count:
            raise NVMLError("Invalid Argument")
        self.chosen = index
        return object()

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:  # noqa: N802
        self.chosen = uuid
        return object()

    def nvmlDeviceGetName(self, handle: object) -> bytes:  # noqa: N802
        return b"NVIDIA H100"  # bytes in older versions of the library

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:  # noqa: N802
        if not self.mig:
            raise NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        if not self.has_counter:
            raise NVMLError("Not Supported")
        return self.energy_mj

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:  # noqa: N802
        if not self.has_power:
            raise NVMLError("Not Supported")
        return self.power_mw
