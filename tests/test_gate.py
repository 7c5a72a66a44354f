"""The gate: budgets, units, intervals, baselines, policies, and the files that CI systems read."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from jsonschema import Draft4Validator
from onnx import helper

import onnx_aiwq as aiwq_package
from gating import EVIL, HIGH, LOW, Aiwq, dense, joules, profile, refused, transistors, with_sigmoid
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.gating.policy import matches
from onnx_aiwq.quantities import METRICS, parse_share, parse_value
from schemas import problems

DATA = Path(__file__).parent / "data"
NAMES = ["energy", "seconds", "co2e", "ecal", "transistor_operations", "macs", "peak_memory", "parameters"]


def validated(verdict: dict[str, Any]) -> dict[str, Any]:
    assert problems("verdict-1", verdict) == []
    return verdict


@pytest.fixture
def aiwq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aiwq:
    """The command in an empty folder, without profiles of this user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    dense(tmp_path / "small.onnx")
    profile(tmp_path / "round.json")
    return Aiwq(monkeypatch, capsys)


@pytest.fixture
def gate(aiwq: Aiwq) -> Callable[..., Any]:
    """`aiwq gate small.onnx` with batch 3 on the profile of round numbers."""
    return lambda *arguments: aiwq("gate", "small.onnx", "--bind", "batch=3", "--hardware", "round.json", *arguments)


# --- budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ("macs=96", 0),
        ("macs=95", 1),
        ("macs=0.096 k", 0),
        ("macs=0", 1),
        (f"transistor_operations={transistors(3, 4)}", 0),
        (f"transistor_operations={transistors(3, 4) - 1}", 1),
        ("parameters=32", 0),
        ("parameters=31", 1),
        ("peak_memory=272 B", 0),  # 32 weights, then 8 x 3 + 4 x 3 activations, of 4 bytes
        ("peak_memory=271 B", 1),
        ("peak_memory=1 KiB", 0),
        ("energy=3 kJ", 0),
        ("co2e=1 kg", 0),
        ("ecal=1 J/bit", 0),
        ("seconds=1 min", 0),
    ],
)
def test_budget_decides_by_the_exact_value(gate: Callable[..., Any], budget: str, code: int) -> None:
    done = gate("--budget", budget, "--format", "json")
    verdict = validated(done.json)
    assert (done.code, verdict["passed"]) == (code, code == 0)
    assert [check["name"] for check in verdict["checks"]] == [budget.partition("=")[0]]


def test_only_the_low_end_over_the_budget_fails(gate: Callable[..., Any]) -> None:
    value = joules(3, 4)
    for share, code, status in ((LOW * 0.99, 1, "failed"), (LOW * 1.01, 0, "undecided"), (1.0, 0, "undecided"),
                                (HIGH * 0.99, 0, "undecided"), (HIGH * 1.01, 0, "passed")):  # fmt: skip
        done = gate("--budget", f"energy={value * share:.9g} J", "--format", "json")
        (check,) = validated(done.json)["checks"]
        assert (done.code, check["status"], check["passed"]) == (code, status, code == 0)
        assert check["value"] == pytest.approx(value)
        assert (check["low"], check["high"]) == (pytest.approx(value * LOW), pytest.approx(value * HIGH))
        assert ("could not be told apart" in check["reason"]) == (status == "undecided")


def test_metrics_are_those_of_the_report(gate: Callable[..., Any], aiwq: Aiwq) -> None:
    budgets = [f"--budget={name}={METRICS[name].example}" for name in NAMES]
    checks = {check["name"]: check for check in gate(*budgets, "--region", "DEU", "--format", "json").json["checks"]}
    report = aiwq("analyze", "small.onnx", "--bind", "batch=3", "--hardware", "round.json", "--region", "DEU",
                  "--format", "json").json  # fmt: skip
    bits = 3 * 8 * 32
    grams = joules(3, 4) / 3.6e6 * report["carbon"]["intensity_g_per_kwh"]
    expected = {
        "energy": (joules(3, 4), joules(3, 4) * LOW, joules(3, 4) * HIGH),
        "seconds": tuple(transistors(3, 4) * 1e-9 * factor for factor in (1, LOW, HIGH)),
        "co2e": (grams, grams * LOW, grams * HIGH),
        "ecal": tuple(joules(3, 4) / bits * factor for factor in (1, LOW, HIGH)),
        "transistor_operations": (transistors(3, 4),) * 3,
        "macs": (96,) * 3,
        "peak_memory": (272,) * 3,
        "parameters": (32,) * 3,
    }
    assert set(checks) == set(expected)
    for name, values in expected.items():
        assert [checks[name][key] for key in ("value", "low", "high")] == pytest.approx(list(values)), name
    assert report["totals"]["peak_activation_bytes"] + report["model"]["parameter_bytes"] == 272


EVERY_OPTION = (
    "--bind", "batch=3", "--hardware", "busy.json", "--carbon-profile", "day.csv", "--hour", "3", "--pue", "1.5",
    "--utilization", "0.5", "--embodied-kg", "10", "--lifetime-years", "3", "--inferences", "7", "--level", "training",
    "--loss", "mse", "--optimizer", "adam", "--mini-batch", "4", "--bp", "batch", "--convention", "paper",
)  # fmt: skip


