"""The conformance corpus of ONNX as cases to analyse: models, feeds and the outputs that they must produce.

`onnx.backend.test.case` generates some 1,900 models of one operator in-process, each with its expected outputs; the
onnx wheel ships another 150 (data sets of PyTorch operators, simple models, nine networks). Everything that a file
merely declares about its outputs is taken away before it is analysed, so that no shape can come from the declaration.

`python tests/corpus.py` prints the state; `python tests/corpus.py --update` writes `tests/data/operator_status.json`.
"""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from onnx_aiwq.costs import node_costs
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import NodeCost
from onnx_aiwq.vocabulary import DType, Tensor

SNAPSHOT = Path(__file__).parent / "data" / "operator_status.json"
_SHIPPED = ("simple", "pytorch-converted", "pytorch-operator")
_SMALL = 64  # elements of an input that may decide shapes
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_SCALES = {"Resize": (2,), "Upsample": (1,)}  # operator -> position of the inputs that scale its shape


@dataclass(frozen=True)
class Case:
    """One model of the corpus.

    Attributes:
        name: unique in the corpus.
        model: as the corpus has it.
        feeds: value of each run-time input: array, list of arrays, or None.
        expected: value of each graph output; empty where the corpus gives none.
    """

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Any]
    expected: Mapping[str, Any]

    @property
    def operators(self) -> frozenset[str]:
        """Names of all operators, those in subgraphs and functions included."""
        return frozenset(node.op_type for node in every_node(self.model))


@dataclass(frozen=True)
class Analysis:
    """A case, its graph and the cost of every node."""

    case: Case
    graph: Graph
    costs: tuple[NodeCost, ...] = field(repr=False)


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every model of the corpus, in a fixed order."""
    found = [*_generated(), *_shipped(), *_networks()]
    return tuple(sorted(found, key=lambda case: case.name))


def _generated() -> Iterator[Case]:
    from onnx.backend.test.case.model import collect_testcases as collect_models
    from onnx.backend.test.case.node import collect_testcases as collect_nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        items = [*collect_nodes(None), *collect_models()]
    for item in items:
        if item.model is not None:
            inputs, outputs = item.data_sets[0]
            yield _case(f"{item.kind}/{item.name}", item.model, inputs, outputs)


def _shipped() -> Iterator[Case]:
    for kind in _SHIPPED:
        for folder in sorted((_data_folder() / kind).iterdir()):
            if (folder / "model.onnx").exists():
                model = onnx.load(folder / "model.onnx")
                data = folder / "test_data_set_0"
                inputs = [_stored(data / f"input_{i}.pb", value) for i, value in enumerate(_inputs(model))]
                outputs = [_stored(data / f"output_{i}.pb", value) for i, value in enumerate(model.graph.output)]
                yield _case(f"{kind}-shipped/{folder.name}", model, inputs, outputs)


def _networks() -> Iterator[Case]:
    """Nine networks whose weights are made by ConstantOfShape; too large to run here, their output is shipped."""
    for file in sorted((_data_folder() / "light").glob("*.onnx")):
        model = onnx.load(file)
        output = _stored(file.with_name(f"{file.stem}_output_0.pb"), model.graph.output[0])
        yield Case(f"light/{file.stem}", model, {}, {model.graph.output[0].name: output})


def _data_folder() -> Path:
    return Path(onnx.__file__).parent / "backend" / "test" / "data"


def _stored(file: Path, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(file.read_bytes()))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(file.read_bytes()))
    return onnx.TensorProto.FromString(file.read_bytes())


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    initializers = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initializers]


def _case(name: str, model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any]) -> Case:
    # Only the first inputs have data: what follows has a default.
    feeds = {value.name: _array(data) for value, data in zip(_inputs(model), inputs, strict=False)}
    expected = {value.name: data for value, data in zip(model.graph.output, outputs, strict=True)}
    return Case(name, model, feeds, expected)


def _array(data: Any) -> Any:
    if isinstance(data, onnx.TensorProto):
        return numpy_helper.to_array(data)
    if isinstance(data, list):
        return [_array(item) for item in data]
    return np.asarray(data) if isinstance(data, np.generic) else data


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those in subgraphs and functions included."""
    pending = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while pending:
        node = pending.pop()
        yield node
        for graph in _subgraphs(node):
            pending.extend(graph.node)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):  # merely to touch an absent one would make it present
            yield attribute.g
        yield from attribute.graphs


