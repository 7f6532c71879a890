"""Statements around a model's query: within bounds, about its cursor, for one row; and whose errors theirs are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.window import Bounds, in_order
from warehouse_sync.errors import WarehouseError
from warehouse_sync.extraction.recall import key_test
from warehouse_sync.extraction.request import Request
from warehouse_sync.project.render import Rendered, wrap
from warehouse_sync.values import Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

if TYPE_CHECKING:
    import pyarrow as pa


def describe(model: Model, warehouse: Warehouse, rendered: Rendered) -> pa.Schema:
    """The columns of the model. Raises ModelError with the model file and, where the warehouse says it, the line."""
    try:
        return warehouse.describe(rendered.sql)
    except WarehouseError as error:
        error.path, error.line = model.path, rendered.place(error.line)
        raise


def cursor_name(model: Model, schema: pa.Schema) -> str:
    """The model's cursor column as the query names it."""
    return str(next(name for name in schema.names if name.casefold() == (model.cursor or "").casefold()))


def cursor_sql(model: Model, warehouse: Warehouse, schema: pa.Schema) -> str:
    """The cursor column in the warehouse's SQL, in the order in which the greatest of its values is found."""
    column = schema.field(cursor_name(model, schema))
    return in_order(warehouse.quote(column.name), column.type, warehouse.dialect)


def bounded(model: Model, sql: str, window: Bounds, warehouse: Warehouse, schema: pa.Schema, request: Request) -> str:
    """The model's query within the window's bounds and limit; rows without a cursor as `null_cursor` says."""
    wrapped = f"SELECT * FROM {wrap(sql, 'model')}"
    if model.cursor is not None:
        name = cursor_sql(model, warehouse, schema)
        limits = [(">" if window.above else ">=", window.low), ("<", window.before), ("<=", window.last)]
        inside = [f"{name} {sign} {cursor_literal(end, warehouse.dialect)}" for sign, end in limits if end is not None]
        if model.null_cursor == "skip":
            inside.append(f"{name} IS NOT NULL")
        test = " AND ".join(inside)
        if test and model.null_cursor != "skip":
            test = f"({test}) OR {name} IS NULL"
        wrapped += f"\nWHERE {test}" if test else ""
    if request.recall is not None and request.recall.keys:
        found = key_test(model, schema, request.recall.keys, warehouse)
        wrapped = f"SELECT * FROM (\n{wrapped}\n) AS within\nWHERE {found}" if found else wrapped
    return wrapped if request.limit is None else f"{wrapped}\nLIMIT {request.limit}"


def one_row(model: Model, warehouse: Warehouse, query: str) -> tuple[Any, ...]:
    """The only row of a query around the model's. Raises WarehouseError."""
    import duckdb

    with around(model):
        source = warehouse.open(query)
        try:
            (row,) = source.connection.sql(f"FROM {source.relation}").fetchall()
        except duckdb.Error as error:
            raise warehouse.explain(error) from None
    return tuple(row)


@contextmanager
def around(model: Model) -> Iterator[None]:
    """A statement around the model's query: its errors name the model's file, and no line, which would be theirs."""
    try:
        yield
    except WarehouseError as error:
        error.path, error.line = model.path, 0
        raise


def explained(model: Model, warehouse: Warehouse, error: Exception) -> WarehouseError:
    """An error of the query around the model's, in this program's words; a line would be one of that query."""
    found = warehouse.explain(error)
    found.path, found.line = model.path, 0
    return found