def test_every_option_of_analyze_counts_in_gate_compare_and_baseline(aiwq: Aiwq, tmp_path: Path) -> None:
    """Each of them changes a number, and the four commands agree on it."""
    profile(tmp_path / "busy.json", static_watts=5.0)
    hours = "\n".join(f"{hour},{100 + hour}" for hour in range(24))
    (tmp_path / "day.csv").write_text(f"hour,g_per_kwh\n{hours}\n", encoding="utf-8")
    report = aiwq("analyze", "small.onnx", *EVERY_OPTION, "--format", "json").json
    assert (report["carbon"]["intensity_g_per_kwh"], report["ecal"]["inferences"]) == (103, 7)
    expected = {name: METRICS[name].read(report) for name in NAMES}

    budgets = [f"--budget={name}={METRICS[name].example}" for name in NAMES]
    checks = aiwq("gate", "small.onnx", *EVERY_OPTION, *budgets, "--format", "json").json["checks"]
    (row,) = aiwq("compare", "small.onnx", *EVERY_OPTION, "--format", "json").json["rows"]
    assert aiwq("baseline", "update", "small.onnx", *EVERY_OPTION, "--baseline", "saved").code == 0
    (saved,) = (tmp_path / "saved").rglob("*.json")
    written = json.loads(saved.read_text(encoding="utf-8"))
    for name, quantity in expected.items():
        assert quantity is not None
        (check,) = (check for check in checks if check["metric"] == name)
        for found in (check, row["metrics"][name]):
            assert (found["value"], found["low"], found["high"]) == pytest.approx(
                (quantity.value, quantity.low, quantity.high)
            ), name
        there = METRICS[name].read(written)
        assert there is not None
        assert there.value == pytest.approx(quantity.value)

    changed = {"--bind": "batch=2", "--hour": "4", "--pue": "1.6", "--utilization": "0.6", "--embodied-kg": "11",
               "--lifetime-years": "4", "--mini-batch": "5", "--optimizer": "sgd", "--bp": "instance",
               "--convention": "default", "--level": "inference"}  # fmt: skip
    for option, value in changed.items():
        index = EVERY_OPTION.index(option) + 1
        other = aiwq("compare", "small.onnx", *EVERY_OPTION[:index], value, *EVERY_OPTION[index + 1 :],
                     "--format", "json").json["rows"][0]["metrics"]  # fmt: skip
        assert other != row["metrics"], option


def test_grams_and_ecal_of_a_life_cycle_have_its_interval(gate: Callable[..., Any], aiwq: Aiwq) -> None:
    """Of a whole life cycle only some stages are predicted; what was given has no interval."""
    report = aiwq("analyze", "small.onnx", "--bind", "batch=3", "--hardware", "round.json", "--format", "json").json
    ecal = {**report["ecal"], "joules": 10.0, "joules_low": 9.0, "joules_high": 14.0, "joules_per_bit": 2.0}
    carbon = {**report["carbon"], "operational_g": 5.0, "embodied_g": None, "covers": "life cycle: training"}
    whole = {**report, "ecal": ecal, "carbon": carbon}
    for metric, expected in (("ecal", [2.0, 1.8, 2.8]), ("co2e", [5.0, 4.5, 7.0])):
        found = METRICS[metric].read(whole)
        assert found is not None
        assert [found.value, found.low, found.high] == pytest.approx(expected)
    given = METRICS["ecal"].read({**whole, "ecal": {**ecal, "joules_low": None, "joules_high": None}})
    assert given is not None
    assert [given.value, given.low, given.high] == [2.0, 2.0, 2.0]


def test_grams_hold_the_share_of_the_hardware(gate: Callable[..., Any], tmp_path: Path) -> None:
    """Electricity follows the interval of joules, the hardware's share that of seconds."""
    wide = {"low_factor": 0.1, "high_factor": 3.0, "basis": "made up"}
    narrow = {"low_factor": 0.5, "high_factor": 2.0, "basis": "made up"}
    embodied = {"kgco2e": 1000.0, "lifetime_years": 4.0, "source": "made up"}
    profile(tmp_path / "round.json", interval={"level": 0.9, "seconds": wide, "joules": narrow}, embodied=embodied)
    (check,) = gate("--budget", "co2e=1 kg", "--carbon-intensity", "100", "--format", "json").json["checks"]
    electricity = joules(3, 4) / 3.6e6 * 100
    share = 1e6 * transistors(3, 4) * 1e-9 / (4 * 365.25 * 86400)
    assert check["value"] == pytest.approx(electricity + share)
    assert check["low"] == pytest.approx(electricity * 0.5 + share * 0.1)
    assert check["high"] == pytest.approx(electricity * 2 + share * 3)


