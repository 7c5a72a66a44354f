"""The report and the comparison as one HTML file: everything inside, nothing loaded, every name only ever text.

A name reaches the page in two ways: through a template that escapes, or as JSON in a data block, where `<`, `>` and `&`
are written as escapes and the script sets it as text. A Content-Security-Policy admits the two scripts and the style
by their hashes and no network at all, so that nothing else runs even if a way around that were found.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from onnx_aiwq.quantities import METRICS
from onnx_aiwq.render import views
from onnx_aiwq.render.summary import facts, file_name, heading, micro, plain
from onnx_aiwq.units import format_bytes, format_count, format_si

ECHARTS_VERSION = "6.1.0"
_JSON_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_RANGE_WIDTH = 200  # of the drawing of an interval

Report = Mapping[str, Any]


def render_report_html(report: Report) -> str:
    """The page of one JSON report."""
    curve, regions = views.ecal_curve(report), views.region_grams(report)
    live = views.live_bytes(report)
    computing = sum(bool(node["transistor_operations"]) and _moved(node) > 0 for node in report["nodes"])
    return _page(
        "report.html.jinja",
        "report.js",
        _report_data(report, curve, regions),
        name=_file_name(report),
        lead=_lead(report),
        warnings=[plain(line) for line in report["warnings"]],
        cards=list(_cards(report)),
        facts=list(facts(report)),
        first="tos" if report["energy"]["joules"] is None else "joules",
        has={
            "scatter": computing > 0,
            "memory": any(value is not None for value in live),
            "ecal": curve is not None,
            "regions": bool(regions),
        },
        balance_text=_balance_text(report),
        silent_text=_silent_text(len(report["nodes"]) - computing),
        memory_text=_memory_text(report, live),
        ecal_text=_ecal_text(report),
        region_text=_region_text(report),
    )


def _file_name(report: Report) -> str:
    return file_name(report["model"]["path"] or "model in memory")


def _lead(report: Report) -> str:
    energy = report["energy"]
    return f"{heading(report)} · {energy['source']}: {plain(energy['hardware_name'])} · {plain(report['level'])}"


def _moved(node: Mapping[str, Any]) -> int:
    return (node["bytes_read"] or 0) + (node["bytes_written"] or 0)


# --- what the scripts draw ---------------------------------------------------------------------------------------


def _report_data(report: Report, curve: views.EcalCurve | None, regions: list[views.RegionGrams]) -> dict[str, Any]:
    """Numbers by column, and each repeated word once: a tenth of the report's size."""
    nodes = report["nodes"]
    words: dict[str, dict[str, int]] = {"op": {}, "path": {}, "dtype": {}, "status": {}}

    def index(kind: str, word: str) -> int:
        return words[kind].setdefault(plain(word), len(words[kind]))

    columns = {
        "name": [plain(node["name"]) for node in nodes],
        "op": [index("op", views.label_of(node)) for node in nodes],
        "path": [index("path", views.scope_of(node)) for node in nodes],
        "dtype": [index("dtype", node["dtype"] or "none") for node in nodes],
        "status": [index("status", node["status"]) for node in nodes],
        "tos": [node["transistor_operations"] for node in nodes],
        "macs": [node["macs"] for node in nodes],
        "bytes": [None if node["bytes_read"] is None else _moved(node) for node in nodes],
        "joules": [_short(node["energy_j"]) for node in nodes],
        "seconds": [_short(node["seconds"]) for node in nodes],
        "live": views.live_bytes(report),
    }
    return {
        "columns": columns,
        "names": {kind: list(found) for kind, found in words.items()},
        "operators": [
            {
                "name": plain(group.name),
                "nodes": group.nodes,
                "tos": group.transistor_operations,
                "macs": group.macs,
                "bytes": group.bytes_moved,
                "joules": group.joules,
            }
            for group in views.groups(report, "operator")
        ],
        "energy": {key: report["energy"][key] for key in ("joules", "joules_low", "joules_high")},
        "balance": views.balance_to_per_byte(report),
        "ecal": None if curve is None else _curve_data(curve),
        "regions": _region_data(report, regions) if regions else None,
    }


def _short(value: float | None) -> float | None:
    """Six digits, which no picture exceeds."""
    return None if value is None else float(f"{value:.6g}")


def _curve_data(curve: views.EcalCurve) -> dict[str, Any]:
    return {
        "points": [[number, _short(value)] for number, value in curve.points],
        "inferences": curve.inferences,
        "joules_per_bit": curve.joules_per_bit,
        "break_even": curve.break_even,
    }


def _region_data(report: Report, regions: list[views.RegionGrams]) -> dict[str, Any]:
    rows = [
        {
            "code": each.code,
            "name": each.name,
            "intensity": each.intensity_g_per_kwh,
            "year": each.year,
            "grams": _short(each.grams),
            "shown": each.shown,
        }
        for each in regions
    ]
    return {"rows": rows, "current": report["carbon"]["region"] or "given"}


# --- cards -------------------------------------------------------------------------------------------------------


