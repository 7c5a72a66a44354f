"""Saved reports: read back, checked, and refused where they do not compare with another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from onnx_aiwq.errors import PolicyError

Report = Mapping[str, Any]

SCHEMA_NAME, SCHEMA_VERSION = "onnx_aiwq.report", "1"
MAX_REPORT_BYTES = 512_000_000  # some 500,000 nodes


class _Open(BaseModel):
    """What is read of a report; keys that a later minor version adds are left alone."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, defer_build=True)


class _Model(_Open):
    path: str | None
    graph_sha256: str
    bindings: dict[str, int]
    assumed_bindings: dict[str, int]
    parameters: int
    parameter_bytes: int


class _Totals(_Open):
    transistor_operations: int
    macs: int
    bytes_read: int
    bytes_written: int
    peak_activation_bytes: int | None
    partial: bool


class _Group(_Open):
    """Counts are None where no node of the group can be counted."""

    nodes: int
    transistor_operations: int | None
    macs: int | None
    bytes_read: int | None
    bytes_written: int | None
    joules: float | None


class _Node(_Open):
    name: str
    op_type: str
    scope: str
    transistor_operations: int | None
    macs: int | None
    bytes_read: int | None
    bytes_written: int | None
    energy_j: float | None
    seconds: float | None


class _Energy(_Open):
    hardware: str
    provider: str | None
    source: str
    interval: float
    joules: float | None
    joules_low: float | None
    joules_high: float | None
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    compute_j: float | None
    data_j: float | None
    system_j: float | None


class _Ecal(_Open):
    joules: float | None
    joules_per_bit: float | None


class _Carbon(_Open):
    region: str | None
    intensity_g_per_kwh: float
    pue: float
    operational_g: float | None
    embodied_g: float | None
    total_g: float | None


class _Coverage(_Open):
    unsupported_operators: list[str]


class _Report(_Open):
    convention: str
    level: str
    model: _Model
    totals: _Totals
    by_operator: dict[str, _Group]
    coverage: _Coverage
    nodes: list[_Node]
    energy: _Energy
    ecal: _Ecal
    carbon: _Carbon
    warnings: list[str]


def read_report(path: Path) -> Report:
    """A JSON report that `aiwq analyze --format json` or `aiwq baseline update` wrote.

    Raises:
        PolicyError: if the file cannot be read, or is no report of this schema version.
    """
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise PolicyError(f"{path}: larger than {MAX_REPORT_BYTES:,} bytes, which no report is")
        report = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError(f"{path}: cannot read the report: {reason}; write one with `aiwq baseline update`") from None
    except (ValueError, RecursionError):
        raise PolicyError(f"{path}: not JSON; write a report with `aiwq analyze MODEL --format json`") from None
    _check(report, path)
    return dict(report)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _check(report: Any, path: Path) -> None:
    schema = report.get("schema") if isinstance(report, dict) else None
    name, _, version = str(schema).partition("/")
    if name != SCHEMA_NAME:
        found = "no schema" if schema is None else f"schema {schema!r}"
        raise PolicyError(
            f"{path}: expected a report of schema {SCHEMA_NAME}/{SCHEMA_VERSION}, found {found}; "
            "write one with `aiwq analyze MODEL --format json`"
        )
    if version != SCHEMA_VERSION:
        raise PolicyError(
            f"{path}: report schema version {version!r}, this aiwq reads {SCHEMA_VERSION}; write the report again "
            "with `aiwq baseline update`"
        )
    try:
        _Report.model_validate(report)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        more = f" and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        raise PolicyError(f"{path}: not a valid report: field {place!r}: {first['msg']}{more}") from None


def require_comparable(report: Report, other: Report, name: str) -> None:
    """Refuse to compare two reports that count or price different things.

    Args:
        report: the fresh one.
        other: the saved one.
        name: of the saved one, to begin the message with.

    Raises:
        PolicyError: naming everything that differs: convention, level, hardware, bindings.
    """
    found = [
        f"{what} {saved!r} instead of {fresh!r}"
        for what, saved, fresh in (
            ("convention", other["convention"], report["convention"]),
            ("level", other["level"], report["level"]),
            ("hardware", other["energy"]["hardware"], report["energy"]["hardware"]),
            ("source of joules", other["energy"]["source"], report["energy"]["source"]),
        )
        if saved != fresh
    ]
    before, now = _bindings(other), _bindings(report)
    found += [
        f"{key}={before[key]} instead of {key}={now[key]}" for key in now if before.get(key, now[key]) != now[key]
    ]
    if found:
        raise PolicyError(
            f"{name}: cannot be compared, it was made with {', '.join(found)}; use the same options, or write it "
            "again with `aiwq baseline update`"
        )


def _bindings(report: Report) -> dict[str, int]:
    return {**report["model"]["assumed_bindings"], **report["model"]["bindings"]}
