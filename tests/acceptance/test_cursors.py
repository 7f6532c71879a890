"""Cursors, a trap a test: ties, late rows, precision, typos, time zones, beginnings, other headers (pains 1, 4, 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.changes.window import FUTURE
from warehouse_sync.state.store import open_store
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

EVENT = "event='track', cursor='_c', begin='all'"
EVENT_SQL = "select u as user_id, 'opened' as event_name, t as inserted_at, c as _c from e"
USER = "event='identify_user', cursor='_c'"
USER_SQL = "select u as user_id, v as plan, c as _c from t"


def keyless(pipeline: Pipeline, kind: str, header: str = EVENT) -> None:
    pipeline.sql(f"CREATE TABLE e (u VARCHAR, t TIMESTAMP, c {kind})")
    pipeline.model("m", header, EVENT_SQL)


def users(pipeline: Pipeline, kind: str, header: str = USER) -> None:
    pipeline.sql(f"CREATE TABLE t (u VARCHAR, v INTEGER, c {kind})")
    pipeline.model("m", header, USER_SQL)


def ids(pipeline: Pipeline, start: int = 0) -> list[str]:
    return sorted(row["user_id"] for row in pipeline.imported(start))


# Ties and late rows (pain 1)


def test_thousands_of_ties_at_the_bound_in_several_batches_and_late_rows_among_them(pipeline: Pipeline) -> None:
    pipeline.configure("batch: {max_rows: 1000}\njob: {max_rows: 3000}\n")
    keyless(pipeline, "TIMESTAMP")
    moment = "TIMESTAMP '2025-05-05 10:00:00.000001'"
    pipeline.sql(f"INSERT INTO e SELECT 'u' || i % 100, TIMESTAMP '2025-05-05', {moment} FROM range(4500) AS r(i)")
    first = pipeline.good()
    assert (first.counts.added, first.counts.batches, first.counts.jobs) == (4500, 5, 2)
    again = pipeline.good()
    assert (again.counts.read, again.counts.unchanged, again.counts.added) == (4500, 4500, 0)
    # 60 rows in the same microsecond, half of them equal to rows that were delivered.
    pipeline.sql(f"INSERT INTO e SELECT 'u' || i % 30, TIMESTAMP '2025-05-05', {moment} FROM range(30) AS r(i)")
    pipeline.sql(f"INSERT INTO e SELECT 'n' || i, TIMESTAMP '2025-05-05', {moment} FROM range(30) AS r(i)")
    assert pipeline.good().counts.added == 60
    assert len(pipeline.imported()) == 4560
    assert pipeline.good().counts.added == 0
    # The bound moves on: what was kept for the old one does not grow.
    pipeline.sql("INSERT INTO e VALUES ('last', TIMESTAMP '2025-05-05', TIMESTAMP '2025-05-05 10:00:00.000002')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.read == 1
    assert boundary_rows(pipeline) == 1


def boundary_rows(pipeline: Pipeline) -> int:
    import duckdb

    path = pipeline.config().home / "snapshots" / "m.duckdb"
    with duckdb.connect(str(path), read_only=True) as connection:
        return int(connection.sql("SELECT count(*) FROM boundary").fetchall()[0][0])


def test_a_changed_model_without_a_key_leaves_its_bound_alone_until_the_cursor_moves(pipeline: Pipeline) -> None:
    """Rows at the bound have other lines now: they are passed over in every run, not only in the next one."""
    keyless(pipeline, "DATE")
    pipeline.sql("INSERT INTO e SELECT 'u' || i, TIMESTAMP '2025-05-05', DATE '2025-05-05' FROM range(5) AS r(i)")
    pipeline.good()
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", 1 as plan from"))
    assert "not read again" in " ".join(pipeline.good().warnings)
    pipeline.good(start="2024-01-01", end="2024-01-02")
    for _ in range(2):
        assert pipeline.good().counts.read == 0
    pipeline.sql("INSERT INTO e VALUES ('new', TIMESTAMP '2025-05-06', DATE '2025-05-06')")
    assert pipeline.good().counts.added == 1
    pipeline.sql("INSERT INTO e VALUES ('late', TIMESTAMP '2025-05-06', DATE '2025-05-06')")
    late = pipeline.good()
    assert (late.counts.read, late.counts.added) == (2, 1)
    assert ids(pipeline) == ["late", "new", "u0", "u1", "u2", "u3", "u4"]


def test_a_cursor_that_a_person_put_back_is_read_from_there_on(pipeline: Pipeline) -> None:
    from warehouse_sync.values import CursorKind, CursorValue

    keyless(pipeline, "DATE")
    pipeline.sql("INSERT INTO e SELECT 'u' || i, TIMESTAMP '2025-05-05', DATE '2025-05-05' FROM range(5) AS r(i)")
    pipeline.good()
    pipeline.model("m", EVENT, EVENT_SQL.replace(" from", ", 1 as plan from"))
    with open_store(pipeline.config().state.url.get_secret_value()) as store:
        store.by_hand.set_cursor("prod", "m", CursorValue(CursorKind.DATE, "2025-05-05"))
    assert pipeline.good().counts.delivered == 5
    assert pipeline.good().counts.delivered == 0
    assert [row["metadata"] for row in pipeline.imported(5)] == [{"plan": 1}] * 5


def test_an_equal_event_at_a_later_cursor_is_another_event(pipeline: Pipeline) -> None:
    keyless(pipeline, "TIMESTAMP")
    pipeline.sql("INSERT INTO e VALUES ('a', TIMESTAMP '2025-05-05', TIMESTAMP '2025-05-05 10:00:00')")
    pipeline.good()
    # An invalid row moves the cursor and nothing is delivered with it.
    pipeline.sql("INSERT INTO e VALUES ('', TIMESTAMP '2025-05-05', TIMESTAMP '2025-05-05 11:00:00')")
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    pipeline.good()
    pipeline.sql("INSERT INTO e VALUES ('a', TIMESTAMP '2025-05-05', TIMESTAMP '2025-05-05 11:00:00')")
    assert pipeline.good().counts.added == 1
    assert ids(pipeline) == ["a", "a"]


def test_a_late_commit_comes_within_the_lag_and_not_beyond_it(pipeline: Pipeline) -> None:
    users(pipeline, "TIMESTAMP", USER + ", lag='15m'")
    pipeline.sql("INSERT INTO t VALUES ('a', 1, TIMESTAMP '2025-05-05 10:00')")
    pipeline.good()
    pipeline.sql("INSERT INTO t VALUES ('late', 1, TIMESTAMP '2025-05-05 09:45')")
    pipeline.sql("INSERT INTO t VALUES ('too late', 1, TIMESTAMP '2025-05-05 09:44:59.999999')")
    assert pipeline.good().counts.added == 1
    assert ids(pipeline) == ["a", "late"]


# Precision and typos


def test_nanoseconds_neither_lose_nor_repeat_rows(pipeline: Pipeline) -> None:
    keyless(pipeline, "TIMESTAMP_NS")
    for last in (1, 2, 999):
        pipeline.sql(
            f"INSERT INTO e VALUES ('n{last}', TIMESTAMP '2025-05-05', '2025-05-05 10:00:00.123456{last:03d}')"
        )
        assert pipeline.good().counts.added == 1
        assert pipeline.cursor() == f"2025-05-05 10:00:00.123456{last:03d}"
    assert pipeline.good().counts.read == 1


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS"])
@pytest.mark.parametrize("identify", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_typo_of_the_year_waits_and_does_not_move_the_cursor(pipeline: Pipeline, kind: str, identify: bool) -> None:
    (users if identify else keyless)(pipeline, kind)
    table, middle = ("t", "1") if identify else ("e", "TIMESTAMP '2025-05-05'")
    pipeline.sql(f"INSERT INTO {table} VALUES ('now', {middle}, '2025-05-05 10:00'), ('typo', {middle}, '2206-05-05')")
    result = pipeline.good()
    assert (result.counts.added, result.counts.future) == (1, 1)
    assert (pipeline.cursor() or "").startswith("2025-05-05 10:00:00")
    assert pipeline.good().counts.future == 1
    pipeline.sql(f"UPDATE {table} SET c = '2025-05-05 10:01' WHERE u = 'typo'")
    assert pipeline.good().counts.added == 1
    assert ids(pipeline) == ["now", "typo"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TIMESTAMP", "'12024-01-01'"),
        ("TIMESTAMP", "'infinity'"),
        *(pytest.param(kind, "'infinity'", marks=pytest.mark.slow) for kind in ("TIMESTAMPTZ", "TIMESTAMP_MS", "DATE")),
        ("TIMESTAMP_NS", "'infinity'"),
        ("TIMESTAMP_S", "'12024-01-01'"),
        ("DATE", "'12024-01-01'"),
    ],
)
@pytest.mark.parametrize("alone", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_impossible_times_ahead_wait_too(pipeline: Pipeline, kind: str, value: str, alone: bool) -> None:
    users(pipeline, kind)
    pipeline.sql(f"INSERT INTO t VALUES ('typo', 1, {value})")
    if not alone:
        pipeline.sql("INSERT INTO t VALUES ('now', 1, '2025-05-05')")
    result = pipeline.good()
    assert (result.counts.added, result.counts.future) == (0 if alone else 1, 1)
    assert pipeline.good().counts.future == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, "'-infinity'") for kind in ("TIMESTAMP", "DATE", "TIMESTAMP_NS")),
        *(
            pytest.param(kind, "'-infinity'", marks=pytest.mark.slow)
            for kind in ("TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS")
        ),
        ("TIMESTAMP", "'0044-03-15 (BC)'"),
        *(pytest.param(kind, "'0044-03-15 (BC)'", marks=pytest.mark.slow) for kind in ("DATE", "TIMESTAMP_S")),
        pytest.param("TIMESTAMP", "'0001-01-01'", marks=pytest.mark.slow),
        ("TIMESTAMP_NS", "'1677-09-22'"),
    ],
)
def test_impossible_times_behind_are_read_like_all_others(pipeline: Pipeline, kind: str, value: str) -> None:
    users(pipeline, kind)
    pipeline.sql(f"INSERT INTO t VALUES ('old', 1, {value})")
    assert pipeline.good().counts.added == 1, "also as the only row there is"
    assert pipeline.good().counts.added == 0
    pipeline.sql("INSERT INTO t VALUES ('now', 1, '2025-05-05')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.added == 0
    assert ids(pipeline) == ["now", "old"]


def test_a_date_cursor_reads_a_whole_day_again(pipeline: Pipeline) -> None:
    keyless(pipeline, "DATE")
    pipeline.sql("INSERT INTO e SELECT 'u' || i, TIMESTAMP '2025-05-05', DATE '2025-05-05' FROM range(20000) AS r(i)")
    assert pipeline.good().counts.added == 20000
    pipeline.sql("INSERT INTO e SELECT 'n' || i, TIMESTAMP '2025-05-05', DATE '2025-05-05' FROM range(50) AS r(i)")
    assert pipeline.good().counts.added == 50
    assert pipeline.good().counts.unchanged == 20050
    pipeline.sql("INSERT INTO e VALUES ('next', TIMESTAMP '2025-05-06', DATE '2025-05-06')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.read == 1


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        pytest.param("TINYINT", ["-128", "-1", "127"], marks=pytest.mark.slow),
        ("BIGINT", ["-9223372036854775808", "0", "9223372036854775807"]),
        pytest.param("UBIGINT", ["0", "9", "10", "18446744073709551615"], marks=pytest.mark.slow),
        ("HUGEINT", ["-5", "9", "10", "99999999999999999999999999999999999999"]),
        pytest.param(
            "DECIMAL(38,0)", ["-5", "9", "10", "99999999999999999999999999999999999999"], marks=pytest.mark.slow
        ),
        ("VARCHAR", ["''", "'A'", "'a''b'", "'é'", "'😀'"]),
        ("VARCHAR COLLATE NOCASE", ["'A'", "'C'", "'D'", "'a'", "'b'", "'d'"]),
        pytest.param("VARCHAR COLLATE DE", ["'Z'", "'a'", "'b'", "'z'", "'Ä'"], marks=pytest.mark.slow),
        ("ENUM ('low', 'high', 'Alpha', 'zero')", ["'Alpha'", "'high'", "'low'", "'zero'"]),
        pytest.param(
            "UUID",
            ["'00000000-0000-0000-0000-000000000001'", "'f0000000-0000-0000-0000-000000000001'"],
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.parametrize("identify", [pytest.param(True, marks=pytest.mark.slow), False])
def test_every_type_of_cursor(pipeline: Pipeline, kind: str, values: list[str], identify: bool) -> None:
    (users if identify else keyless)(pipeline, kind)
    table, middle = ("t", "1") if identify else ("e", "TIMESTAMP '2025-05-05'")
    for number, value in enumerate(values):
        pipeline.sql(f"INSERT INTO {table} VALUES ('u{number}', {middle}, {value})")
        assert pipeline.good().counts.added == 1, value
        assert pipeline.good().counts.added == 0, value
    assert len(pipeline.imported()) == len(values)


# Time zones (pain 4)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
def test_naive_cursors_follow_the_clock_of_the_models_zone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Rows of the last minutes are neither taken for future ones nor skipped, in any zone."""
    from zoneinfo import ZoneInfo

    pipeline.configure(f"models: {{timezone: {zone}}}\n")
    users(pipeline, "TIMESTAMP")
    now = datetime.now(UTC)
    for minutes, future in ((-1, 0), (0, 0), (55, 0), (65, 1)):
        local = (now + timedelta(minutes=minutes)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        pipeline.sql(f"INSERT INTO t VALUES ('u{minutes}', 1, '{local}')")
        assert pipeline.good().counts.future == future


def test_the_hour_that_comes_twice(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Berlin, 2025-10-26 has 02:00-03:00 twice: naive cursors run back by an hour, and the lag covers it."""
    pipeline.configure("models: {timezone: Europe/Berlin}\n")
    users(pipeline, "TIMESTAMP")
    clock = datetime(2025, 10, 25, 23, 30, tzinfo=UTC)
    monkeypatch.setattr(DuckDBWarehouse, "now", lambda _: clock)
    for number in range(12):
        local = (clock + timedelta(hours=2 if clock < datetime(2025, 10, 26, 1, tzinfo=UTC) else 1)).replace(
            tzinfo=None
        )
        pipeline.sql(f"INSERT INTO t VALUES ('u{number:02d}', 1, '{local}')")
        result = pipeline.good()
        assert (result.counts.added, result.counts.future) == (1, 0), local
        clock += timedelta(minutes=15)
    assert len(pipeline.imported()) == 12


def test_the_hour_that_does_not_come(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.configure("models: {timezone: Europe/Berlin}\n")
    users(pipeline, "TIMESTAMP")
    clock = datetime(2025, 3, 30, 0, 15, tzinfo=UTC)
    monkeypatch.setattr(DuckDBWarehouse, "now", lambda _: clock)
    for number in range(8):
        local = (clock + timedelta(hours=1 if clock < datetime(2025, 3, 30, 1, tzinfo=UTC) else 2)).replace(tzinfo=None)
        pipeline.sql(f"INSERT INTO t VALUES ('u{number:02d}', 1, '{local}')")
        assert pipeline.good().counts.added == 1, local
        clock += timedelta(minutes=15)


@pytest.mark.parametrize(
    ("zone", "clock", "today"),
    [
        ("Pacific/Kiritimati", datetime(2025, 10, 25, 23, 30, tzinfo=UTC), "2025-10-26"),
        ("America/New_York", datetime(2025, 11, 2, 4, 30, tzinfo=UTC), "2025-11-02"),
        ("America/New_York", datetime(2025, 11, 2, 2, 30, tzinfo=UTC), "2025-11-01"),
        ("Europe/Berlin", datetime(2025, 3, 29, 23, 30, tzinfo=UTC), "2025-03-30"),
    ],
)
def test_days_end_with_the_clock_of_the_models_zone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, zone: str, clock: datetime, today: str
) -> None:
    pipeline.configure(f"models: {{timezone: {zone}}}\n")
    users(pipeline, "DATE")
    monkeypatch.setattr(DuckDBWarehouse, "now", lambda _: clock)
    pipeline.sql(f"INSERT INTO t VALUES ('today', 1, '{today}'), ('tomorrow', 1, DATE '{today}' + 1)")
    result = pipeline.good()
    assert (result.counts.added, result.counts.future) == (1, 1)
    assert pipeline.cursor() == today
    monkeypatch.setattr(DuckDBWarehouse, "now", lambda _: clock + timedelta(days=1))
    assert pipeline.good().counts.added == 1


def test_aware_cursors_know_no_summer(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lag of an hour is an hour, on the nights on which the clocks are changed too."""
    pipeline.configure("models: {timezone: Europe/Berlin}\n")
    users(pipeline, "TIMESTAMPTZ", USER + ", lag='1h'")
    for clock in (datetime(2025, 3, 30, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC)):
        monkeypatch.setattr(DuckDBWarehouse, "now", lambda _, clock=clock: clock)
        before = len(pipeline.imported())
        pipeline.sql(f"INSERT INTO t VALUES ('now {clock}', 1, '{clock}')")
        assert pipeline.good().counts.added == 1
        for minutes, added in ((60, 1), (61, 0)):
            pipeline.sql(f"INSERT INTO t VALUES ('{minutes} {clock}', 1, '{clock - timedelta(minutes=minutes)}')")
            assert pipeline.good().counts.added == added
        assert len(pipeline.imported()) == before + 2


# NULL cursors (pain 5)


def test_null_cursors_are_told_apart_by_the_header(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    pipeline.sql("CREATE TABLE t (u VARCHAR, v INTEGER, c TIMESTAMP)")
    pipeline.sql("INSERT INTO t VALUES ('dated', 1, '2025-05-05'), ('null', 1, NULL)")
    for policy in ("reject", "skip", "include"):
        pipeline.model(policy, USER + f", null_cursor='{policy}', partial=true", USER_SQL)
    counts = {result.model: result.counts for result in pipeline.run().results}
    assert (counts["reject"].invalid, counts["skip"].read, counts["include"].added) == (1, 1, 2)
    assert pipeline.reasons("reject") == {"null": ("null_cursor",)}
    counts = {result.model: result.counts for result in pipeline.run().results}
    assert (counts["reject"].suppressed, counts["skip"].read, counts["include"].unchanged) == (1, 1, 2)
    pipeline.sql("UPDATE t SET v = 2 WHERE u = 'null'", "UPDATE t SET c = '2025-05-06' WHERE u = 'null'")
    assert all(str(result.status) == "success" for result in pipeline.run().results)
    assert pipeline.reasons("reject") == {}


def test_a_window_of_nothing_but_null_cursors_ends_no_read(pipeline: Pipeline) -> None:
    users(pipeline, "TIMESTAMP", USER + ", null_cursor='include'")
    pipeline.sql("INSERT INTO t VALUES ('a', 1, NULL), ('b', 1, NULL)")
    assert pipeline.good().counts.added == 2
    assert pipeline.cursor() is None
    pipeline.sql("INSERT INTO t VALUES ('c', 1, NULL), ('d', 1, '2025-05-05')")
    assert pipeline.good().counts.added == 2
    assert pipeline.good().counts.unchanged == 4


# Beginnings


@pytest.mark.parametrize(
    ("kind", "begin", "old", "new"),
    [
        ("TIMESTAMP", "2025-01-01", "'2024-12-31 23:59:59.999999'", "'2025-01-01'"),
        ("TIMESTAMPTZ", "2025-01-01T01:00:00+01:00", "'2024-12-31 23:59:59+00'", "'2025-01-01 00:00:00+00'"),
        ("DATE", "2025-01-01", "'2024-12-31'", "'2025-01-01'"),
        ("BIGINT", "-3", "-4", "-3"),
        ("VARCHAR", "b", "'a'", "'b'"),
    ],
)
def test_begin_at_a_value(pipeline: Pipeline, kind: str, begin: str, old: str, new: str) -> None:
    keyless(pipeline, kind, f"event='track', cursor='_c', begin='{begin}'")
    pipeline.sql(f"INSERT INTO e VALUES ('old', TIMESTAMP '2025-05-05', {old}), ('new', TIMESTAMP '2025-05-05', {new})")
    assert pipeline.good().counts.added == 1
    assert ids(pipeline) == ["new"]
    assert pipeline.good().counts.added == 0


def test_begin_now_takes_only_what_comes_later(pipeline: Pipeline) -> None:
    keyless(pipeline, "TIMESTAMP", "event='track', cursor='_c', begin='now'")
    pipeline.sql("INSERT INTO e VALUES ('old', TIMESTAMP '2025-05-05', TIMESTAMP '2025-05-05')")
    assert pipeline.good().counts.read == 0
    soon = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1)
    pipeline.sql(f"INSERT INTO e VALUES ('new', TIMESTAMP '2025-05-05', '{soon}')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.added == 0
    assert ids(pipeline) == ["new"]


def test_begin_now_is_the_moment_of_a_first_run_that_reads_nothing(pipeline: Pipeline) -> None:
    keyless(pipeline, "TIMESTAMP", "event='track', cursor='_c', begin='now'")
    assert pipeline.good().counts.read == 0
    assert pipeline.good().counts.read == 0
    pipeline.sql(f"INSERT INTO e VALUES ('new', TIMESTAMP '2025-05-05', '{datetime.now(UTC).replace(tzinfo=None)}')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.added == 0


@pytest.mark.parametrize(
    ("kind", "lag"), [("VARCHAR", "'1 hour'"), ("VARCHAR", "3"), ("BIGINT", "'1d'"), ("DATE", "3")]
)
def test_a_lag_that_does_not_go_with_the_cursor_stops_the_first_run(pipeline: Pipeline, kind: str, lag: str) -> None:
    keyless(pipeline, kind, f"event='track', cursor='_c', begin='all', unique_key='user_id',\n lag={lag}")
    error = pipeline.one().error
    assert error is not None
    assert error.message.startswith("`lag` is a ")
    assert error.line == 2


# What may not change unnoticed


@pytest.mark.parametrize("incremental", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("header", "select", "says"),
    [
        (USER.replace("_c", "_d"), "c as _c, c as _d", "`cursor` was `_c` and is now `_d`"),
        (USER, "1 as _c", "of kind timestamp and is now of kind integer"),
        (USER, "'x' as _c", "of kind timestamp and is now of kind string"),
        (USER, "c::timestamptz as _c", "of kind timestamp and is now of kind timestamptz"),
        ("event='identify_user'", "c as _c", "`cursor` was `_c` and is now none"),
        (USER + ", unique_key=['user_id', 'plan']", "c as _c", "`unique_key` was user_id and is now user_id, plan"),
        (USER.replace("_user", "_company") + ", rename={'user_id': 'company_id'}", "c as _c", "identify_user"),
        (USER + ", lag=3", "1 as _c", "of kind timestamp and is now of kind integer"),
    ],
)
def test_another_cursor_or_key_is_an_error_that_names_the_way_out(
    pipeline: Pipeline, header: str, select: str, says: str, incremental: bool
) -> None:
    users(pipeline, "TIMESTAMP")
    pipeline.sql("INSERT INTO t VALUES ('a', 1, '2025-05-05')")
    pipeline.good()
    where = "\n{% if is_incremental() %} where _c >= {{ cursor_from() }} {% endif %}" if incremental else ""
    pipeline.model("m", header, f"select * from (select u as user_id, v as plan, {select} from t){where}")
    result = pipeline.one()
    assert str(result.status) == "error"
    assert says in result.message
    assert result.error is not None
    assert "state reset m" in result.error.hint
    assert len(pipeline.imported()) == 1


def test_the_bounds_future_is_an_hour() -> None:
    assert timedelta(hours=1) == FUTURE
