"""How a fleet is analysed, as plain values that travel to workers and name what a row rests on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

from onnx_aiwq import __version__
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.operations.registry import ENTRY_POINT_GROUP
from onnx_aiwq.runs import RunOptions

_DIGITS = 16  # of a digest that names a set of settings or a profile
DEFAULT_TIMEOUT_S = 60.0
DEFAULT_MAX_MEMORY_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Limits:
    """What one model may take before its process is killed.

    Attributes:
        timeout_s: seconds of wall time.
        max_memory_bytes: memory of the process that analyses it, some 150 MB of libraries included.
    """

    timeout_s: float = DEFAULT_TIMEOUT_S
    max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a row, besides the model.

    Attributes:
        options: of the analysis; its `hardware` is not used.
        hardware: profiles that every model is priced on.
        strict: unbound dimensions and unsupported operators are errors.
    """

    options: RunOptions
    hardware: tuple[HardwareProfile, ...]
    strict: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON values without the hardware; `from_dict` reads them back."""
        options = self.options
        return {
            "bind": dict(sorted(options.bind.items())),
            "shapes": {name: list(shape) for name, shape in sorted(options.shapes.items())},
            "region": options.region,
            "carbon_intensity": options.carbon_intensity,
            "pue": options.pue,
            "convention": options.convention or "default",
            "level": options.level or "inference",
            "strict": self.strict,
        }

    def message(self) -> str:
        """JSON text of all of it, for a worker."""
        profiles = [profile.to_dict() for profile in self.hardware]
        return json.dumps({"options": self.to_dict(), "hardware": profiles})

    @staticmethod
    def from_message(text: str) -> Settings:
        """The settings that `message` wrote."""
        given = json.loads(text)
        options = dict(given["options"])
        strict = options.pop("strict")
        options["shapes"] = {name: tuple(shape) for name, shape in options["shapes"].items()}
        profiles = tuple(map(HardwareProfile.from_dict, given["hardware"]))
        return Settings(RunOptions(**options).for_several(), profiles, strict)

    @functools.cached_property
    def key(self) -> str:
        """Digest of the options, the version of this package and the users' rules: rows of the same key compare."""
        return digest({"version": __version__, "rules": _users_rules(), **self.to_dict()})

    @functools.cached_property
    def hardware_keys(self) -> dict[str, HardwareProfile]:
        """Profiles by what names them in a row: their id, and a digest of all that they say."""
        return {hardware_key(profile): profile for profile in self.hardware}


def _users_rules() -> list[str]:
    """Packages that bring rules of their own, with their versions."""
    found = {entry.dist for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP) if entry.dist}
    return sorted({f"{package.name} {package.version}" for package in found})


def hardware_key(profile: HardwareProfile) -> str:
    """Id of a profile and a digest of its content, which a new calibration changes."""
    return f"{profile.id}:{digest(profile.to_dict())}"


def digest(value: Any) -> str:
    """The first hexadecimal digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]
