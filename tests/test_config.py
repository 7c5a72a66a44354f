"""Configuration files: where they are found, what they may say, and what is said of those that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command

from onnx_aiwq import cli
from onnx_aiwq.config import command_line_defaults, find_config, read_config
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.runs import RunOptions
from onnx_aiwq.settings import configurations, merged

WHOLE = """
bind = { batch = 8, "seq len" = 128 }
shape = { input = [1, 3, 224, 224] }
hardware = "profiles/mine.json"
region = "DEU"
carbon_intensity = 12
pue = 1.2
inferences = 1000
level = "inference"
convention = "paper"
lifecycle = "life.toml"

[gate]
models = ["models/**/*.onnx"]
baseline = "baselines"
budgets = { energy = "3 J", macs = 5_000_000_000 }
tolerances = { default = "0%", energy = "5 %" }

[[gate.overrides]]
models = "models/large/**"
hardware = "nvidia-l4"
budgets = { energy = "none" }
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config(write(tmp_path / "aiwq.toml", WHOLE))
    assert config.options.bind == {"batch": 8, "seq len": 128}
    assert config.options.shape == {"input": (1, 3, 224, 224)}
    assert config.gate.budgets == {"energy": "3 J", "macs": 5_000_000_000}
    assert [override.globs for override in config.gate.overrides] == [("models/large/**",)]
    assert config.gate.overrides[0].hardware == "nvidia-l4"
    assert config.resolve("baselines") == "baselines"


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(write(tmp_path / "aiwq.toml", WHOLE))
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert config.resolve("baselines") == str(tmp_path / "baselines")
    assert config.resolve_hardware("profiles/mine.json") == str(tmp_path / "profiles/mine.json")
    assert config.resolve_hardware("nvidia-l4") == "nvidia-l4"


def test_the_nearest_file_counts_up_to_the_root_of_the_checkout(tmp_path: Path) -> None:
    below = tmp_path / "repository/a/b"
    below.mkdir(parents=True)
    write(tmp_path / "aiwq.toml", 'region = "OUTSIDE"\n')
    (tmp_path / "repository/.git").mkdir()
    assert find_config(below) is None
    write(tmp_path / "repository/pyproject.toml", "[project]\nname = 'x'\n")
    assert find_config(below) is None
    write(tmp_path / "repository/pyproject.toml", "[tool.aiwq]\nregion = 'FRA'\n")
    found = find_config(below)
    assert found is not None and found.options.region == "FRA"
    write(tmp_path / "repository/a/aiwq.toml", 'region = "DEU"\n')
    write(tmp_path / "repository/a/pyproject.toml", "[tool.aiwq]\nregion = 'FIN'\n")
    found = find_config(below)
    assert found is not None and found.options.region == "DEU"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("hardwear = 'x'", ("'hardwear'", "did you mean 'hardware'?")),
        ("[gate]\nbudget = {}", ("'gate.budget'", "did you mean 'budgets'?")),
        ("[gate.budgets]\nmacs = []", ("gate.budgets.macs",)),
        ("bind = { batch = 1.5 }", ("bind.batch",)),
        ("bind = { batch = -1 }", ("bind.batch",)),
        ("bind = ['batch=1']", ("bind",)),
        ("level = 'traning'", ("level", "'training'")),
        ("pue = 'much'", ("pue",)),
        ("gate = 3", ("gate",)),
        ("budgets = {}\n[gate]\nbudgets = {}", ("keep one",)),
        ("a = ", ("not valid TOML",)),
        ("a" * 10, ("not valid TOML",)),
        ("\x00", ("not valid TOML",)),
        ("[[gate.overrides]]\nbudgets = {}", ("gate.overrides.0.models",)),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, text: str, fragments: tuple[str, ...]) -> None:
    path = write(tmp_path / "aiwq.toml", text)
    with pytest.raises(PolicyError) as error:
        find_config(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in " ".join(str(error.value).split())
    for fragment in fragments:
        assert fragment in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(PolicyError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'region = "\xe9"\n')
    with pytest.raises(PolicyError, match="TOML"):
        read_config(tmp_path / "latin.toml")


def test_flags_win_and_a_place_replaces_an_intensity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "aiwq.toml", "carbon_intensity = 12\npue = 1.2\nbind = { a = 1, b = 2 }\n")
    options, origins = merged(RunOptions(bind={"a": 3}, region="DEU"), configurations())
    assert (options.region, options.carbon_intensity, options.pue) == ("DEU", None, 1.2)
    assert (options.bind, options.optional) == ({"a": 3, "b": 2}, {"b"})
    assert origins == {
        "region": ("DEU", "command line"),
        "pue": ("1.2", "aiwq.toml"),
        "bind.a": ("3", "command line"),
        "bind.b": ("2", "aiwq.toml"),
    }


def test_the_policy_is_the_project_file_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "aiwq.toml", "pue = 1.2\n")
    assert len(configurations(Path("aiwq.toml"))) == 1
    write(tmp_path / "other.toml", "pue = 1.3\n")
    assert [config.options.pue for config in configurations(Path("other.toml"))] == [1.2, 1.3]


def test_defaults_for_the_command_line_are_parameters_of_analyze(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = command_line_defaults(read_config(write(tmp_path / "aiwq.toml", WHOLE)))
    assert defaults["bind"] == ["batch=8", "seq len=128"]
    assert defaults["shape"] == ["input=1,3,224,224"]
    known = {parameter.name for parameter in get_command(cli.app).commands["analyze"].params}  # type: ignore[attr-defined]
    assert set(defaults) - {"level", "lifecycle"} <= known
    assert command_line_defaults(None) == {}
