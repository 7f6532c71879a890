"""PostgreSQL: every type, every way in that fails, and what happens when the server goes away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from beds import Bed, rows, sent
from servers import certificate, free_port

from warehouse_sync.errors import ConnectionLost, ModelError, WarehouseError
from warehouse_sync.warehouses.postgres import PostgresWarehouse


@pytest.fixture
def postgres_only(postgres_bed: Bed) -> Iterator[PostgresWarehouse]:
    warehouse = postgres_bed.open()
    assert isinstance(warehouse, PostgresWarehouse)
    yield warehouse
    warehouse.close()


TYPES = {
    "34.70::NUMERIC(10, 2)": "34.70",
    "12345678901234567890123456789012345678901234567890.10::NUMERIC": (
        "12345678901234567890123456789012345678901234567890.10"
    ),
    "-0.000000001::NUMERIC": "-0.000000001",
    "'NaN'::NUMERIC": "null",
    "'Infinity'::NUMERIC": "null",
    "'NaN'::NUMERIC(5, 0)": "null",
    "12345::NUMERIC(20, 0)": "12345",
    "1234::NUMERIC(3, -2)": "1200",
    "3.20::positive": "3.20",
    "12.5::MONEY": "12.50",
    "'12.5'::savings": "12.50",
    "'happy'::feeling": '"happy"',
    "'infinity'::moment": "null",
    "'2025-01-01 00:00+02'::moment": '"2024-12-31T22:00:00.000000Z"',
    "'{1,2}'::numbers": '"[1,2]"',
    "INTERVAL '-1 mon -1.5 sec'": '"-1 month -00:00:01.5"',
    "'NaN'::FLOAT8": "null",
    "1.5::FLOAT4": "1.5",
    "true": "true",
    "'ab'::CHAR(4)": '"ab"',
    "4000000000::OID": "4000000000",
    "'happy'::mood": '"happy"',
    "'2025-01-01 00:00:00+02'::TIMESTAMPTZ": '"2024-12-31T22:00:00.000000Z"',
    "'infinity'::TIMESTAMPTZ": "null",
    "'-infinity'::TIMESTAMP": "null",
    "'infinity'::DATE": "null",
    "'0044-03-15 BC'::DATE": "null",
    "'10:00'::TIME": '"10:00:00"',
    "'10:00+02'::TIMETZ": '"10:00:00+02"',
    "INTERVAL '1 day 2 hours'": '"1 day 02:00:00"',
    "'96856aca-f45b-4fee-9cea-95e0dc2b0c2c'::UUID": '"96856aca-f45b-4fee-9cea-95e0dc2b0c2c"',
    "'{\"a\": 1.50}'::JSON": '"{\\"a\\": 1.50}"',
    "'7'::JSONB": "7",
    "ARRAY[[1, 2], [3, 4]]": '"[[1,2],[3,4]]"',
    "ARRAY[1.50::NUMERIC]": '"[1.50]"',
    "ARRAY[1.50::MONEY, NULL]": '"[1.50,null]"',
    "ARRAY['happy'::mood]": '"[\\"happy\\"]"',
    "ROW(1, 2.50)::pair": '"{\\"x\\":1,\\"y\\":2.50}"',
    "'127.0.0.1'::INET": '"127.0.0.1/32"',
    "INT4RANGE(1, 3)": '"[1,3)"',
    "B'101'": '"101"',
    "POINT(1, 2)": '"(1,2)"',
    "NULL": "null",
}


def test_every_type(postgres_bed: Bed) -> None:
    postgres_bed.execute(
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE TYPE pair AS (x INTEGER, y NUMERIC)",
        "CREATE DOMAIN positive AS NUMERIC(10, 2) CHECK (VALUE > 0)",
        "CREATE DOMAIN savings AS MONEY",
        "CREATE DOMAIN feeling AS mood",
        "CREATE DOMAIN moment AS TIMESTAMPTZ",
        "CREATE DOMAIN numbers AS INTEGER[]",
    )
    warehouse = postgres_bed.open()
    columns = ", ".join(f"{expression} AS c{i}" for i, expression in enumerate(TYPES))
    (line,) = sent(warehouse, f"SELECT {columns}")
    assert {expression: line[f"c{i}"] for i, expression in enumerate(TYPES)} == TYPES
    warehouse.close()


def test_an_enum_made_after_the_login_is_its_text(postgres_bed: Bed, postgres_only: PostgresWarehouse) -> None:
    postgres_bed.execute("CREATE TYPE late AS ENUM ('a')")
    assert sent(postgres_only, "SELECT 'a'::late AS x") == [{"x": '"a"'}]


def test_infinite_times_keep_their_order(postgres_only: PostgresWarehouse) -> None:
    sql = "SELECT 'infinity'::TIMESTAMPTZ AS a, '-infinity'::TIMESTAMP AS b, '-infinity'::DATE AS c, now() AS d"
    source = postgres_only.open(sql)
    query = f"SELECT a > d, b::VARCHAR, c::VARCHAR FROM {source.relation}"
    assert source.connection.sql(query).fetchall() == [(True, "-infinity", "-infinity")]


@pytest.mark.parametrize("value", ["'\\x00'::bytea", "ARRAY[['\\x00'::bytea]]", "ROW(1, '\\x00')::file"])
def test_what_holds_bytea_is_refused(postgres_bed: Bed, value: str) -> None:
    postgres_bed.execute("CREATE TYPE file AS (number INTEGER, content BYTEA)")
    warehouse = postgres_bed.open()
    with pytest.raises(ModelError, match="'x': binary values cannot be sent"):
        sent(warehouse, f"SELECT {value} AS x")
    assert len(rows(warehouse.open(f"SELECT {value} AS x"))) == 1
    warehouse.close()


def test_a_numeric_is_no_text_cursor(postgres_only: PostgresWarehouse) -> None:
    types = [str(field.type) for field in postgres_only.describe("SELECT 1::NUMERIC AS a, 1::NUMERIC(9, 0) AS b")]
    assert types[0] != "string"
    assert types[1] == "decimal128(9, 0)"


def test_scalars(postgres_only: PostgresWarehouse) -> None:
    assert postgres_only.scalar("SELECT 12::NUMERIC(9, 0)") == 12
    assert postgres_only.scalar("SELECT NULL::NUMERIC") is None
    assert postgres_only.scalar("SELECT 1 WHERE false") is None


def test_the_session(postgres_only: PostgresWarehouse) -> None:
    postgres_only.label("users")
    found = {name: postgres_only.scalar(f"SELECT current_setting('{name}')") for name in SESSION}
    assert found == SESSION
    source = postgres_only.open(
        "SELECT current_setting('transaction_isolation') || current_setting('transaction_read_only')"
    )
    assert rows(source) == [("repeatable readon",)]


SESSION = {
    "TimeZone": "UTC",
    "application_name": "warehouse-sync test users",
    "default_transaction_read_only": "on",
    "statement_timeout": "0",
}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_of_a_database_in_another_encoding(postgres_bed: Bed, encoding: str) -> None:
    name = f"{postgres_bed.settings['dbname']}_old"
    postgres_bed.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    warehouse = postgres_bed.open(dbname=name)
    try:
        assert sent(warehouse, "SELECT 'Köln' AS city") == [{"city": '"K\\u00f6ln"'}]
        assert warehouse.scalar("SELECT 'Köln'") == "Köln"
    finally:
        warehouse.close()
        postgres_bed.execute(f"DROP DATABASE {name}")


def test_bytes_that_are_no_text_are_said_without_them(postgres_bed: Bed) -> None:
    name = f"{postgres_bed.settings['dbname']}_any"
    postgres_bed.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    warehouse = postgres_bed.open(dbname=name)
    source = warehouse.open("SELECT E'secretvalue\\xf6' AS city")
    with pytest.raises((duckdb.Error, OSError)) as caught:
        rows(source)
    explained = warehouse.explain(caught.value)
    assert explained.message == 'PostgreSQL: invalid byte sequence for encoding "UTF8"'
    assert explained.hint.startswith("behind `SET client_encoding = UTF8` run the compiled SQL")
    warehouse.close()
    postgres_bed.execute(f"DROP DATABASE {name}")


def test_settings_of_a_role_change_nothing(postgres_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres_bed.execute(
        "DROP ROLE IF EXISTS odd", "CREATE ROLE odd LOGIN PASSWORD 'odd'",
        "ALTER ROLE odd SET client_encoding = 'LATIN1'",
        "ALTER ROLE odd SET extra_float_digits = 0", "ALTER ROLE odd SET DateStyle = 'SQL, DMY'",
    )  # fmt: skip
    monkeypatch.setenv("PGCLIENTENCODING", "WIN1252")
    warehouse = postgres_bed.open(user="odd", password="odd")
    third = "0.1::FLOAT8 + 0.2::FLOAT8"
    (line,) = sent(warehouse, f"SELECT 'Köln' AS city, ARRAY[{third}] AS list, ({third})::text AS text")
    assert line == {"city": '"K\\u00f6ln"', "list": '"[0.30000000000000004]"', "text": '"0.30000000000000004"'}
    warehouse.close()
    postgres_bed.execute("ALTER ROLE odd SET quote_all_identifiers = on")
    with pytest.raises(WarehouseError, match="knows none of them") as caught:
        postgres_bed.open(user="odd", password="odd")
    assert "ALTER ROLE … SET quote_all_identifiers = off" in str(caught.value)
    postgres_bed.execute("DROP ROLE odd")


def test_a_function_cannot_write_either(postgres_bed: Bed) -> None:
    postgres_bed.execute(
        "CREATE FUNCTION sneak() RETURNS INTEGER LANGUAGE plpgsql AS"
        " $$ BEGIN SET LOCAL transaction_read_only = off; INSERT INTO bystander VALUES (1); RETURN 1; END $$"
    )
    warehouse = postgres_bed.open()
    source = warehouse.open("SELECT sneak() AS x")
    with pytest.raises(duckdb.Error):
        rows(source)
    assert rows(warehouse.open("SELECT * FROM bystander")) == []
    warehouse.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"password": "not it"}, "refuses the user or the password"),
        ({"user": "nobody"}, "refuses the user or the password"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
        ({"port": "free"}, "refuses connections"),
        ({"host": "nowhere.invalid"}, "has a host name that nobody knows"),
        ({"role": "nobody"}, "does not take this role"),
        ({"schema": "nowhere"}, "has no schema nowhere"),
        ({"sslmode": "verify-full", "sslrootcert": "other.crt"}, "certificate"),
        ({"sslmode": "verify-full", "sslrootcert": "missing.crt"}, "cannot be verified"),
        ({"sslmode": "verify-full", "sslrootcert": "system"}, "certificate"),
        ({"host": "/nowhere"}, "has no socket there"),
    ],
)
def test_no_way_in(postgres_bed: Bed, tmp_path, changed: dict[str, object], message: str) -> None:
    if changed.get("sslrootcert") == "other.crt":
        certificate(tmp_path, "other", "root")
    if str(changed.get("sslrootcert")).endswith(".crt"):
        changed = changed | {"sslrootcert": tmp_path / str(changed["sslrootcert"])}
    if changed.get("port") == "free":
        changed = {"port": free_port()}
    with pytest.raises(WarehouseError) as caught:
        postgres_bed.open(**changed)
    assert message in str(caught.value)
    assert "correct horse" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_tls_is_verified(postgres_bed: Bed) -> None:
    server = postgres_bed.extra["server"]
    certificate_of_server = server.folder / "server.crt"
    certificate_of_server.chmod(0o644)
    warehouse = postgres_bed.open(sslmode="verify-full", sslrootcert=certificate_of_server)
    assert warehouse.scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
    warehouse.close()


def test_a_client_certificate_is_enough(postgres_bed: Bed, tmp_path: Path) -> None:
    server = postgres_bed.extra["server"]
    postgres_bed.execute("DROP ROLE IF EXISTS certified", "CREATE ROLE certified LOGIN")
    settings = {"user": "certified", "password": None, "sslmode": "require"}
    warehouse = postgres_bed.open(**settings, sslcert=server.folder / "client.crt", sslkey=server.folder / "client.key")
    assert warehouse.scalar("SELECT current_user::text") == "certified"
    warehouse.close()
    certificate(tmp_path, "other", "root")
    with pytest.raises(WarehouseError) as caught:
        postgres_bed.open(**settings, sslcert=tmp_path / "other.crt", sslkey=tmp_path / "other.key")
    assert "TLS" in str(caught.value) or "certificate" in str(caught.value)
    postgres_bed.execute("DROP ROLE certified")


def test_a_refused_model_leaves_no_transaction_behind(postgres_bed: Bed) -> None:
    postgres_bed.execute("DROP ROLE IF EXISTS outsider", "CREATE ROLE outsider")
    warehouse = postgres_bed.open(role="outsider")
    with pytest.raises(WarehouseError, match="permission denied for table bystander"):
        warehouse.open("SELECT i FROM bystander")
    assert rows(warehouse.open("SELECT 1 AS a")) == [(1,)]
    warehouse.close()
    postgres_bed.execute("DROP ROLE outsider")


REDSHIFT = "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2, Redshift 1.0.77467"
YOUNGER = ("clock_timestamp()", "to_regnamespace(text)", "to_json(anyelement)", "to_jsonb(anyelement)")


def test_a_server_that_says_it_is_redshift(postgres_bed: Bed) -> None:
    """PostgreSQL with Redshift's version and clock, and without what is younger than 8.0: COPY is not used either."""
    postgres_bed.execute(
        "CREATE SCHEMA pretend", "CREATE SCHEMA marts", "DROP ROLE IF EXISTS analyst",
        "CREATE ROLE analyst LOGIN PASSWORD 'correct horse'", "GRANT USAGE ON SCHEMA pretend, marts TO analyst",
        f"CREATE FUNCTION pretend.version() RETURNS TEXT LANGUAGE sql AS $$ SELECT '{REDSHIFT}'::text $$",
        "CREATE FUNCTION public.getdate() RETURNS TIMESTAMP LANGUAGE sql AS"
        " $$ SELECT date_trunc('second', now() AT TIME ZONE 'UTC') $$",
        *(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{name} FROM PUBLIC" for name in YOUNGER),
        f"ALTER DATABASE {postgres_bed.settings['dbname']} SET search_path = pretend, pg_catalog, public",
        "CREATE TABLE marts.users AS SELECT i AS id, 34.70::NUMERIC(10, 2) AS price, 'é' AS name,"
        " TIMESTAMP '2025-01-01 00:00:00.123456' AS at, true AS active, DATE '2025-01-01' AS day, 0.1::FLOAT8 AS score"
        " FROM generate_series(1, 3) AS n(i)", "GRANT SELECT ON marts.users TO analyst",
    )  # fmt: skip
    warehouse = postgres_bed.open(user="analyst", schema="marts")
    assert warehouse.dialect == "redshift"
    assert warehouse.check().startswith("Redshift, ")
    assert abs(warehouse.now() - datetime.now(UTC)) < timedelta(seconds=10)
    lines = sent(warehouse, "SELECT * FROM users WHERE at >= CAST('2025-01-01' AS TIMESTAMP) ORDER BY id")
    assert sorted(line["id"] for line in lines) == ["1", "2", "3"]
    assert {"price": "34.70", "at": '"2025-01-01T00:00:00.123456"', "score": "0.1"}.items() <= lines[0].items()
    with pytest.raises((WarehouseError, duckdb.Error)):
        rows(warehouse.open("SELECT nextval('nosuch') AS x"))
    assert len(rows(warehouse.open("SELECT id FROM users"))) == 3
    warehouse.close()
    postgres_bed.execute("SET search_path = public", "DROP OWNED BY analyst", "DROP ROLE analyst")


def test_role_and_search_path(postgres_bed: Bed) -> None:
    postgres_bed.execute(
        "DROP ROLE IF EXISTS marts", "CREATE ROLE marts", "CREATE SCHEMA \"Marts\"",
        "GRANT USAGE ON SCHEMA \"Marts\" TO marts", "CREATE TABLE \"Marts\".users (id INTEGER)",
    )  # fmt: skip
    warehouse = postgres_bed.open(role="marts", schema="Marts")
    assert 'as marts, search_path "Marts", public' in warehouse.check()
    with pytest.raises(WarehouseError, match="permission denied for table users"):
        rows(warehouse.open("SELECT * FROM users"))
    warehouse.close()
    warehouse = postgres_bed.open(search_path='"Marts", pg_catalog')
    assert rows(warehouse.open("SELECT * FROM users")) == []
    warehouse.close()
    postgres_bed.execute('DROP SCHEMA "Marts" CASCADE', "DROP ROLE marts")


@pytest.mark.parametrize("ours", [True, False])
def test_statement_timeout(postgres_bed: Bed, ours: bool) -> None:
    """The YAML's limit stands before that of the database."""
    server = "60s" if ours else "500ms"
    postgres_bed.execute(f"ALTER DATABASE {postgres_bed.settings['dbname']} SET statement_timeout = '{server}'")
    warehouse = postgres_bed.open(statement_timeout=timedelta(milliseconds=500) if ours else None)
    # Once while the rows come, and once before.
    source = warehouse.open(
        "SELECT i, CASE WHEN i = 9000 THEN pg_sleep(5)::text END AS x FROM generate_series(1, 9000) n(i)"
    )
    with pytest.raises(duckdb.Error) as caught:
        rows(source)
    said = [warehouse.explain(caught.value)]
    with pytest.raises(WarehouseError) as refused:
        warehouse.scalar("SELECT pg_sleep(5)::text")
    said.append(refused.value)
    for error in said:
        assert not isinstance(error, ConnectionLost)
        assert ("`statement_timeout`, 0:00:00.5" if ours else "`statement_timeout` of its role or") in error.message
        assert warehouse.place in error.message
        assert "raise `warehouse.statement_timeout`" in str(error)
    assert rows(warehouse.open("SELECT 1 AS a")) == [(1,)]
    warehouse.close()


def test_a_query_that_somebody_cancels(postgres_bed: Bed, postgres_only: PostgresWarehouse) -> None:
    source = postgres_only.open("SELECT i, pg_sleep(0)::text AS t FROM generate_series(1, 2000000) AS n(i)")
    reader = source.connection.sql(f"FROM {source.relation}").to_arrow_reader(2048)
    reader.read_next_batch()
    postgres_bed.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'warehouse-sync%' AND datname = current_database()"
    )
    with pytest.raises((duckdb.Error, OSError)) as caught:
        for _ in reader:
            pass
    assert "asked to cancel the query" in postgres_only.explain(caught.value).message
    assert rows(postgres_only.open("SELECT 1 AS a")) == [(1,)]


