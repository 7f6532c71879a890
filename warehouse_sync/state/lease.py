"""The lease: one runner at a time for one pipeline, and so for what its rows go to.

Runners of two pipelines may share an account: the API takes one job at a time, and each waits for the other's.

SQLite: an OS lock on a file beside the database. The system gives it back however its holder ends, kill -9 included.
PostgreSQL: a row with an owner and an expiry, which one daemon thread renews; a runner that could not renew it in time
has lost it, and `check`, right before each upload, says so. The server's clock decides, never those of the runners.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from warehouse_sync.errors import LeaseHeld, LocalStateLost, StateError, Stopped
from warehouse_sync.rights import chown, refusal
from warehouse_sync.values import utc_now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from warehouse_sync.state.database import Database

LEASE = timedelta(seconds=90)
RENEW = timedelta(seconds=15)
RETRY = timedelta(seconds=0.5)
KILLED = f" (one that was killed keeps the lease for {LEASE.seconds} s, or until `warehouse-sync state unlock`)"
NAMELESS = timedelta(seconds=1)
"""How long a holder gets to write down who it is: it took the lock a moment ago, or is giving it back."""
GLANCE = RETRY
"""How long a lock file is tried before its text is believed: `status` locks it for a moment, to see if it is held."""

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, since when; process and machine where the lease knows them."""

    owner: str
    since: datetime
    pid: int = 0
    host: str = ""

    def __str__(self) -> str:
        process = f", process {self.pid} on {self.host}" if self.pid else ""
        return f"{self.owner}{process}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Lease(Protocol):
    """A lease that is held."""

    @property
    def holder(self) -> Holder:
        """Ourselves."""
        ...

    def check(self) -> None:
        """Raise LocalStateLost when the lease is no longer ours; called right before each upload."""
        ...

    def fence(self, connection: Connection) -> None:
        """The same inside a writing transaction of the store: until that ends, nobody else takes the lease."""
        ...


@contextmanager
def hold_lease(
    store_url: str,
    pipeline: str,
    owner: str,
    *,
    wait: timedelta | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Lease]:
    """Hold the lease of a pipeline for the length of a `with` block, on a store that `open_store` has opened.

    Waits up to `wait` for another holder to end, not at all with None; raises LeaseHeld naming that holder.
    `owner` is shown to those who wait. `clock`: None takes this machine's on SQLite, the server's on PostgreSQL.
    """
    path = lock_path(store_url, pipeline)
    if path is not None:
        with _patiently(
            lambda: _FileLease.take(path, owner, clock or utc_now), pipeline, wait, sleep, in_row=False
        ) as lease:
            yield lease
        return
    from warehouse_sync.state.database import open_database

    database = open_database(store_url)
    try:
        with _patiently(
            lambda: RowLease.take(database, pipeline, owner, clock), pipeline, wait, sleep, in_row=True
        ) as lease:
            yield lease
    finally:
        database.close()


def holder(store_url: str, pipeline: str, *, clock: Clock | None = None) -> Holder | None:
    """Who holds the lease of a pipeline now, None when nobody does."""
    path = lock_path(store_url, pipeline)
    if path is not None:
        return _file_holder(path)
    from warehouse_sync.state.database import open_database

    database = open_database(store_url, read_only=True)
    try:
        return row_holder(database, pipeline, clock)
    finally:
        database.close()


