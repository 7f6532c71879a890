"""Snapshots that lie in state.dir."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from warehouse_sync.changes.snapshot import SNAPSHOT, DeliveredBatch, Snapshot
from warehouse_sync.context import RunContext
from warehouse_sync.errors import DiskError, StateError
from warehouse_sync.events.row_hash import ROW_HASHES
from warehouse_sync.merge.deliveries import delivered, is_newer, over, over_by_hand
from warehouse_sync.outbox import disk_errors
from warehouse_sync.state.rows import Batch, ModelState
from warehouse_sync.values import Model

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


_KEPT = "what was delivered is recorded"


def snapshot_of(context: RunContext, model: Model) -> Snapshot:
    """The snapshot of that model, whether it is there or not."""
    return Snapshot(context.snapshot_path(model.name), ROW_HASHES)


def check_snapshot(
    context: RunContext, model: Model, known: ModelState | None, snapshot: Snapshot, side: DuckDBPyConnection
) -> int | None:
    """Attach the snapshot for reading; gives the last delivery that is in it, None when there is none yet.

    Raises StateError when it is older than the state knows: comparing with it would send rows again.
    """
    merged = known.merged_seq if known and (model.unique_key or model.cursor) else 0
    if not snapshot.path.exists():
        if merged:
            raise _lost_snapshot(snapshot, model, "missing, or `snapshot.where` was `warehouse`")
        return None
    found = snapshot.attach(side)
    if found < merged:
        raise _lost_snapshot(snapshot, model)
    if is_newer(context, model, found, merged):
        raise StateError(
            f"the snapshot of model `{model.name}` ({snapshot.path}) is newer than the state store",
            hint="the store was put back from an older copy: put back the newer one, or state.dir from the same copy,"
            f" {over(model) if known else over_by_hand(snapshot.path)}",
        )
    return found


def _lost_snapshot(
    snapshot: Snapshot, model: Model, how: str = "missing or older than the state store knows"
) -> StateError:
    return StateError(
        f"the snapshot of model `{model.name}` ({snapshot.path}) is {how}",
        hint=f"put it back from the same backup as the state store, {over(model)}",
    )


def merge(context: RunContext, model: Model, missing: Sequence[Batch]) -> None:
    """Take in what was delivered, and new hashes of rows that were found equal after an upgrade.

    Raises StateError when the snapshot is not the one that the state knows, or a file is gone; and DiskError.
    """
    snapshot = snapshot_of(context, model)
    if not missing and not (snapshot.hashes.exists() and snapshot.path.exists()):
        return
    if not (model.unique_key or model.cursor):
        return
    known = context.store.model_state(context.pipeline, model.name)
    connection = context.engine.connect()
    try:
        with context.query(connection), _merging(snapshot, model):
            taken = _to_merge(context, model, known, snapshot, missing, connection)
            bound = known.cursor if known else None
            snapshot.merge(connection, taken, keyed=bool(model.unique_key), bound=bound, sure=context.still_ours)
    finally:
        connection.close()


def _to_merge(
    context: RunContext,
    model: Model,
    known: ModelState | None,
    snapshot: Snapshot,
    missing: Sequence[Batch],
    connection: DuckDBPyConnection,
) -> list[DeliveredBatch]:
    """What the snapshot has to take in.

    Raises StateError when it is not the one that the state knows, or a file is gone: with a gap, rows would go again.
    """
    merged = check_snapshot(context, model, known, snapshot, connection)
    if merged is not None:
        connection.execute(f"DETACH {SNAPSHOT}")
    return delivered(context, model, missing, merged or 0)


@contextmanager
def _merging(snapshot: Snapshot, model: Model) -> Iterator[None]:
    """The border where a merge's errors become ours; what it wrote so far goes, a full disk needs the room."""
    import duckdb

    try:
        with disk_errors(snapshot.path, kept=_KEPT):
            yield
    except duckdb.Error as error:
        told = f"{error} {error.__context__}"
        if any(words in told for words in ("No space left", "File too large", "Read-only", "Could not write")):
            raise DiskError(
                f"cannot write {snapshot.path}: no room, or read-only",
                hint=f"{_KEPT}; make room or mend the permissions, and run again.",
            ) from None
        raise StateError(
            f"the delivered batches of model `{model.name}` cannot be taken into {snapshot.path}:"
            f" {type(error).__name__}",
            hint="the snapshot or a batch's key file is damaged; put them back from a copy of state.dir,"
            f" {over(model)}",
        ) from None
    finally:
        with suppress(OSError):
            snapshot.sweep()


def check_readable(context: RunContext, model: Model) -> None:
    """A query that broke may have broken over the snapshot. Raises StateError when it cannot be read to its end."""
    import duckdb

    snapshot = snapshot_of(context, model)
    if not snapshot.path.exists():
        return
    connection = context.engine.connect()
    try:
        snapshot.attach(connection)
        tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [SNAPSHOT])
        for (table,) in tables.fetchall():
            connection.execute(f"SELECT max(hash(t)) FROM {SNAPSHOT}.{table} AS t").fetchall()
    except duckdb.Error:
        raise _lost_snapshot(snapshot, model, "damaged") from None
    finally:
        connection.close()


__all__ = ["check_readable", "check_snapshot", "merge", "snapshot_of"]
