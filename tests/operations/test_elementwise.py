"""Elementwise rules against self-tallying numbers that go through numpy's own broadcasting loops."""

from __future__ import annotations

import functools
import math
import operator as python_operator
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers

NOTHING = dict.fromkeys(("add", "sub", "mul", "div", "root", "compare"), 0)


def tensor(*shape: int, dtype: DType = DType.FLOAT, value: Any = None) -> Tensor:
    if value is None:
        return Tensor("t", dtype, shape)
    known = np.asarray(value)
    return Tensor("t", DType.from_onnx(helper.np_dtype_to_tensor_dtype(known.dtype)), known.shape, known)


def operator(op_type: str, *inputs: Tensor | None, version: int = 26, **attributes: Any) -> Operator:
    """An operator whose output is what onnx infers and whose attributes have the defaults of the schema."""
    names = ["" if item is None else f"x{index}" for index, item in enumerate(inputs)]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    values, initializers = [], []
    for name, item in zip(names, inputs, strict=True):
        if item is None:
            continue
        values.append(helper.make_tensor_value_info(name, item.dtype.onnx_number, item.shape))
        if item.value is not None:
            initializers.append(numpy_helper.from_array(item.value, name))
    graph = helper.make_graph([node], "g", values, [onnx.ValueInfoProto(name="y")], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    output = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type
    shape = tuple(dim.dim_value for dim in output.shape.dim)
    schema = onnx.defs.get_schema(op_type, version, "")
    defaults = {
        name: helper.get_attribute_value(attribute.default_value)
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }
    outputs = (Tensor("y", DType.from_onnx(output.elem_type), shape),)
    return Operator("n", op_type, "", version, inputs, outputs, defaults | attributes)


def counted(op: Operator) -> Counts:
    rule = find_rule(op.op_type, op.domain, op.version)
    assert rule is not None and rule.function is not None
    return rule.function(op)


def basic(op_type: str, *inputs: Tensor | None, **options: Any) -> dict[str, int]:
    return counted(operator(op_type, *inputs, **options)).basic_operations()


PAIRS = [((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((3, 1), (1, 5)), ((), (2, 2)), ((0, 3), (3,)), ((1,), (1,))]


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize(
    ("op_type", "function"),
    [
        ("Add", np.add),
        ("Sub", np.subtract),
        ("Mul", np.multiply),
        ("Div", np.divide),
        ("Equal", np.equal),
        ("Less", np.less),
        ("LessOrEqual", np.less_equal),
        ("Greater", np.greater),
        ("GreaterOrEqual", np.greater_equal),
        ("Pow", np.frompyfunc(lambda x, y: (y * x.log()).exp(), 2, 1)),
        ("Mod", np.frompyfunc(lambda x, y: x - (x / y) * y, 2, 1)),
    ],
)
def test_binary_against_oracle(op_type: str, function: Any, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    function(numbers(left, tally, 1), numbers(right, tally, 2))
    attributes = {"fmod": 1} if op_type == "Mod" else {}
    assert basic(op_type, tensor(*left), tensor(*right), **attributes) == as_basic_operations(tally)


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (5,)])
@pytest.mark.parametrize(
    ("op_type", "function"),
    [
        ("Neg", lambda x: -x),
        ("Abs", lambda x: x if x > 0 else -x),
        ("Sign", lambda x: (x < 0, x > 0)),
        ("Reciprocal", lambda x: 1 / x),
        ("Sqrt", lambda x: x.sqrt()),
        ("Exp", lambda x: x.exp()),
        ("Log", lambda x: x.log()),
        ("Erf", lambda x: x.root(math.erf)),
        ("Sin", lambda x: x.root(math.sin)),
        ("Cos", lambda x: x.root(math.cos)),
        ("Tan", lambda x: x.root(math.tan)),
        ("Asin", lambda x: x.root(math.asin)),
        ("Acos", lambda x: x.root(math.acos)),
        ("Atan", lambda x: x.root(math.atan)),
        ("Sinh", lambda x: (lambda e: (e - 1 / e) / 2)(x.exp())),
        ("Cosh", lambda x: (lambda e: (e + 1 / e) / 2)(x.exp())),
        ("Asinh", lambda x: (x + (x * x + 1).sqrt()).log()),
        ("Acosh", lambda x: (x + (x * x - 1).sqrt()).log()),
        ("Atanh", lambda x: 0.5 * ((1 + x) / (1 - x)).log()),
    ],
)
def test_unary_against_oracle(op_type: str, function: Any, shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    with np.errstate(invalid="ignore"):  # acosh below one: the value does not matter here
        np.frompyfunc(function, 1, 1)(numbers(shape, tally))
    assert basic(op_type, tensor(*shape)) == as_basic_operations(tally)


@pytest.mark.parametrize("op_type", ["Sinh", "Cosh", "Asinh", "Acosh", "Atanh"])
def test_composed_functions_have_the_right_value(op_type: str) -> None:
    formulas = {
        "Sinh": lambda x: (math.exp(x) - 1 / math.exp(x)) / 2,
        "Cosh": lambda x: (math.exp(x) + 1 / math.exp(x)) / 2,
        "Asinh": lambda x: math.log(x + math.sqrt(x * x + 1)),
        "Acosh": lambda x: math.log(x + math.sqrt(x * x - 1)),
        "Atanh": lambda x: 0.5 * math.log((1 + x) / (1 - x)),
    }
    x = 1.25 if op_type == "Acosh" else 0.25
    assert formulas[op_type](x) == pytest.approx(getattr(math, op_type.lower())(x))


@pytest.mark.parametrize("op_type", ["Floor", "Ceil", "Round", "IsNaN", "IsInf"])
def test_one_compare_per_element(op_type: str) -> None:
    assert basic(op_type, tensor(2, 3, 4)) == NOTHING | {"compare": 24}
    assert basic(op_type, tensor(0, 3)) == NOTHING


def _power_by_squaring(x: Number, exponent: int) -> Number:
    """Right-to-left square-and-multiply."""
    result, square = None, x
    while True:
        if exponent % 2:
            result = square if result is None else result * square
        exponent //= 2
        if not exponent:
            assert result is not None
            return result
        square = square * square


@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 5, 6, 7, 8, 15, 31, 63, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_known_integer_powers_square_and_multiply(exponent: int, sign: int) -> None:
    tally: Counter[str] = Counter()
    for x in numbers((2, 3), tally):
        for y in x:
            power = _power_by_squaring(y, exponent)
            assert power.value == pytest.approx(y.value**exponent)
            if sign < 0:
                1 / power
    exponents = tensor(value=np.float32(sign * exponent))
    assert basic("Pow", tensor(2, 3), exponents) == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        (np.float32(2), {"mul": 10}),
        (np.array([3], np.int64), {"mul": 20}),
        (np.float32(1), {}),
        (np.float32(0), {}),
        (np.float32(0.5), {"root": 10}),
        (np.float32(-0.5), {"root": 10, "div": 10}),
        (np.float32(-1), {"div": 10}),
        (np.float32(1.7), {"root": 20, "mul": 10}),
        (np.float32(65), {"root": 20, "mul": 10}),
        (np.float32(np.inf), {"root": 20, "mul": 10}),
        (np.full((5,), 2, np.float32), {"root": 20, "mul": 10}),
    ],
)
def test_pow_by_hand(exponent: Any, expected: dict[str, int]) -> None:
    assert basic("Pow", tensor(2, 5), tensor(value=exponent)) == NOTHING | expected


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(2, 4), (), (0, 2)])
@pytest.mark.parametrize(("op_type", "function"), [("Sum", np.add), ("Max", np.maximum), ("Min", np.minimum)])
def test_variadic_against_oracle(op_type: str, function: Any, count: int, shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    functools.reduce(function, [numbers(shape, tally, seed) for seed in range(count)])
    assert basic(op_type, *[tensor(*shape)] * count) == as_basic_operations(tally)


def test_mean_by_hand() -> None:
    assert basic("Mean", *[tensor(2, 4)] * 3) == NOTHING | {"add": 16, "div": 8}
    assert basic("Mean", tensor(2, 4)) == NOTHING


def test_sum_broadcasts_to_the_output() -> None:
    assert basic("Sum", tensor(2, 1), tensor(1, 3), tensor(2, 3)) == NOTHING | {"add": 12}


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor"])
def test_logic_by_hand(op_type: str) -> None:
    counts = counted(operator(op_type, tensor(2, 3, dtype=DType.BOOL), tensor(3, dtype=DType.BOOL)))
    assert counts.operations == {(DType.BOOL, BasicOp.COMPARE): 6}


@pytest.mark.parametrize("op_type", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bitwise_by_hand(op_type: str) -> None:
    counts = counted(operator(op_type, tensor(2, 1, dtype=DType.INT16), tensor(3, dtype=DType.INT16)))
    assert counts.operations == {(DType.INT16, BasicOp.COMPARE): 6}


def test_not_and_shift_by_hand() -> None:
    assert counted(operator("Not", tensor(4, dtype=DType.BOOL))).operations == {(DType.BOOL, BasicOp.COMPARE): 4}
    assert counted(operator("BitwiseNot", tensor(4, dtype=DType.INT8))).operations == {(DType.INT8, BasicOp.COMPARE): 4}
    bits = tensor(2, 3, dtype=DType.UINT32)
    assert counted(operator("BitShift", bits, bits, direction="LEFT")).operations == {
        (DType.UINT32, BasicOp.COMPARE): 6
    }


def test_comparison_is_priced_at_the_operands() -> None:
    counts = counted(operator("Less", tensor(2, 3, dtype=DType.INT64), tensor(3, dtype=DType.INT64)))
    assert counts.operations == {(DType.INT64, BasicOp.COMPARE): 6}
    assert counted(operator("Equal", tensor(2, dtype=DType.BOOL), tensor(2, dtype=DType.BOOL))).dtypes == (DType.BOOL,)


def test_comparing_texts_is_lookup() -> None:
    """As for every operator of texts, no arithmetic is counted, however long the texts are."""
    words = tensor(2, dtype=DType.STRING)
    assert counted(operator("Equal", words, words)) == Counts()


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE, DType.INT32, DType.UINT8])
def test_arithmetic_keeps_its_type(dtype: DType) -> None:
    assert counted(operator("Add", tensor(2, 3, dtype=dtype), tensor(3, dtype=dtype))).operations == {
        (dtype, BasicOp.ADD): 6
    }


