"""What a machine is: processor, memory, caches, frequency policy, virtualisation, runtime; for a profile's provenance.

Facts are read where Linux publishes them; what a system does not publish is "unknown", never guessed. The key by which
a profile is matched to a machine is `onnx_aiwq.profiles.this_machine`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from onnx_aiwq.profiles import this_machine

UNKNOWN = "unknown"
RUNTIME_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
"""Distributions that all install the module `onnxruntime`, and overwrite one another's files."""

_VIRTUAL_DMI = (
    r"Amazon EC2|Google Compute Engine|Virtual Machine|QEMU|KVM|VMware|VirtualBox|Xen|Parallels|Bochs|OpenStack"
)


@dataclass(frozen=True, slots=True)
class ProcessorIdentity:
    """How a processor names itself.

    Attributes:
        name: model name, for example ``AMD EPYC 7763 64-Core Processor``; a hypervisor may shorten it.
        vendor: ``GenuineIntel``, ``AuthenticAMD``, ...; empty where the system does not tell.
        family: CPUID family (0 without one), and likewise ``model`` and ``stepping``.
        model: CPUID model.
        stepping: CPUID stepping.
    """

    name: str
    vendor: str = ""
    family: int = 0
    model: int = 0
    stepping: int = 0


def read_processor(root: Path = Path("/")) -> ProcessorIdentity:
    """The processor of this machine, from /proc/cpuinfo below `root`; elsewhere what Python's platform module knows."""
    text = read_text(root / "proc/cpuinfo")

    def field(key: str) -> str:
        match = re.search(rf"^{key}[ \t]*:[ \t]*(.+)$", text, flags=re.MULTILINE)
        return match.group(1).strip() if match else ""

    def number(key: str) -> int:
        digits = field(key)
        return int(digits) if digits.isdecimal() else 0

    return ProcessorIdentity(
        name=field("model name") or field("Model") or platform.processor() or UNKNOWN,
        vendor=field("vendor_id"),
        family=number("cpu family"),
        model=number("model"),
        stepping=number("stepping"),
    )


def virtualisation(root: Path = Path("/")) -> str:
    """``none``, or what stands between this system and the hardware: the hypervisor's name, a container, or both.

    A virtual machine is known by the processor's ``hypervisor`` flag; its name comes from the DMI tables, where
    the hypervisor fills them in. ``unknown`` on a system without /proc/cpuinfo.
    """
    cpuinfo = read_text(root / "proc/cpuinfo")
    if not cpuinfo:
        return UNKNOWN
    layers = []
    if is_virtual(root):
        names = [read_text(root / "sys/class/dmi/id" / name).strip() for name in ("sys_vendor", "product_name")]
        names.append(read_text(root / "sys/hypervisor/type").strip())
        label = " ".join(dict.fromkeys(name for name in names if name))
        layers.append(f"virtual machine ({label})" if label else "virtual machine")
    if _in_container(root):
        layers.append("container")
    return ", ".join(layers) or "none"


def is_virtual(root: Path = Path("/")) -> bool:
    """Whether a hypervisor runs below this system.

    x86 processors say so by a flag. On others (Arm servers) the DMI tables name the hypervisor, or a cloud that rents
    out virtual machines except under names that end in ``metal``.
    """
    cpuinfo = read_text(root / "proc/cpuinfo")
    if re.search(r"^flags[ \t]*:", cpuinfo, flags=re.MULTILINE):
        return re.search(r"^flags[ \t]*:.*\bhypervisor\b", cpuinfo, flags=re.MULTILINE) is not None
    if read_text(root / "sys/hypervisor/type").strip():
        return True
    names = " ".join(read_text(root / "sys/class/dmi/id" / name).strip() for name in ("sys_vendor", "product_name"))
    return re.search(_VIRTUAL_DMI, names) is not None and not names.endswith("metal")


def _in_container(root: Path) -> bool:
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    return re.search(r"docker|kubepods|containerd|lxc|libpod", read_text(root / "proc/1/cgroup")) is not None


def governor(root: Path = Path("/")) -> str:
    """Frequency governors of all processors, ``performance`` or ``performance, powersave``."""
    folder = root / "sys/devices/system/cpu"
    found = {read_text(path).strip() for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found - {""})) or UNKNOWN


def turbo(root: Path = Path("/")) -> str:
    """``on``, ``off``, or ``unknown`` where the frequency driver does not say (a virtual machine, as a rule)."""
    folder = root / "sys/devices/system/cpu"
    disabled = read_text(folder / "intel_pstate/no_turbo").strip()
    if disabled:
        return "off" if disabled == "1" else "on"
    boost = read_text(folder / "cpufreq/boost").strip()
    if boost:
        return "on" if boost == "1" else "off"
    return UNKNOWN


def caches(root: Path = Path("/")) -> str:
    """Caches that the first processor sees, ``L1d 32K, L1i 32K, L2 1024K, L3 32768K``."""
    found = []
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        level, kind, size = (read_text(folder / name).strip() for name in ("level", "type", "size"))
        if level and size:
            found.append(f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') } {size}")
    return ", ".join(found) or UNKNOWN


def threads_per_core(root: Path = Path("/")) -> str:
    """Hardware threads that share the core of the first processor."""
    siblings = read_text(root / "sys/devices/system/cpu/cpu0/topology/thread_siblings_list").strip()
    return str(len(list(_numbers(siblings)))) if siblings else UNKNOWN


def _numbers(ranges: str) -> Iterator[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def usable_cpus() -> int:
    """Processors that this process may run on: its affinity mask where the system has one, else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that a control group (a container's limit) grants; None without a limit."""
    quota, _, period = read_text(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    return None


def installed_runtimes() -> dict[str, str]:
    """Version by distribution, of every installed distribution that provides the module `onnxruntime`."""
    found = {}
    for name in RUNTIME_DISTRIBUTIONS:
        version = installed_version(name)
        if version is not None:
            found[name] = version
    return found


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe_machine(root: Path = Path("/")) -> dict[str, str]:
    """This machine and its software, as free text by key; the date is UTC in ISO 8601.

    ``machine`` is the key that a profile is matched by. Nothing here names the user, the host or a network address.
    """
    import psutil

    physical_cores = psutil.cpu_count(logical=False)
    quota = cpu_quota(root)
    runtimes = installed_runtimes()
    return {
        "machine": this_machine(),
        "processor": read_processor(root).name,
        "architecture": platform.machine() or UNKNOWN,
        "system": platform.system() or UNKNOWN,
        "kernel": platform.release() or UNKNOWN,
        "logical_cpus": str(os.cpu_count() or UNKNOWN),
        "physical_cores": str(physical_cores or UNKNOWN),
        "threads_per_core": threads_per_core(root),
        "usable_cpus": str(usable_cpus()),
        "cpu_quota": "none" if quota is None else f"{quota:g}",
        "governor": governor(root),
        "turbo": turbo(root),
        "memory_bytes": str(psutil.virtual_memory().total),
        "caches": caches(root),
        "virtualisation": virtualisation(root),
        "onnxruntime": ", ".join(f"{name} {version}" for name, version in runtimes.items()) or "not installed",
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def read_text(path: Path) -> str:
    """Text of a file that the system may not have; empty where it is absent or unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
