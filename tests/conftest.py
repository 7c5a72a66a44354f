"""The order of tests: files that hold slow ones begin first, so that no worker is left alone with one at the end."""

from __future__ import annotations

import os
from itertools import groupby

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the share of each worker begin with its part of the files with slow tests; within a file the order stays.

    `--dist worksteal` first gives every worker one stretch of the items, each of about the same length.
    """
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    slow = [file for file in files if file[0].path in with_slow]
    quick = [item for item in items if item.path not in with_slow]
    workers, left = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), len(items)
    items.clear()
    for worker in range(workers):
        share = [item for file in slow[worker::workers] for item in file]
        room = max(0, left // (workers - worker) - len(share))
        share += quick[:room]
        del quick[:room]
        items += share
        left -= len(share)
    items += quick
