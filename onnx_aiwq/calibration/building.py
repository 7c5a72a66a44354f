"""From samples to a hardware profile: the fit, its held-out errors, watts, and where everything comes from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_aiwq.calibration.assessment import Assessment, assess
from onnx_aiwq.calibration.fitting import Observation, Observations
from onnx_aiwq.calibration.profiling import CallOverhead
from onnx_aiwq.calibration.running import Runtime
from onnx_aiwq.hardware_profile import (
    ANY,
    Coefficient,
    CompResFigures,
    Covariance,
    Embodied,
    Factors,
    HardwareProfile,
    Interval,
    Source,
)
from onnx_aiwq.kernels import bytes_moved
from onnx_aiwq.kernels.model import TimeModel
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.transistors import by_dtype
from onnx_aiwq.units import BITS_PER_BYTE

_EXPORTED = "movement"  # the family whose seconds per byte stand for memory


@dataclass(frozen=True)
class Power:
    """Watts of the work that was sampled.

    Attributes:
        source: how they were obtained.
        static_watts: whether or not anything runs, W.
        dynamic_watts: on top of these while kernels run, W.
        low_factor: low end of their sum over the sum.
        high_factor: high end of their sum over the sum.
        basis: the evidence.
        scope: what they cover.
    """

    source: Source
    static_watts: float
    dynamic_watts: float
    low_factor: float
    high_factor: float
    basis: str
    scope: str


@dataclass(frozen=True)
class Identity:
    """What a profile is called, and what it says of its origin."""

    id: str
    name: str
    provenance: Mapping[str, str]
    comp_res: CompResFigures = CompResFigures()  # noqa: RUF009 - a frozen model
    embodied: Embodied | None = None


def build_profile(
    observations: Observations,
    runtime: Runtime,
    overhead: CallOverhead,
    power: Power,
    identity: Identity,
    *,
    block: int,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[HardwareProfile, Assessment]:
    """Fit, assess on composites left out, and put a profile together.

    Raises:
        ProfileError: if the samples cannot be fitted.
    """
    assessment = assess(observations, overhead.seconds_per_run, seed=seed, progress=progress)
    seconds_per_byte, rates = plain_coefficients(observations.nodes)
    profile = HardwareProfile(
        schema="onnx_aiwq.profile/1",
        id=identity.id,
        name=identity.name,
        kind="cpu" if runtime.device is None else "gpu",
        provider=runtime.provider,
        source=power.source,
        threads=runtime.threads,
        coefficients=_coefficients(rates, power),
        seconds_per_byte=seconds_per_byte,
        joules_per_bit=seconds_per_byte * power.dynamic_watts / BITS_PER_BYTE,
        static_watts=power.static_watts,
        dynamic_watts=power.dynamic_watts,
        watts_interval=Factors(low_factor=power.low_factor, high_factor=power.high_factor, basis=power.basis),
        seconds_per_node=overhead.seconds_per_node,
        seconds_per_run=overhead.seconds_per_run,
        interval=plain_interval(observations, rates, seconds_per_byte, overhead, power),
        covariance=_covariance(assessment),
        kernels=TimeModel(
            level=runtime.level,
            provider=runtime.provider,
            block=block,
            reference_s=observations.reference_s,
            seconds_per_run=overhead.seconds_per_run,
            profiled_excess_s=assessment.profiled_excess_s,
            common_log_error=assessment.common_log_error,
            widening=assessment.widening,
            kernels=assessment.kernels,
        ),
        comp_res=identity.comp_res,
        embodied=identity.embodied,
        provenance={**identity.provenance, "joules": power.basis, "scope": power.scope},
        validation=validation_entries(assessment),
    )
    return profile, assessment


def _coefficients(rates: Mapping[tuple[str, str], float], power: Power) -> tuple[Coefficient, ...]:
    return tuple(
        Coefficient(family=family, dtype=dtype, seconds_per_to=rate, joules_per_to=rate * power.dynamic_watts)
        for (family, dtype), rate in sorted(rates.items())
    )


def plain_coefficients(nodes: Sequence[Observation]) -> tuple[float, dict[tuple[str, str], float]]:
    """Seconds per byte of movement, and per transistor operation by family and type: total seconds over total work.

    One coefficient per family is the TO paper's meter; it prices what no kernel is known for, such as a training step.
    """
    work: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    moved = [0.0, 0.0]
    for node in nodes:
        operator = node.work.operator
        rule = find_rule(operator.op_type, operator.domain, operator.version)
        if rule is None:
            continue
        if rule.function is None:
            if rule.traffic != "view":
                moved[0] += node.seconds
                moved[1] += sum(bytes_moved(operator))
            continue
        for dtype, transistors in by_dtype(rule.function(operator)).items():
            share = transistors / node.work.transistors if node.work.transistors else 0.0
            for key in ((rule.family, dtype.label), (ANY, ANY)):
                work[key][0] += node.seconds * share
                work[key][1] += transistors
    rates = {key: float(f"{seconds / amount:.5g}") for key, (seconds, amount) in work.items() if amount}
    return (float(f"{moved[0] / moved[1]:.5g}") if moved[1] else 0.0), rates


def plain_interval(
    observations: Observations,
    rates: Mapping[tuple[str, str], float],
    seconds_per_byte: float,
    overhead: CallOverhead,
    power: Power,
) -> Interval:
    """5th to 95th percentile of measured over predicted by the plain coefficients, over whole composites."""
    predicted: dict[str, float] = defaultdict(float)
    for node in observations.nodes:
        operator = node.work.operator
        rule = find_rule(operator.op_type, operator.domain, operator.version)
        compute_s = 0.0
        if rule is not None and rule.function is not None:
            for dtype, transistors in by_dtype(rule.function(operator)).items():
                compute_s += transistors * rates.get((rule.family, dtype.label), rates.get((ANY, ANY), 0.0))
        view = rule is not None and rule.traffic == "view"
        moved_s = 0.0 if view else sum(bytes_moved(operator)) * seconds_per_byte
        predicted[node.composite] += overhead.seconds_per_node + max(compute_s, moved_s)
    ratios = [seconds / predicted[name] for name, seconds in observations.wholes.items() if predicted.get(name)]
    low, high = (float(f"{x:.4g}") for x in np.quantile(ratios, [0.05, 0.95])) if ratios else (0.1, 10.0)
    low, high = min(low, 1.0), max(high, 1.0)
    basis = f"measured / predicted over {len(ratios)} composites, coefficients alone, in the fit"
    joules = (
        math.exp(-math.hypot(math.log(low), math.log(power.low_factor))),
        math.exp(math.hypot(math.log(high), math.log(power.high_factor))),
    )
    return Interval(
        seconds=Factors(low_factor=low, high_factor=high, basis=basis),
        joules=Factors(low_factor=joules[0], high_factor=joules[1], basis=f"{basis}; watts: {power.basis}"),
    )


def _covariance(assessment: Assessment) -> Covariance:
    """Of seconds per transistor operation between kinds: fitted apart, so diagonal; each kind keeps its full matrix."""
    fitted = [entry for entry in assessment.kernels if entry.covariance and entry.line.per_to_s > 0]
    variances = [entry.covariance[1][1] for entry in fitted]
    size = len(fitted)
    rows = tuple(tuple(variances[i] if i == j else 0.0 for j in range(size)) for i in range(size))
    return Covariance(names=tuple(f"{entry.kind}:{entry.dtype} seconds per TO" for entry in fitted), matrix=rows)


def validation_entries(assessment: Assessment) -> dict[str, float | int | str | None]:
    """Held-out errors as the profile keeps them: shares, 0.05 for 5 %."""
    errors = assessment.composites
    entries: dict[str, float | int | str | None] = {
        "protocol": "whole composites left out, six folds",
        "composites": errors.count,
        "median_error": _short(errors.median),
        "mean_error": _short(errors.mean),
        "worst_error": _short(errors.worst),
        "within_10_percent": _short(errors.within_10_percent),
        "rank_correlation": _short(errors.rank_correlation),
        "interval_coverage": _short(assessment.coverage),
    }
    for name, baseline in assessment.baselines.items():
        entries[f"{name}: median_error"] = _short(baseline.median)
        entries[f"{name}: mean_error"] = _short(baseline.mean)
    return entries


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")
