"""What is sent, what is not: duplicates, moved times, refused rows, limits, half-delivered windows, snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.extraction.reading import OpenReading
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import CursorKind, CursorValue
from warehouse_sync.warehouses.base import Engine, Source
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

USER_SQL = "select u as user_id, v as plan, at_ as inserted_at from t"
EVENT = "event='track', cursor='_c', begin='all'"
EVENT_SQL = "select u as user_id, 'opened' as event_name, t as inserted_at, c as _c from e"
LENIENT = "invalid: {stop_above: 100%, error_above: 100%}\n"


def users(pipeline: Pipeline, *rows: tuple[str, int, str | None], header: str = "event='identify_user'") -> None:
    pipeline.sql("CREATE OR REPLACE TABLE t (u VARCHAR, v INTEGER, at_ TIMESTAMP)")
    for u, v, at in rows:
        pipeline.sql(f"INSERT INTO t VALUES ('{u}', {v}, {'NULL' if at is None else repr(at)})")
    pipeline.model("m", header, USER_SQL)


def events(pipeline: Pipeline, count: int, header: str = EVENT) -> None:
    pipeline.sql("CREATE TABLE e (u VARCHAR, t TIMESTAMP, c BIGINT)")
    pipeline.sql(f"INSERT INTO e SELECT 'u' || i, TIMESTAMP '2025-05-05', i FROM range({count}) AS r(i)")
    pipeline.model("m", header, EVENT_SQL)


def ids(pipeline: Pipeline, start: int = 0) -> list[str]:
    return sorted(row["user_id"] for row in pipeline.imported(start))


# Duplicates and moved times


def test_an_older_version_never_overtakes_the_newest_one(pipeline: Pipeline) -> None:
    """The older row differs from what was sent and is not newer: its time must not be moved past the newer row's."""
    users(pipeline, ("a", 1, "2025-01-01"), ("a", 2, "2025-01-02"))
    assert pipeline.good().counts.duplicate == 1
    for _ in range(2):
        counts = pipeline.good().counts
        assert (counts.changed, counts.unchanged, counts.duplicate, counts.retimed) == (0, 1, 1, 0)
    assert [row["metadata"]["plan"] for row in pipeline.imported()] == [2]


def test_the_newest_of_several_changed_versions_is_retimed(pipeline: Pipeline) -> None:
    users(pipeline, ("a", 1, "2025-06-01"))
    pipeline.good()
    users(pipeline, ("a", 2, "2025-01-01"), ("a", 3, "2025-01-03"), ("a", 4, "2025-01-02"))
    before = datetime.now(UTC).replace(tzinfo=None)
    counts = pipeline.good().counts
    assert (counts.changed, counts.duplicate, counts.retimed) == (1, 2, 1)
    (row,) = pipeline.imported(1)
    assert row["metadata"]["plan"] == 3
    assert datetime.fromisoformat(row["inserted_at"]) >= before
    assert pipeline.good().counts.changed == 0


def test_the_plan_says_the_same_of_duplicates(pipeline: Pipeline) -> None:
    from warehouse_sync.extraction.request import Request
    from warehouse_sync.inspection.preview import plan
    from warehouse_sync.parts import policy_of

    users(pipeline, ("a", 1, "2025-06-01"), ("b", 1, "2025-01-01"))
    pipeline.good()
    users(pipeline, ("b", 1, "2025-01-01"), ("a", 2, "2025-01-01"), ("a", 3, "2025-01-03"), ("c", 1, "2025-01-01"))
    config = pipeline.config()
    (seen,) = plan(config, policy_of(config, {}), pipeline.models(), pipeline.reporter, Request())
    counts = pipeline.good().counts
    for name in ("read", "added", "changed", "unchanged", "duplicate", "retimed", "invalid"):
        assert getattr(seen.counts, name) == getattr(counts, name), name


