"""Search operators of onnxruntime: what they do with the logits of each token. Their decoders are counted as nodes."""

from __future__ import annotations

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import insertions, known_scalar, log_softmax_line, power, softmax_line
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

_CONTRIB = "com.microsoft"
_SCORES = DType.FLOAT  # whatever the decoder computes in
_BEAM_PENALTY, _OTHER_PENALTY = 6, 3  # positions of repetition_penalty among the inputs


def _words(op: Operator) -> int:
    """Size of the vocabulary.

    Raises:
        ShapeError: if neither the attribute nor the decoder's logits tell it.
    """
    words = int(op.attributes.get("vocab_size") or 0)
    if words <= 0:
        raise ShapeError(f"the size of the vocabulary of {op.op_type} {op.name!r} is unknown")
    return words


def _steps(op: Operator) -> int:
    """How many tokens are searched for at most: those of the result without the prompt, or without the start token."""
    longest = shape_of(op.output(0), "the sequences")[-1]
    decoder_alone = int(op.attributes.get("model_type") or 0) == 0
    given = shape_of(op.input(0), "the prompt")[1] if decoder_alone else 1
    return max(longest - given, 0)


def _processed(op: Operator, penalty: int) -> Counts:
    """Logits of one step of one sequence: the penalty for tokens that stand in it, and the n-grams that do."""
    longest = shape_of(op.output(0), "the sequences")[-1]
    total = Counts()
    if op.input(penalty) is not None and known_scalar(op.input(penalty)) != 1.0:
        total += Counts.of(_SCORES, compare=longest, mul=longest)
    length = int(op.attributes.get("no_repeat_ngram_size") or 0)
    return total + Counts.of(DType.INT32, compare=longest * max(length, 0))


@rule("GreedySearch", family="indexing", domain=_CONTRIB, bound=True)
def greedy_search(op: Operator) -> Counts:
    """The likeliest next token, one after the other (upper bound).

    Equation:
        token[b, t] = argmax over v of logits[b, t, v], until max_length or the end token
    Basic operations:
        Run-time data ends the search: all max_length - S tokens after a prompt of S count (S = 1 with an encoder). Per
        token V - 1 compare for V words; with a repetition_penalty, unless known to be 1, 1 compare and 1 mul for each
        of max_length tokens; with no_repeat_ngram_size n, n int32 compare for each of them.
    Not counted:
        Masks of words; the decoder, whose nodes are counted on their own: once for the prompt, and for every other
        token behind the longest past.
    Example:
        Prompt [2, 3], max_length 7, 10 words: 2 * 4 * 9 = 72 compare.
    Reference:
        Contrib operators: GreedySearch.
    """
    batch, _ = shape_of(op.output(0), "the sequences")
    each = Counts.of(_SCORES, compare=_words(op) - 1) + _processed(op, _OTHER_PENALTY)
    return each * (batch * _steps(op))


@rule("Sampling", family="indexing", domain=_CONTRIB, bound=True)
def sampling(op: Operator) -> Counts:
    """A next token drawn from the likeliest ones, one after the other (upper bound).

    Equation:
        p = softmax(sorted logits / temperature); of the words up to the first at which the running sum of p exceeds
        top_p, one is drawn: the first at which the running sum of their softmax exceeds a random number
    Basic operations:
        Run-time data ends the search: as many tokens as in GreedySearch count, with the same penalty and n-grams. Per
        token of V words: V div unless temperature is 1; a sort by insertion, sum over i < V of ceil(log2(i + 1))
        compare; softmax twice, each V - 1 compare, V sub, V root, V - 1 add, V div; two running sums of V - 1 add and V
        compare each.
    Not counted:
        The random generator; masks; the custom mode, which filters in another order; the decoder, as in GreedySearch.
    Example:
        Prompt [1, 3], max_length 4, 2 words, temperature 1: compare = 1 + 2 * 1 + 2 * 2 = 7, sub = root = div = 4, add
        = 2 * 1 + 2 * 1 = 4.
    Reference:
        Contrib operators: Sampling.
    """
    batch, _ = shape_of(op.output(0), "the sequences")
    words = _words(op)
    scaled = words if op.attributes.get("temperature", 1.0) != 1.0 else 0
    running = Counts.of(_SCORES, add=words - 1, compare=words)
    each = (
        Counts.of(_SCORES, div=scaled, compare=insertions(words, words)) + (softmax_line(_SCORES, words) + running) * 2
    )
    return (each + _processed(op, _OTHER_PENALTY)) * (batch * _steps(op))


@rule("BeamSearch", "WhisperBeamSearch", family="indexing", domain=_CONTRIB, bound=True)
def beam_search(op: Operator) -> Counts:
    """The likeliest sequences of tokens, several at a time (upper bound).

    Equation:
        score[b, k v] = log softmax(logits[b, k, :])[v] + score[b, k]; the 2 K largest over all beams k and words v go
        on; an ended sequence has score / length ^ length_penalty
    Basic operations:
        Run-time data ends the search: as many tokens as in GreedySearch count, for each of K beams with the same
        penalty and n-grams. Per token and beam of V words: log softmax V - 1 compare, V sub, V root, V - 1 add, 1 root,
        V sub; V add; 1 div and the power of the length by length_penalty (as Pow; absent: 1) as if it ended there. Per
        token and prompt the 2 K largest of K V by insertion, as in TopK.
    Not counted:
        Masks of words, moving caches and beams, the logits processors of Whisper; encoder and decoder, whose nodes are
        counted on their own as in GreedySearch.
    Example:
        Prompt [1, 3], max_length 4, 1 beam, 2 words, no penalties: compare = 1 + (0 + 1) = 2, sub = 4, root = 3, add =
        1 + 2 = 3, div = 1.
    Reference:
        Contrib operators: BeamSearch, WhisperBeamSearch.
    """
    beams = known_scalar(op.input(3))
    if beams is None:
        raise ShapeError(f"the number of beams of {op.op_type} {op.name!r} is unknown")
    words, kept = _words(op), int(beams)
    exponent = 1.0 if op.input(5) is None else known_scalar(op.input(5))
    ended = power(_SCORES, exponent) + Counts.of(_SCORES, div=1)
    each = log_softmax_line(_SCORES, words) + Counts.of(_SCORES, add=words) + ended + _processed(op, _BEAM_PENALTY)
    chosen = Counts.of(_SCORES, compare=insertions(kept * words, 2 * kept))
    return (each * kept + chosen) * (shape_of(op.output(0), "the sequences")[0] * _steps(op))