def test_where_is_movement() -> None:
    rule = find_rule("Where", "", 16)
    assert rule is not None
    assert (rule.function, rule.family, rule.traffic) == (None, "movement", "whole")


BOUND = np.float32(0)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((), 0), ((BOUND,), 6), ((None, BOUND), 6), ((BOUND, np.float32(6)), 12), ((None, None), 0)],
)
def test_clip_with_inputs(bounds: tuple[Any, ...], expected: int) -> None:
    inputs = [None if bound is None else tensor(value=bound) for bound in bounds]
    assert basic("Clip", tensor(2, 3), *inputs, version=13) == NOTHING | {"compare": expected}


@pytest.mark.parametrize("version", [1, 6])
@pytest.mark.parametrize(
    ("bounds", "expected"), [({}, 0), ({"min": 0.0}, 6), ({"max": 6.0}, 6), ({"min": 0.0, "max": 6.0}, 12)]
)
def test_clip_with_attributes(version: int, bounds: dict[str, float], expected: int) -> None:
    assert basic("Clip", tensor(2, 3), version=version, **bounds) == NOTHING | {"compare": expected}


def _scan(line: Any, function: Any, exclusive: bool) -> None:
    """A running result; nothing is computed before there are two terms."""
    terms = line[:-1] if exclusive else line
    running = None
    for term in terms:
        running = term if running is None else function(running, term)


