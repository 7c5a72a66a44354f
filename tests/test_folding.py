"""Shape arithmetic with formulas against the reference evaluator of onnx on the numbers that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.graph.folding import _BY_FORMULA, _BY_NUMPY, Array, evaluate
from onnx_aiwq.symbolic import Formula, at_least, at_most, evaluated, symbol

VERSION = 20
A, B, C = (symbol(name) for name in "abc")
POINTS = [
    {"a": a, "b": b, "c": c}
    for a, b, c in ((1, 1, 1), (2, 1, 5), (1, 7, 2), (3, 3, 3), (8, 5, 13), (64, 197, 4096), (2, 100, 1))
]
Input: TypeAlias = "np.ndarray[Any, Any] | None"


def objects(*elements: Any, shape: Sequence[int] | None = None) -> Array:
    """An array of formulas and ints."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array if shape is None else array.reshape(shape)


def numbers(*elements: int) -> Array:
    return np.asarray(elements, dtype=np.int64)


def scalar(element: Any) -> Array:
    return objects(element, shape=())


def at_point(array: Array, values: dict[str, int], dtype: Any) -> Array:
    flat = [evaluated(element, values) for element in array.reshape(-1).tolist()]
    return np.asarray(flat, dtype=dtype).reshape(array.shape)


def folded(op_type: str, inputs: Sequence[Input], outputs: int = 1, version: int = VERSION, **attributes: Any) -> Any:
    names = ["" if each is None else f"x{index}" for index, each in enumerate(inputs)]
    node = helper.make_node(op_type, names, [f"y{index}" for index in range(outputs)], **attributes)
    return evaluate(node, version, inputs)


