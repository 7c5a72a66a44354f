"""Real architectures against a real run: MACs, types, shapes and parameters are exact, with no tolerance.

Weights that a file leaves out are zeros in the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal

from onnx_aiwq.calibration import weights
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import NodeCost, Status, count_graph
from onnx_aiwq.vocabulary import Tensor
from runtime import Seen, macs_from_run, run_all_tensors, take_out_weights

MODELS = Path(__file__).parents[1] / "models"
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
TEXT = {"batch": 2, "sequence": 7}
IMAGE = {"batch": 2}


@dataclass(frozen=True)
class Case:
    """One model file.

    Attributes:
        file: its path.
        bind: symbolic dimensions.
        parameters: the published number of parameters, None where the file's own initializers decide.
        macs: the published number of MACs for these inputs, None where none is well known.
        slow: whether it takes more than a second or a gigabyte.
    """

    file: Path
    bind: dict[str, int] = field(default_factory=dict)
    parameters: int | None = None
    macs: int | None = None
    slow: bool = False


def light(name: str, parameters: int | None = None, macs: int | None = None) -> Case:
    return Case(LIGHT / f"light_{name}.onnx", {}, parameters, macs)


# Light models keep the statistics of batch normalisation, as many values again as its scale and shift: for ResNet-50
# 53,120 above the 25,557,032 of the paper's network. Exported skeletons have them folded into the convolutions.
CASES = [
    light("bvlc_alexnet", parameters=60_965_224),
    light("densenet121"),
    light("inception_v1", parameters=6_998_552),
    light("inception_v2"),
    light("resnet50", parameters=25_557_032 + 53_120, macs=4_089_184_256),
    light("shufflenet"),
    light("squeezenet", parameters=1_235_496),
    light("vgg19", parameters=143_667_240, macs=19_632_062_464),
    light("zfnet512"),
    Case(MODELS / "bert-base.dynamic-int8.onnx", TEXT, 109_482_240, slow=True),
    Case(MODELS / "bert-base.dynamo.onnx", TEXT, 109_482_240, slow=True),
    Case(MODELS / "bert-base.torchscript.onnx", TEXT, 109_482_240, slow=True),
    Case(MODELS / "gpt2.dynamo.onnx", TEXT, 124_439_808, slow=True),
    # The TorchScript exporter writes the token embedding a second time, as output projection.
    Case(MODELS / "gpt2.torchscript.onnx", TEXT, 124_439_808 + 50_257 * 768, slow=True),
    Case(MODELS / "lstm.dynamo.onnx", IMAGE, 3_656_209),
    Case(MODELS / "lstm.torchscript.onnx", TEXT, 3_656_209),
    Case(MODELS / "mobilenet-v2.dynamo.onnx", IMAGE, macs=2 * 300_774_272),
    Case(MODELS / "mobilenet-v2.qdq-int8.onnx", {}, macs=300_774_272),
    Case(MODELS / "mobilenet-v2.torchscript.onnx", IMAGE, macs=2 * 300_774_272),
    Case(MODELS / "resnet50.dynamo.onnx", IMAGE, macs=2 * 4_089_184_256),
    Case(MODELS / "resnet50.torchscript.onnx", IMAGE, macs=2 * 4_089_184_256),
    Case(MODELS / "unet.dynamo.onnx", IMAGE, slow=True),
    Case(MODELS / "unet.torchscript.onnx", {"batch": 1}, slow=True),
    Case(MODELS / "vit-base.dynamo.onnx", IMAGE, 85_798_656, slow=True),
    Case(MODELS / "vit-base.torchscript.onnx", IMAGE, 85_798_656, slow=True),
    Case(MODELS / "whisper-tiny.dynamo.onnx", TEXT, 37_760_640, slow=True),
    Case(MODELS / "whisper-tiny.torchscript.onnx", {**TEXT, "batch": 1}, 37_760_640 + 51_865 * 384, slow=True),
]


@dataclass(frozen=True, repr=False)
class Measured:
    """A model as it ran, and as the package sees the file without weights."""

    case: Case
    nodes: int
    tensors: dict[str, Seen]
    outputs: set[str]
    macs: int
    weights: int
    graph: Graph
    costs: tuple[NodeCost, ...]


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, id=case.file.stem, marks=[pytest.mark.slow] * case.slow) for case in CASES],
)
def measured(request: pytest.FixtureRequest) -> Measured:
    case: Case = request.param
    model = onnx.load(case.file, load_external_data=False)
    feeds = weights.example_inputs(model, case.bind)
    absent = take_out_weights(model)
    tensors = run_all_tensors(model, {**feeds, **absent})
    outputs = {output for node in model.graph.node for output in node.output if output}
    macs, held = macs_from_run(model, tensors, absent), _weights(model, absent, tensors)
    graph = load(case.file, bind=case.bind)
    return Measured(case, len(model.graph.node), tensors, outputs, macs, held, graph, count_graph(graph))


def _weights(model: onnx.ModelProto, absent: Iterable[str], tensors: dict[str, Seen]) -> int:
    """Elements that the file holds as weights, or makes with ConstantOfShape in the light models.

    Scalars are settings (scale and zero point of a whole tensor, epsilon); 64-bit integers and truth values decide
    shapes.
    """
    made = (
        [node.output[0] for node in model.graph.node if node.op_type == "ConstantOfShape"] if _is_light(model) else []
    )
    names = [*absent, *(tensor.name for tensor in model.graph.initializer), *made]
    read = {name for node in model.graph.node if node.op_type != "Constant" for name in node.input}
    weights = [tensors[name] for name in names if name in read]
    return sum(math.prod(seen.shape) for seen in weights if seen.shape and seen.dtype not in ("int64", "bool"))


def _is_light(model: onnx.ModelProto) -> bool:
    """In the light models every input of ConstantOfShape is an initializer."""
    constants = {tensor.name for tensor in model.graph.initializer}
    generators = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    return all(node.input[0] in constants for node in generators)


def test_every_light_model_and_every_skeleton_is_here() -> None:
    assert {case.file for case in CASES} == {*LIGHT.glob("*.onnx"), *MODELS.glob("*.onnx")}
    assert len(list(LIGHT.glob("*.onnx"))) == 9


def test_macs_equal_the_run(measured: Measured) -> None:
    assert sum(cost.counts.macs for cost in measured.costs if cost.counts is not None) == measured.macs
    assert measured.case.macs in (None, measured.macs)
    assert measured.macs > 30_000_000


def test_every_node_is_an_operator(measured: Measured) -> None:
    assert len(measured.graph.operators) == measured.nodes
    written = {tensor.name for operator in measured.graph.operators for tensor in operator.outputs if tensor}
    assert written == measured.outputs
    assert measured.graph.dag.number_of_nodes() == measured.nodes


def test_every_type_and_shape_equals_the_run(measured: Measured) -> None:
    wrong = [
        f"{operator.op_type} {operator.name}: {tensor.name} {tensor.dtype.label} {tensor.shape}, ran as {seen[:2]}"
        for operator in measured.graph.operators
        for tensor in (*operator.inputs, *operator.outputs)
        if tensor is not None
        for seen in [measured.tensors[tensor.name]]
        if (tensor.dtype.label, tensor.shape) != (seen.dtype, seen.shape)
    ]
    assert wrong == []


def test_inputs_and_outputs_equal_the_run(measured: Measured) -> None:
    ends: list[Tensor] = [*measured.graph.inputs, *measured.graph.outputs]
    assert len(measured.graph.inputs) > 0 and len(measured.graph.outputs) > 0
    assert [(end.dtype.label, end.shape) for end in ends] == [measured.tensors[end.name][:2] for end in ends]


def test_known_elements_equal_the_run(measured: Measured) -> None:
    compared = 0
    for operator in measured.graph.operators:
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor is not None and tensor.value is not None:
                elements = measured.tensors[tensor.name].elements
                assert elements is not None, tensor.name
                if elements.dtype.kind == "f":
                    np.testing.assert_allclose(tensor.value, elements, rtol=1e-5, err_msg=tensor.name)
                else:
                    assert_array_equal(tensor.value, elements, err_msg=tensor.name)
                compared += 1
    assert compared > 0


def test_no_node_is_unsupported(measured: Measured) -> None:
    assert [
        f"{cost.operator.op_type}: {cost.reason}" for cost in measured.costs if cost.status is Status.UNSUPPORTED
    ] == []


def test_nothing_is_assumed(measured: Measured) -> None:
    assert dict(measured.graph.assumed_bindings) == {}
    assert measured.graph.warnings == ()


def test_parameters(measured: Measured) -> None:
    counted = sum(math.prod(tensor.shape or ()) for tensor in measured.graph.parameters)
    assert counted == measured.weights
    assert measured.case.parameters in (None, measured.weights)
