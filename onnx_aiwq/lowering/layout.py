"""The blocked layout of images: channels in blocks of 16 (AVX-512) or 8, and the reorders in and out of it.

A convolution or pooling whose channels fill blocks runs on blocked tensors. What follows it on blocked tensors stays
there where it can (activations, sums, products, concatenations, batch normalisation, resizing); everything else gets
its input back in the plain layout through a ReorderOutput.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from onnx_aiwq.lowering.activations import CONTRIB, activation_of, is_gate_of_hard_swish
from onnx_aiwq.lowering.folding import is_per_channel
from onnx_aiwq.lowering.matching import WorkingGraph, traversal
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

BLOCKED = "com.microsoft.nchwc"
_CHANNEL_UNIT = 4  # a reorder moves channels in fours
_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)
_FIRST_IN_BLOCKS = ("Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")  # others follow one of them


class _Blocked(msgspec.Struct, eq=False):
    """A tensor that is held in blocks.

    Attributes:
        maker: the node that makes it.
        name: of the blocked tensor.
        plain: of the tensor in the plain layout that it stands for.
        uses: how often the plain tensor was read.
        left: how many of those reads are not on the blocked tensor yet.
        channels: without the padding of the last block.
    """

    maker: Node
    name: str
    plain: str
    uses: int
    left: int
    channels: int


class _Layout:
    def __init__(self, work: WorkingGraph, block: int) -> None:
        self.work = work
        self.block = block
        self.blocked: dict[str, _Blocked] = {}
        self.reordered: dict[tuple[str, bool], str] = {}

    def visit(self, node: Node) -> None:
        """Move one node to the blocked layout, where it can run there."""
        if node.is_a("Conv") or node.is_a("FusedConv", domain=CONTRIB):
            self.convolution(node)
        elif node.is_a("MaxPool", "AveragePool"):
            self.pooling(node)
        elif node.is_a("GlobalMaxPool", "GlobalAveragePool"):
            if node.inputs[0] in self.blocked or self.work.producer(node.inputs[0]) is None:
                self.pooling(node)
        elif node.is_a("Mul") and any(map(self.work.is_constant, node.inputs)):
            self.scaling(node)
        elif not node.inputs or node.inputs[0] not in self.blocked:
            return
        elif node.is_a("Add", "Sum", "Mul"):
            self.binary(node)
        elif node.is_a("Concat"):
            self.concatenation(node)
        elif node.is_a("Relu", "Sigmoid", "Tanh", "HardSigmoid", "Gelu") or node.is_a(
            "Gelu", "QuickGelu", domain=CONTRIB
        ):
            self.activation(node)
        elif node.is_a("BatchNormalization"):
            self.normalization(node)
        elif node.is_a("Transpose"):
            self.transposition(node)
        elif node.is_a("Resize", "Upsample"):
            self.resizing(node)

    def up(self, channels: int) -> int:
        """Channels with the last block filled."""
        return -(-channels // self.block) * self.block

    # What reads an image in either layout

    def convolution(self, node: Node) -> None:
        work = self.work
        weight, group = work.shape(node.input(1)), int(node.attributes.get("group", 1))
        constant = all(not name or work.is_constant(name) for name in node.inputs[1:3])
        if not constant or weight is None or len(weight) != 4 or work.dtype(node.input(1)) is not DType.FLOAT:
            return
        if node.input(3) or work.shape(node.output) is None:
            return
        aligned = self.aligned_weight(weight, group)
        if aligned is None:
            return
        blocked_input = group > 1 or weight[1] >= self.block
        source = self.input(node) if blocked_input else node.inputs[0]
        inputs = [source, self.padded(node, 1, aligned)]
        if node.input(2):
            inputs.append(self.padded(node, 2, aligned[:1]))
        depthwise = group > 1 and weight[1] == 1
        attributes = {**node.attributes, "group": aligned[0] if depthwise else group}
        self.replace(node, "Conv", inputs, attributes, weight[0])

    def aligned_weight(self, weight: tuple[int, ...], group: int) -> tuple[int, ...] | None:
        """The shape of the weights filled up to blocks; None where the convolution cannot run on blocks."""
        results, depth, *kernel = weight
        if group == 1:
            if depth >= self.block and depth % _CHANNEL_UNIT:
                return None
            return (self.up(results), depth if depth < self.block else self.up(depth), *kernel)
        if depth == 1 and results == group:
            return None if results % _CHANNEL_UNIT else (self.up(results), 1, *kernel)
        whole = depth % self.block == 0 and results % group == 0 and (results // group) % self.block == 0
        return weight if whole else None

    def padded(self, node: Node, index: int, shape: Sequence[int]) -> str:
        name = node.inputs[index]
        if self.work.shape(name) == tuple(shape):
            return name
        return self.work.make_tensor(f"{name}/blocked", self.work.dtype(name), shape, constant=True)

    def pooling(self, node: Node) -> None:
        work = self.work
        shape = work.shape(node.inputs[0])
        if any(node.outputs[1:]) or shape is None or len(shape) != 4 or shape[1] % self.block:
            return
        if work.dtype(node.inputs[0]) is not DType.FLOAT:
            return
        self.replace(node, node.op_type, [self.input(node)], node.attributes, shape[1])

    def input(self, node: Node) -> str:
        """The first input of a node in blocks, reordered where nothing made it so."""
        work, name = self.work, node.inputs[0]
        known = self.blocked.get(name)
        if known is not None:
            known.left -= 1
            return known.name
        maker = work.maker(node, 0)
        last = maker is not None and maker.is_a("Transpose") and tuple(maker.attributes.get("perm", ())) == _FROM_LAST
        source = maker.inputs[0] if last and maker is not None else name
        key = (source, last)
        if key not in self.reordered:
            shape = work.shape(name) or (0, 0, 0, 0)
            result = work.make_tensor(f"{name}/blocked", work.dtype(name), (shape[0], self.up(shape[1]), *shape[2:]))
            self.reordered[key] = result
            work.add(
                "ReorderInput",
                BLOCKED,
                [source],
                [result],
                {"channels_last": int(last)},
                anchor=node,
                stands_for=node.stands_for[:1],
                shift=-0.4,
                name=f"{node.name}/ReorderInput",
            )
        return self.reordered[key]

    # What stays in blocks

    def binary(self, node: Node) -> None:
        several = [self.blocked.get(name) for name in node.inputs]
        inputs = [each for each in several if each is not None]
        if len(inputs) != len(several) or len({each.channels for each in inputs}) != 1:
            return
        adds = not node.is_a("Mul")
        if len({self.work.shape(name) for name in node.inputs}) == 1:
            for each in inputs:
                each.left -= 1
            if not (self.sum_into_convolution if adds else self.hard_swish)(node, inputs):
                self.in_place(node, [each.name for each in inputs], inputs[0].channels)
        elif adds:
            self.sum_by_reshapes(node, inputs)

    def sum_into_convolution(self, node: Node, inputs: Sequence[_Blocked]) -> bool:
        if len(inputs) != 2:
            return False
        for index, each in enumerate(inputs):
            conv = each.maker
            if not conv.is_a("Conv", domain=BLOCKED) or conv.input(3) or each.uses != 1:
                continue
            if conv.attributes.get("activation"):
                continue
            self.work.set_input(conv, 3, inputs[1 - index].name)
            self.absorb(conv, node, each)
            return True
        return False

    def hard_swish(self, node: Node, inputs: Sequence[_Blocked]) -> bool:
        """Let a convolution multiply its result with the HardSigmoid of it, where nothing else reads either."""
        if len(inputs) != 2 or node.output in self.work.kept:
            return False
        for each, gate in (inputs, inputs[::-1]):
            conv, sigmoid = each.maker, gate.maker
            if not sigmoid.is_a("HardSigmoid") or sigmoid.inputs[0] != each.name or gate.uses != 1 or each.uses != 2:
                continue
            if not conv.is_a("Conv", domain=BLOCKED) or conv.attributes.get("activation"):
                continue
            if is_gate_of_hard_swish(sigmoid):
                self.work.set_attributes(conv, activation="HardSwish")
                self.work.remove(sigmoid)
                conv.stands_for = (*conv.stands_for, *sigmoid.stands_for)
                self.absorb(conv, node, each)
                return True
        return False

    def absorb(self, conv: Node, node: Node, into: _Blocked) -> None:
        """Let a blocked convolution do the work of the node after it."""
        uses = self.work.uses(node.output)
        self.work.remove(node)
        conv.stands_for = (*conv.stands_for, *node.stands_for)
        self.work.move(conv, node.order)
        self.blocked[node.output] = _Blocked(conv, into.name, node.output, uses, uses, into.channels)

    def sum_by_reshapes(self, node: Node, inputs: Sequence[_Blocked]) -> None:
        """A sum that broadcasts runs on tensors with the block as a dimension of its own."""
        work, names = self.work, []
        for each in inputs:
            each.left -= 1
            batch, channels, *image = work.shape(each.name) or (0, 0, 0, 0)
            shape = (batch, channels // self.block, *image, self.block)
            names.append(self.reshaped(node, each.name, shape, -0.1))
        batch, _, *image = work.shape(node.output) or (0, 0, 0, 0)
        channels = self.up(inputs[0].channels)
        split = work.make_tensor(
            f"{node.output}/split",
            work.dtype(node.output),
            (batch, channels // self.block, *image, self.block),
        )
        plain, uses = node.output, work.uses(node.output)
        for index, name in enumerate(names):
            work.set_input(node, index, name)
        work.set_output(node, 0, split)
        joined = self.reshaped(node, split, (batch, channels, *image), 0.1)
        self.blocked[plain] = _Blocked(node, joined, plain, uses, uses, inputs[0].channels)

    def reshaped(self, node: Node, name: str, shape: Sequence[int], shift: float) -> str:
        work = self.work
        value = np.asarray((0, shape[1], *(0,) * (len(shape) - 3), shape[-1]) if len(shape) == 5 else shape, np.int64)
        target = work.make_tensor(f"{name}/shape", DType.INT64, value.shape, constant=True, value=value)
        result = work.make_tensor(f"{name}/reshaped", work.dtype(name), shape)
        work.add(
            "Reshape",
            "",
            [name, target],
            [result],
            {"allowzero": 0},
            anchor=node,
            stands_for=node.stands_for[:1],
            shift=shift,
            name=f"{node.name}/Reshape",
        )
        return result

    def concatenation(self, node: Node) -> None:
        several = [self.blocked.get(name) for name in node.inputs]
        inputs = [each for each in several if each is not None]
        if node.attributes.get("axis") != 1 or len(inputs) != len(several):
            return
        if any(each.channels % self.block for each in inputs):
            return
        for each in inputs:
            each.left -= 1
        self.in_place(node, [each.name for each in inputs], sum(each.channels for each in inputs))

    def activation(self, node: Node) -> None:
        source = self.blocked[node.inputs[0]]
        source.left -= 1
        conv = source.maker
        added = activation_of(self.work, node)
        fits = conv.is_a("Conv", domain=BLOCKED) and source.uses == 1 and not conv.attributes.get("activation")
        if added is not None and fits and conv.outputs[0] == source.name:
            self.work.set_attributes(conv, **added)
            self.absorb(conv, node, source)
        else:
            self.in_place(node, [source.name], source.channels)

    def normalization(self, node: Node) -> None:
        """Batch normalisation that no convolution took is a depthwise convolution with a kernel of one."""
        work, source = self.work, self.blocked[node.inputs[0]]
        if any(name and work.uses(name) for name in node.outputs[1:]):
            return
        if not all(work.is_constant(name) for name in node.inputs[1:5]):
            return
        source.left -= 1
        channels = self.up(source.channels)
        dtype = work.dtype(node.inputs[0])
        weight = work.make_tensor(f"{node.name}/scale", dtype, (channels, 1, 1, 1), constant=True)
        bias = work.make_tensor(f"{node.name}/shift", dtype, (channels,), constant=True)
        self.replace(node, "Conv", [source.name, weight, bias], {"group": channels}, source.channels)

    def scaling(self, node: Node) -> None:
        """So is a product with one constant for each channel."""
        index = 0 if node.inputs[0] in self.blocked else 1
        source = self.blocked.get(node.inputs[index])
        shape = self.work.shape(node.inputs[1 - index])
        if source is None or shape is None or not is_per_channel(shape, 4, source.channels):
            return
        source.left -= 1
        channels = self.up(source.channels)
        dtype = self.work.dtype(node.output)
        weight = self.work.make_tensor(f"{node.name}/scale", dtype, (channels, 1, 1, 1), constant=True)
        self.replace(node, "Conv", [source.name, weight], {"group": channels}, source.channels)

    def transposition(self, node: Node) -> None:
        source = self.blocked[node.inputs[0]]
        if tuple(node.attributes.get("perm", ())) != _TO_LAST:
            return
        source.left -= 1
        self.work.fuse(
            node,
            [],
            "ReorderOutput",
            BLOCKED,
            [source.name],
            node.outputs,
            {"channels": source.channels, "channels_last": 1},
        )

    def resizing(self, node: Node) -> None:
        work, source = self.work, self.blocked[node.inputs[0]]
        before, after = work.shape(node.inputs[0]), work.shape(node.output)
        mode = str(node.attributes.get("mode", "nearest"))
        where = str(node.attributes.get("coordinate_transformation_mode", "asymmetric"))
        nearest = node.attributes.get("nearest_mode", "floor")
        if node.is_a("Resize") and node.version >= 11:
            if node.input(3) or not node.input(2) or not work.is_constant(node.input(2)):
                return
            allowed = ("asymmetric",) if mode == "nearest" else ("asymmetric", "align_corners", "half_pixel")
            if where not in allowed or (mode == "nearest" and nearest != "floor"):
                return
        elif not work.is_constant(node.input(1)):
            return
        if mode not in ("nearest", "linear") or before is None or after is None or before[:2] != after[:2]:
            return
        scales = tuple(new // old if old else 0 for old, new in zip(before, after, strict=True))
        if any(old * scale != new for old, new, scale in zip(before, after, scales, strict=True)) or 0 in scales:
            return
        source.left -= 1
        attributes = {"scales": scales, "mode": mode, "coordinate_transformation_mode": where}
        self.replace(node, "Upsample", [source.name], attributes, source.channels)

    # Results

    def replace(
        self, node: Node, op_type: str, inputs: Sequence[str], attributes: Mapping[str, Any], channels: int
    ) -> None:
        """Put a blocked operator in the place of a plain one."""
        work, plain = self.work, node.output
        uses = work.uses(plain)
        name = self.blocked_result(plain, channels)
        made = work.fuse(node, [], op_type, BLOCKED, inputs, [name], attributes)
        self.blocked[plain] = _Blocked(made, name, plain, uses, uses, channels)

    def in_place(self, node: Node, inputs: Sequence[str], channels: int) -> None:
        """Let an operator work on blocked tensors as it is."""
        work, plain = self.work, node.output
        uses = work.uses(plain)
        for index, name in enumerate(inputs):
            work.set_input(node, index, name)
        name = self.blocked_result(plain, channels)
        work.set_output(node, 0, name)
        self.blocked[plain] = _Blocked(node, name, plain, uses, uses, channels)

    def blocked_result(self, plain: str, channels: int) -> str:
        shape = self.work.shape(plain)
        dims = None if shape is None else (shape[0], self.up(channels), *shape[2:])
        return self.work.make_tensor(f"{plain}/blocked", self.work.dtype(plain), dims)

    def finish(self) -> None:
        """Reorder back what is still read in the plain layout."""
        for each in self.blocked.values():
            if each.left > 0:
                self.work.add(
                    "ReorderOutput",
                    BLOCKED,
                    [each.name],
                    [each.plain],
                    {"channels": each.channels, "channels_last": 0},
                    anchor=each.maker,
                    stands_for=each.maker.stands_for[:1],
                    shift=0.4,
                    name=f"{each.maker.name}/ReorderOutput",
                )


def blocked_layout(work: WorkingGraph, block: int) -> None:
    """Move images to the blocked layout and insert the reorders."""
    if not (work.has(*_FIRST_IN_BLOCKS) or work.has("FusedConv", domain=CONTRIB)):
        work.drop_unread(list(work.of_type("Transpose")))
        return
    layout = _Layout(work, block)
    transposes = []
    for node in traversal(work):
        if node.is_a("Transpose"):
            transposes.append(node)
        layout.visit(node)
    layout.finish()
    work.drop_unread(node for node in transposes if node.name in work.nodes)
