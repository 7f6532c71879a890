"""Any name and any query goes through: columns, tables, files, CTEs that are named like our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.userpilot.sandbox import Sandbox

NAMES = [
    "line", "key", "verdict", "cursor", "reasons", "notes", "retimed", "row_hash", "key_hash", "own_at", "long_verdict",
    "source", "encoded", "sent", "bound", "refused", "model", "place", "ambiguous", "k", "s", "rows", "rows_read",
    "select", "from", "order", "group", "user", "table", "null", "true", "current_date", "rowid", "filename",
    'quo"te', "sing'le", "dou\"\"ble", "sp ace", " lead", "do.t", "UPPER", "Mixed", "ünïcödé", "名前", "😀",
    "semi;colon",
    "back\\slash", "new\nline", "tab\tbed", "per%cent", "{brace}", "dash-dash -- x", "/* c */", "$1", "?", "a" * 300,
    "e'scape", "warehouse_sync", "warehouse_sync_work", "metadata.x", "\u2028", "#", "123", "-",
]  # fmt: skip


SOURCE = ", rename={'source': 'metadata.source'}"


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("event", ["identify_user", pytest.param("track-keyed", marks=pytest.mark.slow), "track"])
def test_columns_of_any_name(pipeline: Pipeline, event: str) -> None:
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    columns = ", ".join(f"'{number}' AS {ident(name)}" for number, name in enumerate(NAMES))
    pipeline.sql(
        f"CREATE TABLE t AS SELECT 'u' || i AS user_id, i AS _c, 'x' AS event_name,"
        f" TIMESTAMP '2025-05-05' AS inserted_at, {columns} FROM range(3) AS r(i)",
        "INSERT INTO t (user_id, _c) VALUES (NULL, 3)",
    )
    header = {
        "identify_user": "event='identify_user', cursor='_c', exclude_columns=['event_name']",
        "track-keyed": "event='track', cursor='_c', begin='all', unique_key='user_id', lag=9" + SOURCE,
        "track": "event='track', cursor='_c', begin='all'" + SOURCE,
    }[event]
    pipeline.model("m", header, "select * from t")
    first = pipeline.good()
    assert (first.counts.added, first.counts.invalid) == (3, 1)
    expected = {name.removeprefix("metadata."): str(number) for number, name in enumerate(NAMES)}
    for row in pipeline.imported():
        assert {name: row["metadata"].get(name) for name in expected} == expected
    counts = pipeline.good().counts
    assert (counts.added, counts.changed) == (0, 0)


@pytest.mark.parametrize(
    "name",
    [name if number % 8 == 0 else pytest.param(name, marks=pytest.mark.slow) for number, name in enumerate(NAMES)],
)
def test_a_cursor_and_a_key_of_any_name(pipeline: Pipeline, name: str) -> None:
    if not name.strip():
        pytest.skip("the header takes no blank name")
    pipeline.sql(
        f"CREATE TABLE t AS SELECT 'u' || i AS user_id, i AS {ident(name)}, i AS {ident(name + '2')}"
        " FROM range(3) AS r(i)"
    )
    quoted = json.dumps(name, ensure_ascii=False)
    second = json.dumps(name + "2", ensure_ascii=False)
    pipeline.model("m", f"event='identify_user', cursor={quoted}, unique_key={second}", "select * from t")
    assert pipeline.good().counts.added == 3
    pipeline.sql("INSERT INTO t VALUES ('new', 7, 7)")
    counts = pipeline.good().counts
    assert (counts.read, counts.added, counts.unchanged) == (2, 1, 1)


@pytest.mark.parametrize("name", ["sent", "encoded", "source", "refused", "bound", "model"])
def test_a_struct_that_is_named_like_one_of_our_tables(pipeline: Pipeline, name: str) -> None:
    final = "" if name != "source" else ", rename={'source': 'metadata.source'}"
    pipeline.sql(
        f"CREATE TABLE t AS SELECT 'u' || i AS user_id, {{'row_hash': 'x', 'key_hash': 'y', 'cursor': i}} AS {name}"
        " FROM range(3) AS r(i)"
    )
    pipeline.model("m", f"event='identify_user'{final}", "select * from t")
    assert pipeline.good().counts.added == 3
    assert pipeline.good().counts.unchanged == 3


def test_a_column_with_our_prefix_is_an_error_that_says_so(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT 'u' AS user_id, 'x' AS \"warehouse_sync.key\"")
    pipeline.model("m", "event='identify_user'", "select * from t")
    result = pipeline.one()
    assert str(result.status) == "error"
    assert "warehouse_sync.key" in result.message


@pytest.mark.parametrize("name", ['t"x', "t'x", "t x", "t.x", "SELECT", "名前", "T", "source", "model", "encoded"])
def test_tables_of_any_name(pipeline: Pipeline, name: str) -> None:
    pipeline.sql(f"CREATE TABLE {ident(name)} AS SELECT 'u' AS user_id, 1 AS plan")
    pipeline.model("m", "event='identify_user'", f"select * from {ident(name)}")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.unchanged == 1


QUERIES = {
    "ctes like ours": "with source as (select * from t), encoded as (select * from source), model as (select * from"
    " encoded), line as (select * from model), sent as (select * from line), at_bound as (select * from sent),"
    " twice as (select * from at_bound) select * from twice",
    "order by": "select * from t order by v desc, user_id",
    "limit": "select * from t order by user_id limit 3",
    "window": "select user_id, v, row_number() over (partition by v order by user_id) as place, _c from t"
    " qualify row_number() over (partition by user_id order by v) = 1",
    "group": "select user_id, max(v) as v, max(_c) as _c from t group by all",
    "union": "select * from t where v = 0 union all select * from t where v <> 0",
    "union by name": "select user_id, v, _c from t union all by name select user_id, v, _c from t where false",
    "comment at the end": "select * from t -- the end",
    "semicolon": "select * from t ;  -- the end",
    "from first": "from t select user_id, v, _c",
    "values": "select * from (values ('u0', 0, 0), ('u1', 1, 0), ('u2', 2, 0), ('u3', 0, 0)) as x(user_id, v, _c)",
    "lateral alias": "select user_id, v + 1 as w, w * 2 as z, _c from t",
    "unnest": "select user_id, v, _c, unnest([1]) as one from t",
    "struct star": "select user_id, x.*, _c from (select user_id, {'v': v, 'w': 2} as x, _c from t)",
    "pivot": "select 'u' || v as user_id, n, 0 as _c from (select v, count(*) as n from t group by v)",
    "recursive": "with recursive r(i) as (select 0 union all select i + 1 from r where i < 4)"
    " select 'u' || i as user_id, i % 3 as v, 0 as _c from r",
}


@pytest.mark.parametrize("event", ["identify_user", pytest.param("track", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [n if at % 3 == 0 else pytest.param(n, marks=pytest.mark.slow) for at, n in enumerate(QUERIES)]
)
def test_queries_of_any_shape(pipeline: Pipeline, name: str, event: str) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS user_id, i % 3 AS v, 0 AS _c FROM range(5) AS r(i)")
    if event == "identify_user":
        pipeline.model("m", "event='identify_user', cursor='_c'", QUERIES[name])
    else:
        sql = QUERIES[name].partition("--")[0].rstrip(" ;")
        more = "'x' as event_name, timestamp '2025-05-05' as inserted_at"
        pipeline.model("m", "event='track', cursor='_c', begin='all'", f"select *, {more} from ({sql})")
    first = pipeline.good().counts
    assert first.added == first.read > 2
    second = pipeline.good().counts
    assert (second.unchanged, second.added) == (first.read, 0)


@pytest.mark.slow
def test_five_hundred_columns(pipeline: Pipeline) -> None:
    columns = ", ".join(f"i + {n} AS c{n}" for n in range(500))
    pipeline.sql(f"CREATE TABLE t AS SELECT 'u' || i AS user_id, {columns} FROM range(50) AS r(i)")
    pipeline.model("m", "event='identify_user'", "select * from t")
    assert pipeline.good().counts.added == 50
    assert pipeline.good().counts.unchanged == 50
    assert len(pipeline.imported()[0]["metadata"]) == 500


@pytest.mark.parametrize("header", ["event='identify_user'", "event='identify_user', cursor='_c'"])
def test_no_rows_and_nothing_but_the_id(pipeline: Pipeline, header: str) -> None:
    pipeline.sql("CREATE TABLE t (user_id VARCHAR, _c TIMESTAMP)")
    pipeline.model("m", header, "select * from t")
    assert pipeline.good().counts.read == 0
    assert pipeline.good().counts.read == 0
    pipeline.sql("INSERT INTO t VALUES ('a', TIMESTAMP '2025-01-01')")
    assert pipeline.good().counts.added == 1
    assert pipeline.good().counts.unchanged == 1
    (row,) = pipeline.imported()
    assert row["metadata"] == {}


FILES = [
    "work.duckdb", "it's.duckdb", 'a"b.duckdb', "with space.duckdb", "UPPER.DUCKDB", "名前.duckdb",
    "no_suffix", "two.dots.duckdb", "select.duckdb", "source.duckdb",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if number % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for number, name in enumerate(FILES)],
)
def test_warehouse_files_of_any_name(tmp_path: Path, box: Sandbox, name: str) -> None:
    pipeline = Pipeline(tmp_path / "pro'ject", box, warehouse=name)
    pipeline.configure("invalid: {stop_above: 100%, error_above: 100%}\n")
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS user_id, i AS v FROM range(3) AS r(i)")
    pipeline.sql("INSERT INTO t VALUES ('', 1), ('u1', 9)")
    pipeline.model("m", "event='identify_user'", "select * from main.t")
    first = pipeline.good().counts
    assert (first.added, first.invalid) == (2, 3)
    second = pipeline.good().counts
    assert (second.unchanged, second.suppressed) == (2, 3)


@pytest.mark.parametrize("name", ["warehouse_sync_work.duckdb", "warehouse_sync_snapshot.duckdb"])
def test_a_warehouse_file_that_is_named_like_our_catalogs_is_an_error_that_says_so(
    tmp_path: Path, box: Sandbox, name: str
) -> None:
    pipeline = Pipeline(tmp_path / "project", box, warehouse=name)
    pipeline.sql("CREATE TABLE t AS SELECT 'u' AS user_id")
    pipeline.model("m", "event='identify_user'", "select * from t")
    result = pipeline.one()
    assert str(result.status) == "error"
    assert name.removesuffix(".duckdb") in result.message


def test_models_whose_names_begin_alike_keep_their_snapshots(pipeline: Pipeline) -> None:
    """A merge writes `<model>.new` beside the snapshot, and sweeps it away: no other model's files."""
    names = ["users", "users.new", "users.new.new", "users.hashes"]
    for number, name in enumerate(names):
        pipeline.sql(f"CREATE TABLE t{number} AS SELECT 'u' || i AS user_id, {number} AS v FROM range(3) AS r(i)")
        header = "event='identify_user', partial=true"
        pipeline.model(name, header, f"select user_id, v as v{number} from t{number}")
    for turn, changed in enumerate([3, 0, 1, 1]):
        if turn > 1:
            pipeline.sql(*(f"UPDATE t{number} SET v = v + 10 WHERE user_id = 'u1'" for number in range(len(names))))
        results = pipeline.run().results
        assert [(result.model, str(result.status)) for result in results] == [
            (name, "success") for name in sorted(names)
        ]
        assert {result.counts.added + result.counts.changed for result in results} == {changed}
