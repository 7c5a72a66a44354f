"""The pytest fixture: a run of pytest in a folder of its own, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from gating import dense

TESTS = """
def test_within(aiwq_budget):
    verdict = aiwq_budget("models/small.onnx", macs=96, energy="3 kJ", bind={"batch": 3})
    assert verdict.passed and len(verdict.checks) == 3  # the project's own budget is the third

def test_over(aiwq_budget):
    aiwq_budget("models/small.onnx", macs="95", bind={"batch": 3})

def test_straddles(aiwq_budget):
    aiwq_budget("models/small.onnx", energy="330 nJ", bind={"batch": 3}, hardware="reference-cpu")

def test_unbound(aiwq_budget):
    aiwq_budget("models/small.onnx", macs=96)

def test_project_policy(aiwq_budget):
    verdict = aiwq_budget("models/small.onnx", bind={"batch": 3})
    assert [check.metric.name for check in verdict.checks] == ["parameters"]

def test_baseline(aiwq_budget):
    aiwq_budget("models/small.onnx", bind={"batch": 3}, baseline="base.json", tolerances={"macs": "5%"})
"""


def test_the_fixture_in_a_project(tmp_path: Path) -> None:
    dense(tmp_path / "models/small.onnx")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_models.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n[tool.aiwq.gate.budgets]\nparameters = 32\n", encoding="utf-8"
    )
    steering = ("AIWQ_", "PYTEST", "COV_", "XDG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "test_models.py"],
        cwd=tmp_path / "tests",  # paths are relative to the root of the project all the same
        env={**environment, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    outcomes = {
        line.split("::")[1].split(" ")[0]: line.split(" ")[0]
        for line in run.stdout.splitlines()
        if line.startswith(("PASSED", "FAILED", "ERROR"))
    }
    assert outcomes == {
        "test_within": "PASSED",
        "test_over": "FAILED",
        "test_straddles": "PASSED",
        "test_unbound": "FAILED",
        "test_project_policy": "PASSED",
        "test_baseline": "FAILED",
    }, run.stdout
    assert "FAILED (1 of 2 checks fail)" in run.stdout  # test_over shows the table
    assert "BudgetWarning" in run.stdout and "could not be told apart" in run.stdout
    assert "--bind batch=N" in run.stdout
    assert "no baseline for" in run.stdout


def test_the_plugin_is_installed() -> None:
    points = metadata.entry_points(group="pytest11", name="aiwq")
    assert {point.value for point in points} == {"onnx_aiwq.pytest_plugin"}
