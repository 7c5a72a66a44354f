"""The networks that calibration measures: the same for a seed, they run, and their shapes are those of the run."""

from __future__ import annotations

import numpy as np
import pytest

import onnx_aiwq as aiwq
from onnx_aiwq.calibration.composites import PLANS, composite, plan_of
from onnx_aiwq.calibration.weights import example_inputs
from runtime import run_all_nodes
from runtime_release import skip_if_old

FIRST = [PLANS.index(plan) for plan in dict.fromkeys(PLANS)]  # a seed for every kind and form
SEEDS = sorted({*FIRST, 5, 10, 11})


def test_every_kind_and_form_is_among_the_seeds() -> None:
    assert len(SEEDS) >= 12
    assert {plan_of(seed) for seed in SEEDS} == set(PLANS)
    assert plan_of(len(PLANS)) == PLANS[0]


@pytest.mark.parametrize("seed", [1, 2, 7, 17])
def test_the_same_seed_gives_the_same_network(seed: int) -> None:
    assert composite(seed).SerializeToString(deterministic=True) == composite(seed).SerializeToString(
        deterministic=True
    )


def test_another_seed_of_the_same_kind_gives_another_network() -> None:
    assert plan_of(2) == plan_of(11)
    assert {node.name for node in composite(2).graph.node} != {node.name for node in composite(11).graph.node}


@pytest.mark.parametrize("seed", SEEDS)
def test_it_runs_and_shapes_are_those_of_the_run(seed: int) -> None:
    model = composite(seed)
    if any(node.op_type == "ConvInteger" for node in model.graph.node):
        skip_if_old("has no kernel for ConvInteger of int8")
    arrays = run_all_nodes(model, example_inputs(model, {}))
    for output in model.graph.output:
        assert np.isfinite(np.asarray(arrays[output.name], dtype=np.float64)).all(), output.name
    graph = aiwq.load(model)
    assert not graph.assumed_bindings
    seen = 0
    for operator in graph.operators:
        for tensor in operator.outputs:
            if tensor is not None and tensor.name in arrays:
                assert tensor.shape == arrays[tensor.name].shape, (operator.name, tensor.name)
                seen += 1
    assert seen == sum(bool(name) for node in model.graph.node for name in node.output)
