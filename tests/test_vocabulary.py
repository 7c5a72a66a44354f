"""The shared values: what two tensors compare."""

from __future__ import annotations

import numpy as np

from onnx_aiwq.vocabulary import DType, Tensor


def test_tensors_that_hold_arrays_compare_and_hash() -> None:
    """From Python 3.13 on, a dataclass compares field by field: an array among them would raise."""
    one, same = (Tensor("x", DType.INT64, (2,), np.array([1, 2])) for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert one != Tensor("y", DType.INT64, (2,), one.value)
    assert len({one, same}) == 1
