"""What a run would do, without doing it: the same reading, and nowhere to write.

Nothing in here has a client or a writable store in its hands, or writes to the outbox.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.pile import Pile
from warehouse_sync.context import RunContext
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events.encode import Encoding
from warehouse_sync.events.reasons import Reason, decode
from warehouse_sync.extraction.cursors import first_look
from warehouse_sync.extraction.extract import since_then
from warehouse_sync.extraction.prepare import Policy, Prepared, Request, one_row, prepare
from warehouse_sync.extraction.reading import OpenReading, opened
from warehouse_sync.home import check_home
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import Outbox
from warehouse_sync.parts import engine_of, shelf_of, warehouse_of
from warehouse_sync.project.config import Config
from warehouse_sync.project.dbt_gate import held_back
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.state.lifecycle import UNSETTLED_BATCHES
from warehouse_sync.state.store import open_store
from warehouse_sync.values import Counts, Model, Verdict
from warehouse_sync.warehouses.base import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

KEYS_SHOWN = 20
"""Keys per verdict in a plan."""

_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "inserted_at"]
_REMOVED = len(Verdict)


@dataclass(frozen=True)
class ColumnPlan:
    """Where one column goes. `kind`: field, property, properties (several, or such as only rows tell), checked or not
    sent; `null_share`: 0 to 1, None without rows."""

    column: str
    to: str
    kind: str
    type: str
    null_share: float | None


@dataclass(frozen=True)
class ModelPlan:
    """What a run would do with one model. `keys`: verdict -> some keys; `reasons`: code -> refused rows;
    `notes`: code -> rows; `about`: code of a reason -> the columns that it can be about.

    `held_back`: why the run would skip it, "" when it would not.
    """

    model: str
    error: WarehouseSyncError | None = None
    counts: Counts = field(default_factory=Counts)
    columns: tuple[ColumnPlan, ...] = ()
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    held_back: str = ""
    notes: dict[str, int] = field(default_factory=dict)
    about: dict[str, tuple[str, ...]] = field(default_factory=dict)


def plan(
    config: Config, policy: Policy, models: Sequence[Model | BrokenModel], reporter: Reporter, request: Request
) -> list[ModelPlan]:
    """Read every model and count what would go; one model's fault is its own. Raises StateError."""
    plans: list[ModelPlan] = []
    waiting = held_back(config.dbt.require, policy.settings, models)
    with looking(config, reporter) as context:
        for model in models:
            if isinstance(model, BrokenModel):
                plans.append(ModelPlan(model.name, model.error))
                continue
            if model.name in waiting:
                plans.append(ModelPlan(model.name, held_back=waiting[model.name]))
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
    """The first rows of a model: `{"line": …}` as they would go, or `{"invalid": [codes], "columns": {code: [those that
    it can be about]}, "key": …}`.

    Nothing is compared. Raises ModelError.
    """
    with looking(config, reporter) as context:
        warehouse = warehouse_of(config, context.engine)
        try:
            prepared = prepare(model, warehouse, policy, None, context.clock(), Request(limit=limit))
            # `full`: rows that were delivered already are shown too.
            prepared = replace(prepared, full=True)
            with opened(context, prepared, warehouse) as reading:
                rows = [row for batch in reading.rows(policy.max_line) for row in batch.column("line").to_pylist()]
                refused = reading.aside.refused()
                about = _about(prepared)
        finally:
            warehouse.close()
    shown: list[dict[str, Any]] = [{"line": line.rstrip("\n")} for line in rows]
    for row in [] if refused is None else refused.to_pylist():
        codes = [reason.code for reason in decode(row["reasons"])]
        columns = {code: list(about[code]) for code in codes if code in about}
        shown.append({"invalid": codes, "columns": columns, "key": row["key"]})
    return shown


@contextmanager
def looking(config: Config, reporter: Reporter) -> Iterator[RunContext]:
    """A context whose store cannot be written, and whose outbox is only read. Raises StateError where a run would."""
    engine = engine_of(config, spill=False)
    with open_store(config.state.url.get_secret_value(), read_only=True) as store:
        check_home(store, config.name, config.home)
        yield RunContext(
            pipeline=config.name,
            home=config.home,
            run_id=0,
            store=store,
            outbox=Outbox(config.home),
            engine=engine,
            reporter=reporter,
            shelf=shelf_of(config, engine),
        )


def _plan_model(context: RunContext, model: Model, warehouse: Warehouse, policy: Policy, request: Request) -> ModelPlan:
    known = context.store.model_state(context.pipeline, model.name)
    prepared = prepare(model, warehouse, policy, known, context.clock(), since_then(context, model, request))
    warnings = (*prepared.warnings, *first_look(known, prepared, warehouse), *_waiting(context, model))
    # Before the rows: a warehouse reads one query at a time.
    columns = columns_of(prepared, warehouse)
    with opened(context, prepared, warehouse) as reading:
        sent = Pile(reading.source.connection.cursor(), "sent")
        for rows in reading.rows(policy.max_line):
            sent.add(_with_place(rows.select(_NARROW), sent.rows))
            context.reporter.progress(model.name, sent.rows, None, "rows")
        sent.flush()
        relation = sent.relation if sent.rows else None
        losers = _judged(reading, reading.losers(relation))
        reasons = Counter(code for reject in reading.rejects(losers) for code in reject.reasons)
        return ModelPlan(
            model.name,
            None,
            reading.counts(relation),
            columns,
            _keys(reading, relation, losers),
            dict(reasons.most_common()),
            warnings,
            notes={note.code: rows for note, rows in reading.notes(losers).items()},
            about={code: columns for code, columns in _about(prepared).items() if code in reasons},
        )


