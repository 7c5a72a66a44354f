"""From a model to its DAG: order, functions, subgraphs, names, shapes; what can run is compared with a real run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_parts import constant, node, value
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.graph.recurring import Recurring
from onnx_aiwq.operations.counting import Status, count_graph
from onnx_aiwq.report import analyze
from onnx_aiwq.vocabulary import DType, Operator, Tensor
from runtime import run_all_tensors

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSET = 21


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    constants: Sequence[TensorProto] = (),
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, outputs, initializer=constants)


def model(
    nodes: Sequence[onnx.NodeProto],
    *constants: TensorProto,
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    declared: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """A model with the input x[2, 3] and the output y unless it names others."""
    graph = helper.make_graph(
        nodes, "g", inputs or [value("x")], outputs or [onnx.ValueInfoProto(name="y")], constants, value_info=declared
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1), helper.make_opsetid("odd", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)


def function(
    name: str, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str], **defaults: Any
) -> onnx.FunctionProto:
    references = sorted(
        {a.ref_attr_name for inner in nodes for a in inner.attribute if a.ref_attr_name} - set(defaults)
    )
    made = [helper.make_attribute(key, default) for key, default in defaults.items()]
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, outputs, nodes, imports, references, made)


def referring(made: onnx.NodeProto, name: str, to: str, kind: int) -> onnx.NodeProto:
    """The node with an attribute that takes its value from the enclosing function's attribute `to`."""
    made.attribute.add(name=name, ref_attr_name=to, type=kind)  # type: ignore[arg-type]
    return made


def by_name(graph: Graph) -> dict[str, Operator]:
    operators = {operator.name: operator for operator in graph.operators}
    assert len(operators) == len(graph.operators)
    return operators


def op_types(graph: Graph) -> list[str]:
    return [operator.op_type for operator in graph.operators]


def as_it_runs(proto: onnx.ModelProto, feeds: Mapping[str, Any] | None = None, **options: Any) -> Graph:
    """Load a model and check every tensor of its main graph, and the order of nodes, against a run in onnxruntime."""
    feeds = {"x": np.ones((2, 3), np.float32)} if feeds is None else feeds
    graph = load(proto, **options)
    seen = run_all_tensors(proto, feeds)
    tensors = {t.name: t for o in graph.operators for t in (*o.inputs, *o.outputs) if t is not None}
    tensors.update((tensor.name, tensor) for tensor in (*graph.inputs, *graph.outputs))
    assert [tensor.name for tensor in graph.inputs] == list(feeds)
    assert [tensor.name for tensor in graph.outputs] == [output.name for output in proto.graph.output]
    compared = {name: (seen[name][:2], (t.dtype.label, t.shape)) for name, t in tensors.items() if name in seen}
    assert {name: ours for name, (_, ours) in compared.items()} == {
        name: truth for name, (truth, _) in compared.items()
    }
    # What a function returns keeps the name that it has inside.
    calls = {(called.domain, called.name) for called in proto.functions}
    plain = [made for made in proto.graph.node if (made.domain, made.op_type) not in calls]
    outputs = {name for made in plain for name in made.output if name}
    assert outputs <= set(compared)
    for tensor in tensors.values():
        if tensor.name in seen and tensor.value is not None:
            np.testing.assert_allclose(tensor.value, seen[tensor.name].elements, rtol=1e-6)
    assert_in_order(graph)
    return graph


def assert_in_order(graph: Graph) -> None:
    position = {operator.name: index for index, operator in enumerate(graph.operators)}
    assert all(position[producer] < position[consumer] for producer, consumer, _ in graph.edges)
    assert nx.is_directed_acyclic_graph(graph.dag)


# --- order and the DAG


def test_an_unsorted_graph_is_sorted() -> None:
    nodes = [
        node("Add", ["c", "b"], ["y"], name="last"),
        node("Exp", ["b"], ["c"], name="third"),
        node("Neg", ["a"], ["b"], name="second"),
        node("Relu", ["x"], ["a"], name="first"),
    ]
    graph = as_it_runs(model(nodes[::-1]))
    shuffled = load(model(nodes))
    assert [operator.name for operator in shuffled.operators] == ["first", "second", "third", "last"]
    assert shuffled.operators == graph.operators
    assert shuffled.edges == graph.edges


def test_an_unsorted_subgraph_is_sorted() -> None:
    inner = body([node("Neg", ["a"], ["z"]), node("Relu", ["x"], ["a"])], outputs=[value("z")])
    graph = load(model([node("If", ["k"], ["y"], then_branch=inner, else_branch=inner)], constant("k", np.bool_(True))))
    assert op_types(graph) == ["Relu", "Neg", "If"]
    assert_in_order(graph)


def diamond() -> Graph:
    r"""x -> top -> left -> right1 -> right2 -> bottom, with top -> left -> bottom as the short side.

            top
           /   \
        left   right1
          |      |
          |    right2
           \   /
           bottom
    """
    nodes = [
        node("Relu", ["x"], ["t"], name="top"),
        node("Neg", ["t"], ["l"], name="left"),
        node("Exp", ["t"], ["r"], name="right1"),
        node("Transpose", ["r"], ["s"], name="right2"),
        node("MatMul", ["l", "s"], ["y"], name="bottom"),
    ]
    return as_it_runs(model(nodes))


