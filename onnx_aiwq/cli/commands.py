"""The commands of the command line, each imported when it is asked for: one of them need not wait for the others."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from onnx_aiwq.cli.groups import SectionedCommand, grouped
from onnx_aiwq.cli.limits import limited

_BOUNDED = ("analyze", "compare", "gate", "baseline", "advise", "lifecycle")
"""What reads models, and takes a limit of time and memory."""
_HOMES = {
    **{name: name for name in (*_BOUNDED, "calibrate", "validate")},
    **dict.fromkeys(("hardware", "regions", "rules"), "listing"),
    **{name: name for name in ("doctor", "reproduce", "fleet")},
}
"""Command -> module, in the order of the help."""
_FITTING = ("calibrate", "validate", "reproduce")


class _ByName(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _ByName()  # type: ignore[assignment]  # nobody adds to it


@functools.cache
def _command(name: str) -> Any:
    """A command of the library that Typer keeps to itself.

    Raises:
        KeyError: if there is none of that name.
    """
    if name not in _FITTING:
        # An analysis multiplies no large matrices; the threads that numpy starts for them would be an eighth of it.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    found = getattr(importlib.import_module(f"onnx_aiwq.cli.{_HOMES[name]}"), name)
    return typer.main.get_command(found if isinstance(found, typer.Typer) else _alone(name, found))


def _alone(name: str, function: Callable[..., Any]) -> typer.Typer:
    command = limited(grouped(function)) if name in _BOUNDED else grouped(function)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=SectionedCommand)(command)
    return single
