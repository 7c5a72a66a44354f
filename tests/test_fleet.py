"""`aiwq fleet`: rows equal single analyses, poison stays alone, a run may end at any moment and go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_aiwq as aiwq
from byte_servers import serving
from fleets import LIMITS, PROCESS_TIMEOUT_S, custom, matmul, poison, rows, settings
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.fleet.cluster import Cluster
from onnx_aiwq.fleet.driver import FleetRun, run_fleet
from onnx_aiwq.fleet.isolation import Child
from onnx_aiwq.fleet.progress import FleetProgress, duration
from onnx_aiwq.fleet.settings import Limits, Settings
from onnx_aiwq.fleet.sources import list_models
from onnx_aiwq.fleet.store import FleetWriter
from onnx_aiwq.hardware_profile import HardwareProfile
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.runs import RunOptions


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two processes with the poisonous rules, as somebody else would run it."""
    import distributed

    folder = tmp_path_factory.mktemp("poison")
    with pytest.MonkeyPatch.context() as patch:
        poison(folder, patch)
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", memory_limit=0
        )
        try:
            yield cluster.scheduler_address
        finally:
            cluster.close(timeout=PROCESS_TIMEOUT_S)  # without one, a cluster that does not close hangs all tests


Run = Callable[..., FleetRun]


