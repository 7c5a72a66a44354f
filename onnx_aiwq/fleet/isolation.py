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
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any, BinaryIO, cast

from onnx_aiwq.errors import AiwqError
from onnx_aiwq.fleet.settings import Limits
from onnx_aiwq.process_limits import child_environment, ending_of

_START_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.25  # at the answers and the memory of a child that is at work
_LONGEST_LOOK_S = 1.0  # longer ones were spent stopped, or without a processor
_MODELS_PER_CHILD = 5000  # then a new one, whose memory nothing has piled up in
_END_TIMEOUT_S = 5.0


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


class _Answers:
    """What a child has written of a batch, read as it grows."""

    def __init__(self, file: BinaryIO) -> None:
        self.outcomes: list[dict[str, Any]] = []
        self._descriptor = descriptor = file.fileno()
        self._position = 0
        self._read: dict[str, Any] = {}
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)  # the child writes at the same place

    def grow(self) -> bool:
        """Take in what is new; whether a model has been answered."""
        known = len(self.outcomes)
        data = os.pread(self._descriptor, os.fstat(self._descriptor).st_size - self._position, self._position)
        whole = data[: data.rfind(b"\n") + 1]  # a killed process may have written half a line
        self._position += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            if message["state"] == "read":
                self._read = {name: message[name] for name in ("content_sha256", "size_bytes")}
            else:
                self.add(message)
        return len(self.outcomes) > known

    def add(self, answer: dict[str, Any]) -> None:
        """The answer to the model under way, with what the child found out of it before."""
        self.outcomes.append({"content_sha256": None, "size_bytes": None, **self._read, **answer})
        self._read = {}


class Child:
    """One process and the conversation with it; not for several threads at once, but for `stop`."""

    def __init__(self, settings: str, limits: Limits, wanted: Callable[[], bool] = lambda: True) -> None:
        """Start a process.

        Args:
            settings: `Settings.message()`.
            limits: per model.
            wanted: whether to go on waiting for its start.

        Raises:
            AiwqError: if the process does not start.
        """
        self._limits = limits
        self._answered = 0
        ours, theirs = Pipe()
        self._connection: Connection = ours
        self._answers = _memory_file()
        with theirs:
            passed = (theirs.fileno(), self._answers.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "onnx_aiwq.fleet.child", *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("AIWQ_DEBUG") else subprocess.DEVNULL,
                env=child_environment(),
            )
        self._send({"settings": settings, "timeout_s": limits.timeout_s, "max_memory_bytes": limits.max_memory_bytes})
        if not self._is_ready(wanted):
            self._process.kill()
            self.close()
            raise AiwqError(
                "the process that analyses models does not start; raise --max-memory, or set AIWQ_DEBUG=1 to see why"
            )

    def _is_ready(self, wanted: Callable[[], bool]) -> bool:
        clock = _Clock(_START_TIMEOUT_S)
        try:
            while not self._connection.poll(_LOOK_EVERY_S):
                if clock.is_over() or not wanted():
                    return False
            return self._connection.recv_bytes() == b"ready"
        except (EOFError, ConnectionError):
            return False

    @property
    def usable(self) -> bool:
        """Whether it can take another model."""
        return self._process.poll() is None and self._answered < _MODELS_PER_CHILD

    def analyse(self, jobs: Sequence[dict[str, Any]], seconds: float = 0.0) -> list[dict[str, Any]]:
        """The outcomes of the first of these jobs, in their order.

        They end with the last job; with the one begun when the seconds have passed; or with the one that ended the
        process, which is not usable afterwards. The list is empty where the child's own alarm ended it, because all
        processes stood still for so long: that says nothing of a model.

        Args:
            jobs: at least one; `location`, `done` and `failed` of each.
            seconds: after which no further one is begun.

        Returns:
            For each, `state` (analysed, unchanged or failed) and what the child found out.
        """
        answers = _Answers(self._answers)
        self._send({"jobs": list(jobs), "seconds": seconds})
        failure = self._watch(answers)
        # A model that was answered after the last look is not the one that the look was at.
        if not answers.grow() and failure is not None and len(answers.outcomes) < len(jobs):
            answers.add(failure)
        self._answered += len(answers.outcomes)
        return answers.outcomes

    def _watch(self, answers: _Answers) -> dict[str, Any] | None:
        """Wait for the end of a batch; how a model under way failed, or None."""
        clock = _Clock(self._limits.timeout_s)
        try:
            while not self._connection.poll(min(_LOOK_EVERY_S, clock.left_s)):
                if answers.grow():
                    clock = _Clock(self._limits.timeout_s)
                elif clock.is_over():
                    self.kill()
                    return _failed("timeout", f"no answer within {self._limits.timeout_s:g} s (--timeout); killed")
                if self._own_memory_bytes() > self._limits.max_memory_bytes:
                    self.kill()
                    return _failed("memory", "took more than --max-memory; killed")
            self._connection.recv_bytes()
        except (EOFError, ConnectionError):
            cause = self._cause_of_death()
            answers.grow()
            return None if cause == "SIGALRM" else _failed("crash", f"the process that analysed it died of {cause}")
        return None

    def stop(self) -> None:
        """End the process, from another thread than the one that waits for its answers."""
        self._process.kill()

    def close(self) -> None:
        """Let the process end; kill it if it does not."""
        self._connection.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._answers.close()

    def kill(self) -> None:
        """End the process at once; its answers can still be read."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # it has died: the answer that does not come says so
            self._connection.send_bytes(json.dumps(message).encode())

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


def _memory_file() -> BinaryIO:
    """A file without a name, which nothing but memory holds where the system can."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("onnx_aiwq"), "rb+")
    return cast("BinaryIO", tempfile.TemporaryFile())


def _failed(reason: str, message: str) -> dict[str, Any]:
    return {"state": "failed", "reason": reason, "message": message}
