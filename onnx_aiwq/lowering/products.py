"""Matrix products that transpose and scale their operands themselves; slices that become one Split."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_aiwq.lowering.gelu import CONTRIB
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

_FLOATS = (DType.FLOAT, DType.DOUBLE)
_PLAIN: dict[str, Any] = {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0}


def _products(work: WorkingGraph) -> list[Node]:
    found = [*work.of_type("MatMul"), *work.of_type("FusedMatMul", domain=CONTRIB)]
    return [node for node in found if work.dtype(node.output) in _FLOATS]


def product_of_transposes(work: WorkingGraph) -> None:
    """A Transpose of the last two dimensions, or of the batch to the inside, becomes a flag of FusedMatMul."""
    for node in _products(work):
        inputs, attributes, parts = list(node.inputs), {**_PLAIN, **node.attributes}, []
        for index, side in ((0, "A"), (1, "B")):
            made_by = work.maker(node, index)
            cast_free = made_by if made_by is not None and made_by.is_a("Transpose") else None
            flags = None if cast_free is None else _flags(tuple(cast_free.attributes.get("perm", ())))
            if cast_free is None or flags is None or cast_free.output in work.kept:
                continue
            if flags[1] and attributes[f"transBatch{side}"]:
                continue
            inputs[index] = cast_free.inputs[0]
            attributes[f"trans{side}"] ^= flags[0]
            attributes[f"transBatch{side}"] |= flags[1]
            parts.append(cast_free)
        if parts:
            names = [part for part in parts if work.uses(part.output) == 1]
            work.fuse(
                node,
                parts,
                "FusedMatMul",
                CONTRIB,
                inputs,
                node.outputs,
                attributes,
                gone=[node, *dict.fromkeys(names)],
            )


def transposes_to_products_as_exported(work: WorkingGraph) -> None:
    """The same where the file itself tells the shape; where it computes the shape, only the extended level knows it."""
    transposes_to_products(work)


def transposes_to_products(work: WorkingGraph) -> None:
    """A Transpose of the last two dimensions moves past a Reshape that only adds leading ones, towards a product."""
    for node in work.of_type("Transpose"):
        perm = tuple(node.attributes.get("perm", ()))
        reshape = work.only_reader(node)
        before, after = work.shape(node.inputs[0]), work.shape(reshape.output) if reshape else None
        if _flags(perm) != (1, 0) or reshape is None or not reshape.is_a("Reshape") or before is None or after is None:
            continue
        added = len(after) - len(before)
        if (
            added < 1
            or not work.is_constant(reshape.input(1))
            or after != (*(1,) * added, *(work.shape(node.output) or ()))
        ):
            continue
        if not _feeds_product(work, reshape):
            continue
        shape = (*(1,) * added, *before)
        target = work.make_tensor(
            f"{reshape.name}/shape", DType.INT64, (len(shape),), constant=True, value=np.asarray(shape, np.int64)
        )
        middle = work.make_tensor(f"{node.output}/reshaped", work.dtype(node.output), shape)
        rank, result, source = len(shape), reshape.output, node.inputs[0]
        work.fuse(reshape, [], "Reshape", "", [source, target], [middle], reshape.attributes)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        work.remove(node)
        work.add(
            "Transpose",
            "",
            [middle],
            [result],
            {"perm": swapped},
            anchor=node,
            stands_for=node.stands_for,
            after=reshape,
            shift=0.1,
        )


def _feeds_product(work: WorkingGraph, node: Node) -> bool:
    following = work.only_reader(node)
    if following is not None and _scale(work, following) is not None:
        following = work.only_reader(following)
    return following is not None and following.is_a("MatMul")


def _flags(perm: tuple[int, ...]) -> tuple[int, int] | None:
    """(transpose, transpose of the batch) for a permutation that a product can take on."""
    rank = len(perm)
    if rank < 2:
        return None
    if perm == (*range(rank - 2), rank - 1, rank - 2):
        return 1, 0
    if rank > 2 and perm == (*range(1, rank - 1), 0, rank - 1):
        return 0, 1
    if rank > 2 and perm == (*range(1, rank), 0):
        return 1, 1
    return None


def product_and_scale(work: WorkingGraph) -> None:
    """A Mul or Div by one constant before or after a product becomes its alpha."""
    for node in _products(work):
        inputs, outputs, parts = list(node.inputs), list(node.outputs), []
        alpha = float(node.attributes.get("alpha", 1.0))
        for index in (0, 1):
            scale = work.maker(node, index)
            found = None if scale is None else _scale(work, scale)
            if scale is not None and found is not None and work.shape(scale.inputs[found[1]]) != ():
                alpha *= found[0]
                inputs[index] = scale.inputs[found[1]]
                parts.append(scale)
        after = work.only_reader(node)
        found = None if after is None else _scale(work, after)
        if after is not None and found is not None and after.inputs[found[1]] == node.output:
            alpha *= found[0]
            outputs = list(after.outputs)
        if inputs == node.inputs and outputs == node.outputs:
            continue
        gone = [part for part in dict.fromkeys(parts) if work.uses(part.output) == 1 or inputs[0] == inputs[1]]
        last = [after] if after is not None and outputs != node.outputs else []
        attributes = {**_PLAIN, **node.attributes, "alpha": alpha}
        fused = [*parts, *last]
        work.fuse(node, fused, "FusedMatMul", CONTRIB, inputs, outputs, attributes, gone=[node, *gone, *last])


def _scale(work: WorkingGraph, node: Node) -> tuple[float, int] | None:
    """The factor of a Mul or Div by a constant of one element, and the position of the other operand."""
    if not node.is_a("Mul", "Div"):
        return None
    for index in (0, 1) if node.is_a("Mul") else (1,):
        value = work.scalar(node.inputs[index])
        shape, other = work.shape(node.inputs[index]), work.shape(node.inputs[1 - index])
        if value is None or shape is None or other is None or len(shape) > len(other):
            continue
        if node.is_a("Div"):
            return (1.0 / value, 0) if value else None
        return value, 1 - index
    return None


def slices_to_split(work: WorkingGraph) -> None:
    """Slices and single-index Gathers that together read all of a tensor along one axis become one Split."""
    for name in [name for name, readers in work.readers.items() if len(readers) > 1]:
        maker = work.producer(name)
        if name in work.kept or (maker is not None and (maker.is_a("Shape") or len(maker.outputs) > 1)):
            continue
        slices = [
            reader for reader in work.readers[name] if reader.is_a("Slice", "Gather") and reader.inputs[0] == name
        ]
        found = [(each, reader) for reader in slices if (each := _range(work, reader)) is not None]
        shape = work.shape(name)
        if len(found) < 2 or len({each[0] for each, _ in found}) != 1 or shape is None:
            continue
        found.sort(key=lambda pair: pair[0])
        ranges = [each for each, _ in found]
        ends = [end for _, _, end in ranges]
        if [start for _, start, _ in ranges] != [0, *ends[:-1]] or ends[-1] != shape[ranges[0][0]]:
            continue
        if len({reader.place for _, reader in found}) == 1:
            _split(work, name, [reader for _, reader in found], ranges)


def _range(work: WorkingGraph, node: Node) -> tuple[int, int, int] | None:
    """(axis, start, end) of what a Slice of one axis or a Gather of one index reads."""
    shape = work.shape(node.inputs[0])
    if shape is None:
        return None
    if node.is_a("Gather"):
        index = work.integers(node.inputs[1])
        axis = int(node.attributes.get("axis", 0)) % max(len(shape), 1)
        if index is None or work.shape(node.inputs[1]) != () or not work.is_constant(node.inputs[1]):
            return None
        start = index[0] % shape[axis] if shape[axis] else 0
        return axis, start, start + 1
    bounds = [work.integers(node.input(index)) if node.input(index) else default for index, default in _BOUNDS]
    starts, ends, axes, steps = bounds
    if starts is None or ends is None or axes is None or steps is None or len(starts) != 1 or steps != [1]:
        return None
    axis = axes[0] % len(shape)
    size = shape[axis]
    start, end = (min(max(value + size if value < 0 else value, 0), size) for value in (starts[0], ends[0]))
    return axis, start, end


_BOUNDS: tuple[tuple[int, list[int] | None], ...] = ((1, None), (2, None), (3, [0]), (4, [1]))


def _split(work: WorkingGraph, name: str, readers: list[Node], ranges: list[tuple[int, int, int]]) -> None:
    shape, axis = work.shape(name) or (), ranges[0][0]
    sizes = [end - start for _, start, end in ranges]
    anchor = min(readers, key=lambda node: (node.order, node.number))
    outputs, squeezed = [], []
    for reader, size in zip(readers, sizes, strict=True):
        if reader.is_a("Slice"):
            outputs.append(reader.output)
            continue
        part = work.make_tensor(f"{reader.output}/part", work.dtype(name), (*shape[:axis], size, *shape[axis + 1 :]))
        outputs.append(part)
        squeezed.append((reader, part))
    target = work.make_tensor(
        f"{name}/split", DType.INT64, (len(sizes),), constant=True, value=np.asarray(sizes, np.int64)
    )
    names = [each for reader in (anchor, *readers) for each in reader.stands_for]
    work.remove(*readers)
    inputs = [name, target]
    work.add("Split", "", inputs, outputs, {"axis": axis}, anchor=anchor, stands_for=names)
    for reader, part in squeezed:
        axes = work.make_tensor(f"{part}/axes", DType.INT64, (1,), constant=True, value=np.asarray([axis], np.int64))
        work.add(
            "Squeeze",
            "",
            [part, axes],
            reader.outputs,
            {},
            anchor=reader,
            stands_for=reader.stands_for,
            shift=0.1,
            name=f"{reader.name}/Squeeze",
        )
