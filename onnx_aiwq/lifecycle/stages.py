"""FLOPs of the stages around a model (eCAL sec. preprocessing, training, evaluation)."""

from __future__ import annotations

from typing import Literal

Method = Literal["zscore", "minmax", "gadf", "none"]


def preprocessing_flops(method: Method, samples: int, values_per_sample: int) -> float:
    """FLOPs of preparing some samples; n values in all, T per sample.

    z-score 6 n + 1 (mean n, deviation 3 n + 1, apply 2 n); min-max 2 n + 1; GADF (2 n + 1) + (5 T + T^2) per sample,
    with the scaling counted once as the authors' code does.
    """
    values = samples * values_per_sample
    if method == "zscore":
        return 6 * values + 1
    if method == "minmax":
        return 2 * values + 1
    if method == "gadf":
        return (2 * values + 1) + (5 * values_per_sample + values_per_sample**2) * samples
    return 0


def training_passes(samples: int, epochs: int, *, split: float | None, folds: int | None) -> float:
    """Samples that training steps process: s N_S N_ep, or (1 - 1/k) k N_S N_ep with k folds."""
    if folds is not None:
        return (1 - 1 / folds) * folds * samples * epochs
    return (1.0 if split is None else split) * samples * epochs


def evaluation_passes(samples: int, *, split: float | None, folds: int | None) -> float:
    """Samples that evaluation processes, once: (1 - s) N_S, or N_S with folds."""
    if folds is not None:
        return float(samples)
    return (0.0 if split is None else 1 - split) * samples
