"""Gaussian and sigmoid linear units that exporters write out in parts."""

from __future__ import annotations

import math

from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

CONTRIB = "com.microsoft"
_GELU_SINCE = 20  # opset with an operator of its own
_ROOT_TWO, _TANH_SCALE, _TANH_CUBE = math.sqrt(2), math.sqrt(2 / math.pi), 0.044715


def is_value(work: WorkingGraph, name: str, value: float) -> bool:
    """Whether a tensor is a constant of one element with that value, to the precision of float32."""
    found = work.scalar(name)
    return found is not None and math.isclose(found, value, rel_tol=1e-4)


def operand_beside(node: Node, name: str) -> str:
    """The other operand of an operator of two."""
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def constant_beside(work: WorkingGraph, node: Node | None, op_type: str, name: str, value: float) -> Node | None:
    """The node, where it is of that type and joins the tensor with that constant."""
    if node is None or not node.is_a(op_type) or not is_value(work, operand_beside(node, name), value):
        return None
    return node


def standard_gelu(work: WorkingGraph) -> None:
    """x / sqrt(2), Erf, + 1, times x and a half becomes the operator of opset 20, where the model has it."""
    if work.versions.get("", 1) >= _GELU_SINCE:
        _gelu(work, "", {"approximate": "none"})


def contrib_gelu(work: WorkingGraph) -> None:
    """The same becomes com.microsoft.Gelu in older models."""
    if work.versions.get("", 1) < _GELU_SINCE:
        _gelu(work, CONTRIB, {})


def _gelu(work: WorkingGraph, domain: str, attributes: dict[str, str]) -> None:
    for erf in work.of_type("Erf"):
        divide = work.maker(erf, 0)
        if divide is None or not divide.is_a("Div") or not is_value(work, divide.inputs[1], _ROOT_TWO):
            continue
        plus = constant_beside(work, work.only_reader(erf), "Add", erf.output, 1.0)
        times = work.only_reader(plus) if plus is not None else None
        if plus is None or times is None or not times.is_a("Mul") or work.uses(divide.output) != 1:
            continue
        source, other = divide.inputs[0], operand_beside(times, plus.output)
        if other == source:
            half = constant_beside(work, work.only_reader(times), "Mul", times.output, 0.5)
            parts, last = [divide, plus, times], half
        else:
            half = work.producer(other)
            is_half = constant_beside(work, half, "Mul", source, 0.5) is not None and work.uses(other) == 1
            half = half if is_half and half is not None and source in half.inputs else None
            parts, last = [divide, plus, *([half] if half else [])], times if half else None
        if last is not None and last.place == erf.place:
            work.fuse(last, [*parts, erf], "Gelu", domain, [source], last.outputs, attributes)


