"""Defaults and policies that a project keeps beside its code: `aiwq.toml`, or `[tool.aiwq]` in pyproject.toml.

    hardware = "nvidia-l4"              # defaults of analyze, advise, compare, gate and baseline
    region = "DEU"
    bind = { batch = 1 }

    [gate]                              # [tool.aiwq.gate] in pyproject.toml
    models = ["models/**/*.onnx"]
    baseline = "aiwq-baseline"
    budgets = { energy = "3 J", macs = 5_000_000_000 }
    tolerances = { energy = "5%" }

    [[gate.overrides]]
    models = "models/large/**"
    budgets = { energy = "30 J" }

Paths are relative to the file that names them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from onnx_aiwq.config_document import GatePolicy, Options

FILE_NAME = "aiwq.toml"
MAX_CONFIG_BYTES = 4_000_000
FILES = ("lifecycle", "carbon_profile")
"""Settings that are paths."""
_GATE_KEYS = ("models", "baseline", "budgets", "tolerances", "overrides")


class Config(msgspec.Struct, frozen=True):
    """One configuration file.

    Attributes:
        path: of the file.
        options: defaults of every command.
        gate: policy of the gate.
    """

    path: Path
    options: Options
    gate: GatePolicy

    @property
    def folder(self) -> Path:
        """What paths in the file are relative to."""
        return self.path.parent

    def resolve(self, path: str) -> str:
        """A path of the file, relative to where the command runs where that is possible."""
        return _relative(self.folder / path)

    def resolve_hardware(self, hardware: str) -> str:
        """A hardware name as it is; a profile file as a path."""
        is_file = hardware.casefold().endswith(".json") or "/" in hardware or "\\" in hardware
        return self.resolve(hardware) if is_file else hardware


def _relative(path: Path) -> str:
    absolute = path.absolute()
    try:
        return absolute.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(absolute)


def find_config(start: Path | None = None) -> Config | None:
    """The configuration of the nearest folder that has one: here, or above up to the root of the git checkout.

    Args:
        start: where to look first; the current folder if None.

    Raises:
        PolicyError: if a file is found and does not validate.
    """
    for folder in _upwards((start or Path.cwd()).absolute()):
        own, project = folder / FILE_NAME, folder / "pyproject.toml"
        if own.is_file():
            return read_config(own)
        if project.is_file():
            table = _table(project).get("tool", {})
            if isinstance(table, dict) and "aiwq" in table:
                return read_config(project)
    return None


def _upwards(folder: Path) -> Iterator[Path]:
    for each in (folder, *folder.parents):
        yield each
        if (each / ".git").exists():
            return


def read_config(path: Path) -> Config:
    """Read `aiwq.toml`, a policy of that form, or the `[tool.aiwq]` table of a pyproject.toml.

    The keys of `[gate]` may stand at the top of a policy file.

    Raises:
        PolicyError: if the file cannot be read or a key does not fit; one line with every problem.
    """
    table = _table(path)
    if path.name == "pyproject.toml":
        table = table.get("tool", {}).get("aiwq", {})
    moved = {key: table[key] for key in _GATE_KEYS if key in table} if isinstance(table, dict) else {}
    if moved:
        rest = {key: value for key, value in table.items() if key not in moved}
        gate = rest.get("gate", {})
        if not isinstance(gate, dict) or gate.keys() & moved.keys():
            raise PolicyError(f"{path}: {', '.join(moved)} at the top and in [gate]; keep one")
        table = {**rest, "gate": {**gate, **moved}}
    from onnx_aiwq.config_document import parse_config  # only projects that have a file wait for its library

    try:
        options, gate = parse_config(table)
    except ValueError as error:
        raise PolicyError(f"{path}: {error}") from None
    return Config(path.absolute(), options, gate)


def _table(path: Path) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise PolicyError(f"{path}: larger than {MAX_CONFIG_BYTES:,} bytes, which no configuration is")
        table = toml.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError(f"{path}: cannot be read: {reason}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: not valid TOML: {error}") from None
    return dict(table)
