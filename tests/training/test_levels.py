"""The levels: table 1.2 of the TO convention, whole training steps executed, and what the graph walk decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_aiwq.graph as graphs
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.operations.counting import Status, count_graph
from onnx_aiwq.training import trainable, training_assumptions, training_costs
from onnx_aiwq.vocabulary import BasicOp, Counts, DType
from oracle import Number, as_basic_operations, numbers
from training.graphs import backward_of, costs_of, load, total

F = DType.FLOAT
MODELS = Path(__file__).parents[2] / "models"

CHAIN = """g (float[1,{i}] x) => (float[1,1] y)
<float[{i},{i}] first, float[{i},{o}] w, float[{o}] b, float[{o},1] last> {{
  h = MatMul(x, first)
  a = Gemm(h, w, b)
  y = MatMul(a, last)
}}"""


def vector(*numbers: int, macs: int = 0) -> Counts:
    """[add, sub, mul, div, root] of the paper's Eq. 2."""
    names = ("add", "sub", "mul", "div", "root")
    return Counts.of(F, macs=macs, **dict(zip(names, numbers, strict=True)))


# ---- table 1.2, verbatim


@pytest.mark.parametrize(("i", "o"), [(4, 3), (7, 5), (1, 2)])
def test_fully_connected_backward(i: int, o: int) -> None:
    """dW: IO mul + IO add; db: O add; dx: IO mul + (O - 1) I add."""
    found = backward_of(load(CHAIN.format(i=i, o=o)), loss="mse")["Gemm"]
    expected = vector(i * o, 0, i * o, 0, 0) + vector(o, 0, 0, 0, 0) + vector((o - 1) * i, 0, i * o, 0, 0)
    assert (found.operations, found.macs) == (expected.operations, 2 * i * o)


def test_the_first_layer_has_no_dx() -> None:
    graph = load("g (float[1,4] x) => (float[1,3] y) <float[4,3] w, float[3] b> { y = Gemm(x, w, b) }")
    assert backward_of(graph, loss="mse")["Gemm"] == vector(12 + 3, 0, 12, 0, 0, macs=12)


@pytest.mark.parametrize("first", [True, False])
def test_convolution_backward(first: bool) -> None:
    """dW: n mul + n add; db: m^2 c_out add; dx (not of the first layer): n mul + n add."""
    scale = "" if first else "h = Mul(x, s)"
    text = f"""g (float[1,3,6,6] x) => (float[1,4,6,6] y) <float[4,3,3,3] w, float[4] b, float[3,1,1] s> {{
      {scale} y = Conv<pads = [1, 1, 1, 1]>({"x" if first else "h"}, w, b)
    }}"""
    n, biases = 6 * 6 * 4 * 3 * 9, 6 * 6 * 4
    expected = vector(n + biases, 0, n, 0, 0, macs=n)
    if not first:
        expected += vector(n, 0, n, 0, 0, macs=n)
    assert backward_of(load(text), loss="mse")["Conv"] == expected


