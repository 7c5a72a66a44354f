"""Recurrent layers: back-propagation through time written out on self-tallying numbers, checked by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.training.registry import find_backward_rule
from onnx_aiwq.vocabulary import Counts, DType
from operators import operator
from training.autodiff import Case, Run, by_differences, executed, total

RANDOM = np.random.default_rng(5)
STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def through_sigmoid(gradient: Any, y: Any) -> Any:
    return gradient * y * (1 - y)


def through_tanh(gradient: Any, y: Any) -> Any:
    return gradient * (1 - y * y)


def order(direction: int, steps: int) -> list[int]:
    return list(range(steps))[:: -1 if direction else 1]


def lstm_steps(x: Any, w: Any, r: Any, b: Any, p: Any, coupled: bool) -> list[dict[str, Any]]:
    """Forward pass of one direction; everything that training saves."""
    n = r.shape[-1]
    h = c = np.zeros((x.shape[1], n))
    pi, po, pf = p
    saved = []
    for data in x:
        z = data @ w.T + h @ r.T + b
        gates = np.split(z, w.shape[0] // n, axis=1)
        i = sigmoid(gates[0] + pi * c)
        f = 1 - i if coupled else sigmoid(gates[2] + pf * c)
        candidate = np.tanh(gates[-1])
        new = f * c + i * candidate
        o = sigmoid(gates[1] + po * new)
        saved.append({"x": data, "h": h, "c": c, "i": i, "f": f, "g": candidate, "o": o, "t": np.tanh(new)})
        h, c = o * np.tanh(new), new
        saved[-1]["new"], saved[-1]["out"] = c, h
    return saved


def gru_steps(x: Any, w: Any, r: Any, wb: Any, rb: Any, linear: bool) -> list[dict[str, Any]]:
    n = r.shape[-1]
    h = np.zeros((x.shape[1], n))
    saved = []
    for data in x:
        a = data @ w.T + wb
        z = sigmoid(a[:, :n] + h @ r[:n].T + rb[:n])
        reset = sigmoid(a[:, n : 2 * n] + h @ r[n : 2 * n].T + rb[n : 2 * n])
        q = h @ r[2 * n :].T + rb[2 * n :]
        inner = reset * q if linear else (reset * h) @ r[2 * n :].T + rb[2 * n :]
        candidate = np.tanh(a[:, 2 * n :] + inner)
        saved.append({"x": data, "h": h, "z": z, "r": reset, "q": q, "g": candidate})
        h = (1 - z) * candidate + z * h
        saved[-1]["out"] = h
    return saved


def rnn_steps(x: Any, w: Any, r: Any, b: Any) -> list[dict[str, Any]]:
    h = np.zeros((x.shape[1], r.shape[-1]))
    saved = []
    for data in x:
        saved.append({"x": data, "h": h})
        h = np.tanh(data @ w.T + h @ r.T + b)
        saved[-1]["out"] = h
    return saved


def steps_of(op_type: str, attributes: Any, d: int, x: Any, w: Any, r: Any, b: Any, p: Any) -> list[dict[str, Any]]:
    rows = w.shape[1]
    x = x[::-1] if d else x
    wb, rb = b[d, :rows], b[d, rows:]
    if op_type == "RNN":
        return rnn_steps(x, w[d], r[d], wb + rb)
    if op_type == "GRU":
        return gru_steps(x, w[d], r[d], wb, rb, bool(attributes.get("linear_before_reset")))
    peepholes = np.split(p[d], 3) if p is not None else (0.0, 0.0, 0.0)
    return lstm_steps(x, w[d], r[d], wb + rb, peepholes, bool(attributes.get("input_forget")))


def forward_of(op_type: str, attributes: Any) -> Any:
    def forward(
        x: Any, w: Any, r: Any, b: Any, _lens: Any = None, _h: Any = None, _c: Any = None, p: Any = None
    ) -> Any:
        y = np.zeros((x.shape[0], w.shape[0], x.shape[1], r.shape[-1]))
        for d in range(w.shape[0]):
            saved = steps_of(op_type, attributes, d, x, w, r, b, p)
            for t, step in zip(order(d, x.shape[0]), saved, strict=True):
                y[t, d] = step["out"]
        return y

    return forward


def lstm_gates(s: Any, dh: Any, dc: Any, p: Any, coupled: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Gate gradients in the order i, o, (f,) c; the gradient of the previous C; terms of dP."""
    extra = {}
    do = through_sigmoid(dh * s["t"], s["o"])
    dc = dc + through_tanh(dh * s["o"], s["t"])
    if p is not None:
        dc = dc + do * p[1]
        extra["o"] = do * s["new"]
    previous = dc * s["f"]
    if coupled:
        gates = [through_sigmoid(dc * s["g"] - dc * s["c"], s["i"]), do]
    else:
        gates = [through_sigmoid(dc * s["g"], s["i"]), do, through_sigmoid(dc * s["c"], s["f"])]
    gates.append(through_tanh(dc * s["i"], s["g"]))
    if p is not None:
        extra["i"] = gates[0] * s["c"]
        previous = previous + gates[0] * p[0]
        if not coupled:
            extra["f"] = gates[2] * s["c"]
            previous = previous + gates[2] * p[2]
    return gates, previous, extra


