"""Which sealed batches travel together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warehouse_sync.outbox import BatchLimits
from warehouse_sync.state.rows import Batch


def pack(sealed: Sequence[Batch], limits: BatchLimits, suspects: Mapping[int, int] | None = None) -> list[Batch]:
    """The batches of the next job: companies, users, then events, oldest first, as many as the limits of a job allow.

    What came of a failed job travels alone, or with those it failed with (`suspects`: batch -> group), so that nobody
    else's rows wait for it.
    """
    groups = suspects or {}
    taken: list[Batch] = []
    rows = size = 0
    company: object = None
    for batch in sorted(sealed, key=order):
        mine = groups.get(batch.id, f"child {batch.id}" if batch.parent_id is not None else None)
        rows, size = rows + batch.rows, size + batch.bytes
        if taken and (mine != company or rows > limits.max_rows or size > limits.max_bytes):
            break
        company = mine
        taken.append(batch)
    return taken


def order(batch: Batch) -> tuple[int, int]:
    """Companies, users, then events; oldest first."""
    return batch.event.send_order, batch.id


__all__ = ["order", "pack"]
