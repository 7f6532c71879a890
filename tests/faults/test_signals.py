"""SIGTERM and SIGINT while a driver waits for its server in C code: the process ends in time all the same."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fault_processes import Nursery
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
