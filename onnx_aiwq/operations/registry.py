"""The registry of cost rules: a decorator registers, duplicates fail at import and name both owners."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import Literal

import msgspec

from onnx_aiwq.errors import PolicyError, ShapeError
from onnx_aiwq.vocabulary import Counts, Operator, Tensor

ENTRY_POINT_GROUP = "onnx_aiwq.rules"
RuleFunction = Callable[[Operator], Counts]
Traffic = Literal["whole", "view", "selected", "generated"]
Bound = bool | Callable[[Operator], bool]


class Rule(msgspec.Struct, frozen=True):
    """How one operator is counted.

    Attributes:
        op_type: ONNX operator name.
        domain: "" for ai.onnx.
        since: first opset version that the rule is for; the newest rule that is not newer than the model's applies.
        family: class of operators that shares one efficiency on hardware (dense, elementwise, ...).
        function: pure function of an `Operator`; None for movement, which costs no basic operation.
        traffic: bytes moved by one call. `whole`: every input is read and every output written once. `view`: no byte
            moves, the result shares its input's memory. `selected`: only as many bytes as the outputs hold are read
            from the first input (gathers, slices), other inputs are read whole. `generated`: outputs are written, of
            the inputs only the shape matters.
        docstring: as it is written, indented.
        bound: whether the count is the most that run-time data can make of it; a function where the node decides that.
    """

    op_type: str
    domain: str
    since: int
    family: str
    function: RuleFunction | None
    traffic: Traffic
    docstring: str
    bound: Bound = False

    @property
    def documentation(self) -> str:
        """The docstring without its indentation; there are hundreds, and an analysis reads none."""
        return inspect.cleandoc(self.docstring)

    @property
    def owner(self) -> str:
        """Where the rule is written, as ``module:name``."""
        if self.function is None:
            return f"movement rule of {self.family}"
        return f"{self.function.__module__}:{self.function.__name__}"

    def is_bound(self, operator: Operator) -> bool:
        """Whether the count of a node is an upper bound, because run-time data decides the true one."""
        return self.bound if isinstance(self.bound, bool) else self.bound(operator)


_RULES: dict[tuple[str, str], list[Rule]] = {}
_UNCOUNTABLE: dict[tuple[str, str], str] = {}


def _register(entry: Rule) -> None:
    versions = _RULES.setdefault((entry.domain, entry.op_type), [])
    for other in versions:
        if other.since == entry.since:
            name = f"{entry.domain or 'ai.onnx'}.{entry.op_type} since {entry.since}"
            raise ValueError(f"two rules for {name}: {other.owner} and {entry.owner}")
    versions.append(entry)
    versions.sort(key=lambda known: known.since)


def rule(
    *op_types: str,
    family: str,
    domain: str = "",
    since: int = 1,
    traffic: Traffic = "whole",
    bound: Bound = False,
) -> Callable[[RuleFunction], RuleFunction]:
    """Register the decorated function as the cost rule of one or more operators.

    The function takes an `Operator` and returns the `Counts` of one call. Its docstring has the sections
    *Equation*, *Basic operations*, *Not counted*, *Example* and *Reference*. Where run-time data decides the count, it
    gives the most that there can be, and `bound` says so: True, or a function of the `Operator` where only some are.

    Raises:
        ValueError: if an operator already has a rule from the same version on.
    """

    def decorate(function: RuleFunction) -> RuleFunction:
        for op_type in op_types:
            _register(Rule(op_type, domain, since, family, function, traffic, function.__doc__ or "", bound))
        return function

    return decorate


def movement(*op_types: str, domain: str = "", since: int = 1, traffic: Traffic = "whole", why: str) -> None:
    """Register operators that move, look up or reinterpret data and cost no basic operation."""
    for op_type in op_types:
        _register(Rule(op_type, domain, since, "movement", None, traffic, why))


def uncountable(*op_types: str, domain: str = "", why: str) -> None:
    """Say why operators have no rule and can have none; a rule that a user registers for one wins all the same.

    Raises:
        ValueError: if an operator already has a reason.
    """
    for op_type in op_types:
        if (domain, op_type) in _UNCOUNTABLE:
            raise ValueError(f"two reasons why {domain or 'ai.onnx'}.{op_type} cannot be counted")
        _UNCOUNTABLE[domain, op_type] = why


def all_uncountable() -> dict[tuple[str, str], str]:
    """(domain, operator) -> why it cannot be counted, sorted."""
    load_rules()
    return dict(sorted(_UNCOUNTABLE.items()))


@functools.cache
def load_rules() -> None:
    """Import every family of `onnx_aiwq.operations.rules`, then the users' own, so that the registry is complete.

    An installed package adds rules with an entry point of the group ``onnx_aiwq.rules`` that names a module.

    Raises:
        PolicyError: if such a module cannot be imported.
    """
    from onnx_aiwq.operations import rules

    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:
            # Whatever a foreign module raises, the user needs to know which package to mend or to remove.
            raise PolicyError(
                f"the rules of entry point {entry.name!r} ({entry.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}; mend or uninstall the package that brings it"
            ) from error


def find_rule(op_type: str, domain: str, version: int) -> Rule | None:
    """Return the newest rule that is not newer than the model's opset version, or None."""
    load_rules()
    found = None
    for entry in _RULES.get((domain, op_type), ()):
        if entry.since <= version:
            found = entry
    return found


def all_rules() -> list[Rule]:
    """Every registered rule, sorted by domain, operator and version."""
    load_rules()
    return sorted(
        (entry for versions in _RULES.values() for entry in versions),
        key=lambda entry: (entry.domain, entry.op_type, entry.since),
    )


def shape_of(tensor: Tensor | None, role: str) -> tuple[int, ...]:
    """Return the shape of a tensor that a rule needs.

    Raises:
        ShapeError: if the tensor is absent or its shape is unknown.
    """
    if tensor is None:
        raise ShapeError(f"{role} is absent")
    if tensor.shape is None:
        raise ShapeError(f"the shape of {role} {tensor.name!r} is unknown")
    return tensor.shape


def size_of(tensor: Tensor | None, role: str) -> int:
    """Return the number of elements of a tensor that a rule needs; raises as `shape_of`."""
    return math.prod(shape_of(tensor, role))
