"""Other forms of one model, as onnxruntime's own tools write them: optimised, quantised, with weights in 4 bits.

A form is made step by step, from file to file: `basic`, `extended` and `all` are the levels of the graph optimiser of
an inference session, `fused` is the transformer optimiser; `dynamic`, `qdq` and `qoperator` quantise to int8; `four`
and `four-offset` put the weights of matrix products into 4 bits, without and with zero points. Nothing here knows
onnx_aiwq.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.optimizer import optimize_model

from runtime import LEVELS, Seen, write_optimised

Feeds = Mapping[str, NDArray[Any]]

BLOCKED = "com.microsoft.nchwc"
_VOCABULARY = 20_000  # no other dimension of a weight is larger
CONTRIB = "com.microsoft"


def make(source: Path, target: Path, steps: Sequence[str], feeds: Feeds, fixed: Mapping[str, int]) -> None:
    """Write the form of `source` that the steps make, one after the other, to `target`.

    Args:
        source: a model with its weights.
        target: the file to write; intermediate files go beside it.
        steps: see the module.
        feeds: inputs, for calibration.
        fixed: symbolic dimensions that an optimiser gives their size; none to leave all free.
    """
    current = source
    for number, step in enumerate(steps):
        following = target if number == len(steps) - 1 else target.with_suffix(f".{number}.onnx")
        _step(current, following, step, feeds, fixed)
        if current != source:
            current.unlink()
        current = following


def _step(source: Path, target: Path, step: str, feeds: Feeds, fixed: Mapping[str, int]) -> None:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # advice that does not matter here
    try:
        if step in LEVELS:
            write_optimised(str(source), target, step, fixed)
        elif step == "fused":
            kind = next(name for name in ("bert", "gpt2", "vit") if name in source.name)
            fused = optimize_model(str(source), model_type=kind, num_heads=12, hidden_size=768, opt_level=0)
            fused.save_model_to_file(str(target))
        elif step == "dynamic":
            quantize_dynamic(source, target)
        elif step in ("qdq", "qoperator"):
            form = QuantFormat.QDQ if step == "qdq" else QuantFormat.QOperator
            quantize_static(source, target, _Samples([feeds]), quant_format=form)
        elif step in ("four", "four-offset"):
            quantiser = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=step == "four")
            quantiser.process()
            onnx.save(quantiser.model.model, target)
        else:
            raise ValueError(f"unknown step {step!r}")
    finally:
        logging.getLogger().setLevel(level)


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Sequence[Feeds]) -> None:
        self._samples: Iterator[Feeds] = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        sample = next(self._samples, None)
        return None if sample is None else dict(sample)


def shorten(model: onnx.ModelProto, layers: int) -> None:
    """Leave so many layers of a Transformer: its last normalisation reads what the first layers give.

    Two normalisations belong to each layer, so that what the one after 2 * layers others normalises is what as many
    layers give, whether they stand before or behind what they normalise. Inputs, outputs, and what comes before and
    after the layers stay as they are; what nobody reads any more goes.
    """
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    norms[-1].input[0] = norms[2 * layers].input[0]
    read = {output.name for output in model.graph.output}
    for index in reversed(range(len(model.graph.node))):
        node = model.graph.node[index]
        assert not any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)
        if read.isdisjoint(node.output):
            del model.graph.node[index]
        else:
            read.update(node.input)
    for kept in (model.graph.initializer, model.graph.value_info):
        for index in reversed(range(len(kept))):
            if kept[index].name not in read:
                del kept[index]


def shrink_vocabulary(model: onnx.ModelProto, words: int) -> None:
    """Give the tables of words, most of a small Transformer's weights, fewer rows; and so what is made of them."""
    sizes = [size for tensor in model.graph.initializer for size in tensor.dims]
    whole = max(sizes, default=0)
    if whole < _VOCABULARY:
        return
    for tensor in model.graph.initializer:
        tensor.dims[:] = [words if size == whole else size for size in tensor.dims]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == whole:
                dim.dim_value = words


def shrink_images(model: onnx.ModelProto, size: int) -> None:
    """Give the images that a network of convolutions alone takes and makes another height and width."""
    del model.graph.value_info[:]
    for end in (*model.graph.input, *model.graph.output):
        for dim in end.type.tensor_type.shape.dim[2:]:
            dim.dim_value = size


