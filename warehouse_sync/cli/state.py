"""`state show`, `reset` and `discard`: the state store by hand; `state_moves` has the verbs that move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli import state_moves
from warehouse_sync.cli.by_hand import agreed, changing, known_model, save_export
from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_data, print_json, print_table
from warehouse_sync.cli.session import Session
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.state.rows import Batch, ResetReport
    from warehouse_sync.state.store import Store
    from warehouse_sync.values import CursorValue, Model


@click.group()
@shared("config", "output")
def state() -> None:
    """Look at the state store, or change it.

    What changes it says what it will do, asks (or takes --yes), and, but for `unlock`, writes an export first, which
    `state import` puts back.
    """


@state.command(cls=Verb, short_help="Show what the state store holds.")
@shared("config", "output")
@click.argument("model", required=False)
@click.pass_obj
def show(session: Session, model: str | None) -> None:
    """What the store holds: destination, models, windows and batches that are not settled, jobs on their way."""
    session.sends_nothing("warehouse")
    with session.store() as store:
        if model is not None and store.pipeline(session.config.name):
            known_model(store, session.config.name, model)
        found = _state(store, session.config.name, model)
    if session.prints_json:
        print_json(found)
    elif found["pipeline"] is None:
        print_data(f"the state store knows nothing of pipeline `{session.config.name}` yet")
    else:
        _print_state(found)


def _state(store: Store, pipeline: str, model: str | None) -> dict[str, Any]:
    from warehouse_sync.state.lifecycle import IN_FLIGHT, UNSETTLED_BATCHES, JobState, WindowState

    destination = store.destination(pipeline)
    return {
        "pipeline": pipeline if store.pipeline(pipeline) else None,
        "destination": None
        if destination is None
        else {"endpoint": destination.origin, "account": destination.account, "since": destination.claimed_at},
        "models": [
            {
                "model": known.model,
                "event": known.event,
                "unique_key": list(known.unique_key),
                "cursor_column": known.cursor_column,
                "cursor": known.cursor.text if known.cursor else None,
                "cursor_kind": known.cursor.kind if known.cursor else None,
                "settled_window": known.settled_window_id,
                "settled_at": known.settled_at,
                "merged": known.merged_seq,
                "properties": known.properties,
            }
            for known in store.model_states(pipeline)
            if model in (None, known.model)
        ],
        "windows": [
            {
                "window": window.id,
                "model": window.model,
                "kind": window.kind,
                "state": window.state,
                "started_at": window.started_at,
                "from": window.cursor_from.text if window.cursor_from else None,
                "to": window.cursor_to.text if window.cursor_to else None,
            }
            for window in store.windows(pipeline, model=model, states=(WindowState.EXTRACTING, WindowState.READY))
        ],
        "batches": [
            {"batch": batch.name, "model": batch.model, "rows": batch.rows, "bytes": batch.bytes, "state": batch.state}
            for batch in store.batches(pipeline, model=model, states=UNSETTLED_BATCHES)
        ],
        "jobs": [
            {"file": job.filename, "state": job.state, "rows": job.rows, "remote_id": job.remote_id}
            for job in store.jobs(pipeline, states=IN_FLIGHT | {JobState.HELD})
        ],
    }


def _print_state(found: dict[str, Any]) -> None:
    where = found["destination"]
    print_data(f"pipeline     {found['pipeline']}")
    if where:
        print_data(f"destination  {where['endpoint']}, account {where['account'] or 'not known yet'}")
    for name, hidden in (("models", ("properties",)), ("windows", ()), ("batches", ()), ("jobs", ())):
        rows = found[name]
        if rows:
            headings = [key for key in rows[0] if key not in hidden]
            print_data("")
            print_table(headings, [[row[key] for key in headings] for row in rows], title=f"{name}\n")


@state.command(cls=Verb, short_help="Forget what was sent; the next run sends it again.")
@shared("config", "vars", "output")
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole pipeline, with its jobs and its destination.")
@click.option("--cursor", metavar="VALUE", help="Forget nothing; the next run reads MODEL from this value on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(session: Session, model: str | None, everything: bool, cursor: str | None, yes: bool) -> int:
    """Forget what was sent of a model, or of the whole pipeline: the next run sends every row again.

    With --cursor what was sent stays known, and only the place moves from which the next run reads.

    Nothing is deleted in Userpilot. Runs stay in the history.
    """
    if (model is None) is not everything or (cursor is not None and model is None):
        raise click.UsageError("name a model, or say --all for the whole pipeline; --cursor goes with a model.")
    if model is not None and cursor is not None:
        return _set_cursor(session, model, cursor, yes=yes)
    from warehouse_sync.upkeep import by_hand

    config = session.config
    with changing(session, "reset") as store:
        if model is not None:
            known_model(store, config.name, model)
        report = store.by_hand.reset_report(config.name, model)
        if not agreed(session, _what_is_forgotten(report, model), yes=yes):
            return 1
        save_export(session, store, "reset")
        by_hand.reset(store, config, model)
    what = f"model {model}" if model else f"pipeline {config.name}"
    session.console.event(
        "state_reset", f"{what} starts over with the next run", pipeline=config.name, models=list(report.models)
    )
    return 0


def _what_is_forgotten(report: ResetReport, model: str | None) -> list[str]:
    """What is about to be forgotten, and what that means."""
    lines = [
        f"This forgets {'model ' + model if model else 'the whole pipeline'}:",
        f"  models      {', '.join(report.models) or 'none'}",
        f"  windows     {report.windows:,}",
        f"  batches     {report.batches:,}, of which {report.undelivered:,} are not delivered yet",
        f"  refused     {counted(report.rejects, 'row')}",
        f"  jobs        {report.jobs:,}" + ("" if model is None else " (they stay in the history)"),
        "The next run sends every row again from `begin` on. Events are counted twice in Userpilot. Of a profile it"
        " keeps what has the latest `inserted_at`: a row whose own time is older than one sent before changes nothing.",
    ]
    if report.in_flight:
        lines.append(f"{counted(report.in_flight, 'job is')} on the way: the rows may arrive, and are sent again.")
    return lines


# Another cursor


def _set_cursor(session: Session, name: str, text: str, *, yes: bool) -> int:
    from warehouse_sync.errors import UsageError
    from warehouse_sync.state.lifecycle import BatchState
    from warehouse_sync.upkeep import by_hand

    config, pipeline = session.config, session.config.name
    with changing(session, "reset") as store:
        known = known_model(store, pipeline, name)
        model = session.model(name)
        if known is None or known.cursor is None:
            raise UsageError(
                f"model `{name}` has no cursor yet", hint="its header's `begin` says where the first run starts."
            )
        value = by_hand.cursor_value(config, session.policy, model, known, text)
        on_their_way = store.batches(pipeline, model=name, states=(BatchState.SENT, BatchState.HELD))
        if on_their_way:
            raise UsageError(
                f"{counted(len(on_their_way), 'batch')} of `{name}` went with a job, which will move the cursor",
                hint="let a run end it first, or decide with `warehouse-sync retry --resend` or `--settle`.",
            )
        sealed = store.batches(pipeline, model=name, states=(BatchState.SEALED,))
        if not agreed(session, _what_is_read(model, known.cursor, value, sealed), yes=yes):
            return 1
        save_export(session, store, "reset")
        if by_hand.move_cursor(store, config, model, value, sealed):
            session.console.event(
                "state_change", f"The snapshot of {name} is lost: what is read from there on counts as new."
            )
    session.console.event("state_reset", f"the next run reads {name} from {value.text} on", models=[name])
    return 0


def _what_is_read(model: Model, before: CursorValue, value: CursorValue, sealed: list[Batch]) -> list[str]:
    from warehouse_sync.changes.window import order

    lines = [f"This moves the cursor of {model.name} from {before.text} to {value.text}."]
    if sealed:
        lines.append(f"{counted(sum(b.rows for b in sealed), 'row')} read and not sent: given up, to be read again.")
    if order(value) > order(before):
        lines.append("Rows between the two are not read, and not sent.")
    elif model.unique_key:
        lines.append("Rows from there on are read again and compared: only new and changed ones are sent.")
    else:
        lines.append("The model has no `unique_key`: rows from there on are sent again, and count twice in Userpilot.")
    return lines


# What is not delivered


@state.command(cls=Verb, short_help="Give up what was read and not delivered; it is read again.")
@shared("config", "output")
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="Of every model.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard(session: Session, model: str | None, everything: bool, yes: bool) -> int:
    """Give up the batches of a model that were read and not delivered. The cursor stays: the next run reads them again.

    Batches of a job on its way are followed all the same.
    """
    if (model is None) is not everything:
        raise click.UsageError("name a model, or say --all for every model.")
    from warehouse_sync.state.lifecycle import BatchState, WindowState
    from warehouse_sync.upkeep import by_hand

    pipeline = session.config.name
    with changing(session, "discard") as store:
        if model is not None:
            known_model(store, pipeline, model)
        given_up = store.batches(pipeline, model=model, states=(BatchState.SEALED, BatchState.HELD))
        if not given_up:
            session.console.event("nothing_to_discard", "nothing was read and not delivered")
            return 0
        if not agreed(session, _what_is_given_up(given_up), yes=yes):
            return 1
        save_export(session, store, "discard")
        by_hand.discard(store, session.config, given_up)
        left = store.windows(pipeline, model=model, states=(WindowState.READY,))
    rows = sum(batch.rows for batch in given_up)
    more = "" if not left else f"; {counted(len(left), 'window waits')} for the job that has the rest"
    session.console.event(
        "state_discarded", f"{counted(rows, 'row')} given up, and read again by the next run{more}", rows=rows
    )
    return 0


def _what_is_given_up(given_up: list[Batch]) -> list[str]:
    from warehouse_sync.state.lifecycle import BatchState

    lines = ["This gives up batches that are not delivered; the cursor stays, the next run reads their rows again:"]
    for name in sorted({batch.model for batch in given_up}):
        mine = [batch for batch in given_up if batch.model == name]
        lines.append(f"  {name}  {counted(len(mine), 'batch')}, {counted(sum(b.rows for b in mine), 'row')}")
    held = [batch for batch in given_up if batch.state is BatchState.HELD]
    if held:
        lines.append(
            f"{counted(sum(b.rows for b in held), 'row is')} held: nobody can tell whether they arrived."
            " Profiles are overwritten; events that did arrive count twice."
        )
    return lines


for verb in (state_moves.adopt, state_moves.rename, state_moves.unlock, state_moves.export, state_moves.import_):
    state.add_command(verb)
