"""Random histories over a real warehouse, real runs and a real socket: what was imported is what the reference says."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from acceptance_pipeline import Pipeline
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import CHOSEN, Expected, Header, Line, Reference, Row

from warehouse_sync.userpilot.sandbox import Sandbox

BASE = datetime(2025, 1, 1, 12, tzinfo=UTC)
FUTURE = 10**6
"""Ticks from here on are beyond the warehouse's clock."""


@dataclass(frozen=True)
class Kind:
    """A kind of cursor: its SQL type, how a tick is written, the lag of one tick."""

    type: str
    lag: str | None

    def literal(self, tick: int | None) -> str:
        if tick is None:
            return "NULL"
        if self.type in ("INTEGER", "BIGINT", "DECIMAL(20,0)"):
            return str(tick - 20)
        if self.type == "VARCHAR":
            return f"'it''s {tick:09d}'"
        moment = BASE.replace(tzinfo=None) + (
            timedelta(days=tick) if self.type == "DATE" else timedelta(minutes=tick, microseconds=123456)
        )
        if tick >= FUTURE:
            moment = datetime(2206, 1, 1) + timedelta(days=tick - FUTURE)
        text = moment.date().isoformat() if self.type == "DATE" else moment.isoformat(sep=" ")
        if self.type == "TIMESTAMP_NS":
            text += f"{'' if '.' in text else '.000000'}789"
        return f"{self.type} '{text}{'+00:00' if self.type == 'TIMESTAMPTZ' else ''}'"


KINDS = {
    "timestamp": Kind("TIMESTAMP", "minutes"),
    "nanoseconds": Kind("TIMESTAMP_NS", "minutes"),
    "timestamptz": Kind("TIMESTAMPTZ", "minutes"),
    "date": Kind("DATE", "days"),
    "integer": Kind("BIGINT", "number"),
    "decimal": Kind("DECIMAL(20,0)", "number"),
    "string": Kind("VARCHAR", None),
    "none": Kind("BIGINT", None),
}


def at_literal(tick: int | None) -> str:
    moment = BASE.replace(tzinfo=None) + timedelta(seconds=tick or 0)
    return "NULL::TIMESTAMP" if tick is None else f"TIMESTAMP '{moment}'"


@dataclass(frozen=True)
class Case:
    """One shape of model: which cursor, what event, keyed or not, always."""

    kind: str
    event: str
    keyed: bool = True
    always: bool = False
    null_cursor: str = "reject"

    @property
    def header(self) -> Header:
        identify, cursor = self.event.startswith("identify"), self.kind != "none"
        lag = 3 if self.keyed and KINDS[self.kind].lag else 0
        future = FUTURE if self.kind in ("timestamp", "nanoseconds", "timestamptz", "date") else None
        return Header(
            identify, self.keyed, self.always, cursor, lag, None, self.null_cursor, full_refresh=identify, future=future
        )

    def text(self, header: Header) -> str:
        words = [f"event='{self.event}'"]
        if self.kind != "none":
            words += ["cursor='_c'", f"null_cursor='{self.null_cursor}'"]
            unit = KINDS[self.kind].lag
            words += [f"lag={header.lag}" if unit == "number" else f"lag='{header.lag} {unit}'"] if header.lag else []
            words += [] if header.identify else ["begin='all'"]
        if self.keyed and not header.identify:
            words.append("unique_key='_key'")
        if self.keyed:
            words.append("ignore_changes=['note']")
        if self.always:
            words.append("always=true")
        return ", ".join(words)

    def sql(self, header: Header) -> str:
        names = [f"{'note' if name == 'note' else 'v'} as {name}" for name in header.properties]
        columns = [
            f"case when bad then 'nonsense' else '{self.event}' end as event_type",
            *names,
            "happened as inserted_at",
        ]
        if self.event == "identify_company":
            columns.append("k as company_id")
        elif self.event == "identify_user":
            columns.append("k as user_id")
        elif self.event == "page_view":
            columns += ["k as user_id", "'https://app.example/' as url"]
        else:
            columns += ["k as user_id", "'opened' as event_name"]
        columns += ["k as _key"] if not header.identify else []
        columns += ["c as _c"] if header.has_cursor else []
        return f"select {', '.join(columns)} from t"


CASES = [
    *(Case(kind, "identify_user") for kind in KINDS),
    Case("timestamp", "identify_company", null_cursor="include"),
    Case("integer", "identify_user", null_cursor="skip"),
    Case("none", "identify_company"),
    Case("timestamp", "identify_user", always=True),
    *(Case(kind, "track") for kind in ("timestamptz", "date", "none")),
    Case("integer", "page_view", null_cursor="include"),
    *(Case(kind, "track", keyed=False) for kind in KINDS if kind != "none"),
    Case("date", "page_view", keyed=False, null_cursor="skip"),
    Case("none", "track", keyed=False, always=True),
]


