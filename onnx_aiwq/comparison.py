"""Models x hardware side by side: differences with their uncertainty, Pareto front, best choice, what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_aiwq import __version__
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.quantities import (
    METRICS,
    Metric,
    Quantity,
    difference,
    find_metric,
    pareto_front,
    share_coefficients,
)
from onnx_aiwq.runs import Analysis, RunOptions, analysed, expand, quiet, require_used, require_whole, run_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onnx_aiwq.constraints import Constraint
    from onnx_aiwq.hardware_profile import HardwareProfile

SCHEMA = "onnx_aiwq.comparison/1"
DEFAULT_PARETO = ("energy", "seconds")
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One model on one piece of hardware.

    Attributes:
        report: its JSON report.
        saved: the file that the report was read from; None where the model was analysed now.
        values: by metric; None where the report does not know it.
    """

    report: Report
    saved: Path | None
    values: Mapping[str, Quantity | None]

    @property
    def model(self) -> str:
        """Path of the model, else of the saved report."""
        return str(self.report["model"]["path"] or self.saved or "model in memory")

    @property
    def hardware(self) -> str:
        """Id of the hardware profile."""
        return str(self.report["energy"]["hardware"])

    @property
    def complete(self) -> bool:
        """Whether nothing is missing from the totals: only then can it win."""
        return not self.report["totals"]["partial"]


