"""PostgreSQL as the warehouse, over ADBC: COPY in binary, straight into Arrow.

Each model is read in one read-only, repeatable-read transaction, in a session whose zone is UTC. Nothing is bound:
a parameter would cost ADBC its COPY and with it the streaming. What the driver cannot decode is cast by the server
(`postgres_types`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.values import as_utc
from warehouse_sync.warehouses import postgres_errors as errors
from warehouse_sync.warehouses import postgres_types as types
from warehouse_sync.warehouses.base import Engine, Source, name_literal, not_installed, text_literal
from warehouse_sync.warehouses.cancel import Canceller
from warehouse_sync.warehouses.duckdb_errors import explain
from warehouse_sync.warehouses.feed import Feed, FinishedFeeds

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 1_000_000
"""Size of a record batch; the driver's own default is 16 times that, and not faster."""

_CONNINFO = ("host", "port", "user", "password", "dbname", "sslmode", "sslcert", "sslkey", "sslrootcert")
_LONGEST_NAME = 63
_SESSION = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO'",
    "SET IntervalStyle = 'postgres'",
    # All digits that a number has: as text, floats stand in arrays and in hashes.
    "SET extra_float_digits = 3",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
)
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_REDSHIFT_SESSION = ("SET TimeZone = 'UTC'", "SET DateStyle = 'ISO'")
_REDSHIFT_BEGIN = "BEGIN READ ONLY"
"""Of what PostgreSQL has learned since 8.0 Redshift knows little; its transactions are serializable."""


