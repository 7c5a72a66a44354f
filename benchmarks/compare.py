"""MACs, time and memory of aiwq and its peers, side by side, on the models of the onnx package and those of `models/`.

python benchmarks/compare.py [--models NAME...] [--runs 5] [--aiwq PATH] [--output FILE.md|FILE.json] [--truth]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from environments import PEERS, aiwq_command, peer_python, versions
from measuring import (
    Results,
    Run,
    Summary,
    find_aiwq,
    interleaved,
    markdown_table,
    megabytes,
    python_beside,
    report_progress,
    times,
    write_result,
)

HERE = Path(__file__).resolve().parent
TRUTH_FILE = HERE / "truth.json"
SIZES = {"batch": 1, "sequence": 128}
OWN = "aiwq"
FILLED = "aiwq, weights filled in"
SIMPLIFIED = "onnxsim, simplified first"
LOADED = "onnxsim, weights filled in"
NEEDS_WEIGHTS = {"onnx-tool", SIMPLIFIED, LOADED}
ONCE = {SIMPLIFIED, LOADED}  # they copy the weights, or run on them, and take seconds
RUNNERS = {
    "onnx-tool": HERE / "peers/with_onnx_tool.py",
    "onnxsim": HERE / "peers/with_onnxsim.py",
    "onnx": HERE / "peers/with_onnx.py",
}
DETAILS = [
    *("model", "tool", "MACs", "verdict", "unknown", "seconds (min to max)", "CPU s", "memory"),
    *("time ratio", "CPU ratio", "memory ratio"),
]


@dataclass(frozen=True)
class Model:
    """One model file; `skeleton` where its weights are absent."""

    name: str
    path: str
    skeleton: bool
    symbols: tuple[str, ...]

    @property
    def bindings(self) -> dict[str, int]:
        return {name: SIZES[name] for name in self.symbols}


@dataclass(frozen=True)
class Row:
    """One tool on one model.

    Attributes:
        macs: its count, None where it counts none or failed.
        truth: the count of a real run.
        unknown: nodes or tensors that it says it does not know; None where it does not say.
        failure: one line, None where it answered.
        cost: time and memory, None where it failed.
        seconds_ratio: its time over that of aiwq on the same file; above 1 it is the slower one.
        cpu_ratio: the same for processor time, which other work on the machine disturbs less.
        memory_ratio: the same for peak memory.
    """

    model: str
    tool: str
    macs: int | None
    truth: int
    unknown: int | None
    failure: str | None
    cost: Summary | None
    seconds_ratio: float | None
    cpu_ratio: float | None
    memory_ratio: float | None

    @property
    def verdict(self) -> str:
        if self.failure is not None:
            return "failed"
        if self.macs is None:
            return "no count"
        factor = self.macs / self.truth
        digits = 8 if abs(factor - 1) < 0.001 else 4
        return "right" if self.macs == self.truth else f"wrong, {factor:.{digits}g}x"


def main() -> None:
    given = _arguments()
    own = find_aiwq(given.aiwq) if given.aiwq else aiwq_command()
    pythons = {name: peer_python(name) for name in PEERS}
    models = _models(python_beside(own), given.models)
    truth = _truth(models, python_beside(own), given.truth)
    rows: list[Row] = []
    for index, model in enumerate(models, 1):
        report_progress(f"[{index}/{len(models)}] {model.name}")
        rows += _compare(model, own, pythons, truth[model.name], given.runs)
    tools = {name: versions(python, [name])[name] for name, python in pythons.items()}
    tools[OWN] = versions(Path(python_beside(own)), ["onnx-aiwq"])["onnx-aiwq"]
    as_json = given.output is not None and given.output.suffix == ".json"
    write_result(_json(rows, tools) if as_json else _markdown(rows, tools, given.runs), given.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these, such as light_resnet50 gpt2.dynamo")
    parser.add_argument("--runs", type=int, default=5, help="measured runs of every tool after one warm-up")
    parser.add_argument("--aiwq", metavar="PATH", help="measure this command and not the working tree")
    parser.add_argument("--output", type=Path, help="FILE.md or FILE.json instead of stdout")
    parser.add_argument("--truth", action="store_true", help="compute the true MACs anew")
    return parser.parse_args()


def _models(python: str, only: Sequence[str] | None) -> list[Model]:
    found = [Model(**{**entry, "symbols": tuple(entry["symbols"])}) for entry in json.loads(_ask(python, "list"))]
    unknown = set(only or ()) - {model.name for model in found}
    if unknown:
        raise SystemExit(f"no model {', '.join(sorted(unknown))}; there are {', '.join(m.name for m in found)}")
    return [model for model in found if only is None or model.name in only]


def _truth(models: Sequence[Model], python: str, anew: bool) -> dict[str, int]:
    """MACs of every model; those that are not stored, or stored for another file, come from a run now."""
    stored: dict[str, Any] = json.loads(TRUTH_FILE.read_text(encoding="utf-8")) if TRUTH_FILE.exists() else {}
    for model in models:
        key = {"sha256": hashlib.sha256(Path(model.path).read_bytes()).hexdigest(), "bindings": model.bindings}
        if anew or {name: stored.get(model.name, {}).get(name) for name in key} != key:
            report_progress(f"truth of {model.name}: running it")
            stored[model.name] = {**key, "macs": int(_ask(python, "macs", model.path, *_binds(model)))}
            TRUTH_FILE.write_text(json.dumps(dict(sorted(stored.items())), indent=2) + "\n", encoding="utf-8")
    return {model.name: stored[model.name]["macs"] for model in models}


def _compare(model: Model, own: Path, pythons: dict[str, Path], truth: int, runs: int) -> list[Row]:
    """Measure all tools on one model, in turn; a tool that cannot do without weights gets a file that has them."""
    with tempfile.TemporaryDirectory() if model.skeleton else nullcontext() as folder:
        commands = {OWN: _own_command(own, model.path, model)}
        filled = model.path
        if folder is not None:
            filled = str(Path(folder) / "filled.onnx")
            _ask(python_beside(own), "fill", model.path, filled)
            commands[FILLED] = _own_command(own, filled, model)
            commands[LOADED] = [str(pythons["onnxsim"]), str(RUNNERS["onnxsim"]), filled, *_binds(model)]
        for name, python in pythons.items():
            path = filled if name in NEEDS_WEIGHTS else model.path
            commands[name] = [str(python), str(RUNNERS[name]), path, *_binds(model)]
        commands[SIMPLIFIED] = [
            *(str(pythons["onnxsim"]), str(RUNNERS["onnxsim"]), filled, *_binds(model)),
            "--simplify",
        ]
        results = interleaved(commands, runs, once=ONCE)
    return [_row(model, tool, truth, results) for tool in commands]


def _own_command(own: Path, path: str, model: Model) -> list[str]:
    return [str(own), "analyze", path, "--format", "json", *_binds(model)]


def _binds(model: Model) -> list[str]:
    return [part for name, size in model.bindings.items() for part in ("--bind", f"{name}={size}")]


def _row(model: Model, tool: str, truth: int, results: Results) -> Row:
    run, cost = results.last[tool], results.summaries.get(tool)
    macs, unknown = (None, None) if run.failure is not None else _counts(tool, run)
    rival = FILLED if tool in NEEDS_WEIGHTS and model.skeleton else OWN
    own = results.summaries.get(rival)
    ratios = (
        (cost.seconds / own.seconds, cost.cpu_seconds / own.cpu_seconds, cost.peak_bytes / own.peak_bytes)
        if cost is not None and own is not None and tool not in (OWN, FILLED)
        else (None, None, None)
    )
    return Row(model.name, tool, macs, truth, unknown, run.failure, cost, *ratios)


def _counts(tool: str, run: Run) -> tuple[int | None, int | None]:
    answer = json.loads(run.stdout)
    if tool in (OWN, FILLED):
        return answer["totals"]["macs"], answer["coverage"]["unsupported"]
    return answer["macs"], answer["unknown"]


def _ask(python: str, *arguments: str) -> str:
    """Run the reference script in an environment and return what it prints."""
    command = [python, str(HERE / "peers/reference.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def _json(rows: Sequence[Row], tools: dict[str, str]) -> str:
    results = [{**asdict(row), "verdict": row.verdict} for row in rows]
    return json.dumps({"python": sys.version.split()[0], "tools": tools, "results": results}, indent=2)


def _markdown(rows: Sequence[Row], tools: dict[str, str], runs: int) -> str:
    used = ", ".join(f"{name} {version}" for name, version in sorted(tools.items()))
    failures = [f"- {row.model}, {row.tool}: {row.failure}" for row in rows if row.failure is not None]
    parts = [f"{used}; Python {sys.version.split()[0]}; {runs} runs after one warm-up.", _summary(rows), _details(rows)]
    return "\n\n".join([*parts, "Failures:\n\n" + "\n".join(failures)] if failures else parts)


def _summary(rows: Sequence[Row]) -> str:
    """Per tool: how many models it counts right, and its median cost relative to aiwq."""
    return markdown_table(
        ["tool", "models", "right", "within 1 %", "further off", "failed", "time ratio", "CPU ratio", "memory ratio"],
        [_summary_row(tool, [row for row in rows if row.tool == tool]) for tool in dict.fromkeys(r.tool for r in rows)],
    )


def _summary_row(tool: str, rows: Sequence[Row]) -> list[str]:
    errors = [abs(row.macs / row.truth - 1) if row.macs != row.truth else 0.0 for row in rows if row.macs is not None]
    right, close = sum(error == 0 for error in errors), sum(0 < error <= 0.01 for error in errors)
    failed = sum(row.failure is not None for row in rows)
    ratios = [
        [ratio for ratio in column if ratio is not None]
        for column in (
            [row.seconds_ratio for row in rows],
            [row.cpu_ratio for row in rows],
            [row.memory_ratio for row in rows],
        )
    ]
    shown = [str(count) for count in (len(rows), right, close, len(errors) - right - close, failed)]
    if all(row.macs is None and row.failure is None for row in rows):
        shown[1:4] = ["-", "-", "-"]
    return [tool, *shown, *map(_spread, ratios)]


def _spread(ratios: Sequence[float]) -> str:
    """Median ratio, smallest and largest."""
    if not ratios:
        return "-"
    ordered = sorted(ratios)
    return f"{times(ordered[len(ordered) // 2])} ({times(ordered[0])} to {times(ordered[-1])})"


def _details(rows: Sequence[Row]) -> str:
    return markdown_table(
        DETAILS,
        [_detail(row, first=index == 0 or rows[index - 1].model != row.model) for index, row in enumerate(rows)],
    )


def _detail(row: Row, first: bool) -> list[str]:
    cost = row.cost
    return [
        f"`{row.model}`" if first else "",
        row.tool,
        "-" if row.macs is None else f"{row.macs:,}",
        row.verdict,
        "-" if row.unknown is None else str(row.unknown),
        "-" if cost is None else f"{cost.seconds:.2f} ({cost.seconds_min:.2f} to {cost.seconds_max:.2f})",
        "-" if cost is None else f"{cost.cpu_seconds:.2f}",
        "-" if cost is None else megabytes(cost.peak_bytes),
        *("-" if ratio is None else times(ratio) for ratio in (row.seconds_ratio, row.cpu_ratio, row.memory_ratio)),
    ]


if __name__ == "__main__":
    main()
