"""A child process that analyses models: asked, waited for, and killed where it takes too long or too much.

A worker keeps its child for many models. One that crashes, hangs or grows costs that model its answer and the worker
the start of another child, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Pipe
from typing import Any

from onnx_aiwq.errors import AiwqError
from onnx_aiwq.fleet.settings import Limits
from onnx_aiwq.process_limits import child_environment, ending_of

_START_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.25  # at the memory of a child that has not answered yet
_LONGEST_LOOK_S = 1.0  # longer ones were spent stopped, or without a processor
_MODELS_PER_CHILD = 5000  # then a new one, whose memory nothing has piled up in
_END_TIMEOUT_S = 5.0
SUSPENDED = "suspended"


class _Clock:
    """Seconds of waiting; a time in which this process stood still (Ctrl-Z) is not the model's."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds
        self._seen = time.monotonic()

    def is_over(self) -> bool:
        """Take off what has passed since the last look."""
        now = time.monotonic()
        self.left_s = max(self.left_s - min(now - self._seen, _LONGEST_LOOK_S), 0.0)
        self._seen = now
        return self.left_s == 0.0


class Child:
    """One process and the conversation with it; not for several threads at once."""

    def __init__(self, settings: str, limits: Limits) -> None:
        """Start a process.

        Args:
            settings: `Settings.message()`.
            limits: per model.

        Raises:
            AiwqError: if the process does not start.
        """
        self._limits = limits
        self._answered = 0
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "onnx_aiwq.fleet.child", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("AIWQ_DEBUG") else subprocess.DEVNULL,
            env=child_environment(),
        )
        theirs.close()
        self._connection: Connection = ours
        self._send({"settings": settings, "timeout_s": limits.timeout_s, "max_memory_bytes": limits.max_memory_bytes})
        if self._receive(_Clock(_START_TIMEOUT_S)).get("state") != "ready":
            self.kill()
            raise AiwqError(
                "the process that analyses models does not start; raise --max-memory, or set AIWQ_DEBUG=1 to see why"
            )

    @property
    def usable(self) -> bool:
        """Whether it can take another model."""
        return self._process.poll() is None and self._answered < _MODELS_PER_CHILD

    def analyse(self, job: dict[str, Any]) -> dict[str, Any]:
        """The outcome of one job: `state` analysed, unchanged or failed, with what the child found out before.

        `state` is `SUSPENDED` where both processes stood still for so long that the child's own alarm went off: that
        says nothing of the model.

        A child that had to be killed, or died, is not usable afterwards.
        """
        clock = _Clock(self._limits.timeout_s)
        found: dict[str, Any] = {"content_sha256": None, "size_bytes": None}
        self._send(job)
        answer = self._receive(clock)
        if answer["state"] == "read":
            found.update(content_sha256=answer["content_sha256"], size_bytes=answer["size_bytes"])
            answer = self._receive(clock)
        self._answered += 1
        return {**found, **answer}

    def close(self) -> None:
        """Let the process end; kill it if it does not."""
        self._connection.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # it has died: the answer that does not come says so
            self._connection.send_bytes(json.dumps(message).encode())

    def _receive(self, clock: _Clock) -> dict[str, Any]:
        try:
            while not self._connection.poll(min(_LOOK_EVERY_S, clock.left_s)):
                if clock.is_over():
                    self.kill()
                    return _failed("timeout", f"no answer within {self._limits.timeout_s:g} s (--timeout); killed")
                if self._own_memory_bytes() > self._limits.max_memory_bytes:
                    self.kill()
                    return _failed("memory", "took more than --max-memory; killed")
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
            return answer
        except (EOFError, ConnectionError):
            cause = self._cause_of_death()
            if cause == "SIGALRM":
                return {"state": SUSPENDED}
            return _failed("crash", f"the process that analysed it died of {cause}")

    def _own_memory_bytes(self) -> int:
        import psutil

        try:
            memory = psutil.Process(self._process.pid).memory_info()
        except psutil.Error:
            return 0  # gone: the connection tells
        return int(memory.rss - getattr(memory, "shared", 0))

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closing its connection"
        return ending_of(code)


def _failed(reason: str, message: str) -> dict[str, Any]:
    return {"state": "failed", "reason": reason, "message": message}
