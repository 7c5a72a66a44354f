"""Reading a model: what is stepped over, what is kept, what is never opened, and what that costs."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from onnx_aiwq.errors import ModelError, UnreadableError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.loading import read_skeleton, tensor_values
from onnx_aiwq.wireformat import INLINE_PAYLOAD, PAYLOAD_LIMIT_BYTES, strip_payloads

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
PAYLOADS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
KINDS = {
    "raw_data": TensorProto.FLOAT,
    "float_data": TensorProto.FLOAT,
    "int32_data": TensorProto.INT32,
    "int64_data": TensorProto.INT64,
    "double_data": TensorProto.DOUBLE,
    "uint64_data": TensorProto.UINT64,
    "string_data": TensorProto.STRING,
}
SMALL, LARGE = 12, 5000  # elements; every kind takes at least one byte for each


def tensor_of(kind: str, size: int, name: str = "w") -> TensorProto:
    """A tensor of counting numbers, its elements in the payload field `kind`."""
    tensor = TensorProto(name=name, data_type=KINDS[kind], dims=[size])
    if kind == "raw_data":
        tensor.raw_data = np.arange(size, dtype="<f4").tobytes()
    elif kind == "string_data":
        tensor.string_data.extend(str(index).encode() for index in range(size))
    else:
        getattr(tensor, kind).extend(range(size))
    return tensor


def model_around(*initializers: TensorProto, nodes: Any = None, **parts: Any) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], initializer=initializers)
    graph.sparse_initializer.extend(parts.pop("sparse_initializer", []))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], **parts)


def payload_bytes(tensor: TensorProto) -> int:
    """What the elements take on the wire, without tags and lengths."""

    def varint(value: int) -> int:
        return max(1, -(-(value % (1 << 64)).bit_length() // 7))

    integers = (*tensor.int32_data, *tensor.int64_data, *tensor.uint64_data)
    texts = sum(len(text) for text in tensor.string_data)
    floats = 4 * len(tensor.float_data) + 8 * len(tensor.double_data)
    return len(tensor.raw_data) + texts + floats + sum(varint(value) for value in integers)


def tensors_within(message: Message) -> Iterator[TensorProto]:
    """Every TensorProto in a message, wherever the schema of ONNX allows one."""
    if isinstance(message, TensorProto):
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from tensors_within(inner)


def without_large_payloads(model: onnx.ModelProto) -> onnx.ModelProto:
    """What is expected of a skeleton, by way of the parsed message."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in tensors_within(copy):
        if payload_bytes(tensor) > 4096:
            for field in PAYLOADS:
                tensor.ClearField(field)
            tensor.external_data.add(key="location", value=INLINE_PAYLOAD)
            tensor.data_location = TensorProto.EXTERNAL
    return copy


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(strip_payloads(memoryview(model.SerializeToString())))


def summary(graph: Graph) -> list[Any]:
    """Everything about a graph but where it came from, in values that compare."""

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    def flat(tensor: Any) -> Any:
        return tensor and (tensor.name, tensor.dtype, tensor.shape, plain(tensor.value), tensor.constant)

    operators = [
        [(o.name, o.op_type, o.version, o.scope, o.repeats, o.constant), *map(flat, (*o.inputs, *o.outputs))]
        for o in graph.operators
    ]
    attributes = [[(name, plain(value)) for name, value in sorted(o.attributes.items())] for o in graph.operators]
    ends = [[*map(flat, tensors)] for tensors in (graph.inputs, graph.outputs, graph.parameters)]
    bindings = [dict(graph.bindings), dict(graph.assumed_bindings)]
    model = [graph.model.size_bytes, dict(graph.model.opsets)]
    return [operators, attributes, graph.edges, ends, bindings, graph.warnings, model]


_opened: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None:
        _opened.append(os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "")


sys.addaudithook(_audit)  # stays for the life of the interpreter; idle unless `opened_files` listens


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Collect the path of every file that Python opens."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


# --- one model, three ways in


@pytest.mark.parametrize("name", ["light_bvlc_alexnet", "light_shufflenet"])
def test_path_bytes_and_proto_give_the_same_graph(name: str) -> None:
    path = LIGHT / f"{name}.onnx"
    by_path = summary(load(path))
    assert by_path == summary(load(str(path)))
    assert by_path == summary(load(path.read_bytes()))
    assert by_path == summary(load(onnx.load(path)))
    assert len(by_path[0]) == len(onnx.load(path).graph.node)


