"""What every warehouse has to do, with its real client over a real connection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from beds import Bed, rows, sent, table

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.values import CursorKind, CursorValue
from warehouse_sync.warehouses.base import Warehouse, cursor_literal

MOMENT = "2025-03-04 05:06:07.123456"


@pytest.fixture
def warehouse(bed: Bed):
    opened = bed.open()
    yield opened
    opened.close()


def test_types_become_the_same_json(bed: Bed, warehouse: Warehouse) -> None:
    query = {
        "duckdb": "SELECT 7 AS a, 34.70::DECIMAL(10, 2) AS b, 1.5::DOUBLE AS c, 'é\"' AS d, NULL::VARCHAR AS e",
        "postgres": "SELECT 7 AS a, 34.70::NUMERIC(10, 2) AS b, 1.5::FLOAT8 AS c, 'é\"' AS d, NULL::TEXT AS e",
        "sqlite": "SELECT 7 AS a, 34.7 AS b, 1.5 AS c, 'é\"' AS d, NULL AS e",
        "mariadb": "SELECT 7 AS a, CAST(34.70 AS DECIMAL(10, 2)) AS b, 1.5E0 AS c, 'é\"' AS d, NULL AS e",
        "snowflake": "SELECT 7 AS a, 34.70::NUMBER(10, 2) AS b, 1.5::FLOAT AS c, 'é\"' AS d, NULL::VARCHAR AS e",
    }[bed.name]
    (line,) = sent(warehouse, query)
    assert line == {
        "a": "7",
        "b": "34.7" if bed.name == "sqlite" else "34.70",
        "c": "1.5",
        "d": '"\\u00e9\\""',
        "e": "null",
    }


def test_times_become_the_same_json(bed: Bed, warehouse: Warehouse) -> None:
    if bed.name == "sqlite":
        pytest.skip("SQLite has no types of time")
    (_, line) = sent(warehouse, "SELECT moment, aware, day FROM moments ORDER BY number")
    assert line == {
        "moment": '"2025-03-04T05:06:07.123456"',
        "aware": '"2025-03-04T05:06:07.123456Z"',
        "day": '"2025-03-04"',
    }


def test_describe_agrees_with_the_rows(bed: Bed, warehouse: Warehouse) -> None:
    described = warehouse.describe("SELECT * FROM moments")
    read = table(warehouse.open("SELECT * FROM moments")).schema
    assert [name.lower() for name in described.names] == ["moment", "aware", "day", "number", "word"]
    assert described.names == read.names
    # The engine gives every text with 64-bit offsets.
    shown = [str(field.type).removeprefix("large_") for field in read]
    assert [str(field.type).removeprefix("large_") for field in described] == shown


def test_describe_does_not_run_the_query(bed: Bed, warehouse: Warehouse) -> None:
    if bed.name == "sqlite":
        pytest.skip("SQLite tells no types: the first rows are read")
    query = {
        "duckdb": "SELECT error('was run') AS x",
        "postgres": "SELECT pg_sleep(60)::text AS x",
        "snowflake": "SELECT 1 / 0 AS x, to_number('no number') AS y",
        "mariadb": "SELECT sleep(60) AS x FROM bystander",
    }[bed.name]
    began = datetime.now(UTC)
    assert warehouse.describe(query).names[0].lower() == "x"
    assert datetime.now(UTC) - began < timedelta(seconds=20)


def test_rows_stream_with_bounded_memory(bed: Bed, warehouse: Warehouse) -> None:
    source, seen, least, most = warehouse.open(bed.wide_rows), 0, 0, 0
    for batch in source.connection.sql(f"FROM {source.relation}").to_arrow_reader(2048):
        seen += batch.num_rows
        if seen < 10_000:
            least = _resident()
        most = max(most, _resident())
    assert seen == 100_000
    assert most - least < 45_000_000, "the whole result is 51 MB"


def test_a_stream_can_be_left_early(bed: Bed, warehouse: Warehouse) -> None:
    source = warehouse.open(bed.wide_rows)
    assert len(source.connection.sql(f"FROM {source.relation} LIMIT 5").fetchall()) == 5
    assert int(warehouse.scalar("SELECT 5")) == 5
    assert len(rows(warehouse.open("SELECT 1 AS a UNION ALL SELECT 2"))) == 2


def test_no_rows(warehouse: Warehouse) -> None:
    assert rows(warehouse.open("SELECT i FROM bystander")) == []


@pytest.mark.parametrize(
    ("sql", "name"), [("SELECT * FROM no_such", "no_such"), ("SELECT nope FROM bystander", "nope")]
)
def test_missing_things_are_named(warehouse: Warehouse, sql: str, name: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        warehouse.describe(sql)
    assert name in caught.value.message.lower()
    assert not isinstance(caught.value, ConnectionLost)
    assert rows(warehouse.open("SELECT 1 AS a"))


def test_broken_sql_names_the_line(bed: Bed, warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError) as caught:
        warehouse.describe("SELECT 1 AS a,\n\n2 2 2 AS b FROM bystander")
    assert caught.value.line == {"sqlite": 0, "snowflake": 3}.get(bed.name, 3)


def test_errors_show_no_value_of_a_row(bed: Bed, warehouse: Warehouse) -> None:
    if not bed.failing:
        pytest.skip("no cast of this database fails")
    source = warehouse.open(bed.failing)
    with pytest.raises(duckdb.Error) as caught:
        source.connection.sql(f"SELECT sum(x) FROM {source.relation}").fetchall()
    explained = warehouse.explain(caught.value)
    assert not isinstance(explained, ConnectionLost)
    assert "secretvalue" not in str(explained) + repr(explained.__cause__)
    assert rows(warehouse.open("SELECT 1 AS a"))


def test_nothing_can_be_written(bed: Bed, warehouse: Warehouse) -> None:
    if bed.name == "snowflake":
        pytest.skip("Snowflake has no read-only session")
    with pytest.raises(WarehouseError):
        warehouse.scalar("INSERT INTO bystander VALUES (1)")
    warehouse.close()
    again = bed.open()
    assert rows(again.open("SELECT i FROM bystander")) == []
    again.close()


def test_the_clock_is_utc(warehouse: Warehouse) -> None:
    now = warehouse.now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)


KINDS = {
    "moment": CursorKind.TIMESTAMP,
    "aware": CursorKind.TIMESTAMPTZ,
    "day": CursorKind.DATE,
    "number": CursorKind.INTEGER,
    "word": CursorKind.STRING,
}


@pytest.mark.parametrize("column", KINDS)
def test_cursor_literals_keep_every_digit(bed: Bed, warehouse: Warehouse, column: str) -> None:
    """Of two rows a microsecond apart, the bound at the later one reads the later one, and that one only."""
    kind = KINDS[column] if bed.name != "sqlite" or column == "number" else CursorKind.STRING
    aware = "+00:00" if kind is CursorKind.TIMESTAMPTZ else ""
    texts = {"moment": MOMENT + aware, "aware": MOMENT + aware, "day": "2025-03-04", "number": "9007199254740993"}
    value = CursorValue(kind, texts.get(column, "it's \\ ü 9007199254740993"))
    literal = cursor_literal(value, warehouse.dialect)
    name = warehouse.quote(column.upper() if warehouse.folds_upper else column)
    for sign in (">=", "="):
        assert len(rows(warehouse.open(f"SELECT * FROM moments WHERE {name} {sign} {literal}"))) == 1


def test_names_fold_as_in_the_warehouse(bed: Bed, warehouse: Warehouse) -> None:
    mark = "`" if bed.name == "mariadb" else '"'
    sql = f"SELECT 1 AS PlAin, 2 AS {mark}Mi Xed{mark}"
    names = warehouse.describe(sql).names
    assert names[0] == {"postgres": "plain", "snowflake": "PLAIN"}.get(bed.name, "PlAin")
    assert names[1] == "Mi Xed"
    where = " AND ".join(f"{warehouse.quote(name)} > 0" for name in names)
    assert len(rows(warehouse.open(f"SELECT * FROM ({sql}) AS model WHERE {where}"))) == 1


def test_check_says_where_and_shows_no_secret(bed: Bed, warehouse: Warehouse) -> None:
    said = warehouse.check()
    assert "\n" not in said
    assert "correct" not in said


def test_closing_twice_is_fine(bed: Bed) -> None:
    warehouse = bed.open()
    warehouse.label("users")
    warehouse.close()
    warehouse.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
