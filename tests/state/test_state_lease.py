"""The lease: one runner at a time, however the last one ended."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text, update
from sqlalchemy.exc import DBAPIError

from warehouse_sync.errors import LeaseHeld, LocalStateLost, StateError
from warehouse_sync.state import lease as lease_module
from warehouse_sync.state.database import Database, open_database
from warehouse_sync.state.lease import LEASE, Holder, RowLease, hold_lease, holder, lock_path, row_holder
from warehouse_sync.state.tables import leases

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)

HOLD = """
import sys
from warehouse_sync.state.lease import hold_lease
with hold_lease(sys.argv[1], "prod", "cron"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def url(empty_url: str) -> str:
    """A store that has been opened once."""
    return empty_url


@pytest.fixture
def rows(url: str) -> Iterator[Database]:
    """The database of the leases that are rows."""
    database = open_database(url)
    yield database
    database.close()


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def other_process(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def enter(*args: Any, **options: Any) -> None:
    with hold_lease(*args, **options):
        pass


def test_a_lease_is_held_by_one(url: str) -> None:
    assert holder(url, "prod") is None
    with hold_lease(url, "prod", "laptop") as lease:
        lease.check()
        assert lease.holder.owner == "laptop"
        found = holder(url, "prod")
        assert found is not None
        assert (found.owner, found.since) == ("laptop", lease.holder.since)
        with pytest.raises(LeaseHeld, match="another run of prod is at work: laptop") as caught:
            enter(url, "prod", "cron")
        assert f"since {found.since:%Y-%m-%d %H:%M:%S} UTC" in caught.value.message
        assert "--wait" in caught.value.hint
        assert caught.value.exit_code == 1
        with hold_lease(url, "eu", "cron"):
            pass
    assert holder(url, "prod") is None
    enter(url, "prod", "cron")


def test_a_lease_ends_with_an_exception(url: str) -> None:
    with pytest.raises(KeyboardInterrupt), hold_lease(url, "prod", "laptop"):
        raise KeyboardInterrupt
    enter(url, "prod", "cron")


def test_waiting_for_a_lease(url: str) -> None:
    clock = Hand()
    with ExitStack() as first:
        first.enter_context(hold_lease(url, "prod", "laptop"))
        with pytest.raises(LeaseHeld):
            enter(url, "prod", "cron", wait=timedelta(seconds=2), sleep=clock.sleep)
        assert clock.now == NOW + timedelta(seconds=2)

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            if clock.now >= NOW + timedelta(seconds=5):
                first.close()

        enter(url, "prod", "cron", wait=timedelta(minutes=5), sleep=sleep)
    assert clock.now == NOW + timedelta(seconds=5)


def test_a_killed_holder_holds_nothing(sqlite_url: str) -> None:
    open_database(sqlite_url).close()
    process = other_process(sqlite_url)
    found = holder(sqlite_url, "prod")
    assert found is not None
    assert (found.owner, found.pid) == ("cron", process.pid)
    with pytest.raises(LeaseHeld, match=rf"cron, process {process.pid} on .+, since "):
        enter(sqlite_url, "prod", "laptop")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    assert path.read_bytes()
    assert holder(sqlite_url, "prod") is None
    with hold_lease(sqlite_url, "prod", "laptop") as lease:
        lease.check()


def test_a_holder_that_ends_well_leaves_an_empty_file(sqlite_url: str) -> None:
    open_database(sqlite_url).close()
    other_process(sqlite_url).communicate("done\n")
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_lock_file_lies_beside_the_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    assert lock_path(url, "prod") == tmp_path / "state.db.prod.lock"
    names = {lock_path(url, key) for key in ("a/b", "a-b", "a:b", "a b")}
    assert len(names) == 4
    assert all(path is not None and path.parent == tmp_path for path in names)
    assert lock_path("sqlite://", "prod") is None
    assert lock_path("sqlite:///:memory:", "prod") is None
    assert lock_path("postgresql+psycopg://a/b", "prod") is None


def test_two_links_to_one_store_are_one_lease(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "state.db")
    (tmp_path / "folder").symlink_to(tmp_path)
    urls = [f"sqlite:///{tmp_path}/{name}" for name in ("state.db", "link.db", "folder/state.db", "folder/link.db")]
    assert {lock_path(url, "prod") for url in urls} == {tmp_path / "state.db.prod.lock"}


def test_a_lock_file_that_was_deleted_is_noticed(sqlite_url: str) -> None:
    open_database(sqlite_url).close()
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    with hold_lease(sqlite_url, "prod", "laptop") as lease:
        path.unlink()
        with pytest.raises(LocalStateLost, match=r"the lease of this run is lost: .* was deleted or replaced"):
            lease.check()
        with hold_lease(sqlite_url, "prod", "cron"), pytest.raises(LocalStateLost):
            lease.check()


def test_a_lock_file_deleted_while_it_is_taken_is_taken_again(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database(sqlite_url).close()
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    real = lease_module.fcntl.flock
    calls: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(lease_module.fcntl, "flock", flock)
    with hold_lease(sqlite_url, "prod", "laptop", wait=timedelta(seconds=1), sleep=lambda _: None) as lease:
        lease.check()
    assert len(calls) == 2


def test_a_look_at_a_lease_keeps_nobody_from_it(sqlite_url: str) -> None:
    """A killed run leaves its name behind; whether it lives is seen by locking the file for a moment."""
    open_database(sqlite_url).close()
    process = other_process(sqlite_url)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    with path.open("rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        with hold_lease(sqlite_url, "prod", "laptop", sleep=lambda _: looker.close()) as lease:
            lease.check()


def test_a_disk_without_room_for_the_holders_name(sqlite_url: str) -> None:
    open_database(sqlite_url).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with hold_lease(sqlite_url, "prod", "laptop") as lease:
            lease.check()
            with pytest.raises(LeaseHeld, match="at work: another run"):
                enter(sqlite_url, "prod", "cron", sleep=lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"not json", b'{"owner": "a", "since": "soon"}'])
def test_a_holder_that_cannot_be_read(sqlite_url: str, text: bytes) -> None:
    open_database(sqlite_url).close()
    path = lock_path(sqlite_url, "prod")
    assert path is not None
    with hold_lease(sqlite_url, "prod", "laptop"):
        path.write_bytes(text)
        with pytest.raises(LeaseHeld, match="at work: another run"):
            enter(sqlite_url, "prod", "cron", sleep=lambda _: None)
        assert holder(sqlite_url, "prod") is None


def test_a_lock_file_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot make the lock file: No such file or directory"):
        enter(f"sqlite:///{tmp_path}/nowhere/state.db", "prod", "laptop")


def take(rows: Database, clock: Any, owner: str = "laptop") -> RowLease:
    lease = RowLease.take(rows, "prod", owner, clock)
    assert isinstance(lease, RowLease)
    return lease


def test_a_row_is_held_until_it_expires(rows: Database) -> None:
    clock = Hand()
    first = take(rows, clock)
    clock.now += LEASE - timedelta(seconds=1)
    first.check()
    assert RowLease.take(rows, "prod", "cron", clock) == Holder("laptop", NOW)
    assert row_holder(rows, "prod", clock) == Holder("laptop", NOW)
    assert first.renew()
    clock.now += timedelta(seconds=2)
    first.check()
    first.release()
    assert row_holder(rows, "prod", clock) is None


def test_a_runner_that_wakes_up_late_has_lost_its_lease(rows: Database) -> None:
    clock = Hand()
    first = take(rows, clock)
    clock.now += LEASE
    with pytest.raises(LocalStateLost, match="ran out before it could be renewed"):
        first.check()
    assert row_holder(rows, "prod", clock) is None
    second = take(rows, clock, "cron")
    with pytest.raises(LocalStateLost, match="ran out and another run took it"):
        first.check()
    assert not first.renew()
    first.release()
    second.check()
    second.release()
    with pytest.raises(LocalStateLost, match="its row is gone"):
        second.check()


def test_a_lease_that_ran_out_and_that_nobody_took_can_be_renewed(rows: Database) -> None:
    clock = Hand()
    lease = take(rows, clock)
    clock.now += LEASE * 2
    assert lease.renew()
    lease.check()
    lease.release()


def test_a_row_is_renewed_while_it_is_held(rows: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = threading.Event()
    answers = iter([LocalStateLost("away"), True, False])

    def renew(_lease: RowLease) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            renewed.set()
        return answer

    monkeypatch.setattr(lease_module, "RENEW", timedelta(milliseconds=1))
    monkeypatch.setattr(RowLease, "renew", renew)
    lease = take(rows, Hand())
    # The thread gives up once the row is another's, and not before.
    assert renewed.wait(10)
    lease._renewer.join(10)
    assert not lease._renewer.is_alive()
    lease.release()


def test_a_lease_given_back_to_a_server_that_is_gone_expires_there(
    rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(rows, Hand())

    def gone() -> None:
        raise LocalStateLost("away")

    monkeypatch.setattr(rows, "write", gone)
    lease.release()


def test_stores_without_a_file_keep_the_lease_in_a_row(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "lock_path", lambda *_: None)
    clock = Hand()
    assert holder(url, "prod", clock=clock) is None
    with hold_lease(url, "prod", "laptop", clock=clock) as lease:
        lease.check()
        assert holder(url, "prod", clock=clock) == lease.holder == Holder("laptop", NOW)
        with pytest.raises(LeaseHeld, match="at work: laptop, since 2026-11-01 12:00:00 UTC") as caught:
            enter(url, "prod", "cron", clock=clock)
        assert "90 s, or until `warehouse-sync state unlock`" in caught.value.hint
    assert holder(url, "prod", clock=clock) is None


def test_without_a_clock_of_the_callers_a_server_reads_its_own(rows: Database) -> None:
    lease = take(rows, None)
    assert abs(lease.holder.since - datetime.now(UTC)) < timedelta(minutes=5)
    with rows.write() as connection:
        connection.execute(update(leases).values(expires_at=datetime.now(UTC) - timedelta(minutes=10)))
    with pytest.raises(LocalStateLost):
        lease.check()
    lease.release()


def test_two_hosts_on_one_server(store_url: str) -> None:
    if make_url(store_url).get_backend_name() == "sqlite":
        pytest.skip("a file has an OS lock")
    open_database(store_url).close()
    process = other_process(store_url)
    with pytest.raises(LeaseHeld, match="at work: cron, since"):
        enter(store_url, "prod", "laptop")
    os.kill(process.pid, signal.SIGSTOP)
    database = open_database(store_url)
    with database.write() as connection:
        connection.execute(update(leases).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with hold_lease(store_url, "prod", "laptop") as lease:
        os.kill(process.pid, signal.SIGCONT)
        process.communicate("done\n")
        lease.check()
    database.close()


def test_a_host_that_is_paused_in_a_transaction_holds_nobody_up(
    shared: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse_sync.state.database.IDLE_SECONDS", 1)
    with (
        closing(open_database(shared[0])) as paused,
        closing(open_database(shared[0])) as other,
        hold_lease(shared[0], "prod", "cron") as lease,
        ExitStack() as transaction,
    ):
        connection = transaction.enter_context(paused.write())
        lease.fence(connection)
        with other.write() as taken:
            taken.execute(text("SET LOCAL lock_timeout TO '20s'"))
            # Waits until the server has ended that transaction.
            taken.execute(leases.delete())
        with pytest.raises(DBAPIError):
            connection.execute(leases.select())
        transaction.pop_all()
