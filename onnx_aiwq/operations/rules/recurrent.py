"""Recurrent layers: LSTM, GRU and RNN. Every step of every sequence counts, whatever its length (dense count)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import msgspec

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import (
    dot_products,
    dtype_of,
    product_types,
    sigmoid,
    softmax_line,
    softplus,
    tanh,
)
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor


class _Activation(msgspec.Struct, frozen=True):
    """An activation of the ONNX recurrent operators.

    Attributes:
        plain: one element, without the multiplications by alpha and beta.
        alpha: default of alpha, None where the function has none; likewise `beta`.
        factors: which of the two multiply (others are thresholds or are part of `plain` as summands).
    """

    plain: Callable[[DType], Counts]
    alpha: float | None = None
    beta: float | None = None
    factors: tuple[str, ...] = ()

    def element(self, dtype: DType, alphas: Iterator[float], betas: Iterator[float]) -> Counts:
        """One element; functions that have an alpha or a beta take the next one of the list, else the default."""
        parameters = {
            "alpha": None if self.alpha is None else next(alphas, self.alpha),
            "beta": None if self.beta is None else next(betas, self.beta),
        }
        return self.plain(dtype) + Counts.of(dtype, mul=sum(parameters[name] != 1.0 for name in self.factors))


_ACTIVATIONS = {
    "relu": _Activation(functools.partial(Counts.of, compare=1)),
    "sigmoid": _Activation(sigmoid),
    "tanh": _Activation(tanh),
    "affine": _Activation(functools.partial(Counts.of, add=1), 1.0, 0.0, ("alpha",)),
    "leakyrelu": _Activation(functools.partial(Counts.of, compare=1), 0.01, None, ("alpha",)),
    "thresholdedrelu": _Activation(functools.partial(Counts.of, compare=1), 1.0),
    "scaledtanh": _Activation(tanh, 1.0, 1.0, ("alpha", "beta")),
    "hardsigmoid": _Activation(functools.partial(Counts.of, add=1, compare=2), 0.2, 0.5, ("alpha",)),
    "elu": _Activation(functools.partial(Counts.of, sub=1, root=1, compare=1), 1.0, None, ("alpha",)),
    "softsign": _Activation(functools.partial(Counts.of, add=1, div=1, compare=1)),
    "softplus": _Activation(softplus),
}


class _Layer(msgspec.Struct, frozen=True):
    """The sizes of a recurrent operator; a cell is one hidden unit of one sequence in one step and direction."""

    dtype: DType
    directions: int
    cells: int
    width: int
    hidden: int

    @classmethod
    def of(cls, op: Operator) -> _Layer:
        first, second, width = shape_of(op.input(0), "the input")
        directions, _, hidden = shape_of(op.input(2), "the recurrence weight")
        # With layout 1 steps and batch change places; only their product matters.
        return cls(dtype_of(op.input(0)), directions, first * second * hidden, width, hidden)

    def gates(self, number: int, *, biased: bool) -> Counts:
        """X W^T + H R^T (+ Wb + Rb) of `number` gates in one cell."""
        pairs = number * (self.width + self.hidden)
        adds = number * (max(self.width - 1, 0) + max(self.hidden - 1, 0) + 1 + (2 if biased else 0))
        return Counts.of(self.dtype, add=adds, mul=pairs, macs=pairs)

    def total(self, op: Operator, cell: Counts, defaults: tuple[str, ...], uses: tuple[int, ...]) -> Counts:
        """All cells of all directions, with `uses[i]` evaluations of activation i per cell, clipped where asked."""
        names = tuple(op.attributes.get("activations") or defaults)
        if len(names) == len(uses):
            names *= self.directions
        if len(names) < len(uses) * self.directions:
            raise ShapeError(f"{op.op_type} {op.name!r} needs {len(uses)} activations per direction, not {names}")
        alphas = iter(op.attributes.get("activation_alpha") or ())
        betas = iter(op.attributes.get("activation_beta") or ())
        clipped = 2 if op.attributes.get("clip") is not None else 0
        result = (cell + Counts.of(self.dtype, compare=clipped * sum(uses))) * self.directions
        for name, times in zip(names, uses * self.directions, strict=False):
            known = _ACTIVATIONS.get(name.lower())
            if known is None:
                raise ShapeError(f"activation {name!r} of {op.op_type} {op.name!r} is none of {sorted(_ACTIVATIONS)}")
            result = result + known.element(self.dtype, alphas, betas) * times
        return result * self.cells


@rule("LSTM", family="recurrent")
def lstm(op: Operator) -> Counts:
    """Long short-term memory layer.

    Equation:
        i = f(X Wi^T + H Ri^T + Pi C + Wbi + Rbi), f' and o likewise (o looks at the new C);
        c = g(X Wc^T + H Rc^T + Wbc + Rbc); C = f' C + i c; H = o h(C); X[steps, batch, I], H[batch, H], per direction
    Basic operations:
        Per hidden unit, sequence, step and direction: for each of 4 gates I + H mul (the MACs), (I - 1) + (H - 1) + 1
        add and, with B, 2 add (Wb and Rb); with P, 3 mul + 3 add; the activations f three times, g and h once; 3 mul +
        1 add for C and H. clip costs 2 compare for the input of each activation. input_forget = 1 replaces the forget
        gate by 1 - i: its products, bias, peephole, clip and activation are gone, 1 sub comes in. Activations: Sigmoid
        sub + root + add + div, Tanh mul + root + sub + add + div; a factor alpha or beta of 1 is free.
        sequence_lens is not looked at, and a zero initial state is multiplied like any other (dense count).
    Not counted:
        Reversal of the sequence, copies into the outputs.
    Example:
        X[2, 1, 3], hidden 4, B, no P, forward: 8 cells; mul = 8 * (4 * 7 + 3 + 2 (Tanh)) = 264, add = 8 * (4 * (2 + 3 +
        1 + 2) + 1 + 3 + 2) = 304, sub = div = root = 8 * 5 = 40, MACs = 8 * 28 = 224.
    Reference:
        ONNX operators: LSTM. TO paper, Eq. 3 and 4.
    """
    layer = _Layer.of(op)
    gates, state = _coupled_state(op, layer.dtype)
    cell = layer.gates(gates, biased=op.input(3) is not None) + state
    return layer.total(op, cell, ("Sigmoid", "Tanh", "Tanh"), (gates - 1, 1, 1))


def _coupled_state(op: Operator, dtype: DType) -> tuple[int, Counts]:
    """How many gates an LSTM computes, and what its peepholes and its state cost per cell."""
    coupled = bool(op.attributes.get("input_forget"))
    gates = 3 if coupled else 4
    peepholes = 0 if op.input(7) is None else gates - 1
    return gates, Counts.of(dtype, add=1 + peepholes, mul=3 + peepholes, sub=1 if coupled else 0)


@rule("AttnLSTM", family="recurrent", domain="com.microsoft")
def attention_lstm(op: Operator) -> Counts:
    """Long short-term memory layer whose cell sees, beside its input, what it attended to in a memory (Bahdanau).

    Equation:
        KEYS = M MW; H, C = lstm([X, ATTN], C); ALIGN = softmax(sum(V * tanh(KEYS + H QW))); CONTEXT = ALIGN M;
        ATTN = [H, CONTEXT] AW, without AW: ATTN = CONTEXT; M[batch, T, D], MW[D, A], QW[H, A], AW[D + H, A']
    Basic operations:
        The cells as in LSTM, with as many mul per gate as W and R have columns. Per direction once, per element of KEYS
        D mul and D - 1 add. Per direction, step and sequence: H mul and H - 1 add for each of the A elements of H QW;
        for each of T keys A add, A Tanh (mul + root + sub + add + div), A mul and A - 1 add; softmax over T keys; T mul
        and T - 1 add for each of the D elements of CONTEXT; with AW, D + H mul and D + H - 1 add for each of its
        columns. MACs = mul of all these products. Keys beyond memory_seq_lens count like any other (dense count).
    Not counted:
        Masks, joining of tensors, reversal of the sequence, copies into the outputs.
    Example:
        X[1, 1, 2], W[1, 4, 3], R[1, 4, 1], no B, M[1, 2, 1], A = 1, no AW: MACs = 4 * 4 + 2 + 1 + 2 + 2 = 23; mul = 23
        + 3 + 2 (Tanh) + 2 (Tanh of the keys) = 30.
    Reference:
        Contrib operators: AttnLSTM. Bahdanau, Cho and Bengio, arXiv 1409.0473.
    """
    steps, batch, _ = shape_of(op.input(0), "the input")
    directions, _, width = shape_of(op.input(1), "the weight")
    hidden = shape_of(op.input(2), "the recurrence weight")[2]
    layer = _Layer(dtype_of(op.input(0)), directions, steps * batch * hidden, width, hidden)
    gates, state = _coupled_state(op, layer.dtype)
    cell = layer.gates(gates, biased=op.input(3) is not None) + state
    cells = layer.total(op, cell, ("Sigmoid", "Tanh", "Tanh"), (gates - 1, 1, 1))
    return cells + _attended(op, layer.dtype, directions, steps * batch, hidden)


def _attended(op: Operator, dtype: DType, directions: int, queries: int, hidden: int) -> Counts:
    """The attention of AttnLSTM: keys once, then one query per step and sequence, in every direction."""
    types = (dtype, dtype)
    batch, memory, depth = shape_of(op.input(11), "the memory")
    size = shape_of(op.input(9), "the memory layer weight")[2]
    once = dot_products(types, batch * memory * size, depth)
    query = dot_products(types, size, hidden) + (tanh(dtype) + Counts.of(dtype, add=1)) * (memory * size)
    query += dot_products(types, memory, size) + softmax_line(dtype, memory) + dot_products(types, depth, memory)
    if op.input(13) is not None:
        query += dot_products(types, shape_of(op.input(13), "the attention layer weight")[2], depth + hidden)
    return (once + query * queries) * directions


@rule("GRU", family="recurrent")
def gru(op: Operator) -> Counts:
    """Gated recurrent unit layer.

    Equation:
        z = f(X Wz^T + H Rz^T + Wbz + Rbz), r likewise; h = g(X Wh^T + (r H) Rh^T + Rbh + Wbh), or with
        linear_before_reset h = g(X Wh^T + r (H Rh^T + Rbh) + Wbh); H = (1 - z) h + z H
    Basic operations:
        Per hidden unit, sequence, step and direction: for each of 3 gates I + H mul (the MACs), (I - 1) + (H - 1) + 1
        add and, with B, 2 add; 1 mul for r; f twice and g once; 1 sub, 2 mul, 1 add for H. Both forms of h cost the
        same. clip costs 2 compare for the input of each activation. Activations as in LSTM.
        sequence_lens is not looked at, and a zero initial state is multiplied like any other (dense count).
    Not counted:
        Reversal of the sequence, copies into the outputs.
    Example:
        X[2, 1, 3], hidden 4, B, forward: 8 cells; mul = 8 * (3 * 7 + 3 + 1 (Tanh)) = 200, add = 8 * (3 * 8 + 1 + 3) =
        224, sub = 8 * (1 + 3) = 32, div = root = 24, MACs = 168.
    Reference:
        ONNX operators: GRU. TO paper, Eq. 3 and 4.
    """
    layer = _Layer.of(op)
    cell = layer.gates(3, biased=op.input(3) is not None) + Counts.of(layer.dtype, add=1, sub=1, mul=3)
    return layer.total(op, cell, ("Sigmoid", "Tanh"), (2, 1))


@rule("RNN", family="recurrent")
def rnn(op: Operator) -> Counts:
    """Simple recurrent layer.

    Equation:
        H = f(X W^T + H R^T + Wb + Rb)
    Basic operations:
        Per hidden unit, sequence, step and direction: I + H mul (the MACs), (I - 1) + (H - 1) + 1 add and, with B, 2
        add; f once. clip costs 2 compare for the input of f. Activations as in LSTM.
        sequence_lens is not looked at, and a zero initial state is multiplied like any other (dense count).
    Not counted:
        Reversal of the sequence, copies into the outputs.
    Example:
        X[2, 1, 3], hidden 4, B, Tanh, forward: 8 cells; mul = 8 * (7 + 1) = 64, add = 8 * (6 + 2 + 1) = 72, sub = div =
        root = 8, MACs = 56.
    Reference:
        ONNX operators: RNN. TO paper, Eq. 3 and 4.
    """
    layer = _Layer.of(op)
    return layer.total(op, layer.gates(1, biased=op.input(3) is not None), ("Tanh",), (1,))


def _is_unknown(tensor: Tensor | None, neutral: int) -> bool:
    """Whether a scale or zero point is not known to be its neutral value throughout."""
    return tensor is None or tensor.value is None or bool((tensor.value != neutral).any())


def _dynamic_product(dtype: DType, rows: int, weight: Tensor, gates: int, scale: Tensor | None) -> Counts:
    """One dynamically quantised matrix times a weight[directions, K, 4 * hidden], of which `gates` of 4 are used."""
    _, length, columns = shape_of(weight, "a weight")
    results, size = rows * (columns * gates // 4), rows * length
    extrema = Counts.of(dtype, sub=2, div=2, compare=2 * max(size - 1, 0) + 5)
    quantised = Counts.of(dtype, add=size, div=size, compare=3 * size) + Counts.of(DType.INT32, sub=size)
    product = dot_products(product_types(DType.UINT8, weight.dtype), results, length)
    per_channel = 1 if scale is None or scale.rank == 1 else columns
    combined = per_channel if _is_unknown(scale, 1) else 0
    return extrema + quantised + product + Counts.of(dtype, mul=results + combined)


@rule("DynamicQuantizeLSTM", family="recurrent", domain="com.microsoft")
def dynamic_quantize_lstm(op: Operator) -> Counts:
    """Long short-term memory layer whose inputs and states are quantised on the way and whose weights are quantised.

    Equation:
        As LSTM; X W is one DynamicQuantizeMatMul for all steps of a direction, H R is one for each step
    Basic operations:
        Per direction DynamicQuantizeLinear of X (2 (n - 1) + 5 compare, 2 sub, 2 div, then per element 1 add, 1 div, 3
        compare) and of H in every step; int32 sub of the zero points per element, and per element of W and R where
        theirs is not known to be zero; per hidden unit, sequence, step and gate I + H products at the operand width
        (int8 if W is signed) with (I - 1) + (H - 1) int32 add, 2 mul by the combined scales, 1 add, with B 2 add; per
        product of matrices the combined scale 1 mul per element of the weight's scale. Activations, peepholes, state
        and input_forget as in LSTM, which computes 3 of 4 gates then. MACs as in LSTM.
    Not counted:
        Casts, reversal of the sequence, copies into the outputs.
    Example:
        X[2, 1, 3], W[1, 3, 16] int8 with one known scale of 1, R[1, 4, 16] likewise, zero points 0, no B: 8 cells; int8
        mul = MACs = 8 * 4 * 7 = 224, int32 add = 8 * 4 * (2 + 3) = 160, int32 sub = 6 + 2 * 4 = 14; float32 mul = 8 *
        (8 + 3 + 2) = 104, add = 6 + 8 + 8 * (4 + 1 + 3 + 2) = 94, sub = 3 * 2 + 8 * 5 = 46, div = 3 * 2 + 14 + 8 * 5 =
        60, root = 40, compare = (10 + 5 + 18) + 2 * (6 + 5 + 12) = 79.
    Reference:
        Contrib operators: DynamicQuantizeLSTM. TO paper, Eq. 3 and 4.
    """
    first, second, width = shape_of(op.input(0), "the input")
    directions, hidden, _ = shape_of(op.input(2), "the recurrence weight")
    dtype = dtype_of(op.input(0))
    layer = _Layer(dtype, directions, first * second * hidden, width, hidden)
    gates, state = _coupled_state(op, dtype)
    biased = 0 if op.input(3) is None else 2
    cell = Counts.of(dtype, add=gates * (1 + biased)) + state
    total = layer.total(op, cell, ("Sigmoid", "Tanh", "Tanh"), (gates - 1, 1, 1))
    rows = {1: (1, first * second), 2: (first, second)}
    for position, (calls, length) in rows.items():
        weight, scale, point = op.inputs[position], op.input(position * 2 + 6), op.input(position * 2 + 7)
        if weight is None:
            raise ShapeError(f"DynamicQuantizeLSTM {op.name!r} has no weights")
        total += _dynamic_product(dtype, length, weight, gates, scale) * (calls * directions)
        if point is not None and _is_unknown(point, 0):
            used = directions * shape_of(weight, "a weight")[1] * gates * hidden
            total += Counts.of(DType.INT32, sub=used)
    return total