def name_of(case: Case) -> str:
    words = [case.event, case.kind, case.null_cursor, "keyed" if case.keyed else "unkeyed"]
    return "-".join([*words, "always"] if case.always else words)


keys = st.sampled_from(["a", "b", "c", "d"])
small = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("insert"), keys, small, st.integers(-4, 3), st.one_of(st.integers(0, 9), st.just(None))),
    st.tuples(st.just("insert"), keys, small, st.just(0), st.just(1)),
    st.tuples(st.just("update"), st.integers(0, 30), small, st.integers(0, 3), st.integers(0, 9)),
    st.tuples(st.just("note"), st.integers(0, 30), small),
    st.tuples(st.just("touch"), st.integers(0, 30)),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("spoil"), st.integers(0, 30)),
    st.tuples(st.just("mend"), st.integers(0, 30)),
    st.tuples(st.just("null"), st.integers(0, 30)),
    st.tuples(st.just("future"), keys),
    st.tuples(st.just("twin"), st.integers(0, 30)),
    st.tuples(st.just("model"), st.sampled_from([("plan", "note"), ("plan", "note", "more"), ("name", "note")])),
    st.tuples(st.just("run"), st.just(False)),
    st.tuples(st.just("run"), st.just(False)),
    st.tuples(st.just("run"), st.just(False)),
    st.tuples(st.just("run"), st.just(True)),
)


class History:
    """Applies steps to the warehouse and to the reference, and compares after each run."""

    def __init__(self, case: Case, pipeline: Pipeline) -> None:
        self.case = case
        self.kind = KINDS[case.kind]
        self.pipeline = pipeline
        self.reference = Reference(case.header)
        self.table: list[Row] = []
        self.tick = 5
        self.imported = 0
        self.runs = 0
        no_guards = "invalid: {stop_above: 100%}\nguard: {max_removed: null}\n"
        pipeline.configure("batch: {max_rows: 3}\nmodels: {drift: allow}\n" + no_guards)
        self.write_model()

    def write_model(self) -> None:
        header = self.reference.header
        self.pipeline.model("m", self.case.text(header), self.case.sql(header))

    def step(self, name: str, *rest: Any) -> None:
        getattr(self, f"do_{name}")(*rest)

    # Steps

    def do_insert(self, key: str, value: int, ahead: int, at: int | None) -> None:
        self.tick = max(self.tick, self.tick + ahead)
        self.table.append(Row(key, value, 0, max(0, self.tick + min(ahead, 0)), self._at(at)))

    def do_update(self, which: int, value: int, ahead: int, at: int) -> None:
        self.tick += ahead
        self._change(which, value=value, cursor=self.tick, at=self._at(at))

    def do_note(self, which: int, note: int) -> None:
        self._change(which, note=note, cursor=self.tick)

    def do_touch(self, which: int) -> None:
        self._change(which, cursor=self.tick)

    def do_delete(self, which: int) -> None:
        if self.table:
            del self.table[which % len(self.table)]

    def do_spoil(self, which: int) -> None:
        self._change(which, bad=True, cursor=self.tick)

    def do_mend(self, which: int) -> None:
        self._change(which, bad=False)

    def do_null(self, which: int) -> None:
        self._change(which, cursor=None)

    def do_future(self, key: str) -> None:
        self.table.append(Row(key, 7, 0, FUTURE if self.kind.lag in ("minutes", "days") else self.tick, 1))

    def do_twin(self, which: int) -> None:
        if self.table:
            self.table.append(self.table[which % len(self.table)])

    def do_model(self, properties: tuple[str, ...]) -> None:
        # A row of an event without key is its line: another model makes other rows of those at the bound.
        if self.case.keyed:
            self.reference.header = replace(self.reference.header, properties=properties)
            self.write_model()

    def do_run(self, full: bool) -> None:
        self.runs += 1
        self._load()
        expected = self.reference.run(self.table, self.runs, full=full)
        began = datetime.now(UTC).replace(tzinfo=None)
        result = self.pipeline.one(full_refresh=full)
        ended = datetime.now(UTC).replace(tzinfo=None)
        assert result.error is None, str(result.error)
        self._compare(expected, result.counts)
        rows = self.pipeline.imported(self.imported)
        self.imported += len(rows)
        self._match(expected.lines, Counter(self._line(row, began, ended) for row in rows))
        cursor = self.pipeline.cursor()
        if self.reference.cursor is None:
            assert cursor is None
        else:
            written = self.kind.literal(self.reference.cursor)
            assert self._sql(f"SELECT {written} = CAST({quoted(cursor)} AS {self.kind.type})"), (cursor, written)

    # How

    def _at(self, at: int | None) -> int | None:
        return (at or 0) if at is None and not self.case.header.identify else at

    def _change(self, which: int, **values: Any) -> None:
        if self.table:
            place = which % len(self.table)
            self.table[place] = replace(self.table[place], **values)

    def _load(self) -> None:
        rows = [
            f"('{row.key}', {row.value}, {row.note}, {self.kind.literal(row.cursor)}, {at_literal(row.at)}, {row.bad})"
            for row in self.table
        ]
        self.pipeline.sql(
            "CREATE OR REPLACE TABLE t"
            f" (k VARCHAR, v INTEGER, note INTEGER, c {self.kind.type}, happened TIMESTAMP, bad BOOLEAN)",
            *([f"INSERT INTO t VALUES {', '.join(rows)}"] if rows else []),
        )

    def _sql(self, query: str) -> Any:
        import duckdb

        return duckdb.sql(query).fetchall()[0][0]

    def _line(self, row: dict[str, Any], began: datetime, ended: datetime) -> Line:
        moment = datetime.fromisoformat(row["inserted_at"])
        tick = int((moment - BASE.replace(tzinfo=None)) / timedelta(seconds=1))
        at: int | str = CHOSEN if began <= moment <= ended else tick
        return Line(row.get("user_id") or row["company_id"], at, tuple(sorted(row["metadata"].items())))

    def _match(self, expected: Counter[Line], found: Counter[Line]) -> None:
        loose = {(line.key, line.at) for line in expected if ("note", -1) in line.properties}
        plain = Counter()
        for line, count in found.items():
            blurred = tuple((n, -1 if n == "note" else v) for n, v in line.properties)
            plain[replace(line, properties=blurred) if (line.key, line.at) in loose else line] += count
        assert plain == expected

    def _compare(self, expected: Expected, counts: Any) -> None:
        assert counts.read == expected.read
        assert counts.future == expected.future
        assert (counts.added, counts.changed) == (expected.added, expected.changed)
        assert counts.delivered == expected.added + expected.changed
        # Which of two equal rows is the duplicate is nobody's business; their sum is.
        assert counts.unchanged + counts.duplicate == expected.unchanged + expected.duplicate
        assert counts.invalid + counts.suppressed == expected.refused


