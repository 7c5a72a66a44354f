"""Seconds of kernels: a roofline-shaped line per kind, times an efficiency that varies smoothly with shape.

For an operator of kind c and type d with TO transistor operations and the bytes that it reads and writes:

    line(n)    = call[c,d] + to[c,d] x TO(n) + in[c,d] x inputs(n) + w[c,d] x constants(n) + out[c,d] x outputs(n)
    seconds(n) = line(n) x exp(f[c,d](shape))

All five coefficients are non-negative. f is the mean of a Gaussian process (Rasmussen and Williams 2006, eq. 2.25, a
Matern 3/2 covariance and a linear one) over the features of `onnx_aiwq.kernels`: where blocks are small, rows few or
data beyond the cache, a kernel does not keep the rate of its line. Far from every sample f falls back to the line.
These are seconds under a profiler; the smallest kernels take less in a run (`TimeModel.in_a_run`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from onnx_aiwq.errors import ProfileError
from onnx_aiwq.kernels import Kernel, bytes_moved, describe, is_known
from onnx_aiwq.vocabulary import Operator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
LINEAR_SHARE = 0.3
"""Weight of the linear covariance beside the Matern one, whose variance is one."""
_LEAST_SHARE_IN_A_RUN = 0.5  # of what a call takes under the profiler
LEAST_SECONDS = 5e-8  # of a call; what a fit may not go below
_AT_ONCE = 4096  # kernels whose covariance with all samples is in memory at once

Features = tuple[float, ...]


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a profile. Its numbers are checked as a file is read; whoever builds one in Python minds them."""


class Line(Frozen, frozen=True, kw_only=True):
    """Seconds per call, per transistor operation, and per byte of run-time inputs, constants and outputs."""

    call_s: NonNegative
    per_to_s: NonNegative
    per_input_byte_s: NonNegative
    per_constant_byte_s: NonNegative
    per_output_byte_s: NonNegative


class Efficiency(Frozen, frozen=True, kw_only=True):
    """f of the module: a Gaussian process over standardised features.

    Attributes:
        centre: of each feature.
        scale: of each feature; 0 where it did not vary, and then it is left out.
        low: least value that was measured.
        high: greatest value that was measured; beyond both, features are taken as the nearest of the two.
        mean: of log(seconds / line).
        length: of the Matern covariance, in standard deviations.
        points: standardised features of the samples that it is made of.
        weights: one per point.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: float
    length: Positive
    points: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len({len(self.centre), len(self.scale), len(self.low), len(self.high)}) != 1:
            raise ValueError("centre, scale, low and high differ in length")
        if len(self.points) != len(self.weights):
            raise ValueError(f"{len(self.points)} points, but {len(self.weights)} weights")
        if any(len(point) != len(self.centre) for point in self.points):
            raise ValueError("a point has not one number per feature")


class KernelModel(Frozen, frozen=True, kw_only=True):
    """What calls of one kind of kernel take.

    Attributes:
        kind: of `onnx_aiwq.kernels.Kernel`; a group's name where it stands for all kinds of a group, ``*`` for any.
        dtype: label of the type, or ``*``.
        samples: how many it is fitted to.
        line: its coefficients.
        covariance: of the coefficients, in the order of `Line`; rows and columns of a coefficient at zero are zero.
        rank: of the fit; less than the number of coefficients where the samples cannot tell some apart.
        condition: condition number of the scaled regressors.
        efficiency: f, where there are enough samples.
        log_error: standard deviation of log(predicted / measured) of the kind's share of a network, held out.
    """

    kind: str
    dtype: str
    samples: Annotated[int, msgspec.Meta(ge=1)]
    line: Line
    covariance: tuple[tuple[float, ...], ...] = ()
    rank: int = 0
    condition: NonNegative | None = None
    efficiency: Efficiency | None = None
    log_error: NonNegative


class TimeModel(Frozen, dict=True, frozen=True, kw_only=True):
    """The kernels of one machine under one runtime.

    Attributes:
        level: optimisation level of the runtime that the kernels were sampled at.
        provider: execution provider whose kernels they are.
        block: channels of a block of the blocked layout.
        reference_s: of the reference kernel when the samples were taken.
        seconds_per_run: of an inference beyond its nodes.
        profiled_excess_s: what a call takes longer under the profiler, where the kernels were timed, than in a run.
        common_log_error: standard deviation of what is left when all kinds are right: the machine, and the sum.
        widening: factor on the standard deviation of a network that makes the interval cover what it says.
        kernels: kinds, then groups, then ``*``.
    """

    level: Literal["disabled", "basic", "extended", "all"]
    provider: str = "CPUExecutionProvider"
    block: Annotated[int, msgspec.Meta(ge=1)] = 16
    reference_s: Positive
    seconds_per_run: NonNegative
    profiled_excess_s: NonNegative = 0.0
    common_log_error: NonNegative
    widening: Positive = 1.0
    kernels: Annotated[tuple[KernelModel, ...], msgspec.Meta(min_length=1)]

    def in_a_run(self, profiled_s: float) -> float:
        """`in_a_run` with this model's `profiled_excess_s`."""
        return in_a_run(profiled_s, self.profiled_excess_s)

    def find(self, kernel: Kernel) -> KernelModel | None:
        """The model of a kernel: its kind and type, its kind, the kind that it was once part of, its group, any."""
        for key in (
            (kernel.kind, kernel.dtype),
            (kernel.kind, "*"),
            (kernel.like, kernel.dtype),
            (kernel.group, kernel.dtype),
            (kernel.group, "*"),
            ("*", "*"),
        ):
            if key in self._by_key:
                return self._by_key[key]
        return None

    @functools.cached_property
    def _by_key(self) -> dict[tuple[str, str], KernelModel]:
        return {(model.kind, model.dtype): model for model in self.kernels}


