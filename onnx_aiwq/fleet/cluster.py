"""Dask: batches of models out to workers and outcomes back, a bounded number of them under way."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any

from onnx_aiwq import __version__
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.settings import Limits
from onnx_aiwq.fleet.work import Job, Outcome, analyse_for, tool_version

BATCH_MODELS = 16
BATCHES_PER_THREAD = 3  # under way or waiting at a worker, so that none runs dry
_WAIT_FOR_WORKERS_S = 60
_ASK_FOR_WORKERS_EVERY_S = 5.0


@dataclass(frozen=True)
class Cluster:
    """Where a fleet is analysed.

    Attributes:
        workers: local processes, where there is no scheduler.
        scheduler: address of a Dask scheduler that runs already, as ``tcp://host:8786``.
    """

    workers: int
    scheduler: str | None = None


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """A Dask client of the cluster, with at least one worker that can analyse.

    Raises:
        AiwqError: if the scheduler cannot be reached, or its workers lack this version of the package.
    """
    distributed = need("distributed")
    if not os.environ.get("AIWQ_DEBUG"):
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters arrives as an exception
    if cluster.scheduler is None:
        with contextlib.ExitStack() as stack:
            # Its statistics of what workers do are nobody's, and cost every process a share of its time.
            stack.enter_context(need("dask").config.set({"distributed.worker.profile.enabled": False}))
            with _interrupts_deferred():
                local = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=cluster.workers,
                        threads_per_worker=1,
                        processes=True,
                        memory_limit=0,  # models have limits of their own, in processes of their own
                        dashboard_address="127.0.0.1:0",  # None would serve on every interface
                        worker_dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
                client = stack.enter_context(distributed.Client(local))
            yield client
        return
    try:
        client = distributed.Client(cluster.scheduler, timeout=_WAIT_FOR_WORKERS_S)
        client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise AiwqError(
            f"--scheduler {cluster.scheduler}: no scheduler with a worker answers: {error}; check the address, and "
            "start workers with `dask worker ADDRESS`"
        ) from error
    with client:
        _require_same_version(client, cluster.scheduler)
        yield client


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Start processes and threads that no Ctrl-C reaches; one that comes meanwhile is raised afterwards.

    A terminal sends it to all processes at once. The driver closes its workers in order, so they must not be taken by
    surprise; they inherit the mask from the thread that starts them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It unblocks the signal in the thread that starts it, which would be the one that starts the workers.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_same_version(client: Any, scheduler: str) -> None:
    try:
        versions = client.run(tool_version)
    except Exception as error:
        # What a worker raises is whatever its import failed with.
        raise AiwqError(
            f"--scheduler {scheduler}: its workers cannot run onnx_aiwq: {error}; install onnx-aiwq {__version__} there"
        ) from error
    other = {address: version for address, version in versions.items() if version != __version__}
    if other:
        listed = ", ".join(f"{address} has {version}" for address, version in sorted(other.items())[:3])
        raise AiwqError(f"--scheduler {scheduler}: expected onnx-aiwq {__version__} on every worker; {listed}")


def outcomes(client: Any, jobs: Iterable[Job], settings: str, limits: Limits) -> Iterator[Outcome]:
    """Analyse models on the workers, as they are asked for; outcomes come in any order.

    Args:
        client: of Dask.
        jobs: taken as workers become free.
        settings: `Settings.message()`.
        limits: per model.

    Raises:
        AiwqError: if the cluster is lost or its workers cannot run.
    """
    distributed = need("distributed")
    waiting = iter(jobs)
    under_way: dict[str, list[Job]] = {}
    completed = distributed.as_completed()
    window = _Window(client)

    name = hashlib.sha256(settings.encode()).hexdigest()

    def submit(batch: list[Job], text: str | None = None) -> None:
        future = client.submit(analyse_for, name, batch, text, limits, pure=False)
        under_way[future.key] = batch
        completed.add(future)

    def fill() -> None:
        while len(under_way) < window() and (batch := list(islice(waiting, BATCH_MODELS))):
            submit(batch)

    fill()
    while under_way:
        future = next(completed)
        batch = under_way.pop(future.key)
        answer = future.result() if future.status == "finished" else _lost(future, batch, distributed)
        future.release()
        if answer is None:
            submit(batch, settings)
            continue
        found, left = answer
        # What a lost worker had is tried again one by one, so that only the model that takes workers down is given up.
        size = 1 if future.status == "error" else BATCH_MODELS
        for start in range(0, len(left), size):
            submit(left[start : start + size])
        yield from found
        fill()


class _Window:
    """How many batches may be under way; workers may come and go meanwhile."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._batches, self._asked = 0, 0.0

    def __call__(self) -> int:
        now = time.monotonic()
        if not self._batches or now - self._asked > _ASK_FOR_WORKERS_EVERY_S:
            threads = int(sum(self._client.nthreads().values()))
            self._batches, self._asked = max(threads, 1) * BATCHES_PER_THREAD, now
        return self._batches


def _lost(future: Any, batch: list[Job], distributed: Any) -> tuple[list[Outcome], list[Job]]:
    """What becomes of the models of a batch without a result."""
    if future.status != "error":
        raise AiwqError("the cluster was lost; run the same command again: it goes on where it stopped")
    error = future.exception()
    if isinstance(error, AiwqError):
        raise error
    if not isinstance(error, distributed.KilledWorker):
        raise AiwqError(f"the workers cannot analyse models: {type(error).__name__}: {error}; see their logs")
    if len(batch) > 1:
        return [], batch
    job = batch[0]
    return [
        {
            "model": job["model"],
            "version": job["version"],
            "content_sha256": None,
            "size_bytes": None,
            "state": "failed",
            "reason": "worker",
            "message": "every worker that analysed it was lost; see the logs of the cluster",
        }
    ], []
