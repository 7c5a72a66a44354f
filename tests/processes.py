"""Processes that no test waits for without end: past its time, a process and all that it started is killed."""

from __future__ import annotations

import functools
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST_S = 300.0
_LIMITS = ("120", "120", str(64 << 30))  # seconds, seconds of processor time and bytes of one command
_STEERING = ("AIWQ_", "PYTHON", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLUMNS", "LINES", "TERM", "TTY_", "XDG_")


def run(
    command: Sequence[str], *, input: str | None = None, seconds: float = LONGEST_S, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command that starts processes of its own, and return what it wrote.

    Raises:
        subprocess.TimeoutExpired: if it took longer. `subprocess.run` would kill the command and leave its children.
    """
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, encoding="utf-8", start_new_session=True, **options) as process:
        try:
            out, err = process.communicate(input, timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def plain_environment() -> dict[str, str]:
    """This environment without what steers colour, encoding, debugging and where files of the user lie."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}


def aiwq(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a fork of one process that has imported the package, ten times as quick as to start one.

    For tests of what commands answer; those of how the installed command starts, of streams and of signals start it.

    Args:
        folder: where it runs.
        environment: what is added to the plain one.
        arguments: of the command.
    """
    if not hasattr(os, "fork"):
        command = [sys.executable, "-c", "from onnx_aiwq.cli import main; main()", *arguments]
        given = {**plain_environment(), **environment}
        return subprocess.run(command, cwd=folder, env=given, capture_output=True, encoding="utf-8", timeout=LONGEST_S)
    server = _forking()
    assert server.stdin is not None and server.stdout is not None
    job = {"name": "", "arguments": arguments, "folder": str(folder), "environment": dict(environment)}
    print(json.dumps(job), file=server.stdin, flush=True)
    result = json.loads(server.stdout.readline())
    code = -result["signal"] if result["exit"] is None else result["exit"]
    out, err = (io.StringIO(result[name], newline=None).read() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(arguments, code, out, err)


@functools.cache
def _forking() -> subprocess.Popen[str]:
    """The process that forks; it ends when its stdin does, with these tests."""
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    command = [sys.executable, str(Path(__file__).with_name("forked.py")), *_LIMITS]
    return subprocess.Popen(command, **pipes, encoding="utf-8", env=plain_environment())


def on_a_terminal(command: Sequence[str], *, columns: int = 0, seconds: float = 60.0, **options: Any) -> str:
    """What a command, which must end well, writes to a stdout that is a terminal.

    Args:
        command: what runs.
        columns: of the terminal; 0 leaves them unsaid.
        seconds: after which the command is killed.
        options: of the process.

    Raises:
        subprocess.TimeoutExpired: if it took longer.
    """
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    if columns:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    others = dict.fromkeys(("stdin", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen(command, stdout=theirs, **others, **options) as process:
        os.close(theirs)
        try:
            written = _until_closed(ours, command, seconds)
            assert process.wait(seconds) == 0
        finally:
            process.kill()  # one that has ended is left as it is
            os.close(ours)
    return written.decode("utf-8")


def _until_closed(terminal: int, command: Sequence[str], seconds: float) -> bytes:
    written, deadline = b"", time.monotonic() + seconds
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            chunk = b""
        if not chunk:
            return written
        written += chunk
    raise subprocess.TimeoutExpired(command, seconds)