def test_what_identifies_a_model(tmp_path: Path) -> None:
    model = model_around(tensor_of("raw_data", LARGE), producer_name="maker", producer_version="3")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    info = load(path).model
    assert (info.path, info.size_bytes) == (path, path.stat().st_size)
    assert (info.producer, dict(info.opsets), info.ir_version) == ("maker 3", {"ai.onnx": 21}, model.ir_version)
    assert load(model).model.path is None
    assert load(model).model.graph_sha256 == info.graph_sha256

    other_weights = model_around(tensor_of("raw_data", LARGE), producer_name="maker", producer_version="3")
    other_weights.graph.initializer[0].raw_data = bytes(4 * LARGE)
    assert load(other_weights).model.graph_sha256 == info.graph_sha256
    other_weights.graph.node[0].op_type = "Sigmoid"
    assert load(other_weights).model.graph_sha256 != info.graph_sha256


def test_the_callers_proto_is_left_as_it_is() -> None:
    model = model_around(tensor_of("raw_data", LARGE), tensor_of("int64_data", SMALL, "small"))
    before = model.SerializeToString(deterministic=True)
    load(model)
    assert model.SerializeToString(deterministic=True) == before


# --- payloads


@pytest.mark.parametrize("kind", KINDS)
def test_large_payloads_are_stepped_over(kind: str) -> None:
    original = tensor_of(kind, LARGE)
    tensor = read_skeleton(model_around(original)).proto.graph.initializer[0]
    assert payload_bytes(original) > 4096 and payload_bytes(tensor) == 0
    assert tensor.data_location == TensorProto.EXTERNAL
    assert [(entry.key, entry.value) for entry in tensor.external_data] == [("location", INLINE_PAYLOAD)]
    assert (tensor.name, tensor.data_type, list(tensor.dims)) == ("w", KINDS[kind], [LARGE])


@pytest.mark.parametrize("kind", KINDS)
def test_small_payloads_are_kept_and_readable(kind: str) -> None:
    original = tensor_of(kind, SMALL)
    skeleton = read_skeleton(model_around(original))
    tensor = skeleton.proto.graph.initializer[0]
    assert tensor == original
    values = tensor_values(tensor, skeleton)
    if kind == "string_data":
        assert values is None  # texts decide no shape
    else:
        assert_array_equal(values, np.arange(SMALL))


@pytest.mark.parametrize(("size", "kept"), [(4096, True), (4097, False)])
def test_the_limit_is_exact(size: int, kept: bool) -> None:
    assert PAYLOAD_LIMIT_BYTES == 4096
    original = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[size], raw_data=bytes(size))
    tensor = read_skeleton(model_around(original)).proto.graph.initializer[0]
    assert (len(tensor.raw_data) == size) is kept
    assert (tensor.data_location == TensorProto.DEFAULT) is kept


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def _block(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


# Field number and wire type of one element in the unpacked form, and its bytes.
ELEMENTS: dict[str, tuple[int, int, Callable[[int], bytes]]] = {
    "float_data": (4, 5, lambda value: struct.pack("<f", value)),
    "int32_data": (5, 0, _varint),
    "int64_data": (7, 0, _varint),
    "double_data": (10, 1, lambda value: struct.pack("<d", value)),
    "uint64_data": (11, 0, _varint),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", ELEMENTS)
def test_packed_and_unpacked_elements(kind: str, size: int, packed: bool) -> None:
    number, wire_type, encode = ELEMENTS[kind]
    if packed:
        payload = _block(number, b"".join(map(encode, range(size))))
    else:
        payload = b"".join(_varint(number << 3 | wire_type) + encode(value) for value in range(size))
    # dims, data_type, payload, name; the graph's other half comes from protobuf, which merges the two
    tensor = b"\x08" + _varint(size) + b"\x10" + _varint(KINDS[kind]) + payload + _block(8, b"w")
    data = model_around().SerializeToString() + _block(7, _block(5, tensor))
    expected = model_around(tensor_of(kind, size))
    assert onnx.ModelProto.FromString(data) == expected
    assert read_skeleton(data).proto == without_large_payloads(expected)


def _nested() -> dict[str, onnx.ModelProto]:
    """A large tensor in every place of a model that can hold one."""
    large = tensor_of("float_data", LARGE, "")
    sparse = onnx.SparseTensorProto(
        values=tensor_of("raw_data", LARGE), indices=tensor_of("int64_data", LARGE), dims=[9999]
    )
    out = onnx.ValueInfoProto(name="y")
    branch = helper.make_graph([helper.make_node("Constant", [], ["y"], value=large)], "branch", [], [out])
    deeper = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], "d", [], [out]
    )
    condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["c"], ["y"], then_branch=deeper, else_branch=branch)
    several = helper.make_node("Odd", ["x"], ["y"], domain="odd")
    several.attribute.add(name="many", type=onnx.AttributeProto.TENSORS).tensors.extend(
        [large, tensor_of("int64_data", 3)]
    )
    several.attribute.add(name="graphs", type=onnx.AttributeProto.GRAPHS).graphs.extend([branch, branch])
    several.attribute.add(name="sparse", type=onnx.AttributeProto.SPARSE_TENSORS).sparse_tensors.extend([sparse])
    imports = [helper.make_opsetid("", 21)]
    constant = helper.make_node("Constant", [], ["y"], value=large)
    function = helper.make_function("local", "F", ["x"], ["y"], [constant], imports)
    function.attribute_proto.add(name="default", type=onnx.AttributeProto.TENSOR).t.CopyFrom(large)
    trained = model_around()
    trained.training_info.add().algorithm.initializer.append(large)
    trained.training_info[0].initialization.node.append(constant)
    return {
        "initializer": model_around(large),
        "sparse initializer": model_around(sparse_initializer=[sparse]),
        "Constant": model_around(nodes=[constant]),
        "sparse Constant": model_around(nodes=[helper.make_node("Constant", [], ["y"], sparse_value=sparse)]),
        "subgraphs": model_around(nodes=[condition, choice]),
        "lists of attributes": model_around(nodes=[several]),
        "function": model_around(functions=[function]),
        "training": trained,
    }


