"""The networks for validation: all listed, exactly counted, of published size, and healthy with random weights."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_aiwq.calibration import weights
from onnx_aiwq.graph import load
from onnx_aiwq.operations.counting import Status, count_graph
from runtime import macs_from_run, run_all_nodes, seen_of

MODELS = Path(__file__).parents[1] / "models"
sys.path.append(str(MODELS))  # the files there import one another as scripts do; last, since `build` is a package too
sets: Any = importlib.import_module("sets")

FLOAT = [network for network in sets.networks() if network.form is None and network.file.parent != MODELS]
SHORT = {"sequence": 16}  # text is as well counted on less of it
MASKED = 1e38
SMALLEST_NORMAL = np.finfo(np.float32).tiny

# Parameters and MACs for one image, None where the publication gives none for this input. From the tables of
# torchvision's model documentation (exact numbers), else from the paper, to its digits.
PUBLISHED: dict[str, tuple[float, float | None]] = {
    "convnext-tiny": (28_589_128, 4.456e9),
    "efficientnet-b0": (5_288_548, 0.386e9),
    "mobilenet-v3-large": (5_483_032, 0.217e9),
    "regnet-y-400mf": (4_344_144, 0.402e9),
    "resnet18": (11_689_512, 1.814e9),
    "resnet34": (21_797_672, 3.664e9),
    "resnext50": (25_028_904, 4.23e9),
    "swin-tiny": (28_288_354, 4.491e9),
    "vgg11": (132_863_336, 7.609e9),
    "deit-small": (22e6, 4.6e9),
    "mixer-s16": (18.5e6, 3.78e9),
    "mobilenet-v1": (4.2e6, 0.569e9),
    "mobilevit-small": (5.6e6, 2.0e9),
    "poolformer-s12": (11.9e6, 1.8e9),
    "se-resnet50": (28.1e6, None),  # its MACs are given for the older ResNet-50, which strides in 1x1 convolutions
    "albert-base": (11.7e6, None),
    "bert-mini": (11.2e6, None),
    "bert-small": (28.8e6, None),
    "distilbert": (66.4e6, None),
    "distilgpt2": (81.9e6, None),
    "t5-small": (60.5e6, None),
    "yolo-small": (7.2e6, 16.5e9 / 2 / 4),  # FLOPs at 640 x 640
}


def test_every_file_is_listed_in_one_set() -> None:
    found = {path for name in sets.SETS for path in (MODELS / name).glob("*.onnx")}
    assert {network.file for network in FLOAT} == found
    names = [network.name for network in sets.networks()]
    assert len(names) == len(set(names))
    assert all(network.file.exists() for network in sets.networks())
    held_out, development = ({network.file.stem for network in sets.networks(name)} for name in sets.SETS)
    assert not held_out & development
    assert len(held_out) >= 14 and len(development) >= 10
    assert set(PUBLISHED) <= {network.name for network in FLOAT}
    with pytest.raises(ValueError, match="final"):
        sets.networks("final")


@pytest.mark.slow
@pytest.mark.parametrize("network", FLOAT, ids=lambda network: network.name)
def test_counts_equal_the_run_and_activations_are_healthy(network: Any) -> None:
    model = network.model()
    bindings = {name: SHORT.get(name, size) for name, size in network.bindings.items()}
    feeds = weights.example_inputs(model, bindings)
    results = run_all_nodes(model, feeds)
    macs = macs_from_run(model, seen_of(model, feeds, results))
    graph = load(network.file, bind=bindings)
    costs = count_graph(graph)
    assert [cost.reason for cost in costs if cost.status is Status.UNSUPPORTED] == []
    assert sum(cost.counts.macs for cost in costs if cost.counts is not None) == macs
    assert dict(graph.assumed_bindings) == {}

    assert [output.name for output in model.graph.output if not np.isfinite(results[output.name]).all()] == []
    floats = {name: np.abs(array) for name, array in results.items() if array.dtype == np.float32}
    assert [name for name, size in floats.items() if np.isnan(size).any()] == []
    # What a mask hides is minus infinity or the lowest number. Subnormal numbers slow arithmetic; Swin's own mask of
    # -100 makes some.
    finite = [size[size < MASKED] for size in floats.values()]
    assert max(size.max(initial=0) for size in finite if size.size) < 1e6
    subnormal = sum(int(((size > 0) & (size < SMALLEST_NORMAL)).sum()) for size in finite)
    assert subnormal <= (0.01 if network.name == "swin-tiny" else 1e-6) * sum(size.size for size in finite)

    if network.name in PUBLISHED:
        parameters, published_macs = PUBLISHED[network.name]
        held = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == 1)
        assert held == pytest.approx(parameters, rel=0.02)
        if published_macs is not None:
            assert macs == pytest.approx(published_macs, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("bert-mini.dynamic", "MatMulInteger"),
        ("mobilenet-v1.qdq", "DequantizeLinear"),
        ("mobilenet-v1.qoperator", "QLinearConv"),
        ("perceptron.qoperator", "QGemm"),
    ],
)
def test_int8_forms_run_and_have_the_products_of_the_float_model(name: str, operator: str, tmp_path: Path) -> None:
    network = next(network for network in sets.networks() if network.name == name)
    model, feeds = network.model(), network.inputs()
    assert operator in {node.op_type for node in model.graph.node}
    results = run_all_nodes(model, feeds)
    assert all(np.isfinite(results[output.name]).all() for output in model.graph.output)
    onnx.save(model, tmp_path / "int8.onnx")
    costs = count_graph(load(tmp_path / "int8.onnx"))
    assert [cost.reason for cost in costs if cost.status is Status.UNSUPPORTED] == []
    float_costs = count_graph(load(network.file, bind=network.bindings))
    macs, float_macs = (sum(cost.counts.macs for cost in all_ if cost.counts) for all_ in (costs, float_costs))
    assert macs == float_macs > 0


def test_an_unknown_form_is_refused() -> None:
    quantise = importlib.import_module("quantise")
    with pytest.raises(ValueError, match="'int4': expected one of qdq, qoperator, dynamic"):
        quantise.quantised(MODELS / "development" / "perceptron.onnx", "int4", {})


def test_weights_of_products_are_scaled_by_the_terms_of_their_sums(tmp_path: Path) -> None:
    shapes = {"kernel": (64, 32, 3, 3), "turned": (200, 400), "plain": (400, 300), "table": (500, 64), "shift": (4000,)}
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["maps"]),
        helper.make_node("Transpose", ["turned"], ["upright"], perm=[1, 0]),
        helper.make_node("MatMul", ["rows", "upright"], ["narrow"]),
        helper.make_node("MatMul", ["rows", "plain"], ["wide"]),
        helper.make_node("Gather", ["table", "ids"], ["found"]),
        helper.make_node("Add", ["vector", "shift"], ["sum"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [])
    for name, shape in shapes.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="absent")
        graph.initializer.append(tensor)
    path = tmp_path / "skeleton.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    made = {t.name: numpy_helper.to_array(t) for t in weights.materialize(path).graph.initializer}
    assert {name: array.shape for name, array in made.items()} == shapes
    expected = {
        "kernel": (2 / (32 * 9)) ** 0.5,
        "turned": (1 / 400) ** 0.5,
        "plain": (1 / 400) ** 0.5,
        "table": 1.0,
        "shift": 0.02,
    }
    assert {name: float(array.std()) for name, array in made.items()} == pytest.approx(expected, rel=0.05)
