"""`<state.dir>/<name>`: the pipeline's own folder, tied to the state store by an id that both hold.

id                 {"pipeline": …, "id": …}
outbox/            sealed batches
snapshots/         what was delivered, by key
exports/           the state as it was before somebody changed it by hand
logs/              one file a run
manifest.json      the models as the last run read them
run_results.json   how the last run ended
spill/             what the engine cannot keep in memory; emptied at every start
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.durable import whole_file
from warehouse_sync.errors import StateError
from warehouse_sync.outbox import disk_errors
from warehouse_sync.rights import CHANGE, chown, refusal

if TYPE_CHECKING:
    from warehouse_sync.state.rows import Pipeline
    from warehouse_sync.state.store import Store

_ADOPT = "`warehouse-sync state adopt` (reads open windows again)"

_FOLDERS = ("outbox", "snapshots")
"""What a pipeline cannot do without."""


class DamagedId(StateError):
    """The file that says whose the folder is does not say it."""


def claim_home(store: Store, pipeline: str, home: Path) -> None:
    """Make sure that folder and state store belong together, and create both on a first run. Raises StateError."""
    _make(home)
    check_access(home, CHANGE)
    known, found = check_home(store, pipeline, home)
    if known is None:
        identity = uuid.uuid4().hex
        store.register_pipeline(pipeline, identity)
        write_id(home, pipeline, identity)
    elif found is None:
        write_id(home, pipeline, known.home_id)


def check_access(home: Path, needed: int) -> None:
    """Raise StateError for the first folder or file of batches and snapshots that this user may not use; and for a file
    where a folder belongs.

    `needed`: `READ` or `CHANGE` for folders; files need only be read. One run as another user leaves such files behind.
    Found in the middle of a run, they would look like lost ones.
    """
    for place in (home / name for name in _FOLDERS):
        if _is_there(place) and place.is_file():
            raise StateError(
                f"{place} is a file, and has to be a folder",
                hint="move it out of the way, and put the folder back from a backup of state.dir.",
            )
        closed = _closed(str(place), needed)
        if closed is not None:
            raise StateError(refusal(Path(closed), needed), hint=_give_back(home))


def _give_back(home: Path) -> str:
    return (
        "run as the user that owns state.dir, or give this one read and write access to all of it:"
        f" {chown(home, deep=True)}."
    )


def _closed(place: str, needed: int, *, is_folder: bool = True) -> str | None:
    """The first folder from there down that does not allow what is needed, or file that cannot be read."""
    if not os.access(place, needed if is_folder else os.R_OK):
        return place if os.access(place, os.F_OK) else None  # a run beside this reader removes files
    if not is_folder:
        return None
    with os.scandir(place) as entries:
        found = (_closed(entry.path, needed, is_folder=entry.is_dir()) for entry in entries)
        return next((path for path in found if path is not None), None)


def check_home(store: Store, pipeline: str, home: Path) -> tuple[Pipeline | None, tuple[str, str] | None]:
    """Raise StateError when folder and state store do not belong together; changes nothing, and gives what the store
    knows of the pipeline and what the folder says."""
    known, found = store.pipeline(pipeline), read_id(home)
    check_owner(home, found, pipeline, is_known=known is not None)
    if known is None:
        return known, found
    if found is None and store.has_history(pipeline):
        what = f"{home / 'id'} is missing" if is_filled(home) else f"{home} is missing or empty"
        raise StateError(
            f"{what}, while the state store holds windows or snapshots of `{pipeline}`",
            hint=f"put it back from a backup of state.dir, or run {_ADOPT}.",
        )
    if found is not None and found[1] != known.home_id:
        raise StateError(
            f"{home} is not the folder that the state store knows for `{pipeline}`",
            hint=f"point `state.dir` back at that folder, or run {_ADOPT}.",
        )
    return known, found


def check_owner(home: Path, found: tuple[str, str] | None, pipeline: str, *, is_known: bool) -> None:
    """Raise StateError for a folder of another pipeline, or of another state store than the one that is used.

    `found`: what the folder says, see `read_id`; `is_known`: whether the store knows the pipeline.
    """
    if found is None:
        return
    if found[0] != pipeline:
        raise StateError(
            f"{home} belongs to pipeline `{found[0]}`, not to `{pipeline}`",
            hint="give this YAML its own `state.dir` or `name`.",
        )
    if not is_known:
        raise StateError(
            f"{home} was filled by another state store than the one of `state.url`",
            hint="to move there: `warehouse-sync state export` with the old `state.url`, then `warehouse-sync state"
            " import FILE` with the new one; or point `state.url` back, or put that store back from its backup. Only to"
            " start over and send everything again: remove the folder.",
        )


def is_filled(home: Path) -> bool:
    """True for a folder that holds batches or snapshots."""
    return any(path.is_file() for name in _FOLDERS for path in (home / name).rglob("*"))


def read_id(home: Path) -> tuple[str, str] | None:
    """Pipeline and id as the folder has them; None for a folder that no pipeline claimed yet.

    Raises StateError, DamagedId for a file that holds something else.
    """
    path = home / "id"
    try:
        content = json.loads(path.read_text())
        return str(content["pipeline"]), str(content["id"])
    except FileNotFoundError:
        return None
    except PermissionError:
        raise StateError(f"{path} cannot be read by this user", hint=_give_back(home)) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedId(
            f"{path} is damaged", hint=f"put it back from a backup of state.dir, or run {_ADOPT}."
        ) from None


def move_home(old: Path, new: Path, was: str, name: str) -> None:
    """Let a pipeline's folder have another name. What was moved already is passed over, so that it can be done again.

    Raises StateError when there is a folder of that name that belongs to something else, and DiskError.
    """
    found = read_id(new)
    if found is not None and found[0] != name:
        raise StateError(f"{new} belongs to pipeline `{found[0]}`", hint="move it out of the way.")
    _make(new)
    with disk_errors(new, kept=f"what was moved out of {old} is there, and doing this again moves the rest"):
        for part in ("outbox", "snapshots", "exports", "logs", "manifest.json", "run_results.json"):
            for path in sorted((old / part).rglob("*")) if (old / part).is_dir() else [old / part]:
                target = new / path.relative_to(old)
                if path.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    path.replace(target)
    before = read_id(old)
    if before is not None and before[0] == was:
        write_id(new, name, before[1])
        (old / "id").unlink()


def empty_spill(home: Path) -> Path:
    """The engine's folder for what does not fit into memory, empty."""
    spill = home / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    return spill


def _make(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = home / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if isinstance(error, PermissionError) and _is_there(home):
            raise StateError(refusal(home), hint=_give_back(home)) from None
        raise StateError(
            f"state.dir {home} cannot be written: {os.strerror(error.errno or 0)}",
            hint="`state.dir` in the YAML must be a folder that this user may write and that survives between runs.",
        ) from None


def _is_there(place: Path) -> bool:
    """False also for what lies in a folder that this user may not look into."""
    return os.access(place, os.F_OK)


def write_id(home: Path, pipeline: str, identity: str) -> None:
    """Tie the folder to that pipeline. Raises DiskError."""
    with disk_errors(home / "id", kept="nothing was read or sent"), whole_file(home / "id") as file:
        file.write(json.dumps({"pipeline": pipeline, "id": identity}).encode())
