"""What a fleet amounts to: totals, the largest consumers, the Pareto front, errors, and what a run changed."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_aiwq import __version__
from onnx_aiwq.errors import AiwqError, PolicyError
from onnx_aiwq.fleet.changes import changes_entry
from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.inferences import Inferences
from onnx_aiwq.fleet.reading import COLUMNS, EXACT, SUMS, Inventory, current_rows
from onnx_aiwq.fleet.store import FleetFolder, known_rows
from onnx_aiwq.quantities import find_metric

SCHEMA = "onnx_aiwq.fleet/1"
_PER_INFERENCE = frozenset({"energy", "seconds", "co2e", "transistor_operations", "macs"})
_EXAMPLES = 3  # models per reason of failure

Number = int | float


@dataclass
class _Totals:
    """Sums over the models of one piece of hardware."""

    name: str
    source: str
    models: int = 0
    partial: int = 0
    unpriced: int = 0
    without_embodied: int = 0
    inferences: int = 0
    exact: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EXACT, 0))
    parts: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in SUMS})

    def add(self, row: Mapping[str, Any], inferences: int) -> None:
        self.models += 1
        self.partial += row["partial"]
        self.unpriced += row["joules"] is None
        self.without_embodied += row["embodied_g"] is None
        self.inferences += inferences
        for name in EXACT:
            self.exact[name] += int(row[name]) * inferences
        for name, column in SUMS.items():
            if row[column] is not None:
                self.parts[name].append(row[column] * inferences)

    def to_dict(self, hardware: str) -> dict[str, Any]:
        counted = ("models", "partial", "unpriced", "without_embodied", "inferences")
        return {
            "hardware": hardware,
            "hardware_name": self.name,
            "source": self.source,
            **{name: getattr(self, name) for name in counted},
            **self.exact,
            # Rounded once, so that the sum does not depend on the order in which models were analysed.
            **{name: math.fsum(parts) if parts else None for name, parts in self.parts.items()},
        }


@dataclass(frozen=True)
class Question:
    """What is asked of a fleet.

    Attributes:
        inferences: of each model.
        top: length of every list.
        by: metric that consumers are ranked by.
        pareto: the two metrics of the front.
    """

    inferences: Inferences = field(default_factory=Inferences)
    top: int = 10
    by: str = "energy"
    pareto: tuple[str, str] = ("energy", "seconds")

    def __post_init__(self) -> None:
        """Check the metrics.

        Raises:
            PolicyError: for a name that is no metric, or two equal ones.
        """
        find_metric(self.by, f"--by {self.by}")
        for name in self.pareto:
            find_metric(name, f"--pareto {','.join(self.pareto)}")
        if self.pareto[0] == self.pareto[1]:
            raise PolicyError(f"--pareto {','.join(self.pareto)}: expected two different metrics, as energy,parameters")
        if self.top < 1:
            raise PolicyError(f"--top {self.top}: expected at least 1")


def summarise(folder: Path, question: Question) -> dict[str, Any]:
    """The JSON report of the latest run of a fleet, schema ``onnx_aiwq.fleet/1``.

    Raises:
        AiwqError: if the folder holds no fleet, or no run.
    """
    need("pyarrow.dataset")
    store = FleetFolder(folder)
    store.require()
    runs = store.runs()
    if not runs:
        raise AiwqError(f"{folder}: holds no run yet; begin one with `aiwq fleet SOURCE... --output {folder}`")
    number = max(runs)
    run = runs[number]
    inventory = store.inventory(number)
    found = _Gathered(question)
    for row in current_rows(store, run["description"], inventory):
        found.add(row)
    errors = _errors(store, run["description"], inventory, found.models)
    unknown = question.inferences.unknown(inventory)
    return {
        "schema": SCHEMA,
        "tool": {"name": "onnx_aiwq", "version": __version__},
        "fleet": str(folder),
        "run": {"number": number, "complete": run["complete"], **run["description"]},
        "models": {
            "listed": len(inventory),
            "analysed": len(found.models),
            "partial": len(found.partial),
            "failed": sum(entry.failed for entry in inventory.values()),
        },
        "inferences": {**question.inferences.to_dict(), "models_without": len(question.inferences.without(inventory))},
        "totals": [found.totals[hardware].to_dict(hardware) for hardware in sorted(found.totals)],
        "top": {"by": question.by, "rows": found.top()},
        "pareto": found.pareto(),
        "errors": errors,
        "changes": changes_entry(store, runs, number, question.top),
        "warnings": list(_warnings(run, number, found, unknown)),
    }


class _Gathered:
    """What one pass over the rows keeps of them."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.totals: dict[str, _Totals] = {}
        self.models: set[str] = set()
        self.partial: set[str] = set()
        self._largest: list[tuple[Number, str, str, dict[str, Any]]] = []
        self._points: list[tuple[Number, Number, str, str]] = []

    def add(self, row: dict[str, Any]) -> None:
        """A row of the fleet."""
        model, hardware = row["model"], row["hardware"]
        self.models.add(model)
        if row["partial"]:
            self.partial.add(model)
        inferences = self._question.inferences.of(model)
        totals = self.totals.setdefault(hardware, _Totals(row["hardware_name"], row["joules_source"]))
        totals.add(row, inferences)
        self._rank(row, inferences)
        one, other = (_value(row, metric, 1) for metric in self._question.pareto)
        if one is not None and other is not None and not row["partial"]:
            self._points.append((one, other, model, hardware))

    def _rank(self, row: dict[str, Any], inferences: int) -> None:
        value = _value(row, self._question.by, inferences)
        if value is None:
            return
        entry = (value, row["model"], row["hardware"], {**row, "inferences": inferences})
        if len(self._largest) < self._question.top:
            heapq.heappush(self._largest, entry)
        elif entry[:3] > self._largest[0][:3]:
            heapq.heapreplace(self._largest, entry)

    def top(self) -> list[dict[str, Any]]:
        """The largest consumers with their share of the total of their hardware."""
        column = COLUMNS[self._question.by]
        entries = []
        for value, model, hardware, row in sorted(self._largest, key=lambda entry: (-entry[0], entry[1], entry[2])):
            whole = self.totals[hardware].to_dict(hardware).get(column)
            inferences = row["inferences"]
            entries.append(
                {
                    "model": model,
                    "hardware": hardware,
                    "inferences": inferences,
                    "partial": row["partial"],
                    "share": value / whole if whole else None,
                    "metrics": {metric: _value(row, metric, inferences) for metric in COLUMNS},
                }
            )
        return entries

    def pareto(self) -> dict[str, Any]:
        """The complete rows that no other beats in both metrics, per inference, by the first; lists are cut short."""
        front: list[tuple[Number, Number, str, str]] = []
        for point in sorted(self._points):
            # In this order a point is beaten by the last of the front or by none.
            if not front or point[1] < front[-1][1] or point[:2] == front[-1][:2]:
                front.append(point)
        first, second = self._question.pareto
        rows = [
            {"model": model, "hardware": hardware, first: one, second: other} for one, other, model, hardware in front
        ]
        return {"metrics": [first, second], "size": len(rows), "rows": rows[: self._question.top]}


