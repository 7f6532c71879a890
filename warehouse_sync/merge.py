"""The snapshots: found as the state store knows them, and given what was delivered since.

A snapshot is derived from the key files of delivered batches (design: "Snapshot"). One that is missing, damaged, older
or newer than the state store knows is an error: comparing with it would send rows again, or keep them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse_sync.changes.pushdown import HASHES
from warehouse_sync.changes.snapshot import SNAPSHOT, DeliveredBatch, Snapshot, taken_rows
from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.errors import DiskError, StateError
from warehouse_sync.events.row_hash import ROW_HASHES
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import Outbox, disk_errors
from warehouse_sync.state.rows import Batch, ModelState
from warehouse_sync.values import Model
from warehouse_sync.warehouses.snapshot_tables import (
    MergedThrough,
    Queryable,
    SnapshotSchema,
    Tables,
    lacking,
    merged_of,
)

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
    if known is not None and _is_newer(context, model, found, merged):
        raise StateError(
            f"the snapshot of model `{model.name}` ({snapshot.path}) is newer than the state store",
            hint=f"the store was put back from an older copy: put back state.dir from the same one, {_over(model)}",
        )
    return found


def _is_newer(context: RunContext, model: Model, found: int, merged: int) -> bool:
    """True for a snapshot that holds a delivery of which the state knows nothing."""
    # A run that was killed in between leaves a snapshot that holds deliveries the state has not ticked off, no others.
    ticked = [batch.delivery_seq or 0 for batch in context.store.mergeable(context.pipeline, model.name)]
    if found <= max([merged, *ticked]):
        return False
    # Asked once more: a run beside this reader may have merged in the meantime.
    known = context.store.model_state(context.pipeline, model.name)
    return found > (known.merged_seq if known else 0)


def _over(model: Model) -> str:
    """The last way out, as the end of a hint."""
    return f"or start the model over with `warehouse-sync state reset {model.name}` (every row then counts as new)."


def _lost_snapshot(
    snapshot: Snapshot, model: Model, how: str = "missing or older than the state store knows"
) -> StateError:
    return StateError(
        f"the snapshot of model `{model.name}` ({snapshot.path}) is {how}",
        hint=f"put it back from the same backup as the state store, {_over(model)}",
    )


def check_inside(
    context: RunContext, model: Model, known: ModelState | None, tables: Tables, session: Queryable
) -> MergedThrough | None:
    """How far the model's snapshot in the warehouse is merged; None when there is none yet.

    Raises StateError when it is not the one that the state knows, or its hashes are of another version.
    """
    merged, over = known.merged_seq if known else 0, _over_inside(model, known, tables)
    if context.snapshot_path(model.name).exists():
        raise StateError(
            f"the snapshot of model `{model.name}` lies in state.dir, and `snapshot.where` is `warehouse` now",
            hint=f"set it back to `local`, {_over(model)}",
        )
    found = merged_of(session, tables)
    if found is None and not merged:
        return None
    if found is None or found.merged < merged:
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) is missing or older than the state"
            " store knows",
            hint="put the table and the one beside it back as they were, set `snapshot` in the YAML back if it was"
            f" changed, {over}",
        )
    if _is_newer(context, model, found.merged, merged):
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) is newer than the state store",
            hint="it belongs to another state store, or this one was put back from an older copy: give this pipeline"
            f" another `snapshot.schema` or `name`, {over}",
        )
    if found.hashes != HASHES:
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) holds hashes of version"
            f" {found.hashes}, which this version of the program does not make (it makes {HASHES})",
            hint=f"install the version that wrote it, {over}",
        )
    return found


def check_whole(model: Model, known: ModelState | None, tables: Tables, session: Queryable) -> None:
    """Raises StateError when another hand took rows out of the table, or put some in: they would go again, or never."""
    less = lacking(session, tables)
    if not less:
        return
    what = f"lacks {less:,} of the rows" if less > 0 else f"holds {counted(-less, 'row')} more than those"
    raise StateError(
        f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) {what} that this program put in",
        hint=f"put that table and {tables.meta} back as they were, {_over_inside(model, known, tables)}",
    )


def _over_inside(model: Model, known: ModelState | None, tables: Tables) -> str:
    """The same as `_over`, for a snapshot in the warehouse: a state store that lost the model cannot start it over."""
    if known is not None:
        return _over(model)
    return f"or drop {tables.sent} and {tables.meta} in the warehouse (every row then counts as new)."


def merge_delivered(context: RunContext, model: Model) -> list[Batch]:
    """Take into the snapshot what was delivered and is not in it yet; gives those batches: nothing needs them now.

    New hashes of rows that were found equal after an upgrade go in too. Raises StateError and DiskError; WarehouseError
    when a snapshot that lies in the warehouse cannot be written now: the next merge takes in what is missing.
    """
    store = context.store
    if context.snapshot_schema is not None and model.unique_key:
        return _merge_inside(context, model, context.snapshot_schema)
    missing, snapshot = store.mergeable(context.pipeline, model.name), snapshot_of(context, model)
    if not missing and not (snapshot.hashes.exists() and snapshot.path.exists()):
        return []
    if model.unique_key or model.cursor:
        known = store.model_state(context.pipeline, model.name)
        connection = context.engine.connect()
        try:
            with context.query(connection), _merging(snapshot, model):
                delivered = _to_merge(context, model, known, snapshot, missing, connection)
                bound = known.cursor if known else None
                keyed = bool(model.unique_key)
                snapshot.merge(connection, delivered, keyed=keyed, bound=bound, sure=context.still_ours)
        finally:
            connection.close()
    return _record(context, model, missing)


def _merge_inside(context: RunContext, model: Model, snapshot_schema: SnapshotSchema) -> list[Batch]:
    """The same in the warehouse. The tables are made before the first delivery: what cannot be merged must not go."""
    store, tables = context.store, snapshot_schema.tables(context.pipeline, model.name)
    known = store.model_state(context.pipeline, model.name)
    missing = store.mergeable(context.pipeline, model.name)
    is_new = known is None or not known.merged_seq
    if not missing and not is_new:
        return []
    with snapshot_schema.open() as keeper:
        if is_new and not context.snapshot_path(model.name).exists():
            keeper.prepare(tables, HASHES)
        found = check_inside(context, model, known, tables, keeper.session)
        delivered = _delivered(context, model, missing, found.merged if found else 0)
        todo = [batch for batch in delivered if batch.sequence > (found.merged if found else 0)]
        if todo:
            connection = context.engine.connect()
            try:
                with context.query(connection):
                    rows = taken_rows(connection, todo)
                    keeper.merge(tables, rows, todo[-1].sequence, context.still_ours)
            finally:
                connection.close()
    return _record(context, model, missing)


def _record(context: RunContext, model: Model, merged: list[Batch]) -> list[Batch]:
    """Write down that these batches are in the snapshot."""
    if merged:
        context.store.record_merged(context.pipeline, model.name, merged[-1].id)
        checkpoint("merge_recorded")
    return merged


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
    return _delivered(context, model, missing, merged or 0)


def _delivered(context: RunContext, model: Model, missing: Sequence[Batch], merged: int) -> list[DeliveredBatch]:
    """Delivered batches with their files, and their rows that the API refused.

    Raises StateError when a file is gone that holds what is not merged yet.
    """
    for batch in missing:
        files = [context.outbox.keys(batch.name)] + ([] if model.unique_key else [context.outbox.lines(batch.name)])
        gone = [path for path in files if not path.is_file()]
        if gone and (batch.delivery_seq or 0) > merged:
            raise StateError(
                f"{gone[0]} is missing: it says which rows of model `{model.name}` were delivered last",
                hint=f"put it back from a copy of state.dir, {_over(model)}",
            )
    names = [batch.name for batch in missing]
    refused = context.store.refused_in(context.pipeline, names)
    delivered = [_delivered_of(context.outbox, batch) for batch in missing]
    return [replace(one, refused=tuple(refused.get(name, ()))) for one, name in zip(delivered, names, strict=True)]


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
            f" {_over(model)}",
        ) from None
    finally:
        with suppress(OSError):
            snapshot.sweep()


def _delivered_of(outbox: Outbox, batch: Batch) -> DeliveredBatch:
    """A delivered batch as the snapshot takes it in."""
    return DeliveredBatch(batch.delivery_seq or 0, batch.id, outbox.keys(batch.name), outbox.lines(batch.name))


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
