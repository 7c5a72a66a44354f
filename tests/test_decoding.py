"""Search operators of onnxruntime: their decoders against the runs that onnxruntime makes, their search by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import onnx_aiwq as aiwq
from decoders import HEADS, LAYER, VOCABULARY, WIDTH, array, search, value
from onnx_aiwq.errors import ModelError, ShapeError
from onnx_aiwq.graph import load
from onnx_aiwq.operations.counting import NodeCost, Status, count_graph
from onnx_aiwq.vocabulary import Counts, DType
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

MS, F32, I32 = "com.microsoft", DType.FLOAT, DType.INT32
PROMPT = np.array([[1, 2, 3], [4, 5, 6]], np.int32)


def passes(model: onnx.ModelProto, folder: Path) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Shape of the sequences, and of the input of the decoder's product in every pass that onnxruntime makes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (sequences,) = session.run(None, {"ids": PROMPT})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    products = [event["args"] for event in events if event.get("args", {}).get("op_name") == "MatMul"]
    return sequences.shape, [tuple(args["input_type_shape"][0]["float"]) for args in products]


def by_name(model: Any, **bind: int) -> dict[str, NodeCost]:
    return {cost.operator.name: cost for cost in count_graph(load(model, bind=bind))}


@pytest.mark.parametrize(("op_type", "rows"), [("GreedySearch", 2), ("BeamSearch", 4)])
def test_decoder_is_counted_as_often_as_it_runs(op_type: str, rows: int, tmp_path: Path) -> None:
    model = search(op_type, max_length=9)
    shape, seen = passes(model, tmp_path)
    assert seen == [(rows, 3, LAYER), *[(rows, 1, LAYER)] * 5]  # the prompt, then all but the last of six tokens
    graph = load(model)
    (sequences,) = graph.outputs
    assert (sequences.dtype, sequences.shape) == (I32, shape)
    assert dict(graph.assumed_bindings) == {}
    costs = by_name(model)
    assert all(cost.status is not Status.UNSUPPORTED for cost in costs.values())
    macs = sum(cost.counts.macs for cost in costs.values() if cost.counts is not None)
    assert macs == sum(math.prod(dims) * VOCABULARY for dims in seen)
    first, step = costs["search/decoder/head"].operator, costs["search/decoder/step/head"].operator
    assert (first.repeats, step.repeats) == (1, 5)
    assert [operator.inputs[0].shape for operator in (first, step) if operator.inputs[0]] == [seen[0], seen[1]]
    assert any("upper bound" in warning and "search" in warning for warning in graph.warnings)


def test_sampling_runs_at_most_as_often_as_is_counted(tmp_path: Path) -> None:
    model = search("Sampling", max_length=9)
    shape, seen = passes(model, tmp_path)
    macs = sum(cost.counts.macs for cost in by_name(model).values() if cost.counts is not None)
    assert macs == (2 * 3 + 5 * 2) * LAYER * VOCABULARY >= sum(math.prod(dims) * VOCABULARY for dims in seen)
    assert load(model).outputs[0].shape == shape


def test_longest_past_stands_for_every_step() -> None:
    """In the last pass 7 of 9 tokens are in the cache and one is new; the ninth is never fed."""
    last = by_name(search("GreedySearch", max_length=9))["search/decoder/step/present_0"].operator
    assert [tensor.shape for tensor in last.outputs if tensor] == [(2, 2, HEADS, 8, WIDTH)]


def test_unknown_length_is_a_dimension_that_can_be_bound() -> None:
    model = search("GreedySearch", max_length=None)
    assert dict(load(model).assumed_bindings) == {"search_max_length": 1}
    bound = by_name(model, search_max_length=9)
    known = by_name(search("GreedySearch", max_length=9))
    assert {name: cost.counts for name, cost in bound.items()} == {name: cost.counts for name, cost in known.items()}


def test_formulas_of_an_unbound_prompt_and_length() -> None:
    model = search("GreedySearch", max_length=None, batch="batch", prompt="sequence")
    report = aiwq.analyze(model, hardware="reference-cpu")
    sizes = {"batch": 2, "sequence": 3, "search_max_length": 9}
    macs = aiwq.analyze(model, hardware="reference-cpu", bind=sizes).counts.macs
    assert macs == (2 * 3 + 5 * 2) * LAYER * VOCABULARY
    if report.symbolic is not None:
        assert report.at(**sizes)["macs"] == macs
    else:  # formulas are all or nothing, and their absence is said
        assert any("formula" in warning for warning in report.warnings)


def test_search_without_a_decoder_is_no_model() -> None:
    model = search("GreedySearch", max_length=9)
    node = model.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name != "decoder"]
    del node.attribute[:]
    node.attribute.extend(kept)
    with pytest.raises(ModelError, match="no decoder"):
        load(model)


def encoder_and_decoder() -> onnx.ModelProto:
    """A search with an encoder of 6 source tokens and a decoder whose cross attention reads them."""
    encoder = helper.make_graph(
        [
            helper.make_node("Gather", ["E", "encoder_input_ids"], ["encoder_hidden_states"]),
            helper.make_node("Gather", ["E", "decoder_input_ids"], ["d"]),
            helper.make_node("MatMul", ["d", "W"], ["logits"]),
        ],
        "encoder",
        [
            value("encoder_input_ids", TensorProto.INT32, "b", "s"),
            value("encoder_attention_mask", TensorProto.INT32, "b", "s"),
            value("decoder_input_ids", TensorProto.INT32, "b", 1),
        ],
        [
            value("logits", TensorProto.FLOAT, "b", 1, 11),
            value("encoder_hidden_states", TensorProto.FLOAT, "b", "s", 8),
        ],
        [array("E", np.ones((11, 8))), array("W", np.ones((8, 11)))],
    )
    later = helper.make_graph(
        [
            helper.make_node("Gather", ["E", "input_ids"], ["e"]),
            helper.make_node("Transpose", ["encoder_hidden_states"], ["k"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["e", "k"], ["scores"], name="cross"),
            helper.make_node("MatMul", ["scores", "encoder_hidden_states"], ["context"]),
            helper.make_node("MatMul", ["context", "W"], ["logits"]),
            helper.make_node("Identity", ["past_key_self_0"], ["present_key_self_0"]),
        ],
        "decoder",
        [
            value("input_ids", TensorProto.INT32, "b", 1),
            value("encoder_attention_mask", TensorProto.INT32, "b", "s"),
            value("encoder_hidden_states", TensorProto.FLOAT, "b", "s", 8),
            value("past_key_self_0", TensorProto.FLOAT, "b", 2, "p", 4),
        ],
        [
            value("logits", TensorProto.FLOAT, "b", 1, 11),
            value("present_key_self_0", TensorProto.FLOAT, "b", 2, "p", 4),
        ],
        [array("E", np.ones((11, 8))), array("W", np.ones((8, 11)))],
    )
    model = search("BeamSearch", max_length=9, prompt=6)
    node = model.graph.node[0]
    kept = [attribute for attribute in node.attribute if attribute.name not in ("decoder", "model_type")]
    del node.attribute[:]
    node.attribute.extend(kept)
    given = {"decoder": later, "encoder": encoder, "model_type": 1, "decoder_start_token_id": 1}
    node.attribute.extend(helper.make_attribute(name, each) for name, each in given.items())
    return model


def test_encoder_runs_once_and_the_decoder_for_every_token_of_every_beam() -> None:
    """The encoder gives the first of 8 new tokens behind the start token; 4 beams of 2 prompts take the others."""
    costs = by_name(encoder_and_decoder())
    assert costs["search/encoder/logits"].counts == Counts.of(F32, mul=2 * 8 * 11, add=2 * 7 * 11, macs=2 * 8 * 11)
    cross = costs["search/decoder/step/cross"]
    assert (cross.operator.repeats, cross.counts is not None and cross.counts.macs) == (7, 7 * 4 * 6 * 8)
    present = costs["search/decoder/step/present_key_self_0"].operator.outputs[0]
    assert present is not None and present.shape == (4, 2, 8, 4)


# --- the search itself -------------------------------------------------------------------------------------------


def maximum(line: Any) -> Any:
    top = line[0]
    for each in line[1:]:
        top = each if each > top else top
    return top


def softmax(line: Any) -> Any:
    top = maximum(line)
    powers = np.array([(each - top).exp() for each in line], dtype=object)
    return powers / np.add.reduce(powers)


def insert(line: Any, kept: int, tally: Counter[str]) -> None:
    """Binary insertion that meets its worst case: every search of m places takes ceil(log2(m + 1)) comparisons."""
    for index in range(len(line)):
        places = min(index, kept)
        while places:
            assert Number(1, tally) < 2
            places //= 2


def counted(op_type: str, inputs: list[Any], output: tuple[int, ...], **attributes: Any) -> Counts:
    return count(operator(op_type, inputs, [output], domain=MS, **attributes))


@pytest.mark.parametrize(("batch", "prompt", "longest", "words"), [(2, 3, 7, 10), (1, 1, 4, 2), (3, 5, 5, 4)])
def test_greedy_search_equals_its_loop(batch: int, prompt: int, longest: int, words: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(batch * (longest - prompt)):
        maximum(numbers((words,), tally))
    counts = counted("GreedySearch", [(batch, prompt), (1,)], (batch, longest), vocab_size=words)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("batch", "prompt", "longest", "words"), [(2, 3, 7, 10), (1, 3, 4, 2)])
def test_sampling_equals_its_loop(batch: int, prompt: int, longest: int, words: int, temperature: float) -> None:
    tally: Counter[str] = Counter()
    for _ in range(batch * (longest - prompt)):
        line = numbers((words,), tally)
        line = line / temperature if temperature != 1 else line
        insert(line, words, tally)
        for _ in range(2):
            total = None
            for each in softmax(line):
                total = each if total is None else total + each
                assert total < 99
    counts = counted("Sampling", [(batch, prompt), (1,)], (batch, longest), vocab_size=words, temperature=temperature)
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(("batch", "beams", "prompt", "longest", "words"), [(2, 3, 3, 6, 5), (1, 1, 3, 4, 2)])
def test_beam_search_equals_its_loop(batch: int, beams: int, prompt: int, longest: int, words: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(batch * (longest - prompt)):
        for _ in range(beams):
            line = numbers((words,), tally)
            shifted = line - maximum(line)
            logs = shifted - np.add.reduce(np.array([each.exp() for each in shifted], dtype=object)).log()
            # The rule subtracts the maximum once and the logarithm once from each word.
            logs + Number(1, tally)
            Number(1, tally) / longest
        insert(np.empty(beams * words), 2 * beams, tally)
    inputs = [(batch, prompt), (1,), None, np.array([beams], np.int32), (1,)]
    counts = counted("BeamSearch", inputs, (batch, 1, longest), vocab_size=words)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_penalties_look_at_every_token() -> None:
    plain = counted("GreedySearch", [(2, 3), (1,), None], (2, 7), vocab_size=10)
    unknown = counted("GreedySearch", [(2, 3), (1,), None, (1,)], (2, 7), vocab_size=10, no_repeat_ngram_size=2)
    assert unknown == plain + Counts.of(F32, compare=8 * 7, mul=8 * 7) + Counts.of(I32, compare=8 * 7 * 2)
    one = counted("GreedySearch", [(2, 3), (1,), None, np.array([1.0], np.float32)], (2, 7), vocab_size=10)
    assert one == plain


def test_worked_examples() -> None:
    assert counted("GreedySearch", [(2, 3), (1,)], (2, 7), vocab_size=10) == Counts.of(F32, compare=72)
    sampled = counted("Sampling", [(1, 3), (1,)], (1, 4), vocab_size=2)
    assert sampled == Counts.of(F32, compare=7, sub=4, root=4, div=4, add=4)
    beams = [(1, 3), (1,), None, np.array([1], np.int32), (1,)]
    counts = counted("BeamSearch", beams, (1, 1, 4), vocab_size=2)
    assert counts == Counts.of(F32, compare=1 + 2 * 0 + 1, sub=4, root=3, add=3, div=1)


def test_what_a_search_needs_to_know() -> None:
    with pytest.raises(ShapeError, match="vocabulary"):
        counted("GreedySearch", [(2, 3), (1,)], (2, 7))
    with pytest.raises(ShapeError, match="number of beams"):
        counted("BeamSearch", [(1, 3), (1,), None, (1,), (1,)], (1, 1, 4), vocab_size=2)
