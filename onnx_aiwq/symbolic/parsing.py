"""Reads the text of a dimension, which a file may bring along and which may be hostile."""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Mapping

from onnx_aiwq.symbolic.extremes import at_least, at_most, operands
from onnx_aiwq.symbolic.formula import (
    Dim,
    Formula,
    Monomial,
    UndecidableError,
    as_formula,
    simplified,
    symbol,
    terms_of,
)
from onnx_aiwq.symbolic.text import NOT_ARITHMETIC

_LONGEST_TEXT = 50_000
_LARGEST_POWER = 64
_LARGEST_BITS = 10_000  # of a coefficient; towers of powers end here
_MOST_STEPS = 100_000  # terms multiplied; many products of sums, each of them short, end here
_BRACED = re.compile(r"\{([^{}]*)\}")


@functools.lru_cache(maxsize=65536)
def parse(text: str) -> Dim | None:
    """Read the text of a dimension as the shape libraries write it; None where it holds anything else.

    Knows + - * / // ** %, floor, ceiling, Max, Min, Mod and integers; every other name is a symbol. A name that is no
    identifier stands in braces, with %7B and %7D for braces of its own and %25 for a percent sign.
    """
    if len(text) > _LONGEST_TEXT:
        return None
    names: dict[str, str] = {}
    prefix = "braced"
    while prefix in text:
        prefix += "_"

    def plain(match: re.Match[str]) -> str:
        alias = f"{prefix}{len(names)}"
        names[alias] = match[1].replace("%7D", "}").replace("%7B", "{").replace("%25", "%")
        return f" {alias} "  # apart from what stands beside it

    text = _BRACED.sub(plain, text).strip()
    if NOT_ARITHMETIC.search(text):
        return None
    try:
        value, denominator = _Reader(names).rational(ast.parse(text, mode="eval").body)
        quotient = value // denominator
        return quotient if quotient * denominator == value else None
    except (SyntaxError, ValueError, UndecidableError, ZeroDivisionError, RecursionError, MemoryError):
        return None


class _Reader:
    """Makes formulas of syntax trees, as rational formulas (numerator, denominator); the text may be hostile."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._steps = 0

    def rational(self, node: ast.expr) -> tuple[Dim, Dim]:
        """The formula of a tree; raises `ValueError` where it is none."""
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value, 1
        if isinstance(node, ast.Name):
            return symbol(self._names.get(node.id, node.id)), 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value, denominator = self.rational(node.operand)
            return -value, denominator
        if isinstance(node, ast.BinOp):
            is_sum = isinstance(node.op, ast.Add | ast.Sub)
            return self._sum(node) if is_sum else self._product(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and not node.keywords:
            return self._call(node.func.id.lower(), [self.rational(argument) for argument in node.args]), 1
        raise ValueError(f"{type(node).__name__} in a dimension")

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise ValueError("an expression beyond any dimension")

    def _times(self, left: Dim, right: Dim) -> Dim:
        self._spend(len(terms_of(left)) * len(terms_of(right)))
        return left * right

    def _sum(self, node: ast.expr) -> tuple[Dim, Dim]:
        """A sum of any length: its first terms are nested deepest, which recursion would not reach."""
        nodes: list[tuple[int, ast.expr]] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            nodes.append((1 if isinstance(node.op, ast.Add) else -1, node.right))
            node = node.left
        parts = [(sign, *self.rational(term)) for sign, term in (*nodes, (1, node))]
        divisors = {over for _, _, over in parts if isinstance(over, Formula)}
        if len(divisors) > 1:
            raise ValueError("a sum of quotients by different formulas")
        common = math.lcm(*(over for _, _, over in parts if isinstance(over, int))) * next(iter(divisors), 1)
        terms: dict[Monomial, int] = {}
        for sign, value, over in parts:
            for monomial, number in terms_of(self._times(value, common // over)).items():
                terms[monomial] = terms.get(monomial, 0) + sign * number
        return simplified(Formula(terms)), common

    def _product(self, node: ast.BinOp) -> tuple[Dim, Dim]:
        (left, left_over), (right, right_over) = self.rational(node.left), self.rational(node.right)
        if isinstance(node.op, ast.Mult):
            return self._times(left, right), self._times(left_over, right_over)
        if isinstance(node.op, ast.Pow) and isinstance(right, int) and right_over == 1:
            return self._power(left, right), self._power(left_over, right)
        if isinstance(node.op, ast.Div) and right != 0:
            return self._times(left, right_over), self._times(left_over, right)
        if isinstance(node.op, ast.FloorDiv):
            return self._times(left, right_over) // self._times(right, left_over), 1
        if isinstance(node.op, ast.Mod) and left_over == right_over == 1:
            return left - self._times(left // right, right), 1
        raise ValueError(f"{type(node.op).__name__} in a dimension")

    def _power(self, base: Dim, power: int) -> Dim:
        bits = max((number.bit_length() for number in terms_of(base).values()), default=0)
        if not 0 <= power <= _LARGEST_POWER or bits * power > _LARGEST_BITS:
            raise ValueError("a power beyond any dimension")
        result: Dim = 1
        for _ in range(power):
            result = self._times(result, base)
        return result

    def _call(self, name: str, arguments: list[tuple[Dim, Dim]]) -> Dim:
        self._spend(50)  # a floor or a maximum compares its operands, which takes as long as many products
        value, over = arguments[0]
        if len(arguments) == 1 and name == "floor":
            return value // over
        if len(arguments) == 1 and name in ("ceiling", "ceil"):
            return -(-value // over)
        plain = [argument for argument, denominator in arguments if denominator == 1]
        if len(plain) == len(arguments) == 2 and name == "mod":
            return plain[0] - self._times(plain[0] // plain[1], plain[1])
        if len(plain) == len(arguments) and name in ("max", "min"):
            result = functools.reduce(at_least if name == "max" else at_most, plain)
            self._spend(10 * len(operands(name, as_formula(result))) ** 2)
            return result
        raise ValueError(f"{name} of {len(arguments)} numbers in a dimension")
