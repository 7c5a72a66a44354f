"""Dask: batches of models out to workers and outcomes back, a bounded number of them under way."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from onnx_aiwq import __version__
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.settings import Limits
from onnx_aiwq.fleet.work import (
    Answer,
    Job,
    Outcome,
    analyse_for,
    close_children,
    stop_children,
    tool_version,
)

FIRST_BATCH_MODELS = 16
LARGEST_BATCH_MODELS = 256
BATCH_AIM_S = 0.4  # of work, beside which the price of a batch is nothing
BATCHES_PER_THREAD = 3  # under way or waiting at a worker, so that none runs dry
_WAIT_FOR_WORKERS_S = 60
_END_TIMEOUT_S = 30
_ASK_FOR_WORKERS_EVERY_S = 5.0
# Statistics of what workers do are nobody's here, and cost a share of the time.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.tick.interval": "1s",
}


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
        with _local(cluster.workers, distributed) as client:
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
def _local(workers: int, distributed: Any) -> Iterator[Any]:
    """A cluster within this process: each of its threads has a child process, which does the work.

    Worker processes between this one and the children would only pass on what these say, and outlive a kill.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(need("dask").config.set(_QUIET))
        stack.callback(close_children)
        with _interrupts_deferred():
            local = distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=workers,
                processes=False,
                memory_limit=0,  # models have limits of their own, in processes of their own
                dashboard_address="127.0.0.1:0",  # None would serve on every interface
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_close, local, distributed.TimeoutError)
            client = distributed.Client(local)
            stack.callback(_close, client, distributed.TimeoutError)
        stack.callback(stop_children)  # or an interrupted run would wait for the models at work
        yield client


def _close(part: Any, late: type[Exception]) -> None:
    """Close a client or a cluster; one that does not come to its end ends with this process, which has its rows."""
    with contextlib.suppress(late):
        part.close(timeout=_END_TIMEOUT_S)


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Start threads that no Ctrl-C reaches, nor the processes that they start; one that comes meanwhile waits.

    A terminal sends it to all processes at once. The driver ends its children in order, so they must not be taken by
    surprise, not even before they have a say in it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
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


def outcomes(
    client: Any, jobs: Iterable[Job], settings: str, limits: Limits, to_do: Callable[[], int]
) -> Iterator[Outcome]:
    """Analyse models on the workers, as they are asked for; outcomes come in any order.

    Args:
        client: of Dask.
        jobs: taken as workers become free.
        settings: `Settings.message()`.
        limits: per model.
        to_do: number of models without an outcome as yet, or more.

    Raises:
        AiwqError: if the cluster is lost or its workers cannot run.
    """
    distributed = need("distributed")
    waiting = iter(jobs)
    under_way: dict[str, list[Job]] = {}
    completed = distributed.as_completed()
    window = _Window(client, lambda: to_do() - sum(map(len, under_way.values())))
    name = hashlib.sha256(settings.encode()).hexdigest()

    def submit(batch: list[Job], text: str | None = None) -> None:
        future = client.submit(analyse_for, name, batch, text, limits, pure=False)
        under_way[future.key] = batch
        completed.add(future)

    def fill() -> None:
        while len(under_way) < window.batches() and (batch := list(islice(waiting, window.models()))):
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
        window.took(answer)
        # What a lost worker had is tried again one by one, so that only the model that takes workers down is given up.
        size = 1 if future.status == "error" else window.models()
        for start in range(0, len(answer.left), size):
            submit(answer.left[start : start + size])
        fill()  # before what came is written, so that no worker waits for that
        yield from answer.outcomes


class _Window:
    """How many batches may be under way, and of how many models; workers may come and go meanwhile."""

    def __init__(self, client: Any, waiting: Callable[[], int]) -> None:
        self._client, self._waiting = client, waiting
        self._threads, self._asked = 0, 0.0
        self._seconds_per_model: float | None = None

    def batches(self) -> int:
        now = time.monotonic()
        if not self._threads or now - self._asked > _ASK_FOR_WORKERS_EVERY_S:
            self._threads, self._asked = max(int(sum(self._client.nthreads().values())), 1), now
        return self._threads * BATCHES_PER_THREAD

    def models(self) -> int:
        """Of the next batch: what makes up `BATCH_AIM_S`, and less towards the end, so that all workers end at once."""
        if self._seconds_per_model is None:
            return FIRST_BATCH_MODELS
        most = min(max(round(BATCH_AIM_S / self._seconds_per_model), 1), LARGEST_BATCH_MODELS)
        share = self._waiting() // (self.batches() + 1)
        return max(min(share, most), most // 8, 1)

    def took(self, answer: Answer) -> None:
        """A batch came back."""
        if answer.outcomes:
            seconds = max(answer.seconds, 1e-6) / len(answer.outcomes)
            before = self._seconds_per_model
            self._seconds_per_model = seconds if before is None else (before + seconds) / 2


def _lost(future: Any, batch: list[Job], distributed: Any) -> Answer:
    """What becomes of the models of a batch without a result."""
    if future.status != "error":
        raise AiwqError("the cluster was lost; run the same command again: it goes on where it stopped")
    error = future.exception()
    if isinstance(error, AiwqError):
        raise error
    if not isinstance(error, distributed.KilledWorker):
        raise AiwqError(f"the workers cannot analyse models: {type(error).__name__}: {error}; see their logs")
    if len(batch) > 1:
        return Answer([], batch, 0.0)
    job = batch[0]
    lost = {
        "model": job["model"],
        "version": job["version"],
        "content_sha256": None,
        "size_bytes": None,
        "state": "failed",
        "reason": "worker",
        "message": "every worker that analysed it was lost; see the logs of the cluster",
    }
    return Answer([lost], [], 0.0)
