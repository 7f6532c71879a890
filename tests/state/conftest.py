"""A state store for every test, on SQLite and on PostgreSQL, which is started here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers import PASSWORD, Server
from sqlalchemy import URL, Engine, create_engine, text

from warehouse_sync.state.lifecycle import RejectKind
from warehouse_sync.state.rows import Batch, Job, NewBatch, NewJob, NewReject, NewWindow, Window
from warehouse_sync.state.store import Store, open_store
from warehouse_sync.state.tables import SCHEMA, metadata
from warehouse_sync.values import Counts, CursorKind, CursorValue, EventType

NOON = datetime(2026, 11, 1, 12, 0, 0, 123456, UTC)


class Clock:
    """A clock that moves a second each time it is read, and when told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass
class World:
    """One pipeline with a run, and short words for what tests do all the time."""

    store: Store
    pipeline: str = "prod"
    run: int = 0
    destination: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.store.register_pipeline(self.pipeline, "home")
        self.destination = self.store.claim_destination(self.pipeline, "https://a", None, "key").id
        self.run = self.store.begin_run(self.pipeline, "run", {"select": ["users"]}, "0.1.0")

    def window(self, model: str = "users", **changes: Any) -> Window:
        """A window that is being extracted."""
        values: dict[str, Any] = {
            "run_id": self.run,
            "pipeline": self.pipeline,
            "model": model,
            "event": EventType.IDENTIFY_USER,
            "kind": "incremental",
            "cursor_column": "loaded_at",
            "cursor_from": None,
            "started_at": NOON,
            "fingerprint": "f1",
            "unique_key": ("user_id",),
        }
        return self.store.begin_window(NewWindow(**(values | changes)))

    def file(self, rows: int = 10) -> NewBatch:
        """A sealed file that nobody has recorded."""
        return NewBatch(f"batch-{next(self.numbers):04d}", rows, rows * 100, "ab" * 32)

    def seal(self, window: Window, rows: Sequence[int] = (10,), **changes: Any) -> list[Batch]:
        """Seal a window with batches of so many rows each; its cursor ends at its id."""
        values: dict[str, Any] = {
            "batches": [self.file(one) for one in rows],
            "rejects": (),
            "counts": Counts(read=sum(rows), added=sum(rows)),
            "cursor_to": CursorValue(CursorKind.INTEGER, str(window.id)),
            "properties": {"plan": "String"},
        }
        self.store.seal_window(window.id, **(values | changes))
        return self.store.batches(self.pipeline, window_id=window.id)

    def sealed(self, *rows: int, model: str = "users", **changes: Any) -> list[Batch]:
        """The batches of a new window that is ready."""
        return self.seal(self.window(model, **changes), rows or (10,))

    def intend(self, batches: Sequence[Batch]) -> Job:
        """A job before its upload."""
        return self.store.intend(
            NewJob(
                self.run,
                self.pipeline,
                self.destination,
                [batch.id for batch in batches],
                sha256="cd" * 32,
                rows=sum(batch.rows for batch in batches),
                bytes=sum(batch.bytes for batch in batches),
            )
        )

    def accepted(self, batches: Sequence[Batch]) -> Job:
        """A job with the API."""
        job = self.intend(batches)
        return self.store.accept(
            job.id, remote_id="imports:jobs:NX-1:2", links="/v1/x", remote_status="queued", request_id="r1"
        )

    def deliver(self, batches: Sequence[Batch], **changes: Any) -> list[Window]:
        """A job that completed."""
        return self.store.complete(self.accepted(batches).id, **({"answer": {}, "total_rows": None} | changes))

    def batch(self, batch: Batch) -> Batch:
        """The batch as it is now."""
        found = self.store.batch(batch.id)
        assert found is not None
        return found

    def state_of(self, window_id: int) -> str:
        """The state of a window now."""
        found = self.store.window(window_id)
        assert found is not None
        return str(found.state)

    def cursor(self, model: str = "users") -> str | None:
        """The cursor of a model now."""
        found = self.store.model_state(self.pipeline, model)
        return None if found is None or found.cursor is None else found.cursor.text


def refused(row: int, key: str | None = "k1", kind: RejectKind = RejectKind.INVALID, batch_name: str = "") -> NewReject:
    """A refused row; `row` makes its hash."""
    key_hash = None if key is None else key.encode().rjust(16)
    return NewReject(key, key_hash, row.to_bytes(16, "big"), kind, ("missing_field",), batch_name)


@dataclass
class Databases:
    """A PostgreSQL server where tests get databases of their own."""

    url: URL
    admin: Engine
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def make(self) -> URL:
        """A new database."""
        name = f"state_{next(self.numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy")
        return self.url.set(database=name)

    def drop(self, url: URL) -> None:
        """Away with it, whoever is connected."""
        self._run(f"DROP DATABASE {url.database} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with self.admin.connect() as connection:
            connection.execute(text(statement))


@pytest.fixture(scope="session")
def postgresql(postgres: Server) -> Iterator[Databases]:
    """Databases on a server on loopback."""
    url = URL.create("postgresql+psycopg", postgres.admin, PASSWORD, "127.0.0.1", postgres.port, "postgres")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    yield Databases(url, admin)
    admin.dispose()


@pytest.fixture(scope="session")
def shared(postgresql: Databases) -> Iterator[tuple[str, Engine]]:
    """A store that tests use one after the other: emptying it is faster than making a new one."""
    url = text_of(postgresql.make())
    open_store(url).close()
    engine = create_engine(url, connect_args={"options": f"-c search_path={SCHEMA} -c lock_timeout=10s"})
    yield url, engine
    engine.dispose()


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that does not exist yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'state.db'}"
        return
    databases: Databases = request.getfixturevalue("postgresql")
    url = databases.make()
    yield text_of(url)
    databases.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'state.db'}"
        open_store(url).close()
        yield url
        return
    url, engine = request.getfixturevalue("shared")
    yield url
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite store that does not exist yet, in a folder that does not exist either."""
    return f"sqlite:///{tmp_path / 'state' / 'state.db'}"


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def store(empty_url: str, clock: Clock, shared_statements: None) -> Iterator[Store]:
    """An open, empty store."""
    with open_store(empty_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def world(store: Store) -> World:
    """A pipeline in the store."""
    return World(store)


@pytest.fixture
def make_world() -> Callable[[str], World]:
    """A pipeline in a store at a URL."""
    return lambda url: World(open_store(url, clock=Clock()))


@pytest.fixture
def reject() -> Callable[..., NewReject]:
    """Makes refused rows: `reject(row, key, kind, batch_name)`."""
    return refused
