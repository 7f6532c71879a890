"""Batches whose fate nobody knows: they are not sent, nor is their model read, until a person decides."""

from __future__ import annotations

from collections.abc import Sequence

from warehouse_sync.errors import ApiError
from warehouse_sync.observe.words import counted
from warehouse_sync.state.lifecycle import BatchState, JobState
from warehouse_sync.state.rows import Batch, Job
from warehouse_sync.state.store import Store

_HINT = "`warehouse-sync retry --resend` sends its batches again, `retry --settle` takes them as arrived."


def held_batches(store: Store, pipeline: str) -> list[tuple[Job, list[Batch]]]:
    """The jobs that hold batches, oldest first, with those batches: one that another job has since is not theirs."""
    found = []
    for job in store.jobs(pipeline, states=(JobState.HELD,)):
        batches = [b for b in store.job_batches(job.id) if b.state is BatchState.HELD and b.job_id == job.id]
        if batches:
            found.append((job, batches))
    return found


def held_errors(store: Store, pipeline: str) -> dict[str, ApiError]:
    """Model -> how a run ends it while batches of it are held."""
    held: dict[str, list[tuple[Job, int]]] = {}
    for job, batches in held_batches(store, pipeline):
        for model in {batch.model for batch in batches}:
            held.setdefault(model, []).append((job, sum(batch.rows for batch in batches if batch.model == model)))
    return {model: _error(jobs) for model, jobs in held.items()}


def _error(held: Sequence[tuple[Job, int]]) -> ApiError:
    """`held`: each job with the rows of the model that it holds."""
    rows, names = sum(rows for _, rows in held), ", ".join(job.filename for job, _ in held)
    reasons = "; ".join(dict.fromkeys(str(job.reason) for job, _ in held))
    what = f"{counted(rows, 'row is')} held with {'job' if len(held) == 1 else 'jobs'} {names}: {reasons}"
    return ApiError(what, hint=_HINT)


__all__ = ["held_batches", "held_errors"]
