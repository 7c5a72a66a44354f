"""Work that is done once for many nodes: the result is that of doing it for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnx_aiwq as aiwq
from onnx_aiwq import deployed, lowering
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.lowering import freezing, lower
from onnx_aiwq.lowering.nodes import Node, Readers, node_of
from onnx_aiwq.operations.alike import likeness
from onnx_aiwq.operations.counting import NodeCost, count_graph, count_operator
from onnx_aiwq.render import render
from onnx_aiwq.vocabulary import DType, Operator, Tensor

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("bert-base.dynamo", "lstm.torchscript", "mobilenet-v2.qdq-int8", "resnet50.torchscript", "whisper-tiny.dynamo")
HARDWARE = "amd-epyc-zen-4-vcpu-2-threads"


def tensor(name: str, *shape: int, **settings: Any) -> Tensor:
    return Tensor(name, settings.pop("dtype", DType.FLOAT), shape, **settings)


def operator(*inputs: Tensor | None, **settings: Any) -> Operator:
    settings = {"op_type": "Add", "attributes": {}, **settings}
    return Operator(
        settings.pop("name", "n"), settings.pop("op_type"), "", 21, inputs, (tensor("y", 2, 3),), **settings
    )


PLAIN = operator(tensor("a", 2, 3), tensor("b", 2, 3))
OTHERS = {
    "operator": operator(*PLAIN.inputs, op_type="Sub"),
    "repeats": operator(*PLAIN.inputs, repeats=2),
    "constant operator": operator(*PLAIN.inputs, constant=True),
    "shape": operator(tensor("a", 2, 3), tensor("b", 3)),
    "type": operator(tensor("a", 2, 3), tensor("b", 2, 3, dtype=DType.DOUBLE)),
    "constant tensor": operator(tensor("a", 2, 3), tensor("b", 2, 3, constant=True)),
    "quantized": operator(tensor("a", 2, 3), tensor("b", 2, 3, quantized=DType.INT8)),
    "elements": operator(tensor("a", 2, 3), tensor("b", 2, 3, value=np.zeros((2, 3), np.float32))),
    "other elements": operator(tensor("a", 2, 3), tensor("b", 2, 3, value=np.ones((2, 3), np.float32))),
    "one tensor twice": operator(tensor("a", 2, 3), tensor("a", 2, 3)),
    "absent": operator(tensor("a", 2, 3), None),
    "attribute": operator(*PLAIN.inputs, attributes={"axis": 1}),
    "attribute of another type": operator(*PLAIN.inputs, attributes={"axis": 1.0}),
    "attribute of items": operator(*PLAIN.inputs, attributes={"axis": (1,)}),
    "attribute of items of another type": operator(*PLAIN.inputs, attributes={"axis": (1.0,)}),
    "array": operator(*PLAIN.inputs, attributes={"axis": np.int64([1])}),
}


def test_what_a_rule_can_tell_apart_is_not_alike() -> None:
    values = {name: likeness(each) for name, each in {"plain": PLAIN, **OTHERS}.items()}
    assert None not in values.values()
    assert len(set(values.values())) == len(values)


def test_names_alone_do_not_matter() -> None:
    assert likeness(PLAIN) == likeness(operator(tensor("c", 2, 3), tensor("d", 2, 3), name="other"))
    assert likeness(OTHERS["one tensor twice"]) == likeness(operator(tensor("d", 2, 3), tensor("d", 2, 3)))


@pytest.mark.parametrize(
    "incomparable",
    [
        operator(tensor("a", 2048, value=np.zeros(2048, np.float32))),
        operator(tensor("a", 1, value=np.array(["text"], object))),
        operator(tensor("a", 1), attributes={"odd": [1, 2]}),
    ],
    ids=["many elements", "texts", "a list"],
)
def test_what_cannot_be_compared_is_like_nothing(incomparable: Operator) -> None:
    assert likeness(incomparable) is None


@pytest.mark.parametrize("name", NAMES)
def test_nodes_are_counted_as_each_on_its_own(name: str) -> None:
    graph = load(MODELS / f"{name}.onnx")
    costs = count_graph(graph)
    assert costs == tuple(count_operator(each, graph) for each in graph.operators)
    shared = [cost for cost in costs if cost.like is not None]
    assert shared  # something is repeated
    assert all(replace(cost, reason="other").like is None for cost in shared)


def test_a_reason_names_its_own_node() -> None:
    nodes = [helper.make_node("Mystery", [f"t{each}"], [f"t{each + 1}"], name=f"m{each}") for each in range(2)]
    nodes += [helper.make_node("Relu", ["t2"], ["y"])]
    x, y = (helper.make_tensor_value_info(each, TensorProto.FLOAT, [2]) for each in ("t0", "y"))
    graph = load(helper.make_model(helper.make_graph(nodes, "g", [x], [y])))
    assert count_graph(graph) == tuple(count_operator(each, graph) for each in graph.operators)


def test_known_costs_are_taken_for_the_operators_that_are_still_there() -> None:
    graph = load(MODELS / "resnet50.torchscript.onnx")
    costs = count_graph(graph)
    half = replace(graph, operators=graph.operators[: len(graph.operators) // 2])
    again = count_graph(half, known=costs)
    assert all(one is other for one, other in zip(again, costs, strict=False))


def _lowered_and_timed(graph: Graph, known: tuple[NodeCost, ...] = ()) -> object:
    from onnx_aiwq.profiles import load_profile

    kernels = load_profile(HARDWARE).kernels
    assert kernels is not None
    lowered = lower(graph)
    times = deployed.times_of(lowered, kernels, graph, known)
    return lowered.graph, lowered.origins, times.nodes, times.unpriced, times.log_error, times.inexact_share


def _always(work: object, passes: list[Callable[[object], None]], idle: object) -> None:
    for each in passes:
        each(work)


@pytest.mark.parametrize("name", NAMES)
def test_shortcuts_of_lowering_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass in every round, a new operator for every node, the sort by edges, every kernel on its own."""
    graph = load(MODELS / f"{name}.onnx")
    short = _lowered_and_timed(graph, count_graph(graph))
    monkeypatch.setattr(lowering, "_run", _always)
    monkeypatch.setattr(freezing, "_is_sorted", lambda work, nodes: False)
    monkeypatch.setattr(freezing, "_unchanged", lambda work, node: None)
    monkeypatch.setattr("onnx_aiwq.operations.counting.likeness", lambda operator: None)
    assert _lowered_and_timed(graph) == short


