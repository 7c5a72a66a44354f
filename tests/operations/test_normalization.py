"""Rules of normalisation against its definition in self-tallying numbers, and against ONNX function bodies."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.vocabulary import BasicOp, Counts, DType, Operator, Tensor
from oracle import Number, as_basic_operations, numbers
from statistics_oracle import (
    DOUBLE,
    FLOAT,
    HALF,
    MICROSOFT,
    NOTHING,
    basic,
    counted,
    root_mean_square,
    standardize,
    tensor,
    total,
)

SHAPES = [((2, 3, 8), -1), ((2, 3, 4), 1), ((5,), 0), ((2, 3), -2), ((3, 1), 1), ((0, 4), -1)]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_layer_normalization(shape: tuple[int, ...], axis: int, inverse: bool, shift: bool) -> None:
    tally: Counter[str] = Counter()
    normalized = shape[axis:]
    scale, bias = (numbers((math.prod(normalized),), tally, seed) for seed in (1, 2))
    for line in numbers(shape, tally).reshape(-1, math.prod(normalized)):
        y = standardize(line) * scale
        if shift:
            y + bias
        if inverse:
            1 / line[0]
    inputs = (tensor(*shape), tensor(*normalized), tensor(*normalized) if shift else None)
    got = basic("LayerNormalization", *inputs, axis=axis, outputs="y-i" if inverse else "y")
    assert got == as_basic_operations(tally)


def test_layer_normalization_by_hand() -> None:
    got = basic("LayerNormalization", tensor(2, 8), tensor(8), tensor(8))
    assert got == {"add": 30 + 16, "sub": 16, "mul": 32, "div": 20, "root": 2, "compare": 0}


@pytest.mark.parametrize(
    ("op_type", "domain"),
    [("RMSNormalization", ""), ("SimplifiedLayerNormalization", ""), ("SimplifiedLayerNormalization", MICROSOFT)],
)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_rms_normalization(op_type: str, domain: str, shape: tuple[int, ...], axis: int) -> None:
    tally: Counter[str] = Counter()
    n = math.prod(shape[axis:])
    scale = numbers((n,), tally, 1)
    for line in numbers(shape, tally).reshape(-1, n):
        root_mean_square(line) * scale
    inputs = (tensor(*shape), tensor(*shape[axis:]))
    assert basic(op_type, *inputs, domain=domain, axis=axis) == as_basic_operations(tally)


def test_rms_normalization_by_hand() -> None:
    inputs = (tensor(2, 8), tensor(8))
    expected = {"add": 16, "sub": 0, "mul": 32, "div": 18, "root": 2, "compare": 0}
    assert basic("RMSNormalization", *inputs) == expected
    assert basic("SimplifiedLayerNormalization", *inputs, outputs="yi") == expected | {"div": 20}


@pytest.mark.parametrize("shape", [(1, 2, 4), (2, 3, 2, 2), (1, 1, 1), (0, 2, 3)])
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    scale, bias = (numbers(shape[1:2], tally, seed) for seed in (1, 2))
    x = numbers(shape, tally)
    for n, c in np.ndindex(shape[:2]):
        standardize(x[n, c].reshape(-1)) * scale[c] + bias[c]
    assert basic("InstanceNormalization", tensor(*shape), *[tensor(shape[1])] * 2) == as_basic_operations(tally)


def test_instance_normalization_by_hand() -> None:
    got = basic("InstanceNormalization", tensor(1, 2, 4), tensor(2), tensor(2))
    assert got == {"add": 22, "sub": 8, "mul": 16, "div": 12, "root": 2, "compare": 0}


@pytest.mark.parametrize(("shape", "groups"), [((1, 4, 3), 2), ((2, 6, 2, 2), 3), ((2, 4), 4), ((0, 4, 2), 2)])
def test_group_normalization(shape: tuple[int, ...], groups: int) -> None:
    tally: Counter[str] = Counter()
    x = numbers(shape, tally)
    for instance in x:
        for group in np.split(instance, groups):
            standardize(group.reshape(-1)) * numbers((1,), tally)[0] + numbers((1,), tally)[0]
    expected = as_basic_operations(tally)
    for version, size in ((18, groups), (21, shape[1])):
        inputs = (tensor(*shape), tensor(size), tensor(size))
        assert basic("GroupNormalization", *inputs, version=version, num_groups=groups) == expected
    last = (shape[0], *shape[2:], shape[1])
    inputs = (tensor(*last), tensor(shape[1]), tensor(shape[1]))
    fused = {"domain": MICROSOFT, "version": 1, "groups": groups, "channels_last": 1}
    assert basic("GroupNorm", *inputs, activation=0, **fused) == expected
    for _ in range(math.prod(shape)):
        z = numbers((), tally)[()]
        z * (1 / (1 + (-z).exp()))
    assert basic("GroupNorm", *inputs, activation=1, **fused) == as_basic_operations(tally)


def test_group_normalization_by_hand() -> None:
    expected = {"add": 34, "sub": 12, "mul": 24, "div": 16, "root": 2, "compare": 0}
    assert basic("GroupNormalization", tensor(1, 4, 3), tensor(4), tensor(4), num_groups=2) == expected
    x, channel, options = tensor(1, 3, 1, 4), tensor(4), {"domain": MICROSOFT, "version": 1, "groups": 2}
    assert basic("GroupNorm", x, channel, channel, activation=0, **options) == expected
    skip = basic("SkipGroupNorm", x, channel, channel, x, channel, activation=0, **options)
    assert skip == expected | {"add": 34 + 24}
    skip = basic("SkipGroupNorm", x, channel, channel, x, activation=1, **options)
    assert skip == {"add": 34 + 12 + 12, "sub": 24, "mul": 36, "div": 28, "root": 14, "compare": 0}


def batch_norm(shape: tuple[int, ...], constant: bool = False, **options: Any) -> dict[str, int]:
    channels = tensor(shape[1] if len(shape) > 1 else 1, constant=constant)
    return basic("BatchNormalization", tensor(*shape), *[channels] * 4, **options)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3), (2, 2, 5), (0, 3, 2)])
def test_batch_normalization_in_inference(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    x = numbers(shape, tally)
    parameters = [numbers(shape[1:2], tally, seed) for seed in range(4)]
    folded = [[value.value for value in array] for array in parameters]
    for constant, (scale, bias, mean, variance) in ((True, folded), (False, parameters)):
        tally.clear()
        for channel in range(shape[1]):
            v = variance[channel] + 1e-5
            factor = scale[channel] / (math.sqrt(v) if constant else v.sqrt())
            offset = bias[channel] - mean[channel] * factor
            x[:, channel] * factor + offset
        assert batch_norm(shape, constant, version=15) == as_basic_operations(tally)
        assert batch_norm(shape, constant, version=9) == as_basic_operations(tally)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (4, 3), (2, 2, 5), (0, 3, 2)])
@pytest.mark.parametrize("running", [0, 1, 2])
def test_batch_normalization_in_training(shape: tuple[int, ...], running: int) -> None:
    tally: Counter[str] = Counter()
    x = numbers(shape, tally)
    scale, bias, old = (numbers(shape[1:2], tally, seed) for seed in (1, 2, 3))
    for channel in range(shape[1]) if x.size else ():
        values = x[:, channel].reshape(-1)
        mean = total(values) / len(values)
        deviation = values - mean
        variance = total(deviation * deviation) / len(values)
        deviation * (scale[channel] / (variance + 1e-5).sqrt()) + bias[channel]
        for _ in range(running):
            old[channel] * 0.9 + mean * 0.1
    outputs = "y" + "m" * running
    assert batch_norm(shape, True, version=15, training_mode=1, outputs=outputs) == as_basic_operations(tally)
    if running == 2:
        assert batch_norm(shape, True, version=9, outputs="ymvsw") == as_basic_operations(tally)


def test_batch_normalization_by_hand() -> None:
    assert batch_norm((1, 64, 56, 56), True, version=15) == NOTHING | {"mul": 200704, "add": 200704}
    got = batch_norm((1, 2, 3), version=15)
    assert got == {"add": 8, "sub": 2, "mul": 8, "div": 2, "root": 2, "compare": 0}
    # one channel of 4: mean 3 add 1 div, 4 sub, variance 4 mul 3 add 1 div, factor add root div, 4 mul 4 add
    got = batch_norm((2, 1, 2), version=15, training_mode=1)
    assert got == {"add": 11, "sub": 4, "mul": 8, "div": 3, "root": 1, "compare": 0}


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [((2, 5), 1), ((2, 5), 0), ((2, 3, 4), -2), ((3, 1), -1), ((2, 0), 1)])
def test_lp_normalization(shape: tuple[int, ...], axis: int, p: int) -> None:
    tally: Counter[str] = Counter()
    lines = np.moveaxis(numbers(shape, tally), axis, -1)
    for index in np.ndindex(lines.shape[:-1]):
        line = lines[index]
        if len(line):
            line / (total(line * line).sqrt() if p == 2 else total([x if x > 0 else -x for x in line]))
    assert basic("LpNormalization", tensor(*shape), axis=axis, p=p) == as_basic_operations(tally)


def test_lp_normalization_by_hand() -> None:
    assert basic("LpNormalization", tensor(2, 5), axis=1, p=2) == NOTHING | {"add": 8, "mul": 10, "root": 2, "div": 10}
    assert basic("LpNormalization", tensor(2, 5), axis=1, p=1) == NOTHING | {"add": 8, "compare": 10, "div": 10}


@pytest.mark.parametrize("axes", [(0, 2, 3), (1,), (-1, 0), (0, 1, 2, 3)])
def test_mean_variance_normalization(axes: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    shape = (2, 3, 2, 2)
    lines = np.moveaxis(numbers(shape, tally), axes, range(len(axes)))
    for line in lines.reshape(math.prod(lines.shape[: len(axes)]), -1).T:
        standardize(line)
    assert basic("MeanVarianceNormalization", tensor(*shape), axes=axes) == as_basic_operations(tally)


def test_mean_variance_normalization_by_hand() -> None:
    got = basic("MeanVarianceNormalization", tensor(1, 2, 2, 2), axes=(0, 2, 3))
    assert got == {"add": 14, "sub": 8, "mul": 8, "div": 12, "root": 2, "compare": 0}
    with pytest.raises(ShapeError, match="axis 3 does not exist"):
        basic("MeanVarianceNormalization", tensor(1, 2, 2), axes=(0, 2, 3))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0])
def test_local_response_normalization(size: int, beta: float) -> None:
    tally: Counter[str] = Counter()
    x = numbers((2, 4, 3), tally)
    before, after = (size - 1) // 2, size // 2
    silence = np.empty((2, 1, 3), dtype=object)
    for index in np.ndindex(silence.shape):
        silence[index] = Number(0, tally)
    squares = np.concatenate([*[silence] * before, x * x, *[silence] * after], axis=1)
    for n, c, i in np.ndindex(x.shape):
        energy = 1.0 + 1e-4 / size * total(squares[n, c : c + size, i])
        powers = {0.75: lambda e: (0.75 * e.log()).exp(), 0.5: lambda e: e.sqrt(), 1.0: lambda e: e}
        x[n, c, i] / powers[beta](energy)
    assert basic("LRN", tensor(2, 4, 3), size=size, beta=beta) == as_basic_operations(tally)


def test_local_response_normalization_by_hand() -> None:
    got = basic("LRN", tensor(1, 4, 1, 1), size=3)
    assert got == {"add": 12, "sub": 0, "mul": 12, "div": 4, "root": 8, "compare": 0}
    assert basic("LRN", tensor(1, 4, 1, 1), size=3, bias=0.0)["add"] == 8


def test_statistics_are_priced_at_the_stash_type() -> None:
    x, vector = tensor(2, 8, dtype=HALF), tensor(8, dtype=HALF)
    for op_type, inputs in (("LayerNormalization", (x, vector, vector)), ("RMSNormalization", (x, vector))):
        counts = counted(op_type, *inputs)
        assert counts.of_dtype(FLOAT).total(BasicOp.ROOT) == 2
        assert counts.of_dtype(HALF).total(BasicOp.MUL) == 16
        assert counts.of_dtype(HALF).total(BasicOp.DIV) == 0
        assert counted(op_type, *inputs, stash_type=HALF.onnx_number).dtypes == (HALF,)
    grouped = tensor(2, 4, 3, dtype=HALF)
    newer = counted("GroupNormalization", grouped, *[tensor(4, dtype=HALF)] * 2, version=21, num_groups=2)
    older = counted("GroupNormalization", grouped, *[tensor(2, dtype=HALF)] * 2, version=18, num_groups=2)
    assert (newer.dtypes, older.dtypes) == ((FLOAT, HALF), (HALF,))
    assert counted("Softmax", tensor(2, 3, dtype=DOUBLE)).dtypes == (DOUBLE,)


# --- rules against the function bodies of ONNX ------------------------------------------------------------------------

MOVES = {"Cast", "CastLike", "Reshape", "Where", "Flatten", "Unsqueeze", "Squeeze", "Slice", "Concat", "Expand"}
MOVES |= {"Identity", "GatherElements", "Gather", "Transpose"}


def with_defaults(op_type: str, version: int, attributes: dict[str, Any]) -> dict[str, Any]:
    schema = onnx.defs.get_schema(op_type, version, "")
    defaults = [attribute.default_value for attribute in schema.attributes.values() if attribute.default_value.name]
    given = {default.name: helper.get_attribute_value(default) for default in defaults} | attributes
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in given.items()}


def function_of(node: onnx.NodeProto, arrays: list[Any], version: int) -> onnx.FunctionProto:
    """The function body that onnx has for a node."""
    schema = onnx.defs.get_schema(node.op_type, version, "")
    function = onnx.FunctionProto()
    if schema.has_function:
        function.CopyFrom(schema.function_body)
    else:
        known = [helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for a in arrays]
        newest = max(v for v in schema.context_dependent_function_opset_versions if v <= version)
        serialized = [kind.SerializeToString() for kind in known]
        function.ParseFromString(
            schema.get_context_dependent_function_with_opset_version(newest, node.SerializeToString(), serialized)
        )
    function.domain, function.name = "local", "Body"
    del function.opset_import[:]  # the inliner wants the version of the model
    function.opset_import.append(helper.make_opsetid("", version))
    return function


def body_of(op_type: str, arrays: list[Any], version: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    """A model of the function body's nodes, every intermediate value an output."""
    names = [f"i{index}" for index in range(len(arrays))]
    function = function_of(helper.make_node(op_type, names, ["y"], **attributes), arrays, version)
    given = with_defaults(op_type, version, attributes)
    called = {name: given[name] for name in function.attribute if name in given}
    caller = helper.make_node("Body", names, ["y"], domain="local", **called)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, arrays, strict=True)
    ]
    opsets = [helper.make_opsetid("", version), helper.make_opsetid("local", 1)]
    graph = helper.make_graph([caller], "g", values, [onnx.ValueInfoProto(name="y")])
    model = inline_local_functions(helper.make_model(graph, functions=[function], opset_imports=opsets))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for n in model.graph.node for name in n.output if name)
    return model