def test_a_tie_with_other_content_is_refused_until_one_of_them_is_gone(pipeline: Pipeline) -> None:
    pipeline.configure(LENIENT)
    users(pipeline, ("a", 1, "2025-01-01"), ("a", 2, "2025-01-01"), ("b", 1, "2025-01-01"), ("b", 1, "2025-01-01"))
    counts = pipeline.good().counts
    assert (counts.added, counts.duplicate, counts.invalid) == (1, 1, 2)
    assert pipeline.reasons() == {"a": ("ambiguous_duplicate",)}
    for _ in range(3):
        again = pipeline.good()
        assert (again.counts.suppressed, again.counts.invalid, again.new_rejects) == (2, 0, 0)
    assert pipeline.reasons() == {"a": ("ambiguous_duplicate",)}
    pipeline.sql("DELETE FROM t WHERE v = 2")
    assert pipeline.good().counts.added == 1
    assert ids(pipeline) == ["a", "b"]


def test_versions_of_a_delivered_event_are_not_ambiguous(pipeline: Pipeline) -> None:
    events(pipeline, 1, EVENT + ", unique_key='user_id', lag=5")
    pipeline.good()
    pipeline.sql("INSERT INTO e VALUES ('u0', TIMESTAMP '2025-06-06', 0), ('u0', TIMESTAMP '2025-07-07', 0)")
    counts = pipeline.good().counts
    assert (counts.unchanged, counts.duplicate, counts.invalid) == (1, 2, 0)
    assert pipeline.rejects() == []


def test_a_refused_row_does_not_stand_for_its_key_in_any_run(pipeline: Pipeline) -> None:
    pipeline.configure(LENIENT)
    pipeline.sql("CREATE TABLE t (u VARCHAR, v INTEGER, at_ TIMESTAMP, kind VARCHAR)")
    pipeline.sql("INSERT INTO t VALUES ('a', 1, '2025-01-01', 'identify_user'), ('a', 2, '2025-02-01', 'nonsense')")
    pipeline.model("m", "event='identify_user'", USER_SQL.replace(" from", ", kind as event_type from"))
    assert pipeline.good().counts.added == 1
    pipeline.sql("UPDATE t SET v = 3 WHERE v = 1")
    counts = pipeline.good().counts
    assert (counts.changed, counts.suppressed + counts.invalid, counts.duplicate) == (1, 1, 0)
    assert pipeline.imported()[-1]["metadata"]["plan"] == 3


# Refused rows


def test_a_line_that_is_too_long_is_refused_once_and_goes_when_it_is_short(pipeline: Pipeline) -> None:
    pipeline.configure("batch: {max_line: 1kB}\n" + LENIENT)
    pipeline.sql("CREATE TABLE t (u VARCHAR, v VARCHAR)", "INSERT INTO t VALUES ('a', repeat('x', 2000)), ('b', 'x')")
    pipeline.model("m", "event='identify_user'", "select u as user_id, v as text from t")
    first, second = pipeline.good(), pipeline.good()
    assert (first.counts.added, first.counts.invalid, first.new_rejects) == (1, 1, 1)
    assert (second.counts.unchanged, second.counts.suppressed, second.new_rejects) == (1, 1, 0)
    assert pipeline.reasons() == {"a": ("line_too_long",)}
    pipeline.sql("UPDATE t SET v = 'short' WHERE u = 'a'")
    assert pipeline.good().counts.added == 1
    assert pipeline.rejects() == []


def test_rows_that_the_api_refused_are_not_sent_again_as_they_are(pipeline: Pipeline, box: Sandbox) -> None:
    users(pipeline, ("a", 1, "2025-01-01"), ("b", 1, "2025-01-01"))
    box.inject("job:reject-row=a")
    pipeline.one()
    assert ids(pipeline) == ["b"]
    counts = pipeline.good().counts
    assert (counts.suppressed, counts.unchanged) == (1, 1)
    box.clear_faults()
    pipeline.sql("UPDATE t SET v = 2 WHERE u = 'a'")
    assert pipeline.good().counts.delivered == 1
    assert pipeline.rejects() == []
    assert ids(pipeline) == ["a", "b"]