def reference(op_type: str, inputs: Sequence[Input], outputs: int, version: int, **attributes: Any) -> list[Array]:
    names = ["" if each is None else f"x{index}" for index, each in enumerate(inputs)]
    node = helper.make_node(op_type, names, [f"y{index}" for index in range(outputs)], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [onnx.ValueInfoProto(name=name) for name in names if name],
        [onnx.ValueInfoProto(name=name) for name in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=9)
    feeds = {name: each for name, each in zip(names, inputs, strict=True) if each is not None}
    return [np.asarray(each) for each in ReferenceEvaluator(model).run(None, feeds)]


def compare(
    op_type: str,
    inputs: Sequence[Input],
    outputs: int = 1,
    version: int = VERSION,
    points: Sequence[dict[str, int]] = POINTS,
    **attributes: Any,
) -> list[Array]:
    """Fold with formulas, and compare at every point with the evaluator on numbers."""
    found = folded(op_type, inputs, outputs, version, **attributes)
    assert len(found) == outputs, f"{op_type} is not folded"
    for values in points:
        plain = [None if each is None else at_point(each, values, np.int64) if each.dtype == object else each
                 for each in inputs]  # fmt: skip
        for symbolic, exact in zip(found, reference(op_type, plain, outputs, version, **attributes), strict=True):
            assert symbolic.shape == exact.shape
            dtype = np.int64 if symbolic.dtype == object else symbolic.dtype
            assert (np.dtype(dtype).kind == "b") is (exact.dtype.kind == "b")
            np.testing.assert_array_equal(at_point(symbolic, values, dtype), exact, err_msg=f"{values}")
    return list(found)


COMPARED: set[str] = set()


def case(op_type: str, inputs: Sequence[Input], /, **more: Any) -> Any:
    """One comparison; the names of the operators are collected, so that none of the table is forgotten."""
    COMPARED.add(op_type)
    shapes = "x".join("none" if each is None else str(list(each.shape)).replace(" ", "") for each in inputs)
    extra = ",".join(f"{key}={value}" for key, value in more.items() if key != "points")
    return pytest.param(op_type, inputs, more, id=f"{op_type}-{shapes}-{extra}")


VECTOR = objects(A, 3, B * 2, A + C, 0, 7)
MATRIX = objects(A, 1, B, C * A, 5, A - B, shape=(2, 3))
CUBE = objects(*(A * index + B for index in range(12)), shape=(2, 3, 2))
FEW = objects(A, B, C)
FAR = 2**63 - 1
MULTIPLES = [{"a": 4, "b": 4, "c": 2}, {"a": 8, "b": 12, "c": 6}]

BINARY = [
    case(op_type, inputs)
    for op_type in ("Add", "Sub", "Mul")
    for inputs in (
        (FEW, FEW),
        (FEW, scalar(A)),
        (scalar(A), numbers(2, 3)),
        (numbers(2, -3), scalar(A)),
        (MATRIX, FEW),
        (MATRIX, objects(A, 4, shape=(2, 1))),
        (objects(A, B, shape=(2, 1)), objects(1, C, 4, shape=(1, 3))),
        (CUBE, MATRIX.T),
        (objects(), scalar(A)),
        (scalar(A), scalar(-4)),
    )
]
DIVISIONS = [
    *(case("Div", (FEW, numbers(2))), case("Div", (FEW, objects(C))), case("Div", (numbers(100), FEW))),
    *(case("Div", (-FEW, numbers(3))), case("Div", (FEW, numbers(-3))), case("Div", (-FEW, numbers(-2)))),
    *(case("Div", (-FEW, objects(B))), case("Div", (objects(at_least(A - 3, 0)), numbers(2)))),
    *(case("Div", (objects(A * B, A * B * 6), objects(A, B * 2))), case("Div", (numbers(-7), FEW))),
    *(case("Div", (objects(1 - A), numbers(2))), case("Div", (FEW - 1, numbers(4)))),
    *(case("Mod", (FEW, numbers(3))), case("Mod", (FEW, objects(C))), case("Mod", (numbers(100), FEW))),
    *(case("Mod", (-FEW, numbers(3))), case("Mod", (FEW, numbers(-3))), case("Mod", (objects(A - B), numbers(4)))),
    *(case("Mod", (FEW, numbers(3)), fmod=1), case("Mod", (-FEW, numbers(3)), fmod=1)),
    *(case("Mod", (FEW, numbers(-3)), fmod=1), case("Mod", (numbers(-7), FEW), fmod=1)),
]
ELEMENTS = [
    *(case("Neg", (FEW,)), case("Neg", (scalar(A - B),)), case("Identity", (MATRIX,))),
    *(case("Max", (FEW,)), case("Max", (FEW, numbers(4))), case("Max", (FEW, objects(B, A, C), scalar(3)))),
    *(case("Min", (FEW,)), case("Min", (numbers(512), FEW)), case("Min", (MATRIX, FEW, numbers(9), scalar(B)))),
    *(case("Equal", (FEW, FEW)), case("Equal", (FEW, numbers(0))), case("Equal", (FEW + 1, FEW))),
    *(case("Equal", (objects(A, 4), numbers(-1, 4))), case("Equal", (FEW, numbers(-1)))),
    *(case("Less", (FEW, numbers(1))), case("Less", (FEW, FEW + 1)), case("Less", (numbers(0), FEW))),
    *(case("Greater", (FEW, numbers(0))), case("Greater", (FEW * 2, FEW)), case("Greater", (FEW, FEW))),
    *(case("LessOrEqual", (FEW, FEW)), case("LessOrEqual", (numbers(1), FEW))),
    *(case("GreaterOrEqual", (FEW, numbers(1))), case("GreaterOrEqual", (FEW * B, FEW))),
    case("Where", (np.asarray([True, False, True]), FEW, numbers(7))),
    case("Where", (np.asarray([[True], [False]]), FEW, MATRIX)),
    case("Where", (np.asarray(True), scalar(A), numbers(1, 2))),
    *(case("Cast", (FEW,), to=7), case("Cast", (scalar(A),), to=6)),
]
SHAPES = [
    *(case("Concat", (FEW, numbers(1), objects(A * B)), axis=0), case("Concat", (MATRIX, MATRIX * 2), axis=1)),
    *(case("Concat", (MATRIX, MATRIX), axis=-2), case("Concat", (objects(), FEW), axis=-1)),
    case("Concat", (FEW,), axis=0),
    *(case("Expand", (FEW, numbers(2, 3))), case("Expand", (scalar(A), numbers(4)))),
    *(case("Expand", (objects(A, B, shape=(2, 1)), numbers(3))), case("Expand", (MATRIX, numbers(1)))),
    *(case("Gather", (VECTOR, np.asarray(index))) for index in (0, 3, -1, -6)),
    *(case("Gather", (VECTOR, numbers(0, -1, 2))), case("Gather", (VECTOR, numbers(1).reshape(1, 1)))),
    *(case("Gather", (MATRIX, numbers(2, 0)), axis=axis) for axis in (1, -1)),
    *(case("Gather", (CUBE, np.asarray(-1)), axis=axis) for axis in (0, 1, 2, -2)),
    *(case("Reshape", (MATRIX, numbers(*shape))) for shape in ((6,), (3, 2), (-1,), (0, -1), (0, 3))),
    *(case("Reshape", (CUBE, numbers(*shape))) for shape in ((0, 0, -1), (-1, 0), (0, -1), (4, 3))),
    *(case("Reshape", (scalar(A), numbers(1))), case("Reshape", (objects(A), numbers()))),
    case("Reshape", (MATRIX, numbers(3, 2)), allowzero=1),
    *(case("Squeeze", (objects(A, B, shape=(1, 2, 1)), axes))
      for axes in (None, numbers(0), numbers(-1), numbers(0, 2))),
    *(case("Squeeze", (objects(A, shape=(1, 1)),), version=11), case("Squeeze", (objects(A),), version=11, axes=[0])),
    *(case("Unsqueeze", (FEW, numbers(*axes))) for axes in ((0,), (1,), (-1,), (0, 2), (-1, 0))),
    *(case("Unsqueeze", (scalar(A), numbers(0))), case("Unsqueeze", (MATRIX, numbers(0, -1)))),
    *(case("Unsqueeze", (FEW,), version=11, axes=[0, 2]), case("Unsqueeze", (scalar(A),), version=11, axes=[0])),
    *(case("Split", (VECTOR, numbers(1, 2, 3)), outputs=3), case("Split", (VECTOR, numbers(0, 6)), outputs=2)),
    *(case("Split", (MATRIX, numbers(1, 2)), outputs=2, axis=axis) for axis in (1, -1)),
]  # fmt: skip
SLICES = [
    *(
        case("Slice", (VECTOR, numbers(start), numbers(end), numbers(axis), numbers(step)))
        for start, end, axis, step in (
            *((0, 2, 0, 1), (1, FAR, 0, 1), (-2, FAR, -1, 1), (0, -1, 0, 2), (5, 0, 0, -1), (-1, -FAR, 0, -1)),
            *((-1, -7, 0, -1), (4, -7, 0, -2), (FAR, -FAR - 1, 0, -3), (-100, 3, 0, 1), (2, 2, 0, 1), (3, 1, 0, 1)),
            *((1, -5, 0, -1), (-1, -2, 0, -1), (0, 100, 0, 3), (-100, -7, 0, -1)),
        )
    ),
    case("Slice", (VECTOR, numbers(1), numbers(4))),
    case("Slice", (MATRIX, numbers(0, 1), numbers(1, 3))),
    case("Slice", (MATRIX, numbers(1), numbers(3), numbers(-1))),
    case("Slice", (MATRIX, numbers(0, 2), numbers(2, -4), numbers(0, 1), numbers(1, -1))),
    case("Slice", (CUBE, numbers(1, 0), numbers(FAR, 1), numbers(-2, 0))),
    case("Slice", (MATRIX, numbers(0, 1), numbers(2, 3), None, numbers(1, 2))),
    case("Slice", (VECTOR, numbers(-3).astype(np.int32), numbers(6).astype(np.int32))),
    case("Slice", (VECTOR,), version=9, starts=[1], ends=[FAR]),
    case("Slice", (MATRIX,), version=9, starts=[1], ends=[2], axes=[1]),
]
REDUCTIONS = [
    case(op_type, inputs, **more)
    for op_type in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
    for inputs, more in (
        ((FEW,), {}),
        ((FEW, numbers(0)), {"keepdims": 0}),
        ((FEW, numbers(-1)), {"keepdims": 1}),
        ((objects(A),), {"keepdims": 0}),
        ((FEW,), {"noop_with_empty_axes": 1}),
        ((FEW, numbers(0)), {"noop_with_empty_axes": 1}),
        ((FEW,), {"version": 11, "axes": [0], "keepdims": 0}),
    )
]
CASES = [*BINARY, *DIVISIONS, *ELEMENTS, *SHAPES, *SLICES, *REDUCTIONS]


@pytest.mark.parametrize(("op_type", "inputs", "more"), CASES)
def test_formulas_equal_the_reference_evaluator(op_type: str, inputs: Sequence[Input], more: dict[str, Any]) -> None:
    assert any(each is not None and each.dtype == object for each in inputs)
    compare(op_type, inputs, **more)


def test_every_operator_of_the_table_is_compared() -> None:
    assert set(_BY_FORMULA) == COMPARED


ELEMENT = st.sampled_from(
    [A, B, C, A * B, A + 1, B - 1, at_least(A, B), at_most(C, 4), A // 2, 0, 1, 2, 7, -3, -A, (A + 5) // 3]
)
SHAPE = st.sampled_from([(), (1,), (3,), (2, 1), (1, 3), (2, 3), (2, 2, 3)])


@st.composite
def operands(draw: st.DrawFn) -> Array:
    shape = draw(SHAPE)
    size = int(np.prod(shape))
    return objects(*draw(st.lists(ELEMENT, min_size=size, max_size=size)), shape=shape)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal", "Less", "Greater", "GreaterOrEqual"]),
    operands(),
    operands(),
)
def test_pairs_are_folded_right_or_not_at_all(op_type: str, left: Array, right: Array) -> None:
    """Random operands, signs and broadcasting; where shapes do not fit, or a value decides, nothing is folded."""
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        assert folded(op_type, (left, right)) == []
        return
    found = folded(op_type, (left, right))
    if not found:
        assert op_type not in ("Add", "Sub", "Mul", "Max", "Min")
        return
    zero = [values for values in POINTS if 0 in at_point(right, values, np.int64)]
    points = [values for values in POINTS if values not in zero] if op_type in ("Div", "Mod") else POINTS
    compare(op_type, (left, right), points=points)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-9, 9) | st.sampled_from([FAR, -FAR - 1]),
    st.integers(-9, 9) | st.sampled_from([FAR, -FAR - 1]),
    st.integers(-3, 3).filter(bool),
    st.sampled_from([0, -1]),
)
def test_slices(start: int, end: int, step: int, axis: int) -> None:
    given_bounds = (VECTOR, *(numbers(each) for each in (start, end, axis, step)))
    [found] = folded("Slice", given_bounds)
    exact = reference("Slice", [numbers(0, 1, 2, 3, 4, 5), *given_bounds[1:]], 1, VERSION)[0]
    assert [str(each) for each in found.tolist()] == [str(VECTOR[index]) for index in exact]


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("Less", (FEW, numbers(5)), {}),
        ("Greater", (FEW, objects(B)), {}),
        ("LessOrEqual", (objects(A), objects(B)), {}),
        ("GreaterOrEqual", (objects(A - 1), numbers(1)), {}),
        ("Equal", (FEW, numbers(1)), {}),
        ("Equal", (objects(A), objects(B)), {}),
        ("Where", (FEW - 1, FEW, FEW), {}),
        ("Div", (objects(A - 3), numbers(2)), {}),
        ("Div", (FEW, objects(A - B)), {}),
        ("Div", (FEW, numbers(0)), {}),
        ("Mod", (FEW, numbers(0)), {}),
        ("Mod", (objects(A - 3), numbers(2)), {"fmod": 1}),
        ("Div", (FEW, np.asarray([0.5], np.float32)), {}),
        ("Mul", (FEW, np.asarray([0.5], np.float32)), {}),
        ("Add", (np.asarray([0.5], np.float64), FEW), {}),
        ("Cast", (FEW,), {"to": 1}),
        ("Cast", (FEW,), {"to": 9}),
        ("Cast", (FEW,), {}),
        ("Concat", (FEW, FEW), {}),
        ("Concat", (FEW, MATRIX), {"axis": 0}),
        ("Gather", (FEW, objects(A)), {}),
        ("Gather", (numbers(1, 2), objects(A)), {}),
        ("Gather", (FEW, numbers(3)), {}),
        ("Gather", (FEW, numbers(0)), {"axis": 4}),
        ("Gather", (FEW, None), {}),
        ("Reshape", (FEW, objects(A)), {}),
        ("Reshape", (FEW, numbers(2, 2)), {}),
        ("Reshape", (FEW, numbers(3, 0)), {}),
        ("Expand", (FEW, objects(A, 3)), {}),
        ("Expand", (FEW, numbers(2)), {}),
        ("Slice", (FEW, objects(A), numbers(3)), {}),
        ("Slice", (FEW, numbers(0), objects(A)), {}),
        ("Slice", (FEW, numbers(0), numbers(2), numbers(3)), {}),
        ("Slice", (FEW, numbers(0), numbers(2), numbers(0), numbers(0)), {}),
        ("Slice", (FEW, numbers(0)), {}),
        ("Slice", (FEW,), {}),
        ("Split", (VECTOR, objects(A, B)), {}),
        ("Split", (VECTOR, None), {}),
        ("Split", (VECTOR,), {"num_outputs": 2}),
        ("Squeeze", (FEW, numbers(0)), {}),
        ("Squeeze", (objects(A), objects(A)), {}),
        ("Unsqueeze", (FEW, numbers(7)), {}),
        ("Unsqueeze", (FEW, numbers(0, 0)), {}),
        ("ReduceMax", (MATRIX,), {}),
        ("ReduceMax", (objects(),), {}),
        ("ReduceSum", (scalar(A),), {}),
        ("Add", (FEW, numbers(1, 2)), {}),
        ("Add", (FEW, None), {}),
        ("Add", (None, FEW), {}),
        ("Neg", (), {}),
        ("Mul", (numbers(FAR), objects(2 * FAR, 2)), {}),
        ("ReduceProd", (objects(FAR, FAR, 4),), {}),
        ("Sqrt", (FEW,), {}),
        ("Range", (scalar(0), scalar(A), scalar(1)), {}),
        ("Shape", (FEW,), {}),
        ("NoSuchOperator", (FEW,), {}),
    ],
)
def test_what_needs_a_value_or_does_not_fit_is_not_folded(
    op_type: str, inputs: Sequence[Input], attributes: dict[str, Any]
) -> None:
    assert folded(op_type, inputs, **attributes) == []


