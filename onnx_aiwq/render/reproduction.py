"""The experiment of the TO paper on one machine, as a table or Markdown, beside the paper's own Table V."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx_aiwq.render.listing import write_rows
from onnx_aiwq.units import format_si

FORMATS = ("table", "json", "markdown")
_PRECISION = (
    "networks",
    "predictor",
    "n",
    "adjusted R2",
    "by run: precision %",
    "by network: precision %",
    "RMSE by run",
    "by network",
    "skill by run",
    "by network",
    "paper, by run: desktop CPU",
    "laptop CPU",
)
_LINES = ("networks", "x", "r2 TOs-FLOPs", "intercept", "share of mean energy", "slope", "paper's slopes (Eq. 7, 8)")
_WIDTH = 118
Rows = list[tuple[str, ...]]


def render_reproduction(document: Mapping[str, Any], form: str, width: int | None = None) -> str:
    """Write the object of the schema ``onnx_aiwq.reproduction/1`` in one of `FORMATS`; a table as wide as `width`."""
    if form == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    parts = [
        _heading(document),
        "Precision is 100 (1 - |E - E^|/E) over validation runs: lowest to highest (mean). Skill is 1 - squared error "
        "/ that of the constant: 0 is no better than a constant, below 0 is worse.",
        write_rows(_PRECISION, _precision_rows(document), form, width),
        "Lines over all kept runs (n = 1).",
        write_rows(_LINES, _line_rows(document), form, width),
        _constants(document),
        "Reproduced: " + "; ".join(document["reproduced"]) + ".",
        "Not reproduced: " + "; ".join(document["not_reproduced"]) + ".",
    ]
    wrapped = (part if part.endswith("\n") else textwrap.fill(part, _WIDTH) + "\n" for part in parts)
    return "\n".join(wrapped)


def _heading(document: Mapping[str, Any]) -> str:
    protocol, meter = document["protocol"], document["meter"]
    source = "samples from a file" if meter is None else f"meter {meter['name']}: {meter['scope']}"
    return (
        f"Transistor operations against {document['label']} energy ({source}), level {document['level']}: "
        f"{len(document['networks'])} networks x {protocol['runs']} runs, {protocol['dropped_each_end']} dropped at "
        f"each end, {protocol['splits']} random splits that train on {protocol['train_share']:.0%}, "
        f"seed {protocol['seed']}."
    )


def _precision_rows(document: Mapping[str, Any]) -> Rows:
    by_run = [row for row in document["table"] if row["split"] == "run"]
    rows: Rows = []
    for row in by_run:
        other = _same(document["table"], row, "network")
        skills = ("", "") if not row["n"] else (f"{row['skill']:.3f}", f"{other['skill']:.3f}")
        rows.append(
            (
                f"{row['family']} {row['activation']}",
                row["basis"],
                str(row["n"] or ""),
                "" if row["adjusted_r2"] is None else f"{row['adjusted_r2']:.3f}",
                _range(row),
                _range(other),
                format_si(row["rmse_j"], "J"),
                format_si(other["rmse_j"], "J"),
                *skills,
                *(_published(document, row, platform) for platform in ("desktop", "laptop")),
            )
        )
    return rows


def _same(table: Sequence[Mapping[str, Any]], row: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    keys = ("family", "activation", "basis", "n")
    return next(each for each in table if each["split"] == split and all(each[key] == row[key] for key in keys))


def _range(row: Mapping[str, Any]) -> str:
    low, high, mean = (row[f"precision_{key}_pct"] for key in ("min", "max", "avg"))
    return f"{low:.2f} to {high:.2f} ({mean:.2f})"


def _published(document: Mapping[str, Any], row: Mapping[str, Any], platform: str) -> str:
    """The paper's figure for this family and basis; it does not say which n."""
    condition = row["activation"] if row["family"] == "DNN" else "CPU"
    for each in document["published"]["table_v"]:
        if (each["platform"], each["network"], each["condition"], each["metric_basis"]) == (
            platform,
            row["family"],
            condition,
            row["basis"],
        ):
            return _range(each)
    return ""


def _line_rows(document: Mapping[str, Any]) -> Rows:
    collinear = {(each["family"], each["activation"]): each["r2_tos_flops"] for each in document["collinearity"]}
    rows: Rows = []
    for fit in document["fits"]:
        if fit["n"] != 1:
            continue
        unit = fit["basis"].removesuffix("s")
        rows.append(
            (
                f"{fit['family']} {fit['activation']}",
                fit["basis"],
                f"{collinear[fit['family'], fit['activation']]:.4f}",
                format_si(fit["coefficients_j"][0], "J"),
                f"{fit['intercept_share_of_mean']:.0%}",
                f"{fit['slope_j_per_unit']:.3g} J/{unit}",
                ", ".join(_slopes(document["published"]["equations"], fit)),
            )
        )
    return rows


def _slopes(equations: Iterable[Mapping[str, Any]], fit: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['slope_J_per_unit']:.3g} ({row['platform']} {row['processor'].split()[0]})"
        for row in equations
        if (row["network"], row["activation"], row["x"]) == (fit["family"], fit["activation"], fit["basis"])
    ]


def _constants(document: Mapping[str, Any]) -> str:
    scores = "; ".join(
        f"{row['platform']} {row['processor']}, {row['network']} {row['activation']}: "
        f"{row['constant_precision_avg_pct']:.1f} %"
        for row in document["published"]["constant_on_equations"]
    )
    return f"A constant on the paper's own lines (Eq. 7 and 8 at the TOs of these networks), mean precision: {scores}."
