"""A run: rounds of extract, deliver, settle. Nothing else joins the stages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from warehouse_sync import __version__
from warehouse_sync.checkpoints import checkpoint
from warehouse_sync.context import RunContext
from warehouse_sync.delivery import Decision, Delivery
from warehouse_sync.delivery.asking import FIRST_CALL, Timing, ask
from warehouse_sync.errors import (
    ApiError,
    ConnectionLost,
    ModelError,
    StateError,
    Stopped,
    WarehouseError,
    WarehouseSyncError,
)
from warehouse_sync.extraction.extract import Extraction, extract
from warehouse_sync.extraction.renamed import check_pipeline, renamed_models
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.home import claim_home
from warehouse_sync.merge import merge_delivered
from warehouse_sync.observe.reporter import Reporter
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import BatchLimits, Outbox
from warehouse_sync.parts import (
    account_of,
    client_of,
    engine_of,
    identity_of,
    key_mark,
    snapshot_schema_of,
    warehouse_of,
)
from warehouse_sync.patience import Patience, growing_pause
from warehouse_sync.project.config import Config
from warehouse_sync.project.dbt.gate import held_back
from warehouse_sync.project.model import BrokenModel
from warehouse_sync.runs.request_queue import RequestQueue
from warehouse_sync.runs.results import Journal, ModelResult, RunReport, refusing, results_of
from warehouse_sync.state.lease import hold_lease
from warehouse_sync.state.lifecycle import WindowState
from warehouse_sync.state.store import Store, open_store
from warehouse_sync.userpilot.client import Client
from warehouse_sync.values import Model, ModelStatus
from warehouse_sync.warehouses.base import Warehouse

MOST_READS, FIRST_PAUSE = 3, 2.0
"""How often a window is read when the warehouse's connection breaks, and the seconds before the second time."""

