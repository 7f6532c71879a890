"""`history`: runs, their jobs, and the batches that each job covered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, WholeNumber, shared
from warehouse_sync.cli.output import print_data, print_json, print_table
from warehouse_sync.cli.session import Session
from warehouse_sync.cli.status import job_as_json

if TYPE_CHECKING:
    from warehouse_sync.state.rows import Batch, JobHistory, Run, RunHistory


@click.command(cls=Verb, short_help="Show runs, jobs, and the batches each job covered.")
@shared("config", "output")
@click.option("--limit", type=WholeNumber(min=1), default=10, show_default=True, metavar="N", help="Newest runs.")
@click.pass_obj
def history(session: Session, limit: int) -> None:
    """Runs, their jobs, and the batches that each job covered; the newest run first."""
    session.sends_nothing("warehouse")
    with session.store() as store:
        runs = store.history(session.config.name, limit) if store.pipeline(session.config.name) else []
    if not runs and not session.prints_json:
        print_data("no runs yet")
    for entry in runs:
        if session.prints_json:
            print_json(_run_as_json(entry))
        else:
            _print_run(entry)


def _run_as_json(entry: RunHistory) -> dict[str, Any]:
    run = entry.run
    return {
        "run": run.id,
        "verb": run.verb,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "exit_code": run.exit_code,
        "version": run.version,
        "args": run.args,
        "results": list(run.results),
        "jobs": [
            {**job_as_json(item.job), "batches": [_batch(batch) for batch in item.batches]} for item in entry.jobs
        ],
    }


def _batch(batch: Batch) -> dict[str, Any]:
    return {
        "batch": batch.name,
        "model": batch.model,
        "window": batch.window_id,
        "rows": batch.rows,
        "bytes": batch.bytes,
        "state": batch.state,
    }


def _print_run(entry: RunHistory) -> None:
    run = entry.run
    print_data(f"run {run.id}  {run.verb}  {run.started_at:%Y-%m-%d %H:%M:%S} UTC  {_ending(run)}")
    if entry.jobs:
        rows = [row for item in entry.jobs for row in _job_rows(item)]
        print_table(("  job", "id", "state", "rows", "batch", "batch rows"), rows)
    print_data("")


def _ending(run: Run) -> str:
    if run.ended_at is None:
        return "not ended: at work, or killed"
    seconds = (run.ended_at - run.started_at).total_seconds()
    statuses = [str(result.get("status")) for result in run.results]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return f"exit code {run.exit_code}, {seconds:.1f}s{': ' if counts else ''}{counts}"


def _job_rows(item: JobHistory) -> Iterable[Sequence[Any]]:
    """A job and its first batch on one line, further batches below."""
    job = item.job
    # The end of a job's id tells it apart; the beginning is the same for all of an account.
    remote = f"…{job.remote_id[-8:]}" if job.remote_id else None
    first = (f"  {job.filename}", remote, job.state, job.rows)
    for place, batch in enumerate(item.batches):
        yield (*(first if place == 0 else ("", None, None, None)), batch.name, batch.rows)
    if not item.batches:
        yield (*first, None, None)
    if job.reason:
        yield (f"  {job.reason}", None, None, None, None, None)
