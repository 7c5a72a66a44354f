"""Bad files, bad models and bad options: one line that names the place and the next step, never another exception."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model_parts import body, constant, model, node, value
from onnx_aiwq.errors import AiwqError, ModelError, ShapeError, UnreadableError
from onnx_aiwq.graph import load, walk
from onnx_aiwq.operations.counting import count_graph

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
ALEXNET = LIGHT / "light_bvlc_alexnet.onnx"
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
# Every message ends in what to do: an imperative, a suggestion or an example.
NEXT_STEP = re.compile(
    r"\b(check|export|give|make|name one|bind|save|convert|decompress|did you mean|expected|for example)\b"
)


def function(name: str, nodes: Sequence[onnx.NodeProto], domain: str = "local") -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(domain, 1)]
    return helper.make_function(domain, name, ["a"], ["b"], nodes, imports)


def refused(source: Any, error: type[AiwqError], *fragments: str, **options: Any) -> str:
    """Assert that the package refuses in one line with these fragments and a next step; return the line."""
    with pytest.raises(AiwqError) as caught:
        load(source, **options)
    text = str(caught.value)
    assert type(caught.value) is error
    assert text.splitlines() == [text] and text == text.strip()
    for fragment in fragments:
        assert fragment in text
    assert NEXT_STEP.search(text), f"no next step: {text}"
    return text


def saved(folder: Path, proto: onnx.ModelProto, name: str = "bad.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


# --- files that are no model


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", UnreadableError, str(tmp_path / "absent.onnx"), "no such file")
    refused(str(ALEXNET / "inside.onnx"), UnreadableError, "inside.onnx")


def test_directory(tmp_path: Path) -> None:
    refused(tmp_path, ModelError, str(tmp_path), "directory")
    saved(tmp_path, onnx.ModelProto(), "decoder.onnx")
    refused(tmp_path, ModelError, str(tmp_path), "directory", "decoder.onnx")


def test_pipe(tmp_path: Path) -> None:
    special = Path(os.devnull)
    if hasattr(os, "mkfifo"):
        special = tmp_path / "pipe.onnx"
        os.mkfifo(special)
    refused(special, ModelError, str(special))


def test_file_name_too_long() -> None:
    refused("m" * 5000, UnreadableError, "m" * 100)


def test_file_name_with_a_null_character() -> None:
    with pytest.raises(ModelError):
        load("a\0b.onnx")


OTHER_FILES = {
    "empty": (b"", "empty"),
    "text": (b"A model is a model is a model.\n" * 99, "ONNX"),
    "one letter": (b"a", "ONNX"),
    "JSON": (b'{"schema": "onnx_aiwq.report/1"}', "ONNX"),
    "HTML": (b"<!doctype html><html><body>Not Found</body></html>", "ONNX"),
    "git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n", "ONNX"),
    "zip": (b"PK\x03\x04" + bytes(99), "PyTorch"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "Keras"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "gzip"),
    "XML": (b'<?xml version="1.0"?><net/>', "XML"),
    "ort": (b"\x20\x00\x00\x00ORTM" + bytes(99), ".ort"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "ONNX"),
    "pickle": (b"\x80\x02}q\x00.", "ONNX"),
    "zeros": (bytes(4096), "ONNX"),
    "ones": (b"\xff" * 4096, "ONNX"),
    "tensor": (constant("w", np.ones(9)).SerializeToString(), "ONNX"),
    "another protobuf": (b"\x0a\x03abc\x12\x03def", "ONNX"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_files_of_other_kinds(tmp_path: Path, kind: str) -> None:
    content, fragment = OTHER_FILES[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, ModelError, str(path), fragment)
    refused(content, ModelError, "the model in memory")


def test_truncated_at_every_byte() -> None:
    data = ALEXNET.read_bytes()
    assert load(data).operators
    for length in range(len(data)):
        with pytest.raises(ModelError) as caught:
            load(data[:length])
        assert str(caught.value).count("\n") == 0


def test_truncated_files(tmp_path: Path) -> None:
    data = (LIGHT / "light_squeezenet.onnx").read_bytes()
    path = tmp_path / "truncated.onnx"
    for length in np.random.default_rng(1).integers(1, len(data), 60):
        path.write_bytes(data[:length])
        refused(path, ModelError, str(path), "export")


def test_random_bytes() -> None:
    random = np.random.default_rng(2)
    for _ in range(2000):
        refused(random.bytes(int(random.integers(1, 400))), ModelError)


def _block(number: int, content: bytes) -> bytes:
    """A field of the protobuf wire format that holds bytes."""
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_messages_nested_without_end() -> None:
    graph = bytes(5000)
    for _ in range(2000):
        graph = _block(1, _block(5, _block(6, graph)))  # graph { node { attribute { g { ... } } } }
    refused(_block(7, graph), ModelError, "nested")


# --- damaged models: whatever a flipped bit makes, it loads or is refused


def _small_model() -> onnx.ModelProto:
    """Every construct that the walk treats on its own, in a few hundred bytes."""
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["s"]), helper.make_node("Elu", ["s"], ["b"])],
        [helper.make_opsetid("", 21)], attributes=["alpha"],
    )  # fmt: skip
    reference = twice.node[1].attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    assert reference.ref_attr_name == "alpha"
    loop = body(
        [node("Identity", ["go"], ["on"]), node("Add", ["v", "one"], ["w"])], ["i", "go", "v"], ["on", "w", "w"]
    )
    scan = body([node("Mul", ["s", "one"], ["r"])], ["s"], ["r"])
    then, other = body([node("Relu", ["f"], ["p"])], [], ["p"]), body([node("Neg", ["f"], ["q"])], [], ["q"])
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Shape", ["c"], ["d"]),
        node("Gather", ["d", "zero"], ["e"]),
        node("Concat", ["e", "minus"], ["r"], axis=0),
        node("Reshape", ["c", "r"], ["f"]),
        node("Constant", [], ["n"], value_int=4),
        node("Loop", ["n", "", "f"], ["g", "stack"], body=loop),
        node("Scan", ["g"], ["h"], num_scan_inputs=1, body=scan),
        node("If", ["which"], ["j"], then_branch=then, else_branch=other),
        node("Twice", ["h"], ["l"], domain="local", alpha=0.5),
        node("MatMul", ["l", "weights"], ["m"]),
        node("LSTM", ["lx", "lw", "lr"], ["", "state"], hidden_size=2),
        node("QuantizeLinear", ["m", "scale"], ["q8"]),
        node("DequantizeLinear", ["q8", "scale"], ["y"]),
    ]
    constants = [
        constant("k", np.ones((4, 3, 3, 3), np.float32)),
        constant("zero", np.int64([0])),
        constant("minus", np.int64([-1])),
        constant("one", np.float32(1)),
        constant("weights", np.ones((64, 2), np.float32)),
        constant("lw", np.ones((1, 8, 2), np.float32)),
        constant("lr", np.ones((1, 8, 2), np.float32)),
        constant("scale", np.float32(0.5)),
    ]
    inputs = [value("x", ["batch", 3, 8, 8]), value("lx", [3, "batch", 2]), value("which", [], BOOL)]
    return model(nodes, constants, inputs, [twice])


def _damaged(data: bytes, damages: int, seed: int) -> list[bytes]:
    random = np.random.default_rng(seed)
    results = []
    for _ in range(damages):
        copy = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            copy[random.integers(len(copy))] ^= 1 << int(random.integers(8))
        results.append(bytes(copy))
    return results


def _escapes(act: Callable[[bytes], Any], damaged: Sequence[bytes]) -> tuple[int, set[str]]:
    """How many were accepted, and the exceptions that are no AiwqError, with the place they come from."""
    accepted, escaped = 0, set()
    for data in damaged:
        try:
            act(data)
            accepted += 1
        except AiwqError as error:
            if len(str(error).splitlines()) != 1:
                escaped.add(f"not one line: {error}")
        except Exception as error:
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            file = place.tb_frame.f_code.co_filename if place is not None else ""
            escaped.add(f"{type(error).__name__}: {error} in {Path(file).name}:{place.tb_lineno if place else 0}")
    return accepted, escaped


DAMAGED = {"light": (ALEXNET.read_bytes(), 600), "small": (_small_model().SerializeToString(), 2000)}


@pytest.mark.parametrize("name", DAMAGED)
def test_flipped_bits_load_or_are_refused(name: str) -> None:
    data, damages = DAMAGED[name]
    assert len(load(data).operators) > 10
    accepted, escaped = _escapes(load, _damaged(data, damages, 3))
    assert escaped == set()
    assert damages / 10 < accepted < damages  # otherwise nothing was tried


@pytest.mark.parametrize("name", DAMAGED)
def test_flipped_bits_are_counted_or_refused(name: str) -> None:
    data, damages = DAMAGED[name]
    assert all(cost.counts is not None for cost in count_graph(load(data)))
    accepted, escaped = _escapes(lambda damaged: count_graph(load(damaged)), _damaged(data, damages, 4))
    assert escaped == set()
    assert accepted > damages / 10


# --- models that are not well formed


def one(op_type: str, inputs: Sequence[str], *constants: TensorProto, **attributes: Any) -> onnx.ModelProto:
    """A model of one node named 'odd'; `given` are its inputs, other keywords as of `model` or attributes."""
    outputs, given = attributes.pop("outputs", ["y"]), attributes.pop("given", None)
    functions, opset = attributes.pop("functions", ()), attributes.pop("opset", 21)
    odd = helper.make_node(op_type, inputs, outputs, name="odd", **attributes)
    return model([odd], constants, given, functions, opset=opset)


def relu(source: str, to: str, **named: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [to], **named)


def call(name: str, source: str = "a", to: str = "b") -> onnx.NodeProto:
    return helper.make_node(name, [source], [to], domain="local")


RELU = body([relu("x", "z")], [], ["z"])
GHOST = body([relu("ghost", "z")], [], ["z"])
LOOP = body([node("Identity", ["go"], ["on"]), relu("v", "w")], ["i", "go", "v"], ["on", "w"])
SCAN = body([relu("v", "w")], ["v"], ["w"])
FIVE, TRUE = constant("t", np.int64(5)), constant("k", np.bool_(True))
FLAG = [value("x"), value("k", [], BOOL)]
KERNEL = constant("w", np.ones((1, 2, 1), np.float32))
SIGNAL = [value("x", [1, 2, 3])]
AROUND = body([relu("y", "z")], [], ["z"])


def _nested_branches(levels: int) -> onnx.GraphProto:
    inner = RELU
    for _ in range(levels):
        inner = body([node("If", ["k"], ["z"], then_branch=inner, else_branch=RELU)], [], ["z"])
    return inner


def _recursive_through_a_branch() -> onnx.FunctionProto:
    again, stop = body([call("F", "a", "z")], [], ["z"]), body([relu("a", "z")], [], ["z"])
    condition = node("Constant", [], ["k"], value=TRUE)
    return function("F", [condition, node("If", ["k"], ["b"], then_branch=again, else_branch=stop)])


def _chain(levels: int, calls: int = 1) -> list[onnx.FunctionProto]:
    """F0 calls F1, F1 calls F2 and so on, each as many times."""
    names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
    steps = [[call(f"F{i + 1}", *pair) for pair in itertools.pairwise(names)] for i in range(levels)]
    return [*(function(f"F{i}", nodes) for i, nodes in enumerate(steps)), function(f"F{levels}", [relu("a", "b")])]


MALFORMED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "cycle": (
        model([node("Add", ["x", "b"], ["a"], name="first"), relu("a", "b", name="second"), relu("b", "y")]),
        ["cycle", "'first'", "'second'"],
    ),
    "cycle of one": (one("Add", ["x", "y"]), ["cycle", "'odd'"]),
    "cycle through a subgraph": (
        model([node("If", ["k"], ["b"], then_branch=AROUND, else_branch=RELU, name="if"), relu("b", "y")], [TRUE]),
        ["cycle", "'if'", "'y'"],
    ),
    "undefined input": (one("Add", ["x", "ghost"]), ["'ghost'", "'odd'"]),
    "undefined input of a subgraph": (one("If", ["k"], TRUE, then_branch=GHOST, else_branch=RELU), ["'ghost'"]),
    "undefined input of a function": (
        one("F", ["x"], domain="local", functions=[function("F", [node("Add", ["a", "ghost"], ["b"])])]),
        ["'ghost'"],
    ),
    "undefined output": (model([relu("x", "elsewhere")]), ["'y'"]),
    "undefined output of a function": (
        one("F", ["x"], domain="local", functions=[function("F", [relu("a", "elsewhere")])]),
        ["'y'"],
    ),
    "undefined name with a line break": (model([relu("gh\nost", "y", name="a\nb")]), ["gh\\nost"]),
    "duplicate output": (
        model([relu("x", "y", name="first"), node("Neg", ["x"], ["y"], name="second")]),
        ["'y'", "'first'", "'second'"],
    ),
    "duplicate output of one node": (one("Split", ["x"], outputs=["y", "y"], num_outputs=2), ["'y'", "'odd'"]),
    "output that is an input": (model([relu("x", "x"), relu("x", "y")]), ["'x'", "input"]),
    "output that is an initializer": (model([relu("x", "k"), relu("k", "y")], [TRUE]), ["'k'"]),
    "empty graph": (
        helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 21)]),
        ["graph"],
    ),
    "no graph": (onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 21)]), ["graph"]),
    "no operator set": (onnx.ModelProto(ir_version=8, graph=model([relu("x", "y")]).graph), ["opset_import"]),
    "If without else": (one("If", ["k"], then_branch=RELU, given=FLAG), ["'odd'", "else_branch"]),
    "If without the branch that it takes": (one("If", ["k"], TRUE, else_branch=RELU), ["'odd'", "then_branch"]),
    "If whose branches have too few outputs": (
        one("If", ["k"], then_branch=RELU, else_branch=RELU, outputs=["y", "more"], given=FLAG),
        ["'odd'"],
    ),
    "Loop without a body": (one("Loop", ["t", "", "x"], FIVE), ["'odd'", "body"]),
    "Loop whose body has no outputs": (
        one("Loop", ["t", "", "x"], FIVE, body=body([], ["i", "go", "v"])),
        ["'odd'"],
    ),
    "Scan without a body": (one("Scan", ["x"], num_scan_inputs=1), ["'odd'", "body"]),
    "Scan over an axis that is not there": (
        one("Scan", ["x"], num_scan_inputs=1, scan_input_axes=[7], body=SCAN),
        ["'odd'"],
    ),
    "recursive function": (
        one("F", ["x"], domain="local", functions=[function("F", [call("F")])]),
        ["'F'", "itself"],
    ),
    "functions that call each other": (
        one("F", ["x"], domain="local", functions=[function("F", [call("G")]), function("G", [call("F")])]),
        ["itself"],
    ),
    "recursion through a subgraph": (
        one("F", ["x"], domain="local", functions=[_recursive_through_a_branch()]),
        ["'F'", "itself"],
    ),
    "functions nested too deep": (one("F0", ["x"], domain="local", functions=_chain(200)), ["nested"]),
    "negative dimension of an initializer": (
        one("Add", ["x", "w"], TensorProto(name="w", data_type=FLOAT, dims=[-3])),
        ["'w'", "negative"],
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_models_are_refused(tmp_path: Path, name: str) -> None:
    proto, fragments = MALFORMED[name]
    path = saved(tmp_path, proto)
    refused(path, ModelError, str(path), *fragments)
    refused(proto, ModelError, "the model in memory", *fragments)


def loop(*constants: TensorProto, inputs: Sequence[str] = ("t", "k", "x"), **attributes: Any) -> onnx.ModelProto:
    return one("Loop", inputs, *constants, **{"body": LOOP, **attributes})


def scan(scanned: int, **attributes: Any) -> onnx.ModelProto:
    return one("Scan", ["x"], **{"num_scan_inputs": scanned, "body": SCAN, **attributes})


def untyped(**fields: Any) -> onnx.AttributeProto:
    return onnx.AttributeProto(name="axis", **fields)


def added(**fields: Any) -> onnx.ModelProto:
    return one("Add", ["x", "w"], TensorProto(name="w", **fields))


WITHOUT_KIND = onnx.NodeProto(op_type="Softmax", input=["x"], output=["y"], attribute=[untyped(i=1)])
NOT_UTF8 = (
    one("Relu", ["x"], doc_string="?").SerializeToString().replace(b"Relu", b"Re\xff\xfe").replace(b"odd", b"o\xffd")
)

# What the definition of the operator forbids, in small: it may load, with unknown shapes or an unsupported node, or be
# refused; anything else is a crash.
ODD: dict[str, onnx.ModelProto] = {
    "Loop without inputs": loop(inputs=[]),
    "Loop whose body has one output": loop(FIVE, TRUE, body=body([], ["i", "go", "v"], ["go"])),
    "Loop with two trip counts": loop(constant("t", np.int64([5, 6])), TRUE),
    "Loop with an empty trip count": loop(constant("t", np.int64([])), TRUE),
    "Loop with a negative trip count": loop(constant("t", np.int64(-5)), TRUE),
    "Loop with a trip count that is no number": loop(constant("t", np.float32("nan")), TRUE),
    "Loop with an infinite trip count": loop(constant("t", np.float32("inf")), TRUE),
    "Loop with an empty condition": loop(FIVE, constant("k", np.zeros(0, bool))),
    "Loop with an Identity of nothing": loop(
        FIVE, TRUE, body=body([node("Identity", [], ["q"])], ["i", "go", "v"], ["go", "v"])
    ),
    "If without inputs": one("If", [], then_branch=RELU, else_branch=RELU),
    "If of different ranks": one(
        "If", ["k"], then_branch=RELU, else_branch=body([node("Shape", ["x"], ["z"])], [], ["z"]), given=FLAG
    ),
    "Scan of more inputs than there are": scan(5),
    "Scan of fewer inputs than none": scan(-1),
    "Scan of a scalar": scan(1, given=[value("x", [])]),
    "Scan with too few input axes": one("Scan", ["x", "x"], num_scan_inputs=2, scan_input_axes=[0], body=SCAN),
    "Scan with too few output axes": scan(
        1, scan_output_axes=[0], body=body([relu("v", "w")], ["v"], ["w", "w"]), outputs=["y", "z"]
    ),
    "Scan with an output axis that is not there": scan(1, scan_output_axes=[9]),
    "function with too many inputs": one("F", ["x", "x"], domain="local", functions=[function("F", [relu("a", "b")])]),
    "Constant without an output": model([node("Constant", [], [], value_int=1), relu("x", "y")]),
    "Constant without a value": one("Constant", []),
    "Constant of the wrong kind": one("Constant", [], value=5),
    "node without an operator": one("", ["x"]),
    "node without inputs": one("MatMul", []),
    "matrices that do not fit": one("MatMul", ["x", "x"]),
    "Reshape to another size": one("Reshape", ["x", "s"], constant("s", np.int64([5, 5]))),
    "Reshape with two open dimensions": one("Reshape", ["x", "s"], constant("s", np.int64([-1, -1]))),
    "axis that is not there": one("Softmax", ["x"], axis=12),
    "attribute of the wrong kind": one("Softmax", ["x"], axis="last"),
    "attribute without a kind": model([WITHOUT_KIND]),
    "attribute of another kind than it says": one("ConstantOfShape", ["d"], constant("d", np.int64([2]))),
    "ConstantOfShape without a shape": one("ConstantOfShape", []),
    "ConstantOfShape of an unknown type": one("ConstantOfShape", ["d"], constant("d", np.int64([2]))),
    "Conv of matrices": one("Conv", ["x", "x"]),
    "Conv with stride 0": one("Conv", ["x", "w"], KERNEL, given=SIGNAL, strides=[0]),
    "Conv of no groups": one("Conv", ["x", "w"], KERNEL, given=SIGNAL, group=0),
    "GroupNormalization of no groups": one("GroupNormalization", ["x", "x", "x"], num_groups=0),
    "MaxPool without a kernel": one("MaxPool", ["x"], given=SIGNAL),
    "LSTM of a matrix": one("LSTM", ["x", "x", "x"]),
    "Einsum without an equation": one("Einsum", ["x", "x"]),
    "operator set 0": one("Relu", ["x"], opset=0),
    "operator set below 0": one("Relu", ["x"], opset=-7),
    "operator set of the year 3000": one("Relu", ["x"], opset=2**40),
    "dimensions without measure": one("Relu", ["x"], given=[value("x", [2**62] * 8)]),
    "input without a type": one("Relu", ["x"], given=[onnx.ValueInfoProto(name="x")]),
    "input that is listed twice": one("Relu", ["x"], given=[value("x", [2]), value("x", [3, 4])]),
    "initializer of an unknown type": added(data_type=99, dims=[3], raw_data=bytes(12)),
    "initializer with too few elements": added(data_type=FLOAT, dims=[3], raw_data=bytes(7)),
    "initializer of huge and empty dimensions": added(data_type=FLOAT, dims=[0, 2**62]),
}
_SPARSE = ODD["attribute of another kind than it says"].graph.node[0].attribute
_SPARSE.add(name="value", type=onnx.AttributeProto.SPARSE_TENSORS).t.CopyFrom(constant("", np.float32([1])))
_UNKNOWN = ODD["ConstantOfShape of an unknown type"].graph.node[0].attribute
_UNKNOWN.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(TensorProto(data_type=99, dims=[1]))


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_counted_or_refused(name: str) -> None:
    _, escaped = _escapes(lambda data: count_graph(load(data)), [ODD[name].SerializeToString()])
    assert escaped == set()


def test_names_that_are_not_utf8() -> None:
    assert b"Re\xff\xfe" in NOT_UTF8 and b"o\xffd" in NOT_UTF8
    _, escaped = _escapes(lambda data: count_graph(load(data)), [NOT_UTF8])
    assert escaped == set()


def test_functions_that_expand_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_EXPANDED", 100)
    proto = one("F0", ["x"], domain="local", functions=_chain(50, calls=2))
    refused(proto, ModelError, "the model in memory", f"{100 + 4 * (1 + 50 * 2 + 1):,}")


def test_nested_branches_within_the_limit() -> None:
    proto = one("If", ["k"], then_branch=_nested_branches(20), else_branch=RELU, given=FLAG)
    assert len(load(proto).operators) == 21 + 22  # every If, its else branch, and the Relu of the innermost


# --- options that do not fit the model


def _dynamic() -> onnx.ModelProto:
    inputs = [value("pixels", ["batch", 3, "height", 8]), value("mask", ["batch", "height"]), value("n", [2], INT64)]
    nodes = [node("Conv", ["pixels", "k"], ["c"]), node("Relu", ["mask"], ["m"]), node("Reshape", ["m", "n"], ["y"])]
    return model(nodes, [constant("k", np.ones((4, 3, 1, 1), np.float32))], inputs)


OPTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "name with a slip": ({"bind": {"batsh": 2}}, ["--bind batsh", "did you mean 'batch'?"]),
    "name in another case": ({"bind": {"Height": 2}}, ["--bind Height", "did you mean 'height'?"]),
    "name of nothing": ({"bind": {"zzz": 2}}, ["--bind zzz", "batch, height"]),
    "no name": ({"bind": {"": 2}}, ["--bind", "batch, height"]),
    "negative binding": ({"bind": {"batch": -1}}, ["--bind batch=-1"]),
    "fraction": ({"bind": {"batch": 1.5}}, ["--bind batch=1.5"]),
    "text": ({"bind": {"batch": "2"}}, ["--bind batch=2"]),
    "truth value": ({"bind": {"batch": True}}, ["--bind batch=True"]),
    "nothing": ({"bind": {"batch": None}}, ["--bind batch"]),
    "unknown input": ({"shapes": {"pixel": (1, 3, 8, 8)}}, ["--shape pixel", "did you mean 'pixels'?", "mask"]),
    "initializer": ({"shapes": {"k": (4, 3, 1, 1)}}, ["--shape k", "pixels"]),
    "too few dimensions": ({"shapes": {"pixels": (1, 3, 8)}}, ["--shape pixels", "4 dimensions", "[batch, 3, h"]),
    "too many dimensions": ({"shapes": {"mask": (1, 3, 8)}}, ["--shape mask", "2 dimensions", "[batch, height]"]),
    "no dimensions": ({"shapes": {"mask": ()}}, ["--shape mask", "2 dimensions"]),
    "fixed dimension": ({"shapes": {"pixels": (1, 4, 8, 8)}}, ["--shape pixels=[1, 4, 8, 8]", "[batch, 3, height, 8]"]),
    "negative dimension": ({"shapes": {"pixels": (-1, 3, 8, 8)}}, ["--shape pixels"]),
    "dimension that is text": ({"shapes": {"pixels": ("1", "3", "8", "8")}}, ["--shape pixels"]),
    "dimension that is no integer": ({"shapes": {"pixels": (1.0, 3, 8, 8)}}, ["--shape pixels"]),
    "shape against binding": (
        {"bind": {"batch": 2}, "shapes": {"pixels": (3, 3, 8, 8)}}, ["--shape pixels=[3, 3, 8, 8]", "'batch'", "2"]),
    "shape against shape": (
        {"shapes": {"pixels": (3, 3, 8, 8), "mask": (3, 9)}}, ["--shape mask=[3, 9]", "'height'", "8"]),
    "value of an unknown input": ({"values": {"nn": [2, 2]}}, ["nn", "did you mean 'n'?"]),
    "value of another shape": ({"values": {"n": [2, 2, 2]}}, ["n", "[2]"]),
    "value that is no number": ({"values": {"n": ["two", "three"]}}, ["n"]),
    "value of no rectangle": ({"values": {"n": [[1, 2], [3]]}}, ["n"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_fit(name: str) -> None:
    options, fragments = OPTIONS[name]
    refused(_dynamic(), ShapeError, *fragments, **options)


def test_options_that_fit() -> None:
    graph = load(_dynamic(), bind={"batch": 2}, shapes={"pixels": (2, 3, 5, 8)}, values={"n": [5, 2]})
    assert [tensor.shape for tensor in graph.inputs] == [(2, 3, 5, 8), (2, 5), (2,)]
    assert graph.outputs[0].shape == (5, 2)
    assert (dict(graph.bindings), dict(graph.assumed_bindings)) == ({"batch": 2, "height": 5}, {})


def test_numpy_integers_and_zero_bind() -> None:
    graph = load(_dynamic(), bind={"batch": np.int32(0), "height": np.int64(4)})  # type: ignore[dict-item]
    assert graph.inputs[0].shape == (0, 3, 4, 8)
    assert type(graph.bindings["batch"]) is int


def test_a_model_without_symbols_says_so() -> None:
    refused(model([node("Relu", ["x"], ["y"])]), ShapeError, "--bind batch", "none", bind={"batch": 1})


def test_the_callers_options_are_left_as_they_are() -> None:
    bind, shapes = {"batch": 2}, {"pixels": (2, 3, 5, 8)}
    load(_dynamic(), bind=bind, shapes=shapes)
    assert (bind, shapes) == ({"batch": 2}, {"pixels": (2, 3, 5, 8)})


def test_input_names_with_line_breaks_stay_in_one_line() -> None:
    proto = model([relu("a\nb", "y")], inputs=[value("a\nb", ["n\nm"])])
    refused(proto, ShapeError, "--bind zzz", bind={"zzz": 1})
    refused(proto, ShapeError, "--shape zzz", shapes={"zzz": (1,)})
