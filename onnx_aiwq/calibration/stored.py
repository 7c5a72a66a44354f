"""What a folder holds of a calibration: its settings and state, samples that are whole, and where it lies."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from onnx_aiwq.calibration.machine import describe_machine
from onnx_aiwq.calibration.meters import CPU_PROVIDER
from onnx_aiwq.calibration.meters.nvml import board_name
from onnx_aiwq.calibration.profiling import CallOverhead
from onnx_aiwq.calibration.running import DEVICES, Level, Runtime
from onnx_aiwq.calibration.sampling import COLUMNS, read_samples
from onnx_aiwq.errors import MeterError, PolicyError, ProfileError
from onnx_aiwq.files import write_whole
from onnx_aiwq.hardware_profile import slug
from onnx_aiwq.profiles import this_machine, user_profile_folder

SAMPLES = "samples.csv"
SETTINGS = "calibration.json"
PROFILE = "profile.json"


@dataclass(frozen=True)
class Settings:
    """What a calibration measures; two runs with other settings are not joined.

    Attributes:
        provider: onnxruntime execution provider.
        threads: within an operator.
        level: of graph optimisation.
        seed: of the first composite.
        runtime: version of onnxruntime.
        machine: this machine.
    """

    provider: str
    threads: int
    level: Level
    seed: int
    runtime: str
    machine: str

    @property
    def as_runtime(self) -> Runtime:
        """How onnxruntime runs."""
        return Runtime(self.provider, self.threads, self.level)


@dataclass
class State:
    """What a folder holds of a calibration beyond its samples.

    Attributes:
        settings: of the run.
        overhead: of calls, measured first.
        drift: of the reference kernel, so far.
        windows: of work whose energy a meter measured: (joules, seconds).
        idle: measured idle windows likewise.
    """

    settings: Settings
    overhead: CallOverhead
    drift: float = 1.0
    windows: tuple[tuple[float, float], ...] = ()
    idle: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> str:
        """The text of `SETTINGS`."""
        return json.dumps(asdict(self), indent=2) + "\n"


def settings_of(provider: str, threads: int, level: Level, seed: int) -> Settings:
    """Settings for this machine.

    Raises:
        MeterError: if onnxruntime does not offer the provider, or its kernels cannot be timed.
        PolicyError: if several threads are given for a provider that computes on a device.
    """
    available = ort.get_available_providers()
    if provider not in available:
        raise MeterError(
            f"onnxruntime {ort.__version__} does not offer {provider}; it offers {', '.join(available)}; "
            "`aiwq doctor` says what to install"
        )
    if provider not in (CPU_PROVIDER, *DEVICES):
        raise MeterError(
            f"{provider}: calibration times every node with onnxruntime's profiler, which sees when such a provider "
            f"starts a kernel, not when it ends; {' and '.join((CPU_PROVIDER, *DEVICES))} can be calibrated"
        )
    if provider in DEVICES and threads != 1:
        raise PolicyError(f"--threads {threads}: {provider} computes on its device, whatever threads there are")
    return Settings(provider, threads, level, seed, ort.__version__, this_machine())


def new_folder(output: Path | None, settings: Settings, identifier: str | None) -> Path:
    """The folder of a calibration: given, else a free one among the user's profiles.

    Raises:
        ProfileError: if a profile is there already; none is ever overwritten.
    """
    if output is not None:
        if (output / PROFILE).exists():
            raise ProfileError(f"{output / PROFILE} exists and is never overwritten; give another --output")
        return output
    base = identifier or default_id(settings)
    folder = user_profile_folder() / base
    number = 2
    while (folder / PROFILE).exists():
        folder = user_profile_folder() / f"{base}-{number}"
        number += 1
    return folder


def default_id(settings: Settings) -> str:
    """The default name, as an id."""
    return slug(default_name(settings))[:90].strip("-")


def default_name(settings: Settings) -> str:
    """Processor and threads; of a provider with a device the board, where NVML names it, and the provider."""
    processor = describe_machine().get("processor", "CPU")
    if settings.as_runtime.device is not None:
        return f"{board_name() or processor}, {settings.provider.removesuffix('ExecutionProvider')}"
    return f"{processor}, {settings.threads} thread{'s' if settings.threads > 1 else ''}"


def read_state(folder: Path) -> State:
    """What `SETTINGS` of a folder says.

    Raises:
        ProfileError: if it is absent or not whole.
    """
    path = folder / SETTINGS
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return State(
            settings=Settings(**raw["settings"]),
            overhead=CallOverhead(**raw["overhead"]),
            drift=float(raw["drift"]),
            windows=tuple((float(j), float(s)) for j, s in raw["windows"]),
            idle=tuple((float(j), float(s)) for j, s in raw["idle"]),
        )
    except OSError as error:
        raise ProfileError(f"{path}: cannot read the calibration: {error.strerror}; give its folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"{path}: not the settings of a calibration ({type(error).__name__}: {error})") from None


def drop_unfinished(path: Path) -> None:
    """Take the rows of a composite that has no whole row off the end: the process was killed while it wrote them."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if not "".join(lines[:1]).endswith("\n"):  # killed before the first composite was down
        path.unlink()
        return
    kept = len(lines)
    while kept > 1 and not _is_whole(lines[kept - 1]):
        kept -= 1
    if kept < len(lines):
        write_whole(path, "".join(lines[:kept]))


def _is_whole(line: str) -> bool:
    if not line.endswith("\n"):
        return False
    row = next(csv.reader(io.StringIO(line)), [])
    return len(row) == len(COLUMNS) and row[1] == ""


def finished(path: Path) -> set[str]:
    """Names of the composites of a samples file."""
    return {sample.composite for sample in read_samples(path) if sample.operator is None} if path.exists() else set()
