"""Reports as formulas in the dimensions that nobody bound: equal to an analysis that binds them, or absent."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import onnx_aiwq
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import NodeCost, count_graph
from onnx_aiwq.report import Report
from onnx_aiwq.symbolic import Dim, evaluated, parse, symbol
from onnx_aiwq.symbolic_cost import SymbolicCost, symbolic_cost

MODELS = Path(__file__).parents[1] / "models"
FREE = sorted(path.stem for path in MODELS.glob("*.onnx") if path.stem != "mobilenet-v2.qdq-int8")
HARDWARE = "reference-cpu"
EXACT = ("basic_operations", "transistor_operations", "macs", "bytes_read", "bytes_written")


@functools.cache
def free_report(name: str) -> Report:
    return onnx_aiwq.analyze(MODELS / f"{name}.onnx", hardware=HARDWARE)


def assert_equal(report: Report, source: Any, bindings: Mapping[str, int]) -> None:
    """The formulas' totals at some bindings against an analysis of the model with these bindings."""
    at = report.at(**bindings)
    bound = onnx_aiwq.analyze(source, bind=bindings, hardware=HARDWARE).to_dict()
    assert {key: at[key] for key in EXACT} == {key: bound["totals"][key] for key in EXACT}, dict(bindings)
    assert {type(at[key]) for key in EXACT[1:]} == {int}
    spent = [key for key in bound["energy"] if key.startswith(("joules", "seconds"))]
    assert len(spent) == 6
    for key in spent:
        assert at[key] == pytest.approx(bound["energy"][key], rel=1e-12), key


def random_bindings(name: str, dimensions: tuple[str, ...]) -> list[dict[str, int]]:
    rng = random.Random(name)
    ones = dict.fromkeys(dimensions, 1)
    large = {dimension: 4096 if dimension == "batch" else rng.randint(100, 512) for dimension in dimensions}
    return [{**ones, rng.choice(dimensions): rng.randint(2, 60)}, large]


@pytest.mark.parametrize("name", FREE)
def test_formulas_of_real_models_equal_bound_analyses(name: str) -> None:
    report = free_report(name)
    assert report.symbolic is not None, report.warnings
    dimensions = report.symbolic.dimensions
    assert set(dimensions) == set(report.graph.assumed_bindings) and "batch" in dimensions
    for bindings in random_bindings(name, dimensions):
        assert_equal(report, MODELS / f"{name}.onnx", bindings)


def test_the_quantised_skeleton_is_the_only_one_without_free_dimensions() -> None:
    report = free_report("mobilenet-v2.qdq-int8")
    assert report.symbolic is None and not report.graph.assumed_bindings
    assert not [line for line in report.warnings if "formula" in line]
    with pytest.raises(ShapeError, match="every dimension is bound: leave the ones to vary unbound; or analyze"):
        report.at(batch=2)


def test_a_report_without_formulas() -> None:
    model = MODELS / "lstm.torchscript.onnx"
    without, with_formulas = onnx_aiwq.analyze(model, formulas=False), onnx_aiwq.analyze(model)
    totals = {**with_formulas.to_dict()["totals"], "formulas": None}
    assert without.to_dict()["totals"] == totals != with_formulas.to_dict()["totals"]
    with pytest.raises(ShapeError, match="analysed without formulas: leave out formulas=False"):
        without.at(batch=2)


def test_a_sequence_of_4096_positions() -> None:
    assert_equal(free_report("lstm.torchscript"), MODELS / "lstm.torchscript.onnx", {"batch": 4096, "sequence": 4096})


def macs(name: str) -> Dim:
    symbolic = free_report(name).symbolic
    assert symbolic is not None
    return symbolic.totals()["macs"]


B, S = symbol("batch"), symbol("sequence")
H, F, LAYERS = 768, 3072, 12
# Per layer: Q, K, V and output projections, scores and their product with V, two products of the MLP.
ENCODER = LAYERS * (4 * B * S * H**2 + 2 * B * S**2 * H + 2 * B * S * H * F)


