"""What is ready to paste: GitHub action, GitLab and pre-commit snippets, the docs, and a CI run in a repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from gating import dense, with_sigmoid
from onnx_aiwq import cli
from onnx_aiwq.config import read_config
from schemas import problems

ROOT = Path(__file__).parents[1]
BESIDE_PYTHON = Path(sys.executable).parent
AIWQ = shutil.which("aiwq", path=str(BESIDE_PYTHON)) or shutil.which("aiwq") or "aiwq"
BASH = shutil.which("bash") or "/bin/bash"
DOCS = ("gate.md", "compare.md")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This environment with the installed command on the path, without this user's own profiles."""
    steering = ("AIWQ_", "GITHUB_", "XDG_", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(AIWQ).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home), "PATH": path}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    dense(folder / "models/small.onnx")
    dense(folder / "models/with space.onnx", 5)
    return folder


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(line: str, folder: Path, environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """A script as a CI system runs it."""
    return subprocess.run(
        [BASH, "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        cwd=folder,
        env={**environment, **more},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


# --- GitHub ------------------------------------------------------------------------------------------------------


def action() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8")))


def check_models(project: Path, environment: dict[str, str], **inputs: str) -> subprocess.CompletedProcess[str]:
    """The second step of the action with its inputs as GitHub hands them over."""
    step = action()["runs"]["steps"][1]
    defaults = {name: entry["default"] for name, entry in action()["inputs"].items()}
    given = {**defaults, **inputs}
    names = {name: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", value) for name, value in step["env"].items()}
    values = {name: given[match[1]] for name, match in names.items() if match}
    assert set(values) == set(step["env"]), "every input arrives through the environment, never in the script"
    runner = {name: str(project.parent / name.lower()) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    return run(step["run"], project, environment, RUNNER_TEMP=str(project.parent), **runner, **values)


def test_action_is_a_composite_action() -> None:
    found = action()
    assert found["runs"]["using"] == "composite"
    assert {"name", "description", "inputs", "outputs", "runs"} == set(found)
    for step in found["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(found["inputs"])


def test_action_checks_models(project: Path, environment: dict[str, str]) -> None:
    done = check_models(
        project, environment,
        models="models/small.onnx\nmodels/with space.onnx\n", bind="batch=3\n", budgets="macs=100\nenergy=3 kJ\n",
        junit="aiwq.xml",
    )  # fmt: skip
    assert done.returncode == 1, done
    verdict = json.loads((project.parent / "aiwq-verdict.json").read_text(encoding="utf-8"))
    assert {check["model"]: check["passed"] for check in verdict["checks"] if check["metric"] == "macs"} == {
        "models/small.onnx": True,
        "models/with space.onnx": False,
    }
    assert "FAILED (1 of 4 checks fail)" in (project.parent / "github_step_summary").read_text(encoding="utf-8")
    assert (project.parent / "github_output").read_text() == f"verdict={project.parent}/aiwq-verdict.json\n"
    assert json.loads((project / "aiwq.sarif").read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert ET.parse(project / "aiwq.xml").getroot().get("failures") == "1"


def test_action_takes_hostile_inputs_as_text(project: Path, environment: dict[str, str]) -> None:
    for name in ("models", "budgets", "bind", "hardware", "region", "policy"):
        done = check_models(
            project, environment, **{"models": "models/small.onnx", name: "$(touch pwned);`touch pwned`"}
        )
        assert done.returncode == 2, done
    assert not (project / "pwned").exists()


def test_action_with_a_policy(project: Path, environment: dict[str, str]) -> None:
    (project / "aiwq.toml").write_text(
        "bind = {batch = 3}\n[gate]\nmodels = ['models/*.onnx']\nbudgets = {macs = '1 k'}\n"
    )
    assert check_models(project, environment).returncode == 0


def test_workflow_of_the_docs_uses_inputs_of_the_action() -> None:
    workflow = next(text for text in blocks("gate.md", "yaml") if ".github/workflows" in text)
    steps = yaml.safe_load(workflow)["jobs"]["gate"]["steps"]
    (ours,) = [step for step in steps if step["uses"] == "./"]
    assert set(ours["with"]) <= set(action()["inputs"])
    (upload,) = [step for step in steps if "upload-sarif" in step["uses"]]
    assert upload["with"]["sarif_file"] == action()["inputs"]["sarif"]["default"]


# --- GitLab, pre-commit ------------------------------------------------------------------------------------------


def test_gitlab_snippet(project: Path, environment: dict[str, str]) -> None:
    (text,) = [text for text in blocks("gate.md", "yaml") if ".gitlab-ci.yml" in text]
    job = yaml.safe_load(text)["aiwq"]
    install, *script = job["script"]
    assert install.startswith("pip install ")
    done = run("\n".join(script), project, environment)
    assert done.returncode == 0, done
    assert ET.parse(project / job["artifacts"]["reports"]["junit"]).getroot().get("tests") == "2"
    for path in job["artifacts"]["paths"]:
        assert (project / path).is_file()


def test_pre_commit_hook(project: Path, environment: dict[str, str]) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language", "files"} <= set(hook)
    (text,) = [text for text in blocks("gate.md", "yaml") if ".pre-commit-config.yaml" in text]
    ((used,),) = [repo["hooks"] for repo in yaml.safe_load(text)["repos"]]
    assert used["id"] == hook["id"]
    changed = [str(path.relative_to(project)) for path in sorted(project.rglob("*")) if path.is_file()]
    files = [path for path in changed if re.search(hook["files"], path)]
    assert len(files) == 2
    done = run(shlex.join([*shlex.split(hook["entry"]), *used["args"], *files]), project, environment)
    assert done.returncode == 0, done
    done = run(
        shlex.join([*shlex.split(hook["entry"]), *used["args"], "--budget", "macs=1", *files]), project, environment
    )
    assert done.returncode == 1, done


# --- a repository ------------------------------------------------------------------------------------------------


def test_a_pull_request_that_makes_a_model_larger(project: Path, environment: dict[str, str]) -> None:
    """Baseline committed; a model changes: the gate fails and says why; with a tolerance it passes; then renewed."""
    (project / "aiwq.toml").write_text(
        "bind = { batch = 3 }\nhardware = 'reference-cpu'\nregion = 'DEU'\n"
        "[gate]\nmodels = ['models/**/*.onnx']\nbaseline = 'baselines'\nbudgets = { energy = '1 kJ' }\n",
        encoding="utf-8",
    )
    git = "git -c user.name=a -c user.email=a@b -c commit.gpgsign=false"
    first = run(
        f"git init -q . && aiwq baseline update && {git} add -A && {git} commit -qm baseline", project, environment
    )
    assert first.returncode == 0, first
    assert run("aiwq gate --summary s0.md", project, environment).returncode == 0
    assert "No operator has changed since the baseline." in (project / "s0.md").read_text(encoding="utf-8")

    with_sigmoid(project / "models/small.onnx", 5)
    changed = run("aiwq gate --summary s1.md --junit j.xml --format json", project, environment)
    assert changed.returncode == 1, changed
    failed = [check for check in json.loads(changed.stdout)["checks"] if not check["passed"]]
    assert {check["model"] for check in failed} == {"models/small.onnx"}
    assert {check["kind"] for check in failed} == {"regression"}
    assert {"energy", "macs", "parameters", "transistor_operations"} <= {check["metric"] for check in failed}
    summary = (project / "s1.md").read_text(encoding="utf-8")
    assert re.search(r"\| models/small.onnx \| macs since baseline \| 120 \| exact \| 96 \| FAIL \|", summary)
    assert "120 is 25 % above the baseline's 96; 0 % allowed" in summary
    assert re.search(r"\| Sigmoid \| added \| none -> 1 \|", summary)
    assert re.search(r"\| MatMul \| grown \| 1 \|", summary)
    failures = {
        case.get("name") for case in ET.parse(project / "j.xml").iter("testcase") if case.find("failure") is not None
    }
    assert failures == {check["name"] for check in failed}

    tolerant = run("aiwq gate --tolerance default=1000% --summary s2.md", project, environment)
    assert tolerant.returncode == 0, tolerant
    assert "aiwq gate: passed" in (project / "s2.md").read_text(encoding="utf-8")
    assert run("aiwq gate --tolerance macs=10%", project, environment).returncode == 1

    renewed = run("aiwq baseline update --format csv && git status --porcelain baselines", project, environment)
    assert "models/small.onnx,baselines/models/small.onnx.json,changed" in renewed.stdout
    assert "models/with space.onnx,baselines/models/with space.onnx.json,unchanged" in renewed.stdout
    assert renewed.stdout.splitlines()[-1] == " M baselines/models/small.onnx.json"
    assert run("aiwq gate", project, environment).returncode == 0


# --- docs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCS)
def test_commands_of_the_docs_parse(document: str) -> None:
    group = get_command(cli.app)
    lines = [line for block in blocks(document, "sh") for line in block.splitlines() if line.startswith("aiwq ")]
    assert lines
    for line in lines:
        name, *rest = shlex.split(line, comments=True)[1:]
        with group.commands[name].make_context(name, rest):  # type: ignore[attr-defined]
            pass


@pytest.mark.parametrize("document", DOCS)
def test_json_of_the_docs_validates(document: str) -> None:
    for block in blocks(document, "json"):
        example = json.loads(block)
        name = example["schema"].removeprefix("onnx_aiwq.").replace("/", "-")
        assert problems(name, example) == []


def test_toml_of_the_docs_is_a_configuration(tmp_path: Path) -> None:
    (block,) = blocks("gate.md", "toml")
    path = tmp_path / "aiwq.toml"
    path.write_text(block, encoding="utf-8")
    config = read_config(path)
    assert config.gate.budgets == {"energy": "3 J", "macs": 5_000_000_000}
    assert len(config.gate.overrides) == 1