def test_an_event_that_the_api_refused_goes_once_it_is_mended(pipeline: Pipeline, box: Sandbox) -> None:
    events(pipeline, 2, EVENT)
    pipeline.model("m", EVENT + ", unique_key='user_id', lag=5", EVENT_SQL.replace(" from", ", t as p from"))
    box.inject("job:reject-row=u1")
    pipeline.one()
    box.clear_faults()
    assert pipeline.good().counts.suppressed == 1
    pipeline.sql("UPDATE e SET t = '2025-06-06' WHERE u = 'u1'")
    assert pipeline.good().counts.delivered == 1
    assert ids(pipeline) == ["u0", "u1"]
    assert pipeline.good().counts.unchanged == 2


def test_a_change_after_a_time_ahead_is_later_still(pipeline: Pipeline) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=20)).replace(tzinfo=None)
    users(pipeline, ("a", 1, str(ahead)))
    pipeline.good()
    users(pipeline, ("a", 2, "2025-01-01"))
    assert pipeline.good().counts.retimed == 1
    first, second = (row["inserted_at"] for row in pipeline.imported())
    assert second > first


def test_too_many_invalid_rows_stop_a_model_before_anything_is_sent(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {stop_above: 1}\n")
    users(pipeline, ("a", 1, "2025-01-01"), ("", 1, "2025-01-01"), (" ", 1, "2025-01-01"))
    result = pipeline.one()
    assert str(result.status) == "error"
    assert "stop_above" in result.message
    assert pipeline.imported() == []
    assert list((pipeline.config().home / "outbox").rglob("*.ndjson")) == []
    assert pipeline.rejects() == []
    pipeline.sql("UPDATE t SET u = 'b' WHERE u = ' '")
    assert pipeline.one().counts.added == 2


# Windows that were delivered in part


@pytest.mark.parametrize("seen", [0, 5])
def test_a_limited_run_of_events_is_not_repeated(pipeline: Pipeline, seen: int) -> None:
    events(pipeline, seen)
    if seen:
        pipeline.good()
    pipeline.sql("INSERT INTO e SELECT 'n' || i, TIMESTAMP '2025-05-05', 100 + i FROM range(10) AS r(i)")
    assert pipeline.good(limit=7).counts.delivered > 0
    assert pipeline.good().counts.delivered > 0
    assert len(set(ids(pipeline))) == len(pipeline.imported()) == seen + 10


def half_sent(pipeline: Pipeline, header: str, seen: int = 0) -> None:
    """A window of ten events, those that were `seen` before among them, and three others delivered."""
    pipeline.configure("batch: {max_rows: 3}\njob: {max_rows: 3}\n")
    events(pipeline, 10, header)
    interrupt_after(pipeline, 1)
    assert len(pipeline.imported()) == seen + 3


def test_events_without_a_key_that_changed_half_way_wait_for_somebody(pipeline: Pipeline) -> None:
    """Their lines are others now, so nothing tells which of them were delivered."""
    half_sent(pipeline, EVENT)
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", c as plan from"))
    # A full refresh is passed over here: `full_refresh` is false for events unless their header says otherwise.
    for options in ({}, {"limit": 5}, {"full_refresh": True}):
        result = pipeline.one(**options)
        assert str(result.status) == "error"
        assert "nobody can tell which" in result.message
    assert len(pipeline.imported()) == 3
    pipeline.model("m", EVENT, EVENT_SQL)
    pipeline.good()
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", c as plan from"))
    pipeline.good()
    assert ids(pipeline) == sorted(f"u{i}" for i in range(10))


