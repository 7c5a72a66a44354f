"""onnx_aiwq: what an ONNX model costs before it is deployed.

    import onnx_aiwq as aiwq

    graph = aiwq.load("model.onnx", bind={"batch": 8})   # a networkx DAG of operators: graph.dag
    counts = aiwq.count(graph)                            # exact basic operations by data type, and MACs
    report = aiwq.analyze("model.onnx", hardware="nvidia-l4", region="DEU")
    report.to_dict()                                      # the JSON report

Every function stands alone; `analyze` is their composition. Names are imported when they are first used, so that
`import onnx_aiwq` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_aiwq import errors as errors
    from onnx_aiwq.comparison import compare as compare
    from onnx_aiwq.gating import gate as gate
    from onnx_aiwq.graph import Graph as Graph
    from onnx_aiwq.graph import load as load
    from onnx_aiwq.hardware_profile import HardwareProfile as HardwareProfile
    from onnx_aiwq.operations.registry import rule as rule
    from onnx_aiwq.profiles import load_profile as load_profile
    from onnx_aiwq.report import Report as Report
    from onnx_aiwq.report import analyze as analyze
    from onnx_aiwq.report import count as count
    from onnx_aiwq.vocabulary import Counts as Counts

__version__ = "0.1.0"
_HOMES = {
    "Counts": "onnx_aiwq.vocabulary",
    "Graph": "onnx_aiwq.graph",
    "HardwareProfile": "onnx_aiwq.profiles",
    "Report": "onnx_aiwq.report",
    "analyze": "onnx_aiwq.report",
    "compare": "onnx_aiwq.comparison",
    "count": "onnx_aiwq.report",
    "gate": "onnx_aiwq.gating",
    "load": "onnx_aiwq.graph",
    "load_profile": "onnx_aiwq.profiles",
    "rule": "onnx_aiwq.operations.registry",
}
__all__ = [*sorted(_HOMES), "errors"]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("onnx_aiwq.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
