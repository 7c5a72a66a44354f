"""The larger and the smaller of two dimensions."""

from __future__ import annotations

import functools

from onnx_aiwq.symbolic.formula import Dim, Formula, UndecidableError, as_formula, simplified

_MOST_OPERANDS = 16  # of one maximum; each is compared with all others


def at_least(left: Dim, right: Dim) -> Dim:
    """The larger of two dimensions, as a formula where it cannot be decided."""
    return extreme("max", left, right)


def at_most(left: Dim, right: Dim) -> Dim:
    """The smaller of two dimensions, as a formula where it cannot be decided."""
    return extreme("min", left, right)


def extreme(kind: str, left: Dim, right: Dim) -> Dim:
    kept: list[Formula] = []
    for operand in (*operands(kind, as_formula(left)), *operands(kind, as_formula(right))):
        if not any(_covers(kind, other, operand) for other in kept):
            kept = [other for other in kept if not _covers(kind, operand, other)] + [operand]
        if len(kept) > _MOST_OPERANDS:
            raise UndecidableError(f"a {kind} of more than {_MOST_OPERANDS} formulas")
    first, *others = sorted(kept, key=str)
    joined = functools.reduce(lambda one, other: Formula({(((kind, one, other), 1),): 1}), others, first)
    return simplified(joined)


def operands(kind: str, value: Formula) -> list[Formula]:
    """The operands of a nested maximum or minimum; a value of any other form is its own only one."""
    if len(value.terms) == 1:
        ((monomial, number),) = value.terms.items()
        if number == 1 and len(monomial) == 1:
            atom, power = monomial[0]
            if not isinstance(atom, str) and atom[0] == kind and power == 1:
                return [*operands(kind, atom[1]), *operands(kind, atom[2])]
    return [value]


def _covers(kind: str, one: Formula, other: Formula) -> bool:
    """Whether the extreme of two formulas is always the first."""
    if one in operands("min" if kind == "max" else "max", other):
        return True  # max(a, min(a, b)) is a
    try:
        return one >= other if kind == "max" else other >= one
    except UndecidableError:
        return False
