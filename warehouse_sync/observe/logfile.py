"""The log file of a pipeline: `<home>/logs/<UTC date>.log`, one JSON object a line, old files removed."""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

FOLDER = "logs"
MARK = "id"
"""The file that says a home is claimed; until then nothing is written there."""

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.log")
_WAITING = 1000


class LogFile:
    """Appends lines below a pipeline's home, from the moment the home is claimed; lines before it wait.

    A folder that cannot be written costs the log, never the run.
    """

    def __init__(self, home: Path, *, started: datetime, keep: timedelta) -> None:
        self.home = home
        self.path = home / FOLDER / f"{started:%Y-%m-%d}.log"
        self._started, self._keep = started.date(), keep
        self._descriptor: int | None = None
        self._waiting: deque[str] = deque(maxlen=_WAITING)
        self._given_up = False

    def write(self, line: str) -> None:
        """Append one line."""
        self._waiting.append(line)
        if self._given_up:
            return
        try:
            if self._descriptor is None and not (self.home / MARK).exists():
                return
            descriptor = self._open()
            while self._waiting:
                os.write(descriptor, (self._waiting[0] + "\n").encode(errors="backslashreplace"))
                self._waiting.popleft()
        except OSError:
            self._given_up = True

    @property
    def is_written(self) -> bool:
        """True when the file holds every line so far."""
        return self._descriptor is not None and not self._given_up

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._remove_old()
        return self._descriptor

    def _remove_old(self) -> None:
        """Of two clocks, this run's and that of the newest other file, the one behind decides: one wrong run takes none
        away."""
        days = {path: day for path in self.path.parent.iterdir() if path != self.path and (day := _day(path.name))}
        if not days:
            return
        today = min(self._started, max(days.values()))
        for path, day in days.items():
            if today - day > self._keep:
                with suppress(OSError):
                    path.unlink()


def _day(name: str) -> date | None:
    """The day of a log file of that name; None for another file."""
    found = _NAME.fullmatch(name)
    with suppress(ValueError):
        return date.fromisoformat(found[1]) if found else None
    return None
