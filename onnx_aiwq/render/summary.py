"""What every human-readable form says, as rows of plain text: one place for wording, units and provenance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx_aiwq.render.views import Group, groups, together, upper_bounds
from onnx_aiwq.units import format_bytes, format_count, format_si

Report = Mapping[str, Any]
COLUMNS = ("nodes", "BOs", "TOs", "MACs", "bytes", "energy")
_DEFAULT_TOP = 20
_SPARKS = "▁▂▃▄▅▆▇█"


def plain(text: object) -> str:
    """Text from a model file without control characters, so that it cannot steer a terminal or break a line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def micro(text: str) -> str:
    """Formatted numbers with the sign of micro, which terminals may lack and pictures do not."""
    return re.sub(r"(?<=\d )u(?=(?:J|s|g|W|B|bit)\b)", "µ", text)


def cost_rows(report: Report, by: str = "operator", top: int | None = None) -> Iterator[tuple[str, ...]]:
    """One row per operator, node, data type or scope, the costliest first: its name, then `COLUMNS`.

    Args:
        report: the JSON report.
        by: one of `onnx_aiwq.render.views.GROUPS`.
        top: rows that are shown, the rest as one; all operators and data types, and 20 of the others, if None.
    """
    found = groups(report, by)
    shown = top or (_DEFAULT_TOP if by in ("node", "scope") else len(found))
    if len(found) <= shown + 1:
        shown = len(found)  # one more row is no longer than its summary
    total_j = report["energy"]["joules"] or 0.0
    for group in found[:shown]:
        yield _cost_row(plain(group.name) or "(none)", group, total_j)
    if found[shown:]:
        yield _cost_row(f"{len(found) - shown} more", together(found[shown:]), total_j)


def _cost_row(name: str, group: Group, total_j: float) -> tuple[str, ...]:
    share = "unknown" if group.joules is None or not total_j else f"{100 * group.joules / total_j:.1f} %"
    return (
        name,
        _nodes(group),
        _count(group.basic_operations),
        _count(group.transistor_operations),
        _count(group.macs),
        format_bytes(group.bytes_moved),
        share,
    )


def _nodes(group: Group) -> str:
    """How many nodes, and how many of them the figures of their row leave out."""
    nodes, left_out = format_count(group.nodes), group.not_counted
    return f"{nodes} ({format_count(left_out)} not counted)" if 0 < left_out < group.nodes else nodes


def total_row(report: Report) -> tuple[str, ...]:
    """The totals, in the same order."""
    totals = report["totals"]
    return (
        "total (partial)" if totals["partial"] else "total",
        format_count(report["graph"]["nodes"]),
        _count(sum(totals["basic_operations"].values())),
        _count(totals["transistor_operations"]),
        _count(totals["macs"]),
        format_bytes(totals["bytes_read"] + totals["bytes_written"]),
        "100 %" if report["energy"]["joules"] else "unknown",
    )


