"""A pipeline's state and the files that belong to it, in one archive: made before a person changes the state.

<home>/exports/<UTC time>-<verb>.zip
    manifest.json            format, layout of the store, pipeline, when and what for
    state.json               the store's rows, table by table
    files/snapshots/…        what was delivered, by key
    files/outbox/…           batches that are not delivered yet, or not yet in a snapshot

Keys of refused rows and of everything delivered are in it: readable by its owner only.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse_sync import __version__
from warehouse_sync.changes.snapshot import snapshot_file, snapshot_files
from warehouse_sync.durable import sync, whole_file
from warehouse_sync.errors import UsageError
from warehouse_sync.home import read_id, write_id
from warehouse_sync.outbox import Outbox, disk_errors

if TYPE_CHECKING:
    from warehouse_sync.state.store import Store
    from warehouse_sync.warehouses.snapshot_tables import SnapshotWriter

FORMAT = 1
_FILE = re.compile(r"files/(snapshots/[^/]+\.duckdb|outbox/[^/]+/[^/]+\.(ndjson|keys\.parquet))")


@dataclass(frozen=True)
class Export:
    """An archive that can be imported. `tables`: the rows of the store; `files`: names below the pipeline's folder."""

    path: Path
    pipeline: str
    made_at: datetime
    why: str
    home_id: str
    tables: Mapping[str, list[dict[str, Any]]]
    files: tuple[str, ...]


def default_path(home: Path, why: str, now: datetime) -> Path:
    """Where an export lies when nobody says otherwise; a name that is not taken."""
    stem, folder = f"{now:%Y%m%dT%H%M%SZ}-{why}", home / "exports"
    names = (f"{stem}{'' if number == 1 else f'-{number}'}.zip" for number in range(1, 1000))
    return next(folder / name for name in names if not (folder / name).exists())


def write_export(store: Store, pipeline: str, home: Path, path: Path, why: str, now: datetime) -> Path:
    """Write the archive as a whole; under a name that is there already, UsageError. Raises DiskError."""
    if path.exists():
        raise UsageError(f"{path} is there already", hint="name another file.")
    tables = store.by_hand.take_out(pipeline)
    manifest = {
        "format": FORMAT,
        "program": __version__,
        "pipeline": pipeline,
        "made_at": now.isoformat(),
        "why": why,
        "home_id": tables["pipelines"][0]["home_id"],
    }
    with disk_errors(path, kept="nothing was changed"):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            whole_file(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            archive.writestr("manifest.json", json.dumps(manifest, indent=2))
            archive.writestr("state.json", json.dumps(tables, ensure_ascii=False))
            for found in _files(store, pipeline, home):
                archive.write(found, f"files/{found.relative_to(home).as_posix()}")
        sync(path.parent)
    return path


def _files(store: Store, pipeline: str, home: Path) -> Iterator[Path]:
    """The files that the state cannot do without."""
    outbox = Outbox(home)
    for known in store.model_states(pipeline):
        snapshot = snapshot_file(home, known.model)
        if snapshot.is_file():
            yield snapshot
    for name in sorted({batch.name for batch in store.batches_in_use(pipeline)}):
        yield from (path for path in (outbox.lines(name), outbox.keys(name)) if path.is_file())


def read_export(path: Path) -> Export:
    """What an archive holds. Raises UsageError for a file that is none, or is damaged."""
    from warehouse_sync.state.transfer import check

    with _readable(path) as archive:
        manifest, tables = json.loads(archive.read("manifest.json")), json.loads(archive.read("state.json"))
        if manifest["format"] != FORMAT:
            raise UsageError(
                f"{path} is of format {manifest['format']}, this program knows {FORMAT}",
                hint="import it with the version of warehouse-sync that wrote it.",
            )
        if archive.testzip() is not None:
            raise _damaged(path)
        files = tuple(name for name in archive.namelist() if name.startswith("files/"))
        if not all(_FILE.fullmatch(name) and ".." not in name for name in files):
            raise _damaged(path)
        check(tables)
        made_at = datetime.fromisoformat(manifest["made_at"])
        return Export(path, manifest["pipeline"], made_at, manifest["why"], manifest["home_id"], tables, files)


def put_back(store: Store, export: Export, home: Path, keeper: SnapshotWriter | None) -> None:
    """Make state and files of the pipeline what they are in the archive; and the tables of `keeper`, as far as it can.

    The store comes last: a snapshot that does not go with it stops its model, and doing this again puts it right.
    Raises StateError for a folder whose id is damaged, DiskError and WarehouseError.
    """
    found = read_id(home)
    if keeper is not None:
        ends = _last_deliveries(export)
        others = [known.model for known in store.model_states(export.pipeline) if known.model not in ends]
        keeper.put_back(export.pipeline, ends, others)
    with disk_errors(home, kept="the state is not changed, but some of its files may be"):
        for snapshot in snapshot_files(home):
            snapshot.unlink()
        with _readable(export.path) as archive:
            for name in export.files:
                target = home / name.removeprefix("files/")
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with archive.open(name) as source, whole_file(target) as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    home_id = export.home_id if found is None else found[1]
    store.by_hand.put_back(export.pipeline, export.tables, home_id)
    if found is None:
        write_id(home, export.pipeline, home_id)


def _last_deliveries(export: Export) -> dict[str, set[int]]:
    """By model, the deliveries that its snapshot may end with: the last that is known to be in it, or a later one."""
    tables = export.tables
    model_of = {row["id"]: row["model_id"] for row in tables["windows"]}
    delivered = [(model_of[row["window_id"]], row["delivery_seq"] or 0) for row in tables["batches"]]
    return {
        row["name"]: {row["merged_seq"]}
        | {number for owner, number in delivered if owner == row["id"] and number > row["merged_seq"]}
        for row in tables["models"]
        if row["unique_key"]
    }


@contextmanager
def _readable(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError):
        raise _damaged(path) from None


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged, or no export of this program")


__all__ = ["Export", "default_path", "put_back", "read_export", "write_export"]
