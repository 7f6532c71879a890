"""The state store: one class, and behind it the only SQL on state.

Every method is one transaction, so what it says happened, happened as a whole and is on disk when it returns. A move
that the life cycles forbid raises `IllegalMove` and changes nothing; a database that breaks raises `LocalStateLost`
or `DiskError`. Lists come in the order of ids, which is the order in which things were recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from warehouse_sync.state import jobs as _jobs
from warehouse_sync.state import pipelines as _pipelines
from warehouse_sync.state import rejects as _rejects
from warehouse_sync.state import windows as _windows
from warehouse_sync.state.by_hand import ByHand
from warehouse_sync.state.database import Database, open_database
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.lifecycle import UNSETTLED_BATCHES, BatchState, JobState, RejectKind, RejectState, WindowState
from warehouse_sync.state.moves import JOB, move
from warehouse_sync.state.rows import (
    Batch,
    Destination,
    Job,
    ModelState,
    NewBatch,
    NewJob,
    NewReject,
    NewWindow,
    Pipeline,
    Reject,
    Run,
    RunHistory,
    Sealed,
    Standing,
    Window,
    WindowKind,
)
from warehouse_sync.values import Counts, CursorValue, utc_now

ValueT = TypeVar("ValueT")


def open_store(url: str, *, clock: Callable[[], datetime] = utc_now, read_only: bool = False) -> Store:
    """Open the store at an SQLAlchemy URL (`sqlite:///…`, `postgresql+psycopg://…`), making or migrating it first.

    `read_only` changes nothing: a store that does not exist is an empty one. Raises StateError when the store cannot
    be used: not a store, written by a newer program, damaged, unwritable, unreachable.
    """
    return Store(open_database(url, read_only=read_only), clock)


def _known(found: ValueT | None) -> ValueT:
    if found is None:
        raise LookupError("the state store does not hold what it just wrote")
    return found


class Store:
    """What is known about every pipeline; a context manager that closes its connections."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        # Rejects are opened by the run that is at work, which need not be the one that began their window.
        self._run_id: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def only_under(self, lease: Lease) -> None:
        """From now on change nothing once this lease is lost: LocalStateLost, in the transaction itself."""
        self._database.fence = lease.fence

    # Pipelines and destinations

    def pipelines(self) -> list[Pipeline]:
        """Every pipeline, by name."""
        with self._database.read() as connection:
            return _pipelines.list_pipelines(connection)

    def pipeline(self, name: str) -> Pipeline | None:
        """One pipeline, None before it is registered."""
        with self._database.read() as connection:
            return next(iter(_pipelines.list_pipelines(connection, name)), None)

    def register_pipeline(self, name: str, home_id: str) -> Pipeline:
        """Add a pipeline; nothing happens when it is there with this home, another home is a StateError."""
        with self._database.write() as connection:
            _pipelines.register(connection, name, home_id, self._clock())
            return _pipelines.list_pipelines(connection, name)[0]

    def set_home(self, name: str, home_id: str) -> None:
        """Let a pipeline keep its files in another folder from now on."""
        with self._database.write() as connection:
            _pipelines.set_home(connection, name, home_id)

    def has_history(self, name: str) -> bool:
        """True when any window or merged snapshot of the pipeline is known, so that its files must be there too."""
        with self._database.read() as connection:
            return _pipelines.has_history(connection, name)

    def destination(self, pipeline: str) -> Destination | None:
        """The destination that the pipeline's state belongs to, None before the first claim."""
        with self._database.read() as connection:
            return _pipelines.destination(connection, pipeline)

    def claim_destination(self, pipeline: str, origin: str, account: str | None, key_fingerprint: str) -> Destination:
        """Take a destination, or raise DestinationError when the state belongs to another one.

        `account` is None until a job id showed it; until then the API key's fingerprint stands for it. An account that
        becomes known is stored; the same account with a new key stores the key's fingerprint.
        """
        with self._database.write() as connection:
            _pipelines.claim_destination(
                connection, pipeline, origin, account, key_fingerprint=key_fingerprint, now=self._clock()
            )
            return _known(_pipelines.destination(connection, pipeline))

    def adopt_destination(self, pipeline: str, origin: str, account: str | None, key_fingerprint: str) -> Destination:
        """Let the state belong to this destination, whatever it was before (`state adopt`)."""
        with self._database.write() as connection:
            _pipelines.set_destination(
                connection, pipeline, origin, account, key_fingerprint=key_fingerprint, now=self._clock()
            )
            return _known(_pipelines.destination(connection, pipeline))

    # Runs and models

    def begin_run(self, pipeline: str, verb: str, args: dict[str, Any], version: str, *, seconds: float = 0.0) -> int:
        """Record that a run started so many seconds ago; rejects opened through this Store from now on are its own."""
        started = self._clock() - timedelta(seconds=seconds)
        with self._database.write() as connection:
            run_id = _pipelines.begin_run(connection, pipeline, verb, args, version=version, now=started)
        self._run_id = run_id
        return run_id

    def end_run(self, run_id: int, exit_code: int, results: list[dict[str, Any]]) -> None:
        """Record how a run ended, once."""
        with self._database.write() as connection:
            _pipelines.end_run(connection, run_id, exit_code, results, self._clock())

    def runs(self, pipeline: str, limit: int) -> list[Run]:
        """The newest runs, newest first; one whose process died is unfinished."""
        with self._database.read() as connection:
            return _pipelines.list_runs(connection, pipeline, limit)

    def history(self, pipeline: str, limit: int) -> list[RunHistory]:
        """The newest runs, newest first, each with the jobs that it started and the batches that they covered."""
        with self._database.read() as connection:
            return _jobs.history(connection, pipeline, limit)

    def model_state(self, pipeline: str, model: str) -> ModelState | None:
        """What is known about a model, None until something of it is delivered or a window of it settles."""
        with self._database.read() as connection:
            return next(iter(_pipelines.model_states(connection, pipeline, model)), None)

    def model_states(self, pipeline: str) -> list[ModelState]:
        """What is known about every model, by name."""
        with self._database.read() as connection:
            return _pipelines.model_states(connection, pipeline)

    def record_merged(self, pipeline: str, model: str, batch_id: int) -> None:
        """The snapshot holds every delivery up to that of this batch; an older batch than known changes nothing."""
        with self._database.write() as connection:
            _pipelines.record_merged(connection, pipeline, model, batch_id)

    def mergeable(self, pipeline: str, model: str) -> list[Batch]:
        """Delivered batches that the snapshot does not hold yet, in the order to merge them (`delivery_seq`)."""
        with self._database.read() as connection:
            return _jobs.mergeable(connection, pipeline, model)

    def batches_in_use(self, pipeline: str) -> list[Batch]:
        """Batches whose files somebody still needs: those not delivered yet, and those that no snapshot holds yet."""
        needed = self.batches(pipeline, states=UNSETTLED_BATCHES)
        for known in self.model_states(pipeline):
            needed += self.mergeable(pipeline, known.model)
        return needed

    # Windows and batches

    def begin_window(self, new: NewWindow) -> Window:
        """Record a window as `extracting`; IllegalMove while another window of the model is unsettled."""
        with self._database.write() as connection:
            return _known(_windows.window(connection, _windows.begin(connection, new)))

    def drop_window(self, window_id: int) -> None:
        """Forget a window that is still `extracting`."""
        with self._database.write() as connection:
            _windows.drop(connection, window_id)

    def seal_window(
        self,
        window_id: int,
        *,
        batches: Sequence[NewBatch],
        rejects: Sequence[NewReject],
        counts: Counts,
        cursor_to: CursorValue | None,
        properties: dict[str, str],
        again: Sequence[tuple[bytes | None, bytes]] = (),
        gone: int = 0,
    ) -> Sealed:
        """`extracting` -> `ready`, with its sealed batches and its rejects; without batches it settles at once.

        `again`: key hash and row hash of refused rows that were read once more and are as they were.
        `cursor_to` is the greatest cursor among the rows read, None when there was none: the cursor stays. It moves
        when the window settles, and only for the kinds incremental and full. `properties`: name -> Userpilot type;
        `gone`: see `Window`.
        """
        now = self._clock()
        with self._database.write() as connection:
            _windows.seal(
                connection,
                window_id,
                new_batches=batches,
                counts=counts,
                cursor_to=cursor_to,
                properties=properties,
                gone=gone,
                now=now,
            )
            opened = _rejects.upsert(connection, window_id, rejects, again=again, run_id=self._run_id, now=now)
            settled = [] if batches else _windows.settle(connection, [window_id], now)
            return Sealed(opened, bool(settled))

    def window(self, window_id: int) -> Window | None:
        """One window."""
        with self._database.read() as connection:
            return _windows.window(connection, window_id)

    def windows(
        self,
        pipeline: str,
        *,
        model: str | None = None,
        states: Iterable[WindowState] | None = None,
        kinds: Iterable[WindowKind] | None = None,
    ) -> list[Window]:
        """Windows of a pipeline."""
        with self._database.read() as connection:
            return _windows.list_windows(connection, pipeline, model, states, kinds)

    def has_read(self, pipeline: str, model: str, up_to: CursorValue | None = None) -> bool:
        """True when a settled window read rows that are not ahead of the clock, and moved the cursor by them to
        `up_to`, None: wherever."""
        with self._database.read() as connection:
            return _windows.has_read(connection, pipeline, model, up_to)

    def rows_sent(
        self, pipeline: str, model: str, *, fingerprints: Iterable[str] | None = None, limit: int = 100
    ) -> list[int] | None:
        """Rows that the newest settled incremental windows had to send, of those with any; None where the model was
        never read as far as it goes. `fingerprints`: what the model was then, None for whatever it was."""
        with self._database.read() as connection:
            return _windows.rows_sent(connection, pipeline, model, fingerprints, limit)

    def last_sent(self, pipeline: str, model: str | None = None) -> dict[str, Window]:
        """Model -> its newest window that settled, or of which a batch at least was delivered."""
        with self._database.read() as connection:
            return _windows.last_sent(connection, pipeline, model)

    def batch(self, batch_id: int) -> Batch | None:
        """One batch."""
        with self._database.read() as connection:
            return next(iter(_windows.batches_of(connection, [batch_id])), None)

    def batches(
        self,
        pipeline: str,
        *,
        model: str | None = None,
        states: Iterable[BatchState] | None = None,
        window_id: int | None = None,
    ) -> list[Batch]:
        """Batches of a pipeline."""
        with self._database.read() as connection:
            return _windows.list_batches(connection, pipeline, model, states, window_id)

    def supersede_window(self, window_id: int) -> list[Batch]:
        """Give up the `sealed` batches of a `ready` window, to be read again; returns them.

        The window ends when none of its batches is left with a job: superseded, and the cursor stays.
        """
        with self._database.write() as connection:
            return _windows.batches_of(connection, _windows.supersede_window(connection, window_id, self._clock()))

    def supersede_batches(self, ids: Sequence[int]) -> None:
        """Give up `sealed` or `held` batches, to be read again; their windows end as `supersede_window` says."""
        with self._database.write() as connection:
            _windows.supersede(connection, ids, self._clock())

    def split(self, batch_id: int, *, children: Sequence[NewBatch], rejects: Sequence[NewReject]) -> list[Batch]:
        """Replace a `sealed` batch by its children, sealed under the same window, and its rejects.

        Returns the children. ValueError when rows are missing. Without children the window may settle.
        """
        with self._database.write() as connection:
            ids = _windows.split(
                connection,
                batch_id,
                children=children,
                new_rejects=rejects,
                run_id=self._run_id,
                now=self._clock(),
            )
            return _windows.batches_of(connection, ids)

    # Jobs

    def intend(self, new: NewJob) -> Job:
        """Record a job before its upload: its `sealed` batches become `sent`.

        IllegalMove while another job of the destination is in flight.
        """
        with self._database.write() as connection:
            job_id = _jobs.intend(connection, new, self._clock())
            return _known(_jobs.job(connection, job_id))

    def accept(
        self, job_id: int, *, remote_id: str, links: str | None, remote_status: str, request_id: str | None
    ) -> Job:
        """`intent` -> `accepted`: the API gave it an id."""
        now = self._clock()
        with self._database.write() as connection:
            move(
                connection,
                JOB,
                [job_id],
                JobState.ACCEPTED,
                remote_id=remote_id,
                links=links,
                remote_status=remote_status,
                request_id=request_id,
                accepted_at=now,
                observed_at=now,
            )
            return _known(_jobs.job(connection, job_id))

    def observe(self, job_id: int, remote_status: str, total_rows: int | None) -> None:
        """Record what a poll said about an `accepted` or `held` job."""
        with self._database.write() as connection:
            _jobs.observe(connection, job_id, remote_status, total_rows, self._clock())

    def complete(
        self,
        job_id: int,
        *,
        answer: dict[str, Any],
        total_rows: int | None,
        rejects: Sequence[NewReject] = (),
        resolved: Sequence[int] = (),
    ) -> list[Window]:
        """`accepted` or `held` -> `completed`: its batches are delivered; returns the windows that settled with it.

        `rejects` name their batch (`batch_name`); `resolved` are ids of rejects whose keys were delivered.
        """
        with self._database.write() as connection:
            settled = _jobs.complete(
                connection,
                job_id,
                answer=answer,
                total_rows=total_rows,
                new_rejects=rejects,
                resolved=resolved,
                run_id=self._run_id,
                now=self._clock(),
            )
            return [_known(_windows.window(connection, window_id)) for window_id in settled]

    def fail(self, job_id: int, *, answer: dict[str, Any], reason: str) -> None:
        """`intent`, `accepted` or `held` -> `failed`: its batches are `sealed` again."""
        with self._database.write() as connection:
            _jobs.end(
                connection, job_id, JobState.FAILED, held=False, answer=answer, reason=reason, ended_at=self._clock()
            )

    def lose(self, job_id: int) -> None:
        """`intent` -> `lost`: it never arrived, its batches are `sealed` again."""
        with self._database.write() as connection:
            _jobs.end(connection, job_id, JobState.LOST, held=False, ended_at=self._clock())

    def hold(self, job_id: int, *, reason: str, resend: Sequence[int] = ()) -> None:
        """`intent` or `accepted` -> `held`: nothing can tell what became of it, a person decides.

        Its batches are `held`, but for those in `resend`, which may arrive twice without harm: `sealed` again.
        """
        with self._database.write() as connection:
            _jobs.end(connection, job_id, JobState.HELD, held=True, resend=resend, reason=reason)

    def decide(
        self, job_id: int, batch_ids: Sequence[int], *, arrived: bool, resolved: Sequence[int] = ()
    ) -> list[Window]:
        """A person's word on `held` batches of a job: `delivered` when they `arrived`, otherwise `sealed` again.

        `resolved` are ids of rejects whose keys arrived. Returns the windows that settled. The job is `completed` or
        `failed` once none of its batches is held.
        """
        with self._database.write() as connection:
            settled = _jobs.decide(connection, job_id, batch_ids, arrived=arrived, resolved=resolved, now=self._clock())
            return [_known(_windows.window(connection, window_id)) for window_id in settled]

    def job(self, job_id: int) -> Job | None:
        """One job."""
        with self._database.read() as connection:
            return _jobs.job(connection, job_id)

    def jobs(self, pipeline: str, *, states: Iterable[JobState] | None = None, limit: int | None = None) -> list[Job]:
        """Jobs of a pipeline, oldest first; with `limit`, the newest ones."""
        with self._database.read() as connection:
            return _jobs.list_jobs(connection, pipeline, states, limit)

    def job_batches(self, job_id: int) -> list[Batch]:
        """The batches that a job covers, or covered, in the order of its file."""
        with self._database.read() as connection:
            return _jobs.covered(connection, job_id)

    def batch_jobs(self, batch_id: int) -> list[Job]:
        """Every job that ever covered a batch, oldest first."""
        with self._database.read() as connection:
            return _jobs.jobs_of_batch(connection, batch_id)

    # Rejects

    def rejects(
        self,
        pipeline: str,
        *,
        model: str | None = None,
        states: Iterable[RejectState] = (RejectState.OPEN,),
        keys: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> list[Reject]:
        """Refused rows, oldest first; with `keys`, those of these keys; with `limit`, the oldest ones."""
        with self._database.read() as connection:
            return _rejects.list_rejects(connection, pipeline, model, states, keys=keys, limit=limit)

    def open_rejects(self, pipeline: str, model: str) -> list[Reject]:
        """The refused rows of a model that are still missing at the destination."""
        return self.rejects(pipeline, model=model)

    def standing_rejects(self, pipeline: str, model: str) -> list[Standing]:
        """The refused rows of a model that are not sent again as they are: open ones, and those that a person knows."""
        with self._database.read() as connection:
            return _rejects.standing(connection, pipeline, model)

    def refused_in(self, pipeline: str, batches: Sequence[str]) -> dict[str, list[bytes]]:
        """Batch name -> key hashes of its rows that Userpilot refused, mended since or not."""
        with self._database.read() as connection:
            return _rejects.refused_in(connection, pipeline, batches)

    def reject_counts(self, pipeline: str) -> dict[str, int]:
        """Open rejects per model."""
        with self._database.read() as connection:
            return _rejects.count_open(connection, pipeline)

    def new_reject_counts(self, run_id: int) -> dict[tuple[str, RejectKind], int]:
        """Open rejects that this run opened, per model and kind."""
        with self._database.read() as connection:
            return _rejects.count_new(connection, run_id)

    def refused_in_batches(self, pipeline: str) -> dict[str, int]:
        """Open rejects per name of the batch whose rows they were."""
        with self._database.read() as connection:
            return _rejects.count_in_batches(connection, pipeline)

    def repaired_counts(self, run_id: int) -> dict[str, int]:
        """Refused rows per model that this run found good again, sent, or gone from the source."""
        with self._database.read() as connection:
            return _rejects.count_repaired(connection, run_id)

    def resolve(self, ids: Iterable[int]) -> int:
        """Close rejects whose key was delivered or left the source; returns how many were not closed so before."""
        with self._database.write() as connection:
            return _rejects.close(connection, ids, RejectState.RESOLVED, self._clock())

    def dismiss(self, ids: Iterable[int]) -> int:
        """Close open rejects by hand; returns how many. The same row met again stays dismissed."""
        with self._database.write() as connection:
            return _rejects.close(connection, ids, RejectState.DISMISSED, self._clock())

    def prune_rejects(self, pipeline: str, keep: timedelta) -> int:
        """Forget rejects that were resolved longer ago than `keep`; returns how many."""
        with self._database.write() as connection:
            return _rejects.prune(connection, pipeline, self._clock() - keep)

    # By hand

    @property
    def by_hand(self) -> ByHand:
        """What people do to the state: forget, rename, move, take out and put back."""
        return ByHand(self._database, self._clock)
