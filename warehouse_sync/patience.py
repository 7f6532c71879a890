"""How long a run may wait: `--time-limit`, signals, and every pause in between.

A signal ends the run at the next step. What could keep it from getting there is broken off: a pause, a question to the
API, an upload after a moment of grace, a query of the engine. None of these changes the state, so a run that is broken
off leaves no more behind than one that is killed.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Protocol

from warehouse_sync.errors import Interrupted, TimeLimit

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most, unless the API asks for more."""
MOST_ASKED = 900.0
"""Seconds of `Retry-After` that are waited at most; then the API is asked again."""
UPLOAD_GRACE = 2.0
"""Seconds that an upload still gets after a signal: a job whose answer is known need not be looked for."""

_dice = random.SystemRandom()


class Breakable(Protocol):
    """Something that another hand can stop: a DuckDB connection at work."""

    def interrupt(self) -> None:
        """Let the running query fail."""
        ...


class Patience:
    """The end of a run's time. `limit` counts from the start; a pause never outlasts it, nor a signal."""

    def __init__(self, limit: timedelta | None = None) -> None:
        self._deadline = None if limit is None else time.monotonic() + limit.total_seconds()
        self._limit = limit
        self._asked_to_stop = threading.Event()
        self._signal = ""
        self._request: float | None = None
        self._queries: list[Breakable] = []

    def check(self) -> None:
        """Raises TimeLimit or Interrupted when it is time to end; called between steps, never inside one."""
        self.stop_if_asked()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeLimit(
                f"the time limit of {self._limit} is over",
                hint="sealed batches and the running job are kept; the next run goes on with them.",
            )

    def stop_if_asked(self) -> None:
        """Raises Interrupted after a signal. Inside steps too: half an extraction is worth nothing, the time limit lets
        it finish."""
        if self._asked_to_stop.is_set():
            raise self._interrupted()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end; then `check`."""
        self.check()
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        self._asked_to_stop.wait(seconds)
        self.check()

    @contextmanager
    def request(self, grace: float = 0.0) -> Iterator[None]:
        """A request to the API, which a signal breaks off after `grace` seconds. Nothing in it may change the state."""
        self.stop_if_asked()
        self._request = grace
        try:
            yield
        finally:
            self._request = None

    @contextmanager
    def query(self, connection: Breakable) -> Iterator[None]:
        """A time in which the engine may be at work on that connection; a signal makes its query fail."""
        self._queries.append(connection)
        try:
            yield
        finally:
            self._queries.remove(connection)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run; a second one ends the process at once, as if it was killed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            signal.signal(number, self._break_off if number is signal.SIGALRM else self._ask)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for known, handler in before.items():
                signal.signal(known, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        self._asked_to_stop.set()
        for known in (signal.SIGTERM, signal.SIGINT):
            signal.signal(known, signal.SIG_DFL)
        for connection in self._queries:
            connection.interrupt()
        if self._request:
            signal.setitimer(signal.ITIMER_REAL, self._request)
        else:
            self._break_off(number, frame)

    def _break_off(self, *_: object) -> None:
        """End the request that is on its way, if there is one."""
        if self._request is not None:
            self._request = None
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped by {self._signal}", hint="everything is recorded; the next run picks up where this one ended."
        )


def growing_pause(first: float, attempt: int, asked: float | None = None) -> float:
    """Seconds before the next attempt: `first` doubled with every attempt (from 0), never the same twice.

    `asked` is the API's `Retry-After`: at least that long, within MOST_ASKED.
    """
    most: float = min(first * 2 ** min(attempt, 20), LONGEST_PAUSE)
    pause = _dice.uniform(most / 2, most)
    return max(pause, min(asked or 0.0, MOST_ASKED) * _dice.uniform(1.0, 1.1))


__all__ = ["Patience", "growing_pause"]
