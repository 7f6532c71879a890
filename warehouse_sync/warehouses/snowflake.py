"""Snowflake as the warehouse, over its connector: Arrow result chunks, streamed, in a session whose zone is UTC.

QUERY_TAG names pipeline, run and model, so that the account's query history shows what a sync costs. Snowflake has no
read-only session: that a model only reads is held by the check that it is one query, and by the role's grants.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.values import as_utc
from warehouse_sync.warehouses import snowflake_errors as errors
from warehouse_sync.warehouses import snowflake_types as types
from warehouse_sync.warehouses.base import Engine, Source, line_naming, name_literal, not_installed, stored_schema
from warehouse_sync.warehouses.cancel import Canceller
from warehouse_sync.warehouses.duckdb_errors import explain
from warehouse_sync.warehouses.feed import Feed, FinishedFeeds
from warehouse_sync.warehouses.snowflake_login import arguments

if TYPE_CHECKING:
    import pyarrow as pa


class SnowflakeWarehouse:
    """`settings` are the YAML's keys. Raises WarehouseError when there is no session."""

    dialect = "snowflake"
    folds_upper = True

    def __init__(self, settings: Mapping[str, Any], engine: Engine, label: str = "") -> None:
        self.place = str(settings["account"])
        self._settings, self._engine = settings, engine
        self._label = settings.get("query_tag") or label or "warehouse-sync"
        self._own_tag = settings.get("query_tag") is not None
        self._connection: Any = None
        self._reading: tuple[Any, Feed] | None = None
        self._spent = FinishedFeeds()
        self._canceller = Canceller()
        self._connect()

    def label(self, model: str) -> None:
        """See `Warehouse.label`; a `query_tag` of the YAML's stays as it is."""
        if not self._own_tag:
            tag = f"{self._label} model {model}".replace("\\", "\\\\").replace("'", "''")
            self._execute(f"ALTER SESSION SET QUERY_TAG = '{tag}'").close()

    def quote(self, name: str) -> str:
        """See `Warehouse.quote`."""
        return name_literal(name)

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`; Snowflake compiles the query, and does not run it."""
        import pyarrow as pa

        return pa.schema([column.field for column in self._columns(sql)])

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`; one chunk of the result at a time."""
        import pyarrow as pa

        columns = self._columns(sql)
        plain = all(column.cast == name_literal(column.field.name) for column in columns)
        casts = ", ".join(f"{column.cast} AS {name_literal(column.field.name)}" for column in columns)
        cursor = self._execute(sql if plain else f"SELECT {casts} FROM (\n{sql}\n) AS model")
        schema = stored_schema(pa.schema([column.field for column in columns]))
        feed = Feed(self._engine, schema, _batches(cursor, schema))
        self._reading = cursor, feed
        return feed.source

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        from snowflake.connector.errors import Error

        cursor = self._execute(sql)
        try:
            row = cursor.fetchone()
        except Error as error:
            raise self._failed(error) from None
        finally:
            cursor.close()
        return None if row is None else row[0]

    def now(self) -> datetime:
        """See `Warehouse.now`."""
        moment: datetime = self.scalar("SELECT CURRENT_TIMESTAMP()")
        return as_utc(moment)

    def check(self) -> str:
        """See `Warehouse.check`."""
        version, here = self.scalar("SELECT CURRENT_VERSION()"), self._connection
        what = [f"{key} {getattr(here, key, None) or 'none'}" for key in ("role", "warehouse", "database", "schema")]
        return f"Snowflake {version}, account {self.place} as {self._settings.get('user')}, {', '.join(what)}"

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`."""
        failure = self._reading[1].failure if self._reading else None
        return self._failed(failure) if failure is not None else explain(error, "the embedded engine")

    def interrupt(self) -> None:
        """See `Warehouse.interrupt`; a second statement of the session cancels all that it runs, as Snowflake's page
        "Canceling statements" has it."""
        connection = self._connection
        if connection is not None:
            cancel = f"SELECT SYSTEM$CANCEL_ALL_QUERIES({connection.session_id})"
            self._canceller.do(lambda: connection.cursor().execute(cancel).close())

    def close(self) -> None:
        """See `Warehouse.close`."""
        self._stop_reading()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _columns(self, sql: str) -> list[types.ColumnCast]:
        from snowflake.connector.errors import Error

        self._stop_reading()
        try:
            with self._session().cursor() as cursor, _signals_passed_on():
                described = cursor.describe(sql)
        except Error as error:
            explained = self._failed(error)
            explained.line = explained.line or line_naming(sql, explained.message, self.dialect)
            raise explained from None
        except KeyError:
            raise WarehouseError(
                "the query returns a column whose type this version of Snowflake's connector does not know",
                hint="CAST it in the model, or update `snowflake-connector-python`.",
            ) from None
        return [types.column_of(meta) for meta in described or ()]

    def _execute(self, sql: str) -> Any:
        from snowflake.connector.errors import Error

        self._stop_reading()
        cursor = self._session().cursor()
        try:
            with _signals_passed_on():
                return cursor.execute(sql)
        except Error as error:
            cursor.close()
            raise self._failed(error) from None

    def _session(self) -> Any:
        """The session, which is opened anew when it was lost."""
        if self._connection is None:
            try:
                self._connect()
            except WarehouseError as error:
                raise ConnectionLost(error.message, hint=error.hint) from None
        return self._connection

    def _connect(self) -> None:
        try:
            from snowflake import connector
            from snowflake.connector.errors import Error
        except ImportError:
            raise not_installed("snowflake", "snowflake.connector", "'warehouse-sync[snowflake]'") from None
        given = arguments(self._settings, self._label, int(connector.__version__.partition(".")[0]))
        tries = int(self._settings.get("connect_retries", 1)) + 1
        for attempt in range(1, tries + 1):
            try:
                self._connection = connector.connect(**given)
            except Error as error:
                # A key, a second factor or a password that was refused once is refused again, and locks the user.
                if attempt == tries or not errors.may_pass(error):
                    raise errors.connecting(error, self.place) from None
            else:
                return

    def _failed(self, error: Exception) -> WarehouseError:
        from snowflake.connector.errors import Error

        explained = error if isinstance(error, WarehouseError) else errors.reading(error, self.place)
        if isinstance(explained, ConnectionLost):
            if self._reading is not None:
                self._spent.add(self._reading[1])
            connection, self._reading, self._connection = self._connection, None, None
            # What is gone cannot say goodbye; the connector would complain at the end of the process.
            if connection is not None:
                with suppress(Error, OSError):
                    connection.close(retry=False)
        return explained

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            cursor, feed = reading
            self._spent.add(feed)
            cursor.close()
        self._spent.close()


@contextmanager
def _signals_passed_on() -> Iterator[None]:
    """Connector 4 catches SIGINT itself while it waits, and cancels that one statement: whoever else waits for the
    signal is told. Raises WarehouseError then."""
    try:
        yield
    except KeyboardInterrupt:
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, None)
        raise errors.cancelled() from None


def _batches(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    # Without the flag one result can mix nanoseconds and microseconds.
    for table in cursor.fetch_arrow_batches(force_microsecond_precision=True):
        yield from types.conform(table, schema)
