"""Keys, hashes, cursors, what the encoding says about itself, and types that only Arrow or only a hint can tell."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from events_harness import build, outcome, rows_of, schema_of
from harness import duckdb_session

from warehouse_sync.errors import ModelError
from warehouse_sync.events.encode import Encoding
from warehouse_sync.events.reasons import Note, Reason, decode
from warehouse_sync.events.row_hash import encoder_version

EVENT = "'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at"


def run(sql: str, **header: Any) -> list[dict[str, Any]]:
    connection = duckdb_session()
    return rows_of(connection, build(header, schema_of(connection, sql)), f"({sql})")


def compiled(sql: str, **header: Any) -> Encoding:
    return build(header, schema_of(duckdb_session(), sql))


def md5(text: str) -> bytes:
    return hashlib.md5(text.encode()).digest()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("'a\"ü'", 'a"ü'),
        ("42", "42"),
        ("34.70::decimal(10,2)", "34.70"),
        ("1.5::double", "1.5"),
        ("true", "true"),
        ("'e9b2a0c4-7f6f-4a39-8d7e-3c1c36b3a5f1'::uuid", "e9b2a0c4-7f6f-4a39-8d7e-3c1c36b3a5f1"),
        ("date '2026-01-02'", "2026-01-02"),
        ("timestamp '2026-01-02 03:04:05'", "2026-01-02T03:04:05.000000"),
        ("timestamptz '2026-01-02 03:04:05+01'", "2026-01-02T02:04:05.000000Z"),
        ("'infinity'::timestamp", "infinity"),
        ("time '03:04:05'", "03:04:05"),
    ],
)
def test_a_key_of_one_column_is_its_text(value: str, key: str) -> None:
    (row,) = run(f"select {EVENT}, {value} as id", unique_key="id")
    assert row["key"] == key
    assert row["key_hash"] == md5(key)


def test_a_key_of_several_columns_is_a_json_array() -> None:
    first, second = run(f"select {EVENT}, * from (values ('a,\"b', 1), ('x', null)) t(a, b)", unique_key=["b", "a"])
    assert first["key"] == '[1,"a,\\"b"]'
    assert first["key_hash"] == md5(first["key"])
    assert (second["key"], second["key_hash"]) == (None, None)
    assert decode(second["reasons"]) == (Reason.KEY_MISSING,)


@pytest.mark.parametrize(
    "values",
    [
        "'nan'::double, 'inf'::double, '-inf'::double, '-0'::double, 0::double",
        "'infinity'::timestamp, '-infinity'::timestamp, timestamp '12024-01-01', timestamp '2024-01-01'",
        "'infinity'::date, '-infinity'::date, date '12024-01-01', date '2024-01-01'",
        "'a', 'a' || chr(0), 'null'",
    ],
)
def test_what_is_sent_as_null_is_still_another_key(values: str) -> None:
    for key in (["k"], ["user_id", "k"]):
        found = run(f"select {EVENT}, unnest([{values}]) as k", unique_key=key)
        assert len({row["key"] for row in found}) == len(found), key
        assert not any(row["reasons"] for row in found)


def test_a_thousand_columns_are_planned_in_no_time() -> None:
    columns = ", ".join(f"'{'inf' if i == 777 else i}'::double as c{i}" for i in range(1000))
    began = time.process_time()  # others may be at work on this machine
    (row,) = run(f"select 'u' as user_id, {columns}", event="identify_user")
    assert time.process_time() - began < 10
    assert row["notes"] == Note.NAN_TO_NULL.bit


def test_a_key_means_the_column_that_was_renamed_to_the_field() -> None:
    (row,) = run("select 7 as id", event="identify_user", rename={"id": "user_id"})
    assert row["key"] == "7"


def test_without_a_key_the_row_hash_is_the_lines() -> None:
    (row,) = run(f"select {EVENT}")
    assert (row["key"], row["key_hash"]) == (None, None)
    assert row["row_hash"] == md5(row["line"])


def row_hash(names: list[str], values: list[str]) -> bytes:
    """The definition in the docstring of `encode`, again."""
    return md5(hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16] + "[" + ",".join(values) + "]")


def test_the_row_hash_as_documented() -> None:
    sql = (
        "select 'u' as user_id, null::varchar as company_id, 34.70::decimal(9,2) as b, null::int as a,"
        " '{\"z\":1}' as metadata"
    )
    (row,) = run(sql, event="identify_user")
    names = ["company_id", "metadata", "metadata.a", "metadata.b", "user_id"]
    assert row["row_hash"] == row_hash(names, ["", ',"z":1', "null", "34.70", '"u"'])
    (row,) = run(sql, event="identify_user", nulls="omit")
    assert row["row_hash"] == row_hash(names, ["", ',"z":1', "", "34.70", '"u"'])


def test_the_row_hash_is_frozen() -> None:
    (row,) = run("select 'u' as user_id, 'Pro' as plan", event="identify_user")
    assert row["row_hash"].hex() == "ed0daf927f0aa941324e9d324509c0a1"
    assert encoder_version() == 1


def test_time_cursor_and_ignored_columns_are_not_hashed() -> None:
    columns = "'u' as user_id, 'x' as plan"
    header: dict[str, Any] = {"event": "identify_user", "cursor": "loaded", "ignore_changes": ["seen", "metadata"]}
    days = [
        f"select {columns}, timestamp '2026-01-0{i}' as inserted_at, {i} as loaded, {i} as seen,"
        f" '{{\"a\":{i}}}' as metadata"
        for i in (1, 2)
    ]
    hashes = {run(sql, **header)[0]["row_hash"] for sql in days}
    assert hashes == {row_hash(["metadata.plan", "user_id"], ['"x"', '"u"'])}


def test_the_fields_of_a_flattened_struct_are_ignored_with_it() -> None:
    header: dict[str, Any] = {"event": "identify_user", "nested": "flatten", "ignore_changes": ["s"]}
    (row,) = run("select 'u' as user_id, {'a': 1, 'b': {'c': 2}} as s", **header)
    assert row["row_hash"] == row_hash(["user_id"], ['"u"'])


def test_the_cursor_stays_as_it_is() -> None:
    (row,) = run(f"select {EVENT}, 9007199254740993 as n", cursor="N")
    assert row["cursor"] == 9007199254740993
    (row,) = run(f"select {EVENT}, 'a' as n", cursor="n")
    assert row["cursor"] == "a"
    (row,) = run(f"select {EVENT}")
    assert row["cursor"] is None


def test_what_an_encoding_says_about_itself() -> None:
    encoding = compiled(
        "select 1 as user_id, 'x' as hostname, 1.5::double as score, 1::int as n, 2::decimal(9,2) as d,"
        " date '2026-01-01' as born, timestamptz '2026-01-01 00:00:00+00' as seen, true as admin, [1] as tags,"
        " {'k': 1} as metadata, uuid() as u, 'x' as _hidden",
        event="identify_user",
    )
    assert {one.name: one.type for one in encoding.properties} == {
        "hostname": "String",
        "score": "Numeric",
        "n": "Numeric",
        "d": "Numeric",
        "born": "Date",
        "seen": "Date",
        "admin": "Boolean",
        "tags": "String",
        "u": "String",
    }
    assert encoding.fields == {"user_id": "user_id"}
    assert encoding.reason_columns[Reason.USER_ID_MISSING] == ("user_id",)
    assert encoding.reason_columns[Reason.INVALID_UTF8] == ("hostname", "u")
    assert (encoding.version, encoding.warnings) == (1, ())


def test_flattened_properties_name_their_column() -> None:
    encoding = compiled(
        "select 'u' as user_id, {'a': 1, 'b': {'c': 'x'}} as s", event="identify_user", nested="flatten"
    )
    assert [(one.name, one.column, one.type) for one in encoding.properties] == [
        ("s.a", "s", "Numeric"),
        ("s.b.c", "s", "String"),
    ]


def test_a_great_many_properties_are_warned_about() -> None:
    columns = ", ".join(f"{i} as p{i}" for i in range(501))
    encoding = compiled(f"select 'u' as user_id, {columns}", event="identify_user")
    assert encoding.warnings == ("501 properties are sent; Userpilot is said to keep 500 at most",)


def test_invalid_rows_may_be_encoded_too() -> None:
    """The line of an invalid row is never sent, but computing it must not stop the query."""
    sql = (
        "select * from (values (null, null, null), ('', 'x' || chr(0), 'infinity'::timestamp))"
        " t(user_id, url, inserted_at)"
    )
    connection = duckdb_session()
    row = build({"event": "page_view"}, schema_of(connection, sql)).row
    assert len(connection.sql(f"select {row.line(row.inserted_at)} as line from ({sql})").fetchall()) == 2


def test_reasons_and_notes_are_single_bits_with_codes_and_sentences() -> None:
    for flags in (Reason, Note):
        assert [flag.bit for flag in flags] == [1 << i for i in range(len(flags))]
        assert len({flag.code for flag in flags}) == len(flags)
        assert all(flag.sentence.endswith(".") for flag in flags)
    assert decode(0) == ()
    assert decode(Reason.USER_ID_MISSING.bit | Reason.INVALID_UTF8.bit) == (Reason.USER_ID_MISSING, Reason.INVALID_UTF8)


def arrow(field: pa.Field, values: pa.Array, **header: Any) -> list[str]:
    """What becomes of a column of users that only Arrow can give."""
    users = pa.array([f"u{i}" for i in range(len(values))])
    table = pa.table([users, values], schema=pa.schema([pa.field("user_id", pa.string()), field]))
    connection = duckdb_session()
    connection.register("arrow_rows", table)
    rows = rows_of(connection, build({"event": "identify_user", **header}, table.schema), "arrow_rows")
    return [outcome(row).split('"metadata":')[-1].removesuffix("}") for row in rows]


def storage(name: str, values: list[Any], type_: pa.DataType) -> tuple[pa.Field, pa.Array]:
    return pa.field(name, type_), pa.array(values, type_)


@pytest.mark.parametrize(
    ("values", "type_", "sent"),
    [
        (["a"], pa.string_view(), '"a"'),
        ([1.5], pa.decimal32(5, 2), "1.50"),
        ([1.5], pa.decimal64(15, 2), "1.50"),
        ([86403], pa.duration("s"), '"24:00:03"'),
        ([5], pa.time32("s"), '"00:00:05"'),
        ([5000], pa.time64("ns"), '"00:00:00.000005"'),
        ([0], pa.date64(), '"1970-01-01"'),
        ([1_234_567_890_123_456_789], pa.timestamp("ns", tz="UTC"), '"2009-02-13T23:31:30.123456Z"'),
        ([-1], pa.timestamp("ns", tz="Asia/Tokyo"), '"1969-12-31T23:59:59.999999Z"'),
        ([5], pa.timestamp("ms", tz="UTC"), '"1970-01-01T00:00:00.005000Z"'),
        ([2**60], pa.timestamp("s"), "null"),
        ([[1, None]], pa.list_view(pa.int32()), '"[1,null]"'),
        ([[1]], pa.large_list(pa.int32()), '"[1]"'),
    ],
)
def test_types_of_arrow(values: list[Any], type_: pa.DataType, sent: str) -> None:
    if pa.types.is_decimal(type_):
        array = pa.array(values, pa.float64()).cast(pa.decimal128(type_.precision, 2)).cast(type_)
    else:
        array = pa.array(values, type_)
    assert arrow(pa.field("v", type_), array)[0].endswith(f'{{"v":{sent}}}')


def test_dictionaries_of_other_values() -> None:
    for values, sent in ((pa.array([1, 2**60]), "1"), (pa.array([1]).cast(pa.decimal128(38, 2)), "1.00")):
        encoded = values.dictionary_encode()
        assert arrow(pa.field("v", encoded.type), encoded)[0] == f'{{"v":{sent}}}'
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"]))
    assert arrow(pa.field("v", runs.type), runs) == ['{"v":"a"}'] * 2


@pytest.mark.parametrize("native", ["VARIANT", "OBJECT", "ARRAY"])
def test_snowflake_says_what_is_json(native: str) -> None:
    field = pa.field("v", pa.string(), metadata={"logicalType": native})
    values = pa.array(['"Pro"', '{\n  "a": 1.50\n}', "34.70", None, "undefined"])
    assert arrow(field, values) == [
        '{"v":"Pro"}',
        '{"v":"{\\n  \\"a\\": 1.50\\n}"}',
        '{"v":34.70}',
        '{"v":null}',
        '{"v":"undefined"}',
    ]
    assert arrow(field.with_name("metadata"), pa.array(['{"a":1}', '{\n  "a": {"b": 1.50}\n}'])) == [
        '{"a":1}',
        '{"a":"{\\"b\\": 1.50}"}',
    ]


def test_extension_types() -> None:
    json_text = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['"x"', "[1]"]))
    assert arrow(pa.field("v", json_text.type), json_text) == ['{"v":"x"}', '{"v":"[1]"}']
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))
    assert arrow(pa.field("v", uuid.type), uuid) == ['{"v":"30303030-3030-3030-3030-303030303030"}']
    inside = pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), json_text)
    assert arrow(pa.field("v", inside.type), inside) == ['{"v":"[\\"x\\",[1]]"}']
    boolean = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
    assert arrow(pa.field("v", boolean.type), boolean) == ['{"v":true}', '{"v":false}']


def test_duckdb_without_loss() -> None:
    connection = duckdb.connect()
    connection.execute("SET arrow_lossless_conversion = true")
    sql = (
        "select 'u' as user_id, 12345678901234567890123::hugeint as h, 1::uhugeint as uh, '08:05:00+02'::timetz as t,"
        " '0101'::bit as b, '00000000-0000-0000-0000-000000000000'::uuid as u, '\"x\"'::json as j,"
        " 5::bignum as n, true as o"
    )
    table = connection.sql(sql).to_arrow_table()
    connection.register("arrow_rows", table)
    (row,) = rows_of(connection, build({"event": "identify_user"}, table.schema), "arrow_rows")
    assert json.loads(row["line"])["metadata"] == {
        "h": 12345678901234567890123,
        "uh": 1,
        "t": "08:05:00+02",
        "b": "0101",
        "u": "00000000-0000-0000-0000-000000000000",
        "j": "x",
        "n": 5,
        "o": True,
    }


@pytest.mark.parametrize(
    "type_",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary(16),
        pa.binary_view(),
        pa.decimal256(40, 2),
        pa.decimal128(5, -2),
        pa.float16(),
        pa.dense_union([pa.field("a", pa.int32())]),
        pa.list_(pa.binary()),
        pa.struct([("a", pa.decimal256(40, 2))]),
        pa.opaque(pa.binary(), "geometry", "x"),
    ],
)
def test_types_that_cannot_be_sent(type_: pa.DataType) -> None:
    schema = pa.schema([("user_id", pa.string()), ("v", type_)])
    with pytest.raises(ModelError, match="'v'") as caught:
        build({"event": "identify_user"}, schema)
    assert "exclude_columns" in caught.value.hint
    build({"event": "identify_user", "exclude_columns": ["v"]}, schema)


def test_geography_cannot_be_sent() -> None:
    field = pa.field("v", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    with pytest.raises(ModelError, match=r"'v': GEOARROW\.WKB values"):
        build({"event": "identify_user"}, pa.schema([pa.field("user_id", pa.string()), field]))


def test_columns_that_differ_by_case_only() -> None:
    with pytest.raises(ModelError, match="two columns"):
        build(
            {"event": "identify_user"},
            pa.schema([("user_id", pa.string()), ("Plan", pa.string()), ("PLAN", pa.string())]),
        )


def test_the_nearest_column_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        compiled(f'select {EVENT}, 1 as "Event_Id"', unique_key="event_idd")
    assert caught.value.hint == "Did you mean 'Event_Id'?"
    with pytest.raises(ModelError) as caught:
        compiled(f"select {EVENT}", unique_key="zzz")
    assert caught.value.hint == "It returns user_id, event_name, inserted_at."


def test_one_hundred_kilobytes_and_hard_text_in_keys() -> None:
    (row,) = run("select repeat('\"ü', 100000) as user_id", event="identify_user")
    assert json.loads(row["line"])["user_id"] == '"ü' * 100000


def test_many_columns_go_through_one_query() -> None:
    columns = ", ".join(f"'v' as p{i}" for i in range(400))
    (row,) = run(f"select 'u' as user_id, {columns}", event="identify_user", nulls="omit")
    assert len(json.loads(row["line"])["metadata"]) == 400
