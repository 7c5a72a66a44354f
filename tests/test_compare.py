"""Compare: rows, differences and their uncertainty, the Pareto front, constraints, and what changed."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnx_aiwq as aiwq_package
from gating import EVIL, HIGH, LOW, Aiwq, dense, joules, profile, refused, transistors, with_sigmoid
from onnx_aiwq.constraints import parse_constraint
from onnx_aiwq.difference import operator_difference
from onnx_aiwq.quantities import METRICS, Part, Quantity, difference
from schemas import problems

NAMES = ["energy", "seconds", "co2e", "ecal", "transistor_operations", "macs", "peak_memory", "parameters"]


def validated(comparison: dict[str, Any]) -> dict[str, Any]:
    assert problems("comparison-1", comparison) == []
    return comparison


@pytest.fixture
def aiwq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aiwq:
    """The command in a folder with two models and three profiles, without profiles of this user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    dense(tmp_path / "a.onnx", 4)
    dense(tmp_path / "b.onnx", 6)
    profile(tmp_path / "round.json")
    cheap = {"family": "*", "dtype": "*", "seconds_per_to": 5e-9, "joules_per_to": 1e-11}
    profile(tmp_path / "frugal.json", coefficients=[cheap], joules_per_bit=1e-11)  # five times the time, 1/100 energy
    near = {"family": "*", "dtype": "*", "seconds_per_to": 1.1e-9, "joules_per_to": 1.1e-9}
    profile(tmp_path / "near.json", coefficients=[near])
    return Aiwq(monkeypatch, capsys)


def compared(aiwq: Aiwq, *arguments: object) -> dict[str, Any]:
    done = aiwq("compare", *arguments, "--format", "json")
    assert done.code == 0, done
    return validated(done.json)


AB = ("a.onnx", "b.onnx", "--bind", "batch=3")


def test_matrix_of_models_and_hardware(aiwq: Aiwq) -> None:
    found = compared(aiwq, *AB, "--hardware", "round.json", "--hardware", "frugal.json", "--region", "DEU")
    rows = found["rows"]
    assert [(row["model"], row["hardware"]) for row in rows] == [
        ("a.onnx", "round"), ("a.onnx", "frugal"), ("b.onnx", "round"), ("b.onnx", "frugal"),
    ]  # fmt: skip
    for row, hidden in zip(rows, (4, 4, 6, 6), strict=True):
        assert row["totals"]["transistor_operations"] == transistors(3, hidden)
        assert set(row["metrics"]) == set(NAMES)
        assert row["carbon"]["region"] == "DEU"
    energies = [row["metrics"]["energy"]["value"] for row in rows]
    assert energies == pytest.approx([joules(3, 4), joules(3, 4) / 100, joules(3, 6), joules(3, 6) / 100])
    assert rows[0]["metrics"]["energy"]["low"] == pytest.approx(joules(3, 4) * LOW)
    assert rows[0]["metrics"]["energy"]["high"] == pytest.approx(joules(3, 4) * HIGH)
    # The least energy of a, and the least time: neither b nor a twice.
    assert [entry["row"] for entry in found["pareto"]] == [1, 0]


def test_rows_are_the_reports(aiwq: Aiwq) -> None:
    (row,) = compared(aiwq, "a.onnx", "--bind", "batch=3", "--hardware", "round.json")["rows"]
    report = aiwq("analyze", "a.onnx", "--bind", "batch=3", "--hardware", "round.json", "--format", "json").json
    assert {key: row[key] for key in ("totals", "energy", "ecal", "carbon")} == {
        key: report[key] for key in ("totals", "energy", "ecal", "carbon")
    }


def verdicts(found: dict[str, Any], row: int, reference: int) -> dict[str, str]:
    entries = found["differences"]
    return {
        entry["metric"]: entry["verdict"] for entry in entries if (entry["row"], entry["reference"]) == (row, reference)
    }


