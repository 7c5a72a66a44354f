"""Exact integer formulas in symbolic dimensions: polynomials with integer coefficients over symbols, floors and maxima.

A symbol stands for a dimension, an integer of at least 1. A `Formula` takes part in integer arithmetic (+ - * //, min,
max, comparisons) like an int, so that the same shape and cost rules that work on ints work on it; a comparison that
depends on the value of a symbol raises `UndecidableError` instead of guessing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from typing import TypeAlias

from onnx_aiwq.errors import ShapeError

Dim: TypeAlias = "int | Formula"
# One factor of a monomial: a symbol by name, or ("floor", numerator, divisor), ("max" | "min", left, right).
Atom: TypeAlias = "str | tuple[str, Formula, Formula]"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"


class UndecidableError(ShapeError):
    """A decision that depends on the value of a symbolic dimension."""


def symbol(name: str) -> Formula:
    """The formula that is one symbol."""
    return Formula({((name, 1),): 1})


def simplified(value: Dim) -> Dim:
    """An int where the formula is constant, else the formula."""
    if isinstance(value, Formula) and value.is_constant:
        return value.constant
    return value


class Formula:
    """An immutable polynomial; see the module."""

    __slots__ = ("_hash", "_terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self._terms = {monomial: number for monomial, number in terms.items() if number}
        self._hash: int | None = None

    @property
    def is_constant(self) -> bool:
        """Whether no symbol is left."""
        return not self._terms or (len(self._terms) == 1 and () in self._terms)

    @property
    def constant(self) -> int:
        """The term without symbols."""
        return self._terms.get((), 0)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols."""
        names: set[str] = set()
        for monomial in self._terms:
            for atom, _ in monomial:
                names |= {atom} if isinstance(atom, str) else atom[1].symbols | atom[2].symbols
        return frozenset(names)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value at given symbols; raises `KeyError` for a symbol without a value."""
        total = 0
        for monomial, number in self._terms.items():
            product = number
            for atom, power in monomial:
                product *= _atom_value(atom, values) ** power
            total += product
        return total

    def renamed(self, names: Mapping[str, str]) -> Formula:
        """The same formula with other names of its symbols."""
        return Formula(
            {
                tuple((_renamed_atom(atom, names), power) for atom, power in monomial): number
                for monomial, number in self._terms.items()
            }
        )

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self._terms)
        for monomial, number in _terms_of(other).items():
            terms[monomial] = terms.get(monomial, 0) + number
        return simplified(Formula(terms))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Formula({monomial: -number for monomial, number in self._terms.items()})

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        terms: dict[Monomial, int] = {}
        for left, left_number in self._terms.items():
            for right, right_number in _terms_of(other).items():
                monomial = _product(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_number * right_number
        return simplified(Formula(terms))

    __rmul__ = __mul__

    def __pow__(self, power: int) -> Dim:
        result: Dim = 1
        for _ in range(power):
            result = result * self
        return result

    def __floordiv__(self, other: Dim) -> Dim:
        return _floor_division(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _floor_division(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - (self // other) * other

    def __rmod__(self, other: Dim) -> Dim:
        return other - (other // self) * self

    def __eq__(self, other: object) -> bool:
        """Whether two formulas are the same polynomial; a symbol is never taken to be a number."""
        if isinstance(other, int):
            return self.is_constant and self.constant == other
        return isinstance(other, Formula) and self._terms == other._terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.constant) if self.is_constant else hash(frozenset(self._terms.items()))
        return self._hash

    def __lt__(self, other: Dim) -> bool:
        return not self >= other

    def __le__(self, other: Dim) -> bool:
        return not self > other

    def __gt__(self, other: Dim) -> bool:
        return self >= other + 1

    def __ge__(self, other: Dim) -> bool:
        low, high = _bounds(self - other)
        if low is not None and low >= 0:
            return True
        if high is not None and high < 0:
            return False
        raise UndecidableError(f"whether {self} >= {other} depends on its value")

    def __bool__(self) -> bool:
        low, high = _bounds(self)
        if (low is not None and low > 0) or (high is not None and high < 0):
            return True
        if self.is_constant:
            return bool(self.constant)
        raise UndecidableError(f"whether {self} is zero depends on its value")

    def __index__(self) -> int:
        if self.is_constant:
            return self.constant
        raise UndecidableError(f"the value of {self} is not known")

    __int__ = __index__

    def __float__(self) -> float:
        return float(int(self))

    def __str__(self) -> str:
        if not self._terms:
            return "0"
        text = " + ".join(_monomial_text(monomial, number) for monomial, number in _ordered(self._terms))
        return text.replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Formula({self})"


def evaluated(value: Dim, values: Mapping[str, int]) -> int:
    """A dimension or count at given symbols; ints are themselves."""
    return value.evaluate(values) if isinstance(value, Formula) else value


def at_least(left: Dim, right: Dim) -> Dim:
    """The larger of two dimensions, as a formula where it cannot be decided."""
    return _extreme("max", left, right)


def at_most(left: Dim, right: Dim) -> Dim:
    """The smaller of two dimensions, as a formula where it cannot be decided."""
    return _extreme("min", left, right)


def _extreme(kind: str, left: Dim, right: Dim) -> Dim:
    try:
        larger = left if left >= right else right
    except UndecidableError:
        first, second = sorted((_formula(left), _formula(right)), key=str)
        return Formula({(((kind, first, second), 1),): 1})
    return larger if kind == "max" else left + right - larger


def _formula(value: Dim) -> Formula:
    return value if isinstance(value, Formula) else Formula({(): value})


def _terms_of(value: Dim) -> Mapping[Monomial, int]:
    if isinstance(value, Formula):
        return value._terms
    return {(): int(value)}


def _atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else f"{atom[0]}({atom[1]},{atom[2]})"


def _product(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda factor: _atom_key(factor[0])))


def _floor_division(left: Dim, right: Dim) -> Dim:
    """left // right: exact where every term divides, else the terms that divide plus a floor of the rest."""
    left, right = simplified(left), simplified(right)
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    divisor = _terms_of(right)
    if len(divisor) == 1:
        ((monomial, number),) = divisor.items()
        whole: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for term, coefficient in _terms_of(left).items():
            quotient = _quotient(term, monomial)
            if quotient is None:
                rest[term] = coefficient
                continue
            # floor((q d + r) m / (d m)) = q m' + floor(r m' ...): split the coefficient where it does not divide.
            units, remainder = divmod(coefficient, number)
            whole[quotient] = units
            if remainder:
                rest[term] = remainder
        if not rest:
            return simplified(Formula(whole))
        left = simplified(Formula(rest))
        return Formula(whole) + _floor_atom(left, right)
    ratio = _exact_ratio(left, right)
    return ratio if ratio is not None else _floor_atom(left, right)


