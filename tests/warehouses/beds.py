"""Test beds: one small, equal database per kind of warehouse, and how to ask it things."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse_sync.events.encode import EncodeOptions, compile_row
from warehouse_sync.values import EventType, Model
from warehouse_sync.warehouses.base import Engine, Source, Warehouse, open_warehouse

ENGINE = Engine(memory_limit="256MB", threads=2)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Bed:
    """A warehouse for tests. `execute` writes to it, as somebody else than the program."""

    kind: str
    name: str
    settings: Mapping[str, Any]
    execute: Callable[..., None]
    wide_rows: str
    """A query of 100,000 rows of `i` and half a kilobyte of text."""
    failing: str
    """A query that fails at a row whose value is `secretvalue`; '' where nothing does."""
    table_columns: str
    """Columns of the cursor table, typed: moment, aware, day, number, word."""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def open(self, **changed: Any) -> Warehouse:
        """The program's own way in."""
        return open_warehouse(self.kind, {**self.settings, **changed}, ENGINE, "warehouse-sync test")

    def values(self, moment: str, day: str, number: int) -> str:
        """A row of the cursor table. The word holds what literals like to lose."""
        back = "\\\\" if self.name in ("mariadb", "snowflake") else "\\"
        word = f"'it''s {back} ü {number}'"
        aware = f"'{moment}'" if self.name in ("mariadb", "sqlite") else f"'{moment}+00:00'"
        return f"'{moment}', {aware}, '{day}', {number}, {word}"


def rows(source: Source) -> list[tuple[Any, ...]]:
    """All rows of a source."""
    found: list[tuple[Any, ...]] = source.connection.sql(f"FROM {source.relation}").fetchall()
    return found


def table(source: Source) -> pa.Table:
    """All rows of a source, as Arrow."""
    return source.connection.sql(f"FROM {source.relation}").to_arrow_table()


def sent(warehouse: Warehouse, sql: str, timezone: str = "UTC") -> list[dict[str, str]]:
    """What the columns of a query become in a line: property -> JSON text, one mapping a row."""
    described = warehouse.describe(sql)
    return encoded(described, warehouse.open(sql), timezone, folds_upper=warehouse.folds_upper)


def encoded(described: pa.Schema, source: Source, timezone: str = "UTC", *, folds_upper: bool) -> list[dict[str, str]]:
    """What the rows of a source become in a line. Raises ModelError for a column that cannot be sent."""
    model = Model("m", Path("m.sql"), "", EventType.TRACK)
    schema = pa.schema(
        [
            pa.field("user_id", pa.string()),
            pa.field("event_name", pa.string()),
            pa.field("inserted_at", pa.timestamp("us")),
            *described,
        ]
    )
    encoding = compile_row(model, schema, EncodeOptions(timezone, NOW, folds_upper))
    fixed = "'u' AS user_id, 'e' AS event_name, TIMESTAMP '2025-01-01' AS inserted_at"
    line = encoding.row.line("inserted_at")
    lines = source.connection.sql(f"SELECT {line} FROM (SELECT {fixed}, * FROM {source.relation})").fetchall()
    return [properties(text) for (text,) in lines]


def properties(line: str) -> dict[str, str]:
    """The properties of a line, each as the JSON text that stands in it."""

    class Text(str):
        __slots__ = ()

    def keep(text: str) -> Text:
        return Text(text)

    found = json.loads(line, parse_float=keep, parse_int=keep)["metadata"]
    return {name: value if isinstance(value, Text) else json.dumps(value) for name, value in found.items()}