MOST_ROUNDS = 3
"""A window that lost a file is read again in the next round; a disk that loses files in every round ends the run."""


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks of a run.

    `wait`: for the lease; `time_limit` wins over the YAML's; `start` and `end`: a backfill's half-open range of the
    cursor, as it was written; `enabled`: every enabled model of the project, selected or not (None: not known), so that
    what waits of the others is given up; `requests`: what single models are read for instead, in order; `decision`:
    what becomes of held batches.
    """

    full_refresh: bool = False
    fail_fast: bool = False
    limit: int | None = None
    time_limit: timedelta | None = None
    wait: timedelta | None = None
    start: str | None = None
    end: str | None = None
    enabled: frozenset[str] | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    requests: Mapping[str, Sequence[Request]] = field(default_factory=dict)
    decision: Decision | None = None
    verb: str = "run"


def run(
    config: Config, policy: Policy, models: Sequence[Model | BrokenModel], options: RunOptions, reporter: Reporter
) -> RunReport:
    """Sync the selected models.

    Raises NothingStarted (exit 2) or LeaseHeld before anything happened; from then on every model has a result, and
    what ended the run early is in the report.
    """
    began = time.monotonic()
    url = config.state.url.get_secret_value()
    with ExitStack() as stack:
        last_words = partial(reporter.event, "interrupted", level="error")
        patience = Patience(options.time_limit or config.delivery.time_limit, last_words)
        stack.enter_context(patience.signals())
        store = stack.enter_context(open_store(url))
        owner = f"{options.verb} of {config.file.name}"
        lease = stack.enter_context(hold_lease(url, config.name, owner, wait=options.wait, sleep=patience.pause))
        store.only_under(lease)
        known = [model for model in models if isinstance(model, Model)]
        origin = config.userpilot.endpoint
        check_pipeline(store, config.name, origin, config.file, known, partial(identity_of, config, policy))
        claim_home(store, config.name, config.home)
        client = stack.enter_context(client_of(config))
        try:
            destination = _claim_destination(config, store, client, patience, reporter)
        except (Stopped, ApiError) as error:
            return _not_reached(config, store, models, options, error, began)
        engine = engine_of(config)
        context = RunContext(
            pipeline=config.name,
            home=config.home,
            run_id=store.begin_run(
                config.name, options.verb, dict(options.args), __version__, seconds=time.monotonic() - began
            ),
            store=store,
            outbox=Outbox(config.home),
            engine=engine,
            reporter=reporter,
            still_ours=lease.check,
            query=patience.query,
            snapshot_schema=snapshot_schema_of(config, engine),
        )
        checkpoint("run_begun")
        reporter.event(
            "run_started", f"run {context.run_id} of {config.name}: {counted(len(models), 'model')}", run=context.run_id
        )
        waits = config.delivery
        timing = Timing(waits.job_timeout, waits.busy_timeout, waits.grace, waits.max_splits)
        limits = BatchLimits(config.job.max_rows, config.job.max_bytes)
        delivery = Delivery(context, client, limits, timing, patience, destination)
        journal = Journal(held_back=held_back(config.dbt.require, policy.settings, models))
        runner = Runner(context, config, policy, options, delivery, patience, journal)
        report = runner.run(models, began)
        checkpoint("run_over")
        return _recorded(config, store, report)


class Runner:
    """The rounds of one run over the selected models."""

    def __init__(
        self,
        context: RunContext,
        config: Config,
        policy: Policy,
        options: RunOptions,
        delivery: Delivery,
        patience: Patience,
        journal: Journal,
    ) -> None:
        self._context = context
        self._config = config
        self._policy = policy
        self._options = options
        usual = Request(options.full_refresh, options.limit, options.start, options.end)
        self._queue = RequestQueue(usual, options.requests)
        self._delivery = delivery
        self._patience = patience
        self._journal = journal
        self._unmerged: dict[str, WarehouseError] = {}
        # Model -> the full window that an earlier run left behind.
        self._refreshed: dict[str, int] = {}
        self._waited: set[str] = set()
        self._total = 0

    def run(self, models: Sequence[Model | BrokenModel], began: float) -> RunReport:
        """Resume, then rounds until nothing is left to do. What ends the run early is in the report, not raised."""
        selected = sorted(
            (model for model in models if isinstance(model, Model) and model.name not in self._journal.held_back),
            key=lambda model: (model.event.send_order, model.name),
        )
        self._journal.errors |= {model.name: model.error for model in models if isinstance(model, BrokenModel)}
        self._total = len(models)
        stopped: WarehouseSyncError | None = None
        try:
            self._tidy()
            self._delivery.resume()
            if self._options.decision is not None:
                self._delivery.decide(self._options.decision)
            self._give_up_changed(selected)
            self._count_leftovers(selected)
            self._journal.errors |= self._renamed(selected)
            self._merge(selected)
            self._rounds(selected)
            self._queue.close_gone(self._context.store, self._context.pipeline)
        except ModelError as error:
            stopped = Stopped(error.message, hint=error.hint)
        except WarehouseSyncError as error:
            stopped = error
        except Exception:
            # A query that was broken off may end in the words of whatever was at work.
            stopped = self._patience.interruption
            if stopped is None:
                raise
        names, allowed = [model.name for model in models], self._config.invalid.error_above
        results = results_of(self._context, names, self._journal, self._delivery.done, allowed, stopped)
        return RunReport(self._context.run_id, results, time.monotonic() - began, stopped)

    # Before the rounds

    def _tidy(self) -> None:
        """Drop what a killed run left half done."""
        store, pipeline = self._context.store, self._context.pipeline
        for window in store.windows(pipeline, states=(WindowState.EXTRACTING,)):
            store.drop_window(window.id)
        needed = {batch.name for batch in store.batches_in_use(pipeline)}
        if stuck := self._context.outbox.sweep(needed, self._config.retention.delivered):
            said = f"{counted(len(stuck), 'file')} that nothing needs any more cannot be removed, such as {stuck[0]}"
            self._context.reporter.event("files_stay", said, level="warn")
        for window in store.windows(pipeline, states=(WindowState.READY,)):
            self._journal.touched.setdefault(window.model, set()).add(window.id)
        store.prune_rejects(pipeline, self._config.retention.rejects)

    def _give_up_changed(self, selected: Sequence[Model]) -> None:
        """Give up what was not sent of models that changed since; after `resume`, which frees batches of lost jobs."""
        store = self._context.store
        current = {model.name: identity_of(self._config, self._policy, model) for model in selected}
        for window in store.windows(self._context.pipeline, states=(WindowState.READY,)):
            enabled = self._options.enabled
            if enabled is not None and window.model not in enabled:
                why, what = "is gone or disabled", "what was not yet sent of it is given up"
            elif current.get(window.model) not in (None, window.fingerprint):
                why, what = "changed since its last extraction", "what was not yet sent is read again"
            else:
                continue
            store.supersede_window(window.id)
            left = store.window(window.id)
            if left is not None and left.state is WindowState.READY:
                what += " once somebody has decided about its held rows"
            self._context.reporter.event("window_superseded", f"{window.model} {why}: {what}", model=window.model)

    def _count_leftovers(self, selected: Sequence[Model]) -> None:
        """What earlier runs read and did not deliver counts as read for this one, where rows would go again.

        Other windows begin where that one ended, or compare with what was sent: reading once more only adds what has
        come since.
        """
        known = {model.name: model for model in selected}
        for window in self._context.store.windows(self._context.pipeline, states=(WindowState.READY,)):
            model = known.get(window.model)
            if model is None:
                continue
            full = window.kind == "full" and model.full_refresh
            reads_on = window.kind == "incremental" or (window.kind == "full" and not full)
            if reads_on and (model.cursor or not model.always):
                continue
            if model.unique_key and not model.always and window.kind != "limit":
                if full:
                    self._refreshed[model.name] = window.id
            elif self._queue.left_over(window):
                said = f"{model.name}: what run {window.run_id} read for the same goes now; nothing is read anew"
                self._context.reporter.event("nothing_read_anew", said, level="warn", model=model.name)

    def _renamed(self, selected: Sequence[Model]) -> dict[str, ModelError]:
        """New names beside state without a file; needs to know every model of the project."""
        if self._options.enabled is None:
            return {}
        store, pipeline = self._context.store, self._context.pipeline
        identity = partial(identity_of, self._config, self._policy)
        errors = renamed_models(store, pipeline, selected, self._options.enabled, identity)
        for name, error in errors.items():
            self._context.reporter.event("model_error", str(error), level="error", model=name)
        return errors

    # Rounds

    def _rounds(self, selected: Sequence[Model]) -> None:
        """A slice of each model, delivered and settled, then the next slice; a window that lost a file once more.

        What an earlier run left is delivered first, and then its model is read like the others.
        """
        names = {model.name for model in selected}
        self._waited = set(self._delivery.done.held)
        todo, mends = list(selected), 0
        while todo:
            self._extract(todo)
            damaged = set(self._delivery.done.damaged)
            self._deliver(names - set(self._journal.errors))
            self._merge(selected)
            lost = self._delivery.done.damaged - damaged
            mends += bool(lost)
            hurt = {name for name, windows in self._journal.touched.items() if lost & windows}
            for model in todo:
                if model.name in hurt and mends < MOST_ROUNDS:
                    self._queue.once_more(model.name)
            if self._options.fail_fast and self._failing():
                return
            todo = [model for model in todo if model.name not in self._journal.errors and self._has_more(model)]

    def _deliver(self, names: set[str]) -> None:
        """With `-x` what was read before a model failed is sent, and nothing after a job of which rows stay behind."""
        if not self._options.fail_fast:
            self._delivery.deliver(names)
            return
        before = self._failing()
        self._delivery.deliver(names, lambda: not self._failing() <= before)

    def _failing(self) -> set[str]:
        """The models that will not end well, as things are; not those that waited for somebody before this run."""
        done, allowed = self._delivery.done, self._config.invalid.error_above
        failing = {*self._journal.errors, *self._delivery.failing} - self._waited
        return failing | refusing(self._context, self._journal, done, allowed)

    def _has_more(self, model: Model) -> bool:
        """True when there is more to read and the last window is settled, so that the next one can be read."""
        last = self._journal.extracted.get(model.name)
        more = last is not None and last.more
        return (more or self._queue.are_left(model.name)) and not self._is_busy(model)

    def _extract(self, models: Sequence[Model]) -> None:
        """One window of each model that has none open. The warehouse is open only in here."""
        for model in models:
            if model.name in self._unmerged:
                self._journal.errors.setdefault(model.name, self._unmerged[model.name])
        ready = [model for model in models if model.name not in self._journal.errors and not self._is_busy(model)]
        if not ready:
            return
        try:
            warehouse = warehouse_of(self._config, self._context.engine, self._context.run_id)
        except ModelError as error:
            self._patience.stop_if_asked()
            self._journal.errors |= {model.name: error for model in ready}
            return
        try:
            # Those that are over are counted first, so that `9 of 9` is the last in every round.
            for place, model in enumerate(ready, start=self._total - len(ready) + 1):
                self._patience.check()
                self._context.reporter.event(
                    "model_start", f"{place} of {self._total} START {model.event} {model.name}", model=model.name
                )
                with self._patience.query(warehouse):
                    self._extract_one(model, warehouse)
                if self._options.fail_fast and self._failing():
                    return
        finally:
            warehouse.close()

    def _extract_one(self, model: Model, warehouse: Warehouse) -> None:
        began = time.monotonic()
        try:
            extraction = self._read(model, warehouse, self._request(model))
        except (ModelError, StateError) as error:
            # A query that a signal broke off looks like the warehouse's fault.
            self._patience.stop_if_asked()
            self._journal.errors[model.name] = error
            self._context.reporter.event("model_error", str(error), level="error", model=model.name)
            return
        finally:
            self._journal.seconds[model.name] = self._journal.seconds.get(model.name, 0.0) + time.monotonic() - began
        checkpoint("window_ready")
        self._journal.extracted[model.name] = extraction.after(self._journal.extracted.get(model.name))
        self._queue.read(model.name, extraction.window.id, more=extraction.more)
        self._journal.touched.setdefault(model.name, set()).add(extraction.window.id)
        counts = extraction.counts
        self._context.reporter.event(
            "model_extracted",
            f"{model.name}: {counted(counts.read, 'row')} read, {counts.added + counts.changed:,} to send",
            model=model.name,
            counts=counts.as_dict(),
        )

    def _request(self, model: Model) -> Request:
        """What the model's next window is for; what a full one has just sent does not go a second time."""
        request, left = self._queue.request(model.name), self._refreshed.get(model.name)
        window = None if left is None else self._context.store.window(left)
        return replace(request, compared=window is not None and window.state is WindowState.SETTLED)

    def _read(self, model: Model, warehouse: Warehouse, request: Request) -> Extraction:
        """The model's window, read again when the connection breaks in the middle. Raises ModelError or StateError."""
        for attempt in range(MOST_READS - 1):
            try:
                return extract(self._context, model, warehouse, self._policy, request)
            except ConnectionLost as error:
                self._context.reporter.event(
                    "warehouse_lost", f"{error.message}; it is read again", level="warn", model=model.name
                )
                self._patience.pause(growing_pause(FIRST_PAUSE, attempt))
        return extract(self._context, model, warehouse, self._policy, request)

    def _is_busy(self, model: Model) -> bool:
        """True while a window of the model is not settled: it is delivered first."""
        return bool(self._context.store.windows(self._context.pipeline, model=model.name, states=(WindowState.READY,)))

    def _merge(self, models: Sequence[Model]) -> None:
        """Take deliveries into the snapshots; files that nothing needs any more go, unless `retention.delivered`."""
        for model in models:
            try:
                merged = merge_delivered(self._context, model)
            except StateError as error:
                self._journal.errors.setdefault(model.name, error)
                self._context.reporter.event("model_error", str(error), level="error", model=model.name)
                continue
            except WarehouseError as error:
                # What was delivered is recorded. Until it is merged, nothing is compared.
                self._unmerged[model.name] = error
                self._context.reporter.event("snapshot_waits", str(error), level="warn", model=model.name)
                continue
            self._unmerged.pop(model.name, None)
            for batch in merged:
                if not self._config.retention.delivered:
                    self._context.outbox.remove(batch.name)


