"""Sessions that may write, for snapshots that lie in the warehouse: the reading ones, without what keeps them to it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import Engine, name_literal, text_literal
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse
from warehouse_sync.warehouses.postgres import PostgresWarehouse
from warehouse_sync.warehouses.snowflake import SnowflakeWarehouse

if TYPE_CHECKING:
    import pyarrow as pa

    from warehouse_sync.warehouses.snapshot_tables import Tables, Writer

_TAKEN = "warehouse_sync_taken"
_ROWS_A_STATEMENT = 5_000
"""Rows of one INSERT: Snowflake takes a megabyte of SQL. The Import API takes rows slower than this by far."""


class DuckDBWriter(DuckDBWarehouse):
    """The file, open for writing: nobody else may have it open in the meantime."""

    def _attach(self, path: str, alias: str | None, kind: str | None) -> None:
        self.connection.execute(f"ATTACH {text_literal(path)} AS {name_literal(alias or '')}")

    def execute(self, sql: str) -> None:
        """See `Writer.execute`."""
        self.scalar(sql)

    def load(self, tables: Tables, rows: pa.RecordBatchReader) -> str:
        """See `Writer.load`; a table of the session's own."""
        self.connection.register("warehouse_sync_rows", rows)
        self.execute(f"CREATE OR REPLACE TEMP TABLE {_TAKEN} AS FROM warehouse_sync_rows")
        self.connection.unregister("warehouse_sync_rows")
        return _TAKEN

    def unload(self, tables: Tables) -> None:
        """See `Writer.unload`; it goes with the session."""


class PostgresWriter(PostgresWarehouse):
    """A session of its own, whose transactions may write."""

    def _prepare_session(self) -> None:
        super()._prepare_session()
        if self.dialect != "postgres":
            return
        self._run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
        # Else every table that is there already is told as a notice.
        self._run("SET client_min_messages = 'warning'")

    def execute(self, sql: str) -> None:
        """See `Writer.execute`."""
        self._run(sql)

    def load(self, tables: Tables, rows: pa.RecordBatchReader) -> str:
        """See `Writer.load`; one COPY into a table of the session's own."""
        import adbc_driver_manager as adbc

        self._run(f"DROP TABLE IF EXISTS pg_temp.{_TAKEN}")
        with self._cursor() as cursor:
            try:
                cursor.adbc_ingest(_TAKEN, rows, mode="create", temporary=True)
            except (adbc.Error, OSError) as error:
                raise self._failed(error) from None
        self._run(f"ANALYZE pg_temp.{_TAKEN}")
        return f"pg_temp.{_TAKEN}"

    def unload(self, tables: Tables) -> None:
        """See `Writer.unload`; it goes with the session."""


class SnowflakeWriter(SnowflakeWarehouse):
    """A session of its own. A statement that makes or drops a table ends a transaction, so those stand outside."""

    def execute(self, sql: str) -> None:
        """See `Writer.execute`."""
        self._execute(sql).close()

    def load(self, tables: Tables, rows: pa.RecordBatchReader) -> str:
        """See `Writer.load`; a transient table beside the others, which a killed run leaves to be replaced."""
        self.execute(
            f"CREATE OR REPLACE TRANSIENT TABLE {tables.taken}"
            " (key_hash BINARY, row_hash BINARY, inserted_at TIMESTAMP_NTZ, batch NUMBER(18, 0))"
        )
        for batch in rows:
            for start in range(0, batch.num_rows, _ROWS_A_STATEMENT):
                values = _values(batch.slice(start, _ROWS_A_STATEMENT))
                self.execute(
                    f"INSERT INTO {tables.taken} SELECT TO_BINARY(column1, 'HEX'), TO_BINARY(column2, 'HEX'),"
                    f" NULLIF(column3, '')::TIMESTAMP_NTZ, column4 FROM VALUES {values}"
                )
        return tables.taken

    def unload(self, tables: Tables) -> None:
        """See `Writer.unload`."""
        # One that stays is replaced by the next merge.
        with suppress(WarehouseError):
            self.execute(f"DROP TABLE IF EXISTS {tables.taken}")


def _values(rows: pa.RecordBatch) -> str:
    """The rows as VALUES; they hold hashes, times and numbers, nothing of a person."""
    import duckdb

    with duckdb.connect() as engine:
        engine.register("rows", rows)
        ((text,),) = engine.execute(
            "SELECT string_agg(concat('(''', hex(key_hash), ''', ''', hex(row_hash), ''', ''', inserted_at::TIMESTAMP,"
            " ''', ', batch, ')'), ', ') FROM rows"
        ).fetchall()
    return str(text)


def writer(kind: str, settings: Mapping[str, Any], engine: Engine, label: str) -> Writer:
    """A writing session of a warehouse of that kind. Raises WarehouseError."""
    if kind == "duckdb":
        return DuckDBWriter(str(settings["path"]), engine, settings.get("token"))
    if kind == "postgres":
        return PostgresWriter(settings, engine, label)
    return SnowflakeWriter(settings, engine, label)


__all__ = ["writer"]
