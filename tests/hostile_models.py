"""Model files that somebody made to break whoever reads them, built from nothing; each is a few kilobytes to megabytes.

What is damaged at random stands in `test_bad_input.py` and in `fuzz/`; here is what takes thought.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
MEGABYTE = 1 << 20
Builder = Callable[[], bytes]
HOSTILE: dict[str, Builder] = {}

# What each output form would pass on to whoever reads it next: a terminal, a browser, a spreadsheet, a shell, a parser.
HOSTILE_TEXTS = {
    "ansi": "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J",
    "bidi": "safe\u202etxt.exe\u2066\u2069\u200f",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'",
    "formula": '=HYPERLINK("http://x","y")',
    "formula behind a space": " =1+1",
    "plus": "+1+1",
    "at": "@SUM(A1)",
    "minus": "-1+1|cmd",
    "full-width formula": "\uff1d1+1",
    "tab": "\t=1+1",
    "path": "../../../etc/passwd",
    "shell": "$(touch pwned)`id`;rm -rf ~|&",
    "markdown": "| a | b |\n---|---\n[x](javascript:alert(1)) ![i](http://x) **b** `c`",
    "json": '","totals":{"macs":0},"x":"',
    "xml": "]]><x/>&#0;<!ENTITY a 'b'>\ufffe\uffff",
    "printf": "%s%n%x{0}{self.__class__}",
    "line ends": "a\nb\rc\u2028d\u2029e\x0bf\x85g\x00h",
    "zero width": "a\u200bb\ufeffc\u00add",
    "combining": "a" + "\u0301" * 500,
    "rich markup": "[bold red]x[/bold red] :warning:",
    "carriage": "good\rbad",
    "private and unassigned": "\ue000\U0010ffff\U000e0041\U000e007f",
}


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, **attributes)


def value(name: str, dims: Sequence[Any] | None = (2, 3), kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def constant(name: str, elements: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(elements), name)


def body(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> onnx.GraphProto:
    untyped = [[onnx.ValueInfoProto(name=name) for name in names] for names in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *untyped)


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    output: str = "y",
    opset: int = 21,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [value("x")] if inputs is None else inputs, [onnx.ValueInfoProto(name=output)], constants
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=functions)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def hostile(name: str) -> Callable[[Callable[[], bytes | onnx.ModelProto]], Builder]:
    """Register a builder."""

    def register(build: Callable[[], bytes | onnx.ModelProto]) -> Builder:
        def data() -> bytes:
            made = build()
            return made if isinstance(made, bytes) else made.SerializeToString()

        HOSTILE[name] = data
        return data

    return register


def _register_all(kind: str, made: dict[str, Callable[[], bytes | onnx.ModelProto]]) -> None:
    for name, build in made.items():
        hostile(f"{kind}: {name}")(build)


# --- the wire format


def _around(graph_content: bytes) -> bytes:
    return b"\x08\x0a" + field(7, graph_content) + field(8, field(1, b"") + b"\x10\x15")


_register_all(
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


# --- dimensions and numbers


@hostile("dims: squared again and again")
def _squared() -> onnx.ModelProto:
    nodes, last = [], "x"
    for step in range(400):
        nodes += [
            node("Flatten", [last], [f"row{step}"], axis=0),
            node("Transpose", [f"row{step}"], [f"column{step}"], perm=[1, 0]),
            node("MatMul", [f"column{step}", f"row{step}"], [f"square{step}"]),
        ]
        last = f"square{step}"
    return model([*nodes, node("Relu", [last], ["y"])])


@hostile("dims: doubled by every node")
def _doubled() -> onnx.ModelProto:
    names = ["x", *(f"t{step}" for step in range(20_000))]
    nodes = [node("Concat", [a, a], [b], axis=0) for a, b in zip(names, names[1:], strict=False)]
    return model([*nodes, node("Relu", [names[-1]], ["y"])])


@hostile("dims: of a tile")
def _tiled() -> onnx.ModelProto:
    return model([node("Tile", ["x", "r"], ["y"])], [constant("r", np.int64([2**62, 2**62]))])


@hostile("dims: a symbol squared again and again")
def _symbol_squared() -> onnx.ModelProto:
    nodes = [node("Shape", ["x"], ["s0"])]
    for step in range(64):
        nodes.append(node("Mul", [f"s{step}", f"s{step}"], [f"s{step + 1}"]))
    nodes.append(node("Expand", ["one", "s64"], ["y"]))
    return model(nodes, [constant("one", np.float32(1))], [value("x", ["n", 3, "m"])])


@hostile("dims: integers squared beside a symbol")
def _integers_squared() -> onnx.ModelProto:
    nodes = [node("Shape", ["x"], ["s"]), node("Concat", ["s", "three"], ["p0"], axis=0)]
    nodes += [node("Mul", [f"p{step}", f"p{step}"], [f"p{step + 1}"]) for step in range(60)]
    nodes += [node("Gather", ["p60", "index"], ["d"]), node("ConstantOfShape", ["d"], ["y"])]
    return model(nodes, [constant("three", np.int64([3])), constant("index", np.int64([1]))], [value("x", ["n"])])


@hostile("dims: rank of four thousand")
def _high_rank() -> onnx.ModelProto:
    nodes = [node("Reshape", ["x", "s"], ["t0"])]
    nodes += [node("Relu", [f"t{step}"], [f"t{step + 1}"]) for step in range(3000)]
    return model([*nodes, node("Relu", ["t3000"], ["y"])], [constant("s", np.int64([2, 3] + [1] * 400))])


def _relu(dims: Sequence[Any]) -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], inputs=[value("x", dims)])


_register_all(
    "dims",
    {
        "2^62 eight times": lambda: _relu([2**62] * 8),
        "2^62 five hundred times": lambda: _relu([2**62] * 500),
        "2^63 - 1": lambda: _relu([2**63 - 1]),
        "zero": lambda: _relu([0, 2**62]),
        "negative": lambda: _relu([-(2**63), -1]),
        "expression as a name": lambda: _relu(["9**9**9**9", "x" * 300, "(" * 5000, "__import__('os')"]),
        "a million names": lambda: _relu([f"n{index}" for index in range(20_000)]),
        "matrix product that overflows": lambda: model(
            [node("MatMul", ["x", "w"], ["y"])], inputs=[value("x", [2**40, 2**40]), value("w", [2**40, 2**40])]
        ),
        "convolution that overflows": lambda: model(
            [node("Conv", ["x", "w"], ["y"], pads=[2**62] * 4, strides=[1, 1], dilations=[2**62, 2**62])],
            inputs=[value("x", [1, 3, 2**31, 2**31]), value("w", [4, 3, 3, 3])],
        ),
        "range without end": lambda: model(
            [node("Range", ["a", "b", "c"], ["y"])],
            [constant("a", np.int64(0)), constant("b", np.int64(2**62)), constant("c", np.int64(1))],
        ),
        "range of reals without end": lambda: model(
            [node("Range", ["a", "b", "c"], ["y"])],
            [constant("a", np.float64(0)), constant("b", np.float64(1e300)), constant("c", np.float64(1e-300))],
        ),
        "range to nowhere": lambda: model(
            [node("Range", ["a", "b", "c"], ["y"])],
            [constant("a", np.float32(0)), constant("b", np.float32("nan")), constant("c", np.float32(0))],
        ),
        "constant of a huge shape": lambda: model(
            [node("ConstantOfShape", ["s"], ["y"])], [constant("s", np.int64([2**31, 2**31, 2**31]))]
        ),
        "constant of a negative shape": lambda: model(
            [node("ConstantOfShape", ["s"], ["y"])], [constant("s", np.int64([-(2**40), -(2**40)]))]
        ),
    },
)

_register_all(
    "numbers",
    {
        "NaN scales of a Resize": lambda: model(
            [node("Resize", ["x", "", "s"], ["y"])], [constant("s", np.float32(["nan", "inf"]))]
        ),
        "huge scales of a Resize": lambda: model(
            [node("Resize", ["x", "", "s"], ["y"])], [constant("s", np.float32([3e38, 3e38]))]
        ),
        "NaN ratio of a Dropout": lambda: model([node("Dropout", ["x", "r"], ["y"])], [constant("r", np.float32("nan"))]),
        "NaN alpha": lambda: model([node("Gemm", ["x", "w"], ["y"], alpha=float("nan"), transB=1)], inputs=[value("x"), value("w")]),
        "infinite epsilon": lambda: model(
            [node("LayerNormalization", ["x", "s"], ["y"], epsilon=float("inf"))], inputs=[value("x"), value("s", [3])]
        ),
        "NaN in a Constant": lambda: model([node("Constant", [], ["c"], value_float=float("nan")), node("Add", ["x", "c"], ["y"])]),
    },
)  # fmt: skip


# --- what libraries hang or crash on


def _einsum(equation: str, operands: int = 2, dims: Sequence[int] = (2, 3)) -> onnx.ModelProto:
    names = [f"x{index}" for index in range(operands)]
    return model([node("Einsum", names, ["y"], equation=equation)], inputs=[value(name, dims) for name in names])


EQUATIONS = {
    "empty": "", "an arrow": "->", "two arrows": "ij,jk->->ik", "dots": "....", "two dots": "..,..->..",
    "four dots": "....i,....j->ij", "ellipsis twice": "...i...,j->ij", "nothing but commas": "," * 5000,
    "no letters": "12,34->14", "control characters": "i\x00j,j\nk->ik", "an unknown output": "ij,jk->iz",
    "an output letter twice": "ij,jk->ii", "letters beyond ASCII": "αβ,βγ->αγ", "a million letters": "i" * 1_000_000,
    "an output of a million letters": "ij,jk->" + "ik" * 500_000, "a letter 30 times": "i" * 30 + "," + "j" * 30,
    "spaces": " i j , j k -> i k ", "an arrow in half": "ij,jk-ik", "a bare arrow head": "ij,jk>ik", "brackets": "[ij],jk->ik",
    "dots at the end": "ij,jk->ik...", "dots apart": "i.j.,.jk->ik", "one dot": "i.,jk->ik",
}  # fmt: skip
_register_all("einsum", {name: (lambda text=text: _einsum(text)) for name, text in EQUATIONS.items()})
_register_all("einsum", {"six hundred operands": lambda: _einsum(",".join(["ij"] * 600) + "->", 600)})


def _constant_einsum(equation: str, size: int, rank: int = 1) -> onnx.ModelProto:
    data = constant("c", np.ones((size,) * rank, np.float32))
    terms = equation.split("->")[0].count(",") + 1
    return model([node("Einsum", ["c"] * terms, ["d"], equation=equation), node("Add", ["x", "d"], ["y"])], [data])


_register_all(
    "folding",
    {
        "an Einsum of constants": lambda: _constant_einsum("a,b,c,d,e,f,g->", 900),
        "a regular expression that backtracks": lambda: model(
            [node("RegexFullMatch", ["s"], ["y"], pattern="(a+)+(b+)+(a*)*$")],
            [helper.make_tensor("s", STRING, [1], [b"a" * 60 + b"!"])], [],
        ),
        "texts that double": lambda: model(
            [node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(70)] + [node("Identity", ["s70"], ["y"])],
            [helper.make_tensor("s0", STRING, [1], [b"boom"])], [],
        ),
        "numbers that become texts that double": lambda: model(
            [node("Cast", ["n"], ["s0"], to=STRING), *(node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(70)),
             node("Identity", ["s70"], ["y"])],
            [constant("n", np.int64([123456789]))], [],
        ),
        "a tile of a tile": lambda: model(
            [node("Tile", ["c", "r"], ["t0"])] + [node("Tile", [f"t{i}", "r"], [f"t{i + 1}"]) for i in range(60)]
            + [node("Identity", ["t60"], ["y"])],
            [constant("c", np.float32([1])), constant("r", np.int64([64]))], [],
        ),
        "a convolution of constants": lambda: model(
            [node("Conv", ["c", "k"], ["y"], pads=[30, 30, 30, 30])],
            [constant("c", np.ones((1, 1, 30, 30), np.float32)), constant("k", np.ones((1, 1, 30, 30), np.float32))], [],
        ),
        "a deformable convolution of constants": lambda: model(
            [node("DeformConv", ["c", "k", "o"], ["y"])],
            [constant("c", np.ones((1, 1, 30, 30), np.float32)), constant("k", np.ones((1, 1, 20, 20), np.float32)),
             constant("o", np.zeros((1, 2, 20, 20), np.float32))], [], opset=19,
        ),
        "a pool with a window of 2^62": lambda: model(
            [node("MaxPool", ["c"], ["y"], kernel_shape=[2**62, 2**62], pads=[2**61] * 4)],
            [constant("c", np.ones((1, 1, 9, 9), np.float32))], [],
        ),
        "a pad of 2^40": lambda: model(
            [node("Pad", ["c", "p"], ["y"])], [constant("c", np.float32([1])), constant("p", np.int64([2**40, 2**40]))], []
        ),
        "a split into a million parts": lambda: model(
            [node("SplitToSequence", ["c", "p"], ["s"]), node("SequenceLength", ["s"], ["y"])],
            [constant("c", np.ones(4000, np.float32)), constant("p", np.int64(1))], [],
        ),
        "a window of 2^40": lambda: model([node("HannWindow", ["n"], ["y"])], [constant("n", np.int64(2**40))], []),
        "a transform of 2^40": lambda: model(
            [node("DFT", ["c", "n"], ["y"])],
            [constant("c", np.ones((1, 9, 1), np.float32)), constant("n", np.int64(2**40))], [], opset=20,
        ),
        "mel weights without end": lambda: model(
            [node("MelWeightMatrix", ["a", "b", "c", "d", "e"], ["y"])],
            [constant("a", np.int64(2**31)), constant("b", np.int64(2**31)), constant("c", np.int64(8192)),
             constant("d", np.float32(0)), constant("e", np.float32(1e9))], [],
        ),
        "one-hot of 2^40": lambda: model(
            [node("OneHot", ["i", "n", "v"], ["y"])],
            [constant("i", np.int64([1])), constant("n", np.int64(2**40)), constant("v", np.float32([0, 1]))], [],
        ),
        "a shift by 2^63": lambda: model(
            [node("BitShift", ["a", "b"], ["y"], direction="LEFT")],
            [constant("a", np.uint64([1])), constant("b", np.uint64([2**63]))], [],
        ),
        "division by zero": lambda: model(
            [node("Div", ["a", "b"], ["d"]), node("Mod", ["d", "b"], ["y"])],
            [constant("a", np.int64([1])), constant("b", np.int64([0]))], [],
        ),
        "the least integer over minus one": lambda: model(
            [node("Div", ["a", "b"], ["y"])], [constant("a", np.int64([-(2**63)])), constant("b", np.int64([-1]))], []
        ),
        "indices far outside": lambda: model(
            [node("Gather", ["c", "i"], ["y"])], [constant("c", np.int64([1])), constant("i", np.int64([2**62, -(2**62)]))], []
        ),
        "a resize to 2^40": lambda: model(
            [node("Resize", ["c", "", "", "s"], ["y"])],
            [constant("c", np.ones((1, 1, 2, 2), np.float32)), constant("s", np.int64([1, 1, 2**20, 2**20]))], [],
        ),
        "upsampling by 10^30": lambda: model(
            [node("Upsample", ["c", "s"], ["y"])],
            [constant("c", np.ones((1, 1, 2, 2), np.float32)), constant("s", np.float32([1, 1, 1e30, 1e30]))], [], opset=9,
        ),
        "n-grams without end": lambda: model(
            [node("TfIdfVectorizer", ["c"], ["y"], mode="TF", min_gram_length=1, max_gram_length=2**40, max_skip_count=2**40,
                  ngram_counts=[0, 1], ngram_indexes=[0, 2**40], pool_int64s=[1, 2])],
            [constant("c", np.int64(range(100)))], [],
        ),
        "a col2im of 2^31": lambda: model(
            [node("Col2Im", ["c", "i", "b"], ["y"])],
            [constant("c", np.ones((1, 1, 1), np.float32)), constant("i", np.int64([2**31, 2**31])), constant("b", np.int64([1, 1]))], [],
        ),
        "a loop of constants without end": lambda: model(
            [node("Loop", ["n", "k", "c"], ["y"], body=body(
                [node("Identity", ["go"], ["on"]), node("Add", ["v", "v"], ["w"])], ["i", "go", "v"], ["on", "w"]))],
            [constant("n", np.int64(2**62)), constant("k", np.bool_(True)), constant("c", np.int64([1]))], [],
        ),
        "recurrent constants": lambda: model(
            [node("LSTM", ["c", "w", "r"], ["y"], hidden_size=20)],
            [constant("c", np.ones((1000, 1, 1), np.float32)), constant("w", np.ones((1, 80, 1), np.float32)),
             constant("r", np.ones((1, 80, 20), np.float32))], [],
        ),
        "non-maximum suppression of constants": lambda: model(
            [node("NonMaxSuppression", ["b", "s", "m"], ["y"])],
            [constant("b", np.random.default_rng(0).random((1, 250, 4), np.float32)),
             constant("s", np.ones((1, 4, 250), np.float32)), constant("m", np.int64([2**62]))], [],
        ),
        "a custom attribute as graph": lambda: model(
            [node("Constant", [], ["c"], value=constant("", np.float32([1]))), node("Relu", ["c"], ["y"], body=body([]))], [], []
        ),
    },
)  # fmt: skip


# --- structure


def _function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["b"], nodes, imports)


def _calls(levels: int, calls: int) -> onnx.ModelProto:
    names = ["a", *(f"t{index}" for index in range(calls - 1)), "b"]
    pairs = list(zip(names, names[1:], strict=False))
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
    return model([node("If", ["k"], ["y"], then_branch=inner, else_branch=leaf)], inputs=[value("x"), value("k", [], BOOL)])


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


_register_all(
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
            inputs=[value("x", [100_000])], output="y0",
        ),
        "20,000 undefined inputs": lambda: model([node("Sum", [f"ghost{index}" for index in range(20_000)], ["y"])]),
        "one name 5,000 times": lambda: model([*(node("Relu", ["x"], ["z"]) for _ in range(5000)), node("Relu", ["z"], ["y"])]),
        "one node name 20,000 times": lambda: model(
            [*(node("Relu", ["x"], [f"t{index}"], name="n") for index in range(20_000)), node("Relu", ["x"], ["y"])]
        ),
        "node names that look like made-up ones": lambda: model(
            [*(node("Relu", ["x"], [f"t{index}"], name="n" + "#2" * (index % 300)) for index in range(3000)), node("Relu", ["x"], ["y"])]
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
)  # fmt: skip


def _doubled_sequences() -> onnx.ModelProto:
    """Concatenated by inserting a sequence's elements one by one in nested maps is not possible; insertions in loops are."""
    inner = body(
        [node("Identity", ["go"], ["on"]), node("SequenceInsert", ["v", "x"], ["w"])], ["i", "go", "v"], ["on", "w"]
    )
    nodes = [node("SequenceConstruct", ["x"], ["s0"])]
    nodes += [node("Loop", ["n", "k", f"s{step}"], [f"s{step + 1}"], body=inner) for step in range(100)]
    nodes += [node("ConcatFromSequence", ["s100"], ["y"], axis=0)]
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


