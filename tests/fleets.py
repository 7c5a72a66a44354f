"""Models and rows that the tests of fleets share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import pyarrow.dataset
import pytest
from onnx import TensorProto, helper

from onnx_aiwq.fleet.settings import Limits, Settings
from onnx_aiwq.profiles import load_profile
from onnx_aiwq.runs import RunOptions

PROCESS_TIMEOUT_S = 180.0  # of a whole process on a loaded machine: one that hangs is a failed test, not a hung run

LIMITS = Limits(timeout_s=6.0, max_memory_bytes=600_000_000)
POISON = """
import os, signal, time
from onnx_aiwq import Counts, rule

@rule("Hang", domain="poison", family="activation")
def hang(op):
    "A rule that never ends."
    while True:
        time.sleep(1)

@rule("Crash", domain="poison", family="activation")
def crash(op):
    "A rule that takes its process down."
    os.kill(os.getpid(), signal.SIGSEGV)

@rule("Grow", domain="poison", family="activation")
def grow(op):
    "A rule that takes memory without end."
    held = []
    while True:
        held.append(bytearray(b"x") * 10_000_000)

@rule("Break", domain="poison", family="activation")
def broken(op):
    "A rule with a mistake."
    raise RuntimeError("a mistake")
"""


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


def custom(path: Path, op_type: str, domain: str) -> None:
    """A model of one operator of another domain."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node(op_type, ["x"], ["y"], domain=domain)], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)


def settings(*hardware: str, **options: Any) -> Settings:
    profiles = tuple(load_profile(name) for name in hardware or ("reference-cpu",))
    return Settings(RunOptions(**options).for_several(), profiles)


def poison(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Install the poisonous rules, in a folder, for the processes that are started from now on."""
    (folder / "poison_rules.py").write_text(POISON)
    package = folder / "poison-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[onnx_aiwq.rules]\npoison = poison_rules\n")
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