@pytest.fixture
def run(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a fleet from `models` into `out`, on the cluster."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()

    def go(*sources: str, how: Settings | None = None, output: str = "out", **options: Any) -> FleetRun:
        return run_fleet(
            sources or ("models",),
            Path(output),
            how or settings(),
            cluster=Cluster(1, address),
            limits=options.pop("limits", LIMITS),
            progress=FleetProgress(lambda line: None, terminal=False),
            **options,
        )

    return go


def test_a_row_is_what_a_single_analysis_says(run: Run) -> None:
    matmul(Path("models/deep/a.onnx"), 2, 3, 4)
    custom(Path("models/b.onnx"), "Unheard", "acme")
    done = run(how=settings("reference-cpu", "nvidia-l4"))
    assert (done.run, done.models, done.analysed, done.unchanged, done.failed) == (1, 2, 2, 0, 0)
    found = {(row["model"], row["hardware"]): row for row in rows(Path("out"))}
    assert len(found) == 4
    row = found["models/deep/a.onnx", "nvidia-l4"]
    # A dot product of length 3 is 3 mul and 2 add; 2 x 4 of them.
    assert (row["macs"], row["mul"], row["add"], row["partial"]) == (24, 24, 16, False)
    report = aiwq.analyze("models/deep/a.onnx", hardware="nvidia-l4").to_dict()
    for column in ("joules", "joules_low", "joules_high", "seconds", "interval", "compute_j", "data_j", "system_j"):
        assert row[column] == report["energy"][column]
    assert row["transistor_operations"] == report["totals"]["transistor_operations"]
    assert row["bytes_read"] == report["totals"]["bytes_read"] == 4 * (2 * 3 + 3 * 4)
    assert row["content_sha256"] == report["model"]["graph_sha256"]
    assert row["co2e_g"] == report["carbon"]["operational_g"]
    assert row["ecal_j_per_bit"] == report["ecal"]["joules_per_bit"]
    other = found["models/b.onnx", "reference-cpu"]
    assert (other["partial"], other["unsupported"], other["unsupported_operators"]) == (True, 1, ["acme.Unheard"])


def test_poison_is_one_row_each_and_no_worker_is_lost(run: Run, address: str) -> None:
    import distributed

    for op_type in ("Hang", "Crash", "Grow", "Break"):
        custom(Path(f"models/{op_type}.onnx"), op_type, "poison")
    for index in range(20):
        matmul(Path(f"models/m{index}.onnx"), 2, 3, index + 1)
    whole = Path("models/m3.onnx").read_bytes()
    Path("models/truncated.onnx").write_bytes(whole[:-9])
    Path("models/dangling.onnx").symlink_to("nowhere")
    os.mkfifo("models/fifo.onnx")
    with distributed.Client(address) as client:
        before = client.run(os.getpid)
        done = run()
        assert client.run(os.getpid) == before
    assert (done.analysed, done.failed) == (20, 7)
    assert len(rows(Path("out"))) == 20
    errors = {row["model"]: (row["reason"], row["message"]) for row in rows(Path("out"), "errors")}
    assert {Path(model).stem: reason for model, (reason, _) in errors.items()} == {
        "Hang": "timeout",
        "Crash": "crash",
        "Grow": "memory",
        "Break": "internal",
        "truncated": "model",
        "dangling": "unreadable",
        "fifo": "model",
    }
    assert "6 s" in errors["models/Hang.onnx"][1]
    assert "SIGSEGV" in errors["models/Crash.onnx"][1]
    assert str(Path.cwd()) not in str(errors)  # a row does not depend on where the models lie
    again = run()
    # The dangling link may be mended by now; what is wrong with a model itself, under these limits, is known.
    assert (again.analysed, again.unchanged, again.failed) == (0, 26, 1)
    assert len(rows(Path("out"), "errors")) == 7
    assert run(limits=Limits(5.0, LIMITS.max_memory_bytes)).failed == 7


def test_what_is_done_is_skipped_by_content(run: Run) -> None:
    for index in range(6):
        matmul(Path(f"models/m{index}.onnx"), 2, 3, index + 1)
    assert run().analysed == 6
    first = rows(Path("out"))
    assert (run().unchanged, rows(Path("out"))) == (6, first)
    os.utime("models/m0.onnx")  # another time, the same content
    assert (run(trust=False).unchanged, run().unchanged) == (6, 6)
    matmul(Path("models/m1.onnx"), 7, 7, 7)
    done = run()
    assert (done.analysed, done.unchanged) == (1, 5)
    assert len(rows(Path("out"))) == 7  # what it was before stays for the comparison
    more = run(how=settings("reference-cpu", "nvidia-l4"))
    assert more.analysed == 6
    assert len(rows(Path("out"))) == 13
    assert run(how=settings(convention="paper")).analysed == 6
    assert run(how=settings(bind={"batch": 2})).analysed == 6


def test_a_changed_profile_of_the_same_name_is_other_hardware(run: Run) -> None:
    matmul(Path("models/m.onnx"), 2, 3, 4)
    given = load_profile("reference-cpu")
    dearer = HardwareProfile.from_dict({**given.to_dict(), "joules_per_bit": 1.0})
    assert run(how=Settings(RunOptions(), (given,))).analysed == 1
    assert run(how=Settings(RunOptions(), (dearer,))).analysed == 1
    assert len({row["joules"] for row in rows(Path("out"))}) == 2


def test_failures_that_lie_outside_the_model_are_tried_again(run: Run) -> None:
    matmul(Path("models/m.onnx"), 2, 3, 4)
    Path("models/late.onnx").symlink_to(Path.cwd() / "late")
    assert run().failed == 1
    matmul(Path("late"), 2, 3, 5)
    done = run()
    assert (done.analysed, done.unchanged, done.failed) == (1, 1, 0)


def test_counts_beyond_64_bits_are_exact_and_beyond_38_digits_are_errors(run: Run) -> None:
    matmul(Path("models/large.onnx"), 2**31, 2**31, 2**31)
    matmul(Path("models/larger.onnx"), 2**62, 2**62, 2**62)
    assert run().failed == 1
    (row,) = rows(Path("out"))
    assert int(row["macs"]) == 2**93
    (error,) = rows(Path("out"), "errors")
    assert (error["model"], error["reason"]) == ("models/larger.onnx", "range")


def test_a_run_that_dies_between_two_files_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(8):
        matmul(Path(f"models/m{index}.onnx"), 2, 3, index + 1)
    Path("models/bad.onnx").write_bytes(b"\x08")
    run(output="calm")
    add = FleetWriter._add_part

    def dying(self: FleetWriter, place: str, *rest: Any) -> None:
        add(self, place, *rest)
        if place.startswith(dies_after):
            raise OSError(28, "No space left on device")

    for dies_after in ("results", "errors", "inventory"):
        output = f"killed-{dies_after}"
        with monkeypatch.context() as patch:
            patch.setattr(FleetWriter, "_add_part", dying)
            with pytest.raises(AiwqError, match=r"No space left on device.*goes on where it stopped"):
                run(output=output)
        done = run(output=output)
        assert done.run == 1
        for dataset in ("results", "errors"):
            assert rows(Path(output), dataset) == rows(Path("calm"), dataset)
        names = [row["model"] for row in rows(Path(output), "inventory")]
        assert sorted(names) == sorted(row["model"] for row in rows(Path("calm"), "inventory"))


def test_models_are_read_from_a_web_server_by_ranges(run: Run) -> None:
    for index in range(3):
        matmul(Path(f"models/zoo/m{index}.onnx"), 2, 3, index + 1)
    with serving(Path("models")) as (base, traffic):
        done = run(f"{base}/zoo/", f"{base}/zoo/m1.onnx", f"{base}/none.onnx")
        assert (done.models, done.analysed, done.failed) == (4, 3, 1)
        assert (run(f"{base}/zoo/").unchanged, len(rows(Path("out")))) == (3, 3)
    assert {row["model"] for row in rows(Path("out"))} == {f"{base}/zoo/m{index}.onnx" for index in range(3)}
    assert any(request.startswith("GET bytes=0-") for request in traffic.requests)


# ---- processes ----


def test_a_signed_url_is_stored_without_its_secret_and_known_again(run: Run) -> None:
    matmul(Path("models/a.onnx"), 2, 3, 4)
    Path("models/broken.onnx").write_bytes(b"no model")
    with serving(Path("models")) as (address, _):
        for signature in ("5ec2e7", "5ec2e8"):
            names = ("a", "broken", "gone")
            urls = [f"{address.replace('//', '//me:5ec2e7@')}/{name}.onnx?X-Sig={signature}" for name in names]
            done = run(*urls)
            assert (done.models, done.failed) == (3, 2)
        assert done.unchanged == 1
        with pytest.raises(AiwqError, match="given twice") as caught:
            run(f"{address}/a.onnx?sig=5ec2e7", f"{address}/a.onnx?sig=5ec2e8")
    assert "5ec2e" not in str(caught.value)
    stored = [file for file in Path("out").rglob("*") if file.is_file()]
    texts = [repr(rows(Path("out"), name)) for name in ("results", "errors", "inventory")]
    assert {row["model"] for row in rows(Path("out"), "inventory")} == {f"{address}/{name}.onnx" for name in names}
    assert not any(b"5ec2e" in file.read_bytes() for file in stored) and "5ec2e" not in "".join(texts)


def test_a_child_is_replaced_after_its_death_and_keeps_no_limit_for_the_next(tmp_path: Path) -> None:
    matmul(tmp_path / "m.onnx", 2, 3, 4)
    job = {"location": str(tmp_path / "m.onnx"), "done": {}, "failed": []}
    child = Child(settings().message(), LIMITS)
    assert [each["rows"][0]["macs"] for each in child.analyse([job, job], 60.0)] == [24, 24]
    os.kill(child._process.pid, signal.SIGKILL)
    assert [each["reason"] for each in child.analyse([job, job], 60.0)] == ["crash"]
    assert not child.usable
    child.close()


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from onnx_aiwq.fleet.isolation import Child\n"
        "from onnx_aiwq.fleet.settings import Limits\n"
        "child = Child(sys.argv[1], Limits())\n"
        "print(child._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    line = [sys.executable, "-c", code, settings().message()]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PROCESS_TIMEOUT_S)
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1]:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} outlives its parent")


