"""One window of one model: read once, judged, written into sealed batches, recorded.

Everything that can stop a model stops it before its window is `ready`; until then no other stage sees its files.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from warehouse_sync.changes.window import order
from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.errors import WarehouseError
from warehouse_sync.events.reasons import Note
from warehouse_sync.extraction.cursors import first_look
from warehouse_sync.extraction.emptied import without_rows
from warehouse_sync.extraction.prepare import Prepared, prepare
from warehouse_sync.extraction.reading import OpenReading, ambiguous_of, opened
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.merge import check_readable, snapshot_of
from warehouse_sync.outbox import Outbox, SealedFile
from warehouse_sync.state.lifecycle import BatchState, WindowState
from warehouse_sync.state.rows import CURSOR_MOVING, NewBatch, NewWindow, Window, WindowKind
from warehouse_sync.values import Counts, Model
from warehouse_sync.warehouses.base import Warehouse, text_literal

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Extraction:
    """What came of one window: `settled` at once when it held nothing to send; `more` when it was but a slice."""

    window: Window
    counts: Counts
    new_rejects: int
    settled: bool
    notes: Mapping[Note, int]
    warnings: tuple[str, ...]
    more: bool = False

    def after(self, earlier: Extraction | None) -> Extraction:
        """The same, with what an earlier window of the run had to say."""
        if earlier is None:
            return self
        notes = Counter(earlier.notes) + Counter(self.notes)
        return replace(self, notes=notes, warnings=tuple(dict.fromkeys((*earlier.warnings, *self.warnings))))


def extract(context: RunContext, model: Model, warehouse: Warehouse, policy: Policy, request: Request) -> Extraction:
    """Read one window of the model into sealed batches and record it.

    Raises ModelError, DiskError or StateError; then nothing of the window stays.
    """
    known = context.store.model_state(context.pipeline, model.name)
    started_at = context.clock()
    prepared = prepare(model, warehouse, policy, known, started_at, since_then(context, model, request))
    prepared = replace(prepared, warnings=(*prepared.warnings, *first_look(known, prepared, warehouse)))
    window = context.store.begin_window(
        NewWindow(
            run_id=context.run_id,
            pipeline=context.pipeline,
            model=model.name,
            event=model.event,
            kind=request.kind,
            cursor_column=model.cursor,
            cursor_from=prepared.bounds.since,
            started_at=started_at,
            fingerprint=prepared.fingerprint,
            unique_key=model.unique_key,
            asked=request.mark,
            read_from=prepared.bounds.low,
        )
    )
    try:
        checkpoint("window_begun")
        with opened(context, prepared, warehouse) as reading:
            sealed, reached = _seal(context, reading, policy, window), reading.reached
    except BaseException as error:
        context.store.drop_window(window.id)
        if isinstance(error, WarehouseError):
            check_readable(context, model)
        raise
    found = without_rows(context, prepared, warehouse, reached, sealed.counts.read)
    return replace(sealed, warnings=(*sealed.warnings, *found))


def since_then(context: RunContext, model: Model, request: Request) -> Request:
    """The request, with what the model was when rows were sent that are read once more.

    Of models with a key the delivered rows are told apart by it, and of those that send `always` nothing is.
    """
    if model.unique_key or model.always:
        return request
    store, pipeline = context.store, context.pipeline
    sent = store.last_sent(pipeline, model.name).get(model.name)
    prints = {sent.fingerprint} if sent and sent.state is not WindowState.SETTLED else set()
    prints |= {window.fingerprint for window in _sent_ahead(context, model)}
    return replace(request, half_sent=frozenset(prints))


def _sent_ahead(context: RunContext, model: Model) -> list[Window]:
    """Windows that were delivered, or a part of them, and lie ahead of the model's cursor: `--limit`, a backfill, what
    was given up half way. Where a person has put the cursor back, what was sent before that goes again anyway."""
    known = context.store.model_state(context.pipeline, model.name)
    cursor = known.cursor if known else None
    of_model = partial(context.store.windows, context.pipeline, model=model.name)

    def is_ahead(window: Window) -> bool:
        return window.cursor_to is not None and (cursor is None or order(window.cursor_to) > order(cursor))

    asked = of_model(states=(WindowState.SETTLED,), kinds=("limit", "backfill", "recall"))
    parts = [one for one in (*asked, *of_model(states=(WindowState.SUPERSEDED,))) if is_ahead(one)]
    if not parts:
        return []
    passed = [one.id for one in of_model(states=(WindowState.SETTLED,), kinds=CURSOR_MOVING) if is_ahead(one)]
    return [one for one in parts if one.id > max(passed, default=0) and _is_sent(context, one)]


def _is_sent(context: RunContext, window: Window) -> bool:
    batches = context.store.batches(context.pipeline, window_id=window.id)
    return any(batch.state is BatchState.DELIVERED for batch in batches)


def _seal(context: RunContext, reading: OpenReading, policy: Policy, window: Window) -> Extraction:
    prepared, outbox = reading.prepared, context.outbox
    with outbox.writer(prepared.model.name, window.id, policy.limits, prepared.encoding.version) as writer:
        done = 0
        for rows in reading.rows(policy.max_line):
            writer.write(rows)
            done += rows.num_rows
            checkpoint("rows_written")
            context.reporter.progress(prepared.model.name, done, None, "rows")
        sealed = writer.close()
        losers = reading.losers(_rows_of(outbox, sealed))
        if losers is not None:
            sealed = _drop_lines(outbox, sealed, losers)
        counts = reading.counts(_rows_of(outbox, sealed))
        keys = reading.keys(counts)
        # Of rows that were refused most may be bad: that says nothing about the source.
        if not (prepared.recall and prepared.recall.keys):
            past = partial(past_rows, context, prepared, window.kind)
            policy.guard.check(prepared.model, counts, keys, past, lambda: reading.reasons(losers))
        if prepared.model.on_removed == "ignore":
            counts = replace(counts, removed=0)
        reading.aside.keep_new_hashes(snapshot_of(context, prepared.model), prepared.encoding.version)
        notes = reading.notes(losers)
        checkpoint("files_sealed")
        result = context.store.seal_window(
            window.id,
            batches=[NewBatch(file.name, file.rows, file.bytes, file.sha256) for file in sealed],
            rejects=reading.rejects(losers),
            again=reading.aside.suppressed(),
            counts=counts,
            cursor_to=reading.cursor_to(),
            properties={item.name: item.type for item in prepared.encoding.properties},
            gone=keys.gone,
        )
        _close_rejects(context, reading, _rows_of(outbox, sealed), losers)
    counts = replace(counts, batches=len(sealed))
    return Extraction(
        window=window,
        counts=counts,
        new_rejects=result.new_rejects,
        settled=result.settled,
        notes=notes,
        warnings=prepared.warnings,
        more=window.kind == "incremental" and prepared.bounds.before is not None,
    )


def _close_rejects(context: RunContext, reading: OpenReading, sent: str | None, losers: pa.Table | None) -> None:
    """Rejects whose rows are mended without a delivery, or have left the source (design: "Reject")."""
    model, table = reading.prepared.model, reading.baseline.rejects
    if table is None or not model.unique_key:
        return
    closed = reading.aside.closed(table, sent, whole=reading.prepared.reads_all)
    closed -= {(row["key_hash"], row["row_hash"]) for row in ambiguous_of(losers)}
    rejects = context.store.standing_rejects(context.pipeline, model.name)
    context.store.resolve([reject.id for reject in rejects if (reject.key_hash, reject.row_hash) in closed])


def past_rows(context: RunContext, prepared: Prepared, kind: WindowKind) -> list[int] | None:
    """What past windows of the model had to send, of those that say something about one of this kind; None when the
    model was never read as far as it goes.

    Another mapping sends other rows of a keyed model, a full window all of them: nothing but the model's own rows can
    tell whether those are too many. What was asked for by hand (`--limit`, a backfill) is not usual.
    """
    model = prepared.model
    same = prepared.identities if model.unique_key else None
    sent = context.store.rows_sent(context.pipeline, model.name, fingerprints=same)
    return [] if sent is not None and kind == "full" else sent


def _rows_of(outbox: Outbox, sealed: Sequence[SealedFile]) -> str | None:
    """The rows of sealed batches as a relation: the key files' columns and `place`, counted through all batches."""
    if not sealed:
        return None
    starts, start = [], 0
    for file in sealed:
        starts.append(f"({_name(outbox, file)}, {start})")
        start += file.rows
    files = ", ".join(_name(outbox, file) for file in sealed)
    return (
        "(SELECT k.* EXCLUDE (filename, file_row_number), s.start + k.file_row_number AS place"
        f" FROM read_parquet([{files}], filename = true, file_row_number = true) AS k"
        f" JOIN (VALUES {', '.join(starts)}) AS s(file, start) ON s.file = k.filename)"
    )


def _name(outbox: Outbox, file: SealedFile) -> str:
    return text_literal(str(outbox.keys(file.name)))


def _drop_lines(outbox: Outbox, sealed: Sequence[SealedFile], losers: pa.Table) -> list[SealedFile]:
    """The batches without the lines of the losers; a batch that loses none stays as it is."""
    places = sorted(place for place in losers.column("place").to_pylist() if place is not None)
    kept: list[SealedFile] = []
    start = 0
    for file in sealed:
        end = start + file.rows
        mine = [place - start for place in places[bisect_left(places, start) : bisect_left(places, end)]]
        start = end
        if not mine:
            kept.append(file)
            continue
        rest = outbox.without(file, mine, f"{file.name}-r")
        outbox.remove(file.name)
        if rest is not None:
            kept.append(rest)
    return kept
