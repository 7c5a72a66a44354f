"""The parts of a training step that are no operators of the model: the loss and the optimiser.

Counts are those of table 1.2 of the TO convention of this project; the paper names both and gives formulas for neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx_aiwq.errors import PolicyError, suggestion
from onnx_aiwq.graph import Graph
from onnx_aiwq.operations.arithmetic import axis_index, softmax_line
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

DOMAIN = "onnx_aiwq.training"
LossName = Literal["mse", "cross-entropy", "bce"]
_OPERATORS: Mapping[str, str] = {
    "mse": "MeanSquaredErrorLoss",
    "cross-entropy": "CrossEntropyLoss",
    "bce": "BinaryCrossEntropyLoss",
    "sgd": "SgdStep",
    "adam": "AdamStep",
}
LOSSES = ("mse", "cross-entropy", "bce")
OPTIMIZERS = ("sgd", "adam")
# Per parameter: basic operations, and how many tensors of its size are read and written.
_SGD = ({"sub": 1, "mul": 1}, 2, 1)
_ADAM = ({"add": 3, "sub": 1, "mul": 6, "div": 3, "root": 1}, 4, 3)
_IMAGE_RANK = 4  # from here on the class axis is 1 (N, C, ...), below it is the last


@dataclass(frozen=True)
class Loss:
    """A loss on one output of a graph.

    Attributes:
        name: mse, cross-entropy or bce.
        output: the tensor that is compared with the target.
        producer: the operator that makes it, None where the output is an input of the graph.
        class_axis: axis of the classes (cross-entropy), else None.
    """

    name: str
    output: Tensor
    producer: Operator | None
    class_axis: int | None

    @property
    def elements(self) -> int:
        """Elements of the output in one run."""
        return self.output.size or 0

    @property
    def classes(self) -> int:
        return 1 if self.class_axis is None else (self.output.shape or ())[self.class_axis]

    @property
    def labels(self) -> int:
        """Targets of one run: class indices for cross-entropy, else values."""
        return self.elements // self.classes if self.classes else 0

    @property
    def fuses(self) -> bool:
        """Whether the gradient passes the model's last activation in one step: p - t (Softmax, LogSoftmax, Sigmoid)."""
        if self.producer is None or self.producer.domain:
            return False
        if self.name == "bce":
            return self.producer.op_type == "Sigmoid"
        return self.name == "cross-entropy" and self.producer.op_type in ("Softmax", "LogSoftmax")

    @property
    def _producer(self) -> str:
        return self.producer.op_type if self.producer is not None and not self.producer.domain else ""

    def forward(self) -> Counts:
        """The loss of one run, without the division by the size of the mini-batch."""
        dtype, size = self.output.dtype, self.elements
        if self.name == "mse":
            return Counts.of(dtype, add=size, sub=size, mul=size)
        if self.name == "bce":
            return Counts.of(dtype, add=2, sub=2, mul=2, root=2) * size
        # log p of the label, added to the running sum; without a softmax in the model the output holds logits.
        label = Counts.of(dtype, add=1, root=int(self._producer != "LogSoftmax"))
        if not self.fuses:
            label += softmax_line(dtype, self.classes)
        return label * self.labels

    def per_batch(self) -> Counts:
        """What a mini-batch takes once: the division that makes the mean of squared errors."""
        return Counts.of(self.output.dtype, div=int(self.name == "mse"))

    def backward(self) -> Counts:
        """The gradient of the loss of one run with respect to the output (or to what the fused activation reads)."""
        dtype, size = self.output.dtype, self.elements
        if self.name == "mse":
            return Counts.of(dtype, mul=size)
        if self.name == "bce":
            return Counts.of(dtype, sub=1) * size if self.fuses else Counts.of(dtype, sub=1, mul=1, div=1) * size
        return Counts.of(dtype, sub=size, root=size if self._producer == "LogSoftmax" else 0)

    def operator(self, *, backward: bool) -> Operator:
        """The loss as a node of its own."""
        shape = list(self.output.shape or ())
        dtype = self.output.dtype
        if self.class_axis is not None:
            del shape[self.class_axis]
            dtype = DType.INT64
        name = f"{self.output.name}/loss"
        outputs = [Tensor(name, self.output.dtype, ())]
        if backward:
            outputs.append(Tensor(f"{self.output.name}.grad", self.output.dtype, self.output.shape))
        inputs = (self.output, Tensor(f"{self.output.name}/target", dtype, tuple(shape)))
        return Operator(name, _OPERATORS[self.name], DOMAIN, 1, inputs, tuple(outputs), {})


