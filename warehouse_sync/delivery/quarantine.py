"""What becomes of the batches of a failed job: the rows that Userpilot refuses are set aside, the rest goes on.

In this order (design: "Job"):
1. rows were done before it failed: events are held, since nobody knows which arrived; identify batches go again, and
   what follows is about them;
2. a reason echoes a row: every line that it fits becomes a reject, the rest of the batch a child;
3. nothing is echoed: once more after a pause, then in halves, first of batches, then of rows. A row that stands alone
   is set aside only when another part of its batch went through in this run and it fails once more after that. An API
   that fails everything rejects nothing.

What failed together travels together (`suspects`) and with nobody else; what this run cannot decide is `parked`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.errors import Outage
from warehouse_sync.outbox import SealedFile
from warehouse_sync.state.lifecycle import BatchState, RejectKind, RejectState
from warehouse_sync.state.rows import Batch, Job, NewBatch, NewReject
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.userpilot.reasons import FailureText, Opaque, parse_reason

if TYPE_CHECKING:
    import pyarrow as pa

OUTAGE = 8
"""Failed jobs in a row, without one that went through, that are an outage and no fault of rows."""

IDENTITY = ("/event_type", "/event_name", "/user_id", "/company_id")
"""The fields that an echo shows when the row has them."""

NO_REASON = "Userpilot gave no reason"
ALONE = "a single row fails, and nothing else of its batch went through to show that it is at fault"


@dataclass(frozen=True)
class FailedJob:
    """What came of a failed job: the API's words, and whether batches are `held` for a person."""

    reason: str
    held: bool = False