def test_results_without_formulas_are_plain_arrays() -> None:
    [difference] = folded("Sub", (FEW, FEW))
    assert difference.dtype == np.int64 and difference.tolist() == [0, 0, 0]
    [truth] = folded("Less", (FEW, FEW))
    assert truth.dtype == bool and truth.tolist() == [False, False, False]
    [part] = folded("Gather", (objects(A, 4), np.asarray(1)))
    assert part.dtype == np.int64 and part.shape == () and part == 4
    [mixed] = folded("Concat", (FEW, numbers(4)), axis=0)
    assert mixed.dtype == object and isinstance(mixed[0], Formula) and mixed[3] == 4


def test_arrays_are_not_changed() -> None:
    before = [str(each) for each in VECTOR]
    for op_type, inputs in (("Neg", (VECTOR,)), ("Slice", (VECTOR, numbers(0), numbers(2))), ("Max", (VECTOR, VECTOR))):
        assert folded(op_type, inputs)
    assert [str(each) for each in VECTOR] == before


def test_numbers_are_left_to_the_reference_evaluator() -> None:
    [root] = folded("Sqrt", (np.asarray([4.0, 9.0], np.float32),))
    assert root.dtype == np.float32 and root.tolist() == [2.0, 3.0]
    assert folded("Add", (numbers(1, 2), numbers(1, 2, 3))) == []
    assert folded("NoSuchOperator", (numbers(1),)) == []
    assert folded("Div", (numbers(-7, 7), numbers(2)))[0].tolist() == [-3, 3]


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "int32", "uint8", "bool", "bfloat16", "int4"]
)
@pytest.mark.parametrize("shape", [(2, 3), (), (0,), (4,)])
def test_constant_of_shape_is_what_the_reference_makes(dtype: str, shape: tuple[int, ...]) -> None:
    number = getattr(
        onnx.TensorProto,
        dtype.upper()
        if dtype.startswith(("bf", "int", "uint", "bool"))
        else {"float32": "FLOAT", "float64": "DOUBLE", "float16": "FLOAT16"}[dtype],
    )
    value = helper.make_tensor("v", number, [1], [1])
    given = np.asarray(shape, dtype=np.int64)
    (result,) = folded("ConstantOfShape", [given], value=value)
    (expected,) = reference("ConstantOfShape", [given], 1, VERSION, value=value)
    assert result.dtype == expected.dtype and result.shape == shape and (result == expected).all()


