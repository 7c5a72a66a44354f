"""Tables as they stand in a terminal of 80 and 160 columns, against golden files; and what fits, folds and is cut.

After a change that is meant: AIWQ_WRITE_GOLDEN=1 pytest tests/test_tables.py, and read the difference.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper

from gating import EVIL, Aiwq, Done, dense, profile, with_sigmoid
from processes import on_a_terminal

GOLDEN = Path(__file__).parent / "data" / "tables"
AIWQ = shutil.which("aiwq", path=str(Path(sys.executable).parent)) or shutil.which("aiwq") or "aiwq"
GRID = ("--carbon-intensity", "100")
TABLES: dict[str, tuple[str, ...]] = {
    "analyze": ("analyze", "a.onnx", "--hardware", "round.json", *GRID),
    "analyze-by-scope": ("analyze", "deep.onnx", "--hardware", "round.json", *GRID, "--by", "scope", "--top", "2"),
    "analyze-sweep": ("analyze", "a.onnx", "--hardware", "round.json", *GRID, "--sweep", "batch=1:64:x4"),
    "compare": ("compare", "a.onnx", "b.onnx", "--bind", "batch=3", "--hardware", "round.json", "--hardware",
                "frugal.json", *GRID, "--minimise", "energy"),
    "compare-by-operator": ("compare", "a.onnx", "b.onnx", "--bind", "batch=3", "--hardware", "round.json", *GRID,
                            "--by", "operator"),
    "gate": ("gate", "a.onnx", "--bind", "batch=3", "--hardware", "round.json", *GRID, "--budget", "energy=1 mJ",
             "--budget", "macs=1 k"),
    "advise": ("advise", "a.onnx", "--bind", "batch=4", "--hardware", "round.json", *GRID, "--try-hardware",
               "frugal.json"),
}  # fmt: skip


@pytest.fixture
def aiwq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aiwq:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    dense(tmp_path / "a.onnx", 4)
    with_sigmoid(tmp_path / "b.onnx", 6)
    dense(tmp_path / "deep.onnx", batch=3, nodes=deep())
    profile(tmp_path / "round.json")
    cheap = {"family": "*", "dtype": "*", "seconds_per_to": 5e-9, "joules_per_to": 1e-11}
    profile(tmp_path / "frugal.json", coefficients=[cheap], joules_per_bit=1e-11)
    return Aiwq(monkeypatch, capsys)


def deep() -> list[object]:
    """Five activations in blocks with long names."""
    names = ["X", *(f"T{index}" for index in range(4)), "Y"]
    return [
        helper.make_node(
            "Relu",
            [names[index]],
            [names[index + 1]],
            name=f"/backbone/stages.{index // 2}/residual_block/activation_{index}",
        )
        for index in range(5)
    ]


def block(index: int) -> str:
    return f"/backbone/stages.{index // 2}/residual_block"


def at_width(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch, columns: int, arguments: tuple[str, ...]) -> Done:
    """What the command prints on a terminal of some columns, without colour."""
    import onnx_aiwq.cli.streams as streams

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    for module in ("streams", "analyze", "compare", "gate"):
        target = __import__(f"onnx_aiwq.cli.{module}", fromlist=["x"])
        if hasattr(target, "is_terminal"):
            monkeypatch.setattr(target, "is_terminal", lambda: True)
    assert streams.is_terminal()
    return aiwq(*arguments)


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("name", [name for name in TABLES if name != "advise"])  # it quotes the data of all regions
def test_tables_stand_as_they_stood(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    done = at_width(aiwq, monkeypatch, columns, TABLES[name])
    assert done.code in (0, 1), done
    golden = GOLDEN / f"{name}-{columns}.txt"
    if os.environ.get("AIWQ_WRITE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(done.out, encoding="utf-8")
    assert done.out == golden.read_text(encoding="utf-8")
    assert max(map(len, done.out.splitlines())) <= columns
    assert "…" not in done.out, "nothing is cut off"


@pytest.mark.parametrize("name", TABLES)
def test_numbers_are_whole_at_80_columns(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A number and its unit that stand in one line at 160 columns do so at 80."""
    wide = set(numbers(at_width(aiwq, monkeypatch, 160, TABLES[name]).out))
    narrow = set(numbers(at_width(aiwq, monkeypatch, 80, TABLES[name]).out))
    assert wide <= narrow, wide - narrow
    assert len(wide) > 3