class Quarantine:
    """The memory of one run about failures; `max_splits` bounds the jobs spent on finding bad rows.

    `is_whole` says whether a batch's files are what was sealed, and gives it up when they are not.
    """

    def __init__(self, context: RunContext, max_splits: int, is_whole: Callable[[Batch], bool]) -> None:
        self._context = context
        self._max_splits = max_splits
        self._is_whole = is_whole
        self._probes = 0
        self._failures: Counter[int] = Counter()
        self._failed_alone: Counter[int] = Counter()
        self._good: set[int] = set()
        self._parked: dict[int, tuple[Batch, str]] = {}
        self._groups = 0
        self.in_a_row = 0
        self.suspects: dict[int, int] = {}

    @property
    def parked(self) -> list[tuple[Batch, str]]:
        """Batches that this run sends no more, and why."""
        return list(self._parked.values())

    def is_parked(self, batch_id: int) -> bool:
        """True when this run sends the batch no more."""
        return batch_id in self._parked

    def completed(self, batches: Sequence[Batch]) -> None:
        """A job went through: the API works, its batches hold good rows, lone rows of theirs may try again."""
        self.in_a_row = 0
        self._good.update(self._family(batch) for batch in batches)
        for batch, why in self.parked:
            if why == ALONE and self._family(batch) in self._good:
                del self._parked[batch.id]

    def failed(self, job: Job, remote: RemoteJob, answer: dict[str, Any]) -> FailedJob:
        """Record the failure and set aside what can be known to be bad. Raises Outage."""
        store = self._context.store
        reasons = [parse_reason(text) for text in remote.reasons]
        words = "; ".join(dict.fromkeys(reason.message for reason in reasons[:5] if reason.message)) or NO_REASON
        self.in_a_row += 1
        held = self._record(job, remote, answer, words)
        checkpoint("job_failed")
        free = [batch for batch in store.job_batches(job.id) if batch.state is BatchState.SEALED]
        # A damaged batch gives up its window, and with it maybe others of these.
        damaged = [batch for batch in free if not self._is_whole(batch)]
        if damaged:
            return FailedJob(words, held)
        if found := self._echoed(free, reasons):
            self.in_a_row = 0
            self._probes += 1
            rest = [child for batch, bad in found for child in self._split_off(batch, bad)]
            if self._probes >= self._max_splits:
                self._park(rest, f"{self._probes} jobs did not find all rows at fault (`delivery.max_splits`)")
        elif self.in_a_row >= OUTAGE:
            raise Outage(
                f"Userpilot failed {self.in_a_row} jobs in a row: {words}",
                hint="nothing was refused or lost; the batches are kept and go again with the next run.",
            )
        elif free:
            self._probe(free, words)
        return FailedJob(words, held)

    def _record(self, job: Job, remote: RemoteJob, answer: dict[str, Any], words: str) -> bool:
        """The job is `failed`, or with some events done `held`: True."""
        store = self._context.store
        batches = store.job_batches(job.id)
        again = [batch.id for batch in batches if batch.event.is_identify]
        if max(remote.completed_rows or 0, remote.total_rows or 0) > 0 and len(again) < len(batches):
            store.hold(job.id, reason=f"it failed with some rows done ({words}); which, nobody can tell", resend=again)
            return True
        store.fail(job.id, answer=answer, reason=words)
        return False

    def shrink(self, batches: Sequence[Batch], most: int) -> bool:
        """Halve what the API is known to find too large; True when something was."""
        large = [batch for batch in batches if batch.bytes > most and batch.rows > 1]
        for batch in large:
            self._halve(batch)
        return bool(large)

    # Rows that are echoed

    def refused(self, batches: Sequence[Batch], remote: RemoteJob) -> list[NewReject]:
        """The rejects of a job that completed and yet gives reasons: the rows that they echo.

        What a batch held that lost a file meanwhile, nobody can tell: it is delivered all the same, with a warning.
        """
        if not remote.reasons:
            return []
        readable = [batch for batch in batches if self._context.outbox.key_table(batch.name, batch.rows) is not None]
        for batch in batches:
            if batch not in readable:
                self._context.reporter.event(
                    "rejects_unknown",
                    f"{batch.model}: Userpilot refused rows, maybe of batch {batch.name}, whose files are missing or"
                    " damaged: which ones, nobody can tell any more",
                    level="warn",
                    batch=batch.name,
                    model=batch.model,
                )
        found = self._echoed(readable, [parse_reason(text) for text in remote.reasons])
        return [reject for batch, bad in found for reject in self._rejects(batch, bad)]

    def mended(self, batches: Sequence[Batch], refused: set[bytes | None]) -> list[int]:
        """Open rejects whose keys are in these delivered batches, but for those that were refused again.

        A row that was read as bad beside the delivered one of its key is still bad.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        store, outbox = self._context.store, self._context.outbox
        resolved: list[int] = []
        for model in {batch.model for batch in batches}:
            waiting = [
                reject
                for reject in store.standing_rejects(self._context.pipeline, model)
                if reject.state is RejectState.OPEN and reject.key_hash not in {None, *refused}
            ]
            for batch in (batch for batch in batches if waiting and batch.model == model):
                keys = outbox.key_table(batch.name, batch.rows)
                if keys is not None:
                    hashes = keys.column("key_hash")
                    known = pa.array([reject.key_hash for reject in waiting], hashes.type)
                    arrived = pc.is_in(known, hashes).to_pylist()
                    pairs = zip(waiting, arrived, strict=True)
                    resolved += [reject.id for reject, here in pairs if here and reject.window_id != batch.window_id]
        return resolved

    def _echoed(self, batches: Sequence[Batch], reasons: Sequence[FailureText]) -> list[tuple[Batch, dict[int, str]]]:
        """The lines that the reasons echo: place in the batch -> the API's words."""
        echoes: dict[tuple[str, ...], dict[tuple[str, ...], str]] = defaultdict(dict)
        for reason in reasons:
            if fields := echoed_fields(reason):
                pointers, said = zip(*sorted(fields), strict=True)
                echoes[pointers][said] = reason.message
        found = []
        for batch in batches if echoes else ():
            lines = self._context.outbox.line_table(batch.name)
            if bad := self._places(lines, echoes):
                found.append((batch, bad))
        return found

    def _places(
        self, lines: pa.Table, echoes: Mapping[tuple[str, ...], Mapping[tuple[str, ...], str]]
    ) -> dict[int, str]:
        """Where the lines stand whose fields all say what an echo says; one query for all echoes of the same fields."""
        import pyarrow as pa

        bad: dict[int, str] = {}
        connection = self._context.engine.connect()
        try:
            connection.register("lines", lines)
            for pointers, said in echoes.items():
                names = [f"f{n}" for n in range(len(pointers))]
                columns = [pa.array(texts, pa.string()) for texts in zip(*said, strict=True)]
                connection.register("echoes", pa.table(columns, names).append_column("words", pa.array(said.values())))
                # 34.70 in a line is 34.7 in an echo.
                shown = "coalesce(TRY_CAST({0} AS DOUBLE)::VARCHAR, {0})"
                ours = (f"coalesce(json_extract_string(line, ${name}), '') AS {name}" for name in names)
                same = (f"{shown.format(f'o.{name}')} = {shown.format(f'e.{name}')}" for name in names)
                rows = connection.execute(
                    f"SELECT place, words FROM (SELECT place, {', '.join(ours)} FROM lines) AS o"
                    f" JOIN echoes AS e ON {' AND '.join(same)} ORDER BY place",
                    dict(zip(names, pointers, strict=True)),
                )
                bad.update(rows.fetchall())
        finally:
            connection.close()
        return bad

    def _split_off(self, batch: Batch, bad: Mapping[int, str]) -> list[Batch]:
        """The bad rows become rejects, the others a child batch."""
        rest = self._context.outbox.without(file_of(batch), sorted(bad), f"{batch.name}-q")
        return self._replace(batch, [rest] if rest else [], self._rejects(batch, bad))

    def _rejects(self, batch: Batch, bad: Mapping[int, str]) -> list[NewReject]:
        places = sorted(bad)
        keys = self._context.outbox.key_rows(batch.name, places)
        return [
            NewReject(row["key"], row["key_hash"], row["row_hash"], RejectKind.REJECTED, (bad[place],), batch.name)
            for place, row in zip(places, keys, strict=True)
        ]

    # Rows that are not

    def _probe(self, batches: Sequence[Batch], words: str) -> None:
        """Nothing is known about the rows: again, then halves of the batches, then of the rows, then a verdict."""
        is_first = not all(self._failures[batch.id] for batch in batches)
        self._failures.update(batch.id for batch in batches)
        if is_first:
            self._group(batches)
        elif len(batches) == 1 and batches[0].rows == 1:
            self._judge(batches[0], words)
        elif self._probes + 2 > self._max_splits:
            self._park(batches, f"{words}; {self._probes} jobs did not find the rows at fault (`delivery.max_splits`)")
        elif len(batches) > 1:
            self._probes += 2
            self._group(batches[: len(batches) // 2])
            self._group(batches[len(batches) // 2 :])
        else:
            self._probes += 2
            self._halve(batches[0])

    def _judge(self, batch: Batch, words: str) -> None:
        """A row that stands alone and fails: parked until a sibling went through, guilty when it then fails again."""
        if self._family(batch) not in self._good:
            self._park([batch], ALONE)
        elif self._failed_alone[batch.id]:
            self._split_off(batch, {0: words})
        self._failed_alone[batch.id] += 1

    def _group(self, batches: Sequence[Batch]) -> None:
        self._groups += 1
        self.suspects.update(dict.fromkeys((batch.id for batch in batches), self._groups))

    def _park(self, batches: Sequence[Batch], why: str) -> None:
        self._parked |= {batch.id: (batch, why) for batch in batches}

    def _halve(self, batch: Batch) -> None:
        outbox, middle = self._context.outbox, batch.rows // 2
        upper = outbox.without(file_of(batch), range(middle, batch.rows), f"{batch.name}-a")
        lower = outbox.without(file_of(batch), range(middle), f"{batch.name}-b")
        self._replace(batch, [half for half in (upper, lower) if half], [])

    def _replace(self, batch: Batch, files: Sequence[SealedFile], rejects: Sequence[NewReject]) -> list[Batch]:
        checkpoint("children_written")
        children = [NewBatch(file.name, file.rows, file.bytes, file.sha256, parent_id=batch.id) for file in files]
        recorded = self._context.store.split(batch.id, children=children, rejects=rejects)
        checkpoint("children_recorded")
        # A half has failed already, as part of its whole: it is not tried twice before it is cut.
        self._failures.update(dict.fromkeys((child.id for child in recorded), self._failures[batch.id]))
        return recorded

    def _family(self, batch: Batch) -> int:
        """The batch that this one was cut from in the end."""
        while batch.parent_id is not None and (parent := self._context.store.batch(batch.parent_id)) is not None:
            batch = parent
        return batch.id


def file_of(batch: Batch) -> SealedFile:
    """The sealed file of a recorded batch."""
    return SealedFile(batch.name, batch.rows, batch.bytes, batch.sha256)


def echoed_fields(reason: FailureText) -> list[tuple[str, str]]:
    """What a line must say to be the echoed row, as (JSON pointer, text); empty when the echo fits too many.

    A whole echo also says what the row lacks (page "Import API": a missing `user_id` is not printed), except `source`
    and `inserted_at`, which the documented echo leaves out. A cut one must at least name who it is about.
    """
    fields = list(shown(reason.row))
    said = {pointer for pointer, _ in fields}
    if reason.truncated:
        return fields if said & {"/user_id", "/company_id"} else []
    return fields + [(pointer, "") for pointer in IDENTITY if pointer not in said] if fields else []


def shown(row: Mapping[str, Any] | None, above: str = "") -> Iterator[tuple[str, str]]:
    """The scalar fields of an echoed row as (JSON pointer, text); nil and missing are the empty text."""
    for key, value in (row or {}).items():
        pointer = f"{above}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping):
            yield from shown(value, pointer)
        elif isinstance(value, bool):
            yield pointer, str(value).lower()
        elif value is None or (isinstance(value, str | int | float) and not isinstance(value, Opaque)):
            yield pointer, "" if value is None else str(value)
