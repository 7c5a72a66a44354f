"""A pytest fixture that holds models to budgets: `aiwq_budget`.

    def test_detector_stays_small(aiwq_budget):
        aiwq_budget("models/detector.onnx", energy="3 J", macs="4 G", bind={"batch": 1})

Budgets are named as for `aiwq gate --budget`; paths may be relative to the root of the tests. What `aiwq.toml` or
`[tool.aiwq]` there says counts as it does for `aiwq gate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from onnx_aiwq.gating import Verdict


class BudgetWarning(UserWarning):
    """A value whose interval straddles its budget."""


@pytest.fixture(scope="session")
def aiwq_budget(pytestconfig: pytest.Config) -> Callable[..., Verdict]:
    """A function that fails the test where a model is over a budget; it warns where that cannot be told apart."""

    def check(
        model: str | Path,
        *,
        baseline: str | Path | None = None,
        tolerances: Mapping[str, str] | None = None,
        bind: Mapping[str, int] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        hardware: str | None = None,
        region: str | None = None,
        **budgets: str | int,
    ) -> Verdict:
        root = pytestconfig.rootpath
        return _checked(
            _place(model, root),
            {
                "bind": bind,
                "shapes": shapes,
                "hardware": hardware,
                "region": region,
                "budgets": budgets,
                "baseline": None if baseline is None else _place(baseline, root),
                "tolerances": tolerances or {},
                "start": root,
            },
        )

    return check


def _place(path: str | Path, root: Path) -> Path:
    """A path as it is, or below the root of the tests."""
    return Path(path) if Path(path).exists() else root / path


def _checked(model: Path, arguments: Mapping[str, Any]) -> Verdict:
    from onnx_aiwq.gating import gate
    from onnx_aiwq.render.verdict import render_verdict

    __tracebackhide__ = True
    verdict = gate(model, **arguments)
    if not verdict.passed:
        pytest.fail(render_verdict(verdict.to_dict(), "table", width=100), pytrace=False)
    for found in verdict.checks:
        if found.status == "undecided":
            warnings.warn(BudgetWarning(f"{found.model}: {found.name}: {found.reason}"), stacklevel=3)
    return verdict