@pytest.mark.parametrize("name", ["bert-base.torchscript", "bert-base.dynamo", "bert-base.dynamic-int8"])
def test_macs_of_bert(name: str) -> None:
    assert macs(name) == ENCODER + B * H**2  # the pooler sees the first position alone
    assert str(macs(name)) == "18432*batch*sequence**2 + 84934656*batch*sequence + 589824*batch"


@pytest.mark.parametrize("name", ["gpt2.torchscript", "gpt2.dynamo"])
def test_macs_of_gpt2(name: str) -> None:
    assert macs(name) == ENCODER + B * S * H * 50_257  # every position through the language-model head


@pytest.mark.parametrize("name", ["whisper-tiny.torchscript", "whisper-tiny.dynamo"])
def test_macs_of_whisper(name: str) -> None:
    h, f, layers, frames = 384, 1536, 4, 1500
    encoder = B * (3 * 80 * h * 3000 + 3 * h * h * frames)  # two convolutions, the second with stride 2
    encoder += layers * B * (4 * frames * h**2 + 2 * frames**2 * h + 2 * frames * h * f)
    own = 4 * B * S * h**2 + 2 * B * S**2 * h
    across = 2 * B * S * h**2 + 2 * B * frames * h**2 + 2 * B * S * frames * h
    assert macs(name) == encoder + layers * (own + across + 2 * B * S * h * f) + B * S * h * 51_865


def test_macs_of_vit() -> None:
    tokens, patches = 197, 196
    body = 12 * (4 * tokens * H**2 + 2 * tokens**2 * H + 2 * tokens * H * F)
    for name in ("vit-base.torchscript", "vit-base.dynamo"):
        assert macs(name) == B * (body + patches * H * 3 * 16 * 16)


@pytest.mark.parametrize("name", ["bert-base.torchscript", "whisper-tiny.dynamo", "unet.torchscript"])
def test_formulas_of_the_json_report_read_back(name: str) -> None:
    report = free_report(name)
    totals = json.loads(json.dumps(report.to_dict()))["totals"]
    formulas = totals["formulas"]
    assert set(formulas) == set(EXACT)
    assert_formulas(formulas, totals, report.graph.assumed_bindings)


def assert_formulas(formulas: Any, totals: Any, values: Mapping[str, int]) -> None:
    texts = {**formulas["basic_operations"], **{key: formulas[key] for key in EXACT[1:]}}
    numbers = {**totals["basic_operations"], **{key: totals[key] for key in EXACT[1:]}}
    assert set(texts) == set(numbers)
    for key, text in texts.items():
        formula = parse(text)
        assert formula is not None and str(formula) == text
        assert evaluated(formula, values) == numbers[key], (key, text)


# --- small models ---


def ints(*values: int) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.int64))


def scalar(value: int) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, np.int64))


def reals(*values: float) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32))


def weight(*shape: int) -> TensorProto:
    return numpy_helper.from_array(np.zeros(shape, np.float32))


class Builder:
    """A model that is built node by node; tensors are their names."""

    def __init__(self, **inputs: Sequence[int | str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(dims)) for n, dims in inputs.items()]

    def __call__(self, op_type: str, *inputs: str | TensorProto, outputs: int = 1, **attributes: Any) -> str:
        names = []
        for each in inputs:
            if isinstance(each, TensorProto):
                each.name = f"c{len(self.constants)}"
                self.constants.append(each)
            names.append(each if isinstance(each, str) else each.name)
        made = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, names, made, f"n{len(self.nodes)}", **attributes))
        return made[0]

    def size(self, tensor: str, axis: int) -> str:
        """One dimension of a tensor, as a vector of one element."""
        return self("Unsqueeze", self("Gather", self("Shape", tensor), scalar(axis)), ints(0))

    def model(self, *outputs: str, opset: int = 20) -> onnx.ModelProto:
        infos = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def analysed(model: onnx.ModelProto) -> Report:
    return onnx_aiwq.analyze(model, hardware=HARDWARE)


