"""A command in a process of its own, with limits: what hangs, crashes or fills the memory there is an error here.

Nothing in the package is known to do so, see docs/hostile-files.md; but shape inference runs libraries in C++, and a
file from anybody is theirs to read as well.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO

from onnx_aiwq.bounds import one_message
from onnx_aiwq.errors import ModelError, PolicyError
from onnx_aiwq.process_limits import (
    child_environment,
    ending_of,
    forbid_core_dumps,
    limit_memory,
    limit_processor_time,
    use_of,
)

_STARTER = "import sys; from onnx_aiwq.cli.isolation import serve; serve(sys.argv[1:])"
_NOISE = 20  # lines of a crashing library that are passed on
_CPU_MARGIN_S = 2
_GRACE_S = 5.0  # to read the last lines of a child that has ended
_LOOK_EVERY_S = 0.5
_NOTHING_LEFT_BYTES = 1 << 20  # less than the blocks that the interpreter asks for
_AT_LIMIT_S = 5.0  # of processor time


@dataclass(frozen=True)
class Limits:
    """What one command may take; None is no limit.

    Attributes:
        timeout_s: wall-clock seconds.
        memory_bytes: that the process allocates, libraries included.
        memory_text: the same as the user wrote it.
    """

    timeout_s: float | None = None
    memory_bytes: int | None = None
    memory_text: str = ""


inside: Limits | None = None  # the limits that this process runs under, set by `serve`


def run_isolated(arguments: list[str], limits: Limits, what: str) -> int:
    """Run `aiwq` with the same arguments in a child; its stdout is ours, its stderr passes through us line by line.

    Args:
        arguments: of the command line, without the program.
        limits: of the child.
        what: how messages name the models.

    Returns:
        The exit code of the child.

    Raises:
        ModelError: if it ran out of time, was killed, or crashed.
    """
    if limits.memory_bytes is not None and sys.platform == "win32":
        raise PolicyError("--max-memory: this system has no limit of a process's memory; leave the option out")
    given = [repr(limits.timeout_s), repr(limits.memory_bytes), limits.memory_text]
    command = [sys.executable, "-c", _STARTER, *given, *arguments]
    child = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE)
    reader = threading.Thread(target=_pass_on, args=(child.stderr,), daemon=True)
    reader.start()
    try:
        code = _ending(child, limits, what)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        reader.join(_GRACE_S)
    if code in (0, 1, 2):
        return code
    if limits.timeout_s is not None and code in (-_signal("SIGXCPU"), -_signal("SIGALRM")):
        raise _timed_out(what, limits)
    raise ModelError(f"{what}: {_death(code, limits)}")


def _ending(child: subprocess.Popen[bytes], limits: Limits, what: str) -> int:
    """Wait for a child.

    Where not a byte is left to allocate, the interpreter may turn for ever around the exception that says so: to enter
    a handler it needs an integer. So a child that goes on computing at its limit has failed.
    """
    began = time.monotonic()
    at_limit_since: float | None = None  # its processor time then
    while True:
        left_s = math.inf if limits.timeout_s is None else began + limits.timeout_s - time.monotonic()
        if left_s <= 0:
            raise _timed_out(what, limits)
        try:
            return child.wait(min(left_s, _LOOK_EVERY_S))
        except subprocess.TimeoutExpired:
            used_bytes, used_s = use_of(child.pid) or (0, 0.0)
        if limits.memory_bytes is None or used_bytes < limits.memory_bytes - _NOTHING_LEFT_BYTES:
            at_limit_since = None
        elif at_limit_since is None:
            at_limit_since = used_s
        elif used_s - at_limit_since > _AT_LIMIT_S:
            raise too_little_memory(what, limits.memory_text)


def too_little_memory(what: str, memory_text: str) -> ModelError:
    """The error of a command that needs more than it may have."""
    return ModelError(f"{what}: needs more than --max-memory {memory_text}; give it more, or check the file")


def _signal(name: str) -> int:
    return int(getattr(signal, name, 0)) or 256


def _timed_out(what: str, limits: Limits) -> ModelError:
    return ModelError(
        f"{what}: no answer within --timeout {limits.timeout_s:g} s; give it more time, or check the file"
    )


def _death(code: int, limits: Limits) -> str:
    how = f"the process ended with {ending_of(code)}"
    memory = f" or needed more than --max-memory {limits.memory_text}" if limits.memory_text else ""
    return f"{how}: a library underneath crashed on the file{memory}; give it more memory, or check the file"


def _pass_on(stream: IO[bytes] | None) -> None:
    """Lines of our own as they are; of what a dying library prints the first few, without control characters."""
    noise = 0
    for line in stream or ():
        text = one_message(line.decode("utf-8", "replace"))
        noise += not text.startswith("aiwq: ")
        if text and noise <= _NOISE:
            print(text, file=sys.stderr, flush=True)


def serve(arguments: list[str]) -> None:
    """The child: take the limits, then be `aiwq`."""
    global inside
    timeout, memory, memory_text, *rest = arguments
    inside = Limits(
        None if timeout == "None" else float(timeout), None if memory == "None" else int(memory), memory_text
    )
    _apply(inside)
    sys.argv = ["aiwq", *rest]
    from onnx_aiwq.cli import main

    main()


def _apply(limits: Limits) -> None:
    forbid_core_dumps()
    if limits.memory_bytes is not None and not limit_memory(limits.memory_bytes):
        raise PolicyError(f"--max-memory {limits.memory_text}: this system does not enforce it; leave the option out")
    if limits.timeout_s is not None:
        # The parent watches the clock; this ends a child whose parent was killed.
        limit_processor_time(math.ceil(limits.timeout_s) + _CPU_MARGIN_S)