@pytest.mark.parametrize("place", _nested())
def test_large_payloads_are_found_wherever_they_are(place: str) -> None:
    model = _nested()[place]
    expected = without_large_payloads(model)
    assert expected != model
    assert stripped(model) == expected
    assert expected.ByteSize() < 1500 < LARGE < model.ByteSize()
    assert stripped(expected) == expected


kinds_and_sizes = st.tuples(
    st.sampled_from(list(KINDS)), st.sampled_from([0, 1, 7, 511, 512, 513, 1024, 1025, 2200, 4200])
)
tensors = st.builds(lambda kind_and_size, name: tensor_of(*kind_and_size, name), kinds_and_sizes, st.text(max_size=5))
sparse_tensors = st.builds(
    lambda values, indices: onnx.SparseTensorProto(values=values, indices=indices, dims=[99, 99]), tensors, tensors
)


def _node(attributes: list[Any]) -> onnx.NodeProto:
    node = helper.make_node("Odd", ["x", "", "x"], ["y"], name="n" * 200, domain="odd", doc_string="a note\n" * 3)
    for index, value in enumerate(attributes):
        node.attribute.append(helper.make_attribute(f"a{index}", value))
    return node


def _graph(nodes: list[onnx.NodeProto], constants: list[TensorProto], sparse: list[Any]) -> onnx.GraphProto:
    graph = helper.make_graph(nodes, "inner", [], [onnx.ValueInfoProto(name="y")], initializer=constants)
    graph.sparse_initializer.extend(sparse)
    return graph


plain_values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=20),
    st.lists(st.integers(0, 9), min_size=1),
)
leaves = st.one_of(plain_values, tensors, sparse_tensors, st.lists(tensors, min_size=1, max_size=2))
graphs = st.recursive(
    st.builds(
        _graph,
        st.lists(st.builds(_node, st.lists(leaves, max_size=2)), max_size=2),
        st.lists(tensors, max_size=2),
        st.just([]),
    ),
    lambda inner: st.builds(
        _graph,
        st.lists(st.builds(_node, st.lists(st.one_of(leaves, inner), max_size=2)), max_size=2),
        st.lists(tensors, max_size=2),
        st.lists(sparse_tensors, max_size=1),
    ),
    max_leaves=3,
)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    model = helper.make_model(draw(graphs), opset_imports=[helper.make_opsetid("", 21)], doc_string=draw(st.text()))
    for index, body in enumerate(draw(st.lists(graphs, max_size=2))):
        model.functions.add(name=f"f{index}", domain="local").node.extend(body.node)
    for key in draw(st.lists(st.text(max_size=9), max_size=2)):
        model.metadata_props.add(key=key, value="v" * 5000)
    return model


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(models())
def test_stripping_changes_large_payloads_and_nothing_else(model: onnx.ModelProto) -> None:
    expected = without_large_payloads(model)
    assert stripped(model) == expected
    if expected == model:
        data = model.SerializeToString()
        assert strip_payloads(memoryview(data)) == data


