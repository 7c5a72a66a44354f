"""A calibration as it runs: it begins or goes on in a folder, takes samples, and ends in a profile."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnx_aiwq.calibration.building import Identity, build_profile
from onnx_aiwq.calibration.composites import plan_of
from onnx_aiwq.calibration.fitting import observe
from onnx_aiwq.calibration.machine import UNKNOWN, describe_machine
from onnx_aiwq.calibration.meters import Meter
from onnx_aiwq.calibration.meters.nvml import board_name
from onnx_aiwq.calibration.meters.power_model import PowerModelMeter
from onnx_aiwq.calibration.power import energy_window, idle_window, power_of
from onnx_aiwq.calibration.profiling import call_overhead
from onnx_aiwq.calibration.running import Reference, drift
from onnx_aiwq.calibration.sampling import Sample, append_samples, composite_name, read_samples, take_samples
from onnx_aiwq.calibration.stored import (
    PROFILE,
    SAMPLES,
    SETTINGS,
    Settings,
    State,
    default_id,
    default_name,
    drop_unfinished,
    finished,
    read_state,
)
from onnx_aiwq.errors import PolicyError, ProfileError
from onnx_aiwq.files import write_whole
from onnx_aiwq.hardware_profile import CompResFigures, Embodied, HardwareProfile, slug

NOISY = 1.10
"""Drift of the reference kernel above which a machine is called noisy: it is slower at times by more than this."""
FIT_SHARE = 0.2  # of the budget that the fit takes
QUICK_MINUTES = 1.0
DEFAULT_MINUTES = 5.0
_WINDOWS = 12  # composites whose energy a meter measures
_LATE_WINDOWS = 4  # where no composite is left to be sampled
_FEWEST = 12  # composites that a fit needs


def begin(folder: Path, settings: Settings, *, resume: bool) -> tuple[State, Reference]:
    """Open a folder for sampling: a new one, or one whose calibration goes on.

    Raises:
        PolicyError: if samples are there and are not to be resumed, or were taken with other settings.
    """
    reference = Reference(settings.provider, settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
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
            state.drift = max(state.drift, drift(reference.history))
            write_whole(folder / SETTINGS, state.to_json())  # windows and drift outlive an interruption as samples do
        seed += 1
    if measuring and not state.windows:  # all samples were taken before, without this meter
        seeds = (seed for seed in itertools.count(state.settings.seed) if plan_of(seed)[1] is None)
        state.windows = tuple(
            energy_window(seed, state.settings.as_runtime, meter) for seed in itertools.islice(seeds, _LATE_WINDOWS)
        )
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
    provenance = _provenance(state, len(done), meter)
    identifier = slug(path.parent.name) or default_id(state.settings)
    label = name or default_name(state.settings)
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


def _provenance(state: State, composites: int, meter: Meter) -> dict[str, str]:
    on_device = state.settings.as_runtime.device is not None
    accelerator = {"accelerator": board_name() or UNKNOWN} if on_device else {}
    return {
        **describe_machine(),
        **accelerator,
        "machine": state.settings.machine,
        "composites": str(composites),
        "drift": f"{state.drift:.3f}",
        "steady": "no: the reference kernel slowed at times, other work may have run" if noisy(state) else "yes",
        "optimisation level": state.settings.level,
        "seed": str(state.settings.seed),
        "meter": "; ".join(meter.notes),
    }


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