@pytest.mark.parametrize(("op_type", "function"), [("CumSum", python_operator.add), ("CumProd", python_operator.mul)])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 5), 1), ((2, 5), 0), ((2, 5), -1), ((3, 1, 2), 1), ((7,), 0), ((2, 0), 1), ((2, 2, 2), -3)]
)
def test_scans_against_oracle(op_type: str, function: Any, exclusive: int, shape: tuple[int, ...], axis: int) -> None:
    tally: Counter[str] = Counter()
    x = np.moveaxis(numbers(shape, tally), axis, -1)
    for index in np.ndindex(x.shape[:-1]):
        _scan(x[index], function, bool(exclusive))
    got = basic(op_type, tensor(*shape), tensor(value=np.int64(axis)), exclusive=exclusive, reverse=1)
    assert got == as_basic_operations(tally)


def test_scan_by_hand_and_without_an_axis() -> None:
    assert basic("CumSum", tensor(2, 5), tensor(value=np.int64(1))) == NOTHING | {"add": 8}
    assert basic("CumSum", tensor(2, 5), tensor(value=np.int64(1)), exclusive=1) == NOTHING | {"add": 6}
    assert basic("CumSum", tensor(5), tensor(dtype=DType.INT64)) == NOTHING | {"add": 4}
    with pytest.raises(ShapeError, match="axis of CumSum is unknown"):
        basic("CumSum", tensor(2, 5), tensor(dtype=DType.INT64))
    with pytest.raises(ShapeError, match="axis 2 does not exist"):
        basic("CumSum", tensor(2, 5), tensor(value=np.int64(2)))


