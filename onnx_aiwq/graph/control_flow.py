"""How If, Loop and Scan are entered.

An If whose condition is known takes its branch, otherwise both are walked and marked. Loop and Scan bodies are walked
once and remember how often they run; where the shape of a carried value changes from one iteration to the next, the
dimension becomes a symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from onnx_aiwq.errors import ModelError
from onnx_aiwq.graph.attributes import version_of
from onnx_aiwq.graph.entries import Entry, typed_entry
from onnx_aiwq.graph.symbols import library_shape
from onnx_aiwq.graph.validation import captured_names, describe, subgraphs_of

if TYPE_CHECKING:
    from onnx_aiwq.graph.walk import Entries, Place, Walk

_WIDENINGS = 3  # passes over a body until the shapes of what it carries no longer change
_ENDLESS = 2**31 - 1  # exporters write the largest integer for "until the condition says stop"

Inputs = Sequence[Entry | None]
Runner = Callable[["Walk", onnx.NodeProto, Inputs, "Entries", "Place"], "list[Entry | None] | None"]


def _run_if(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> list[Entry | None]:
    name = walk.name_of(node, place)
    condition = inputs[0].data if inputs and inputs[0] is not None else None
    branches = ["then_branch", "else_branch"]
    known = condition is not None and condition.size == 1
    if condition is not None and known:
        branches = [branches[0 if bool(condition.reshape(-1)[0]) else 1]]
    results: list[list[Entry]] = []
    for branch in branches:
        graph = _subgraph(walk, node, branch)
        marks = place.branches if known else (*place.branches, (name, branch))
        inner = _inside(place, graph, f"{name}/{branch}", branches=marks)
        results.append(walk.run_graph(graph, _captured(graph, entries), inner))
    outputs: list[Entry | None]
    if known:
        outputs = [walk.alias(made, place.unique(to)) for made, to in zip(results[0], node.output, strict=False)]
    else:
        walk.warnings.append(f"{describe(node)}: run-time data chooses the branch; the costlier one is counted")
        outputs = [
            _merged(walk, place.unique(to), [made[index] for made in results]) for index, to in enumerate(node.output)
        ]
    walk.record(name, node, inputs, outputs, place, after=[entry for made in results for entry in made])
    return outputs


def _run_loop(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> list[Entry | None]:
    name = walk.name_of(node, place)
    body = _subgraph(walk, node, "body")
    trips, exact = _trip_count(walk, inputs, name)
    scalars = [
        typed_entry(f"{name}/{formal.name}", int(kind), ())
        for formal, kind in zip(body.input, (ir.DataType.INT64, ir.DataType.BOOL), strict=False)
    ]
    carried = list(inputs[2:])
    inner = _inside(place, body, name, repeats=place.repeats * trips)
    results = _run_body(walk, body, entries, inner, scalars, carried, [], skip=1)
    if trips and not (exact and _goes_on(body, results[0])):
        walk.warnings.append(f"{describe(node)}: run-time data may end it early; {trips} iterations are counted")
    outputs = _collect(walk, node, place, results[1:], len(carried), trips, [])
    walk.record(name, node, inputs, outputs, place, after=results)
    return outputs


def _run_scan(
    walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place
) -> list[Entry | None] | None:
    if version_of("", place.opsets) < 9:
        return None  # Scan 8 has a batch axis and sequence lengths of its own: it stays visible as unsupported
    name = walk.name_of(node, place)
    body = _subgraph(walk, node, "body")
    attributes = {attribute.name: attribute for attribute in node.attribute}
    scanned = attributes["num_scan_inputs"].i if "num_scan_inputs" in attributes else 0
    split = len(inputs) - scanned
    axes = list(attributes["scan_input_axes"].ints) if "scan_input_axes" in attributes else [0] * scanned
    shapes = [entry.shape if entry is not None else None for entry in inputs[split:]]
    lengths = [shape[axis] for shape, axis in zip(shapes, axes, strict=False) if shape]
    trips = lengths[0] if lengths else walk.engine.symbols.resolve(f"{name}_trip_count")
    slices = [
        _slice(entry, axis, f"{name}/{formal.name}")
        for entry, axis, formal in zip(inputs[split:], axes, body.input[split:], strict=False)
    ]
    inner = _inside(place, body, name, repeats=place.repeats * trips)
    results = _run_body(walk, body, entries, inner, [], list(inputs[:split]), slices, skip=0)
    out_axes = list(attributes["scan_output_axes"].ints) if "scan_output_axes" in attributes else []
    outputs = _collect(walk, node, place, results, split, trips, out_axes)
    walk.record(name, node, inputs, outputs, place, after=results)
    return outputs


RUNNERS: dict[str, Runner] = {"If": _run_if, "Loop": _run_loop, "Scan": _run_scan}


def _subgraph(walk: Walk, node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    graph = dict(subgraphs_of(node)).get(name)
    if graph is None:
        raise ModelError(f"{walk.skeleton.label}: {describe(node)} has no {name}; the file is incomplete")
    walk.subgraphs += 1
    return graph


def _inside(place: Place, graph: onnx.GraphProto, name: str, **changes: Any) -> Place:
    declared = {value.name: value.type for value in (*graph.value_info, *graph.output)}
    return place.inside(name, declared=declared, **changes)


def _captured(graph: onnx.GraphProto, entries: Entries) -> Entries:
    return {name: entries[name] for name in captured_names(graph) if name in entries}


def _trip_count(walk: Walk, inputs: Inputs, name: str) -> tuple[int, bool]:
    """How often a loop runs, and whether that is exact as far as the node's own inputs tell."""
    condition = inputs[1] if len(inputs) > 1 else None
    if condition is not None and condition.data is not None and not bool(condition.data.reshape(-1)[0]):
        return 0, True
    limit = inputs[0] if inputs else None
    exact = condition is None or condition.data is not None
    if limit is not None and limit.data is not None:
        trips = int(limit.data.reshape(-1)[0])
        if trips < _ENDLESS:
            return max(trips, 0), exact
    # Without a limit only the condition ends the loop; a limit that is not known yet is exact once it is bound.
    return walk.engine.symbols.resolve(f"{name}_trip_count"), exact and limit is not None and limit.data is None


