"""`state show` and `state reset`: the state store by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from warehouse_sync.cli.options import Verb, later, shared
from warehouse_sync.cli.output import print_data, print_json, print_table
from warehouse_sync.cli.session import Session, is_terminal

if TYPE_CHECKING:
    from warehouse_sync.project.config import Config
    from warehouse_sync.state.rows import ResetReport
    from warehouse_sync.state.store import Store

LATER = ("discard", "adopt", "rename", "export", "import", "unlock")


class StateGroup(click.Group):
    """The verbs on the state; those of later versions are known by name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb behind `state`."""
        if args and args[0] in LATER:
            raise later(f"`state {args[0]}`")
        return super().resolve_command(ctx, args)


@click.group(cls=StateGroup)
def state() -> None:
    """Look at the state store, or make it forget."""


@state.command(cls=Verb, short_help="Show what the state store holds.")
@shared("config", "output")
@click.argument("model", required=False)
@click.pass_obj
def show(session: Session, model: str | None) -> None:
    """What the store holds: destination, models, windows and batches that are not settled, jobs on their way."""
    with session.store() as store:
        found = _state(store, session.config.name, model)
    if session.prints_json:
        print_json(found)
    elif found["pipeline"] is None:
        print_data(f"the state store knows nothing of pipeline `{session.config.name}` yet")
    else:
        _print_state(found)


def _state(store: Store, pipeline: str, model: str | None) -> dict[str, Any]:
    from warehouse_sync.state.lifecycle import BatchState, JobState, WindowState

    destination = store.destination(pipeline)
    unsettled = (BatchState.SEALED, BatchState.SENT, BatchState.HELD)
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
                "merged": known.merged_batch,
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
            for batch in store.batches(pipeline, model=model, states=unsettled)
        ],
        "jobs": [
            {"file": job.filename, "state": job.state, "rows": job.rows, "remote_id": job.remote_id}
            for job in store.jobs(pipeline, states=(JobState.INTENT, JobState.ACCEPTED, JobState.HELD))
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
@shared("config", "output")
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="The whole pipeline, with its jobs and its destination.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(session: Session, model: str | None, everything: bool, yes: bool) -> int:
    """Forget what was sent of a model, or of the whole pipeline: the next run sends every row again.

    Nothing is deleted in Userpilot. Runs stay in the history.
    """
    if (model is None) is not everything:
        raise click.UsageError("name a model, or say --all for the whole pipeline.")
    from warehouse_sync.errors import UsageError
    from warehouse_sync.state.lease import hold_lease
    from warehouse_sync.state.store import open_store

    config = session.config
    url = config.state.url.get_secret_value()
    with session.store() as store:
        if store.pipeline(config.name) is None:
            raise UsageError(f"the state store knows nothing of pipeline `{config.name}`")
    with open_store(url) as store, hold_lease(url, config.name, f"state reset of {config.file.name}"):
        report = store.reset_report(config.name, model)
        if model is not None and not report.models:
            raise UsageError(
                f"the state store knows no model `{model}`", hint="`warehouse-sync state show` lists them."
            )
        _explain(report, model)
        if not yes and not _confirmed():
            return 1
        session.keep_log()
        # Files first: a snapshot without its state is an error at the next run, state without a snapshot is not.
        _remove_snapshots(config, report)
        store.reset(config.name, model)
        _sweep(config, store)
    what = f"model {model}" if model else f"pipeline {config.name}"
    session.console.event(
        "state_reset", f"{what} starts over with the next run", pipeline=config.name, models=list(report.models)
    )
    return 0


def _explain(report: ResetReport, model: str | None) -> None:
    """What is about to be forgotten, and what that means."""
    lines = [
        f"This forgets {'model ' + model if model else 'the whole pipeline'}:",
        f"  models      {', '.join(report.models) or 'none'}",
        f"  windows     {report.windows:,}",
        f"  batches     {report.batches:,}, of which {report.undelivered:,} are not delivered yet",
        f"  refused     {report.rejects:,} rows",
        f"  jobs        {report.jobs:,}" + ("" if model is None else " (they stay in the history)"),
        "The next run sends every row again from `begin` on. Profiles are overwritten with the same values; events"
        " are counted twice in Userpilot.",
    ]
    if report.in_flight:
        lines.append(f"{report.in_flight} job is on its way: its rows may arrive and will be sent again.")
    for line in lines:
        click.echo(line, err=True)


def _confirmed() -> bool:
    if not is_terminal(sys.stdin):
        raise click.UsageError("nobody is there to ask: say --yes.")
    return click.confirm("Go on?", err=True)


def _remove_snapshots(config: Config, report: ResetReport) -> None:
    from warehouse_sync.changes.snapshot import snapshot_file

    for name in report.models:
        snapshot_file(config.home, name).unlink(missing_ok=True)


def _sweep(config: Config, store: Store) -> None:
    """Files of batches that nobody knows any more."""
    from warehouse_sync.outbox import Outbox
    from warehouse_sync.state.lifecycle import BatchState

    kept = tuple(known for known in BatchState if known is not BatchState.SUPERSEDED)
    Outbox(config.home).sweep({batch.name for batch in store.batches(config.name, states=kept)})
