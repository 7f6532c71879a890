"""The life cycles that make the promise of delivery true, and their legal moves (design: "Life cycles").

A move that is not in these tables is refused with `IllegalMove`; the tables are checked by the UPDATE that makes the
move, so that a process which acts on an old picture changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class WindowState(StrEnum):
    """One extraction of one model."""

    EXTRACTING = "extracting"
    """Its rows are being read; found like this after a crash, it is dropped and read again."""
    READY = "ready"
    """All its batches are sealed; they are being delivered."""
    SETTLED = "settled"
    """Every row of it is delivered or an open reject; the cursor has moved."""
    SUPERSEDED = "superseded"
    """Rows of it were given up to be read again; the cursor has not moved."""


class BatchState(StrEnum):
    """One sealed file of rows."""

    SEALED = "sealed"
    """Its file is written; no job has it."""
    SENT = "sent"
    """A job that covers it is on its way or running."""
    DELIVERED = "delivered"
    """The job that covered it completed."""
    HELD = "held"
    """Whether its rows arrived is unknown and nothing can tell; a person decides (`retry --resend | --settle`)."""
    SUPERSEDED = "superseded"
    """Replaced by its children and rejects, or given up to be read again."""


class JobState(StrEnum):
    """One attempt to import some batches."""

    INTENT = "intent"
    """Recorded before the upload; it may or may not have arrived."""
    ACCEPTED = "accepted"
    """The API gave it an id."""
    COMPLETED = "completed"
    """The API imported it."""
    FAILED = "failed"
    """The API refused it, or gave up on it."""
    HELD = "held"
    """Nothing can tell any more what became of it."""
    LOST = "lost"
    """It never arrived."""


class RejectState(StrEnum):
    """One row that was refused."""

    OPEN = "open"
    """The row is still missing at the destination, and is not sent again as it is."""
    RESOLVED = "resolved"
    """Its key was delivered since, or left the source."""
    DISMISSED = "dismissed"
    """A person knows about it; it is neither reported nor sent again as it is."""


class RejectKind(StrEnum):
    """Who refused a row."""

    INVALID = "invalid"
    """We did, before sending."""
    REJECTED = "rejected"
    """The Import API did."""


WINDOW_MOVES: Mapping[WindowState, frozenset[WindowState]] = {
    WindowState.EXTRACTING: frozenset({WindowState.READY}),
    WindowState.READY: frozenset({WindowState.SETTLED, WindowState.SUPERSEDED}),
    WindowState.SETTLED: frozenset(),
    WindowState.SUPERSEDED: frozenset(),
}
BATCH_MOVES: Mapping[BatchState, frozenset[BatchState]] = {
    BatchState.SEALED: frozenset({BatchState.SENT, BatchState.SUPERSEDED}),
    BatchState.SENT: frozenset({BatchState.DELIVERED, BatchState.HELD, BatchState.SUPERSEDED, BatchState.SEALED}),
    BatchState.DELIVERED: frozenset(),
    BatchState.HELD: frozenset({BatchState.SEALED, BatchState.DELIVERED, BatchState.SUPERSEDED}),
    BatchState.SUPERSEDED: frozenset(),
}
JOB_MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.INTENT: frozenset({JobState.ACCEPTED, JobState.LOST, JobState.FAILED, JobState.HELD}),
    JobState.ACCEPTED: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.HELD}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.HELD: frozenset({JobState.COMPLETED, JobState.FAILED}),
    JobState.LOST: frozenset(),
}
REJECT_MOVES: Mapping[RejectState, frozenset[RejectState]] = {
    RejectState.OPEN: frozenset({RejectState.RESOLVED, RejectState.DISMISSED}),
    RejectState.RESOLVED: frozenset(),
    RejectState.DISMISSED: frozenset({RejectState.RESOLVED}),
}

# A window that is still being read is the only thing in the store that may vanish without a trace.
DROPPABLE = frozenset({WindowState.EXTRACTING})
# A window ends when none of its batches is in one of these.
UNSETTLED_BATCHES = frozenset({BatchState.SEALED, BatchState.SENT, BatchState.HELD})
# The API takes one job at a time; in these states a job may be the one it is working on.
IN_FLIGHT = frozenset({JobState.INTENT, JobState.ACCEPTED})

StateT = TypeVar("StateT", WindowState, BatchState, JobState, RejectState)


class IllegalMove(RuntimeError):
    """A state change that the life cycles forbid: a fault of this program, or two runners at work; nothing changed."""


def sources(moves: Mapping[StateT, frozenset[StateT]], target: StateT) -> frozenset[StateT]:
    """The states from which `target` may be reached in one move."""
    return frozenset(state for state, targets in moves.items() if target in targets)


__all__ = [
    "BATCH_MOVES", "DROPPABLE", "IN_FLIGHT", "JOB_MOVES", "REJECT_MOVES", "UNSETTLED_BATCHES", "WINDOW_MOVES",
    "BatchState", "IllegalMove", "JobState", "RejectKind", "RejectState", "StateT", "WindowState", "sources",
]  # fmt: skip
