"""How models are analysed, from files and the command line: the strongest wins, and each setting knows its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_aiwq.config import FILES, Config, find_config, read_config
from onnx_aiwq.runs import RunOptions

if TYPE_CHECKING:
    from onnx_aiwq.config_document import Options

Origins = dict[str, tuple[str, str]]
COMMAND_LINE = "command line"
_SCALARS = (
    "hardware", "region", "carbon_intensity", "carbon_profile", "hour", "pue", "utilization", "embodied_kg",
    "lifetime_years", "inferences", "convention", "level", "loss", "optimizer", "bp", "mini_batch", "lifecycle",
)  # fmt: skip


def configurations(policy: Path | None = None, start: Path | None = None) -> list[Config]:
    """The configuration files that count, the strongest last: the project's, then the policy.

    Raises:
        PolicyError: if a file does not validate, or the policy cannot be read.
    """
    project = find_config(start)
    named = None if policy is None else read_config(policy)
    if named is not None and project is not None and named.path.resolve() == project.path.resolve():
        project = None
    return [layer for layer in (project, named) if layer is not None]


class Settings:
    """Settings that are added from the weakest to the strongest.

    Attributes:
        origins: setting -> (its value as text, where it was set).
    """

    def __init__(self) -> None:
        self.origins: Origins = {}
        self._bind: dict[str, int] = {}
        self._shapes: dict[str, Sequence[int]] = {}
        self._scalars: dict[str, Any] = {}
        self._optional: frozenset[str] = frozenset()

    def add(self, options: Options, file: Config, origin: str) -> None:
        """One table of a file; names that it binds need not be in every model."""
        values = {name: getattr(options, name) for name in _SCALARS}
        if values["hardware"] is not None:
            values["hardware"] = file.resolve_hardware(values["hardware"])
        for name in FILES:
            if values[name] is not None:
                values[name] = file.resolve(values[name])
        self._set(values, options.bind, options.shape, origin)
        self._optional |= options.bind.keys() | options.shape.keys()

    def add_command_line(self, options: RunOptions) -> None:
        """The command line, the strongest; names that it binds must be in the model."""
        values = {name: getattr(options, name) for name in _SCALARS}
        self._set(values, options.bind, options.shapes, COMMAND_LINE)
        self._optional -= options.bind.keys() | options.shapes.keys()

    def _set(
        self, values: Mapping[str, Any], bind: Mapping[str, int], shapes: Mapping[str, Sequence[int]], origin: str
    ) -> None:
        for name in _replaced(values):
            self._scalars.pop(name, None)
            self.origins.pop(name, None)
        for name, value in values.items():
            if value is not None:
                self._scalars[name] = value
                self.origins[name] = (str(value), origin)
        self._bind |= bind
        self._shapes |= shapes
        self.origins |= {f"bind.{name}": (str(value), origin) for name, value in bind.items()}
        self.origins |= {f"shape.{name}": (",".join(map(str, dims)), origin) for name, dims in shapes.items()}

    def options(self) -> RunOptions:
        """What follows from all of them."""
        return RunOptions(bind=self._bind, shapes=self._shapes, optional=self._optional, **self._scalars)


def _replaced(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Intensities that were given before and that a later one replaces; a place replaces both."""
    if values["region"] is not None:
        return "carbon_intensity", "carbon_profile", "hour"
    if values["carbon_intensity"] is not None:
        return "carbon_profile", "hour"
    return ("carbon_intensity",) if values["carbon_profile"] is not None else ()


def merged(flags: RunOptions, files: Iterable[Config]) -> tuple[RunOptions, Origins]:
    """The defaults of configuration files below the command line, without what only the gate asks for.

    Args:
        flags: the command line.
        files: the strongest last.
    """
    settings = Settings()
    for file in files:
        settings.add(file.options, file, file.path.name)
    settings.add_command_line(flags)
    return settings.options(), settings.origins
