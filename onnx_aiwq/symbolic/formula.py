"""Exact integer formulas in symbolic dimensions: polynomials with integer coefficients over symbols, floors and maxima.

A symbol stands for a dimension, an integer of at least 1. A `Formula` takes part in integer arithmetic (+ - * //, min,
max, comparisons) like an int, so that the same shape and cost rules that work on ints work on it; a comparison that
depends on the value of a symbol raises `UndecidableError` instead of guessing.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TypeAlias

from onnx_aiwq.errors import ShapeError

Dim: TypeAlias = "int | Formula"
# One factor of a monomial: a symbol by name, or ("floor", numerator, divisor), ("max" | "min", left, right).
Atom: TypeAlias = "str | tuple[str, Formula, Formula]"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
MOST_TERMS = 2_000  # a product of many sums has exponentially many terms: no formula that anybody could read


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
    """An immutable polynomial; `terms` maps each monomial to its coefficient, and is never changed."""

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: number for monomial, number in terms.items() if number}
        self._hash: int | None = None
        self._text: str | None = None  # noted, because texts order the atoms at every level of nested floors

    @property
    def is_constant(self) -> bool:
        """Whether no symbol is left."""
        return not self.terms or (len(self.terms) == 1 and () in self.terms)

    @property
    def constant(self) -> int:
        """The term without symbols."""
        return self.terms.get((), 0)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of all symbols."""
        names: set[str] = set()
        for monomial in self.terms:
            for atom, _ in monomial:
                names |= {atom} if isinstance(atom, str) else atom[1].symbols | atom[2].symbols
        return frozenset(names)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value at given symbols; raises `KeyError` for a symbol without a value."""
        total = 0
        for monomial, number in self.terms.items():
            product = number
            for atom, power in monomial:
                product *= _atom_value(atom, values) ** power
            total += product
        return total

    def renamed(self, names: Mapping[str, str]) -> Formula:
        """The same formula with other names of its symbols."""
        total: Dim = 0
        # Built anew, because the normal form orders atoms by name.
        for monomial, number in self.terms.items():
            product: Dim = number
            for atom, power in monomial:
                product = product * _renamed_atom(atom, names) ** power
            total = total + product
        return as_formula(total)

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self.terms)
        for monomial, number in terms_of(other).items():
            terms[monomial] = terms.get(monomial, 0) + number
        return simplified(Formula(terms))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Formula({monomial: -number for monomial, number in self.terms.items()})

    def __sub__(self, other: Dim) -> Dim:
        return self + -as_formula(other)  # an unsigned integer of numpy has no negative

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        terms: dict[Monomial, int] = {}
        for left, left_number in self.terms.items():
            for right, right_number in terms_of(other).items():
                monomial = monomial_product(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_number * right_number
            if len(terms) > MOST_TERMS:
                raise UndecidableError(f"a formula of more than {MOST_TERMS:,} terms")
        return simplified(Formula(terms))

    __rmul__ = __mul__

    def __pow__(self, power: int) -> Dim:
        if power < 0:
            raise ValueError(f"({self})**{power} is no integer")
        result: Dim = 1
        for _ in range(power):
            result = result * self
        return result

    def __floordiv__(self, other: Dim) -> Dim:
        from onnx_aiwq.symbolic.division import floor_division  # which is built on this class, like all that follow

        return floor_division(self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        from onnx_aiwq.symbolic.division import floor_division

        return floor_division(other, self)

    def __mod__(self, other: Dim) -> Dim:
        return self - (self // other) * other

    def __rmod__(self, other: Dim) -> Dim:
        return other - (other // self) * self

    def __eq__(self, other: object) -> bool:
        """Whether two formulas are the same polynomial; a symbol is never taken to be a number."""
        if isinstance(other, int):
            return self.is_constant and self.constant == other
        return isinstance(other, Formula) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.constant) if self.is_constant else hash(frozenset(self.terms.items()))
        return self._hash

    def __lt__(self, other: Dim) -> bool:
        return not self >= other

    def __le__(self, other: Dim) -> bool:
        return not self > other

    def __gt__(self, other: Dim) -> bool:
        return self >= other + 1

    def __ge__(self, other: Dim) -> bool:
        from onnx_aiwq.symbolic.bounds import bounds

        low, high = bounds(self - other)
        if low is not None and low >= 0:
            return True
        if high is not None and high < 0:
            return False
        raise UndecidableError(f"whether {self} >= {other} depends on its value")

    def __bool__(self) -> bool:
        from onnx_aiwq.symbolic.bounds import bounds

        low, high = bounds(self)
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
        if self._text is None:
            from onnx_aiwq.symbolic.text import formula_text

            self._text = formula_text(self)
        return self._text

    def __repr__(self) -> str:
        return f"Formula({self})"


def evaluated(value: Dim, values: Mapping[str, int]) -> int:
    """A dimension or count at given symbols; ints are themselves."""
    return value.evaluate(values) if isinstance(value, Formula) else value


def as_formula(value: Dim) -> Formula:
    return value if isinstance(value, Formula) else Formula({(): operator.index(value)})


def terms_of(value: Dim) -> Mapping[Monomial, int]:
    if isinstance(value, Formula):
        return value.terms
    return {(): operator.index(value)}  # a real number would be cut to an integer without a word


def atom_key(atom: Atom) -> tuple[str, str, str]:
    return ("", atom, "") if isinstance(atom, str) else (atom[0], str(atom[1]), str(atom[2]))


def monomial_product(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda factor: atom_key(factor[0])))


def _atom_value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return values[atom]
    left, right = atom[1].evaluate(values), atom[2].evaluate(values)
    if atom[0] == "floor":
        return left // right
    return max(left, right) if atom[0] == "max" else min(left, right)


def _renamed_atom(atom: Atom, names: Mapping[str, str]) -> Dim:
    if isinstance(atom, str):
        return symbol(names.get(atom, atom))
    from onnx_aiwq.symbolic.extremes import extreme

    left, right = atom[1].renamed(names), atom[2].renamed(names)
    return left // right if atom[0] == "floor" else extreme(atom[0], left, right)
