"""Statements on rejects: meet, close, list, count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, func, select, update

from warehouse_sync.state.lifecycle import REJECT_MOVES, RejectKind, RejectState, sources
from warehouse_sync.state.moves import chunks, insert_into
from warehouse_sync.state.rows import NewReject, Reject, Standing
from warehouse_sync.state.tables import STANDING, models, pipelines, rejects, runs, windows

RowId = tuple[bytes | None, bytes]
"""Key hash (None without a key) and row hash."""


def upsert(
    connection: Connection,
    window_id: int,
    found: Sequence[NewReject],
    *,
    again: Sequence[RowId] = (),
    run_id: int | None,
    now: datetime,
) -> int:
    """Write down the rejects that a window met; returns how many are new.

    One that stands (open or dismissed) with the same key and row is met again, not new; so are those of `again`, rows
    that were read and kept back as they are. Open ones of a key that this window did not meet are about an older row
    of that key: resolved. `run_id` None means the window's own run.
    """
    if not found and not again:
        return 0
    row = connection.execute(select(windows.c.model_id, windows.c.run_id).where(windows.c.id == window_id)).one()
    met = {"window_id": window_id, "last_run": run_id or row.run_id}
    _meet_again(connection, row.model_id, again, met)
    before = _standing(connection, row.model_id)
    new = insert_into(connection, rejects)
    upserted = new.on_conflict_do_update(
        index_elements=["model_id", "key_hash", "row_hash"],
        index_where=STANDING,
        set_={name: new.excluded[name] for name in ("window_id", "last_run", "batch_name", "kind", "reasons")},
    )
    for part in chunks(found):
        values = [
            {
                **met,
                "model_id": row.model_id,
                "first_run": met["last_run"],
                "batch_name": reject.batch_name,
                "key": reject.key,
                "key_hash": reject.key_hash or b"",
                "row_hash": reject.row_hash,
                "kind": reject.kind,
                "reasons": list(reject.reasons),
                "state": RejectState.OPEN,
                "opened_at": now,
            }
            for reject in part
        ]
        connection.execute(upserted, values)
    added = _standing(connection, row.model_id) - before
    if before:
        _replace(connection, row.model_id, window_id, found, now)
    return added


def _meet_again(connection: Connection, model_id: int, again: Sequence[RowId], met: dict[str, int]) -> None:
    """Note on standing rejects that their rows are still there."""
    same = update(rejects).where(
        STANDING,
        rejects.c.model_id == model_id,
        rejects.c.key_hash == bindparam("of_key"),
        rejects.c.row_hash == bindparam("of_row"),
    )
    for part in chunks([{"of_key": key_hash or b"", "of_row": row_hash} for key_hash, row_hash in again]):
        connection.execute(same.values(met), list(part))


def _standing(connection: Connection, model_id: int) -> int:
    of_model = select(func.count()).where(STANDING, rejects.c.model_id == model_id)
    return int(connection.scalar(of_model) or 0)


def _replace(connection: Connection, model_id: int, window_id: int, found: Sequence[NewReject], now: datetime) -> None:
    older = update(rejects).where(
        STANDING,
        rejects.c.model_id == model_id,
        rejects.c.key_hash == bindparam("of_key"),
        rejects.c.state == RejectState.OPEN,
        rejects.c.window_id != window_id,
    )
    for part in chunks([{"of_key": reject.key_hash} for reject in found if reject.key_hash]):
        connection.execute(older.values(state=RejectState.RESOLVED, closed_at=now), list(part))


def close(connection: Connection, ids: Iterable[int], state: RejectState, now: datetime) -> int:
    """Resolve or dismiss rejects by id; returns how many.

    One that is closed already is left alone: a delivery must not fail because somebody was faster.
    """
    closed = 0
    for part in chunks(sorted(set(ids))):
        statement = update(rejects).where(
            rejects.c.id.in_(part), rejects.c.state.in_(sorted(sources(REJECT_MOVES, state)))
        )
        closed += connection.execute(statement.values(state=state, closed_at=now)).rowcount
    return closed


def prune(connection: Connection, pipeline: str, before: datetime) -> int:
    """Forget resolved rejects that closed before then; returns how many. Dismissed ones still keep their rows back."""
    mine = (
        select(models.c.id).join(pipelines, pipelines.c.id == models.c.pipeline_id).where(pipelines.c.name == pipeline)
    )
    old = delete(rejects).where(
        rejects.c.model_id.in_(mine), rejects.c.state == RejectState.RESOLVED, rejects.c.closed_at < before
    )
    return connection.execute(old).rowcount


def list_rejects(
    connection: Connection,
    pipeline: str,
    model: str | None,
    states: Iterable[RejectState],
    *,
    keys: Iterable[str] | None,
    limit: int | None,
) -> list[Reject]:
    """Rejects in the order in which they opened; with `keys`, of these; with `limit`, the first ones."""
    statement = (
        select(rejects, models.c.name.label("model"))
        .join(models, models.c.id == rejects.c.model_id)
        .join(pipelines, pipelines.c.id == models.c.pipeline_id)
        .where(pipelines.c.name == pipeline, rejects.c.state.in_(list(states)))
        .order_by(rejects.c.id)
        .limit(limit)
    )
    if model is not None:
        statement = statement.where(models.c.name == model)
    if keys is not None:
        statement = statement.where(rejects.c.key.in_(list(keys)))
    return [Reject.from_row(row) for row in connection.execute(statement)]


def standing(connection: Connection, pipeline: str, model: str) -> list[Standing]:
    """The open and dismissed rejects of a model, in the order in which they opened."""
    of = rejects.c
    statement = (
        select(of.id, of.window_id, of.key_hash, of.row_hash, of.kind, of.state)
        .join(models, models.c.id == of.model_id)
        .join(pipelines, pipelines.c.id == models.c.pipeline_id)
        .where(pipelines.c.name == pipeline, models.c.name == model, STANDING)
        .order_by(of.id)
    )
    return [
        Standing(id_, window_id, key_hash or None, row_hash, kind, state)
        for id_, window_id, key_hash, row_hash, kind, state in connection.execute(statement)
    ]


def refused_in(connection: Connection, pipeline: str, batches: Sequence[str]) -> dict[str, list[bytes]]:
    """Batch name -> key hashes of its rows that Userpilot refused, mended since or not."""
    found: dict[str, list[bytes]] = {}
    for part in chunks(list(batches)):
        statement = (
            select(rejects.c.batch_name, rejects.c.key_hash)
            .join(models, models.c.id == rejects.c.model_id)
            .join(pipelines, pipelines.c.id == models.c.pipeline_id)
            .where(pipelines.c.name == pipeline, rejects.c.batch_name.in_(part), rejects.c.key_hash != b"")
            .where(rejects.c.kind == RejectKind.REJECTED)
            .order_by(rejects.c.id)
        )
        for name, key_hash in connection.execute(statement):
            found.setdefault(name, []).append(key_hash)
    return found


def count_open(connection: Connection, pipeline: str) -> dict[str, int]:
    """Open rejects per model; models without any are left out."""
    statement = (
        select(models.c.name, func.count())
        .join(rejects, rejects.c.model_id == models.c.id)
        .join(pipelines, pipelines.c.id == models.c.pipeline_id)
        .where(pipelines.c.name == pipeline, rejects.c.state == RejectState.OPEN)
        .group_by(models.c.name)
        .order_by(models.c.name)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def count_new(connection: Connection, run_id: int) -> dict[tuple[str, RejectKind], int]:
    """Open rejects that this run opened, per model and kind."""
    statement = (
        select(models.c.name, rejects.c.kind, func.count())
        .join(rejects, rejects.c.model_id == models.c.id)
        .where(rejects.c.first_run == run_id, rejects.c.state == RejectState.OPEN)
        .group_by(models.c.name, rejects.c.kind)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def count_in_batches(connection: Connection, pipeline: str) -> dict[str, int]:
    """Open rejects per name of the batch whose rows they were; those of rows in no batch are left out."""
    statement = (
        select(rejects.c.batch_name, func.count())
        .join(models, models.c.id == rejects.c.model_id)
        .join(pipelines, pipelines.c.id == models.c.pipeline_id)
        .where(pipelines.c.name == pipeline, rejects.c.state == RejectState.OPEN, rejects.c.batch_name != "")
        .group_by(rejects.c.batch_name)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def count_repaired(connection: Connection, run_id: int) -> dict[str, int]:
    """Rejects per model that closed since that run began, without another one of their key in their place."""
    began = select(runs.c.started_at).where(runs.c.id == run_id).scalar_subquery()
    other = rejects.alias("other")
    replaced = exists().where(
        other.c.model_id == rejects.c.model_id,
        other.c.key_hash == rejects.c.key_hash,
        other.c.key_hash != b"",
        other.c.state != RejectState.RESOLVED,
    )
    statement = (
        select(models.c.name, func.count())
        .join(rejects, rejects.c.model_id == models.c.id)
        .join(runs, runs.c.pipeline_id == models.c.pipeline_id)
        .where(runs.c.id == run_id, rejects.c.state == RejectState.RESOLVED, rejects.c.closed_at >= began, ~replaced)
        .group_by(models.c.name)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}