def test_metric_that_is_not_known_is_no_answer(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx_aiwq.report import Report

    whole = Report.to_dict

    def unknown(self: Report) -> dict[str, Any]:
        entry = whole(self)
        return {**entry, "energy": {**entry["energy"], **dict.fromkeys(("joules", "joules_low", "joules_high"))}}

    monkeypatch.setattr(Report, "to_dict", unknown)
    for budget in ("energy=3 J", "co2e=1 g"):
        refused(aiwq("gate", "small.onnx", "--bind", "batch=1", "--budget", budget), budget.split("=")[0], "not known")


@pytest.mark.parametrize(
    ("metric", "text", "value"),
    [
        ("energy", "3 J", 3.0),
        ("energy", "3.5mJ", 3.5e-3),
        ("energy", "2 kWh", 7.2e6),
        ("energy", "2 Wh", 7200.0),
        ("energy", "1e3 µJ", 1e-3),
        ("seconds", "20 ms", 0.02),
        ("seconds", "2 h", 7200.0),
        ("co2e", "5 mg", 5e-3),
        ("co2e", "2 kg", 2000.0),
        ("ecal", "300 nJ/bit", 3e-7),
        ("macs", "1000", 1000),
        ("macs", "4.1 G", 4_100_000_000),
        ("macs", "5_000_000", 5_000_000),
        ("macs", "1e20", 10**20),
        ("transistor_operations", "9007199254740993", 2**53 + 1),
        ("transistor_operations", "53T", 53 * 10**12),
        ("peak_memory", "1 GiB", 2**30),
        ("peak_memory", "1.5 kB", 1500),
    ],
)
def test_values_with_units(metric: str, text: str, value: float) -> None:
    found = parse_value(METRICS[metric], text, "here")
    assert found == (value if isinstance(value, int) else pytest.approx(value, rel=1e-15))
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("budget", "fragments"),
    [
        ("energy=3", ("bare number", "energy=3 J")),
        ("seconds=0.02", ("bare number", "seconds=20 ms")),
        ("co2e=1", ("bare number",)),
        ("ecal=1", ("bare number", "J/bit")),
        ("peak_memory=200", ("bare number", "MB")),
        ("nonsense=3 J", ("'nonsense'", "energy")),
        ("enrgy=3 J", ("did you mean 'energy'?",)),
        ("energy=3 s", ("'s'", "energy", "J")),
        ("energy=3 j", ("'j'", "did you mean 'J'")),
        ("macs=1.5", ("whole number",)),
        ("macs=3 J", ("'J'", "macs")),
        ("energy=-3 J", ("begin with a number",)),
        ("energy=many J", ("begin with a number",)),
        ("energy=nan J", ("begin with a number",)),
        ("energy=1e999 J", ("'9 J'",)),
        ("energy", ("METRIC=VALUE UNIT",)),
        ("=3 J", ("''",)),
        (f"{EVIL}=3 J", ("no metric",)),
        (f"energy=3 {EVIL}", ("no unit",)),
    ],
)
def test_budgets_that_do_not_read(gate: Callable[..., Any], budget: str, fragments: tuple[str, ...]) -> None:
    refused(gate("--budget", budget), "--budget", *fragments)


def test_options_that_do_not_fit(aiwq: Aiwq, gate: Callable[..., Any]) -> None:
    refused(aiwq("gate", "small.onnx", "--bind", "batch=3"), "small.onnx", "nothing to check", "--budget")
    refused(aiwq("gate"), "no model", "aiwq.toml")
    refused(aiwq("gate", "absent-*.onnx", "--budget", "macs=1"), "absent-*.onnx", "no file matches")
    refused(gate("--budget", "macs=1", "--budget", "macs=2"), "macs", "once")
    refused(gate("--budget", "macs=1", "--tolerance", "macs=5%"), "--tolerance", "--baseline")
    refused(gate("--budget", "macs=1", "--tolerance", "macs=5"), "percentage", "5%")
    refused(gate("--budget", "macs=1", "--tolerance", "5%"), "METRIC=5%", "default=5%")
    refused(gate("--budget", "macs=1", "--tolerance", "mac=5%"), "did you mean 'macs'?")
    refused(gate("--budget", "macs=1", "--format", "yaml"), "--format", "yaml")
    refused(gate("--budget", "macs=1", "--level", "traning"), "--level", "'training'")
    refused(gate("--budget", "macs=1", "--policy", "absent.toml"), "absent.toml")
    refused(gate("--budget", "macs=1", "--bind", "bacth=3"), "bacth")


def test_warn_only_says_no_and_exits_with_0(gate: Callable[..., Any]) -> None:
    done = gate("--budget", "macs=1", "--warn-only", "--format", "json")
    assert (done.code, done.json["passed"]) == (0, False)


# --- unknown never passes ----------------------------------------------------------------------------------------


def test_unbound_dimension_is_no_answer(aiwq: Aiwq) -> None:
    refused(aiwq("gate", "small.onnx", "--budget", "macs=1000"), "small.onnx", "'batch'", "--bind batch=N")


