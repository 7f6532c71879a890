"""What every warehouse can do, and how a cursor value is written into its SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from warehouse_sync.errors import UsageError, WarehouseError
from warehouse_sync.values import CursorKind, CursorValue

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Engine:
    """Limits of the embedded DuckDB: memory (a DuckDB size text), threads (None: all cores), folder for what does not fit."""

    memory_limit: str = "512MB"
    threads: int | None = None
    spill: Path | None = None

    def connect(self) -> DuckDBPyConnection:
        """A private in-memory DuckDB within these limits, its session zone pinned to UTC."""
        import duckdb

        connection = duckdb.connect(":memory:")
        settings = {"memory_limit": self.memory_limit, "TimeZone": "UTC", "arrow_large_buffer_size": "true"}
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

    def describe(self, sql: str) -> pa.Schema:
        """Names and Arrow types of the query's columns, without reading a row; field metadata `duckdb_type` names the warehouse's type."""
        ...

    def open(self, sql: str) -> Source:
        """The query's rows, streamed with bounded memory."""
        ...

    def scalar(self, sql: str) -> Any:
        """The one value of a one-row, one-column query."""
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

    def close(self) -> None:
        """Let go of the connection, so that a `dbt build` can write."""
        ...


def open_warehouse(kind: str, settings: Mapping[str, Any], engine: Engine) -> Warehouse:
    """The warehouse of that kind. Raises WarehouseError when it cannot be reached, UsageError when its kind is not built yet."""
    if kind == "duckdb":
        from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

        return DuckDBWarehouse(str(settings["path"]), engine)
    raise UsageError(
        f"warehouse type `{kind}` is not built yet in this version",
        hint="`type: duckdb` is; the YAML is checked for the other types already.",
    )


def text_literal(text: str) -> str:
    """A DuckDB string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_literal(name: str) -> str:
    """A DuckDB identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def cursor_literal(value: CursorValue, dialect: str) -> str:
    """The value as a typed literal of that dialect (bound parameters would cost some drivers their fast path)."""
    from sqlglot import exp

    text = exp.Literal.string(value.text)
    if value.kind is CursorKind.INTEGER:
        return exp.Literal.number(value.text).sql(dialect=dialect)
    if value.kind is CursorKind.STRING:
        return text.sql(dialect=dialect)
    if value.kind is CursorKind.TIMESTAMP and dialect == "duckdb" and len(value.text.partition(".")[2]) > 6:
        return exp.cast(text, exp.DataType.Type.TIMESTAMP_NS).sql(dialect=dialect)
    types = {
        CursorKind.TIMESTAMP: exp.DataType.Type.TIMESTAMP,
        CursorKind.TIMESTAMPTZ: exp.DataType.Type.TIMESTAMPTZ,
        CursorKind.DATE: exp.DataType.Type.DATE,
    }
    return exp.cast(text, types[value.kind]).sql(dialect=dialect)