def test_diamond() -> None:
    graph = diamond()
    assert type(graph.dag) is nx.DiGraph
    assert set(graph.dag.edges) == {
        ("top", "left"), ("top", "right1"), ("left", "bottom"), ("right1", "right2"), ("right2", "bottom")
    }  # fmt: skip
    assert graph.critical_path == ("top", "right1", "right2", "bottom")
    assert graph.depth == 4
    assert nx.dag_longest_path_length(graph.dag) == 3


def test_dag_attributes() -> None:
    graph = diamond()
    operators = nx.get_node_attributes(graph.dag, "operator")
    assert operators == by_name(graph) and all(isinstance(operator, Operator) for operator in operators.values())
    flowing = nx.get_edge_attributes(graph.dag, "tensors")
    assert {ends: [tensor.name for tensor in tensors] for ends, tensors in flowing.items()} == {
        ("top", "left"): ["t"],
        ("top", "right1"): ["t"],
        ("left", "bottom"): ["l"],
        ("right1", "right2"): ["r"],
        ("right2", "bottom"): ["s"],
    }
    (across,) = flowing["right2", "bottom"]
    assert isinstance(across, Tensor) and (across.shape, across.dtype) == ((3, 2), DType.FLOAT)
    assert next(iter(nx.topological_sort(graph.dag))) == "top"


def test_several_tensors_between_two_operators_are_one_edge() -> None:
    nodes = [
        node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3, name="split"),
        node("Concat", ["c", "a", "a"], ["y"], axis=0, name="join"),
    ]
    graph = as_it_runs(model(nodes, outputs=[onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="b")]))
    assert list(graph.dag.edges) == [("split", "join")]
    assert sorted(tensor.name for tensor in graph.dag.edges["split", "join"]["tensors"]) == ["a", "c"]
    assert graph.depth == 2


def test_operators_without_edges_have_depth_one() -> None:
    graph = as_it_runs(model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["z"])]))
    assert (graph.depth, graph.dag.number_of_nodes(), graph.dag.number_of_edges()) == (1, 2, 0)


def test_a_graph_that_hands_its_input_through() -> None:
    graph = load(model([], outputs=[value("x")]))
    assert (graph.operators, graph.depth, graph.critical_path) == ((), 0, ())
    assert graph.outputs[0].shape == (2, 3)


# --- names


def test_duplicate_and_empty_names() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["c"], name="same#2"),
        node("Relu", ["c"], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("Relu", ["e"], ["y"], name="d"),
    ]
    graph = load(model(nodes))  # onnxruntime refuses duplicates, exporters write them
    names = [operator.name for operator in graph.operators]
    assert names[0] == "same" and names[3] == "d" and names[4] == "e"
    assert len(set(names)) == graph.dag.number_of_nodes() == graph.depth == 6


def test_equal_names_of_inner_and_outer_tensors_stay_apart() -> None:
    inner = body([node("Concat", ["x", "x"], ["t"], axis=0), node("Neg", ["t"], ["z"])], outputs=[value("z", (4, 3))])
    nodes = [
        node("If", ["k"], ["u"], then_branch=inner, else_branch=inner, name="fork"),
        node("Transpose", ["u"], ["t"], name="turn"),
        node("Relu", ["t"], ["y"], name="end"),
    ]
    graph = as_it_runs(model(nodes, constant("k", np.bool_(True))))
    inside, outside = next(o for o in graph.operators if o.op_type == "Neg"), by_name(graph)["end"]
    assert inside.inputs[0] and outside.inputs[0]
    assert inside.inputs[0].name != outside.inputs[0].name
    assert (inside.inputs[0].shape, outside.inputs[0].shape) == ((4, 3), (3, 4))


# --- initializers and inputs


@pytest.mark.parametrize("listed", [False, True])
def test_an_initializer_that_is_listed_as_input_is_no_input(listed: bool) -> None:
    inputs = [value("x"), value("s", [2], INT64), value("w", [6])] if listed else [value("x")]
    nodes = [node("Mul", ["r", "w"], ["y"]), node("Reshape", ["x", "s"], ["r"])][::-1]
    weights = constant("w", np.ones(6, np.float32))
    graph = as_it_runs(model(nodes, constant("s", np.int64([-1, 6])), weights, inputs=inputs))
    assert [tensor.name for tensor in graph.inputs] == ["x"]
    assert graph.outputs[0].shape == (1, 6)
    assert [(tensor.name, tensor.size) for tensor in graph.parameters] == [("w", 6)]


def test_unused_initializers_are_no_parameters() -> None:
    proto = model([node("Relu", ["x"], ["y"])], constant("unused", np.ones(100, np.float32)))
    assert as_it_runs(proto).parameters == ()


def test_a_shared_weight_is_one_parameter() -> None:
    nodes = [
        node("Mul", ["x", "w"], ["a"]),
        node("Transpose", ["w"], ["v"], perm=[1, 0]),
        node("MatMul", ["a", "v"], ["y"]),
    ]
    graph = as_it_runs(model(nodes, constant("w", np.ones((2, 3), np.float32))))
    assert [(tensor.name, tensor.size) for tensor in graph.parameters] == [("w", 6)]
    assert by_name(graph)["v"].constant


