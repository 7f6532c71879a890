"""Statements on windows and batches: begin, seal, split, supersede, settle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, func, insert, or_, select, update

from warehouse_sync.state import pipelines, rejects
from warehouse_sync.state.lifecycle import DROPPABLE, UNSETTLED_BATCHES, BatchState, IllegalMove, JobState, WindowState
from warehouse_sync.state.moves import BATCH, JOB, WINDOW, chunks, move
from warehouse_sync.state.rows import CURSOR_MOVING, Batch, NewBatch, NewReject, NewWindow, Window, WindowKind
from warehouse_sync.state.tables import batches, jobs, models, windows
from warehouse_sync.state.tables import pipelines as pipeline_table
from warehouse_sync.values import Counts, CursorValue

WindowRow = tuple[Any, ...]


def select_windows() -> Select[WindowRow]:
    """Windows with the names of their model and pipeline."""
    return (
        select(windows, models.c.name.label("model"), pipeline_table.c.name.label("pipeline"))
        .join(models, models.c.id == windows.c.model_id)
        .join(pipeline_table, pipeline_table.c.id == models.c.pipeline_id)
    )


def select_batches() -> Select[WindowRow]:
    """Batches with the event of their window and the name of their model."""
    return (
        select(batches, windows.c.event, models.c.name.label("model"))
        .join(windows, windows.c.id == batches.c.window_id)
        .join(models, models.c.id == windows.c.model_id)
        .join(pipeline_table, pipeline_table.c.id == models.c.pipeline_id)
    )


def list_windows(
    connection: Connection,
    pipeline: str,
    model: str | None,
    states: Iterable[WindowState] | None,
    kinds: Iterable[WindowKind] | None = None,
) -> list[Window]:
    """Windows in the order in which they began."""
    statement = select_windows().where(pipeline_table.c.name == pipeline).order_by(windows.c.id)
    if model is not None:
        statement = statement.where(models.c.name == model)
    if states is not None:
        statement = statement.where(WINDOW.in_states(states))
    if kinds is not None:
        statement = statement.where(windows.c.kind.in_(list(kinds)))
    return [Window.from_row(row) for row in connection.execute(statement)]


def last_sent(connection: Connection, pipeline: str, model: str | None) -> dict[str, Window]:
    """Model -> its newest window that settled, or of which a batch at least was delivered."""
    arrived = exists().where(batches.c.window_id == windows.c.id, batches.c.state == BatchState.DELIVERED)
    # What came before the window that settled last is older.
    since = windows.c.id >= func.coalesce(models.c.settled_window_id, 0)
    statement = (
        select_windows()
        .where(pipeline_table.c.name == pipeline, since, or_(windows.c.state == WindowState.SETTLED, arrived))
        .order_by(windows.c.id)
    )
    if model is not None:
        statement = statement.where(models.c.name == model)
    return {row.model: Window.from_row(row) for row in connection.execute(statement)}


def has_read(connection: Connection, pipeline: str, model: str, up_to: CursorValue | None) -> bool:
    """True when a settled window read rows that are not ahead of the clock, and moved the cursor by them to `up_to`,
    None: wherever."""
    known = select(models.c.id).join(pipeline_table).where(pipeline_table.c.name == pipeline, models.c.name == model)
    rows = windows.c.counts["read"].as_integer() - func.coalesce(windows.c.counts["future"].as_integer(), 0)
    statement = select(windows.c.id).where(
        windows.c.model_id == known.scalar_subquery(),
        windows.c.state == WindowState.SETTLED,
        windows.c.kind.in_(CURSOR_MOVING),
        rows > 0,
    )
    if up_to is not None:
        moved = or_(windows.c.cursor_from.is_(None), windows.c.cursor_from != up_to.text)
        statement = statement.where(windows.c.cursor_kind == up_to.kind, windows.c.cursor_to == up_to.text, moved)
    return connection.scalar(statement.order_by(windows.c.id.desc()).limit(1)) is not None


def rows_sent(
    connection: Connection, pipeline: str, model: str, fingerprints: Iterable[str] | None, limit: int
) -> list[int] | None:
    """Rows that the newest settled incremental windows had to send, of those with any; None where no window moved the
    cursor. `fingerprints`: what the model was then, None for whatever it was."""
    known = select(models.c.id).join(pipeline_table).where(pipeline_table.c.name == pipeline, models.c.name == model)
    settled = (windows.c.model_id == known.scalar_subquery(), windows.c.state == WindowState.SETTLED)
    if not connection.scalar(select(exists().where(*settled, windows.c.kind.in_(CURSOR_MOVING)))):
        return None
    sent = windows.c.counts["added"].as_integer() + windows.c.counts["changed"].as_integer()
    statement = select(sent).where(*settled, windows.c.kind == "incremental", sent > 0)
    if fingerprints is not None:
        statement = statement.where(windows.c.fingerprint.in_(list(fingerprints)))
    return list(connection.scalars(statement.order_by(windows.c.id.desc()).limit(limit)))


def list_batches(
    connection: Connection,
    pipeline: str,
    model: str | None,
    states: Iterable[BatchState] | None,
    window_id: int | None,
) -> list[Batch]:
    """Batches in the order in which they were sealed."""
    statement = select_batches().order_by(batches.c.id)
    owner: ColumnElement[str] = pipeline_table.c.name
    name: ColumnElement[str] = models.c.name
    if states is not None:
        wanted = frozenset(states)
        statement = statement.where(BATCH.in_states(wanted))
        if BATCH.are_open(wanted):
            # Not by the indexes of the names: they lead to all windows of a model, this condition to the open batches.
            owner, name = owner.concat(""), name.concat("")
    statement = statement.where(owner == pipeline)
    if model is not None:
        statement = statement.where(name == model)
    if window_id is not None:
        statement = statement.where(batches.c.window_id == window_id)
    return [Batch.from_row(row) for row in connection.execute(statement)]


def window(connection: Connection, window_id: int) -> Window | None:
    """One window."""
    row = connection.execute(select_windows().where(windows.c.id == window_id)).one_or_none()
    return None if row is None else Window.from_row(row)


def batches_of(connection: Connection, ids: Sequence[int]) -> list[Batch]:
    """Batches by id, ordered by id."""
    found: list[Batch] = []
    for part in chunks(sorted(ids)):
        rows = connection.execute(select_batches().where(batches.c.id.in_(part)).order_by(batches.c.id))
        found += [Batch.from_row(row) for row in rows]
    return found


def begin(connection: Connection, new: NewWindow) -> int:
    """A new window in `extracting`; refused while another window of the model is unsettled."""
    model_id = pipelines.ensure_model(connection, new.pipeline, new.model)
    unsettled = connection.execute(
        select(windows.c.id, windows.c.state).where(
            windows.c.model_id == model_id, WINDOW.in_states([WindowState.EXTRACTING, WindowState.READY])
        )
    ).first()
    if unsettled is not None:
        raise IllegalMove(f"model {new.model} has an unsettled window ({unsettled.id} is {unsettled.state})")
    cursor, low = new.cursor_from, new.read_from
    known = cursor or low
    statement = insert(windows).values(
        run_id=new.run_id,
        model_id=model_id,
        event=new.event,
        kind=new.kind,
        state=WindowState.EXTRACTING,
        cursor_column=new.cursor_column,
        cursor_kind=None if known is None else known.kind,
        cursor_from=None if cursor is None else cursor.text,
        read_from=None if low is None else low.text,
        unique_key=list(new.unique_key),
        fingerprint=new.fingerprint,
        asked=new.asked,
        started_at=new.started_at,
    )
    return int(connection.execute(statement.returning(windows.c.id)).scalar_one())


def drop(connection: Connection, window_id: int) -> None:
    """Forget a window that is still being extracted."""
    found = connection.execute(delete(windows).where(windows.c.id == window_id, windows.c.state.in_(list(DROPPABLE))))
    if found.rowcount != 1:
        raise IllegalMove(f"window {window_id} is not being extracted, so it cannot be dropped")


def seal(
    connection: Connection,
    window_id: int,
    *,
    new_batches: Sequence[NewBatch],
    counts: Counts,
    cursor_to: CursorValue | None,
    properties: dict[str, str],
    gone: int,
    now: datetime,
) -> None:
    """`extracting` -> `ready`, with its batches."""
    told = counts.as_dict() | {"gone": gone}
    values: dict[str, Any] = {"sealed_at": now, "counts": told, "properties": properties}
    if cursor_to is not None:
        # From and to share one kind: another kind of cursor starts from nothing, after a reset.
        values |= {"cursor_kind": cursor_to.kind, "cursor_to": cursor_to.text}
        clash = select(windows.c.id).where(windows.c.id == window_id, windows.c.cursor_kind != cursor_to.kind)
        if connection.execute(clash).first() is not None:
            raise ValueError(f"window {window_id} begins and ends with different kinds of cursor")
    move(connection, WINDOW, [window_id], WindowState.READY, **values)
    add_batches(connection, window_id, new_batches)


def add_batches(connection: Connection, window_id: int, new_batches: Sequence[NewBatch]) -> list[int]:
    """Seal batches under a window, numbered on from those it has; returns their ids in the order given."""
    if not new_batches:
        return []
    last = connection.scalar(select(func.max(batches.c.number)).where(batches.c.window_id == window_id)) or 0
    values = [
        {
            "window_id": window_id,
            "parent_id": new.parent_id,
            "number": number,
            "name": new.name,
            "rows": new.rows,
            "bytes": new.bytes,
            "sha256": new.sha256,
            "state": BatchState.SEALED,
            "split": False,
        }
        for number, new in enumerate(new_batches, start=last + 1)
    ]
    connection.execute(insert(batches), values)
    numbered = select(batches.c.id).where(batches.c.window_id == window_id, batches.c.number > last)
    return list(connection.scalars(numbered.order_by(batches.c.number)))


def split(
    connection: Connection,
    batch_id: int,
    *,
    children: Sequence[NewBatch],
    new_rejects: Sequence[NewReject],
    run_id: int | None,
    now: datetime,
) -> list[int]:
    """Replace a sealed batch by its children and rejects; returns the children's ids."""
    parents = batches_of(connection, [batch_id])
    rest = sum(child.rows for child in children)
    if parents and (rest > parents[0].rows or (rest < parents[0].rows and not new_rejects)):
        raise ValueError(f"the {rest} rows of its children do not add up to batch {batch_id}")
    move(
        connection, BATCH, [batch_id], BatchState.SUPERSEDED, only=[BatchState.SEALED], split=True, settled_at=now
    )  # fmt: skip
    parent = parents[0]
    adopted = [replace(child, parent_id=batch_id) for child in children]
    ids = add_batches(connection, parent.window_id, adopted)
    rejects.upsert(connection, parent.window_id, new_rejects, run_id=run_id, now=now)
    settle(connection, [parent.window_id], now)
    return ids


