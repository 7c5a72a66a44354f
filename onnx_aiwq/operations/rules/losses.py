"""Loss functions over class labels."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import dtype_of, log_softmax_line
from onnx_aiwq.operations.registry import rule, shape_of, size_of
from onnx_aiwq.vocabulary import Counts, Operator


def _negative_log_likelihood(op: Operator) -> Counts:
    """Negate, weigh, mask and reduce one log-probability per label."""
    dtype, labels = dtype_of(op.input(0)), size_of(op.input(1), "the labels")
    weighted = op.input(2) is not None
    masked = op.attributes.get("ignore_index") is not None
    counts = Counts.of(dtype, sub=labels, mul=labels if weighted else 0)
    if masked:
        counts += Counts.of(dtype_of(op.input(1), "the labels"), compare=labels)
    reduction = op.attributes.get("reduction", "mean")
    if reduction == "none" or labels == 0:
        return counts
    counts += Counts.of(dtype, add=labels - 1)
    if reduction == "mean":
        summed_divisor = weighted or masked
        counts += Counts.of(dtype, add=labels - 1 if summed_divisor else 0, div=int(summed_divisor or labels > 1))
    return counts


@rule("NegativeLogLikelihoodLoss", family="loss")
def negative_log_likelihood_loss(op: Operator) -> Counts:
    """Pick the log-probability of the label, negate, weigh, reduce.

    Equation:
        l[n, d] = -input[n, target[n, d], d] * weight[target[n, d]]; then none, sum(l), or sum(l) / sum(weight[target])
    Basic operations:
        per label: 1 sub (the negation), 1 mul with a weight, 1 compare with an `ignore_index` (at the type of the
        labels); N labels reduced: N - 1 add; mean: 1 div (N > 1), and N - 1 add for the divisor where it depends on
        the labels (weight or `ignore_index`)
    Not counted:
        picking by label; a mean of one label
    Example:
        input (3, 5), target (3), mean: 3 sub, 2 add, 1 div
    Reference:
        ONNX operators: NegativeLogLikelihoodLoss
    """
    return _negative_log_likelihood(op)


@rule("SoftmaxCrossEntropyLoss", family="loss")
def softmax_cross_entropy_loss(op: Operator) -> Counts:
    """LogSoftmax over the classes, then the negative log-likelihood.

    Equation:
        l[n, d] = -logsoftmax(scores[n, :, d])[labels[n, d]] * weights[labels[n, d]]; then none, sum or mean
    Basic operations:
        per label, C classes: C - 1 compare, 2C sub, C + 1 root, C - 1 add (LogSoftmax, all classes, whether log_prob is
        asked for or not), then as NegativeLogLikelihoodLoss
    Not counted:
        picking by label; a mean of one label
    Example:
        scores (3, 5), labels (3), mean: 12 compare, 30 + 3 sub, 18 root, 12 + 2 add, 1 div
    Reference:
        ONNX operators: SoftmaxCrossEntropyLoss; TO convention, table 1.2
    """
    scores = shape_of(op.input(0), "the scores")
    labels = size_of(op.input(1), "the labels")
    return log_softmax_line(dtype_of(op.input(0)), scores[1]) * labels + _negative_log_likelihood(op)