def test_shared_coefficients_tell_models_apart_whose_intervals_overlap(aiwq: Aiwq) -> None:
    found = compared(aiwq, *AB, "--hardware", "round.json")
    low, high = found["rows"][1]["metrics"]["energy"]["low"], found["rows"][0]["metrics"]["energy"]["high"]
    assert low < high
    assert verdicts(found, 1, 0) == dict.fromkeys(NAMES, "higher") | {"ecal": "higher"}
    energy = next(entry for entry in found["differences"] if entry["metric"] == "energy")
    above = joules(3, 6) - joules(3, 4)
    assert energy["paired"] is True
    assert (energy["difference"], energy["low"], energy["high"]) == (
        pytest.approx(above), pytest.approx(above * LOW), pytest.approx(above * HIGH),
    )  # fmt: skip
    assert energy["ratio"] == pytest.approx(joules(3, 6) / joules(3, 4))


def test_less_arithmetic_for_more_traffic_is_not_told_apart(aiwq: Aiwq, tmp_path: Path) -> None:
    """Arithmetic and traffic may each be off by its own factor: which wins depends on both."""
    identity = [helper.make_node("Transpose", ["X"], [f"T{0}"], perm=[0, 1])]
    identity += [helper.make_node("Transpose", [f"T{i}"], [f"T{i + 1}"], perm=[0, 1]) for i in range(300)]
    moving = [*identity, helper.make_node("MatMul", ["T300", "W"], ["Y"])]
    dense(tmp_path / "moving.onnx", 2, nodes=moving)
    found = compared(aiwq, "a.onnx", "moving.onnx", "--bind", "batch=3", "--hardware", "round.json")
    one, other = (row["metrics"] for row in found["rows"])
    assert other["transistor_operations"]["value"] < one["transistor_operations"]["value"]
    assert verdicts(found, 1, 0)["energy"] == "no measurable difference"
    assert verdicts(found, 1, 0)["transistor_operations"] == "lower"
    assert verdicts(found, 1, 0)["seconds"] == "lower"


def test_other_hardware_shares_nothing(aiwq: Aiwq) -> None:
    found = compared(aiwq, "a.onnx", "--bind", "batch=3", "--hardware", "round.json", "--hardware", "near.json",
                     "--hardware", "frugal.json")  # fmt: skip
    assert verdicts(found, 1, 0)["energy"] == "no measurable difference"
    assert verdicts(found, 1, 0)["macs"] == "equal"
    assert verdicts(found, 2, 0)["energy"] == "lower"
    assert verdicts(found, 2, 0)["seconds"] == "higher"
    assert not any(entry["paired"] for entry in found["differences"])


def test_the_same_twice_is_equal(aiwq: Aiwq, tmp_path: Path) -> None:
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    found = compared(aiwq, "a.onnx", "copy.onnx", "--bind", "batch=3", "--hardware", "round.json")
    assert set(verdicts(found, 1, 0).values()) == {"equal"}


factors = st.floats(0.1, 1.0)


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=3),
    factors,
    st.floats(1.0, 10.0),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_difference_holds_for_every_factor(
    parts: list[tuple[float, float]], low: float, high: float, shares: list[float]
) -> None:
    """Whatever the true factors are, the true difference lies in the interval, and has the sign that was promised."""

    def quantity(values: list[float]) -> Quantity:
        total = sum(values)
        return Quantity(total, total * low, total * high, {str(i): Part(v, low, high) for i, v in enumerate(values)})

    one, other = [first for first, _ in parts], [second for _, second in parts]
    found = difference(quantity(one), quantity(other), paired=True)
    true = [low + share * (high - low) for share in shares]
    apart = sum(factor * (second - first) for factor, first, second in zip(true, one, other, strict=False))
    slack = 1e-6 * (1 + sum(one) + sum(other)) * high
    assert found.low - slack <= apart <= found.high + slack
    if found.verdict == "higher":
        assert apart > -slack
    if found.verdict == "lower":
        assert apart < slack