def test_unsupported_operator_is_no_answer(aiwq: Aiwq, tmp_path: Path) -> None:
    foo = [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Foo", ["M"], ["Y"], domain="acme.ops")]
    dense(tmp_path / "foo.onnx", nodes=foo, batch=2)
    line = refused(aiwq("gate", "foo.onnx", "--budget", "macs=1000000"), "foo.onnx", "acme.ops.Foo", "onnx_aiwq.rule")
    assert "--strict" not in line


def test_every_problem_of_every_model_is_named(aiwq: Aiwq, tmp_path: Path) -> None:
    foo = [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Foo", ["M"], ["Y"], domain="acme.ops")]
    dense(tmp_path / "foo.onnx", nodes=foo, batch=2)
    refused(aiwq("gate", "*.onnx", "--budget", "macs=1000"), "small.onnx", "batch", "foo.onnx", "acme.ops.Foo")


def test_partial_totals_are_no_answer(aiwq: Aiwq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report whose totals lack a node must not pass, whatever the reason."""
    from onnx_aiwq.report import Report

    whole = Report.to_dict

    def partial(self: Report) -> dict[str, Any]:
        entry = whole(self)
        return {**entry, "totals": {**entry["totals"], "partial": True}}

    monkeypatch.setattr(Report, "to_dict", partial)
    refused(aiwq("gate", "small.onnx", "--bind", "batch=1", "--budget", "macs=1000"), "partial")


# --- several models ----------------------------------------------------------------------------------------------


def test_globs_models_and_shared_bindings(aiwq: Aiwq, tmp_path: Path) -> None:
    dense(tmp_path / "models/a.onnx", 4)
    dense(tmp_path / "models/deep/b.onnx", 5, batch="n")
    dense(tmp_path / "models/fixed.onnx", 6, batch=7)
    done = aiwq("gate", "models/**/*.onnx", "models/a.onnx", "--bind", "batch=2", "--bind", "n=3",
                "--budget", "macs=130", "--format", "json")  # fmt: skip
    checks = [(check["model"], check["value"], check["passed"]) for check in validated(done.json)["checks"]]
    assert checks == [
        ("models/a.onnx", 2 * 8 * 4, True),
        ("models/deep/b.onnx", 3 * 8 * 5, True),
        ("models/fixed.onnx", 7 * 8 * 6, False),
    ]
    assert done.code == 1
    refused(aiwq("gate", "models/**/*.onnx", "--bind", "batch=2", "--bind", "n=3", "--bind", "m=4",
                 "--budget", "macs=1"), "--bind m", "none of the 3 models")  # fmt: skip


# --- baselines ---------------------------------------------------------------------------------------------------

ON_ROUND = ("--bind", "batch=3", "--hardware", "round.json")


def test_same_model_is_that_of_the_baseline(aiwq: Aiwq, gate: Callable[..., Any]) -> None:
    written = aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND, "--format", "json")
    assert written.json == [{"model": "small.onnx", "baseline": "base.json", "state": "new"}]
    again = aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND, "--format", "json")
    assert again.json[0]["state"] == "unchanged"
    done = gate("--baseline", "base.json", "--format", "json")
    verdict = validated(done.json)
    assert done.code == 0
    assert [check["metric"] for check in verdict["checks"]] == NAMES
    assert all(check["kind"] == "regression" and check["value"] == check["baseline"] for check in verdict["checks"])
    assert verdict["models"][0]["changes"] == []
    assert verdict["warnings"] == []


def test_growth_beyond_the_tolerance_fails_on_point_estimates(aiwq: Aiwq, tmp_path: Path) -> None:
    """The intervals (half to double) overlap by far; the coefficients are shared, so that their errors cancel."""
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    dense(tmp_path / "small.onnx", 5)
    growth = joules(3, 5) / joules(3, 4) - 1  # some 25 %
    for tolerance, status in ((growth * 100 - 0.1, "failed"), (growth * 100 + 0.1, "passed")):
        done = aiwq("gate", "small.onnx", *ON_ROUND, "--baseline", "base.json", "--tolerance",
                    f"energy={tolerance:.9f}%", "--tolerance", "default=100%", "--format", "json")  # fmt: skip
        checks = {check["metric"]: check for check in validated(done.json)["checks"]}
        assert checks["energy"]["status"] == status
        assert checks["energy"]["baseline"] == pytest.approx(joules(3, 4))
        assert checks["energy"]["limit"] == pytest.approx(joules(3, 4) * (1 + tolerance / 100))
        assert {check["status"] for name, check in checks.items() if name != "energy"} == {"passed"}
        assert done.code == (status == "failed")


def test_without_a_tolerance_nothing_may_grow(aiwq: Aiwq, tmp_path: Path) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    dense(tmp_path / "small.onnx", 5)
    done = aiwq("gate", "small.onnx", *ON_ROUND, "--baseline", "base.json", "--format", "json")
    assert done.code == 1
    assert {check["metric"] for check in done.json["checks"] if not check["passed"]} == set(NAMES)
    macs = next(check for check in done.json["checks"] if check["metric"] == "macs")
    assert (macs["baseline"], macs["limit"], macs["value"]) == (96, 96, 120)
    assert "25 %" in macs["reason"]
    dense(tmp_path / "small.onnx", 3)
    assert aiwq("gate", "small.onnx", *ON_ROUND, "--baseline", "base.json").code == 0


def test_counts_compare_exactly_with_a_tolerance(aiwq: Aiwq, tmp_path: Path) -> None:
    dense(tmp_path / "small.onnx", 100)
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    dense(tmp_path / "small.onnx", 105)
    for tolerance, code in (("5%", 0), ("4.999%", 1)):
        tolerances = ("--tolerance", f"parameters={tolerance}", "--tolerance", "default=50%")
        done = aiwq("gate", "small.onnx", *ON_ROUND, "--baseline", "base.json", *tolerances)
        assert done.code == code
    assert parse_share("5%", "here") * 800 == 40


def test_operators_added_removed_and_grown(aiwq: Aiwq, tmp_path: Path) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    dense(tmp_path / "small.onnx", 6, nodes=[
        helper.make_node("MatMul", ["X", "W"], ["M"], name="mm"),
        helper.make_node("Sigmoid", ["M"], ["Y"], name="sig"),
    ])  # fmt: skip
    done = aiwq("gate", "small.onnx", *ON_ROUND, "--baseline", "base.json", "--format", "json")
    changes = {entry["name"]: entry for entry in validated(done.json)["models"][0]["changes"]}
    assert {name: entry["change"] for name, entry in changes.items()} == {
        "MatMul": "grown",
        "Relu": "removed",
        "Sigmoid": "added",
    }
    assert (changes["MatMul"]["before"]["macs"], changes["MatMul"]["after"]["macs"]) == (96, 144)
    energy = next(check for check in done.json["checks"] if check["metric"] == "energy")
    growth = {each["node"]: each["value"] for each in energy["contributors"]}
    mul_add = 8 * 12_736 + 7 * 236
    assert set(growth) == {"mm", "sig"}
    assert growth["mm"] == pytest.approx(1e-9 * (3 * 2 * mul_add + 32 * (8 * 2 + 3 * 2)))


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--hardware", "reference-cpu", "--bind", "batch=3"), ("hardware", "'round'", "'reference-cpu'")),
        (("--hardware", "round.json", "--bind", "batch=4"), ("batch=3 instead of batch=4",)),
        ((*ON_ROUND, "--convention", "paper"), ("convention", "'paper'")),
    ],
)
def test_baseline_made_otherwise(aiwq: Aiwq, options: tuple[str, ...], fragments: tuple[str, ...]) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    done = aiwq("gate", "small.onnx", *options, "--baseline", "base.json")
    refused(done, "base.json", "aiwq baseline update", *fragments)


def broken(**changes: Any) -> Callable[[dict[str, Any]], str]:
    def write(report: dict[str, Any]) -> str:
        for path, value in changes.items():
            *folders, last = path.split("__")
            place = report
            for folder in folders:
                place = place[folder]
            if value is None:
                del place[last]
            else:
                place[last] = value
        return json.dumps(report)

    return write


@pytest.mark.parametrize(
    ("write", "fragments"),
    [
        (lambda report: "", ("not JSON",)),
        (lambda report: "{", ("not JSON",)),
        (lambda report: "[" * 100_000, ("not JSON",)),
        (lambda report: "[1, 2]", ("no schema",)),
        (lambda report: json.dumps(report).replace("96", "NaN", 1), ("not JSON",)),
        (broken(schema="onnx_aiwq.report/2"), ("'2'", "this aiwq reads 1")),
        (broken(schema="onnx_aiwq.verdict/1"), ("onnx_aiwq.verdict/1",)),
        (broken(schema=EVIL), ("schema",)),
        (broken(totals=None), ("totals",)),
        (broken(totals__macs="many"), ("totals.macs",)),
        (broken(energy__joules=None), ("energy.joules",)),
        (broken(nodes=[{}]), ("nodes.0",)),
        (broken(level="training"), ("level", "'training'")),
        (broken(totals__partial=True), ("partial",)),
        (broken(model__assumed_bindings={"n": 1}), ("'n'",)),
    ],
)
def test_files_that_are_no_baseline(
    aiwq: Aiwq, gate: Callable[..., Any], tmp_path: Path, write: Callable[..., str], fragments: tuple[str, ...]
) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    base = tmp_path / "base.json"
    base.write_text(write(json.loads(base.read_text(encoding="utf-8"))), encoding="utf-8")
    refused(gate("--baseline", "base.json"), "base.json", *fragments)


def test_baseline_with_an_operator_that_was_not_counted(aiwq: Aiwq, gate: Callable[..., Any], tmp_path: Path) -> None:
    """It is a valid report with null figures, refused because it is partial; as whole it would be read and compared."""
    foo = [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Foo", ["M"], ["Y"], domain="acme.ops")]
    dense(tmp_path / "foo.onnx", nodes=foo)
    done = aiwq("analyze", "foo.onnx", *ON_ROUND, "--format", "json", "--output", "base.json")
    assert done.code == 0, done
    base = tmp_path / "base.json"
    report = json.loads(base.read_text(encoding="utf-8"))
    assert report["by_operator"]["acme.ops.Foo"]["transistor_operations"] is None
    refused(gate("--baseline", "base.json"), "base.json", "acme.ops.Foo", "cannot be counted")
    report["totals"]["partial"], report["coverage"]["unsupported_operators"] = False, []
    base.write_text(json.dumps(report), encoding="utf-8")
    found = gate("--baseline", "base.json", "--format", "json", "--summary", "summary.md")
    assert found.code == 1, found  # the Relu of the model is new
    (verdict,) = validated(found.json)["models"]
    changes = {entry["name"]: entry for entry in verdict["changes"]}
    assert changes["acme.ops.Foo"]["change"] == "removed"
    assert changes["acme.ops.Foo"]["before"]["transistor_operations"] is None
    assert "| unknown -> none |" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_baseline_that_is_absent(gate: Callable[..., Any]) -> None:
    refused(gate("--baseline", "base.json"), "base.json", "no baseline", "aiwq baseline update small.onnx")
    refused(gate("--baseline", "folder"), "folder/small.onnx.json", "aiwq baseline update")


def test_grams_of_another_grid_are_not_compared(aiwq: Aiwq, gate: Callable[..., Any]) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND, "--region", "DEU")
    done = gate("--baseline", "base.json", "--region", "FIN", "--format", "json")
    assert done.code == 0, "a grid's figure breaks no budget of joules"
    assert [check["metric"] for check in done.json["checks"]] == [name for name in NAMES if name != "co2e"]
    assert "co2e is not compared" in done.err
    assert "co2e" in done.json["warnings"][0]
    refused(gate("--baseline", "base.json", "--region", "FIN", "--tolerance", "co2e=5%"), "co2e", "intensity")


def test_profile_that_was_calibrated_again_is_said(aiwq: Aiwq, gate: Callable[..., Any], tmp_path: Path) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    profile(tmp_path / "round.json", joules_per_bit=0.9e-9)
    done = gate("--baseline", "base.json")
    assert done.code == 0
    assert "profile" in done.err and "aiwq baseline update" not in done.out


def test_folder_of_baselines(aiwq: Aiwq, tmp_path: Path) -> None:
    dense(tmp_path / "models/a.onnx", 4)
    dense(tmp_path / "models/deep/a.onnx", 5)
    options = ("models/**/*.onnx", *ON_ROUND, "--baseline", "base")
    assert aiwq("baseline", "update", *options).code == 0
    assert sorted(path.relative_to(tmp_path / "base").as_posix() for path in (tmp_path / "base").rglob("*.json")) == [
        "models/a.onnx.json",
        "models/deep/a.onnx.json",
    ]
    assert aiwq("gate", *options).code == 0
    dense(tmp_path / "models/deep/a.onnx", 6)
    done = aiwq("gate", *options, "--format", "json")
    assert {check["model"] for check in done.json["checks"] if not check["passed"]} == {"models/deep/a.onnx"}
    refused(aiwq("baseline", "update", "models/**/*.onnx", *ON_ROUND, "--baseline", "one.json"), "one.json", "folder")
    assert not (tmp_path / "one.json").exists()


def test_baseline_is_whole_or_as_before(aiwq: Aiwq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    before = (tmp_path / "base.json").read_bytes()
    files = sorted(tmp_path.iterdir())
    dense(tmp_path / "small.onnx", 5)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND), "No space left")
    dense(tmp_path / "other.onnx", 5)
    refused(aiwq("baseline", "update", "small.onnx", "other.onnx", "--baseline", "folder"), "batch")
    (tmp_path / "other.onnx").unlink()
    assert (tmp_path / "base.json").read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


def test_baseline_survives_a_process_that_is_killed_while_it_writes(aiwq: Aiwq, tmp_path: Path) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    before = (tmp_path / "base.json").read_bytes()
    dense(tmp_path / "small.onnx", 5)
    script = "import os, signal; os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL); " \
             "from onnx_aiwq.cli import main; main()"  # fmt: skip
    arguments = ["baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND]
    done = subprocess.run([sys.executable, "-c", script, *arguments], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "base.json").read_bytes() == before


def test_baseline_commands_that_do_not_fit(aiwq: Aiwq) -> None:
    refused(aiwq("baseline", "updat", "small.onnx"), "updat", "'update'")
    refused(aiwq("baseline", "update", "small.onnx", *ON_ROUND), "--baseline", "aiwq.toml")
    refused(aiwq("baseline", "update", "small.onnx", *ON_ROUND, "--baseline", "small.onnx/x.json"), "small.onnx/x.json")


# --- policies ----------------------------------------------------------------------------------------------------

POLICY = """
hardware = "round.json"
bind = { batch = 3, unused = 9 }

[gate]
models = ["models/**/*.onnx"]
budgets = { macs = 100, parameters = "1 k" }

[[gate.overrides]]
models = ["models/large/**"]
budgets = { macs = "1 k", parameters = "none" }
bind = { batch = 2 }
"""


def values(done: Any) -> dict[tuple[str, str], tuple[int, int]]:
    checks = validated(done.json)["checks"]
    return {(check["model"], check["metric"]): (check["value"], check["limit"]) for check in checks}


def test_policy_with_overrides(aiwq: Aiwq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense(tmp_path / "models/a.onnx", 4)
    dense(tmp_path / "models/large/b.onnx", 50)
    (tmp_path / "aiwq.toml").write_text(POLICY, encoding="utf-8")
    expected = {
        ("models/a.onnx", "macs"): (96, 100),
        ("models/a.onnx", "parameters"): (32, 1000),
        ("models/large/b.onnx", "macs"): (800, 1000),
    }
    assert values(aiwq("gate", "--format", "json")) == expected
    # From a folder below, the same file counts, and its paths mean the same files.
    monkeypatch.chdir(tmp_path / "models/large")
    found = values(aiwq("gate", "--format", "json"))
    assert {Path(model).name: value for (model, metric), value in found.items() if metric == "macs"} == {
        "a.onnx": (96, 100),
        "b.onnx": (800, 1000),
    }


def test_flags_over_policy_over_pyproject(aiwq: Aiwq, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.aiwq]\nbind = { batch = 1 }\nregion = "DEU"\n'
        '[tool.aiwq.gate]\nbudgets = { macs = 1, parameters = 1, energy = "1 J" }\n',
        encoding="utf-8",
    )
    (tmp_path / "policy.toml").write_text(
        'bind = { batch = 2 }\n[budgets]\nmacs = "2"\nparameters = "2"\n', encoding="utf-8"
    )
    done = aiwq("gate", "small.onnx", "--policy", "policy.toml", "--budget", "macs=3", "--format", "json")
    found = {metric: value for (_, metric), value in values(done).items()}
    assert found["macs"] == (2 * 32, 3)
    assert found["parameters"] == (32, 2)
    assert found["energy"][1] == 1.0
    assert done.json["models"][0]["region"] == "DEU"
    origins = {check["metric"]: check["origin"] for check in done.json["checks"]}
    assert origins["macs"] == "--budget"
    assert origins["parameters"].startswith("policy.toml")
    assert origins["energy"].startswith("pyproject.toml")
    shown = aiwq(
        "gate", "small.onnx", "--policy", "policy.toml", "--bind", "batch=4", "--show-config", "--format", "json"
    )
    settings = {row["setting"]: (row["value"], row["from"]) for row in shown.json}
    assert settings["bind.batch"] == ("4", "command line")
    assert settings["region"] == ("DEU", "pyproject.toml")
    assert settings["budgets.macs"][0] == "2"


def test_pyproject_as_policy(aiwq: Aiwq, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.aiwq.gate.budgets]\nmacs = 95\n", encoding="utf-8")
    for policy in ((), ("--policy", "pyproject.toml")):
        assert aiwq("gate", "small.onnx", "--bind", "batch=3", *policy).code == 1


@pytest.mark.parametrize(
    ("glob", "path", "found"),
    [
        ("models/*.onnx", "models/a.onnx", True),
        ("models/*.onnx", "models/deep/a.onnx", False),
        ("models/**/*.onnx", "models/a.onnx", True),
        ("models/**/*.onnx", "models/x/y/a.onnx", True),
        ("models/**", "models/x/y/a.onnx", True),
        ("**/a.onnx", "a.onnx", True),
        ("./a.onnx", "a.onnx", True),
        ("a?onnx", "a.onnx", True),
        ("a.onnx", "aXonnx", False),
        ("models/large/**", "models/large.onnx", False),
    ],
)
def test_globs_of_overrides(tmp_path: Path, glob: str, path: str, found: bool) -> None:
    assert matches(glob, tmp_path / path, tmp_path) is found


# --- forms -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(aiwq: Aiwq, tmp_path: Path) -> Path:
    """A model whose names, and whose file name, try to break out."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["M"], name=EVIL),
        helper.make_node("Relu", ["M"], ["Y"], name="-2+3" + EVIL),
    ]
    return dense(tmp_path / ("=evil|<b>&\"'`]]>\x1b[31m\u202e %#?.onnx"), nodes=nodes, batch=3)


def test_junit(aiwq: Aiwq, tmp_path: Path, hostile: Path) -> None:
    done = aiwq("gate", hostile.name, "--hardware", "round.json", "--budget", "macs=1", "--budget", "parameters=1 k",
                "--budget", f"energy={joules(3, 4)} J", "--junit", "out.xml")  # fmt: skip
    assert done.code == 1
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("errors")) == ("testsuites", "3", "1", "0")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {"macs", "parameters", "energy"}
    failure = cases["macs"].find("failure")
    assert failure is not None and "over the budget of 1" in str(failure.get("message"))
    assert cases["parameters"].find("failure") is None
    note = cases["energy"].find("system-out")
    assert note is not None and "could not be told apart" in str(note.text)
    assert "<b>" in str(root[0].get("name"))
    assert all(character.isprintable() or character == "\n" for character in (tmp_path / "out.xml").read_text())


def test_sarif_validates_and_points_at_the_model_and_its_nodes(aiwq: Aiwq, tmp_path: Path, hostile: Path) -> None:
    dense(tmp_path / "models/fine.onnx", 1, batch=1)
    budgets = ("--budget", "macs=50", "--budget", f"energy={joules(3, 4)} J")
    models = (hostile.name, "models/fine.onnx", tmp_path / "small.onnx")
    aiwq("gate", *models, *ON_ROUND, *budgets, "--sarif", "out.sarif")
    log = json.loads((tmp_path / "out.sarif").read_text(encoding="utf-8"))
    Draft4Validator(json.loads((DATA / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))).validate(log)
    (run,) = log["runs"]
    results = run["results"]
    assert [(result["ruleId"], result["level"]) for result in results] == [
        ("macs-budget", "error"),
        ("macs-budget", "error"),
        ("energy-budget", "warning"),
        ("energy-budget", "warning"),
    ]
    for result in results:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    (location,) = results[0]["locations"]
    uri = location["physicalLocation"]["artifactLocation"]
    assert unquote(uri["uri"]) == hostile.name
    assert re.fullmatch(r"[!-~]+", uri["uri"])
    assert location["logicalLocations"][0]["name"].startswith("=cmd()|<script>")
    assert location["logicalLocations"][0]["name"].isprintable()
    absolute = results[1]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert absolute == {"uri": (tmp_path / "small.onnx").as_uri()}
    fingerprints = {result["partialFingerprints"]["aiwqCheck/v1"] for result in results}
    assert len(fingerprints) == 4


def test_summary_is_appended(aiwq: Aiwq, gate: Callable[..., Any], tmp_path: Path) -> None:
    aiwq("baseline", "update", "small.onnx", "--baseline", "base.json", *ON_ROUND)
    with_sigmoid(tmp_path / "small.onnx", 5)
    summary = tmp_path / "summary.md"
    summary.write_text("# Earlier step", encoding="utf-8")
    gate("--baseline", "base.json", "--summary", "summary.md")
    gate("--budget", "macs=120", "--summary", "summary.md")
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("# Earlier step\n### aiwq gate: FAILED (8 of 8 checks fail)\n")
    assert "### aiwq gate: passed (all 1 check pass)" in text
    assert re.search(r"\| Sigmoid \| added \| none -> 1 \|", text)
    assert re.search(r"\| MatMul \| grown \| 1 \|", text)
    assert "| Sigmoid | sig |" in text  # the growth comes from
    assert text.index("FAIL") < text.index("Earlier step") + 100


def assert_markdown(text: str) -> None:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    width = 0
    for line, following in zip(rows, [*rows[1:], ""], strict=True):
        cells = len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) - 2
        if re.fullmatch(r"[| :-]+", following):
            width = cells
        assert cells == width, line
    assert "<" not in text
    assert not re.search(r"(?<!\\)(?:\\\\)*`", text)
    assert not any(line.startswith("INJECTED") for line in text.splitlines())


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_hostile_names_in_every_form(aiwq: Aiwq, hostile: Path, form: str) -> None:
    aiwq("baseline", "update", hostile.name, "--hardware", "round.json", "--baseline", "base.json")
    done = aiwq("gate", hostile.name, "--hardware", "round.json", "--budget", "macs=1", "--budget", "energy=1 J",
                "--baseline", "base.json", "--format", form, "--summary", "s.md")  # fmt: skip
    assert done.code == 1
    if form == "json":
        assert validated(done.json)["checks"][0]["contributors"][0]["node"] == EVIL
        assert done.json["checks"][0]["model"] == hostile.name
        return
    assert all(line.isprintable() for line in done.out.split("\n"))
    assert "evil" in done.out
    assert_markdown(Path("s.md").read_text(encoding="utf-8"))
    if form == "markdown":
        assert_markdown(done.out)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.out), strict=True))
        assert len(rows) == 10
        assert all(row["model"].startswith("'=evil") for row in rows)
        assert [row["passed"] for row in rows[:2]] == ["False", "True"]


