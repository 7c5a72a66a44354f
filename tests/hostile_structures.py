"""Hostile models by how they are built: the wire format, the graph, functions and subgraphs, names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from hostile_models import BOOL, FLOAT, HOSTILE_TEXTS, MEGABYTE, field, register_all, varint
from model_parts import body, constant, model, node, value

# --- the wire format


def _around(graph_content: bytes) -> bytes:
    return b"\x08\x0a" + field(7, graph_content) + field(8, field(1, b"") + b"\x10\x15")


register_all(
    "wire",
    {
        "huge varint length": lambda: b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(9),
        "varint of 11 bytes": lambda: b"\x08" + b"\x80" * 10 + b"\x01",
        "length of 2^63": lambda: b"\x3a" + varint(2**63) + bytes(9),
        "length of 2^64 - 1": lambda: b"\x3a" + varint(2**64 - 1),
        "groups without an end": lambda: b"\x3b" * 5000,
        "end of a group without a start": lambda: b"\x3c" * 5000,
        "graph as a number": lambda: b"\x38\x05" * 2000,
        "node as fixed64": lambda: _around(b"\x09" + bytes(8)) + bytes(0),
        "dims as text": lambda: _around(field(5, field(1, b"abc") + b"\x10\x01" + field(8, b"w")) + field(12, b"")),
        "field number 0": lambda: _around(b"\x02\x00"),
        "largest field number": lambda: _around(varint((2**29 - 1) << 3 | 2) + b"\x00"),
        "nested to the limit": lambda: _nested_messages(30),
        "nested past the limit": lambda: _nested_messages(400),
        "nested past every limit": lambda: _nested_messages(20_000),
        "a graph given a hundred times": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString() * 100,
        "a thousand empty models": lambda: b"\x3a\x00" * 1000,
    },
)


def _nested_messages(levels: int) -> bytes:
    # Lengths are summed from within, so that the whole is built in one pass.
    parts: list[bytes] = [field(8, b"w" * 5000)]
    length = len(parts[0])
    for _ in range(levels):
        for number in (6, 5, 1):
            head = varint(number << 3 | 2) + varint(length)
            parts.append(head)
            length += len(head)
    return b"\x3a" + varint(length) + b"".join(reversed(parts))


# --- structure


def _function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["b"], nodes, imports)


def _calls(levels: int, calls: int) -> onnx.ModelProto:
    names = ["a", *(f"t{index}" for index in range(calls - 1)), "b"]
    pairs = list(itertools.pairwise(names))
    functions = [
        _function(f"F{level}", [node(f"F{level + 1}", [a], [b], domain="local") for a, b in pairs])
        for level in range(levels)
    ]
    functions.append(_function(f"F{levels}", [node("Relu", ["a"], ["b"])]))
    return model([node("F0", ["x"], ["y"], domain="local")], functions=functions)


def _empty_calls(levels: int, calls: int) -> onnx.ModelProto:
    """An exponential nest at whose end no operator stands that a limit could count."""
    proto = _calls(levels, calls)
    del proto.functions[-1].node[:]
    proto.functions[-1].output[0] = "a"
    return proto


def _branches(levels: int) -> onnx.ModelProto:
    # Serialised by hand from within: protobuf's own nesting limit would not let a builder through.
    inner = body([node("Relu", ["x"], ["z"])], [], ["z"])
    for _ in range(levels):
        inner = body([node("If", ["k"], ["z"], then_branch=inner, else_branch=inner)], [], ["z"])
    top = node("If", ["k"], ["y"], then_branch=inner, else_branch=body([node("Relu", ["x"], ["z"])], [], ["z"]))
    return model([top], inputs=[value("x"), value("k", [], BOOL)])


def _deep_branches(levels: int) -> onnx.ModelProto:
    leaf = body([node("Relu", ["x"], ["z"])], [], ["z"])
    inner = leaf
    for _ in range(levels):
        inner = body([node("If", ["k"], ["z"], then_branch=inner, else_branch=leaf)], [], ["z"])
    return model(
        [node("If", ["k"], ["y"], then_branch=inner, else_branch=leaf)], inputs=[value("x"), value("k", [], BOOL)]
    )


def _nested_loops(levels: int) -> onnx.ModelProto:
    """Loops within loops that grow what they carry, so that each wants to be walked one iteration at a time."""
    nodes = [node("Concat", ["v", "v"], ["w"], axis=0)]
    for _ in range(levels):
        inner = body([node("Identity", ["go"], ["on"]), *nodes], ["i", "go", "v"], ["on", "w"])
        nodes = [node("Loop", ["n", "k", "v"], ["w"], body=inner)]
    nodes[0].input[2] = "x"
    nodes[0].output[0] = "y"
    return model(nodes, [constant("n", np.int64(200)), constant("k", np.bool_(True))])


def _recursive_defaults() -> onnx.ModelProto:
    """A function whose attribute default is the call of the function."""
    again = _function("F", [node("If", ["k"], ["b"])])
    branch = body([node("F", ["a"], ["z"], domain="local")], [], ["z"])
    again.node.insert(0, node("Constant", [], ["k"], value=constant("", np.bool_(True))))
    for name in ("then_branch", "else_branch"):
        again.node[1].attribute.append(AttributeProto(name=name, ref_attr_name="g", type=AttributeProto.GRAPH))
    again.attribute_proto.append(helper.make_attribute("g", branch))
    return model([node("F", ["x"], ["y"], domain="local")], functions=[again])


def _many(count: int, of: Callable[[int], tuple[list[onnx.NodeProto], list[TensorProto]]]) -> onnx.ModelProto:
    nodes, constants = of(count)
    return model(nodes, constants)


def _cycle_of(count: int) -> onnx.ModelProto:
    nodes = [node("Relu", [f"t{index}"], [f"t{(index + 1) % count}"]) for index in range(count)]
    return model(nodes, output="t0")


def _reversed_chain(count: int) -> onnx.ModelProto:
    nodes = [node("Relu", ["x" if not index else f"t{index - 1}"], [f"t{index}"]) for index in range(count)]
    return model(nodes[::-1], output=f"t{count - 1}")


register_all(
    "structure",
    {
        "functions that double forty times": lambda: _calls(40, 2),
        "functions that fan out tenfold": lambda: _calls(12, 10),
        "functions that double and hold nothing": lambda: _empty_calls(40, 2),
        "functions in a chain of 3,000": lambda: _calls(3000, 1),
        "a function that gets itself as an attribute": _recursive_defaults,
        "branches that double": lambda: _branches(10),
        "branches 20 deep": lambda: _deep_branches(20),
        "loops within loops": lambda: _nested_loops(8),
        "a cycle of 20,000 nodes": lambda: _cycle_of(20_000),
        "a chain of 20,000 nodes in reverse": lambda: _reversed_chain(20_000),
        "one node with 100,000 inputs": lambda: model([node("Sum", ["x"] * 100_000, ["y"])]),
        "one node with 100,000 outputs": lambda: model(
            [node("Split", ["x"], [f"y{index}" for index in range(100_000)], num_outputs=100_000)],
            inputs=[value("x", [100_000])],
            output="y0",
        ),
        "20,000 equal nodes that one node reads": lambda: model(
            [
                *(node("Relu", ["x"], [f"t{index}"]) for index in range(20_000)),
                node("Sum", [f"t{index}" for index in range(20_000)], ["y"]),
            ]
        ),
        "20,000 undefined inputs": lambda: model([node("Sum", [f"ghost{index}" for index in range(20_000)], ["y"])]),
        "one name 5,000 times": lambda: model(
            [*(node("Relu", ["x"], ["z"]) for _ in range(5000)), node("Relu", ["z"], ["y"])]
        ),
        "one node name 20,000 times": lambda: model(
            [*(node("Relu", ["x"], [f"t{index}"], name="n") for index in range(20_000)), node("Relu", ["x"], ["y"])]
        ),
        "node names that look like made-up ones": lambda: model(
            [
                *(node("Relu", ["x"], [f"t{index}"], name="n" + "#2" * (index % 300)) for index in range(3000)),
                node("Relu", ["x"], ["y"]),
            ]
        ),
        "a negative number of outputs": lambda: model([node("Split", ["x"], ["y"], num_outputs=-5)]),
        "sequences that double": lambda: _doubled_sequences(),
        "optionals in optionals": lambda: _nested_type(40),
        "20,000 operator sets": lambda: _operator_sets(20_000),
        "operators of 5,000 kinds": lambda: model(
            [*(node(f"Kind{index}", ["x"], [f"t{index}"]) for index in range(5000)), node("Relu", ["x"], ["y"])]
        ),
        "attributes without number": lambda: _attributes(20_000),
    },
)


def _doubled_sequences() -> onnx.ModelProto:
    """A sequence that forty loops without end insert into, one after the other."""
    inner = body(
        [node("Identity", ["go"], ["on"]), node("SequenceInsert", ["v", "x"], ["w"])], ["i", "go", "v"], ["on", "w"]
    )
    nodes = [node("SequenceConstruct", ["x"], ["s0"])]
    nodes += [node("Loop", ["n", "k", f"s{step}"], [f"s{step + 1}"], body=inner) for step in range(40)]
    nodes += [node("ConcatFromSequence", ["s40"], ["y"], axis=0)]
    return model(nodes, [constant("n", np.int64(2**40)), constant("k", np.bool_(True))])


def _nested_type(levels: int) -> onnx.ModelProto:
    kind = helper.make_tensor_type_proto(FLOAT, [2])
    for _ in range(levels):
        kind = helper.make_optional_type_proto(kind)
    return model([node("OptionalHasElement", ["x"], ["y"])], inputs=[helper.make_value_info("x", kind)])


def _operator_sets(count: int) -> onnx.ModelProto:
    proto = model([node("Relu", ["x"], ["y"])])
    proto.opset_import.extend(helper.make_opsetid(f"domain{index}", index) for index in range(count))
    return proto


def _attributes(count: int) -> onnx.ModelProto:
    proto = model([node("Relu", ["x"], ["y"])])
    proto.graph.node[0].attribute.extend(helper.make_attribute(f"a{index}", index) for index in range(count))
    return proto


# --- names


def _named(text: str) -> onnx.ModelProto:
    """A model in which everything that can be named has the same name, with something in front to keep them apart."""
    nodes = [
        node("MatMul", [f"{text}x", f"{text}w"], [f"{text}y"], name=text),
        node("Mystery" + text, [f"{text}y"], [f"{text}u"], name=f"{text}2", domain=text),
        node("Relu", [f"{text}y"], [f"{text}z"], name=f"{text}3"),
        node("NonZero", [f"{text}z"], [f"{text}o"], name=f"{text}4"),
    ]
    inputs = [value(f"{text}x", [f"{text}n", 4])]
    proto = model(nodes, [constant(f"{text}w", np.ones((4, 5), np.float32))], inputs, output=f"{text}o")
    proto.producer_name, proto.producer_version, proto.doc_string = text, text, text
    proto.opset_import.append(helper.make_opsetid(text, 1))
    proto.graph.name = text
    return proto


register_all("names", {name: (lambda text=text: _named(text)) for name, text in HOSTILE_TEXTS.items()})
register_all(
    "names",
    {
        "a megabyte": lambda: _named("n" * MEGABYTE),
        "a megabyte of controls": lambda: _named("\x1b" * MEGABYTE),
        "an undefined input of a megabyte": lambda: model([node("Relu", ["g" * MEGABYTE], ["y"])]),
        "a cycle through megabytes": lambda: model(
            [node("Add", ["x", "b" * MEGABYTE], ["y"], name="n" * MEGABYTE), node("Relu", ["y"], ["b" * MEGABYTE])]
        ),
        "an equation of a megabyte": lambda: model([node("Einsum", ["x"], ["y"], equation="q" * MEGABYTE + "->")]),
        "not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"], name="REPLACE")])
            .SerializeToString()
            .replace(b"REPLACE", b"\xff\xfe\x80\xc0\xaf\xed\xa0"[:7])
        ),
        "producer that is not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(2, b"\xff\xfe")
        ),
        "doc_string that is not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(6, b"\xff\xfe")
        ),
        "graph name that is not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(7, field(2, b"\xff"))
        ),
        "metadata that is not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(14, field(1, b"\xff"))
        ),
        "external location that is not UTF-8": lambda: (
            model([node("Relu", ["x"], ["y"])]).SerializeToString()
            + field(
                7,
                field(
                    5,
                    field(8, b"w") + b"\x10\x07\x08\x01\x70\x01" + field(13, field(1, b"location") + field(2, b"\xff")),
                ),
            )
        ),
    },
)
