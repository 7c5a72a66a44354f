"""What this machine can measure, and what to do about the rest: the object that `aiwq doctor` prints.

Nothing is changed: folders are not created, meters are opened and closed, a runtime is asked for its providers and runs
a model of one operator on each accelerator that it lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from onnx_aiwq.calibration.machine import (
    UNKNOWN,
    cpu_quota,
    describe_machine,
    installed_runtimes,
    installed_version,
    usable_cpus,
)
from onnx_aiwq.calibration.meters import (
    CPU_PROVIDER,
    GPU_PROVIDERS,
    HERE,
    MeterStatus,
    Surroundings,
    open_meter,
    survey,
)
from onnx_aiwq.errors import MeterError, ProfileError
from onnx_aiwq.profiles import calibrated_profile_of_this_machine, default_profile, user_profile_folder

DOCTOR_SCHEMA = "onnx_aiwq.doctor/1"
REMOTE_PROVIDERS = ("AzureExecutionProvider",)
_DISTRIBUTION = "onnx-aiwq"


def examine(surroundings: Surroundings = HERE) -> dict[str, Any]:
    """Everything that bears on measuring here, as the JSON object of the schema ``onnx_aiwq.doctor/1``."""
    from onnx_aiwq import __version__

    machine = describe_machine(surroundings.root)
    meters = survey(surroundings=surroundings)
    runtime = _runtime()
    profiles = _profiles()
    quota = cpu_quota(surroundings.root)
    return {
        "schema": DOCTOR_SCHEMA,
        "tool": {"name": "onnx_aiwq", "version": __version__},
        "machine": machine,
        "threads": {
            "logical_cpus": os.cpu_count() or 1,
            "usable_cpus": usable_cpus(),
            "cpu_quota": quota,
        },
        "meters": [asdict(status) for status in meters],
        "automatic": {
            provider: _automatic(provider, surroundings) for provider in _metered_providers(runtime["providers"])
        },
        "runtime": runtime,
        "profiles": profiles,
        "extras": _extras(),
        "problems": [
            *_meter_problems(meters),
            *_runtime_problems(runtime),
            *_machine_problems(machine, quota),
            *_profile_problems(profiles),
        ],
    }


def _problem(subject: str, problem: str, next_step: str) -> dict[str, str]:
    return {"subject": subject, "problem": problem, "next_step": next_step}


# --- meters ------------------------------------------------------------------------------------------------------


def _metered_providers(providers: Sequence[dict[str, Any]]) -> list[str]:
    usable = {provider["name"] for provider in providers if provider["usable"]}
    return [CPU_PROVIDER, *(name for name in GPU_PROVIDERS if name in usable)]


def _automatic(provider: str, surroundings: Surroundings) -> dict[str, Any]:
    """The meter that is taken for a provider when none is named, and what it says of itself."""
    try:
        meter = open_meter("auto", provider=provider, surroundings=surroundings)
    except MeterError as error:
        return {"meter": None, "label": None, "scope": None, "notes": [str(error)]}
    meter.close()
    return {"meter": meter.name, "label": meter.label, "scope": meter.scope, "notes": list(meter.notes)}


def _meter_problems(meters: Sequence[MeterStatus]) -> list[dict[str, str]]:
    if any(status.usable and status.label == "measured" for status in meters):
        return []
    model = next(status for status in meters if status.name == "power-model")
    fallback = "they are modelled" if model.usable else f"they cannot be modelled either ({model.reason})"
    steps = "; or ".join(
        status.next_step for status in meters if not status.usable and status.name in ("rapl", model.name)
    )
    return [_problem("meters", f"no meter measures joules here; {fallback}", steps)]


# --- runtime -----------------------------------------------------------------------------------------------------


def _runtime() -> dict[str, Any]:
    """Installed distributions of onnxruntime, the version that is imported, and which of its providers work."""
    found: dict[str, Any] = {"distributions": installed_runtimes(), "version": None, "providers": [], "error": None}
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        found["error"] = f"{type(error).__name__}: {error}"
        return found
    found["version"] = onnxruntime.__version__
    found["providers"] = [_try_provider(name) for name in onnxruntime.get_available_providers()]
    return found


def _try_provider(name: str) -> dict[str, Any]:
    """Whether a session of one operator really comes up on the provider: a listed one may lack its driver."""
    import onnxruntime

    if name in REMOTE_PROVIDERS:
        return {"name": name, "usable": False, "reason": "calls a remote service: nothing of it is measured here"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a provider that does not load says so in the result
    providers = [name] if name == CPU_PROVIDER else [name, CPU_PROVIDER]
    try:
        session = onnxruntime.InferenceSession(_one_operator(), options, providers=providers)
    except Exception as error:  # onnxruntime raises many types, its own and RuntimeError among them
        return {"name": name, "usable": False, "reason": " ".join(str(error).split())[:300]}
    if name in session.get_providers():
        return {"name": name, "usable": True, "reason": "a session opens"}
    return {"name": name, "usable": False, "reason": "listed, but no session opens on it: its driver or libraries lack"}


def _one_operator() -> bytes:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", ends[:1], ends[1:])
    # Versions that every onnxruntime since 1.9 reads.
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7
    ).SerializeToString()
    return model


def _runtime_problems(runtime: dict[str, Any]) -> list[dict[str, str]]:
    problems = []
    if runtime["error"] is not None:
        problems.append(
            _problem(
                "onnxruntime", f"cannot be imported: {runtime['error']}", "`pip install --force-reinstall onnxruntime`"
            )
        )
    names = list(runtime["distributions"])
    if len(names) > 1:
        problems.append(
            _problem(
                "onnxruntime",
                f"{' and '.join(names)} are installed together and overwrite each other's files",
                f"`pip uninstall {' '.join(names)}`, then install the one that you want",
            )
        )
    problems += [
        _problem(
            "onnxruntime", f"{provider['name']}: {provider['reason']}", "install the provider's driver and libraries"
        )
        for provider in runtime["providers"]
        if not provider["usable"] and provider["name"] not in REMOTE_PROVIDERS
    ]
    return problems


# --- machine and profiles ----------------------------------------------------------------------------------------


def _machine_problems(machine: dict[str, str], quota: float | None) -> list[dict[str, str]]:
    problems = []
    if machine["governor"] not in ("performance", UNKNOWN):
        problems.append(
            _problem(
                "governor",
                f"{machine['governor']}: the clock follows the load, so short and long runs are timed at other clocks",
                "`sudo cpupower frequency-set -g performance` while measuring",
            )
        )
    if quota is not None and quota < usable_cpus():
        problems.append(
            _problem(
                "threads",
                f"the container may use {quota:g} CPUs' worth of time on {usable_cpus()} CPUs, and is throttled beyond",
                f"measure with at most {max(1, int(quota))} thread(s), or lift the limit (`--cpus`)",
            )
        )
    return problems


def _profiles() -> dict[str, Any]:
    """Where profiles of this user lie, whether one can be written, and which one stands for this machine."""
    folder = user_profile_folder()
    writable, reason = _writable(folder)
    calibrated, error = None, None
    try:
        calibrated = calibrated_profile_of_this_machine()
    except ProfileError as problem:
        error = str(problem)
    return {
        "folder": str(folder),
        "writable": writable,
        "reason": reason,
        "calibrated": None if calibrated is None else {"id": calibrated.id, "source": calibrated.source},
        "default": None if error else (calibrated or default_profile()).id,
        "error": error,
    }


def _writable(folder: Path) -> tuple[bool, str]:
    """Whether files can be created in a folder, which itself may have to be created; nothing is tried."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return False, f"{place} is no folder"
    if not os.access(place, os.W_OK | os.X_OK):
        return False, f"{place} may not be written by this user"
    return True, "exists" if place == folder else "does not exist yet; it can be created"


def _profile_problems(profiles: dict[str, Any]) -> list[dict[str, str]]:
    problems = []
    if profiles["error"] is not None:
        problems.append(_problem("profiles", profiles["error"], "repair or remove that file"))
    elif profiles["calibrated"] is None:
        problems.append(
            _problem(
                "profiles",
                f"this machine has no calibrated profile; `aiwq analyze` prices with {profiles['default']}",
                "`aiwq calibrate`",
            )
        )
    if not profiles["writable"]:
        problems.append(
            _problem("profiles", f"none can be saved: {profiles['reason']}", "write with --output elsewhere")
        )
    return problems


def _extras() -> list[dict[str, Any]]:
    """Every optional extra of this package: its distributions, and the version of those that are installed."""
    extras: dict[str, dict[str, str | None]] = {
        name: {} for name in metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or ()
    }
    for requirement in metadata.requires(_DISTRIBUTION) or ():
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", requirement)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if extra and name and extra.group(1) in extras:
            extras[extra.group(1)][name.group()] = installed_version(name.group())
    return [
        {"name": name, "installed": all(parts.values()), "distributions": parts}
        for name, parts in sorted(extras.items())
    ]
