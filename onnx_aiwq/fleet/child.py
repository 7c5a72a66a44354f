"""The process that analyses models, one after the other, under limits: what it takes down is itself alone.

It is told settings once, then a batch of jobs at a time, as JSON over a socket. What it finds it writes to a file, line
by line, which its parent reads when it likes: at the end of a batch, or of this process. So nobody wakes for a single
model, and no answer is lost with the process that gave it. Its own standard output is not used, so that no library can
disturb the conversation.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, cast

from onnx_aiwq.bounds import one_message
from onnx_aiwq.errors import AiwqError, ModelError, ShapeError, UnreadableError, UnsupportedOperatorError
from onnx_aiwq.fleet.rows import CountRangeError, result_row
from onnx_aiwq.fleet.settings import Settings
from onnx_aiwq.process_limits import forbid_core_dumps, limit_memory

_REASONS: dict[type[Exception], str] = {
    UnreadableError: "unreadable",
    ModelError: "model",
    ShapeError: "shape",
    UnsupportedOperatorError: "operator",
    CountRangeError: "range",
    AiwqError: "option",
    MemoryError: "memory",
}
_ALARM_AFTER_S = 5  # past the time limit: ends a process that nobody is left to kill
Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve the socket, and write to the file, whose numbers are the arguments, until the other side closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person's Ctrl-C is for the driver, which closes the socket
    gc.set_threshold(50_000, 20, 100)
    connection, parent = Connection(int(sys.argv[1])), os.getppid()
    with contextlib.suppress(EOFError, ConnectionError), open(int(sys.argv[2]), "wb") as found:  # noqa: PTH123

        def tell(message: dict[str, Any]) -> None:
            found.write(json.dumps(message).encode() + b"\n")
            found.flush()

        start = json.loads(connection.recv_bytes())
        settings = Settings.from_message(start["settings"])
        _prepare(start["max_memory_bytes"])
        connection.send_bytes(b"ready")
        while True:
            batch = json.loads(connection.recv_bytes())
            until = time.monotonic() + batch["seconds"]
            for job in batch["jobs"]:
                signal.alarm(math.ceil(start["timeout_s"]) + _ALARM_AFTER_S)
                tell(_outcome(job, settings, tell))
                if time.monotonic() > until or os.getppid() != parent:
                    break
            signal.alarm(0)
            connection.send_bytes(b"done")


def _prepare(max_memory_bytes: int) -> None:
    """Import what every model needs, and let no allocation grow past the limit where the system can enforce it."""
    from onnx_aiwq.operations.registry import load_rules
    from onnx_aiwq.report import analyze  # noqa: F401 - imported now, so that no model's time includes it

    load_rules()
    gc.collect()
    gc.freeze()  # what is imported stays: no later collection has to walk it
    forbid_core_dumps()
    limit_memory(max_memory_bytes)  # where the system does not enforce it, the watch of the parent has to do


def _outcome(job: dict[str, Any], settings: Settings, tell: Tell) -> dict[str, Any]:
    try:
        return _analysed(job, settings, tell)
    except MemoryError:
        return {"state": "failed", "reason": "memory", "message": "ran out of the memory of --max-memory"}
    except AiwqError as error:
        reason = next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
        return {"state": "failed", "reason": reason, "message": str(error)}
    except Exception as error:
        # Whatever a library makes of a strange model is that model's row, and no other's.
        return {"state": "failed", "reason": "internal", "message": one_message(f"{type(error).__name__}: {error}")}


def _analysed(job: dict[str, Any], settings: Settings, tell: Tell) -> dict[str, Any]:
    from onnx_aiwq.loading import read_skeleton
    from onnx_aiwq.report import analyze
    from onnx_aiwq.runs import loaded

    skeleton = read_skeleton(job["location"])
    content = content_sha256(skeleton)
    tell({"state": "read", "content_sha256": content, "size_bytes": skeleton.size_bytes})
    wanted = {
        key: profile for key, profile in settings.hardware_keys.items() if content not in job["done"].get(key, ())
    }
    if not wanted or content in job["failed"]:
        return {"state": "unchanged"}
    graph = loaded(skeleton, settings.options)
    arguments = settings.options.arguments()
    rows = [
        result_row(analyze(graph, hardware=profile, strict=settings.strict, **arguments), key)
        for key, profile in wanted.items()
    ]
    return {"state": "analysed", "rows": rows}


def content_sha256(skeleton: Any) -> str:
    """Digest of all that the numbers rest on: the graph, and small external integers where they decide shapes."""
    from onnx_aiwq.loading import has_payload, tensor_values

    outside = [
        (tensor.name, values.tobytes())
        for tensor in skeleton.proto.graph.initializer
        if not has_payload(tensor) and (values := tensor_values(tensor, skeleton)) is not None
    ]
    if not outside:
        return cast("str", skeleton.graph_sha256)
    digest = hashlib.sha256(skeleton.graph_sha256.encode())
    for name, data in outside:
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