@contextlib.contextmanager
def ended_after(seconds: float, process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process that takes longer, so that who reads its output gets an end and not a hang."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.mark.parametrize("what", ["a stop of all", "the alarm of the child"])
def test_time_that_was_spent_stopped_is_not_the_models(tmp_path: Path, what: str) -> None:
    matmul(tmp_path / "m.onnx", 2, 3, 4)
    code = (
        "import json, sys\n"
        "import onnx_aiwq.fleet.work as work\n"
        "from onnx_aiwq.fleet.settings import Limits\n"
        "class Told(work.Child):\n"
        "    def analyse(self, *batch):\n"
        "        print(self._process.pid, flush=True)\n"
        "        sys.stdin.readline()\n"
        "        return super().analyse(*batch)\n"
        "work.Child = Told\n"
        "job = dict(model='m', location=sys.argv[2], version=None, done={}, failed=[])\n"
        "print(json.dumps(work.analyse_batch([job], sys.argv[1], Limits(timeout_s=6.0))))\n"
    )
    line = [sys.executable, "-c", code, settings().message(), str(tmp_path / "m.onnx")]
    with (
        subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        ) as process,
        ended_after(PROCESS_TIMEOUT_S, process),
    ):
        assert process.stdin and process.stdout
        child = int(process.stdout.readline())
        if what == "the alarm of the child":
            os.kill(child, signal.SIGALRM)
            process.stdin.write("\n")
            assert int(process.stdout.readline()) != child
            process.stdin.write("\n")
        else:
            os.kill(child, signal.SIGSTOP)  # so that the answer cannot come before the stop
            process.stdin.write("\n")
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(6.5)  # past the time limit, of which a look counts a second
            os.killpg(process.pid, signal.SIGCONT)
        ((outcome,), left, _) = json.loads(process.stdout.readline())
    assert (outcome["state"], left) == ("analysed", [])
    assert outcome["rows"][0]["macs"] == 24


