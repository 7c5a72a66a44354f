"""The paper's protocol on samples: trimmed runs, random 60/40 splits, polynomials in TOs and in FLOPs, precision.

Two ways to split stand side by side. By run, as in the paper: 60 % of the runs of every network train, the other runs
of the same networks validate. By network: 60 % of the networks train, and networks that the fit has never seen
validate. A constant, the mean of the training energies, is scored on the same splits.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from onnx_aiwq.calibration.reproduction.networks import ACTIVATIONS, Family
from onnx_aiwq.calibration.reproduction.regression import Polynomial, polynomial
from onnx_aiwq.calibration.reproduction.samples import Sample
from onnx_aiwq.errors import ProfileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

DROPPED_SHARE = 0.1
"""Of the runs of a network, at each end: 5 of 50, as in the paper."""
TRAIN_SHARE = 0.6
DEGREES = (1, 2, 3)
DEFAULT_SPLITS = 20
BASES = ("TOs", "FLOPs")
FEWEST_RUNS = 5
_FEWEST_NETWORKS = 7  # 60 % of them are 5, one more than a cubic has coefficients
ALL_ACTIVATIONS = "all three"


@dataclass(frozen=True)
class Group:
    """Networks that one regression is for; the arrays have one element per kept run.

    Attributes:
        family, activation: of the networks; activation may be "all three".
        networks: name of each run's network.
        x: transistor operations and FLOPs of each run, by basis.
        joules: of each run.
    """

    family: str
    activation: str
    networks: NDArray[np.str_]
    x: dict[str, Array]
    joules: Array


def trimmed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples without the tenth of each network's runs that took least, and the tenth that took most energy.

    Raises:
        ProfileError: if a network has fewer than 5 runs.
    """
    by_network: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_network[sample.network].append(sample)
    kept: list[Sample] = []
    for name, runs in by_network.items():
        if len(runs) < FEWEST_RUNS:
            raise ProfileError(f"{name}: {len(runs)} run(s); the protocol needs at least {FEWEST_RUNS} per network")
        dropped = dropped_runs(len(runs))
        kept += sorted(runs, key=lambda sample: sample.joules)[dropped : len(runs) - dropped]
    return kept


def dropped_runs(runs: int) -> int:
    """How many runs of a network are dropped at each end."""
    return round(runs * DROPPED_SHARE)


def groups_of(kept: Sequence[Sample]) -> list[Group]:
    """The paper's regressions, one per family and activation, and one over the activations of a family.

    Raises:
        ProfileError: if a group has too few networks to be split by network.
    """
    families: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in kept:
        families[sample.family][sample.activation].append(sample)
    groups = []
    for family in get_args(Family):
        by_activation = families.get(family, {})
        known = [activation for activation in ACTIVATIONS if activation in by_activation]
        groups += [_group(family, activation, by_activation[activation]) for activation in known]
        if len(known) > 1:
            groups.append(_group(family, ALL_ACTIVATIONS, [row for each in known for row in by_activation[each]]))
    return groups


def _group(family: str, activation: str, rows: Sequence[Sample]) -> Group:
    networks = np.asarray([row.network for row in rows])
    found = len(set(networks))
    if found < _FEWEST_NETWORKS:
        raise ProfileError(
            f"{family} {activation}: {found} network(s); a cubic on 60 % of them needs {_FEWEST_NETWORKS} or more"
        )
    x = {
        "TOs": np.asarray([row.transistor_operations for row in rows], dtype=float),
        "FLOPs": np.asarray([row.flops for row in rows], dtype=float),
    }
    return Group(family, activation, networks, x, np.asarray([row.joules for row in rows]))


# --- splits --------------------------------------------------------------------------------------------------------


def by_run(networks: NDArray[np.str_], random: np.random.Generator) -> Mask:
    """True for 60 % of the runs of every network."""
    train = np.zeros(len(networks), dtype=bool)
    for name in np.unique(networks):
        rows = np.flatnonzero(networks == name)
        train[random.permutation(rows)[: round(len(rows) * TRAIN_SHARE)]] = True
    return train


