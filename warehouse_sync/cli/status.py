"""`status`: where each model stands, as the state store knows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Duration, Verb, shared
from warehouse_sync.cli.output import print_data, print_json, print_table
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.project.model import BrokenModel
    from warehouse_sync.state.rows import Job, ModelState, Run
    from warehouse_sync.state.store import Store
    from warehouse_sync.values import Model

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the clock of the machine that ran may be ahead of this one's."""


@click.command(cls=Verb, short_help="Show where each model stands.")
@shared("config", "select", "exclude", "vars", "output")
@click.option(
    "--max-age",
    type=Duration(),
    metavar="TIME",
    help="For health checks: end with 1 unless the last run ended with 0, at most this long ago, or one is at work.",
)
@click.pass_obj
def status(session: Session, max_age: timedelta | None) -> int:
    """Where each model stands: cursor, last window, rows that wait, refused rows, the running job."""
    from warehouse_sync.home import check_home

    session.sends_nothing("warehouse")
    chosen = session.selected()
    with session.store() as store:
        check_home(store, session.config.name, session.config.home)
        rows = [_model_status(session, store, model) for model in [*chosen, *_gone(session, store)]]
        running = _running(session, store)
        newest = store.history(session.config.name, 1) if max_age is not None else []
    if session.prints_json:
        print_json({"pipeline": session.config.name, "models": rows, **running})
    else:
        _print_status(rows, running)
    if max_age is None or running["lease"]:
        return 0
    return _judge(session, newest[0].run if newest else None, max_age)


def _judge(session: Session, last: Run | None, max_age: timedelta) -> int:
    """The exit code for a health check, and on stderr why it is not 0."""
    from warehouse_sync.project.quantities import format_duration
    from warehouse_sync.values import utc_now

    age = utc_now() - last.ended_at if last is not None and last.ended_at is not None else timedelta()
    if last is None:
        trouble = "there was no run yet"
    elif last.ended_at is None:
        trouble = f"run {last.id} was broken off"
    elif last.exit_code != 0:
        trouble = f"run {last.id} ended with exit code {last.exit_code}"
    elif age > max_age:
        trouble = f"run {last.id} ended more than {format_duration(max_age)} ago"
    elif age < -CLOCKS_DIFFER:
        trouble = f"run {last.id} ended in the future: was the clock set?"
    else:
        return 0
    session.console.event("unhealthy", trouble, level="error")
    return 1


def _print_status(rows: Sequence[dict[str, Any]], running: dict[str, Any]) -> None:
    names = ("model", "event", "cursor", "lag", "settled_at", "window", "waiting", "open_rejects", "note")
    headings = ("model", "event", "cursor", "lag", "settled (UTC)", "window", "waiting", "refused", "")
    print_table(headings, [[row[name] for name in names] for row in rows])
    job, held = running["job"], running["lease"]
    print_data("")
    print_data(
        f"job: {job['file']} is {job['state']}, {counted(job['rows'], 'row')}" if job else "job: none on its way"
    )
    print_data(f"run: {held}" if held else "run: none at work")


def _model_status(session: Session, store: Store, model: Model | BrokenModel | str) -> dict[str, Any]:
    from warehouse_sync.state.lifecycle import UNSETTLED_BATCHES, BatchState

    name = model if isinstance(model, str) else model.name
    pipeline = session.config.name
    known = store.model_state(pipeline, name)
    window = store.window(known.settled_window_id) if known and known.settled_window_id else None
    unsettled = store.batches(pipeline, model=name, states=UNSETTLED_BATCHES)
    held = sum(batch.rows for batch in unsettled if batch.state is BatchState.HELD)
    event = (known.event if known else None) if isinstance(model, str) else model.event
    return {
        "model": name,
        "event": event,
        "cursor": known.cursor.text if known and known.cursor else None,
        "cursor_column": known.cursor_column if known else None,
        "lag": _lag(model, known),
        "settled_at": known.settled_at if known else None,
        "window": window.id if window else None,
        "window_counts": window.counts.as_dict() if window else None,
        "waiting": sum(batch.rows for batch in unsettled),
        "held": held,
        "open_rejects": store.reject_counts(pipeline).get(name, 0),
        "note": _note(model, known is not None, held),
    }


def _note(model: Model | BrokenModel | str, known: bool, held: int) -> str:
    from warehouse_sync.project.model import BrokenModel

    notes = []
    if isinstance(model, str):
        notes.append("no such model any more")
    elif isinstance(model, BrokenModel):
        notes.append("cannot be used: `warehouse-sync ls` says why")
    elif not known:
        notes.append("never delivered")
    if held:
        notes.append(f"{counted(held, 'row is')} held: nobody can tell whether they arrived")
    return "; ".join(notes)


def _lag(model: Model | BrokenModel | str, known: ModelState | None) -> str | None:
    """How far behind its cursor the model reads again, once the kind of its cursor is known."""
    from datetime import timedelta

    from warehouse_sync.changes.window import lag_of
    from warehouse_sync.errors import ModelError
    from warehouse_sync.project.quantities import format_duration
    from warehouse_sync.values import Model

    if not isinstance(model, Model) or known is None or known.cursor is None:
        return None
    try:
        lag = lag_of(model, known.cursor.kind)
    except ModelError:
        return None
    return format_duration(lag) if isinstance(lag, timedelta) else str(lag)


def _gone(session: Session, store: Store) -> list[str]:
    """Models of the state store that have no file any more; only when everything is looked at."""
    if session.flags.select or session.flags.exclude:
        return []
    files = {model.name for model in session.models}
    return [known.model for known in store.model_states(session.config.name) if known.model not in files]


def _running(session: Session, store: Store) -> dict[str, Any]:
    from warehouse_sync.state.lease import holder
    from warehouse_sync.state.lifecycle import IN_FLIGHT

    config = session.config
    jobs = store.jobs(config.name, states=IN_FLIGHT)
    held = holder(config.state.url.get_secret_value(), config.name)
    return {"job": job_as_json(jobs[-1]) if jobs else None, "lease": None if held is None else str(held)}


def job_as_json(job: Job) -> dict[str, Any]:
    """A job, as `--output json` shows it."""
    return {
        "number": job.number,
        "file": job.filename,
        "state": job.state,
        "remote_status": job.remote_status,
        "rows": job.rows,
        "total_rows": job.total_rows,
        "remote_id": job.remote_id,
        "request_id": job.request_id,
        "reason": job.reason,
        "intended_at": job.intended_at,
        "accepted_at": job.accepted_at,
        "ended_at": job.ended_at,
    }


__all__ = ["job_as_json", "status"]
