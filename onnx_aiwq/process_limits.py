"""What one process may take: enforced by the system on itself, explained by whoever started it.

The command line (`--timeout`, `--max-memory`) and the worker processes of a fleet set their limits here.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

LEAST_MEMORY_BYTES = 256_000_000  # the libraries take more than half of it
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def child_environment() -> dict[str, str]:
    """The environment of a process that analyses models under limits.

    Threads of the linear algebra libraries reserve memory by the gigabyte, and the analysis has no use for them; one
    that the user asked for stays. With more than one arena, glibc makes and gives back another for each allocation that
    the limit refuses in the first: such a process crawls for minutes instead of ending.
    """
    return {**_ONE_THREAD, "MALLOC_ARENA_MAX": "1", **os.environ}


def limit_memory(max_memory_bytes: int) -> bool:
    """Let no allocation of this process pass a limit; whether the system enforces one.

    On Linux the limit is on what the process allocates, not on the files that it maps; elsewhere on its address space.
    """
    if sys.platform == "win32":
        return False
    import resource

    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    try:
        _lower(kind, max_memory_bytes)
    except (OSError, ValueError):  # systems whose processes reserve more from the start
        return False
    return True


def use_of(pid: int) -> tuple[int, float] | None:
    """Bytes that another process holds of what `limit_memory` limits, and its seconds of processor time; on Linux."""
    if sys.platform != "linux":
        return None
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[5])
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE"), (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def limit_processor_time(seconds: int) -> None:
    """End this process after so many seconds of processor time, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    _lower(resource.RLIMIT_CPU, seconds)


def forbid_core_dumps() -> None:
    """A crash leaves no file of the size of the process."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ending_of(code: int) -> str:
    """How a process with this return code ended: the name of a signal, or its exit code."""
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"


def _lower(kind: int, value: int) -> None:
    import resource

    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (value, value))