def test_saved_reports_are_rows(aiwq: Aiwq, tmp_path: Path) -> None:
    aiwq("analyze", "a.onnx", "--bind", "batch=3", "--hardware", "round.json", "--format", "json", "--output", "a.json")
    (tmp_path / "a.onnx").unlink()
    found = compared(aiwq, "a.json", "b.onnx", "--bind", "batch=3", "--hardware", "round.json")
    assert [row["saved_report"] for row in found["rows"]] == ["a.json", None]
    assert verdicts(found, 1, 0)["energy"] == "higher"
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    (tmp_path / "a.json").write_text(text.replace("onnx_aiwq.report/1", "onnx_aiwq.report/9"), encoding="utf-8")
    refused(aiwq("compare", "a.json", "b.onnx"), "a.json", "'9'")
    (tmp_path / "a.json").write_text(text.replace("onnx_aiwq.convention/1", "paper"), encoding="utf-8")
    done = aiwq("compare", "a.json", "b.onnx", "--bind", "batch=3", "--hardware", "round.json")
    assert done.code == 0
    assert "differ in convention" in done.err
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    refused(aiwq("compare", "a.json"), "a.json", "no schema")


def test_unbound_and_partial_rows_are_said_and_never_win(aiwq: Aiwq, tmp_path: Path) -> None:
    foo = [helper.make_node("MatMul", ["X", "W"], ["M"]), helper.make_node("Foo", ["M"], ["Y"], domain="acme.ops")]
    dense(tmp_path / "foo.onnx", 1, nodes=foo)
    done = aiwq("compare", "a.onnx", "foo.onnx", "--hardware", "round.json", "--minimise", "energy", "--format", "json")
    found = validated(done.json)
    assert found["rows"][1]["metrics"]["energy"]["value"] < found["rows"][0]["metrics"]["energy"]["value"]
    assert [entry["row"] for entry in found["pareto"]] == [0]
    assert found["best"]["row"] == 0
    assert "partial" in done.err and "foo.onnx" in done.err
    assert "--bind batch=N" in done.err
    refused(aiwq("compare", "a.onnx", "foo.onnx", "--strict"), "a.onnx", "--bind batch=N", "acme.ops.Foo")


# --- choice ------------------------------------------------------------------------------------------------------


def test_best_under_a_condition(aiwq: Aiwq) -> None:
    options = (*AB, "--hardware", "round.json", "--hardware", "frugal.json")
    assert compared(aiwq, *options, "--minimise", "energy")["best"]["row"] == 1
    limit = transistors(3, 6) * 1e-9 * 1.2  # seconds that the frugal hardware needs more of
    found = compared(aiwq, *options, "--minimise", "energy", "--where", f"seconds < {limit:.9f} s")
    assert [row["meets"] for row in found["rows"]] == [True, False, True, False]
    assert found["best"]["row"] == 0
    assert found["best"]["certain"] is False  # twice the time would miss it
    assert found["best"]["indistinguishable"] == []
    done = aiwq("compare", *options, "--minimise", "energy", "--where", "seconds < 1 ns", "--format", "json")
    assert done.code == 0
    assert done.json["best"] is None
    assert "no complete row meets 'seconds < 1 ns'" in done.err


def test_best_names_what_cannot_be_told_from_it(aiwq: Aiwq) -> None:
    found = compared(aiwq, "a.onnx", "--bind", "batch=3", "--hardware", "near.json", "--hardware", "round.json",
                     "--hardware", "frugal.json", "--minimize", "seconds")  # fmt: skip
    assert found["best"]["row"] == 1
    assert found["best"]["indistinguishable"] == [0]
    assert found["best"]["certain"] is True


