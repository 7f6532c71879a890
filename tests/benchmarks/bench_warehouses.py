"""Real warehouses: from a query to sealed batches, beside the driver alone reading the same query. Run by hand.

    python tests/benchmarks/bench_warehouses.py                              # 1,000,000 and 5,000,000 rows
    python tests/benchmarks/bench_warehouses.py --rows 200000 --only postgres

Each round runs every candidate in a process of its own, one after the other, against the same server; a rate is that of
the driver in the same round (goal: 0.6 of it). `adbc` and `fetch_arrow_batches` read every batch and keep none; a run
checks, compares, encodes, cuts, hashes, syncs and records it as well. `plain` is a model without a key, `keyed` one
with a key hash and a row hash for every row. Peak memory is that of the process, imports included. MariaDB and SQLite
stand beside what their drivers give row by row. The servers are those of tests/warehouses; the emulator of Snowflake
holds a whole result in its own memory, and is asked for no more than --emulated rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "warehouses"),
    str(Path(__file__).parent),
]

from bench_seal import COLUMNS, seal  # noqa: E402

ROWS = """
SELECT
  {join_user} AS user_id, {join_company} AS company_id,
  CASE {i} % 3 WHEN 0 THEN 'report_exported' WHEN 1 THEN 'invoice_paid' ELSE 'dashboard_opened' END AS event_name,
  'app.example.com' AS hostname, {join_path} AS pathname,
  CASE {i} % 3 WHEN 0 THEN 'US' WHEN 1 THEN 'DE' ELSE 'JO' END AS country_code,
  1280 + ({i} % 5) * 160 AS screen_width, 720 + ({i} % 4) * 90 AS screen_height,
  CASE {i} % 3 WHEN 0 THEN 'Mac' WHEN 1 THEN 'Windows' ELSE 'Linux' END AS operating_system,
  CASE {i} % 3 WHEN 0 THEN 'Chrome' WHEN 1 THEN 'Firefox' ELSE 'Safari' END AS browser,
  'en-US' AS browser_language, 'Desktop' AS device_type,
  {moment} AS inserted_at, CAST(({i} % 100000) / 100.0 AS {decimal}) AS amount, {i} % 7 AS seats,
  CASE {i} % 3 WHEN 0 THEN 'Basic' WHEN 1 THEN 'Pro' ELSE 'Premium' END AS plan,
  CAST({i} % 1000 AS {double}) / 3 AS score, {i} AS id
