"""Bytes that are not UTF-8, wherever they come in: the row is refused, its neighbours are sent, the query goes on.

The one place left out is the key of an Arrow MAP: DuckDB 2.0 stops the query while it reads the batch.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from events_harness import build, outcome, rows_of
from harness import duckdb_session

BAD = [
    b"a\xffb",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xff\x00",
    b'{"a":"\xff"}',
    b'{"\xed\xa0\x80":1}',
    b"https://h\xff/",
    b" \xf0\x9f",
]
GOOD = b'{"a":1}'


def strings(values: list[bytes | None], type_: pa.DataType | None = None) -> pa.Array:
    """A string array that nobody has checked."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(binary), binary.buffers(), binary.null_count)


def lay_out(array: pa.Array, layout: str) -> pa.Array:
    """The same strings plain, as a dictionary, or inside other values."""
    n = len(array)
    if layout == "dictionary":
        return pa.DictionaryArray.from_arrays(pa.array(range(n), pa.int32()), array)
    if layout == "list":
        return pa.ListArray.from_arrays(pa.array(range(n + 1), pa.int32()), array)
    if layout == "struct":
        return pa.StructArray.from_arrays([pa.array([1] * n), array], ["n", "t"])
    if layout == "map":
        return pa.MapArray.from_arrays(pa.array(range(n + 1), pa.int32()), pa.array(["k"] * n), array)
    return array


def outcomes(table: pa.Table, **header: Any) -> list[str]:
    connection = duckdb_session()
    connection.register("arrow_rows", table)
    rows = rows_of(connection, build(header, table.schema), "arrow_rows")
    assert connection.sql("select 1").fetchall() == [(1,)], "the database is still there"
    return [outcome(row) for row in rows]


PLACES = [
    (name, layout)
    for name in ("user_id", "company_id", "_key", "json", "inserted_at")
    for layout in ("plain", "dictionary")
]
PLACES += [("name", layout) for layout in ("plain", "dictionary", "list", "struct", "map")]
PLACES += [("metadata", layout) for layout in ("plain", "dictionary", "struct", "map")]


@pytest.mark.parametrize(("nulls", "nested"), [("send", "json"), ("omit", "flatten")])
@pytest.mark.parametrize(("name", "layout"), PLACES)
def test_refused(name: str, layout: str, nulls: str, nested: str) -> None:
    values = lay_out(strings([*BAD, GOOD, None]), layout)
    field = pa.field(name, values.type, metadata={"duckdb_type": "JSON"} if name == "json" else {})
    ids = pa.array([f"u{i}" for i in range(len(values))])
    columns = [pa.field("user_id", pa.string()), field] if name != "user_id" else [field]
    table = pa.table([ids, values] if name != "user_id" else [values], schema=pa.schema(columns))
    header: dict[str, Any] = {"event": "identify_user", "nulls": nulls, "nested": nested}
    if name == "_key":
        header |= {"unique_key": ["user_id", "_key"], "cursor": "_key"}
    found = outcomes(table, **header)
    for row in found[: len(BAD)]:
        assert row.startswith("invalid: ")
        assert "invalid_utf8" in row
    sent = [row for row in found[len(BAD) :] if "invalid_utf8" not in row]
    assert len(sent) == 2


@pytest.mark.parametrize("name", ["url", "hostname", "pathname", "source", "user_agent", "event_name", "country_code"])
def test_fields_of_a_page_view(name: str) -> None:
    n = len(BAD) + 1
    values = {
        "user_id": pa.array(["u"] * n),
        "hostname": pa.array(["h"] * n),
        "pathname": pa.array(["/"] * n),
        "inserted_at": pa.array([0] * n, pa.timestamp("us")),
    }
    good = {"url": b"https://h/", "source": b"backend-http"}.get(name, b"x")
    values[name] = strings([*BAD, good])
    found = outcomes(pa.table(values), event="page_view")
    assert ["invalid_utf8" in row for row in found] == [True] * len(BAD) + [False]
    assert found[-1].startswith('{"event_type"')


def test_a_key_that_is_not_utf8_is_shown_escaped() -> None:
    table = pa.table({"user_id": strings([b"a\xffb", b"ok"])})
    connection = duckdb_session()
    connection.register("arrow_rows", table)
    rows = rows_of(connection, build({"event": "identify_user"}, table.schema), "arrow_rows")
    assert [row["key"] for row in rows] == ["a\\xFFb", "ok"]
