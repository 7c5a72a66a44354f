"""Checks of a graph's structure, and its execution order.

The libraries underneath accept cycles, undefined inputs and names that are written twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

from onnx_aiwq.errors import ModelError

_LISTED = 3  # names per message: all problems are counted, the first few are named


def subgraphs_of(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield (attribute name, graph) for every subgraph of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for graph in attribute.graphs:
            yield attribute.name, graph


def count_nodes(*scopes: Iterable[onnx.NodeProto]) -> int:
    """Nodes as the file has them, those of subgraphs included."""
    count, waiting = 0, list(scopes)
    while waiting:
        for node in waiting.pop():
            count += 1
            waiting.extend(graph.node for _, graph in subgraphs_of(node))
    return count


def read_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph, or anything within it, reads or returns; equal names of other scopes are among them."""
    names: set[str] = set()
    waiting = [graph]
    while waiting:
        each = waiting.pop()
        names.update(value.name for value in each.output)
        for node in each.node:
            names.update(node.input)
            waiting.extend(inner for _, inner in subgraphs_of(node))
    return names


def describe(node: onnx.NodeProto) -> str:
    """How messages name a node: operator, and its name or first output."""
    name = node.name or next((output for output in node.output if output), "")
    return f"{node.op_type} node {name!r}" if name else f"unnamed {node.op_type} node"


def captured_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph takes from the scopes around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {sparse.values.name for sparse in graph.sparse_initializer}
    own |= {output for node in graph.node for output in node.output}
    needed = {value.name for value in graph.output} | {name for node in graph.node for name in node.input}
    for node in graph.node:
        for _, inner in subgraphs_of(node):
            needed |= captured_names(inner)
    return needed - own - {""}


def ordered_nodes(nodes: Sequence[onnx.NodeProto], outer: set[str], label: str) -> list[onnx.NodeProto]:
    """Return the nodes of one scope in an order in which every input exists before it is read.

    Args:
        nodes: as the file has them, sorted or not.
        outer: names that exist before the first node: inputs, initializers, values of enclosing scopes.
        label: how messages name the model and scope.

    Raises:
        ModelError: for names that are written twice, inputs that nothing defines, and cycles.
    """
    if _are_ordered(nodes, outer):
        return list(nodes)
    _check_single_assignment(nodes, outer, label)
    return _sorted_nodes(nodes, [_needs(node) for node in nodes], outer, label)


def _are_ordered(nodes: Sequence[onnx.NodeProto], outer: set[str]) -> bool:
    """Whether every name is written once and before it is read, as almost every file has it."""
    known = {"", *outer}
    for node in nodes:
        if not known.issuperset(node.input):
            return False
        for _, graph in subgraphs_of(node):
            if not known.issuperset(captured_names(graph)):
                return False
        for output in node.output:
            if output:
                if output in known:
                    return False
                known.add(output)
    return True


def _needs(node: onnx.NodeProto) -> set[str]:
    needed = {name for name in node.input if name}
    for _, graph in subgraphs_of(node):
        needed |= captured_names(graph)
    return needed


def _check_single_assignment(nodes: Sequence[onnx.NodeProto], outer: set[str], label: str) -> None:
    writers: dict[str, onnx.NodeProto | None] = dict.fromkeys(outer)
    problems: list[str] = []
    for node in nodes:
        for output in node.output:
            if not output:
                continue
            if output in writers:
                first = writers[output]
                before = describe(first) if first is not None else "a graph input or initializer"
                problems.append(f"{output!r} is written by {before} and again by {describe(node)}")
            writers[output] = node
    if problems:
        raise ModelError(
            f"{label}: {_some(problems, 'tensor')} defined twice: {'; '.join(problems[:_LISTED])}; export it again"
        )


def _some(problems: Sequence[str], noun: str) -> str:
    return f"1 {noun}" if len(problems) == 1 else f"{len(problems)} {noun}s"


def _sorted_nodes(
    nodes: Sequence[onnx.NodeProto], needs: Sequence[set[str]], outer: set[str], label: str
) -> list[onnx.NodeProto]:
    import networkx as nx

    writer = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    undefined = [
        f"{name!r} of {describe(node)}"
        for node, needed in zip(nodes, needs, strict=True)
        for name in sorted(needed)
        if name not in writer and name not in outer
    ]
    if undefined:
        more = "" if len(undefined) <= _LISTED else f" and {len(undefined) - _LISTED} more"
        raise ModelError(
            f"{label}: {_some(undefined, 'input')} that nothing defines: {', '.join(undefined[:_LISTED])}{more}; "
            "the file is incomplete, export it again"
        )
    dependencies: nx.DiGraph[int] = nx.DiGraph()
    dependencies.add_nodes_from(range(len(nodes)))
    dependencies.add_edges_from(_edges(needs, writer))
    try:
        return [nodes[index] for index in nx.lexicographical_topological_sort(dependencies)]
    except nx.NetworkXUnfeasible:
        cycle = [describe(nodes[edge[0]]) for edge in nx.find_cycle(dependencies)]
        path = " -> ".join(cycle[:6] + ["..."] * (len(cycle) > 6) + cycle[:1])
        raise ModelError(f"{label}: the graph has a cycle: {path}; ONNX graphs are acyclic, export it again") from None


def _edges(needs: Sequence[set[str]], writer: dict[str, int]) -> Iterable[tuple[int, int]]:
    return ((writer[name], index) for index, needed in enumerate(needs) for name in needed if name in writer)
