"""Where the models of a fleet are: paths, folders, globs, and the same in object stores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_aiwq.errors import AiwqError, UnreadableError
from onnx_aiwq.remote import file_system, is_url
from onnx_aiwq.runs import expand

SUFFIX = ".onnx"
_GLOB_CHARACTERS = frozenset("*?[")
_VERSION_KEYS = ("ETag", "LastModified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class Found:
    """A model that was listed, not opened.

    Attributes:
        model: path or URL, as rows name it.
        version: changes when the file does (size and time of a local one, the ETag of an object); None if unknown.
    """

    model: str
    version: str | None

    @property
    def location(self) -> str:
        """Absolute path, or the URL: what a worker in another folder opens."""
        return self.model if is_url(self.model) else os.path.abspath(self.model)  # noqa: PTH100 - no symlink followed


def list_models(sources: Iterable[str]) -> Iterator[Found]:
    """Every model of the sources, each name once, in a fixed order.

    A folder stands for the ``*.onnx`` files in it and below; a file is taken whatever its name.

    Raises:
        AiwqError: if a source does not exist, cannot be listed, or holds no model.
    """
    seen: set[str] = set()
    for source in sources:
        empty = True
        for found in _remote(source) if is_url(source) else _local(source):
            empty = False
            if found.model not in seen:
                seen.add(found.model)
                yield found
        if empty:
            raise UnreadableError(f"{source}: holds no {SUFFIX} file; check the folder")


def _local(source: str) -> Iterator[Found]:
    path = Path(source)
    if path.is_dir():
        yield from _walk(path)
        return
    for file in expand([source]):
        if not file.exists():
            raise UnreadableError(f"{file}: no such file or folder; check the path")
        yield _found(file)


def _walk(folder: Path) -> Iterator[Found]:
    def refuse(error: OSError) -> None:
        raise UnreadableError(f"{error.filename}: cannot be listed: {error.strerror}; check its permissions") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(SUFFIX):
                yield _found(Path(place, name))


def _found(file: Path) -> Found:
    try:
        status = file.stat()
    except OSError:  # a dangling link, or deleted meanwhile: its row says so
        return Found(str(file), None)
    return Found(str(file), f"{status.st_size} {status.st_mtime_ns}")


def _remote(source: str) -> Iterator[Found]:
    system, path = file_system(source)
    web = source.startswith(("http://", "https://"))
    wild = _GLOB_CHARACTERS - {"?"} if web else _GLOB_CHARACTERS  # a web address has a question mark of its own
    try:
        if not wild.isdisjoint(path):
            listed = system.glob(path, detail=True)
        elif path.partition("?")[0].lower().endswith(SUFFIX):
            yield Found(source, None)
            return
        else:
            listed = system.find(path, detail=True)
    except Exception as error:
        # Every kind of store raises its own, without a common base.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"{source}: cannot be listed: {reason}; check the address and credentials") from error
    if not isinstance(listed, dict):
        raise AiwqError(f"{source}: this kind of store cannot be listed; name its files one by one")
    for name in sorted(listed):
        if listed[name].get("type") != "directory" and name.lower().endswith(SUFFIX):
            yield Found(str(system.unstrip_protocol(name)), _version(listed[name]))


def _version(details: Mapping[str, Any]) -> str | None:
    marks = [str(details[key]) for key in _VERSION_KEYS if details.get(key)]
    return f"{details.get('size')} {marks[0]}" if marks else None
