"""Attention of one head in self-tallying numbers, in the defined order, and operators to compare it with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from oracle import as_basic_operations, numbers

F32, F16, I8, U8, I32, I64 = DType.FLOAT, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT32, DType.INT64


MS = "com.microsoft"


def tensor(shape: Any, dtype: DType = F32, value: Any = None, constant: bool = False) -> Tensor | None:
    return None if shape is None else Tensor("t", dtype, shape, None if value is None else np.asarray(value), constant)


def counted(op_type: str, inputs: list[Any], domain: str = "", outputs: tuple[Any, ...] = (None,), **a: Any) -> Counts:
    rule = find_rule(op_type, domain, 24 if not domain else 1)
    assert rule is not None and rule.function is not None
    tensors = tuple(i if isinstance(i, Tensor) else tensor(i) for i in inputs)
    return rule.function(Operator("n", op_type, domain, 24, tensors, outputs, a))


def check(counts: Counts, tally: Counter[str], macs: int) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs


def softmax(line: Any, sink: Any = None) -> Any:
    top = line[0]
    for value in line[1:]:
        top = value if value > top else top
    if sink is not None:
        top = top if top > sink else sink
    powers = [(value - top).exp() for value in line]
    total = powers[0]
    for power in powers[1:]:
        total = total + power
    if sink is not None:
        total = total + (sink - top).exp()
    return [power / total for power in powers]


def tanh(x: Any) -> Any:
    e = (x * 2).exp()
    return (e - 1) / (e + 1)


def attend(q: Any, k: Any, v: Any, scale: Any, biases: list[Any], softcap: float = 0.0, sink: Any = None) -> int:
    """softmax(softcap(q k^T) + biases) v of one head; `scale` multiplies the scores if given. Returns the MACs."""
    tally = q.flat[0].tally
    before = tally["mul"]
    scores = np.matmul(q, k.T)
    macs = tally["mul"] - before
    if scale is not None:
        scores = scores * scale
    if softcap:
        scores = scores / softcap if softcap != 1.0 else scores
        scores = np.frompyfunc(tanh, 1, 1)(scores)
        scores = scores * softcap if softcap != 1.0 else scores
    for bias in biases:
        scores = scores + bias
    weights = np.array([softmax(line, sink) for line in scores], dtype=object)
    before = tally["mul"]
    np.matmul(weights, v)
    return macs + tally["mul"] - before


def rotate(x: Any) -> None:
    """Rotate the last axis of x in two halves."""
    tally = x.flat[0].tally
    one, two = np.split(x, 2, axis=-1)
    cos, sin = numbers(one.shape, tally), numbers(one.shape, tally)
    (cos * one) - (sin * two)
    (sin * one) + (cos * two)


def head_norm(x: Any) -> None:
    for line in x:
        mean = np.add.reduce(line * line) / len(line)
        line / (mean + 1e-6).sqrt() * numbers(line.shape, line[0].tally)
