"""What `retry` does again: models that did not succeed, refused rows that may be mended, held batches.

Nothing here writes. The plan is made of what the state store knows; `run` carries it out. Only how many events that
sends a second time is asked of the warehouse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from warehouse_sync.changes.window import order
from warehouse_sync.delivery.held import held_batches
from warehouse_sync.errors import WarehouseSyncError
from warehouse_sync.events.reasons import Reason
from warehouse_sync.extraction.prepare import prepare
from warehouse_sync.extraction.recall import Recall
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.extraction.statement import one_row
from warehouse_sync.observe.words import counted
from warehouse_sync.parts import engine_of, warehouse_of
from warehouse_sync.project.config import Config
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.project.render import wrap
from warehouse_sync.state.rows import Job, Reject, Run, Window
from warehouse_sync.state.store import Store
from warehouse_sync.values import CursorValue, Model, ModelStatus, utc_now

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
    """Models whose windows are read as a whole, and the refused rows in those."""


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
    runs = store.runs(pipeline, RUNS_SEEN)
    for run in runs:
        if run.verb not in VERBS:
            continue
        for model, ending in _endings(run).items():
            known.setdefault(model, ending)
        if run.verb == "run":
            known |= _renamed(store, pipeline, runs, known)
            failed = {model: message for model, (status, message) in known.items() if status in FAILED}
            return LastRun(run.id, failed if run.finished else None, run.args)
    return None


def _endings(run: Run) -> dict[str, tuple[str, str]]:
    """Model -> status and message, by the names of then. The name of a pipeline has no dot."""
    return {
        str(row["unique_id"]).split(".", 2)[-1]: (str(row["status"]), str(row.get("message", "")))
        for row in run.results
    }


def _renamed(
    store: Store, pipeline: str, runs: Sequence[Run], known: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """How models ended that got another name since: their last window is that of a run which calls them otherwise."""
    windows, by_id = store.last_sent(pipeline), {run.id: run for run in runs}
    found: dict[str, tuple[str, str]] = {}
    for model, window in windows.items():
        if model in known or window.run_id not in by_id:
            continue
        then = _endings(by_id[window.run_id])
        before = [known[name] for name in then if model not in then and name in known and name not in windows]
        if before:
            # Of several that were renamed at once nobody can tell which is which: they are read again if one failed.
            found[model] = min(before, key=lambda ending: ending[0] not in FAILED)
    return found


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
            more = _Recalls(store, pipeline, model, waiting, refused=refused)
            if not model.unique_key and model.cursor and not whole_windows:
                left.append(
                    f"{model.name}: {counted(len(waiting), 'refused row has')} no key to be found by;"
                    " `--whole-windows` reads their windows again, and sends every event in them a second time"
                )
            else:
                found, sentence = more.requests()
                # A model without a cursor is read as a whole anyway.
                wanted += [request for request in found if request.recall or not wanted]
                reasons += [sentence] if found else []
                repeats |= more.repeats
                left += more.left
        if wanted:
            why[model.name], requests[model.name] = tuple(reasons), tuple(wanted)
    return Plan(why, requests, held(store, pipeline, {model.name for model in models}), tuple(left), repeats)


def _as_before(last: LastRun | None) -> Request:
    """What the last run asked of its models."""
    args = {} if last is None else last.args
    return Request(bool(args.get("full_refresh")), args.get("limit"), args.get("from"), args.get("to"))


class _Recalls:
    """How the refused rows of one model are found again; `left`: what of them is not looked for, and why."""

    def __init__(self, store: Store, pipeline: str, model: Model, waiting: Sequence[Reject], *, refused: bool) -> None:
        self._store = store
        self._pipeline = pipeline
        self._model = model
        self._waiting = waiting
        self._refused = refused
        self.repeats: dict[str, int] = {}
        self.left: list[str] = []

    def requests(self) -> tuple[list[Request], str]:
        """The requests, and a sentence for people."""
        number = counted(len(self._waiting), "refused row")
        if self._model.cursor is None:
            asked = Request(recall=self._about(())) if self._refused else Request()
            return [asked], f"{number}: the model is read again"
        windows = self._windows()
        if not self._model.unique_key:
            return self._whole(windows)
        whole = self._about(windows)
        keys = [reject.key for reject in self._waiting if reject.key is not None and not _OF_KEYS & {*reject.reasons}]
        if len(keys) == len(self._waiting) <= MOST_KEYS:
            by_key = replace(whole, keys=tuple(dict.fromkeys(keys)))
            return [Request(recall=by_key)], f"{number}: read again by key"
        return [Request(recall=whole)], f"{number}: what is {_since(whole.low)} is read again, and compared"

    def _whole(self, windows: Sequence[Window]) -> tuple[list[Request], str]:
        """Their windows as a whole, but for those that end ahead of the cursor: a run reads them again anyway."""
        known = self._store.model_state(self._pipeline, self._model.name)
        passed = [window for window in windows if _is_passed(window, known.cursor if known else None)]
        asked = [
            replace(self._about(group, {window.id for window in group}), high=max(map(_end, group), key=order))
            for group in _joined(passed)
        ]
        found = sum(len(recall.rejects) for recall in asked)
        if later := len(self._waiting) - found:
            self.left.append(f"{self._model.name}: {counted(later, 'refused row is')} read again by the next run")
        if asked:
            self.repeats[self._model.name] = found
        said = f"{counted(found, 'refused row')}: {counted(len(passed), 'window is')} read again as a whole"
        return [Request(recall=recall) for recall in asked], said

    def _windows(self) -> list[Window]:
        """The windows that met the rows last."""
        found = [self._store.window(number) for number in sorted({reject.window_id for reject in self._waiting})]
        return [window for window in found if window is not None]

    def _about(self, windows: Sequence[Window], ids: Collection[int] | None = None) -> Recall:
        """What these windows read and all that came since; of the rejects of windows with these `ids`, None: of all."""
        about = tuple(reject.id for reject in self._waiting if ids is None or reject.window_id in ids)
        lows = [window.read_from for window in windows]
        low = min((low for low in lows if low is not None), key=order, default=None) if all(lows) else None
        # Windows that were asked for by their range may have begun before `begin`.
        ranged = any(window.read_from is None and window.kind in ("backfill", "recall") for window in windows)
        return Recall(about, low=low, refused=self._refused, before_begin=ranged)


def _end(window: Window) -> CursorValue:
    """The greatest cursor that the window read; rows without one are read in every window."""
    found = window.cursor_to or window.read_from
    if found is None:
        raise ValueError(f"window {window.id} read no cursor")
    return found


def _is_passed(window: Window, cursor: CursorValue | None) -> bool:
    """True when the model's cursor stands at the end of that window or behind it."""
    if cursor is None or (window.cursor_to or window.read_from) is None:
        return False
    return order(_end(window)) <= order(cursor)


