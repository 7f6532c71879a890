"""The values that the state store takes and gives: frozen, times aware and UTC, one `from_row` each.

`from_row` reads the rows of the SELECTs in this package; nothing here imports SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from warehouse_sync.state.lifecycle import BatchState, JobState, RejectKind, RejectState, WindowState
from warehouse_sync.values import Counts, CursorKind, CursorValue, EventType

if TYPE_CHECKING:
    from sqlalchemy import Row

WindowKind = Literal["incremental", "full", "limit", "backfill", "recall"]
# The other kinds read a part on request: their end says nothing about how far the model has been read.
CURSOR_MOVING: tuple[WindowKind, ...] = ("incremental", "full")


def _cursor(kind: CursorKind | None, text: str | None) -> CursorValue | None:
    return None if kind is None or text is None else CursorValue(kind, text)


def _counts(stored: dict[str, int] | None) -> Counts:
    known = {name: value for name, value in (stored or {}).items() if name in Counts.__dataclass_fields__}
    return Counts(**known)


@dataclass(frozen=True)
class Pipeline:
    """One YAML file's share of the store; `home_id` is the id kept in its folder on disk."""

    name: str
    home_id: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Pipeline:
        """Read a row of `pipelines`."""
        return cls(row.name, row.home_id, row.created_at)


@dataclass(frozen=True)
class Destination:
    """Where a pipeline's rows go: endpoint origin and account, or the key's fingerprint while no account is known."""

    id: int
    pipeline: str
    origin: str
    account: str | None
    key_fingerprint: str
    claimed_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Destination:
        """Read a row of `destinations` with its pipeline's name."""
        return cls(row.id, row.pipeline, row.origin, row.account, row.key_fingerprint, row.claimed_at)


@dataclass(frozen=True)
class Run:
    """One run of a verb. One whose process died stays unfinished for ever."""

    id: int
    pipeline: str
    verb: str
    args: dict[str, Any]
    version: str
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    results: tuple[dict[str, Any], ...]

    @property
    def finished(self) -> bool:
        """False while it runs, and when its process died."""
        return self.ended_at is not None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Run:
        """Read a row of `runs` with its pipeline's name."""
        return cls(
            row.id, row.pipeline, row.verb, row.args, row.version, row.started_at, row.ended_at, row.exit_code,
            tuple(row.results or ()),
        )  # fmt: skip


@dataclass(frozen=True)
class ModelState:
    """What is known about a model of which something was delivered or a window settled.

    `cursor_column` and `cursor` are None until a window moved the cursor; `cursor_fingerprint` is what the model was
    then, None when a person moved it. `merged_seq` is the `delivery_seq` of the
    last batch merged into the snapshot, 0 for none. `properties`: final name -> Userpilot type.
    """

    model: str
    event: EventType
    unique_key: tuple[str, ...]
    cursor_column: str | None
    cursor: CursorValue | None
    properties: dict[str, str]
    settled_window_id: int | None
    settled_at: datetime | None
    merged_seq: int
    cursor_fingerprint: str | None = None

    @classmethod
    def from_row(cls, row: Row[Any]) -> ModelState:
        """Read a row of `models`."""
        return cls(
            row.name, row.event, tuple(row.unique_key or ()), row.cursor_column, _cursor(row.cursor_kind, row.cursor),
            dict(row.properties or {}), row.settled_window_id, row.settled_at, row.merged_seq,
            row.cursor_fingerprint,
        )  # fmt: skip


@dataclass(frozen=True)
class NewWindow:
    """A window about to be extracted. `cursor_from` is the cursor before `lag`, None for a first or full read.

    `asked` tells what it is read for, see `Request.mark`; `read_from`: the least cursor that it reads, see `Window`.
    """

    run_id: int
    pipeline: str
    model: str
    event: EventType
    kind: WindowKind
    cursor_column: str | None
    cursor_from: CursorValue | None
    started_at: datetime
    fingerprint: str
    unique_key: tuple[str, ...] = ()
    asked: str | None = None
    read_from: CursorValue | None = None


@dataclass(frozen=True)
class Window:
    """One extraction of one model. `counts` are those of its seal, zeros before; `gone`: delivered keys of the model
    that were not in its source then, reported or not, as far as anybody knew; `read_from`: the least cursor that it
    read, `lag` and `begin` counted in, None from the beginning on."""

    id: int
    run_id: int
    pipeline: str
    model: str
    event: EventType
    kind: WindowKind
    state: WindowState
    cursor_column: str | None
    cursor_from: CursorValue | None
    cursor_to: CursorValue | None
    unique_key: tuple[str, ...]
    fingerprint: str
    started_at: datetime
    sealed_at: datetime | None
    ended_at: datetime | None
    counts: Counts
    properties: dict[str, str]
    asked: str | None
    gone: int = 0
    read_from: CursorValue | None = None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Window:
        """Read a row of `windows` with the names of its model and pipeline."""
        return cls(
            row.id, row.run_id, row.pipeline, row.model, row.event, row.kind, row.state, row.cursor_column,
            _cursor(row.cursor_kind, row.cursor_from), _cursor(row.cursor_kind, row.cursor_to), tuple(row.unique_key),
            row.fingerprint, row.started_at, row.sealed_at, row.ended_at, _counts(row.counts),
            dict(row.properties or {}), row.asked, (row.counts or {}).get("gone", 0),
            _cursor(row.cursor_kind, row.read_from),
        )  # fmt: skip