def test_optional_inputs_and_outputs_that_are_left_out() -> None:
    nodes = [
        node("Clip", ["x", "", "high"], ["c"]),
        node("Unsqueeze", ["c", "first"], ["u"]),
        node("LSTM", ["u", "w", "r", "", "", "", "", ""], ["", "h"], hidden_size=4, name="lstm"),
        node("Dropout", ["h"], ["y", ""]),
    ]
    constants = [
        constant("high", np.float32(1)),
        constant("first", np.int64([0])),
        constant("w", np.ones((1, 16, 3), np.float32)),
        constant("r", np.ones((1, 16, 4), np.float32)),
    ]
    graph = as_it_runs(model(nodes, *constants))
    clip, lstm = graph.operators[0], by_name(graph)["lstm"]
    assert clip.inputs[1] is None and clip.input(1) is None
    assert clip.inputs[2] is not None and clip.inputs[2].name == "high"
    assert clip.input(7) is None
    assert lstm.outputs[0] is None and lstm.output(0) is None
    assert lstm.outputs[1] is not None and lstm.outputs[1].shape == (1, 2, 4)
    assert lstm.attributes["hidden_size"] == 4


def test_schema_defaults_are_filled_in() -> None:
    (softmax,) = as_it_runs(model([node("Softmax", ["x"], ["y"])])).operators
    assert softmax.attributes["axis"] == -1
    (old,) = load(_with_opset(model([node("Softmax", ["x"], ["y"])]), 11)).operators
    assert (old.version, old.attributes["axis"]) == (11, 1)


def _with_opset(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    proto.opset_import[0].version = version
    return proto


def test_constants_of_every_kind() -> None:
    nodes = [
        node("Constant", [], ["f"], value_float=2.0),
        node("Constant", [], ["fs"], value_floats=[1.0, 2.0, 3.0]),
        node("Constant", [], ["i"], value_int=1),
        node("Constant", [], ["is"], value_ints=[3, 2]),
        node("Constant", [], ["t"], value=constant("", np.int32([[7]]))),
        node("Mul", ["x", "f"], ["a"]),
        node("Add", ["a", "fs"], ["b"]),
        node("Unsqueeze", ["b", "i"], ["c"]),
        node("Reshape", ["c", "is"], ["y"]),
    ]
    graph = as_it_runs(model(nodes))
    assert [operator.constant for operator in graph.operators] == [True] * 5 + [False] * 4
    assert graph.outputs[0].shape == (3, 2)


# --- If


def _fork(condition: list[onnx.NodeProto], *constants: TensorProto, inputs: Sequence[Any] = ()) -> onnx.ModelProto:
    heavy = body([node("MatMul", ["x", "w"], ["p"], name="heavy")], outputs=[value("p", None)])
    light = body([node("Neg", ["x"], ["q"], name="light")], outputs=[value("q", None)])
    nodes = [*condition, node("If", ["k"], ["y"], then_branch=heavy, else_branch=light, name="fork")]
    return model(nodes, constant("w", np.ones((3, 3), np.float32)), *constants, inputs=inputs)


@pytest.mark.parametrize(("condition", "taken"), [(True, "MatMul"), (False, "Neg")])
def test_if_with_a_known_condition_takes_its_branch(condition: bool, taken: str) -> None:
    graph = as_it_runs(_fork([], constant("k", np.bool_(condition))))
    assert op_types(graph) == [taken, "If"]
    inner, fork = graph.operators
    assert inner.branches == fork.branches == ()
    assert inner.scope.startswith("fork/") and fork.scope == ""
    assert graph.warnings == ()
    assert (inner.name, "fork") in graph.dag.edges


@pytest.mark.parametrize(("batch", "taken"), [(2, "MatMul"), (5, "Neg")])
def test_if_whose_condition_follows_from_a_shape(batch: int, taken: str) -> None:
    condition = [
        node("Shape", ["x"], ["d"], start=0, end=1),
        node("Squeeze", ["d"], ["s"]),
        node("Equal", ["s", "two"], ["k"]),
    ]
    proto = _fork(condition, constant("two", np.int64(2)), inputs=[value("x", ["batch", 3])])
    graph = as_it_runs(proto, {"x": np.ones((batch, 3), np.float32)}, bind={"batch": batch})
    assert op_types(graph)[-2:] == [taken, "If"]


@pytest.mark.parametrize("truth", [True, False])
def test_if_with_an_unknown_condition_has_both_branches(truth: bool) -> None:
    proto = _fork([], inputs=[value("x"), value("k", [], BOOL)])
    graph = as_it_runs(proto, {"x": np.ones((2, 3), np.float32), "k": np.array(truth)})
    assert op_types(graph) == ["MatMul", "Neg", "If"]
    assert [operator.branches for operator in graph.operators] == [
        (("fork", "then_branch"),),
        (("fork", "else_branch"),),
        (),
    ]
    assert len(graph.warnings) == 1 and "fork" in graph.warnings[0]
    assert graph.model.subgraphs == 2
    costs = count_graph(graph)
    assert [cost.operator.op_type for cost in costs] == ["MatMul", "If"]
    assert sum(cost.counts.macs for cost in costs if cost.counts) == 2 * 3 * 3


@pytest.mark.parametrize("truth", [True, False])
def test_branches_of_different_shape_leave_a_bindable_dimension(truth: bool) -> None:
    wide = body([node("Concat", ["x", "x"], ["p"], axis=1)], outputs=[value("p", None)])
    narrow = body([node("Neg", ["x"], ["q"])], outputs=[value("q", None)])
    nodes = [node("If", ["k"], ["z"], then_branch=wide, else_branch=narrow), node("Relu", ["z"], ["y"])]
    proto = model(nodes, inputs=[value("x"), value("k", [], BOOL)])
    assumed = dict(load(proto).assumed_bindings)
    assert assumed == {"z_dim1": 6}  # the wider branch is the upper bound
    feeds = {"x": np.ones((2, 3), np.float32), "k": np.array(truth)}
    as_it_runs(proto, feeds, bind={"z_dim1": 6 if truth else 3})


def test_an_if_within_an_if() -> None:
    inner = body(
        [node("If", ["l"], ["r"], then_branch=body([node("MatMul", ["x", "w"], ["p"])], outputs=[value("p", None)]),
              else_branch=body([node("Exp", ["x"], ["q"])], outputs=[value("q", None)]), name="inner")],
        outputs=[value("r", None)],
    )  # fmt: skip
    other = body([node("Neg", ["x"], ["s"])], outputs=[value("s", None)])
    nodes = [node("If", ["k"], ["y"], then_branch=other, else_branch=inner, name="outer")]
    inputs = [value("x"), value("k", [], BOOL), value("l", [], BOOL)]
    graph = as_it_runs(
        model(nodes, constant("w", np.ones((3, 3), np.float32)), inputs=inputs),
        {"x": np.ones((2, 3), np.float32), "k": np.array(False), "l": np.array(True)},
    )
    matmul = next(operator for operator in graph.operators if operator.op_type == "MatMul")
    assert [branch for _, branch in matmul.branches] == ["else_branch", "then_branch"]
    assert [cost.operator.op_type for cost in count_graph(graph)] == ["MatMul", "If", "If"]


# --- Loop

TRIPS, GO = value("i", [], INT64), value("go", [], BOOL)


def _loop(
    nodes: Sequence[onnx.NodeProto],
    carried: Sequence[onnx.ValueInfoProto],
    results: Sequence[onnx.ValueInfoProto],
    condition: str = "on",
) -> onnx.GraphProto:
    keep_going = [node("Identity", ["go"], ["on"])] if condition == "on" else []
    return body([*keep_going, *nodes], [TRIPS, GO, *carried], [value(condition, [], BOOL), *results])


def test_loop_with_a_known_trip_count_and_outer_values() -> None:
    nodes = [
        node("MatMul", ["v", "w"], ["m"]),
        node("Add", ["m", "outer"], ["a"]),
        node("ReduceSum", ["a"], ["s"], keepdims=0),
    ]
    again = _loop(nodes, [value("v")], [value("a"), value("s", [])])
    outside = [node("Relu", ["x"], ["outer"]), node("Loop", ["n", "", "x"], ["y", "sums"], body=again, name="loop")]
    constants = [constant("n", np.int64(5)), constant("w", np.ones((3, 3), np.float32))]
    outputs = [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="sums")]
    graph = as_it_runs(model(outside, *constants, outputs=outputs))
    assert [tensor.shape for tensor in graph.outputs] == [(2, 3), (5,)]
    repeats = {operator.op_type: operator.repeats for operator in graph.operators}
    assert repeats == {"Relu": 1, "Identity": 5, "MatMul": 5, "Add": 5, "ReduceSum": 5, "Loop": 1}
    assert graph.warnings == ()
    costs = {cost.operator.op_type: cost.counts for cost in count_graph(graph)}
    assert costs["MatMul"] is not None and costs["MatMul"].macs == 5 * 2 * 3 * 3
    assert costs["Add"] is not None and costs["Add"].basic_operations()["add"] == 5 * 2 * 3
    edges = {(consumer, name) for producer, consumer, name in graph.edges if producer == "outer"}
    assert ("loop/a", "outer") in edges
    assert [tensor.name for tensor in graph.parameters] == ["w"]


