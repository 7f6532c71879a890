"""`explain`: why one key was or was not sent, from all that is known of it. Writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import cell, key_text, print_data, print_json
from warehouse_sync.cli.rejects import refuser, sentences
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.inspection.explain import Explanation, Refusal, RowNow, Sending
    from warehouse_sync.state.rows import Job

UNKNOWN = (
    "What differs cannot be said: the file that was delivered is deleted. `retention: {delivered: 7 days}` in the YAML"
    " keeps such files from the next delivery on."
)
REFUSED_THERE = (
    "That says nothing of `inserted_at`, the cursor and `ignore_changes`, which make no row another one:"
    " `warehouse-sync retry --refused` sends it as it is now."
)


@click.command(cls=Verb, short_help="Say why a key was or was not sent, in which batch and job.")
@shared("config", "vars", "output")
@click.argument("model")
@click.argument("key", nargs=-1, required=True)
@click.pass_obj
def explain(session: Session, model: str, key: tuple[str, ...]) -> int:
    """Say why the row of MODEL with this KEY was or was not sent: delivered in which batch and job, refused for which
    reasons, and what the next run would do with the row that the warehouse holds now. Exit code 1 for a key that nobody
    knows.

    A key of several columns is a JSON array, or one word a column.
    """
    from warehouse_sync.inspection.explain import explain as explained

    session.sends_nothing()
    found = explained(session.config, session.policy, session.model(model), key, session.console)
    if session.prints_json:
        print_json(_as_json(found))
    else:
        _print(found)
    if found.error is not None:
        session.console.failure(found.error)
    return int(not found.known or found.error is not None)


# For people


def _print(found: Explanation) -> None:
    print_data(f"{found.model} {key_text(found.key)}")
    if not found.known:
        print_data("  No such row: neither the warehouse nor anything sent or refused before has this key.")
        return
    lines = [("delivered", _sent(found.delivered) if found.delivered else "never, or not since the last reset")]
    lines += [("waiting", _sent(item)) for item in found.waiting]
    lines += [("refused", _refused(refusal)) for refusal in found.rejects]
    if found.error is None:
        lines += [("warehouse", _row(found, row)) for row in found.rows] or [("warehouse", "holds no such row now")]
    for heading, text in lines:
        print_data(f"  {heading:<10} {text}")


def _sent(item: Sending) -> str:
    words = {"sealed": "sealed, not uploaded yet", "sent": "on its way", "held": "held: nobody knows if it arrived"}
    state = cell(item.at) + " UTC" if item.at else words.get(item.batch.state, str(item.batch.state))
    job = _job(item.job) if item.job else "no job yet"
    at = f", inserted_at {item.inserted_at.isoformat(timespec='microseconds')}" if item.inserted_at else ""
    return f"{state}, in batch {item.batch.name}, {job}{at}"


def _job(job: Job) -> str:
    return f"job {job.number} ({job.filename}) of run {job.run_id}"


def _refused(refusal: Refusal) -> str:
    reject = refusal.reject
    place = f", in batch {reject.batch_name}" if reject.batch_name else ""
    place += f", {_job(refusal.job)}" if refusal.job else ""
    runs = f"runs {reject.first_run} to {reject.last_run}"
    return f"{refuser(reject)}{place}, {runs}, {reject.state}: {sentences(reject.reasons)}"


def _row(found: Explanation, row: RowNow) -> str:
    from warehouse_sync.inspection.explain import SENTENCES

    text = SENTENCES[row.fate]
    if found.waiting and row.fate in ("added", "changed"):
        text = "The next run delivers what waits first, then compares this row with it."
    elif row.fate == "changed":
        named = f"Changed: {', '.join(row.changed)}." if row.changed else "Only how a value is written has changed."
        text += f" {UNKNOWN if row.changed is None else named}"
    elif row.fate == "suppressed" and not row.reasons:
        text += f" {REFUSED_THERE}"
    if row.reasons:
        text += f" {sentences(row.reasons)}"
    if row.fate in ("behind", "before_begin"):
        text += f" It reads from {found.reads_from}" + (f" (lag {found.lag})." if row.fate == "behind" else ".")
    return text + (f" Cursor {cell(row.cursor)}." if row.cursor is not None else "")


# For machines


def _as_json(found: Explanation) -> dict[str, Any]:
    return {
        "model": found.model,
        "key": found.key,
        "known": found.known,
        "delivered": None if found.delivered is None else _sending(found.delivered),
        "waiting": [_sending(item) for item in found.waiting],
        "rejects": [_refusal(refusal) for refusal in found.rejects],
        "reads_from": found.reads_from,
        "warehouse": [
            {
                "fate": row.fate,
                "reasons": list(row.reasons),
                "cursor": row.cursor,
                "inserted_at": row.inserted_at,
                "changed": None if row.changed is None else list(row.changed),
            }
            for row in found.rows
        ],
        "error": None if found.error is None else str(found.error),
    }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    reject = refusal.reject
    return {
        "id": reject.id,
        "kind": reject.kind,
        "reasons": list(reject.reasons),
        "state": reject.state,
        "first_run": reject.first_run,
        "last_run": reject.last_run,
        "batch": reject.batch_name or None,
        "window": refusal.batch.window_id if refusal.batch else reject.window_id,
        **_job_as_json(refusal.job),
    }


def _sending(item: Sending) -> dict[str, Any]:
    batch = item.batch
    return {
        "batch": batch.name,
        "state": batch.state,
        "window": batch.window_id,
        "delivered_at": item.at,
        "inserted_at": None if item.inserted_at is None else item.inserted_at.isoformat(timespec="microseconds"),
        **_job_as_json(item.job),
    }


def _job_as_json(job: Job | None) -> dict[str, Any]:
    return {
        "job": None if job is None else job.filename,
        "job_number": None if job is None else job.number,
        "remote_id": None if job is None else job.remote_id,
        "run": None if job is None else job.run_id,
    }
