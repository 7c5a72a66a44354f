"""The TO paper's experiment: fits against scipy, the protocol by hand, refusals, the command, the schema."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from onnx_aiwq.calibration.reproduction import evaluation
from onnx_aiwq.calibration.reproduction.document import constant_on_equations, published, reproduction
from onnx_aiwq.calibration.reproduction.measuring import counted
from onnx_aiwq.calibration.reproduction.networks import Network, paper_networks
from onnx_aiwq.calibration.reproduction.regression import least_squares, polynomial
from onnx_aiwq.calibration.reproduction.samples import Sample, read_samples, samples_text
from onnx_aiwq.errors import ProfileError
from onnx_aiwq.render.reproduction import render_reproduction
from processes import aiwq
from schemas import left_open, problems


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return aiwq(Path.cwd(), {}, "reproduce", *arguments)


def synthetic(runs: int = 10, *, intercept_j: float = 2.0, slope: float = 3e-9, noise: float = 0.01) -> list[Sample]:
    """Samples of all networks on a line in TOs, with relative noise; the label says that nobody measured them."""
    random = np.random.default_rng(1)
    samples = []
    for network in paper_networks():
        tos, flops = (1000 * each for each in _counts(network))
        for number in range(1, runs + 1):
            joules = (intercept_j + slope * tos) * (1 + noise * random.standard_normal())
            samples.append(
                Sample(
                    network.name, network.family, network.activation, network.size, number, 1000, tos, flops,
                    joules / 5, joules, "replayed",
                )
            )  # fmt: skip
    return samples


def _counts(network: Network) -> tuple[int, int]:
    if network not in _COUNTED:
        _COUNTED[network] = counted(network)
    return _COUNTED[network]


_COUNTED: dict[Network, tuple[int, int]] = {}


# --- least squares -------------------------------------------------------------------------------------------------


def test_a_line_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    x = random.uniform(1e9, 9e9, 40)
    y = 5.0 + 2e-9 * x + random.normal(0, 0.1, 40)
    found, expected = polynomial(x, y, 1), stats.linregress(x, y)
    assert found.fit.coefficients[0] == pytest.approx(expected.intercept, rel=1e-9)
    assert found.fit.coefficients[1] / found.unit == pytest.approx(expected.slope, rel=1e-9)
    assert found.fit.standard_errors[0] == pytest.approx(expected.intercept_stderr, rel=1e-9)
    assert found.fit.standard_errors[1] / found.unit == pytest.approx(expected.stderr, rel=1e-9)
    assert found.fit.adjusted_r2 == pytest.approx(1 - (1 - expected.rvalue**2) * 39 / 38, rel=1e-9)
    residuals = y - expected.intercept - expected.slope * x
    assert found.fit.rmse == pytest.approx(math.sqrt((residuals**2).mean()), rel=1e-9)


@pytest.mark.parametrize("degree", [2, 3])
def test_known_coefficients_and_scipys_errors(degree: int) -> None:
    true = np.asarray([4.0, -1.0, 0.5, 2.0])[: degree + 1]
    random = np.random.default_rng(degree)
    x = random.uniform(0.5, 1.5, 200)
    y = sum(b * x**power for power, b in enumerate(true)) + random.normal(0, 0.01, 200)
    found = polynomial(x, y, degree)
    in_x = np.asarray(found.fit.coefficients) / found.unit ** np.arange(degree + 1)
    in_x_errors = np.asarray(found.fit.standard_errors) / found.unit ** np.arange(degree + 1)
    best, covariance = optimize.curve_fit(lambda x, *b: sum(c * x**i for i, c in enumerate(b)), x, y, p0=true)
    assert in_x == pytest.approx(best, rel=1e-4)
    assert in_x_errors == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-3)
    assert np.abs(in_x - true).max() < 5 * in_x_errors.max()
    assert found.predict(np.asarray([1.0]))[0] == pytest.approx(true.sum(), abs=0.01)


def test_powers_of_large_counts_do_not_spoil_the_fit() -> None:
    x = np.linspace(1e12, 4e13, 60)
    y = 1 + (x / 1e13) ** 3
    found = polynomial(x, y, 3)
    assert found.predict(x) == pytest.approx(y, rel=1e-9)
    assert found.fit.rank == 4
    assert 1 < found.fit.condition < 1e3


@pytest.mark.parametrize(
    ("columns", "target", "expected"),
    [
        ([[1, 2, 4], [1, 3, 6], [1, 4, 8], [1, 5, 10]], [1, 2, 3, 4], "rank 2 of 3, condition .*superfluous 'c'"),
        ([[1, 7], [1, 7], [1, 7]], [1, 2, 3], "rank 1 of 2, condition .*superfluous 'b'"),
        ([[1, 0], [1, 0], [1, 0]], [1, 2, 3], "the column 'b' is zero in all 3 samples"),
        ([[1, 2]], [1], r"1 sample\(s\) for 2 coefficients .* needs at least 3"),
        ([[1, 2], [1, 3]], [1, 2], r"2 sample\(s\) for 2 coefficients"),
        ([[1, 2], [1, math.nan], [1, 3], [1, 4]], [1, 2, 3, 4], "not finite, at row 1;"),
        ([[1, 2], [1, 5], [1, 3], [1, 4]], [1, 2, math.inf, 4], "not finite, at row 2;"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(columns: Any, target: Any, expected: str) -> None:
    names = "abc"[: len(columns[0])]
    with pytest.raises(ProfileError, match=expected):
        least_squares(np.asarray(columns, dtype=float), np.asarray(target, dtype=float), names)


def test_one_network_has_no_slope() -> None:
    with pytest.raises(ProfileError, match="'TOs'"):
        polynomial(np.full(20, 3e9), np.linspace(1, 2, 20), 1, "TOs")


def test_a_constant_target_has_no_r2() -> None:
    assert polynomial(np.asarray([1.0, 2.0, 3.0]), np.full(3, 7.0), 1).fit.adjusted_r2 is None


# --- the protocol --------------------------------------------------------------------------------------------------


def test_the_networks_are_those_of_table_iv() -> None:
    networks = list(paper_networks())
    assert [sum(n.family == family for n in networks) for family in ("DNN", "CNN")] == [45, 9]
    # 4-w-w-w-1: 4w + 2w^2 + w multiply-accumulates of one instance.
    assert [_counts(n)[1] for n in networks[:15]] == [5 * w + 2 * w * w for w in range(4, 19)]
    # Two layers: 256^2 x 32 x 27, 128^2 x 32 x 288, and the head of 32.
    assert _counts(networks[45])[1] == 65536 * 32 * 27 + 16384 * 32 * 288 + 32


def test_five_of_fifty_runs_are_dropped_at_each_end() -> None:
    kept = evaluation.trimmed(synthetic(50))
    assert len(kept) == 54 * 40
    one = [sample.joules for sample in synthetic(50) if sample.network == "CNN-GELU-2"]
    assert sorted(s.joules for s in kept if s.network == "CNN-GELU-2") == sorted(one)[5:45]


def test_splits_train_on_60_percent_of_runs_or_of_networks() -> None:
    networks = np.asarray([f"net{i}" for i in range(15) for _ in range(40)])
    random = np.random.default_rng(0)
    train = evaluation.by_run(networks, random)
    assert {int(train[networks == name].sum()) for name in np.unique(networks)} == {24}
    train = evaluation.by_network(networks, random)
    assert sorted(int(train[networks == name].sum()) for name in np.unique(networks)) == [0] * 6 + [40] * 9


def test_scores_by_hand() -> None:
    """Eight networks without noise, y = x: the line is exact, the constant errs by what can be worked out."""
    names = np.repeat([f"n{i}" for i in range(8)], 5)
    x = np.repeat(np.arange(1.0, 9.0), 5)
    group = evaluation.Group("DNN", "Tanh", names, {"TOs": x, "FLOPs": x}, x)
    line = evaluation.score(group, "network", "TOs", 1, 3, 0)
    assert line["precision_min_pct"] == pytest.approx(100)
    assert line["skill"] == pytest.approx(1)
    constant = evaluation.score(group, "run", None, 0, 1, 0)
    # Three of five runs of each network train: the mean is 4.5; the two others of each validate.
    off = np.abs(4.5 - np.arange(1.0, 9.0))
    assert constant["precision_avg_pct"] == pytest.approx(100 * (1 - (off / np.arange(1.0, 9.0)).mean()))
    assert constant["precision_min_pct"] == pytest.approx(-250)
    assert constant["rmse_j"] == pytest.approx(math.sqrt((off**2).mean()))
    assert (constant["err_max_j"], constant["skill"], constant["adjusted_r2"]) == (3.5, 0, None)


def test_a_split_by_run_flatters() -> None:
    """Networks that each have an offset of their own: runs of known networks say nothing of that."""
    random = np.random.default_rng(0)
    names = np.repeat([f"n{i}" for i in range(9)], 40)
    x = np.repeat(np.arange(1.0, 10.0), 40)
    joules = 10 + np.repeat(random.normal(0, 1, 9), 40) + random.normal(0, 0.01, 360)
    group = evaluation.Group("CNN", "GELU", names, {"TOs": x, "FLOPs": x}, joules)
    skills = {split: evaluation.score(group, split, "TOs", 3, 20, 0)["skill"] for split in ("run", "network")}
    assert skills["run"] > 0.2
    assert skills["network"] < 0


def test_a_constant_scores_on_the_papers_lines_what_the_facts_say() -> None:
    scores = {
        (row["platform"], row["network"]): row["constant_precision_avg_pct"]
        for row in constant_on_equations(synthetic(5))
    }
    assert scores["laptop", "DNN"] == pytest.approx(97.6, abs=0.1)
    assert scores["desktop", "DNN"] == pytest.approx(93.8, abs=0.2)


def test_the_papers_figures_are_carried_whole() -> None:
    rows = published("paper_table_v.csv")
    assert len(rows) == 18
    chosen = [
        row for row in rows if (row["platform"], row["condition"], row["metric_basis"]) == ("laptop", "CPU", "TOs")
    ]
    assert [(row["precision_min_pct"], row["precision_avg_pct"]) for row in chosen] == [(76.45, 93.61)]
    assert len(published("paper_equations_7_8.csv")) == 8


def test_the_line_that_samples_were_made_from_comes_back() -> None:
    document = reproduction(synthetic(noise=0.001), splits=3)
    written = json.loads(render_reproduction(document, "json"))
    assert problems("reproduction-1", written) == []
    # The schema names everything but the columns of the paper's own tables.
    assert [place for place in left_open("reproduction-1", written) if not place[1:].startswith("published.")] == []
    assert document["label"] == "replayed"
    assert len(document["table"]) == 5 * 2 * 7
    groups = list(dict.fromkeys(f"{row['family']} {row['activation']}" for row in document["table"]))
    assert groups == ["DNN Sigmoid", "DNN Tanh", "DNN GELU", "DNN all three", "CNN GELU"]
    fits = [fit for fit in document["fits"] if fit["basis"] == "TOs" and fit["n"] == 1]
    assert [fit["slope_j_per_unit"] for fit in fits] == pytest.approx([3e-9] * 5, rel=0.02)
    assert all(row["skill"] > 0.99 for row in document["table"] if row["basis"] == "TOs" and row["n"] == 1)
    # Samples on one line in TOs over three activations are on no line in FLOPs.
    pooled = {
        row["basis"]: row["skill"] for row in document["table"] if row["activation"] == "all three" and row["n"] == 1
    }
    assert pooled["TOs"] > pooled["FLOPs"]


def test_kinds_of_joules_are_not_mixed() -> None:
    samples = synthetic(5)
    with pytest.raises(ProfileError, match="one kind of joules"):
        reproduction([*samples, Sample(**{**samples[0].__dict__, "label": "measured"})])


def test_too_few_runs_or_networks_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"DNN-Sigmoid-4: 4 run\(s\)"):
        reproduction(synthetic(4))
    with pytest.raises(ProfileError, match=r"DNN Sigmoid: 2 network\(s\)"):
        reproduction([sample for sample in synthetic(5) if sample.size < 6])


# --- files and the command -----------------------------------------------------------------------------------------


def test_samples_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(samples_text(synthetic(5)), encoding="utf-8")
    assert [(s.network, s.run, s.transistor_operations) for s in read_samples(path)] == [
        (s.network, s.run, s.transistor_operations) for s in synthetic(5)
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("joules", "energy", "joules"),
        (",replayed", ",guessed", "line 2: .*guessed"),
        ("DNN-Sigmoid-4,DNN,Sigmoid", "DNN-Sigmoid-4,DNN,ReLU", "line 2: activation 'ReLU'"),
        ("DNN-Sigmoid-4,DNN,Sigmoid,4", "DNN-Sigmoid-4,DNN,Sigmoid,x", "line 2: .*'x'"),
        ("DNN-Sigmoid-4,DNN,Sigmoid,4", "DNN-Sigmoid-4,DNN,Sigmoid,-4", "line 2: every number"),
    ],
)
def test_files_that_are_no_samples(old: str, new: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(samples_text(synthetic(5)).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ProfileError, match=expected):
        read_samples(path)


def test_the_command_judges_samples_and_draws(tmp_path: Path) -> None:
    path, plots = tmp_path / "samples.csv", tmp_path / "plots"
    path.write_text(samples_text(synthetic(10)), encoding="utf-8")
    done = run(
        "transistor-operations", "--samples", str(path), "--splits", "2", "--plot", str(plots), "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    assert problems("reproduction-1", json.loads(done.stdout)) == []
    names = sorted(each.name for each in plots.iterdir())
    assert len(names) == 12
    assert (plots / "energy-dnn-all-three.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert (plots / "precision-by-split.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_people_read_both_splits_and_the_paper_side_by_side(form: str) -> None:
    text = " ".join(render_reproduction(reproduction(synthetic(), splits=2), form).split())
    assert "97.46 to 99.99 (99.14)" in text  # Table V: desktop, Sigmoid, TOs
    assert "Not reproduced: the training and validation levels" in text
    assert "laptop CPU Intel i9, DNN Sigmoid: 97." in text
    assert text.count("constant") >= 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["transistor-operation"], "did you mean 'transistor-operations'?"),
        (["transistor-operations", "--runs", "4"], "--runs 4: expected 5"),
        (["transistor-operations", "--splits", "0"], "--splits 0"),
        (["transistor-operations", "--window", "0"], "--window 0"),
        (["transistor-operations", "--meter", "nvml"], "--meter 'nvml'"),
        (["transistor-operations", "--format", "csv"], "--format 'csv'"),
        (["transistor-operations", "--samples", "/nowhere.csv"], "--samples /nowhere.csv: cannot be read"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], expected: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_matplotlib_nothing_is_measured() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; from onnx_aiwq.cli import main; "
        "sys.argv = ['aiwq', 'reproduce', 'transistor-operations', '--plot', 'plots']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'onnx-aiwq[plots]'" in done.stderr


@pytest.mark.slow
def test_a_whole_run_on_this_machine(tmp_path: Path) -> None:
    """Structure and sanity, not speed: deeper CNNs take more, and every label is that of the meter."""
    arguments = ["--runs", "5", "--window", "0.0005", "--watts", "10", "--meter", "power-model"]
    done = run("transistor-operations", *arguments, "--output", str(tmp_path), "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert problems("reproduction-1", document) == []
    assert document == json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert (document["label"], document["meter"]["name"]) == ("modelled", "power-model")
    energies = {entry["name"]: entry["mean_joules"] for entry in document["networks"]}
    assert energies["CNN-GELU-10"] > 3 * energies["CNN-GELU-2"]
    samples = read_samples(tmp_path / "samples.csv")
    assert len(samples) == 54 * 5
    assert all(sample.joules == pytest.approx(10 * sample.seconds, rel=1e-4) for sample in samples)
    assert "--watts" in done.stderr or "not measured" in done.stderr