def checked(kind: str, name: str, known: Sequence[str]) -> str:
    """A name of the list, underscores and case aside.

    Raises:
        PolicyError: if it is none.
    """
    folded = str(name).strip().casefold().replace("_", "-")
    if folded not in known:
        raise PolicyError(f"{kind} {name!r}:{suggestion(folded, known)} known are {', '.join(known)}")
    return folded


def find_loss(graph: Graph, name: str | None, output: str | None) -> Loss:
    """The loss of a graph by name, on an output by name.

    Without an output: the first one of a float type. Without a name: bce where a Sigmoid makes the output,
    cross-entropy where it has a class axis of more than one class, else mse.

    Raises:
        PolicyError: if a name is unknown or the loss does not fit the output.
    """
    tensor = _loss_output(graph, output)
    producer = _producer_of(graph, tensor)
    axis = _class_axis(tensor, producer)
    if name is None:
        sigmoid = producer is not None and producer.op_type == "Sigmoid"
        name = "bce" if sigmoid else "mse" if axis is None else "cross-entropy"
    name = checked("loss", name, LOSSES)
    if name == "cross-entropy" and axis is None:
        raise PolicyError(
            f"loss 'cross-entropy' needs an output with an axis of more than one class; {tensor.name!r} has shape "
            f"{list(tensor.shape or ())}: use 'bce' for one probability, 'mse' for values, or name another output"
        )
    return Loss(name, tensor, producer, axis if name == "cross-entropy" else None)


def _loss_output(graph: Graph, name: str | None) -> Tensor:
    if name is not None:
        known = {tensor.name: tensor for tensor in graph.outputs}
        if name not in known:
            raise PolicyError(f"output {name!r}:{suggestion(name, known)} the model has {', '.join(known) or 'none'}")
        candidates = [known[name]]
    else:
        candidates = list(graph.outputs)
    for tensor in candidates:
        if tensor.dtype.is_float and tensor.shape is not None and tensor.size:
            return tensor
    listed = ", ".join(f"{t.name} ({t.dtype.label})" for t in candidates) or "none"
    raise PolicyError(f"a loss needs a float output of known shape with elements; the model has {listed}")


def _producer_of(graph: Graph, tensor: Tensor) -> Operator | None:
    """The operator that computed a tensor, seen through Identity."""
    makers = {made.name: op for op in graph.operators for made in op.outputs if made is not None}
    found = makers.get(tensor.name)
    while found is not None and found.op_type == "Identity" and found.inputs[0] is not None:
        before = makers.get(found.inputs[0].name)
        if before is None:
            break
        found = before
    return found


def _class_axis(tensor: Tensor, producer: Operator | None) -> int | None:
    """The axis of a Softmax that makes the output; else 1 from rank 4 on (N, C, ...), the last for rank 2 and 3."""
    shape = tensor.shape or ()
    if len(shape) < 2:
        return None
    axis = 1 if len(shape) >= _IMAGE_RANK else len(shape) - 1
    if producer is not None and not producer.domain and producer.op_type in ("Softmax", "LogSoftmax"):
        default = -1 if producer.version >= 13 else 1
        axis = axis_index(producer.attributes.get("axis", default), len(shape))
    return axis if shape[axis] > 1 else None


def optimizer_operator(optimizer: str, trained: Sequence[Tensor]) -> Operator:
    """The optimiser step as a node of its own: parameters and their gradients in, parameters out."""
    gradients = tuple(Tensor(f"{tensor.name}.grad", tensor.dtype, tensor.shape) for tensor in trained)
    updated = tuple(Tensor(f"{tensor.name}.next", tensor.dtype, tensor.shape) for tensor in trained)
    return Operator(f"{optimizer}_step", _OPERATORS[optimizer], DOMAIN, 1, (*trained, *gradients), updated, {})


def optimizer_counts(optimizer: str, trained: Sequence[Tensor]) -> tuple[Counts, int, int]:
    """Basic operations of one step, bytes read and bytes written."""
    one, reads, writes = _SGD if optimizer == "sgd" else _ADAM
    total = Counts()
    for dtype in {tensor.dtype: None for tensor in trained}:
        parameters = sum(math.prod(tensor.shape or ()) for tensor in trained if tensor.dtype is dtype)
        total += Counts.of(dtype, **one) * parameters
    size_bytes = sum(tensor.size_bytes or 0 for tensor in trained)
    return total, reads * size_bytes, writes * size_bytes
