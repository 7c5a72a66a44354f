"""Models and rows that the tests of fleets share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pyarrow.dataset
from onnx import TensorProto, helper

PROCESS_TIMEOUT_S = 180.0  # of a whole process on a loaded machine: one that hangs is a failed test, not a hung run


def matmul(path: Path, rows: int, inner: int, columns: int, name: str = "") -> None:
    """A model of rows * inner * columns MACs."""
    shapes = {"a": [rows, inner], "b": [inner, columns], "y": [rows, columns]}
    a, b, y = (helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"], name=name)], "g", [a, b], [y])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def rows(folder: Path, dataset: str = "results") -> list[dict[str, Any]]:
    """Rows of a dataset, sorted; read without the package."""
    found = pyarrow.dataset.dataset(folder / dataset, format="parquet", partitioning="hive").to_table().to_pylist()
    return sorted(found, key=lambda row: repr(sorted(row.items())))
