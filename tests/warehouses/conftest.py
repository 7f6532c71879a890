"""The test beds as fixtures; `bed` runs a test over all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beds import Bed
from harness import duckdb_file
from servers import PASSWORD, Server, snowflake_server


@pytest.fixture(autouse=True)
def _quick_stores(quick_stores: None) -> None: ...


@pytest.fixture(scope="session")
def snowflake() -> Iterator[Server]:
    with snowflake_server() as running:
        yield running


@pytest.fixture
def duckdb_bed(tmp_path: Path) -> Bed:
    path = tmp_path / "warehouse.duckdb"

    def execute(*statements: str) -> None:
        with duckdb_file(path) as connection:
            for statement in statements:
                connection.execute(statement)

    execute("CREATE TABLE bystander (i INTEGER)")
    return Bed(
        "duckdb",
        "duckdb",
        {"path": str(path)},
        execute,
        "SELECT i, repeat(md5(i::varchar), 16) AS t FROM range(100000) AS numbers(i)",
        "SELECT CASE WHEN i = 50000 THEN 'secretvalue' ELSE '1' END::int AS x FROM range(60000) AS numbers(i)",
        "moment TIMESTAMP, aware TIMESTAMPTZ, day DATE, number BIGINT, word VARCHAR",
    )


@pytest.fixture
def sqlite_bed(tmp_path: Path) -> Bed:
    path = tmp_path / "warehouse.sqlite"

    def execute(*statements: str) -> None:
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    execute("CREATE TABLE bystander (i INTEGER)")
    return Bed(
        "sqlalchemy",
        "sqlite",
        {"url": f"sqlite:///{path}"},
        execute,
        "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < 99999)"
        " SELECT i, hex(zeroblob(256)) AS t FROM numbers",
        "",
        "moment TEXT, aware TEXT, day TEXT, number INTEGER, word TEXT",
    )


@pytest.fixture
def postgres_bed(postgres: Server, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A database of its own."""
    import psycopg

    name = f"bed_{abs(hash(request.node.nodeid))}"
    admin = {"host": "127.0.0.1", "port": postgres.port, "user": "admin", "password": PASSWORD}

    def execute(*statements: str, dbname: str = name) -> None:
        with psycopg.connect(**admin, dbname=dbname, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '10s'")
            for statement in statements:
                connection.execute(statement)

    execute(f"CREATE DATABASE {name}", dbname="postgres")
    execute("CREATE TABLE bystander (i INTEGER)")
    yield Bed(
        "postgres",
        "postgres",
        admin | {"dbname": name, "connect_timeout": 5},
        execute,
        "SELECT i, repeat(md5(i::text), 16) AS t FROM generate_series(0, 99999) AS numbers(i)",
        "SELECT CASE WHEN i = 50000 THEN 'secretvalue' ELSE '1' END::int AS x FROM generate_series(1, 60000) AS n(i)",
        "moment TIMESTAMP, aware TIMESTAMPTZ, day DATE, number BIGINT, word TEXT",
        {"server": postgres},
    )
    execute(f"DROP DATABASE {name} WITH (FORCE)", dbname="postgres")


@pytest.fixture
def mariadb_bed(mariadb: Server) -> Iterator[Bed]:
    """The database `app`, made anew."""
    import pymysql

    def execute(*statements: str) -> None:
        connection = pymysql.connect(host="127.0.0.1", port=mariadb.port, user="root", charset="utf8mb4")
        with connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            for statement in ("CREATE DATABASE IF NOT EXISTS app", "USE app", *statements):
                cursor.execute(statement)
            connection.commit()

    execute(
        f"CREATE OR REPLACE USER reader IDENTIFIED BY '{PASSWORD}'",
        "GRANT ALL ON app.* TO reader",
        "CREATE TABLE bystander (i INTEGER)",
    )
    yield Bed(
        "sqlalchemy",
        "mariadb",
        {"url": f"mysql+pymysql://reader:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{mariadb.port}/app"},
        execute,
        "SELECT seq AS i, repeat(md5(seq), 16) AS t FROM seq_0_to_99999",
        "",
        "moment DATETIME(6), aware TIMESTAMP(6) NULL, day DATE, number BIGINT, word VARCHAR(40) COLLATE utf8mb4_bin",
        {"server": mariadb},
    )
    execute("DROP DATABASE app")


@pytest.fixture
def snowflake_bed(snowflake: Server, request: pytest.FixtureRequest) -> Bed:
    """A database of its own in the emulator."""
    from snowflake.connector import connect

    settings: dict[str, Any] = {
        "account": "fakesnow", "user": "tester", "password": PASSWORD, "host": "127.0.0.1", "port": snowflake.port,
        "protocol": "http", "database": f"BED_{abs(hash(request.node.nodeid))}", "schema": "APP", "connect_timeout": 8,
        "connect_retries": 0,
    }  # fmt: skip

    def execute(*statements: str) -> None:
        from warehouse_sync.warehouses.snowflake_login import arguments

        with connect(**arguments(settings, "setup", 5)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    execute("CREATE TABLE bystander (i INTEGER)")
    return Bed(
        "snowflake",
        "snowflake",
        settings,
        execute,
        "SELECT seq4() AS i, repeat('0123456789abcdef', 32) AS t FROM TABLE(GENERATOR(ROWCOUNT => 100000))",
        "",
        "moment TIMESTAMP_NTZ, aware TIMESTAMP_TZ, day DATE, number NUMBER(18, 0), word VARCHAR",
        {"server": snowflake},
    )


BEDS = ("duckdb", "sqlite", "postgres", "mariadb", pytest.param("snowflake", marks=pytest.mark.slow))


@pytest.fixture(params=BEDS)
def bed(request: pytest.FixtureRequest) -> Bed:
    """Each kind of warehouse in turn, with a table `moments` of two rows a microsecond apart."""
    found: Bed = request.getfixturevalue(f"{request.param}_bed")
    found.execute(
        f"CREATE TABLE moments ({found.table_columns})",
        f"INSERT INTO moments VALUES ({found.values('2025-03-04 05:06:07.123455', '2025-03-03', 9007199254740992)})",
        f"INSERT INTO moments VALUES ({found.values('2025-03-04 05:06:07.123456', '2025-03-04', 9007199254740993)})",
    )
    return found
