"""What a Dask worker runs: a batch of models, each in the worker's child process."""

from __future__ import annotations

import atexit
import hashlib
import queue
import threading
import time
from typing import Any, NamedTuple, TypedDict

from onnx_aiwq import __version__
from onnx_aiwq.addresses import public_address
from onnx_aiwq.fleet.isolation import Child
from onnx_aiwq.fleet.settings import Limits

BATCH_SECONDS = 2.0  # a batch that takes longer hands the rest back, so that little is lost with a worker


class Job(TypedDict):
    """One model to analyse.

    Attributes:
        model: how rows name it.
        location: absolute path or URL that it is read from.
        version: what its store says of this version of the file; None where it says nothing.
        done: by hardware key, digests of the contents that need no analysis.
        failed: digests of the contents that failed before, under the same settings and limits.
    """

    model: str
    location: str
    version: str | None
    done: dict[str, list[str]]
    failed: list[str]


Outcome = dict[str, Any]


class Answer(NamedTuple):
    """What came of a batch.

    Attributes:
        outcomes: one per analysed model.
        left: jobs that were not begun.
        seconds: that the outcomes took.
    """

    outcomes: list[Outcome]
    left: list[Job]
    seconds: float


_idle: dict[str, queue.SimpleQueue[Child]] = {}
_settings: dict[str, str] = {}
_at_work: set[Child] = set()
_stopping = threading.Event()


def tool_version() -> str:
    """Version of this package where a worker runs."""
    return __version__


def analyse_for(name: str, jobs: list[Job], settings: str | None, limits: Limits) -> Answer | None:
    """`analyse_batch` with settings that are known here by a name: a megabyte with every batch would be most of it.

    Args:
        name: of the settings.
        jobs: at least one.
        settings: `Settings.message()`, remembered from now on; None where this process should have it already.
        limits: per model.

    Returns:
        None where it does not have it: a new process, which is to be asked again with the settings.
    """
    if settings is not None:
        _settings[name] = settings
    known = _settings.get(name)
    return None if known is None else analyse_batch(jobs, known, limits)


def analyse_batch(jobs: list[Job], settings: str, limits: Limits) -> Answer:
    """Analyse models for up to `BATCH_SECONDS` and the one begun by then.

    Args:
        jobs: at least one.
        settings: `Settings.message()`.
        limits: per model.

    Raises:
        AiwqError: if no child process can be started.
    """
    outcomes: list[Outcome] = []
    name = hashlib.sha256(f"{settings}{limits}".encode()).hexdigest()
    idle = _idle.setdefault(name, queue.SimpleQueue())
    child = _free_child(idle) or Child(settings, limits, _goes_on)
    _at_work.add(child)
    began = time.monotonic()  # a batch that starts a child says nothing of how long models take
    until = began + BATCH_SECONDS
    while len(outcomes) < len(jobs) and (not outcomes or time.monotonic() < until) and not _stopping.is_set():
        if not child.usable:
            _at_work.discard(child)
            child.close()
            child = Child(settings, limits, _goes_on)
            _at_work.add(child)
            continue
        left = jobs[len(outcomes) :]
        messages = [{"location": job["location"], "done": job["done"], "failed": job["failed"]} for job in left]
        found = child.analyse(messages, max(until - time.monotonic(), 0.0))
        outcomes.extend(_outcome(job, each) for job, each in zip(left, found, strict=False))
    _at_work.discard(child)
    idle.put(child)
    return Answer(outcomes, jobs[len(outcomes) :], time.monotonic() - began)


def _goes_on() -> bool:
    return not _stopping.is_set()


def _free_child(idle: queue.SimpleQueue[Child]) -> Child | None:
    try:
        return idle.get_nowait()
    except queue.Empty:
        return None


def _outcome(job: Job, found: dict[str, Any]) -> Outcome:
    if "message" in found:  # rows do not depend on the folder that a worker sees the files in
        found["message"] = found["message"].replace(public_address(job["location"]), job["model"])
    return {"model": job["model"], "version": job["version"], **found}


def stop_children() -> None:
    """End what is at work in this process: its batches come back at once, and so do new ones until `close_children`."""
    _stopping.set()
    for child in list(_at_work):
        child.stop()


@atexit.register
def close_children() -> None:
    """End the idle children of this process; one that is at work ends when its connection closes with this process."""
    _stopping.clear()
    for idle in _idle.values():
        while (child := _free_child(idle)) is not None:
            child.close()
