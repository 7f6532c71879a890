"""`debug`: is everything there that a run needs? One line each, all of them, whatever fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from warehouse_sync.cli.crash import describe
from warehouse_sync.cli.options import Verb, shared
from warehouse_sync.cli.output import print_data, print_json
from warehouse_sync.cli.session import Session
from warehouse_sync.errors import AuthError, NothingStarted, StateError, WarehouseSyncError
from warehouse_sync.observe.words import counted

if TYPE_CHECKING:
    from warehouse_sync.values import Model
    from warehouse_sync.warehouses.base import Warehouse

ROOM = 10
"""Batches of the largest size that must fit on the disk."""

EPILOG = (
    "Exit codes: 0 everything is there; 2 a run could not start: YAML, API key, state store or state folder; 1 anything"
    " else."
)


@click.command(cls=Verb, epilog=EPILOG, short_help="Check config, warehouse, API key and region, state, disk.")
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
    codes = [_asked(session, name, partial(check, session)) for name, check in _checks(session)]
    return max(*codes, _cursors(session))


def _asked(session: Session, name: str, check: Callable[[], str]) -> int:
    """Print what a check says; the exit code that a run would end with for it."""
    try:
        said = check()
    except WarehouseSyncError as error:
        _tell(session, name, False, str(error))
        return error.exit_code
    except Exception as error:  # a check that breaks must not hide what the next ones say
        _tell(session, name, False, describe(error))
        return 1
    _tell(session, name, True, said)
    return 0


def _tell(session: Session, name: str, good: bool, said: str) -> None:
    said = session.console.scrubber.text(said)
    if session.prints_json:
        print_json({"check": name, "ok": good, "message": said})
    else:
        print_data(f"{'OK  ' if good else 'FAIL'}  {name:<13} " + said.replace("\n", "\n" + " " * 20))


def _checks(session: Session) -> Iterator[tuple[str, Callable[[Session], str]]]:
    if session.config.dbt_project or session.config.dbt.target_path:
        yield "dbt", _dbt
    yield "models", _models
    yield "warehouse", _warehouse
    if session.config.snapshot.where == "warehouse":
        yield "snapshots", _snapshots
    yield "userpilot", _userpilot
    yield "state store", _store
    yield "state folder", _folder
    yield "disk", _disk


def _dbt(session: Session) -> str:
    from warehouse_sync.project.dbt.manifest import ArtefactError
    from warehouse_sync.project.dbt.relations import artefacts_of

    artefacts = artefacts_of(session.config)
    if artefacts is None:
        return "not used"
    try:
        manifest = artefacts.manifest
    except ArtefactError as error:
        raise WarehouseSyncError(error.message, hint=error.hint) from None
    target = f", target `{artefacts.made_for}`" if artefacts.made_for else ""
    if artefacts.targets.wanted and not target:
        target = f", target not known (here `{artefacts.targets.wanted}`)"
    made = f"{manifest.generated_at:%Y-%m-%d %H:%M} UTC"
    return f"{manifest.path}, v{manifest.version} of `{manifest.project}`{target}, made {made}"


def _models(session: Session) -> str:
    from warehouse_sync.project.model import BrokenModel

    broken = [model for model in session.models if isinstance(model, BrokenModel) and model.enabled]
    if broken:
        raise WarehouseSyncError("\n".join(str(model.error) for model in broken))
    enabled = [model.name for model in session.models if model.enabled]
    return f"{len(enabled)} in {session.config.models.path}: {', '.join(enabled) or 'none'}"


def _warehouse(session: Session) -> str:
    from warehouse_sync.extraction.cursors import session_zone
    from warehouse_sync.parts import engine_of, warehouse_of

    warehouse = warehouse_of(session.config, engine_of(session.config, spill=False))
    try:
        zone = session_zone(warehouse)
        return warehouse.check() + (f", session zone {zone}" if zone else "")
    finally:
        warehouse.close()


def _snapshots(session: Session) -> str:
    from warehouse_sync.upkeep.by_hand import keeping

    with keeping(session.config) as keeper:
        return "" if keeper is None else keeper.check()


def _cursors(session: Session) -> int:
    """A line for each model with a cursor; 1 when one of them cannot be looked at. Without a warehouse nothing."""
    from warehouse_sync.errors import ModelError
    from warehouse_sync.parts import engine_of, warehouse_of
    from warehouse_sync.values import Model

    try:
        models = [model for model in session.models if isinstance(model, Model) and model.enabled and model.cursor]
        warehouse = warehouse_of(session.config, engine_of(session.config, spill=False))
    except (NothingStarted, ModelError):
        return 0
    try:
        return max(
            (_asked(session, "cursor", partial(_cursor, session, warehouse, model)) for model in models), default=0
        )
    finally:
        warehouse.close()


def _cursor(session: Session, warehouse: Warehouse, model: Model) -> str:
    from warehouse_sync.extraction.cursors import advice, examine
    from warehouse_sync.extraction.prepare import prepare
    from warehouse_sync.extraction.request import Request
    from warehouse_sync.values import CursorKind, utc_now

    prepared = prepare(model, warehouse, session.policy, None, utc_now(), Request(full_refresh=True))
    facts = examine(prepared, warehouse)
    if facts is None:
        return f"{model.name}: none"
    naive = facts.kind in (CursorKind.TIMESTAMP, CursorKind.DATE)
    zone = f"; read in {session.policy.settings.timezone}" if naive else ""
    return "\n".join([f"{model.name}: {facts}{zone}", *advice(model, facts)])


def _userpilot(session: Session) -> str:
    from warehouse_sync.parts import client_of

    endpoint = session.config.userpilot.endpoint
    with client_of(session.config) as client:
        found = client.check()
    if not found.accepted:
        raise AuthError(found.problem)
    account = f"account {found.account}" if found.account else "account not known before its first import job"
    running = f", job {found.running.file_name or found.running.job_id} is running" if found.running else ""
    return (
        f"{endpoint} accepts the key; {account}, {counted(found.jobs, 'import job')} listed{running}\n"
        "A key of another region is accepted too, silently: compare the endpoint with Userpilot's Environment page."
    )


def _store(session: Session) -> str:
    from sqlalchemy import make_url

    from warehouse_sync.state.database import check_rights

    config = session.config
    with session.store() as store:
        known, states = store.pipeline(config.name), store.model_states(config.name)
    check_rights(config.state.url.get_secret_value())
    url = make_url(config.state.url.get_secret_value())
    # A URL would show the blanks and letters of a path as numbers.
    where = (
        f"SQLite, {url.database}" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    )
    held = f"{counted(len(states), 'model')} known" if known else "nothing of this pipeline yet; the first run makes it"
    return f"{where}, {held}"


def _folder(session: Session) -> str:
    from warehouse_sync.home import check_home

    home = session.config.home
    with session.store() as store:
        _, found = check_home(store, session.config.name, home)
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
    return next(folder for folder in (path, *path.parents) if _is_folder(folder))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above it that this user may not look into
        return False
