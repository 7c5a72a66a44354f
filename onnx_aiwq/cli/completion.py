"""What the shell offers when the user presses Tab; run by the shell alone, never on the way to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def among(values: Sequence[str]) -> Callable[[str], list[str]]:
    """Completion of an option that is one of some words."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def hardware(incomplete: str) -> list[str]:
    """Ids of hardware profiles."""
    from onnx_aiwq.errors import AiwqError
    from onnx_aiwq.profiles import list_profiles

    try:
        return [profile.id for profile in list_profiles() if profile.id.startswith(incomplete)]
    except AiwqError:
        return []  # a profile file that does not read is said by the command, not between two keystrokes


def regions(incomplete: str) -> list[str]:
    """Codes of grid and cloud regions."""
    from onnx_aiwq.metrics.regions import list_regions

    return [region.code for region in list_regions() if region.code.startswith(incomplete)]


def metrics(incomplete: str) -> list[str]:
    """Names of metrics."""
    from onnx_aiwq.quantities import METRICS

    return [name for name in METRICS if name.startswith(incomplete)]


def operators(incomplete: str) -> list[str]:
    """Operators that have a cost rule."""
    from onnx_aiwq.operations.registry import all_rules

    wanted = incomplete.casefold()
    return sorted({rule.op_type for rule in all_rules() if rule.op_type.casefold().startswith(wanted)})
