"""Rules of recurrent layers against the ONNX equations, run step by step on self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def counted(op_type: str, shapes: list[Any], dtype: DType = DType.FLOAT, **attributes: Any) -> Counts:
    rule = find_rule(op_type, "", 22)
    assert rule is not None and rule.function is not None
    inputs = tuple(None if shape is None else Tensor("t", dtype, shape) for shape in shapes)
    return rule.function(Operator("n", op_type, "", 22, inputs, (None,), attributes))


def sigmoid(x: Any, *_: float) -> Any:
    return 1 / (1 + (-x).exp())


def tanh(x: Any, *_: float) -> Any:
    e = (x * 2).exp()
    return (e - 1) / (e + 1)


def relu(x: Any, *_: float) -> Any:
    return x if x > 0 else Number(0, x.tally)


def leaky(x: Any, alpha: float, _: float) -> Any:
    slope = x * alpha if alpha != 1 else x
    return x if x > 0 else slope


def affine(x: Any, alpha: float, beta: float) -> Any:
    return (x * alpha if alpha != 1 else x) + beta


def scaled_tanh(x: Any, alpha: float, beta: float) -> Any:
    y = tanh(x * beta if beta != 1 else x)
    return y * alpha if alpha != 1 else y


def hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    y = (x * alpha if alpha != 1 else x) + beta
    low, high = y < 0, y > 1
    return Number(0, x.tally) if low else Number(1, x.tally) if high else y


def elu(x: Any, alpha: float, _: float) -> Any:
    y = x.exp() - 1
    y = y * alpha if alpha != 1 else y
    return x if x > 0 else y


def softsign(x: Any, *_: float) -> Any:
    magnitude = x if x > 0 else Number(-x.value, x.tally)
    return x / (1 + magnitude)


def softplus(x: Any, *_: float) -> Any:
    return (x.exp() + 1).log()


def thresholded(x: Any, alpha: float, _: float) -> Any:
    return x if x > alpha else Number(0, x.tally)


# name -> function, default alpha, default beta (None: it takes none)
FUNCTIONS: dict[str, tuple[Callable[..., Any], float | None, float | None]] = {
    "Sigmoid": (sigmoid, None, None),
    "Tanh": (tanh, None, None),
    "Relu": (relu, None, None),
    "LeakyRelu": (leaky, 0.01, None),
    "Affine": (affine, 1.0, 0.0),
    "ScaledTanh": (scaled_tanh, 1.0, 1.0),
    "HardSigmoid": (hard_sigmoid, 0.2, 0.5),
    "Elu": (elu, 1.0, None),
    "Softsign": (softsign, None, None),
    "Softplus": (softplus, None, None),
    "ThresholdedRelu": (thresholded, 1.0, None),
}


def functions(names: list[str], clip: bool, alphas: list[float], betas: list[float]) -> list[Callable[[Any], Any]]:
    """Vectorised activations; each takes its alpha and beta from the front of the lists, else its default."""

    def build(name: str) -> Callable[[Any], Any]:
        function, alpha, beta = FUNCTIONS[name]
        if alpha is not None and alphas:
            alpha = alphas.pop(0)
        if beta is not None and betas:
            beta = betas.pop(0)

        def apply(x: Any) -> Any:
            if clip:
                low, high = x < -9, x > 9
                assert not low and not high
            return function(x, alpha or 0.0, beta or 0.0)

        return np.frompyfunc(apply, 1, 1)

    return [build(name) for name in names]


def lstm_step(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any, p: Any, f: list[Any], coupled: bool, _: bool) -> Any:
    n = len(h)

    def gate(k: int, cell: Any, peephole: int | None) -> Any:
        rows = slice(k * n, (k + 1) * n)
        total = np.matmul(w[rows], x) + np.matmul(r[rows], h)
        if p is not None and peephole is not None:
            total = total + p[peephole * n : (peephole + 1) * n] * cell
        if b is not None:
            total = total + b[: 4 * n][rows] + b[4 * n :][rows]
        return total

    i = f[0](gate(0, c, 0))
    forget = 1 - i if coupled else f[0](gate(2, c, 2))
    candidate = f[1](gate(3, c, None))
    c = forget * c + i * candidate
    o = f[0](gate(1, c, 1))
    return o * f[2](c), c


def gru_step(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any, _p: Any, f: list[Any], _c: bool, linear: bool) -> Any:
    n = len(h)
    wb, rb = (None, None) if b is None else (b[: 3 * n], b[3 * n :])

    def plus(total: Any, bias: Any, k: int) -> Any:
        return total if bias is None else total + bias[k * n : (k + 1) * n]

    gates = []
    for k in range(2):
        rows = slice(k * n, (k + 1) * n)
        gates.append(f[0](plus(plus(np.matmul(w[rows], x) + np.matmul(r[rows], h), wb, k), rb, k)))
    z, reset = gates
    own = np.matmul(w[2 * n :], x)
    if linear:
        hidden = f[1](plus(own + reset * plus(np.matmul(r[2 * n :], h), rb, 2), wb, 2))
    else:
        hidden = f[1](plus(plus(own + np.matmul(r[2 * n :], reset * h), rb, 2), wb, 2))
    return (1 - z) * hidden + z * h, c


def rnn_step(x: Any, h: Any, c: Any, w: Any, r: Any, b: Any, _p: Any, f: list[Any], _c: bool, _l: bool) -> Any:
    total = np.matmul(w, x) + np.matmul(r, h)
    if b is not None:
        total = total + b[: len(h)] + b[len(h) :]
    return f[0](total), c


STEPS: dict[str, Callable[..., Any]] = {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def run(op_type: str, sizes: tuple[int, int, int, int], directions: int, bias: bool, **a: Any) -> Counter[str]:
    """Every step of every sequence in each direction, from a zero state."""
    tally: Counter[str] = Counter()
    steps, batch, width, hidden = sizes
    gates = GATES[op_type]
    names = list(a.get("activations") or DEFAULTS[op_type] * directions)
    chosen = functions(names, "clip" in a, list(a.get("activation_alpha", ())), list(a.get("activation_beta", ())))
    x = numbers((steps, batch, width), tally)
    for direction in range(directions):
        own = chosen[direction * len(DEFAULTS[op_type]) :][: len(DEFAULTS[op_type])]
        w = numbers((gates * hidden, width), tally) - 1
        r = numbers((gates * hidden, hidden), tally) - 1
        b = numbers((2 * gates * hidden,), tally) if bias else None
        p = numbers((3 * hidden,), tally) if a.get("peepholes") else None
        tally.subtract({"sub": w.size + r.size})
        for sequence in range(batch):
            state = np.array([Number(0, tally) for _ in range(hidden)], dtype=object)
            cell = np.array([Number(0, tally) for _ in range(hidden)], dtype=object)
            for step in range(steps) if direction == 0 else reversed(range(steps)):
                state, cell = STEPS[op_type](
                    x[step, sequence],
                    state,
                    cell,
                    w,
                    r,
                    b,
                    p,
                    own,
                    bool(a.get("input_forget")),
                    bool(a.get("linear_before_reset")),
                )
    return tally


def shapes_of(op_type: str, sizes: tuple[int, int, int, int], directions: int, bias: bool, peepholes: bool) -> Any:
    steps, batch, width, hidden = sizes
    gates = GATES[op_type]
    shapes: list[Any] = [
        (steps, batch, width),
        (directions, gates * hidden, width),
        (directions, gates * hidden, hidden),
    ]
    shapes.append((directions, 2 * gates * hidden) if bias else None)
    return [*shapes, None, None, None, (directions, 3 * hidden)] if peepholes else shapes


SIZES = [(2, 1, 3, 4), (3, 2, 1, 2), (1, 3, 4, 1)]


@pytest.mark.parametrize("attributes", [{}, {"clip": 9.0}])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
def test_layers_equal_their_equations(
    op_type: str, sizes: tuple[int, int, int, int], directions: int, bias: bool, attributes: Any
) -> None:
    tally = run(op_type, sizes, directions, bias, **attributes)
    direction = "bidirectional" if directions == 2 else "reverse"
    shapes = shapes_of(op_type, sizes, directions, bias, False)
    counts = counted(op_type, shapes, direction=direction, hidden_size=sizes[3], **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)
    steps, batch, width, hidden = sizes
    assert counts.macs == directions * steps * batch * GATES[op_type] * hidden * (width + hidden)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("clip", [{}, {"clip": 9.0}])
def test_lstm_peepholes_and_coupled_gates(peepholes: bool, coupled: int, clip: Any) -> None:
    sizes = (2, 2, 3, 2)
    tally = run("LSTM", sizes, 1, True, peepholes=peepholes, input_forget=coupled, **clip)
    counts = counted("LSTM", shapes_of("LSTM", sizes, 1, True, peepholes), input_forget=coupled, **clip)
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 4 * (3 if coupled else 4) * 2 * (3 + 2)


@pytest.mark.parametrize("bias", [False, True])
def test_gru_forms_cost_the_same(bias: bool) -> None:
    sizes = (2, 2, 3, 2)
    shapes = shapes_of("GRU", sizes, 1, bias, False)
    for linear in (0, 1):
        tally = run("GRU", sizes, 1, bias, linear_before_reset=linear)
        assert counted("GRU", shapes, linear_before_reset=linear).basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_activation_with_its_defaults(name: str) -> None:
    sizes = (2, 1, 3, 2)
    tally = run("RNN", sizes, 1, True, activations=[name])
    counts = counted("RNN", shapes_of("RNN", sizes, 1, True, False), activations=(name,))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_parameters_go_to_the_functions_that_take_them(alpha: float, beta: float) -> None:
    sizes = (2, 1, 2, 2)
    attributes: dict[str, Any] = {
        "activations": ["Sigmoid", "ScaledTanh", "LeakyRelu", "HardSigmoid", "Tanh", "Affine"],
        "activation_alpha": [alpha, 0.3, 1.0],
        "activation_beta": [beta],
    }
    tally = run("LSTM", sizes, 2, False, **attributes)
    counts = counted("LSTM", shapes_of("LSTM", sizes, 2, False, False), **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_names_are_read_whatever_their_case() -> None:
    shapes = shapes_of("RNN", (2, 1, 3, 4), 1, True, False)
    assert counted("RNN", shapes, activations=("RELU",)) == counted("RNN", shapes, activations=("Relu",))


def test_batch_first_and_sequence_lengths_change_nothing() -> None:
    shapes = shapes_of("LSTM", (5, 2, 3, 4), 1, True, False)
    plain = counted("LSTM", shapes)
    batch_first = [(2, 5, 3), *shapes[1:]]
    assert counted("LSTM", batch_first, layout=1) == plain
    assert counted("LSTM", [*shapes, (2,), (1, 2, 4), (1, 2, 4)]) == plain


def test_rnn_takes_the_schema_default_of_two_activations() -> None:
    shapes = shapes_of("RNN", (2, 1, 3, 4), 1, True, False)
    assert counted("RNN", shapes, activations=("Tanh", "Tanh")) == counted("RNN", shapes)


def test_lstm_by_hand() -> None:
    counts = counted("LSTM", shapes_of("LSTM", (2, 1, 3, 4), 1, True, False))
    assert counts == Counts.of(DType.FLOAT, add=304, sub=40, mul=264, div=40, root=40, macs=224)


def test_gru_by_hand() -> None:
    counts = counted("GRU", shapes_of("GRU", (2, 1, 3, 4), 1, True, False))
    assert counts == Counts.of(DType.FLOAT, add=224, sub=32, mul=200, div=24, root=24, macs=168)


def test_rnn_by_hand() -> None:
    counts = counted("RNN", shapes_of("RNN", (2, 1, 3, 4), 1, True, False), DType.DOUBLE)
    assert counts == Counts.of(DType.DOUBLE, add=72, sub=8, mul=64, div=8, root=8, macs=56)


def test_unknown_or_missing_activations_are_refused() -> None:
    shapes = shapes_of("LSTM", (2, 1, 3, 4), 1, True, False)
    with pytest.raises(ShapeError, match="Snake"):
        counted("LSTM", shapes, activations=("Snake", "Tanh", "Tanh"))
    with pytest.raises(ShapeError, match="3 activations per direction"):
        counted("LSTM", shapes, activations=("Tanh",))


def test_an_empty_sequence_costs_nothing() -> None:
    assert counted("GRU", shapes_of("GRU", (0, 2, 3, 4), 1, True, False)) == Counts()


def test_the_reference_activations_compute_what_they_name() -> None:
    tally: Counter[str] = Counter()
    x = Number(0.5, tally)
    assert math.isclose(tanh(x).value, math.tanh(0.5))
    assert math.isclose(sigmoid(x).value, 1 / (1 + math.exp(-0.5)))
    assert math.isclose(softplus(x).value, math.log1p(math.exp(0.5)))


INTEGERS, WHOLE = DType.INT8, DType.INT32


def dynamically_quantised(x: Any) -> None:
    """Extrema of all elements and of zero, scale and zero point, then every element."""
    elements = list(x.flat)
    for one in elements[1:]:
        assert one < 1e9
        assert one > -1e9
    low, high = elements[0], elements[0]
    assert low > -1e9
    assert high < 1e9
    scale = (high - low) / 255
    point = 0 - low / (1 + scale.value)
    assert point > -1e9
    assert point < 1e9
    assert point > -1e9  # rounded
    for element in elements:
        whole = element / 3 + 1
        assert whole > -1e9  # rounded and saturated
        assert whole > -1e9
        assert whole < 1e9


def quantised_product(x: Any, columns: int, scaled: bool, tallies: dict[DType, Counter[str]]) -> Any:
    """The rows of x, quantised together, times a weight of int8 values."""
    dynamically_quantised(x)
    tally = x.flat[0].tally
    numbers(x.shape, tallies[WHOLE]) - 3  # the zero point
    if scaled:
        Number(1, tally) * 2  # both scales
    result = np.empty((len(x), columns), dtype=object)
    for place in np.ndindex(result.shape):
        numbers((x.shape[1],), tallies[INTEGERS]) * 2
        np.add.reduce(numbers((x.shape[1],), tallies[WHOLE]))
        result[place] = Number(0.5, tally) * 2
    return result


def quantised_lstm(
    sizes: tuple[int, int, int, int], directions: int, bias: bool, scaled: bool
) -> dict[DType, Counter[str]]:
    steps, batch, width, hidden = sizes
    tallies: dict[DType, Counter[str]] = {DType.FLOAT: Counter(), INTEGERS: Counter(), WHOLE: Counter()}
    tally = tallies[DType.FLOAT]
    apply = [np.frompyfunc(function, 1, 1) for function in (sigmoid, tanh)]
    for _ in range(directions):
        inputs = quantised_product(numbers((steps * batch, width), tally), 4 * hidden, scaled, tallies)
        cell = numbers((batch, hidden), tally)
        state = numbers((batch, hidden), tally)
        for step in range(steps):
            rows = inputs[step * batch : (step + 1) * batch]
            gates = rows + quantised_product(state, 4 * hidden, scaled, tallies)
            gates = gates + 0.5 + 0.5 if bias else gates
            i, o, f = (apply[0](gates[:, k * hidden : (k + 1) * hidden]) for k in range(3))
            cell = f * cell + i * apply[1](gates[:, 3 * hidden :])
            state = o * apply[1](cell)
    return tallies


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("sizes", SIZES)
def test_dynamic_quantize_lstm_equals_its_equations(
    sizes: tuple[int, int, int, int], directions: int, scaled: bool, bias: bool
) -> None:
    tallies = quantised_lstm(sizes, directions, bias, scaled)
    steps, batch, width, hidden = sizes
    counts = quantised_lstm_counts(sizes, directions, bias, None if scaled else np.ones(directions, np.float32))
    for dtype, tally in tallies.items():
        assert counts.of_dtype(dtype).basic_operations() == as_basic_operations(tally), dtype
    assert counts.macs == directions * steps * batch * 4 * hidden * (width + hidden)


def quantised_lstm_counts(
    sizes: tuple[int, int, int, int], directions: int, bias: bool, scale: Any, point: int = 0
) -> Counts:
    steps, batch, width, hidden = sizes
    rule = find_rule("DynamicQuantizeLSTM", "com.microsoft", 1)
    assert rule is not None and rule.function is not None
    scales = Tensor("s", DType.FLOAT, (directions,), scale)
    points = Tensor("p", INTEGERS, (directions,), np.full(directions, point, np.int8))
    inputs = (
        Tensor("x", DType.FLOAT, (steps, batch, width)),
        Tensor("w", INTEGERS, (directions, width, 4 * hidden)),
        Tensor("r", INTEGERS, (directions, hidden, 4 * hidden)),
        Tensor("b", DType.FLOAT, (directions, 8 * hidden)) if bias else None,
        *[None] * 4,
        *(scales, points, scales, points),
    )
    attributes = {"direction": "bidirectional" if directions == 2 else "forward", "hidden_size": hidden}
    return rule.function(Operator("n", "DynamicQuantizeLSTM", "com.microsoft", 1, inputs, (None,), attributes))


def test_dynamic_quantize_lstm_by_hand() -> None:
    counts = quantised_lstm_counts((2, 1, 3, 4), 1, False, np.ones(1, np.float32))
    expected = Counts.of(INTEGERS, mul=224, macs=224) + Counts.of(WHOLE, add=160, sub=14)
    expected += Counts.of(DType.FLOAT, add=94, sub=46, mul=104, div=60, root=40, compare=79)
    assert counts == expected
    shifted = quantised_lstm_counts((2, 1, 3, 4), 1, False, np.ones(1, np.float32), point=3)
    assert shifted == expected + Counts.of(WHOLE, sub=7 * 16)


def attention_lstm(
    sizes: tuple[int, int, int, int], memory: tuple[int, int, int], layer: int | None, directions: int
) -> Counter[str]:
    """AttnLSTM step by step: the cell sees [x, attention], then its state looks the memory through."""
    tally: Counter[str] = Counter()
    steps, batch, width, hidden = sizes
    length, depth, size = memory
    state_size = depth if layer is None else layer
    chosen = functions(list(DEFAULTS["LSTM"]), False, [], [])
    for _ in range(directions):
        w, r = numbers((4 * hidden, width + state_size), tally), numbers((4 * hidden, hidden), tally)
        for _ in range(batch):
            values = numbers((length, depth), tally)
            keys = np.matmul(values, numbers((depth, size), tally))
            h, c, attention = (numbers((n,), tally) for n in (hidden, hidden, state_size))
            for _ in range(steps):
                x = np.concatenate([numbers((width,), tally), attention])
                h, c = lstm_step(x, h, c, w, r, None, None, chosen, False, False)
                query = np.matmul(h, numbers((hidden, size), tally))
                scores = [np.add.reduce(numbers((size,), tally) * chosen[1](key + query)) for key in keys]
                top = scores[0]
                for score in scores[1:]:
                    top = score if score > top else top
                powers = np.array([(score - top).exp() for score in scores], dtype=object)
                weights = powers / np.add.reduce(powers)
                context = np.matmul(weights, values)
                attention = context
                if layer is not None:
                    joined = np.concatenate([h, context])
                    attention = np.matmul(joined, numbers((hidden + depth, layer), tally))
    return tally


def attention_lstm_inputs(
    sizes: tuple[int, int, int, int], memory: tuple[int, int, int], layer: int | None, directions: int
) -> list[Any]:
    steps, batch, width, hidden = sizes
    length, depth, size = memory
    state_size = depth if layer is None else layer
    inputs: list[Any] = [(steps, batch, width), (directions, 4 * hidden, width + state_size)]
    inputs += [(directions, 4 * hidden, hidden), *[None] * 5, (directions, hidden, size), (directions, depth, size)]
    inputs += [(directions, size), (batch, length, depth), (batch,)]
    return inputs if layer is None else [*inputs, (directions, depth + hidden, layer)]


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "memory", "layer"),
    [((2, 1, 3, 4), (3, 2, 5), None), ((2, 3, 1, 2), (4, 3, 2), 3), ((1, 1, 2, 1), (2, 1, 1), None)],
)
def test_attention_lstm_equals_its_equations(
    sizes: tuple[int, int, int, int], memory: tuple[int, int, int], layer: int | None, directions: int
) -> None:
    inputs = attention_lstm_inputs(sizes, memory, layer, directions)
    counts = count(operator("AttnLSTM", inputs, [None], domain="com.microsoft", hidden_size=sizes[3]))
    expected = as_basic_operations(attention_lstm(sizes, memory, layer, directions))
    assert counts.basic_operations() == expected


def test_attention_lstm_by_hand() -> None:
    inputs = attention_lstm_inputs((1, 1, 2, 1), (2, 1, 1), None, 1)
    counts = count(operator("AttnLSTM", inputs, [None], domain="com.microsoft", hidden_size=1))
    assert counts.macs == 4 * 4 + 2 + 1 + 2 + 2
    assert counts.total(BasicOp.MUL) == 23 + 3 + 2 + 2
