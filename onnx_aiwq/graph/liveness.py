"""Which activations are alive when: the least memory that running the graph in its order needs."""

from __future__ import annotations

from collections.abc import Callable

from onnx_aiwq.graph import Graph
from onnx_aiwq.vocabulary import Operator, Tensor


def peak_activation_bytes(graph: Graph, is_view: Callable[[Operator], bool]) -> int | None:
    """The largest sum of live activations over the execution order, bytes.

    An activation lives from the operator that makes it to the last that reads it, graph inputs from the start, graph
    outputs to the end; weights and other constants are no activations. Tensors that share memory (views) count once.

    Args:
        graph: the graph; consumers are the successors in its DAG.
        is_view: whether an operator's first output shares the memory of its first input.

    Returns:
        None where the size of an activation is not known.
    """
    owner: dict[str, str] = {}
    size_bytes: dict[str, int | None] = {}
    last_use: dict[str, int] = {}

    def own(tensor: Tensor, root: str) -> None:
        owner[tensor.name] = root
        size_bytes.setdefault(root, tensor.size_bytes)

    for tensor in graph.inputs:
        own(tensor, tensor.name)
        last_use[tensor.name] = -1
    made: list[list[str]] = []
    order = {operator.name: index for index, operator in enumerate(graph.operators)}
    for index, operator in enumerate(graph.operators):
        first = operator.input(0)
        shared = owner.get(first.name) if first is not None and is_view(operator) else None
        new = [tensor for tensor in operator.outputs if tensor is not None and not tensor.constant]
        for tensor in new:
            own(tensor, shared or tensor.name)
            root = owner[tensor.name]
            last_use[root] = max(last_use.get(root, index), index)
        made.append([tensor.name for tensor in new if owner[tensor.name] == tensor.name])
        for read in operator.inputs:
            if read is not None and read.name in owner:
                last_use[owner[read.name]] = index
        # Subgraphs hand what they made to their container, which does not name it among its inputs.
        for _, consumer, data in graph.dag.out_edges(operator.name, data=True):
            for flowing in data["tensors"]:
                if flowing.name in owner:
                    root = owner[flowing.name]
                    last_use[root] = max(last_use[root], order[consumer])
    for tensor in graph.outputs:
        if tensor.name in owner:
            last_use[owner[tensor.name]] = len(graph.operators)
    return _sweep([tensor.name for tensor in graph.inputs], made, last_use, size_bytes)


def _sweep(
    inputs: list[str], made: list[list[str]], last_use: dict[str, int], size_bytes: dict[str, int | None]
) -> int | None:
    dying: dict[int, list[str]] = {}
    for root, index in last_use.items():
        dying.setdefault(index, []).append(root)
    live = 0
    for name in inputs:
        size = size_bytes[name]
        if size is None:
            return None
        live += size
    peak = live
    for index, names in enumerate(made):
        for name in names:
            size = size_bytes[name]
            if size is None:
                return None
            live += size
        peak = max(peak, live)
        live -= sum(size_bytes[root] or 0 for root in dying.get(index, ()))
    return peak
