"""What every warehouse can do, and how a cursor value is written into its SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from warehouse_sync.errors import UsageError, WarehouseError
from warehouse_sync.values import CursorKind, CursorValue

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


NATIVE_TYPE = b"duckdb_type"
"""Field metadata: the warehouse's own name of the column's type, where Arrow's is not enough (JSON, UUID, TIMETZ)."""

NUMBER_AS_TEXT = "NUMERIC"
UNTOLD = b"untold"
"""In the metadata of a field whose type nobody told, and no value either: it stands as text."""
"""The native type of a text column whose texts are numbers: they are spliced into the line as they are."""


def hinted(name: str, type_: pa.DataType, hint: str) -> pa.Field:
    """A field whose native type says what its values are."""
    import pyarrow as pa

    return pa.field(name, type_, metadata={NATIVE_TYPE: hint.encode()})


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that the engine reads: types that only name themselves are what they are stored as."""
    import pyarrow as pa

    return pa.schema([pa.field(field.name, getattr(field.type, "storage_type", field.type)) for field in schema])


@dataclass(frozen=True)
class Engine:
    """Limits of the embedded DuckDB: memory (a DuckDB size text), threads (None: all), folder for what does not fit."""

    memory_limit: str = "512MB"
    threads: int | None = None
    spill: Path | None = None

    def connect(self) -> DuckDBPyConnection:
        """A private in-memory DuckDB within these limits, its session zone pinned to UTC."""
        import duckdb

        connection = duckdb.connect(":memory:")
        settings = {
            "memory_limit": self.memory_limit,
            "TimeZone": "UTC",
            "arrow_large_buffer_size": "true",
            # Nothing needs the rows in order, and in order the threads of a stream wait for each other.
            "preserve_insertion_order": "false",
        }
        if self.threads is not None:
            settings["threads"] = str(self.threads)
        if self.spill is not None:
            settings["temp_directory"] = str(self.spill)
        for name, value in settings.items():
            connection.execute(f"SET {name} = {text_literal(value)}")
        return connection


@dataclass(frozen=True)
class Source:
    """Rows that are ready to be read once: a DuckDB connection, and the text that stands after FROM in it.

    `streams` says that the rows come through an Arrow reader, whose size DuckDB cannot know.
    """

    connection: DuckDBPyConnection
    relation: str
    streams: bool


class Warehouse(Protocol):
    """A warehouse that was opened for reading. Every method raises WarehouseError in this program's own words."""

    dialect: str
    folds_upper: bool

    def label(self, model: str) -> None:
        """Name the model that the next statements are for, where the warehouse's own history shows such a name."""
        ...

    def quote(self, name: str) -> str:
        """The name of a column, as `describe` gave it, as an identifier of the warehouse's SQL."""
        ...

    def describe(self, sql: str) -> pa.Schema:
        """Names and Arrow types of the query's columns, without reading a row.

        Field metadata `duckdb_type` names the warehouse's type.
        """
        ...

    def open(self, sql: str) -> Source:
        """The query's rows, streamed with bounded memory."""
        ...

    def scalar(self, sql: str) -> Any:
        """The one value of a one-row, one-column query; None for no row, for a time outside the years 1 to 9999
        (infinite, BC, a zero date), and for a numeric that is no number."""
        ...

    def now(self) -> datetime:
        """The warehouse's clock, aware, in UTC."""
        ...

    def explain(self, error: Exception) -> WarehouseError:
        """An error of this warehouse's driver, or of the stream it feeds, in this program's words."""
        ...

    def check(self) -> str:
        """One line for `debug`: what was reached, and as whom."""
        ...

    def interrupt(self) -> None:
        """Let the running statement fail; called from another thread, also when there is none. Waits for nothing."""
        ...

    def close(self) -> None:
        """Let go of the connection, so that a `dbt build` can write."""
        ...


def open_warehouse(kind: str, settings: Mapping[str, Any], engine: Engine, label: str = "") -> Warehouse:
    """The warehouse of that kind, with the YAML's keys as `settings` (secrets as plain text).

    `label` names pipeline and run in the warehouse's own history. Raises WarehouseError when it cannot be reached or
    its driver is not installed, UsageError for a kind that does not exist.
    """
    if kind == "duckdb":
        from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

        return DuckDBWarehouse.of(settings, engine)
    if kind == "postgres":
        from warehouse_sync.warehouses.postgres import PostgresWarehouse

        return PostgresWarehouse(settings, engine, label)
    if kind == "snowflake":
        from warehouse_sync.warehouses.snowflake import SnowflakeWarehouse

        return SnowflakeWarehouse(settings, engine, label)
    if kind == "sqlalchemy":
        from warehouse_sync.warehouses.sqlalchemy import SqlAlchemyWarehouse

        return SqlAlchemyWarehouse(str(settings["url"]), engine)
    raise UsageError(f"warehouse type `{kind}` is unknown", hint="it is duckdb, snowflake, postgres or sqlalchemy.")