def why_not(report: Report) -> str:
    """Why there are no formulas, as the report says it."""
    reasons = [line for line in report.warnings if line.startswith("no formula: ")]
    assert len(reasons) == 1, report.warnings
    return reasons[0]


def assert_exact(model: onnx.ModelProto, *points: Mapping[str, int]) -> Report:
    report = analysed(model)
    assert report.symbolic is not None, report.warnings
    for point in points:
        assert_equal(report, model, point)
    return report


def assert_never_wrong(model: onnx.ModelProto, points: Sequence[Mapping[str, int]]) -> bool:
    """Formulas agree with bound analyses, or the report says why there are none; tells which."""
    report = analysed(model)
    if report.symbolic is None:
        why_not(report)
        return False
    for point in points:
        assert_equal(report, model, point)
    return True


SIZES = st.integers(1, 40)


def points(draw: st.DrawFn, *names: str, least: int = 1) -> list[dict[str, int]]:
    each = st.fixed_dictionaries({name: st.integers(least, 40) for name in names})
    return draw(st.lists(each, min_size=1, max_size=3))


@st.composite
def perceptrons(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[dict[str, int]]]:
    width = draw(st.integers(1, 9))
    build = Builder(x=["batch", "tokens", width])
    tensor = "x"
    for _ in range(draw(st.integers(1, 3))):
        wider = draw(st.integers(1, 9))
        tensor = build("MatMul", tensor, weight(width, wider))
        width = wider
        kind = draw(st.sampled_from(["Relu", "Gelu", "Softmax", "LayerNormalization", "Add", "flat", "ReduceMax"]))
        if kind == "LayerNormalization":
            tensor = build(kind, tensor, weight(width), weight(width))
        elif kind == "Add":
            tensor = build(kind, tensor, weight(width))
        elif kind == "flat":
            flat = build("Reshape", tensor, ints(-1, width))
            gemm = build("Gemm", flat, weight(width, width), weight(width))
            tensor = build("Reshape", gemm, build("Shape", tensor))
        elif kind == "ReduceMax":
            tensor = build("Sub", tensor, build(kind, tensor, ints(-1)))
        else:
            tensor = build(kind, tensor)
    return build.model(tensor), points(draw, "batch", "tokens")


