"""Transistor operations (TO): how many transistors one basic operation of one data type switches.

The unit is that of Li, Tsourdos and Guo, "Transistor Operations", IEEE TAI 5(1), 2024 (doi 10.1109/TAI.2022.3229280).
``data/transistors.csv`` holds one row per data type with the formulas' parameters and which parts are stated in the
paper [P], fitted to its published numbers [F] or derived here [D]:

    adder(n) = 10 (n - 1) + 6
    add = sub = adder(p)
    mul = round(90000 (p / 64)^2)  + [adder(e) + 4 if float]
    div = round(110000 (p / 64)^2) + [adder(e) + 4 if float]
    root = k (4 mul + sub), k = max(1, ceil(log2(p / 4)))
    compare = adder(N)

with p significand bits (hidden bit included) or the integer width, e exponent bits and N bits of the operand. The
quadratic law was identified at one width only (24 bits); it is a ranking of types, not a circuit of each.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

import msgspec

from onnx_aiwq.errors import UnsupportedOperatorError, suggestion
from onnx_aiwq.vocabulary import BasicOp, Counts, DType


class TransistorCost(msgspec.Struct, frozen=True):
    """Transistors per basic operation of one data type, and the parameters that they follow from.

    Attributes:
        dtype: the data type.
        per_operation: transistors of one operation of each kind; bool has no div and no root and holds 0 there.
        significand_bits: p, hidden bit included; the width for integers.
        exponent_bits: e; 0 for integers and bool.
        width_bits: N, bits of an operand that carry information (1 for bool, whatever its storage).
        newton_steps: k, Newton-Raphson steps of a root, each of 4 mul and 1 sub.
        source: paper and equation, with the parts that are stated, fitted or derived.
    """

    dtype: DType
    per_operation: Mapping[BasicOp, int]
    significand_bits: int
    exponent_bits: int
    width_bits: int
    newton_steps: int
    source: str


@functools.cache
def transistor_table() -> Mapping[DType, TransistorCost]:
    """The whole table, in the order of the file: one `TransistorCost` per data type that arithmetic can have."""
    by_label = {dtype.label: dtype for dtype in DType}
    table = resources.files("onnx_aiwq") / "data" / "transistors.csv"
    costs = {}
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        dtype = by_label[row["dtype"]]
        costs[dtype] = TransistorCost(
            dtype=dtype,
            per_operation=MappingProxyType({op: int(row[op.value]) for op in BasicOp}),
            significand_bits=int(row["significand_bits"]),
            exponent_bits=int(row["exponent_bits"]),
            width_bits=int(row["width_bits"]),
            newton_steps=int(row["newton_steps"]),
            source=row["source"],
        )
    return MappingProxyType(costs)


def transistor_cost(dtype: DType) -> TransistorCost:
    """The row of one data type.

    Raises:
        UnsupportedOperatorError: if arithmetic has no price in that type (string, undefined, complex).
    """
    cost = transistor_table().get(dtype)
    if cost is None:
        known = [known.label for known in transistor_table()]
        raise UnsupportedOperatorError(
            f"data type {dtype.label!r}: no transistor count is known for arithmetic in it;"
            f"{suggestion(dtype.label, known)} known are {', '.join(known)}; count the operator in one of these"
        )
    return cost


def transistors_per_operation(dtype: DType, op: BasicOp) -> int:
    """Transistors of one basic operation of one data type.

    Raises:
        UnsupportedOperatorError: if the type has no row.
    """
    return transistor_cost(dtype).per_operation[op]


def transistors_per_mac(dtype: DType, accumulator: DType | None = None) -> int:
    """Transistors of one multiply-accumulate pair: a product in `dtype` and an addition in `accumulator`.

    The accumulator is `dtype` unless given; quantised products accumulate in int32.
    """
    accumulator = accumulator or dtype
    return transistors_per_operation(dtype, BasicOp.MUL) + transistors_per_operation(accumulator, BasicOp.ADD)


def transistor_operations(counts: Counts) -> int:
    """Transistor operations of the counts: the sum of count x transistors over data types and operations (exact).

    Raises:
        UnsupportedOperatorError: if a type that is counted has no row.
    """
    return sum(number * transistors_per_operation(dtype, op) for (dtype, op), number in counts.operations.items())


def by_dtype(counts: Counts) -> dict[DType, int]:
    """Transistor operations of each data type that occurs, in the order of `DType`; they add up to the total.

    Raises:
        UnsupportedOperatorError: if a type that is counted has no row.
    """
    found = dict.fromkeys(counts.dtypes, 0)
    for (dtype, op), number in counts.operations.items():
        found[dtype] += number * transistors_per_operation(dtype, op)
    return found
