"""Sealed batches on disk: `<batch>.ndjson` and `<batch>.keys.parquet`, written once and never touched again.

Under another name, synced, renamed in, folder synced; only then does the state record them. Files that the state does
not know are leftovers of a run that was killed while it wrote.

    <home>/outbox/<model>/<window>-<number>.ndjson           one JSON object a line
    <home>/outbox/<model>/<window>-<number>.keys.parquet     key, key_hash, row_hash, cursor, inserted_at

One row of the key file a line. The row hash of a model without key is the MD5 of its line, and NULL where nothing
compares it. The file's metadata names the version of the encoder that made the hashes (`encoder`).
"""

from __future__ import annotations

import hashlib
import os
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.durable import sync
from warehouse_sync.errors import DiskError

if TYPE_CHECKING:
    import pyarrow as pa

KEY_COLUMNS = ("key", "key_hash", "row_hash", "cursor", "inserted_at")

SEALING, IN_HAND = 4, 6
"""Threads that write key files and wait for the disk, and batches in their hands while one fills."""


@dataclass(frozen=True)
class BatchLimits:
    """The unit of bookkeeping: rows and bytes of one batch."""

    max_rows: int
    max_bytes: int


@dataclass(frozen=True)
class SealedFile:
    """One sealed batch: name without suffix (relative to the outbox), rows, bytes and SHA-256 of the NDJSON file."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Outbox:
    """The folder of sealed batches of one pipeline."""

    def __init__(self, home: Path) -> None:
        self.root = home / "outbox"

    def lines(self, name: str) -> Path:
        """The NDJSON file of that batch."""
        return self.root / f"{name}.ndjson"

    def keys(self, name: str) -> Path:
        """The key file of that batch."""
        return self.root / f"{name}.keys.parquet"

    def writer(self, model: str, window: int, limits: BatchLimits, encoder: int = 1) -> BatchWriter:
        """A writer of that window's batches, its row hashes of that version; use it in a `with` block."""
        folder = self.root / model
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return BatchWriter(self.root, f"{model}/{window:08d}", limits, encoder)

    def is_whole(self, name: str, rows: int, size: int, sha256: str) -> bool:
        """True when both files are what was sealed. Raises DiskError where this user may not read them."""
        lines = self.lines(name)
        with _readable(lines):
            if self.key_table(name, rows) is None or lines.stat().st_size != size:
                return False
            with lines.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def key_table(self, name: str, rows: int) -> pa.Table | None:
        """The key file of a batch; None unless both files are there and it holds that many rows, as they were written.

        Raises DiskError where this user may not read them.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with _readable(self.keys(name)):
                keys = pq.read_table(self.keys(name), page_checksum_verification=True)
                return keys if keys.num_rows == rows and self.lines(name).is_file() else None
        except (OSError, pa.ArrowException):
            return None

    def remove(self, name: str) -> None:
        """Delete a batch that is done with. What cannot be deleted now is left to `sweep`."""
        for path in (self.lines(name), self.keys(name)):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def sweep(self, needed: set[str], keep: timedelta = timedelta(0)) -> list[Path]:
        """Delete the files of batches that nothing needs and that are older than `keep`; gives those that stay all the
        same, because the system does not let them go.

        They are what a killed run left behind, and delivered batches whose time is over.
        """
        stuck, limit = [], time.time() - keep.total_seconds()
        for path in self.root.glob("*/*"):
            name = path.relative_to(self.root).as_posix()
            owner = name.removesuffix(".tmp").removesuffix(".ndjson").removesuffix(".keys.parquet")
            try:
                if name.endswith(".tmp") or (owner not in needed and path.stat().st_mtime <= limit):
                    path.unlink(missing_ok=True)
            except OSError:
                stuck.append(path)
        return stuck

    def line_table(self, name: str) -> pa.Table:
        """The lines of a batch, without their newlines: `place` (from 0) and `line`."""
        import pyarrow as pa

        lines = _split(self.lines(name).read_bytes())
        return pa.table({"place": pa.array(range(len(lines)), pa.int64()), "line": lines.cast(pa.large_string())})

    def key_rows(self, name: str, places: Sequence[int]) -> list[dict[str, Any]]:
        """What the key file says of the rows at these places; a row hash that was not taken is taken from the line."""
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(self.keys(name)).take(list(places)).to_pylist()
        if any(row["row_hash"] is None for row in rows):
            lines = _split(self.lines(name).read_bytes()).take(list(places)).to_pylist()
            for row, line in zip(rows, lines, strict=True):
                row["row_hash"] = hashlib.md5(line + b"\n", usedforsecurity=False).digest()
        return rows

    def without(self, batch: SealedFile, drop: Sequence[int], name: str) -> SealedFile | None:
        """A new sealed batch `name` without the lines at the places in `drop` (from 0); None when none is left."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if len(drop) >= batch.rows:
            return None
        with disk_errors(self.lines(batch.name)):
            lines = _split(self.lines(batch.name).read_bytes())
            keep = pc.invert(pc.is_in(pa.array(range(batch.rows), pa.int64()), pa.array(drop, pa.int64())))
            nothing, newline = (pa.scalar(text, pa.large_binary()) for text in (b"", b"\n"))
            kept = pc.binary_join_element_wise(lines.filter(keep), nothing, newline)
            keys = pq.read_table(self.keys(batch.name)).filter(keep)
            with closing(_Lines(self.root, name)) as rest:
                rest.write(_bytes_of(kept, 0, len(kept)))
                sealed = _seal_file(rest, keys)
        _sync_folder(self.lines(name).parent)
        return sealed


