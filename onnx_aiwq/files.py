"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path

UNFINISHED = ".aiwq-part"
"""Ending of what is still being written, or what a killed process was writing."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a reader, a crash or a full disk never meets a half-written one.

    A regular file is written beside its place, flushed to disk and renamed; a symbolic link keeps pointing where it
    points; what is no file of bytes on a disk (a device, a pipe) is written to directly. A process that is killed while
    it writes leaves its unfinished file behind under a hidden name; the next write of the same file removes it.

    Raises:
        OSError: if the place cannot be written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(21, "is a directory")
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb") as stream:
            stream.write(data)
        return
    _remove_abandoned(target)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_prefix(target)}{os.getpid()}-", suffix=UNFINISHED)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode(target))
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(target.parent)


def _prefix(target: Path) -> str:
    """What the unfinished files of one target on one machine begin with; the name itself could be too long for more."""
    digest = hashlib.sha256(f"{target.name}\0{platform.node()}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f".{digest}-"


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that are no more left of this target; those of other machines are not known to be gone."""
    prefix = _prefix(target)
    with contextlib.suppress(OSError):
        for each in target.parent.glob(f"{prefix}*{UNFINISHED}"):
            owner = each.name.removeprefix(prefix).partition("-")[0]
            if owner.isdecimal() and not _is_running(int(owner)):
                each.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if sys.platform == "win32":
        return True  # asking would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _flush_folder(folder: Path) -> None:
    """Put the new name itself on disk, where the system can."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode(target: Path) -> int:
    """Permissions of the file that is replaced, else those that a new file would get."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
