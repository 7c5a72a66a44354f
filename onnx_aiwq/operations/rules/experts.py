"""Mixtures of experts: a router picks k experts for each token, which go through the products of those alone."""

from __future__ import annotations

import math

import msgspec

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.arithmetic import dot_products, dtype_of, scaled_sigmoid_product, softmax_line
from onnx_aiwq.operations.registry import rule, shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

_GELU_SLOPE = 1.702  # GELU as the TO paper counts it, x * sigmoid(1.702 x)
_SLOPES = {"gelu": _GELU_SLOPE, "silu": 1.0}


class _Experts(msgspec.Struct, frozen=True):
    """Positions of the inputs of one operator, and its sizes."""

    tokens: int
    hidden: int
    experts: int
    chosen: int
    first: Tensor | None
    second: Tensor | None
    third: Tensor | None
    biases: tuple[Tensor | None, Tensor | None, Tensor | None]

    @classmethod
    def of(cls, op: Operator, weights: tuple[int, int, int], biases: tuple[int, int, int]) -> _Experts:
        *rows, hidden = shape_of(op.input(0), "the input")
        experts = shape_of(op.input(1), "the router's probabilities")[-1]
        first, second, third = (op.input(index) for index in weights)
        b1, b2, b3 = (op.input(index) for index in biases)
        chosen = int(op.attributes.get("k") or 1)
        return cls(math.prod(rows), hidden, experts, chosen, first, second, third, (b1, b2, b3))


def _activation(op: Operator, dtype: DType, *, gated: bool) -> Counts:
    """One inner element: the activation, and the product with the element of the third matrix where there is one."""
    name = str(op.attributes.get("activation_type") or "relu")
    if name == "swiglu":
        alpha, beta = op.attributes.get("activation_alpha", 1.0), op.attributes.get("activation_beta", 0.0)
        limit = op.attributes.get("swiglu_limit")
        clamped = 0 if limit is None or math.isinf(limit) else 3
        product = Counts.of(dtype, add=int(beta != 0.0), mul=1, compare=clamped)
        return scaled_sigmoid_product(dtype, alpha) + product
    product = Counts.of(dtype, mul=int(gated))
    if name in _SLOPES:
        return scaled_sigmoid_product(dtype, _SLOPES[name]) + product
    if name not in ("relu", "identity"):
        raise ShapeError(f"activation_type {name!r} of {op.op_type} {op.name!r} is not known")
    return product + Counts.of(dtype, compare=int(name == "relu"))


