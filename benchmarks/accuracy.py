"""Predicted against measured seconds of the networks of models/sets.toml: the accuracy of docs/calibration.md.

    python benchmarks/accuracy.py --profile calibration/ID --set held-out [--int8|--float] [--per-node] [--output F]

The held-out networks took no part in any fit or choice of design: they are for judging, not for tuning.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "models"))

from sets import SETS, ValidationNetwork, networks  # noqa: E402 - a folder of scripts

from onnx_aiwq.calibration.validation import Candidate, NetworkResult, Validation, validate  # noqa: E402
from onnx_aiwq.profiles import read_profile  # noqa: E402


def main() -> None:
    """Measure, print a table in Markdown, and write all figures as JSON."""
    arguments = _arguments()
    profile = read_profile(arguments.profile / "profile.json")
    chosen = [network for network in networks(arguments.set) if _wanted(network, arguments)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.cache or Path(temporary)
        candidates = [_candidate(network, folder) for network in chosen]
        if arguments.make_only:
            return
        result = validate(
            candidates, profile, per_node=arguments.per_node, progress=lambda name: print(name, file=sys.stderr)
        )
    print(table(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(dataclasses.asdict(result), indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, required=True, help="folder of a calibrated profile")
    parser.add_argument("--set", choices=SETS, required=True)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--int8", action="store_true", help="quantised networks alone")
    kind.add_argument("--float", action="store_true", help="float networks alone")
    parser.add_argument("--only", action="append", help="names of networks")
    parser.add_argument("--per-node", action="store_true", help="errors by kind of kernel, in the JSON")
    parser.add_argument("--cache", type=Path, help="folder that keeps quantised networks for the next run")
    parser.add_argument("--make-only", action="store_true", help="make the networks of --cache, measure nothing")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _wanted(network: ValidationNetwork, arguments: argparse.Namespace) -> bool:
    if arguments.only:
        return network.name in arguments.only
    quantised = network.form is not None or "int8" in network.name
    return not (arguments.int8 and not quantised) and not (arguments.float and quantised)


def _candidate(network: ValidationNetwork, folder: Path) -> Candidate:
    if network.form is None:
        return Candidate(network.name, network.file, network.bindings)
    path = folder / f"{network.name}.onnx"
    if not path.exists():
        print(f"making {network.name}", file=sys.stderr)
        onnx.save(network.model(), path)
    return Candidate(network.name, path, network.bindings, inputs_of=network.file)


def table(result: Validation) -> str:
    """One row per network, and a summary."""
    lines = [
        "| network | measured ms | rounds differ | from the file ms | error | deployed graph | 90 % interval |",
        "|---|--:|--:|--:|--:|--:|---|",
        *map(_row, result.networks),
        "",
        f"from the file: {_summary(result.exported)}; inside the 90 % interval {result.coverage:.0%}",
        f"from the deployed graph: {_summary(result.deployed)}",
        *(f"{name}: {_summary(errors)}" for name, errors in result.baselines.items()),
    ]
    return "\n".join(lines)


def _row(network: NetworkResult) -> str:
    inside = "inside" if network.covered else "OUTSIDE"
    times = f"{network.measured_s * 1e3:.2f} | {network.spread - 1:.1%} | {network.predicted_s * 1e3:.2f}"
    return (
        f"| {network.name} | {times} | {network.error:+.1%} | {network.deployed_error:+.1%} "
        f"| {network.low_s * 1e3:.2f} to {network.high_s * 1e3:.2f}, {inside} |"
    )


def _summary(errors: object) -> str:
    found = dataclasses.asdict(errors)  # type: ignore[call-overload]
    return (
        f"median {found['median']:.1%}, mean {found['mean']:.1%}, worst {found['worst']:.1%}, "
        f"within 10 % {found['within_10_percent']:.0%}, rank correlation {found['rank_correlation']:.3f} "
        f"({found['count']} networks)"
    )


if __name__ == "__main__":
    main()
