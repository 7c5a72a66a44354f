"""`--timeout` and `--max-memory`: any command that reads models, in a process of its own that they bound."""

from __future__ import annotations

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from onnx_aiwq.addresses import public_address
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.process_limits import LEAST_MEMORY_BYTES

Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Give up after that long; runs in a process of its own."),
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Give up beyond that, as 2GiB; runs in a process of its own."),
]
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MOST_TIMEOUT_S = 10**8
_Command = Callable[..., Any]


def limited(command: _Command) -> _Command:
    """The command with two more options; with either of them it runs in a child that is ended at the limit."""
    signature = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in (("timeout", Timeout), ("max_memory", MaxMemory))
    ]

    @functools.wraps(command)
    def run(*, timeout: float | None, max_memory: str | None, **given: Any) -> Any:
        if timeout is None and max_memory is None:
            return command(**given)
        return _within(command, given, timeout, max_memory)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*parameters, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*parameters, *more)}
    return run


def _within(command: _Command, given: dict[str, Any], timeout: float | None, max_memory: str | None) -> Any:
    from onnx_aiwq.cli import isolation

    what = _models(given)
    if isolation.inside is None:
        seconds = None if timeout is None else parse_seconds(timeout)
        size_bytes = None if max_memory is None else parse_memory(max_memory)
        limits = isolation.Limits(seconds, size_bytes, max_memory or "")
        return isolation.run_isolated(sys.argv[1:], limits, what)
    try:
        return command(**given)
    except (MemoryError, SystemError):
        # A library in C that gets no memory may forget to say so, which Python then calls a SystemError.
        if max_memory is None:
            raise
    # Only here is the memory of the failed command free again, and a message can be made.
    raise isolation.too_little_memory(what, max_memory)


def _models(given: dict[str, Any]) -> str:
    """How messages name what is analysed."""
    one = given.get("model") or given.get("file")
    if one is not None:
        return public_address(str(one))
    return ", ".join(map(str, given.get("models") or ())) or "the models of the configuration"


def parse_seconds(timeout: float) -> float:
    """The value of `--timeout`.

    Raises:
        PolicyError: if it is no time that a clock can wait.
    """
    if not (math.isfinite(timeout) and 0 < timeout <= _MOST_TIMEOUT_S):
        raise PolicyError(f"--timeout {timeout:g}: expected seconds above 0, for example --timeout 60")
    return timeout


def parse_memory(text: str) -> int:
    """Bytes of the value of `--max-memory`.

    Raises:
        PolicyError: if it is no number with a unit, or less than the libraries take.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*(\w*)", text.strip(), re.ASCII)
    if found is None or found[2] not in _UNITS:
        raise PolicyError(
            f"--max-memory {text!r}: expected a number with a unit, one of {', '.join(_UNITS)}, for example "
            "--max-memory 2GiB"
        )
    size = int(float(found[1]) * _UNITS[found[2]])
    if size < LEAST_MEMORY_BYTES:
        least = f"{LEAST_MEMORY_BYTES // 10**6} MB"
        raise PolicyError(f"--max-memory {text}: the libraries alone take up to {least}; give at least that")
    return size
