"""The connection to the state store: opening, migrating, transactions, and the border where foreign errors end.

SQLite: WAL, synchronous=FULL, foreign keys on; every writing transaction is BEGIN IMMEDIATE, so that two processes
queue instead of failing half-way. PostgreSQL: everything lives in the schema `warehouse_sync`.
"""

from __future__ import annotations

import glob
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from warehouse_sync.errors import DiskError, LocalStateLost, StateError, WarehouseSyncError
from warehouse_sync.rights import chown, refusal
from warehouse_sync.state.lifecycle import IllegalMove
from warehouse_sync.state.tables import REVISION, SCHEMA, VERSION_TABLE, metadata

# Seconds that a writer waits for another one's transaction; ours take milliseconds.
BUSY_SECONDS = 30
# Of a server: seconds to answer the first time; seconds (milliseconds in the last) until a network that carries nothing
# any more counts as broken, which the system alone would notice in hours.
WAITS = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
IDLE_SECONDS = 60
"""A server ends a transaction in which nothing is asked for so long: the host that began it was paused, and what it
holds would keep every other one waiting, longer than a lease runs."""
# Any number will do, as long as every process that migrates takes the same one.
MIGRATION_LOCK = 7_730_114_501
MAY_WRITE = "This user must be able to write to that file and its folder, even to look."
UNUSABLE = ("readonly", "unable to open", "is full", "disk I/O")
"""Words of SQLite where the file system refuses; which refusal it is they do not say."""
CHANGED_BY_HAND = "Restore the store from a backup; it was changed by something else."
MEMORY = make_url("sqlite://")


class Database:
    """An engine on a migrated store, with transactions whose errors are ours."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.engine = engine
        self.where = where
        self._writer = engine.execution_options(writes=True)
        self.fence: Callable[[Connection], None] | None = None
        """Asked inside every writing transaction, which ends with what it raises: may this process still write?"""

    def write(self) -> AbstractContextManager[Connection]:
        """One writing transaction: committed as a whole, or not at all when the block raises."""
        return self._transaction(self._writer, self.fence)

    def read(self) -> AbstractContextManager[Connection]:
        """One reading transaction: it sees one moment of the store."""
        return self._transaction(self.engine)

    @contextmanager
    def _transaction(self, engine: Engine, fence: Callable[[Connection], None] | None = None) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                if fence is not None:
                    fence(connection)
                yield connection
        except IntegrityError as error:
            raise IllegalMove(f"the state store refuses the change: {_reason(error)}") from None
        except DBAPIError as error:
            raise self._lost(error) from None

    def _lost(self, error: DBAPIError) -> WarehouseSyncError:
        reason = _reason(error)
        message = f"{self.where}: the state store failed: {reason}"
        if any(word in reason for word in ("is full", "readonly", "No space left")):
            return DiskError(message, hint="Make room or mend the permissions; the next run goes on from here.")
        return LocalStateLost(message, hint="What was recorded stays; the next run goes on from here.")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(url: str, *, read_only: bool = False) -> Database:
    """Open the store at `url`, making it or bringing it up to date first.

    `read_only` changes nothing on disk: a store that does not exist is an empty one in memory, an older one is an
    error. Raises StateError: not a store, newer than this program, unreadable, unwritable, unreachable.
    """
    parsed = _parse(url)
    where = _where(parsed)
    if _is_file(parsed):
        if read_only and not _is_there(Path(parsed.database or ""), where):
            parsed = MEMORY
        elif not read_only:
            _create_file(Path(parsed.database or ""), where)
    database = Database(_engine(parsed, read_only=read_only and parsed is not MEMORY), where)
    try:
        if parsed.database is None and parsed.get_backend_name() == "sqlite":
            metadata.create_all(database.engine)
        elif not _up_to_date(database, read_only=read_only):
            database.close()
            return open_database("sqlite://")
    except DBAPIError as error:
        database.close()
        reason = _reason(error)
        if _is_file(parsed) and any(word in reason for word in UNUSABLE):
            _check_place(Path(parsed.database or ""))
        raise StateError(f"{where}: cannot use the state store: {reason}", hint=_hint(parsed, reason)) from None
    except BaseException:
        database.close()
        raise
    return database


def check_rights(url: str) -> None:
    """Raise StateError where this user may not make the store, or not write to it; changes nothing."""
    parsed = _parse(url)
    if _is_file(parsed):
        _check_place(Path(parsed.database or ""))
    if parsed.get_backend_name() != "postgresql":
        return
    where = _where(parsed)
    database = Database(_engine(parsed, read_only=True), where)
    try:
        with database.read() as connection:
            refused = _refused(connection)
    finally:
        database.close()
    if refused:
        raise StateError(f"{where}: permission denied for {refused}", hint=_hint(parsed, f"denied for {refused}"))


def _refused(connection: Connection) -> str:
    """What the user may not write to, in PostgreSQL's own words; empty when a run could begin."""

    def asked(question: str) -> bool:
        return bool(connection.scalar(text(f"SELECT {question}")))

    if not asked(f"to_regnamespace('{SCHEMA}') IS NOT NULL"):
        return "" if asked("has_database_privilege(current_database(), 'CREATE')") else "database"
    if not asked(f"has_schema_privilege('{SCHEMA}', 'USAGE')"):
        return f"schema {SCHEMA}"
    table = f"{SCHEMA}.{VERSION_TABLE}"
    if asked(f"to_regclass('{table}') IS NULL"):
        return "" if asked(f"has_schema_privilege('{SCHEMA}', 'CREATE')") else f"schema {SCHEMA}"
    return "" if asked(f"has_table_privilege('{table}', 'DELETE')") else f"table {VERSION_TABLE}"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StateError("state.url is not a database URL", hint="Write sqlite:///path/to/state.db") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise StateError(
            f"{_where(parsed)}: a state store on {parsed.get_backend_name()} is not supported",
            hint="Write sqlite:///path/to/state.db or postgresql+psycopg://user@host/database",
        )
    if parsed.database == ":memory:":
        return MEMORY
    if parsed.get_backend_name() == "sqlite" and str(parsed.database).startswith("file:"):
        raise StateError("state.url: SQLite's own file: form is not supported", hint="Write sqlite:///path/to/state.db")
    # The driver that the `postgres` extra brings.
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database is not None


