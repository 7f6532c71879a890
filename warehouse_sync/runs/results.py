"""How a run ended, by model: what its windows came to, and why what is not done is not done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from warehouse_sync.context import RunContext
from warehouse_sync.delivery.outcome import DeliveryProgress
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.extraction.extract import Extraction
from warehouse_sync.observe.words import counted
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.state.lifecycle import UNSETTLED_BATCHES, BatchState, RejectKind, WindowState
from warehouse_sync.state.rows import Window
from warehouse_sync.values import Counts, ModelStatus


@dataclass(frozen=True)
class ModelResult:
    """How one model ended. `seconds` is the time spent on its extraction."""

    model: str
    status: ModelStatus
    message: str
    counts: Counts = field(default_factory=Counts)
    new_rejects: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    error: WarehouseSyncError | None = None

    def row(self, pipeline: str) -> dict[str, Any]:
        """One entry of `results` in run_results.json."""
        return {
            "unique_id": f"sync.{pipeline}.{self.model}",
            "status": str(self.status),
            "execution_time": round(self.seconds, 3),
            "message": self.message,
            **self.counts.as_dict(),
        }


@dataclass(frozen=True)
class RunReport:
    """How a run ended: a result for every selected model, and what ended it early, if anything did."""

    run_id: int
    results: tuple[ModelResult, ...]
    seconds: float
    stopped: WarehouseSyncError | None = None

    @property
    def exit_code(self) -> int:
        """0 when every model is a success, otherwise 1; what could not start has no report."""
        good = all(result.status is ModelStatus.SUCCESS for result in self.results)
        return 0 if good and self.stopped is None else 1


@dataclass
class Journal:
    """What a run notes of its models on the way, by name.

    `touched`: ids of the windows that it extracted or found open; `extracted`: what the last extraction told; `errors`:
    why a model stopped; `held_back`: why it has to wait for dbt; `seconds`: the time spent on its extraction.
    """

    touched: dict[str, set[int]] = field(default_factory=dict)
    extracted: dict[str, Extraction] = field(default_factory=dict)
    errors: dict[str, WarehouseSyncError] = field(default_factory=dict)
    held_back: Mapping[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def results_of(
    context: RunContext,
    names: Sequence[str],
    journal: Journal,
    done: DeliveryProgress,
    error_above: Allowance,
    stopped: WarehouseSyncError | None,
) -> tuple[ModelResult, ...]:
    """A result for each of these models, as the state store has them now; `stopped`: what ended the run early."""
    results = _Results(context, journal, done, error_above, stopped)
    return tuple(results.of(name) for name in names)


def refusing(context: RunContext, journal: Journal, done: DeliveryProgress, error_above: Allowance) -> set[str]:
    """The models of which this run refused more rows than are allowed, as things are."""
    results = _Results(context, journal, done, error_above, None)
    return {name for name in journal.touched if results.refuses(name)}


class _Results:
    def __init__(
        self,
        context: RunContext,
        journal: Journal,
        done: DeliveryProgress,
        error_above: Allowance,
        stopped: WarehouseSyncError | None,
    ) -> None:
        self._context, self._journal, self._done = context, journal, done
        self._error_above, self._stopped = error_above, stopped
        store = context.store
        self._new = store.new_reject_counts(context.run_id)
        self._repaired = store.repaired_counts(context.run_id)
        # A completed job can refuse single rows: they are in a delivered batch, and rejects.
        self._refused = store.refused_in_batches(context.pipeline)

    def of(self, name: str) -> ModelResult:
        journal, done, stopped = self._journal, self._done, self._stopped
        windows = self._windows(name)
        counts, new = self._counts(name, windows), self._new_rejects(name, windows)
        extraction = journal.extracted.get(name)
        error = journal.errors.get(name) or done.trouble.get(name) or done.held.get(name)
        status, message = ModelStatus.SUCCESS, "nothing to send"
        if error is not None:
            status, message = ModelStatus.ERROR, error.message
        elif name in journal.held_back:
            status, message = ModelStatus.SKIPPED, journal.held_back[name]
        elif extraction is None and name not in journal.touched:
            status, message = ModelStatus.SKIPPED, "not tried" + (f": {stopped.message}" if stopped else "")
        elif counts.waiting:
            status, message = ModelStatus.ERROR, f"{counted(counts.waiting, 'row waits')} to be delivered"
            message += f": {stopped.message}" if stopped else ""
            error = stopped
        elif self._error_above.exceeded(new, counts.read):
            status, message = ModelStatus.PARTIAL, f"{counted(new, 'row')} refused"
        elif counts.delivered:
            message = f"{counted(counts.delivered, 'row')} delivered"
        return ModelResult(
            model=name,
            status=status,
            message=message,
            counts=counts,
            new_rejects=new,
            seconds=journal.seconds.get(name, 0.0),
            warnings=extraction.warnings if extraction else (),
            notes={note.code: n for note, n in extraction.notes.items()} if extraction else {},
            error=error,
        )

    def refuses(self, name: str) -> bool:
        """True when more rows of it were refused than are allowed."""
        windows = self._windows(name)
        return self._error_above.exceeded(self._new_rejects(name, windows), self._counts(name, windows).read)

    def _windows(self, name: str) -> list[Window]:
        """The windows that this run extracted or found open, but for those that were given up."""
        windows = map(self._context.store.window, self._journal.touched.get(name, ()))
        return [window for window in windows if window is not None and window.state is not WindowState.SUPERSEDED]

    def _new_rejects(self, name: str, windows: Sequence[Window]) -> int:
        """The rows that were refused in this run. Equal rows without a key share one reject: those that were refused
        before sending are counted where they were read."""
        read = sum(window.counts.invalid for window in windows if window.run_id == self._context.run_id)
        rejected, invalid = (self._new.get((name, kind), 0) for kind in (RejectKind.REJECTED, RejectKind.INVALID))
        return rejected + max(invalid, read)

    def _counts(self, name: str, windows: Sequence[Window]) -> Counts:
        """The counts of these windows, as they stand now."""
        total = Counts()
        for window in windows:
            batches = self._context.store.batches(self._context.pipeline, window_id=window.id)
            waiting = sum(batch.rows for batch in batches if batch.state in UNSETTLED_BATCHES)
            arrived = [batch for batch in batches if batch.state is BatchState.DELIVERED]
            delivered = sum(batch.rows - self._refused.get(batch.name, 0) for batch in arrived)
            total += replace(
                window.counts,
                delivered=delivered,
                waiting=waiting,
                rejected=window.counts.added + window.counts.changed - delivered - waiting,
                batches=len(batches),
            )
        return replace(total, jobs=self._done.jobs.get(name, 0), repaired=self._repaired.get(name, 0))


__all__ = ["Journal", "ModelResult", "RunReport", "refusing", "results_of"]
