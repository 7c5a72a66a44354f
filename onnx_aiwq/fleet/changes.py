"""What changed from one run of a fleet to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onnx_aiwq.fleet.reading import Inventory, current_rows
from onnx_aiwq.fleet.store import FleetFolder

_COMPARED = ("joules", "seconds", "co2e_g", "transistor_operations", "macs", "parameters")


def changes_entry(
    store: FleetFolder, runs: Mapping[int, Mapping[str, Any]], number: int, top: int
) -> dict[str, Any] | None:
    """The ``changes`` object of a run against the latest complete one before it; None for the first.

    Args:
        store: the folder.
        runs: all runs, by number.
        number: of the run.
        top: length of every list; `counts` has the whole numbers.
    """
    earlier = [before for before, run in runs.items() if before < number and run["complete"]]
    if not earlier:
        return None
    previous = max(earlier)
    old, new = runs[previous]["description"], runs[number]["description"]
    old_models, new_models = store.inventory(previous), store.inventory(number)
    both = old_models.keys() & new_models.keys()
    content = [
        model
        for model in both
        if None not in (was := (old_models[model].content, new_models[model].content)) and was[0] != was[1]
    ]
    same_terms = old["settings"] == new["settings"] and old["hardware"] == new["hardware"]
    compared = content if same_terms else both  # where neither content nor terms differ, no figure can
    before, after = _figures(store, old, old_models, compared), _figures(store, new, new_models, compared)
    lists = {
        "added": sorted(new_models.keys() - old_models.keys()),
        "removed": sorted(old_models.keys() - new_models.keys()),
        "content_changed": sorted(content),
        "newly_failing": sorted(model for model in both if new_models[model].failed > old_models[model].failed),
        "recovered": sorted(model for model in both if new_models[model].failed < old_models[model].failed),
    }
    figures = _moved(before, after)
    return {
        "previous_run": previous,
        "terms": _terms(old, new),
        "counts": {**{name: len(models) for name, models in lists.items()}, "figures_changed": len(figures)},
        **{name: models[:top] for name, models in lists.items()},
        "figures": figures[:top],
    }


def _figures(
    store: FleetFolder, description: Mapping[str, Any], inventory: Inventory, models: Iterable[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    wanted = frozenset(models)
    if not wanted:
        return {}
    return {
        (row["model"], row["hardware"]): {name: _number(row[name]) for name in _COMPARED}
        for row in current_rows(store, description, inventory, wanted)
    }


def _number(value: Any) -> int | float | None:
    return value if value is None or isinstance(value, float) else int(value)


def _moved(
    before: Mapping[tuple[str, str], dict[str, Any]], after: Mapping[tuple[str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of both runs whose figures differ, the largest difference in joules first."""
    rows = [
        {"model": model, "hardware": hardware, "before": before[model, hardware], "after": after[model, hardware]}
        for model, hardware in before.keys() & after.keys()
        if before[model, hardware] != after[model, hardware]
    ]
    return sorted(rows, key=lambda row: (-_distance(row), row["model"], row["hardware"]))


def _distance(row: Mapping[str, Any]) -> float:
    before, after = (float(row[side]["joules"] or 0.0) for side in ("before", "after"))
    return abs(after - before)


def _terms(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what the two runs were made differently, one phrase each."""
    terms = [
        f"{name}: {old['options'].get(name)} -> {value}"
        for name, value in new["options"].items()
        if old["options"].get(name) != value
    ]
    if old["hardware"] != new["hardware"]:
        terms.append(f"hardware: {', '.join(old['hardware'])} -> {', '.join(new['hardware'])}")
    if old["settings"] != new["settings"] and old["options"] == new["options"]:
        terms.append("version of onnx_aiwq")
    return terms
