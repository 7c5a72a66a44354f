"""Fuzz the loader or the whole analysis for a given time: `python fuzz/run.py --target loader --seconds 60`.

Needs atheris (`pip install 'onnx-aiwq[fuzz]'`, Linux). The corpus is seeded with the models of the onnx backend tests
and with `tests/data/hostile`; it grows in `.fuzz/TARGET/corpus` and is used again by the next run. Inputs that crash,
hang or fill the memory are minimised and kept in `.fuzz/TARGET/findings`. Prints executions, coverage and findings;
exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
_LARGEST_BYTES = {"loader": 16_384, "analyze": 65_536}
_HANG_S, _MEMORY_MIB = 20, 3072
_RUNS_TO_MINIMISE_S = 60


@dataclass
class Figures:
    """What one run did; `unconfirmed` are inputs that were slow by the clock, not by processor time."""

    executions: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0
    seconds: float = 0.0
    unconfirmed: int = 0
    findings: list[str] = field(default_factory=list)


def seed(folder: Path) -> None:
    """Fill an empty corpus: of the models of the onnx backend tests the smallest two for each set of operators, and
    the regression files."""
    from onnx.backend.test.case.model import collect_testcases as collect_models
    from onnx.backend.test.case.node import collect_testcases as collect_nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case.model for case in (*collect_nodes(None), *collect_models()) if case.model is not None]
    of_operators: dict[frozenset[str], list[bytes]] = {}
    for model in cases:
        kinds = frozenset(node.op_type for node in model.graph.node)
        of_operators.setdefault(kinds, []).append(model.SerializeToString())
    seeds = [data for several in of_operators.values() for data in sorted(several, key=len)[:2]]
    seeds += [path.read_bytes() for path in sorted((ROOT / "tests/data/hostile").glob("*.onnx"))]
    for data in seeds:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def slice_of(target: str, work: Path, seconds: int, figures: Figures) -> None:
    """One fuzzing process; it ends with its time or with a finding."""
    before = set((work / "findings").iterdir())
    command = [
        sys.executable,
        str(ROOT / "fuzz/targets.py"),
        target,
        str(work / "corpus"),
        f"-artifact_prefix={work / 'findings'}/",
        f"-max_total_time={seconds}",
        f"-timeout={_HANG_S}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-max_len={_LARGEST_BYTES[target]}",
        "-print_final_stats=1",
        "-use_value_profile=0",
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    log = process.stderr
    (work / "last.log").write_text(process.stdout + log, encoding="utf-8")
    runs = [int(number) for number in re.findall(r"^#(\d+)\s", log, re.M)]
    runs += [int(number) for number in re.findall(r"number_of_executed_units: *(\d+)", log)]
    figures.executions += max(runs, default=0)
    figures.edges = max([figures.edges, *map(int, re.findall(r" cov: (\d+)", log))])
    figures.features = max([figures.features, *map(int, re.findall(r" ft: (\d+)", log))])
    found = sorted(set((work / "findings").iterdir()) - before)
    for path in found:
        if path.name.startswith(("timeout-", "slow-unit-")) and not confirmed(target, path):
            path.rename(work / "unconfirmed" / path.name)
            figures.unconfirmed += 1
            continue
        reason = re.findall(r"^(?:.*(?:Error|Exception|Finding): .*|.*ERROR: libFuzzer: .*)$", log, re.M)
        figures.findings.append(f"{path.name}: {reason[0][:300] if reason else 'see last.log'}")
        (work / "findings" / f"{path.name}.log").write_text(log[-20_000:], encoding="utf-8")
    if process.returncode and not found:
        figures.findings.append(f"the process ended with {process.returncode}: {log[-400:]}")


def confirmed(target: str, path: Path) -> bool:
    """Whether an input that took long by the clock also does by processor time: a busy machine may stop a process."""
    command = [sys.executable, str(ROOT / "fuzz/targets.py"), target, str(path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode != 0 or after.ru_utime - before.ru_utime > _HANG_S / 2


def minimise(target: str, work: Path) -> None:
    """Make crashing inputs smaller, by libFuzzer's own means."""
    for path in sorted((work / "findings").glob("crash-*")):
        smaller = work / "minimised" / path.name
        if path.suffix == ".log" or smaller.exists():
            continue
        command = [
            sys.executable,
            str(ROOT / "fuzz/targets.py"),
            target,
            str(path),
            "-minimize_crash=1",
            f"-exact_artifact_path={smaller}",
            f"-max_total_time={_RUNS_TO_MINIMISE_S}",
        ]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)


def run(target: str, seconds: int, work: Path, *, small: bool = True) -> Figures:
    """Fuzz for a time; a process that found something is followed by another, until the time is over."""
    for name in ("corpus", "findings", "minimised", "unconfirmed"):
        (work / name).mkdir(parents=True, exist_ok=True)
    if not any((work / "corpus").iterdir()):
        seed(work / "corpus")
    figures, started = Figures(), time.monotonic()
    while (left := seconds - (time.monotonic() - started)) > 1 and len(figures.findings) < 50:
        slice_of(target, work, max(int(left), 1), figures)
    figures.seconds = round(time.monotonic() - started, 1)
    figures.corpus = sum(1 for _ in (work / "corpus").iterdir())
    if small:
        minimise(target, work)
    return figures


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(_LARGEST_BYTES), required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="folder of corpus and findings")
    parser.add_argument("--no-minimise", action="store_true", help="keep crashing inputs as they are")
    given = parser.parse_args()
    work = (given.work / given.target).resolve()
    figures = run(given.target, given.seconds, work, small=not given.no_minimise)
    for finding in figures.findings:
        print(f"finding: {finding}")
    with (work / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(vars(figures)) + "\n")
    print(
        f"{given.target}: {figures.executions:,} executions in {figures.seconds:g} s, {figures.edges:,} edges and "
        f"{figures.features:,} features covered, {figures.corpus:,} inputs in the corpus, "
        f"{len(figures.findings)} findings, {figures.unconfirmed} slow by the clock alone "
        f"({work / 'findings'})"
    )
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
