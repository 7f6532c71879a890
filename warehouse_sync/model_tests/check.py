"""One unit test: the model is rendered, prepared, read and encoded as a run does it; what would be sent is compared.

Only the warehouse is another one, and nothing was sent before: every good row is new.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from warehouse_sync.changes.spill import SpillTable
from warehouse_sync.context import RunContext
from warehouse_sync.errors import ModelError
from warehouse_sync.events.reasons import Reason
from warehouse_sync.events.schema import fields_of
from warehouse_sync.extraction.prepare import prepare
from warehouse_sync.extraction.reading import OpenReading, opened
from warehouse_sync.extraction.request import Policy, Request
from warehouse_sync.model_tests.fixture import FixtureWarehouse
from warehouse_sync.model_tests.given import AnyRelations, GivenRelations, stands_for
from warehouse_sync.model_tests.match import Refusal, differences, named, read_line
from warehouse_sync.observe.reporter import Silent
from warehouse_sync.observe.words import counted
from warehouse_sync.outbox import Outbox
from warehouse_sync.project.dbt.gate import uses_of
from warehouse_sync.project.model import BrokenModel, ModelSettings
from warehouse_sync.project.names import nearest
from warehouse_sync.project.unit_tests import UnitTest
from warehouse_sync.state.store import Store, open_store
from warehouse_sync.values import Counts, Model, utc_now
from warehouse_sync.warehouses.base import Engine

Status = Literal["pass", "fail", "error", "skip"]


@dataclass(frozen=True)
class Outcome:
    """How one test ended: `fail` when something else came, `error` when nothing could come."""

    test: UnitTest
    status: Status
    message: str = ""
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Came:
    """What a run would have done: the lines it would send, the rows it would refuse, its counts."""

    lines: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    counts: Counts
    missing: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()


class Checker:
    """Runs tests for one project; a context manager. `dialect` is the warehouse's, in sqlglot's words."""

    def __init__(self, policy: Policy, dialect: str, engine: Engine, store: Store, home: Path) -> None:
        self._policy = policy
        self._dialect = dialect
        self._engine = engine
        self._store = store
        self._home = home

    def check(self, test: UnitTest, model: Model | BrokenModel) -> Outcome:
        """Run one test. What is wrong with the model, or cannot be done on DuckDB, is its outcome and not raised."""
        if not (test.enabled and model.enabled):
            return Outcome(test, "skip", "disabled" if not test.enabled else f"model {model.name} is disabled")
        began = time.monotonic()
        try:
            if isinstance(model, BrokenModel):
                raise model.error
            lines, warnings = self._differences(test, model)
        except ModelError as error:
            return Outcome(test, "error", str(error), time.monotonic() - began)
        status: Status = "fail" if lines else "pass"
        return Outcome(test, status, "\n".join(lines), time.monotonic() - began, warnings)

    def _differences(self, test: UnitTest, model: Model) -> tuple[list[str], tuple[str, ...]]:
        """The lines of the diff, none for a test that passes, and what looks wrong besides. Raises ModelError."""
        _check_reasons(test)
        _check_inputs(test, model, self._settings(test))
        now = test.now or utc_now()
        bed = FixtureWarehouse(test, model, self._dialect, self._engine, now)
        try:
            rows = test.expected.rows if test.expected.sql is None else bed.rows(test.expected.sql)
            came = self._came(test, model, bed, now)
        finally:
            bed.close()
        fields = {field.name for field in fields_of(model.event, context=model.context)} | {"source"}
        lines = differences(
            [named(row, fields) for row in rows], [read_line(line) for line in came.lines], test.refused, came.refusals
        )
        return [*lines, *_remarks(came)] if lines else [], came.warnings

    def _settings(self, test: UnitTest) -> ModelSettings:
        """The project's, with what the test says; `ref()` and `source()` are those of the test."""
        settings = self._policy.settings
        return replace(
            settings,
            relations=GivenRelations([given.input for given in test.given], self._dialect),
            vars={**settings.vars, **test.vars},
            environ={**settings.environ, **test.env_vars},
        )

    def _came(self, test: UnitTest, model: Model, bed: FixtureWarehouse, now: datetime) -> Came:
        context = RunContext(
            pipeline="unit",
            home=self._home,
            run_id=0,
            store=self._store,
            outbox=Outbox(self._home),
            engine=self._engine,
            reporter=Silent(),
            clock=lambda: now,
        )
        policy = replace(self._policy, settings=self._settings(test))
        prepared = prepare(model, bed, policy, None, now, Request(full_refresh=True, start=test.since))
        with opened(context, prepared, bed) as reading:
            lines, refusals, counts = _read(reading, policy.max_line)
        return Came(lines, refusals, counts, bed.missing, bed.unread)


