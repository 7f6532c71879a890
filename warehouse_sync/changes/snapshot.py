"""What was delivered, by key: a DuckDB file per model, derived from the key files of delivered batches.

Merging writes a copy and renames it into place, so that readers never meet a lock and a kill leaves the old file. The
copy records the last merged delivery in the same transaction as its rows; merging again what is in it changes nothing.

    sent(key, key_hash, row_hash, inserted_at, batch)   one row a delivered key           (models with a unique_key)
    boundary(row_hash, cursor, rows)                    delivered rows from the bound on  (events without one)
    meta(merged, encoder)                               last merged delivery, version of the row hash
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.window import duckdb_literal
from warehouse_sync.checkpoints import reach
from warehouse_sync.errors import StateError
from warehouse_sync.values import CursorValue

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SNAPSHOT = "warehouse_sync_snapshot"
"""The catalog under which a snapshot is attached for reading."""

_MERGING = "warehouse_sync_merging"

_TABLES = """
CREATE TABLE {catalog}.sent (
  key VARCHAR, key_hash BLOB NOT NULL, row_hash BLOB NOT NULL, inserted_at TIMESTAMP, batch BIGINT
);
CREATE TABLE {catalog}.meta (merged BIGINT NOT NULL, encoder INTEGER NOT NULL);
INSERT INTO {catalog}.meta VALUES (0, {encoder});
"""


@dataclass(frozen=True)
class Delivered:
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


class Snapshot:
    """The snapshot of one model at `path`; a file that is not there is an empty snapshot."""

    def __init__(self, path: Path, encoder: int) -> None:
        self.path = path
        self.encoder = encoder

    def attach(self, connection: DuckDBPyConnection) -> int:
        """Attach the published file, read-only, as catalog `SNAPSHOT`; gives the last merged delivery.

        Raises StateError when the file is damaged.
        """
        import duckdb

        try:
            connection.execute(f"ATTACH '{_quoted(self.path)}' AS {SNAPSHOT} (READ_ONLY)")
            merged = first_value(connection, f"SELECT merged FROM {SNAPSHOT}.meta")
        except duckdb.Error:
            raise StateError(
                f"the snapshot {self.path} is damaged or no snapshot",
                hint="put it back from a copy of state.dir, or start over with `warehouse-sync state reset MODEL`.",
            ) from None
        return int(merged or 0)

    def boundary_to(self, connection: DuckDBPyConnection) -> str | None:
        """The greatest cursor among the rows that the attached file keeps of a model without key; None without any."""
        if not _has_boundary(connection, SNAPSHOT):
            return None
        last = first_value(connection, f"SELECT max(cursor)::VARCHAR FROM {SNAPSHOT}.boundary")
        return None if last is None else str(last)

    def merge(
        self, connection: DuckDBPyConnection, delivered: Sequence[Delivered], *, keyed: bool, bound: CursorValue | None
    ) -> int:
        """Take in delivered batches, in order; gives the last merged delivery. Batches taken in before are passed over.

        Of unkeyed rows only those at or above `bound`, where the model's cursor stands, can be read again and are kept.
        """
        fresh = self.path.with_suffix(".new")
        for leftover in (fresh, fresh.with_suffix(".new.wal")):
            leftover.unlink(missing_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            shutil.copyfile(self.path, fresh)
        empty = not fresh.exists()
        connection.execute(f"ATTACH '{_quoted(fresh)}' AS {_MERGING}")
        try:
            connection.execute("BEGIN")
            if empty:
                connection.execute(_TABLES.format(catalog=_MERGING, encoder=self.encoder))
            merged = int(first_value(connection, f"SELECT merged FROM {_MERGING}.meta") or 0)
            todo = [batch for batch in delivered if batch.sequence > merged]
            if todo:
                if keyed:
                    _take_in_keys(connection, todo)
                else:
                    _take_in_boundary(connection, todo, bound)
                connection.execute(f"UPDATE {_MERGING}.meta SET merged = ?", [todo[-1].sequence])
            if not keyed and bound is not None and _has_boundary(connection, _MERGING):
                connection.execute(f"DELETE FROM {_MERGING}.boundary WHERE cursor < {duckdb_literal(bound)}")
            connection.execute("COMMIT")
            connection.execute(f"CHECKPOINT {_MERGING}")
        finally:
            connection.execute(f"DETACH {_MERGING}")
        reach("snapshot_written")
        _publish(fresh, self.path)
        reach("snapshot_published")
        return todo[-1].sequence if todo else merged


def _take_in_keys(connection: DuckDBPyConnection, delivered: Sequence[Delivered]) -> None:
    """Replace the rows of every delivered key; of a key that was delivered twice the later delivery stands.

    Rows that the API refused were not delivered: a mended event goes, and a profile is compared with what arrived.
    """
    connection.execute("CREATE TEMP TABLE refused (batch BIGINT, key_hash BLOB)")
    refused = [(batch.batch, key_hash) for batch in delivered for key_hash in batch.refused]
    if refused:
        connection.executemany("INSERT INTO refused VALUES (?, ?)", refused)
    connection.execute(
        "CREATE TEMP TABLE taken AS SELECT * FROM"
        " (SELECT k.key, k.key_hash, k.row_hash, k.inserted_at, d.batch, d.sequence"
        f" FROM read_parquet({_files(delivered)}, filename = true) AS k"
        f" JOIN (VALUES {_values(delivered)}) AS d(file, batch, sequence) ON d.file = k.filename)"
        + (" ANTI JOIN refused USING (batch, key_hash)" if refused else "")
        + (
            " QUALIFY row_number() OVER (PARTITION BY key_hash ORDER BY sequence DESC) = 1"
            if len(delivered) > 1
            else ""
        )
    )
    connection.execute(f"DELETE FROM {_MERGING}.sent USING taken WHERE sent.key_hash = taken.key_hash")
    connection.execute(
        f"INSERT INTO {_MERGING}.sent SELECT key, key_hash, row_hash, inserted_at, batch FROM taken ORDER BY key_hash"
    )
    connection.execute("DROP TABLE taken")
    connection.execute("DROP TABLE refused")


def _take_in_boundary(
    connection: DuckDBPyConnection, delivered: Sequence[Delivered], bound: CursorValue | None
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
            "SELECT unhex(md5(line || chr(10))) AS row_hash, cursor, count(*)::BIGINT AS rows"
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


def _files(delivered: Sequence[Delivered]) -> str:
    return "[" + ", ".join(f"'{_quoted(batch.keys)}'" for batch in delivered) + "]"


def _values(delivered: Sequence[Delivered]) -> str:
    return ", ".join(f"('{_quoted(batch.keys)}', {batch.batch}, {batch.sequence})" for batch in delivered)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _publish(fresh: Path, path: Path) -> None:
    """Make the new file durable, then let it take the old one's place."""
    fresh.chmod(0o600)
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
