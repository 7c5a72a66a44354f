"""What older releases of onnxruntime do otherwise; 1.23 is the newest that has wheels for Python 3.10."""

from __future__ import annotations

import onnxruntime
import pytest

RELEASE = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
OLD = RELEASE <= (1, 23)
same_optimiser = pytest.mark.skipif(
    OLD, reason=f"onnxruntime {onnxruntime.__version__} fuses less than the optimiser that `lowering` follows"
)


def skip_if_old(why: str) -> None:
    """Skip the test where the release is old, with what it cannot do."""
    if OLD:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} {why}")
