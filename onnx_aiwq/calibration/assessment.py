"""How far a fitted model is off on networks that took no part in the fit, and what simpler models are off there.

Whole composites are left out, never single runs: repeated runs of one network say nothing about another. What is
predicted of them is compared with runs of the whole, which no profiler has slowed.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from onnx_aiwq.calibration.fitting import Observation, Observations, fit_kernels
from onnx_aiwq.kernels import bytes_moved
from onnx_aiwq.kernels.model import KernelModel, TimeModel, in_a_run, predict
from onnx_aiwq.operations.registry import find_rule

FOLDS = 6
Z_90 = 1.645  # standard normal quantile of a central 90 % interval
_FAR = 1.0  # log error beyond which a kind is simply unknown
_EXCESSES = tuple(index * 2.5e-7 for index in range(61))  # up to 15 us a call


@dataclass(frozen=True)
class Errors:
    """Predicted against measured over networks; all but `rank_correlation` and `count` are shares, 0.05 for 5 %."""

    median: float
    mean: float
    worst: float
    within_10_percent: float
    rank_correlation: float
    count: int


def errors_of(predicted: Sequence[float], measured: Sequence[float]) -> Errors:
    """Absolute percentage errors and Spearman's rank correlation."""
    off = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    return Errors(
        median=float(np.median(off)),
        mean=float(off.mean()),
        worst=float(off.max()),
        within_10_percent=float((off <= 0.10).mean()),
        rank_correlation=_spearman(predicted, measured),
        count=len(off),
    )


