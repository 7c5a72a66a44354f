"""Quantised models: QuantizeLinear and DequantizeLinear around operators, and dynamic quantisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_aiwq.lowering.gelu import CONTRIB, operand_beside
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import DType

_EIGHT_BITS = (DType.INT8, DType.UINT8)
_UNARY = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
_MOVES = (
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "MaxPool",
    "ReduceMax",
    "ReduceMin",
    "Reshape",
    "Resize",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)


def unique_dequantized(work: WorkingGraph) -> None:
    """Every reader gets a DequantizeLinear of its own, so that each can be fused alone."""
    for node in work.of_type("DequantizeLinear"):
        readers = work.read_by(node.output).distinct()
        for reader in readers if node.output in work.kept else readers[1:]:
            copy = work.make_tensor(
                f"{node.output}/duplicated",
                work.dtype(node.output),
                work.shape(node.output),
                constant=work.tensors[node.output].constant,
            )
            for index, name in enumerate(reader.inputs):
                if name == node.output:
                    work.set_input(reader, index, copy)
            work.add(
                "DequantizeLinear",
                node.domain,
                node.inputs,
                [copy],
                node.attributes,
                anchor=node,
                stands_for=node.stands_for,
                name=f"{node.name}/duplicated",
            )


def drop_clipping(work: WorkingGraph) -> None:
    """Relu and Clip before a QuantizeLinear that clips at least as much."""
    for node in work.of_type("Relu", "Clip"):
        quantize = work.only_reader(node)
        if quantize is None or not quantize.is_a("QuantizeLinear") or not _clips(work, node, quantize):
            continue
        quantize.stands_for = (*quantize.stands_for, *node.stands_for)
        work.bypass(node)


def _clips(work: WorkingGraph, node: Node, quantize: Node) -> bool:
    scale, dtype = work.scalar(quantize.input(1)), work.dtype(quantize.output)
    zero = work.scalar(quantize.input(2)) if quantize.input(2) else 0.0
    if scale is None or zero is None or dtype not in _EIGHT_BITS:
        return False
    least, most = (-128, 127) if dtype is DType.INT8 else (0, 255)
    if node.is_a("Relu"):
        return zero == least
    low = work.scalar(node.input(1)) if node.input(1) else float(node.attributes.get("min", -np.inf))
    high = work.scalar(node.input(2)) if node.input(2) else float(node.attributes.get("max", np.inf))
    if low is None or high is None:
        return False
    return low <= (least - zero) * scale and high >= (most - zero) * scale


def signed_to_unsigned(work: WorkingGraph) -> None:
    """Activations in int8 become uint8 where one DequantizeLinear alone reads them: the faster products need that."""
    for node in work.of_type("QuantizeLinear"):
        reader = work.only_reader(node)
        if reader is None or not reader.is_a("DequantizeLinear") or work.dtype(node.output) is not DType.INT8:
            continue
        if not _same_parameters(work, node, reader) or work.shape(node.input(1)) not in ((), (1,)):
            continue
        zero = work.make_tensor(
            f"{node.input(2) or node.name}/unsigned", DType.UINT8, work.shape(node.input(2)), constant=True
        )
        value = work.tensors[node.input(2)].value if node.input(2) else None
        if value is not None:
            work.set_tensor(replace(work.tensors[zero], value=(value.astype(np.int32) + 128).astype(np.uint8)))
        work.set_tensor(replace(work.tensors[node.output], dtype=DType.UINT8))
        work.set_input(node, 2, zero)
        work.set_input(reader, 2, zero)


def _same_parameters(work: WorkingGraph, left: Node, right: Node) -> bool:
    return all(_same_constant(work, left.input(index), right.input(index)) for index in (1, 2))


def _same_constant(work: WorkingGraph, left: str, right: str) -> bool:
    if left == right:
        return True
    if not left or not right:
        return False
    first, second = work.tensors[left].value, work.tensors[right].value
    return first is not None and second is not None and np.array_equal(first, second)


class _Unit:
    """An operator with the DequantizeLinear before each input and the QuantizeLinear after its output."""

    def __init__(self, work: WorkingGraph, node: Node) -> None:
        self.node = node
        makers = [work.maker(node, index) for index, name in enumerate(node.inputs) if name]
        self.inputs = [made for made in makers if made is not None and made.is_a("DequantizeLinear")]
        self.own = all(work.only_reader(made) is node for made in self.inputs)
        following = work.only_reader(node)
        self.output = following if following is not None and following.is_a("QuantizeLinear") else None
        self.used = sum(bool(name) and work.uses(name) > 0 for name in node.outputs)
        self.types = [work.dtype(made.inputs[0]) for made in self.inputs]
        self.result = work.dtype(self.output.output) if self.output is not None else DType.UNDEFINED

    def parameters(self, index: int) -> list[str]:
        """Elements, scale and zero point of a quantised input."""
        made = self.inputs[index]
        return [made.inputs[0], made.inputs[1], made.input(2)]

    def result_parameters(self) -> list[str]:
        return [self.output.inputs[1], self.output.input(2)] if self.output is not None else []


def quantised_operators(work: WorkingGraph) -> None:
    """Operators between DequantizeLinear and QuantizeLinear become operators on the integers."""
    for node in work.of_type(*_RULES):
        unit = _Unit(work, node)
        found = _RULES[node.op_type](work, unit) if unit.inputs and unit.own else None
        if found is None:
            continue
        op_type, domain, inputs, attributes = found
        after = [unit.output] if unit.output is not None else []
        outputs = unit.output.outputs if unit.output is not None else node.outputs
        work.fuse(node, [*unit.inputs, *after], op_type, domain, inputs, outputs, attributes)


Found = tuple[str, str, Sequence[str], Mapping[str, Any]]


def _convolution(work: WorkingGraph, unit: _Unit) -> Found | None:
    names = [name for name in unit.node.inputs if name]
    if len(unit.inputs) != len(names) or unit.output is None or unit.types[0] is not unit.result:
        return None
    if unit.types[0] not in _EIGHT_BITS or (unit.types[0] is DType.INT8):
        return None
    if len(unit.inputs) > 2 and unit.types[2] is not DType.INT32:
        return None
    inputs = [*unit.parameters(0), *unit.parameters(1), *unit.result_parameters()]
    bias = [unit.inputs[2].inputs[0]] if len(unit.inputs) > 2 else []
    return "QLinearConv", "", [*inputs, *bias], unit.node.attributes


def _product(work: WorkingGraph, unit: _Unit) -> Found | None:
    if len(unit.inputs) != 2 or unit.types[0] is not DType.UINT8 or unit.types[1] not in _EIGHT_BITS:
        return None
    left, right = unit.parameters(0), unit.parameters(1)
    if unit.output is None:
        inputs = [left[0], right[0], left[1], right[1], left[2], right[2]]
        return "MatMulIntegerToFloat", CONTRIB, inputs, {}
    if unit.result is not unit.types[0]:
        return None
    return "QLinearMatMul", "", [*left, *right, *unit.result_parameters()], {}


def _gemm(work: WorkingGraph, unit: _Unit) -> Found | None:
    names = [name for name in unit.node.inputs if name]
    if len(unit.inputs) != len(names) or unit.types[0] is not DType.UINT8 or unit.types[1] not in _EIGHT_BITS:
        return None
    if unit.output is not None and unit.result is not unit.types[0]:
        return None
    if len(unit.inputs) > 2 and (unit.types[2] is not DType.INT32 or unit.node.attributes.get("beta", 1.0) != 1.0):
        return None
    bias = unit.inputs[2].inputs[0] if len(unit.inputs) > 2 else ""
    attributes = {name: value for name, value in unit.node.attributes.items() if name != "beta"}
    inputs = [*unit.parameters(0), *unit.parameters(1), bias, *unit.result_parameters()]
    return "QGemm", CONTRIB, inputs, attributes


def _unary(work: WorkingGraph, unit: _Unit) -> Found | None:
    if unit.output is None or unit.types[0] is not unit.result or unit.result not in _EIGHT_BITS:
        return None
    attributes = dict(unit.node.attributes)
    if unit.node.is_a("GlobalAveragePool", "AveragePool"):
        attributes["channels_last"] = 0
    if unit.node.is_a("Softmax"):
        attributes["opset"] = unit.node.version
    inputs = [*unit.parameters(0), *unit.result_parameters()]
    return f"QLinear{unit.node.op_type}", CONTRIB, inputs, attributes


def _binary(work: WorkingGraph, unit: _Unit) -> Found | None:
    if len(unit.inputs) != 2 or unit.output is None or {*unit.types, unit.result} - {unit.types[0]}:
        return None
    if unit.result not in _EIGHT_BITS:
        return None
    inputs = [*unit.parameters(0), *unit.parameters(1), *unit.result_parameters()]
    return f"QLinear{unit.node.op_type}", CONTRIB, inputs, {}


def _concatenation(work: WorkingGraph, unit: _Unit) -> Found | None:
    if len(unit.inputs) != len(unit.node.inputs) or unit.output is None or unit.result not in _EIGHT_BITS:
        return None
    if {*unit.types, unit.result} - {unit.types[0]}:
        return None
    parts = [name for index in range(len(unit.inputs)) for name in unit.parameters(index)]
    return "QLinearConcat", CONTRIB, [*unit.result_parameters(), *parts], unit.node.attributes


def _move(work: WorkingGraph, unit: _Unit) -> Found | None:
    first = work.maker(unit.node, 0)
    if len(unit.inputs) != 1 or unit.output is None or unit.inputs[0] is not first or unit.used != 1:
        return None
    if unit.types[0] is not unit.result or not _same_parameters(work, unit.inputs[0], unit.output):
        return None
    if unit.node.op_type == "Resize" and unit.node.attributes.get("mode", "nearest") != "nearest":
        return None  # it interpolates, which it does in float
    inputs = [unit.inputs[0].inputs[0], *unit.node.inputs[1:]]
    return unit.node.op_type, "", inputs, unit.node.attributes


_RULES = {
    "Conv": _convolution,
    "MatMul": _product,
    "Gemm": _gemm,
    "Add": _binary,
    "Mul": _binary,
    "Concat": _concatenation,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_MOVES, _move),
}


def integer_product_to_float(work: WorkingGraph) -> None:
    """MatMulInteger, Cast, the product with both scales, and a bias become MatMulIntegerToFloat."""
    for node in work.of_type("MatMulInteger"):
        cast = work.only_reader(node)
        times = work.only_reader(cast) if cast is not None and cast.is_a("Cast") else None
        if cast is None or times is None or not times.is_a("Mul"):
            continue
        scales = work.producer(operand_beside(times, cast.output))
        if scales is None or not scales.is_a("Mul") or work.uses(scales.output) != 1:
            continue
        left, right = scales.inputs if work.is_constant(scales.inputs[1]) else reversed(scales.inputs)
        inputs = [*node.inputs[:2], left, right, node.input(2), node.input(3)]
        last, parts = times, [cast, scales]
        add = work.only_reader(times)
        if add is not None and add.is_a("Add"):
            bias = operand_beside(add, times.output)
            shape = work.shape(bias)
            if shape is not None and len(shape) == 1 and work.is_constant(bias):
                inputs.append(bias)
                last, parts = add, [*parts, times]
        work.fuse(node, [*parts, last], "MatMulIntegerToFloat", CONTRIB, inputs, last.outputs, {})


def dynamic_product(work: WorkingGraph) -> None:
    """DynamicQuantizeLinear that one product alone reads becomes part of it."""
    for node in work.of_type("MatMulIntegerToFloat", domain=CONTRIB):
        quantize = work.maker(node, 0)
        if quantize is None or not quantize.is_a("DynamicQuantizeLinear"):
            continue
        elements, scale, zero = quantize.outputs
        if [node.inputs[0], node.inputs[2], node.input(4)] != [elements, scale, zero]:
            continue
        if any(work.uses(name) != 1 for name in quantize.outputs):
            continue
        inputs = [quantize.inputs[0], node.inputs[1], node.inputs[3], node.input(5), node.input(6)]
        while inputs and not inputs[-1]:
            inputs.pop()
        work.fuse(node, [quantize], "DynamicQuantizeMatMul", CONTRIB, inputs, node.outputs, {})


QUANTISED_PASSES = (drop_clipping, signed_to_unsigned, quantised_operators)
DYNAMIC_PASSES = (integer_product_to_float, dynamic_product)