@pytest.mark.parametrize("seen", [0, 2])
@pytest.mark.parametrize("way", ["full refresh", "reset"])
def test_events_without_a_key_that_changed_half_way_are_sent_again_when_asked(
    pipeline: Pipeline, way: str, seen: int
) -> None:
    if seen:
        events(pipeline, seen)
        pipeline.good()
        pipeline.sql("DROP TABLE e")
    half_sent(pipeline, EVENT, seen)
    pipeline.model("m", EVENT + ", full_refresh=True", EVENT_SQL.replace(" from", ", c as plan from"))
    if way == "reset":
        error = pipeline.one().error
        assert error is not None
        assert (
            "`warehouse-sync state reset m --cursor VALUE`" if seen else "`warehouse-sync state reset m`"
        ) in error.hint
        with open_store(pipeline.config().state.url.get_secret_value()) as store:
            if seen:
                store.by_hand.set_cursor("prod", "m", CursorValue(CursorKind.INTEGER, "5"))
            else:
                store.by_hand.reset("prod", "m")
                (pipeline.config().home / "snapshots" / "m.duckdb").unlink()
    again = 5 if way == "reset" and seen else 10
    assert pipeline.good(full_refresh=way == "full refresh").counts.delivered == again
    assert pipeline.good().counts.delivered == 0
    assert len(pipeline.imported()) == seen + 3 + again


AHEAD: dict[str, dict[str, Any]] = {
    "limit": {"limit": 4},
    "backfill": {"start": "3", "end": "8"},
}


@pytest.mark.parametrize("asked", AHEAD)
@pytest.mark.parametrize("seen", [0, 2])
def test_events_without_a_key_that_changed_after_a_part_was_asked_for(
    pipeline: Pipeline, asked: str, seen: int
) -> None:
    """What was sent ahead of the cursor is told apart by its line, which is another one now."""
    events(pipeline, seen)
    if seen:
        pipeline.good()
    pipeline.sql("INSERT INTO e SELECT 'n' || i, TIMESTAMP '2025-05-05', i FROM range(2, 10) AS r(i)")
    pipeline.good(**AHEAD[asked])
    if seen:
        # Another part, behind the cursor, says nothing about the one ahead of it.
        pipeline.good(start="0", end="1")
    sent = len(pipeline.imported())
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", c as plan from"))
    result = pipeline.one()
    assert str(result.status) == "error"
    assert "nobody can tell which" in result.message
    assert len(pipeline.imported()) == sent
    pipeline.model("m", EVENT, EVENT_SQL)
    pipeline.good()
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", c as plan from"))
    pipeline.good()
    assert set(ids(pipeline)) == {f"u{i}" for i in range(seen)} | {f"n{i}" for i in range(2, 10)}
    assert len(pipeline.imported()) == 8 + seen + (1 if seen else 0)


def test_a_part_that_was_sent_long_ago_stops_no_change(pipeline: Pipeline) -> None:
    events(pipeline, 5)
    pipeline.good(limit=3)
    pipeline.good()
    with open_store(pipeline.config().state.url.get_secret_value()) as store:
        store.by_hand.set_cursor("prod", "m", CursorValue(CursorKind.INTEGER, "1"))
    pipeline.model("m", EVENT + ", slice=1", EVENT_SQL)
    interrupt_after(pipeline, 1)
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", c as plan from"))
    assert pipeline.good().counts.delivered > 0


@pytest.mark.parametrize("header", [EVENT + ", unique_key='user_id'", EVENT + ", always=True"])
def test_events_that_changed_half_way_and_can_be_told_apart_go_on(pipeline: Pipeline, header: str) -> None:
    half_sent(pipeline, header)
    pipeline.model("m", header, EVENT_SQL.replace(" from", ", c as plan from"))
    pipeline.good()
    assert set(ids(pipeline)) == {f"u{i}" for i in range(10)}
    assert len(pipeline.imported()) == (13 if "always" in header else 10)


def test_another_key_half_way_is_an_error(pipeline: Pipeline) -> None:
    half_sent(pipeline, EVENT + ", unique_key='user_id'")
    pipeline.model("m", EVENT + ", unique_key=['user_id', '_c']", EVENT_SQL)
    result = pipeline.one()
    assert str(result.status) == "error"
    assert "`unique_key` was user_id and is now user_id, _c" in result.message
    assert len(pipeline.imported()) == 3


