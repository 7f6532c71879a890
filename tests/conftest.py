"""Fixtures for every room: a clean environment, the sample warehouse, a project on disk, a sandbox, the command line.

Everything heavy is imported inside the fixtures, so that a room's own tests pay for nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from harness import (
    ROOT,
    CommandLine,
    Project,
    duckdb_file,
    is_foreign,
    layout_of_a_store,
    make_stores_from,
    share_statements,
)

if TYPE_CHECKING:
    from servers import Server

    from warehouse_sync.userpilot.sandbox import Sandbox

# The same examples everywhere, so that a red suite means a changed program. New ones: `--hypothesis-profile=explore`.
# A busy machine makes an example slow, not wrong.
_PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("same", derandomize=True, database=None, **_PATIENT)
hypothesis.settings.register_profile("explore", max_examples=1000, **_PATIENT)
hypothesis.settings.load_profile("same")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: now and then a test waits for a server."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the developer's shell reaches a test."""
    for name in [name for name in os.environ if is_foreign(name)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the environment forbids Python to keep what it compiles, the processes that tests start share a folder.

    Otherwise each of them would compile the whole program again.
    """
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode and sys.pycache_prefix is None:
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.getbasetemp().parent / "compiled"))
        yield


@pytest.fixture(scope="session")
def shared_statements() -> Iterator[None]:
    """The stores of this process compile their statements once."""
    with pytest.MonkeyPatch.context() as patch:
        share_statements(patch)
        yield


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The layout of the state store, as its migrations make it."""
    return layout_of_a_store(tmp_path_factory.mktemp("layout") / "state.db")


@pytest.fixture
def quick_stores(shared_statements: None, layout: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's own SQLite state stores cost little in this process."""
    make_stores_from(layout, monkeypatch)


@pytest.fixture
def cli(tmp_path: Path, quick_stores: None) -> CommandLine:
    """The command line in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A local Import API whose jobs are over at once."""
    from warehouse_sync.userpilot.sandbox import Sandbox

    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture(scope="session")
def small_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of `project`, made once; only to be copied."""
    path = tmp_path_factory.mktemp("small") / "warehouse.duckdb"
    with duckdb_file(path) as connection:
        connection.execute(
            "CREATE TABLE users (id VARCHAR, plan VARCHAR, changed TIMESTAMP);"
            "INSERT INTO users VALUES ('u1', 'free', '2025-01-01 10:00'), ('u2', 'pro', '2025-01-02 10:00'),"
            " ('u3', NULL, '2025-01-03 10:00');"
            "CREATE TABLE events (user_id VARCHAR, name VARCHAR, happened TIMESTAMP);"
            "INSERT INTO events SELECT 'u' || (1 + i % 3), 'opened', TIMESTAMP '2025-01-05' + i * INTERVAL 1 MINUTE"
            " FROM range(4) AS numbers(i)"
        )
    return path


@pytest.fixture
def project(tmp_path: Path, cli: CommandLine, sandbox: Sandbox, small_warehouse: Path) -> Project:
    """A project with two small models, `users` (3 rows) and `events` (4 rows), on a running sandbox."""
    project = Project(tmp_path, cli, sandbox.url, sandbox.api_key)
    project.write_config()
    shutil.copy(small_warehouse, project.warehouse)
    project.write_model(
        "users",
        """\
        {{ config(event='identify_user', cursor='_changed', tags=['daily']) }}
        select id as user_id, plan, changed as inserted_at, changed as _changed from users
        """,
    )
    project.write_model(
        "events",
        """\
        {{ config(event='track', cursor='_happened', begin='all', tags=['hourly']) }}
        select user_id, name as event_name, happened as inserted_at, happened as _happened from events
        """,
    )
    return project


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server on loopback, one for all rooms: every test makes a database or a schema of its own in it."""
    from servers import postgres_server

    with postgres_server() as running:
        yield running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A MariaDB server on loopback, one for all rooms."""
    from servers import mariadb_server

    with mariadb_server() as running:
        yield running


@pytest.fixture(scope="session")
def sample_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample warehouse, made once; only to be copied or read."""
    from warehouse_sync.cli import sample

    path = tmp_path_factory.mktemp("sample") / "warehouse.duckdb"
    sample.create(path)
    return path


@pytest.fixture
def sample_project(tmp_path: Path, cli: CommandLine, sandbox: Sandbox, sample_warehouse: Path) -> Project:
    """The shipped project (`models_sql/`, the sample warehouse) on a running sandbox."""
    project = Project(tmp_path, cli, sandbox.url, sandbox.api_key)
    project.write_config("models: {sources: {app: app}}\n")
    shutil.copytree(ROOT / "models_sql", tmp_path / "models_sql")
    shutil.copy(sample_warehouse, project.warehouse)
    return project


@pytest.fixture
def imported(sandbox: Sandbox) -> Callable[[], Sequence[dict[str, Any]]]:
    """The rows that the sandbox imported so far."""
    return lambda: [json.loads(line) for line in sandbox.imported()]
