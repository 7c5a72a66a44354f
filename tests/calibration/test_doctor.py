"""`aiwq doctor`: as a process on this machine, and on recorded machines with something wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from onnx_aiwq.calibration import doctor
from onnx_aiwq.calibration.meters import Surroundings
from onnx_aiwq.profiles import reference_profile, this_machine
from onnx_aiwq.render.doctor import render_doctor
from processes import aiwq
from recorded_machines import SERVER, Board, machine, powercap
from schemas import left_open
from schemas import problems as problems_of

CPU = "sys/devices/system/cpu"


def run(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    return aiwq(data, {"XDG_DATA_HOME": str(data)}, *arguments)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    return folder


def examined(surroundings: Surroundings) -> dict[str, Any]:
    found = doctor.examine(surroundings)
    assert problems_of("doctor-1", found) == []
    return found


def problems(found: dict[str, Any]) -> dict[str, str]:
    return {f"{each['subject']}: {each['problem']}": each["next_step"] for each in found["problems"]}


def test_the_command_prints_json_and_nothing_else(data: Path) -> None:
    done = run("doctor", "--format", "json", data=data)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert problems_of("doctor-1", found) == []
    assert found["schema"] == "onnx_aiwq.doctor/1"
    assert [each["name"] for each in found["meters"]] == ["rapl", "nvml", "power-model", "replay"]
    assert found["threads"]["logical_cpus"] == os.cpu_count()
    cpu = next(each for each in found["runtime"]["providers"] if each["name"] == "CPUExecutionProvider")
    assert cpu["usable"]
    assert found["profiles"]["folder"].startswith(str(data))
    assert list(data.iterdir()) == []  # looking changes nothing
    # The schema names everything but what happens to be installed.
    unnamed = ("-extras[].distributions.", "-runtime.distributions.")
    assert [place for place in left_open("doctor-1", found) if not place.startswith(unnamed)] == []


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_the_command_prints_for_people(form: str, data: Path) -> None:
    done = run("doctor", "--format", form, data=data)
    assert (done.returncode, done.stderr) == (0, "")
    for subject in ("meter rapl", "onnxruntime", "processor", "governor", "profile folder", "to do"):
        assert subject in done.stdout
    if form == "csv":
        assert {len(row) for row in csv.reader(io.StringIO(done.stdout))} == {4}


def test_the_command_writes_a_file_and_refuses_other_forms(data: Path) -> None:
    done = run("doctor", "--format", "json", "--output", str(data / "d.json"), data=data)
    assert (done.returncode, done.stdout) == (0, "")
    assert problems_of("doctor-1", json.loads((data / "d.json").read_text())) == []
    refused = run("doctor", "--format", "jsn", data=data)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean 'json'" in refused.stderr


def test_a_server_in_order(tmp_path: Path, data: Path) -> None:
    """Everything is there but the calibration."""
    files = {f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n"}
    here = Surroundings(powercap(tmp_path, SERVER), machine(tmp_path, files=files), Board())
    found = examined(here)
    assert found["automatic"]["CPUExecutionProvider"]["meter"] == "rapl"
    wrong = {key for key in problems(found) if not key.startswith("onnxruntime")}
    assert wrong == {
        "profiles: this machine has no calibrated profile; `aiwq analyze` prices with amd-epyc-zen-4-vcpu-1-thread"
    }


def test_a_machine_without_any_meter(tmp_path: Path, data: Path) -> None:
    root = machine(tmp_path, "Pentium Pro", cpuid=(6, 1, 0), virtual=True)
    found = examined(Surroundings(tmp_path / "absent", root, Board(driver=False)))
    assert found["automatic"]["CPUExecutionProvider"]["meter"] is None
    (wrong,) = [(key, step) for key, step in problems(found).items() if key.startswith("meters")]
    assert "cannot be modelled either (power-model: no source knows the processor 'Pentium Pro'" in wrong[0]
    assert "--watts" in wrong[1]
    assert "no source knows" in render_doctor(found, "table", 10_000)


def test_governor_and_quota(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cpus", lambda: 8)
    files = {f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
    found = examined(Surroundings(powercap(tmp_path, SERVER), machine(tmp_path, files=files), Board()))
    wrong = problems(found)
    assert any(key.startswith("governor: powersave") for key in wrong)
    assert wrong[
        "threads: the container may use 1.5 CPUs' worth of time on 8 CPUs, and is throttled beyond"
    ].startswith("measure with at most 1 thread(s)")


def test_two_runtimes_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_runtimes", lambda: {"onnxruntime": "1.20", "onnxruntime-gpu": "1.21"})
    (wrong,) = [each for each in doctor._runtime_problems(doctor._runtime()) if "together" in each["problem"]]
    assert wrong["problem"].startswith("onnxruntime and onnxruntime-gpu are installed together")
    assert "pip uninstall onnxruntime onnxruntime-gpu" in wrong["next_step"]


def test_a_provider_that_is_listed_but_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu behaves without a driver: it lists CUDA, and the session falls back to the CPU."""
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"]),
    )
    runtime = doctor._runtime()
    assert [each["usable"] for each in runtime["providers"]] == [False, True]
    assert doctor._metered_providers(runtime["providers"]) == ["CPUExecutionProvider"]
    assert any("CUDAExecutionProvider: listed, but" in each["problem"] for each in doctor._runtime_problems(runtime))


def test_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    runtime = doctor._runtime()
    assert (runtime["version"], runtime["providers"]) == (None, [])
    assert "cannot be imported" in doctor._runtime_problems(runtime)[0]["problem"]


def test_profiles_of_this_machine(data: Path) -> None:
    folder = doctor.user_profile_folder()
    assert folder.is_relative_to(data)
    assert doctor._profiles()["calibrated"] is None
    folder.mkdir(parents=True)
    own = changed(reference_profile(), id="mine", source="measured", provenance={"machine": this_machine()})
    (folder / "mine.json").write_text(own.to_json())
    found = doctor._profiles()
    assert found["calibrated"] == {"id": "mine", "source": "measured"}
    assert (found["default"], found["error"], doctor._profile_problems(found)) == ("mine", None, [])
    (folder / "broken.json").write_text("{}")
    broken = doctor._profiles()
    assert broken["default"] is None
    assert "broken.json: not a valid hardware profile" in doctor._profile_problems(broken)[0]["problem"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a mode of 0500 does not stop root
    found = doctor._profiles()
    assert not found["writable"]
    assert any("none can be saved" in each["problem"] for each in doctor._profile_problems(found))
    (tmp_path / "file").write_text("")
    assert doctor._writable(tmp_path / "file" / "profiles") == (False, f"{tmp_path / 'file'} is no folder")


def test_extras_are_those_of_the_project() -> None:
    extras = {each["name"]: each for each in doctor._extras()}
    assert set(extras) >= {"gpu", "test"}
    assert list(extras["gpu"]["distributions"]) == ["nvidia-ml-py"]
    assert extras["test"]["distributions"]["pytest"] == pytest.__version__


def test_help_stays_light() -> None:
    """The help imports the module of every command, and nothing of what the commands need."""
    script = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    script += "from onnx_aiwq.cli import main; sys.argv[1:] = ['--help']; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    loaded = set(done.stderr.split())
    assert "onnx_aiwq.cli.doctor" in loaded
    assert loaded.isdisjoint({"onnx_aiwq.calibration", "onnxruntime", "psutil", "scipy", "numpy"})
