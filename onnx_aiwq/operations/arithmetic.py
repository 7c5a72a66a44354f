"""Arithmetic that several rule families share: elementary functions as basic operations, and lines of a tensor.

Every function returns the count of one element or of one line; rules scale it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from onnx_aiwq.errors import ShapeError
from onnx_aiwq.operations.registry import shape_of
from onnx_aiwq.vocabulary import Counts, DType, Operator, Tensor

_INTEGERS = {dtype.label: dtype for dtype in DType if dtype.is_integer}
GELU_SLOPE = 1.702  # GELU as the TO paper counts it, x * sigmoid(1.702 x)
LARGEST_INTEGER_EXPONENT = 64
"""Known integer exponents up to this are squared and multiplied; beyond it a power is exp(y log x)."""


def dtype_of(tensor: Tensor | None, role: str = "the first input") -> DType:
    """Return the element type of a tensor that a rule needs.

    Raises:
        ShapeError: if the tensor is absent.
    """
    if tensor is None:
        raise ShapeError(f"{role} is absent")
    return tensor.dtype


def product_types(left: DType, right: DType) -> tuple[DType, DType]:
    """Type of the products (the wider operand, signed if one is) and of their sums (int32); floats keep their type."""
    if not (left.is_integer and right.is_integer):
        return left, left
    unsigned = left.label.startswith("u") and right.label.startswith("u")
    width = max(left.bits, right.bits)
    return _INTEGERS[f"{'u' if unsigned else ''}int{width}"], DType.INT32


def operand_types(left: Tensor | None, right: Tensor | None) -> tuple[DType, DType]:
    """`product_types` of two operands; where both were dequantised from integers, a runtime multiplies the integers."""
    if left is not None and right is not None and left.quantized is not None and right.quantized is not None:
        return product_types(left.quantized, right.quantized)
    return dtype_of(left), dtype_of(left)


def dot_products(types: tuple[DType, DType], results: int, length: int, bias: Tensor | None = None) -> Counts:
    """`results` dot products of `length`: the first term is assigned, a bias adds one per result.

    Args:
        types: of the products and of their sums.
        results: number of dot products.
        length: products per dot product.
        bias: added to every result where present.
    """
    products, sums = types
    pairs = results * length
    adds = results * max(length - 1, 0) + (0 if bias is None else results)
    return Counts.of(products, mul=pairs, macs=pairs) + Counts.of(sums, add=adds)


def asked_for(op: Operator, index: int) -> bool:
    """Whether an optional output is present."""
    return op.output(index) is not None


def known_scalar(tensor: Tensor | None) -> float | None:
    """The value of a one-element tensor that is known before a run, else None."""
    if tensor is None or tensor.value is None or tensor.value.size != 1:
        return None
    value: Any = tensor.value.reshape(-1)[0]
    return float(value)


def unknown_input(index: int) -> Callable[[Operator], bool]:
    """A test of operators: whether this input is given, and its one value is not known before a run."""
    return lambda op: op.input(index) is not None and known_scalar(op.input(index)) is None


def axis_index(axis: int, rank: int) -> int:
    """Return the non-negative index of an axis; negative axes count from the end.

    Raises:
        ShapeError: if the tensor has no such axis.
    """
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} does not exist in a tensor of rank {rank}")
    return axis % rank


def lines_along(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return how many lines of which length run along an axis; a scalar is one line of length one."""
    if not shape:
        return 1, 1
    index = axis_index(axis, len(shape))
    return math.prod(shape[:index]) * math.prod(shape[index + 1 :]), shape[index]


