"""The rewritten graph as a frozen one: its operators in execution order, those that no pass touched as they were."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import Operator


def frozen(work: WorkingGraph, graph: Graph) -> tuple[Graph, dict[str, tuple[str, ...]]]:
    """The graph that the nodes make now, and what each of them stands for."""
    nodes = _sorted(work)
    for node in nodes:
        if node.inputs and _all_constant(work, node.inputs):
            for name in node.outputs:
                if name:
                    work.tensors[name] = replace(work.tensors[name], constant=True)
    operators = tuple(_unchanged(work, node) or _operator(work, node) for node in nodes)
    producers = work.producers
    edges = [
        (made_by.name, node.name, name)
        for node in nodes
        for name in (node.inputs if len(node.inputs) < 2 else dict.fromkeys(node.inputs))
        if name and (made_by := producers.get(name)) is not None
    ]
    # What flows around a loop is no input of any operator.
    leaving = [edge for edge in graph.edges if edge[2] in work.kept and edge[1] in work.nodes]
    known = set(edges) if leaving else set()
    for _, consumer, name in leaving:
        made_by = producers.get(name)
        if made_by is not None and (made_by.name, consumer, name) not in known:
            edges.append((made_by.name, consumer, name))
    lowered = replace(graph, operators=operators, edges=tuple(edges), request=None)
    return lowered, {node.name: node.stands_for for node in nodes}


def _all_constant(work: WorkingGraph, names: Iterable[str]) -> bool:
    """Whether nothing among the tensors that are there waits for the run."""
    waiting = [name for name in names if name and not work.tensors[name].constant]
    return not waiting


def _sorted(work: WorkingGraph) -> list[Node]:
    """Execution order, as near to that of the export as the edges allow."""
    ordered = work.ordered()
    if _is_sorted(work, ordered):
        return ordered
    missing = {
        node.name: len({name for name in node.inputs if name and name in work.producers})
        for node in work.nodes.values()
    }
    ready = [(node.order, node.number, node.name) for node in work.nodes.values() if not missing[node.name]]
    heapq.heapify(ready)
    result: list[Node] = []
    while ready:
        node = work.nodes[heapq.heappop(ready)[2]]
        result.append(node)
        for name in node.outputs:
            for reader in work.read_by(name).distinct() if name else ():
                missing[reader.name] -= 1
                if not missing[reader.name]:
                    heapq.heappush(ready, (reader.order, reader.number, reader.name))
    if len(result) < len(work.nodes):  # a loop that feeds itself by name; keep the order of the export
        done = {node.name for node in result}
        result.extend(node for node in ordered if node.name not in done)
    return result


def _is_sorted(work: WorkingGraph, nodes: Iterable[Node]) -> bool:
    """Whether every tensor is made before it is read, as in most graphs, whatever was rewritten in them."""
    made: set[str] = set()
    producers = work.producers
    for node in nodes:
        for name in node.inputs:
            if name and name not in made and name in producers:
                return False
        made.update(node.outputs)
    return True


def _unchanged(work: WorkingGraph, node: Node) -> Operator | None:
    """The exported operator, where the passes left it as it was: who counted it need not count it again."""
    operator = node.exported
    if operator is None or node.attributes is not operator.attributes or node.op_type != operator.op_type:
        return None
    if operator.constant or (node.domain, node.version) != (operator.domain, operator.version):
        return None
    for names, tensors in ((node.inputs, operator.inputs), (node.outputs, operator.outputs)):
        if len(names) != len(tensors):
            return None
        for name, tensor in zip(names, tensors, strict=True):
            if (work.tensors[name] if name else None) is not tensor:
                return None
    return None if _all_constant(work, node.outputs) else operator


def _operator(work: WorkingGraph, node: Node) -> Operator:
    scope, repeats, branches = node.place
    outputs = [name for name in node.outputs if name]
    return Operator(
        name=node.name,
        op_type=node.op_type,
        domain=node.domain,
        version=node.version,
        inputs=tuple(work.tensors[name] if name else None for name in node.inputs),
        outputs=tuple(work.tensors[name] if name else None for name in node.outputs),
        attributes=node.attributes,
        scope=scope,
        repeats=repeats,
        branches=branches,
        constant=bool(outputs) and all(work.tensors[name].constant for name in outputs),
    )
