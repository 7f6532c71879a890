"""Guards stop a model before anything of it is sent, and say how to go on; what they hold back goes once allowed."""

from __future__ import annotations

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.runs.results import ModelResult

SQL = "select u as user_id, v as plan{} from t"


def users(pipeline: Pipeline, guard: str, count: int = 20) -> None:
    pipeline.configure(f"guard: {{{guard}}}\n")
    pipeline.sql(f"CREATE TABLE t AS SELECT 'u' || i AS u, 1 AS v, i AS c FROM range({count}) AS r(i)")
    pipeline.model("m", "event='identify_user'", SQL.format(""))


def stopped(pipeline: Pipeline, key: str) -> ModelResult:
    """A run that the guard stops: nothing goes, nothing stays behind."""
    before = len(pipeline.imported())
    result = pipeline.one()
    assert str(result.status) == "error"
    assert f"more than `{key}` allows; nothing was sent" in result.message
    assert result.error is not None
    assert "plan -s m" in result.error.hint
    assert f"raise `{key}`" in result.error.hint
    assert len(pipeline.imported()) == before
    assert list((pipeline.config().home / "outbox").rglob("*.ndjson")) == []
    return result


def usual(pipeline: Pipeline, runs: int = 3) -> None:
    """A first run, and some that send one row each."""
    pipeline.good()
    for number in range(runs):
        pipeline.sql(f"UPDATE t SET v = v + 1 WHERE u = 'u{number}'")
        assert pipeline.good().counts.changed == 1


def test_rows_of_one_window(pipeline: Pipeline) -> None:
    users(pipeline, "max_rows: 19")
    assert "20 rows would be sent" in stopped(pipeline, "guard.max_rows").message
    pipeline.configure("guard: {max_rows: 20}\n")
    assert pipeline.good().counts.delivered == 20


def test_the_median_of_what_is_usual(pipeline: Pipeline) -> None:
    users(pipeline, "max_times_median: 3")
    usual(pipeline)
    pipeline.sql("UPDATE t SET v = 100 WHERE c < 4")
    assert "4 rows would be sent, usually it is about 1" in stopped(pipeline, "guard.max_times_median").message
    pipeline.sql("UPDATE t SET v = 1 WHERE u = 'u3'")
    assert pipeline.good().counts.changed == 3


def test_what_was_asked_for_by_hand_is_not_usual(pipeline: Pipeline) -> None:
    users(pipeline, "max_times_median: 2, max_removed: null")
    pipeline.model("m", "event='identify_user', cursor='_c', lag=100", SQL.format(", c as _c"))
    for _ in range(4):
        assert pipeline.good(limit=1).counts.read == 1
    assert pipeline.good(start="0", end="3").counts.read == 3
    assert pipeline.one().counts.delivered == 17, "the first window of all rows is no multiple of those"


def test_a_changed_mapping_is_measured_against_the_models_rows(pipeline: Pipeline) -> None:
    users(pipeline, "max_times_median: 1.5")
    usual(pipeline)
    pipeline.model("m", "event='identify_user'", SQL.format(", c as more"))
    assert pipeline.good().counts.changed == 20
    pipeline.sql("INSERT INTO t SELECT 'n' || i, 1, i FROM range(15) AS r(i)")
    pipeline.model("m", "event='identify_user'", SQL.format(", c as more, 1 as most"))
    assert "35 rows would be sent, usually it is about 20" in stopped(pipeline, "guard.max_times_median").message


def test_a_full_refresh_is_measured_against_the_models_rows(pipeline: Pipeline) -> None:
    users(pipeline, "max_times_median: 2")
    usual(pipeline)
    assert pipeline.good(full_refresh=True).counts.delivered == 20
    pipeline.sql("UPDATE t SET v = 9 WHERE u < 'u13'")
    assert "usually it is about 1" in stopped(pipeline, "guard.max_times_median").message


