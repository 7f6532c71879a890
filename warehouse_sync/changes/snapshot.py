"""What was delivered, by key: a DuckDB file per model, derived from the key files of delivered batches.

Merging writes a copy and renames it into place, so that readers never meet a lock and a kill leaves the old file. The
copy records the last merged delivery in the same transaction as its rows; merging again what is in it changes nothing.

    sent(key, key_hash, row_hash, inserted_at, batch, encoder)   one row a delivered key           (models with a key)
    boundary(row_hash, cursor, rows, encoder)                    delivered rows from the bound on  (events without one)
    meta(merged, encoders, layout)                               last merged delivery, versions of the row hashes, of
                                                                 these tables

`inserted_at` is the latest that was sent of the key, whichever delivery it was of: Userpilot lets the latest win.

Every hash has its own version of the encoder. After an upgrade a row is compared by the version of its stored hash; the
new hashes of rows that were found equal are written beside the snapshot (`<model>.hashes.parquet`: key_hash, stored,
row_hash, cursor, encoder) and put in by the next merge. They say of an old hash what the new one is, so it does no harm
to put them in late, twice or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.window import duckdb_literal
from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.durable import publish
from warehouse_sync.errors import DiskError, StateError
from warehouse_sync.values import CursorValue

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

SNAPSHOT = "warehouse_sync_snapshot"
"""The catalog under which a snapshot is attached for reading."""

_MERGING = "warehouse_sync_merging"

_TABLES = """
CREATE TABLE {catalog}.sent (
  key VARCHAR, key_hash BLOB NOT NULL, row_hash BLOB NOT NULL, inserted_at TIMESTAMP, batch BIGINT,
  encoder INTEGER NOT NULL
);
CREATE TABLE {catalog}.meta (merged BIGINT NOT NULL, encoders INTEGER[] NOT NULL, layout INTEGER);
INSERT INTO {catalog}.meta VALUES (0, [], {layout});
"""

LAYOUT = 2
"""The version of the tables. Files of version 1 do not say theirs, nor do the first ones of version 2."""


@dataclass(frozen=True)
class DeliveredBatch:
    """One delivered batch: its place in the order of delivery, its id, its two files.

    `refused`: the key hashes of its rows that the API did not take.
    """

    sequence: int
    batch: int
    keys: Path
    lines: Path
    refused: tuple[bytes, ...] = ()


def snapshot_file(home: Path, model: str) -> Path:
    """Where the snapshot of that model lies below the pipeline's own folder."""
    return home / "snapshots" / f"{model}.duckdb"


def snapshot_files(home: Path) -> list[Path]:
    """Those that lie there, whoever knows their models."""
    return list((home / "snapshots").glob("*.duckdb"))


