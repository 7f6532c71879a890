"""What both kinds of snapshot take in, and how a store is noticed that is older than they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from warehouse_sync.changes.snapshot import DeliveredBatch
from warehouse_sync.context import RunContext
from warehouse_sync.errors import StateError
from warehouse_sync.outbox import Outbox
from warehouse_sync.state.rows import Batch
from warehouse_sync.values import Model


def over(model: Model) -> str:
    """The last way out, as the end of a hint."""
    return f"or start the model over with `warehouse-sync state reset {model.name}` (every row then counts as new)."


def over_by_hand(snapshot: Path) -> str:
    """The same where the state store does not know the model, and so cannot start it over."""
    return f"or remove {snapshot} (every row then counts as new)."


def is_newer(context: RunContext, model: Model, found: int, merged: int) -> bool:
    """True for a snapshot that holds a delivery of which the state knows nothing."""
    # A run that was killed in between leaves a snapshot that holds deliveries the state has not ticked off, no others.
    ticked = [batch.delivery_seq or 0 for batch in context.store.mergeable(context.pipeline, model.name)]
    if found <= max([merged, *ticked]):
        return False
    # Asked once more: a run beside this reader may have merged in the meantime.
    known = context.store.model_state(context.pipeline, model.name)
    return found > (known.merged_seq if known else 0)


def delivered(context: RunContext, model: Model, missing: Sequence[Batch], merged: int) -> list[DeliveredBatch]:
    """Delivered batches with their files, and their rows that the API refused.

    Raises StateError when a file is gone that holds what is not merged yet.
    """
    for batch in missing:
        files = [context.outbox.keys(batch.name)] + ([] if model.unique_key else [context.outbox.lines(batch.name)])
        gone = [path for path in files if not path.is_file()]
        if gone and (batch.delivery_seq or 0) > merged:
            raise StateError(
                f"{gone[0]} is missing: it says which rows of model `{model.name}` were delivered last",
                hint=f"put it back from a copy of state.dir, {over(model)}",
            )
    names = [batch.name for batch in missing]
    refused = context.store.refused_in(context.pipeline, names)
    whole = [_delivered_of(context.outbox, batch) for batch in missing]
    return [replace(one, refused=tuple(refused.get(name, ()))) for one, name in zip(whole, names, strict=True)]


def _delivered_of(outbox: Outbox, batch: Batch) -> DeliveredBatch:
    """A delivered batch as the snapshot takes it in."""
    return DeliveredBatch(batch.delivery_seq or 0, batch.id, outbox.keys(batch.name), outbox.lines(batch.name))


__all__ = ["delivered", "is_newer", "over", "over_by_hand"]
