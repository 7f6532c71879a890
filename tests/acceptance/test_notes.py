"""What is counted and said beside the verdicts: equal events, changed events, texts and names that are too long."""

from __future__ import annotations

import json

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.extraction.request import Request
from warehouse_sync.inspection.preview import ModelPlan, plan
from warehouse_sync.parts import policy_of

EVENT = "event='track', cursor='_c', begin='all'"
EVENT_SQL = "select u as user_id, co as company_id, n as event_name, t as inserted_at, v as plan, c as _c from e"


def planned(pipeline: Pipeline) -> ModelPlan:
    config = pipeline.config()
    (seen,) = plan(config, policy_of(config, {}), pipeline.models(), pipeline.reporter, Request())
    assert seen.error is None, seen.error
    return seen


def events(pipeline: Pipeline, header: str = EVENT) -> None:
    pipeline.sql("CREATE TABLE e (u VARCHAR, co VARCHAR, n VARCHAR, t TIMESTAMP, v INTEGER, c BIGINT)")
    pipeline.model("m", header, EVENT_SQL)


# Events that Userpilot may merge


def test_events_with_one_identity_are_counted_in_plan_and_run(pipeline: Pipeline) -> None:
    events(pipeline)
    pipeline.sql(
        "INSERT INTO e VALUES ('a', 'c', 'x', '2025-05-05', 1, 1), ('a', 'c', 'x', '2025-05-05', 2, 2),"
        " ('a', 'c', 'x', '2025-05-05', 1, 3), ('b', 'c', 'x', '2025-05-05', 1, 1),"
        " ('a', 'd', 'x', '2025-05-05', 1, 1), ('a', NULL, 'x', '2025-05-05', 1, 1),"
        " ('a', 'c', 'y', '2025-05-05', 1, 1),"
        " ('a', 'c', 'x', '2025-05-05 00:00:00.000001', 1, 1)"
    )
    assert planned(pipeline).notes == {"same_event": 2}
    result = pipeline.good()
    assert (result.notes, result.counts.delivered) == ({"same_event": 2}, 8)
    assert pipeline.good().notes == {}
    pipeline.sql("INSERT INTO e VALUES ('a', 'c', 'x', '2025-05-05', 1, 3)")
    assert pipeline.good().notes == {"same_event": 1}, "its twin was delivered at the bound"


def test_duplicates_of_a_key_are_not_sent_and_not_counted(pipeline: Pipeline) -> None:
    events(pipeline, EVENT + ", unique_key='_k'")
    pipeline.model("m", EVENT + ", unique_key='_k'", EVENT_SQL.replace(" from", ", v as _k from"))
    pipeline.sql("INSERT INTO e SELECT 'a', 'c', 'x', TIMESTAMP '2025-05-05', 1, i FROM range(3) AS r(i)")
    result = pipeline.good()
    assert (result.counts.duplicate, result.notes) == (2, {})
    pipeline.sql("INSERT INTO e VALUES ('a', 'c', 'x', '2025-05-05', 7, 9), ('a', 'c', 'x', '2025-05-05', 8, 9)")
    assert pipeline.good().notes == {"same_event": 1}