def test_loop_whose_trip_count_follows_from_a_shape() -> None:
    again = _loop([node("Relu", ["v"], ["r"])], [value("v", None)], [value("r", None)])
    outside = [
        node("Shape", ["x"], ["d"], start=0, end=1),
        node("Squeeze", ["d"], ["n"]),
        node("Loop", ["n", "", "x"], ["y"], body=again),
    ]
    proto = model(outside, inputs=[value("x", ["batch", 3])])
    graph = as_it_runs(proto, {"x": np.ones((4, 3), np.float32)}, bind={"batch": 4})
    assert next(o for o in graph.operators if o.op_type == "Relu").repeats == 4
    assert dict(graph.assumed_bindings) == {}


def test_loop_whose_trip_count_is_an_input_can_be_bound() -> None:
    again = _loop([node("Relu", ["v"], ["r"])], [value("v")], [value("r"), value("r")])
    proto = model(
        [node("Loop", ["n", "", "x"], ["z", "y"], body=again, name="loop")],
        inputs=[value("x"), value("n", [], INT64)],
    )
    assert dict(load(proto).assumed_bindings) == {"loop_trip_count": 1}
    feeds = {"x": np.ones((2, 3), np.float32), "n": np.array(7)}
    graph = as_it_runs(proto, feeds, bind={"loop_trip_count": 7})
    assert next(o for o in graph.operators if o.op_type == "Relu").repeats == 7
    assert graph.outputs[0].shape == (7, 2, 3)
    by_value = as_it_runs(proto, feeds, values={"n": 7})
    assert next(o for o in by_value.operators if o.op_type == "Relu").repeats == 7
    assert dict(by_value.assumed_bindings) == {}


