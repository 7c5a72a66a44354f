"""Reduction rules against numpy's own reduce over self-tallying numbers; output shapes come from onnx."""

from __future__ import annotations

import bisect
import itertools
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


def operator(
    op_type: str,
    shape: tuple[int, ...],
    *constants: Any,
    version: int = 18,
    dtype: DType = DType.FLOAT,
    **attributes: Any,
) -> Operator:
    """A reduction of one tensor; its output is what onnx infers."""
    names = [f"c{index}" for index in range(len(constants))]
    node = helper.make_node(op_type, ["x", *names], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", dtype.onnx_number, shape)
    initializers = [
        numpy_helper.from_array(np.int64(value), name) for name, value in zip(names, constants, strict=True)
    ]
    outputs = [onnx.ValueInfoProto(name="y")]
    if op_type == "TopK":
        node.output.append("i")
        outputs.append(onnx.ValueInfoProto(name="i"))
    model = helper.make_model(
        helper.make_graph([node], "g", [x], outputs, initializers), opset_imports=[helper.make_opsetid("", version)]
    )
    result = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.output[0]
    out = tuple(dim.dim_value for dim in result.type.tensor_type.shape.dim)
    inputs = (Tensor("x", dtype, shape), *(Tensor(n, DType.INT64, None) for n in names))
    return Operator("n", op_type, "", version, inputs, (Tensor("y", dtype, out),), attributes)


def counted(op: Operator) -> Counts:
    rule = find_rule(op.op_type, op.domain, op.version)
    assert rule is not None and rule.function is not None and rule.family == "reduction"
    return rule.function(op)


def basic(op_type: str, shape: tuple[int, ...], *constants: Any, **options: Any) -> dict[str, int]:
    return counted(operator(op_type, shape, *constants, **options)).basic_operations()


def magnitude(x: Number) -> Any:
    return x if x > 0 else -x


ABSOLUTE = np.frompyfunc(magnitude, 1, 1)
# What each operator does to an object array over the axes, in numpy's words.
REDUCTIONS: dict[str, Any] = {
    "ReduceSum": lambda x, axes: np.add.reduce(x, axis=axes),
    "ReduceProd": lambda x, axes: np.multiply.reduce(x, axis=axes),
    "ReduceMax": lambda x, axes: np.maximum.reduce(x, axis=axes),
    "ReduceMin": lambda x, axes: np.minimum.reduce(x, axis=axes),
    "ReduceL1": lambda x, axes: np.add.reduce(ABSOLUTE(x), axis=axes),
    "ReduceSumSquare": lambda x, axes: np.add.reduce(x * x, axis=axes),
    "ReduceL2": lambda x, axes: np.sqrt(np.add.reduce(x * x, axis=axes)),
    "ReduceLogSum": lambda x, axes: np.log(np.add.reduce(x, axis=axes)),
    "ReduceLogSumExp": lambda x, axes: np.log(np.add.reduce(np.exp(x), axis=axes)),
    "ReduceMean": lambda x, axes: np.add.reduce(x, axis=axes) / np.prod([x.shape[a] for a in axes]),
}
CASES = [
    ((2, 5), (1,)),
    ((2, 5), (0,)),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (-1,)),
    ((2, 3, 4), (0, 1, 2)),
    ((3, 1, 2), (0, 2)),
    ((6,), (0,)),
]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("shape", "axes"), CASES)
@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_against_oracle(op_type: str, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: int) -> None:
    tally: Counter[str] = Counter()
    REDUCTIONS[op_type](numbers(shape, tally), axes)
    expected = as_basic_operations(tally)
    version = 13 if op_type == "ReduceSum" else 18
    assert basic(op_type, shape, axes, version=version, keepdims=keepdims) == expected
    assert basic(op_type, shape, version=11, keepdims=keepdims, axes=axes) == expected


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_all_axes_when_none_is_given(op_type: str) -> None:
    tally: Counter[str] = Counter()
    REDUCTIONS[op_type](numbers((2, 3, 4), tally), (0, 1, 2))
    expected = as_basic_operations(tally)
    assert basic(op_type, (2, 3, 4), keepdims=0) == expected
    assert basic(op_type, (2, 3, 4), (), keepdims=1) == expected
    assert basic(op_type, (2, 3, 4), version=1) == expected