def _count(value: int | None) -> str:
    if value is None:
        return "unknown"
    return str(value) if value < 10_000 else format_si(value, digits=4)


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """Values as one line of blocks, the largest of neighbours where not all fit; empty if one is unknown."""
    if not values or any(value is None for value in values):
        return ""
    known = [value or 0.0 for value in values]
    cells = min(width, len(known))
    heights = [max(known[len(known) * i // cells : len(known) * (i + 1) // cells]) for i in range(cells)]
    most = max(heights) or 1.0
    return "".join(_SPARKS[min(int(height / most * len(_SPARKS)), len(_SPARKS) - 1)] for height in heights)


def file_name(path: str) -> str:
    """The last part of a path, whichever system wrote it."""
    return plain(path).replace("\\", "/").split("/")[-1]


def heading(report: Report) -> str:
    """One line that identifies the model."""
    model = report["model"]
    opsets = ", ".join(f"{plain(domain)} {version}" for domain, version in sorted(model["opsets"].items()))
    name = plain(model["path"] or "model in memory")
    return f"{name}  (IR {model['ir_version']}, opset {opsets}; {plain(model['producer']) or 'producer unknown'})"


def facts(report: Report) -> Iterator[tuple[str, str, str]]:
    """Rows of (what, value with unit and interval, provenance) below the operator table."""
    yield from _model_facts(report)
    yield from _energy_facts(report["energy"], _run(report["level"]))
    yield from _workload_facts(report["workload"])
    yield from _ecal_facts(report["ecal"])
    yield from carbon_facts(report["carbon"])


def _model_facts(report: Report) -> Iterator[tuple[str, str, str]]:
    model, graph, totals, coverage = (report[key] for key in ("model", "graph", "totals", "coverage"))
    dims = {**model["bindings"], **{name: f"{value} (assumed)" for name, value in model["assumed_bindings"].items()}}
    shapes = "; ".join(f"{plain(tensor['name'])} {_shape(tensor['shape'])}" for tensor in model["inputs"])
    bound = ", ".join(f"{plain(name)}={value}" for name, value in dims.items())
    yield "inputs", shapes or "none", f"dimensions: {bound}" if bound else "all dimensions fixed by the file"
    yield (
        "parameters",
        f"{format_count(model['parameters'])} ({format_bytes(model['parameter_bytes'])})",
        "weights that run-time operators use",
    )
    yield (
        "activations",
        f"{format_bytes(totals['peak_activation_bytes'])} at peak",
        f"liveness in execution order; depth {graph['depth']} of {graph['nodes']} nodes",
    )
    parts = [f"{coverage[key]} {key}" for key in ("counted", "decomposed", "movement", "constant") if coverage[key]]
    bounds = upper_bounds(report)
    if bounds:
        parts.append(f"{bounds} of them upper bounds")
    missing = ", ".join(plain(name) for name in coverage["unsupported_operators"])
    if coverage["unsupported"]:
        parts.append(f"{coverage['unsupported']} unsupported: {missing}")
    yield "coverage", ", ".join(parts), f"counted by {report['convention']}"


def _run(level: str) -> str:
    """What the totals are of: one inference, or one step of another level."""
    return level if level == "inference" else f"{level} step"


def _time_source(energy: Mapping[str, Any]) -> str:
    """Where seconds come from: kernels that were timed, with their error on networks held out, or as the joules."""
    error = energy.get("held_out_error")
    if error is None:
        return str(energy["source"])
    return f"kernels timed in {energy['provider']}; median error {error:.1%} on networks held out"


def _energy_facts(energy: Mapping[str, Any], run: str) -> Iterator[tuple[str, str, str]]:
    level = f"{energy['interval']:.0%} interval"
    yield (
        "energy",
        f"{format_si(energy['joules'], 'J')}{_between(energy, 'joules', 'J')}",
        f"per {run}, {level}; {energy['source']}: {plain(energy['hardware_name'])}",
    )
    yield (
        "time",
        f"{format_si(energy['seconds'], 's')}{_between(energy, 'seconds', 's')}",
        f"per {run}, {level}; {_time_source(energy)}",
    )
    shares = ", ".join(f"{name} {format_si(energy[f'{name}_j'], 'J')}" for name in ("compute", "data", "system"))
    eta = "unknown" if energy["eta_comp"] is None else f"{energy['eta_comp']:.3g}"
    used = "" if energy["utilization"] == 1 else f", static power over {energy['utilization']:g} utilization"
    kelvin = "" if energy["temperature_k"] == 300 else f" at {energy['temperature_k']:g} K"
    bound = f"{eta} x the Landauer bound of {format_si(energy['landauer_j'], 'J')}{kelvin}"
    yield "split", shares, f"AIWQ eq. 12-16{used}; {bound}"


def _between(values: Mapping[str, Any], key: str, unit: str) -> str:
    low, high = values[f"{key}_low"], values[f"{key}_high"]
    return "" if low is None or high is None else f" ({format_si(low, unit)} to {format_si(high, unit)})"


def _workload_facts(workload: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    outside = f", ExtFactor {_number(workload['ext_factor'])}" if workload["ext_factor"] else ""
    yield (
        "workload",
        f"AW_base {_number(workload['aw_base'])}, CompRes {_number(workload['comp_res'])}, "
        f"Data IO {_number(workload['data_io'])}{outside}",
        "AIWQ eq. 30-33; a relative score, its units are mixed" + _without(workload["comp_res_missing"]),
    )
    if workload["aw_act"] is not None:
        yield (
            "measured run",
            f"AW_act {_number(workload['aw_act'])}, AW_rel {_number(workload['aw_rel'])}",
            "AIWQ eq. 33-34; by the equations a slower run gives less than 1, though the paper's text says the reverse",
        )
    cost = workload["resource_cost"]
    if cost is not None and cost["pue"] != 1:
        yield (
            "C_AI",
            f"{format_si(cost['joules'], 'J')}, of it C_sys {format_si(cost['system_j'], 'J')}",
            f"AIWQ eq. 15-16, per inference at the facility: (PUE - 1) adds {format_si(cost['pue_j'], 'J')}",
        )
    if workload["human"]["hours"] is not None:
        yield from _human_facts(workload)


def _without(missing: list[str]) -> str:
    return f"; CompRes without {', '.join(missing)}" if missing else ""


def _human_facts(workload: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    human = workload["human"]
    yield (
        "human",
        f"{human['hours']:.4g} h, {format_si(human['energy_j'], 'J')} of a brain at 21.5 W; "
        f"AI impact {_number(workload['ai_impact'])}",
        "AIWQ eq. 36, 39, 40; the paper's '1 unit is 12 to 14 human hours' does not follow from its figures",
    )
    if human["saving"] is not None:
        yield (
            "saving",
            f"{human['saving']:.6g} in the currency of the hourly cost; impact {_number(human['impact'])} per J",
            "AIWQ eq. 18-20: hours saved x cost, over C_AI",
        )


def _ecal_facts(ecal: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    covered = ", ".join(stage for stage, joules in ecal["by_stage"].items() if joules is not None)
    yield (
        "eCAL",
        f"{format_si(ecal['joules_per_bit'], 'J/bit')} ({format_si(ecal['joules'], 'J')} "
        f"over {format_si(ecal['bits'], 'bit')})",
        f"{format_count(ecal['inferences'])} inference(s); stages covered: {covered or 'none'}",
    )
    if ecal["development_j"] is not None:
        even = ecal["break_even_inferences"]
        yield (
            "life cycle",
            f"development {format_si(ecal['development_j'], 'J')}, inference {format_si(ecal['inference_j'], 'J')}",
            "break-even unknown" if even is None else f"break-even at {even:,.0f} inferences; without virtualization",
        )


def carbon_facts(carbon: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows of a ``carbon`` object: grams with grid, year, vintage and PUE, and the SCI per functional unit."""
    embodied = carbon["embodied_g"]
    whole = f"embodied {format_si(embodied, 'g')}" if embodied is not None else "embodied unknown"
    yield (
        "CO2e",
        f"operational {format_si(carbon['operational_g'], 'g')}, {whole}",
        f"{_grid(carbon)}; PUE {carbon['pue']:g}; {carbon['scope']} energy; {_short_source(carbon['source'])}",
    )
    unit = carbon["sci"]
    if unit["inferences"] != 1 or carbon["covers"] != "inference":
        yield (
            "SCI",
            f"{format_si(unit['g'], 'g')} per {unit['per']}, operational {format_si(unit['operational_g'], 'g')}",
            f"ISO/IEC 21031: (E x I + M) per R; {carbon['covers']}",
        )


def _grid(carbon: Mapping[str, Any]) -> str:
    place = plain(carbon["region"] or "given intensity")
    when = f" ({carbon['year']} electricity, {plain(carbon['vintage'])} vintage)" if carbon["year"] else ""
    return f"{place}: {carbon['intensity_g_per_kwh']:g} g/kWh{when}"


def _short_source(source: str) -> str:
    """The data set alone; `aiwq regions NAME` shows where the copy comes from."""
    return plain(source if source.endswith("--carbon-profile)") else re.split(r"[,;] | via ", source)[0])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _shape(shape: list[int] | None) -> str:
    return "unknown shape" if shape is None else "[" + ",".join(map(str, shape)) + "]"
