"""Predicted against measured on networks that took no part in a fit."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from msgspec.structs import replace

from onnx_aiwq.calibration.assessment import Errors, baseline_errors, errors_of
from onnx_aiwq.calibration.candidates import Candidate, prepare
from onnx_aiwq.calibration.fitting import observe
from onnx_aiwq.calibration.machine import usable_cpus
from onnx_aiwq.calibration.meters import CPU_PROVIDER, Meter
from onnx_aiwq.calibration.profiling import call_overhead
from onnx_aiwq.calibration.running import (
    Feeds,
    Reference,
    Runtime,
    Timing,
    inference,
    open_session,
    sessions_until_agreed,
    time_runs,
)
from onnx_aiwq.calibration.sampling import deployed_model, sample_model
from onnx_aiwq.costs import node_costs
from onnx_aiwq.deployed import times_of
from onnx_aiwq.energy import estimate
from onnx_aiwq.errors import MeterError, ModelError, ProfileError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.kernels.model import TimeModel, predict
from onnx_aiwq.lowering import Lowering
from onnx_aiwq.profiles import this_machine
from onnx_aiwq.transistors import transistor_operations

_ROUNDS = 3  # of a network's runs; the middle one counts, of several threads the fastest session
_ROUND_S = 1.0
FEWEST_FOR_BASELINES = 5


@dataclass(frozen=True)
class KernelError:
    """One kind of kernel in one network: seconds by onnxruntime's profiler, as in a run, and as predicted."""

    kind: str
    count: int
    measured_s: float
    predicted_s: float


@dataclass(frozen=True)
class NetworkResult:
    """One network.

    Attributes:
        name: file name without its ending.
        measured_s: seconds of an inference, at the reference kernel's speed in the profile.
        spread: largest over smallest round.
        predicted_s: from the exported file alone.
        low_s: low end of the 90 % interval.
        high_s: high end.
        deployed_s: predicted from the graph that onnxruntime's optimiser writes.
        macs: multiply-accumulate pairs.
        transistor_operations: TO.
        moved_bytes: read and written.
        measured_j: by a meter; None without one.
        predicted_j: joules of the prediction.
        kernels: errors by kind, worst first; empty unless asked for.
        bindings: symbolic dimensions that were bound.
        assumed_bindings: those that nobody bound, and the size taken.
        random_weights: whether weights were made up.
        unpriced: names of the operators that no prediction includes.
        notes: what a reader of the prediction has to know.
        path: of the file.
    """

    name: str
    measured_s: float
    spread: float
    predicted_s: float
    low_s: float
    high_s: float
    deployed_s: float
    macs: int
    transistor_operations: int
    moved_bytes: int
    measured_j: float | None
    predicted_j: float
    kernels: tuple[KernelError, ...] = ()
    bindings: Mapping[str, int] = field(default_factory=dict)
    assumed_bindings: Mapping[str, int] = field(default_factory=dict)
    random_weights: bool = False
    unpriced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    path: str = ""

    @property
    def error(self) -> float:
        """Signed, as a share: 0.05 for 5 % too slow a prediction."""
        return self.predicted_s / self.measured_s - 1

    @property
    def deployed_error(self) -> float:
        """The same for the deployed graph."""
        return self.deployed_s / self.measured_s - 1

    @property
    def covered(self) -> bool:
        """Whether the interval holds the measured value."""
        return self.low_s <= self.measured_s <= self.high_s


@dataclass(frozen=True)
class Validation:
    """All networks, and what they say together.

    Attributes:
        hardware: id of the profile.
        source: how its joules were obtained.
        networks: one each.
        exported: errors of predictions from exported files.
        deployed: errors of predictions from deployed graphs.
        coverage: share of networks inside the 90 % interval.
        baselines: leave-one-network-out errors of simpler models on the same networks.
        joules: errors of joules where a meter measured them.
    """

    hardware: str
    source: str
    networks: tuple[NetworkResult, ...]
    exported: Errors
    deployed: Errors
    coverage: float
    baselines: Mapping[str, Errors]
    joules: Errors | None = None


