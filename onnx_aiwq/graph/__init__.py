"""The analysed graph: operators with typed tensors as a networkx DAG, from a model skeleton."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from onnx_aiwq.errors import ShapeError, suggestion
from onnx_aiwq.graph.attributes import domain_of
from onnx_aiwq.graph.entries import Entry, known_entry, typed_entry
from onnx_aiwq.graph.shapes import ShapeEngine, onnx_type, schema_of
from onnx_aiwq.graph.symbols import Symbols
from onnx_aiwq.graph.walk import Entries, Place, Walk
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
    """What identifies the model that a graph was made from; sizes in bytes, without external data."""

    path: Path | None
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
        assumed_bindings: symbolic dimensions that nobody bound, and the value taken (1).
        warnings: assumptions and contradictions that a user should know.
        symbol_names: alias that formulas use -> name of the dimension, in a symbolic graph.
        request: what the graph was made from.
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
    symbol_names: Mapping[str, str] = field(default_factory=dict)
    request: _Request | None = field(default=None, repr=False, compare=False)

    def symbolic(self) -> Graph:
        """The same graph with a `symbolic.Formula` for every dimension that nobody bound, instead of 1."""
        if self.request is None or not self.assumed_bindings:
            return self
        return _walked(self.request, symbolic=True)

    @functools.cached_property
    def dag(self) -> nx.DiGraph[str]:
        """The networkx DiGraph: nodes are operator names with the `Operator` as attribute ``operator``, edges carry
        the tensors that flow along them as attribute ``tensors`` (tuple of `Tensor`)."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from((operator.name, {"operator": operator}) for operator in self.operators)
        tensors = {tensor.name: tensor for operator in self.operators for tensor in operator.inputs if tensor}
        tensors.update((tensor.name, tensor) for operator in self.operators for tensor in operator.outputs if tensor)
        along: dict[tuple[str, str], dict[str, Tensor]] = {}
        for producer, consumer, name in self.edges:
            if name in tensors:
                along.setdefault((producer, consumer), {})[name] = tensors[name]
            else:
                along.setdefault((producer, consumer), {})
        graph.add_edges_from((*ends, {"tensors": tuple(flowing.values())}) for ends, flowing in along.items())
        return graph

    @functools.cached_property
    def critical_path(self) -> tuple[str, ...]:
        """Names of the operators on a longest path."""
        import networkx as nx

        return tuple(nx.dag_longest_path(self.dag, weight=None)) if self.operators else ()

    @property
    def depth(self) -> int:
        """Operators on a longest path."""
        return len(self.critical_path)

    def expand(self, operator: Operator) -> tuple[Operator, ...] | None:
        """The operators of the ONNX function body that defines an operator, or None where it has no body."""
        return _expand(operator)


