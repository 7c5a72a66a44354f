"""What a Dask worker runs: a batch of models, each in the worker's child process."""

from __future__ import annotations

import atexit
import hashlib
import queue
import time
from typing import Any, TypedDict

from onnx_aiwq import __version__
from onnx_aiwq.addresses import public_address
from onnx_aiwq.fleet.isolation import SUSPENDED, Child
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
_idle: dict[str, queue.SimpleQueue[Child]] = {}
_settings: dict[str, str] = {}


def tool_version() -> str:
    """Version of this package where a worker runs."""
    return __version__


def analyse_for(
    name: str, jobs: list[Job], settings: str | None, limits: Limits
) -> tuple[list[Outcome], list[Job]] | None:
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


def analyse_batch(jobs: list[Job], settings: str, limits: Limits) -> tuple[list[Outcome], list[Job]]:
    """Analyse models for up to `BATCH_SECONDS` and the one begun by then.

    Args:
        jobs: at least one.
        settings: `Settings.message()`.
        limits: per model.

    Returns:
        One outcome per analysed model, and the jobs that are left.

    Raises:
        AiwqError: if no child process can be started.
    """
    until = time.monotonic() + BATCH_SECONDS
    outcomes: list[Outcome] = []
    name = hashlib.sha256(f"{settings}{limits}".encode()).hexdigest()
    idle = _idle.setdefault(name, queue.SimpleQueue())
    try:
        child = idle.get_nowait()
    except queue.Empty:
        child = Child(settings, limits)
    for job in jobs:
        if outcomes and time.monotonic() > until:
            break
        if not child.usable:
            child.close()
            child = Child(settings, limits)
        message = {"location": job["location"], "done": job["done"], "failed": job["failed"]}
        while (found := child.analyse(message))["state"] == SUSPENDED:
            child.close()
            child = Child(settings, limits)
        if "message" in found:  # rows do not depend on the folder that a worker sees the files in
            found["message"] = found["message"].replace(public_address(job["location"]), job["model"])
        outcomes.append({"model": job["model"], "version": job["version"], **found})
    idle.put(child)
    return outcomes, jobs[len(outcomes) :]


@atexit.register
def close_children() -> None:
    """End the idle children of this process; one that is at work ends when its connection closes with this process."""
    for idle in _idle.values():
        while not idle.empty():
            idle.get_nowait().close()
