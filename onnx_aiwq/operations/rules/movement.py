"""Operators that move, look up or reinterpret data, and the few of them that may also compute."""

from __future__ import annotations

from onnx_aiwq.operations.arithmetic import known_scalar, unknown_input
from onnx_aiwq.operations.registry import movement, rule, size_of
from onnx_aiwq.vocabulary import Counts, DType, Operator

movement(
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "BitCast"),
    traffic="view",
    why="The same bytes under another shape or type: the result shares its input's memory.",
)
movement(
    *("Shape", "Size"),
    traffic="view",
    why="Reads the dimensions of its input, which are known without its elements.",
)
movement(
    *("If", "Loop", "Scan", "SequenceMap"),
    traffic="view",
    why="A container: the nodes of its bodies are counted as nodes of their own, with their branch or trip count.",
)
movement(
    *("Transpose", "Concat", "Split", "Expand", "Tile", "Pad", "SpaceToDepth", "DepthToSpace", "ReverseSequence"),
    *("Trilu", "OneHot", "ConcatFromSequence", "TensorScatter"),
    why="Copies elements to other places, or fills places with a constant; no arithmetic on elements.",
)
movement(
    "EyeLike",
    traffic="generated",
    why="Fills places with constants; of its input only the shape matters.",
)
movement(
    *("Cast", "CastLike"),
    why="A change of representation while copying; the convention prices conversions as movement.",
)
movement(
    *("Gather", "GatherElements", "GatherND", "Slice", "Compress"),
    traffic="selected",
    why="Copies selected elements; computing their addresses is indexing, not arithmetic on data.",
)
movement(
    "Scatter",
    why="Copies its input and overwrites selected elements.",
)

# Operators of ONNX Runtime that are the same movement under another name.
movement("ExpandDims", domain="com.microsoft", traffic="view", why="Unsqueeze: the same bytes under another shape.")
movement(
    *("Trilu", "Pad", "UnfoldTensor", "RemovePadding", "RestorePadding"),
    domain="com.microsoft",
    why="Copies elements to other places, or fills places with a constant; no arithmetic on elements.",
)
movement(
    *("GatherND", "TorchEmbedding"),
    domain="com.microsoft",
    traffic="selected",
    why="Copies selected elements; computing their addresses is indexing, not arithmetic on data.",
)
movement(
    *("ReorderInput", "ReorderOutput"),
    domain="com.microsoft.nchwc",
    why="A copy between the plain and the blocked layout of an image tensor.",
)
movement(
    *("MemcpyFromHost", "MemcpyToHost"),
    why="Copies a tensor between host and device; onnxruntime writes it into models that it optimised for a device.",
)


def _real_dtype(dtype: DType) -> DType:
    """The type in which the parts of a complex number are computed; any other type is its own."""
    return {DType.COMPLEX64: DType.FLOAT, DType.COMPLEX128: DType.DOUBLE}.get(dtype, dtype)


def _reduce_updates(op: Operator, updates: int) -> Counts:
    """One reduction per update element, in the type of the data that is updated."""
    reduction = op.attributes.get("reduction", "none")
    data = op.input(0)
    if reduction == "none" or data is None:
        return Counts()
    dtype = _real_dtype(data.dtype)
    if reduction == "add":
        return Counts.of(dtype, add=updates * (2 if data.dtype.is_complex else 1))
    if reduction == "mul" and data.dtype.is_complex:
        return Counts.of(dtype, mul=4 * updates, add=updates, sub=updates)
    if reduction == "mul":
        return Counts.of(dtype, mul=updates)
    return Counts.of(dtype, compare=updates)


@rule("ScatterElements", family="movement")
def scatter_elements(op: Operator) -> Counts:
    """Copy the data, then write or reduce one update per index.

    Equation:
        Y = X; Y[..., indices[i], ...] = f(Y[..., indices[i], ...], updates[i]) for every element i of `indices`,
        where f is the update itself (reduction none) or the sum, product, maximum or minimum of both.
    Basic operations:
        reduction none: nothing. add: 1 add, mul: 1 mul, max or min: 1 compare, each per element of `updates`
        (exact, whether indices repeat or not). Complex data: 2 add, or 4 mul, 1 add and 1 sub.
    Not counted:
        The copy of the data and the addressing (movement; traffic whole).
    Example:
        X [3, 3], indices and updates [2, 3], reduction add: 6 add. The same with reduction none: 0.
    Reference:
        ONNX operators: ScatterElements (reduction since 16, max and min since 18).
    """
    return _reduce_updates(op, size_of(op.input(2), "updates"))


