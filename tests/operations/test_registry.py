"""Properties of all registered rules, and of every rule on every one-operator test model of onnx."""

from __future__ import annotations

import dataclasses
import functools
import re
import warnings
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import defs, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations import registry
from onnx_aiwq.operations.registry import Rule, all_rules, all_uncountable, find_rule, movement, rule, uncountable
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from operators import operator_from_node

SECTIONS = ("Equation:", "Basic operations:", "Not counted:", "Example:", "Reference:")
FAMILIES = {
    *("activation", "attention", "dense", "elementwise", "generator", "image", "indexing", "loss", "machine-learning"),
    *("movement", "normalization", "pooling", "quantize", "recurrent", "reduction", "signal", "softmax", "text"),
    *("training", "transcendental"),
}
# Operators of ONNX Runtime that it keeps in the domain of ONNX.
NOT_IN_ONNX = {
    *("SimplifiedLayerNormalization", "MemcpyFromHost", "MemcpyToHost"),
    *("Affine", "Crop", "DynamicSlice", "ImageScaler", "ParametricSoftplus", "Scale", "ScaledTanh"),
}
# Operators with test models that have no rule, and why.
WITHOUT_RULE = {
    **dict.fromkeys(
        [
            ("", "CausalConvWithState"),
            ("", "LinearAttention"),
            ("ai.onnx.preview", "FlexAttention"),
        ],
        "a function: counted by its body",
    ),
}
RULES = all_rules()


def rule_id(entry: Rule) -> str:
    return f"{entry.domain or 'ai.onnx'}.{entry.op_type}-{entry.since}"


@functools.cache
def schema_versions() -> dict[tuple[str, str], set[int]]:
    versions: dict[tuple[str, str], set[int]] = defaultdict(set)
    for schema in defs.get_all_schemas_with_history():
        versions[schema.domain, schema.name].add(schema.since_version)
    return versions


@pytest.mark.parametrize("entry", RULES, ids=rule_id)
def test_documentation(entry: Rule) -> None:
    if entry.function is None:
        assert len(entry.documentation.split()) >= 3
        return
    lines = entry.documentation.splitlines()
    assert lines[0].endswith(".") and lines[1] == ""
    headings = [line for line in lines if line in SECTIONS]
    assert headings == list(SECTIONS)
    texts = re.split("|".join(f"^{section}$" for section in SECTIONS), entry.documentation, flags=re.MULTILINE)
    assert all(text.strip() for text in texts)


@pytest.mark.parametrize("entry", RULES, ids=rule_id)
def test_family_and_traffic_are_known(entry: Rule) -> None:
    assert entry.family in FAMILIES
    assert entry.traffic in ("whole", "view", "selected", "generated")
    assert entry.function is not None or entry.family == "movement"


@pytest.mark.parametrize(
    "entry",
    [entry for entry in RULES if not entry.domain.startswith("com.") and entry.op_type not in NOT_IN_ONNX],
    ids=rule_id,
)
def test_operator_and_version_exist(entry: Rule) -> None:
    versions = schema_versions().get((entry.domain, entry.op_type))
    assert versions, "onnx has no such operator"
    # From version 1 on is the default; any other version is one at which the operator did change.
    assert entry.since == 1 or entry.since in versions


def test_every_known_family_is_used() -> None:
    assert {entry.family for entry in RULES} == FAMILIES


def test_what_cannot_be_counted_has_a_reason_and_no_rule() -> None:
    reasons = all_uncountable()
    assert not {(entry.domain, entry.op_type) for entry in RULES} & set(reasons)
    assert all(len(why.split()) >= 5 and why[0].islower() and not why.endswith(".") for why in reasons.values())
    with pytest.raises(ValueError, match=r"two reasons why com\.microsoft\.EPContext"):
        uncountable("EPContext", domain="com.microsoft", why="again")


