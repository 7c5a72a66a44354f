"""Symbolic dimensions: their values where they are bound, their form in the shape libraries where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

import onnx_ir as ir

from onnx_aiwq.bounds import MAX_DIM, MAX_RANK
from onnx_aiwq.errors import ShapeError, suggestion
from onnx_aiwq.symbolic import Dim, Formula, parse, simplified, symbol


class OversizeError(ValueError):
    """A tensor of more dimensions, or of a larger one, than any file can state."""


Assumptions: TypeAlias = tuple[dict[str, int], set[str], set[str], set[str]]
_ALIAS = "aiwq_dim"  # the libraries parse dimensions as expressions, in which not every ONNX name is an identifier


class Symbols:
    """Values of symbolic dimensions: what the user bound, and what had to be assumed.

    Attributes:
        bound: name -> value as given by the user.
        assumed: name -> value taken, for every symbol that was needed and not bound: its upper bound or 1.
        bounded: names of the assumed symbols whose value is an upper bound.
        bounded_tensors: names of the tensors that such a symbol is a dimension of where run-time data decides it.
        symbolic: whether unbound symbols stay symbols (for formulas) instead of taking a value.
    """

    def __init__(
        self, bound: Mapping[str, int], *, symbolic: bool = False, assumed: Mapping[str, int] | None = None
    ) -> None:
        """`assumed` holds the values that a walk with numbers took, for a symbolic walk, which cannot find them."""
        self.bound = dict(bound)
        self.assumed: dict[str, int] = {}
        self.bounded: set[str] = set()
        self.bounded_tensors: set[str] = set()
        self.symbolic = symbolic
        self._assumed_before = dict(assumed or {})
        self._used: set[str] = set()
        self._aliases: dict[str, str] = {}

    @property
    def names(self) -> dict[str, str]:
        """Alias -> name of the symbols that occur in formulas."""
        return {alias: name for name, alias in self._aliases.items()}

    def resolve(self, name: str, upper: Dim | None = None, *, tensor: str = "") -> int:
        """The value of a symbol: as bound; else a formula in symbolic mode; else an assumption, which is noted.

        Args:
            name: of the symbol.
            upper: the most that run-time data can make of it, where that is known; taken instead of 1.
            tensor: that has it as a dimension.
        """
        self._used.add(name)
        if name in self.bound:
            return self.bound[name]
        if self.symbolic:
            self.assumed.setdefault(name, self._assumed_before.get(name, 1))
            alias = self._aliases.setdefault(name, f"{_ALIAS}{len(self._aliases)}")
            return cast(int, symbol(alias))  # takes part in arithmetic as an int does
        if name not in self.assumed and isinstance(upper, int):
            self.bounded.add(name)
        if tensor and name in self.bounded:
            self.bounded_tensors.add(tensor)
        return self.assumed.setdefault(name, upper if isinstance(upper, int) else 1)

    def merged(self, name: str, shapes: Sequence[Sequence[int] | None], *, bounded: bool = True) -> list[int] | None:
        """The shape of a tensor that is one of several; a dimension in which they differ is a symbol.

        Args:
            name: of the tensor.
            shapes: of the alternatives.
            bounded: whether the symbol is at most the largest of them.

        Returns:
            None where the ranks differ or one is unknown.
        """
        known = [shape for shape in shapes if shape is not None]
        if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1:
            return None
        return [
            dims[0]
            if len(set(dims)) == 1
            else self.resolve(f"{name}_dim{axis}", _largest(dims) if bounded else None, tensor=name)
            for axis, dims in enumerate(zip(*known, strict=True))
        ]

    def known(self, dim: int | ir.SymbolicDim) -> int | None:
        """A dimension as a library inferred it; None where it is open."""
        if isinstance(dim, int):
            return dim if dim >= 0 else None
        formula = parse(dim.value) if dim.value else None
        return cast(int, formula) if formula is not None and self.knows(formula) else None

    def mark(self) -> Assumptions:
        """What `reset` needs to forget every assumption that is made from now on."""
        return dict(self.assumed), set(self.bounded), set(self.bounded_tensors), set(self._used)

    def reset(self, mark: Assumptions) -> None:
        """Forget the assumptions made since the mark was taken."""
        self.assumed, self.bounded, self.bounded_tensors, self._used = dict(mark[0]), *map(set, mark[1:])

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
                listed = one_line(", ".join(known)) or "none"
                raise ShapeError(
                    f"--bind {name}: the model has no dimension of this name (its symbolic dimensions: {listed});"
                    f"{suggestion(name, known) or ' bind one of these'}"
                )


def one_line(text: str) -> str:
    """A text of names from a file without the line breaks that they may hold."""
    return " ".join(text.split())


def _largest(dims: Sequence[int]) -> int | None:
    return max(dims) if all(isinstance(dim, int) for dim in dims) else None


def library_dim(dim: Dim) -> int | ir.SymbolicDim:
    """A dimension in the form that the libraries take."""
    dim = simplified(dim)
    return dim if isinstance(dim, int) else ir.SymbolicDim(str(dim))


def library_shape(dims: Iterable[Dim]) -> ir.Shape:
    """A shape in the form that the libraries take."""
    return ir.Shape([library_dim(dim) for dim in dims])


def require_size(dims: Sequence[Dim]) -> None:
    """Refuse what nodes one after the other can make of a small shape: squared dimensions, doubled ranks.

    Raises:
        OversizeError: if there are more than `MAX_RANK` dimensions, or one is larger than `MAX_DIM`.
    """
    if len(dims) > MAX_RANK:
        raise OversizeError(f"has a tensor of {len(dims)} dimensions, more than {MAX_RANK}")
    for dim in dims:
        if isinstance(dim, int) and dim > MAX_DIM:
            raise OversizeError(
                f"has a tensor with a dimension of {dim.bit_length()} bits, over the 63 of an ONNX file"
            )


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
