"""The levels of the TO paper above inference: validation (forward + loss) and training (+ backward + optimiser step).

A run of the graph, with its dimensions as they were bound, is one *instance*; a step is a mini-batch of `batch`
instances. All costs are those of one step:

    validation = batch * (forward + loss) + division of the mean
    training   = validation + backward * (batch if bp is "instance", 1 if bp is "batch") + optimiser step

`bp` = "instance" is what the mathematics does; "batch" counts the backward pass once per mini-batch, which is what
reproduces the numbers that the paper publishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx_aiwq.errors import PolicyError
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.counting import Convention, NodeCost, Status, count_operator
from onnx_aiwq.training.fake_quantisation import FakeQuantised, fake_quantised, holds_rounded_weights
from onnx_aiwq.training.gradients import (
    BackwardPass,
    NodeGradient,
    backward_pass,
    trainable,
    unfolded_operator,
)
from onnx_aiwq.training.registry import (
    BackwardRule,
    all_backward_rules,
    backward,
    find_backward_rule,
    gradient_moves,
    gradient_stops,
)
from onnx_aiwq.training.steps import (
    LOSSES,
    OPTIMIZERS,
    Loss,
    checked,
    find_loss,
    optimizer_counts,
    optimizer_operator,
)
from onnx_aiwq.vocabulary import BasicOp, Counts, Tensor

__all__ = [
    "GRANULARITIES",
    "LEVELS",
    "LOSSES",
    "OPTIMIZERS",
    "BackwardRule",
    "all_backward_rules",
    "backward",
    "find_backward_rule",
    "gradient_moves",
    "gradient_stops",
    "trainable",
    "training_assumptions",
    "training_costs",
]

LEVELS = ("validation", "training")
GRANULARITIES = ("instance", "batch")


@dataclass(frozen=True)
class _Step:
    """A checked request: what is counted per mini-batch."""

    level: str
    loss: Loss
    optimizer: str
    bp: str
    batch: int
    convention: Convention

    @property
    def backward_runs(self) -> int:
        return self.batch if self.bp == "instance" else 1

    def priced(self, counts: Counts) -> Counts:
        return counts.without(BasicOp.COMPARE) if self.convention == "paper" else counts


def training_costs(
    graph: Graph,
    costs: Sequence[NodeCost],
    *,
    level: Literal["validation", "training"],
    loss: str | None = None,
    optimizer: str = "sgd",
    bp: Literal["instance", "batch"] = "instance",
    batch: int | None = None,
    output: str | None = None,
    convention: Convention = "default",
) -> tuple[NodeCost, ...]:
    """The costs of one validation or training step: those of all nodes, of the loss and of the optimiser.

    Args:
        graph, costs: the graph, of which one run is one instance, and its forward costs of the same convention.
        level, bp, convention: see the module; `paper` leaves comparisons out.
        loss, optimizer: of `LOSSES` (None: the default that `training_assumptions` names) and `OPTIMIZERS`.
        batch, output: instances per mini-batch (1 if None); what the loss compares (the first float output if None).

    Returns:
        The costs in their order, each with its backward pass added (`repeats` counts forward and backward launches),
        then the loss, then the optimiser. Where a backward pass is unknown, the node is `unsupported`, without counts.

    Raises:
        PolicyError: if a name or number is not usable, the output does not fit the loss, or nothing can be trained.
    """
    step = _checked_step(graph, level, loss, optimizer, bp, batch, output, convention)
    if step.level == "validation":
        return (*(_repeated(cost, step.batch) for cost in costs), _loss_cost(step))
    floats = fake_quantised(graph, costs, convention)
    passed = _backward(floats, step.loss)
    if not passed.trained:
        raise PolicyError(
            f"level 'training': the output {step.loss.output.name!r} depends on no float parameter that could be "
            "trained; use --level validation, or name another output"
        )
    nodes = [_trained_node(floats, cost, passed, step) for cost in floats.costs]
    return (*nodes, _loss_cost(step), _optimizer_cost(step, passed.trained))


def training_assumptions(
    graph: Graph,
    *,
    level: Literal["validation", "training"],
    loss: str | None = None,
    optimizer: str = "sgd",
    bp: Literal["instance", "batch"] = "instance",
    batch: int | None = None,
    output: str | None = None,
) -> tuple[str, ...]:
    """What `training_costs` takes for granted with the same options, one line each, for a report's warnings.

    Raises:
        PolicyError: as `training_costs`.
    """
    step = _checked_step(graph, level, loss, optimizer, bp, batch, output, "default")
    runs = "one run of the model" if step.batch == 1 else f"{step.batch} runs of the model"
    lines = [f"level {step.level}: all totals are of one step over a mini-batch of {runs}"]
    if loss is None:
        shape = list(step.loss.output.shape or ())
        lines.append(f"no loss was given: {step.loss.name} on the output {step.loss.output.name!r} {shape}")
    elif output is None and len(graph.outputs) > 1:
        lines.append(f"the loss is taken on the output {step.loss.output.name!r}; other outputs are not trained")
    if step.level == "training":
        lines.append(
            "the model is trained as it was exported: float weights and buffers alike, batch normalisation with its "
            "stored statistics and dropout as the file has them"
        )
        if holds_rounded_weights(graph):
            lines.append(
                "weights that the file holds as integers are trained as floats that every step rounds and restores "
                "(quantisation-aware training); all products are computed in floats"
            )
        if step.bp == "batch":
            lines.append("the backward pass is counted once per mini-batch, as the TO paper's published numbers do")
    return tuple(lines)


def _checked_step(
    graph: Graph,
    level: str,
    loss: str | None,
    optimizer: str,
    bp: str,
    batch: int | None,
    output: str | None,
    convention: Convention,
) -> _Step:
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise PolicyError(f"batch {batch!r}: expected the number of instances of a mini-batch, for example 64")
    return _Step(
        level=checked("level", level, LEVELS),
        loss=find_loss(graph, loss, output),
        optimizer=checked("optimizer", optimizer, OPTIMIZERS),
        bp=checked("bp", bp, GRANULARITIES),
        batch=batch or 1,
        convention=convention,
    )


def _backward(floats: FakeQuantised, loss: Loss) -> BackwardPass:
    fused = {loss.producer.name} if loss.fuses and loss.producer is not None else set()
    return backward_pass(floats.graph, [cost.operator for cost in floats.costs], loss.output, fused=fused)


def _scaled(number: int | None, factor: int) -> int | None:
    return None if number is None else number * factor


def _repeated(cost: NodeCost, runs: int) -> NodeCost:
    """The cost of several runs."""
    return replace(
        cost,
        operator=replace(cost.operator, repeats=cost.operator.repeats * runs),
        counts=None if cost.counts is None else cost.counts * runs,
        bytes_read=_scaled(cost.bytes_read, runs),
        bytes_written=_scaled(cost.bytes_written, runs),
    )


def _trained_node(floats: FakeQuantised, cost: NodeCost, passed: BackwardPass, step: _Step) -> NodeCost:
    """Forward and backward cost of one node in one step."""
    gradient = passed.nodes.get(cost.operator.name)
    again = unfolded_operator(cost.operator, passed.unfolded)
    if again is not None and cost.status is not Status.UNSUPPORTED:
        # A weight that changes is no constant: what a runtime folds at inference, training computes in every step.
        cost = count_operator(again, floats.graph, convention=step.convention)
    if gradient is not None and cost.counts is not None:
        cost = replace(cost, counts=cost.counts + step.priced(floats.rounding.get(cost.operator.name, Counts())))
    launches = cost.operator.repeats * step.backward_runs
    total = _repeated(cost, step.batch)
    if gradient is None or total.counts is None:
        return total
    if gradient.counts is None:
        return replace(total, status=Status.UNSUPPORTED, counts=None, reason=f"training: {gradient.reason}")
    return _with_gradient(total, gradient, launches, step)


def _with_gradient(total: NodeCost, gradient: NodeGradient, launches: int, step: _Step) -> NodeCost:
    forward, backward_counts = total.counts or Counts(), gradient.counts or Counts()
    counts = forward + step.priced(backward_counts * step.backward_runs)
    read, written = (_scaled(n, step.backward_runs) for n in (gradient.bytes_read, gradient.bytes_written))
    moved = (read, written) != (0, 0)
    return replace(
        total,
        operator=replace(total.operator, repeats=total.operator.repeats + (launches if moved else 0)),
        status=Status.COUNTED if total.status is Status.MOVEMENT and counts.operations else total.status,
        counts=counts,
        bytes_read=None if total.bytes_read is None or read is None else total.bytes_read + read,
        bytes_written=None if total.bytes_written is None or written is None else total.bytes_written + written,
    )


def _loss_cost(step: _Step) -> NodeCost:
    """The loss: read the output and the target, write the scalar; for training also the gradient of the output."""
    loss, trains = step.loss, step.level == "training"
    operator = loss.operator(backward=trains)
    counts = loss.forward() * step.batch + loss.per_batch()
    read = sum(tensor.size_bytes or 0 for tensor in operator.inputs if tensor is not None)
    scalar, *gradients = (tensor.size_bytes or 0 for tensor in operator.outputs if tensor is not None)
    runs = step.batch
    total_read, total_written = read * step.batch, scalar
    if trains:
        counts += loss.backward() * step.backward_runs
        runs += step.backward_runs
        total_read += read * step.backward_runs
        total_written += sum(gradients) * step.backward_runs
    operator = replace(operator, repeats=runs)
    return NodeCost(operator, Status.COUNTED, "loss", step.priced(counts), total_read, total_written)


def _optimizer_cost(step: _Step, trained: Sequence[Tensor]) -> NodeCost:
    counts, read, written = optimizer_counts(step.optimizer, trained)
    return NodeCost(optimizer_operator(step.optimizer, trained), Status.COUNTED, "training", counts, read, written)