@contextmanager
def checker(policy: Policy, dialect: str, engine: Engine) -> Iterator[Checker]:
    """A checker with an empty state store in memory, and a folder that stays empty."""
    with tempfile.TemporaryDirectory() as folder, open_store("sqlite://") as store:
        yield Checker(policy, dialect, engine, store, Path(folder))


def _read(reading: OpenReading, max_line: int) -> tuple[tuple[str, ...], tuple[Refusal, ...], Counts]:
    """The lines of the sent rows without those of the duplicates, which `_seal` would take out of the files."""
    import pyarrow as pa

    sent = SpillTable(reading.source.connection.cursor(), "sent")
    lines: list[str] = []
    for batch in reading.rows(max_line):
        places = pa.array(range(len(lines), len(lines) + batch.num_rows), pa.int64())
        lines += batch.column("line").to_pylist()
        sent.add(batch.append_column("place", places))
    sent.flush()
    relation = sent.relation if sent.rows else None
    losers = reading.losers(relation)
    lost = set() if losers is None else set(losers.column("place").to_pylist())
    refusals = tuple(Refusal(reject.key, reject.reasons) for reject in reading.rejects(losers))
    kept = tuple(line for place, line in enumerate(lines) if place not in lost)
    return kept, refusals, reading.counts(relation)


def _check_reasons(test: UnitTest) -> None:
    """A code that no reason has would never be met. Raises ModelError."""
    known = [reason.code for reason in Reason]
    for code in sorted(code for refused in test.refused for code in refused.reasons):
        if code not in known:
            raise ModelError(
                f"expect.refused: there is no reason `{code}`{nearest(code, known)}",
                path=test.path,
                line=test.line,
                hint=f"there are {', '.join(known)}.",
            )


def _check_inputs(test: UnitTest, model: Model, settings: ModelSettings) -> None:
    """Rows for what the model does not call, in neither of its readings, are a mistake. Raises ModelError."""
    uses = uses_of(model, replace(settings, relations=AnyRelations()))
    calls = [use.call for use in uses]
    for given in test.given:
        if not any(stands_for(given.input, use) for use in uses):
            raise ModelError(
                f"given: the model does not call {given.input}{nearest(str(given.input), calls)}",
                path=test.path,
                line=given.line,
                hint=f"it calls {', '.join(calls) or 'neither source() nor ref()'}.",
            )


def _remarks(came: Came) -> list[str]:
    """What helps to see why: rows that were neither sent nor refused, columns that nobody gave."""
    counts: dict[str, Any] = came.counts.as_dict()
    apart = [f"{counts[name]} {word}" for name, word in _APART.items() if counts[name]]
    lines = [f"of {counted(counts['read'], 'row')} read: {', '.join(apart)}"] if apart else []
    for place, names in came.missing.items():
        lines.append(f"not given, so NULL: {', '.join(names)} of {place}")
    return lines


_APART = {
    "duplicate": "of a key that stands twice (the newest goes)",
    "future": "with a cursor more than an hour after `now` (they wait)",
    "suppressed": "suppressed",
    "unchanged": "unchanged",
}