# --- external data

FIRST, SECOND = (3, 8), (4, 6)


def _external_model(
    location: str, size: int = 2, data_type: int = TensorProto.INT64, **entries: str
) -> onnx.ModelProto:
    """Reshape(x[4, 6], shape), with the elements of `shape` in a file."""
    shape = TensorProto(name="shape", data_type=data_type, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        shape.external_data.add(key=key, value=value)
    model = model_around(shape, nodes=[helper.make_node("Reshape", ["x", "shape"], ["y"])])
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (4, 6), strict=True):
        dim.dim_value = size
    return model


def _loaded(folder: Path, model: onnx.ModelProto) -> tuple[Any, list[str]]:
    """The elements that `shape` has, and the files that were opened on the way."""
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with opened_files() as opened:
        graph = load(path)
    (operator,) = graph.operators
    assert operator.inputs[1] is not None
    values = operator.inputs[1].value
    assert str(path) in opened
    assert (values is None) == (graph.outputs[0].shape not in (FIRST, SECOND))
    return None if values is None else tuple(values.tolist()), opened


@pytest.mark.parametrize(
    ("location", "entries", "expected"),
    [
        ("w.bin", {}, FIRST),
        ("w.bin", {"offset": "16", "length": "16"}, SECOND),
        ("sub/w.bin", {"offset": "0"}, FIRST),
        ("./sub/../w.bin", {"offset": "16"}, SECOND),
    ],
)
def test_small_external_integers_are_read(
    tmp_path: Path, location: str, entries: dict[str, str], expected: tuple[int, ...]
) -> None:
    (tmp_path / "sub").mkdir()
    for file in (tmp_path / "w.bin", tmp_path / "sub" / "w.bin"):
        file.write_bytes(np.array([*FIRST, *SECOND], "<i8").tobytes())
    values, opened = _loaded(tmp_path, _external_model(location, **entries))
    assert values == expected
    assert str((tmp_path / location).resolve()) in opened


