"""Where the models of a fleet are: paths, folders, globs, and the same in object stores."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_aiwq.addresses import is_url, public_address
from onnx_aiwq.errors import AiwqError, UnreadableError
from onnx_aiwq.remote import file_system
from onnx_aiwq.runs import expand

SUFFIX = ".onnx"
_GLOB_CHARACTERS = frozenset("*?[")
_VERSION_KEYS = ("ETag", "LastModified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class Found:
    """A model that was listed, not opened.

    Attributes:
        model: path or URL without its secrets, as rows name it.
        version: changes when the file does (size and time of a local one, the ETag of an object); None if unknown.
        url: with what its server asks for; None for a path.
    """

    model: str
    version: str | None
    url: str | None = None

    @property
    def location(self) -> str:
        """Absolute path, or the URL: what a worker in another folder opens."""
        return self.url or os.path.abspath(self.model)  # noqa: PTH100 - no symlink followed


def list_models(sources: Sequence[str]) -> Iterator[Found]:
    """Every model of the sources, each name once, in a fixed order, as it is found.

    A folder stands for the ``*.onnx`` files in it and below; a file is taken whatever its name.

    Raises:
        AiwqError: if a source does not exist, cannot be listed, or holds no model.
    """
    # The names of one source differ; a digest each is what several may hold of millions.
    seen: dict[bytes, bytes | None] | None = {} if len(sources) > 1 else None
    for source in sources:
        empty = True
        for found in _remote(source) if is_url(source) else _local(source):
            empty = False
            if seen is None or _is_new(found, seen):
                yield found
        if empty:
            raise UnreadableError(f"{public_address(source)}: holds no {SUFFIX} file; check the folder")


def _is_new(found: Found, seen: dict[bytes, bytes | None]) -> bool:
    name, url = _digest(found.model), None if found.url in (None, found.model) else _digest(found.url)
    if name not in seen:
        seen[name] = url
        return True
    if seen[name] != url:
        raise AiwqError(
            f"{found.model}: is given twice with different queries, which rows do not hold; give it once, or run one "
            "fleet for each"
        )
    return False


def _digest(text: str | None) -> bytes:
    return hashlib.blake2b((text or "").encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _local(source: str) -> Iterator[Found]:
    path = Path(source)
    if path.is_dir():
        yield from _walk(path)
        return
    for file in expand([source]):
        if not file.exists():
            raise UnreadableError(f"{file}: no such file or folder; check the path")
        yield _found(str(file))


def _walk(folder: Path) -> Iterator[Found]:
    def refuse(error: OSError) -> None:
        raise UnreadableError(f"{error.filename}: cannot be listed: {error.strerror}; check its permissions") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        beside = os.path.join(place, "").removeprefix(os.path.join(".", ""))  # noqa: PTH118 - once per folder
        for name in sorted(files):
            if name.lower().endswith(SUFFIX):
                yield _found(f"{beside}{name}")


def _found(file: str) -> Found:
    try:
        status = os.stat(file)  # noqa: PTH116 - millions of them
    except OSError:  # a dangling link, or deleted meanwhile: its row says so
        return Found(file, None)
    return Found(file, f"{status.st_size} {status.st_mtime_ns}")


def _remote(source: str) -> Iterator[Found]:
    system, path = file_system(source)
    web = source.startswith(("http://", "https://"))
    wild = _GLOB_CHARACTERS - {"?"} if web else _GLOB_CHARACTERS  # a web address has a question mark of its own
    if wild.isdisjoint(path) and path.partition("?")[0].lower().endswith(SUFFIX):
        yield Found(public_address(source), None, source)
        return
    try:
        for listed in [system.glob(path, detail=True)] if not wild.isdisjoint(path) else _folders(system, path):
            for name in sorted(listed):
                if listed[name].get("type") != "directory" and name.lower().endswith(SUFFIX):
                    url = str(system.unstrip_protocol(name))
                    yield Found(public_address(url), _version(listed[name]), url)
    except Exception as error:
        # Every kind of store raises its own, without a common base.
        reason = " ".join(str(error).split()) or type(error).__name__
        label = public_address(source)
        raise UnreadableError(f"{label}: cannot be listed: {reason}; check the address and credentials") from error


def _folders(system: Any, path: str) -> Iterator[Mapping[str, Any]]:
    """Files of a folder, then of each one below, by name: no more than one folder is held at a time."""
    for place, _, files in system.walk(path, detail=True, on_error="raise"):
        yield {each.get("name") or f"{place}/{name}": each for name, each in files.items()}


def _version(details: Mapping[str, Any]) -> str | None:
    marks = [str(details[key]) for key in _VERSION_KEYS if details.get(key)]
    return f"{details.get('size')} {marks[0]}" if marks else None