def test_a_lost_connection_is_opened_again(postgres_bed: Bed, postgres_only: PostgresWarehouse) -> None:
    source = postgres_only.open("SELECT i, pg_sleep(0)::text AS t FROM generate_series(1, 2000000) AS n(i)")
    reader = source.connection.sql(f"FROM {source.relation}").to_arrow_reader(2048)
    reader.read_next_batch()
    _terminate(postgres_bed)
    with pytest.raises((duckdb.Error, OSError)) as caught:
        for _ in reader:
            pass
    assert isinstance(postgres_only.explain(caught.value), ConnectionLost)
    assert rows(postgres_only.open("SELECT 1 AS a")) == [(1,)]


def test_words_of_a_model_are_no_lost_connection(postgres_bed: Bed, postgres_only: PostgresWarehouse) -> None:
    postgres_bed.execute(
        "CREATE FUNCTION fail() RETURNS INTEGER LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION E'terminating connection\\nFATAL:  server closed the connection'; END $$"
    )
    source = postgres_only.open("SELECT fail() AS x")
    with pytest.raises((duckdb.Error, OSError)) as caught:
        rows(source)
    explained = postgres_only.explain(caught.value)
    assert not isinstance(explained, ConnectionLost)
    assert "its text is not shown" in explained.message


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("nextval('counter')", "cannot execute nextval() in a read-only transaction"),
        (
            "set_config('transaction_read_only', 'off', true)",
            "transaction read-write mode must be set before any query",
        ),
    ],
)
def test_a_model_that_wants_to_write(postgres_bed: Bed, postgres_only: PostgresWarehouse, call: str, said: str) -> None:
    postgres_bed.execute("CREATE SEQUENCE counter")
    source = postgres_only.open(f"SELECT {call} AS x")
    with pytest.raises((duckdb.Error, OSError)) as caught:
        rows(source)
    assert postgres_only.explain(caught.value).message.startswith(f"PostgreSQL: {said}")


def test_a_connection_lost_between_models(postgres_bed: Bed, postgres_only: PostgresWarehouse) -> None:
    _terminate(postgres_bed)
    with pytest.raises(ConnectionLost):
        postgres_only.describe("SELECT 1 AS a")
    assert rows(postgres_only.open("SELECT 1 AS a")) == [(1,)]


def _terminate(bed: Bed) -> None:
    bed.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'warehouse-sync%' AND datname = current_database()"
    )


def test_a_connection_string_quotes_everything(postgres_bed: Bed) -> None:
    odd = "it's \\ odd"
    postgres_bed.execute("DROP ROLE IF EXISTS odd", "CREATE ROLE odd LOGIN PASSWORD 'it''s \\ odd'")
    warehouse = postgres_bed.open(user="odd", password=odd)
    assert warehouse.scalar("SELECT current_user::text") == "odd"
    warehouse.close()
    postgres_bed.execute("DROP ROLE odd")


def test_libpq_finds_a_password_by_itself(postgres_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", str(postgres_bed.settings["password"]))
    postgres_bed.open(password=None).close()
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(WarehouseError, match="wants a password"):
        postgres_bed.open(password=None)
