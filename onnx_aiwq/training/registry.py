"""The registry of backward rules: what the gradients of one operator cost, by decorator as in `operations.registry`."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from onnx_aiwq.operations.registry import size_of
from onnx_aiwq.vocabulary import Counts, Operator

BackwardFunction = Callable[[Operator, frozenset[int]], Counts]
Saves = Literal["nothing", "factors", "all"]
Accumulation = Literal["whole", "selected", "itself"]


@dataclass(frozen=True)
class BackwardRule:
    """How the gradients of one operator are counted.

    Attributes:
        op_type: ONNX operator name.
        domain: "" for ai.onnx.
        function: pure function of an `Operator` and of the positions of the inputs whose gradients are wanted; None
            where gradients are only moved.
        inputs: positions that the operator can be differentiated in; None for all.
        saves: what computing the gradient of one input reads beside the gradients of the outputs. `nothing`; `factors`:
            the other one of the first two inputs (products); `all`: every input once.
        accumulation: what is added where a gradient meets one that is already there. `whole`: every element of the
            input; `selected`: as many elements as the outputs have (slices); `itself`: the rule counts it (scatter).
        stops: True where the gradient is zero or does not exist, so that nothing upstream gets one.
        documentation: the rule's docstring, or why gradients are moved or stop.
    """

    op_type: str
    domain: str
    function: BackwardFunction | None
    inputs: frozenset[int] | None = None
    saves: Saves = "all"
    accumulation: Accumulation = "whole"
    stops: bool = False
    documentation: str = ""

    @property
    def owner(self) -> str:
        """Where the rule is written, as ``module:name``."""
        if self.function is None:
            return "a rule that stops the gradient" if self.stops else "a rule that moves the gradient"
        return f"{self.function.__module__}:{self.function.__name__}"


_RULES: dict[tuple[str, str], BackwardRule] = {}


def _register(entry: BackwardRule) -> None:
    known = _RULES.setdefault((entry.domain, entry.op_type), entry)
    if known is not entry:
        name = f"{entry.domain or 'ai.onnx'}.{entry.op_type}"
        raise ValueError(f"two backward rules for {name}: {known.owner} and {entry.owner}")


def _positions(inputs: Iterable[int] | None) -> frozenset[int] | None:
    return None if inputs is None else frozenset(inputs)


def backward(
    *op_types: str,
    domain: str = "",
    inputs: Iterable[int] | None = None,
    saves: Saves = "all",
    accumulation: Accumulation = "whole",
) -> Callable[[BackwardFunction], BackwardFunction]:
    """Register the decorated function as the backward rule of one or more operators.

    The function takes an `Operator` and the positions of the inputs whose gradients are wanted, and returns the
    `Counts` of one call, where the first term of every sum is assigned. Its docstring has the sections *Equation*,
    *Basic operations*, *Not counted*, *Example* and *Reference*.

    Raises:
        ValueError: if an operator already has a backward rule.
    """

    def decorate(function: BackwardFunction) -> BackwardFunction:
        text = inspect.getdoc(function) or ""
        for op_type in op_types:
            _register(
                BackwardRule(op_type, domain, function, _positions(inputs), saves, accumulation, documentation=text)
            )
        return function

    return decorate


def gradient_moves(
    *op_types: str,
    domain: str = "",
    inputs: Iterable[int] | None = None,
    accumulation: Accumulation = "whole",
    saves: Saves = "nothing",
    why: str,
) -> None:
    """Register operators whose gradients are those of their outputs at other places, without arithmetic."""
    for op_type in op_types:
        _register(BackwardRule(op_type, domain, None, _positions(inputs), saves, accumulation, documentation=why))


def gradient_stops(*op_types: str, domain: str = "", why: str) -> None:
    """Register operators whose gradient is zero or does not exist."""
    for op_type in op_types:
        _register(BackwardRule(op_type, domain, None, frozenset(), "nothing", stops=True, documentation=why))


@functools.cache
def load_backward_rules() -> None:
    """Import every family of `onnx_aiwq.training.rules`, so that the registry is complete."""
    from onnx_aiwq.training import rules

    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")


def find_backward_rule(op_type: str, domain: str) -> BackwardRule | None:
    """Return the backward rule of an operator, or None."""
    load_backward_rules()
    return _RULES.get((domain, op_type))


def all_backward_rules() -> list[BackwardRule]:
    """Every registered backward rule, sorted by domain and operator."""
    load_backward_rules()
    return sorted(_RULES.values(), key=lambda entry: (entry.domain, entry.op_type))


def broadcast_sums(op: Operator, wanted: Iterable[int]) -> Counts:
    """Sum the gradient at the output's size over the dimensions in which each wanted input was broadcast."""
    total = Counts()
    for position in wanted:
        tensor = op.input(position)
        if tensor is not None:
            sums = size_of(op.output(0), "the output") - size_of(tensor, "an input")
            total += Counts.of(tensor.dtype, add=max(sums, 0))
    return total
