"""Single plots for papers: vector text, units, provenance, and a clear word where matplotlib is missing."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from gating import Aiwq, dense, profile, refused
from onnx_aiwq.comparison import compare
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.render.plots import plot_comparison, plot_report
from onnx_aiwq.render.summary import plain
from pages import LIFE_CYCLE, hostile_report, small_report

PLOTS = {
    "operators": ("energy (J)", "operator", "MatMul"),
    "nodes": ("energy (J)", "node", "mm"),
    "memory": ("live activations (bytes)", "node in execution order", "peak 144 B"),
    "scatter": ("bytes moved per node (bytes)", "transistor operations per node", "compute = data energy (8 TO/byte)"),
    "ecal": ("eCAL (J/bit)", "inferences", "break-even"),
    "regions": ("operational CO2e (g)", "Germany", "World"),
}


def texts(svg: bytes) -> list[str]:
    """Every text of a drawing, as text."""
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_are_vector_text_with_units_and_provenance(tmp_path: Path, plot: str) -> None:
    (tmp_path / "life.toml").write_text(LIFE_CYCLE, encoding="utf-8")
    report = small_report(tmp_path, lifecycle=tmp_path / "life.toml")
    svg = plot_report(report, plot, "svg")
    found = texts(svg)
    for expected in PLOTS[plot]:
        assert any(text.startswith(expected) for text in found), (expected, found)
    whole = " ".join(" ".join(found).split())
    assert "90% interval 625 µJ to 2.5 mJ" in whole
    assert "modelled: round" in whole
    assert "DEU, 331.6 gCO2e/kWh" in whole
    assert svg == plot_report(report, plot, "svg"), "the same report is the same file"
    assert plot_report(report, plot, "png").startswith(b"\x89PNG\r\n\x1a\n")


def test_pareto_plot_names_its_rows(tmp_path: Path) -> None:
    models = [dense(tmp_path / f"{name}.onnx", hidden, batch=3) for name, hidden in (("a", 4), ("b", 6))]
    document = compare(models, hardware=str(profile(tmp_path / "round.json"))).to_dict()
    found = texts(plot_comparison(document, "pareto", "svg"))
    whole = " ".join(" ".join(found).split())
    assert {"#1", "#2", "energy (J)", "seconds (s)"} <= set(found)
    assert "#1 a.onnx on round; #2 b.onnx on round; modelled: round" in whole
    assert "whiskers are 90% intervals" in whole


def test_hostile_names_are_text(tmp_path: Path) -> None:
    report = hostile_report(tmp_path)
    report["nodes"][0]["name"] = "$\\frac{1}{0}$ <script>"  # what matplotlib would take as a formula
    found = texts(plot_report(report, "nodes", "svg"))
    assert "$\\frac{1}{0}$ <script>" in found
    for node in report["nodes"][2:]:
        assert any(plain(node["name"])[-20:] in text for text in found)
    assert all(text.isprintable() for text in found)


def test_what_is_not_known_is_an_error_that_says_so(tmp_path: Path) -> None:
    report = small_report(tmp_path)
    report["ecal"] |= {"joules_per_bit": None}
    report["carbon"] |= {"operational_g": None}
    for node in report["nodes"]:
        node |= {"live_activation_bytes": None, "transistor_operations": None, "energy_j": None}
    for entry in report["by_operator"].values():
        entry["joules"] = None
    for plot in PLOTS:
        with pytest.raises(PolicyError, match=f"--plot {plot}: .*(not known|no node)"):
            plot_report(report, plot, "svg")


def test_without_matplotlib_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    dense(tmp_path / "a.onnx", batch=3)
    done = Aiwq(monkeypatch, capsys)("analyze", "a.onnx", "--format", "svg", "--plot", "nodes")
    refused(done, "--format svg", "matplotlib", "pip install 'onnx-aiwq[plots]'")


def test_commands_write_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from onnx_aiwq import cli

    monkeypatch.chdir(tmp_path)
    dense(tmp_path / "a.onnx", batch=3)

    def run(*arguments: str) -> bytes:
        monkeypatch.setattr(sys, "argv", ["aiwq", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capfdbinary.readouterr().out

    shown = run("analyze", "a.onnx", "--format", "png", "--plot", "memory")
    assert shown.startswith(b"\x89PNG")
    assert run("analyze", "a.onnx", "--format", "png", "--plot", "memory", "--output", "a.png") == b""
    assert (tmp_path / "a.png").read_bytes() == shown
    assert b"<svg" in run("compare", "a.onnx", "--format", "svg", "--plot", "pareto")
