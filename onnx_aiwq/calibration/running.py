"""Timed runs of onnxruntime: sessions, and the reference kernel that machine drift divides out by.

A run is timed beside a fixed product of matrices, the reference kernel: whatever slows the machine as a whole (clock,
neighbours on a shared host) slows both, and seconds at the reference's usual speed are what is kept.
"""

from __future__ import annotations

import contextlib
import functools
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq.errors import MeterError

Level = Literal["disabled", "basic", "extended", "all"]
Feeds = Mapping[str, NDArray[Any]]
Taken = TypeVar("Taken")
LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
DEVICES: Mapping[str, str] = {"CUDAExecutionProvider": "cuda"}
"""Execution providers that start kernels on a device without waiting for their end, and onnxruntime's name of it."""
_DOCTOR = "`aiwq doctor` says what to install"
_ASLEEP = {"session.intra_op.allow_spinning": "0"}  # how threads wait for more work
_REFERENCE_SIZE, _DEVICE_REFERENCE_SIZE = 512, 2048
_BATCH = 4  # runs of several threads between two of the reference
_WAIT_S, _PAUSE_S, _TRIES = 2.0, 0.2, 3  # for what holds processors or memory: at most, between tries, runs
_QUIET = 1.15  # how much slower than at good times a product or a copy is while nothing else runs
_COPIED_BYTES = 32 << 20  # beyond a cache
_SESSIONS, _MOST_SESSIONS = 3, 8  # of several threads, of which the fastest counts
_AGREED = 1.04  # how far the two fastest may be apart


@dataclass(frozen=True)
class Runtime:
    """How onnxruntime runs a model: execution provider, threads within an operator, optimisation level."""

    provider: str = "CPUExecutionProvider"
    threads: int = 1
    level: Level = "all"

    @property
    def device(self) -> str | None:
        """Where kernels run that onnxruntime starts and does not wait for; None where it does, on the processor."""
        return DEVICES.get(self.provider)


def sessions_until_agreed(
    take: Callable[[], Taken], timing_of: Callable[[Taken], Timing]
) -> tuple[list[Taken], Timing]:
    """Sessions of several threads, the fastest first: three, and more until the two fastest agree, eight at most.

    A session may be as slow as one thread for as long as it lives, and several that follow one another may. A service
    that runs for long is not measured by that: the fastest counts, once another is about as fast.

    Returns:
        The sessions, and the timing of the fastest. Its reference kernel is the median of all sessions': with its own,
        the fastest would often be the one whose reference was slow.
    """

    def seconds(each: Taken) -> float:
        return timing_of(each).seconds

    taken = sorted((take() for _ in range(_SESSIONS)), key=seconds)
    while len(taken) < _MOST_SESSIONS and seconds(taken[1]) > _AGREED * seconds(taken[0]):
        taken = sorted([*taken, take()], key=seconds)
    reference_s = statistics.median(timing_of(each).reference_s for each in taken)
    return taken, replace(timing_of(taken[0]), reference_s=reference_s)


def open_session(
    model: bytes | Path,
    runtime: Runtime,
    *,
    optimized: Path | None = None,
    profile: Path | None = None,
    sizes: Mapping[str, int] | None = None,
    settings: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """A session of a model.

    Args:
        model: serialised, or its file.
        runtime: how it is run.
        optimized: where the optimiser writes its graph.
        profile: where the profiler writes, less an ending.
        sizes: of symbolic dimensions.
        settings: entries of the session's configuration, by onnxruntime's key.

    Raises:
        MeterError: if onnxruntime cannot load the model, with its reason in one line, or not on this provider.
    """
    if runtime.provider not in ort.get_available_providers():
        raise MeterError(f"onnxruntime {ort.__version__} does not offer {runtime.provider}; {_DOCTOR}")
    if runtime.device is not None:
        _load_device_libraries()
    options = _options(runtime, sizes or {}, settings or {})
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=[runtime.provider],
            enable_fallback=0,  # to the processor, whose seconds are not asked for
        )
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        reason = " ".join(str(error).split())[:300]
        raise MeterError(f"onnxruntime cannot load the model with {runtime.provider}: {reason}") from None
    if runtime.provider not in session.get_providers():
        raise MeterError(
            f"onnxruntime lists {runtime.provider} and opens no session on it: its driver or libraries lack; {_DOCTOR}"
        )
    return session


def _options(runtime: Runtime, sizes: Mapping[str, int], settings: Mapping[str, str]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[runtime.level]
    options.log_severity_level = 4
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    return options


@functools.cache
def _load_device_libraries() -> None:
    """Let onnxruntime find CUDA and cuDNN among installed packages; what is not found, a session says better."""
    preload = getattr(ort, "preload_dlls", None)  # of 1.21 and later
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def inference(session: ort.InferenceSession, feeds: Feeds) -> Callable[[], object]:
    """One inference to be called again and again, which has ended when the call returns.

    On a device its inputs are there already and its outputs stay there, as between the networks of a service: what is
    timed are kernels, and no copies between device and host.
    """
    device = DEVICES.get(session.get_providers()[0])
    if device is None:
        return functools.partial(session.run, None, dict(feeds))
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device, 0))
    for value in session.get_outputs():
        binding.bind_output(value.name, device)
    return functools.partial(session.run_with_iobinding, binding)


class Reference:
    """The fixed product of matrices that runs between whatever else is timed, on one thread.

    On as many threads as what is timed, it tells when another process holds a processor: one thread would not notice.
    A copy of memory beside it tells when a neighbour takes the bandwidth, which the product hardly notices.
    """

    def __init__(self, provider: str = "CPUExecutionProvider", threads: int = 1) -> None:
        size = _REFERENCE_SIZE if Runtime(provider).device is None else _DEVICE_REFERENCE_SIZE
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
        feeds = {"x": weight}
        self._run = inference(open_session(data, Runtime(provider=provider)), feeds)
        self._run_together = self._run
        if threads > 1:
            self._run_together = inference(open_session(data, Runtime(provider, threads), settings=_ASLEEP), feeds)
        self._source = np.ones(_COPIED_BYTES, np.uint8)
        self._target = np.empty_like(self._source)
        self._together_history: list[float] = []
        self._copied_history: list[float] = []
        self.history: list[float] = []
        for _ in range(5):
            self._run()

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
        self._run_together()
        return time.perf_counter() - start

    def _copied_s(self) -> float:
        start = time.perf_counter()
        np.copyto(self._target, self._source)
        return time.perf_counter() - start

    def seconds(self) -> float:
        """One run, timed; kept in `history`."""
        start = time.perf_counter()
        self._run()
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
        seconds: of one run: median; of several threads the lower quartile.
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
    Whatever takes one of several processors for a moment slows a run, and the reference on its one thread does not see
    it: of such runs the lower quartile counts.
    """
    several = session.get_session_options().intra_op_num_threads > 1
    run = inference(session, feeds)
    reference.wait_until_quiet()
    for _ in range(2):
        run()
    samples: list[float] = []
    references = [reference.seconds()]
    begun = time.perf_counter()
    while len(samples) < least or (len(samples) < most and time.perf_counter() - begun < budget_s):
        if several:
            run()
        for _ in range(_BATCH if several else 1):
            start = time.perf_counter()
            run()
            samples.append(time.perf_counter() - start)
        references.append(reference.seconds())
    quarters = statistics.quantiles(samples, n=4)
    spread = (quarters[2] - quarters[0]) / quarters[1]
    seconds = quarters[0] if several else quarters[1]
    return Timing(seconds, statistics.median(references), spread, len(samples), tuple(samples))


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
