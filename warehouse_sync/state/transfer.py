"""A pipeline's rows out of the store and back into it, or into another one: JSON values, table by table.

Ids stay what they are, unless the store has given them to another pipeline: then all ids of that table move up by the
same number, and what refers to them moves along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Column, Connection, LargeBinary, Select, Table, func, insert, select, text, update

from warehouse_sync.errors import UsageError
from warehouse_sync.state import pipelines as _pipelines
from warehouse_sync.state.moves import chunks
from warehouse_sync.state.tables import (
    UtcDateTime,
    batches,
    destinations,
    job_batches,
    jobs,
    models,
    pipelines,
    rejects,
    runs,
    windows,
)

ORDER = (pipelines, destinations, runs, models, windows, jobs, batches, job_batches, rejects)
"""Every table with rows of a pipeline, those that are referred to first."""
COUNTERS = ("job_number", "delivery_seq")

Rows = Sequence[Mapping[str, Any]]


def take_out(connection: Connection, pipeline: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of a pipeline, in the order of their ids."""
    owner = _pipelines.pipeline_id(connection, pipeline)
    found = {}
    for table in ORDER:
        rows = connection.execute(_of_pipeline(table, owner).order_by(*table.primary_key.columns))
        found[table.name] = [{name: _plain(value) for name, value in row._mapping.items()} for row in rows]
    return found


def _of_pipeline(table: Table, owner: int) -> Select[Any]:
    """The rows of a table that belong to a pipeline."""
    of_model = select(models.c.id).where(models.c.pipeline_id == owner)
    of_window = select(windows.c.id).where(windows.c.model_id.in_(of_model))
    of_job = select(jobs.c.id).where(jobs.c.pipeline_id == owner)
    if table is pipelines:
        return select(table).where(table.c.id == owner)
    if "pipeline_id" in table.c:
        return select(table).where(table.c.pipeline_id == owner)
    if "model_id" in table.c:
        return select(table).where(table.c.model_id.in_(of_model))
    if table is batches:
        return select(table).where(table.c.window_id.in_(of_window))
    return select(table).where(table.c.job_id.in_(of_job))


def put_back(connection: Connection, pipeline: str, tables: Mapping[str, Rows], home_id: str, now: datetime) -> None:
    """Replace a pipeline's rows by those that `check` found good."""
    if not _pipelines.list_pipelines(connection, pipeline):
        _pipelines.register(connection, pipeline, home_id, now)
    owner = _pipelines.pipeline_id(connection, pipeline)
    _pipelines.reset(connection, pipeline, None, now)
    (told,) = tables["pipelines"]
    known = connection.execute(select(pipelines).where(pipelines.c.id == owner)).one()._mapping
    counters = {name: max(known[name], told[name]) for name in COUNTERS}
    connection.execute(update(pipelines).where(pipelines.c.id == owner).values(home_id=home_id, **counters))
    ids: dict[str, dict[int, int]] = {"pipelines": {told["id"]: owner}}
    ids["runs"] = _known_runs(connection, owner, tables["runs"])
    for table in ORDER[1:]:
        rows = tables[table.name]
        if table is runs:
            rows = [row for row in rows if row["id"] not in ids["runs"]]
        if "id" in table.c:
            ids.setdefault(table.name, {}).update(_new_ids(connection, table, [row["id"] for row in rows]))
        _insert(connection, table, rows, ids)
    for row in tables["models"]:
        # Windows come after models, so what refers to them comes last.
        last = ids["windows"].get(row["settled_window_id"])
        mine = update(models).where(models.c.id == ids["models"][row["id"]])
        connection.execute(mine.values(settled_window_id=last))
    # An export may have been made when a reset still left such jobs behind.
    _pipelines.end_empty_jobs(connection, owner, now)
    _advance(connection)


def check(tables: Mapping[str, Rows]) -> None:
    """Raises UsageError when these are not the rows of one pipeline in this layout."""
    for table in ORDER:
        if table.name not in tables:
            raise UsageError(f"the export has no `{table.name}`", hint="it is damaged, or no export of this program.")
        wanted = set(table.c.keys())
        for row in tables[table.name]:
            if set(row) != wanted:
                raise UsageError(
                    f"the export's `{table.name}` has other columns than this program knows",
                    hint="import it with the version of warehouse-sync that wrote it, then upgrade.",
                )
    if len(tables["pipelines"]) != 1:
        raise UsageError("the export is not of one pipeline", hint="it is damaged, or no export of this program.")


def _known_runs(connection: Connection, owner: int, rows: Rows) -> dict[int, int]:
    """Runs that this store remembers too: export's id -> id here."""
    here = connection.execute(select(runs.c.id, runs.c.verb, runs.c.started_at).where(runs.c.pipeline_id == owner))
    known = {(row.verb, _plain(row.started_at)): row.id for row in here}
    pairs = {row["id"]: known.get((row["verb"], row["started_at"])) for row in rows}
    return {old: new for old, new in pairs.items() if new is not None}


def _new_ids(connection: Connection, table: Table, old: Sequence[int]) -> dict[int, int]:
    taken = any(connection.scalars(select(table.c.id).where(table.c.id.in_(part))).all() for part in chunks(old))
    up = int(connection.scalar(select(func.max(table.c.id))) or 0) if taken else 0
    return {number: number + up for number in old}


def _insert(connection: Connection, table: Table, rows: Rows, ids: Mapping[str, Mapping[int, int]]) -> None:
    refers = {key.parent.name: key.column.table.name for key in table.foreign_keys}
    if "id" in table.c:
        refers["id"] = table.name
    values = [
        {name: ids[refers[name]][value] if name in refers and value is not None else _stored(table.c[name], value)
         for name, value in row.items()}
        for row in rows
    ]  # fmt: skip
    for part in chunks(values):
        connection.execute(insert(table), list(part))


def _advance(connection: Connection) -> None:
    """Ids are never used twice: PostgreSQL counts on from the greatest, as SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in ORDER:
        if "id" in table.c:
            sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": table.name})
            connection.execute(
                text(
                    f"SELECT setval('{sequence}', greatest((SELECT coalesce(max(id), 1) FROM {table.name}),"
                    f" (SELECT last_value FROM {sequence})))"
                )
            )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value.value if isinstance(value, Enum) else value


def _stored(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat(value)
    return bytes.fromhex(value) if isinstance(column.type, LargeBinary) else value


__all__ = ["ORDER", "check", "put_back", "take_out"]