def test_another_name_half_way_is_noticed(pipeline: Pipeline) -> None:
    half_sent(pipeline, EVENT + ", unique_key='user_id'")
    models = pipeline.folder / "models_sql"
    (models / "m.sql").rename(models / "n.sql")
    result = pipeline.one(enabled=frozenset({"n"}))
    assert "`m`, which is gone or disabled, has sent the same rows" in result.message
    assert len(pipeline.imported()) == 3


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("seen", [0, 2])
def test_events_of_a_window_that_lost_a_file_are_not_sent_twice(
    pipeline: Pipeline, box: Sandbox, keyed: bool, seen: int
) -> None:
    pipeline.configure("batch: {max_rows: 3}\njob: {max_rows: 3}\n")
    events(pipeline, seen, EVENT + (", unique_key='user_id'" if keyed else ""))
    if seen:
        pipeline.good()
    pipeline.sql("INSERT INTO e SELECT 'n' || i, TIMESTAMP '2025-05-05', 100 + i FROM range(10) AS r(i)")
    done = len(pipeline.imported())
    # One job goes through, then the key is refused: the rest waits.
    interrupt_after(pipeline, 1)
    assert len(pipeline.imported()) == done + 3
    sealed = sorted((pipeline.config().home / "outbox").rglob("*.ndjson"))
    sealed[-1].unlink()
    report = pipeline.run()
    assert report.exit_code == 0, [result.message for result in report.results]
    pipeline.good()
    assert len(set(ids(pipeline))) == len(pipeline.imported()) == done + 10


