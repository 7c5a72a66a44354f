"""How long one answer takes from a cold interpreter: whole processes of `aiwq`, against `python -c "import onnx"`.

python benchmarks/startup.py [--runs 10] [--aiwq PATH] [--output FILE.md]
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from measuring import (
    Results,
    find_aiwq,
    interleaved,
    markdown_table,
    megabytes,
    python_beside,
    times,
    write_result,
)

SKELETON = Path(__file__).resolve().parents[1] / "models" / "resnet50.torchscript.onnx"
REFERENCE = 'python -c "import onnx"'
HELP = "aiwq --help"
LIGHT = "aiwq analyze light_resnet50.onnx"
RESNET = "aiwq analyze models/resnet50.torchscript.onnx"
TARGET_SECONDS = {HELP: 0.3, LIGHT: 1.0, RESNET: 1.0}
_FIND_LIGHT = (
    "from importlib.resources import files; print(files('onnx') / 'backend/test/data/light/light_resnet50.onnx')"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="measured runs of every command after one warm-up")
    parser.add_argument("--aiwq", metavar="PATH", help="default: beside this interpreter, else on PATH")
    parser.add_argument("--output", type=Path, help="a Markdown file instead of stdout")
    given = parser.parse_args()
    aiwq = find_aiwq(given.aiwq)
    python = python_beside(aiwq)
    light = subprocess.run([python, "-c", _FIND_LIGHT], capture_output=True, text=True, check=True).stdout.strip()
    commands = {
        REFERENCE: [python, "-c", "import onnx"],
        HELP: [str(aiwq), "--help"],
        LIGHT: [str(aiwq), "analyze", light],
        RESNET: [str(aiwq), "analyze", str(SKELETON), "--bind", "batch=1"],
    }
    write_result(_table(interleaved(commands, given.runs)), given.output)


def _table(results: Results) -> str:
    header = ["command", "seconds", "min to max", "CPU s", "peak memory", "time / import onnx", "target", ""]
    return markdown_table(header, [_row(name, results) for name in results.last])


def _row(name: str, results: Results) -> list[str]:
    cost = results.summaries.get(name)
    if cost is None:
        return [f"`{name}`", "failed", str(results.last[name].failure), "-", "-", "-", "-", "-"]
    reference = results.summaries.get(REFERENCE)
    target = TARGET_SECONDS.get(name)
    return [
        f"`{name}`",
        f"{cost.seconds:.3f}",
        f"{cost.seconds_min:.3f} to {cost.seconds_max:.3f}",
        f"{cost.cpu_seconds:.3f}",
        megabytes(cost.peak_bytes),
        "-" if reference is None else times(cost.seconds / reference.seconds),
        "-" if target is None else f"under {target} s",
        "-" if target is None else "met" if cost.seconds < target else "missed",
    ]


if __name__ == "__main__":
    main()
