"""A new version of the row hash: rows that are equal by the old one are not sent again, whenever they are next read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from acceptance_pipeline import Pipeline
from test_histories import CASES, Case, History, dense_history, name_of

from warehouse_sync.changes import snapshot as snapshots
from warehouse_sync.events import encode
from warehouse_sync.events.row_hash import ROW_HASHES, Sent, version_1
from warehouse_sync.userpilot.sandbox import Sandbox

USER_SQL = "select u as user_id, v as plan, c as _c from t"
EVENT_SQL = "select u as user_id, 'opened' as event_name, t as inserted_at, v as plan, c as _c from e"
SPACED = "replace({}, '\"user_id\":', '\"user_id\": ')"
LENIENT = "invalid: {stop_above: 100%, error_above: 100%}\n"


def salted(salt: int) -> Callable[[Sent], str]:
    """Another definition of the hash; of a model without key there is only one of each text of the line."""
    return lambda sent: f"unhex(md5('{salt}' || hex({version_1(sent)})))" if sent.keyed else version_1(sent)


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Installs the next version of the program."""
    return lambda: monkeypatch.setitem(ROW_HASHES, max(ROW_HASHES) + 1, salted(max(ROW_HASHES) + 1))


def users(pipeline: Pipeline, *rows: str, header: str = "event='identify_user'") -> None:
    pipeline.sql("CREATE OR REPLACE TABLE t (u VARCHAR, v INTEGER, c TIMESTAMP)")
    for row in rows:
        pipeline.sql(f"INSERT INTO t VALUES {row}")
    pipeline.model("m", header, USER_SQL)


def versions(pipeline: Pipeline) -> list[int]:
    """Of the hashes in the snapshot."""
    path = str(pipeline.config().home / "snapshots" / "m.duckdb")
    with duckdb.connect(path, read_only=True) as connection:
        ((known,),) = connection.sql("SELECT encoders FROM meta").fetchall()
        tables = [name for (name,) in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()]
        found = {
            version
            for table in {"sent", "boundary"} & set(tables)
            for (version,) in connection.sql(f"SELECT DISTINCT encoder FROM {table}").fetchall()
        }
    assert found == set(known)
    return list(known)


def hashes_file(pipeline: Pipeline) -> Path:
    return pipeline.config().home / "snapshots" / "m.hashes.parquet"


def test_a_model_read_whole_is_rehashed_by_one_run(pipeline: Pipeline, upgrade: Callable[[], None]) -> None:
    users(pipeline, "('a', 1, NULL)", "('b', 1, NULL)", "('c', 1, NULL)")
    pipeline.good()
    assert versions(pipeline) == [1]
    upgrade()
    pipeline.sql("UPDATE t SET v = 2 WHERE u = 'b'", "INSERT INTO t VALUES ('d', 1, NULL)")
    counts = pipeline.good().counts
    assert (counts.unchanged, counts.changed, counts.added) == (2, 1, 1)
    assert versions(pipeline) == [2]
    assert not hashes_file(pipeline).exists()
    upgrade()
    assert pipeline.good().counts.unchanged == 4, "a run that sends nothing rehashes too"
    assert versions(pipeline) == [3]
    assert pipeline.good().counts.unchanged == 4
    assert len(pipeline.imported()) == 5


def test_rows_that_are_read_later_are_compared_by_their_own_version(
    pipeline: Pipeline, upgrade: Callable[[], None]
) -> None:
    header = "event='identify_user', cursor='_c', lag='1h'"
    users(pipeline, "('a', 1, '2025-01-01')", "('b', 1, '2025-01-02')", "('c', 1, '2025-01-03')", header=header)
    pipeline.good()
    upgrade()
    assert pipeline.good().counts.unchanged == 1, "only the last one is within the lag"
    assert versions(pipeline) == [1, 2]
    upgrade()
    assert pipeline.good().counts.unchanged == 1
    assert versions(pipeline) == [1, 3]
    # A loader wrote two old rows again, one of them with other content.
    pipeline.sql("UPDATE t SET c = '2025-01-04' WHERE u <> 'c'", "UPDATE t SET v = 2 WHERE u = 'b'")
    counts = pipeline.good().counts
    assert (counts.unchanged, counts.changed, counts.retimed) == (2, 1, 0)
    assert pipeline.good().counts.unchanged == 2
    assert versions(pipeline) == [3]
    assert [row["user_id"] for row in pipeline.imported()][3:] == ["b"]


