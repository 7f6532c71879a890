"""Snapshots that lie in the warehouse (`snapshot.where: warehouse`)."""

from __future__ import annotations

from collections.abc import Sequence

from warehouse_sync.changes.pushdown import HASHES
from warehouse_sync.changes.snapshot import taken_rows
from warehouse_sync.context import RunContext
from warehouse_sync.errors import StateError
from warehouse_sync.merge.deliveries import delivered, is_newer, over, over_by_hand
from warehouse_sync.observe.words import counted
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


def check_inside(
    context: RunContext, model: Model, known: ModelState | None, tables: Tables, session: Queryable
) -> MergedThrough | None:
    """How far the model's snapshot in the warehouse is merged; None when there is none yet.

    Raises StateError when it is not the one that the state knows, or its hashes are of another version.
    """
    merged, last = known.merged_seq if known else 0, _over(model, known, tables)
    local = context.snapshot_path(model.name)
    if local.exists():
        raise StateError(
            f"the snapshot of model `{model.name}` lies in state.dir, and `snapshot.where` is `warehouse` now",
            hint=f"set it back to `local`, {over(model) if known else over_by_hand(local)}",
        )
    found = merged_of(session, tables)
    if found is None and not merged:
        return None
    if found is None or found.merged < merged:
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) is missing or older than the state"
            " store knows",
            hint="put the table and the one beside it back as they were, set `snapshot` in the YAML back if it was"
            f" changed, {last}",
        )
    if is_newer(context, model, found.merged, merged):
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) is newer than the state store",
            hint="it belongs to another state store, or this one was put back from an older copy: give this pipeline"
            f" another `snapshot.schema` or `name`, {last}",
        )
    if found.hashes != HASHES:
        raise StateError(
            f"the snapshot of model `{model.name}` ({tables.sent} in the warehouse) holds hashes of version"
            f" {found.hashes}, which this version of the program does not make (it makes {HASHES})",
            hint=f"install the version that wrote it, {last}",
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
        hint=f"put that table and {tables.meta} back as they were, {_over(model, known, tables)}",
    )


def merge(context: RunContext, model: Model, missing: Sequence[Batch], snapshot_schema: SnapshotSchema) -> None:
    """Take in what was delivered. The tables are made before the first delivery: what cannot be merged must not go.

    Raises StateError when the snapshot is not the one that the state knows, or a file is gone; and WarehouseError when
    it cannot be written now: the next merge takes in what is missing.
    """
    tables = snapshot_schema.tables(context.pipeline, model.name)
    known = context.store.model_state(context.pipeline, model.name)
    is_new = known is None or not known.merged_seq
    if not missing and not is_new:
        return
    with snapshot_schema.open() as keeper:
        if is_new and not context.snapshot_path(model.name).exists():
            keeper.prepare(tables, HASHES)
        found = check_inside(context, model, known, tables, keeper.session)
        merged = found.merged if found else 0
        todo = [batch for batch in delivered(context, model, missing, merged) if batch.sequence > merged]
        if not todo:
            return
        connection = context.engine.connect()
        try:
            with context.query(connection):
                rows = taken_rows(connection, todo)
                keeper.merge(tables, rows, todo[-1].sequence, context.still_ours)
        finally:
            connection.close()


def _over(model: Model, known: ModelState | None, tables: Tables) -> str:
    """The last way out, as the end of a hint: a state store that lost the model cannot start it over."""
    if known is not None:
        return over(model)
    return f"or drop {tables.sent} and {tables.meta} in the warehouse (every row then counts as new)."


__all__ = ["check_inside", "check_whole", "merge"]
