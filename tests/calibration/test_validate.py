"""The whole loop, as processes: calibrate, validate, analyze; structure and sanity, never speed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec.structs import replace as changed
from onnx import TensorProto, helper, numpy_helper

from calibrated import calibrated_profile, time_model
from onnx_aiwq.calibration.candidates import candidates_of, light_models, prepare
from onnx_aiwq.calibration.profiling import CallOverhead
from onnx_aiwq.calibration.stored import SETTINGS, Settings, State
from onnx_aiwq.errors import ModelError, ShapeError
from onnx_aiwq.profiles import read_profile, this_machine
from onnx_aiwq.render.validation import render_validation
from processes import aiwq
from schemas import left_open, problems

AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def run(*arguments: str | Path, data: Path, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_DATA_HOME": str(data)}
    given = [AIWQ, *map(str, arguments)]
    return subprocess.run(given, capture_output=True, encoding="utf-8", timeout=seconds, env=environment)


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def small(path: Path, width: int, dims: list[int | str | None], *, external: str = "") -> Path:
    """x [dims, width] @ w, Relu; the weight may lie in a file beside the model, which is not there."""
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"], "mm"), helper.make_node("Relu", ["m"], ["y"], "relu")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*dims, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(calibrated_profile(provenance={"machine": this_machine()}).to_json(), encoding="utf-8")
    return path


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [
        small(tmp_path / "fixed.onnx", 64, [8]),
        small(tmp_path / "free.onnx", 96, ["batch"]),
        small(tmp_path / "unnamed.onnx", 32, [None], external="weights.bin"),
    ]


def test_validate_says_what_it_did(by_hand: Path, models: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "validated.json"
    arguments = ("validate", *models, "--hardware", by_hand, "--bind", "batch=16", "--per-node", "--watts", "20")
    done = run(*arguments, "--format", "json", "--profile-output", copy, data=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert problems("validation-1", found) == []
    assert left_open("validation-1", found) == set()
    fixed, free, unnamed = found["networks"]
    assert [each["name"] for each in found["networks"]] == ["fixed", "free", "unnamed"]
    assert [each["weights"] for each in found["networks"]] == ["file", "file", "random"]
    assert (free["bindings"], free["assumed_bindings"]) == ({"batch": 16}, {})
    assert unnamed["assumed_bindings"] == {"x_dim0": 1}
    assert (fixed["macs"], free["macs"], unnamed["macs"]) == (8 * 64 * 64, 16 * 96 * 96, 32 * 32)
    for each in found["networks"]:
        assert each["predicted_low_s"] <= each["predicted_s"] <= each["predicted_high_s"]
        assert each["error"] == pytest.approx(each["predicted_s"] / each["measured_s"] - 1)
        assert each["covered"] is (each["predicted_low_s"] <= each["measured_s"] <= each["predicted_high_s"])
        assert each["predicted_j"] == pytest.approx(10 * each["predicted_s"])  # 6 W + 4 W
        assert each["measured_j"] > 0
        assert {kernel["kind"] for kernel in each["kernels"]} <= {"gemm float32", "gemv float32", "relu float32"}
    assert found["meter"]["label"] == "modelled"
    errors = sorted(abs(each["error"]) for each in found["networks"])
    assert found["summary"]["exported"]["median"] == pytest.approx(errors[1])
    assert found["summary"]["exported"]["worst"] == pytest.approx(errors[2])
    assert found["summary"]["baselines"] == {}
    told = [line.removeprefix("aiwq: ") for line in done.stderr.splitlines()]
    for part in ("x_dim0=1; bind them with --bind", "random ones were used", "need 5 of them; here are 3"):
        assert sum(part in line for line in told) == 1, done.stderr
        assert any(part in line for line in found["warnings"])

    kept = read_profile(copy)
    assert kept.validation is not None
    assert kept.validation["networks: names"] == "fixed, free, unnamed"
    assert kept.validation["networks, exported: worst_error"] == pytest.approx(errors[2], rel=1e-3)
    assert changed(kept, validation=None) == read_profile(by_hand)
    refused(run(*arguments, "--profile-output", copy, data=tmp_path), "validated.json: exists and is never overwritten")

    for form in ("table", "markdown"):
        text = render_validation(found, form, width=200)
        for part in ("unnamed", "exported file", "deployed graph", "inside the 90% interval", "modelled here"):
            assert part in text


@pytest.mark.slow
def test_calibrate_validate_analyze(tmp_path: Path, models: list[Path]) -> None:
    folder = tmp_path / "here"
    calibrated = run("calibrate", "--composites", "12", "--output", folder, "--watts", "15", data=tmp_path)
    assert calibrated.returncode == 0, calibrated.stderr
    assert "held out: median error" in calibrated.stdout
    profile = read_profile(folder / "profile.json")
    assert (profile.source, profile.threads, profile.id) == ("modelled", 1, "here")
    assert profile.provenance["machine"] == this_machine()
    assert profile.kernels is not None and len(profile.kernels.kernels) > 40
    assert profile.validation is not None and profile.validation["composites"] == 12
    assert len(profile.kernels.kernels[-1].covariance) == 5

    again = run("calibrate", "--fit-only", folder, "--output", tmp_path / "again", "--watts", "15", data=tmp_path)
    assert again.returncode == 0, again.stderr
    other = read_profile(tmp_path / "again" / "profile.json")
    dated = {"id": "here", "provenance": {**other.provenance, "date": profile.provenance["date"]}}
    assert changed(other, **dated) == profile
    over = run("calibrate", "--output", folder, "--watts", "15", data=tmp_path)
    assert (over.returncode, over.stdout) == (2, "")
    assert "profile.json exists and is never overwritten" in over.stderr.splitlines()[-1]

    arguments = ("--hardware", folder / "profile.json", "--format", "json")
    # One by hand, two that somebody else exported.
    networks = [models[0], *(LIGHT / f"light_{name}.onnx" for name in ("squeezenet", "shufflenet"))]
    done = run("validate", *networks, *arguments, data=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert problems("validation-1", found) == []
    assert found["meter"] is None
    assert [each["path"] for each in found["networks"]] == [str(path) for path in networks]
    for each in found["networks"]:
        assert 0 < each["predicted_low_s"] <= each["predicted_s"] <= each["predicted_high_s"] < math.inf
        assert 0 < each["measured_s"] < math.inf and 0 < each["deployed_s"] < math.inf

    energy = json.loads(run("analyze", models[0], *arguments, data=tmp_path).stdout)["energy"]
    watts = profile.static_watts + (profile.dynamic_watts or 0.0)
    assert energy["source"] == "modelled"
    assert watts == pytest.approx(15)
    assert energy["joules"] == pytest.approx(watts * energy["seconds"])
    assert energy["joules_low"] <= energy["joules"] <= energy["joules_high"]
    assert energy["seconds"] == pytest.approx(found["networks"][0]["predicted_s"])

    shown = run("hardware", folder / "profile.json", data=tmp_path).stdout
    for part in ("classes by kind and data type", "J/TO", "median", "dynamic power", "machine"):
        assert part in shown


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("calibrate", "--quick", "--composites", "12"), ("--composites and --quick", "give one of them")),
        (("calibrate", "--budget-minutes", "1", "--quick"), ("--budget-minutes and --quick",)),
        (("calibrate", "--budget-minutes", "0"), ("expected more than 0",)),
        (("calibrate", "--composites", "0"), ("expected at least 1",)),
        (("calibrate", "--threads", "0"), ("--threads 0: expected at least 1",)),
        (
            ("calibrate", "--provider", "NoneExecutionProvider", "--watts", "9"),
            ("does not offer NoneExecutionProvider",),
        ),
        (("calibrate", "--optimization", "most"), ("--optimization 'most'",)),
        (("calibrate", "--fit-only", "nowhere", "--watts", "9"), ("cannot read the calibration",)),
        (
            ("calibrate", "--fit-only", "here", "--quick"),
            ("--fit-only measures nothing, so --quick would have no effect",),
        ),
        (
            ("calibrate", "--fit-only", "here", "--composites", "3", "--resume", "--seed", "0"),
            ("so --composites and --resume and --seed would",),
        ),
        (("calibrate", "--fit-only", "here", "--budget-minutes", "2"), ("so --budget-minutes would",)),
        (("calibrate", "--output", "mine", "--id", "other"), ("has the id of its folder, here 'mine'", "--id")),
        (("validate",), ("no profile was calibrated on this machine", "aiwq calibrate")),
        (("validate", "--hardware", "reference-cpu"), ("was not calibrated on a runtime", "aiwq calibrate")),
        (("validate", "--format", "csv"), ("--format 'csv'",)),
        (("validate", "--bind", "batch"), ("--bind 'batch'",)),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    last = aiwq(tmp_path, {"XDG_DATA_HOME": str(tmp_path)}, *arguments)
    assert (last.returncode, last.stdout) == (2, "")
    for part in parts:
        assert part in last.stderr.splitlines()[-1]


def begun(folder: Path, threads: int) -> Path:
    """A folder of a calibration whose samples are yet to come."""
    settings = Settings("CPUExecutionProvider", threads, "all", 0, "1.0", "a machine")
    folder.mkdir()
    (folder / SETTINGS).write_text(State(settings, CallOverhead(1e-5, 1e-6, 2e-6)).to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("option", "value", "there"),
    [("--threads", "1", "2"), ("--optimization", "basic", "all"), ("--provider", "CUDAExecutionProvider", "CPUExec")],
)
def test_samples_are_fitted_with_the_settings_that_they_were_taken_with(
    option: str, value: str, there: str, tmp_path: Path
) -> None:
    folder = begun(tmp_path / "two", 2)
    done = aiwq(tmp_path, {"XDG_DATA_HOME": str(tmp_path)}, "calibrate", "--fit-only", str(folder), option, value)
    refused(done, f"{option} {value}: the samples of", f"were taken with {there}", f"leave {option} out")


def test_watts_of_a_fit_are_those_of_the_threads_of_its_samples(tmp_path: Path) -> None:
    watts = []
    for threads in (1, 2):
        arguments = ("--meter", "power-model", "--processor", "AMD EPYC 9654 96-Core Processor")
        done = run("calibrate", "--fit-only", begun(tmp_path / str(threads), threads), *arguments, data=tmp_path)
        told, ended = done.stderr.splitlines()
        assert "holds 0 composites; a fit needs 12" in ended
        watts.append(float(told.removeprefix("aiwq: power-model: ").partition(" W")[0]))
    assert watts[1] > 1.2 * watts[0]


def test_a_profile_of_another_machine_or_provider(models: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    foreign = {"machine": "Linux aarch64 Elsewhere", "onnxruntime": "onnxruntime 0.1"}
    path.write_text(calibrated_profile(provenance=foreign, threads=4096).to_json(), encoding="utf-8")
    from onnx_aiwq.calibration.validation import check_profile

    machine, threads, runtime = check_profile(read_profile(path))
    assert "was calibrated on Linux aarch64 Elsewhere" in machine
    assert "for 4096 threads" in threads
    assert "calibrated with onnxruntime 0.1" in runtime
    path.write_text(calibrated_profile(provider="CUDAExecutionProvider").to_json(), encoding="utf-8")
    refused(run("validate", models[0], "--hardware", path, data=tmp_path), "CUDAExecutionProvider", "aiwq doctor")


# --- networks ----------------------------------------------------------------------------------------------------


def test_bindings_go_to_the_models_that_have_them(models: list[Path]) -> None:
    candidates, warnings = candidates_of(models, {"batch": 4})
    assert [dict(each.bindings) for each in candidates] == [{}, {"batch": 4}, {}]
    assert len(warnings) == 1 and "x_dim0=1" in warnings[0]
    with pytest.raises(ShapeError, match=r"--bind bach: none of the 3 models has it; did you mean 'batch'\?"):
        candidates_of(models, {"bach": 4})


def test_names_tell_files_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = [small(tmp_path / folder / "model.onnx", 8, [1]) for folder in ("a", "b")]
    other = small(tmp_path / "other.onnx", 8, [1])
    candidates, _ = candidates_of([*paths, other], {})
    assert [each.name for each in candidates] == [str(Path("a/model")), str(Path("b/model")), "other"]


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    weight = np.arange(64, dtype=np.float32).reshape(8, 8)
    (tmp_path / "weights.bin").write_bytes(weight.tobytes())
    (candidate,), _ = candidates_of([small(tmp_path / "model.onnx", 8, [1], external="weights.bin")], {})
    network = prepare(candidate)
    assert not network.random_weights
    assert (numpy_helper.to_array(network.model.graph.initializer[0]) == weight).all()
    (tmp_path / "weights.bin").unlink()
    network = prepare(candidate)
    assert network.random_weights
    assert numpy_helper.to_array(network.model.graph.initializer[0]).std() > 0


def test_inputs_that_cannot_be_fed_are_refused(tmp_path: Path) -> None:
    texts = helper.make_tensor_value_info("x", TensorProto.STRING, [2])
    outputs = [helper.make_tensor_value_info("y", TensorProto.STRING, [2])]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [texts], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    (candidate,), _ = candidates_of([tmp_path / "m.onnx"], {})
    with pytest.raises(ModelError, match="input 'x' is no tensor of numbers"):
        prepare(candidate)


def test_the_light_models_are_nine_networks() -> None:
    assert len(light_models()) == 9
    assert all(each.path.is_file() for each in light_models())


def test_figures_that_are_not_known_are_said_so() -> None:
    errors: dict[str, Any] = {"median": 0.1, "mean": 0.1, "worst": 0.1, "within_10_percent": 1.0, "networks": 1}
    network = {"name": "n|m", "path": "n", "weights": "file", "bindings": {}, "assumed_bindings": {}, "unpriced": []}
    network |= {"measured_s": 1.0, "spread": 1.02, "predicted_s": 1.1, "predicted_low_s": 0.9, "predicted_high_s": 1.3}
    network |= {"error": 0.1, "covered": True, "deployed_s": 1.0, "deployed_error": 0.0, "measured_j": None}
    network |= {"predicted_j": 3.0, "energy_error": None, "macs": 1, "transistor_operations": 1, "moved_bytes": 1}
    document = {
        "schema": "onnx_aiwq.validation/1",
        "tool": {"name": "onnx_aiwq", "version": "0"},
        "hardware": {"id": "h", "name": "H", "source": "modelled", "provider": None, "threads": None}
        | {"optimization": time_model().level},
        "interval": 0.9,
        "meter": None,
        "networks": [{**network, "kernels": []}],
        "summary": {
            **{view: {**errors, "rank_correlation": None} for view in ("exported", "deployed")},
            "joules": None,
            "interval_coverage": 1.0,
            "baselines": {},
        },
        "warnings": [],
    }
    assert problems("validation-1", document) == []
    text = render_validation(document, "markdown")
    assert "n\\|m" in text and "+10.0%" in text and "unknown" in text and "none measured here" in text
    assert json.loads(render_validation(document, "json")) == document
