"""Bounds of a formula over all symbols of at least 1: what decides its comparisons."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

from onnx_aiwq.symbolic.formula import Atom, Dim, Formula, UndecidableError, as_formula, atom_key, terms_of

_MOST_FLOORS = 5  # that a bound looks through, each subset of them


def bounds(value: Dim) -> tuple[int | None, int | None]:
    """Bounds over all symbols of at least 1; None where none is found."""
    return (value, value) if isinstance(value, int) else _formula_bounds(value)


@functools.lru_cache(maxsize=65536)
def _formula_bounds(value: Formula) -> tuple[int | None, int | None]:
    """Bounds by signs, of the formula or of a multiple in which some floors are written as remainders."""
    within = {atom for factor, _ in _factors(value) for atom in (factor, *_atoms_within(factor))}
    floors = sorted((atom for atom in within if _is_floor_by_number(atom)), key=atom_key)[:_MOST_FLOORS]
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
    for monomial, number in value.terms.items():
        product: Dim = number
        for atom, power in monomial:
            low = 1 if isinstance(atom, str) else _atom_low(atom)
            if low is None:
                return None, None
            # Only the sign of the coefficients matters from here on, so the atom itself can stand for t.
            product = product * Formula({((atom, 1),): 1, (): low}) ** power
        shifted = shifted + product
    terms = terms_of(shifted)
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
        for monomial, number in value.terms.items():
            factor, product = number * step, Formula({(): 1})
            for atom, power in monomial:
                base: Dim = Formula({((atom, 1),): 1})
                if not isinstance(atom, str) and atom in powers:
                    factor //= _divisor(atom) ** power
                    base = atom[1] - Formula({((("rest", atom[1], atom[2]), 1),): 1})
                product = as_formula(product * base**power)
            total = total + product * factor
        value, scale = as_formula(total), scale * step
    return value, scale


def _divisor(atom: Atom) -> int:
    return 1 if isinstance(atom, str) else atom[2].constant


def _factors(value: Formula) -> set[tuple[Atom, int]]:
    return {factor for monomial in value.terms for factor in monomial}


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
    left, right = bounds(atom[1])[0], bounds(atom[2])
    if atom[0] == "floor":
        if left is None or right[0] is None or right[0] <= 0:
            return None
        return left // right[0] if right[0] == right[1] else min(0, left)
    if atom[0] == "max":
        known = [low for low in (left, right[0]) if low is not None]
        return max(known, default=None)
    return None if left is None or right[0] is None else min(left, right[0])
