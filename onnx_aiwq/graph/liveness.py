"""Which activations are alive when: the least memory that running the graph in its order needs."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from onnx_aiwq.graph import Graph
from onnx_aiwq.vocabulary import Operator, Tensor


def live_activation_bytes(graph: Graph, is_view: Callable[[Operator], bool]) -> dict[str, int] | None:
    """The sum of live activations while each operator runs, bytes, by its name in execution order.

    An activation lives from the operator that makes it to the last that reads it, graph inputs from the start, graph
    outputs to the end; weights and other constants are no activations. Tensors that share memory (views) count once.

    Args:
        graph: the graph; an operator that an edge leads to needs what flows along it.
        is_view: whether an operator's first output shares the memory of its first input.

    Returns:
        With the graph's inputs alone before the first operator, under the name ``""``; None where the size of an
        activation is not known.
    """
    lives = _Lifetimes()
    for tensor in graph.inputs:
        lives.own(tensor, tensor.name, -1)
    order = {operator.name: index for index, operator in enumerate(graph.operators)}
    made: list[list[str]] = []
    for index, operator in enumerate(graph.operators):
        new = [tensor for tensor in operator.outputs if tensor is not None and not tensor.constant]
        first = operator.input(0)
        shared = lives.owner.get(first.name) if first is not None and is_view(operator) else None
        for tensor in new:
            lives.own(tensor, shared or tensor.name, index)
        made.append([tensor.name for tensor in new if not shared or tensor.name == shared])
        for read in operator.inputs:
            if read is not None:
                lives.use(read.name, index)
    # Subgraphs hand what they made to their container, which does not name it among its inputs.
    for _, consumer, name in graph.edges:
        lives.use(name, order[consumer])
    for tensor in graph.outputs:
        lives.use(tensor.name, len(graph.operators))
    live = _sweep([tensor.name for tensor in graph.inputs], made, lives.last_use, lives.size_bytes)
    return None if live is None else dict(zip(("", *order), live, strict=True))


class _Lifetimes(msgspec.Struct):
    """Who owns the memory of each activation, how large it is, and which operator is the last that needs it.

    Attributes:
        owner: tensor -> tensor whose memory it is in; a view is in that of what it shows.
        size_bytes: of each owner.
        last_use: of each owner, position in the execution order; -1 before the first operator.
    """

    owner: dict[str, str] = msgspec.field(default_factory=dict)
    size_bytes: dict[str, int | None] = msgspec.field(default_factory=dict)
    last_use: dict[str, int] = msgspec.field(default_factory=dict)

    def own(self, tensor: Tensor, root: str, index: int) -> None:
        """A tensor that an operator makes in memory of its own, or in that of another."""
        self.owner[tensor.name] = root
        if root not in self.size_bytes:
            self.size_bytes[root] = tensor.size_bytes
        if self.last_use.get(root, -2) < index:
            self.last_use[root] = index

    def use(self, name: str, index: int) -> None:
        """An operator that reads a tensor; what is no activation is left alone."""
        root = self.owner.get(name)
        if root is not None and self.last_use[root] < index:
            self.last_use[root] = index


def _sweep(
    inputs: list[str], made: list[list[str]], last_use: dict[str, int], size_bytes: dict[str, int | None]
) -> list[int] | None:
    """Live bytes before the first operator, then while each runs."""
    dying: dict[int, list[str]] = {}
    for root, index in last_use.items():
        dying.setdefault(index, []).append(root)
    live = 0
    for name in inputs:
        size = size_bytes[name]
        if size is None:
            return None
        live += size
    curve = [live]
    for index, names in enumerate(made):
        for name in names:
            size = size_bytes[name]
            if size is None:
                return None
            live += size
        curve.append(live)
        live -= sum(size_bytes[root] or 0 for root in dying.get(index, ()))
    return curve
