"""What a machine can measure, for people: what there is, what is wrong, and what to do."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from onnx_aiwq.render.listing import write_rows
from onnx_aiwq.render.summary import plain
from onnx_aiwq.units import format_si

_COLUMNS = ("subject", "state", "detail", "next step")
_SUBJECT_WIDTH, _STATE_WIDTH = 20, 13
_NARROWEST = 60
_SUFFIX = "ExecutionProvider"

Row = tuple[str, str, str, str]


def render_doctor(findings: Mapping[str, Any], form: str, width: int | None = None) -> str:
    """Write the object of `onnx_aiwq.calibration.doctor.examine` as a table, JSON, Markdown or CSV.

    Args:
        findings: the object of the schema ``onnx_aiwq.doctor/1``.
        form: table, json, markdown or csv.
        width: columns of the table.
    """
    if form == "json":
        return json.dumps(findings, indent=2, allow_nan=False) + "\n"
    rows = [*_meters(findings), *_runtime(findings), *_machine(findings), *_profiles(findings), *_problems(findings)]
    return _table(rows, width or 100) if form == "table" else write_rows(_COLUMNS, rows, form, None)


def _table(rows: Iterable[Row], width: int) -> str:
    indent = _SUBJECT_WIDTH + _STATE_WIDTH
    lines = []
    for subject, state, detail, next_step in rows:
        start = f"{plain(subject):<{_SUBJECT_WIDTH}}{plain(state):<{_STATE_WIDTH}}"
        text = plain(detail) + (f" -> {plain(next_step)}" if next_step else "")
        lines += textwrap.wrap(
            text, max(width, _NARROWEST), initial_indent=start, subsequent_indent=" " * indent, break_long_words=False
        ) or [start.rstrip()]
    return "\n".join(lines) + "\n"


def _meters(findings: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for meter in findings["meters"]:
        state = meter["label"] if meter["usable"] else "not here"
        detail = ": ".join(part for part in (meter["scope"], meter["reason"]) if part)
        rows.append((f"meter {meter['name']}", state, detail, meter["next_step"]))
    for provider, chosen in findings["automatic"].items():
        why = "by default" if chosen["meter"] else "; ".join(chosen["notes"])
        rows.append((f"meter for {provider.removesuffix(_SUFFIX)}", chosen["meter"] or "none", why, ""))
    return rows


def _runtime(findings: Mapping[str, Any]) -> list[Row]:
    runtime = findings["runtime"]
    installed = ", ".join(f"{name} {version}" for name, version in runtime["distributions"].items())
    rows: list[Row] = [("onnxruntime", runtime["version"] or "not usable", installed or "not installed", "")]
    rows += [
        (
            f"provider {each['name'].removesuffix(_SUFFIX)}",
            "usable" if each["usable"] else "not usable",
            each["reason"],
            "",
        )
        for each in runtime["providers"]
    ]
    return rows


def _machine(findings: Mapping[str, Any]) -> list[Row]:
    machine, threads = findings["machine"], findings["threads"]
    quota = "" if threads["cpu_quota"] is None else f", limited to {threads['cpu_quota']:g} CPUs' worth of time"
    cores = f"{machine['physical_cores']} core(s) x {machine['threads_per_core']} thread(s){quota}"
    return [
        ("processor", "", machine["processor"], ""),
        ("CPUs", f"{threads['usable_cpus']} of {threads['logical_cpus']}", cores, ""),
        ("governor", machine["governor"], f"turbo {machine['turbo']}", ""),
        ("caches", "", machine["caches"], ""),
        ("memory", "", format_si(float(machine["memory_bytes"]), "B"), ""),
        ("virtualisation", "", machine["virtualisation"], ""),
        ("system", "", f"{machine['system']} {machine['kernel']}, Python {machine['python']}", ""),
    ]


def _profiles(findings: Mapping[str, Any]) -> list[Row]:
    profiles = findings["profiles"]
    calibrated = profiles["calibrated"]
    own = f"{calibrated['id']} ({calibrated['source']})" if calibrated else "none"
    rows: list[Row] = [
        ("calibrated profile", "", own, ""),
        ("profile by default", "", profiles["default"] or "none", ""),
        ("profile folder", "writable" if profiles["writable"] else "read-only", _folder(profiles), ""),
    ]
    for extra in findings["extras"]:
        parts = ", ".join(f"{name} {version or 'absent'}" for name, version in extra["distributions"].items())
        rows.append((f"extra {extra['name']}", "installed" if extra["installed"] else "absent", parts, ""))
    return rows


def _folder(profiles: Mapping[str, Any]) -> str:
    return f"{profiles['folder']}: {profiles['reason']}"


def _problems(findings: Mapping[str, Any]) -> list[Row]:
    problems = findings["problems"]
    rows: list[Row] = [("to do", each["subject"], each["problem"], each["next_step"]) for each in problems]
    return rows or [("to do", "nothing", "", "")]