@pytest.mark.parametrize(
    ("location", "entries"),
    [
        ("absent.bin", {}),
        ("w.bin", {"offset": "17"}),
        ("w.bin", {"offset": "4096"}),
        ("w.bin", {"offset": "-16"}),
        ("w.bin", {"offset": "sixteen"}),
        ("w.bin", {"offset": str(2**63)}),
        ("w.bin", {"offset": "9" * 40}),
        ("w.bin", {"offset": "9" * 5000}),
        ("w.bin", {"length": "8"}),
        ("w.bin", {"length": "-16"}),
        ("w.bin", {"length": "sixteen"}),
        ("short.bin", {}),
        ("", {}),
        ("w\0.bin", {}),
        ("w" * 5000, {}),
        ("w.bin/w.bin", {}),
    ],
)
def test_external_integers_that_are_not_there(tmp_path: Path, location: str, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([*FIRST, *SECOND], "<i8").tobytes())
    (tmp_path / "short.bin").write_bytes(bytes([3]) + bytes(14))
    values, _ = _loaded(tmp_path, _external_model(location, **entries))
    assert values is None


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_external_integers_that_may_not_be_read_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A file that is there is no unknown: what the shapes are is only hidden."""
    (tmp_path / "w.bin").write_bytes(np.array(FIRST, "<i8").tobytes())
    plain_open = Path.open

    def refuse(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == "w.bin":
            raise OSError(code, os.strerror(code), str(path))
        return plain_open(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableError, match=rf"model\.onnx: its external data 'w\.bin' .*{os.strerror(code)}"):
        _loaded(tmp_path, _external_model("w.bin"))


CANARIES = ["parent", "absolute", "sibling with the same beginning", "directory"]
if hasattr(os, "mkfifo"):
    CANARIES += ["absolute within", "symlink", "relative symlink", "symlinked folder", "pipe", "device"]
    CANARIES += ["symlink to a device", "symlink to itself"]


def _plant(kind: str, folder: Path, outside: Path) -> str:
    """Put a canary where a model must not reach, and return the location that points to it."""
    inside = folder / "w.bin"
    if kind == "parent":
        return f"../{outside.parent.name}/{outside.name}"
    if kind == "absolute":
        return str(outside)
    if kind == "absolute within":
        inside.symlink_to(outside)
        return str(inside)
    if kind == "symlink":
        inside.symlink_to(outside)
    elif kind == "relative symlink":
        inside.symlink_to(Path("..") / outside.parent.name / outside.name)
    elif kind == "symlinked folder":
        (folder / "sub").symlink_to(outside.parent)
        return f"sub/{outside.name}"
    elif kind == "sibling with the same beginning":
        (folder.parent / f"{folder.name}-other").mkdir()
        (folder.parent / f"{folder.name}-other" / "w.bin").write_bytes(outside.read_bytes())
        return f"../{folder.name}-other/w.bin"
    elif kind == "pipe":
        os.mkfifo(inside)
    elif kind == "directory":
        inside.mkdir()
    elif kind == "device":
        return "/dev/zero"
    elif kind == "symlink to a device":
        inside.symlink_to("/dev/zero")
    elif kind == "symlink to itself":
        inside.symlink_to(inside)
    return "w.bin"


@pytest.mark.parametrize("kind", CANARIES)
def test_nothing_outside_the_folder_is_ever_opened(tmp_path: Path, kind: str) -> None:
    folder, outside = tmp_path / "model", tmp_path / "secret" / "canary.bin"
    folder.mkdir()
    outside.parent.mkdir()
    outside.write_bytes(np.array([*FIRST, *SECOND], "<i8").tobytes())
    location = _plant(kind, folder, outside)
    values, opened = _loaded(folder, _external_model(location))
    assert values is None
    touched = [os.path.realpath(name) for name in opened if "canary" in name or "w.bin" in name or name == "/dev/zero"]
    assert touched == []


def test_the_audit_would_see_the_canary(tmp_path: Path) -> None:
    canary = tmp_path / "canary.bin"
    canary.write_bytes(b"x")
    with opened_files() as opened, canary.open("rb"):
        pass
    assert opened == [str(canary)]


@pytest.mark.parametrize(
    ("size", "data_type"),
    [(513, TensorProto.INT64), (2, TensorProto.FLOAT), (10**9, TensorProto.INT64), (0, TensorProto.INT64)],
)
def test_other_external_tensors_are_not_opened(tmp_path: Path, size: int, data_type: int) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8192))
    nodes = [helper.make_node("Gather", ["w", "i"], ["v"]), helper.make_node("Relu", ["x"], ["y"])]
    model = model_around(tensor_of("int64_data", 1, "i"), nodes=nodes)
    tensor = model.graph.initializer.add(name="w", data_type=data_type, dims=[size], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with opened_files() as opened:
        weights = load(path).operators[0].inputs[0]
    assert weights is not None and (weights.shape, weights.value, weights.constant) == ((size,), None, True)
    assert str(tmp_path / "w.bin") not in opened


def test_a_model_in_memory_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(np.array(FIRST, "<i8").tobytes())
    monkeypatch.chdir(tmp_path)
    model = _external_model("w.bin")
    for source in (model, model.SerializeToString()):
        with opened_files() as opened:
            (operator,) = load(source).operators
        assert operator.inputs[1] is not None and operator.inputs[1].value is None
        assert not any("w.bin" in name for name in opened)


def test_a_stepped_over_payload_is_not_looked_for_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / INLINE_PAYLOAD).write_bytes(bytes(4 * LARGE))
    path = tmp_path / "model.onnx"
    path.write_bytes(model_around(tensor_of("int64_data", LARGE)).SerializeToString())
    with opened_files() as opened:
        skeleton = read_skeleton(path)
        assert tensor_values(skeleton.proto.graph.initializer[0], skeleton) is None
    assert opened == [str(path)]


# --- time and memory

_LOAD = "from onnx_aiwq.graph import load"
_ONNX_LOAD = "from onnx import load"
_CHILD = """
import json, sys, time
{imports}
import onnx_aiwq.operations.counting
start = time.perf_counter()
loaded = load(sys.argv[1])
seconds = time.perf_counter() - start
try:
    # VmHWM is of this program alone; ru_maxrss of Linux starts at what the parent held.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