def _where(url: URL) -> str:
    return str(url.database) if _is_file(url) else url.render_as_string(hide_password=True)


def _hint(url: URL, reason: str) -> str:
    if "readonly" in reason or "unable to open" in reason:
        return MAY_WRITE
    if "is full" in reason:
        return "Make room on that disk, and run again."
    if _is_file(url):
        return "Restore the file from a backup, or point state.url at another one; deleting it forgets what was sent."
    who = f'"{url.username}"' if url.username else "that user"
    if "denied for database" in reason:
        return f'The first run makes the store: GRANT CREATE ON DATABASE "{url.database}" TO {who}'
    if "denied for schema" in reason or "no schema has been selected" in reason:
        owner = "Let state.url name the user whose schema that is"
        return f"{owner}, or, where the schema is empty: GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {who}"
    if "denied for" in reason:
        return "Let state.url name the user who made the store: its tables are that user's."
    return "Check that the server runs, and the user, password and database in state.url."


def _reason(error: DBAPIError) -> str:
    # The first line only: PostgreSQL puts values into DETAIL.
    return str(error.orig).partition("\n")[0].strip()


def _is_there(path: Path, where: str) -> bool:
    try:
        return path.exists()
    except OSError as error:
        _check_place(path)
        raise StateError(f"{where}: cannot use the state store: {error.strerror}", hint=MAY_WRITE) from None


def _create_file(path: Path, where: str) -> None:
    if _is_there(path, where):
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process was faster
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        _check_place(path, "make")
        raise StateError(
            f"{where}: cannot make the state store: {error.strerror}",
            hint="state.url must name a file in a folder that this user may write to.",
        ) from None


def _check_place(path: Path, verb: str = "use") -> None:
    """Raise StateError for the disk or the files of an SQLite store when they cannot be written, even to look."""
    path = path.absolute()
    folder = next(above for above in path.parents if os.access(above, os.F_OK))
    if not folder.is_dir():
        raise StateError(
            f"{path}: cannot {verb} the state store: {folder} is a file", hint="Let state.url name a file in a folder."
        )
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY:
        raise StateError(
            f"{path}: cannot {verb} the state store: Read-only file system",
            hint="Mount it for writing, or point state.url at another place; SQLite writes there even to look.",
        )
    if not disk.f_bavail or (disk.f_files and not disk.f_favail):
        raise StateError(
            f"{path}: cannot {verb} the state store: No space left on device",
            hint="Make room on that disk (bytes, or files: `df -i`), and run again; SQLite writes there even to look.",
        )
    closed = _closed(path, folder)
    if closed:
        way = f"give {'it' if len(closed) == 1 else 'them'} to this one: {chown(*closed, deep=closed[0] == folder)}"
        if folder != path.parent:
            way = "point state.url at a folder of this one"
        raise StateError(
            f"{path}: cannot {verb} the state store: {refusal(closed[0])}", hint=f"Run as that user, or {way}."
        )


