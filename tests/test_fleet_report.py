"""`aiwq fleet report`: sums, ranks, fronts and changes against values worked out by hand."""

from __future__ import annotations

import html.parser
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from onnx_aiwq.errors import AiwqError, PolicyError
from onnx_aiwq.fleet.inferences import parse_inferences
from onnx_aiwq.fleet.render import render_fleet
from onnx_aiwq.fleet.rows import ERROR_COLUMNS, RESULT_COLUMNS
from onnx_aiwq.fleet.store import FleetWriter
from onnx_aiwq.fleet.summary import Question, summarise
from schemas import problems

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def result(model: str, joules: float | None, seconds: float | None, **other: Any) -> dict[str, Any]:
    """A row with figures of a model, most of them zero."""
    zero = {"count": 0, "integer": 0, "number": 0.0, "text": "", "texts": [], "flag": False}
    row = {name: zero[kind] for name, kind in RESULT_COLUMNS.items()}
    ends = {"joules_low": None if joules is None else joules / 2, "joules_high": None if joules is None else joules * 2}
    named = {
        "model": model,
        "content_sha256": f"1-{model}",
        "settings": "s",
        "hardware_key": "cpu:1",
        "hardware": "cpu",
    }
    return {**row, **named, **ends, "joules": joules, "seconds": seconds, **other}


def error(model: str, reason: str, message: str = "wrong") -> dict[str, Any]:
    """The row of a failure."""
    row = dict.fromkeys(ERROR_COLUMNS)
    return {**row, "model": model, "settings": "s", "reason": reason, "message": message}


