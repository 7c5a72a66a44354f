"""How time and memory of `aiwq analyze` grow with the number of nodes, and with the bytes of inline weights.

python benchmarks/scaling.py [--full] [--runs 3] [--aiwq PATH] [--output FILE.md]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from generated import write_chain, write_weights, write_wide
from measuring import (
    Results,
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

NODES = (1_000, 10_000, 100_000, 200_000)
NODES_FULL = (*NODES, 1_000_000)
WEIGHT_BYTES = (10_000_000, 100_000_000, 700_000_000, 2_000_000_000)  # protobuf ends at 2,147,483,647
TIMEOUT_SECONDS = 1800.0
FLAT_WITHIN = 2.0
SHAPES: dict[str, Callable[[Path, int], None]] = {"chain": write_chain, "wide": write_wide}


@dataclass(frozen=True)
class Size:
    """One generated graph and what it took; `cost` is None where it failed."""

    shape: str
    nodes: int
    file_bytes: int
    cost: Summary | None
    failure: str | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="a million nodes too")
    parser.add_argument("--runs", type=int, default=3, help="measured runs after one warm-up; one above 10,000 nodes")
    parser.add_argument("--aiwq", metavar="PATH", help="default: beside this interpreter, else on PATH")
    parser.add_argument("--output", type=Path, help="a Markdown file instead of stdout")
    given = parser.parse_args()
    aiwq = find_aiwq(given.aiwq)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        nodes = [
            _measure_nodes(aiwq, path, shape, count, given.runs)
            for shape in SHAPES
            for count in (NODES_FULL if given.full else NODES)
        ]
        weights = [_measure_weights(aiwq, path, count, given.runs) for count in WEIGHT_BYTES]
    flat = "\n".join(_flatness(shape, [size for size in nodes if size.shape == shape]) for shape in SHAPES)
    parts = ["Growth with nodes:", _nodes_table(nodes), flat, "Growth with bytes of weights:", _weights_table(weights)]
    write_result("\n\n".join(parts), given.output)


def _measure_nodes(aiwq: Path, path: Path, shape: str, count: int, runs: int) -> Size:
    report_progress(f"{shape} of {count:,} nodes")
    SHAPES[shape](path, count)
    command = [str(aiwq), "analyze", str(path), "--format", "json", "--output", str(path.with_name("report.json"))]
    results = interleaved({shape: command}, runs if count <= 10_000 else 1, TIMEOUT_SECONDS)
    return Size(shape, count, path.stat().st_size, results.summaries.get(shape), results.last[shape].failure)


def _measure_weights(aiwq: Path, path: Path, count: int, runs: int) -> tuple[int, Results]:
    report_progress(f"{count:,} bytes of weights")
    write_weights(path, count)
    commands = {
        "aiwq": [str(aiwq), "analyze", str(path), "--format", "json", "--output", str(path.with_name("report.json"))],
        "onnx": [python_beside(aiwq), "-c", "import sys, onnx; onnx.load(sys.argv[1])", str(path)],
    }
    return count, interleaved(commands, runs, TIMEOUT_SECONDS)


def _nodes_table(sizes: Sequence[Size]) -> str:
    header = ["graph", "nodes", "file", "seconds", "CPU s", "CPU s / 1,000 nodes", "peak memory", "bytes / node"]
    return markdown_table(header, [_nodes_row(size) for size in sizes])


def _nodes_row(size: Size) -> list[str]:
    named = [size.shape, f"{size.nodes:,}", megabytes(size.file_bytes)]
    if size.cost is None:
        return [*named, f"failed: {size.failure}", "-", "-", "-", "-"]
    return [
        *named,
        f"{size.cost.seconds:.2f}",
        f"{size.cost.cpu_seconds:.2f}",
        f"{size.cost.cpu_seconds / size.nodes * 1000:.3f}",
        megabytes(size.cost.peak_bytes),
        f"{size.cost.peak_bytes / size.nodes:,.0f}",
    ]


def _flatness(shape: str, sizes: Sequence[Size]) -> str:
    """Compare the cost of one more node from each size to the next, so that the start of the process does not count."""
    done = [(size.nodes, size.cost) for size in sizes if size.cost is not None]
    steps = list(pairwise(done))
    if len(steps) < 2:
        return f"- {shape}: too few sizes to tell."
    seconds = [(after.cpu_seconds - before.cpu_seconds) / (more - less) for (less, before), (more, after) in steps]
    memory = [(after.peak_bytes - before.peak_bytes) / (more - less) for (less, before), (more, after) in steps]
    growth = max(seconds[1:]) / seconds[0]
    verdict = "flat within" if growth <= FLAT_WITHIN else "NOT flat within"
    milliseconds = ", ".join(f"{each * 1000:.3f}" for each in seconds)
    kilobytes = ", ".join(f"{each / 1000:.1f}" for each in memory)
    return (
        f"- {shape}: one more node costs {milliseconds} ms of CPU time and {kilobytes} kB, from each size to the next: "
        f"{verdict} {FLAT_WITHIN:g}x ({times(growth)} the cost of the first step)."
    )


def _weights_table(measured: Sequence[tuple[int, Results]]) -> str:
    header = [
        "weights",
        "aiwq",
        "onnx.load",
        "time ratio",
        "CPU ratio",
        "aiwq memory",
        "onnx.load memory",
        "memory ratio",
    ]
    return markdown_table(header, [_weights_row(count, results) for count, results in measured])


def _weights_row(count: int, results: Results) -> list[str]:
    own, other = results.summaries.get("aiwq"), results.summaries.get("onnx")
    ratios = (
        (
            times(other.seconds / own.seconds),
            times(other.cpu_seconds / own.cpu_seconds),
            times(other.peak_bytes / own.peak_bytes),
        )
        if own is not None and other is not None
        else ("-", "-", "-")
    )
    seconds = [
        f"failed: {results.last[name].failure}" if cost is None else f"{cost.seconds:.2f} s"
        for name, cost in (("aiwq", own), ("onnx", other))
    ]
    memory = ["-" if cost is None else megabytes(cost.peak_bytes) for cost in (own, other)]
    return [megabytes(count), *seconds, *ratios[:2], *memory, ratios[2]]


if __name__ == "__main__":
    main()
