"""Classical machine learning against its own algorithms on self-tallying numbers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import reduce
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ModelError, ShapeError
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

ML = "ai.onnx.ml"
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def ml(op_type: str, shape: tuple[int, ...], outputs: int = 1, **attributes: Any) -> Operator:
    tensors = [Tensor("label", DType.INT64, shape[:1]), Tensor("scores", DType.FLOAT, None)]
    version = 5 if op_type == "TreeEnsemble" else 3
    return operator(op_type, [shape], tensors[2 - outputs :], domain=ML, version=version, **attributes)


def dot(a: Any, b: Any) -> Number:
    total: Number = np.dot(np.asarray(a, dtype=object), np.asarray(b, dtype=object))
    return total


def transformed(scores: list[Number], name: str) -> list[Number]:
    if name == "LOGISTIC":
        return [1.0 / ((-score).exp() + 1.0) for score in scores]
    if name == "PROBIT":
        return [(score * 2.0 - 1.0).root(lambda value: value) * math.sqrt(2) for score in scores]
    if name == "NONE":
        return scores
    if name == "SOFTMAX_ZERO":
        _ = [score == 0.0 for score in scores]
    highest = reduce(max, scores)
    powers = [(score - highest).exp() for score in scores]
    total = reduce(lambda a, b: a + b, powers)
    return [power / total for power in powers]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("rows", "features", "scores", "labels"), [(2, 3, 2, 2), (1, 5, 4, 4), (3, 2, 1, 2), (0, 3, 2, 2)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_classifier(transform: str, rows: int, features: int, scores: int, labels: int, bias: bool) -> None:
    tally: Counter[str] = Counter()
    weights = numbers((scores, features), tally, seed=1)
    for x in numbers((rows, features), tally):
        sums = [dot(x, weight) for weight in weights]
        if bias:
            sums = [value + 0.5 for value in sums]
        final = transformed(sums, transform)
        if scores == 1:
            _ = final[0] > 0.5, 1.0 - final[0]
        else:
            reduce(max, final)
    attributes: dict[str, Any] = {"coefficients": (0.5,) * scores * features, "classlabels_ints": tuple(range(labels))}
    if bias:
        attributes["intercepts"] = (0.5,) * scores
    counts = count(ml("LinearClassifier", (rows, features), 2, post_transform=transform, **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == 0


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("rows", "features", "targets"), [(4, 3, 1), (2, 1, 3), (1, 4, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_regressor(transform: str, rows: int, features: int, targets: int, bias: bool) -> None:
    tally: Counter[str] = Counter()
    weights = numbers((targets, features), tally, seed=1)
    for x in numbers((rows, features), tally):
        sums = [dot(x, weight) for weight in weights]
        transformed([value + 0.5 for value in sums] if bias else sums, transform)
    attributes: dict[str, Any] = {"coefficients": (0.5,) * targets * features, "targets": targets}
    if bias:
        attributes["intercepts"] = (0.5,) * targets
    counts = count(ml("LinearRegressor", (rows, features), post_transform=transform, **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def absolute(x: Number) -> Number:
    """Of positive numbers, as all here are; the test alone is counted."""
    assert x >= 0.0
    return x


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 1), (3, 0)])
def test_normalizer(norm: str, shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    for row in numbers(shape, tally).reshape(-1, shape[-1]) if shape[-1] else ():
        if norm == "MAX":
            size = reduce(max, row)
        elif norm == "L1":
            size = reduce(lambda a, b: a + b, [absolute(x) for x in row])
        else:
            size = dot(row, row).sqrt()
        _ = row / size
    assert count(ml("Normalizer", shape, norm=norm)).basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(
    ("offset", "scale"),
    [((0.0, 1.0, 2.0), (1.0, 2.0, 4.0)), ((0.0,), (3.0,)), ((1.0,), (1.0,)), ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))],
)
def test_scaler(offset: tuple[float, ...], scale: tuple[float, ...]) -> None:
    tally: Counter[str] = Counter()
    for row in numbers((2, 3), tally):
        for feature, x in enumerate(row):
            shift, factor = offset[feature % len(offset)], scale[feature % len(scale)]
            moved = x if shift == 0.0 else x - shift
            _ = moved if factor == 1.0 else moved * factor
    assert count(ml("Scaler", (2, 3), offset=offset, scale=scale)).basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize("shape", [(2, 3), (5,), (0, 3)])
def test_imputer_and_binarizer(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    _ = [1.0 if x > 0.7 else 0.0 for x in numbers(shape, tally).flat]
    assert count(ml("Binarizer", shape, threshold=0.7)).basic_operations() == as_basic_operations(tally)
    imputer = count(ml("Imputer", shape, replaced_value_float=0.7, imputed_value_floats=(0.0,)))
    assert imputer.basic_operations() == as_basic_operations(tally)


KERNELS = [
    ("LINEAR", (0.0, 0.0, 0.0)),
    ("POLY", (0.5, 1.0, 3.0)),
    ("POLY", (1.0, 0.0, 2.0)),
    ("POLY", (1.0, 0.0, 0.5)),
    ("POLY", (1.0, 0.0, 2.3)),
    ("RBF", (0.5, 0.0, 0.0)),
    ("SIGMOID", (0.5, 1.0, 0.0)),
]


def kernel(x: Any, y: Any, kind: str, parameters: tuple[float, float, float]) -> Number:
    gamma, coef0, degree = parameters
    if kind == "RBF":
        difference = x - y
        return (dot(difference, difference) * -gamma).exp()
    value = dot(x, y)
    if kind == "LINEAR":
        return value
    value = value if gamma == 1.0 else value * gamma
    value = value if coef0 == 0.0 else value + coef0
    if kind == "SIGMOID":
        power = (value * 2.0).exp()
        return (power - 1.0) / (power + 1.0)
    if degree == 0.5:
        return value.sqrt()
    if degree == int(degree):
        return reduce(lambda a, b: a * b, [value] * int(degree))
    return (value.log() * degree).exp()


@pytest.mark.parametrize(("kind", "parameters"), KERNELS)
@pytest.mark.parametrize("members", [(1, 2), (2, 1, 3)])
@pytest.mark.parametrize(("probabilities", "transform"), [(False, "NONE"), (True, "NONE"), (False, "LOGISTIC")])
def test_svm_classifier(
    kind: str, parameters: Any, members: tuple[int, ...], probabilities: bool, transform: str
) -> None:
    tally: Counter[str] = Counter()
    rows, features, classes = 2, 3, len(members)
    vectors = numbers((sum(members), features), tally, seed=1)
    owner = [index for index, size in enumerate(members) for _ in range(size)]
    for x in numbers((rows, features), tally):
        values = [kernel(x, vector, kind, parameters) for vector in vectors]
        votes = [Number(0.0, tally) for _ in members]
        decisions = []
        for first, second in itertools.combinations(range(classes), 2):
            terms = [value * 0.5 for value, mine in zip(values, owner, strict=True) if mine in (first, second)]
            decision = reduce(lambda a, b: a + b, terms) + 0.1
            winner = first if decision > 0.0 else second
            votes[winner] = votes[winner] + 1.0
            decisions.append(1.0 / ((decision * 0.3 + 0.2).exp() + 1.0) if probabilities else decision)
        transformed(decisions, transform)
        reduce(max, votes)
    attributes: dict[str, Any] = {
        "kernel_type": kind,
        "kernel_params": parameters,
        "vectors_per_class": members,
        "post_transform": transform,
        "classlabels_ints": tuple(range(classes)),
    }
    if probabilities:
        attributes["prob_a"] = attributes["prob_b"] = (0.5,) * (classes * (classes - 1) // 2)
    counts = count(ml("SVMClassifier", (rows, features), 2, **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_svm_classifier_without_support_vectors_is_linear() -> None:
    tally: Counter[str] = Counter()
    weights = numbers((4, 3), tally, seed=1)
    for x in numbers((2, 3), tally):
        reduce(max, [dot(x, weight) + 0.5 for weight in weights])
    counts = count(ml("SVMClassifier", (2, 3), 2, coefficients=(0.5,) * 12, classlabels_strings=("a", "b", "c", "d")))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(("kind", "parameters"), KERNELS)
@pytest.mark.parametrize("supports", [0, 1, 4])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kind: str, parameters: Any, supports: int, one_class: int) -> None:
    tally: Counter[str] = Counter()
    vectors = numbers((max(supports, 1), 2), tally, seed=1)
    for x in numbers((3, 2), tally):
        values = [kernel(x, vector, kind, parameters) for vector in vectors]
        total = reduce(lambda a, b: a + b, [value * 0.5 for value in values] if supports else values) + 0.25
        _ = total > 0.0 if one_class else total
    attributes = {"kernel_type": kind, "kernel_params": parameters, "n_supports": supports, "one_class": one_class}
    assert count(ml("SVMRegressor", (3, 2), **attributes)).basic_operations() == as_basic_operations(tally)


class Tree:
    """A tree of the given depth whose rightmost way is the longest; every leaf carries the same number of weights."""

    def __init__(self, depth: int) -> None:
        self.branches = [(2 * level + 1, 2 * level + 2) for level in range(depth)]
        self.leaves = [left for left, _ in self.branches] + [2 * depth]

    def run(self, x: Number) -> int:
        """Go right at every test; returns the leaf."""
        node = 0
        for left, right in self.branches:
            node = right if x <= 100.0 else left
        return node


def listed_trees(depths: list[int], targets: int, prefix: str) -> tuple[list[Tree], dict[str, Any]]:
    trees = [Tree(depth) for depth in depths]
    nodes: list[tuple[int, int, str, int, int]] = []
    weights: list[tuple[int, int, int, float]] = []
    for number, tree in enumerate(trees):
        parents = [0, *(right for _, right in tree.branches)]
        for parent, (left, right) in zip(parents, tree.branches, strict=False):
            nodes.append((number, parent, "BRANCH_LEQ", right, left))
        for leaf in tree.leaves:
            nodes.append((number, leaf, "LEAF", 0, 0))
            weights.extend((number, leaf, target, 1.0) for target in range(targets))
    node_names = ("treeids", "nodeids", "modes", "truenodeids", "falsenodeids")
    weight_names = ("treeids", "nodeids", "ids", "weights")
    attributes: dict[str, Any] = {
        f"nodes_{name}": column for name, column in zip(node_names, zip(*nodes, strict=True), strict=True)
    }
    attributes |= {
        f"{prefix}_{name}": column for name, column in zip(weight_names, zip(*weights, strict=True), strict=True)
    }
    return trees, attributes


def summed(trees: list[Tree], x: Number, targets: int, base: bool, function: str, tally: Counter[str]) -> list[Number]:
    sums: list[Number | None] = [None] * targets
    for tree in trees:
        tree.run(x)
        for target in range(targets):
            old, weight = sums[target], Number(1.0, tally)
            combine = {"MIN": min, "MAX": max}.get(function, lambda a, b: a + b)
            sums[target] = weight if old is None else combine(old, weight)
    final = [value for value in sums if value is not None]
    if function == "AVERAGE":
        final = [value / len(trees) for value in final]
    return [value + 0.5 for value in final] if base else final


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize(
    ("depths", "targets", "base"), [([2, 2, 2, 2, 2], 1, False), ([3, 1], 3, True), ([0], 2, False)]
)
def test_tree_ensemble_regressor(depths: list[int], targets: int, base: bool, function: str, transform: str) -> None:
    tally: Counter[str] = Counter()
    trees, attributes = listed_trees(depths, targets, "target")
    for x in numbers((4, 1), tally):
        transformed(summed(trees, x[0], targets, base, function, tally), transform)
    if base:
        attributes["base_values"] = (0.5,) * targets
    attributes |= {"n_targets": targets, "aggregate_function": function, "post_transform": transform}
    counts = count(ml("TreeEnsembleRegressor", (4, 1), **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


@pytest.mark.parametrize(("depths", "classes", "labels"), [([3, 3], 3, 3), ([2, 1, 4], 1, 2), ([1], 4, 4)])
@pytest.mark.parametrize("base", [True, False])
def test_tree_ensemble_classifier(depths: list[int], classes: int, labels: int, base: bool) -> None:
    tally: Counter[str] = Counter()
    trees, attributes = listed_trees(depths, classes, "class")
    for x in numbers((5, 1), tally):
        scores = summed(trees, x[0], classes, base, "SUM", tally)
        if classes == 1:
            _ = scores[0] > 0.5, 1.0 - scores[0]
        else:
            reduce(max, scores)
    if base:
        attributes["base_values"] = (0.5,) * classes
    counts = count(ml("TreeEnsembleClassifier", (5, 1), 2, classlabels_int64s=tuple(range(labels)), **attributes))
    assert counts.basic_operations() == as_basic_operations(tally)


def test_votes_for_single_classes_may_all_meet_in_one() -> None:
    # Three stumps; each leaf votes for one class. Three votes for one class are two additions.
    _, attributes = listed_trees([1, 1, 1], 1, "class")
    attributes["class_ids"] = (0, 1) * 3
    counts = count(ml("TreeEnsembleClassifier", (1, 1), 2, classlabels_int64s=(0, 1), **attributes))
    assert counts == Counts.of(DType.FLOAT, add=2, compare=3 + 1)


def test_a_cyclic_tree_is_refused() -> None:
    _, attributes = listed_trees([2], 1, "target")
    attributes["nodes_truenodeids"] = (2, 2, 0, 0, 0)
    with pytest.raises(ModelError, match="cycle"):
        count(ml("TreeEnsembleRegressor", (1, 1), **attributes))


def tree_ensemble(**changes: Any) -> Operator:
    """The single tree of the ONNX test case: three tests, four leaves, two targets."""
    attributes: dict[str, Any] = {
        "tree_roots": (0,),
        "n_targets": 2,
        "nodes_featureids": (0, 0, 0),
        "nodes_modes": np.array([0, 0, 0], np.uint8),
        "nodes_splits": np.array([3.14, 1.2, 4.2]),
        "nodes_truenodeids": (1, 0, 1),
        "nodes_trueleafs": (0, 1, 1),
        "nodes_falsenodeids": (2, 2, 3),
        "nodes_falseleafs": (0, 1, 1),
        "leaf_targetids": (0, 1, 0, 1),
        "leaf_weights": np.array([5.23, 12.12, -12.23, 7.21]),
    }
    return ml("TreeEnsemble", (3, 2), **{**attributes, **changes})


def test_tree_ensemble_by_hand() -> None:
    assert count(tree_ensemble()) == Counts.of(DType.FLOAT, compare=3 * 2)
    # Two copies of the tree: four tests; the second weight is added to or compared with the first.
    assert count(tree_ensemble(tree_roots=(0, 0))) == Counts.of(DType.FLOAT, compare=3 * 4, add=3)
    assert count(tree_ensemble(tree_roots=(0, 0), aggregate_function=3)) == Counts.of(DType.FLOAT, compare=3 * 5)
    averaged = count(tree_ensemble(tree_roots=(0, 0), aggregate_function=0))
    assert averaged == Counts.of(DType.FLOAT, compare=3 * 4, add=3, div=3 * 2)
    logistic = count(tree_ensemble(post_transform=2))
    assert logistic == Counts.of(DType.FLOAT, compare=6, sub=6, root=6, add=6, div=6)


def test_tree_ensemble_compares_with_every_member_of_a_set() -> None:
    # The root tests membership of {1, 2, 3}, its true child of {4}; the false child is one comparison.
    modes, members = np.array([6, 6, 0], np.uint8), np.array([1, 2, 3, np.nan, 4], np.float32)
    assert count(tree_ensemble(nodes_modes=modes, membership_values=members)) == Counts.of(DType.FLOAT, compare=3 * 4)


def test_tree_attributes_that_are_too_large_to_load() -> None:
    # The loader leaves the elements of large tensors out: a set of unknown size cannot be priced, base values can.
    with pytest.raises(ShapeError, match="sets"):
        count(tree_ensemble(membership_values=None))
    assert count(tree_ensemble(nodes_splits=None, leaf_weights=None, nodes_modes=None)) == count(tree_ensemble())
    _, attributes = listed_trees([1], 3, "target")
    op = ml("TreeEnsembleRegressor", (1, 1), n_targets=3, base_values_as_tensor=None, **attributes)
    assert count(op) == Counts.of(DType.FLOAT, compare=1, add=3)


def test_tree_attributes_of_different_lengths_are_named() -> None:
    _, attributes = listed_trees([2], 1, "target")
    with pytest.raises(ModelError, match="nodes_modes 2"):
        count(ml("TreeEnsembleRegressor", (1, 1), **{**attributes, "nodes_modes": ("LEAF", "LEAF")}))


def test_linear_models_by_hand() -> None:
    classifier = ml(
        "LinearClassifier", (2, 3), 2, coefficients=(1.0,) * 6, intercepts=(1.0, 2.0), classlabels_ints=(0, 1)
    )
    assert count(classifier) == Counts.of(DType.FLOAT, mul=12, add=12, compare=2)
    regressor = ml("LinearRegressor", (4, 3), coefficients=(1.0,) * 3, intercepts=(1.0,))
    assert count(regressor) == Counts.of(DType.FLOAT, mul=12, add=12)
    assert count(ml("Normalizer", (2, 3), norm="L2")) == Counts.of(DType.FLOAT, mul=6, add=4, root=2, div=6)
    scaler = ml("Scaler", (2, 3), offset=(0.0, 1.0, 2.0), scale=(1.0, 2.0, 4.0))
    assert count(scaler) == Counts.of(DType.FLOAT, sub=4, mul=4)
    assert count(ml("Binarizer", (2, 3))) == Counts.of(DType.FLOAT, compare=6)


def test_support_vector_machines_by_hand() -> None:
    classifier = ml("SVMClassifier", (1, 2), 2, vectors_per_class=(1, 2), classlabels_ints=(0, 1))
    assert count(classifier) == Counts.of(DType.FLOAT, mul=9, add=7, compare=2)
    assert count(ml("SVMRegressor", (1, 2), n_supports=3)) == Counts.of(DType.FLOAT, mul=9, add=6)


def test_ensembles_of_lists_by_hand() -> None:
    _, regression = listed_trees([2, 2, 2, 2, 2], 1, "target")
    assert count(ml("TreeEnsembleRegressor", (10, 4), **regression)) == Counts.of(DType.FLOAT, compare=100, add=40)
    _, classes = listed_trees([3, 3], 3, "class")
    classifier = ml("TreeEnsembleClassifier", (10, 4), 2, classlabels_int64s=(0, 1, 2), **classes)
    assert count(classifier) == Counts.of(DType.FLOAT, compare=80, add=30)
