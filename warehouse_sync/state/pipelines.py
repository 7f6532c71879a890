"""Statements on pipelines, destinations, runs and models, and the reset that forgets them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, func, insert, or_, select, update

from warehouse_sync.errors import DestinationError, StateError
from warehouse_sync.state.lifecycle import IN_FLIGHT, UNSETTLED_BATCHES, BatchState, IllegalMove, JobState
from warehouse_sync.state.moves import JOB, insert_into, move
from warehouse_sync.state.rows import Destination, ModelState, Pipeline, ResetReport, Run
from warehouse_sync.state.tables import batches, destinations, job_batches, jobs, models, pipelines, rejects, windows
from warehouse_sync.state.tables import runs as run_table


def pipeline_id(connection: Connection, name: str) -> int:
    """The id of a registered pipeline; another name is a fault of this program."""
    found: int | None = connection.scalar(select(pipelines.c.id).where(pipelines.c.name == name))
    if found is None:
        raise LookupError(f"pipeline {name} is not registered")
    return found


def list_pipelines(connection: Connection, name: str | None = None) -> list[Pipeline]:
    """Pipelines by name; all of them, or the one of that name."""
    statement = select(pipelines).order_by(pipelines.c.name)
    if name is not None:
        statement = statement.where(pipelines.c.name == name)
    return [Pipeline.from_row(row) for row in connection.execute(statement)]


def register(connection: Connection, name: str, home_id: str, now: datetime) -> None:
    """Add a pipeline; one that is there already must have the same home."""
    values = {"name": name, "home_id": home_id, "job_number": 0, "delivery_seq": 0, "created_at": now}
    connection.execute(insert_into(connection, pipelines).values(values).on_conflict_do_nothing())
    if list_pipelines(connection, name)[0].home_id != home_id:
        raise StateError(
            f"pipeline {name} keeps its files in another state.dir",
            hint="Point state.dir at the folder it had, or take over this one: `warehouse-sync state adopt`.",
        )


def set_home(connection: Connection, name: str, home_id: str) -> None:
    """Let a pipeline keep its files elsewhere from now on."""
    connection.execute(update(pipelines).where(pipelines.c.id == pipeline_id(connection, name)).values(home_id=home_id))


def has_history(connection: Connection, name: str) -> bool:
    """True when any window or merged snapshot is known."""
    of_pipeline = select(models.c.id).join(pipelines).where(pipelines.c.name == name)
    known = exists().where(windows.c.model_id.in_(of_pipeline))
    merged = exists().where(models.c.id.in_(of_pipeline), models.c.merged_seq > 0)
    return bool(connection.scalar(select(or_(known, merged))))


def next_number(connection: Connection, pipeline: int, counter: str) -> int:
    """Count one of the pipeline's counters up: `job_number` or `delivery_seq`."""
    column = pipelines.c[counter]
    statement = update(pipelines).where(pipelines.c.id == pipeline).values({counter: column + 1})
    return int(connection.execute(statement.returning(column)).scalar_one())


def _select_destinations() -> Select[tuple[Any, ...]]:
    return select(destinations, pipelines.c.name.label("pipeline")).join(pipelines)


def destination(connection: Connection, pipeline: str) -> Destination | None:
    """The destination that the pipeline's state belongs to."""
    row = connection.execute(_select_destinations().where(pipelines.c.name == pipeline)).one_or_none()
    return None if row is None else Destination.from_row(row)


def claim_destination(
    connection: Connection, pipeline: str, origin: str, account: str | None, *, key_fingerprint: str, now: datetime
) -> None:
    """Take the destination, or refuse when the state belongs to another one."""
    stored = destination(connection, pipeline)
    if stored is None:
        set_destination(connection, pipeline, origin, account, key_fingerprint=key_fingerprint, now=now)
        return
    if stored.origin != origin:
        raise _elsewhere(pipeline, f"rows went to {stored.origin} so far, userpilot.endpoint is {origin}")
    same_key = stored.key_fingerprint == key_fingerprint
    if account is not None and stored.account is not None:
        if account != stored.account:
            raise _elsewhere(pipeline, "the API key belongs to another Userpilot account than the rows sent so far")
    elif not same_key:
        raise _elsewhere(pipeline, "the API key is another one, and no import job shows yet which account it is for")
    if not same_key or (stored.account is None and account is not None):
        set_destination(
            connection, pipeline, origin, account or stored.account, key_fingerprint=key_fingerprint, now=now
        )