def _goes_on(body: onnx.GraphProto, condition: Entry) -> bool:
    """Whether the condition that a loop body computes never ends the loop: constantly true, or handed through."""
    if condition.data is not None and bool(condition.data.reshape(-1)[0]):
        return True
    handed_through = {body.input[1].name} if len(body.input) > 1 else set()
    for node in body.node:
        if node.op_type == "Identity" and node.input[0] in handed_through:
            handed_through.add(node.output[0])
    return body.output[0].name in handed_through


def _run_body(
    walk: Walk,
    body: onnx.GraphProto,
    entries: Entries,
    place: Place,
    leading: Sequence[Entry],
    carried: list[Entry | None],
    trailing: Sequence[Entry],
    skip: int,
) -> list[Entry]:
    """Walk a body; where the shape of a carried value changes, widen it to symbols and walk again.

    Args:
        walk, body, entries, place: as for a graph.
        leading: body inputs before the carried values.
        carried: initial values of what one iteration hands to the next.
        trailing: body inputs after the carried values.
        skip: outputs of the body before the carried values.
    """
    names = [formal.name for formal in body.input]
    results: list[Entry] = []
    for attempt in range(_WIDENINGS):
        marks = (len(walk.operators), len(walk.edges), len(walk.warnings))
        state = [
            _state(walk, entry, place.unique(name)) for entry, name in zip(carried, names[len(leading) :], strict=False)
        ]
        scope = _captured(body, entries)
        scope.update(zip(names, [*leading, *state, *trailing], strict=False))
        results = walk.run_graph(body, scope, place)
        changed = [
            index
            for index, (before, after) in enumerate(zip(state, results[skip:], strict=False))
            if before.shape != after.shape
        ]
        if not changed or attempt == _WIDENINGS - 1:
            break
        for index in changed:
            carried[index] = _merged(walk, state[index].value.name or "", [state[index], results[skip + index]])
        del walk.operators[marks[0] :], walk.edges[marks[1] :], walk.warnings[marks[2] :]
    return results


def _state(walk: Walk, entry: Entry | None, name: str) -> Entry:
    """What a body sees of a carried value: type and shape; its elements change from one iteration to the next."""
    if entry is None:
        return typed_entry(name, 0, None)
    state = walk.alias(entry, name)
    state.value.const_value = None
    return replace(state, constant=False, data=None, origins=frozenset())


def _merged(walk: Walk, name: str, alternatives: Sequence[Entry]) -> Entry:
    """One entry for a value that several paths may have made; dimensions that differ become symbols."""
    shapes = [entry.shape for entry in alternatives]
    known = [shape for shape in shapes if shape is not None]
    merged: list[int] | None = None
    if len(known) == len(shapes) and len({len(shape) for shape in known}) == 1:
        merged = [
            dims[0] if len(set(dims)) == 1 else walk.engine.symbols.resolve(f"{name}_dim{axis}")
            for axis, dims in enumerate(zip(*known, strict=True))
        ]
    entry = walk.alias(alternatives[0], name)
    entry.value.const_value = None
    entry.value.shape = None if merged is None else library_shape(merged)
    return replace(entry, dynamic=True, constant=False, data=None, origins=frozenset())


def _slice(entry: Entry | None, axis: int, name: str) -> Entry:
    """What a Scan body sees of a scanned input: one slice, the scanned axis left out."""
    if entry is None:
        return typed_entry(name, 0, None)
    shape = entry.shape
    rest = None if shape is None else tuple(dim for index, dim in enumerate(shape) if index != axis % len(shape))
    return typed_entry(name, int(entry.value.dtype or 0), rest)


def _collect(
    walk: Walk,
    node: onnx.NodeProto,
    place: Place,
    results: Sequence[Entry],
    carried: int,
    trips: int,
    axes: Sequence[int],
) -> list[Entry | None]:
    """The outputs of a loop: final values of what it carries, then one stack per scanned output."""
    outputs: list[Entry | None] = []
    for index, (result, to) in enumerate(zip(results, node.output, strict=False)):
        entry = walk.alias(result, place.unique(to))
        if index >= carried and result.shape is not None:
            axis = axes[index - carried] if axes else 0
            dims = list(result.shape)
            dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, trips)
            entry.value.shape = library_shape(dims)
        entry.value.const_value = None
        outputs.append(replace(entry, constant=False, data=None, origins=frozenset()))
    return outputs
