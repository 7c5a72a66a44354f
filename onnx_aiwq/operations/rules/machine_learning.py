"""Classical machine learning (domain ai.onnx.ml): linear models, support vectors, trees and their preprocessing."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from onnx_aiwq.errors import ModelError, ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of, power, sigmoid, softmax_line, tanh
from onnx_aiwq.operations.registry import movement, rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_DOMAIN = "ai.onnx.ml"
_BRANCH_MEMBER = 6  # number of that mode in TreeEnsemble

movement(
    "ArrayFeatureExtractor",
    domain=_DOMAIN,
    traffic="selected",
    why="Copies selected columns.",
)
movement(
    *("CategoryMapper", "LabelEncoder", "OneHotEncoder", "DictVectorizer"),
    domain=_DOMAIN,
    why="Looks values up in a table of the model and writes what stands there.",
)
movement(
    *("FeatureVectorizer", "ZipMap", "CastMap"),
    domain=_DOMAIN,
    why="Copies or converts values into another container.",
)


def _score_dtype(op: Operator, index: int = 0) -> DType:
    """The type of the scores; float32 where they are not asked for."""
    scores = op.output(index)
    return DType.FLOAT if scores is None else scores.dtype


def _rows_and_features(op: Operator) -> tuple[int, int]:
    """Rows and columns of X; one dimension is a single row."""
    shape = shape_of(op.input(0), "X")
    if not shape:
        return 1, 1
    return math.prod(shape[:-1]), shape[-1]


def _listed(op: Operator, name: str) -> tuple[Any, ...]:
    """An attribute that lists values, as a tuple; empty where it is absent."""
    values = op.attributes.get(name)
    if values is None:
        return ()
    return tuple(values.reshape(-1).tolist()) if hasattr(values, "reshape") else tuple(values)


def _dot(dtype: DType, length: int) -> Counts:
    return Counts.of(dtype, mul=length, add=max(length - 1, 0))


def _post_transform(dtype: DType, name: str, scores: int) -> Counts:
    """The transform of one row of scores."""
    if name == "LOGISTIC":
        return sigmoid(dtype) * scores
    if name == "PROBIT":
        return Counts.of(dtype, mul=2, sub=1, root=1) * scores
    if name in ("SOFTMAX", "SOFTMAX_ZERO") and scores:
        return softmax_line(dtype, scores) + Counts.of(dtype, compare=scores if name == "SOFTMAX_ZERO" else 0)
    return Counts()


def _label(dtype: DType, scores: int, labels: int) -> Counts:
    """The best of some scores; a single score of two classes is tested once and complemented."""
    if scores == 1 and labels == 2:
        return Counts.of(dtype, compare=1, sub=1)
    return Counts.of(dtype, compare=max(scores - 1, 0))


def _number_of_labels(op: Operator) -> int:
    names = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
    return max(len(_listed(op, name)) for name in names)


@rule("LinearClassifier", family="machine-learning", domain=_DOMAIN)
def linear_classifier(op: Operator) -> Counts:
    """One linear score per class, the best of which is the label.

    Equation:
        S[n, e] = sum_f X[n, f] * W[e, f] + b[e]; Z = post_transform(S); Y[n] = label of argmax_e S[n, e].
    Basic operations:
        Per row and score F mul and F - 1 add, 1 add for the intercept if given; E - 1 compare for the label. One score
        for two classes: 1 compare with the threshold and 1 sub for the other score. post_transform per row: LOGISTIC
        1 sub, 1 root, 1 add, 1 div per score; SOFTMAX E - 1 compare, E sub, E root, E - 1 add, E div; SOFTMAX_ZERO
        also E compare; PROBIT sqrt(2) * erfinv(2 s - 1): 2 mul, 1 sub, 1 root per score.
    Not counted:
        Looking the label up. No MACs: the convention lists the operators that have them.
    Example:
        X [2, 3], 6 coefficients, 2 intercepts, 2 labels, NONE: 2 rows * 2 scores * (3 mul, 2 + 1 add), 2 compare:
        12 mul, 12 add, 2 compare.
    Reference:
        ONNX operators: ai.onnx.ml LinearClassifier.
    """
    rows, features = _rows_and_features(op)
    dtype = _score_dtype(op, 1)
    scores = len(_listed(op, "coefficients")) // features if features else 0
    bias = scores if _listed(op, "intercepts") else 0
    row = _dot(dtype, features) * scores + Counts.of(dtype, add=bias)
    row += _post_transform(dtype, op.attributes.get("post_transform", "NONE"), scores)
    return (row + _label(dtype, scores, _number_of_labels(op))) * rows


@rule("LinearRegressor", family="machine-learning", domain=_DOMAIN)
def linear_regressor(op: Operator) -> Counts:
    """One linear function per target.

    Equation:
        Y[n, t] = post_transform(sum_f X[n, f] * W[t, f] + b[t]).
    Basic operations:
        Per row and target F mul and F - 1 add, 1 add for the intercept if given; post_transform as in
        LinearClassifier.
    Not counted:
        Nothing. No MACs: the convention lists the operators that have them.
    Example:
        X [4, 3], 1 target with intercept: 4 * (3 mul, 2 + 1 add): 12 mul, 12 add.
    Reference:
        ONNX operators: ai.onnx.ml LinearRegressor.
    """
    rows, features = _rows_and_features(op)
    dtype = _score_dtype(op)
    targets = int(op.attributes.get("targets", 1))
    bias = targets if _listed(op, "intercepts") else 0
    row = _dot(dtype, features) * targets + Counts.of(dtype, add=bias)
    return (row + _post_transform(dtype, op.attributes.get("post_transform", "NONE"), targets)) * rows


@rule("Normalizer", family="machine-learning", domain=_DOMAIN)
def normalizer(op: Operator) -> Counts:
    """Divide each row by its maximum or norm.

    Equation:
        MAX: Y = X / max(X); L1: Y = X / sum |X|; L2: Y = X / sqrt(sum X^2), per row of C elements.
    Basic operations:
        Per row: MAX C - 1 compare; L1 C compare (absolute values) and C - 1 add; L2 C mul, C - 1 add, 1 root. Then
        C div.
    Not counted:
        The test of the divisor for zero.
    Example:
        X [2, 3], L2: 2 * (3 mul, 2 add, 1 root, 3 div): 6 mul, 4 add, 2 root, 6 div.
    Reference:
        ONNX operators: ai.onnx.ml Normalizer.
    """
    rows, length = _rows_and_features(op)
    dtype = _score_dtype(op)
    if not length:
        return Counts()
    norm = op.attributes.get("norm", "MAX")
    if norm == "L1":
        row = Counts.of(dtype, compare=length, add=length - 1, div=length)
    elif norm == "L2":
        row = Counts.of(dtype, mul=length, add=length - 1, root=1, div=length)
    else:
        row = Counts.of(dtype, compare=length - 1, div=length)
    return row * rows


@rule("Scaler", family="machine-learning", domain=_DOMAIN)
def scaler(op: Operator) -> Counts:
    """Shift and scale each feature.

    Equation:
        Y[n, f] = (X[n, f] - offset[f]) * scale[f]; one offset and scale may serve all features.
    Basic operations:
        Per row 1 sub for each feature whose offset is not zero and 1 mul for each whose scale is not one.
    Not counted:
        Nothing.
    Example:
        X [2, 3], offset (0, 1, 2), scale (1, 2, 4): 2 * (2 sub, 2 mul): 4 sub, 4 mul.
    Reference:
        ONNX operators: ai.onnx.ml Scaler.
    """
    rows, features = _rows_and_features(op)

    def shared(values: tuple[Any, ...], neutral: float) -> int:
        effective = sum(1 for value in values if value != neutral)
        return effective * features if len(values) == 1 else effective

    sub, mul = shared(_listed(op, "offset"), 0.0), shared(_listed(op, "scale"), 1.0)
    return Counts.of(_score_dtype(op), sub=sub, mul=mul) * rows


@rule("Imputer", "Binarizer", family="machine-learning", domain=_DOMAIN)
def imputer_and_binarizer(op: Operator) -> Counts:
    """Test each element: replace it where it is the missing value, or turn it into 0 or 1 at a threshold.

    Equation:
        Imputer: Y[i] = imputed if X[i] == replaced else X[i]. Binarizer: Y[i] = 1 if X[i] > threshold else 0.
    Basic operations:
        1 compare per element, in the type of X.
    Not counted:
        Writing the chosen value (movement).
    Example:
        X [2, 3]: 6 compare.
    Reference:
        ONNX operators: ai.onnx.ml Imputer, Binarizer.
    """
    return Counts.of(dtype_of(op.input(0)), compare=size_of(op.input(0), "X"))


def _kernel(op: Operator, dtype: DType, features: int) -> Counts:
    """One value of the kernel function of two vectors."""
    kind = op.attributes.get("kernel_type", "LINEAR")
    gamma, coef0, degree = (*_listed(op, "kernel_params"), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        distance = Counts.of(dtype, sub=features) + _dot(dtype, features)
        return distance + Counts.of(dtype, mul=1, root=1)
    dot = _dot(dtype, features)
    if kind == "LINEAR":
        return dot
    affine = Counts.of(dtype, mul=0 if gamma == 1.0 else 1, add=0 if coef0 == 0.0 else 1)
    if kind == "POLY":
        return dot + affine + power(dtype, degree)
    return dot + affine + tanh(dtype)


@rule("SVMClassifier", family="machine-learning", domain=_DOMAIN)
def svm_classifier(op: Operator) -> Counts:
    """Votes of one support vector machine per pair of classes, or linear scores when it has no support vectors.

    Equation:
        K[n, v] = k(X[n], SV[v]); D[n, (i, j)] = sum over the vectors v of classes i and j of a[v, (i, j)] * K[n, v]
        + rho[(i, j)] for all pairs i < j; each pair votes for i if D > 0 else j. With prob_a, prob_b:
        P = 1 / (1 + exp(prob_a * D + prob_b)). Without support vectors: S[n, c] = X[n] . W[c] + rho[0].
    Basic operations:
        Kernels per row and vector: LINEAR F mul, F - 1 add; POLY 1 mul (gamma, unless 1), 1 add (coef0, unless 0) and
        the power as in Pow; SIGMOID the same affine map and tanh (1 mul, 1 root, 1 sub, 1 add, 1 div);
        RBF F sub, F mul, F - 1 add, 1 mul, 1 root. Per pair of u vectors u mul, u - 1 add, 1 add (rho), 1 compare and
        1 add (vote); probabilities per pair 1 mul, 2 add, 1 root, 1 div. C - 1 compare for the label. post_transform
        as in LinearClassifier.
    Not counted:
        The iteration that couples pairwise probabilities of three or more classes: its length depends on the data.
    Example:
        X [1, 2], 2 classes of 1 and 2 vectors, LINEAR: 3 kernels 6 mul, 3 add; 1 pair 3 mul, 2 + 1 + 1 add, 1 compare;
        label 1 compare. In all 9 mul, 7 add, 2 compare.
    Reference:
        ONNX operators: ai.onnx.ml SVMClassifier. Platt, Advances in Large Margin Classifiers (1999).
    """
    rows, features = _rows_and_features(op)
    dtype = _score_dtype(op, 1)
    transform = op.attributes.get("post_transform", "NONE")
    members = _listed(op, "vectors_per_class")
    vectors = int(sum(members))
    if not vectors:
        classes = max(_number_of_labels(op), 1)
        row = (_dot(dtype, features) + Counts.of(dtype, add=1)) * classes
        return (row + _post_transform(dtype, transform, classes) + _label(dtype, classes, classes)) * rows
    classes = len(members)
    pairs = classes * (classes - 1) // 2
    # Each vector takes part in the pairs of its own class with every other one.
    products = (classes - 1) * vectors
    row = _kernel(op, dtype, features) * vectors
    row += Counts.of(dtype, mul=products, add=max(products - pairs, 0) + 2 * pairs, compare=pairs)
    if _listed(op, "prob_a"):
        row += Counts.of(dtype, mul=1, add=2, root=1, div=1) * pairs
    row += _post_transform(dtype, transform, classes if _listed(op, "prob_a") else pairs)
    return (row + Counts.of(dtype, compare=classes - 1)) * rows


@rule("SVMRegressor", family="machine-learning", domain=_DOMAIN)
def svm_regressor(op: Operator) -> Counts:
    """A weighted sum of kernels, or a linear function when it has no support vectors.

    Equation:
        Y[n] = sum_v a[v] * k(X[n], SV[v]) + rho; without support vectors Y[n] = k(X[n], a) + rho.
        one_class: the sign of it.
    Basic operations:
        Per row and vector the kernel (see SVMClassifier) and 1 mul; V - 1 add and 1 add for rho; 1 compare with
        one_class. post_transform as in LinearClassifier.
    Not counted:
        Nothing.
    Example:
        X [1, 2], 3 vectors, LINEAR: 3 kernels 6 mul, 3 add; sum 3 mul, 2 + 1 add. In all 9 mul, 6 add.
    Reference:
        ONNX operators: ai.onnx.ml SVMRegressor.
    """
    rows, features = _rows_and_features(op)
    dtype = _score_dtype(op)
    vectors = int(op.attributes.get("n_supports", 0))
    row = _kernel(op, dtype, features) * max(vectors, 1) + _dot(dtype, vectors) + Counts.of(dtype, add=1)
    row += Counts.of(dtype, compare=1 if op.attributes.get("one_class", 0) else 0)
    return (row + _post_transform(dtype, op.attributes.get("post_transform", "NONE"), 1)) * rows


class _Tree(NamedTuple):
    """The longest way through one tree: tests on it, and weights of its richest and its poorest leaf."""

    tests: int
    most_weights: int
    fewest_weights: int


def _walk(
    root: Hashable,
    children: Mapping[Hashable, tuple[Hashable, ...]],
    tests: Mapping[Hashable, int],
    weights: Mapping[Hashable, int],
) -> _Tree:
    """Visit a tree from its root. Nodes without children are leaves."""
    longest, leaves, visited = 0, [], 0
    frontier = [(root, 0)]
    while frontier:
        node, above = frontier.pop()
        visited += 1
        if visited > 2 * len(children) + 1:
            raise ModelError(f"the tree of node {root} has a cycle or shared branches; expected a tree")
        if node in children:
            frontier.extend((child, above + tests[node]) for child in children[node])
            continue
        longest = max(longest, above)
        leaves.append(weights.get(node, 0))
    return _Tree(longest, max(leaves), min(leaves))


def _forest(op: Operator, trees: Iterable[_Tree], targets: int, base: int, aggregate: str) -> tuple[Counts, Counts]:
    """Tests and aggregation of one row."""
    trees = tuple(trees)
    features = op.input(0)
    read = features.dtype if features is not None and features.dtype.is_float else DType.FLOAT
    # The first weight of a target is assigned; at least the poorest leaf of some tree assigns as many.
    first = max((tree.fewest_weights for tree in trees), default=0)
    joined = max(sum(tree.most_weights for tree in trees) - first, 0)
    dtype = _score_dtype(op, len(op.outputs) - 1)
    if aggregate in ("MIN", "MAX"):
        sums = Counts.of(dtype, compare=joined, add=base)
    else:
        sums = Counts.of(dtype, add=joined + base, div=targets if aggregate == "AVERAGE" else 0)
    return Counts.of(read, compare=sum(tree.tests for tree in trees)), sums


def _columns(op: Operator, *names: str) -> tuple[tuple[Any, ...], ...]:
    """Attributes that list one value per node or weight, as rows.

    Raises:
        ModelError: if they are not equally long.
    """
    columns = [_listed(op, name) for name in names]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(names, columns, strict=True))
        raise ModelError(f"the attributes of {op.op_type} {op.name!r} should be equally long, but are: {lengths}")
    return tuple(zip(*columns, strict=True))


def _base_values(op: Operator, targets: int) -> int:
    """How many base values there are; large tensors are not loaded, but have one value per target."""
    listed = _listed(op, "base_values") or _listed(op, "base_values_as_tensor")
    withheld = "base_values_as_tensor" in op.attributes and op.attributes["base_values_as_tensor"] is None
    return len(listed) or (targets if withheld else 0)


def _listed_trees(op: Operator, prefix: str) -> list[_Tree]:
    """The trees of TreeEnsembleClassifier and TreeEnsembleRegressor, whose weights have the given prefix."""
    names = ("treeids", "nodeids", "modes", "truenodeids", "falsenodeids")
    nodes = _columns(op, *(f"nodes_{name}" for name in names))
    children: dict[Hashable, tuple[Hashable, ...]] = {}
    for tree, node, mode, when_true, when_false in nodes:
        if mode != "LEAF":
            children[tree, node] = ((tree, when_true), (tree, when_false))
    weights: dict[Hashable, int] = {}
    for key in _columns(op, f"{prefix}_treeids", f"{prefix}_nodeids"):
        weights[key] = weights.get(key, 0) + 1
    below = {child for pair in children.values() for child in pair}
    tests = dict.fromkeys(children, 1)
    roots = [(tree, node) for tree, node, *_ in nodes if (tree, node) not in below]
    return [_walk(root, children, tests, weights) for root in roots]


@rule("TreeEnsembleClassifier", family="machine-learning", domain=_DOMAIN, bound=True)
def tree_ensemble_classifier(op: Operator) -> Counts:
    """Votes of decision trees (upper bound).

    Equation:
        S[n, c] = sum over the trees of the weights for class c of the leaf that row n reaches, + base[c];
        Z = post_transform(S); Y[n] = label of argmax_c S[n, c].
    Basic operations:
        Per row and tree 1 compare per test on the longest way from its root to a leaf. Sums: the weights of the
        richest leaf of every tree, less those that are first and are assigned (as many as the poorest leaf of some
        tree has), 1 add each; 1 add per base value. C - 1 compare for the label; one score for two classes: 1 compare
        and 1 sub. post_transform as in LinearClassifier.
    Not counted:
        Following pointers; the test for a missing value (NaN).
    Example:
        X [10, 4], 2 trees of depth 3 whose leaves hold 3 class weights, 3 labels: 10 * (6 compare, 2 * 3 - 3 = 3 add,
        2 compare): 80 compare, 30 add.
    Reference:
        ONNX operators: ai.onnx.ml TreeEnsembleClassifier.
    """
    rows, _ = _rows_and_features(op)
    scores, labels = len(set(_listed(op, "class_ids"))), _number_of_labels(op)
    base = _base_values(op, scores)
    tests, sums = _forest(op, _listed_trees(op, "class"), scores, base, "SUM")
    dtype = _score_dtype(op, 1)
    if not (scores == 1 and labels == 2):
        scores = labels
    transform = _post_transform(dtype, op.attributes.get("post_transform", "NONE"), scores)
    return (tests + sums + transform + _label(dtype, scores, labels)) * rows


@rule("TreeEnsembleRegressor", family="machine-learning", domain=_DOMAIN, bound=True)
def tree_ensemble_regressor(op: Operator) -> Counts:
    """Sum, mean, minimum or maximum over decision trees (upper bound).

    Equation:
        Y[n, t] = post_transform(f over the trees of the weights for target t of the leaf that row n reaches
        + base[t]), f = SUM, AVERAGE, MIN or MAX.
    Basic operations:
        Per row and tree 1 compare per test on the longest way from its root to a leaf. Joining: the weights of the
        richest leaf of every tree, less those that are first and are assigned (as many as the poorest leaf of some
        tree has), 1 add each (MIN, MAX: 1 compare each); AVERAGE 1 div per target; 1 add per base value.
        post_transform as in LinearClassifier.
    Not counted:
        Following pointers; the test for a missing value (NaN).
    Example:
        X [10, 4], 5 trees of depth 2 with 1 target, SUM: 10 * (10 compare, 4 add): 100 compare, 40 add.
    Reference:
        ONNX operators: ai.onnx.ml TreeEnsembleRegressor.
    """
    rows, _ = _rows_and_features(op)
    targets = int(op.attributes.get("n_targets", 1))
    base = _base_values(op, targets)
    aggregate = op.attributes.get("aggregate_function", "SUM")
    tests, sums = _forest(op, _listed_trees(op, "target"), targets, base, aggregate)
    transform = _post_transform(_score_dtype(op), op.attributes.get("post_transform", "NONE"), targets)
    return (tests + sums + transform) * rows


def _tests_per_node(op: Operator, nodes: int) -> list[int]:
    """Comparisons of each test: one, or one per member of a set for BRANCH_MEMBER."""
    if "membership_values" not in op.attributes:
        return [1] * nodes
    modes = _listed(op, "nodes_modes")
    if op.attributes["membership_values"] is None or len(modes) != nodes:
        raise ShapeError("the sets of TreeEnsemble are too large to be loaded, so that their sizes are not known")
    members: list[int] = [0]
    for value in _listed(op, "membership_values"):
        if math.isnan(value):
            members.append(0)
        else:
            members[-1] += 1
    sets = iter(members)
    return [next(sets, 1) if mode == _BRANCH_MEMBER else 1 for mode in modes]


@rule("TreeEnsemble", family="machine-learning", domain=_DOMAIN, bound=True)
def tree_ensemble(op: Operator) -> Counts:
    """Sum, mean, minimum or maximum over decision trees (upper bound).

    Equation:
        Y[n, t] = post_transform(f over the trees of the weight of the leaf that row n reaches, if it is for
        target t), f = SUM, AVERAGE, MIN or MAX.
    Basic operations:
        Per row and tree 1 compare per test on the longest way from its root to a leaf; a test of membership compares
        with every member of its set. Joining: every tree has one weight, the first is assigned, the others are 1 add
        each (MIN, MAX: 1 compare each); AVERAGE 1 div per target. post_transform as in LinearClassifier.
    Not counted:
        Following pointers; the test for a missing value (NaN).
    Example:
        X [3, 2], 1 tree of depth 2, 2 targets, SUM: 3 * 2 = 6 compare, 0 add.
    Reference:
        ONNX operators: ai.onnx.ml TreeEnsemble.
    """
    rows, _ = _rows_and_features(op)
    nodes = _columns(op, "nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs")
    children: dict[Hashable, tuple[Hashable, ...]] = {}
    for node, (yes, yes_leaf, no, no_leaf) in enumerate(nodes):
        pair = (("leaf" if yes_leaf else "node", yes), ("leaf" if no_leaf else "node", no))
        children["node", node] = pair
    weights: dict[Hashable, int] = {("leaf", leaf): 1 for leaf in range(len(_listed(op, "leaf_targetids")))}
    costs: dict[Hashable, int] = {("node", node): number for node, number in enumerate(_tests_per_node(op, len(nodes)))}
    trees = [_walk(("node", root), children, costs, weights) for root in _listed(op, "tree_roots")]
    targets = int(op.attributes.get("n_targets", 1))
    aggregate = ("AVERAGE", "SUM", "MIN", "MAX")[op.attributes.get("aggregate_function", 1)]
    compares, sums = _forest(op, trees, targets, 0, aggregate)
    transforms = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    transform = _post_transform(_score_dtype(op), transforms[op.attributes.get("post_transform", 0)], targets)
    return (compares + sums + transform) * rows
