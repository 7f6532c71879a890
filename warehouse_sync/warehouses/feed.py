"""Record batches of a driver, as a relation of the embedded engine.

The engine pulls the batches one at a time while its own query runs, so that no more than a few of them are in memory.
What the driver raises in between would come out of DuckDB as text; it is kept here as what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from warehouse_sync.warehouses.base import Engine, Source

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_NAME = "warehouse_rows"


class BrokenFeedError(Exception):
    """The stream broke; what broke it is in `Feed.failure`."""


class Feed:
    """The rows of one statement, read once; `source` is what the engine reads, `failure` what the driver raised."""

    def __init__(self, engine: Engine, schema: pa.Schema, batches: Iterator[pa.RecordBatch], select: str = "*") -> None:
        """`batches` all have `schema`; `select`, the DuckDB text between SELECT and FROM, mends what they hold."""
        import pyarrow as pa

        self.failure: Exception | None = None
        self._batches = batches
        self._connection: DuckDBPyConnection = engine.connect()
        self._connection.register(_NAME, pa.RecordBatchReader.from_batches(schema, self._watched()))
        relation = _NAME if select == "*" else f"(SELECT {select} FROM {_NAME})"
        self.source = Source(self._connection, relation, streams=True)

    def _watched(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except Exception as error:
            self.failure = error
            # Its text would travel through the engine's error, and may hold values of rows.
            raise BrokenFeedError from None

    def close(self) -> None:
        """Let go of the engine's side; the driver's is its owner's."""
        self._connection.close()


class FinishedFeeds:
    """Feeds whose driver is done, while somebody may still hold the engine's side: it goes with the next statement."""

    def __init__(self) -> None:
        self._feeds: list[Feed] = []

    def add(self, feed: Feed | None) -> None:
        """The driver is done with this one."""
        if feed is not None:
            self._feeds.append(feed)

    def close(self) -> None:
        """Let go of them all."""
        while self._feeds:
            self._feeds.pop().close()