class BatchWriter:
    """Cuts a stream of lines into sealed batches. An error or a kill leaves only files that the state does not know.

    Lines are hashed and written as they come, while the processor's cache still holds them; what waits for the disk is
    a small pool's work.
    """

    def __init__(self, root: Path, prefix: str, limits: BatchLimits, encoder: int) -> None:
        self._about = {b"encoder": b"%d" % encoder}
        self._root = root
        self._prefix = prefix
        self._limits = limits
        self._pool = ThreadPoolExecutor(SEALING, thread_name_prefix="seal")
        self._begun: list[_Lines] = []
        self._open: _Lines | None = None
        self._keys: list[pa.RecordBatch] = []
        self._rows = 0
        self._sealing: list[Future[SealedFile]] = []

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.discard()
        self._pool.shutdown(wait=True)

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows: column `line` (large string, each with its newline) and the columns of `KEY_COLUMNS`.

        Raises DiskError.
        """
        lines, keys = rows.column("line"), rows.select(list(KEY_COLUMNS))
        start, limits = 0, self._limits
        while start < len(lines):
            if self._open is None:
                self._open = _Lines(self._root, f"{self._prefix}-{len(self._begun):05d}")
                self._begun.append(self._open)
            room = (limits.max_rows - self._rows, limits.max_bytes - self._open.size)
            end = _cut(lines, start, *room, is_first=not self._rows)
            if end > start:
                self._open.write(_bytes_of(lines, start, end))
                self._keys.append(keys.slice(start, end - start))
                self._rows += end - start
            if end < len(lines) or self._rows >= limits.max_rows:
                self._seal()
            start = end

    def close(self) -> list[SealedFile]:
        """Seal what is open and wait until all of it is on disk. Raises DiskError."""
        self._seal()
        sealed = [job.result() for job in self._sealing]
        if sealed:
            _sync_folder((self._root / sealed[0].name).parent)
        return sealed

    def discard(self) -> None:
        """Remove everything this writer wrote."""
        for job in self._sealing:
            job.cancel()
        self._pool.shutdown(wait=True)
        for lines in self._begun:
            lines.close()
        for path in self._root.glob(f"{self._prefix}-*"):
            path.unlink(missing_ok=True)

    def _seal(self) -> None:
        import pyarrow as pa

        if self._open is None:
            return
        keys = pa.Table.from_batches(self._keys).replace_schema_metadata(self._about)
        if len(self._sealing) >= IN_HAND:
            self._sealing[-IN_HAND].result()
        self._sealing.append(self._pool.submit(_seal_file, self._open, keys))
        self._open, self._keys, self._rows = None, [], 0


class _Lines:
    """The NDJSON file of a batch while it is written, under another name. A DiskError leaves no file behind."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name, self.size = root, name, 0
        self.path = root / f"{name}.ndjson.tmp"
        self._digest = hashlib.sha256()
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, part: memoryview) -> None:
        self._digest.update(part)
        self.size += len(part)
        with disk_errors(self.path, self.path):
            while part:
                part = part[self._file.write(part) :]

    def seal(self) -> str:
        """Make the file durable under its own name; gives its SHA-256. Raises OSError.

        It leaves the system's cache: pages never used before cost more than reading the file again, and a container
        counts them as ours.
        """
        os.fsync(self._file.fileno())
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # Advice, no more.
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.path.replace(self.path.with_suffix(""))
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


