"""The command imports what it uses, when it uses it, and nothing else changes by that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnx_aiwq
from onnx_aiwq.cli import deferred

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
_COMMAND = """
import atexit, os, sys
from onnx_aiwq.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main()
"""


_SYMBOLS = "sympy.core"
# What takes long to import, and what only other commands, or other models, need.
_NOT_NEEDED = {_SYMBOLS, "networkx", "pydantic", "onnxruntime", "scipy", "jinja2", "onnx_aiwq.cli.calibrate"}


def answered(model: Path, *options: str) -> tuple[str, set[str]]:
    """What the command prints, and what its process imported."""
    command = [sys.executable, "-c", _COMMAND, "analyze", str(model), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, env={**os.environ, "COLUMNS": "80"}
    )
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def run(model: Path) -> tuple[dict[str, Any], set[str]]:
    """The report of the command, and what its process imported."""
    printed, imported = answered(model, "--format", "json")
    return json.loads(printed), imported


def test_a_model_of_fixed_dimensions_imports_what_it_needs() -> None:
    report, imported = run(LIGHT / "light_squeezenet.onnx")
    assert "onnx_aiwq.cli.analyze" in imported
    assert imported.isdisjoint(_NOT_NEEDED)
    assert report["totals"] == onnx_aiwq.analyze(LIGHT / "light_squeezenet.onnx").to_dict()["totals"]


def test_a_table_of_a_model_with_an_open_batch_needs_no_symbols() -> None:
    """It shows no formulas, so none are made, which would take as long as all the rest."""
    model = Path(__file__).resolve().parents[1] / "models/resnet50.torchscript.onnx"
    printed, imported = answered(model)
    assert "batch=1 (assumed)" in printed
    assert imported.isdisjoint(_NOT_NEEDED)
    assert onnx_aiwq.analyze(model).to_dict()["totals"]["formulas"] is not None


def test_sums_of_open_dimensions_are_what_they_are_without_the_deferral(tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[8, 8] x) => (int64[2, n] y) { a = NonZero(x)
            b = Neg(a)
            c = Concat<axis = 1>(a, b)
            y = Abs(c) }""")
    onnx.save(model, path)
    report, imported = run(path)
    assert _SYMBOLS in imported, "this model tests nothing: its dimensions need no sympy"
    assert report["totals"] == onnx_aiwq.analyze(path).to_dict()["totals"]
    # NonZero compares 64 elements and finds at most 64 indices of 2; Neg of these, Abs of these and those negated.
    operations = {name: count for name, count in report["totals"]["basic_operations"].items() if count}
    assert operations == {"sub": 128, "compare": 64 + 256}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose import leaves a mark, and whose import is deferred."""
    folder = tmp_path / "aiwq_slow"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import sys\nsys.aiwq_ran = True\nfrom aiwq_slow.inner import VALUE\nfrom aiwq_slow import inner as again\n"
        "def __getattr__(name):\n    if name == 'made': return 7\n    raise AttributeError(name)\n"
    )
    (folder / "inner.py").write_text("import aiwq_slow\nVALUE = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(deferred, "_DEFERRED", ("aiwq_slow",))
    monkeypatch.setattr(sys, "meta_path", [deferred._Finder(), *sys.meta_path])
    monkeypatch.setattr(sys, "aiwq_ran", False, raising=False)
    yield "aiwq_slow"
    for name in [name for name in sys.modules if name.startswith("aiwq_slow")]:
        del sys.modules[name]


def test_a_module_runs_at_its_first_use(package: str) -> None:
    module = __import__(package)
    assert __import__(package) is module and not sys.aiwq_ran  # type: ignore[attr-defined]
    assert (module.VALUE, module.again.VALUE) == (5, 5)
    assert sys.aiwq_ran and type(module) is type(sys)  # type: ignore[attr-defined]
    assert module.made == 7  # what the module itself makes up, PEP 562
    with pytest.raises(AttributeError, match="absent"):
        module.absent  # noqa: B018


def test_a_part_of_a_module_that_has_not_run(package: str) -> None:
    from importlib import import_module

    assert import_module(f"{package}.inner").VALUE == 5


def test_a_module_that_fails_says_so(package: str, tmp_path: Path) -> None:
    (tmp_path / "aiwq_slow" / "__init__.py").write_text("raise ImportError('half installed')\n")
    module = __import__(package)
    with pytest.raises(ImportError, match="half installed"):
        module.VALUE  # noqa: B018
