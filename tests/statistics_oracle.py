"""Normalisation of lines of self-tallying numbers, and operators to compare it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)


MICROSOFT = "com.microsoft"


HALF, FLOAT, DOUBLE = DType.FLOAT16, DType.FLOAT, DType.DOUBLE


def tensor(*shape: int, dtype: DType = FLOAT, constant: bool = False) -> Tensor:
    return Tensor("t", dtype, shape, None, constant)


def counted(
    op_type: str, *inputs: Tensor | None, domain: str = "", version: int = 23, outputs: str = "y", **attributes: Any
) -> Counts:
    """The count of one node. `outputs` has a letter for each output, "-" where it is not asked for."""
    if not domain and onnx.defs.has(op_type, version, ""):
        for name, attribute in onnx.defs.get_schema(op_type, version, "").attributes.items():
            if attribute.default_value.name:
                attributes.setdefault(name, helper.get_attribute_value(attribute.default_value))
    rule = find_rule(op_type, domain, version)
    assert rule is not None and rule.function is not None
    produced = tuple(None if letter == "-" else tensor() for letter in outputs)
    return rule.function(Operator("n", op_type, domain, version, inputs, produced, attributes))


def basic(op_type: str, *inputs: Tensor | None, **options: Any) -> dict[str, int]:
    return counted(op_type, *inputs, **options).basic_operations()


def total(line: Any) -> Any:
    return np.add.reduce(line)


def standardize(line: Any) -> Any:
    mean = total(line) / len(line)
    deviation = line - mean
    variance = total(deviation * deviation) / len(line)
    return deviation / (variance + 1e-5).sqrt()


def root_mean_square(line: Any) -> Any:
    return line / (total(line * line) / len(line) + 1e-5).sqrt()
