"""The paper's networks, counted, run by onnxruntime on one thread, and metered.

The paper measures the energy of a workload that is the same for every network of a family (so many epochs over a data
set). Here a run is a fixed number of calls per family, long enough for the meter even for the fastest network. Rounds
visit all networks in random order, so that a machine that drifts does not favour some of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_aiwq.calibration.reproduction.networks import Network
from onnx_aiwq.calibration.reproduction.samples import Sample
from onnx_aiwq.costs import node_costs
from onnx_aiwq.graph import load
from onnx_aiwq.transistors import transistor_operations
from onnx_aiwq.vocabulary import Counts

if TYPE_CHECKING:
    import onnxruntime as ort

    from onnx_aiwq.calibration.meters import Meter

DEFAULT_WINDOW_S = 0.01
_WARM_UP_CALLS = 5
_REFERENCE_EVERY = 6  # networks between two runs of the reference kernel, which takes as long as some of them


@dataclass(frozen=True)
class Campaign:
    """What was measured, and how.

    Attributes:
        samples: one per run.
        meter: name, label, scope and notes of the meter.
        runs: per network.
        window_s: least length of a run, s.
        calls: calls per run, by family.
        drift: how unsteady the machine was: the 95th over the 5th percentile of a reference product's running medians.
    """

    samples: tuple[Sample, ...]
    meter: dict[str, Any]
    runs: int
    window_s: float
    calls: dict[str, int]
    drift: float


@dataclass(frozen=True)
class _Prepared:
    network: Network
    session: ort.InferenceSession
    feeds: dict[str, Any]
    seconds_per_call: float
    transistor_operations: int
    flops: int


def measure(
    networks: Sequence[Network],
    meter: Meter,
    *,
    runs: int,
    window_s: float = DEFAULT_WINDOW_S,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Campaign:
    """Run every network so many times and meter each run.

    Args:
        networks: see `paper_networks`.
        meter: an open meter; its least window is kept.
        runs: per network.
        window_s: least length of a run, s.
        seed: of the order.
        progress: told what is going on.

    Raises:
        MeterError: if onnxruntime cannot run a network, or the meter cannot be read.
    """
    from onnx_aiwq.calibration.running import Reference, drift

    say = progress or (lambda stage: None)
    say(f"preparing {len(networks)} networks")
    prepared = [_prepare(network) for network in networks]
    least_s = max(window_s, meter.minimum_window_s)
    calls = _calls(prepared, least_s)
    round_s = math.fsum(each.seconds_per_call * calls[each.network.family] for each in prepared)
    reference = Reference()
    random = np.random.default_rng(seed)
    samples = []
    for run in range(1, runs + 1):
        say(f"run {run} of {runs}, about {round_s * (runs - run + 1):.0f} s left")
        for place, index in enumerate(random.permutation(len(prepared))):
            each = prepared[index]
            samples.append(_run(each, calls[each.network.family], run, meter))
            if place % _REFERENCE_EVERY == 0:
                reference.seconds()
    told = {"name": meter.name, "label": meter.label, "scope": meter.scope, "notes": list(meter.notes)}
    return Campaign(tuple(samples), told, runs, least_s, calls, drift(reference.history))


def counted(network: Network) -> tuple[int, int]:
    """Transistor operations (the paper's convention) and FLOPs (one per multiply-accumulate) of one instance."""
    costs = node_costs(load(network.model(batch=1)), convention="paper")
    total = sum((cost.counts for cost in costs if cost.counts is not None), Counts())
    return transistor_operations(total), total.macs


def _prepare(network: Network) -> _Prepared:
    from onnx_aiwq.calibration.running import Runtime, feeds_for, open_session

    session = open_session(network.model().SerializeToString(), Runtime(threads=1))
    feeds = feeds_for(session)
    for _ in range(_WARM_UP_CALLS):
        session.run(None, feeds)
    taken = []
    for _ in range(_WARM_UP_CALLS):
        start = time.perf_counter()
        session.run(None, feeds)
        taken.append(time.perf_counter() - start)
    return _Prepared(network, session, feeds, min(taken), *counted(network))


def _calls(prepared: Sequence[_Prepared], least_s: float) -> dict[str, int]:
    """Calls of a run by family: as many as the fastest network of it needs for the window."""
    fastest: dict[str, float] = {}
    for each in prepared:
        family = each.network.family
        fastest[family] = min(each.seconds_per_call, fastest.get(family, math.inf))
    return {family: max(1, math.ceil(least_s / seconds)) for family, seconds in fastest.items()}


def _run(each: _Prepared, calls: int, run: int, meter: Meter) -> Sample:
    session, feeds, network = each.session, each.feeds, each.network
    session.run(None, feeds)  # what ran before has filled the caches
    meter.start()
    for _ in range(calls):
        session.run(None, feeds)
    reading = meter.stop()
    instances = calls * network.batch
    return Sample(
        network=network.name,
        family=network.family,
        activation=network.activation,
        size=network.size,
        run=run,
        instances=instances,
        transistor_operations=instances * each.transistor_operations,
        flops=instances * each.flops,
        seconds=reading.seconds,
        joules=reading.joules,
        label=reading.label,
    )