def _cards(report: Report) -> Iterator[dict[str, Any]]:
    energy, carbon, ecal, totals = (report[key] for key in ("energy", "carbon", "ecal", "totals"))
    run = report["level"] if report["level"] == "inference" else f"{report['level']} step"
    source = f"{energy['source']}, {energy['interval']:.0%} interval"
    year = f" of {carbon['year']}" if carbon["year"] else ""
    place = f"{plain(carbon['region'] or 'given intensity')}, {carbon['intensity_g_per_kwh']:g} g/kWh{year}"
    inferences = f"{format_count(ecal['inferences'])} inference{'' if ecal['inferences'] == 1 else 's'}"
    partial = "; partial: gaps are in no total" if totals["partial"] else ""
    yield _metric_card("Energy", "energy", report, f"per {run}; {source}{partial}")
    yield _metric_card("Time", "seconds", report, f"per {run}; {source}{partial}")
    embodied = "with embodied" if carbon["embodied_g"] is not None else "operational; embodied unknown"
    yield _metric_card("CO2e", "co2e", report, f"{inferences}, {embodied}; {place}")
    covers = ", ".join(stage for stage, joules in ecal["by_stage"].items() if joules is not None)
    yield _metric_card("eCAL", "ecal", report, f"{inferences}; covers {covers or 'nothing'}")
    operations = sum(totals["basic_operations"].values())
    exact = f"counted by {report['convention']}{partial}"
    yield _card("Transistor operations", format_si(totals["transistor_operations"], digits=4), exact)
    yield _card("MACs", format_si(totals["macs"], digits=4), f"{format_si(operations, digits=4)} basic operations")
    yield _card(
        "Parameters",
        format_si(report["model"]["parameters"], digits=4),
        f"{format_bytes(report['model']['parameter_bytes'])} that run-time operators use",
    )
    yield _card("Peak activations", format_bytes(totals["peak_activation_bytes"]), "by liveness in execution order")
    read, written = format_bytes(totals["bytes_read"]), format_bytes(totals["bytes_written"])
    moved = format_bytes(totals["bytes_read"] + totals["bytes_written"])
    yield _card("Bytes moved", moved, f"{read} read, {written} written by all nodes{partial}")
    coverage = report["coverage"]
    gaps = f"unsupported: {', '.join(map(plain, coverage['unsupported_operators']))}" if coverage["unsupported"] else ""
    known = coverage["nodes"] - coverage["unsupported"]
    bounds = views.upper_bounds(report)
    notes = [gaps or "no gap", *([f"{bounds:,} upper bounds"] if bounds else [])]
    share = f"{math.floor(1000 * known / max(coverage['nodes'], 1)) / 10:g} %"
    yield _card("Coverage", share, f"{known:,} of {coverage['nodes']:,} nodes; {'; '.join(notes)}")


def _card(title: str, value: str, source: str) -> dict[str, Any]:
    return {"title": title, "value": value, "source": source, "range": None}


def _metric_card(title: str, name: str, report: Report, source: str) -> dict[str, Any]:
    metric = METRICS[name]
    quantity = metric.read(report)
    card = _card(title, metric.text(None if quantity is None else quantity.value), source)
    if quantity is None or not 0 < quantity.low < quantity.high:
        return card
    position = math.log(quantity.value / quantity.low) / math.log(quantity.high / quantity.low)
    ends = (metric.text(quantity.low), metric.text(quantity.high))
    return {**card, "range": ends, "position": round(position * (_RANGE_WIDTH - 3), 1)}


# --- captions ----------------------------------------------------------------------------------------------------


def _balance_text(report: Report) -> str:
    balance = views.balance_to_per_byte(report)
    if balance is None:
        return ""
    return (
        f"On the dashed line, {format_si(balance)} TO per byte, arithmetic and traffic cost the same energy at this "
        "report's mean coefficients: above it a node spends more on computing, below it on moving bytes."
    )


def _silent_text(number: int) -> str:
    return f"Not drawn: {number:,} without arithmetic or without traffic." if number else ""


def _memory_text(report: Report, live: list[int | None]) -> str:
    known = [value for value in live if value is not None]
    shown = f" {format_count(len(live) - len(known))} nodes have no value." if known and len(known) < len(live) else ""
    weights = format_bytes(report["model"]["parameter_bytes"])
    return (
        "Activations alive while each node runs, by liveness in execution order: the least that any allocator needs. "
        f"Weights add {weights} throughout.{shown}"
    )


def _ecal_text(report: Report) -> str:
    ecal = report["ecal"]
    even = ecal["break_even_inferences"]
    if ecal["development_j"] is None:
        return (
            "Inference alone is covered, so that eCAL does not depend on their number; --lifecycle FILE adds "
            "collection and training."
        )
    known = "is not known" if even is None else f"comes after {format_count(math.ceil(even))} inferences"
    return (
        f"Development spent {format_si(ecal['development_j'], 'J')}, which more inferences share. Break-even, where "
        f"inference has spent as much, {known}. The point is this report's {format_count(ecal['inferences'])}."
    )


