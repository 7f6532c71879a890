"""Anything with a SQLAlchemy dialect as the warehouse, rows turned into Arrow a few thousand at a time.

MariaDB, MySQL and SQLite are tested; others may work. Drivers of this kind say little about types, so that `describe`
reads the first rows of a query where the driver does not say enough; a type found there holds for the whole stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.values import as_utc
from warehouse_sync.warehouses import python_values
from warehouse_sync.warehouses.base import (
    Engine,
    Source,
    dialect_of_url,
    hinted,
    line_naming,
    not_installed,
    stored_schema,
)
from warehouse_sync.warehouses.cancel import Canceller
from warehouse_sync.warehouses.duckdb_errors import explain
from warehouse_sync.warehouses.feed import Feed, FinishedFeeds
from warehouse_sync.warehouses.sqlalchemy_errors import connecting, reading

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.engine import Engine as SqlAlchemyEngine

BATCH_ROWS = 2000
SAMPLE_ROWS = 1000
"""Rows that decide about the type of a column of which the driver says too little."""

_SESSIONS: dict[str, tuple[str, ...]] = {
    "mysql": ("SET time_zone = '+00:00'", "SET SESSION TRANSACTION READ ONLY"),
    "mariadb": ("SET time_zone = '+00:00'", "SET SESSION TRANSACTION READ ONLY"),
    "postgresql": (
        "SET TIME ZONE 'UTC'",
        "SET extra_float_digits = 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    ),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""By dialect, what makes a session read-only, its zone UTC, and its numbers whole."""

_PLACEHOLDER = "warehouse_sync_model"