def describe(name: str, value: Any, known: bool = False) -> Tensor:
    array = np.asarray(value)
    dtype = DType.from_onnx(helper.np_dtype_to_tensor_dtype(array.dtype))
    return Tensor(name, dtype, array.shape, array if known else None)


def count_body(op_type: str, arrays: list[Any], version: int, attributes: dict[str, Any]) -> tuple[Counts, Tensor]:
    """Sum of the rules of the body's nodes, at the shapes that onnx's reference implementation finds; the output."""
    model = body_of(op_type, arrays, version, attributes)
    values = dict(zip([i.name for i in model.graph.input], arrays, strict=True))
    results = ReferenceEvaluator(model).run(None, values)
    values |= dict(zip([o.name for o in model.graph.output], results, strict=True))
    folded: set[str] = set()
    counts = Counts()
    for node in model.graph.node:
        needed = node.input[: 0 if node.op_type in ("Shape", "Size") else 1 if node.op_type == "CastLike" else None]
        if all(name in folded or not name for name in needed):
            folded |= set(node.output)
        elif node.op_type not in MOVES:
            rule = find_rule(node.op_type, "", version)
            assert rule is not None and rule.function is not None, node.op_type
            given = with_defaults(
                node.op_type, version, {a.name: helper.get_attribute_value(a) for a in node.attribute}
            )
            inputs, outputs = (
                tuple(describe(name, values[name], name in folded) if name else None for name in names)
                for names in (node.input, node.output)
            )
            counts += rule.function(Operator("n", node.op_type, "", version, inputs, outputs, given))
    return counts, describe("y", values["y"])


