"""What must not change the count: names, order, functions, branches that are taken, loops of one iteration, cuts.

And what must be right in any graph: the type and shape of every tensor, compared with a run in onnxruntime.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import count_graph
from onnx_aiwq.symbolic import Formula, evaluated
from onnx_aiwq.vocabulary import Counts
from random_graphs import OPSET, Network, model_of, networks, value
from runtime import run_all_tensors
from runtime_release import OLD

CONTAINERS = {"If", "Loop"}
few = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
many = settings(few, max_examples=300)
Costs = Counter[tuple[object, ...]]


def costs_of(graph: Graph, leave_out: Sequence[str] = ()) -> Costs:
    """Every operator with its state, cost and bytes, names left out; containers and listed nodes too."""
    found: Costs = Counter()
    for cost in count_graph(graph):
        operator = cost.operator
        if operator.op_type not in CONTAINERS and operator.name.rpartition("/")[2] not in leave_out:
            assert cost.counts is not None, (operator.name, cost.reason)
            counts = (tuple(sorted(map(str, cost.counts.operations.items()))), cost.counts.macs)
            found[(operator.op_type, operator.repeats, cost.status, counts, cost.bytes_read, cost.bytes_written)] += 1
    return found


def total_of(graph: Graph) -> Counts:
    return sum((cost.counts for cost in count_graph(graph) if cost.counts is not None), Counts())


@many
@given(networks())
def test_every_tensor_has_the_type_and_shape_of_a_run(network: Network) -> None:
    model = network.model()
    graph = load(model)
    tensors = {tensor.name: tensor for o in graph.operators for tensor in (*o.inputs, *o.outputs) if tensor}
    normalised = [tensors[node.input[0]] for node in model.graph.node if node.op_type == "LayerNormalization"]
    assume(not OLD or all(tensor.shape and tensor.shape[-1] > 1 for tensor in normalised))  # 1.23 refuses lines of one
    seen = run_all_tensors(model, {"x": np.ones(network.input_shape, np.float32)})
    made = [name for node in model.graph.node for name in node.output]
    assert [(name, tensors[name].dtype.label, tensors[name].shape) for name in made] == [
        (name, seen[name].dtype, seen[name].shape) for name in made
    ]
    assert dict(graph.assumed_bindings) == {} and graph.warnings == ()
    # The generator knows the shapes as well: three sources agree.
    assert {name: seen[name].shape for name in network.shapes} == network.shapes


@many
@given(networks())
def test_formulas_hold_at_the_sizes_of_the_run(network: Network) -> None:
    """With a symbol for every dimension of the input: the formulas of all shapes, at the sizes of the run."""
    model = network.model()
    for axis, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"d{axis}"
    symbolic = load(model).symbolic()
    sizes = {f"d{axis}": size for axis, size in enumerate(network.input_shape)}
    values = {alias: sizes[name] for alias, name in symbolic.symbol_names.items() if name in sizes}
    for operator in symbolic.operators:
        for tensor in operator.outputs:
            if tensor is not None and tensor.name in network.shapes and tensor.shape is not None:
                found = [evaluated(dim, values) for dim in tensor.shape if is_known(dim, values)]
                if len(found) == len(tensor.shape):  # else a symbol of its own: open, and said to be
                    assert tuple(found) == network.shapes[tensor.name], (tensor.name, tensor.shape)


def is_known(dim: object, values: Mapping[str, int]) -> bool:
    return not isinstance(dim, Formula) or dim.symbols <= set(values)


@many
@given(networks())
def test_bound_dimensions_are_numbers(network: Network) -> None:
    model = network.model()
    names = [f"d{axis}" for axis in range(len(network.input_shape))]
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
        dim.dim_param = name
    bound = load(model, bind=dict(zip(names, network.input_shape, strict=True)))
    plain = load(network.model())
    assert [tensor.shape for tensor in bound.outputs] == [tensor.shape for tensor in plain.outputs]
    assert total_of(bound).operations == total_of(plain).operations


@few
@given(networks(), st.data())
def test_counts_add_up_over_a_cut(network: Network, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, max(len(network.blocks) - 1, 1)))
    first, second = (
        [node for block in part for node in block] for part in (network.blocks[:cut], network.blocks[cut:])
    )
    made = {name for node in first for name in node.output}
    crossing = sorted({name for node in second for name in node.input if name in made or name == "x"})
    ends = [name for name in network.outputs if name in made]
    over = [name for name in crossing if name != "x"]
    whole = costs_of(load(network.model()))
    start = model_of(first, {"x": network.input_shape}, [*over, *ends], network.constants)
    parts = costs_of(load(start))
    if second:
        outputs = [name for name in network.outputs if name not in made]
        shapes = {name: network.shapes[name] for name in crossing}
        parts += costs_of(load(model_of(second, shapes, outputs, network.constants)))
    assert parts == whole


@few
@given(networks(), st.randoms(use_true_random=False))
def test_names_and_order_do_not_matter(network: Network, random: object) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in network.nodes]
    names = sorted({name for node in nodes for name in (*node.input, *node.output) if name})
    renamed = {name: f"né {index} / {name[::-1]}" for index, name in enumerate(names)} | {"": ""}
    for index, node in enumerate(nodes):
        node.input[:] = [renamed[name] for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
        node.name = f"node {index % 3}"  # most names occur several times
    constants = {}
    for name, tensor in network.constants.items():
        if name in renamed:
            constants[renamed[name]] = numpy_helper.from_array(numpy_helper.to_array(tensor), renamed[name])
    random.shuffle(nodes)  # type: ignore[attr-defined]
    inputs = {renamed.get("x", "x"): network.input_shape}
    other = model_of(nodes, inputs, [renamed[name] for name in network.outputs], constants)
    assert costs_of(load(other)) == costs_of(load(network.model()))


@few
@given(networks())
def test_a_function_costs_what_its_body_costs(network: Network) -> None:
    read = sorted({name for node in network.nodes for name in node.input if name in network.constants})
    imports = [helper.make_opsetid("", OPSET)]
    function = helper.make_function("local", "Whole", ["x", *read], network.outputs, network.nodes, imports)
    call = helper.make_node("Whole", ["x", *read], network.outputs, domain="local")
    model = model_of([call], {"x": network.input_shape}, network.outputs, network.constants, [function])
    graph = load(model)
    assert costs_of(graph) == costs_of(load(network.model()))
    assert [tensor.name for tensor in graph.outputs] == network.outputs


@few
@given(networks(), st.booleans())
def test_a_branch_that_is_taken_costs_what_it_costs(network: Network, truth: bool) -> None:
    taken = helper.make_graph(network.nodes, "taken", [], [value(name, None) for name in network.outputs])
    other = helper.make_graph(
        [helper.make_node("Exp", ["x"], [f"o{name}"]) for name in network.outputs],
        "other",
        [],
        [value(f"o{name}", None) for name in network.outputs],
    )
    branches = {"then_branch": taken, "else_branch": other} if truth else {"then_branch": other, "else_branch": taken}
    results = [f"r{name}" for name in network.outputs]
    constants = {**network.constants, "k": numpy_helper.from_array(np.array(truth), "k")}
    model = model_of(
        [helper.make_node("If", ["k"], results, **branches)], {"x": network.input_shape}, results, constants
    )
    graph = load(model)
    plain = load(network.model())
    assert costs_of(graph) == costs_of(plain)
    assert [tensor.shape for tensor in graph.outputs] == [tensor.shape for tensor in plain.outputs]


@few
@given(networks(), st.integers(1, 3))
def test_a_loop_costs_its_body_times_its_iterations(network: Network, trips: int) -> None:
    go_on = helper.make_node("Identity", ["go"], ["on"], name="go on")
    body = helper.make_graph(
        [go_on, *network.nodes],
        "body",
        [value("i", (), onnx.TensorProto.INT64), value("go", (), onnx.TensorProto.BOOL)],
        [value("on", (), onnx.TensorProto.BOOL), *(value(name, None) for name in network.outputs)],
    )
    results = [f"r{name}" for name in network.outputs]
    constants = {**network.constants, "n": numpy_helper.from_array(np.array(trips), "n")}
    loop = helper.make_node("Loop", ["n", ""], results, body=body)
    graph = load(model_of([loop], {"x": network.input_shape}, results, constants))
    plain = load(network.model())
    assert total_of(graph).operations == (total_of(plain) * trips).operations
    assert [tensor.shape for tensor in graph.outputs] == [(trips, *(tensor.shape or ())) for tensor in plain.outputs]
    if trips == 1:
        assert costs_of(graph, ["go on"]) == costs_of(plain)