def listed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inventory of these rows and errors."""
    models = {row["model"]: (row["content_sha256"], "reason" in row) for row in rows}
    return [
        {"model": model, "content_sha256": content, "version": None, "size_bytes": 1, "failed": failed}
        for model, (content, failed) in models.items()
    ]


def written(folder: Path, *runs: list[dict[str, Any]], settings: str = "s", finish: bool = True) -> Path:
    """A fleet of some runs; what an earlier run has of a row is not written again."""
    store = FleetWriter(folder)
    have: list[dict[str, Any]] = []
    for number, rows in enumerate(runs):
        about = {"settings": settings, "hardware": ["cpu:1", "gpu:1"], "options": OPTIONS, "sources": [str(number)]}
        store.begin(about)
        fresh = [row for row in rows if row not in have]
        have += fresh
        good, bad = ([row for row in fresh if ("reason" in row) is failed] for failed in (False, True))
        store.add(good, bad, listed(rows))
        if finish:
            store.finish(about)
    store.close()
    return folder


OPTIONS = {"convention": "default", "level": "inference"}


def report(folder: Path, inferences: str = "1", **question: Any) -> dict[str, Any]:
    """The JSON report, which validates."""
    found = summarise(folder, Question(parse_inferences(inferences), **question))
    written = dict(json.loads(render_fleet(found, "json")))
    assert problems("fleet-1", written) == []
    return written


def test_totals_are_sums_times_inferences(tmp_path: Path) -> None:
    fleet = written(
        tmp_path / "f",
        [
            result("a", 2.0, 0.5, macs=10**30, co2e_g=1.0, transistor_operations=5),
            result("b", 3.0, 0.25, macs=7, co2e_g=None, partial=True),
            result("b", 1.0, 0.125, hardware="gpu", hardware_key="gpu:1"),
            result("c", None, None),
            error("d", "timeout"),
        ],
    )
    (cpu, gpu) = report(fleet)["totals"]
    assert (cpu["joules"], cpu["joules_low"], cpu["joules_high"], cpu["seconds"]) == (5.0, 2.5, 10.0, 0.75)
    assert (cpu["macs"], cpu["transistor_operations"], cpu["co2e_g"]) == (10**30 + 7, 5, 1.0)
    assert (cpu["models"], cpu["partial"], cpu["unpriced"], cpu["inferences"]) == (3, 1, 1, 3)
    assert (gpu["models"], gpu["joules"]) == (1, 1.0)
    assert report(fleet, "1000")["totals"][0]["joules"] == 5000.0
    assert report(fleet)["models"] == {"listed": 4, "analysed": 3, "partial": 1, "failed": 1}


def test_inferences_come_from_a_file(tmp_path: Path) -> None:
    fleet = written(tmp_path / "f", [result("a", 2.0, 0.5), result("b", 3.0, 0.25), result("c", 7.0, 1.0)])
    file = tmp_path / "use.csv"
    file.write_text("inferences,model\n10,a\n0,b\n5,gone\n")
    found = report(fleet, str(file))
    assert (found["totals"][0]["joules"], found["totals"][0]["inferences"]) == (20.0, 10)
    assert found["inferences"] == {"each": None, "file": str(file), "models_without": 1}
    assert any("gone" in line for line in found["warnings"])
    ranked = [(row["model"], row["inferences"], row["share"]) for row in found["top"]["rows"]]
    assert ranked == [("a", 10, 1.0), ("b", 0, 0.0), ("c", 0, 0.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model\na\n", "lacks the column inferences"),
        ("model,inferences\na,-1\n", "line 2: inferences '-1'"),
        ("model,inferences\na,1.5\n", "line 2: inferences '1.5'"),
        ("model,inferences\na,1\na,2\n", "line 3: 'a' is there twice"),
        ("model,inferences\na\n", "line 2: inferences ''"),
    ],
)
def test_a_bad_file_of_inferences_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "use.csv").write_text(text)
    with pytest.raises(PolicyError, match=message):
        parse_inferences(str(tmp_path / "use.csv"))


def test_inferences_that_are_neither_number_nor_file_are_an_error() -> None:
    for text in ("1.5", "-3", "no.csv"):
        with pytest.raises(PolicyError, match="expected a whole number, or a CSV file"):
            parse_inferences(text)


def test_a_sum_does_not_depend_on_the_order_of_the_parts(tmp_path: Path) -> None:
    randomly = random.Random(5)
    rows = [result(f"m{index}", 10 ** randomly.uniform(-9, 9), 1.0) for index in range(300)]
    one = report(written(tmp_path / "one", rows))
    other = report(written(tmp_path / "other", randomly.sample(rows, len(rows))))
    assert one["totals"] == other["totals"]
    assert one["totals"][0]["joules"] == math.fsum(row["joules"] for row in rows)
    assert one["top"] == other["top"]


@pytest.mark.parametrize("seed", range(8))
def test_the_front_is_what_comparing_all_pairs_gives(tmp_path: Path, seed: int) -> None:
    randomly = random.Random(seed)
    rows = [
        result(f"m{index}", float(randomly.randrange(9)), float(randomly.randrange(9)), partial=randomly.random() < 0.2)
        for index in range(40)
    ]
    points = {row["model"]: (row["joules"], row["seconds"]) for row in rows if not row["partial"]}
    front = {
        model
        for model, (x, y) in points.items()
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points.values())
    }
    found = report(written(tmp_path / "f", rows), top=100)["pareto"]
    assert {row["model"] for row in found["rows"]} == front
    assert found["size"] == len(front)


def test_the_largest_come_first_by_any_metric(tmp_path: Path) -> None:
    rows = [result(f"m{index}", float(index), 100.0 - index, parameters=index % 7) for index in range(50)]
    fleet = written(tmp_path / "f", rows)
    assert [row["model"] for row in report(fleet, top=3)["top"]["rows"]] == ["m49", "m48", "m47"]
    assert [row["model"] for row in report(fleet, top=2, by="seconds")["top"]["rows"]] == ["m0", "m1"]
    largest = report(fleet, top=7, by="parameters")["top"]["rows"]
    assert [row["metrics"]["parameters"] for row in largest] == [6] * 7
    assert report(fleet, top=1)["top"]["rows"][0]["share"] == pytest.approx(49 / sum(range(50)))


def test_errors_stand_by_reason(tmp_path: Path) -> None:
    rows = [error(f"t{index}", "timeout") for index in range(5)] + [error("x", "crash", "died of SIGSEGV")]
    found = report(written(tmp_path / "f", [result("a", 1.0, 1.0), *rows]))["errors"]
    assert [(entry["reason"], entry["models"], len(entry["examples"])) for entry in found] == [
        ("timeout", 5, 3),
        ("crash", 1, 1),
    ]
    assert found[1]["examples"] == [{"model": "x", "message": "died of SIGSEGV"}]


def test_changes_since_the_run_before(tmp_path: Path) -> None:
    first = [result("same", 1.0, 1.0), result("gone", 1.0, 1.0), result("other", 2.0, 1.0), result("breaks", 1.0, 1.0)]
    second = [
        result("same", 1.0, 1.0),
        result("new", 1.0, 1.0),
        result("other", 5.0, 1.0, content_sha256="2-other"),
        error("breaks", "model"),
        result("mended", 1.0, 1.0),
    ]
    fleet = written(tmp_path / "f", [*first, error("mended", "model")], second)
    found = report(fleet)
    changes = found["changes"]
    assert found["run"]["number"] == 2
    assert changes["previous_run"] == 1
    assert changes["counts"] == {
        "added": 1,
        "removed": 1,
        "content_changed": 1,
        "newly_failing": 1,
        "recovered": 1,
        "figures_changed": 1,
    }
    names = ("added", "removed", "content_changed", "newly_failing", "recovered")
    assert [changes[name] for name in names] == [["new"], ["gone"], ["other"], ["breaks"], ["mended"]]
    (moved,) = changes["figures"]
    assert (moved["model"], moved["before"]["joules"], moved["after"]["joules"]) == ("other", 2.0, 5.0)
    # What an earlier run had of the changed model is in no total of this one.
    assert found["totals"][0]["joules"] == 1.0 + 1.0 + 5.0 + 1.0
    assert [entry["models"] for entry in found["errors"]] == [1]


def test_the_first_run_has_no_changes_and_an_unfinished_one_says_so(tmp_path: Path) -> None:
    found = report(written(tmp_path / "f", [result("a", 1.0, 1.0)], finish=False))
    assert found["changes"] is None
    assert "not come to its end" in found["warnings"][0]


def test_a_folder_that_is_no_fleet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AiwqError, match="holds no fleet"):
        summarise(tmp_path, Question())
    (tmp_path / "fleet.json").write_text('{"format": "onnx_aiwq.fleet-store/9"}')
    with pytest.raises(AiwqError, match=r"reads 'onnx_aiwq.fleet-store/1'"):
        summarise(tmp_path, Question())


@pytest.mark.parametrize(
    "question",
    [{"by": "enrgy"}, {"pareto": ("energy", "energy")}, {"pareto": ("energy", "speed")}, {"top": 0}],
)
def test_a_question_that_makes_no_sense_is_an_error(question: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"--(by|pareto|top)"):
        Question(**question)


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_from_models_steer_neither_page_nor_terminal(tmp_path: Path) -> None:
    fleet = written(
        tmp_path / HOSTILE.replace("/", ""), [result(HOSTILE, 1.0, 1.0), error(f"x{HOSTILE}", "model", HOSTILE)]
    )
    (tmp_path / "use.csv").write_text(f"model,inferences\n{HOSTILE} of old,3\n")
    found = report(fleet, str(tmp_path / "use.csv"))
    page = render_fleet(found, "html")
    parsed = _Page(page)
    assert parsed.open == []
    assert not {"script", "img", "link", "iframe"} & set(parsed.tags)
    assert not [tag for tag, attributes in parsed.attributes if {"src", "href", "onclick"} & attributes.keys()]
    table = render_fleet(found, "table", width=160)
    assert all(character.isprintable() or character == "\n" for character in table)
    assert all(character.isprintable() or character == "\n" for character in page)


def test_the_page_can_be_read_aloud(tmp_path: Path) -> None:
    parsed = _Page(render_fleet(report(written(tmp_path / "f", [result("a", 1.0, 1.0)])), "html"))
    by_tag = [tag for tag, _ in parsed.attributes]
    assert dict(parsed.attributes)["html"]["lang"] == "en"
    assert by_tag.count("h1") == by_tag.count("main") == by_tag.count("title") == 1
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in parsed.attributes if tag == "th")
    names = {attributes["id"] for _, attributes in parsed.attributes if "id" in attributes}
    labels = {attributes["aria-labelledby"] for _, attributes in parsed.attributes if "aria-labelledby" in attributes}
    assert labels <= names


def test_the_table_names_totals_and_units(tmp_path: Path) -> None:
    fleet = written(tmp_path / "f", [result("zoo/a.onnx", 2.0, 0.5, macs=3_000_000), error("b", "crash")])
    text = render_fleet(report(fleet, "10"), "table", width=160)
    for part in ("2 models, 1 analysed, 1 failed", "20 J (10 J to 40 J)", "5 s", "30 M", "zoo/a.onnx", "crash"):
        assert part in text