def not_installed(kind: str, module: str, extra: str) -> WarehouseError:
    """The driver of a warehouse is missing."""
    return WarehouseError(
        f"`type: {kind}` needs the Python package of `{module}`, which is not installed",
        hint=f"pip install {extra}",
    )


def dialect_of_url(url: str) -> str:
    """sqlglot's name of the dialect of a SQLAlchemy URL; empty for one that sqlglot does not know."""
    name = url.partition(":")[0].partition("+")[0].casefold()
    return _DIALECTS.get(name, "")


_SAME = (
    "bigquery",
    "clickhouse",
    "databricks",
    "duckdb",
    "mysql",
    "oracle",
    "redshift",
    "snowflake",
    "sqlite",
    "trino",
)
_DIALECTS = {**{name: name for name in _SAME}, "mariadb": "mysql", "mssql": "tsql", "postgresql": "postgres"}
"""SQLAlchemy's name of a dialect -> sqlglot's."""


def text_literal(text: str) -> str:
    """A DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_literal(name: str) -> str:
    """A DuckDB identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def line_naming(sql: str, message: str, dialect: str) -> int:
    """The first line (1-based) of the SQL with the name that a database's sentence is about; 0 without one.

    For databases that name what is missing, and not where: `'app.users'`, `"nope"`, `no such column: u.nope`.
    """
    from sqlglot.dialects.dialect import Dialect
    from sqlglot.errors import SqlglotError

    said = re.search(r"""(?:no such \w+:|with name) (\S+)|["'`]([^"'`]+)["'`]""", message)
    if said is None or "syntax error" in message:
        return 0
    name = (said.group(1) or said.group(2)).rpartition(".")[2].casefold()
    try:
        tokens = Dialect.get_or_raise(dialect).tokenize(sql)
    except SqlglotError:
        return 0
    named = (token.line for token in tokens if token.text.casefold() == name and token.token_type.name != "STRING")
    return next(named, 0)


def cursor_literal(value: CursorValue, dialect: str) -> str:
    """The value as a typed literal of that dialect, in full precision (bound parameters would cost some drivers their
    fast path)."""
    from sqlglot import exp

    text = exp.Literal.string(value.text)
    if value.kind is CursorKind.INTEGER:
        return value.text
    if value.kind is CursorKind.STRING:
        return text.sql(dialect=dialect)
    own = _LITERALS.get(dialect, {}).get(value.kind)
    if own is not None:
        return own(value.text)
    if value.kind is CursorKind.TIMESTAMP and dialect == "duckdb" and len(value.text.partition(".")[2]) > 6:
        return exp.cast(text, exp.DataType.Type.TIMESTAMP_NS).sql(dialect=dialect)
    types = {
        CursorKind.TIMESTAMP: exp.DataType.Type.TIMESTAMP,
        CursorKind.TIMESTAMPTZ: exp.DataType.Type.TIMESTAMPTZ,
        CursorKind.DATE: exp.DataType.Type.DATE,
    }
    return exp.cast(text, types[value.kind]).sql(dialect=dialect)


_LITERALS: dict[str, dict[CursorKind, Callable[[str], str]]] = {
    # TIMESTAMP is whatever the account maps it to, and the offset is read only behind a `T`.
    "snowflake": {
        CursorKind.TIMESTAMP: lambda text: f"'{text}'::TIMESTAMP_NTZ(9)",
        CursorKind.TIMESTAMPTZ: lambda text: f"'{text.replace(' ', 'T')}'::TIMESTAMP_TZ(9)",
    },
    # A cast to DATETIME rounds to the second; the session's zone is UTC, so that an offset is not needed.
    "mysql": {
        CursorKind.TIMESTAMP: lambda text: f"TIMESTAMP '{text}'",
        CursorKind.TIMESTAMPTZ: lambda text: f"TIMESTAMP '{text.removesuffix('+00:00')}'",
    },
    # SQLite has no types of time: they are text there.
    "sqlite": dict.fromkeys((CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ, CursorKind.DATE), text_literal),
}
"""Where sqlglot's typed literal would lose digits, or mean something else."""
