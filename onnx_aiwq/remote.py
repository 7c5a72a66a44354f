"""Files at URLs as random-access bytes: what is read is fetched by ranges, and nothing else travels.

A model of gigabytes is mostly weights, and the graph lies in front of them and in between as short headers. So a read
at a new place fetches little, and reads that go on from there fetch more and more at a time.
"""

from __future__ import annotations

import bisect
import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from onnx_aiwq.addresses import public_address
from onnx_aiwq.errors import AiwqError, ModelError, UnreadableError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FIRST_FETCH_BYTES = 512  # holds the header of a tensor: name, type and dims
LEAST_FETCH_BYTES = 64
NEAR_BYTES = 4096  # to a place so little further on one goes on: what lies between is mostly read later, or small
_MARGIN_BYTES = 16  # the next header may have a longer name
_REMEMBERED_PLACES = 32
LARGEST_FETCH_BYTES = 256 * 1024  # the most that a fetch can overshoot into weights
_GROWTH = 4
_SAFE_LOCATION = re.compile(r"[\w@+=, -][\w@+=,. -]*(/[\w@+=, -][\w@+=,. -]*)*")
INSTALL = "pip install 'onnx-aiwq[fleet]'"


class RangeView:
    """Bytes of a file elsewhere, indexed and sliced like bytes in memory; what was fetched once is kept.

    Attributes:
        fetches: number of range reads so far.
        fetched_bytes: bytes that they returned.
    """

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int) -> None:
        """Take a function that returns the bytes from a first offset up to a second one."""
        self.fetches = 0
        self.fetched_bytes = 0
        self._read = read
        self._size = size_bytes
        self._starts: list[int] = []
        self._blocks: list[bytearray] = []
        self._steps: list[int] = []  # of each block, the bytes of its latest fetch
        self._latest = self._reached = 0  # where the latest block begins, and how far it was read
        self._needed: deque[int] = deque(maxlen=_REMEMBERED_PLACES)  # bytes read at the latest places

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: int | slice, /) -> int | bytes:
        if isinstance(key, int):
            index = self._block_at(key)
            self._reached = max(self._reached, key + 1)
            return self._blocks[index][key - self._starts[index]]
        start, stop, _ = key.indices(self._size)
        parts = []
        while start < stop:
            index = self._block_at(start, stop - start)
            offset = start - self._starts[index]
            part = bytes(self._blocks[index][offset : offset + stop - start])
            parts.append(part)
            start += len(part)
        self._reached = max(self._reached, stop)
        return b"".join(parts)

    def _block_at(self, position: int, wanted: int = 1) -> int:
        """Index of the block that holds a position, fetched if it has to be."""
        if not 0 <= position < self._size:
            raise IndexError(position)
        index = bisect.bisect_right(self._starts, position) - 1
        end = self._starts[index] + len(self._blocks[index]) if index >= 0 else -1
        if position < end:
            return index
        goes_on = index >= 0 and position - end <= NEAR_BYTES
        step = min(self._steps[index] * _GROWTH, LARGEST_FETCH_BYTES) if goes_on else self._first_fetch(position)
        start = end if goes_on else position
        following = self._starts[index + 1] if index + 1 < len(self._starts) else self._size
        data = self._fetch(start, min(max(start + step, position + wanted), following))
        if goes_on:
            self._blocks[index] += data
            self._steps[index] = step
            return index
        self._starts.insert(index + 1, position)
        self._blocks.insert(index + 1, bytearray(data))
        self._steps.insert(index + 1, step)
        return index + 1

    def _first_fetch(self, position: int) -> int:
        """Bytes to fetch at a new place: what the latest ones needed, for the headers of tensors are of a size."""
        if self._starts:
            self._needed.append(self._reached - self._latest)
        self._latest = self._reached = position
        if len(self._needed) < _REMEMBERED_PLACES:
            return FIRST_FETCH_BYTES
        return min(max(max(self._needed) + _MARGIN_BYTES, LEAST_FETCH_BYTES), FIRST_FETCH_BYTES)

    def _fetch(self, start: int, stop: int) -> bytes:
        data = self._read(start, stop)
        if len(data) != stop - start:
            raise UnreadableError(
                f"bytes {start} to {stop} were asked for, {len(data)} came; did the file change? Run it again"
            )
        self.fetches += 1
        self.fetched_bytes += len(data)
        return data


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """The fsspec file system of a URL, and the file's path in it.

    Raises:
        AiwqError: if the libraries for this kind of URL are not installed, or there is no such kind.
    """
    label = public_address(url)
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise AiwqError(f"{label}: reading from URLs needs fsspec; install it with {INSTALL}") from error
    try:
        system, path = url_to_fs(url, use_listings_cache=False, skip_instance_cache=False)
    except ImportError as error:
        raise AiwqError(f"{label}: {error}; install what it needs, for https and s3 with {INSTALL}") from error
    except ValueError as error:
        raise AiwqError(f"{label}: {error}; expected a path, https:// or s3://") from error
    return system, str(path)