def _not_reached(
    config: Config,
    store: Store,
    models: Sequence[Model | BrokenModel],
    options: RunOptions,
    error: WarehouseSyncError,
    began: float,
) -> RunReport:
    """The API could not be asked for the first time: a run that tried nothing, and says so of every model."""
    args, seconds = dict(options.args), time.monotonic() - began
    run_id = store.begin_run(config.name, options.verb, args, __version__, seconds=seconds)
    results = tuple(ModelResult(model.name, ModelStatus.SKIPPED, f"not tried: {error.message}") for model in models)
    return _recorded(config, store, RunReport(run_id, results, time.monotonic() - began, error))


def _recorded(config: Config, store: Store, report: RunReport) -> RunReport:
    """The report, once the state store has it; a store that is gone by now is what stopped the run."""
    rows = [result.row(config.name) for result in report.results]
    try:
        store.end_run(report.run_id, report.exit_code, rows)
    except Stopped as error:
        return replace(report, stopped=report.stopped or error)
    return report


def _claim_destination(config: Config, store: Store, client: Client, patience: Patience, reporter: Reporter) -> int:
    """The first call of the run: is the key accepted, and is this the account that the state belongs to?"""
    listed = ask(client.list_jobs, patience, min(FIRST_CALL, config.delivery.busy_timeout), reporter.event)
    return store.claim_destination(config.name, config.userpilot.endpoint, account_of(listed), key_mark(config)).id
