"""Rules of attention over selected keys, against heads of self-tallying numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from heads import F32, I32, MS, attend, check, counted, head_norm, rotate, tensor
from onnx_aiwq.errors import ShapeError
from onnx_aiwq.vocabulary import Counts
from oracle import Number, numbers

BY_HAND = Counts.of(F32, add=38, sub=6, mul=54, div=6, root=6, compare=4, macs=48)
LOCAL = {"attention_mode": "local_plus_selected", "selected_kv_source": "auxiliary"}


def tokens_of(tally: Counter[str], tokens: int, keys: int, extras: bool, softcap: float = 0.0) -> int:
    """4 heads of 4 elements over 2 of keys, with norms of Q alone, rotation and a sink."""
    macs = 0
    for _ in np.ndindex(tokens, 4):
        q, k, v = (numbers((length, 4), tally) for length in (1, keys, keys))
        macs += attend(q, k, v, 0.5, [], softcap, Number(0.1, tally) if extras else None)
        if extras:
            head_norm(numbers((1, 4), tally))
            rotate(numbers((1, 4), tally))
    for _ in np.ndindex(tokens, 2 if extras else 0):
        rotate(numbers((1, 4), tally))
    return macs


def dynamic(packed: bool, extras: bool, total: int | None, past: int) -> list[Any]:
    batch, tokens = 2, 3
    new: list[Any] = [(batch, tokens, 16), (batch, tokens, 8), (batch, tokens, 8)]
    inputs = [(batch, tokens, 32), None, None] if packed else new
    inputs += [(batch, 2, past, 4)] * 2 if past else [None] * 2
    inputs += [None, None, tensor((6, 5), I32), tensor((6,), I32), tensor((2,), I32), tensor((1,), I32, total)]
    return inputs + ([(9, 2), (9, 2), None, (4,), None, (4,)] if extras else [])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize(
    ("attributes", "total", "past", "keys"),
    [
        ({}, None, 7, 5),
        ({**LOCAL, "local_window_size": 4}, None, 7, 5 + 4),
        ({**LOCAL, "local_window_size": 4}, 2, 7, 5 + 2),
        ({**LOCAL, "local_window_size": -1}, None, 7, 5 + 7),
        ({**LOCAL, "local_window_size": 9}, None, 0, 5 + 3),
    ],
)
def test_dynamic_sparse_attention_equals_its_tokens(
    packed: bool, extras: bool, attributes: dict[str, Any], total: int | None, past: int, keys: int
) -> None:
    tally: Counter[str] = Counter()
    macs = tokens_of(tally, 6, keys, extras)
    given = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": int(extras), **attributes}
    check(counted("DynamicSparseAttention", dynamic(packed, extras, total, past), MS, **given), tally, macs)


def test_dynamic_sparse_attention_by_hand() -> None:
    inputs = [(1, 1, 8), (1, 1, 4), (1, 1, 4), *[None] * 4, tensor((1, 3), I32), tensor((1,), I32)]
    assert counted("DynamicSparseAttention", inputs, MS, num_heads=2, kv_num_heads=1) == BY_HAND
    with pytest.raises(ShapeError, match="attention_mode 'all'"):
        counted("DynamicSparseAttention", inputs, MS, num_heads=2, kv_num_heads=1, attention_mode="all")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize(
    ("attributes", "metadata", "keys"),
    [
        ({}, None, 5),
        ({}, [3, 0, 4, 0, 0], 4),
        ({**LOCAL, "local_window_size": 4}, None, 5 + 4),
        ({**LOCAL, "local_window_size": -1}, None, 5 + 2 * 3),
        ({**LOCAL, "local_window_size": -1}, [3, 2, 0, 0, 0], 5 + 2),
        ({**LOCAL, "local_window_size": -1}, [3, 2, 4, 9, 5], 5),
    ],
)
def test_sparse_paged_attention_equals_its_tokens(
    packed: bool, extras: bool, attributes: dict[str, Any], metadata: list[int] | None, keys: int
) -> None:
    tally: Counter[str] = Counter()
    macs = tokens_of(tally, 6, keys, extras, 30.0 if extras else 0.0)
    inputs: list[Any] = [(6, 32), None, None] if packed else [(6, 16), (6, 8), (6, 8)]
    inputs += [(7, 3, 2, 4)] * 2 + [tensor((3,), I32), tensor((2,), I32), tensor((2, 2), I32), None]
    inputs += [tensor((6, 5), I32), tensor((6,), I32), None, None, None]
    inputs += [(9, 2), (9, 2), (4,), (4,), None, None, None] if extras else [None] * 7
    inputs += [tensor((5,), I32, metadata) if metadata else None]
    given = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": int(extras), "softcap": 30.0 * extras, **attributes}
    check(counted("SparsePagedAttention", inputs, MS, **given), tally, macs)


PAGED = [(1, 8), (1, 4), (1, 4), *[(1, 9, 1, 4)] * 2, *[None] * 2, tensor((1, 1), I32), None, tensor((1, 3), I32)]


def test_sparse_paged_attention_by_hand() -> None:
    assert counted("SparsePagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1) == BY_HAND


@pytest.mark.parametrize(
    ("attributes", "read"),
    [({}, 3), ({**LOCAL, "local_window_size": 2}, 2), ({**LOCAL, "selected_kv_source": "main"}, 9)],
    ids=["selected", "local", "more than the table holds"],
)
def test_a_quantised_main_cache_restores_the_keys_that_are_read(attributes: dict[str, Any], read: int) -> None:
    """Of one token: 4 new elements, and 4 of each key of the main cache; the selected auxiliary ones are floats."""
    plain = counted("SparsePagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1, **attributes)
    given = {**attributes, "k_quant_type": "PER_TENSOR"}
    counts = counted("SparsePagedAttention", PAGED, MS, num_heads=2, kv_num_heads=1, **given)
    assert counts == plain + Counts.of(F32, div=4, mul=4 * read, compare=12)