def by_network(networks: NDArray[np.str_], random: np.random.Generator) -> Mask:
    """True for every run of 60 % of the networks."""
    names = random.permutation(np.unique(networks))
    return np.isin(networks, names[: round(len(names) * TRAIN_SHARE)])


SPLITS: dict[str, Callable[[NDArray[np.str_], np.random.Generator], Mask]] = {"run": by_run, "network": by_network}


# --- scores --------------------------------------------------------------------------------------------------------


def score(group: Group, split: str, basis: str | None, degree: int, splits: int, seed: int) -> dict[str, Any]:
    """One row of the table: a predictor under one way to split, over all validation runs of all splits.

    Args:
        group: the runs.
        split: "run" or "network".
        basis: "TOs" or "FLOPs"; None for the constant (degree 0).
        degree: n.
        splits: how many random splits.
        seed: of the splits; the same for every predictor.
    """
    random = np.random.default_rng(seed)
    x = group.x[basis or "TOs"]
    errors, measured, constants, adjusted = [], [], [], []
    for _ in range(splits):
        train = SPLITS[split](group.networks, random)
        fit = polynomial(x[train], group.joules[train], degree, basis or "TOs")
        held = group.joules[~train]
        errors.append(fit.predict(x[~train]) - held)
        constants.append(group.joules[train].mean() - held)
        measured.append(held)
        adjusted.append(fit.fit.adjusted_r2)
    off, truth, constant_off = np.concatenate(errors), np.concatenate(measured), np.concatenate(constants)
    precision = 100 * (1 - np.abs(off) / truth)
    known = [value for value in adjusted if value is not None]
    return {
        "family": group.family,
        "activation": group.activation,
        "split": split,
        "basis": basis or "constant",
        "n": degree,
        "adjusted_r2": statistics.fmean(known) if known and degree else None,
        "rmse_j": math.sqrt(float((off**2).mean())),
        "precision_min_pct": float(precision.min()),
        "precision_max_pct": float(precision.max()),
        "precision_avg_pct": float(precision.mean()),
        "err_avg_j": float(np.abs(off).mean()),
        "err_max_j": float(np.abs(off).max()),
        "skill": 1 - float((off**2).sum() / (constant_off**2).sum()),
    }


def table(groups: Sequence[Group], *, splits: int = DEFAULT_SPLITS, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Every group under both splits: the constant, then n = 1, 2, 3 in TOs and in FLOPs."""
    for group in groups:
        for split in SPLITS:
            yield score(group, split, None, 0, splits, seed)
            for basis in BASES:
                for degree in DEGREES:
                    yield score(group, split, basis, degree, splits, seed)


def whole_fit(group: Group, basis: str, degree: int) -> Polynomial:
    """The polynomial over every kept run, as it is drawn and as its coefficients are told."""
    return polynomial(group.x[basis], group.joules, degree, basis)


def fit_entry(group: Group, basis: str, degree: int) -> dict[str, Any]:
    """`whole_fit` as JSON: coefficients in J, of (x / unit)^i."""
    found = whole_fit(group, basis, degree)
    entry = {
        "family": group.family,
        "activation": group.activation,
        "basis": basis,
        "n": degree,
        "unit": found.unit,
        "coefficients_j": list(found.fit.coefficients),
        "standard_errors_j": list(found.fit.standard_errors),
        "rank": found.fit.rank,
        "condition": found.fit.condition,
        "adjusted_r2": found.fit.adjusted_r2,
        "rmse_j": found.fit.rmse,
        "samples": found.fit.samples,
    }
    intercept_share = found.fit.coefficients[0] / float(group.joules.mean()) if degree == 1 else None
    slope = found.fit.coefficients[1] / found.unit if degree == 1 else None
    return {**entry, "slope_j_per_unit": slope, "intercept_share_of_mean": intercept_share}


def collinearity(group: Group) -> float:
    """r2 of TOs and FLOPs over the networks of a group: at 1 nothing that is fitted to one can beat the other."""
    _, first = np.unique(group.networks, return_index=True)
    return float(np.corrcoef(group.x["TOs"][first], group.x["FLOPs"][first])[0, 1] ** 2)
