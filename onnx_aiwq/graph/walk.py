"""Walk a model in execution order: enter functions and subgraphs, infer every node, write down operators and edges.

This is an abstract run of the model: tensors carry type, shape and, where they are small and known, elements. Functions
are entered at each call; how subgraphs are entered is in `control_flow` and `loops`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

from onnx_aiwq.bounds import MAX_EXPANDED, MAX_EXPANSION, MAX_RANK, MAX_SCOPE_CHARACTERS, shortened
from onnx_aiwq.errors import ModelError
from onnx_aiwq.graph import decoding, loops
from onnx_aiwq.graph.attributes import (
    attribute_values,
    domain_of,
    version_of,
    with_resolved_attributes,
    without_inputs,
)
from onnx_aiwq.graph.entries import FOLDING_LIMIT_ELEMENTS, Entry, known_entry, typed_entry
from onnx_aiwq.graph.shapes import Call, ShapeEngine
from onnx_aiwq.graph.symbols import Assumptions, OversizeError
from onnx_aiwq.graph.validation import count_nodes, describe, ordered_nodes, read_names
from onnx_aiwq.loading import Skeleton, tensor_values
from onnx_aiwq.vocabulary import Operator

MAX_DEPTH = 60  # functions and subgraphs within one another
MAX_DISCARDED = 50_000  # operators; loops that need more walks than that are walked once
_MALFORMED = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, ir.serde.SerdeError
)  # fmt: skip
_REASON_LENGTH = 200  # characters
FunctionKey = tuple[str, str, str]
_RUNNERS = {**{("", op_type): runner for op_type, runner in loops.RUNNERS.items()}, **decoding.RUNNERS}
Entries = dict[str, Entry]
_Mark: TypeAlias = "tuple[tuple[int, ...], dict[str, int], int, Assumptions]"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the nest of functions and subgraphs the walk is.

    Attributes:
        scope: path of names, "" at the top.
        repeats: product of the trip counts around.
        branches: If branches around, outermost first.
        bound: whether run-time data decides how often what stands here runs, and the most is taken.
        opsets: domain -> version in force.
        attributes: attributes of the enclosing function call, by name.
        declared: tensor name -> type that the file declares in this scope.
        depth: levels entered so far.
        home: scope that constants are named after; all iterations of a loop have one.
        results: output of the function walked here -> name that the caller gives it.
    """

    opsets: Mapping[str, int]
    scope: str = ""
    repeats: int = 1
    branches: tuple[tuple[str, str], ...] = ()
    bound: bool = False
    attributes: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)
    declared: Mapping[str, onnx.TypeProto] = field(default_factory=dict)
    depth: int = 0
    home: str = ""
    results: Mapping[str, str] = field(default_factory=dict)

    def inside(self, scope: str, *, home: str | None = None, **changes: Any) -> Place:
        """The place one level further in."""
        home = self.home_of(scope) if home is None else home
        scope, home = shortened(scope, MAX_SCOPE_CHARACTERS), shortened(home, MAX_SCOPE_CHARACTERS)
        return replace(self, scope=scope, depth=self.depth + 1, home=home, results={}, **changes)

    def home_of(self, scope: str) -> str:
        """The home of a scope within this one."""
        return self.home + scope.removeprefix(self.scope)

    def constant_name(self, name: str) -> str:
        """The name of a constant of this scope, unique in the model."""
        return f"{self.home}/{name}" if self.home and name else name

    def unique(self, name: str) -> str:
        """The name of a tensor of this scope, unique in the model."""
        if name in self.results:
            return self.results[name]
        return f"{self.scope}/{name}" if self.scope and name else name