@dataclass(frozen=True)
class NewBatch:
    """A file that was written, synced and renamed in; `parent_id`: the batch whose rows it takes over."""

    name: str
    rows: int
    bytes: int
    sha256: str
    parent_id: int | None = None


@dataclass(frozen=True)
class Batch:
    """One sealed file of rows of one window.

    `number` counts from 1 within the window. `job_id` is the job that has it now or delivered it, None while sealed.
    `split` is True when its children and rejects took over all its rows. `delivery_seq` orders deliveries within the
    pipeline, and so the merges into the snapshot.
    """

    id: int
    window_id: int
    model: str
    event: EventType
    number: int
    name: str
    rows: int
    bytes: int
    sha256: str
    state: BatchState
    job_id: int | None
    parent_id: int | None
    split: bool
    delivery_seq: int | None
    settled_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Batch:
        """Read a row of `batches` with its window's event and its model's name."""
        return cls(
            row.id, row.window_id, row.model, row.event, row.number, row.name, row.rows, row.bytes, row.sha256,
            row.state, row.job_id, row.parent_id, row.split, row.delivery_seq, row.settled_at,
        )  # fmt: skip


@dataclass(frozen=True)
class Sealed:
    """What sealing a window did: how many of its rejects are new, and whether it settled at once."""

    new_rejects: int
    settled: bool


@dataclass(frozen=True)
class Job:
    """One attempt to import some batches. `links` is the path the API gave; `answer` its last word, redacted."""

    id: int
    pipeline: str
    run_id: int
    destination_id: int
    number: int
    filename: str
    sha256: str
    rows: int
    bytes: int
    state: JobState
    remote_id: str | None
    links: str | None
    remote_status: str | None
    request_id: str | None
    total_rows: int | None
    reason: str | None
    answer: dict[str, Any]
    intended_at: datetime
    accepted_at: datetime | None
    observed_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Job:
        """Read a row of `jobs` with its pipeline's name."""
        return cls(
            row.id, row.pipeline, row.run_id, row.destination_id, row.number, row.filename, row.sha256, row.rows,
            row.bytes, row.state, row.remote_id, row.links, row.remote_status, row.request_id, row.total_rows,
            row.reason, dict(row.answer or {}), row.intended_at, row.accepted_at, row.observed_at, row.ended_at,
        )  # fmt: skip


@dataclass(frozen=True)
class NewJob:
    """An upload that is about to be tried: sealed batches in the order of its file, and that file's content."""

    run_id: int
    pipeline: str
    destination_id: int
    batch_ids: Sequence[int]
    sha256: str
    rows: int
    bytes: int


class NewReject(NamedTuple):
    """A row that was refused: there may be very many. Hashes have 16 bytes; `key` and `key_hash` are None for a row
    without a key."""

    key: str | None
    key_hash: bytes | None
    row_hash: bytes
    kind: RejectKind
    reasons: tuple[str, ...]
    batch_name: str = ""


@dataclass(frozen=True)
class Reject:
    """A refused row as the store remembers it, with the runs that met it first and last."""

    id: int
    model: str
    window_id: int
    batch_name: str
    key: str | None
    key_hash: bytes | None
    row_hash: bytes
    kind: RejectKind
    reasons: tuple[str, ...]
    state: RejectState
    first_run: int
    last_run: int
    opened_at: datetime
    closed_at: datetime | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Reject:
        """Read a row of `rejects` with its model's name."""
        return cls(
            row.id, row.model, row.window_id, row.batch_name, row.key, row.key_hash or None, row.row_hash, row.kind,
            tuple(row.reasons), row.state, row.first_run, row.last_run, row.opened_at, row.closed_at,
        )  # fmt: skip


class Standing(NamedTuple):
    """Of a refused row that is not sent again as it is, what telling it apart takes: there may be very many."""

    id: int
    window_id: int
    key_hash: bytes | None
    row_hash: bytes
    kind: RejectKind
    state: RejectState


@dataclass(frozen=True)
class ResetReport:
    """What a reset forgets. `in_flight` jobs are with the API or may be: their rows may still arrive."""

    models: tuple[str, ...]
    windows: int
    batches: int
    undelivered: int
    rejects: int
    jobs: int
    in_flight: int


@dataclass(frozen=True)
class JobHistory:
    """A job and the batches it covered, in the order of its file."""

    job: Job
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class RunHistory:
    """A run and the jobs it started."""

    run: Run
    jobs: tuple[JobHistory, ...]


__all__ = [
    "CURSOR_MOVING", "Batch", "Destination", "Job", "JobHistory", "ModelState", "NewBatch", "NewReject", "NewWindow",
    "Pipeline", "Reject", "ResetReport", "Run", "RunHistory", "Sealed", "Standing", "Window", "WindowKind",
]  # fmt: skip
