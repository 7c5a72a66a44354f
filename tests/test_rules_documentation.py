"""The rules explain themselves: generated pages, `aiwq rules`, and rules that users bring along."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[1]
# The working directory is no place for modules; Python 3.10 has no option for it.
SAFE_PATH = ["-P"] if sys.version_info >= (3, 11) else []


def test_the_operator_pages_are_those_of_the_rules() -> None:
    # In a fresh interpreter, since other tests register rules of their own.
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import generate_operators as g\n"
        "bad = [n for n, c in g.pages().items() if not (g.FOLDER / n).is_file() or (g.FOLDER / n).read_text() != c]\n"
        "bad += [p.name for p in g.FOLDER.glob('*.md') if p.name not in g.pages()]\n"
        "print(bad)"
    )
    run = subprocess.run(
        [sys.executable, *SAFE_PATH, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert run.stdout.strip() == "[]", "run `python docs/generate_operators.py`"


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """An installed package with a rule for a custom domain, and a model that uses it."""
    (tmp_path / "acme_rules.py").write_text(
        textwrap.dedent(
            '''
            from onnx_aiwq import Counts, rule
            from onnx_aiwq.operations.registry import size_of

            @rule("Squash", domain="com.acme", family="activation")
            def squash(op):
                """Squashing of capsules.

                Equation: y = x |x| / (1 + x^2)
                """
                size = size_of(op.output(0), "the output")
                return Counts.of(op.outputs[0].dtype, mul=2 * size, add=size, div=size, compare=size)
            '''
        )
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onnx_aiwq.rules]\nacme = acme_rules\n")
    node = helper.make_node("Squash", ["x"], ["y"], domain="com.acme")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets),
        tmp_path / "m.onnx",
    )
    return tmp_path


def _python(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(folder), "PATH": ""}
    return subprocess.run(
        [sys.executable, *SAFE_PATH, "-c", script], capture_output=True, text=True, env=environment, timeout=300
    )


def test_an_installed_package_brings_rules_for_its_own_domain(acme: Path) -> None:
    script = (
        "import onnx_aiwq as a; r = a.analyze('m.onnx').to_dict(); "
        "print(r['nodes'][0]['status'], r['totals']['basic_operations'])"
    )
    run = _python(f"import os; os.chdir({str(acme)!r}); {script}", acme)
    expected = {"add": 6, "sub": 0, "mul": 12, "div": 6, "root": 0, "compare": 6}  # 2 x 3 elements
    assert run.stdout.strip() == f"counted {expected}", run.stderr


def test_without_the_package_the_operator_is_unsupported_and_named(
    acme: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    script = f"import onnx_aiwq as a; print(a.analyze({str(acme / 'm.onnx')!r}).to_dict()['coverage'])"
    run = _python(script, tmp_path_factory.mktemp("empty"))
    assert "'unsupported': 1, 'unsupported_operators': ['com.acme.Squash']" in run.stdout, run.stderr


def test_a_broken_rule_package_is_named(acme: Path) -> None:
    (acme / "acme_rules.py").write_text("import no_such_module\n")
    script = (
        "import onnx_aiwq as a\n"
        f"try: a.analyze({str(acme / 'm.onnx')!r})\n"
        "except a.errors.PolicyError as error: print(error)"
    )
    run = _python(script, acme)
    assert "entry point 'acme' (acme_rules)" in run.stdout
    assert "no_such_module" in run.stdout
    assert "uninstall" in run.stdout


def test_a_second_rule_for_one_operator_names_both_owners() -> None:
    script = (
        "import onnx_aiwq as a\n"
        "a.rule('Thing', domain='com.acme', family='other')(lambda op: a.Counts())\n"
        "def other(op): return a.Counts()\n"
        "try: a.rule('Thing', domain='com.acme', family='other')(other)\n"
        "except ValueError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, *SAFE_PATH, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert "com.acme.Thing" in run.stdout
    assert "<lambda>" in run.stdout
    assert "other" in run.stdout
