"""The published schemas against what commands print: valid, and nothing that is printed may be absent or anything."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from gating import Aiwq, dense, profile
from schemas import left_open, problems, validator_of

NAMES = sorted(
    entry.name.removesuffix(".schema.json") for entry in (resources.files("onnx_aiwq") / "schemas").iterdir()
)


# Objects of a report, whose own schema names their keys, and those whose keys are names of the user's.
ROWS = r"rows\[\]\.(totals|energy|ecal|carbon|bindings)\.|pareto\[\]\.values\."


@pytest.fixture
def aiwq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aiwq:
    """The command in a folder with two models and a profile, without profiles of this user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    dense(tmp_path / "a.onnx", 4)
    dense(tmp_path / "b.onnx", 6)
    profile(tmp_path / "round.json")
    return Aiwq(monkeypatch, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one_and_refuses_what_is_no_such_document(name: str) -> None:
    assert not validator_of(name).is_valid({})
    assert not validator_of(name).is_valid({"schema": f"onnx_aiwq.{name.rpartition('-')[0]}/0"})


@pytest.mark.parametrize(
    ("command", "name", "others"),
    [
        ("compare a.onnx b.onnx --by operator --hardware round.json", "comparison-1", ROWS),
        ("gate a.onnx b.onnx --hardware round.json", "verdict-1", r"models\[\]\.bindings\."),
        ("advise a.onnx --hardware round.json", "advice-1", r"model\.bindings\."),
    ],
)
def test_nothing_that_a_command_prints_is_left_open(command: str, name: str, others: str, aiwq: Aiwq) -> None:
    budget = ["--budget", "energy=3 J"] if name == "verdict-1" else []
    done = aiwq(*command.split(), "--bind", "batch=2", *budget, "--format", "json")
    assert done.code == 0, done.err
    assert problems(name, done.json) == []
    left = left_open(name, done.json)
    assert [place for place in left if not re.match(others, place[1:])] == []
