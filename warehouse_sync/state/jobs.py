"""Statements on jobs: intend, accept, and the five ways to end; deliveries in their order; history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select, text, update

from warehouse_sync.state import pipelines, rejects, windows
from warehouse_sync.state.lifecycle import (
    UNSETTLED_BATCHES,
    BatchState,
    IllegalMove,
    JobState,
    RejectState,
)
from warehouse_sync.state.moves import BATCH, JOB, move
from warehouse_sync.state.rows import Batch, Job, JobHistory, NewJob, NewReject, RunHistory
from warehouse_sync.state.tables import IN_FLIGHT_JOBS, batches, job_batches, jobs, models
from warehouse_sync.state.tables import pipelines as pipeline_table
from warehouse_sync.state.tables import windows as window_table


def _select_jobs() -> Select[tuple[Any, ...]]:
    return select(jobs, pipeline_table.c.name.label("pipeline")).join(
        pipeline_table, pipeline_table.c.id == jobs.c.pipeline_id
    )


def job(connection: Connection, job_id: int) -> Job | None:
    """One job."""
    row = connection.execute(_select_jobs().where(jobs.c.id == job_id)).one_or_none()
    return None if row is None else Job.from_row(row)


def list_jobs(connection: Connection, pipeline: str, states: Iterable[JobState] | None, limit: int | None) -> list[Job]:
    """Jobs in the order of their intents; with `limit`, the newest ones."""
    owner = select(pipeline_table.c.id).where(pipeline_table.c.name == pipeline).scalar_subquery()
    statement = _select_jobs().where(jobs.c.pipeline_id == owner)
    if states is not None:
        wanted = frozenset(states)
        # One condition on all open jobs leads to their index; by the pipeline's, every job would be looked at.
        statement = _select_jobs().where(jobs.c.pipeline_id + 0 == owner) if JOB.are_open(wanted) else statement
        statement = statement.where(JOB.in_states(wanted))
    # Numbers are counted up as ids are, and are indexed.
    rows = connection.execute(statement.order_by(jobs.c.number.desc()).limit(limit)).all()
    return [Job.from_row(row) for row in reversed(rows)]


def covered(connection: Connection, job_id: int) -> list[Batch]:
    """The batches that a job covers or covered, in the order of its file."""
    statement = windows.select_batches().join(job_batches, job_batches.c.batch_id == batches.c.id)
    rows = connection.execute(statement.where(job_batches.c.job_id == job_id).order_by(job_batches.c.position))
    return [Batch.from_row(row) for row in rows]


def jobs_of_batch(connection: Connection, batch_id: int) -> list[Job]:
    """Every job that ever covered a batch, oldest first."""
    statement = _select_jobs().join(job_batches, job_batches.c.job_id == jobs.c.id)
    rows = connection.execute(statement.where(job_batches.c.batch_id == batch_id).order_by(jobs.c.id))
    return [Job.from_row(row) for row in rows]


def intend(connection: Connection, new: NewJob, now: datetime) -> int:
    """A new job in `intent` that covers these sealed batches; returns its id."""
    if not new.batch_ids or len(set(new.batch_ids)) != len(new.batch_ids):
        raise ValueError("a job covers one batch or more, each once")
    flying = connection.execute(
        select(jobs.c.filename, jobs.c.state).where(
            jobs.c.destination_id == new.destination_id, text(f"jobs.{IN_FLIGHT_JOBS}")
        )
    ).first()
    if flying is not None:
        raise IllegalMove(f"job {flying.filename} of this destination is still {flying.state}; one at a time")
    owner = pipelines.pipeline_id(connection, new.pipeline)
    number = pipelines.next_number(connection, owner, "job_number")
    statement = insert(jobs).values(
        pipeline_id=owner,
        run_id=new.run_id,
        destination_id=new.destination_id,
        number=number,
        filename=f"{new.pipeline}-{number:06d}-{new.sha256[:12]}.ndjson",
        sha256=new.sha256,
        rows=new.rows,
        bytes=new.bytes,
        state=JobState.INTENT,
        intended_at=now,
    )
    job_id = int(connection.execute(statement.returning(jobs.c.id)).scalar_one())
    move(connection, BATCH, new.batch_ids, BatchState.SENT, job_id=job_id)
    pairs = [{"job_id": job_id, "batch_id": batch, "position": at} for at, batch in enumerate(new.batch_ids)]
    connection.execute(insert(job_batches), pairs)
    return job_id


def observe(connection: Connection, job_id: int, remote_status: str, total_rows: int | None, now: datetime) -> None:
    """Write down what a poll said."""
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_([JobState.ACCEPTED, JobState.HELD]))
    values: dict[str, Any] = {"remote_status": remote_status, "observed_at": now}
    if total_rows is not None:
        values["total_rows"] = total_rows
    if connection.execute(statement.values(values)).rowcount != 1:
        raise IllegalMove(f"job {job_id} is not with the API, so there is nothing to observe")


def complete(
    connection: Connection,
    job_id: int,
    *,
    answer: dict[str, Any],
    total_rows: int | None,
    new_rejects: Sequence[NewReject],
    resolved: Sequence[int],
    run_id: int | None,
    now: datetime,
) -> list[int]:
    """The job is `completed` and its batches delivered; returns the windows that settled with it."""
    values: dict[str, Any] = {"answer": answer, "ended_at": now, **_last_status(answer)}
    if total_rows is not None:
        values["total_rows"] = total_rows
    move(connection, JOB, [job_id], JobState.COMPLETED, **values)
    mine = [batch for batch in covered(connection, job_id) if batch.job_id == job_id]
    open_ones = [batch for batch in mine if batch.state in UNSETTLED_BATCHES]
    _deliver(connection, job_id, open_ones, now)
    for batch, found in _by_batch(mine, new_rejects):
        rejects.upsert(connection, batch.window_id, found, run_id=run_id, now=now)
    rejects.close(connection, resolved, RejectState.RESOLVED, now)
    return windows.settle(connection, [batch.window_id for batch in open_ones], now)


def _last_status(answer: dict[str, Any]) -> dict[str, str]:
    """The job's status in the API's last word about it; an HTTP status is none."""
    status = answer.get("status")
    return {"remote_status": status} if isinstance(status, str) else {}


def _deliver(connection: Connection, job_id: int, delivered: Sequence[Batch], now: datetime) -> None:
    if not delivered:
        return
    owner = connection.scalar(select(jobs.c.pipeline_id).where(jobs.c.id == job_id)) or 0
    numbered = []
    for batch in delivered:
        seq = pipelines.next_number(connection, owner, "delivery_seq")
        numbered.append((batch.window_id, seq))
        move(connection, BATCH, [batch.id], BatchState.DELIVERED, delivery_seq=seq, settled_at=now)
    # From the first delivery on the snapshot holds keys of this shape, settled or not.
    for window_id in sorted({batch.window_id for batch in delivered}):
        window = connection.execute(select(window_table).where(window_table.c.id == window_id)).one()
        last = max(seq for batch_window, seq in numbered if batch_window == window_id)
        values = {"event": window.event, "unique_key": window.unique_key, "delivered_seq": last}
        connection.execute(update(models).where(models.c.id == window.model_id).values(values))


def _by_batch(mine: Sequence[Batch], found: Sequence[NewReject]) -> list[tuple[Batch, list[NewReject]]]:
    named = {batch.name: batch for batch in mine}
    if len(mine) == 1:
        named.setdefault("", mine[0])
    grouped: dict[str, list[NewReject]] = {}
    for reject in found:
        if reject.batch_name not in named:
            raise ValueError("a reject of a completed job must name one of its batches")
        grouped.setdefault(reject.batch_name, []).append(reject)
    return [(named[name], of_batch) for name, of_batch in grouped.items()]


def end(
    connection: Connection,
    job_id: int,
    state: JobState,
    *,
    held: bool,
    resend: Sequence[int] = (),
    **values: Any,
) -> None:
    """End a job without a delivery: its batches go back to `sealed`, or are `held` but for those in `resend`."""
    move(connection, JOB, [job_id], state, **values, **_last_status(values.get("answer") or {}))
    mine = [
        batch.id for batch in covered(connection, job_id) if batch.job_id == job_id and batch.state in UNSETTLED_BATCHES
    ]
    if not set(resend) <= set(mine):
        raise ValueError(f"job {job_id} does not have the batches to send again")
    back = [batch for batch in mine if batch in resend] if held else mine
    move(connection, BATCH, back, BatchState.SEALED, job_id=None)
    if held:
        rest = [batch for batch in mine if batch not in back]
        if not rest:
            raise ValueError(f"job {job_id} would be held without a batch; let it fail")
        move(connection, BATCH, rest, BatchState.HELD)


def decide(
    connection: Connection,
    job_id: int,
    batch_ids: Sequence[int],
    *,
    arrived: bool,
    resolved: Sequence[int],
    now: datetime,
) -> list[int]:
    """What a person knows of held batches of a held job: they arrived, or go again; returns the windows that settled.

    The job is over when none of its batches is held any more: completed when all that it still has arrived.
    """
    mine = {batch.id: batch for batch in covered(connection, job_id) if batch.job_id == job_id}
    if not batch_ids or any(id_ not in mine or mine[id_].state is not BatchState.HELD for id_ in batch_ids):
        raise IllegalMove(f"job {job_id} does not hold these batches")
    chosen = [mine[id_] for id_ in batch_ids]
    if arrived:
        _deliver(connection, job_id, chosen, now)
        rejects.close(connection, resolved, RejectState.RESOLVED, now)
    else:
        move(connection, BATCH, batch_ids, BatchState.SEALED, only=[BatchState.HELD], job_id=None)
    rest = [batch for batch in covered(connection, job_id) if batch.job_id == job_id]
    if all(batch.state is not BatchState.HELD for batch in rest):
        over = JobState.COMPLETED if rest else JobState.FAILED
        move(connection, JOB, [job_id], over, only=[JobState.HELD], ended_at=now)
    return windows.settle(connection, [batch.window_id for batch in chosen], now) if arrived else []


def mergeable(connection: Connection, pipeline: str, model: str) -> list[Batch]:
    """Delivered batches that the snapshot does not hold yet, in the order of their delivery."""
    named = select(models.c.id, models.c.merged_seq, models.c.delivered_seq).join(pipeline_table)
    known = connection.execute(named.where(pipeline_table.c.name == pipeline, models.c.name == model)).one_or_none()
    if known is None or (known.delivered_seq or 0) <= known.merged_seq:
        return []
    # By their numbers: a model's windows are many more than what was delivered since its last merge.
    of_window = select(window_table.c.model_id).where(window_table.c.id == batches.c.window_id).scalar_subquery()
    ids = select(batches.c.id).where(
        batches.c.delivery_seq.between(known.merged_seq + 1, known.delivered_seq),
        batches.c.state == BatchState.DELIVERED,
        of_window == known.id,
    )
    found = windows.batches_of(connection, list(connection.scalars(ids)))
    return sorted(found, key=lambda batch: batch.delivery_seq or 0)


def history(connection: Connection, pipeline: str, limit: int) -> list[RunHistory]:
    """The newest runs, newest first, each with its jobs and their batches."""
    runs = pipelines.list_runs(connection, pipeline, limit)
    statement = _select_jobs().where(jobs.c.run_id.in_([run.id for run in runs])).order_by(jobs.c.id)
    of_run: dict[int, list[JobHistory]] = {}
    for row in connection.execute(statement):
        entry = JobHistory(Job.from_row(row), tuple(covered(connection, row.id)))
        of_run.setdefault(entry.job.run_id, []).append(entry)
    return [RunHistory(run, tuple(of_run.get(run.id, ()))) for run in runs]
