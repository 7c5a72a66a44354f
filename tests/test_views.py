"""What pictures show: groups, curves and places, against hand counts and against the code that computes each point."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnx_aiwq as aiwq
from gating import dense, joules, moved_bytes, profile, transistors
from onnx_aiwq.quantities import pareto_front
from onnx_aiwq.render import render, views
from onnx_aiwq.render.summary import micro, sparkline
from onnx_aiwq.units import format_si
from pages import LIFE_CYCLE, hostile_report, small_report

# --- groups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", views.GROUPS)
def test_groups_add_up_to_the_totals(tmp_path: Path, by: str) -> None:
    report = small_report(tmp_path)
    found = views.together(views.groups(report, by))
    assert (found.nodes, found.transistor_operations, found.bytes_moved) == (2, transistors(3, 4), moved_bytes(3, 4))
    assert found.basic_operations == 3 * 4 * (8 + 7 + 1)
    assert found.macs == 3 * 4 * 8
    assert found.joules == pytest.approx(joules(3, 4))


def test_groups_are_by_what_was_asked_for(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["M"], name="/encoder/layer.0/mm"),
        helper.make_node("Relu", ["M"], ["R"], name="/encoder/layer.0/act"),
        helper.make_node("Cast", ["R"], ["I"], name="/head/cast", to=6),
        helper.make_node("Abs", ["I"], ["Y"], name="abs"),
    ]
    report = aiwq.analyze(dense(tmp_path / "m.onnx", nodes=nodes, batch=3)).to_dict()
    names = {by: {group.name: group.nodes for group in views.groups(report, by)} for by in views.GROUPS}
    assert names["operator"] == {"MatMul": 1, "Relu": 1, "Cast": 1, "Abs": 1}
    assert names["node"] == {node.name: 1 for node in nodes}
    assert names["scope"] == {"encoder/layer.0": 2, "head": 1, "": 1}
    assert set(names["dtype"]) == {"float32", "int32"}


def test_a_gap_is_unknown_in_every_group(tmp_path: Path) -> None:
    report = hostile_report(tmp_path)
    for by in ("operator", "node"):
        gap = next(group for group in views.groups(report, by) if group.name.startswith(("acme", "=cmd")))
        assert (gap.basic_operations, gap.transistor_operations, gap.macs, gap.joules) == (None,) * 4
    for operator in report["by_operator"].values():
        if operator["unsupported"]:
            operator |= {"basic_operations": None, "transistor_operations": None, "macs": None}
    assert views.groups(report, "operator")[-1].basic_operations is None
    assert "unknown" in render(report, "table", width=100)


def test_top_keeps_the_costliest_and_sums_the_rest(tmp_path: Path) -> None:
    report = aiwq.analyze(Path(__file__).parents[1] / "models" / "resnet50.torchscript.onnx").to_dict()
    rows = list(csv.DictReader(io.StringIO(render(report, "csv", by="node", top=3))))
    assert [row["node"] for row in rows[3:]] == ["119 more"]
    total = report["totals"]
    assert sum(int(row["transistor_operations"]) for row in rows) == total["transistor_operations"]
    assert sum(int(row["bytes_moved"]) for row in rows) == total["bytes_read"] + total["bytes_written"]
    assert sum(float(row["joules"]) for row in rows) == pytest.approx(sum(node["energy_j"] for node in report["nodes"]))
    costliest = sorted((node["energy_j"] for node in report["nodes"]), reverse=True)[:3]
    assert [float(row["joules"]) for row in rows[:3]] == costliest
    table = render(report, "table", width=100, by="node", top=3)
    assert "119 more" in table
    assert table.count("/convolution/Conv") == 3
    markdown = render(report, "markdown", by="dtype")
    assert markdown.splitlines()[2].startswith("| dtype |")
    assert "| **total** |" in markdown


# --- memory ------------------------------------------------------------------------------------------------------


def test_live_memory_by_hand(tmp_path: Path) -> None:
    """X [3, 8], then A = Relu(X), B = Relu(A), Y = A + B, all [3, 8] floats of 96 bytes together."""
    nodes = [
        helper.make_node("Relu", ["X"], ["A"], name="a"),
        helper.make_node("Relu", ["A"], ["B"], name="b"),
        helper.make_node("Add", ["A", "B"], ["Y"], name="y"),
    ]
    report = aiwq.analyze(dense(tmp_path / "m.onnx", nodes=nodes, batch=3)).to_dict()
    one = 3 * 8 * 4
    # X and A; A and B, X is read for the last time by a; A, B and Y.
    assert views.live_bytes(report) == [2 * one, 2 * one, 3 * one]
    assert report["totals"]["peak_activation_bytes"] == 3 * one


def test_live_memory_peaks_at_the_peak() -> None:
    for name in ("mobilenet-v2.torchscript", "lstm.torchscript", "gpt2.dynamo"):
        report = aiwq.analyze(Path(__file__).parents[1] / "models" / f"{name}.onnx").to_dict()
        known = [value for value in views.live_bytes(report) if value is not None]
        assert max(known) == report["totals"]["peak_activation_bytes"], name


# --- curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lifecycle", [None, LIFE_CYCLE])
def test_every_point_of_the_ecal_curve_is_a_report(tmp_path: Path, lifecycle: str | None) -> None:
    options: dict[str, Any] = {}
    if lifecycle is not None:
        (tmp_path / "life.toml").write_text(lifecycle, encoding="utf-8")
        options["lifecycle"] = tmp_path / "life.toml"
    curve = views.ecal_curve(small_report(tmp_path, inferences=100, **options))
    assert curve is not None
    assert len(curve.points) > 10
    for inferences, value in curve.points[::5]:
        there = small_report(tmp_path, inferences=int(inferences), **options)["ecal"]
        assert value == pytest.approx(there["joules_per_bit"], rel=1e-4)  # links send whole packets
        if curve.break_even is not None:
            assert there["break_even_inferences"] == pytest.approx(curve.break_even)
    assert (curve.break_even is None) == (lifecycle is None)


def test_every_region_is_a_report(tmp_path: Path) -> None:
    found = {each.code: each for each in views.region_grams(small_report(tmp_path))}
    for code in ("FRA", "POL", "OWID_WRL", "DEU"):
        path = tmp_path / "small.onnx"
        there = aiwq.analyze(path, hardware=str(tmp_path / "round.json"), region=code).to_dict()["carbon"]
        assert found[code].grams == pytest.approx(there["operational_g"])
        assert (found[code].year, found[code].shown) == (there["year"], True)
    grams = [each.grams for each in found.values()]
    assert grams == sorted(grams)


def test_a_place_that_is_no_country_is_among_the_regions(tmp_path: Path) -> None:
    path, hardware = dense(tmp_path / "m.onnx", batch=3), str(profile(tmp_path / "round.json"))
    for options, code in (
        ({"region": "aws:eu-central-1"}, "aws:eu-central-1"),
        ({"carbon_intensity_g_per_kwh": 12.0}, "given"),
    ):
        report = aiwq.analyze(path, hardware=hardware, **options).to_dict()  # type: ignore[arg-type]
        (own,) = (each for each in views.region_grams(report) if each.code == code)
        assert (own.grams, own.shown) == (report["carbon"]["operational_g"], True)
    report["carbon"]["intensity_g_per_kwh"] = 0.0
    assert views.region_grams(report) == []


def test_balance_is_where_both_cost_the_same(tmp_path: Path) -> None:
    """1 nJ per TO and 8 nJ per byte: 8 TO per byte."""
    report = small_report(tmp_path)
    assert views.balance_to_per_byte(report) == pytest.approx(8.0)
    report["energy"]["compute_j"] = None
    assert views.balance_to_per_byte(report) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_pareto_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    front = set(pareto_front((x, y, index) for index, (x, y) in enumerate(points)))
    for index, (x, y) in enumerate(points):
        beaten = any((a <= x and b < y) or (a < x and b <= y) for a, b in points)
        assert (index in front) == (not beaten)


# --- words -------------------------------------------------------------------------------------------------------


def test_sparkline_shows_height_and_keeps_peaks() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0]) == "█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == sparkline([1.0, None]) == ""
    long = sparkline([1] * 500 + [8] + [1] * 499, width=20)
    assert len(long) == 20
    assert long.count("█") == 1


@given(st.floats(1e-9, 1e-3))
def test_micro_is_a_sign_of_numbers_alone(value: float) -> None:
    assert micro(format_si(value, "J")).replace("µ", "u") == format_si(value, "J")
    assert micro("3 u tensors, us, u_1, 5 uJ") == "3 u tensors, us, u_1, 5 µJ"
