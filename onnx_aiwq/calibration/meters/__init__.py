"""Energy meters behind one protocol: RAPL, NVML, a replayed trace, and the power model.

`open_meter` opens one by name, or the best that this machine offers; a fallback and its reason are in the meter's
`notes`, and its joules carry the label of what they are. `survey` says of every meter whether it can be used here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from onnx_aiwq.calibration.machine import ProcessorIdentity, is_virtual, read_processor, read_text, usable_cpus
from onnx_aiwq.calibration.meters.nvml import NvmlMeter
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.meters.protocol import Meter, MeterStatus, MeterUnavailableError, Reading
from onnx_aiwq.calibration.meters.rapl import POWERCAP, RaplMeter
from onnx_aiwq.calibration.meters.replay import ReplayMeter
from onnx_aiwq.calibration.meters.watts import Host, PowerEstimate, estimate_watts, given_watts
from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.hardware_profile import Source

__all__ = [
    "METERS",
    "Meter",
    "MeterStatus",
    "MeterUnavailableError",
    "PowerEstimate",
    "Reading",
    "Surroundings",
    "modelled_watts",
    "open_meter",
    "survey",
]

MeterName = Literal["auto", "rapl", "nvml", "replay", "power-model"]
METERS = ("auto", "rapl", "nvml", "replay", "power-model")
CPU_PROVIDER = "CPUExecutionProvider"
CPU_PROVIDERS = (CPU_PROVIDER, "DnnlExecutionProvider", "XnnpackExecutionProvider")
GPU_PROVIDERS = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
"""Providers whose work an NVIDIA board does."""

_SURVEYED: tuple[tuple[MeterName, Source, str], ...] = (
    ("rapl", "measured", "the energy counters"),
    ("nvml", "measured", "the board's energy"),
    ("power-model", "modelled", "published figures"),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where meters are looked for; other values than the defaults are for recorded machines.

    Attributes:
        powercap: folder of the RAPL counters.
        root: root of /proc and /sys.
        nvml: module of nvidia-ml-py; None imports it.
    """

    powercap: Path = POWERCAP
    root: Path = Path("/")
    nvml: Any = None


HERE = Surroundings()


def open_meter(
    kind: MeterName = "auto",
    *,
    watts: float | None = None,
    trace: Path | None = None,
    threads: int | None = None,
    processor: str | None = None,
    provider: str = CPU_PROVIDER,
    surroundings: Surroundings = HERE,
) -> Meter:
    """Open a meter.

    "auto" takes the best that can be used for the provider: RAPL for work on the CPU, NVML for work on an NVIDIA GPU
    (each is blind to the other's), else the power model; the meter's `notes` say what was passed over and why.

    Args:
        kind: "auto", "rapl", "nvml", "replay" or "power-model".
        watts: power that the power model multiplies seconds with, W; without it published figures are used.
        trace: recorded trace for "replay".
        threads: busy hardware threads for the power model; without it all that this process may use.
        processor: name of the processor for the power model, where this machine hides it.
        provider: onnxruntime execution provider that does the work.
        surroundings: where meters are looked for.

    Raises:
        MeterUnavailableError: if the meter (with "auto": every meter) cannot be used; says why and what to do.
        MeterError: if the trace cannot be read.
        PolicyError: if the name is no meter, or an option does not belong to it.
    """
    _check_options(kind, watts, trace)
    if kind == "replay":
        if trace is None:
            raise PolicyError("--meter replay needs the recorded trace: --trace FILE")
        return ReplayMeter(trace)

    def power_model() -> Meter:
        power = modelled_watts(watts, threads, processor, provider=provider, root=surroundings.root)
        return PowerModelMeter(power)

    openers: dict[str, Callable[[], Meter]] = {
        "rapl": lambda: RaplMeter(surroundings.powercap, system=surroundings.root),
        "nvml": lambda: NvmlMeter(nvml=surroundings.nvml),
        "power-model": power_model,
    }
    return openers[kind]() if kind != "auto" else _best(openers, provider)


def _best(openers: dict[str, Callable[[], Meter]], provider: str) -> Meter:
    passed_over: list[MeterUnavailableError] = []
    # Work on any other accelerator is seen by neither meter.
    measuring = {**dict.fromkeys(GPU_PROVIDERS, ("nvml",)), **dict.fromkeys(CPU_PROVIDERS, ("rapl",))}
    for kind in (*measuring.get(provider, ()), "power-model"):
        try:
            meter = openers[kind]()
        except MeterUnavailableError as error:
            passed_over.append(error)
            continue
        skipped = (f"{error.reason}; joules are {meter.label}. To measure: {error.next_step}" for error in passed_over)
        meter.notes = (*skipped, *meter.notes)
        return meter
    reasons = "; ".join(error.reason for error in passed_over)
    raise MeterUnavailableError(f"no meter can be used here: {reasons}", passed_over[-1].next_step)


def _check_options(kind: str, watts: float | None, trace: Path | None) -> None:
    if kind not in METERS:
        raise PolicyError(f"no meter {kind!r};{suggestion(kind, METERS)} meters are {', '.join(METERS)}")
    if trace is not None and kind != "replay":
        raise PolicyError(f"--trace belongs to --meter replay, not to {kind}")
    if watts is not None and kind not in ("auto", "power-model"):
        raise PolicyError(f"--watts belongs to --meter power-model, not to {kind}, which measures")


def modelled_watts(
    watts: float | None = None,
    threads: int | None = None,
    processor: str | None = None,
    *,
    provider: str = CPU_PROVIDER,
    root: Path = Path("/"),
) -> PowerEstimate:
    """Watts of this machine while so many threads are busy: as given, else from published figures of its processor.

    Raises:
        MeterUnavailableError: if no source knows the processor, or the work is not done by a CPU.
    """
    if watts is not None:
        return given_watts(watts)
    if provider not in CPU_PROVIDERS:
        raise MeterUnavailableError(
            f"power-model: published figures cover CPUs, not the work of {provider}",
            "give the board's power under load with --watts W (nvidia-smi, tegrastats or a plug meter shows it)",
        )
    identity = read_processor(root) if processor is None else ProcessorIdentity(processor)
    host = Host(vcpus=os.cpu_count() or 1, virtual=is_virtual(root), packages=_packages(root))
    return estimate_watts(identity, host, usable_cpus() if threads is None else threads)


def _packages(root: Path) -> int:
    ids = re.findall(r"^physical id[ \t]*:[ \t]*(\d+)", read_text(root / "proc/cpuinfo"), flags=re.MULTILINE)
    return max(1, len(set(ids)))


def survey(*, surroundings: Surroundings = HERE) -> tuple[MeterStatus, ...]:
    """What can be said of every meter on this machine, best first; each is opened and read once."""
    found = []
    for name, label, counter in _SURVEYED:
        try:
            meter = open_meter(name, surroundings=surroundings)
        except MeterUnavailableError as error:
            found.append(MeterStatus(name, False, label, "", error.reason, error.next_step))
            continue
        reason = "; ".join(meter.notes) or f"{counter} can be read"
        found.append(MeterStatus(name, True, meter.label, meter.scope, reason))
        meter.close()
    trace = MeterStatus("replay", True, "replayed", "as the trace says", "replays a recorded trace, where one is given")
    return (*found, trace)
