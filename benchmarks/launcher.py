"""Run one command and print its wall seconds, processor seconds, peak bytes and exit code as JSON.

python launcher.py SECONDS STDOUT STDERR COMMAND...

A child process starts with the peak memory of the process that started it. This one imports next to nothing, so that
the floor is some 10 MB and not whatever the benchmark holds. SECONDS is when the command is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main() -> None:
    limit_seconds, out, err, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    redirect = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, err, flags, 0o600),
    ]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=redirect)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, float(limit_seconds))
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"[{seconds}, {usage.ru_utime + usage.ru_stime}, {peak_bytes}, {os.waitstatus_to_exitcode(status)}]")


if __name__ == "__main__":
    main()
