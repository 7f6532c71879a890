"""Sealed batches -> import jobs -> settled windows: one job at a time, each followed to its end.

The intent is recorded before the upload, so that a job whose answer was lost is looked for in the API's list instead of
being sent again (design: "Job"). Nothing here reads a warehouse.

    sealed batches --pack--> intent --POST--> accepted --poll--> completed: batches delivered, windows settle
                                |                         +----> failed: see `quarantine`
                                +--unclear--> in the list? accepted : after `grace`, lost: batches sealed again
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.delivery.asking import Asking, Timing, poll_step
from warehouse_sync.delivery.held import held_batches, held_errors
from warehouse_sync.delivery.outcome import Decision, DeliveryProgress, answer_of
from warehouse_sync.delivery.packing import order, pack
from warehouse_sync.delivery.quarantine import Quarantine
from warehouse_sync.delivery.reconcile import LISTS_UNTIL_LOST, Reconciler
from warehouse_sync.errors import (
    ApiError,
    AuthError,
    Busy,
    DiskError,
    JobsOutOfReach,
    NotSent,
    Outage,
    Refused,
    Throttled,
    Unclear,
    WarehouseSyncError,
)
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import BatchLimits
from warehouse_sync.patience import UPLOAD_GRACE, Patience, growing_pause
from warehouse_sync.state.lifecycle import IN_FLIGHT, BatchState, JobState
from warehouse_sync.state.rows import Batch, Job, NewJob
from warehouse_sync.userpilot.job import FAILED, RemoteJob

if TYPE_CHECKING:
    from warehouse_sync.userpilot.client import Client

KEPT_HINT = "it is kept and goes again with the next run; `warehouse-sync history` shows the jobs."
TOO_LARGE = 413
REFUSES_THE_FILE = (400, 422)
"""Statuses that may be about single rows: treated like a job that failed."""


class Delivery:
    """The delivering half of one run."""

    def __init__(
        self,
        context: RunContext,
        client: Client,
        limits: BatchLimits,
        timing: Timing,
        patience: Patience,
        destination: int,
    ) -> None:
        self._context = context
        self._store = context.store
        self._client = client
        self._limits = limits
        self._timing = timing
        self._patience = patience
        self._destination = destination
        self._asking = Asking(context, client, timing, patience)
        self._reconciler = Reconciler(context, self._asking, timing, patience)
        self._quarantine = Quarantine(context, timing.max_splits, self._is_whole)
        self._refusals = 0
        self._refused_since = 0.0
        self._too_large: int | None = None
        self.done = DeliveryProgress()

    # What run calls

    def resume(self) -> None:
        """Follow the jobs that an earlier run left behind, whatever is selected now."""
        for job in self._store.jobs(self._context.pipeline, states=IN_FLIGHT):
            self._say("job_resumed", f"picking up job {job.filename} ({job.state})", job=job.filename)
            if job.state is JobState.ACCEPTED:
                self._follow(job)
            elif found := self._reconcile(job):
                self._follow(self._accept(job, found))
        self._recall()
        self._show_held()

    def decide(self, decision: Decision) -> None:
        """Do what a person decided about held batches; those that Userpilot works on again stay held."""
        for job, batches in held_batches(self._store, self._context.pipeline):
            chosen = [batch for batch in batches if batch.model in decision.models]
            if job.id not in decision.jobs or not chosen:
                continue
            remote = self._asking.job(job) if job.remote_id else None
            if remote is not None and not remote.is_over:
                self._say(
                    "job_runs_again",
                    f"job {job.filename} is `{remote.status}` at Userpilot now: its batches stay held until it ends",
                    level="warn",
                    job=job.filename,
                )
                continue
            resolved = self._quarantine.mended(chosen, set()) if decision.arrived else []
            ids = [batch.id for batch in chosen]
            self._store.decide(job.id, ids, arrived=decision.arrived, resolved=resolved)
            rows, names = sum(batch.rows for batch in chosen), ", ".join(sorted({batch.model for batch in chosen}))
            what = "taken as arrived" if decision.arrived else "sent again"
            said = f"{counted(rows, 'row')} of {names} from job {job.filename}: {what}"
            self._say("held_decided", said, job=job.filename)
        self.done.held.clear()
        self._show_held()

    @property
    def failing(self) -> set[str]:
        """Models that cannot go on in this run, as things are."""
        return {*self.done.trouble, *self.done.held, *(batch.model for batch, _ in self._quarantine.parked)}

    def deliver(self, models: set[str], is_over: Callable[[], bool] = lambda: False) -> None:
        """Post the sealed batches of these models until none is left, or none of them can go on; `is_over`, asked
        between jobs, may end it before."""
        while not is_over() and (batches := self._next_pack(models)):
            self._patience.check()
            whole = [batch for batch in batches if self._is_whole(batch)]
            # A damaged batch takes the rest of its window with it.
            if len(whole) == len(batches):
                self._send(whole)
        for batch, why in self._quarantine.parked:
            if batch.model in models:
                self._blame([batch], ApiError(f"batch {batch.name}: {why}", hint=KEPT_HINT))

    # One job

    def _next_pack(self, models: set[str]) -> list[Batch]:
        waiting = [
            batch
            for batch in self._store.batches(self._context.pipeline, states=(BatchState.SEALED,))
            if batch.model in models
            and batch.model not in self.done.trouble
            and not self._quarantine.is_parked(batch.id)
        ]
        return self._as_before(waiting) or pack(waiting, self._limits, self._quarantine.suspects)

    def _as_before(self, waiting: Sequence[Batch]) -> list[Batch]:
        """The batches of a lost attempt, as they were: if that one shows up late, its content is known by its hash."""
        by_id = {batch.id: batch for batch in waiting}
        for batch in sorted(waiting, key=order)[:1]:
            for job in self._store.batch_jobs(batch.id)[-1:]:
                same = [by_id[one.id] for one in self._store.job_batches(job.id) if one.id in by_id]
                if job.state is JobState.LOST and sum(one.rows for one in same) == job.rows:
                    return same
        return []

    def _is_whole(self, batch: Batch) -> bool:
        if self._context.outbox.is_whole(batch.name, batch.rows, batch.bytes, batch.sha256):
            return True
        now = self._store.batch(batch.id)
        if now is not None and now.state is BatchState.SEALED:
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
        if self._too_large is not None and self._quarantine.shrink(batches, self._too_large):
            return
        size, rows = sum(batch.bytes for batch in batches), sum(batch.rows for batch in batches)
        content = self._hash(batches)
        found = self._reconciler.arrived_before(batches[0], content, size)
        self._context.still_ours()
        ids, pipeline = [batch.id for batch in batches], self._context.pipeline
        new = NewJob(self._context.run_id, pipeline, self._destination, ids, content, rows, size)
        job = self._store.intend(new)
        checkpoint("after_intent")
        found = found or self._reconciler.listed_already(job)
        if found is None:
            names = ", ".join(dict.fromkeys(batch.model for batch in batches))
            said = f"uploading {counted(rows, 'row')} ({names}) as {job.filename}"
            self._say("job_posting", said, job=job.filename, rows=rows)
            found = self._upload(job, batches)
        if found is not None:
            self._refusals = 0
            self._follow(self._accept(job, found))

    def _upload(self, job: Job, batches: Sequence[Batch]) -> RemoteJob | None:
        """The job as the API took it; None when it did not: then the intent is closed and its batches are free."""
        try:
            return self._post(job, batches)
        except (AuthError, DiskError):
            self._store.lose(job.id)
            raise
        except (NotSent, Throttled) as error:
            self._store.lose(job.id)
            self._say("job_not_taken", error.message, level="warn", job=job.filename)
            self._come_again(error, asked=getattr(error, "retry_after", None))
        except (Busy, Unclear) as error:
            self._say("job_unclear", f"{error.message}; asking the job list", level="warn", job=job.filename)
            taken = 200 <= error.status < 300
            found = self._reconcile(job, refused=isinstance(error, Busy), taken=taken)
            if found is not None:
                return found
            if 300 <= error.status < 400 or (taken and not self._reconciler.can_tell):
                raise JobsOutOfReach(error.message, hint=error.hint or KEPT_HINT) from None
            self._come_again(error, busy=isinstance(error, Busy))
        except Refused as error:
            self._refused(job, batches, error)
        return None

    def _post(self, job: Job, batches: Sequence[Batch]) -> RemoteJob:
        paths = [self._context.outbox.lines(batch.name) for batch in batches]
        self._context.still_ours()
        checkpoint("before_post")
        with self._patience.request(UPLOAD_GRACE):
            remote = self._client.upload(job.filename, paths, job.bytes)
        checkpoint("after_post")
        return remote

    def _come_again(self, error: ApiError, *, asked: float | None = None, busy: bool = False) -> None:
        """Wait before the next upload. Raises JobsOutOfReach when none was taken for `busy_timeout`."""
        if not self._refusals:
            self._refused_since = time.monotonic()
        self._refusals += 1
        if busy and self._asking.wait_for_room(self._refused_since):
            return
        limit = self._timing.busy_timeout
        left = limit.total_seconds() - (time.monotonic() - self._refused_since)
        pause = growing_pause(self._timing.pause, self._refusals - 1, asked)
        if pause >= left:
            raise JobsOutOfReach(
                f"Userpilot took no job for {limit}: {error.message}",
                hint="the batches are kept; run again later, or raise `delivery.busy_timeout`.",
            )
        self._patience.pause(pause)

    def _refused(self, job: Job, batches: Sequence[Batch], error: Refused) -> None:
        """An answer that the same upload will get again: another upload, or none."""
        too_large = error.status == TOO_LARGE
        if error.status in REFUSES_THE_FILE or (too_large and job.rows == 1):
            self._fail(job, RemoteJob("", FAILED, reasons=(error.message,)))
            return
        self._store.fail(job.id, answer={"status": error.status}, reason=error.message)
        if too_large:
            self._too_large = job.bytes // 2
            self._limits = BatchLimits(self._limits.max_rows, self._too_large)
            self._say("job_too_large", f"{error.message}; going on with smaller jobs", level="warn", bytes=job.bytes)
            return
        self._blame(batches, error)

    def _reconcile(self, job: Job, *, refused: bool = False, taken: bool = False) -> RemoteJob | None:
        """Look for a job of ours whose answer is missing; None when it never arrived, and then it is `lost`."""
        sighting = self._reconciler.look_for(job, refused=refused, taken=taken)
        if sighting.found is not None:
            return sighting.found
        if sighting.doubt and any(not batch.event.is_identify for batch in self._store.job_batches(job.id)):
            self._hold(job, f"{sighting.doubt}, so nobody can tell whether its rows arrived", resend=True)
            return None
        self._store.lose(job.id)
        self._say("job_lost", f"job {job.filename} never arrived; its batches go again", level="warn", job=job.filename)
        return None

    def _accept(self, job: Job, remote: RemoteJob) -> Job:
        self._context.still_ours()
        accepted = self._store.accept(
            job.id,
            remote_id=remote.job_id,
            links=remote.links or None,
            remote_status=remote.status,
            request_id=remote.request_id or None,
        )
        checkpoint("after_accept")
        self._say("job_accepted", f"job {job.filename} accepted", job=job.filename, request_id=remote.request_id)
        self._reconciler.learn(job, remote)
        return accepted

    def _follow(self, job: Job) -> None:
        """Ask for the job until it ends, then record how. Raises JobsOutOfReach after `job_timeout`."""
        began, looks, missed = time.monotonic(), 0, 0
        while True:
            remote = self._asking.job(job)
            self._context.still_ours()
            if remote is not None and remote.is_terminal:
                break
            if remote is None or remote.is_over:
                missed += 1
                if missed >= LISTS_UNTIL_LOST:
                    what = "Userpilot no longer knows it" if remote is None else f"it ended as `{remote.status}`"
                    self._hold(job, f"{what}, so nobody can tell whether its rows arrived")
                    return
                self._patience.pause(self._timing.grace.total_seconds() / (LISTS_UNTIL_LOST - 1))
                continue
            missed = 0
            self._store.observe(job.id, remote.status, remote.total_rows)
            self._context.reporter.progress(
                job.filename, remote.completed_rows or 0, job.rows, f"rows, {remote.status or 'no status'}"
            )
            waited = time.monotonic() - began
            left = self._timing.job_timeout.total_seconds() - waited
            if left <= 0:
                raise JobsOutOfReach(
                    f"job {job.filename} is still `{remote.status}` after {self._timing.job_timeout}"
                    f" (accepted {job.accepted_at:%Y-%m-%d %H:%M} UTC)",
                    hint="it stays recorded, the next run waits for it again; `delivery.job_timeout` sets the limit.",
                )
            self._patience.pause(min(poll_step(looks, waited), left))
            looks += 1
        checkpoint("before_complete")
        if remote.is_completed:
            self._complete(job, remote)
        else:
            self._fail(job, remote)

    # How a job ends

    def _complete(self, job: Job, remote: RemoteJob) -> None:
        batches = self._store.job_batches(job.id)
        if remote.total_rows not in (None, job.rows):
            self._say(
                "total_rows_differ",
                f"job {job.filename}: {counted(job.rows, 'row')} sent, the API counted {remote.total_rows}",
                level="warn",
                job=job.filename,
                rows=job.rows,
                total_rows=remote.total_rows,
            )
        refused = self._quarantine.refused(batches, remote)
        self._reconciler.learn(job, remote, over=True)
        self._store.complete(
            job.id,
            answer=answer_of(remote) | self._reconciler.learned(job),
            total_rows=remote.total_rows,
            rejects=refused,
            resolved=self._quarantine.mended(batches, {reject.key_hash for reject in refused}),
        )
        checkpoint("after_complete")
        self._quarantine.completed(batches)
        for model in {batch.model for batch in batches}:
            self.done.jobs[model] = self.done.jobs.get(model, 0) + 1
        said = f"job {job.filename} completed: {counted(job.rows, 'row')}"
        self._say("job_completed", said, job=job.filename, rows=job.rows)

    def _fail(self, job: Job, remote: RemoteJob) -> None:
        batches = self._store.job_batches(job.id)
        try:
            verdict = self._quarantine.failed(job, remote, answer_of(remote))
        except Outage as outage:
            self._blame(batches, outage)
            raise
        self._say(
            "job_failed", f"Userpilot refused job {job.filename}: {verdict.reason}", level="warn", job=job.filename
        )
        if verdict.held:
            self._show_held()
        self._patience.pause(growing_pause(self._timing.pause, self._quarantine.in_a_row))

    def _hold(self, job: Job, why: str, *, resend: bool = False) -> None:
        """Nothing can tell what became of the job: a person decides. `resend`: profiles may go twice without harm."""
        again = [batch.id for batch in self._store.job_batches(job.id) if resend and batch.event.is_identify]
        self._store.hold(job.id, reason=why, resend=again)
        self._say("job_held", f"job {job.filename}: {why}", level="error", job=job.filename)
        self._show_held()

    def _recall(self) -> None:
        """A held job that the API knows again, and completed, needs nobody's decision."""
        for job in self._store.jobs(self._context.pipeline, states=(JobState.HELD,)):
            remote = self._asking.job(job) if job.remote_id else None
            if remote is not None and remote.is_completed:
                self._complete(job, remote)

    def _show_held(self) -> None:
        """Let every model with held batches say so: it is not read again until somebody decides."""
        self.done.held.update(held_errors(self._store, self._context.pipeline))

    # Small things

    def _blame(self, batches: Sequence[Batch], error: WarehouseSyncError) -> None:
        """These models cannot go on in this run."""
        for model in {batch.model for batch in batches}:
            self.done.trouble.setdefault(model, error)
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


__all__ = ["Delivery"]