@dataclass
class Walk:
    """The state and the result of one walk.

    Attributes:
        operators: in execution order.
        edges: (producer, consumer, tensor name), producers and consumers by operator name.
        constants: weights and other constants that no node computes, by name.
        origins: constant tensor -> names of the constants that it is made of.
        warnings: what users should know about assumptions.
        subgraphs: how many subgraphs were entered.
        discarded: operators that were walked in vain, because a loop turned out to need another walk.
        steps: nodes that were walked, those in vain and the calls of functions included.
    """

    skeleton: Skeleton
    engine: ShapeEngine
    operators: list[Operator] = field(default_factory=list)
    edges: list[tuple[str, str, str]] = field(default_factory=list)
    constants: Entries = field(default_factory=dict)
    origins: dict[str, frozenset[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    subgraphs: int = 0
    discarded: int = 0
    steps: int = 0
    _producers: dict[ir.Value, str] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)
    _active: list[FunctionKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._functions: dict[FunctionKey, onnx.FunctionProto] = {
            (domain_of(function.domain), function.name, function.overload): function
            for function in self.skeleton.proto.functions
        }

    @property
    def _spent(self) -> int:
        return self.steps + 2 * self.engine.evaluations

    @functools.cached_property
    def _most_steps(self) -> int:
        """What an exponential nest of functions or loops ends at, with an error instead of filling the memory."""
        model = self.skeleton.proto
        return MAX_EXPANDED + MAX_EXPANSION * count_nodes(model.graph.node, *(each.node for each in model.functions))

    def run_graph(self, graph: onnx.GraphProto, entries: Entries, place: Place) -> list[Entry]:
        """Walk one graph and return its outputs.

        Args:
            graph: the main graph or a subgraph.
            entries: its inputs and the values of enclosing scopes by name; grows by what the graph computes.
            place: where it stands.
        """
        label = self._label(f"in {place.scope}" if place.scope else "")
        read = read_names(graph) if len(graph.initializer) > len(graph.node) else None
        for tensor in graph.initializer:
            if tensor.name not in entries:  # else the caller overrides the default
                elements = read is None or tensor.name in read
                entries[tensor.name] = self._constant(place.constant_name(tensor.name), tensor, elements=elements)
        for sparse in graph.sparse_initializer:
            name = place.constant_name(sparse.values.name)
            entries[sparse.values.name] = self._remember(
                typed_entry(name, sparse.values.data_type, tuple(sparse.dims), constant=True)
            )
        self._run_nodes(graph.node, entries, place, label)
        missing = [value.name for value in graph.output if value.name not in entries]
        if missing:
            raise ModelError(
                f"{label}: nothing defines the output {missing[0]!r}; the file is incomplete, export it again"
            )
        return [entries[value.name] for value in graph.output]

    def run_function(
        self,
        function: onnx.FunctionProto,
        call: onnx.NodeProto,
        inputs: Sequence[Entry | None],
        outputs: Sequence[str],
        place: Place,
    ) -> list[Entry | None]:
        """Walk the body of a function for one call and return its outputs; inputs that are absent stay absent.

        Args:
            function: the function.
            call: the node that calls it.
            inputs: of the call.
            outputs: unique names of the outputs of the call, "" where one is not asked for.
            place: within the call.
        """
        defaults = {attribute.name: attribute for attribute in function.attribute_proto}
        opsets = {domain_of(item.domain): item.version for item in function.opset_import}
        inner = replace(
            place,
            results={inside: outside for inside, outside in zip(function.output, outputs, strict=False) if outside},
            attributes={**defaults, **{attribute.name: attribute for attribute in call.attribute}},
            opsets={**place.opsets, **opsets},
            declared={value.name: value.type for value in function.value_info},
        )
        given = dict(zip(function.input, inputs, strict=False))
        entries = {name: entry for name, entry in given.items() if entry is not None}
        absent = set(function.input) - set(entries)
        nodes = [without_inputs(node, absent) for node in function.node]
        self._run_nodes(nodes, entries, inner, self._label(f"in function {function.name}"))
        return [entries.get(name) for name in function.output]

    def unique_name(self, name: str) -> str:
        """A name that no operator has yet."""
        while (seen := self._names.get(name, 0)) > 0:
            self._names[name] = seen + 1
            name = f"{name}#{seen + 1}"
        self._names[name] = 1
        return name

    def name_of(self, node: onnx.NodeProto, place: Place) -> str:
        """The unique name of a node: its own, else its first output's, else its operator's, below its scope."""
        own = node.name
        if not own:
            own = next(filter(None, node.output), node.op_type)
        return self.unique_name(place.unique(own))

    def producer_of(self, entry: Entry | None) -> str | None:
        """The operator that made a tensor, None for inputs and weights."""
        return None if entry is None else self._producers.get(entry.value)

    def alias(self, entry: Entry, name: str) -> Entry:
        """The same tensor under another name, with the same producer."""
        value = ir.Value(name=name, shape=entry.value.shape, type=entry.value.type, const_value=entry.value.const_value)
        producer = self.producer_of(entry)
        if producer is not None:
            self._producers[value] = producer
        return replace(entry, value=value, _tensor=None)

    def record(
        self,
        name: str,
        node: onnx.NodeProto,
        inputs: Sequence[Entry | None],
        outputs: Sequence[Entry | None],
        place: Place,
        *,
        constant: bool = False,
        after: Sequence[Entry] = (),
    ) -> None:
        """Write an operator down, with edges from the producers of what it reads and of what its subgraphs made."""
        bound, bounded = place.bound, self.engine.symbols.bounded_tensors
        if bounded and not bound:
            bound = any(entry is not None and entry.value.name in bounded for entry in outputs)
        self.operators.append(
            Operator(
                name=name,
                op_type=node.op_type,
                domain=domain_of(node.domain),
                version=version_of(node.domain, place.opsets),
                inputs=tuple([entry.tensor() if entry is not None else None for entry in inputs]),
                outputs=tuple([entry.tensor() if entry is not None else None for entry in outputs]),
                attributes=attribute_values(node, place.opsets),
                scope=place.scope,
                repeats=place.repeats,
                constant=constant,
                branches=place.branches,
                bound=bound,
            )
        )
        producers = self._producers
        for entry in (*inputs, *after):
            if entry is not None and (producer := producers.get(entry.value)) is not None:
                self.edges.append((producer, name, entry.value.name or ""))
        for entry in outputs:
            if entry is not None:
                producers[entry.value] = name
                if entry.origins:
                    self.origins[entry.value.name or ""] = entry.origins

    @property
    def may_walk_again(self) -> bool:
        """Whether a loop may walk its body once more; within one another they would do so without end."""
        within = self._spent < MAX_EXPANDED / 2 or self._spent < self._most_steps / 2
        return self.discarded < MAX_DISCARDED and within

    def mark(self) -> _Mark:
        """What `reset` needs to forget everything that is walked from now on."""
        lengths = (len(self.operators), len(self.edges), len(self.warnings), len(self.engine.contradicted))
        return lengths, dict(self._names), self.subgraphs, self.engine.symbols.mark()

    def reset(self, mark: _Mark) -> None:
        """Forget what was walked since the mark was taken."""
        self.discarded += len(self.operators) - mark[0][0]
        lengths, names, self.subgraphs, assumptions = mark
        collected: tuple[list[Any], ...] = (self.operators, self.edges, self.warnings, self.engine.contradicted)
        for each, length in zip(collected, lengths, strict=True):
            del each[length:]
        self._names = dict(names)
        self.engine.symbols.reset(assumptions)

    def _label(self, where: str) -> str:
        return f"{self.skeleton.label} ({where})" if where else self.skeleton.label

    def _run_nodes(self, nodes: Sequence[onnx.NodeProto], entries: Entries, place: Place, label: str) -> None:
        if place.depth > MAX_DEPTH:
            raise ModelError(
                f"{label}: functions and subgraphs are nested deeper than {MAX_DEPTH} levels; export it again"
            )
        for node in ordered_nodes(nodes, set(entries), label):
            self.steps += 1
            spent = self.steps + 2 * self.engine.evaluations
            if spent > MAX_EXPANDED and spent > self._most_steps:
                raise ModelError(
                    f"{label}: the model expands to more than {self._most_steps:,} steps; export it without so many "
                    "calls of functions within functions, or loops within loops"
                )
            for name, entry in zip(node.output, self._run_checked(node, entries, place, label), strict=False):
                if name and entry is not None:
                    entries[name] = entry

    def _run_checked(self, node: onnx.NodeProto, entries: Entries, place: Place, label: str) -> Sequence[Entry | None]:
        try:
            return self._run_node(node, entries, place)
        except OversizeError as error:
            raise ModelError(f"{label}: {describe(node)} {error}; check its shapes, or export it again") from error
        except _MALFORMED as error:
            # A walk takes well-formed nodes for granted; what a damaged one breaks is no one's bug but the file's.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_LENGTH]
            raise ModelError(
                f"{label}: {describe(node)} is not well formed ({reason}); check the file, or export it again"
            ) from error

    def _run_node(self, node: onnx.NodeProto, entries: Entries, place: Place) -> Sequence[Entry | None]:
        inputs = [entries.get(name) if name else None for name in node.input]
        node = with_resolved_attributes(node, place.attributes)
        key = (domain_of(node.domain), node.op_type, node.overload)
        if key in self._functions:
            return self._call_function(key, node, inputs, place)
        enter = _RUNNERS.get(key[:2])
        if enter is not None:
            return enter(self, node, inputs, entries, place)
        if key[:2] == ("", "Constant"):
            entry = self._constant_node(node, place)
            if entry is not None:
                if math.prod(entry.shape or ()) == 1:
                    # One number in the graph itself is a setting (an epsilon, a scale); weights are initializers.
                    entry.origins = frozenset()
                    self.origins.pop(entry.name, None)
                self.record(self.name_of(node, place), node, [], [entry], place, constant=True)
                return [entry]
        return self._run_operator(node, inputs, place)

    def _call_function(
        self, key: FunctionKey, node: onnx.NodeProto, inputs: Sequence[Entry | None], place: Place
    ) -> list[Entry | None]:
        if key in self._active:
            raise ModelError(
                f"{self.skeleton.label}: function {key[1]!r} calls itself; ONNX has no recursion, export it again"
            )
        self._active.append(key)
        names = [place.unique(name) for name in node.output]
        inner = place.inside(self.name_of(node, place))
        outputs = self.run_function(self._functions[key], node, inputs, names, inner)
        self._active.pop()
        return outputs

    def _run_operator(self, node: onnx.NodeProto, inputs: Sequence[Entry | None], place: Place) -> list[Entry | None]:
        names = node.output
        call = Call(
            proto=node,
            version=version_of(node.domain, place.opsets),
            outputs=tuple(map(place.unique, names) if place.scope or place.results else names),
            declared=tuple(map(place.declared.get, names)),
        )
        outputs = self.engine.infer(call, inputs)
        constant = bool(outputs)
        for entry in outputs:
            if entry is not None:
                constant = constant and entry.constant
                if entry.origins and entry.value.name in entry.origins:
                    self._remember(entry)
        self.record(self.name_of(node, place), node, inputs, outputs, place, constant=constant)
        return outputs

    def _remember(self, entry: Entry) -> Entry:
        name = entry.value.name or ""
        self.constants[name] = entry
        self.origins[name] = entry.origins
        return entry

    def _constant(self, name: str, tensor: onnx.TensorProto, *, elements: bool = True) -> Entry:
        dims = tuple(tensor.dims)
        if dims and min(dims) < 0:
            raise ModelError(f"{self.skeleton.label}: initializer {name!r} has a negative dimension; export it again")
        if len(dims) > MAX_RANK:
            raise ModelError(
                f"{self.skeleton.label}: initializer {name!r} has {len(dims)} dimensions, over {MAX_RANK}; check it"
            )
        few = elements and math.prod(dims) <= FOLDING_LIMIT_ELEMENTS
        data = tensor_values(tensor, self.skeleton) if few else None
        if data is not None and data.shape == dims:
            return self._remember(known_entry(name, tensor.data_type, data))
        return self._remember(typed_entry(name, tensor.data_type, dims, constant=True))

    def _constant_node(self, node: onnx.NodeProto, place: Place) -> Entry | None:
        """The entry of a Constant node; None for the kinds that hold no tensor of numbers."""
        name = place.constant_name(node.output[0])
        for attribute in node.attribute:
            if attribute.name == "value":
                return self._constant(name, attribute.t)
            if attribute.name == "sparse_value":
                sparse = attribute.sparse_tensor
                return self._remember(typed_entry(name, sparse.values.data_type, tuple(sparse.dims), constant=True))
            numbers: Any = {
                "value_float": attribute.f,
                "value_int": attribute.i,
                "value_floats": attribute.floats,
                "value_ints": attribute.ints,
            }.get(attribute.name)
            if numbers is not None:
                is_float = "float" in attribute.name
                data = np.asarray(numbers, np.float32 if is_float else np.int64)
                kind = onnx.TensorProto.FLOAT if is_float else onnx.TensorProto.INT64
                return self._remember(known_entry(name, kind, data))
        return None