print(json.dumps([seconds, peak]))
"""


def _measured(imports: str, path: Path) -> tuple[float, float]:
    """Seconds that the load took and peak MiB of a fresh interpreter that did nothing else."""
    program = _CHILD.format(imports=imports)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(name for name in sys.path if name)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=300,
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


LAYERS, WIDTH = 42, 2048  # 42 * 2048 * 2048 * 4 bytes = 705 MB
PEAK_MIB = 200


@pytest.fixture
def inline_model(tmp_path: Path) -> Iterator[Path]:
    """A chain of MatMuls with 705 MB of random inline weights, never in memory as a whole."""
    nodes = [helper.make_node("MatMul", [f"h{i:02}", f"w{i:02}"], [f"h{i + 1:02}"]) for i in range(LAYERS)]
    first = helper.make_tensor_value_info("h00", TensorProto.FLOAT, [1, WIDTH])
    graph = helper.make_graph(nodes, "g", [first], [onnx.ValueInfoProto(name=f"h{LAYERS:02}")]).SerializeToString()
    frame = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 21)]).SerializeToString()

    def initializer(index: int, data: bytes) -> bytes:
        weights = TensorProto(name=f"w{index:02}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH], raw_data=data)
        return _block(5, weights.SerializeToString())

    one = len(initializer(0, bytes(4 * WIDTH * WIDTH)))
    random = np.random.default_rng(0)
    path = tmp_path / "inline.onnx"
    with path.open("wb") as file:
        file.write(frame + _varint(7 << 3 | 2) + _varint(len(graph) + LAYERS * one) + graph)
        for index in range(LAYERS):
            file.write(initializer(index, random.bytes(4 * WIDTH * WIDTH)))
    yield path
    path.unlink()


@pytest.mark.slow
def test_700_megabytes_of_inline_weights_cost_next_to_nothing(inline_model: Path) -> None:
    assert inline_model.stat().st_size > 700_000_000
    seconds, peak = _measured(_LOAD, inline_model)
    onnx_seconds, onnx_peak = _measured(_ONNX_LOAD, inline_model)
    assert onnx_peak > 700
    assert peak < PEAK_MIB
    assert seconds < onnx_seconds
    graph = load(inline_model)
    assert len(graph.operators) == LAYERS and graph.outputs[0].shape == (1, WIDTH)
    assert sum(tensor.size or 0 for tensor in graph.parameters) == LAYERS * WIDTH * WIDTH


@pytest.mark.slow
@pytest.mark.parametrize("present", [False, True])
def test_4_gigabytes_of_external_weights_cost_next_to_nothing(tmp_path: Path, present: bool) -> None:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1 << 30], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="w.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(model_around(weights, nodes=[helper.make_node("MatMul", ["x", "w"], ["y"])]).SerializeToString())
    if present:
        with (tmp_path / "w.bin").open("wb") as file:
            file.truncate(3 << 32)  # a hole: takes no disk
    seconds, peak = _measured(_LOAD, path)
    assert peak < PEAK_MIB
    assert seconds < 5
    assert load(path).outputs[0].shape == (2, 1 << 30)


def _of_a_sequence(model: onnx.ModelProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, ["MARK"])
    model.graph.input.append(helper.make_value_info("s", helper.make_sequence_type_proto(kind)))


def _of_an_attribute(model: onnx.ModelProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, ["MARK"])
    model.graph.node.append(helper.make_node("Optional", [], ["o"], type=helper.make_optional_type_proto(kind)))


def _within_a_function(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="F", domain="local")
    function.value_info.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, ["MARK"]))


def _default_of_a_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="F", domain="local").attribute_proto.append(helper.make_attribute("MARK", 1))


@pytest.mark.parametrize("put", [_of_a_sequence, _of_an_attribute, _within_a_function, _default_of_a_function])
def test_a_text_that_is_none_is_refused_wherever_it_stands(put: Callable[[onnx.ModelProto], None]) -> None:
    """Protobuf hands out bytes for it, which no later stage expects."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:]))
    put(model)
    data = model.SerializeToString()
    load(data)
    assert data.count(b"MARK") == 1
    with pytest.raises(ModelError, match="UTF-8"):
        load(data.replace(b"MARK", b"\xff\xfeRK"))
