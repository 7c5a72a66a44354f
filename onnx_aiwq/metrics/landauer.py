"""The Landauer floor of a count, and how far above it the hardware works (AIWQ eq. 2, 6, 12)."""

from __future__ import annotations

import msgspec

from onnx_aiwq.energy import DEFAULT_TEMPERATURE_K, LANDAUER_CONVENTION, bits_lost, landauer_joules_per_bit
from onnx_aiwq.vocabulary import Counts


class LandauerBound(msgspec.Struct, frozen=True):
    """The least energy of the counted operations, were every lost bit paid with k T ln 2 only.

    Attributes:
        bits_lost: bits that the operations lose irreversibly, by `convention`.
        temperature_k: K.
        landauer_j: bits_lost x k T ln 2, J.
        eta_comp: real arithmetic energy over the bound; None where it is not given or nothing is computed.
        convention: how bits are counted; to be shown wherever the bound is.
    """

    bits_lost: int
    temperature_k: float
    landauer_j: float
    eta_comp: float | None
    convention: str = LANDAUER_CONVENTION

    def to_dict(self) -> dict[str, object]:
        """The keys that the ``energy`` object of the JSON report holds."""
        return {"landauer_j": self.landauer_j, "eta_comp": self.eta_comp}


def landauer_bound(
    counts: Counts, *, compute_j: float | None = None, temperature_k: float = DEFAULT_TEMPERATURE_K
) -> LandauerBound:
    """The Landauer bound of a count; `compute_j` is the arithmetic energy to compare with, J.

    A count does not know which operator a compare belongs to, so each loses 2n - 1 bits here. AIWQ's ReLU loses n bits
    for each negative input only, f n i_r; `onnx_aiwq.energy.estimate`, which sees the operators, charges a Relu so,
    with f one half unless given.

    Raises:
        PolicyError: if the temperature is not a positive number.
        UnsupportedOperatorError: if a type that is counted has no transistor counts.
    """
    lost = bits_lost(counts)
    landauer_j = lost * landauer_joules_per_bit(temperature_k)
    eta_comp = compute_j / landauer_j if compute_j is not None and landauer_j > 0 else None
    return LandauerBound(lost, temperature_k, landauer_j, eta_comp)
