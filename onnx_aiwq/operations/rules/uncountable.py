"""Operators that no rule can count, each with its reason: a report names it instead of a number."""

from __future__ import annotations

from onnx_aiwq.operations.registry import uncountable

uncountable(
    *("EPContext", "Snpe"),
    domain="com.microsoft",
    why="it holds a graph that a vendor's compiler has turned into bytes of its own format; analyze the model that it "
    "was compiled from",
)
uncountable(
    *("DisentangledAttention_TRT", "EfficientNMS_TRT", "MultilevelCropAndResize_TRT", "PyramidROIAlign_TRT"),
    why="it names a plugin of TensorRT, which alone defines and runs it",
)
uncountable(
    *("QuantizeBFP", "DequantizeBFP"),
    domain="com.microsoft",
    why="its block format is a number that only the accelerator of its author interprets, and onnxruntime has no "
    "kernel for it",
)
uncountable(
    *("GRUUnit", "GivenTensorFill"),
    why="it was an experiment of the first opsets that neither ONNX nor onnxruntime kept",
)
