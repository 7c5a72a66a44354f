"""What is folded into weights: batch normalisation, scales, shifts and padding around convolutions, MatMul + Add."""

from __future__ import annotations

import numpy as np

from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType


def fold_into_convolutions(work: WorkingGraph) -> None:
    """Add, Mul and BatchNormalization by constants after a convolution become part of its weights and bias."""
    for node in work.of_type("Conv", "ConvTranspose"):
        following = work.only_reader(node)
        while following is not None and _folds(work, node, following):
            names = list(node.inputs[:3])
            if not node.input(2) and not following.is_a("Mul"):
                channels = work.shape(following.output) or (0, 0)
                names[2:] = [work.make_tensor(f"{node.name}/bias", work.dtype(names[1]), channels[1:2], constant=True)]
            node = work.fuse(node, [following], node.op_type, "", names, following.outputs[:1], node.attributes)
            following = work.only_reader(node)


def _folds(work: WorkingGraph, conv: Node, following: Node) -> bool:
    if any(name and not work.is_constant(name) for name in conv.inputs[1:]):
        return False
    if following.is_a("BatchNormalization"):
        return (
            following.inputs[0] == conv.output
            and all(work.is_constant(name) for name in following.inputs[1:5])
            and not any(name and work.uses(name) for name in following.outputs[1:])
            and not following.attributes.get("training_mode", 0)
        )
    if not following.is_a("Add", "Mul") or not conv.is_a("Conv"):
        return False
    other = following.inputs[1]  # a constant that stands first is not looked at
    weight, shape = work.shape(conv.inputs[1]), work.shape(other)
    if not work.is_constant(other) or weight is None or shape is None:
        return False
    return (following.is_a("Mul") and shape == ()) or is_per_channel(shape, len(weight), weight[0])


def is_per_channel(shape: tuple[int, ...], rank: int, channels: int) -> bool:
    """Whether a tensor of this shape has one value for each channel of an image of that rank."""
    ones = (1,) * (rank - 2)
    return channels > 1 and shape in ((channels, *ones), (1, channels, *ones))


def fold_padding(work: WorkingGraph) -> None:
    """A Pad with zeros before a convolution or pooling becomes its pads."""
    for node in work.of_type("Pad"):
        pads = work.integers(node.input(1)) if len(node.inputs) > 1 else list(node.attributes.get("pads") or ())
        readers = list(work.read_by(node.output))
        if not pads or not readers or node.output in work.kept or node.input(3):
            continue
        rank = len(pads) // 2
        if node.attributes.get("mode", "constant") != "constant" or any(pad < 0 for pad in pads):
            continue
        if any(pads[:2]) or any(pads[rank : rank + 2]) or not all(_takes_pads(work, node, each) for each in readers):
            continue
        for reader in readers:
            own = reader.attributes.get("pads") or (0,) * (2 * rank - 4)
            added = (*pads[2:rank], *pads[rank + 2 :])
            work.set_attributes(reader, pads=tuple(a + b for a, b in zip(own, added, strict=True)))
            reader.stands_for = (*reader.stands_for, *node.stands_for)
        work.bypass(node)


def _takes_pads(work: WorkingGraph, pad: Node, reader: Node) -> bool:
    if reader.place != pad.place or reader.inputs[0] != pad.output:
        return False
    if reader.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    filler = work.scalar(pad.input(2)) if pad.input(2) else 0.0
    return filler == 0.0 and reader.is_a("Conv", "MaxPool", "AveragePool")


def fold_into_products(work: WorkingGraph) -> None:
    """BatchNormalization after a MatMul with constant weights becomes part of a Gemm."""
    for node in work.of_type("MatMul"):
        norm = work.only_reader(node)
        if norm is None or not norm.is_a("BatchNormalization") or norm.inputs[0] != node.output:
            continue
        if len(work.shape(node.input(0)) or ()) != 2 or not work.is_constant(node.input(1)):
            continue
        if any(name and work.uses(name) for name in norm.outputs[1:]):
            continue
        weight = work.shape(node.input(1)) or (0, 0)
        bias = work.make_tensor(f"{node.name}/bias", work.dtype(node.input(1)), weight[1:], constant=True)
        attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        work.fuse(node, [norm], "Gemm", "", [*node.inputs, bias], norm.outputs[:1], attributes)


