"""The three streams of the process, made safe before anything is printed.

A reader that leaves (`| head`) is no fault of the work: what is written for it from then on goes nowhere, and the exit
code is that of the work. A stream that was closed (`>&-`) is the same: nobody reads it. Data that could not be written
for another reason, such as a full disk, is a fault; messages never are.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from warehouse_sync.errors import DiskError


def make_safe() -> None:
    """Open what is closed, and put stdout and stderr, where they are the process's own, before a `_Patient`."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Its number would be given to the next file that is opened, such as the state store.
            _open_nowhere(number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _wrapped(stream, name))


def _open_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _wrapped(stream: io.TextIOWrapper, name: str) -> io.TextIOWrapper:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(stream.fileno(), name)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


class _Patient(io.FileIO):
    """The raw end of a stream, which takes everything once its reader is gone."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(number, "w", closefd=False)
        self._title = name
        self._is_gone = False

    def write(self, data: Any, /) -> int:
        """Write; raises DiskError, once, when it is stdout and there is no room for the data."""
        if not self._is_gone:
            try:
                return super().write(data)
            except OSError as error:
                self._is_gone = True
                if self._title == "stdout" and not isinstance(error, BrokenPipeError):
                    raise DiskError(f"stdout cannot be written: {error.strerror}") from None
        return memoryview(data).nbytes


__all__ = ["make_safe"]
