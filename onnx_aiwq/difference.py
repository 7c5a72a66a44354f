"""What differs between two reports of the same thing: operators or nodes that were added, removed, grown or shrunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]


def operator_difference(before: Report, after: Report, *, by: str = "operator") -> dict[str, Any]:
    """Compare two JSON reports piece by piece.

    Args:
        before: the first.
        after: the second.
        by: `operator` groups nodes by operator; `node` matches nodes by name.

    Returns:
        ``by``, and ``entries``: name, change (added, removed, grown, shrunk, changed) and each figure of both, the
        largest change of transistor operations first; what did not change is left out.
    """
    pieces = _by_operator if by == "operator" else _by_node
    old, new = pieces(before), pieces(after)
    entries: list[dict[str, Any]] = []
    for name in dict.fromkeys((*old, *new)):
        change = _change(old.get(name), new.get(name))
        if change:
            entries.append({"name": name, "change": change, "before": old.get(name), "after": new.get(name)})
    entries.sort(key=lambda entry: str(entry["name"]))
    entries.sort(key=_size, reverse=True)
    return {"by": by, "entries": entries}


def _by_operator(report: Report) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "nodes": entry["nodes"],
            "transistor_operations": entry["transistor_operations"],
            "macs": entry["macs"],
            "bytes": _bytes(entry),
            "joules": entry["joules"],
        }
        for name, entry in report["by_operator"].items()
    }


def _by_node(report: Report) -> dict[str, dict[str, Any]]:
    return {
        node["name"]: {
            "op_type": node["op_type"],
            "nodes": 1,
            "transistor_operations": node["transistor_operations"],
            "macs": node["macs"],
            "bytes": _bytes(node),
            "joules": node["energy_j"],
        }
        for node in report["nodes"]
    }


def _bytes(entry: Mapping[str, Any]) -> int | None:
    read, written = entry["bytes_read"], entry["bytes_written"]
    return None if read is None or written is None else read + written


def _change(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    """The first figure that differs decides: operations, then bytes, then the number of nodes, then joules."""
    if old is None:
        return "added"
    if new is None:
        return "removed"
    for key in ("transistor_operations", "macs", "bytes", "nodes"):
        if old[key] is not None and new[key] is not None and old[key] != new[key]:
            return "grown" if new[key] > old[key] else "shrunk"
    return "" if all(old[key] == new[key] for key in old) or _same_joules(old, new) else "changed"


def _same_joules(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    one, other = old["joules"], new["joules"]
    close = one == other or (one is not None and other is not None and abs(one - other) <= 1e-9 * max(one, other))
    return close and all(old[key] == new[key] for key in old if key != "joules")


def _size(entry: Mapping[str, Any]) -> tuple[int, int]:
    old, new = entry["before"] or {}, entry["after"] or {}
    operations = abs((new.get("transistor_operations") or 0) - (old.get("transistor_operations") or 0))
    return operations, abs((new.get("bytes") or 0) - (old.get("bytes") or 0))
