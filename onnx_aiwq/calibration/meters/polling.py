"""A thread that reads a meter at intervals while a window is open."""

from __future__ import annotations

import threading
from collections.abc import Callable

from onnx_aiwq.errors import MeterError


class Poller:
    """Calls `read` every so many seconds from `begin` to `end`; what it raises is raised by `end`.

    Args:
        name: of the thread.
        read: reads the meter once; may raise `MeterError`, which ends the thread.
        every_s: seconds between two readings.
    """

    def __init__(self, name: str, read: Callable[[], None], every_s: float) -> None:
        self._name = name
        self._read = read
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: MeterError | None = None

    def begin(self) -> None:
        """Start to read."""
        self._failure = None
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop to read.

        Raises:
            MeterError: if a reading failed since `begin`.
        """
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread, whatever it met; may be called more than once."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self._read()
            except MeterError as error:
                self._failure = error
                return
