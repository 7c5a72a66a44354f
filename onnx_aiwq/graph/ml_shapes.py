"""Shapes of the operators of ai.onnx.ml that the libraries leave open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from onnx_aiwq.graph.own_shapes import Facts, OutputShape, Typed

_ML = "ai.onnx.ml"
_FLOAT, _INT64, _STRING = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.STRING


def _rows(facts: Facts) -> int | None:
    """How many samples there are: a vector is one sample."""
    shape = facts.shape(0)
    return None if shape is None else 1 if len(shape) < 2 else shape[0]


def _as_float(facts: Facts) -> Sequence[OutputShape]:
    return [Typed(_FLOAT, facts.shape(0))]


def _as_input(facts: Facts) -> Sequence[OutputShape]:
    return [facts.inputs[0]]


def _regressor(facts: Facts) -> Sequence[OutputShape]:
    rows = _rows(facts)
    return [Typed(_FLOAT, None if rows is None else (rows, facts.attributes.get("targets", 1)))]


def _svm_regressor(facts: Facts) -> Sequence[OutputShape]:
    rows = _rows(facts)
    return [Typed(_FLOAT, None if rows is None else (rows, 1))]


def _svm_classifier(facts: Facts) -> Sequence[OutputShape]:
    rows = _rows(facts)
    texts, numbers = facts.attributes.get("classlabels_strings"), facts.attributes.get("classlabels_ints")
    classes = len(texts or numbers or ())
    scores = classes
    # Without probabilities, support vector machines score every pair of classes.
    if facts.attributes.get("vectors_per_class") and not facts.attributes.get("prob_a") and classes > 2:
        scores = classes * (classes - 1) // 2
    label = _STRING if texts else _INT64
    if rows is None or not classes:
        return [Typed(label, None), Typed(_FLOAT, None)]
    return [Typed(label, (rows,)), Typed(_FLOAT, (rows, max(scores, 2)))]


def _feature_vectorizer(facts: Facts) -> Sequence[OutputShape]:
    rows = _rows(facts)
    widths = facts.attributes.get("inputdimensions")
    return [Typed(_FLOAT, None if rows is None or not widths else (rows, sum(widths)))]


RULES: dict[tuple[str, str], Callable[[Facts], Sequence[OutputShape]]] = {
    (_ML, "FeatureVectorizer"): _feature_vectorizer,
    (_ML, "Imputer"): _as_input,
    (_ML, "LinearRegressor"): _regressor,
    (_ML, "Normalizer"): _as_float,
    (_ML, "SVMClassifier"): _svm_classifier,
    (_ML, "SVMRegressor"): _svm_regressor,
    (_ML, "Scaler"): _as_float,
}
