"""Quantised forms of a composite, by the quantisers that users run: onnxruntime's own.

Ranges of activations are given, not calibrated: values do not change what integer arithmetic costs.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import onnx

Form = Literal["qdq", "qdq-signed", "qoperator", "dynamic", "four-bits"]
_RANGE = (np.float32(-6.0), np.float32(6.0))


def quantised(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    """The model in int8 (pairs of QuantizeLinear, integer operators, dynamic), or with 4-bit weights."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # advice on accuracy, of no use for random weights
    try:
        if form == "four-bits":
            return _four_bits(model)
        return _eight_bits(onnx.shape_inference.infer_shapes(model), form)
    finally:
        logging.getLogger().setLevel(level)


def _eight_bits(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode
    from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

    names = [name for node in model.graph.node for name in node.output] + [value.name for value in model.graph.input]
    ranges = TensorsData(CalibrationMethod.MinMax, dict.fromkeys(names, _RANGE))
    signed, unsigned = QuantType.QInt8, QuantType.QUInt8
    quantizer: Any
    if form in ("qdq", "qdq-signed"):
        activations = signed if form == "qdq-signed" else unsigned
        quantizer = QDQQuantizer(model, True, False, signed, activations, ranges, None, [], list(QDQRegistry), {})
    elif form == "qoperator":
        mode = QuantizationMode.QLinearOps
        quantizer = ONNXQuantizer(
            model, True, False, mode, True, signed, unsigned, ranges, None, [], list(QLinearOpsRegistry), {}
        )
    else:
        mode = QuantizationMode.IntegerOps
        quantizer = ONNXQuantizer(
            model, False, False, mode, False, signed, unsigned, None, None, [], list(IntegerOpsRegistry), {}
        )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _four_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer: Any = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
    quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made
