"""The fit: coefficients against scipy and by hand, what cannot be told apart, and the efficiency against refits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import curve_fit, lsq_linear
from scipy.spatial.distance import cdist

from onnx_aiwq.calibration import fitting
from onnx_aiwq.calibration.assessment import assess, baseline_errors, errors_of
from onnx_aiwq.calibration.fitting import fit_efficiency, fit_kernels, fit_line, observe
from onnx_aiwq.calibration.sampling import Sample
from onnx_aiwq.errors import ProfileError
from onnx_aiwq.kernels import describe
from onnx_aiwq.kernels.model import TimeModel, Work, efficiency_logs, predict
from onnx_aiwq.operations.registry import find_rule
from onnx_aiwq.transistors import transistor_operations
from onnx_aiwq.vocabulary import Operator
from operators import operator

Array = NDArray[Any]
KNOWN = np.asarray([2e-6, 3e-15, 1e-10, 5e-11, 2e-10])  # seconds per call, TO, byte in, of constants, out
NAMES = ("call_s", "per_to_s", "per_input_byte_s", "per_constant_byte_s", "per_output_byte_s")


def work(rows: int, seed: int = 0) -> Array:
    """Calls, transistor operations and bytes of operators whose sizes are spread over four decades."""
    random = np.random.default_rng(seed)
    return np.column_stack([np.ones(rows), 10 ** random.uniform(7, 11, rows), *(10 ** random.uniform(3, 7, (3, rows)))])


def coefficients(line: Any) -> Array:
    return np.asarray([getattr(line, name) for name in NAMES])


def test_known_coefficients_come_back() -> None:
    columns = work(60)
    line, matrix, rank, condition = fit_line(columns, columns @ KNOWN)
    assert coefficients(line) == pytest.approx(KNOWN, rel=1e-4)
    assert rank == 5
    assert condition is not None and 1 <= condition < 100
    assert np.sqrt(np.diag(matrix)) == pytest.approx(np.zeros(5), abs=1e-18)


@pytest.mark.parametrize("seed", range(6))
def test_noisy_fits_equal_scipy(seed: int) -> None:
    """Bounded least squares by another algorithm (trust region), and, where no bound is met, curve_fit's covariance."""
    random = np.random.default_rng(seed)
    columns = work(80, seed)
    truth = np.where(np.arange(5) == seed, 0.0, KNOWN)  # in some of them a coefficient is nothing
    seconds = columns @ truth * np.exp(random.normal(0, 0.1, 80))
    line, matrix, rank, _ = fit_line(columns, seconds)
    deviations = np.maximum(seconds, 1e-6) ** 0.75
    unit = np.abs(columns).max(0)
    bounded = lsq_linear(columns / unit / deviations[:, None], seconds / deviations, (0, np.inf), method="bvls")
    assert coefficients(line) == pytest.approx(bounded.x / unit, rel=1e-4, abs=1e-20)
    assert rank == 5
    free = [index for index in range(5) if bounded.x[index] > 0]
    size = 1 / np.abs(KNOWN)

    def model(chosen: Array, *values: float) -> Array:
        return chosen @ np.asarray(values)

    _, covariance = curve_fit(
        model, columns[:, free] / size[free], seconds, p0=np.ones(len(free)), sigma=deviations, absolute_sigma=False
    )
    found = np.asarray(matrix)[np.ix_(free, free)] * np.outer(size[free], size[free])
    assert found == pytest.approx(covariance, rel=2e-3, abs=1e-9)
    bound = [index for index in range(5) if index not in free]
    assert not np.asarray(matrix)[bound].any()


def test_collinear_columns_are_told() -> None:
    columns = work(40)
    columns[:, 4] = 2 * columns[:, 2]
    line, _, rank, condition = fit_line(columns, columns @ KNOWN)
    assert (rank, condition) == (4, None)
    # Either column may carry the seconds; together they are right.
    assert line.per_input_byte_s + 2 * line.per_output_byte_s == pytest.approx(KNOWN[2] + 2 * KNOWN[4], rel=1e-4)