def _seal_file(lines: _Lines, keys: pa.Table) -> SealedFile:
    """Write the keys beside the lines; both synced, renamed. Raises DiskError, and leaves nothing then."""
    import pyarrow.parquet as pq

    parquet = lines.root / f"{lines.name}.keys.parquet.tmp"
    keys_file = parquet.with_suffix("")
    with closing(lines), disk_errors(lines.path, lines.path, parquet, keys_file):
        pq.write_table(
            keys, parquet, compression="none", use_dictionary=False, write_statistics=False, write_page_checksum=True
        )
        parquet.chmod(0o600)
        sync(parquet)
        parquet.replace(keys_file)
        digest = lines.seal()
    return SealedFile(lines.name, keys.num_rows, lines.size, digest)


def _cut(lines: pa.LargeStringArray, start: int, rows: int, size: int, *, is_first: bool) -> int:
    """The end of the longest run of lines from `start` within both limits; at least one line into an empty file."""
    offsets = memoryview(lines.buffers()[1]).cast("q")
    first = lines.offset + start
    last = min(first + rows, lines.offset + len(lines))
    end = bisect_right(offsets, offsets[first] + size, first + 1, last + 1) - 1
    return int(max(end, first + is_first) - lines.offset)


def _split(text: bytes) -> pa.LargeBinaryArray:
    """The lines of an NDJSON file, whose last line ends with a newline too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = pc.list_flatten(pc.split_pattern(pa.array([text], pa.large_binary()), b"\n"))
    return parts.slice(0, len(parts) - 1)


def _bytes_of(lines: pa.Array, start: int, end: int) -> memoryview:
    """The bytes of lines `start` to `end` as they lie in the array's own buffer."""
    _, offset_buffer, data = lines.buffers()
    offsets = memoryview(offset_buffer).cast("q")
    return memoryview(data)[offsets[lines.offset + start] : offsets[lines.offset + end]]


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder durable."""
    with disk_errors(folder):
        sync(folder)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that this user may not read is not a damaged one: its rows wait, and are not read again."""
    try:
        yield
    except PermissionError:
        raise DiskError(
            f"this user may not read {path}", hint="give it read and write access to all of state.dir, and run again."
        ) from None


@contextmanager
def disk_errors(
    place: Path, *halves: Path, kept: str = "nothing of this window was recorded or sent"
) -> Iterator[None]:
    """The border where the operating system's refusals to write become ours; what was half written goes.

    `kept` says what that leaves.
    """
    try:
        yield
    except OSError as error:
        for half in halves:
            half.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if error.errno else "input/output error"
        raise DiskError(
            f"cannot write {place}: {reason}",
            hint=f"{kept}; make room or mend the permissions, and run again.",
        ) from None