def test_constant_of_shape_without_a_value_is_float_zero() -> None:
    (result,) = folded("ConstantOfShape", [numbers(3)])
    assert result.dtype == np.float32 and result.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("inputs", [[], [numbers(-1)], [numbers(2), numbers(2)], [None]])
def test_constant_of_shape_that_is_none(inputs: list[Input]) -> None:
    assert folded("ConstantOfShape", inputs) == []


# --- numbers ---------------------------------------------------------------------------------------------------------

PLAIN = (np.bool_, np.int32, np.int64, np.float32, np.float64)


class Random:
    """Random inputs of the operators that numpy computes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = self.pick(PLAIN)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def shape(self, least: int = 0) -> tuple[int, ...]:
        return tuple(self.rng.integers(0 if self.rng.integers(8) == 0 else 1, 4, self.rng.integers(least, 4)).tolist())

    def array(self, shape: Sequence[int], dtype: Any = None) -> Array:
        numbers = self.rng.integers(-40, 40, tuple(shape))
        kind = np.dtype(dtype or self.dtype)
        return (numbers % 2 if kind == np.bool_ else numbers / 4 if kind.kind == "f" else numbers).astype(kind)

    def broadcast(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that numpy broadcasts to the given one."""
        cut = shape[self.rng.integers(len(shape) + 1) :]
        return tuple(1 if self.rng.integers(3) == 0 else size for size in cut)

    def axis(self, rank: int) -> int:
        return int(self.rng.integers(-rank, rank))

    def elementwise(self, count: int, *, numeric: bool = False) -> list[Input]:
        if numeric and self.dtype == np.bool_:
            self.dtype = np.int64
        shape = self.shape()
        return [self.array(shape), *(self.array(self.broadcast(shape)) for _ in range(count - 1))]

    def sized(self, op_type: str) -> tuple[list[Input], dict[str, Any]]:
        shape = self.shape(least=1)
        data, axis = self.array(shape), self.axis(len(shape))
        match op_type:
            case "Concat":
                return [data, self.array(shape), data], {"axis": axis}
            case "Gather":
                size = shape[axis]
                indices = self.rng.integers(-size, size, self.shape()) if size else np.zeros(0, np.int64)
                return [data, indices], {"axis": axis}
            case "Expand":
                return [self.array(self.broadcast(shape)), np.asarray(shape)], {}
            case "Reshape":
                to = [0 if at < len(shape) and self.rng.integers(3) == 0 else size for at, size in enumerate(shape)]
                return [data, np.asarray(self.pick([to, [*shape, 1], [-1]] if data.size else [shape]))], {}
            case "Slice":
                bounds = [self.rng.integers(-5, 6, 1) for _ in range(2)]
                return [data, *bounds, np.asarray([axis]), np.asarray([self.pick([-2, -1, 1, 2])])], {}
            case "Tile":
                return [data, self.rng.integers(0, 3, len(shape))], {}
            case "Transpose":
                return [data], self.pick([{}, {"perm": self.rng.permutation(len(shape)).tolist()}])
            case "Squeeze":
                return [self.array((1, *shape, 1)), np.asarray(self.pick([[0], [-1], [0, -1]]))], {}
            case _:
                return [data, np.asarray(self.pick([[0], [-1], [0, -1], [1, 0]]))], {}


