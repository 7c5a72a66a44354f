"""The analysed graph: operators with typed tensors as a networkx DAG, from a model skeleton."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.graph.attributes import domain_of
from onnx_aiwq.graph.expansion import expand
from onnx_aiwq.graph.inputs import input_entries
from onnx_aiwq.graph.shapes import ShapeEngine
from onnx_aiwq.graph.symbols import Symbols
from onnx_aiwq.graph.walk import Place, Walk
from onnx_aiwq.loading import Skeleton, read_skeleton
from onnx_aiwq.vocabulary import DType, Operator, Tensor

if TYPE_CHECKING:
    import networkx as nx
    from numpy.typing import ArrayLike

# Integer constants that decide shapes and indices are no parameters; neither are truth values and texts.
_NOT_PARAMETERS = frozenset({DType.INT64, DType.BOOL, DType.STRING, DType.UNDEFINED})
_LISTED = 3


@dataclass(frozen=True)
class ModelInfo:
    """What identifies the model that a graph was made from; sizes in bytes, without external data; a path or a URL."""

    path: Path | str | None
    size_bytes: int
    graph_sha256: str
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    functions: int
    subgraphs: int


@dataclass(frozen=True)
class Graph:
    """A model as it would run: every operator with concrete types and shapes, functions and subgraphs entered.

    Attributes:
        model: where it came from.
        operators: in execution order.
        edges: (producer, consumer, tensor name), producers and consumers by operator name.
        inputs: run-time inputs; initializers are not among them.
        outputs: graph outputs.
        parameters: the weights that run-time operators use, each once (see `_parameters`).
        bindings: symbolic dimensions that the caller bound.
        assumed_bindings: symbolic dimensions that nobody bound, and the value taken: where run-time data decides and
            the most that it can be is known, that; else 1.
        warnings: assumptions and contradictions that a user should know.
        deployed: whether the operators are those that a runtime runs, its optimiser behind them.
        symbol_names: alias that formulas use -> name of the dimension, in a symbolic graph.
        request: what the graph was made from; None where every dimension is bound, and nobody asks for another walk.
    """

    model: ModelInfo
    operators: tuple[Operator, ...]
    edges: tuple[tuple[str, str, str], ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parameters: tuple[Tensor, ...]
    bindings: Mapping[str, int]
    assumed_bindings: Mapping[str, int]
    warnings: tuple[str, ...]
    deployed: bool = False
    symbol_names: Mapping[str, str] = field(default_factory=dict)
    request: _Request | None = field(default=None, repr=False, compare=False)

    def symbolic(self) -> Graph:
        """The same graph with a `symbolic.Formula` for every dimension that nobody bound, instead of a number."""
        if self.request is None or not self.assumed_bindings:
            return self
        return _walked(self.request, assumed=self.assumed_bindings)

    @functools.cached_property
    def dag(self) -> nx.DiGraph[str]:
        """The networkx DiGraph: nodes are operator names with the `Operator` as attribute ``operator``, edges carry
        the tensors that flow along them as attribute ``tensors`` (tuple of `Tensor`)."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from((operator.name, {"operator": operator}) for operator in self.operators)
        tensors = {tensor.name: tensor for operator in self.operators for tensor in operator.inputs if tensor}
        tensors.update([(tensor.name, tensor) for operator in self.operators for tensor in operator.outputs if tensor])
        along: dict[tuple[str, str], tuple[Tensor, ...]] = {}
        several: dict[tuple[str, str], dict[str, Tensor]] = {}  # few pairs of operators have more than one tensor
        for producer, consumer, name in self.edges:
            ends, tensor = (producer, consumer), tensors.get(name)
            flowing = () if tensor is None else (tensor,)
            if along.setdefault(ends, flowing) is not flowing and tensor is not None:
                several.setdefault(ends, {each.name: each for each in along[ends]})[name] = tensor
        along.update((ends, tuple(flowing.values())) for ends, flowing in several.items())
        graph.add_edges_from((*ends, {"tensors": flowing}) for ends, flowing in along.items())
        return graph

    @property
    def links(self) -> int:
        """Edges of the DAG: pairs of operators, however many tensors flow from one to the other."""
        return len({(producer, consumer) for producer, consumer, _ in self.edges})

    @functools.cached_property
    def critical_path(self) -> tuple[str, ...]:
        """Names of the operators on a longest path of the DAG."""
        # Execution order is a topological order, so one pass over it does; networkx takes longer to import than most
        # models take to analyse.
        producers: dict[str, list[str]] = {}
        for producer, consumer, _ in self.edges:
            producers.setdefault(consumer, []).append(producer)
        lengths: dict[str, int] = {}
        before: dict[str, str | None] = {}
        for operator in self.operators:
            last = max(producers.get(operator.name, ()), key=lengths.__getitem__, default=None)
            before[operator.name] = last
            lengths[operator.name] = 1 + (lengths[last] if last is not None else 0)
        path: list[str] = []
        last = max(lengths, key=lengths.__getitem__, default=None)
        while last is not None:
            path.append(last)
            last = before[last]
        return tuple(reversed(path))

    @property
    def depth(self) -> int:
        """Operators on a longest path."""
        return len(self.critical_path)

    def expand(self, operator: Operator) -> tuple[Operator, ...] | None:
        """The operators of the ONNX function body that defines an operator, or None where it has no body.

        Raises:
            ModelError: if the node is none that the operator allows.
        """
        return expand(operator)


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto | Skeleton,
    *,
    bind: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Graph:
    """Read a model and infer every tensor of it.

    Args:
        source: path, URL, bytes, ModelProto, or what `read_skeleton` read of one; weights may be absent.
        bind: values of symbolic dimensions by name.
        shapes: shapes of inputs by name; they bind the symbols that they meet.
        values: elements of small integer inputs that decide shapes, by input name.

    Raises:
        ModelError: if the file is not a well-formed ONNX model.
        ShapeError: if a binding, shape or value does not fit the model.
    """
    return _walked(_Request(read_skeleton(source), _checked_bindings(bind or {}), shapes or {}, values or {}))


