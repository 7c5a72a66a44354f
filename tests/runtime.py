"""The truth about a model from a real onnxruntime run: type, shape and small values of tensors, and MACs from shapes.

Nothing here knows onnx_aiwq. Graph optimisations are off, so that every node of the file runs as the file has it; MACs
follow the operator definitions of ONNX, with the dense convention (padding taps are multiplied like any other).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_UNPACKED = ("session.disable_prepacking", "1")  # kernels take weights as they are: no second copy of each
_FED = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
_LARGE_ELEMENTS = 1 << 18
SMALL_ELEMENTS = 4096  # elements are kept of tensors that are no larger than this


class Seen(NamedTuple):
    """One tensor of a run: numpy's name of the type, shape, and the elements where they are few."""

    dtype: str
    shape: tuple[int, ...]
    elements: NDArray[Any] | None


def write_optimised(model: bytes | str, target: Path, level: str, fixed: Mapping[str, int]) -> None:
    """Write the graph that onnxruntime's optimiser makes of a model (its bytes or file) at one of `LEVELS`.

    Args:
        model: with weights.
        target: the file to write.
        level: of optimisation.
        fixed: sizes of symbolic dimensions.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry(*_UNPACKED)
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def take_out_weights(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Make inputs of the weights that lie in absent files, and return zeros for them.

    Types, shapes and what is computed from shapes do not depend on weights; zeros that nobody writes take no memory,
    and with weights as inputs a session makes no copy of them.

    Args:
        model: a skeleton; its absent initializers become inputs.
    """
    zeros: dict[str, NDArray[Any]] = {}
    for index in reversed(range(len(model.graph.initializer))):
        tensor = model.graph.initializer[index]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            dims = list(tensor.dims)
            zeros[tensor.name] = np.zeros(dims, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, dims))
            del model.graph.initializer[index]
    return zeros


def run_all_tensors(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Seen]:
    """Run a model and return every input, initializer and node output of its main graph.

    All arrays are held until the run ends: some 3 GB for the largest model of `models/`.

    Args:
        model: with weights; it is left as it is.
        feeds: one array per run-time input.
    """
    return seen_of(model, feeds, run_all_nodes(model, feeds))


def run_all_nodes(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a model and return every node output of its main graph, whole.

    Args:
        model: with weights; it is left as it is.
        feeds: one array per run-time input.
    """
    names = [output for node in model.graph.node for output in node.output if output]
    session, weights = _session(model, names)
    return dict(zip(names, session.run(names, {**feeds, **weights}), strict=True))


def seen_of(model: onnx.ModelProto, *arrays: Mapping[str, NDArray[Any]]) -> dict[str, Seen]:
    """Return initializers and named arrays of a run as `macs_from_run` takes them."""
    seen: dict[str, Seen] = {}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > SMALL_ELEMENTS:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            seen[tensor.name] = Seen(dtype.name, tuple(tensor.dims), None)
        else:
            seen[tensor.name] = _seen(onnx.numpy_helper.to_array(tensor))
    seen.update((name, _seen(array)) for group in arrays for name, array in group.items())
    return seen


def _session(model: onnx.ModelProto, names: Sequence[str]) -> tuple[ort.InferenceSession, dict[str, NDArray[Any]]]:
    """A session that returns the named tensors and runs every node as the file has it, and its large weights.

    Large weights are inputs, which no session copies or packs.
    """
    graph = onnx.GraphProto(name=model.graph.name, node=model.graph.node, input=model.graph.input)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    weights: dict[str, NDArray[Any]] = {}
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FED or math.prod(tensor.dims) < _LARGE_ELEMENTS:
            graph.initializer.append(tensor)
            continue
        weights[tensor.name] = onnx.numpy_helper.to_array(tensor)
        if tensor.name not in given:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    # A name is enough: onnxruntime infers the type.
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    light.functions.extend(model.functions)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # the tests run in as many processes as there are processors
    options.log_severity_level = 4
    options.add_session_config_entry(*_UNPACKED)
    session = ort.InferenceSession(light.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, weights


def _seen(array: NDArray[Any]) -> Seen:
    return Seen(array.dtype.name, array.shape, array.copy() if array.size <= SMALL_ELEMENTS else None)


def macs_from_run(model: onnx.ModelProto, tensors: Mapping[str, Seen], weights: Iterable[str] = ()) -> int:
    """Multiply-accumulate pairs of the dense products of a model without control flow.

    A node whose inputs are all constant is folded by every runtime and does not count.

    Args:
        model: the model that ran.
        tensors: what `run_all_tensors` returned.
        weights: inputs that are constant like initializers, as `take_out_weights` makes them.
    """
    constant = {tensor.name for tensor in model.graph.initializer}.union(weights)
    total = 0
    for node in model.graph.node:
        if all(name in constant for name in node.input if name):
            constant.update(node.output)
        elif node.op_type in _PAIRS:
            total += _PAIRS[node.op_type](
                [tensors[name].shape if name else None for name in node.input],
                [tensors[name].shape if name else None for name in node.output],
                {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute},
            )
    return total


def _conv(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any], weight: int = 1) -> int:
    # W[M, C / group, k1, k2, ...]: every output element sums C / group * k1 * k2 * ... products.
    return math.prod(outputs[0]) * math.prod(inputs[weight][1:])


def _conv_transpose(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    # W[C, M / group, k1, k2, ...]: every input element is multiplied by M / group * k1 * k2 * ... weights.
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _gemm(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    inner = inputs[0][0] if attributes.get("transA", 0) else inputs[0][1]
    return math.prod(outputs[0]) * inner


def _matmul(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    return math.prod(outputs[0]) * inputs[0][-1]


def _recurrent(gates: int) -> Callable[[Sequence[Any], Sequence[Any], Mapping[str, Any]], int]:
    def pairs(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
        # X[steps, batch, input] or [batch, steps, input]; R[directions, gates * hidden, hidden]
        steps_times_batch, size = inputs[0][0] * inputs[0][1], inputs[0][2]
        directions, hidden = inputs[2][0], inputs[2][2]
        return steps_times_batch * directions * gates * hidden * (size + hidden)

    return pairs


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    if len(inputs) != 2:
        raise NotImplementedError("MACs of an Einsum of other than two operands depend on the order of the products")
    terms = attributes["equation"].decode().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=True):
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after) if dots else 0
        # The axes of an ellipsis are numbered from the right, as broadcasting aligns them.
        labels = [*before, *(f"...{hidden - index}" for index in range(hidden)), *after]
        for label, dim in zip(labels, shape, strict=True):
            sizes[label] = max(dim, sizes.get(label, 1))
    return math.prod(sizes.values())


def _attention(inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    query, key, result = inputs[0], inputs[1], outputs[0]
    past = inputs[4][2] if len(inputs) > 4 and inputs[4] else 0
    if len(query) == 3:  # [batch, length, heads * size]
        batch, length = query[0], query[1]
        keys, width = key[1] + past, query[2] + result[2]
    else:  # [batch, heads, length, size]
        batch, length = query[0], query[2]
        keys, width = key[2] + past, query[1] * (query[3] + result[3])
    return batch * length * keys * width


_PAIRS: dict[str, Callable[[Sequence[Any], Sequence[Any], Mapping[str, Any]], int]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda inputs, outputs, attributes: _conv(inputs, outputs, attributes, weight=3),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Einsum": _einsum,
    "Attention": _attention,
}
