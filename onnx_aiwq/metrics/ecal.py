"""eCAL: the energy cost of the AI life cycle, in joules per bit of data that the model handles.

Chou et al., "Energy Cost of AI Life cycle", IEEE JSAC 44, 2026 (doi 10.1109/JSAC.2025.3642835, arXiv 2408.00540 v4):

    joules         = (1 + gamma_v) (E_D + gamma E_inf)                                                       (eq. 30)
    joules_per_bit = joules / (bits of the development data + bits of the inferences)

with development E_D = collection + storage + preprocessing + training + evaluation and gamma inferences. A stage that a
life cycle does not cover is None, never 0. `aggregate` is the whole metric for any set of stages; `inference_only` is
the life cycle of a model about which nothing but its inference is known; `onnx_aiwq.lifecycle` computes the stages.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from onnx_aiwq.errors import PolicyError

DEVELOPMENT_STAGES = ("collection", "preprocessing", "training", "evaluation")
STAGES = (*DEVELOPMENT_STAGES, "inference")
STORAGE, VIRTUALIZATION = "storage", "virtualization"
MAX_INFERENCES = 10**18
INFERENCE_ONLY_SCOPE = "inference alone: local data, no collection, no training"


class Ecal(msgspec.Struct, frozen=True):
    """Energy cost of a life cycle.

    Attributes:
        joules: of all covered stages, overhead included, J; None where the energy of a covered stage is unknown.
        bits: of the data that the life cycle handles; None where a shape is unknown.
        joules_per_bit: J/bit; None where there is no bit.
        development_j: of the covered development stages, overhead not included, J; None where none is covered.
        inference_j: of all inferences, overhead not included, J; None where it is not covered.
        by_stage: joules of each of `STAGES`, None where a stage is not covered; with `STORAGE` and `VIRTUALIZATION`
            (the overhead gamma_v on all others) where there are any. `joules` is their sum.
        break_even_inferences: number of inferences that cost as much as the development; None where either is unknown.
        inferences: number of inferences.
        scope: what the life cycle covers, in words.
        joules_low: low end of the interval, J; None where no stage comes with an interval.
        joules_high: high end of the interval, J.
        basis: how the joules of each covered stage were obtained, in words.
        details: further figures: per bit of development and inference, limit, parts of a stage.
    """

    joules: float | None
    bits: int | None
    joules_per_bit: float | None
    development_j: float | None
    inference_j: float | None
    by_stage: Mapping[str, float | None]
    break_even_inferences: float | None
    inferences: int
    scope: str
    joules_low: float | None = None
    joules_high: float | None = None
    basis: Mapping[str, str] = msgspec.field(default_factory=dict)
    details: Mapping[str, float | None] = msgspec.field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The ``ecal`` object of the JSON report."""
        keys = "joules bits joules_per_bit development_j inference_j"
        return {
            **{key: getattr(self, key) for key in keys.split()},
            "by_stage": dict(self.by_stage),
            "break_even_inferences": self.break_even_inferences,
            "inferences": self.inferences,
            "scope": self.scope,
            "joules_low": self.joules_low,
            "joules_high": self.joules_high,
            "basis": dict(self.basis),
            "details": dict(self.details),
        }


def aggregate(
    stage_joules: Mapping[str, float | None],
    *,
    bits: int | None,
    inferences: int,
    scope: str,
    overhead_share: float = 0.0,
    unknown: tuple[str, ...] = (),
    spread_j: tuple[float, float] | None = None,
    basis: Mapping[str, str] | None = None,
) -> Ecal:
    """Put the stages of a life cycle together.

    Args:
        stage_joules: joules by stage; a stage that is left out or None is not covered.
        bits: of the development data and the inferences together.
        inferences: number of inferences, gamma.
        scope: what is covered, in words.
        overhead_share: virtualization overhead gamma_v.
        unknown: stages that are covered and whose energy is not known: there is no total then.
        spread_j: low and high end of the joules of all stages, overhead not included.
        basis: how the joules of a stage were obtained.

    Raises:
        PolicyError: if a stage is unknown, inferences are not from 1 to `MAX_INFERENCES`, or the overhead is negative.
    """
    wrong = sorted(set(stage_joules) - {*STAGES, STORAGE})
    if wrong:
        raise PolicyError(f"life cycle stages {', '.join(wrong)}: expected some of {', '.join((*STAGES, STORAGE))}")
    check_inferences(inferences)
    if not (math.isfinite(overhead_share) and overhead_share >= 0):
        raise PolicyError(f"virtualization overhead: expected a share that is not negative, found {overhead_share}")
    by_stage = {stage: stage_joules.get(stage) for stage in STAGES}
    if stage_joules.get(STORAGE) is not None:
        by_stage[STORAGE] = stage_joules[STORAGE]
    development_j = _sum(by_stage[stage] for stage in by_stage if stage != "inference" and stage not in unknown)
    if any(stage in unknown for stage in DEVELOPMENT_STAGES):
        development_j = None
    inference_j = by_stage["inference"]
    stages_j = None if unknown else _sum((development_j, inference_j))
    if overhead_share and stages_j is not None:
        by_stage[VIRTUALIZATION] = overhead_share * stages_j
    joules = None if stages_j is None else (1 + overhead_share) * stages_j
    return Ecal(
        joules=joules,
        bits=bits,
        joules_per_bit=joules / bits if bits and joules is not None else None,
        development_j=development_j,
        inference_j=inference_j,
        by_stage=MappingProxyType(by_stage),
        break_even_inferences=development_j * inferences / inference_j if development_j and inference_j else None,
        inferences=inferences,
        scope=scope,
        joules_low=None if spread_j is None or joules is None else (1 + overhead_share) * spread_j[0],
        joules_high=None if spread_j is None or joules is None else (1 + overhead_share) * spread_j[1],
        basis=MappingProxyType(dict(basis or {})),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of those that are known, in their order as the authors add them; None where none is known."""
    known = [value for value in values if value is not None]
    return functools.reduce(operator.add, known) if known else None


def inference_only(
    joules_per_inference: float | None,
    input_bits: int | None,
    inferences: int = 1,
    *,
    spread_j: tuple[float, float] | None = None,
    basis: str | None = None,
) -> Ecal:
    """The life cycle of inference alone: local data, no collection, no training.

    Args:
        joules_per_inference: J; None where it is unknown.
        input_bits: of the inputs of one inference; None where a shape is unknown.
        inferences: number of inferences.
        spread_j: low and high end of the joules of one inference.
        basis: how the joules were obtained.

    Raises:
        PolicyError: if inferences are not from 1 to `MAX_INFERENCES`.
    """
    check_inferences(inferences)
    return aggregate(
        {"inference": None if joules_per_inference is None else joules_per_inference * inferences},
        bits=None if input_bits is None else input_bits * inferences,
        inferences=inferences,
        scope=INFERENCE_ONLY_SCOPE,
        unknown=("inference",) if joules_per_inference is None else (),
        spread_j=None if spread_j is None else (spread_j[0] * inferences, spread_j[1] * inferences),
        basis=None if basis is None else {"inference": basis},
    )


def check_inferences(inferences: int) -> None:
    """Raise `PolicyError` unless the number is from 1 to `MAX_INFERENCES`."""
    if not 1 <= inferences <= MAX_INFERENCES:
        raise PolicyError(f"--inferences {inferences}: expected a whole number from 1 to {MAX_INFERENCES:.0e}")