@pytest.mark.parametrize(("trips", "start"), [(0, True), (5, False), (-3, True)])
def test_loop_that_never_runs(trips: int, start: bool) -> None:
    again = _loop([node("Relu", ["v"], ["r"])], [value("v")], [value("r"), value("r")])
    nodes = [node("Loop", ["n", "k", "x"], ["y", "stack"], body=again)]
    outputs = [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="stack")]
    graph = as_it_runs(model(nodes, constant("n", np.int64(trips)), constant("k", np.bool_(start)), outputs=outputs))
    assert [tensor.shape for tensor in graph.outputs] == [(2, 3), (0, 2, 3)]
    (cost,) = [cost for cost in count_graph(graph) if cost.operator.op_type == "Relu"]
    assert cost.counts is not None and sum(cost.counts.operations.values()) == 0


def test_loop_that_data_may_end_early_says_so() -> None:
    stop = [
        node("ReduceSum", ["v"], ["s"], keepdims=0),
        node("Less", ["s", "limit"], ["less"]),
        node("Add", ["v", "v"], ["r"]),
    ]
    again = _loop(stop, [value("v")], [value("r")], condition="less")
    nodes = [node("Loop", ["n", "", "x"], ["y"], body=again, name="loop")]
    graph = as_it_runs(model(nodes, constant("n", np.int64(9)), constant("limit", np.float32(40))))
    assert next(o for o in graph.operators if o.op_type == "Add").repeats == 9
    assert len(graph.warnings) == 1 and "loop" in graph.warnings[0] and "9" in graph.warnings[0]


def test_loop_whose_carried_shape_changes() -> None:
    grow = [node("Concat", ["v", "x"], ["r"], axis=0), node("Exp", ["v"], ["e"])]
    again = _loop(grow, [value("v", None)], [value("r", None)])
    nodes = [node("Loop", ["n", "", "x"], ["z"], body=again, name="loop"), node("Relu", ["z"], ["y"])]
    proto = model(nodes, constant("n", np.int64(3)))
    graph = as_it_runs(proto)
    # The loop is walked one iteration at a time, because each one meets another shape: 2, 4, 6 rows.
    seen = [
        operator.inputs[0].shape for operator in graph.operators if operator.op_type == "Exp" and operator.inputs[0]
    ]
    assert seen == [(2, 3), (4, 3), (6, 3)]
    assert op_types(graph).count("Concat") == 3
    assert all(operator.repeats == 1 for operator in graph.operators)
    assert graph.outputs[0].shape == (8, 3)
    assert dict(graph.assumed_bindings) == {}


def test_loops_within_loops_multiply() -> None:
    inner = _loop([node("MatMul", ["v", "w"], ["r"])], [value("v")], [value("r")])
    outer = body(
        [node("Identity", ["go2"], ["on2"]), node("Loop", ["m", "", "u"], ["t"], body=inner)],
        [value("j", [], INT64), value("go2", [], BOOL), value("u")],
        [value("on2", [], BOOL), value("t")],
    )
    nodes = [node("Loop", ["n", "", "x"], ["y"], body=outer)]
    constants = [constant("n", np.int64(3)), constant("m", np.int64(4)), constant("w", np.ones((3, 3), np.float32))]
    graph = as_it_runs(model(nodes, *constants))
    assert next(o for o in graph.operators if o.op_type == "MatMul").repeats == 12
    assert sum(cost.counts.macs for cost in count_graph(graph) if cost.counts) == 12 * 2 * 3 * 3


def test_a_loop_body_with_weights_of_its_own() -> None:
    again = body(
        [node("Identity", ["go"], ["on"]), node("MatMul", ["v", "w"], ["r"])],
        [TRIPS, GO, value("v")],
        [value("on", [], BOOL), value("r")],
        [constant("w", np.ones((3, 3), np.float32))],
    )
    graph = as_it_runs(model([node("Loop", ["n", "", "x"], ["y"], body=again)], constant("n", np.int64(2))))
    assert sum(tensor.size or 0 for tensor in graph.parameters) == 9


