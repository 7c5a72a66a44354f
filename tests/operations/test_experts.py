"""Rules of mixtures of experts against a token loop over self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts, DType, Tensor
from operators import count, operator
from oracle import as_basic_operations, numbers

F32 = DType.FLOAT
MS = "com.microsoft"


def counted(op_type: str, inputs: list[Any], output: tuple[int, ...], **attributes: Any) -> Counts:
    return count(operator(op_type, inputs, [output], domain=MS, **attributes))


def maximum(line: list[Any]) -> int:
    best = 0
    for index in range(1, len(line)):
        best = index if line[index] > line[best] else best
    return best


def softmax(line: list[Any]) -> list[Any]:
    top = line[maximum(line)]
    powers = [(value - top).exp() for value in line]
    total = np.add.reduce(np.array(powers, dtype=object))
    return [value / total for value in powers]


def chosen_experts(line: list[Any], k: int) -> list[int]:
    left, chosen = list(range(len(line))), []
    for _ in range(k):
        best = left[maximum([line[index] for index in left])]
        left.remove(best)
        chosen.append(best)
    return chosen


def sparse_mixer(line: list[Any], k: int) -> list[Any]:
    """The weights of the chosen experts: softmax over the logits that are near the largest, all counted."""
    weights = []
    for _ in range(k):
        top = line[maximum(line)]
        powers = []
        for value in line:
            assert value > -1e9  # its magnitude
            factor = value if value > top else top
            assert (top - value) / factor < 1e9  # the mask
            powers.append((value - top).exp())
        weights.append(powers[0] / np.add.reduce(np.array(powers, dtype=object)))
    return weights


def sigmoid(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def activated(x: Any, kind: str) -> Any:
    if kind == "relu":
        assert x > -1e9
        return x
    if kind == "gelu":
        return x * sigmoid(x * 1.702)
    return x * sigmoid(x) if kind == "silu" else x


def swiglu(gate: Any, linear: Any, alpha: float, beta: float, limit: float | None) -> Any:
    if limit is not None:
        assert gate < 1e9
        assert linear < 1e9
        assert linear > -1e9
    product = gate * sigmoid(gate * alpha if alpha != 1 else gate)
    return product * (linear + beta if beta != 0 else linear)


def dense(x: Any, columns: int, bias: bool, tally: Counter[str]) -> Any:
    y = np.matmul(x, numbers((len(x), columns), tally))
    return y + numbers((columns,), tally) if bias else y


class Block:
    """One mixture; run() returns the multiplications of its matrix products."""

    def __init__(self, tokens: int, hidden: int, experts: int, inner: int, k: int, kind: str, **options: Any) -> None:
        self.tokens, self.hidden, self.experts, self.inner, self.k = tokens, hidden, experts, inner, k
        self.kind = kind
        self.bias: bool = options.get("bias", False)
        self.third: bool = options.get("third", False)
        self.fused: bool = options.get("fused", False)
        self.normalised: bool = options.get("normalised", False)
        self.given: bool = options.get("given", False)
        self.mixer: bool = options.get("mixer", False)
        self.swiglu = options.get("swiglu", (1.0, 0.0, None))

    def run(self, tally: Counter[str]) -> int:
        pairs = 0
        for _ in range(self.tokens):
            line = list(numbers((self.experts,), tally))
            if self.mixer:
                weights = sparse_mixer(line, self.k)
            else:
                scores = line if self.given else softmax(line)
                weights = [scores[index] for index in chosen_experts(line, self.k)]
            if self.normalised and self.k > 1:
                total = np.add.reduce(np.array(weights, dtype=object))
                weights = [weight / total for weight in weights]
            x, total = numbers((self.hidden,), tally), None
            for weight in weights:
                y = self.expert(x, tally) * weight
                total = y if total is None else total + y
            rows = self.inner * (2 if self.fused else 1)
            pairs += self.k * (rows + self.inner * self.third + self.inner) * self.hidden
        return pairs

    def expert(self, x: Any, tally: Counter[str]) -> Any:
        first = dense(x, self.inner * (2 if self.fused else 1), self.bias, tally)
        third = dense(x, self.inner, self.bias, tally) if self.third else None
        if self.kind == "swiglu":
            linear = first[self.inner :] if self.fused else third
            inner = [swiglu(g, u, *self.swiglu) for g, u in zip(first[: self.inner], linear, strict=True)]
        else:
            inner = [activated(value, self.kind) for value in first]
            if third is not None:
                inner = [a * b for a, b in zip(inner, third, strict=True)]
        return dense(np.array(inner, dtype=object), self.hidden, self.bias, tally)

    def inputs(self, per_matrix: int) -> list[Any]:
        """X, router and three matrices of `per_matrix` inputs each: the weight, perhaps scales, the bias."""
        rows = self.inner * (2 if self.fused else 1)
        made: list[Any] = [(1, self.tokens, self.hidden), (self.tokens, self.experts)]
        for present, n, width in (
            (True, rows, self.hidden),
            (True, self.hidden, self.inner),
            (self.third, self.inner, 0),
        ):
            scales = [(self.experts, n)] * (per_matrix - 2) if present else [None] * (per_matrix - 2)
            made += [(self.experts, n, width) if present else None, *scales]
            made += [(self.experts, n) if present and self.bias else None]
        return made

    def attributes(self) -> dict[str, Any]:
        alpha, beta, limit = self.swiglu
        made: dict[str, Any] = {"k": self.k, "activation_type": self.kind, "swiglu_fusion": int(self.fused)}
        made.update(normalize_routing_weights=int(self.normalised), use_sparse_mixer=int(self.mixer))
        made.update(activation_alpha=alpha, activation_beta=beta)
        return made if limit is None else {**made, "swiglu_limit": limit}


BLOCKS = [
    Block(1, 4, 3, 2, 1, "relu"),
    Block(3, 4, 4, 2, 2, "gelu", bias=True, normalised=True),
    Block(2, 3, 2, 5, 2, "silu", third=True, bias=True),
    Block(2, 4, 3, 2, 1, "identity", normalised=True),
    Block(2, 4, 3, 2, 2, "swiglu", fused=True, bias=True, swiglu=(1.702, 1.0, 7.0)),
    Block(2, 4, 3, 2, 2, "swiglu", third=True),
    Block(3, 2, 4, 3, 2, "silu", mixer=True),
    Block(0, 2, 4, 3, 2, "relu"),
]


@pytest.mark.parametrize("block", BLOCKS)
def test_moe_equals_its_token_loop(block: Block) -> None:
    tally: Counter[str] = Counter()
    pairs = block.run(tally)
    counts = counted("MoE", block.inputs(2), (1, block.tokens, block.hidden), **block.attributes())
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == pairs


def test_moe_by_hand() -> None:
    inputs = [(1, 4), (1, 3), (3, 2, 4), None, (3, 4, 2)]
    counts = counted("MoE", inputs, (1, 4))
    assert counts == Counts.of(F32, add=12, sub=3, mul=20, div=3, root=3, compare=6, macs=16)


def test_an_infinite_limit_of_swiglu_clamps_nothing() -> None:
    block = Block(2, 4, 3, 2, 2, "swiglu", fused=True)
    finite = {**block.attributes(), "swiglu_limit": 7.0}
    infinite = {**block.attributes(), "swiglu_limit": float("inf")}
    without = counted("MoE", block.inputs(2), (1, 2, 4), **block.attributes())
    assert counted("MoE", block.inputs(2), (1, 2, 4), **infinite) == without
    # 2 tokens, 2 experts each, 2 inner elements, 3 comparisons
    assert counted("MoE", block.inputs(2), (1, 2, 4), **finite) == without + Counts.of(F32, compare=24)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", ["int", "fp4"])
@pytest.mark.parametrize(("tokens", "k"), [(1, 1), (5, 2), (2, 2)])
def test_qmoe_adds_the_dequantised_experts(given: bool, kind: str, tokens: int, k: int) -> None:
    tally: Counter[str] = Counter()
    block = Block(tokens, 4, 4, 3, k, "silu", third=True, bias=True, given=given)
    pairs = block.run(tally)
    chosen = min(4, tokens * k)  # at most
    for _ in range(chosen):
        weight = numbers((3, 3, 4), tally)
        weight = weight - 8 if kind == "int" else weight
        weight * 0.5
    inputs = [*block.inputs(3), None, None, None, (tokens, 4) if given else None]
    counts = counted("QMoE", inputs, (1, tokens, 4), quant_type=kind, **block.attributes())
    assert counts.basic_operations() == as_basic_operations(tally)
    assert counts.macs == pairs


def test_qmoe_by_hand() -> None:
    inputs = [(1, 4), (1, 3), (3, 2, 2), (3, 2), None, (3, 4, 1), (3, 4)]
    counts = counted("QMoE", inputs, (1, 4), k=1, activation_type="relu")
    assert counts == Counts.of(F32, add=12, sub=19, mul=36, div=3, root=3, compare=6, macs=16)


def test_what_cannot_be_counted_is_refused() -> None:
    inputs = [(1, 4), (1, 3), (3, 2, 2), (3, 2), None, (3, 4, 1), (3, 4)]
    with pytest.raises(ShapeError, match="quantised activations"):
        counted("QMoE", [*inputs, *[None] * 10, Tensor("s", F32, (1,))], (1, 4))
    with pytest.raises(ShapeError, match="'mish'"):
        counted("MoE", [(1, 4), (1, 3), (3, 2, 4), None, (3, 4, 2)], (1, 4), activation_type="mish")
