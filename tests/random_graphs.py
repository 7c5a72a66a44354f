"""Random graphs for property tests: valid by construction, of the operators that networks are made of.

A graph is a list of blocks; a block is one operator, or a few that belong together (shape arithmetic and the Reshape
that it feeds). Between blocks only float32 tensors flow that depend on the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
OPSET = 20
MOST_ELEMENTS = 4000
Shape = tuple[int, ...]
Draw = Callable[..., Any]


@dataclass
class Network:
    """A graph that grows block by block.

    Attributes:
        input_shape: of the one input, x.
        blocks: nodes of each block, in execution order.
        constants: initializers by name.
        shapes: float32 tensors that flow between blocks.
    """

    input_shape: Shape
    blocks: list[list[onnx.NodeProto]] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    _number: int = 0

    def name(self, stem: str) -> str:
        self._number += 1
        return f"{stem}{self._number}"

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = self.name("c")
        self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(np.ones(shape))

    def block(self, nodes: Sequence[onnx.NodeProto], **made: Shape) -> None:
        self.blocks.append(list(nodes))
        self.shapes.update(made)

    def add(self, op_type: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> None:
        """A block of one node with one output of this shape."""
        name = self.name("t")
        self.block([helper.make_node(op_type, inputs, [name], name=self.name("n"), **attributes)], **{name: shape})

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        return [node for block in self.blocks for node in block]

    @property
    def outputs(self) -> list[str]:
        """Tensors that nothing reads."""
        read = {name for node in self.nodes for name in node.input}
        return [name for name in self.shapes if name not in read and name != "x"]

    def model(self) -> onnx.ModelProto:
        return model_of(self.nodes, {"x": self.input_shape}, self.outputs, self.constants)


def value(name: str, shape: Shape | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name) if shape is None else helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Shape],
    outputs: Sequence[str],
    constants: dict[str, onnx.TensorProto],
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model that declares nothing about what it computes, with the constants that it needs."""
    read = set(outputs).union(*(names_read(node) for node in nodes))
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, None) for name in outputs],
        [tensor for name, tensor in constants.items() if name in read],
    )
    imports = [helper.make_opsetid("", OPSET), *([helper.make_opsetid("local", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)


def names_read(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, in its subgraphs too."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names.update(*(names_read(inner) for inner in attribute.g.node))
    return names


@st.composite
def networks(draw: Draw, most_blocks: int = 12) -> Network:
    """Random networks of up to `most_blocks` blocks."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    network = Network(shape, shapes={"x": shape})
    for _ in range(draw(st.integers(2, most_blocks))):
        name = draw(st.sampled_from(sorted(network.shapes)))
        usable = [build for build, ranks in _BLOCKS.items() if len(network.shapes[name]) in ranks]
        draw(st.sampled_from(usable))(draw, network, name, network.shapes[name])
    if not network.blocks:  # every block that was drawn had no room
        network.add("Relu", ["x"], shape)
    return network


def _unary(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    op_type = draw(st.sampled_from(["Relu", "Neg", "Sigmoid", "Tanh", "Erf", "HardSwish", "Identity", "Abs", "Gelu"]))
    network.add(op_type, [name], shape)


def _softmax(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    network.add(draw(st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"])), [name], shape, axis=axis)


def _normalised(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    scale = network.weight(*shape[axis:])
    network.add("LayerNormalization", [name, scale], shape, axis=axis)


def _binary(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    op_type = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"]))
    same = [other for other, found in network.shapes.items() if found == shape]
    if draw(st.booleans()):
        network.add(op_type, [name, draw(st.sampled_from(same))], shape)
        return
    # One operand is stretched along some axes, the other along others.
    other = tuple(draw(st.sampled_from([1, size, size if size > 1 else 3])) for size in shape)
    other = other[draw(st.integers(0, len(other))) :]
    result = np.broadcast_shapes(shape, other)
    if math.prod(result) <= MOST_ELEMENTS:
        network.add(op_type, [name, network.weight(*other)], result)


def _where(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    truth, made = network.name("b"), network.name("t")
    other = network.weight(*shape[draw(st.integers(0, len(shape))) :])
    nodes = [
        helper.make_node("Greater", [name, network.weight()], [truth]),
        helper.make_node("Where", [truth, name, other], [made]),
    ]
    network.block(nodes, **{made: shape})


def _matmul(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    width = draw(st.integers(1, 7))
    network.add("MatMul", [name, network.weight(shape[-1], width)], (*shape[:-1], width))


def _gemm(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    width, turned, other = draw(st.integers(1, 7)), draw(st.booleans()), draw(st.booleans())
    rows, inner = shape[::-1] if turned else shape
    weight = network.weight(width, inner) if other else network.weight(inner, width)
    bias = [network.weight(width)] if draw(st.booleans()) else []
    network.add("Gemm", [name, weight, *bias], (rows, width), transA=int(turned), transB=int(other))


def _conv(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    rank = len(shape) - 2
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides, dilations = ([draw(st.integers(1, 2)) for _ in range(rank)] for _ in range(2))
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    filters = draw(st.integers(1, 4))
    spatial = [
        (shape[2 + i] + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i in range(rank)
    ]
    if min(spatial) < 1:
        return
    group = draw(st.sampled_from([1, shape[1]]))
    weight = network.weight(filters * group, shape[1] // group, *kernel)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    network.add("Conv", [name, weight], (shape[0], filters * group, *spatial), **attributes)


def _pool(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    rank = len(shape) - 2
    kernel = [draw(st.integers(1, min(3, size))) for size in shape[2:]]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    up = draw(st.booleans())
    spatial = []
    for size, window, stride in zip(shape[2:], kernel, strides, strict=True):
        number = -(-(size - window) // stride) + 1 if up else (size - window) // stride + 1
        # A window that would start behind the tensor is left out.
        spatial.append(number - (up and (number - 1) * stride >= size))
    op_type = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    attributes = {"kernel_shape": kernel, "strides": strides, "ceil_mode": int(up)}
    network.add(op_type, [name], (*shape[:2], *spatial), **attributes)


def _reshape(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    size = math.prod(shape)
    first = draw(st.sampled_from([number for number in range(1, size + 1) if size % number == 0]))
    asked = draw(st.sampled_from([[first, -1], [-1, first], [-1], [first, size // first, 1]]))
    result = tuple(math.prod(shape) // first if number == -1 and len(asked) > 1 else number for number in asked)
    network.add("Reshape", [name, network.constant(asked, np.int64)], (size,) if asked == [-1] else result)


def _computed_reshape(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    """Reshape to [d, -1], where d is computed from the shape of the tensor as exporters write it."""
    axis, made = draw(st.integers(0, len(shape) - 1)), network.name("t")
    dims, one, asked = network.name("i"), network.name("i"), network.name("i")
    nodes = [
        helper.make_node("Shape", [name], [dims]),
        helper.make_node("Gather", [dims, network.constant([axis], np.int64)], [one]),
        helper.make_node("Concat", [one, network.constant([-1], np.int64)], [asked], axis=0),
        helper.make_node("Reshape", [name, asked], [made]),
    ]
    network.block(nodes, **{made: (shape[axis], math.prod(shape) // shape[axis])})


def _transpose(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    order = draw(st.permutations(range(len(shape))))
    network.add("Transpose", [name], tuple(shape[axis] for axis in order), perm=list(order))


def _concat(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    extra = list(shape)
    extra[axis] = draw(st.integers(1, 3))
    result = list(shape)
    result[axis] += extra[axis]
    if math.prod(result) <= MOST_ELEMENTS:
        network.add("Concat", [name, network.weight(*extra)], tuple(result), axis=axis)


def _reduce(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    keep = draw(st.booleans())
    result = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    op_type = draw(st.sampled_from(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"]))
    given = network.constant([axis - len(shape) if draw(st.booleans()) else axis for axis in axes], np.int64)
    network.add(op_type, [name, given], tuple(result), keepdims=int(keep))


def _slice(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(0, len(shape) - 1))
    bound = st.one_of(st.integers(-9, 9), st.sampled_from([2**63 - 1, -(2**63), 2**31 - 1, -(2**31)]))
    start, end, step = draw(bound), draw(bound), draw(st.sampled_from([1, 2, 3, -1, -2]))
    if step < 0 and end > 9:
        return  # "to the end" of a slice that goes backwards: runtimes and numpy disagree
    length = len(range(shape[axis])[start:end:step])
    if length:
        bounds = [network.constant([number], np.int64) for number in (start, end, axis, step)]
        network.add("Slice", [name, *bounds], (*shape[:axis], length, *shape[axis + 1 :]))


def _gather(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(0, len(shape) - 1))
    picked = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
    indices: Any = draw(st.sampled_from([picked, picked[0], [picked]]))
    network.add(
        "Gather",
        [name, network.constant(indices, np.int64)],
        (*shape[:axis], *np.shape(indices), *shape[axis + 1 :]),
        axis=axis,
    )


def _split(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(0, len(shape) - 1))
    if shape[axis] < 2:
        return
    first, made = draw(st.integers(1, shape[axis] - 1)), [network.name("t"), network.name("t")]
    sizes = network.constant([first, shape[axis] - first], np.int64)
    parts = [(*shape[:axis], size, *shape[axis + 1 :]) for size in (first, shape[axis] - first)]
    node = helper.make_node("Split", [name, sizes], made, axis=axis)
    network.block([node], **dict(zip(made, parts, strict=True)))


def _expand(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    asked = [size if size > 1 else draw(st.integers(1, 4)) for size in shape]
    result = (draw(st.integers(1, 3)), *asked)
    if len(result) < 5 and math.prod(result) <= MOST_ELEMENTS:
        network.add("Expand", [name, network.constant(result, np.int64)], result)


def _pad(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    pads = [draw(st.integers(0, 2)) for _ in range(2 * len(shape))]
    result = tuple(size + pads[axis] + pads[len(shape) + axis] for axis, size in enumerate(shape))
    if math.prod(result) <= MOST_ELEMENTS:
        network.add("Pad", [name, network.constant(pads, np.int64)], result)


def _unsqueeze(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(0, len(shape)))
    given = axis - len(shape) - 1 if draw(st.booleans()) else axis
    network.add("Unsqueeze", [name, network.constant([given], np.int64)], (*shape[:axis], 1, *shape[axis:]))


def _squeeze(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    network.add("Squeeze", [name], tuple(size for size in shape if size != 1))


def _tile(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    repeats = [draw(st.integers(1, 2)) for _ in shape]
    result = tuple(size * times for size, times in zip(shape, repeats, strict=True))
    if math.prod(result) <= MOST_ELEMENTS:
        network.add("Tile", [name, network.constant(repeats, np.int64)], result)


def _flatten(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(0, len(shape)))
    network.add("Flatten", [name], (math.prod(shape[:axis]), math.prod(shape[axis:])), axis=axis)


def _largest(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    number, made = draw(st.integers(1, shape[axis])), network.name("t")
    result = list(shape)
    result[axis] = number
    inputs = [name, network.constant([number], np.int64)]
    node = helper.make_node("TopK", inputs, [made, network.name("i")], axis=axis)
    network.block([node], **{made: tuple(result)})


def _resize(draw: Draw, network: Network, name: str, shape: Shape) -> None:
    # Exact in single precision: of others, onnxruntime's inference and its kernel make different sizes.
    scales = [draw(st.sampled_from([0.5, 1.0, 1.25, 2.0])) for _ in shape]
    result = tuple(math.floor(size * scale) for size, scale in zip(shape, scales, strict=True))
    if 0 < math.prod(result) <= MOST_ELEMENTS:
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        network.add("Resize", [name, "", network.constant(scales)], result, **attributes)


_ANY, _SOME = range(9), range(1, 9)  # ranks that a block takes
_BLOCKS: dict[Callable[[Draw, Network, str, Shape], None], range] = {
    _unary: _ANY,
    _softmax: _SOME,
    _normalised: _SOME,
    _binary: _ANY,
    _where: _ANY,
    _matmul: _SOME,
    _gemm: range(2, 3),
    _conv: range(3, 5),
    _pool: range(3, 5),
    _reshape: _ANY,
    _computed_reshape: _SOME,
    _transpose: _SOME,
    _concat: _SOME,
    _reduce: _SOME,
    _slice: _SOME,
    _gather: range(1, 5),
    _split: _SOME,
    _expand: _SOME,
    _pad: _SOME,
    _unsqueeze: range(5),
    _squeeze: _SOME,
    _tile: _SOME,
    _flatten: _ANY,
    _largest: _SOME,
    _resize: _SOME,
}