def test_every_operator_of_onnx_and_onnxruntime_has_a_rule_a_body_or_a_reason() -> None:
    """All schemas of all versions of onnx, and all that this build of onnxruntime knows beside its kernels."""
    by_the_graph = {("ai.onnx.preview.training", "Gradient")}  # training/differentiation.py
    known = {(entry.domain, entry.op_type) for entry in RULES} | set(all_uncountable()) | by_the_graph
    missing = [
        f"{schema.domain}.{schema.name}"
        for schema in defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) not in known
        and not (schema.has_function or schema.has_context_dependent_function)
    ]
    assert missing == []
    with_body = {(schema.domain, schema.name) for schema in defs.get_all_schemas_with_history()}
    in_runtime = {
        ("" if schema.domain == "ai.onnx" else schema.domain, schema.name)
        for schema in onnxruntime_pybind11_state.get_all_operator_schema()
    }
    assert len(in_runtime) > 300
    assert sorted(in_runtime - known - with_body) == []


def test_duplicates_name_both_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", {})

    def first(op: Operator) -> Counts:
        return Counts()

    def second(op: Operator) -> Counts:
        return Counts()

    rule("Twice", family="dense", domain="test", since=3)(first)
    with pytest.raises(ValueError, match=r"test\.Twice since 3: .*:first and .*:second"):
        rule("Twice", family="dense", domain="test", since=3)(second)
    with pytest.raises(ValueError, match=r"test\.Twice since 3: .*:first and movement rule"):
        movement("Twice", domain="test", since=3, why="Moves.")
    rule("Twice", family="dense", domain="test", since=5)(second)
    found = [find_rule("Twice", "test", version) for version in (2, 3, 4, 5, 9)]
    assert [entry.function if entry else None for entry in found] == [None, first, first, second, second]


class Case(NamedTuple):
    """One node with the arrays that go in and come out."""

    name: str
    node: onnx.NodeProto
    inputs: list[np.ndarray | None]
    outputs: list[np.ndarray | None]
    version: int

    def operator(self, *, known: bool) -> Operator:
        return operator_from_node(self.node, self.inputs, self.outputs, self.version, known=known)


