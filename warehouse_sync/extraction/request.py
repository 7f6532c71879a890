"""What is asked of an extraction, and by which rules of the YAML it works."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from warehouse_sync.events.encode import PropertyLimits
from warehouse_sync.extraction.guard import Guard
from warehouse_sync.extraction.recall import Recall
from warehouse_sync.outbox import BatchLimits
from warehouse_sync.project.model import ModelSettings
from warehouse_sync.state.rows import WindowKind


@dataclass(frozen=True)
class Policy:
    """The YAML's rules for extraction: how models render, sizes of batches and lines, what stops a model."""

    settings: ModelSettings
    limits: BatchLimits
    max_line: int
    guard: Guard
    drift: str = "error"
    property_limits: PropertyLimits = field(default_factory=PropertyLimits)


@dataclass(frozen=True)
class Request:
    """What is asked of one extraction beyond the model itself: `-f`, `--limit` (rows), `--from` and `--to` (half open).

    `recall`: refused rows, once more. `half_sent`: of a model whose events only their lines tell apart, the
    fingerprints of windows that were sent, or a part of them, and are read again. `compared`: everything is read, as
    `-f` has it, and what is as it was sent stays.
    """

    full_refresh: bool = False
    limit: int | None = None
    start: str | None = None
    end: str | None = None
    recall: Recall | None = None
    half_sent: frozenset[str] = frozenset()
    compared: bool = False

    @property
    def is_backfill(self) -> bool:
        """True when a range of the cursor was asked for."""
        return self.start is not None or self.end is not None

    @property
    def kind(self) -> WindowKind:
        """A limited window, a backfill and a recall move no cursor; a full one starts the model over."""
        if self.recall is not None:
            return "recall"
        if self.limit is not None:
            return "limit"
        return "backfill" if self.is_backfill else "full" if self.full_refresh else "incremental"

    @property
    def mark(self) -> str:
        """What two requests for the same rows share, and others do not. No key can be read from it."""
        recall = self.recall and replace(self.recall, rejects=())
        asked = (self.kind, self.limit, self.start, self.end, recall)
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
