"""What a run would do, without doing it: the same reading, and nowhere to write.

Nothing in here has an outbox, a client or a writable store in its hands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from warehouse_sync.changes.pile import Pile
from warehouse_sync.context import RunContext
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events.reasons import decode
from warehouse_sync.extract import OpenReading, opened, since_then
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.outbox import Outbox
from warehouse_sync.prepare import Policy, Prepared, Request, prepare
from warehouse_sync.project.config import Config
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.run import engine_of, warehouse_of
from warehouse_sync.state.store import open_store
from warehouse_sync.values import Counts, Model, Verdict
from warehouse_sync.warehouses.base import Warehouse, name_literal

KEYS_SHOWN = 20
"""Keys per verdict in a plan."""

_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "inserted_at"]


@dataclass(frozen=True)
class ColumnPlan:
    """Where one column goes. `kind`: field, property or not sent; `null_share`: 0 to 1, None without rows."""

    column: str
    to: str
    kind: str
    type: str
    null_share: float | None


@dataclass(frozen=True)
class ModelPlan:
    """What a run would do with one model. `keys`: verdict -> some keys; `reasons`: code -> refused rows."""

    model: str
    error: WarehouseSyncError | None = None
    counts: Counts = field(default_factory=Counts)
    columns: tuple[ColumnPlan, ...] = ()
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def plan(
    config: Config, policy: Policy, models: Sequence[Model | BrokenModel], reporter: Reporter, request: Request
) -> list[ModelPlan]:
    """Read every model and count what would go; one model's fault is its own. Raises StateError."""
    plans: list[ModelPlan] = []
    with _looking(config, reporter) as context:
        for model in models:
            if isinstance(model, BrokenModel):
                plans.append(ModelPlan(model.name, model.error))
                continue
            try:
                warehouse = warehouse_of(config, context.engine)
                try:
                    plans.append(_plan_model(context, model, warehouse, policy, request))
                finally:
                    warehouse.close()
            except WarehouseSyncError as error:
                plans.append(ModelPlan(model.name, error))
    return plans


def show(config: Config, policy: Policy, model: Model, limit: int, reporter: Reporter) -> list[dict[str, Any]]:
    """The first rows of a model: `{"line": …}` as they would go, or `{"invalid": [codes], "key": …}`.

    Nothing is compared. Raises ModelError.
    """
    with _looking(config, reporter) as context:
        warehouse = warehouse_of(config, context.engine)
        try:
            prepared = prepare(model, warehouse, policy, None, context.clock(), Request(limit=limit))
            # `full`: rows that were delivered already are shown too.
            prepared = replace(prepared, full=True)
            with opened(context, prepared, warehouse) as reading:
                rows = [row for batch in reading.rows(policy.max_line) for row in batch.column("line").to_pylist()]
                refused = reading.aside.refused()
        finally:
            warehouse.close()
    shown: list[dict[str, Any]] = [{"line": line.rstrip("\n")} for line in rows]
    for row in [] if refused is None else refused.to_pylist():
        shown.append({"invalid": [reason.code for reason in decode(row["reasons"])], "key": row["key"]})
    return shown


@contextmanager
def _looking(config: Config, reporter: Reporter) -> Iterator[RunContext]:
    """A context whose store cannot be written and whose outbox nobody uses."""
    with open_store(config.state.url.get_secret_value(), read_only=True) as store:
        yield RunContext(
            pipeline=config.name,
            home=config.home,
            run_id=0,
            store=store,
            outbox=Outbox(config.home),
            engine=engine_of(config, spill=False),
            reporter=reporter,
        )


def _plan_model(context: RunContext, model: Model, warehouse: Warehouse, policy: Policy, request: Request) -> ModelPlan:
    known = context.store.model_state(context.pipeline, model.name)
    prepared = prepare(model, warehouse, policy, known, context.clock(), since_then(context, known, request))
    with opened(context, prepared, warehouse) as reading:
        sent = Pile(reading.source.connection.cursor(), "sent")
        for rows in reading.rows(policy.max_line):
            sent.add(rows.select(_NARROW))
            context.reporter.progress(model.name, sent.rows, None, "rows")
        sent.flush()
        relation = f"(SELECT *, row_number() OVER () - 1 AS place FROM {sent.relation})" if sent.rows else None
        losers = reading.losers(relation)
        reasons = Counter(code for reject in reading.rejects(losers) for code in reject.reasons)
        return ModelPlan(
            model.name,
            None,
            reading.counts(relation),
            columns_of(prepared, warehouse),
            _keys(reading, sent.relation if sent.rows else None),
            dict(reasons.most_common()),
            prepared.warnings,
        )


def columns_of(prepared: Prepared, warehouse: Warehouse) -> tuple[ColumnPlan, ...]:
    """One line per column of the model: the field or property that it becomes, its type there, its share of NULLs."""
    columns = prepared.columns
    tests = ", ".join(f"count({name_literal(column)})" for column in columns)
    source = warehouse.open(f"SELECT count(*), {tests} FROM (\n{prepared.sql}\n) AS counted")
    ((total, *present),) = source.connection.sql(f"FROM {source.relation}").fetchall()
    fields = {column.casefold(): name for name, column in prepared.encoding.fields.items()}
    properties = {item.column.casefold(): item for item in prepared.encoding.properties}
    plans = []
    for column, there in zip(columns, present, strict=True):
        share = 1 - there / total if total else None
        item, name = properties.get(column.casefold()), fields.get(column.casefold())
        if name is not None:
            plans.append(ColumnPlan(column, name, "field", "", share))
        elif item is not None:
            plans.append(ColumnPlan(column, f"metadata.{item.name}", "property", item.type, share))
        else:
            plans.append(ColumnPlan(column, "", "not sent", "", share))
    return tuple(plans)


def _keys(reading: OpenReading, sent: str | None) -> dict[str, tuple[str, ...]]:
    """Some keys of each verdict."""
    relations = [relation for relation in (sent, reading.aside.unsent) if relation]
    if not reading.prepared.model.unique_key or not relations:
        return {}
    union = " UNION ALL ".join(f"SELECT verdict, key FROM {relation}" for relation in relations)
    rows = reading.source.connection.cursor().sql(
        f"SELECT verdict, list(key ORDER BY key)[:{KEYS_SHOWN}] FROM ({union}) WHERE key IS NOT NULL GROUP BY verdict"
    )
    return {Verdict(code).name.lower(): tuple(keys) for code, keys in sorted(rows.fetchall())}
