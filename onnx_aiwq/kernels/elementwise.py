"""Kernels that compute every element by itself, with broadcasting."""

from __future__ import annotations

import math

from onnx_aiwq.kernels.shapes import Description, log2, shape_of
from onnx_aiwq.vocabulary import Operator

_BINARY = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Max",
        "Min",
        "Greater",
        "Less",
        "Equal",
        "GreaterOrEqual",
        "LessOrEqual",
        "And",
        "Or",
        "Xor",
        "Mod",
        "PRelu",
        "Where",
        "BiasGelu",
        "QLinearAdd",
        "QLinearMul",
        "BitwiseAnd",
    ]
)
_UNARY = frozenset(
    [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Log",
        "Erf",
        "Sqrt",
        "Neg",
        "Abs",
        "Reciprocal",
        "Gelu",
        "FastGelu",
        "QuickGelu",
        "HardSwish",
        "HardSigmoid",
        "LeakyRelu",
        "Elu",
        "Softplus",
        "Softsign",
        "Selu",
        "Celu",
        "Mish",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Sin",
        "Cos",
        "Not",
        "Cast",
        "Clip",
        "ThresholdedRelu",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "IsNaN",
        "Swish",
    ]
)
_DATA_INPUTS = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3), "Where": (1, 2)}


def describe_elementwise(operator: Operator) -> Description | None:
    """The kernel of an elementwise operator, or None."""
    op_type = operator.op_type
    y = shape_of(operator.output(0))
    size = math.prod(y)
    kind = op_type.lower()
    if op_type in _UNARY:
        rows = float(any(len(shape_of(tensor)) == 1 and shape_of(tensor)[0] > 1 for tensor in operator.inputs[1:]))
        to = operator.outputs[0].dtype.label if op_type == "Cast" and operator.outputs[0] is not None else ""
        return Description(f"{kind}-{to}" if to else kind, "unary", (log2(size), rows))
    if op_type in _BINARY:
        left, right = _DATA_INPUTS.get(op_type, (0, 1))
        form, run = _broadcast(y, shape_of(operator.input(left)), shape_of(operator.input(right)))
        return Description(f"{kind}-{form}", "binary", (log2(size), log2(run)))
    return None


def _broadcast(y: tuple[int, ...], *inputs: tuple[int, ...]) -> tuple[str, int]:
    """How two shapes meet, and how many neighbouring elements are computed alike."""
    smaller = [shape for shape in inputs if math.prod(shape) != math.prod(y)]
    if not smaller:
        return "same", math.prod(y)
    if all(math.prod(shape) == 1 for shape in smaller):
        return "scalar", math.prod(y)
    shape = min(smaller, key=math.prod)
    padded = (1,) * (len(y) - len(shape)) + shape
    repeated = padded[-1] != y[-1]  # one element for a run of the result, or a run of its own
    run = 1
    for of_input, of_result in zip(reversed(padded), reversed(y), strict=True):
        if (of_input != of_result) is not repeated and of_result != 1:
            break
        run *= of_result
    return ("column" if repeated else "row"), run
