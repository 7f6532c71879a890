"""Questions to the API that change nothing, and the waiting in which they are asked.

Every question is asked again, with growing and jittered pauses, while the API does not answer; every wait has an end
with a sentence that says what to do next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from warehouse_sync.errors import ApiError, AuthError, JobsOutOfReach, NotSent, Refused, Throttled, Unclear
from warehouse_sync.patience import LONGEST_PAUSE, Patience, growing_pause

if TYPE_CHECKING:
    from warehouse_sync.context import RunContext
    from warehouse_sync.state.rows import Job
    from warehouse_sync.userpilot.client import Client
    from warehouse_sync.userpilot.job import RemoteJob

QUICK_POLLS = (0.1, 0.15, 0.2, 0.3)
"""Seconds between the first questions about a job: small imports are over soon."""
POLL = 0.45
"""Seconds between two questions from then on: with the answer's own time within half a second of the end."""
POLL_SHARE = 0.048
"""Of the time a job has taken so far: with the answer's own time the end is noticed within 5 %."""
TRY_AGAIN = 300.0
"""Seconds after which a running job is doubted: the list may show one for ever that stands in nobody's way."""
FIRST_CALL = timedelta(seconds=30)
"""How long the first question of a run is asked again: a wrong endpoint should not look like a long job."""

AnswerT = TypeVar("AnswerT")
Say = Callable[..., None]


@dataclass(frozen=True)
class Timing:
    """How long delivery waits: for a job to end, for other jobs to make room, for a job to appear in the list.

    `pause`: seconds before a second attempt, doubled with every further one. `max_splits`: jobs spent on finding rows.
    """

    job_timeout: timedelta
    busy_timeout: timedelta
    grace: timedelta
    max_splits: int = 40
    pause: float = 0.5


class Asking:
    """The questions of one run. `limit` of every wait is `busy_timeout`."""

    def __init__(self, context: RunContext, client: Client, timing: Timing, patience: Patience) -> None:
        self._context = context
        self._client = client
        self._timing = timing
        self._patience = patience

    def jobs(self) -> tuple[RemoteJob, ...]:
        """The job list. Raises JobsOutOfReach when it does not come within `busy_timeout`."""
        return self._ask(self._client.list_jobs)

    def glance(self) -> tuple[RemoteJob, ...] | None:
        """The job list, asked for once; None when it does not come. For what is good to know and no more."""
        try:
            with self._patience.request():
                return self._client.list_jobs()
        except (ApiError, AuthError):
            return None

    def job(self, job: Job) -> RemoteJob | None:
        """The job as it stands, by its id or else in the list; None when neither knows it."""
        return self._ask(lambda: self._by_id(job) or self._listed(job))

    def _by_id(self, job: Job) -> RemoteJob | None:
        """By its id; where that brings an answer that helps nobody, the list may still know it."""
        try:
            return self._client.job(job.remote_id or "", job.links or "")
        except (AuthError, Refused, Unclear) as error:
            if isinstance(error, Unclear) and not error.status:
                raise
            self._patience.check()
            if (listed := self._listed(job)) is None:
                raise
            return listed

    def _listed(self, job: Job) -> RemoteJob | None:
        return next((listed for listed in self._client.list_jobs() if listed.job_id == job.remote_id), None)

    def wait_for_room(self, since: float) -> bool:
        """Wait until the list shows no running import, or for TRY_AGAIN; True when it showed one.

        `since`: `time.monotonic()` when the waiting began, maybe some attempts ago. Raises JobsOutOfReach.
        """
        told, looks, began = "", 0, time.monotonic()
        while True:
            running = next((remote for remote in self.jobs() if not remote.is_over), None)
            if running is None:
                return looks > 0
            who = self._whose(running)
            if running.job_id != told:
                told = running.job_id
                self._context.reporter.event("waiting_for_room", f"waiting for {who}", job=running.file_name)
            waited = time.monotonic() - since
            left = self._timing.busy_timeout.total_seconds() - waited
            if left <= 0:
                raise JobsOutOfReach(
                    f"Userpilot took no job for {self._timing.busy_timeout}; {who}",
                    hint="the batches are kept; run again later, or raise `delivery.busy_timeout`.",
                )
            if time.monotonic() - began >= TRY_AGAIN:
                return True
            self._context.reporter.progress(
                f"waiting for {running.file_name or 'another import'}", int(waited), None, "s"
            )
            self._patience.pause(min(poll_step(looks, waited), left))
            looks += 1

    def _whose(self, running: RemoteJob) -> str:
        name = running.file_name or running.job_id
        ours = any(name == job.filename for job in self._context.store.jobs(self._context.pipeline, limit=500))
        owner = "an earlier job of this pipeline" if ours else "an import of somebody else"
        return f"{owner}, {name}, which is `{running.status}` since {running.start_time or 'an unknown time'}"

    def _ask(self, question: Callable[[], AnswerT]) -> AnswerT:
        say = self._context.reporter.event
        return ask(question, self._patience, self._timing.busy_timeout, say, first=self._timing.pause)


def ask(
    question: Callable[[], AnswerT], patience: Patience, limit: timedelta, say: Say, *, first: float = 0.5
) -> AnswerT:
    """The answer to a question that changes nothing, asked again for up to `limit`. Raises JobsOutOfReach."""
    from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay

    def asked(state: RetryCallState) -> ApiError | None:
        error = state.outcome.exception() if state.outcome else None
        return error if isinstance(error, ApiError) else None

    def pause(state: RetryCallState) -> float:
        return growing_pause(first, state.attempt_number - 1, getattr(asked(state), "retry_after", None))

    def tell(state: RetryCallState) -> None:
        error, number = asked(state), state.attempt_number
        if error is not None and number & (number - 1) == 0:
            say("api_silent", f"{error.message}; asking again", level="warn", attempts=number)

    def answer() -> AnswerT:
        with patience.request():
            return question()

    patient: Any = Retrying(
        retry=retry_if_exception_type((NotSent, Unclear, Throttled)),
        wait=pause,
        stop=stop_before_delay(limit),
        before_sleep=tell,
        sleep=patience.pause,
        reraise=True,
    )
    try:
        found: AnswerT = patient(answer)
    except (NotSent, Unclear, Throttled) as error:
        hint = "Everything is recorded; the next run goes on."
        hint += " `delivery.busy_timeout` sets how long to try." if limit != FIRST_CALL else ""
        raise JobsOutOfReach(
            f"Userpilot does not answer: {error.message}", hint=f"{error.hint} {hint}".strip()
        ) from None
    return found


def poll_step(looks: int, waited: float) -> float:
    """Seconds until a job is asked for again, after so many questions and seconds."""
    if looks < len(QUICK_POLLS):
        return QUICK_POLLS[looks]
    return min(max(POLL, POLL_SHARE * waited), LONGEST_PAUSE)


__all__ = ["FIRST_CALL", "Asking", "ask", "poll_step"]