def open_ranges(url: str) -> RangeView:
    """A file elsewhere as a view that fetches what is read.

    Raises:
        AiwqError: if there are no libraries for this kind of URL.
        UnreadableError: if the file does not exist, cannot be read, or its server serves no ranges.
        ModelError: if it is empty.
    """
    system, path = file_system(url)
    label = public_address(url)
    try:
        stream: Any = system.open(path, "rb", cache_type="none")
        size = stream.size if hasattr(stream, "size") else stream.seek(0, 2)
        if size is None and system.info(path).get("size") == 0:
            size = 0  # of nothing there are no ranges
    except Exception as error:
        # Every kind of store raises its own (OSError, aiohttp.ClientError, botocore's), without a common base.
        raise _unreadable(label, error) from error
    if size == 0:
        raise ModelError(f"{label}: the file is empty, expected an ONNX model; export or upload it again")
    if size is None or not stream.seekable():
        raise UnreadableError(f"{label}: its server serves no byte ranges; download the file and give its path")

    def read(start: int, stop: int) -> bytes:
        try:
            stream.seek(start)
            data: bytes = stream.read(stop - start)
        except Exception as error:
            raise _unreadable(label, error) from error
        return data

    return RangeView(read, int(size))


def read_beside(url: str, location: str, offset: int, size_bytes: int) -> bytes | None:
    """Bytes of a file in the folder of another, or below; None where there is no such file.

    Args:
        url: of the model.
        location: relative path of plain names, as external data has it.
        offset: of the first byte.
        size_bytes: number of bytes.

    Raises:
        UnreadableError: if the store refuses it, or the way to it fails: what the model's shapes are is not known then.
    """
    if not _SAFE_LOCATION.fullmatch(location) or offset < 0:
        return None
    system, path = file_system(url)
    folder, _, _ = path.partition("?")[0].rpartition("/")
    try:
        with system.open(f"{folder}/{location}", "rb", cache_type="none") as stream:
            stream.seek(offset)
            data: bytes = stream.read(size_bytes)
    except Exception as error:
        if _is_missing(error):
            return None  # unknown, as beside a local file: weights are often absent
        raise _unreadable(f"{public_address(url)}: its external data {location!r}", error) from error
    return data


def _is_missing(error: Exception) -> bool:
    """Whether the file does not exist: fsspec says so of whatever a web server, or the way to it, answers with."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError):
        return False
    refused = getattr(cause, "status", 404) not in (404, 410)
    return cause is None or not (refused or (isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)))


def _unreadable(label: str, error: Exception) -> UnreadableError:
    if _is_missing(error):
        return UnreadableError(f"{label}: no such file; check the URL")
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        error = cause
    reason = " ".join(str(error).split()) or type(error).__name__
    return UnreadableError(f"{label}: cannot be read: {reason}; check the URL, the network and the credentials")
