"""The package as it is installed: version, data, types, public names, dependencies, and what the README shows."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.main import get_command

import onnx_aiwq
from onnx_aiwq import cli

ROOT = Path(__file__).parents[1]
PACKAGE = Path(onnx_aiwq.__file__).parent
AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
FILES = (
    "py.typed",
    "data/carbon_intensity.csv",
    "data/cloud_cpu_watts.csv",
    "data/cloud_regions.csv",
    "data/hardware.csv",
    "data/hardware_additions.csv",
    "data/paper_equations_7_8.csv",
    "data/paper_table_v.csv",
    "data/processor_architectures.csv",
    "data/transistors.csv",
    "data/utilisation_curves.csv",
    "schemas/advice-1.schema.json",
    "schemas/comparison-1.schema.json",
    "schemas/doctor-1.schema.json",
    "schemas/report-1.schema.json",
    "schemas/reproduction-1.schema.json",
    "schemas/verdict-1.schema.json",
    "templates/page.html.jinja",
    "templates/vendor/echarts.min.js",
    "templates/vendor/echarts-LICENSE.txt",
)


def test_version_is_the_same_everywhere() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project]")[1].split("\n[")[0]
    written = re.findall(r'^version = "(.+)"$', project, flags=re.MULTILINE)
    assert written == [onnx_aiwq.__version__] == [metadata.version("onnx-aiwq")]
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc|\.dev)\d+)?", onnx_aiwq.__version__)


def test_the_package_under_test_is_the_one_that_should_be() -> None:
    """CI builds the wheel and sets AIWQ_EXPECT_WHEEL=1: the tests must not find the sources beside them."""
    installed = {Path(sysconfig.get_path(kind)).resolve() / "onnx_aiwq" for kind in ("purelib", "platlib")}
    sources = {ROOT.resolve() / "onnx_aiwq"}
    expected = installed if os.environ.get("AIWQ_EXPECT_WHEEL") == "1" else installed | sources
    assert PACKAGE.resolve() in expected


@pytest.mark.parametrize("name", FILES)
def test_file_is_inside_the_installed_package(name: str) -> None:
    inside = resources.files("onnx_aiwq").joinpath(*name.split("/"))
    assert inside.is_file()
    assert inside.read_bytes() == (ROOT / "onnx_aiwq" / name).read_bytes()


def test_the_installed_package_is_the_sources_and_the_profiles_and_nothing_else() -> None:
    """Of each shipped calibration a user needs the profile alone; a checkout has it beside the package."""

    def files(folder: Path) -> dict[str, bytes]:
        found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        return {name.as_posix(): path.read_bytes() for name, path in found.items() if "__pycache__" not in name.parts}

    expected = files(ROOT / "onnx_aiwq")
    if PACKAGE.resolve() != (ROOT / "onnx_aiwq").resolve():
        profiles = sorted((ROOT / "calibration").glob("*/profile.json"))
        assert len(profiles) == sum(path.is_dir() for path in (ROOT / "calibration").iterdir()) > 0
        expected |= {f"calibration_data/{path.parent.name}/profile.json": path.read_bytes() for path in profiles}
    installed = files(PACKAGE)
    assert installed.keys() == expected.keys()
    assert [name for name, content in installed.items() if content != expected[name]] == []
    assert installed.keys() >= set(FILES)


def test_the_command_is_installed() -> None:
    points = metadata.entry_points(group="console_scripts", name="aiwq")
    assert [point.value for point in points] == ["onnx_aiwq.cli:run"]
    assert all(point.load() is cli.run for point in points)
    assert Path(AIWQ).is_file()


# --- public names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", onnx_aiwq.__all__)
def test_public_name_imports_and_is_documented(name: str) -> None:
    public = getattr(onnx_aiwq, name)
    assert (inspect.getdoc(public) or "").strip()
    if inspect.isclass(public):
        assert public.__doc__, "the documentation is inherited"


def test_public_names_are_complete() -> None:
    promised = {"load", "count", "analyze", "HardwareProfile", "rule", "errors"}
    assert promised <= set(onnx_aiwq.__all__)
    assert len(set(onnx_aiwq.__all__)) == len(onnx_aiwq.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        onnx_aiwq.no_such_name  # noqa: B018


def test_type_checkers_see_every_public_name() -> None:
    """Names are imported when they are used; under TYPE_CHECKING the same names are imported for type checkers."""
    tree = ast.parse(Path(onnx_aiwq.__file__).read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [item for block in guarded for item in block.body if isinstance(item, ast.ImportFrom)]
    homes = {alias.asname or alias.name: item.module for item in imports for alias in item.names}
    assert set(homes) == set(onnx_aiwq.__all__)
    for name, home in homes.items():
        assert home is not None
        assert getattr(onnx_aiwq, name) is getattr(importlib.import_module(home), name)


def test_import_is_light() -> None:
    script = "import sys, onnx_aiwq; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "onnx_aiwq" in loaded
    assert loaded.isdisjoint({"onnx", "onnx_ir", "onnxruntime", "numpy", "networkx", "pydantic", "rich", "typer"})


def _imported() -> set[str]:
    """Top-level names of every module that the package imports, lazily or not."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "pytest_plugin.py":
            continue  # loaded by pytest alone
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def _installed_with(distribution: str) -> set[str]:
    """Distributions that come with one, itself included, and with the extras that users install."""
    found: set[str] = set()
    pending = [distribution]
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name not in found:
            found.add(name)
            try:
                needs = [Requirement(text) for text in metadata.requires(name) or ()]
            except metadata.PackageNotFoundError:  # of an extra that is not installed here
                needs = []
            pending += [need.name for need in needs if _is_wanted(need)]
    return found