@rule("ScatterND", family="movement")
def scatter_nd(op: Operator) -> Counts:
    """Copy the data, then write or reduce one slice per index tuple.

    Equation:
        Y = X; Y[indices[i]] = f(Y[indices[i]], updates[i]), where indices[i] names a slice of Y and f is the update
        itself (reduction none) or the elementwise sum, product, maximum or minimum of both.
    Basic operations:
        reduction none: nothing. add: 1 add, mul: 1 mul, max or min: 1 compare, each per element of `updates`
        (exact, whether indices repeat or not). Complex data: 2 add, or 4 mul, 1 add and 1 sub.
    Not counted:
        The copy of the data and the addressing (movement; traffic whole).
    Example:
        X [4, 4, 4], indices [2, 1], updates [2, 4, 4], reduction mul: 2 * 4 * 4 = 32 mul.
    Reference:
        ONNX operators: ScatterND (reduction since 16, max and min since 18).
    """
    return _reduce_updates(op, size_of(op.input(2), "updates"))


def _dropout_in_training(op: Operator, ratio: float | None) -> Counts:
    """One draw compared and one scaling per element; a ratio known to be zero drops and scales nothing."""
    data = op.input(0)
    size = size_of(data, "data")
    if ratio == 0.0 or data is None:
        return Counts()
    return Counts.of(data.dtype, mul=size, compare=size)


@rule("Dropout", family="elementwise", traffic="view")
def dropout_is_test(op: Operator) -> Counts:
    """Dropout that the attribute `is_test` puts to inference (opset 1 to 6).

    Equation:
        is_test != 0: Y = X. Else: Y = M * X / (1 - ratio), M[i] = (u[i] >= ratio), u uniform in [0, 1).
    Basic operations:
        is_test != 0: nothing. Else per element 1 compare (the draw against the ratio) and 1 mul (by 1 / (1 - ratio));
        nothing if the ratio is 0.
    Not counted:
        The random generator, the one division of the scale, the selection by the mask (movement).
    Example:
        X [2, 3], is_test 0, ratio 0.5: 6 compare and 6 mul. is_test 1: 0.
    Reference:
        ONNX operators: Dropout (versions 1 and 6, whose `is_test` is 0 unless it is given).
    """
    if op.attributes.get("is_test", 0):
        return Counts()
    return _dropout_in_training(op, op.attributes.get("ratio", 0.5))


movement("Dropout", since=7, traffic="view", why="Inference only (opset 7 to 11): the output is the input.")


@rule("Dropout", family="elementwise", since=12, traffic="view", bound=unknown_input(2))
@rule("BitmaskDropout", family="elementwise", domain="com.microsoft", traffic="view", bound=unknown_input(2))
def dropout(op: Operator) -> Counts:
    """Dropout, which passes its input on unless its input `training_mode` is true.

    Equation:
        training_mode false: Y = X. Else: Y = M * X / (1 - ratio), M[i] = (u[i] >= ratio), u uniform in [0, 1).
    Basic operations:
        training_mode absent or known to be false: nothing. Else (true, or, as an upper bound, not known before the run)
        per element 1 compare (the draw against the ratio) and 1 mul (by 1 / (1 - ratio)); nothing if the ratio is known
        to be 0.
    Not counted:
        The random generator, the one division of the scale, the selection by the mask (movement). Traffic is that of
        inference, where the output shares the input's memory.
    Example:
        X [2, 3], ratio 0.5, training_mode true: 6 compare and 6 mul. training_mode absent: 0.
    Reference:
        ONNX operators: Dropout (since 12).
    """
    training = op.input(2)
    if training is None or (training.value is not None and not training.value.any()):
        return Counts()
    ratio = op.input(1)
    return _dropout_in_training(op, 0.5 if ratio is None else known_scalar(ratio))