def supersede(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    """Give up batches that no job has; a held job that loses its last held batch has failed."""
    given_up = batches_of(connection, ids)
    move(
        connection, BATCH, ids, BatchState.SUPERSEDED, only=[BatchState.SEALED, BatchState.HELD], settled_at=now
    )  # fmt: skip
    for job_id in sorted({batch.job_id for batch in given_up if batch.job_id is not None}):
        if not connection.scalar(
            select(exists().where(batches.c.job_id == job_id, batches.c.state == BatchState.HELD))
        ):
            move(connection, JOB, [job_id], JobState.FAILED, only=[JobState.HELD], ended_at=now)
            connection.execute(
                update(jobs).where(jobs.c.id == job_id, jobs.c.reason.is_(None)).values(reason="given up by hand")
            )
    settle(connection, [batch.window_id for batch in given_up], now)


def supersede_window(connection: Connection, window_id: int, now: datetime) -> list[int]:
    """Give up the sealed batches of a ready window; returns their ids."""
    state = connection.scalar(select(windows.c.state).where(windows.c.id == window_id))
    if state is not WindowState.READY:
        raise IllegalMove(f"window {window_id} is {state or 'unknown'}; only a ready one can be superseded")
    sealed = select(batches.c.id).where(batches.c.window_id == window_id, batches.c.state == BatchState.SEALED)
    ids = list(connection.scalars(sealed))
    supersede(connection, ids, now)
    return ids


def settle(connection: Connection, window_ids: Iterable[int], now: datetime) -> list[int]:
    """End every ready window none of whose batches is open, and move the cursors; returns the settled ones."""
    settled: list[int] = []
    for window_id in sorted(set(window_ids)):
        of_window = batches.c.window_id == window_id
        if connection.scalar(select(exists().where(of_window, batches.c.state.in_(list(UNSETTLED_BATCHES))))):
            continue
        given_up = exists().where(of_window, batches.c.state == BatchState.SUPERSEDED, ~batches.c.split)
        if connection.scalar(select(given_up)):
            move(connection, WINDOW, [window_id], WindowState.SUPERSEDED, ended_at=now)
        else:
            move(connection, WINDOW, [window_id], WindowState.SETTLED, ended_at=now)
            _remember(connection, window_id, now)
            settled.append(window_id)
    return settled


def _remember(connection: Connection, window_id: int, now: datetime) -> None:
    """Move the model on to the end of a settled window."""
    row: Row[Any] = connection.execute(select(windows).where(windows.c.id == window_id)).one()
    values: dict[str, Any] = {
        "event": row.event,
        "unique_key": row.unique_key,
        "settled_window_id": window_id,
        "settled_at": now,
    }
    if row.kind in CURSOR_MOVING:
        values["properties"] = row.properties
        # A window without rows says nothing about the cursor; a model without a cursor has none.
        if row.cursor_to is not None or row.cursor_column is None:
            values |= {"cursor_column": row.cursor_column, "cursor": row.cursor_to, "cursor_kind": row.cursor_kind}
        # Where nothing new was read, what stands at the cursor is what was delivered before.
        if row.cursor_to != row.cursor_from:
            values["cursor_fingerprint"] = row.fingerprint
    connection.execute(update(models).where(models.c.id == row.model_id).values(values))