def _spearman(left: Sequence[float], right: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    if len(left) < 3 or len(set(left)) == 1 or len(set(right)) == 1:
        return math.nan
    return float(spearmanr(left, right).statistic)


@dataclass(frozen=True)
class Assessment:
    """What leaving composites out has shown.

    Attributes:
        kernels: the final fit on all samples, each with its held-out `log_error`.
        profiled_excess_s: see `TimeModel`; what leaves the least error of whole composites.
        common_log_error: of networks beyond what their kinds explain.
        widening: see `TimeModel`.
        composites: errors of whole composites, held out.
        baselines: the same for a constant, MACs, transistor operations, bytes and the TO paper's polynomials.
        coverage: share of composites inside the 90 % interval.
    """

    kernels: tuple[KernelModel, ...]
    profiled_excess_s: float
    common_log_error: float
    widening: float
    composites: Errors
    baselines: Mapping[str, Errors]
    coverage: float


HeldOut = Mapping[str, Sequence[tuple[tuple[str, str], float, float]]]
"""Of each composite its kernels: kind and type, seconds predicted and measured, both under the profiler."""


def assess(
    observations: Observations,
    seconds_per_run: float,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Assessment:
    """Fit with each sixth of the composites left out in turn, then on all."""
    held_out = _held_out(observations, seed, progress)
    excess_s = _profiled_excess(held_out, observations.wholes, seconds_per_run)
    kernels = fit_kernels(observations.nodes, seed=seed)
    by_kind = _errors_by_kind(held_out)
    kernels = tuple(
        replace(entry, log_error=by_kind.get((entry.kind, entry.dtype), max(entry.log_error, 0.3))) for entry in kernels
    )
    predicted = {name: seconds_per_run + _sum_in_a_run(parts, excess_s) for name, parts in held_out.items()}
    spreads = {name: _whole_spread(parts, by_kind, excess_s, predicted[name]) for name, parts in held_out.items()}
    measured = {name: observations.wholes[name] for name in held_out}
    logs = {name: math.log(predicted[name] / measured[name]) for name in held_out}
    common = _common(logs, spreads)
    widening = _widening(logs, spreads, common)
    inside = sum(abs(logs[name]) <= Z_90 * widening * math.hypot(common, spreads[name]) for name in logs)
    return Assessment(
        kernels=kernels,
        profiled_excess_s=excess_s,
        common_log_error=common,
        widening=widening,
        composites=errors_of(list(predicted.values()), list(measured.values())),
        baselines=baselines(observations),
        coverage=inside / max(1, len(logs)),
    )


def _held_out(observations: Observations, seed: int, progress: Callable[[str], None] | None) -> HeldOut:
    """Every composite as fits predict it in which it took no part."""
    names = sorted(observations.wholes)
    folds = {name: index % FOLDS for index, name in enumerate(np.random.default_rng(seed).permutation(names))}
    held_out: dict[str, list[tuple[tuple[str, str], float, float]]] = defaultdict(list)
    for fold in range(min(FOLDS, len(names))):
        if progress:
            progress(f"leaving out part {fold + 1} of {FOLDS}")
        kept = [node for node in observations.nodes if folds.get(node.composite) != fold]
        left_out = [node for node in observations.nodes if folds.get(node.composite) == fold]
        if not kept or not left_out:
            continue
        model = provisional(fit_kernels(kept, seed=seed), observations.reference_s)
        for node, time in zip(left_out, predict(model, [node.work for node in left_out]), strict=True):
            if time is not None:
                held_out[node.composite].append((time.key, time.seconds, node.seconds))
    return held_out


def provisional(kernels: tuple[KernelModel, ...], reference_s: float) -> TimeModel:
    """A model of kernels alone, without overheads and intervals."""
    return TimeModel(level="all", reference_s=reference_s, seconds_per_run=0.0, common_log_error=0.0, kernels=kernels)


def _profiled_excess(held_out: HeldOut, wholes: Mapping[str, float], seconds_per_run: float) -> float:
    """What calls take longer under the profiler: of a grid, what leaves the least error of whole composites.

    The profiler describes the outputs of a node, and what its threads did, before it stops the clock. Chains of
    operators on one element show the least of that (`CallOverhead`), runs of whole networks all.
    """

    def missed(excess_s: float) -> float:
        logs = (
            math.log((seconds_per_run + _sum_in_a_run(parts, excess_s)) / wholes[name])
            for name, parts in held_out.items()
        )
        return statistics.fmean(min(abs(log), _FAR) for log in logs)

    return min(_EXCESSES, key=missed) if held_out else 0.0


def _sum_in_a_run(parts: Sequence[tuple[tuple[str, str], float, float]], excess_s: float) -> float:
    """Predicted seconds of all calls, less what the profiler adds."""
    return math.fsum(in_a_run(predicted, excess_s) for _, predicted, _ in parts)


def _errors_by_kind(held_out: HeldOut) -> dict[tuple[str, str], float]:
    """Root mean square of log(predicted / measured) of each kind's total in a composite; slow ones weigh more."""
    totals: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for parts in held_out.values():
        sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for key, predicted, measured in parts:
            sums[key][0] += predicted
            sums[key][1] += measured
        for key, (predicted, measured) in sums.items():
            totals[key].append((predicted, measured))
    errors = {}
    for key, pairs in totals.items():
        weights = np.sqrt([measured for _, measured in pairs])
        logs = np.clip([math.log(predicted / measured) for predicted, measured in pairs], -_FAR, _FAR)
        # Few networks say little: a third of the log error of an unknown kind is mixed in, and fades with their number.
        mixed = (float(weights @ logs**2) / float(weights.sum()) * len(pairs) + 0.3**2) / (len(pairs) + 1)
        errors[key] = float(f"{math.sqrt(mixed):.4g}")
    return errors


def spread_of(parts: Sequence[tuple[tuple[str, str], float]], by_kind: Mapping[tuple[str, str], float]) -> float:
    """Standard deviation of the log of a sum of kinds: errors are common within a kind, independent between kinds."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for key, seconds in parts:
        sums[key] += seconds
    total = sum(sums.values())
    if not total:
        return 0.0
    return math.sqrt(sum((seconds / total * by_kind.get(key, _FAR)) ** 2 for key, seconds in sums.items()))


def _whole_spread(
    parts: Sequence[tuple[tuple[str, str], float, float]],
    by_kind: Mapping[tuple[str, str], float],
    excess_s: float,
    predicted_s: float,
) -> float:
    """Standard deviation of the log of a whole: that of its kinds, and of what the profiler adds, which is as large."""
    profiler_s = _sum_in_a_run(parts, 0.0) - _sum_in_a_run(parts, excess_s)
    return math.hypot(spread_of([(key, predicted) for key, predicted, _ in parts], by_kind), profiler_s / predicted_s)


def _common(logs: Mapping[str, float], spreads: Mapping[str, float]) -> float:
    """What the middle of the errors needs beyond what the kinds explain."""
    squares = statistics.median([(logs[name] / 0.6745) ** 2 for name in logs])
    explained = statistics.median([spreads[name] ** 2 for name in logs])
    return math.sqrt(max(squares - explained, 0.01**2))


def _widening(logs: Mapping[str, float], spreads: Mapping[str, float], common: float) -> float:
    ratios = [abs(logs[name]) / (Z_90 * math.hypot(common, spreads[name])) for name in logs]
    return float(f"{max(0.5, float(np.quantile(ratios, 0.9))):.4g}")


# --- simpler models ------------------------------------------------------------------------------------------------


def baselines(observations: Observations) -> dict[str, Errors]:
    """`baseline_errors` of whole composites."""
    names = sorted(observations.wholes)
    sums = _sums(observations.nodes)
    work = np.asarray([sums[name] for name in names])
    return baseline_errors(work, np.asarray([observations.wholes[name] for name in names]))


def baseline_errors(work: np.ndarray, seconds: np.ndarray) -> dict[str, Errors]:
    """Leave-one-out errors of a constant, of one coefficient per MAC, TO and byte, and of the paper's polynomials.

    E = b0 + sum_i b_i TO^i, i up to 1, 2 and 3, is the TO paper's model; all are least squares over whole networks.

    Args:
        work: MACs, transistor operations and bytes of each network, shape (networks, 3).
        seconds: of each network, shape (networks,).
    """
    designs = {"constant": np.ones((len(work), 1))}
    designs |= {f"seconds per {unit}": work[:, index, None] for index, unit in enumerate(("MAC", "TO", "byte"))}
    scaled = work[:, 1] / (work[:, 1].max() or 1.0)
    for degree in (1, 2, 3):
        designs[f"TO polynomial n={degree}"] = np.stack([scaled**i for i in range(degree + 1)], axis=1)
    return {name: errors_of(list(_left_out(design, seconds)), list(seconds)) for name, design in designs.items()}


def _sums(nodes: Sequence[Observation]) -> dict[str, list[float]]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for node in nodes:
        operator = node.work.operator
        rule = find_rule(operator.op_type, operator.domain, operator.version)
        macs = rule.function(operator).macs if rule and rule.function else 0
        for index, amount in enumerate((macs, node.work.transistors, sum(bytes_moved(operator)))):
            sums[node.composite][index] += amount
    return sums


def _left_out(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Predictions of least squares for each row, fitted to all others."""
    predictions = np.empty(len(target))
    for index in range(len(target)):
        rest = np.arange(len(target)) != index
        solution, *_ = np.linalg.lstsq(design[rest], target[rest], rcond=None)
        predictions[index] = max(float(design[index] @ solution), 1e-9)
    return predictions