def lines_from(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """Return how many lines of which length there are when all axes from one on are flattened into one."""
    if axis == len(shape):
        return math.prod(shape), 1
    index = axis_index(axis, len(shape))
    return math.prod(shape[:index]), math.prod(shape[index:])


def softmax_lines(op: Operator) -> tuple[int, int]:
    """The lines that Softmax, LogSoftmax and Hardmax normalise: along `axis`; before opset 13 flattened from it on."""
    shape = shape_of(op.input(0), "the input")
    if op.version >= 13:
        return lines_along(shape, op.attributes.get("axis", -1))
    return lines_from(shape, op.attributes.get("axis", 1))


def sigmoid(dtype: DType) -> Counts:
    """One element of 1 / (1 + e^-x): sub (the negation), root, add, div (TO paper, Eq. 4)."""
    return Counts.of(dtype, add=1, sub=1, div=1, root=1)


def scaled_sigmoid_product(dtype: DType, alpha: float) -> Counts:
    """One element of x * sigmoid(alpha x): SiLU, Swish and the GELU of Eq. 5 (alpha 1.702); alpha 1 costs nothing."""
    return sigmoid(dtype) + Counts.of(dtype, mul=1 + int(alpha != 1))


def tanh(dtype: DType) -> Counts:
    """One element of (e^2x - 1) / (e^2x + 1): mul, root, sub, add, div."""
    return Counts.of(dtype, add=1, sub=1, mul=1, div=1, root=1)


def softplus(dtype: DType) -> Counts:
    """One element of log(1 + e^x): root, add, root."""
    return Counts.of(dtype, add=1, root=2)


def power(dtype: DType, exponent: float | None) -> Counts:
    """One element of x^y, y a known constant or None.

    Integers up to 64 by square-and-multiply (floor(log2 y) squarings, one multiplication per further set bit), 1/2 by
    one root, a negative sign by one div; every other power is exp(y log x): root, mul, root.
    """
    general = Counts.of(dtype, mul=1, root=2)
    if exponent is None:
        return general
    magnitude = abs(float(exponent))
    if magnitude == 0.5:
        positive = Counts.of(dtype, root=1)
    elif magnitude.is_integer() and magnitude <= LARGEST_INTEGER_EXPONENT:
        whole = int(magnitude)
        positive = Counts.of(dtype, mul=max(whole.bit_length() - 1 + whole.bit_count() - 1, 0))
    else:
        return general
    return positive + Counts.of(dtype, div=int(exponent < 0))


def softmax_line(dtype: DType, length: int) -> Counts:
    """One line of e^(x - max) / sum e^(x - max): n-1 compare, n sub, n root, n-1 add, n div."""
    steps = max(length - 1, 0)
    return Counts.of(dtype, add=steps, sub=length, div=length, root=length, compare=steps)


def log_softmax_line(dtype: DType, length: int) -> Counts:
    """One line of (x - max) - log(sum e^(x - max)): n-1 compare, n sub, n root, n-1 add, 1 root, n sub."""
    if length == 0:
        return Counts()
    return Counts.of(dtype, add=length - 1, sub=2 * length, root=length + 1, compare=length - 1)


def insertions(n: int, k: int) -> int:
    """Sum over i < n of ceil(log2(min(i, k) + 1)): the bit lengths of 0, 1, ..., k-1, then n-k times that of k."""
    k = min(k, n)
    # Bit b is present in the bit length of every number from 2^b on.
    growing = sum(k - (1 << bit) for bit in range(k.bit_length()) if 1 << bit < k)
    return growing + (n - k) * k.bit_length()


# FusedConv, FusedGemm and FusedMatMulActivation: one element of their `activation`.
_ACTIVATIONS: Mapping[str, Callable[[DType], Counts]] = {
    "": Counts.of,
    "Relu": functools.partial(Counts.of, compare=1),
    "Sigmoid": sigmoid,
    "Tanh": tanh,
    "LeakyRelu": functools.partial(Counts.of, mul=1, compare=1),
    "Clip": functools.partial(Counts.of, compare=2),
    "HardSigmoid": functools.partial(Counts.of, add=1, mul=1, compare=2),
    "HardSwish": functools.partial(Counts.of, add=1, mul=2, compare=2),
    "Elu": functools.partial(Counts.of, sub=1, mul=1, root=1, compare=1),
    "Softplus": softplus,
    "Softsign": functools.partial(Counts.of, add=1, div=1, compare=1),
    "ThresholdedRelu": functools.partial(Counts.of, compare=1),
}


def fused_activation(op: Operator, results: int) -> Counts:
    """The activation that a fused operator names in its attribute `activation`, on `results` elements.

    Raises:
        ShapeError: if it is none of those that onnxruntime fuses.
    """
    name = str(op.attributes.get("activation") or "")
    if name not in _ACTIVATIONS:
        raise ShapeError(f"activation {name!r} of {op.op_type} {op.name!r} is none of {sorted(_ACTIVATIONS)}")
    return _ACTIVATIONS[name](dtype_of(op.input(0))) * results
