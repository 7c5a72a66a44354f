"""The HTML pages as files: whole, self-contained, small, and with names that are nothing but text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnx_aiwq as aiwq
from gating import EVIL, Aiwq, dense, joules, profile, refused, transistors
from onnx_aiwq.comparison import compare
from onnx_aiwq.render.html import ECHARTS_VERSION, json_for_script, render_comparison_html, render_report_html
from onnx_aiwq.render.summary import plain
from pages import Markup, hostile_report, large_report, small_report

MODELS = Path(__file__).parents[1] / "models"
ECHARTS_SHA256 = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"  # of dist/echarts.min.js on npm


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aiwq:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    dense(tmp_path / "a.onnx", 4, batch=3)
    dense(tmp_path / "b.onnx", 6, batch=3)
    profile(tmp_path / "round.json")
    return Aiwq(monkeypatch, capsys)


def data_of(page: str) -> dict[str, Any]:
    markup = Markup(page)
    (text,) = (text for text in markup.inside("script") if text.startswith("{"))
    return dict(json.loads(text))


# --- self-contained ----------------------------------------------------------------------------------------------


def test_page_loads_nothing_and_runs_nothing_but_its_own_scripts(tmp_path: Path) -> None:
    pages = [
        render_report_html(small_report(tmp_path)),
        render_comparison_html(compare([tmp_path / "small.onnx"], hardware="reference-cpu").to_dict()),
    ]
    for page in pages:
        markup = Markup(page)
        loading = [attributes for _, attributes in markup.elements for name in attributes if name in ("src", "srcset")]
        assert loading == []
        assert {str(attributes["href"])[0] for attributes in markup.of("a")} == {"#"}
        assert [attributes["href"] for attributes in markup.of("link")] == ["data:,"]
        assert not [name for _, attributes in markup.elements for name in attributes if name.startswith("on")]
        assert not [name for _, attributes in markup.elements if "style" in attributes for name in attributes]
        policies = [a["content"] for a in markup.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in str(policies[0]).split(";"))
        assert rules["default-src"] == "'none'"
        assert "connect-src" not in rules
        assert (rules["base-uri"], rules["form-action"], rules["img-src"]) == ("'none'", "'none'", "data:")
        scripts = [text for text in markup.inside("script") if not text.startswith("{")]
        assert rules["script-src"].split() == [hashed(text) for text in scripts]
        assert rules["style-src"].split() == [hashed(text) for text in markup.inside("style")]


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_chart_library_is_the_published_file_with_its_licence() -> None:
    vendor = resources.files("onnx_aiwq") / "templates" / "vendor"
    library = (vendor / "echarts.min.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() == ECHARTS_SHA256
    assert f'version="{ECHARTS_VERSION}"'.encode() in library.replace(b"t.version", b"version")
    assert "Apache License" in (vendor / "echarts-LICENSE.txt").read_text(encoding="utf-8")
    assert "Apache ECharts" in (vendor / "echarts-NOTICE.txt").read_text(encoding="utf-8")
    assert ECHARTS_SHA256 in (vendor / "README.md").read_text(encoding="utf-8")


def test_a_thousand_nodes_are_under_three_megabytes() -> None:
    report = aiwq.analyze(MODELS / "bert-base.torchscript.onnx").to_dict()
    assert len(report["nodes"]) > 1000
    assert len(render_report_html(report).encode()) < 3_000_000
    assert len(render_report_html(large_report(report, 5000)).encode()) < 3_000_000


# --- content -----------------------------------------------------------------------------------------------------


def test_page_holds_the_numbers_of_the_report(tmp_path: Path) -> None:
    page = render_report_html(small_report(tmp_path))
    found = data_of(page)
    assert found["columns"]["name"] == ["mm", "act"]
    assert [found["names"]["op"][index] for index in found["columns"]["op"]] == ["MatMul", "Relu"]
    assert sum(found["columns"]["tos"]) == transistors(3, 4)
    assert sum(found["columns"]["joules"]) == pytest.approx(joules(3, 4), rel=1e-5)
    # X (3 x 8) and M (3 x 4) while the product runs, M and Y while Relu does; 4 bytes each.
    assert found["columns"]["live"] == [4 * (24 + 12), 4 * (12 + 12)]
    assert joules(3, 4) == pytest.approx(1.25e-3, rel=0.01)  # half and double of it are the interval
    assert f"{joules(3, 4) * 1e3:.3g} mJ" in Markup(page).inside("p")
    assert {f"{joules(3, 4) / 2 * 1e6:.3g} µJ", f"{joules(3, 4) * 2 * 1e3:.3g} mJ"} <= set(Markup(page).inside("span"))
    assert "modelled, 90% interval" in "".join(Markup(page).inside("p"))


def test_gaps_are_unknown_and_said(tmp_path: Path) -> None:
    page = render_report_html(hostile_report(tmp_path))
    found = data_of(page)
    gap = next(operator for operator in found["operators"] if "Foo" in operator["name"])
    assert (gap["tos"], gap["macs"], gap["joules"]) == (None, None, None)
    text = " ".join(text for _, text in Markup(page).content)
    assert "partial: gaps are in no total" in text
    assert "unsupported: acme" in text


def test_reports_of_older_versions_draw(tmp_path: Path) -> None:
    report = small_report(tmp_path)
    for node in report["nodes"]:
        del node["live_activation_bytes"]
    page = render_report_html(report)
    assert "the report was saved without it" in page
    assert 'id="memory-chart"' not in page


def test_nothing_known_is_no_error(tmp_path: Path) -> None:
    report = small_report(tmp_path)
    report["energy"] = {key: None if key.split("_")[0] in ("joules", "seconds", "compute", "data", "system")
                        else value for key, value in report["energy"].items()}  # fmt: skip
    report["ecal"] |= {"joules": None, "joules_per_bit": None, "inference_j": None}
    report["carbon"] |= {"operational_g": None, "embodied_g": None, "total_g": None}
    for node in report["nodes"]:
        node |= {"energy_j": None, "seconds": None}
    for entry in report["by_operator"].values():
        entry["joules"] = None
    page = render_report_html(report)
    assert data_of(page)["ecal"] is None
    assert data_of(page)["regions"] is None
    assert 'class="value unknown"' in page


# --- names that try to break out ---------------------------------------------------------------------------------


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = hostile_report(tmp_path)
    clean = render_report_html(small_report(tmp_path / "clean"))
    page = render_report_html(hostile)
    kinds = {tag for tag, _ in Markup(clean).elements}
    assert {tag for tag, _ in Markup(page).elements} <= kinds
    assert sum(1 for _ in Markup(page).of("script")) == 3
    assert sum(1 for _ in Markup(page).of("style")) == 1
    assert data_of(page)["columns"]["name"] == [plain(node["name"]) for node in hostile["nodes"]]
    (title,) = Markup(page).inside("title")
    assert title.startswith("<b>evil<_b>&amp;.onnx")
    for character in EVIL:
        if not character.isprintable() and character != "\n":
            assert character not in page.split("<style>")[0] + page.split("</style>")[1].split("<script type")[0]
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(block)


def test_hostile_names_are_text_in_a_comparison(tmp_path: Path) -> None:
    hostile_report(tmp_path)
    dense(tmp_path / "other.onnx", batch=3)
    (evil,) = tmp_path.glob("*evil*.onnx")
    both = compare([evil, tmp_path / "other.onnx"], hardware=str(tmp_path / "round.json"), by="node").to_dict()
    page = render_comparison_html(both)
    assert sum(1 for _ in Markup(page).of("script")) == 3
    assert not list(Markup(page).of("img")) and not list(Markup(page).of("b"))[1:]
    names = {entry["name"] for entry in data_of(page)["changes"]["entries"]}
    assert any("</script>" in name for name in names)
    assert all(name.isprintable() for name in names)


@given(st.text() | st.sampled_from(["</script>", "<!--", "]]>", "&lt;", "\u2028", "\\u003c"]))
def test_json_in_a_script_reads_back_and_ends_nothing(text: str) -> None:
    written = json_for_script({"name": text})
    assert json.loads(written) == {"name": text}
    assert not set("<>&\u2028\u2029") & set(written)


# --- the commands ------------------------------------------------------------------------------------------------


def test_command_writes_the_page(command: Aiwq, tmp_path: Path) -> None:
    done = command("analyze", "a.onnx", "--hardware", "round.json", "--format", "html", "--output", "report.html")
    assert (done.code, done.out) == (0, "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    shown = command("analyze", "a.onnx", "--hardware", "round.json", "--format", "html")
    assert (shown.code, shown.out) == (0, page)
    done = command("compare", "a.onnx", "b.onnx", "--hardware", "round.json", "--format", "html", "--by", "operator")
    assert done.code == 0
    assert [row["model"] for row in data_of(done.out)["rows"]] == ["a.onnx", "b.onnx"]
    assert data_of(done.out)["fronts"]["energy seconds"] == [0]


def test_saved_reports_compare_as_html(command: Aiwq) -> None:
    command("analyze", "a.onnx", "--hardware", "round.json", "--format", "json", "--output", "saved.json")
    done = command("compare", "saved.json", "b.onnx", "--hardware", "round.json", "--format", "html")
    assert done.code == 0
    assert len(data_of(done.out)["rows"]) == 2


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("analyze", "a.onnx", "--format", "htm"), ("--format 'htm'", "did you mean")),
        (("analyze", "a.onnx", "--format", "html", "--by", "node"), ("--by node", "--format html")),
        (("analyze", "a.onnx", "--format", "svg"), ("--format svg", "needs --plot", "operators")),
        (("analyze", "a.onnx", "--plot", "memory"), ("--plot memory", "--format svg")),
        (("analyze", "a.onnx", "--format", "svg", "--plot", "memry"), ("--plot 'memry'", "memory")),
        (("analyze", "a.onnx", "--top", "0"), ("--top 0", "at least 1")),
        (("analyze", "a.onnx", "--by", "nodes"), ("--by 'nodes'", "node")),
        (("analyze", "a.onnx", "--format", "html", "--sweep", "batch=1:4"), ("--sweep", "--format html")),
        (("compare", "a.onnx", "--format", "png"), ("--format png", "needs --plot", "pareto")),
    ],
)
def test_options_that_do_not_fit(command: Aiwq, arguments: tuple[str, ...], fragments: tuple[str, ...]) -> None:
    refused(command(*arguments), *fragments)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process with a signal")
def test_page_survives_a_process_that_is_killed_while_it_writes(command: Aiwq, tmp_path: Path) -> None:
    """The process stops right before the new file takes its place, and is killed there."""
    place = tmp_path / "report.html"
    place.write_text("the page of yesterday", encoding="utf-8")
    script = (
        "import sys, time; from pathlib import Path; import onnx_aiwq.files;"
        "Path.replace = lambda *args: (print('writing', flush=True), time.sleep(60));"
        "sys.argv = ['aiwq', 'analyze', 'a.onnx', '--format', 'html', '--output', 'report.html'];"
        "from onnx_aiwq.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert place.read_text(encoding="utf-8") == "the page of yesterday"


def test_rendering_a_large_report_is_quick() -> None:
    report = large_report(aiwq.analyze(MODELS / "resnet50.torchscript.onnx").to_dict(), 5000)
    render_report_html(report)  # the template is compiled once
    started = time.process_time()
    render_report_html(report)
    assert time.process_time() - started < 3
