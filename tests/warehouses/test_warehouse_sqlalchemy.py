"""The generic way in: types that drivers do not name, values that do not fit, MariaDB's and SQLite's own traps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from beds import ENGINE, Bed, rows, sent
from servers import free_port

from warehouse_sync.errors import ConnectionLost, WarehouseError
from warehouse_sync.warehouses import python_values
from warehouse_sync.warehouses.base import Warehouse, dialect_of_url, open_warehouse
from warehouse_sync.warehouses.sqlalchemy import SAMPLE_ROWS, mysql_field

NUMBERS = str(python_values.numbers("x").type)


@pytest.fixture
def maria(mariadb_bed: Bed) -> Iterator[Warehouse]:
    mariadb_bed.execute(
        "SET sql_mode = ''",
        "CREATE TABLE t (tiny TINYINT(1), unsigned_big BIGINT UNSIGNED, price DECIMAL(10, 2), huge DECIMAL(50, 10),"
        " single FLOAT, word VARCHAR(20), doc JSON, kind ENUM('a', 'b'), at DATETIME(6), stamp TIMESTAMP(6) NULL,"
        " day DATE, clock TIME, made YEAR, blank VARCHAR(3), raw VARBINARY(4))",
        "INSERT INTO t VALUES (1, 18446744073709551615, 34.70, 123.4567, 0.1, 'x%d:y', '{\"a\": 1}', 'a',"
        " '2025-01-01 00:00:00.123456', '2025-01-01 00:00:00.5', '2025-01-01', '-10:00:01.5', 2025, NULL, x'00ff')",
        "INSERT INTO t (at, day) VALUES ('0000-00-00', '0000-00-00')",
    )
    warehouse = mariadb_bed.open()
    yield warehouse
    warehouse.close()


def test_sqlite_shows_columns_as_the_query_names_them(sqlite_bed: Bed) -> None:
    warehouse = sqlite_bed.open()
    assert warehouse.describe("SELECT 1 AS id, 2 AS ID, 3 AS x").names == ["id", "ID", "x"]
    assert warehouse.describe('SELECT 1 AS id, 2 AS "id:1"').names == ["id", "id:1"]
    warehouse.close()


def test_mariadb_types(maria: Warehouse) -> None:
    lines = sent(
        maria,
        "SELECT tiny, unsigned_big, price, huge, single, word, doc, kind, at, stamp, day, clock, made, blank FROM t",
    )
    assert lines[0] == {
        "tiny": "1",
        "unsigned_big": "18446744073709551615",
        "price": "34.70",
        "huge": "123.4567000000",
        "single": "0.1",
        "word": '"x%d:y"',
        "doc": '"{\\"a\\": 1}"',
        "kind": '"a"',
        "at": '"2025-01-01T00:00:00.123456"',
        "stamp": '"2025-01-01T00:00:00.500000Z"',
        "day": '"2025-01-01"',
        "clock": '"-10:00:01"',
        "made": "2025",
        "blank": "null",
    }
    assert {lines[1]["at"], lines[1]["day"]} == {"null"}, "zero dates are no moment"


def test_mariadb_binary_is_binary(maria: Warehouse) -> None:
    assert maria.describe("SELECT raw FROM t").field("raw").type == pa.binary()


def test_a_function_cannot_write_either(mariadb_bed: Bed, maria: Warehouse, tmp_path: Path) -> None:
    mariadb_bed.execute(
        "CREATE FUNCTION sneak() RETURNS INTEGER BEGIN INSERT INTO bystander VALUES (1); RETURN 1; END",
    )
    with pytest.raises((WarehouseError, duckdb.Error)) as caught:
        rows(maria.open("SELECT sneak() AS x"))
    explained = caught.value if isinstance(caught.value, WarehouseError) else maria.explain(caught.value)
    assert "refuses to write" in explained.message
    assert rows(maria.open("SELECT i FROM bystander")) == []


def test_percent_and_colon_in_the_sql_are_text(maria: Warehouse) -> None:
    assert rows(maria.open("SELECT '%s %(a)s :b %%' AS x")) == [("%s %(a)s :b %%",)]


def test_a_killed_session_is_lost(mariadb_bed: Bed, maria: Warehouse) -> None:
    number = int(maria.scalar("SELECT CONNECTION_ID()"))
    mariadb_bed.execute(f"KILL CONNECTION {number}")
    with pytest.raises(ConnectionLost):
        maria.scalar("SELECT 1")
    assert rows(maria.open("SELECT 1 AS a")) == [(1,)]


def test_a_session_lost_in_the_middle(mariadb_bed: Bed, maria: Warehouse) -> None:
    number = int(maria.scalar("SELECT CONNECTION_ID()"))
    source = maria.open("SELECT seq AS i, repeat('x', 500) AS t FROM seq_0_to_2000000")
    reader = source.connection.sql(f"FROM {source.relation}").to_arrow_reader(2048)
    reader.read_next_batch()
    mariadb_bed.execute(f"KILL CONNECTION {number}")
    with pytest.raises((duckdb.Error, OSError)) as caught:
        for _ in reader:
            pass
    assert isinstance(maria.explain(caught.value), ConnectionLost)
    assert rows(maria.open("SELECT 1 AS a")) == [(1,)]


@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        ("reader:correct%20horse", "reader:wrong", "refuses the user or the password"),
        ("/app", "/nowhere", "may not use this database"),
        ("127.0.0.1", "nowhere.invalid", "host name that nobody knows"),
        (":{port}/", ":{free}/", "refuses connections"),
        ("/app", "/app?ssl_verify_cert=true&ssl_ca=/etc/hostname", "broke off the TLS handshake"),
        ("/app", "/app?ssl_ca=/nowhere.pem", "needs a file that is not there"),
    ],
)
def test_no_way_in(mariadb_bed: Bed, part: str, other: str, message: str) -> None:
    url = str(mariadb_bed.settings["url"])
    port = mariadb_bed.extra["server"].port
    with pytest.raises(WarehouseError) as caught:
        mariadb_bed.open(url=url.replace(part.format(port=port), other.format(free=free_port())))
    assert message in caught.value.message
    assert not {"horse", "wrong"} & set(str(caught.value).replace(":", " ").replace("%20", " ").split())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at.all", "does not exist"),
        ("nosuch://x", "knows no dialect"),
        ("oracle+oracledb://a:b@c/d", "not installed"),
        ("no url", "is no SQLAlchemy URL"),
    ],
)
def test_no_such_url(url: str, message: str) -> None:
    with pytest.raises(WarehouseError, match=message):
        open_warehouse("sqlalchemy", {"url": url}, ENGINE)


def test_a_file_that_is_no_database(sqlite_bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(WarehouseError):
        sqlite_bed.open(url=f"sqlite:///{tmp_path}/text.db").describe("SELECT * FROM x")


def test_a_rare_value_decides_the_type(sqlite_bed: Bed) -> None:
    sqlite_bed.execute(
        "CREATE TABLE rare AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " SELECT i, CASE WHEN i = 4000 THEN 1.5 END AS seldom, NULL AS never FROM n"
    )
    warehouse = sqlite_bed.open()
    schema = warehouse.describe("SELECT * FROM rare")
    assert [str(kind) for kind in schema.types] == ["int64", NUMBERS, "string"]
    assert sum(row[1] is not None for row in rows(warehouse.open("SELECT * FROM rare"))) == 1
    warehouse.close()


def test_all_queries_of_a_model_decide_about_a_type(sqlite_bed: Bed) -> None:
    sqlite_bed.execute("CREATE TABLE grown AS SELECT 1 AS i, 34.5 AS price UNION ALL SELECT 2, NULL")
    warehouse = sqlite_bed.open()
    warehouse.label("grown")
    assert str(warehouse.describe("SELECT * FROM grown").field("price").type) == NUMBERS
    assert str(warehouse.describe("SELECT * FROM grown WHERE i > 1").field("price").type) == NUMBERS
    warehouse.label("another")
    assert str(warehouse.describe("SELECT * FROM grown WHERE i > 1").field("price").type) == "string"
    warehouse.close()


def test_values_that_do_not_fit_ask_for_a_cast(sqlite_bed: Bed) -> None:
    assert SAMPLE_ROWS < 3000
    sqlite_bed.execute(
        "CREATE TABLE mixed AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " SELECT CASE WHEN i = 3000 THEN 'secretvalue' ELSE i END AS x FROM n"
    )
    warehouse = sqlite_bed.open()
    source = warehouse.open("SELECT x FROM mixed")
    with pytest.raises(duckdb.Error) as caught:
        rows(source)
    explained = warehouse.explain(caught.value)
    assert "'x' holds values" in explained.message
    assert "secretvalue" not in str(explained)
    warehouse.label("mended")
    assert rows(warehouse.open("SELECT CAST(x AS TEXT) AS x FROM mixed WHERE x = 'secretvalue'")) == [("secretvalue",)]
    warehouse.close()


@pytest.mark.parametrize(
    ("values", "expected", "read"),
    [
        ([True, None], "bool", [True, None]),
        ([1, 2**62], "int64", [1, 2**62]),
        ([1, 2**70], "decimal128(38, 0)", [Decimal(1), Decimal(2**70)]),
        ([1, 1.5, 1e22, 2**53 + 1], NUMBERS, ["1", "1.5", "1e+22", "9007199254740993"]),
        ([0.1, float("inf"), None], NUMBERS, ["0.1", "inf", None]),
        ([Decimal("34.70"), Decimal("NaN"), None], NUMBERS, ["34.70", "NaN", None]),
        (["a", None], "string", ["a", None]),
        ([date(2025, 1, 1)], "date32[day]", [date(2025, 1, 1)]),
        ([datetime(2025, 1, 1)], "timestamp[us]", [datetime(2025, 1, 1)]),
        (
            [datetime(2025, 1, 1, tzinfo=timezone(timedelta(hours=2)))],
            "timestamp[us, tz=UTC]",
            [datetime(2024, 12, 31, 22, tzinfo=UTC)],
        ),
        ([timedelta(hours=1)], "duration[us]", [timedelta(hours=1)]),
        ([b"\x00", memoryview(b"\x01")], "binary", [b"\x00", b"\x01"]),
        ([UUID(int=1)], "string", [str(UUID(int=1))]),
        ([{"a": [1]}, None], "string", ['{"a":[1]}', None]),
    ],
)
def test_python_values(values: list[object], expected: str, read: list[object]) -> None:
    field = python_values.field_of("x", values)
    assert field is not None
    assert expected in str(field.type)
    batch = python_values.batch_of([(value,) for value in values], pa.schema([field]))
    assert batch.column(0).to_pylist() == read


def test_a_mixture_is_refused() -> None:
    with pytest.raises(WarehouseError, match=r"'x' holds values of several types \(Python: int, str\)"):
        python_values.field_of("x", [1, "a"])
    with pytest.raises(WarehouseError, match="with and without a zone"):
        python_values.field_of("x", [datetime(2025, 1, 1), datetime(2025, 1, 1, tzinfo=UTC)])


NAIVE, AWARE = datetime(2025, 1, 1, 10), datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "late"),
    [
        (1, 2.5), (1, Decimal("2.5")), (1, True), (1, "2"), (2**70, 2.5), (1.5, True), (Decimal(1), True), (True, 1),
        (date(2025, 1, 1), NAIVE), (NAIVE, date(2025, 1, 1)), (NAIVE, "2025-01-01"), (date(2025, 1, 1), "2025-01-01"),
        (NAIVE, AWARE), (AWARE, NAIVE), ("a", b"a"), (b"a", "a"), (None, b"a"), (None, 1), ({"a": 1}, "text"),
        (UUID(int=1), "text"),
    ],
)  # fmt: skip
def test_late_values_of_another_type_are_neither_cut_nor_turned(first: object, late: object) -> None:
    field = python_values.field_of("x", [first]) or python_values.untold("x")
    with pytest.raises(WarehouseError, match=r"'x' holds") as caught:
        python_values.batch_of([(first,), (None,), (late,)], pa.schema([field]))
    assert "CAST it" in caught.value.hint


@pytest.mark.parametrize("first", [2.5, Decimal("2.5"), 2])
def test_what_is_sent_of_a_number_does_not_depend_on_other_rows(sqlite_bed: Bed, first: object) -> None:
    sqlite_bed.execute(
        "CREATE TABLE t (i INTEGER, price DECIMAL(10, 2))", f"INSERT INTO t VALUES (1, 10.00), (2, {first})"
    )
    warehouse = sqlite_bed.open()
    for sql in ("SELECT price FROM t WHERE i = 1", "SELECT price FROM t ORDER BY i"):
        warehouse.label(sql)
        assert sent(warehouse, sql)[0] == {"price": "10"}
    warehouse.close()


def test_floats_have_the_digits_of_the_engine() -> None:
    random = Random("floats")
    floats = [random.random() * 10.0 ** random.randint(-30, 30) for _ in range(2000)]
    floats += [sign * 10.0**power for power in range(-30, 30) for sign in (1, -1)]
    batch = python_values.batch_of([(x,) for x in floats], pa.schema([python_values.field_of("x", floats)]))
    with duckdb.connect() as connection:
        connection.register("floats", pa.table({"x": floats}))
        printed = connection.sql("SELECT x::VARCHAR FROM floats").fetchall()
    assert batch.column(0).to_pylist() == [x for (x,) in printed]


def test_a_fraction_behind_whole_numbers_is_an_error(sqlite_bed: Bed) -> None:
    sqlite_bed.execute(
        "CREATE TABLE late AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " SELECT CASE WHEN i = 3000 THEN 2.99 ELSE i END AS x FROM n"
    )
    warehouse = sqlite_bed.open()
    source = warehouse.open("SELECT x FROM late")
    with pytest.raises(duckdb.Error) as caught:
        rows(source)
    explained = warehouse.explain(caught.value)
    assert "'x' holds values that do not fit int64, the type of its first rows (Python: float)" in explained.message
    assert "AS REAL" in explained.hint
    warehouse.label("mended")
    found = rows(warehouse.open("SELECT CAST(x AS REAL) AS x FROM late WHERE x BETWEEN 2 AND 3 ORDER BY x"))
    assert found == [("2.0",), ("2.99",), ("3.0",)]
    warehouse.close()


def test_text_that_is_not_utf8_is_left_to_the_engine() -> None:
    array = python_values.array_of(["\udcff", "a"], pa.field("x", pa.string()), pa.string())
    assert array.view(pa.binary()).to_pylist() == [b"\xff", b"a"]


def test_descriptions_of_mysql() -> None:
    assert mysql_field(("x", 246, None, 12, 12, 2, True)).type == pa.decimal128(11, 2)
    assert mysql_field(("x", 246, None, 12, None, None, True)) is None
    assert mysql_field(("x", 245, None, 12, 12, 0, True)).metadata == {b"duckdb_type": b"JSON"}
    assert mysql_field(("x", 252, None, 12, 12, 0, True)) is None


@pytest.mark.parametrize(
    ("url", "dialect"),
    [("mysql+pymysql://h", "mysql"), ("mariadb://h", "mysql"), ("postgresql+psycopg://h", "postgres"), ("x://h", "")],
)
def test_dialects(url: str, dialect: str) -> None:
    assert dialect_of_url(url) == dialect
