"""Activation rules against their formulas, evaluated on self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)
MICROSOFT = "com.microsoft"


def tensor(*shape: int, dtype: DType = DType.FLOAT, value: Any = None) -> Tensor:
    return Tensor("t", dtype, shape, None if value is None else np.asarray(value))


def counted(op_type: str, *inputs: Tensor | None, domain: str = "", **attributes: Any) -> Counts:
    """The count of one node, with the attribute defaults of the newest ai.onnx schema."""
    version = 28 if not domain else 1
    if not domain:
        schema = onnx.defs.get_schema(op_type, version, "")
        for name, attribute in schema.attributes.items():
            if attribute.default_value.name:
                attributes.setdefault(name, helper.get_attribute_value(attribute.default_value))
    rule = find_rule(op_type, domain, version)
    assert rule is not None and rule.function is not None and rule.family == "activation"
    return rule.function(Operator("n", op_type, domain, version, inputs, (), attributes))


def basic(op_type: str, *inputs: Tensor | None, domain: str = "", **attributes: Any) -> dict[str, int]:
    return counted(op_type, *inputs, domain=domain, **attributes).basic_operations()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def tanh(x: Any) -> Any:
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def softplus(x: Any) -> Any:
    return (1 + x.exp()).log()


def larger(x: Any, bound: float) -> Any:
    return x if x > bound else bound


def hard_sigmoid(x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    y = alpha * x + beta
    below, above = y < 0, y > 1
    return 0 if below else 1 if above else y


def costlier(x: Any, other: Any) -> Any:
    """x below zero is what every element is counted as: one comparison and the costlier side."""
    return (x < 0, other)[1]


# (operator, attributes, formula on one number)
FORMULAS: list[tuple[str, dict[str, Any], Any]] = [
    ("Relu", {}, lambda x: larger(x, 0)),
    ("ThresholdedRelu", {"alpha": 0.7}, lambda x: x if x > 0.7 else 0),
    ("LeakyRelu", {"alpha": 0.1}, lambda x: costlier(x, 0.1 * x)),
    ("Elu", {"alpha": 2.0}, lambda x: costlier(x, 2.0 * (x.exp() - 1))),
    ("Elu", {}, lambda x: costlier(x, x.exp() - 1)),
    ("Celu", {"alpha": 2.0}, lambda x: costlier(x, 2.0 * ((x / 2.0).exp() - 1))),
    ("Celu", {}, lambda x: costlier(x, x.exp() - 1)),
    ("Selu", {}, lambda x: 1.05 * costlier(x, 1.67 * x.exp() - 1.67)),
    ("Selu", {"alpha": 1.0, "gamma": 1.0}, lambda x: costlier(x, x.exp() - 1)),
    ("Sigmoid", {}, sigmoid),
    ("HardSigmoid", {}, hard_sigmoid),
    ("HardSwish", {}, lambda x: x * hard_sigmoid(x, 1 / 6, 0.5)),
    ("Tanh", {}, tanh),
    ("Softplus", {}, softplus),
    ("Softsign", {}, lambda x: x / (1 + larger(x, 0))),
    ("Mish", {}, lambda x: x * tanh(softplus(x))),
    ("Swish", {}, lambda x: x * sigmoid(x)),
    ("Swish", {"alpha": 2.0}, lambda x: x * sigmoid(2.0 * x)),
    ("Shrink", {"bias": 1.5, "lambd": 0.1}, lambda x: x + 1.5 if x < -0.1 else x - 1.5 if x > 0.1 else 0),
    ("Shrink", {"lambd": 0.1}, lambda x: x if x < -0.1 else x if x > 0.1 else 0),
    ("Gelu", {}, lambda x: x * sigmoid(1.702 * x)),
    ("Gelu", {"approximate": "tanh"}, lambda x: x * sigmoid(1.702 * x)),
]


@pytest.mark.parametrize("shape", [(2, 3), (1, 4, 2, 2), (), (0, 3)])
@pytest.mark.parametrize(("op_type", "attributes", "formula"), FORMULAS)
def test_against_oracle(op_type: str, attributes: dict[str, Any], formula: Any, shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    np.frompyfunc(formula, 1, 1)(numbers(shape, tally))
    assert basic(op_type, tensor(*shape), **attributes) == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("op_type", "formula"),
    [("Sigmoid", sigmoid), ("Tanh", tanh), ("Softplus", softplus), ("Mish", lambda x: x * tanh(softplus(x)))],
)
def test_formulas_compute_the_operator(op_type: str, formula: Any) -> None:
    """The oracle's formulas are the operators, by onnx's own reference implementation."""
    x = np.linspace(-2, 2, 9).astype(np.float32)
    node = helper.make_node(op_type, ["x"], ["y"])
    info = helper.make_tensor_value_info("x", 1, [9])
    graph = helper.make_graph([node], "g", [info], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    got = [formula(Number(value, Counter())).value for value in x]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [(3,), (1,), (2, 1)])
def test_prelu_against_oracle(slope: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    np.frompyfunc(lambda x, s: costlier(x, s * x), 2, 1)(numbers((2, 3), tally), numbers(slope, tally))
    assert basic("PRelu", tensor(2, 3), tensor(*slope)) == as_basic_operations(tally)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_swiglu_against_oracle(alpha: float) -> None:
    tally: Counter[str] = Counter()
    gated = np.frompyfunc(lambda a, b: a * sigmoid(a if alpha == 1 else alpha * a) * b, 2, 1)
    gated(numbers((2, 3), tally), numbers((2, 3), tally))
    assert basic("SwiGLU", tensor(2, 3), tensor(2, 3), alpha=alpha) == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "expected"),
    [
        ("Gelu", 1, {}, {"add": 8, "sub": 8, "mul": 16, "div": 8, "root": 8}),
        ("FastGelu", 1, {}, {"add": 8, "sub": 8, "mul": 16, "div": 8, "root": 8}),
        ("FastGelu", 2, {}, {"add": 16, "sub": 8, "mul": 16, "div": 8, "root": 8}),
        ("BiasGelu", 2, {}, {"add": 16, "sub": 8, "mul": 16, "div": 8, "root": 8}),
        ("QuickGelu", 1, {}, {"add": 8, "sub": 8, "mul": 16, "div": 8, "root": 8}),
        ("QuickGelu", 1, {"alpha": 1.0}, {"add": 8, "sub": 8, "mul": 8, "div": 8, "root": 8}),
        ("BiasAdd", 3, {}, {"add": 16}),
        ("BiasDropout", 2, {}, {"add": 8}),
        ("BiasDropout", 3, {}, {"add": 16}),
        ("BitmaskBiasDropout", 3, {}, {"add": 16}),
    ],
)
def test_contrib_by_hand(op_type: str, inputs: int, attributes: dict[str, Any], expected: dict[str, int]) -> None:
    given = [tensor(1, 2, 4), tensor(4), tensor(1, 2, 4)][:inputs]
    assert basic(op_type, *given, domain=MICROSOFT, **attributes) == NOTHING | expected


def test_contrib_against_oracle() -> None:
    tally: Counter[str] = Counter()
    x, bias = numbers((1, 2, 8), tally), numbers((8,), tally)
    left, right = np.split(x + bias, 2, axis=-1)
    left * np.frompyfunc(lambda v: v * sigmoid(1.702 * v), 1, 1)(right)
    assert basic("BiasSplitGelu", tensor(1, 2, 8), tensor(8), domain=MICROSOFT) == as_basic_operations(tally)
    tally.clear()
    np.frompyfunc(lambda v: v * sigmoid(1.702 * v), 1, 1)(x + bias)
    assert basic("BiasGelu", tensor(1, 2, 8), tensor(8), domain=MICROSOFT) == as_basic_operations(tally)
    tally.clear()
    x + bias + x
    assert basic("BiasAdd", tensor(1, 2, 8), tensor(8), tensor(1, 2, 8), domain=MICROSOFT) == as_basic_operations(tally)


@pytest.mark.parametrize("flag", [True, False])
def test_bias_dropout_in_training(flag: bool) -> None:
    """x + b, then one comparison with the ratio and one scaling per element, then the residual."""
    tally: Counter[str] = Counter()
    x, bias, draws, residual = (numbers((2, 4), tally, seed) for seed in range(4))
    scaled = x + bias
    if flag:
        np.greater_equal(draws, 0.5)
        scaled = scaled * 2.0
    scaled + residual
    training = tensor(dtype=DType.BOOL, value=flag)
    got = basic("BiasDropout", tensor(2, 4), tensor(4), tensor(2, 4), tensor(), training, domain=MICROSOFT)
    assert got == as_basic_operations(tally)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE])
def test_types(dtype: DType) -> None:
    assert counted("Relu", tensor(2, 3, dtype=dtype)).operations == {(dtype, BasicOp.COMPARE): 6}
    assert counted("Mish", tensor(2, 3, dtype=dtype)).dtypes == (dtype,)


def test_hard_sigmoid_factors_that_do_nothing_cost_nothing() -> None:
    assert basic("HardSigmoid", tensor(2, 3)) == NOTHING | {"mul": 6, "add": 6, "compare": 12}
    assert basic("HardSigmoid", tensor(2, 3), alpha=1.0, beta=0.0) == NOTHING | {"compare": 12}


def test_worked_examples() -> None:
    x = tensor(2, 3)
    assert basic("Relu", tensor(1, 64, 56, 56)) == NOTHING | {"compare": 200704}
    assert basic("LeakyRelu", x) == NOTHING | {"compare": 6, "mul": 6}
    assert basic("Elu", x, alpha=2.0) == NOTHING | {"compare": 6, "root": 6, "sub": 6, "mul": 6}
    assert basic("Selu", x) == NOTHING | {"compare": 6, "root": 6, "sub": 6, "mul": 12}
    assert basic("Sigmoid", x) == NOTHING | {"sub": 6, "root": 6, "add": 6, "div": 6}
    assert basic("HardSwish", x) == NOTHING | {"mul": 12, "add": 6, "compare": 12}
    assert basic("Tanh", x) == NOTHING | {"mul": 6, "root": 6, "sub": 6, "add": 6, "div": 6}
    assert basic("Softplus", x) == NOTHING | {"root": 12, "add": 6}
    assert basic("Softsign", x) == NOTHING | {"compare": 6, "add": 6, "div": 6}
    assert basic("Mish", x) == NOTHING | {"root": 18, "add": 12, "mul": 12, "sub": 6, "div": 6}
    assert basic("Swish", x) == NOTHING | {"sub": 6, "root": 6, "add": 6, "div": 6, "mul": 6}
    assert basic("Shrink", x, bias=1.5) == NOTHING | {"compare": 12, "sub": 6}
    assert basic("Gelu", x) == NOTHING | {"sub": 6, "root": 6, "add": 6, "div": 6, "mul": 12}
    assert basic("BiasSplitGelu", tensor(1, 2, 8), tensor(8), domain=MICROSOFT) == NOTHING | {
        "add": 24,
        "sub": 8,
        "mul": 24,
        "div": 8,
        "root": 8,
    }


def test_gelu_of_the_paper_is_close_to_gelu() -> None:
    """Eq. 5 counts x * sigmoid(1.702 x), which is GELU to within 0.021."""
    for x in np.linspace(-4, 4, 81):
        exact = 0.5 * x * (1 + math.erf(x / math.sqrt(2)))
        assert abs((x * sigmoid(Number(x, Counter()) * 1.702)).value - exact) < 0.021


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("given", ["attribute", "known", "unknown"])
def test_scaled_silu_equals_its_formula(scale: float, given: str) -> None:
    tally: Counter[str] = Counter()
    for x in numbers((6,), tally):
        z = x if scale == 1.0 and given != "unknown" else x * scale
        z * sigmoid(z)
    second = {"attribute": None, "known": tensor(value=scale), "unknown": tensor()}[given]
    attributes = {"alpha": scale} if given == "attribute" else {}
    counts = counted("ScaledSiLU", tensor(2, 3), second, domain=MICROSOFT, **attributes)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_scaled_silu_by_hand() -> None:
    counts = counted("ScaledSiLU", tensor(2, 3), domain=MICROSOFT, alpha=2.0)
    assert counts == Counts.of(DType.FLOAT, add=6, sub=6, mul=12, div=6, root=6)
