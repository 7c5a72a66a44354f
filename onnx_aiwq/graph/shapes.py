"""Types and shapes of one node's outputs, from its inputs: symbolic libraries first, then what they leave open.

Every node is inferred on its own, with concrete input shapes, so that nothing that a file merely declares is trusted:
1. `onnx-shape-inference` (symbolic; knows com.microsoft; follows shape arithmetic through small integer tensors),
2. `onnx.shape_inference` for the node alone, where the first says nothing,
3. rules of our own (the modules of this folder that end in `_shapes`, and `sequences`),
4. the shape that the file declares, for what is open still,
5. the reference evaluator, where every input is known and small (constant folding).
A dimension that only run-time data decides becomes a symbol of its own, which a user can bind.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import onnx_shape_inference as osi

from onnx_aiwq.graph import (
    attention_shapes,
    channels_last_shapes,
    contrib_shapes,
    formula_shapes,
    ml_shapes,
    own_shapes,
    runtime_shapes,
    sequences,
)
from onnx_aiwq.graph.entries import FOLDING_LIMIT_ELEMENTS, ONNX_NUMBERS, Entry
from onnx_aiwq.graph.folding import FOLDED, SIZED_BY_NUMBERS, evaluate
from onnx_aiwq.graph.long_vectors import joined, require_rank
from onnx_aiwq.graph.recurring import Kept, Recurring, is_settled
from onnx_aiwq.graph.symbols import Symbols, library_dim, library_shape, plain_shape, require_size
from onnx_aiwq.symbolic import UndecidableError
from onnx_aiwq.vocabulary import DType, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The libraries log what they cannot infer; the gap shows in our own report, so their lines would only repeat it.
logging.getLogger("onnx_shape_inference").setLevel(logging.CRITICAL)

GRAPH_KINDS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_OWN_RULES = {
    **own_shapes.RULES,
    **ml_shapes.RULES,
    **runtime_shapes.RULES,
    **contrib_shapes.RULES,
    **channels_last_shapes.RULES,
    **attention_shapes.RULES,
}
_LARGEST_INT32 = (1 << 31) - 1
_OPEN = "aiwq_open"  # begins the placeholders of dimensions that our own rules leave open
_NONDETERMINISTIC = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# Operators whose result is the same numbers in another arrangement: a dequantised tensor stays one.
_REARRANGING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@dataclass(eq=False)
class Call:
    """One node, ready to be inferred: attribute references are resolved, names are unique. Nobody changes it.

    Attributes:
        proto: the node with its own attributes.
        version: opset version of its domain.
        outputs: unique names of the outputs, "" where one is not asked for.
        declared: per output, the type that the file declares, or None.
    """

    proto: onnx.NodeProto
    version: int
    outputs: tuple[str, ...]
    declared: tuple[onnx.TypeProto | None, ...]

    @functools.cached_property
    def attributes(self) -> tuple[ir.Attr, ...]:
        """Its attributes without subgraphs, in the library's form."""
        return tuple(ir.serde.deserialize_attribute(a) for a in self.proto.attribute if a.type not in GRAPH_KINDS)

    @property
    def domain(self) -> str:
        return "" if self.proto.domain == "ai.onnx" else self.proto.domain

    @functools.cached_property
    def plain_attributes(self) -> dict[str, Any]:
        """Attributes as Python values, without schema defaults and subgraphs."""
        return {
            attribute.name: attribute.value if attribute.type != ir.AttributeType.TENSOR else None
            for attribute in self.attributes
        }


class _Context(osi.ShapeInferenceContext):  # type: ignore[misc]  # the library has no types
    """What the library knows while it infers a node."""

    def set_symbolic_value(self, value: ir.Value, data: list[int | ir.SymbolicDim]) -> None:
        """Keep the elements of a vector, or of a scalar, as the library does, with the tensor that it would make.

        It asks protocols what a list might be, which takes longer than all else that shape arithmetic needs.
        """
        rank = None if value.shape is None else len(value.shape)
        if value.const_value is None and rank in (0, 1) and all(isinstance(element, int) for element in data):
            elements = data[0] if rank == 0 and data else data
            kind = value.dtype or ir.DataType.INT64
            # Where numbers do not fit their type, the library says so.
            with contextlib.suppress(OverflowError, TypeError, ValueError):
                value.const_value = ir.Tensor(np.array(elements, kind.numpy()), dtype=kind, name=value.name)
        super().set_symbolic_value(value, data)


