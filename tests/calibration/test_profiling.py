"""Kernels that are started and not waited for: runs on a device, and the process that profiles them.

No device is needed: the processor stands in for one, with onnxruntime's bindings and the child process as they are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from onnx import helper

from deployed import small_model
from onnx_aiwq.calibration import profiling, running
from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.calibration.profiling import CallOverhead, call_overhead, lower_mean, middle_mean, node_seconds
from onnx_aiwq.calibration.running import DEVICES, Reference, Runtime, feeds_for, inference, open_session
from onnx_aiwq.calibration.sampling import sample_model
from onnx_aiwq.errors import MeterError

CPU = "CPUExecutionProvider"
CUDA = Runtime("CUDAExecutionProvider")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The processor as a device; the child process does not know of it, as CUDA's child waits for its kernels."""
    monkeypatch.setitem(DEVICES, CPU, "cpu")  # type: ignore[arg-type]
    yield
    if profiling._waiting_process.cache_info().currsize:
        profiling._waiting_process().shutdown()
        profiling._waiting_process.cache_clear()


def two_products() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["x", "small"], ["m"], "small"),
        helper.make_node("MatMul", ["m", "large"], ["y"], "large"),
    ]
    random = np.random.default_rng(0)
    weights = {"small": random.random((64, 64), np.float32), "large": random.random((64, 4096), np.float32)}
    return bytes(small_model(nodes, {"x": [256, 64]}, ["y"], weights).SerializeToString())


@pytest.mark.parametrize(
    ("times", "expected"),
    [([3.0], 3.0), ([2.0, 4.0], 3.0), ([1, 2, 2, 90], 2.0), ([2, 3, 2, 3, 2, 50, 2, 1], 2.25)],
)
def test_the_middle_half_counts(times: list[float], expected: float) -> None:
    assert middle_mean(times) == pytest.approx(expected)


def test_of_several_threads_the_lower_half_counts() -> None:
    assert [lower_mean(times) for times in ([3.0], [4.0, 2.0], [9.0, 1.0, 2.0], [5, 1, 3, 90])] == [3, 2, 1.5, 2]


# --- runs --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
def test_an_inference_on_a_device_computes_what_a_run_does() -> None:
    session = open_session(two_products(), Runtime())
    feeds = feeds_for(session)
    run = inference(session, feeds)
    assert run.func == session.run_with_iobinding  # type: ignore[attr-defined]
    run()
    run()
    found = run.args[0].copy_outputs_to_cpu()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found[0], session.run(None, feeds)[0])


def test_on_the_processor_nothing_is_bound() -> None:
    session = open_session(two_products(), Runtime())
    feeds = feeds_for(session)
    outputs: list[np.ndarray] = inference(session, feeds)()  # type: ignore[assignment]
    np.testing.assert_array_equal(outputs[0], session.run(None, feeds)[0])


def test_no_session_falls_back_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeterError, match=r"does not offer CUDAExecutionProvider; `aiwq doctor` says what to install"):
        open_session(two_products(), CUDA)
    monkeypatch.setattr(running.ort, "get_available_providers", lambda: [CUDA.provider, CPU])
    asked = {}

    def fallen_back(*_: object, **options: object) -> SimpleNamespace:
        asked.update(options)
        return SimpleNamespace(get_providers=lambda: [CPU])

    monkeypatch.setattr(running.ort, "InferenceSession", fallen_back)
    with pytest.raises(MeterError, match="opens no session on it: its driver or libraries lack"):
        open_session(two_products(), CUDA)
    assert asked == {"providers": [CUDA.provider], "enable_fallback": 0}


# --- the child ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("device")
def test_kernels_of_a_device_are_profiled_where_starting_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is this process's, five runs before and five after: their median goes with the times."""
    reference = Reference()
    own = iter([5.0] * 5 + [7.0] * 5)
    monkeypatch.setattr(reference, "seconds", lambda: next(own))
    feeds = feeds_for(open_session(two_products(), Runtime()))
    times, timing = node_seconds(two_products(), Runtime(), feeds, reference, runs=8)
    assert list(times) == ["small", "large"]
    assert 0 < times["small"] < times["large"] < timing.seconds
    assert timing.reference_s == 6.0
    child = profiling._waiting_process()
    assert child.submit(os.getenv, "CUDA_LAUNCH_BLOCKING").result() == "1"
    assert child.submit(os.getpid).result() != os.getpid()
    assert "CUDA_LAUNCH_BLOCKING" not in os.environ


@pytest.mark.usefixtures("device")
def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "0")
    assert profiling._waiting_process().submit(os.getenv, "CUDA_LAUNCH_BLOCKING").result() == "1"
    assert os.environ["CUDA_LAUNCH_BLOCKING"] == "0"


@pytest.mark.usefixtures("device")
def test_a_child_that_ended_is_told_in_one_line() -> None:
    child = profiling._waiting_process()
    with pytest.raises(BrokenProcessPool):
        child.submit(os._exit, 1).result()
    with pytest.raises(MeterError, match=r"process that profiles kernels of CPUExecutionProvider has ended.*--resume"):
        node_seconds(two_products(), Runtime(), {}, Reference(), runs=5)


@pytest.mark.usefixtures("device")
def test_what_the_child_cannot_load_is_told_as_here() -> None:
    with pytest.raises(MeterError, match="onnxruntime cannot load the model with CPUExecutionProvider"):
        node_seconds(b"no model", Runtime(), {}, Reference(), runs=5)


_PARENT = """
import os, time
from onnx_aiwq.calibration import profiling
print(profiling._waiting_process().submit(os.getpid).result(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_the_child_ends_with_its_parent_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=30)
    until = time.monotonic() + 30
    while psutil.pid_exists(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


# --- what a kernel adds ------------------------------------------------------------------------------------------


def test_a_kernel_takes_no_less_than_starting_it() -> None:
    """On a device a kernel of 3 us that was seen to take 20 + 3 is hidden behind the 5 us of starting the next."""
    on_device = CallOverhead(1e-4, 5e-6, profiler_bias_s=20e-6, least_s=5e-6)
    assert [on_device.kernel_seconds(seen) for seen in (19e-6, 23e-6, 120e-6)] == pytest.approx([5e-6, 5e-6, 100e-6])
    on_processor = CallOverhead(1e-4, 5e-6, profiler_bias_s=20e-6)
    assert [on_processor.kernel_seconds(seen) for seen in (19e-6, 23e-6)] == pytest.approx([0.0, 3e-6])


@pytest.mark.usefixtures("device")
def test_samples_of_a_device() -> None:
    """All nodes run, none is below the time of starting it, and together they are about the whole."""
    reference = Reference()
    overhead = call_overhead(Runtime(), reference)
    assert overhead.least_s == overhead.seconds_per_node > 0
    assert overhead.profiler_bias_s > overhead.seconds_per_node
    samples = sample_model("one", composite(0), Runtime(), overhead, reference)
    *nodes, whole = samples
    assert whole.node == ""
    assert len(nodes) > 3
    assert all(node.seconds >= overhead.least_s for node in nodes)
    together = sum(node.seconds / node.reference_s for node in nodes)
    assert 0.3 < together / (whole.seconds / whole.reference_s) < 3