def random_case(op_type: str, seed: int) -> tuple[list[Input], dict[str, Any]]:
    random = Random(seed)
    if op_type in ("Add", "Sub", "Mul", "Max", "Min"):
        return random.elementwise(2 if op_type in ("Add", "Sub", "Mul") else seed % 3 + 1, numeric=True), {}
    if op_type in ("And", "Or"):
        random.dtype = np.bool_
    if op_type in ("And", "Or", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return random.elementwise(2, numeric=op_type not in ("And", "Or", "Equal")), {}
    if op_type == "Where":
        left, right = random.elementwise(2)
        assert left is not None
        return [random.array(left.shape, np.bool_), left, right], {}
    if op_type == "Cast":
        random.dtype = random.pick(PLAIN[:3])
        return [random.array(random.shape())], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(random.pick(PLAIN)))}
    if op_type == "Identity":
        return [random.array(random.shape())], {}
    if op_type == "ConstantOfShape":
        return [np.asarray(random.shape(), np.int64)], {"value": numpy_helper.from_array(random.array((1,)))}
    if op_type == "Range":
        random.dtype = random.pick(PLAIN[1:])
        step = random.array((), random.dtype)
        return [random.array(()), random.array(()), step if step else np.ones_like(step)], {}
    return random.sized(op_type)