# --- Scan


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
def test_scan(axis: int, out_axis: int) -> None:
    rest = [size for index, size in enumerate((2, 3, 4)) if index != axis % 3]
    over = body(
        [node("ReduceSum", ["s"], ["t"], keepdims=0), node("Add", ["c", "t"], ["d"]), node("Neg", ["s"], ["r"])],
        [value("c", []), value("s", rest)],
        [value("d", []), value("r", rest)],
    )
    nodes = [
        node("Scan", ["zero", "x"], ["sum", "y"], body=over, num_scan_inputs=1, scan_input_axes=[axis],
             scan_output_axes=[out_axis], scan_input_directions=[1], name="scan")
    ]  # fmt: skip
    outputs = [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="sum")]
    proto = model(nodes, constant("zero", np.float32(0)), inputs=[value("x", [2, 3, 4])], outputs=outputs)
    graph = as_it_runs(proto, {"x": np.ones((2, 3, 4), np.float32)})
    trips = (2, 3, 4)[axis % 3]
    assert {o.op_type: o.repeats for o in graph.operators} == {
        "ReduceSum": trips,
        "Add": trips,
        "Neg": trips,
        "Scan": 1,
    }
    costs = {cost.operator.op_type: cost.counts for cost in count_graph(graph)}
    assert costs["ReduceSum"] is not None
    assert costs["ReduceSum"].basic_operations()["add"] == trips * (24 // trips - 1)


def test_scan_of_a_symbolic_length() -> None:
    over = body([node("MatMul", ["s", "w"], ["r"])], [value("s", [3])], [value("r", [5])])
    proto = model(
        [node("Scan", ["x"], ["y"], body=over, num_scan_inputs=1)],
        constant("w", np.ones((3, 5), np.float32)),
        inputs=[value("x", ["time", 3])],
    )
    graph = as_it_runs(proto, {"x": np.ones((11, 3), np.float32)}, bind={"time": 11})
    assert graph.outputs[0].shape == (11, 5)
    assert sum(cost.counts.macs for cost in count_graph(graph) if cost.counts) == 11 * 3 * 5


# --- functions


def _scaled(**defaults: Any) -> onnx.FunctionProto:
    """Flatten at `axis`, then LeakyRelu with slope `alpha`."""
    flatten = referring(node("Flatten", ["a"], ["f"]), "axis", "axis", onnx.AttributeProto.INT)
    leaky = referring(node("LeakyRelu", ["f"], ["b"]), "alpha", "slope", onnx.AttributeProto.FLOAT)
    return function("Scaled", [flatten, leaky], ["a"], ["b"], **defaults)


def test_nested_functions_with_attribute_references() -> None:
    inner = referring(node("Scaled", ["p"], ["q"], domain="local", slope=0.5), "axis", "cut", onnx.AttributeProto.INT)
    twice = function("Twice", [inner, node("Exp", ["q"], ["r"])], ["p"], ["r"])
    nodes = [
        node("Twice", ["x"], ["h"], domain="local", cut=3, name="one"),
        node("Twice", ["x"], ["i"], domain="local", cut=0, name="two"),
        node("MatMul", ["h", "i"], ["y"]),
    ]
    proto = model(nodes, inputs=[value("x", [2, 3, 4])], functions=[_scaled(), twice])
    graph = as_it_runs(proto, {"x": np.ones((2, 3, 4), np.float32)})
    assert graph.outputs[0].shape == (24, 24)
    assert op_types(graph) == ["Flatten", "LeakyRelu", "Exp"] * 2 + ["MatMul"]
    assert [operator.attributes.get("axis") for operator in graph.operators if operator.op_type == "Flatten"] == [3, 0]
    slopes = [operator.attributes["alpha"] for operator in graph.operators if operator.op_type == "LeakyRelu"]
    assert slopes == [0.5, 0.5]
    assert len(by_name(graph)) == 7
    assert graph.operators[0].scope.startswith("one/") and graph.operators[2].scope == "one"
    assert graph.model.functions == 2
    assert graph.depth == 4


def test_calls_of_equal_names_stay_apart() -> None:
    calls = [node("Scaled", [source], [to], domain="local", name="same") for source, to in ("xh", "hy")]
    graph = load(model(calls, functions=[_scaled()]))  # onnxruntime refuses duplicate names
    assert len(by_name(graph)) == 4
    tensors = [operator.outputs[0].name for operator in graph.operators if operator.outputs[0]]
    assert len(set(tensors)) == 4
    assert graph.depth == 4


def test_function_attributes_that_the_call_does_not_give() -> None:
    nodes = [
        node("Scaled", ["x"], ["h"], domain="local", axis=2),
        node("Scaled", ["h"], ["y"], domain="local", slope=0.25),
    ]
    proto = model(nodes, inputs=[value("x", [2, 3, 4])], functions=[_scaled(axis=0, slope=0.125)])
    graph = as_it_runs(proto, {"x": np.ones((2, 3, 4), np.float32)})
    assert [o.attributes["axis"] for o in graph.operators if o.op_type == "Flatten"] == [2, 0]
    assert [o.attributes["alpha"] for o in graph.operators if o.op_type == "LeakyRelu"] == [0.125, 0.25]


def test_a_reference_to_nothing_takes_the_default_of_the_schema() -> None:
    graph = load(model([node("Scaled", ["x"], ["y"], domain="local")], functions=[_scaled()]))
    flatten, leaky = graph.operators
    assert flatten.attributes["axis"] == 1
    assert leaky.attributes["alpha"] == pytest.approx(0.01)


@pytest.mark.parametrize("inputs", [["x"], ["x", ""], ["x", "", "high"], ["x", "low"]])
def test_function_inputs_that_the_call_leaves_out(inputs: list[str]) -> None:
    limited = function("Limited", [node("Clip", ["a", "min", "max"], ["b"])], ["a", "min", "max"], ["b"])
    constants = [constant("low", np.float32(0)), constant("high", np.float32(9))]
    graph = load(model([node("Limited", inputs, ["y"], domain="local")], *constants, functions=[limited]))
    (clip,) = graph.operators
    given = [*inputs[1:], "", ""][:2]
    assert [tensor.name if tensor else "" for tensor in (clip.input(1), clip.input(2))] == given
    assert graph.outputs[0].shape == (2, 3)


def test_a_function_replaces_the_operator_of_its_name() -> None:
    own = helper.make_function("", "Gelu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", OPSET)])
    assert op_types(load(model([node("Gelu", ["x"], ["y"])], functions=[own]))) == ["Neg"]
    other = helper.make_function(
        "odd", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", OPSET)]
    )
    assert op_types(load(model([node("Relu", ["x"], ["y"])], functions=[other]))) == ["Relu"]
    assert op_types(load(model([node("Relu", ["x"], ["y"], domain="odd")], functions=[other]))) == ["Neg"]


def test_a_function_brings_its_own_operator_set() -> None:
    squash = helper.make_function(
        "local", "Squash", ["a"], ["b"], [node("Softmax", ["a"], ["b"])], [helper.make_opsetid("", 11)]
    )
    graph = load(
        model([node("Squash", ["x"], ["s"], domain="local"), node("Softmax", ["s"], ["y"])], functions=[squash])
    )
    assert [(operator.version, operator.attributes["axis"]) for operator in graph.operators] == [(11, 1), (OPSET, -1)]