def tanh_gelu(work: WorkingGraph) -> None:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) becomes FastGelu."""
    for tanh in work.of_type("Tanh"):
        plus = constant_beside(work, work.only_reader(tanh), "Add", tanh.output, 1.0)
        last = work.only_reader(plus) if plus is not None else None
        if plus is None or last is None or not last.is_a("Mul") or last.output in work.kept:
            continue
        inner = _tanh_argument(work, tanh)
        half = work.producer(operand_beside(last, plus.output))
        if inner is None or half is None or not half.is_a("Mul"):
            continue
        source, parts = inner
        if source not in half.inputs or not is_value(work, operand_beside(half, source), 0.5):
            continue
        gone = [*parts, tanh, plus, *([half] if work.uses(half.output) == 1 else [])]
        work.fuse(last, [*parts, tanh, plus, half], "FastGelu", CONTRIB, [source], last.outputs, {}, gone=[last, *gone])


def _tanh_argument(work: WorkingGraph, tanh: Node) -> tuple[str, list[Node]] | None:
    scale = work.maker(tanh, 0)
    if scale is None or not scale.is_a("Mul") or work.only_reader(scale) is not tanh:
        return None
    for index in (0, 1):
        if is_value(work, scale.inputs[1 - index], _TANH_SCALE):
            return _cubic(work, scale, work.maker(scale, index))
    return _factored(work, scale)


def _cubic(work: WorkingGraph, scale: Node, total: Node | None) -> tuple[str, list[Node]] | None:
    if total is None or not total.is_a("Add") or work.only_reader(total) is not scale:
        return None
    for index in (0, 1):
        cube = work.maker(total, index)
        source = total.inputs[1 - index]
        if cube is None or not cube.is_a("Mul") or work.only_reader(cube) is not total:
            continue
        for side in (0, 1):
            power = work.maker(cube, side)
            if not is_value(work, cube.inputs[1 - side], _TANH_CUBE) or power is None or not power.is_a("Pow"):
                continue
            if power.inputs[0] == source and is_value(work, power.inputs[1], 3.0) and work.uses(power.output) == 1:
                return source, [scale, total, cube, power]
    return None


def _factored(work: WorkingGraph, times: Node) -> tuple[str, list[Node]] | None:
    """sqrt(2 / pi) x (1 + (0.044715 x) x)"""
    for index in (0, 1):
        plus, scaled = work.maker(times, index), work.maker(times, 1 - index)
        if plus is None or scaled is None or not plus.is_a("Add") or not scaled.is_a("Mul"):
            continue
        for side in (0, 1):
            square = work.maker(plus, side)
            if square is None or not square.is_a("Mul") or not is_value(work, plus.inputs[1 - side], 1.0):
                continue
            for left in (0, 1):
                small, source = work.maker(square, left), square.inputs[1 - left]
                if small is None or not small.is_a("Mul") or source not in small.inputs or source not in scaled.inputs:
                    continue
                if not is_value(work, operand_beside(small, source), _TANH_CUBE):
                    continue
                if is_value(work, operand_beside(scaled, source), _TANH_SCALE):
                    return source, [times, plus, scaled, square, small]
    return None


def quick_gelu(work: WorkingGraph) -> None:
    """x times Sigmoid(a x) becomes QuickGelu; with a = 1 that is SiLU."""
    for sigmoid in work.of_type("Sigmoid"):
        last = work.only_reader(sigmoid)
        if last is None or not last.is_a("Mul") or work.dtype(sigmoid.output) is not DType.FLOAT:
            continue
        source, alpha, parts = sigmoid.inputs[0], 1.0, [sigmoid]
        other = operand_beside(last, sigmoid.output)
        if other != source:
            scale = work.maker(sigmoid, 0)
            if scale is None or not scale.is_a("Mul") or other not in scale.inputs or work.uses(scale.output) != 1:
                continue
            value = work.scalar(operand_beside(scale, other))
            if value is None:
                continue
            source, alpha, parts = other, value, [sigmoid, scale]
        work.fuse(last, parts, "QuickGelu", CONTRIB, [source], last.outputs, {"alpha": alpha})


def bias_gelu(work: WorkingGraph) -> None:
    """A bias before a Gelu becomes part of it."""
    for add in work.of_type("Add"):
        gelu = work.only_reader(add)
        known = gelu is not None and (gelu.is_a("Gelu") or gelu.is_a("Gelu", "FastGelu", domain=CONTRIB))
        if gelu is None or not known or len(gelu.inputs) > 1:
            continue
        for index in (1, 0):
            bias, source = work.shape(add.inputs[index]), work.shape(add.inputs[1 - index])
            if bias is None or source is None or len(bias) != 1 or not source or bias[0] != source[-1]:
                continue
            fast = gelu.op_type == "FastGelu" or gelu.attributes.get("approximate") == "tanh"
            inputs = [add.inputs[1 - index], add.inputs[index]]
            work.fuse(gelu, [add], "FastGelu" if fast else "BiasGelu", CONTRIB, inputs, gelu.outputs, {})
            break
