"""A calibration as it runs: what it was asked for, what it has done, and how it goes on after an interruption."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from onnx_aiwq.calibration.building import Identity, Power, build_profile
from onnx_aiwq.calibration.composites import composite, plan_of
from onnx_aiwq.calibration.fitting import observe
from onnx_aiwq.calibration.machine import describe_machine
from onnx_aiwq.calibration.meters import Meter
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.running import (
    CallOverhead,
    Level,
    Reference,
    Runtime,
    call_overhead,
    drift,
    feeds_for,
    open_session,
)
from onnx_aiwq.calibration.sampling import COLUMNS, Sample, append_samples, composite_name, read_samples, take_samples
from onnx_aiwq.errors import MeterError, PolicyError, ProfileError
from onnx_aiwq.files import write_whole
from onnx_aiwq.hardware_profile import CompResFigures, Embodied, HardwareProfile, slug
from onnx_aiwq.profiles import this_machine, user_profile_folder

SAMPLES = "samples.csv"
SETTINGS = "calibration.json"
PROFILE = "profile.json"
NOISY = 1.10
"""Drift of the reference kernel above which a machine is called noisy: it is slower at times by more than this."""
FIT_SHARE = 0.2  # of the budget that the fit takes
QUICK_MINUTES = 1.0
DEFAULT_MINUTES = 5.0
_WINDOWS = 12  # composites whose energy a meter measures
_FEWEST = 12  # composites that a fit needs


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
        joules: measured energy windows: (joules, seconds, label), idle ones first.
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
        MeterError: if onnxruntime does not offer the provider, or times its nodes asynchronously.
    """
    available = ort.get_available_providers()
    if provider not in available:
        raise MeterError(
            f"onnxruntime {ort.__version__} does not offer {provider}; it offers {', '.join(available)}; "
            "`aiwq doctor` says what to install"
        )
    if provider != "CPUExecutionProvider":
        raise MeterError(
            f"{provider}: calibration times every node with onnxruntime's profiler, which sees when such a provider "
            "starts a kernel, not when it ends; only CPUExecutionProvider can be calibrated"
        )
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
    """Processor and threads, as an id."""
    processor = describe_machine().get("processor", "cpu")
    return slug(f"{processor} {settings.threads} thread{'s' if settings.threads > 1 else ''}")[:90].strip("-")