def _joined(windows: Sequence[Window]) -> list[list[Window]]:
    """The windows, those together that overlap: so that no row goes again for each of them."""
    found: list[list[Window]] = []
    for window in sorted(windows, key=lambda one: (one.read_from is not None, one.read_from and order(one.read_from))):
        low = window.read_from
        if found and (low is None or order(low) <= max(order(_end(one)) for one in found[-1])):
            found[-1].append(window)
        else:
            found.append([window])
    return found


def _since(low: CursorValue | None) -> str:
    return "there from the beginning on" if low is None else f"there from {low.text} on"


def sent_again(
    config: Config, policy: Policy, store: Store, models: Sequence[Model | BrokenModel], plan: Plan
) -> dict[str, int | None]:
    """Model -> about how many delivered events go a second time with its whole windows, as the warehouse has them now.

    None where it cannot be asked: then the run will not read them either.
    """
    repeating = [model for model in models if isinstance(model, Model) and model.name in plan.repeats]
    found: dict[str, int | None] = {model.name: None for model in repeating}
    if not repeating:
        return found
    with suppress(WarehouseSyncError), closing(warehouse_of(config, engine_of(config, spill=False))) as warehouse:
        for model in repeating:
            with suppress(WarehouseSyncError):
                known = store.model_state(config.name, model.name)
                recalls = [request for request in plan.requests[model.name] if request.recall]
                asked = [prepare(model, warehouse, policy, known, utc_now(), request) for request in recalls]
                counts = [one_row(model, warehouse, f"SELECT count(*) FROM {wrap(one.sql)}")[0] for one in asked]
                found[model.name] = max(sum(map(int, counts)) - plan.repeats[model.name], 0)
    return found


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


__all__ = ["Held", "LastRun", "Plan", "held", "last_run", "make_plan", "sent_again"]
