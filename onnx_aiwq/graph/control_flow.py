"""How subgraphs are entered: If here, Loop, Scan and SequenceMap in `loops`.

An If whose condition is known takes its branch, otherwise both are walked and marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_aiwq.errors import ModelError
from onnx_aiwq.graph.entries import Entry
from onnx_aiwq.graph.sequences import merged_items
from onnx_aiwq.graph.symbols import library_shape
from onnx_aiwq.graph.validation import captured_names, describe, subgraphs_of

if TYPE_CHECKING:
    from onnx_aiwq.graph.walk import Entries, Place, Walk

Inputs = Sequence[Entry | None]
Runner = Callable[["Walk", onnx.NodeProto, Inputs, "Entries", "Place"], "list[Entry | None]"]


def run_if(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> list[Entry | None]:
    """Enter the branch that is taken, or both."""
    name = walk.name_of(node, place)
    condition = inputs[0].data if inputs and inputs[0] is not None else None
    branches = ["then_branch", "else_branch"]
    known = condition is not None and condition.size == 1 and condition.dtype != object
    if condition is not None and known:
        branches = [branches[0 if bool(condition.reshape(-1)[0]) else 1]]
    results: list[list[Entry]] = []
    for branch in branches:
        graph = subgraph(walk, node, branch)
        marks = place.branches if known else (*place.branches, (name, branch))
        inner = inside(place, graph, f"{name}/{branch}", branches=marks, bound=place.bound or not known)
        results.append(walk.run_graph(graph, captured(graph, entries), inner))
    outputs: list[Entry | None]
    if known:
        outputs = [walk.alias(made, place.unique(to)) for made, to in zip(results[0], node.output, strict=False)]
    else:
        walk.warnings.append(f"{describe(node)}: run-time data chooses the branch; the costlier one is counted")
        outputs = [
            merged(walk, place.unique(to), [made[index] for made in results if index < len(made)])
            for index, to in enumerate(node.output)
        ]
    walk.record(name, node, inputs, outputs, place, after=[entry for made in results for entry in made])
    return outputs


def subgraph(walk: Walk, node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    """A subgraph of a node by the name of its attribute."""
    graph = dict(subgraphs_of(node)).get(name)
    if graph is None:
        raise ModelError(
            f"{walk.skeleton.label}: {describe(node)} has no {name}; the file is incomplete, export it again"
        )
    walk.subgraphs += 1
    return graph


def inside(place: Place, graph: onnx.GraphProto, name: str, **changes: Any) -> Place:
    """The place within a subgraph."""
    declared = {value.name: value.type for value in (*graph.value_info, *graph.output)}
    return place.inside(name, declared=declared, **changes)


def captured(graph: onnx.GraphProto, entries: Entries) -> Entries:
    """What a subgraph takes from the scopes around it."""
    return {name: entries[name] for name in captured_names(graph) if name in entries}


def merged(walk: Walk, name: str, alternatives: Sequence[Entry], *, bounded: bool = True) -> Entry:
    """One entry for a value that several paths may have made; dimensions that differ become symbols.

    Args:
        walk: the walk.
        name: of the value.
        alternatives: what the paths make.
        bounded: whether these are all alternatives, so that none is larger than the largest of them.
    """
    symbols = walk.engine.symbols
    dims = symbols.merged(name, [entry.shape for entry in alternatives], bounded=bounded)
    entry = walk.alias(alternatives[0], name)
    entry.value.const_value = None
    entry.value.shape = None if dims is None else library_shape(dims)
    typed = next((each.value.type for each in alternatives if each.value.type is not None), None)
    entry.value.type = typed
    states = {each.present for each in alternatives}
    result = replace(
        entry,
        dynamic=True,
        constant=False,
        data=None,
        origins=frozenset(),
        items=merged_items(name, [each.items for each in alternatives], symbols),
        present=states.pop() if len(states) == 1 else None,
    )
    first = alternatives[0].data
    if first is not None and all(each.data is not None and np.array_equal(each.data, first) for each in alternatives):
        result.set_data(first)
    return result
