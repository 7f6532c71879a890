"""How long a run may wait: `--time-limit`, signals, and every pause in between.

A signal ends the run at the next step. What could keep it from getting there is broken off: a pause, a question to the
API, an upload after a moment of grace, a query of the warehouse or the engine. None of these changes the state, so a
run that is broken off leaves no more behind than one that is killed.

Python's signal handlers wait until C code returns, and a driver may wait for its server in C for as long as a query
takes. So a thread watches for signals too, and breaks off queries from there. Whatever the run is still waiting for a
few seconds later, a warehouse or a state store that does not answer, that thread ends the process. So it must never
wait for anything itself.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from warehouse_sync.errors import Interrupted, TimeLimit

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most, unless the API asks for more."""
MOST_ASKED = 900.0
"""Seconds of `Retry-After` that are waited at most; then the API is asked again."""
UPLOAD_GRACE = 2.0
"""Seconds that an upload still gets after a signal: a job whose answer is known need not be looked for."""
STUCK = 4.0
"""Seconds after a signal, until a run that did not end by itself is ended from outside."""
LAST_WORDS = 0.5
"""Seconds to say so: whoever reads what is said may be what does not answer."""
WATCH = 0.2
"""Seconds between two tries to break off a query: the first may come just before the query begins."""
AGAIN = 0.01
"""Seconds until a request is broken off once more, where the first time came to nothing."""

RACE = "ignored due to race condition"

_dice = random.SystemRandom()


class Breakable(Protocol):
    """Something that another hand can stop: a warehouse or a DuckDB connection at work."""

    def interrupt(self) -> None:
        """Let the running query fail; called from another thread. Waits for nothing."""
        ...


class Patience:
    """The end of a run's time. `limit` counts from the start; a pause never outlasts it, nor a signal.

    `last_words` hears why the process ends where nothing else can be said any more.
    """

    def __init__(self, limit: timedelta | None = None, last_words: Callable[[str], None] = lambda _: None) -> None:
        self._last_words = last_words
        self._deadline = None if limit is None else time.monotonic() + limit.total_seconds()
        self._limit = limit
        self._signal = ""
        self._wake = threading.Event()
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

    @property
    def interruption(self) -> Interrupted | None:
        """What a signal asked for; None without one."""
        return self._interrupted() if self._signal else None

    def stop_if_asked(self) -> None:
        """Raises Interrupted after a signal. Inside steps too: half an extraction is worth nothing, the time limit lets
        it finish."""
        if self._signal:
            raise self._interrupted()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end; then `check`."""
        self.check()
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        self._wake.wait(seconds)
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
        """A time in which a driver may be at work on that connection; a signal makes its query fail."""
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
        before, unraisable = {number: signal.getsignal(number) for number in numbers}, sys.unraisablehook
        for number in numbers:
            signal.signal(number, self._break_off if number is signal.SIGALRM else self._ask)
        sys.unraisablehook = partial(self._unraised, unraisable)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        wakened = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(ours,), name="signals", daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakened)
            sys.unraisablehook = unraisable
            theirs.close()
            signal.setitimer(signal.ITIMER_REAL, 0)
            for known, handler in before.items():
                signal.signal(known, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # Nothing here may wait for a lock: what was interrupted may hold it. The thread that watches ends a pause.
        self._signal = signal.Signals(number).name
        for known in (signal.SIGTERM, signal.SIGINT):
            signal.signal(known, signal.SIG_DFL)
        self._interrupt()
        if self._request:
            signal.setitimer(signal.ITIMER_REAL, self._request)
        else:
            self._break_off(number, frame)

    def _watch(self, signals: socket.socket) -> None:
        """Break off pauses and queries once a signal came; ends when the other end of `signals` is closed."""
        stops, first, asked, late = (signal.SIGTERM, signal.SIGINT), 0.0, 0, False
        with signals:
            while True:
                with suppress(TimeoutError):
                    received = signals.recv(1)
                    if not received:
                        return
                    if received[0] in stops:
                        first, asked = first or time.monotonic(), asked + 1
                        signals.settimeout(WATCH)
                        self._wake.set()
                if not first:
                    continue
                waited, unheard = time.monotonic() - first, not self._signal
                if unheard or (waited > STUCK / 2 and not late):
                    # Once it is heard, what runs is most likely what cleans up.
                    late = not unheard
                    self._interrupt()
                # Of two signals at the same moment, the second does not ask for more than the first.
                if waited > STUCK or (unheard and asked > 1 and waited > WATCH):
                    self._end()

    def _end(self) -> None:
        words = "the warehouse or the state store does not answer: ended as if killed; the next run goes on"
        teller = threading.Thread(target=self._last_words, args=(words,), daemon=True)
        teller.start()
        teller.join(LAST_WORDS)
        os._exit(1)

    def _interrupt(self) -> None:
        for connection in list(self._queries):
            # Whatever it says, of a broken connection maybe: the next try, or the end, comes soon.
            with suppress(Exception):
                connection.interrupt()

    def _break_off(self, *_: object) -> None:
        """End the request that is on its way, if there is one."""
        if self._request is not None:
            self._request = None
            raise self._interrupted()

    def _unraised(self, others: Callable[[UnraisableHookArgs], Any], what: UnraisableHookArgs) -> None:
        """Python passes over what is raised in a finalizer, and the signal may have found one: a moment later again.

        Of two signals at the same moment it hears one, and complains of the other.
        """
        if self._signal and RACE in str(what.exc_value):
            return
        if not isinstance(what.exc_value, Interrupted):
            others(what)
            return
        self._request = AGAIN
        signal.setitimer(signal.ITIMER_REAL, AGAIN)

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
