"""What the verbs that change the state have in common: the lease, the words before, the question, the export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.cli.ask import confirmed
from warehouse_sync.cli.session import Session

if TYPE_CHECKING:
    from warehouse_sync.state.rows import ModelState
    from warehouse_sync.state.store import Store


@contextmanager
def changing(session: Session, verb: str, *, pipeline: str = "", new: bool = False) -> Iterator[Store]:
    """The store, for changes, under the lease of the YAML's pipeline or of another one.

    Raises UsageError when the store knows nothing of that pipeline, unless it may be `new`.
    """
    from warehouse_sync.errors import UsageError
    from warehouse_sync.state.lease import hold_lease
    from warehouse_sync.state.store import open_store

    config = session.config
    name = pipeline or config.name
    url = config.state.url.get_secret_value()
    with session.store() as store:
        if store.pipeline(name) is None and not new:
            raise UsageError(f"the state store knows nothing of pipeline `{name}`")
    with open_store(url) as store, hold_lease(url, name, f"state {verb} of {config.file.name}") as lease:
        store.only_under(lease)
        yield store


def known_model(store: Store, pipeline: str, model: str) -> ModelState | None:
    """What the store knows of a model, None while nothing of it is delivered.

    Raises UsageError for a model that the store has not met.
    """
    from warehouse_sync.errors import UsageError

    if not store.by_hand.reset_report(pipeline, model).models:
        raise UsageError(f"the state store knows no model `{model}`", hint="`warehouse-sync state show` lists them.")
    return store.model_state(pipeline, model)


def agreed(session: Session, lines: Iterable[str], *, yes: bool) -> bool:
    """Say what is about to happen; whether the person agrees, or did with --yes. Raises UsageError: nobody is there."""
    told = "\n".join(lines)
    session.console.event("state_change", told)
    return yes or confirmed(session, told)


def save_export(session: Session, store: Store, verb: str, *, pipeline: str = "", undo: str = "") -> Path:
    """Write the state as it is before what comes next, and say how to go back, by importing it where `undo` says no
    other way; from here on lines go into the log file."""
    from warehouse_sync.upkeep.exports import default_path, write_export
    from warehouse_sync.values import utc_now

    home, now = session.config.home, utc_now()
    session.keep_log()
    name = pipeline or session.config.name
    path = write_export(store, name, home.parent / name, default_path(home, verb, now), verb, now)
    how = f"the state as it was is in {path}; {undo}" if undo else f"`warehouse-sync state import {path}` undoes this"
    session.console.event("state_exported", how, path=str(path))
    return path


__all__ = ["agreed", "changing", "known_model", "save_export"]
