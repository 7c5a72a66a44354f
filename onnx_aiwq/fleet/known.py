"""What a fleet's folder already knows, so that a model is analysed once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.rows import Row
from onnx_aiwq.fleet.settings import Limits, Settings
from onnx_aiwq.fleet.sources import Found
from onnx_aiwq.fleet.store import FleetWriter, known_rows, storable
from onnx_aiwq.fleet.work import Job

RETRIED_REASONS = frozenset({"unreadable", "worker"})
"""Reasons that lie in the network or the cluster and not in the model: tried again in every run."""
_IDENTITY = ("model", "content_sha256", "settings", "reason", "message", "timeout_s", "max_memory_bytes")


class Known:
    """Results, failures and inventories of a folder, as far as they hold for the settings of a run.

    Attributes:
        hardware: keys of the profiles of the run.
    """

    def __init__(self, store: FleetWriter, settings: Settings, limits: Limits, *, retry: bool, trust: bool) -> None:
        """Read what is there.

        Args:
            store: whose run has begun.
            settings: of the run.
            limits: of the run; a failure under other limits is no failure under these.
            retry: analyse again what failed.
            trust: skip a file whose size and time, or ETag, are those of its last reading, without opening it.
        """
        self.hardware = frozenset(settings.hardware_keys)
        self._done: dict[str, tuple[tuple[str, str], ...]] = {}
        self._failed: dict[str, tuple[str | None, ...]] = {}
        self._errors: set[bytes] = set()
        self._read_results(store, settings)
        self._read_errors(store, settings, limits, retry)
        self._here = store.inventory(store.run)
        self._before = store.inventory(store.run - 1) if store.run > 1 else {}
        self._trust = trust

    def _read_results(self, store: FleetWriter, settings: Settings) -> None:
        where = need("pyarrow.compute").field("settings") == settings.key
        columns = ("model", "hardware_key", "content_sha256")
        for model, hardware, content in known_rows(store.batches("results", columns, where)):
            if hardware in self.hardware:
                self._done[model] = (*self._done.get(model, ()), (sys.intern(hardware), content))

    def _read_errors(self, store: FleetWriter, settings: Settings, limits: Limits, retry: bool) -> None:
        where = need("pyarrow.compute").field("settings") == settings.key
        same = (limits.timeout_s, limits.max_memory_bytes)
        for row in known_rows(store.batches("errors", _IDENTITY, where)):
            self._errors.add(_digest(row))
            model, content, _, reason, _, *found = row
            if not retry and tuple(found) == same and reason not in RETRIED_REASONS:
                self._failed[model] = (*self._failed.get(model, ()), content)

    def unchanged(self, found: Found) -> Row | None:
        """The inventory row of a model that need not be opened, because its store vouches for it; None for others."""
        name = storable(found.model)
        entry = self._here.get(name) or self._before.get(name)
        if not self._trust or entry is None or found.version is None or entry.version != found.version:
            return None
        done = {hardware for hardware, digest in self._done.get(name, ()) if digest == entry.content}
        if done >= self.hardware or self.has_failed(name, entry.content):
            return {
                "model": name,
                "content_sha256": entry.content,
                "version": entry.version,
                "size_bytes": _size(entry.version),
                "failed": not done >= self.hardware,
            }
        return None

    def has_failed(self, model: str, content: str | None) -> bool:
        """Whether this content of a model failed before, for a reason that would hold again."""
        return content in self._failed.get(model, ())

    def job(self, found: Found) -> Job:
        """What a worker has to know of a model."""
        name = storable(found.model)
        done: dict[str, list[str]] = {}
        for hardware, content in self._done.get(name, ()):
            done.setdefault(hardware, []).append(content)
        failed = [content for content in self._failed.get(name, ()) if content is not None]
        return Job(model=name, location=found.location, version=found.version, done=done, failed=failed)

    def is_listed(self, row: Row) -> bool:
        """Whether the inventory of this run has the model with this content."""
        return self._here.get(row["model"]) == (row["version"], row["content_sha256"], row["failed"])

    def is_new_error(self, row: Row) -> bool:
        """Whether no run has written this error; from now on one has."""
        digest = _digest(tuple(row[name] for name in _IDENTITY))
        new = digest not in self._errors
        self._errors.add(digest)
        return new


def _digest(values: tuple[Any, ...]) -> bytes:
    return hashlib.sha256(repr(values).encode()).digest()[:16]


def _size(version: str) -> int | None:
    text = version.partition(" ")[0]
    return int(text) if text.isdecimal() else None


def error_row(outcome: Mapping[str, Any], settings: Settings, limits: Limits) -> Row:
    """The row of a model that could not be analysed."""
    from onnx_aiwq import __version__
    from onnx_aiwq.operations.counting import CONVENTION_NAME

    options = settings.to_dict()
    return {
        "model": outcome["model"],
        "content_sha256": outcome["content_sha256"],
        "settings": settings.key,
        "tool_version": __version__,
        "convention": CONVENTION_NAME if options["convention"] == "default" else options["convention"],
        "level": options["level"],
        "reason": outcome["reason"],
        "message": storable(outcome["message"]),
        "size_bytes": outcome["size_bytes"],
        "timeout_s": float(limits.timeout_s),
        "max_memory_bytes": limits.max_memory_bytes,
    }