def in_a_run(profiled_s: float, excess_s: float) -> float:
    """Seconds of a call in a run, of what it takes under a profiler that adds `excess_s`; half of it at the least."""
    return max(profiled_s - excess_s, profiled_s * _LEAST_SHARE_IN_A_RUN)


@dataclass(frozen=True, slots=True)
class Work:
    """One operator to be timed, one call.

    Attributes:
        operator: what runs.
        transistors: its transistor operations in one call.
        network_bytes: of all constants of the network that it runs in: what decides whether its own are still in the
            cache when it runs again.
        since_bytes: moved since its largest run-time input was made (`onnx_aiwq.kernels.bytes_since`).
        moved: bytes of its run-time inputs, constants and outputs.
    """

    operator: Operator
    transistors: int
    network_bytes: int
    since_bytes: int = 0
    moved: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "moved", bytes_moved(self.operator))


class KernelTime(msgspec.Struct, frozen=True):
    """Predicted seconds of one call.

    Attributes:
        seconds: of the call.
        compute_share: share of the line that transistor operations make up.
        data_share: share that bytes make up; the rest is the call itself.
        key: kind and type of the model that it comes from.
        exact: whether the profile has met this kind in this type; else a wider class stands in.
        log_error: of that model.
        profiler_s: what the profiler was taken to add to the call, and `seconds` leaves out.
    """

    seconds: float
    compute_share: float
    data_share: float
    key: tuple[str, str]
    exact: bool
    log_error: float
    profiler_s: float


def predict(model: TimeModel, works: Sequence[Work]) -> list[KernelTime | None]:
    """Seconds of one call of each operator; None where a shape is unknown or no class of the profile fits."""
    # A network repeats itself: equal kernels are timed once.
    found: dict[tuple[str, str], dict[Features, list[tuple[int, Kernel]]]] = {}
    entries: dict[tuple[str, str], KernelModel] = {}
    for index, work in enumerate(works):
        described = _described(work)
        entry = None if described is None else model.find(described[0])
        if described is not None and entry is not None:
            kernel, features = described
            entries[entry.kind, entry.dtype] = entry
            found.setdefault((entry.kind, entry.dtype), {}).setdefault(features, []).append((index, kernel))
    times: list[KernelTime | None] = [None] * len(works)
    for key, members in found.items():
        for factor, equal in zip(_factors(entries[key], list(members)), members.values(), strict=True):
            for index, kernel in equal:
                times[index] = _time(model, entries[key], works[index], kernel, factor)
    return times