def quoted(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


def play(case: Case, history: list[tuple[Any, ...]]) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox(folder / "sandbox"))
        past = History(case, Pipeline(folder / "project", sandbox))
        for step in [*history, ("run", False), ("run", False)]:
            past.step(*step)


def relaxed(examples: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=checks, derandomize=True, database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink] if examples > 5 else [Phase.explicit, Phase.generate],
    )  # fmt: skip


def dense_history(random: Random) -> list[tuple[Any, ...]]:
    """A history in which much happens between few runs."""
    history: list[tuple[Any, ...]] = []
    for _ in range(3):
        for _ in range(random.randint(4, 11)):
            which = random.randint(0, 30)
            history.append(
                random.choice(
                    [
                        (
                            "insert",
                            random.choice("abcd"),
                            random.randint(0, 2),
                            random.randint(-4, 3),
                            random.choice([None, *range(9)]),
                        ),
                        (
                            "insert",
                            random.choice("abcd"),
                            random.randint(0, 2),
                            random.randint(-4, 3),
                            random.choice([None, *range(9)]),
                        ),
                        ("update", which, random.randint(0, 2), random.randint(0, 3), random.randint(0, 9)),
                        ("update", which, random.randint(0, 2), random.randint(0, 3), random.randint(0, 9)),
                        ("note", which, 1),
                        ("touch", which),
                        ("delete", which),
                        ("spoil", which),
                        ("mend", which),
                        ("null", which),
                        ("future", "e"),
                        ("twin", which),
                        ("model", random.choice([("plan", "note"), ("name", "note")])),
                    ]
                )
            )
        history.append(("run", random.random() < 0.15))
    return history


FEW = 1
"""Histories of each shape in the quick test."""

MANY = int(os.environ.get("WAREHOUSE_SYNC_TEST_HISTORIES", "2"))
"""Histories of each shape in the slow test."""


@pytest.mark.parametrize("seed", range(FEW))
@pytest.mark.parametrize(
    "case",
    [case if number % 5 == 0 else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(CASES)],
    ids=name_of,
)
def test_a_few_histories(case: Case, seed: int) -> None:
    play(case, dense_history(Random(f"{name_of(case)} {seed}")))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=name_of)
@relaxed(MANY)
@given(history=st.lists(steps, min_size=6, max_size=30))
def test_many_histories(case: Case, history: list[tuple[Any, ...]]) -> None:
    play(case, history)
