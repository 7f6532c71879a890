"""What a person changes in the state, with the files that belong to it: each in an order that a kill does no harm to.

Every function works under the lease of the pipeline, after an export of the state as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse_sync.changes.snapshot import Snapshot, snapshot_file, snapshot_files
from warehouse_sync.changes.window import order, parse
from warehouse_sync.durable import sync, whole_file
from warehouse_sync.errors import ModelError, UsageError
from warehouse_sync.extraction.contract import cursor_kinds
from warehouse_sync.extraction.prepare import prepare
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.home import move_home
from warehouse_sync.outbox import Outbox, disk_errors
from warehouse_sync.parts import engine_of, snapshot_schema_of, warehouse_of
from warehouse_sync.state.lifecycle import BatchState
from warehouse_sync.values import CursorValue, Model, utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse_sync.project.config import Config
    from warehouse_sync.state.rows import Batch, ModelState, ResetReport
    from warehouse_sync.state.store import Store
    from warehouse_sync.warehouses.snapshot_tables import SnapshotWriter


def reset(store: Store, config: Config, model: str | None) -> ResetReport:
    """Forget what was sent of a model, or of the whole pipeline; says what that was.

    Snapshots go first: a model without one stops, and doing this again forgets the rest. Files of batches go last: what
    no batch names is swept by any run. Raises WarehouseError.
    """
    report = store.by_hand.reset_report(config.name, model)
    _remove_snapshots(config, report.models, everything=model is None)
    store.by_hand.reset(config.name, model)
    _sweep(config, store)
    return report


def _remove_snapshots(config: Config, models: Sequence[str], *, everything: bool) -> None:
    """`everything`: also what lies there of models that the store does not know."""
    files = {snapshot_file(config.home, name) for name in models}
    if everything:
        files |= set(snapshot_files(config.home))
    for file in files:
        file.unlink(missing_ok=True)
    with keeping(config) as keeper:
        if keeper is not None:
            for name in models:
                keeper.rename(keeper.tables(config.name, name), keeper.aside(config.name, name))


def _sweep(config: Config, store: Store) -> None:
    """Files of batches that nobody knows any more."""
    kept = tuple(known for known in BatchState if known is not BatchState.SUPERSEDED)
    Outbox(config.home).sweep({batch.name for batch in store.batches(config.name, states=kept)})


def cursor_value(config: Config, policy: Policy, model: Model, known: ModelState, text: str) -> CursorValue:
    """That text as a value of the model's cursor, which has to be the one that the state knows. Raises UsageError."""
    try:
        warehouse = warehouse_of(config, engine_of(config, spill=False))
        try:
            request = Request(full_refresh=True)
            prepared = prepare(model, warehouse, policy, replace(known, properties={}), utc_now(), request)
        finally:
            warehouse.close()
        kind = known.cursor.kind if known.cursor else None
        if kind is None or prepared.cursor is not kind:
            raise cursor_kinds(model, kind, prepared.cursor)
        return parse(text, kind, config.models.timezone, model)
    except ModelError as error:
        raise UsageError(f"{model.name}: {error.message}", hint=error.hint) from None


def move_cursor(store: Store, config: Config, model: Model, value: CursorValue, sealed: Sequence[Batch]) -> bool:
    """Let the next run read the model from that value on; `sealed` batches are given up. True when its snapshot was
    lost, and begins anew.

    What was delivered at the old bound of a model without a key is forgotten when its cursor goes back: it is told
    apart by nothing else, and would stay away. The cursor moves first: doing this again forgets the rest.
    """
    known = store.model_state(config.name, model.name)
    for window_id in sorted({batch.window_id for batch in sealed}):
        store.supersede_window(window_id)
    store.by_hand.set_cursor(config.name, model.name, value)
    if known is None:
        return False
    if not snapshot_file(config.home, model.name).exists():
        return _begin_snapshot(config, store, model, known)
    if not model.unique_key and known.cursor is not None and order(value) <= order(known.cursor):
        _begin_snapshot(config, store, model, known)
    return False


def _begin_snapshot(config: Config, store: Store, model: Model, known: ModelState) -> bool:
    """An empty snapshot that stands where the state does; False where none belongs."""
    if config.snapshot.where == "warehouse" and model.unique_key:
        return False
    unmerged = store.mergeable(config.name, model.name)
    merged = unmerged[-1].delivery_seq if unmerged else known.merged_seq
    if not merged:
        return False
    connection = engine_of(config, spill=False).connect()
    try:
        Snapshot(snapshot_file(config.home, model.name), ()).begin(connection, merged)
    finally:
        connection.close()
    if unmerged:
        store.record_merged(config.name, model.name, unmerged[-1].id)
    return True


def discard(store: Store, config: Config, batches: Sequence[Batch]) -> None:
    """Give up batches that are not delivered: the cursor stays. Their files go last, when no batch names them."""
    store.supersede_batches([batch.id for batch in batches])
    _sweep(config, store)


def rename_model(store: Store, config: Config, old: str, new: str) -> None:
    """Give the state of a model to another name.

    The snapshot has both names until the store has decided: whichever it knows finds its own. In the warehouse it is
    renamed before that; doing this again goes on from there. Raises DiskError, WarehouseError and UsageError.
    """
    before, after = snapshot_file(config.home, old), snapshot_file(config.home, new)
    with disk_errors(after, kept="nothing was changed"):
        after.unlink(missing_ok=True)
        if before.exists():
            _copy(before, after)
    with keeping(config) as keeper:
        if keeper is not None:
            keeper.rename(keeper.tables(config.name, old), keeper.tables(config.name, new))
    store.by_hand.rename_model(config.name, old, new)
    before.unlink(missing_ok=True)


def _copy(before: Path, after: Path) -> None:
    with before.open("rb") as source, whole_file(after) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    sync(after.parent)


def rename_pipeline(store: Store, config: Config, old: str) -> None:
    """Give the state of a pipeline, its folder and its snapshots in the warehouse to the one that the YAML names.

    The store comes last; what was moved already is passed over, so that doing this again goes on. Raises StateError,
    DiskError, WarehouseError and UsageError.
    """
    new = config.name
    move_home(config.home.parent / old, config.home, old, new)
    with keeping(config) as keeper:
        if keeper is not None:
            for known in store.model_states(old):
                # Its numbers of deliveries would be taken for those of the state that comes.
                keeper.drop(keeper.aside(new, known.model))
                keeper.rename(keeper.tables(old, known.model), keeper.tables(new, known.model))
    store.by_hand.rename_pipeline(old, new)


@contextmanager
def keeping(config: Config) -> Iterator[SnapshotWriter | None]:
    """The writing side of snapshots that lie in the warehouse, or None. Raises WarehouseError."""
    snapshot_schema = snapshot_schema_of(config, engine_of(config, spill=False))
    if snapshot_schema is None:
        yield None
        return
    with snapshot_schema.open() as keeper:
        yield keeper


__all__ = ["cursor_value", "discard", "keeping", "move_cursor", "rename_model", "rename_pipeline", "reset"]