X = np.random.default_rng(0).uniform(0.5, 1.5, (2, 4, 3)).astype(np.float32)


ROW, CHANNEL = X[0, 0], X[0, :, 0]


LABELS = np.array([[0, 1, 2], [3, 2, 1]])


AXIS = np.array([1])


# (operator, inputs, opset, attributes, how much more the body counts than the rule, and why)
BODIES: list[tuple[str, list[Any], int, dict[str, Any], dict[str, int]]] = [
    # The variance as E[x^2] - E[x]^2: one mul and one sub more per line.
    # LayerNormalization also inverts the deviation.
    ("LayerNormalization", [X, ROW, ROW], 18, {}, {"sub": 8, "mul": 8, "div": 8}),
    ("LayerNormalization", [X, ROW], 18, {}, {"sub": 8, "mul": 8, "div": 8}),
    ("GroupNormalization", [X, CHANNEL, CHANNEL], 21, {"num_groups": 2}, {"sub": 4, "mul": 4}),
    ("MeanVarianceNormalization", [X], 18, {"axes": (0, 2)}, {"sub": 4, "mul": 4}),
    ("RMSNormalization", [X, ROW], 23, {}, {}),
    ("Softmax", [X], 18, {"axis": 1}, {}),
    ("LogSoftmax", [X], 18, {"axis": 1}, {}),
    ("ReduceL1", [X, AXIS], 18, {}, {}),
    ("ReduceL2", [X, AXIS], 18, {}, {}),
    ("ReduceSumSquare", [X, AXIS], 18, {}, {}),
    ("ReduceLogSum", [X, AXIS], 18, {}, {}),
    ("ReduceLogSumExp", [X, AXIS], 18, {}, {}),
    ("NegativeLogLikelihoodLoss", [X, LABELS], 22, {}, {}),
    ("NegativeLogLikelihoodLoss", [X, LABELS], 22, {"reduction": "none"}, {}),
    ("NegativeLogLikelihoodLoss", [X, LABELS, CHANNEL], 22, {"reduction": "sum"}, {}),
    ("NegativeLogLikelihoodLoss", [X, LABELS, CHANNEL], 22, {}, {}),
    ("SoftmaxCrossEntropyLoss", [X, LABELS], 13, {}, {}),
    ("SoftmaxCrossEntropyLoss", [X, LABELS, CHANNEL], 13, {"reduction": "none"}, {}),
    ("Clip", [X, ROW[0], ROW[1]], 13, {}, {}),
    # Greater, Equal and Or instead of one comparison.
    ("GreaterOrEqual", [X, X], 16, {}, {"compare": 48}),
    ("Relu", [X], 18, {}, {}),
    ("LeakyRelu", [X], 18, {}, {}),
    ("PRelu", [X, ROW], 18, {}, {}),
    ("ThresholdedRelu", [X], 22, {}, {}),
    ("Elu", [X], 22, {"alpha": 2.0}, {}),
    ("Celu", [X], 28, {"alpha": 2.0}, {}),
    # Both sides are multiplied with gamma before one is selected.
    ("Selu", [X], 22, {}, {"mul": 24}),
    ("HardSigmoid", [X], 22, {}, {}),
    ("HardSwish", [X], 22, {}, {}),
    ("Softplus", [X], 22, {}, {}),
    ("Softsign", [X], 22, {}, {}),
    ("Mish", [X], 22, {}, {}),
    ("Swish", [X], 24, {"alpha": 2.0}, {}),
    ("SwiGLU", [X, X], 28, {"alpha": 2.0}, {}),
    # Both sides are shifted before one is selected.
    ("Shrink", [X], 18, {"bias": 0.5}, {"add": 24}),
    # The erf form: root, add, div by sqrt(2), 2 mul; Eq. 5 of the TO paper counts the sigmoid form.
    ("Gelu", [X], 20, {}, {"sub": -24}),
]


@pytest.mark.parametrize(("op_type", "arrays", "version", "attributes", "excess"), BODIES)
def test_function_bodies(
    op_type: str, arrays: list[Any], version: int, attributes: dict[str, Any], excess: dict[str, int]
) -> None:
    """Where ONNX has a function body, its parts count what the rule counts, but for the listed differences."""
    body, output = count_body(op_type, arrays, version, attributes)
    inputs = [describe(f"i{index}", array) for index, array in enumerate(arrays)]
    given = with_defaults(op_type, version, attributes)
    rule = find_rule(op_type, "", version)
    assert rule is not None and rule.function is not None
    direct = rule.function(Operator("n", op_type, "", version, tuple(inputs), (output,), given)).basic_operations()
    parts = body.basic_operations()
    assert {op: parts[op] - direct[op] for op in parts if parts[op] != direct[op]} == excess