def interrupt_after(pipeline: Pipeline, jobs: int) -> None:
    """A run that the API stops with 401 after some jobs."""
    from warehouse_sync.userpilot.client import Client

    upload, count = Client.upload, 0

    def stopping(self: Client, *words: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count > jobs:
            pipeline.sandbox.inject("upload:401")
        return upload(self, *words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "upload", stopping)
        report = pipeline.run()
    assert report.exit_code == 1
    assert report.results[0].counts.waiting > 0


# Keys


def test_keys_of_several_columns_do_not_run_into_each_other(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t (a VARCHAR, b VARCHAR, v INTEGER)")
    pairs = [("1", "11"), ("11", "1"), ('1","1', ""), ("1", '"1'), ("", '1","1'), ("é", "\u2028"), ("a\\", '"b')]
    for number, (a, b) in enumerate(pairs):
        pipeline.sql(f"INSERT INTO t VALUES ('{a}', '{b}', {number})")
    pipeline.model("m", "event='identify_user', unique_key=['a', 'b']", "select a, b, v, 'u' || v as user_id from t")
    assert pipeline.good().counts.added == len(pairs)
    pipeline.sql("UPDATE t SET v = v + 10 WHERE a = '1'")
    counts = pipeline.good().counts
    assert (counts.changed, counts.unchanged) == (2, len(pairs) - 2)


# Snapshots


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("spoil", ["missing", "older", "damaged"])
def test_a_snapshot_that_is_not_what_the_state_knows_stops_the_model(
    pipeline: Pipeline, keyed: bool, spoil: str
) -> None:
    events(pipeline, 3, EVENT + (", unique_key='user_id'" if keyed else ""))
    pipeline.good()
    path = pipeline.config().home / "snapshots" / "m.duckdb"
    older = path.read_bytes()
    pipeline.sql("INSERT INTO e VALUES ('new', TIMESTAMP '2025-05-05', 50)")
    pipeline.good()
    spoilt: dict[str, Callable[[], Any]] = {
        "missing": path.unlink,
        "older": lambda: path.write_bytes(older),
        "damaged": lambda: path.write_bytes(b"nonsense"),
    }
    spoilt[spoil]()
    pipeline.sql("INSERT INTO e VALUES ('newer', TIMESTAMP '2025-05-05', 51)")
    result = pipeline.one()
    assert str(result.status) == "error"
    assert result.error is not None
    assert "state reset m" in f"{result.error}{result.error.hint}" or spoil == "damaged"
    assert len(pipeline.imported()) == 4


# The plan of the comparing query


def as_arrow(warehouse: DuckDBWarehouse, sql: str) -> Source:
    """The rows of a DuckDB warehouse as other warehouses hand them over: an Arrow stream of unknown length."""
    engine = Engine().connect()
    engine.register("rows_of_the_warehouse", warehouse.connection.sql(sql).to_arrow_reader(2048))
    return Source(engine, "rows_of_the_warehouse", streams=True)


@pytest.mark.parametrize("event", ["identify_user", "track"])
def test_a_stream_is_never_the_build_side(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, event: str) -> None:
    """DuckDB takes an Arrow stream for one row; building on it would hold every row of the warehouse in memory."""
    pipeline.configure(LENIENT)
    pipeline.sql(
        "CREATE TABLE t AS SELECT i AS id, i % 7 AS v FROM range(5000) AS r(i)", "INSERT INTO t VALUES (NULL, 1)"
    )
    more = "" if event == "identify_user" else ", 'x' as event_name, timestamp '2025-05-05' as inserted_at"
    header = f"event='{event}'" + ("" if event == "identify_user" else ", cursor='_c', begin='all'")
    pipeline.model("m", header, f"select id as user_id, v, coalesce(id, 0) // 5000 as _c{more} from t")
    pipeline.good()
    plans: list[str] = []
    rows = OpenReading.rows

    def seen(self: OpenReading, max_line: int) -> Any:
        plans.append(self.source.connection.sql(f"EXPLAIN (FORMAT json) {self.statement(max_line)}").fetchall()[0][1])
        return rows(self, max_line)

    monkeypatch.setattr(DuckDBWarehouse, "open", as_arrow)
    monkeypatch.setattr(OpenReading, "rows", seen)
    counts = pipeline.good().counts
    assert (counts.unchanged, counts.suppressed) == (5000, 1)
    (plan,) = (json.loads(text) for text in plans)
    assert build_sides(plan), "nothing was compared"
    assert not any("ARROW" in side for side in build_sides(plan)), plan


def build_sides(node: Any) -> list[str]:
    """The right, which is the build side of every join of a plan."""
    if isinstance(node, list):
        return [side for child in node for side in build_sides(child)]
    children = node.get("children", [])
    own = [json.dumps(children[1]).upper()] if "JOIN" in node.get("name", "").upper() and len(children) == 2 else []
    return own + build_sides(children)


def test_arrow_sources_import_what_a_duckdb_file_does(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuckDBWarehouse, "open", as_arrow)
    users(pipeline, ("a", 1, "2025-01-01"), ("b", 1, None), ("a", 2, "2025-01-02"))
    assert pipeline.good().counts.added == 2
    counts = pipeline.good().counts
    assert (counts.unchanged, counts.duplicate) == (2, 1)


# Properties


def test_a_property_that_is_gone_or_retyped_stops_its_model(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t (u VARCHAR, v INTEGER)", "INSERT INTO t VALUES ('u1', 1)")
    header, sql = "event='identify_user'", "select u as user_id, {} from t"
    pipeline.model("m", header, sql.format("v as seats, v as rank"))
    assert pipeline.good().counts.delivered == 1
    for changed, says in (("v as seats", "no longer sent: rank"), ("v as rank, u as seats", "changed type: seats")):
        pipeline.model("m", header, sql.format(changed))
        result = pipeline.one()
        assert says in result.message
        assert str(result.status) == "error"
    assert len(pipeline.imported()) == 1, "nothing is sent"
    pipeline.model("m", header + ", dropped=['rank']", sql.format("v as seats, v as more"))
    result = pipeline.good()
    assert result.counts.changed == 1
    assert any("new properties: more" in warning for warning in result.warnings)
    pipeline.model("m", header + ", dropped=['rank', 'seats']", sql.format("u as seats, v as more"))
    assert pipeline.good().counts.changed == 1
