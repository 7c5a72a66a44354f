"""The conformance corpus of ONNX: every model is analysed, every shape is the one that a run gives, nothing is missing.

The state of every operator is held in `tests/data/operator_status.json`; `python tests/corpus.py --update` writes it.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx
import pytest

from corpus import (
    SNAPSHOT,
    Analysis,
    Case,
    analyse,
    cases,
    deciding_values,
    kind_of,
    run_every_tensor,
    snapshot,
    tensors_of,
    with_open_dimensions,
)
from onnx_aiwq.errors import AiwqError
from onnx_aiwq.graph import load
from onnx_aiwq.operations.counting import Status
from onnx_aiwq.symbolic import Formula, evaluated
from onnx_aiwq.vocabulary import DType, Tensor

# Operators whose elements decide a dimension of what they return.
DATA_DECIDES = {"Compress", "ImageDecoder", "NonMaxSuppression", "NonZero", "StringNormalizer", "StringSplit", "Unique"}
# Of these nothing but the data tells how large a dimension can get: the size of an image, the words of a text.
WITHOUT_BOUND = {"ImageDecoder", "StringSplit"}
RANGES = ("bfloat16_type_positive", "float16_type_positive", "float_type_positive", "int32_type_negative")
# Of the networks in light/ only the output is shipped; `test_real_models` runs them.
NOT_RUN = {
    **dict.fromkeys(
        [f"node/test_range_{kind}_delta_expanded" for kind in RANGES],
        "onnxruntime does not know its operator set yet, and the reference evaluator stacks numbers as columns",
    ),
    **dict.fromkeys(
        [f"{kind}/test_gradient_of_{name}" for kind in ("simple", "simple-shipped") for name in ("add", "add_and_mul")],
        "no runtime has the operator Gradient",
    ),
}


@functools.cache
def analyses() -> tuple[Analysis, ...]:
    """Every case, analysed once."""
    return tuple(analyse(case) for case in cases())


def agrees(tensor: Tensor | None, value: Any) -> bool:
    """Whether a tensor has the type and shape of a value; an empty sequence tells no type."""
    dtype, shape = kind_of(value)
    if tensor is None:
        return False
    return tensor.shape == shape and (tensor.dtype is dtype or dtype is DType.UNDEFINED)


def test_the_corpus_is_whole() -> None:
    assert len(cases()) > 2000
    assert len(set().union(*(case.operators for case in cases()))) > 195
    assert len({case.name for case in cases()}) == len(cases())
    assert sum(len(case.expected) for case in cases()) > 2400


def test_outputs_are_those_of_the_corpus() -> None:
    wrong, compared = [], 0
    for analysis in analyses():
        outputs = {tensor.name: tensor for tensor in analysis.graph.outputs}
        for name, value in analysis.case.expected.items():
            compared += 1
            if not agrees(outputs[name], value) and not analysis.case.operators & DATA_DECIDES:
                wrong.append((analysis.case.name, outputs[name], kind_of(value)))
    assert wrong == []
    assert compared > 2400


def decided_by_data() -> list[Analysis]:
    return [analysis for analysis in analyses() if analysis.case.operators & DATA_DECIDES]


def test_what_data_decides_can_be_bound() -> None:
    """Bound to the sizes of the run, every shape is that of the run; until then it is an assumption that is listed."""
    wrong = []
    for analysis in decided_by_data():
        sizes = sizes_of_the_run(analysis)
        assert set(sizes) <= set(analysis.graph.assumed_bindings), analysis.case.name
        graph = analyse(analysis.case, bind=sizes).graph
        assert not set(sizes) & set(graph.assumed_bindings)
        for tensor, (name, value) in zip(graph.outputs, analysis.case.expected.items(), strict=True):
            if not agrees(tensor, value):
                wrong.append((analysis.case.name, name, tensor, kind_of(value)))
    assert wrong == []


def sizes_of_the_run(analysis: Analysis) -> dict[str, int]:
    """Symbol -> its size in the run, from the dimensions of outputs that are nothing but a symbol."""
    symbolic = analysis.graph.symbolic()
    sizes: dict[str, int] = {}
    for tensor, value in zip(symbolic.outputs, analysis.case.expected.values(), strict=True):
        for dim, size in zip(tensor.shape or (), kind_of(value)[1] or (), strict=True):
            if isinstance(dim, Formula):
                (alias,) = dim.symbols
                assert str(dim) == alias
                assert sizes.setdefault(symbolic.symbol_names[alias], size) == size, analysis.case.name
    return sizes


def test_what_data_decides_is_taken_at_its_upper_bound() -> None:
    seen = Counter[str]()
    for analysis in decided_by_data():
        bounded = not analysis.case.operators & WITHOUT_BOUND
        for name, size in sizes_of_the_run(analysis).items():
            assumed = analysis.graph.assumed_bindings[name]
            assert assumed >= size if bounded else assumed == 1, (analysis.case.name, name)
            said = [warning for warning in analysis.graph.warnings if "upper bound" in warning]
            assert [f"{name}={assumed}" in warning for warning in said] == [True] * bounded, analysis.case.name
            seen.update(analysis.case.operators & DATA_DECIDES)
    assert set(seen) == DATA_DECIDES


def test_every_tensor_of_models_of_several_nodes() -> None:
    wrong, compared, runs = [], 0, 0
    for analysis in analyses():
        case = analysis.case
        if len(case.model.graph.node) > 1 and not (case.name in NOT_RUN or case.name.startswith("light/")):
            tensors = tensors_of(analysis.graph)
            values = agreed_run(case)
            wrong += [(case.name, name) for name, value in values.items() if not agrees(tensors.get(name), value)]
            compared += len(values)
            runs += 1
    assert wrong == []
    assert compared > 12_000 and runs > 450


def agreed_run(case: Case) -> Mapping[str, Any]:
    """The values of a run that returns what the case expects; a runner that does not is not trusted in between."""
    for values in run_every_tensor(case):
        if all(kind_of(values[name]) == kind_of(value) for name, value in case.expected.items() if name in values):
            return values
    raise AssertionError(f"no runner gives what {case.name} expects")


def test_declared_shapes_of_the_corpus_are_right() -> None:
    """With its declarations, no file contradicts its operators."""
    warnings = [
        (case.name, warning)
        for case in cases()
        for warning in load(case.model, values=deciding_values(case)).warnings
        if "contradict" in warning
    ]
    assert warnings == []


def test_formulas_hold_for_the_sizes_of_the_corpus() -> None:
    """With a symbol for every dimension, the formulas of output shapes give the shapes that the corpus expects."""
    wrong, decided = [], 0
    for case in cases():
        model, sizes = with_open_dimensions(case)
        if not sizes:
            continue
        symbolic = load(model, values=deciding_values(case)).symbolic()
        values = {alias: sizes[name] for alias, name in symbolic.symbol_names.items() if name in sizes}
        for tensor, value in zip(symbolic.outputs, case.expected.values(), strict=True):
            shape = tensor.shape
            if shape is None or any(isinstance(dim, Formula) and not dim.symbols <= set(values) for dim in shape):
                continue  # a symbol of its own, or a rank that a dimension decides: open, and said to be
            decided += 1
            if tuple(evaluated(dim, values) for dim in shape) != kind_of(value)[1]:
                wrong.append((case.name, shape, kind_of(value)[1]))
    assert wrong == []
    assert decided > 2000


def test_nothing_is_unsupported() -> None:
    costs = [cost for analysis in analyses() for cost in analysis.costs if cost.status is Status.UNSUPPORTED]
    assert [(cost.operator.op_type, cost.reason) for cost in costs] == []


def test_the_state_of_every_operator_is_that_of_the_snapshot() -> None:
    held = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    now = snapshot(analyses())
    if onnx.__version__ == held["onnx"]:
        assert now == held["operators"], "python tests/corpus.py --update writes the snapshot anew"
    # Another version of onnx has other cases; no operator may have lost its count all the same.
    lost = [name for name, states in held["operators"].items() if "unsupported" in now.get(name, {}) and name in now]
    assert [name for name in lost if "unsupported" not in held["operators"][name]] == []


@pytest.mark.parametrize("kind", ["node", "simple", "light", "pytorch-operator", "pytorch-converted"])
def test_no_case_depends_on_what_it_declares(kind: str) -> None:
    """Whole files, without bindings or values: analysed or refused with one line."""
    for case in cases():
        if case.name.startswith(f"{kind}/"):
            try:
                graph = load(case.model)
            except AiwqError as error:
                pytest.fail(f"{case.name}: {error}")
            assert len(graph.outputs) == len(case.model.graph.output)
