"""What runs in a life cycle: a number of FLOPs, or an ONNX model that is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from onnx_aiwq.costs import node_costs
from onnx_aiwq.errors import PolicyError
from onnx_aiwq.graph import Graph, load
from onnx_aiwq.operations.counting import NodeCost, Status
from onnx_aiwq.vocabulary import Counts

if TYPE_CHECKING:
    from onnx_aiwq.lifecycle.document import Model

FLOP_DEFINITIONS = {
    "basic_operations": "a FLOP is any basic operation: add, sub, mul, div, root, compare",
    "macs": "two FLOPs per multiply-accumulate of dense products, nothing else",
}


@dataclass(frozen=True)
class Network:
    """A model in a life cycle.

    Attributes:
        name: in words.
        flops_per_sample: M, FLOPs of a forward pass of one sample.
        definition: what a FLOP is.
        costs: of one run of an ONNX model; None for a number.
        graph: that the costs are of.
        samples_per_run: samples that one run processes.
        values_per_sample: elements of its inputs; None where unknown.
        bits_per_value: of its inputs; None where unknown or of several widths.
        warnings: what is assumed of it.
    """

    name: str
    flops_per_sample: float
    definition: str
    costs: Sequence[NodeCost] | None = None
    graph: Graph | None = None
    samples_per_run: int = 1
    values_per_sample: int | None = None
    bits_per_value: int | None = None
    warnings: tuple[str, ...] = ()


def network_of(model: Model, folder: Path | None = None) -> Network:
    """The network of a ``[model]`` table; a file is relative to `folder`.

    Raises:
        AiwqError: if the file is no model that can be counted.
    """
    if model.forward_flops is not None:
        name = f"{model.forward_flops:g} FLOPs per forward pass"
        return Network(name, model.forward_flops, "as the number was made")
    path = Path(model.file or "")
    graph = load(path if path.is_absolute() or folder is None else folder / path, bind=model.bind)
    costs = node_costs(graph)
    network = counted_network(graph, costs, flops=model.flops, samples_per_run=model.samples_per_run)
    return replace(network, warnings=_gaps(graph, costs))


def counted_network(
    graph: Graph, costs: Sequence[NodeCost], *, flops: str = "basic_operations", samples_per_run: int = 1
) -> Network:
    """The network of an ONNX model that was counted.

    Args:
        graph: the model.
        costs: of one run.
        flops: a key of `FLOP_DEFINITIONS`.
        samples_per_run: samples that one run processes; the elements of the inputs are divided by it.
    """
    total = Counts()
    for cost in costs:
        total = total + (cost.counts or Counts())
    number = 2 * total.macs if flops == "macs" else sum(total.basic_operations().values())
    values, bits = _input_size(graph, samples_per_run)
    return Network(
        name="model in memory" if graph.model.path is None else PurePath(graph.model.path).name,
        flops_per_sample=number / samples_per_run,
        definition=FLOP_DEFINITIONS[flops],
        costs=costs,
        graph=graph,
        samples_per_run=samples_per_run,
        values_per_sample=values,
        bits_per_value=bits,
    )


def _gaps(graph: Graph, costs: Sequence[NodeCost]) -> tuple[str, ...]:
    """What is assumed of a counted model, one line each."""
    lines = [
        f"{name} is not bound and taken as {value}; bind it with [model] bind"
        for name, value in graph.assumed_bindings.items()
    ]
    unsupported = sorted({cost.operator.op_type for cost in costs if cost.status is Status.UNSUPPORTED})
    if unsupported:
        lines.append(f"operators without a count are in no total: {', '.join(unsupported)}")
    return tuple(lines)


def _input_size(graph: Graph, samples_per_run: int) -> tuple[int | None, int | None]:
    """Values per sample and bits per value of the inputs; None where a shape is unknown or widths differ."""
    values = 0
    for tensor in graph.inputs:
        if tensor.size is None:
            return None, None
        values += tensor.size
    widths = {tensor.dtype.bits for tensor in graph.inputs}
    whole = values and values % samples_per_run == 0
    return (values // samples_per_run if whole else None), (widths.pop() if len(widths) == 1 else None)


def sample_size(values: int | None, bits: int | None, network: Network) -> tuple[int, int]:
    """Values per sample and bits per value, given or of the network's inputs.

    Raises:
        PolicyError: if neither says.
    """
    found: Mapping[str, int | None] = {
        "values_per_sample": values if values is not None else network.values_per_sample,
        "bits_per_value": bits if bits is not None else network.bits_per_value,
    }
    for key, number in found.items():
        if not number:
            raise PolicyError(f"[data] {key}: missing; {network.name} does not tell it, so the file has to")
    return found["values_per_sample"] or 0, found["bits_per_value"] or 0
