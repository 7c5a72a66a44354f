"""How far a fleet is, on stderr: models, failures, throughput and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_TERMINAL_EVERY_S, _LINE_EVERY_S = 0.5, 10.0


class FleetProgress:
    """Counts models, and says so from time to time: in place on a terminal, else as lines of a log."""

    def __init__(self, say: Callable[[str], None], *, terminal: bool) -> None:
        """Take what prints a line, and whether stderr is a terminal."""
        self.total = 0
        self.analysed = self.unchanged = self.failed = 0
        self._say = say
        self._terminal = terminal
        self._shown = time.monotonic()
        self._first: tuple[int, float] | None = (
            None  # models and time when the first came in: workers take time to start
        )
        self._open_line = False

    @property
    def done(self) -> int:
        """Models of which the outcome is known."""
        return self.analysed + self.unchanged + self.failed

    def begin(self, total: int) -> None:
        """Say how many models there are."""
        self.total = total

    def count(self, state: str) -> None:
        """Add a model: `analysed`, `unchanged` or `failed`."""
        setattr(self, state, getattr(self, state) + 1)
        if self._first is None and state != "unchanged":
            self._first = (1, time.monotonic())
        self.tell()

    def tell(self) -> None:
        """Show the state if that is due."""
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_EVERY_S if self._terminal else _LINE_EVERY_S):
            return
        self._shown = now
        if self._terminal:
            print(f"\r\x1b[2Kaiwq: {self.line()}", end="", file=sys.stderr, flush=True)
            self._open_line = True
        else:
            self._say(self.line())

    def end(self) -> None:
        """Leave the line that is written in place."""
        if self._open_line:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._open_line = False

    def line(self) -> str:
        """The state in one line."""
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        # What is skipped costs next to nothing, and would make the time left look short.
        worked, now = self.analysed + self.failed, time.monotonic()
        text = f"{self.done:,} of {self.total:,} models{share}, {self.failed:,} failed, {self.unchanged:,} unchanged"
        if self._first is None or worked <= self._first[0] or now <= self._first[1]:
            return text
        rate = (worked - self._first[0]) / (now - self._first[1])
        return f"{text}, {rate:.1f} models/s, {duration((self.total - self.done) / rate)} left"


def duration(seconds: float) -> str:
    """Whole seconds for people: ``1 h 02 min``, ``3 min 20 s``, ``7 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
