"""Operators of onnxruntime that fit no family of their own: positions, distances, alignments, hashes, connections."""

from __future__ import annotations

import math

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, power, sigmoid, tanh
from onnx_aiwq.operations.attention_parts import windowed_attention
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"


@rule("LongformerAttention", family="attention", domain=_CONTRIB, bound=True)
def longformer_attention(op: Operator) -> Counts:
    """Self attention in a window, and to and from a few global tokens (upper bound).

    Equation:
        [Q, K, V] = X W + b, [Q', K', V'] = X W' + b'; a token attends to the 2 W + 1 of its window and to G global
        tokens; a global token attends with Q', K', V' to all S
    Basic operations:
        G is known at run time only; onnxruntime allows at most W, which is counted. Projections with bias: Q, K, V, K'
        and V' of all tokens, Q' of G. Per score d mul and d - 1 add, 1 mul by 1 / sqrt(d) (none for d = 1), 1 add of
        the mask; softmax over the 3 W + 1 keys of a token and the S of a global one: k - 1 compare, k sub, k root, k -
        1 add, k div; per output element k mul and k - 1 add. Keys outside the sequence count like any other (dense
        count). MACs = mul of all products.
    Not counted:
        Finding the global tokens; masks.
    Example:
        X[1, 4, 2], 1 head, W = 1: MACs = 4 * 5 * 4 + 4 + 4 * 4 * 2 * 2 + 4 * 2 * 2 = 164.
    Reference:
        Contrib operators: LongformerAttention. Beltagy and others, arXiv 2004.05150.
    """
    dtype, heads = dtype_of(op.input(0)), int(op.attributes["num_heads"])
    batch, length, hidden = shape_of(op.input(0), "the input")
    window, types = int(op.attributes["window"]), (dtype, dtype)
    total = dot_products(types, batch * length * 3 * hidden, hidden, op.input(2))
    total += dot_products(types, batch * (2 * length + window) * hidden, hidden, op.input(5))
    return total + windowed_attention(dtype, batch * heads, length, window, hidden // heads)


@rule("RelativePositionBias", family="attention", domain=_CONTRIB)
def relative_position_bias(op: Operator) -> Counts:
    """The biases of T5: every pair of positions looks up the bucket of its distance.

    Equation:
        n = key - query; bidirectional: half of the buckets for n > 0, n = |n|, else n = max(-n, 0); bucket = n where n
        is small, else min(small + floor(log(n / small) * factor), last); Y[0, h, q, k] = table[bucket, h]
    Basic operations:
        Per pair of positions 1 int64 sub; bidirectional 2 compare and 1 add for the half, else 1 sub and 1 compare; 1
        compare (small); in float32 1 div, 1 root, 1 mul, 1 compare (floor); 1 int64 add and 1 compare (last). Which
        distances are small is not looked at: all take the long way.
    Not counted:
        The constant factor; the look-up, the same for all heads.
    Example:
        Y[1, 8, 2, 3], bidirectional: 6 pairs; int64 sub = 6, add = 12, compare = 24; float32 div = root = mul = compare
        = 6.
    Reference:
        Contrib operators: RelativePositionBias. Raffel and others, arXiv 1910.10683.
    """
    *_, queries, keys = shape_of(op.output(0), "the output")
    if op.attributes.get("is_bidirectional"):
        integers = Counts.of(DType.INT64, add=2, sub=1, compare=4)
    else:
        integers = Counts.of(DType.INT64, add=1, sub=2, compare=3)
    return (integers + Counts.of(DType.FLOAT, mul=1, div=1, root=1, compare=1)) * (queries * keys)


@rule("GatedRelativePositionBias", family="attention", domain=_CONTRIB)
def gated_relative_position_bias(op: Operator) -> Counts:
    """Relative position biases that gates made of the query scale.

    Equation:
        [u, r] = sigmoid(sum of each half of (Q + bq) W + b); Y[b, h, q, k] = (u * (r * eco_a - 1) + 2) * rel_pos[q, k]
    Basic operations:
        1 add per element of Q; per head vector and one of D columns d mul and d - 1 add, 1 add of the bias; D - 2 add
        for the two sums, 2 Sigmoid, 1 mul, 1 sub, 1 mul, 1 add; per output element 1 mul. MACs = mul of the dot
        products.
    Not counted:
        Splitting and broadcasting.
    Example:
        Q[1, 2, 4], 2 heads, W[2, 2], rel_pos[1, 2, 2, 2]: 4 vectors; MACs = 16, mul = 16 + 8 + 8 = 32, add = 8 + 8 + 8
        + 8 + 4 = 36, sub = 8 + 4 = 12, root = div = 8.
    Reference:
        Contrib operators: GatedRelativePositionBias.
    """
    dtype, results = dtype_of(op.input(0)), size_of(op.output(0), "the output")
    width, columns = shape_of(op.input(3), "the weight")
    elements = size_of(op.input(0), "the query")
    vectors = elements // width
    gates = sigmoid(dtype) * 2 + Counts.of(dtype, add=max(columns - 2, 0) + 1, sub=1, mul=2)
    products = dot_products((dtype, dtype), vectors * columns, width, op.input(4))
    return products + gates * vectors + Counts.of(dtype, add=elements, mul=results)


@rule("WordConvEmbedding", family="dense", domain=_CONTRIB)
def word_conv_embedding(op: Operator) -> Counts:
    """Words from their characters: a convolution over character embeddings, tanh, and the maximum over positions.

    Equation:
        Y[w, f] = max over p of tanh(sum over i, c of C[Sequence[w, p + i], c] * W[f, 0, i, c] + B[f])
    Basic operations:
        Per word of L characters L - window + 1 positions; per position and filter window * size mul and one add less, 1
        add of the bias, Tanh (mul + root + sub + add + div); L - window compare for the maximum. Every word counts as
        long as the longest (dense count). MACs = mul of the dot products.
    Not counted:
        Looking up the embeddings of characters.
    Example:
        Sequence[1, 4], W[2, 1, 3, 2], C[9, 2]: 2 positions of 2 filters; MACs = 24, mul = 24 + 4 = 28, add = 20 + 4 + 4
        = 28, sub = root = div = 4, compare = 2.
    Reference:
        Contrib operators: WordConvEmbedding. TO paper, Eq. 5.
    """
    *words, characters = shape_of(op.input(0), "the words")
    filters, _, window, size = shape_of(op.input(1), "the weight")
    dtype, lines = dtype_of(op.input(1), "the weight"), math.prod(words) * filters
    positions = max(characters - window + 1, 0)
    maxima = Counts.of(dtype, compare=lines * max(positions - 1, 0))
    products = dot_products((dtype, dtype), lines * positions, window * size, op.input(2))
    return products + tanh(dtype) * (lines * positions) + maxima


@rule("CDist", family="reduction", domain=_CONTRIB)
def distances(op: Operator) -> Counts:
    """Distances between all pairs of rows of two matrices.

    Equation:
        C[m, k] = sum over n of (A[m, n] - B[k, n])^2 (sqeuclidean), or its square root (euclidean)
    Basic operations:
        Per pair of rows of N elements N sub, N mul, N - 1 add; euclidean 1 root. No MACs.
    Not counted:
        That runtimes may expand the square into a matrix product; the definition is counted.
    Example:
        A[2, 3], B[4, 3], euclidean: 8 pairs; sub = mul = 24, add = 16, root = 8.
    Reference:
        Contrib operators: CDist.
    """
    metric = str(op.attributes.get("metric") or "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        raise ShapeError(f"metric {metric!r} of CDist {op.name!r}: expected 'sqeuclidean' or 'euclidean'")
    rows, n = shape_of(op.input(0), "the first matrix")
    pairs = rows * shape_of(op.input(1), "the second matrix")[0]
    one = Counts.of(dtype_of(op.input(0)), add=max(n - 1, 0), sub=n, mul=n, root=int(metric == "euclidean"))
    return one * pairs


@rule("Inverse", family="elementwise", domain=_CONTRIB)
def matrix_inverse(op: Operator) -> Counts:
    """Inverse matrices by Gauss-Jordan elimination with partial pivoting, in place.

    Equation:
        for k < M: A[k, k] = 1 / A[k, k]; A[k, j] *= A[k, k] for j != k; for i != k: A[i, j] -= A[i, k] * A[k, j] for j
        != k, A[i, k] = -A[i, k] * A[k, k]
    Basic operations:
        Per M x M matrix: M div, M (M - 1) (M + 1) mul, M (M - 1) M sub (1 of M being the sign), M (M - 1) / 2 compare
        (the pivot search, on magnitudes).
    Not counted:
        Exchanges of rows and columns.
    Example:
        One 2 x 2 matrix: 2 div, 6 mul, 4 sub, 1 compare.
    Reference:
        Contrib operators: Inverse.
    """
    *batch, _, size = shape_of(op.input(0), "the matrix")
    off = size * (size - 1)
    one = Counts.of(dtype_of(op.input(0)), sub=off * size, mul=off * (size + 1), div=size, compare=off // 2)
    return one * math.prod(batch)


@rule("DynamicTimeWarping", family="indexing", domain=_CONTRIB)
def dynamic_time_warping(op: Operator) -> Counts:
    """The cheapest path through a matrix of costs.

    Equation:
        D[i, j] = cost[i, j] + min(D[i - 1, j - 1], D[i - 1, j], D[i, j - 1])
    Basic operations:
        Per element 1 add and 2 compare; the borders, which are infinite, count like any other (dense count).
    Not counted:
        Walking the path back.
    Example:
        cost [2, 3]: add = 6, compare = 12.
    Reference:
        Contrib operators: DynamicTimeWarping.
    """
    size = size_of(op.input(0), "the costs")
    return Counts.of(dtype_of(op.input(0)), add=size, compare=2 * size)


@rule("NGramRepeatBlock", family="indexing", domain=_CONTRIB, bound=True)
def ngram_repeat_block(op: Operator) -> Counts:
    """Forbid tokens that would repeat an n-gram (upper bound).

    Equation:
        scores[b, ids[b, i + n - 1]] = -inf for every i with ids[b, i .. i + n - 2] = the last n - 1 ids of row b
    Basic operations:
        Per row of L ids and start i of L - n + 1 at most n - 1 compare, in the type of the ids.
    Not counted:
        Copies of the scores.
    Example:
        ids [2, 5], ngram_size 3: 2 * 3 * 2 = 12 compare.
    Reference:
        Contrib operators: NGramRepeatBlock.
    """
    rows, length = shape_of(op.input(0), "the ids")
    n = int(op.attributes["ngram_size"])
    return Counts.of(dtype_of(op.input(0)), compare=rows * max(length - n + 1, 0) * max(n - 1, 0))


@rule("BifurcationDetector", family="indexing", domain=_CONTRIB, bound=True)
def bifurcation_detector(op: Operator) -> Counts:
    """Where predicted tokens leave the source, and where the last n-gram of the output stands in it (upper bound).

    Equation:
        The first j with pred[j] != src[start + j]; then for n from min_ngram_size to max_ngram_size every i with
        src[i .. i + n - 1] = the last n tokens of the output
    Basic operations:
        At most 1 compare per token of the source for the first, and n compare per place of an n-gram of the source, in
        the type of the tokens.
    Not counted:
        Copies of tokens.
    Example:
        src [5], pred_tokens given, n-grams of 1 to 2: 5 + 5 + 8 = 18 compare.
    Reference:
        Contrib operators: BifurcationDetector.
    """
    length = size_of(op.input(0), "the source")
    first, last = int(op.attributes.get("min_ngram_size") or 1), int(op.attributes.get("max_ngram_size") or 3)
    last = min(last, length)
    searched = _searched(length, last) - _searched(length, first - 1) if first <= last else 0
    predicted = 0 if op.input(3) is None else length
    return Counts.of(dtype_of(op.input(0)), compare=predicted + searched)


def _searched(length: int, last: int) -> int:
    """The sum of n * (length - n + 1) for n from 1 to last; a file may name n-grams of any size."""
    ones, squares = last * (last + 1) // 2, last * (last + 1) * (2 * last + 1) // 6
    return (length + 1) * ones - squares


@rule("MurmurHash3", family="elementwise", domain=_CONTRIB)
def murmur_hash(op: Operator) -> Counts:
    """32-bit hashes of numbers.

    Equation:
        per block of 32 bits k: k *= c1; k = rotl(k, 15); k *= c2; h = 5 * rotl(h ^ k, 13) + c3; at the end h ^= length;
        h = (h ^ h >> 16) * c4; h = (h ^ h >> 13) * c5; h = h ^ h >> 16
    Basic operations:
        In uint32, an operation on bits being 1 compare and a rotation 3: per block 3 mul, 1 add, 7 compare; per element
        2 mul and 7 compare at the end. Smaller types fill one block; texts have no length before a run and are refused.
    Not counted:
        Reading the bytes.
    Example:
        X[2] int64: 4 blocks; mul = 12 + 4 = 16, add = 4, compare = 28 + 14 = 42.
    Reference:
        Contrib operators: MurmurHash3.
    """
    dtype, size = dtype_of(op.input(0)), size_of(op.input(0), "the input")
    if not dtype.bits:
        raise ShapeError(f"MurmurHash3 {op.name!r} of texts is not counted: their lengths are not known before a run")
    blocks = -(-dtype.bits // 32)
    return Counts.of(DType.UINT32, add=blocks, mul=3 * blocks + 2, compare=7 * blocks + 7) * size


@rule("NGramHashMapping", "VarlenNGramHashMapping", family="indexing", domain=_CONTRIB)
def ngram_hash_mapping(op: Operator) -> Counts:
    """Hashes of the n-grams that end at each token, one for every head of every n.

    Equation:
        mix(n) = id(t) m[0] ^ id(t - 1) m[1] ^ ... ^ id(t - n + 1) m[n - 1]; Y[t, head] = mix(n) mod vocabulary[head] (+
        offset[head])
    Basic operations:
        In the type of the ids per token max_ngram_size mul and max_ngram_size - 1 compare (one exclusive or each, as
        every mix continues the one before); per head a Mod (1 div, 1 mul, 1 sub) and 1 add with head_offsets.
    Not counted:
        Shifting and padding; resets at the ends of texts and segments.
    Example:
        ids [1, 2], max_ngram_size 3, 2 heads per n: 2 tokens, 8 hashes; mul = 6 + 8 = 14, compare = 4, div = sub = 8.
    Reference:
        Contrib operators: NGramHashMapping, VarlenNGramHashMapping.
    """
    tokens, n = size_of(op.input(0), "the ids"), int(op.attributes["max_ngram_size"])
    hashes = tokens * (n - 1) * int(op.attributes["n_head_per_ngram"])
    offsets = op.input(4 if op.op_type == "NGramHashMapping" else 5)
    mixed = Counts.of(dtype_of(op.input(0)), mul=tokens * n, compare=tokens * (n - 1))
    added = 0 if offsets is None else hashes
    return mixed + Counts.of(dtype_of(op.input(0)), add=added, sub=hashes, mul=hashes, div=hashes)


@rule("HyperConnectionPreMix", "HyperConnectionPostMix", family="dense", domain=_CONTRIB)
def hyper_connection(op: Operator) -> Counts:
    """Several residual streams joined into one feature (PreMix), or mixed and fed with the result of a block (PostMix).

    Equation:
        PreMix: Y[h] = reduction_scale * sum over c of X[c, h] * m[c]; PostMix: Y[k, h] = sum over c of M[c, k] * X[c,
        h] + m[k] * block[h], where without M the stream X[k, h] stands for the sum
    Basic operations:
        PreMix per output element C mul and C - 1 add, 1 mul where reduction_scale is not 1. PostMix per output element
        with M C mul and C - 1 add, then 1 mul and 1 add. MACs = mul of the sums over streams.
    Not counted:
        Broadcasting.
    Example:
        PreMix of X[1, 2, 3], scale 1: MACs = mul = 6, add = 3. PostMix of X[1, 2, 3] with M[1, 2, 2]: 6 elements;
        MACs = 12, mul = 18, add = 12.
    Reference:
        Contrib operators: HyperConnectionPreMix, HyperConnectionPostMix.
    """
    dtype, results = dtype_of(op.input(0)), size_of(op.output(0), "the output")
    types, shape = (dtype, dtype), shape_of(op.input(0), "the streams")
    streams = int(op.attributes.get("num_branches") or 0) or shape[-2]
    if op.op_type == "HyperConnectionPreMix":
        scaled = 0 if op.attributes.get("reduction_scale", 1.0) == 1.0 else results
        return dot_products(types, results, streams) + Counts.of(dtype, mul=scaled)
    mixed = Counts() if op.input(3) is None else dot_products(types, results, streams)
    return mixed + Counts.of(dtype, add=results, mul=results)


@rule("EngramGate", family="attention", domain=_CONTRIB)
def engram_gate(op: Operator) -> Counts:
    """A value that the similarity of a key and a query gates.

    Equation:
        d = sum(RMSNorm(key) * RMSNorm(query)) / sqrt(H); gate = sigmoid(sign(d) * sqrt(max(|d|, 1e-6))); Y = gate *
        value; the second output is RMSNorm(Y)
    Basic operations:
        A RMSNorm of H elements is 2 H mul, H add, H + 1 div, 1 root. Per vector of H: 2 of them, H mul and H - 1 add
        (the MACs), 1 mul by 1 / sqrt(H) (none for H = 1), 1 compare (magnitude), 1 compare, 1 root, 2 compare and 1 mul
        for the sign, a Sigmoid, H mul; another RMSNorm where gated_value_normed is asked for.
    Not counted:
        Broadcasting of the value.
    Example:
        key [1, 1, 1, 2], no second output: mul = 8 + 2 + 1 + 1 + 2 = 14, add = 4 + 1 + 1 = 6, div = 6 + 1, root = 2 + 1
        + 1 = 4, sub = 1, compare = 4, MACs = 2.
    Reference:
        Contrib operators: EngramGate. TO paper, Eq. 4.
    """
    dtype, (*rows, n) = dtype_of(op.input(0)), shape_of(op.input(0), "the keys")
    norm = Counts.of(dtype, add=n, mul=2 * n, div=n + 1, root=1)
    norms = 2 if op.output(1) is None else 3
    scaled = 1 if n != 1 else 0
    gate = sigmoid(dtype) + power(dtype, 0.5) + Counts.of(dtype, mul=scaled + 1 + n, compare=4)
    return (norm * norms + gate + dot_products((dtype, dtype), 1, n)) * math.prod(rows)