@settings(max_examples=25, deadline=None)
@given(perceptrons())
def test_perceptrons(case: tuple[onnx.ModelProto, list[dict[str, int]]]) -> None:
    assert assert_never_wrong(*case)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[dict[str, int]]]:
    """Convolutions, poolings and enlargements, padded so that an image of one pixel passes, or not."""
    build = Builder(x=["n", 3, "height", "width"])
    tensor, channels = "x", 3
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        pad = draw(st.sampled_from([kernel // 2, 0]))
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        kind = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool", "Resize", "ConvTranspose", "same", "dilated"]))
        if kind == "Conv":
            made = draw(st.integers(1, 4))
            tensor, channels = build("Conv", tensor, weight(made, channels, kernel, kernel), **window), made
        elif kind == "same":
            auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
            kernels = weight(2, channels, kernel, kernel)
            tensor, channels = build("Conv", tensor, kernels, auto_pad=auto, strides=[stride, 1]), 2
        elif kind == "dilated":
            reach = 2 * (kernel - 1)
            kernels = weight(2, channels, kernel, kernel)
            tensor, channels = build("Conv", tensor, kernels, dilations=[2, 2], pads=[reach, 0, reach, reach]), 2
        elif kind == "ConvTranspose":
            kernels = weight(channels, 2, kernel, kernel)
            tensor, channels = build(kind, tensor, kernels, strides=[stride] * 2), 2
        elif kind == "Resize":
            scales = reals(1, 1, draw(st.sampled_from([1, 2, 1.5, 0.5, 3])), draw(st.sampled_from([2, 0.75, 1])))
            tensor = build(kind, tensor, "", scales, mode=draw(st.sampled_from(["nearest", "linear"])))
        else:
            ceil = draw(st.integers(0, 1))
            window["pads"] = [min(pad, kernel - 1)] * 4
            tensor = build(kind, tensor, **window, ceil_mode=ceil)
        tensor = build("Relu", tensor)
    return build.model(tensor), points(draw, "n", "height", "width", least=draw(st.sampled_from([1, 30])))


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_convolutions(case: tuple[onnx.ModelProto, list[dict[str, int]]]) -> None:
    model, bindings = case
    report = analysed(model)
    if report.symbolic is None:
        why_not(report)
        return
    for point in bindings:
        try:
            report.at(**point)
        except ShapeError as error:  # an image that is too small: the bound analysis has to guess a size then
            assert "negative" in str(error)
            assert onnx_aiwq.analyze(model, bind=point, hardware=HARDWARE).graph.assumed_bindings
            continue
        assert_equal(report, model, point)


@st.composite
def attentions(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[dict[str, int]]]:
    """Attention whose heads are split and joined by shapes that the graph computes."""
    heads, width = draw(st.sampled_from([(1, 4), (2, 3), (4, 2)]))
    hidden = heads * width
    build = Builder(x=["b", "s", hidden])
    queries, keys, values = (build("MatMul", "x", weight(hidden, hidden)) for _ in range(3))
    style = draw(st.sampled_from(["zeros", "computed", "split"]))

    def split(tensor: str) -> str:
        if style == "zeros":
            shape: str | TensorProto = ints(0, 0, heads, width)
        elif style == "computed":
            sizes = build.size(tensor, 0), build.size(tensor, 1), ints(heads), ints(width)
            shape = build("Concat", *sizes, axis=0)
        else:
            shape = build("Concat", build("Slice", build("Shape", tensor), ints(0), ints(-1)),
                          ints(heads, -1), axis=0)  # fmt: skip
        return build("Transpose", build("Reshape", tensor, shape), perm=[0, 2, 1, 3])

    scores = build("MatMul", split(queries), build("Transpose", split(keys), perm=[0, 1, 3, 2]))
    if draw(st.booleans()):
        length = build.size("x", 1)
        square = build("Concat", length, length, axis=0)
        mask = build("Trilu", build("ConstantOfShape", square), upper=draw(st.integers(0, 1)))
        scores = build("Add", scores, mask)
    if draw(st.booleans()):
        end = build("Squeeze", build.size("x", 1), ints(0))
        start, step = scalar(0), scalar(1)
        places = build("Cast", build("Range", start, end, step), to=TensorProto.FLOAT)
        scores = build("Add", scores, places)
    joined = build("Transpose", build("MatMul", build("Softmax", scores), split(values)), perm=[0, 2, 1, 3])
    back = draw(st.sampled_from(["shape", "-1"]))
    result = build("Reshape", joined, build("Shape", "x") if back == "shape" else ints(0, 0, -1))
    return build.model(build("Add", result, "x")), points(draw, "b", "s")


@settings(max_examples=40, deadline=None)
@given(attentions())
def test_attentions(case: tuple[onnx.ModelProto, list[dict[str, int]]]) -> None:
    assert assert_never_wrong(*case)


@st.composite
def rearrangements(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[dict[str, int]]]:
    """Operators that decide sizes: cutting, joining, repeating, filling, stretching."""
    build = Builder(x=["p", "q", 4])
    tensor = "x"
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(
            st.sampled_from(
                ["Concat", "Slice", "Tile", "Expand", "Constant", "Flat", "Range", "Pad", "Split", "half", "Transpose"]
            )
        )
        axis = draw(st.integers(0, 1))
        if kind == "Concat":
            tensor = build(kind, tensor, build("Neg", tensor), axis=axis)
        elif kind == "Slice":
            start, end = draw(st.sampled_from([(0, 1), (0, -1), (1, 2**63 - 1), (-3, 2**63 - 1), (0, 5), (2, -1)]))
            step = draw(st.sampled_from([1, 1, 2]))
            tensor = build(kind, tensor, ints(start), ints(end), ints(axis), ints(step))
        elif kind == "Tile":
            tensor = build(kind, tensor, ints(draw(st.integers(1, 3)), 2, 1))
        elif kind == "Expand":
            tensor = build(kind, build("Unsqueeze", tensor, ints(0)), build("Concat", ints(3),
                           build("Shape", tensor), axis=0))  # fmt: skip
            tensor = build("Reshape", tensor, ints(-1, 2, 4))
        elif kind == "Constant":
            filled = build("ConstantOfShape", build("Shape", tensor))
            tensor = build("Mul", tensor, filled)
        elif kind == "Flat":
            tensor = build("Reshape", tensor, ints(0, -1, 4))
        elif kind == "Range":
            end = build("Squeeze", build.size(tensor, axis), ints(0))
            start, step = scalar(0), scalar(draw(st.integers(1, 3)))
            tensor = build("Unsqueeze", build("Cast", build("Range", start, end, step), to=1), ints(0, 2))
            tensor = build("Mul", tensor, weight(1, 1, 4))
        elif kind == "Pad":
            tensor = build(kind, tensor, ints(0, 1, 0, 2, 0, 0))
        elif kind == "Split":
            tensor = build(kind, tensor, outputs=2, axis=axis, num_outputs=2)
        elif kind == "half":
            two = ints(2)
            half = build("Div", build("Add", build.size(tensor, axis), ints(1)), two)
            tensor = build("Slice", tensor, ints(0), half, ints(axis))
        else:
            tensor = build(kind, tensor, perm=[1, 0, 2])
        tensor = build("Exp", tensor)
    return build.model(tensor), points(draw, "p", "q")


@settings(max_examples=120, deadline=None)
@given(rearrangements())
def test_rearrangements(case: tuple[onnx.ModelProto, list[dict[str, int]]]) -> None:
    assert_never_wrong(*case)


@pytest.mark.parametrize(
    ("op_type", "shapes", "written"),
    [
        ("Add", (["a", 3], ["b", 3]), "24*max(a, b)"),
        ("Mul", (["a", "b"], ["b", "a"]), "8*max(a, b)**2"),
        ("Where", (["a"], ["b"], ["c"]), "8*max(a, b, c)"),
        ("PRelu", (["a", 3], ["b", 1]), "24*a"),
        ("Sum", (["a", 1], ["b", 1], ["c", 2]), "16*max(a, b, c)"),
        ("Pow", (["a"], ["b"]), "8*max(a, b)"),
    ],
)
def test_two_free_dimensions_that_meet(op_type: str, shapes: Sequence[Sequence[int | str]], written: str) -> None:
    """Either of them may be 1 and is stretched then; the formula of the first one alone would be wrong."""
    names = ["x", "y", "z"][: len(shapes)]
    build = Builder(**dict(zip(names, shapes, strict=True)))
    if op_type == "Where":
        build.inputs[0].type.tensor_type.elem_type = TensorProto.BOOL
    model = build.model(build("Relu", build(op_type, *names)))
    ones = {dim: 1 for shape in shapes for dim in shape if isinstance(dim, str)}
    same = dict.fromkeys(ones, 6)
    mixed = [{**ones, name: 5} for name in ones] + [{**same, name: 1} for name in ones]
    report = assert_exact(model, ones, same, *mixed)
    assert report.to_dict()["totals"]["formulas"]["bytes_written"] == written


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("MatMul", {}), ("Einsum", {"equation": "...ij,...jk->...ik"})],
    ids=["MatMul", "Einsum"],
)
def test_two_free_dimensions_whose_meeting_no_formula_tells(op_type: str, attributes: dict[str, str]) -> None:
    build = Builder(x=["a", 2, 3], y=["b", 3, 4])
    model = build.model(build(op_type, "x", "y", **attributes))
    points = [{"a": 1, "b": 1}, {"a": 5, "b": 1}, {"a": 1, "b": 5}, {"a": 5, "b": 5}]
    if not assert_never_wrong(model, points):
        reason = why_not(analysed(model))
        assert reason.endswith("'t0_0_dim0' depends on the other dimensions in a way that no formula tells")


def test_an_attention_mask_of_its_own_batch() -> None:
    build = Builder(q=["b", 2, "s", 4], k=["b", 2, "s", 4], v=["b", 2, "s", 4], mask=["m", 1, "s", "s"])
    model = build.model(build("Attention", "q", "k", "v", "mask"), opset=23)
    points = [{"b": 1, "m": 1, "s": 3}, {"b": 5, "m": 1, "s": 1}, {"b": 5, "m": 1, "s": 4}, {"b": 5, "m": 5, "s": 4}]
    assert_exact(model, *points)


def test_formulas_of_a_small_model() -> None:
    build = Builder(x=["batch size", 4])
    model = build.model(build("Relu", build("MatMul", "x", weight(4, 8))))
    report = assert_exact(model, {"batch size": 1}, {"batch size": 4096}, {"batch size": 10**9})
    assert report.to_dict()["totals"]["formulas"] == {
        "basic_operations": {
            "add": "24*{batch size}",
            "sub": "0",
            "mul": "32*{batch size}",
            "div": "0",
            "root": "0",
            "compare": "8*{batch size}",
        },
        "transistor_operations": report.to_dict()["totals"]["formulas"]["transistor_operations"],
        "macs": "32*{batch size}",
        "bytes_read": "48*{batch size} + 128",
        "bytes_written": "64*{batch size}",
    }


def test_dimensions_that_are_bound_do_not_appear() -> None:
    path = MODELS / "bert-base.torchscript.onnx"
    report = onnx_aiwq.analyze(path, bind={"sequence": 128}, hardware=HARDWARE)
    assert report.symbolic is not None and report.symbolic.dimensions == ("batch",)
    assert "sequence" not in json.dumps(report.to_dict()["totals"]["formulas"])
    at = report.at(batch=3)
    assert at["macs"] == free_report("bert-base.torchscript").at(batch=3, sequence=128)["macs"]
    with pytest.raises(ShapeError, match="sequence"):
        report.at(sequence=128)
    bound = onnx_aiwq.analyze(path, bind={"sequence": 128, "batch": 1}, hardware=HARDWARE)
    assert bound.symbolic is None and bound.to_dict()["totals"]["formulas"] is None


NAMES = (
    *("batch size", "seq-len", "a.b", "größe", "数", "max", "floor", "lambda", "None", "1", 'the "n"', "it's", "{x}"),
    *("}", "a}b{", "%7D", "x*y", "x + y", "-*", "ﬁ", "_d0", "aiwq_dim1", "braced0", "N\nM", "a/b", "?"),
)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_identifiers(name: str) -> None:
    build = Builder(x=[name, "other", 6])
    flat = build("Reshape", build("Concat", "x", "x", axis=0), ints(-1, 6))
    pooled = build("MaxPool", build("Unsqueeze", flat, ints(0)), kernel_shape=[3], strides=[2], pads=[1, 1])
    model = build.model(build("Relu", pooled))
    report = assert_exact(model, {name: 1, "other": 1}, {name: 9, "other": 1}, {name: 9, "other": 4}, {name: 4096})
    assert report.symbolic is not None and report.symbolic.dimensions == (name, "other")
    document = json.loads(json.dumps(report.to_dict()))
    values = {name: 1, "other": 1}
    assert_formulas(document["totals"]["formulas"], document["totals"], values)
    assert parse(document["totals"]["formulas"]["bytes_written"]).symbols == {name, "other"}  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [0, -1, True, False, 1.5, 2.0, "8", None])
