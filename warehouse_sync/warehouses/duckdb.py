"""A DuckDB file (or MotherDuck database) as the warehouse: read-only, open only while a model is read.

The file is attached to the engine's own in-memory database under its usual name, so that the model's SQL and the
encoding become one query and no row crosses a border on the way.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync.errors import WarehouseError
from warehouse_sync.warehouses.base import Engine, Source, name_literal, text_literal

if TYPE_CHECKING:
    import pyarrow as pa

NATIVE_TYPE = b"duckdb_type"
"""Field metadata: the warehouse's own name of the column's type, where Arrow's is not enough (JSON, UUID, TIMETZ)."""

_SAFE_ERRORS = ("Catalog Error", "Binder Error", "Parser Error", "Syntax Error")
"""Errors whose first line speaks of names in the SQL; all others may print values of rows."""


class DuckDBWarehouse:
    """`path` is a file, `:memory:` or an `md:` name. Raises WarehouseError when it is missing, locked or unreadable."""

    dialect = "duckdb"
    folds_upper = False

    def __init__(self, path: str, engine: Engine) -> None:
        import duckdb

        self.path = path
        remote = path.startswith(("md:", ":memory:"))
        if not remote and not Path(path).is_file():
            raise WarehouseError(
                f"warehouse file {path} does not exist",
                hint="check `warehouse.path` (relative paths start at the YAML file), or run `dbt build` first.",
            )
        self.catalog = "memory" if path == ":memory:" else Path(path.removeprefix("md:").partition("?")[0]).stem
        self.connection = engine.connect()
        try:
            if path != ":memory:":
                self.connection.execute(
                    f"ATTACH {text_literal(path)} AS {name_literal(self.catalog)}" + ("" if remote else " (READ_ONLY)")
                )
                self.connection.execute(f"USE {name_literal(self.catalog)}")
        except duckdb.Error as error:
            self.connection.close()
            raise self.explain(error) from None

    def describe(self, sql: str) -> pa.Schema:
        """See `Warehouse.describe`; the query is bound, not run."""
        import duckdb
        import pyarrow as pa

        try:
            relation = self.connection.sql(sql)
            types = [str(kind) for kind in relation.types]
            schema = relation.limit(0).to_arrow_table().schema
        except duckdb.Error as error:
            raise self.explain(error) from None
        return pa.schema(
            [field.with_metadata({NATIVE_TYPE: kind.encode()}) for field, kind in zip(schema, types, strict=True)]
        )

    def open(self, sql: str) -> Source:
        """See `Warehouse.open`; the model's SQL becomes part of the reader's own query."""
        return Source(self.connection, f"(\n{sql}\n)", streams=False)

    def scalar(self, sql: str) -> Any:
        """See `Warehouse.scalar`."""
        import duckdb

        try:
            row = self.connection.execute(sql).fetchone()
        except duckdb.Error as error:
            raise self.explain(error) from None
        return None if row is None else row[0]

    def now(self) -> datetime:
        """See `Warehouse.now`; the embedded engine has the machine's clock."""
        return datetime.now(UTC)

    def check(self) -> str:
        """See `Warehouse.check`."""
        version = self.scalar("SELECT version()")
        tables = self.scalar(
            f"SELECT count(*) FROM duckdb_tables() WHERE database_name = {text_literal(self.catalog)} AND NOT internal"
        )
        return f"DuckDB {version}, {self.path}, {tables} tables, read-only"

    def close(self) -> None:
        """See `Warehouse.close`."""
        self.connection.close()

    def explain(self, error: Exception) -> WarehouseError:
        """See `Warehouse.explain`."""
        return explain(error, self.path)


def explain(error: Exception, place: str) -> WarehouseError:
    """A DuckDB error in this program's words: names of the SQL are kept, values of rows never are.

    A stream's errors arrive as OSError with DuckDB's text, so the text decides.

    `line` is the line of the SQL text (1-based), 0 when DuckDB names none.
    """
    text = str(error)
    kind = text.partition(":")[0]
    lock = re.search(r"Conflicting lock is held in (.*?) ?\(PID (\d+)\)", text)
    if "Could not set lock" in text or lock:
        who = f"{Path(lock.group(1)).name} (PID {lock.group(2)})" if lock else "another process"
        return WarehouseError(
            f"{place} is locked by {who}: a `dbt build` or another program has it open for writing",
            hint="run again when it is done; reading never blocks it longer than the extraction takes.",
        )
    found = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    line = int(found.group(1)) if found else 0
    first = text.partition("\n")[0].strip()
    if kind in _SAFE_ERRORS:
        similar = re.search(r"(Did you mean|Candidate (?:bindings|tables)|Candidates?:)[^\n]*", text)
        return WarehouseError(f"DuckDB: {first}", line=line, hint=similar.group(0).strip() if similar else "")
    if kind == "Out of Memory Error":
        return WarehouseError(
            "DuckDB ran out of memory while reading this model", hint="raise `engine.memory_limit` in the YAML."
        )
    if kind == "IO Error":
        return WarehouseError(
            f"{place} cannot be read ({_io_reason(text)})", hint="check the path, its permissions and the disk."
        )
    return WarehouseError(
        f"DuckDB stopped with `{kind if kind.endswith('Error') else type(error).__name__}` while it read this model;"
        " its text is not shown because it can hold values of rows",
        line=line,
        hint="run the compiled SQL (`warehouse-sync compile -s MODEL`) in DuckDB to see it.",
    )


def _io_reason(text: str) -> str:
    for mark in (
        "No such file",
        "Permission denied",
        "not a valid DuckDB database file",
        "No space left",
        "Is a directory",
    ):
        if mark.lower() in text.lower():
            return mark
    return "input/output error"
