"""What validation found as the JSON object of the schema ``onnx_aiwq.validation/1``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnx_aiwq.calibration.assessment import Errors
from onnx_aiwq.calibration.meters import Meter
from onnx_aiwq.calibration.validation import FEWEST_FOR_BASELINES, KernelError, NetworkResult, Validation
from onnx_aiwq.hardware_profile import HardwareProfile

SCHEMA = "onnx_aiwq.validation/1"
_NAMED = 5  # operators in a warning


def validation_document(
    result: Validation, profile: HardwareProfile, meter: Meter | None, warnings: Sequence[str]
) -> dict[str, Any]:
    """All networks and their summary; shares are 0.05 for 5 %, and null where a figure is not known.

    Args:
        result: of `onnx_aiwq.calibration.validation.validate`.
        profile: that it was for.
        meter: that measured joules, or None.
        warnings: said before the run; those of the networks are added.
    """
    from onnx_aiwq import __version__

    level = None if profile.kernels is None else profile.kernels.level
    return {
        "schema": SCHEMA,
        "tool": {"name": "onnx_aiwq", "version": __version__},
        "hardware": {
            "id": profile.id,
            "name": profile.name,
            "source": profile.source,
            "provider": profile.provider,
            "threads": profile.threads,
            "optimization": level,
        },
        "interval": profile.interval.level,
        "meter": None if meter is None else {"name": meter.name, "label": meter.label, "scope": meter.scope},
        "networks": [_network(each) for each in result.networks],
        "summary": {
            "exported": _errors(result.exported),
            "deployed": _errors(result.deployed),
            "joules": None if result.joules is None else _errors(result.joules),
            "interval_coverage": result.coverage,
            "baselines": {name: _errors(errors) for name, errors in result.baselines.items()},
        },
        "warnings": [*warnings, *_warnings(result)],
    }


def _network(network: NetworkResult) -> dict[str, Any]:
    metered = network.measured_j
    return {
        "name": network.name,
        "path": network.path,
        "weights": "random" if network.random_weights else "file",
        "bindings": dict(network.bindings),
        "assumed_bindings": dict(network.assumed_bindings),
        "measured_s": network.measured_s,
        "spread": network.spread,
        "predicted_s": network.predicted_s,
        "predicted_low_s": network.low_s,
        "predicted_high_s": network.high_s,
        "error": network.error,
        "covered": network.covered,
        "deployed_s": network.deployed_s,
        "deployed_error": network.deployed_error,
        "measured_j": metered,
        "predicted_j": network.predicted_j,
        "energy_error": None if metered is None else network.predicted_j / metered - 1,
        "macs": network.macs,
        "transistor_operations": network.transistor_operations,
        "moved_bytes": network.moved_bytes,
        "unpriced": list(network.unpriced),
        "kernels": [_kernel(each) for each in network.kernels],
    }


def _kernel(kernel: KernelError) -> dict[str, Any]:
    return {
        "kind": kernel.kind,
        "count": kernel.count,
        "measured_s": kernel.measured_s,
        "predicted_s": kernel.predicted_s,
    }


def _errors(errors: Errors) -> dict[str, Any]:
    return {
        "median": errors.median,
        "mean": errors.mean,
        "worst": errors.worst,
        "within_10_percent": errors.within_10_percent,
        "rank_correlation": None if math.isnan(errors.rank_correlation) else errors.rank_correlation,
        "networks": errors.count,
    }


def _warnings(result: Validation) -> list[str]:
    warnings = []
    for network in result.networks:
        if network.random_weights:
            warnings.append(f"{network.path}: its weights are not there; random ones were used, which take as long")
        if network.unpriced:
            listed = ", ".join(network.unpriced[:_NAMED])
            warnings.append(
                f"{network.path}: {len(network.unpriced)} operators have no price and are left out: {listed}"
            )
        warnings += [f"{network.path}: {note}" for note in network.notes]
    if not result.baselines:
        warnings.append(
            f"simpler models are fitted to the networks themselves and need {FEWEST_FOR_BASELINES} of them; "
            f"here are {len(result.networks)}"
        )
    return warnings
