"""`debug`: is everything there that a run needs? One line each, all of them, whatever fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from warehouse_sync.cli.crash import describe
from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_data, print_json
from warehouse_sync.cli.session import Session
from warehouse_sync.errors import NothingStarted, StateError, WarehouseSyncError

ROOM = 10
"""Batches of the largest size that must fit on the disk."""


@click.command(cls=Verb, short_help="Check config, warehouse, API key and region, state, disk.")
@shared("config", "vars", "output")
@click.pass_obj
def debug(session: Session) -> int:
    """Check config, models, warehouse, API key and region, state store, state folder and disk."""
    try:
        config = session.config
    except NothingStarted as error:
        _tell(session, "config", False, str(error))
        return error.exit_code
    _tell(session, "config", True, f"{config.file}, pipeline `{config.name}`")
    failed = 0
    for name, check in _checks():
        try:
            said = check(session)
        except WarehouseSyncError as error:
            failed = 1
            _tell(session, name, False, str(error))
        except Exception as error:  # a check that breaks must not hide what the next ones say
            failed = 1
            _tell(session, name, False, describe(error))
        else:
            _tell(session, name, True, said)
    return failed


def _tell(session: Session, name: str, good: bool, said: str) -> None:
    said = session.console.scrubber.text(said)
    if session.prints_json:
        print_json({"check": name, "ok": good, "message": said})
    else:
        print_data(f"{'OK  ' if good else 'FAIL'}  {name:<13} " + said.replace("\n", "\n" + " " * 20))


def _checks() -> Iterator[tuple[str, Callable[[Session], str]]]:
    yield "models", _models
    yield "warehouse", _warehouse
    yield "userpilot", _userpilot
    yield "state store", _store
    yield "state folder", _folder
    yield "disk", _disk


def _models(session: Session) -> str:
    from warehouse_sync.project.model import BrokenModel

    broken = [model for model in session.models if isinstance(model, BrokenModel) and model.enabled]
    if broken:
        raise WarehouseSyncError("\n".join(str(model.error) for model in broken))
    enabled = [model.name for model in session.models if model.enabled]
    return f"{len(enabled)} in {session.config.models.path}: {', '.join(enabled) or 'none'}"


def _warehouse(session: Session) -> str:
    from warehouse_sync.run import engine_of, warehouse_of

    warehouse = warehouse_of(session.config, engine_of(session.config, spill=False))
    try:
        return warehouse.check()
    finally:
        warehouse.close()


def _userpilot(session: Session) -> str:
    from warehouse_sync.run import client_of

    endpoint = session.config.userpilot.endpoint
    with client_of(session.config) as client:
        found = client.check()
    if not found.accepted:
        raise WarehouseSyncError(found.problem)
    account = f"account {found.account}" if found.account else "account not known before its first import job"
    running = f", job {found.running.file_name or found.running.job_id} is running" if found.running else ""
    return (
        f"{endpoint} accepts the key; {account}, {found.jobs} import jobs listed{running}\n"
        "A key of another region is accepted too, silently: compare the endpoint with Userpilot's Environment page."
    )


def _store(session: Session) -> str:
    from sqlalchemy import make_url

    config = session.config
    with session.store() as store:
        known, states = store.pipeline(config.name), store.model_states(config.name)
    where = make_url(config.state.url.get_secret_value()).render_as_string(hide_password=True)
    held = f"{len(states)} models known" if known else "nothing of this pipeline yet; the first run makes it"
    return f"{where}, {held}"


def _folder(session: Session) -> str:
    from warehouse_sync.home import read_id

    home, name = session.config.home, session.config.name
    found = read_id(home)
    with session.store() as store:
        known, has_history = store.pipeline(name), store.has_history(name)
    if found is None and known is not None and has_history:
        raise StateError(
            f"{home} is missing or empty, while the state store holds windows or snapshots of `{name}`",
            hint="put the folder back from its backup.",
        )
    if found is not None and (known is None or found != (name, known.home_id)):
        raise StateError(f"{home} is not the folder that the state store knows for `{name}`")
    place = _existing(home)
    if not os.access(place, os.W_OK | os.X_OK):
        raise StateError(f"{place} cannot be written by this user")
    return f"{home}" + ("" if found else ", not there yet; the first run makes it")


def _disk(session: Session) -> str:
    place = _existing(session.config.home)
    free = shutil.disk_usage(place).free
    needed = ROOM * session.config.batch.max_bytes
    if free < needed:
        raise WarehouseSyncError(f"{free / 1e9:.1f} GB free at {place}, {needed / 1e9:.1f} GB are advisable")
    return f"{free / 1e9:.1f} GB free at {place}"


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