def lock_path(store_url: str, pipeline: str) -> Path | None:
    """The lock file beside an SQLite store, None for another kind of store."""
    from sqlalchemy import make_url

    url = make_url(store_url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", pipeline)
    if plain != pipeline:
        # Two keys must not share a file because they look alike once made plain.
        plain = f"{plain[:60]}-{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"
    # Two links to one file are one store.
    path = Path(os.path.realpath(url.database))
    return path.with_name(f"{path.name}.{plain}.lock")


class _Taken(Lease, Protocol):
    def release(self) -> None: ...


@contextmanager
def _patiently(
    take: Callable[[], _Taken | Holder | None],
    pipeline: str,
    wait: timedelta | None,
    sleep: Callable[[float], None],
    *,
    in_row: bool,
) -> Iterator[Lease]:
    patience = wait or timedelta(0)
    waited = timedelta(0)
    while True:
        taken = take()
        if taken is not None and not isinstance(taken, Holder):
            break
        at_least = NAMELESS if taken is None else timedelta(0) if in_row else GLANCE
        if waited >= max(patience, at_least):
            who = "another run" if taken is None else str(taken)
            hint = "Wait for it to end; `run` and `retry` wait with --wait 5m"
            raise LeaseHeld(f"another run of {pipeline} is at work: {who}", hint=hint + (KILLED if in_row else ""))
        pause = RETRY / 25 if waited < at_least else min(RETRY, patience - waited)
        sleep(pause.total_seconds())
        waited += pause
    try:
        yield taken
    finally:
        taken.release()


class _FileLease:
    """An OS lock on a file that says who holds it."""

    def __init__(self, path: Path, descriptor: int, holder: Holder) -> None:
        self._path = path
        self._descriptor = descriptor
        self.holder = holder

    @classmethod
    def take(cls, path: Path, owner: str, clock: Clock) -> _FileLease | Holder | None:
        """The lease, or its holder; None for a holder that has not written down yet who it is."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if os.access(path, os.F_OK):
                hint = f"Run as that user, or give it to this one: {chown(path)}."
                raise StateError(f"cannot take the lock: {refusal(path)}", hint=hint) from None
            raise StateError(
                f"{path}: cannot make the lock file: {error.strerror}",
                hint="The folder of the state store must be writable.",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lease = cls(path, descriptor, Holder(owner, clock(), os.getpid(), socket.gethostname()))
            if not lease._is_the_file():
                os.close(descriptor)
                return None
            lease._write()
        except BlockingIOError:
            text = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            return _read_holder(text)
        return lease

    def _is_the_file(self) -> bool:
        """False when the file was deleted or replaced: then another process can lock the new one."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        return False

    def _write(self) -> None:
        """Say who holds it, for those who look. The lock is ours without that too, also on a full disk."""
        text = json.dumps({**asdict(self.holder), "since": self.holder.since.isoformat()})
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def check(self) -> None:
        """The lock itself cannot be lost, but its file can."""
        if not self._is_the_file():
            raise _lost(f"{self._path} was deleted or replaced")

    def fence(self, connection: Connection) -> None:
        """As `check`: the system keeps the lock for as long as this process lives."""
        self.check()

    def release(self) -> None:
        """Give the lock back. The file stays: deleting it could take it from the next holder."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _file_holder(path: Path) -> Holder | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError:
        return _unseen_holder(path)
    try:
        text = os.pread(descriptor, 4096, 0)
        if text:
            # A holder that was killed leaves its text behind, but not its lock.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read_holder(text)
    finally:
        os.close(descriptor)


def _unseen_holder(path: Path) -> Holder | None:
    """Who may hold a lock file that this user may not open: it is empty unless somebody does, or was killed."""
    try:
        told = path.stat()
    except OSError as error:
        raise StateError(
            f"{path}: cannot look at the lock file: {error.strerror}",
            hint="The folder of the state store must be readable.",
        ) from None
    since = datetime.fromtimestamp(told.st_mtime, UTC)
    return Holder(f"another user's run, unless it was killed ({path} is not readable)", since) if told.st_size else None


def _read_holder(text: bytes) -> Holder | None:
    try:
        found = json.loads(text)
        return Holder(found["owner"], datetime.fromisoformat(found["since"]), found["pid"], found["host"])
    except (ValueError, KeyError, TypeError):
        return None


def _lost(why: str) -> LocalStateLost:
    return LocalStateLost(
        f"the lease of this run is lost: {why}", hint="Nothing more is sent; the next run goes on from here."
    )


class RowLease:
    """A row that expires unless it is renewed. Works on any store; `hold_lease` takes it for PostgreSQL."""

    def __init__(self, database: Database, key: str, token: str, holder: Holder, clock: Clock | None) -> None:
        self._database = database
        self._key = key
        self._token = token
        self._clock = clock
        self.holder = holder
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew_for_ever, name="lease", daemon=True)

    @classmethod
    def take(cls, database: Database, key: str, owner: str, clock: Clock | None) -> RowLease | Holder | None:
        """The lease, or its holder; None when the holder gave it back just now."""
        from warehouse_sync.state.moves import insert_into
        from warehouse_sync.state.tables import leases

        token = secrets.token_hex(16)
        with database.write() as connection:
            now = _now(connection, clock)
            ours = {"owner": owner, "token": token, "since": now, "expires_at": now + LEASE}
            statement = insert_into(connection, leases).values(key=key, **ours)
            # An expired lease is anybody's; a living one stays as it is, and no row comes back.
            taking = statement.on_conflict_do_update(
                index_elements=["key"], set_=ours, where=leases.c.expires_at <= now
            ).returning(leases.c.key)
            if connection.execute(taking).one_or_none() is None:
                return row_holder_in(connection, key, clock)
        lease = cls(database, key, token, Holder(owner, now), clock)
        lease._renewer.start()
        return lease

    def renew(self) -> bool:
        """Move the expiry on; False when the row is another's by now."""
        from sqlalchemy import update

        from warehouse_sync.state.tables import leases

        with self._database.write() as connection:
            mine = update(leases).where(leases.c.key == self._key, leases.c.token == self._token)
            return connection.execute(mine.values(expires_at=_now(connection, self._clock) + LEASE)).rowcount == 1

    def _renew_for_ever(self) -> None:
        kept = True
        while kept and not self._stop.wait(RENEW.total_seconds()):
            # The server may come back in time; whether it did is what `check` reads.
            with suppress(Stopped):
                kept = self.renew()

    def check(self) -> None:
        """Read the row again: still ours, and not expired."""
        from sqlalchemy import select

        from warehouse_sync.state.tables import leases

        with self._database.read() as connection:
            row = connection.execute(select(leases).where(leases.c.key == self._key)).one_or_none()
            now = _now(connection, self._clock)
        self._compare(None if row is None else row.token)
        if row is not None and row.expires_at <= now:
            raise _lost("it ran out before it could be renewed")

    def fence(self, connection: Connection) -> None:
        """Lock the row, ours or not: who wants to take it over waits for this transaction.

        One that ran out while nobody took it is still ours: there is nobody who could have acted in between.
        """
        from sqlalchemy import select

        from warehouse_sync.state.tables import leases

        mine = select(leases.c.token).where(leases.c.key == self._key).with_for_update(read=True)
        self._compare(connection.scalar(mine))

    def _compare(self, token: str | None) -> None:
        if token != self._token:
            raise _lost("it ran out and another run took it" if token else "its row is gone")

    def release(self) -> None:
        """Stop renewing and give the row back, if it is still ours."""
        from sqlalchemy import delete

        from warehouse_sync.state.tables import leases

        self._stop.set()
        self._renewer.join(timeout=RENEW.total_seconds())
        # A server that is gone cannot be told; the row expires by itself.
        with suppress(Stopped), self._database.write() as connection:
            connection.execute(delete(leases).where(leases.c.key == self._key, leases.c.token == self._token))


def row_holder(database: Database, key: str, clock: Clock | None) -> Holder | None:
    """Who holds the row of a lease now."""
    with database.read() as connection:
        return row_holder_in(connection, key, clock)


def row_holder_in(connection: Connection, key: str, clock: Clock | None) -> Holder | None:
    """Who holds the row of a lease, inside a transaction."""
    from sqlalchemy import select

    from warehouse_sync.state.tables import leases

    living = select(leases.c.owner, leases.c.since).where(
        leases.c.key == key, leases.c.expires_at > _now(connection, clock)
    )
    row = connection.execute(living).one_or_none()
    return None if row is None else Holder(row.owner, row.since)


def _now(connection: Connection, clock: Clock | None) -> datetime:
    from sqlalchemy import func, select

    if clock is not None or connection.dialect.name != "postgresql":
        return (clock or utc_now)()
    return cast("datetime", connection.scalar(select(func.clock_timestamp())))