def test_values_that_are_no_dimension(value: Any) -> None:
    with pytest.raises(ShapeError, match=r"dimension batch=.*whole numbers of at least 1; give"):
        free_report("resnet50.dynamo").at(batch=value)


def test_a_name_that_the_model_does_not_have() -> None:
    report = free_report("bert-base.dynamo")
    with pytest.raises(ShapeError, match=r"dimension 'btach': .* batch, sequence; did you mean 'batch'\?"):
        report.at(btach=2)
    with pytest.raises(ShapeError, match=r"'zzzz': the formulas are in batch, sequence; give one of these"):
        report.at(zzzz=2)


def test_integers_of_numpy_are_dimensions() -> None:
    report = free_report("gpt2.dynamo")
    large = report.at(batch=np.int64(16384), sequence=np.int32(1024))
    assert large == report.at(batch=16384, sequence=1024)
    assert type(large["transistor_operations"]) is int and large["transistor_operations"] > 2**63


def test_a_dimension_that_is_not_given_is_1() -> None:
    report = free_report("bert-base.dynamo")
    assert report.at(sequence=9) == report.at(sequence=9, batch=1)
    assert report.at()["macs"] == report.counts.macs


def test_a_mean_over_one_element_costs_no_division() -> None:
    """A rule that knows what costs nothing at 1 has no formula that holds there too; the report says so."""
    build = Builder(x=["n", 8])
    model = build.model(build("ReduceMean", "x", ints(0)))
    report = analysed(model)
    assert report.counts.basic_operations()["div"] == 0
    assert onnx_aiwq.analyze(model, bind={"n": 2}).counts.basic_operations()["div"] == 8
    assert report.symbolic is None and report.to_dict()["totals"]["formulas"] is None
    assert why_not(report) == "no formula: node 'n0': whether n >= 2 depends on its value"
    with pytest.raises(ShapeError, match="depends on its value; or analyze the model once for each binding"):
        report.at(n=2)
    # Over an axis of fixed length there is nothing special.
    build = Builder(x=["n", 8])
    assert_exact(build.model(build("ReduceMean", "x", ints(1))), {"n": 1}, {"n": 100})