ACTIVATIONS = {
    "Tanh": ([1, 1, 1, 1, 1], [0, 1, 2, 0, 0]),
    "Sigmoid": ([1, 1, 0, 1, 1], [0, 1, 2, 0, 0]),
    "Gelu": ([1, 1, 2, 1, 1], [1, 1, 4, 0, 0]),
    "Relu": ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("op_type", ACTIVATIONS)
def test_activation_forward_and_backward(op_type: str) -> None:
    text = f"""g (float[1,4] x) => (float[1,3] y) <float[4,3] w> {{ h = MatMul(x, w) y = {op_type}(h) }}"""
    graph = load(text)
    forward, backward = ACTIVATIONS[op_type]
    validated = costs_of(graph, "validation", loss="mse", convention="paper")
    assert validated[1].counts == vector(*forward) * 3
    assert backward_of(graph, loss="mse", convention="paper")[op_type] == vector(*backward) * 3


LINEAR = "g (float[1,4] x) => (float[1,{c}] y) <float[4,{c}] w> {{ y = MatMul(x, w) }}"


def loss_counts(graph: graphs.Graph, level: Any, **options: Any) -> Counts:
    costs = costs_of(graph, level, **options)
    found = [c for c in costs if c.operator.domain == "onnx_aiwq.training" and "Loss" in c.operator.op_type]
    assert len(found) == 1 and found[0].counts is not None
    return found[0].counts


@pytest.mark.parametrize("o", [1, 3])
@pytest.mark.parametrize("batch", [1, 64])
def test_mse(o: int, batch: int) -> None:
    """Forward O add, O sub, O mul, and 1 div per batch; backward O mul."""
    graph = load(LINEAR.format(c=o))
    assert loss_counts(graph, "validation", loss="mse", batch=batch) == vector(o * batch, o * batch, o * batch, 1, 0)
    each = vector(o * batch, o * batch, 2 * o * batch, 1, 0)
    assert loss_counts(graph, "training", loss="mse", batch=batch) == each
    once = vector(o * batch, o * batch, o * batch + o, 1, 0)
    assert loss_counts(graph, "training", loss="mse", batch=batch, bp="batch") == once


def test_bce() -> None:
    """2 add, 2 sub, 2 mul, 2 root per output; backward of a probability (p - t) / (p (1 - p)), fused p - t."""
    graph = load(LINEAR.format(c=3))
    assert loss_counts(graph, "validation", loss="bce") == vector(2, 2, 2, 0, 2) * 3
    assert loss_counts(graph, "training", loss="bce") == vector(2, 3, 3, 1, 2) * 3
    fused = load("g (float[1,4] x) => (float[1,3] y) <float[4,3] w> { h = MatMul(x, w) y = Sigmoid(h) }")
    assert loss_counts(fused, "training", loss="bce") == vector(2, 3, 2, 0, 2) * 3
    assert backward_of(fused, loss="bce")["Sigmoid"] == Counts()
    assert backward_of(fused, loss="mse")["Sigmoid"] == vector(0, 1, 2, 0, 0) * 3


@pytest.mark.parametrize("c", [2, 5])
def test_cross_entropy(c: int) -> None:
    """C add, C div, (C + 1) root, and C sub where the maximum is subtracted; backward C sub."""
    logits = load(LINEAR.format(c=c))
    forward = vector(c, c, 0, c, c + 1)
    assert loss_counts(logits, "validation", loss="cross-entropy", convention="paper") == forward
    assert loss_counts(logits, "validation", loss="cross-entropy") == forward + Counts.of(F, compare=c - 1)
    assert loss_counts(logits, "training", loss="cross-entropy", convention="paper") == forward + vector(0, c, 0, 0, 0)


def test_softmax_in_the_model_is_not_counted_twice() -> None:
    text = "g (float[2,4] x) => (float[2,5] y) <float[4,5] w> {{ h = MatMul(x, w) y = {}<axis = 1>(h) }}"
    plain = load("g (float[2,4] x) => (float[2,5] y) <float[4,5] w> { y = MatMul(x, w) }")
    softmax, log_softmax = load(text.format("Softmax")), load(text.format("LogSoftmax"))
    for level in ("validation", "training"):
        assert total(costs_of(softmax, level)) == total(costs_of(plain, level))
    # log p is at hand: no logarithm in the loss, but p = exp(log p) in its gradient.
    assert loss_counts(log_softmax, "validation") == vector(2, 0, 0, 0, 0)
    assert loss_counts(log_softmax, "training") == vector(2, 10, 0, 0, 10)
    assert backward_of(log_softmax)["LogSoftmax"] == Counts()


@pytest.mark.parametrize(("optimizer", "one"), [("sgd", [0, 1, 1, 0, 0]), ("adam", [3, 1, 6, 3, 1])])
@pytest.mark.parametrize("batch", [1, 64])
def test_optimizer_step(optimizer: str, one: list[int], batch: int) -> None:
    graph = load(CHAIN.format(i=4, o=3))
    step = costs_of(graph, loss="mse", optimizer=optimizer, batch=batch)[-1]
    parameters = 16 + 12 + 3 + 3
    assert step.counts == vector(*one) * parameters
    assert step.operator.op_type == {"sgd": "SgdStep", "adam": "AdamStep"}[optimizer]
    reads, writes = {"sgd": (2, 1), "adam": (4, 3)}[optimizer]
    assert (step.bytes_read, step.bytes_written) == (reads * 4 * parameters, writes * 4 * parameters)
    assert [t.name for t in step.operator.inputs[:4] if t] == ["first", "w", "b", "last"]


# ---- a whole step, executed


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def executed_step(sizes: tuple[int, ...], batch: int) -> Counter[str]:
    """One SGD step of a sigmoid network on mean squared error, on self-tallying numbers; gradients from zero."""
    tally: Counter[str] = Counter()
    layers = list(pairwise(sizes))
    weights = [numbers((i, o), tally, k) for k, (i, o) in enumerate(layers)]
    biases = [numbers((o,), tally, k) for k, (_, o) in enumerate(layers)]
    buffers = [[np.array(Number(0, tally)), np.array(Number(0, tally))] for _ in layers]
    for buffer, (i, o) in zip(buffers, layers, strict=True):
        buffer[:] = numbers((i, o), tally), numbers((o,), tally)
    loss = Number(0, tally)
    for instance in range(batch):
        activations = [numbers((1, sizes[0]), tally, instance)]
        for weight, bias in zip(weights, biases, strict=True):
            activations.append(sigmoid(activations[-1] @ weight + bias))
        error = activations[-1] - numbers((1, sizes[-1]), tally)
        for each in (error * error).reshape(-1):
            loss = loss + each
        gradient = error * 0.5
        for k in reversed(range(len(layers))):
            gradient = gradient * activations[k + 1] * (1 - activations[k + 1])
            buffers[k][0] = buffers[k][0] + activations[k].T @ gradient
            buffers[k][1] = buffers[k][1] + gradient[0]
            gradient = gradient @ weights[k].T if k else None
    loss / batch
    for k in range(len(layers)):
        weights[k] = weights[k] - buffers[k][0] * 0.1
        biases[k] = biases[k] - buffers[k][1] * 0.1
    return tally


NETWORK = """g (float[1,4] x) => (float[1,1] y) <float[4,3] w1, float[3] b1, float[3,3] w2, float[3] b2, float[3,1] w3,
float[1] b3> {
  h1 = Gemm(x, w1, b1) a1 = Sigmoid(h1)
  h2 = Gemm(a1, w2, b2) a2 = Sigmoid(h2)
  h3 = Gemm(a2, w3, b3) y = Sigmoid(h3)
}"""


@pytest.mark.parametrize("batch", [1, 3])
def test_a_whole_step_equals_its_execution(batch: int) -> None:
    found = total(costs_of(load(NETWORK), loss="mse", batch=batch))
    assert found.basic_operations() == as_basic_operations(executed_step((4, 3, 3, 1), batch))


def test_a_step_is_forward_loss_backward_and_optimiser() -> None:
    graph = load(NETWORK)
    forward, validation = count_graph(graph), costs_of(graph, "validation", loss="mse", batch=64)
    assert total(validation) == total(forward) * 64 + vector(64, 64, 64, 1, 0)
    one, many = (total(costs_of(graph, loss="mse", batch=batch)) for batch in (1, 64))
    once = total(costs_of(graph, loss="mse", batch=64, bp="batch"))
    fixed = vector(0, 31, 31, 1, 0)  # the optimiser on 31 parameters, the division of the mean
    backward = 4 * 3 + 2 * 9 + 2 * 3
    assert many.macs == 64 * (24 + backward) and once.macs == 64 * 24 + backward
    assert many + fixed * 63 == one * 64
    assert total(costs_of(graph, loss="mse", batch=1, bp="batch")) == one


def test_costs_keep_their_order_and_count_launches() -> None:
    graph = load(NETWORK)
    forward = count_graph(graph)
    costs = training_costs(graph, forward, level="training", loss="mse", batch=64, bp="batch")
    assert [c.operator.name for c in costs[:-2]] == [c.operator.name for c in forward]
    assert {c.operator.repeats for c in costs[:-2]} == {65}
    assert [c.operator.op_type for c in costs[-2:]] == ["MeanSquaredErrorLoss", "SgdStep"]


# ---- what gets a gradient


def test_a_gradient_that_meets_another_is_added() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y) <float[3,3] w> {
      h = MatMul(x, w) a = Neg(h) b = Neg(h) c = Neg(h) ab = Add(a, b) y = Add(ab, c)
    }""")
    found = backward_of(graph, loss="mse")
    assert found["Neg"] == vector(2 * 6, 3 * 6, 0, 0, 0)
    assert found["Add"] == Counts()


def test_a_weight_used_twice_is_accumulated_twice() -> None:
    graph = load("g (float[2,3] x) => (float[2,3] y) <float[3,3] w> { h = MatMul(x, w) y = MatMul(h, w) }")
    n = 2 * 3 * 3
    # dW of both (n - 9, and 9 into the buffer), dx of the second.
    assert backward_of(graph, loss="mse")["MatMul"] == vector(2 * n + n - 6, 0, 3 * n, 0, 0, macs=3 * n)
    assert sum(t.size or 0 for t in costs_of(graph, loss="mse")[-1].operator.outputs if t) == 9


def test_slices_of_one_tensor_add_what_they_hold() -> None:
    graph = load("""g (float[2,4] x) => (float[2,2] y) <float[4,4] w, int64[1] zero = {0}, int64[1] two = {2},
    int64[1] four = {4}, int64[1] one = {1}> {
      h = MatMul(x, w) a = Slice(h, zero, two, one) b = Slice(h, two, four, one) y = Add(a, b)
    }""")
    assert backward_of(graph, loss="mse")["Slice"] == vector(4, 0, 0, 0, 0)


def test_integers_masks_and_positions_get_no_gradient() -> None:
    graph = load("""g (int64[5] ids, bool[5,8] m) => (float[5,8] y) <float[100,8] table, float[1,8] other> {
      e = Gather(table, ids) s = ArgMax<axis = 1>(e) k = Cast<to = 1>(s) z = Where(m, e, other) y = Add(z, k)
    }""")
    found = backward_of(graph, loss="mse")
    assert found["Gather"] == vector(40, 0, 0, 0, 0)
    assert found["ArgMax"] == found["Cast"] == Counts()
    # other (1, 8) is summed over five rows, then added to its buffer.
    assert found["Where"] == vector(32 + 8, 0, 0, 0, 0)


def test_only_what_the_loss_depends_on_is_trained() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y, float[2,3] z) <float[3,3] w, float[3,3] v> {
      y = MatMul(x, w) z = MatMul(y, v)
    }""")
    first, second = costs_of(graph, loss="mse"), costs_of(graph, loss="mse", output="z")
    assert [t.name for t in first[-1].operator.inputs if t] == ["w", "w.grad"]
    assert [t.name for t in second[-1].operator.inputs if t] == ["w", "v", "w.grad", "v.grad"]
    assert first[1].counts == Counts.of(F, mul=18, add=12, macs=18)


