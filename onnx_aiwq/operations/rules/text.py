"""Strings: copied, cut, matched and counted."""

from __future__ import annotations

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dtype_of
from onnx_aiwq.operations.registry import movement, rule, shape_of
from onnx_aiwq.vocabulary import Counts, Operator

movement(
    *("StringConcat", "StringNormalizer", "StringSplit"),
    why="Copies characters to new strings; strings have no data type that arithmetic is priced in.",
)
movement(
    "RegexFullMatch",
    why="Runs a table of states over the characters of each string: lookup, which is movement in the convention.",
)
movement(
    "Tokenizer",
    domain="com.microsoft",
    why="Copies characters to new strings; strings have no data type that arithmetic is priced in.",
)


_MOST_LENGTHS = 10_000  # of n-grams


def _grams(tokens: int, length: int, most_skipped: int) -> int:
    """The n-grams of one length, over all skips that leave room for one."""
    if length <= 1:
        return max(tokens - length + 1, 0)
    reach = length - 1
    skips = max(min(most_skipped + 1, (tokens - 1) // reach), 0)
    return skips * tokens - reach * skips * (skips + 1) // 2


@rule("TfIdfVectorizer", family="text", bound=True)
def tfidf_vectorizer(op: Operator) -> Counts:
    """How often each n-gram of a vocabulary occurs, weighted (upper bound).

    Equation:
        Y[r, j] = w[j] * (number of n-grams of row r that are entry j of the pool), w = 1 in mode TF; in mode IDF the
        number is taken as at most one.
    Basic operations:
        At most 1 add per n-gram of a row: for each length n from min_gram_length to max_gram_length and each skip s
        from 0 to max_skip_count (n = 1: only s = 0) there are C - (n - 1)(s + 1) of them in a row of C tokens. IDF
        and TFIDF: 1 mul per output element (nothing without weights, which are then one), IDF also 1 compare.
    Not counted:
        Looking n-grams up in the pool.
    Example:
        X [12], mode TF, 2-grams, max_skip_count 0: 11 add. With weights and mode TFIDF into Y [7]: also 7 mul.
    Reference:
        ONNX operators: TfIdfVectorizer.
    """
    needed = ("mode", "min_gram_length", "max_gram_length", "max_skip_count")
    missing = [name for name in needed if name not in op.attributes]
    if missing or not shape_of(op.input(0), "X") or not shape_of(op.output(0), "Y"):
        raise ShapeError(f"TfIdfVectorizer needs rows of tokens and the attributes {', '.join(needed)}")
    *rows, tokens = shape_of(op.input(0), "X")
    *_, entries = shape_of(op.output(0), "Y")
    count = rows[0] if rows else 1
    first, last = op.attributes["min_gram_length"], min(op.attributes["max_gram_length"], tokens)
    if last - first > _MOST_LENGTHS:
        raise ShapeError(f"n-grams of {last - first + 1} lengths; more than {_MOST_LENGTHS} are not counted")
    grams = sum(_grams(tokens, length, op.attributes["max_skip_count"]) for length in range(first, last + 1))
    mode = op.attributes["mode"]
    weighted = entries if mode != "TF" and op.attributes.get("weights") else 0
    capped = entries if mode == "IDF" else 0
    return Counts.of(dtype_of(op.output(0)), add=grams, mul=weighted, compare=capped) * count
