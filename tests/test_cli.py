"""The installed command as a process: exit codes, streams, formats, files, and names that try to break out."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from processes import aiwq as run_forked
from processes import on_a_terminal, plain_environment
from schemas import problems

BESIDE_PYTHON = str(Path(sys.executable).parent)
AIWQ = shutil.which("aiwq", path=BESIDE_PYTHON) or shutil.which("aiwq") or "aiwq"
COMMANDS = ("advise", "analyze", "compare", "gate", "baseline", "lifecycle", "hardware", "regions", "rules", "doctor")
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
TIMEOUT_S = 120

# Every way out of a line, a cell, a terminal or a reading direction that a name has.
EVIL = "=cmd()|<script>`\\\x1b[31m\u202e\u2066\x07\x9b\nINJECTED\r\tx"


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    domains: Sequence[str] = (),
    batch: int | str = "batch",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 8]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files; commands run in it, so that messages name short paths."""
    folder = tmp_path_factory.mktemp("box")
    weights = [numpy_helper.from_array(np.zeros((8, 4), np.float32), "W")]
    product = helper.make_node("MatMul", ["X", "W"], ["M"], name="product")
    good = model([product, helper.make_node("Relu", ["M"], ["Y"], name="relu")], ["X"], ["Y"], weights)
    data = good.SerializeToString()
    (folder / "good.onnx").write_bytes(data)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "truncated.onnx").write_bytes(data[: len(data) // 2])
    (folder / "text.onnx").write_text("this is no model\n" * 20, encoding="utf-8")
    (folder / "random.onnx").write_bytes(np.random.default_rng(7).bytes(4096))
    (folder / "zip.onnx").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "profile.json").write_text('{"schema": "onnx_aiwq.profile/1"}', encoding="utf-8")
    circle = [helper.make_node("Relu", ["b"], ["a"], name="r1"), helper.make_node("Neg", ["a"], ["b"], name="r2")]
    unknown = [helper.make_node("Foo", ["X"], ["Y"], domain="acme.ops"), helper.make_node("Relu", ["X"], ["Z"])]
    evil = [
        helper.make_node("Foo", ["X" + EVIL], ["T" + EVIL], domain="acme" + EVIL, name=EVIL),
        helper.make_node("Relu", ["X" + EVIL], ["Y" + EVIL], name="-2+3" + EVIL),
        helper.make_node("Neg", ["Y" + EVIL], ["Z" + EVIL], name="@SUM" + EVIL),
    ]
    hostile = model(evil, ["X" + EVIL], ["Z" + EVIL], domains=["acme" + EVIL], batch="b" + EVIL)
    hostile.producer_name = EVIL
    linked = [helper.make_node("![x](https://a.b/c)", ["X"], ["Y"], domain="[d](https://e.f)")]
    for name, made in {
        "cycle": model(circle, ["X"], ["b"]),
        "undefined": model([helper.make_node("Add", ["X", "nowhere"], ["Y"])], ["X"], ["Y"]),
        "unsupported": model(unknown, ["X"], ["Y", "Z"], domains=["acme.ops"], batch=2),
        "fixed": model([helper.make_node("Relu", ["X"], ["Y"])], ["X"], ["Y"], batch=2),
        "hostile": hostile,
        "hostile_cycle": model(
            [helper.make_node("Relu", ["b"], ["a"], name=EVIL), helper.make_node("Neg", ["a"], ["b"], name=EVIL)],
            ["X"],
            ["b"],
        ),
        "linked": model(linked, ["X"], ["Y"], domains=["[d](https://e.f)"]),
    }.items():
        onnx.save(made, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This environment without what steers colour, encoding and debugging, and without this user's own profiles."""
    home = str(tmp_path_factory.mktemp("home"))
    return {**plain_environment(), "HOME": home, "XDG_DATA_HOME": home}


class Command:
    """Runs commands in the folder of test files; what writes no file is run once and remembered.

    With an environment of its own it is the installed command that starts, else a fork.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._done: dict[object, subprocess.CompletedProcess[str]] = {}

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        key = (arguments, tuple(environment.items()))
        if key not in self._done or "--output" in arguments:
            run = self._start if environment else run_forked
            self._done[key] = run(self.folder, {**self.environment, **environment}, *arguments)
        return self._done[key]

    @staticmethod
    def _start(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [AIWQ, *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S
        )

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line of shell in which `$AIWQ` is the command."""
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.folder,
            env={**self.environment, "AIWQ": AIWQ},
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )


@pytest.fixture(scope="module")
def aiwq(box: Path, environment: dict[str, str]) -> Command:
    return Command(box, environment)


def without_progress(stderr: str) -> list[str]:
    """Lines of stderr but those that a slow machine shows to say what is going on."""
    return [line for line in stderr.split("\n")[:-1] if not re.fullmatch(r"aiwq: .* \.\.\.", line)]


def assert_refused(done: subprocess.CompletedProcess[str], *fragments: str) -> str:
    """Exit code 2, nothing on stdout, one line on stderr that speaks to a user, and names every fragment."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    lines = without_progress(done.stderr)
    assert len(lines) == 1, lines
    assert lines[0].startswith("aiwq: ")
    assert "Traceback" not in lines[0]
    assert "this is a bug of aiwq" not in lines[0]
    assert lines[0].isprintable()
    for fragment in fragments:
        assert fragment in lines[0]
    return lines[0]


# --- refusals ----------------------------------------------------------------------------------------------------

MODEL_ERRORS = {
    "absent.onnx": ("no such file",),
    ".": ("directory",),
    "empty.onnx": ("empty",),
    "truncated.onnx": ("ONNX",),
    "text.onnx": ("ONNX",),
    "random.onnx": ("ONNX",),
    "zip.onnx": ("zip",),
    "/dev/null": ("regular file",),
    "good.onnx/below": ("below",),
    "cycle.onnx": ("cycle", "r1", "r2"),
    "undefined.onnx": ("nowhere", "Add"),
    "hostile_cycle.onnx": ("cycle",),
    EVIL: ("no such file",),
}


@pytest.mark.parametrize("path", MODEL_ERRORS)
def test_files_that_are_no_models(aiwq: Command, path: str) -> None:
    line = assert_refused(aiwq("analyze", path), *MODEL_ERRORS[path])
    assert path == EVIL or path in line


OPTION_ERRORS = [
    # Arguments after `analyze good.onnx`, and what the message has to name.
    ("--bind bacth=3", "bacth", "'batch'"),
    ("--bind batch", "--bind", "NAME=INT"),
    ("--bind batch=-1", "--bind", "batch=-1"),
    ("--bind batch=1.5", "--bind", "batch=1.5"),
    ("--bind batch=1 --bind batch=2", "--bind", "1", "2"),
    ("--shape X=3", "--shape", "X", "2 dimensions"),
    ("--shape X=3,9", "--shape", "X", "[batch, 8]"),
    ("--shape X=3;8", "--shape", "X=3;8"),
    ("--shape 3,8", "--shape", "3,8"),
    ("--shape Z=3,8", "--shape", "Z", "X"),
    ("--shape X=3,8 --shape X=3,8", "--shape", "X"),
    ("--shape X=3,8 --bind batch=4", "batch", "4"),
    ("--hardware nvidia-h10", "nvidia-h10", "did you mean", "nvidia-"),
    ("--hardware absent.json", "absent.json"),
    ("--hardware profile.json", "profile.json", "missing required field `id`"),
    ("--region DUE", "DUE", "did you mean", "'DEU'"),
    ("--region germny", "germny", "did you mean", "'Germany'"),
    ("--inferences 0", "--inferences", "0"),
    ("--inferences -5", "--inferences", "-5"),
    ("--inferences many", "--inferences"),
    ("--carbon-intensity -1", "--carbon-intensity", "-1"),
    ("--carbon-intensity nan", "--carbon-intensity", "nan"),
    ("--pue 0.9", "--pue", "0.9"),
    ("--pue nan", "--pue", "nan"),
    ("--measured-seconds 0", "measured"),
    ("--human-hours -1", "human hours", "-1"),
    ("--human-cost-per-hour 5", "--human-hours"),
    ("--format yaml", "--format", "yaml", "json"),
    ("--convention papr", "--convention", "papr", "'paper'"),
    ("--strict", "batch", "--bind"),
    ("--frmat json", "--frmat"),
    ("--format", "--format"),
    ("surplus", "surplus"),
    ("--inferences 1000000000000000000 --carbon-intensity 1e308 --format json", "--carbon-intensity"),
]


@pytest.mark.parametrize(("arguments", "fragments"), [(case[0], case[1:]) for case in OPTION_ERRORS])
def test_options_that_do_not_fit(aiwq: Command, arguments: str, fragments: tuple[str, ...]) -> None:
    assert_refused(aiwq("analyze", "good.onnx", *arguments.split(" ")), *fragments)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("analize good.onnx", ("analize", "analyze")),
        ("analyze", ("MODEL",)),
        ("--frmat", ("--frmat",)),
        ("analyze unsupported.onnx --strict", ("acme.ops.Foo",)),
        ("rules Cnov", ("Cnov", "'Conv'")),
        ("hardware nvidia-h10", ("nvidia-h10", "did you mean")),
        ("regions DUE", ("DUE", "'DEU'")),
        ("rules --format yaml", ("--format", "yaml")),
        ("rules Relu surplus", ("surplus",)),
    ],
)
def test_usage_that_does_not_fit(aiwq: Command, arguments: str, fragments: tuple[str, ...]) -> None:
    assert_refused(aiwq(*arguments.split(" ")), *fragments)


def test_no_command_shows_the_help_on_stderr(aiwq: Command) -> None:
    done = aiwq()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage:" in done.stderr
    assert "this is a bug" not in done.stderr
    assert all(command in done.stderr for command in COMMANDS)


def test_a_usage_error_needs_no_package_beyond_the_dependencies(aiwq: Command) -> None:
    """Typer may carry its own copy of click, so that `import click` fails where nothing else asks for it."""
    script = "import sys; sys.modules['click'] = None; from onnx_aiwq.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "no-such-command"],
        env=aiwq.environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert_refused(done, "no-such-command")


def test_debugging_shows_the_traceback_and_keeps_the_exit_code(aiwq: Command) -> None:
    done = aiwq("analyze", "absent.onnx", AIWQ_DEBUG="1")
    assert done.stdout == ""
    assert "Traceback (most recent call last)" in done.stderr
    assert "UnreadableError" in done.stderr
    assert done.returncode == 2  # 1 is a verdict of the gate


# --- streams -----------------------------------------------------------------------------------------------------


def test_json_is_the_report_and_nothing_else(aiwq: Command) -> None:
    done = aiwq("analyze", "good.onnx", "--format", "json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert problems("report-1", report) == []
    assert report["model"]["path"] == "good.onnx"
    assert report["model"]["assumed_bindings"] == {"batch": 1}
    assert report["energy"]["hardware"] == "amd-epyc-zen-4-vcpu-1-thread"
    assert report["tool"]["version"] == metadata.version("onnx-aiwq")
    warnings = without_progress(done.stderr)
    assert all(line.startswith("aiwq: ") for line in warnings)
    assert any("batch" in line and "--bind" in line for line in warnings)
    assert any("world average" in line for line in warnings)


def test_options_reach_the_report(aiwq: Command) -> None:
    options = "--bind batch=3 --hardware nvidia-l4 --region fra --pue 1.25 --inferences 10 --convention paper"
    done = aiwq("analyze", "good.onnx", "--format", "json", "--strict", *options.split())
    report = json.loads(done.stdout)
    assert report["totals"]["basic_operations"] == {"add": 84, "sub": 0, "mul": 96, "div": 0, "root": 0, "compare": 0}
    assert report["convention"] == "paper"
    assert report["model"]["bindings"] == {"batch": 3}
    assert report["energy"]["hardware"] == "nvidia-l4"
    assert (report["carbon"]["region"], report["carbon"]["pue"]) == ("FRA", 1.25)
    assert report["ecal"]["bits"] == 10 * 3 * 8 * 32
    by_shape = json.loads(aiwq("analyze", "good.onnx", "--format", "json", "--shape", "X=3,8").stdout)
    assert by_shape["totals"]["macs"] == 96
    by_number = json.loads(aiwq("analyze", "good.onnx", "--format", "json", "--carbon-intensity", "12.5").stdout)
    assert by_number["carbon"]["intensity_g_per_kwh"] == 12.5
    assert by_number["carbon"]["region"] is None


def test_csv_has_one_row_per_node(aiwq: Command) -> None:
    done = aiwq("analyze", str(LIGHT / "light_squeezenet.onnx"), "--format", "csv")
    assert done.returncode == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout), strict=True))
    assert len(rows) == 105
    assert all(None not in row and None not in row.values() for row in rows)
    assert sum(int(row["macs"]) for row in rows) == 349_151_936
    assert {row["status"] for row in rows} == {"counted", "movement", "constant"}


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def assert_markdown(text: str) -> None:
    """Every row of every table has as many cells as its heading; a rule stands below the heading."""
    tables = markdown_tables(text)
    assert tables
    for heading, rule, *rows in tables:
        assert rows
        assert all(re.fullmatch(r":?-{3,}:?", cell) for cell in rule)
        assert {len(row) for row in (rule, *rows)} == {len(heading)}


def test_markdown_is_two_tables(aiwq: Command) -> None:
    done = aiwq("analyze", "good.onnx", "--format", "markdown")
    assert done.returncode == 0
    assert_markdown(done.stdout)
    operators, figures = markdown_tables(done.stdout)
    assert {row[0] for row in operators[2:]} >= {"MatMul", "Relu"}
    assert {row[0] for row in figures[2:]} >= {"energy", "eCAL", "CO2e", "coverage"}


def test_table_names_the_hardware_and_how_its_joules_were_obtained(aiwq: Command) -> None:
    done = aiwq("analyze", "good.onnx")
    assert done.returncode == 0
    for word in ("MatMul", "Relu", "total", "modelled", "onnx_aiwq.convention/1", "eCAL", "CO2e", "batch=1 (assumed)"):
        assert word in done.stdout
    assert all(line.startswith("aiwq: ") for line in without_progress(done.stderr))


def test_partial_totals_are_marked(aiwq: Command) -> None:
    for form, mark in (("table", "total (partial)"), ("markdown", "total (partial)"), ("json", '"partial": true')):
        done = aiwq("analyze", "unsupported.onnx", "--format", form)
        assert done.returncode == 0
        assert mark in done.stdout
        assert "acme.ops.Foo" in done.stdout
        assert any("acme.ops.Foo" in line for line in without_progress(done.stderr))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("hardware", "reference-cpu"),
        ("hardware reference-cpu", "reference-cpu"),
        ("regions", "DEU"),
        ("regions DEU", "DEU"),
        ("rules", "Conv"),
        ("rules Conv", "Conv"),
    ],
)
def test_lists_in_every_format(aiwq: Command, arguments: str, name: str) -> None:
    done = {form: aiwq(*arguments.split(), "--format", form) for form in ("table", "json", "markdown", "csv")}
    for form, each in done.items():
        assert (each.returncode, without_progress(each.stderr)) == (0, []), form
        assert name in each.stdout, form
    assert json.loads(done["json"].stdout)
    rows = list(csv.reader(io.StringIO(done["csv"].stdout), strict=True))
    assert len(rows) > 1
    assert {len(row) for row in rows} == {len(rows[0])}
    assert all(rows[0]), "a column without a name"
    if arguments != "rules Conv":  # its Markdown is the rule's own documentation
        assert_markdown(done["markdown"].stdout)


def test_version(aiwq: Command) -> None:
    done = aiwq("--version")
    assert (done.returncode, done.stdout) == (0, f"aiwq {metadata.version('onnx-aiwq')}\n")
    assert done.stderr == ""


def test_help_names_only_commands_that_exist(aiwq: Command) -> None:
    root = aiwq("--help")
    assert (root.returncode, root.stderr) == (0, "")
    listed = re.findall(r"^  ([a-z]\S*)", root.stdout.split("Commands:\n")[1], flags=re.MULTILINE)
    assert set(listed) >= set(COMMANDS)
    texts = {"": root.stdout}
    for command in listed:
        done = aiwq(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: aiwq {command} ")
        # `fleet` is a group of two commands, each with options of its own.
        assert command == "fleet" or ("--format" in done.stdout and "--output" in done.stdout)
        texts[command] = done.stdout
    for command, text in texts.items():
        named = set(re.findall(r"`aiwq\s+([a-z]+)", text))
        assert named <= set(listed), command
    assert aiwq("analyze", "-h").stdout == texts["analyze"]


def test_no_escapes_in_a_pipe(aiwq: Command) -> None:
    for arguments in (("analyze", "good.onnx"), ("hardware",), ("--help",), ("analyze", "absent.onnx")):
        done = aiwq(*arguments, TERM="xterm-256color", FORCE_COLOR="1")
        assert "\x1b" not in done.stdout + done.stderr
    assert "\x1b" not in aiwq("analyze", "good.onnx", TERM="xterm-256color", NO_COLOR="1").stdout


def coloured_on_a_terminal(aiwq: Command, *arguments: str, **environment: str) -> str:
    """What the command writes to a stdout that is a terminal with colours."""
    environment = {**aiwq.environment, "TERM": "xterm-256color", **environment}
    return on_a_terminal([AIWQ, *arguments], cwd=aiwq.folder, env=environment)


def test_colour_on_a_terminal_unless_no_color(aiwq: Command) -> None:
    coloured = coloured_on_a_terminal(aiwq, "analyze", "good.onnx")
    plain = coloured_on_a_terminal(aiwq, "analyze", "good.onnx", NO_COLOR="1")
    assert "\x1b[" in coloured
    assert "MatMul" in plain
    assert "\x1b" not in plain


@pytest.mark.parametrize(("encoding", "arguments"), [("cp1252", "analyze good.onnx"), ("ascii", "regions")])
def test_output_in_a_narrow_encoding(aiwq: Command, encoding: str, arguments: str) -> None:
    """A pipe on Windows takes no box characters; that is no reason to give no answer."""
    done = subprocess.run(
        [AIWQ, *arguments.split()],
        cwd=aiwq.folder,
        env={**aiwq.environment, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


# --- pipes and files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["rules", "--help", "analyze good.onnx --format json --bind batch=1"])
def test_reader_that_goes_away_is_no_error(aiwq: Command, arguments: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [AIWQ, *arguments.split()],
        cwd=aiwq.folder,
        env=aiwq.environment,
        stdout=write,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    os.close(write)
    assert done.returncode == 0
    assert not re.search("Traceback|Errno|Pipe|Exception", done.stderr)


def test_head(aiwq: Command) -> None:
    done = aiwq.shell('"$AIWQ" regions | head -1')
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


def test_full_disk_is_one_line(aiwq: Command) -> None:
    assert_refused(aiwq.shell('"$AIWQ" rules > /dev/full'), "No space left")


def test_closed_stderr_leaves_stdout_to_the_result(aiwq: Command) -> None:
    done = aiwq.shell('"$AIWQ" analyze good.onnx --format json 2>&-')
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == "onnx_aiwq.report/1"
    assert aiwq.shell('"$AIWQ" analyze absent.onnx 2>&-').stdout == ""


def test_closed_stdout_is_one_line(aiwq: Command) -> None:
    assert_refused(aiwq.shell('"$AIWQ" rules >&-'))


@pytest.mark.parametrize(
    "arguments", ["analyze good.onnx --format json", "analyze good.onnx", "regions", "hardware --format csv", "rules"]
)
def test_output_file_holds_what_stdout_would(aiwq: Command, arguments: str, tmp_path: Path) -> None:
    output = tmp_path / "result"
    output.write_text("an older and much longer result\n" * 5000, encoding="utf-8")
    done = aiwq(*arguments.split(), "--output", str(output))
    assert (done.returncode, done.stdout) == (0, "")
    assert output.read_text(encoding="utf-8") == aiwq(*arguments.split()).stdout
    assert list(tmp_path.iterdir()) == [output]


def test_output_file_is_intact_when_the_run_fails(aiwq: Command, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    output.write_text("older result\n", encoding="utf-8")
    for arguments in (("cycle.onnx",), ("good.onnx", "--strict"), ("good.onnx", "--region", "DUE")):
        assert_refused(aiwq("analyze", *arguments, "--output", str(output)))
    assert output.read_text(encoding="utf-8") == "older result\n"
    assert list(tmp_path.iterdir()) == [output]


def test_output_that_cannot_be_written(aiwq: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a regular file\n", encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    for output in (tmp_path / "absent" / "result.json", file / "result.json", folder):
        assert_refused(aiwq("rules", "--output", str(output)), "--output", str(output))
    assert sorted(tmp_path.iterdir()) == [file, folder], "a temporary file is left behind"
    assert list(folder.iterdir()) == []


def test_output_that_cannot_be_written_shows_no_warnings_of_a_result_that_is_not_there(aiwq: Command) -> None:
    assert_refused(aiwq("analyze", "good.onnx", "--output", "good.onnx/result.json"), "--output")


def test_output_file_has_the_permissions_of_any_new_file(aiwq: Command, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    done = aiwq.shell(f'umask 022; "$AIWQ" rules --format json --output "{output}"')
    assert done.returncode == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o644


def test_output_writes_through_a_link_and_never_replaces_a_device(aiwq: Command, tmp_path: Path) -> None:
    target, link, sink = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "null"
    target.write_text("older result\n", encoding="utf-8")
    link.symlink_to(target)
    sink.symlink_to("/dev/null")
    for output in (link, sink):
        assert aiwq("rules", "--format", "json", "--output", str(output)).returncode == 0
        assert output.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8"))
    assert stat.S_ISCHR(sink.stat().st_mode)


# --- names that try to break out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "markdown", "csv"])
def test_names_cannot_steer_a_terminal_or_begin_a_line(aiwq: Command, form: str) -> None:
    done = aiwq("analyze", "hostile.onnx", "--format", form)
    assert done.returncode == 0
    for text in (done.stdout, done.stderr):
        lines = text.split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.startswith(("INJECTED", "x")) for line in lines)
    assert "cmd()" in done.stdout
    assert all(line.startswith("aiwq: ") for line in without_progress(done.stderr))


def test_names_are_whole_in_json(aiwq: Command) -> None:
    report = json.loads(aiwq("analyze", "hostile.onnx", "--format", "json").stdout)
    assert [node["name"] for node in report["nodes"]] == [EVIL, "-2+3" + EVIL, "@SUM" + EVIL]
    assert report["model"]["assumed_bindings"] == {"b" + EVIL: 1}
    assert report["coverage"]["unsupported_operators"] == ["acme" + EVIL + ".Foo"]


def test_names_cannot_break_out_of_markdown(aiwq: Command) -> None:
    done = aiwq("analyze", "hostile.onnx", "--format", "markdown")
    assert_markdown(done.stdout)
    assert len(markdown_tables(done.stdout)) == 2
    assert "<" not in done.stdout
    assert not re.search(r"(?<!\\)(?:\\\\)*`", done.stdout)


def test_names_make_no_links_or_images_in_markdown(aiwq: Command) -> None:
    """A CI job summary would fetch the image."""
    done = aiwq("analyze", "linked.onnx", "--format", "markdown")
    assert done.returncode == 0
    assert "https://a.b/c" in done.stdout
    assert not re.search(r"(?<!\\)\]\(", done.stdout)


def test_names_are_no_formulas_in_csv(aiwq: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(aiwq("analyze", "hostile.onnx", "--format", "csv").stdout), strict=True))
    assert [row["op_type"] for row in rows] == ["Foo", "Relu", "Neg"]
    for row in rows:
        assert None not in row
        for text in (row["name"], row["domain"], row["scope"], row["op_type"]):
            assert not text.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert "cmd()" in row["name"]


def test_option_values_cannot_steer_a_terminal(aiwq: Command) -> None:
    for option in ("--bind", "--shape", "--hardware", "--region", "--format"):
        assert_refused(aiwq("analyze", "good.onnx", option, f"absent/{EVIL}=1/x"))
    assert_refused(aiwq("rules", "--output", f"absent/{EVIL}/x"))


# --- start -------------------------------------------------------------------------------------------------------


def test_start_imports_no_heavy_package(aiwq: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import onnx_aiwq.cli"],
        env=aiwq.environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=300,
    )
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert {"onnx_aiwq", "typer"} <= imported
    assert imported.isdisjoint({"onnx", "onnx_ir", "onnxruntime", "numpy", "networkx", "rich", "pydantic"})


def test_levels_count_a_step_of_training(aiwq: Command, tmp_path: Path) -> None:
    """Y = Relu(X[3, 8] W[8, 4]): forward 96 MACs; backward dW 96 more, no dX for the first layer."""
    path = tmp_path / "small.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((8, 4), np.float32), "W")
    nodes = [onnx.helper.make_node("MatMul", ["X", "W"], ["M"]), onnx.helper.make_node("Relu", ["M"], ["Y"])]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [3, d]) for n, d in (("X", 8), ("Y", 4))]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    macs = {}
    for level in ("inference", "validation", "training"):
        done = aiwq("analyze", str(path), "--level", level, "--loss", "mse", "--format", "json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["level"] == level
        macs[level] = found["totals"]["macs"]
    assert macs == {"inference": 96, "validation": 96, "training": 192}
    table = aiwq("analyze", str(path), "--level", "training", "--loss", "mse")
    assert "per training step" in table.stdout
    assert_refused(aiwq("analyze", str(path), "--level", "trainin"), "--level", "training")
    assert_refused(aiwq("analyze", str(path), "--level", "training", "--optimizer", "adm"), "adam")


# --- the end of the process --------------------------------------------------------------------------------------


_ENDING = """
import atexit, os, sys, threading, time
from onnx_aiwq import cli
atexit.register(lambda: os.write(1, b"taken apart\\n"))
def work():
    time.sleep(0.3)
    os.write(1, b"worked\\n")
def main():
    if sys.argv[1] == "thread":
        threading.Thread(target=work).start()
    sys.stdout.write("answer\\n")  # in a buffer, since stdout is a pipe
    sys.exit(1)
cli.main = main
cli.run()
"""


@pytest.mark.parametrize(
    ("followed", "printed"), [("nobody", ["answer"]), ("thread", ["answer", "taken apart", "worked"])]
)
def test_the_process_ends_at_once_unless_something_waits_for_it(followed: str, printed: list[str]) -> None:
    command = [sys.executable, "-c", _ENDING, followed]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (1, printed), done.stderr