@dataclass(frozen=True)
class Comparison:
    """Rows and what follows from them.

    Attributes:
        rows: one per model and hardware.
        pareto_metrics: the two metrics of the front.
        constraint: that a choice has to meet; None for any.
        minimise: metric that the best choice has least of; None where no choice was asked for.
        by: `operator` or `node` for the difference of two rows; None where it was not asked for.
    """

    rows: tuple[Row, ...]
    pareto_metrics: tuple[Metric, Metric]
    constraint: Constraint | None = None
    minimise: Metric | None = None
    by: str | None = None

    @property
    def pareto(self) -> tuple[int, ...]:
        """Indices of the complete rows that no other beats in both metrics, by the first metric."""
        first, second = (metric.name for metric in self.pareto_metrics)
        points = [
            (one.value, other.value, index)
            for index, row in enumerate(self.rows)
            if row.complete and (one := row.values[first]) is not None and (other := row.values[second]) is not None
        ]
        return pareto_front(points)

    @property
    def best(self) -> dict[str, Any] | None:
        """The row that meets the constraint with the least of `minimise`, and the rows that cannot be told from it."""
        if self.minimise is None:
            return None
        name = self.minimise.name
        meets = [index for index in range(len(self.rows)) if self._eligible(index) and self.rows[index].values[name]]
        if not meets:
            return None
        best = min(meets, key=lambda index: (_value(self.rows[index], name), index))
        ties = [index for index in meets if index != best and not _apart(self.rows[best], self.rows[index], name)]
        return {
            "row": best,
            "model": self.rows[best].model,
            "hardware": self.rows[best].hardware,
            "value": _value(self.rows[best], name),
            "indistinguishable": ties,
            "certain": self.constraint is None or self.constraint.certain(self.rows[best].values) is True,
        }

    def _eligible(self, index: int) -> bool:
        row = self.rows[index]
        return row.complete and (self.constraint is None or self.constraint.holds(row.values))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader has to know, one line each."""
        lines = []
        partial = [f"{row.model} ({row.hardware})" for row in self.rows if not row.complete]
        if partial:
            lines.append(f"partial totals, kept out of the Pareto front and the choice: {', '.join(partial)}")
        for key in ("convention", "level"):
            found = sorted({str(row.report[key]) for row in self.rows})
            if len(found) > 1:
                lines.append(f"the rows differ in {key}: {', '.join(found)}; their counts do not compare")
        if self.minimise is not None and self.best is None:
            condition = "" if self.constraint is None else f" meets {self.constraint.text!r}"
            lines.append(f"no complete row{condition or ' knows ' + self.minimise.name}")
        lines += _binding_warnings(self.rows)
        return tuple(dict.fromkeys(lines))

    def to_dict(self) -> dict[str, Any]:
        """The JSON comparison, schema ``onnx_aiwq.comparison/1``."""
        from onnx_aiwq.difference import operator_difference

        front = self.pareto
        return {
            "schema": SCHEMA,
            "tool": {"name": "onnx_aiwq", "version": __version__},
            "rows": [self._entry(index) for index in range(len(self.rows))],
            "differences": list(self._differences()),
            "pareto_metrics": [metric.name for metric in self.pareto_metrics],
            "pareto": [self._pareto_entry(index) for index in front],
            "where": None if self.constraint is None else self.constraint.text,
            "minimise": None if self.minimise is None else self.minimise.name,
            "best": self.best,
            "changes": None if self.by is None else operator_difference(*self._two(), by=self.by),
            "warnings": list(self.warnings),
        }

    def _entry(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        report = row.report
        return {
            "model": row.model,
            "hardware": row.hardware,
            "saved_report": None if row.saved is None else str(row.saved),
            "graph_sha256": report["model"]["graph_sha256"],
            "bindings": {**report["model"]["bindings"], **report["model"]["assumed_bindings"]},
            "convention": report["convention"],
            "level": report["level"],
            "metrics": {name: _quantity_entry(METRICS[name], value) for name, value in row.values.items()},
            "meets": None if self.constraint is None else self.constraint.holds(row.values),
            **{key: report[key] for key in ("totals", "energy", "ecal", "carbon")},
            "warnings": list(report["warnings"]),
        }

    def _pareto_entry(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        names = [metric.name for metric in self.pareto_metrics]
        return {
            "row": index,
            "model": row.model,
            "hardware": row.hardware,
            "values": {name: _value(row, name) for name in names},
        }

    def _differences(self) -> Iterator[dict[str, Any]]:
        """Every row against the first of its hardware, and against the first of its model."""
        by_hardware: dict[str, int] = {}
        by_model: dict[tuple[str, str], int] = {}
        for index, row in enumerate(self.rows):
            references = {
                by_hardware.setdefault(row.hardware, index),
                by_model.setdefault((row.model, str(row.report["model"]["graph_sha256"])), index),
            }
            for reference in sorted(references - {index}):
                yield from _compared(self.rows, reference, index)

    def _two(self) -> tuple[Report, Report]:
        if len(self.rows) != 2:
            raise PolicyError(
                f"--by {self.by}: compares two rows, found {len(self.rows)}; give two models, one hardware"
            )
        return self.rows[0].report, self.rows[1].report


def _binding_warnings(rows: Sequence[Row]) -> Iterator[str]:
    bound: dict[str, set[int]] = {}
    for row in rows:
        model = row.report["model"]
        if model["assumed_bindings"]:
            names = ", ".join(f"{name}={value}" for name, value in model["assumed_bindings"].items())
            first = next(iter(model["assumed_bindings"]))
            yield f"{row.model}: dimensions that nobody bound are taken as 1: {names}; bind them with --bind {first}=N"
        for name, value in {**model["assumed_bindings"], **model["bindings"]}.items():
            bound.setdefault(name, set()).add(value)
    for name, values in bound.items():
        if len(values) > 1:
            yield f"the rows differ in {name}: {', '.join(map(str, sorted(values)))}"


def _value(row: Row, metric: str) -> int | float:
    quantity = row.values[metric]
    assert quantity is not None  # rows are chosen by having it
    return quantity.value


def _apart(one: Row, other: Row, metric: str) -> bool:
    first, second = one.values[metric], other.values[metric]
    if first is None or second is None:
        return False
    found = difference(first, second, paired=share_coefficients(one.report, other.report))
    return found.told_apart and found.value != 0


def _compared(rows: Sequence[Row], reference: int, index: int) -> Iterator[dict[str, Any]]:
    one, other = rows[reference], rows[index]
    paired = share_coefficients(one.report, other.report)
    for name in METRICS:
        first, second = one.values[name], other.values[name]
        if first is None or second is None:
            continue
        found = difference(first, second, paired=paired)
        yield {
            "metric": name,
            "reference": reference,
            "row": index,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "ratio": second.value / first.value if first.value else None,
            "paired": found.paired,
            "verdict": found.verdict,
        }


def _quantity_entry(metric: Metric, quantity: Quantity | None) -> dict[str, Any] | None:
    if quantity is None:
        return None
    return {"value": quantity.value, "low": quantity.low, "high": quantity.high, "unit": metric.unit or None}


def row_of(report: Report, saved: Path | None = None) -> Row:
    """A row from a JSON report."""
    return Row(report, saved, {name: metric.read(report) for name, metric in METRICS.items()})


def compare(
    models: str | Path | Iterable[str | Path],
    *,
    hardware: str | HardwareProfile | Sequence[str | HardwareProfile | None] | None = None,
    pareto: Sequence[str] = DEFAULT_PARETO,
    where: str | None = None,
    minimise: str | None = None,
    by: str | None = None,
    strict: bool = False,
    progress: Callable[[str], None] = quiet,
    **analysis: Unpack[Analysis],
) -> Comparison:
    """Put models and saved reports side by side.

    Args:
        models: paths and globs of models, and of saved JSON reports (``*.json``), which stay as they were saved.
        hardware: profile, or profiles, that every model is priced on.
        pareto: the two metrics of the Pareto front.
        where: constraint on the rows, for example ``seconds < 20 ms and peak_memory < 200 MB``.
        minimise: metric that the best choice has least of.
        by: `operator` or `node`: what differs between two rows.
        strict: refuse unbound dimensions and partial totals.
        progress: is told the name of each stage as it begins.
        analysis: how models are analysed, as for `onnx_aiwq.analyze`.

    Raises:
        AiwqError: if an input, an option or the hardware is not usable; the message names the next step.
    """
    from onnx_aiwq.constraints import parse_constraint

    metrics = [find_metric(name.strip(), f"--pareto {','.join(pareto)}") for name in pareto]
    if len(metrics) != 2 or metrics[0] is metrics[1]:
        raise PolicyError(f"--pareto {','.join(pareto)!r}: expected two different metrics, for example energy,seconds")
    constraint = None if where is None else parse_constraint(where)
    chosen = None if minimise is None else find_metric(minimise, f"--minimise {minimise}")
    if by not in (None, "operator", "node"):
        raise PolicyError(f"--by {by!r}: expected operator or node")
    paths = expand([models] if isinstance(models, str | Path) else models)
    several = hardware if isinstance(hardware, Sequence) and not isinstance(hardware, str) else [hardware]
    rows = tuple(_rows(paths, several, run_options(analysis), progress))
    if not rows:
        raise PolicyError("nothing to compare: name models (model.onnx) or saved reports (report.json)")
    comparison = Comparison(rows, (metrics[0], metrics[1]), constraint, chosen, by)
    if by is not None:
        comparison._two()
    if strict:
        require_whole((row.model, row.report) for row in rows)
    return comparison


def _rows(
    paths: Sequence[Path],
    hardware: Sequence[str | HardwareProfile | None],
    options: RunOptions,
    progress: Callable[[str], None],
) -> Iterator[Row]:
    from onnx_aiwq.profiles import load_profile
    from onnx_aiwq.saved import read_report

    profiles = [load_profile(each) if each is None or isinstance(each, str) else each for each in hardware]
    models = [path for path in paths if path.suffix.casefold() != ".json"]
    given = (options.bind.keys() | options.shapes.keys()) - options.optional
    if len(models) > 1:
        options = options.for_several()
    fresh = []
    for path in paths:
        if path not in models:
            yield row_of(read_report(path), path)
            continue
        for report in analysed(path, options, profiles, progress):
            fresh.append(report)
            yield row_of(report)
    if len(models) > 1:
        require_used(options, sorted(given), fresh)
