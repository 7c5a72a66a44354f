"""The Landauer bound of a count."""

from __future__ import annotations

import pytest

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.metrics.landauer import landauer_bound
from onnx_aiwq.vocabulary import Counts, DType


def test_bound_of_one_float32_mac_at_300_kelvin() -> None:
    bound = landauer_bound(Counts.of(DType.FLOAT, add=1, mul=1, macs=1), compute_j=1e-12)
    assert bound.bits_lost == 64
    assert bound.landauer_j == pytest.approx(64 * 2.87098e-21, rel=1e-5)
    assert bound.eta_comp == pytest.approx(1e-12 / (64 * 2.87098e-21), rel=1e-5)
    assert bound.to_dict() == {"landauer_j": bound.landauer_j, "eta_comp": bound.eta_comp}
    assert "floor" in bound.convention


def test_temperature_is_an_option() -> None:
    counts = Counts.of(DType.INT8, compare=100)
    assert landauer_bound(counts, temperature_k=4.0).landauer_j == pytest.approx(
        landauer_bound(counts).landauer_j * 4 / 300
    )
    with pytest.raises(PolicyError, match="temperature"):
        landauer_bound(counts, temperature_k=0.0)


def test_nothing_computed_has_no_eta() -> None:
    assert landauer_bound(Counts(), compute_j=1.0).eta_comp is None
    assert landauer_bound(Counts.of(DType.FLOAT, add=1)).eta_comp is None