class PostgresWarehouse:
    """`settings` are the YAML's keys. Raises WarehouseError when there is no connection.

    Redshift is told by its version, and asked for nothing that it does not have; its `dialect` is `redshift`.
    """

    folds_upper = False

    def __init__(self, settings: Mapping[str, Any], engine: Engine, label: str = "") -> None:
        self.place = f"{settings['host']}:{settings['port']}/{settings['dbname']}"
        self._settings, self._engine, self._label = settings, engine, label or "warehouse-sync"
        self.dialect = "postgres"
        self._connection: Any = None
        self._reading: _Reading | None = None
        self._spent = FinishedFeeds()
        self._canceller = Canceller()
        self._connect()

    def label(self, model: str) -> None:
        """See `Warehouse.label`; `pg_stat_activity` shows it as `application_name`, Redshift as a query's label."""
        name = "query_group" if self._is_redshift else "application_name"
        self._run(f"SET {name} = {text_literal(f'{self._label} {model}'[:_LONGEST_NAME])}")

    def quote(self, name: str) -> str:
        """See `Warehouse.quote`."""
        return name_literal(name)

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`; the server prepares the query, and does not run it."""
        import pyarrow as pa

        return pa.schema([column.field for column in self._columns(sql)])

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`; one transaction, one COPY, batches of about a megabyte."""
        import adbc_driver_manager as adbc

        columns = self._columns(sql)
        casts = ", ".join(f"{column.cast} AS {name_literal(column.field.name)}" for column in columns)
        self._run(_REDSHIFT_BEGIN if self._is_redshift else _BEGIN)
        try:
            self._reading = _Reading(self._cursor(), f"SELECT {casts} FROM (\n{sql}\n) AS model")
        except (adbc.Error, OSError) as error:
            raise self._failed(error) from None
        mends = ", ".join(f"{column.mend} AS {name_literal(column.field.name)}" for column in columns)
        return self._reading.into(self._engine, mends)

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        import adbc_driver_manager as adbc

        with self._cursor() as cursor:
            try:
                cursor.execute(sql)
                found = cursor.fetch_arrow_table()
            except (adbc.Error, OSError) as error:
                raise self._failed(error) from None
        if not found.num_rows:
            return None
        try:
            value = found.column(0)[0].as_py()
        except (OverflowError, ValueError):
            return None  # Infinity, or a year that Python's calendar does not have.
        if value is None or getattr(found.field(0).type, "type_name", "") != "numeric":
            return value
        number = Decimal(value)  # numeric comes as its digits.
        return number if number.is_finite() else None

    def now(self) -> datetime:
        """See `Warehouse.now`."""
        moment: datetime = self.scalar("SELECT getdate()" if self._is_redshift else "SELECT clock_timestamp()")
        return as_utc(moment)

    def check(self) -> str:
        """See `Warehouse.check`."""
        version = self.scalar("SELECT current_setting('server_version')")
        user, path = self.scalar("SELECT current_user::text"), self.scalar("SELECT current_setting('search_path')")
        name = "Redshift" if self._is_redshift else f"PostgreSQL {version.partition(' ')[0]}"
        return f"{name}, {self.place} as {user}, search_path {path}, read-only"

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`."""
        failure = self._reading.failure if self._reading else None
        return self._failed(failure) if failure is not None else explain(error, "the embedded engine")

    def interrupt(self) -> None:
        """See `Warehouse.interrupt`; the server is asked to cancel, over a connection of its own."""
        connection = self._connection
        if connection is not None:
            self._canceller.do(connection.adbc_cancel)

    def close(self) -> None:
        """See `Warehouse.close`."""
        self._stop_reading()
        self._disconnect()

    def _disconnect(self) -> None:
        self._drop_reading()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _columns(self, sql: str) -> list[types.ColumnCast]:
        import adbc_driver_manager as adbc

        self._stop_reading()
        with self._cursor() as cursor:
            try:
                schema = cursor.adbc_execute_schema(sql)
            except adbc.Error as error:
                raise self._failed(error) from None
        return [types.column_of(field) for field in schema]

    def _connect(self) -> None:
        try:
            import adbc_driver_manager as adbc
            from adbc_driver_manager import dbapi as adbc_dbapi
            from adbc_driver_postgresql import dbapi
        except ImportError:
            raise not_installed("postgres", "adbc_driver_postgresql", "'warehouse-sync[postgres]'") from None
        # The driver would catch SIGINT itself while it waits, cancel that one statement, and tell nobody.
        driver: Any = adbc_dbapi
        driver._blocking_call = _call
        try:
            self._connection = dbapi.connect(_conninfo(self._settings, self._label), autocommit=True)
        except adbc.Error as error:
            raise errors.connecting(error, self.place) from None
        try:
            self._prepare_session()
        except WarehouseError:
            self.close()
            raise

    def _prepare_session(self) -> None:
        role, schema = self._settings.get("role"), self._settings.get("schema")
        version = self.scalar("SELECT version()")
        if not isinstance(version, str):
            raise WarehouseError(
                f"PostgreSQL at {self.place} quotes the names of its types, so that the driver knows none of them",
                hint="`quote_all_identifiers` is on: ALTER ROLE … SET quote_all_identifiers = off, for the user of the"
                " sync.",
            )
        is_redshift = "Redshift" in version
        self.dialect = "redshift" if is_redshift else "postgres"
        for statement in _REDSHIFT_SESSION if is_redshift else _SESSION:
            self._run(statement)
        if self._limit is not None:
            self._run(f"SET statement_timeout = {ceil(self._limit.total_seconds() * 1000)}")
        if role:
            try:
                self._run(f"SET ROLE {name_literal(role)}")
            except WarehouseError:
                hint = f"`warehouse.role` is {role}: it has to exist, and to be granted to the user."
                raise WarehouseError(f"PostgreSQL at {self.place} does not take this role", hint=hint) from None
        path = self._settings.get("search_path")
        if not path and schema:
            if not self.scalar(f"SELECT count(*) FROM pg_namespace WHERE nspname = {text_literal(schema)}"):
                raise WarehouseError(
                    f"PostgreSQL at {self.place} has no schema {schema}, or {schema} is hidden from this user",
                    hint="check `warehouse.schema` (case counts), and that USAGE on it is granted.",
                )
            path = f"{name_literal(schema)}, public"
        if path:
            self.scalar(f"SELECT set_config('search_path', {text_literal(path)}, false)")

    @property
    def _limit(self) -> timedelta | None:
        limit: timedelta | None = self._settings.get("statement_timeout")
        return limit

    @property
    def _is_redshift(self) -> bool:
        return self.dialect == "redshift"

    def _cursor(self) -> Any:
        """A cursor of the connection, which is opened anew when it was lost."""
        if self._connection is None:
            try:
                self._connect()
            except WarehouseError as error:
                # It was there before: the server may be on its way back.
                raise ConnectionLost(error.message, hint=error.hint) from None
        return self._connection.cursor()

    def _run(self, statement: str) -> None:
        import adbc_driver_manager as adbc

        with self._cursor() as cursor:
            try:
                cursor.execute(statement)
            except adbc.Error as error:
                raise self._failed(error) from None

    def _failed(self, error: Exception) -> WarehouseError:
        """The error in our words; its transaction is over. A connection that does not answer to that is lost."""
        explained = errors.reading(error, self.place, self._limit)
        if not isinstance(explained, ConnectionLost) and not self._answers():
            explained = errors.lost(self.place)
        if isinstance(explained, ConnectionLost):
            self._disconnect()
        return explained

    def _answers(self) -> bool:
        import adbc_driver_manager as adbc

        self._drop_reading()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
        except (adbc.Error, OSError):
            return False
        return True

    def _drop_reading(self) -> bool:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
            self._spent.add(reading.feed)
        return reading is not None

    def _stop_reading(self) -> None:
        """End the last model's stream, at whatever row it is, and its transaction."""
        import adbc_driver_manager as adbc

        if self._drop_reading() and self._connection is not None:
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
            except (adbc.Error, OSError):
                self._disconnect()
        self._spent.close()


