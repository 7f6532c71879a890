"""What people do to the state (`warehouse-sync state …`): each method is one transaction, like those of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select, update

from warehouse_sync.errors import UsageError
from warehouse_sync.state import pipelines as _pipelines
from warehouse_sync.state import transfer as _transfer
from warehouse_sync.state.database import Database
from warehouse_sync.state.rows import ResetReport
from warehouse_sync.state.tables import leases, models, pipelines, windows
from warehouse_sync.values import CursorValue


class ByHand:
    """The store in a person's hands; `Store.by_hand` gives it."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def reset_report(self, pipeline: str, model: str | None = None) -> ResetReport:
        """What `reset` would forget."""
        with self._database.read() as connection:
            return _pipelines.reset_report(connection, pipeline, model)

    def reset(self, pipeline: str, model: str | None = None) -> ResetReport:
        """Forget one model, or the whole pipeline with its jobs and destination; says what it forgot.

        Runs stay as history, and so do the counters behind file names and `delivery_seq`.
        """
        with self._database.write() as connection:
            report = _pipelines.reset_report(connection, pipeline, model)
            _pipelines.reset(connection, pipeline, model, self._clock())
            return report

    def set_cursor(self, pipeline: str, model: str, cursor: CursorValue) -> None:
        """Let the next window of a model begin here; what was sent stays known. LookupError for an unknown model."""
        with self._database.write() as connection:
            owner = _pipelines.pipeline_id(connection, pipeline)
            mine = update(models).where(models.c.pipeline_id == owner, models.c.name == model)
            there = {"cursor": cursor.text, "cursor_kind": cursor.kind, "cursor_fingerprint": None}
            if connection.execute(mine.values(there)).rowcount != 1:
                raise LookupError(f"model {model} is unknown")

    def rename_model(self, pipeline: str, old: str, new: str) -> None:
        """Give the state of a model to another name. Raises UsageError when that one has a state of its own.

        A name of which no window was ever kept, because its first one failed, has none.
        """
        with self._database.write() as connection:
            owner = _pipelines.pipeline_id(connection, pipeline)
            of_pipeline = models.c.pipeline_id == owner
            read = exists().where(windows.c.model_id == models.c.id)
            connection.execute(delete(models).where(of_pipeline, models.c.name == new, ~read))
            if connection.scalar(select(models.c.id).where(of_pipeline, models.c.name == new)) is not None:
                raise UsageError(f"the state store knows a model `{new}` already")
            renamed = update(models).where(of_pipeline, models.c.name == old).values(name=new)
            if connection.execute(renamed).rowcount != 1:
                raise UsageError(f"the state store knows no model `{old}`")

    def is_replaceable(self, pipeline: str) -> bool:
        """True for a pipeline that has read and sent nothing since its start, or since it was reset."""
        with self._database.read() as connection:
            return _pipelines.is_replaceable(connection, pipeline)

    def rename_pipeline(self, old: str, new: str) -> None:
        """Give the state of a pipeline to another name. Raises UsageError when that one has a state of its own."""
        with self._database.write() as connection:
            if not _pipelines.list_pipelines(connection, old):
                raise UsageError(f"the state store knows no pipeline `{old}`")
            if _pipelines.list_pipelines(connection, new):
                if not _pipelines.is_replaceable(connection, new):
                    raise UsageError(f"the state store knows a pipeline `{new}` already")
                _pipelines.replace(connection, new, old, self._clock())
            connection.execute(update(pipelines).where(pipelines.c.name == old).values(name=new))

    def unlock(self, pipeline: str) -> bool:
        """Remove the lease row of a pipeline, whoever holds it; False when there is none."""
        with self._database.write() as connection:
            return connection.execute(delete(leases).where(leases.c.key == pipeline)).rowcount == 1

    def take_out(self, pipeline: str) -> dict[str, list[dict[str, Any]]]:
        """Everything that the store holds of a pipeline: table -> rows as JSON values."""
        with self._database.read() as connection:
            return _transfer.take_out(connection, pipeline)

    def put_back(self, pipeline: str, tables: Mapping[str, Sequence[Mapping[str, Any]]], home_id: str) -> None:
        """Replace what the store holds of a pipeline by what `take_out` gave, here or in another store.

        `transfer.check` has to find them good. Runs stay, those that are missing are added; counters never go back.
        """
        with self._database.write() as connection:
            _transfer.put_back(connection, pipeline, tables, home_id, self._clock())


__all__ = ["ByHand"]
