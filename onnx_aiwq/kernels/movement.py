"""Kernels that move: transpositions, joins, cuts, look-ups, changes of layout."""

from __future__ import annotations

import math

from onnx_aiwq.kernels.products import BLOCKED
from onnx_aiwq.kernels.shapes import Description, aliasing, attribute_int, attribute_ints, log2, shape_of, total_size
from onnx_aiwq.vocabulary import Operator

FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size"})
_JOINS = frozenset({"Concat", "Split", "QLinearConcat", "Slice", "Pad", "Gather", "Expand", "Tile", "DepthToSpace"})
_JOINS |= {"SpaceToDepth", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Resize", "Upsample"}


def describe_movement(operator: Operator) -> Description | None:
    """The kernel of a movement, or None."""
    op_type = operator.op_type
    if op_type in FREE:
        return Description("view", "view", (log2(0),))
    if operator.domain == BLOCKED and op_type.startswith("Reorder"):
        x = shape_of(operator.input(0))
        channels_last = float(attribute_int(operator, "channels_last"))
        features = (log2(x[1] if len(x) > 1 else 1), log2(math.prod(x[2:])), channels_last)
        return Description(op_type.lower(), "movement", features, later=(aliasing(_image(operator)),))
    if op_type == "Transpose":
        return _transposition(operator)
    if op_type in _JOINS:
        return _join(operator)
    return None


def _image(operator: Operator) -> int:
    """Elements of one channel of the plain tensor that a reorder reads or writes."""
    plain = shape_of(operator.output(0) if operator.op_type == "ReorderOutput" else operator.input(0))
    last = attribute_int(operator, "channels_last")
    return (plain[-1] if last else math.prod(plain[2:])) if len(plain) > 2 else 1


def _transposition(operator: Operator) -> Description:
    x = shape_of(operator.input(0))
    order = attribute_ints(operator, "perm", tuple(reversed(range(len(x)))))
    sizes, axes = _merged(x, order)
    run = sizes[-1] if axes and axes[-1] == len(axes) - 1 else 1
    if list(axes) == sorted(axes):
        form = "view"
    elif run > 1:
        form = "rows"  # the last axis stays: whole rows are copied
    elif len(axes) == 2 or (len(axes) == 3 and axes[0] == 0):
        form = "matrix"  # two neighbouring axes change places
    else:
        form = "any"
    if form == "view":
        return Description("view", "view", (log2(0),))
    across = sizes[-1] if sizes else 1
    down = sizes[axes[-1]] if axes else 1
    features = (log2(math.prod(x)), log2(run), log2(across), log2(down))
    return Description(f"transpose-{form}", "movement", features)


def _merged(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Sizes and order after axes of one are dropped and neighbours that stay together are merged."""
    order = tuple(axis for axis in order if axis < len(shape) and shape[axis] != 1)
    groups: list[list[int]] = []
    for axis in order:
        if (groups and groups[-1][-1] + 1 == axis) or (groups and not _between(shape, groups[-1][-1], axis)):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    starts = sorted(group[0] for group in groups)
    sizes = [math.prod(shape[axis] for axis in group) for group in sorted(groups)]
    return sizes, [starts.index(group[0]) for group in groups]


def _between(shape: tuple[int, ...], left: int, right: int) -> bool:
    """Whether an axis larger than one stands between two axes, or they stand the other way round."""
    return right < left or any(shape[axis] != 1 for axis in range(left + 1, right))


def _join(operator: Operator) -> Description:
    x = shape_of(operator.input(0))
    outputs = total_size(operator.outputs)
    run = _run(operator)
    parts = len(operator.outputs) if operator.op_type == "Split" else len(operator.inputs)
    kind = operator.op_type.lower()
    if operator.domain == BLOCKED:
        kind = f"blocked-{kind}"
    if operator.op_type in ("Resize", "Upsample"):
        kind = f"{kind}-{operator.attributes.get('mode', 'nearest')}"
    return Description(kind, "movement", (log2(outputs), log2(run), log2(math.prod(x)), float(parts)))


def _run(operator: Operator) -> int:
    """Elements that lie next to one another in both the source and the result."""
    x, y = shape_of(operator.input(0)), shape_of(operator.output(0))
    if operator.op_type in ("Concat", "Split", "Gather", "QLinearConcat"):
        axis = attribute_int(operator, "axis") % max(1, len(x))
        return math.prod(x[axis + 1 :] if operator.op_type == "Gather" else y[axis:])
    run = 1
    for source, result in zip(reversed(x), reversed(y), strict=False):
        run *= min(source, result)
        if source != result:
            break
    return run
