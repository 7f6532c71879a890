"""Narrow rows put aside while a stream passes: buffered, then kept by the engine, which spills them to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

WORK = "warehouse_sync_work"
"""The engine's own catalog for what is put aside; in memory, spilled under the engine's limit."""

_BUFFER, _BYTES = 1 << 17, 16_000_000
"""Rows, and bytes, that are held before they go into the engine's table: some rows have their lines with them."""


class SpillTable:
    """A table `<WORK>.<name>` that grows by record batches. `connection` must not be the one that streams."""

    def __init__(self, connection: DuckDBPyConnection, name: str) -> None:
        self.relation = f"{WORK}.{name}"
        self.rows = 0
        self._connection = connection
        self._buffer: list[pa.RecordBatch] = []
        self._buffered = self._bytes = 0
        self._exists = False

    def add(self, batch: pa.RecordBatch) -> None:
        """Put the batch aside; all batches have the same columns."""
        if not batch.num_rows:
            return
        self._buffer.append(batch)
        self._buffered += batch.num_rows
        self._bytes += batch.nbytes
        self.rows += batch.num_rows
        if self._buffered >= _BUFFER or self._bytes >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the engine."""
        import pyarrow as pa

        if not self._buffer:
            return
        self._connection.register("pile_chunk", pa.Table.from_batches(self._buffer))
        start = f"INSERT INTO {self.relation}" if self._exists else f"CREATE TABLE {self.relation} AS"
        self._connection.execute(f"{start} SELECT * FROM pile_chunk")
        self._connection.unregister("pile_chunk")
        self._exists = True
        self._buffer, self._buffered, self._bytes = [], 0, 0