def _described(work: Work) -> tuple[Kernel, Features] | None:
    """The kernel of an operator; None where a shape is unknown, or the node is none that its operator allows."""
    try:
        if not is_known(work.operator):
            return None
        kernel = describe(work.operator)
        features = features_of(kernel, work)
        return (kernel, features) if all(map(math.isfinite, features)) else None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _time(model: TimeModel, entry: KernelModel, work: Work, kernel: Kernel, factor: float) -> KernelTime:
    compute_s, data_s, call_s = line_parts(entry.line, work)
    total = max(compute_s + data_s + call_s, LEAST_SECONDS)
    exact = entry.kind in (kernel.kind, kernel.like) and entry.dtype == kernel.dtype
    seconds = model.in_a_run(total * factor)
    return KernelTime(
        seconds=seconds,
        compute_share=compute_s / total,
        data_share=data_s / total,
        key=(entry.kind, entry.dtype),
        exact=exact,
        log_error=entry.log_error,
        profiler_s=total * factor - seconds,
    )


def line_parts(line: Line, work: Work) -> tuple[float, float, float]:
    """Seconds that the line gives to transistor operations, to bytes and to the call."""
    inputs, constants, outputs = work.moved
    data_s = line.per_input_byte_s * inputs + line.per_constant_byte_s * constants + line.per_output_byte_s * outputs
    return line.per_to_s * work.transistors, data_s, line.call_s


def features_of(kernel: Kernel, work: Work) -> Features:
    """What f sees: the kernel's features; its bytes and transistor operations, the network's, those since as log2."""
    sizes = (*work.moved, work.transistors, work.network_bytes, work.since_bytes)
    return (*kernel.features, *(math.log2(1 + size) for size in sizes), *kernel.later)


def _factors(entry: KernelModel, features: Sequence[Features]) -> list[float]:
    """exp(f) of each; 1 where the model is a line alone, as it is for a group."""
    if entry.efficiency is None:
        return [1.0] * len(features)
    import numpy as np

    known = len(entry.efficiency.centre)  # of a profile that is older than the last features, those that it knows
    if features and len(features[0]) < known:
        raise ProfileError(
            f"the profile describes {entry.kind!r} by {known} features, this release by {len(features[0])}: a later "
            "release made it; update onnx_aiwq, or run `aiwq calibrate`"
        )
    features = [each[:known] for each in features]
    parts = (features[start : start + _AT_ONCE] for start in range(0, len(features), _AT_ONCE))
    return [float(factor) for part in parts for factor in np.exp(efficiency_logs(entry.efficiency, np.asarray(part)))]


def efficiency_logs(efficiency: Efficiency, features: Array) -> Array:
    """f of features, shape (n, features)."""
    import numpy as np

    within = np.clip(features, efficiency.low, efficiency.high)
    points = np.asarray(efficiency.points).reshape(len(efficiency.weights), -1)
    logs = covariance(standardised(within, efficiency.centre, efficiency.scale), points, efficiency.length)
    return efficiency.mean + logs @ np.asarray(efficiency.weights)  # type: ignore[no-any-return]


def standardised(features: Array, centre: Sequence[float], scale: Sequence[float]) -> Array:
    """Features around zero with deviation one; those that never varied are all zero."""
    import numpy as np

    divisor = np.where(np.asarray(scale) > 0, scale, 1.0)
    return (features - np.asarray(centre)) / divisor * (np.asarray(scale) > 0)  # type: ignore[no-any-return]


def covariance(left: Array, right: Array, length: float) -> Array:
    """Covariance of f between points, shape (left, right): Matern 3/2 (Rasmussen and Williams, eq. 4.17) and linear."""
    import numpy as np

    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    distances = np.sqrt(3 * np.maximum(squares, 0)) / length
    linear = left @ right.T / max(1, left.shape[1])
    return (1 + distances) * np.exp(-distances) + LINEAR_SHARE * linear  # type: ignore[no-any-return]