class Snapshot:
    """The snapshot of one model at `path`; a file that is not there is an empty snapshot.

    `known`: the versions of the encoder that this program knows.
    """

    def __init__(self, path: Path, known: Collection[int]) -> None:
        self.path = path
        self.hashes = path.with_suffix(".hashes.parquet")
        self._fresh = path.with_suffix(".new")
        self._known = known

    def attach(self, connection: DuckDBPyConnection) -> int:
        """Attach the published file, read-only, as catalog `SNAPSHOT`; gives the last merged delivery.

        Raises StateError when the file is damaged, or its layout or a hash in it is of a version that this program does
        not know, or may not be read.
        """
        import duckdb

        if not os.access(self.path, os.R_OK):
            raise StateError(
                f"this user may not read the snapshot {self.path}",
                hint="run as the user that owns state.dir, or give this one read and write access to all of it.",
            )
        try:
            connection.execute(f"ATTACH '{_quoted(self.path)}' AS {SNAPSHOT} (READ_ONLY)")
            self._check_layout(connection)
            merged = first_value(connection, f"SELECT merged FROM {SNAPSHOT}.meta")
            strange = sorted(set(self.encoders(connection)) - set(self._known))
        except duckdb.Error:
            raise StateError(
                f"the snapshot {self.path} is damaged or no snapshot",
                hint=f"put it back from a copy of state.dir, {self._over}",
            ) from None
        if strange:
            raise StateError(
                f"the snapshot {self.path} holds row hashes of version {', '.join(map(str, strange))}, which this"
                f" version of the program does not know (it knows {', '.join(map(str, sorted(self._known)))})",
                hint=f"install the version that wrote it, {self._over}",
            )
        return int(merged or 0)

    @property
    def _over(self) -> str:
        """The last way out, as the end of a hint."""
        return f"or start over with `warehouse-sync state reset {self.path.stem}` (every row then counts as new)."

    def _check_layout(self, connection: DuckDBPyConnection) -> None:
        """Raises StateError when the attached file was written by a version of the program that knew other tables."""
        columns = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND table_name = 'meta'", [SNAPSHOT]
        ).fetchall()
        layout = LAYOUT
        if ("encoder",) in columns:
            layout = 1
        elif ("layout",) in columns:
            layout = int(first_value(connection, f"SELECT layout FROM {SNAPSHOT}.meta") or LAYOUT)
        if layout != LAYOUT:
            raise StateError(
                f"the snapshot {self.path} was written by {'an older' if layout < LAYOUT else 'a newer'} version of"
                f" this program (layout {layout}, this one knows {LAYOUT})",
                hint=f"install the version that wrote it, {self._over}",
            )

    def encoders(self, connection: DuckDBPyConnection) -> tuple[int, ...]:
        """The versions of the hashes in the attached file."""
        return tuple(first_value(connection, f"SELECT encoders FROM {SNAPSHOT}.meta"))

    def keep_hashes(self, connection: DuckDBPyConnection, relation: str, encoder: int) -> None:
        """Write down what the next merge puts in: new hashes (`row_hash`, of version `encoder`) for `stored` ones.

        Raises DiskError.
        """
        import duckdb

        fresh = self.hashes.with_suffix(".new")
        try:
            connection.execute(
                f"COPY (SELECT DISTINCT key_hash, stored, row_hash, cursor, {encoder} AS encoder FROM {relation})"
                f" TO '{_quoted(fresh)}' (FORMAT parquet)"
            )
            publish(fresh, self.hashes)
        except (duckdb.IOException, OSError):
            fresh.unlink(missing_ok=True)
            raise DiskError(
                f"cannot write {self.hashes}: no room, or read-only",
                hint="nothing of this window was recorded or sent; make room or mend the permissions, and run again.",
            ) from None

    def boundary_to(self, connection: DuckDBPyConnection) -> str | None:
        """The greatest cursor among the rows that the attached file keeps of a model without key; None without any."""
        if not _has_boundary(connection, SNAPSHOT):
            return None
        last = first_value(connection, f"SELECT max(cursor)::VARCHAR FROM {SNAPSHOT}.boundary")
        return None if last is None else str(last)

    def begin(self, connection: DuckDBPyConnection, merged: int) -> None:
        """Publish an empty snapshot that stands at that delivery, in place of one that is lost."""
        self.sweep()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(f"ATTACH '{_quoted(self._fresh)}' AS {_MERGING}")
        try:
            connection.execute(_TABLES.format(catalog=_MERGING, layout=LAYOUT))
            connection.execute(f"UPDATE {_MERGING}.meta SET merged = ?", [merged])
            connection.execute(f"CHECKPOINT {_MERGING}")
        finally:
            connection.execute(f"DETACH {_MERGING}")
        publish(self._fresh, self.path)

    def sweep(self) -> None:
        """Remove what a merge wrote and did not publish. Raises OSError."""
        for leftover in (self._fresh, self._fresh.with_name(f"{self._fresh.name}.wal")):
            leftover.unlink(missing_ok=True)

    def merge(
        self,
        connection: DuckDBPyConnection,
        delivered: Sequence[DeliveredBatch],
        *,
        keyed: bool,
        bound: CursorValue | None,
        sure: Callable[[], None] = lambda: None,
    ) -> int:
        """Take in delivered batches, in order; gives the last merged delivery. Batches taken in before are passed over.

        New hashes that were written down go in before them, and their file goes. Of unkeyed rows only those at or above
        `bound`, where the model's cursor stands, can be read again and are kept.
        """
        self.sweep()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            shutil.copyfile(self.path, self._fresh)
        empty = not self._fresh.exists()
        connection.execute(f"ATTACH '{_quoted(self._fresh)}' AS {_MERGING}")
        try:
            connection.execute("BEGIN")
            if empty:
                connection.execute(_TABLES.format(catalog=_MERGING, layout=LAYOUT))
            else:
                connection.execute(f"ALTER TABLE {_MERGING}.meta ADD COLUMN IF NOT EXISTS layout INTEGER")
            merged = int(first_value(connection, f"SELECT merged FROM {_MERGING}.meta") or 0)
            if self.hashes.exists():
                _put_in_hashes(connection, self.hashes, keyed=keyed)
            todo = [batch for batch in delivered if batch.sequence > merged]
            if todo:
                if keyed:
                    _take_in_keys(connection, todo)
                else:
                    _take_in_boundary(connection, todo, bound)
                connection.execute(f"UPDATE {_MERGING}.meta SET merged = ?", [todo[-1].sequence])
            if not keyed and bound is not None and _has_boundary(connection, _MERGING):
                connection.execute(f"DELETE FROM {_MERGING}.boundary WHERE cursor < {duckdb_literal(bound)}")
            tables = [f"FROM {_MERGING}.sent"]
            tables += [f"FROM {_MERGING}.boundary"] if _has_boundary(connection, _MERGING) else []
            versions = " UNION ALL ".join(f"SELECT encoder {table}" for table in tables)
            connection.execute(
                f"UPDATE {_MERGING}.meta SET encoders ="
                f" (SELECT coalesce(list(DISTINCT encoder ORDER BY encoder), []) FROM ({versions})), layout = {LAYOUT}"
            )
            connection.execute("COMMIT")
            connection.execute(f"CHECKPOINT {_MERGING}")
        finally:
            connection.execute(f"DETACH {_MERGING}")
        checkpoint("snapshot_written")
        sure()
        publish(self._fresh, self.path)
        checkpoint("snapshot_published")
        self.hashes.unlink(missing_ok=True)
        return todo[-1].sequence if todo else merged


