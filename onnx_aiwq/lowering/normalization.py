"""Layer normalisation that exporters write out in parts, and the sums before it."""

from __future__ import annotations

from onnx_aiwq.lowering.gelu import CONTRIB, is_value, operand_beside
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

_LAYER_NORM_SINCE = 17
_FLOATS = (DType.FLOAT, DType.FLOAT16, DType.DOUBLE)


def standard_layer_norm(work: WorkingGraph) -> None:
    """The parts of a layer normalisation become the operator of opset 17, where the model has it."""
    if work.versions.get("", 1) >= _LAYER_NORM_SINCE:
        _layer_norm(work)


def contrib_layer_norm(work: WorkingGraph) -> None:
    """In older models they become the same operator, at the extended level."""
    if work.versions.get("", 1) < _LAYER_NORM_SINCE:
        _layer_norm(work)


def _layer_norm(work: WorkingGraph) -> None:
    for mean in work.of_type("ReduceMean"):
        found = _centred(work, mean)
        if found is None:
            continue
        source, parts, subs = found
        scaled = _scaled(work, subs, parts)
        if scaled is None:
            continue
        divide, epsilon, inner = scaled
        times = work.only_reader(divide)
        if times is None or not times.is_a("Mul"):
            continue
        scale = operand_beside(times, divide.output)
        plus = work.only_reader(times)
        if plus is None or not plus.is_a("Add") or not _is_vector(work, scale):
            continue
        bias = operand_beside(plus, times.output)
        if not _is_vector(work, bias):
            continue
        attributes = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        others = [*parts, *inner, divide, times]
        work.fuse(plus, others, "LayerNormalization", "", [source, scale, bias], plus.outputs, attributes)


def _is_vector(work: WorkingGraph, name: str) -> bool:
    shape = work.shape(name)
    return work.is_constant(name) and shape is not None and len(shape) == 1


def _is_last_axis(work: WorkingGraph, node: Node) -> bool:
    axes = work.integers(node.input(1)) if node.input(1) else node.attributes.get("axes")
    shape = work.shape(node.inputs[0])
    return bool(axes) and shape is not None and [axis % len(shape) for axis in axes or ()] == [len(shape) - 1]


def _centred(work: WorkingGraph, mean: Node) -> tuple[str, list[Node], list[Node]] | None:
    """The mean over the last axis and the differences from it."""
    readers = work.read_by(mean.output)
    source = mean.inputs[0]
    if not 1 <= len(readers) <= 2 or mean.output in work.kept or not _is_last_axis(work, mean):
        return None
    if any(not reader.is_a("Sub") or reader.inputs != [source, mean.output] for reader in readers):
        return None
    if any(reader.place != mean.place for reader in readers) or work.dtype(source) not in _FLOATS:
        return None
    return source, [mean, *readers], list(readers)


def _scaled(work: WorkingGraph, subs: list[Node], parts: list[Node]) -> tuple[Node, float, list[Node]] | None:
    """The division by the root of the mean square, with its epsilon."""
    read = [reader for sub in subs for reader in work.read_by(sub.output)]
    divides = [reader for reader in read if reader.is_a("Div")]
    rest = [reader for reader in read if not reader.is_a("Div")]
    if len(divides) != 1 or len(rest) != 1 or any(sub.output in work.kept for sub in subs):
        return None
    cast = rest[0] if rest[0].is_a("Cast") else None
    power = work.only_reader(cast) if cast is not None else rest[0]
    if power is None or not power.is_a("Pow") or not is_value(work, power.inputs[1], 2.0):
        return None
    found = root_mean_square(work, power)
    if found is None:
        return None
    root, epsilon, inner = found
    if work.only_reader(root) is not divides[0] or divides[0].inputs[1] != root.output:
        return None
    return divides[0], epsilon, [*([cast] if cast else []), power, *inner]


def root_mean_square(work: WorkingGraph, power: Node) -> tuple[Node, float, list[Node]] | None:
    """Mean over the last axis, plus epsilon, root: the nodes after a square; the root, epsilon and all of them."""
    mean = work.only_reader(power)
    if mean is None or not mean.is_a("ReduceMean") or not _is_last_axis(work, mean):
        return None
    plus = work.only_reader(mean)
    if plus is None or not plus.is_a("Add"):
        return None
    epsilon = work.scalar(operand_beside(plus, mean.output))
    root = work.only_reader(plus)
    if epsilon is None or root is None or not root.is_a("Sqrt"):
        return None
    return root, epsilon, [mean, plus, root]


def simplified_layer_norm(work: WorkingGraph) -> None:
    """Root mean square normalisation, written with Pow, Sqrt and Div, becomes SimplifiedLayerNormalization."""
    for power in work.of_type("Pow"):
        found = root_mean_square(work, power) if is_value(work, power.inputs[1], 2.0) else None
        if found is None:
            continue
        root, epsilon, inner = found
        source, divide = power.inputs[0], work.only_reader(root)
        if divide is None or not divide.is_a("Div") or divide.inputs != [source, root.output]:
            continue
        times = work.only_reader(divide)
        if times is None or not times.is_a("Mul"):
            continue
        scale = operand_beside(times, divide.output)
        if _is_vector(work, scale) and work.dtype(source) in _FLOATS:
            attributes = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
            others = [power, *inner, divide]
            work.fuse(times, others, "SimplifiedLayerNormalization", "", [source, scale], times.outputs, attributes)


def skip_layer_norm(work: WorkingGraph) -> None:
    """The sum before a layer normalisation, and a bias before that sum, become part of it."""
    for norm in work.of_type("LayerNormalization"):
        add = work.maker(norm, 0)
        if add is None or not add.is_a("Add") or work.only_reader(add) is not norm or any(norm.outputs[1:]):
            continue
        shapes = {work.shape(name) for name in add.inputs}
        shape = shapes.pop()
        if shapes or shape is None or len(shape) != 3 or work.dtype(norm.output) not in (DType.FLOAT, DType.FLOAT16):
            continue
        inputs = [*add.inputs, norm.inputs[1], norm.input(2)]
        parts = [add]
        for index in (0, 1):
            biased = work.maker(add, index)
            if biased is None or not biased.is_a("Add") or work.only_reader(biased) is not add:
                continue
            if _is_vector(work, biased.inputs[1]) and len(work.shape(biased.inputs[0]) or ()) == 3:
                inputs[index] = biased.inputs[0]
                inputs.append(biased.inputs[1])
                parts.append(biased)
                break
        attributes = {"epsilon": norm.attributes.get("epsilon", 1e-5)}
        work.fuse(norm, parts, "SkipLayerNormalization", CONTRIB, inputs, norm.outputs, attributes)
