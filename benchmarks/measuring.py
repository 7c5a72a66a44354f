"""Whole processes measured from outside, and the forms in which their figures are written; standard library only."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 300.0
LAUNCHER = Path(__file__).resolve().with_name("launcher.py")


@dataclass(frozen=True)
class Run:
    """One process from start to exit.

    Attributes:
        seconds: wall time, start of the interpreter included.
        cpu_seconds: time on a processor, user and system, of all threads; on a busy machine the fairer figure.
        peak_bytes: largest resident set that the process ever had; see launcher.py.
        stdout: what it wrote.
        failure: one line that says why it failed, None where it did not.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str
    failure: str | None


@dataclass(frozen=True)
class Summary:
    """Several runs of one command, each a fresh process; medians, and the fastest and slowest by wall time."""

    seconds: float
    seconds_min: float
    seconds_max: float
    cpu_seconds: float
    peak_bytes: int
    runs: int


@dataclass(frozen=True)
class Results:
    """What `interleaved` saw: the last run of every command, and a summary of those that never failed."""

    last: dict[str, Run]
    summaries: dict[str, Summary]


def run_process(command: Sequence[str], timeout_seconds: float = TIMEOUT_SECONDS) -> Run:
    """Run a command to its end and return its wall time and its own peak memory.

    The environment is passed on, without what would let one environment see the packages of another.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(timeout_seconds), str(out), str(err), *command]
        launched = subprocess.run(launcher, capture_output=True, text=True, check=True, env=environment)
        seconds, cpu_seconds, peak_bytes, code = json.loads(launched.stdout)
        failure = None
        if code:
            late = seconds >= timeout_seconds
            failure = f"more than {timeout_seconds:.0f} s" if late else _reason(code, _text(err))
        return Run(seconds, cpu_seconds, peak_bytes, _text(out), failure)


def summarize(runs: Sequence[Run]) -> Summary:
    """Median, fastest and slowest of at least one run."""
    seconds = [run.seconds for run in runs]
    cpu_seconds = statistics.median(run.cpu_seconds for run in runs)
    peak_bytes = int(statistics.median(run.peak_bytes for run in runs))
    return Summary(statistics.median(seconds), min(seconds), max(seconds), cpu_seconds, peak_bytes, len(runs))


def interleaved(
    commands: Mapping[str, Sequence[str]],
    runs: int,
    timeout_seconds: float = TIMEOUT_SECONDS,
    once: Collection[str] = (),
) -> Results:
    """Run every command once as warm-up, then all of them in turn, `runs` times over.

    Taking turns spreads a slow moment of the machine over all commands. A command that fails is not run again;
    one named in `once` is not either, and its only run counts.
    """
    last: dict[str, Run] = {name: run_process(command, timeout_seconds) for name, command in commands.items()}
    measured: dict[str, list[Run]] = {name: [last[name]] if name in once else [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            if last[name].failure is None and name not in once:
                last[name] = run_process(command, timeout_seconds)
                measured[name].append(last[name])
    summaries = {
        name: summarize(measured[name]) for name, run in last.items() if run.failure is None and measured[name]
    }
    return Results(last, summaries)


def find_aiwq(given: str | None) -> Path:
    """The `aiwq` to measure: the one given, else the one beside this interpreter, else the first on PATH.

    Raises SystemExit when there is none.
    """
    beside = Path(sys.executable).parent / "aiwq"
    found = given or (str(beside) if beside.exists() else shutil.which("aiwq"))
    if found is None or not Path(found).exists():
        raise SystemExit("no aiwq command found: install the package (pip install .) or name one with --aiwq PATH")
    return Path(found).absolute()


def python_beside(command: Path) -> str:
    """The interpreter of the environment that a console script belongs to."""
    return str(command.parent / "python")


def report_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_result(text: str, output: Path | None) -> None:
    """Write to the file, or to stdout where none is given."""
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: first column to the left, all others to the right."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def times(ratio: float) -> str:
    """A ratio with two significant digits or more."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _reason(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return (lines[-1] if lines else f"ended with code {code} and said nothing")[:160]
