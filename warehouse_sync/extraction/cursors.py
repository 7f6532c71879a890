"""The cursor contract: what a model's cursor column really holds, looked at before the first run and in `debug`.

One aggregate query a model. What is said names counts and the column, never a value of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.extraction.prepare import Prepared
from warehouse_sync.extraction.statement import cursor_sql, one_row
from warehouse_sync.observe.words import counted
from warehouse_sync.project.render import wrap
from warehouse_sync.state.rows import ModelState
from warehouse_sync.values import CursorKind, Model
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

MANY_TIES = 10_000
"""Rows at the greatest value: each run reads them again."""

_ZONES = {
    "duckdb": "SELECT current_setting('TimeZone')",
    "postgres": "SELECT current_setting('TimeZone')",
    "redshift": "SELECT current_setting('TimeZone')",
    "mysql": "SELECT @@session.time_zone",
    "snowflake": "SELECT to_char(current_timestamp(), 'TZH:TZM')",
}
"""By dialect, the zone of the session; dialects without zones are not in here."""


@dataclass(frozen=True)
class CursorFacts:
    """What a cursor column holds: rows in all, NULLs, rows at the greatest value that is not ahead, rows ahead."""

    column: str
    kind: CursorKind
    rows: int
    nulls: int
    ties: int
    future: int

    def __str__(self) -> str:
        if not self.rows:
            return f"`{self.column}`, {self.kind}; no rows"
        parts = [
            counted(self.rows, "row"),
            f"{self.nulls / self.rows:.1%} NULL",
            f"{self.ties:,} at the greatest value",
        ]
        parts += [f"{self.future:,} ahead of the clock"] if self.kind.is_time else []
        return f"`{self.column}`, {self.kind}; {', '.join(parts)}"


def examine(prepared: Prepared, warehouse: Warehouse) -> CursorFacts | None:
    """Count what the cursor column of a whole model holds; None for a model without. Raises WarehouseError."""
    model, kind = prepared.model, prepared.cursor
    if kind is None or model.cursor is None:
        return None
    values = f"SELECT {cursor_sql(model, warehouse, prepared.schema)} AS c FROM {wrap(prepared.whole, 'model')}"
    high = prepared.bounds.high
    bound = None if high is None else cursor_literal(high, warehouse.dialect)
    ahead = "0" if bound is None else f"CASE WHEN a.c > {bound} THEN 1 ELSE 0 END"
    query = (
        f"SELECT count(*) AS n, count(a.c) AS known, sum({ahead}) AS ahead,"
        " sum(CASE WHEN a.c = t.top THEN 1 ELSE 0 END) AS ties"
        f" FROM (\n{values}\n) AS a CROSS JOIN ("
        f"SELECT max(b.c) AS top FROM (\n{values}\n) AS b{'' if bound is None else f' WHERE b.c <= {bound}'}) AS t"
    )
    rows, known, ahead_of, ties = one_row(model, warehouse, query)
    return CursorFacts(model.cursor, kind, int(rows), int(rows - known), int(ties or 0), int(ahead_of or 0))


def first_look(known: ModelState | None, prepared: Prepared, warehouse: Warehouse) -> tuple[str, ...]:
    """What somebody should know of the cursor before a model's first window; nothing once one has settled.

    Advice only: rows that this query cannot read are judged when they are read. Raises ConnectionLost.
    """
    if known is not None and known.settled_window_id is not None:
        return ()
    try:
        facts = examine(prepared, warehouse)
    except ConnectionLost:
        raise
    except WarehouseError:
        return ()
    return () if facts is None else advice(prepared.model, facts)


def advice(model: Model, facts: CursorFacts) -> tuple[str, ...]:
    """Sentences on what is odd about a cursor, each with what to do."""
    found = []
    if facts.nulls and model.null_cursor == "reject":
        more = ", `include` reads them in every run" if model.unique_key else ""
        found.append(
            f"`{facts.column}` is NULL in {facts.nulls:,} of {counted(facts.rows, 'row')}, and refused:"
            f" `null_cursor='skip'` leaves them out{more}"
        )
    if facts.future:
        found.append(
            f"`{facts.column}` is more than an hour ahead of the warehouse's clock in {counted(facts.future, 'row')}:"
            " such rows wait; mend them, or set `models.timezone` if the clock is another one"
        )
    if facts.ties > MANY_TIES:
        found.append(
            f"{facts.ties:,} rows share the greatest value of `{facts.column}`: each run reads them again;"
            " a finer cursor saves that"
        )
    return tuple(found)


def session_zone(warehouse: Warehouse) -> str | None:
    """The zone in which the warehouse's session shows its times; None where nobody can be asked."""
    query = _ZONES.get(warehouse.dialect)
    try:
        return None if query is None else str(warehouse.scalar(query))
    except WarehouseError:
        return None


__all__ = ["MANY_TIES", "CursorFacts", "advice", "examine", "first_look", "session_zone"]