def test_a_zero_column_is_left_out() -> None:
    columns = work(40)
    columns[:, 3] = 0
    line, matrix, rank, condition = fit_line(columns, columns @ KNOWN)
    assert rank == 4
    assert condition is not None and math.isfinite(condition)
    assert line.per_constant_byte_s == 0
    assert not np.asarray(matrix)[3].any()
    assert line.per_to_s == pytest.approx(KNOWN[1], rel=1e-4)


def test_one_sample() -> None:
    columns = work(1)
    line, matrix, rank, condition = fit_line(columns, columns @ KNOWN)
    assert (rank, condition) == (1, None)
    assert not np.asarray(matrix).any()  # one sample says nothing of a spread
    assert columns @ coefficients(line) == pytest.approx(columns @ KNOWN, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    columns = work(10)
    seconds = columns @ KNOWN
    with pytest.raises(ProfileError, match="not finite; take them again"):
        fit_line(columns, np.where(np.arange(10) == 3, bad, seconds))
    columns[2, 1] = bad
    with pytest.raises(ProfileError, match="not finite; take them again"):
        fit_line(columns, seconds)
    with pytest.raises(ProfileError, match="no numbers"):
        fit_line(columns[:0], seconds[:0])


# --- efficiency --------------------------------------------------------------------------------------------------


def kernel(left: Array, right: Array, length: float) -> Array:
    """Matern 3/2 of variance 1 and 0.3 of a linear covariance, from their definitions."""
    scaled = math.sqrt(3) * cdist(left, right) / length
    return (1 + scaled) * np.exp(-scaled) + 0.3 * (left @ right.T) / left.shape[1]


def test_leaving_one_out_equals_refits() -> None:
    """Length and noise are those that predict best where each sample in turn took no part."""
    random = np.random.default_rng(3)
    features = random.uniform(0, 10, (24, 3))
    logs = 0.4 * np.sin(features[:, 0]) + 0.05 * features[:, 1] + random.normal(0, 0.05, 24)
    seconds = 10 ** random.uniform(-6, -3, 24)
    found = fit_efficiency(features, logs, seconds, random)

    weights = np.sqrt(seconds / seconds.mean())
    points = np.asarray(found.points)
    assert points == pytest.approx((features - features.mean(0)) / features.std(0), abs=0.006)  # they are kept rounded
    mean = np.average(logs, weights=weights)
    scores = {}
    for length in (1.0, 2.0, 4.0, 8.0):
        for noise in (0.003, 0.01, 0.03, 0.1, 0.3):
            missed = []
            for index in range(24):
                rest = np.arange(24) != index
                within = kernel(points[rest], points[rest], length) + noise * np.eye(23)
                solved = np.linalg.solve(within, logs[rest] - mean)
                guess = mean + float((kernel(points[[index]], points[rest], length) @ solved)[0])
                missed.append(min(abs(guess - logs[index]), 1.0))
            scores[length, noise] = np.average(missed, weights=weights)
    length, noise = min(scores, key=lambda key: scores[key])
    assert found.length == length
    expected = np.linalg.solve(kernel(points, points, length) + noise * np.eye(24), logs - mean)
    assert np.asarray(found.weights) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_smooth_function_is_recovered() -> None:
    random = np.random.default_rng(5)

    def truth(features: Array) -> Array:
        return 0.3 * np.sin(features[:, 0]) + 0.1 * features[:, 1]

    features = random.uniform(0, 6, (180, 2))
    found = fit_efficiency(features, truth(features), np.ones(180), random)
    fresh = random.uniform(0.5, 5.5, (60, 2))
    assert efficiency_logs(found, fresh) == pytest.approx(truth(fresh), abs=0.03)


def test_predictions_equal_the_formula_and_stop_at_the_edge() -> None:
    random = np.random.default_rng(7)
    features = np.column_stack([random.uniform(0, 6, 30), np.full(30, 4.0)])  # one that never varies
    found = fit_efficiency(features, random.normal(0, 0.2, 30), np.ones(30), random)
    assert found.scale[1] == 0
    fresh = np.asarray([[2.0, 4.0], [5.0, 4.0]])
    points = (fresh - np.asarray(found.centre)) / np.asarray([found.scale[0], 1.0])
    expected = found.mean + kernel(points, np.asarray(found.points), found.length) @ np.asarray(found.weights)
    assert efficiency_logs(found, fresh) == pytest.approx(expected, rel=1e-9)
    edge = np.asarray([[features[:, 0].max(), 4.0]])
    assert efficiency_logs(found, edge + np.asarray([[100.0, 0.0]])) == pytest.approx(
        efficiency_logs(found, edge), abs=1e-4
    )
    # A feature that never varied says nothing, whatever it is later.
    assert efficiency_logs(found, fresh + np.asarray([[0.0, 9.0]])) == pytest.approx(efficiency_logs(found, fresh))


def test_many_samples_are_thinned_the_same_way_every_time() -> None:
    features = np.random.default_rng(1).uniform(0, 6, (400, 2))
    logs = np.sin(features[:, 0])
    found = [fit_efficiency(features, logs, np.ones(400), np.random.default_rng(2)) for _ in range(2)]
    assert found[0] == found[1]
    assert len(found[0].points) == 200
    assert len(fit_efficiency(features, logs, np.ones(400), np.random.default_rng(2), most=64).points) == 64
    assert found[0].low == pytest.approx(features.min(0), rel=1e-4)  # the range is that of all


# --- samples, kinds and errors -----------------------------------------------------------------------------------


def relu(size: int) -> Operator:
    return operator("Relu", [(size,)], [(size,)])


def samples(
    composites: int, per_composite: int, *, slow: float = 1.0, run_s: float = 0.0, excess_s: float = 0.0
) -> list[Sample]:
    """Relu and Sigmoid at known seconds: 2 us, 0.5 ns and 4 ns per element; every other network on a slower machine.

    A whole takes `run_s`, and of each of its kernels `excess_s` less than that, at most half.
    """
    random = np.random.default_rng(11)
    found = []
    for index in range(composites):
        speed = slow if index % 2 else 1.0
        total = run_s
        for position in range(per_composite):
            size = int(10 ** random.uniform(2, 6))
            kind, per_element = ("Relu", 5e-10) if position % 2 else ("Sigmoid", 4e-9)
            seconds = 2e-6 + per_element * size
            total += seconds - min(excess_s, seconds / 2)
            made = operator(kind, [(size,)], [(size,)])
            found.append(Sample(f"c{index}", f"n{position}", seconds * speed, 1e-3 * speed, made))
        found.append(Sample(f"c{index}", "", total * speed, 1e-3 * speed, None))
    return found


def test_the_drift_of_the_machine_is_divided_out() -> None:
    steady, drifting = observe(samples(4, 6)), observe(samples(4, 6, slow=2.0))
    speed = drifting.reference_s / steady.reference_s
    for one, other in zip(steady.nodes, drifting.nodes, strict=True):
        assert other.seconds == pytest.approx(one.seconds * speed)
    assert dict(drifting.wholes) == pytest.approx({name: value * speed for name, value in steady.wholes.items()})


def test_no_samples_are_refused() -> None:
    with pytest.raises(ProfileError, match="no samples to fit"):
        observe([])


def test_kinds_are_fitted_and_predict_new_sizes() -> None:
    fitted = fit_kernels(observe(samples(6, 10)).nodes)
    assert [(each.kind, each.dtype) for each in fitted] == [
        ("relu", "float32"),
        ("sigmoid", "float32"),
        ("unary", "float32"),
        ("*", "*"),
    ]
    assert [each.samples for each in fitted] == [30, 30, 60, 60]
    model = TimeModel(level="all", reference_s=1e-3, seconds_per_run=0.0, common_log_error=0.0, kernels=fitted)
    new = operator("Sigmoid", [(50_000,)], [(50_000,)])
    rule = find_rule("Sigmoid", "", 13)
    assert rule is not None and rule.function is not None
    (time,) = predict(model, [Work(new, transistor_operations(rule.function(new)), 0)])
    assert time is not None and time.exact
    assert time.seconds == pytest.approx(2e-6 + 4e-9 * 50_000, rel=0.02)
    # A kind that was never met falls back on its group.
    (other,) = predict(model, [Work(operator("Tanh", [(50_000,)], [(50_000,)]), 10**6, 0)])
    assert other is not None and not other.exact and other.key == ("unary", "float32")
    assert describe(new).kind == "sigmoid"


def test_leaving_out_an_exact_machine_finds_next_to_no_error() -> None:
    found = assess(observe(samples(12, 10)), 0.0)
    assert found.profiled_excess_s < 1e-6
    assert found.composites.count == 12
    assert found.composites.worst < 0.05
    assert found.composites.rank_correlation > 0.95
    assert 0 <= found.coverage <= 1
    assert found.baselines["constant"].median > found.composites.median


def test_what_the_profiler_adds_to_a_call_shows_in_whole_runs() -> None:
    """3 us a call, and 40 us a run: without them the smallest composites are predicted up to half too slow."""
    taken = observe(samples(18, 10, run_s=4e-5, excess_s=3e-6))
    found = assess(taken, 4e-5)
    assert found.profiled_excess_s == pytest.approx(3e-6, abs=1e-6)
    assert found.composites.worst < 0.05
    assert assess(taken, 1e-3).composites.median > 0.05  # of a run that takes longer than was measured


def test_errors_by_hand() -> None:
    errors = errors_of([1.1, 3.0, 2.0, 8.0], [1.0, 2.0, 3.0, 4.0])  # 10 %, 50 %, 33.3 %, 100 %
    assert errors.median == pytest.approx((0.5 + 1 / 3) / 2)
    assert errors.mean == pytest.approx((0.1 + 0.5 + 1 / 3 + 1) / 4)
    assert errors.worst == pytest.approx(1)
    assert errors_of([1.05, 2.0], [1.0, 4.0]).within_10_percent == 0.5
    assert errors.rank_correlation == pytest.approx(0.8)  # ranks 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert math.isnan(errors_of([1.0, 2.0], [1.0, 2.0]).rank_correlation)
    assert math.isnan(errors_of([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).rank_correlation)


def test_baselines_by_hand() -> None:
    macs = np.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
    transistors = np.asarray([2.0, 1.0, 4.0, 3.0, 6.0, 5.0])
    bytes_ = np.asarray([5.0, 9.0, 2.0, 6.0, 5.0, 3.0])
    seconds = 1 + 2 * transistors + 3 * transistors**2
    found = baseline_errors(np.column_stack([macs, transistors, bytes_]), seconds)
    assert found["TO polynomial n=2"].worst == pytest.approx(0, abs=1e-6)
    assert found["TO polynomial n=1"].worst > 0.05
    means = np.asarray([seconds[np.arange(6) != index].mean() for index in range(6)])
    assert found["constant"].mean == pytest.approx(np.abs(means / seconds - 1).mean())
    rest = [np.arange(6) != index for index in range(6)]
    per_mac = np.asarray([macs[each] @ seconds[each] / (macs[each] @ macs[each]) for each in rest])
    assert found["seconds per MAC"].median == pytest.approx(np.median(np.abs(per_mac * macs / seconds - 1)))


def test_five_digits_are_kept() -> None:
    assert fitting._rounded(1.23456789e-12) == 1.2346e-12


def test_the_age_of_inputs_counts_where_every_sample_has_it() -> None:
    made = [operator("Relu", [(size,)], [(size,)]) for size in (100, 1000)]
    aged = [Sample("c", f"node_{index}", 1e-6, 1e-3, each, 64) for index, each in enumerate(made)]
    assert [node.work.since_bytes for node in observe(aged).nodes] == [64, 64]
    older = [Sample("d", "node_0", 1e-6, 1e-3, made[0])]
    assert [node.work.since_bytes for node in observe([*aged, *older]).nodes] == [0, 0, 0]
