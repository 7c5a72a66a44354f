"""The graph as deployed: what onnxruntime's optimiser writes of a model, or the static model of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from onnx_aiwq.calibration.running import Level
from onnx_aiwq.errors import AiwqError, MeterError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.lowering import lower

_INLINE_BYTES = 1_500_000_000  # weights above this go to a file beside the one that the optimiser writes
_EXTERNAL_FILE = "session.optimized_model_external_initializers_file_name"


def deployed_graph(
    path: Path,
    *,
    bind: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    level: Level = "all",
    provider: str = "CPUExecutionProvider",
) -> tuple[Graph, str]:
    """The operators that run, and where they come from, in words.

    onnxruntime writes the graph where it is installed and the weights are at hand, since it folds them; else the graph
    is lowered statically (`onnx_aiwq.lowering`), and the reason is part of the words.

    Args:
        path: of the model.
        bind: sizes of symbolic dimensions; those left out are taken as 1.
        shapes: of inputs.
        level: of graph optimisation.
        provider: that runs the graph.

    Raises:
        AiwqError: if the model cannot be read.
    """
    exported = load(path, bind=bind, shapes=shapes)
    missing = absent_weights(path)
    try:
        if missing:
            raise MeterError(f"its weights are not here ({missing})")
        return _written(path, exported, level, provider), f"as onnxruntime's optimiser writes it (level {level})"
    except ImportError:
        reason = "onnxruntime is not installed"
    except AiwqError as error:
        reason = str(error)
    lowered = replace(lower(exported, level=level, provider=provider).graph, deployed=True)
    return lowered, f"modelled without a runtime (level {level}): {reason}"


def absent_weights(path: Path) -> str:
    """The first file of external weights that is not there; "" where all are."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            if not location or not (path.parent / location).is_file():
                return location or tensor.name
    return ""


def _written(path: Path, exported: Graph, level: Level, provider: str) -> Graph:
    from onnx_aiwq.calibration.running import Runtime, open_session

    sizes = {**exported.bindings, **exported.assumed_bindings}
    weights = sum(tensor.size_bytes or 0 for tensor in exported.parameters)
    settings = {_EXTERNAL_FILE: "deployed.weights"} if weights > _INLINE_BYTES else {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "deployed.onnx"
        open_session(path, Runtime(provider, level=level), optimized=target, sizes=sizes, settings=settings)
        shapes = {tensor.name: tensor.shape for tensor in exported.inputs if tensor.shape is not None}
        graph = load(target, shapes={name: shape for name, shape in shapes.items() if shape})
    return replace(graph, model=replace(graph.model, path=path, size_bytes=exported.model.size_bytes), deployed=True)
