"""Optimiser steps of ai.onnx.preview.training, by the pseudo code of their definitions.

Gradient has no rule: it costs the backward pass of a part of the graph, see `onnx_aiwq.training.differentiation`.

Inputs are R, T, then X1..Xk, G1..Gk and the states of all k tensors. Attributes are constants, so 1 - alpha and the
like are computed once at load. A regularisation or a decay of zero costs nothing, nor does a factor of one; the
averaging factors of Adam lie strictly between zero and one.
"""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, power
from onnx_aiwq.operations.registry import rule, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

DOMAIN = "ai.onnx.preview.training"


def _per_parameter(op: Operator, roles: int, steps: dict[str, int]) -> Counts:
    """Count `steps` for each parameter of the k tensors X1..Xk, k = (number of inputs - 2) / roles."""
    tensors = op.inputs[2 : 2 + (len(op.inputs) - 2) // roles]
    counts = Counts()
    for tensor in tensors:
        counts += Counts.of(dtype_of(tensor, "a parameter"), **steps) * size_of(tensor, "a parameter")
    return counts


def _coefficient(op: Operator, name: str, default: float) -> int:
    """1 if multiplying with the attribute costs a mul, 0 if it is one."""
    return int(op.attributes.get(name, default) != 1)


def _regularized(op: Operator) -> tuple[int, int]:
    """The mul and the add of norm_coefficient * X + G; none of them where the coefficient is zero."""
    present = op.attributes.get("norm_coefficient", 0.0) != 0
    return (_coefficient(op, "norm_coefficient", 0.0), 1) if present else (0, 0)


@rule("Adam", family="training", domain=DOMAIN)
def adam(op: Operator) -> Counts:
    """One step of Adam.

    Equation:
        g = n X + G; V' = a V + (1 - a) g; H' = b H + (1 - b) g g; X' = (1 - m) (X - r V' / (sqrt(H') + epsilon));
        r = R sqrt(1 - b^T) / (1 - a^T) if T > 0, else R; n norm_coefficient, m norm_coefficient_post
    Basic operations:
        per parameter: 3 add, 1 sub, 6 mul, 1 div, 1 root (+ 1 mul, 1 add unless n is zero; + 1 mul unless m is zero);
        once per call for r: 1 compare at the type of T, two powers (each 2 root, 1 mul), 2 sub, 1 root, 1 mul, 1 div
    Not counted:
        1 - a, 1 - b, 1 - m
    Example:
        100 parameters, n = m = 0: 300 add, 100 + 2 sub, 600 + 3 mul, 100 + 1 div, 100 + 5 root, 1 compare
    Reference:
        ONNX operators: Adam (ai.onnx.preview.training)
    """
    mul, add = _regularized(op)
    decayed = int(op.attributes.get("norm_coefficient_post", 0.0) != 0)
    steps = {"add": 3 + add, "sub": 1, "mul": 6 + mul + decayed, "div": 1, "root": 1}
    rate = dtype_of(op.input(0), "the learning rate")
    once = power(rate, None) * 2 + Counts.of(rate, sub=2, mul=1, div=1, root=1)
    return _per_parameter(op, 4, steps) + once + Counts.of(_count_dtype(op), compare=1)


def _count_dtype(op: Operator) -> DType:
    return dtype_of(op.input(1), "the update count")


@rule("Adagrad", family="training", domain=DOMAIN)
def adagrad(op: Operator) -> Counts:
    """One step of Adagrad.

    Equation:
        g = n X + G; H' = H + g g; X' = X - r g / (sqrt(H') + epsilon); r = R / (1 + T d);
        n norm_coefficient, d decay_factor
    Basic operations:
        per parameter: 2 add, 1 sub, 2 mul, 1 div, 1 root (+ 1 mul, 1 add unless n is zero); once per call for r,
        unless d is zero: 1 mul, 1 add, 1 div
    Not counted:
        a decay of zero (r is R)
    Example:
        100 parameters, n = d = 0: 200 add, 100 sub, 200 mul, 100 div, 100 root
    Reference:
        ONNX operators: Adagrad (ai.onnx.preview.training)
    """
    mul, add = _regularized(op)
    steps = {"add": 2 + add, "sub": 1, "mul": 2 + mul, "div": 1, "root": 1}
    decays = int(op.attributes.get("decay_factor", 0.0) != 0)
    scaled = decays * _coefficient(op, "decay_factor", 0.0)
    once = Counts.of(dtype_of(op.input(0), "the learning rate"), add=decays, mul=scaled, div=decays)
    return _per_parameter(op, 3, steps) + once


@rule("Momentum", family="training", domain=DOMAIN)
def momentum(op: Operator) -> Counts:
    """One step of gradient descent with momentum, standard or Nesterov's.

    Equation:
        g = n X + G; V' = a V + b g; standard: X' = X - R V'; nesterov: X' = X - R (g + a V'); n norm_coefficient
    Basic operations:
        per parameter: V' 2 mul + 1 add (1 mul less for an a or a b of one), X' 1 mul + 1 sub, nesterov 1 mul + 1 add
        more (+ 1 mul, 1 add unless n is zero); once per call 1 compare at the type of T (b is one in the first step)
    Not counted:
        coefficients of one
    Example:
        100 parameters, a 0.9, b 0.5, n 0, standard: 100 add, 100 sub, 300 mul, 1 compare
    Reference:
        ONNX operators: Momentum (ai.onnx.preview.training)
    """
    mul, add = _regularized(op)
    alpha, beta = _coefficient(op, "alpha", 0.0), _coefficient(op, "beta", 0.0)
    nesterov = int(op.attributes.get("mode", "standard") == "nesterov")
    steps = {"add": 1 + add + nesterov, "sub": 1, "mul": alpha + beta + 1 + mul + nesterov * alpha}
    return _per_parameter(op, 3, steps) + Counts.of(_count_dtype(op), compare=1)
