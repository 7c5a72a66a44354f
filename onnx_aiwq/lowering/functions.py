"""Operators that the runtime has no kernel for: their function body runs instead."""

from __future__ import annotations

from dataclasses import replace

from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering.matching import WorkingGraph
from onnx_aiwq.lowering.nodes import Node
from onnx_aiwq.vocabulary import Operator

# Operators of ai.onnx with a function body and without a kernel on the CPU provider.
WITHOUT_KERNEL = ("HardSwish", "Mish", "Swish", "GroupNormalization")


def inline_functions(work: WorkingGraph, graph: Graph) -> None:
    """Put the body of each such operator in its place; constants in it are folded."""
    if not work.has(*WITHOUT_KERNEL):
        return
    by_name = {operator.name: operator for operator in graph.operators}
    for node in work.of_type(*WITHOUT_KERNEL):
        operator = by_name.get(node.name)
        if operator is None:
            continue
        current = replace(
            operator,
            inputs=tuple(work.tensors[name] if name else None for name in node.inputs),
            outputs=tuple(work.tensors[name] if name else None for name in node.outputs),
        )
        parts = graph.expand(current)
        if not parts:
            continue
        renamed = _names(work, parts, node)
        work.remove(node)
        for position, part in enumerate(parts):
            if part.constant:
                continue
            work.add(
                part.op_type,
                part.domain,
                [renamed[tensor.name] if tensor else "" for tensor in part.inputs],
                [renamed[tensor.name] if tensor else "" for tensor in part.outputs],
                part.attributes,
                anchor=node,
                stands_for=node.stands_for,
                shift=0.4 * position / len(parts),
                name=f"{node.name}/{part.op_type}",
            )


def _names(work: WorkingGraph, parts: tuple[Operator, ...], node: Node) -> dict[str, str]:
    """Name in the body -> name in the graph, for every tensor that is no input of the node."""
    names = {name: name for name in node.inputs if name}
    for part in parts:
        for tensor in (*part.inputs, *part.outputs):
            if tensor is not None and tensor.name not in names:
                names[tensor.name] = work.fresh(f"{node.name}/{tensor.name.rpartition('/')[2]}")
                work.tensors[names[tensor.name]] = replace(tensor, name=names[tensor.name])
    result = next(tensor for tensor in reversed(parts[-1].outputs) if tensor is not None)
    names[result.name] = node.output  # the bodies in question end with the one output
    return names
