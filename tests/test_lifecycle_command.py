"""`aiwq lifecycle`, and the options of `aiwq analyze` for workload, life cycle and carbon, as command lines."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from processes import aiwq
from schemas import problems

DAY = "hour,g_per_kwh\n" + "".join(f"{hour},{100 + 10 * hour}\n" for hour in range(24))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("box")
    weights = [numpy_helper.from_array(np.zeros((8, 4), np.float32), "W")]
    nodes = [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Relu", ["M"], ["Y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in (("X", 8), ("Y", 4))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), folder / "small.onnx")
    unknown = helper.make_graph([helper.make_node("Foo", ["X"], ["Y"], domain="acme")], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(unknown, opset_imports=opsets), folder / "unknown.onnx")
    (folder / "day.csv").write_text(DAY, encoding="utf-8")
    (folder / "life.toml").write_text(run(folder, "lifecycle", "--example").stdout, encoding="utf-8")
    text = (folder / "life.toml").read_text(encoding="utf-8")
    with_file = text.replace("forward_flops = 670 ", 'file = "../box/small.onnx" #').replace("../box/", "")
    (folder / "model.toml").write_text(with_file, encoding="utf-8")
    (folder / "unset.toml").write_text(text.split("[model]")[0], encoding="utf-8")
    (folder / "bad.toml").write_text(text.replace("epochs", "epoch"), encoding="utf-8")
    (folder / "latin.toml").write_bytes(b"\xff\xfe")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return aiwq(folder, {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}, *arguments)


def answer(folder: Path, *arguments: str) -> Any:
    done = run(folder, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def validate(report: Any) -> None:
    assert problems("report-1", report) == []


# --- lifecycle ---------------------------------------------------------------------------------------------------


def test_the_example_gives_the_ecal_of_the_paper(box: Path) -> None:
    found = answer(box, "lifecycle", "life.toml")
    assert found["ecal"]["joules_per_bit"] == 2.1064449058549858e-06
    assert found["carbon"] is None
    keys = {"joules", "bits", "joules_per_bit", "development_j", "inference_j", "by_stage", "break_even_inferences"}
    assert keys <= set(found["ecal"])
    covered = [joules for joules in found["ecal"]["by_stage"].values() if joules is not None]
    assert sum(covered) == pytest.approx(found["ecal"]["joules"])
    assert round(found["ecal"]["break_even_inferences"]) == 935


def test_carbon_comes_with_a_region_a_number_or_an_hour(box: Path) -> None:
    joules = answer(box, "lifecycle", "life.toml")["ecal"]["joules"]
    germany = answer(box, "lifecycle", "life.toml", "--region", "DEU@2023/2025")["carbon"]
    assert germany["operational_g"] == pytest.approx(joules / 3.6e6 * 371.31064)
    assert (germany["year"], germany["vintage"]) == (2023, "2025")
    hour = answer(box, "lifecycle", "life.toml", "--carbon-profile", "day.csv", "--hour", "3")["carbon"]
    assert hour["operational_g"] == pytest.approx(joules / 3.6e6 * 130)
    assert hour["hour"] == 3
    assert hour["scope"] == "component"


def test_a_model_file_stands_beside_the_life_cycle(box: Path) -> None:
    done = run(box.parent, "lifecycle", str(box / "model.toml"), "--format", "json")
    found = json.loads(done.stdout)["ecal"]
    assert found["details"]["forward_flops"] == 32 + 28 + 4
    assert "any basic operation" in found["basis"]["inference"]
    assert "batch is not bound" in done.stderr
    assert "8 of 32 bit" in done.stderr  # the file says 10 values of 64 bit


def test_a_sweep_falls_towards_the_limit(box: Path) -> None:
    found = answer(box, "lifecycle", "life.toml", "--sweep-inferences", "100:1e8:x10", "--region", "FIN")
    points = found["sweep"]
    assert [point["inferences"] for point in points] == [10**power for power in range(2, 9)]
    per_bit = [point["joules_per_bit"] for point in points]
    assert per_bit == sorted(per_bit, reverse=True)
    assert per_bit[0] == 2.1064449058549858e-06
    assert per_bit[-1] == pytest.approx(7.245453446726396e-07, rel=1e-12)
    assert points[-1]["over_limit"] == pytest.approx(1, rel=1e-4)
    assert all(point["operational_g"] > 0 for point in points)
    rows = list(
        csv.DictReader(
            io.StringIO(run(box, "lifecycle", "life.toml", "--sweep-inferences", "1:3:+1", "--format", "csv").stdout)
        )
    )
    assert [row["inferences"] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_other_forms_name_every_stage_and_its_basis(box: Path, form: str) -> None:
    done = run(box, "lifecycle", "life.toml", "--region", "DEU", "--format", form)
    assert done.returncode == 0
    for word in ("collection", "training", "virtualization", "constant 1.4e-08 J/FLOP", "total"):
        assert word in done.stdout
    if form != "csv":
        for word in ("2.1064449e-06 J/bit", "935 inferences", "2026 vintage"):
            assert word in done.stdout


def test_inferences_of_the_command_win(box: Path) -> None:
    found = answer(box, "lifecycle", "life.toml", "--inferences", "10000")["ecal"]
    assert found["joules_per_bit"] == pytest.approx(7.725083353875172e-07, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("lifecycle", ("FILE", "--example")),
        ("lifecycle bad.toml", ("bad.toml", "line ", "[training] epoch", "'epochs'")),
        ("lifecycle latin.toml", ("latin.toml", "UTF-8")),
        ("lifecycle .", ("directory",)),
        ("lifecycle none.toml", ("no such file",)),
        ("lifecycle unset.toml", ("[model]", "analyze")),
        ("lifecycle life.toml --inferences 0", ("--inferences 0",)),
        ("lifecycle life.toml --sweep-inferences 100", ("--sweep-inferences", "100:1e8:x10")),
        ("lifecycle life.toml --sweep-inferences 100:1:x10", ("--sweep-inferences",)),
        ("lifecycle life.toml --sweep-inferences 1:1e8:+1", ("more than 1000 points",)),
        ("lifecycle life.toml --sweep-inferences nan:inf:x2", ("--sweep-inferences",)),
        ("lifecycle life.toml --utilization 0 --hour 3", ("--hour 3",)),
        ("lifecycle life.toml --format html", ("--format", "html")),
        ("analyze small.onnx --lifecycle bad.toml", ("epoch",)),
        ("analyze small.onnx --carbon-profile life.toml", ("--carbon-profile", "line 1")),
        ("analyze small.onnx --carbon-profile day.csv --hour 24", ("--hour 24", "23")),
        ("analyze small.onnx --carbon-profile day.csv --hour -1", ("--hour -1",)),
        ("analyze small.onnx --hour 3", ("--carbon-profile",)),
        ("analyze small.onnx --carbon-profile day.csv --carbon-intensity 3", ("give one of them",)),
        ("analyze small.onnx --utilization 0", ("utilization",)),
        ("analyze small.onnx --utilization 1.2", ("utilization",)),
        ("analyze small.onnx --temperature 0", ("temperature",)),
        ("analyze small.onnx --negative-share 2", ("negative share",)),
        ("analyze small.onnx --per users", ("--per", "'user'")),
        ("analyze small.onnx --per user", ("--inferences-per-user N",)),
        ("analyze small.onnx --inferences-per-request 3", ("--per request",)),
        ("analyze small.onnx --comp-res cpu_gip=3", ("--comp-res", "'cpu_gips'")),
        ("analyze small.onnx --comp-res cpu_gips", ("--comp-res", "NAME=NUMBER")),
        ("analyze small.onnx --comp-res cpu_gips=nan", ("--comp-res",)),
        ("analyze small.onnx --data-scale-bits 0", ("--data-scale-bits",)),
        ("analyze small.onnx --latency -1 1", ("latency",)),
        ("analyze small.onnx --embodied-kg -1", ("--embodied-kg",)),
        ("analyze small.onnx --lifetime-years 0", ("--lifetime-years",)),
        ("analyze small.onnx --region DEU@1999", ("DEU@1999", "DEU@2023/2025")),
        ("analyze small.onnx --residual-human-hours 1", ("--human-hours",)),
    ],
)
def test_refusals_are_one_line_and_exit_code_2(box: Path, arguments: str, fragments: tuple[str, ...]) -> None:
    done = run(box, *arguments.split(" "))
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, lines
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    for fragment in fragments:
        assert fragment in lines[0]


# --- analyze -----------------------------------------------------------------------------------------------------


def test_a_life_cycle_around_an_analysed_model(box: Path) -> None:
    report = answer(
        box, "analyze", "small.onnx", "--lifecycle", "life.toml", "--hardware", "nvidia-l4", "--region", "DEU"
    )
    validate(report)
    ecal = report["ecal"]
    assert ecal["inferences"] == 100  # of the file
    assert ecal["details"]["forward_flops"] == 64
    assert ecal["development_j"] > 0
    assert report["carbon"]["covers"].startswith("life cycle: collection, preprocessing, training")
    assert any("[model]" in line for line in report["warnings"])
    other = answer(box, "analyze", "small.onnx", "--lifecycle", "life.toml", "--inferences", "7")
    assert other["ecal"]["inferences"] == 7


def test_resource_cost_times_the_intensity_is_the_operational_carbon(box: Path) -> None:
    options = "--pue 1.4 --utilization 0.25 --carbon-intensity 250 --hardware nvidia-l4 --inferences 10"
    report = answer(box, "analyze", "small.onnx", *options.split())
    validate(report)
    cost, energy = report["workload"]["resource_cost"], report["energy"]
    assert report["carbon"]["operational_g"] == pytest.approx(10 * cost["joules"] / 3.6e6 * 250)
    assert cost["joules"] == pytest.approx(1.4 * energy["joules"])
    assert cost["system_j"] == pytest.approx(energy["system_j"] + 0.4 * energy["joules"])
    whole = answer(box, "analyze", "small.onnx", "--hardware", "nvidia-l4")["energy"]
    assert energy["system_j"] == pytest.approx(4 * whole["system_j"])
    assert energy["utilization"] == 0.25


def test_workload_options_reach_the_report(box: Path) -> None:
    options = (
        "--comp-res cpu_gips=40,ram_gt_per_s=5,gpu_gips=0,storage_gb_per_s=0.5 --data-scale-bits 1e6 --latency 0.02 5 "
        "--bandwidth 1e9 1e-10 --measured-seconds 600 --human-hours 0.018611 --residual-human-hours 0.01 "
        "--human-cost-per-hour 30 --temperature 150 --negative-share 0.2"
    )
    report = answer(box, "analyze", "small.onnx", *options.split())
    validate(report)
    workload = report["workload"]
    assert workload["comp_res"] == pytest.approx(0.0926, abs=5e-5)
    assert workload["ai_workload"] == pytest.approx(0.000154, abs=6e-7)
    assert workload["ai_impact"] == pytest.approx(0.00828, rel=4e-3)
    assert workload["ext_factor"] == pytest.approx(0.2)
    assert workload["comp_res_missing"] == []
    assert workload["human"]["saving"] == pytest.approx((0.018611 - 0.01) * 30)
    assert report["energy"]["temperature_k"] == 150
    text = run(box, "analyze", "small.onnx", *options.split()).stdout
    for caveat in (
        "units are mixed",
        "by the equations a slower run gives less than 1",
        "'1 unit is 12 to 14 human hours'",
    ):
        assert caveat in text


@pytest.mark.parametrize(
    ("options", "unit", "inferences"),
    [
        ("--per 1000", "1000 inferences", 1000),
        ("--per user --inferences-per-user 30", "user", 30),
        ("--per request --inferences-per-request 4", "request", 4),
    ],
)
def test_sci_per_functional_unit(box: Path, options: str, unit: str, inferences: int) -> None:
    report = answer(box, "analyze", "small.onnx", "--hardware", "reference-cpu", "--inferences", "50", *options.split())
    validate(report)
    sci, carbon = report["carbon"]["sci"], report["carbon"]
    assert (sci["per"], sci["inferences"]) == (unit, inferences)
    assert sci["g"] == pytest.approx(inferences * carbon["sci_g_per_inference"])
    assert unit in run(box, "analyze", "small.onnx", *options.split()).stdout


def test_embodied_of_ones_own(box: Path) -> None:
    report = answer(
        box, "analyze", "small.onnx", "--hardware", "nvidia-l4", "--embodied-kg", "150", "--lifetime-years", "5"
    )
    seconds = report["energy"]["seconds"]
    assert report["carbon"]["embodied_g"] == pytest.approx(150_000 * seconds / (5 * 31_557_600))
    assert "--embodied-kg" in report["carbon"]["embodied_source"]


def test_unknown_energy_is_null_everywhere_and_never_zero(box: Path) -> None:
    report = answer(box, "analyze", "unknown.onnx", "--human-hours", "1", "--human-cost-per-hour", "3")
    validate(report)
    numbers = (
        "joules joules_low joules_high seconds seconds_low seconds_high compute_j data_j system_j landauer_j eta_comp"
    )
    assert {report["energy"][key] for key in numbers.split()} == {None}
    assert {report["ecal"][key] for key in ("joules", "joules_per_bit", "inference_j")} == {None}
    assert {report["carbon"][key] for key in ("operational_g", "embodied_g", "total_g", "sci_g_per_inference")} == {
        None
    }
    assert (report["workload"]["aw_base"], report["workload"]["human"]["impact"]) == (None, None)
    for form in ("table", "markdown"):
        text = run(box, "analyze", "unknown.onnx", "--format", form).stdout
        assert "unknown" in text
        assert "0 J" not in text
        assert " 0 g" not in text
    assert "energy, eCAL and CO2 are unknown" in run(box, "analyze", "unknown.onnx").stderr


def test_regions_show_both_vintages_of_2023(box: Path) -> None:
    text = run(box, "regions", "DEU").stdout
    assert "365.03 gCO2e/kWh in the 2026 vintage" in text
    assert "371.311 gCO2e/kWh in the 2025 vintage" in text
    assert "365.03" in run(box, "regions", "DEU@2023").stdout
