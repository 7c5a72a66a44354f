"""Networks to validate with: files, the sizes of their free dimensions, and weights and inputs that make them run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_aiwq.calibration.weights import example_inputs, materialize
from onnx_aiwq.errors import ModelError, ShapeError, suggestion
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.loading import read_skeleton

_MOST_BYTES = 1_900_000_000  # a protobuf message ends at 2 GiB
_UNFED = frozenset({onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING})


@dataclass(frozen=True)
class Candidate:
    """A network to validate with.

    Attributes:
        name: what it is called in the result.
        path: of its file.
        bindings: sizes of its free dimensions; one that is not here is taken as 1.
        inputs_of: file whose inputs it takes; of a quantised model the original, which shows what is an index.
    """

    name: str
    path: Path
    bindings: Mapping[str, int]
    inputs_of: Path | None = None


@dataclass(frozen=True)
class Runnable:
    """A network that onnxruntime can run.

    Attributes:
        graph: as exported, read without weights, at the shapes of its feeds.
        model: with weights, its inputs at fixed shapes.
        feeds: one array per run-time input.
        assumed_bindings: dimensions that nobody bound, and the size taken.
        random_weights: whether weights that the file refers to were not there, and random ones took their place.
    """

    graph: Graph
    model: onnx.ModelProto
    feeds: Mapping[str, NDArray[Any]]
    assumed_bindings: Mapping[str, int]
    random_weights: bool


def light_models() -> list[Candidate]:
    """The nine networks that the onnx package brings with it: what validation takes where no model is named."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    paths = sorted(folder.glob("*.onnx"))
    if not paths:
        raise ModelError(f"{folder}: the onnx package has no models here; name models to validate with")
    return [Candidate(path.stem, path, {}) for path in paths]


def candidates_of(paths: Sequence[Path], bind: Mapping[str, int]) -> tuple[list[Candidate], list[str]]:
    """Networks of files, each with those bindings that it has a dimension for, and what was assumed of them.

    Raises:
        ModelError: if a file is no model.
        ShapeError: if no model has a dimension that was bound.
    """
    candidates, warnings = [], []
    names = _names(paths)
    known: set[str] = set()
    for path in paths:
        graph = load(path)
        wanted = {name: size for name, size in bind.items() if name in graph.assumed_bindings}
        known |= set(graph.assumed_bindings)
        if wanted:
            graph = load(path, bind=wanted)
        if graph.assumed_bindings:
            listed = ", ".join(f"{name}={size}" for name, size in graph.assumed_bindings.items())
            warnings.append(f"{path}: dimensions that nobody bound are taken as {listed}; bind them with --bind NAME=N")
        candidates.append(Candidate(names[path], path, wanted))
    for name in bind:
        if name not in known:
            near = suggestion(name, known)
            raise ShapeError(f"--bind {name}: none of the {len(paths)} models has it;{near or ' leave it out'}")
    return candidates, warnings


def _names(paths: Iterable[Path]) -> dict[Path, str]:
    """File names without their ending; with as many folders before them as tell files of one name apart."""
    parts = {path: (*path.parent.parts, path.stem) for path in dict.fromkeys(paths)}
    names: dict[Path, str] = {}
    for path, own in parts.items():
        length = 1
        while length < len(own) and any(
            other[-length:] == own[-length:] for each, other in parts.items() if each != path
        ):
            length += 1
        names[path] = str(PurePath(*own[-length:]))
    return names


def prepare(candidate: Candidate) -> Runnable:
    """Read a network, give it weights where its own are not there, and inputs.

    Weights beside the file are read; if one of them is absent, all that lie outside the file are random.

    Raises:
        ModelError: if the file is no model, is too large for onnxruntime with its weights, or has an input that is no
            tensor of numbers.
        ShapeError: if a dimension of an input is unknown.
    """
    path = candidate.path
    read_skeleton(path)  # says in one line what is wrong with a file that is no model
    random_weights = not _has_weights(onnx.load(path, load_external_data=False), path.parent)
    model = materialize(path) if random_weights else onnx.load(path)
    size = _size_bytes(model)
    if size > _MOST_BYTES:
        raise ModelError(f"{path}: {size:,} bytes with its weights; onnxruntime takes 2 GiB inline")
    shown = model if candidate.inputs_of is None else onnx.load(candidate.inputs_of, load_external_data=False)
    free = _name_dimensions(shown, path)
    assumed = {name: 1 for name in free if name not in candidate.bindings}
    feeds = example_inputs(shown, {**candidate.bindings, **assumed})
    fix_inputs(model, feeds)
    graph = load(path, shapes={name: array.shape for name, array in feeds.items()})
    return Runnable(graph, model, feeds, {**assumed, **graph.assumed_bindings}, random_weights)


def _has_weights(skeleton: onnx.ModelProto, folder: Path) -> bool:
    for tensor in _external_tensors(skeleton.graph):
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if not location or PurePath(location).is_absolute() or ".." in PurePath(location).parts:
            return False
        if not (folder / location).is_file():
            return False
    return True


def _external_tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += _external_tensors(attribute.g)
            elif (
                attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_location == onnx.TensorProto.EXTERNAL
            ):
                found.append(attribute.t)
    return found


def _size_bytes(model: onnx.ModelProto) -> float:
    try:
        return int(model.ByteSize())
    except Exception:  # protobuf's own classes derive from Exception alone; it cannot count beyond 2 GiB
        return math.inf


def _name_dimensions(model: onnx.ModelProto, path: Path) -> list[str]:
    """Names of free dimensions of inputs; those without one get, in place, that which `onnx_aiwq.graph` gives them."""
    free: dict[str, None] = {}
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in initializers:
            continue
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") != "tensor_type" or kind.elem_type in _UNFED:
            raise ModelError(f"{path}: input {value.name!r} is no tensor of numbers, and validation can feed no other")
        if not kind.HasField("shape"):
            raise ShapeError(f"{path}: input {value.name!r} has no shape; export the model with one")
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value"):
                continue
            dim.dim_param = dim.dim_param or f"{value.name}_dim{axis}"
            free[dim.dim_param] = None
    return list(free)


def fix_inputs(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> None:
    """Give the inputs of a model the shapes of what it is fed, in place: optimisers ask for fixed ones."""
    for value in model.graph.input:
        if value.name in feeds:
            del value.type.tensor_type.shape.dim[:]
            for size in feeds[value.name].shape:
                value.type.tensor_type.shape.dim.add().dim_value = size