def exactly(**values: float) -> dict[str, Quantity | None]:
    return {name: Quantity(values[name], values[name], values[name]) if name in values else None for name in METRICS}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("seconds < 20 ms", True),
        ("seconds<20ms", True),
        ("seconds < 1.5e-2 s", True),
        ("seconds >= 10 ms", True),
        ("seconds > 10 ms", False),
        ("seconds <= 1e1ms", True),
        ("macs < 5 k and seconds < 20 ms", True),
        ("macs < 5 and seconds < 20 ms", False),
        ("macs < 5 or seconds < 20 ms", True),
        ("macs < 5 or seconds < 20 ms and macs < 5", False),
        ("(macs < 5 or seconds < 20 ms) and macs < 5000", True),
        ("not macs < 5", True),
        ("not (macs < 5 or seconds < 20 ms)", False),
        ("ecal < 1 nJ/bit", True),
        ("energy < 1 J", False),  # not known
        ("not energy < 1 J", False),
        ("energy < 1 J or macs > 1", True),
        ("energy < 1 J and macs > 1", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert parse_constraint(text).holds(exactly(seconds=0.01, macs=1000, ecal=1e-10)) is holds


def test_condition_over_an_interval_has_three_values() -> None:
    values = {**exactly(macs=10), "seconds": Quantity(2.0, 1.0, 4.0)}
    assert parse_constraint("seconds < 5 s").certain(values) is True
    assert parse_constraint("seconds < 1 s").certain(values) is False
    assert parse_constraint("seconds < 3 s").certain(values) is None
    assert parse_constraint("seconds < 3 s or macs < 11").certain(values) is True
    assert parse_constraint("seconds < 3 s and macs < 10").certain(values) is False
    assert parse_constraint("not seconds < 3 s").certain(values) is None


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ("a metric is expected",)),
        ("secnds < 3 s", ("did you mean 'seconds'?",)),
        ("seconds 3 s", ("'<'", "'3'")),
        ("seconds < s", ("a number is expected",)),
        ("seconds < 3", ("bare number",)),
        ("seconds < 3 J", ("'J'",)),
        ("seconds < 3 s and", ("a metric is expected", "the end")),
        ("(seconds < 3 s", ("')' is expected",)),
        ("seconds < 3 s)", ("')'",)),
        ("seconds < 3 s energy < 1 J", ("'energy'",)),
        ("seconds == 3 s", ("'='",)),
        ("__import__('os').system('id') < 3", ('"\'" is not understood',)),
        ("seconds < 3 s; rm", ("';'",)),
        ("(" * 60 + "macs<1", ("levels of brackets",)),
        ("not " * 60 + "macs<1", ("levels of brackets",)),
        (EVIL, ("--where",)),
    ],
)
def test_conditions_that_do_not_read(aiwq: Aiwq, text: str, fragments: tuple[str, ...]) -> None:
    refused(aiwq("compare", *AB, "--where", text), "--where", *fragments)


@given(st.text(alphabet="<>=()andortsecm 0123.eE-+/µ'\"", max_size=60))
def test_any_text_is_a_condition_or_one_error(text: str) -> None:
    from onnx_aiwq.errors import PolicyError

    try:
        parse_constraint(text).holds(exactly(macs=1))
    except PolicyError as error:
        assert "--where" in str(error)


def test_pareto_front_over_any_two_metrics(aiwq: Aiwq, tmp_path: Path) -> None:
    options = (*AB, "--hardware", "round.json", "--hardware", "frugal.json")
    found = compared(aiwq, *options, "--pareto", "macs,seconds")
    assert found["pareto_metrics"] == ["macs", "seconds"]
    assert [entry["row"] for entry in found["pareto"]] == [0]
    for text in ("energy", "energy,energy", "energy,nonsense", "energy,seconds,macs", ""):
        refused(aiwq("compare", *options, "--pareto", text), "--pareto")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_pareto_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    from onnx_aiwq.comparison import Comparison, Row

    report = {"totals": {"partial": False}}
    rows = tuple(Row(report, None, exactly(energy=x, seconds=y)) for x, y in points)
    front = set(Comparison(rows, (METRICS["energy"], METRICS["seconds"])).pareto)
    for index, (x, y) in enumerate(points):
        beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        assert (index in front) is not beaten


# --- what changed ------------------------------------------------------------------------------------------------