def product_and_sum(work: WorkingGraph) -> None:
    """MatMul + Add becomes Gemm, between two Reshapes where its left operand is no matrix."""
    _product_and_sum(work, keep_attention=True)


def product_and_sum_everywhere(work: WorkingGraph) -> None:
    """The same for the products around an attention, once attention fusion had its chance."""
    _product_and_sum(work, keep_attention=False)


def _product_and_sum(work: WorkingGraph, *, keep_attention: bool) -> None:
    attention: tuple[set[str], set[str]] = (set(), set())
    for node in work.of_type("MatMul"):
        add = work.only_reader(node)
        if add is None or not add.is_a("Add") or work.dtype(node.output) not in (DType.FLOAT, DType.FLOAT16):
            continue
        left, right = work.shape(node.input(0)), work.shape(node.input(1))
        bias = add.inputs[1] if add.inputs[0] == node.output else add.inputs[0]
        bias_shape = work.shape(bias)
        if left is None or right is None or bias_shape is None or len(right) != 2 or bias == node.output:
            continue
        if len(left) != 2 and keep_attention and _is_around_attention(work, node, add, attention):
            continue
        if not _is_gemm_bias(bias_shape, left, right[1]):
            continue
        _to_gemm(work, node, add, bias, left, right)


def _is_gemm_bias(bias: tuple[int, ...], left: tuple[int, ...], columns: int) -> bool:
    if len(bias) == 1:
        return bias[0] == columns
    if len(left) != 2 or len(bias) != 2:
        return False
    return (bias[0] == 1 and bias[1] == columns) or (bias[0] == left[0] and bias[1] in (1, columns))


def _is_around_attention(work: WorkingGraph, node: Node, add: Node, known: tuple[set[str], set[str]]) -> bool:
    """Whether the product is one of the four of an attention whose input a LayerNormalization makes."""
    norms, sums = known
    parent = work.producer(node.input(0))
    if add.name in sums or (parent is not None and parent.name in norms):
        return True
    if parent is None or not parent.is_a("LayerNormalization"):
        return False
    readers = work.read_by(parent.output)
    adds = [reader for reader in readers if reader.is_a("Add")]
    products = [reader for reader in readers if reader.is_a("MatMul")]
    if len(adds) != 1 or len(products) != 3 or len(readers) != 4:
        return False
    other = adds[0].inputs[1] if adds[0].inputs[0] == parent.output else adds[0].inputs[0]
    last = work.producer(other)
    if last is None or not last.is_a("Add"):
        return False
    norms.add(parent.name)
    sums.add(last.name)
    return True


def _to_gemm(
    work: WorkingGraph, node: Node, add: Node, bias: str, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    if len(left) == 2:
        work.fuse(node, [add], "Gemm", "", [*node.inputs, bias], add.outputs, attributes)
        return
    rows = int(np.prod(left[:-1], dtype=np.int64))
    dtype = work.dtype(node.output)
    flat = work.make_tensor(f"{node.name}/rows", dtype, (rows, right[0]))
    product = work.make_tensor(f"{node.name}/product", dtype, (rows, right[1]))
    source, result = node.input(0), add.output
    gemm = work.fuse(node, [add], "Gemm", "", [flat, node.input(1), bias], [product], attributes)
    _reshape(work, gemm, source, flat, -0.2)
    _reshape(work, gemm, product, result, 0.2)


def _reshape(work: WorkingGraph, anchor: Node, source: str, result: str, shift: float) -> None:
    shape = work.shape(result) or ()
    target = work.make_tensor(
        f"{result}/shape", DType.INT64, (len(shape),), constant=True, value=np.asarray(shape, np.int64)
    )
    work.add(
        "Reshape",
        "",
        [source, target],
        [result],
        {"allowzero": 0},
        anchor=anchor,
        stands_for=anchor.stands_for[:1],
        shift=shift,
        name=f"{anchor.name}/Reshape",
    )


FOLDING_PASSES = (fold_padding, fold_into_convolutions, fold_into_products)
