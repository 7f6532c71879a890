"""What a window without rows says about its source: nothing is new, or what was there before has gone.

A window reads the row at its lower bound again (`changes/window.py`), so one that reads none has lost that row. It may
be meant: a table that keeps but its latest rows. So it is said, and stops nothing.
"""

from __future__ import annotations

from functools import partial

from warehouse_sync.changes.window import order
from warehouse_sync.context import RunContext
from warehouse_sync.errors import WarehouseError
from warehouse_sync.extraction.prepare import Prepared
from warehouse_sync.extraction.statement import cursor_sql, one_row
from warehouse_sync.project.render import wrap
from warehouse_sync.values import CursorValue
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

_LOOK = "is the source being loaded, or was it emptied? Nothing is sent"


def without_rows(
    context: RunContext, prepared: Prepared, warehouse: Warehouse, reached: CursorValue | None, read: int
) -> tuple[str, ...]:
    """Sentences on a window that found nothing, each with what to look at; advice only, so it raises nothing.

    `reached`: the greatest cursor that was read; `read`: rows. To be called once the rows are read to their end.
    """
    bounds, model = prepared.bounds, prepared.model
    has_read = partial(context.store.has_read, context.pipeline, model.name)
    if (
        reached is None
        and bounds.low is not None
        and bounds.high is not None
        and order(bounds.low) > order(bounds.high)
    ):
        place = "" if bounds.since is not None else "; look at `begin` or `--from`"
        return (f"it reads from {bounds.low.text} on, which is ahead of the warehouse's clock: no row is there{place}",)
    if prepared.cursor is None:
        if read or not prepared.reads_all or not model.unique_key or not has_read():
            return ()
        return (f"the source has no row, where rows were read before: {_LOOK}",)
    since, low = bounds.since, bounds.low
    if reached is not None or since is None or low is None or bounds.above or not has_read(since):
        return ()
    if prepared.has_own_bound and _holds(prepared, warehouse, low):
        return ()
    return (f"no row is there from {low.text} on, where rows up to {since.text} were read before: {_LOOK}",)


def _holds(prepared: Prepared, warehouse: Warehouse, low: CursorValue) -> bool:
    """True when rows stand there that only the model's own is_incremental() part leaves out, or nobody can tell."""
    column = cursor_sql(prepared.model, warehouse, prepared.schema)
    within = f"{column} >= {cursor_literal(low, warehouse.dialect)}"
    one = f"SELECT 1 AS there FROM {wrap(prepared.whole, 'model')}\nWHERE {within} LIMIT 1"
    try:
        (there,) = one_row(prepared.model, warehouse, f"SELECT count(*) AS n FROM (\n{one}\n) AS a")
    except WarehouseError:
        return True
    return bool(there)


__all__ = ["without_rows"]