def test_table_says_all_that_a_reader_needs(gate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    done = gate("--budget", "macs=1", "--budget", f"energy={joules(3, 4)} J")
    for text in ("FAILED (1 of 2 checks fail, 1 could not be told apart", "small.onnx", "pass (?)", "exact",
                 "MatMul", "mm", "round (modelled, 90% intervals)", "onnx_aiwq.convention/1"):  # fmt: skip
        assert text in done.out
    assert "\x1b" not in done.out


def test_files_that_cannot_be_written(gate: Callable[..., Any]) -> None:
    for option in ("--junit", "--sarif", "--summary", "--output"):
        refused(gate("--budget", "macs=1", option, "small.onnx/out"), option, "small.onnx/out")


# --- Python ------------------------------------------------------------------------------------------------------


def test_python_interface(aiwq: Aiwq) -> None:
    import onnx_aiwq.gating  # noqa: F401

    verdict = aiwq_package.gate("small.onnx", budgets={"macs": 96, "energy": "3 kJ"}, bind={"batch": 3}, region="DEU")
    assert verdict.passed
    assert {check.name: check.quantity.value for check in verdict.checks}["macs"] == 96
    validated(verdict.to_dict())
    with pytest.raises(PolicyError, match="energy"):
        aiwq_package.gate(["small.onnx"], budgets=["energy=3"], bind={"batch": 3})
