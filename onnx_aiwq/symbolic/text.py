"""Formulas as text, in a form that `parsing` reads back."""

from __future__ import annotations

import keyword
import re
import unicodedata

from onnx_aiwq.symbolic.division import ordered
from onnx_aiwq.symbolic.extremes import operands
from onnx_aiwq.symbolic.formula import Atom, Formula, Monomial

NOT_ARITHMETIC = re.compile(r"[^\w\s+\-*/%(),]")


def formula_text(formula: Formula) -> str:
    """A sum of monomials, those of the highest degree first."""
    signed = [
        f"{'-' if number < 0 else '+'} {_monomial_text(monomial, abs(number))}"
        for monomial, number in ordered(formula.terms)
    ]
    text = " ".join(signed) or "0"
    return "-" + text[2:] if text.startswith("- ") else text.removeprefix("+ ")


def _monomial_text(monomial: Monomial, number: int) -> str:
    factors = [_factor_text(atom, power) for atom, power in monomial]
    return "*".join(factors if factors and number == 1 else [str(number), *factors])


def _symbol_text(name: str) -> str:
    """A name as `parse` reads it back: in braces unless Python takes it for this very identifier."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and not NOT_ARITHMETIC.search(name)
    if plain and unicodedata.normalize("NFKC", name) == name:
        return name
    return "{" + name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}"


def _factor_text(atom: Atom, power: int) -> str:
    if isinstance(atom, str):
        base = _symbol_text(atom)
    elif atom[0] == "floor":
        base = f"floor(({atom[1]})/({atom[2]}))"
    else:
        base = f"{atom[0]}({', '.join(str(each) for side in atom[1:] for each in operands(atom[0], side))})"
    return base if power == 1 else f"{base}**{power}"