FROM {source}
"""
"""The rows of bench_seal.py, in what all four dialects share."""
JOINED = {
    "join_user": "'user_' || CAST({i} % 50000 AS {text})",
    "join_company": "'company_' || CAST({i} % 2000 AS {text})",
    "join_path": "'/projects/' || CAST({i} % 5000 AS {text}) || '/view'",
}
CANDIDATES = {
    "postgres": ("adbc", "postgres plain", "postgres keyed"),
    "snowflake": ("fetch_arrow_batches", "snowflake plain", "snowflake keyed"),
    "mariadb": ("pymysql", "mariadb plain"),
    "sqlite": ("sqlite3", "sqlite plain"),
}
GOAL = 0.6
QUERY = f"SELECT {COLUMNS} FROM events"
Place = tuple[str, dict[str, Any]]


def statement(**words: str) -> str:
    """The query that makes the rows in one dialect."""
    joined = {name: text.format(**words) for name, text in JOINED.items()}
    return ROWS.format(**joined | words)


@contextmanager
def postgres(rows: int, _folder: Path) -> Iterator[Place]:
    import psycopg
    from servers import PASSWORD, postgres_server

    with postgres_server() as server:
        settings = {"host": "127.0.0.1", "port": server.port, "user": "admin", "password": PASSWORD}
        query = statement(
            i="i", text="text", decimal="numeric(10, 2)", double="float8", source=f"generate_series(1, {rows}) AS n(i)",
            moment="timestamp '2024-01-01' + i * interval '7.654321 seconds'",
        )  # fmt: skip
        with psycopg.connect(**settings, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE UNLOGGED TABLE events AS {query}")
            connection.execute("VACUUM ANALYZE events")
        yield "postgres", settings | {"dbname": "postgres"}


@contextmanager
def snowflake(rows: int, _folder: Path) -> Iterator[Place]:
    from servers import PASSWORD, snowflake_server
    from snowflake.connector import connect

    from warehouse_sync.warehouses.snowflake_login import arguments

    with snowflake_server() as server:
        settings = {
            "account": "fakesnow", "user": "bench", "password": PASSWORD, "host": "127.0.0.1", "port": server.port,
            "protocol": "http", "database": "BENCH", "schema": "APP",
        }  # fmt: skip
        query = statement(
            i="i", text="varchar", decimal="number(10, 2)", double="float",
            source=f"(SELECT seq4() AS i FROM TABLE(GENERATOR(ROWCOUNT => {rows}))) AS n",
            moment="dateadd(second, i, '2024-01-01'::timestamp_ntz)",
        )  # fmt: skip
        with connect(**arguments(settings, "bench", 5)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE events AS {query}")
        yield "snowflake", settings


@contextmanager
def mariadb(rows: int, _folder: Path) -> Iterator[Place]:
    import pymysql
    from servers import mariadb_server

    with mariadb_server() as server:
        connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", charset="utf8mb4")
        query = statement(
            i="seq", text="char", decimal="decimal(10, 2)", double="double", source=f"seq_1_to_{rows}",
            moment="timestamp '2024-01-01 00:00:00.000001' + interval seq second",
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            for text in ("SET sql_mode = 'PIPES_AS_CONCAT'", "CREATE DATABASE bench", "USE bench"):
                cursor.execute(text)
            cursor.execute(f"CREATE TABLE events AS {query}")
        yield "mariadb", {"url": f"mysql+pymysql://root@127.0.0.1:{server.port}/bench"}


@contextmanager
def sqlite(rows: int, folder: Path) -> Iterator[Place]:
    path = folder / "bench.sqlite"
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    query = statement(
        i="i", text="text", decimal="real", double="real", source="n", moment="datetime(1704067200 + i, 'unixepoch')"
    )
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE events AS {numbers} {query}")
    connection.commit()
    connection.close()
    yield "sqlite", {"url": f"sqlite:///{path}"}


PLACES: dict[str, Callable[[int, Path], Any]] = {
    "postgres": postgres,
    "snowflake": snowflake,
    "mariadb": mariadb,
    "sqlite": sqlite,
}


def read(kind: str, settings: dict[str, Any]) -> tuple[float, int]:
    """Seconds and rows of the driver alone, every batch read and let go; connecting is not counted."""
    return {"postgres": _adbc, "snowflake": _arrow_batches, "mariadb": _rows, "sqlite": _rows}[kind](settings)


def _adbc(settings: dict[str, Any]) -> tuple[float, int]:
    from adbc_driver_postgresql import dbapi

    uri = " ".join(f"{name}='{value}'" for name, value in settings.items())
    with dbapi.connect(uri) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute(QUERY)
        rows = sum(batch.num_rows for batch in cursor.fetch_record_batch())
        return time.perf_counter() - began, rows


def _arrow_batches(settings: dict[str, Any]) -> tuple[float, int]:
    from snowflake.connector import connect

    from warehouse_sync.warehouses.snowflake_login import arguments

    with connect(**arguments(settings, "bench", 5)) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute(QUERY)
        rows = sum(table.num_rows for table in cursor.fetch_arrow_batches(force_microsecond_precision=True))
        return time.perf_counter() - began, rows


def _rows(settings: dict[str, Any]) -> tuple[float, int]:
    from sqlalchemy import create_engine

    with create_engine(settings["url"]).connect() as connection:
        began = time.perf_counter()
        result = connection.exec_driver_sql(QUERY, execution_options={"stream_results": True, "yield_per": 2000})
        rows = sum(len(part) for part in result.partitions(2000))
        return time.perf_counter() - began, rows


def _open_once(source: str, settings: dict[str, Any]) -> None:
    """Import the driver and the SQL dialect: the driver alone does not pay for its import either."""
    from warehouse_sync.warehouses.base import Engine, line_naming, open_warehouse

    warehouse = open_warehouse(source, settings, Engine())
    warehouse.describe(QUERY)
    line_naming(QUERY, "'id'", warehouse.dialect)
    warehouse.close()


def one(name: str, kind: str, settings: dict[str, Any], rows: int) -> None:
    """Run one candidate and print its figures as JSON."""
    if name == CANDIDATES[kind][0]:
        seconds, seen = read(kind, settings)
        assert seen == rows, f"{name} read {seen} of {rows} rows"
    else:
        with tempfile.TemporaryDirectory() as folder:
            source = kind if kind in ("postgres", "snowflake") else "sqlalchemy"
            _open_once(source, settings)
            seconds = seal(Path(folder), source, name.endswith("keyed"), settings)
            sealed = sum(path.read_bytes().count(b"\n") for path in Path(folder).rglob("*.ndjson"))
            assert sealed == rows, f"{name} sealed {sealed} of {rows} rows"
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024  # ru_maxrss would inherit the parent's
    print(json.dumps({"seconds": seconds, "cpu": sum(os.times()[:2]), "peak_mb": peak}))


def measure(name: str, kind: str, settings: dict[str, Any], rows: int) -> dict[str, float]:
    """One candidate in a process of its own."""
    words = [sys.executable, __file__, "--one", name, "--rows", str(rows), "--place", json.dumps([kind, settings])]
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    os.sync()
    return json.loads(out.stdout.splitlines()[-1])


def show(kind: str, rows: int, rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Print the table of one warehouse; gives the peak memory of each candidate."""
    driver, *others = CANDIDATES[kind]
    for name in (driver, *others):
        of = {figure: median(result[name][figure] for result in rounds) for figure in ("seconds", "cpu", "peak_mb")}
        rate = median(result[driver]["seconds"] / result[name]["seconds"] for result in rounds)
        goal = f"{GOAL:.2f}" if kind in ("postgres", "snowflake") and name != driver else ""
        print(
            f"{name:20}{rows:>11,}{of['seconds']:9.2f}{of['cpu']:7.2f}{rows / of['seconds'] / 1000:9.0f}{rate:7.2f}"
            f"{goal:>6}{of['peak_mb']:9.0f}",
            flush=True,
        )
    return {name: median(result[name]["peak_mb"] for result in rounds) for name in (driver, *others)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--emulated", type=int, default=1_000_000, help="the most rows that the emulator is asked for")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--place", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, *arguments.place, arguments.rows[0])
        return
    print(f"{arguments.rounds} rounds, {os.cpu_count()} cores; medians")
    print(f"{'':20}{'rows':>11}{'seconds':>9}{'cpu':>7}{'k rows/s':>9}{'rate':>7}{'goal':>6}{'peak MB':>9}")
    for place in arguments.only:
        peaks = []
        for rows in sorted({min(n, arguments.emulated) if place == "snowflake" else n for n in arguments.rows}):
            with tempfile.TemporaryDirectory() as folder, PLACES[place](rows, Path(folder)) as (kind, settings):
                rounds = [
                    {name: measure(name, kind, settings, rows) for name in CANDIDATES[kind]}
                    for _ in range(arguments.rounds)
                ]
            peaks.append(show(kind, rows, rounds))
        if len(peaks) > 1:
            grown = ", ".join(f"{name} {peaks[-1][name] / peaks[0][name]:.2f}" for name in CANDIDATES[place][1:])
            print(f"peak memory, most rows / fewest: {grown}")


if __name__ == "__main__":
    main()
