"""Optimiser rules against the pseudo code of their definitions, run on self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

DOMAIN = "ai.onnx.preview.training"
NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)
ROLES = {"Adam": 4, "Adagrad": 3, "Momentum": 3}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Adam": {"alpha": 0.9, "beta": 0.999, "epsilon": 1e-6, "norm_coefficient": 0.0, "norm_coefficient_post": 0.0},
    "Adagrad": {"decay_factor": 0.0, "epsilon": 1e-6, "norm_coefficient": 0.0},
    "Momentum": {"alpha": 0.9, "beta": 0.5, "mode": "standard", "norm_coefficient": 0.0},
}


def counted(op_type: str, *shapes: tuple[int, ...], **attributes: Any) -> Counts:
    """One step that updates a parameter of each shape."""
    rate, count = Tensor("R", DType.FLOAT, ()), Tensor("T", DType.INT64, ())
    tensors = [Tensor(f"t{role}_{i}", DType.FLOAT, s) for role in range(ROLES[op_type]) for i, s in enumerate(shapes)]
    rule = find_rule(op_type, DOMAIN, 1)
    assert rule is not None and rule.function is not None and rule.family == "training"
    given = DEFAULTS[op_type] | attributes
    return rule.function(Operator("n", op_type, DOMAIN, 1, (rate, count, *tensors), (), given))


def regularized(x: Any, g: Any, n: float) -> Any:
    if n == 0:
        return g
    return (x if n == 1 else n * x) + g


def power(base: float, t: Number) -> Number:
    """base ^ t as exp(t log base)."""
    return (t * Number(base, t.tally).log()).exp()


def adam(state: list[list[Any]], rate: Number, t: Number, a: dict[str, Any]) -> None:
    adjusted = rate
    if t > 0:
        adjusted = rate * (1 - power(a["beta"], t)).sqrt() / (1 - power(a["alpha"], t))
    for x, g, v, h in state:
        g = regularized(x, g, a["norm_coefficient"])
        v = a["alpha"] * v + (1 - a["alpha"]) * g
        h = a["beta"] * h + (1 - a["beta"]) * g * g
        new = x - adjusted * v / (h.sqrt() + a["epsilon"])
        if a["norm_coefficient_post"]:
            new = (1 - a["norm_coefficient_post"]) * new


def adagrad(state: list[list[Any]], rate: Number, t: Number, a: dict[str, Any]) -> None:
    d = a["decay_factor"]
    if d:
        rate = rate / (1 + (t if d == 1 else t * d))
    for x, g, h in state:
        g = regularized(x, g, a["norm_coefficient"])
        h = h + g * g
        x - rate * g / (h.sqrt() + a["epsilon"])


def momentum(state: list[list[Any]], rate: Number, t: Number, a: dict[str, Any]) -> None:
    beta = a["beta"] if t > 0 else 1.0
    for x, g, v in state:
        g = regularized(x, g, a["norm_coefficient"])
        v = (v if a["alpha"] == 1 else a["alpha"] * v) + (g if beta == 1 else beta * g)
        if a["mode"] == "nesterov":
            x - rate * (g + (v if a["alpha"] == 1 else a["alpha"] * v))
        else:
            x - rate * v


STEPS = {"Adam": adam, "Adagrad": adagrad, "Momentum": momentum}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"norm_coefficient": 0.01}),
    ("Adam", {"norm_coefficient": 1.0, "norm_coefficient_post": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"norm_coefficient": 0.01, "decay_factor": 0.1}),
    ("Adagrad", {"norm_coefficient": 1.0, "decay_factor": 1.0}),
    ("Momentum", {}),
    ("Momentum", {"mode": "nesterov"}),
    ("Momentum", {"alpha": 1.0, "beta": 1.0}),
    ("Momentum", {"alpha": 1.0, "mode": "nesterov", "norm_coefficient": 0.01}),
]


@pytest.mark.parametrize("shapes", [((3,),), ((2, 3), (4,)), ((), (1, 5), (2,)), ((0, 3),)])
@pytest.mark.parametrize(("op_type", "attributes"), CASES)
def test_against_oracle(op_type: str, attributes: dict[str, Any], shapes: tuple[tuple[int, ...], ...]) -> None:
    tally: Counter[str] = Counter()
    state = []
    for shape in shapes:
        roles = [numbers(shape, tally, seed).reshape(-1) for seed in range(ROLES[op_type])]
        state += [list(values) for values in zip(*roles, strict=True)]
    STEPS[op_type](state, Number(0.1, tally), Number(3, tally), DEFAULTS[op_type] | attributes)
    assert counted(op_type, *shapes, **attributes).basic_operations() == as_basic_operations(tally)


def test_worked_examples() -> None:
    assert counted("Adam", (100,)).basic_operations() == {
        "add": 300,
        "sub": 102,
        "mul": 603,
        "div": 101,
        "root": 105,
        "compare": 1,
    }
    assert counted("Adagrad", (100,)).basic_operations() == NOTHING | {
        "add": 200,
        "sub": 100,
        "mul": 200,
        "div": 100,
        "root": 100,
    }
    assert counted("Momentum", (100,)).basic_operations() == NOTHING | {
        "add": 100,
        "sub": 100,
        "mul": 300,
        "compare": 1,
    }


def test_the_update_count_is_compared_at_its_own_type() -> None:
    for op_type in ("Adam", "Momentum"):
        assert counted(op_type, (3,)).operations[DType.INT64, BasicOp.COMPARE] == 1


def test_the_decomposed_power_has_the_right_value() -> None:
    assert power(0.9, Number(3, Counter())).value == pytest.approx(math.pow(0.9, 3))