class SqlAlchemyWarehouse:
    """`url` is a SQLAlchemy URL. Raises WarehouseError when the driver is missing or there is no connection."""

    folds_upper = False

    def __init__(self, url: str, engine: Engine) -> None:
        self._engine = engine
        self.dialect = dialect_of_url(url)
        self._database = _database(url)
        self.place = self._database.url.render_as_string(hide_password=True).partition("?")[0]
        self._open: tuple[Feed, CursorResult[Any]] | None = None
        self._exhausted = True
        self._described: pa.Schema | None = None
        self._connection: Connection | None = None
        self._was_open = False
        self._spent = FinishedFeeds()
        self._canceller = Canceller()
        self._samples: dict[str, tuple[Any, ...]] = {}
        self._session()

    def label(self, model: str) -> None:
        """See `Warehouse.label`; there is no common place for such a name. Another model starts with no samples."""
        self._samples = {}

    def quote(self, name: str) -> str:
        """See `Warehouse.quote`."""
        dialect = self._database.dialect
        quoted = dialect.identifier_preparer.quote_identifier(name)
        # It is written for drivers that look for parameters in a statement; ours have none (`_options`).
        return quoted.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else quoted

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`; but up to SAMPLE_ROWS rows are read where the driver says too little."""
        import pyarrow as pa

        description = self._fetch(sql, 0)[0]
        fields = [self._declared(item) for item in description]
        if any(field is None for field in fields):
            description, rows = self._fetch(sql, SAMPLE_ROWS)
            columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
            for item, values in zip(description, columns, strict=True):
                # All queries of a model count: a window whose values are all NULL must not change a column's type.
                self._samples[item[0]] = (*self._samples.get(item[0], ()), *values)
            fields = [
                field or python_values.field_of(item[0], self._samples[item[0]])
                for field, item in zip(fields, description, strict=True)
            ]
        names = [item[0] for item in description]
        found = [field or self._rare(sql, name) for name, field in zip(names, fields, strict=True)]
        own = self._own_names(sql, names)
        self._described = pa.schema([field.with_name(name) for name, field in zip(own, found, strict=True)])
        return self._described

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`; a cursor on the server where the driver has one."""
        from sqlalchemy.exc import SQLAlchemyError

        # What was described once decides for the next stream only: another query may have the same names.
        schema, self._described = self._described, None
        if schema is None or [item[0] for item in self._fetch(sql, 0)[0]] != schema.names:
            schema, self._described = self.describe(sql), None
        self._stop_reading()
        try:
            result = self._session().exec_driver_sql(sql, execution_options=_options(stream=True))
        except SQLAlchemyError as error:
            raise self._failed(error) from None
        self._exhausted = False
        feed = Feed(self._engine, stored_schema(schema), self._batches(result, schema))
        self._open = feed, result
        return feed.source

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        from sqlalchemy.exc import SQLAlchemyError

        self._stop_reading()
        try:
            result = self._session().exec_driver_sql(sql, execution_options=_options())
            cursor = result.cursor
            declared = self._declared(cursor.description[0]) if cursor and cursor.description else None
            value = result.scalar()
        except SQLAlchemyError as error:
            raise self._failed(error) from None
        # MySQL's zero dates come as text: of all it has, they are no moment.
        is_no_moment = isinstance(value, str) and declared is not None and python_values.is_time(declared.type)
        return None if is_no_moment else value

    def now(self) -> datetime:
        """See `Warehouse.now`; this machine's where the session's zone is not known."""
        if self._database.dialect.name not in _SESSIONS:
            return datetime.now(UTC)
        found = self.scalar("SELECT CURRENT_TIMESTAMP")
        moment = datetime.fromisoformat(found) if isinstance(found, str) else found
        return as_utc(moment)

    def check(self) -> str:
        """See `Warehouse.check`."""
        self._session()
        version = self._database.dialect.server_version_info or ()
        name = f"{self._database.dialect.name} {'.'.join(str(part) for part in version)}".strip()
        known = self._database.dialect.name in _SESSIONS
        return f"{name}, {self.place}, " + ("read-only" if known else "not tested with this kind of database")

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`."""
        failure = self._open[0].failure if self._open else None
        return self._failed(failure) if failure is not None else explain(error, "the embedded engine")

    def interrupt(self) -> None:
        """See `Warehouse.interrupt`; by the means of the driver, or of its server."""
        connection = self._connection
        if connection is None:
            return
        driver: Any = connection.connection.dbapi_connection
        # psycopg's plain `cancel` lets no other thread run while its server is silent.
        names = ("interrupt", "cancel_safe", "cancel")
        own = next((getattr(driver, name) for name in names if hasattr(driver, name)), None)
        if own is not None:
            self._canceller.do(own)
        elif self.dialect == "mysql":
            self._canceller.do(partial(self._kill, driver.thread_id()))

    def close(self) -> None:
        """See `Warehouse.close`."""
        self._stop_reading()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._database.dispose()

    def _batches(self, result: CursorResult[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for rows in result.partitions(BATCH_ROWS):
            yield python_values.batch_of(rows, schema)
        self._exhausted = True

    def _declared(self, item: Any) -> pa.Field | None:
        """The field of a column as its driver describes it; None when that is not enough."""
        return mysql_field(item) if self.dialect == "mysql" else None

    def _rare(self, sql: str, name: str) -> pa.Field:
        """The field of a column that is NULL in all of the first rows; text when it is NULL everywhere."""
        quoted = self.quote(name)
        _, rows = self._fetch(f"SELECT {quoted} FROM (\n{sql}\n) AS model WHERE {quoted} IS NOT NULL", 1)
        return python_values.field_of(name, [row[0] for row in rows]) or python_values.untold(name)

    def _own_names(self, sql: str, names: list[str]) -> list[str]:
        """The columns as the query itself names them. SQLite calls the second `id` of a subquery `id:1`: where a name
        looks like that, the query is begun as it is, which tells its names."""
        from sqlalchemy.exc import SQLAlchemyError

        known = {name.casefold() for name in names}
        odd = (name.rpartition(":") for name in names)
        if self.dialect != "sqlite" or not any(n.isdecimal() and first.casefold() in known for first, _, n in odd):
            return names
        try:
            result = self._session().exec_driver_sql(sql, execution_options=_options(stream=True))
        except SQLAlchemyError as error:
            raise self._failed(error) from None
        own = list(result.keys())
        result.close()
        return own

    def _fetch(self, sql: str, rows: int) -> tuple[Any, list[Any]]:
        """The description of a query's columns, and its first rows."""
        from sqlalchemy.exc import SQLAlchemyError

        self._stop_reading()
        try:
            text = _first(sql, rows, self._database)
            result = self._session().exec_driver_sql(text, execution_options=_options())
            cursor = result.cursor
            return (cursor.description if cursor else ()), list(result.all())
        except SQLAlchemyError as error:
            explained = self._failed(error, skipped=text.partition(sql)[0].count("\n"))
            explained.line = explained.line or line_naming(sql, explained.message, self.dialect)
            raise explained from None

    def _session(self) -> Connection:
        """The connection, which is opened anew when it was lost."""
        from sqlalchemy.exc import SQLAlchemyError

        if self._connection is None:
            try:
                self._connection = self._database.connect()
            except (SQLAlchemyError, OSError) as error:
                why = connecting(error, self.place)
                raise ConnectionLost(why.message, hint=why.hint) if self._was_open else why from None
            self._was_open = True
        return self._connection

    def _failed(self, error: Exception, skipped: int = 0) -> WarehouseError:
        explained = error if isinstance(error, WarehouseError) else reading(error, self.place, skipped)
        if isinstance(explained, ConnectionLost):
            self._forget_reading()
            self._drop_connection()
        elif not self._usable():
            self._drop_connection()
        return explained

    def _usable(self) -> bool:
        """Start a new transaction; false when the connection does not take part in that."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._end_stream()
            if self._connection is not None:
                self._connection.rollback()
        except SQLAlchemyError:
            return False
        return True

    def _stop_reading(self) -> None:
        """Ready for the next statement: nothing of the last one is left."""
        self._end_stream()
        self._spent.close()

    def _end_stream(self) -> None:
        """End the last stream, at whatever row it is, and its transaction."""
        if self._open is None:
            return
        feed, result = self._open
        self._open = None
        self._spent.add(feed)
        cursor = result.cursor
        if cursor is not None and not self._exhausted:
            if self.dialect == "mysql" and self._connection is not None:
                # Its drivers read the rest of a result before they close it; there is none when its query is killed.
                self._kill(self._connection.connection.dbapi_connection.thread_id())  # type: ignore[union-attr]
            with suppress(self._database.dialect.loaded_dbapi.Error):  # What was killed says so once.
                cursor.close()
        result.close()
        if self._connection is not None:
            self._connection.rollback()

    def _forget_reading(self) -> None:
        """Let go of a stream whose connection is gone."""
        if self._open is None:
            return
        feed, result = self._open
        self._open = None
        self._spent.add(feed)
        rest: Any = getattr(result.cursor, "_result", None)
        if hasattr(rest, "unbuffered_active"):
            # PyMySQL's finalizers would go on reading from the closed connection, and say so on stderr.
            rest.unbuffered_active = False

    def _kill(self, thread: int) -> None:
        """End what that thread of MySQL's runs, over a second connection."""
        with self._database.connect() as other:
            other.exec_driver_sql(f"KILL QUERY {int(thread)}")

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def mysql_field(item: Any) -> pa.Field | None:
    """A column of MySQL's protocol; None for types that several kinds of value share, such as text and blobs."""
    import pyarrow as pa

    name, code, _, _, length, scale = item[:6]
    if code in (0, 246):
        if scale is None or length is None:
            return None
        precision = length - (1 if scale else 0)
        return pa.field(name, pa.decimal128(precision, scale)) if precision <= 38 else python_values.numbers(name)
    if code == 245:
        return hinted(name, pa.string(), "JSON")
    types = {
        **dict.fromkeys((1, 2, 3, 9, 13), pa.int64()),
        8: pa.decimal128(20, 0),
        **dict.fromkeys((4, 5), pa.float64()),
        7: pa.timestamp("us", tz="UTC"),
        12: pa.timestamp("us"),
        10: pa.date32(),
        11: pa.duration("us"),
    }
    return pa.field(name, types[code]) if code in types else None


def _database(url: str) -> SqlAlchemyEngine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    try:
        parsed = make_url(url)
        database = create_engine(parsed, poolclass=NullPool, hide_parameters=True)
    except NoSuchModuleError:
        scheme = url.partition(":")[0]
        raise WarehouseError(
            f"SQLAlchemy knows no dialect `{scheme}`", hint="install the package that brings it beside this program."
        ) from None
    except ImportError as error:
        raise not_installed("sqlalchemy", error.name or "the driver", "the driver that the URL names") from None
    except ArgumentError:
        raise WarehouseError(
            "`warehouse.url` is no SQLAlchemy URL", hint="dialect+driver://user:password@host/db"
        ) from None
    path = (parsed.get_backend_name() == "sqlite" and parsed.database) or ":memory:"
    if not path.startswith((":memory:", "file:")) and not Path(path).is_file():
        raise WarehouseError(f"warehouse file {path} does not exist", hint="check `warehouse.url`.")
    statements = _SESSIONS.get(parsed.get_backend_name(), ())

    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        if parsed.get_backend_name() == "sqlite":
            # SQLite takes any bytes for text; a row that is no UTF-8 is refused by itself.
            connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")

    event.listen(database, "connect", prepare)
    return database


def _options(*, stream: bool = False) -> dict[str, Any]:
    """The SQL goes to the driver as it is: `%` and `:` in it are no parameters."""
    return {"no_parameters": True} | ({"stream_results": True, "yield_per": BATCH_ROWS} if stream else {})


def _first(sql: str, rows: int, database: SqlAlchemyEngine) -> str:
    """The query's first rows, with the dialect's own word for LIMIT."""
    import sqlalchemy as sa

    # Not as a table: some dialects quote every name.
    few = sa.select(sa.text("*")).select_from(sa.text(_PLACEHOLDER)).limit(rows)
    text = str(few.compile(database, compile_kwargs={"literal_binds": True}))
    return text.replace(_PLACEHOLDER, f"(\n{sql}\n) AS model")


__all__ = ["BATCH_ROWS", "SAMPLE_ROWS", "SqlAlchemyWarehouse", "mysql_field"]
