"""The last line of defence: a fault of this program as one line, with its traceback in a file, without any value."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path

from warehouse_sync import __version__
from warehouse_sync.cli.session import Session
from warehouse_sync.values import utc_now

PACKAGE = Path(__file__).parent.parent


def describe(error: BaseException) -> str:
    """What kind of error it is and where in this package, never what it says: a message can hold rows."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    places = [f"{Path(frame.filename).relative_to(PACKAGE.parent)}:{frame.lineno}" for frame in ours]
    return f"internal error: {type(error).__name__} at {places[-1] if places else 'an unknown place'}"


def report_crash(session: Session, error: BaseException) -> int:
    """One line for people, the way that led there for the log file. Returns exit code 1."""
    message = describe(error)
    # Names of files and functions only: no locals, no source lines with literals, no message.
    frames = traceback.extract_tb(error.__traceback__)
    file = _written(session, message, [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames])
    more = f"The log has more, without values: {file}" if file else "There is no folder for a log that has more."
    session.console.event(
        "internal_error",
        f"{message}\n{_whose(error)} What was recorded stays; the next run goes on.\n{more}",
        level="error",
        file=file,
    )
    return 1


def _whose(error: BaseException) -> str:
    """Whose fault it is. Libraries are imported where they are first needed: that may fail in the middle of a run."""
    if isinstance(error, ImportError):
        return (
            "A library cannot be loaded: it is not installed as it should be, or this process may not have the memory\n"
            "for it (`ulimit -v`, a container's limit)."
        )
    if isinstance(error, MemoryError):
        return "There is not enough memory for this process (`ulimit -v`, a container's limit)."
    return f"This is a fault of warehouse-sync {__version__}."


def _written(session: Session, message: str, trace: list[str]) -> str | None:
    """The file with the traceback: the pipeline's log, or one of its own where no log is kept; None without a place."""
    console = session.console
    if console.log is not None and console.to_log_file("internal_error", message, "error", trace=trace):
        return str(console.log.path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"warehouse-sync-{utc_now():%Y%m%d-%H%M%S}-", suffix=".log")
    except OSError:  # a container whose root is read-only may have no such folder
        return None
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join([f"warehouse-sync {__version__}", message, *trace]) + "\n")
    return name