def _region_text(report: Report) -> str:
    carbon = report["carbon"]
    return (
        f"The same energy at PUE {carbon['pue']:g} on the grid average of each region: large grids in the chart, all "
        f"in the table. The coloured bar is this report's: {plain(carbon['region'] or 'an intensity given by hand')}."
    )


# --- comparison --------------------------------------------------------------------------------------------------


def render_comparison_html(comparison: Mapping[str, Any]) -> str:
    """The page of one JSON comparison."""
    from onnx_aiwq.render.comparison import TITLES, conclusions

    rows, changes = comparison["rows"], comparison["changes"]
    models = list(dict.fromkeys(file_name(row["model"]) for row in rows))
    hardware = list(dict.fromkeys(plain(row["hardware"]) for row in rows))
    first, second = (TITLES[name] for name in comparison["pareto_metrics"])
    return _page(
        "comparison.html.jinja",
        "compare.js",
        _comparison_data(comparison),
        rows=rows,
        heading=_listed(models, "models"),
        lead=f"{len(rows)} rows: {_listed(models, 'models')} on {_listed(hardware, 'pieces of hardware')}",
        warnings=[plain(line) for line in comparison["warnings"]],
        conclusions=list(conclusions(comparison)),
        front_names=f"{first} and {second}",
        changes_by=None if changes is None else changes["by"],
        has={
            "differences": bool(comparison["differences"]),
            "changes": changes is not None,
            "changed": changes is not None and bool(changes["entries"]),
        },
    )


def _listed(names: list[str], what: str) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} {what}"


def _comparison_data(comparison: Mapping[str, Any]) -> dict[str, Any]:
    from onnx_aiwq.render.comparison import TITLES, difference_text

    rows = comparison["rows"]
    front = {entry["row"] for entry in comparison["pareto"]}
    pairs: dict[tuple[int, int], dict[str, Any]] = {}
    for entry in comparison["differences"]:
        pair = (entry["row"], entry["reference"])
        found = pairs.setdefault(pair, {"row": pair[0], "reference": pair[1], "texts": {}, "ratios": {}})
        found["texts"][entry["metric"]] = difference_text(entry)
        found["ratios"][entry["metric"]] = entry["ratio"]
    return {
        "metrics": [
            {"name": name, "title": _title(TITLES[name]), "unit": metric.unit, "exact": metric.exact}
            for name, metric in METRICS.items()
        ],
        "rows": [
            {
                "index": index,
                "model": plain(row["model"]),
                "partial": row["totals"]["partial"],
                "hardware": plain(row["hardware"]),
                "source": row["energy"]["source"],
                "file": file_name(row["model"]),
                "folder": plain(row["model"]).removesuffix(file_name(row["model"])),
                "label": f"{file_name(row['model'])} on {plain(row['hardware'])}",
                "front": index in front,
                "values": {
                    name: None if entry is None else [entry["value"], entry["low"], entry["high"]]
                    for name, entry in row["metrics"].items()
                },
            }
            for index, row in enumerate(rows)
        ],
        "differences": list(pairs.values()),
        "pareto_metrics": comparison["pareto_metrics"],
        "fronts": _fronts(rows),
        "changes": _change_data(comparison["changes"]),
    }


def _title(text: str) -> str:
    return text if text == "eCAL" else text[:1].upper() + text[1:]


def _fronts(rows: list[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The Pareto front of every two metrics."""
    from onnx_aiwq.quantities import pareto_front

    fronts = {}
    for first in METRICS:
        for second in METRICS:
            if first != second:
                points = [
                    (row["metrics"][first]["value"], row["metrics"][second]["value"], index)
                    for index, row in enumerate(rows)
                    if not row["totals"]["partial"] and row["metrics"][first] and row["metrics"][second]
                ]
                fronts[f"{first} {second}"] = list(pareto_front(points))
    return fronts


def _change_data(changes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    return {"by": changes["by"], "entries": [{**entry, "name": plain(entry["name"])} for entry in changes["entries"]]}


# --- the file ----------------------------------------------------------------------------------------------------


def _page(template: str, script: str, data: Mapping[str, Any], **context: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from onnx_aiwq import __version__

    environment = Environment(
        loader=PackageLoader("onnx_aiwq"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["micro"] = micro
    library, style = _asset("vendor/echarts.min.js"), _asset("page.css")
    code = _asset("common.js") + _asset(script)
    # Hashes are of the very text between the tags; the files are our own or vendored, with no end tag in them.
    return environment.get_template(template).render(
        policy=_policy((library, code), style),
        style=Markup(style),
        library=Markup(library),
        script=Markup(code),
        data=Markup(json_for_script(data)),
        version=__version__,
        echarts_version=ECHARTS_VERSION,
        **context,
    )


@cache
def _asset(name: str) -> str:
    return (resources.files("onnx_aiwq") / "templates" / name).read_text(encoding="utf-8")


def _policy(scripts: tuple[str, ...], style: str) -> str:
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def json_for_script(value: object) -> str:
    """JSON that nothing in it can end the script element of, and that older parsers of scripts read too."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).translate(_JSON_ESCAPES)