@dataclass(frozen=True)
class _Request:
    """What a graph was asked for, so that it can be walked again with other dimensions."""

    skeleton: Skeleton
    bind: Mapping[str, int]
    shapes: Mapping[str, Sequence[int]]
    values: Mapping[str, ArrayLike]


def _walked(request: _Request, *, assumed: Mapping[str, int] | None = None) -> Graph:
    """Walk the model; with the assumptions of an earlier walk, keep what nobody bound as symbols."""
    skeleton = request.skeleton
    proto = skeleton.proto
    symbols = Symbols(request.bind, symbolic=assumed is not None, assumed=assumed)
    opsets = {domain_of(item.domain): item.version for item in proto.opset_import} or {"": 1}
    engine = ShapeEngine(opsets, symbols)
    walk = Walk(skeleton, engine)
    inputs = input_entries(proto.graph, symbols, request.shapes, request.values)
    place = Place(opsets, declared=_declared(proto.graph))
    outputs = walk.run_graph(proto.graph, dict(inputs), place)
    symbols.check_all_used()
    return Graph(
        model=_model_info(skeleton, opsets, walk.subgraphs),
        operators=tuple(walk.operators),
        edges=tuple(walk.edges),
        inputs=tuple(entry.tensor() for entry in inputs.values()),
        outputs=tuple(entry.tensor() for entry in outputs),
        parameters=_parameters(walk),
        bindings=symbols.bound,
        assumed_bindings=symbols.assumed,
        warnings=(*walk.warnings, *_bound_warnings(symbols), *_shape_warnings(engine.contradicted)),
        symbol_names=symbols.names,
        request=request if symbols.assumed or symbols.names else None,
    )


def _checked_bindings(bind: Mapping[str, int]) -> dict[str, int]:
    for name, value in bind.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ShapeError(
                f"--bind {name}={value}: a dimension is a non-negative integer, for example --bind {name}=1"
            )
    return {name: int(value) for name, value in bind.items()}


def _declared(graph: onnx.GraphProto) -> dict[str, onnx.TypeProto]:
    return {value.name: value.type for value in (*graph.value_info, *graph.output) if value.type.WhichOneof("value")}


def _model_info(skeleton: Skeleton, opsets: Mapping[str, int], subgraphs: int) -> ModelInfo:
    proto = skeleton.proto
    return ModelInfo(
        path=skeleton.path or skeleton.address,
        size_bytes=skeleton.size_bytes,
        graph_sha256=skeleton.graph_sha256,
        ir_version=proto.ir_version,
        opsets={domain or "ai.onnx": version for domain, version in opsets.items()},
        producer=" ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        functions=len(proto.functions),
        subgraphs=subgraphs,
    )


def _parameters(walk: Walk) -> tuple[Tensor, ...]:
    """The weights: constant tensors that run-time operators use, traced back to what the file holds (or generates).

    Integer tensors of 64 bits, truth values, texts and scalars are shape arithmetic and settings, not parameters.
    """
    used: set[str] = set()
    for operator in walk.operators:
        if not operator.constant:
            for tensor in operator.inputs:
                if tensor is not None and tensor.constant:
                    used |= walk.origins.get(tensor.name, frozenset())
    tensors = (walk.constants[name].tensor() for name in walk.constants if name in used)
    return tuple(tensor for tensor in tensors if tensor.shape and tensor.dtype not in _NOT_PARAMETERS)


def _bound_warnings(symbols: Symbols) -> list[str]:
    names = [name for name in symbols.assumed if name in symbols.bounded]
    if not names:
        return []
    listed = ", ".join(f"{name}={symbols.assumed[name]}" for name in names[:_LISTED])
    more = "" if len(names) <= _LISTED else f" and {len(names) - _LISTED} more"
    return [
        f"run-time data decides these dimensions; the upper bound is taken: {listed}{more}; "
        f"bind them with --bind {names[0]}=N"
    ]


def _shape_warnings(contradicted: Iterable[str]) -> list[str]:
    listed = list(contradicted)
    if not listed:
        return []
    more = "" if len(listed) <= _LISTED else f" and {len(listed) - _LISTED} more"
    return [
        "the file declares shapes that its operators contradict; the operators are right: "
        f"{'; '.join(listed[:_LISTED])}{more}"
    ]