def test_difference_by_operator_and_by_node(aiwq: Aiwq, tmp_path: Path) -> None:
    with_sigmoid(tmp_path / "c.onnx", 6)
    options = ("a.onnx", "c.onnx", "--bind", "batch=3", "--hardware", "round.json")
    for by, expected in (
        ("operator", {"MatMul": "grown", "Relu": "grown", "Sigmoid": "added"}),
        ("node", {"mm": "grown", "act": "grown", "sig": "added"}),
    ):
        changes = compared(aiwq, *options, "--by", by)["changes"]
        assert changes["by"] == by
        assert {entry["name"]: entry["change"] for entry in changes["entries"]} == expected
        matmul = next(entry for entry in changes["entries"] if entry["name"] in ("MatMul", "mm"))
        assert (matmul["before"]["macs"], matmul["after"]["macs"]) == (96, 144)
    backwards = compared(aiwq, "c.onnx", "a.onnx", *options[2:], "--by", "operator")["changes"]["entries"]
    assert {entry["name"]: entry["change"] for entry in backwards} == {
        "MatMul": "shrunk", "Relu": "shrunk", "Sigmoid": "removed",
    }  # fmt: skip
    assert compared(aiwq, "a.onnx", "a.onnx", "b.onnx", *options[2:])["changes"] is None
    refused(aiwq("compare", "a.onnx", "--by", "operator"), "two rows", "1")
    refused(aiwq("compare", *options, "--hardware", "near.json", "--by", "node"), "two rows", "4")
    refused(aiwq("compare", *options, "--by", "scope"), "--by", "operator")


def with_foo(path: Path, hidden: int) -> Path:
    """A model with an operator that nobody knows behind its product."""
    foo = [
        helper.make_node("MatMul", ["X", "W"], ["M"], name="mm"),
        helper.make_node("Foo", ["M"], ["Y"], domain="acme.ops", name="foo"),
    ]
    return dense(path, hidden, nodes=foo)


@pytest.mark.parametrize("saved", [False, True])
def test_difference_of_what_is_not_known(aiwq: Aiwq, tmp_path: Path, saved: bool) -> None:
    """An operator without a count is no operator of count zero: what it became is a change, and no growth."""
    with_foo(tmp_path / "foo.onnx", 4)
    options = ("--bind", "batch=3", "--hardware", "round.json")
    files = ["foo.onnx", "a.onnx"]
    if saved:
        for index, name in enumerate(files):
            done = aiwq("analyze", name, *options, "--format", "json", "--output", f"{index}.json")
            assert done.code == 0, done
        files, options = ["0.json", "1.json"], ()
        before = json.loads((tmp_path / "0.json").read_text(encoding="utf-8"))
        assert before["by_operator"]["acme.ops.Foo"]["macs"] is None
    found = compared(aiwq, *files, *options, "--by", "operator")
    foo = next(entry for entry in found["changes"]["entries"] if entry["name"] == "acme.ops.Foo")
    assert (foo["change"], foo["after"]) == ("removed", None)
    assert foo["before"] == {
        "nodes": 1, "transistor_operations": None, "macs": None, "bytes": None, "joules": None,
    }  # fmt: skip
    table = aiwq("compare", *files, *options, "--by", "operator").out
    (line,) = (line for line in table.splitlines() if line.strip().startswith("acme.ops.Foo"))
    assert line.count("unknown -> none") == 4


def test_a_count_that_becomes_known_is_a_change() -> None:
    """Neither grown nor shrunk: there was nothing to grow from."""
    unknown = {"nodes": 2, "transistor_operations": None, "macs": None, "bytes_read": None, "bytes_written": None}
    known = {"nodes": 2, "transistor_operations": 5, "macs": 0, "bytes_read": 8, "bytes_written": 8}
    reports = [{"by_operator": {"Foo": {**figures, "joules": None}}} for figures in (unknown, known)]
    assert operator_difference(reports[0], reports[0])["entries"] == []
    for before, after in (reports, reports[::-1]):
        (entry,) = operator_difference(before, after)["entries"]
        assert entry["change"] == "changed"


# --- forms -------------------------------------------------------------------------------------------------------


def test_csv_has_one_line_per_row(aiwq: Aiwq) -> None:
    done = aiwq("compare", *AB, "--hardware", "round.json", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out), strict=True))
    assert [row["model"] for row in rows] == ["a.onnx", "b.onnx"]
    assert float(rows[0]["energy_low"]) == pytest.approx(joules(3, 4) * LOW)
    assert [row["pareto"] for row in rows] == ["True", "False"]