def _elsewhere(pipeline: str, why: str) -> DestinationError:
    return DestinationError(
        f"the state of pipeline {pipeline} belongs to another destination: {why}",
        hint="Same account with a new key or endpoint: `warehouse-sync state adopt`. "
        "Another account: `warehouse-sync state reset --all`, which sends everything again.",
    )


def set_destination(
    connection: Connection, pipeline: str, origin: str, account: str | None, *, key_fingerprint: str, now: datetime
) -> None:
    """Write the destination down, whatever it was before."""
    owner = pipeline_id(connection, pipeline)
    values = {"origin": origin, "account": account, "key_fingerprint": key_fingerprint, "claimed_at": now}
    if connection.execute(update(destinations).where(destinations.c.pipeline_id == owner).values(values)).rowcount:
        return
    connection.execute(insert(destinations).values(pipeline_id=owner, **values))


def begin_run(
    connection: Connection, pipeline: str, verb: str, args: dict[str, Any], *, version: str, now: datetime
) -> int:
    """A run that has started; returns its id."""
    values = {"verb": verb, "args": args, "version": version, "started_at": now}
    statement = insert(run_table).values(pipeline_id=pipeline_id(connection, pipeline), **values)
    return int(connection.execute(statement.returning(run_table.c.id)).scalar_one())


def end_run(connection: Connection, run_id: int, exit_code: int, results: list[dict[str, Any]], now: datetime) -> None:
    """Write down how a run ended, once."""
    statement = update(run_table).where(run_table.c.id == run_id, run_table.c.ended_at.is_(None))
    if connection.execute(statement.values(ended_at=now, exit_code=exit_code, results=results)).rowcount != 1:
        raise IllegalMove(f"run {run_id} is unknown or has ended")


def list_runs(connection: Connection, pipeline: str, limit: int) -> list[Run]:
    """The newest runs, newest first."""
    statement = (
        select(run_table, pipelines.c.name.label("pipeline"))
        .join(pipelines)
        .where(pipelines.c.name == pipeline)
        .order_by(run_table.c.id.desc())
        .limit(limit)
    )
    return [Run.from_row(row) for row in connection.execute(statement)]


def ensure_model(connection: Connection, pipeline: str, name: str) -> int:
    """The id of a model, known from its first window on."""
    owner = pipeline_id(connection, pipeline)
    known = select(models.c.id).where(models.c.pipeline_id == owner, models.c.name == name)
    found: int | None = connection.scalar(known)
    if found is not None:
        return found
    statement = insert(models).values(pipeline_id=owner, name=name, merged_seq=0)
    return int(connection.execute(statement.returning(models.c.id)).scalar_one())


def model_states(connection: Connection, pipeline: str, model: str | None = None) -> list[ModelState]:
    """Models of which something was delivered or a window settled, by name."""
    statement = select(models).join(pipelines).where(pipelines.c.name == pipeline, models.c.event.is_not(None))
    if model is not None:
        statement = statement.where(models.c.name == model)
    return [ModelState.from_row(row) for row in connection.execute(statement.order_by(models.c.name))]


def record_merged(connection: Connection, pipeline: str, model: str, batch_id: int) -> None:
    """The snapshot holds every delivery up to that of this batch; never goes back."""
    owned = (
        select(batches.c.delivery_seq)
        .join(windows, windows.c.id == batches.c.window_id)
        .join(models, models.c.id == windows.c.model_id)
        .where(models.c.pipeline_id == pipeline_id(connection, pipeline), models.c.name == model)
        .where(batches.c.id == batch_id, batches.c.state == BatchState.DELIVERED)
    )
    seq = connection.scalar(owned)
    if seq is None:
        raise IllegalMove(f"batch {batch_id} is not a delivered batch of model {model}, so it cannot be merged")
    statement = update(models).where(models.c.pipeline_id == pipeline_id(connection, pipeline), models.c.name == model)
    connection.execute(statement.where(models.c.merged_seq < seq).values(merged_seq=seq))


