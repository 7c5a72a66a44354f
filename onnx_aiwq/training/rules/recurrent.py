"""Gradients of recurrent layers: back-propagation through time, step by step, from the saved gates and states.

Every step of every sequence counts (dense count): the gradient that enters the last step from the right is added like
any other (it is that of Y_h), and that of the initial state is computed whether or not it is a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import shape_of, size_of
from onnx_aiwq.training.registry import backward
from onnx_aiwq.vocabulary import Counts, DType, Operator

# Gradient of one element from what the forward pass saved; a factor alpha of one is counted like any other.
_ACTIVATIONS: Mapping[str, dict[str, int]] = {
    "sigmoid": {"sub": 1, "mul": 2},
    "tanh": {"sub": 1, "mul": 2},
    "relu": {},
    "thresholdedrelu": {},
    "leakyrelu": {"mul": 1},
    "affine": {"mul": 1},
    "hardsigmoid": {"mul": 1},
    "elu": {"add": 1, "mul": 1},
    "softsign": {"mul": 1, "div": 1},
    "softplus": {"mul": 1, "div": 1},
}


@dataclass(frozen=True)
class _Layer:
    """The sizes of a recurrent operator: `steps` counts steps x sequences x directions."""

    dtype: DType
    directions: int
    steps: int
    width: int
    hidden: int

    @classmethod
    def of(cls, op: Operator) -> _Layer:
        first, second, width = shape_of(op.input(0), "the input")
        directions, _, hidden = shape_of(op.input(2), "the recurrence weight")
        return cls(dtype_of(op.input(0)), directions, first * second * directions, width, hidden)

    def products(self, op: Operator, wanted: frozenset[int], gates: int, blocks: Sequence[int]) -> Counts:
        """The matrix products: dX, dW, dR and dH, of which `blocks` lists the gates per product with R."""
        rows = gates * self.hidden
        inputs, states = self.steps * rows * self.width, self.steps * rows * self.hidden
        sums = sum(self.steps * self.hidden * max(block * self.hidden - 1, 0) for block in blocks)
        total = Counts.of(self.dtype, mul=states, add=sums, macs=states)
        if 0 in wanted:
            # The gradients of both directions are added at the end.
            data = size_of(op.input(0), "the input")
            total += Counts.of(self.dtype, mul=inputs, add=max(inputs - data, 0), macs=inputs)
        for position, pairs in ((1, inputs), (2, states)):
            if position in wanted:
                size = size_of(op.input(position), "a weight")
                total += Counts.of(self.dtype, mul=pairs, add=max(pairs - size, 0), macs=pairs)
        return total

    def sums(self, rows: int) -> Counts:
        """`rows` gradients per hidden unit, summed over the steps of each direction."""
        return Counts.of(self.dtype, add=rows * self.hidden * max(self.steps - self.directions, 0))

    def cells(self, op: Operator, cell: Counts, defaults: tuple[str, ...], uses: tuple[int, ...]) -> Counts:
        """The elementwise part of all cells, with `uses[i]` gradients of activation i in each."""
        names = tuple(op.attributes.get("activations") or defaults)
        if len(names) == len(uses):
            names *= self.directions
        # The schema's default of RNN names two activations for one direction: what is beyond the uses is ignored.
        if len(names) < len(uses) * self.directions:
            raise ShapeError(f"{op.op_type} {op.name!r} needs {len(uses)} activations per direction, not {names}")
        per_direction = self.steps // self.directions * self.hidden if self.directions else 0
        total = cell * (self.steps * self.hidden)
        for name, times in zip(names, uses * self.directions, strict=False):
            if name.lower() not in _ACTIVATIONS:
                raise ShapeError(f"the gradient of activation {name!r} in {op.op_type} {op.name!r} is not counted")
            total += Counts.of(self.dtype, **_ACTIVATIONS[name.lower()]) * (times * per_direction)
        return total


@backward("LSTM", inputs=[0, 1, 2, 3, 5, 6, 7])
def lstm(op: Operator, wanted: frozenset[int]) -> Counts:
    """Back-propagation through time of a long short-term memory layer.

    Equation:
        dH = g + dHnext; do = dH * h(C); dC = dCnext + dH * o * h'(C); df = dC * Cprev; di = dC * c; dc = dC * i;
        dCprev = dC * f; a gate's a = its gradient * its activation's derivative; dX = W^T a, dHprev = R^T a,
        dW = a X^T, dR = a Hprev^T, dWb = dRb = a, summed over steps and sequences
    Basic operations:
        per cell (hidden unit, sequence, step, direction): 2 add, 6 mul (dH * o included), the derivatives of f three
        times, g and h once (Sigmoid and Tanh: 1 sub, 2 mul); products: 4H H mul per step for dHprev (H (4H - 1) add),
        4H I each for dX and dW, 4H H for dR; a gradient of s elements from n products takes n - s add; B: 4H adds per
        step but the first of a direction. P: 3 mul more for dP (n - s add) and 3 mul + 3 add for dC. input_forget: 3
        gates, di = dC * c - dC * Cprev. MACs = mul of the products
    Not counted:
        Copies, reversal of the sequence, clip (a mask).
    Example:
        X[2, 1, 3], hidden 4, B, forward, X, W, R and B wanted: 8 cells. Cells: add = 16, mul = 8 * (6 + 10) = 128, sub
        = 40. Products of 16 rows in 2 steps: dH 128 mul, 120 add; dX 96 mul, 90 add; dW 96, 48; dR 128, 64; dB 16 add.
        mul = 576, add = 354, sub = 40, MACs = 448.
    Reference:
        ONNX operators: LSTM; TO convention, table 1.2 (FC bwd, Sigmoid bwd, Tanh bwd).
    """
    layer = _Layer.of(op)
    coupled = bool(op.attributes.get("input_forget"))
    gates = 3 if coupled else 4
    peepholes = 0 if op.input(7) is None else gates - 1
    cell = Counts.of(layer.dtype, add=2 + peepholes, sub=int(coupled), mul=6 + peepholes)
    total = layer.cells(op, cell, ("Sigmoid", "Tanh", "Tanh"), (gates - 1, 1, 1))
    total += layer.products(op, wanted, gates, (gates,))
    if 3 in wanted:
        total += layer.sums(gates)
    if 7 in wanted:
        total += layer.sums(peepholes) + Counts.of(layer.dtype, mul=peepholes * layer.steps * layer.hidden)
    return total


@backward("GRU", inputs=[0, 1, 2, 3, 5])
def gru(op: Operator, wanted: frozenset[int]) -> Counts:
    """Back-propagation through time of a gated recurrent unit layer.

    Equation:
        dH = g + dHnext; dz = dH * (Hprev - h); dh = dH * (1 - z), 1 - z saved; a = gradient * derivative, per gate;
        linear_before_reset 0: q = Rh^T ah; dr = q * Hprev; dHprev = dH * z + Rzr^T azr + q * r; else q = ah * r;
        dr = ah * (Rh Hprev + Rbh), saved; dHprev = dH * z + R^T [az, ar, q]; weights as in LSTM
    Basic operations:
        per cell: 5 mul, 1 sub, 3 add (linear_before_reset: 2 add); derivatives of f twice and g once; products: 3H H
        mul per step for dHprev (add: H (2H - 1) + H (H - 1), linear_before_reset H (3H - 1)), 3H I for dX and dW, 3H H
        for dR; B: 3H add per step but the first of a direction (linear_before_reset 4H: Rbh has its own)
    Not counted:
        Copies, reversal of the sequence, clip (a mask).
    Example:
        X[2, 1, 3], hidden 4, B, forward, X, W, R and B wanted: 8 cells: add = 24, mul = 8 * (5 + 6) = 88, sub = 8 * 4 =
        32. Products of 12 rows in 2 steps: dH 96 mul, 80 add; dX 72, 66; dW 72, 36; dR 96, 48; dB 12 add.
        mul = 424, add = 266, sub = 32, MACs = 336.
    Reference:
        ONNX operators: GRU; TO convention, table 1.2.
    """
    layer = _Layer.of(op)
    linear = bool(op.attributes.get("linear_before_reset"))
    cell = Counts.of(layer.dtype, add=2 if linear else 3, sub=1, mul=5)
    total = layer.cells(op, cell, ("Sigmoid", "Tanh"), (2, 1))
    total += layer.products(op, wanted, 3, (3,) if linear else (2, 1))
    return total + (layer.sums(4 if linear else 3) if 3 in wanted else Counts())


@backward("RNN", inputs=[0, 1, 2, 3, 5])
def rnn(op: Operator, wanted: frozenset[int]) -> Counts:
    """Back-propagation through time of a simple recurrent layer.

    Equation:
        dH = g + dHnext; a = dH * f'; dX = W^T a, dHprev = R^T a, dW = a X^T, dR = a Hprev^T, dWb = dRb = a, summed
    Basic operations:
        per cell: 1 add, the derivative of f (Tanh: 1 sub, 2 mul); products: H H mul per step for dHprev (H (H - 1)
        add), H I for dX and dW, H H for dR; B: H add per step but the first of a direction
    Not counted:
        Copies, reversal of the sequence, clip (a mask).
    Example:
        X[2, 1, 3], hidden 4, B, Tanh, forward, X, W, R and B wanted: 8 cells: add = 8, sub = 8, mul = 16. Products: dH
        32 mul, 24 add; dX 24, 18; dW 24, 12; dR 32, 16; dB 4 add. mul = 128, add = 82, sub = 8, MACs = 112.
    Reference:
        ONNX operators: RNN; TO convention, table 1.2.
    """
    layer = _Layer.of(op)
    total = layer.cells(op, Counts.of(layer.dtype, add=1), ("Tanh",), (1,))
    total += layer.products(op, wanted, 1, (1,))
    return total + (layer.sums(1) if 3 in wanted else Counts())