def test_a_branch_that_a_dimension_chooses() -> None:
    """The condition is known in every bound analysis but not in a formula, which would count the costlier branch."""
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)

    def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(list(nodes), "branch", [], [info])

    build = Builder(x=["s", 8])
    large = build("Greater", build.size("x", 0), ints(3))
    build("If", build("Squeeze", large), then_branch=branch(helper.make_node("Relu", ["x"], ["y"], "one")),
          else_branch=branch(helper.make_node("Exp", ["x"], ["y"], "one")))  # fmt: skip
    model = build.model(build.nodes[-1].output[0])
    assert not assert_never_wrong(model, [{"s": 1}, {"s": 3}, {"s": 4}, {"s": 50}])
    assert why_not(analysed(model)) == "no formula: the graph itself depends on the value of a dimension"


def test_data_that_decides_a_size() -> None:
    """The size becomes a dimension of its own; where it is not given, it is as assumed in the report."""
    build = Builder(x=["n", 4])
    model = build.model(build("Relu", build("Cast", build("NonZero", "x"), to=TensorProto.FLOAT)))
    report = assert_exact(model, {"n": 1, "t0_0_dim1": 1}, {"n": 7, "t0_0_dim1": 20})
    assert report.symbolic is not None and report.symbolic.dimensions == ("n", "t0_0_dim1")
    totals = report.to_dict()["totals"]
    assert_formulas(totals["formulas"], totals, report.graph.assumed_bindings)
    assert report.at()["bytes_written"] == totals["bytes_written"] == 32 * report.graph.assumed_bindings["t0_0_dim1"]


