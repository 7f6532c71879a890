"""SIGTERM and SIGINT while a driver waits for its server in C code, and while that server does not answer any more: the
process ends in time all the same."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fault_processes import Nursery
from fault_wire import Wire
from psycopg import connect
from servers import PASSWORD, Server

from warehouse_sync.userpilot.sandbox import Sandbox

SLOW = "{{ config(event='identify_user') }} select 'u1' as user_id, 1 as n from "


def postgres(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str]:
    server: Server = request.getfixturevalue("postgres")
    login = f"user: {server.admin}, password: {PASSWORD}, dbname: postgres, schema: public"
    return f"{{type: postgres, host: 127.0.0.1, port: {server.port}, {login}}}", "pg_sleep(60)"


def psycopg(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str]:
    server: Server = request.getfixturevalue("postgres")
    password = PASSWORD.replace(" ", "%20")
    url = f"postgresql+psycopg://{server.admin}:{password}@127.0.0.1:{server.port}/postgres"
    return f"{{type: sqlalchemy, url: '{url}'}}", "pg_sleep(60)"


def pymysql(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str]:
    server: Server = request.getfixturevalue("mariadb")
    return f"{{type: sqlalchemy, url: 'mysql+pymysql://root@127.0.0.1:{server.port}/mysql'}}", "(select sleep(60)) t"


def sqlite(request: pytest.FixtureRequest, folder: Path) -> tuple[str, str]:
    (folder / "w.sqlite").touch()
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
    return "{type: sqlalchemy, url: 'sqlite:///w.sqlite'}", f"({numbers}) t"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [postgres, psycopg, pymysql, sqlite], ids=lambda kind: kind.__name__)
def test_a_signal_while_a_driver_waits(
    request: pytest.FixtureRequest, tmp_path: Path, server: Sandbox, nursery: Nursery, told: Any, kind: Any, number: Any
) -> None:
    warehouse, slow = kind(request, tmp_path)
    (tmp_path / "models_sql").mkdir()
    (tmp_path / "models_sql" / "users.sql").write_text(SLOW + slow)
    (tmp_path / "config.yml").write_text(
        f"name: p\nwarehouse: {warehouse}\nuserpilot: {{api_key: {server.api_key}, endpoint: '{server.url}'}}\n"
        "models: {path: models_sql}\nstate: {url: 'sqlite:///state/state.db', dir: state}\n"
    )
    child = nursery.start(tmp_path)
    child.until("START identify_user users")
    time.sleep(0.7)
    child.send(number)
    began = time.monotonic()
    code = child.wait()
    assert time.monotonic() - began < 5
    assert code == 1, child.said
    assert f"stopped by {number.name}" in child.said
    assert '"run_done"' in child.said, "the end is recorded"
    told(
        "SIGTERM or SIGINT while a driver waits for PostgreSQL, MariaDB or SQLite", "cancelled there, exit 1 within 5 s"
    )


MANY = SLOW.replace("'u1'", "i").replace("1 as n", "repeat(md5(i::text), 10) as v") + "generate_series(1, 60000) i"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["adbc", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("psycopg", "state"))]
)
def test_a_signal_while_the_network_stalls(
    postgres: Server, tmp_path: Path, server: Sandbox, nursery: Nursery, told: Any, kind: str
) -> None:
    with Wire(postgres.port, stall_after=None if kind == "state" else 2_000_000) as wire:
        port = postgres.port if kind == "state" else wire.port
        url = f"postgresql+psycopg://{postgres.admin}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{wire.port}/postgres"
        login = f"host: 127.0.0.1, port: {port}, user: {postgres.admin}, password: {PASSWORD}, dbname: postgres"
        warehouse = f"{{type: sqlalchemy, url: '{url}'}}" if kind == "psycopg" else f"{{type: postgres, {login}}}"
        (tmp_path / "models_sql").mkdir()
        (tmp_path / "models_sql" / "users.sql").write_text(f"{SLOW}pg_sleep(1)" if kind == "state" else MANY)
        (tmp_path / "config.yml").write_text(
            f"name: p\nwarehouse: {warehouse}\nuserpilot: {{api_key: {server.api_key}, endpoint: '{server.url}'}}\n"
            f"models: {{path: models_sql}}\n"
            f"state: {{url: '{url if kind == 'state' else 'sqlite:///state/state.db'}', dir: state}}\n"
        )
        child = nursery.start(tmp_path)
        child.until("START identify_user users")
        if kind == "state":
            wire.stall()
            time.sleep(1.5)
        wire.until_stalled()
        time.sleep(0.5)
        child.send(signal.SIGTERM)
        began = time.monotonic()
        code = child.wait()
        assert time.monotonic() - began < 5
        assert code == 1, child.said
        assert "ended as if killed" in child.said
        wire.mend()
        if kind == "state":
            unlock = nursery.start(tmp_path, "state", "unlock", "--yes", "-c", "config.yml")
            assert unlock.wait() == 0, unlock.said
        again = nursery.start(tmp_path, "run", "-c", "config.yml")
        assert again.wait() == 0, again.said
        with connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS warehouse_sync CASCADE")
    assert len(server.imported()) == (1 if kind == "state" else 60_000)
    told(
        "SIGTERM while the network to PostgreSQL stalls, as warehouse or state store",
        "exit 1 within 5 s; the next run goes on",
    )
