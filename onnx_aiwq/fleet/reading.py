"""The rows of one run, out of all that a fleet's folder holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnx_aiwq.fleet.extra import need
from onnx_aiwq.fleet.store import FleetFolder, Listed, known_rows

Inventory = Mapping[str, Listed]
COLUMNS = {
    "energy": "joules",
    "seconds": "seconds",
    "co2e": "co2e_g",
    "ecal": "ecal_j_per_bit",
    "transistor_operations": "transistor_operations",
    "macs": "macs",
    "peak_memory": "peak_activation_bytes",
    "parameters": "parameters",
}
"""Metric -> its column."""
SUMS = {
    **{name: name for name in ("joules", "joules_low", "joules_high", "seconds", "seconds_low", "seconds_high")},
    "co2e_g": "co2e_g",
}
EXACT = ("transistor_operations", "macs", "bytes_read", "bytes_written")
_READ = (
    "model",
    "content_sha256",
    "hardware",
    "hardware_key",
    "hardware_name",
    "joules_source",
    "partial",
    "embodied_g",
)


def current_rows(
    store: FleetFolder,
    description: Mapping[str, Any],
    inventory: Inventory,
    models: frozenset[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of a run: of its settings and hardware, and of the content that its models had.

    Args:
        store: the folder.
        description: of the run.
        inventory: of the run.
        models: only these; all if None.
    """
    compute = need("pyarrow.compute")
    where = (compute.field("settings") == description["settings"]) & compute.field("hardware_key").isin(
        description["hardware"]
    )
    columns = list(dict.fromkeys((*_READ, *COLUMNS.values(), *SUMS.values(), *EXACT)))
    for values in known_rows(store.batches("results", columns, where)):
        row = dict(zip(columns, values, strict=True))
        entry = inventory.get(row["model"])
        if entry is not None and entry.content == row["content_sha256"] and (models is None or row["model"] in models):
            yield row
