"""Several models in one pipeline: partial profiles, models that change, go or rest while their batches wait."""

from __future__ import annotations

from typing import Any

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.userpilot.client import Client

BATCHES = "batch: {max_rows: 2}\njob: {max_rows: 2}\n"


def stopped(pipeline: Pipeline, *names: str, after: int = 0) -> None:
    """A run that the API ends with 401 after some jobs."""
    upload, count = Client.upload, 0

    def stopping(self: Client, *words: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            pipeline.sandbox.inject("upload:401")
        return upload(self, *words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "upload", stopping)
        assert pipeline.run(*names).exit_code == 1


def tables(pipeline: Pipeline) -> None:
    pipeline.configure(BATCHES)
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS id, i AS v, TIMESTAMP '2025-05-05' AS at_ FROM range(6) AS r(i)")


def test_two_partial_models_of_one_event_compare_each_with_its_own_past(pipeline: Pipeline) -> None:
    tables(pipeline)
    pipeline.model("plans", "event='identify_user', partial=true", "select id as user_id, v as plan from t")
    pipeline.model("scores", "event='identify_user', partial=true", "select id as user_id, v * 2 as score from t")
    assert pipeline.run().exit_code == 0
    assert len(pipeline.imported()) == 12
    pipeline.model("scores", "event='identify_user', partial=true", "select id as user_id, v % 4 * 2 as score from t")
    counts = {result.model: result.counts for result in pipeline.run().results}
    assert (counts["plans"].changed, counts["scores"].changed) == (0, 2)
    assert all(set(row["metadata"]) == {"score"} for row in pipeline.imported(12))


def test_two_models_of_one_event_that_are_not_partial_are_both_broken(pipeline: Pipeline) -> None:
    tables(pipeline)
    for name in ("one", "two"):
        pipeline.model(name, "event='identify_user'", "select id as user_id from t")
    pipeline.model("companies", "event='identify_company'", "select id as company_id from t")
    status = {result.model: str(result.status) for result in pipeline.run().results}
    assert status == {"companies": "success", "one": "error", "two": "error"}
    assert len(pipeline.imported()) == 6


def three(pipeline: Pipeline) -> None:
    tables(pipeline)
    pipeline.model(
        "a_events", "event='track', always=true", "select id as user_id, 'x' as event_name, at_ as inserted_at from t"
    )
    pipeline.model("b_users", "event='identify_user'", "select id as user_id, v from t")
    pipeline.model("c_companies", "event='identify_company'", "select id as company_id, v from t")


def test_companies_and_users_go_before_events(pipeline: Pipeline) -> None:
    three(pipeline)
    assert pipeline.run().exit_code == 0
    kinds = [row["event_type"] for row in pipeline.imported()]
    assert kinds == ["identify_company"] * 6 + ["identify_user"] * 6 + ["track"] * 6


def test_only_selected_models_batches_are_sent(pipeline: Pipeline) -> None:
    three(pipeline)
    stopped(pipeline)
    assert pipeline.imported() == []
    assert pipeline.run("b_users").exit_code == 0
    assert {row["event_type"] for row in pipeline.imported()} == {"identify_user"}
    assert pipeline.run().exit_code == 0
    assert pipeline.run("b_users", "c_companies").exit_code == 0
    assert len(pipeline.imported()) == 18


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_mended_model_never_sends_yesterdays_rows(pipeline: Pipeline, after: int) -> None:
    tables(pipeline)
    pipeline.model("m", "event='identify_user'", "select id as user_id, 'wrong' as plan from t")
    stopped(pipeline, after=after)
    wrong = len(pipeline.imported())
    assert wrong == 2 * after
    pipeline.model("m", "event='identify_user'", "select id as user_id, 'right' as plan from t")
    assert pipeline.run().exit_code == 0
    assert {row["metadata"]["plan"] for row in pipeline.imported(wrong)} == {"right"}
    assert len(pipeline.imported(wrong)) == 6
    assert pipeline.good().counts.unchanged == 6


@pytest.mark.parametrize("how", ["deleted", "renamed", "disabled"])
def test_batches_of_a_model_that_is_gone_or_rests_are_not_sent(pipeline: Pipeline, how: str) -> None:
    tables(pipeline)
    sql = "select id as user_id, v from t"
    pipeline.model("m", "event='identify_user'", sql)
    pipeline.model("other", "event='identify_company'", "select id as company_id from t")
    stopped(pipeline)
    path = pipeline.folder / "models_sql" / "m.sql"
    if how == "disabled":
        pipeline.model("m", "event='identify_user', enabled=false", sql)
    elif how == "deleted":
        path.unlink()
    else:
        path.rename(path.with_name("n.sql"))
    assert pipeline.run().exit_code == 0
    users = [row["user_id"] for row in pipeline.imported() if row["event_type"] == "identify_user"]
    assert sorted(users) == ([f"u{i}" for i in range(6)] if how == "renamed" else [])
    if how == "disabled":
        pipeline.sql("UPDATE t SET v = v + 1")
        pipeline.model("m", "event='identify_user'", sql)
        for _ in range(2):
            pipeline.run()
        last = {row["user_id"]: row["metadata"]["v"] for row in pipeline.imported() if "user_id" in row}
        assert last == {f"u{i}": i + 1 for i in range(6)}


def test_one_models_fault_is_its_own(pipeline: Pipeline) -> None:
    three(pipeline)
    pipeline.model("b_users", "event='identify_user'", "select id as user_id, missing from t")
    status = {result.model: str(result.status) for result in pipeline.run().results}
    assert status == {"a_events": "success", "b_users": "error", "c_companies": "success"}
