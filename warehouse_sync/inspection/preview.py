"""What a run would do, without doing it: the same reading, and nowhere to write.

Nothing in here has a client or a writable store in its hands, or writes to the outbox.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from warehouse_sync.changes.spill import SpillTable
from warehouse_sync.context import RunContext
from warehouse_sync.delivery.held import held_errors
from warehouse_sync.errors import ModelError, WarehouseSyncError
from warehouse_sync.events.encode import Encoding
from warehouse_sync.events.reasons import Reason, decode
from warehouse_sync.extraction.cursors import first_look
from warehouse_sync.extraction.emptied import without_rows
from warehouse_sync.extraction.extract import past_rows, since_then
from warehouse_sync.extraction.prepare import Prepared, prepare
from warehouse_sync.extraction.reading import OpenReading, opened
from warehouse_sync.extraction.renamed import check_pipeline, renamed_models
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.extraction.statement import one_row
from warehouse_sync.home import check_access, check_home
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import Outbox
from warehouse_sync.parts import engine_of, identity_of, snapshot_schema_of, warehouse_of
from warehouse_sync.project.config import Config
from warehouse_sync.project.dbt.gate import held_back
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.rights import READ
from warehouse_sync.state.lifecycle import BatchState, RejectState
from warehouse_sync.state.store import open_store
from warehouse_sync.values import Counts, Model, Verdict
from warehouse_sync.warehouses.base import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

KEYS_SHOWN = 20
"""Keys per verdict in a plan."""

_NARROW = ["verdict", "key", "key_hash", "row_hash", "cursor", "inserted_at"]
_REMOVED = len(Verdict)
_ON_THEIR_WAY = (BatchState.SEALED, BatchState.SENT)


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

    `error`: how the run would end it; what a guard stops was counted, of others nothing is known. `held_back`: why the
    run would skip it, "" when it would not.
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

    @property
    def is_counted(self) -> bool:
        """True for a model that was read to its end."""
        return bool(self.columns)


def plan(
    config: Config,
    policy: Policy,
    models: Sequence[Model | BrokenModel],
    reporter: Reporter,
    request: Request,
    enabled: Collection[str] | None = None,
) -> list[ModelPlan]:
    """Read every model that a run would read, and count what would go; one model's fault is its own.

    `enabled`: every enabled model of the project, selected or not; None: not known. Raises StateError.
    """
    with looking(config, reporter) as context:
        unread = _unread(context, config, policy, models, enabled)
        good = [model for model in models if isinstance(model, Model) and model.name not in unread]
        found = unread | _read(context, config, policy, good, request)
    return [
        ModelPlan(model.name, model.error) if isinstance(model, BrokenModel) else found[model.name] for model in models
    ]


def _unread(
    context: RunContext,
    config: Config,
    policy: Policy,
    models: Sequence[Model | BrokenModel],
    enabled: Collection[str] | None,
) -> dict[str, ModelPlan]:
    """The models that a run ends without reading them, and how. Raises StateError where it would not even begin."""
    store, identity = context.store, partial(identity_of, config, policy)
    known = [model for model in models if isinstance(model, Model)]
    check_pipeline(store, config.name, config.userpilot.endpoint, config.file, known, identity)
    waiting = held_back(config.dbt.require, policy.settings, models)
    plans = {name: ModelPlan(name, held_back=why) for name, why in waiting.items()}
    if enabled is not None:
        renamed = renamed_models(store, config.name, [one for one in known if one.name not in plans], enabled, identity)
        plans |= {name: ModelPlan(name, error) for name, error in renamed.items()}
    held = held_errors(store, config.name)
    return plans | {name: ModelPlan(name, error, warnings=_waiting(context, name)) for name, error in held.items()}


def _read(
    context: RunContext, config: Config, policy: Policy, models: Sequence[Model], request: Request
) -> dict[str, ModelPlan]:
    """The other models, each read as a run would read it, in one session of the warehouse."""
    if not models:
        return {}
    try:
        warehouse = warehouse_of(config, context.engine)
    except WarehouseSyncError as error:
        return {model.name: ModelPlan(model.name, error) for model in models}
    plans: dict[str, ModelPlan] = {}
    with closing(warehouse):
        for model in models:
            try:
                plans[model.name] = _plan_model(context, model, warehouse, policy, request)
            except WarehouseSyncError as error:
                plans[model.name] = ModelPlan(model.name, error)
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
        check_access(config.home, READ)
        yield RunContext(
            pipeline=config.name,
            home=config.home,
            run_id=0,
            store=store,
            outbox=Outbox(config.home),
            engine=engine,
            reporter=reporter,
            snapshot_schema=snapshot_schema_of(config, engine),
        )


def _plan_model(context: RunContext, model: Model, warehouse: Warehouse, policy: Policy, request: Request) -> ModelPlan:
    known = context.store.model_state(context.pipeline, model.name)
    prepared = prepare(model, warehouse, policy, known, context.clock(), since_then(context, model, request))
    waiting = [f"{sentence}; here they count as not sent" for sentence in _waiting(context, model.name)]
    warnings = (*prepared.warnings, *first_look(known, prepared, warehouse), *waiting)
    # Before the rows: a warehouse reads one query at a time.
    columns = columns_of(prepared, warehouse)
    with (
        opened(context, prepared, warehouse) as reading,
        closing(reading.source.connection.cursor()) as side,
    ):
        sent = SpillTable(side, "sent")
        for rows in reading.rows(policy.max_line):
            sent.add(_with_place(rows.select(_NARROW), sent.rows))
            context.reporter.progress(model.name, sent.rows, None, "rows")
        sent.flush()
        relation = sent.relation if sent.rows else None
        lost = reading.losers(relation)
        losers = _judged(side, reading, lost)
        reasons = reading.reasons(losers)
        counts = reading.counts(relation)
        error = _stopped(context, reading, policy, counts, request, reasons)
        if error is None:
            # Of what a guard stops, nothing is closed; and what is gone shows whether it is right.
            removed = 0 if model.on_removed == "ignore" else counts.removed
            counts = replace(counts, removed=removed, repaired=_repaired(context, side, reading, relation, lost))
        found = ModelPlan(
            model.name,
            error,
            counts,
            columns,
            _keys(side, reading, relation, losers, with_gone=counts.removed > 0),
            dict(reasons.most_common()),
            notes={note.code: rows for note, rows in reading.notes(losers).items()},
            about={code: columns for code, columns in _about(prepared).items() if code in reasons},
        )
        reached = reading.reached
    return replace(found, warnings=(*warnings, *without_rows(context, prepared, warehouse, reached, counts.read)))


def _stopped(
    context: RunContext,
    reading: OpenReading,
    policy: Policy,
    counts: Counts,
    request: Request,
    reasons: Mapping[str, int],
) -> ModelError | None:
    """What stops the model after it was read and before anything of it is sent."""
    prepared = reading.prepared
    try:
        past = partial(past_rows, context, prepared, request.kind)
        policy.guard.check(prepared.model, counts, reading.keys(counts), past, lambda: reasons)
    except ModelError as error:
        return error
    return None


def _waiting(context: RunContext, model: str) -> tuple[str, ...]:
    """A sentence on the rows of an earlier run that are on their way."""
    batches = context.store.batches(context.pipeline, model=model, states=_ON_THEIR_WAY)
    rows = counted(sum(batch.rows for batch in batches), "row waits")
    return (f"{rows} to be delivered, which a run does first",) if batches else ()


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


def _repaired(
    context: RunContext,
    side: DuckDBPyConnection,
    reading: OpenReading,
    sent: str | None,
    lost: pa.Table | None,
) -> int:
    """How many of the rows that wait refused the run would close: their key is sent, is as it was sent, or is gone.

    Not those whose key has, or keeps, another refused row. `lost`: the rows that do not stand for their key.
    """
    table = reading.baseline.rejects
    if table is None or not reading.prepared.model.unique_key:
        return 0
    refused = reading.rejects(lost)
    met = {(one.key_hash, one.row_hash) for one in refused}.union(reading.aside.suppressed())
    closed = reading.aside.closed(table, sent, whole=reading.prepared.reads_all)
    going = _keys_that_go(side, table, sent, lost)
    good, left = [], {one.key_hash for one in refused}
    for one in context.store.standing_rejects(context.pipeline, reading.prepared.model.name):
        row, goes = (one.key_hash, one.row_hash), one.state is RejectState.OPEN and one.key_hash in going
        if row not in met and (row in closed or goes):
            good.append(one.key_hash)
        else:
            left.add(one.key_hash)
    return sum(key is None or key not in left for key in good)


def _keys_that_go(side: DuckDBPyConnection, rejects: str, sent: str | None, lost: pa.Table | None) -> set[bytes]:
    """The hashes of keys with a refused row, of which a row is sent."""
    if not sent:
        return set()
    if lost is not None:
        side.register("lost", lost)
    rest = f"{sent} ANTI JOIN lost USING (place)" if lost is not None else sent
    found = side.execute(f"SELECT DISTINCT key_hash FROM {rejects} SEMI JOIN (FROM {rest}) USING (key_hash)").fetchall()
    return {key_hash for (key_hash,) in found}


def _judged(side: DuckDBPyConnection, reading: OpenReading, losers: pa.Table | None) -> pa.Table | None:
    """The rows that do not stand for their key, with what a run makes of each as `verdict`, and what it was before;
    those that were refused before are not `ambiguous` once more."""
    if losers is None:
        return None
    rejects = reading.baseline.rejects
    side.register("lost", losers)
    again = f"(key_hash, row_hash) IN (SELECT (key_hash, row_hash) FROM {rejects})" if rejects else "false"
    verdict = (
        f"CASE WHEN NOT ambiguous THEN {Verdict.DUPLICATE.value} WHEN {again} THEN {Verdict.SUPPRESSED.value}"
        f" ELSE {Verdict.INVALID.value} END"
    )
    return side.sql(
        f"SELECT * REPLACE ({verdict} AS verdict, ambiguous AND NOT {again} AS ambiguous), verdict AS was FROM lost"
    ).to_arrow_table()


def _keys(
    side: DuckDBPyConnection,
    reading: OpenReading,
    sent: str | None,
    losers: pa.Table | None,
    *,
    with_gone: bool,
) -> dict[str, tuple[str, ...]]:
    """Some keys of each verdict, and, `with_gone`, of what is gone from the source."""
    if not reading.prepared.model.unique_key:
        return {}
    unsent = reading.aside.unsent
    parts = [f"SELECT verdict, key FROM {relation}" for relation in (unsent, reading.aside.ahead) if relation]
    if sent:
        parts.append(f"SELECT verdict, key FROM {sent}" + (" ANTI JOIN lost USING (place)" if losers else ""))
    if losers:
        side.register("lost", losers)
        parts.append("SELECT verdict, key FROM lost")
        if unsent:
            parts[0] += " ANTI JOIN lost USING (key_hash)"
            parts.append(
                f"(SELECT verdict, key FROM {unsent} SEMI JOIN lost USING (key_hash)"
                " EXCEPT ALL SELECT was, key FROM lost WHERE place IS NULL)"
            )
    gone = reading.gone(sent)
    if gone and with_gone:
        parts.append(f"SELECT {_REMOVED} AS verdict, key FROM {gone}")
    if not parts:
        return {}
    # A key may stand several times; the smallest are found without keeping all of them.
    some = f"list_sort(list_distinct(min(key, {KEYS_SHOWN} * 2)))[:{KEYS_SHOWN}]"
    rows = side.sql(f"SELECT verdict, {some} FROM ({' UNION ALL '.join(parts)}) WHERE key IS NOT NULL GROUP BY verdict")
    names = {verdict.value: verdict.name.lower() for verdict in Verdict} | {_REMOVED: "removed"}
    return {names[code]: tuple(keys) for code, keys in sorted(rows.fetchall())}
