"""Types and shapes of operators that the shape libraries do not know or get wrong: those of onnxruntime and ai.onnx.ml.

What the CPU build of onnxruntime runs is compared with a run; the rest, operators of its other builds, with the shape
that its operator documentation states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from corpus import kind_of
from onnx_aiwq.graph import load
from onnx_aiwq.operations.counting import Status, count_graph
from onnx_aiwq.vocabulary import DType
from runtime_release import skip_if_old

MS, BLOCKED, LAST, ML = "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.onnx.ml"
VERSIONS = {MS: 1, BLOCKED: 1, LAST: 1, ML: 3}
ONE, ZERO = np.float32(1), np.uint8(0)


def real(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).random(shape, np.float32)


def small(*shape: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)


def ints(*values: int) -> NDArray[Any]:
    return np.array(values, np.int64)


def _held(array: NDArray[Any], name: str) -> onnx.TensorProto:
    """An initializer; integers in their typed field, where onnxruntime 1.23 looks for the axis of ExpandDims alone."""
    if array.dtype == np.int32:
        return helper.make_tensor(name, onnx.TensorProto.INT32, array.shape, array.reshape(-1).tolist())
    return numpy_helper.from_array(array, name)


@dataclass(frozen=True)
class Call:
    """A model of one node: `known` are the positions of inputs that the file holds; the others are fed."""

    op_type: str
    inputs: Sequence[Any]
    outputs: int = 1
    domain: str = MS
    known: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18

    def __str__(self) -> str:
        return "-".join([self.op_type, *(f"{name}={value}" for name, value in list(self.attributes.items())[:3])])[:60]

    def names(self) -> list[str]:
        return ["" if value is None else f"x{index}" for index, value in enumerate(self.inputs)]

    def arrays(self, *, known: bool) -> dict[str, NDArray[Any]]:
        pairs = zip(self.names(), self.inputs, strict=True)
        return {n: np.asarray(v) for i, (n, v) in enumerate(pairs) if n and (i in self.known) is known}

    def model(self) -> onnx.ModelProto:
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.op_type, self.names(), outputs, domain=self.domain, **self.attributes)
        inputs = [
            helper.make_tensor_value_info(name, kind_of(array)[0].onnx_number, array.shape)
            for name, array in self.arrays(known=False).items()
        ]
        held = [_held(array, name) for name, array in self.arrays(known=True).items()]
        graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], held)
        opsets = {"": self.opset, **({self.domain: VERSIONS[self.domain]} if self.domain else {})}
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def call(
    op_type: str,
    *inputs: Any,
    outputs: int = 1,
    domain: str = MS,
    known: tuple[int, ...] = (),
    opset: int = 18,
    **attributes: Any,
) -> Call:
    return Call(op_type, inputs, outputs, domain, known, attributes, opset)


IMAGE, KERNELS = real(1, 4, 9, 7), real(6, 4, 3, 3)
LSTM = (*(None,) * 5, real(1), small(1), real(1), small(1))
MEMORY = real(2, 6, 4)  # batch, steps, depth
CONTRIB = [
    call("AttnLSTM", real(5, 2, 3), real(1, 16, 3 + 4), real(1, 16, 4), real(1, 32), *(None,) * 4, real(1, 4, 5),
         real(1, 4, 5), real(1, 5), MEMORY, outputs=3, hidden_size=4),
    call("AttnLSTM", real(5, 2, 3), real(2, 16, 3 + 7), real(2, 16, 4), None, *(None,) * 4, real(2, 4, 5),
         real(2, 4, 5), real(2, 5), MEMORY, None, real(2, 8, 7), outputs=3, hidden_size=4, direction="bidirectional"),
    call("Affine", real(2, 3), domain="", opset=9, alpha=2.0, beta=1.0),
    call("Crop", IMAGE, domain="", opset=9, border=[1, 2, 3, 0]),
    call("Crop", IMAGE, domain="", opset=9, border=[1, 2, 0, 0], scale=[4, 3]),
    call("DynamicSlice", real(4, 9), ints(1, 2), ints(3, -1), ints(0, 1), domain="", opset=9, known=(1, 2, 3)),
    call("ImageScaler", IMAGE, domain="", opset=9, scale=2.0, bias=[1.0, 2.0, 3.0, 4.0]),
    call("ParametricSoftplus", real(2, 3), domain="", opset=9, alpha=2.0, beta=1.0),
    call("Scale", real(2, 3), domain="", opset=9, scale=2.0),
    call("ScaledTanh", real(2, 3), domain="", opset=9, alpha=2.0, beta=1.0),
    call("SampleOp", real(2, 3)),
    call("FusedConv", IMAGE, KERNELS, real(6), activation="Relu", strides=[2, 1], pads=[1, 1, 0, 1]),
    call("FusedConv", IMAGE, KERNELS, activation="Relu", auto_pad="SAME_UPPER", strides=[2, 2]),
    call("FusedGemm", real(3, 4), real(4, 5), real(5), activation="Relu"),
    call("FusedGemm", real(4, 3), real(5, 4), activation="Relu", transA=1, transB=1),
    call("Inverse", real(2, 3, 3)),
    call("CDist", real(4, 3), real(5, 3), metric="euclidean"),
    call("ConvTransposeWithDynamicPads", IMAGE, real(4, 3, 3, 3), ints(1, 1, 1, 0), known=(2,), strides=[2, 2]),
    call("CropAndResize", real(2, 3, 8, 8), real(5, 4), np.zeros(5, np.int32), np.array([4, 6], np.int32), known=(3,)),
    call("QuantizeLinear", real(2, 3), ONE, ZERO),
    call("QuantizeLinear", real(2, 3), ONE, np.uint16(0)),
    call("DequantizeLinear", small(2, 3), ONE, ZERO),
    call("DynamicQuantizeLSTM", real(5, 2, 3), small(1, 3, 16), small(1, 4, 16), *LSTM, outputs=3,
         known=(1, 2, 8, 9, 10, 11), hidden_size=4),
    call("DynamicQuantizeMatMul", real(2, 3, 4), small(4, 5), ONE, ZERO),
    call("ExpandDims", real(2, 3), np.int32(1), known=(1,)),
    call("ExpandDims", real(2, 3), np.int32(-1), known=(1,)),
    call("GatherBlockQuantized", small(8, 16), ints(1, 2, 3), real(8, 1), known=(0, 2), block_size=32, bits=4,
         gather_axis=0, quantize_axis=1),
    call("GatherBlockQuantized", small(8, 32), ints(1, 2, 3), real(8, 1), known=(0, 2), block_size=32, bits=8,
         gather_axis=0, quantize_axis=1),
    call("GatherND", real(2, 3), np.array([[0], [1]], np.int64)),
    call("GridSample", real(1, 2, 4, 4), real(1, 3, 5, 2)),
    call("MatMulBnb4", real(2, 3, 32), small(8 * 32 // 2), real(8 * 32 // 16), known=(1, 2), K=32, N=8, block_size=16,
         quant_type=1),
    call("MatMulInteger16", np.ones((2, 3), np.int16), np.ones((3, 4), np.int16)),
    call("MatMulIntegerToFloat", small(2, 3, 4), small(4, 5), ONE, ONE),
    call("MaxpoolWithMask", IMAGE, np.ones(IMAGE.shape, np.int32), kernel_shape=[2, 2], strides=[2, 2]),
    call("MurmurHash3", np.ones((2, 3), np.int32)),
    call("MurmurHash3", np.ones((2, 3), np.int32), positive=0),
    call("NGramRepeatBlock", np.ones((2, 5), np.int64), real(2, 10), ngram_size=3),
    call("NhwcMaxPool", small(1, 9, 7, 4), kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 1]),
    call("Pad", real(2, 3), ints(1, 0, 0, 2), known=(1,)),
    call("Range", np.float32(0), np.float32(5), np.float32(2), known=(0, 1, 2)),
    call("Range", np.int64(0), np.int64(5), known=(0, 1)),
    call("Trilu", real(2, 3, 3)),
    call("UnfoldTensor", real(2, 10), dim=1, size=3, step=2),
    call("WordConvEmbedding", np.ones((5, 8), np.int32), real(6, 1, 3, 4), real(6), real(100, 4), embedding_size=6,
         conv_window_size=3, char_embedding_size=4),
    call("QGemm", small(3, 4), ONE, ZERO, small(4, 5), ONE, ZERO),
    call("QGemm", small(3, 4), ONE, ZERO, small(5, 4), ONE, ZERO, None, ONE, ZERO, transB=1),
    call("QLinearGlobalAveragePool", small(1, 4, 8, 8), ONE, ZERO, ONE, ZERO),
    call("QLinearGlobalAveragePool", small(1, 8, 8, 4), ONE, ZERO, ONE, ZERO, channels_last=1),
    call("QLinearAveragePool", small(1, 9, 7, 4), ONE, ZERO, ONE, ZERO, channels_last=1, kernel_shape=[2, 2],
         strides=[2, 2]),
    call("QLinearAveragePool", small(1, 4, 9, 7), ONE, ZERO, ONE, ZERO, kernel_shape=[3, 2], strides=[2, 2],
         ceil_mode=1),
    call("Conv", real(1, 3, 9, 7), real(16, 3, 3, 3), domain=BLOCKED, known=(1,), strides=[2, 2], pads=[1, 1, 1, 1]),
    call("ReorderOutput", real(1, 16, 4, 5), domain=BLOCKED, channels=13),
    call("ReorderInput", real(1, 16, 4, 5), domain=BLOCKED),
    call("MaxPool", real(1, 16, 4, 5), domain=BLOCKED, kernel_shape=[2, 2]),
    call("AveragePool", real(1, 16, 4, 5), domain=BLOCKED, kernel_shape=[2, 2], strides=[2, 2]),
    call("GlobalAveragePool", real(1, 16, 4, 5), domain=BLOCKED),
    call("GlobalMaxPool", real(1, 16, 4, 5), domain=BLOCKED),
    call("Upsample", real(1, 16, 4, 5), domain=BLOCKED, scales=[1, 1, 2, 3]),
]  # fmt: skip

TREE = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip
TARGETS = {"target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 1], "target_weights": [0.1, 0.2]}
CLASSES = {"class_treeids": [0, 0], "class_nodeids": [1, 2], "class_ids": [0, 1], "class_weights": [0.1, 0.2]}
KERNEL = {"kernel_type": "RBF", "kernel_params": [0.1, 0.0, 3.0]}
LINEAR = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]}
SAMPLES = real(5, 3)


def ml(op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Call:
    return call(op_type, *inputs, outputs=outputs, domain=ML, **attributes)


def svm(classes: int, **attributes: Any) -> Call:
    pairs = classes * (classes - 1) // 2
    return ml("SVMClassifier", SAMPLES, outputs=2, coefficients=[1.0] * classes * (classes - 1),
              vectors_per_class=[1] * classes, support_vectors=[0.1] * 3 * classes, rho=[0.0] * pairs,
              classlabels_ints=list(range(classes)), **KERNEL, **attributes)  # fmt: skip


MACHINE_LEARNING = [
    ml("LinearRegressor", SAMPLES, coefficients=[0.1] * 6, intercepts=[0.0] * 2, targets=2),
    ml("LinearRegressor", real(3), coefficients=[0.1] * 3, intercepts=[0.0]),
    ml("LinearClassifier", SAMPLES, outputs=2, coefficients=[0.1] * 9, intercepts=[0.0] * 3,
       classlabels_ints=[1, 2, 3]),
    ml("LinearClassifier", SAMPLES, outputs=2, coefficients=[0.1] * 3, intercepts=[0.0],
       classlabels_strings=["a", "b"]),
    ml("Normalizer", SAMPLES, norm="L2"),
    ml("Normalizer", SAMPLES.astype(np.int64), norm="L1"),
    ml("Scaler", SAMPLES.astype(np.int64), offset=[0.0] * 3, scale=[1.0] * 3),
    ml("Scaler", real(3), offset=[0.0] * 3, scale=[1.0] * 3),
    ml("Imputer", SAMPLES, imputed_value_floats=[0.0] * 3),
    ml("Imputer", SAMPLES.astype(np.int64), imputed_value_int64s=[0] * 3),
    ml("FeatureVectorizer", SAMPLES, SAMPLES[:, :2], inputdimensions=[3, 2]),
    ml("FeatureVectorizer", SAMPLES[:, 0], SAMPLES[:, 1], inputdimensions=[1, 1]),
    ml("OneHotEncoder", SAMPLES.astype(np.int64), cats_int64s=[0, 1]),
    ml("CategoryMapper", SAMPLES.astype(np.int64), cats_strings=["a", "b"], cats_int64s=[0, 1]),
    ml("TreeEnsembleRegressor", SAMPLES, n_targets=2, **TREE, **TARGETS),
    ml("TreeEnsembleClassifier", SAMPLES, outputs=2, classlabels_int64s=[0, 1, 2], **TREE, **CLASSES),
    ml("SVMRegressor", SAMPLES, coefficients=[1.0] * 2, n_supports=2, rho=[0.0], support_vectors=[0.1] * 6, **KERNEL),
    ml("SVMRegressor", real(3), coefficients=[1.0] * 3, n_supports=0, rho=[0.0], **LINEAR),
    svm(2),
    svm(3),
    svm(4),
    svm(4, prob_a=[0.1] * 6, prob_b=[0.1] * 6),
    ml("SVMClassifier", SAMPLES, outputs=2, coefficients=[1.0] * 12, rho=[0.0] * 4, classlabels_ints=[0, 1, 2, 3],
       **LINEAR),
]  # fmt: skip

STANDARD = [
    # In single precision 10 * 0.7 is 7; onnx's own inference says 6.
    call("Resize", real(10), None, np.array([0.7], np.float32), domain="", known=(2,), mode="nearest"),
    call("Resize", real(3, 7), None, None, ints(5, 5), domain="", known=(3,), keep_aspect_ratio_policy="not_larger"),
    call("Resize", real(3, 7), None, None, ints(5, 5), domain="", known=(3,), keep_aspect_ratio_policy="not_smaller"),
    call("Resize", real(2, 3, 7), None, None, ints(9), domain="", known=(3,), axes=[-1]),
    call("Slice", real(9, 9), ints(0), ints(-(2**63)), domain="", known=(1, 2)),
    call("Slice", real(9, 9), ints(2**31 - 1), ints(2**31 - 1), ints(0), ints(-1), domain="", known=(1, 2, 3, 4)),
    call("Slice", real(9, 9), ints(-1, 20), ints(-20, -8), ints(1, 0), ints(-2, -3), domain="", known=(1, 2, 3, 4)),
    call("OneHot", ints(1, 2), np.float32(4), np.array([0, 1], np.float32), domain="", known=(1,)),
    call("Range", np.float32(1), np.float32(2), np.float32(0.3), domain="", known=(0, 1, 2)),
    call("Range", np.int64(9), np.int64(1), np.int64(-3), domain="", known=(0, 1, 2)),
    call("NonMaxSuppression", real(1, 6, 4), real(1, 2, 6), domain=""),
    call("NonZero", np.array([[1, 0], [1, 1]], np.float32), domain="", known=(0,)),
    call("Unique", np.array([[1, 0], [1, 0]], np.float32), domain="", known=(0,), axis=0, outputs=4),
    call("Unique", np.array([3, 1, 3], np.int64), domain="", known=(0,), outputs=4),
    call("Compress", real(3, 2), np.array([True, False, True]), domain="", known=(1,), axis=0),
    call("Compress", real(3, 2), np.array([True, False, True]), domain="", known=(1,)),
    call("MaxUnpool", real(1, 1, 2, 2), np.arange(4).reshape(1, 1, 2, 2), domain="", kernel_shape=[3, 2],
         strides=[2, 2], pads=[0, 0, 1, 0]),
    call("Upsample", real(1, 1, 10), np.array([1, 1, 1.7], np.float32), domain="", known=(1,), opset=9),
]  # fmt: skip


@pytest.mark.parametrize("case", [*CONTRIB, *MACHINE_LEARNING, *STANDARD], ids=str)
def test_types_and_shapes_are_those_of_a_run(case: Call) -> None:
    model = case.model()
    if case.op_type == "Resize" and min(case.attributes.get("axes", [0])) < 0:
        skip_if_old("ends the process where axes of Resize are negative")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = load(model)
    found = [(tensor.dtype, tensor.shape) for tensor in graph.outputs]
    assert found == [kind_of(value) for value in session.run(None, case.arrays(known=False))]
    assert dict(graph.assumed_bindings) == {}


F32, I32, BOOL, INT8, FLOAT16, UINT32 = DType.FLOAT, DType.INT32, DType.BOOL, DType.INT8, DType.FLOAT16, DType.UINT32
HALF = real(1, 2, 5, 4).astype(np.float16)
DOCUMENTED = [
    (call("BiasSoftmax", real(2, 3, 4), real(2, 3, 4), axis=-1, is_inner_broadcast=0), [(F32, (2, 3, 4))]),
    (call("BiasDropout", real(2, 3), real(3), outputs=2), [(F32, (2, 3)), (BOOL, (2, 3))]),
    # One bit per element, in whole words of 32.
    (call("BitmaskDropout", real(5, 7), outputs=2), [(F32, (5, 7)), (UINT32, (2,))]),
    (call("BitmaskBiasDropout", real(5, 7), real(7), outputs=2), [(F32, (5, 7)), (UINT32, (2,))]),
    (call("ComplexMul", real(4, 2), real(1, 2)), [(F32, (4, 2))]),
    (call("ComplexMulConj", real(4, 2), real(4, 2)), [(F32, (4, 2))]),
    (call("FusedMatMulActivation", real(3, 4), real(3, 5), activation="Relu", transA=1), [(F32, (4, 5))]),
    (call("QuantizeWithOrder", real(2, 3), ONE, order_input=1, order_output=1), [(INT8, (2, 3))]),
    (call("DequantizeWithOrder", small(2, 3), ONE, order_input=1, order_output=1, to=10), [(FLOAT16, (2, 3))]),
    (call("GemmaRotaryEmbedding", real(1, 5, 4), *[HALF] * 4, outputs=2), [(FLOAT16, HALF.shape)] * 2),
    (call("IsAllFinite", real(2, 3), real(4)), [(BOOL, ())]),
    (call("Rfft", real(2, 3, 9), signal_ndim=1, onesided=1, normalized=0), [(F32, (2, 3, 5, 2))]),
    (call("Irfft", real(2, 3, 5, 2), signal_ndim=1, onesided=1, normalized=0), [(F32, (2, 3, 8))]),
    (call("MulInteger", small(2, 3), ZERO, small(4, 1, 3), ZERO), [(I32, (4, 2, 3))]),
    (call("MemcpyFromHost", real(2, 3), domain=""), [(F32, (2, 3))]),
    (call("MemcpyToHost", small(2, 3), domain=""), [(DType.UINT8, (2, 3))]),
    (call("NhwcConv", real(1, 8, 8, 4), KERNELS, pads=[1, 1, 1, 1]), [(F32, (1, 8, 8, 6))]),
    (call("NhwcFusedConv", real(1, 8, 8, 4), KERNELS, strides=[2, 2]), [(F32, (1, 3, 3, 6))]),
    (call("ReduceSumInteger", small(2, 3, 4), axes=[1], keepdims=1), [(I32, (2, 1, 4))]),
    (call("QLinearReduceMean", small(2, 3, 4), ONE, ZERO, ONE, ZERO, axes=[-1], keepdims=0), [(DType.UINT8, (2, 3))]),
    (call("RelativePositionBias", real(32, 4), ints(6), ints(7), known=(1, 2)), [(F32, (1, 4, 6, 7))]),
    (call("TorchEmbedding", real(10, 4), ints(1, 2, 3)), [(F32, (3, 4))]),
    (call("MatMulFpQ4", real(2, 32), small(64), ints(32, 8), known=(1, 2)), [(F32, (2, 8))]),
    (call("MatMulNBitsMlp", real(2, 32), outputs=1, K=32, N=8), [(F32, (2, 8))]),
    (call("MatMulNBitsQkv", real(2, 32), outputs=4, K=32, Nq=8, Nkv=4),
     [(F32, (2, 8)), (F32, (2, 4)), (F32, (2, 4)), (F32, (2, 32))]),
    (call("DecoderMaskedSelfAttention", real(2, 1, 8), real(8, 24), real(24), None, real(2, 2, 2, 5, 4), outputs=2,
          num_heads=2), [(F32, (2, 1, 8)), (F32, (2, 2, 2, 5, 4))]),
    (call("Conv", real(1, 8, 8, 4), KERNELS, domain=LAST, pads=[1, 1, 1, 1]), [(F32, (1, 8, 8, 6))]),
    (call("MaxPool", real(1, 8, 8, 4), domain=LAST, kernel_shape=[2, 2], strides=[2, 2]), [(F32, (1, 4, 4, 4))]),
    (call("AveragePool", real(1, 8, 8, 4), domain=LAST, kernel_shape=[3, 3]), [(F32, (1, 6, 6, 4))]),
    (call("LpPool", real(1, 8, 8, 4), domain=LAST, kernel_shape=[3, 3]), [(F32, (1, 6, 6, 4))]),
    (call("DepthToSpace", real(1, 2, 3, 8), domain=LAST, blocksize=2), [(F32, (1, 4, 6, 2))]),
    (call("SpaceToDepth", real(1, 4, 6, 2), domain=LAST, blocksize=2), [(F32, (1, 2, 3, 8))]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "expected"), DOCUMENTED, ids=[str(case) for case, _ in DOCUMENTED])
def test_types_and_shapes_are_the_documented_ones(case: Call, expected: list[tuple[DType, tuple[int, ...]]]) -> None:
    graph = load(case.model())
    assert [(tensor.dtype, tensor.shape) for tensor in graph.outputs] == expected
    assert dict(graph.assumed_bindings) == {}


WORDS = np.array(["a b", "c"], object)
DECIDED = [  # the operator, its bindings, and what is assumed without them
    (call("Unique", np.array([3, 1, 3], np.float32), outputs=3), {"y0_dim0": 2}, {"y0_dim0": 3}),
    (call("DynamicTimeWarping", real(4, 5)), {"y0_dim1": 5}, {"y0_dim1": 8}),
    (call("Tokenizer", WORDS, mark=0, pad_value="#", separators=[" "], mincharnum=1), {"y0_dim1": 2}, {"y0_dim1": 1}),
    (call("BifurcationDetector", ints(1, 2, 3, 4), ints(1, 2), np.int64(0), outputs=2), {"y0_dim0": 2}, {"y0_dim0": 7}),
    (call("TopK", real(4, 9), ints(2), outputs=2, domain=""), {"y0_dim1": 2}, {"y0_dim1": 9}),
    (call("Slice", real(4, 9), ints(2), ints(5), ints(1), domain="", known=(3,)), {"y0_dim1": 3}, {"y0_dim1": 9}),
    (call("NonMaxSuppression", real(1, 6, 4), real(1, 2, 6), np.int64(3), domain="", known=(2,)), {"y0_dim0": 4},
     {"y0_dim0": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "sizes", "assumed"), DECIDED, ids=[str(case) for case, *_ in DECIDED])
def test_what_data_decides(case: Call, sizes: dict[str, int], assumed: dict[str, int]) -> None:
    model = case.model()
    free = load(model)
    assert dict(free.assumed_bindings) == assumed
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, case.arrays(known=False))
    bound = load(model, bind=sizes)
    assert [(tensor.dtype, tensor.shape) for tensor in bound.outputs] == [kind_of(value) for value in results]
    assert dict(bound.assumed_bindings) == {} and bound.warnings == ()


def test_channels_are_filled_up_to_blocks_of_8_or_16() -> None:
    """Which of the two depends on the machine that wrote the file: 24 channels are 24 or 32."""
    graph = load(call("ReorderInput", real(1, 24, 4, 5), domain=BLOCKED).model())
    assert dict(graph.assumed_bindings) == {"y0_dim1": 32}
    assert load(call("ReorderInput", real(1, 3, 4, 5), domain=BLOCKED).model(), bind={"y0_dim1": 8}).warnings == ()


def test_a_quantised_cache_is_counted_and_has_the_shapes_of_a_run() -> None:
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    schema = next(schema for schema in schemas if schema.name == "GroupQueryAttention")
    if "k_quant_type" not in schema.attributes:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} has no quantised cache")
    cache, scale = np.ones((2, 2, 7, 16), np.int8), np.ones(1, np.float32)
    lengths = [np.full(2, 7, np.int32), np.int32(8)]
    case = call(
        "GroupQueryAttention", real(2, 1, 64), real(2, 1, 32), real(2, 1, 32), cache, cache, *lengths, *[None] * 5,
        scale, scale, outputs=3, num_heads=4, kv_num_heads=2, k_quant_type="PER_TENSOR", v_quant_type="PER_TENSOR",
        kv_cache_bit_width=8,
    )  # fmt: skip
    model = case.model()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    graph = load(model)
    found = [(tensor.dtype, tensor.shape) for tensor in graph.outputs]
    assert found == [kind_of(value) for value in session.run(None, case.arrays(known=False))]
    assert [cost.status for cost in count_graph(graph)] == [Status.COUNTED]
