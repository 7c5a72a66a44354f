"""The JSON report: its published schema, its sums, the counting convention on models counted by hand, and purity."""

from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace as changed
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq as aiwq
from onnx_aiwq.errors import AiwqError, ModelError, ShapeError, UnsupportedOperatorError
from onnx_aiwq.render.table import render_table
from onnx_aiwq.render.text import render_markdown
from schemas import validator_of

MODELS = Path(__file__).parents[1] / "models"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
REFERENCE = "reference-cpu"
OPERATIONS = ("add", "sub", "mul", "div", "root", "compare")

# Transistors per operation, after the formulas of the Transistor Operations paper, in the order of OPERATIONS.
TRANSISTORS = {
    "float32": (236, 236, 12_736, 15_549, 153_540, 316),
    "float16": (106, 106, 2_709, 3_300, 21_884, 156),
    "int64": (636, 636, 90_000, 110_000, 1_442_544, 636),
    "int32": (316, 316, 22_500, 27_500, 270_948, 316),
    "int8": (76, 76, 1_406, 1_719, 5_700, 76),
    "uint8": (76, 76, 1_406, 1_719, 5_700, 76),
    "bool": (10, 10, 4, 0, 0, 4),
}

# The keys of shared/contract.md; a dot goes into an object, [] into the elements of an array.
CONTRACT = {
    "": "schema tool convention level model graph totals by_dtype by_operator coverage nodes energy workload ecal "
    "carbon warnings",
    "tool": "name version",
    "model": "path size_bytes graph_sha256 ir_version opsets producer bindings assumed_bindings inputs outputs "
    "parameters parameter_bytes",
    "graph": "nodes edges depth subgraphs functions",
    "totals": "basic_operations transistor_operations macs bytes_read bytes_written peak_activation_bytes partial",
    "totals.basic_operations": "add sub mul div root compare",
    "by_dtype.float32": "basic_operations transistor_operations",
    "by_operator.MatMul": "nodes basic_operations transistor_operations macs",
    "coverage": "nodes counted decomposed movement constant unsupported unsupported_operators",
    "nodes[]": "name op_type domain scope repeats status dtype inputs outputs basic_operations transistor_operations "
    "macs bytes_read bytes_written energy_j seconds",
    "nodes[].inputs[]": "name dtype shape",
    "nodes[].outputs[]": "name dtype shape",
    "energy": "hardware provider source joules joules_low joules_high seconds seconds_low seconds_high interval "
    "compute_j data_j system_j landauer_j eta_comp",
    "workload": "comp_res data_io ext_factor aw_base aw_act aw_rel ai_impact human",
    "workload.human": "hours energy_j saving impact",
    "ecal": "joules bits joules_per_bit development_j inference_j by_stage break_even_inferences",
    "carbon": "region intensity_g_per_kwh year vintage source pue operational_g embodied_g total_g sci_g_per_inference",
}

Value = tuple[str, int, Sequence[int | str] | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets)


