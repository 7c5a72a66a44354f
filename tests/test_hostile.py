"""Hostile files, through the command line: a report or one clear line, in bounded time and memory."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import hostile_structures
import hostile_values
from hostile_models import HOSTILE, HOSTILE_TEXTS, MEGABYTE, chain, initializers
from model_parts import body, model, node, value
from mutations import mutate
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.report import analyze
from processes import run

CPU_S = 20.0
WALL_S, MOST_CPU_S = 500, 240  # a machine that others share may be stopped; the processor time is what is bounded
MEMORY_BYTES = 3 << 30
LONGEST_MESSAGE = 9_000  # characters, of one line
assert hostile_structures and hostile_values  # they fill HOSTILE
FOUND = sorted((Path(__file__).parent / "data" / "hostile").glob("*.onnx"))
_FORKED = Path(__file__).parent / "forked.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="children are forked")


def runs(jobs: Iterable[tuple[str, list[str]]], folder: Path) -> dict[str, dict[str, Any]]:
    """Run the command line once for each (name, arguments)."""
    lines = "".join(json.dumps({"name": name, "arguments": arguments}) + "\n" for name, arguments in jobs)
    command = [sys.executable, str(_FORKED), str(WALL_S), str(MOST_CPU_S), str(MEMORY_BYTES)]
    done = run(command, input=lines, cwd=folder, seconds=WALL_S)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["name"]: result for result in results}


def raw_controls(text: str) -> set[str]:
    """Characters that steer a terminal or reorder a line."""
    return {c for c in set(text) - {"\n"} if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}


def require_answer(result: dict[str, Any]) -> None:
    """A report, or one line that says why there is none; nothing else, and soon."""
    name, out, err = result["name"], result["stdout"], result["stderr"]
    assert result["exit"] in (0, 2), (name, result["signal"], err[-500:])
    assert result["cpu_seconds"] < CPU_S, (name, result["cpu_seconds"])
    assert raw_controls(out + err) == set(), name
    assert "Traceback" not in err and "this is a bug" not in err, (name, err)
    lines = [line for line in err.splitlines() if not line.endswith("...")]
    assert all(line.startswith("aiwq: ") and len(line) < LONGEST_MESSAGE for line in lines), (name, err[:1000])
    if result["exit"] == 2:
        assert out == "" and len(lines) == 1, (name, lines)
    else:
        assert out, name


REFUSED = {
    "dims: squared again and again": "over the 63 of an ONNX file",
    "dims: doubled by every node": "over the 63 of an ONNX file",
    "dims: rank of four thousand": "more than 256",
    "structure: functions that double forty times": "steps",
    "structure: functions that double and hold nothing": "steps",
    "structure: functions in a chain of 3,000": "nested deeper than 60",
    "structure: a function that gets itself as an attribute": "calls itself",
    "structure: a cycle of 20,000 nodes": "cycle",
    "names: a cycle through megabytes": "cycle",
    "wire: nested past the limit": "nested deeper than 100",
    "names: not UTF-8": "UTF-8",
}
assert set(REFUSED) <= set(HOSTILE)

KINDS = sorted({name.partition(":")[0] for name in HOSTILE})
QUICK = {"wire", "einsum", "folding", "numbers"}


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_every_hostile_model_gets_an_answer(tmp_path: Path, kind: str) -> None:
    jobs = []
    for index, (name, build) in enumerate(HOSTILE.items()):
        if name.startswith(f"{kind}:"):
            path = tmp_path / f"{index}.onnx"
            path.write_bytes(build())
            jobs.append((name, ["analyze", str(path), "--format", "json"]))
    results = runs(jobs, tmp_path)
    assert len(results) == len(jobs) > 3
    for name, result in results.items():
        require_answer(result)
        if name in REFUSED:
            assert result["exit"] == 2 and REFUSED[name] in result["stderr"], name


FORMATS = ("table", "json", "markdown", "csv")


@pytest.mark.slow
def test_no_name_does_anything_in_any_output(tmp_path: Path) -> None:
    jobs = []
    for index, name in enumerate(HOSTILE_TEXTS):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(HOSTILE[f"names: {name}"]())
        jobs += [(f"{name}/{form}", ["analyze", str(path), "--format", form]) for form in FORMATS]
    results = runs(jobs, tmp_path)
    assert len(results) == len(HOSTILE_TEXTS) * len(FORMATS)
    for name, result in results.items():
        require_answer(result)
        if name.endswith("/csv") and result["exit"] == 0:
            _require_no_formula(result["stdout"])
        elif name.endswith("/markdown"):
            assert "<" not in result["stdout"] and "](" not in result["stdout"].replace("\\](", "")
        elif name.endswith("/json") and result["exit"] == 0:
            assert json.loads(result["stdout"])["schema"] == "onnx_aiwq.report/1"
            assert result["stdout"].isascii()


def _require_no_formula(text: str) -> None:
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not cell.lstrip().startswith(("=", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")), cell
            assert not cell.lstrip().startswith(("+", "-")) or _is_number(cell), cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.slow
def test_no_name_does_anything_in_what_the_gate_writes(tmp_path: Path) -> None:
    jobs = []
    for index, (name, text) in enumerate(HOSTILE_TEXTS.items()):
        nodes = [helper.make_node("MatMul", [f"{text}x", f"{text}w"], [f"{text}y"], name=text)]
        proto = model(nodes, inputs=[value(f"{text}x", [4, 4]), value(f"{text}w", [4, 4])], output=f"{text}y")
        (tmp_path / f"{index}.onnx").write_bytes(proto.SerializeToString())
        files = [f"--junit={index}.xml", f"--sarif={index}.sarif", f"--summary={index}.md"]
        jobs.append((name, ["gate", f"{index}.onnx", "--budget", "macs=1", *files, "--format", "csv"]))
    results = runs(jobs, tmp_path)
    for index, (name, result) in enumerate(results.items()):
        assert result["exit"] == 1, (name, result["stderr"])  # 64 MACs are over the budget
        _require_no_formula(result["stdout"])
        texts = {ending: (tmp_path / f"{index}.{ending}").read_text("utf-8") for ending in ("xml", "sarif", "md")}
        assert raw_controls(result["stdout"] + result["stderr"] + "".join(texts.values())) == set(), name
        assert ET.fromstring(texts["xml"]).tag == "testsuites"
        assert json.loads(texts["sarif"])["version"] == "2.1.0"
        assert "<script" not in texts["md"] and "<img" not in texts["md"]


def test_names_of_a_megabyte_are_shortened_and_stay_apart() -> None:
    long = ["n" * MEGABYTE, "n" * MEGABYTE + "m"]
    nodes = [node("Relu", ["x"], [long[0]], name=long[0]), node("Neg", [long[0]], [long[1]], name=long[1])]
    proto = model(nodes, output=long[1])
    text = json.dumps(analyze(proto).to_dict())
    assert len(text) < 40_000
    names = [each["name"] for each in analyze(proto).to_dict()["nodes"]]
    assert len(set(names)) == 2 and all(len(name) == 1000 and f"{MEGABYTE}"[:4] in name for name in names)
    assert proto.graph.node[0].name == long[0]  # the caller's model is left as it is


def test_scopes_do_not_grow_without_end() -> None:
    names = [f"{level}" * 900 for level in range(10)]
    inner = body([node("Relu", ["x"], ["z"], name="r")], [], ["z"])
    for name in names:
        inner = body([node("If", ["k"], ["z"], name=name, then_branch=inner, else_branch=inner)], [], ["z"])
    top = node("If", ["k"], ["y"], then_branch=inner, else_branch=inner)
    proto = model([top], inputs=[value("x"), value("k", [], TensorProto.BOOL)])
    nodes = analyze(proto).to_dict()["nodes"]
    assert max(len(each["scope"]) for each in nodes) <= 4000
    assert len({each["name"] for each in nodes}) == len(nodes)


def test_what_the_fuzzer_found(tmp_path: Path) -> None:
    results = runs([(path.name, ["analyze", str(path), "--format", "json"]) for path in FOUND], tmp_path)
    assert len(results) == len(FOUND) > 0
    for result in results.values():
        require_answer(result)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("initializers", 200_000), ("chain", 20_000)])
def test_large_structures(tmp_path: Path, kind: str, count: int) -> None:
    """No recursion, and time and memory in proportion: four times as many take about four times as much."""
    build = {"initializers": initializers, "chain": chain}[kind]
    jobs = []
    for size in (count // 4, count):
        (tmp_path / f"{size}.onnx").write_bytes(build(size))
        jobs.append((str(size), ["analyze", f"{size}.onnx", "--format", "json"]))
    fewer, more = runs(jobs, tmp_path).values()
    assert (fewer["exit"], more["exit"]) == (0, 0)
    assert more["cpu_seconds"] < 6 * fewer["cpu_seconds"]
    assert more["peak_bytes"] < 4.5 * fewer["peak_bytes"]
    assert more["cpu_seconds"] < 50 and more["peak_bytes"] < 1_000_000_000
    graph = json.loads(more["stdout"])["graph"]
    assert (graph["nodes"], graph["depth"]) == ((1, 1) if kind == "initializers" else (count, count))


SEEDS = [
    HOSTILE[name]()
    for name in (
        "structure: branches 20 deep",
        "dims: a symbol squared again and again",
        "numbers: NaN scales of a Resize",
        "einsum: two arrows",
        "folding: a tile of a tile",
    )
]


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False), st.integers(1, 6))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_structures_are_answered(seed: bytes, source: Any, times: int) -> None:
    damaged = mutate(onnx.ModelProto.FromString(seed), source, times)
    try:
        report = analyze(damaged).to_dict()
    except AiwqError as error:
        text = str(error)
        assert text.splitlines() == [text] and text.isprintable() and len(text) <= 8000
    else:
        json.dumps(report, allow_nan=False)


@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_flipped_bits_are_answered(seed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(seed)
    for position in data.draw(st.lists(st.integers(0, 8 * len(seed) - 1), min_size=1, max_size=8)):
        damaged[position // 8] ^= 1 << position % 8
    try:
        json.dumps(analyze(bytes(damaged)).to_dict(), allow_nan=False)
    except AiwqError as error:
        assert len(str(error).splitlines()) == 1