_register_all("names", {name: (lambda text=text: _named(text)) for name, text in HOSTILE_TEXTS.items()})
_register_all(
    "names",
    {
        "a megabyte": lambda: _named("n" * MEGABYTE),
        "a megabyte of controls": lambda: _named("\x1b" * MEGABYTE),
        "an undefined input of a megabyte": lambda: model([node("Relu", ["g" * MEGABYTE], ["y"])]),
        "a cycle through megabytes": lambda: model(
            [node("Add", ["x", "b" * MEGABYTE], ["y"], name="n" * MEGABYTE), node("Relu", ["y"], ["b" * MEGABYTE])]
        ),
        "an equation of a megabyte": lambda: _einsum("q" * MEGABYTE + "->"),
        "not UTF-8": lambda: model([node("Relu", ["x"], ["y"], name="REPLACE")])
        .SerializeToString()
        .replace(b"REPLACE", b"\xff\xfe\x80\xc0\xaf\xed\xa0"[:7]),
        "producer that is not UTF-8": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(2, b"\xff\xfe"),
        "doc_string that is not UTF-8": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(6, b"\xff\xfe"),
        "graph name that is not UTF-8": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(7, field(2, b"\xff")),
        "metadata that is not UTF-8": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString() + field(14, field(1, b"\xff")),
        "external location that is not UTF-8": lambda: model([node("Relu", ["x"], ["y"])]).SerializeToString()
        + field(7, field(5, field(8, b"w") + b"\x10\x07\x08\x01\x70\x01" + field(13, field(1, b"location") + field(2, b"\xff")))),
    },
)  # fmt: skip


# --- large, slow to build; marked slow in the tests


def chain(count: int) -> bytes:
    """A chain of Relu nodes, written without the message classes: a million of them would take a minute."""
    nodes = b"".join(
        field(1, field(1, b"x" if not index else b"t%d" % (index - 1)) + field(2, b"t%d" % index) + field(4, b"Relu"))
        for index in range(count)
    )
    return _framed(nodes, b"t%d" % (count - 1))


def initializers(count: int) -> bytes:
    """One node and as many initializers of one element."""
    tensors = b"".join(
        field(5, b"\x08\x01\x10\x01" + field(8, b"w%d" % index) + field(9, struct.pack("<f", 1.0))) for index in range(count)
    )
    add = field(1, field(1, b"x") + field(1, b"w0") + field(2, b"y") + field(4, b"Add"))
    return _framed(add + tensors, b"y")


def _framed(content: bytes, output: bytes) -> bytes:
    ends = field(11, value("x").SerializeToString()) + field(12, field(1, output))
    return b"\x08\x0a" + field(7, content + ends) + field(8, field(1, b"") + b"\x10\x15")
