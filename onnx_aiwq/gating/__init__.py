"""The gate: does a model stay within its budgets, and did it grow since its baseline?

A budget fails where even the low end of the value's interval exceeds it. Where only the high end does, the check passes
and says that it could not be told apart. A baseline was priced with the same coefficients as the fresh report, whose
errors cancel in the ratio: point estimates are compared. Nothing partial or unbound ever passes: it is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnx_aiwq import __version__
from onnx_aiwq.difference import operator_difference
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.gating.baselines import not_comparable, read_baseline, require_one_each
from onnx_aiwq.gating.policy import Budget, Flags, Plan, Tolerance, percent, plans
from onnx_aiwq.quantities import METRICS, Metric, Number, Quantity, exceeds
from onnx_aiwq.runs import Analysis, analysed, quiet, require_used, require_whole, run_options
from onnx_aiwq.settings import configurations

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onnx_aiwq.hardware_profile import HardwareProfile

SCHEMA = "onnx_aiwq.verdict/1"
Status = Literal["passed", "undecided", "failed"]
Report = Mapping[str, Any]
_TOP = 5


@dataclass(frozen=True)
class Check:
    """One number against one limit.

    Attributes:
        name: metric, with ``since baseline`` for a regression.
        model: its path.
        hardware: id of the profile.
        metric: what is checked.
        kind: `budget` or `regression`.
        limit: in the metric's SI unit.
        quantity: the value with its interval.
        status: `undecided` passes, and says that it could not be told apart.
        reason: one sentence.
        origin: where the limit was set.
        baseline: value of the baseline; None for a budget.
        tolerance: share that the value may be above it; None for a budget.
        contributors: nodes that the value, or its growth, comes from; the largest first.
    """

    name: str
    model: str
    hardware: str
    metric: Metric
    kind: Literal["budget", "regression"]
    limit: Number
    quantity: Quantity
    status: Status
    reason: str
    origin: str
    baseline: Number | None = None
    tolerance: float | None = None
    contributors: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """An element of ``checks`` of the JSON verdict."""
        return {
            "name": self.name,
            "model": self.model,
            "hardware": self.hardware,
            "metric": self.metric.name,
            "unit": self.metric.unit or None,
            "kind": self.kind,
            "limit": self.limit,
            "value": self.quantity.value,
            "low": self.quantity.low,
            "high": self.quantity.high,
            "passed": self.status != "failed",
            "status": self.status,
            "reason": self.reason,
            "origin": self.origin,
            "baseline": self.baseline,
            "tolerance": self.tolerance,
            "contributors": [dict(each) for each in self.contributors],
        }


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        checks: of all models.
        models: what was analysed, with top contributors and what changed since the baseline.
        warnings: of the comparison with baselines; those of each report are in `models`.
    """

    checks: tuple[Check, ...]
    models: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The JSON verdict, schema ``onnx_aiwq.verdict/1``."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "onnx_aiwq", "version": __version__},
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "models": [dict(model) for model in self.models],
            "warnings": list(self.warnings),
        }


def gate(
    models: str | Path | Sequence[str | Path] = (),
    *,
    hardware: str | HardwareProfile | None = None,
    budgets: Iterable[str] | Mapping[str, str | int] = (),
    baseline: Path | str | None = None,
    tolerances: Iterable[str] | Mapping[str, str] = (),
    policy: Path | str | None = None,
    start: Path | None = None,
    progress: Callable[[str], None] = quiet,
    **analysis: Unpack[Analysis],
) -> Verdict:
    """Check models against budgets and baselines.

    Args:
        models: paths and globs; those of the policy if there are none.
        hardware: name or file of a profile, or a profile.
        budgets: ``METRIC=VALUE UNIT`` texts, or values with units by metric.
        baseline: report, or folder of reports that `aiwq baseline update` wrote.
        tolerances: ``METRIC=5%`` texts, or percentages by metric; `default` is for every other metric.
        policy: TOML file; it is stronger than the project's own configuration, and weaker than arguments.
        start: where the project's configuration is looked for; the current folder if None.
        progress: is told the name of each stage as it begins.
        analysis: how models are analysed, as for `onnx_aiwq.analyze`.

    Raises:
        AiwqError: if anything prevents an answer: an input or option that is not usable, an unbound dimension, an
            operator that cannot be counted, a baseline that does not compare.
    """
    place = None if baseline is None else Path(baseline)
    flags = Flags(run_options(analysis, hardware), _texts(budgets), _texts(tolerances), place)
    layers = configurations(None if policy is None else Path(policy), start)
    named = [models] if isinstance(models, str | Path) else models
    return decide(plans(named, flags, layers), progress)


