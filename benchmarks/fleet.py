"""A fleet measured: throughput, scaling over workers, memory over many models, kills and resumption, remote bytes.

    python benchmarks/fleet.py throughput memory kills remote [--workdir DIR] [--models N] [--output FILE.json]

Whole processes of `aiwq fleet` over the ONNX backend corpus (one-operator models that `onnx.backend.test.case` makes);
beyond its size the corpus is repeated under other names with another producer version, so that no two files are equal.
Needs the extras `fleet` and `test`; Linux, for memory is read from /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

AIWQ = [sys.executable, "-c", "from onnx_aiwq.cli import main; main()"]
KILLS = 10
ROUNDS = 3
HEAVY_MODELS = [
    (1, 22_370, "raw_data"),
    (500, 1000, "raw_data"),
    (500, 1000, "float_data"),
    (500, 1000, "constant"),
    (5000, 317, "raw_data"),
]
THROUGHPUT_MODELS = 4800  # fewer than one child takes before it is replaced
SAMPLE_EVERY_S = 1.0


def write_corpus(folder: Path, models: int | None = None) -> int:
    """Write the corpus, or as many models as asked for, each repetition to a folder; returns their number."""
    from onnx.backend.test.case.model import collect_testcases as collect_models
    from onnx.backend.test.case.node import collect_testcases as collect_nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [item for item in [*collect_nodes(None), *collect_models()] if item.model is not None]
    number = len(cases) if models is None else models
    for index in range(number):
        repeat, case = divmod(index, len(cases))
        model = cases[case].model
        if repeat:
            model.producer_version = str(repeat)
        place = folder / f"{repeat:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{cases[case].name}.onnx").write_bytes(model.SerializeToString())
    return number


def fleet(sources: Path, output: Path, workers: int) -> list[str]:
    """The command."""
    return [*AIWQ, "fleet", str(sources), "--output", str(output), "--workers", str(workers)]


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds of a command, CPU seconds of its process, and of the processes that this one waited for."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its times can still be read
    ended = time.monotonic()
    times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    user, system, children_user, children_system = (int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in times)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": ended - began,
        "driver_cpu_seconds": user + system,
        "children_cpu_seconds": children_user + children_system,
    }


def throughput(work: Path, models: int | None) -> dict[str, Any]:
    """One and two workers over several times the corpus, and over it once, so that the start can be told from the rate.

    Less than the corpus would not do: what a process learns of each operator it learns at its first model. Medians of
    rounds in turn, because a machine that others share is not as fast now as it is a minute later.
    """
    count = write_corpus(work / "corpus", models or THROUGHPUT_MODELS)
    places = {"whole": work / "corpus", "once": work / "corpus/00"}
    once = len(list(places["once"].iterdir()))
    measured: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number, workers, name in itertools.product(range(ROUNDS), (1, 2), places):
        output = work / f"{name}-{workers}-{number}"
        measured.setdefault((name, workers), []).append(timed(fleet(places[name], output, workers)))
    found: dict[str, Any] = {"models": count, "once": once, "rounds": ROUNDS}
    for workers in (1, 2):
        whole, part = (_medians(measured[name, workers]) for name in places)
        each = {name: (whole[name] - part[name]) / (count - once) for name in whole}
        found[f"workers_{workers}"] = {
            **whole,
            "seconds_once": part["seconds"],
            "models_per_second": 1 / each["seconds"],
            "models_per_second_whole_process": count / whole["seconds"],
            "driver_cpu_ms_per_model": 1000 * each["driver_cpu_seconds"],
            "children_cpu_ms_per_model": 1000 * each["children_cpu_seconds"],
            "rounds": [round(run["seconds"], 2) for run in measured["whole", workers]],
        }
    one, two = found["workers_1"], found["workers_2"]
    found["scaling"] = two["models_per_second"] / one["models_per_second"]
    found["scaling_whole_process"] = one["seconds"] / two["seconds"]
    found["load_average"] = os.getloadavg()
    return found


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def memory(work: Path, models: int | None) -> dict[str, Any]:
    """Resident memory of the driver, and of all processes together, along the run."""
    count = write_corpus(work / "corpus", models or 20_000)
    samples: list[tuple[float, int, int]] = []
    began = time.monotonic()
    process = subprocess.Popen(
        fleet(work / "corpus", work / "out", 2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while process.poll() is None:
        samples.append((time.monotonic() - began, *_resident(process.pid)))
        time.sleep(SAMPLE_EVERY_S)
    told = process.stdout.read() if process.stdout else ""
    tenth = max(len(samples) // 10, 1)
    tenths = [samples[start : start + tenth] for start in range(0, len(samples), tenth)][:10]
    return {
        "models": count,
        "seconds": time.monotonic() - began,
        "result": told.splitlines()[0] if told else "",
        "driver_mb_by_tenth": [round(max(sample[1] for sample in part) / 1e6) for part in tenths],
        "all_processes_mb_by_tenth": [round(max(sample[2] for sample in part) / 1e6) for part in tenths],
        "load_average": os.getloadavg(),
    }


def _resident(pid: int) -> tuple[int, int]:
    import psutil

    try:
        driver = psutil.Process(pid)
        own = driver.memory_info().rss
        tree = [own]
        for child in driver.children(recursive=True):
            try:
                tree.append(child.memory_info().rss)
            except psutil.Error:
                continue  # ended meanwhile
    except psutil.Error:
        return 0, 0
    return own, sum(tree)


def kills(work: Path, models: int | None) -> dict[str, Any]:
    """A run that is killed ten times at random moments and taken up again, against an undisturbed one."""
    count = write_corpus(work / "corpus", models or 10_000)
    sources = work / "corpus"
    (sources / "truncated.onnx").write_bytes(next((sources / "00").glob("*conv*.onnx")).read_bytes()[:-7])
    calm = timed(fleet(sources, work / "calm", 2))
    randomly = random.Random(7)
    moments = []
    for index in range(KILLS):
        # Mostly past the start, and early enough that something is left to kill.
        wait = randomly.uniform(0.1, 0.3) * calm["seconds"]
        process = subprocess.Popen(
            fleet(sources, work / "killed", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait)
        name = signal.SIGINT if index % 3 == 2 else signal.SIGKILL
        process.send_signal(name)
        process.wait()
        broken = _broken(work / "killed")
        moments.append({"after_s": round(wait, 1), "signal": name.name, "rows": _rows(work / "killed")[0], **broken})
    timed(fleet(sources, work / "killed", 2))
    same = {name: content(work / "calm", name) == content(work / "killed", name) for name in ("results", "errors")}
    return {"models": count + 1, "kills": moments, "equal": same, "rows": _rows(work / "killed")}


def content(folder: Path, dataset: str) -> list[tuple[Any, ...]]:
    """Every row of a dataset, sorted; read without the package."""
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder / dataset, format="parquet", partitioning="hive").to_table()
    names = sorted(table.column_names)
    return sorted((tuple(row[name] for name in names) for row in table.to_pylist()), key=repr)


def _rows(folder: Path) -> tuple[int, int]:
    import pyarrow.parquet

    return tuple(  # type: ignore[return-value]
        sum(pyarrow.parquet.read_metadata(file).num_rows for file in (folder / name).rglob("*.parquet"))
        for name in ("results", "errors")
    )


def _broken(folder: Path) -> dict[str, int]:
    """Parquet files that cannot be read, and files that are neither whole nor hidden."""
    import pyarrow

    broken = 0
    for file in folder.rglob("*.parquet"):
        try:
            pyarrow.parquet.read_table(file, partitioning=None)
        except (pyarrow.ArrowException, OSError):
            broken += 1
    return {"broken_files": broken}


def remote(work: Path, models: int | None) -> dict[str, Any]:
    """Bytes that a model of 2 GB costs over HTTP, counted by the server, headers included."""
    from byte_servers import serving, write_heavy_model

    work.mkdir(parents=True)
    found = {}
    for layers, width, place in HEAVY_MODELS:
        path = work / "heavy.onnx"
        macs = write_heavy_model(path, layers, width, place)
        with serving(work) as (address, traffic):
            url, began = f"{address}/heavy.onnx", time.monotonic()
            report = subprocess.run([*AIWQ, "analyze", url, "--format", "json"], check=True, capture_output=True)
            analyzed = (time.monotonic() - began, len(traffic.requests), traffic.all_bytes)
            subprocess.run([*AIWQ, "fleet", url, "--output", str(work / "out")], check=True, capture_output=True)
        found[f"{layers} of {width} x {width} in {place}"] = {
            "file_bytes": path.stat().st_size,
            **dict(zip(("seconds", "requests", "sent_bytes"), analyzed, strict=True)),
            "sent_bytes_to_a_fleet": traffic.all_bytes - analyzed[2],
            "macs_right": json.loads(report.stdout)["totals"]["macs"] == macs,
            "macs_right_in_a_fleet": _column(work / "out", "macs") == [macs],
        }
        path.unlink()
        shutil.rmtree(work / "out")
    return found


def _column(folder: Path, name: str) -> list[Any]:
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(folder / "results", format="parquet", partitioning="hive").to_table([name])
    return list(table.column(name).to_pylist())


MEASUREMENTS: dict[str, Callable[[Path, int | None], dict[str, Any]]] = {
    "throughput": throughput,
    "memory": memory,
    "kills": kills,
    "remote": remote,
}


def main() -> None:
    """Run what was asked for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", nargs="+", choices=MEASUREMENTS)
    parser.add_argument(
        "--models", type=int, help="unless given 4,800 for throughput, 20,000 for memory, 10,000 for kills"
    )
    parser.add_argument("--workdir", type=Path, help="folder for models and results; a temporary one unless given")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
        found = {name: MEASUREMENTS[name](Path(folder) / name, arguments.models) for name in arguments.measurements}
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
