"""What people and machines see while a verb works: lines on stderr, bars on a terminal, the log file.

On a terminal: short lines with a clock, and bars that vanish. Elsewhere: the same lines, and at most one line of
progress per task and PROGRESS_SECONDS. With JSON: one object a line (`ts level code msg run data`) and nothing else.
Every line passes the scrubber. A stream that is gone (`2>&1 | head`) silences the console and never ends a run.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from warehouse_sync.errors import (
    ApiError,
    AuthError,
    ConfigError,
    DestinationError,
    DiskError,
    Interrupted,
    LeaseHeld,
    LocalStateLost,
    ModelError,
    StateError,
    Stopped,
    TimeLimit,
    UsageError,
    WarehouseError,
    WarehouseSyncError,
)
from warehouse_sync.observe.logfile import LogFile
from warehouse_sync.observe.scrub import Scrubber
from warehouse_sync.values import utc_now

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PROGRESS_SECONDS = 10.0
"""Between two lines of progress of one task, where there is no terminal."""

LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3}
LOGGER = "warehouse_sync"

# The nearest class decides, so the order does not matter.
ERROR_CODES: dict[type[WarehouseSyncError], str] = {
    UsageError: "usage",
    ConfigError: "config",
    StateError: "state",
    DestinationError: "destination",
    AuthError: "auth",
    LeaseHeld: "lease_held",
    TimeLimit: "time_limit",
    Interrupted: "interrupted",
    DiskError: "disk",
    LocalStateLost: "state_lost",
    Stopped: "stopped",
    ModelError: "model",
    WarehouseError: "warehouse",
    ApiError: "api",
    WarehouseSyncError: "error",
}

OWN_WORD = frozenset({"model_result", "run_done", "test_result"})
"""Codes whose lines say themselves how it went (`1 of 4 ERROR users`)."""

_LABELS = {"warn": "WARN ", "error": "ERROR "}
_STYLES = {"debug": "dim", "warn": "yellow", "error": "red"}


@dataclass(frozen=True)
class Look:
    """How the command line wants it: `-q`, `-d`, JSON lines, whether a person looks at a terminal, and in colour."""

    quiet: bool = False
    debug: bool = False
    json: bool = False
    terminal: bool = False
    colour: bool = False

    @property
    def threshold(self) -> int:
        """The lowest level that is shown."""
        return LEVELS["error" if self.quiet else "debug" if self.debug else "info"]


def code_of(error: WarehouseSyncError) -> str:
    """The code of an error's class, or of the nearest class above it."""
    return next(ERROR_CODES[kind] for kind in type(error).__mro__ if kind in ERROR_CODES)