_ELSEWHERE = {"pynvml": ("nvidia-ml-py",)}  # of the extra `gpu`, which no test installs


def _is_wanted(need: Requirement) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("plots", "fleet", "gpu"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="until 3.11 Python finds only packages with a top_level.txt")
def test_every_import_comes_with_the_package() -> None:
    """What only a test tool brings along is not there for a user."""
    available = _installed_with("onnx-aiwq")
    owners = metadata.packages_distributions()
    missing = {
        name
        for name in _imported() - set(sys.stdlib_module_names) - {"onnx_aiwq"}
        if available.isdisjoint(
            re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name, _ELSEWHERE.get(name, ()))
        )
    }
    assert {"onnx", "numpy", "typer"} <= _imported()
    assert missing == set()


# --- README ------------------------------------------------------------------------------------------------------


def commands_in(markdown: str) -> Iterator[list[str]]:
    """The arguments of every `aiwq` command in the code blocks of a Markdown text."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            # A line begins with the command, or with others before a `&&` (a prompt may stand in front).
            for part in re.split(r"&&|;|\|", re.sub(r"^\s*\$ ", "", line)):
                if re.match(r"\s*(?:\S*/)?aiwq(?:\s|$)", part):
                    words = shlex.split(part, comments=True)[1:]
                    stops = [index for index, word in enumerate(words) if re.match(r"\d?>", word)]
                    yield words[: stops[0]] if stops else words


def links_in(markdown: str) -> list[str]:
    """Relative link targets, images included, without fragments."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r'(?:href|src)="([^"]+)"', text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#|//", target)]


def problem_of(arguments: list[str]) -> str:
    """Why a command line does not parse; empty if it does. Nothing is run."""
    group = get_command(cli.app)
    try:
        with group.make_context("aiwq", list(arguments)) as context:
            index = next(index for index, word in enumerate(arguments) if not word.startswith("-"))
            name, rest = arguments[index], arguments[index + 1 :]
            with group.commands[name].make_context(name, list(rest), parent=context):
                return ""
    except SystemExit:
        return ""
    except Exception as error:
        # Typer may carry its own copy of click: usage errors are known by their name. --help and --version exit.
        return "" if type(error).__name__ == "Exit" else f"{type(error).__name__}: {error}"


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_read_as_it_is_meant() -> None:
    sample = "[a](docs/x.md#y) [b](https://c.d) ![i](e.svg) [f](#g)\n```\n$ aiwq rules \\\n  Conv  # why\naiwqx\n```\n"
    assert list(
        commands_in(
            sample + "```sh\ncd x && .venv/bin/aiwq analyze m.onnx --pue 1.2 | head > x\naiwq regions > y\n```\n"
        )
    ) == [
        ["rules", "Conv"],
        ["analyze", "m.onnx", "--pue", "1.2"],
        ["regions"],
    ]
    assert links_in(sample) == ["docs/x.md", "e.svg"]


@pytest.mark.parametrize(
    ("line", "parses"),
    [
        ("analyze m.onnx --bind a=1 --bind b=2 --format json", True),
        ("rules Conv", True),
        ("analyze --help", True),
        ("analyze m.onnx --no-such-option", False),
        ("analyze m.onnx --inferences many", False),
        ("no-such-command", False),
        ("analyze", False),
    ],
)
def test_parsing_tells_good_commands_from_bad(line: str, parses: bool) -> None:
    assert (problem_of(line.split()) == "") == parses


def test_readme_shows_commands_that_parse() -> None:
    commands = list(commands_in(readme()))
    assert commands, "the README shows no command"
    assert {" ".join(command): problem for command in commands if (problem := problem_of(command))} == {}
    for command in commands:
        if command[0] == "analyze" and command[1].startswith("models/") and "--output" not in command:
            done = subprocess.run([AIWQ, *command], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120)
            assert done.returncode == 0, done.stderr
            assert done.stdout


def test_readme_links_lead_somewhere() -> None:
    targets = links_in(readme())
    assert [target for target in targets if not (ROOT / target).exists()] == []
    assert re.match(r"# \S", readme())
