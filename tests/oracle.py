"""A counting oracle: numbers that tally their own arithmetic, pushed through numpy's own algorithms.

It shares no formula with the rules. Arrays of `Number` go through `np.matmul`, `np.add.reduce` and friends, whose
object loops call `+ - * /` once per operation that they really do; the tally is then the exact count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Number:
    """A float that reports each operation on it to a tally. Operations: add, sub, mul, div, root, compare."""

    __slots__ = ("tally", "value")

    def __init__(self, value: float, tally: Counter[str]) -> None:
        self.value = float(value)
        self.tally = tally

    def _new(self, op: str, value: float) -> Number:
        self.tally[op] += 1
        return Number(value, self.tally)

    def __add__(self, other: Any) -> Number:
        return self._new("add", self.value + _plain(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Number:
        return self._new("sub", self.value - _plain(other))

    def __rsub__(self, other: Any) -> Number:
        return self._new("sub", _plain(other) - self.value)

    def __mul__(self, other: Any) -> Number:
        return self._new("mul", self.value * _plain(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Number:
        divisor = _plain(other)
        return self._new("div", self.value / divisor if divisor else math.inf)

    def __rtruediv__(self, other: Any) -> Number:
        return self._new("div", _plain(other) / self.value if self.value else math.inf)

    def __neg__(self) -> Number:
        """A negation is a subtraction from zero (TO paper, Eq. 4: the `sub` of the sigmoid)."""
        return self._new("sub", -self.value)

    def _compare(self, holds: bool) -> bool:
        self.tally["compare"] += 1
        return holds

    def __lt__(self, other: Any) -> bool:
        return self._compare(self.value < _plain(other))

    def __le__(self, other: Any) -> bool:
        return self._compare(self.value <= _plain(other))

    def __gt__(self, other: Any) -> bool:
        return self._compare(self.value > _plain(other))

    def __ge__(self, other: Any) -> bool:
        return self._compare(self.value >= _plain(other))

    def __eq__(self, other: object) -> bool:
        return self._compare(self.value == _plain(other))

    def __hash__(self) -> int:
        return hash(self.value)

    def root(self, function: Callable[[float], float]) -> Number:
        """Any iterated function (exp, log, square root, erf, sin): one `root` of the convention."""
        try:
            value = function(self.value)
        except (ValueError, OverflowError):
            value = math.nan
        return self._new("root", value)

    # numpy calls these methods for np.sqrt, np.exp and np.log on object arrays.
    def sqrt(self) -> Number:
        return self.root(math.sqrt)

    def exp(self) -> Number:
        return self.root(math.exp)

    def log(self) -> Number:
        return self.root(math.log)


def _plain(other: Any) -> float:
    return other.value if isinstance(other, Number) else float(other)


def numbers(shape: tuple[int, ...], tally: Counter[str], seed: int = 0) -> NDArray[np.object_]:
    """An object array of `Number` with random positive values that report to `tally`."""
    flat = [Number(value, tally) for value in np.random.default_rng(seed).uniform(0.5, 1.5, math.prod(shape))]
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def as_basic_operations(tally: Counter[str]) -> dict[str, int]:
    """The tally with all six basic operations, in the form of `Counts.basic_operations()`."""
    return {op: tally[op] for op in ("add", "sub", "mul", "div", "root", "compare")}
