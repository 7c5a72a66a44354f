"""Make the int8 forms of a float skeleton when they are needed; numpy, onnx and onnxruntime.

model = quantised("models/development/resnet18.onnx", "qdq", {"batch": 1})
session = onnxruntime.InferenceSession(model.SerializeToString())
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

from onnx_aiwq.calibration.weights import example_inputs, materialize

CALIBRATION_BATCHES = 2

STATIC_FORMS = {"qdq": quantization.QuantFormat.QDQ, "qoperator": quantization.QuantFormat.QOperator}
"""Name -> how onnxruntime writes a static int8 product: between QuantizeLinear pairs, or as QLinear operator."""

FORMS = (*STATIC_FORMS, "dynamic")


class RandomCalibration(quantization.CalibrationDataReader):
    """A few seeded random batches; the weights are random too, so real data would add nothing."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            [example_inputs(model, {}, seed) for seed in range(CALIBRATION_BATCHES)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None when all are used."""
        return next(self._batches, None)


def quantised(
    skeleton_path: str | os.PathLike[str], form: str, bindings: Mapping[str, int], seed: int = 0
) -> onnx.ModelProto:
    """Return an int8 model, with weights, of the skeleton at `skeleton_path`, all its dimensions fixed to `bindings`.

    `form` is one of `FORMS`. Static forms have uint8 activations and int8 weights, one scale for each output channel;
    "dynamic" has int8 weights and takes the scale of an activation when it runs. The float model first goes through the
    pre-processing that onnxruntime recommends (constants folded, batch normalisation merged).

    Raises ValueError when `form` is none of these, FileNotFoundError when the skeleton is absent.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r}: expected one of {', '.join(FORMS)}")
    model = materialize(skeleton_path, seed)
    for name, size in bindings.items():
        make_dim_param_fixed(model.graph, name, size)
    with tempfile.TemporaryDirectory() as scratch:
        float_path, folded_path, int8_path = (Path(scratch) / f"{stage}.onnx" for stage in ("float", "folded", "int8"))
        onnx.save(model, float_path)
        quant_pre_process(float_path, folded_path, skip_symbolic_shape=True)
        if form == "dynamic":
            quantization.quantize_dynamic(folded_path, int8_path, weight_type=quantization.QuantType.QInt8)
        else:
            quantization.quantize_static(
                folded_path,
                int8_path,
                RandomCalibration(model),
                quant_format=STATIC_FORMS[form],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        return onnx.load(int8_path)
