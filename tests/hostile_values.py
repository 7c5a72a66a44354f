"""Hostile models by what stands in their tensors and attributes: dimensions, numbers, equations, constants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from hostile_models import STRING, hostile, register_all
from model_parts import body, constant, model, node, value

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
    nodes = [node("Concat", [a, a], [b], axis=0) for a, b in itertools.pairwise(names)]
    return model([*nodes, node("Relu", [names[-1]], ["y"])])


@hostile("dims: samples of 4,097 coordinates")
def _sampled() -> onnx.ModelProto:
    inputs = [value("x", [1, 1, 2]), value("g", [1, 4, 4097])]
    return model([node("GridSample", ["x", "g"], ["y"], mode="cubic")], inputs=inputs)


@hostile("dims: thirty loops of 2^30 in one another")
def _loops_in_loops() -> onnx.ModelProto:
    part = body([node("Add", ["x", "x"], ["t0"])], [], ["t0"])
    for depth in range(30):
        loop = node("Loop", ["n", ""], [f"t{depth + 1}"], body=_repeated(part))
        part = body([loop], [], [f"t{depth + 1}"])
    return model(
        [*part.node, node("Identity", ["t30"], ["y"])], [constant("n", np.int64(2**30)), constant("yes", True)]
    )


def _repeated(part: onnx.GraphProto) -> onnx.GraphProto:
    """The body of a Loop that carries nothing on and never ends before its limit."""
    inputs = [onnx.ValueInfoProto(name=name) for name in ("i", "go")]
    outputs = [onnx.ValueInfoProto(name="on"), *part.output]
    return helper.make_graph([*part.node, node("Identity", ["yes"], ["on"])], "body", inputs, outputs)


@hostile("dims: the gradient of a pooling without a kernel")
def _gradient_of_nothing() -> onnx.ModelProto:
    gradient = node("Gradient", ["x"], ["y"], domain="ai.onnx.preview.training", xs=["x"], y="t")
    made = model([node("MaxPool", ["x"], ["t"]), gradient], inputs=[value("x", [1, 1, 4, 4])])
    made.graph.value_info.append(value("t", [1, 1, 2, 2]))
    made.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    return made


@hostile("numbers: an axis of 2^63 - 1")
def _axis_beyond_all() -> onnx.ModelProto:
    """The native inference of onnx cuts it to -1 after it has checked it, and writes there."""
    return model([node("LayerNormalization", ["x", "x"], ["y", "mean", "deviation"], axis=2**63 - 1)])


@hostile("numbers: batch dimensions before the first")
def _negative_batch_dims() -> onnx.ModelProto:
    return model([node("GatherND", ["x", "i"], ["y"], batch_dims=-5)], [constant("i", np.int64([[0, 0]]))])


@hostile("numbers: a split into 2^31 - 1")
def _split_into_all() -> onnx.ModelProto:
    return model([node("Split", ["x"], ["y"], num_outputs=2**31 - 1)])


@hostile("numbers: a gradient by a number")
def _gradient_by_a_number() -> onnx.ModelProto:
    gradient = node("Gradient", ["x"], ["y"], domain="ai.onnx.preview.training", xs=3, y="t")
    made = model([node("Relu", ["x"], ["t"]), gradient])
    made.opset_import.append(helper.make_opsetid("ai.onnx.preview.training", 1))
    return made


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


register_all(
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

register_all(
    "numbers",
    {
        "NaN scales of a Resize": lambda: model(
            [node("Resize", ["x", "", "s"], ["y"])], [constant("s", np.float32(["nan", "inf"]))]
        ),
        "huge scales of a Resize": lambda: model(
            [node("Resize", ["x", "", "s"], ["y"])], [constant("s", np.float32([3e38, 3e38]))]
        ),
        "NaN ratio of a Dropout": lambda: model(
            [node("Dropout", ["x", "r"], ["y"])], [constant("r", np.float32("nan"))]
        ),
        "NaN alpha": lambda: model(
            [node("Gemm", ["x", "w"], ["y"], alpha=float("nan"), transB=1)], inputs=[value("x"), value("w")]
        ),
        "infinite epsilon": lambda: model(
            [node("LayerNormalization", ["x", "s"], ["y"], epsilon=float("inf"))], inputs=[value("x"), value("s", [3])]
        ),
        "NaN in a Constant": lambda: model(
            [node("Constant", [], ["c"], value_float=float("nan")), node("Add", ["x", "c"], ["y"])]
        ),
    },
)


# --- what libraries hang or crash on


def _einsum(equation: str, operands: int = 2, dims: Sequence[int] = (2, 3)) -> onnx.ModelProto:
    names = [f"x{index}" for index in range(operands)]
    return model([node("Einsum", names, ["y"], equation=equation)], inputs=[value(name, dims) for name in names])


EQUATIONS = {
    "empty": "",
    "an arrow": "->",
    "two arrows": "ij,jk->->ik",
    "dots": "....",
    "two dots": "..,..->..",
    "four dots": "....i,....j->ij",
    "ellipsis twice": "...i...,j->ij",
    "nothing but commas": "," * 5000,
    "no letters": "12,34->14",
    "control characters": "i\x00j,j\nk->ik",
    "an unknown output": "ij,jk->iz",
    "an output letter twice": "ij,jk->ii",
    "letters beyond ASCII": "\u03b1\u03b2,\u03b2\u03b3->\u03b1\u03b3",
    "a million letters": "i" * 1_000_000,
    "an output of a million letters": "ij,jk->" + "ik" * 500_000,
    "a letter 30 times": "i" * 30 + "," + "j" * 30,
    "spaces": " i j , j k -> i k ",
    "an arrow in half": "ij,jk-ik",
    "a bare arrow head": "ij,jk>ik",
    "brackets": "[ij],jk->ik",
    "dots at the end": "ij,jk->ik...",
    "dots apart": "i.j.,.jk->ik",
    "one dot": "i.,jk->ik",
}
register_all("einsum", {name: (lambda text=text: _einsum(text)) for name, text in EQUATIONS.items()})
register_all("einsum", {"six hundred operands": lambda: _einsum(",".join(["ij"] * 600) + "->", 600)})


def _constant_einsum(equation: str, size: int, rank: int = 1) -> onnx.ModelProto:
    data = constant("c", np.ones((size,) * rank, np.float32))
    terms = equation.split("->")[0].count(",") + 1
    return model([node("Einsum", ["c"] * terms, ["d"], equation=equation), node("Add", ["x", "d"], ["y"])], [data])


register_all(
    "folding",
    {
        "an Einsum of constants": lambda: _constant_einsum("a,b,c,d,e,f,g->", 900),
        "a regular expression that backtracks": lambda: model(
            [node("RegexFullMatch", ["s"], ["y"], pattern="(a+)+(b+)+(a*)*$")],
            [helper.make_tensor("s", STRING, [1], [b"a" * 60 + b"!"])],
            [],
        ),
        "texts that double": lambda: model(
            [node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(70)]
            + [node("Identity", ["s70"], ["y"])],
            [helper.make_tensor("s0", STRING, [1], [b"boom"])],
            [],
        ),
        "numbers that become texts that double": lambda: model(
            [
                node("Cast", ["n"], ["s0"], to=STRING),
                *(node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(70)),
                node("Identity", ["s70"], ["y"]),
            ],
            [constant("n", np.int64([123456789]))],
            [],
        ),
        "a tile of a tile": lambda: model(
            [node("Tile", ["c", "r"], ["t0"])]
            + [node("Tile", [f"t{i}", "r"], [f"t{i + 1}"]) for i in range(60)]
            + [node("Identity", ["t60"], ["y"])],
            [constant("c", np.float32([1])), constant("r", np.int64([64]))],
            [],
        ),
        "a convolution of constants": lambda: model(
            [node("Conv", ["c", "k"], ["y"], pads=[30, 30, 30, 30])],
            [constant("c", np.ones((1, 1, 30, 30), np.float32)), constant("k", np.ones((1, 1, 30, 30), np.float32))],
            [],
        ),
        "a deformable convolution of constants": lambda: model(
            [node("DeformConv", ["c", "k", "o"], ["y"])],
            [
                constant("c", np.ones((1, 1, 30, 30), np.float32)),
                constant("k", np.ones((1, 1, 20, 20), np.float32)),
                constant("o", np.zeros((1, 2, 20, 20), np.float32)),
            ],
            [],
            opset=19,
        ),
        "a pool with a window of 2^62": lambda: model(
            [node("MaxPool", ["c"], ["y"], kernel_shape=[2**62, 2**62], pads=[2**61] * 4)],
            [constant("c", np.ones((1, 1, 9, 9), np.float32))],
            [],
        ),
        "a pad of 2^40": lambda: model(
            [node("Pad", ["c", "p"], ["y"])],
            [constant("c", np.float32([1])), constant("p", np.int64([2**40, 2**40]))],
            [],
        ),
        "a split into a million parts": lambda: model(
            [node("SplitToSequence", ["c", "p"], ["s"]), node("SequenceLength", ["s"], ["y"])],
            [constant("c", np.ones(4000, np.float32)), constant("p", np.int64(1))],
            [],
        ),
        "a window of 2^40": lambda: model([node("HannWindow", ["n"], ["y"])], [constant("n", np.int64(2**40))], []),
        "a transform of 2^40": lambda: model(
            [node("DFT", ["c", "n"], ["y"])],
            [constant("c", np.ones((1, 9, 1), np.float32)), constant("n", np.int64(2**40))],
            [],
            opset=20,
        ),
        "mel weights without end": lambda: model(
            [node("MelWeightMatrix", ["a", "b", "c", "d", "e"], ["y"])],
            [
                constant("a", np.int64(2**31)),
                constant("b", np.int64(2**31)),
                constant("c", np.int64(8192)),
                constant("d", np.float32(0)),
                constant("e", np.float32(1e9)),
            ],
            [],
        ),
        "one-hot of 2^40": lambda: model(
            [node("OneHot", ["i", "n", "v"], ["y"])],
            [constant("i", np.int64([1])), constant("n", np.int64(2**40)), constant("v", np.float32([0, 1]))],
            [],
        ),
        "a shift by 2^63": lambda: model(
            [node("BitShift", ["a", "b"], ["y"], direction="LEFT")],
            [constant("a", np.uint64([1])), constant("b", np.uint64([2**63]))],
            [],
        ),
        "division by zero": lambda: model(
            [node("Div", ["a", "b"], ["d"]), node("Mod", ["d", "b"], ["y"])],
            [constant("a", np.int64([1])), constant("b", np.int64([0]))],
            [],
        ),
        "the least integer over minus one": lambda: model(
            [node("Div", ["a", "b"], ["y"])], [constant("a", np.int64([-(2**63)])), constant("b", np.int64([-1]))], []
        ),
        "indices far outside": lambda: model(
            [node("Gather", ["c", "i"], ["y"])],
            [constant("c", np.int64([1])), constant("i", np.int64([2**62, -(2**62)]))],
            [],
        ),
        "a resize to 2^40": lambda: model(
            [node("Resize", ["c", "", "", "s"], ["y"])],
            [constant("c", np.ones((1, 1, 2, 2), np.float32)), constant("s", np.int64([1, 1, 2**20, 2**20]))],
            [],
        ),
        "upsampling by 10^30": lambda: model(
            [node("Upsample", ["c", "s"], ["y"])],
            [constant("c", np.ones((1, 1, 2, 2), np.float32)), constant("s", np.float32([1, 1, 1e30, 1e30]))],
            [],
            opset=9,
        ),
        "n-grams without end": lambda: model(
            [
                node(
                    "TfIdfVectorizer",
                    ["c"],
                    ["y"],
                    mode="TF",
                    min_gram_length=1,
                    max_gram_length=2**40,
                    max_skip_count=2**40,
                    ngram_counts=[0, 1],
                    ngram_indexes=[0, 2**40],
                    pool_int64s=[1, 2],
                )
            ],
            [constant("c", np.int64(range(100)))],
            [],
        ),
        "a col2im of 2^31": lambda: model(
            [node("Col2Im", ["c", "i", "b"], ["y"])],
            [
                constant("c", np.ones((1, 1, 1), np.float32)),
                constant("i", np.int64([2**31, 2**31])),
                constant("b", np.int64([1, 1])),
            ],
            [],
        ),
        "a loop of constants without end": lambda: model(
            [
                node(
                    "Loop",
                    ["n", "k", "c"],
                    ["y"],
                    body=body(
                        [node("Identity", ["go"], ["on"]), node("Add", ["v", "v"], ["w"])],
                        ["i", "go", "v"],
                        ["on", "w"],
                    ),
                )
            ],
            [constant("n", np.int64(2**62)), constant("k", np.bool_(True)), constant("c", np.int64([1]))],
            [],
        ),
        "recurrent constants": lambda: model(
            [node("LSTM", ["c", "w", "r"], ["y"], hidden_size=20)],
            [
                constant("c", np.ones((1000, 1, 1), np.float32)),
                constant("w", np.ones((1, 80, 1), np.float32)),
                constant("r", np.ones((1, 80, 20), np.float32)),
            ],
            [],
        ),
        "non-maximum suppression of constants": lambda: model(
            [node("NonMaxSuppression", ["b", "s", "m"], ["y"])],
            [
                constant("b", np.random.default_rng(0).random((1, 250, 4), np.float32)),
                constant("s", np.ones((1, 4, 250), np.float32)),
                constant("m", np.int64([2**62])),
            ],
            [],
        ),
        "a custom attribute as graph": lambda: model(
            [
                node("Constant", [], ["c"], value=constant("", np.float32([1]))),
                node("Relu", ["c"], ["y"], body=body([])),
            ],
            [],
            [],
        ),
    },
)
