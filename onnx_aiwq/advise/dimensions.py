"""Levers of size: half a batch, half a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from onnx_aiwq.advise.levers import ACCURACY, Case, Figures, Lever, figures_of
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.report import Report

_SAMPLE_NAMES = frozenset({"n", "b", "bs"})


def dimension_levers(case: Case, recount: Callable[[str, int], Report]) -> Iterator[Lever]:
    """Half of each dimension, counted again."""
    dimensions = {**case.report.graph.bindings, **case.report.graph.assumed_bindings}
    if not dimensions:
        yield case.impossible("dimension", "half of a dimension", "the file fixes every dimension: export it with one")
    for name, value in dimensions.items():
        samples = is_samples(name)
        change = f"{name} {value} to {value // 2}"
        if value < 2:
            reason = f"{name} is {value}: nothing to halve; bind it with --bind {name}=N"
            yield case.impossible("dimension", f"half of {name}", reason)
        elif samples and case.deployment.lifecycle is not None:
            reason = "a life cycle takes one run as its sample, so its data would change too; leave --lifecycle out"
            yield case.impossible("dimension", change, reason)
        else:
            yield _half(case, recount, name, value)


def is_samples(name: str) -> bool:
    """Whether a dimension, by its name, counts samples that could be run apart (a batch)."""
    return "batch" in name.casefold() or name.casefold() in _SAMPLE_NAMES


def _half(case: Case, recount: Callable[[str, int], Report], name: str, value: int) -> Lever:
    half, change = value // 2, f"{name} {value} to {value // 2}"
    try:
        other = recount(name, half)
    except AiwqError as error:
        return case.impossible("dimension", change, str(error))
    runs = value / half if is_samples(name) else 1.0
    one = figures_of(other.metrics, other.costs, case.stored)
    before_j, after_j = case.report.energy.joules, other.energy.joules
    details = {
        "dimension": name,
        "before": value,
        "after": half,
        "runs_for_same_work": runs,
        "joules_per_inference_before": before_j,
        "joules_per_inference_after": after_j,
        "joules_per_element_before": None if before_j is None else before_j / value,
        "joules_per_element_after": None if after_j is None else after_j / half,
    }
    work = (
        f"by its name {name} counts samples: after is {runs:g} runs, which do the work of one before"
        if is_samples(name)
        else f"an inference with half of {name} does what is needed: after is one run of less work"
    )
    lost = () if is_samples(name) else ("what a shorter input loses", ACCURACY)
    unknown = (*lost, "how efficiency changes with size: the profile's coefficients are those of any size")
    assumes = (work, "all other dimensions stay", *case.life_cycle_note)
    return Lever("dimension", change, case.before, _times(one, runs), assumes, unknown, details=details)


def _times(figures: Figures, runs: float) -> Figures:
    """Figures of a number of runs; those of one run and the energy per bit stay."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * runs

    return replace(
        figures,
        joules=scaled(figures.joules),
        joules_low=scaled(figures.joules_low),
        joules_high=scaled(figures.joules_high),
        seconds=scaled(figures.seconds),
        grams=scaled(figures.grams),
        total_g=scaled(figures.total_g),
    )