def test_of_many_events_a_sample_is_looked_at(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warehouse_sync.changes.change_set._ALL_EVENTS", 2048)
    events(pipeline)
    pipeline.sql(
        "INSERT INTO e SELECT 'u' || i % 10000, 'c', 'x', TIMESTAMP '2025-05-05', i, i FROM range(20000) AS r(i)"
    )
    assert 8000 < planned(pipeline).notes["same_event"] < 12000


def test_identify_rows_have_no_identity(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS u FROM range(5) AS r(i)")
    pipeline.model("m", "event='identify_user'", "select u as user_id, timestamp '2025-01-01' as inserted_at from t")
    assert pipeline.good().notes == {}


# Delivered events that changed


def test_a_delivered_event_that_changed_is_counted_and_not_sent(pipeline: Pipeline) -> None:
    events(pipeline, EVENT + ", unique_key=['user_id', 'event_name'], lag=9")
    pipeline.sql("INSERT INTO e SELECT 'u' || i, 'c', 'x', TIMESTAMP '2025-05-05', i, i FROM range(5) AS r(i)")
    pipeline.good()
    pipeline.sql("UPDATE e SET v = 100 WHERE c < 2")
    result = pipeline.good()
    assert (result.counts.unchanged, result.notes) == (5, {"event_changed": 2})


# Limits that Userpilot's pages give second-hand


def users(pipeline: Pipeline, columns: str) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT i FROM range(3) AS r(i)")
    pipeline.model("m", "event='identify_user'", f"select 'u' || i as user_id, {columns} from t")


def test_texts_that_are_too_long_are_counted(pipeline: Pipeline) -> None:
    long = "repeat('é', 32768 - (i = 0)::int)"
    users(pipeline, f"{long} as a, json_object('k', {long})::varchar as metadata, i as n")
    assert pipeline.good().notes == {"long_value": 2}
    assert pipeline.good().notes == {}, "nothing of it is sent once more"
    pipeline.configure("limits: {max_value: 10kB}\nguard: {max_removed: null}\n")
    pipeline.sql("UPDATE t SET i = i + 10")
    assert planned(pipeline).notes == {"long_value": 3}
    pipeline.configure("limits: {max_value: null}\nguard: {max_removed: null}\n")
    assert planned(pipeline).notes == {}


def test_what_is_sent_otherwise_is_said_when_it_is_sent(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    users(pipeline, "i * 0 + 9007199254740993 as big, 'inf'::double as f, if(i = 2, '', 'co') as company_id")
    noted = {"nan_to_null": 3, "beyond_2_53": 3}
    assert planned(pipeline).notes == noted
    assert pipeline.good().notes == noted
    assert (planned(pipeline).notes, pipeline.good().notes) == ({}, {})
    pipeline.sql("INSERT INTO t VALUES (9)")
    assert pipeline.good().notes == {"nan_to_null": 1, "beyond_2_53": 1}
    assert pipeline.good(full_refresh=True).notes == {"nan_to_null": 4, "beyond_2_53": 4}


def test_a_line_may_be_as_long_as_it_is_said(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    users(pipeline, "repeat('é', 99) as a, timestamp '2025-01-01' as inserted_at")
    (line, *_) = pipeline.imported() if pipeline.good().counts.delivered else []
    size = len(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()) + len("\n")
    for limit, refused in ((size - 1, 3), (size, 0)):
        pipeline.configure(
            f"invalid: {{stop_above: 100%}}\nguard: {{max_removed: null}}\nbatch: {{max_line: {limit}}}\n"
        )
        pipeline.sql("UPDATE t SET i = i + 3")
        assert planned(pipeline).counts.invalid == refused


def test_many_properties_and_long_names_warn(pipeline: Pipeline) -> None:
    name = "n" * 256
    users(pipeline, f"1 as {name}, " + ", ".join(f"{n} as p{n}" for n in range(500)))
    warnings = pipeline.good().warnings
    assert any("501 properties are sent; Userpilot is said to keep 500 at most" in text for text in warnings)
    assert any("has 256 characters; Userpilot is said to keep 255 at most" in text for text in warnings)
    pipeline.configure("limits: {max_properties: null, max_name: 256}\n")
    assert planned(pipeline).warnings == ()


# The plan's keys and columns


def test_some_keys_of_each_kind(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    pipeline.sql("CREATE TABLE t (u VARCHAR, v INTEGER, x TIMESTAMP)")
    pipeline.sql("INSERT INTO t SELECT 'k' || lpad(i::VARCHAR, 2, '0'), 1, '2025-01-01' FROM range(30) AS r(i)")
    header = "event='identify_user', on_removed='report'"
    pipeline.model("m", header, "select u as user_id, v as plan, x as inserted_at from t")
    assert planned(pipeline).keys == {"added": tuple(f"k{n:02}" for n in range(20))}
    pipeline.good()
    pipeline.sql(
        "DELETE FROM t WHERE u < 'k03'", "UPDATE t SET v = 2 WHERE u = 'k05'",
        "INSERT INTO t VALUES ('k05', 1, '2024-01-01'), ('new', 1, NULL), ('tie', 1, '2025-01-01'),"
        " ('tie', 2, '2025-01-01'), ('bad', 1, '1960-01-01')",
    )  # fmt: skip
    seen = planned(pipeline)
    unchanged = seen.keys.pop("unchanged")
    assert len(unchanged) == 20
    assert seen.keys == {
        "added": ("new",), "changed": ("k05",), "duplicate": ("k05",), "invalid": ("bad", "tie"),
        "removed": ("k00", "k01", "k02"),
    }  # fmt: skip
    assert (seen.counts.removed, seen.counts.invalid, seen.counts.duplicate) == (3, 3, 1)


def test_keys_ahead_of_the_clock(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS u, TIMESTAMP '2206-01-01' AS c FROM range(3000) AS r(i)")
    pipeline.model("m", "event='identify_user', cursor='_c'", "select u as user_id, c as _c from t")
    seen = planned(pipeline)
    assert (seen.counts.future, len(seen.keys["future"])) == (3000, 20)


def test_what_becomes_of_each_column(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t (u VARCHAR)")
    pipeline.model(
        "m",
        "event='identify_user', nested='flatten', rename={'extra': 'more'}, exclude_columns=['secret']",
        "select 'u' as user_id, 'identify_user' as event_type, {'a': 1, 'b': 'x'} as s, '{}'::json as extra,"
        " '{\"k\": 1}'::json as metadata, 1 as secret, 2 as n, null::int as _c",
    )
    found = {item.column: (item.to, item.kind, item.type) for item in planned(pipeline).columns}
    assert found == {
        "user_id": ("user_id", "field", ""),
        "event_type": ("", "checked", ""),
        "s": ("metadata.s.a, metadata.s.b", "properties", "Numeric, String"),
        "extra": ("metadata.more.*", "properties", ""),
        "metadata": ("metadata.*", "properties", ""),
        "secret": ("", "not sent", ""),
        "n": ("metadata.n", "property", "Numeric"),
        "_c": ("", "not sent", ""),
    }
