"""What the stages say while they work. The command line decides how it looks."""

from __future__ import annotations

from typing import Any, Protocol


class Reporter(Protocol):
    """Hears of everything that happens. `code` is stable (documented for machines), `message` is for people."""

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Something happened. `level`: debug, info, warn or error. `data`: numbers and names, never rows or secrets."""
        ...

    def progress(self, task: str, done: int, total: int | None, unit: str) -> None:
        """A task moved on: `done` of `total` (None: unknown) in `unit` (rows, bytes, batches)."""
        ...


class Silent:
    """A reporter for tests and for verbs that print only data."""

    def event(self, code: str, message: str, *, level: str = "info", **data: Any) -> None:
        """Say nothing."""

    def progress(self, task: str, done: int, total: int | None, unit: str) -> None:
        """Show nothing."""