@pytest.mark.parametrize(
    ("op_type", "expected"),
    [
        ("ReduceSum", {}),
        ("ReduceMean", {}),
        ("ReduceMax", {}),
        ("ReduceProd", {}),
        ("ReduceL1", {"compare": 6}),
        ("ReduceSumSquare", {"mul": 6}),
        ("ReduceL2", {"mul": 6, "root": 6}),
        ("ReduceLogSum", {"root": 6}),
        ("ReduceLogSumExp", {"root": 12}),
    ],
)
def test_noop_reduces_nothing_but_does_the_rest(op_type: str, expected: dict[str, int]) -> None:
    """noop_with_empty_axes: the reduction is the identity, the elementwise steps remain (ONNX 1.18 and later)."""
    assert basic(op_type, (2, 3), noop_with_empty_axes=1) == NOTHING | expected


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_empty_sets_cost_nothing(op_type: str) -> None:
    assert basic(op_type, (2, 0, 4), (1,)) == NOTHING
    assert basic(op_type, (0, 3), (1,)) == NOTHING
    assert basic(op_type, (0, 3)) == NOTHING


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(("shape", "axis"), [((2, 5), 1), ((2, 5), 0), ((2, 3, 4), -2), ((7,), 0), ((3, 1), 1)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_arg_extrema_against_oracle(op_type: str, shape: tuple[int, ...], axis: int, keepdims: int) -> None:
    tally: Counter[str] = Counter()
    for line in np.moveaxis(numbers(shape, tally), axis, -1).reshape(-1, shape[axis]):
        best = 0
        for position in range(1, len(line)):
            if line[position] > line[best]:
                best = position
    assert basic(op_type, shape, version=13, axis=axis, keepdims=keepdims) == as_basic_operations(tally)


def _insert_all(line: list[Number], k: int) -> list[float]:
    """The k largest, each number placed by binary search among the best so far."""
    best: list[Number] = []
    for number in line:
        negated = Number(-number.value, number.tally)
        best.insert(bisect.bisect_right(best, negated), negated)
        del best[k:]
    return [-number.value for number in best]


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (4, 2), (5, 3), (6, 2), (6, 4), (6, 6), (7, 3)])
def test_top_k_is_the_worst_case_of_binary_insertion(n: int, k: int) -> None:
    """Over all orders: no order costs more than the rule says, and one costs exactly that."""
    most = 0
    for order in itertools.permutations(range(n)):
        tally: Counter[str] = Counter()
        assert _insert_all([Number(value, tally) for value in order], k) == sorted(order, reverse=True)[:k]
        most = max(most, tally["compare"])
    assert basic("TopK", (n,), [k], version=11) == NOTHING | {"compare": most}


def test_top_k_by_hand() -> None:
    assert basic("TopK", (6,), [2], version=11) == NOTHING | {"compare": 0 + 1 + 2 + 2 + 2 + 2}
    assert basic("TopK", (3, 6), [2], version=11, axis=1) == NOTHING | {"compare": 27}
    assert basic("TopK", (6, 3), [2], version=11, axis=0) == NOTHING | {"compare": 27}
    assert basic("TopK", (3, 6), version=1, axis=1, k=2) == NOTHING | {"compare": 27}
    assert basic("TopK", (1, 1000), [1], version=11) == NOTHING | {"compare": 999}
    assert basic("TopK", (2, 5), [0], version=11) == NOTHING
    assert basic("TopK", (0, 5), [2], version=11) == NOTHING
    # 0 + 1 + 2 * 2 + 4 * 3 + 8 * 4 + 16 * 5 + 32 * 6 + 36 * 7: the bit lengths of 0..99
    assert basic("TopK", (100,), [100], version=11) == NOTHING | {"compare": 573}


def test_worked_examples() -> None:
    assert basic("ReduceMean", (2, 5), (1,)) == NOTHING | {"add": 8, "div": 2}
    assert basic("ReduceMax", (2, 5), (1,)) == NOTHING | {"compare": 8}
    assert basic("ReduceProd", (2, 5), (1,)) == NOTHING | {"mul": 8}
    assert basic("ReduceL1", (2, 5), (1,)) == NOTHING | {"compare": 10, "add": 8}
    assert basic("ReduceL2", (2, 5), (1,)) == NOTHING | {"mul": 10, "add": 8, "root": 2}
    assert basic("ReduceLogSumExp", (2, 5), (1,)) == NOTHING | {"add": 8, "root": 12}


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.INT64, DType.DOUBLE])
def test_types(dtype: DType) -> None:
    assert counted(operator("ReduceSum", (2, 5), (1,), version=13, dtype=dtype)).operations == {(dtype, BasicOp.ADD): 8}


def test_an_axis_that_does_not_exist() -> None:
    op = operator("TopK", (6,), [2], version=11)
    wrong = Operator("n", "TopK", "", 11, op.inputs, op.outputs, {"axis": 1})
    with pytest.raises(ShapeError, match="axis 1 does not exist"):
        counted(wrong)
