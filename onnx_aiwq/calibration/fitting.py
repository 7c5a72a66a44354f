"""From samples to a `TimeModel`: a non-negative line per kind of kernel, and what of its rate varies with shape."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_aiwq.calibration.sampling import Sample
from onnx_aiwq.errors import ProfileError
from onnx_aiwq.kernels import Kernel, bytes_moved, describe, is_known
from onnx_aiwq.kernels.model import (
    LEAST_SECONDS,
    Efficiency,
    KernelModel,
    Line,
    Work,
    covariance,
    efficiency_logs,
    features_of,
    line_parts,
    standardised,
)
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.transistors import transistor_operations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_FEWEST_FOR_EFFICIENCY = 8
_MOST_POINTS = 200
_MOST_POINTS_OF_REST = 64  # of other kinds: many, and a small share of the time
_WIDE_GROUPS = frozenset({"convolution", "product", "recurrent", "attention", "movement"})
"""What takes most of the time, and what varies most with shape: chosen by cross-validation over composites."""
_LENGTHS = (1.0, 2.0, 4.0, 8.0)  # in standard deviations of the features
_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)  # variances of log seconds
_LINE_WEIGHT = 0.75
"""A sample of t seconds weighs t ** -0.75 in the line: between equal relative errors (1) and equal errors in seconds
(0). Chosen by cross-validation over composites."""
_UNITS = np.asarray([1e-6, 1e-15, 1e-10, 1e-10, 1e-10])  # of the five coefficients, so that columns are of one size
_COEFFICIENTS = ("call_s", "per_to_s", "per_input_byte_s", "per_constant_byte_s", "per_output_byte_s")


@dataclass(frozen=True)
class Observation:
    """A sample as the fit sees it: the drift of the machine divided out."""

    composite: str
    kernel: Kernel
    work: Work
    seconds: float


@dataclass(frozen=True)
class Observations:
    """What a samples file holds.

    Attributes:
        nodes: every operator whose kernel can be described.
        wholes: seconds of each composite as a whole.
        reference_s: median of the reference kernel over all samples; all seconds are at this speed.
    """

    nodes: tuple[Observation, ...]
    wholes: Mapping[str, float]
    reference_s: float


def observe(samples: Iterable[Sample]) -> Observations:
    """Describe the kernels of samples and divide the machine's drift out.

    Raises:
        ProfileError: if there are none.
    """
    kept = list(samples)
    if not kept:
        raise ProfileError("there are no samples to fit; run `aiwq calibrate` without --fit-only first")
    reference_s = statistics.median(sample.reference_s for sample in kept)
    nodes: list[Observation] = []
    wholes: dict[str, float] = {}
    constants: dict[str, int] = defaultdict(int)
    # Samples of older releases do not say how long ago an input was made: a few zeros among numbers would mislead.
    aged = all(sample.since_bytes is not None for sample in kept if sample.operator is not None)
    for sample in kept:
        if sample.operator is not None:
            constants[sample.composite] += bytes_moved(sample.operator)[1]
    for sample in kept:
        seconds = sample.seconds * reference_s / sample.reference_s
        operator = sample.operator
        if operator is None:
            wholes[sample.composite] = seconds
        elif is_known(operator) and math.isfinite(seconds):
            rule = find_rule(operator.op_type, operator.domain, operator.version)
            transistors = transistor_operations(rule.function(operator)) if rule and rule.function else 0
            since_bytes = (sample.since_bytes or 0) if aged else 0
            work = Work(operator, transistors, constants[sample.composite], since_bytes)
            nodes.append(Observation(sample.composite, describe(operator), work, max(seconds, LEAST_SECONDS)))
    return Observations(tuple(nodes), wholes, reference_s)


def fit_kernels(nodes: Sequence[Observation], *, seed: int = 0) -> tuple[KernelModel, ...]:
    """Fit every kind and type, then every group, then all together as a last resort.

    `log_error` of each is its residual in the fit; `onnx_aiwq.calibration.assessment` puts the held-out one in.
    """
    kinds: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    groups: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    for node in nodes:
        kinds[node.kernel.kind, node.kernel.dtype].append(node)
        groups[node.kernel.group, node.kernel.dtype].append(node)
    random = np.random.default_rng(seed)
    fitted = [fit_kernel(*key, members, random) for key, members in sorted(kinds.items())]
    fitted += [fit_kernel(*key, members, None) for key, members in sorted(groups.items()) if key not in kinds]
    return (*fitted, fit_kernel("*", "*", nodes, None))


def fit_kernel(
    kind: str, dtype: str, members: Sequence[Observation], random: np.random.Generator | None
) -> KernelModel:
    """One kind: its line, and its efficiency where a source of randomness is given and the samples are enough."""
    seconds = np.asarray([member.seconds for member in members])
    line, matrix, rank, condition = fit_line(regressors([member.work for member in members]), seconds)
    straight = np.asarray([max(sum(line_parts(line, member.work)), LEAST_SECONDS) for member in members])
    logs = np.log(seconds / straight)
    efficiency = None
    if random is not None and len(members) >= _FEWEST_FOR_EFFICIENCY:
        features = np.asarray([features_of(member.kernel, member.work) for member in members])
        wide = members[0].kernel.group in _WIDE_GROUPS
        most = _MOST_POINTS if wide else _MOST_POINTS_OF_REST
        efficiency = fit_efficiency(features, logs, seconds, random, most=most)
        logs = logs - efficiency_logs(efficiency, features)
    shares = seconds / seconds.sum()
    return KernelModel(
        kind=kind,
        dtype=dtype,
        samples=len(members),
        line=line,
        covariance=matrix,
        rank=rank,
        condition=condition,
        efficiency=efficiency,
        log_error=_rounded(math.sqrt(float(shares @ logs**2))),
    )


def regressors(works: Sequence[Work]) -> Array:
    """Columns of the line, shape (operators, 5): call, transistor operations, bytes in, of constants, out."""
    rows = [(1, work.transistors, *bytes_moved(work.operator)) for work in works]
    return np.asarray(rows, dtype=float)


def fit_line(columns: Array, seconds: Array) -> tuple[Line, tuple[tuple[float, ...], ...], int, float | None]:
    """Non-negative least squares of seconds on the columns (Lawson and Hanson 1974), with `_LINE_WEIGHT`.

    Returns:
        The line; the covariance of its coefficients (of those above zero, residual variance x inverse of the weighted
        normal matrix); the rank of the weighted columns; the condition number of those that are not all zero, None
        where they cannot be told apart.

    Raises:
        ProfileError: if a number is not finite, or there is no sample.
    """
    from scipy.optimize import nnls

    if not len(seconds) or not (np.isfinite(columns).all() and np.isfinite(seconds).all()):
        raise ProfileError("samples hold no numbers, or numbers that are not finite; take them again")
    weights = np.maximum(seconds, 1e-6) ** -_LINE_WEIGHT
    scaled = columns * _UNITS * weights[:, None]
    solution, _ = nnls(scaled, seconds * weights)
    used = columns.any(axis=0)
    norms = np.linalg.norm(scaled, axis=0)
    singular = np.linalg.svd(scaled[:, used] / norms[used], compute_uv=False)
    rank = int((singular > singular[0] * 1e-8).sum())
    condition = float(singular[0] / singular[-1]) if rank == used.sum() else None
    matrix = _covariance(scaled, seconds * weights, solution)
    line = Line(
        **{name: _rounded(float(x * unit)) for name, x, unit in zip(_COEFFICIENTS, solution, _UNITS, strict=True)}
    )
    return line, matrix, rank, None if condition is None else _rounded(condition)


def _covariance(scaled: Array, target: Array, solution: Array) -> tuple[tuple[float, ...], ...]:
    active = solution > 0
    matrix = np.zeros((len(solution), len(solution)))
    freedom = len(target) - int(active.sum())
    if active.any() and freedom > 0:
        residual = target - scaled @ solution
        part = scaled[:, active]
        inverse = np.linalg.pinv(part.T @ part) * float(residual @ residual) / freedom
        matrix[np.ix_(active, active)] = inverse
    matrix = matrix * np.outer(_UNITS, _UNITS)
    return tuple(tuple(_rounded(float(value)) for value in row) for row in matrix)


def fit_efficiency(
    features: Array, logs: Array, seconds: Array, random: np.random.Generator, *, most: int = _MOST_POINTS
) -> Efficiency:
    """f of `onnx_aiwq.kernels.model` from log(seconds / line), with length and noise chosen by leaving one out.

    Leaving one out of a Gaussian process is closed form (Rasmussen and Williams, eq. 5.12). Slow samples weigh more, by
    the root of their seconds; where there are too many, those are kept that weigh most, at random.
    """
    weights = np.sqrt(seconds / seconds.mean())
    if len(logs) > most:
        chances = weights + 0.1 * weights.mean()
        kept = random.choice(len(logs), most, replace=False, p=chances / chances.sum())
        low, high = features.min(0), features.max(0)
        features, logs, weights = features[kept], logs[kept], weights[kept]
    else:
        low, high = features.min(0), features.max(0)
    centre, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-6, scale, 0.0)
    points: Array = np.round(standardised(features, list(centre), list(scale)), 2)
    mean = float(np.average(logs, weights=weights))
    best: tuple[float, float, Array] | None = None
    for length in _LENGTHS:
        within = covariance(points, points, length)
        for noise in _NOISES:
            inverse = np.linalg.inv(within + noise * np.eye(len(points)))
            solved = inverse @ (logs - mean)
            missed = np.minimum(np.abs(solved / np.diag(inverse)), 1.0)
            score = float(np.average(missed, weights=weights))
            if best is None or score < best[0]:
                best = (score, length, solved)
    if best is None:  # a grid that is empty; it is not
        raise ProfileError("no efficiency could be fitted")
    return Efficiency(
        centre=_numbers(centre),
        scale=_numbers(scale),
        low=_numbers(low),
        high=_numbers(high),
        mean=_rounded(mean),
        length=best[1],
        points=tuple(_numbers(point) for point in points),
        weights=_numbers(best[2]),
    )


def _numbers(values: Array) -> tuple[float, ...]:
    return tuple(_rounded(float(value)) for value in values)


def _rounded(value: float) -> float:
    """Five significant digits: more would say more than was measured, and triple the file."""
    return float(f"{value:.5g}")