def begin(folder: Path, settings: Settings, *, resume: bool) -> tuple[State, Reference]:
    """Open a folder for sampling: a new one, or one whose calibration goes on.

    Raises:
        PolicyError: if samples are there and are not to be resumed, or were taken with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reference = Reference(settings.provider)
    if not (folder / SETTINGS).exists():
        if (folder / SAMPLES).exists():
            raise PolicyError(f"{folder / SAMPLES} has no {SETTINGS} beside it; move it away, or give another --output")
        state = State(settings, call_overhead(settings.as_runtime, reference))
        write_whole(folder / SETTINGS, state.to_json())
        return state, reference
    if not resume:
        raise PolicyError(f"{folder} holds an unfinished calibration; add --resume to go on, or give another --output")
    state = read_state(folder)
    differing = [
        f"{key} {getattr(state.settings, key)!r} there, {value!r} here"
        for key, value in asdict(settings).items()
        if getattr(state.settings, key) != value
    ]
    if differing:
        raise PolicyError(f"{folder} was begun with other settings ({'; '.join(differing)}); give another --output")
    drop_unfinished(folder / SAMPLES)
    return state, reference


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


def sample(
    folder: Path,
    state: State,
    reference: Reference,
    meter: Meter,
    *,
    minutes: float | None,
    composites: int | None,
    progress: Callable[[float, str], None],
    take: Callable[..., list[Sample]] = take_samples,
) -> State:
    """Take samples until the time is up or so many composites are done; each is on disk when the next begins.

    Args:
        folder: of the calibration.
        state: of it.
        reference: the reference kernel.
        meter: for energy windows; the power model needs none.
        minutes: of sampling, or None for a number of composites.
        composites: that the folder shall hold, or None for a time.
        progress: is told the share that is done, and of what.
        take: samples of one composite.
    """
    path = folder / SAMPLES
    done = finished(path)
    begun = time.monotonic()
    seed = state.settings.seed
    measuring = not isinstance(meter, PowerModelMeter)
    if measuring and not state.idle:
        state.idle = (idle_window(meter),)
    while not _enough(len(done), begun, minutes, composites):
        name = composite_name(seed)
        if name not in done:
            progress(_share(len(done), begun, minutes, composites), name)
            append_samples(path, take(seed, state.settings.as_runtime, state.overhead, reference))
            done.add(name)
            if measuring and len(state.windows) < _WINDOWS and plan_of(seed)[1] is None:
                state.windows = (*state.windows, energy_window(seed, state.settings.as_runtime, meter))
        seed += 1
        state.drift = max(state.drift, drift(reference.history))
    write_whole(folder / SETTINGS, state.to_json())
    return state


def _enough(done: int, begun: float, minutes: float | None, composites: int | None) -> bool:
    if composites is not None:
        return done >= composites
    return done >= _FEWEST and time.monotonic() - begun > (minutes or 0.0) * 60


def _share(done: int, begun: float, minutes: float | None, composites: int | None) -> float:
    if composites is not None:
        return min(1.0, done / max(1, composites))
    return min(1.0, (time.monotonic() - begun) / max(1.0, (minutes or 0.0) * 60))


def idle_window(meter: Meter) -> tuple[float, float]:
    """Joules and seconds while nothing is asked of the machine."""
    meter.start()
    time.sleep(max(1.0, meter.minimum_window_s))
    reading = meter.stop()
    return reading.joules, reading.seconds


def energy_window(seed: int, runtime: Runtime, meter: Meter) -> tuple[float, float]:
    """Joules and seconds of a composite that runs over and over for as long as the meter needs."""
    session = open_session(composite(seed).SerializeToString(), runtime)
    feeds = feeds_for(session)
    session.run(None, feeds)
    meter.start()
    begun = time.perf_counter()
    while time.perf_counter() - begun < max(1.0, meter.minimum_window_s):
        session.run(None, feeds)
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


def finish(
    folder: Path,
    state: State,
    meter: Meter,
    *,
    target: Path | None = None,
    name: str | None = None,
    comp_res: CompResFigures = CompResFigures(),  # noqa: B008 - frozen
    embodied: Embodied | None = None,
    progress: Callable[[str], None] | None = None,
) -> HardwareProfile:
    """Fit the samples of a folder and write its profile.

    Raises:
        ProfileError: if a profile is there already, or the samples are too few.
    """
    path = (target or folder) / PROFILE
    if path.exists():
        raise ProfileError(f"{path} exists and is never overwritten; give another --output")
    done = finished(folder / SAMPLES)
    if len(done) < _FEWEST:
        raise ProfileError(
            f"{folder / SAMPLES} holds {len(done)} composites; a fit needs {_FEWEST}: go on with --resume, for longer"
        )
    machine = describe_machine()
    identifier = slug(path.parent.name) or default_id(state.settings)
    threads = state.settings.threads
    provenance = {
        **machine,
        "machine": state.settings.machine,
        "composites": str(len(done)),
        "drift": f"{state.drift:.3f}",
        "steady": "no: the reference kernel slowed at times, other work may have run" if noisy(state) else "yes",
        "optimisation level": state.settings.level,
        "seed": str(state.settings.seed),
        "meter": "; ".join(meter.notes),
    }
    label = name or f"{machine.get('processor', 'CPU')}, {threads} thread{'s' if threads > 1 else ''}"
    profile, _ = build_profile(
        observe(read_samples(folder / SAMPLES)),
        state.settings.as_runtime,
        state.overhead,
        power_of(meter, state),
        Identity(identifier, label, provenance, comp_res, embodied),
        block=channel_block(),
        progress=progress,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, profile.to_json())
    if target is not None and target != folder:
        write_whole(target / SAMPLES, (folder / SAMPLES).read_text(encoding="utf-8"))
    return profile


def noisy(state: State) -> bool:
    """Whether the machine was not steady while it was sampled."""
    return state.drift > NOISY


def channel_block() -> int:
    """Channels of a block of the blocked layout on this machine: 16 with AVX-512, else 8."""
    with contextlib.suppress(OSError):
        if "avx512f" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"):
            return 16
    return 8


def render_result(profile: HardwareProfile, folder: Path, notes: Sequence[str], form: str) -> str:
    """What a user is told at the end, as lines or as JSON."""
    validation: dict[str, Any] = dict(profile.validation or {})
    if form == "json":
        result = {
            "schema": "onnx_aiwq.calibration/1",
            "profile": str(folder / PROFILE),
            "samples": str(folder / SAMPLES),
            "id": profile.id,
            "source": profile.source,
            "validation": validation,
            "warnings": list(notes),
        }
        return json.dumps(result, indent=2) + "\n"
    lines = [
        f"profile: {folder / PROFILE}",
        f"joules: {profile.source}",
        "held out: median error {median_error:.1%}, mean {mean_error:.1%}, worst {worst_error:.1%} over {composites} "
        "composites; {interval_coverage:.0%} inside the 90 % interval".format(**validation),
        *notes,
    ]
    return "\n".join(lines) + "\n"
