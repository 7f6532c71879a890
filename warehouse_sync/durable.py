"""Files that are there as a whole or not at all, whatever ends the program while it writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write and read, its owner's only: under another name until the block ends, then synced and renamed.

    What ends the block with an error leaves what stood there before. The name itself is durable with `sync(folder)`.
    Raises OSError.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def publish(fresh: Path, path: Path) -> None:
    """Let a finished file, from now on its owner's only, take the place of `path` beside it. Raises OSError."""
    fresh.chmod(0o600)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)


def sync(place: Path) -> None:
    """Make the bytes of a file or the names in a folder durable. Raises OSError."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
