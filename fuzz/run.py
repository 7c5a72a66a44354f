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
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Small inputs run fast, and what one operator does on odd input shows on it alone.
_LARGEST_BYTES = {"loader": 16_384, "analyze": 4_096}
_STUCK_S = 3600  # by the clock, in a library that never returns; the targets watch their processor time themselves
_MEMORY_MIB = 3072
_RUNS_TO_MINIMISE_S = 60
_MOST_FINDINGS = 50
_MOST_EXECUTIONS = 2**31 - 1  # that libFuzzer takes


@dataclass
class Figures:
    """What one run did; `stopped` where it was asked to end."""

    executions: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0
    seconds: float = 0.0
    stopped: bool = False
    findings: list[str] = field(default_factory=list)


def seed(folder: Path, largest_bytes: int) -> None:
    """Fill an empty corpus: of the models of the onnx backend tests the smallest two for each set of operators, and
    the regression files; without what libFuzzer would cut off."""
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
        if len(data) > largest_bytes:
            continue
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def slice_of(target: str, work: Path, seconds: int, executions: int, figures: Figures) -> None:
    """One fuzzing process; it ends with its time, with its executions or with a finding."""
    before = set((work / "findings").iterdir())
    command = [
        sys.executable,
        str(ROOT / "fuzz/targets.py"),
        target,
        str(work / "corpus"),
        f"-artifact_prefix={work / 'findings'}/",
        f"-max_total_time={seconds}",
        f"-runs={executions}",
        f"-timeout={_STUCK_S}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-max_len={_LARGEST_BYTES[target]}",
        "-print_final_stats=1",
        "-use_value_profile=0",
    ]
    with (work / "last.log").open("wb") as file:  # which tells how far it is meanwhile
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        code = _end_of(process)
    log = (work / "last.log").read_text(encoding="utf-8", errors="replace")
    runs = [int(number) for number in re.findall(r"^#(\d+)\s", log, re.M)]
    runs += [int(number) for number in re.findall(r"number_of_executed_units: *(\d+)", log)]
    figures.executions += max(runs, default=0)
    figures.edges = max([figures.edges, *map(int, re.findall(r" cov: (\d+)", log))])
    figures.features = max([figures.features, *map(int, re.findall(r" ft: (\d+)", log))])
    found = sorted(set((work / "findings").iterdir()) - before)
    for path in found:
        reason = re.findall(r"^(?:.*(?:Error|Exception|Finding): .*|.*ERROR: libFuzzer: .*)$", log, re.M)
        figures.findings.append(f"{path.name}: {reason[0][:300] if reason else 'see last.log'}")
        (work / "findings" / f"{path.name}.log").write_text(log[-20_000:], encoding="utf-8")
    if code and not found and not figures.stopped:
        figures.findings.append(f"the process ended with {code}: {log[-400:]}")


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process; where this one is asked to end, it first ends that one and keeps what it did."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # libFuzzer then prints its figures


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


def run(target: str, seconds: int, executions: int, work: Path, *, small: bool = True) -> Figures:
    """Fuzz until the time is over or the executions are done; a process that found something is followed by another."""
    for name in ("corpus", "findings", "minimised"):
        (work / name).mkdir(parents=True, exist_ok=True)
    if not any((work / "corpus").iterdir()):
        seed(work / "corpus", _LARGEST_BYTES[target])
    figures, started = Figures(), time.monotonic()

    def stop(*_: object) -> None:
        figures.stopped = True
        raise KeyboardInterrupt

    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, stop)
    while not figures.stopped and len(figures.findings) < _MOST_FINDINGS:
        left_s = int(seconds - (time.monotonic() - started))
        left = executions - figures.executions
        if left_s < 1 or left < 1:
            break
        slice_of(target, work, left_s, left, figures)
    figures.seconds = round(time.monotonic() - started, 1)
    figures.corpus = sum(1 for _ in (work / "corpus").iterdir())
    if small:
        minimise(target, work)
    return figures


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(_LARGEST_BYTES), required=True)
    parser.add_argument("--seconds", type=int, default=60, help="stop after that long; Ctrl-C stops at any time")
    parser.add_argument("--executions", type=int, default=_MOST_EXECUTIONS, help="stop after so many")
    parser.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="folder of corpus and findings")
    parser.add_argument("--no-minimise", action="store_true", help="keep crashing inputs as they are")
    given = parser.parse_args()
    work = (given.work / given.target).resolve()
    figures = run(given.target, given.seconds, given.executions, work, small=not given.no_minimise)
    for finding in figures.findings:
        print(f"finding: {finding}")
    with (work / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(vars(figures)) + "\n")
    print(
        f"{given.target}: {figures.executions:,} executions in {figures.seconds:g} s, {figures.edges:,} edges and "
        f"{figures.features:,} features covered, {figures.corpus:,} inputs in the corpus, "
        f"{len(figures.findings)} findings ({work / 'findings'})"
    )
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