class Console:
    """The reporter of the command line; a context manager that takes this program's Python logging along."""

    def __init__(
        self,
        look: Look,
        stream: TextIO,
        scrubber: Scrubber,
        *,
        clock: Callable[[], datetime] = utc_now,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.look = look
        self.scrubber = scrubber
        self.run: int | None = None
        self.log: LogFile | None = None
        self._stream = stream
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.RLock()
        self._silenced = False
        self._bars: _Bars | None = None
        self._shown_at: dict[str, float] = {}
        self._handler = _Handler(self)

    def __enter__(self) -> Self:
        logger = logging.getLogger(LOGGER)
        self._handler.setLevel(logging.DEBUG if self.look.debug else logging.WARNING)
        if self.look.debug:
            logger.setLevel(logging.DEBUG)
        logger.addHandler(self._handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        logger = logging.getLogger(LOGGER)
        logger.removeHandler(self._handler)
        if self.look.debug:
            logger.setLevel(logging.NOTSET)
        self.close()

    def close(self) -> None:
        """Take the bars away and close the log file."""
        with self._lock:
            self._end_bars()
            if self.log is not None:
                self.log.close()
                self.log = None

    # What stages say

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        """See `Reporter.event`. `run_started` with `run` gives the lines from there on their run."""
        with self._lock:
            if code == "run_started":
                self.run = data.pop("run", None)
            self._end_task(data)
            record = self._record(code, message, level, data)
            if self.log is not None and (level != "debug" or self.look.debug):
                self.log.write(_dump(record))
            if LEVELS[level] < self.look.threshold:
                return
            if self.look.json:
                self._write(_dump(record))
            else:
                self._say(level, record["msg"], label="" if code in OWN_WORD else _LABELS.get(level, ""))

    def progress(self, task: str, done: int, total: int | None, unit: str) -> None:
        """See `Reporter.progress`."""
        if self.look.quiet:
            return
        with self._lock:
            if self.look.terminal and not self.look.json:
                self._bars = self._bars or _Bars(self._stream)
                self._bars.update(task, done, total, unit)
                return
            now = self._ticks()
            if now - self._shown_at.setdefault(task, now) < PROGRESS_SECONDS:
                return
            self._shown_at[task] = now
            text = f"{task}: {amount(done, total, unit)}"
            if self.look.json:
                data = {"task": task, "done": done, "total": total, "unit": unit}
                self._write(_dump(self._record("progress", text, "info", data)))
            else:
                self._say("info", self.scrubber.text(text))

    # What the command line says

    @property
    def log_path(self) -> Path | None:
        """The log file; None where there is none that holds every line so far."""
        return self.log.path if self.log is not None and self.log.is_written else None

    def failure(self, error: WarehouseSyncError) -> None:
        """One error: what, where, and what to do next."""
        data: dict[str, Any] = {"hint": error.hint} if error.hint else {}
        if isinstance(error, ConfigError):
            data["problems"] = [
                {"path": item.path, "line": item.line, "column": item.column, "key": item.key, "message": item.message}
                for item in error.problems
            ]
        if isinstance(error, ModelError) and error.path is not None:
            data |= {"path": error.path, "line": error.line}
        self.event(code_of(error), str(error), level="error", **data)

    def to_log_file(self, code: str, message: str, level: str, **data: Any) -> bool:
        """A line for the log file alone; False when no file holds it."""
        with self._lock:
            if self.log is None:
                return False
            self.log.write(_dump(self._record(code, message, level, data)))
            return self.log.is_written

    def block(self, text: str) -> None:
        """Lines for people as they are, such as a table; machines get the same from events."""
        with self._lock:
            if not self.look.quiet and not self.look.json:
                self._end_bars()
                self._write(self.scrubber.text(text))

    # Lines

    def _record(self, code: str, message: str, level: str, data: dict[str, Any]) -> dict[str, Any]:
        return {
            "ts": self._clock().astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "level": level,
            "code": code,
            "msg": self.scrubber.text(message),
            "run": self.run,
            "data": self.scrubber.value(data),
        }

    def _say(self, level: str, message: str, *, label: str = "") -> None:
        """One line with a clock (local time, as dbt prints it); further lines of the message stand below its text."""
        clock = self._clock().astimezone().strftime("%H:%M:%S")
        text = f"{clock}  {label}{message}".replace("\n", "\n" + " " * 10)
        if self._bars is not None:
            self._bars.say(text, _STYLES.get(level, ""))
        elif self.look.colour and level in _STYLES:
            self._write(_coloured(text, _STYLES[level]))
        else:
            self._write(text)

    def _write(self, line: str) -> None:
        if self._silenced:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._silenced = True

    # Bars

    def _end_task(self, data: dict[str, Any]) -> None:
        """What is named by an event is over, or begins anew; there is never more than one job at a time."""
        names = [str(data["model"])] if "model" in data else list(self._shown_at) if "job" in data else []
        for name in names:
            self._shown_at.pop(name, None)
        if self._bars is not None and ("model" in data or "job" in data):
            self._bars.drop(None if "job" in data else str(data["model"]))

    def _end_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class _Bars:
    """rich's progress on a terminal: a bar a task, gone at the end."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            console=RichConsole(file=stream, highlight=False, markup=False, emoji=False, force_terminal=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def update(self, task: str, done: int, total: int | None, unit: str) -> None:
        shown = amount(done, total, unit)
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(task, total=total, amount=shown)
        self._progress.update(self._tasks[task], completed=done, total=total, amount=shown)

    def drop(self, name: str | None) -> None:
        """Take one bar away; all of them with None."""
        for known in [name] if name is not None else list(self._tasks):
            task = self._tasks.pop(known, None)
            if task is not None:
                self._progress.remove_task(task)

    def say(self, text: str, style: str) -> None:
        self._progress.console.print(text, style=style or None, soft_wrap=True)

    def stop(self) -> None:
        self._progress.stop()


class _Handler(logging.Handler):
    """Python logging of this package, as events. Messages only: a traceback could print values."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "debug"
        self._console.event("log", f"{record.name}: {record.getMessage()}", level=level, logger=record.name)


def amount(done: int, total: int | None, unit: str) -> str:
    """`1,024 rows`, or `1,024 of 4,096 rows`."""
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"


def _coloured(text: str, style: str) -> str:
    codes = {"dim": "2", "yellow": "33", "red": "31"}
    return f"\x1b[{codes[style]}m{text}\x1b[0m"


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)