def test_a_function_whose_body_has_a_loop() -> None:
    again = _loop([node("Mul", ["v", "a"], ["r"])], [value("v", None)], [value("r", None)])
    nodes = [node("Constant", [], ["n"], value_int=3), node("Loop", ["n", "", "a"], ["b"], body=again)]
    proto = model([node("Power", ["x"], ["y"], domain="local")], functions=[function("Power", nodes, ["a"], ["b"])])
    graph = as_it_runs(proto)
    assert next(o for o in graph.operators if o.op_type == "Mul").repeats == 3


def test_the_body_of_an_operator_can_be_expanded() -> None:
    (gelu,) = as_it_runs(model([node("Gelu", ["x"], ["y"])])).operators
    graph = load(model([node("Gelu", ["x"], ["y"])]))
    parts = graph.expand(gelu)
    assert parts is not None and "Erf" in {part.op_type for part in parts}
    (relu,) = load(model([node("MatMul", ["x", "x"], ["y"])])).operators
    assert graph.expand(relu) is None


# --- dimensions


def test_symbols_that_nobody_binds_are_one_and_recorded() -> None:
    inputs = [value("x", ["batch", "width"]), value("z", ["batch", 3, None])]
    nodes = [node("Relu", ["x"], ["y"]), node("Neg", ["z"], ["w"])]
    proto = model(nodes, inputs=inputs)
    graph = load(proto)
    assert dict(graph.assumed_bindings) == {"batch": 1, "width": 1, "z_dim2": 1}
    assert [tensor.shape for tensor in graph.inputs] == [(1, 1), (1, 3, 1)]
    partly = load(proto, bind={"batch": 4}, shapes={"z": (4, 3, 9)})
    assert dict(partly.assumed_bindings) == {"width": 1}
    assert [tensor.shape for tensor in partly.inputs] == [(4, 1), (4, 3, 9)]
    assert dict(load(proto, bind={"batch": 1, "width": 1, "z_dim2": 1}).assumed_bindings) == {}


def test_what_run_time_data_decides_is_a_bindable_symbol() -> None:
    nodes = [
        node("NonZero", ["x"], ["n"], name="find"),
        node("Transpose", ["n"], ["t"], perm=[1, 0]),
        node("GatherND", ["x", "t"], ["y"]),
    ]
    proto = model(nodes)
    free = load(proto)
    # As many as there are elements: the upper bound, and said to be one.
    assert dict(free.assumed_bindings) == {"n_dim1": 6}
    assert free.outputs[0].shape == (6,)
    assert any("upper bound" in warning for warning in free.warnings)
    x = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    graph = as_it_runs(proto, {"x": x}, bind={"n_dim1": 4})
    assert graph.outputs[0].shape == (4,)
    assert (dict(graph.bindings), dict(graph.assumed_bindings)) == ({"n_dim1": 4}, {})


def test_the_file_may_name_what_run_time_data_decides() -> None:
    nodes = [node("NonZero", ["x"], ["n"]), node("Cast", ["n"], ["y"], to=FLOAT)]
    proto = model(nodes, declared=[value("n", [2, "hits"], INT64)])
    assert dict(load(proto).assumed_bindings) == {"hits": 6}
    graph = as_it_runs(proto, {"x": np.eye(2, 3, dtype=np.float32)}, bind={"hits": 2})
    assert graph.outputs[0].shape == (2, 2)
    fixed = load(model(nodes, declared=[value("n", [2, 5], INT64)]))
    assert (fixed.outputs[0].shape, dict(fixed.assumed_bindings), fixed.warnings) == ((2, 5), {}, ())


@pytest.mark.parametrize("declared", [[2, 4], [3, 2], [6], [2, 3, 1], [4, "n"]])
def test_a_declared_shape_that_contradicts_the_operator_is_reported_and_not_used(declared: list[Any]) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["y"])]
    graph = load(model(nodes, declared=[value("a", declared)]))
    assert [operator.outputs[0].shape for operator in graph.operators] == [(2, 3), (2, 3)]  # type: ignore[union-attr]
    (warning,) = graph.warnings
    assert "a [" in warning and "[2, 3]" in warning
    assert dict(graph.assumed_bindings) == {}


def test_declared_shapes_that_agree_or_say_less_are_no_contradiction() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Exp", ["b"], ["y"])]
    graph = as_it_runs(model(nodes, declared=[value("a", [2, 3]), value("b", ["rows", None])]))
    assert graph.warnings == () and dict(graph.assumed_bindings) == {}


def test_an_output_declared_otherwise_is_reported() -> None:
    graph = load(model([node("Relu", ["x"], ["y"])], outputs=[value("y", [7, 7])]))
    assert graph.outputs[0].shape == (2, 3)
    assert len(graph.warnings) == 1 and "y [7, 7]" in graph.warnings[0]


def test_an_unknown_operator_has_the_shape_that_the_file_declares() -> None:
    nodes = [node("Strange", ["x"], ["s"], domain="odd"), node("Relu", ["s"], ["y"])]
    graph = load(model(nodes, declared=[value("s", [5, "n"])]), bind={"n": 6})
    assert graph.outputs[0].shape == (5, 6)
    assert [cost.status for cost in count_graph(graph)] == [Status.UNSUPPORTED, Status.COUNTED]
    unknown = load(model(nodes))
    assert unknown.outputs[0].shape is None