def validate(
    candidates: Sequence[Candidate],
    profile: HardwareProfile,
    *,
    meter: Meter | None = None,
    per_node: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Validation:
    """Run every network and set it beside what the profile predicts.

    Args:
        candidates: networks; weights that are absent are made up, at random.
        profile: with kernels, of this machine.
        meter: measures joules, where it is one that measures.
        per_node: compare every kind of kernel with onnxruntime's own profiler.
        progress: is told the name of each network.

    Raises:
        ProfileError: if the profile has no kernels.
        AiwqError: if a network cannot be run.
    """
    kernels = _kernels(profile)
    runtime = Runtime(profile.provider or CPU_PROVIDER, profile.threads or 1, kernels.level)
    reference = Reference(runtime.provider, runtime.threads)
    results = []
    for candidate in candidates:
        progress(candidate.name)
        results.append(_network(candidate, profile, runtime, reference, meter, per_node))
    measured = [result.measured_s for result in results]
    return Validation(
        hardware=profile.id,
        source=profile.source,
        networks=tuple(results),
        exported=errors_of([result.predicted_s for result in results], measured),
        deployed=errors_of([result.deployed_s for result in results], measured),
        coverage=statistics.fmean(result.covered for result in results),
        baselines=_baselines(results),
        joules=_joule_errors(results),
    )


def _joule_errors(results: Sequence[NetworkResult]) -> Errors | None:
    metered = [(result.predicted_j, result.measured_j) for result in results if result.measured_j]
    return errors_of(*zip(*metered, strict=True)) if metered else None


def _network(
    candidate: Candidate,
    profile: HardwareProfile,
    runtime: Runtime,
    reference: Reference,
    meter: Meter | None,
    per_node: bool,
) -> NetworkResult:
    network = prepare(candidate)
    model, feeds, kernels = network.model, network.feeds, _kernels(profile)
    measured = _measured(candidate, model, runtime, feeds, reference, meter)
    costs = node_costs(network.graph)
    predicted = estimate(costs, profile, graph=network.graph)
    if predicted.seconds is None or predicted.joules is None:
        raise ModelError(f"{candidate.path}: no operator of it has a price")
    written = load(deployed_model(model, runtime), shapes={name: array.shape for name, array in feeds.items()})
    counted = [cost.counts for cost in costs if cost.counts is not None]
    return NetworkResult(
        name=candidate.name,
        measured_s=measured.relative * kernels.reference_s,
        spread=measured.spread,
        predicted_s=predicted.seconds,
        low_s=predicted.seconds_low or 0.0,
        high_s=predicted.seconds_high or math.inf,
        deployed_s=deployed_seconds(written, kernels),
        macs=sum(counts.macs for counts in counted),
        transistor_operations=sum(transistor_operations(counts) for counts in counted),
        moved_bytes=sum((cost.bytes_read or 0) + (cost.bytes_written or 0) for cost in costs),
        measured_j=measured.joules,
        predicted_j=predicted.joules,
        kernels=_by_kind(candidate.name, model, runtime, reference, feeds, kernels) if per_node else (),
        bindings=candidate.bindings,
        assumed_bindings=network.assumed_bindings,
        random_weights=network.random_weights,
        unpriced=predicted.unpriced,
        notes=predicted.notes,
        path=str(candidate.path),
    )


class _Measured(NamedTuple):
    """Runs of one network: seconds over those of the reference kernel, largest over smallest round, joules."""

    relative: float
    spread: float
    joules: float | None


def _measured(
    candidate: Candidate,
    model: onnx.ModelProto,
    runtime: Runtime,
    feeds: Feeds,
    reference: Reference,
    meter: Meter | None,
) -> _Measured:
    session = _running(candidate, model, runtime, feeds)

    def run(session: ort.InferenceSession) -> Timing:
        return time_runs(session, feeds, reference, least=5, most=80, budget_s=_ROUND_S)

    if runtime.threads == 1:
        relative = sorted(timing.seconds / timing.reference_s for timing in (run(session) for _ in range(_ROUNDS)))
        chosen, spread = relative[len(relative) // 2], relative[-1] / relative[0]
    else:
        rounds, fastest = sessions_until_agreed(
            lambda: run(_running(candidate, model, runtime, feeds)), lambda timing: timing
        )
        chosen, spread = fastest.seconds / fastest.reference_s, rounds[-1].seconds / rounds[0].seconds
    joules = None if meter is None else _joules(session, feeds, meter)
    return _Measured(chosen, spread, joules)


def _running(candidate: Candidate, model: onnx.ModelProto, runtime: Runtime, feeds: Feeds) -> ort.InferenceSession:
    """A session that has run once.

    Raises:
        MeterError: if onnxruntime cannot load the network, or not run it on random inputs.
    """
    try:
        session = open_session(model.SerializeToString(), runtime)
    except MeterError as error:
        raise MeterError(f"{candidate.path}: {error}") from None
    try:
        session.run(None, dict(feeds))
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        reason = " ".join(str(error).split())[:300]
        raise MeterError(f"{candidate.path}: onnxruntime cannot run it on random inputs: {reason}") from None
    return session


def _kernels(profile: HardwareProfile) -> TimeModel:
    if profile.kernels is None:
        raise ProfileError(f"profile {profile.id!r} was not calibrated on a runtime: run `aiwq calibrate` first")
    return profile.kernels


def check_profile(profile: HardwareProfile) -> tuple[str, ...]:
    """What may set predictions of a profile apart from runs on this machine, one phrase each.

    Raises:
        ProfileError: if the profile has no kernels.
        MeterError: if onnxruntime does not offer its provider here.
    """
    _kernels(profile)
    available = ort.get_available_providers()
    provider = profile.provider or CPU_PROVIDER
    if provider not in available:
        raise MeterError(
            f"profile {profile.id!r} is for {provider}, which onnxruntime {ort.__version__} does not offer here "
            f"({', '.join(available)}); `aiwq doctor` says what to install, --hardware names another profile"
        )
    warnings = []
    machine = profile.provenance.get("machine", "a machine that it does not name")
    if machine != this_machine():
        warnings.append(
            f"profile {profile.id!r} was calibrated on {machine}, this is {this_machine()}: errors are those of "
            "another machine; run `aiwq calibrate` for this one"
        )
    if profile.threads is not None and profile.threads > usable_cpus():
        warnings.append(f"profile {profile.id!r} is for {profile.threads} threads, here are {usable_cpus()} CPUs")
    runtime = profile.provenance.get("onnxruntime", "")
    if runtime and ort.__version__ not in runtime.replace(",", " ").split():
        warnings.append(
            f"profile {profile.id!r} was calibrated with {runtime}, here runs {ort.__version__}: its kernels may differ"
        )
    return tuple(warnings)


def deployed_seconds(written: Graph, kernels: TimeModel) -> float:
    """Seconds of a graph that the runtime's optimiser has written, nothing more to lower."""
    times = times_of(Lowering(written, {}), kernels, written)
    return kernels.seconds_per_run + math.fsum(node.seconds for node in times.nodes.values())


def _joules(session: ort.InferenceSession, feeds: Feeds, meter: Meter) -> float:
    """Joules of one inference, over a window that the meter can tell."""
    run = inference(session, feeds)
    runs, begun = 0, time.perf_counter()
    meter.start()
    while time.perf_counter() - begun < max(1.0, meter.minimum_window_s):
        run()
        runs += 1
    return meter.stop().joules / runs


def _by_kind(
    name: str, model: onnx.ModelProto, runtime: Runtime, reference: Reference, feeds: Feeds, kernels: TimeModel
) -> tuple[KernelError, ...]:
    """Seconds of every kind of kernel by onnxruntime's profiler and as predicted, the furthest off first."""
    overhead = call_overhead(runtime, reference)
    nodes = observe(sample_model(name, model, runtime, overhead, reference, feeds, runs=8))
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    speed = kernels.reference_s / nodes.reference_s
    for node, time_ in zip(nodes.nodes, predict(kernels, [node.work for node in nodes.nodes]), strict=True):
        entry = sums[f"{node.kernel.kind} {node.kernel.dtype}"]
        entry[0] += 1
        entry[1] += kernels.in_a_run(node.seconds * speed)
        entry[2] += 0.0 if time_ is None else time_.seconds
    found = [KernelError(kind, int(count), measured, predicted) for kind, (count, measured, predicted) in sums.items()]
    return tuple(sorted(found, key=lambda each: -abs(each.predicted_s - each.measured_s)))


def _baselines(results: Sequence[NetworkResult]) -> dict[str, Errors]:
    """Simpler models, each fitted to all networks but the one that it predicts."""
    if len(results) < FEWEST_FOR_BASELINES:
        return {}
    return baseline_errors(
        np.asarray([[each.macs, each.transistor_operations, each.moved_bytes] for each in results], dtype=float),
        np.asarray([each.measured_s for each in results]),
    )


def validated(profile: HardwareProfile, result: Validation) -> HardwareProfile:
    """A copy of the profile that keeps what validation has found."""
    found: dict[str, float | int | str | None] = dict(profile.validation or {})
    for view, errors in (("exported", result.exported), ("deployed", result.deployed)):
        found[f"networks, {view}: median_error"] = float(f"{errors.median:.4g}")
        found[f"networks, {view}: mean_error"] = float(f"{errors.mean:.4g}")
        found[f"networks, {view}: worst_error"] = float(f"{errors.worst:.4g}")
    found["networks"] = len(result.networks)
    found["networks: interval_coverage"] = float(f"{result.coverage:.4g}")
    found["networks: names"] = ", ".join(each.name for each in result.networks)
    return replace(profile, validation=found)
