"""What has changed between the state and the YAML, and how the state comes to belong to it (`state adopt`)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from warehouse_sync.changes.snapshot import snapshot_file
from warehouse_sync.errors import DestinationError, StateError
from warehouse_sync.home import DamagedId, check_owner, is_filled, read_id, write_id
from warehouse_sync.outbox import Outbox
from warehouse_sync.parts import account_of, key_mark
from warehouse_sync.state.lifecycle import BatchState, WindowState
from warehouse_sync.userpilot.job import RemoteJob

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse_sync.project.config import Config
    from warehouse_sync.state.store import Store
    from warehouse_sync.userpilot.client import Client


@dataclass(frozen=True)
class NewDestination:
    """Where rows go from now on."""

    origin: str
    account: str | None
    key_fingerprint: str


@dataclass(frozen=True)
class Adoption:
    """What would change. `folder`: None or the id that folder and store share from now on; `windows`: read again."""

    pipeline: str
    home: Path
    lines: tuple[str, ...] = ()
    is_new: bool = False
    folder: str | None = None
    windows: tuple[int, ...] = ()
    destination: NewDestination | None = field(default=None)

    @property
    def is_nothing(self) -> bool:
        """True when the state belongs to what the YAML says."""
        return not (self.is_new or self.folder or self.destination)

    def carry_out(self, store: Store) -> None:
        """Make it so."""
        if self.is_new and self.folder:
            store.register_pipeline(self.pipeline, self.folder)
        for window in self.windows:
            store.supersede_window(window)
        if self.folder:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            store.set_home(self.pipeline, self.folder)
            write_id(self.home, self.pipeline, self.folder)
        if self.destination is not None:
            to = self.destination
            store.adopt_destination(self.pipeline, to.origin, to.account, to.key_fingerprint)


def find_adoption(store: Store, config: Config, client: Client) -> Adoption:
    """Compare folder, key and endpoint with the state.

    Raises DestinationError for another account, StateError for a folder of another pipeline, and the client's errors.
    """
    name, home = config.name, config.home
    known = store.pipeline(name)
    found, lacks = _read_id(home, is_known=known is not None)
    check_owner(home, found, name, is_known=known is not None)
    if known is None:
        line = f"Pipeline {name} starts with nothing: its first run sends everything."
        return Adoption(name, home, (line,), is_new=True, folder=uuid.uuid4().hex)
    lines: list[str] = []
    folder: str | None = None
    windows: tuple[int, ...] = ()
    if found is None or found[1] != known.home_id:
        folder = uuid.uuid4().hex if found is None else found[1]
        windows, told = _left_behind(store, name, home, inside=config.snapshot.where == "warehouse")
        lines += [f"{home} becomes the folder of pipeline {name}. {lacks or 'It is another one.'}", *told]
    destination, told = _destination(store, config, client)
    return Adoption(name, home, (*lines, *told), folder=folder, windows=windows, destination=destination)


def _read_id(home: Path, *, is_known: bool) -> tuple[tuple[str, str] | None, str]:
    """What the folder says whose it is, and a sentence on why it says nothing."""
    try:
        found = read_id(home)
    except DamagedId as error:
        if is_known:
            return None, "Its `id` is damaged."
        raise StateError(
            f"{error.message}, and the state store knows nothing of this pipeline",
            hint="put both back from a backup; only to start over and send everything again: remove the folder.",
        ) from None
    if found is not None:
        return found, ""
    return None, "Its `id` is missing." if is_filled(home) else "It is empty."


def _left_behind(store: Store, pipeline: str, home: Path, *, inside: bool) -> tuple[tuple[int, ...], list[str]]:
    """Open windows whose batches are not in this folder, and what else is missing there; `inside`: snapshots of models
    with a key lie in the warehouse."""
    outbox, lines = Outbox(home), []
    lost = [
        window
        for window in store.windows(pipeline, states=(WindowState.READY,))
        for batch in store.batches(pipeline, window_id=window.id, states=(BatchState.SEALED,))
        if not outbox.is_whole(batch.name, batch.rows, batch.bytes, batch.sha256)
    ]
    windows = {window.id: window.model for window in lost}
    if windows:
        models = ", ".join(sorted(set(windows.values())))
        lines.append(f"What was read of {models} and not delivered is not there: it is read again.")
    for known in store.model_states(pipeline):
        is_here = not (inside and known.unique_key)
        if known.merged_seq and is_here and not snapshot_file(home, known.model).is_file():
            cursor = f" --cursor '{known.cursor.text}'" if known.cursor else ""
            lines.append(
                f"The snapshot of {known.model} is not there: the model stops until it is put back, or until"
                f" `warehouse-sync state reset {known.model}{cursor}`."
            )
    return tuple(windows), lines


def _destination(store: Store, config: Config, client: Client) -> tuple[NewDestination | None, list[str]]:
    """The destination of the YAML where it is another one than the state's."""
    stored = store.destination(config.name)
    if stored is None:
        return None, []
    account, origin, fingerprint = account_of(client.list_jobs()), config.userpilot.endpoint, key_mark(config)
    # What was sent says whose it is, also before a run has seen that in the list.
    sent = (RemoteJob(job.remote_id).account for job in store.jobs(config.name) if job.remote_id)
    owner = stored.account or next(filter(None, sent), None)
    if account and owner and account != owner:
        raise DestinationError(
            f"the API key is for account {account}, the state belongs to account {owner}",
            hint="what went to one did not go to the other: `warehouse-sync state reset --all` starts over.",
        )
    if (stored.origin, stored.key_fingerprint) == (origin, fingerprint):
        return None, []
    same = account is not None and account == owner
    lines = []
    if stored.origin != origin:
        lines.append(f"Rows went to {stored.origin} so far, and go to {origin} from now on.")
    if stored.key_fingerprint != fingerprint:
        lines.append("The API key is another one.")
    lines.append(
        f"Both are of account {account}."
        if same
        else "No import job shows whether that is the same account: if it is another one, rows will be missing there."
    )
    return NewDestination(origin, account or owner, fingerprint), lines


__all__ = ["Adoption", "NewDestination", "find_adoption"]
