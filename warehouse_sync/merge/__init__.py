"""The snapshots: found as the state store knows them, and given what was delivered since.

A snapshot is derived from the key files of delivered batches. One that is missing, damaged, older or newer than the
state store knows is an error: comparing with it would send rows again, or keep them back.

local.py          snapshots in state.dir
in_warehouse.py   snapshots beside the rows (`snapshot.where: warehouse`), of models with a key
deliveries.py     what either takes in
"""

from __future__ import annotations

from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.merge import in_warehouse, local
from warehouse_sync.merge.in_warehouse import check_inside, check_whole
from warehouse_sync.merge.local import check_readable, check_snapshot, snapshot_of
from warehouse_sync.state.rows import Batch
from warehouse_sync.values import Model


def merge_delivered(context: RunContext, model: Model) -> list[Batch]:
    """Take into the snapshot what was delivered and is not in it yet; gives those batches: nothing needs them now.

    Raises StateError and DiskError; WarehouseError when a snapshot that lies in the warehouse cannot be written now.
    """
    missing = context.store.mergeable(context.pipeline, model.name)
    if context.snapshot_schema is not None and model.unique_key:
        in_warehouse.merge(context, model, missing, context.snapshot_schema)
    else:
        local.merge(context, model, missing)
    if missing:
        context.store.record_merged(context.pipeline, model.name, missing[-1].id)
        checkpoint("merge_recorded")
    return missing


__all__ = ["check_inside", "check_readable", "check_snapshot", "check_whole", "merge_delivered", "snapshot_of"]