def _routing(op: Operator, dtype: DType, sizes: _Experts, *, weighted: bool) -> Counts:
    """The choice of experts for one token: softmax over all, k rounds of a maximum over those that are left."""
    experts, chosen = sizes.experts, sizes.chosen
    if op.attributes.get("use_sparse_mixer"):
        round_ = Counts.of(dtype, sub=2 * experts, div=experts + 1, root=experts, compare=3 * experts)
        return (round_ + Counts.of(dtype, add=max(experts - 1, 0), compare=max(experts - 1, 0))) * chosen
    rounds = Counts.of(dtype, compare=max(chosen * (experts - 1) - chosen * (chosen - 1) // 2, 0))
    probabilities = Counts() if weighted else softmax_line(dtype, experts)
    normalised = chosen if op.attributes.get("normalize_routing_weights") and chosen != 1 else 0
    return rounds + probabilities + Counts.of(dtype, add=max(normalised - 1, 0), div=normalised)


def _mixture(op: Operator, sizes: _Experts, *, weighted: bool = False) -> Counts:
    """Routing, the products of the chosen experts and their weighted sum for all tokens."""
    dtype = dtype_of(op.input(0))
    types, pairs = (dtype, dtype), sizes.tokens * sizes.chosen
    rows = shape_of(sizes.first, "the first weight")[1]
    fused = op.attributes.get("activation_type") == "swiglu" and bool(op.attributes.get("swiglu_fusion"))
    inner = rows // 2 if fused else rows
    total = _routing(op, dtype, sizes, weighted=weighted) * sizes.tokens
    total += dot_products(types, pairs * rows, sizes.hidden, sizes.biases[0])
    if sizes.third is not None:
        total += dot_products(types, pairs * inner, sizes.hidden, sizes.biases[2])
    total += _activation(op, dtype, gated=sizes.third is not None) * (pairs * inner)
    total += dot_products(types, pairs * sizes.hidden, inner, sizes.biases[1])
    summed = sizes.tokens * max(sizes.chosen - 1, 0) * sizes.hidden
    return total + Counts.of(dtype, add=summed, mul=pairs * sizes.hidden)


@rule("MoE", family="dense", domain="com.microsoft")
def mixture_of_experts(op: Operator) -> Counts:
    """Mixture of experts: for each token the feed-forward blocks of the k experts that its router ranks highest.

    Equation:
        p = softmax(router); Y = sum over the k largest p[e] of p[e] * (f(X W1[e]^T + b1[e]) W2[e]^T + b2[e]), f the
        activation, times X W3[e]^T + b3[e] where there is a third matrix; swiglu: G * sigmoid(alpha G) * (L + beta)
    Basic operations:
        Per token softmax over E experts, k (E - 1) - k (k - 1) / 2 compare for the k largest; with
        normalize_routing_weights k - 1 add and k div (none for k = 1). use_sparse_mixer, instead, per expert that is
        chosen: E - 1 compare, then per expert 2 compare, 1 sub, 1 div, 1 compare for the mask, 1 sub, 1 root, in all E
        - 1 add, 1 div. Per token and chosen expert the dot products, 1 add with each bias; per inner element the
        activation (relu 1 compare, gelu and silu by Eq. 5 and 4, 1 mul with a third matrix; swiglu 3 compare with a
        limit, sub + root + add + div, 1 mul, 1 mul unless alpha is 1, 1 add unless beta is 0, 1 mul); per element 1 mul
        by p[e] and k - 1 add per token for the sum. MACs = mul of the dot products.
    Not counted:
        Sorting tokens by expert.
    Example:
        X[1, 4], 3 experts, k = 1, W1[3, 2, 4], W2[3, 4, 2], relu, no biases: MACs = 8 + 8 = 16, mul = 16 + 4 = 20, add
        = 2 + 6 + 4 = 12, compare = 2 + 2 + 2 = 6, sub = root = div = 3.
    Reference:
        Contrib operators: MoE. TO paper, Eq. 3, 4 and 5.
    """
    return _mixture(op, _Experts.of(op, (2, 4, 6), (3, 5, 7)))


@rule("QMoE", family="dense", domain="com.microsoft", bound=True)
def quantized_mixture_of_experts(op: Operator) -> Counts:
    """Mixture of experts with weights in few bits, dequantised on the way (upper bound).

    Equation:
        As MoE with W = (B - zero_point) * scale; router_weights, where given, replaces softmax(router) in the sum
    Basic operations:
        Those of MoE, without the softmax where router_weights is given. Per weight of an expert that any token chose 1
        mul by its scale and, for quant_type int, 1 sub of its zero point (the default 2^(bits - 1) where none is
        given), in the type of the input. How many experts T tokens choose only the data knows: at most min(E, T k).
        MACs = mul of the dot products, exact whatever the data.
    Not counted:
        Unpacking of the bits; global scales, taken as part of the scales. Quantised activations are refused.
    Example:
        X[1, 4], 3 experts, k = 1, inner 2, relu, no biases: MoE's counts and 1 expert of 16 weights: sub = 3 + 16, mul
        = 20 + 16.
    Reference:
        Contrib operators: QMoE. TO paper, Eq. 3, 4 and 5.
    """
    if any(op.input(index) is not None for index in (17, 18, 19, 20)):
        raise ShapeError(f"QMoE {op.name!r} with quantised activations is not counted")
    sizes = _Experts.of(op, (2, 5, 8), (4, 7, 10))
    rows = shape_of(sizes.first, "the first weight")[1]
    fused = op.attributes.get("activation_type") == "swiglu" and bool(op.attributes.get("swiglu_fusion"))
    inner = rows // 2 if fused else rows
    matrices = rows + inner + (0 if sizes.third is None else inner)
    chosen = sizes.tokens * sizes.chosen
    used = sizes.experts + chosen - max(sizes.experts, chosen)
    weights = used * matrices * sizes.hidden
    integers = str(op.attributes.get("quant_type") or "int") == "int"
    unpacked = Counts.of(dtype_of(op.input(0)), sub=weights if integers else 0, mul=weights)
    return unpacked + _mixture(op, sizes, weighted=op.input(14) is not None)
