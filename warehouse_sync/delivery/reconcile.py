"""Was it there already? The job list, read before anything is sent whose content may have arrived (design: "Job").

A job is ours by file name and size. Names are new with every attempt, so one listed name is one upload.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warehouse_sync.state.lifecycle import JobState

if TYPE_CHECKING:
    from warehouse_sync.context import RunContext
    from warehouse_sync.delivery.asking import Asking, Timing
    from warehouse_sync.patience import Patience
    from warehouse_sync.state.rows import Batch, Job
    from warehouse_sync.userpilot.job import RemoteJob

LISTS_UNTIL_LOST = 3
"""Lists without a job, spread over `grace`, until it counts as never arrived."""
JOBS_REMEMBERED = 20
"""Completed jobs that are looked through for what an earlier run learned about names."""
NAMES_LISTED, SIZES_LISTED = "names_listed", "sizes_listed"
"""Keys in a stored answer: whether the list showed the job's name, and its size, as they were sent."""


@dataclass(frozen=True)
class Sighting:
    """What the lists say of a job without an answer: `found`, or never arrived, or `doubt`: why nobody can tell."""

    found: RemoteJob | None = None
    doubt: str = ""


class Reconciler:
    """Looks for our jobs in the list, and knows whether the list can tell."""

    def __init__(self, context: RunContext, asking: Asking, timing: Timing, patience: Patience) -> None:
        self._context = context
        self._asking = asking
        self._timing = timing
        self._patience = patience
        self._known: dict[str, bool] | None = None
        self._checked: set[int] = set()
        self._before: tuple[RemoteJob, ...] | None = None

    def arrived_before(self, first: Batch, sha256: str, size: int) -> RemoteJob | None:
        """Before an upload: an earlier attempt with the same content that was given up and has arrived after all.

        `first`: the first batch of the upload; `size` in bytes.
        """
        earlier = self._given_up(first.id, sha256)
        return best(self._asking.jobs(), "", size, earlier) if earlier else None

    def listed_already(self, job: Job) -> RemoteJob | None:
        """Before an upload: a job of its name and size from a time that this state does not know.

        The name holds the content's hash and a number that comes once: the state is a copy, of which another was used.
        One list a run shows that; a state without any earlier job is no copy, but somebody who starts over.
        """
        if self._before is None:
            self._before = (self._asking.glance() or ()) if job.number > 1 else ()
        found = best(self._before, job.filename, job.bytes, set())
        if found is None or found.is_failed:
            return None
        self._context.reporter.event(
            "job_listed_already",
            f"Userpilot lists {job.filename} already, so it is not sent again; this state is an older copy, or another"
            " copy of it is in use",
            level="warn",
            job=job.filename,
        )
        return found

    def look_for(self, job: Job, *, refused: bool = False, taken: bool = False) -> Sighting:
        """After an upload without a clear answer.

        `refused`: by a 409, which somebody else's running job explains. `taken`: with a 2xx, so that only a list that
        is known to show our names can say that it never arrived.
        """
        earlier = self._given_up(self._context.store.job_batches(job.id)[0].id, job.sha256)
        other_size = False
        for look in range(LISTS_UNTIL_LOST):
            if look:
                self._patience.pause(self._timing.grace.total_seconds() / (LISTS_UNTIL_LOST - 1))
            listed = self._asking.jobs()
            size = None if self._knows(SIZES_LISTED) is False else job.bytes
            found = best(listed, job.filename, size, earlier)
            if found is not None:
                return Sighting(found)
            if any(remote.file_name == job.filename for remote in listed):
                other_size = True
            elif refused and any(not remote.is_over for remote in listed):
                return Sighting()
        if other_size:
            return Sighting(doubt="Userpilot lists it with another size than was sent")
        nameless = bool(listed) and not any(remote.file_name for remote in listed)
        if self._knows(NAMES_LISTED) is False or nameless:
            return Sighting(doubt="Userpilot lists jobs without the names they were given")
        if taken and not self._knows(NAMES_LISTED):
            return Sighting(doubt="Userpilot seemed to take it, and does not list it")
        return Sighting()

    @property
    def can_tell(self) -> bool:
        """True when the list is known to show our jobs under their names."""
        return self._knows(NAMES_LISTED) is True

    def learn(self, job: Job, remote: RemoteJob, *, over: bool = False) -> None:
        """Once per account: does the list show an accepted job under the name that we gave it?

        It may not show it yet; when the job is `over`, it never will.
        """
        if self.can_tell or job.id in self._checked:
            return
        listed = self._asking.glance()
        entry = next((one for one in listed or () if one.job_id == remote.job_id), None)
        if listed is None or (entry is None and not over):
            return
        self._known = {
            NAMES_LISTED: entry is not None and entry.file_name == job.filename,
            SIZES_LISTED: entry is None or entry.file_size in (None, job.bytes),
        }
        self._checked.add(job.id)
        if not self._known[NAMES_LISTED]:
            self._context.reporter.event(
                "names_not_listed",
                "Userpilot does not list our jobs under their names: an upload without a clear answer cannot be found"
                " again; then profiles are sent twice, events are held",
                level="warn",
                job=job.filename,
            )

    def learned(self, job: Job) -> dict[str, bool]:
        """What the stored answer of this job should remember of it."""
        return dict(self._known or {}) if job.id in self._checked else {}

    def _knows(self, what: str) -> bool | None:
        """What this run or the last ones learned; None when nobody looked yet."""
        if self._known is None:
            done = self._context.store.jobs(self._context.pipeline, states=(JobState.COMPLETED,), limit=JOBS_REMEMBERED)
            known = [job.answer for job in done if NAMES_LISTED in job.answer]
            self._known = {name: bool(known[-1].get(name)) for name in (NAMES_LISTED, SIZES_LISTED)} if known else {}
        return self._known.get(what)

    def _given_up(self, batch_id: int, sha256: str) -> set[str]:
        """Names of lost attempts with the same batches and content: if one of them arrived, these rows did."""
        attempts = self._context.store.batch_jobs(batch_id)
        return {old.filename for old in attempts if old.state is JobState.LOST and old.sha256 == sha256}


def best(listed: Iterable[RemoteJob], name: str, size: int | None, earlier: set[str]) -> RemoteJob | None:
    """The listed job that has these rows: an ended one before a running one, a failed one only under its own `name`.

    `size` in bytes, None when the list's sizes say nothing; `earlier`: names of lost attempts with the same content.
    """
    fits = [remote for remote in listed if size is None or remote.file_size in (None, size)]
    ours = [remote for remote in fits if name and remote.file_name == name]
    ours += [remote for remote in fits if remote.file_name in earlier and not remote.is_failed]
    return min(ours, key=lambda remote: (remote.is_failed, not remote.is_completed), default=None)


__all__ = ["NAMES_LISTED", "Reconciler", "Sighting", "best"]
