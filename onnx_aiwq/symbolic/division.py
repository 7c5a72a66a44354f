"""Division of formulas: exact where it can be, else a floor that stays in the formula."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_aiwq.symbolic.formula import (
    MOST_TERMS,
    Dim,
    Formula,
    Monomial,
    UndecidableError,
    as_formula,
    atom_key,
    simplified,
    terms_of,
)


def floor_division(left: Dim, right: Dim) -> Dim:
    """left // right: exact where every term divides, else the terms that divide plus a floor of the rest."""
    left, right = simplified(left), simplified(right)
    if isinstance(left, int) and isinstance(right, int):
        return left // right
    if left == 0:
        return 0
    divisor = terms_of(right)
    if len(divisor) == 1:
        ((monomial, number),) = divisor.items()
        whole: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for term, coefficient in terms_of(left).items():
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
    return Formula({((("floor", as_formula(left), as_formula(right)), 1),): 1})


def _exact_ratio(left: Dim, right: Dim) -> Dim | None:
    """The polynomial quotient where there is one, by division on the leading terms."""
    remainder, quotient = as_formula(left), Formula({})
    lead, lead_number = ordered(terms_of(right))[0]
    for _ in range(MOST_TERMS):
        if not remainder.terms:
            return simplified(quotient)
        term, number = ordered(remainder.terms)[0]
        factor = _quotient(term, lead)
        if factor is None or number % lead_number:
            return None
        step = Formula({factor: number // lead_number})
        quotient = as_formula(quotient + step)
        remainder = as_formula(remainder - step * right)
    return None


def _quotient(term: Monomial, divisor: Monomial) -> Monomial | None:
    powers = dict(term)
    for atom, power in divisor:
        left = powers.get(atom, 0) - power
        if left < 0:
            return None
        powers[atom] = left
    return tuple((atom, power) for atom, power in powers.items() if power)


def ordered(terms: Mapping[Monomial, int]) -> list[tuple[Monomial, int]]:
    """Terms by falling degree, then by name and falling power: one order, in which polynomials can be divided."""
    return sorted(
        terms.items(), key=lambda term: (-sum(p for _, p in term[0]), [(atom_key(a), -p) for a, p in term[0]])
    )