def test_an_image_that_is_too_small_at_1() -> None:
    build = Builder(x=["n", 3, "h", "w"])
    report = analysed(build.model(build("Conv", "x", weight(2, 3, 3, 3))))
    assert report.symbolic is None
    assert why_not(report).endswith("the size 't0_0_dim2' is not positive; bind larger ones")
    build = Builder(x=["n", 3, "h", "w"])  # with room for the first window
    model = build.model(build("Conv", "x", weight(2, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
    assert_exact(model, {"n": 1, "h": 1, "w": 9}, {"n": 2, "h": 224, "w": 223})


def test_a_binding_that_makes_a_size_negative() -> None:
    build = Builder(x=["s", 2])
    size = build("Sub", ints(8), build.size("x", 0))
    model = build.model(build("Tile", build("ConstantOfShape", size), ints(3)), build("Neg", "x"))
    report = assert_exact(model, {"s": 1}, {"s": 3}, {"s": 8})
    with pytest.raises(ShapeError, match=r"dimensions s=9: the model does not run with these; .* negative size; give"):
        report.at(s=9)


def test_division_in_shape_arithmetic() -> None:
    """ONNX cuts (s - 5) / 2 towards zero: at s = 2 it is -1, where a floor would be -2."""

    def model_of(shift: int) -> onnx.ModelProto:
        build = Builder(x=["s", 2])
        size = build("Add", build("Div", build("Add", build.size("x", 0), ints(shift)), ints(2)), ints(10))
        return build.model(build("Relu", build("ConstantOfShape", size)), build("Neg", "x"))

    points = [{"s": size} for size in (1, 2, 3, 4, 5, 6, 7, 8, 30)]
    assert_exact(model_of(5), *points)
    assert_exact(model_of(-1), *points)
    assert not assert_never_wrong(model_of(-5), points)  # the sign depends on s


def test_small_integers_keep_their_type() -> None:
    build = Builder(x=["s", 4])
    narrow = build("Cast", build("Shape", "x"), to=TensorProto.INT32)
    three = numpy_helper.from_array(np.asarray([3], np.int32))
    size = build("Cast", build("Mul", build("Gather", narrow, ints(1)), three), to=TensorProto.INT64)
    model = build.model(build("Relu", build("ConstantOfShape", size)), build("Neg", "x"))
    assert_exact(model, {"s": 1}, {"s": 9})


def test_pooling_by_halves() -> None:
    """Global pooling after halving: no division where the pooled window has one element, as at 2 x 2 but not at 1."""
    build = Builder(x=["n", 3, "h", "w"])
    half = build("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    model = build.model(build("GlobalAveragePool", half))
    assert not assert_never_wrong(model, [{"n": 1, "h": 2, "w": 2}, {"n": 3, "h": 2, "w": 9}, {"n": 3, "h": 8, "w": 9}])
    assert "depends on its value" in why_not(analysed(model))


def test_a_count_that_only_some_bindings_show_to_be_special() -> None:
    """Formulas are compared with counted numbers where one dimension is 1 and another is not."""

    def model_count(graph: Graph) -> tuple[NodeCost, ...]:
        first = graph.inputs[0].shape
        assert first is not None
        special = first[0] == 1 and first[1] != 1  # a symbol is never taken for a number
        return tuple(replace(cost, bytes_read=5) if special else cost for cost in count_graph(graph))

    build = Builder(x=["a", "b"])
    graph = load(build.model(build("Relu", "x")))
    assert isinstance(symbolic_cost(graph, count_graph(graph), count_graph), SymbolicCost)
    reason = symbolic_cost(graph, model_count(graph), model_count)
    assert reason == "no formula: node 'n0' costs something else where a is 1, b is 7"
    assert symbolic_cost(graph, count_graph(graph)[:0], count_graph) == (
        "no formula: the graph itself depends on the value of a dimension"
    )


def test_why_there_is_no_formula_names_the_dimensions_of_the_model() -> None:
    def undecided(graph: Graph) -> tuple[NodeCost, ...]:
        first = graph.inputs[0].shape
        assert first is not None and first[0] > 3
        return count_graph(graph)

    build = Builder(x=["batch size", "b"])
    graph = load(build.model(build("Relu", "x")))
    assert symbolic_cost(graph, count_graph(graph), undecided) == (
        "no formula: whether batch size >= 4 depends on its value"
    )
