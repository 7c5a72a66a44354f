"""Seconds of single kernels, from onnxruntime's profiler, and what calls cost where next to nothing is computed.

The profiler sees when onnxruntime has started a kernel. On the processor it has ended by then. On a device it has not,
so there the profiler runs in a process of its own in which every start waits for the end (``CUDA_LAUNCH_BLOCKING``,
NVIDIA's CUDA C++ Programming Guide, environment variables); whole networks are timed in this process, without waiting.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import statistics
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from onnx_aiwq.calibration.running import Feeds, Reference, Runtime, Timing, open_session, time_runs
from onnx_aiwq.errors import MeterError

NodeSeconds = dict[str, float]
_KERNEL_EVENT = "_kernel_time"
_LEAST = 5  # runs of a slow model
_WAITING = "CUDA_LAUNCH_BLOCKING"
_AROUND = 5  # runs of the reference kernel before and after those of another process


def node_seconds(
    model: bytes, runtime: Runtime, feeds: Feeds, reference: Reference, *, runs: int, budget_s: float = 0.6
) -> tuple[NodeSeconds, Timing]:
    """Seconds of every node by name, as onnxruntime's profiler has them, and the timing of the runs.

    A node's are the mean of the middle half of its runs, of several threads of the lower half. Node names must be
    unique. The profiler adds its own cost to each node, and on a device so does waiting for it
    (`CallOverhead.kernel_seconds`). Nodes come in the order in which they ran.

    Raises:
        MeterError: if onnxruntime cannot load the model, or the process that profiles a device has ended.
    """
    if runtime.device is None:
        return _profiled(model, runtime, feeds, reference, runs, budget_s)
    references = [reference.seconds() for _ in range(_AROUND)]
    try:
        work = _waiting_process().submit(_profiled_in_child, model, runtime, feeds, runs, budget_s)
        times, timing = work.result()
    except BrokenProcessPool:
        raise MeterError(
            f"the process that profiles kernels of {runtime.provider} has ended; the device or the machine may have no "
            "memory left: stop other work there, then go on with --resume"
        ) from None
    references += [reference.seconds() for _ in range(_AROUND)]
    # The child's own reference waits for its end as well; what this process timed is to be compared with its own.
    return times, replace(timing, reference_s=statistics.median(references))


def _profiled(
    model: bytes, runtime: Runtime, feeds: Feeds, reference: Reference, runs: int, budget_s: float
) -> tuple[NodeSeconds, Timing]:
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, runtime, profile=Path(folder) / "profile")
        timing = time_runs(session, feeds, reference, least=min(runs, _LEAST), most=runs, budget_s=budget_s)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    taken: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL_EVENT):
            taken.setdefault(name.removesuffix(_KERNEL_EVENT), []).append(event["dur"] * 1e-6)
    mean = middle_mean if runtime.threads == 1 else lower_mean
    return {name: mean(times[2:] or times) for name, times in taken.items()}, timing


def middle_mean(times: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter: as robust as a median, and finer.

    The profiler writes whole microseconds, so that the median of a small kernel is one of few numbers.
    """
    cut = len(times) // 4
    return statistics.fmean(sorted(times)[cut : len(times) - cut])


def lower_mean(times: Sequence[float]) -> float:
    """Mean of the lower half: of several threads, what the lower quartile is of whole runs."""
    return statistics.fmean(sorted(times)[: (len(times) + 1) // 2])


# --- the process that waits for kernels --------------------------------------------------------------------------


@functools.cache
def _waiting_process() -> ProcessPoolExecutor:
    """A child in which starting a kernel waits for its end; it ends with this process, however that ends."""
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin_child)
    before = os.environ.get(_WAITING)
    os.environ[_WAITING] = "1"  # read as CUDA starts, which importing onnxruntime may do
    try:
        executor.submit(os.getpid).result()
    finally:
        if before is None:
            del os.environ[_WAITING]
        else:
            os.environ[_WAITING] = before
    return executor


def _begin_child() -> None:
    """Leave an interruption to the parent, and end when it is gone: nobody would give the device's memory back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _profiled_in_child(
    model: bytes, runtime: Runtime, feeds: Feeds, runs: int, budget_s: float
) -> tuple[NodeSeconds, Timing]:
    return _profiled(model, runtime, feeds, _childs_reference(runtime.provider), runs, budget_s)


@functools.cache
def _childs_reference(provider: str) -> Reference:
    return Reference(provider)


# --- calls -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallOverhead:
    """What calls cost where next to nothing is computed.

    Attributes:
        seconds_per_run: of an inference, whatever it holds.
        seconds_per_node: of a node, without the profiler.
        profiler_bias_s: what the profiler says of a node beyond its true time.
        least_s: of a node in a network; on a device the time to start a kernel, however short it is.
    """

    seconds_per_run: float
    seconds_per_node: float
    profiler_bias_s: float
    least_s: float = 0.0

    def kernel_seconds(self, profiled_s: float) -> float:
        """Seconds that a node adds to a run, of what the profiler says: without its own cost, and no less than least.

        On a device the next kernels are started while one runs: a network takes as long as its kernels, or as starting
        them where they are shorter.
        """
        return max(profiled_s - self.profiler_bias_s, self.least_s)


def call_overhead(runtime: Runtime, reference: Reference) -> CallOverhead:
    """Measure overheads on chains of operators on one element, with and without the profiler."""
    plain = Runtime(runtime.provider, runtime.threads, "disabled")
    feeds = {"x": np.ones((1,), np.float32)}
    times = {}
    for length in (1, 400):
        session = open_session(_chain(length), plain)
        times[length] = time_runs(session, feeds, reference, least=50, most=400, budget_s=0.5).seconds
    per_node = max(0.0, (times[400] - times[1]) / 399)
    profiled, _ = node_seconds(_chain(400), plain, feeds, reference, runs=40)
    # The first and last node also pay for what enters and leaves; the middle ones are what a network is made of.
    inner = statistics.fmean(seconds for name, seconds in profiled.items() if name not in ("node_0", "node_399"))
    per_run = max(0.0, times[1] - per_node)
    if runtime.device is None:
        return CallOverhead(per_run, per_node, profiler_bias_s=inner - per_node)
    # Of a kernel that computes next to nothing, all that the child sees is starting it and waiting.
    return CallOverhead(per_run, per_node, profiler_bias_s=inner, least_s=per_node)


def _chain(length: int) -> bytes:
    nodes = [
        helper.make_node(
            "Relu" if index % 2 else "Neg", [f"v{index}" if index else "x"], [f"v{index + 1}"], f"node_{index}"
        )
        for index in range(length)
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(f"v{length}", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