def _closed(path: Path, folder: Path) -> list[Path]:
    """What of a store this user may not write to: the nearest folder that is there, or files in it."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return [folder]
    if folder != path.parent:
        return []
    return [file for file in _files(path) if os.access(file, os.F_OK) and not os.access(file, os.R_OK | os.W_OK)]


def _files(path: Path) -> list[Path]:
    """The files of an SQLite store: its own, those that SQLite puts beside it, and the locks of its runs."""
    beside = [path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-shm", "-journal")]
    return [*beside, *sorted(path.parent.glob(f"{glob.escape(path.name)}.*.lock"))]


def _engine(url: URL, *, read_only: bool) -> Engine:
    # hide_parameters: an error must not print rows and keys.
    options: dict[str, Any] = {"hide_parameters": True}
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        options["connect_args"] = {"timeout": BUSY_SECONDS}
        if url.database is None:
            options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    else:
        options["pool_pre_ping"] = True
        options["connect_args"] = {name: value for name, value in WAITS.items() if name not in url.query}
    try:
        engine = create_engine(url, **options)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise StateError(
            f"{_where(url)}: the driver for this state store is not installed",
            hint="pip install 'warehouse-sync[postgres]' and write postgresql+psycopg://…",
        ) from None
    if sqlite:
        _listen_sqlite(engine, read_only=read_only)
    else:
        _listen_postgresql(engine, read_only=read_only)
    return engine


def _listen_sqlite(engine: Engine, *, read_only: bool) -> None:
    pragmas = ["query_only=ON"] if read_only else ["journal_mode=WAL", "synchronous=FULL"]

    def connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions on its own: it would begin them deferred.
        connection.isolation_level = None
        for pragma in (*pragmas, "foreign_keys=ON"):
            _set(connection, pragma)

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Set a pragma, when the file is free: SQLite waits for every other lock by itself, but not to switch to WAL."""
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}").close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
        time.sleep(0.01)


def _listen_postgresql(engine: Engine, *, read_only: bool) -> None:
    def connected(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path TO {SCHEMA}")
            cursor.execute(f"SET idle_in_transaction_session_timeout TO '{IDLE_SECONDS}s'")
            if read_only:
                cursor.execute("SET default_transaction_read_only TO on")
        connection.commit()

    event.listen(engine, "connect", connected)


def _up_to_date(database: Database, *, read_only: bool) -> bool:
    """Bring the store to this program's layout; False for a missing one that may not be made."""
    engine = database.engine if read_only else database.engine.execution_options(writes=True)
    with engine.begin() as connection:
        found = _revision(connection, database.where)
        if found is not None and not read_only:
            # Changes nothing, and fails where nothing may be changed.
            connection.execute(text(f"DELETE FROM {VERSION_TABLE} WHERE 1 = 0"))
    if found == REVISION:
        return True
    if read_only and found is None:
        return False
    if read_only:
        raise StateError(f"{database.where}: the state store has an older layout", hint="Any run brings it up to date.")
    with engine.begin() as connection:
        _migrate(connection, database.where)
    return True


def _revision(connection: Connection, where: str) -> str | None:
    """The layout's number, None for an empty database."""
    names = set(inspect(connection).get_table_names())
    if VERSION_TABLE not in names:
        if names:
            raise StateError(
                f"{where}: this database holds other tables, not a warehouse-sync state store",
                hint="Point state.url at a database of its own.",
            )
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if found is not None and found > REVISION:
        raise StateError(
            f"{where}: written by a newer warehouse-sync (layout {found}, this program knows {REVISION})",
            hint="Upgrade warehouse-sync on this machine: pip install -U warehouse-sync",
        )
    return found


def _migrate(connection: Connection, where: str) -> None:
    """Run the missing migrations in the caller's transaction: all of them or none."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        if not connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}):
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    found = _revision(connection, where)
    if found == REVISION:
        return  # another process was faster
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "warehouse_sync.state:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise StateError(f"{where}: layout {found} is not one that this program knows", hint=CHANGED_BY_HAND) from None