def _value(row: Mapping[str, Any], metric: str, inferences: int) -> Number | None:
    value = row[COLUMNS[metric]]
    if value is None:
        return None
    number: Number = value if isinstance(value, float) else int(value)
    return number * inferences if metric in _PER_INFERENCE else number


def _errors(
    store: FleetFolder,
    description: Mapping[str, Any],
    inventory: Inventory,
    analysed: Iterable[str],
) -> list[dict[str, Any]]:
    """Models of the run without a row, by the reason of their latest failure."""
    where = need("pyarrow.compute").field("settings") == description["settings"]
    done = frozenset(analysed)
    latest: dict[str, tuple[str, str]] = {}
    for model, content, reason, message in known_rows(
        store.batches("errors", ("model", "content_sha256", "reason", "message"), where)
    ):
        if model in inventory and model not in done and inventory[model].content == content:
            latest[model] = (reason, message)
    by_reason: dict[str, list[str]] = {}
    for model, (reason, _) in latest.items():
        by_reason.setdefault(reason, []).append(model)
    return [
        {
            "reason": reason,
            "models": len(models),
            "examples": [{"model": model, "message": latest[model][1]} for model in sorted(models)[:_EXAMPLES]],
        }
        for reason, models in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _warnings(run: Mapping[str, Any], number: int, found: _Gathered, unknown: Sequence[str]) -> Iterator[str]:
    if not run["complete"]:
        yield f"run {number} has not come to its end: these are the models that it has; run the same command to go on"
    if found.partial:
        yield f"{len(found.partial):,} models are partial: their totals lack what could not be counted"
    if any(totals.unpriced for totals in found.totals.values()):
        yield "models without a price are in no total of energy, time and CO2e"
    if any(totals.without_embodied for totals in found.totals.values()):
        yield "CO2e is operational alone where the hardware's embodied carbon is unknown"
    if unknown:
        yield f"--inferences names {len(unknown):,} models that the fleet does not have: {', '.join(unknown[:3])}"
