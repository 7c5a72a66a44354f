"""Models in the forms that onnxruntime's optimisers and quantisers write: every node counted, as many MACs as exported.

The truth is a run of the file with optimisation off (types and shapes of all tensors), and a run of the export (MACs).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from numpy.typing import NDArray

from onnx_aiwq.calibration import weights
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import NodeCost, Status, count_graph
from optimised_forms import (
    BLOCKED,
    fused_layer,
    fused_layer_inputs,
    fused_layer_macs,
    make,
    operators,
    padding_macs,
    shorten,
    shrink_images,
    shrink_vocabulary,
    without_zeros,
)
from runtime import Seen, macs_from_run, run_all_tensors, take_out_weights

MODELS = Path(__file__).parents[1] / "models"
SIZES = {"batch": 1, "sequence": 7}
LAYER = "fused-layer"


@dataclass(frozen=True)
class Form:
    """How a file is made.

    Attributes:
        model: the skeleton that it starts from.
        steps: see `optimised_forms`.
        fixed: whether the optimiser fixes all sizes.
        layers: that are left of a Transformer; 0 leaves all.
        image: height and width of images; 0 leaves those of the file.
        words: of the vocabulary; 0 leaves those of the file.
    """

    model: str
    steps: tuple[str, ...]
    fixed: bool = False
    layers: int = 0
    image: int = 0
    words: int = 0

    def __str__(self) -> str:
        sizes = ((self.layers, "layers"), (self.image, "pixels"), (self.words, "words"))
        less = [f"{size}-{what}" for size, what in sizes if size]
        return "-".join((self.model, *less, *self.steps, *(["fixed"] if self.fixed else [])))


def forms(model: str, *recipes: str, **sizes: int) -> list[Form]:
    """`dynamic all!` is two steps, of which the optimiser fixes all sizes."""
    return [Form(model, tuple(recipe.rstrip("!").split()), recipe.endswith("!"), **sizes) for recipe in recipes]


OPTIMISED = ("basic", "basic!", "extended", "extended!", "all", "all!")
FORMS = [
    *forms(
        "mobilenet-v2.torchscript",
        *OPTIMISED,
        "dynamic",
        "dynamic all",
        "qdq",
        "qdq all!",
        "qoperator",
        "qoperator all",
        image=64,
    ),
    *forms("mobilenet-v2.dynamo", "all"),
    *forms(
        "resnet50.torchscript",
        *OPTIMISED,
        "dynamic",
        "qdq extended",
        "qdq all!",
        "qoperator",
        "qoperator all",
        image=64,
    ),
    *forms("resnet50.dynamo", "all!"),
    *forms("unet.dynamo", "all"),
    *forms("unet.dynamo", "extended!", "all", "qdq all", "qoperator", "qoperator all!", image=64),
    *forms("lstm.torchscript", *OPTIMISED, "dynamic", "dynamic all", "qdq all!", "four", "four-offset all"),
    *forms("lstm.dynamo", "all", "dynamic all"),
    # The twelve layers of these are alike: all of them in one form, elsewhere two. Images and vocabularies are small
    # where a form is not about their size; other tests compare the exports as they are.
    *forms("bert-base.dynamo", "all"),
    *forms("bert-base.dynamo", "basic", "extended!", "all", "fused", "dynamic", "dynamic all!", layers=2, words=512),
    *forms("bert-base.dynamo", "qdq all", "four all", layers=2, words=512),
    *forms("bert-base.torchscript", "all!", layers=2, words=512),
    *forms("gpt2.dynamo", "all", "all!", "fused", layers=2, words=512),
    *forms("vit-base.torchscript", "basic", "all", "all!", "fused", "qdq all!", "four-offset", layers=2),
    *forms("whisper-tiny.dynamo", "extended", "all!", "dynamic all", "four-offset all!", words=512),
    *forms(LAYER, "all", "dynamic", "dynamic all!", "qdq", "qdq all", "qoperator", "qoperator all", "four all"),
]


@dataclass(frozen=True)
class Export:
    """What a form is made of: the exported model with weights, and the MACs of a run of it."""

    path: Path
    feeds: Mapping[str, NDArray[Any]]
    bind: Mapping[str, int]
    macs: int


@dataclass(frozen=True, repr=False)
class Made:
    """A form as it ran, and as the package reads it."""

    form: Form
    exported_macs: int
    padding: int
    tensors: Mapping[str, Seen]
    operators: set[tuple[str, str]]
    graph: Graph
    costs: tuple[NodeCost, ...]


class Exports:
    """Exports by name, made when they are asked for; the last one alone lies on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: Form | None = None
        self._export: Export | None = None

    def get(self, form: Form) -> Export:
        wanted = replace(form, steps=(), fixed=False)
        if self._export is None or wanted != self._made:
            if self._export is not None:
                self._export.path.unlink()
            self._made, self._export = wanted, _export(wanted, self._folder / f"{form.model}.onnx")
        return self._export


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    folder = tmp_path_factory.mktemp("exports")
    yield Exports(folder)
    shutil.rmtree(folder)


