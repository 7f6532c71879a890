"""The embedded DuckDB in the place of a warehouse: it takes the warehouse's SQL and reads what a test gives."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import ModelError, WarehouseError
from warehouse_sync.model_tests.given import MAIN, columns_of, place_of, view_sql
from warehouse_sync.model_tests.translate import DUCKDB, columns_read, line_of_error, names_in, translate
from warehouse_sync.project.names import nearest
from warehouse_sync.project.unit_tests import Given, Input, UnitTest
from warehouse_sync.values import Model
from warehouse_sync.warehouses.base import Engine, Source, name_literal, text_literal
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    import pyarrow as pa

_CLOCKS = {
    "now": "TIMESTAMPTZ",
    "get_current_timestamp": "TIMESTAMPTZ",
    "transaction_timestamp": "TIMESTAMPTZ",
    "current_localtimestamp": "TIMESTAMP",
    "current_date": "DATE",
    "today": "DATE",
    "get_current_time": "TIME",
    "current_localtime": "TIME",
}
"""What SQL asks for the time by, in DuckDB; a macro of that name stands before the function. Sessions are in UTC."""


class FixtureWarehouse:
    """A `Warehouse` of given rows. `now` is its clock, in SQL too. Raises ModelError for rows that are no table.

    A cursor or `inserted_at` that no row gives has no type; it is a timestamp then, so that a table may be empty.
    """

    def __init__(self, test: UnitTest, model: Model, dialect: str, engine: Engine, now: datetime) -> None:
        self.dialect = dialect
        self.folds_upper = dialect == "snowflake"
        self._test = test
        self._now = now
        self._inner = DuckDBWarehouse(":memory:", engine)
        self._missing: dict[Input, dict[str, str]] = {given.input: {} for given in test.given}
        self._columns: dict[Input, set[str]] = {}
        self._given: dict[Input, list[str]] = {}
        self._unread: dict[str, None] = {}
        self._times = {model.cursor, "inserted_at", *(old for old, new in model.rename.items() if new == "inserted_at")}
        self._untyped: tuple[str, ...] = ()
        try:
            if test.now is not None:
                self._set_clock(now)
            for given in test.given:
                self._make(given)
        except ModelError:
            self.close()
            raise

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        """Columns that the model reads and the test does not give, by input: they were NULL."""
        return {str(input_): tuple(names.values()) for input_, names in self._missing.items() if names}

    @property
    def unread(self) -> tuple[str, ...]:
        """Given columns that nothing reads, beside a column of a like name that is read and not given."""
        return tuple(self._unread)

    def _set_clock(self, now: datetime) -> None:
        for name, kind in _CLOCKS.items():
            moment = f"TIMESTAMPTZ {text_literal(now.isoformat())}"
            self._inner.connection.execute(f"CREATE MACRO {name}() AS CAST({moment} AS {kind})")

    def _make(self, given: Given) -> None:
        """The view of one input. Its faults are the test's, at the test's line."""
        import duckdb

        schema, table = place_of(given.input)
        place = f"{name_literal(schema)}.{name_literal(table)}"
        connection = self._inner.connection
        try:
            if schema != MAIN:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name_literal(schema)}")
            select = view_sql(given, self._missing[given.input].values(), self.dialect)
            connection.execute(f"CREATE OR REPLACE VIEW {place} AS {select}")
            rows = connection.execute(f"SELECT * FROM {place}")
            columns = [item[0] for item in rows.description]
            self._columns[given.input] = {name.casefold() for name in columns}
            self._given.setdefault(given.input, columns if given.rows.sql else list(columns_of(given.rows)))
            rows.fetchall()
        except duckdb.Error as error:
            said = f"{given.input}: DuckDB: {_first_line(error)}"
            raise ModelError(said, path=self._test.path, line=self._test.line) from None
        except ModelError as error:
            error.path, error.line = self._test.path, self._test.line
            raise

    def _fill(self, sql: str) -> None:
        """Give every input the columns that the query reads of it and the test does not name, as NULL."""
        known = {name for names in self._columns.values() for name in names}
        read = columns_read(sql, self.dialect, known)
        for given in self._test.given:
            schema, table = place_of(given.input)
            names = read.get(("" if schema == MAIN else schema.casefold(), table.casefold()), set())
            there = self._columns[given.input]
            fresh = {name.casefold(): name for name in sorted(names) if name.casefold() not in there}
            if fresh:
                self._missing[given.input] |= fresh
                self._make(given)
        named = names_in(sql, self.dialect) if any(self._missing.values()) else None
        if named is not None:
            self._look_for_slips(named)

    def _look_for_slips(self, named: Collection[str]) -> None:
        for input_, missing in self._missing.items():
            for column in self._given[input_]:
                near = "" if column.casefold() in named else nearest(column, missing.values())
                if near:
                    self._unread[f"nothing reads `{column}` of {input_}{near}"] = None

    # Warehouse

    def label(self, model: str) -> None:
        """See `Warehouse.label`."""

    def quote(self, name: str) -> str:
        """See `Warehouse.quote`: in the model's dialect, as it becomes part of the model's query."""
        from sqlglot import exp

        return exp.to_identifier(name, quoted=True).sql(dialect=self.dialect)

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`."""
        self._fill(sql)
        times = {name.casefold() for name in self._times if name}
        try:
            schema = self._inner.describe(translate(sql, self.dialect))
            untyped = [field.name for field in schema if str(field.type) == "null" and field.name.casefold() in times]
            self._untyped = tuple(untyped)
            return self._inner.describe(self._typed(sql))
        except WarehouseError as error:
            raise self._placed(error, sql) from None
        except ModelError as error:
            raise WarehouseError(error.message, line=error.line, hint=error.hint) from None

    def _placed(self, error: WarehouseError, sql: str) -> WarehouseError:
        """DuckDB counts the lines of what it got; the model's author those of the model."""
        if self.dialect == DUCKDB:
            return error
        said = error.__context__
        line = line_of_error(str(said), sql, self.dialect)
        return WarehouseError(
            f"{error.message} (translated from {self.dialect or 'another dialect'})", line=line, hint=error.hint
        )

    def _typed(self, sql: str) -> str:
        """The query for DuckDB, its times typed."""
        sql = translate(sql, self.dialect)
        names = map(name_literal, self._untyped)
        casts = ", ".join(f"CAST({name} AS TIMESTAMP) AS {name}" for name in names)
        return f"SELECT * REPLACE ({casts}) FROM (\n{sql}\n)" if casts else sql

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`."""
        return self._inner.open(self._typed(sql))

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        return self._inner.scalar(translate(sql, self.dialect))

    def now(self) -> datetime:
        """See `Warehouse.now`: the test's clock."""
        return self._now

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`; the rows are a test's, so that DuckDB's own words may be shown."""
        return WarehouseError(f"DuckDB: {_first_line(error)}")

    def check(self) -> str:
        """See `Warehouse.check`."""
        return self._inner.check()

    def rows(self, sql: str) -> Sequence[dict[str, Any]]:
        """The rows of a query in the warehouse's SQL, which a test expects. Raises ModelError."""
        import duckdb

        try:
            result = self._inner.connection.execute(translate(sql, self.dialect))
            names = [item[0] for item in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except duckdb.Error as error:
            raise ModelError(
                f"expect: DuckDB: {_first_line(error)}", path=self._test.path, line=self._test.line
            ) from None

    def interrupt(self) -> None:
        """See `Warehouse.interrupt`."""
        self._inner.interrupt()

    def close(self) -> None:
        """See `Warehouse.close`."""
        self._inner.close()


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error).partition("\n")[0])