def _floor_atom(left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    try:
        if 0 <= left < right:
            return 0
    except UndecidableError:
        pass  # an ordinary floor then
    return Formula({((("floor", _formula(left), _formula(right)), 1),): 1})


def _exact_ratio(left: Dim, right: Dim) -> Dim | None:
    """The polynomial quotient where there is one, by division on the leading terms."""
    remainder, quotient = _formula(left), Formula({})
    lead, lead_number = _ordered(_terms_of(right))[0]
    for _ in range(len(remainder._terms) + 8):
        if not remainder._terms:
            return simplified(quotient)
        term, number = _ordered(remainder._terms)[0]
        factor = _quotient(term, lead)
        if factor is None or number % lead_number:
            return None
        step = Formula({factor: number // lead_number})
        quotient = _formula(quotient + step)
        remainder = _formula(remainder - step * right)
    return None


def _quotient(term: Monomial, divisor: Monomial) -> Monomial | None:
    powers = dict(term)
    for atom, power in divisor:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return tuple((atom, power) for atom, power in powers.items() if power)


def _ordered(terms: Mapping[Monomial, int]) -> list[tuple[Monomial, int]]:
    """Terms by falling degree, then by name."""
    return sorted(terms.items(), key=lambda term: (-sum(p for _, p in term[0]), [_atom_key(a) for a, _ in term[0]]))


def _monomial_text(monomial: Monomial, number: int) -> str:
    factors = [_factor_text(atom, power) for atom, power in monomial]
    if number != 1 or not factors:
        factors.insert(0, "-" if number == -1 and factors else str(number))
    return "*".join(factors).replace("-*", "-")


def _factor_text(atom: Atom, power: int) -> str:
    if isinstance(atom, str):
        base = atom if atom.isidentifier() else "{" + atom + "}"
    elif atom[0] == "floor":
        base = f"floor(({atom[1]})/({atom[2]}))"
    else:
        base = f"{atom[0]}({atom[1]}, {atom[2]})"
    return base if power == 1 else f"{base}**{power}"


def _atom_value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return values[atom]
    left, right = atom[1].evaluate(values), atom[2].evaluate(values)
    if atom[0] == "floor":
        return left // right
    return max(left, right) if atom[0] == "max" else min(left, right)


def _renamed_atom(atom: Atom, names: Mapping[str, str]) -> Atom:
    if isinstance(atom, str):
        return names.get(atom, atom)
    return atom[0], atom[1].renamed(names), atom[2].renamed(names)


def _bounds(value: Dim) -> tuple[int | None, int | None]:
    """Bounds over all symbols of at least 1; None where there is none.

    Each symbol is written as 1 + t with t >= 0: coefficients of one sign in t then bound the value by the constant.
    """
    if isinstance(value, int):
        return value, value
    shifted: Dim = 0
    for monomial, number in value._terms.items():
        product: Dim = number
        for atom, power in monomial:
            low = 1 if isinstance(atom, str) else _atom_low(atom)
            if low is None:
                return None, None
            # Only the sign of the coefficients matters from here on, so the atom itself can stand for t.
            product = product * Formula({((atom, 1),): 1, (): low}) ** power
        shifted = shifted + product
    terms = _terms_of(shifted)
    others = [number for monomial, number in terms.items() if monomial]
    constant = terms.get((), 0)
    low_bound = constant if all(number >= 0 for number in others) else None
    high_bound = constant if all(number <= 0 for number in others) else None
    return low_bound, high_bound


@functools.cache
def _atom_low(atom: tuple[str, Formula, Formula]) -> int | None:
    left, right = _bounds(atom[1])[0], _bounds(atom[2])
    if atom[0] == "floor":
        if left is None or right[0] is None or right[0] <= 0:
            return None
        return left // right[0] if right[0] == right[1] else min(0, left)
    if atom[0] == "max":
        known = [low for low in (left, right[0]) if low is not None]
        return max(known, default=None)
    return None if left is None or right[0] is None else min(left, right[0])


@functools.lru_cache(maxsize=65536)
def parse(text: str) -> Dim | None:
    """Read the text of a dimension as the shape libraries write it; None where it holds anything else.

    Knows + - * / // ** %, floor, ceiling, Max, Min, Mod and integers; every other name is a symbol.
    """
    try:
        value, denominator = _parsed(ast.parse(text.replace("{", "").replace("}", ""), mode="eval").body)
    except (SyntaxError, ValueError, UndecidableError, ZeroDivisionError, RecursionError):
        return None
    return value if denominator == 1 else None


def _parsed(node: ast.expr) -> tuple[Dim, int]:
    """A rational formula as (numerator, denominator)."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value, 1
    if isinstance(node, ast.Name):
        return symbol(node.id), 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value, denominator = _parsed(node.operand)
        return -value, denominator
    if isinstance(node, ast.BinOp):
        return _parsed_operation(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _parsed_call(node.func.id.lower(), [_parsed(argument) for argument in node.args]), 1
    raise ValueError(ast.dump(node))


def _parsed_operation(node: ast.BinOp) -> tuple[Dim, int]:
    (left, left_over), (right, right_over) = _parsed(node.left), _parsed(node.right)
    if isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return left * right_over + sign * (right * left_over), left_over * right_over
    if isinstance(node.op, ast.Mult):
        return left * right, left_over * right_over
    if isinstance(node.op, ast.Pow) and isinstance(right, int) and right >= 0 and right_over == 1:
        return left**right, left_over**right
    if isinstance(node.op, ast.Div) and isinstance(right, int) and right > 0:
        return left * right_over, left_over * right
    if isinstance(node.op, ast.FloorDiv):
        return (left * right_over) // (right * left_over), 1
    if isinstance(node.op, ast.Mod) and left_over == right_over == 1:
        return left % right, 1
    raise ValueError(ast.dump(node))


def _parsed_call(name: str, arguments: list[tuple[Dim, int]]) -> Dim:
    value, over = arguments[0]
    if name == "floor":
        return value // over
    if name in ("ceiling", "ceil"):
        return -(-value // over)
    plain = [argument for argument, denominator in arguments if denominator == 1]
    if len(plain) == len(arguments) == 2 and name == "mod":
        return plain[0] % plain[1]
    if len(plain) == len(arguments) and name in ("max", "min"):
        return functools.reduce(at_least if name == "max" else at_most, plain)
    raise ValueError(name)