def _waiting(context: RunContext, model: Model) -> tuple[str, ...]:
    """A sentence on the rows of an earlier run that are not settled yet: here they count as if nobody had sent them."""
    batches = context.store.batches(context.pipeline, model=model.name, states=UNSETTLED_BATCHES)
    rows = counted(sum(batch.rows for batch in batches), "row waits")
    return (f"{rows} to be delivered, which a run does first; here they count as not sent",) if batches else ()


def _about(prepared: Prepared) -> dict[str, tuple[str, ...]]:
    """Code of a reason -> the columns that it can be about."""
    about = {reason.code: columns for reason, columns in prepared.encoding.reason_columns.items()}
    return about | ({Reason.NULL_CURSOR.code: (prepared.model.cursor,)} if prepared.model.cursor else {})


def _with_place(rows: pa.RecordBatch, start: int) -> pa.RecordBatch:
    """The rows, numbered in the order in which a run would write them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ones = pa.repeat(pa.scalar(1, pa.int64()), rows.num_rows)
    return rows.append_column("place", pc.cumulative_sum(ones, start=start - 1))


def columns_of(prepared: Prepared, warehouse: Warehouse) -> tuple[ColumnPlan, ...]:
    """One line per column of the model: the field or property that it becomes, its type there, its share of NULLs."""
    columns = prepared.schema.names
    # Names of our own: two columns must not be called `count`, nor be taken for the model's.
    whats = ["*", *map(warehouse.quote, columns)]
    tests = ", ".join(f"count({what}) AS warehouse_sync_{place}" for place, what in enumerate(whats))
    total, *present = one_row(prepared.model, warehouse, f"SELECT {tests} FROM (\n{prepared.sql}\n) AS counted")
    # Some warehouses count in decimals.
    shares = [1 - int(there) / int(total) if total else None for there in present]
    return tuple(_column_plan(prepared.encoding, column, share) for column, share in zip(columns, shares, strict=True))


def _column_plan(encoding: Encoding, column: str, share: float | None) -> ColumnPlan:
    fields = {name: field for field, name in encoding.fields.items()}
    items = [item for item in encoding.properties if item.column == column]
    if column in fields:
        return ColumnPlan(column, fields[column], "field", "", share)
    if column in encoding.opened:
        return ColumnPlan(column, encoding.opened[column], "properties", "", share)
    if items:
        to, types = [f"metadata.{item.name}" for item in items], dict.fromkeys(item.type for item in items)
        return ColumnPlan(column, ", ".join(to), "property" if len(to) == 1 else "properties", ", ".join(types), share)
    return ColumnPlan(column, "", "checked" if column == encoding.event_type else "not sent", "", share)


def _judged(reading: OpenReading, losers: pa.Table | None) -> pa.Table | None:
    """The rows that do not stand for their key, with what a run makes of each as `verdict`, and what it was before;
    those that were refused before are not `ambiguous` once more."""
    if losers is None:
        return None
    desk, rejects = reading.source.connection.cursor(), reading.baseline.rejects
    desk.register("lost", losers)
    again = f"(key_hash, row_hash) IN (SELECT (key_hash, row_hash) FROM {rejects})" if rejects else "false"
    verdict = (
        f"CASE WHEN NOT ambiguous THEN {Verdict.DUPLICATE.value} WHEN {again} THEN {Verdict.SUPPRESSED.value}"
        f" ELSE {Verdict.INVALID.value} END"
    )
    return desk.sql(
        f"SELECT * REPLACE ({verdict} AS verdict, ambiguous AND NOT {again} AS ambiguous), verdict AS was FROM lost"
    ).to_arrow_table()


def _keys(reading: OpenReading, sent: str | None, losers: pa.Table | None) -> dict[str, tuple[str, ...]]:
    """Some keys of each verdict, and of what is gone from the source."""
    if not reading.prepared.model.unique_key:
        return {}
    desk = reading.source.connection.cursor()
    unsent = reading.aside.unsent
    parts = [f"SELECT verdict, key FROM {relation}" for relation in (unsent, reading.aside.ahead) if relation]
    if sent:
        parts.append(f"SELECT verdict, key FROM {sent}" + (" ANTI JOIN lost USING (place)" if losers else ""))
    if losers:
        desk.register("lost", losers)
        parts.append("SELECT verdict, key FROM lost")
        if unsent:
            parts[0] += " ANTI JOIN lost USING (key_hash)"
            parts.append(
                f"(SELECT verdict, key FROM {unsent} SEMI JOIN lost USING (key_hash)"
                " EXCEPT ALL SELECT was, key FROM lost WHERE place IS NULL)"
            )
    gone = reading.gone(sent)
    if gone:
        parts.append(f"SELECT {_REMOVED} AS verdict, key FROM {gone}")
    if not parts:
        return {}
    # A key may stand several times; the smallest are found without keeping all of them.
    some = f"list_sort(list_distinct(min(key, {KEYS_SHOWN} * 2)))[:{KEYS_SHOWN}]"
    rows = desk.sql(f"SELECT verdict, {some} FROM ({' UNION ALL '.join(parts)}) WHERE key IS NOT NULL GROUP BY verdict")
    names = {verdict.value: verdict.name.lower() for verdict in Verdict} | {_REMOVED: "removed"}
    return {names[code]: tuple(keys) for code, keys in sorted(rows.fetchall())}