def test_shape_arithmetic_reaches_the_reshape() -> None:
    nodes = [
        node("Shape", ["x"], ["d"]),
        node("Gather", ["d", "zero"], ["b"]),
        node("Mul", ["b", "two"], ["c"]),
        node("Unsqueeze", ["c", "first"], ["e"]),
        node("Concat", ["e", "rest"], ["s"], axis=0),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    constants = [
        constant("zero", np.int64(0)),
        constant("two", np.int64(2)),
        constant("first", np.int64([0])),
        constant("rest", np.int64([-1])),
    ]
    proto = model(nodes, *constants, inputs=[value("x", ["batch", 6])])
    graph = as_it_runs(proto, {"x": np.ones((5, 6), np.float32)}, bind={"batch": 5})
    assert graph.outputs[0].shape == (10, 3)
    assert not any(operator.constant for operator in graph.operators)  # a runtime computes them, for any batch
    fixed = load(model(nodes, *constants, inputs=[value("x", [5, 6])]))
    assert [operator.constant for operator in fixed.operators] == [True] * 5 + [False]


def test_values_of_inputs_decide_shapes() -> None:
    nodes = [node("Expand", ["x", "s"], ["y"])]
    proto = model(nodes, inputs=[value("x", [1, 3]), value("s", [2], INT64)])
    feeds = {"x": np.ones((1, 3), np.float32), "s": np.int64([7, 3])}
    graph = as_it_runs(proto, feeds, values={"s": [7, 3]})
    assert graph.outputs[0].shape == (7, 3)
    assert not graph.operators[0].constant


def test_a_symbol_in_two_inputs_is_one_symbol() -> None:
    proto = model([node("Add", ["x", "z"], ["y"])], inputs=[value("x", ["n", 1]), value("z", [1, "n"])])
    feeds = {"x": np.ones((6, 1), np.float32), "z": np.ones((1, 6), np.float32)}
    assert as_it_runs(proto, feeds, shapes={"x": (6, 1)}).outputs[0].shape == (6, 6)


def test_scalars_and_empty_tensors() -> None:
    nodes = [node("ReduceSum", ["x"], ["y"], keepdims=0), node("Slice", ["x", "zero", "zero"], ["e"])]
    outputs = [onnx.ValueInfoProto(name="y"), onnx.ValueInfoProto(name="e")]
    graph = as_it_runs(model(nodes, constant("zero", np.int64([0])), outputs=outputs))
    assert [tensor.shape for tensor in graph.outputs] == [(), (0, 3)]
    assert [tensor.size_bytes for tensor in graph.outputs] == [4, 0]


@pytest.mark.parametrize("name", ["resnet50.torchscript", "mobilenet-v2.qdq-int8", "gpt2.dynamo", "lstm.dynamo"])
def test_what_recurs_is_what_it_would_be_on_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[1] / "models" / f"{name}.onnx"
    recalled = load(path)
    recalls = []
    monkeypatch.setattr(Recurring, "recall", lambda self, key: recalls.append(key) and None)
    inferred = load(path)
    assert recalled == inferred
    known = [key for key in recalls if key is not None]
    assert len(set(known)) < len(known)  # something did recur


def test_what_the_file_declares_is_checked_each_time() -> None:
    """Of two equal nodes the second contradicts its declaration: that is told, whatever the first was."""
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Relu", ["x"], ["z"])]
    x, z = (helper.make_tensor_value_info(each, TensorProto.FLOAT, [2, dim]) for each, dim in (("x", 3), ("z", 4)))
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3]), z]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    graph = load(model)
    assert [tensor.shape for tensor in graph.outputs] == [(2, 3), (2, 3)]
    assert any("z [2, 4] instead of [2, 3]" in warning for warning in graph.warnings)


@pytest.mark.parametrize("alone", ["axes", "elements"])
def test_equal_shapes_with_other_settings_do_not_recur(alone: str) -> None:
    """Attributes, and elements that decide a shape, tell apart what has equal inputs."""
    if alone == "axes":
        nodes = [helper.make_node("Flatten", ["x"], [f"y{axis}"], axis=axis) for axis in (1, 2)]
        weights = []
    else:
        nodes = [helper.make_node("Resize", ["x", "", f"s{k}"], [f"y{k}"], mode="nearest") for k in (1, 2)]
        weights = [numpy_helper.from_array(np.array([1, 1, k, k], np.float32), f"s{k}") for k in (1, 2)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 3, 4])
    outputs = [onnx.ValueInfoProto(name=node.output[0]) for node in nodes]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    expected = [(1, 24), (2, 12)] if alone == "axes" else [(1, 2, 3, 4), (1, 2, 6, 8)]
    assert [tensor.shape for tensor in load(model).outputs] == expected


def test_long_vectors_are_joined_by_their_lengths() -> None:
    """No symbol is made for each of 2^31 elements, and a length that nobody bound stays in the formula."""
    text = """<ir_version: 10, opset_import: ["": 20]>
        g (float[N] a, float[2147483647] b) => (float[m] y) { y = Concat<axis = -1>(a, b, a) }"""
    model = onnx.parser.parse_model(text)
    assert load(model, bind={"N": 3}).outputs[0].shape == (2147483647 + 6,)
    formulas = analyze(model).to_dict()["totals"]["formulas"]
    assert formulas["bytes_written"] == "8*N + 8589934588"  # 4 bytes of each of 2 N + 2^31 - 1 elements
