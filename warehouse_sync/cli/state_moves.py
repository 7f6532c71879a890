"""`state adopt`, `rename`, `unlock`, `export` and `import`: the state under another key, name, lock, store or disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warehouse_sync.cli.by_hand import agreed, changing, known_model, save_export
from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_data, print_json
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.state.store import Store
    from warehouse_sync.upkeep.exports import Export


@click.command(cls=Verb, short_help="Same account with a new key or endpoint, or a new state.dir.")
@shared("config", "output")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def adopt(session: Session, yes: bool) -> int:
    """Let the state belong to what the YAML says now.

    A new API key or endpoint of the same Userpilot account; an empty or another state.dir; or a new pipeline beside one
    that sent the same models.
    """
    from warehouse_sync.parts import client_of
    from warehouse_sync.upkeep.adopt import find_adoption

    config = session.config
    with changing(session, "adopt", new=True) as store:
        with client_of(config) as client:
            found = find_adoption(store, config, client)
        if found.is_nothing:
            session.console.event("nothing_to_adopt", "nothing to adopt: the state belongs to what the YAML says")
            return 0
        if not agreed(session, found.lines, yes=yes):
            return 1
        if not found.is_new:
            save_export(session, store, "adopt")
        found.carry_out(store)
    session.console.event("state_adopted", f"pipeline {config.name} goes on from here", pipeline=config.name)
    return 0


# Names


@click.command(cls=Verb, short_help="Give the state of a model or a pipeline to another name.")
@shared("config", "output")
@click.argument("names", nargs=-1, metavar="OLD NEW")
@click.option("--pipeline", metavar="OLD", help="The pipeline of that name is now the one that the YAML names.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rename(session: Session, names: tuple[str, ...], pipeline: str | None, yes: bool) -> int:
    """Give the state of model OLD to model NEW: cursor, snapshot, refused rows. Nothing is sent again."""
    if len(names) != (0 if pipeline else 2):
        raise click.UsageError("say OLD NEW, two names of a model, or --pipeline OLD.")
    return _rename_pipeline(session, pipeline, yes=yes) if pipeline else _rename_model(session, *names, yes=yes)


def _rename_model(session: Session, old: str, new: str, *, yes: bool) -> int:
    from warehouse_sync.errors import UsageError
    from warehouse_sync.upkeep import by_hand

    config = session.config
    if old == new:
        raise UsageError(f"`{old}` has this name already", hint="say the old name, then the new one.")
    with changing(session, "rename") as store:
        known_model(store, config.name, old)
        if store.by_hand.reset_report(config.name, new).windows:
            raise UsageError(
                f"the state store knows a model `{new}` already", hint=f"`warehouse-sync state reset {new}` forgets it."
            )
        lines = [f"The state of model {old} becomes that of model {new}. Nothing is sent again."]
        if not any(model.name == new for model in session.models):
            lines.append(f"There is no model file `{new}` yet.")
        if not agreed(session, lines, yes=yes):
            return 1
        save_export(session, store, "rename")
        by_hand.rename_model(store, config, old, new)
    session.console.event("state_renamed", f"model {old} is now {new}", models=[old, new])
    return 0


def _rename_pipeline(session: Session, old: str, *, yes: bool) -> int:
    from warehouse_sync.errors import UsageError
    from warehouse_sync.state.lease import hold_lease
    from warehouse_sync.upkeep import by_hand

    config = session.config
    new, url = config.name, config.state.url.get_secret_value()
    if old == new:
        raise UsageError(f"the YAML names the pipeline `{new}` already", hint="give it its new `name` first.")
    with changing(session, "rename", pipeline=old) as store:
        if store.pipeline(new) is not None and not store.by_hand.is_replaceable(new):
            raise UsageError(
                f"the state store knows a pipeline `{new}` already",
                hint=f"`warehouse-sync state reset --all` forgets what `{new}` sent; then do this again.",
            )
        lines = [
            f"The state of pipeline {old} becomes that of pipeline {new}. Nothing is sent again.",
            f"Its folder {config.home.parent / old} becomes {config.home}.",
        ]
        if not agreed(session, lines, yes=yes):
            return 1
        with hold_lease(url, new, f"state rename of {config.file.name}"):
            undo = f"`name: {old}` in the YAML, then `warehouse-sync state rename --pipeline {new}` undoes this"
            save_export(session, store, "rename", pipeline=old, undo=undo)
            by_hand.rename_pipeline(store, config, old)
    session.console.event("state_renamed", f"pipeline {old} is now {new}", pipeline=new)
    return 0


# The lease


@click.command(cls=Verb, short_help="Take the lease from a run that is gone.")
@shared("config", "output")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def unlock(session: Session, yes: bool) -> int:
    """Take the lease from a run that is gone.

    On PostgreSQL the lease of a run that was killed runs out by itself after 90 seconds; this removes it at once. On
    SQLite the operating system holds the lock, and gives it back when the process ends.
    """
    from warehouse_sync.state.lease import holder, lock_path
    from warehouse_sync.state.store import open_store

    config = session.config
    url = config.state.url.get_secret_value()
    held = holder(url, config.name)
    if held is None:
        session.console.event("nothing_to_unlock", f"nobody holds the lease of {config.name}")
        return 0
    path = lock_path(url, config.name)
    lines = [f"The lease of {config.name} is held by {held}."]
    if path is not None:
        lines += [
            f"On SQLite the operating system holds the lock ({path}), and gives it back when that process ends.",
            "End the process if it hangs. Deleting the file would let two runs work at once.",
        ]
        session.console.event("state_change", "\n".join(lines))
        return 1
    lines += [
        "If that run is alive, it stops before its next upload, and records nothing more; the next run goes on.",
        "If it is gone, its lease runs out by itself within 90 seconds.",
    ]
    if not agreed(session, lines, yes=yes):
        return 1
    with open_store(url) as store:
        store.by_hand.unlock(config.name)
    session.console.event("state_unlocked", f"nobody holds the lease of {config.name} any more", pipeline=config.name)
    return 0


# Out and in again


@click.command(cls=Verb, short_help="Write the state, and the files that belong to it, into one file.")
@shared("config", "output")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def export(session: Session, file: Path | None) -> None:
    """Write the state of the pipeline, its snapshots and undelivered batches into FILE, and print where it is.

    Keys of rows are in it. `state import` puts it back, also into another state store.
    """
    from warehouse_sync.errors import UsageError
    from warehouse_sync.upkeep.exports import default_path, write_export
    from warehouse_sync.values import utc_now

    session.sends_nothing("warehouse")
    config, now = session.config, utc_now()
    with changing(session, "export") as store:
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {file.absolute().parent}", hint="make it, or name another FILE.")
        path = file or default_path(config.home, "export", now)
        write_export(store, config.name, config.home, path.absolute(), "export", now)
    if session.prints_json:
        print_json({"path": path})
    else:
        print_data(str(path))


@click.command("import", cls=Verb, short_help="Make the state what it was when it was exported.")
@shared("config", "output")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def import_(session: Session, file: Path, yes: bool) -> int:
    """Replace the state of the pipeline, and its snapshots, by what FILE holds."""
    from warehouse_sync.errors import UsageError
    from warehouse_sync.upkeep.by_hand import keeping
    from warehouse_sync.upkeep.exports import put_back, read_export

    config = session.config
    found = read_export(file)
    if found.pipeline != config.name:
        raise UsageError(
            f"{file} is of pipeline `{found.pipeline}`, the YAML names `{config.name}`",
            hint=f"set `name: {found.pipeline}` first; from there `warehouse-sync state rename --pipeline"
            f" {found.pipeline}` gives it another name.",
        )
    with changing(session, "import", new=True) as store:
        lines = _what_comes_back(store, found, inside=config.snapshot.where == "warehouse")
        if not agreed(session, lines, yes=yes):
            return 1
        if store.pipeline(config.name) is not None:
            save_export(session, store, "import")
        with keeping(config) as keeper:
            put_back(store, found, config.home, keeper)
    session.console.event(
        "state_imported", f"the state is that of {found.made_at:%Y-%m-%d %H:%M:%S} UTC", pipeline=config.name
    )
    return 0


def _what_comes_back(store: Store, export: Export, *, inside: bool) -> Sequence[str]:
    from warehouse_sync.state.lifecycle import IN_FLIGHT

    lines = [
        f"This makes the state of pipeline {export.pipeline} what it was at"
        f" {export.made_at:%Y-%m-%d %H:%M:%S} UTC (made for `{export.why}`):"
    ]
    lines += [
        f"  {row['name']}  cursor {row['cursor'] or 'none'}"
        for row in export.tables["models"]
        if row["event"] is not None
    ]
    lines.append("What was delivered since then is forgotten: it is sent again, and events count twice in Userpilot.")
    if inside:
        lines.append(
            "Snapshots in the warehouse are not in an export: those that the last reset or a rename moved are put back,"
            " and a model that delivered more since then stops."
        )
    if store.pipeline(export.pipeline) is not None and store.jobs(export.pipeline, states=tuple(IN_FLIGHT)):
        lines.append("A job is on its way now: its rows may arrive and are forgotten too.")
    return lines