@pytest.mark.parametrize("op_type", sorted(_BY_NUMPY))
def test_numpy_equals_the_reference_evaluator(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [random_case(op_type, seed) for seed in range(60)]
    expected = [reference(op_type, inputs, 1, VERSION, **more) for inputs, more in cases]
    monkeypatch.setattr("onnx_aiwq.graph.folding._run_reference", lambda *_: pytest.fail("left to the reference"))
    for (inputs, more), (exact,) in zip(cases, expected, strict=True):
        (found,) = folded(op_type, inputs, **more)
        assert (found.dtype, found.shape) == (exact.dtype, exact.shape), (inputs, more)
        np.testing.assert_array_equal(found, exact, err_msg=f"{inputs} {more}")


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("Add", (numbers(1), np.ones(1, np.int32))),
        ("Where", (np.ones(1, np.bool_), numbers(1), np.ones(1, np.float32))),
        ("Gather", (numbers(1, 2), numbers(2))),
        ("Reshape", (numbers(1, 2), numbers(3))),
        ("Range", (np.asarray(0), np.asarray(4), np.asarray(0))),
        ("Unsqueeze", (numbers(1),)),
        ("Squeeze", (numbers(1, 2), numbers(0))),
    ],
)
def test_what_is_no_call_of_the_operator_is_not_folded(op_type: str, inputs: Sequence[Input]) -> None:
    assert folded(op_type, inputs) == []


@pytest.mark.parametrize("right", [numbers(1, 2), objects(A, 2)])
def test_operands_that_meet_at_another_axis_are_not_folded(right: Array) -> None:
    """Opset 6: the vector runs along the first axis, which would be [[1, 1], [2, 2]]; numpy makes [[1, 2], [1, 2]]."""
    zeros = np.zeros((2, 2), np.int64)
    assert folded("Add", (zeros, right), version=6, axis=0, broadcast=1) == []
    (suffix,) = folded("Add", (zeros, numbers(1, 2)), version=6, broadcast=1)
    assert suffix.tolist() == [[1, 2], [1, 2]]
