"""The levers of `aiwq advise`: numbers derived by hand on a small network, properties, and the command as a process."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec.structs import replace as changed
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq.advise import Advice, Lever, advise
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.hardware_profile import Coefficient, Factors, HardwareProfile, Interval
from processes import aiwq
from schemas import problems
from test_package import commands_in, links_in, problem_of

ROOT = Path(__file__).parents[1]

# Transistors per operation, from the TO table: (add, mul, compare).
FLOAT32, FLOAT16, INT8 = (236, 12_736, 316), (106, 2_709, 156), (76, 1_406, 76)
INT32_ADD = 316
# X[8, 4] @ W[4, 2], Relu of [8, 2]: 16 results of 4 products.
MUL, ADD, COMPARE = 64, 48, 16
# One joule per TO and per bit, no time: joules can be added up by hand. The interval is x 0.5 to x 2.
UNIT_JOULE = HardwareProfile(
    schema="onnx_aiwq.profile/1",
    id="by-hand",
    name="by hand",
    kind="cpu",
    source="modelled",
    coefficients=(Coefficient(family="*", dtype="*", seconds_per_to=0.0, joules_per_to=1.0),),
    seconds_per_byte=0.0,
    joules_per_bit=1.0,
    static_watts=0.0,
    interval=Interval(
        seconds=Factors(low_factor=1, high_factor=1, basis="given"),
        joules=Factors(low_factor=0.5, high_factor=2, basis="given"),
    ),
)


def small_model(batch: int | str = "batch") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Relu", ["M"], ["Y"])],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 2), np.float32), "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def advice(**options: Any) -> Advice:
    return advise(small_model(), **{"bind": {"batch": 8}, "hardware": UNIT_JOULE, **options})


def lever(given: Advice, change: str) -> Lever:
    return next(each for each in given.levers if each.change == change)


def joules(given: Advice, change: str) -> float:
    after = lever(given, change).after
    assert after is not None and after.joules is not None
    return after.joules


def dense(costs: tuple[int, int, int]) -> int:
    return MUL * costs[1] + ADD * costs[0]


# Bits moved in float32: MatMul reads X (32 values) and W (8) and writes M (16); Relu reads and writes 16.
BITS = 32 * (32 + 8 + 16 + 16 + 16)
BEFORE = dense(FLOAT32) + COMPARE * FLOAT32[2] + BITS


def test_the_baseline_is_that_of_the_report_by_hand() -> None:
    given = advice()
    assert given.baseline.joules == BEFORE == given.report.energy.joules
    assert (given.baseline.joules_low, given.baseline.joules_high) == (BEFORE / 2, BEFORE * 2)
    assert given.baseline.stored_bytes == 8 * 4
    assert given.baseline.ecal_joules_per_bit == pytest.approx(BEFORE / (32 * 32), rel=1e-12)


def test_float16_recounts_every_operator() -> None:
    given = advice()
    expected = dense(FLOAT16) + COMPARE * FLOAT16[2] + BITS // 2
    assert joules(given, "float32 to float16") == expected
    found = lever(given, "float32 to float16")
    assert found.after is not None and found.after.stored_bytes == 16
    assert (found.after.joules_low, found.after.joules_high) == (expected / 2, expected * 2)
    assert found.after.grams == pytest.approx(expected / 3.6e6 * given.report.carbon.grid.intensity_g_per_kwh)
    assert found.after.ecal_joules_per_bit == pytest.approx(expected / (32 * 32))
    assert any("accuracy" in line for line in found.unknown)


def test_int8_recounts_the_product_alone() -> None:
    product = MUL * INT8[1] + ADD * INT32_ADD
    bits = 8 * (32 + 8) + 32 * (16 + 16 + 16)
    given = advice()
    assert joules(given, "float32 to int8") == product + COMPARE * FLOAT32[2] + bits
    after = lever(given, "float32 to int8").after
    assert after is not None and after.stored_bytes == 8


def test_int4_is_only_stored_where_the_profile_prices_int8_alone() -> None:
    priced = (*UNIT_JOULE.coefficients, Coefficient(family="*", dtype="int8", seconds_per_to=0.0, joules_per_to=2.0))
    given = advice(hardware=changed(UNIT_JOULE, coefficients=priced))
    product = 2 * MUL * INT8[1] + ADD * INT32_ADD
    bits = 4 * (32 + 8) + 32 * (16 + 16 + 16)
    assert joules(given, "float32 to int4") == product + COMPARE * FLOAT32[2] + bits
    assert lever(given, "float32 to int4").details["arithmetic"] == "int8"


def test_unstructured_pruning_with_and_without_a_sparse_runtime() -> None:
    given = advice()
    expected = dense(FLOAT32) // 2 + COMPARE * FLOAT32[2] + BITS - 32 * 4
    assert joules(given, "50 % of weights pruned, unstructured, sparse runtime") == expected
    assert joules(given, "50 % of weights pruned, unstructured, dense runtime") == BEFORE
    for runtime in ("sparse", "dense"):
        after = lever(given, f"75 % of weights pruned, unstructured, {runtime} runtime").after
        assert after is not None and after.stored_bytes == 8


def test_structured_pruning_is_quadratic_in_dense_products_and_linear_elsewhere() -> None:
    bits = 32 * (8 // 4 + (32 + 16 + 16 + 16) // 2)
    expected = dense(FLOAT32) // 4 + COMPARE * FLOAT32[2] // 2 + bits
    assert joules(advice(), "50 % of channels pruned") == expected


def test_half_a_batch_is_compared_at_the_same_work() -> None:
    found = lever(advice(), "batch 8 to 4")
    once = BEFORE - 32 * 8  # everything but the weights halves
    assert found.after is not None and found.after.joules == once + 2 * 32 * 8
    assert found.details["joules_per_inference_after"] == once / 2 + 32 * 8 < BEFORE
    assert found.details["joules_per_element_before"] == BEFORE / 8
    assert found.saved_joules == -32 * 8  # weights are read twice
    assert found.after.ecal_joules_per_bit == pytest.approx(found.after.joules / (32 * 32))


def test_half_a_sequence_is_less_work_and_never_costs_more() -> None:
    given = advise(small_model("sequence"), bind={"sequence": 8}, hardware=UNIT_JOULE)
    found = lever(given, "sequence 8 to 4")
    assert found.after is not None and found.after.joules == (BEFORE - 32 * 8) / 2 + 32 * 8
    assert found.saved_joules is not None and found.saved_joules > 0


def test_an_unbound_or_fixed_dimension_is_listed_with_its_reason() -> None:
    unbound = advise(small_model(), hardware=UNIT_JOULE)
    assert "--bind batch=N" in lever(unbound, "half of batch").reason
    fixed = advise(small_model(8), hardware=UNIT_JOULE)
    assert "fixes every dimension" in lever(fixed, "half of a dimension").reason


def test_region_hour_and_hardware(tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    rows = "".join(f"{hour},{100 if hour == 3 else 400}\n" for hour in range(24))
    day.write_text(f"hour,g_per_kwh\n{rows}", encoding="utf-8")
    given = advice(carbon_profile=day, hour=12)
    found = lever(given, "hour 12 to hour 3")
    assert found.after is not None and found.after.grams == pytest.approx(BEFORE / 3.6e6 * 100)
    assert found.to_dict()["saving"]["grams_share"] == pytest.approx(0.75)
    assert found.saved_joules == 0
    moved = advice(region="aws:us-east-1", try_regions=["DEU@2023/2026"], try_hardware=["nvidia-l4"])
    place = lever(moved, "aws:us-east-1 to DEU@2023/2026")
    assert place.after is not None
    assert place.after.grams == pytest.approx(BEFORE / 3.6e6 * 365.03 * moved.report.carbon.grid.pue, rel=1e-4)
    assert {each.change for each in moved.levers if each.name == "hardware"} == {"by-hand to nvidia-l4"}


def test_without_names_the_same_provider_and_the_same_kind_are_tried() -> None:
    given = advice(region="aws:us-east-1")
    places = [each.change for each in given.levers if each.name == "region"]
    assert len(places) == 1 and places[0].startswith("aws:us-east-1 to aws:")
    assert sum(each.name == "hardware" for each in given.levers) == 3


def test_utilization_spreads_static_power() -> None:
    static = changed(UNIT_JOULE, static_watts=10.0, seconds_per_run=1.0)
    assert joules(advice(hardware=static), "utilization 1 to 0.5") == BEFORE + 20


def test_fewer_retrainings_need_a_life_cycle(tmp_path: Path) -> None:
    assert "--lifecycle" in lever(advice(), "half of the epochs").reason
    life = tmp_path / "life.toml"
    life.write_text("[data]\nsamples = 100\n[training]\nepochs = 8\nsplit = 0.5\n", encoding="utf-8")
    given = advise(small_model(), hardware="nvidia-l4", lifecycle=life)
    found = lever(given, "8 to 4 epochs")
    training_j = given.report.ecal.by_stage["training"]
    assert training_j is not None and found.saved_joules == pytest.approx(training_j / 2)
    assert found.before.joules == given.report.ecal.joules


def test_what_a_life_cycle_cannot_see_is_not_a_saving_of_zero(tmp_path: Path) -> None:
    life = tmp_path / "life.toml"
    text = "[data]\nsamples = 100\n[training]\nepochs = 8\nsplit = 0.5\n[compute]\njoules_per_flop = 1e-9\n"
    life.write_text(text, encoding="utf-8")
    given = advise(small_model(), bind={"batch": 8}, hardware="nvidia-l4", lifecycle=life)
    for change in ("float32 to float16", "float32 to int8", "utilization 1 to 0.5", "batch 8 to 4"):
        found = lever(given, change)
        assert found.after is None and "life cycle" in found.reason
    pruned = lever(given, "50 % of weights pruned, unstructured, sparse runtime")
    assert pruned.saved_joules is not None and pruned.saved_joules > 0, "a rate per FLOP sees fewer FLOPs"


def test_levers_are_sorted_by_saving_and_unknown_ones_come_last() -> None:
    levers = advice().levers
    saved = [each.saved_grams for each in levers]
    known = [each for each in saved if each is not None]
    assert known == sorted(known, reverse=True)
    assert saved == known + [None] * (len(saved) - len(known))
    assert all(each.reason for each in levers if each.after is None)
    assert all(each.assumes and each.unknown for each in levers if each.after is not None)


def test_a_model_without_weights_or_float32_says_so() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["X"], ["Y"])],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT16, [2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT16, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    given = advise(model, hardware=UNIT_JOULE)
    assert all(each.after is None and each.reason for each in given.levers if each.name in ("precision", "pruning"))


@pytest.mark.parametrize("wrong", [{"try_hardware": ["nope"]}, {"try_regions": ["nope"]}, {"bind": {"nope": 2}}])
def test_bad_choices_are_errors_of_ours(wrong: dict[str, Any]) -> None:
    with pytest.raises(AiwqError):
        advice(**wrong)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("advise")
    onnx.save(small_model(), made / "small.onnx")
    return made


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return aiwq(folder, {}, "advise", *arguments)


def test_the_json_document(folder: Path) -> None:
    done = command(folder, "small.onnx", "--bind", "batch=8", "--hardware", "reference-cpu", "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert problems("advice-1", document) == []
    assert list(document) == ["schema", "model", "baseline", "levers", "warnings"]
    assert document["schema"] == "onnx_aiwq.advice/1"
    for each in document["levers"]:
        assert set(each) == {
            *("name", "change", "before", "after", "saving", "assumes", "unknown", "reason", "details"),
        }
        assert (each["after"] is None) == (each["reason"] is not None)
        assert set(each["before"]) <= set(document["baseline"])
        if each["after"] is not None:
            after = each["after"]
            assert after["joules_low"] <= after["joules"] <= after["joules_high"]
            assert math.isclose(each["saving"]["joules"], each["before"]["joules"] - after["joules"])


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_the_other_forms_name_every_lever(folder: Path, form: str) -> None:
    plain = ("small.onnx", "--bind", "batch=8", "--hardware", "reference-cpu", "--format")
    levers = json.loads(command(folder, *plain, "json").stdout)["levers"]
    done = command(folder, *plain, form)
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace("\\_", "_")
    assert all(each["change"] in text for each in levers)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert [float(row["joules_before"]) for row in rows] == [each["before"]["joules"] for each in levers]
        saved = [each["saving"]["joules"] for each in levers]
        assert [float(row["joules_saved"]) if row["joules_saved"] else None for row in rows] == saved
        assert min(number for number in saved if number is not None) < 0, "negative numbers are numbers, not text"
        assert [row["reason"] for row in rows] == [each["reason"] or "" for each in levers]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--format", "xml"),
        ("--convention", "none"),
        ("--try-hardware", "nope"),
        ("--try-region", "nope"),
        ("--utilization", "0"),
        ("--bind", "batch"),
        ("--hour", "3"),
        ("--sweep", "batch=1:4"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_2(folder: Path, wrong: tuple[str, ...]) -> None:
    done = command(folder, "small.onnx", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("aiwq: ") and "bug" not in done.stderr


@pytest.mark.parametrize(
    ("name", "bind"),
    [
        ("mobilenet-v2.dynamo", {"batch": 4}),
        ("bert-base.dynamo", {"batch": 2, "sequence": 128}),
        ("lstm.torchscript", {}),
        ("mobilenet-v2.qdq-int8", {}),
    ],
)
def test_real_models(name: str, bind: dict[str, int]) -> None:
    given = advise(ROOT / "models" / f"{name}.onnx", bind=bind, hardware="nvidia-l4", region="gcp:europe-west3")
    narrower = [each for each in given.levers if each.name == "precision" and each.after is not None]
    assert narrower and all(each.saved_joules is not None and each.saved_joules > 0 for each in narrower)
    pruned = [each for each in given.levers if "sparse runtime" in each.change]
    saved = [each.saved_joules or 0.0 for each in sorted(pruned, key=lambda each: each.change)]
    assert saved == sorted(saved) and saved[0] > 0
    assert all(each.after.stored_bytes for each in given.levers if each.after is not None)
    for each in given.levers:
        if each.name == "dimension" and each.after is not None:
            assert each.details["joules_per_inference_after"] <= each.details["joules_per_inference_before"]


def test_the_page_shows_commands_and_links_that_exist() -> None:
    page = (ROOT / "docs" / "advise.md").read_text(encoding="utf-8")
    commands = list(commands_in(page))
    assert len(commands) == 4
    assert [problem for words in commands if (problem := problem_of(words))] == []
    assert all((ROOT / "docs" / link).exists() for link in links_in(page))