def test_an_operator_that_no_pass_touches_stays_the_same_object() -> None:
    nodes = [helper.make_node(each, [f"t{place}"], [f"t{place + 1}"]) for place, each in enumerate(("Relu", "Sqrt"))]
    x, y = (helper.make_tensor_value_info(each, TensorProto.FLOAT, [2]) for each in ("t0", "t2"))
    graph = load(helper.make_model(helper.make_graph(nodes, "g", [x], [y])))
    assert all(one is other for one, other in zip(lower(graph).graph.operators, graph.operators, strict=True))


def test_readers_are_counted_as_often_as_they_read() -> None:
    one, two = (_node(name) for name in ("one", "two"))
    readers = Readers(one)
    assert (len(readers), list(readers), readers.only) == (1, [one], one)
    for node in (two, one):
        readers.add(node)
    assert (len(readers), list(readers), readers.distinct(), readers.only) == (3, [one, one, two], [one, two], None)
    readers.discard(one)
    readers.discard(one)
    assert (len(readers), list(readers), readers.only) == (1, [two], two)
    readers.discard(two)
    assert (len(readers), list(readers), readers.distinct(), readers.only) == (0, [], [], None)
    with pytest.raises(KeyError):
        Readers(one).discard(two)


def _node(name: str) -> Node:
    return node_of(operator(tensor("a", 2), name=name), 0.0, 0)


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_a_table_of_operators_needs_no_nodes(form: str) -> None:
    report = aiwq.analyze(MODELS / "lstm.torchscript.onnx", hardware=HARDWARE)
    whole, short = report.to_dict(), report.to_dict(nodes=False)
    assert short == {**whole, "nodes": []} and whole["nodes"]
    assert render(short, form, width=160) == render(whole, form, width=160)


def test_entries_of_equal_nodes_share_nothing_that_can_be_changed() -> None:
    document = aiwq.analyze(MODELS / "resnet50.torchscript.onnx", hardware=HARDWARE).to_dict()
    found = [node["basic_operations"] for node in document["nodes"] if node["op_type"] == "Relu"]
    assert len({id(each) for each in found}) == len(found) > len({tuple(each.items()) for each in found})
