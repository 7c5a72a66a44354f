"""Kernels: every operator is described, a kind has as many features always, transpositions by hand, times by hand."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from onnx.backend.test.case.node import collect_testcases

import onnx_aiwq as aiwq
from calibrated import CALL_S, PER_CONSTANT_BYTE_S, PER_INPUT_BYTE_S, PER_OUTPUT_BYTE_S, PER_TO_S, time_model
from onnx_aiwq.calibration.composites import composite
from onnx_aiwq.errors import AiwqError, ProfileError
from onnx_aiwq.kernels import Kernel, bytes_moved, bytes_since, describe, is_known
from onnx_aiwq.kernels.model import Efficiency, KernelModel, Line, TimeModel, Work, predict
from onnx_aiwq.lowering import lower
from onnx_aiwq.vocabulary import DType, Operator, Tensor
from operators import operator


@pytest.fixture(scope="module")
def backend_operators() -> list[Operator]:
    """Operators of the onnx backend corpus: some 2,000 models."""
    found: list[Operator] = []
    for case in collect_testcases(None):
        if case.model is None:
            continue
        try:
            found += aiwq.load(case.model).operators
        except AiwqError:  # models that are wrong on purpose, or of a domain that nobody knows
            continue
    return found


def test_every_operator_of_the_backend_corpus_is_described(backend_operators: list[Operator]) -> None:
    assert len({each.op_type for each in backend_operators}) > 180
    known = [each for each in backend_operators if is_known(each)]
    assert len(known) > 0.9 * len(backend_operators)
    sizes: dict[str, set[int]] = defaultdict(set)
    for each in known:
        kernel = describe(each)
        assert kernel.kind and kernel.group
        assert all(math.isfinite(number) for number in kernel.features), (each.op_type, kernel)
        sizes[kernel.kind].add(len(kernel.features))
    assert {kind: lengths for kind, lengths in sizes.items() if len(lengths) > 1} == {}


def test_kinds_of_deployed_composites_have_as_many_features_always() -> None:
    sizes: dict[str, set[int]] = defaultdict(set)
    for seed in (0, 1, 2, 7, 13, 17):
        for each in lower(aiwq.load(composite(seed))).graph.operators:
            if is_known(each):
                kernel = describe(each)
                sizes[kernel.kind].add(len(kernel.features))
    assert len(sizes) > 40
    assert {kind: lengths for kind, lengths in sizes.items() if len(lengths) > 1} == {}


def log2(number: float) -> float:
    return math.log2(1 + number)


@pytest.mark.parametrize(
    ("shape", "order", "kind", "features"),
    [
        # Axes of one are no axes; what stays together is one axis: (2, 15, 7) in all.
        ((2, 3, 5, 7), (0, 1, 2, 3), "view", (log2(0),)),
        ((1, 4, 1, 6), (2, 1, 0, 3), "view", (log2(0),)),
        ((1, 4, 6), (1, 0, 2), "view", (log2(0),)),
        # Two axes change places: a matrix of 4 x 6; rows of the result are 4 long.
        ((4, 6), (1, 0), "transpose-matrix", (log2(24), log2(1), log2(6), log2(4))),
        ((1, 4, 6, 1), (0, 2, 1, 3), "transpose-matrix", (log2(24), log2(1), log2(6), log2(4))),
        # NCHW to NHWC: H and W stay together, so it is a batch of matrices 3 x 35.
        ((2, 3, 5, 7), (0, 2, 3, 1), "transpose-matrix", (log2(210), log2(1), log2(35), log2(3))),
        # Heads of attention: the last axis stays, rows of 64 are copied.
        ((1, 10, 8, 64), (0, 2, 1, 3), "transpose-rows", (log2(5120), log2(64), log2(64), log2(64))),
        ((8, 10, 64), (1, 0, 2), "transpose-rows", (log2(5120), log2(64), log2(64), log2(64))),
        # Everything reversed.
        ((2, 3, 5), (2, 1, 0), "transpose-any", (log2(30), log2(1), log2(5), log2(2))),
    ],
)
def test_transpositions_by_hand(
    shape: tuple[int, ...], order: tuple[int, ...], kind: str, features: tuple[float, ...]
) -> None:
    found = describe(operator("Transpose", [shape], [tuple(shape[axis] for axis in order)], perm=order))
    assert (found.kind, found.features) == (kind, pytest.approx(features))


@pytest.mark.parametrize(
    ("made", "kind", "dtype"),
    [
        (operator("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)], [(1, 4, 6, 6)]), "conv-kxk", "float32"),
        (operator("Conv", [(1, 3, 8, 8), (4, 3, 1, 1)], [(1, 4, 8, 8)]), "conv-1x1", "float32"),
        (operator("Conv", [(1, 4, 8, 8), (4, 1, 3, 3)], [(1, 4, 6, 6)], group=4), "conv-depthwise", "float32"),
        (operator("Conv", [(1, 4, 8, 8), (4, 2, 3, 3)], [(1, 4, 6, 6)], group=2), "conv-grouped", "float32"),
        (operator("MatMul", [(5, 8), Tensor("w", DType.FLOAT, (8, 3), None, True)], [(5, 3)]), "gemm", "float32"),
        (operator("MatMul", [(1, 8), Tensor("w", DType.FLOAT, (8, 3), None, True)], [(1, 3)]), "gemv", "float32"),
        (operator("MatMul", [(2, 5, 8), (2, 8, 3)], [(2, 5, 3)]), "bmm", "float32"),
        (operator("Add", [(2, 3), (2, 3)], [(2, 3)]), "add-same", "float32"),
        (operator("Add", [(2, 3), (3,)], [(2, 3)]), "add-row", "float32"),
        (operator("Add", [(2, 3), (2, 1)], [(2, 3)]), "add-column", "float32"),
        (operator("Add", [(2, 3), ()], [(2, 3)]), "add-scalar", "float32"),
        (operator("Relu", [(2, 3)], [(2, 3)], dtype=DType.FLOAT16), "relu", "float16"),
        (operator("Reshape", [(2, 3), np.asarray([6])], [(6,)]), "view", "float32"),
        (operator("Unknown", [(2, 3)], [(6,)], domain="example"), "example.Unknown", "float32"),
    ],
)
def test_kinds_by_hand(made: Operator, kind: str, dtype: str) -> None:
    assert (describe(made).kind, describe(made).dtype) == (kind, dtype)


@pytest.mark.parametrize(
    ("shape", "axes", "kind", "like"),
    [
        ((8, 16), [1], "reducemean-last", "reducemean-last"),
        ((8, 16), [0], "reducemean-inner", "reducemean-inner"),
        ((2, 8, 16), [1], "reducemean-inner", "reducemean-inner"),
        ((2, 3, 8, 16), [2], "reducemean-inner", "reducemean-inner"),
        # What precedes the first axis that is treated otherwise is one: there is nothing to share out.
        ((1, 8, 16), [1], "reducemean-slow", "reducemean-inner"),
        ((1, 28, 28, 72), [1, 2], "reducemean-slow", "reducemean-inner"),
        ((1, 1, 153, 512), [2], "reducemean-slow", "reducemean-inner"),
        ((1, 512), [0], "reducemean-slow", "reducemean-inner"),
    ],
)
def test_reductions_by_hand(shape: tuple[int, ...], axes: list[int], kind: str, like: str) -> None:
    result = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    found = describe(operator("ReduceMean", [shape, np.asarray(axes)], [result]))
    assert (found.kind, found.like) == (kind, like)


def test_a_profile_that_knows_no_such_distinction_has_the_kind_that_it_was_made_in() -> None:
    made = operator("ReduceMean", [(1, 8, 16), np.asarray([1])], [(1, 1, 16)])
    model = time_model(kernels=(model_of("reducemean-inner", "float32", 3e-6), model_of("reduction", "float32", 1e-6)))
    (time,) = predict(model, [Work(made, 0, 0)])
    assert time is not None
    assert (time.seconds, time.exact) == (pytest.approx(3e-6), True)


def test_bytes_count_each_tensor_once() -> None:
    x, w = Tensor("x", DType.FLOAT, (4,)), Tensor("w", DType.INT8, (8,), None, True)
    made = Operator("n", "Any", "", 1, (x, x, w, None), (Tensor("y", DType.FLOAT16, (3,)),), {})
    assert bytes_moved(made) == (16, 8, 6)
    unknown = Operator("n", "Any", "", 1, (Tensor("x", DType.FLOAT, None),), (), {})
    assert not is_known(unknown)


def test_bytes_since_an_input_was_made_by_hand() -> None:
    """Every operator reads and writes 16 bytes: 32 each, 96 in all."""
    x, t, u, v = (Tensor(name, DType.FLOAT, (4,)) for name in "xtuv")
    made = [Operator(each.name, "Relu", "", 14, (source,), (each,), {}) for source, each in ((x, t), (t, u), (t, v))]
    # The input was there a whole run ago; the second operator follows the maker of t at once, the third one later.
    assert bytes_since(made) == [96, 0, 32]
    small = Tensor("s", DType.FLOAT, (1,))
    joined = [*made, Operator("j", "Add", "", 14, (small, u), (Tensor("j", DType.FLOAT, (4,)),), {})]
    assert bytes_since(joined)[-1] == 32  # the larger of two counts
    assert bytes_since([Operator("c", "Constant", "", 14, (), (t,), {})]) == [0]


def test_a_profile_of_more_features_than_this_release_knows_is_refused() -> None:
    made = operator("Relu", [(3,)], [(3,)])
    many = (0.0,) * 40
    efficiency = Efficiency(
        centre=many, scale=many, low=many, high=many, mean=0.0, length=1.0, points=(many,), weights=(0.0,)
    )
    model = time_model(kernels=(model_of("relu", "float32", 1e-6, efficiency=efficiency),))
    with pytest.raises(ProfileError, match="a later release made it"):
        predict(model, [Work(made, 0, 0)])


def test_seconds_by_hand() -> None:
    made = operator("Add", [(1000,), Tensor("w", DType.FLOAT, (1000,), None, True)], [(1000,)])
    (time,) = predict(time_model(), [Work(made, 10**9, 0)])
    assert time is not None
    data_s = 4000 * (PER_INPUT_BYTE_S + PER_CONSTANT_BYTE_S + PER_OUTPUT_BYTE_S)
    seconds = CALL_S + 10**9 * PER_TO_S + data_s
    assert time.seconds == pytest.approx(seconds)
    assert time.compute_share == pytest.approx(1e9 * PER_TO_S / seconds)
    assert time.data_share == pytest.approx(data_s / seconds)
    assert (time.key, time.exact) == (("*", "*"), False)


def model_of(kind: str, dtype: str, call_s: float, **more: Any) -> KernelModel:
    line = Line(call_s=call_s, per_to_s=0, per_input_byte_s=0, per_constant_byte_s=0, per_output_byte_s=0)
    return KernelModel(kind=kind, dtype=dtype, samples=9, line=line, log_error=0.1, **more)


def test_the_most_specific_class_is_taken() -> None:
    keys = [("relu", "float32"), ("relu", "*"), ("unary", "float32"), ("unary", "*"), ("*", "*")]
    models = [model_of(kind, dtype, 1e-6 * (index + 1)) for index, (kind, dtype) in enumerate(keys)]
    kernel = Kernel("relu", "unary", "float32", (1.0,))
    for first in range(5):
        found = time_model(kernels=tuple(models[first:])).find(kernel)
        assert found is not None and (found.kind, found.dtype) == keys[first]
    assert time_model(kernels=(model_of("tanh", "*", 1e-6),)).find(kernel) is None


def test_what_is_unknown_has_no_seconds() -> None:
    unknown = Operator("n", "Relu", "", 14, (Tensor("x", DType.FLOAT, None),), (), {})
    other = operator("Relu", [(3,)], [(3,)])
    assert predict(time_model(), [Work(unknown, 0, 0)]) == [None]
    assert predict(time_model(kernels=(model_of("tanh", "*", 1e-6),)), [Work(other, 0, 0)]) == [None]


def test_an_efficiency_multiplies_the_line() -> None:
    made = operator("Relu", [(3,)], [(3,)])
    features = len(describe(made).features) + 5  # as an older profile: bytes in, of constants, out; TO; the network's
    efficiency = Efficiency(
        centre=(0.0,) * features,
        scale=(0.0,) * features,
        low=(0.0,) * features,
        high=(9.0,) * features,
        mean=math.log(3),
        length=1.0,
        points=((0.0,) * features,),
        weights=(math.log(2),),
    )
    # Nothing varied, so every operator is at the one point, where the covariance is 1: f = log 3 + log 2.
    model = TimeModel(
        level="all",
        reference_s=1e-3,
        seconds_per_run=0.0,
        common_log_error=0.0,
        kernels=(model_of("relu", "float32", 1e-6, efficiency=efficiency),),
    )
    (time,) = predict(model, [Work(made, 0, 0)])
    assert time is not None and time.exact
    assert time.seconds == pytest.approx(6e-6)


def test_a_call_takes_less_in_a_run_than_under_the_profiler_and_at_least_half() -> None:
    model = time_model(kernels=(model_of("*", "*", 8e-6),), profiled_excess_s=3e-6)
    assert [model.in_a_run(seconds) for seconds in (1e-6, 5e-6, 6e-6, 1e-3)] == pytest.approx(
        [0.5e-6, 2.5e-6, 3e-6, 0.997e-3]
    )
    (time,) = predict(model, [Work(operator("Relu", [(3,)], [(3,)]), 0, 0)])
    assert time is not None and time.seconds == pytest.approx(5e-6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"low": ()}, "differ in length"),
        ({"weights": ()}, "1 points, but 0 weights"),
        ({"points": ((),)}, "one number"),
    ],
)
def test_efficiencies_that_do_not_fit_together_are_refused(change: dict[str, Any], problem: str) -> None:
    whole = {"centre": (0.0,), "scale": (1.0,), "low": (0.0,), "high": (1.0,), "mean": 0.0, "length": 1.0}
    whole |= {"points": ((0.0,),), "weights": (1.0,)}
    with pytest.raises(ValueError, match=problem):
        Efficiency(**{**whole, **change})
