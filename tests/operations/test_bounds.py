"""Counts that are the most that run-time data can make of them: which they are, and that a report says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from model_parts import body, constant, model, node, value
from onnx_aiwq import analyze
from onnx_aiwq.operations.counting import Status, count_operator
from onnx_aiwq.operations.registry import all_rules, find_rule
from onnx_aiwq.report import Report
from onnx_aiwq.vocabulary import DType, Operator, Tensor

CONTRIB = "com.microsoft"
BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64


def of(op_type: str, shapes: list[tuple[int, ...] | None], outputs: list[tuple[int, ...]], **attributes: Any) -> bool:
    """Whether the count of one node is a bound; inputs are of floats, absent where the shape is None."""
    given = tuple(None if dims is None else Tensor(f"i{i}", DType.FLOAT, dims) for i, dims in enumerate(shapes))
    return is_bound(op_type, given, outputs, **attributes)


def is_bound(
    op_type: str, inputs: tuple[Tensor | None, ...], outputs: list[tuple[int, ...]], **attributes: Any
) -> bool:
    rule = find_rule(op_type, CONTRIB, 1) or find_rule(op_type, "", 22)
    assert rule is not None
    made = tuple(Tensor(f"o{i}", DType.FLOAT, dims) for i, dims in enumerate(outputs))
    return rule.is_bound(Operator("n", op_type, rule.domain, 22, inputs, made, attributes))


def known(number: int) -> Tensor:
    return Tensor("known", DType.INT32, (), np.array(number, np.int32), constant=True)


def nodes_of(report: Report) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in report.to_dict()["nodes"]}


def warns(report: Report) -> str:
    return " ".join(line for line in report.warnings if "(bound)" in line)


def test_documentation_and_mark_agree() -> None:
    """A rule that always gives a bound says so in its first line, one that sometimes does somewhere, others do not."""
    for rule in all_rules():
        first = rule.documentation.partition("\n")[0]
        assert ("(upper bound)" in first) == (rule.bound is True), rule.op_type
        assert "upper bound" in rule.documentation or rule.bound is False, rule.op_type
    assert find_rule("NonMaxSuppression", "", 11) in [rule for rule in all_rules() if rule.bound is True]


def test_a_report_marks_the_nodes_and_says_it() -> None:
    nodes = [
        node("Add", ["x", "x"], ["a"], name="exact"),
        node("TopK", ["a", "k"], ["y", "i"], name="largest"),
        node("TopK", ["a", "k"], ["z", "j"], name="again"),  # equal to the one before: counted together
    ]
    report = analyze(model(nodes, [constant("k", np.array([2], np.int64))]))
    assert {name: entry["bound"] for name, entry in nodes_of(report).items()} == {
        "exact": False, "largest": True, "again": True,
    }  # fmt: skip
    document = report.to_dict()
    assert document["totals"]["bound"] is True
    assert (document["by_operator"]["TopK"]["bound"], document["by_operator"]["Add"]["bound"]) == (2, 0)
    assert "TopK" in warns(report) and "Add" not in warns(report)


def test_exact_counts_are_not_marked() -> None:
    report = analyze(model([node("Add", ["x", "x"], ["y"])]))
    assert report.to_dict()["totals"]["bound"] is False
    assert warns(report) == ""


def test_an_open_dimension_marks_its_node_until_it_is_bound() -> None:
    proto = model([node("NonZero", ["x"], ["n"], name="find"), node("Cast", ["n"], ["y"], to=1, name="behind")])
    free = analyze(proto)
    assert (nodes_of(free)["find"]["bound"], nodes_of(free)["behind"]["bound"]) == (True, False)
    assert "NonZero" in warns(free)
    closed = analyze(proto, bind={"n_dim1": 4})
    assert not any(entry["bound"] for entry in nodes_of(closed).values())
    assert warns(closed) == ""


@pytest.mark.parametrize("choice", ["data", "file"])
def test_branches_that_data_chooses(choice: str) -> None:
    then = body([node("Mul", ["x", "x"], ["p"], name="mul")], outputs=["p"])
    otherwise = body([node("Neg", ["x"], ["q"], name="neg")], outputs=["q"])
    fork = node("If", ["c"], ["y"], name="fork", then_branch=then, else_branch=otherwise)
    if choice == "data":
        proto = model([fork], inputs=[value("x"), value("c", [], BOOL)])
    else:
        proto = model([fork], [constant("c", np.array(True))])
    entries = nodes_of(analyze(proto))
    (inner,) = [entry for name, entry in entries.items() if name.endswith("mul")]
    assert inner["bound"] is (choice == "data")
    assert entries["fork"]["bound"] is False


@pytest.mark.parametrize("ends", ["by count", "by data"])
def test_loops_that_data_ends(ends: str) -> None:
    inner = body(
        [
            node("Relu", ["v"], ["w"], name="relu"),
            node("ReduceSum", ["w"], ["s"], keepdims=0),
            node("Greater", ["s", "zero"], ["more"]),
            node("Identity", ["c"], ["same"]),
        ],
        inputs=["i", "c", "v"],
        outputs=["same" if ends == "by count" else "more", "w"],
    )
    proto = model(
        [node("Loop", ["m", "t", "x"], ["y"], body=inner, name="loop")],
        [constant("m", np.array(7)), constant("t", np.array(True)), constant("zero", np.array(0.0, np.float32))],
    )
    (relu,) = [entry for name, entry in nodes_of(analyze(proto)).items() if name.endswith("relu")]
    assert relu["repeats"] == 7
    assert relu["bound"] is (ends == "by data")


@pytest.mark.parametrize(("part", "bound"), [("TopK", True), ("Neg", False)])
def test_a_function_body_hands_its_bounds_on(part: str, bound: bool) -> None:
    """Where an operator is counted by the parts of its body, one part that is a bound makes it one."""
    x, y = Tensor("x", DType.FLOAT, (2, 6)), Tensor("y", DType.FLOAT, (2, 2))
    inner = Operator("inner", part, "", 21, (x,), (y,), {"axis": -1})
    graph: Any = SimpleNamespace(expand=lambda operator: (inner,))
    cost = count_operator(Operator("outer", "NoSuchRule", "", 21, (x,), (y,), {}), graph)
    assert (cost.status, cost.bound) == (Status.DECOMPOSED, bound)


def test_a_body_of_a_sequence_map_marks_its_own_nodes() -> None:
    inner = body([node("TopK", ["v", "k"], ["w", "j"])], inputs=["v"], outputs=["w"])
    proto = model(
        [
            node("SequenceConstruct", ["x", "x"], ["s"]),
            node("SequenceMap", ["s"], ["t"], body=inner),
            node("ConcatFromSequence", ["t"], ["y"], axis=0),
        ],
        [constant("k", np.array([2], np.int64))],
    )
    marked = [entry["op_type"] for entry in nodes_of(analyze(proto)).values() if entry["bound"]]
    assert marked == ["TopK"]


def test_regions_decide_unless_the_points_are_fixed() -> None:
    for ratio, bound in ((0, True), (2, False)):
        shapes = [(1, 2, 8, 8), (3, 4), (3,)]
        assert of("RoiAlign", shapes, [(3, 2, 2, 2)], sampling_ratio=ratio) is bound


def test_dropout_of_an_unknown_mode() -> None:
    x = Tensor("x", DType.FLOAT, (2, 3))
    mode = Tensor("mode", DType.BOOL, ())
    for op_type, place in (("Dropout", 2), ("BitmaskDropout", 2), ("BiasDropout", 4), ("BitmaskBiasDropout", 4)):
        inputs: list[Tensor | None] = [x, *[None] * place]
        assert not is_bound(op_type, tuple(inputs), [(2, 3)])
        assert is_bound(op_type, (*inputs[:place], mode), [(2, 3)])
        assert not is_bound(op_type, (*inputs[:place], known(1)), [(2, 3)])


def test_bias_dropout_of_an_unknown_mode_costs_what_training_does() -> None:
    """Per element of six: the bias is added; in training the draw is compared and the element scaled."""
    rule = find_rule("BiasDropout", CONTRIB, 1)
    assert rule is not None and rule.function is not None
    x, mode = Tensor("x", DType.FLOAT, (2, 3)), Tensor("mode", DType.BOOL, ())
    for given, training in ((mode, 6), (known(1), 6), (known(0), 0), (None, 0)):
        op = Operator("n", "BiasDropout", CONTRIB, 1, (x, x, None, None, given), (x,), {})
        expected = {"add": 6, "sub": 0, "mul": training, "div": 0, "root": 0, "compare": training}
        assert rule.function(op).basic_operations() == expected


def test_caches_that_may_be_partly_filled() -> None:
    q, kv, cache = Tensor("q", DType.FLOAT, (1, 1, 8)), Tensor("k", DType.FLOAT, (1, 1, 4)), (1, 1, 3, 4)
    past, length = Tensor("past", DType.FLOAT, cache), Tensor("length", DType.INT32, ())
    grouped = {"num_heads": 2, "kv_num_heads": 1}
    # Two past keys and a new one fill a cache of three; three past ones do not leave room, so they are not all there.
    two = Tensor("past", DType.FLOAT, (1, 1, 2, 4))
    for cached, total, bound in ((past, length, True), (past, known(2), False), (two, length, False)):
        inputs = (q, kv, kv, cached, cached, None, total)
        assert is_bound("GroupQueryAttention", inputs, [(1, 1, 8), cache, cache], **grouped) is bound
    heads = {"num_heads": 2}
    wide, buffer = Tensor("w", DType.FLOAT, (1, 1, 4)), Tensor("b", DType.FLOAT, (1, 2, 5, 2))
    for used, bound in ((None, False), (length, True), (known(1), False)):
        inputs = (wide, wide, wide, None, None, None, buffer, buffer, used)
        assert is_bound("MultiHeadAttention", inputs, [(1, 1, 4)], **heads) is bound
    for shared, used, bound in ((1, length, True), (1, known(1), False), (0, length, False)):
        inputs = (wide, wide, wide, None, None, buffer, buffer, used)
        settings = {**heads, "past_present_share_buffer": shared}
        assert is_bound("DecoderMaskedMultiHeadAttention", inputs, [(1, 1, 4)], **settings) is bound
    for op_type in ("Attention", "DecoderMaskedSelfAttention", "QAttention"):
        for shared in (0, 1):
            assert of(op_type, [(1, 1, 4), (4, 12)], [(1, 1, 4)], past_present_share_buffer=shared) is bool(shared)


def test_flags_of_decoder_attention() -> None:
    inputs = (*[Tensor("x", DType.FLOAT, (1, 1, 4))] * 2, *[None] * 6)
    flag = Tensor("flag", DType.BOOL, ())
    assert not is_bound("DecoderAttention", (*inputs, known(1), known(0)), [(1, 1, 4)])
    assert is_bound("DecoderAttention", (*inputs, known(1), flag), [(1, 1, 4)])
    assert is_bound("DecoderAttention", (*inputs, flag, known(0)), [(1, 1, 4)])