# ---- parts ----


def test_sources_are_listed_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.onnx", "b/1.ONNX", "b/c/3.onnx", "b/readme.txt", "a.bin"):
        matmul(Path(name), 1, 1, 1)
    names = [found.model for found in list_models(["b", "b/*.onnx", "a.bin", "b/c/**/*.onnx"])]
    assert names == ["b/1.ONNX", "b/2.onnx", "b/c/3.onnx", "a.bin"]
    (found,) = list_models(["a.bin"])
    assert found.location == str(tmp_path / "a.bin")
    version = found.version
    os.utime("a.bin", ns=(1, 1))
    assert next(list_models(["a.bin"])).version != version


def test_a_name_that_is_no_utf8_is_stored(run: Run) -> None:
    matmul(Path("models/m.onnx"), 2, 3, 4)
    try:
        Path("models/m.onnx").rename(os.fsdecode(b"models/\xff.onnx"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert run().analysed == 1
    assert [row["model"] for row in rows(Path("out"))] == ["models/\\udcff.onnx"]
    assert run().unchanged == 1


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    first = FleetWriter(tmp_path / "out")
    with pytest.raises(AiwqError, match="another run"):
        FleetWriter(tmp_path / "out")
    first.close()
    FleetWriter(tmp_path / "out").close()


@pytest.mark.parametrize("name", ["fleet.json", "errors/part-000001.parquet", "runs/1.json"])
def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, name: str) -> None:
    """A process that dies between writing a file and giving it its name, the first of a folder included."""
    path = tmp_path / "out" / name
    program = (
        "import os, pathlib, sys; from onnx_aiwq.files import write_whole;"
        "pathlib.Path.replace = lambda *_: os._exit(9); write_whole(pathlib.Path(sys.argv[1]), 'half')"
    )
    if name == "fleet.json":
        path.parent.mkdir()
    else:
        FleetWriter(tmp_path / "out").close()
    line = [sys.executable, "-c", program, str(path)]
    assert subprocess.run(line, check=False, timeout=PROCESS_TIMEOUT_S).returncode == 9
    assert len(list(path.parent.glob(".*.aiwq-part"))) == 1
    FleetWriter(tmp_path / "out").close()
    assert not list((tmp_path / "out").rglob("*.aiwq-part"))


def test_settings_travel_whole() -> None:
    given = settings("nvidia-l4", bind={"n": 3}, shapes={"x": (1, 2)}, region="DEU", pue=1.2, convention="paper")
    back = Settings.from_message(given.message())
    assert (back.hardware, back.to_dict(), back.key) == (given.hardware, given.to_dict(), given.key)
    assert len({settings(**each).key for each in ({}, {"pue": 1.2}, {"level": "training"}, {"bind": {"n": 1}})}) == 4


def test_progress_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    progress = FleetProgress(lines.append, terminal=False)
    progress.begin(1000)
    for _ in range(100):
        progress.count("unchanged")
    for step in range(101):
        now = 130.0 + step / 10
        progress.count("failed" if step % 50 == 0 else "analysed")
    # The first came at 130 s; 100 more within 10 s are 10 models/s, and 799 are left.
    assert progress.line() == ("201 of 1,000 models (20%), 3 failed, 100 unchanged, 10.0 models/s, 1 min 20 s left")
    assert lines
    assert [duration(seconds) for seconds in (0.4, 61, 3 * 3600 + 125)] == ["0 s", "1 min 01 s", "3 h 02 min"]
