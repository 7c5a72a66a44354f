"""Properties of all registered rules, and of every rule on every one-operator model that onnx tests its backends with."""

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
from operators import operator_from_node

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations import registry
from onnx_aiwq.operations.registry import Rule, all_rules, find_rule, movement, rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

SECTIONS = ("Equation:", "Basic operations:", "Not counted:", "Example:", "Reference:")
FAMILIES = {
    *("activation", "attention", "dense", "elementwise", "generator", "image", "indexing", "loss", "machine-learning"),
    *("movement", "normalization", "pooling", "quantized", "recurrent", "reduction", "signal", "sort", "text"),
    *("training", "transcendental"),
}
# Operators with test models that have no rule, and why.
WITHOUT_RULE = {
    ("", "ImageDecoder"): "the work depends on the compressed bytes",
    ("", "SequenceMap"): "a function: counted by its body",
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
    assert entry.traffic in ("whole", "view", "selected")
    assert entry.function is not None or entry.family == "movement"


@pytest.mark.parametrize("entry", [entry for entry in RULES if not entry.domain.startswith("com.")], ids=rule_id)
def test_operator_and_version_exist(entry: Rule) -> None:
    versions = schema_versions().get((entry.domain, entry.op_type))
    assert versions, "onnx has no such operator"
    # From version 1 on is the default; any other version is one at which the operator did change.
    assert entry.since == 1 or entry.since in versions


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
    """The counts of a case; None without a rule, or where a rule asks for a value that is not known."""
    entry = find_rule(case.node.op_type, case.node.domain, case.version)
    if entry is None:
        return None
    op = case.operator(known=known)
    if known:
        return entry.function(op) if entry.function else Counts()
    try:
        return entry.function(op) if entry.function else Counts()
    except ShapeError:
        return None


def allowed_dtypes(op: Operator) -> set[DType]:
    """Types of inputs and outputs, the real parts of complex ones, the accumulators of integer products."""
    present = {tensor.dtype for tensor in (*op.inputs, *op.outputs) if tensor is not None}
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
    without = {key for key, members in CASES.items() if any(counts_of(case, known=True) is None for case in members)}
    assert without == set(WITHOUT_RULE)


# Inputs that carry the batch in their first dimension; every output does.
BATCHED = {
    **dict.fromkeys(
        (
            *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool", "LRN"),
            *("GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "GroupNormalization", "Det"),
            *("Relu", "Sigmoid", "Tanh", "Gelu", "LeakyRelu", "Elu", "Selu", "Softplus", "Softsign", "HardSigmoid"),
            *("HardSwish", "Mish", "Abs", "Neg", "Exp", "Log", "Sqrt", "Erf", "Floor", "Round", "Sign", "Bernoulli"),
            *("AffineGrid", "Col2Im"),
        ),
        (0,),
    ),
    "GridSample": (0, 1),
}


def doubled(op: Operator, batched: tuple[int, ...]) -> Operator:
    """The same operator on twice the batch."""

    def twice(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or not tensor.shape:
            return tensor
        return dataclasses.replace(tensor, shape=(2 * tensor.shape[0], *tensor.shape[1:]), value=None)

    inputs = tuple(twice(tensor) if index in batched else tensor for index, tensor in enumerate(op.inputs))
    return dataclasses.replace(op, inputs=inputs, outputs=tuple(twice(tensor) for tensor in op.outputs))


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
        assert entry.function(doubled(op, BATCHED[op_type])) == entry.function(op) * 2, case.name
        checked += 1
    assert checked


@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization_in_inference_is_twice_the_work_on_twice_the_batch(training: int) -> None:
    entry = find_rule("BatchNormalization", "", 15)
    assert entry is not None and entry.function is not None
    checked = 0
    for case in CASES["", "BatchNormalization"]:
        op = case.operator(known=True)
        if op.attributes.get("training_mode", 0) != training:
            continue
        once = entry.function(op)
        outputs = (doubled(op, (0,)).outputs[0], *op.outputs[1:])
        twice = entry.function(dataclasses.replace(doubled(op, (0,)), outputs=outputs))
        totals = sum(once.operations.values()), sum(twice.operations.values())
        # Training adds statistics, whose cost per channel does not grow with the batch.
        assert totals[1] == 2 * totals[0] if not training else totals[0] < totals[1] <= 2 * totals[0]
        checked += 1
    assert checked
