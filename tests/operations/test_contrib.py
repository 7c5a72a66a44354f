"""Rules of onnxruntime's own operators against plain loops over self-tallying numbers."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import count, operator
from oracle import Number, as_basic_operations, numbers

F32, I32, I64 = DType.FLOAT, DType.INT32, DType.INT64
MS = "com.microsoft"


def counted(op_type: str, inputs: list[Any], outputs: list[Any], **attributes: Any) -> Counts:
    return count(operator(op_type, inputs, outputs, domain=MS, **attributes))


def check(counts: Counts, tally: Counter[str], macs: int = 0) -> None:
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == macs


def sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def tanh(x: Any) -> Any:
    e = (x * 2).exp()
    return (e - 1) / (e + 1)


def maximum(line: Any) -> Any:
    top = line[0]
    for value in line[1:]:
        top = value if value > top else top
    return top


def softmax(line: Any) -> Any:
    powers = [(value - top).exp() for top in [maximum(line)] for value in line]
    total = np.add.reduce(np.array(powers, dtype=object))
    return np.array([value / total for value in powers], dtype=object)


def longformer(tally: Counter[str], batch: int, length: int, heads: int, width: int, window: int) -> int:
    """`window` global tokens; returns the multiplications of matrix products."""
    hidden = heads * width
    macs = 0
    for _ in range(batch):
        x = numbers((length, hidden), tally)
        for rows in (length, length, length, length, length, window):  # Q, K, V, K', V' of all and Q' of global tokens
            np.matmul(x[:rows], numbers((hidden, hidden), tally)) + numbers((hidden,), tally)
            macs += rows * hidden * hidden
        for lines, keys in ((length, 3 * window + 1), (window, length)):
            for _ in np.ndindex(heads, lines):
                scores = np.matmul(numbers((1, width), tally), numbers((width, keys), tally))[0]
                scores = scores * 0.5 if width != 1 else scores
                np.matmul(softmax(scores + numbers((keys,), tally)), numbers((keys, width), tally))
                macs += 2 * width * keys
    return macs


@pytest.mark.parametrize(
    ("batch", "length", "heads", "width", "window"), [(1, 4, 1, 2, 1), (2, 8, 2, 3, 2), (1, 4, 2, 1, 2)]
)
def test_longformer_attention_equals_its_products(batch: int, length: int, heads: int, width: int, window: int) -> None:
    tally: Counter[str] = Counter()
    macs = longformer(tally, batch, length, heads, width, window)
    hidden = heads * width
    inputs = [(batch, length, hidden), (hidden, 3 * hidden), (3 * hidden,), (batch, length)]
    inputs += [(hidden, 3 * hidden), (3 * hidden,), (batch, length)]
    check(
        counted("LongformerAttention", inputs, [(batch, length, hidden)], num_heads=heads, window=window), tally, macs
    )


def test_longformer_attention_by_hand() -> None:
    inputs: list[Any] = [(1, 4, 2), (2, 6), (6,), (1, 4), (2, 6), (6,), (1, 4)]
    assert counted("LongformerAttention", inputs, [(1, 4, 2)], num_heads=1, window=1).macs == 164


@pytest.mark.parametrize("both", [0, 1])
def test_relative_position_bias_equals_its_loop(both: int) -> None:
    integers: Counter[str] = Counter()
    reals: Counter[str] = Counter()
    for _ in np.ndindex(2, 3):
        n = Number(99 if both else -99, integers) - 1
        if both:
            assert n > 0
            assert n > -99  # the larger of n and -n is n itself
            half = Number(16, integers)
        else:
            n = -n
            assert n > 0  # max(n, 0)
            half = None
        assert not n < 8
        large = (Number(9, reals) / 8).log() * 3.5
        assert large >= 0
        bucket = Number(8, integers) + 1
        assert bucket < 15
        bucket = bucket + half if half is not None else bucket
    counts = counted(
        "RelativePositionBias", [(32, 8), (1,), (1,)], [(1, 8, 2, 3)], is_bidirectional=both, max_distance=128
    )
    assert counts.of_dtype(I64).basic_operations() == as_basic_operations(integers)
    assert counts.of_dtype(F32).basic_operations() == as_basic_operations(reals)
    assert counts.macs == 0


def test_relative_position_bias_by_hand() -> None:
    counts = counted("RelativePositionBias", [(32, 8), (1,), (1,)], [(1, 8, 2, 3)], is_bidirectional=1)
    expected = Counts.of(I64, add=12, sub=6, compare=24) + Counts.of(F32, mul=6, div=6, root=6, compare=6)
    assert counts == expected


@pytest.mark.parametrize(("batch", "length", "heads", "width", "columns"), [(1, 2, 2, 2, 2), (2, 3, 2, 4, 8)])
def test_gated_relative_position_bias_equals_its_loop(
    batch: int, length: int, heads: int, width: int, columns: int
) -> None:
    tally: Counter[str] = Counter()
    weight, bias, eco = numbers((width, columns), tally), numbers((columns,), tally), numbers((heads,), tally)
    for _, _, h in np.ndindex(batch, length, heads):
        q = numbers((width,), tally) + numbers((width,), tally)
        line = np.matmul(q, weight) + bias
        u, r = (sigmoid(np.add.reduce(half)) for half in (line[: columns // 2], line[columns // 2 :]))
        gate = u * (r * eco[h] - 1) + 2
        for _ in range(length):
            gate * 3
    inputs = [
        (batch, length, heads * width),
        (heads * width,),
        (1, heads, length, length),
        (width, columns),
        (columns,),
    ]
    counts = counted(
        "GatedRelativePositionBias", [*inputs, (1, heads, 1, 1)], [(batch, heads, length, length)], num_heads=heads
    )
    check(counts, tally, batch * length * heads * width * columns)


def test_gated_relative_position_bias_by_hand() -> None:
    inputs: list[Any] = [(1, 2, 4), (4,), (1, 2, 2, 2), (2, 2), (2,), (1, 2, 1, 1)]
    counts = counted("GatedRelativePositionBias", inputs, [(1, 2, 2, 2)], num_heads=2)
    assert counts == Counts.of(F32, add=36, sub=12, mul=32, div=8, root=8, macs=16)


@pytest.mark.parametrize(
    ("words", "characters", "filters", "window", "size"), [(1, 4, 2, 3, 2), (3, 5, 3, 1, 2), (2, 3, 1, 3, 4)]
)
def test_word_conv_embedding_equals_its_loop(words: int, characters: int, filters: int, window: int, size: int) -> None:
    tally: Counter[str] = Counter()
    pairs = 0
    for _ in np.ndindex(words, filters):
        positions = []
        for _ in range(characters - window + 1):
            dot = np.add.reduce(numbers((window * size,), tally) * numbers((window * size,), tally))
            pairs += window * size
            positions.append(tanh(dot + 0.5))
        maximum(positions)
    inputs = [Tensor("ids", I32, (words, characters)), (filters, 1, window, size), (filters,), (9, size)]
    check(counted("WordConvEmbedding", inputs, [(words, filters)]), tally, pairs)


def test_word_conv_embedding_by_hand() -> None:
    counts = counted("WordConvEmbedding", [Tensor("ids", I32, (1, 4)), (2, 1, 3, 2), (2,), (9, 2)], [(1, 2)])
    assert counts == Counts.of(F32, add=28, sub=4, mul=28, div=4, root=4, compare=2, macs=24)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize(("rows", "columns", "n"), [(2, 4, 3), (1, 1, 1), (0, 2, 3)])
def test_distances_equal_their_loop(metric: str, rows: int, columns: int, n: int) -> None:
    tally: Counter[str] = Counter()
    a, b = numbers((rows, n), tally), numbers((columns, n), tally)
    for i, j in np.ndindex(rows, columns):
        difference = a[i] - b[j]
        square = np.add.reduce(difference * difference)
        if metric == "euclidean":
            square.sqrt()
    check(counted("CDist", [(rows, n), (columns, n)], [(rows, columns)], metric=metric), tally)


def test_distances_by_hand_and_other_metrics_are_refused() -> None:
    counts = counted("CDist", [(2, 3), (4, 3)], [(2, 4)], metric="euclidean")
    assert counts == Counts.of(F32, add=16, sub=24, mul=24, root=8)
    with pytest.raises(ShapeError, match="cosine"):
        counted("CDist", [(2, 3), (4, 3)], [(2, 4)], metric="cosine")


def gauss_jordan(matrix: Any) -> Any:
    """In-place inversion with pivots on the diagonal; the pivot search compares and finds them there."""
    a, size = matrix.copy(), len(matrix)
    for k in range(size):
        for i in range(k + 1, size):
            assert not a[i, k] > 1e9
        a[k, k] = 1 / a[k, k]
        for j in range(size):
            if j != k:
                a[k, j] = a[k, j] * a[k, k]
        for i in range(size):
            if i == k:
                continue
            for j in range(size):
                if j != k:
                    a[i, j] = a[i, j] - a[i, k] * a[k, j]
            a[i, k] = -a[i, k] * a[k, k]
    return a


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 4), (2, 3, 3), (0, 0)])
def test_inverse_equals_gauss_jordan(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    for _ in np.ndindex(shape[:-2]):
        matrix = numbers(shape[-2:], tally)
        values = np.array([[x.value for x in row] for row in matrix]).reshape(shape[-2:])
        inverse = np.array([[x.value for x in row] for row in gauss_jordan(matrix)]).reshape(shape[-2:])
        np.testing.assert_allclose(inverse @ values, np.eye(shape[-1]), atol=1e-8)
    check(counted("Inverse", [shape], [shape]), tally)


def test_inverse_by_hand() -> None:
    assert counted("Inverse", [(2, 2)], [(2, 2)]) == Counts.of(F32, sub=4, mul=6, div=2, compare=1)


@pytest.mark.parametrize("shape", [(2, 3), (1, 4, 5), (1, 1)])
def test_dynamic_time_warping_equals_its_table(shape: tuple[int, ...]) -> None:
    tally: Counter[str] = Counter()
    cost = numbers(shape[-2:], tally)
    table = np.full((shape[-2] + 1, shape[-1] + 1), None)
    for i, j in np.ndindex(table.shape):
        table[i, j] = Number(0 if i == j == 0 else math.inf, tally)
    for i, j in np.ndindex(shape[-2:]):
        best = table[i, j]
        for other in (table[i, j + 1], table[i + 1, j]):
            best = other if other < best else best
        table[i + 1, j + 1] = cost[i, j] + best
    check(counted("DynamicTimeWarping", [shape], [(2, 9)]), tally)


def test_dynamic_time_warping_by_hand() -> None:
    assert counted("DynamicTimeWarping", [(2, 3)], [(2, 4)]) == Counts.of(F32, add=6, compare=12)


@pytest.mark.parametrize(("rows", "length", "n"), [(2, 5, 3), (1, 4, 1), (1, 2, 4), (2, 6, 2)])
def test_ngram_repeat_block_is_the_bound_of_its_loop(rows: int, length: int, n: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(rows):
        ids = [Number(7, tally) for _ in range(length)]  # all alike: no comparison ends early
        for i in range(max(length - n + 1, 0)):
            assert all(ids[i + j] == ids[length - n + 1 + j] for j in range(n - 1))
    inputs = [Tensor("ids", I64, (rows, length)), (rows, 9)]
    counts = counted("NGramRepeatBlock", inputs, [(rows, 9)], ngram_size=n)
    check(counts, tally)
    assert set(counts.dtypes) <= {I64}


def test_ngram_repeat_block_by_hand() -> None:
    counts = counted("NGramRepeatBlock", [Tensor("ids", I64, (2, 5)), (2, 9)], [(2, 9)], ngram_size=3)
    assert counts == Counts.of(I64, compare=12)


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize(("length", "smallest", "largest"), [(5, 1, 2), (3, 1, 3), (2, 2, 4)])
def test_bifurcation_detector_is_the_bound_of_its_loop(
    predicted: bool, length: int, smallest: int, largest: int
) -> None:
    tally: Counter[str] = Counter()
    source = [Number(7, tally) for _ in range(length)]
    if predicted:
        assert all(token == 7 for token in source)
    for n in range(smallest, largest + 1):
        for i in range(max(length - n + 1, 0)):
            assert all(token == 7 for token in source[i : i + n])
    tokens = [Tensor("t", I64, (size,)) for size in (length, 4, 1, length + 1)]
    inputs = tokens if predicted else tokens[:3]
    check(counted("BifurcationDetector", inputs, [(9,)], min_ngram_size=smallest, max_ngram_size=largest), tally)


def test_bifurcation_detector_by_hand() -> None:
    tokens = [Tensor("t", I64, (size,)) for size in (5, 4, 1, 6)]
    counts = counted("BifurcationDetector", tokens, [(9,)], min_ngram_size=1, max_ngram_size=2)
    assert counts == Counts.of(I64, compare=18)


def murmur(blocks: list[int], seed: int, bits: Counter[str]) -> int:
    """MurmurHash3_x86_32 on whole blocks, every operation tallied."""

    def times(a: int, b: int) -> int:
        bits["mul"] += 1
        return a * b & 0xFFFFFFFF

    def plus(a: int, b: int) -> int:
        bits["add"] += 1
        return a + b & 0xFFFFFFFF

    def gate(value: int) -> int:
        bits["compare"] += 1
        return value & 0xFFFFFFFF

    def rotate(a: int, by: int) -> int:
        left, right = gate(a << by), gate(a >> (32 - by))
        return gate(left | right)

    state = seed
    for block in blocks:
        k = times(rotate(times(block, 0xCC9E2D51), 15), 0x1B873593)
        state = plus(times(rotate(gate(state ^ k), 13), 5), 0xE6546B64)
    state = gate(state ^ (4 * len(blocks)))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = times(gate(state ^ gate(state >> shift)), factor)
    return gate(state ^ gate(state >> 16))


@pytest.mark.parametrize(("dtype", "blocks"), [(I32, 1), (I64, 2), (F32, 1), (DType.DOUBLE, 2)])
def test_murmur_hash_equals_the_algorithm(dtype: DType, blocks: int) -> None:
    tally: Counter[str] = Counter()
    for value in range(3):
        murmur([value] * blocks, 0, tally)
    counts = counted("MurmurHash3", [Tensor("x", dtype, (3,))], [Tensor("y", DType.UINT32, (3,))])
    check(counts, tally)
    assert counts.dtypes == (DType.UINT32,)
    assert murmur([3], 0, Counter()) == 847579505  # scikit-learn's murmurhash3_32(3, 0)


def test_murmur_hash_by_hand_and_texts_are_refused() -> None:
    counts = counted("MurmurHash3", [Tensor("x", I64, (2,))], [Tensor("y", DType.UINT32, (2,))])
    assert counts == Counts.of(DType.UINT32, add=4, mul=16, compare=42)
    with pytest.raises(ShapeError, match="texts"):
        counted("MurmurHash3", [Tensor("x", DType.STRING, (2,))], [Tensor("y", DType.UINT32, (2,))])


@pytest.mark.parametrize("op_type", ["NGramHashMapping", "VarlenNGramHashMapping"])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize(("tokens", "largest", "heads"), [(2, 3, 2), (5, 2, 1), (3, 4, 3)])
def test_ngram_hash_mapping_equals_its_loop(op_type: str, offsets: bool, tokens: int, largest: int, heads: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(tokens):
        mix = Number(1, tally) * 3
        for _ in range(2, largest + 1):
            product = Number(1, tally) * 5
            assert mix < 99  # stands for the exclusive or
            mix = product
            for _ in range(heads):
                rest = mix - mix / 7 * 7
                if offsets:
                    rest + 1
    dense = op_type == "NGramHashMapping"
    shape = (1, tokens) if dense else (tokens,)
    hashes = (largest - 1) * heads
    inputs: list[Any] = [Tensor("ids", I64, shape), Tensor("m", I64, (largest,)), Tensor("v", I64, (hashes,))]
    inputs += [] if dense else [Tensor("c", I32, (2,))]
    inputs += [None, Tensor("o", I64, (hashes,))] if offsets else []
    counts = counted(op_type, inputs, [(*shape, hashes)], max_ngram_size=largest, n_head_per_ngram=heads, pad_id=0)
    check(counts, tally)


def test_ngram_hash_mapping_by_hand() -> None:
    inputs = [Tensor("ids", I64, (1, 2)), Tensor("m", I64, (3,)), Tensor("v", I64, (4,))]
    counts = counted("NGramHashMapping", inputs, [(1, 2, 4)], max_ngram_size=3, n_head_per_ngram=2, pad_id=0)
    assert counts == Counts.of(I64, sub=8, mul=14, div=8, compare=4)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("flat", [False, True])
def test_hyper_connection_pre_mix_equals_its_loop(scale: float, flat: bool) -> None:
    tally: Counter[str] = Counter()
    streams, gates = numbers((2, 3, 4), tally), numbers((2, 3), tally)
    for row, h in np.ndindex(2, 4):
        mixed = np.add.reduce(streams[row, :, h] * gates[row])
        mixed * scale if scale != 1.0 else mixed
    shape = (2, 12) if flat else (2, 3, 4)
    counts = counted("HyperConnectionPreMix", [shape, (2, 3)], [(2, 4)], reduction_scale=scale, num_branches=3 * flat)
    check(counts, tally, 24)


@pytest.mark.parametrize("mixed", [False, True])
def test_hyper_connection_post_mix_equals_its_loop(mixed: bool) -> None:
    tally: Counter[str] = Counter()
    streams, matrix, block = numbers((2, 3, 4), tally), numbers((2, 3, 3), tally), numbers((2, 4), tally)
    for row, k, h in np.ndindex(2, 3, 4):
        stream = np.add.reduce(matrix[row, :, k] * streams[row, :, h]) if mixed else streams[row, k, h]
        stream + Number(0.5, tally) * block[row, h]
    inputs: list[Any] = [(2, 3, 4), (2, 4), (2, 3), *([(2, 3, 3)] if mixed else [])]
    check(counted("HyperConnectionPostMix", inputs, [(2, 3, 4)]), tally, 72 if mixed else 0)


def test_hyper_connections_by_hand() -> None:
    counts = counted("HyperConnectionPreMix", [(1, 2, 3), (1, 2)], [(1, 3)])
    assert counts == Counts.of(F32, add=3, mul=6, macs=6)
    counts = counted("HyperConnectionPostMix", [(1, 2, 3), (1, 3), (1, 2), (1, 2, 2)], [(1, 2, 3)])
    assert counts == Counts.of(F32, add=12, mul=18, macs=12)


def rms(line: Any, scale: Any) -> Any:
    return line / (np.add.reduce(line * line) / len(line) + 1e-5).sqrt() * scale


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("rows", "n"), [(1, 2), (3, 5), (2, 1)])
def test_engram_gate_equals_its_loop(normed: bool, rows: int, n: int) -> None:
    tally: Counter[str] = Counter()
    for _ in range(rows):
        key, query, value, scale = (numbers((n,), tally) for _ in range(4))
        dot = np.add.reduce(rms(key, scale) * rms(query, scale))
        dot = dot * 0.5 if n != 1 else dot
        assert dot > 0  # the magnitude
        assert dot > 1e-6
        root = dot.sqrt()
        assert not dot < 0
        assert dot > 0  # with the line above: the sign
        gated = value * sigmoid(root * 1)
        if normed:
            rms(gated, scale)
    shape = (1, rows, 1, n)
    inputs: list[Any] = [shape, shape, (1, rows, n), (1, n), (1, n), (1, n)]
    check(counted("EngramGate", inputs, [shape, shape if normed else None]), tally, rows * n)


def test_engram_gate_by_hand() -> None:
    inputs: list[Any] = [(1, 1, 1, 2), (1, 1, 1, 2), (1, 1, 2), (1, 2), (1, 2)]
    counts = counted("EngramGate", inputs, [(1, 1, 1, 2)])
    assert counts == Counts.of(F32, add=6, sub=1, mul=14, div=7, root=4, compare=4, macs=2)
