"""Streams of the command line: stdout carries the result and nothing else; all else goes to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from onnx_aiwq.errors import PolicyError

_PROGRESS_AFTER_S = 1.0
_QUIET_WARNINGS = 8  # lines on stderr; the JSON report holds all


def say(message: str) -> None:
    """One line on stderr, without line breaks and control characters that a model's names may hold."""
    from onnx_aiwq.bounds import one_message

    if sys.stderr is not None:  # closed by the caller
        with contextlib.suppress(OSError):
            print(f"aiwq: {one_message(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_progress() -> Iterator[Any]:
    """Tell on stderr what is going on, for work that takes over a second; a shorter run prints nothing."""
    started = time.monotonic()
    stage = ""
    timer: threading.Timer | None = None

    def show() -> None:
        say(f"{stage} ...")

    def begin(name: str) -> None:
        nonlocal stage, timer
        stage = name
        if time.monotonic() - started > _PROGRESS_AFTER_S:
            show()
        elif timer is None:
            timer = threading.Timer(_PROGRESS_AFTER_S, show)
            timer.daemon = True
            timer.start()

    try:
        yield begin
    finally:
        if timer is not None:
            timer.cancel()


def warn(lines: Iterable[str]) -> None:
    """Warnings of a result, one line each on stderr; the first few."""
    lines = list(lines)
    for line in lines[:_QUIET_WARNINGS]:
        say(line)
    if len(lines) > _QUIET_WARNINGS:
        say(f"{len(lines) - _QUIET_WARNINGS} more in `warnings` of --format json")


def use_colour() -> bool:
    """Whether a table on stdout may hold colours."""
    return is_terminal() and "NO_COLOR" not in os.environ


def table_width() -> int | None:
    """Columns of the terminal; wide enough for every line where stdout is no terminal."""
    return None if is_terminal() else 160


def line_width() -> int | None:
    """Columns that a list is folded for: those of the terminal; in a pipe a row is a line, however long."""
    if not is_terminal():
        return None
    from onnx_aiwq.render.console import columns_of

    return columns_of()


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def write(text: str | bytes, output: Path | None) -> None:
    """Print the result, or write it to a file that appears only when it is whole."""
    if output is not None:
        from onnx_aiwq.files import write_whole

        try:
            write_whole(output, text)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise PolicyError(f"--output {output}: cannot be written: {reason}; choose another file") from error
        return
    if sys.stdout is None:
        raise PolicyError("stdout is closed; open it, or name a file with --output")
    try:
        if isinstance(text, bytes):
            sys.stdout.buffer.write(text)
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python would try to write the rest once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(0)  # the reader of the pipe has gone (head, less): its decision, not an error of ours
        raise PolicyError(
            f"stdout cannot be written: {error.strerror}; free space or name a file with --output"
        ) from error
