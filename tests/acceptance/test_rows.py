"""Bad rows through the front door: each is refused for its own reason, and never stops a good one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from acceptance_pipeline import Pipeline

from warehouse_sync.warehouses.base import Engine, Source
from warehouse_sync.warehouses.duckdb import DuckDBWarehouse

LENIENT = "invalid: {stop_above: 100%, error_above: 100%}\nbatch: {max_line: 200kB}\n"
TRACK = "event='track', unique_key='_n'"
GOOD = "'u' AS user_id, 'opened' AS event_name, TIMESTAMP '2025-05-05' AS inserted_at, 'x' AS p"

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "user NULL": ("user_id = NULL", ("user_id_missing",)),
    "user empty": ("user_id = ''", ("user_id_missing",)),
    "user blank": ("user_id = chr(160) || chr(8203) || chr(9)", ("user_id_missing",)),
    "user with NUL": ("user_id = 'a' || chr(0)", ("nul_character",)),
    "name NULL": ("event_name = NULL", ("event_name_missing",)),
    "name blank": ("event_name = '   '", ("event_name_missing",)),
    "both": ("user_id = NULL, event_name = ''", ("user_id_missing", "event_name_missing")),
    "no time": ("inserted_at = NULL", ("inserted_at_missing",)),
    "before 1970": ("inserted_at = '1969-12-31 23:59:59'", ("inserted_at_out_of_range",)),
    "in two days": ("inserted_at = now()::TIMESTAMP + INTERVAL 2 DAY", ("inserted_at_out_of_range",)),
    "infinity": ("inserted_at = 'infinity'", ("inserted_at_out_of_range",)),
    "minus infinity": ("inserted_at = '-infinity'", ("inserted_at_out_of_range",)),
    "year 12024": ("inserted_at = '12024-01-01'", ("inserted_at_out_of_range",)),
    "too long": ("p = repeat('x', 300000)", ("line_too_long",)),
    "key NULL": ("_n = NULL", ("key_missing",)),
}

FINE = [
    "a\u2028b\u2029c", 'quo"te', "back\\slash", "\x01\x02\x1f\x7f", "x" * 100_000, "new\nline\r\n", "\ufeff", "😀",
    "\ud7ff\ue000", "{}", "null", " lead and trail ", "e\u0301",
]  # fmt: skip


def test_every_bad_row_is_refused_for_its_own_reason(pipeline: Pipeline) -> None:
    pipeline.configure(LENIENT)
    pipeline.sql(f"CREATE TABLE t AS SELECT i::VARCHAR AS _n, {GOOD} FROM range({len(ROWS)}) AS r(i)")
    for number, (change, _) in enumerate(ROWS.values()):
        pipeline.sql(f"UPDATE t SET {change} WHERE _n = '{number}'")
    pipeline.sql(f"INSERT INTO t SELECT 'good' || i, {GOOD} FROM range(100) AS r(i)")
    pipeline.model("m", TRACK, "select * from t")
    first = pipeline.good()
    assert (first.counts.added, first.counts.invalid, first.new_rejects) == (100, len(ROWS), len(ROWS))
    names = {str(number): reasons for number, (_, reasons) in enumerate(ROWS.values())}
    names[None] = names.pop(str(list(ROWS).index("key NULL")))  # type: ignore[index]
    assert pipeline.reasons() == names
    again = pipeline.good()
    assert (again.counts.unchanged, again.counts.suppressed, again.new_rejects) == (100, len(ROWS), 0)
    pipeline.sql(f"UPDATE t SET {', '.join(f'{n} = {e}' for e, n in good_values())} WHERE _n NOT LIKE 'good%'")
    mended = pipeline.good()
    assert mended.counts.added == len(ROWS) - 1
    assert set(pipeline.reasons()) <= {None}


@pytest.mark.parametrize("header", ["event='track', always=true", "event='track', cursor='_n', begin='all'"])
def test_a_line_without_a_key_that_is_too_long_is_refused_once(pipeline: Pipeline, header: str) -> None:
    pipeline.configure(LENIENT)
    pipeline.sql(f"CREATE TABLE t AS SELECT i::VARCHAR AS _n, {GOOD} FROM range(3) AS r(i)")
    pipeline.sql(f"UPDATE t SET {ROWS['too long'][0]} WHERE _n = '1'")
    pipeline.model("m", header, "select * from t")
    first, second = pipeline.good(), pipeline.good()
    assert (first.counts.added, first.counts.invalid, first.new_rejects) == (2, 1, 1)
    assert pipeline.reasons() == {None: ("line_too_long",)}
    assert (second.counts.invalid, second.new_rejects) == (0, 0)
    pipeline.sql(f"INSERT INTO t SELECT '4', {GOOD}", "UPDATE t SET _n = '3', p = repeat('y', 300000) WHERE _n = '0'")
    third = pipeline.good()
    assert (third.counts.invalid, third.new_rejects) == (1, 1), "beyond the bound too"


def test_equal_rows_without_a_key_count_one_by_one(pipeline: Pipeline) -> None:
    pipeline.configure("invalid: {error_above: 2}\n")
    pipeline.sql(
        f"CREATE TABLE t AS SELECT '1' AS _n, {GOOD} FROM range(10)", "UPDATE t SET user_id = '' WHERE rowid < 3"
    )
    pipeline.model("m", "event='track', always=true", "select * from t")
    first, second = pipeline.one(), pipeline.good()
    assert (str(first.status), first.message, first.counts.invalid) == ("partial", "3 rows refused", 3)
    assert (second.counts.suppressed, second.new_rejects) == (3, 0)


def good_values() -> Sequence[tuple[str, str]]:
    return [tuple(part.rsplit(" AS ", 1)) for part in GOOD.split(", ")]  # type: ignore[misc]


def test_text_that_only_looks_bad_arrives_as_it_is(pipeline: Pipeline) -> None:
    pipeline.configure(LENIENT)
    pipeline.sql("CREATE TABLE t (user_id VARCHAR, p VARCHAR)")
    for number, text in enumerate(FINE):
        pipeline.sql(f"INSERT INTO t VALUES ('u{number}', '{text.replace(chr(39), chr(39) * 2)}')")
    pipeline.model("m", "event='identify_user'", "select * from t")
    assert pipeline.good().counts.added == len(FINE)
    found = {row["user_id"]: row["metadata"]["p"] for row in pipeline.imported()}
    assert found == {f"u{number}": text for number, text in enumerate(FINE)}
    assert pipeline.good().counts.unchanged == len(FINE)


def test_numbers_keep_every_digit_and_nan_is_null_at_any_depth(pipeline: Pipeline) -> None:
    digits = "12345678901234567890123456789012345678"
    pipeline.sql(
        f"CREATE TABLE t AS SELECT 'u' AS user_id, {digits}::DECIMAL(38,0) AS big, 34.70::DECIMAL(9,2) AS price,"
        " 'nan'::DOUBLE AS nothing, {'a': ['nan'::DOUBLE, 1.5, 'inf'::DOUBLE]} AS nested, -0.0::DOUBLE AS zero"
    )
    pipeline.model("m", "event='identify_user'", "select * from t")
    result = pipeline.good()
    (line,) = pipeline.sandbox.imported()
    assert f'"big":{digits}' in line
    assert '"price":34.70' in line
    row = json.loads(line)["metadata"]
    assert row["nothing"] is None
    assert json.loads(row["nested"]) == {"a": [None, 1.5, None]}
    assert result.notes.get("nan_to_null") == 1
    assert pipeline.good().counts.unchanged == 1


def test_metadata_that_is_no_object_is_refused_and_the_rest_goes(pipeline: Pipeline) -> None:
    pipeline.configure(LENIENT)
    texts = ['{"a": 1}', "[1]", "nonsense", '{"a": NaN}', '{"a": "\\ud800"}', "", '{"a": 1', '{"b": {"c": 2}}']
    pipeline.sql("CREATE TABLE t (user_id VARCHAR, metadata VARCHAR)")
    for number, text in enumerate(texts):
        pipeline.sql(f"INSERT INTO t VALUES ('u{number}', '{text}')")
    pipeline.model("m", "event='identify_user'", "select user_id, metadata::varchar as metadata from t")
    result = pipeline.one()
    if result.error is None:
        sent = {row["user_id"] for row in pipeline.imported()}
        assert {"u0", "u7"} <= sent
        assert sent.isdisjoint({"u1", "u2", "u3", "u4", "u6"})
    else:
        assert "metadata" in result.message


def damaged(values: Sequence[bytes | None]) -> pa.Array:
    """Bytes as a text column that nobody checked, as a driver hands it over."""
    return pa.array(values, pa.large_binary()).view(pa.large_string())


@pytest.mark.parametrize(
    "bad",
    [
        b"a\xc3",
        b"\xed\xa0\x80",
        *(pytest.param(bad, marks=pytest.mark.slow) for bad in (b"\xff", b"\xf5\x80\x80\x80", b"\xc0\xaf")),
    ],
    ids=lambda bad: bad.hex(),
)
@pytest.mark.parametrize("column", ["user_id", "p", "_c", "event_name"])
@pytest.mark.parametrize("keyed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_bytes_that_are_not_utf8_are_refused_and_nothing_else(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, bad: bytes, column: str, keyed: bool
) -> None:
    columns: dict[str, list[bytes | None]] = {
        "user_id": [b"a", b"b", b"c"], "event_name": [b"x"] * 3, "p": [b"x", None, b"z"], "_c": [b"2"] * 3,
    }  # fmt: skip
    columns[column][1] = bad
    table = pa.table({name: damaged(values) for name, values in columns.items()})
    times = pa.array([0, 1, 2], pa.timestamp("us"))
    table = table.append_column("inserted_at", times)
    pipeline.configure(LENIENT)
    pipeline.sql("CREATE TABLE t (user_id VARCHAR, event_name VARCHAR, p VARCHAR, _c VARCHAR, inserted_at TIMESTAMP)")
    pipeline.model(
        "m", "event='track', cursor='_c', begin='all'" + (", unique_key='user_id'" if keyed else ""), "select * from t"
    )

    def stream(_: DuckDBWarehouse, _sql: str) -> Source:
        engine = Engine().connect()
        engine.register("rows", pa.RecordBatchReader.from_batches(table.schema, table.to_batches()))
        return Source(engine, "rows", streams=True)

    monkeypatch.setattr(DuckDBWarehouse, "open", stream)
    first = pipeline.good()
    assert (first.counts.added, first.counts.invalid) == (2, 1)
    assert sorted(row["user_id"] for row in pipeline.imported()) == ["a", "c"]
    (reject,) = pipeline.rejects()
    assert "invalid_utf8" in reject.reasons
    again = pipeline.good().counts
    assert (again.added, again.invalid + again.suppressed) == (0, 1)


def test_lines_are_single_lines_whatever_is_in_them(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE t AS SELECT 'u' || i AS user_id, chr(i::INTEGER) AS p FROM range(1, 300) AS r(i)")
    pipeline.model("m", "event='identify_user'", "select * from t")
    assert pipeline.good().counts.added == 299
    found: dict[str, Any] = {row["user_id"]: row["metadata"]["p"] for row in pipeline.imported()}
    assert found == {f"u{i}": chr(i) for i in range(1, 300)}
