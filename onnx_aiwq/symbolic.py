"""Exact integer formulas in symbolic dimensions: polynomials with integer coefficients over symbols, floors and maxima.

A symbol stands for a dimension, an integer of at least 1. A `Formula` takes part in integer arithmetic (+ - * //, min,
max, comparisons) like an int, so that the same shape and cost rules that work on ints work on it; a comparison that
depends on the value of a symbol raises `UndecidableError` instead of guessing.
"""

from __future__ import annotations

import ast
import functools
import itertools
import keyword
import math
import operator
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from onnx_aiwq.errors import ShapeError

Dim: TypeAlias = "int | Formula"
# One factor of a monomial: a symbol by name, or ("floor", numerator, divisor), ("max" | "min", left, right).
Atom: TypeAlias = "str | tuple[str, Formula, Formula]"
Monomial: TypeAlias = "tuple[tuple[Atom, int], ...]"
_MOST_TERMS = 2_000  # a product of many sums has exponentially many terms: no formula that anybody could read
_MOST_FLOORS = 5  # that a bound looks through, each subset of them
_MOST_OPERANDS = 16  # of one maximum; each is compared with all others


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

    __slots__ = ("_hash", "_terms", "_text")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self._terms = {monomial: number for monomial, number in terms.items() if number}
        self._hash: int | None = None
        self._text: str | None = None  # noted, because texts order the atoms at every level of nested floors

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
        total: Dim = 0
        # Built anew, because the normal form orders atoms by name.
        for monomial, number in self._terms.items():
            product: Dim = number
            for atom, power in monomial:
                product = product * _renamed_atom(atom, names) ** power
            total = total + product
        return _formula(total)

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self._terms)
        for monomial, number in _terms_of(other).items():
            terms[monomial] = terms.get(monomial, 0) + number
        return simplified(Formula(terms))

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Formula({monomial: -number for monomial, number in self._terms.items()})

    def __sub__(self, other: Dim) -> Dim:
        return self + -_formula(other)  # an unsigned integer of numpy has no negative

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        terms: dict[Monomial, int] = {}
        for left, left_number in self._terms.items():
            for right, right_number in _terms_of(other).items():
                monomial = _product(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_number * right_number
            if len(terms) > _MOST_TERMS:
                raise UndecidableError(f"a formula of more than {_MOST_TERMS:,} terms")
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
        if self._text is None:
            signed = [
                f"{'-' if number < 0 else '+'} {_monomial_text(monomial, abs(number))}"
                for monomial, number in _ordered(self._terms)
            ]
            text = " ".join(signed) or "0"
            self._text = "-" + text[2:] if text.startswith("- ") else text.removeprefix("+ ")
        return self._text

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
    kept: list[Formula] = []
    for operand in (*_operands(kind, _formula(left)), *_operands(kind, _formula(right))):
        if not any(_covers(kind, other, operand) for other in kept):
            kept = [other for other in kept if not _covers(kind, operand, other)] + [operand]
        if len(kept) > _MOST_OPERANDS:
            raise UndecidableError(f"a {kind} of more than {_MOST_OPERANDS} formulas")
    first, *others = sorted(kept, key=str)
    joined = functools.reduce(lambda one, other: Formula({(((kind, one, other), 1),): 1}), others, first)
    return simplified(joined)


def _operands(kind: str, value: Formula) -> list[Formula]:
    """The operands of a nested maximum or minimum; a value of any other form is its own only one."""
    if len(value._terms) == 1:
        ((monomial, number),) = value._terms.items()
        if number == 1 and len(monomial) == 1:
            atom, power = monomial[0]
            if not isinstance(atom, str) and atom[0] == kind and power == 1:
                return [*_operands(kind, atom[1]), *_operands(kind, atom[2])]
    return [value]


def _covers(kind: str, one: Formula, other: Formula) -> bool:
    """Whether the extreme of two formulas is always the first."""
    if one in _operands("min" if kind == "max" else "max", other):
        return True  # max(a, min(a, b)) is a
    try:
        return one >= other if kind == "max" else other >= one
    except UndecidableError:
        return False


def _formula(value: Dim) -> Formula:
    return value if isinstance(value, Formula) else Formula({(): operator.index(value)})


def _terms_of(value: Dim) -> Mapping[Monomial, int]:
    if isinstance(value, Formula):
        return value._terms
    return {(): operator.index(value)}  # a real number would be cut to an integer without a word


def _atom_key(atom: Atom) -> tuple[str, str, str]:
    return ("", atom, "") if isinstance(atom, str) else (atom[0], str(atom[1]), str(atom[2]))


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
    if left == 0:
        return 0
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
    for _ in range(_MOST_TERMS):
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
    """Terms by falling degree, then by name and falling power: one order, in which polynomials can be divided."""
    return sorted(
        terms.items(), key=lambda term: (-sum(p for _, p in term[0]), [(_atom_key(a), -p) for a, p in term[0]])
    )


def _monomial_text(monomial: Monomial, number: int) -> str:
    factors = [_factor_text(atom, power) for atom, power in monomial]
    return "*".join(factors if factors and number == 1 else [str(number), *factors])


def _symbol_text(name: str) -> str:
    """A name as `parse` reads it back: in braces unless Python takes it for this very identifier."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and not _NOT_ARITHMETIC.search(name)
    if plain and unicodedata.normalize("NFKC", name) == name:
        return name
    return "{" + name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}"


def _factor_text(atom: Atom, power: int) -> str:
    if isinstance(atom, str):
        base = _symbol_text(atom)
    elif atom[0] == "floor":
        base = f"floor(({atom[1]})/({atom[2]}))"
    else:
        base = f"{atom[0]}({', '.join(str(each) for side in atom[1:] for each in _operands(atom[0], side))})"
    return base if power == 1 else f"{base}**{power}"


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
    left, right = atom[1].renamed(names), atom[2].renamed(names)
    return left // right if atom[0] == "floor" else _extreme(atom[0], left, right)


def _bounds(value: Dim) -> tuple[int | None, int | None]:
    """Bounds over all symbols of at least 1; None where none is found."""
    return (value, value) if isinstance(value, int) else _formula_bounds(value)


@functools.lru_cache(maxsize=65536)
def _formula_bounds(value: Formula) -> tuple[int | None, int | None]:
    """Bounds by signs, of the formula or of a multiple in which some floors are written as remainders."""
    within = {atom for factor, _ in _factors(value) for atom in (factor, *_atoms_within(factor))}
    floors = sorted((atom for atom in within if _is_floor_by_number(atom)), key=_atom_key)[:_MOST_FLOORS]
    for number in range(len(floors) + 1):
        for chosen in itertools.combinations(floors, number):
            try:
                multiple, scale = _with_remainders(value, chosen)
                low, high = _signed_bounds(multiple)
            except UndecidableError:
                continue  # too many terms
            if low is not None or high is not None:
                return None if low is None else -(-low // scale), None if high is None else high // scale
    return None, None


def _signed_bounds(value: Formula) -> tuple[int | None, int | None]:
    """Bounds by signs: each symbol is written as 1 + t with t >= 0, each other atom as its least value + t.

    Coefficients of one sign in t bound the value by the constant.
    """
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


def _is_floor_by_number(atom: Atom) -> bool:
    return not isinstance(atom, str) and atom[0] == "floor" and atom[2].is_constant and atom[2].constant > 0


def _with_remainders(value: Formula, floors: Sequence[Atom]) -> tuple[Formula, int]:
    """A multiple of a formula, and how many times it is the formula, with some floors written as remainders.

    floor(x / d) is (x - rest) / d with 0 <= rest < d, so that x - floor(x / d), say, shows its sign.
    """
    scale = 1
    for _ in floors:  # once for each level, from outside in
        powers = {atom: power for atom, power in sorted(_factors(value), key=lambda each: each[1]) if atom in floors}
        inner = {atom for outer in powers for atom in _atoms_within(outer)}
        powers = {atom: power for atom, power in powers.items() if atom not in inner}
        step = math.prod(_divisor(atom) ** power for atom, power in powers.items())
        total: Dim = 0
        for monomial, number in value._terms.items():
            factor, product = number * step, Formula({(): 1})
            for atom, power in monomial:
                base: Dim = Formula({((atom, 1),): 1})
                if not isinstance(atom, str) and atom in powers:
                    factor //= _divisor(atom) ** power
                    base = atom[1] - Formula({((("rest", atom[1], atom[2]), 1),): 1})
                product = _formula(product * base**power)
            total = total + product * factor
        value, scale = _formula(total), scale * step
    return value, scale


def _divisor(atom: Atom) -> int:
    return 1 if isinstance(atom, str) else atom[2].constant


def _factors(value: Formula) -> set[tuple[Atom, int]]:
    return {factor for monomial in value._terms for factor in monomial}


def _atoms_within(atom: Atom) -> set[Atom]:
    """The atoms inside an atom, at any depth."""
    if isinstance(atom, str):
        return set()
    direct = {inner for side in atom[1:] for inner, _ in _factors(side)}
    return direct.union(*map(_atoms_within, direct))


@functools.lru_cache(maxsize=65536)
def _atom_low(atom: tuple[str, Formula, Formula]) -> int | None:
    if atom[0] == "rest":
        return 0
    left, right = _bounds(atom[1])[0], _bounds(atom[2])
    if atom[0] == "floor":
        if left is None or right[0] is None or right[0] <= 0:
            return None
        return left // right[0] if right[0] == right[1] else min(0, left)
    if atom[0] == "max":
        known = [low for low in (left, right[0]) if low is not None]
        return max(known, default=None)
    return None if left is None or right[0] is None else min(left, right[0])


_LONGEST_TEXT = 50_000
_LARGEST_POWER = 64
_LARGEST_BITS = 10_000  # of a coefficient; towers of powers end here
_MOST_STEPS = 100_000  # terms multiplied; many products of sums, each of them short, end here
_BRACED = re.compile(r"\{([^{}]*)\}")
_NOT_ARITHMETIC = re.compile(r"[^\w\s+\-*/%(),]")


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
    if _NOT_ARITHMETIC.search(text):
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
        self._spend(len(_terms_of(left)) * len(_terms_of(right)))
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
            for monomial, number in _terms_of(self._times(value, common // over)).items():
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
        bits = max((number.bit_length() for number in _terms_of(base).values()), default=0)
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
            self._spend(10 * len(_operands(name, _formula(result))) ** 2)
            return result
        raise ValueError(f"{name} of {len(arguments)} numbers in a dimension")
