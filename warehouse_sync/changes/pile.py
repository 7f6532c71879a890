"""Narrow rows put aside while a stream passes: buffered, then kept by the engine, which spills them to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

WORK = "warehouse_sync_work"
"""The engine's own catalog for what is put aside; in memory, spilled under the engine's limit."""

_BUFFER = 1 << 17
"""Rows that are held before they go into the engine's table."""


class Pile:
    """A table `<WORK>.<name>` that grows by record batches. `connection` must not be the one that streams."""

    def __init__(self, connection: DuckDBPyConnection, name: str) -> None:
        self.relation = f"{WORK}.{name}"
        self.rows = 0
        self._connection = connection
        self._buffer: list[pa.RecordBatch] = []
        self._buffered = 0
        self._exists = False

    def add(self, batch: pa.RecordBatch) -> None:
        """Put the batch aside; all batches have the same columns."""
        self._buffer.append(batch)
        self._buffered += batch.num_rows
        self.rows += batch.num_rows
        if self._buffered >= _BUFFER:
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
        self._buffer, self._buffered = [], 0
