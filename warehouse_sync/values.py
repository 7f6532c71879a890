"""The values that every stage shares: frozen, without behaviour beyond reading themselves.

Nothing here imports a driver, an engine or another room of the house.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal


class EventType(StrEnum):
    """The four kinds of row that the Import API takes (page "Event Schema")."""

    IDENTIFY_COMPANY = "identify_company"
    IDENTIFY_USER = "identify_user"
    PAGE_VIEW = "page_view"
    TRACK = "track"

    @property
    def is_identify(self) -> bool:
        """True for profiles (compared with a snapshot), false for events (append-only)."""
        return self in (EventType.IDENTIFY_COMPANY, EventType.IDENTIFY_USER)

    @property
    def send_order(self) -> int:
        """Companies and users go before the events that mention them."""
        return list(EventType).index(self)


class CursorKind(StrEnum):
    """What a cursor column holds; decides how its value is written back into SQL."""

    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    DATE = "date"
    INTEGER = "integer"
    STRING = "string"

    @property
    def is_time(self) -> bool:
        """True when `now` means something for this cursor, so that rows can lie in the future."""
        return self in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ, CursorKind.DATE)


@dataclass(frozen=True)
class CursorValue:
    """One cursor value, as text in full precision (timestamptz in UTC), with its kind."""

    kind: CursorKind
    text: str


Lag = timedelta | int
NullCursor = Literal["reject", "skip", "include"]


@dataclass(frozen=True)
class Model:
    """One model file: its header, checked, and its SQL, not yet rendered.

    Column names in `unique_key`, `cursor`, `exclude_columns` and `ignore_changes` are the warehouse's;
    `rename` maps them to final names (design: "The model file").
    """

    name: str
    path: Path
    sql: str
    event: EventType
    unique_key: tuple[str, ...] = ()
    cursor: str | None = None
    lag: Lag | None = None
    begin: str | None = None
    slice: Lag | None = None
    null_cursor: NullCursor = "reject"
    always: bool = False
    full_refresh: bool = True
    nulls: Literal["send", "omit"] = "send"
    nested: Literal["json", "flatten", "error"] = "json"
    context: bool = False
    source: str = "backend-http-import"
    rename: dict[str, str] = field(default_factory=dict)
    exclude_columns: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    on_removed: Literal["ignore", "report"] = "ignore"
    dropped: tuple[str, ...] = ()
    partial: bool = False
    enabled: bool = True
    tags: tuple[str, ...] = ()
    description: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def compares(self) -> bool:
        """True when rows are compared by key with a snapshot."""
        return bool(self.unique_key) and not self.always


@dataclass(frozen=True)
class Property:
    """One property that a model sends: its final name, its column and its Userpilot type."""

    name: str
    column: str
    type: Literal["String", "Numeric", "Date", "Boolean"]


@dataclass(frozen=True)
class RowSql:
    """What becomes of one source row, as DuckDB SQL expressions over the source's columns.

    `key`: VARCHAR or NULL; `key_hash`, `row_hash`: BLOB of 16 bytes (NULL key hash without a key);
    `cursor`: the cursor column as the warehouse types it, or NULL; `inserted_at`: TIMESTAMP in UTC, NULL when the row
    carries none; `reasons`: BIGINT, one bit per `Reason`, 0 for a good row; `notes`: BIGINT, one bit per `Note`;
    `line(inserted_at)`: VARCHAR, the NDJSON line with its newline, with that TIMESTAMP expression as `inserted_at`;
    `older`: the row hash as older versions of the encoder made it; `shared`: expressions that stand in several of
    these, also inside conditions, where DuckDB does not share them; `identity`: the texts that with its time are the
    identity of an event at Userpilot, () for identify rows.
    """

    key: str
    key_hash: str
    row_hash: str
    cursor: str
    inserted_at: str
    reasons: str
    notes: str
    line: Callable[[str], str]
    older: Mapping[int, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()


class Verdict(Enum):
    """What a run decides about one row that it read. Every row gets exactly one."""

    ADDED = 0
    CHANGED = 1
    UNCHANGED = 2
    DUPLICATE = 3
    SUPPRESSED = 4
    INVALID = 5
    FUTURE = 6


class ModelStatus(StrEnum):
    """How a model ended in a run (`run_results.json`)."""

    SUCCESS = "success"
    PARTIAL = "partial"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Counts:
    """Rows of one model in one run.

    read = added + changed + unchanged + duplicate + suppressed + invalid + future
    added + changed = delivered + rejected + waiting
    """

    read: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicate: int = 0
    suppressed: int = 0
    invalid: int = 0
    future: int = 0
    delivered: int = 0
    rejected: int = 0
    waiting: int = 0
    removed: int = 0
    retimed: int = 0
    repaired: int = 0
    batches: int = 0
    jobs: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def as_dict(self) -> dict[str, int]:
        """The counts by name, in the order of the two sums."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def utc_now() -> datetime:
    """The clock of this program: aware, UTC, microseconds."""
    return datetime.now(UTC)


def as_utc(moment: datetime) -> datetime:
    """A moment that a warehouse tells: aware, UTC; one without a zone is in UTC already."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def iso_utc(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffff`, UTC without a suffix: the form of every example in the API's pages."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


__all__ = [
    "Counts", "CursorKind", "CursorValue", "EventType", "Lag", "Model", "ModelStatus", "NullCursor", "Property",
    "RowSql", "Verdict", "as_utc", "iso_utc", "utc_now",
]  # fmt: skip