def lstm_backward(r: Run, d: int) -> dict[str, Any]:
    x, w, rec, b = r.floats[:4]
    p = r.floats[7] if len(r.floats) > 7 else None
    coupled = bool(r.attributes.get("input_forget"))
    peep = None if p is None else [r.save(each) for each in np.split(p[d], 3)]
    saved = steps_of("LSTM", r.attributes, d, x, w, rec, b, p)
    dh, dc = (r.save(np.zeros((x.shape[1], rec.shape[-1]))) for _ in range(2))
    rows, dxs, peeps = [], {}, []
    for t, step in reversed(list(zip(order(d, len(saved)), saved, strict=True))):
        s = {name: r.save(value) for name, value in step.items()}
        gates, dc, extra = lstm_gates(s, r.save(r.incoming[t, d]) + dh, dc, peep, coupled)
        a = np.concatenate(gates, axis=1)
        dh, dxs[t] = a @ r.save(rec[d]), a @ r.save(w[d])
        rows.append((a, s["x"], s["h"]))
        peeps.append(extra)
    result = weights(rows, dxs)
    if p is not None:
        parts = [total(np.concatenate([each[k] for each in peeps])) for k in "iof" if k in peeps[0]]
        result["p"] = np.concatenate([*parts, *[r.save(np.zeros(p.shape[1] // 3))] * (3 - len(parts))])
    return result


def weights(rows: list[Any], dxs: dict[int, Any]) -> dict[str, Any]:
    """Gradients of W, R and B from the gate gradients of all steps and sequences."""
    a, x, h = (np.concatenate(each) for each in zip(*rows, strict=True))
    bias = total(a)
    return {"x": dxs, "w": a.T @ x, "r": a.T @ h, "b": np.concatenate([bias, bias])}


def gru_backward(r: Run, d: int) -> dict[str, Any]:
    x, w, rec, b = r.floats[:4]
    n, linear = rec.shape[-1], bool(r.attributes.get("linear_before_reset"))
    saved = steps_of("GRU", r.attributes, d, x, w, rec, b, None)
    dh = r.save(np.zeros((x.shape[1], n)))
    rows, recurrent, dxs = [], [], {}
    matrix = r.save(rec[d])
    for t, step in reversed(list(zip(order(d, len(saved)), saved, strict=True))):
        s = {name: r.save(value) for name, value in step.items()}
        dh = r.save(r.incoming[t, d]) + dh
        az = through_sigmoid(dh * (s["h"] - s["g"]), s["z"])
        ah = through_tanh(dh * r.save(1 - step["z"]), s["g"])
        if linear:
            dq, ar = ah * s["r"], through_sigmoid(ah * s["q"], s["r"])
            state = np.concatenate([az, ar, dq], axis=1)
            dh = dh * s["z"] + state @ matrix
            recurrent.append(("all", state, s["h"]))
        else:
            q = ah @ matrix[2 * n :]
            ar = through_sigmoid(q * s["h"], s["r"])
            state = np.concatenate([az, ar], axis=1)
            dh = dh * s["z"] + state @ matrix[: 2 * n] + q * s["r"]
            recurrent.append((ah, state, s["h"], r.save(step["r"] * step["h"])))
        a = np.concatenate([az, ar, ah], axis=1)
        dxs[t] = a @ r.save(w[d])
        rows.append((a, s["x"]))
    a, data = (np.concatenate(each) for each in zip(*rows, strict=True))
    bias = total(a)
    if linear:
        state, h = (np.concatenate([each[k] for each in recurrent]) for k in (1, 2))
        other = np.concatenate([bias[: 2 * n], total(state[:, 2 * n :])])
        dr = state.T @ h
    else:
        ah, state, h, rh = (np.concatenate([each[k] for each in recurrent]) for k in range(4))
        other, dr = bias, np.concatenate([state.T @ h, ah.T @ rh])
    return {"x": dxs, "w": a.T @ data, "r": dr, "b": np.concatenate([bias, other])}


def rnn_backward(r: Run, d: int) -> dict[str, Any]:
    x, w, rec, b = r.floats[:4]
    saved = steps_of("RNN", r.attributes, d, x, w, rec, b, None)
    dh = r.save(np.zeros((x.shape[1], rec.shape[-1])))
    rows, dxs = [], {}
    for t, step in reversed(list(zip(order(d, len(saved)), saved, strict=True))):
        a = through_tanh(r.save(r.incoming[t, d]) + dh, r.save(step["out"]))
        dh, dxs[t] = a @ r.save(rec[d]), a @ r.save(w[d])
        rows.append((a, r.save(step["x"]), r.save(step["h"])))
    return weights(rows, dxs)


BACKWARD = {"LSTM": lstm_backward, "GRU": gru_backward, "RNN": rnn_backward}


def through_time(op_type: str) -> Any:
    def backward(r: Run) -> Any:
        parts = [BACKWARD[op_type](r, d) for d in range(r.floats[1].shape[0])]
        dx = [np.add.reduce(np.array([part["x"][t] for part in parts])) for t in range(r.floats[0].shape[0])]
        result = {0: np.array(dx), **{k: np.array([part[name] for part in parts]) for k, name in enumerate("wrb", 1)}}
        return result | ({7: np.array([part["p"] for part in parts])} if "p" in parts[0] else {})

    return backward


def case(op_type: str, directions: int = 1, *, peepholes: bool = False, **attributes: Any) -> Case:
    rows = (GATES[op_type] - bool(attributes.get("input_forget"))) * HIDDEN

    def some(*shape: int) -> Any:
        return RANDOM.uniform(-0.5, 0.5, shape)

    inputs: tuple[Any, ...] = (
        some(STEPS, BATCH, WIDTH),
        some(directions, rows, WIDTH),
        some(directions, rows, HIDDEN),
        some(directions, 2 * rows),
    )
    if peepholes:
        inputs = (*inputs, None, None, None, some(directions, 3 * HIDDEN))
    attributes = {"hidden_size": HIDDEN, "direction": "bidirectional" if directions == 2 else "forward", **attributes}
    return Case(op_type, inputs, through_time(op_type), attributes, forward=forward_of(op_type, attributes))


CASES = [
    case("LSTM"),
    case("LSTM", 2),
    case("LSTM", peepholes=True),
    case("LSTM", input_forget=1),
    case("LSTM", 2, peepholes=True, input_forget=1),
    case("GRU"),
    case("GRU", linear_before_reset=1),
    case("GRU", 2, linear_before_reset=1),
    case("RNN"),
    case("RNN", 2),
]


def label(each: Case) -> str:
    return f"{each.op_type}-{len(each.inputs)}-{each.attributes}"


@pytest.mark.parametrize("each", CASES, ids=label)
def test_back_propagation_through_time(each: Case) -> None:
    tally, gradients, run = executed(each)
    for position, gradient in gradients.items():
        assert_allclose(gradient, by_differences(each, position, run.incoming), rtol=1e-4, atol=1e-6)
    rule = find_backward_rule(each.op_type, "")
    assert rule is not None and rule.function is not None
    # In the layout of ONNX the output has the directions behind the steps.
    counts = rule.function(each.operator(run.result), frozenset(gradients))
    assert counts.basic_operations() == tally
    pairs = STEPS * BATCH * each.inputs[1].shape[0] * each.inputs[1].shape[1]
    assert counts.macs == pairs * (2 * WIDTH + 2 * HIDDEN)


@pytest.mark.parametrize("wanted", [{0}, {1}, {2}, {3}, {0, 2}])
def test_only_wanted_gradients_are_counted(wanted: set[int]) -> None:
    full = case("LSTM")
    op = full.operator(full.evaluate(list(full.inputs)))
    rule = find_backward_rule("LSTM", "")
    assert rule is not None and rule.function is not None
    nothing = rule.function(op, frozenset())
    parts = [rule.function(op, frozenset({k})) for k in wanted]
    together = rule.function(op, frozenset(wanted))
    assert together + nothing * (len(parts) - 1) == sum(parts, Counts())
    assert together != nothing


def gradient(op_type: str, *shapes: Any, **attributes: Any) -> Counts:
    rule = find_backward_rule(op_type, "")
    assert rule is not None and rule.function is not None
    return rule.function(operator(op_type, list(shapes), [None], **attributes), frozenset({0, 1, 2, 3}))


def test_by_hand() -> None:
    lstm = gradient("LSTM", (2, 1, 3), (1, 16, 3), (1, 16, 4), (1, 32))
    assert lstm == Counts.of(DType.FLOAT, mul=576, add=354, sub=40, macs=448)
    gru = gradient("GRU", (2, 1, 3), (1, 12, 3), (1, 12, 4), (1, 24))
    assert gru == Counts.of(DType.FLOAT, mul=424, add=266, sub=32, macs=336)
    rnn = gradient("RNN", (2, 1, 3), (1, 4, 3), (1, 4, 4), (1, 8))
    assert rnn == Counts.of(DType.FLOAT, mul=128, add=82, sub=8, macs=112)


def test_other_activations_are_counted_or_named() -> None:
    shapes = (2, 1, 3), (1, 4, 3), (1, 4, 4), (1, 8)
    assert gradient("RNN", *shapes, activations=("Relu",)) == Counts.of(DType.FLOAT, mul=112, add=82, macs=112)
    with pytest.raises(ShapeError, match="ScaledTanh"):
        gradient("RNN", *shapes, activations=("ScaledTanh",))
