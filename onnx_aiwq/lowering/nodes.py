"""One operator that the passes can still change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_aiwq.vocabulary import Operator

Place = tuple[str, int, tuple[tuple[str, str], ...]]


@dataclass(eq=False, slots=True)
class Node:
    """One operator that can still change.

    Attributes:
        name: unique in the graph.
        op_type: operator name.
        domain: operator domain, "" for ai.onnx.
        version: opset version of the domain.
        inputs: names of tensors, "" where an optional input is absent.
        outputs: likewise.
        attributes: Python values, schema defaults filled in.
        place: scope, repeats and branches; only nodes of one place are ever fused.
        stands_for: exported operators that it does the work of, the anchor first.
        order: where it stands in execution order.
        number: creation number; the optimiser's own traversal order breaks ties by it.
        exported: the operator that it was made from, None for a node that a pass made.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Any]
    place: Place
    stands_for: tuple[str, ...]
    order: float
    number: int
    exported: Operator | None = None

    def input(self, index: int) -> str:
        """The name of an input, "" where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """The name of the first output."""
        return self.outputs[0] if self.outputs else ""

    def is_a(self, *op_types: str, domain: str = "") -> bool:
        return self.domain == domain and self.op_type in op_types


class Readers:
    """The nodes that read a tensor, in the order in which they came, each as often as it reads it.

    A tensor may have a hundred thousand readers: one that leaves is not searched for. Most have one, and need no table.
    """

    __slots__ = ("_only", "_times", "_total")

    def __init__(self, only: Node | None = None) -> None:
        self._only = only  # while there is one reading at most
        self._times: dict[Node, int] | None = None
        self._total = 0 if only is None else 1

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Node]:
        if self._times is None:
            if self._only is not None:
                yield self._only
            return
        for node, times in self._times.items():
            for _ in range(times):
                yield node

    @property
    def only(self) -> Node | None:
        """The node that reads the tensor, where it is read once."""
        return self._only if self._times is None or self._total != 1 else next(iter(self._times))

    def distinct(self) -> list[Node]:
        """Each of them once."""
        if self._times is None:
            return [] if self._only is None else [self._only]
        return list(self._times)

    def add(self, node: Node) -> None:
        self._total += 1
        if self._times is None:
            if self._only is None:
                self._only = node
                return
            self._times, self._only = {self._only: 1}, None
        self._times[node] = self._times.get(node, 0) + 1

    def discard(self, node: Node) -> None:
        """One reading less.

        Raises:
            KeyError: if the node reads it no more.
        """
        if self._times is None:
            if self._only is not node:
                raise KeyError(node.name)
            self._only, self._total = None, 0
            return
        self._times[node] -= 1
        self._total -= 1
        if not self._times[node]:
            del self._times[node]


def node_of(operator: Operator, order: float, number: int) -> Node:
    """The node of an operator at a position in execution order."""
    return Node(
        name=operator.name,
        op_type=operator.op_type,
        domain=operator.domain,
        version=operator.version,
        inputs=["" if tensor is None else tensor.name for tensor in operator.inputs],
        outputs=["" if tensor is None else tensor.name for tensor in operator.outputs],
        attributes=operator.attributes,
        place=(operator.scope, operator.repeats, operator.branches),
        stands_for=(operator.name,),
        order=order,
        number=number,
        exported=operator,
    )


def attribute_key(attributes: Mapping[str, Any]) -> Any:
    """Attributes in a form that compares and hashes by value."""
    if not attributes:
        return ()
    return tuple(
        (name, value.tobytes() if isinstance(value, np.ndarray) else value)
        for name, value in sorted(attributes.items())
    )
