"""The same histories with the comparison in the warehouse: what was imported is what the same reference says."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from acceptance_pipeline import Pipeline
from harness import ROOT
from hypothesis import given
from hypothesis import strategies as st
from postgres_pipeline import PostgresHistory, PostgresPipeline, kinds_of_postgres
from servers import Server
from test_histories import CASES, MANY, Case, History, dense_history, name_of, relaxed, steps

from warehouse_sync.checkpoints import VARIABLE
from warehouse_sync.userpilot.sandbox import Sandbox

INSIDE = "snapshot: {where: warehouse, schema: sync}\n"
KEYED = [case for case in CASES if case.keyed]


class Kept(Pipeline):
    """A pipeline whose snapshots lie in its warehouse."""

    def configure(self, more: str = "") -> None:
        super().configure(more + INSIDE)


def play_inside(case: Case, history: list[tuple[Any, ...]]) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox(folder / "sandbox"))
        past = History(case, Kept(folder / "project", sandbox))
        for step in [*history, ("run", False), ("run", False)]:
            past.step(*step)
        assert not list((folder / "project").rglob("snapshots/*"))


@pytest.mark.parametrize(
    "case",
    [case if number % 6 == 0 else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(KEYED)],
    ids=name_of,
)
def test_a_few_histories_inside(case: Case) -> None:
    play_inside(case, dense_history(Random(f"inside {name_of(case)}")))


@pytest.mark.slow
@pytest.mark.parametrize("case", KEYED, ids=name_of)
@relaxed(MANY)
@given(history=st.lists(steps, min_size=6, max_size=30))
def test_many_histories_inside(case: Case, history: list[tuple[Any, ...]]) -> None:
    play_inside(case, history)


TIMED = [case for case in KEYED if case.header.identify and case.kind in ("timestamp", "none")]


@pytest.mark.slow
@pytest.mark.parametrize("where", [Pipeline, Kept])
@pytest.mark.parametrize("case", TIMED, ids=name_of)
def test_times_that_go_back_and_forth(case: Case, where: type[Pipeline], tmp_path: Path, box: Sandbox) -> None:
    random, past = Random(f"times {name_of(case)}"), History(case, where(tmp_path / "project", box))
    for key in "ab":
        past.step("insert", key, 0, 0, 5)
    for _ in range(10):
        for which in range(2):
            past.step("update", which, random.randint(0, 1), 1, random.randint(0, 9))
        past.step("run", random.random() < 0.3)


@pytest.mark.parametrize("where", [Pipeline, Kept])
@pytest.mark.parametrize("always", [False, True])
def test_a_time_that_was_sent_is_never_forgotten(
    where: type[Pipeline], always: bool, tmp_path: Path, box: Sandbox
) -> None:
    pipeline = where(tmp_path / "project", box)
    pipeline.model(
        "m", f"event='identify_user', always={always}", "select k as user_id, v as plan, seen as inserted_at from t"
    )
    pipeline.sql(
        "CREATE TABLE t (k VARCHAR, v VARCHAR, seen TIMESTAMP)", "INSERT INTO t VALUES ('a', 'free', '2025-01-01')"
    )
    pipeline.good()
    pipeline.sql("UPDATE t SET v = 'pro'")
    assert pipeline.good().counts.retimed == 1
    # The same row once more goes with its own time, before the one that was sent.
    counts = pipeline.good(full_refresh=not always).counts
    assert (counts.changed, counts.retimed) == (1, 0)
    pipeline.sql("UPDATE t SET v = 'churned', seen = '2025-02-01'")
    assert pipeline.good().counts.retimed == 1
    found = [(row["inserted_at"], row["metadata"]["plan"]) for row in pipeline.imported()]
    assert [plan for _, plan in found] == ["free", "pro", "pro", "churned"]
    assert found[2][0] == "2025-01-01T00:00:00.000000"
    assert max(found)[1] == "churned"


EITHER = "union(i int, s varchar)"
SAME_TEXT = {
    "a number, then a text in JSON's place": ("'5'::json", "'5'"),
    "numbers, then texts": ("[1, 2]", "['1', '2']"),
    "numbers, then texts, further in": ("{'a': [1]}", "{'a': ['1']}"),
    "another member of a union": (f"union_value(i := 1)::{EITHER}", f"union_value(s := '1')::{EITHER}"),
    "the same further in": (f"{{'u': union_value(i := 1)::{EITHER}}}", f"{{'u': union_value(s := '1')::{EITHER}}}"),
    "another type in a variant": ("1::variant", "'1'::variant"),
    "the same in its list": ("[1]::variant", "['1']::variant"),
}


@pytest.mark.parametrize("where", [Pipeline, Kept])
def test_what_has_the_same_text_is_not_the_same(where: type[Pipeline], tmp_path: Path, box: Sandbox) -> None:
    pipeline = where(tmp_path / "project", box)
    pipeline.sql("CREATE TABLE nothing (i INTEGER)")
    counts: list[dict[str, tuple[int, int]]] = []
    for turn in (0, 1, 1):
        for number, values in enumerate(SAME_TEXT.values()):
            pipeline.model(
                f"m{number}", "event='identify_user', partial=true", f"select 'u' as user_id, {values[turn]} as x"
            )
        results = pipeline.run().results
        assert {str(result.status) for result in results} == {"success"}, [str(r.error) for r in results]
        counts.append({result.model: (result.counts.changed, result.counts.unchanged) for result in results})
    assert set(counts[1].values()) == {(1, 0)}, dict(zip(SAME_TEXT, counts[1].values(), strict=True))
    assert set(counts[2].values()) == {(0, 1)}


@pytest.mark.parametrize("where", [Pipeline, Kept])
def test_another_zone_counts_for_naive_times_at_any_depth(where: type[Pipeline], tmp_path: Path, box: Sandbox) -> None:
    pipeline = where(tmp_path / "project", box)
    pipeline.sql("CREATE TABLE nothing (i INTEGER)")
    pipeline.model("m", "event='identify_user'", "select 'u' as user_id, {'t': [timestamp '2025-01-01']} as x")
    assert pipeline.good().counts.added == 1
    pipeline.configure("models: {timezone: Europe/Berlin}\n")
    assert pipeline.good().counts.changed == 1
    assert pipeline.good().counts.unchanged == 1


# In PostgreSQL


_numbers = itertools.count()


def play_postgres(case: Case, history: list[tuple[Any, ...]], postgres: Server) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox(folder / "sandbox"))
        pipeline = PostgresPipeline(folder / "project", sandbox, postgres, "postgres", f"sync_{next(_numbers)}")
        past = PostgresHistory(case, pipeline)
        for step in [*history, ("run", False), ("run", False)]:
            past.step(*step)
        pipeline.sql(f"DROP SCHEMA {pipeline.schema} CASCADE")


@pytest.mark.parametrize(
    "case",
    [
        case if number == 5 else pytest.param(case, marks=pytest.mark.slow)
        for number, case in enumerate(kinds_of_postgres(KEYED))
    ],
    ids=name_of,
)
def test_a_few_histories_in_postgres(case: Case, postgres: Server) -> None:
    play_postgres(case, dense_history(Random(f"postgres {name_of(case)}")), postgres)


@pytest.mark.slow
@pytest.mark.parametrize("case", kinds_of_postgres(KEYED), ids=name_of)
def test_many_histories_in_postgres(case: Case, postgres: Server) -> None:
    for number in range(MANY):
        play_postgres(case, dense_history(Random(f"postgres {name_of(case)} {number}")), postgres)


MODEL = ("event='identify_user', cursor='_c'", "select k as user_id, v as plan, c as inserted_at, c as _c from t")


AROUND_A_MERGE = [
    "snapshot_published",
    *(pytest.param(p, marks=pytest.mark.slow) for p in ("after_complete", "snapshot_written", "merge_recorded")),
]


@pytest.mark.parametrize("point", AROUND_A_MERGE)
def test_a_kill_around_a_merge_in_postgres(point: str, postgres: Server, tmp_path: Path, box: Sandbox) -> None:
    pipeline = PostgresPipeline(tmp_path / "project", box, postgres, "postgres", f"sync_{next(_numbers)}")
    pipeline.model("m", *MODEL)
    pipeline.sql(
        "DROP TABLE IF EXISTS t",
        "CREATE TABLE t (k TEXT, v INTEGER, c TIMESTAMP)",
        "INSERT INTO t SELECT 'u' || i, i, '2025-01-01 10:00' FROM generate_series(1, 5) AS n(i)",
    )
    words = [sys.executable, "-m", "warehouse_sync", "run", "-c", str(pipeline.folder / "configs" / "prod.yml")]
    environ = os.environ | {VARIABLE: point, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(words, env=environ, capture_output=True, check=False, timeout=60)
    assert killed.returncode == -9, killed.stderr
    pipeline.sql("UPDATE t SET v = 100, c = '2025-01-02 10:00' WHERE k = 'u1'")
    assert pipeline.good().counts.changed == 1
    assert len(pipeline.imported()) == 6
    assert pipeline.good().counts.unchanged == 1
    ((rows, known),) = pipeline.ask(
        f'SELECT count(*), min(known) FROM {pipeline.schema}."sent.prod.m", {pipeline.schema}."merged.prod.m"'
    )
    assert (rows, known) == (5, 5)


# More refused rows than a statement names


@pytest.mark.slow
@pytest.mark.parametrize("case", KEYED[:3], ids=name_of)
def test_where_too_many_rows_are_refused_everything_leaves(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse_sync.extraction.pushdown.MOST_KEYS", 0)
    play_inside(case, dense_history(Random(f"refused {name_of(case)}")))