class _Reading:
    """One COPY on its way into the engine. Raises the driver's errors."""

    def __init__(self, cursor: Any, sql: str) -> None:
        import adbc_driver_manager as adbc

        self._cursor, self._exhausted = cursor, False
        self.feed: Feed | None = None
        try:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            cursor.execute(sql)
            self._reader = cursor.fetch_record_batch()
        except (adbc.Error, OSError):
            cursor.close()
            raise

    def into(self, engine: Engine, select: str) -> Source:
        """The rows as a relation of the engine."""
        schema = types.plain_schema(self._reader.schema)
        self.feed = Feed(engine, schema, self._batches(schema), select)
        return self.feed.source

    @property
    def failure(self) -> Exception | None:
        """What the driver raised while the engine read."""
        return self.feed.failure if self.feed else None

    def close(self) -> None:
        """Let go of it; rows that nobody read are cancelled at the server."""
        import adbc_driver_manager as adbc

        try:
            if not self._exhausted:
                self._cursor.adbc_cancel()
            self._reader.close()
        except (adbc.Error, OSError):
            pass  # A broken connection has nothing left to cancel.
        self._cursor.close()

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            yield types.plain_batch(batch, schema)
        self._exhausted = True


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], _cancel: Any) -> Any:
    """The driver's way to call what may take long, without its handler of SIGINT: see `Warehouse.interrupt`."""
    return function(*args, **kwargs)


def _conninfo(settings: Mapping[str, Any], label: str) -> str:
    """libpq's connection string. The driver takes all text for UTF-8, whatever database, role or environment say."""
    values = {key: settings.get(key) for key in _CONNINFO}
    values |= {"client_encoding": "UTF8", "application_name": label[:_LONGEST_NAME]}
    values["connect_timeout"] = settings.get("connect_timeout")
    if settings.get("keepalives_idle"):
        values["keepalives_idle"] = settings["keepalives_idle"]
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in values.items() if value is not None)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