def zeros(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def branch(output: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(nodes, output, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def small() -> onnx.ModelProto:
    """Y = Relu(X[batch,8] @ W[8,4]), the model of the contract."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["M"], name="product"),
        helper.make_node("Relu", ["M"], ["Y"], name="relu"),
    ]
    return model(nodes, [("X", 1, ["batch", 8])], [("Y", 1, ["batch", 4])], [zeros("W", 8, 4)])


def partial() -> onnx.ModelProto:
    """One operator that nobody knows beside one that everybody knows."""
    nodes = [
        helper.make_node("Foo", ["X"], ["Y"], domain="acme.ops", name="foo"),
        helper.make_node("Relu", ["X"], ["Z"], name="relu"),
    ]
    return model(nodes, [("X", 1, [4])], [("Y", 1, [4]), ("Z", 1, [4])], domains=["acme.ops"])


def document(source: Any, **options: Any) -> dict[str, Any]:
    return aiwq.analyze(source, **{"hardware": REFERENCE, **options}).to_dict()


def operations(**numbers: int) -> dict[str, int]:
    return {**dict.fromkeys(OPERATIONS, 0), **numbers}


def transistors(dtype: str, counts: dict[str, int]) -> int:
    return sum(counts[name] * price for name, price in zip(OPERATIONS, TRANSISTORS[dtype], strict=True))


def summed(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(entry["basic_operations"][name] for entry in entries) for name in OPERATIONS}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return validator_of("report-1")


CASES: dict[str, tuple[Any, dict[str, int]]] = {
    "small": (small(), {"batch": 3}),
    "partial": (partial(), {}),
    "squeezenet": (LIGHT / "light_squeezenet.onnx", {}),
    "densenet121": (LIGHT / "light_densenet121.onnx", {}),
    "shufflenet": (LIGHT / "light_shufflenet.onnx", {}),
    "lstm": (MODELS / "lstm.torchscript.onnx", {"batch": 2, "sequence": 7}),
    "bert-int8": (MODELS / "bert-base.dynamic-int8.onnx", {"batch": 2, "sequence": 7}),
    "mobilenet-qdq": (MODELS / "mobilenet-v2.qdq-int8.onnx", {}),
    "whisper": (MODELS / "whisper-tiny.dynamo.onnx", {"batch": 1, "sequence": 5}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    source, bind = CASES[request.param]
    return request.param, document(source, bind=bind)


@pytest.fixture
def report(case: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return case[1]


# --- schema ------------------------------------------------------------------------------------------------------


def test_report_validates(report: dict[str, Any], validator: Draft202012Validator) -> None:
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)] == []


def test_report_is_strict_json(report: dict[str, Any]) -> None:
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text) == report


def places(report: dict[str, Any], path: str) -> Iterator[dict[str, Any]]:
    """The objects of a report at a path of `CONTRACT`."""
    found: list[Any] = [report]
    for step in path.split(".") if path else []:
        found = [each[step.removesuffix("[]")] for each in found]
        if step.endswith("[]"):
            found = [element for each in found for element in each]
    return iter(found)


@pytest.mark.parametrize("path", CONTRACT)
def test_schema_requires_every_key_of_the_contract(path: str, validator: Draft202012Validator) -> None:
    complete = document(small(), bind={"batch": 3})
    assert validator.is_valid(complete)
    for key in CONTRACT[path].split():
        without, mistyped = copy.deepcopy(complete), copy.deepcopy(complete)
        del next(places(without, path))[key]
        assert not validator.is_valid(without), f"{path}.{key} may be left out"
        next(places(mistyped, path))[key] = ["no", 1]
        assert not validator.is_valid(mistyped), f"{path}.{key} may be anything"
    grown = copy.deepcopy(complete)
    next(places(grown, path))["more"] = 1
    # Readers ignore keys that they do not know; the six basic operations are all there are.
    assert validator.is_valid(grown) == (path != "totals.basic_operations")


@pytest.mark.parametrize(
    ("path", "key", "wrong"),
    [
        ("", "schema", "onnx_aiwq.report/2"),
        ("", "level", "guess"),
        ("model", "graph_sha256", "abc"),
        ("totals", "macs", -1),
        ("totals", "macs", 1.5),
        ("totals", "macs", None),
        ("totals", "partial", 0),
        ("nodes[]", "status", "skipped"),
        ("nodes[]", "status", "unsupported"),  # with numbers
        ("nodes[]", "macs", None),  # although it is counted
        ("nodes[]", "dtype", "float31"),
        ("energy", "source", "guess"),
        ("energy", "interval", 90),
        ("energy", "joules", "1 J"),
        ("carbon", "pue", 0.9),
    ],
)
def test_schema_refuses(path: str, key: str, wrong: object, validator: Draft202012Validator) -> None:
    changed = document(small(), bind={"batch": 3})
    next(places(changed, path))[key] = wrong
    assert not validator.is_valid(changed)


def test_optional_parts_of_a_report_validate(validator: Draft202012Validator) -> None:
    from onnx_aiwq.metrics.workload import HumanTask

    full = document(
        small(),
        bind={"batch": 3},
        region="aws:eu-central-1",
        pue=1.2,
        inferences=1000,
        measured_seconds=0.25,
        human=HumanTask(2.0, cost_per_hour=50.0),
    )
    given_intensity = document(small(), carbon_intensity_g_per_kwh=12.5, convention="paper")
    assert list(validator.iter_errors(full)) == []
    assert list(validator.iter_errors(given_intensity)) == []
    assert full["workload"]["human"]["saving"] == 100.0
    assert given_intensity["carbon"]["year"] is None


# --- sums --------------------------------------------------------------------------------------------------------


def test_totals_equal_the_sum_over_nodes(report: dict[str, Any]) -> None:
    totals = report["totals"]
    counted = [node for node in report["nodes"] if node["basic_operations"] is not None]
    assert totals["basic_operations"] == summed(counted)
    assert totals["transistor_operations"] == sum(node["transistor_operations"] for node in counted) > 0
    assert totals["macs"] == sum(node["macs"] for node in counted)
    for key in ("bytes_read", "bytes_written"):
        assert totals[key] == sum(node[key] for node in report["nodes"] if node[key] is not None) > 0


def test_totals_equal_the_sum_over_data_types(report: dict[str, Any]) -> None:
    entries = list(report["by_dtype"].values())
    assert report["totals"]["basic_operations"] == summed(entries)
    assert report["totals"]["transistor_operations"] == sum(entry["transistor_operations"] for entry in entries)


def test_totals_equal_the_sum_over_operators(report: dict[str, Any]) -> None:
    entries = list(report["by_operator"].values())
    counted = [entry for entry in entries if entry["unsupported"] < entry["nodes"]]
    assert report["totals"]["basic_operations"] == summed(counted)
    for key in ("transistor_operations", "macs"):
        assert report["totals"][key] == sum(entry[key] for entry in counted)
    assert sum(entry["nodes"] for entry in entries) == len(report["nodes"])


def test_transistor_operations_follow_from_the_table(report: dict[str, Any]) -> None:
    for dtype, entry in report["by_dtype"].items():
        assert entry["transistor_operations"] == transistors(dtype, entry["basic_operations"]), dtype


def test_coverage_adds_up(report: dict[str, Any]) -> None:
    coverage = report["coverage"]
    states = ("counted", "decomposed", "movement", "constant", "unsupported")
    assert sum(coverage[state] for state in states) == coverage["nodes"] == len(report["nodes"])
    for state in states:
        assert coverage[state] == sum(node["status"] == state for node in report["nodes"])


def test_every_node_has_a_name_of_its_own(report: dict[str, Any]) -> None:
    names = [node["name"] for node in report["nodes"]]
    assert len(set(names)) == len(names)


def test_energy_of_the_nodes_is_the_energy_of_the_run(report: dict[str, Any]) -> None:
    energy = report["energy"]
    spent = math.fsum(node["energy_j"] for node in report["nodes"] if node["energy_j"] is not None)
    parts = energy["compute_j"] + energy["data_j"] + energy["system_j"]
    assert parts == pytest.approx(energy["joules"], rel=1e-12)
    assert spent == pytest.approx(parts, rel=1e-9)  # the reference knows no overhead per run
    assert math.fsum(entry["joules"] or 0.0 for entry in report["by_operator"].values()) == pytest.approx(spent)


def test_overhead_of_a_run_is_in_the_run_and_in_no_node() -> None:
    profile = changed(aiwq.load_profile(REFERENCE), seconds_per_run=0.5, static_watts=40.0)
    charged = document(small(), bind={"batch": 3}, hardware=profile)
    spent = math.fsum(node["energy_j"] for node in charged["nodes"])
    assert charged["energy"]["joules"] == pytest.approx(spent + 20.0, rel=1e-12)
    assert charged["energy"]["seconds"] == pytest.approx(0.5 + math.fsum(node["seconds"] for node in charged["nodes"]))


@pytest.mark.parametrize("hardware", [REFERENCE, "nvidia-l4"])
def test_intervals_hold_the_estimate(report: dict[str, Any], hardware: str) -> None:
    energy = report["energy"] if hardware == REFERENCE else document(small(), hardware=hardware)["energy"]
    assert 0 < energy["joules_low"] <= energy["joules"] <= energy["joules_high"] < math.inf
    assert 0 < energy["seconds_low"] <= energy["seconds"] <= energy["seconds_high"] < math.inf
    assert energy["joules_low"] < energy["joules_high"]


def test_ecal_and_carbon_of_n_inferences_are_n_times_one() -> None:
    one, many = (document(small(), region="DEU", pue=1.5, inferences=n) for n in (1, 1000))
    joules = one["energy"]["joules"]
    assert many["energy"] == one["energy"]
    assert many["ecal"]["joules"] == pytest.approx(1000 * joules)
    assert many["ecal"]["bits"] == 1000 * 8 * 32
    assert many["ecal"]["joules_per_bit"] == pytest.approx(joules / (8 * 32))
    intensity = one["carbon"]["intensity_g_per_kwh"]
    assert many["carbon"]["operational_g"] == pytest.approx(1000 * joules * 1.5 * intensity / 3.6e6)


# --- convention --------------------------------------------------------------------------------------------------


def test_small_model_by_hand() -> None:
    # M[3,4] = X[3,8] @ W[8,4]: 96 products, 12 sums of 8 terms with 7 additions each; Relu compares 12 elements.
    found = document(small(), bind={"batch": 3})
    assert found["totals"]["basic_operations"] == operations(add=84, mul=96, compare=12)
    assert found["totals"]["macs"] == 96
    assert found["totals"]["transistor_operations"] == 84 * 236 + 96 * 12_736 + 12 * 316
    assert found["totals"]["bytes_read"] == 4 * (3 * 8 + 8 * 4 + 3 * 4)
    assert found["totals"]["bytes_written"] == 4 * (3 * 4 + 3 * 4)
    assert found["model"]["parameters"] == 32
    assert found["model"]["parameter_bytes"] == 128
    assert found["model"]["inputs"] == [{"name": "X", "dtype": "float32", "shape": [3, 8]}]
    assert found["model"]["bindings"] == {"batch": 3}
    assert found["model"]["assumed_bindings"] == {}
    assert found["graph"] == {"nodes": 2, "edges": 1, "depth": 2, "subgraphs": 0, "functions": 0}
    assert not found["totals"]["partial"]


def test_dimension_that_nobody_bound_is_one_and_says_so() -> None:
    found = document(small())
    assert found["totals"]["macs"] == 32
    assert found["model"]["assumed_bindings"] == {"batch": 1}
    assert any("batch" in line and "--bind" in line for line in found["warnings"])
    assert not any("--bind" in line for line in document(small(), bind={"batch": 1})["warnings"])


def _without_prices(report: dict[str, Any]) -> dict[str, Any]:
    """What the convention must not change: everything but comparisons and what is priced by them."""
    plain = copy.deepcopy(report)
    groups = [plain["totals"], *plain["by_operator"].values(), *plain["by_dtype"].values(), *plain["nodes"]]
    for entry in groups:
        for priced in ("transistor_operations", "energy_j", "seconds", "joules"):
            entry.pop(priced, None)
        if entry["basic_operations"] is not None:
            entry["basic_operations"]["compare"] = 0
    nothing = operations()
    plain["by_dtype"] = {k: v for k, v in plain["by_dtype"].items() if v["basic_operations"] != nothing}
    for metric in ("convention", "energy", "workload", "ecal", "carbon"):
        del plain[metric]
    return plain


def test_paper_convention_differs_in_comparisons_alone(case: tuple[str, dict[str, Any]]) -> None:
    name, default = case
    source, bind = CASES[name]
    paper = document(source, bind=bind, convention="paper")
    assert paper["convention"] != default["convention"]
    parts = [*paper["nodes"], *paper["by_operator"].values()]
    counted = [part for part in parts if part["basic_operations"] is not None]
    for entry in (paper["totals"], *paper["by_dtype"].values(), *counted):
        assert entry["basic_operations"]["compare"] == 0
    assert _without_prices(paper) == _without_prices(default)
    compared = sum(
        entry["basic_operations"]["compare"] * TRANSISTORS[dtype][OPERATIONS.index("compare")]
        for dtype, entry in default["by_dtype"].items()
    )
    saved = default["totals"]["transistor_operations"] - paper["totals"]["transistor_operations"]
    assert saved == compared
    assert (compared > 0) == (default["totals"]["basic_operations"]["compare"] > 0)


def test_some_model_compares() -> None:
    assert document(LIGHT / "light_squeezenet.onnx")["totals"]["basic_operations"]["compare"] > 0


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    batch=st.integers(1, 9),
    factor=st.integers(1, 1000),
    bias=st.booleans(),
)
def test_counts_of_an_mlp_scale_with_the_batch(sizes: list[int], batch: int, factor: int, bias: bool) -> None:
    layers = list(itertools.pairwise(sizes))
    nodes, weights, last = [], [], "X"
    for index, (width_in, width_out) in enumerate(layers):
        operands = [last, f"W{index}"] + [f"B{index}"] * bias
        weights += [zeros(f"W{index}", width_in, width_out)] + [zeros(f"B{index}", width_out)] * bias
        nodes += [
            helper.make_node("Gemm", operands, [f"H{index}"]),
            helper.make_node("Relu", [f"H{index}"], [f"A{index}"]),
        ]
        last = f"A{index}"
    mlp = model(nodes, [("X", 1, ["batch", sizes[0]])], [(last, 1, ["batch", sizes[-1]])], weights)
    # Per sample and layer of k inputs and n outputs: k n products, (k - 1) n additions, n of a bias, n comparisons.
    expected = {
        "mul": sum(k * n for k, n in layers),
        "add": sum((k - 1 + bias) * n for k, n in layers),
        "compare": sum(n for _, n in layers),
    }
    for samples in (batch, batch * factor):
        totals = document(mlp, bind={"batch": samples})["totals"]
        counts = operations(**{name: number * samples for name, number in expected.items()})
        assert totals["basic_operations"] == counts
        assert totals["macs"] == counts["mul"]
        assert totals["transistor_operations"] == transistors("float32", counts)


def test_counts_are_exact_beyond_64_bits() -> None:
    batch = 2**61 + 1
    totals = document(small(), bind={"batch": batch})["totals"]
    assert totals["macs"] == 32 * batch
    assert totals["transistor_operations"] == batch * (28 * 236 + 32 * 12_736 + 4 * 316)


# --- control flow ------------------------------------------------------------------------------------------------


def _if(then: onnx.GraphProto, otherwise: onnx.GraphProto, **options: Any) -> onnx.ModelProto:
    node = helper.make_node("If", ["c"], ["Y"], name="choice", then_branch=then, else_branch=otherwise)
    return model([node], [("c", TensorProto.BOOL, []), ("X", 1, [10])], [("Y", 1, [10])], **options)


@pytest.mark.parametrize("swapped", [False, True])
def test_if_with_unknown_condition_counts_the_costlier_branch(swapped: bool) -> None:
    # One root of 10 elements is dearer than 30 comparisons.
    few = branch("f", helper.make_node("Sqrt", ["X"], ["f"], name="root"))
    many = branch(
        "m",
        helper.make_node("Relu", ["X"], ["m0"], name="r0"),
        helper.make_node("Relu", ["m0"], ["m1"], name="r1"),
        helper.make_node("Relu", ["m1"], ["m"], name="r2"),
    )
    found = document(_if(*((many, few) if swapped else (few, many))))
    assert found["totals"]["basic_operations"] == operations(root=10)
    assert [node["op_type"] for node in found["nodes"]] == ["Sqrt", "If"]
    assert any("costlier" in line and "choice" in line for line in found["warnings"])


def test_if_with_known_condition_counts_the_branch_taken() -> None:
    then = branch("t", helper.make_node("Relu", ["X"], ["t"]))
    otherwise = branch("e", helper.make_node("Sqrt", ["X"], ["e"]))
    node = helper.make_node("If", ["c"], ["Y"], then_branch=then, else_branch=otherwise)
    condition = numpy_helper.from_array(np.array(True), "c")
    found = document(model([node], [("X", 1, [10])], [("Y", 1, [10])], [condition]))
    assert found["totals"]["basic_operations"] == operations(compare=10)
    assert not any("branch" in line for line in found["warnings"])


def test_if_never_hides_an_operator_that_cannot_be_counted() -> None:
    unknown = branch("t", helper.make_node("Foo", ["X"], ["t"], domain="acme.ops", name="foo"))
    known = branch("e", helper.make_node("Relu", ["X"], ["e"]))
    found = document(_if(unknown, known, domains=["acme.ops"]))
    # The branch whose cost nobody knows may be the costlier one: the totals cannot be complete.
    assert found["totals"]["partial"]
    assert found["coverage"]["unsupported_operators"] == ["acme.ops.Foo"]


def _loop(trips: onnx.TensorProto | None) -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["v", "one"], ["w"], name="step"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", 1, [4]),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", 1, [4])],
    )
    node = helper.make_node("Loop", ["trips", "", "X"], ["Y"], name="loop", body=body)
    inputs: list[Value] = [("X", 1, [4])] + ([("trips", TensorProto.INT64, [])] if trips is None else [])
    weights = [zeros("one", 4)] + ([] if trips is None else [trips])
    return model([node], inputs, [("Y", 1, [4])], weights)


def test_loop_counts_its_body_as_often_as_it_runs() -> None:
    found = document(_loop(numpy_helper.from_array(np.array(5, np.int64), "trips")), strict=True)
    assert found["totals"]["basic_operations"] == operations(add=5 * 4)
    step = next(node for node in found["nodes"] if node["op_type"] == "Add")
    assert step["repeats"] == 5
    assert step["basic_operations"] == operations(add=20)
    assert step["transistor_operations"] == 20 * 236
    assert (step["bytes_read"], step["bytes_written"]) == (5 * 2 * 16, 5 * 16)


def test_unknown_trip_count_is_a_dimension_that_can_be_bound() -> None:
    assumed = document(_loop(None))
    assert assumed["totals"]["basic_operations"] == operations(add=4)
    (name,) = assumed["model"]["assumed_bindings"]
    assert document(_loop(None), bind={name: 5})["totals"]["basic_operations"] == operations(add=20)


# --- what cannot be counted --------------------------------------------------------------------------------------


def test_unsupported_operator_is_named_and_in_no_total() -> None:
    found = document(partial())
    assert found["coverage"]["unsupported"] == 1
    assert found["coverage"]["unsupported_operators"] == ["acme.ops.Foo"]
    assert found["totals"]["partial"] is True
    assert found["totals"]["basic_operations"] == operations(compare=4)
    status = {node["name"]: node["status"] for node in found["nodes"]}
    assert status == {"foo": "unsupported", "relu": "counted"}
    foo = next(node for node in found["nodes"] if node["name"] == "foo")
    for unknown in ("basic_operations", "transistor_operations", "macs", "energy_j", "seconds"):
        assert foo[unknown] is None
    assert any("acme.ops.Foo" in line and "partial" in line for line in found["warnings"])


def test_operator_of_which_no_node_is_counted_has_no_figures(validator: Draft202012Validator) -> None:
    found = document(partial())
    validator.validate(found)
    foo, relu = found["by_operator"]["acme.ops.Foo"], found["by_operator"]["Relu"]
    assert (foo["nodes"], foo["unsupported"]) == (1, 1)
    for unknown in ("basic_operations", "transistor_operations", "macs", "joules"):
        assert foo[unknown] is None
    assert (foo["bytes_read"], foo["bytes_written"]) == (16, 16)  # 4 float32, whatever Foo does with them
    assert (relu["unsupported"], relu["basic_operations"]) == (0, operations(compare=4))
    for rendered in (render_table(found, width=200), render_markdown(found)):
        (line,) = (line for line in rendered.splitlines() if "acme.ops.Foo" in line and "unsupported" not in line)
        assert line.replace("|", " ").split() == ["acme.ops.Foo", "1", *["unknown"] * 3, "32", "B", "unknown"]


def test_operator_of_which_some_nodes_are_counted_says_how_many() -> None:
    """The sums of a partly counted operator stay, and the number of nodes that they leave out stands beside them."""
    nodes = [
        helper.make_node("Foo", ["X"], ["F"], domain="acme.ops"),
        helper.make_node("Exp", ["X"], ["Y"]),
        helper.make_node("Exp", ["F"], ["Z"]),
    ]
    found = document(model(nodes, [("X", 1, [4])], [("Y", 1, [4]), ("Z", 1, None)], domains=["acme.ops"]))
    exp = found["by_operator"]["Exp"]
    assert (exp["nodes"], exp["unsupported"], exp["basic_operations"]) == (2, 1, operations(root=4))
    assert (exp["bytes_read"], exp["bytes_written"]) == (16, 16)
    (line,) = (line for line in render_table(found, width=200).splitlines() if line.strip().startswith("Exp"))
    assert "2 (1 not counted)" in line


def test_strict_refuses_what_cannot_be_counted() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"acme\.ops\.Foo"):
        aiwq.analyze(partial(), hardware=REFERENCE, strict=True)
    with pytest.raises(ShapeError, match=r"'batch'.*--bind"):
        aiwq.analyze(small(), hardware=REFERENCE, strict=True)
    assert aiwq.analyze(small(), hardware=REFERENCE, bind={"batch": 2}, strict=True).counts.macs == 64


@pytest.mark.parametrize("source", [small(), MODELS / "lstm.torchscript.onnx"], ids=["small", "lstm"])
def test_every_truncation_is_a_model_error(source: onnx.ModelProto | Path) -> None:
    data = source.read_bytes() if isinstance(source, Path) else source.SerializeToString()
    for length in range(0, len(data), max(1, len(data) // 200)):
        with pytest.raises(ModelError):
            aiwq.load(data[:length])


@settings(deadline=None, max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_models_are_analysed_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(small().SerializeToString())
    for position, value in changes:
        data[position % len(data)] = value
    try:
        found = document(bytes(data))
    except AiwqError as error:
        assert str(error)
    else:
        json.dumps(found, allow_nan=False)


def test_names_that_are_no_text_are_a_model_error() -> None:
    data = small().SerializeToString().replace(b"product", b"prod\xff\xfet").replace(b"MatMul", b"Mat\xfful")
    with pytest.raises(ModelError):
        aiwq.analyze(data, hardware=REFERENCE)


# --- purity ------------------------------------------------------------------------------------------------------


def test_analyze_changes_none_of_its_inputs() -> None:
    proto = _loop(None)
    before = proto.SerializeToString(deterministic=True)
    bind, shapes, values = {"loop_trip_count": 5}, {"X": [4]}, {"trips": np.array(5)}
    given_bind, given_shapes = dict(bind), copy.deepcopy(shapes)
    aiwq.analyze(proto, hardware=REFERENCE, shapes=shapes, values=values)
    aiwq.analyze(proto, hardware=REFERENCE, bind=bind)
    assert proto.SerializeToString(deterministic=True) == before
    assert (bind, shapes) == (given_bind, given_shapes)
    assert values["trips"].tolist() == 5


def test_a_graph_can_be_analysed_again() -> None:
    graph = aiwq.load(small(), bind={"batch": 3})
    first = aiwq.analyze(graph, hardware=REFERENCE)
    before = first.to_dict()
    assert aiwq.analyze(graph, hardware=REFERENCE).to_dict() == before
    assert aiwq.count(graph) == first.counts
    spoiled = first.to_dict()
    spoiled["model"]["bindings"]["batch"] = 9
    for part in ("model", "totals", "by_dtype", "by_operator", "energy", "ecal", "nodes", "warnings"):
        spoiled[part].clear()
    assert first.to_dict() == before


def test_every_kind_of_source_gives_the_same_report(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(small(), path)
    bind = {"batch": 3}
    sources = [path, str(path), path.read_bytes(), small(), aiwq.load(path, bind=bind)]
    found = [document(source, bind=bind) for source in sources]
    for each in found:
        del each["model"]["path"]
    assert all(each == found[0] for each in found)


def test_analyze_imports_no_runtime(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(small(), path)
    script = (
        "import sys, onnx_aiwq as aiwq\n"
        "macs = aiwq.analyze(sys.argv[1], bind={'batch': 3}).to_dict()['totals']['macs']\n"
        "print(macs, *sorted({'onnxruntime', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == ["96"]


def test_hardware_profile_schema_accepts_shipped_profiles() -> None:
    schema = msgspec.json.schema(aiwq.HardwareProfile)
    profile = json.loads(aiwq.load_profile(REFERENCE).to_json())
    Draft202012Validator(schema).validate(profile)
    assert not Draft202012Validator(schema).is_valid({**profile, "static_watts": -1.0})
