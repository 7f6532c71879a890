"""The body of an upload: one multipart/form-data part, read from disk while it is sent (RFC 7578)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from warehouse_sync.errors import DiskError

CHUNK = 262_144  # bytes; each chunk has to leave within the timeout, also on a slow line


class UploadBody:
    """An iterable of chunks with an exact length, for a request with `Content-Length`.

    `started` tells whether a first chunk was asked for: until then no server can know of the file. `problem` says why
    the body ended early, when a file could not be read to its end.
    """

    def __init__(self, file_name: str, parts: Sequence[Path], size: int) -> None:
        boundary = f"warehouse-sync-{uuid4().hex}"
        disposition = f'Content-Disposition: form-data; name="file"; filename="{_quoted(file_name)}"'
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._parts = tuple(parts)
        self._sizes = tuple(_size(part) for part in self._parts)
        self._length = len(self._head) + size + len(self._tail)
        self.started = False
        self.problem = ""
        if sum(self._sizes) != size:
            raise DiskError(f"the files of this upload hold {sum(self._sizes):,} bytes, not the {size:,} recorded")

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        self.started = True
        yield self._head
        for part, size in zip(self._parts, self._sizes, strict=True):
            yield from self._content(part, size)
        yield self._tail

    def _content(self, part: Path, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of one file: a byte more or less would shift the end of the request."""
        try:
            with part.open("rb") as file:
                while size:
                    chunk = file.read(min(CHUNK, size))
                    if not chunk:
                        raise OSError("shorter than at the start")
                    size -= len(chunk)
                    yield chunk
        except OSError as error:
            self.problem = f"{part.name} could not be read to its end ({error.strerror or error})"
            raise


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError as error:
        raise DiskError(f"{part} cannot be read: {error.strerror}") from None


def _quoted(name: str) -> str:
    """A file name inside quotes, as browsers and curl write it (RFC 7578, section 2; WHATWG's three escapes)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


__all__ = ["UploadBody"]