def taken_rows(connection: DuckDBPyConnection, delivered: Sequence[DeliveredBatch]) -> pa.RecordBatchReader:
    """What a snapshot that lies elsewhere takes in: `key_hash`, `row_hash`, `inserted_at`, `batch`, one row a key."""
    _take(connection, delivered)
    return connection.sql("SELECT key_hash, row_hash, inserted_at, batch FROM taken").to_arrow_reader()


def _take_in_keys(connection: DuckDBPyConnection, delivered: Sequence[DeliveredBatch]) -> None:
    """Replace the rows of every delivered key."""
    _take(connection, delivered)
    _replace_taken(connection)


def _take(connection: DuckDBPyConnection, delivered: Sequence[DeliveredBatch]) -> None:
    """The delivered rows as a table `taken`; of a key that was delivered twice the later delivery stands, with the
    latest time of both.

    Rows that the API refused were not delivered: a mended event goes, and a profile is compared with what arrived.
    """
    connection.execute("CREATE TEMP TABLE refused (batch BIGINT, key_hash BLOB)")
    refused = [(batch.batch, key_hash) for batch in delivered for key_hash in batch.refused]
    if refused:
        connection.executemany("INSERT INTO refused VALUES (?, ?)", refused)
    connection.execute(
        "CREATE TEMP TABLE taken AS SELECT *"
        + (" REPLACE (max(inserted_at) OVER (PARTITION BY key_hash) AS inserted_at)" if len(delivered) > 1 else "")
        + " FROM (SELECT k.key, k.key_hash, k.row_hash, k.inserted_at, d.batch, d.sequence,"
        " coalesce(v.encoder, 1) AS encoder"
        f" FROM read_parquet({_files(delivered)}, filename = true) AS k"
        f" JOIN (VALUES {_values(delivered)}) AS d(file, batch, sequence) ON d.file = k.filename"
        f" LEFT JOIN {_versions(delivered)} AS v ON v.file = k.filename)"
        + (" ANTI JOIN refused USING (batch, key_hash)" if refused else "")
        + (
            " QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY sequence DESC) = 1"
            if len(delivered) > 1
            else ""
        )
    )
    connection.execute("DROP TABLE refused")