def _texts(rules: Iterable[str] | Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(rules, Mapping):
        return tuple(f"{name}={value}" for name, value in rules.items())
    return tuple(rules)


def decide(plans: Sequence[Plan], progress: Callable[[str], None] = quiet) -> Verdict:
    """Analyse every planned model and check it.

    Raises:
        AiwqError: as `gate`.
    """
    for plan in plans:
        _require_checks(plan)
    require_one_each(plans)
    reports = [
        next(analysed(plan.model, plan.options, [plan.options.hardware], progress, formulas=False)) for plan in plans
    ]
    if len(plans) > 1:
        require_used(plans[0].options, sorted(plans[0].required), reports)
    require_whole((str(plan.model), report) for plan, report in zip(plans, reports, strict=True))
    checks: list[Check] = []
    models: list[Mapping[str, Any]] = []
    warnings: list[str] = []
    for plan, report in zip(plans, reports, strict=True):
        entry = _model_entry(plan, report)
        checks += _budget_checks(plan, report)
        if plan.baseline is not None:
            path, before = read_baseline(plan, report)
            entry |= {"baseline": str(path), "changes": operator_difference(before, report)["entries"]}
            checks += _regression_checks(plan, report, before, warnings)
        models.append(entry)
    return Verdict(tuple(checks), tuple(models), tuple(dict.fromkeys(warnings)))


def _require_checks(plan: Plan) -> None:
    if not plan.budgets and plan.baseline is None:
        raise PolicyError(
            f"{plan.model}: nothing to check; give a budget (--budget 'energy=3 J'), a baseline (--baseline "
            "REPORT.json) or a policy (--policy aiwq.toml)"
        )
    if plan.baseline is None and any(tolerance.origin == "--tolerance" for tolerance in plan.tolerances.values()):
        raise PolicyError("--tolerance is above a baseline: name one with --baseline REPORT.json")


def _repriced(report: Report, before: Report) -> bool:
    if report["model"]["graph_sha256"] != before["model"]["graph_sha256"]:
        return False
    old: float = before["energy"]["joules"] or 0.0
    new: float = report["energy"]["joules"] or 0.0
    return exceeds(max(old, new), min(old, new))


def _known(metric: Metric, plan: Plan, report: Report) -> Quantity:
    quantity = metric.read(report)
    if quantity is None:
        raise PolicyError(f"{plan.model}: {metric.name} is not known; give shapes with --shape, or drop this check")
    return quantity


def _budget_checks(plan: Plan, report: Report) -> Iterator[Check]:
    for name, budget in plan.budgets.items():
        quantity = _known(budget.metric, plan, report)
        status, reason = _against_budget(budget, quantity)
        yield Check(
            name=name,
            model=str(plan.model),
            hardware=report["energy"]["hardware"],
            metric=budget.metric,
            kind="budget",
            limit=budget.limit,
            quantity=quantity,
            status=status,
            reason=reason,
            origin=budget.origin,
            contributors=() if status == "passed" else _contributors(budget.metric, report, None),
        )


def _against_budget(budget: Budget, quantity: Quantity) -> tuple[Status, str]:
    metric, limit = budget.metric, budget.metric.text(budget.limit)
    value = metric.text(quantity.value)
    if exceeds(quantity.low, budget.limit):
        if metric.exact:
            return "failed", f"{value} is {_above(quantity.value, budget.limit)} over the budget of {limit}"
        low = metric.text(quantity.low)
        return "failed", f"{value}, and at least {low}, is over the budget of {limit}"
    if exceeds(quantity.high, budget.limit):
        interval = metric.interval_text(quantity)
        return "undecided", f"{value} could not be told apart from the budget of {limit}: it may be {interval}"
    return "passed", f"{value} is within the budget of {limit}"


def _above(value: Number, limit: Number) -> str:
    return f"{value:,}" if not limit else percent(value / limit - 1)


def _regression_checks(plan: Plan, report: Report, before: Report, warnings: list[str]) -> Iterator[Check]:
    if _repriced(report, before):
        warnings.append(
            f"{plan.model}: the graph is that of the baseline, yet its joules differ: the shapes, the hardware profile "
            "or aiwq changed; write the baseline again"
        )
    for metric in METRICS.values():
        old, new = metric.read(before), metric.read(report)
        reason = not_comparable(metric.name, report, before)
        if old is None or new is None:
            reason = f"not known {'of the baseline' if old is None else 'now'}"
        if reason or old is None or new is None:
            if metric.name in plan.tolerances:
                raise PolicyError(
                    f"{plan.model}: {metric.name} does not compare with the baseline: {reason}; write the baseline "
                    "again with `aiwq baseline update`"
                )
            warnings.append(f"{plan.model}: {metric.name} is not compared with the baseline: {reason}")
            continue
        yield _against_baseline(plan, metric, report, before, old, new)


def _against_baseline(
    plan: Plan, metric: Metric, report: Report, before: Report, old: Quantity, new: Quantity
) -> Check:
    tolerance = plan.tolerance(metric.name)
    exact = old.value * (1 + tolerance.share) if isinstance(old.value, int) else None
    limit: Number = old.value * (1 + float(tolerance.share)) if exact is None else int(exact // 1)
    failed = exceeds(new.value, limit)
    return Check(
        name=f"{metric.name} since baseline",
        model=str(plan.model),
        hardware=report["energy"]["hardware"],
        metric=metric,
        kind="regression",
        limit=limit,
        quantity=new,
        status="failed" if failed else "passed",
        reason=_growth(metric, old.value, new.value, tolerance),
        origin=tolerance.origin,
        baseline=old.value,
        tolerance=float(tolerance.share),
        contributors=_contributors(metric, report, before) if failed else (),
    )


def _growth(metric: Metric, old: Number, new: Number, tolerance: Tolerance) -> str:
    allowed = f"{percent(tolerance.share)} allowed"
    value, base = metric.text(new), metric.text(old)
    if not exceeds(max(old, new), min(old, new)):
        return f"{value} is that of the baseline"
    if not old:
        return f"{value} where the baseline has none; {allowed}"
    side = "above" if new > old else "below"
    return f"{value} is {percent(abs(new / old - 1))} {side} the baseline's {base}; {allowed}"


def _contributors(metric: Metric, report: Report, before: Report | None) -> tuple[dict[str, Any], ...]:
    """Nodes with the largest share of a value; against a baseline, of its growth."""
    key = metric.node_key
    if key is None:
        return ()
    old = {} if before is None else {node["name"]: node[key] or 0 for node in before["nodes"]}
    grown = [(node, (node[key] or 0) - old.get(node["name"], 0)) for node in report["nodes"]]
    grown = sorted((each for each in grown if each[1] > 0), key=lambda each: -each[1])
    total = sum(value for _, value in grown)
    return tuple(
        {
            "node": node["name"],
            "op_type": node["op_type"],
            "scope": node["scope"],
            "value": value,
            "unit": METRICS["energy"].unit if key == "energy_j" else metric.unit or None,
            "share": value / total,
        }
        for node, value in grown[:_TOP]
    )


def _model_entry(plan: Plan, report: Report) -> dict[str, Any]:
    model, energy, carbon = report["model"], report["energy"], report["carbon"]
    return {
        "path": str(plan.model),
        "graph_sha256": model["graph_sha256"],
        "hardware": energy["hardware"],
        "source": energy["source"],
        "interval": energy["interval"],
        "convention": report["convention"],
        "level": report["level"],
        "bindings": dict(model["bindings"]),
        "region": carbon["region"],
        "intensity_g_per_kwh": carbon["intensity_g_per_kwh"],
        "intensity_year": carbon["year"],
        "top": _top_operators(report),
        "baseline": None,
        "changes": None,
        "warnings": list(report["warnings"]),
    }


def _top_operators(report: Report) -> list[dict[str, Any]]:
    total = report["energy"]["joules"] or 0.0
    entries = sorted(report["by_operator"].items(), key=lambda item: (-(item[1]["joules"] or 0.0), item[0]))
    return [
        {
            "operator": name,
            "nodes": entry["nodes"],
            "joules": entry["joules"],
            "transistor_operations": entry["transistor_operations"],
            "share": entry["joules"] / total if total and entry["joules"] is not None else None,
        }
        for name, entry in entries[:_TOP]
    ]
