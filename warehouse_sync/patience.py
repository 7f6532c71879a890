"""How long a run may wait: `--time-limit`, signals, and every pause in between."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

from warehouse_sync.errors import Interrupted, TimeLimit


class Patience:
    """The end of a run's time. `limit` counts from the start; a pause never outlasts it, nor a signal."""

    def __init__(self, limit: timedelta | None = None) -> None:
        self._deadline = None if limit is None else time.monotonic() + limit.total_seconds()
        self._limit = limit
        self._asked_to_stop = threading.Event()
        self._signal = ""

    def check(self) -> None:
        """Raises TimeLimit or Interrupted when it is time to end; called between steps, never inside one."""
        if self._asked_to_stop.is_set():
            raise Interrupted(
                f"stopped by {self._signal}", hint="everything is recorded; the next run picks up where this one ended."
            )
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeLimit(
                f"the time limit of {self._limit} is over",
                hint="sealed batches and the running job are kept; the next run goes on with them.",
            )

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end; then `check`."""
        self.check()
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        self._asked_to_stop.wait(seconds)
        self.check()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run at the next step; a second one ends the process at once, as if there was none."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def ask(number: int, _: FrameType | None) -> None:
            self._signal = signal.Signals(number).name
            self._asked_to_stop.set()
            for known, handler in before.items():
                signal.signal(known, signal.SIG_DFL if known is signal.SIGTERM else handler)

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
