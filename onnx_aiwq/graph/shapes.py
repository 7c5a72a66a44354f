"""Types and shapes of one node's outputs, from its inputs: symbolic libraries first, then what they leave open.

Every node is inferred on its own, with concrete input shapes, so that nothing that a file merely declares is trusted:
1. `onnx-shape-inference` (symbolic; knows com.microsoft; follows shape arithmetic through small integer tensors),
2. the reference evaluator, where every input is known and small (constant folding),
3. `onnx.shape_inference` for the node alone,
4. the shape that the file declares, where the operator is unknown to all of them.
A dimension that only run-time data decides becomes a symbol of its own, which a user can bind.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_shape_inference as osi

from onnx_aiwq.errors import ShapeError, suggestion
from onnx_aiwq.vocabulary import DType, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDING_LIMIT_ELEMENTS = 4096  # larger constants are known to be constant, but their elements are not computed
# The libraries log what they cannot infer; the gap shows in our own report, so their lines would only repeat it.
logging.getLogger("onnx_shape_inference").setLevel(logging.CRITICAL)

_NONDETERMINISTIC = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# Operators whose result is the same numbers in another arrangement: a dequantised tensor stays one.
_REARRANGING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


class Symbols:
    """Values of symbolic dimensions: what the user bound, and what had to be assumed.

    Attributes:
        bound: name -> value as given by the user.
        assumed: name -> 1 for every symbol that was needed and not bound.
    """

    def __init__(self, bound: Mapping[str, int]) -> None:
        self.bound = dict(bound)
        self.assumed: dict[str, int] = {}
        self._used: set[str] = set()

    def resolve(self, name: str) -> int:
        """The value of a symbol; 1, noted as an assumption, when nobody bound it."""
        self._used.add(name)
        if name in self.bound:
            return self.bound[name]
        self.assumed[name] = 1
        return 1

    def check_all_used(self) -> None:
        """Raise `ShapeError` for bound names that the model does not have."""
        known = sorted(self._used)
        for name in self.bound:
            if name not in self._used:
                listed = ", ".join(known) or "none"
                raise ShapeError(
                    f"--bind {name}: the model has no dimension of this name (its symbolic dimensions: {listed});"
                    f"{suggestion(name, known) or ' bind one of these'}"
                )


@dataclass(slots=True)
class Entry:
    """What is known of one tensor while the graph is walked.

    Attributes:
        value: name, type and shape in the form that the libraries take.
        data: the elements where they are known and few.
        constant: whether no run-time input decides the tensor.
        dynamic: whether a symbolic dimension or run-time data decides its shape.
        quantized: the integer type that it was dequantised from.
        origins: names of the constants (weights) that a constant tensor is made of.
    """

    value: ir.Value
    data: NDArray[np.generic] | None = None
    constant: bool = False
    dynamic: bool = False
    quantized: DType | None = None
    origins: frozenset[str] = frozenset()
    _tensor: Tensor | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...] | None:
        shape = self.value.shape
        if shape is None or not all(isinstance(dim, int) for dim in shape.dims):
            return None
        return tuple(int(dim) for dim in shape.dims)

    def tensor(self) -> Tensor:
        """The frozen view that rules and reports see."""
        if self._tensor is None:
            self._tensor = Tensor(
                name=self.value.name or "",
                dtype=_dtype(self.value),
                shape=self.shape,
                value=self.data,
                constant=self.constant,
                quantized=self.quantized,
            )
        return self._tensor


def _dtype(value: ir.Value) -> DType:
    dtype = value.dtype
    return DType.UNDEFINED if dtype is None else DType.from_onnx(int(dtype))


def known_entry(name: str, dtype: int, data: NDArray[np.generic]) -> Entry:
    """A constant whose elements are at hand."""
    return _with_data(typed_entry(name, dtype, data.shape, constant=True), data)


def typed_entry(name: str, dtype: int, shape: Sequence[int] | None, *, constant: bool = False) -> Entry:
    """A tensor of which type and shape are known, and nothing else."""
    value = ir.Value(
        name=name,
        shape=None if shape is None else ir.Shape(shape),
        type=ir.TensorType(ir.DataType(dtype)) if dtype in _ONNX_NUMBERS else None,
    )
    return Entry(value, constant=constant, origins=frozenset({name}) if constant else frozenset())


_ONNX_NUMBERS = frozenset(int(dtype) for dtype in ir.DataType)


def _with_data(entry: Entry, data: NDArray[np.generic]) -> Entry:
    if data.size <= FOLDING_LIMIT_ELEMENTS:
        entry.data = data
        if entry.value.const_value is None and entry.value.dtype is not None:
            entry.value.const_value = ir.tensor(data, dtype=entry.value.dtype, name=entry.value.name)
    return entry


@dataclass(frozen=True, slots=True)
class Call:
    """One node, ready to be inferred: attribute references are resolved, names are unique.

    Attributes:
        proto: the node with its own attributes (for the fallbacks).
        attributes: its attributes without subgraphs, in the library's form.
        version: opset version of its domain.
        outputs: unique names of the outputs, "" where one is not asked for.
        declared: per output, the type that the file declares, or None.
    """

    proto: onnx.NodeProto
    attributes: tuple[ir.Attr, ...]
    version: int
    outputs: tuple[str, ...]
    declared: tuple[onnx.TypeProto | None, ...]

    @property
    def domain(self) -> str:
        return "" if self.proto.domain == "ai.onnx" else self.proto.domain


class ShapeEngine:
    """Infers calls one after the other and collects what users should know.

    Attributes:
        symbols: the symbolic dimensions of the model.
        contradicted: descriptions of declared shapes that contradict the operator.
    """

    def __init__(self, opsets: Mapping[str, int], symbols: Symbols) -> None:
        osi.registry.collect()
        self.symbols = symbols
        self.contradicted: list[str] = []
        self._opsets = dict(opsets)

    def infer(self, call: Call, inputs: Sequence[Entry | None]) -> list[Entry | None]:
        """Entries of the node's outputs, None for outputs that are not asked for."""
        values = [ir.Value(name=name) for name in call.outputs]
        context = osi.ShapeInferenceContext({**self._opsets, call.domain: call.version})
        self._infer_by_library(context, call, inputs, values)
        if any(value.shape is None and value.type is None for value in values if value.name):
            _infer_by_onnx(call, inputs, values)
        for value, declared in zip(values, call.declared, strict=True):
            self._settle(value, declared)
        entries = self._entries(call, inputs, values)
        self._fold(context, call, inputs, entries)
        return [entry if entry.value.name else None for entry in entries]

    def _infer_by_library(
        self, context: osi.ShapeInferenceContext, call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]
    ) -> None:
        function = osi.registry.get(call.domain, call.proto.op_type, version=call.version)
        if function is None:
            return
        node = ir.Node(
            call.domain,
            call.proto.op_type,
            inputs=[None if entry is None else entry.value for entry in inputs],
            attributes=call.attributes,
            outputs=values,
            name=call.proto.name or None,
        )
        try:
            function(context, node)
        except Exception as error:
            # Third-party inference may raise anything on an odd node; the next source of shapes is asked instead.
            logging.getLogger(__name__).debug("%s %s: %s", call.proto.op_type, call.proto.name, error)

    def _settle(self, value: ir.Value, declared: onnx.TypeProto | None) -> None:
        """Fill gaps from the declared type and give every symbolic dimension its value."""
        if declared is not None:
            self._merge_declared(value, declared)
        if value.shape is None:
            return
        dims: list[int] = []
        for axis, dim in enumerate(value.shape.dims):
            if isinstance(dim, int) and dim >= 0:
                dims.append(dim)
            else:
                dims.append(self.symbols.resolve(f"{value.name}_dim{axis}"))
        value.shape = ir.Shape(dims)

    def _merge_declared(self, value: ir.Value, declared: onnx.TypeProto) -> None:
        if not declared.HasField("tensor_type"):
            return
        tensor_type = declared.tensor_type
        if value.dtype is None and tensor_type.elem_type in _ONNX_NUMBERS and tensor_type.elem_type:
            value.dtype = ir.DataType(tensor_type.elem_type)
        if not tensor_type.HasField("shape"):
            return
        dims = tensor_type.shape.dim
        if value.shape is None:
            value.shape = ir.Shape([self._declared_dim(value, axis, dim) for axis, dim in enumerate(dims)])
            return
        fixed = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in dims]
        inferred = [dim if isinstance(dim, int) else None for dim in value.shape.dims]
        if len(fixed) != len(inferred):
            self._contradict(value, fixed, inferred)
            return
        for known, found in zip(fixed, inferred, strict=True):
            if known is not None and found is not None and known != found:
                self._contradict(value, fixed, inferred)
                return
        # What only run-time data decides may still be declared by the author of the file.
        merged = [
            found if found is not None else self._declared_dim(value, axis, dims[axis])
            for axis, found in enumerate(inferred)
        ]
        value.shape = ir.Shape(merged)

    def _declared_dim(self, value: ir.Value, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            return int(dim.dim_value)
        return self.symbols.resolve(dim.dim_param or f"{value.name}_dim{axis}")

    def _contradict(self, value: ir.Value, declared: Sequence[int | None], inferred: Sequence[int | None]) -> None:
        def text(dims: Iterable[int | None]) -> str:
            return "[" + ", ".join("?" if dim is None else str(dim) for dim in dims) + "]"

        self.contradicted.append(f"{value.name} {text(declared)} instead of {text(inferred)}")

    def _entries(self, call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> list[Entry]:
        present = [entry for entry in inputs if entry is not None]
        op_type = call.proto.op_type
        deterministic = op_type not in _NONDETERMINISTIC and all(value.dtype is not None for value in values[:1])
        dynamic = any(entry.dynamic for entry in present)
        constant = deterministic and all(entry.constant for entry in present)
        if op_type in ("Shape", "Size") and call.domain == "" and not dynamic:
            constant = True  # a runtime folds the shape of a tensor whose dimensions the file fixes
        origins: frozenset[str] = frozenset()
        if constant:
            # A generator makes the weight itself; anything else rearranges the weights that it is given.
            made = op_type == "ConstantOfShape" or not present
            names = [value.name or "" for value in values]
            origins = frozenset(names) if made else frozenset().union(*(entry.origins for entry in present))
        quantized = _quantized(op_type, present)
        return [
            Entry(value, constant=constant, dynamic=dynamic, quantized=quantized, origins=origins) for value in values
        ]

    def _fold(
        self, context: osi.ShapeInferenceContext, call: Call, inputs: Sequence[Entry | None], entries: list[Entry]
    ) -> None:
        """Find the elements of small outputs: the library follows integer vectors, the evaluator does the rest."""
        for entry in entries:
            data = _propagated(context, entry)
            if data is not None:
                _with_data(entry, data)
        if all(entry.data is not None for entry in entries) or not _foldable(call, inputs, entries):
            return
        results = _evaluate(call, [None if entry is None else entry.data for entry in inputs])
        for entry, data in zip(entries, results, strict=False):
            if data is None:
                continue
            if entry.shape != data.shape:
                entry.value.shape = ir.Shape(data.shape)
            _with_data(entry, data)


def _quantized(op_type: str, present: Sequence[Entry]) -> DType | None:
    """The integer type that an output was dequantised from, followed through operators that only rearrange."""
    if not present:
        return None
    if op_type == "DequantizeLinear":
        return _dtype(present[0].value)
    return present[0].quantized if op_type in _REARRANGING else None


def _propagated(context: osi.ShapeInferenceContext, entry: Entry) -> NDArray[np.generic] | None:
    """The elements that the library derived for a small integer tensor, or None."""
    if entry.value.dtype is None or not entry.value.name:
        return None
    if entry.value.const_value is not None:
        return np.asarray(entry.value.const_value.numpy())
    elements = context.get_symbolic_value(entry.value)
    shape = entry.shape
    if elements is None or shape is None or not all(isinstance(element, int) for element in elements):
        return None
    array = np.asarray(elements, dtype=entry.value.dtype.numpy())
    return array.reshape(shape) if array.size == int(np.prod(shape, dtype=object)) else None


def _foldable(call: Call, inputs: Sequence[Entry | None], entries: Sequence[Entry]) -> bool:
    if call.proto.op_type in _NONDETERMINISTIC or call.domain != "":
        return False
    if any(attribute.HasField("g") or attribute.graphs for attribute in call.proto.attribute):
        return False
    present = [entry for entry in inputs if entry is not None]
    if not present or any(entry.data is None for entry in present):
        return False
    sizes = [entry.shape for entry in entries]
    return all(shape is None or np.prod(shape, dtype=object) <= FOLDING_LIMIT_ELEMENTS for shape in sizes)


def _evaluate(call: Call, arrays: Sequence[NDArray[np.generic] | None]) -> list[NDArray[np.generic] | None]:
    """Run one node in the reference evaluator; an empty list where it cannot."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = ["" if array is None else f"i{index}" for index, array in enumerate(arrays)]
    outputs = [f"o{index}" for index in range(len(call.outputs))]
    node = onnx.NodeProto(op_type=call.proto.op_type, input=names, output=outputs, attribute=call.proto.attribute)
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if name}
    graph_inputs = [onnx.ValueInfoProto(name=name) for name in feeds]
    graph = onnx.GraphProto(
        node=[node], input=graph_inputs, output=[onnx.ValueInfoProto(name=name) for name in outputs]
    )
    model = onnx.ModelProto(graph=graph, ir_version=8, opset_import=[helper.make_opsetid("", call.version)])
    try:
        results: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:
        # Folding is an aid: an operator that the evaluator cannot run stays unfolded, with its inferred shape.
        logging.getLogger(__name__).debug("folding %s: %s", call.proto.op_type, error)
        return []
    return [result if isinstance(result, np.ndarray) else np.asarray(result) for result in results]


def _infer_by_onnx(call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> None:
    """Ask `onnx.shape_inference` about the node alone; its Einsum can hang on odd equations and is not asked."""
    schema = schema_of(call.domain, call.proto.op_type, call.version)
    if schema is None or call.proto.op_type == "Einsum":
        return
    names = [f"i{index}" if entry is not None else "" for index, entry in enumerate(inputs)]
    node = onnx.NodeProto()
    node.CopyFrom(call.proto)
    del node.input[:], node.output[:]
    node.input.extend(names)
    node.output.extend(f"o{index}" for index in range(len(values)))
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for name, entry in zip(names, inputs, strict=True):
        if entry is None:
            continue
        types[name] = onnx.helper.make_tensor_type_proto(int(entry.value.dtype or 0), entry.shape)
        if entry.data is not None:
            data[name] = onnx.numpy_helper.from_array(entry.data, name)
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=None)
    except Exception as error:
        # The same as for the first library: what cannot be inferred stays open and is reported as such.
        logging.getLogger(__name__).debug("%s %s: %s", call.proto.op_type, call.proto.name, error)
        return
    for index, value in enumerate(values):
        inferred = found.get(f"o{index}")
        if inferred is None or not inferred.HasField("tensor_type") or value.shape is not None:
            continue
        value.dtype = ir.DataType(inferred.tensor_type.elem_type)
        if inferred.tensor_type.HasField("shape"):
            dims = inferred.tensor_type.shape.dim
            value.shape = ir.Shape([d.dim_value if d.HasField("dim_value") else ir.SymbolicDim(None) for d in dims])


@functools.cache
def schema_of(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    """The ONNX schema of an operator at an opset version, None for operators that onnx does not define."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
