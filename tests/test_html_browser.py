"""The HTML pages in a browser, opened as files: what is drawn, what the controls do, what the console says."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import onnx_aiwq as aiwq
from browser import Page, artefacts, chromium, missing
from onnx_aiwq.comparison import compare
from onnx_aiwq.render.html import render_comparison_html, render_report_html
from onnx_aiwq.render.summary import plain
from pages import LIFE_CYCLE, hostile_report, large_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() != "", reason=missing() or "a browser is here"),
]
MODELS = Path(__file__).parents[1] / "models"
REPORT_CHARTS = ("operator-chart", "scatter-chart", "tree-chart", "memory-chart", "ecal-chart", "region-chart")
LOADS_IN_MS = 2000
DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@functools.cache
def real_report() -> dict[str, Any]:
    return aiwq.analyze(MODELS / "mobilenet-v2.torchscript.onnx", bind={"batch": 1}, region="DEU").to_dict()


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "life.toml").write_text(LIFE_CYCLE, encoding="utf-8")
    found = aiwq.analyze(
        MODELS / "resnet50.torchscript.onnx", bind={"batch": 1}, region="DEU", lifecycle=folder / "life.toml"
    )
    page = folder / "report.html"
    page.write_text(render_report_html(found.to_dict()), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def comparison_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = [MODELS / f"{name}.torchscript.onnx" for name in ("resnet50", "mobilenet-v2")]
    found = compare(models, bind={"batch": 1}, hardware=["reference-cpu", "nvidia-l4"], region="DEU")
    page = tmp_path_factory.mktemp("pages") / "comparison.html"
    page.write_text(render_comparison_html(found.to_dict()), encoding="utf-8")
    return page


def test_report_draws_every_chart_without_a_complaint(driver: Any, report_page: Path) -> None:
    page = Page(driver, report_page)
    assert {chart: page.colours(chart) > 8 for chart in REPORT_CHARTS} == dict.fromkeys(REPORT_CHARTS, True)
    assert page.problems() == []
    assert page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_pictures_of_both_pages(
    driver: Any, report_page: Path, comparison_page: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    for path in (report_page, comparison_page):
        page = Page(driver, path, width=width, scheme=scheme)
        page.run("for (const { instance } of charts) instance.resize()")
        picture = page.picture(artefacts(tmp_path) / f"{path.stem}-{width}-{scheme}.png", width)
        assert picture.stat().st_size > 20_000
        assert page.run("return document.documentElement.scrollWidth") <= width  # tables scroll inside, not the page
        assert page.problems() == []


def test_theme_follows_the_system_and_the_button(driver: Any, report_page: Path) -> None:
    page = Page(driver, report_page, scheme="dark")
    background = "return getComputedStyle(document.body).backgroundColor"
    page.run("localStorage.clear()")
    page = Page(driver, report_page, scheme="dark")
    dark = page.run(background)
    pressed = "return document.getElementById('theme').getAttribute('aria-pressed')"
    assert page.run(pressed) == "true"
    before = page.run("return document.querySelector('#operator-chart canvas').toDataURL()")
    page.run("document.getElementById('theme').click()")
    assert page.run(pressed) == "false"
    light = page.run(background)
    assert sum(channels(light)) > 600 > 200 > sum(channels(dark))
    page.run("for (const { instance } of charts) instance.getZr().flush()")
    assert page.run("return document.querySelector('#operator-chart canvas').toDataURL()") != before
    page.run("localStorage.clear()")


def channels(colour: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", colour)[:3]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(driver: Any, report_page: Path, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text of this size, on the page and on panels."""
    page = Page(driver, report_page, scheme=scheme)
    page.run("localStorage.clear()")
    page = Page(driver, report_page, scheme=scheme)
    script = "return getComputedStyle(document.documentElement).getPropertyValue(`--${arguments[0]}`).trim()"
    colours = {name: page.run(script, name) for name in ("text", "muted", "accent", "bg", "surface", "sunken", "warn")}
    for ink in ("text", "muted"):
        for ground in ("bg", "surface", "sunken"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["accent"], colours["surface"]) >= 4.5
    assert contrast(colours["text"], colours["warn"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Ratio of relative luminances, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(driver: Any, tmp_path: Path) -> Page:
    path = tmp_path / "report.html"
    path.write_text(render_report_html(real_report()), encoding="utf-8")
    return Page(driver, path)


def test_nodes_sort_by_every_kind_of_column(table: Page) -> None:
    nodes = real_report()["nodes"]
    heads = table.run(
        "return [...document.querySelectorAll('#node-table th[scope=col] .sort')].map((e) => e.textContent)"
    )
    click = "document.querySelectorAll('#node-table .sort')[arguments[0]].click()"
    state = (
        "return [...document.querySelectorAll('#node-table th[scope=col]')].map((th) => th.getAttribute('aria-sort'))"
    )

    step = heads.index("Step")
    table.run(click, step)
    assert table.run(state)[step] == "descending"
    assert table.column("node-table", step)[:3] == [str(len(nodes)), str(len(nodes) - 1), str(len(nodes) - 2)]
    table.run(click, step)
    assert table.run(state) == ["ascending" if index == step else None for index in range(len(heads))]
    assert table.column("node-table", 0)[:5] == [node["name"] for node in nodes[:5]]

    macs = heads.index("MACs")
    table.run(click, macs)
    largest = sorted((node["macs"] for node in nodes), reverse=True)[:25]
    names = {node["name"]: node["macs"] for node in nodes}
    assert [names[name] for name in table.column("node-table", 0)] == largest

    table.run(click, 0)
    assert table.run(state)[0] == "ascending"
    shown = table.column("node-table", 0)
    assert shown == table.run("return arguments[0].sort((a, b) => a.localeCompare(b))", [n["name"] for n in nodes])[:25]


def test_nodes_filter_by_text_and_by_operator(table: Page) -> None:
    nodes = real_report()["nodes"]
    found = [node for node in nodes if "conv_1x1" in node["name"].lower()]
    assert 0 < len(found) < len(nodes)
    type_in(table, "node-table", "CONV_1x1")
    assert status(table) == f"{len(found)} rows, {len(nodes) - len(found):,} filtered out"
    assert set(table.column("node-table", 0)) == {node["name"] for node in found}
    type_in(table, "node-table", "")
    choose = (
        "const list = document.querySelector('#node-table select'); list.value = arguments[0];"
        "list.dispatchEvent(new Event('change'))"
    )
    table.run(choose, "Clip")
    clips = sum(node["op_type"] == "Clip" for node in nodes)
    assert status(table).startswith(f"1{DASH}25 of {clips}")
    assert set(table.column("node-table", 1)) == {"Clip"}
    type_in(table, "node-table", "no such node")
    assert status(table).startswith("0 rows")
    assert table.column("node-table", 0) == []


def test_pages_turn(table: Page) -> None:
    nodes = real_report()["nodes"]
    buttons = "return [...document.querySelectorAll('#node-table .pager button')].map((button) => button.disabled)"
    assert table.run(buttons) == [True, False]
    first = table.column("node-table", 0)
    table.run("document.querySelectorAll('#node-table .pager button')[1].click()")
    assert status(table) == f"26{DASH}50 of {len(nodes):,}"
    assert not set(first) & set(table.column("node-table", 0))
    assert table.run(buttons) == [False, False]


def type_in(page: Page, table: str, text: str) -> None:
    page.run(
        "const input = document.querySelector(`#${arguments[0]} input`); input.value = arguments[1];"
        "input.dispatchEvent(new Event('input'))",
        table,
        text,
    )


def status(page: Page) -> str:
    return str(page.run("return document.querySelector('#node-table .status').textContent"))


# --- keyboard and screen reader ----------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_table(driver: Any, report_page: Path, comparison_page: Path) -> None:
    for path in (report_page, comparison_page):
        page = Page(driver, path)
        nameless = """
            const name = (element) => element.getAttribute("aria-label") || element.textContent.trim()
              || [...(element.labels || [])].map((label) => label.textContent.trim()).join("");
            const named = "button, input, select, a, table, [role=img], [role=region], [role=group]";
            const found = [...document.querySelectorAll(named)].filter((element) => !name(element));
            return found.map((element) => element.outerHTML.slice(0, 80));
        """
        assert page.run(nameless) == []
        assert page.run("return document.querySelectorAll('h1').length") == 1
        assert page.run("return document.documentElement.lang") == "en"
        levels = page.run("return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        assert page.run("return document.querySelectorAll('th:not([scope])').length") == 0
    page = Page(driver, report_page)
    for name in ("scope-rows", "ecal-rows", "region-rows"):
        page.run("document.getElementById(arguments[0]).open = true", name)
        page.run("return new Promise((done) => setTimeout(done, 50))")
        assert len(page.column(name, 0)) > 5


def test_keyboard_alone_sorts_and_filters(driver: Any, report_page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = Page(driver, report_page)
    page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.append(page.run("const e = document.activeElement; return e.id || e.textContent.trim().slice(0, 30)"))
        if reached[-1] == "Energy" and "Operator" in reached:
            break
    assert reached[0] == "Skip to the content"
    assert "theme" in reached
    assert reached[-1] == "Energy"
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    sorted_by = "const th = document.querySelector('#operator-table [aria-sort]'); return [th.textContent, th.ariaSort]"
    assert page.run(sorted_by) == ["Energy", "descending"]


# --- controls ----------------------------------------------------------------------------------------------------


def test_another_measure_draws_another_picture(driver: Any, report_page: Path) -> None:
    page = Page(driver, report_page)
    for group, chart in (("operator-measure", "operator-chart"), ("tree-measure", "tree-chart")):
        drawn = (
            "const found = charts.find(({ instance }) => instance.getDom().id === arguments[0]);"
            "return found.instance.getOption().series[0].data"
        )
        before = page.run(drawn, chart)
        page.run("document.querySelector(`#${arguments[0]} button[value=bytes]`).click()", group)
        assert page.run(drawn, chart) != before
        pressed = "return [...document.querySelectorAll(`#${arguments[0]} button`)].map((b) => b.ariaPressed)"
        assert page.run(pressed, group) == ["false", "false", "false", "true"]
    assert page.problems() == []


def test_comparison_draws_and_its_axes_change(driver: Any, comparison_page: Path) -> None:
    page = Page(driver, comparison_page)
    assert page.colours("pareto-chart") > 8
    assert page.colours("bar-chart") > 4
    assert page.column("row-table", 0) == ["1", "2", "3", "4"]
    front = "return document.getElementById('front').textContent"
    assert page.run(front) == "Front of Energy and Time: #4 mobilenet-v2.torchscript.onnx on nvidia-l4."
    choose = (
        "const list = document.getElementById(arguments[0]); list.value = arguments[1];"
        "list.dispatchEvent(new Event('change'))"
    )
    page.run(choose, "pareto-y", "parameters")
    assert page.run(front).startswith("Front of Energy and Parameters: #4")
    page.run(choose, "pareto-x", "parameters")
    assert page.run(front) == "Choose two different columns."
    page.run(choose, "bar-metric", "macs")
    assert page.problems() == []


# --- hostile and large -------------------------------------------------------------------------------------------


def test_hostile_names_do_nothing(driver: Any, tmp_path: Path) -> None:
    hostile = hostile_report(tmp_path)
    page_file = tmp_path / "hostile.html"
    page_file.write_text(render_report_html(hostile), encoding="utf-8")
    page = Page(driver, page_file)
    assert page.problems() == []
    assert page.run("return document.querySelectorAll('img, iframe, object, embed, b:not(.brand b)').length") == 0
    assert set(page.column("node-table", 0)) == {plain(node["name"]) for node in hostile["nodes"]}
    # A tooltip is the one place where charts would write markup.
    page.run(
        "const chart = charts.find(({ instance }) => instance.getDom().id === 'operator-chart').instance;"
        "chart.dispatchAction({ type: 'showTip', seriesIndex: 0, dataIndex: 0 })"
    )
    page.run("return new Promise((done) => setTimeout(done, 200))")
    assert page.run("return document.querySelectorAll('.tip-box strong').length") == 1
    assert page.run("return document.querySelectorAll('img, script:not(#data)').length") == 2
    assert page.problems() == []


def test_five_thousand_nodes_open_in_two_seconds(driver: Any, tmp_path: Path) -> None:
    page_file = tmp_path / "large.html"
    page_file.write_text(render_report_html(large_report(real_report(), 5000)), encoding="utf-8")
    ready = [int(Page(driver, page_file).run("return document.documentElement.dataset.ready")) for _ in range(3)]
    assert min(ready) < LOADS_IN_MS, ready  # others may be at work on the same machine
    page = Page(driver, page_file)
    assert status(page) == f"1{DASH}25 of 5,000"
    assert page.colours("tree-chart") > 8
    assert page.problems() == []
