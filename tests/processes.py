"""Processes that no test waits for without end: past its time, a process and all that it started is killed."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from typing import Any

LONGEST_S = 300.0


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
