"""What has to be done beside the thread that asks for it: to cancel a statement over another connection."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from contextlib import suppress


class Canceller:
    """Does one thing in a short thread of its own; never twice at a time.

    Whoever asks may be a signal's handler. It has stopped the main thread anywhere, maybe where that holds one of a
    driver's locks, or one of `threading`'s, which is why that module does not start the thread.
    """

    def __init__(self) -> None:
        self._busy = False

    def do(self, call: Callable[[], object]) -> None:
        """Begin with it, unless the last call is still at it."""
        if not self._busy:
            self._busy = True
            _thread.start_new_thread(self._run, (call,))

    def _run(self, call: Callable[[], object]) -> None:
        try:
            # Whatever it says, of a broken connection maybe: whoever asked asks again.
            with suppress(Exception):
                call()
        finally:
            self._busy = False
