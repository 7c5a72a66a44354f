"""onnx-tool: load, reorder, infer shapes from a dict of arrays, profile; the steps of its `model_profile`.

Its total holds a figure for every operator, additions and activations too. What is compared is the part of the dense
products, which is what the word MAC means here and brings its figure closer to the truth.
"""

from __future__ import annotations

import onnx_tool
from inputs import answer, arguments, load_bound, ones

DENSE = {
    "Attention", "Conv", "ConvInteger", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger",
    "QLinearConv", "QLinearMatMul", "RNN",
}  # fmt: skip


def main() -> None:
    model = load_bound(*arguments()[:2])
    graph = onnx_tool.loadmodel(model, {"verbose": False}).graph
    graph.graph_reorder_nodes()
    graph.shape_infer(ones(model))
    graph.profile(exclude_ops=onnx_tool.NoMacsOps)
    answer(sum(round(node.macs[0]) for node in graph.nodemap.values() if node.op_type in DENSE), None)


if __name__ == "__main__":
    main()