def numbers(text: str) -> list[str]:
    text = " ".join(text.split())
    return re.findall(r"(?<![\w.])\d[\d.,]* [munpfkMGT]?(?:J/bit|J|s|g|B)\b", text)


def test_a_pipe_has_one_line_per_row_however_long(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = aiwq("rules").out.splitlines()
    assert all(re.match(r"\S+\s+\S+", row) for row in rows)
    listed = list(csv.DictReader(io.StringIO(aiwq("rules", "--format", "csv").out)))
    assert len(rows) == len(listed) + 1
    assert all(rows[index + 1].endswith(each["cost"].lstrip("'")) for index, each in enumerate(listed))


def test_sparklines_are_for_terminals_alone(aiwq: Aiwq, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "▁" not in aiwq(*TABLES["analyze"]).out + aiwq(*TABLES["analyze-by-scope"]).out
    assert re.search("[▁▂▃▄▅▆▇█]", at_width(aiwq, monkeypatch, 80, TABLES["analyze"]).out)


def test_a_real_terminal_of_80_columns(tmp_path: Path) -> None:
    """The installed command on a pseudo-terminal, whose width no environment says."""
    dense(tmp_path / "a.onnx", batch=3)
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    arguments = [AIWQ, "compare", "a.onnx", "--hardware", "reference-cpu", "--hardware", "nvidia-l4"]
    written = on_a_terminal(arguments, columns=80, cwd=tmp_path, env={**environment, "TERM": "xterm"})
    lines = re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r", "").splitlines()
    assert lines[0].startswith("#1  a.onnx, reference-cpu")
    assert max(map(len, lines)) <= 80


# --- CSV ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def evil(aiwq: Aiwq, tmp_path: Path) -> Callable[..., str]:
    """A model whose every name a spreadsheet would compute, and the commands that write CSV about it."""
    starts = ("=", "+", "-", "@", "\t=", "\N{FULLWIDTH EQUALS SIGN}")
    between = ["X", *(f"{start}t{index}" for index, start in enumerate(starts[1:])), "Y"]
    nodes = [
        helper.make_node("Relu", [between[index]], [between[index + 1]], name=f"{start}cmd({index})" + EVIL)
        for index, start in enumerate(starts)
    ]
    nodes.append(helper.make_node("=Foo", [between[1]], ["F"], domain="=acme", name="=gap"))
    dense(tmp_path / "=evil.onnx", nodes=nodes, batch="=batch")
    dense(tmp_path / "+evil.onnx", nodes=[*nodes[:2], helper.make_node("Relu", [between[2]], ["Y"])], batch="=batch")
    whole = [helper.make_node("Relu", ["X"], ["Y"], name="=cmd()")]
    dense(tmp_path / "@whole.onnx", nodes=whole, batch=3)

    def run(*arguments: str) -> str:
        done = aiwq(*arguments, "--format", "csv")
        assert done.code in (0, 1), done
        return done.out

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", "=evil.onnx"),
        ("analyze", "=evil.onnx", "--by", "operator"),
        ("analyze", "=evil.onnx", "--by", "node", "--top", "2"),
        ("analyze", "=evil.onnx", "--by", "scope"),
        ("analyze", "=evil.onnx", "--by", "dtype"),
        ("analyze", "@whole.onnx", "--show-config", "--hardware", "=x", "--region", "@y"),
        ("compare", "=evil.onnx", "+evil.onnx"),
        ("compare", "=evil.onnx", "+evil.onnx", "--by", "node"),
        ("gate", "@whole.onnx", "--budget", "energy=1 nJ"),
        ("gate", "@whole.onnx", "--show-config"),
        ("baseline", "update", "@whole.onnx", "--baseline", "=folder"),
        ("advise", "@whole.onnx"),
        ("regions",),
        ("hardware",),
        ("rules",),
        ("rules", "Conv"),
        ("hardware", "reference-cpu"),
        ("regions", "DEU"),
    ],
)
def test_no_cell_of_any_csv_is_a_formula(evil: Callable[..., str], arguments: tuple[str, ...]) -> None:
    cells = [cell for row in csv.reader(io.StringIO(evil(*arguments))) for cell in row]
    assert len(cells) > 3
    formulas = [
        cell
        for cell in cells
        if cell.lstrip().startswith(tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")) and not number(cell)
    ]
    assert formulas == []


def number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
