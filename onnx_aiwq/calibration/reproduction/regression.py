"""Least squares that says what the data cannot tell: rank, condition, standard errors, and refusals by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_aiwq.errors import ProfileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_NEARLY_COLLINEAR = 1e-10  # smallest over largest singular value of columns of length one


@dataclass(frozen=True)
class Regression:
    """Ordinary least squares of one target on named columns.

    Attributes:
        names: of the columns.
        coefficients: in their order, target per column.
        standard_errors: of the coefficients.
        rank: of the design.
        condition: largest over smallest singular value of the columns, each scaled to length one.
        adjusted_r2: 1 - (1 - R2)(N - 1)/(N - n - 1), n the columns beside the intercept; None for a constant target.
        rmse: root of the mean squared residual over the N samples.
        samples: N.
    """

    names: tuple[str, ...]
    coefficients: tuple[float, ...]
    standard_errors: tuple[float, ...]
    rank: int
    condition: float
    adjusted_r2: float | None
    rmse: float
    samples: int


def least_squares(columns: Array, target: Array, names: Sequence[str]) -> Regression:
    """Fit target[N] = columns[N, k] @ coefficients[k]; the first column is the intercept.

    Raises:
        ProfileError: if a number is not finite, there are no more samples than columns, a column is zero throughout, or
            columns cannot be told apart; it names the columns, the rank and the condition number.
    """
    samples, width = columns.shape
    _check(columns, target, names)
    lengths = np.linalg.norm(columns, axis=0)
    scaled = columns / lengths
    left, singular, right = np.linalg.svd(scaled, full_matrices=False)
    rank = int((singular > _NEARLY_COLLINEAR * singular[0]).sum())
    condition = float(singular[0] / singular[-1]) if singular[-1] else math.inf
    if rank < width:
        raise ProfileError(
            f"the columns {', '.join(names)} cannot be told apart: rank {rank} of {width}, condition {condition:.3g}, "
            f"first superfluous {_superfluous(scaled, names)!r}; take samples that differ more, or fewer columns"
        )
    solution = right.T @ ((left.T @ target) / singular)
    residuals = target - scaled @ solution
    squares = float(residuals @ residuals)
    variance = squares / (samples - width)
    errors = np.sqrt(variance * ((right.T / singular) ** 2).sum(axis=1))
    spread = float(((target - target.mean()) ** 2).sum())
    return Regression(
        names=tuple(names),
        coefficients=tuple((solution / lengths).tolist()),
        standard_errors=tuple((errors / lengths).tolist()),
        rank=rank,
        condition=condition,
        adjusted_r2=1 - squares / spread * (samples - 1) / (samples - width) if spread > 0 else None,
        rmse=math.sqrt(squares / samples),
        samples=samples,
    )


def _check(columns: Array, target: Array, names: Sequence[str]) -> None:
    samples, width = columns.shape
    finite = np.isfinite(columns).all(axis=1) & np.isfinite(target)
    if not finite.all():
        rows = ", ".join(str(row) for row in np.flatnonzero(~finite)[:5])
        raise ProfileError(f"samples that are not finite, at row {rows}; measure again or take them out")
    if samples <= width:
        raise ProfileError(
            f"{samples} sample(s) for {width} coefficients ({', '.join(names)}): a fit with an error needs at least "
            f"{width + 1}; take more samples"
        )
    empty = [name for name, column in zip(names, columns.T, strict=True) if not column.any()]
    if empty:
        raise ProfileError(f"the column {empty[0]!r} is zero in all {samples} samples; leave it out")


def _superfluous(scaled: Array, names: Sequence[str]) -> str:
    """The first column that those before it explain."""
    for index in range(1, len(names)):
        singular = np.linalg.svd(scaled[:, : index + 1], compute_uv=False)
        if singular[-1] <= _NEARLY_COLLINEAR * singular[0]:
            return names[index]
    return names[-1]


@dataclass(frozen=True)
class Polynomial:
    """y = b0 + b1 (x/unit) + ... + bn (x/unit)^n.

    Attributes:
        unit: what x is divided by: its mean over the samples, so that powers stay of one size.
        fit: the coefficients, in the unit of y.
    """

    unit: float
    fit: Regression

    @property
    def degree(self) -> int:
        """The highest power n."""
        return len(self.fit.coefficients) - 1

    def predict(self, x: Array) -> Array:
        """y[N] for x[N]."""
        predicted: Array = _powers(x / self.unit, self.degree) @ np.asarray(self.fit.coefficients)
        return predicted


def polynomial(x: Array, y: Array, degree: int, name: str = "x") -> Polynomial:
    """Fit y[N] by a polynomial in x[N]; degree 0 is the mean of y, the constant predictor.

    Raises:
        ProfileError: as `least_squares`.
    """
    unit = float(x.mean()) if x.size and np.isfinite(x).all() and x.any() else 1.0
    names = ["intercept", *(name if power == 1 else f"{name}^{power}" for power in range(1, degree + 1))]
    return Polynomial(unit, least_squares(_powers(x / unit, degree), y, names))


def _powers(x: Array, degree: int) -> Array:
    return np.stack([x**power for power in range(degree + 1)], axis=1)
