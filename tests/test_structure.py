"""Files of every structure that onnxruntime runs: one small model each, every tensor compared with a run.

`test_graph` holds the everyday ones (functions, If, Loop, Scan, names, order); here are sequences and optionals, loops
whose iterations differ, sparse and sub-byte tensors, texts, old and new file versions, defaults and missing imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from corpus import kind_of, tensors_of
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import Status, count_graph
from onnx_aiwq.vocabulary import DType

FLOAT, INT64, BOOL, STRING = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "INT64", "BOOL", "STRING"))
X = np.arange(6, dtype=np.float32).reshape(2, 3)
node = helper.make_node
Shape = Sequence[int | str | None]


def value(name: str, shape: Shape | None = (2, 3), kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def bare(*names: str) -> list[onnx.ValueInfoProto]:
    """Outputs of which the file says nothing but the name."""
    return [onnx.ValueInfoProto(name=name) for name in names]


def constant(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    *constants: onnx.TensorProto,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    opsets: Mapping[str, int] | None = None,
    ir_version: int = 10,
    **graph: Any,
) -> onnx.ModelProto:
    inputs = [value("x")] if inputs is None else inputs
    made = helper.make_graph(nodes, "g", inputs, bare(*outputs), list(constants), **graph)
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 20}).items()]
    return helper.make_model(made, opset_imports=imports, ir_version=ir_version)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *constants: onnx.TensorProto,
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "body", inputs, outputs, list(constants))


def run(proto: onnx.ModelProto, feeds: Mapping[str, Any], names: Sequence[str], *, reference: bool) -> list[Any]:
    """The values of tensors of the main graph, from onnxruntime or from the reference evaluator of onnx."""
    asked = onnx.ModelProto.FromString(proto.SerializeToString())
    del asked.graph.output[:]
    asked.graph.output.extend(bare(*names))
    if reference:
        return list(ReferenceEvaluator(asked).run(None, dict(feeds)))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def as_it_runs(
    proto: onnx.ModelProto, feeds: Mapping[str, Any] | None = None, *, reference: bool = False, **options: Any
) -> Graph:
    """Load a model, compare every tensor of its main graph with a run, and count it without a gap."""
    feeds = {"x": X} if feeds is None else feeds
    graph = load(proto, **options)
    names = [name for made in proto.graph.node for name in made.output if name]
    tensors = tensors_of(graph)
    for name, result in zip(names, run(proto, feeds, names, reference=reference), strict=True):
        dtype, shape = kind_of(result)
        assert tensors[name].shape == shape, (name, tensors[name], shape)
        assert tensors[name].dtype is dtype or dtype is DType.UNDEFINED, (name, tensors[name], dtype)
    assert [cost.reason for cost in count_graph(graph) if cost.status is Status.UNSUPPORTED] == []
    return graph


def repeats(graph: Graph, op_type: str) -> int:
    """How often operators of a type run in all."""
    return sum(operator.repeats for operator in graph.operators if operator.op_type == op_type)


# --- Sequences and optionals


def test_elements_of_a_sequence_are_followed_one_by_one() -> None:
    nodes = [
        node("Concat", ["x", "x"], ["wide"], axis=1),
        node("SequenceConstruct", ["x", "wide"], ["s"]),
        node("SequenceInsert", ["s", "tall", "zero"], ["t"]),
        node("SequenceAt", ["t", "last"], ["a"]),
        node("SequenceErase", ["t", "one"], ["u"]),
        node("SequenceAt", ["u", "zero"], ["b"]),
        node("SequenceLength", ["u"], ["n"]),
        node("Identity", ["u"], ["v"]),
        node("SequenceAt", ["v", "one"], ["c"]),
    ]
    numbers = [constant("zero", np.int64(0)), constant("one", np.int64(1)), constant("last", np.int64(-1))]
    tall = constant("tall", np.ones((5, 3), np.float32))
    graph = as_it_runs(model(nodes, ["a", "b", "c", "n"], *numbers, tall))
    assert [tensor.shape for tensor in graph.outputs] == [(2, 6), (5, 3), (2, 6), ()]
    assert dict(graph.assumed_bindings) == {} and graph.warnings == ()


def test_a_position_that_is_not_known_gives_what_all_elements_have_in_common() -> None:
    nodes = [
        node("Concat", ["x", "x"], ["wide"], axis=1),
        node("SequenceConstruct", ["x", "wide"], ["s"]),
        node("SequenceAt", ["s", "i"], ["a"]),
        node("Relu", ["a"], ["y"]),
    ]
    proto = model(nodes, ["y"], inputs=[value("x"), value("i", [], INT64)])
    free = load(proto)
    (name,) = free.assumed_bindings
    assert free.assumed_bindings[name] == 6 and free.outputs[0].shape == (2, 6)
    for position, width in ((0, 3), (1, 6)):
        as_it_runs(proto, {"x": X, "i": np.array(position)}, bind={name: width})
        as_it_runs(proto, {"x": X, "i": np.array(position)}, values={"i": position})


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [(np.int64(2), [(2, 2), (2, 1)]), (np.array([1, 2]), [(2, 1), (2, 2)]), (None, [(2, 1), (2, 1), (2, 1)])],
)
def test_split_to_sequence_and_back(sizes: Any, parts: list[tuple[int, ...]]) -> None:
    given = [] if sizes is None else ["sizes"]
    nodes = [node("SplitToSequence", ["x", *given], ["s"], axis=1)]
    nodes += [node("SequenceAt", ["s", f"i{index}"], [f"p{index}"]) for index in range(len(parts))]
    nodes += [node("ConcatFromSequence", ["s"], ["y"], axis=1)]
    indices = [constant(f"i{index}", np.int64(index)) for index in range(len(parts))]
    sizes_known = [constant("sizes", sizes)] if given else []
    graph = as_it_runs(model(nodes, [*(f"p{index}" for index in range(len(parts))), "y"], *indices, *sizes_known))
    assert [tensor.shape for tensor in graph.outputs] == [*parts, (2, 3)]


@pytest.mark.parametrize(("keep", "new_axis", "expected"), [(0, 1, (2, 3)), (1, 0, (2, 3)), (1, 1, (3, 2, 1))])
def test_slices_of_one(keep: int, new_axis: int, expected: tuple[int, ...]) -> None:
    axis = 1 if expected == (2, 3) else 0
    nodes = [
        node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=keep),
        node("ConcatFromSequence", ["s"], ["y"], axis=axis, new_axis=new_axis),
    ]
    assert as_it_runs(model(nodes, ["y"])).outputs[0].shape == expected


def test_a_sequence_that_is_an_input() -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["rows", 3]))
    nodes = [
        node("SequenceLength", ["x"], ["n"]),
        node("ConcatFromSequence", ["x"], ["y"], axis=0),
        node("SequenceAt", ["x", "zero"], ["a"]),
    ]
    zero = constant("zero", np.int64(0))
    proto = model(nodes, ["n", "y", "a"], zero, inputs=[helper.make_value_info("x", kind)])
    assert dict(load(proto).assumed_bindings) == {"rows": 1, "x_length": 1}
    graph = as_it_runs(proto, {"x": [X] * 4}, bind={"x_length": 4}, shapes={"x": (2, 3)})
    assert graph.outputs[1].shape == (8, 3)
    with pytest.raises(ShapeError, match="2 dimensions"):
        load(proto, shapes={"x": (2, 3, 4)})


def test_a_loop_that_makes_a_sequence() -> None:
    """Length and elements after it: as many as it inserted, on top of those that were there."""
    again = body(
        [node("Identity", ["go"], ["on"]), node("Neg", ["x"], ["e"]), node("SequenceInsert", ["s", "e"], ["t"])],
        [value("i", [], INT64), value("go", [], BOOL), helper.make_value_info("s", _sequence())],
        [value("on", [], BOOL), helper.make_value_info("t", _sequence())],
    )
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["two"]),
        node("Loop", ["n", "", "two"], ["s5"], body=again),
        node("SequenceLength", ["s5"], ["count"]),
        node("ConcatFromSequence", ["s5"], ["y"], axis=0),
    ]
    graph = as_it_runs(model(nodes, ["count", "y"], constant("n", np.int64(3))))
    assert graph.outputs[1].shape == (10, 3)
    assert repeats(graph, "Neg") == 3


def _sequence(shape: Shape | None = None) -> onnx.TypeProto:
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, shape))


def test_sequence_map_over_elements_of_one_shape() -> None:
    each = body([node("MatMul", ["e", "w"], ["f"])], [value("e")], [value("f", None)])
    nodes = [
        node("SequenceConstruct", ["x", "x", "x"], ["s"]),
        node("SequenceMap", ["s"], ["t"], body=each, name="map"),
        node("ConcatFromSequence", ["t"], ["y"], axis=0),
    ]
    graph = as_it_runs(model(nodes, ["y"], constant("w", np.ones((3, 4), np.float32))))
    assert graph.outputs[0].shape == (6, 4)
    assert repeats(graph, "MatMul") == 3
    assert [tensor.name for tensor in graph.parameters] == ["w"]


def test_sequence_map_over_elements_of_several_shapes_and_with_a_tensor() -> None:
    each = body([node("Add", ["e", "b"], ["f"])], [value("e", None), value("b", [1])], [value("f", None)])
    nodes = [
        node("Concat", ["x", "x"], ["wide"], axis=1),
        node("SequenceConstruct", ["x", "wide"], ["s"]),
        node("SequenceMap", ["s", "b"], ["t"], body=each, name="map"),
        node("SequenceAt", ["t", "one"], ["y"]),
    ]
    graph = as_it_runs(model(nodes, ["y"], constant("b", np.ones(1, np.float32)), constant("one", np.int64(1))))
    assert graph.outputs[0].shape == (2, 6)
    assert [operator.outputs[0].shape for operator in graph.operators if operator.op_type == "Add"] == [(2, 3), (2, 6)]  # type: ignore[union-attr]


def test_sequence_map_over_an_input_of_unknown_length() -> None:
    each = body([node("Exp", ["e"], ["f"])], [value("e", None)], [value("f", None)])
    proto = model(
        [node("SequenceMap", ["x"], ["t"], body=each), node("SequenceLength", ["t"], ["n"])],
        ["t", "n"],
        inputs=[helper.make_value_info("x", _sequence([2, 3]))],
    )
    graph = as_it_runs(proto, {"x": [X] * 5}, bind={"x_length": 5})
    assert repeats(graph, "Exp") == 5
    assert repeats(load(proto), "Exp") == 1


@pytest.mark.parametrize("filled", [True, False])
def test_an_optional_decides_a_branch(filled: bool) -> None:
    kind = helper.make_tensor_type_proto(FLOAT, [2, 3])
    wrapped = node("Optional", ["x"] if filled else [], ["o"], **({} if filled else {"type": kind}))
    take = body([node("OptionalGetElement", ["o"], ["v"]), node("Exp", ["v"], ["p"])], [], bare("p"))
    other = body([node("Neg", ["x"], ["q"])], [], bare("q"))
    nodes = [
        wrapped,
        node("OptionalHasElement", ["o"], ["k"]),
        node("If", ["k"], ["y"], then_branch=take, else_branch=other),
    ]
    proto = model(nodes, ["y"])
    graph = load(proto)
    assert kind_of(run(proto, {"x": X}, ["y"], reference=False)[0]) == (DType.FLOAT, graph.outputs[0].shape)
    assert (repeats(graph, "Exp"), repeats(graph, "Neg")) == ((1, 0) if filled else (0, 1))
    assert graph.warnings == ()


def test_an_optional_sequence() -> None:
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("Optional", ["s"], ["o"]),
        node("OptionalGetElement", ["o"], ["t"]),
        node("ConcatFromSequence", ["t"], ["y"], axis=1),
    ]
    assert as_it_runs(model(nodes, ["y"])).outputs[0].shape == (2, 6)


# --- Loops whose iterations differ

COUNTER = [value("i", [], INT64), value("go", [], BOOL)]


def loop_body(
    nodes: Sequence[onnx.NodeProto], carried: Sequence[str], results: Sequence[str], integers: Sequence[str] = ()
) -> onnx.GraphProto:
    """The body of a Loop that goes on, with the types of what it carries and no shapes."""
    inputs = [*COUNTER, *(value(name, None, INT64 if name in integers else FLOAT) for name in carried)]
    return body([node("Identity", ["go"], ["on"]), *nodes], inputs, bare("on", *results))


def test_a_tensor_that_grows_with_every_iteration() -> None:
    again = loop_body([node("Concat", ["v", "x"], ["r"], axis=0), node("Exp", ["v"], ["e"])], ["v"], ["r"])
    nodes = [node("Loop", ["n", "", "x"], ["z"], body=again, name="loop"), node("Relu", ["z"], ["y"])]
    graph = as_it_runs(model(nodes, ["y"], constant("n", np.int64(4))))
    assert graph.outputs[0].shape == (10, 3)
    exps = [operator.inputs[0].shape for operator in graph.operators if operator.op_type == "Exp"]  # type: ignore[union-attr]
    assert exps == [(2, 3), (4, 3), (6, 3), (8, 3)]
    assert dict(graph.assumed_bindings) == {} and graph.warnings == ()
    names = [operator.name for operator in graph.operators]
    assert len(set(names)) == len(names)


def test_the_number_of_the_iteration_decides_a_shape() -> None:
    nodes = [
        node("Add", ["i", "one"], ["j"]),
        node("Unsqueeze", ["j", "zero"], ["end"]),
        node("Slice", ["x", "zero", "end", "axis"], ["p"]),
        node("ReduceSum", ["p"], ["s"], keepdims=0),
    ]
    again = loop_body(nodes, [], ["s"])
    numbers = [constant("one", np.int64(1)), constant("zero", np.array([0])), constant("axis", np.array([1]))]
    proto = model([node("Loop", ["n", ""], ["y"], body=again)], ["y"], *numbers, constant("n", np.int64(3)))
    graph = as_it_runs(proto)
    parts = [operator.outputs[0].shape for operator in graph.operators if operator.op_type == "Slice"]  # type: ignore[union-attr]
    assert parts == [(2, 1), (2, 2), (2, 3)] and graph.outputs[0].shape == (3,)


@pytest.mark.parametrize("limit", ["", "most"])
def test_a_counter_ends_the_loop(limit: str) -> None:
    """while (c < 5): the condition is followed, so that the number of iterations is known."""
    nodes = [
        node("Add", ["c", "two"], ["d"]),
        node("Less", ["d", "five"], ["on"]),
        node("MatMul", ["v", "w"], ["r"]),
    ]
    inputs = [*COUNTER, value("c", [], INT64), value("v", None)]
    again = body(nodes, inputs, [value("on", [], BOOL), value("d", [], INT64), value("r", None)])
    numbers = [constant("two", np.int64(2)), constant("five", np.int64(5)), constant("zero", np.int64(0))]
    constants = [*numbers, constant("most", np.int64(2**40)), constant("true", np.array(True))]
    weights = constant("w", np.ones((3, 3), np.float32))
    loop = node("Loop", [limit, "true", "zero", "x"], ["c9", "y"], body=again)
    graph = as_it_runs(model([loop], ["c9", "y"], *constants, weights))
    assert repeats(graph, "MatMul") == 3
    assert graph.outputs[0].value is not None and graph.outputs[0].value == 6
    assert dict(graph.assumed_bindings) == {} and graph.warnings == ()
    assert [tensor.name for tensor in graph.parameters] == ["w"]


def test_a_branch_that_the_iteration_decides() -> None:
    fork = node(
        "If",
        ["first"],
        ["r"],
        then_branch=body([node("MatMul", ["v", "w"], ["p"])], [], bare("p")),
        else_branch=body([node("Exp", ["v"], ["q"])], [], bare("q")),
    )
    again = loop_body([node("Equal", ["i", "zero"], ["first"]), fork, node("Concat", ["r", "r"], ["s"], axis=0)],
                      ["v"], ["s"])  # fmt: skip
    constants = [constant("zero", np.int64(0)), constant("n", np.int64(3)), constant("w", np.ones((3, 3), np.float32))]
    graph = as_it_runs(model([node("Loop", ["n", "", "x"], ["y"], body=again)], ["y"], *constants))
    assert (repeats(graph, "MatMul"), repeats(graph, "Exp")) == (1, 2)
    assert graph.outputs[0].shape == (16, 3)


def test_what_a_loop_hands_through_stays_known() -> None:
    """Exporters hand constants through loops; a shape among them still decides the Reshape in the body."""
    nodes = [
        node("Identity", ["s"], ["s2"]),
        node("Reshape", ["v", "s"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Reshape", ["b", "back"], ["r"]),
    ]
    again = loop_body(nodes, ["s", "v"], ["s2", "r"], integers=["s"])
    shapes = [constant("shape", np.array([3, 2])), constant("back", np.array([2, 3])), constant("n", np.int64(700))]
    weights = constant("w", np.eye(2, dtype=np.float32))
    loop = node("Loop", ["n", "", "shape", "x"], ["same", "y"], body=again)
    graph = as_it_runs(model([loop], ["y"], *shapes, weights))
    matmul = next(operator for operator in graph.operators if operator.op_type == "MatMul")
    assert matmul.repeats == 700 and matmul.inputs[0] is not None and matmul.inputs[0].shape == (3, 2)


def test_a_loop_of_more_iterations_than_are_walked_one_by_one_keeps_a_symbol() -> None:
    again = loop_body([node("Concat", ["v", "x"], ["r"], axis=0)], ["v"], ["r"])
    proto = model([node("Loop", ["n", "", "x"], ["y"], body=again, name="loop")], ["y"], constant("n", np.int64(1000)))
    graph = load(proto)
    assert repeats(graph, "Concat") == 1000
    assert graph.assumed_bindings and graph.outputs[0].shape is not None and graph.outputs[0].shape[1] == 3


def test_loops_that_grow_within_loops_that_grow() -> None:
    inner = loop_body([node("Concat", ["u", "x"], ["t"], axis=0)], ["u"], ["t"])
    outer = body(
        [node("Identity", ["go2"], ["on2"]), node("Loop", ["m", "", "v"], ["r"], body=inner)],
        [value("j", [], INT64), value("go2", [], BOOL), value("v", None)],
        bare("on2", "r"),
    )
    constants = [constant("n", np.int64(2)), constant("m", np.int64(3))]
    graph = as_it_runs(model([node("Loop", ["n", "", "x"], ["y"], body=outer)], ["y"], *constants))
    assert graph.outputs[0].shape == (2 + 2 * 3 * 2, 3)
    assert repeats(graph, "Concat") == 6


@pytest.mark.parametrize("start", [True, False])
def test_a_condition_that_only_the_run_knows_bounds_the_iterations(start: bool) -> None:
    nodes = [node("Identity", ["go"], ["on"]), node("Exp", ["v"], ["r"])]
    again = body(nodes, [*COUNTER, value("v")], [value("on", [], BOOL), value("r"), value("r")])
    loop = node("Loop", ["n", "k", "x"], ["y", "stack"], body=again, name="loop")
    proto = model([loop], ["y", "stack"], constant("n", np.int64(4)), inputs=[value("x"), value("k", [], BOOL)])
    free = load(proto)
    assert dict(free.assumed_bindings) == {"loop_trip_count": 4} and repeats(free, "Exp") == 4
    assert any("upper bound" in warning and "loop_trip_count=4" in warning for warning in free.warnings)
    graph = as_it_runs(proto, {"x": X, "k": np.array(start)}, bind={"loop_trip_count": 4 if start else 0})
    assert repeats(graph, "Exp") == (4 if start else 0)
    assert graph.warnings == ()


# --- Scan of opset 8


@pytest.mark.parametrize("lengths", [None, [3, 2]])
def test_scan_8_has_a_batch_axis(lengths: list[int] | None) -> None:
    over = body(
        [node("Add", ["c", "s"], ["d"]), node("Identity", ["d"], ["r"])],
        [value("c", [4]), value("s", [4])],
        [value("d", [4]), value("r", [4])],
    )
    scan = node("Scan", ["lengths" if lengths else "", "start", "x"], ["last", "all"], body=over, num_scan_inputs=1)
    constants = [constant("lengths", np.array(lengths))] if lengths else []
    proto = model([scan], ["last", "all"], constant("start", np.zeros((2, 4), np.float32)), *constants,
                  inputs=[value("x", [2, 3, 4])], opsets={"": 8}, ir_version=4)  # fmt: skip
    feeds = {"x": np.ones((2, 3, 4), np.float32)}
    graph = as_it_runs(proto, feeds)
    assert [tensor.shape for tensor in graph.outputs] == [(2, 4), (2, 3, 4)]
    assert repeats(graph, "Add") == (5 if lengths else 6)
    assert count_graph(graph)[0].counts.basic_operations()["add"] == 4 * (5 if lengths else 6)  # type: ignore[union-attr]


# --- Types

QUANTISED = ["UINT8", "INT8", "UINT16", "INT16", "UINT4", "INT4", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2",
             "FLOAT8E5M2FNUZ"]  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_tensors_of_every_type(name: str) -> None:
    number = getattr(onnx.TensorProto, name)
    kind = helper.tensor_dtype_to_np_dtype(number)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["a"]),
        node("DequantizeLinear", ["w", "scale", "zero"], ["b"]),
        node("MatMul", ["a", "b"], ["y"]),
    ]
    weights = helper.make_tensor("w", number, [3, 5], np.ones(15).astype(kind))
    zero = helper.make_tensor("zero", number, [], np.zeros(1).astype(kind))
    proto = model(nodes, ["y"], constant("scale", np.float32(1)), weights, zero, opsets={"": 21})
    (result,) = run(proto, {"x": X}, ["y"], reference=False)
    graph = load(proto)
    assert graph.outputs[0].shape == result.shape == (2, 5)
    tensors, expected = tensors_of(graph), DType.from_onnx(number)
    assert tensors["q"].dtype is tensors["w"].dtype is expected
    assert tensors["a"].quantized is expected
    (parameters,) = graph.parameters
    assert parameters.size_bytes == -(-15 * expected.bits // 8)
    assert sum(cost.counts.macs for cost in count_graph(graph) if cost.counts) == 2 * 3 * 5


# Types that onnxruntime does not store on the CPU yet; the reference evaluator of onnx does.
CAST = ["FLOAT4E2M1", "UINT2", "INT2", "BFLOAT16", "FLOAT16", "DOUBLE", "UINT32", "UINT64"]


@pytest.mark.parametrize("name", CAST)
def test_casts_to_every_type(name: str) -> None:
    number = getattr(onnx.TensorProto, name)
    nodes = [node("Cast", ["x"], ["q"], to=number), node("Cast", ["q"], ["y"], to=FLOAT)]
    graph = as_it_runs(model(nodes, ["q", "y"], opsets={"": 25}, ir_version=13), reference=True)
    assert graph.outputs[0].dtype is DType.from_onnx(number)


def test_bfloat16_computes() -> None:
    kind = onnx.TensorProto.BFLOAT16
    nodes = [node("Cast", ["x"], ["h"], to=kind), node("MatMul", ["h", "w"], ["m"]), node("Add", ["m", "b"], ["y"])]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = [
        helper.make_tensor("w", kind, [3, 4], np.ones(12, dtype)),
        helper.make_tensor("b", kind, [4], np.ones(4, dtype)),
    ]
    graph = as_it_runs(model(nodes, ["y"], *weights), reference=True)
    assert graph.outputs[0].dtype is DType.BFLOAT16
    assert {key[0] for cost in count_graph(graph) for key in cost.counts.operations} == {DType.BFLOAT16}  # type: ignore[union-attr]
    assert sum(tensor.size_bytes or 0 for tensor in graph.parameters) == 2 * (12 + 4)


def test_texts() -> None:
    nodes = [
        node("StringConcat", ["t", "suffix"], ["c"]),
        node("StringSplit", ["c"], ["parts", "numbers"], delimiter="!"),
        node("LabelEncoder", ["c"], ["y"], domain="ai.onnx.ml", keys_strings=["a!", "b!"], values_int64s=[1, 2]),
    ]
    suffix = onnx.TensorProto(name="suffix", data_type=STRING, dims=[1], string_data=[b"!"])
    proto = model(nodes, ["y"], suffix, inputs=[value("t", [2], STRING)], opsets={"": 20, "ai.onnx.ml": 4})
    # "a!" has two parts, the last of them empty; how many there are, only the texts tell.
    graph = as_it_runs(proto, {"t": np.array(["a", "b"], object)}, bind={"parts_dim1": 2})
    assert [tensor.dtype for tensor in graph.outputs] == [DType.INT64]


def test_a_sparse_initializer() -> None:
    values = constant("w", np.array([1, 2], np.float32))
    sparse = helper.make_sparse_tensor(values, constant("", np.array([0, 7], np.int64)), [3, 4])
    proto = model([node("MatMul", ["x", "w"], ["y"])], ["y"], sparse_initializer=[sparse])
    graph = as_it_runs(proto)
    assert graph.outputs[0].shape == (2, 4)
    assert [(tensor.name, tensor.shape) for tensor in graph.parameters] == [("w", (3, 4))]


def test_a_sparse_initializer_of_a_subgraph() -> None:
    values = constant("w", np.array([1], np.float32))
    sparse = helper.make_sparse_tensor(values, constant("", np.array([0], np.int64)), [3, 4])
    branch = helper.make_graph([node("MatMul", ["x", "w"], ["p"])], "b", [], bare("p"), sparse_initializer=[sparse])
    other = body([node("Neg", ["x"], ["q"])], [], bare("q"))
    fork = node("If", ["k"], ["y"], then_branch=branch, else_branch=other)
    graph = load(model([fork], ["y"], constant("k", np.array(True))))
    assert graph.outputs[0].shape == (2, 4)  # onnxruntime takes sparse initializers in the main graph alone


# --- Versions, defaults and what is missing


@pytest.mark.parametrize("ir_version", range(3, onnx.IR_VERSION + 1))
def test_every_version_of_the_file_format(ir_version: int) -> None:
    """Until version 3 every initializer was an input as well, with that as its default."""
    weights = constant("w", np.ones((3, 4), np.float32))
    inputs = [value("x"), *([value("w", [3, 4])] if ir_version == 3 else [])]
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"])]
    opset = {3: 7, 4: 9, 5: 10, 6: 11, 7: 12, 8: 15, 9: 20, 10: 21}.get(ir_version, 22)
    proto = model(nodes, ["y"], weights, inputs=inputs, opsets={"": opset}, ir_version=ir_version)
    newest = 11  # what every onnxruntime that this package allows reads
    graph = as_it_runs(proto, reference=ir_version > newest)
    assert [tensor.name for tensor in graph.inputs] == ["x"]
    assert [tensor.name for tensor in graph.parameters] == ["w"]


def test_the_default_of_an_input_can_be_overridden() -> None:
    inputs = [value("x"), value("w", [3, "n"])]
    proto = model([node("MatMul", ["x", "w"], ["y"])], ["y"], constant("w", np.ones((3, 4), np.float32)), inputs=inputs)
    by_default = as_it_runs(proto)
    assert by_default.outputs[0].shape == (2, 4)
    assert [tensor.name for tensor in by_default.parameters] == ["w"]
    other = as_it_runs(proto, {"x": X, "w": np.ones((3, 7), np.float32)}, shapes={"w": (3, 7)})
    assert other.outputs[0].shape == (2, 7)
    assert other.parameters == () and [tensor.name for tensor in other.inputs] == ["x", "w"]


@pytest.mark.parametrize("domain", ["ai.onnx.ml", "com.microsoft"])
def test_a_domain_that_is_not_imported(domain: str) -> None:
    """Exporters forget it; the newest version that is known is taken, as if it were imported."""
    made = {
        "ai.onnx.ml": node("Scaler", ["x"], ["y"], domain=domain, offset=[0.0], scale=[1.0]),
        "com.microsoft": node("Gelu", ["x"], ["y"], domain=domain),
    }[domain]
    imported = as_it_runs(model([made], ["y"], opsets={"": 20, domain: 1}))
    missing = load(model([made], ["y"]))
    assert [tensor.shape for tensor in missing.outputs] == [tensor.shape for tensor in imported.outputs] == [(2, 3)]
    assert [cost.counts for cost in count_graph(missing)] == [cost.counts for cost in count_graph(imported)]


def test_a_dimension_of_minus_one_is_open() -> None:
    inputs = [value("x", [-1, 3])]
    proto = model([node("Relu", ["x"], ["y"])], ["y"], inputs=inputs)
    assert dict(load(proto).assumed_bindings) == {"x_dim0": 1}
    assert load(proto, shapes={"x": (5, 3)}).outputs[0].shape == (5, 3)
    assert load(proto, bind={"x_dim0": 5}).outputs[0].shape == (5, 3)
    proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_value")  # as onnxruntime wants it
    as_it_runs(proto, {"x": np.ones((5, 3), np.float32)}, shapes={"x": (5, 3)})


def test_an_input_without_a_shape_takes_the_one_that_is_given() -> None:
    untyped = helper.make_tensor_value_info("x", FLOAT, None)
    proto = model([node("Softmax", ["x"], ["y"])], ["y"], inputs=[untyped])
    assert load(proto).outputs[0].shape is None
    assert as_it_runs(proto, {"x": X}, shapes={"x": (2, 3)}).outputs[0].shape == (2, 3)


def test_values_bind_the_dimensions_of_their_input() -> None:
    inputs = [value("x"), value("s", ["rank"], INT64)]
    proto = model([node("Reshape", ["x", "s"], ["y"])], ["y"], inputs=inputs)
    graph = as_it_runs(proto, {"x": X, "s": np.array([3, 1, 2])}, values={"s": [3, -1, 2]})
    assert graph.outputs[0].shape == (3, 1, 2)
    assert dict(graph.bindings) == {"rank": 3} and dict(graph.assumed_bindings) == {}


def test_integers_are_followed_through_branches_and_loops() -> None:
    """A size that an If chooses and a Loop doubles decides a Reshape."""
    fork = node(
        "If",
        ["k"],
        ["start"],
        then_branch=body([node("Constant", [], ["p"], value_ints=[1])], [], bare("p")),
        else_branch=body([node("Constant", [], ["q"], value_ints=[2])], [], bare("q")),
    )
    again = loop_body([node("Add", ["v", "v"], ["r"])], ["v"], ["r"], integers=["v"])
    nodes = [
        node("Shape", ["x"], ["d"]),
        node("Size", ["d"], ["rank"]),
        node("Equal", ["rank", "two"], ["k"]),
        fork,
        node("Loop", ["n", "", "start"], ["size"], body=again),
        node("Concat", ["size", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = [constant("two", np.int64(2)), constant("n", np.int64(1)), constant("rest", np.array([-1]))]
    assert as_it_runs(model(nodes, ["y"], *constants)).outputs[0].shape == (2, 3)


def test_a_branch_of_a_branch_takes_what_the_first_one_made() -> None:
    """A name that a branch defines and its own subgraph reads is not one of the scopes around."""
    inner = node(
        "If",
        ["k"],
        ["r"],
        then_branch=body([node("Exp", ["made"], ["p"])], [], bare("p")),
        else_branch=body([node("Neg", ["made"], ["q"])], [], bare("q")),
    )
    outer = body([node("Abs", ["x"], ["made"]), inner], [], bare("r"))
    other = body([node("Identity", ["x"], ["s"])], [], bare("s"))
    fork = node("If", ["k"], ["y"], then_branch=outer, else_branch=other)
    graph = as_it_runs(model([fork], ["y"], constant("k", np.array(True))))
    assert [operator.op_type for operator in graph.operators] == ["Abs", "Exp", "If", "If"]