def operators(model: onnx.ModelProto) -> set[tuple[str, str]]:
    """(domain, operator) of every node of the main graph."""
    return {("" if node.domain == "ai.onnx" else node.domain, node.op_type) for node in model.graph.node}


def without_zeros(model: onnx.ModelProto) -> None:
    """Give every weight of a convolution that happens to be zero another value, so that a zero is padding."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.data_type == TensorProto.FLOAT:
            weight = numpy_helper.to_array(tensor).copy()
            weight[weight == 0] = 0.01
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))


def padding_macs(model: onnx.ModelProto, tensors: Mapping[str, Seen]) -> int:
    """Products with zeros that onnxruntime put into the weights of blocked convolutions, to fill whole blocks.

    Weights must have no zeros of their own (`without_zeros`). Every element of W is multiplied once for each position
    of an output image.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.domain == BLOCKED and node.op_type == "Conv":
            weight = numpy_helper.to_array(weights[node.input[1]])
            batch, _, *image = tensors[node.output[0]].shape
            total += (weight.size - int(np.count_nonzero(weight))) * batch * math.prod(image)
    return total


# A layer of BERT in the form that onnxruntime's optimiser gives it where it recognises the attention of the exporter.
HIDDEN, HEADS, INNER, VOCABULARY = 32, 4, 64, 100


def fused_layer() -> onnx.ModelProto:
    """One encoder layer of fused operators: EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu."""
    generator = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    counter = itertools.count()

    def weight(*shape: int) -> str:
        name = f"weight_{next(counter)}"
        values = generator.normal(0, 0.1, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def node(op_type: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(
            op_type, inputs, list(outputs), name=f"{op_type}_{outputs[0]}", domain=domain, **attributes
        )

    tables = [weight(VOCABULARY, HIDDEN), weight(64, HIDDEN), weight(2, HIDDEN), weight(HIDDEN), weight(HIDDEN)]
    layer = [
        node("EmbedLayerNormalization", ["ids", "segments", *tables, "mask"], "x", "ends", domain=CONTRIB),
        node(
            "Attention",
            ["x", weight(HIDDEN, 3 * HIDDEN), weight(3 * HIDDEN), "ends"],
            "a",
            domain=CONTRIB,
            num_heads=HEADS,
        ),
        node("MatMul", ["a", weight(HIDDEN, HIDDEN)], "b"),
        node(
            "SkipLayerNormalization",
            ["b", "x", weight(HIDDEN), weight(HIDDEN), weight(HIDDEN)],
            "c",
            domain=CONTRIB,
        ),
        node("MatMul", ["c", weight(HIDDEN, INNER)], "d"),
        node("BiasGelu", ["d", weight(INNER)], "e", domain=CONTRIB),
        node("MatMul", ["e", weight(INNER, HIDDEN)], "f"),
        node("Add", ["f", weight(HIDDEN)], "g"),
        node("SkipLayerNormalization", ["g", "c", weight(HIDDEN), weight(HIDDEN)], "y", domain=CONTRIB),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "sequence"])
        for name in ("ids", "segments", "mask")
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    # The quantisers ask for the types of what fused operators make.
    widths = {"x": HIDDEN, "a": HIDDEN, "b": HIDDEN, "c": HIDDEN, "d": INNER, "e": INNER, "f": HIDDEN, "g": HIDDEN}
    between = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", width])
        for name, width in widths.items()
    ]
    graph = helper.make_graph(layer, "layer", inputs, [output], weights, value_info=between)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def fused_layer_inputs(batch: int, sequence: int) -> dict[str, NDArray[Any]]:
    shape = (batch, sequence)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, shape).astype(np.int32)
    return {"ids": ids, "segments": np.zeros(shape, np.int32), "mask": np.ones(shape, np.int32)}


def fused_layer_macs(batch: int, sequence: int) -> int:
    """Projections to Q, K, V and back, both products of attention, and both of the feed-forward block."""
    tokens = batch * sequence
    return tokens * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER) + 2 * tokens * sequence * HIDDEN
