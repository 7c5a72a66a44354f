"""Configuration files: where they are found, what they may say, and what is said of those that do not fit."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from gating import Aiwq, dense, profile, transistors
from onnx_aiwq import cli
from onnx_aiwq.config import find_config, read_config
from onnx_aiwq.config_document import Options
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


def test_a_later_intensity_replaces_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "aiwq.toml", 'carbon_profile = "day.csv"\nhour = 3\nutilization = 0.5\nembodied_kg = 10.0\n')
    asked = {
        "profile": merged(RunOptions(), configurations())[0],
        "place": merged(RunOptions(region="DEU"), configurations())[0],
        "intensity": merged(RunOptions(carbon_intensity=10.0), configurations())[0],
    }
    found = {name: (each.carbon_profile, each.hour, each.region, each.carbon_intensity) for name, each in asked.items()}
    assert found == {
        "profile": ("day.csv", 3, None, None),
        "place": (None, None, "DEU", None),
        "intensity": (None, None, None, 10.0),
    }
    assert {(each.utilization, each.embodied_kg) for each in asked.values()} == {(0.5, 10.0)}


def test_every_option_of_an_analysis_has_a_setting_and_a_place_on_the_command_line() -> None:
    """What a run can be told is told by a file, by flags, and by the keywords of Python alike."""
    options = {field.name for field in fields(RunOptions)} - {"shapes", "optional"} | {"shape"}
    assert set(Options.model_fields) == options
    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    for name in ("analyze", "compare", "gate", "baseline"):
        assert options <= {parameter.name for parameter in commands[name].params}, name
    no_training = {"level", "loss", "optimizer", "bp", "mini_batch"}
    assert options - no_training <= {parameter.name for parameter in commands["advise"].params}


@pytest.mark.parametrize("command", ["analyze", "advise"])
def test_commands_take_the_settings_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Names that the file binds for other models are left out; flags win."""
    monkeypatch.chdir(tmp_path)
    dense(tmp_path / "a.onnx")
    profile(tmp_path / "round.json")
    write(tmp_path / "aiwq.toml", 'hardware = "round.json"\nregion = "FRA"\nbind = { batch = 3, other = 7 }\n')
    aiwq = Aiwq(monkeypatch, capsys)
    document = aiwq(command, "a.onnx", "--format", "json").json
    place = document["carbon"] if command == "analyze" else document["baseline"]
    hardware = document["energy"] if command == "analyze" else document["baseline"]
    assert (place["region"], hardware["hardware"]) == ("FRA", "round")
    count = document["totals"] if command == "analyze" else document["baseline"]
    assert count["transistor_operations"] == transistors(3, 4)
    flags = ("--bind", "batch=5", "--region", "DEU")
    document = aiwq(command, "a.onnx", "--format", "json", *flags).json
    place = document["carbon"] if command == "analyze" else document["baseline"]
    count = document["totals"] if command == "analyze" else document["baseline"]
    assert (place["region"], count["transistor_operations"]) == ("DEU", transistors(5, 4))


def test_analyze_shows_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "aiwq.toml", "pue = 1.2\n")
    done = Aiwq(monkeypatch, capsys)("analyze", "absent.onnx", "--region", "DEU", "--show-config", "--format", "csv")
    assert done.out.splitlines() == ["setting,value,from", "pue,1.2,aiwq.toml", "region,DEU,command line"]