class ShapeEngine:
    """Infers calls one after the other and collects what users should know.

    Attributes:
        symbols: the symbolic dimensions of the model.
        contradicted: descriptions of declared shapes that contradict the operator.
        evaluations: how often elements were computed, which takes longer than to infer a shape.
    """

    def __init__(self, opsets: Mapping[str, int], symbols: Symbols) -> None:
        osi.registry.collect()
        self.symbols = symbols
        self.contradicted: list[str] = []
        self.evaluations = 0
        self._opsets = dict(opsets)
        self._recurring = Recurring()

    def infer(self, call: Call, inputs: Sequence[Entry | None]) -> list[Entry | None]:
        """Entries of the node's outputs, None for outputs that are not asked for."""
        key = self._recurring.key(call.proto, call.version, inputs, call.declared)
        known = self._recurring.recall(key)
        if known is not None:
            return _recalled(call, inputs, known)
        contradictions = len(self.contradicted)
        values = [ir.Value(name=name) for name in call.outputs]
        like, given = _as_standard(call, inputs)
        context = _Context({**self._opsets, like.domain: like.version})
        require_rank(like.domain, like.proto.op_type, given)
        vector = joined(like.domain, like.proto.op_type, like.plain_attributes.get("axis"), given)
        if vector is not None:
            values[0].shape, values[0].dtype = vector, given[0].value.dtype if given[0] is not None else None
        elif not _infer_by_elements(like, given, values):
            self._infer_by_library(context, like, given, values)
            _infer_by_elements(like, given, values)  # the library leaves open what a formula decides
        if any(value.shape is None and value.name and not is_container(value) for value in values):
            _infer_by_onnx(like, given, values)
        upper = _infer_by_own_rules(like, given, values)
        found = None
        if call.domain == "":
            found = sequences.infer(call.proto.op_type, call.plain_attributes, inputs, values[0], self.symbols)
        opened: dict[str, int] = {}
        recurs = key is not None and found is None and is_settled(values)
        for value, declared in zip(values, call.declared, strict=True):
            self._settle(value, declared, upper, opened)
        entries = _entries(call, inputs, values)
        if found is not None:
            _contain(entries[0], found)
        self._fold(context, call, inputs, entries)
        recurs = recurs and len(self.contradicted) == contradictions and all(entry.data is None for entry in entries)
        if key is not None and recurs:
            self._recurring.keep(key, values)
        return _asked(entries)

    def _infer_by_library(
        self, context: osi.ShapeInferenceContext, call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]
    ) -> None:
        function = osi.registry.get(call.domain, call.proto.op_type, version=call.version)
        if function is None:
            return
        for entry in inputs:
            if entry is not None and entry.data is not None and entry.data.dtype == object and entry.data.ndim < 2:
                context.set_symbolic_value(
                    entry.value, [library_dim(element) for element in entry.data.reshape(-1).tolist()]
                )
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

    def _settle(
        self, value: ir.Value, declared: onnx.TypeProto | None, upper: Mapping[str, int | None], opened: dict[str, int]
    ) -> None:
        """Give every dimension that is open the value that the file declares, else that of a symbol.

        Args:
            value: an output.
            declared: its type in the file.
            upper: placeholder of an open dimension -> the most that it can be.
            opened: placeholder -> value, for the outputs settled so far; one placeholder is one dimension.
        """
        if value.shape is not None:
            require_size(cast("Sequence[int]", value.shape.dims))
        dims = self._declared_dims(value, declared)
        if value.shape is None:
            if dims is not None:
                value.shape = library_shape(self._open_dim(value, axis, dim, None) for axis, dim in enumerate(dims))
            return
        settled: list[int] = []
        for axis, dim in enumerate(value.shape.dims):
            known = self.symbols.known(dim)
            if known is None:
                name = (dim.value if isinstance(dim, ir.SymbolicDim) else None) or f"?{value.name}{axis}"
                if name not in opened:
                    opened[name] = self._open_dim(value, axis, dims[axis] if dims else None, upper.get(name))
                known = opened[name]
            settled.append(known)
        require_size(settled)
        value.shape = library_shape(settled)

    def _declared_dims(
        self, value: ir.Value, declared: onnx.TypeProto | None
    ) -> Sequence[onnx.TensorShapeProto.Dimension] | None:
        """The dimensions that the file declares; None where it declares none or contradicts the operator."""
        if declared is None or not declared.HasField("tensor_type"):
            return None
        tensor_type = declared.tensor_type
        if value.dtype is None and tensor_type.elem_type in ONNX_NUMBERS and tensor_type.elem_type:
            value.dtype = ir.DataType(tensor_type.elem_type)
        if not tensor_type.HasField("shape"):
            return None
        dims: Sequence[onnx.TensorShapeProto.Dimension] = tensor_type.shape.dim
        if value.shape is None:
            return dims
        fixed = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in dims]
        inferred = [self.symbols.known(dim) for dim in value.shape.dims]
        agree = len(fixed) == len(inferred) and not any(
            known is not None and isinstance(found, int) and known != found
            for known, found in zip(fixed, inferred, strict=True)
        )
        if not agree:
            self._contradict(value, fixed, inferred)
            return None
        return dims

    def _open_dim(
        self, value: ir.Value, axis: int, declared: onnx.TensorShapeProto.Dimension | None, upper: int | None
    ) -> int:
        """What only run-time data decides may still be declared, or named, by the author of the file."""
        if declared is not None and declared.HasField("dim_value") and declared.dim_value >= 0:
            return int(declared.dim_value)
        named = declared.dim_param if declared is not None else ""
        return self.symbols.resolve(named or f"{value.name}_dim{axis}", upper, tensor=value.name or "")

    def _contradict(self, value: ir.Value, declared: Sequence[int | None], inferred: Sequence[int | None]) -> None:
        def text(dims: Iterable[int | None]) -> str:
            return "[" + ", ".join("?" if dim is None else str(dim) for dim in dims) + "]"

        self.contradicted.append(f"{value.name} {text(declared)} instead of {text(inferred)}")

    def _fold(
        self, context: osi.ShapeInferenceContext, call: Call, inputs: Sequence[Entry | None], entries: list[Entry]
    ) -> None:
        """Find the elements of small outputs: the library follows integer vectors, the evaluator does the rest."""
        for entry in entries:
            data = _propagated(context, entry, self.symbols)
            if data is not None:
                entry.set_data(data)
        if all(entry.data is not None for entry in entries) or not _foldable(call, inputs, entries):
            return
        self.evaluations += 1
        results = evaluate(call.proto, call.version, [None if entry is None else entry.data for entry in inputs])
        for entry, data in zip(entries, results, strict=False):
            require_size(data.shape)
            if entry.shape != data.shape:
                entry.value.shape = library_shape(data.shape)
            entry.set_data(data)