@pytest.mark.parametrize("columns", [80, 160])
def test_table_says_all_that_a_reader_needs_within_the_width(
    aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(sys.modules["onnx_aiwq.cli.compare"], "table_width", lambda: columns)
    done = aiwq("compare", *AB, "--hardware", "round.json", "--hardware", "near.json", "--minimise", "co2e", "--where",
                "seconds < 1 min", "--region", "DEU")  # fmt: skip
    assert max(map(len, done.out.splitlines()[:-6])) <= columns
    words = " ".join(done.out.split())
    for text in ("a.onnx", "round", "Pareto front of energy and seconds", "met by #1, #2, #3, #4", "least co2e: #1",
                 "no measurable difference to #2", "DEU"):  # fmt: skip
        assert text in words
    if columns == 160:
        assert "no measurable difference" in done.out


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_hostile_names_in_every_form(aiwq: Aiwq, tmp_path: Path, form: str) -> None:
    nodes = [helper.make_node("MatMul", ["X", "W"], ["M"], name=EVIL), helper.make_node("Relu", ["M"], ["Y"])]
    path = dense(tmp_path / "=evil|<b>`\x1b[31m\u202e.onnx", 9, nodes=nodes, batch=3)
    done = aiwq("compare", "b.onnx", path.name, "--bind", "batch=3", "--hardware", "round.json", "--by", "node",
                "--format", form)  # fmt: skip
    assert done.code == 0
    if form == "json":
        assert EVIL in {entry["name"] for entry in validated(done.json)["changes"]["entries"]}
        return
    assert all(line.isprintable() for line in done.out.split("\n"))
    assert "evil" in done.out
    if form == "markdown":
        assert "<" not in done.out
        assert not re.search(r"(?<!\\)(?:\\\\)*`", done.out)
        for table in (
            list(lines) for bar, lines in itertools.groupby(done.out.splitlines(), lambda x: x[:1]) if bar == "|"
        ):
            cells = {len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}
            assert len(cells) == 1
    if form == "csv":
        assert list(csv.reader(io.StringIO(done.out), strict=True))[2][0].startswith("'=evil")


def test_options_that_do_not_fit(aiwq: Aiwq) -> None:
    refused(aiwq("compare", "absent*.onnx"), "absent*.onnx", "no file matches")
    refused(aiwq("compare", *AB, "--hardware", "rond"), "rond")
    refused(aiwq("compare", *AB, "--minimise", "enrgy"), "--minimise", "'energy'")
    refused(aiwq("compare", *AB, "--format", "yaml"), "--format")
    refused(aiwq("compare", *AB, "--bind", "n=3"), "--bind n", "none of the 2 models")
    refused(aiwq("compare"), "MODEL")


def test_defaults_from_the_project(aiwq: Aiwq, tmp_path: Path) -> None:
    (tmp_path / "aiwq.toml").write_text('hardware = "./round.json"\nregion = "FIN"\nbind = {batch = 3, n = 1}\n')
    rows = compared(aiwq, "a.onnx", "b.onnx")["rows"]
    assert [(row["hardware"], row["carbon"]["region"], row["bindings"]) for row in rows] == [
        ("round", "FIN", {"batch": 3})
    ] * 2
    rows = compared(aiwq, "a.onnx", "--hardware", "near.json", "--bind", "batch=4")["rows"]
    assert [(row["hardware"], row["bindings"]) for row in rows] == [("near", {"batch": 4})]
    shown = aiwq("compare", "a.onnx", "--region", "DEU", "--show-config", "--format", "json").json
    assert {row["setting"]: row["from"] for row in shown} == {
        "hardware": "aiwq.toml", "region": "command line", "bind.batch": "aiwq.toml", "bind.n": "aiwq.toml",
    }  # fmt: skip


def test_python_interface(aiwq: Aiwq) -> None:
    import onnx_aiwq.comparison  # noqa: F401

    found = aiwq_package.compare(["a.onnx", "b.onnx"], hardware=["round.json"], bind={"batch": 3}, minimise="macs")
    assert found.best is not None and found.best["row"] == 0
    validated(found.to_dict())
    assert len(aiwq_package.compare("a.onnx", hardware="round.json", bind={"batch": 3}).rows) == 1
