"""Timed runs of onnxruntime: sessions, the reference kernel that machine drift divides out by, and the profiler.

A run is timed beside a fixed product of matrices, the reference kernel: whatever slows the machine as a whole (clock,
neighbours on a shared host) slows both, and seconds at the reference's usual speed are what is kept.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq.errors import MeterError

Level = Literal["disabled", "basic", "extended", "all"]
Feeds = Mapping[str, NDArray[Any]]
LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_REFERENCE_SIZE = 512
_KERNEL_EVENT = "_kernel_time"
_BATCH = 4  # runs of several threads between two of the reference
_LEAST = 5  # runs of a slow model
_WAIT_S, _PAUSE_S, _TRIES = 2.0, 0.2, 3  # for what holds processors or memory: at most, between tries, runs
_QUIET = 1.15  # how much slower than at good times a product or a copy is while nothing else runs
_COPIED_BYTES = 32 << 20  # beyond a cache
_SESSIONS = 3  # of several threads, of which the fastest counts


@dataclass(frozen=True)
class Runtime:
    """How onnxruntime runs a model: execution provider, threads within an operator, optimisation level."""

    provider: str = "CPUExecutionProvider"
    threads: int = 1
    level: Level = "all"


def sessions_of(runtime: Runtime) -> int:
    """How many sessions of a model to time; the fastest counts.

    With one thread, all are alike. With several, a session may be as slow as one thread for as long as it lives. A
    service that runs for long is not measured by that.
    """
    return 1 if runtime.threads == 1 else _SESSIONS


def open_session(
    model: bytes | Path,
    runtime: Runtime,
    *,
    optimized: Path | None = None,
    profile: Path | None = None,
    spinning: bool = True,
) -> ort.InferenceSession:
    """A session of a model; it writes its optimised graph or its profile where a path is given.

    Threads that are done wait for more work spinning, as onnxruntime has it, unless `spinning` is false.

    Raises:
        MeterError: if onnxruntime cannot load the model, with its reason in one line.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[runtime.level]
    options.log_severity_level = 4
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=[runtime.provider]
        )
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        reason = " ".join(str(error).split())[:300]
        raise MeterError(f"onnxruntime cannot load the model with {runtime.provider}: {reason}") from None


class Reference:
    """The fixed product of matrices that runs between whatever else is timed, on one thread.

    On as many threads as what is timed, it tells when another process holds a processor: one thread would not notice.
    A copy of memory beside it tells when a neighbour takes the bandwidth, which the product hardly notices.
    """

    def __init__(self, provider: str = "CPUExecutionProvider", threads: int = 1) -> None:
        size = _REFERENCE_SIZE
        weight = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "reference",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data = model.SerializeToString()
        self._session = open_session(data, Runtime(provider=provider))
        several = threads > 1
        self._together = open_session(data, Runtime(provider, threads), spinning=False) if several else self._session
        self._source = np.ones(_COPIED_BYTES, np.uint8)
        self._target = np.empty_like(self._source)
        self._together_history: list[float] = []
        self._copied_history: list[float] = []
        self._feeds = {"x": weight}
        self.history: list[float] = []
        for _ in range(5):
            self._session.run(None, self._feeds)

    def wait_until_quiet(self, most_s: float = _WAIT_S) -> float:
        """Wait until the product on all threads and a copy of memory are about as fast as they are at good times.

        Returns:
            The slower one's seconds over their first quartile so far: above `_QUIET` where the time was up.
        """
        begun = time.perf_counter()
        while True:
            slowness = max(
                _slowness(self._together_s, self._together_history), _slowness(self._copied_s, self._copied_history)
            )
            if slowness <= _QUIET or time.perf_counter() - begun > most_s:
                return slowness
            time.sleep(_PAUSE_S)

    def _together_s(self) -> float:
        start = time.perf_counter()
        self._together.run(None, self._feeds)
        return time.perf_counter() - start

    def _copied_s(self) -> float:
        start = time.perf_counter()
        np.copyto(self._target, self._source)
        return time.perf_counter() - start

    def seconds(self) -> float:
        """One run, timed; kept in `history`."""
        start = time.perf_counter()
        self._session.run(None, self._feeds)
        self.history.append(time.perf_counter() - start)
        return self.history[-1]


