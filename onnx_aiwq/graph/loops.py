"""How Loop, Scan and SequenceMap are entered.

A body is walked once and remembers how often it runs. Where one iteration differs from the next (a tensor that grows, a
counter that decides a shape) a loop whose end is known is walked one iteration at a time; any other has a symbol for
every dimension that changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from onnx_aiwq.graph.attributes import version_of
from onnx_aiwq.graph.control_flow import Inputs, Runner, captured, inside, merged, run_if, subgraph
from onnx_aiwq.graph.entries import Entry, Items, known_entry, typed_entry
from onnx_aiwq.graph.sequences import element_of, length_of, sequence_of, sequence_type
from onnx_aiwq.graph.symbols import library_shape
from onnx_aiwq.graph.validation import describe
from onnx_aiwq.symbolic import Dim, Formula, simplified

if TYPE_CHECKING:
    from onnx_aiwq.graph.walk import Entries, Place, Walk

_WIDENINGS = 3  # passes over a body until the shapes of what it carries no longer change
_ENDLESS = 2**31 - 1  # exporters write the largest integer for "until the condition says stop"
_MAX_ITERATIONS = 256  # walked one at a time
_MAX_OPERATORS = 20_000  # of all iterations that are walked one at a time

Outputs = list["Entry | None"]


@dataclass(frozen=True, slots=True)
class _Site:
    """A loop while it is walked: the node, its unique name, its body, and what is visible from within."""

    walk: Walk
    node: onnx.NodeProto
    name: str
    body: onnx.GraphProto
    entries: Entries
    place: Place

    @property
    def trip_count(self) -> str:
        """The symbol that stands for how often the body runs, where only run-time data knows it."""
        return f"{self.name}_trip_count"

    def run(self, given: Sequence[Entry], repeats: int, iteration: int | None = None) -> list[Entry]:
        """Walk the body once, for all iterations or for one."""
        scope = captured(self.body, self.entries)
        scope.update(zip((formal.name for formal in self.body.input), given, strict=False))
        name = self.name if iteration is None else f"{self.name}/{iteration}"
        # The constants of a body are the same ones in every iteration.
        home = self.place.home_of(self.name)
        bound = self.place.bound or self.trip_count in self.walk.engine.symbols.bounded
        place = inside(self.place, self.body, name, repeats=self.place.repeats * repeats, home=home, bound=bound)
        return self.walk.run_graph(self.body, scope, place)

    def formal(self, index: int) -> str:
        """The unique name of an input of the body."""
        return f"{self.name}/{self.body.input[index].name}" if index < len(self.body.input) else self.name

    def hands_through(self, index: int, output: int) -> bool:
        """Whether the body returns an input as it is, so that all iterations see the same value."""
        if index >= len(self.body.input) or output >= len(self.body.output):
            return False
        names = {self.body.input[index].name}
        for node in self.body.node:
            if node.op_type == "Identity" and node.input[0] in names:
                names.add(node.output[0])
        return self.body.output[output].name in names

    def finish(self, inputs: Inputs, outputs: Outputs, made: Sequence[Entry]) -> Outputs:
        """Write the container down."""
        self.walk.record(self.name, self.node, inputs, outputs, self.place, after=made)
        return outputs


def _site(walk: Walk, node: onnx.NodeProto, entries: Entries, place: Place) -> _Site:
    return _Site(walk, node, walk.name_of(node, place), subgraph(walk, node, "body"), entries, place)


def _run_loop(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> Outputs:
    site = _site(walk, node, entries, place)
    symbols, carried = walk.engine.symbols, list(inputs[2:])
    count = site.trip_count
    limit, starts = _limit(inputs), _truth(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else True
    if starts is False:
        limit = 0
    elif limit is None and count in symbols.bound:
        limit = symbols.resolve(count)
    start, before = walk.mark(), set(symbols.assumed)
    goes_on = starts is not None and site.hands_through(1, 0)
    certain = limit == 0 or goes_on or walk.may_walk_again  # else there is no second walk to put it right
    trips = limit if limit is not None and certain else symbols.resolve(count, limit)
    results, widened = _run_together(site, _scalars(site), carried, [], trips)
    exact = limit is not None and starts is not None and (goes_on or bool(_truth(results[0])))
    settled = limit == 0 or (exact and not widened and set(symbols.assumed) == before)
    if not settled and walk.may_walk_again:
        walk.reset(start)
        iterations = _run_one_by_one(site, carried, limit) if starts else None
        if iterations is not None:
            made = [entry for iteration in iterations for entry in iteration]
            return site.finish(inputs, _unrolled_outputs(site, iterations, len(carried)), made)
        walk.reset(start)
        trips = limit if exact and limit is not None else symbols.resolve(count, limit)
        results, _ = _run_together(site, _scalars(site), carried, [], trips)
    outputs = _outputs(site, results[1:], carried, trips)
    if exact and starts:
        _note_final_numbers(site, carried, limit, outputs)
    return site.finish(inputs, outputs, results)


def _note_final_numbers(site: _Site, carried: Sequence[Entry | None], limit: int | None, outputs: Outputs) -> None:
    """Small integers that a loop computes with may decide a shape behind it: follow them through every iteration."""
    known = [entry is not None and entry.data is not None and entry.dtype.is_integer for entry in carried]
    changing = [known[index] and not site.hands_through(2 + index, 1 + index) for index in range(len(carried))]
    if not any(changing) or not limit or not site.walk.may_walk_again:
        return
    mark = site.walk.mark()
    iterations = _run_one_by_one(site, carried, limit)
    site.walk.reset(mark)
    for index, output in enumerate(outputs[: len(carried)]):
        data = iterations[-1][1 + index].data if iterations else None
        if changing[index] and output is not None and data is not None:
            output.set_data(data)


def _limit(inputs: Inputs) -> int | None:
    """The most iterations that a Loop may make; None where only its condition or run-time data ends it."""
    limit = inputs[0] if inputs else None
    if limit is None or limit.data is None:
        return None
    number: Dim = simplified(limit.data.reshape(-1)[0])
    if isinstance(number, Formula):
        return number  # type: ignore[return-value]  # stands for an int
    return max(int(number), 0) if number < _ENDLESS else None


def _truth(entry: Entry | None) -> bool | None:
    """A truth value that is known before the run."""
    if entry is None or entry.data is None or entry.data.dtype == object or entry.data.size != 1:
        return None
    return bool(entry.data.reshape(-1)[0])


def _scalars(site: _Site) -> list[Entry]:
    """Iteration number and condition, as every iteration sees them."""
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    return [typed_entry(site.formal(index), kind, ()) for index, kind in enumerate(kinds)]


def _run_together(
    site: _Site, leading: Sequence[Entry], carried: Sequence[Entry | None], trailing: Sequence[Entry], trips: int
) -> tuple[list[Entry], bool]:
    """Walk a body once for all iterations; where the shape of a carried value changes, widen it and walk again.

    Args:
        site: the loop.
        leading: body inputs before the carried values; a Loop has as many outputs less one before them.
        carried: initial values of what one iteration hands to the next.
        trailing: body inputs after the carried values.
        trips: number of iterations.

    Returns:
        The outputs of the body, and whether a carried value had to be widened.
    """
    walk, values = site.walk, list(carried)
    first, skip = len(leading), max(len(leading) - 1, 0)
    open_axes: dict[int, set[int]] = {}
    for attempt in range(_WIDENINGS):
        start = walk.mark()
        state = [
            _state(walk, entry, site.formal(first + index), site.hands_through(first + index, skip + index))
            for index, entry in enumerate(values)
        ]
        results = site.run([*leading, *state, *trailing], trips)
        pairs = list(zip(state, results[skip:], strict=False))
        changed = [index for index, pair in enumerate(pairs) if _differ(*pair, open_axes.get(index, set()))]
        if not changed or attempt == _WIDENINGS - 1 or not walk.may_walk_again:
            return results, attempt > 0 or bool(changed)
        walk.reset(start)
        for index in changed:
            before, after = pairs[index]
            sizes = enumerate(zip(before.shape or (), after.shape or (), strict=False))
            open_axes.setdefault(index, set()).update(axis for axis, (old, new) in sizes if old != new)
            values[index] = merged(walk, site.formal(first + index), [before, after], bounded=False)
    raise AssertionError("the last attempt returns")


def _differ(before: Entry, after: Entry, open_axes: set[int]) -> bool:
    """Whether an iteration makes something else of a carried value, other than along axes that are open already."""
    if (before.shape is None) != (after.shape is None) or (before.value.type is None) != (after.value.type is None):
        return True
    if before.shape is not None and after.shape is not None and before.shape != after.shape:
        sizes = enumerate(zip(before.shape, after.shape, strict=False))
        if len(before.shape) != len(after.shape) or {axis for axis, (old, new) in sizes if old != new} - open_axes:
            return True
    if before.items is None or after.items is None:
        return before.items is not after.items
    if before.items.element is None:
        return after.items.element is not None or bool(after.items.known)
    seen = after.items.known if after.items.known is not None else (after.items.element,)
    return any(element is not None and element.shape != before.items.element.shape for element in seen)


def _state(walk: Walk, entry: Entry | None, name: str, invariant: bool) -> Entry:
    """What a body sees of a carried value: its elements change from one iteration to the next, unless it never does."""
    if entry is None:
        return typed_entry(name, 0, None)
    state = walk.alias(entry, name)
    if invariant:
        return state
    state.value.const_value = None
    items = None if entry.items is None else Items(name, element_of(entry.items, walk.engine.symbols))
    return replace(state, constant=False, data=None, origins=frozenset(), items=items, present=None)


def _run_one_by_one(site: _Site, carried: Sequence[Entry | None], limit: int | None) -> list[list[Entry]] | None:
    """Walk every iteration of a Loop; None where its end, or a dimension within, is not known before the run."""
    walk, symbols = site.walk, site.walk.engine.symbols
    if not isinstance(limit, int | None) or (limit or 0) > _MAX_ITERATIONS:
        return None
    before, operators = set(symbols.assumed), len(walk.operators)
    state = [entry if entry is not None else typed_entry(site.formal(2), 0, None) for entry in carried]
    iterations: list[list[Entry]] = []
    goes_on: bool | None = True
    while goes_on and len(iterations) != limit:
        number = len(iterations)
        given = [
            _known_at_run_time(site.formal(0), np.asarray(number, np.int64)),
            _known_at_run_time(site.formal(1), np.asarray(True)),
            *(_handed_over(walk, entry, f"{site.formal(2 + index)}/{number}") for index, entry in enumerate(state)),
        ]
        results = site.run(given, 1, number)
        goes_on = _truth(results[0])
        made = len(walk.operators) - operators
        too_many = len(iterations) >= _MAX_ITERATIONS or made * ((limit or 1) if not number else 1) > _MAX_OPERATORS
        if goes_on is None or too_many or set(symbols.assumed) - before:
            return None
        iterations.append(results)
        state = results[1 : 1 + len(carried)]
    return iterations


def _known_at_run_time(name: str, data: Any) -> Entry:
    """A number that the analysis knows and a runtime does not fold."""
    entry = known_entry(name, onnx.helper.np_dtype_to_tensor_dtype(data.dtype), data)
    return replace(entry, constant=False, origins=frozenset())


def _handed_over(walk: Walk, entry: Entry, name: str) -> Entry:
    return replace(walk.alias(entry, name), constant=False, origins=frozenset())


def _outputs(
    site: _Site, results: Sequence[Entry], carried: Sequence[Entry | None], trips: int, axes: Sequence[int] = ()
) -> Outputs:
    """The outputs of a loop: final values of what it carries, then one stack per scanned output."""
    outputs: Outputs = []
    for index, (result, to) in enumerate(zip(results, site.node.output, strict=False)):
        initial = carried[index] if index < len(carried) else None
        source = initial if initial is not None and isinstance(trips, int) and trips == 0 else result
        entry = site.walk.alias(source, site.place.unique(to))
        entry.value.const_value = None
        if index >= len(carried) and result.shape is not None:
            axis = axes[index - len(carried)] if axes else 0
            dims = list(result.shape)
            dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, trips)
            entry.value.shape = library_shape(dims)
        entry = replace(entry, constant=False, data=None, origins=frozenset(), items=_grown(entry, initial, trips))
        outputs.append(entry if to else None)
    return outputs


def _grown(entry: Entry, initial: Entry | None, trips: int) -> Items | None:
    """A carried sequence after the last iteration: as many elements longer as every iteration added."""
    if entry.items is None:
        return None
    start = initial.items.length if initial is not None and initial.items is not None else None
    length = None if start is None else start + entry.items.growth * trips
    return replace(entry.items, name=entry.name, length=length, known=None, growth=0)


def _unrolled_outputs(site: _Site, iterations: Sequence[Sequence[Entry]], carried: int) -> Outputs:
    outputs: Outputs = []
    for index, to in enumerate(site.node.output):
        name = site.place.unique(to)
        made = [iteration[1 + index] for iteration in iterations]
        if index < carried:
            outputs.append(_handed_over(site.walk, made[-1], name) if to else None)
            continue
        entry = merged(site.walk, name, made)
        if entry.shape is not None:
            entry.value.shape = library_shape([len(made), *entry.shape])
        entry.value.const_value = None
        outputs.append(replace(entry, data=None, dynamic=any(each.dynamic for each in made)) if to else None)
    return outputs


def _run_scan(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> Outputs:
    if version_of("", place.opsets) < 9:
        return _run_batched_scan(walk, node, inputs, entries, place)
    site = _site(walk, node, entries, place)
    attributes = _attributes(node)
    scanned = attributes.get("num_scan_inputs", 0)
    split = len(inputs) - scanned
    axes = attributes.get("scan_input_axes") or [0] * min(scanned, len(inputs))
    trips = _length(site, [(entry, axis) for entry, axis in zip(inputs[split:], axes, strict=False)])
    slices = [
        _slice(entry, [axis], site.formal(split + index))
        for index, (entry, axis) in enumerate(zip(inputs[split:], axes, strict=False))
    ]
    carried = list(inputs[:split])
    results, _ = _run_together(site, [], carried, slices, trips)
    outputs = _outputs(site, results, carried, trips, attributes.get("scan_output_axes") or ())
    return site.finish(inputs, outputs, results)


def _run_batched_scan(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> Outputs:
    """Scan of opset 8: every tensor has a batch axis first, the body runs for each sequence of the batch."""
    site = _site(walk, node, entries, place)
    split = len(inputs) - _attributes(node).get("num_scan_inputs", 0)
    lengths = inputs[0]
    batch = _length(site, [(entry, 0) for entry in inputs[1:] if entry is not None], "batch_size")
    trips = _length(site, [(entry, 1) for entry in inputs[split:]])
    steps = batch * trips
    if lengths is not None and lengths.data is not None and lengths.data.dtype != object:
        steps = int(lengths.data.sum())
    elif lengths is not None:
        walk.warnings.append(f"{describe(node)}: run-time data may shorten its sequences; the longest are counted")
        site = replace(site, place=replace(place, bound=True))
    states = [_slice(entry, [0], site.formal(index)) for index, entry in enumerate(inputs[1:split])]
    slices = [_slice(entry, [0, 1], site.formal(split - 1 + index)) for index, entry in enumerate(inputs[split:])]
    results, _ = _run_together(site, [], states, slices, steps)
    outputs = _outputs(site, results, states, trips)
    for output in outputs:
        if output is not None and output.shape is not None:
            output.value.shape = library_shape([batch, *output.shape])
    return site.finish(inputs, outputs, results)


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {
        attribute.name: list(attribute.ints) if attribute.ints else attribute.i
        for attribute in node.attribute
        if not attribute.HasField("g")
    }


def _length(site: _Site, along: Sequence[tuple[Entry | None, int]], what: str = "trip_count") -> int:
    """The size of the first tensor whose shape is known, along its axis; else a symbol."""
    for entry, axis in along:
        shape = entry.shape if entry is not None else None
        if shape:
            return shape[axis]
    return site.walk.engine.symbols.resolve(f"{site.name}_{what}")


def _slice(entry: Entry | None, axes: Sequence[int], name: str) -> Entry:
    """What a body sees of a tensor that is scanned along some axes: a slice without them."""
    if entry is None:
        return typed_entry(name, 0, None)
    shape = entry.shape
    left_out = {axis % len(shape) for axis in axes} if shape else set()
    rest = None if shape is None else [dim for index, dim in enumerate(shape) if index not in left_out]
    return replace(typed_entry(name, int(entry.value.dtype or 0), rest), dynamic=entry.dynamic)


def _run_sequence_map(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> Outputs:
    site = _site(walk, node, entries, place)
    symbols = walk.engine.symbols
    mapped = [entry.items for entry in inputs if entry is not None and entry.items is not None]
    first = mapped[0] if mapped else Items(site.name)
    lists = [items.known for items in mapped if items.known is not None]
    differ = any(len({element.shape for element in known}) > 1 for known in lists)
    if differ and len(lists) == len(mapped) and len(lists[0]) <= _MAX_ITERATIONS:
        made = [site.run(_elements(site, inputs, index), 1, index) for index in range(len(lists[0]))]
    else:
        made = [site.run(_elements(site, inputs, None), length_of(first, symbols))]
    outputs: Outputs = []
    for index, to in enumerate(node.output):
        name = place.unique(to)
        results = [iteration[index] for iteration in made if index < len(iteration)]
        items = sequence_of(name, results, symbols)
        if not differ:
            items = Items(name, results[0] if results else None, length_of(first, symbols))
        output = typed_entry(name, 0, None)
        output.value.type = sequence_type(items)
        outputs.append(replace(output, items=items, dynamic=True) if to else None)
    return site.finish(inputs, outputs, [entry for iteration in made for entry in iteration])


def _elements(site: _Site, inputs: Inputs, number: int | None) -> list[Entry]:
    """What the body sees of each input: one element of a sequence, or what all have in common; a tensor as it is."""
    given: list[Entry] = []
    for index, entry in enumerate(inputs):
        element = entry
        if entry is not None and entry.items is not None:
            items = entry.items
            if number is not None and items.known is not None:
                element = items.known[number]
            else:
                element = element_of(items, site.walk.engine.symbols)
            name = site.formal(index) if number is None else f"{site.formal(index)}/{number}"
            element = _state(site.walk, element, name, invariant=False)
        given.append(element if element is not None else typed_entry(site.formal(index), 0, None))
    return given


RUNNERS: dict[str, Runner] = {"If": run_if, "Loop": _run_loop, "Scan": _run_scan, "SequenceMap": _run_sequence_map}
