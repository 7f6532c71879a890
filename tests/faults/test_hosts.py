"""Two hosts on one state store on PostgreSQL: one at a time, and one that wakes up too late changes nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from fault_processes import Nursery
from fault_world import World
from servers import PASSWORD, Server
from sqlalchemy import update

from warehouse_sync.state.database import open_database
from warehouse_sync.state.store import open_store
from warehouse_sync.state.tables import leases
from warehouse_sync.userpilot.sandbox import Sandbox


@pytest.fixture
def url(postgres: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of its own."""
    name = f"hosts_{abs(hash(request.node.nodeid))}"
    admin = {"host": "127.0.0.1", "port": postgres.port, "user": postgres.admin, "password": PASSWORD}
    with psycopg.connect(**admin, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        password = PASSWORD.replace(" ", "%20")
        yield f"postgresql+psycopg://{postgres.admin}:{password}@127.0.0.1:{postgres.port}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def on(world: World, url: str) -> World:
    """The world with its state there."""
    config = world.folder / "config.yml"
    config.write_text(config.read_text().replace("sqlite:///state/state.db", url))
    return world


def everything(url: str) -> dict[str, Any]:
    with open_store(url, read_only=True) as store:
        return store.by_hand.take_out("p")


def run_out(url: str) -> None:
    """The lease has not been renewed in time."""
    database = open_database(url)
    with database.write() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        assert connection.execute(update(leases).values(expires_at=past)).rowcount == 1
    database.close()


def wakes_up_too_late(child: Any, url: str, sandbox: Sandbox) -> None:
    """The paused run goes on, and nothing that it does counts."""
    before, posts = everything(url), [r.path for r in sandbox.requests if r.method == "POST"]
    child.send(signal.SIGCONT)
    assert child.wait() == 1, child.said
    # Where it was paused within a transaction, the server has ended that one.
    assert "the lease of this run is lost" in child.said or "the state store failed: " in child.said
    assert "internal error" not in child.said
    assert everything(url) == before
    assert [r.path for r in sandbox.requests if r.method == "POST"] == posts


@pytest.mark.slow
def test_a_host_that_is_paused_while_its_job_runs(tmp_path, make_world, nursery: Nursery, told, url):
    with Sandbox(tmp_path / "slow", job_seconds=60) as sandbox:
        world = on(make_world(sandbox=sandbox), url)
        first = nursery.start(world.folder)
        first.until("job_accepted")
        assert nursery.start(world.folder).wait() == 1, "held by the first"
        first.send(signal.SIGSTOP)
        run_out(url)
        sandbox.finish_jobs()
        sandbox.job_seconds = 0
        second = nursery.start(world.folder)
        assert second.wait() == 0, second.said
        wakes_up_too_late(first, url, sandbox)
        world.clean_run()
        world.check_equal()
    told("two hosts: SIGSTOP, the lease runs out, another host, SIGCONT", "exit 1; it changes and sends nothing more")


@pytest.mark.slow
def test_a_host_that_is_paused_while_it_reads(make_world, server, nursery: Nursery, told, url):
    world = on(make_world(), url)
    model = world.folder / "models_sql" / "users.sql"
    slow = "(select count(*) from range(4000000) t(i) where md5(i::varchar) = 'x')"
    model.write_text(model.read_text().replace(" v,", f" v + {slow} as v,"))
    first = nursery.start(world.folder)
    first.until("START identify_user users")
    first.send(signal.SIGSTOP)
    run_out(url)
    second = nursery.start(world.folder)
    assert second.wait() == 0, second.said
    wakes_up_too_late(first, url, server)
    world.clean_run()
    world.check_equal()
    told("two hosts: SIGSTOP, the lease runs out, another host, SIGCONT", "exit 1; it changes and sends nothing more")


def test_a_lease_that_is_taken_away_by_hand(tmp_path, make_world, nursery: Nursery, told, url):
    with Sandbox(tmp_path / "slow", job_seconds=60) as sandbox:
        world = on(make_world(sandbox=sandbox), url)
        first = nursery.start(world.folder)
        first.until("job_accepted")
        first.send(signal.SIGSTOP)
        sandbox.finish_jobs()
        sandbox.job_seconds = 0
        unlock = nursery.start(world.folder, "state", "unlock", "-c", "config.yml", "--yes")
        assert unlock.wait() == 0, unlock.said
        assert "run of config.yml, since" in unlock.said
        assert "it stops before its next upload" in unlock.said
        second = nursery.start(world.folder)
        assert second.wait() == 0, second.said
        wakes_up_too_late(first, url, sandbox)
        world.check_equal()
    told("two hosts: SIGSTOP, `state unlock`, another host, SIGCONT", "exit 1; it changes and sends nothing more")


@pytest.mark.slow
def test_a_server_that_throws_everybody_out(tmp_path, make_world, nursery: Nursery, told, url):
    with Sandbox(tmp_path / "busy", job_seconds=1.5) as sandbox:
        world = on(make_world(sandbox=sandbox), url)
        child = nursery.start(world.folder)
        child.until("job_posting")
        for _ in range(8):
            throw_out(url)
            time.sleep(0.2)
        assert child.wait() in (0, 1), child.said
        assert "internal error" not in child.said
        world.clean_run()
        world.check_equal()
    told("PostgreSQL state store: every connection is cut", "goes on, or exit 1 and the next run goes on")


def throw_out(url: str) -> None:
    """End every connection to that database but this one."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