def _export(form: Form, path: Path) -> Export:
    if form.model == LAYER:
        onnx.save(fused_layer(), path)
        return Export(path, fused_layer_inputs(**SIZES), SIZES, fused_layer_macs(**SIZES))
    skeleton = onnx.load(MODELS / f"{form.model}.onnx", load_external_data=False)
    if form.layers:
        shorten(skeleton, form.layers)
    if form.words:
        shrink_vocabulary(skeleton, form.words)
    if form.image:
        shrink_images(skeleton, form.image)
    path.write_bytes(skeleton.SerializeToString())
    model = weights.materialize(path)
    without_zeros(model)
    feeds = weights.example_inputs(model, SIZES)
    absent = take_out_weights(skeleton)
    macs = macs_from_run(skeleton, run_all_tensors(skeleton, {**feeds, **absent}), absent)
    onnx.save(model, path)
    dims = [dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    return Export(path, feeds, {name: size for name, size in SIZES.items() if name in dims}, macs)


@pytest.fixture(scope="module", params=FORMS, ids=str)
def made(request: pytest.FixtureRequest, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Made:
    form: Form = request.param
    export = exports.get(form)
    folder = tmp_path_factory.mktemp("form")
    path = folder / "model.onnx"
    make(export.path, path, form.steps, export.feeds, export.bind if form.fixed else {})
    model = onnx.load(path)
    tensors = run_all_tensors(model, export.feeds)
    padding, present = padding_macs(model, tensors), operators(model)
    bind = {} if form.fixed else export.bind
    del model  # hundreds of megabytes
    graph = load(path, bind=bind)
    shutil.rmtree(folder)
    return Made(form, export.macs, padding, tensors, present, graph, count_graph(graph))


pytestmark = pytest.mark.slow


def test_no_node_is_unsupported(made: Made) -> None:
    refused = {(c.operator.op_type, c.reason) for c in made.costs if c.status is Status.UNSUPPORTED}
    assert refused == set()


def test_macs_are_those_of_the_export_and_of_padding_blocks(made: Made) -> None:
    macs = sum(cost.counts.macs for cost in made.costs if cost.counts is not None)
    assert macs == made.exported_macs + made.padding
    assert made.padding == 0 or (BLOCKED, "Conv") in made.operators


def test_every_type_and_shape_equals_the_run(made: Made) -> None:
    wrong = [
        f"{operator.op_type} {operator.name}: {tensor.name} {tensor.dtype.label} {tensor.shape}, ran as {seen[:2]}"
        for operator in made.graph.operators
        for tensor in (*operator.inputs, *operator.outputs)
        if tensor is not None
        for seen in [made.tensors[tensor.name]]
        if (tensor.dtype.label, tensor.shape) != (seen.dtype, seen.shape)
    ]
    assert wrong == []


def test_nothing_is_assumed(made: Made) -> None:
    assert dict(made.graph.assumed_bindings) == {}
    assert made.graph.warnings == ()


def test_the_forms_use_the_operators_that_they_are_made_for(made: Made) -> None:
    """A form that an optimiser no longer changes would prove nothing."""
    steps = {*made.form.steps}
    families = {
        "dynamic": {
            "MatMulInteger",
            "ConvInteger",
            "DynamicQuantizeMatMul",
            "MatMulIntegerToFloat",
            "DynamicQuantizeLSTM",
        },
        "qoperator": {"QLinearConv", "QLinearMatMul"},
        "four": {"MatMulNBits"},
        "four-offset": {"MatMulNBits"},
        "qdq": {"DequantizeLinear"},
        "fused": {"SkipLayerNormalization"},
    }
    names = {name for _, name in made.operators}
    assert all(names & expected for step, expected in families.items() if step in steps)