def test_statistics_of_batch_normalisation_are_not_trained() -> None:
    graph = load("""g (float[2,3,4] x) => (float[2,3,4] y)
    <float[3] scale, float[3] bias, float[3] mean, float[3] var> {
      y = BatchNormalization(x, scale, bias, mean, var)
    }""")
    node, _, step = costs_of(graph, loss="mse")
    assert [t.name for t in step.operator.outputs if t] == ["scale.next", "bias.next"]
    # Forward with f = scale / sd in every step, as scale changes; dScale and dB, no dx.
    forward = Counts.of(F, mul=24, add=24) + Counts.of(F, add=1, sub=1, mul=1, div=1, root=1) * 3
    backward = Counts.of(F, add=7 + 7, mul=8 + 1, sub=1, div=1) * 3 + Counts.of(F, add=6)
    assert node.counts == forward + backward


def test_what_is_folded_at_inference_runs_again_when_it_is_trained() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y) <float[3,3] w, float[3,3] s> {
      v = Mul(w, s) y = MatMul(x, v)
    }""")
    inference = count_graph(graph)
    assert inference[0].status is Status.CONSTANT and inference[0].counts == Counts()
    product = costs_of(graph, loss="mse")[0]
    assert product.status is Status.COUNTED
    # forward 9, backward 18 mul, 9 add into each buffer
    assert product.counts == Counts.of(F, mul=27, add=18)
    validation = costs_of(graph, "validation", loss="mse")[0]
    assert validation.status is Status.CONSTANT and validation.counts == Counts()


def test_repeats_scale_the_gradient_with_its_accumulation() -> None:
    graph = load(CHAIN.format(i=4, o=3))
    thrice = replace(graph, operators=tuple(replace(operator, repeats=3) for operator in graph.operators))
    once, repeated = (costs_of(each, loss="mse")[:-2] for each in (graph, thrice))
    for one, three in zip(once, repeated, strict=True):
        assert one.counts is not None and three.counts == one.counts * 3
        assert one.bytes_read is not None and three.bytes_read == one.bytes_read * 3
        assert three.operator.repeats == 3 * one.operator.repeats


def test_literals_are_no_weights() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y) <float[3,3] w> {
      half = Constant<value = float[1] {0.5}>() h = MatMul(x, w) y = Mul(h, half)
    }""")
    assert [tensor.name for tensor in graph.parameters] == ["w"]
    assert [tensor.name for tensor in trainable(graph)] == ["w"]
    assert backward_of(graph, loss="mse")["Mul"] == vector(0, 0, 6, 0, 0)