def _determinant(a: Any) -> Any:
    """Textbook elimination with partial pivoting; magnitudes are compared, all entries are positive at first."""
    size = len(a)
    for k in range(size):
        pivot = k
        for i in range(k + 1, size):
            if Number(abs(a[i][k].value), a[i][k].tally) > abs(a[pivot][k].value):
                pivot = i
        a[[k, pivot]] = a[[pivot, k]]
        for i in range(k + 1, size):
            factor = a[i][k] / a[k][k]
            for j in range(k + 1, size):
                a[i][j] = a[i][j] - factor * a[k][j]
    return functools.reduce(python_operator.mul, [a[k][k] for k in range(size)])


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (5, 5), (2, 3, 4, 4), (0, 3, 3)])
def test_determinant_against_oracle(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    batch = numbers(shape, tally, seed=4).reshape(-1, *shape[-2:])
    values = np.vectorize(lambda x: x.value, otypes=[float])(batch)
    for matrix, plain in zip(batch, values, strict=True):
        assert abs(_determinant(matrix).value) == pytest.approx(abs(np.linalg.det(plain)))
    assert basic("Det", tensor(*shape), version=22) == as_basic_operations(tally)


def test_determinant_by_hand() -> None:
    assert basic("Det", tensor(3, 3), version=22) == NOTHING | {"div": 3, "sub": 5, "mul": 7, "compare": 3}
    assert basic("Det", tensor(4, 0, 0), version=22) == NOTHING


def test_worked_examples() -> None:
    assert basic("Add", tensor(2, 3, 4), tensor(4)) == NOTHING | {"add": 24}
    assert basic("Mod", tensor(3, 4), tensor(4), fmod=1) == NOTHING | {"div": 12, "mul": 12, "sub": 12}
    assert basic("Neg", tensor(2, 3)) == NOTHING | {"sub": 6}
    assert basic("Sign", tensor(2, 3)) == NOTHING | {"compare": 12}
    assert basic("Reciprocal", tensor(2, 3)) == NOTHING | {"div": 6}
    assert basic("Max", *[tensor(2, 4)] * 3) == NOTHING | {"compare": 16}
    assert basic("Exp", tensor(2, 3)) == NOTHING | {"root": 6}
    assert basic("Sinh", tensor(2, 3)) == NOTHING | {"root": 6, "div": 12, "sub": 6}
    assert basic("Asinh", tensor(2, 3)) == NOTHING | {"mul": 6, "root": 12, "add": 12}


def test_an_unknown_shape_is_an_error() -> None:
    unknown = Operator("n", "Add", "", 14, (tensor(2), tensor(2)), (Tensor("y", DType.FLOAT, None),), {})
    with pytest.raises(ShapeError, match="shape of the output"):
        counted(unknown)


def contrib(op_type: str, *inputs: Tensor, output: tuple[int, ...]) -> Counts:
    made = (Tensor("y", inputs[0].dtype, output),)
    return counted(Operator("n", op_type, "com.microsoft", 1, inputs, made, {}))


@pytest.mark.parametrize("shape", [(2, 3), (1, 4, 5), (0, 3)])
def test_gated_add_equals_its_formula(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    numbers(shape, tally) + numbers(shape, tally) * numbers((*shape[:-1], 1), tally)
    counts = contrib("GatedAdd", tensor(*shape), tensor(*shape), tensor(*shape[:-1], 1), output=shape)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_gated_add_by_hand() -> None:
    counts = contrib("GatedAdd", tensor(2, 3), tensor(2, 3), tensor(2, 1), output=(2, 3))
    assert counts == Counts.of(DType.FLOAT, add=6, mul=6)


@pytest.mark.parametrize("op_type", ["ComplexMul", "ComplexMulConj"])
@pytest.mark.parametrize(("left", "right"), [((3, 2), (3, 2)), ((4, 3, 2), (3, 2)), ((2, 1, 2), (3, 2))])
def test_complex_products_equal_their_formula(op_type: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    a, b = np.moveaxis(numbers(left, tally), -1, 0)
    c, d = np.moveaxis(numbers(right, tally), -1, 0)
    parts = (a * c - b * d, a * d + b * c) if op_type == "ComplexMul" else (a * c + b * d, b * c - a * d)
    output = (*parts[0].shape, 2)
    counts = contrib(op_type, tensor(*left), tensor(*right), output=output)
    assert counts.basic_operations() == as_basic_operations(tally)


def test_complex_products_by_hand() -> None:
    counts = contrib("ComplexMul", tensor(3, 2), tensor(3, 2), output=(3, 2))
    assert counts == Counts.of(DType.FLOAT, add=3, sub=3, mul=12)


def test_is_all_finite_by_hand() -> None:
    half = tensor(4, dtype=DType.FLOAT16)
    counts = contrib("IsAllFinite", tensor(2, 3), half, output=())
    assert counts == Counts.of(DType.FLOAT, compare=6) + Counts.of(DType.FLOAT16, compare=4)