def _replace_taken(connection: DuckDBPyConnection) -> None:
    """Let the rows of the table `taken` stand for their keys; a later time that was sent before stays."""
    connection.execute(
        f"UPDATE taken SET inserted_at = sent.inserted_at FROM {_MERGING}.sent"
        " WHERE sent.key_hash = taken.key_hash AND sent.inserted_at > taken.inserted_at"
    )
    connection.execute(f"DELETE FROM {_MERGING}.sent USING taken WHERE sent.key_hash = taken.key_hash")
    connection.execute(
        f"INSERT INTO {_MERGING}.sent SELECT key, key_hash, row_hash, inserted_at, batch, encoder FROM taken"
        " ORDER BY key_hash"
    )
    connection.execute("DROP TABLE taken")


def _put_in_hashes(connection: DuckDBPyConnection, hashes: Path, *, keyed: bool) -> None:
    """Replace stored hashes by the new ones that were written down for them; what is not stored any more is passed."""
    new = f"read_parquet('{_quoted(hashes)}')"
    if keyed:
        connection.execute(
            "CREATE TEMP TABLE taken AS SELECT s.* REPLACE (h.row_hash AS row_hash, h.encoder AS encoder)"
            f" FROM {_MERGING}.sent AS s JOIN {new} AS h ON h.key_hash = s.key_hash AND h.stored = s.row_hash"
            " QUALIFY row_number() OVER (PARTITION BY s.key_hash) = 1"
        )
        _replace_taken(connection)
    elif _has_boundary(connection, _MERGING):
        connection.execute(
            f"UPDATE {_MERGING}.boundary SET row_hash = h.row_hash, encoder = h.encoder FROM {new} AS h"
            " WHERE h.stored = boundary.row_hash AND h.cursor = boundary.cursor"
        )


def _take_in_boundary(
    connection: DuckDBPyConnection, delivered: Sequence[DeliveredBatch], bound: CursorValue | None
) -> None:
    """Add the delivered rows at or above the bound with their number.

    An unkeyed row's hash is that of its line, newline included. The table takes the cursor's type from the key files.
    """
    above = "cursor IS NOT NULL" if bound is None else f"cursor >= {duckdb_literal(bound)}"
    for batch in delivered:
        keys, lines = _quoted(batch.keys), _quoted(batch.lines)
        if first_value(connection, f"SELECT 1 FROM read_parquet('{keys}') WHERE {above} LIMIT 1") is None:
            continue
        rows = (
            "SELECT unhex(md5(line || chr(10))) AS row_hash, cursor, count(*)::BIGINT AS rows,"
            f" coalesce((SELECT encoder FROM {_versions([batch])}), 1) AS encoder"
            " FROM (SELECT cursor, file_row_number AS place"
            f" FROM read_parquet('{keys}', file_row_number = true) WHERE {above})"
            " JOIN (SELECT unnest(lines) AS line, unnest(range(len(lines))) AS place"
            f" FROM (SELECT string_split(content, chr(10)) AS lines FROM read_text('{lines}'))) USING (place)"
            " GROUP BY ALL"
        )
        start = "INSERT INTO" if _has_boundary(connection, _MERGING) else "CREATE TABLE"
        connection.execute(f"{start} {_MERGING}.boundary {'AS ' if start == 'CREATE TABLE' else ''}{rows}")


def _has_boundary(connection: DuckDBPyConnection, catalog: str) -> bool:
    query = f"SELECT 1 FROM duckdb_tables() WHERE database_name = '{catalog}' AND table_name = 'boundary'"
    return first_value(connection, query) is not None


def first_value(connection: DuckDBPyConnection, query: str) -> Any:
    """The first value of a query, None without rows; all rows are taken, or the connection would stay busy."""
    rows = connection.execute(query).fetchall()
    return rows[0][0] if rows else None


def _files(delivered: Sequence[DeliveredBatch]) -> str:
    return "[" + ", ".join(f"'{_quoted(batch.keys)}'" for batch in delivered) + "]"


def _values(delivered: Sequence[DeliveredBatch]) -> str:
    return ", ".join(f"('{_quoted(batch.keys)}', {batch.batch}, {batch.sequence})" for batch in delivered)


def _versions(delivered: Sequence[DeliveredBatch]) -> str:
    """`file` and `encoder`: the version of the row hashes in each key file, as the file's own metadata names it."""
    return (
        "(SELECT file_name AS file, decode(value)::INTEGER AS encoder"
        f" FROM parquet_kv_metadata({_files(delivered)}) WHERE decode(key) = 'encoder')"
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