def test_an_operator_without_a_rule_is_named_not_zero() -> None:
    graph = load("""g (float[2,3,3] x) => (float[2] y) <float[3,3] w> {
      h = MatMul(x, w) d = Det(h) y = Sqrt(d)
    }""")
    costs = {c.operator.op_type: c for c in costs_of(graph, loss="mse")}
    assert costs["Det"].status is Status.UNSUPPORTED and costs["Det"].counts is None
    assert "no backward rule" in costs["Det"].reason
    # The gradient goes on: what is upstream is not silently zero.
    assert costs["MatMul"].counts == Counts.of(F, mul=108, add=36 + 54, macs=108)


def test_off_the_path_no_rule_is_needed() -> None:
    graph = load("""g (float[2,3,3] x) => (float[2,3,3] y) <float[3,3] w> {
      d = Det(x) e = Sqrt(d) f = ReduceSum<keepdims = 0>(e) h = MatMul(x, w) y = Mul(h, f)
    }""")
    assert all(cost.status is not Status.UNSUPPORTED for cost in costs_of(graph, loss="mse"))


def test_a_quantised_path_is_named() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y) <float[3,3] w, uint8[3,3] q> {
      h = MatMul(x, w) i, s, z = DynamicQuantizeLinear(h) m = MatMulInteger(i, q, z) y = Cast<to = 1>(m)
    }""")
    unsupported = [c.operator.op_type for c in costs_of(graph, loss="mse") if c.status is Status.UNSUPPORTED]
    assert unsupported == ["DynamicQuantizeLinear", "MatMulInteger"]


def test_a_function_body_is_differentiated_where_there_is_no_rule() -> None:
    text = """g (float[1,2,3,4] x) => (float[1,2,3,4] y) <float[4,4] w> {
      q = MatMul(x, w) y = Attention<scale = 1.0>(q, q, q)
    }"""
    graph = load(text, header='<ir_version: 10, opset_import: ["" : 23]>\n')
    products = vector(3 * (72 - 24) + (72 - 18), 0, 4 * 72, 0, 0, macs=4 * 72)  # of Q, K, V and the probabilities
    softmax = vector(2, 3, 6, 0, 0) * 6  # six lines of three scores
    scaling, meeting = vector(0, 0, 2 * 24, 0, 0), vector(2 * 24, 0, 0, 0, 0)  # the body multiplies Q and K by one
    assert backward_of(graph, loss="mse")["Attention"] == products + softmax + scaling + meeting


def branch(weight: str) -> onnx.GraphProto:
    node = helper.make_node("MatMul", ["h", weight], [f"{weight}_out"])
    return helper.make_graph([node], weight, [], [helper.make_tensor_value_info(f"{weight}_out", 1, [2, 3])])


def conditional(known: bool) -> graphs.Graph:
    then, other = branch("w"), branch("v")
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["h"]),
        helper.make_node("If", ["c"], ["z"], then_branch=then, else_branch=other),
        helper.make_node("Neg", ["z"], ["y"]),
    ]
    weights = [onnx.numpy_helper.from_array(np.zeros((3, 3), np.float32), name) for name in "uwv"]
    inputs = [helper.make_tensor_value_info("x", 1, [2, 3])]
    if known:
        weights.append(onnx.numpy_helper.from_array(np.array(True), "c"))
    else:
        inputs.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    output = helper.make_tensor_value_info("y", 1, [2, 3])
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    return graphs.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize("known", [True, False])
def test_the_gradient_enters_the_branch_that_is_counted(known: bool) -> None:
    costs = costs_of(conditional(known), loss="mse")
    products = [c.counts for c in costs if c.operator.op_type == "MatMul"]
    n = 18
    first, inner = Counts.of(F, mul=2 * n, add=12 + n, macs=2 * n), Counts.of(F, mul=3 * n, add=12 + n + 12, macs=3 * n)
    assert products == [first, inner]
    trained = {t.name for t in costs[-1].operator.outputs if t}
    assert trained == {"u.next", "w.next"}


def test_a_loop_is_named() -> None:
    body = helper.make_graph(
        [helper.make_node("MatMul", ["state", "w"], ["next"]), helper.make_node("Identity", ["cond"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("cond", 9, []),
            helper.make_tensor_value_info("state", 1, [2, 3]),
        ],
        [helper.make_tensor_value_info("again", 9, []), helper.make_tensor_value_info("next", 1, [2, 3])],
    )
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["z"], body=body), helper.make_node("MatMul", ["z", "w"], ["y"])]
    weights = [
        onnx.numpy_helper.from_array(np.zeros((3, 3), np.float32), "w"),
        onnx.numpy_helper.from_array(np.array(4), "n"),
    ]
    values = [helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], weights))
    costs = costs_of(graphs.load(model), loss="mse")
    loop = next(c for c in costs if c.operator.op_type == "Loop")
    assert loop.status is Status.UNSUPPORTED and "loop" in loop.reason


# ---- bytes


def test_backward_traffic() -> None:
    graph = load("""g (float[2,3] x) => (float[2,3] y) <float[3,3] u, float[3,3] w> {
      h = MatMul(x, u) a = Sigmoid(h) y = MatMul(a, w)
    }""")
    first, sigmoid_node, last, *_ = costs_of(graph, loss="mse")
    activation, weight = 2 * 3 * 4, 3 * 3 * 4
    # dW: the gradient, x, and the buffer it is added to; written once.
    assert first.bytes_read == (activation + weight) + (activation + activation + weight)
    assert first.bytes_written == activation + weight
    assert (sigmoid_node.bytes_read, sigmoid_node.bytes_written) == (activation + 2 * activation, 2 * activation)
    # dx reads the gradient and w, dW the gradient, a and its buffer.
    assert last.bytes_read == (activation + weight) + (activation + weight) + (activation + activation + weight)
    assert last.bytes_written == activation + activation + weight


def test_views_and_fused_activations_move_nothing_backward() -> None:
    graph = load("""g (float[2,3] x) => (float[3,2] y) <float[3,3] w, int64[2] s = {3, 2}> {
      h = MatMul(x, w) r = Reshape(h, s) y = Softmax<axis = 1>(r)
    }""")
    trained, validated = costs_of(graph), costs_of(graph, "validation")
    for k in (1, 2):
        assert (trained[k].bytes_read, trained[k].operator.repeats) == (validated[k].bytes_read, 1)


# ---- names, defaults, errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "msee"}, "did you mean 'mse'"),
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"bp": "instances"}, "did you mean 'instance'"),
        ({"level": "train"}, "did you mean 'training'"),
        ({"output": "yy"}, "the model has y"),
        ({"batch": 0}, "batch 0"),
        ({"batch": True}, "batch True"),
    ],
)
def test_unknown_names_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        costs_of(load(LINEAR.format(c=3)), **options)


def test_names_are_read_kindly() -> None:
    graph = load(LINEAR.format(c=3))
    assert costs_of(graph, loss="Cross_Entropy", optimizer="SGD") == costs_of(graph, loss="cross-entropy")


def test_cross_entropy_needs_classes() -> None:
    with pytest.raises(PolicyError, match=r"'y' has shape \[1, 1\]: use 'bce'"):
        costs_of(load(LINEAR.format(c=1)), loss="cross-entropy")


def test_a_loss_needs_floats_and_a_step_needs_weights() -> None:
    integer = load("g (float[2,3] x) => (int64[2] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }")
    with pytest.raises(PolicyError, match=r"float output.*y \(int64\)"):
        costs_of(integer)
    free = load("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    with pytest.raises(PolicyError, match="depends on no float parameter"):
        costs_of(free, loss="mse")
    assert costs_of(free, "validation", loss="mse")[-1].counts == vector(6, 6, 6, 1, 0)


DEFAULTS = [
    ("float[2,5]", "MatMul(x, w)", "cross-entropy"),
    ("float[2,5]", "Sigmoid(x)", "bce"),
    ("float[2,5]", "Softmax<axis = 0>(x)", "cross-entropy"),
    ("float", "ReduceSum<keepdims = 0>(x)", "mse"),
]


@pytest.mark.parametrize(("shape", "call", "loss"), DEFAULTS)
def test_the_default_loss_is_named(shape: str, call: str, loss: str) -> None:
    graph = load(f"g (float[2,5] x) => ({shape} y) <float[5,5] w> {{ y = {call} }}")
    assumed = training_assumptions(graph, level="validation")
    assert any(f"no loss was given: {loss} on the output 'y'" in line for line in assumed)
    assert costs_of(graph, "validation") == costs_of(graph, "validation", loss=loss)


def test_the_class_axis_follows_the_softmax_then_the_rank() -> None:
    image = load("g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w> { y = Conv(x, w) }")
    assert loss_counts(image, "validation").total(BasicOp.ROOT) == 16 * 3
    rows = load("g (float[2,5] x) => (float[2,5] y) { y = Softmax<axis = 0>(x) }")
    assert loss_counts(rows, "validation") == vector(5, 0, 0, 0, 5)


def test_assumptions() -> None:
    graph = load(LINEAR.format(c=3))
    assert training_assumptions(graph, level="validation", loss="mse") == (
        "level validation: all totals are of one step over a mini-batch of one run of the model",
    )
    lines = training_assumptions(graph, level="training", loss="mse", batch=64, bp="batch")
    assert "64 runs" in lines[0] and "as it was exported" in lines[1] and "once per mini-batch" in lines[2]


# ---- the exports of both exporters


EXPORTS = sorted(path.name for path in MODELS.glob("*.onnx") if "int8" not in path.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_can_be_trained(name: str) -> None:
    graph = graphs.load(MODELS / name)
    forward = count_graph(graph)
    costs = training_costs(graph, forward, level="training")
    assert [(c.operator.op_type, c.reason) for c in costs if c.status is Status.UNSUPPORTED] == []
    ratio = total(costs).macs / total(forward).macs
    # Three times the forward products, less the gradient of the image (most of all in MobileNetV2) or of the pooler.
    assert 2.96 < ratio <= 3.0
    trained = sum(tensor.size or 0 for tensor in costs[-1].operator.outputs if tensor)
    unused = 768 * 768 + 768 if name.startswith("bert") else 0  # the pooler, behind the output that is compared
    weights = sum(t.size or 0 for t in graph.parameters if t.size != 1)
    assert trained == weights - unused


LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_every_classic_network_can_be_trained(path: Path) -> None:
    graph = graphs.load(path)
    forward = count_graph(graph)
    costs = training_costs(graph, forward, level="training", loss="cross-entropy")
    assert [(c.operator.op_type, c.reason) for c in costs if c.status is Status.UNSUPPORTED] == []
    # The gradient of the image, which nobody wants, is that of the first convolution: 15.5 % of AlexNet's products.
    first = next(c.counts for c in forward if c.operator.op_type == "Conv")
    assert first is not None
    assert total(costs).macs == 3 * total(forward).macs - first.macs


def test_both_exporters_train_the_same_networks() -> None:
    for network in ("resnet50", "unet", "vit-base"):
        pair = [graphs.load(MODELS / f"{network}.{exporter}.onnx") for exporter in ("dynamo", "torchscript")]
        first, second = (total(costs_of(graph)).macs for graph in pair)
        assert first == second
