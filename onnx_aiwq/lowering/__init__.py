"""The graph as onnxruntime deploys it: what its optimiser folds, fuses and lays out, modelled.

Nothing here runs, imports or copies onnxruntime: the passes are our own, learnt from the graphs that it writes, and
tested against them. They need shapes, types, attributes and small constants, never weights.

The graphs are those of its CPU provider. For another one, passes are left out that onnxruntime has for the CPU alone;
nothing is modelled of what it has for that provider alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering.activations import convolution_activation, product_activation
from onnx_aiwq.lowering.folding import FOLDING_PASSES, product_and_sum, product_and_sum_everywhere
from onnx_aiwq.lowering.freezing import frozen
from onnx_aiwq.lowering.functions import inline_functions
from onnx_aiwq.lowering.gelu import bias_gelu, contrib_gelu, quick_gelu, standard_gelu, tanh_gelu
from onnx_aiwq.lowering.layout import blocked_layout
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.normalization import (
    contrib_layer_norm,
    simplified_layer_norm,
    skip_layer_norm,
    standard_layer_norm,
)
from onnx_aiwq.lowering.products import (
    product_and_scale,
    product_of_transposes,
    slices_to_split,
    transposes_to_products,
    transposes_to_products_as_exported,
)
from onnx_aiwq.lowering.quantised import DYNAMIC_PASSES, QUANTISED_PASSES, unique_dequantized
from onnx_aiwq.lowering.simplification import (
    SHARING_PASSES,
    SIMPLIFICATION_PASSES,
    join_reshapes,
    share_constants,
)
from onnx_aiwq.lowering.transposes import channels_last, join_over_reshape, move_transposes

Level = Literal["disabled", "basic", "extended", "all"]
Pass = Callable[[WorkingGraph], None]

_ROUNDS = 10  # the optimiser repeats its passes until nothing changes, at most so often


class Lowering(msgspec.Struct, frozen=True):
    """A graph as deployed.

    Attributes:
        graph: its operators in execution order; inputs, outputs and parameters are those of the exported graph.
        origins: deployed operator name -> the exported operators that it stands for, the one that does the main work
            first. An inserted reorder has the operator that it serves.
    """

    graph: Graph
    origins: Mapping[str, tuple[str, ...]]


RULES: tuple[Pass, ...] = (*SIMPLIFICATION_PASSES, *FOLDING_PASSES)
ONCE: tuple[Pass, ...] = (
    *SIMPLIFICATION_PASSES,
    transposes_to_products_as_exported,
    share_constants,
    *SHARING_PASSES,
    join_reshapes,
)
BASIC: tuple[Pass, ...] = (
    *RULES,
    *SHARING_PASSES,
    product_and_sum,
    join_reshapes,
    standard_gelu,
    standard_layer_norm,
    move_transposes,
)
EXTENDED: tuple[Pass, ...] = (
    *QUANTISED_PASSES,
    product_activation,
    *DYNAMIC_PASSES,
    convolution_activation,
    contrib_gelu,
    contrib_layer_norm,
    simplified_layer_norm,
    product_and_sum_everywhere,
    slices_to_split,
    transposes_to_products,
    join_over_reshape,
    product_of_transposes,
    bias_gelu,
    skip_layer_norm,
    tanh_gelu,
    quick_gelu,
    product_and_scale,
)
CPU_PROVIDER = "CPUExecutionProvider"
CPU_ALONE = frozenset({*QUANTISED_PASSES, *DYNAMIC_PASSES, product_activation, convolution_activation})
"""Of `EXTENDED`, what onnxruntime 1.31 fuses in nodes of its CPU provider, and not in those of CUDA."""


def lower(graph: Graph, *, level: Level = "all", block: int = 16, provider: str = CPU_PROVIDER) -> Lowering:
    """Rewrite a graph as the optimiser of onnxruntime does at one of its levels.

    Args:
        graph: as exported, with every dimension bound.
        level: `basic` folds constants and normalisation and removes what does nothing; `extended` fuses activations,
            normalisations and attention; `all` lays convolutions out in blocks of channels; `disabled` changes nothing.
        block: channels in a block: 16 where the processor has AVX-512, 8 otherwise.
        provider: that runs the graph; blocks of channels and some fusions are of the CPU alone.
    """
    if level == "disabled":
        return Lowering(graph, {operator.name: (operator.name,) for operator in graph.operators})
    work = WorkingGraph.of(graph)
    idle: dict[Pass, int] = {}
    _run(work, ONCE, idle)
    _repeat(work, BASIC, idle)
    unique_dequantized(work)
    inline_functions(work, graph)
    on_cpu = provider == CPU_PROVIDER
    if level in ("extended", "all"):
        _repeat(work, [each for each in EXTENDED if on_cpu or each not in CPU_ALONE], idle)
    if level == "all" and on_cpu:
        blocked_layout(work, block)
        channels_last(work)
    return Lowering(*frozen(work, graph))


def _run(work: WorkingGraph, passes: Sequence[Pass], idle: dict[Pass, int]) -> None:
    """Run passes in order; those that found nothing in this very state of the graph are left out.

    Args:
        work: the graph.
        passes: to be run.
        idle: pass -> state in which it last found nothing; grows.
    """
    for each in passes:
        before = work.state
        if idle.get(each) != before:
            each(work)
            if work.state == before:
                idle[each] = before


def _repeat(work: WorkingGraph, passes: Sequence[Pass], idle: dict[Pass, int]) -> None:
    for _ in range(_ROUNDS):
        work.changed = False
        _run(work, passes, idle)
        if not work.changed:
            return