def load(
    source: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    bind: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, ArrayLike] | None = None,
) -> Graph:
    """Read a model and infer every tensor of it.

    Args:
        source: path, bytes or ModelProto; weights may be absent.
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


def _walked(request: _Request, *, symbolic: bool = False) -> Graph:
    skeleton = request.skeleton
    proto = skeleton.proto
    symbols = Symbols(request.bind, symbolic=symbolic)
    opsets = {domain_of(item.domain): item.version for item in proto.opset_import} or {"": 1}
    engine = ShapeEngine(opsets, symbols)
    walk = Walk(skeleton, engine)
    inputs = _input_entries(proto.graph, symbols, request.shapes, request.values)
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
        warnings=(*walk.warnings, *_shape_warnings(engine.contradicted)),
        symbol_names=symbols.names,
        request=request,
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


def _input_entries(
    graph: onnx.GraphProto,
    symbols: Symbols,
    shapes: Mapping[str, Sequence[int]],
    values: Mapping[str, ArrayLike],
) -> Entries:
    """Entries of the run-time inputs, with symbols bound by `--bind` and `--shape`."""
    constants = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    for option, given in (("--shape", shapes), ("values", values)):
        for name in given:
            if name not in inputs:
                listed = ", ".join(inputs) or "none"
                raise ShapeError(
                    f"{option} {name}: the model has no input of this name (its inputs: {listed});"
                    f"{suggestion(name, inputs) or ' name one of these'}"
                )
    for name, shape in shapes.items():
        _bind_by_shape(inputs[name], shape, symbols)
    entries: Entries = {}
    for name, info in inputs.items():
        entries[name] = _input_entry(info, symbols, shapes.get(name), values.get(name))
    return entries


def _bind_by_shape(info: onnx.ValueInfoProto, shape: Sequence[int], symbols: Symbols) -> None:
    if any(isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 0 for dim in shape):
        raise ShapeError(
            f"--shape {info.name}: dimensions are non-negative integers, for example {info.name}=1,3,224,224"
        )
    given = "[" + ", ".join(map(str, shape)) + "]"
    if not info.type.tensor_type.HasField("shape"):
        return
    dims = info.type.tensor_type.shape.dim
    declared = "[" + ", ".join(str(d.dim_value) if _is_fixed(d) else d.dim_param or "?" for d in dims) + "]"
    if len(dims) != len(shape):
        raise ShapeError(
            f"--shape {info.name}={given}: the input has {len(dims)} dimensions {declared}, not {len(shape)}"
        )
    for dim, size in zip(dims, shape, strict=True):
        if _is_fixed(dim) and dim.dim_value != size:
            raise ShapeError(
                f"--shape {info.name}={given}: the file fixes the shape to {declared}; "
                "give these values, or export the model with dynamic dimensions"
            )
        if not _is_fixed(dim) and dim.dim_param:
            bound = symbols.bound.setdefault(dim.dim_param, int(size))
            if bound != size:
                raise ShapeError(
                    f"--shape {info.name}={given}: dimension {dim.dim_param!r} is already bound to {bound}; "
                    "make the bindings agree"
                )


def _is_fixed(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def _input_entry(
    info: onnx.ValueInfoProto, symbols: Symbols, given: Sequence[int] | None, value: ArrayLike | None
) -> Entry:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return Entry(typed_entry(info.name, 0, None).value, dynamic=True)
    tensor_type = info.type.tensor_type
    dims: list[int] | None = None
    dynamic = True
    if tensor_type.HasField("shape"):
        dynamic = not all(_is_fixed(dim) for dim in tensor_type.shape.dim)
        dims = [
            # A dimension without a name gets one, so that it can be bound.
            dim.dim_value
            if _is_fixed(dim)
            else _resolve(symbols, dim.dim_param or f"{info.name}_dim{axis}", given, axis)
            for axis, dim in enumerate(tensor_type.shape.dim)
        ]
    elif given is not None:
        dims = [int(size) for size in given]
    entry = typed_entry(info.name, tensor_type.elem_type, dims)
    if value is not None:
        data = np.asarray(value, dtype=entry.value.dtype.numpy() if entry.value.dtype else None)
        entry = known_entry(info.name, tensor_type.elem_type, data)
        entry.constant, entry.origins = False, frozenset()
    entry.dynamic = dynamic
    return entry


def _resolve(symbols: Symbols, name: str, given: Sequence[int] | None, axis: int) -> int:
    if given is not None:
        symbols.bound.setdefault(name, int(given[axis]))
    return symbols.resolve(name)


def _model_info(skeleton: Skeleton, opsets: Mapping[str, int], subgraphs: int) -> ModelInfo:
    proto = skeleton.proto
    return ModelInfo(
        path=skeleton.path,
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


def _shape_warnings(contradicted: Iterable[str]) -> list[str]:
    listed = list(contradicted)
    if not listed:
        return []
    more = "" if len(listed) <= _LISTED else f" and {len(listed) - _LISTED} more"
    return [
        "the file declares shapes that its operators contradict; the operators are right: "
        f"{'; '.join(listed[:_LISTED])}{more}"
    ]


def _expand(operator: Operator) -> tuple[Operator, ...] | None:
    schema = schema_of(operator.domain, operator.op_type, operator.version)
    if schema is None or not (schema.has_function or schema.has_context_dependent_function):
        return None
    entries = [None if tensor is None else _entry_of(tensor) for tensor in operator.inputs]
    node = _node_of(operator)
    function = _body_of(schema, node, operator, entries)
    if function is None:
        return None
    skeleton = Skeleton(onnx.ModelProto(), None, 0, "")
    walk = Walk(skeleton, ShapeEngine({operator.domain: operator.version}, Symbols({})))
    place = Place({operator.domain: operator.version}, scope=operator.name, depth=1)
    walk.run_function(function, node, entries, place)
    return tuple(replace(inner, repeats=inner.repeats * operator.repeats) for inner in walk.operators)


def _entry_of(tensor: Tensor) -> Entry:
    if tensor.value is not None:
        entry = known_entry(tensor.name, tensor.dtype.onnx_number, tensor.value)
    else:
        entry = typed_entry(tensor.name, tensor.dtype.onnx_number, tensor.shape)
    return replace(entry, constant=tensor.constant, quantized=tensor.quantized)


def _node_of(operator: Operator) -> onnx.NodeProto:
    attributes = {name: value for name, value in operator.attributes.items() if value is not None}
    return onnx.helper.make_node(
        operator.op_type,
        [f"i{index}" if tensor else "" for index, tensor in enumerate(operator.inputs)],
        [f"o{index}" if tensor else "" for index, tensor in enumerate(operator.outputs)],
        domain=operator.domain,
        **{name: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for name, v in attributes.items()},
    )


def _body_of(
    schema: onnx.defs.OpSchema, node: onnx.NodeProto, operator: Operator, entries: Sequence[Entry | None]
) -> onnx.FunctionProto | None:
    """The function body at the operator's opset version; bodies that depend on types and attributes are built."""
    version = operator.version
    if schema.has_context_dependent_function:
        types = [onnx_type(entry).SerializeToString() if entry is not None else b"" for entry in entries]
        usable = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        if usable:
            built = schema.get_context_dependent_function_with_opset_version(
                max(usable), node.SerializeToString(), types
            )
            return onnx.FunctionProto.FromString(built) if built else None
    usable = [v for v in schema.function_opset_versions if v <= version]
    if not usable:
        return None
    return onnx.FunctionProto.FromString(schema.get_function_with_opset_version(max(usable)))
