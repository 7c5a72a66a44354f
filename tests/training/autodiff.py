"""Gradients executed on self-tallying numbers: what a backward rule must count, and whether it is the gradient at all.

A case has the inputs of one operator and a function that computes the wanted gradients on `Number`s. Forward results
that a training run would have saved are made of plain floats and cost nothing. The tally is compared with the rule, the
values with central differences of the operator's reference implementation, so that a cheap but wrong formula fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.training.registry import find_backward_rule
from onnx_aiwq.vocabulary import Counts, Operator
from operators import operator_from_node
from oracle import Number, as_basic_operations

Array = NDArray[Any]
STEP = 1e-6


@dataclass
class Run:
    """What a backward function sees: inputs, result and incoming gradient as numbers, and as floats."""

    tally: Counter[str]
    floats: list[Any]
    result: Array
    incoming: Array
    attributes: Mapping[str, Any]

    def save(self, values: Any) -> Any:
        """Numbers that the forward pass left behind: they cost nothing to have."""
        array = np.asarray(values, dtype=float)
        made = np.empty(array.shape, dtype=object)
        for index in np.ndindex(array.shape):
            made[index] = Number(array[index], self.tally)
        return made

    def zeros(self, position: int) -> Any:
        return self.save(np.zeros(self.floats[position].shape))

    @property
    def x(self) -> list[Any]:
        return [None if value is None else self.save(value) for value in self.floats]

    @property
    def y(self) -> Any:
        return self.save(self.result)

    @property
    def g(self) -> Any:
        return self.save(self.incoming)

    def choose(self, mask: Array, values: Any) -> Any:
        """The values where the mask holds, else zero: movement."""
        return np.where(mask, values, self.save(np.zeros(np.shape(values))))


Backward = Callable[[Run], Mapping[int, Any]]
Forward = Callable[..., Array]


@dataclass(frozen=True)
class Case:
    """One operator with its gradients.

    Attributes:
        op_type: ai.onnx operator.
        inputs: arrays (floats are differentiable), None where absent.
        backward: returns position -> gradient.
        attributes: of the node.
        version: opset.
        forward: instead of the reference implementation, where the convention counts another form.
    """

    op_type: str
    inputs: tuple[Any, ...]
    backward: Backward
    attributes: dict[str, Any] = field(default_factory=dict)
    version: int = 20
    forward: Forward | None = None

    def node(self) -> Any:
        names = ["" if value is None else f"i{k}" for k, value in enumerate(self.inputs)]
        return helper.make_node(self.op_type, names, ["y"], **self.attributes)

    def evaluate(self, inputs: list[Any]) -> Array:
        if self.forward is not None:
            return np.asarray(self.forward(*inputs))
        node = self.node()
        present = {f"i{k}": value for k, value in enumerate(inputs) if value is not None}
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in present.items()
        ]
        graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", 11, None)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.version)])
        return np.asarray(ReferenceEvaluator(model).run(None, present)[0])

    def operator(self, result: Array) -> Operator:
        return operator_from_node(self.node(), list(self.inputs), [result], self.version)


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the dimensions in which an input of this shape was broadcast."""
    while gradient.ndim > len(shape):
        gradient = np.add.reduce(gradient, axis=0)
    for axis, size in enumerate(shape):
        if size == 1 and gradient.shape[axis] > 1:
            gradient = np.add.reduce(gradient, axis=axis, keepdims=True)
    return gradient


def total(line: Any) -> Any:
    """The sum of a line; the first term is assigned."""
    return np.add.reduce(line)


def executed(case: Case) -> tuple[dict[str, int], dict[int, Array], Run]:
    """Run the backward function: its tally, its gradients as floats, and the run."""
    result = case.evaluate(list(case.inputs))
    incoming = np.random.default_rng(7).uniform(0.5, 1.5, result.shape)
    run = Run(Counter(), list(case.inputs), result, incoming, case.attributes)
    gradients = case.backward(run)
    values = {
        position: np.vectorize(lambda number: number.value, otypes=[float])(gradient)
        for position, gradient in gradients.items()
    }
    return as_basic_operations(run.tally), values, run


def counted(case: Case, wanted: frozenset[int], result: Array) -> Counts:
    rule = find_backward_rule(case.op_type, "")
    assert rule is not None, f"no backward rule for {case.op_type}"
    assert not rule.stops
    assert rule.inputs is None or wanted <= rule.inputs
    return rule.function(case.operator(result), wanted) if rule.function else Counts()


def by_differences(case: Case, position: int, incoming: Array) -> Array:
    """d sum(g * y) / d input by central differences."""
    base = [value if value is None else np.array(value) for value in case.inputs]
    gradient = np.zeros(base[position].shape)
    for index in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = [value if value is None else value.copy() for value in base]
            moved[position][index] += sign * STEP
            ends.append((incoming * case.evaluate(moved)).sum())
        gradient[index] = (ends[0] - ends[1]) / (2 * STEP)
    return gradient