def test_events_without_a_key_are_measured_against_all_their_windows(pipeline: Pipeline) -> None:
    pipeline.configure("guard: {max_times_median: 2}\n")
    pipeline.sql("CREATE TABLE e (u VARCHAR, c BIGINT)")
    sql = "select u as user_id, 'x' as event_name, timestamp '2025-01-01' as inserted_at, c as _c{} from e"
    pipeline.model("m", "event='track', cursor='_c', begin='all'", sql.format(""))
    for number in range(3):
        pipeline.sql(f"INSERT INTO e VALUES ('u', {number})")
        assert pipeline.good().counts.added == 1
    pipeline.model("m", "event='track', cursor='_c', begin='all'", sql.format(", 1 as more"))
    pipeline.sql("INSERT INTO e SELECT 'u', 10 + i FROM range(3) AS r(i)")
    stopped(pipeline, "guard.max_times_median")


@pytest.mark.parametrize(("gone", "says"), [("u <> 'u1'", "the source is empty: "), ("c < 11", "")])
def test_keys_that_are_gone(pipeline: Pipeline, gone: str, says: str) -> None:
    users(pipeline, "max_removed: 50%")
    pipeline.good()
    pipeline.sql("DELETE FROM t" + (f" WHERE {gone}" if not says else ""))
    number = 20 if says else 11
    assert f"{says}{number} of 20 delivered keys are gone" in stopped(pipeline, "guard.max_removed").message
    pipeline.configure("guard: {max_removed: null}\n")
    assert pipeline.good().counts.read == 20 - number
    pipeline.model("m", "event='identify_user', on_removed='report'", SQL.format(""))
    assert pipeline.good().counts.removed == number


def churn(pipeline: Pipeline, number: int) -> None:
    """The four oldest keys go, four new ones come."""
    pipeline.sql(
        "DELETE FROM t WHERE c IN (SELECT c FROM t ORDER BY c LIMIT 4)",
        f"INSERT INTO t SELECT 'n{number}_' || i, 1, {100 * number} + i FROM range(4) AS r(i)",
    )


@pytest.mark.parametrize("report", [pytest.param("ignore", marks=pytest.mark.slow), "report"])
@pytest.mark.parametrize("inside", [False, True])
def test_ordinary_churn_stops_no_model_and_an_empty_source_does(pipeline: Pipeline, report: str, inside: bool) -> None:
    users(pipeline, "max_removed: 25%")
    if inside:
        pipeline.configure("guard: {max_removed: 25%}\nsnapshot: {where: warehouse, schema: synced}\n")
    pipeline.model("m", f"event='identify_user', on_removed='{report}'", SQL.format(""))
    pipeline.good()
    for number in range(1, 7):
        churn(pipeline, number)
        counts = pipeline.good().counts
        assert (counts.added, counts.removed) == (4, 4 * number * (report == "report"))
        assert pipeline.good(limit=1).counts.removed == 0, "a part of the source tells of no key that it is gone"
    pipeline.sql("UPDATE t SET u = 'u' || c - 600 WHERE c >= 600")
    assert pipeline.good().counts.added == 0, "keys that come back are never fewer than none gone"
    pipeline.sql("DELETE FROM t WHERE c < 600")
    assert "16 of 20 delivered keys are gone from the source (24 more" in stopped(pipeline, "guard.max_removed").message
    pipeline.sql("DELETE FROM t")
    assert "the source is empty: 20 of 20" in stopped(pipeline, "guard.max_removed").message


def test_rows_beyond_a_limit_are_not_gone(pipeline: Pipeline) -> None:
    users(pipeline, "max_removed: 50%")
    pipeline.sql("UPDATE t SET u = ' ' WHERE u = (SELECT max(u) FROM t)")
    pipeline.one()
    refused = len(pipeline.rejects())
    assert pipeline.one(limit=3).counts.removed == 0
    assert len(pipeline.rejects()) == refused, "a reject closes when its row has left the source, not the limit"
