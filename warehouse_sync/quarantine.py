"""What becomes of the batches of a failed job: the rows that Userpilot refuses are set aside, the rest goes on.

In this order (design: "Job"):
1. rows were done before it failed: identify batches go again, events are held, since nobody knows which arrived;
2. a reason echoes a row: every line that it fits becomes a reject, the rest of the batch a child;
3. nothing is echoed: once more after a pause, then in halves; a row that stands alone is set aside only when it is
   echoed, or when another part of its batch went through in this run. An API that fails everything rejects nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse_sync.context import RunContext
from warehouse_sync.errors import Stopped
from warehouse_sync.outbox import SealedFile
from warehouse_sync.state.lifecycle import RejectKind
from warehouse_sync.state.rows import Batch, Job, NewBatch, NewReject
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.userpilot.reasons import Opaque, Reason, parse_reason

if TYPE_CHECKING:
    import pyarrow as pa

OUTAGE = 8
"""Failed jobs in a row, without one that went through, that are an outage and no fault of rows."""

IDENTITY = ("/event_type", "/event_name", "/user_id", "/company_id")
"""The fields that an echo shows when the row has them."""

NO_REASON = "Userpilot gave no reason"


class Outage(Stopped):
    """The API fails every job."""


@dataclass(frozen=True)
class Verdict:
    """What to do after a failed job: `held` batches wait for a person; `stuck` models cannot go on in this run."""

    reason: str
    held: bool = False
    stuck: str = ""


class Quarantine:
    """The memory of one run about failures; `max_splits` bounds the jobs spent on finding bad rows."""

    def __init__(self, context: RunContext, max_splits: int) -> None:
        self._context = context
        self._max_splits = max_splits
        self._splits = 0
        self._in_a_row = 0
        self._failures: Counter[int] = Counter()
        self._parents: dict[int, int] = {}
        self._good: set[int] = set()

    def completed(self, batches: Sequence[Batch]) -> None:
        """A job went through: the API works, and the families of these batches hold good rows."""
        self._in_a_row = 0
        self._good.update(self._family(batch.id) for batch in batches)

    def failed(self, job: Job, remote: RemoteJob, answer: dict[str, Any]) -> Verdict:
        """Record the failure and set aside what can be known to be bad. Raises Outage."""
        store = self._context.store
        batches = store.job_batches(job.id)
        reasons = [parse_reason(text) for text in remote.reasons]
        words = "; ".join(dict.fromkeys(reason.message for reason in reasons[:5] if reason.message)) or NO_REASON
        self._in_a_row += 1
        if max(remote.completed_rows or 0, remote.total_rows or 0) > 0:
            return self._partly_done(job, batches, answer, words)
        store.fail(job.id, answer=answer, reason=words)
        if self._set_aside(batches, reasons):
            self._in_a_row = 0
            return Verdict(words)
        if self._in_a_row >= OUTAGE:
            raise Outage(
                f"Userpilot failed {self._in_a_row} jobs in a row: {words}",
                hint="nothing was refused or lost; the batches are kept and go again with the next run.",
            )
        return self._probe(batches, words)

    def _partly_done(self, job: Job, batches: Sequence[Batch], answer: dict[str, Any], words: str) -> Verdict:
        store = self._context.store
        again = [batch.id for batch in batches if batch.event.is_identify]
        if len(again) == len(batches):
            store.fail(job.id, answer=answer, reason=words)
        else:
            store.hold(job.id, reason=words, resend=again)
        self._failures.update(batch.id for batch in batches)
        stuck = any(self._failures[batch_id] >= 2 for batch_id in again)
        return Verdict(words, held=len(again) < len(batches), stuck="it fails with some rows done" if stuck else "")

    # Rows that are echoed

    def refused(self, batches: Sequence[Batch], remote: RemoteJob) -> list[NewReject]:
        """The rejects of a job that completed and yet gives reasons: the rows that they echo."""
        found = self._echoed(batches, [parse_reason(text) for text in remote.reasons])
        return [reject for batch, bad in found for reject in self._rejects(batch, bad)]

    def _set_aside(self, batches: Sequence[Batch], reasons: Sequence[Reason]) -> bool:
        """Make rejects of the lines that the reasons echo; True when there were any."""
        found = self._echoed(batches, reasons)
        for batch, bad in found:
            self._split_off(batch, bad)
        return bool(found)

    def _echoed(self, batches: Sequence[Batch], reasons: Sequence[Reason]) -> list[tuple[Batch, dict[int, str]]]:
        """The lines that the reasons echo: place in the batch -> the API's words."""
        echoed = [(reason.message, fields) for reason in reasons if (fields := echoed_fields(reason))]
        found = []
        for batch in batches if echoed else ():
            bad: dict[int, str] = {}
            lines = self._context.outbox.line_table(batch.name)
            for message, fields in echoed:
                bad.update(dict.fromkeys(self._places(lines, fields), message))
            if bad:
                found.append((batch, bad))
        return found

    def _places(self, lines: pa.Table, fields: Sequence[tuple[str, str]]) -> list[int]:
        """Where the lines stand whose fields all say what the echo says."""
        connection = self._context.engine.connect()
        try:
            connection.register("lines", lines)
            said = [f"coalesce(json_extract_string(line, $p{n}), '')" for n in range(len(fields))]
            tests = [
                f"({text} = $v{n} OR (TRY_CAST({text} AS DOUBLE) = TRY_CAST($v{n} AS DOUBLE)))"
                for n, text in enumerate(said)
            ]
            values = {f"p{n}": path for n, (path, _) in enumerate(fields)}
            values |= {f"v{n}": value for n, (_, value) in enumerate(fields)}
            rows = connection.execute(f"SELECT place FROM lines WHERE {' AND '.join(tests)} ORDER BY place", values)
            return [place for (place,) in rows.fetchall()]
        finally:
            connection.close()

    def _split_off(self, batch: Batch, bad: Mapping[int, str]) -> None:
        """The bad rows become rejects, the others a child batch."""
        rest = self._context.outbox.without(file_of(batch), sorted(bad), f"{batch.name}-q")
        self._replace(batch, [rest] if rest else [], self._rejects(batch, bad))

    def _rejects(self, batch: Batch, bad: Mapping[int, str]) -> list[NewReject]:
        places = sorted(bad)
        keys = self._context.outbox.key_rows(batch.name, places)
        return [
            NewReject(row["key"], row["key_hash"], row["row_hash"], RejectKind.REJECTED, (bad[place],), batch.name)
            for place, row in zip(places, keys, strict=True)
        ]

    # Rows that are not

    def _probe(self, batches: Sequence[Batch], words: str) -> Verdict:
        """Nothing is known about the rows: again, then every batch alone, then halves, then a verdict about single rows."""
        first_time = [batch for batch in batches if not self._failures[batch.id]]
        self._failures.update(batch.id for batch in batches)
        if first_time:
            return Verdict(words)
        if self._splits >= self._max_splits:
            return Verdict(words, stuck=f"{self._splits} jobs did not find the rows at fault (`delivery.max_splits`)")
        for batch in batches:
            if batch.rows > 1:
                self._halve(batch)
            elif self._family(batch.id) in self._good:
                self._split_off(batch, {0: words})
            else:
                return Verdict(
                    words, stuck="a single row fails, and nothing else went through to show that it is at fault"
                )
        return Verdict(words)

    def _halve(self, batch: Batch) -> None:
        self._splits += 1
        outbox, middle = self._context.outbox, batch.rows // 2
        upper = outbox.without(file_of(batch), range(middle, batch.rows), f"{batch.name}-a")
        lower = outbox.without(file_of(batch), range(middle), f"{batch.name}-b")
        self._replace(batch, [half for half in (upper, lower) if half], [])

    def _replace(self, batch: Batch, files: Sequence[SealedFile], rejects: Sequence[NewReject]) -> None:
        children = [NewBatch(file.name, file.rows, file.bytes, file.sha256, parent_id=batch.id) for file in files]
        for child in self._context.store.split(batch.id, children=children, rejects=rejects):
            self._parents[child.id] = self._family(batch.id)
            # A half has failed already, as part of its whole: it is not tried twice before it is cut.
            self._failures[child.id] = self._failures[batch.id]

    def _family(self, batch_id: int) -> int:
        return self._parents.get(batch_id, batch_id)


def file_of(batch: Batch) -> SealedFile:
    """The sealed file of a recorded batch."""
    return SealedFile(batch.name, batch.rows, batch.bytes, batch.sha256)


def echoed_fields(reason: Reason) -> list[tuple[str, str]]:
    """What a line must say to be the echoed row, as (JSON pointer, text); empty when the echo fits too many.

    A whole echo also says what the row lacks (page "Import API": a missing `user_id` is not printed), except `source` and
    `inserted_at`, which the documented echo leaves out. A cut one must at least name who it is about.
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
