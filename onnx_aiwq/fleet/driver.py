"""A run over a fleet: list, skip what is done, analyse the rest, write what comes in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_aiwq.addresses import public_address
from onnx_aiwq.fleet.cluster import Cluster, connected, outcomes
from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.known import Known, error_row
from onnx_aiwq.fleet.progress import FleetProgress
from onnx_aiwq.fleet.rows import Row
from onnx_aiwq.fleet.settings import Limits, Settings
from onnx_aiwq.fleet.sources import Found, list_models
from onnx_aiwq.fleet.store import FleetWriter
from onnx_aiwq.fleet.work import Job, Outcome

PART_MODELS = 1000
PART_SECONDS = 10.0  # the work that a kill can cost


@dataclass(frozen=True)
class FleetRun:
    """What a run did.

    Attributes:
        run: its number in the folder.
        models: that the sources hold.
        analysed: now.
        unchanged: done before, or failed before and not tried again.
        failed: now.
        seconds: of wall time.
    """

    run: int
    models: int
    analysed: int
    unchanged: int
    failed: int
    seconds: float


def run_fleet(
    sources: Sequence[str],
    folder: Path,
    settings: Settings,
    *,
    cluster: Cluster,
    limits: Limits,
    progress: FleetProgress,
    stage: Callable[[str], None] = lambda name: None,
    retry: bool = False,
    trust: bool = True,
) -> FleetRun:
    """Analyse every model of the sources that the folder has no row of.

    Args:
        sources: paths, folders, globs and URLs.
        folder: that rows are written to; created, or that of an earlier run.
        settings: of the analysis.
        cluster: where it runs.
        limits: per model.
        progress: that is kept up to date.
        stage: is told what begins.
        retry: analyse again what failed.
        trust: do not open a file whose size and time, or ETag, are those of its last reading.

    Raises:
        AiwqError: if the sources, the folder or the cluster cannot be used; what was written stays.
    """
    for module in ("pyarrow.dataset", "distributed", "fsspec", "psutil"):
        need(module)
    began = time.monotonic()
    stage("listing models")
    # Twice, so that a slip is told before any work and the time left is known, with no more than a folder in memory.
    count = sum(1 for _ in list_models(sources))
    store = FleetWriter(folder)
    try:
        description = {
            "settings": settings.key,
            "options": settings.to_dict(),
            "hardware": sorted(settings.hardware_keys),
            "sources": [public_address(source) for source in sources],
        }
        run = store.begin(description)
        known = Known(store, settings, limits, retry=retry, trust=trust)
        progress.begin(count)
        recorder = Recorder(store, known, settings, limits, progress)
        try:
            _analyse(list_models(sources), known, recorder, cluster, settings, limits, stage)
        finally:
            recorder.flush()  # an interrupted run keeps what it has
            progress.end()
        store.finish(description)
    finally:
        store.close()
    seconds = time.monotonic() - began
    return FleetRun(run, progress.done, progress.analysed, progress.unchanged, progress.failed, seconds)


def _analyse(
    listed: Iterable[Found],
    known: Known,
    recorder: Recorder,
    cluster: Cluster,
    settings: Settings,
    limits: Limits,
    stage: Callable[[str], None],
) -> None:
    jobs = _jobs(listed, known, recorder)
    first = next(jobs, None)
    if first is None:
        return  # all is done: no worker is needed
    stage(f"connecting to {cluster.scheduler or f'{cluster.workers} local processes'}")
    with connected(cluster) as client:
        for outcome in outcomes(client, _chain(first, jobs), settings.message(), limits, recorder.to_do):
            recorder.add(outcome)


def _jobs(listed: Iterable[Found], known: Known, recorder: Recorder) -> Iterator[Job]:
    for found in listed:
        row = known.unchanged(found)
        if row is None:
            yield known.job(found)
        else:
            recorder.skip(row)


def _chain(first: Job, rest: Iterable[Job]) -> Iterator[Job]:
    yield first
    yield from rest


class Recorder:
    """Outcomes become rows, and rows become part files of some size or age."""

    def __init__(
        self, store: FleetWriter, known: Known, settings: Settings, limits: Limits, progress: FleetProgress
    ) -> None:
        """Take where rows go and what they belong to."""
        self._store, self._known, self._settings, self._limits = store, known, settings, limits
        self._progress = progress
        self._results: list[Row] = []
        self._errors: list[Row] = []
        self._inventory: list[Row] = []
        self._flushed = time.monotonic()

    def to_do(self) -> int:
        """Models without a row as yet."""
        return self._progress.total - self._progress.done

    def skip(self, row: Row) -> None:
        """A model that was not opened."""
        self._list(row)
        self._progress.count("unchanged")

    def add(self, outcome: Outcome) -> None:
        """A model that a worker had."""
        for row in outcome.get("rows", ()):
            row.update(model=outcome["model"], content_sha256=outcome["content_sha256"], settings=self._settings.key)
            self._results.append(row)
        failed = outcome["state"] == "failed"
        if failed:
            row = error_row(outcome, self._settings, self._limits)
            if self._known.is_new_error(row):
                self._errors.append(row)
        listed = {name: outcome[name] for name in ("model", "content_sha256", "size_bytes", "version")}
        before = outcome["state"] == "unchanged" and self._known.has_failed(outcome["model"], outcome["content_sha256"])
        self._list({**listed, "failed": failed or before})
        self._progress.count(outcome["state"])

    def _list(self, row: Row) -> None:
        if not self._known.is_listed(row):
            self._inventory.append(row)
        if len(self._inventory) >= PART_MODELS or time.monotonic() - self._flushed > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what has come in since the last part."""
        rows: tuple[list[Any], ...] = (self._results, self._errors, self._inventory)
        # Emptied first: rows whose writing is interrupted are analysed again, rows written twice would stay.
        self._results, self._errors, self._inventory = [], [], []
        if any(rows):
            self._store.add(*rows)
        self._flushed = time.monotonic()