def test_keyed_events(pipeline: Pipeline, upgrade: Callable[[], None]) -> None:
    pipeline.sql("CREATE TABLE e (u VARCHAR, t TIMESTAMP, v INTEGER, c BIGINT)")
    pipeline.sql("INSERT INTO e SELECT 'u' || i, TIMESTAMP '2025-05-05', 1, i FROM range(4) AS r(i)")
    pipeline.model("m", "event='track', cursor='_c', begin='all', unique_key='user_id', lag=9", EVENT_SQL)
    pipeline.good()
    upgrade()
    pipeline.sql("UPDATE e SET v = 2 WHERE u = 'u1'")
    result = pipeline.good()
    assert (result.counts.unchanged, result.counts.added) == (4, 0)
    assert result.notes == {"event_changed": 1}
    assert versions(pipeline) == [1, 2], "what was sent of the changed event is known by its old hash alone"
    assert pipeline.good().notes == {"event_changed": 1}
    pipeline.sql("UPDATE e SET v = 1")
    assert pipeline.good().notes == {}
    assert versions(pipeline) == [2]
    assert len(pipeline.imported()) == 4


def test_lines_of_events_without_key(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older program wrote its lines otherwise; ties at the bound are told apart by both texts."""
    pipeline.sql("CREATE TABLE e (u VARCHAR, t TIMESTAMP, v INTEGER, c BIGINT)")
    ties = "INSERT INTO e SELECT 'u' || i % 3, TIMESTAMP '2025-05-05', 1, 7 FROM range({}) AS r(i)"
    pipeline.sql(ties.format(9))
    pipeline.model("m", "event='track', cursor='_c', begin='all'", EVENT_SQL)
    with pytest.MonkeyPatch.context() as older:
        line = encode._Compiler.line
        older.setattr(encode._Compiler, "line", lambda self, at: SPACED.format(line(self, at)))
        pipeline.good()
    assert b'"user_id": "u' in pipeline.sandbox.imported()[0].encode()
    monkeypatch.setitem(ROW_HASHES, 1, lambda sent: f"unhex(md5({SPACED.format(sent.line)}))")
    monkeypatch.setitem(ROW_HASHES, 2, version_1)
    result = pipeline.good()
    assert (result.counts.unchanged, result.counts.added, result.warnings) == (9, 0, ())
    assert versions(pipeline) == [2]
    pipeline.sql(ties.format(2))
    assert pipeline.good().counts.added == 2
    assert pipeline.good().counts.unchanged == 11
    assert len(pipeline.imported()) == 11


def test_late_ties_arrive_in_the_run_that_upgrades(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.sql("CREATE TABLE e (u VARCHAR, t TIMESTAMP, v INTEGER, c DATE)")
    pipeline.sql("INSERT INTO e SELECT 'u' || i % 3, '2025-05-05', 1, '2025-05-05' FROM range(9) AS r(i)")
    pipeline.model("m", "event='track', cursor='_c', begin='all'", EVENT_SQL)
    with pytest.MonkeyPatch.context() as older:
        line = encode._Compiler.line
        older.setattr(encode._Compiler, "line", lambda self, at: SPACED.format(line(self, at)))
        pipeline.good()
    monkeypatch.setitem(ROW_HASHES, 1, lambda sent: f"unhex(md5({SPACED.format(sent.line)}))")
    monkeypatch.setitem(ROW_HASHES, 2, version_1)
    pipeline.sql("INSERT INTO e SELECT 'u' || i, '2025-05-05', 1, '2025-05-05' FROM range(4) AS r(i)")
    assert pipeline.good().counts.added == 4
    assert pipeline.good().counts.unchanged == 13
    assert len(pipeline.imported()) == 13


def test_refused_rows_stay_refused(pipeline: Pipeline, box: Sandbox, upgrade: Callable[[], None]) -> None:
    pipeline.configure("invalid: {stop_above: 100%}\n")
    rows = ("('', 1, NULL)", "('a', 1, NULL)", "('a', 2, NULL)", "('b', 1, NULL)", "('c', 1, NULL)")
    users(pipeline, *rows)
    box.inject("job:reject-row=b")
    assert pipeline.one().new_rejects == 4
    box.clear_faults()
    for _ in range(2):
        upgrade()
        for _ in range(2):
            result = pipeline.good()
            assert (result.counts.suppressed, result.counts.unchanged, result.new_rejects) == (4, 1, 0)
    assert len(pipeline.rejects()) == 4
    pipeline.sql(
        "UPDATE t SET v = 3 WHERE u = 'b'", "DELETE FROM t WHERE u = 'a' AND v = 1", "DELETE FROM t WHERE u = ''"
    )
    assert pipeline.good().counts.delivered == 2
    assert pipeline.rejects() == []


def test_refused_rows_without_key_stay_refused(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.configure("invalid: {stop_above: 100%}\n")
    pipeline.sql("CREATE TABLE e (u VARCHAR, t TIMESTAMP, v INTEGER, c BIGINT)")
    pipeline.sql("INSERT INTO e VALUES ('', '2025-05-05', 1, 7), ('a', '2025-05-05', 1, 7)")
    pipeline.model("m", "event='track', cursor='_c', begin='all'", EVENT_SQL)
    with pytest.MonkeyPatch.context() as older:
        line = encode._Compiler.line
        older.setattr(encode._Compiler, "line", lambda self, at: SPACED.format(line(self, at)))
        assert pipeline.one().new_rejects == 1
    monkeypatch.setitem(ROW_HASHES, 1, lambda sent: f"unhex(md5({SPACED.format(sent.line)}))")
    monkeypatch.setitem(ROW_HASHES, 2, version_1)
    for _ in range(2):
        result = pipeline.good()
        assert (result.counts.suppressed, result.counts.unchanged, result.new_rejects) == (1, 1, 0)


class Killed(BaseException):
    """Nothing catches this."""


@pytest.mark.parametrize("place", ["snapshot_written", "snapshot_published"])
def test_a_crash_in_the_middle(pipeline: Pipeline, upgrade: Callable[[], None], place: str) -> None:
    users(pipeline, "('a', 1, NULL)", "('b', 1, NULL)")
    pipeline.good()
    upgrade()
    pipeline.sql("UPDATE t SET v = 2 WHERE u = 'a'")

    def stop(name: str) -> None:
        if name == place:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "checkpoint", stop)
        with pytest.raises(Killed):
            pipeline.run()
    assert hashes_file(pipeline).exists()
    assert versions(pipeline) == ([1] if place == "snapshot_written" else [2])
    upgrade()
    assert pipeline.good().counts.unchanged == 2
    assert versions(pipeline) == [3]
    assert not hashes_file(pipeline).exists()
    assert len(pipeline.imported()) == 3


def test_what_the_old_program_delivered_is_merged_by_the_new_one(
    pipeline: Pipeline, upgrade: Callable[[], None]
) -> None:
    users(pipeline, "('a', 1, NULL)", "('b', 1, NULL)")

    def stop(name: str) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "checkpoint", stop)
        with pytest.raises(Killed):
            pipeline.run()
    upgrade()
    assert pipeline.good().counts.unchanged == 2
    assert len(pipeline.imported()) == 2


def test_a_version_that_is_not_known_stops_the_model(pipeline: Pipeline, upgrade: Callable[[], None]) -> None:
    users(pipeline, "('a', 1, NULL)")
    with pytest.MonkeyPatch.context() as newer:
        newer.setitem(ROW_HASHES, 2, salted(2))
        pipeline.good()
    result = pipeline.one()
    assert "holds row hashes of version 2" in result.message
    assert result.error is not None
    assert "state reset" in result.error.hint
    assert len(pipeline.imported()) == 1


def test_a_plan_of_the_run_that_upgrades(pipeline: Pipeline, upgrade: Callable[[], None]) -> None:
    from warehouse_sync.extraction.request import Request
    from warehouse_sync.inspection.preview import plan
    from warehouse_sync.parts import policy_of

    users(pipeline, "('a', 1, NULL)", "('b', 1, NULL)")
    pipeline.good()
    upgrade()
    config = pipeline.config()
    (seen,) = plan(config, policy_of(config, {}), pipeline.models(), pipeline.reporter, Request())
    assert (seen.counts.unchanged, seen.error) == (2, None)
    assert versions(pipeline) == [1]
    assert not hashes_file(pipeline).exists()


def test_usual_rows_stay_usual(pipeline: Pipeline, upgrade: Callable[[], None]) -> None:
    """The guard's median is that of the same mapping, whatever version wrote its hashes."""
    pipeline.configure("guard: {max_times_median: 2}\n")
    users(pipeline, *(f"('u{n}', 1, NULL)" for n in range(20)))
    pipeline.good()
    for number in range(1, 5):
        pipeline.sql(f"UPDATE t SET v = 9 WHERE u = 'u{number}'")
        assert pipeline.good().counts.changed == 1
    upgrade()
    pipeline.sql("UPDATE t SET v = 10 WHERE u <> 'u1'")
    assert "usually it is about 1" in pipeline.one().message


class Upgrading(History):
    """A history in which the program is replaced by its next version again and again."""

    def do_run(self, full: bool) -> None:
        ROW_HASHES[max(ROW_HASHES) + 1] = salted(max(ROW_HASHES) + 1)
        super().do_run(full)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case",
    [case if number in (0, 3, 12) else pytest.param(case, marks=pytest.mark.slow) for number, case in enumerate(CASES)],
    ids=name_of,
)
def test_histories_with_an_upgrade_before_each_run(
    case: Case, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[int, Any] = dict(ROW_HASHES)
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(tmp_path / "sandbox"))
        past = Upgrading(case, Pipeline(tmp_path / "project", sandbox))
        try:
            for step in [*dense_history(Random(f"{name_of(case)} {seed}")), ("run", False), ("run", False)]:
                past.step(*step)
        finally:
            ROW_HASHES.clear()
            ROW_HASHES.update(known)
