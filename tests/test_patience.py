"""A signal at the worst moment: on any line of a pause, in the middle of a lock's own code; inside a finalizer."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from warehouse_sync import patience
from warehouse_sync.errors import Interrupted
from warehouse_sync.patience import Patience

LONG = 60.0
"""Seconds of a pause that a signal has to cut short; who still waits then has not heard it."""


@pytest.fixture(autouse=True)
def _nobody_waits_for_ever():
    """Who hangs in a lock hears no signal and fails no assertion: the process ends and shows the place."""
    faulthandler.dump_traceback_later(LONG / 2, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def paused(seconds: float, at_line: Callable[[int], None]) -> Patience:
    """A pause under signals; `at_line` hears the number of every line of it, just before that line runs."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if event == "line":
            at_line(lines)
            lines += 1
        return trace if frame.f_code.co_filename in (threading.__file__, patience.__file__) else None

    time_to_wait = Patience()
    with time_to_wait.signals():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            time_to_wait.pause(seconds)
        finally:
            sys.settrace(before)
    return time_to_wait


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_on_any_line_of_a_pause_ends_it(number: signal.Signals) -> None:
    came: list[float] = []
    paused(0.2, lambda _: came.append(time.monotonic()))
    gaps = [later - earlier for earlier, later in pairwise(came)]
    waiting = gaps.index(max(gaps))
    assert 5 < waiting < len(gaps)
    for worst in range(waiting + 1):
        with pytest.raises(Interrupted, match=number.name):
            paused(LONG, lambda line, worst=worst: signal.raise_signal(number) if line == worst else None)


def test_a_signal_inside_a_finalizer_ends_the_request_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def request() -> None:
        with time_to_wait.request():
            thing = Finalized()
            del thing
            time.sleep(LONG)

    time_to_wait = Patience()
    with time_to_wait.signals(), pytest.raises(Interrupted, match="SIGTERM"):
        request()
    assert capfd.readouterr().err == ""


def test_two_signals_at_the_same_moment_are_one(capfd: pytest.CaptureFixture[str]) -> None:
    both = {signal.SIGTERM, signal.SIGINT}
    patience = Patience()
    with patience.signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        for number in both:
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        with pytest.raises(Interrupted):
            patience.pause(LONG)
    assert capfd.readouterr().err == ""
