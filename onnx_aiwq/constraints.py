"""Constraints on metrics, for example ``seconds < 20 ms and (peak_memory < 200 MB or not macs > 4 G)``.

expression := term ("or" term)*        term := factor ("and" factor)*
factor     := "not" factor | "(" expression ")" | METRIC ("<" | "<=" | ">" | ">=") VALUE
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.quantities import Number, Quantity, find_metric, parse_value

Values = Mapping[str, Quantity | None]
Truth = bool | None
_TOKEN = re.compile(
    r"\s*(?:(?P<operator><=|>=|<|>)|(?P<bracket>[()])|(?P<word>[A-Za-zµμ_][\w/]*)|(?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?[\w/]*))"
)
_EXAMPLE = "for example 'seconds < 20 ms and peak_memory < 200 MB'"
_DEEPEST = 50  # brackets and nots within one another
_LONGEST = 10_000  # characters


@dataclass(frozen=True)
class Constraint:
    """A condition on the metrics of a row.

    Attributes:
        text: as it was written.
        test: whether it holds: for the point estimates, or for the whole interval (None where that cannot be told).
    """

    text: str
    test: Callable[[Values, bool], Truth]

    def holds(self, values: Values) -> bool:
        """Whether the point estimates meet the condition; a metric that is not known meets nothing."""
        return self.test(values, False) is True

    def certain(self, values: Values) -> Truth:
        """Whether every value of the intervals meets it (True) or none does (False); None in between."""
        return self.test(values, True)


def parse_constraint(text: str) -> Constraint:
    """Read a constraint.

    Raises:
        PolicyError: naming the place that does not fit.
    """
    if len(text) > _LONGEST:
        raise PolicyError(f"--where: longer than {_LONGEST} characters")
    parser = _Parser(text)
    test = parser.expression(0)
    if parser.kind:
        raise parser.error(f"{parser.token!r} stands where 'and', 'or' or the end is expected")
    return Constraint(text, test)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.place = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    @property
    def token(self) -> str:
        return self.tokens[self.place][1] if self.place < len(self.tokens) else "the end"

    def error(self, problem: str) -> PolicyError:
        return PolicyError(f"--where {self.text!r}: {problem}; {_EXAMPLE}")

    def take(self, *wanted: str) -> bool:
        found = self.kind in ("word", "bracket") and self.token in wanted
        self.place += found
        return found

    def expression(self, depth: int) -> Callable[[Values, bool], Truth]:
        terms = [self.term(depth)]
        while self.take("or"):
            terms.append(self.term(depth))
        return terms[0] if len(terms) == 1 else lambda values, whole: _any([term(values, whole) for term in terms])

    def term(self, depth: int) -> Callable[[Values, bool], Truth]:
        factors = [self.factor(depth)]
        while self.take("and"):
            factors.append(self.factor(depth))
        if len(factors) == 1:
            return factors[0]
        return lambda values, whole: _not(_any([_not(factor(values, whole)) for factor in factors]))

    def factor(self, depth: int) -> Callable[[Values, bool], Truth]:
        if depth > _DEEPEST:
            raise self.error(f"more than {_DEEPEST} levels of brackets")
        if self.take("not"):
            negated = self.factor(depth + 1)
            return lambda values, whole: _not(negated(values, whole))
        if self.take("("):
            inner = self.expression(depth + 1)
            if not self.take(")"):
                raise self.error(f"')' is expected, found {self.token!r}")
            return inner
        return self.condition()

    def condition(self) -> Callable[[Values, bool], Truth]:
        if self.kind != "word" or self.token in ("and", "or"):
            raise self.error(f"a metric is expected, found {self.token!r}")
        metric = find_metric(self.token, f"--where {self.text!r}")
        self.place += 1
        if self.kind != "operator":
            raise self.error(f"'<', '<=', '>' or '>=' is expected after {metric.name}, found {self.token!r}")
        operator = self.token
        self.place += 1
        if self.kind != "number":
            raise self.error(f"a number is expected after {operator!r}, found {self.token!r}")
        number = self.token
        self.place += 1
        if self.kind == "word" and self.token not in ("and", "or", "not"):
            number += f" {self.token}"
            self.place += 1
        limit = parse_value(metric, number, f"--where {self.text!r}")
        return lambda values, whole: _compared(values[metric.name], operator, limit, whole)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].strip()
            raise PolicyError(f"--where {text!r}: {rest[0]!r} is not understood; {_EXAMPLE}")
        tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
        place = match.end()
    return tokens


def _compared(quantity: Quantity | None, operator: str, limit: Number, whole: bool) -> Truth:
    if quantity is None:
        return None
    compare: dict[str, Callable[[Number], bool]] = {
        "<": lambda value: value < limit,
        "<=": lambda value: value <= limit,
        ">": lambda value: value > limit,
        ">=": lambda value: value >= limit,
    }
    if not whole:
        return compare[operator](quantity.value)
    ends = {compare[operator](quantity.low), compare[operator](quantity.high)}
    return ends.pop() if len(ends) == 1 else None


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _any(truths: list[Truth]) -> Truth:
    """Whether one of them is true; unknown where that hangs on an unknown one."""
    if True in truths:
        return True
    return None if None in truths else False
