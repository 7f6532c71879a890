"""What `retry` does again: models that did not succeed, refused rows that may be mended, held batches.

Nothing here writes. The plan is made of what the state store knows; `run` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from warehouse_sync.changes.window import order
from warehouse_sync.delivery.held import held_batches
from warehouse_sync.events.reasons import Reason
from warehouse_sync.extraction.prepare import Request
from warehouse_sync.extraction.recall import Recall
from warehouse_sync.observe.words import counted
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.state.rows import Job, Reject, Run, Window
from warehouse_sync.state.store import Store
from warehouse_sync.values import CursorValue, Model, ModelStatus

MOST_KEYS = 5_000
"""Refused rows of one model that are asked for by key; of more the range of their windows is read."""
RUNS_SEEN = 200
"""Runs that are looked through for the last `run` and the retries since."""
VERBS = ("run", "retry")

_OF_KEYS = {
    reason.code
    for reason in (
        Reason.USER_ID_MISSING,
        Reason.COMPANY_ID_MISSING,
        Reason.KEY_MISSING,
        Reason.INVALID_UTF8,
        Reason.NUL_CHARACTER,
    )
}
"""Reasons that may be about the key: once mended, the row has another one and cannot be found by this."""

FAILED = (ModelStatus.ERROR.value, ModelStatus.SKIPPED.value)


@dataclass(frozen=True)
class Held:
    """Batches of one job whose fate nobody knows: model -> rows; `events`: of those the ones that count twice."""

    job: Job
    rows: Mapping[str, int]
    events: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """`why`: model -> sentences; `requests`: what each of them is read for; `left`: what retry does not do, and why."""

    why: Mapping[str, tuple[str, ...]]
    requests: Mapping[str, tuple[Request, ...]]
    held: tuple[Held, ...] = ()
    left: tuple[str, ...] = ()
    repeats: Mapping[str, int] = field(default_factory=dict)
    """Models whose windows are read as a whole, and how many delivered rows go a second time."""


@dataclass(frozen=True)
class LastRun:
    """The last `run` with the retries since: how each model stands, and the run's own arguments.

    `failed`: model -> what was said of it; None: it was killed before it could say anything.
    """

    number: int
    failed: Mapping[str, str] | None
    args: Mapping[str, Any]


def last_run(store: Store, pipeline: str) -> LastRun | None:
    """The last `run`; None when there was none."""
    known: dict[str, tuple[str, str]] = {}
    for run in store.runs(pipeline, RUNS_SEEN):
        if run.verb not in VERBS:
            continue
        for model, ending in _endings(run).items():
            known.setdefault(model, ending)
        if run.verb == "run":
            failed = {model: message for model, (status, message) in known.items() if status in FAILED}
            return LastRun(run.id, failed if run.finished else None, run.args)
    return None


def _endings(run: Run) -> dict[str, tuple[str, str]]:
    """Model -> status and message."""
    head = f"sync.{run.pipeline}."
    return {
        str(row["unique_id"]).removeprefix(head): (str(row["status"]), str(row.get("message", "")))
        for row in run.results
    }


def make_plan(
    store: Store,
    pipeline: str,
    models: Sequence[Model | BrokenModel],
    last: LastRun | None,
    *,
    refused: bool = False,
    whole_windows: bool = False,
) -> Plan:
    """What there is to do again for these models.

    `refused`: rows that Userpilot refused go again as they are; `whole_windows`: of models without a key the whole
    window that met a refused row is read again, and every event in it sent.
    """
    why: dict[str, tuple[str, ...]] = {}
    requests: dict[str, tuple[Request, ...]] = {}
    left: list[str] = []
    repeats: dict[str, int] = {}
    again = _as_before(last)
    for model in models:
        reasons, wanted = [], []
        if last is not None and (last.failed is None or model.name in last.failed):
            told = "was cut short" if last.failed is None else f"ended: {last.failed[model.name]}"
            reasons.append(f"run {last.number} {told}")
            wanted.append(again)
        waiting = store.open_rejects(pipeline, model.name)
        if waiting and isinstance(model, Model):
            more = _Recalls(store, model, waiting, refused=refused)
            if not model.unique_key and model.cursor and not whole_windows:
                left.append(
                    f"{model.name}: {counted(len(waiting), 'refused row has')} no key to be found by;"
                    " `--whole-windows` reads their windows again, and sends every event in them a second time"
                )
            else:
                found, sentence = more.requests()
                # A model without a cursor is read as a whole anyway.
                wanted += [request for request in found if request.recall or not wanted]
                reasons.append(sentence)
                repeats |= more.repeats
        if wanted:
            why[model.name], requests[model.name] = tuple(reasons), tuple(wanted)
    return Plan(why, requests, held(store, pipeline, {model.name for model in models}), tuple(left), repeats)


def _as_before(last: LastRun | None) -> Request:
    """What the last run asked of its models."""
    args = {} if last is None else last.args
    return Request(bool(args.get("full_refresh")), args.get("limit"), args.get("from"), args.get("to"))


class _Recalls:
    """How the refused rows of one model are found again."""

    def __init__(self, store: Store, model: Model, waiting: Sequence[Reject], *, refused: bool) -> None:
        self._store = store
        self._model = model
        self._waiting = waiting
        self._refused = refused
        self.repeats: dict[str, int] = {}

    def requests(self) -> tuple[list[Request], str]:
        """The requests, and a sentence for people."""
        number = counted(len(self._waiting), "refused row")
        if self._model.cursor is None:
            return [self._asked() if self._refused else Request()], f"{number}: the model is read again"
        keys = [reject.key for reject in self._waiting if reject.key is not None and not _OF_KEYS & {*reject.reasons}]
        windows = self._windows()
        if self._model.unique_key and len(keys) == len(self._waiting) <= MOST_KEYS:
            return [self._asked(keys=tuple(dict.fromkeys(keys)))], f"{number}: read again by key"
        if self._model.unique_key:
            low = _least([window.cursor_from for window in windows])
            return [self._asked(low=low)], f"{number}: what is {_since(low)} is read again, and compared"
        self.repeats[self._model.name] = sum(window.counts.added + window.counts.changed for window in windows)
        asked = [self._asked(low=window.cursor_from, high=window.cursor_to) for window in windows]
        return asked, f"{number}: {counted(len(windows), 'window is')} read again as a whole"

    def _windows(self) -> list[Window]:
        """The windows that met the rows last."""
        found = [self._store.window(number) for number in sorted({reject.window_id for reject in self._waiting})]
        return [window for window in found if window is not None]

    def _asked(
        self, keys: tuple[str, ...] = (), low: CursorValue | None = None, high: CursorValue | None = None
    ) -> Request:
        ids = tuple(reject.id for reject in self._waiting)
        return Request(recall=Recall(ids, keys, low, high, self._refused))


def _least(values: Sequence[CursorValue | None]) -> CursorValue | None:
    """The smallest cursor value; None, the beginning, when one of them is."""
    known = [value for value in values if value is not None]
    return min(known, key=order) if known and len(known) == len(values) else None


def _since(low: CursorValue | None) -> str:
    return "there from the beginning on" if low is None else f"there from {low.text} on"


def held(store: Store, pipeline: str, models: set[str]) -> tuple[Held, ...]:
    """Jobs with held batches of these models."""
    found = []
    for job, whole in held_batches(store, pipeline):
        batches = [batch for batch in whole if batch.model in models]
        rows = {name: sum(b.rows for b in batches if b.model == name) for name in sorted({b.model for b in batches})}
        events = tuple(sorted({batch.model for batch in batches if not batch.event.is_identify}))
        if rows:
            found.append(Held(job, rows, events))
    return tuple(found)


__all__ = ["Held", "LastRun", "Plan", "held", "last_run", "make_plan"]
