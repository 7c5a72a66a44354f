"""eCAL: the energy cost of the AI life cycle, in joules per bit of data that the model handles.

Chou et al., "Energy Cost of AI Life cycle", IEEE JSAC 44, 2026 (doi 10.1109/JSAC.2025.3642835, arXiv 2408.00540):

    joules         = (1 + gamma_v) (E_D + gamma E_inf)
    joules_per_bit = joules / (bits of the development data + bits of the inferences)

with development E_D = collection + preprocessing + training + evaluation and gamma inferences. A stage that a life
cycle does not cover is None, never 0. `aggregate` is the whole metric for any set of stages; `inference_only` is the
life cycle of a model about which nothing but its inference is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnx_aiwq.errors import PolicyError

DEVELOPMENT_STAGES = ("collection", "preprocessing", "training", "evaluation")
MAX_INFERENCES = 10**18
STAGES = (*DEVELOPMENT_STAGES, "inference")
INFERENCE_ONLY_SCOPE = "inference alone: local data, no collection, no training"


@dataclass(frozen=True, slots=True)
class Ecal:
    """Energy cost of a life cycle.

    Attributes:
        joules: of all covered stages, overhead included, J.
        bits: of the data that the life cycle handles; None where a shape is unknown.
        joules_per_bit: J/bit; None where there is no bit.
        development_j: of the covered development stages, overhead not included, J; None where none is covered.
        inference_j: of all inferences, overhead not included, J; None where it is not covered.
        by_stage: joules of each of `STAGES`, overhead not included; None where a stage is not covered.
        break_even_inferences: number of inferences that cost as much as the development; None where either is unknown.
        inferences: number of inferences.
        scope: what the life cycle covers, in words.
    """

    joules: float
    bits: int | None
    joules_per_bit: float | None
    development_j: float | None
    inference_j: float | None
    by_stage: Mapping[str, float | None]
    break_even_inferences: float | None
    inferences: int
    scope: str

    def to_dict(self) -> dict[str, object]:
        """The ``ecal`` object of the JSON report."""
        keys = "joules bits joules_per_bit development_j inference_j"
        return {
            **{key: getattr(self, key) for key in keys.split()},
            "by_stage": dict(self.by_stage),
            "break_even_inferences": self.break_even_inferences,
        }


def aggregate(
    stage_joules: Mapping[str, float | None],
    *,
    bits: int | None,
    inferences: int,
    scope: str,
    overhead_share: float = 0.0,
) -> Ecal:
    """Put the stages of a life cycle together.

    Args:
        stage_joules: joules by stage; a stage that is left out or None is not covered.
        bits: of the development data and the inferences together.
        inferences: number of inferences, gamma.
        scope: what is covered, in words.
        overhead_share: virtualization overhead gamma_v.

    Raises:
        PolicyError: if a stage is unknown, inferences are not from 1 to `MAX_INFERENCES`, or the overhead is negative.
    """
    unknown = sorted(set(stage_joules) - set(STAGES))
    if unknown:
        raise PolicyError(f"life cycle stages {', '.join(unknown)}: expected some of {', '.join(STAGES)}")
    _check_inferences(inferences)
    if not (math.isfinite(overhead_share) and overhead_share >= 0):
        raise PolicyError(f"virtualization overhead: expected a share that is not negative, found {overhead_share}")
    by_stage = MappingProxyType({stage: stage_joules.get(stage) for stage in STAGES})
    developed = [value for stage in DEVELOPMENT_STAGES if (value := by_stage[stage]) is not None]
    development_j = math.fsum(developed) if developed else None
    inference_j = by_stage["inference"]
    joules = (1 + overhead_share) * ((development_j or 0.0) + (inference_j or 0.0))
    return Ecal(
        joules=joules,
        bits=bits,
        joules_per_bit=joules / bits if bits else None,
        development_j=development_j,
        inference_j=inference_j,
        by_stage=by_stage,
        break_even_inferences=development_j * inferences / inference_j if development_j and inference_j else None,
        inferences=inferences,
        scope=scope,
    )


def inference_only(joules_per_inference: float, input_bits: int | None, inferences: int = 1) -> Ecal:
    """The life cycle of inference alone: local data, no collection, no training.

    Args:
        joules_per_inference: J.
        input_bits: of the inputs of one inference; None where a shape is unknown.
        inferences: number of inferences.

    Raises:
        PolicyError: if inferences are not from 1 to `MAX_INFERENCES`.
    """
    _check_inferences(inferences)
    return aggregate(
        {"inference": joules_per_inference * inferences},
        bits=None if input_bits is None else input_bits * inferences,
        inferences=inferences,
        scope=INFERENCE_ONLY_SCOPE,
    )


def _check_inferences(inferences: int) -> None:
    if not 1 <= inferences <= MAX_INFERENCES:
        raise PolicyError(f"--inferences {inferences}: expected a whole number from 1 to {MAX_INFERENCES:.0e}")
