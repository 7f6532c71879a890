"""Sealed batches -> import jobs -> settled windows: one job at a time, each followed to its end.

The intent is recorded before the upload, so that a job whose answer was lost is looked for in the API's list instead of
being sent again (design: "Job"). Nothing here reads a warehouse.

    sealed batches --pack--> intent --POST--> accepted --poll--> completed: batches delivered, windows settle
                                |                         +----> failed: batches sealed again
                                +--unclear--> in the list? accepted : after `grace`, lost: batches sealed again
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from warehouse_sync.context import RunContext
from warehouse_sync.errors import (
    ApiError,
    AuthError,
    Busy,
    NotSent,
    Refused,
    Stopped,
    Throttled,
    Unclear,
    WarehouseSyncError,
)
from warehouse_sync.outbox import Limits
from warehouse_sync.patience import Patience
from warehouse_sync.quarantine import Outage, Quarantine
from warehouse_sync.state.lifecycle import BatchState, JobState
from warehouse_sync.state.rows import Batch, Job
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.userpilot.reasons import parse_reason

if TYPE_CHECKING:
    from warehouse_sync.userpilot.client import Client

FIRST_POLL = 0.2
"""Seconds until a job is asked for the first time."""
POLL_SHARE = 0.05
"""Of the time a job has taken so far: the end is noticed within this share, or within FIRST_POLL."""
LONGEST_POLL = 30.0
"""Seconds between two questions about one job at most."""
PAUSE_AFTER_FAILURE = 0.5
"""Seconds between a failed job and the next one."""
HELD_HINT = "its batches are held: `warehouse-sync retry --resend` sends them again, `--settle` takes them as arrived."

LISTS_UNTIL_LOST = 3
"""Lists without a job, spread over `grace`, until it counts as never arrived."""

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Timing:
    """How long delivery waits: for a job to end, for other jobs to make room, for a job to appear in the list."""

    job_timeout: timedelta
    busy_timeout: timedelta
    grace: timedelta
    max_splits: int = 40


@dataclass
class Delivered:
    """What this run delivered: jobs it posted or followed, and what stopped single models."""

    jobs: dict[str, int] = field(default_factory=dict)
    trouble: dict[str, WarehouseSyncError] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)


class JobsOutOfReach(Stopped):
    """The API did not let any job through for as long as this run may wait."""


class Delivery:
    """The delivering half of one run. `on_delivered` hears of batches that arrived, before anything else happens."""

    def __init__(
        self, context: RunContext, client: Client, limits: Limits, timing: Timing, patience: Patience, destination: int
    ) -> None:
        self._context = context
        self._store = context.store
        self._client = client
        self._limits = limits
        self._timing = timing
        self._patience = patience
        self._destination = destination
        self._quarantine = Quarantine(context, timing.max_splits)
        self._waited = 0.0
        self.done = Delivered()

    # What run calls

    def resume(self) -> None:
        """Follow the jobs that an earlier run left behind, whatever is selected now."""
        for job in self._store.jobs(self._context.pipeline, states=(JobState.ACCEPTED, JobState.INTENT)):
            self._say("job_resumed", f"picking up job {job.filename} ({job.state})", job=job.filename)
            if job.state is JobState.INTENT:
                found = self._reconcile(job)
                if found is None:
                    continue
                job = self._accept(job, found)  # noqa: PLW2901 - the job goes on in its next state
            self._follow(job)

    def deliver(self, models: set[str]) -> None:
        """Post the sealed batches of these models until none is left, or none of them can go on."""
        while batches := self._next_pack(models):
            self._patience.check()
            whole = [batch for batch in batches if self._is_whole(batch)]
            if whole:
                self._send(whole)

    # One job

    def _next_pack(self, models: set[str]) -> list[Batch]:
        sealed = [
            batch
            for batch in self._store.batches(self._context.pipeline, states=(BatchState.SEALED,))
            if batch.model in models and batch.model not in self.done.trouble
        ]
        return pack(sealed, self._limits)

    def _is_whole(self, batch: Batch) -> bool:
        if self._context.outbox.is_whole(batch.name, batch.bytes, batch.sha256):
            return True
        self._say(
            "batch_damaged",
            f"batch {batch.name} is missing or damaged; the rest of its window is read again",
            level="warn",
            batch=batch.name,
            model=batch.model,
        )
        self._store.supersede_window(batch.window_id)
        self.done.damaged.add(batch.window_id)
        return False

    def _send(self, batches: Sequence[Batch]) -> None:
        """One job for these batches: intent, upload, and what came of it. What did not arrive is packed again."""
        size, rows = sum(batch.bytes for batch in batches), sum(batch.rows for batch in batches)
        job = self._store.intend(
            self._context.run_id,
            self._context.pipeline,
            self._destination,
            [batch.id for batch in batches],
            sha256=self._hash(batches),
            rows=rows,
            bytes=size,
        )
        names = ", ".join(dict.fromkeys(batch.model for batch in batches))
        self._say("job_posting", f"uploading {rows:,} rows ({names}) as {job.filename}", job=job.filename, rows=rows)
        try:
            found = self._upload(job, batches)
        except Refused as error:
            self._store.fail(job.id, answer={"status": error.status}, reason=error.message)
            self._blame(batches, error)
            return
        if found is None:
            self._waited = self._wait_for_room(self._waited)
            return
        self._waited = 0.0
        self._follow(self._accept(job, found))

    def _upload(self, job: Job, batches: Sequence[Batch]) -> RemoteJob | None:
        """The job as the API took it; None when it certainly did not (then the intent is closed). Raises Refused."""
        self._context.still_ours()
        try:
            return self._client.upload(
                job.filename, [self._context.outbox.lines(batch.name) for batch in batches], job.bytes
            )
        except AuthError:
            self._store.lose(job.id)
            raise
        except (NotSent, Throttled) as error:
            self._store.lose(job.id)
            self._say("job_not_taken", error.message, level="warn", job=job.filename)
            self._patience.pause(getattr(error, "retry_after", None) or 1.0)
            return None
        except (Busy, Unclear) as error:
            self._say("job_unclear", f"{error.message}; asking the job list", level="warn", job=job.filename)
            return self._reconcile(job, certain=isinstance(error, Busy))

    def _reconcile(self, job: Job, *, certain: bool = False) -> RemoteJob | None:
        """Look for a job of ours whose answer is missing; None when it never arrived, and then it is `lost`.

        `certain`: the API said that it did not take it, so one list without it is enough.
        """
        needed = 1 if certain else LISTS_UNTIL_LOST
        for look in range(needed):
            if look:
                self._patience.pause(self._timing.grace.total_seconds() / (needed - 1))
            for remote in self._ask(self._client.list_jobs):
                if remote.file_name == job.filename and remote.file_size in (None, job.bytes):
                    return remote
        unknowable = [] if certain or self._names_are_echoed() else self._store.job_batches(job.id)
        if any(not batch.event.is_identify for batch in unknowable):
            self._hold(job, "Userpilot lists jobs without our names, so nobody can tell whether this one arrived")
            return None
        self._store.lose(job.id)
        self._say("job_lost", f"job {job.filename} never arrived; its batches go again", level="warn", job=job.filename)
        return None

    def _accept(self, job: Job, remote: RemoteJob) -> Job:
        accepted = self._store.accept(
            job.id,
            remote_id=remote.job_id,
            links=remote.links or None,
            remote_status=remote.status,
            request_id=remote.request_id or None,
        )
        self._say("job_accepted", f"job {job.filename} accepted", job=job.filename, request_id=remote.request_id)
        return accepted

    def _follow(self, job: Job) -> None:
        """Ask for the job until it ends, then record how. Raises Stopped when it takes longer than this run may wait."""
        waited, missed = 0.0, 0
        while True:
            remote = self._look(job)
            if remote is None:
                missed += 1
                if missed >= LISTS_UNTIL_LOST:
                    self._hold(job, "Userpilot no longer knows it, so nobody can tell whether its rows arrived")
                    return
                self._patience.pause(self._timing.grace.total_seconds() / (LISTS_UNTIL_LOST - 1))
                continue
            self._store.observe(job.id, remote.status, remote.total_rows)
            self._context.reporter.progress(
                job.filename, remote.completed_rows or 0, job.rows, f"rows, {remote.status or 'no status'}"
            )
            if remote.is_terminal:
                break
            if waited >= self._timing.job_timeout.total_seconds():
                raise JobsOutOfReach(
                    f"job {job.filename} is still `{remote.status}` after {self._timing.job_timeout}",
                    hint="it stays recorded; the next run goes on waiting for it. `delivery.job_timeout` sets the limit.",
                )
            step = min(max(FIRST_POLL, POLL_SHARE * waited), LONGEST_POLL)
            self._patience.pause(step)
            waited += step
        if remote.is_completed:
            self._complete(job, remote)
        else:
            self._fail(job, remote)

    def _look(self, job: Job) -> RemoteJob | None:
        """The job as it stands, by its id or else in the list; None when neither knows it."""
        remote = self._ask(lambda: self._client.job(job.remote_id or "", job.links or ""))
        if remote is not None:
            return remote
        return next((listed for listed in self._ask(self._client.list_jobs) if listed.job_id == job.remote_id), None)

    # How a job ends

    def _complete(self, job: Job, remote: RemoteJob) -> None:
        batches = self._store.job_batches(job.id)
        if remote.total_rows not in (None, job.rows):
            self._say(
                "total_rows_differ",
                f"job {job.filename}: {job.rows} rows were sent, the API counted {remote.total_rows}",
                level="warn",
                job=job.filename,
                rows=job.rows,
                total_rows=remote.total_rows,
            )
        resolved = self._delivered_rejects(batches)
        refused = self._quarantine.refused(batches, remote)
        self._store.complete(
            job.id, answer=answer_of(remote), total_rows=remote.total_rows, rejects=refused, resolved=resolved
        )
        self._quarantine.completed(batches)
        for model in {batch.model for batch in batches}:
            self.done.jobs[model] = self.done.jobs.get(model, 0) + 1
        self._say("job_completed", f"job {job.filename} completed: {job.rows:,} rows", job=job.filename, rows=job.rows)

    def _fail(self, job: Job, remote: RemoteJob) -> None:
        batches = self._store.job_batches(job.id)
        try:
            verdict = self._quarantine.failed(job, remote, answer_of(remote))
        except Outage:
            self._blame(batches, ApiError(f"Userpilot failed job {job.filename}"))
            raise
        self._say(
            "job_failed", f"Userpilot refused job {job.filename}: {verdict.reason}", level="warn", job=job.filename
        )
        if verdict.stuck:
            self._blame(
                batches,
                ApiError(
                    f"Userpilot refuses job {job.filename} ({verdict.reason}): {verdict.stuck}",
                    hint="the batches are kept and go again with the next run; `warehouse-sync history` shows the jobs.",
                ),
            )
        elif verdict.held:
            held = [batch for batch in batches if not batch.event.is_identify]
            self._blame(
                held,
                ApiError(
                    f"Userpilot failed job {job.filename} with some rows done ({verdict.reason}); which, nobody can tell",
                    hint=HELD_HINT,
                ),
            )
        else:
            self._patience.pause(PAUSE_AFTER_FAILURE)

    def _hold(self, job: Job, why: str) -> None:
        """Nothing can tell what became of the job: events wait for a person, profiles may go twice without harm."""
        batches = self._store.job_batches(job.id)
        again = [batch.id for batch in batches if batch.event.is_identify]
        if len(again) == len(batches):
            again = []
        self._store.hold(job.id, reason=why, resend=again)
        held = [batch for batch in batches if batch.id not in again]
        self._blame(held, ApiError(f"job {job.filename}: {why}", hint=HELD_HINT))

    def _names_are_echoed(self) -> bool:
        """Whether the API's answers carry our file names, as far as the last completed job shows; else taken for granted."""
        done = self._store.jobs(self._context.pipeline, states=(JobState.COMPLETED,), limit=1)
        return not done or done[-1].answer.get("filename") == done[-1].filename

    def _delivered_rejects(self, batches: Sequence[Batch]) -> list[int]:
        """Open rejects whose keys are in these batches: mended rows that arrived."""
        import pyarrow.parquet as pq

        resolved: list[int] = []
        for model in {batch.model for batch in batches}:
            waiting = {r.key_hash: r.id for r in self._store.open_rejects(self._context.pipeline, model) if r.key_hash}
            if not waiting:
                continue
            for batch in (batch for batch in batches if batch.model == model):
                hashes = pq.read_table(self._context.outbox.keys(batch.name), columns=["key_hash"]).column(0)
                resolved += [waiting[found] for found in set(waiting) & set(hashes.to_pylist())]
        return resolved

    # Waiting

    def _wait_for_room(self, waited: float) -> float:
        """Wait until no import job of the account runs, as far as the list tells. Raises Stopped after `busy_timeout`."""
        limit = self._timing.busy_timeout.total_seconds()
        step = min(max(FIRST_POLL, POLL_SHARE * waited), LONGEST_POLL)
        while True:
            running = [remote for remote in self._ask(self._client.list_jobs) if not remote.is_terminal]
            if waited >= limit:
                who = (
                    f"job {running[0].file_name or running[0].job_id} since {running[0].start_time}"
                    if running
                    else "no job"
                )
                raise JobsOutOfReach(
                    f"Userpilot took no job for {self._timing.busy_timeout}; it lists {who} as running",
                    hint="the batches are kept; run again later, or raise `delivery.busy_timeout`.",
                )
            self._patience.pause(step)
            waited += step
            if not running:
                return waited
            self._context.reporter.progress(f"waiting for {running[0].file_name}", int(waited), int(limit), "s")
            step = min(max(FIRST_POLL, POLL_SHARE * waited), LONGEST_POLL)

    def _ask(self, question: Callable[[], AnswerT]) -> AnswerT:
        """A question that changes nothing, asked again while the API does not answer, up to `busy_timeout`."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

        patient = Retrying(
            retry=retry_if_exception_type((NotSent, Unclear, Throttled)),
            wait=wait_random_exponential(multiplier=0.4, max=LONGEST_POLL),
            stop=stop_after_delay(self._timing.busy_timeout),
            sleep=self._patience.pause,
            reraise=True,
        )
        try:
            return patient(question)
        except (NotSent, Unclear, Throttled) as error:
            raise JobsOutOfReach(
                f"Userpilot does not answer: {error.message}",
                hint="everything is recorded; the next run goes on. `delivery.busy_timeout` sets how long to try.",
            ) from None

    # Small things

    def _blame(self, batches: Sequence[Batch], error: WarehouseSyncError) -> None:
        """These models cannot go on in this run."""
        for model in {batch.model for batch in batches}:
            self.done.trouble[model] = error
        self._say("delivery_error", error.message, level="error")

    def _hash(self, batches: Sequence[Batch]) -> str:
        if len(batches) == 1:
            return batches[0].sha256
        whole = hashlib.sha256()
        for batch in batches:
            with self._context.outbox.lines(batch.name).open("rb") as file:
                while chunk := file.read(1 << 20):
                    whole.update(chunk)
        return whole.hexdigest()

    def _say(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        self._context.reporter.event(code, message, level=level, **data)


def pack(sealed: Sequence[Batch], limits: Limits) -> list[Batch]:
    """The batches of the next job: companies, users, then events, oldest first, as many as the limits of a job allow.

    What came of a failed job travels alone, so that nobody else's rows wait for it.
    """
    ordered = sorted(sealed, key=lambda batch: (batch.event.send_order, batch.id))
    taken: list[Batch] = []
    rows = size = 0
    for batch in ordered:
        rows, size = rows + batch.rows, size + batch.bytes
        if taken and (rows > limits.max_rows or size > limits.max_bytes or batch.parent_id is not None):
            break
        taken.append(batch)
        if batch.parent_id is not None:
            break
    return taken


def answer_of(remote: RemoteJob) -> dict[str, Any]:
    """The API's last word about a job, without the rows that its reasons may print."""
    kept = {key: value for key, value in remote.raw.items() if key != "reason_for_failure"}
    if remote.reasons:
        kept["reasons"] = [parse_reason(text).message for text in remote.reasons[:20]]
    return kept