@functools.cache
def cases() -> dict[tuple[str, str], list[Case]]:
    """One-operator models of the backend tests of onnx, by operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # The generators overflow and divide by zero on purpose.
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for test in collected:
        graph = test.model.graph
        if len(graph.node) != 1 or not test.data_sets:
            continue
        (node,), (inputs, outputs) = graph.node, test.data_sets[0]
        arrays = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
        arrays |= {value.name: array for value, array in zip(graph.input, inputs, strict=False)}
        arrays |= {value.name: array for value, array in zip(graph.output, outputs, strict=False)}
        version = {entry.domain: entry.version for entry in test.model.opset_import}[node.domain]
        given, made = ([arrays.get(name) for name in names] for names in (node.input, node.output))
        found[node.domain, node.op_type].append(Case(test.name, node, given, made, version))
    return found


CASES = cases()


def case_id(key: tuple[str, str]) -> str:
    return f"{key[0] or 'ai.onnx'}.{key[1]}"


def counts_of(case: Case, *, known: bool) -> Counts | None:
    """The counts of a case; None without a rule, and where a rule may ask for more than shapes and small values.

    Strings have no length before a run, and an operator may need values that are not `known`.
    """
    entry = find_rule(case.node.op_type, case.node.domain, case.version)
    if entry is None:
        return None
    op = case.operator(known=known)
    excused = not known or any(tensor.dtype is DType.STRING for tensor in op.inputs if tensor is not None)
    try:
        return entry.function(op) if entry.function else Counts()
    except ShapeError:
        if not excused:
            raise
        return None


def allowed_dtypes(op: Operator) -> set[DType]:
    """Types of inputs and outputs or named for inner steps, parts of complex ones, accumulators of integer products."""
    present = {tensor.dtype for tensor in (*op.inputs, *op.outputs) if tensor is not None}
    present |= {DType.from_onnx(op.attributes.get(name, 0)) for name in ("softmax_precision", "stash_type")}
    if DType.COMPLEX64 in present:
        present.add(DType.FLOAT)
    if DType.COMPLEX128 in present:
        present.add(DType.DOUBLE)
    if any(word in op.op_type for word in ("Integer", "QLinear", "Quantize")):
        present |= {DType.INT32, DType.FLOAT}
    return present


@pytest.mark.parametrize("key", sorted(CASES), ids=case_id)
@pytest.mark.parametrize("known", [True, False], ids=["values", "shapes"])
def test_counts_are_exact_and_of_the_types_of_the_operator(key: tuple[str, str], known: bool) -> None:
    for case in CASES[key]:
        counts = counts_of(case, known=known)
        if counts is None:
            continue
        numbers = [*counts.operations.values(), counts.macs]
        assert all(type(number) is int and number >= 0 for number in numbers), case.name
        assert {dtype for dtype, _ in counts.operations} <= allowed_dtypes(case.operator(known=False)), case.name


@pytest.mark.parametrize("key", sorted(CASES), ids=case_id)
def test_a_known_value_never_costs_more_than_an_unknown_one(key: tuple[str, str]) -> None:
    for case in CASES[key]:
        informed, blind = counts_of(case, known=True), counts_of(case, known=False)
        if informed is None or blind is None:
            continue
        assert sum(informed.operations.values()) <= sum(blind.operations.values()), case.name


def test_every_tested_operator_has_a_rule_or_a_reason() -> None:
    without = {
        key for key, members in CASES.items() if any(find_rule(*key[::-1], case.version) is None for case in members)
    }
    assert without == set(WITHOUT_RULE)


# Inputs that carry the batch in their first dimension; every output does.
BATCHED = {
    **dict.fromkeys(
        (
            *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "LRN"),
            *("GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization"),
            *("Relu", "Sigmoid", "Tanh", "Gelu", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid"),
            *("HardSwish", "Mish", "Abs", "Neg", "Exp", "Log", "Sqrt", "Erf", "Floor", "Round", "Sign", "Bernoulli"),
            *("AffineGrid", "Col2Im"),
        ),
        (0,),
    ),
    "GridSample": (0, 1),
}


def scaled(op: Operator, factor: int, batched: tuple[int, ...]) -> Operator:
    """The same operator on a larger batch, which its first output carries too."""

    def larger(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or not tensor.shape:
            return tensor
        return dataclasses.replace(tensor, shape=(factor * tensor.shape[0], *tensor.shape[1:]), value=None)

    inputs = tuple(larger(tensor) if index in batched else tensor for index, tensor in enumerate(op.inputs))
    outputs = (larger(op.output(0)), *op.outputs[1:])
    return dataclasses.replace(op, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("op_type", sorted(BATCHED))
def test_twice_the_batch_is_twice_the_work(op_type: str) -> None:
    entry = find_rule(op_type, "", 22)
    assert entry is not None and entry.function is not None
    checked = 0
    for case in CASES["", op_type]:
        op = case.operator(known=True)
        first = op.input(0)
        assert first is not None
        if not first.shape:
            continue
        assert entry.function(scaled(op, 2, BATCHED[op_type])) == entry.function(op) * 2, case.name
        checked += 1
    assert checked


def step(op: Operator, batch: int, batched: tuple[int, ...]) -> Counts:
    """The counts of an operator with a batch of that many times its own."""
    entry = find_rule(op.op_type, op.domain, op.version)
    assert entry is not None and entry.function is not None
    return entry.function(scaled(op, batch, batched))


@pytest.mark.parametrize("op_type", ["BatchNormalization", "ConvInteger", "QLinearConv"])
def test_work_beside_the_batch_does_not_grow_with_it(op_type: str) -> None:
    """Statistics, folded factors and sums of weights are worked out once; the rest is the same for every instance."""
    for case in CASES["", op_type]:
        op = case.operator(known=True)
        one, two, three = (step(op, batch, (0,)) for batch in (1, 2, 3))
        assert one + three == two + two, case.name
        assert one != two, case.name