def undeclared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without anything that it declares about tensors that nodes compute, subgraphs included."""
    bare = onnx.ModelProto.FromString(model.SerializeToString())
    for graph in [bare.graph, *(graph for node in every_node(bare) for graph in _subgraphs(node))]:
        del graph.value_info[:]
        for value in graph.output:
            value.ClearField("type")
    return bare


def deciding_values(case: Case) -> dict[str, Any]:
    """Inputs whose elements may decide shapes: single numbers, small vectors of integers, and scales of Resize."""
    scales = {
        node.input[position]
        for node in case.model.graph.node
        for position in _SCALES.get(node.op_type, ())
        if position < len(node.input)
    }
    values = {}
    for value in _inputs(case.model):
        feed = case.feeds.get(value.name)
        if isinstance(feed, np.ndarray) and feed.size <= _SMALL and feed.ndim < 2:
            number = value.type.tensor_type.elem_type
            is_number = feed.size == 1 and number != onnx.TensorProto.STRING
            if is_number or number in _INTEGERS or value.name in scales:
                values[value.name] = feed
    return values


def analyse(case: Case, *, bind: Mapping[str, int] | None = None) -> Analysis:
    """Analyse a case without its declarations."""
    graph = load(undeclared(case.model), values=deciding_values(case), shapes=_open_shapes(case), bind=bind)
    return Analysis(case, graph, node_costs(graph))


def _open_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensor inputs that the file leaves open."""
    shapes = {}
    for value in _inputs(case.model):
        feed = case.feeds.get(value.name)
        if value.type.HasField("tensor_type") and isinstance(feed, np.ndarray):
            dims = value.type.tensor_type.shape.dim
            if not value.type.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
                shapes[value.name] = feed.shape
    return shapes


def kind_of(data: Any) -> tuple[DType, tuple[int, ...] | None]:
    """Type and shape of a value as the analysis would state them; a sequence has the type of its elements."""
    if isinstance(data, onnx.TensorProto):
        return DType.from_onnx(data.data_type), tuple(data.dims)
    if isinstance(data, list | tuple):
        return (kind_of(data[0])[0] if data else DType.UNDEFINED), None
    if data is None:
        return DType.UNDEFINED, None
    array = np.asarray(data)
    number = onnx.TensorProto.STRING if array.dtype.kind in "OUST" else helper.np_dtype_to_tensor_dtype(array.dtype)
    return DType.from_onnx(number), array.shape


def tensors_of(graph: Graph) -> dict[str, Tensor]:
    """Every tensor that an operator of the graph reads or writes, by name."""
    tensors = {tensor.name: tensor for tensor in (*graph.inputs, *graph.outputs)}
    for operator in graph.operators:
        tensors.update((tensor.name, tensor) for tensor in (*operator.inputs, *operator.outputs) if tensor)
    return tensors


def run_every_tensor(case: Case) -> Iterator[dict[str, Any]]:
    """Values of every tensor of the main graph: by onnx's reference evaluator, then by onnxruntime, where they can."""
    names = [output for node in case.model.graph.node for output in node.output if output]
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for run in (_by_reference, _by_onnxruntime):
        results = run(model, dict(case.feeds))
        if results is not None:
            yield dict(zip(names, results, strict=True))


def _by_reference(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results: list[Any] = ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        # It raises anything for what it does not implement; the next runner is asked then.
        return None
    return results


def _by_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results: list[Any] = session.run(None, feeds)
    except Exception:
        # The same: its exceptions have no common base.
        return None
    return results


def with_open_dimensions(case: Case) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The undeclared model with a symbol for every dimension of its inputs, and the value of each symbol."""
    model, sizes = undeclared(case.model), {}
    known = deciding_values(case)
    for value in _inputs(model):
        feed = case.feeds.get(value.name)
        if value.type.HasField("tensor_type") and isinstance(feed, np.ndarray) and value.name not in known:
            dims = value.type.tensor_type.shape.dim
            del dims[:]
            for axis, size in enumerate(feed.shape):
                if size:
                    dims.add(dim_param=f"{value.name}.{axis}")
                    sizes[f"{value.name}.{axis}"] = size
                else:
                    dims.add(dim_value=0)  # a symbol stands for one at least
    return model, sizes


def snapshot(analyses: Sequence[Analysis]) -> dict[str, dict[str, int]]:
    """Operator and its version -> status -> number of cases in which a node has it."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for analysis in analyses:
        for cost in analysis.costs:
            seen[_versioned(cost)][cost.status.value].add(analysis.case.name)
    return {
        operator: {status: len(names) for status, names in sorted(statuses.items())}
        for operator, statuses in sorted(seen.items())
    }


def _versioned(cost: NodeCost) -> str:
    operator = cost.operator
    try:
        since = defs.get_schema(operator.op_type, operator.version, operator.domain).since_version
    except defs.SchemaError:
        since = operator.version
    return f"{operator.domain or 'ai.onnx'}.{operator.op_type}-{since}"


def main() -> None:
    """Print the state of the corpus, or write the snapshot."""
    found = snapshot([analyse(case) for case in cases()])
    if "--update" in sys.argv[1:]:
        SNAPSHOT.parent.mkdir(exist_ok=True)
        text = json.dumps({"onnx": onnx.__version__, "operators": found}, indent=1)
        SNAPSHOT.write_text(text + "\n", encoding="utf-8")
    nodes: dict[str, int] = defaultdict(int)
    for statuses in found.values():
        for status, number in statuses.items():
            nodes[status] += number
    print(f"{len(cases())} cases, {len(found)} operators by version, operators x cases by status: {dict(nodes)}")


if __name__ == "__main__":
    main()
