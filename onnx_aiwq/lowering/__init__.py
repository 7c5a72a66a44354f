"""The graph as onnxruntime deploys it on its CPU provider: what its optimiser folds, fuses and lays out, modelled.

Nothing here runs, imports or copies onnxruntime: the passes are our own, learnt from the graphs that it writes, and
tested against them. They need shapes, types, attributes and small constants, never weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering.activations import ACTIVATION_PASSES
from onnx_aiwq.lowering.folding import FOLDING_PASSES
from onnx_aiwq.lowering.layout import blocked_layout
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.simplification import SIMPLIFICATION_PASSES, fold_constants

Level = Literal["disabled", "basic", "extended", "all"]
Pass = Callable[[WorkingGraph], None]

_ROUNDS = 10  # the optimiser repeats its passes until nothing changes, at most so often


@dataclass(frozen=True)
class Lowering:
    """A graph as deployed.

    Attributes:
        graph: its operators in execution order; inputs, outputs and parameters are those of the exported graph.
        origins: deployed operator name -> the exported operators that it stands for, the one that does the main work
            first. An inserted reorder has the operator that it serves.
    """

    graph: Graph
    origins: Mapping[str, tuple[str, ...]]


BASIC: tuple[Pass, ...] = (*SIMPLIFICATION_PASSES, *FOLDING_PASSES)
EXTENDED: tuple[Pass, ...] = (*ACTIVATION_PASSES,)


def lower(graph: Graph, *, level: Level = "all", block: int = 16) -> Lowering:
    """Rewrite a graph as the optimiser of onnxruntime does at one of its levels.

    Args:
        graph: as exported, with every dimension bound.
        level: `basic` folds constants and normalisation and removes what does nothing; `extended` fuses activations,
            normalisations and attention; `all` lays convolutions out in blocks of channels; `disabled` changes nothing.
        block: channels in a block: 16 where the processor has AVX-512, 8 otherwise.
    """
    if level == "disabled":
        return Lowering(graph, {operator.name: (operator.name,) for operator in graph.operators})
    work = WorkingGraph.of(graph)
    fold_constants(work)
    _repeat(work, BASIC)
    if level in ("extended", "all"):
        _repeat(work, EXTENDED)
    if level == "all":
        blocked_layout(work, block)
    return Lowering(*work.frozen(graph))


def _repeat(work: WorkingGraph, passes: Sequence[Pass]) -> None:
    for _ in range(_ROUNDS):
        work.changed = False
        for each in passes:
            each(work)
        if not work.changed:
            return