def _slowness(run: Callable[[], float], history: list[float]) -> float:
    """The fastest of a few runs over the first quartile of what was so far, which it joins."""
    history.append(min(run() for _ in range(_TRIES)))
    return history[-1] / float(np.quantile(history, 0.25))


@dataclass(frozen=True)
class Timing:
    """Runs of one model.

    Attributes:
        seconds: of one run: median.
        reference_s: median of the reference kernel, run in between.
        spread: interquartile range over median of the runs.
        runs: how many.
        samples: every run, in seconds.
    """

    seconds: float
    reference_s: float
    spread: float
    runs: int
    samples: tuple[float, ...]


def time_runs(
    session: ort.InferenceSession,
    feeds: Feeds,
    reference: Reference,
    *,
    least: int = 8,
    most: int = 60,
    budget_s: float = 1.0,
) -> Timing:
    """Run a model until the budget is spent, at least and at most so often, with the reference kernel in between.

    Between runs of several threads the reference would let the pool of threads fall asleep, and every run would begin
    with waking it, as none does in service: there it runs between batches, and the first run of a batch is not taken.
    """
    several = session.get_session_options().intra_op_num_threads > 1
    reference.wait_until_quiet()
    for _ in range(2):
        session.run(None, dict(feeds))
    samples: list[float] = []
    references = [reference.seconds()]
    begun = time.perf_counter()
    while len(samples) < least or (len(samples) < most and time.perf_counter() - begun < budget_s):
        if several:
            session.run(None, dict(feeds))
        for _ in range(_BATCH if several else 1):
            start = time.perf_counter()
            session.run(None, dict(feeds))
            samples.append(time.perf_counter() - start)
        references.append(reference.seconds())
    quarters = statistics.quantiles(samples, n=4)
    middle = statistics.median(samples)
    spread = (quarters[2] - quarters[0]) / middle
    return Timing(middle, statistics.median(references), spread, len(samples), tuple(samples))


def node_seconds(
    model: bytes | Path, runtime: Runtime, feeds: Feeds, reference: Reference, *, runs: int, budget_s: float = 0.6
) -> tuple[dict[str, float], Timing]:
    """Seconds of every node by name, as onnxruntime's profiler has them, and the timing of the runs.

    A node's are the mean of the middle half of its runs. Node names must be unique. The profiler adds its own cost to
    each node (`profiler_bias`). Nodes come in the order in which they ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, runtime, profile=Path(folder) / "profile")
        timing = time_runs(session, feeds, reference, least=min(runs, _LEAST), most=runs, budget_s=budget_s)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    taken: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL_EVENT):
            taken.setdefault(name.removesuffix(_KERNEL_EVENT), []).append(event["dur"] * 1e-6)
    return {name: middle_mean(times[2:] or times) for name, times in taken.items()}, timing


def middle_mean(times: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter: as robust as a median, and finer.

    The profiler writes whole microseconds, so that the median of a small kernel is one of few numbers.
    """
    cut = len(times) // 4
    return statistics.fmean(sorted(times)[cut : len(times) - cut])


@dataclass(frozen=True)
class CallOverhead:
    """What calls cost where next to nothing is computed.

    Attributes:
        seconds_per_run: of an inference, whatever it holds.
        seconds_per_node: of a node, without the profiler.
        profiler_bias_s: what the profiler says of a node beyond its true time.
    """

    seconds_per_run: float
    seconds_per_node: float
    profiler_bias_s: float


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
    inner = [seconds for name, seconds in profiled.items() if name not in ("node_0", "node_399")]
    return CallOverhead(
        seconds_per_run=max(0.0, times[1] - per_node),
        seconds_per_node=per_node,
        profiler_bias_s=statistics.fmean(inner) - per_node,
    )


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


def feeds_for(session: ort.InferenceSession, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Standard normal float inputs for a session whose inputs all have fixed shapes."""
    random = np.random.default_rng(seed)
    return {value.name: random.standard_normal(value.shape, dtype=np.float32) for value in session.get_inputs()}


def uniquely_named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every node of its main graph named ``node_<index>``, in place: the optimiser repeats names."""
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
    return model


def drift(history: Sequence[float]) -> float:
    """How unsteady the reference kernel was: the 95th over the 5th percentile of its running medians of nine."""
    if len(history) < 20:
        return 1.0
    medians = [statistics.median(history[index : index + 9]) for index in range(len(history) - 8)]
    low, high = np.quantile(medians, [0.05, 0.95])
    return float(high / low)