def _entries(call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> list[Entry]:
    typed = all(value.dtype is not None for value in values[:1])
    constant, dynamic, quantized, origins = _lineage(call, inputs, typed)
    return [Entry(value, constant=constant, dynamic=dynamic, quantized=quantized, origins=origins) for value in values]


def _recalled(call: Call, inputs: Sequence[Entry | None], known: Sequence[Kept]) -> list[Entry | None]:
    """The entries of outputs of which types and shapes were kept."""
    constant, dynamic, quantized, origins = _lineage(call, inputs, True)
    entries: list[Entry | None] = []
    for name, kept in zip(call.outputs, known, strict=True):
        if not name:
            entries.append(None)
            continue
        value = ir.Value(name=name, type=kept.type, shape=kept.shape)
        tensor = Tensor(name, kept.dtype, kept.dims, None, constant, quantized)
        entries.append(Entry(value, None, constant, dynamic, quantized, origins, None, None, kept.kind, tensor))
    return entries


def _lineage(
    call: Call, inputs: Sequence[Entry | None], typed: bool
) -> tuple[bool, bool, DType | None, frozenset[str]]:
    """What outputs have from the inputs: constant, dynamic, quantized and origins of `Entry`."""
    op_type = call.proto.op_type
    present = [entry for entry in inputs if entry is not None]
    dynamic, constant = False, typed and op_type not in _NONDETERMINISTIC
    for entry in present:
        dynamic = dynamic or entry.dynamic
        constant = constant and entry.constant
    if not dynamic and op_type in ("Shape", "Size") and call.domain == "":
        constant = True  # a runtime folds the shape of a tensor whose dimensions the file fixes
    origins: frozenset[str] = frozenset()
    if constant:
        # A generator makes the weight itself; anything else rearranges the weights that it is given.
        made = op_type == "ConstantOfShape" or not present
        origins = frozenset(call.outputs) if made else frozenset().union(*(entry.origins for entry in present))
    return constant, dynamic, _quantized(op_type, present), origins


def _asked(entries: Sequence[Entry]) -> list[Entry | None]:
    return [entry if entry.value.name else None for entry in entries]


def _quantized(op_type: str, present: Sequence[Entry]) -> DType | None:
    """The integer type that an output was dequantised from, followed through operators that only rearrange."""
    if not present:
        return None
    if op_type == "DequantizeLinear":
        return present[0].dtype
    return present[0].quantized if op_type in _REARRANGING else None


def _propagated(context: osi.ShapeInferenceContext, entry: Entry, symbols: Symbols) -> NDArray[np.generic] | None:
    """The elements that the library derived for a small integer tensor, or None."""
    if entry.value.dtype is None or not entry.value.name:
        return None
    if entry.value.const_value is not None:
        return np.asarray(entry.value.const_value.numpy())
    elements = context.get_symbolic_value(entry.value)
    shape = entry.shape
    if elements is None or shape is None or math.prod(shape) != len(elements):
        return None
    if all(isinstance(element, int) for element in elements):
        try:
            return np.asarray(elements, dtype=entry.value.dtype.numpy()).reshape(shape)
        except OverflowError:
            return None  # a runtime wraps around; the library does not, and what it says is no longer true
    formulas = plain_shape(ir.Shape(elements))
    # The library also marks elements that it does not know with symbols of its own.
    if formulas is None or not all(isinstance(each, int) or symbols.knows(each) for each in formulas):
        return None
    array = np.empty(len(formulas), dtype=object)
    array[:] = formulas
    return array.reshape(shape)


def _foldable(call: Call, inputs: Sequence[Entry | None], entries: Sequence[Entry]) -> bool:
    if call.proto.op_type not in FOLDED or call.domain != "":
        return False
    if any(attribute.HasField("g") or attribute.graphs for attribute in call.proto.attribute):
        return False
    present = [entry for entry in inputs if entry is not None]
    if not present or any(entry.data is None for entry in present) or any(is_container(e.value) for e in entries):
        return False
    sizes = [math.prod(entry.shape) for entry in entries if entry.shape is not None]
    if call.proto.op_type in SIZED_BY_NUMBERS and len(sizes) < len(entries):
        return False
    return all(isinstance(size, int) and size <= FOLDING_LIMIT_ELEMENTS for size in sizes)


def _as_standard(call: Call, inputs: Sequence[Entry | None]) -> tuple[Call, Sequence[Entry | None]]:
    """The operator, and its inputs, that give a variant of it its shape; else the call itself."""
    found = runtime_shapes.STANDARD.get((call.domain, call.proto.op_type))
    if found is None:
        return call, inputs
    domain, op_type, version, count = found
    node = onnx.NodeProto(domain=domain, op_type=op_type, output=call.proto.output, attribute=call.proto.attribute)
    return replace(call, proto=node, version=version), inputs[:count]


def is_container(value: ir.Value) -> bool:
    """Whether a value is known to be a sequence, an optional or a map: something that has no shape of its own."""
    return value.type is not None and not isinstance(value.type, ir.TensorType | ir.SparseTensorType)


def _contain(entry: Entry, found: sequences.Found) -> None:
    """Note what was found out about a sequence, an optional, or a tensor taken out of one."""
    entry.items, entry.present = found.items, found.present
    data = found.data if found.element is None else found.element.data
    if data is not None:
        entry.set_data(data)


def _infer_by_own_rules(call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> dict[str, int | None]:
    """Put the shapes of our own rules in; return placeholder -> upper bound of the dimensions that they leave open."""
    facts = own_shapes.Facts(call.plain_attributes, inputs, call.version, len(values))
    rule = _OWN_RULES.get((call.domain, call.proto.op_type))
    try:
        shapes = rule(facts) if rule is not None else ()
        if not shapes and call.domain == "":
            shapes = formula_shapes.infer(call.proto.op_type, facts)
    except (ArithmeticError, LookupError, TypeError, ValueError, UndecidableError) as error:
        # A node that is not well formed, or a formula where the rule needs a number, keeps what the libraries found.
        logging.getLogger(__name__).debug("%s %s: %s", call.proto.op_type, call.proto.name, error)
        return {}
    upper: dict[str, int | None] = {}
    for value, shape in zip(values, shapes, strict=False):
        if isinstance(shape, Entry):
            value.type, value.shape = shape.value.type, shape.value.shape
        elif isinstance(shape, own_shapes.Typed):
            value.type = ir.TensorType(ir.DataType(shape.number))
            value.shape = None if shape.dims is None else ir.Shape([_library_dim(dim, upper) for dim in shape.dims])
        elif shape is not None:
            value.shape = ir.Shape([_library_dim(dim, upper) for dim in shape])
    return upper


def _library_dim(dim: int | own_shapes.Open, upper: dict[str, int | None]) -> int | ir.SymbolicDim:
    if not isinstance(dim, own_shapes.Open):
        return library_dim(dim)
    placeholder = f"{_OPEN}{id(dim)}"  # the object is the identity of the dimension
    upper[placeholder] = dim.upper
    return ir.SymbolicDim(placeholder)


def _infer_by_elements(call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> bool:
    """Give a tensor of constants the shape that its input holds; whether that is all, as it is where it holds numbers.

    Skeletons make their weights so, by the hundred.
    """
    if call.proto.op_type != "ConstantOfShape" or call.domain or inputs[0] is None or inputs[0].data is None:
        return False
    values[0].shape = library_shape(inputs[0].data.reshape(-1).tolist())
    given = [attribute.t.data_type for attribute in call.proto.attribute if attribute.name == "value"]
    values[0].dtype = ir.DataType(given[0] if given else onnx.TensorProto.FLOAT)
    return inputs[0].data.dtype != object


def _ends_the_process(node: onnx.NodeProto) -> bool:
    """Whether onnx's inference, which is native code, might hang or crash: it takes some numbers as they are.

    Einsum hangs on odd equations, Split counts up to `num_outputs`, LayerNormalization cuts `axis` to 32 bits after it
    has checked it, GatherND goes back before the first dimension.
    """
    if node.op_type == "Einsum":
        return True
    number: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    return (
        number.get("num_outputs", len(node.output)) != len(node.output)
        or abs(number.get("axis", 0)) > _LARGEST_INT32
        or number.get("batch_dims", 0) < 0
    )


def _infer_by_onnx(call: Call, inputs: Sequence[Entry | None], values: list[ir.Value]) -> None:
    """Ask `onnx.shape_inference` about the node alone."""
    schema = schema_of(call.domain, call.proto.op_type, call.version)
    if schema is None or _ends_the_process(call.proto):
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
        types[name] = onnx_type(entry)
        if entry.data is not None and entry.data.dtype != object:
            data[name] = onnx.numpy_helper.from_array(entry.data, name)
    try:
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=None)
    except Exception as error:
        # The same as for the first library: what cannot be inferred stays open and is reported as such.
        logging.getLogger(__name__).debug("%s %s: %s", call.proto.op_type, call.proto.name, error)
        return
    for index, value in enumerate(values):
        inferred = found.get(f"o{index}")
        if inferred is None or not inferred.HasField("tensor_type") or value.shape is not None or is_container(value):
            continue
        value.dtype = ir.DataType(inferred.tensor_type.elem_type)
        if inferred.tensor_type.HasField("shape"):
            dims = inferred.tensor_type.shape.dim
            value.shape = ir.Shape(
                [d.dim_value if d.HasField("dim_value") else ir.SymbolicDim(d.dim_param or None) for d in dims]
            )


def onnx_type(entry: Entry) -> onnx.TypeProto:
    """The type of a tensor as protobuf; formulas stand in it as symbolic dimensions."""
    shape = entry.shape
    dims = None if shape is None else [dim if isinstance(dim, int) else str(dim) for dim in shape]
    return onnx.helper.make_tensor_type_proto(int(entry.value.dtype or 0), dims)


@functools.lru_cache(maxsize=4096)  # names come from files
def schema_of(domain: str, op_type: str, version: int) -> onnx.defs.OpSchema | None:
    """The ONNX schema of an operator at an opset version, None for operators that onnx does not define."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
