"""Symbolic dimensions: their values where they are bound, their form in the shape libraries where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import onnx_ir as ir

from onnx_aiwq.errors import ShapeError, suggestion
from onnx_aiwq.symbolic import Dim, Formula, parse, simplified, symbol

_ALIAS = "aiwq_dim"  # the libraries parse dimensions as expressions, in which not every ONNX name is an identifier


class Symbols:
    """Values of symbolic dimensions: what the user bound, and what had to be assumed.

    Attributes:
        bound: name -> value as given by the user.
        assumed: name -> 1 for every symbol that was needed and not bound.
        symbolic: whether unbound symbols stay symbols (for formulas) instead of being taken as 1.
    """

    def __init__(self, bound: Mapping[str, int], *, symbolic: bool = False) -> None:
        self.bound = dict(bound)
        self.assumed: dict[str, int] = {}
        self.symbolic = symbolic
        self._used: set[str] = set()
        self._aliases: dict[str, str] = {}

    @property
    def names(self) -> dict[str, str]:
        """Alias -> name of the symbols that occur in formulas."""
        return {alias: name for name, alias in self._aliases.items()}

    def resolve(self, name: str) -> int:
        """The value of a symbol: as bound; else a formula in symbolic mode; else 1, noted as an assumption."""
        self._used.add(name)
        if name in self.bound:
            return self.bound[name]
        self.assumed[name] = 1
        if self.symbolic:
            alias = self._aliases.setdefault(name, f"{_ALIAS}{len(self._aliases)}")
            return cast(int, symbol(alias))  # takes part in arithmetic as an int does
        return 1

    def read(self, dim: int | ir.SymbolicDim, name: str) -> int:
        """A dimension that a library inferred; what it does not know becomes the symbol `name`."""
        if isinstance(dim, int) and dim >= 0:
            return dim
        if isinstance(dim, ir.SymbolicDim) and dim.value:
            formula = parse(dim.value)
            if formula is not None and self.knows(formula):
                return cast(int, formula)
        return self.resolve(name)

    def knows(self, dim: Dim) -> bool:
        """Whether a dimension is a size, or a formula in nothing but symbols of the model."""
        if isinstance(dim, Formula):
            return all(alias.startswith(_ALIAS) for alias in dim.symbols)
        return dim >= 0

    def check_all_used(self) -> None:
        """Raise `ShapeError` for bound names that the model does not have."""
        known = sorted(self._used)
        for name in self.bound:
            if name not in self._used:
                listed = ", ".join(known) or "none"
                raise ShapeError(
                    f"--bind {name}: the model has no dimension of this name (its symbolic dimensions: {listed});"
                    f"{suggestion(name, known) or ' bind one of these'}"
                )


def library_dim(dim: Dim) -> int | ir.SymbolicDim:
    """A dimension in the form that the libraries take."""
    dim = simplified(dim)
    return dim if isinstance(dim, int) else ir.SymbolicDim(str(dim))


def library_shape(dims: Iterable[Dim]) -> ir.Shape:
    """A shape in the form that the libraries take."""
    return ir.Shape([library_dim(dim) for dim in dims])


def plain_shape(shape: ir.Shape | None) -> tuple[int, ...] | None:
    """A shape as ints, formulas among them in symbolic mode; None where a dimension is unknown."""
    if shape is None:
        return None
    dims: list[Dim] = []
    for dim in cast("Sequence[int | ir.SymbolicDim]", shape.dims):
        known = dim if isinstance(dim, int) else parse(dim.value or "?")
        if known is None:
            return None
        dims.append(known)
    return cast("tuple[int, ...]", tuple(dims))