def reset_report(connection: Connection, pipeline: str, model: str | None) -> ResetReport:
    """What `reset` would forget."""
    owner = pipeline_id(connection, pipeline)
    mine = select(models.c.id).where(models.c.pipeline_id == owner)
    if model is not None:
        mine = mine.where(models.c.name == model)
    of_windows = select(windows.c.id).where(windows.c.model_id.in_(mine))
    of_batches = select(batches.c.id).where(batches.c.window_id.in_(of_windows))
    of_jobs = select(jobs.c.id).where(jobs.c.pipeline_id == owner)
    if model is not None:
        of_jobs = of_jobs.where(
            jobs.c.id.in_(select(job_batches.c.job_id).where(job_batches.c.batch_id.in_(of_batches)))
        )

    def count(selected: Select[tuple[int]]) -> int:
        return int(connection.scalar(select(func.count()).select_from(selected.subquery())) or 0)

    names = select(models.c.name).where(models.c.id.in_(mine)).order_by(models.c.name)
    return ResetReport(
        models=tuple(connection.scalars(names)),
        windows=count(of_windows),
        batches=count(of_batches),
        undelivered=count(of_batches.where(batches.c.state.in_(list(UNSETTLED_BATCHES)))),
        rejects=count(select(rejects.c.id).where(rejects.c.model_id.in_(mine))),
        jobs=count(of_jobs),
        in_flight=count(of_jobs.where(jobs.c.state.in_(list(IN_FLIGHT)))),
    )


def is_replaceable(connection: Connection, pipeline: str) -> bool:
    """True for a pipeline that has read and sent nothing since its start, or since it was reset."""
    report = reset_report(connection, pipeline, None)
    return not (report.windows or report.jobs)


def replace(connection: Connection, pipeline: str, by: str, now: datetime) -> None:
    """Let a pipeline go that has sent nothing; its runs and counters, which never go back, become the other one's."""
    reset(connection, pipeline, None, now)
    gone, owner = pipeline_id(connection, pipeline), pipeline_id(connection, by)
    connection.execute(update(run_table).where(run_table.c.pipeline_id == gone).values(pipeline_id=owner))
    counted = select(pipelines.c.job_number, pipelines.c.delivery_seq).where(pipelines.c.id.in_([gone, owner]))
    jobs_named, deliveries = map(max, zip(*connection.execute(counted), strict=True))
    values = {"job_number": jobs_named, "delivery_seq": deliveries}
    connection.execute(update(pipelines).where(pipelines.c.id == owner).values(values))
    connection.execute(delete(pipelines).where(pipelines.c.id == gone))


def reset(connection: Connection, pipeline: str, model: str | None, now: datetime) -> None:
    """Forget a model, or the whole pipeline with its jobs and destination; runs and counters stay.

    A job on its way that covers nothing but the model is over: there is nothing left to follow it for.
    """
    owner = pipeline_id(connection, pipeline)
    mine = select(models.c.id).where(models.c.pipeline_id == owner)
    if model is not None:
        mine = mine.where(models.c.name == model)
    of_windows = select(windows.c.id).where(windows.c.model_id.in_(mine))
    of_batches = select(batches.c.id).where(batches.c.window_id.in_(of_windows))
    connection.execute(delete(rejects).where(rejects.c.model_id.in_(mine)))
    connection.execute(delete(job_batches).where(job_batches.c.batch_id.in_(of_batches)))
    # Parents and children go in one statement, which either database checks as a whole.
    connection.execute(delete(batches).where(batches.c.window_id.in_(of_windows)))
    connection.execute(delete(windows).where(windows.c.model_id.in_(mine)))
    if model is None:
        connection.execute(delete(jobs).where(jobs.c.pipeline_id == owner))
        connection.execute(delete(destinations).where(destinations.c.pipeline_id == owner))
    connection.execute(delete(models).where(models.c.id.in_(mine)))
    end_empty_jobs(connection, owner, now)


def end_empty_jobs(connection: Connection, owner: int, now: datetime) -> None:
    """Let jobs go that cover no batch any more: `lost` before their upload was answered, `failed` after."""
    for target, origins in ((JobState.LOST, (JobState.INTENT,)), (JobState.FAILED, (JobState.ACCEPTED, JobState.HELD))):
        empty = select(jobs.c.id).where(
            jobs.c.pipeline_id == owner,
            jobs.c.state.in_(origins),
            ~exists().where(job_batches.c.job_id == jobs.c.id),
        )
        ids = list(connection.scalars(empty))
        move(connection, JOB, ids, target, only=origins, reason="its rows were forgotten by hand", ended_at=now)
