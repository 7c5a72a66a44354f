"""Single operators on tensors of any shape, each between a producer and a small consumer.

What networks are made of besides products: elementwise arithmetic, reductions, and movement of every kind. Shapes are
drawn log-uniform, so that overhead, bytes and arithmetic vary independently of one another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_aiwq.calibration.composites.builder import Builder, Value

Block = Callable[[Builder, Value], Value]
UNARY = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Erf",
    "Sqrt",
    "Neg",
    "Abs",
    "Reciprocal",
    "Gelu",
    "HardSwish",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "Softplus",
    "Floor",
    "Log",
    "Sin",
    "Cos",
    "Not",
    "Cast",
    "Mish",
    "Selu",
    "Softsign",
]
_POSITIVE = ("Sqrt", "Log", "Reciprocal")


def shape(b: Builder, most: int = 1_500_000) -> tuple[int, ...]:
    """Two to four dimensions with a log-uniform number of elements."""
    size = b.log_int(64, most)
    rank = b.pick(2, 3, 4, weights=(1, 2, 2))
    last = min(size, b.pick(b.log_int(4, 2048), 64, 128, 512, 768))
    if rank == 2:
        return (max(1, size // last), last)
    middle = min(max(1, size // last), b.log_int(2, 512))
    if rank == 3:
        return (max(1, size // last // middle), middle, last)
    return (1, max(1, size // last // middle), middle, last)


def produced(b: Builder, dims: tuple[int, ...]) -> Value:
    """A tensor that an operator has just written, as it is within a network."""
    small = b.input((*dims[:-1], 1))
    return b.node("Add", [small.name, b.weight(dims[-1], offset=1.0, scale=0.2)], dims)


def unary(b: Builder) -> None:
    """An elementwise function."""
    x = produced(b, shape(b))
    op_type = b.pick(*UNARY)
    if op_type == "Not":
        made = b.unary("Not", b.node("Greater", [x.name, b.scalar(1.0)], x.shape))
        b.output(b.unary("Cast", made, to=1))
    elif op_type == "Cast":
        b.output(b.unary("Cast", b.unary("Cast", x, to=b.pick(7, 6)), to=1))
    else:
        b.output(b.unary(op_type, b.unary("Abs", x) if op_type in _POSITIVE else x))


def binary(b: Builder) -> None:
    """Arithmetic of two tensors, of one shape or broadcast in the ways that networks use."""
    x = produced(b, shape(b))
    op_type = b.pick(
        "Add", "Mul", "Sub", "Div", "Pow", "Max", "Min", "Greater", "PRelu", weights=(5, 5, 2, 2, 1, 1, 1, 1, 0.5)
    )
    kind = b.pick("same", "scalar", "last", "first", "outer")
    other: Value
    if kind == "same":
        other = b.unary("Sigmoid", x)
    elif kind == "scalar" or op_type == "PRelu":
        other = Value(b.scalar(b.pick(2.0, 0.7, 3.0)), ())
    elif kind == "last":
        other = Value(b.weight(x.shape[-1], offset=1.0, scale=0.1), (x.shape[-1],))
    elif kind == "first":
        dims = (*x.shape[:-1], 1)
        other = b.node("ReduceMax", [x.name, b.integers([-1])], dims, keepdims=1)
    else:
        dims = (*(1 for _ in x.shape[:-2]), *x.shape[-2:]) if len(x.shape) > 2 else (1, x.shape[-1])
        other = Value(b.weight(*dims, offset=1.0, scale=0.1), dims)
    y = b.node(op_type, [x.name, other.name], x.shape)
    b.output(b.unary("Cast", y, to=1) if op_type == "Greater" else y)


def chain(b: Builder) -> None:
    """Several elementwise operators on one tensor, as activations and gates are."""
    x = produced(b, shape(b))
    for _ in range(b.pick(2, 3, 4)):
        y = b.unary(b.pick("Sigmoid", "Tanh", "Relu", "Neg"), x)
        x = b.node(b.pick("Add", "Mul", "Sub"), [x.name, y.name], x.shape)
    b.output(x)


def reduction(b: Builder) -> None:
    """A sum, mean or maximum over trailing, leading or inner axes."""
    x = produced(b, shape(b))
    rank = len(x.shape)
    axes = b.pick([rank - 1], [0], [rank - 2], list(range(max(1, rank - 2), rank)))
    dims = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    kind = b.pick("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ArgMax", weights=(4, 3, 2, 1, 1))
    if kind == "ArgMax":
        axis = axes[0]
        dims = tuple(1 if index == axis else size for index, size in enumerate(x.shape))
        b.output(b.unary("Cast", b.node("ArgMax", [x.name], dims, axis=axis, keepdims=1), to=1))
    else:
        b.output(b.node(kind, [x.name, b.integers(axes)], dims, keepdims=1))


def normalisation(b: Builder) -> None:
    """Softmax or a normalisation over the last axis; scores masked at times, since their values decide its time."""
    x = produced(b, shape(b))
    kind = b.pick("Softmax", "LogSoftmax", "LayerNormalization", "masked", "axis", weights=(3, 0.5, 3, 2, 0.5))
    if kind == "masked":
        allowed = np.where(np.tri(x.shape[-2], x.shape[-1], dtype=bool), 0, -3.4e38).astype(np.float32)
        b.output(b.unary("Softmax", b.node("Add", [x.name, b.constant(allowed)], x.shape), axis=-1))
    elif kind == "axis":
        b.output(b.unary("Softmax", x, axis=1))
    elif kind == "LayerNormalization":
        weights = [b.weight(x.shape[-1], offset=1.0, scale=0.1), b.weight(x.shape[-1], scale=0.1)]
        b.output(b.node(kind, [x.name, *weights], x.shape, axis=-1))
    else:
        b.output(b.unary(kind, x, axis=-1))


def transposition(b: Builder) -> None:
    """A transposition with random axes."""
    x = produced(b, shape(b))
    axes = [int(axis) for axis in b.random.permutation(len(x.shape))]
    y = b.transpose(x, *axes)
    b.output(b.unary("Relu", y) if b.chance(0.5) else y)


def movement(b: Builder) -> None:
    """Join, cut, pad, repeat or look up."""
    x = produced(b, shape(b))
    rank = len(x.shape)
    axis = int(b.random.integers(rank))
    kind = b.pick("Concat", "Slice", "Split", "Pad", "Expand", "Gather", "Tile", "Where", "stride")
    if kind == "Concat":
        b.output(b.concat([x, b.unary("Neg", x)], axis))
    elif kind == "Slice" and x.shape[axis] > 2:
        b.output(b.unary("Neg", b.slice(x, axis, 1, x.shape[axis] - 1)))
    elif kind == "Split" and x.shape[axis] % 2 == 0:
        left, right = b.split(x, 2, axis)
        b.output(b.mul(left, right))
    elif kind == "Pad":
        pads = [0] * rank + [0] * rank
        pads[axis], pads[rank + axis] = 1, 1
        dims = tuple(size + 2 * (index == axis) for index, size in enumerate(x.shape))
        b.output(b.node("Pad", [x.name, b.integers(pads)], dims))
    elif kind == "Expand":
        first = b.node(
            "ReduceMax", [x.name, b.integers([axis])], tuple(1 if i == axis else s for i, s in enumerate(x.shape))
        )
        b.output(b.node("Expand", [first.name, b.integers(x.shape)], x.shape))
    elif kind == "Gather":
        rows = b.log_int(1, max(2, min(512, x.shape[axis])))
        ids = b.constant(b.random.integers(0, x.shape[axis], (rows,)))
        dims = tuple(rows if index == axis else size for index, size in enumerate(x.shape))
        b.output(b.node("Gather", [x.name, ids], dims, axis=axis))
    elif kind == "Where":
        sign = b.node("Greater", [x.name, b.scalar(1.0)], x.shape)
        b.output(b.node("Where", [sign.name, x.name, b.scalar(0.0)], x.shape))
    elif kind == "stride" and x.shape[axis] > 2:
        dims = tuple((size + 1) // 2 if index == axis else size for index, size in enumerate(x.shape))
        bounds = [b.integers([number]) for number in (0, x.shape[axis], axis, 2)]
        b.output(b.node("Slice", [x.name, *bounds], dims))
    else:
        repeats = [1] * rank
        repeats[axis] = 2
        b.output(
            b.node("Tile", [x.name, b.integers(repeats)], tuple(s * r for s, r in zip(x.shape, repeats, strict=True)))
        )


def product(b: Builder) -> None:
    """A matrix product: with a weight, or of two tensors; of one row at times."""
    m, k, n = b.log_int(1, 1600), b.width(16, 3072), b.width(16, 3072)
    while m * k * n > 4e8:
        m, k, n = (max(1, size // 2) for size in (m, k, n))
    if b.chance(0.25):
        m = 1
    if b.chance(0.35):
        batch = b.log_int(1, 64)
        while batch * m * k * n > 3e8:
            m, k, n = (max(1, size // 2) for size in (m, k, n))
        left, right = produced(b, (1, batch, m, k)), produced(b, (1, batch, k, n))
        b.output(b.node("MatMul", [left.name, right.name], (1, batch, m, n)))
    elif b.chance(0.5):
        b.output(b.gemm(produced(b, (m, k)), n, transposed=b.chance(0.6)))
    else:
        b.output(b.matmul(produced(b, (1, m, k)), n))


def one_row(b: Builder) -> None:
    """Products of one or a few rows with large weights, as in classifiers and in decoding token by token."""
    rows, k, n = b.log_int(1, 12), b.width(256, 8192), b.width(256, 8192)
    while k * n > 16_000_000:
        k, n = k // 2, n // 2
    x = produced(b, (rows, k))
    b.output(b.gemm(x, n, transposed=b.chance(0.6)) if b.chance(0.6) else b.matmul(x, n))


def tiny(b: Builder) -> None:
    """A dozen operators on a few elements: what a call costs."""
    x = produced(b, (1, b.log_int(1, 64)))
    for _ in range(12):
        x = b.unary(b.pick("Relu", "Sigmoid", "Neg", "Tanh", "Abs"), x)
        if b.chance(0.3):
            x = b.reshape(x, x.shape[::-1])
        if b.chance(0.3):
            x = b.node(b.pick("Add", "Mul"), [x.name, b.scalar(1.1)], x.shape)
    b.output(x)


def top(b: Builder) -> None:
    """The largest elements, a running sum, or one-hot vectors: operators that are rare and slow."""
    x = produced(b, shape(b, 200_000))
    kind = b.pick("TopK", "CumSum", "OneHot")
    if kind == "TopK":
        k = min(x.shape[-1], b.log_int(1, 64))
        values, _ = b.nodes("TopK", [x.name, b.integers([k])], [(*x.shape[:-1], k)] * 2, axis=-1)
        b.output(values)
    elif kind == "CumSum":
        b.output(b.node("CumSum", [x.name, b.integers([-1])], x.shape))
    else:
        ids = b.unary("Cast", b.node("ReduceMax", [x.name, b.integers([-1])], x.shape[:-1], keepdims=0), to=7)
        depth = b.log_int(8, 512)
        bounds = b.constant(np.asarray([0, 1], np.float32))
        b.output(b.node("OneHot", [ids.name, b.integers([depth]), bounds], (*x.shape[:-1], depth)))


BLOCKS: tuple[tuple[Callable[[Builder], None], float], ...] = (
    (unary, 4),
    (binary, 5),
    (chain, 1.5),
    (reduction, 2.5),
    (normalisation, 3),
    (transposition, 4),
    (movement, 5),
    (product, 3),
    (one_row, 1.5),
    (tiny, 1),
    (top, 0.6),
)
"""What a collection of single operators is drawn from, with how often."""

PRODUCTS: tuple[tuple[Callable[[Builder], None], float], ...] = ((product, 4), (one_row, 4), (normalisation, 1.5))
"""What a collection of products is drawn from."""
