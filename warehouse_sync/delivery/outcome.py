"""What came of a delivery, and what a person knows of one that nobody else can know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.userpilot.job import RemoteJob
from warehouse_sync.userpilot.reasons import parse_reason


@dataclass
class DeliveryProgress:
    """What this run delivered, and why a model's rows still wait: `trouble` of this run, `held` for a person."""

    jobs: dict[str, int] = field(default_factory=dict)
    trouble: dict[str, WarehouseSyncError] = field(default_factory=dict)
    held: dict[str, WarehouseSyncError] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Decision:
    """What a person knows of jobs that are held: their rows `arrived`, or go again. For these models only."""

    jobs: frozenset[int]
    models: frozenset[str]
    arrived: bool


ANSWERED = (
    "status", "file_name", "file_size", "total_rows", "completed_rows", "start_time", "end_time", "elapsed_time"
)  # fmt: skip


def answer_of(remote: RemoteJob) -> dict[str, Any]:
    """The API's last word about a job, without the rows that its reasons, or a key that nobody knows, may print."""
    kept: dict[str, Any] = {name: value for name in ANSWERED if (value := getattr(remote, name)) not in (None, "")}
    if remote.reasons:
        kept["reasons"] = [parse_reason(text).message for text in remote.reasons[:20]]
    return kept


__all__ = ["Decision", "DeliveryProgress", "answer_of"]
